/* SPDX-License-Identifier: MIT */
/*
 * Two rings. The durable ring answers "what does persist batch n make durable", and keeps a batch
 * in flight from vouching for entries that were rewritten meanwhile (L11). The size ring knows the
 * payload sizes of the entries the driver caches, which is what a window in bytes needs.
 */
#include "core_state.h"

static struct ls__batch *batch_at(const struct ls__batches *batches, size_t at)
{
    return &batches->items[(batches->head + at) & (batches->capacity - 1)];
}

bool ls__batches_reserve(struct ls__batches *batches, const struct ls_env *env)
{
    if (batches->count < batches->capacity || batches->capacity >= LS_PERSIST_BATCHES_MAX) {
        return true;
    }
    size_t grown = batches->capacity == 0 ? 16 : batches->capacity * 2;
    struct ls__batch *items = env->allocate(env->self, batches->items, grown * sizeof *items);
    if (items == NULL) {
        return false;
    }
    /* the part that had wrapped around moves behind the old end */
    if (batches->head > 0) {
        memcpy(items + batches->capacity, items, batches->head * sizeof *items);
    }
    batches->items = items;
    batches->capacity = grown;
    return true;
}

void ls__batches_push(struct ls__batches *batches, uint64_t seq, ls_index last)
{
    LS_ASSERT(batches->capacity > 0);
    if (batches->count > 0) {
        struct ls__batch *newest = batch_at(batches, batches->count - 1);
        LS_ASSERT(newest->seq <= seq);
        if (newest->seq == seq || batches->count == batches->capacity) {
            *newest = (struct ls__batch){seq, last};
            return;
        }
    }
    batches->count++;
    *batch_at(batches, batches->count - 1) = (struct ls__batch){seq, last};
}

void ls__batches_clamp(struct ls__batches *batches, ls_index from)
{
    LS_ASSERT(from > 0);
    for (size_t i = 0; i < batches->count; i++) {
        struct ls__batch *batch = batch_at(batches, i);
        if (batch->last >= from && !LS_MUTANT(L11)) {
            batch->last = from - 1;
        }
    }
}

ls_index ls__batches_pop(struct ls__batches *batches, uint64_t seq, ls_index durable)
{
    while (batches->count > 0 && batch_at(batches, 0)->seq <= seq) {
        durable = batch_at(batches, 0)->last > durable ? batch_at(batches, 0)->last : durable;
        batches->head = (batches->head + 1) & (batches->capacity - 1);
        batches->count--;
    }
    return durable;
}

uint64_t ls__batches_covering(const struct ls__batches *batches, ls_index index)
{
    for (size_t i = batches->count; i > 0; i--) {
        if (batch_at(batches, i - 1)->last < index) {
            return i < batches->count ? batch_at(batches, i)->seq : 0;
        }
    }
    return batches->count > 0 ? batch_at(batches, 0)->seq : 0;
}

static uint64_t *end_at(const struct ls__ring *ring, ls_index index)
{
    return &ring->ends[index & (ring->capacity - 1)];
}

bool ls__ring_reserve(struct ls__ring *ring, const struct ls_env *env, size_t more)
{
    size_t needed = ring->count + more;
    needed = needed > LS_CACHE_ENTRIES_MAX ? LS_CACHE_ENTRIES_MAX : needed;
    if (needed <= ring->capacity) {
        return true;
    }
    size_t grown = ring->capacity == 0 ? 64 : ring->capacity;
    while (grown < needed) {
        grown *= 2;
    }
    uint64_t *ends = env->allocate(env->self, NULL, grown * sizeof *ends);
    if (ends == NULL) {
        return false;
    }
    for (size_t i = 0; i < ring->count; i++) {
        ends[(ring->first + i) & (grown - 1)] = *end_at(ring, ring->first + i);
    }
    if (ring->ends != NULL) {
        (void)env->allocate(env->self, ring->ends, 0);
    }
    ring->ends = ends;
    ring->capacity = grown;
    return true;
}

static uint64_t ring_end(const struct ls__ring *ring)
{
    return ring->count == 0 ? ring->base : *end_at(ring, ring->first + ring->count - 1);
}

void ls__ring_push(struct ls__ring *ring, uint64_t bytes)
{
    uint64_t end = ring_end(ring) + bytes;
    if (ring->count == LS_CACHE_ENTRIES_MAX) {
        ls__ring_drop(ring, ring->first + 1);
    }
    LS_ASSERT(ring->count < ring->capacity);
    ring->count++;
    *end_at(ring, ring->first + ring->count - 1) = end;
}

void ls__ring_truncate(struct ls__ring *ring, ls_index from)
{
    if (from <= ring->first) {
        ls__ring_reset(ring, from);
    } else if (from < ring->first + ring->count) {
        ring->count = (size_t)(from - ring->first);
    }
}

void ls__ring_drop(struct ls__ring *ring, ls_index below)
{
    if (below <= ring->first) {
        return;
    }
    LS_ASSERT(below <= ring->first + ring->count);
    ring->base = *end_at(ring, below - 1);
    ring->count -= (size_t)(below - ring->first);
    ring->first = below;
}

void ls__ring_reset(struct ls__ring *ring, ls_index first)
{
    ring->first = first;
    ring->count = 0;
    ring->base = 0;
}

uint64_t ls__ring_bytes(const struct ls__ring *ring, ls_index first, ls_index last)
{
    first = first < ring->first ? ring->first : first;
    if (last < first || ring->count == 0) {
        return 0;
    }
    LS_ASSERT(last < ring->first + ring->count);
    uint64_t before = first == ring->first ? ring->base : *end_at(ring, first - 1);
    return *end_at(ring, last) - before;
}

uint32_t ls__ring_batch(const struct ls__ring *ring, ls_index first, ls_index last)
{
    LS_ASSERT(first >= ring->first && last < ring->first + ring->count && first <= last);
    uint64_t most = last - first + 1;
    uint32_t high = most > LS_APPEND_ENTRIES_MAX ? LS_APPEND_ENTRIES_MAX : (uint32_t)most;
    uint32_t low = 1; /* one entry is always sent, however large */
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (ls__ring_bytes(ring, first, first + middle - 1) <= LS_APPEND_BYTES_MAX) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}
