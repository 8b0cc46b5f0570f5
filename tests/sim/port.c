/* SPDX-License-Identifier: MIT */
/*
 * The transport that a simulated node gets: the production one over the virtual net, and between it
 * and the node a sink that watches. It counts, mixes what is delivered into the trace hash, and may
 * hand a message of the consensus core over twice, or later than those sent after it, also in a
 * later session of the same two lives: the core takes votes, appends, heartbeats, read indices and
 * their answers in any order and number. Nothing else is doubled or held: forwarded calls and state
 * sync rely on the order of a lane.
 */
#include "net.h"

#include <stdlib.h>

#include <lockstep/wire.h>

#define PAUSED_AGAIN_US 20000u
/* frames, buffers of what arrives, and what windows and calls let wait for all peers together */
#define LINKS_BYTES_MAX (24u << 20)
/* every so many messages one of another group comes, too */
#define STRAY_EVERY 251u

struct sim_parcel {
    struct sim_parcel *next;
    uint64_t number;
    uint32_t from;
    struct ls_incarnation incarnation;
    struct ls_group_id group;
    enum ls_lane lane;
    size_t bytes;
    uint8_t data[];
};

static uint32_t member_of(const struct world *world, const struct ls_peer_id *id)
{
    uint32_t at = sim_member_find(world, id);
    LS_ASSERT(at < world->count);
    return at;
}

static struct sim_port *port_of(struct sim_member *member)
{
    return &member->world->network.ports[member->at];
}

/* ---- the sink ---- */

static const char *hand_over(struct sim_member *member, const struct sim_parcel *of,
                             struct ls_span message)
{
    struct world *world = member->world;
    const struct sim_port *port = port_of(member);
    sim_check_input(member);
    sim_mix(world, (uint64_t)of->from << 16 | member->at);
    sim_mix_bytes(world, message.data, message.bytes);
    if (world->network.disordered) {
        sim_rules_heard(member, of->from, message);
    }
    const char *reason = port->sink.receive(port->sink.self, &of->group,
                                            &world->members[of->from].id, of->lane, message);
    if (reason != NULL) {
        sim_fail(world, "%s found a message of %s malformed: %s", member->name,
                 world->members[of->from].name, reason);
    }
    /* who campaigns may be more than one thing within a turn; of the others, messages tell */
    if (member->rules.role == LS_ROLE_PRE_CANDIDATE || member->rules.role == LS_ROLE_CANDIDATE) {
        sim_check_turn(member);
    }
    return reason;
}

/* The same two nodes may share another group, whose terms are none of ours (A2). */
static void hand_over_stray(struct sim_member *member, const struct sim_parcel *of)
{
    const struct sim_port *port = port_of(member);
    struct ls_group_status status;
    if (member->group == NULL) {
        return;
    }
    sim_glance(member, &status);
    struct ls_wire_frame frame = {
        .kind = LS_WIRE_CORE,
        .as.core = {.kind = LS_MESSAGE_HEARTBEAT, .term = status.core.term + 1}};
    struct ls_wire_buffer buffer = {.env = ls_env_default()};
    struct ls_group_id other = of->group;
    other.bytes[0] ^= 1u;
    if (ls_wire_encode(&frame, &buffer) == LS_OK) {
        (void)port->sink.receive(port->sink.self, &other, &member->world->members[of->from].id,
                                 of->lane, (struct ls_span){buffer.data, buffer.bytes});
    }
    ls_wire_buffer_free(&buffer);
    sim_glance(member, &status);
    if (status.core.term == frame.as.core.term) {
        sim_fail(member->world, "%s takes term %llu of another group", member->name,
                 (unsigned long long)status.core.term);
    }
}

static void hand_over_later(struct sim_member *member, const struct sim_parcel *of,
                            struct ls_span message)
{
    struct world *world = member->world;
    struct sim_network *network = &world->network;
    struct sim_port *port = port_of(member);
    struct sim_parcel *parcel = sim_allocate(sizeof *parcel + message.bytes);
    *parcel = *of;
    parcel->number = ++network->parcels;
    parcel->incarnation = port->incarnations[of->from];
    parcel->bytes = message.bytes;
    (void)memcpy(parcel->data, message.data, message.bytes);
    parcel->next = port->late;
    port->late = parcel;
    uint64_t most = network->late_us >> sim_random_in(&network->random, 0, 6);
    sim_push(world, world->now_us + sim_random_in(&network->random, 1, most), SIM_LATE, member->at,
             0, parcel->number);
}

static bool is_of_core(struct ls_span message)
{
    const uint8_t *bytes = message.data; /* a msgpack array: version, kind, ... */
    return message.bytes > 2 && (bytes[0] & 0xf0u) == 0x90u && bytes[2] == LS_WIRE_CORE;
}

static const char *on_receive(void *self, const struct ls_group_id *group,
                              const struct ls_peer_id *peer, enum ls_lane lane,
                              struct ls_span message)
{
    struct sim_member *member = self;
    struct world *world = member->world;
    struct sim_network *network = &world->network;
    const struct sim_parcel of = {.from = member_of(world, peer), .group = *group, .lane = lane};
    network->messages++;
    if (network->tainted) {
        sim_fail(world, "%s took a message of %s out of damaged bytes", member->name,
                 world->members[of.from].name);
    }
    if (is_of_core(message)) {
        if (network->twice_percent > 0 &&
            sim_random_percent(&network->random, network->twice_percent)) {
            world->injected[SIM_FAULT_TWICE]++;
            hand_over_later(member, &of, message);
        }
        if (network->late_percent > 0 &&
            sim_random_percent(&network->random, network->late_percent)) {
            world->injected[SIM_FAULT_LATE]++;
            hand_over_later(member, &of, message);
            return NULL;
        }
    }
    if (network->messages % STRAY_EVERY == 0) {
        hand_over_stray(member, &of);
    }
    return hand_over(member, &of, message);
}

/* A connection whose bytes were damaged may say nothing but that, unless the peer closed, reset or
 * replaced it before the frame was whole. */
static void damage_check(struct sim_member *member, uint32_t peer, const char *text)
{
    struct sim_port *port = port_of(member);
    uint64_t at_us = port->damaged_us[peer];
    bool now = at_us != 0 && at_us == member->world->now_us;
    bool ended = strstr(text, "closed by the peer") != NULL ||
                 strstr(text, "reset by peer") != NULL ||
                 strstr(text, "replaced by a newer connection") != NULL;
    if (now && !port->broken[peer] && !ended && strstr(text, "a frame ") != text) {
        sim_fail(member->world, "%s met a damaged byte of %s and says: %s", member->name,
                 member->world->members[peer].name, text);
    }
    port->damaged_us[peer] = 0;
}

static void on_bond(void *self, const struct ls_bond_notice *notice)
{
    struct sim_member *member = self;
    struct world *world = member->world;
    struct sim_port *port = port_of(member);
    uint32_t peer = member_of(world, &notice->peer);
    const char *text = notice->text == NULL ? "" : notice->text;
    sim_check_input(member);
    sim_mix(world, (uint64_t)notice->event << 32 | (uint64_t)member->at << 16 | peer);
    if (notice->event == LS_BOND_UP) {
        port->up[peer] = true;
        port->broken[peer] = false;
        port->incarnations[peer] = notice->incarnation;
        world->network.sessions++;
        sim_note(world, "%s: bond with %s is up", member->name, world->members[peer].name);
    } else if (notice->event == LS_BOND_DOWN || notice->event == LS_BOND_DEPARTED) {
        port->up[peer] = false;
        damage_check(member, peer, text);
        sim_note(world, "%s: bond with %s is down: %s", member->name, world->members[peer].name,
                 text);
    }
    port->sink.bond(port->sink.self, notice);
}

void sim_port_event(struct world *world, const struct sim_event *event)
{
    struct sim_member *member = &world->members[event->a];
    struct sim_port *port = port_of(member);
    struct sim_parcel **at = &port->late;
    while (*at != NULL && (*at)->number != event->token) {
        at = &(*at)->next;
    }
    struct sim_parcel *parcel = *at;
    if (parcel == NULL) {
        return;
    }
    if (member->paused) {
        sim_push(world, world->now_us + PAUSED_AGAIN_US, SIM_LATE, event->a, 0, event->token);
        return;
    }
    *at = parcel->next;
    if (port->up[parcel->from] &&
        ls_incarnation_equal(&parcel->incarnation, &port->incarnations[parcel->from])) {
        (void)hand_over(member, parcel, (struct ls_span){parcel->data, parcel->bytes});
        sim_member_after(member);
    }
    free(parcel);
}

void sim_port_forget(struct world *world, uint32_t at)
{
    struct sim_port *port = &world->network.ports[at];
    while (port->late != NULL) {
        struct sim_parcel *parcel = port->late;
        port->late = parcel->next;
        free(parcel);
    }
}

/* ---- the port; self is the member ---- */

/* Memory of the links is not that of the node, and has a bound of its own. */
static void *links_allocate(void *self, void *block, size_t bytes)
{
    struct sim_member *member = self;
    struct sim_port *port = port_of(member);
    max_align_t *head = block == NULL ? NULL : (max_align_t *)block - 1;
    size_t before = 0;
    if (head != NULL) {
        (void)memcpy(&before, head, sizeof before);
    }
    port->live_bytes -= before;
    if (bytes == 0) {
        free(head);
        return NULL;
    }
    head = realloc(head, sizeof *head + bytes);
    LS_ASSERT(head != NULL);
    (void)memcpy(head, &bytes, sizeof bytes);
    port->live_bytes += bytes;
    member->watch.allocations++;
    if (port->live_bytes > LINKS_BYTES_MAX) {
        sim_fail(member->world, "the links of %s hold %llu bytes", member->name,
                 (unsigned long long)port->live_bytes);
    }
    return head + 1;
}

static enum ls_status port_start(void *self, struct event_base *base,
                                 const struct ls_incarnation *incarnation,
                                 const struct ls_transport_sink *sink, struct ls_error *error)
{
    struct sim_port *port = port_of(self);
    const struct ls_transport_sink between = {self, on_receive, on_bond};
    port->sink = *sink;
    return port->tcp.start(port->tcp.self, base, incarnation, &between, error);
}

static enum ls_status port_listen(void *self, const char *address, struct ls_error *error)
{
    const struct ls_transport *tcp = &port_of(self)->tcp;
    return tcp->listen(tcp->self, address, error);
}

static enum ls_status port_bond_open(void *self, const struct ls_bond_hello *hello,
                                     const struct ls_peer_id *peer, const char *address,
                                     struct ls_error *error)
{
    const struct ls_transport *tcp = &port_of(self)->tcp;
    return tcp->bond_open(tcp->self, hello, peer, address, error);
}

static void port_bond_close(void *self, const struct ls_group_id *group,
                            const struct ls_peer_id *peer)
{
    struct sim_member *member = self;
    struct sim_port *port = port_of(member);
    port->up[member_of(member->world, peer)] = false;
    port->tcp.bond_close(port->tcp.self, group, peer);
}

static enum ls_status port_send(void *self, const struct ls_group_id *group,
                                const struct ls_peer_id *peer, enum ls_lane lane,
                                struct ls_span message)
{
    struct sim_member *member = self;
    const struct sim_port *port = port_of(member);
    enum ls_status status = port->tcp.send(port->tcp.self, group, peer, lane, message);
    sim_check_sent(member, peer, message, status == LS_OK && !port->cut);
    if (status == LS_ERR_BUSY) {
        member->world->injected[SIM_FAULT_FULL_QUEUE]++;
    }
    return status;
}

static void port_flush(void *self)
{
    const struct ls_transport *tcp = &port_of(self)->tcp;
    tcp->flush(tcp->self);
}

static enum ls_status port_bond_info(void *self, const struct ls_group_id *group,
                                     const struct ls_peer_id *peer, struct ls_bond_info *out)
{
    const struct ls_transport *tcp = &port_of(self)->tcp;
    return tcp->bond_info(tcp->self, group, peer, out);
}

static void port_close(void *self)
{
    struct sim_member *member = self;
    struct sim_port *port = port_of(member);
    port->tcp.close(port->tcp.self);
    if (port->live_bytes != 0) {
        sim_fail(member->world, "the links of %s have closed and left %llu bytes behind",
                 member->name, (unsigned long long)port->live_bytes);
    }
    sim_port_forget(member->world, member->at);
    *port = (struct sim_port){.cut = port->cut};
}

enum ls_status sim_port_open(struct world *world, uint32_t at, struct ls_transport *out,
                             struct ls_error *error)
{
    struct sim_network *network = &world->network;
    struct sim_member *member = &world->members[at];
    struct sim_port *port = &network->ports[at];
    struct ls_env env = member->env;
    env.allocate = links_allocate;
    const struct ls_transport_tcp_options options = {.size = sizeof options,
                                                     .env = &env,
                                                     .identity = member->identity,
                                                     .handshake_ms = network->handshake_ms,
                                                     .idle_ms = network->idle_ms,
                                                     .reconnect_min_ms = network->reconnect_min_ms,
                                                     .reconnect_max_ms = network->reconnect_max_ms,
                                                     .bulk_bytes_per_s = network->bulk_bytes_per_s};
    const struct ls__net net = sim_net(member);
    *port = (struct sim_port){.cut = false};
    *out = (struct ls_transport){.size = sizeof *out,
                                 .self = member,
                                 .start = port_start,
                                 .listen = port_listen,
                                 .bond_open = port_bond_open,
                                 .bond_close = port_bond_close,
                                 .send = port_send,
                                 .flush = port_flush,
                                 .bond_info = port_bond_info,
                                 .close = port_close};
    return sim_links_open(&options, &net, &network->queue_bytes, &port->tcp, error);
}
