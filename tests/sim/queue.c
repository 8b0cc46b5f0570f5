/* SPDX-License-Identifier: MIT */
/* Randomness and the event queue: a binary heap ordered by (time, sequence). */
#include "world.h"

#include <stdlib.h>

uint64_t sim_random_next(struct sim_random *random)
{
    random->state += 0x9e3779b97f4a7c15u;
    uint64_t z = random->state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_random_in(struct sim_random *random, uint64_t low, uint64_t high)
{
    LS_ASSERT(low <= high);
    return low + sim_random_next(random) % (high - low + 1);
}

bool sim_random_percent(struct sim_random *random, uint32_t percent)
{
    return sim_random_in(random, 0, 99) < percent;
}

static uint64_t digested(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9fb21c651e98df25u;
    return hash ^ (hash >> 32);
}

uint64_t sim_digest(uint64_t seed, const void *bytes, size_t count)
{
    const uint8_t *at = bytes;
    uint64_t hash = seed ^ count, other = 0, word[2]; /* two chains, neither of which waits */
    for (; count >= sizeof word; count -= sizeof word, at += sizeof word) {
        (void)memcpy(word, at, sizeof word);
        hash = digested(hash, word[0]);
        other = digested(other, word[1]);
    }
    hash = digested(hash, other);
    for (; count >= sizeof word[0]; count -= sizeof word[0], at += sizeof word[0]) {
        (void)memcpy(word, at, sizeof word[0]);
        hash = digested(hash, word[0]);
    }
    word[0] = 0;
    for (; count > 0; count--) {
        word[0] = word[0] << 8 | at[count - 1];
    }
    hash = digested(hash, word[0]);
    return hash ^ (hash >> 29);
}

void *sim_allocate(size_t bytes)
{
    void *block = calloc(1, bytes);
    LS_ASSERT(block != NULL);
    return block;
}

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->sequence < b->sequence;
}

static struct sim_event *soon_place(struct sim_queue *queue)
{
    if (queue->soon_count == queue->soon_capacity) {
        size_t more = queue->soon_capacity == 0 ? 64 : queue->soon_capacity * 2;
        struct sim_event *ring = malloc(more * sizeof *ring);
        LS_ASSERT(ring != NULL);
        for (size_t i = 0; i < queue->soon_count; i++) {
            ring[i] = queue->soon[(queue->soon_first + i) & (queue->soon_capacity - 1)];
        }
        free(queue->soon);
        queue->soon = ring;
        queue->soon_capacity = more;
        queue->soon_first = 0;
    }
    return &queue->soon[(queue->soon_first + queue->soon_count++) & (queue->soon_capacity - 1)];
}

static struct sim_event *heap_place(struct sim_queue *queue, uint64_t at_us)
{
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity == 0 ? 256 : queue->capacity * 2;
        queue->heap = realloc(queue->heap, queue->capacity * sizeof *queue->heap);
        LS_ASSERT(queue->heap != NULL);
    }
    size_t at = queue->count++;
    while (at > 0 && at_us < queue->heap[(at - 1) / 2].at) { /* at the same time: behind it */
        queue->heap[at] = queue->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    return &queue->heap[at];
}

void sim_queue_push(struct sim_queue *queue, uint64_t at_us, enum sim_event_kind kind, uint32_t a,
                    uint32_t b, uint64_t token)
{
    struct sim_event *place = at_us == queue->now_us ? soon_place(queue) : heap_place(queue, at_us);
    place->at = at_us;
    place->sequence = ++queue->sequence;
    place->kind = kind;
    place->a = a;
    place->b = b;
    place->token = token;
}

static void heap_pop(struct sim_queue *queue)
{
    struct sim_event moved = queue->heap[--queue->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= queue->count) {
            break;
        }
        if (child + 1 < queue->count && before(&queue->heap[child + 1], &queue->heap[child])) {
            child++;
        }
        if (!before(&queue->heap[child], &moved)) {
            break;
        }
        queue->heap[at] = queue->heap[child];
        at = child;
    }
    queue->heap[at] = moved;
}

uint64_t sim_queue_next(const struct sim_queue *queue)
{
    uint64_t next = queue->soon_count > 0 ? queue->now_us : UINT64_MAX;
    return queue->count > 0 && queue->heap[0].at < next ? queue->heap[0].at : next;
}

bool sim_queue_pop(struct sim_queue *queue, struct sim_event *out)
{
    if (queue->count > 0 && (queue->soon_count == 0 || queue->heap[0].at <= queue->now_us)) {
        *out = queue->heap[0];
        heap_pop(queue);
        LS_ASSERT(out->at >= queue->now_us);
        queue->now_us = out->at;
        return true;
    }
    if (queue->soon_count > 0) {
        *out = queue->soon[queue->soon_first];
        queue->soon_first = (queue->soon_first + 1) & (queue->soon_capacity - 1);
        queue->soon_count--;
        return true;
    }
    return false;
}

void sim_queue_free(struct sim_queue *queue)
{
    free(queue->heap);
    free(queue->soon);
    *queue = (struct sim_queue){0};
}
