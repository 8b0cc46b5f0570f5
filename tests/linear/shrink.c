/* SPDX-License-Identifier: MIT */
/*
 * Shrinking. Leaving out any operation could make a legal history illegal (a read whose write is
 * gone), and the window would prove nothing. So only what keeps legal histories legal is done:
 *
 * - cut the end: what was answered later has no answer yet, what was invoked later is not there;
 * - cut the beginning: what was answered earlier is not there, what was under way may have happened
 * or not, and the key may hold anything;
 * - leave out what only looked;
 * - leave out who wrote a value that nobody left has seen, if nobody left was refused because of
 *   the value that was there, or depends on there being one.
 */
#include "shrink.h"

#include <stdlib.h>
#include <string.h>

#include <lockstep/macros.h>

#include "search.h"

#define SHRINK_STEPS_MAX 20000000u /* the window is as small as it got by then */
#define SHRINK_OPS_MAX   5000u     /* above it no single ones are left out */
#define FROM_ANY_MAX     2000u     /* the longest window that begins with any value */

struct shrink {
    struct linear_op *ops; /* the smallest illegal history so far, by invocation */
    size_t count;
    struct linear_op *trial;
    size_t trial_count;
    bool from_any;
    uint64_t steps;
};

static int by_invocation(const void *a, const void *b)
{
    const struct linear_op *x = a, *y = b;
    if (x->invoked != y->invoked) {
        return x->invoked < y->invoked ? -1 : 1;
    }
    return (x->client > y->client) - (x->client < y->client);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* A value that none of the operations has to do with. */
static uint64_t value_strange(const struct linear_op *ops, size_t count)
{
    uint64_t value = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        if (ops[i].value == value || ops[i].expected == value) {
            value--;
            i = SIZE_MAX; /* from the beginning */
        }
    }
    return value;
}

static bool illegal(const struct linear_op *ops, size_t count, uint64_t initial, uint64_t *steps)
{
    return linear__search(ops, count, initial, steps) == LINEAR_ILLEGAL;
}

bool linear__illegal_from_any(const struct linear_op *ops, size_t count, uint64_t *steps)
{
    if (!illegal(ops, count, LINEAR_ABSENT, steps) ||
        !illegal(ops, count, value_strange(ops, count), steps)) {
        return false;
    }
    /* any other value makes a difference only if somebody saw it or compared with it */
    for (size_t i = 0; i < count; i++) {
        uint64_t value = ops[i].kind == LINEAR_CAS ? ops[i].expected : ops[i].value;
        if (ops[i].kind != LINEAR_WRITE && ops[i].kind != LINEAR_DELETE && value != LINEAR_ABSENT &&
            !illegal(ops, count, value, steps)) {
            return false;
        }
    }
    return true;
}

static bool trial_illegal(struct shrink *shrink)
{
    return shrink->from_any
               ? linear__illegal_from_any(shrink->trial, shrink->trial_count, &shrink->steps)
               : illegal(shrink->trial, shrink->trial_count, LINEAR_ABSENT, &shrink->steps);
}

static void trial_take(struct shrink *shrink)
{
    struct linear_op *ops = shrink->ops;
    shrink->ops = shrink->trial;
    shrink->count = shrink->trial_count;
    shrink->trial = ops;
}

/* An operation that has no answer (any more); what only looked is not needed then. */
static void trial_unanswered(struct shrink *shrink, const struct linear_op *op)
{
    if (linear__mutates(op)) {
        struct linear_op *added = &shrink->trial[shrink->trial_count++];
        *added = *op;
        added->outcome = LINEAR_UNKNOWN;
    }
}

/* What was known at `time`. */
static void trial_until(struct shrink *shrink, uint64_t time)
{
    shrink->trial_count = 0;
    for (size_t i = 0; i < shrink->count; i++) {
        const struct linear_op *op = &shrink->ops[i];
        if (op->invoked > time) {
            continue;
        }
        if (op->outcome == LINEAR_UNKNOWN || op->returned > time) {
            trial_unanswered(shrink, op);
        } else {
            shrink->trial[shrink->trial_count++] = *op;
        }
    }
}

/* What was not over at `time`. */
static void trial_from(struct shrink *shrink, uint64_t time)
{
    shrink->trial_count = 0;
    for (size_t i = 0; i < shrink->count; i++) {
        const struct linear_op *op = &shrink->ops[i];
        if (op->invoked >= time) {
            shrink->trial[shrink->trial_count++] = *op;
        } else if (op->outcome == LINEAR_UNKNOWN || op->returned >= time) {
            trial_unanswered(shrink, op);
        }
    }
}

/* The first answer with which it is illegal: the more answers, the fewer orders. */
static void end_cut(struct shrink *shrink)
{
    uint64_t *times = linear__grow(NULL, shrink->count, sizeof *times);
    size_t count = 0;
    for (size_t i = 0; i < shrink->count; i++) {
        if (shrink->ops[i].outcome != LINEAR_UNKNOWN) {
            times[count++] = shrink->ops[i].returned;
        }
    }
    LS_ASSERT(count > 0); /* without an answer everything is legal */
    qsort(times, count, sizeof *times, by_number);
    size_t low = 0, high = count - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        trial_until(shrink, times[middle]);
        if (trial_illegal(shrink)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    trial_until(shrink, times[low]);
    trial_take(shrink);
    free(times);
}

/* The last invocation from which it is illegal with whatever was before, if there is one. */
static void beginning_cut(struct shrink *shrink)
{
    size_t low = 0, high = shrink->count; /* illegal from ops[low], legal from ops[high] */
    size_t span = 2;
    bool found = false;
    shrink->from_any = true;
    while (!found && shrink->steps < SHRINK_STEPS_MAX) {
        span = span < shrink->count ? span : shrink->count;
        low = shrink->count - span;
        trial_from(shrink, shrink->ops[low].invoked);
        found = shrink->trial_count <= FROM_ANY_MAX && trial_illegal(shrink);
        if (!found) {
            high = low;
            if (span == shrink->count || span > FROM_ANY_MAX) {
                break;
            }
            span *= 2;
        }
    }
    if (!found) {
        shrink->from_any = false;
        return;
    }
    while (low + 1 < high) {
        size_t middle = low + (high - low) / 2;
        trial_from(shrink, shrink->ops[middle].invoked);
        if (trial_illegal(shrink)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    trial_from(shrink, shrink->ops[low].invoked);
    trial_take(shrink);
}

/* Whether nobody in the trial but `except` could tell that the write of `op` is not there. */
static bool unseen(const struct shrink *shrink, const struct linear_op *op, size_t except)
{
    uint64_t leaves = linear__leaves(op);
    for (size_t i = 0; i < shrink->trial_count; i++) {
        const struct linear_op *other = &shrink->trial[i];
        uint64_t seen = 0;
        bool refused = other->kind == LINEAR_CAS && other->outcome == LINEAR_NO;
        /* without a delete there is rather more than less to delete for others */
        bool there =
            other->kind == LINEAR_DELETE && other->outcome == LINEAR_OK && leaves != LINEAR_ABSENT;
        bool compares = other->kind == LINEAR_CAS && other->expected == leaves;
        if (i != except &&
            (refused || there || compares || (linear__observes(other, &seen) && seen == leaves))) {
            return false;
        }
    }
    return true;
}

static void trial_remove(struct shrink *shrink, size_t at)
{
    memmove(&shrink->trial[at], &shrink->trial[at + 1],
            (shrink->trial_count - at - 1) * sizeof *shrink->trial);
    shrink->trial_count--;
}

/* Tries without ops[from .. from + many); true if some could go. */
static bool leave_out(struct shrink *shrink, size_t from, size_t many)
{
    memcpy(shrink->trial, shrink->ops, shrink->count * sizeof *shrink->ops);
    shrink->trial_count = shrink->count;
    for (size_t at = from + many; at-- > from;) {
        if (!linear__mutates(&shrink->trial[at])) {
            trial_remove(shrink, at);
        }
    }
    size_t left = many - (shrink->count - shrink->trial_count);
    for (size_t at = from + left; at-- > from;) {
        if (unseen(shrink, &shrink->trial[at], at)) {
            trial_remove(shrink, at);
        }
    }
    if (shrink->trial_count == shrink->count || !trial_illegal(shrink)) {
        return false;
    }
    trial_take(shrink);
    return true;
}

static void leave_out_all(struct shrink *shrink)
{
    size_t many = (shrink->count + 1) / 2;
    while (shrink->count <= SHRINK_OPS_MAX && many > 0) {
        bool changed = false;
        for (size_t from = 0; from < shrink->count;) {
            size_t rest = shrink->count - from;
            if (shrink->steps > SHRINK_STEPS_MAX) {
                return;
            }
            size_t count = shrink->count;
            if (leave_out(shrink, from, many < rest ? many : rest)) {
                changed = true;
                from += many < rest ? many - (count - shrink->count) : rest;
            } else {
                from += many;
            }
        }
        if (many > 1 || !changed) {
            many /= 2;
        }
    }
}

static bool written(const struct shrink *shrink, uint64_t value)
{
    for (size_t i = 0; i < shrink->count; i++) {
        if (linear__mutates(&shrink->ops[i]) && linear__leaves(&shrink->ops[i]) == value) {
            return true;
        }
    }
    return false;
}

/* A value that came from nowhere needs no other operation to be wrong. */
static bool invented(struct shrink *shrink)
{
    for (size_t i = 0; i < shrink->count; i++) {
        uint64_t seen = LINEAR_ABSENT;
        if (linear__observes(&shrink->ops[i], &seen) && seen != LINEAR_ABSENT &&
            !written(shrink, seen)) {
            shrink->ops[0] = shrink->ops[i];
            shrink->count = 1;
            return true;
        }
    }
    return false;
}

void linear__shrink(const struct linear_op *ops, size_t count, struct linear_result *result)
{
    struct shrink shrink = {.ops = linear__grow(NULL, count, sizeof *ops),
                            .trial = linear__grow(NULL, count, sizeof *ops)};
    for (size_t i = 0; i < count; i++) {
        bool looked = ops[i].kind == LINEAR_READ && ops[i].outcome == LINEAR_UNKNOWN;
        if (ops[i].outcome != LINEAR_NEVER && !looked) {
            shrink.ops[shrink.count++] = ops[i];
        }
    }
    LS_ASSERT(shrink.count > 0);
    qsort(shrink.ops, shrink.count, sizeof *ops, by_invocation);
    end_cut(&shrink);
    if (!invented(&shrink)) {
        beginning_cut(&shrink);
        leave_out_all(&shrink);
    }
    free(shrink.trial);
    result->window = shrink.ops;
    result->window_count = shrink.count;
    result->from_any = shrink.from_any;
}
