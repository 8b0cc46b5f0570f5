/* SPDX-License-Identifier: MIT */
/* See statesync_suite.h. Node 0 leads, node 1 follows, node 2 lags. */
#include "statesync_suite.h"

#define GAP 3000u

static struct world *lagging(const struct statesync_subject *subject)
{
    struct world_options options = {.nodes = 3,
                                    .seed = subject->seed,
                                    .strategies = &subject->statesync,
                                    .strategies_count = 1};
    struct world *world = world_open(&options);
    world_write(world, 1, 10, 64);
    world_write(world, 2, GAP, 64);
    world->term = 2;
    world_fill(world, 0, GAP + 10, GAP + 10);
    world_fill(world, 1, GAP + 10, GAP + 10);
    world_fill(world, 2, 10, 10);
    return world;
}

static void catches_up(struct world *world, ls_index index)
{
    assert_true(world_reaches(world, 2, index, 120 * SECOND));
    world_check(world, 2);
    assert_int_equal(world_progress(world, 2).phase, LS_SYNC_DONE);
    assert_int_equal(world_progress(world, 2).percent, 100);
}

void statesync_closes_gaps(const struct statesync_subject *subject)
{
    struct world *world = lagging(subject);
    world_gap(world, 2, GAP + 10, 0, 0);
    catches_up(world, GAP + 10);
    assert_int_equal(world->nodes[2].appended, GAP);
    assert_int_equal(world_progress(world, 2).penalties, 0);
    world_close(world);
}

void statesync_serves_committed_entries_only(const struct statesync_subject *subject)
{
    struct world *world = lagging(subject);
    for (uint32_t i = 0; i < 2; i++) {
        world_diverge(world, i, 3, 50); /* uncommitted, and nobody else has it */
    }
    world_gap(world, 2, GAP + 10, 0, 0);
    catches_up(world, GAP + 10);
    assert_int_equal(world->nodes[2].log.last, GAP + 10);
    world_close(world);
}

void statesync_follows_a_moving_target(const struct statesync_subject *subject)
{
    struct world *world = lagging(subject);
    ls_index end = GAP + 10;
    world_gap(world, 2, end, 0, 0);
    for (int i = 0; i < 50; i++) {
        world_write(world, 2, 20, 64);
        end += 20;
        world_fill(world, 0, end, end);
        world_fill(world, 1, end, end);
        world_run(world, world_random(world, 2000));
        world_append(world, 2, end, end - 20, 20);
    }
    catches_up(world, end);
    world_close(world);
}

void statesync_changes_its_source(const struct statesync_subject *subject)
{
    for (uint32_t dies = 0; dies < 2; dies++) {
        struct world *world = lagging(subject);
        world_gap(world, 2, GAP + 10, 0, 0);
        world_run(world, 1000 + world_random(world, 1000));
        world_up(world, dies, false);
        catches_up(world, GAP + 10);
        world_close(world);
    }
}

static enum world_fate garble(struct world *world, const struct world_message *message, void *arg)
{
    uint64_t *garbled = arg;
    if (message->from != 1 || world_random(world, 3) != 0) {
        return WORLD_DELIVER;
    }
    uint8_t bytes[64];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)world_random(world, 256);
    }
    size_t length = 1 + (size_t)world_random(world, sizeof bytes);
    world_send(world, 1, message->to, message->to_session, (struct ls_span){bytes, length});
    (*garbled)++;
    return WORLD_DROP;
}

void statesync_survives_garbage(const struct statesync_subject *subject)
{
    struct world *world = lagging(subject);
    uint64_t garbled = 0;
    world->intercept = garble;
    world->intercept_arg = &garbled;
    for (uint32_t i = 0; i < 100; i++) {
        world_send(world, 2, i % 2, false, (struct ls_span){"garbage for a provider", i % 22 + 1});
    }
    world_gap(world, 2, GAP + 10, 0, 0);
    catches_up(world, GAP + 10);
    assert_int_equal(world_progress(world, 0).penalties, 50);
    assert_true(garbled == 0 || world_progress(world, 2).penalties > 0);
    world_close(world);
}

void statesync_survives_refused_memory(const struct statesync_subject *subject)
{
    uint64_t refused = 0;
    for (uint64_t k = 1; k < 1000; k++) {
        struct world *world = lagging(subject);
        world->refuse_at = world->allocations + k;
        world_gap(world, 2, GAP + 10, GAP - 100, 110);
        catches_up(world, GAP + 10);
        uint64_t now = world->refused;
        refused += now;
        world_close(world);
        if (now == 0) {
            break;
        }
    }
    assert_true(refused > 0);
}

void statesync_may_be_destroyed_at_any_time(const struct statesync_subject *subject)
{
    for (int steps = 0; steps < 200; steps += 3) {
        struct world *world = lagging(subject);
        world_gap(world, 2, GAP + 10, GAP - 100, 110);
        for (int i = 0; i < steps && world_step(world, UINT64_MAX); i++) {
        }
        world_close(world); /* asserts that all memory was given back */
    }
}

void statesync_does_not_spin(const struct statesync_subject *subject)
{
    struct world *world = lagging(subject);
    world_up(world, 0, false);
    world_gap(world, 2, GAP + 10, 0, 0);
    world_run(world, 500);
    world_up(world, 1, false);
    uint64_t polls = world->nodes[2].polls;
    world_run(world, 600 * SECOND);
    assert_true(world->nodes[2].polls - polls < 1000);
    assert_int_equal(world_progress(world, 2).failures, 0);
    world_up(world, 1, true);
    catches_up(world, GAP + 10);
    world_close(world);
}

void statesync_allows_no_pruning_beyond_commit(const struct statesync_subject *subject)
{
    struct world *world = lagging(subject);
    world_diverge(world, 1, 3, 200000);
    world_gap(world, 2, GAP + 10, 0, 0);
    bool more = true;
    while (more && world->nodes[2].commit < GAP + 10) {
        more = world_step(world, UINT64_MAX);
        for (uint32_t i = 0; i < 3; i++) {
            ls_index safe = ls_supervisor_safe_to_prune(world->nodes[i].supervisor);
            assert_true(safe <= world->nodes[i].commit);
        }
        if (world->nodes[1].answers > 1) {
            /* a session that is served here needs all after what it has */
            ls_index safe = ls_supervisor_safe_to_prune(world->nodes[1].supervisor);
            assert_true(safe <= world->nodes[2].log.last);
        }
    }
    catches_up(world, GAP + 10);
    world_close(world);
}
