/* SPDX-License-Identifier: MIT */
/* A power cut between and inside of the steps of a commit: nothing acknowledged may be missing. */
#include "store.h"

#include <stdio.h>
#include <stdlib.h>

static void place_open(void *self, struct ls_storage *out)
{
    assert_ok(ls_storage_memory_open_on(self, out, NULL));
}

static struct ls_storage_medium *start(struct store *store)
{
    struct ls_storage_medium *medium;
    assert_ok(ls_storage_medium_open(NULL, &medium));
    const struct store_backend backend = {medium, place_open, NULL};
    store_open(store, &backend);
    return medium;
}

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

static void finish(struct store *store, struct ls_storage_medium *medium)
{
    store_close(store);
    ls_storage_medium_close(medium);
}

static void stage(struct store *store, const struct ls_storage_batch *batch)
{
    assert_ok(store->storage.stage(store->storage.self, store->group, batch));
    store->storage.commit(store->storage.self);
}

/* Entries 1..5 are acknowledged; then entry 3 and what follows is replaced, in a new term. */
static ls_index cut_while_truncating(enum ls_storage_cut cut, size_t bytes)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    store_append(&store, 1, 5, 1);
    assert_ok(reopen(&store)); /* the guard knows of 5 */
    const struct ls_group_id id = store_group_id(1);
    assert_int_equal(ls_storage_medium_guarded(medium, &id), 5);
    ls_storage_medium_hold(medium, true);
    struct ls_hard_state hard = {2, false, {{0}}};
    struct ls_storage_batch batch = store_batch(&store, 3, 1, 2, 16);
    batch.hard_state = &hard;
    batch.truncate = true;
    batch.truncate_from = 3;
    stage(&store, &batch);
    assert_true(ls_storage_medium_power_cut_at(medium, cut, bytes));
    ls_storage_medium_hold(medium, false);
    assert_ok(reopen(&store));
    assert_false(store.state.tail_unknown);
    ls_index last = store.state.last.index;
    assert_int_equal(store.state.hard_state.term, last == 3 ? 2 : 0);
    finish(&store, medium);
    return last;
}

TEST(cut, commit_whose_guard_was_being_lowered_is_not_there)
{
    for (size_t bytes = 0; bytes < 152; bytes++) {
        assert_int_equal(cut_while_truncating(LS_STORAGE_CUT_LOWERING, bytes), 5);
    }
    assert_int_equal(cut_while_truncating(LS_STORAGE_CUT_LOWERED, 0), 5);
}

TEST(cut, commit_whose_guard_was_being_raised_is_there)
{
    for (size_t bytes = 0; bytes < 152; bytes++) {
        assert_int_equal(cut_while_truncating(LS_STORAGE_CUT_RAISING, bytes), 3);
    }
    assert_int_equal(cut_while_truncating(LS_STORAGE_CUT_LOG, 0), 3);
}

TEST(cut, power_that_goes_while_no_commit_waits_loses_nothing)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    store_append(&store, 1, 2, 1);
    assert_false(ls_storage_medium_power_cut_at(medium, LS_STORAGE_CUT_LOG, 0));
    assert_ok(reopen(&store));
    assert_int_equal(store.state.last.index, 2);
    finish(&store, medium);
}

TEST(cut, open_that_loses_power_may_be_repeated)
{
    for (size_t bytes = 0; bytes < 152; bytes += 8) {
        struct store store;
        struct ls_storage_medium *medium = start(&store);
        store_append(&store, 1, 2, 1);
        ls_storage_medium_power_cut_open(medium, bytes);
        assert_int_equal(reopen(&store), LS_ERR_IO);
        assert_ok(reopen(&store));
        assert_int_equal(store.state.last.index, 2);
        assert_false(store.state.tail_unknown);
        finish(&store, medium);
    }
}

TEST(cut, lost_write_of_a_vote_leaves_the_promise_of_the_guard)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    const struct ls_group_id id = store_group_id(1);
    assert_false(ls_storage_medium_stale(medium, &id));
    struct ls_hard_state hard = {7, true, {{9}}};
    struct ls_storage_batch batch = {.seq = ++store.seq, .hard_state = &hard};
    stage(&store, &batch);
    store_settle(&store);
    assert_true(ls_storage_medium_stale(medium, &id));
    assert_ok(reopen(&store));
    assert_true(store.state.tail_unknown);
    assert_int_equal(store.state.hard_state.term, 7);
    assert_true(store.state.hard_state.voted);
    finish(&store, medium);
}

/* the core stores it again when it knows its tail */
TEST(cut, promise_that_only_the_guard_kept_is_doubted_until_it_is_stored_again)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    const struct ls_group_id id = store_group_id(1);
    struct ls_storage_medium_left left;
    store_append(&store, 1, 3, 6);
    struct ls_hard_state hard = {7, true, {{9}}};
    struct ls_storage_batch batch = {.seq = ++store.seq, .hard_state = &hard};
    stage(&store, &batch);
    store_settle(&store);
    assert_true(ls_storage_medium_stale(medium, &id));
    assert_ok(reopen(&store));
    assert_true(store.state.tail_unknown);
    batch = store_batch(&store, 4, 1, 7, 16);
    stage(&store, &batch);
    store_settle(&store);
    assert_ok(reopen(&store));
    assert_true(store.state.tail_unknown);
    hard = store.state.hard_state;
    batch = (struct ls_storage_batch){.seq = ++store.seq, .hard_state = &hard, .tail_known = true};
    stage(&store, &batch);
    store_settle(&store);
    assert_true(ls_storage_medium_left(medium, &id, &left));
    assert_int_equal(left.hard_state.term, 7);
    assert_true(left.hard_state.voted);
    assert_int_equal(left.hard_state.vote.bytes[0], 9);
    assert_ok(reopen(&store));
    assert_false(store.state.tail_unknown);
    assert_int_equal(store.state.hard_state.term, 7);
    finish(&store, medium);
}

TEST(cut, refused_stage_is_taken_again_later)
{
    struct store store;
    struct ls_storage_medium *medium = start(&store);
    ls_storage_medium_refuse(medium, 2);
    struct ls_storage_batch batch = store_batch(&store, 1, 1, 1, 16);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(store.storage.stage(store.storage.self, store.group, &batch), LS_ERR_BUSY);
    }
    stage(&store, &batch);
    store_settle(&store);
    assert_ok(reopen(&store));
    assert_int_equal(store.state.last.index, 1);
    finish(&store, medium);
}
