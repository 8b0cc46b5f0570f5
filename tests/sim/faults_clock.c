/* SPDX-License-Identifier: MIT */
/* Faults of time: clocks that are off, and members that take their time. */
#include "faults.h"

/* one turn of a slow loop */
#define TURN_US_MAX 50000u
/* after so long in one turn a slow machine asks for a pause */
#define APPLY_US_MAX 200000u

static bool slow(struct sim_strike *strike, struct sim_member *member)
{
    uint64_t takes_us = sim_random_in(&strike->random, 1000, TURN_US_MAX);
    member->dawdle.state = sim_random_next(&strike->random);
    if (strike->fault == SIM_FAULT_SLOW_LOOP) {
        member->dawdle_max_us = takes_us;
    } else {
        member->apply_max_us = takes_us;
        member->apply_busy_percent = (uint32_t)sim_random_in(&strike->random, 0, 90);
    }
    sim_strike_tell(strike, " up to %.1f ms", (double)takes_us / 1000.0);
    sim_strike_heal(strike, sim_strike_until(strike, 200, 8000), member->at);
    return true;
}

bool sim_strike_clock(struct sim_strike *strike)
{
    struct sim_member *member = sim_strike_find(strike, sim_is_up);
    sim_strike_tell(strike, " %s", member->name);
    if (strike->fault == SIM_FAULT_SLOW_LOOP || strike->fault == SIM_FAULT_SLOW_APPLY) {
        return slow(strike, member);
    }
    if (strike->fault == SIM_FAULT_CLOCK_STOP) {
        sim_clock_stop(member, true);
        sim_strike_heal(strike, sim_strike_until(strike, 20, 5000), member->at);
        return true;
    }
    uint64_t by_us = sim_strike_until(strike, 1, 10000) - strike->world->now_us;
    sim_strike_tell(strike, " by %.3f ms", (double)by_us / 1000.0);
    sim_clock_leap(member, by_us);
    return true;
}

enum ls_status sim_slow_apply(struct sim_member *member, size_t *count)
{
    /* reading the own journal takes no time: a query has to wait for it and cannot be busy */
    if (member->apply_max_us == 0 || !sim_disk_ready(member->world, member->at)) {
        return LS_OK;
    }
    if (sim_member_time(member, member->floor_us) > member->world->now_us + APPLY_US_MAX) {
        return LS_ERR_BUSY;
    }
    sim_dawdle(member, sim_random_in(&member->dawdle, 1, member->apply_max_us));
    if (sim_random_percent(&member->dawdle, member->apply_busy_percent)) {
        sim_check_refused(member);
        return LS_ERR_BUSY;
    }
    *count = (size_t)sim_random_in(&member->dawdle, 1, *count);
    return LS_OK;
}

/* ---- the whole run ---- */

void sim_clock_conditions(struct sim_member *member, struct sim_random *random)
{
    struct world *world = member->world;
    /* all are drawn, so that one that is switched off leaves the others */
    int32_t rate = (int32_t)sim_random_in(random, 0, 200) - 100;
    uint64_t granularity_us = (uint64_t)1000u << sim_random_in(random, 0, 4);
    uint32_t halved = (uint32_t)sim_random_in(random, 0, 4);
    uint64_t start_us = sim_random_in(random, 0, 20000000u >> halved);
    bool late = sim_random_percent(random, 50);
    if (sim_fault_enabled(world, SIM_FAULT_CLOCK_RATE)) {
        member->rate_permille = rate == 0 ? 1 : rate;
        sim_fault_count(world, SIM_FAULT_CLOCK_RATE);
    }
    if (sim_fault_enabled(world, SIM_FAULT_CLOCK_COARSE)) {
        member->granularity_us = granularity_us;
        sim_fault_count(world, SIM_FAULT_CLOCK_COARSE);
    }
    if (sim_fault_enabled(world, SIM_FAULT_LATE_START) && (late || member->at == 0)) {
        member->late_us = start_us;
        sim_fault_count(world, SIM_FAULT_LATE_START);
    }
}

/* ---- the end ---- */

void sim_heal_clock(struct world *world, enum sim_fault fault, uint32_t at)
{
    struct sim_member *member = &world->members[at];
    if (fault == SIM_FAULT_SLOW_LOOP) {
        member->dawdle_max_us = 0;
    } else if (fault == SIM_FAULT_SLOW_APPLY) {
        member->apply_max_us = 0;
    } else if (fault == SIM_FAULT_CLOCK_STOP) {
        sim_clock_stop(member, false);
    }
}

void sim_heal_clocks(struct sim_member *member)
{
    member->dawdle_max_us = member->apply_max_us = 0;
    sim_clock_settle(member);
}
