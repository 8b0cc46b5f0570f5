/* SPDX-License-Identifier: MIT */
/* What sockets.c and dialing.c share: descriptors, ends, and how they are looked at. */
#ifndef LOCKSTEP_SIM_SOCKETS_H
#define LOCKSTEP_SIM_SOCKETS_H

#include "net.h"

/* a descriptor is a listener (the member's place), or from here on one end of a connection */
#define SIM_DESCRIPTORS_FROM 64
/* arrivals under way in one direction of a connection: more are put together */
#define SIM_DUES_MAX 64u

static inline uint32_t sim_index_of(int descriptor)
{
    return (uint32_t)(descriptor - SIM_DESCRIPTORS_FROM) >> 1;
}

static inline uint32_t sim_side_of(int descriptor)
{
    return (uint32_t)(descriptor - SIM_DESCRIPTORS_FROM) & 1u;
}

static inline int sim_descriptor_of(uint32_t index, uint32_t side)
{
    return SIM_DESCRIPTORS_FROM + (int)(index << 1 | side);
}

static inline struct sim_end *sim_end_of(struct world *world, int descriptor)
{
    uint32_t index = sim_index_of(descriptor);
    LS_ASSERT(descriptor >= SIM_DESCRIPTORS_FROM && index < world->network.connections_count);
    return &world->network.connections[index]->ends[sim_side_of(descriptor)];
}

static inline bool sim_gone(const struct sim_end *end)
{
    return end->state == SIM_END_NONE || end->state == SIM_END_CLOSED || end->state == SIM_END_DEAD;
}

/** Looks at an end at that time: bytes that arrive, room, its end. */
void sim_look(struct world *world, uint32_t index, uint32_t side, uint64_t at_us);
/** It fails then, unless the news cannot get through. */
void sim_break_at(struct world *world, uint32_t index, uint32_t side, uint64_t at_us, int failure);
/** Both ends are gone: its place is free. */
void sim_release_if_over(struct sim_connection *connection);
void sim_fire(struct world *world, struct ls__event *event, uint32_t member);

/* ---- dialing.c ---- */

struct sim_connection *sim_longest_waiting(struct sim_network *network, uint32_t at,
                                           uint32_t *index);
void sim_listener_close(struct world *world, uint32_t at);
void sim_dial_event(struct world *world, const struct sim_event *at);

#endif
