/* SPDX-License-Identifier: MIT */
/*
 * What a user sees of a catch-up: why it goes this way, with the numbers; how far it is, how fast,
 * and how long it will take.
 */
#include <string.h>

#include "supervisor_state.h"
#include "sync_world.h"

#define END  81240u
#define HERE 20001u

static struct ls_snapshot_options settings;

/* All but the last of `nodes` have pruned what the last one needs. */
static struct world *lagging(uint32_t nodes, uint64_t rate_bytes)
{
    static struct ls_statesync syncs[2];
    static struct ls_log_replay_options replay = {.size = sizeof replay, .lease_ms = 1};
    settings = (struct ls_snapshot_options){.size = sizeof settings, .rate_bytes = rate_bytes};
    assert_ok(ls_log_replay(&replay, &syncs[0]));
    assert_ok(ls_snapshot_sync(&settings, &syncs[1]));
    struct world_options options = {.nodes = nodes,
                                    .seed = test_seed(),
                                    .strategies = syncs,
                                    .strategies_count = 2,
                                    .snapshots = true};
    struct world *world = world_open(&options);
    world_write(world, 1, END, 16);
    for (uint32_t i = 0; i + 1 < nodes; i++) {
        world_fill(world, i, END, END);
        world_prune(world, i, END - 6);
    }
    world_fill(world, nodes - 1, HERE, HERE);
    return world;
}

static struct ls_sync_progress until_strategy(struct world *world, const char *name)
{
    for (;;) {
        struct ls_sync_progress now = world_progress(world, world->nodes_count - 1);
        if (now.strategy != NULL && strcmp(now.strategy, name) == 0) {
            return now;
        }
        assert_true(world_step(world, UINT64_MAX));
    }
}

TEST(choice, of_a_snapshot_tells_how_far_the_log_was_pruned_and_where_the_member_stands)
{
    struct world *world = lagging(3, 0);
    world_gap(world, 2, END, 0, 0);
    assert_string_equal(world_progress(world, 2).choice,
                        "log replay: 61 239 entries missing, my commit 20 001");
    assert_string_equal(until_strategy(world, "snapshot").choice,
                        "snapshot: log pruned to 81 234, my commit 20 001");
    world_close(world);
}

TEST(choice, of_log_replay_after_a_snapshot_tells_so_and_is_shown_as_replaying)
{
    struct world *world = lagging(3, 0);
    world_gap(world, 2, END, 0, 0);
    (void)until_strategy(world, "snapshot");
    while (world->nodes[2].publishes == 0) {
        assert_true(world_step(world, UINT64_MAX));
    }
    world_write(world, 1, 100, 16);
    for (uint32_t i = 0; i < 2; i++) {
        world_fill(world, i, END + 101, END + 101);
    }
    world_gap(world, 2, END + 101, 0, 0);
    struct ls_sync_progress now = until_strategy(world, "log replay");
    assert_string_equal(now.choice, "log replay: 100 entries after the snapshot at 81 241");
    bool replaying = false;
    while (now.phase != LS_SYNC_DONE) {
        assert_true(now.phase != LS_SYNC_FETCHING);
        replaying = replaying || now.phase == LS_SYNC_REPLAYING;
        assert_true(world_step(world, UINT64_MAX));
        now = world_progress(world, 2);
    }
    assert_true(replaying);
    assert_int_equal(world->nodes[2].commit, END + 101);
    world_close(world);
}

TEST(choice, after_three_failures_tells_what_failed)
{
    struct world *world = lagging(3, 0);
    world_gap(world, 2, END, 0, 0);
    (void)until_strategy(world, "snapshot");
    while (strcmp(world_progress(world, 2).strategy, "snapshot") == 0) {
        world->nodes[2].refuse_put = LS_ERR_IO;
        assert_true(world_step(world, UINT64_MAX));
    }
    assert_string_equal(world_progress(world, 2).choice,
                        "log replay: snapshot failed 3 times, last: a chunk could not be staged");
    world_close(world);
}

TEST(choice, after_a_wait_tells_for_what)
{
    struct world *world = lagging(3, 0);
    for (uint32_t i = 0; i < 2; i++) {
        world->nodes[i].first = 1; /* the log is there, but far behind the target */
        world->nodes[i].commit = world->nodes[i].durable = HERE;
    }
    world_gap(world, 2, END, 0, 0);
    assert_string_equal(until_strategy(world, "snapshot").choice,
                        "snapshot: log replay waited 10 s: no peer holds the next entry");
    world_close(world);
}

/* The pace of a snapshot that is served at a known rate, and the time that is left. */
TEST(progress, of_a_snapshot_never_goes_back_and_its_estimate_comes_true)
{
    struct world *world = lagging(2, 512u << 10);
    world_gap(world, 1, END, 0, 0);
    struct ls_sync_progress before = until_strategy(world, "snapshot");
    uint64_t end_us = 0;
    uint64_t estimates = 0;
    uint64_t wrong = 0;
    uint64_t promised[4096][2];
    struct ls_sync_progress now = before;
    for (;;) {
        assert_true(world_step(world, UINT64_MAX));
        now = world_progress(world, 1);
        if (now.generation != before.generation || before.phase == LS_SYNC_DONE) {
            break; /* log replay follows */
        }
        assert_true(now.percent >= before.percent && now.items >= before.items);
        assert_true(now.bytes >= before.bytes && now.bytes_total >= before.bytes_total);
        assert_true(now.percent < 100 || now.phase == LS_SYNC_DONE);
        assert_true(now.items > 0 || now.left_ms == UINT64_MAX);
        if (now.phase == LS_SYNC_FETCHING && now.left_ms != UINT64_MAX && estimates < 4096 &&
            now.percent > 40) {
            promised[estimates][0] = world->now_us;
            promised[estimates++][1] = world->now_us + 1000u * now.left_ms;
        }
        before = now;
        end_us = world->now_us;
    }
    assert_int_equal(before.bytes, before.bytes_total);
    assert_int_equal(before.items, before.items_total);
    assert_true(before.bytes_per_s > 0 && estimates > 10);
    for (uint64_t i = 0; i < estimates; i++) { /* off by less than half, nearly always */
        uint64_t left = end_us - promised[i][0];
        uint64_t off = promised[i][1] > end_us ? promised[i][1] - end_us : end_us - promised[i][1];
        wrong += off > left / 2 + SECOND;
    }
    assert_true(wrong * 10 < estimates);
    world_close(world);
}

/* Seven chunks of two seconds each, four of which are asked for at once. */
TEST(snapshot, arrives_over_a_link_that_is_slower_than_the_timeout_for_what_is_asked_at_once)
{
    struct world *world = lagging(2, 128u << 10);
    world_gap(world, 1, END, 0, 0);
    assert_true(world_reaches(world, 1, END, 30 * SECOND));
    assert_int_equal(world->nodes[1].put_bytes, world->nodes[0].chunk_bytes_sent);
    world_close(world);
}

TEST(watchdog, does_not_end_an_install_that_waits_for_its_disk_and_ends_one_that_stands_still)
{
    struct world *world = lagging(2, 0);
    world->disk_us = 1000 * SECOND;
    world_gap(world, 1, END, 0, 0);
    while (world->nodes[1].publishes == 0) {
        assert_true(world_step(world, UINT64_MAX));
    }
    world->nodes[1].install = (struct ls_sync_install){5, 10, NULL};
    uint64_t generation = world_progress(world, 1).generation;
    for (uint32_t i = 5; i < 10; i++) { /* slow, but it moves */
        world->nodes[1].install.chunks = i;
        world_run(world, 100 * SECOND);
        ls_supervisor_committed(world->nodes[1].supervisor, 1);
        world_poll(world, 1);
        assert_int_equal(world_progress(world, 1).phase, LS_SYNC_INSTALLING);
        assert_in_range(world_progress(world, 1).percent, 90, 99);
    }
    world->nodes[1].install = (struct ls_sync_install){10, 10, "the disk"};
    world_run(world, 300 * SECOND);
    assert_int_equal(world_progress(world, 1).generation, generation);
    assert_string_equal(world_progress(world, 1).reason, "the disk");
    world->nodes[1].install.waits = NULL;
    world_run(world, 150 * SECOND);
    assert_int_equal(world_progress(world, 1).failures, 1);
    world_close(world);
}
