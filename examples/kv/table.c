/* SPDX-License-Identifier: MIT */
/* The ordered hash table. Hashes have 63 bits (kv_key_hash). */
#include "table.h"

#include <stdlib.h>

enum {
    HASH_BITS = 63,
    BUCKET_BITS_MIN = 3,
    CHUNK_BYTES = 1 << 20,
    ARENA_ALIGN = 8,
    CACHE_LINE_BYTES = 64
};

#if defined(__GNUC__)
#define PREFETCH(at) __builtin_prefetch(at)
#else
#define PREFETCH(at) ((void)(at))
#endif

struct kv_chunk {
    struct kv_chunk *next;
    size_t capacity; /* larger than usual: for one item */
    char bytes[];
};

/* ---- memory of items ---- */

/* A chunk for at least `bytes`, in front of the others. False: out of memory. */
static bool chunk_add(struct kv_arena *arena, size_t bytes)
{
    struct kv_chunk *chunk = arena->spare;
    size_t capacity = CHUNK_BYTES - sizeof *chunk;
    if (chunk != NULL && bytes <= capacity) {
        arena->spare = chunk->next;
    } else {
        capacity = bytes > capacity ? bytes : capacity;
        chunk = malloc(sizeof *chunk + capacity);
        if (chunk == NULL) {
            return false;
        }
        chunk->capacity = capacity;
    }
    chunk->next = arena->used;
    arena->used = chunk;
    arena->taken = 0;
    arena->bytes += sizeof *chunk + capacity;
    return true;
}

static void *arena_take(struct kv_arena *arena, size_t bytes)
{
    bytes = (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    struct kv_chunk *first = arena->used;
    if (first != NULL && bytes <= first->capacity - arena->taken) {
        arena->taken += bytes;
        return first->bytes + (arena->taken - bytes);
    }
    size_t left = first == NULL ? 0 : first->capacity - arena->taken;
    if (!chunk_add(arena, bytes)) {
        return NULL;
    }
    struct kv_chunk *chunk = arena->used;
    if (first != NULL && left > chunk->capacity - bytes) {
        /* the one before has more room for others: it stays in front */
        chunk->next = first->next;
        first->next = chunk;
        arena->used = first;
        arena->taken = first->capacity - left;
    } else {
        arena->taken = bytes;
    }
    return chunk->bytes;
}

/* All items are gone: usual chunks are kept. */
static void arena_reset(struct kv_arena *arena)
{
    while (arena->used != NULL) {
        struct kv_chunk *chunk = arena->used;
        arena->used = chunk->next;
        if (chunk->capacity > CHUNK_BYTES) {
            free(chunk);
        } else {
            chunk->next = arena->spare;
            arena->spare = chunk;
        }
    }
    arena->taken = arena->bytes = 0;
}

static void arena_free(struct kv_arena *arena)
{
    arena_reset(arena);
    while (arena->spare != NULL) {
        struct kv_chunk *chunk = arena->spare;
        arena->spare = chunk->next;
        free(chunk);
    }
}

static void item_free(const struct kv_table *table, struct kv_item *item)
{
    if (!table->pooled) {
        free(item);
    }
}

/* ---- where items are ---- */

static size_t shard_of(const struct kv_table *table, uint64_t hash)
{
    return (size_t)(hash >> (HASH_BITS - table->shard_bits));
}

static size_t bucket_of(const struct kv_table *table, const struct kv_shard *shard, uint64_t hash)
{
    uint64_t mask = ((uint64_t)1 << shard->bits) - 1;
    return (size_t)((hash >> (HASH_BITS - table->shard_bits - shard->bits)) & mask);
}

int kv_key_order(uint64_t hash, struct ls_span key, uint64_t other_hash, struct ls_span other)
{
    if (hash != other_hash) {
        return hash < other_hash ? -1 : 1;
    }
    size_t common = key.bytes < other.bytes ? key.bytes : other.bytes;
    int order = common == 0 ? 0 : memcmp(key.data, other.data, common);
    if (order != 0) {
        return order;
    }
    return key.bytes == other.bytes ? 0 : (key.bytes < other.bytes ? -1 : 1);
}

static int item_compare(const struct kv_item *item, uint64_t hash, struct ls_span key)
{
    return item->hash != hash ? (item->hash < hash ? -1 : 1)
                              : kv_key_order(hash, kv_item_key(item), hash, key);
}

/* Where the item is linked, or where it would have to be. */
static struct kv_item **link_find(const struct kv_table *table, const struct kv_shard *shard,
                                  uint64_t hash, struct ls_span key)
{
    struct kv_item **link = &shard->buckets[bucket_of(table, shard, hash)];
    while (*link != NULL && item_compare(*link, hash, key) < 0) {
        link = &(*link)->next;
    }
    return link;
}

static bool link_matches(struct kv_item *const *link, uint64_t hash, struct ls_span key)
{
    return *link != NULL && item_compare(*link, hash, key) == 0;
}

enum ls_status kv_table_open(struct kv_table *table, unsigned shard_bits)
{
    *table = (struct kv_table){.shard_bits = shard_bits};
    table->shards = calloc((size_t)1 << shard_bits, sizeof *table->shards);
    return table->shards == NULL ? LS_ERR_NO_MEMORY : LS_OK;
}

enum ls_status kv_table_open_pooled(struct kv_table *table, unsigned shard_bits)
{
    enum ls_status status = kv_table_open(table, shard_bits);
    table->pooled = true;
    return status;
}

static size_t buckets_bytes(const struct kv_shard *shard)
{
    return shard->buckets == NULL ? 0 : sizeof(struct kv_item *) << shard->bits;
}

static void shard_free(struct kv_table *table, struct kv_shard *shard)
{
    if (shard->holders != NULL && *shard->holders > 1) {
        --*shard->holders;
        table->bucket_bytes -= buckets_bytes(shard);
        *shard = (struct kv_shard){0};
        return;
    }
    free(shard->holders);
    for (size_t i = 0; !table->pooled && shard->buckets != NULL && i < (size_t)1 << shard->bits;
         i++) {
        while (shard->buckets[i] != NULL) {
            struct kv_item *item = shard->buckets[i];
            shard->buckets[i] = item->next;
            free(item);
        }
    }
    table->bucket_bytes -= buckets_bytes(shard);
    free(shard->buckets);
    *shard = (struct kv_shard){0};
}

void kv_table_clear(struct kv_table *table)
{
    for (size_t i = 0; table->count > 0 && i < (size_t)1 << table->shard_bits; i++) {
        struct kv_shard *shard = &table->shards[i];
        if (!table->pooled) {
            shard_free(table, shard);
        } else if (shard->buckets != NULL) {
            (void)memset(shard->buckets, 0, buckets_bytes(shard));
            shard->count = 0;
        }
    }
    arena_reset(&table->arena);
    table->count = 0;
}

void kv_table_close(struct kv_table *table)
{
    /* also empty shards have buckets, when they once held items */
    for (size_t i = 0; table->shards != NULL && i < (size_t)1 << table->shard_bits; i++) {
        shard_free(table, &table->shards[i]);
    }
    free(table->shards);
    arena_free(&table->arena);
    *table = (struct kv_table){0};
}

struct kv_item *kv_table_find(const struct kv_table *table, uint64_t hash, struct ls_span key)
{
    const struct kv_shard *shard = &table->shards[shard_of(table, hash)];
    if (shard->buckets == NULL) {
        return NULL;
    }
    struct kv_item **link = link_find(table, shard, hash, key);
    return link_matches(link, hash, key) ? *link : NULL;
}

void kv_table_prefetch(const struct kv_table *table, uint64_t hash, bool near)
{
    const struct kv_shard *shard = &table->shards[shard_of(table, hash)];
    if (shard->buckets == NULL) {
        return;
    }
    struct kv_item *const *bucket = &shard->buckets[bucket_of(table, shard, hash)];
    if (!near) {
        PREFETCH(bucket);
    } else if (*bucket != NULL) {
        PREFETCH(*bucket);
        PREFETCH((const char *)*bucket + CACHE_LINE_BYTES);
        PREFETCH((const char *)*bucket + 2 * CACHE_LINE_BYTES);
    }
}

/* ---- shards of several tables ---- */

/* A copy of an item, or NULL. */
static struct kv_item *item_copy(const struct kv_item *item)
{
    size_t bytes = sizeof *item + item->key_bytes + item->capacity;
    struct kv_item *copy = malloc(bytes);
    if (copy != NULL) {
        (void)memcpy(copy, item, sizeof *item + item->key_bytes + item->value_bytes);
    }
    return copy;
}

/* Before a change: the shard becomes this table's alone. */
static enum ls_status shard_own(struct kv_table *table, struct kv_shard *shard)
{
    if (shard->holders == NULL) {
        return LS_OK;
    }
    if (*shard->holders == 1) {
        free(shard->holders);
        shard->holders = NULL;
        return LS_OK;
    }
    struct kv_shard own = {.bits = shard->bits, .count = shard->count};
    own.buckets = calloc((size_t)1 << own.bits, sizeof(struct kv_item *));
    bool whole = own.buckets != NULL;
    for (size_t i = 0; whole && i < (size_t)1 << own.bits; i++) {
        struct kv_item **tail = &own.buckets[i];
        for (const struct kv_item *item = shard->buckets[i]; whole && item != NULL;
             item = item->next) {
            *tail = item_copy(item);
            whole = *tail != NULL;
            if (whole) {
                (*tail)->next = NULL;
                tail = &(*tail)->next;
            }
        }
    }
    table->bucket_bytes += buckets_bytes(&own);
    shard_free(table, whole ? shard : &own);
    if (whole) {
        *shard = own;
    }
    return whole ? LS_OK : LS_ERR_NO_MEMORY;
}

enum ls_status kv_table_freeze(struct kv_table *table, struct kv_table *out)
{
    LS_ASSERT(!table->pooled);
    enum ls_status status = kv_table_open(out, table->shard_bits);
    for (size_t i = 0; status == LS_OK && i < (size_t)1 << table->shard_bits; i++) {
        struct kv_shard *shard = &table->shards[i];
        if (shard->count == 0) {
            continue;
        }
        if (shard->holders == NULL) {
            shard->holders = malloc(sizeof *shard->holders);
            if (shard->holders == NULL) {
                status = LS_ERR_NO_MEMORY;
                break;
            }
            *shard->holders = 1;
        }
        ++*shard->holders;
        out->shards[i] = *shard;
        out->bucket_bytes += buckets_bytes(shard);
    }
    out->count = table->count;
    if (status != LS_OK) {
        kv_table_close(out);
    }
    return status;
}

/* ---- changes ---- */

/* Doubles the buckets when chains get long; each old bucket splits into two neighbours. */
static enum ls_status shard_reserve(struct kv_table *table, struct kv_shard *shard)
{
    if (shard->buckets != NULL && shard->count < (size_t)1 << shard->bits) {
        return LS_OK;
    }
    struct kv_shard grown = {.bits = shard->buckets == NULL ? BUCKET_BITS_MIN : shard->bits + 1,
                             .count = shard->count};
    grown.buckets = calloc((size_t)1 << grown.bits, sizeof(struct kv_item *));
    if (grown.buckets == NULL) {
        return shard->buckets == NULL ? LS_ERR_NO_MEMORY : LS_OK; /* long chains work, too */
    }
    for (size_t i = 0; shard->buckets != NULL && i < (size_t)1 << shard->bits; i++) {
        struct kv_item **tails[2] = {&grown.buckets[2 * i], &grown.buckets[2 * i + 1]};
        for (struct kv_item *item = shard->buckets[i]; item != NULL;) {
            struct kv_item *next = item->next;
            size_t half = bucket_of(table, &grown, item->hash) & 1;
            item->next = NULL;
            *tails[half] = item;
            tails[half] = &item->next;
            item = next;
        }
    }
    table->bucket_bytes += buckets_bytes(&grown) - buckets_bytes(shard);
    free(shard->buckets);
    *shard = grown;
    return LS_OK;
}

/* A new item with room for a value. */
static struct kv_item *item_open(struct kv_table *table, uint64_t hash, struct ls_span key,
                                 size_t capacity)
{
    size_t bytes = sizeof(struct kv_item) + key.bytes + capacity;
    struct kv_item *item = table->pooled ? arena_take(&table->arena, bytes) : malloc(bytes);
    if (item != NULL) {
        *item = (struct kv_item){
            .hash = hash, .key_bytes = (uint32_t)key.bytes, .capacity = (uint32_t)capacity};
        if (key.bytes > 0) {
            (void)memcpy(item->bytes, key.data, key.bytes);
        }
    }
    return item;
}

/* In place when it fits; an item of its own must not waste more than half then. */
static bool item_fits(const struct kv_table *table, const struct kv_item *item, size_t bytes)
{
    return item->capacity >= bytes && (table->pooled || item->capacity / 2 <= bytes);
}

struct kv_item *kv_table_upsert(struct kv_table *table, uint64_t hash, struct ls_span key,
                                struct ls_span value, struct kv_before *before)
{
    struct kv_shard *shard = &table->shards[shard_of(table, hash)];
    if (shard_own(table, shard) != LS_OK || shard_reserve(table, shard) != LS_OK) {
        return NULL;
    }
    struct kv_item **link = link_find(table, shard, hash, key);
    bool known = link_matches(link, hash, key);
    struct kv_item *item = known ? *link : NULL;
    before->was = !known ? KV_WAS_NOTHING : (item->gone ? KV_WAS_GONE : KV_WAS_PRESENT);
    before->value_bytes = before->was == KV_WAS_PRESENT ? item->value_bytes : 0;
    if (!known || !item_fits(table, item, value.bytes)) {
        /* what grew once in an arena may grow again: with some room, it does so in place */
        size_t more = known && table->pooled ? value.bytes / 8 : 0;
        item = item_open(table, hash, key, value.bytes + more);
        if (item == NULL) {
            return NULL;
        }
    }
    if (value.bytes > 0) {
        (void)memmove(item->bytes + key.bytes, value.data, value.bytes);
    }
    item->value_bytes = (uint32_t)value.bytes;
    item->gone = false;
    if (!known) {
        item->next = *link;
        *link = item;
        shard->count++;
        table->count++;
    } else if (item != *link) {
        item->next = (*link)->next;
        item_free(table, *link);
        *link = item;
    }
    return item;
}

enum ls_status kv_table_put(struct kv_table *table, uint64_t hash, struct ls_span key,
                            struct ls_span value)
{
    struct kv_before before;
    return kv_table_upsert(table, hash, key, value, &before) == NULL ? LS_ERR_NO_MEMORY : LS_OK;
}

enum ls_status kv_table_bury(struct kv_table *table, uint64_t hash, struct ls_span key)
{
    struct kv_before before;
    struct kv_item *item = kv_table_upsert(table, hash, key, (struct ls_span){NULL, 0}, &before);
    if (item == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    item->gone = true;
    return LS_OK;
}

enum ls_status kv_table_remove(struct kv_table *table, uint64_t hash, struct ls_span key,
                               size_t *value_bytes)
{
    struct kv_shard *shard = &table->shards[shard_of(table, hash)];
    if (kv_table_find(table, hash, key) == NULL) {
        return LS_ERR_NOT_FOUND;
    }
    if (shard_own(table, shard) != LS_OK) {
        return LS_ERR_NO_MEMORY;
    }
    struct kv_item **link = link_find(table, shard, hash, key);
    struct kv_item *item = *link;
    LS_ASSERT(item != NULL);
    *value_bytes = item->value_bytes;
    *link = item->next;
    item_free(table, item);
    shard->count--;
    table->count--;
    return LS_OK;
}

/* The first item in or behind a bucket. */
static struct kv_item *first_from(const struct kv_table *table, size_t shard_at, size_t bucket)
{
    for (size_t s = shard_at; s < (size_t)1 << table->shard_bits; s++, bucket = 0) {
        const struct kv_shard *shard = &table->shards[s];
        for (size_t b = bucket; shard->buckets != NULL && b < (size_t)1 << shard->bits; b++) {
            if (shard->buckets[b] != NULL) {
                return shard->buckets[b];
            }
        }
    }
    return NULL;
}

struct kv_item *kv_table_seek(const struct kv_table *table, uint64_t hash)
{
    size_t s = shard_of(table, hash);
    const struct kv_shard *shard = &table->shards[s];
    size_t bucket = shard->buckets == NULL ? 0 : bucket_of(table, shard, hash);
    struct kv_item *item = first_from(table, s, bucket);
    while (item != NULL && item->hash < hash) {
        item = kv_table_next(table, item);
    }
    return item;
}

struct kv_item *kv_table_seek_key(const struct kv_table *table, uint64_t hash, struct ls_span key)
{
    struct kv_item *item = kv_table_seek(table, hash);
    while (item != NULL && item_compare(item, hash, key) < 0) {
        item = kv_table_next(table, item);
    }
    return item;
}

struct kv_item *kv_table_next(const struct kv_table *table, const struct kv_item *item)
{
    if (item->next != NULL) {
        return item->next;
    }
    size_t s = shard_of(table, item->hash);
    return first_from(table, s, bucket_of(table, &table->shards[s], item->hash) + 1);
}
