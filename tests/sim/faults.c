/* SPDX-License-Identifier: MIT */
/* What goes wrong, when, and how often it did. */
#include "world.h"

static const char *const names[SIM_FAULTS] = {
    [SIM_FAULT_CRASH] = "crash",
    [SIM_FAULT_CLOSE] = "close",
    [SIM_FAULT_STORM] = "restart_storm",
    [SIM_FAULT_RESET] = "session_reset",
    [SIM_FAULT_HALVES] = "partition_halves",
    [SIM_FAULT_ISOLATE] = "partition_isolate",
    [SIM_FAULT_ONE_WAY] = "partition_one_way",
    [SIM_FAULT_PAUSE] = "pause",
    [SIM_FAULT_SLOW_SYNC] = "slow_sync",
    [SIM_FAULT_HUNG_SYNC] = "hung_sync",
    [SIM_FAULT_BAD_DISK] = "failed_sync",
    [SIM_FAULT_TRANSFER] = "transfer",
    [SIM_FAULT_CLOCK_RATE] = "clock_rate",
    [SIM_FAULT_LONG_DELAY] = "long_delay",
};

const char *sim_fault_name(enum sim_fault fault)
{
    return names[fault];
}

/* Most are short, some as long as `high`. */
static uint64_t in_ms(struct world *world, uint64_t low, uint64_t high)
{
    high >>= sim_random_in(&world->random, 0, 5);
    high = high > low ? high : low;
    return world->now_us + sim_random_in(&world->random, low, high) * 1000u;
}

static uint32_t pick(struct world *world)
{
    return (uint32_t)sim_random_in(&world->random, 0, world->count - 1);
}

/* ---- kinds; each returns whether it changed anything ---- */

static bool crash(struct world *world, uint32_t at, uint64_t down_ms)
{
    struct sim_member *member = &world->members[at];
    if (member->node == NULL) {
        return false;
    }
    size_t held = ls_storage_medium_held(member->medium);
    sim_member_crash(member, (size_t)sim_random_in(&world->random, 0, held));
    sim_push(world, in_ms(world, 1, down_ms), SIM_START, at, 0, 0);
    return true;
}

static bool close_member(struct world *world)
{
    struct sim_member *member = &world->members[pick(world)];
    if (member->group == NULL || member->paused) {
        return false;
    }
    sim_member_close(member, in_ms(world, 1, 2000) - world->now_us);
    return true;
}

static bool storm(struct world *world)
{
    bool any = false;
    for (uint32_t i = 0; i < world->count; i++) {
        if (sim_random_percent(&world->random, 70)) {
            any = crash(world, i, 400) || any;
        }
    }
    return any;
}

static bool reset(struct world *world)
{
    uint32_t a = pick(world), b = pick(world);
    return a != b && sim_network_reset(world, a, b);
}

static void partition_end(struct world *world)
{
    for (uint32_t from = 0; from < world->count; from++) {
        for (uint32_t to = 0; to < world->count; to++) {
            sim_network_block(world, from, to, false);
        }
    }
}

/* Blocks every path from a member of `left` to one that is not in it, and unless `one_way` back. */
static bool partition(struct world *world, enum sim_fault fault, uint32_t left, bool one_way)
{
    bool any = false;
    partition_end(world);
    for (uint32_t from = 0; from < world->count; from++) {
        for (uint32_t to = 0; to < world->count; to++) {
            if ((left >> from & 1u) != 0 && (left >> to & 1u) == 0) {
                sim_network_block(world, from, to, true);
                sim_network_block(world, to, from, !one_way);
                any = true;
            }
        }
    }
    world->partition++;
    sim_push(world, in_ms(world, 100, 8000), SIM_HEAL, (uint32_t)fault, 0, world->partition);
    return any;
}

static bool pause_member(struct world *world)
{
    uint32_t at = pick(world);
    struct sim_member *member = &world->members[at];
    if (member->node == NULL || member->paused) {
        return false;
    }
    sim_member_pause(member, true);
    sim_push(world, in_ms(world, 20, 4000), SIM_RESUME, at, 0, member->life);
    return true;
}

static bool sync_fault(struct world *world, enum sim_fault fault)
{
    uint32_t at = pick(world);
    struct sim_member *member = &world->members[at];
    if (fault == SIM_FAULT_HUNG_SYNC) {
        member->sync_hangs = true;
    } else {
        member->sync_min_us = 20000;
        member->sync_max_us = (uint32_t)sim_random_in(&world->random, 100, 1500) * 1000u;
    }
    sim_push(world, in_ms(world, 200, 6000), SIM_HEAL, (uint32_t)fault, at, 0);
    return true;
}

/* The store latches the failure and stops; someone restarts the member. */
static bool bad_disk(struct world *world)
{
    uint32_t at = pick(world);
    struct sim_member *member = &world->members[at];
    if (member->node == NULL || member->faulty_disk) {
        return false;
    }
    enum ls_storage_fault fault =
        sim_random_percent(&world->random, 50) ? LS_STORAGE_FAULT_SYNC : LS_STORAGE_FAULT_WRITE;
    ls_storage_medium_fail(member->medium, fault, (size_t)sim_random_in(&world->random, 0, 3));
    member->faulty_disk = true;
    sim_push(world, in_ms(world, 500, 5000), SIM_HEAL, SIM_FAULT_BAD_DISK, at, member->life);
    return true;
}

static void transferred(void *arg, const struct ls_outcome *outcome)
{
    sim_mix(arg, (uint64_t)outcome->status);
}

static bool transfer(struct world *world, uint32_t at, uint32_t to)
{
    struct sim_member *member = &world->members[at];
    if (member->group == NULL || member->paused || at == to) {
        return false;
    }
    enum ls_status status =
        ls_group_transfer(member->group, world->members[to].name, NULL, transferred, world);
    sim_member_after(member);
    return status == LS_OK;
}

static bool transfer_any(struct world *world)
{
    uint32_t at = pick(world);
    return transfer(world, at, pick(world));
}

/* The member that leads the newest term; count: none does. */
static uint32_t leader_of(struct world *world)
{
    uint32_t leader = world->count;
    ls_term term = 0;
    for (uint32_t i = 0; i < world->count; i++) {
        if (world->members[i].group != NULL) {
            struct ls_group_status status;
            ls_group_status(world->members[i].group, &status);
            if (status.core.role == LS_ROLE_LEADER && status.core.term > term) {
                term = status.core.term;
                leader = i;
            }
        }
    }
    return leader;
}

/* A leader that is heard but hears nothing, and while it is so hands over: it learns of its
 * successor late. */
static bool deaf_leader(struct world *world)
{
    uint32_t leader = leader_of(world), to = pick(world);
    if (leader == world->count) {
        return false;
    }
    uint32_t others = ((1u << world->count) - 1u) & ~(1u << leader);
    bool any = partition(world, SIM_FAULT_ONE_WAY, others, true);
    if (transfer(world, leader, to)) {
        world->injected[SIM_FAULT_TRANSFER]++;
    }
    return any;
}

static bool inject(struct world *world, enum sim_fault fault)
{
    uint32_t all = (1u << world->count) - 1u;
    switch (fault) {
    case SIM_FAULT_CRASH:
        return crash(world, pick(world), 3000);
    case SIM_FAULT_CLOSE:
        return close_member(world);
    case SIM_FAULT_STORM:
        return storm(world);
    case SIM_FAULT_RESET:
        return reset(world);
    case SIM_FAULT_HALVES:
        return partition(world, fault, (uint32_t)sim_random_in(&world->random, 1, all), false);
    case SIM_FAULT_ISOLATE:
        return partition(world, fault, 1u << pick(world), false);
    case SIM_FAULT_ONE_WAY:
        if (sim_random_percent(&world->random, 50)) {
            return deaf_leader(world);
        }
        return partition(world, fault, (uint32_t)sim_random_in(&world->random, 1, all), true);
    case SIM_FAULT_PAUSE:
        return pause_member(world);
    case SIM_FAULT_SLOW_SYNC:
    case SIM_FAULT_HUNG_SYNC:
        return sync_fault(world, fault);
    case SIM_FAULT_BAD_DISK:
        return bad_disk(world);
    case SIM_FAULT_TRANSFER:
        return transfer_any(world);
    case SIM_FAULT_CLOCK_RATE:
    case SIM_FAULT_LONG_DELAY:
    case SIM_FAULTS:
        break; /* conditions of the whole run */
    }
    return false;
}

/* ---- events ---- */

static void sync_heal(struct sim_member *member)
{
    member->sync_hangs = false;
    member->sync_min_us = 50;
    member->sync_max_us = 2000;
    sim_member_after(member);
}

static void on_heal(struct world *world, const struct sim_event *event)
{
    struct sim_member *member = &world->members[event->b];
    if (event->a == SIM_FAULT_SLOW_SYNC || event->a == SIM_FAULT_HUNG_SYNC) {
        sync_heal(member);
    } else if (event->a == SIM_FAULT_BAD_DISK) {
        if (member->life == event->token) {
            (void)crash(world, event->b, 1000);
        }
    } else if (event->token == world->partition) {
        partition_end(world);
    }
}

bool sim_fault_owed(const struct world *world, enum sim_fault fault)
{
    return (world->fault_mask >> (uint32_t)fault & 1u) != 0 && world->injected[fault] == 0;
}

/* One of the enabled kinds, SIM_FAULTS if none is; half of the time one that is owed. */
static enum sim_fault choose(struct world *world)
{
    bool owed = sim_random_percent(&world->random, 50);
    uint32_t from = (uint32_t)sim_random_in(&world->random, 0, SIM_FAULT_TRANSFER);
    uint32_t found = SIM_FAULTS;
    for (uint32_t i = 0; i <= SIM_FAULT_TRANSFER; i++) {
        uint32_t fault = (from + i) % (SIM_FAULT_TRANSFER + 1u);
        if (owed && sim_fault_owed(world, (enum sim_fault)fault)) {
            return (enum sim_fault)fault;
        }
        if (found == SIM_FAULTS && (world->fault_mask >> fault & 1u) != 0) {
            found = fault;
        }
    }
    return (enum sim_fault)found;
}

void sim_fault_event(struct world *world, const struct sim_event *event)
{
    if (world->quiet) {
        return;
    }
    if (event->kind == SIM_HEAL) {
        on_heal(world, event);
        return;
    }
    enum sim_fault fault = choose(world);
    if (fault == SIM_FAULTS) {
        return; /* only conditions of the whole run */
    }
    sim_mix(world, (uint64_t)fault);
    sim_note(world, "fault: %s", names[fault]);
    world->injected[fault] += inject(world, fault) ? 1u : 0u;
    uint64_t gap = sim_random_in(&world->random, 1, 2u * world->fault_gap_ms);
    sim_push(world, world->now_us + gap * 1000u, SIM_FAULT, 0, 0, 0);
}

void sim_faults_end(struct world *world)
{
    world->quiet = true;
    sim_note(world, "the last fault has ended");
    world->network.tail_percent = 0;
    partition_end(world);
    for (uint32_t i = 0; i < world->count; i++) {
        struct sim_member *member = &world->members[i];
        sim_member_pause(member, false);
        if (member->faulty_disk) {
            sim_member_crash(member, SIZE_MAX);
        }
        sync_heal(member);
        sim_member_start(member);
    }
}
