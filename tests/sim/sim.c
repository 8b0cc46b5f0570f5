/* SPDX-License-Identifier: MIT */
/* include/lockstep/sim.h: a run as one call, and what the functions of a workload may ask for. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

const char *ls_sim_fault_name(uint32_t bit)
{
    return bit < SIM_FAULTS ? sim_fault_name((enum sim_fault)bit) : NULL;
}

uint64_t ls_sim_fault_bit(const char *name)
{
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        if (strcmp(ls_sim_fault_name(i), name) == 0) {
            return UINT64_C(1) << i;
        }
    }
    return 0;
}

/* ---- a run ---- */

void ls_sim_options_init(struct ls_sim_options *options)
{
    *options = (struct ls_sim_options){.size = sizeof *options, .seconds = LS_SIM_SECONDS_DEFAULT};
}

/* NULL, or what is wrong. */
static const char *options_take(const struct ls_sim_options *given,
                                const struct ls_sim_workload *workload, struct sim_options *out)
{
    *out = (struct sim_options){.workload = workload,
                                .seed = given->seed,
                                .members = given->members,
                                .seconds = given->seconds,
                                .trace = given->trace,
                                .without = given->without,
                                .snapshots = given->snapshots};
    out->seconds = out->seconds == 0 ? LS_SIM_SECONDS_DEFAULT : out->seconds;
    if (given->size != sizeof *given || workload->size != sizeof *workload) {
        return "a size is not that of this library's struct";
    }
    if (workload->name == NULL || workload->machine == NULL || workload->next == NULL) {
        return "a workload needs name, machine and next";
    }
    if ((unsigned)given->snapshots > LS_SIM_SNAPSHOTS_DRAW) {
        return "snapshots is none of enum ls_sim_snapshots";
    }
    if (given->members > LS_SIM_MEMBERS_MAX) {
        return "more members than LS_SIM_MEMBERS_MAX";
    }
    if (given->skip != NULL && !sim_skip_parse(given->skip, out)) {
        return "skip is a list of numbers as in 3,7,12-20";
    }
    out->exact = out->exact || given->exact;
    return NULL;
}

static void result_fill(const struct world *world, struct ls_sim_result *out)
{
    char replay[SIM_REPLAY_BYTES];
    *out = (struct ls_sim_result){.clean = !world->failed,
                                  .trace_hash = world->hash,
                                  .members = world->count,
                                  .virtual_us = world->now_us,
                                  .events = world->events,
                                  .messages = world->network.messages,
                                  .sessions = world->network.sessions,
                                  .leader_changes = world->checks.leader_changes,
                                  .applied = world->checks.last,
                                  .calls = world->ops_made,
                                  .acknowledged = world->acknowledged,
                                  .unknown = world->unknown,
                                  .nothing_done = world->refused};
    (void)snprintf(out->text, sizeof out->text, "%s", world->failed ? world->text : "clean");
    sim_replay_text(&world->options, replay);
    if (strlen(replay) < sizeof out->replay) {
        (void)memcpy(out->replay, replay, strlen(replay) + 1);
    }
    (void)memcpy(out->injected, world->injected, sizeof world->injected);
}

bool ls_sim_run(const struct ls_sim_options *options, const struct ls_sim_workload *workload,
                struct ls_sim_result *result)
{
    struct ls_sim_options defaults;
    struct sim_options taken;
    ls_sim_options_init(&defaults);
    const char *invalid = options_take(options != NULL ? options : &defaults, workload, &taken);
    if (invalid != NULL) {
        if (result != NULL) {
            *result = (struct ls_sim_result){.clean = false};
            (void)snprintf(result->text, sizeof result->text, "options: %s", invalid);
        }
        return false;
    }
    struct world *world = sim_allocate(sizeof *world);
    sim_world_open(world, &taken);
    sim_world_run(world);
    bool clean = !world->failed;
    if (result != NULL) {
        result_fill(world, result);
    }
    sim_world_free(world);
    free(world);
    return clean;
}

/* ---- for the functions of a workload ---- */

uint64_t ls_sim_random(struct ls_sim *sim, uint64_t low, uint64_t high)
{
    return sim_random_in(&sim->world->workload_random, low, high);
}

void ls_sim_fail(struct ls_sim *sim, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    sim_fail_list(sim->world, format, list);
    va_end(list);
}

void ls_sim_note(struct ls_sim *sim, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    sim_note_list(sim->world, format, list);
    va_end(list);
}

uint32_t ls_sim_members(const struct ls_sim *sim)
{
    return sim->world->count;
}

uint64_t ls_sim_now_us(const struct ls_sim *sim)
{
    return sim->world->now_us;
}

uint64_t ls_sim_event(const struct ls_sim *sim)
{
    return sim->world->events;
}

bool ls_sim_snapshots(const struct ls_sim *sim)
{
    return sim_sync_snapshots(sim->world);
}

ls_index ls_sim_applied(const struct ls_sim *sim, uint64_t id)
{
    const struct world *world = sim->world;
    return id >= 1 && id <= world->ops_made ? world->ops[id]->index : 0;
}

void *ls_sim_machine(const struct ls_sim *sim, uint32_t member)
{
    const struct world *world = sim->world;
    bool runs = member < world->count && world->members[member].node != NULL;
    return runs ? world->members[member].machine.inner.self : NULL;
}

struct ls_group *ls_sim_group(const struct ls_sim *sim, uint32_t member)
{
    return member < sim->world->count ? sim->world->members[member].group : NULL;
}
