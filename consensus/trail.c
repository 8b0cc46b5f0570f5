/* SPDX-License-Identifier: MIT */
/*
 * The trail: which term each entry of the log has, as runs of equal terms. The core needs no more
 * of an entry once it is handed to storage, so it never reads storage after open.
 */
#include "core_state.h"

void *ls__grow(const struct ls_env *env, void *array, size_t *capacity, size_t needed,
               size_t item_bytes)
{
    if (needed <= *capacity) {
        LS_ASSERT(array != NULL || needed == 0);
        return array;
    }
    size_t first = item_bytes > 1024 ? 1 : 8; /* configurations are large and few */
    size_t grown = *capacity == 0 ? first : *capacity;
    while (grown < needed) {
        grown *= 2;
    }
    void *moved = env->allocate(env->self, array, grown * item_bytes);
    if (moved != NULL) {
        *capacity = grown;
    }
    return moved;
}

bool ls__trail_reserve(struct ls__trail *trail, const struct ls_env *env, size_t more)
{
    size_t needed = trail->count + more;
    struct ls_cursor *runs =
        ls__grow(env, trail->runs, &trail->capacity, needed == 0 ? 1 : needed, sizeof *runs);
    if (runs == NULL) {
        return false;
    }
    trail->runs = runs;
    return true;
}

/* The number of runs that begin at or below `index`. */
static size_t runs_upto(const struct ls__trail *trail, ls_index index)
{
    size_t low = 0;
    size_t high = trail->count;
    if (high > 0 && trail->runs[high - 1].index <= index) {
        return high; /* nearly every question is about the newest term */
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (trail->runs[middle].index <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

ls_term ls__trail_term(const struct ls__trail *trail, ls_index index)
{
    if (index < trail->anchor.index || index > trail->last) {
        return 0;
    }
    if (index == trail->anchor.index) {
        return trail->anchor.term;
    }
    size_t runs = runs_upto(trail, index);
    LS_ASSERT(runs > 0);
    return trail->runs[runs - 1].term;
}

struct ls_cursor ls__trail_last(const struct ls__trail *trail)
{
    return (struct ls_cursor){ls__trail_term(trail, trail->last), trail->last};
}

void ls__trail_append(struct ls__trail *trail, ls_term term)
{
    ls_term before = ls__trail_term(trail, trail->last);
    LS_ASSERT(term >= before && term > 0);
    trail->last++;
    if (trail->count == 0 || term != before) {
        LS_ASSERT(trail->count < trail->capacity);
        trail->runs[trail->count++] = (struct ls_cursor){term, trail->last};
    }
}

void ls__trail_truncate(struct ls__trail *trail, ls_index from)
{
    LS_ASSERT(from > trail->anchor.index);
    if (from > trail->last) {
        return;
    }
    trail->last = from - 1;
    trail->count = runs_upto(trail, trail->last);
}

void ls__trail_prune(struct ls__trail *trail, ls_index upto)
{
    LS_ASSERT(upto <= trail->last);
    if (upto <= trail->anchor.index) {
        return;
    }
    size_t runs = runs_upto(trail, upto);
    LS_ASSERT(runs > 0);
    ls_term term = trail->runs[runs - 1].term;
    bool whole = runs == trail->count ? upto == trail->last : trail->runs[runs].index == upto + 1;
    size_t gone = whole ? runs : runs - 1;
    memmove(trail->runs, trail->runs + gone, (trail->count - gone) * sizeof *trail->runs);
    trail->count -= gone;
    if (!whole) {
        trail->runs[0].index = upto + 1;
    }
    trail->anchor = (struct ls_cursor){term, upto};
}

void ls__trail_reset(struct ls__trail *trail, struct ls_cursor anchor)
{
    trail->anchor = anchor;
    trail->last = anchor.index;
    trail->count = 0;
}

struct ls_cursor ls__trail_floor(const struct ls__trail *trail, struct ls_cursor at)
{
    ls_index index = at.index < trail->last ? at.index : trail->last;
    if (index < trail->anchor.index) {
        return (struct ls_cursor){0, 0};
    }
    size_t low = 0;
    size_t high = runs_upto(trail, index);
    size_t within = high;
    while (low < high) { /* the number of those runs whose term is not above */
        size_t middle = low + (high - low) / 2;
        if (trail->runs[middle].term <= at.term) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return trail->anchor.term <= at.term ? trail->anchor : (struct ls_cursor){0, 0};
    }
    ls_index end = low < within ? trail->runs[low].index - 1 : index;
    return (struct ls_cursor){trail->runs[low - 1].term, end};
}
