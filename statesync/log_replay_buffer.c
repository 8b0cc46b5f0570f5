/* SPDX-License-Identifier: MIT */
/*
 * The memory of a log replay session: arenas, each holding one range or one part of the leader's
 * run, so that an entry never costs an allocation of its own; and the run itself.
 */
#include "log_replay.h"

/* arenas kept for reuse, and the smallest one made */
#define SPARE_MAX         4u
#define ARENA_BYTES_MIN   16384u
#define RUN_ARENA_BYTES   65536u
#define SPARE_BYTES_MAX   (1u << 20)
#define SPARE_WASTE_TIMES 4u

size_t ls__arena_capacity(uint32_t count, size_t payload_bytes)
{
    return (size_t)count * sizeof(struct ls_entry) + payload_bytes;
}

static struct ls__arena *take_spare(struct ls__arenas *arenas, size_t capacity)
{
    for (struct ls__arena **at = &arenas->spare; *at != NULL; at = &(*at)->next) {
        struct ls__arena *arena = *at;
        if (arena->capacity >= capacity && arena->capacity <= SPARE_WASTE_TIMES * capacity) {
            *at = arena->next;
            arenas->spare_count--;
            return arena;
        }
    }
    return NULL;
}

struct ls__arena *ls__arena_take(struct ls__arenas *arenas, size_t capacity)
{
    if (capacity < ARENA_BYTES_MIN) {
        capacity = ARENA_BYTES_MIN;
    }
    struct ls__arena *arena = take_spare(arenas, capacity);
    if (arena == NULL) {
        arena = ls__allocate(arenas->env, sizeof *arena + capacity);
        if (arena == NULL) {
            return NULL;
        }
        arena->capacity = capacity;
    }
    size_t made = arena->capacity;
    memset(arena, 0, sizeof *arena);
    arena->capacity = made;
    arenas->bytes += arena->capacity;
    return arena;
}

void ls__arena_give(struct ls__arenas *arenas, struct ls__arena *arena)
{
    LS_ASSERT(arenas->bytes >= arena->capacity);
    arenas->bytes -= arena->capacity;
    if (arenas->spare_count < SPARE_MAX && arena->capacity <= SPARE_BYTES_MAX) {
        arena->next = arenas->spare;
        arenas->spare = arena;
        arenas->spare_count++;
    } else {
        ls__free(arenas->env, arena);
    }
}

void ls__arenas_free(struct ls__arenas *arenas)
{
    while (arenas->spare != NULL) {
        struct ls__arena *arena = arenas->spare;
        arenas->spare = arena->next;
        ls__free(arenas->env, arena);
    }
    arenas->spare_count = 0;
}

struct ls_entry *ls__arena_entries(struct ls__arena *arena)
{
    return (struct ls_entry *)(void *)arena->data;
}

bool ls__arena_fits(const struct ls__arena *arena, size_t payload_bytes)
{
    size_t used = ls__arena_capacity(arena->count, arena->payload_bytes);
    return arena->capacity - used >= sizeof(struct ls_entry) &&
           arena->capacity - used - sizeof(struct ls_entry) >= payload_bytes;
}

void ls__arena_put(struct ls__arena *arena, const struct ls_entry *entry)
{
    LS_ASSERT(ls__arena_fits(arena, entry->data.bytes));
    arena->payload_bytes += entry->data.bytes;
    uint8_t *at = arena->data + arena->capacity - arena->payload_bytes;
    if (entry->data.bytes > 0) {
        memcpy(at, entry->data.data, entry->data.bytes);
    }
    struct ls_entry *copy = &ls__arena_entries(arena)[arena->count++];
    *copy = *entry;
    copy->data.data = at;
}

/* ---- the run --------------------------------------------------------------------------------- */

void ls__run_clear(struct ls__run *run, struct ls__arenas *arenas)
{
    while (run->first_arena != NULL) {
        ls__arena_give(arenas, ls__run_pop(run));
    }
    bool dropped = run->dropped;
    *run = (struct ls__run){.dropped = dropped};
}

struct ls__arena *ls__run_pop(struct ls__run *run)
{
    struct ls__arena *arena = run->first_arena;
    LS_ASSERT(arena != NULL && arena->count > 0 && run->bytes >= arena->capacity);
    run->first_arena = arena->next;
    if (run->first_arena == NULL) {
        run->last_arena = NULL;
    }
    run->bytes -= arena->capacity;
    run->prev.index += arena->count;
    run->prev.term = ls__arena_entries(arena)[arena->count - 1].term;
    arena->next = NULL;
    return arena;
}

bool ls__run_continues(const struct ls__run *run, struct ls_cursor at)
{
    LS_ASSERT(at.index >= run->prev.index && at.index <= run->last.index);
    if (at.index == run->prev.index) {
        return at.term == run->prev.term;
    }
    ls_index before = run->prev.index;
    for (struct ls__arena *arena = run->first_arena; arena != NULL; arena = arena->next) {
        if (at.index <= before + arena->count) {
            return ls__arena_entries(arena)[at.index - before - 1].term == at.term;
        }
        before += arena->count;
    }
    return false;
}

/* Room for one more entry: in the last arena, or in a new one within the bound. */
static bool run_reserve(struct ls__run *run, struct ls__arenas *arenas, size_t bytes_max,
                        size_t payload_bytes)
{
    if (run->last_arena != NULL && ls__arena_fits(run->last_arena, payload_bytes)) {
        return true;
    }
    size_t capacity = ls__arena_capacity(1, payload_bytes);
    capacity = capacity > RUN_ARENA_BYTES ? capacity : RUN_ARENA_BYTES;
    if (capacity > bytes_max || run->bytes > bytes_max - capacity) {
        return false;
    }
    struct ls__arena *arena = ls__arena_take(arenas, capacity);
    if (arena == NULL) {
        return false;
    }
    if (run->last_arena == NULL) {
        run->first_arena = arena;
    } else {
        run->last_arena->next = arena;
    }
    run->last_arena = arena;
    run->bytes += arena->capacity;
    return true;
}

enum ls_buffer_verdict ls__run_add(struct ls__run *run, struct ls__arenas *arenas, size_t bytes_max,
                                   ls_term term, struct ls_cursor prev,
                                   const struct ls_entry *entries, uint32_t count)
{
    LS_ASSERT(count > 0);
    if (run->dropped) {
        return LS_BUFFER_DROPPED;
    }
    if (run->first_arena == NULL) {
        run->term = term;
        run->prev = run->last = prev;
    }
    LS_ASSERT(run->term == term);
    if (prev.index + count <= run->last.index) {
        /* sent again, or from before the run: the log before it is fetched anyway */
        return prev.index >= run->prev.index ? LS_BUFFER_DUPLICATE : LS_BUFFER_DROPPED;
    }
    prev = LS_MUTANT(Y8) && prev.index > run->last.index ? run->last : prev;
    if (prev.index > run->last.index) {
        run->dropped = true; /* something between was lost: no holes */
        return LS_BUFFER_DROPPED;
    }
    uint32_t skip = (uint32_t)(run->last.index - prev.index);
    for (uint32_t i = skip; i < count; i++) {
        if (!run_reserve(run, arenas, bytes_max, entries[i].data.bytes)) {
            run->dropped = true;
            return i == skip ? LS_BUFFER_DROPPED : LS_BUFFER_ADDED;
        }
        ls__arena_put(run->last_arena, &entries[i]);
        run->last.index++;
        run->last.term = entries[i].term;
    }
    return LS_BUFFER_ADDED;
}
