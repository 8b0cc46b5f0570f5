/* SPDX-License-Identifier: MIT */
/*
 * One seed: a world of its own, some seconds of virtual time with clients and faults; then all
 * faults end, and the group must converge, serve and hold all that it acknowledged.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

/* load of a world, all clients together: calls a second, and what one takes without faults */
#define CALLS_MIN 350u
#define CALLS_MAX 800u
#define CALL_US   8000u
/* how often the time with faults is prolonged until each kind has struck */
#define OWED_PARTS_MAX 20u

void sim_fail_list(struct world *world, const char *format, va_list list)
{
    if (!world->failed) { /* the first one is the reason */
        world->failed = true;
        (void)vsnprintf(world->text, sizeof world->text, format, list);
    }
}

void sim_fail(struct world *world, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    sim_fail_list(world, format, list);
    va_end(list);
}

void sim_note_list(const struct world *world, const char *format, va_list list)
{
    if (world->options.trace) {
        (void)printf("%9.3f ms  ", (double)world->now_us / 1000.0);
        (void)vprintf(format, list);
        (void)printf("\n");
    }
}

void sim_note(const struct world *world, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    sim_note_list(world, format, list);
    va_end(list);
}

void sim_mix(struct world *world, uint64_t word)
{
    uint64_t hash = (world->hash ^ word) * 0x9fb21c651e98df25u;
    world->hash = hash ^ (hash >> 32);
}

void sim_mix_bytes(struct world *world, const void *bytes, size_t count)
{
    sim_mix(world, sim_digest(0, bytes, count));
}

void sim_push(struct world *world, uint64_t at_us, enum sim_event_kind kind, uint32_t a, uint32_t b,
              uint64_t token)
{
    sim_queue_push(&world->queue, at_us, kind, a, b, token);
}

/* ---- a run ---- */

/* Of each client, where all of them together make so many calls a second. */
static uint32_t think_us(uint32_t clients, uint64_t calls)
{
    uint64_t each_us = clients * (uint64_t)1000000u / calls;
    return (uint32_t)(each_us > CALL_US + 500u ? each_us - CALL_US : 500u);
}

void sim_world_open(struct world *world, const struct sim_options *options)
{
    world->options = *options;
    world->workload = options->workload;
    world->handle.world = world;
    struct sim_random *random = &world->random;
    random->state = world->options.seed * 0x2545f4914f6cdd1du + 1;
    world->workload_random.state = ~random->state;
    world->count = sim_topology_count(random);
    world->count = world->options.members != 0 ? world->options.members : world->count;
    bool hasty = sim_random_percent(random, 75); /* time without a leader is time without load */
    world->election_ms = (uint32_t)sim_random_in(random, 100, hasty ? 400 : 1000);
    world->heartbeat_ms =
        (uint32_t)sim_random_in(random, world->election_ms / 10, world->election_ms / 3);
    world->clients_count = (uint32_t)sim_random_in(random, 6, SIM_CLIENTS_MAX);
    /* as many calls a second as wanted, if one takes CALL_US: faults let a part of them be done */
    uint64_t calls = sim_random_in(random, CALLS_MIN, CALLS_MAX);
    world->think_us = think_us(world->clients_count, calls);
    world->hurry_us = think_us(world->clients_count, CALLS_MAX);
    world->fault_gap_ms = (uint32_t)sim_random_in(random, 50, 600);
    sim_sync_open(world);
    sim_faults_open(world);
    sim_network_open(world);
    for (uint32_t i = 0; i < world->count && !world->failed; i++) {
        sim_member_prepare(world, i);
        struct sim_member *member = &world->members[i];
        member->sync_min_us = 50;
        member->sync_max_us = 2000;
        struct sim_random conditions = sim_fault_member_stream(world, i);
        sim_clock_conditions(member, &conditions);
    }
    sim_topology_open(world);
    for (uint32_t i = 0; i < world->clients_count; i++) {
        sim_push(world, sim_random_in(random, 0, 1000000), SIM_CLIENT, i, 0, 0);
    }
}

void sim_world_free(struct world *world)
{
    for (uint32_t i = 0; i < world->count; i++) {
        sim_member_free(&world->members[i]);
    }
    sim_network_free(world);
    sim_sync_close(world);
    sim_clients_free(world);
    sim_calm_free(world);
    sim_checks_free(world);
    sim_faults_free(world);
    sim_queue_free(&world->queue);
    if (world->workload->end != NULL) {
        world->workload->end(world->workload->self);
    }
}

static void world_event(struct world *world, const struct sim_event *event)
{
    switch (event->kind) {
    case SIM_TIMER:
    case SIM_TURN:
    case SIM_RELEASE:
    case SIM_START:
    case SIM_RESUME:
        sim_member_event(world, event);
        break;
    case SIM_NET_TIMER:
    case SIM_LOOK:
    case SIM_DIAL:
    case SIM_BREAK:
    case SIM_LATE:
    case SIM_FLAP:
        sim_network_event(world, event);
        break;
    case SIM_CLIENT:
        sim_client_event(world, event);
        break;
    case SIM_FAULT:
    case SIM_HEAL:
        sim_fault_event(world, event);
        break;
    case SIM_PRUNE:
        (void)sim_sync_prune(world, event->a);
        break;
    }
}

bool sim_world_until(struct world *world, uint64_t until_us, bool (*holds)(struct world *world))
{
    struct sim_event event;
    if (holds != NULL && holds(world)) {
        return true;
    }
    while (!world->failed && sim_queue_next(&world->queue) <= until_us &&
           sim_queue_pop(&world->queue, &event)) {
        if (event.at != world->now_us) {
            world->instant_events = 0;
            world->now_us = event.at;
        } else if (++world->instant_events > SIM_EVENTS_PER_INSTANT_MAX) {
            sim_fail(world, "time stands still: a loop never sleeps");
        }
        world->events++;
        sim_mix(world, event.at << 4 ^ (uint64_t)event.kind << 16 ^ event.a << 8 ^ event.b);
        world_event(world, &event);
        sim_members_end(world);
        if (holds != NULL && holds(world)) {
            return true;
        }
    }
    if (!world->failed && world->now_us < until_us) {
        world->now_us = until_us;
    }
    return false;
}

/* The time with faults: longer than asked for, as long as some kind of fault is still owed. */
static void world_trouble(struct world *world)
{
    bool owed = true;
    for (uint32_t part = 1; part <= OWED_PARTS_MAX && owed && !world->failed; part++) {
        /* some strike only where the group gets something done */
        world->owed_only = part > OWED_PARTS_MAX / 2;
        (void)sim_world_until(world, (uint64_t)part * world->options.seconds * 1000000u, NULL);
        owed = false;
        for (uint32_t i = 0; i < SIM_FAULTS && !world->options.exact; i++) {
            owed = owed || sim_fault_owed(world, (enum sim_fault)i);
        }
    }
    for (uint32_t i = 0; i < SIM_FAULTS && !world->failed && !world->options.exact; i++) {
        if (sim_fault_owed(world, (enum sim_fault)i)) {
            sim_fail(world, "meant to inject %s and did not", sim_fault_name((enum sim_fault)i));
        }
    }
}

void sim_world_run(struct world *world)
{
    const struct ls_sim_workload *workload = world->workload;
    if (workload->begin != NULL) {
        workload->begin(workload->self, &world->handle);
    }
    world_trouble(world);
    if (!world->failed) {
        sim_world_finish(world);
    }
    if (!world->failed && workload->check_end != NULL) {
        workload->check_end(workload->self, &world->handle);
    }
}
