/* SPDX-License-Identifier: MIT */
/* Virtual sockets, their first part: listening, dialling, accepting. */
#include "sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#define PORTS_FROM 20000u
/* a first packet that is lost is sent again after so long, doubled each time */
#define DIAL_AGAIN_US 200000u
#define DIALS_MAX     5u

static uint32_t connection_take(struct sim_network *network)
{
    uint32_t index = 0;
    while (index < network->connections_count && network->connections[index]->used) {
        index++;
    }
    if (index == network->connections_capacity) {
        network->connections_capacity = index == 0 ? 64 : index * 2;
        network->connections = realloc(network->connections, network->connections_capacity *
                                                                 sizeof(struct sim_connection *));
        LS_ASSERT(network->connections != NULL);
    }
    if (index == network->connections_count) {
        struct sim_connection *added = sim_allocate(sizeof *added);
        for (uint32_t side = 0; side < 2; side++) {
            added->ends[side].in.ring = sim_allocate(network->ring_bytes);
            added->ends[side].in.marks = sim_allocate(SIM_DUES_MAX * sizeof(struct sim_due));
        }
        added->generation = 1;
        network->connections[network->connections_count++] = added;
    }
    return index;
}

static void end_open(struct sim_end *end, enum sim_end_state state, uint32_t member)
{
    const struct sim_pipe in = {.ring = end->in.ring, .marks = end->in.marks, .damaged = SIM_NEVER};
    *end = (struct sim_end){.state = state, .member = member, .in = in, .look_us = SIM_NEVER};
}

int sim_socket_dial(void *self, const struct ls__address *address)
{
    struct sim_member *member = self;
    struct world *world = member->world;
    struct sim_network *network = &world->network;
    struct sockaddr_in name;
    (void)memcpy(&name, &address->storage, sizeof name);
    uint32_t to = (ntohl(name.sin_addr.s_addr) & 0xffu) - 1u;
    if (address->storage.ss_family != AF_INET || to >= world->count || to == member->at) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    if (network->ports[member->at].cut) {
        errno = ENETDOWN;
        return -1;
    }
    uint32_t index = connection_take(network);
    struct sim_connection *connection = network->connections[index];
    connection->used = true;
    connection->dials = 0;
    end_open(&connection->ends[0], SIM_END_DIALING, member->at);
    end_open(&connection->ends[1], SIM_END_NONE, to);
    sim_push(world, sim_path_due(world, member->at, to, 60), SIM_DIAL, index, 0,
             connection->generation);
    return sim_descriptor_of(index, 0);
}

/* The first packet is at the other host, or the answer is back. */
void sim_dial_event(struct world *world, const struct sim_event *at)
{
    struct sim_network *network = &world->network;
    struct sim_connection *connection = network->connections[at->a];
    if (connection->generation != at->token || sim_gone(&connection->ends[0])) {
        return;
    }
    uint32_t a = connection->ends[0].member, b = connection->ends[1].member;
    uint32_t from = at->b == 0 ? a : b, to = at->b == 0 ? b : a;
    if (network->paths[from][to].blocked != 0) {
        uint32_t dials = connection->dials < DIALS_MAX ? connection->dials++ : DIALS_MAX;
        sim_push(world, world->now_us + (DIAL_AGAIN_US << dials), SIM_DIAL, at->a, at->b,
                 at->token);
        return;
    }
    if (at->b == 1) {
        connection->ends[0].state = SIM_END_OPEN;
        sim_look(world, at->a, 0, world->now_us);
        return;
    }
    uint64_t back_us = sim_path_due(world, to, from, 60);
    struct sim_listener *listener = &network->listeners[to];
    if (!listener->open) {
        sim_break_at(world, at->a, 0, back_us, ECONNREFUSED);
        return;
    }
    /* the kernel answers, also for a process that stands still */
    network->connects++;
    connection->ends[1].state = SIM_END_WAITING;
    connection->order = network->connects;
    sim_push(world, back_us, SIM_DIAL, at->a, 1, at->token);
    if (listener->readable != NULL && !world->members[to].paused) {
        sim_fire(world, listener->readable, to);
    }
}

int sim_socket_listen(void *self, const struct ls__address *address)
{
    struct sim_member *member = self;
    struct sim_listener *listener = &member->world->network.listeners[member->at];
    (void)address;
    if (listener->open) {
        errno = EADDRINUSE;
        return -1;
    }
    *listener = (struct sim_listener){.open = true};
    return (int)member->at;
}

struct sim_connection *sim_longest_waiting(struct sim_network *network, uint32_t at,
                                           uint32_t *index)
{
    struct sim_connection *found = NULL;
    for (uint32_t i = 0; i < network->connections_count; i++) {
        struct sim_connection *connection = network->connections[i];
        if (connection->used && connection->ends[1].member == at &&
            connection->ends[1].state == SIM_END_WAITING &&
            (found == NULL || connection->order < found->order)) {
            found = connection;
            *index = i;
        }
    }
    return found;
}

int sim_socket_accept(void *self, int listener, struct ls__address *remote)
{
    struct sim_member *member = self;
    LS_ASSERT(listener == (int)member->at);
    uint32_t index = 0;
    struct sim_connection *connection =
        sim_longest_waiting(&member->world->network, member->at, &index);
    if (connection == NULL) {
        errno = EAGAIN;
        return -1;
    }
    connection->ends[1].state = SIM_END_OPEN;
    struct sockaddr_in name = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)(PORTS_FROM + index)),
                               .sin_addr.s_addr = htonl(0x0a000001u + connection->ends[0].member)};
    (void)memset(remote, 0, sizeof *remote);
    (void)memcpy(&remote->storage, &name, sizeof name);
    remote->bytes = sizeof name;
    return sim_descriptor_of(index, 1);
}

int sim_socket_failure(void *self, int descriptor)
{
    const struct sim_member *member = self;
    return sim_end_of(member->world, descriptor)->failure;
}

void sim_listener_close(struct world *world, uint32_t at)
{
    struct sim_network *network = &world->network;
    network->listeners[at] = (struct sim_listener){.open = false};
    for (uint32_t i = 0; i < network->connections_count; i++) {
        struct sim_connection *connection = network->connections[i];
        struct sim_end *end = &connection->ends[1];
        if (connection->used && end->member == at && end->state == SIM_END_WAITING) {
            end->state = SIM_END_CLOSED;
            sim_break_at(world, i, 0, world->now_us + network->delay_min_us, ECONNRESET);
            sim_release_if_over(connection);
        }
    }
}
