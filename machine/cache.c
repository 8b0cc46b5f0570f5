/* SPDX-License-Identifier: MIT */
/*
 * The entry cache: payloads of the newest entries, which the leader sends to its followers and
 * every member applies from. The core decides what it holds (ready.cache_first). Payloads lie in
 * slabs that are filled in log order and given back from the front, so the steady path allocates
 * nothing.
 */
#include "runtime.h"

#include <string.h>

#define SLAB_BYTES (256u << 10)
/* slabs kept for reuse; more are freed */
#define SPARE_SLABS 4u

struct ls__slab {
    struct ls__slab *next;
    size_t capacity, used;
    size_t live; /* entries that still point here */
    uint8_t bytes[];
};

enum ls_status ls__block_grow(const struct ls_env *env, void *block_pointer, size_t *capacity,
                              size_t need, size_t item)
{
    if (need <= *capacity) {
        return LS_OK;
    }
    size_t larger = *capacity == 0 ? 16 : *capacity;
    while (larger < need) {
        larger *= 2;
    }
    void *block = NULL;
    (void)memcpy(&block, block_pointer, sizeof block);
    block = ls__allocate(env, block, larger * item);
    if (block == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    (void)memcpy(block_pointer, &block, sizeof block);
    *capacity = larger;
    return LS_OK;
}

void ls__cache_open(struct ls__cache *cache, const struct ls_env *env, ls_index first)
{
    (void)memset(cache, 0, sizeof *cache);
    cache->env = env;
    cache->first = first;
}

static void slabs_free(struct ls__cache *cache, struct ls__slab *slab)
{
    while (slab != NULL) {
        struct ls__slab *next = slab->next;
        (void)ls__allocate(cache->env, slab, 0);
        slab = next;
    }
}

void ls__cache_close(struct ls__cache *cache)
{
    if (cache->env == NULL) {
        return;
    }
    slabs_free(cache, cache->oldest);
    slabs_free(cache, cache->spare);
    if (cache->ring != NULL) {
        (void)ls__allocate(cache->env, cache->ring, 0);
    }
    (void)memset(cache, 0, sizeof *cache);
}

static struct ls__cached *ring_at(const struct ls__cache *cache, size_t offset)
{
    LS_ASSERT(offset < cache->capacity);
    return &cache->ring[(cache->head + offset) & (cache->capacity - 1)];
}

static enum ls_status ring_reserve(struct ls__cache *cache, size_t count)
{
    size_t capacity = cache->capacity == 0 ? 256 : cache->capacity;
    while (capacity < cache->count + count) {
        capacity *= 2;
    }
    if (capacity == cache->capacity) {
        return LS_OK;
    }
    struct ls__cached *ring = ls__allocate(cache->env, NULL, capacity * sizeof *ring);
    if (ring == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < cache->count; i++) {
        ring[i] = *ring_at(cache, i);
    }
    if (cache->ring != NULL) {
        (void)ls__allocate(cache->env, cache->ring, 0);
    }
    cache->ring = ring;
    cache->capacity = capacity;
    cache->head = 0;
    return LS_OK;
}

/* A slab with room for `bytes` becomes the newest; what is left of the one before stays unused. */
static enum ls_status slab_reserve(struct ls__cache *cache, size_t bytes)
{
    struct ls__slab *newest = cache->newest;
    if (newest != NULL && newest->capacity - newest->used >= bytes) {
        return LS_OK;
    }
    struct ls__slab *slab = cache->spare;
    if (slab != NULL && slab->capacity >= bytes) {
        cache->spare = slab->next;
    } else {
        size_t capacity = bytes > SLAB_BYTES ? bytes : SLAB_BYTES;
        slab = ls__allocate(cache->env, NULL, sizeof *slab + capacity);
        if (slab == NULL) {
            return LS_ERR_NO_MEMORY;
        }
        slab->capacity = capacity;
    }
    slab->next = NULL;
    slab->used = 0;
    slab->live = 0;
    if (newest == NULL) {
        cache->oldest = slab;
    } else {
        newest->next = slab;
    }
    cache->newest = slab;
    return LS_OK;
}

enum ls_status ls__cache_reserve(struct ls__cache *cache, size_t count, size_t bytes)
{
    enum ls_status status = ring_reserve(cache, count);
    return status != LS_OK ? status : slab_reserve(cache, bytes);
}

/* Gives back slabs from the front that nothing points to; the newest stays to be filled. */
static void slabs_release(struct ls__cache *cache)
{
    size_t spare = 0;
    for (struct ls__slab *slab = cache->spare; slab != NULL; slab = slab->next) {
        spare++;
    }
    while (cache->oldest != NULL && cache->oldest != cache->newest && cache->oldest->live == 0) {
        struct ls__slab *slab = cache->oldest;
        cache->oldest = slab->next;
        if (slab->capacity == SLAB_BYTES && spare < SPARE_SLABS) {
            slab->next = cache->spare;
            cache->spare = slab;
            spare++;
        } else {
            (void)ls__allocate(cache->env, slab, 0);
        }
    }
    if (cache->newest != NULL && cache->newest->live == 0) {
        cache->newest->used = 0;
    }
}

void ls__cache_append(struct ls__cache *cache, ls_index index, const struct ls_entry *entry)
{
    if (index != cache->first + cache->count) {
        ls__cache_drop(cache, cache->first + cache->count);
        cache->first = index;
    }
    struct ls__slab *slab = cache->newest;
    LS_ASSERT(slab != NULL && slab->capacity - slab->used >= entry->data.bytes);
    LS_ASSERT(cache->count < cache->capacity);
    uint8_t *copy = slab->bytes + slab->used;
    if (entry->data.bytes > 0) {
        (void)memcpy(copy, entry->data.data, entry->data.bytes);
    }
    slab->used += entry->data.bytes;
    slab->live++;
    cache->count++;
    *ring_at(cache, cache->count - 1) = (struct ls__cached){
        .entry = {.term = entry->term, .kind = entry->kind, .data = {copy, entry->data.bytes}},
        .slab = slab};
}

void ls__cache_truncate(struct ls__cache *cache, ls_index from)
{
    while (cache->count > 0 && cache->first + cache->count > from) {
        ring_at(cache, cache->count - 1)->slab->live--;
        cache->count--;
    }
    if (cache->count == 0 && from < cache->first) {
        cache->first = from;
    }
    slabs_release(cache);
}

void ls__cache_drop(struct ls__cache *cache, ls_index below)
{
    if (cache->count == 0 || below <= cache->first) {
        return;
    }
    while (cache->count > 0 && cache->first < below) {
        ring_at(cache, 0)->slab->live--;
        cache->head = (cache->head + 1) & (cache->capacity - 1);
        cache->first++;
        cache->count--;
    }
    slabs_release(cache);
}

const struct ls_entry *ls__cache_at(const struct ls__cache *cache, ls_index index)
{
    if (index < cache->first || index - cache->first >= cache->count) {
        return NULL;
    }
    return &ring_at(cache, (size_t)(index - cache->first))->entry;
}
