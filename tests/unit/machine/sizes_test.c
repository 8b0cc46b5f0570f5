/* SPDX-License-Identifier: MIT */
/* About how many bytes which part of the log has, beside a table that knows each entry. */
#include "sizes.h"
#include "test.h"

#define ENTRIES_MAX 60000u

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % below;
}

static uint64_t sums[ENTRIES_MAX + 1]; /* of entries up to */

static void add(struct ls__sizes *sizes, uint64_t count, uint64_t each)
{
    for (uint64_t i = 0; i < count; i++) {
        ls_index at = sizes->last.index + 1 + i;
        sums[at] = sums[at - 1] + each + LS__SIZES_ENTRY_BYTES;
    }
    ls__sizes_add(sizes, count, count * each);
}

TEST(sizes, of_equal_entries_are_exact_wherever_the_log_begins_and_ends)
{
    struct ls__sizes sizes;
    ls__sizes_reset(&sizes, 0);
    sums[0] = 0;
    for (uint32_t i = 0; i < 50; i++) {
        add(&sizes, 1000, 68);
        ls__sizes_prune(&sizes, i * 900);
        for (uint32_t k = 0; k < 20; k++) {
            ls_index first = i * 900;
            ls_index upto = first + 1 + (sizes.last.index - first - 1) * k / 20;
            assert_int_equal(ls__sizes_between(&sizes, first, upto), (upto - first) * 100);
            assert_int_equal(ls__sizes_back(&sizes, upto, (upto - first) * 100 / 2),
                             upto - (upto - first) / 2);
        }
    }
    ls__sizes_truncate(&sizes, 45001);
    assert_int_equal(sizes.last.index, 45000);
    assert_int_equal(ls__sizes_between(&sizes, 44100, 45000), 90000);
}

/* Off by no more than what lies between two marks at each end. */
TEST(sizes, of_any_entries_are_about_right_after_any_history)
{
    static const uint64_t each[] = {0, 10, 100, 5000};
    struct ls__sizes sizes;
    seed = test_seed();
    ls__sizes_reset(&sizes, 0);
    sums[0] = 0;
    ls_index first = 0;
    while (sizes.last.index + 500 < ENTRIES_MAX) {
        add(&sizes, 1 + draw(300), each[draw(4)]);
        ls_index last = sizes.last.index;
        if (draw(20) == 0 && last > first + 10) {
            ls__sizes_truncate(&sizes, last - draw(10));
        }
        if (draw(20) == 0) {
            first += draw(last - first);
            ls__sizes_prune(&sizes, first);
        }
        last = sizes.last.index;
        uint64_t slack = 2 * (sizes.stride + 300) * (5000 + LS__SIZES_ENTRY_BYTES);
        ls_index after = first + draw(last - first + 1);
        ls_index upto = after + draw(last - after + 1);
        uint64_t exact = sums[upto] - sums[after];
        uint64_t about = ls__sizes_between(&sizes, after, upto);
        assert_in_range(about, exact > slack ? exact - slack : 0, exact + slack);
        uint64_t bytes = draw(exact + 1);
        ls_index back = ls__sizes_back(&sizes, upto, bytes);
        assert_true(back <= upto && ls__sizes_between(&sizes, back, upto) <= bytes);
        assert_true(back == 0 || ls__sizes_between(&sizes, back - 1, upto) >= bytes);
    }
    ls__sizes_reset(&sizes, 7);
    assert_int_equal(ls__sizes_back(&sizes, 7, 0), 0);
    assert_int_equal(ls__sizes_between(&sizes, 7, 7), 0);
}
