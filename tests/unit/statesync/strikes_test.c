/* SPDX-License-Identifier: MIT */
/* Sources that answer wrongly: left alone, blocked after three times, seen and forgiven. */
#include "snapshot_sync.h"
#include "sync_world.h"

#define LOG 4000u

static enum world_fate lie(struct world *world, const struct world_message *message, void *arg)
{
    const bool *lies = arg;
    if (*lies && message->to_session && message->from == 1 && message->to == 2) {
        static const uint8_t nonsense = 0xc1;
        world->intercept = NULL; /* this one passes */
        world_send(world, 1, 2, true, (struct ls_span){&nonsense, 1});
        world->intercept = lie;
        return WORLD_DROP;
    }
    return WORLD_DELIVER;
}

/* Node 2 lags; node 1 answers with nonsense while *lies, the leader is cut off from node 2. */
static struct world *with_liar(bool *lies)
{
    static const struct ls_log_replay_options replay = {
        .size = sizeof replay, .entries_max = 50, .window = 1};
    struct world_options options = {.nodes = 3, .seed = test_seed(), .replay = replay};
    struct world *world = world_open(&options);
    world_write(world, 1, LOG, 8);
    world_fill(world, 0, LOG, LOG);
    world_fill(world, 1, LOG, LOG);
    world->intercept = lie;
    world->intercept_arg = lies;
    world_gap(world, 2, LOG, 0, 0);
    world_bond(world, 0, 2, false);
    return world;
}

static struct ls_sync_strikes strikes_of(const struct world *world)
{
    struct ls_sync_strikes strikes;
    ls_supervisor_strikes(world->nodes[2].supervisor, &world->nodes[1].id, &strikes);
    return strikes;
}

static void until_strikes(struct world *world, uint32_t count)
{
    while (strikes_of(world).strikes < count) {
        assert_true(world_step(world, UINT64_MAX));
    }
}

TEST(strikes, leave_a_source_alone_for_longer_each_time_and_block_it_after_three)
{
    static const uint64_t seconds[] = {1, 2, 30, 30};
    bool lies = true;
    struct world *world = with_liar(&lies);
    uint64_t before = 0;
    for (uint32_t i = 0; i < 4; i++) {
        until_strikes(world, i + 1);
        struct ls_sync_strikes strikes = strikes_of(world);
        assert_in_range(strikes.left_us, seconds[i] * SECOND - 1000, seconds[i] * SECOND);
        assert_non_null(strikes.reason);
        assert_true(i == 0 || world->now_us + 1000 >= before + seconds[i - 1] * SECOND);
        before = world->now_us;
    }
    lies = false;
    assert_true(world_reaches(world, 2, LOG, 40 * SECOND));
    assert_true(world->now_us >= before + 30 * SECOND);
    world_run(world, 1000 * SECOND);
    assert_int_equal(strikes_of(world).strikes, 0); /* forgotten */
    world_close(world);
}

TEST(strikes, outlive_the_session_and_are_released_by_the_user)
{
    bool lies = true;
    struct world *world = with_liar(&lies);
    until_strikes(world, 3);
    lies = false;
    world_run(world, SECOND);
    uint64_t generation = world_progress(world, 2).generation;
    world->nodes[2].leads = true; /* its session ends ... */
    world_poll(world, 2);
    world->nodes[2].leads = false;
    world_gap(world, 2, LOG, 0, 0); /* ... and the next one knows */
    world_run(world, 5 * SECOND);
    assert_true(world_progress(world, 2).generation > generation);
    assert_int_equal(world->nodes[2].commit, 0);
    assert_int_equal(strikes_of(world).strikes, 3);
    ls_supervisor_release(world->nodes[2].supervisor, &world->nodes[1].id);
    assert_int_equal(strikes_of(world).strikes, 0);
    world_poll(world, 2);
    assert_true(world_reaches(world, 2, LOG, 2 * SECOND));
    world_close(world);
}
