/* SPDX-License-Identifier: MIT */
/* Faults of members: process, disk and clock. */
#include "faults.h"

static bool crash(struct sim_strike *strike, uint32_t at, uint64_t down_ms)
{
    struct sim_member *member = &strike->world->members[at];
    if (member->node == NULL) {
        return false;
    }
    size_t held = ls_storage_medium_held(member->medium);
    size_t keep = (size_t)sim_random_in(&strike->random, 0, held);
    uint64_t start_us = sim_strike_until(strike, 1, down_ms);
    sim_strike_tell(strike, " %s keeps %zu of %zu", member->name, keep, held);
    sim_member_crash(member, keep);
    sim_push(strike->world, start_us, SIM_START, at, 0, 0);
    return true;
}

static bool close_member(struct sim_strike *strike)
{
    struct world *world = strike->world;
    struct sim_member *member = &world->members[sim_strike_pick(strike)];
    if (member->group == NULL || member->paused) {
        return false;
    }
    sim_strike_tell(strike, " %s", member->name);
    sim_member_close(member, sim_strike_until(strike, 1, 2000) - world->now_us);
    return true;
}

static bool storm(struct sim_strike *strike)
{
    bool any = false;
    for (uint32_t i = 0; i < strike->world->count; i++) {
        if (sim_random_percent(&strike->random, 70)) {
            any = crash(strike, i, 400) || any;
        }
    }
    return any;
}

static bool pause_member(struct sim_strike *strike)
{
    uint32_t at = sim_strike_pick(strike);
    struct sim_member *member = &strike->world->members[at];
    if (member->node == NULL || member->paused) {
        return false;
    }
    uint64_t until_us = sim_strike_until(strike, 20, 4000);
    sim_strike_tell(strike, " %s until %.3f ms", member->name, (double)until_us / 1000.0);
    sim_member_pause(member, true);
    sim_push(strike->world, until_us, SIM_RESUME, at, 0, member->life);
    return true;
}

static bool sync_fault(struct sim_strike *strike)
{
    uint32_t at = sim_strike_pick(strike);
    struct sim_member *member = &strike->world->members[at];
    if (strike->fault == SIM_FAULT_HUNG_SYNC) {
        member->sync_hangs = true;
    } else {
        member->sync_min_us = 20000;
        member->sync_max_us = (uint32_t)sim_random_in(&strike->random, 100, 1500) * 1000u;
    }
    sim_strike_tell(strike, " %s", member->name);
    sim_strike_heal(strike, sim_strike_until(strike, 200, 6000), at);
    return true;
}

/* The store latches the failure and stops; someone restarts the member. */
static bool bad_disk(struct sim_strike *strike)
{
    uint32_t at = sim_strike_pick(strike);
    struct sim_member *member = &strike->world->members[at];
    if (member->node == NULL || member->faulty_disk) {
        return false;
    }
    bool sync = sim_random_percent(&strike->random, 50);
    size_t after = (size_t)sim_random_in(&strike->random, 0, 3);
    ls_storage_medium_fail(member->medium, sync ? LS_STORAGE_FAULT_SYNC : LS_STORAGE_FAULT_WRITE,
                           after);
    member->faulty_disk = member->life;
    sim_strike_tell(strike, " %s %s after %zu", member->name, sync ? "sync" : "write", after);
    sim_strike_heal(strike, sim_strike_until(strike, 500, 5000), at);
    return true;
}

static void transferred(void *arg, const struct ls_outcome *outcome)
{
    sim_mix(arg, (uint64_t)outcome->status);
}

bool sim_strike_transfer(struct sim_strike *strike, uint32_t at, uint32_t to)
{
    struct world *world = strike->world;
    struct sim_member *member = &world->members[at];
    if (member->group == NULL || member->paused || at == to) {
        return false;
    }
    sim_strike_tell(strike, " %s to %s", member->name, world->members[to].name);
    enum ls_status status =
        ls_group_transfer(member->group, world->members[to].name, NULL, transferred, world);
    sim_member_after(member);
    return status == LS_OK;
}

bool sim_strike_member(struct sim_strike *strike)
{
    uint32_t at;
    switch ((int)strike->fault) {
    case SIM_FAULT_CRASH:
        return crash(strike, sim_strike_pick(strike), 3000);
    case SIM_FAULT_CLOSE:
        return close_member(strike);
    case SIM_FAULT_STORM:
        return storm(strike);
    case SIM_FAULT_PAUSE:
        return pause_member(strike);
    case SIM_FAULT_SLOW_SYNC:
    case SIM_FAULT_HUNG_SYNC:
        return sync_fault(strike);
    case SIM_FAULT_BAD_DISK:
        return bad_disk(strike);
    case SIM_FAULT_TRANSFER:
        at = sim_strike_pick(strike);
        return sim_strike_transfer(strike, at, sim_strike_pick(strike));
    default:
        return false; /* conditions of the whole run */
    }
}

/* ---- the end of a fault ---- */

static void sync_heal(struct sim_member *member)
{
    member->sync_hangs = false;
    member->sync_min_us = 50;
    member->sync_max_us = 2000;
    sim_member_after(member);
}

void sim_heal_member(struct world *world, enum sim_fault fault, uint32_t at)
{
    struct sim_member *member = &world->members[at];
    if (fault == SIM_FAULT_SLOW_SYNC || fault == SIM_FAULT_HUNG_SYNC) {
        sync_heal(member);
    } else if (fault == SIM_FAULT_BAD_DISK && member->faulty_disk == member->life) {
        sim_member_crash(member, 0);
        sim_push(world, world->now_us + 200000, SIM_START, at, 0, 0);
    }
}

void sim_heal_members(struct world *world)
{
    for (uint32_t i = 0; i < world->count; i++) {
        struct sim_member *member = &world->members[i];
        sim_member_pause(member, false);
        if (member->faulty_disk != 0) {
            sim_member_crash(member, SIZE_MAX);
        }
        sync_heal(member);
        sim_member_start(member);
    }
}
