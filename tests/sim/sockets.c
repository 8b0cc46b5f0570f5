/* SPDX-License-Identifier: MIT */
/*
 * Virtual sockets: byte streams with a window, and the ways in which they end. Everything that
 * happens to an end is found by looking at it: bytes whose time has come, room for more, its end.
 */
#include "sockets.h"

#include <errno.h>
#include <stdlib.h>

#define BREAK_AGAIN_US 150000u
/* reads and writes that take only a part of what they could */
#define SHORT_PERCENT 3u
/* bytes of the handshake, one way: what is damaged behind them belongs to a record */
#define HANDSHAKE_BYTES 273u

/* ---- what becomes of an end ---- */

void sim_look(struct world *world, uint32_t index, uint32_t side, uint64_t at_us)
{
    struct sim_connection *connection = world->network.connections[index];
    struct sim_end *end = &connection->ends[side];
    if (connection->used && at_us < end->look_us) {
        end->look_us = at_us;
        sim_push(world, at_us, SIM_LOOK, index, side, connection->generation);
    }
}

void sim_break_at(struct world *world, uint32_t index, uint32_t side, uint64_t at_us, int failure)
{
    uint64_t generation = world->network.connections[index]->generation;
    sim_push(world, at_us, SIM_BREAK, index, side, generation << 16 | (uint64_t)failure);
}

void sim_release_if_over(struct sim_connection *connection)
{
    if (connection->used && sim_gone(&connection->ends[0]) && sim_gone(&connection->ends[1])) {
        connection->used = false;
        connection->generation++;
    }
}

/* What is under way to this end never comes. */
static void pipe_cut(struct sim_pipe *in)
{
    in->marks_count = 0;
    in->due = 0;
    in->written = in->arrived;
    in->damaged = in->damaged < in->arrived ? in->damaged : SIM_NEVER;
}

static void pipe_mark(struct sim_pipe *in, uint64_t due)
{
    in->due = due > in->due ? due : in->due;
    if (in->marks_count == SIM_DUES_MAX) {
        in->marks_count--; /* the last two arrive together */
    }
    in->marks[(in->marks_first + in->marks_count) % SIM_DUES_MAX] =
        (struct sim_due){in->written, in->due};
    in->marks_count++;
}

/* Takes in what has arrived; tells when the next bytes do. */
static uint64_t pipe_arrive(struct world *world, uint32_t from, struct sim_end *end)
{
    const struct sim_path *path = &world->network.paths[from][end->member];
    struct sim_pipe *in = &end->in;
    if (path->blocked != 0 || in->marks_count == 0) {
        return SIM_NEVER;
    }
    while (in->marks_count > 0) {
        const struct sim_due *mark = &in->marks[in->marks_first];
        uint64_t due = mark->due > path->open_us ? mark->due : path->open_us;
        if (due > world->now_us) {
            return due;
        }
        in->arrived = mark->end;
        in->marks_first = (in->marks_first + 1u) % SIM_DUES_MAX;
        in->marks_count--;
    }
    return SIM_NEVER;
}

static bool is_readable(const struct sim_end *end)
{
    return end->activated || end->in.arrived > end->in.read || end->failure != 0 ||
           (end->finished && end->in.marks_count == 0);
}

static bool is_writable(const struct sim_network *network, const struct sim_end *end,
                        const struct sim_end *other)
{
    return end->failure != 0 || (end->state == SIM_END_OPEN &&
                                 other->in.written - other->in.read < network->window_bytes);
}

/* If it was a connection of the link, the bond goes down at once, and says why. */
static void damage_expect(struct world *world, const struct sim_end *end, uint32_t peer)
{
    struct sim_port *port = &world->network.ports[end->member];
    if (end->state == SIM_END_CLOSED && end->in.damaged >= HANDSHAKE_BYTES && port->up[peer]) {
        port->damaged_us[peer] = world->now_us;
    }
}

void sim_fire(struct world *world, struct ls__event *event, uint32_t member)
{
    event->fire(event->arg);
    sim_member_after(&world->members[member]);
}

static void on_look(struct world *world, const struct sim_event *at)
{
    struct sim_network *network = &world->network;
    struct sim_connection *connection = network->connections[at->a];
    struct sim_end *end = &connection->ends[at->b], *other = &connection->ends[1 - at->b];
    if (connection->generation != at->token || end->look_us != at->at) {
        return;
    }
    end->look_us = SIM_NEVER;
    uint64_t next = pipe_arrive(world, other->member, end);
    if (sim_gone(end)) {
        if (end->in.arrived > end->in.read) { /* nobody is there to take it */
            end->in.read = end->in.arrived;
            sim_break_at(world, at->a, 1 - at->b, world->now_us + network->delay_min_us,
                         ECONNRESET);
        }
    } else if (!world->members[end->member].paused) {
        if (end->writable != NULL && is_writable(network, end, other)) {
            struct ls__event *event = end->writable;
            end->writable = NULL;
            sim_fire(world, event, end->member);
        }
        if (connection->generation == at->token && end->readable != NULL && is_readable(end)) {
            end->activated = false;
            network->tainted = end->in.damaged < end->in.read;
            sim_fire(world, end->readable, end->member);
            if (network->tainted) {
                network->tainted = false;
                damage_expect(world, end, other->member);
            }
        }
        if (connection->generation == at->token && end->readable != NULL && is_readable(end)) {
            next = world->now_us; /* it fires until all is read */
        }
    }
    if (connection->generation == at->token && next != SIM_NEVER) {
        sim_look(world, at->a, at->b, next);
    }
}

static void end_break(struct world *world, uint32_t index, uint32_t side, int failure)
{
    struct sim_network *network = &world->network;
    struct sim_end *ends = network->connections[index]->ends, *end = &ends[side];
    end->failure = failure;
    network->ports[end->member].broken[ends[1 - side].member] = true;
    pipe_cut(&end->in);
    sim_look(world, index, side, world->now_us);
}

static void on_break(struct world *world, const struct sim_event *at)
{
    struct sim_network *network = &world->network;
    struct sim_connection *connection = network->connections[at->a];
    struct sim_end *end = &connection->ends[at->b], *other = &connection->ends[1 - at->b];
    if (connection->generation != at->token >> 16 || sim_gone(end) || end->failure != 0) {
        return;
    }
    bool host_down =
        other->state == SIM_END_DEAD && other->silent && world->members[other->member].node == NULL;
    if (host_down || network->paths[other->member][end->member].blocked != 0) {
        sim_push(world, world->now_us + BREAK_AGAIN_US, SIM_BREAK, at->a, at->b, at->token);
        return;
    }
    end_break(world, at->a, at->b, (int)(at->token & 0xffffu));
}

/* ---- bytes ---- */

/* From `from` on, around the end of the ring. */
static void ring_put(struct sim_pipe *in, uint32_t ring, const uint8_t *bytes, size_t count)
{
    uint32_t at = (uint32_t)in->written & (ring - 1u);
    size_t first = count < ring - at ? count : ring - at;
    (void)memcpy(in->ring + at, bytes, first);
    (void)memcpy(in->ring, bytes + first, count - first);
    in->written += count;
}

static size_t shortened(struct sim_network *network, size_t bytes)
{
    if (bytes > 1 && sim_random_percent(&network->random, SHORT_PERCENT)) {
        return (size_t)sim_random_in(&network->random, 1, bytes);
    }
    return bytes;
}

ssize_t sim_socket_write(void *self, int descriptor, struct iovec *vectors, size_t count)
{
    struct sim_member *member = self;
    struct world *world = member->world;
    struct sim_network *network = &world->network;
    struct sim_end *end = sim_end_of(world, descriptor);
    uint32_t index = sim_index_of(descriptor), side = sim_side_of(descriptor);
    struct sim_end *other = &network->connections[index]->ends[1 - side];
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        total += vectors[i].iov_len;
    }
    if (network->ports[member->at].cut) {
        return (ssize_t)total;
    }
    if (end->failure != 0) {
        errno = EPIPE;
        return -1;
    }
    size_t room = network->window_bytes - (size_t)(other->in.written - other->in.read);
    if (room == 0) {
        end->full = true;
        return 0;
    }
    size_t left = shortened(network, total < room ? total : room), bytes = left;
    for (size_t i = 0; left > 0; i++) {
        size_t some = vectors[i].iov_len < left ? vectors[i].iov_len : left;
        ring_put(&other->in, network->ring_bytes, vectors[i].iov_base, some);
        left -= some;
    }
    pipe_mark(&other->in, sim_path_due(world, member->at, other->member, bytes));
    sim_look(world, index, 1 - side, other->in.due);
    return (ssize_t)bytes;
}

/* How much may be taken now: a byte that was damaged begins a read of its own, so that what came
 * before it is taken in peace. */
static size_t takes(struct sim_network *network, const struct sim_pipe *in, size_t bytes)
{
    size_t there = (size_t)(in->arrived - in->read);
    size_t some = shortened(network, there < bytes ? there : bytes);
    if (in->damaged > in->read && in->damaged < in->read + some) {
        some = (size_t)(in->damaged - in->read);
    }
    return some;
}

ssize_t sim_socket_read(void *self, int descriptor, void *out, size_t bytes)
{
    struct sim_member *member = self;
    struct world *world = member->world;
    struct sim_network *network = &world->network;
    struct sim_end *end = sim_end_of(world, descriptor);
    struct sim_pipe *in = &end->in;
    uint32_t index = sim_index_of(descriptor), side = sim_side_of(descriptor);
    struct sim_end *other = &network->connections[index]->ends[1 - side];
    if (in->arrived == in->read) {
        bool over = end->finished && in->marks_count == 0;
        errno = end->failure != 0 ? end->failure : EAGAIN;
        return end->failure == 0 && over ? 0 : -1;
    }
    size_t some = takes(network, in, bytes);
    uint32_t at = (uint32_t)in->read & (network->ring_bytes - 1u);
    size_t first = some < network->ring_bytes - at ? some : network->ring_bytes - at;
    (void)memcpy(out, in->ring + at, first);
    (void)memcpy((uint8_t *)out + first, in->ring, some - first);
    network->tainted = network->tainted || in->damaged == in->read;
    in->read += some;
    if (other->full) {
        other->full = false;
        sim_look(world, index, 1 - side, world->now_us + network->delay_min_us);
    }
    return (ssize_t)some;
}

void sim_socket_close(void *self, int descriptor)
{
    struct sim_member *member = self;
    struct world *world = member->world;
    struct sim_network *network = &world->network;
    if (descriptor < SIM_DESCRIPTORS_FROM) {
        sim_listener_close(world, member->at);
        return;
    }
    struct sim_connection *connection = network->connections[sim_index_of(descriptor)];
    struct sim_end *end = &connection->ends[sim_side_of(descriptor)];
    struct sim_end *other = &connection->ends[1 - sim_side_of(descriptor)];
    end->readable = end->writable = NULL;
    if (end->state != SIM_END_DEAD) {
        struct sim_port *port = &network->ports[member->at];
        if (!network->tainted && port->damaged_us[other->member] != world->now_us) {
            port->broken[other->member] = true; /* given up for a reason of its own */
        }
        end->state = SIM_END_CLOSED;
        end->in.read = end->in.arrived;
        if (!sim_gone(other)) {
            other->finished = true;
            network->ports[other->member].broken[member->at] = true;
            pipe_mark(&other->in, sim_path_due(world, member->at, other->member, 60));
            sim_look(world, sim_index_of(descriptor), 1 - sim_side_of(descriptor), other->in.due);
        }
    }
    sim_release_if_over(connection);
}

void sim_socket_watch(struct sim_member *member, struct ls__event *event, bool on)
{
    struct world *world = member->world;
    if (event->descriptor < SIM_DESCRIPTORS_FROM) {
        world->network.listeners[member->at].readable = on ? event : NULL;
        return;
    }
    struct sim_end *end = sim_end_of(world, event->descriptor);
    struct ls__event **at = event->kind == LS__EVENT_READABLE ? &end->readable : &end->writable;
    if (on) {
        *at = event;
        sim_look(world, sim_index_of(event->descriptor), sim_side_of(event->descriptor),
                 world->now_us);
    } else if (*at == event) { /* else the descriptor is another one by now */
        *at = NULL;
    }
}

void sim_socket_activate(struct sim_member *member, const struct ls__event *event)
{
    sim_end_of(member->world, event->descriptor)->activated = true;
    sim_look(member->world, sim_index_of(event->descriptor), sim_side_of(event->descriptor),
             member->world->now_us);
}

/* ---- faults ---- */

bool sim_sockets_reset(struct world *world, uint32_t a, uint32_t b, bool all)
{
    struct sim_network *network = &world->network;
    bool any = false;
    for (uint32_t i = 0; i < network->connections_count && (all || !any); i++) {
        const struct sim_connection *connection = network->connections[i];
        uint32_t from = connection->ends[0].member, to = connection->ends[1].member;
        bool theirs = (from == a && to == b) || (from == b && to == a);
        if (connection->used && theirs && !sim_gone(&connection->ends[0])) {
            for (uint32_t side = 0; side < 2; side++) {
                uint64_t after = sim_random_in(&network->random, 0, 20000);
                sim_break_at(world, i, side, world->now_us + after, ECONNRESET);
            }
            any = true;
        }
    }
    return any;
}

void sim_sockets_sever(struct world *world, uint32_t a, uint32_t b)
{
    struct sim_network *network = &world->network;
    for (uint32_t i = 0; i < network->connections_count; i++) {
        struct sim_connection *connection = network->connections[i];
        uint32_t from = connection->ends[0].member, to = connection->ends[1].member;
        bool theirs = (from == a && to == b) || (from == b && to == a);
        for (uint32_t side = 0; side < 2 && connection->used && theirs; side++) {
            if (!sim_gone(&connection->ends[side]) && connection->ends[side].failure == 0) {
                end_break(world, i, side, ECONNRESET);
            }
        }
    }
}

bool sim_sockets_damage(struct world *world, struct sim_random *random, uint32_t *from,
                        uint32_t *to)
{
    struct sim_network *network = &world->network;
    uint32_t count = network->connections_count * 2;
    uint64_t first = count == 0 ? 0 : sim_random_in(random, 0, count - 1);
    uint64_t part = sim_random_next(random);
    uint8_t bit = (uint8_t)(1u << sim_random_in(random, 0, 7));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = (uint32_t)(first + i) % count;
        struct sim_connection *connection = network->connections[at / 2];
        struct sim_end *end = &connection->ends[at % 2];
        struct sim_pipe *in = &end->in;
        if (connection->used && !sim_gone(end) && in->written > in->read &&
            in->damaged == SIM_NEVER) {
            in->damaged = in->read + part % (in->written - in->read);
            in->ring[(uint32_t)in->damaged & (network->ring_bytes - 1u)] ^= bit;
            *from = connection->ends[1 - at % 2].member;
            *to = end->member;
            return true;
        }
    }
    return false;
}

void sim_sockets_die(struct world *world, uint32_t at, bool silent)
{
    struct sim_network *network = &world->network;
    network->listeners[at] = (struct sim_listener){.open = false};
    for (uint32_t i = 0; i < network->connections_count; i++) {
        struct sim_connection *connection = network->connections[i];
        for (uint32_t side = 0; side < 2 && connection->used; side++) {
            struct sim_end *end = &connection->ends[side];
            if (end->member != at || sim_gone(end)) {
                continue;
            }
            end->state = SIM_END_DEAD;
            end->silent = silent;
            if (!silent) {
                uint64_t after = sim_random_in(&network->random, 0, 20000);
                sim_break_at(world, i, 1 - side, world->now_us + after, ECONNRESET);
            }
        }
    }
}

void sim_sockets_look(struct world *world, uint32_t from, uint32_t to)
{
    struct sim_network *network = &world->network;
    for (uint32_t i = 0; i < network->connections_count; i++) {
        for (uint32_t side = 0; side < 2; side++) {
            const struct sim_end *ends = network->connections[i]->ends;
            if (ends[side].member == to &&
                (from == SIM_MEMBERS_MAX || ends[1 - side].member == from)) {
                sim_look(world, i, side, world->now_us);
            }
        }
    }
    struct sim_listener *listener = &network->listeners[to];
    uint32_t index = 0;
    if (from == SIM_MEMBERS_MAX && listener->readable != NULL &&
        sim_longest_waiting(network, to, &index) != NULL) {
        sim_fire(world, listener->readable, to);
    }
}

void sim_sockets_event(struct world *world, const struct sim_event *event)
{
    if (event->kind == SIM_LOOK) {
        on_look(world, event);
    } else if (event->kind == SIM_DIAL) {
        sim_dial_event(world, event);
    } else if (event->kind == SIM_BREAK) {
        on_break(world, event);
    }
}

void sim_sockets_free(struct world *world)
{
    struct sim_network *network = &world->network;
    for (uint32_t i = 0; i < network->connections_count; i++) {
        struct sim_connection *connection = network->connections[i];
        for (uint32_t side = 0; side < 2; side++) {
            free(connection->ends[side].in.ring);
            free(connection->ends[side].in.marks);
        }
        free(connection);
    }
    free(network->connections);
}
