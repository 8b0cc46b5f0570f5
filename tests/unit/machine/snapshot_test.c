/* SPDX-License-Identifier: MIT */
/*
 * Snapshots from end to end: members over the loopback transport, memory stores and vaults. A
 * member whose next entries were pruned everywhere comes back by a snapshot of the others.
 */
#include "trio.h"

#include <stdio.h>

#define BATCH 500u

/* What the trace told of staged chunks. */
static uint64_t staged_already, staged_of;

static void watch_staged(void *self, const struct ls_trace *trace)
{
    (void)self;
    if (strcmp(trace->format, "{} of {} chunks are staged already") == 0) {
        staged_already = trace->args[0];
        staged_of = trace->args[1];
    }
}

static struct ls_log_replay_options keep_little = {.size = sizeof keep_little, .keep_entries = 100};

static void open_snapshots_in(struct trio *trio, size_t count, struct ls_statesync syncs[2],
                              const struct ls_env *env)
{
    trio_open_in(trio, count, env);
    assert_ok(ls_log_replay(&keep_little, &syncs[0]));
    assert_ok(ls_snapshot_sync(NULL, &syncs[1]));
    trio->options.statesyncs = syncs;
    trio->options.statesyncs_count = 2;
    trio->options.cache_bytes = 16u << 10;
    trio->options.window_bytes = 8u << 10;
    trio->options.snapshot_entries = 300;
    trio->options.lag_entries = 400;
    trio->options.prune_entries = 0; /* the tests say when */
    trio->snapshots = true;
    trio->options.election_ms = 200; /* a busy machine is no reason for an election here */
    trio->options.heartbeat_ms = 30;
}

static void open_snapshots(struct trio *trio, size_t count, struct ls_statesync syncs[2])
{
    open_snapshots_in(trio, count, syncs, NULL);
}

static void load(struct trio *trio, size_t at, uint32_t batches)
{
    char bytes[40] = {0};
    struct ls_span commands[100];
    for (uint32_t i = 0; i < batches * (BATCH / 100); i++) {
        (void)snprintf(bytes, sizeof bytes, "command %u of this load", i);
        for (size_t c = 0; c < 100; c++) {
            commands[c] = (struct ls_span){bytes, sizeof bytes};
        }
        struct trio_outcome outcome = {0};
        assert_ok(ls_group_execute_many(trio->members[at].group, commands, 100, NULL, trio_done,
                                        &outcome));
        trio_wait(trio, &outcome);
        assert_int_equal(outcome.status, LS_OK);
    }
}

static struct ls_group_status status_of(const struct trio *trio, size_t at)
{
    struct ls_group_status status;
    ls_group_status(trio->members[at].group, &status);
    return status;
}

static bool is_online(struct trio *trio, void *arg)
{
    struct ls_group_status status = status_of(trio, *(size_t *)arg);
    return status.online && status.sync.phase != LS_SYNC_FETCHING;
}

/* All running members pruned up to `index` at least. */
static bool all_pruned(struct trio *trio, void *arg)
{
    const ls_index *index = arg;
    bool all = true;
    for (size_t i = 0; i < trio->count; i++) {
        ls_index pruned = 0;
        if (trio->members[i].node != NULL) {
            assert_ok(ls_group_prune(trio->members[i].group, UINT64_MAX, &pruned));
            all = all && pruned >= *index;
        }
    }
    return all;
}

static void same_items(const struct trio *trio, size_t a, size_t b)
{
    assert_memory_equal(trio->members[a].tally.items, trio->members[b].tally.items,
                        (size_t)TALLY_ITEMS * TALLY_ITEM_BYTES);
}

/* A member is stopped, the others go on and prune what it needs. Returns the leader. */
static size_t leave_behind(struct trio *trio, size_t away, uint32_t batches)
{
    trio_stop(trio, away);
    size_t leader = trio_wait_leader(trio);
    load(trio, leader, batches);
    trio_wait_equal(trio, 0);
    ls_index index = status_of(trio, leader).core.commit - 450;
    trio_until(trio, all_pruned, &index);
    return leader;
}

TEST(snapshot, brings_back_a_member_whose_entries_were_pruned_everywhere)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, 3, syncs);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    load(&trio, leader, 1);
    trio_wait_equal(&trio, BATCH);
    leader = leave_behind(&trio, away, 6);
    trio_start(&trio, away);
    trio_wait_equal(&trio, 7 * BATCH);
    trio_until(&trio, is_online, &away);
    struct ls_group_status status = status_of(&trio, away);
    assert_true(status.log_first > 6 * BATCH);
    assert_int_equal(status.snapshots_installed, 1);
    assert_true(status.snapshot_index > 6 * BATCH);
    assert_true(status_of(&trio, leader).snapshots_written > 0);
    assert_int_equal(status.sync.failures, 0);
    assert_int_equal(status.sync.penalties, 0);
    assert_int_equal(trio.members[away].tally.published, 2); /* at the start, and by snapshot */
    same_items(&trio, leader, away);
    load(&trio, leader, 1); /* and follows by ordinary appends again */
    trio_wait_equal(&trio, 8 * BATCH);
    same_items(&trio, leader, away);
    trio_close(&trio);
}

TEST(snapshot, brings_back_members_with_stores_on_disks)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, 3, syncs);
    trio.disk = true;
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    load(&trio, leader, 1);
    leader = leave_behind(&trio, away, 3);
    trio_start(&trio, away);
    trio_wait_equal(&trio, 4 * BATCH);
    trio_until(&trio, is_online, &away);
    same_items(&trio, leader, away);
    assert_true(status_of(&trio, away).log_first > 3 * BATCH);
    for (size_t i = 0; i < 3; i++) { /* and each opens again with what is left */
        trio_stop(&trio, i);
        trio_start(&trio, i);
        (void)trio_wait_leader(&trio);
    }
    trio_wait_equal(&trio, 4 * BATCH);
    same_items(&trio, leader, away);
    trio_close(&trio);
}

TEST(snapshot, S13_a_member_in_memory_opens_with_its_file_and_the_rest_of_its_log)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, 3, syncs);
    size_t leader = trio_up(&trio);
    load(&trio, leader, 3);
    trio_wait_equal(&trio, 3 * BATCH);
    ls_index index = 2 * BATCH;
    trio_until(&trio, all_pruned, &index);
    for (size_t i = 0; i < 3; i++) {
        ls_storage_medium_power_cut(trio.members[i].medium);
        ls_vault_medium_power_cut(trio.members[i].vault);
        trio_stop(&trio, i);
    }
    for (size_t i = 0; i < 3; i++) {
        trio_start(&trio, i);
        assert_int_equal(trio.members[i].tally.published, 1);
        assert_true(trio.members[i].tally.count >= 2 * BATCH);
    }
    load(&trio, trio_wait_leader(&trio), 1);
    trio_wait_equal(&trio, 4 * BATCH);
    same_items(&trio, 0, 1);
    same_items(&trio, 0, 2);
    trio_close(&trio);
}

TEST(snapshot, brings_back_a_wiped_member_beside_the_vault_of_its_former_life)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, 3, syncs);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    load(&trio, leader, 2);
    trio_wait_equal(&trio, 2 * BATCH);
    leader = leave_behind(&trio, away, 2);
    ls_storage_medium_wipe(trio.members[away].medium);
    trio_start(&trio, away);
    assert_int_equal(trio.members[away].tally.count, 0); /* that state is of another incarnation */
    trio_wait_equal(&trio, 4 * BATCH);
    same_items(&trio, leader, away);
    trio_close(&trio);
}

static bool waits(struct trio *trio, void *arg)
{
    struct ls_sync_progress sync = status_of(trio, *(size_t *)arg).sync;
    return sync.phase == LS_SYNC_WAITING &&
           strcmp(sync.reason, "no peer holds the next entry") == 0;
}

TEST(snapshot, is_not_taken_in_without_a_vault)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, 3, syncs);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    load(&trio, leader, 1);
    trio_wait_equal(&trio, BATCH);
    (void)leave_behind(&trio, away, 3);
    ls_storage_medium_wipe(trio.members[away].medium);
    trio.no_vaults = true;
    trio_start(&trio, away);
    trio_until(&trio, waits, &away);
    trio_stop(&trio, away);
    trio.no_vaults = false;
    trio_start(&trio, away);
    trio_wait_equal(&trio, 4 * BATCH);
    trio_close(&trio);
}

/* S5 */
TEST(snapshot, goes_on_under_load_and_when_the_leader_hands_over)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, 5, syncs);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 5;
    load(&trio, leader, 1);
    trio_wait_equal(&trio, BATCH);
    leader = leave_behind(&trio, away, 3);
    trio_start(&trio, away);
    load(&trio, leader, 2);
    trio_stop(&trio, leader);
    load(&trio, trio_wait_leader(&trio), 2);
    trio_wait_equal(&trio, 8 * BATCH);
    same_items(&trio, (leader + 2) % 5, away);
    trio_close(&trio);
}

static bool some_staged(struct trio *trio, void *arg)
{
    const size_t *at = arg;
    struct ls_sync_progress sync = status_of(trio, *at).sync;
    return sync.phase == LS_SYNC_FETCHING && sync.bytes > 0;
}

TEST(snapshot, that_was_being_fetched_when_the_member_ended_is_resumed)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    struct ls_snapshot_options slow = {.size = sizeof slow, .rate_bytes = 4u << 20};
    struct ls_env env = *ls_env_default();
    env.trace = watch_staged;
    open_snapshots_in(&trio, 3, syncs, &env);
    assert_ok(ls_snapshot_sync(&slow, &syncs[1]));
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    leader = leave_behind(&trio, away, 4);
    trio_start(&trio, away);
    trio_until(&trio, some_staged, &away);
    trio_stop(&trio, away);
    trio_start(&trio, away);
    trio_wait_equal(&trio, 4 * BATCH);
    assert_true(staged_of > 4 && staged_already > 0 && staged_already < staged_of);
    same_items(&trio, leader, away);
    trio_close(&trio);
}

struct pruned {
    size_t at;
    ls_index index;
};

static bool log_begins_above(struct trio *trio, void *arg)
{
    const struct pruned *pruned = arg;
    return status_of(trio, pruned->at).log_first > pruned->index;
}

TEST(pruning, S13_happens_by_itself_and_a_member_that_was_away_comes_back)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, 3, syncs);
    trio.options.prune_entries = 200;
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    load(&trio, leader, 1);
    trio_wait_equal(&trio, BATCH);
    trio_stop(&trio, away);
    leader = trio_wait_leader(&trio);
    load(&trio, leader, 5);
    trio_until(&trio, log_begins_above, &(struct pruned){leader, 2 * BATCH});
    trio_until(&trio, log_begins_above, &(struct pruned){3 - leader - away, 2 * BATCH});
    trio_start(&trio, away);
    trio_wait_equal(&trio, 6 * BATCH);
    trio_until(&trio, is_online, &away);
    assert_int_equal(status_of(&trio, away).snapshots_installed, 1);
    same_items(&trio, leader, away);
    trio_close(&trio);
}

TEST(pruning, does_not_happen_by_itself_without_the_snapshot_strategy)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, 3, syncs);
    trio.options.statesyncs_count = 1;
    trio.options.prune_entries = 200;
    size_t leader = trio_up(&trio);
    load(&trio, leader, 4);
    trio_wait_equal(&trio, 4 * BATCH);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(status_of(&trio, i).log_first, 1);
        assert_string_equal(status_of(&trio, i).prune_text, "log kept: no snapshots");
    }
    trio_close(&trio);
}
