/* SPDX-License-Identifier: MIT */
/* Faults of paths: broken sessions and partitions. */
#include "faults.h"

static bool reset(struct sim_strike *strike)
{
    uint32_t a = sim_strike_pick(strike), b = sim_strike_pick(strike);
    sim_strike_tell(strike, " %c-%c", 'a' + (int)a, 'a' + (int)b);
    return a != b && sim_network_reset(strike->world, a, b);
}

static void partition_end(struct world *world)
{
    world->partition = 0;
    for (uint32_t from = 0; from < world->count; from++) {
        for (uint32_t to = 0; to < world->count; to++) {
            sim_network_block(world, from, to, false);
        }
    }
}

/* Blocks every path from a member of `left` to one that is not in it, and unless `one_way` back. */
static bool partition(struct sim_strike *strike, uint32_t left, bool one_way)
{
    struct world *world = strike->world;
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
    sim_strike_tell(strike, " ");
    for (uint32_t i = 0; i < world->count; i++) {
        if ((left >> i & 1u) != 0) {
            sim_strike_tell(strike, "%c", 'a' + (int)i);
        }
    }
    world->partition = strike->number + 1u;
    sim_strike_heal(strike, sim_strike_until(strike, 100, 8000), 0);
    return any;
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
static bool deaf_leader(struct sim_strike *strike)
{
    struct world *world = strike->world;
    uint32_t leader = leader_of(world), to = sim_strike_pick(strike);
    if (leader == world->count) {
        return false;
    }
    uint32_t others = ((1u << world->count) - 1u) & ~(1u << leader);
    bool any = partition(strike, others, true);
    if (sim_strike_transfer(strike, leader, to)) {
        world->injected[SIM_FAULT_TRANSFER]++;
    }
    return any;
}

bool sim_strike_network(struct sim_strike *strike)
{
    uint32_t all = (1u << strike->world->count) - 1u;
    switch ((int)strike->fault) {
    case SIM_FAULT_RESET:
        return reset(strike);
    case SIM_FAULT_HALVES:
        return partition(strike, (uint32_t)sim_random_in(&strike->random, 1, all), false);
    case SIM_FAULT_ISOLATE:
        return partition(strike, 1u << sim_strike_pick(strike), false);
    case SIM_FAULT_ONE_WAY:
        if (sim_random_percent(&strike->random, 50)) {
            return deaf_leader(strike);
        }
        return partition(strike, (uint32_t)sim_random_in(&strike->random, 1, all), true);
    default:
        return false; /* conditions of the whole run */
    }
}

void sim_heal_network(struct world *world, uint64_t token)
{
    if (world->partition == token) {
        partition_end(world);
    }
}

void sim_heal_paths(struct world *world)
{
    world->network.tail_percent = 0;
    partition_end(world);
}
