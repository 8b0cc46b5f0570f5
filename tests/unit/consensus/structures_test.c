/* SPDX-License-Identifier: MIT */
/* The rings and the quorum arithmetic by example; tests/model goes through every small case. */
#include "core_state.h"
#include "cores.h"

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
