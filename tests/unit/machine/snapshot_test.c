/* SPDX-License-Identifier: MIT */
/*
 * Snapshots from end to end: members over the loopback transport, memory stores and vaults. A
 * member whose next entries were pruned everywhere comes back by a snapshot of the others.
 */
#include "trio.h"

#include <stdio.h>

#define BATCH 500u

static struct ls_log_replay_options keep_little = {.size = sizeof keep_little, .keep_entries = 100};

static void open_snapshots(struct trio *trio, size_t count, struct ls_statesync syncs[2])
{
    trio_open(trio, count);
    assert_ok(ls_log_replay(&keep_little, &syncs[0]));
    assert_ok(ls_snapshot_sync(NULL, &syncs[1]));
    trio->options.statesyncs = syncs;
    trio->options.statesyncs_count = 2;
    trio->options.cache_bytes = 16u << 10;
    trio->options.window_bytes = 8u << 10;
    trio->options.snapshot_entries = 300;
    trio->options.lag_entries = 400;
    trio->snapshots = true;
    trio->options.election_ms = 400; /* a busy machine is no reason for an election here */
    trio->options.heartbeat_ms = 30;
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
    assert_int_equal(status.sync.failures, 0);
    assert_int_equal(status.sync.penalties, 0);
    assert_int_equal(trio.members[away].tally.published, 2); /* at the start, and by snapshot */
    same_items(&trio, leader, away);
    load(&trio, leader, 1); /* and follows by ordinary appends again */
    trio_wait_equal(&trio, 8 * BATCH);
    same_items(&trio, leader, away);
    trio_close(&trio);
}
