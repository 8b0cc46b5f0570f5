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

void sim_queue_push(struct sim_queue *queue, const struct sim_event *event)
{
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity == 0 ? 256 : queue->capacity * 2;
        queue->heap = realloc(queue->heap, queue->capacity * sizeof *queue->heap);
        LS_ASSERT(queue->heap != NULL);
    }
    struct sim_event added = *event;
    added.sequence = ++queue->sequence;
    size_t at = queue->count++;
    while (at > 0 && before(&added, &queue->heap[(at - 1) / 2])) {
        queue->heap[at] = queue->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue->heap[at] = added;
}

bool sim_queue_pop(struct sim_queue *queue, struct sim_event *out)
{
    if (queue->count == 0) {
        return false;
    }
    *out = queue->heap[0];
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
    return true;
}

void sim_queue_free(struct sim_queue *queue)
{
    free(queue->heap);
    *queue = (struct sim_queue){0};
}
