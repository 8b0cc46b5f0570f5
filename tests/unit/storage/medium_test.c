/* SPDX-License-Identifier: MIT */
/* The faults of the memory store, and through them what open makes of damage and loss. */
#include "store.h"

#include <stdio.h>
#include <stdlib.h>

static void place_open(void *self, struct ls_storage *out)
{
    assert_ok(ls_storage_memory_open_on(self, out, NULL));
}

static struct ls_storage_medium *start_with(struct store *store, const struct ls_env *env)
{
    struct ls_storage_medium *medium;
    assert_ok(ls_storage_medium_open(env, &medium));
    const struct store_backend backend = {medium, place_open, NULL};
    store_open(store, &backend);
    return medium;
}

static struct ls_storage_medium *start(struct store *store)
{
    return start_with(store, NULL);
}

static void finish(struct store *store, struct ls_storage_medium *medium)
{
    store_close(store);
    ls_storage_medium_close(medium);
}

/* Closes the store, lets `damage` happen, and opens the group again. */
static enum ls_status reopen(struct store *store)
{
    struct store_backend backend = store->backend;
    store_close(store);
    store_open_bare(store, &backend);
    enum ls_status status = store_open_group(store);
    if (status != LS_OK) {
        store->group = NULL;
    }
    return status;
}

static void stage_term(struct store *store, ls_term term, uint8_t vote)
{
    struct ls_hard_state hard = {term, vote != 0, {{vote}}};
    struct ls_storage_batch batch = {.seq = ++store->seq, .hard_state = &hard};
    assert_ok(store->storage.stage(store->storage.self, store->group, &batch));
    store_settle(store);
}

static struct ls_group_id group_1(void)
{
    return store_group_id(1);
}

TEST(medium, held_commit_is_neither_reported_nor_readable)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    ls_storage_medium_hold(medium, true);
    for (ls_index i = 1; i <= 3; i++) {
        struct ls_storage_batch batch = store_batch(&store, i, 1, 1, 16);
        assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
        store.storage.commit(store.storage.self);
        store.storage.collect(store.storage.self);
    }
    assert_int_equal(store.log.durable, 0);
    assert_int_equal(ls_storage_medium_held(medium), 3);
    ls_storage_medium_release(medium, 2);
    store.storage.collect(store.storage.self);
    assert_int_equal(store.log.durable, 2);
    assert_int_equal(store_expect(&store, 1, 3, 1, 16), 2);
    ls_storage_medium_hold(medium, false);
    store.storage.collect(store.storage.self);
    assert_int_equal(store.log.durable, 3);
    finish(&store, medium);
}

TEST(medium, power_cut_loses_what_was_not_durable_and_nothing_else)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    store_append(&store, 1, 5, 1);
    ls_storage_medium_hold(medium, true);
    struct ls_storage_batch batch = store_batch(&store, 6, 5, 1, 16);
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store.storage.commit(store.storage.self);
    ls_storage_medium_power_cut(medium);
    store.storage.collect(store.storage.self);
    assert_int_equal(store.log.durable, 1);
    assert_int_equal(store.log.failed_calls, 0);
    assert_int_equal(ls_storage_medium_faults(medium), 1);
    batch = store_batch(&store, 11, 1, 1, 16);
    assert_int_equal(store.storage.stage(store.storage.self, store.group, &batch), LS_ERR_IO);
    ls_storage_medium_hold(medium, false);
    assert_ok(reopen(&store));
    assert_int_equal(store.state.last.index, 5);
    assert_false(store.state.tail_unknown);
    finish(&store, medium);
}

TEST(medium, tells_what_a_power_cut_would_leave)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    const struct ls_group_id id = store_group_id(1);
    struct ls_storage_medium_left left;
    struct ls_entry entry;
    const struct ls_group_id other = store_group_id(2);
    assert_false(ls_storage_medium_left(medium, &other, &left));
    store_append(&store, 1, 5, 1);
    ls_storage_medium_hold(medium, true);
    const struct ls_hard_state hard = {.term = 7, .voted = true, .vote = {{1}}};
    struct ls_storage_batch batch = store_batch(&store, 6, 2, 7, 16);
    batch.hard_state = &hard;
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store.storage.commit(store.storage.self);
    assert_true(ls_storage_medium_left(medium, &id, &left));
    assert_int_equal(left.last, 5);
    assert_int_equal(left.hard_state.term, 0);
    assert_false(ls_storage_medium_entry(medium, &id, 6, &entry));
    ls_storage_medium_release(medium, 1);
    assert_true(ls_storage_medium_left(medium, &id, &left));
    assert_int_equal(left.last, 7);
    assert_int_equal(left.hard_state.term, 7);
    assert_true(left.hard_state.voted);
    assert_true(ls_storage_medium_entry(medium, &id, 6, &entry));
    assert_int_equal(entry.term, 7);
    assert_true(ls_storage_medium_flip(medium, &id, LS_STORAGE_LOG, 6, 500));
    assert_false(ls_storage_medium_entry(medium, &id, 6, &entry));
    assert_true(ls_storage_medium_flip(medium, &id, LS_STORAGE_HARD, 0, 300));
    assert_true(ls_storage_medium_left(medium, &id, &left));
    assert_true(left.damaged);
    finish(&store, medium);
}

static void fails_and_stays_failed(enum ls_storage_fault fault, const char *text, ls_index after)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    ls_storage_medium_fail(medium, fault, 1);
    store_append(&store, 1, 2, 1);
    struct ls_storage_batch batch = store_batch(&store, 3, 2, 1, 16);
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store_settle(&store);
    assert_int_equal(store.log.failed_calls, 1);
    assert_int_equal(store.log.failed, 2);
    assert_int_equal(store.log.status, LS_ERR_IO);
    assert_non_null(strstr(store.log.text, text));
    batch = store_batch(&store, 5, 1, 1, 16);
    assert_int_equal(store.storage.stage(store.storage.self, store.group, &batch), LS_ERR_IO);
    assert_int_equal(store.storage.prune(store.storage.self, store.group, 1), LS_ERR_IO);
    store.storage.commit(store.storage.self);
    store.storage.collect(store.storage.self);
    assert_int_equal(store.log.failed_calls, 1);
    assert_int_equal(store_expect(&store, 1, 9, 1, 16), 2);
    assert_int_equal(ls_storage_medium_faults(medium), 1);
    ls_storage_medium_fail(medium, LS_STORAGE_FAULT_NONE, 0);
    assert_ok(reopen(&store));
    assert_int_equal(store.state.last.index, after);
    assert_false(store.state.tail_unknown);
    store_append(&store, after + 1, 1, 1);
    finish(&store, medium);
}

TEST(medium, failed_write_is_latched_until_reopened)
{
    fails_and_stays_failed(LS_STORAGE_FAULT_WRITE, "Input/output error", 2);
}

/* F1 */
TEST(medium, failed_sync_is_latched_and_may_have_happened)
{
    fails_and_stays_failed(LS_STORAGE_FAULT_SYNC, "Input/output error", 4);
}

/* F9 */
TEST(medium, full_is_latched_and_over_when_there_is_room)
{
    fails_and_stays_failed(LS_STORAGE_FAULT_FULL, "No space left on device", 2);
}

TEST(medium, full_stays_full_over_a_reopen)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    ls_storage_medium_fail(medium, LS_STORAGE_FAULT_FULL, 0);
    for (int i = 0; i < 2; i++) {
        struct ls_storage_batch batch = store_batch(&store, 1, 1, 1, 16);
        assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
        store_settle(&store);
        assert_int_equal(store.log.failed_calls, 1);
        assert_ok(reopen(&store));
        assert_int_equal(store.state.last.index, 0);
    }
    finish(&store, medium);
}

TEST(medium, open_on_a_failed_store_says_so)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    ls_storage_medium_fail(medium, LS_STORAGE_FAULT_WRITE, 0);
    struct ls_storage_batch batch = store_batch(&store, 1, 1, 1, 16);
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store_settle(&store);
    struct ls_group_id id = store_group_id(2);
    struct ls_storage_group *group;
    struct ls_storage_state found;
    assert_int_equal(
        store.storage.open_group(store.storage.self, &id, NULL, &group, &found, &store.error),
        LS_ERR_IO);
    finish(&store, medium);
}

TEST(medium, is_used_by_one_store)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    struct ls_storage second;
    assert_int_equal(ls_storage_memory_open_on(medium, &second, NULL), LS_ERR_LOCKED);
    finish(&store, medium);
}

/* open */

TEST(open_group, flipped_bit_anywhere_in_the_log_is_corrupt)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    struct ls_group_id id = group_1();
    store_append(&store, 1, 9, 1);
    for (size_t bit = 0; bit < (40 + 16) * 8; bit += 5) {
        ls_index index = 1 + bit % 9;
        assert_true(ls_storage_medium_flip(medium, &id, LS_STORAGE_LOG, index, bit));
        assert_int_equal(reopen(&store), LS_ERR_CORRUPT);
        char expected[64];
        (void)snprintf(expected, sizeof expected, "log of group 01010101: record of index %d",
                       (int)index);
        assert_non_null(strstr(store.error.text, expected));
        assert_true(ls_storage_medium_flip(medium, &id, LS_STORAGE_LOG, index, bit));
    }
    assert_ok(reopen(&store));
    finish(&store, medium);
}

TEST(open_group, flipped_bit_in_hard_state_anchor_or_hint_is_corrupt)
{
    static const enum ls_storage_part parts[] = {LS_STORAGE_HARD, LS_STORAGE_ANCHOR,
                                                 LS_STORAGE_COMMIT};
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    struct ls_group_id id = group_1();
    struct ls_hard_state hard = {2, false, {{0}}};
    struct ls_storage_batch batch = store_batch(&store, 1, 9, 1, 16);
    batch.hard_state = &hard;
    batch.commit_hint = 3;
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store_settle(&store);
    assert_ok(store.storage.prune(store.storage.self, store.group, 2));
    for (size_t i = 0; i < 3; i++) {
        if (i == 0) {
            assert_ok(reopen(&store));
        }
        for (size_t bit = 0; bit < 192; bit += 7) {
            assert_true(ls_storage_medium_flip(medium, &id, parts[i], 0, bit));
            assert_int_equal(reopen(&store), LS_ERR_CORRUPT);
            assert_non_null(strstr(store.error.text, "of group 01010101"));
            assert_true(ls_storage_medium_flip(medium, &id, parts[i], 0, bit));
        }
    }
    assert_ok(reopen(&store));
    finish(&store, medium);
}

TEST(open_group, log_that_lost_its_end_is_an_unknown_tail)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    struct ls_group_id id = group_1();
    store_append(&store, 1, 9, 4);
    store_close(&store); /* the guard knows 4^9 */
    assert_true(ls_storage_medium_drop(medium, &id, LS_STORAGE_LOG, 7));
    store_open(&store, &store.backend);
    assert_true(store.state.tail_unknown);
    assert_int_equal(store.state.last.index, 6);
    assert_int_equal(store.state.guard_last.term, 4);
    assert_int_equal(store.state.guard_last.index, 9);
    assert_string_equal(store.state.tail_text,
                        "the log of group 01010101 ends at 4^6 but 4^9 was durable: it lost "
                        "acknowledged entries");
    finish(&store, medium);
}

TEST(open_group, unknown_tail_outlives_restarts_until_the_entries_are_back)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    struct ls_group_id id = group_1();
    store_append(&store, 1, 9, 4);
    store_close(&store);
    assert_true(ls_storage_medium_drop(medium, &id, LS_STORAGE_LOG, 7));
    store_open(&store, &store.backend);
    store_append(&store, 7, 1, 4);
    assert_ok(reopen(&store));
    assert_true(store.state.tail_unknown);
    assert_int_equal(store.state.guard_last.index, 9);
    store_append(&store, 8, 4, 4);
    assert_ok(reopen(&store));
    assert_true(store.state.tail_unknown); /* there, but others may still count on more */
    struct ls_storage_batch batch = store_batch(&store, 12, 1, 4, 16);
    batch.tail_known = true;
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store_settle(&store);
    assert_ok(reopen(&store));
    assert_false(store.state.tail_unknown);
    assert_int_equal(store.state.last.index, 12);
    finish(&store, medium);
}

/* From 11 on five entries of term 5 take the place of what was there. */
static void replace_tail(struct store *store)
{
    struct ls_storage_batch batch = store_batch(store, 11, 5, 5, 16);
    batch.truncate = true;
    batch.truncate_from = 11;
    assert_ok(store->storage.stage(store->storage.self, store->group, &batch));
    store_settle(store);
}

/* F16: the log reaches beyond the guard's cursor, but other entries were acknowledged there. */
TEST(open_group, old_backup_under_a_newer_guard_is_an_unknown_tail)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    struct ls_group_id id = group_1();
    assert_false(ls_storage_medium_keep(medium, &(struct ls_group_id){{9}}));
    stage_term(&store, 5, 0xaa);
    store_append(&store, 1, 20, 4);
    assert_true(ls_storage_medium_keep(medium, &id)); /* in term 5, with a tail of term 4 */
    replace_tail(&store);
    store_close(&store); /* the guard knows 5^15 */
    assert_true(ls_storage_medium_put_back(medium, &id));
    assert_false(ls_storage_medium_put_back(medium, &id));
    assert_int_equal(ls_storage_medium_faults(medium), 1);
    assert_true(ls_storage_medium_doubtful(medium, &id));
    store_open(&store, &store.backend);
    assert_true(store.state.tail_unknown);
    assert_int_equal(store.state.last.term, 4);
    assert_int_equal(store.state.last.index, 20);
    assert_int_equal(store.state.hard_state.term, 5);
    assert_int_equal(store.state.guard_last.index, 15);
    assert_string_equal(store.state.tail_text,
                        "the log of group 01010101 holds another record at index 15 than the "
                        "durable 5^15: it is an older copy");
    assert_int_equal(store_expect(&store, 1, 20, 4, 16), 20);
    replace_tail(&store);
    assert_ok(reopen(&store));
    assert_true(store.state.tail_unknown); /* all is there again, but nobody said so */
    assert_int_equal(store.state.last.index, 15);
    finish(&store, medium);
}

/* S2: the first record says what is missing before it. */
TEST(open_group, lost_anchor_is_corrupt_and_no_empty_log)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    struct ls_group_id id = group_1();
    store_append(&store, 1, 9, 1);
    assert_ok(store.storage.prune(store.storage.self, store.group, 4));
    store_settle(&store);
    store_close(&store);
    assert_true(ls_storage_medium_keep(medium, &id));
    assert_true(ls_storage_medium_drop(medium, &id, LS_STORAGE_ANCHOR, 0));
    store_open_bare(&store, &store.backend);
    assert_int_equal(store_open_group(&store), LS_ERR_CORRUPT);
    assert_string_equal(store.error.text, "memory store: log of group 01010101: index 5 follows 0");
    store.group = NULL;
    store_close(&store);
    assert_true(ls_storage_medium_put_back(medium, &id));
    store_open(&store, &store.backend);
    assert_false(store.state.tail_unknown);
    assert_int_equal(store.state.anchor.index, 4);
    assert_int_equal(store_expect(&store, 5, 9, 1, 16), 5);
    finish(&store, medium);
}

TEST(open_group, missing_guard_is_an_unknown_tail_unless_the_group_is_new)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    struct ls_group_id id = group_1();
    store_close(&store);
    assert_true(ls_storage_medium_drop(medium, &id, LS_STORAGE_GUARD, 0));
    store_open(&store, &store.backend);
    assert_false(store.state.tail_unknown);
    store_append(&store, 1, 2, 1);
    store_close(&store);
    assert_true(ls_storage_medium_drop(medium, &id, LS_STORAGE_GUARD, 0));
    store_open(&store, &store.backend);
    assert_true(store.state.tail_unknown);
    assert_non_null(strstr(store.state.tail_text, "the guard of group 01010101 is missing"));
    assert_ok(reopen(&store));
    assert_true(store.state.tail_unknown);
    finish(&store, medium);
}

TEST(open_group, forgotten_vote_is_taken_from_the_guard)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    struct ls_group_id id = group_1();
    stage_term(&store, 5, 0xaa);
    store_close(&store);
    assert_true(ls_storage_medium_drop(medium, &id, LS_STORAGE_HARD, 0));
    store_open(&store, &store.backend);
    assert_true(store.state.tail_unknown);
    assert_int_equal(store.state.hard_state.term, 5);
    assert_true(store.state.hard_state.voted);
    assert_int_equal(store.state.hard_state.vote.bytes[0], 0xaa);
    assert_non_null(strstr(store.state.tail_text, "promise in term 5"));
    finish(&store, medium);
}

TEST(open_group, guard_with_both_slots_damaged_is_corrupt)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    struct ls_group_id id = group_1();
    store_append(&store, 1, 2, 1);
    store_close(&store);
    assert_true(ls_storage_medium_flip(medium, &id, LS_STORAGE_GUARD, 0, 300));
    store_open(&store, &store.backend); /* one slot: the other one tells */
    assert_false(store.state.tail_unknown);
    store_close(&store);
    assert_true(ls_storage_medium_flip(medium, &id, LS_STORAGE_GUARD, 0, 300));
    assert_true(ls_storage_medium_flip(medium, &id, LS_STORAGE_GUARD, 0, 4096 * 8 + 300));
    store_open_bare(&store, &store.backend);
    assert_int_equal(store_open_group(&store), LS_ERR_CORRUPT);
    assert_non_null(strstr(store.error.text, "both slots are damaged"));
    store.group = NULL;
    finish(&store, medium);
}

TEST(open_group, wiped_medium_is_another_incarnation)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    struct ls_incarnation before = store.state.incarnation;
    store_append(&store, 1, 2, 1);
    store_close(&store);
    ls_storage_medium_wipe(medium);
    store_open(&store, &store.backend);
    assert_false(ls_incarnation_equal(&before, &store.state.incarnation));
    assert_int_equal(store.state.last.index, 0);
    finish(&store, medium);
}

/* allocation failures */

struct meter {
    struct ls_env env;
    size_t fail_at, calls; /* the fail_at-th allocation is refused; 0: none */
    size_t live;
};

static void *metered(void *self, void *block, size_t bytes)
{
    struct meter *meter = self;
    if (bytes == 0) {
        meter->live -= block != NULL ? 1 : 0;
        free(block);
        return NULL;
    }
    if (++meter->calls == meter->fail_at) {
        return NULL;
    }
    void *result = realloc(block, bytes);
    meter->live += block == NULL && result != NULL ? 1 : 0;
    return result;
}

static uint64_t metered_now(void *self)
{
    (void)self;
    return 0;
}

static void metered_entropy(void *self, void *out, size_t bytes)
{
    (void)self;
    (void)memset(out, 0x42, bytes);
}

static void place_open_twice(void *self, struct ls_storage *out)
{
    enum ls_status status = ls_storage_memory_open_on(self, out, NULL);
    if (status != LS_OK) {
        assert_int_equal(status, LS_ERR_NO_MEMORY);
        assert_ok(ls_storage_memory_open_on(self, out, NULL));
    }
}

/* Opens, appends, truncates, resets, prunes; every step that is refused is tried once more. */
static void history(struct meter *meter)
{
    static const char configuration[] = "a configuration";
    struct ls_storage_medium *medium = NULL;
    if (ls_storage_medium_open(&meter->env, &medium) != LS_OK) {
        assert_ok(ls_storage_medium_open(&meter->env, &medium));
    }
    struct store store;
    const struct store_backend backend = {medium, place_open_twice, NULL};
    store_open_bare(&store, &backend);
    enum ls_status status = store_open_group(&store);
    if (status != LS_OK) {
        assert_int_equal(status, LS_ERR_NO_MEMORY);
        assert_ok(store_open_group(&store));
    }
    ls_index last = 0;
    for (uint64_t i = 1; i <= 6 && store.log.failed_calls == 0; i++) {
        struct ls_entry entries[40];
        (void)memcpy(entries, store_entries(1, 40, i, 100), sizeof entries);
        entries[3] = (struct ls_entry){i, LS_ENTRY_CONFIGURATION, {configuration, 15}};
        struct ls_storage_batch batch = {
            .seq = ++store.seq, .first = last + 1, .entries = entries, .count = 40};
        if (i == 3) {
            batch.truncate = true;
            batch.truncate_from = batch.first = last = 50;
            last--;
        } else if (i == 5) {
            batch.reset = true;
            batch.anchor = (struct ls_cursor){i, last + 7};
            batch.anchor_configuration =
                (struct ls_stored_configuration){9, {configuration, sizeof configuration}};
            last += 7;
            batch.first = last + 1;
        }
        status = store.storage.stage(store.storage.self, store.group, &batch);
        if (status != LS_OK) {
            assert_int_equal(status, LS_ERR_NO_MEMORY);
            assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
        }
        last += 40;
        store_settle(&store);
        if (store.log.failed_calls == 0 && i == 4) {
            status = store.storage.prune(store.storage.self, store.group, 60);
            assert_true(status == LS_OK || status == LS_ERR_NO_MEMORY);
        }
    }
    ls_index durable = store.log.failed_calls == 0 ? last : 0;
    store_close(&store);
    store_open_bare(&store, &backend);
    status = store_open_group(&store);
    if (status != LS_OK) {
        assert_int_equal(status, LS_ERR_NO_MEMORY);
        assert_ok(store_open_group(&store));
    }
    assert_true(store.state.last.index >= durable);
    assert_false(store.state.tail_unknown);
    finish(&store, medium);
}

TEST(memory, refused_allocation_changes_nothing_and_leaks_nothing)
{
    struct meter meter = {.env = *ls_env_default()};
    meter.env.self = &meter;
    meter.env.allocate = metered;
    meter.env.now_us = metered_now;
    meter.env.entropy = metered_entropy;
    history(&meter);
    size_t calls = meter.calls;
    assert_true(calls > 20);
    for (size_t at = 1; at <= calls; at++) {
        meter.calls = 0;
        meter.fail_at = at;
        history(&meter);
        assert_true(meter.calls >= at);
        assert_int_equal(meter.live, 0);
    }
}
