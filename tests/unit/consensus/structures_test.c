/* SPDX-License-Identifier: MIT */
/* The trail, the rings and the quorum arithmetic against deliberately dumb twins. */
#include "core_state.h"
#include "cores.h"

/* ---- trail: every small log, every operation, against an array of terms ---- */

struct plain {
    ls_term terms[16]; /* terms[i]: of index i; index 0 is {0, 0} */
    ls_index anchor, last;
};

static void trail_equals(const struct ls__trail *trail, const struct plain *plain)
{
    assert_int_equal(trail->anchor.index, plain->anchor);
    assert_int_equal(trail->last, plain->last);
    for (ls_index i = 0; i < 16; i++) {
        bool inside = i >= plain->anchor && i <= plain->last;
        assert_int_equal(ls__trail_term(trail, i), inside ? plain->terms[i] : 0);
    }
    for (ls_index i = 0; i < 10; i++) {
        for (ls_term term = 0; term < 6; term++) {
            struct ls_cursor expected = {0, 0};
            for (ls_index at = plain->anchor; at <= plain->last && at <= i; at++) {
                if (plain->terms[at] <= term) {
                    expected = (struct ls_cursor){plain->terms[at], at};
                }
            }
            struct ls_cursor floor = ls__trail_floor(trail, (struct ls_cursor){term, i});
            assert_int_equal(floor.index, expected.index);
            assert_int_equal(floor.term, expected.term);
        }
    }
}

/* Log number `shape` of `length` entries: digit i (0 or 1) raises the term before entry i. */
static void trail_make(struct ls__trail *trail, struct plain *plain, unsigned length,
                       unsigned shape)
{
    memset(trail, 0, sizeof *trail);
    memset(plain, 0, sizeof *plain);
    assert_true(ls__trail_reserve(trail, &test_env, length + 1));
    ls_term term = 1;
    for (unsigned i = 0; i < length; i++) {
        term += (shape >> i) & 1u;
        ls__trail_append(trail, term);
        plain->terms[++plain->last] = term;
    }
}

TEST(trail, append_truncate_prune_and_floor_agree_with_an_array_for_every_small_log)
{
    unsigned checked = 0;
    for (unsigned length = 0; length <= 6; length++) {
        for (unsigned shape = 0; shape < (1u << length); shape++) {
            for (ls_index prune = 0; prune <= length; prune++) {
                for (ls_index from = prune + 1; from <= length + 1; from++) {
                    struct ls__trail trail;
                    struct plain plain;
                    trail_make(&trail, &plain, length, shape);
                    trail_equals(&trail, &plain);
                    ls__trail_prune(&trail, prune);
                    plain.anchor = prune;
                    trail_equals(&trail, &plain);
                    ls__trail_truncate(&trail, from);
                    plain.last = from - 1;
                    trail_equals(&trail, &plain);
                    ls__trail_append(&trail, 9);
                    plain.terms[++plain.last] = 9;
                    trail_equals(&trail, &plain);
                    free(trail.runs);
                    checked++;
                }
            }
        }
    }
    assert_true(checked > 1000);
}

TEST(trail, reset_leaves_an_empty_log_after_the_anchor)
{
    struct ls__trail trail;
    struct plain plain;
    trail_make(&trail, &plain, 5, 21);
    ls__trail_reset(&trail, (struct ls_cursor){7, 40});
    assert_int_equal(trail.last, 40);
    assert_int_equal(ls__trail_term(&trail, 40), 7);
    assert_int_equal(ls__trail_term(&trail, 5), 0);
    free(trail.runs);
}

/* ---- the durable ring ---- */

/* L11: a batch in flight never vouches for entries that were rewritten meanwhile. */
TEST(batches, L11_a_late_sync_does_not_vouch_for_rewritten_entries)
{
    struct ls__batches batches = {0};
    assert_true(ls__batches_reserve(&batches, &test_env));
    ls__batches_push(&batches, 1, 5);
    ls__batches_clamp(&batches, 3); /* entries 3 .. 5 are rewritten by batch 2 */
    ls__batches_push(&batches, 2, 5);
    assert_int_equal(ls__batches_pop(&batches, 1, 0), 2);
    assert_int_equal(ls__batches_pop(&batches, 2, 2), 5);
    free(batches.items);
}

TEST(batches, grows_keeps_order_and_names_the_batch_that_covers_an_index)
{
    struct ls__batches batches = {0};
    uint64_t seq = 0;
    uint64_t popped = 0;
    for (unsigned round = 0; round < 400; round++) {
        for (unsigned i = 0; i < 3; i++) {
            assert_true(ls__batches_reserve(&batches, &test_env));
            seq++;
            ls__batches_push(&batches, seq, seq * 10);
        }
        popped++;
        assert_int_equal(ls__batches_pop(&batches, popped, 0), popped * 10);
        assert_int_equal(ls__batches_covering(&batches, popped * 10 + 1), popped + 1);
        assert_int_equal(ls__batches_covering(&batches, seq * 10), seq);
        assert_int_equal(ls__batches_covering(&batches, seq * 10 + 1), 0);
    }
    free(batches.items);
}

TEST(batches, when_full_a_batch_joins_the_newest_and_is_durable_later_not_earlier)
{
    struct ls__batches batches = {0};
    for (uint64_t seq = 1; seq <= LS_PERSIST_BATCHES_MAX + 5; seq++) {
        assert_true(ls__batches_reserve(&batches, &test_env));
        ls__batches_push(&batches, seq, seq);
    }
    assert_int_equal(batches.count, LS_PERSIST_BATCHES_MAX);
    assert_int_equal(ls__batches_pop(&batches, LS_PERSIST_BATCHES_MAX + 4, 0),
                     LS_PERSIST_BATCHES_MAX - 1);
    assert_int_equal(ls__batches_pop(&batches, LS_PERSIST_BATCHES_MAX + 5, 0),
                     LS_PERSIST_BATCHES_MAX + 5);
    free(batches.items);
}

/* ---- the size ring ---- */

TEST(ring, sums_agree_with_an_array_through_pushes_drops_and_truncations)
{
    struct ls__ring ring = {0};
    static uint64_t sizes[70000];
    uint64_t random = test_seed() | 1;
    ls_index first = 1;
    ls_index last = 0;
    ls__ring_reset(&ring, 1);
    for (unsigned step = 0; step < 20000; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t what = random >> 60;
        if (what < 12 && last < 69999) {
            assert_true(ls__ring_reserve(&ring, &test_env, 1));
            sizes[++last] = (random >> 20) % 100;
            ls__ring_push(&ring, sizes[last]);
        } else if (what < 14 && last > first) {
            first += (random >> 20) % 5;
            first = first > last ? last : first;
            ls__ring_drop(&ring, first);
        } else if (last >= first) {
            ls_index back = (random >> 20) % 3;
            ls_index from = last - (back < last - first ? back : last - first);
            ls__ring_truncate(&ring, from);
            last = from - 1;
        }
        assert_int_equal(ring.first, first);
        assert_int_equal(ring.first + ring.count, last + 1);
        uint64_t sum = 0;
        for (ls_index i = last + 1; i > first && i + 40 > last; i--) {
            sum += sizes[i - 1];
            assert_int_equal(ls__ring_bytes(&ring, i - 1, last), sum);
        }
    }
    assert_true(last > 1000);
    free(ring.ends);
}

TEST(ring, a_batch_is_the_longest_that_fits_and_one_over_long_entry_goes_alone)
{
    struct ls__ring ring = {0};
    ls__ring_reset(&ring, 1);
    const uint64_t sizes[] = {LS_APPEND_BYTES_MAX / 2, LS_APPEND_BYTES_MAX / 2, 1,
                              LS_ENTRY_BYTES_MAX, 5};
    for (unsigned i = 0; i < 5; i++) {
        assert_true(ls__ring_reserve(&ring, &test_env, 1));
        ls__ring_push(&ring, sizes[i]);
    }
    assert_int_equal(ls__ring_batch(&ring, 1, 5), 2);
    assert_int_equal(ls__ring_batch(&ring, 3, 5), 1);
    assert_int_equal(ls__ring_batch(&ring, 4, 5), 1);
    assert_int_equal(ls__ring_batch(&ring, 5, 5), 1);
    assert_true(ls__ring_reserve(&ring, &test_env, 5000));
    for (unsigned i = 0; i < 5000; i++) {
        ls__ring_push(&ring, 0);
    }
    assert_int_equal(ls__ring_batch(&ring, 5, 5005), LS_APPEND_ENTRIES_MAX);
    free(ring.ends);
}

TEST(ring, at_its_limit_the_oldest_entry_goes)
{
    struct ls__ring ring = {0};
    ls__ring_reset(&ring, 1);
    assert_true(ls__ring_reserve(&ring, &test_env, LS_CACHE_ENTRIES_MAX + 10));
    for (unsigned i = 0; i < LS_CACHE_ENTRIES_MAX + 10; i++) {
        ls__ring_push(&ring, 1);
    }
    assert_int_equal(ring.count, LS_CACHE_ENTRIES_MAX);
    assert_int_equal(ring.first, 11);
    assert_int_equal(ring.capacity, LS_CACHE_ENTRIES_MAX);
    free(ring.ends);
}

/* ---- quorum ---- */

static bool dumb_in(const struct ls_configuration *configuration, uint32_t at, bool outgoing)
{
    const struct ls_member *member = &configuration->members[at];
    return outgoing ? member->outgoing_voter
                    : member->role == LS_MEMBER_VOTER || member->role == LS_MEMBER_WITNESS;
}

/* By definition: more of this half are in the mask than are not. */
static bool dumb_half(const struct ls_configuration *configuration, uint32_t mask, bool outgoing)
{
    int balance = 0;
    for (uint32_t i = 0; i < configuration->count; i++) {
        if (dumb_in(configuration, i, outgoing)) {
            balance += (mask & (1u << i)) != 0 ? 1 : -1;
        }
    }
    return balance > 0;
}

static bool dumb_has(const struct ls_configuration *configuration, uint32_t mask)
{
    return dumb_half(configuration, mask, false) &&
           (!configuration->joint || dumb_half(configuration, mask, true));
}

/* By definition: the largest value v such that those who reached v are a quorum. */
static uint64_t dumb_value(const struct ls_configuration *configuration, const uint64_t *values)
{
    uint64_t best = 0;
    for (uint64_t v = 1; v <= 4; v++) {
        uint32_t mask = 0;
        for (uint32_t i = 0; i < configuration->count; i++) {
            mask |= values[i] >= v ? 1u << i : 0;
        }
        best = dumb_has(configuration, mask) ? v : best;
    }
    return best;
}

/* P15, R13, C7: for every configuration of up to 4 members (voter, learner, observer, witness;
 * outgoing or not) every set of voters and many vectors of values. */
TEST(quorum, P15_agrees_with_the_dumb_twin_for_every_small_configuration)
{
    unsigned checked = 0;
    for (uint32_t count = 1; count <= 4; count++) {
        for (uint32_t shape = 0; shape < 1u << (3 * count); shape++) {
            struct ls_configuration configuration = test_configuration(1, count, false);
            for (uint32_t i = 0; i < count; i++) {
                uint32_t digit = (shape >> (3 * i)) & 7u;
                configuration.members[i].role = (enum ls_role_in_configuration)(1 + (digit & 3u));
                configuration.members[i].outgoing_voter = (digit & 4u) != 0;
                configuration.joint = configuration.joint || (digit & 4u) != 0;
            }
            if (ls_configuration_invalid(&configuration) != NULL) {
                continue;
            }
            for (uint32_t mask = 0; mask < 1u << count; mask++) {
                assert_int_equal(ls__quorum_has(&configuration, mask),
                                 dumb_has(&configuration, mask));
            }
            for (uint32_t vector = 0; vector < 1u << (2 * count); vector += 3) {
                uint64_t values[LS_MEMBERS_MAX] = {0};
                for (uint32_t i = 0; i < count; i++) {
                    values[i] = (vector >> (2 * i)) & 3u;
                }
                assert_int_equal(ls__quorum_value(&configuration, values),
                                 dumb_value(&configuration, values));
            }
            checked++;
        }
    }
    assert_true(checked > 1000);
}

TEST(quorum, R13_an_even_group_needs_more_than_half)
{
    struct ls_configuration configuration = test_configuration(4, 4, false);
    assert_false(ls__quorum_has(&configuration, 3));
    assert_true(ls__quorum_has(&configuration, 7));
    uint64_t values[LS_MEMBERS_MAX] = {9, 9, 1, 1};
    assert_int_equal(ls__quorum_value(&configuration, values), 1);
}

TEST(quorum, founding_needs_every_voter_and_no_observer)
{
    struct ls_configuration configuration = test_configuration(3, 4, false);
    assert_false(ls__quorum_has_all(&configuration, 3));
    assert_false(ls__quorum_has_all(&configuration, 11));
    assert_true(ls__quorum_has_all(&configuration, 7));
}
