/* SPDX-License-Identifier: MIT */
/* Faults of paths: broken sessions, damaged bytes, partitions, clogged and slow paths. */
#include "faults.h"

/* Any other member. */
static uint32_t pick_other(struct sim_strike *strike, uint32_t than)
{
    uint32_t count = strike->world->count;
    return (than + 1u + (uint32_t)sim_random_in(&strike->random, 0, count - 2)) % count;
}

/* The connections of two members, or one of them. */
static bool reset(struct sim_strike *strike)
{
    uint32_t count = strike->world->count, first = sim_strike_pick(strike);
    uint32_t by = pick_other(strike, first) + count - first;
    bool all = sim_random_percent(&strike->random, 50);
    for (uint32_t i = 0; i < count * (count - 1); i++) {
        uint32_t a = (first + i) % count, b = (a + 1u + (by + i / count) % (count - 1)) % count;
        if (sim_sockets_reset(strike->world, a, b, all)) {
            sim_strike_tell(strike, " %c-%c%s", 'a' + (int)a, 'a' + (int)b, all ? "" : " one lane");
            return true;
        }
    }
    return false;
}

/* ---- partitions: one at a time ---- */

static void partition_end(struct world *world)
{
    world->partition = 0;
    for (uint32_t from = 0; from < world->count; from++) {
        for (uint32_t to = 0; to < world->count; to++) {
            sim_network_block(world, from, to, false);
        }
    }
}

static void partition_begin(struct sim_strike *strike)
{
    partition_end(strike->world);
    strike->world->partition = strike->number + 1u;
    sim_strike_heal(strike, sim_strike_until(strike, 100, 8000), 0);
}

/* Blocks every path from a member of `left` to one that is not in it, and unless `one_way` back. */
static bool partition(struct sim_strike *strike, uint32_t left, bool one_way)
{
    struct world *world = strike->world;
    bool any = false;
    partition_begin(strike);
    for (uint32_t from = 0; from < world->count; from++) {
        for (uint32_t to = 0; to < world->count; to++) {
            if ((left >> from & 1u) != 0 && (left >> to & 1u) == 0) {
                sim_network_block(world, from, to, true);
                if (!one_way) {
                    sim_network_block(world, to, from, true);
                }
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
    return any;
}

/* Every member hears its two neighbours in some order. */
static bool ring(struct sim_strike *strike)
{
    struct world *world = strike->world;
    uint32_t order[SIM_MEMBERS_MAX], count = world->count;
    partition_begin(strike);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = (uint32_t)sim_random_in(&strike->random, 0, i);
        order[i] = order[at];
        order[at] = i;
    }
    sim_strike_tell(strike, " ");
    for (uint32_t i = 0; i < count; i++) {
        sim_strike_tell(strike, "%c", 'a' + (int)order[i]);
        for (uint32_t far = 2; far + 1 < count; far++) {
            sim_network_block(world, order[i], order[(i + far) % count], true);
        }
    }
    return count > 3;
}

/* Everybody hears the centre only, which hears all. */
static bool star(struct sim_strike *strike, uint32_t centre)
{
    struct world *world = strike->world;
    partition_begin(strike);
    sim_strike_tell(strike, " around %c", 'a' + (int)centre);
    for (uint32_t from = 0; from < world->count; from++) {
        for (uint32_t to = 0; to < world->count; to++) {
            if (from != centre && to != centre && from != to) {
                sim_network_block(world, from, to, true);
            }
        }
    }
    return world->count > 2;
}

/* ---- single paths ---- */

static bool clog_path(struct sim_strike *strike)
{
    struct world *world = strike->world;
    uint32_t from = sim_strike_pick(strike), to = pick_other(strike, from);
    uint64_t until_us = sim_strike_until(strike, 100, 6000);
    sim_strike_tell(strike, " %c to %c", 'a' + (int)from, 'a' + (int)to);
    sim_path_block(world, from, to, SIM_BLOCK_CLOG, true);
    sim_strike_heal(strike, until_us, from);
    return true;
}

static bool flap_path(struct sim_strike *strike)
{
    uint32_t from = sim_strike_pick(strike), to = pick_other(strike, from);
    uint64_t until_us = sim_strike_until(strike, 500, 8000);
    bool both = sim_random_percent(&strike->random, 50);
    sim_strike_tell(strike, " %c to %c%s", 'a' + (int)from, 'a' + (int)to, both ? ", both" : "");
    sim_network_flap(strike->world, from, to, until_us);
    if (both) {
        sim_network_flap(strike->world, to, from, until_us);
    }
    return true;
}

/* Little of what is sent to this member gets there. */
static bool slow_peer(struct sim_strike *strike)
{
    struct world *world = strike->world;
    uint32_t to = sim_strike_pick(strike);
    uint32_t bytes_per_s = (uint32_t)1000u << sim_random_in(&strike->random, 0, 7);
    sim_strike_tell(strike, " %c takes %u bytes/s", 'a' + (int)to, bytes_per_s);
    for (uint32_t from = 0; from < world->count; from++) {
        sim_network_narrow(world, from, to, bytes_per_s);
    }
    sim_strike_heal(strike, sim_strike_until(strike, 200, 8000), to);
    return true;
}

static bool damage(struct sim_strike *strike)
{
    uint32_t from = 0, to = 0;
    if (!sim_sockets_damage(strike->world, &strike->random, &from, &to)) {
        return false;
    }
    sim_strike_tell(strike, " %c to %c", 'a' + (int)from, 'a' + (int)to);
    return true;
}

/* The member that leads the newest term; count: none does. */
static uint32_t leader_of(struct world *world)
{
    uint32_t leader = world->count;
    ls_term term = 0;
    for (uint32_t i = 0; i < world->count; i++) {
        if (world->members[i].group != NULL) {
            struct ls_group_status status;
            sim_glance(&world->members[i], &status);
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
    case SIM_FAULT_RING:
        return ring(strike);
    case SIM_FAULT_STAR:
        return star(strike, sim_strike_pick(strike));
    case SIM_FAULT_CLOG:
        return clog_path(strike);
    case SIM_FAULT_FLAP:
        return flap_path(strike);
    case SIM_FAULT_SLOW_PEER:
        return slow_peer(strike);
    case SIM_FAULT_DAMAGE:
        return damage(strike);
    default:
        return false; /* conditions of the whole run */
    }
}

void sim_heal_network(struct world *world, enum sim_fault fault, uint32_t at, uint64_t token)
{
    if (fault == SIM_FAULT_CLOG) {
        for (uint32_t to = 0; to < world->count; to++) {
            sim_path_block(world, at, to, SIM_BLOCK_CLOG, false);
        }
    } else if (fault == SIM_FAULT_SLOW_PEER) {
        for (uint32_t from = 0; from < world->count; from++) {
            sim_network_narrow(world, from, at, 0);
        }
    } else if (world->partition == token) {
        partition_end(world);
    }
}

void sim_heal_paths(struct world *world)
{
    world->partition = 0;
    sim_network_calm(world);
}
