/* SPDX-License-Identifier: MIT */
/*
 * Bonds on a link: agreeing on them, and the messages they carry.
 *
 *     wanted here, link up      send OPEN(channel), fresh for each session and each opening
 *     OPEN received             offered; wanted too: send ACCEPT of its channel
 *     ACCEPT of my channel      up, as the OPEN of the other side came before
 *     anything on my channel    the peer is up, so I am: what overtook its ACCEPT on the other lane
 *                               is not lost
 *     CLOSE received            departed; a new OPEN voids what is still under way on the old
 * channel
 *
 * A channel is named by its receiver: its low bits are a slot of the link, its high bits a
 * generation, so that a message for an earlier bond finds no bond.
 */
#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "tcp.h"

#define SLOTS_START 4u

static struct ls__bond **bucket_of(struct ls__tcp *tcp, const struct ls_group_id *group,
                                   const struct ls_peer_id *peer)
{
    /* both are hashes or keys: their bytes are spread already */
    return &tcp->buckets[(ls__get32(group->bytes) ^ ls__get32(peer->bytes)) % LS__BOND_BUCKETS];
}

struct ls__bond *ls__bond_find(struct ls__tcp *tcp, const struct ls_group_id *group,
                               const struct ls_peer_id *peer)
{
    for (struct ls__bond *at = *bucket_of(tcp, group, peer); at != NULL; at = at->next) {
        if (ls_group_id_equal(&at->group, group) && ls_peer_id_equal(&at->link->peer, peer)) {
            return at;
        }
    }
    return NULL;
}

/* Wanted or only offered. */
static struct ls__bond *slot_find(struct ls__link *link, const struct ls_group_id *group)
{
    for (uint32_t i = 0; i < link->slots_capacity; i++) {
        if (link->slots[i] != NULL && ls_group_id_equal(&link->slots[i]->group, group)) {
            return link->slots[i];
        }
    }
    return NULL;
}

static struct ls__bond *channel_find(struct ls__link *link, uint32_t channel)
{
    uint32_t slot = channel % LS__SLOTS_MAX;
    if (channel == 0 || slot >= link->slots_capacity || link->slots[slot] == NULL ||
        link->slots[slot]->channel != channel) {
        return NULL;
    }
    return link->slots[slot];
}

static bool slots_reserve(struct ls__link *link)
{
    uint32_t capacity = link->slots_capacity;
    if (link->bonds < capacity) {
        return true;
    }
    uint32_t wanted = capacity == 0 ? SLOTS_START : capacity * 2;
    if (wanted > LS__SLOTS_MAX) {
        return false;
    }
    struct ls__bond **slots =
        ls__tcp_allocate(link->tcp, link->slots, wanted * sizeof(struct ls__bond *));
    if (slots == NULL) {
        return false;
    }
    (void)memset(slots + capacity, 0, (wanted - capacity) * sizeof(struct ls__bond *));
    link->slots = slots;
    link->slots_capacity = wanted;
    return true;
}

/* A bond in a slot of its own; NULL: out of memory, or LS__SLOTS_MAX. */
static struct ls__bond *bond_new(struct ls__link *link, const struct ls_group_id *group)
{
    struct ls__bond *bond = NULL;
    if (!slots_reserve(link) || (bond = ls__tcp_allocate(link->tcp, NULL, sizeof *bond)) == NULL) {
        return NULL;
    }
    (void)memset(bond, 0, sizeof *bond);
    bond->link = link;
    bond->group = *group;
    while (link->slots[bond->slot] != NULL) {
        bond->slot++;
    }
    link->slots[bond->slot] = bond;
    link->bonds++;
    link->retire = false;
    return bond;
}

static void bond_free(struct ls__bond *bond)
{
    struct ls__link *link = bond->link;
    LS_ASSERT(!bond->wanted && link->slots[bond->slot] == bond);
    link->slots[bond->slot] = NULL;
    link->bonds--;
    if (link->bonds == 0) {
        link->retire = true;
        ls__tcp_settle_soon(link->tcp);
    }
    (void)ls__tcp_allocate(link->tcp, bond, 0);
}

void ls__bonds_free(struct ls__link *link)
{
    for (uint32_t i = 0; i < link->slots_capacity; i++) {
        if (link->slots[i] != NULL) {
            (void)ls__tcp_allocate(link->tcp, link->slots[i], 0);
        }
    }
    if (link->slots != NULL) {
        (void)ls__tcp_allocate(link->tcp, link->slots, 0);
    }
}

static void control(struct ls__link *link, const struct ls__control *record)
{
    if (link->up && link->lanes[LS_LANE_CONSENSUS] != NULL) {
        ls__connection_control(link->lanes[LS_LANE_CONSENSUS], record);
    }
}

static void accept_send(struct ls__bond *bond)
{
    const struct ls__control record = {.kind = LS__CONTROL_ACCEPT, .channel = bond->their_channel};
    control(bond->link, &record);
}

/* Offers a wanted bond under a fresh channel. */
static void open_send(struct ls__bond *bond)
{
    struct ls__tcp *tcp = bond->link->tcp;
    const uint32_t generations_max = UINT32_MAX / LS__SLOTS_MAX;
    tcp->generations = tcp->generations % generations_max + 1u; /* 1 .. max: never channel 0 */
    bond->channel = tcp->generations * LS__SLOTS_MAX + bond->slot;
    const struct ls__control record = {
        .kind = LS__CONTROL_OPEN, .channel = bond->channel, .hello = bond->mine};
    control(bond->link, &record);
    if (bond->offered) {
        accept_send(bond);
    }
}

void ls__bonds_offer(struct ls__link *link)
{
    for (uint32_t i = 0; i < link->slots_capacity; i++) {
        if (link->slots[i] != NULL && link->slots[i]->wanted) {
            open_send(link->slots[i]);
        }
    }
}

static void notify(struct ls__bond *bond, enum ls_bond_event event, const char *text)
{
    struct ls__tcp *tcp = bond->link->tcp;
    char copy[LS_ERROR_TEXT_BYTES]; /* the sink may close the bond and still read the text */
    (void)snprintf(copy, sizeof copy, "%s", text == NULL ? "" : text);
    const struct ls_bond_notice notice = {.event = event,
                                          .group = bond->group,
                                          .peer = bond->link->peer,
                                          .incarnation = bond->link->incarnation,
                                          .text = text == NULL ? NULL : copy};
    if (!tcp->closed) {
        tcp->sink.bond(tcp->sink.self, &notice);
    }
}

/* Tells every other peer bonded in this group that this bond formed or ended. */
static void mesh_spread(const struct ls__bond *bond, enum ls__control_kind kind)
{
    struct ls__tcp *tcp = bond->link->tcp;
    for (struct ls__link *at = tcp->links; at != NULL; at = at->next) {
        const struct ls__bond *other =
            at == bond->link ? NULL : ls__bond_find(tcp, &bond->group, &at->peer);
        if (other == NULL || !other->up) {
            continue;
        }
        struct ls__control record = {
            .kind = kind, .channel = other->their_channel, .peer = bond->link->peer};
        control(at, &record);
        if (kind == LS__CONTROL_FORMED) {
            record.channel = bond->their_channel;
            record.peer = at->peer;
            control(bond->link, &record);
        }
    }
}

static void bond_raise(struct ls__bond *bond)
{
    LS_ASSERT(bond->wanted && bond->offered && !bond->up);
    bond->up = true;
    bond->ups++;
    bond->mesh_count = 0;
    bond->trouble[0] = '\0';
    bond->refusal_due = false;
    mesh_spread(bond, LS__CONTROL_FORMED);
    ls__tcp_trace(bond->link->tcp, LS_TRACE_INFO, "bond with {p} is up", &bond->group,
                  &bond->link->peer, bond->theirs.member);
    notify(bond, LS_BOND_UP, NULL);
}

/* The bond is down for its owner; the last thing done with it, as the sink may close it. */
static void bond_lower(struct ls__bond *bond, enum ls_bond_event event, const char *text)
{
    bool was_up = bond->up;
    bond->up = false;
    bond->offered = false;
    bond->mesh_count = 0;
    if (was_up) {
        (void)snprintf(bond->trouble, sizeof bond->trouble, "%s", text);
        mesh_spread(bond, LS__CONTROL_UNFORMED);
        ls__tcp_trace(bond->link->tcp, LS_TRACE_INFO, "bond with {p} is down", &bond->group,
                      &bond->link->peer, text);
        notify(bond, event, bond->trouble);
    }
}

void ls__bonds_lower(struct ls__link *link)
{
    /* first the state of all, then the news: a sink that sends must find them all down */
    for (uint32_t i = 0; i < link->slots_capacity; i++) {
        struct ls__bond *bond = link->slots[i];
        if (bond != NULL && !bond->wanted) {
            bond_free(bond);
        } else if (bond != NULL) {
            bond->channel = 0;
        }
    }
    for (uint32_t i = 0; i < link->slots_capacity && !link->tcp->closed; i++) {
        if (link->slots[i] != NULL) {
            bond_lower(link->slots[i], LS_BOND_DOWN, link->trouble);
        }
    }
}

/* The peer has a group of the same name that is another: owes both users a word. */
static void refusal_note(struct ls__bond *mine, const struct ls__bond *theirs)
{
    const struct ls_bond_hello *here = &mine->mine, *there = &theirs->theirs;
    mine->refusal_due = true;
    bool same = here->signature_bytes == there->signature_bytes &&
                memcmp(here->signature, there->signature, here->signature_bytes) == 0;
    (void)snprintf(mine->trouble, sizeof mine->trouble,
                   "the peer runs group %s with machine \"%.*s\", this member with \"%.*s\"%s",
                   here->name, (int)there->signature_bytes, (const char *)there->signature,
                   (int)here->signature_bytes, (const char *)here->signature,
                   same ? ", and another state sync" : "");
    ls__tcp_settle_soon(mine->link->tcp);
}

/* Compares a bond with all of the link that have its group's name but are another group. */
static void refusals_find(struct ls__bond *bond)
{
    struct ls__link *link = bond->link;
    for (uint32_t i = 0; i < link->slots_capacity; i++) {
        struct ls__bond *other = link->slots[i];
        if (other == NULL || other == bond) {
            continue;
        }
        if (bond->wanted && !bond->offered && other->offered && !other->wanted &&
            strcmp(bond->mine.name, other->theirs.name) == 0) {
            refusal_note(bond, other);
        } else if (bond->offered && !bond->wanted && other->wanted && !other->offered &&
                   strcmp(bond->theirs.name, other->mine.name) == 0) {
            refusal_note(other, bond);
        }
    }
}

void ls__bonds_tell(struct ls__link *link)
{
    for (uint32_t i = 0; i < link->slots_capacity && !link->tcp->closed; i++) {
        struct ls__bond *bond = link->slots[i];
        if (bond != NULL && bond->wanted && bond->refusal_due) {
            bond->refusal_due = false;
            ls__tcp_trace(link->tcp, LS_TRACE_WARN, "bond with {p} is refused", &bond->group,
                          &link->peer, bond->trouble);
            notify(bond, LS_BOND_REFUSED, bond->trouble);
        }
    }
}

enum ls_status ls__bond_want(struct ls__link *link, const struct ls_bond_hello *hello,
                             struct ls_error *error)
{
    struct ls__tcp *tcp = link->tcp;
    struct ls__bond *bond = slot_find(link, &hello->group);
    if (bond != NULL && bond->wanted) {
        return LS_OK;
    }
    if (link->wanted >= LS_GROUPS_MAX) {
        return ls_error_set(error, LS_ERR_LIMIT, "bond: %u groups with this peer", LS_GROUPS_MAX);
    }
    bond = bond != NULL ? bond : bond_new(link, &hello->group);
    if (bond == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "bond: out of memory");
    }
    struct ls__bond **bucket = bucket_of(tcp, &hello->group, &link->peer);
    bond->wanted = true;
    bond->mine = *hello;
    bond->next = *bucket;
    *bucket = bond;
    link->wanted++;
    if (link->up) {
        open_send(bond);
    }
    refusals_find(bond);
    return LS_OK;
}

void ls__bond_leave(struct ls__bond *bond)
{
    struct ls__link *link = bond->link;
    struct ls__bond **at = bucket_of(link->tcp, &bond->group, &link->peer);
    while (*at != bond) {
        at = &(*at)->next;
    }
    *at = bond->next;
    if (bond->up) {
        bond->up = false;
        mesh_spread(bond, LS__CONTROL_UNFORMED);
    }
    if (bond->channel != 0) {
        const struct ls__control record = {.kind = LS__CONTROL_CLOSE,
                                           .hello = {.group = bond->group}};
        control(link, &record);
    }
    bond->wanted = false;
    link->wanted--;
    bond_free(bond);
}

static const char *receive_open(struct ls__link *link, const struct ls__control *record)
{
    struct ls__bond *bond = slot_find(link, &record->hello.group);
    if (bond == NULL) {
        if (link->bonds - link->wanted >= LS_GROUPS_MAX) {
            return "more groups than a node can have";
        }
        bond = bond_new(link, &record->hello.group);
        if (bond == NULL) {
            return "no memory for another bond";
        }
    }
    if (bond->up) {
        return "a bond opened twice";
    }
    bond->offered = true;
    bond->their_channel = record->channel;
    bond->theirs = record->hello;
    if (bond->wanted && bond->channel != 0) {
        accept_send(bond);
    }
    refusals_find(bond);
    return NULL;
}

static void receive_close(struct ls__link *link, const struct ls__control *record)
{
    struct ls__bond *bond = slot_find(link, &record->hello.group);
    if (bond == NULL) {
        return;
    }
    if (!bond->wanted) {
        bond_free(bond);
        return;
    }
    const struct ls_group_id group = bond->group;
    bond->channel = 0;
    bond_lower(bond, LS_BOND_DEPARTED, "the peer departed");
    bond = link->tcp->closed ? NULL : ls__bond_find(link->tcp, &group, &link->peer);
    if (bond != NULL && link->up && bond->channel == 0) {
        open_send(bond);
    }
}

/* The bond that the peer says is up, brought up here too. NULL: none, or not agreed on. */
static struct ls__bond *bond_in_use(struct ls__link *link, uint32_t channel)
{
    struct ls__bond *bond = channel_find(link, channel);
    if (bond == NULL || !bond->offered) {
        return NULL;
    }
    if (!bond->up) {
        bond_raise(bond);
        bond = channel_find(link, channel); /* the sink may have closed it */
    }
    return bond;
}

static void receive_mesh(struct ls__link *link, const struct ls__control *record)
{
    struct ls__bond *bond = bond_in_use(link, record->channel);
    if (bond == NULL || link->tcp->closed || ls_peer_id_equal(&record->peer, &link->tcp->id)) {
        return;
    }
    uint32_t at = 0;
    while (at < bond->mesh_count && !ls_peer_id_equal(&bond->mesh[at], &record->peer)) {
        at++;
    }
    if (record->kind == LS__CONTROL_UNFORMED) {
        if (at < bond->mesh_count) {
            bond->mesh[at] = bond->mesh[--bond->mesh_count];
        }
        return;
    }
    if (at == bond->mesh_count && at < LS_MEMBERS_MAX - 1) {
        bond->mesh[bond->mesh_count++] = record->peer;
        const struct ls_bond_notice notice = {.event = LS_BOND_FORMED,
                                              .group = bond->group,
                                              .peer = link->peer,
                                              .other = record->peer};
        link->tcp->sink.bond(link->tcp->sink.self, &notice);
    }
}

static const char *receive_message(struct ls__connection *connection,
                                   const struct ls__control *record)
{
    struct ls__tcp *tcp = connection->tcp;
    struct ls__link *link = connection->link;
    struct ls__bond *bond = bond_in_use(link, record->channel);
    if (bond == NULL || tcp->closed) {
        tcp->dropped++;
        return NULL;
    }
    bond->bytes_in += record->message.bytes;
    const struct ls_group_id group = bond->group;
    const struct ls_peer_id peer = link->peer;
    const char *reason =
        tcp->sink.receive(tcp->sink.self, &group, &peer, connection->lane, record->message);
    bond = reason == NULL || tcp->closed ? NULL : ls__bond_find(tcp, &group, &peer);
    if (bond != NULL) {
        bond->malformed++;
    }
    return reason;
}

const char *ls__bonds_receive(struct ls__connection *connection, const struct ls__control *record)
{
    struct ls__link *link = connection->link;
    if (record->kind == LS__CONTROL_MESSAGE) {
        return receive_message(connection, record);
    }
    if (connection->lane != LS_LANE_CONSENSUS) {
        return "a bond's business on the bulk lane";
    }
    struct ls__bond *bond = NULL;
    switch (record->kind) {
    case LS__CONTROL_OPEN:
        return receive_open(link, record);
    case LS__CONTROL_ACCEPT:
        bond = channel_find(link, record->channel);
        if (bond != NULL && bond->offered && !bond->up) {
            bond_raise(bond);
        }
        return NULL;
    case LS__CONTROL_CLOSE:
        receive_close(link, record);
        return NULL;
    case LS__CONTROL_FORMED:
    case LS__CONTROL_UNFORMED:
        receive_mesh(link, record);
        return NULL;
    case LS__CONTROL_MESSAGE:
    case LS__CONTROL_PING:
    case LS__CONTROL_PONG:
    case LS__CONTROL_BIND:
        break;
    }
    return "a record that does not belong here";
}

enum ls_status ls__bond_send(struct ls__bond *bond, enum ls_lane lane, struct ls_span message)
{
    struct ls__connection *connection = bond->link->lanes[lane];
    if (!bond->up || connection == NULL || connection->phase != LS__OPEN) {
        return LS_ERR_UNREACHABLE;
    }
    uint8_t head[LS__MESSAGE_HEAD];
    size_t queued = connection->out.queued;
    if (queued > 0 &&
        queued + LS__RECORD_HEAD + sizeof head + message.bytes > *connection->tcp->queue_bytes) {
        return LS_ERR_BUSY;
    }
    ls__message_head(bond->their_channel, head);
    const struct ls_span parts[] = {{head, sizeof head}, message};
    enum ls_status status = ls__out_record(&connection->out, parts, 2);
    if (status == LS_OK) {
        bond->bytes_out += message.bytes;
        ls__tcp_flush_soon(connection->tcp);
    }
    return status;
}

void ls__bond_info(const struct ls__bond *bond, struct ls_bond_info *out)
{
    const struct ls__link *link = bond->link;
    const struct ls__connection *consensus = link->lanes[LS_LANE_CONSENSUS];
    *out = (struct ls_bond_info){.peer = link->peer,
                                 .up = bond->up,
                                 .rtt_us = link->rtt_us,
                                 .jitter_us = link->jitter_us,
                                 .heard_us = link->heard_us,
                                 .bytes_in = bond->bytes_in,
                                 .bytes_out = bond->bytes_out,
                                 .reconnects = bond->ups > 0 ? bond->ups - 1 : 0,
                                 .malformed = bond->malformed};
    for (size_t lane = 0; lane < LS_LANES; lane++) {
        if (link->lanes[lane] != NULL) {
            out->queued_bytes += (uint32_t)link->lanes[lane]->out.queued;
            out->heard_us = link->lanes[lane]->heard_us > out->heard_us
                                ? link->lanes[lane]->heard_us
                                : out->heard_us;
        }
    }
    const char *address = link->address;
    if (address[0] == '\0' && consensus != NULL) {
        address = consensus->remote;
    }
    (void)snprintf(out->address, sizeof out->address, "%s", address);
    if (bond->offered) {
        (void)memcpy(out->name, bond->theirs.member, sizeof out->name);
    }
    if (bond->up) {
        out->incarnation = link->incarnation;
        out->bonds[out->bonds_count++] = link->tcp->id; /* with this node */
        for (uint32_t i = 0; i < bond->mesh_count; i++) {
            out->bonds[out->bonds_count++] = bond->mesh[i];
        }
        return;
    }
    out->why = LS_ERR_UNREACHABLE;
    const char *trouble = bond->trouble[0] != '\0' ? bond->trouble : "the peer is not in the group";
    if (!link->up) {
        bool told = link->trouble[0] != '\0';
        trouble = told ? link->trouble : "not connected yet";
        out->why = told && link->why != LS_ERR_CLOSED ? link->why : LS_ERR_UNREACHABLE;
    }
    (void)snprintf(out->trouble, sizeof out->trouble, "%s", trouble);
}
