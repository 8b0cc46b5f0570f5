/* SPDX-License-Identifier: MIT */
/* The network of realm.h: bonds, latency, and what a test does to a state sync's messages. */
#include "realm.h"

#include <stdio.h>
#include <stdlib.h>

#define AGAIN_US 50000u

static uint32_t member_of(const struct realm *realm, const struct ls_peer_id *peer)
{
    uint32_t at = 0;
    while (at < realm->count && !ls_peer_id_equal(&realm->members[at].id, peer)) {
        at++;
    }
    assert_true(at < realm->count);
    return at;
}

/* ---- the queue ---- */

static void enqueue(struct realm *realm, struct realm_message *message)
{
    struct realm_message **at = &realm->messages;
    while (*at != NULL && (*at)->at_us <= message->at_us) {
        at = &(*at)->next;
    }
    message->next = *at;
    *at = message;
}

static struct realm_message *make(uint32_t from, uint32_t to, struct ls_span bytes)
{
    struct realm_message *message = calloc(1, sizeof *message + bytes.bytes);
    assert_non_null(message);
    message->from = from;
    message->to = to;
    message->bytes = bytes.bytes;
    if (bytes.bytes > 0) {
        memcpy(message->data, bytes.data, bytes.bytes);
    }
    return message;
}

static void notify(struct realm *realm, uint32_t from, uint32_t to, enum ls_bond_event event)
{
    struct realm_message *message = make(from, to, (struct ls_span){NULL, 0});
    message->notice = event;
    message->at_us = realm->now_us;
    message->epoch = realm->members[to].bonds[from].epoch;
    enqueue(realm, message);
}

/* ---- bonds ---- */

static void lower(struct realm *realm, uint32_t a, uint32_t b, enum ls_bond_event how)
{
    struct realm_bond *mine = &realm->members[a].bonds[b];
    struct realm_bond *theirs = &realm->members[b].bonds[a];
    if (mine->up) {
        mine->up = theirs->up = false;
        notify(realm, b, a, LS_BOND_DOWN);
        notify(realm, a, b, how);
    }
}

void realm_net_leave(struct realm_member *member, enum ls_bond_event how)
{
    for (uint32_t i = 0; i < member->realm->count; i++) {
        lower(member->realm, member->at, i, how);
        member->bonds[i].wanted = false;
    }
    member->started = false;
}

void realm_net_match(struct realm *realm)
{
    for (uint32_t a = 0; a < realm->count; a++) {
        for (uint32_t b = a + 1; b < realm->count; b++) {
            struct realm_member *one = &realm->members[a], *other = &realm->members[b];
            struct realm_bond *mine = &one->bonds[b], *theirs = &other->bonds[a];
            if (realm->cut[a][b]) {
                lower(realm, a, b, LS_BOND_DOWN);
                continue;
            }
            if (mine->up || !one->started || !other->started || !mine->wanted || !theirs->wanted ||
                mine->again_us > realm->now_us ||
                !ls_group_id_equal(&mine->hello.group, &theirs->hello.group)) {
                continue;
            }
            mine->up = theirs->up = true;
            mine->epoch = theirs->epoch = ++realm->epoch;
            mine->queued = theirs->queued = 0;
            notify(realm, b, a, LS_BOND_UP);
            notify(realm, a, b, LS_BOND_UP);
        }
    }
}

/* ---- the transport ---- */

static enum ls_status net_start(void *self, struct event_base *base,
                                const struct ls_incarnation *incarnation,
                                const struct ls_transport_sink *sink, struct ls_error *error)
{
    struct realm_member *member = self;
    (void)base;
    (void)error;
    member->net = *sink;
    member->incarnation = *incarnation;
    member->started = true;
    return LS_OK;
}

static enum ls_status net_listen(void *self, const char *address, struct ls_error *error)
{
    (void)self;
    (void)address;
    (void)error;
    return LS_OK;
}

static enum ls_status net_bond_open(void *self, const struct ls_bond_hello *hello,
                                    const struct ls_peer_id *peer, const char *address,
                                    struct ls_error *error)
{
    struct realm_member *member = self;
    (void)address;
    (void)error;
    struct realm_bond *bond = &member->bonds[member_of(member->realm, peer)];
    bond->wanted = true;
    bond->hello = *hello;
    return LS_OK;
}

static void net_bond_close(void *self, const struct ls_group_id *group,
                           const struct ls_peer_id *peer)
{
    struct realm_member *member = self;
    (void)group;
    uint32_t at = member_of(member->realm, peer);
    lower(member->realm, member->at, at, LS_BOND_DEPARTED);
    member->bonds[at].wanted = false;
}

/* What the test makes of a message of a state sync. Returns how often it goes out, and it in
 * *message. */
static unsigned pass(struct realm_member *member, uint32_t to, struct ls_span *message)
{
    struct realm *realm = member->realm;
    struct ls_wire_frame frame;
    if (ls_wire_decode(realm->decoder, *message, &frame, NULL) != LS_OK ||
        frame.kind != LS_WIRE_SYNC || frame.as.sync.tag != realm->tag) {
        return 1;
    }
    const struct realm_subject *subject = realm->subject;
    struct realm_sync sync = {.from = member->at,
                              .to = to,
                              .tag = frame.as.sync.tag,
                              .to_session = frame.as.sync.to_session,
                              .message = frame.as.sync.bytes,
                              .edit = realm->edit};
    sync.carries = sync.to_session ? subject->carries(subject->self, sync.message) : 0;
    enum realm_fate fate = realm->intercept == NULL
                               ? REALM_DELIVER
                               : realm->intercept(realm, &sync, realm->intercept_arg);
    if (getenv("LS_TEST_TRACE") != NULL) {
        printf("%9.3f %s -> %s %zu bytes, carries %zu%s%s\n", (double)realm->now_us / 1e6,
               member->name, realm->members[to].name, sync.message.bytes, sync.carries,
               sync.to_session ? "" : ", a question", fate == REALM_DROP ? ", dropped" : "");
    }
    if (fate == REALM_DROP) {
        return 0;
    }
    struct realm_member *other = &realm->members[to];
    other->asked += !sync.to_session;
    other->carried += sync.carries > 0;
    other->carried_bytes += sync.carries;
    other->sent[member->at] += sync.carries;
    if (sync.edit_bytes > 0) {
        frame.as.sync.bytes = (struct ls_span){realm->edit, sync.edit_bytes};
        assert_ok(ls_wire_encode(&frame, &realm->wire));
        *message = (struct ls_span){realm->wire.data, realm->wire.bytes};
    }
    return fate == REALM_TWICE ? 2 : 1;
}

static enum ls_status net_send(void *self, const struct ls_group_id *group,
                               const struct ls_peer_id *peer, enum ls_lane lane,
                               struct ls_span message)
{
    struct realm_member *member = self;
    struct realm *realm = member->realm;
    uint32_t to = member_of(realm, peer);
    struct realm_bond *bond = &member->bonds[to];
    (void)group;
    if (!bond->up) {
        return LS_ERR_UNREACHABLE;
    }
    if (message.bytes > LS_MESSAGE_BYTES_MAX) {
        return LS_ERR_LIMIT;
    }
    size_t most = realm->queue_bytes_max;
    if (lane == LS_LANE_BULK && most > 0 && bond->queued > 0 &&
        bond->queued + message.bytes > most) {
        return LS_ERR_BUSY;
    }
    unsigned times = lane == LS_LANE_BULK ? pass(member, to, &message) : 1;
    for (unsigned i = 0; i < times; i++) {
        struct realm_message *parcel = make(member->at, to, message);
        parcel->at_us = realm->now_us + realm->latency_us + realm->slow_us[member->at];
        parcel->epoch = bond->epoch;
        parcel->lane = lane;
        bond->queued += lane == LS_LANE_BULK ? message.bytes : 0;
        enqueue(realm, parcel);
    }
    return LS_OK;
}

static void net_flush(void *self)
{
    (void)self;
}

static enum ls_status net_bond_info(void *self, const struct ls_group_id *group,
                                    const struct ls_peer_id *peer, struct ls_bond_info *out)
{
    const struct realm_member *member = self;
    (void)group;
    uint32_t at = member_of(member->realm, peer);
    *out = (struct ls_bond_info){.peer = *peer,
                                 .up = member->bonds[at].up,
                                 .incarnation = member->realm->members[at].incarnation,
                                 .rtt_us = 2 * member->realm->latency_us,
                                 .why = member->bonds[at].up ? LS_OK : LS_ERR_UNREACHABLE};
    return LS_OK;
}

static void net_close(void *self)
{
    realm_net_leave(self, LS_BOND_DEPARTED);
}

void realm_transport(struct realm_member *member, struct ls_transport *out)
{
    *out = (struct ls_transport){.size = sizeof *out,
                                 .self = member,
                                 .start = net_start,
                                 .listen = net_listen,
                                 .bond_open = net_bond_open,
                                 .bond_close = net_bond_close,
                                 .send = net_send,
                                 .flush = net_flush,
                                 .bond_info = net_bond_info,
                                 .close = net_close};
}

/* ---- delivery ---- */

static void hand_over(struct realm *realm, const struct realm_message *message)
{
    struct realm_member *to = &realm->members[message->to];
    struct realm_member *from = &realm->members[message->from];
    struct realm_bond *bond = &to->bonds[message->from];
    if (!to->started) {
        return;
    }
    if (message->notice != 0) {
        const struct ls_bond_notice notice = {.event = message->notice,
                                              .group = bond->hello.group,
                                              .peer = from->id,
                                              .incarnation = from->incarnation};
        to->net.bond(to->net.self, &notice);
        return;
    }
    if (!bond->up || bond->epoch != message->epoch) {
        return; /* lost with the link */
    }
    from->bonds[message->to].queued -= message->lane == LS_LANE_BULK ? message->bytes : 0;
    const struct ls_span bytes = {message->data, message->bytes};
    struct ls_group_id group = bond->hello.group;
    if (to->net.receive(to->net.self, &group, &from->id, message->lane, bytes) != NULL) {
        realm->malformed++;
        lower(realm, message->to, message->from, LS_BOND_DOWN);
        bond->again_us = from->bonds[message->to].again_us = realm->now_us + AGAIN_US;
    }
}

static struct realm_message **first(struct realm *realm)
{
    struct realm_message **at = &realm->messages;
    while (*at != NULL && realm->members[(*at)->to].paused) {
        at = &(*at)->next;
    }
    return at;
}

uint64_t realm_net_due(const struct realm *realm)
{
    const struct realm_message *at = realm->messages;
    while (at != NULL && realm->members[at->to].paused) {
        at = at->next;
    }
    return at == NULL ? UINT64_MAX : at->at_us;
}

bool realm_net_deliver(struct realm *realm)
{
    struct realm_message **at = first(realm);
    struct realm_message *message = *at;
    if (message == NULL || message->at_us > realm->now_us) {
        return false;
    }
    *at = message->next;
    hand_over(realm, message);
    free(message);
    return true;
}
