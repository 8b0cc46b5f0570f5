/* SPDX-License-Identifier: MIT */
/*
 * Catch-up from end to end (journey C): members over the loopback transport and the memory store,
 * whose leader keeps so little in its cache that a member which was away needs state sync.
 */
#include "trio.h"

#include <event2/event.h>

static void open_small_cache(struct trio *trio, size_t count)
{
    trio_open(trio, count);
    trio->options.cache_bytes = 16u << 10;
    trio->options.window_bytes = 8u << 10;
}

struct place {
    size_t at;
    uint64_t count;
};

static bool has_applied(struct trio *trio, void *arg)
{
    const struct place *place = arg;
    return trio->members[place->at].tally.count >= place->count;
}

static bool is_online(struct trio *trio, void *arg)
{
    struct ls_group_status status = trio_status(trio, *(size_t *)arg);
    return status.online && status.sync.phase != LS_SYNC_FETCHING;
}

TEST(catchup, a_member_beyond_the_cache_comes_back_by_log_replay)
{
    struct trio trio;
    open_small_cache(&trio, 3);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    trio_load(&trio, leader, 1);
    trio_wait_equal(&trio, TRIO_BATCH);
    trio_stop(&trio, away);
    trio_load(&trio, leader, 10);
    trio_start(&trio, away);
    trio_wait_equal(&trio, 11 * TRIO_BATCH);
    trio_until(&trio, is_online, &away);
    struct ls_sync_progress sync = trio_status(&trio, away).sync;
    assert_string_equal(sync.strategy, "log replay");
    assert_int_equal(sync.phase, LS_SYNC_DONE);
    assert_int_equal(sync.percent, 100);
    assert_int_equal(sync.failures, 0);
    assert_int_equal(sync.penalties, 0);
    assert_true(sync.items > 4 * TRIO_BATCH);
    trio_load(&trio, leader, 1); /* and follows by ordinary appends again */
    trio_wait_equal(&trio, 12 * TRIO_BATCH);
    trio_close(&trio);
}

TEST(catchup, the_leader_alone_serves_when_nobody_else_is_there)
{
    struct trio trio;
    open_small_cache(&trio, 3);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    trio_stop(&trio, away);
    trio_load(&trio, leader, 10);
    trio_start(&trio, away);
    trio_stop(&trio, (leader + 2) % 3);
    trio_wait_equal(&trio, 10 * TRIO_BATCH);
    trio_close(&trio);
}

TEST(catchup, goes_on_while_the_group_is_under_load)
{
    struct trio trio;
    open_small_cache(&trio, 3);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    trio_stop(&trio, away);
    trio_load(&trio, leader, 6);
    trio_start(&trio, away);
    trio_load(&trio, leader, 10);
    trio_wait_equal(&trio, 16 * TRIO_BATCH);
    trio_load(&trio, leader, 2);
    trio_wait_equal(&trio, 18 * TRIO_BATCH);
    assert_int_equal(trio_status(&trio, away).sync.failures, 0);
    trio_close(&trio);
}

TEST(catchup, goes_on_when_the_serving_member_closes)
{
    struct trio trio;
    open_small_cache(&trio, 5);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 5;
    trio_stop(&trio, away);
    trio_load(&trio, leader, 30);
    trio_start(&trio, away);
    struct place place = {away, 1};
    trio_until(&trio, has_applied, &place);
    trio_stop(&trio, (leader + 2) % 5);
    trio_stop(&trio, (leader + 3) % 5);
    trio_wait_equal(&trio, 30 * TRIO_BATCH);
    trio_close(&trio);
}

TEST(catchup, goes_on_when_the_leader_closes)
{
    struct trio trio;
    open_small_cache(&trio, 5);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 5;
    trio_stop(&trio, away);
    trio_load(&trio, leader, 30);
    trio_start(&trio, away);
    struct place place = {away, 1};
    trio_until(&trio, has_applied, &place);
    trio_stop(&trio, leader);
    (void)trio_wait_leader(&trio);
    trio_wait_equal(&trio, 30 * TRIO_BATCH);
    trio_close(&trio);
}

TEST(catchup, a_wiped_member_gets_the_whole_log)
{
    struct trio trio;
    open_small_cache(&trio, 3);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    trio_load(&trio, leader, 10);
    trio_stop(&trio, away);
    ls_storage_medium_wipe(trio.members[away].medium);
    trio_start(&trio, away);
    trio_wait_equal(&trio, 10 * TRIO_BATCH);
    assert_true(trio_status(&trio, away).text[0] != '\0');
    trio_close(&trio);
}

/* Its commit index is not known, so that more entries are there already than installs may be under
 * way: each must end without a write of its own. */
TEST(catchup, entries_that_are_there_already_hold_nothing_up)
{
    struct trio trio;
    struct ls_log_replay_options replay = {.size = sizeof replay, .entries_max = 10};
    struct ls_statesync sync;
    assert_ok(ls_log_replay(&replay, &sync));
    open_small_cache(&trio, 3);
    trio.options.statesyncs = &sync;
    trio.options.statesyncs_count = 1;
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    trio_load(&trio, leader, 4);
    trio_wait_equal(&trio, 4 * TRIO_BATCH);
    struct ls_group_id id = trio_status(&trio, away).id;
    trio_stop(&trio, away);
    assert_true(ls_storage_medium_drop(trio.members[away].medium, &id, LS_STORAGE_COMMIT, 0));
    trio_load(&trio, leader, 4);
    trio_start(&trio, away);
    trio_wait_equal(&trio, 8 * TRIO_BATCH);
    trio_until(&trio, is_online, &away);
    assert_int_equal(trio_status(&trio, away).sync.failures, 0);
    trio_close(&trio);
}

TEST(catchup, many_returns_leave_all_members_equal)
{
    struct trio trio;
    open_small_cache(&trio, 3);
    size_t leader = trio_up(&trio);
    uint64_t count = 0;
    for (size_t round = 0; round < 6; round++) {
        size_t away = (leader + 1 + round % 2) % 3;
        trio_stop(&trio, away);
        leader = trio_wait_leader(&trio);
        trio_load(&trio, leader, 3);
        count += 3 * TRIO_BATCH;
        trio_start(&trio, away);
        trio_wait_equal(&trio, count);
    }
    trio_close(&trio);
}

TEST(catchup, from_stores_on_disk)
{
    struct trio trio;
    open_small_cache(&trio, 3);
    trio.disk = true;
    trio.options.election_ms = 300; /* disks are slower than memory */
    trio.options.heartbeat_ms = 50;
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    trio_load(&trio, leader, 1);
    trio_stop(&trio, away);
    trio_load(&trio, leader, 4);
    trio_start(&trio, away);
    trio_wait_equal(&trio, 5 * TRIO_BATCH);
    trio_until(&trio, is_online, &away);
    assert_string_equal(trio_status(&trio, away).sync.strategy, "log replay");
    trio_close(&trio);
}

/* ---- pruning ---- */

static struct ls_log_replay_options keep_little = {.size = sizeof keep_little, .keep_entries = 700};

static void open_pruning(struct trio *trio, struct ls_statesync *sync)
{
    open_small_cache(trio, 3);
    assert_ok(ls_log_replay(&keep_little, sync));
    trio->options.statesyncs = sync;
    trio->options.statesyncs_count = 1;
    trio->durable = true;
}

static ls_index prune_all(const struct trio *trio, size_t at)
{
    ls_index pruned = 0;
    assert_ok(ls_group_prune(trio->members[at].group, UINT64_MAX, &pruned));
    assert_int_equal(trio_status(trio, at).log_first, pruned + 1);
    return pruned;
}

static bool all_acknowledged(struct trio *trio, void *arg)
{
    const ls_index *index = arg;
    for (size_t i = 0; i < trio->count; i++) {
        if (trio->members[i].node != NULL && trio_status(trio, i).prune_safe < *index) {
            return false;
        }
    }
    return true;
}

TEST(catchup, a_pruned_log_still_brings_back_who_was_away_for_a_short_time)
{
    struct trio trio;
    struct ls_statesync sync;
    open_pruning(&trio, &sync);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    trio_load(&trio, leader, 6);
    trio_wait_equal(&trio, 6 * TRIO_BATCH);
    ls_index safe = 5 * TRIO_BATCH - 200;
    trio_until(&trio, all_acknowledged, &safe);
    trio_stop(&trio, away);
    assert_true(prune_all(&trio, leader) >= safe);
    assert_true(prune_all(&trio, (leader + 2) % 3) >= safe);
    trio_load(&trio, leader, 1);
    trio_start(&trio, away);
    trio_wait_equal(&trio, 7 * TRIO_BATCH);
    trio_until(&trio, is_online, &away);
    assert_string_equal(trio_status(&trio, away).sync.strategy, "log replay");
    for (size_t i = 0; i < 3; i++) { /* and each opens again with what is left */
        trio_stop(&trio, i);
        trio_start(&trio, i);
        (void)trio_wait_leader(&trio);
    }
    trio_load(&trio, trio_wait_leader(&trio), 1);
    trio_wait_equal(&trio, 8 * TRIO_BATCH);
    trio_close(&trio);
}

TEST(catchup, a_member_that_is_away_keeps_the_log_it_needs)
{
    struct trio trio;
    struct ls_statesync sync;
    open_pruning(&trio, &sync);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    trio_load(&trio, leader, 2);
    trio_wait_equal(&trio, 2 * TRIO_BATCH);
    trio_stop(&trio, away);
    trio_load(&trio, leader, 8);
    trio_wait_equal(&trio, 10 * TRIO_BATCH);
    assert_true(prune_all(&trio, leader) <= 2 * TRIO_BATCH + 2);
    assert_true(prune_all(&trio, (leader + 2) % 3) <= 2 * TRIO_BATCH + 2);
    trio_start(&trio, away);
    trio_wait_equal(&trio, 10 * TRIO_BATCH);
    trio_close(&trio);
}

static bool waits_for_entries(struct trio *trio, void *arg)
{
    struct ls_sync_progress sync = trio_status(trio, *(size_t *)arg).sync;
    return sync.phase == LS_SYNC_WAITING &&
           strcmp(sync.reason, "no peer holds the next entry") == 0;
}

TEST(catchup, a_member_whose_entries_are_gone_everywhere_says_what_it_waits_for)
{
    struct trio trio;
    struct ls_statesync sync;
    open_pruning(&trio, &sync);
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    trio_load(&trio, leader, 6);
    trio_wait_equal(&trio, 6 * TRIO_BATCH);
    ls_index safe = 5 * TRIO_BATCH - 200;
    trio_until(&trio, all_acknowledged, &safe);
    trio_stop(&trio, away);
    (void)prune_all(&trio, leader);
    (void)prune_all(&trio, (leader + 2) % 3);
    ls_storage_medium_wipe(trio.members[away].medium);
    trio.members[away].tally = (struct tally){0};
    trio_start(&trio, away);
    trio_until(&trio, waits_for_entries, &away);
    assert_int_equal(trio_status(&trio, away).sync.failures, 0);
    assert_int_equal(trio_execute(&trio, leader, "the others go on").status, LS_OK);
    trio_close(&trio);
}
