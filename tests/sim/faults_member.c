/* SPDX-License-Identifier: MIT */
/* Faults of members: what happens to the process. */
#include "faults.h"

static bool crash(struct sim_strike *strike, struct sim_member *member, uint64_t down_ms)
{
    if (member->node == NULL) {
        return false;
    }
    size_t held = ls_storage_medium_held(member->medium);
    size_t keep = (size_t)sim_random_in(&strike->random, 0, held);
    uint64_t start_us = sim_strike_until(strike, 1, down_ms);
    sim_strike_tell(strike, " %s keeps %zu of %zu", member->name, keep, held);
    sim_member_crash(member, keep);
    sim_push(strike->world, start_us, SIM_START, member->at, 0, 0);
    return true;
}

/* Long enough to miss what the others' caches hold; only where a majority stays. */
static bool absence(struct sim_strike *strike)
{
    struct world *world = strike->world;
    struct sim_member *member = sim_strike_find(strike, sim_is_up);
    uint32_t absent = 1;
    for (uint32_t i = 0; i < world->count; i++) {
        absent += world->in_force[SIM_FAULT_ABSENCE][i] != 0 ? 1u : 0u;
    }
    if (member->node == NULL || absent * 2 >= world->count || world->checks.last == 0) {
        return false;
    }
    uint64_t until_us = sim_strike_until(strike, 2000, 30000);
    sim_strike_tell(strike, " %s until %.3f ms", member->name, (double)until_us / 1000.0);
    sim_member_crash(member, 0);
    sim_strike_heal(strike, until_us, member->at);
    return true;
}

/* One of the next allocations is refused, and some after it; half of the time while it starts. */
static bool no_memory(struct sim_strike *strike)
{
    struct sim_member *member = sim_strike_find(strike, sim_is_up);
    bool again = sim_random_percent(&strike->random, 50);
    member->refuse_after = (uint32_t)sim_random_in(&strike->random, 0, again ? 60 : 8);
    member->refusals = (uint32_t)1u << sim_random_in(&strike->random, 0, 3);
    sim_strike_tell(strike, " %s: %u after %u%s", member->name, member->refusals,
                    member->refuse_after, again ? ", starting" : "");
    uint64_t start_us = sim_strike_until(strike, 1, 1000);
    if (again) {
        sim_member_crash(member, 0);
        sim_push(strike->world, start_us, SIM_START, member->at, 0, 0);
    }
    sim_strike_heal(strike, sim_strike_until(strike, 1000, 5000), member->at);
    return true;
}

/* Down, and down again while it starts: at the write that ends opening the store, or a bit later.
 */
static bool start_crash(struct sim_strike *strike)
{
    struct sim_member *member = sim_strike_find(strike, sim_is_up);
    uint32_t at = member->at;
    if (member->node == NULL) {
        return false;
    }
    size_t keep = (size_t)sim_random_in(&strike->random, 0, 2);
    uint64_t start_us = sim_strike_until(strike, 1, 1000);
    bool open = sim_random_percent(&strike->random, 50);
    sim_member_crash(member, keep);
    if (open) {
        ls_storage_medium_power_cut_open(member->medium,
                                         (size_t)sim_random_in(&strike->random, 0, 151));
        member->start_excused |= 1u << LS_ERR_IO;
        sim_fault_count(strike->world, SIM_FAULT_START_CRASH);
    }
    sim_push(strike->world, start_us, SIM_START, at, 0, 0);
    sim_strike_tell(strike, " %s %s", member->name, open ? "while opening" : "after opening");
    if (!open) {
        sim_strike_heal(strike, start_us + sim_random_in(&strike->random, 0, 20000), at);
    }
    return true;
}

static bool close_member(struct sim_strike *strike)
{
    struct world *world = strike->world;
    struct sim_member *member = sim_strike_find(strike, sim_is_awake);
    if (!sim_is_awake(member)) {
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
            any = crash(strike, &strike->world->members[i], 400) || any;
        }
    }
    return any;
}

static bool pause_member(struct sim_strike *strike)
{
    struct sim_member *member = sim_strike_find(strike, sim_is_awake);
    if (!sim_is_awake(member)) {
        return false;
    }
    uint64_t until_us = sim_strike_until(strike, 20, 4000);
    sim_strike_tell(strike, " %s until %.3f ms", member->name, (double)until_us / 1000.0);
    sim_member_pause(member, true);
    sim_push(strike->world, until_us, SIM_RESUME, member->at, 0, member->life);
    return true;
}

bool sim_strike_transfer(struct sim_strike *strike, uint32_t at, uint32_t to)
{
    struct world *world = strike->world;
    struct sim_member *member = &world->members[at];
    if (member->group == NULL || member->paused || at == to) {
        return false;
    }
    sim_strike_tell(strike, " %s to %s", member->name, world->members[to].name);
    return sim_transfer(world, at, to);
}

bool sim_strike_member(struct sim_strike *strike)
{
    uint32_t at;
    switch ((int)strike->fault) {
    case SIM_FAULT_CRASH:
        return crash(strike, sim_strike_find(strike, sim_is_up), 3000);
    case SIM_FAULT_NO_MEMORY:
        return no_memory(strike);
    case SIM_FAULT_ABSENCE:
        return absence(strike);
    case SIM_FAULT_CLOSE:
        return close_member(strike);
    case SIM_FAULT_STORM:
        return storm(strike);
    case SIM_FAULT_PAUSE:
        return pause_member(strike);
    case SIM_FAULT_START_CRASH:
        return start_crash(strike);
    case SIM_FAULT_TRANSFER:
        at = sim_strike_find(strike, sim_is_awake)->at;
        return sim_strike_transfer(strike, at, sim_strike_pick(strike));
    case SIM_FAULT_PRUNE:
        at = sim_strike_pick(strike);
        return sim_sync_prune_soon(strike->world, at, sim_random_percent(&strike->random, 50));
    default:
        return false; /* conditions of the whole run */
    }
}

/* ---- the end of a fault ---- */

void sim_heal_member(struct world *world, enum sim_fault fault, uint32_t at)
{
    struct sim_member *member = &world->members[at];
    if (fault == SIM_FAULT_NO_MEMORY) {
        sim_member_repair(member, 200000);
    } else if (fault == SIM_FAULT_ABSENCE) {
        sim_member_start(member);
    } else if (fault == SIM_FAULT_START_CRASH && member->node != NULL) {
        sim_member_crash(member, 0);
        sim_push(world, world->now_us + 1000, SIM_START, at, 0, 0);
        sim_fault_count(world, SIM_FAULT_START_CRASH);
    }
}

void sim_heal_members(struct world *world)
{
    for (uint32_t i = 0; i < world->count; i++) {
        struct sim_member *member = &world->members[i];
        sim_heal_clocks(member);
        member->refusals = 0;
        sim_member_pause(member, false);
        sim_heal_disks(member);
        sim_heal_vault(member);
        sim_member_start(member);
    }
}
