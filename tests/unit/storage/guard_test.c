/* SPDX-License-Identifier: MIT */
/* The guard: two slots of which a torn write spoils one, and when it has to be synced. */
#include "guard.h"
#include "ledger.h"
#include "test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct ls_group_id id = {{4, 5, 6}};

static struct ls__guard guard_of(uint64_t sequence, ls_term term)
{
    return (struct ls__guard){.sequence = sequence,
                              .incarnation = {{9}},
                              .hard = {term, true, {{7}}},
                              .last = {{term, 100 + sequence}, 55}};
}

static enum ls_status decode(const uint8_t *image, size_t bytes, struct ls__guard *out, bool *torn)
{
    const char *reason = "";
    return ls__guard_decode((struct ls_span){image, bytes}, &id, out, torn, &reason);
}

static void put(uint8_t *image, const struct ls__guard *guard)
{
    uint8_t slot[LS__GUARD_SLOT_BYTES];
    size_t offset = ls__guard_encode(guard, &id, slot);
    (void)memcpy(image + offset, slot, sizeof slot);
}

TEST(guard, newer_slot_wins)
{
    uint8_t image[LS__GUARD_FILE_BYTES];
    struct ls__guard out;
    bool torn;
    struct ls__guard guard = guard_of(6, 2);
    ls__guard_image(&guard, &id, image);
    assert_ok(decode(image, sizeof image, &out, &torn));
    assert_false(torn);
    assert_int_equal(out.sequence, 6);
    for (uint64_t sequence = 7; sequence < 10; sequence++) {
        guard = guard_of(sequence, sequence);
        put(image, &guard);
        assert_ok(decode(image, sizeof image, &out, &torn));
        assert_int_equal(out.sequence, sequence);
        assert_int_equal(out.hard.term, sequence);
        assert_true(out.hard.voted);
        assert_int_equal(out.last.at.index, 100 + sequence);
        assert_int_equal(out.last.check, 55);
    }
}

TEST(guard, torn_slot_leaves_the_older_promise)
{
    uint8_t image[LS__GUARD_FILE_BYTES];
    struct ls__guard out;
    bool torn;
    struct ls__guard guard = guard_of(6, 2);
    ls__guard_image(&guard, &id, image);
    guard = guard_of(7, 3);
    uint8_t slot[LS__GUARD_SLOT_BYTES];
    size_t offset = ls__guard_encode(&guard, &id, slot);
    for (size_t written = 1; written < sizeof slot; written++) { /* wherever the write tears */
        uint8_t half[LS__GUARD_FILE_BYTES];
        (void)memcpy(half, image, sizeof half);
        (void)memcpy(half + offset, slot, written);
        assert_ok(decode(half, sizeof half, &out, &torn));
        assert_true(out.sequence == 6 || out.sequence == 5 || out.sequence == 7);
        assert_true(out.hard.term == 2 || (out.sequence == 7 && out.hard.term == 3));
    }
}

/* F7 */
TEST(guard, two_torn_slots_are_damage)
{
    uint8_t image[LS__GUARD_FILE_BYTES];
    struct ls__guard out;
    bool torn;
    struct ls__guard guard = guard_of(6, 2);
    ls__guard_image(&guard, &id, image);
    image[20] ^= 1;
    assert_ok(decode(image, sizeof image, &out, &torn));
    assert_true(torn);
    image[LS__GUARD_SLOT_OFFSET + 30] ^= 1;
    assert_int_equal(decode(image, sizeof image, &out, &torn), LS_ERR_CORRUPT);
    assert_int_equal(decode(image, 0, &out, &torn), LS_ERR_CORRUPT);
}

TEST(guard, of_another_group_is_damage)
{
    uint8_t image[LS__GUARD_FILE_BYTES];
    struct ls__guard out;
    bool torn;
    const struct ls_group_id other = {{4, 5, 7}};
    const char *reason = "";
    struct ls__guard guard = guard_of(6, 2);
    ls__guard_image(&guard, &id, image);
    assert_int_equal(
        ls__guard_decode((struct ls_span){image, sizeof image}, &other, &out, &torn, &reason),
        LS_ERR_CORRUPT);
}

TEST(guard, hard_state_behind_means_a_broken_promise)
{
    const struct ls_hard_state none = {5, false, {{0}}};
    const struct ls_hard_state a = {5, true, {{1}}};
    const struct ls_hard_state b = {5, true, {{2}}};
    const struct ls_hard_state later = {6, false, {{0}}};
    assert_false(ls__hard_behind(&a, &a));
    assert_false(ls__hard_behind(&a, &none));
    assert_true(ls__hard_behind(&none, &a));
    assert_true(ls__hard_behind(&b, &a));
    assert_true(ls__hard_behind(&a, &later));
    assert_false(ls__hard_behind(&later, &a));
}

TEST(guard, term_is_synced_at_once_and_the_cursor_later)
{
    struct ls__guard guard = guard_of(6, 2);
    bool dirty = false;
    struct ls__outcome outcome = {.seq = 1, .last = {{2, 200}, 77}};
    assert_false(ls__guard_before(&guard, &outcome));
    assert_false(ls__guard_after(&guard, &outcome, &dirty));
    assert_true(dirty);
    outcome = (struct ls__outcome){
        .seq = 2, .last = {{2, 200}, 77}, .hard_changed = true, .hard = {3, false, {{0}}}};
    assert_true(ls__guard_after(&guard, &outcome, &dirty));
    assert_false(dirty);
    assert_int_equal(guard.hard.term, 3);
    assert_int_equal(guard.sequence, 7);
}

TEST(guard, is_lowered_before_a_truncation_below_its_cursor)
{
    struct ls__guard guard = guard_of(6, 2);
    struct ls__outcome outcome = {
        .seq = 1, .last = {{3, 60}, 77}, .lowered = true, .lowest = {{1, 50}, 66}};
    assert_true(ls__guard_before(&guard, &outcome));
    assert_int_equal(guard.last.at.index, 50);
    assert_int_equal(guard.last.check, 66);
    guard = guard_of(6, 2);
    outcome.lowest = (struct ls__mark){{2, 150}, 66};
    assert_false(ls__guard_before(&guard, &outcome));
}

TEST(guard, unknown_tail_keeps_its_cursor_until_the_group_brought_it_back)
{
    struct ls__guard guard = guard_of(6, 2);
    guard.unknown = true;
    bool dirty = false;
    struct ls__outcome outcome = {
        .seq = 1, .last = {{2, 60}, 77}, .lowered = true, .lowest = {{1, 5}, 6}};
    assert_false(ls__guard_before(&guard, &outcome));
    assert_false(ls__guard_after(&guard, &outcome, &dirty));
    assert_true(guard.unknown);
    assert_int_equal(guard.last.at.index, 106);
    outcome.last.at.index = 110; /* there, but others may still count on more */
    assert_false(ls__guard_after(&guard, &outcome, &dirty));
    assert_true(guard.unknown);
    assert_int_equal(guard.last.at.index, 106);
    outcome.tail_known = true; /* told at once: it would doubt again after a crash */
    assert_true(ls__guard_after(&guard, &outcome, &dirty));
    assert_false(guard.unknown);
    assert_int_equal(guard.last.at.index, 110);
    assert_false(dirty);
}

TEST(guard, file_is_whole_or_missing_and_keeps_what_was_written)
{
    int directory = open(test_directory(), O_RDONLY | O_DIRECTORY);
    int file = -1;
    uint8_t image[LS__GUARD_FILE_BYTES];
    size_t bytes;
    struct ls__guard out;
    bool torn;
    assert_int_equal(ls__guard_file_open(directory, &id, &file, image, &bytes), LS_ERR_NOT_FOUND);
    struct ls__guard guard = guard_of(1, 2);
    assert_ok(ls__guard_file_create(directory, &id, &guard, &file));
    guard = guard_of(2, 3);
    assert_ok(ls__guard_file_write(file, &id, &guard));
    (void)close(file);
    assert_ok(ls__guard_file_open(directory, &id, &file, image, &bytes));
    assert_int_equal(bytes, LS__GUARD_FILE_BYTES);
    assert_ok(decode(image, bytes, &out, &torn));
    assert_int_equal(out.hard.term, 3);
    struct stat info;
    assert_int_equal(fstat(file, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    (void)close(file);
    (void)close(directory);
}
