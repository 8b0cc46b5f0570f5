/* SPDX-License-Identifier: MIT */
/*
 * The end of a run: the faults are over, first for a majority, then for all, and the group must
 * converge, serve (E18), and hold all that it acknowledged (G9).
 */
#include "world.h"

/* virtual time in which a healed group must serve again: elections, reconnects, catch-up */
#define CONVERGE_US      60000000u
#define CATCH_UP_US      20000u /* for each entry, beside that */
#define PROBE_ROUNDS_MAX 5u
#define STORIES          2u
/* a guard waits up to a second for its sync */
#define GUARD_US         500000u
#define GUARD_ROUNDS_MAX 10u

static bool rests(const struct world *world, uint32_t at)
{
    return (world->resting >> at & 1u) != 0;
}

/* All members but those that rest run, hold the same log, applied it, and one of them serves. */
static bool converged(struct world *world)
{
    uint32_t serving = 0, seen = 0;
    ls_index last = 0;
    for (uint32_t i = 0; i < world->count; i++) {
        if (rests(world, i)) {
            continue;
        }
        if (world->members[i].group == NULL) {
            return false;
        }
        struct ls_group_status status;
        sim_glance(&world->members[i], &status);
        last = seen++ == 0 ? status.core.last : last;
        serving += status.serving ? 1u : 0u;
        if (status.core.last != last || status.core.applied != last) {
            return false;
        }
    }
    return serving == 1;
}

static bool all_answered(struct world *world)
{
    while (world->ops_answered < world->ops_made && world->ops[world->ops_answered + 1]->fired) {
        world->ops_answered++; /* asked after each event */
    }
    return world->ops_answered == world->ops_made;
}

static bool settled(struct world *world)
{
    return converged(world) && all_answered(world);
}

/* How many members do a write that is asked of them. A link that broke before the faults ended may
 * be noticed only now, and costs the call on its way. */
static uint32_t probe_all(struct world *world)
{
    uint64_t before = world->ops_made;
    for (uint32_t i = 0; i < world->count; i++) {
        if (!rests(world, i)) {
            (void)sim_probe(world, i);
        }
    }
    if (!sim_world_until(world, world->now_us + CONVERGE_US, settled)) {
        sim_fail(world, "calls after the last fault do not end");
    }
    uint32_t served = 0;
    for (uint64_t id = before + 1; id <= world->ops_made; id++) {
        served += world->ops[id]->status == LS_OK ? 1u : 0u;
    }
    return served;
}

/* Log replay may be set to one entry a time, and the log of a long run to be many. */
static uint64_t catch_up_us(const struct world *world)
{
    return world->checks.last * CATCH_UP_US;
}

/* Those that do not rest converge and serve. */
static void demand_service(struct world *world)
{
    uint32_t needed = 0, served = 0;
    for (uint32_t i = 0; i < world->count; i++) {
        needed += rests(world, i) ? 0u : 1u;
    }
    if (!sim_world_until(world, world->now_us + CONVERGE_US + catch_up_us(world), settled)) {
        sim_fail(world, "no convergence of %u of %u members in %u virtual seconds", needed,
                 world->count, (unsigned)((CONVERGE_US + catch_up_us(world)) / 1000000u));
        return;
    }
    for (uint32_t i = 0; i < PROBE_ROUNDS_MAX && served != needed && !world->failed; i++) {
        served = probe_all(world);
    }
    if (served != needed) {
        sim_fail(world, "only %u of %u members serve after the last fault", served, needed);
    }
}

/* What disks lost is there again, and more is committed: nobody doubts a log for good. */
static void forget_damage(struct world *world)
{
    bool any = false;
    for (uint32_t i = 0; i < world->count; i++) {
        any = any || world->members[i].losses > 0;
    }
    for (uint32_t i = 0; i < GUARD_ROUNDS_MAX && any && !world->failed; i++) {
        (void)sim_world_until(world, world->now_us + GUARD_US, NULL);
        demand_service(world);
    }
    if (any && !world->failed) {
        sim_damage_forgotten(world);
    }
    if (any && !world->failed) {
        demand_service(world);
    }
}

void sim_world_finish(struct world *world)
{
    sim_faults_end(world);
    world->resting = sim_calm_rest(world);
    if (world->resting != 0) {
        demand_service(world);
    }
    world->resting = 0;
    for (uint32_t i = 0; i < world->count && !world->failed; i++) {
        sim_member_start(&world->members[i]);
    }
    if (!world->failed) {
        demand_service(world);
    }
    forget_damage(world);
    for (uint32_t i = 0; i < STORIES && !world->failed; i++) {
        sim_calm_links(world);
        sim_story(world);
        demand_service(world);
    }
    if (!world->failed) {
        sim_calm(world);
    }
    if (!world->failed) {
        sim_check_steady(world);
    }
    if (!world->failed) {
        demand_service(world);
    }
    if (!world->failed) {
        sim_calm_answers(world);
    }
    for (uint32_t i = 0; i < world->count && !world->failed; i++) {
        if (world->members[i].machine.applied != world->checks.last) {
            sim_fail(world, "member %s applied up to %llu of %llu", world->members[i].name,
                     (unsigned long long)world->members[i].machine.applied,
                     (unsigned long long)world->checks.last);
        }
    }
}
