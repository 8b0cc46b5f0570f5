/* SPDX-License-Identifier: MIT */
/*
 * What members show of a catch-up and of their logs: why it goes this way, every move of it to who
 * waits for that, who or what holds the log, and who does not any more.
 */
#include <stdio.h>

#include "trio.h"

static struct ls_log_replay_options keep_little = {
    .size = sizeof keep_little, .keep_entries = 100, .lease_ms = 1};

static void open_snapshots(struct trio *trio, struct ls_statesync syncs[2])
{
    trio_open(trio, 3);
    assert_ok(ls_log_replay(&keep_little, &syncs[0]));
    assert_ok(ls_snapshot_sync(NULL, &syncs[1]));
    trio->options.statesyncs = syncs;
    trio->options.statesyncs_count = 2;
    trio->options.cache_bytes = 16u << 10;
    trio->options.window_bytes = 8u << 10;
    trio->options.snapshot_entries = 300;
    trio->snapshots = true;
    trio->options.election_ms = 200;
    trio->options.heartbeat_ms = 30;
}

struct sight {
    struct trio *trio;
    size_t at;
    const char *text;
    ls_index above;
};

static bool kept_for(struct trio *trio, void *arg)
{
    const struct sight *sight = arg;
    struct ls_group_status status = trio_status(trio, sight->at);
    return strstr(status.prune_text, sight->text) != NULL && status.prune_safe > sight->above;
}

static bool log_begins_above(struct trio *trio, void *arg)
{
    const struct sight *sight = arg;
    return trio_status(trio, sight->at).log_first > sight->above;
}

TEST(pins, name_the_member_that_holds_the_log_and_the_one_that_was_given_up)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, syncs);
    trio.options.prune_entries = 0;
    size_t leader = trio_up(&trio);
    trio_load(&trio, leader, 1);
    trio_wait_equal(&trio, TRIO_BATCH);
    size_t away = (leader + 1) % 3;
    char text[64];
    (void)snprintf(text, sizeof text, "log kept: member %c at ", "abc"[away]);
    trio_stop(&trio, away);
    trio_load(&trio, leader, 2);
    struct sight sight = {&trio, leader, text, 0};
    trio_until(&trio, kept_for, &sight);
    struct ls_group_pin pins[LS_GROUP_PINS_MAX];
    size_t count = ls_group_pins(trio.members[leader].group, pins, LS_GROUP_PINS_MAX);
    struct ls_group_status status = trio_status(&trio, leader);
    uint64_t members = 0;
    for (size_t i = 0; i < count; i++) {
        members += pins[i].kind == LS_PIN_MEMBER;
        assert_true(pins[i].safe >= status.prune_safe && !pins[i].given_up);
    }
    assert_int_equal(members, 2);
    assert_true(status.log_bytes > 3 * TRIO_BATCH * 40 && status.log_bytes < 3 * TRIO_BATCH * 100);
    size_t other = 3 - leader - away;
    trio_until(&trio, kept_for, &(struct sight){&trio, other, "as the leader says", 0});
    trio_close(&trio);
}

TEST(pins, of_members_that_lag_by_too_many_bytes_are_given_up)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, syncs);
    trio.options.lag_bytes = 16u << 10;
    trio.options.prune_entries = 1u << 30;
    trio.options.prune_bytes = 8u << 10; /* pruned by itself, by bytes alone */
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    trio_load(&trio, leader, 1);
    trio_wait_equal(&trio, TRIO_BATCH);
    trio_stop(&trio, away);
    leader = trio_wait_leader(&trio);
    trio_load(&trio, leader, 4);
    char text[64];
    (void)snprintf(text, sizeof text, "given up: member %c at ", "abc"[away]);
    trio_until(&trio, kept_for, &(struct sight){&trio, leader, text, 2 * TRIO_BATCH});
    trio_until(&trio, log_begins_above, &(struct sight){&trio, leader, "", 2 * TRIO_BATCH});
    trio_start(&trio, away);
    trio_wait_equal(&trio, 5 * TRIO_BATCH);
    trio_close(&trio);
}

/* ---- who waits for the moves of a catch-up ---- */

struct watcher {
    struct ls_group *group;
    uint64_t moves, bonds, done, snapshots;
    uint32_t percent;
    uint64_t generation;
    char choice[LS_SYNC_TEXT_BYTES];
};

static void on_move(void *arg, enum ls_status status)
{
    struct watcher *watcher = arg;
    if (status != LS_OK) {
        return;
    }
    struct ls_group_status now;
    ls_group_status(watcher->group, &now);
    const struct ls_sync_progress *sync = &now.sync;
    watcher->moves++;
    if (sync->generation == watcher->generation) {
        assert_true(sync->percent >= watcher->percent);
    }
    watcher->generation = sync->generation;
    watcher->percent = sync->percent;
    if (sync->strategy != NULL && strcmp(sync->strategy, "snapshot") == 0) {
        watcher->snapshots++;
        memcpy(watcher->choice, sync->choice, sizeof watcher->choice);
    }
    const struct ls_condition moves = {.kind = LS_WHEN_SYNC_MOVES};
    assert_ok(ls_group_when(watcher->group, &moves, on_move, watcher));
}

static void on_bond(void *arg, enum ls_status status)
{
    ((struct watcher *)arg)->bonds += status == LS_OK;
}

static void on_done(void *arg, enum ls_status status)
{
    ((struct watcher *)arg)->done += status == LS_OK;
}

static bool is_done(struct trio *trio, void *arg)
{
    (void)trio;
    return ((const struct watcher *)arg)->done > 0;
}

TEST(status, at_a_glance_is_the_same_but_for_texts_pins_and_state_sync)
{
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    trio_load(&trio, leader, 1);
    trio_wait_equal(&trio, TRIO_BATCH);
    struct ls_group_status status = trio_status(&trio, leader);
    struct ls_group_status glance = {.text = "kept", .prune_text = "kept", .prune_safe = 7};
    ls_group_glance(trio.members[leader].group, &glance);
    assert_true(glance.serving && glance.online && glance.core.role == LS_ROLE_LEADER);
    assert_int_equal(glance.core.progress_count, 2);
    assert_true(glance.core.commit == status.core.commit && glance.core.commit > TRIO_BATCH);
    assert_true(glance.core.applied == status.core.applied && glance.log_first == 1);
    assert_true(glance.proposed == status.proposed && glance.proposed > 0);
    assert_string_equal(glance.name, status.name);
    assert_string_equal(glance.text, "kept");
    assert_string_equal(glance.prune_text, "kept");
    assert_int_equal(glance.prune_safe, 7);
    trio_close(&trio);
}

TEST(moves, of_a_catch_up_reach_who_waits_for_them)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, syncs);
    trio.options.lag_entries = 400;
    trio.options.prune_entries = 100;
    size_t leader = trio_up(&trio);
    size_t away = (leader + 1) % 3;
    trio_load(&trio, leader, 1);
    trio_wait_equal(&trio, TRIO_BATCH);
    trio_stop(&trio, away);
    leader = trio_wait_leader(&trio);
    trio_load(&trio, leader, 5);
    for (size_t i = 0; i < 3; i++) {
        if (i != away) {
            trio_until(&trio, log_begins_above, &(struct sight){&trio, i, "", 2 * TRIO_BATCH});
        }
    }
    trio_start(&trio, away);
    struct watcher watcher = {.group = trio.members[away].group};
    const struct ls_condition moves = {.kind = LS_WHEN_SYNC_MOVES};
    const struct ls_condition done = {.kind = LS_WHEN_SYNC_PHASE, .phase = LS_SYNC_DONE};
    const struct ls_condition bonds = {.kind = LS_WHEN_BONDS_CHANGE};
    assert_ok(ls_group_when(watcher.group, &moves, on_move, &watcher));
    assert_ok(ls_group_when(watcher.group, &done, on_done, &watcher));
    assert_ok(ls_group_when(watcher.group, &bonds, on_bond, &watcher));
    trio_wait_equal(&trio, 6 * TRIO_BATCH);
    trio_until(&trio, is_done, &watcher);
    assert_int_equal(watcher.bonds, 1);
    assert_true(watcher.moves >= 4 && watcher.snapshots >= 2);
    assert_memory_equal(watcher.choice, "snapshot: log pruned to ", 24);
    assert_non_null(strstr(watcher.choice, ", my commit "));
    trio_close(&trio);
}

/* ---- bonds ---- */

static bool says_its_commit(struct trio *trio, void *arg)
{
    const struct sight *sight = arg;
    struct ls_group_bond bonds[LS_MEMBERS_MAX];
    size_t count = ls_group_bonds(trio->members[sight->at].group, bonds, LS_MEMBERS_MAX);
    size_t level = 0;
    size_t leaders = 0;
    for (size_t i = 0; i < count; i++) {
        level += bonds[i].note_us != 0 && bonds[i].note.commit > sight->above &&
                 bonds[i].note.applied > sight->above;
        leaders += bonds[i].note.role == LS_ROLE_LEADER && bonds[i].leader;
    }
    return count == 2 && level == 2 && leaders == 1;
}

TEST(bonds, tell_what_the_peers_say_of_themselves)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_snapshots(&trio, syncs);
    size_t leader = trio_up(&trio);
    trio_load(&trio, leader, 1);
    size_t follower = (leader + 1) % 3; /* it hears of the other follower, too */
    trio_until(&trio, says_its_commit, &(struct sight){&trio, follower, "", TRIO_BATCH});
    trio_close(&trio);
}
