/* SPDX-License-Identifier: MIT */
/* The storage contract, over any backend (storage_suite.h). */
#include "storage_suite.h"

#include <stdio.h>

static enum ls_status stage(struct store *store, const struct ls_storage_batch *batch)
{
    return store->storage.stage(store->storage.self, store->group, batch);
}

static void start(struct store *store, storage_backend_open open)
{
    struct store_backend backend;
    open(&backend);
    store_open(store, &backend);
}

static void finish(struct store *store)
{
    store_close(store);
    if (store->backend.close != NULL) {
        store->backend.close(store->backend.self);
    }
}

static void assert_cursor(struct ls_cursor at, ls_term term, ls_index index)
{
    assert_int_equal(at.term, term);
    assert_int_equal(at.index, index);
}

static bool visit_none(void *arg, ls_index index, const struct ls_entry *entry)
{
    (void)arg;
    (void)index;
    (void)entry;
    fail_msg("nothing should be read");
    return false;
}

static enum ls_status read_nothing(struct store *store, ls_index first)
{
    return store->storage.read(store->storage.self, store->group, first, first, SIZE_MAX,
                               visit_none, NULL);
}

void storage_suite_new_group_is_empty(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    assert_cursor(store.state.anchor, 0, 0);
    assert_cursor(store.state.last, 0, 0);
    assert_int_equal(store.state.hard_state.term, 0);
    assert_false(store.state.hard_state.voted);
    assert_int_equal(store.state.runs_count, 0);
    assert_int_equal(store.state.configurations_count, 0);
    assert_int_equal(store.state.commit_hint, 0);
    assert_false(store.state.tail_unknown);
    assert_string_equal(store.state.tail_text, "");
    assert_int_equal(read_nothing(&store, 1), LS_ERR_NOT_FOUND);
    finish(&store);
}

void storage_suite_batch_is_reported_once_and_found_again(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 3, 1);
    assert_int_equal(store.log.durable_calls, 1);
    assert_int_equal(store_expect(&store, 1, 3, 1, 16), 3);
    store_reopen(&store);
    assert_cursor(store.state.last, 1, 3);
    assert_false(store.state.tail_unknown);
    assert_int_equal(store_expect(&store, 1, 3, 1, 16), 3);
    store_append(&store, 4, 2, 1);
    assert_int_equal(store_expect(&store, 2, 5, 1, 16), 4);
    finish(&store);
}

void storage_suite_staged_entries_are_not_readable_before_they_are_reported(
    storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 2, 1);
    struct ls_storage_batch batch = store_batch(&store, 3, 2, 1, 16);
    assert_ok(stage(&store, &batch));
    assert_int_equal(read_nothing(&store, 3), LS_ERR_NOT_FOUND);
    assert_int_equal(store_expect(&store, 1, 4, 1, 16), 2);
    store_settle(&store);
    assert_int_equal(store_expect(&store, 1, 4, 1, 16), 4);
    finish(&store);
}

void storage_suite_hard_state_survives(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    struct ls_hard_state hard = {7, true, {{0}}};
    (void)memset(hard.vote.bytes, 0x5a, sizeof hard.vote.bytes);
    struct ls_storage_batch batch = {.seq = ++store.seq, .hard_state = &hard};
    assert_ok(stage(&store, &batch));
    store_settle(&store);
    assert_int_equal(store.log.durable, 1);
    store_reopen(&store);
    assert_int_equal(store.state.hard_state.term, 7);
    assert_true(store.state.hard_state.voted);
    assert_memory_equal(store.state.hard_state.vote.bytes, hard.vote.bytes, 32);
    hard = (struct ls_hard_state){8, false, {{0}}};
    batch = (struct ls_storage_batch){.seq = ++store.seq, .hard_state = &hard};
    assert_ok(stage(&store, &batch));
    store_settle(&store);
    store_reopen(&store);
    assert_int_equal(store.state.hard_state.term, 8);
    assert_false(store.state.hard_state.voted);
    assert_false(store.state.tail_unknown);
    finish(&store);
}

static bool visit_sizes(void *arg, ls_index index, const struct ls_entry *entry)
{
    const struct ls_entry *entries = arg;
    const struct ls_entry *expected = &entries[index - 1];
    assert_int_equal(entry->kind, expected->kind);
    assert_int_equal(entry->term, expected->term);
    assert_int_equal(entry->data.bytes, expected->data.bytes);
    if (entry->data.bytes > 0) {
        assert_memory_equal(entry->data.data, expected->data.data, entry->data.bytes);
    }
    return true;
}

void storage_suite_every_kind_and_size_of_entry_survives(storage_backend_open open)
{
    static uint8_t bytes[300000];
    struct store store;
    start(&store, open);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 131 >> 3);
    }
    const struct ls_entry entries[] = {
        {1, LS_ENTRY_CONFIGURATION, {bytes, 90}}, {1, LS_ENTRY_NOOP, {NULL, 0}},
        {1, LS_ENTRY_COMMAND, {bytes, 1}},        {2, LS_ENTRY_MARKER, {bytes, 33}},
        {2, LS_ENTRY_COMMAND, {bytes, 4095}},     {2, LS_ENTRY_COMMAND, {bytes, 4096}},
        {9, LS_ENTRY_COMMAND, {bytes, 70000}},    {9, LS_ENTRY_COMMAND, {bytes, sizeof bytes}},
    };
    const uint32_t count = sizeof entries / sizeof entries[0];
    struct ls_storage_batch batch = {
        .seq = ++store.seq, .first = 1, .entries = entries, .count = count};
    assert_ok(stage(&store, &batch));
    store_settle(&store);
    store_reopen(&store);
    assert_cursor(store.state.last, 9, count);
    union {
        const struct ls_entry *entries;
        void *arg;
    } expected = {entries};
    assert_ok(store.storage.read(store.storage.self, store.group, 1, count, SIZE_MAX, visit_sizes,
                                 expected.arg));
    finish(&store);
}

void storage_suite_runs_tell_each_change_of_term(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 4, 1);
    store_append(&store, 5, 2, 3);
    store_append(&store, 7, 1, 3);
    store_append(&store, 8, 1, 9);
    store_reopen(&store);
    assert_int_equal(store.state.runs_count, 3);
    assert_cursor(store.state.runs[0], 1, 1);
    assert_cursor(store.state.runs[1], 3, 5);
    assert_cursor(store.state.runs[2], 9, 8);
    finish(&store);
}

void storage_suite_truncation_rewrites_the_end(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 10, 1);
    struct ls_storage_batch batch = store_batch(&store, 6, 2, 2, 16);
    batch.truncate = true;
    batch.truncate_from = 6;
    assert_ok(stage(&store, &batch));
    store_settle(&store);
    store_reopen(&store);
    assert_cursor(store.state.last, 2, 7);
    assert_false(store.state.tail_unknown);
    assert_int_equal(store_expect(&store, 1, 5, 1, 16), 5);
    assert_int_equal(store_expect(&store, 6, 10, 2, 16), 2);
    finish(&store);
}

void storage_suite_truncation_of_what_is_still_staged(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 2, 1);
    struct ls_storage_batch batch = store_batch(&store, 3, 8, 1, 16);
    assert_ok(stage(&store, &batch));
    batch = store_batch(&store, 7, 1, 2, 16);
    batch.truncate = true;
    batch.truncate_from = 7;
    assert_ok(stage(&store, &batch));
    store_settle(&store);
    assert_int_equal(store_expect(&store, 1, 6, 1, 16), 6);
    assert_int_equal(store_expect(&store, 7, 10, 2, 16), 1);
    store_reopen(&store);
    assert_cursor(store.state.last, 2, 7);
    finish(&store);
}

void storage_suite_truncation_takes_effect_for_readers_at_once(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 10, 1);
    struct ls_storage_batch batch = store_batch(&store, 6, 3, 2, 16);
    batch.truncate = true;
    batch.truncate_from = 6;
    assert_ok(stage(&store, &batch));
    assert_int_equal(store_expect(&store, 1, 10, 1, 16), 5);
    assert_int_equal(read_nothing(&store, 6), LS_ERR_NOT_FOUND);
    store_settle(&store);
    assert_int_equal(store_expect(&store, 6, 10, 2, 16), 3);
    finish(&store);
}

void storage_suite_several_truncations_in_one_commit(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 20, 1);
    static const ls_index from[] = {15, 8, 10, 3};
    for (size_t i = 0; i < 4; i++) {
        struct ls_storage_batch batch = store_batch(&store, from[i], 5, 2 + i, 16);
        batch.truncate = true;
        batch.truncate_from = from[i];
        assert_ok(stage(&store, &batch));
        if (i == 1) { /* so that some of it is on its way already */
            store.storage.commit(store.storage.self);
        }
    }
    store_settle(&store);
    assert_int_equal(store_expect(&store, 1, 2, 1, 16), 2);
    assert_int_equal(store_expect(&store, 3, 20, 5, 16), 5);
    store_reopen(&store);
    assert_cursor(store.state.last, 5, 7);
    assert_int_equal(store.state.runs_count, 2);
    assert_false(store.state.tail_unknown);
    finish(&store);
}

void storage_suite_reset_moves_the_anchor(storage_backend_open open)
{
    static const char bytes[] = "configuration at the anchor";
    struct store store;
    start(&store, open);
    store_append(&store, 1, 10, 1);
    struct ls_storage_batch batch = {.seq = ++store.seq,
                                     .reset = true,
                                     .anchor = {4, 100},
                                     .anchor_configuration = {90, {bytes, sizeof bytes}}};
    assert_ok(stage(&store, &batch));
    assert_int_equal(read_nothing(&store, 5), LS_ERR_COMPACTED);
    store_settle(&store);
    assert_int_equal(read_nothing(&store, 101), LS_ERR_NOT_FOUND);
    store_reopen(&store);
    assert_false(store.state.tail_unknown);
    assert_cursor(store.state.anchor, 4, 100);
    assert_cursor(store.state.last, 4, 100);
    assert_int_equal(store.state.configurations_count, 1);
    assert_int_equal(store.state.configurations[0].index, 90);
    assert_memory_equal(store.state.configurations[0].bytes.data, bytes, sizeof bytes);
    store_append(&store, 101, 3, 5);
    store_reopen(&store);
    assert_cursor(store.state.last, 5, 103);
    assert_int_equal(store_expect(&store, 101, 103, 5, 16), 3);
    finish(&store);
}

void storage_suite_reset_and_append_in_one_batch(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 10, 1);
    /* also to an anchor inside the old log */
    struct ls_storage_batch batch = store_batch(&store, 6, 2, 3, 16);
    batch.reset = true;
    batch.anchor = (struct ls_cursor){2, 5};
    assert_ok(stage(&store, &batch));
    store_settle(&store);
    store_reopen(&store);
    assert_cursor(store.state.anchor, 2, 5);
    assert_cursor(store.state.last, 3, 7);
    assert_false(store.state.tail_unknown);
    assert_int_equal(store_expect(&store, 6, 7, 3, 16), 2);
    finish(&store);
}

void storage_suite_prune_keeps_the_cursor(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 5, 1);
    store_append(&store, 6, 5, 2);
    assert_ok(store.storage.prune(store.storage.self, store.group, 7));
    assert_int_equal(read_nothing(&store, 7), LS_ERR_COMPACTED);
    assert_int_equal(store_expect(&store, 8, 10, 2, 16), 3);
    store.storage.commit(store.storage.self);
    store_append(&store, 11, 1, 2);
    store_reopen(&store);
    assert_cursor(store.state.anchor, 2, 7);
    assert_cursor(store.state.last, 2, 11);
    assert_int_equal(store.state.runs_count, 1);
    assert_cursor(store.state.runs[0], 2, 8);
    assert_false(store.state.tail_unknown);
    assert_int_equal(store_expect(&store, 8, 11, 2, 16), 4);
    finish(&store);
}

void storage_suite_prune_outside_the_durable_log_is_refused(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    struct ls_storage *storage = &store.storage;
    assert_int_equal(storage->prune(storage->self, store.group, 1), LS_ERR_INVALID);
    store_append(&store, 1, 5, 1);
    assert_int_equal(storage->prune(storage->self, store.group, 0), LS_ERR_INVALID);
    assert_int_equal(storage->prune(storage->self, store.group, 5), LS_ERR_INVALID);
    struct ls_storage_batch batch = store_batch(&store, 6, 5, 1, 16);
    assert_ok(stage(&store, &batch));
    assert_int_equal(storage->prune(storage->self, store.group, 7), LS_ERR_INVALID);
    assert_ok(storage->prune(storage->self, store.group, 3));
    assert_int_equal(storage->prune(storage->self, store.group, 3), LS_ERR_INVALID);
    store_settle(&store);
    finish(&store);
}

void storage_suite_prune_then_append_in_one_commit(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 8, 1);
    assert_ok(store.storage.prune(store.storage.self, store.group, 4));
    struct ls_storage_batch batch = store_batch(&store, 7, 4, 2, 16);
    batch.truncate = true;
    batch.truncate_from = 7;
    assert_ok(stage(&store, &batch));
    store_settle(&store);
    store_reopen(&store);
    assert_cursor(store.state.anchor, 1, 4);
    assert_cursor(store.state.last, 2, 10);
    assert_int_equal(store_expect(&store, 5, 6, 1, 16), 2);
    assert_int_equal(store_expect(&store, 7, 10, 2, 16), 4);
    finish(&store);
}

static void append_configuration(struct store *store, ls_index index, ls_term term,
                                 const char *bytes)
{
    const struct ls_entry entry = {term, LS_ENTRY_CONFIGURATION, {bytes, strlen(bytes)}};
    const struct ls_storage_batch batch = {
        .seq = ++store->seq, .first = index, .entries = &entry, .count = 1};
    assert_ok(stage(store, &batch));
    store_settle(store);
}

static void assert_configuration(const struct store *store, size_t at, ls_index index,
                                 const char *bytes)
{
    assert_true(at < store->state.configurations_count);
    const struct ls_stored_configuration *found = &store->state.configurations[at];
    assert_int_equal(found->index, index);
    assert_int_equal(found->bytes.bytes, strlen(bytes));
    assert_memory_equal(found->bytes.data, bytes, strlen(bytes));
}

void storage_suite_configurations_are_found_and_revert_on_truncation(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    append_configuration(&store, 1, 1, "one");
    store_append(&store, 2, 3, 1);
    append_configuration(&store, 5, 1, "five");
    append_configuration(&store, 6, 1, "six");
    store_reopen(&store);
    assert_int_equal(store.state.configurations_count, 3);
    assert_configuration(&store, 1, 5, "five");
    struct ls_storage_batch batch = store_batch(&store, 5, 1, 2, 16);
    batch.truncate = true;
    batch.truncate_from = 5;
    assert_ok(stage(&store, &batch));
    store_settle(&store);
    append_configuration(&store, 6, 2, "six again");
    /* the pruned prefix takes its configuration from what the store remembers */
    assert_ok(store.storage.prune(store.storage.self, store.group, 5));
    store_append(&store, 7, 1, 2);
    store_reopen(&store);
    assert_int_equal(store.state.configurations_count, 2);
    assert_configuration(&store, 0, 1, "one");
    assert_configuration(&store, 1, 6, "six again");
    finish(&store);
}

void storage_suite_prune_keeps_the_configuration_in_force(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    append_configuration(&store, 1, 1, "one");
    append_configuration(&store, 2, 1, "two");
    append_configuration(&store, 3, 1, "three");
    store_append(&store, 4, 6, 1);
    assert_ok(store.storage.prune(store.storage.self, store.group, 2));
    store_append(&store, 10, 1, 1);
    store_reopen(&store);
    assert_int_equal(store.state.configurations_count, 2);
    assert_configuration(&store, 0, 2, "two");
    assert_configuration(&store, 1, 3, "three");
    assert_ok(store.storage.prune(store.storage.self, store.group, 8));
    store_append(&store, 11, 1, 1);
    store_reopen(&store);
    assert_int_equal(store.state.configurations_count, 1);
    assert_configuration(&store, 0, 3, "three");
    finish(&store);
}

void storage_suite_commit_hint_is_found_again(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    struct ls_storage_batch batch = store_batch(&store, 1, 5, 1, 16);
    batch.commit_hint = 2;
    assert_ok(stage(&store, &batch));
    store_settle(&store);
    batch = (struct ls_storage_batch){.seq = ++store.seq, .commit_hint = 4};
    assert_ok(stage(&store, &batch));
    store_settle(&store);
    assert_int_equal(store.log.durable, 2);
    store_append(&store, 6, 1, 1);
    store_reopen(&store);
    assert_int_equal(store.state.commit_hint, 4);
    finish(&store);
}

struct counted {
    size_t count, stop_after;
};

static bool visit_count(void *arg, ls_index index, const struct ls_entry *entry)
{
    struct counted *counted = arg;
    (void)index;
    (void)entry;
    return ++counted->count != counted->stop_after;
}

void storage_suite_read_stops_at_bytes_and_at_the_visitor(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    struct ls_storage_batch batch = store_batch(&store, 1, 50, 1, 100);
    assert_ok(stage(&store, &batch));
    store_settle(&store);
    static const struct {
        size_t bytes_max, stop_after, expected;
    } cases[] = {{SIZE_MAX, 0, 50}, {1, 0, 1},   {0, 0, 1},   {100, 0, 1},
                 {250, 0, 2},       {300, 0, 3}, {300, 2, 2}, {SIZE_MAX, 7, 7}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct counted counted = {0, cases[i].stop_after};
        assert_ok(store.storage.read(store.storage.self, store.group, 1, 60, cases[i].bytes_max,
                                     visit_count, &counted));
        assert_int_equal(counted.count, cases[i].expected);
    }
    finish(&store);
}

void storage_suite_read_outside_the_log_says_why(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 10, 1);
    assert_ok(store.storage.prune(store.storage.self, store.group, 4));
    store_append(&store, 11, 1, 1);
    assert_int_equal(read_nothing(&store, 0), LS_ERR_COMPACTED);
    assert_int_equal(read_nothing(&store, 4), LS_ERR_COMPACTED);
    assert_int_equal(read_nothing(&store, 12), LS_ERR_NOT_FOUND);
    assert_int_equal(store_expect(&store, 5, 5, 1, 16), 1);
    finish(&store);
}

void storage_suite_groups_are_apart_and_share_a_commit(storage_backend_open open)
{
    enum { GROUPS = 5 };
    struct store store;
    start(&store, open);
    struct ls_storage *storage = &store.storage;
    struct ls_storage_group *groups[GROUPS];
    struct store_log logs[GROUPS] = {{0}};
    for (uint8_t i = 0; i < GROUPS; i++) {
        struct ls_group_id id = store_group_id((uint8_t)(10 + i));
        struct ls_storage_state state;
        assert_ok(storage->open_group(storage->self, &id, &logs[i], &groups[i], &state, NULL));
        struct ls_storage_batch batch = {
            .seq = 1, .first = 1, .entries = store_entries(1, i + 1u, i + 1u, 8), .count = i + 1u};
        assert_ok(storage->stage(storage->self, groups[i], &batch));
    }
    struct ls_storage_counters counters;
    storage->counters(storage->self, &counters);
    uint64_t syncs = counters.syncs;
    storage->commit(storage->self);
    while (logs[GROUPS - 1].durable == 0) {
        store_wait(&store);
    }
    storage->counters(storage->self, &counters);
    assert_int_equal(counters.syncs, syncs + 1);
    for (size_t i = 0; i < GROUPS; i++) {
        assert_int_equal(logs[i].durable, 1);
    }
    store_reopen(&store);
    assert_cursor(store.state.last, 0, 0);
    for (uint8_t i = 0; i < GROUPS; i++) {
        struct ls_group_id id = store_group_id((uint8_t)(10 + i));
        struct ls_storage_state state;
        assert_ok(storage->open_group(storage->self, &id, &logs[i], &groups[i], &state, NULL));
        assert_cursor(state.last, i + 1u, i + 1u);
        assert_false(state.tail_unknown);
    }
    finish(&store);
}

void storage_suite_group_is_open_once(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    struct ls_group_id id = store_group_id(1);
    struct ls_storage_group *group;
    struct ls_storage_state state;
    struct ls_error error;
    assert_int_equal(
        store.storage.open_group(store.storage.self, &id, NULL, &group, &state, &error),
        LS_ERR_INVALID);
    assert_int_equal(error.status, LS_ERR_INVALID);
    finish(&store);
}

void storage_suite_closed_group_opens_again_with_what_was_staged(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 2, 1);
    struct ls_storage_batch batch = store_batch(&store, 3, 2, 1, 16);
    assert_ok(stage(&store, &batch));
    store.storage.commit(store.storage.self);
    batch = store_batch(&store, 5, 2, 1, 16);
    assert_ok(stage(&store, &batch));
    store.storage.close_group(store.storage.self, store.group);
    assert_ok(store_open_group(&store));
    assert_cursor(store.state.last, 1, 6);
    assert_false(store.state.tail_unknown);
    store_append(&store, 7, 1, 1);
    assert_int_equal(store.log.durable_calls, 1);
    assert_int_equal(store_expect(&store, 1, 7, 1, 16), 7);
    finish(&store);
}

void storage_suite_close_writes_what_is_staged(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    struct ls_storage_batch batch = store_batch(&store, 1, 2, 1, 16);
    assert_ok(stage(&store, &batch));
    store_reopen(&store);
    assert_cursor(store.state.last, 1, 2);
    finish(&store);
}

void storage_suite_empty_batch_is_reported(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    struct ls_storage_batch batch = {.seq = ++store.seq};
    assert_ok(stage(&store, &batch));
    store_settle(&store);
    assert_int_equal(store.log.durable, 1);
    finish(&store);
}

void storage_suite_incarnation_stays(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    static const struct ls_incarnation zero;
    struct ls_incarnation before = store.storage.incarnation(store.storage.self);
    assert_false(ls_incarnation_equal(&before, &zero));
    assert_true(ls_incarnation_equal(&before, &store.state.incarnation));
    store_reopen(&store);
    assert_true(ls_incarnation_equal(&before, &store.state.incarnation));
    finish(&store);
}

void storage_suite_many_batches_in_flight_are_reported_in_order(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    for (ls_index i = 1; i <= 300; i++) {
        struct ls_storage_batch batch = store_batch(&store, i, 1, 1, 16);
        assert_ok(stage(&store, &batch));
        store.storage.commit(store.storage.self);
    }
    store_settle(&store);
    assert_int_equal(store.log.durable, 300);
    assert_int_equal(store_expect(&store, 1, 300, 1, 16), 300);
    finish(&store);
}

/* A log as an array of terms: what a store has to show after any history. */
struct model {
    ls_term terms[4096];
    ls_index anchor, last;
    ls_term term;
};

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void model_matches(struct store *store, const struct model *model)
{
    assert_cursor(store->state.anchor, model->terms[model->anchor], model->anchor);
    assert_cursor(store->state.last, model->terms[model->last], model->last);
    assert_false(store->state.tail_unknown);
    for (ls_index first = model->anchor + 1; first <= model->last;) {
        ls_index last = first;
        while (last < model->last && model->terms[last + 1] == model->terms[first]) {
            last++;
        }
        assert_int_equal(store_expect(store, first, last, model->terms[first], 16),
                         last - first + 1);
        first = last + 1;
    }
}

static void random_step(struct store *store, struct model *model, uint64_t *seed)
{
    uint64_t choice = next_random(seed) % 100;
    struct ls_storage_batch batch = {.seq = store->seq + 1};
    if (choice < 12 && model->last > model->anchor) { /* rewrite the end */
        batch.truncate = true;
        batch.truncate_from = model->anchor + 1 + next_random(seed) % (model->last - model->anchor);
        model->last = batch.truncate_from - 1;
        model->term++;
    } else if (choice < 15) { /* a snapshot arrives */
        model->term++;
        model->last = model->anchor = model->last + next_random(seed) % 20;
        model->terms[model->anchor] = model->term;
        batch.reset = true;
        batch.anchor = (struct ls_cursor){model->term, model->anchor};
    } else if (choice < 22 && model->last > model->anchor + 1) {
        store_settle(store);
        ls_index upto = model->anchor + 1 + next_random(seed) % (model->last - model->anchor - 1);
        assert_ok(store->storage.prune(store->storage.self, store->group, upto));
        model->anchor = upto;
        return;
    } else if (choice < 28) {
        model->term++;
    }
    batch.count = (uint32_t)(next_random(seed) % 12);
    batch.first = model->last + 1;
    batch.entries = store_entries(batch.first, batch.count, model->term, 16);
    for (uint32_t i = 0; i < batch.count; i++) {
        model->terms[++model->last] = model->term;
    }
    store->seq++;
    assert_ok(stage(store, &batch));
    if (next_random(seed) % 3 == 0) {
        store->storage.commit(store->storage.self);
    }
    if (next_random(seed) % 4 == 0) {
        store->storage.collect(store->storage.self);
    }
}

void storage_suite_random_histories_match_a_model(storage_backend_open open)
{
    static struct model model;
    struct store store;
    uint64_t seed = test_seed() | 1;
    start(&store, open);
    model = (struct model){.term = 1};
    for (int step = 1; step <= 300; step++) {
        random_step(&store, &model, &seed);
        if (step % 60 == 0) {
            store_settle(&store);
            assert_int_equal(store.log.failed_calls, 0);
            store_reopen(&store);
            model_matches(&store, &model);
        }
    }
    finish(&store);
}

void storage_suite_counters_count(storage_backend_open open)
{
    struct store store;
    start(&store, open);
    store_append(&store, 1, 5, 1);
    store_append(&store, 6, 1, 1);
    struct ls_storage_counters counters;
    store.storage.counters(store.storage.self, &counters);
    assert_int_equal(counters.entries, 6);
    assert_int_equal(counters.bytes, 6 * 16);
    assert_int_equal(counters.syncs, 2);
    finish(&store);
}
