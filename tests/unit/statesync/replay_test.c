/* SPDX-License-Identifier: MIT */
/* Log replay from end to end: members of a small world with real supervisors on both sides. */
#include "sync_world.h"

#include <stdlib.h>

#include "log_replay.h"

/* Leader 0 and follower 1 hold all, node 2 lags. */
static struct world *lagging(const struct ls_log_replay_options *replay, ls_index gap,
                             uint64_t seed)
{
    struct world_options options = {.nodes = 3, .seed = seed};
    if (replay != NULL) {
        options.replay = *replay;
    }
    struct world *world = world_open(&options);
    world_write(world, 1, 5, 40);
    world_write(world, 1, gap, 40);
    world_fill(world, 0, gap + 5, gap + 5);
    world_fill(world, 1, gap + 5, gap + 5);
    world_fill(world, 2, 5, 5);
    return world;
}

static void catches_up(struct world *world, uint32_t node, ls_index index)
{
    assert_true(world_reaches(world, node, index, 60 * SECOND));
    world_check(world, node);
}

TEST(replay, closes_every_gap_with_every_size_of_range)
{
    static const ls_index gaps[] = {1, 10, 1000, 10000};
    static const uint32_t batches[] = {1, 3, 7, 20, 100, 999, 1000, 1001};
    uint64_t seed = test_seed();
    for (size_t g = 0; g < sizeof gaps / sizeof gaps[0]; g++) {
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
            struct ls_log_replay_options replay = {.entries_max = batches[b]};
            struct world *world = lagging(&replay, gaps[g], seed + g * 10 + b);
            world_gap(world, 2, gaps[g] + 5, 0, 0);
            catches_up(world, 2, gaps[g] + 5);
            assert_int_equal(world->nodes[2].appended, gaps[g]); /* Y12: nothing twice */
            assert_int_equal(world->nodes[0].fetches, 0);        /* the leader is asked last */
            struct ls_sync_progress progress = world_progress(world, 2);
            assert_int_equal(progress.phase, LS_SYNC_DONE);
            assert_int_equal(progress.percent, 100);
            assert_int_equal(progress.items, gaps[g]);
            assert_int_equal(progress.penalties, 0);
            world_close(world);
        }
    }
}

TEST(replay, asks_nothing_when_nothing_is_missing)
{
    struct world *world = lagging(NULL, 100, test_seed());
    world_gap(world, 2, 5, 0, 0);
    world_run(world, 30 * SECOND);
    assert_int_equal(world->nodes[0].questions + world->nodes[1].questions, 0);
    assert_int_equal(world->nodes[2].syncing_changes, 0);
    assert_int_equal(world_progress(world, 2).phase, LS_SYNC_IDLE);
    world_close(world);
}

TEST(replay, keeps_what_matches_and_truncates_only_a_conflict_above_commit)
{
    struct world_options options = {.nodes = 3, .seed = test_seed()};
    struct world *world = world_open(&options);
    world_write(world, 1, 20, 16);
    world_write(world, 3, 500, 16);
    world->term = 3;
    world_fill(world, 0, 520, 520);
    world_fill(world, 1, 520, 520);
    world_fill(world, 2, 15, 10);  /* 11 to 15 match ... */
    world_diverge(world, 2, 2, 8); /* ... 16 to 23 were lost with the leader of term 2 */
    world_gap(world, 2, 520, 0, 0);
    catches_up(world, 2, 520);
    assert_int_equal(world->nodes[2].appended, 505);
    world_close(world);
}

TEST(replay, uses_the_leader_when_nobody_else_is_there)
{
    struct world *world = lagging(NULL, 5000, test_seed());
    world_up(world, 1, false);
    world_gap(world, 2, 5005, 0, 0);
    catches_up(world, 2, 5005);
    assert_int_equal(world->nodes[0].fetches, 3);
    world_close(world);
}

TEST(replay, asks_the_leader_only_for_what_nobody_else_holds)
{
    struct ls_log_replay_options replay = {.entries_max = 100};
    struct world *world = lagging(&replay, 1000, test_seed());
    world->nodes[1].commit = 605; /* the follower knows less to be committed */
    world->nodes[1].applied = 605;
    world_gap(world, 2, 1005, 0, 0);
    catches_up(world, 2, 1005);
    assert_int_equal(world->nodes[1].fetches, 6);
    assert_int_equal(world->nodes[0].fetches, 4);
    world_close(world);
}

TEST(replay, spreads_over_all_followers)
{
    struct world_options options = {.nodes = 5, .seed = test_seed(), .replay = {.entries_max = 50}};
    struct world *world = world_open(&options);
    world_write(world, 1, 2000, 16);
    for (uint32_t i = 0; i < 4; i++) {
        world_fill(world, i, 2000, 2000);
    }
    world_gap(world, 4, 2000, 0, 0);
    catches_up(world, 4, 2000);
    assert_int_equal(world->nodes[0].fetches, 0);
    for (uint32_t i = 1; i < 4; i++) {
        assert_in_range(world->nodes[i].fetches, 5, 30);
    }
    world_close(world);
}

TEST(replay, goes_on_when_the_source_dies_in_the_middle)
{
    struct ls_log_replay_options replay = {.entries_max = 100};
    struct world *world = lagging(&replay, 10000, test_seed());
    world_gap(world, 2, 10005, 0, 0);
    while (world->nodes[2].commit < 3000) {
        assert_true(world_step(world, UINT64_MAX));
    }
    world_up(world, 1, false);
    catches_up(world, 2, 10005);
    assert_int_equal(world->nodes[2].appended, 10000);
    assert_true(world->nodes[0].fetches > 50);
    world_close(world);
}

TEST(replay, moves_a_range_from_a_silent_source_to_another)
{
    struct ls_log_replay_options replay = {.entries_max = 100, .timeout_ms = 500};
    struct world *world = lagging(&replay, 3000, test_seed());
    world_gap(world, 2, 3005, 0, 0);
    while (world->nodes[2].commit < 1000) {
        assert_true(world_step(world, UINT64_MAX));
    }
    world->latency_min_us = world->latency_max_us = 10 * SECOND; /* what is sent now is late */
    world_run(world, 300000);
    world->latency_min_us = world->latency_max_us = 200;
    catches_up(world, 2, 3005);
    assert_int_equal(world->nodes[2].appended, 3000);
    assert_int_equal(world_progress(world, 2).penalties, 0); /* late is not wrong */
    world_close(world);
}

TEST(replay, asks_again_at_once_over_a_link_that_was_replaced)
{
    struct ls_log_replay_options replay = {.entries_max = 100};
    struct world *world = lagging(&replay, 3000, test_seed());
    world_gap(world, 2, 3005, 0, 0);
    while (world->nodes[2].commit < 1000) {
        assert_true(world_step(world, UINT64_MAX));
    }
    while (world->messages != NULL) { /* lost with the old link, whose end nobody noticed */
        struct world_message *message = world->messages;
        world->messages = message->next;
        free(message);
    }
    ls_supervisor_peer(world->nodes[2].supervisor, &world->nodes[1].id, true);
    world_poll(world, 2);
    assert_true(world_reaches(world, 2, 3005, 2 * SECOND));
    world_check(world, 2);
    world_close(world);
}

TEST(replay, survives_the_death_of_the_leader)
{
    struct ls_log_replay_options replay = {.entries_max = 100};
    struct world *world = lagging(&replay, 5000, test_seed());
    world_gap(world, 2, 5005, 0, 0);
    while (world->nodes[2].commit < 1000) {
        assert_true(world_step(world, UINT64_MAX));
    }
    world_up(world, 0, false);
    world->leader = 1;
    world->nodes[0].leads = false;
    world->nodes[1].leads = true;
    world->term = 2;
    ls_supervisor_term(world->nodes[2].supervisor, 2);
    catches_up(world, 2, 5005); /* the new leader serves, as nobody else can */
    world_close(world);
}

TEST(replay, waits_while_all_peers_are_gone_and_goes_on_when_they_are_back)
{
    struct ls_log_replay_options replay = {.entries_max = 100};
    struct world *world = lagging(&replay, 5000, test_seed());
    world_gap(world, 2, 5005, 0, 0);
    while (world->nodes[2].commit < 1000) {
        assert_true(world_step(world, UINT64_MAX));
    }
    world_bond(world, 2, 0, false);
    world_bond(world, 2, 1, false);
    uint64_t polls = world->nodes[2].polls;
    world_run(world, 600 * SECOND);
    struct ls_sync_progress progress = world_progress(world, 2);
    assert_int_equal(progress.phase, LS_SYNC_WAITING);
    assert_string_equal(progress.reason, "no peer is bonded");
    assert_int_equal(progress.failures, 0);
    assert_true(world->nodes[2].polls - polls < 60); /* Y16 */
    world_bond(world, 2, 1, true);
    catches_up(world, 2, 5005);
    world_close(world);
}

TEST(replay, begins_when_the_first_peer_is_bonded)
{
    struct world *world = lagging(NULL, 100, test_seed());
    world_bond(world, 2, 0, false);
    world_bond(world, 2, 1, false);
    world_gap(world, 2, 105, 0, 0);
    world_run(world, 20 * SECOND);
    struct ls_sync_progress progress = world_progress(world, 2);
    assert_int_equal(progress.phase, LS_SYNC_WAITING);
    assert_string_equal(progress.reason, "no peer is bonded");
    world_bond(world, 2, 1, true);
    assert_true(world_reaches(world, 2, 105, SECOND));
    world_close(world);
}

TEST(replay, asks_a_peer_that_is_bonded_in_the_middle)
{
    struct ls_log_replay_options replay = {.entries_max = 50};
    struct world *world = lagging(&replay, 10000, test_seed());
    world_bond(world, 2, 1, false);
    world_gap(world, 2, 10005, 0, 0);
    while (world->nodes[2].commit < 1000) {
        assert_true(world_step(world, UINT64_MAX));
    }
    world_bond(world, 2, 1, true);
    uint64_t by_leader = world->nodes[0].fetches;
    catches_up(world, 2, 10005);
    assert_true(world->nodes[1].fetches > 100);
    assert_true(world->nodes[0].fetches - by_leader < 10);
    world_close(world);
}

TEST(replay, waits_for_peers_that_hold_nothing_without_a_hot_loop)
{
    struct world *world = lagging(NULL, 100, test_seed());
    world_prune(world, 0, 50);
    world_prune(world, 1, 50);
    world_gap(world, 2, 105, 0, 0);
    world_run(world, 3600 * SECOND);
    struct ls_sync_progress progress = world_progress(world, 2);
    assert_int_equal(progress.phase, LS_SYNC_WAITING);
    assert_string_equal(progress.reason, "no peer holds the next entry");
    assert_int_equal(progress.failures, 0);
    assert_true(world->nodes[2].polls < 3 * 3600); /* Y16: at most every two seconds a peer */
    world->nodes[1].first = 1;                     /* Y6: a peer that has it comes back */
    assert_true(world_reaches(world, 2, 105, 10 * SECOND));
    world_close(world);
}

/* What would follow a hole is of no use: whoever has the hole too may be on the way, or nobody. */
TEST(replay, fetches_nothing_while_nobody_holds_the_entry_that_comes_next)
{
    struct world *world = lagging(NULL, 5000, test_seed());
    world->nodes[0].first = 1000;
    world->nodes[1].first = 3000;
    world_gap(world, 2, 5005, 0, 0);
    world_run(world, 5 * SECOND);
    assert_true(world->nodes[1].questions > 0);
    assert_int_equal(world->nodes[0].fetches + world->nodes[1].fetches, 0);
    world->nodes[0].first = 1;
    catches_up(world, 2, 5005);
    assert_true(world->nodes[1].fetches > 0);
    world_close(world);
}

TEST(replay, follows_a_target_that_moves_a_hundred_times)
{
    struct ls_log_replay_options replay = {.entries_max = 100};
    struct world *world = lagging(&replay, 2000, test_seed());
    ls_index end = 2005;
    world_gap(world, 2, end, 0, 0);
    for (int i = 0; i < 100; i++) {
        world_write(world, 1, 50, 16);
        end += 50;
        world_fill(world, 0, end, end);
        world_fill(world, 1, end, end);
        world_run(world, world_random(world, 3000));
        world_gap(world, 2, end, end - 1, 1);
    }
    catches_up(world, 2, end);
    assert_int_equal(world->nodes[2].appended, end - 5);
    world_close(world);
}

TEST(replay, finds_another_source_when_one_prunes_in_the_middle)
{
    struct ls_log_replay_options replay = {.entries_max = 100};
    struct world *world = lagging(&replay, 5000, test_seed());
    world_gap(world, 2, 5005, 0, 0);
    while (world->nodes[2].commit < 1000) {
        assert_true(world_step(world, UINT64_MAX));
    }
    world_prune(world, 1, 4000); /* past its lease: a test of the race, not of the rule */
    catches_up(world, 2, 5005);
    assert_int_equal(world_progress(world, 2).penalties, 0);
    assert_true(world->nodes[1].fetches > 15);
    world_close(world);
}

/* S7 */
TEST(replay, a_served_session_pins_the_log_until_its_lease_ends)
{
    struct ls_log_replay_options replay = {
        .entries_max = 100, .lease_ms = 3000, .keep_entries = 10};
    struct world *world = lagging(&replay, 1000, test_seed());
    assert_int_equal(ls_supervisor_safe_to_prune(world->nodes[1].supervisor), 995);
    world->nodes[2].hold_disk = true;
    world_gap(world, 2, 1005, 0, 0);
    world_run(world, SECOND);
    ls_index safe = ls_supervisor_safe_to_prune(world->nodes[1].supervisor);
    assert_in_range(safe, 5, 905);
    world->nodes[2].hold_disk = false;
    catches_up(world, 2, 1005);
    world_run(world, 4 * SECOND);
    assert_int_equal(ls_supervisor_safe_to_prune(world->nodes[1].supervisor), 995);
    world_close(world);
}

TEST(replay, bounds_its_memory_while_the_disk_stalls)
{
    struct ls_log_replay_options replay = {
        .entries_max = 100, .buffer_bytes_max = 256u << 10, .bytes_max = 16u << 10};
    struct world *world = lagging(&replay, 50000, test_seed());
    world->nodes[2].hold_disk = true;
    uint64_t before = world->bytes_live;
    world->bytes_peak = before;
    world_gap(world, 2, 50005, 0, 0);
    world_run(world, 60 * SECOND);
    /* buffer, decoding values of the session, and the provider's buffers of both sources */
    assert_true(world->bytes_peak - before < (256u << 10) + (1u << 20));
    world->nodes[2].hold_disk = false;
    catches_up(world, 2, 50005);
    world_close(world);
}

TEST(replay, a_source_with_a_full_queue_answers_later)
{
    struct ls_log_replay_options replay = {.entries_max = 100, .window = 4};
    struct world *world = lagging(&replay, 5000, test_seed());
    world->nodes[1].queue_bytes_max = 1000; /* one answer at a time */
    world->nodes[0].up = true;
    world_gap(world, 2, 5005, 0, 0);
    catches_up(world, 2, 5005);
    assert_int_equal(world->nodes[0].fetches, 0);
    world_close(world);
}

TEST(replay, ends_one_attempt_and_begins_the_next_when_the_log_refuses_entries)
{
    struct world *world = lagging(NULL, 100, test_seed());
    world->nodes[2].refuse_install = LS_ERR_NO_MEMORY;
    world_gap(world, 2, 105, 0, 0);
    world_run(world, SECOND);
    struct ls_sync_progress progress = world_progress(world, 2);
    assert_int_equal(progress.phase, LS_SYNC_BACKING_OFF);
    assert_string_equal(progress.reason, "the log refused the fetched entries");
    assert_in_range(progress.wait_us, 3 * SECOND, 5 * SECOND);
    assert_int_equal(progress.failures, 1);
    catches_up(world, 2, 105);
    assert_int_equal(world_progress(world, 2).failures, 0);
    world_close(world);
}

TEST(replay, survives_the_refusal_of_each_allocation)
{
    uint64_t seed = test_seed();
    uint64_t refused = 0;
    for (uint64_t k = 1;; k++) {
        struct ls_log_replay_options replay = {.entries_max = 100};
        struct world *world = lagging(&replay, 1000, seed);
        world->refuse_at = world->allocations + k;
        world_gap(world, 2, 1005, 900, 50);
        catches_up(world, 2, 1005);
        refused += world->refused;
        bool last = world->refused == 0;
        world_close(world);
        if (last) {
            break;
        }
    }
    assert_in_range(refused, 5, 500);
}

TEST(replay, over_a_network_that_loses_repeats_and_breaks)
{
    for (int round = 0; round < 40; round++) {
        struct world_options options = {.nodes = 4,
                                        .seed = test_seed() + (uint64_t)round,
                                        .replay = {.entries_max = 64, .timeout_ms = 200}};
        struct world *world = world_open(&options);
        world_write(world, 1, 500, 32);
        world_write(world, 2, 1500, 32);
        world->term = 2;
        for (uint32_t i = 0; i < 3; i++) {
            world_fill(world, i, 2000, 2000);
        }
        world_fill(world, 3, world_random(world, 600), 0);
        world_gap(world, 3, 2000, 0, 0);
        for (int i = 0; i < 30; i++) {
            uint32_t other = (uint32_t)world_random(world, 3);
            world_bond(world, 3, other, world_random(world, 2) == 0);
            world->latency_max_us = 400 + world_random(world, 300000);
            world_run(world, world_random(world, 300000));
        }
        for (uint32_t i = 0; i < 3; i++) {
            world_bond(world, 3, i, true);
        }
        world->latency_max_us = 400;
        catches_up(world, 3, 2000);
        assert_int_equal(world_progress(world, 3).penalties, 0);
        world_close(world);
    }
}

/* Every tenth message is lost, every tenth arrives twice. */
static enum world_fate lossy(struct world *world, const struct world_message *message, void *arg)
{
    (void)message;
    (void)arg;
    uint64_t die = world_random(world, 10);
    return die == 0 ? WORLD_DROP : die == 1 ? WORLD_TWICE : WORLD_DELIVER;
}

TEST(replay, tells_late_and_repeated_answers_from_wrong_ones)
{
    struct ls_log_replay_options replay = {.entries_max = 64, .timeout_ms = 100};
    struct world *world = lagging(&replay, 3000, test_seed());
    world->intercept = lossy;
    world_gap(world, 2, 3005, 0, 0);
    catches_up(world, 2, 3005);
    assert_int_equal(world_progress(world, 2).penalties, 0);
    assert_int_equal(world->nodes[2].appended, 3000);
    world_close(world);
}

TEST(replay, shows_progress_that_never_goes_back)
{
    struct ls_log_replay_options replay = {.entries_max = 50};
    struct world *world = lagging(&replay, 5000, test_seed());
    struct ls_sync_progress before = {.generation = 0};
    world_gap(world, 2, 4005, 0, 0);
    bool moved = false;
    for (;;) {
        struct ls_sync_progress now = world_progress(world, 2);
        assert_true(now.percent >= before.percent && now.at >= before.at);
        assert_true(now.items >= before.items && now.target >= before.target);
        assert_true(now.percent < 100 || now.phase == LS_SYNC_DONE);
        assert_true(now.items > 0 || now.left_ms == UINT64_MAX || now.phase == LS_SYNC_DONE);
        before = now;
        if (now.phase == LS_SYNC_DONE) {
            break;
        }
        if (!moved && now.percent >= 50) {
            world_gap(world, 2, 5005, 0, 0);
            moved = true;
        }
        assert_true(world_step(world, UINT64_MAX));
    }
    assert_true(moved && before.items_per_s > 1000 && before.bytes > 5000);
    assert_string_equal(before.strategy, "log replay");
    world_close(world);
}

/* A range of a megabyte takes ten seconds, and is given up after five: less is asked for at once.
 */
TEST(replay, goes_on_over_a_link_that_is_slower_than_the_timeout)
{
    struct world *world = world_open(&(struct world_options){.nodes = 2, .seed = test_seed()});
    world_write(world, 1, 6000, 1000);
    world_fill(world, 0, 6000, 6000);
    world->bytes_per_s = 100000;
    world_gap(world, 1, 6000, 0, 0);
    assert_true(world_reaches(world, 1, 6000, 90 * SECOND)); /* thirty would be the least */
    world_check(world, 1);
    world_close(world);
}
