/* SPDX-License-Identifier: MIT */
/*
 * The term trail against an array of terms. Not sequences up to a length but the step itself: from
 * every state within the bound, every operation leads to the state the array says, in the one
 * form that state has. By induction so does every sequence of operations.
 */
#include <stdlib.h>

#include "core_state.h"
#include "test.h"

#define INDEX_MAX 10u
#define TERM_MAX  4u
#define RUNS_MAX  (INDEX_MAX + 2u)
/* ascending terms after {0, 0}, and after each other anchor */
#define STATES 3993u

/* terms[i] is of index i; only [anchor, last] means anything. */
struct plain {
    ls_term terms[INDEX_MAX + 2];
    ls_index anchor, last;
};

/* The one form of a state: a run for each entry whose term differs from the one before. */
static void make(struct ls__trail *trail, struct ls_cursor runs[RUNS_MAX],
                 const struct plain *plain)
{
    *trail = (struct ls__trail){.anchor = {plain->terms[plain->anchor], plain->anchor},
                                .last = plain->last,
                                .runs = runs,
                                .capacity = RUNS_MAX};
    for (ls_index i = plain->anchor + 1; i <= plain->last; i++) {
        if (i == plain->anchor + 1 || plain->terms[i] != plain->terms[i - 1]) {
            runs[trail->count++] = (struct ls_cursor){plain->terms[i], i};
        }
    }
}

static void equals(const struct ls__trail *trail, const struct plain *plain)
{
    struct ls__trail form;
    struct ls_cursor runs[RUNS_MAX];
    make(&form, runs, plain);
    assert_true(trail->anchor.index == form.anchor.index && trail->last == form.last);
    assert_true(trail->anchor.term == form.anchor.term && trail->count == form.count);
    for (size_t i = 0; i < form.count; i++) {
        assert_true(ls_cursor_compare(trail->runs[i], runs[i]) == 0);
    }
}

static void answers(const struct ls__trail *trail, const struct plain *plain)
{
    struct ls_cursor last = ls__trail_last(trail);
    assert_true(last.index == plain->last && last.term == plain->terms[plain->last]);
    for (ls_index index = 0; index <= INDEX_MAX + 1; index++) {
        bool inside = index >= plain->anchor && index <= plain->last;
        assert_true(ls__trail_term(trail, index) == (inside ? plain->terms[index] : 0));
        for (ls_term term = 0; term <= TERM_MAX + 1; term++) {
            struct ls_cursor expected = {0, 0};
            for (ls_index at = plain->anchor; at <= plain->last && at <= index; at++) {
                if (plain->terms[at] <= term) {
                    expected = (struct ls_cursor){plain->terms[at], at};
                }
            }
            struct ls_cursor floor = ls__trail_floor(trail, (struct ls_cursor){term, index});
            assert_true(floor.index == expected.index && floor.term == expected.term);
        }
    }
}

static uint64_t steps;

static void truncates(const struct plain *plain)
{
    for (ls_index from = plain->anchor + 1; from <= plain->last + 1; from++) {
        struct ls__trail trail;
        struct ls_cursor runs[RUNS_MAX];
        struct plain after = *plain;
        make(&trail, runs, plain);
        after.last = from - 1;
        ls__trail_truncate(&trail, from);
        equals(&trail, &after);
        steps++;
    }
}

static void prunes(const struct plain *plain)
{
    for (ls_index upto = 0; upto <= plain->last; upto++) {
        struct ls__trail trail;
        struct ls_cursor runs[RUNS_MAX];
        struct plain after = *plain;
        make(&trail, runs, plain);
        after.anchor = upto > plain->anchor ? upto : plain->anchor;
        ls__trail_prune(&trail, upto);
        equals(&trail, &after);
        steps++;
    }
}

static void appends(const struct plain *plain)
{
    ls_term before = plain->terms[plain->last];
    for (ls_term term = before == 0 ? 1 : before; term <= TERM_MAX + 1; term++) {
        struct ls__trail trail;
        struct ls_cursor runs[RUNS_MAX];
        struct plain after = *plain;
        make(&trail, runs, plain);
        after.terms[++after.last] = term;
        ls__trail_append(&trail, term);
        equals(&trail, &after);
        steps++;
    }
}

static void resets(const struct plain *plain)
{
    for (ls_index index = 1; index <= INDEX_MAX; index++) {
        struct ls__trail trail;
        struct ls_cursor runs[RUNS_MAX];
        struct plain after = {.anchor = index, .last = index};
        make(&trail, runs, plain);
        after.terms[index] = 3;
        ls__trail_reset(&trail, (struct ls_cursor){3, index});
        equals(&trail, &after);
        steps++;
    }
}

static void state(const struct plain *plain)
{
    struct ls__trail trail;
    struct ls_cursor runs[RUNS_MAX];
    make(&trail, runs, plain);
    answers(&trail, plain);
    appends(plain);
    truncates(plain);
    prunes(plain);
    resets(plain);
}

/* Every log that continues this one, up to the bound. */
static uint64_t states_from(struct plain *plain)
{
    uint64_t states = 1;
    state(plain);
    if (plain->last == INDEX_MAX) {
        return states;
    }
    ls_term before = plain->terms[plain->last];
    plain->last++;
    for (ls_term term = before == 0 ? 1 : before; term <= TERM_MAX; term++) {
        plain->terms[plain->last] = term;
        states += states_from(plain);
    }
    plain->last--;
    return states;
}

TEST(trail, from_every_state_every_operation_leads_where_an_array_leads)
{
    uint64_t states = 0;
    for (ls_index anchor = 0; anchor <= INDEX_MAX; anchor++) {
        for (ls_term term = anchor == 0 ? 0 : 1; term <= (anchor == 0 ? 0 : TERM_MAX); term++) {
            struct plain plain = {.anchor = anchor, .last = anchor};
            plain.terms[anchor] = term;
            states += states_from(&plain);
        }
    }
    assert_int_equal(states, STATES);
    assert_true(steps > 10 * states);
}

/* ---- room for runs ---- */

static uint64_t allocations, refuse_at;

static void *counted(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return ++allocations == refuse_at ? NULL : realloc(block, bytes);
}

TEST(trail, reserving_keeps_what_is_there_whatever_allocation_is_refused)
{
    const struct ls_env env = {.size = sizeof env, .allocate = counted};
    for (refuse_at = 0; refuse_at <= 5; refuse_at++) {
        struct ls__trail trail = {.last = 0};
        uint64_t refused = 0;
        ls_term term = 0;
        allocations = 0;
        while (term < 100) {
            if (!ls__trail_reserve(&trail, &env, 1)) {
                refused++;
                continue; /* asked again, memory is there */
            }
            ls__trail_append(&trail, ++term);
            for (ls_index index = 1; index <= trail.last; index++) {
                assert_true(ls__trail_term(&trail, index) == index);
            }
        }
        assert_int_equal(refused, refuse_at == 0 ? 0 : 1);
        free(trail.runs);
    }
}
