/* SPDX-License-Identifier: MIT */
/*
 * The virtual network: a transport backend whose messages are events. A path between two members
 * carries a session, which is what an encrypted TCP link is to the layers above: reliable and in
 * order for each lane, until it breaks. So loss is a session that breaks and is made again, with
 * all lost that had not arrived; duplication and reordering within a session cannot happen, between
 * lanes and across sessions order is free. A blocked direction holds what is sent (as TCP
 * retransmits) until it heals or the session idles out.
 *
 * Messages are the bytes that the production codec made. Handshake and sealing are not run here:
 * who the peer is, is given.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

#define IDLE_US 6000000u

enum parcel_kind { PARCEL_MESSAGE = 1, PARCEL_OPEN = 2, PARCEL_CLOSE = 3 };

struct sim_parcel {
    struct sim_parcel *next;
    uint64_t due, epoch;
    enum parcel_kind kind;
    struct ls_group_id group;
    char name[LS_NAME_BYTES];
    size_t bytes;
    uint8_t data[];
};

static struct sim_bond *bond_find(struct sim_endpoint *endpoint, const struct ls_group_id *group,
                                  uint32_t peer)
{
    for (struct sim_bond *bond = endpoint->bonds; bond != NULL; bond = bond->next) {
        if (bond->peer == peer && ls_group_id_equal(&bond->group, group)) {
            return bond;
        }
    }
    return NULL;
}

static struct sim_bond *bond_get(struct sim_endpoint *endpoint, const struct ls_group_id *group,
                                 uint32_t peer)
{
    struct sim_bond *bond = bond_find(endpoint, group, peer);
    if (bond == NULL) {
        bond = sim_allocate(sizeof *bond);
        bond->group = *group;
        bond->peer = peer;
        bond->next = endpoint->bonds;
        endpoint->bonds = bond;
    }
    return bond;
}

static bool wants(const struct sim_endpoint *endpoint, uint32_t peer)
{
    for (const struct sim_bond *bond = endpoint->bonds; bond != NULL; bond = bond->next) {
        if (bond->peer == peer && bond->wanted) {
            return true;
        }
    }
    return false;
}

static uint32_t member_of(const struct world *world, const struct ls_peer_id *id)
{
    for (uint32_t i = 0; i < world->count; i++) {
        if (ls_peer_id_equal(&world->members[i].id, id)) {
            return i;
        }
    }
    return world->count;
}

/* ---- streams ---- */

static void stream_schedule(struct world *world, uint32_t from, uint32_t to, uint32_t lane)
{
    struct sim_stream *stream = &world->network.streams[from][to][lane];
    if (stream->first == NULL || stream->scheduled || world->network.blocked[from][to] ||
        world->members[to].paused) {
        return;
    }
    stream->scheduled = true;
    uint64_t at = stream->first->due > world->now_us ? stream->first->due : world->now_us;
    sim_push(world, at, SIM_PUMP, from, to, lane);
}

static void stream_put(struct world *world, uint32_t from, uint32_t to, uint32_t lane,
                       struct sim_parcel *parcel)
{
    struct sim_network *network = &world->network;
    struct sim_stream *stream = &network->streams[from][to][lane];
    uint64_t delay = sim_random_in(&world->random, network->delay_min_us, network->delay_max_us);
    if (sim_random_percent(&world->random, network->tail_percent)) {
        delay += sim_random_in(&world->random, 0, network->tail_us);
        network->tails++;
        world->injected[SIM_FAULT_LONG_DELAY]++;
    }
    uint64_t due = world->now_us + delay;
    stream->due = due > stream->due ? due : stream->due;
    parcel->due = stream->due;
    parcel->epoch = network->endpoints[from].view[to];
    if (stream->first == NULL) {
        stream->last = &stream->first;
    }
    *stream->last = parcel;
    stream->last = &parcel->next;
    stream->bytes += parcel->bytes;
    stream_schedule(world, from, to, lane);
}

static void control_send(struct world *world, uint32_t from, uint32_t to, enum parcel_kind kind,
                         const struct sim_bond *bond)
{
    struct sim_stream *streams = world->network.streams[from][to];
    struct sim_parcel *parcel = sim_allocate(sizeof *parcel);
    parcel->kind = kind;
    parcel->group = bond->group;
    (void)memcpy(parcel->name, bond->hello.member, sizeof parcel->name);
    stream_put(world, from, to, LS_LANE_CONSENSUS, parcel);
    /* bulk of the bond comes after it */
    uint64_t due = streams[LS_LANE_CONSENSUS].due;
    streams[LS_LANE_BULK].due =
        due >= streams[LS_LANE_BULK].due ? due + 1 : streams[LS_LANE_BULK].due;
}

/* ---- bonds ---- */

static void notify(struct world *world, uint32_t at, const struct sim_bond *bond,
                   enum ls_bond_event event, const char *text)
{
    struct sim_endpoint *endpoint = &world->network.endpoints[at];
    const struct ls_bond_notice notice = {.event = event,
                                          .group = bond->group,
                                          .peer = world->members[bond->peer].id,
                                          .incarnation =
                                              world->network.endpoints[bond->peer].incarnation,
                                          .text = text};
    sim_check_input(&world->members[at]);
    sim_mix(world, (uint64_t)event << 32 | (uint64_t)at << 16 | bond->peer);
    sim_note(world, "%s: bond with %s %s", world->members[at].name, world->members[bond->peer].name,
             event == LS_BOND_UP ? "is up" : text);
    endpoint->sink.bond(endpoint->sink.self, &notice);
}

static void bond_match(struct world *world, uint32_t at, struct sim_bond *bond)
{
    if (bond->wanted && bond->theirs && !bond->up) {
        bond->up = true;
        bond->reconnects++;
        notify(world, at, bond, LS_BOND_UP, NULL);
    }
}

static void deliver(struct world *world, uint32_t from, uint32_t to, uint32_t lane,
                    const struct sim_parcel *parcel)
{
    struct sim_endpoint *endpoint = &world->network.endpoints[to];
    struct sim_bond *bond = bond_get(endpoint, &parcel->group, from);
    bond->heard_us = sim_member_now(&world->members[to]);
    sim_check_input(&world->members[to]);
    if (parcel->kind == PARCEL_OPEN) {
        bond->theirs = true;
        (void)memcpy(bond->name, parcel->name, sizeof bond->name);
        bond_match(world, to, bond);
    } else if (parcel->kind == PARCEL_CLOSE) {
        bond->theirs = false;
        if (bond->up) {
            bond->up = false;
            notify(world, to, bond, LS_BOND_DEPARTED, "the peer departed");
        }
    } else if (bond->up) {
        world->network.messages++;
        world->network.bytes += parcel->bytes;
        bond->bytes_in += parcel->bytes;
        sim_mix(world, (uint64_t)from << 16 | to);
        sim_mix_bytes(world, parcel->data, parcel->bytes);
        const char *reason = endpoint->sink.receive(endpoint->sink.self, &parcel->group,
                                                    &world->members[from].id, (enum ls_lane)lane,
                                                    (struct ls_span){parcel->data, parcel->bytes});
        if (reason != NULL) {
            sim_fail(world, "%s found a message of %s malformed: %s", world->members[to].name,
                     world->members[from].name, reason);
        }
        sim_check_turn(&world->members[to]);
    }
}

static void on_pump(struct world *world, const struct sim_event *event)
{
    uint32_t from = event->a, to = event->b, lane = (uint32_t)event->token;
    struct sim_network *network = &world->network;
    struct sim_stream *stream = &network->streams[from][to][lane];
    stream->scheduled = false;
    while (stream->first != NULL && stream->first->due <= world->now_us && !world->failed &&
           !network->blocked[from][to] && !world->members[to].paused) {
        struct sim_parcel *parcel = stream->first;
        stream->first = parcel->next;
        stream->bytes -= parcel->bytes;
        if (network->endpoints[to].started && network->endpoints[to].view[from] == parcel->epoch) {
            deliver(world, from, to, lane, parcel);
        }
        free(parcel);
    }
    stream_schedule(world, from, to, lane);
}

/* ---- sessions ---- */

static void connect_later(struct world *world, uint32_t a, uint32_t b, uint64_t after_us)
{
    uint32_t low = a < b ? a : b, high = a < b ? b : a;
    if (!world->network.connecting[low][high]) {
        world->network.connecting[low][high] = true;
        sim_push(world, world->now_us + after_us, SIM_CONNECT, low, high, 0);
    }
}

static void on_connect(struct world *world, const struct sim_event *event)
{
    struct sim_network *network = &world->network;
    uint32_t a = event->a, b = event->b;
    struct sim_endpoint *ends[2] = {&network->endpoints[a], &network->endpoints[b]};
    network->connecting[a][b] = false;
    if (!ends[0]->started || !ends[1]->started || (!wants(ends[0], b) && !wants(ends[1], a))) {
        return; /* the next bond_open tries again */
    }
    if (ends[0]->view[b] != 0 && ends[0]->view[b] == ends[1]->view[a]) {
        return;
    }
    bool ready = ends[0]->view[b] == 0 && ends[1]->view[a] == 0 && !network->blocked[a][b] &&
                 !network->blocked[b][a] && !world->members[a].paused && !world->members[b].paused;
    if (!ready) {
        connect_later(world, a, b, sim_random_in(&world->random, 20000, 400000));
        return;
    }
    network->sessions++;
    ends[0]->view[b] = ends[1]->view[a] = ++network->epochs;
    for (uint32_t side = 0; side < 2; side++) {
        uint32_t from = side == 0 ? a : b, to = side == 0 ? b : a;
        for (struct sim_bond *bond = ends[side]->bonds; bond != NULL; bond = bond->next) {
            if (bond->peer == to && bond->wanted) {
                control_send(world, from, to, PARCEL_OPEN, bond);
            }
        }
    }
}

/* This side's session with `peer` is over. */
static void view_drop(struct world *world, uint32_t at, uint32_t peer, const char *why)
{
    struct sim_endpoint *endpoint = &world->network.endpoints[at];
    endpoint->view[peer] = 0;
    for (struct sim_bond *bond = endpoint->bonds; bond != NULL; bond = bond->next) {
        if (bond->peer == peer) {
            bond->theirs = false;
            if (bond->up) {
                bond->up = false;
                notify(world, at, bond, LS_BOND_DOWN, why);
            }
        }
    }
    connect_later(world, at, peer, sim_random_in(&world->random, 1000, 200000));
}

static void on_drop(struct world *world, const struct sim_event *event)
{
    if (world->network.endpoints[event->a].view[event->b] != event->token) {
        return;
    }
    if (world->members[event->a].paused) {
        sim_push(world, world->now_us + 20000, SIM_DROP, event->a, event->b, event->token);
    } else {
        view_drop(world, event->a, event->b, "the connection was lost");
    }
}

/* Each side notices in its own time; until then it takes what still arrives. */
static void drop_later(struct world *world, uint32_t at, uint32_t peer, uint64_t within_us)
{
    uint64_t epoch = world->network.endpoints[at].view[peer];
    if (epoch != 0) {
        uint64_t after = sim_random_in(&world->random, 0, within_us);
        sim_push(world, world->now_us + after, SIM_DROP, at, peer, epoch);
    }
}

bool sim_network_reset(struct world *world, uint32_t a, uint32_t b)
{
    if (world->network.endpoints[a].view[b] == 0 && world->network.endpoints[b].view[a] == 0) {
        return false;
    }
    drop_later(world, a, b, 20000);
    drop_later(world, b, a, 20000);
    return true;
}

void sim_network_block(struct world *world, uint32_t from, uint32_t to, bool blocked)
{
    struct sim_network *network = &world->network;
    if (network->blocked[from][to] == blocked) {
        return;
    }
    network->blocked[from][to] = blocked;
    if (blocked) {
        network->blocks[from][to]++;
        sim_push(world, world->now_us + sim_random_in(&world->random, IDLE_US / 20, IDLE_US),
                 SIM_IDLE, from, to, network->blocks[from][to]);
        return;
    }
    for (uint32_t lane = 0; lane < LS_LANES; lane++) {
        stream_schedule(world, from, to, lane);
    }
}

static void on_idle(struct world *world, const struct sim_event *event)
{
    if (world->network.blocked[event->a][event->b] &&
        world->network.blocks[event->a][event->b] == event->token) {
        (void)sim_network_reset(world, event->a, event->b);
    }
}

void sim_network_wake(struct world *world, uint32_t at)
{
    for (uint32_t from = 0; from < world->count; from++) {
        for (uint32_t lane = 0; lane < LS_LANES; lane++) {
            stream_schedule(world, from, at, lane);
        }
    }
}

static void bonds_free(struct sim_endpoint *endpoint)
{
    while (endpoint->bonds != NULL) {
        struct sim_bond *bond = endpoint->bonds;
        endpoint->bonds = bond->next;
        free(bond);
    }
}

void sim_network_vanish(struct world *world, uint32_t at)
{
    struct sim_endpoint *endpoint = &world->network.endpoints[at];
    endpoint->started = false;
    /* a killed process is noticed at once, a dead host when the connection idles out */
    uint64_t within = sim_random_percent(&world->random, 70) ? 20000 : 2000000;
    for (uint32_t peer = 0; peer < world->count; peer++) {
        endpoint->view[peer] = 0;
        if (peer != at) {
            drop_later(world, peer, at, within);
        }
    }
    for (struct sim_bond *bond = endpoint->bonds; bond != NULL; bond = bond->next) {
        bond->up = false;
    }
}

void sim_network_event(struct world *world, const struct sim_event *event)
{
    if (event->kind == SIM_PUMP) {
        on_pump(world, event);
    } else if (event->kind == SIM_CONNECT) {
        on_connect(world, event);
    } else if (event->kind == SIM_DROP) {
        on_drop(world, event);
    } else if (event->kind == SIM_IDLE) {
        on_idle(world, event);
    }
}

/* ---- the transport port; self is the member ---- */

static enum ls_status sim_start(void *self, struct event_base *base,
                                const struct ls_incarnation *incarnation,
                                const struct ls_transport_sink *sink, struct ls_error *error)
{
    (void)base;
    (void)error;
    struct sim_member *member = self;
    struct sim_endpoint *endpoint = &member->world->network.endpoints[member->at];
    LS_ASSERT(!endpoint->started && endpoint->bonds == NULL);
    endpoint->incarnation = *incarnation;
    endpoint->sink = *sink;
    endpoint->started = true;
    return LS_OK;
}

static enum ls_status sim_listen(void *self, const char *address, struct ls_error *error)
{
    (void)self;
    (void)address;
    (void)error;
    return LS_OK;
}

static enum ls_status sim_bond_open(void *self, const struct ls_bond_hello *hello,
                                    const struct ls_peer_id *peer, const char *address,
                                    struct ls_error *error)
{
    (void)address;
    struct sim_member *member = self;
    struct world *world = member->world;
    uint32_t to = member_of(world, peer);
    if (to == world->count) {
        return ls_error_set(error, LS_ERR_INVALID, "bond: no such member");
    }
    struct sim_endpoint *endpoint = &world->network.endpoints[member->at];
    struct sim_bond *bond = bond_get(endpoint, &hello->group, to);
    bool again = bond->wanted;
    bond->hello = *hello;
    bond->wanted = true;
    if (endpoint->view[to] == 0) {
        connect_later(world, member->at, to, sim_random_in(&world->random, 500, 20000));
    } else if (!again) {
        control_send(world, member->at, to, PARCEL_OPEN, bond);
        bond_match(world, member->at, bond);
    }
    return LS_OK;
}

static void sim_bond_close(void *self, const struct ls_group_id *group,
                           const struct ls_peer_id *peer)
{
    struct sim_member *member = self;
    struct world *world = member->world;
    uint32_t to = member_of(world, peer);
    struct sim_endpoint *endpoint = &world->network.endpoints[member->at];
    struct sim_bond *bond = bond_find(endpoint, group, to);
    if (bond != NULL && bond->wanted) {
        bond->wanted = bond->up = false;
        if (endpoint->started && endpoint->view[to] != 0) {
            control_send(world, member->at, to, PARCEL_CLOSE, bond);
        }
    }
}

static enum ls_status sim_send(void *self, const struct ls_group_id *group,
                               const struct ls_peer_id *peer, enum ls_lane lane,
                               struct ls_span message)
{
    struct sim_member *member = self;
    struct world *world = member->world;
    uint32_t to = member_of(world, peer);
    struct sim_bond *bond = bond_find(&world->network.endpoints[member->at], group, to);
    if (message.bytes > LS_MESSAGE_BYTES_MAX) {
        return LS_ERR_LIMIT;
    }
    size_t queued = world->network.streams[member->at][to][lane].bytes;
    bool up = !member->dying && bond != NULL && bond->up;
    bool leaves = up && queued + message.bytes <= LS_SEND_QUEUE_BYTES_MAX;
    sim_check_sent(member, peer, message, leaves);
    if (!leaves) {
        return up ? LS_ERR_BUSY : LS_ERR_UNREACHABLE;
    }
    struct sim_parcel *parcel = sim_allocate(sizeof *parcel + message.bytes);
    parcel->kind = PARCEL_MESSAGE;
    parcel->group = *group;
    parcel->bytes = message.bytes;
    (void)memcpy(parcel->data, message.data, message.bytes);
    bond->bytes_out += message.bytes;
    stream_put(world, member->at, to, (uint32_t)lane, parcel);
    return LS_OK;
}

static void sim_flush(void *self)
{
    (void)self; /* what is sent is under way already */
}

static enum ls_status sim_bond_info(void *self, const struct ls_group_id *group,
                                    const struct ls_peer_id *peer, struct ls_bond_info *out)
{
    struct sim_member *member = self;
    struct world *world = member->world;
    uint32_t to = member_of(world, peer);
    const struct sim_bond *bond = bond_find(&world->network.endpoints[member->at], group, to);
    if (bond == NULL || !bond->wanted) {
        return LS_ERR_NOT_FOUND;
    }
    *out = (struct ls_bond_info){.peer = *peer,
                                 .address = "sim",
                                 .up = bond->up,
                                 .incarnation = world->network.endpoints[to].incarnation,
                                 .heard_us = bond->heard_us,
                                 .bytes_in = bond->bytes_in,
                                 .bytes_out = bond->bytes_out,
                                 .reconnects = bond->reconnects,
                                 .why = bond->up ? LS_OK : LS_ERR_UNREACHABLE};
    (void)memcpy(out->name, bond->name, sizeof out->name);
    const struct sim_bond *other = bond->up ? world->network.endpoints[to].bonds : NULL;
    for (; other != NULL && out->bonds_count < LS_MEMBERS_MAX; other = other->next) {
        if (other->up && ls_group_id_equal(&other->group, group)) {
            out->bonds[out->bonds_count++] = world->members[other->peer].id;
        }
    }
    return LS_OK;
}

static void sim_close(void *self)
{
    struct sim_member *member = self;
    struct sim_endpoint *endpoint = &member->world->network.endpoints[member->at];
    if (endpoint->started) {
        sim_network_vanish(member->world, member->at);
    }
    bonds_free(endpoint);
}

void sim_network_endpoint(struct world *world, uint32_t at, struct ls_transport *out)
{
    *out = (struct ls_transport){.size = sizeof *out,
                                 .self = &world->members[at],
                                 .start = sim_start,
                                 .listen = sim_listen,
                                 .bond_open = sim_bond_open,
                                 .bond_close = sim_bond_close,
                                 .send = sim_send,
                                 .flush = sim_flush,
                                 .bond_info = sim_bond_info,
                                 .close = sim_close};
}

void sim_network_free(struct world *world)
{
    for (uint32_t from = 0; from < SIM_MEMBERS_MAX; from++) {
        for (uint32_t to = 0; to < SIM_MEMBERS_MAX; to++) {
            for (uint32_t lane = 0; lane < LS_LANES; lane++) {
                struct sim_stream *stream = &world->network.streams[from][to][lane];
                while (stream->first != NULL) {
                    struct sim_parcel *parcel = stream->first;
                    stream->first = parcel->next;
                    free(parcel);
                }
            }
        }
    }
}
