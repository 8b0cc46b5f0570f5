/* SPDX-License-Identifier: MIT */
/*
 * Snapshots from end to end: members over the loopback transport, memory stores and vaults. A
 * member whose next entries were pruned everywhere comes back by a snapshot of the others.
 */
#include "trio.h"

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

static bool is_online(struct trio *trio, void *arg)
{
    struct ls_group_status status = trio_status(trio, *(size_t *)arg);
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
    trio_load(trio, leader, batches);
    trio_wait_equal(trio, 0);
    ls_index index = trio_status(trio, leader).core.commit - 450;
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
    trio_load(&trio, leader, 1);
    trio_wait_equal(&trio, TRIO_BATCH);
    leader = leave_behind(&trio, away, 6);
    trio_start(&trio, away);
    trio_wait_equal(&trio, 7 * TRIO_BATCH);
    trio_until(&trio, is_online, &away);
    struct ls_group_status status = trio_status(&trio, away);
    assert_true(status.log_first > 6 * TRIO_BATCH);
    assert_int_equal(status.snapshots_installed, 1);
    assert_true(status.snapshot_index > 6 * TRIO_BATCH);
    assert_true(trio_status(&trio, leader).snapshots_written > 0);
    assert_int_equal(status.sync.failures, 0);
    assert_int_equal(status.sync.penalties, 0);
    assert_int_equal(trio.members[away].tally.published, 2); /* at the start, and by snapshot */
    same_items(&trio, leader, away);
    trio_load(&trio, leader, 1); /* and follows by ordinary appends again */
    trio_wait_equal(&trio, 8 * TRIO_BATCH);
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
    trio_load(&trio, leader, 1);
    leader = leave_behind(&trio, away, 3);
    trio_start(&trio, away);
    trio_wait_equal(&trio, 4 * TRIO_BATCH);
    trio_until(&trio, is_online, &away);
    same_items(&trio, leader, away);
    assert_true(trio_status(&trio, away).log_first > 3 * TRIO_BATCH);
    for (size_t i = 0; i < 3; i++) { /* and each opens again with what is left */
        trio_stop(&trio, i);
        trio_start(&trio, i);
        (void)trio_wait_leader(&trio);
    }
    trio_wait_equal(&trio, 4 * TRIO_BATCH);
    same_items(&trio, leader, away);
    trio_close(&trio);
}

TEST(snapshot, S13_a_member_in_memory_opens_with_its_file_and_the_rest_of_its_log)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, 3, syncs);
    size_t leader = trio_up(&trio);
    trio_load(&trio, leader, 3);
    trio_wait_equal(&trio, 3 * TRIO_BATCH);
    ls_index index = 2 * TRIO_BATCH;
    trio_until(&trio, all_pruned, &index);
    for (size_t i = 0; i < 3; i++) {
        ls_storage_medium_power_cut(trio.members[i].medium);
        ls_vault_medium_power_cut(trio.members[i].vault);
        trio_stop(&trio, i);
    }
    for (size_t i = 0; i < 3; i++) {
        trio_start(&trio, i);
        assert_int_equal(trio.members[i].tally.published, 1);
        assert_true(trio.members[i].tally.count >= 2 * TRIO_BATCH);
    }
    trio_load(&trio, trio_wait_leader(&trio), 1);
    trio_wait_equal(&trio, 4 * TRIO_BATCH);
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
    trio_load(&trio, leader, 2);
    trio_wait_equal(&trio, 2 * TRIO_BATCH);
    leader = leave_behind(&trio, away, 2);
    ls_storage_medium_wipe(trio.members[away].medium);
    trio_start(&trio, away);
    assert_int_equal(trio.members[away].tally.count, 0); /* that state is of another incarnation */
    trio_wait_equal(&trio, 4 * TRIO_BATCH);
    same_items(&trio, leader, away);
    trio_close(&trio);
}

static bool waits(struct trio *trio, void *arg)
{
    struct ls_sync_progress sync = trio_status(trio, *(size_t *)arg).sync;
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
    trio_load(&trio, leader, 1);
    trio_wait_equal(&trio, TRIO_BATCH);
    (void)leave_behind(&trio, away, 3);
    ls_storage_medium_wipe(trio.members[away].medium);
    trio.no_vaults = true;
    trio_start(&trio, away);
    trio_until(&trio, waits, &away);
    trio_stop(&trio, away);
    trio.no_vaults = false;
    trio_start(&trio, away);
    trio_wait_equal(&trio, 4 * TRIO_BATCH);
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
    trio_load(&trio, leader, 1);
    trio_wait_equal(&trio, TRIO_BATCH);
    leader = leave_behind(&trio, away, 3);
    trio_start(&trio, away);
    trio_load(&trio, leader, 2);
    trio_stop(&trio, leader);
    trio_load(&trio, trio_wait_leader(&trio), 2);
    trio_wait_equal(&trio, 8 * TRIO_BATCH);
    same_items(&trio, (leader + 2) % 5, away);
    trio_close(&trio);
}

static bool some_staged(struct trio *trio, void *arg)
{
    const size_t *at = arg;
    struct ls_sync_progress sync = trio_status(trio, *at).sync;
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
    trio_wait_equal(&trio, 4 * TRIO_BATCH);
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
    return trio_status(trio, pruned->at).log_first > pruned->index;
}

TEST(pruning, S13_happens_by_itself_and_a_member_that_was_away_comes_back)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, 3, syncs);
    trio.options.prune_entries = 200;
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    trio_load(&trio, leader, 1);
    trio_wait_equal(&trio, TRIO_BATCH);
    trio_stop(&trio, away);
    leader = trio_wait_leader(&trio);
    trio_load(&trio, leader, 5);
    trio_until(&trio, log_begins_above, &(struct pruned){leader, 2 * TRIO_BATCH});
    trio_until(&trio, log_begins_above, &(struct pruned){3 - leader - away, 2 * TRIO_BATCH});
    trio_start(&trio, away);
    trio_wait_equal(&trio, 6 * TRIO_BATCH);
    trio_until(&trio, is_online, &away);
    assert_int_equal(trio_status(&trio, away).snapshots_installed, 1);
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
    trio_load(&trio, leader, 4);
    trio_wait_equal(&trio, 4 * TRIO_BATCH);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(trio_status(&trio, i).log_first, 1);
        assert_string_equal(trio_status(&trio, i).prune_text, "log kept: no snapshots");
    }
    trio_close(&trio);
}
