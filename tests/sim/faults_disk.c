/* SPDX-License-Identifier: MIT */
/* Faults of disks: slow and hung syncs, errors, no room, a power cut within a commit. */
#include "faults.h"
#include "snapshots.h"

/* milliseconds; doubled up to this often: 51 s */
#define SYNC_MS_MIN      100u
#define SYNC_DOUBLED_MAX 9u

static bool slow_sync(struct sim_strike *strike, uint32_t at)
{
    struct sim_member *member = &strike->world->members[at];
    uint32_t slowest_ms = SYNC_MS_MIN << sim_random_in(&strike->random, 0, SYNC_DOUBLED_MAX);
    if (strike->fault == SIM_FAULT_HUNG_SYNC) {
        member->sync_hangs = true;
    } else {
        member->sync_min_us = 20000;
        member->sync_max_us = slowest_ms * 1000u;
        sim_strike_tell(strike, " up to %u ms", slowest_ms);
    }
    sim_strike_heal(strike, sim_strike_until(strike, 200, 20000), at);
    return true;
}

void sim_disk_arm(struct sim_member *member, size_t after)
{
    const struct sim_disk_error *error = &member->disk_error;
    if (error->kind != LS_STORAGE_FAULT_NONE && !error->struck) {
        ls_storage_medium_fail(member->medium, error->kind, after);
    }
}

void sim_disk_failed(struct sim_member *member)
{
    struct world *world = member->world;
    struct sim_disk_error *error = &member->disk_error;
    member->excused |= 1u << LS_ERR_IO;
    if (!error->struck) {
        error->struck = true;
        sim_fault_count(world, error->fault);
        world->in_force[error->fault][member->at] = error->number + 1u;
        sim_push(world, world->now_us + error->lasts_us, SIM_HEAL, (uint32_t)error->fault,
                 member->at, error->number + 1u);
    }
}

/* The store latches the failure, the group halts; an operator starts it again. */
static bool error(struct sim_strike *strike, uint32_t at)
{
    struct world *world = strike->world;
    struct sim_member *member = &world->members[at];
    bool there = sim_random_percent(&strike->random, 50);
    size_t after = (size_t)sim_random_in(&strike->random, 0, 3);
    uint64_t until_us = sim_strike_until(strike, 500, 5000);
    if (member->node == NULL || member->disk_error.kind != LS_STORAGE_FAULT_NONE) {
        return false;
    }
    enum ls_storage_fault fault = strike->fault == SIM_FAULT_WRITE_ERROR ? LS_STORAGE_FAULT_WRITE
                                  : strike->fault == SIM_FAULT_DISK_FULL ? LS_STORAGE_FAULT_FULL
                                  : there                                ? LS_STORAGE_FAULT_SYNC
                                          : LS_STORAGE_FAULT_SYNC_LOST;
    member->disk_error = (struct sim_disk_error){.kind = fault,
                                                 .fault = strike->fault,
                                                 .number = strike->number,
                                                 .lasts_us = until_us - world->now_us};
    sim_disk_arm(member, after);
    sim_strike_tell(strike, " after %zu%s", after,
                    fault == LS_STORAGE_FAULT_SYNC_LOST ? ", lost" : "");
    return true;
}

static bool torn_commit(struct sim_strike *strike, uint32_t at)
{
    struct sim_member *member = &strike->world->members[at];
    uint32_t cut =
        (uint32_t)sim_random_in(&strike->random, LS_STORAGE_CUT_LOWERING, LS_STORAGE_CUT_RAISING);
    size_t bytes = (size_t)sim_random_in(&strike->random, 0, 151);
    uint64_t down_us = sim_strike_until(strike, 1, 3000) - strike->world->now_us;
    if (member->node == NULL) {
        return false;
    }
    member->tear = (enum ls_storage_cut)cut;
    member->tear_bytes = bytes;
    member->tear_down_us = down_us;
    sim_strike_tell(strike, " at step %u, byte %zu", cut, bytes);
    return true;
}

static bool busy(struct sim_strike *strike, uint32_t at)
{
    struct sim_member *member = &strike->world->members[at];
    size_t stages = (size_t)1u << sim_random_in(&strike->random, 0, 9);
    if (member->node == NULL) {
        return false;
    }
    ls_storage_medium_refuse(member->medium, stages);
    sim_strike_tell(strike, " %zu times", stages);
    return true;
}

bool sim_strike_disk(struct sim_strike *strike)
{
    if (strike->fault == SIM_FAULT_DISK_DAMAGE) {
        return sim_strike_damage(strike);
    }
    uint32_t at = sim_strike_find(strike, sim_is_up)->at;
    sim_strike_tell(strike, " %s", strike->world->members[at].name);
    switch ((int)strike->fault) {
    case SIM_FAULT_TORN_COMMIT:
        return torn_commit(strike, at);
    case SIM_FAULT_SLOW_SYNC:
    case SIM_FAULT_HUNG_SYNC:
        return slow_sync(strike, at);
    case SIM_FAULT_STORE_BUSY:
        return busy(strike, at);
    default:
        return error(strike, at);
    }
}

/* ---- the end ---- */

static void sync_heal(struct sim_member *member)
{
    member->sync_hangs = false;
    member->sync_min_us = 50;
    member->sync_max_us = 2000;
    sim_member_disk(member);
    sim_vault_heal(member);
}

static void error_heal(struct sim_member *member)
{
    ls_storage_medium_fail(member->medium, LS_STORAGE_FAULT_NONE, 0);
    member->disk_error = (struct sim_disk_error){.kind = LS_STORAGE_FAULT_NONE};
}

void sim_heal_disk(struct world *world, enum sim_fault fault, uint32_t at)
{
    struct sim_member *member = &world->members[at];
    if (fault == SIM_FAULT_SLOW_SYNC || fault == SIM_FAULT_HUNG_SYNC) {
        sync_heal(member);
    } else if (member->disk_error.fault == fault) {
        error_heal(member);
        sim_member_repair(member, 200000);
    }
}

void sim_heal_disks(struct sim_member *member)
{
    error_heal(member);
    member->tear = (enum ls_storage_cut)0;
    ls_storage_medium_refuse(member->medium, 0);
    sync_heal(member);
    sim_member_repair(member, 0);
}
