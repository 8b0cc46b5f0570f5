/* SPDX-License-Identifier: MIT */
/* Faults of vaults, and power cuts in the steps of an install. */
#include "faults.h"
#include "snapshots.h"

#define LOADS_MAX 6u /* reads of the staged file that are let through at most */

static bool crash(struct sim_strike *strike)
{
    uint32_t step = (uint32_t)(strike->fault - SIM_FAULT_INSTALL_LOADING);
    struct sim_install_crash *crash = &strike->world->install_crashes[step];
    bool after = sim_random_percent(&strike->random, 50) && step != SIM_INSTALL_LOADING;
    uint32_t skip = (uint32_t)sim_random_in(&strike->random, 0, LOADS_MAX);
    bool keeps = sim_random_percent(&strike->random, 50);
    uint64_t down_us = sim_strike_until(strike, 1, 2000) - strike->world->now_us;
    *crash = (struct sim_install_crash){.armed = true,
                                        .after = after,
                                        .keeps = keeps,
                                        .skip = step == SIM_INSTALL_LOADING ? skip : 0,
                                        .down_us = down_us};
    sim_strike_tell(strike, " %s the step of the next install", after ? "after" : "before");
    return true;
}

/* What was read back already, nobody looks at again. */
static bool is_staging(const struct sim_member *member)
{
    return member->node != NULL && !member->vault.install.runs;
}

static bool damage(struct sim_strike *strike)
{
    struct sim_member *member = sim_strike_find(strike, is_staging);
    uint64_t offset = sim_random_next(&strike->random);
    const struct ls_group_id *id = &member->shadow.group;
    uint64_t bytes = 0;
    if (!is_staging(member)) {
        return false;
    }
    while (bytes < 64u << 20 &&
           ls_vault_medium_flip(member->vault.medium, id, LS_VAULT_STAGED, bytes)) {
        (void)ls_vault_medium_flip(member->vault.medium, id, LS_VAULT_STAGED, bytes);
        bytes = bytes == 0 ? 1 : bytes * 2;
    }
    if (bytes == 0 || !ls_vault_medium_flip(member->vault.medium, id, LS_VAULT_STAGED,
                                            offset % ((bytes + 1) / 2))) {
        return false;
    }
    sim_strike_tell(strike, " %s", member->name);
    return true;
}

bool sim_strike_vault(struct sim_strike *strike)
{
    if (strike->fault >= SIM_FAULT_INSTALL_LOADING) {
        return crash(strike);
    }
    if (strike->fault == SIM_FAULT_VAULT_DAMAGE) {
        return damage(strike);
    }
    struct sim_member *member = sim_strike_find(strike, sim_is_up);
    sim_strike_tell(strike, " %s", member->name);
    if (strike->fault == SIM_FAULT_VAULT_ERROR) {
        member->vault.fail_after = (uint32_t)sim_random_in(&strike->random, 0, 12);
        member->vault.fails = (uint32_t)sim_random_in(&strike->random, 1, 4);
    } else {
        member->vault.full = true;
    }
    sim_strike_heal(strike, sim_strike_until(strike, 500, 10000), member->at);
    return true;
}

void sim_heal_vault(struct sim_member *member)
{
    struct world *world = member->world;
    member->vault.fails = 0;
    member->vault.full = false;
    sim_member_repair(member, world->quiet ? 0 : 200000);
    if (world->quiet) {
        (void)memset(world->install_crashes, 0, sizeof world->install_crashes);
    }
}
