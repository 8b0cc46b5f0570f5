/* SPDX-License-Identifier: MIT */
/*
 * Who the members are and how they are set: how many, which of them observe or lead only
 * reluctantly, who comes late, how much is sent ahead, and now and then a network so even that
 * nothing but chance keeps elections apart.
 */
#include "world.h"

/* no fault and no member has this stream */
#define STREAM 0x746f706f6c6f6779u

uint32_t sim_topology_count(struct sim_random *random)
{
    /* most bugs of quorums need three or five */
    static const uint8_t counts[] = {1, 2, 3, 3, 3, 3, 4, 4, 5, 5, 5, 5, 6, 6, 7, 7};
    return counts[sim_random_in(random, 0, sizeof counts - 1)];
}

/* The first is always a voter. */
static void seats(struct world *world, struct sim_random *random)
{
    uint32_t observers = sim_random_percent(random, 35) ? (uint32_t)sim_random_in(random, 1, 2) : 0;
    bool reluctant = sim_random_percent(random, 20);
    for (uint32_t i = 0; i < world->count; i++) {
        bool observes = world->count - i <= observers && i > 0;
        world->founders[i].role = observes ? LS_MEMBER_OBSERVER : LS_MEMBER_VOTER;
        bool leads_late = reluctant && sim_random_percent(random, 30);
        world->members[i].reluctance = leads_late ? (uint32_t)sim_random_in(random, 2, 4) : 1;
    }
}

bool sim_is_voter(const struct world *world, uint32_t at)
{
    return world->founders[at].role == LS_MEMBER_VOTER;
}

void sim_topology_open(struct world *world)
{
    struct sim_random random = {world->options.seed ^ STREAM};
    struct sim_network *network = &world->network;
    seats(world, &random);
    if (sim_random_percent(&random, 40)) {
        world->window_bytes = (uint64_t)16 << sim_random_in(&random, 0, 8);
    }
    if (sim_random_percent(&random, 15)) {
        network->delay_min_us += 1000;
        network->delay_max_us = network->delay_min_us + (uint32_t)sim_random_in(&random, 0, 50);
    }
    uint32_t late = (uint32_t)sim_random_in(&random, 0, 4 * world->count);
    for (uint32_t i = 0; i < world->count; i++) {
        uint64_t at_us = sim_random_in(&random, 0, 300000);
        at_us += i == late ? sim_random_in(&random, 1000000, 4000000) : 0;
        at_us = world->members[i].late_us != 0 ? world->members[i].late_us : at_us;
        sim_push(world, at_us, SIM_START, i, 0, 0);
    }
}

void sim_topology_group(const struct sim_member *member, struct ls_group_options *options)
{
    const struct world *world = member->world;
    options->election_ms = world->election_ms;
    options->heartbeat_ms = world->heartbeat_ms;
    options->reluctance = member->reluctance;
    options->window_bytes = world->window_bytes != 0 ? world->window_bytes : options->window_bytes;
}
