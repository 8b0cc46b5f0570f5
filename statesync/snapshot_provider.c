/* SPDX-License-Identifier: MIT */
/*
 * The serving side of the snapshot strategy: frozen states ("anchors"), who asked for them, and how
 * long they stay. A state is frozen at a marker that passes through the log, so that all members
 * have the same one, or, for a member that would wait for ever, alone where this one stands.
 *
 *   REQUEST --an anchor will do--> OFFER
 *      | none, this member leads: a marker into the log      marker applied --freeze--> OFFER
 *      | none, asked to freeze alone ------------------------------freeze-----------> OFFER
 */
#include "snapshot_sync.h"

/* a marker's payload: who asked first, and the number of its attempt */
#define MARKER_BYTES (sizeof(struct ls_peer_id) + 8u)

LS_STATIC_ASSERT(MARKER_BYTES < LS_SYNC_MARKER_BYTES_MAX, "a marker names who asked");

static uint64_t now_of(const struct ls__snap_provider *provider)
{
    return provider->context.base.now_us(provider->context.base.self);
}

static struct ls__note note_of(const struct ls__snap_provider *provider,
                               const struct ls_peer_id *peer, const char *detail)
{
    const struct ls_sync_context *base = &provider->context.base;
    return (struct ls__note){base->env, &base->group, peer, detail};
}

static void wake_at(const struct ls__snap_provider *provider, uint64_t at_us)
{
    provider->context.base.wake_at(provider->context.base.self, at_us);
}

/* ---- anchors --------------------------------------------------------------------------------- */

struct ls__anchor *ls__snap_find_anchor(struct ls__snap_provider *provider, struct ls_cursor at)
{
    for (size_t i = 0; i < LS_SNAPSHOT_ANCHORS_MAX; i++) {
        struct ls__anchor *anchor = &provider->anchors[i];
        if (anchor->live && ls_cursor_compare(anchor->frozen.anchor, at) == 0) {
            return anchor;
        }
    }
    return NULL;
}

void ls__snap_thaw(struct ls__snap_provider *provider, struct ls__anchor *anchor)
{
    LS_ASSERT(anchor->live);
    const struct ls__note note = note_of(provider, NULL, NULL);
    ls__note(&note, LS_TRACE_INFO, "the state frozen at {^} is dropped", anchor->frozen.anchor.term,
             anchor->frozen.anchor.index, 0);
    provider->context.thaw(provider->context.base.self, anchor->frozen.id);
    ls__table_clear(&anchor->table);
    ls__free(provider->context.base.env, anchor->next);
    *anchor = (struct ls__anchor){.table.env = provider->context.base.env};
}

/* A place for one more; NULL: all are in use. */
static struct ls__anchor *free_place(struct ls__snap_provider *provider, uint64_t now)
{
    for (size_t i = 0; i < LS_SNAPSHOT_ANCHORS_MAX; i++) {
        struct ls__anchor *anchor = &provider->anchors[i];
        if (anchor->live && anchor->lease_us <= now) {
            ls__snap_thaw(provider, anchor);
        }
        if (!anchor->live) {
            return anchor;
        }
    }
    return NULL;
}

static void renew(struct ls__snap_provider *provider, struct ls__anchor *anchor, uint64_t now)
{
    anchor->lease_us = now + provider->limits.lease_us;
    wake_at(provider, anchor->lease_us);
}

static struct ls__anchor *freeze(struct ls__snap_provider *provider)
{
    uint64_t now = now_of(provider);
    struct ls__anchor *anchor = free_place(provider, now);
    if (anchor == NULL || now < provider->failed_us) {
        return NULL;
    }
    struct ls_sync_frozen frozen;
    enum ls_status status = provider->context.freeze(provider->context.base.self, &frozen);
    if (status != LS_OK) {
        const struct ls__note note = note_of(provider, NULL, NULL);
        ls__note(&note, LS_TRACE_INFO, "the machine could not be frozen, status {}",
                 (uint64_t)status, 0, 0);
        return NULL;
    }
    *anchor = (struct ls__anchor){
        .live = true, .frozen = frozen, .table.env = provider->context.base.env};
    renew(provider, anchor, now);
    const struct ls__note note = note_of(provider, NULL, NULL);
    ls__note(&note, LS_TRACE_INFO, "the state at {^} is frozen, {} items", frozen.anchor.term,
             frozen.anchor.index, frozen.items);
    return anchor;
}

/* The newest one at or above `need`. */
static struct ls__anchor *best_anchor(struct ls__snap_provider *provider, ls_index need)
{
    struct ls__anchor *best = NULL;
    for (size_t i = 0; i < LS_SNAPSHOT_ANCHORS_MAX; i++) {
        struct ls__anchor *anchor = &provider->anchors[i];
        if (anchor->live && anchor->frozen.anchor.index >= need &&
            (best == NULL || anchor->frozen.anchor.index > best->frozen.anchor.index)) {
            best = anchor;
        }
    }
    return best;
}

/* ---- clients --------------------------------------------------------------------------------- */

/* The place of `id` with its lease renewed; NULL: more members ask than a group can have. */
static struct ls__snap_client *client_of(struct ls__snap_provider *provider,
                                         const struct ls_peer_id *id, uint64_t attempt,
                                         ls_index need)
{
    uint64_t now = now_of(provider);
    struct ls__snap_client *client =
        ls__lease_place(provider->clients, sizeof provider->clients[0], id, now);
    if (client == NULL) {
        return NULL;
    }
    struct ls__lease *lease = &client->lease;
    if (!ls_peer_id_equal(&lease->id, id)) {
        ls__snap_drop_asks(provider, &lease->id);
        *client = (struct ls__snap_client){.lease = {.id = *id}};
    } else if (client->attempt != attempt) {
        ls__snap_drop_asks(provider, id);
    }
    client->attempt = attempt;
    lease->need = need != 0 ? need : lease->need;
    lease->until_us = now + provider->limits.lease_us;
    return client;
}

/* Lost offers are asked for again. anchor: NULL: there is none. */
static void offer(struct ls__snap_provider *provider, const struct ls_peer_id *to, uint64_t attempt,
                  const struct ls__anchor *anchor)
{
    struct ls__snap_message message = {.kind = LS__SNAP_OFFER, .attempt = attempt};
    if (anchor != NULL) {
        message.anchor = anchor->frozen.anchor;
        message.items = anchor->frozen.items;
        message.bytes = anchor->frozen.bytes;
    }
    uint8_t room[LS__SNAP_HEAD_BYTES];
    (void)ls__snap_send(&provider->context.base, to, &message, room, sizeof room);
}

/* ---- markers --------------------------------------------------------------------------------- */

static void feed_marker(struct ls__snap_provider *provider, const struct ls_peer_id *peer,
                        uint64_t attempt)
{
    uint64_t now = now_of(provider);
    if (now < provider->marker_us) {
        return; /* several requests share one */
    }
    uint8_t payload[MARKER_BYTES];
    memcpy(payload, peer->bytes, sizeof peer->bytes);
    for (size_t i = 0; i < 8; i++) {
        payload[sizeof peer->bytes + i] = (uint8_t)(attempt >> (8 * i));
    }
    provider->marker_us = now + provider->limits.marker_us;
    provider->context.feed_marker(provider->context.base.self,
                                  (struct ls_span){payload, sizeof payload});
}

/* Who asked for the marker is remembered by all members: its own request may come later. */
static bool marker_asker(struct ls__snap_provider *provider, struct ls_span payload)
{
    if (payload.bytes != MARKER_BYTES) {
        return true;
    }
    struct ls_peer_id peer;
    memcpy(peer.bytes, payload.data, sizeof peer.bytes);
    if (ls_peer_id_equal(&peer, &provider->context.base.local)) {
        return false;
    }
    const uint8_t *at = (const uint8_t *)payload.data + sizeof peer.bytes;
    uint64_t attempt = 0;
    for (size_t i = 0; i < 8; i++) {
        attempt |= (uint64_t)at[i] << (8 * i);
    }
    (void)client_of(provider, &peer, attempt, 0);
    return true;
}

/* Would anybody take it? Of a marker that a member finds in its own log when it starts only who is
 * bonded; who asked for a new one will be: it reached another one of us first. */
static bool wanted(const struct ls__snap_provider *provider, ls_index index)
{
    const struct ls_sync_context *base = &provider->context.base;
    struct ls_sync_bond bonds[LS_MEMBERS_MAX];
    size_t count = base->bonds(base->self, bonds, LS_MEMBERS_MAX);
    uint64_t now = now_of(provider);
    for (size_t i = 0; i < LS_MEMBERS_MAX; i++) {
        const struct ls__snap_client *client = &provider->clients[i];
        bool waits = ls__lease_lives(&client->lease, now) && client->lease.need <= index;
        if (waits && index > provider->opened_last) {
            return true;
        }
        for (size_t k = 0; waits && k < count; k++) {
            if (ls_peer_id_equal(&client->lease.id, &bonds[k].peer)) {
                return true;
            }
        }
    }
    return false;
}

static void provider_marker(void *self, struct ls_cursor at, struct ls_span payload)
{
    struct ls__snap_provider *provider = self;
    const struct ls_sync_context *base = &provider->context.base;
    provider->marker_us = 0;
    if (at.index + LS_SNAPSHOT_MARKER_ENTRIES_MAX < base->committed(base->self).index ||
        !marker_asker(provider, payload) || !wanted(provider, at.index)) {
        return; /* replayed history, or this member asked itself */
    }
    struct ls__anchor *anchor = freeze(provider);
    if (anchor == NULL) {
        return;
    }
    uint64_t now = now_of(provider);
    for (size_t i = 0; i < LS_MEMBERS_MAX; i++) {
        const struct ls__snap_client *client = &provider->clients[i];
        if (ls__lease_lives(&client->lease, now) &&
            client->lease.need <= anchor->frozen.anchor.index) {
            offer(provider, &client->lease.id, client->attempt, anchor);
        }
    }
}

/* ---- the vtable ------------------------------------------------------------------------------ */

static void take_request(struct ls__snap_provider *provider, const struct ls_peer_id *from,
                         const struct ls__snap_message *request)
{
    if (client_of(provider, from, request->attempt, request->need) == NULL) {
        return;
    }
    struct ls__anchor *anchor = best_anchor(provider, request->need);
    if (anchor == NULL && request->alone) {
        anchor = freeze(provider);
        if (anchor != NULL && anchor->frozen.anchor.index < request->need) {
            ls__snap_thaw(provider, anchor);
            anchor = NULL;
        }
    }
    if (anchor != NULL) {
        anchor->asker = *from;
        renew(provider, anchor, now_of(provider));
    } else if (provider->context.is_leader(provider->context.base.self)) {
        feed_marker(provider, from, request->attempt);
    }
    offer(provider, from, request->attempt, anchor);
}

static enum ls_sync_verdict provider_receive(void *self, const struct ls_peer_id *from,
                                             struct ls_span message)
{
    struct ls__snap_provider *provider = self;
    struct ls_value values[LS__SNAP_HEAD_VALUES];
    struct ls__snap_message question;
    const char *reason = ls__snap_decode(&provider->context.base.env->codec, message, values,
                                         sizeof values / sizeof values[0], &question);
    if (reason != NULL) {
        return LS_SYNC_INVALID;
    }
    ls__snap_look_at_load(provider, now_of(provider));
    if (question.kind == LS__SNAP_REQUEST) {
        take_request(provider, from, &question);
        return LS_SYNC_OK;
    }
    if (question.kind != LS__SNAP_TABLE_ASK && question.kind != LS__SNAP_CHUNK_ASK &&
        question.kind != LS__SNAP_KEEP) {
        return LS_SYNC_NOT_MINE;
    }
    struct ls__snap_client *client = client_of(provider, from, question.attempt, 0);
    struct ls__anchor *anchor = ls__snap_find_anchor(provider, question.anchor);
    if (client == NULL) {
        return LS_SYNC_IGNORE;
    }
    if (anchor == NULL && question.kind == LS__SNAP_KEEP) {
        return LS_SYNC_OK;
    }
    if (anchor == NULL) {
        struct ls__snap_message gone = {
            .kind = LS__SNAP_GONE, .attempt = question.attempt, .id = question.id};
        uint8_t room[LS__SNAP_HEAD_BYTES];
        (void)ls__snap_send(&provider->context.base, from, &gone, room, sizeof room);
        return LS_SYNC_OK;
    }
    anchor->asker = *from;
    renew(provider, anchor, now_of(provider));
    if (question.kind == LS__SNAP_TABLE_ASK) {
        ls__snap_answer_table(provider, from, &question);
    } else if (question.kind == LS__SNAP_CHUNK_ASK) {
        ls__snap_take_ask(provider, client, &question);
    }
    return LS_SYNC_OK;
}

static void provider_poll(void *self)
{
    struct ls__snap_provider *provider = self;
    uint64_t now = now_of(provider);
    bool live = false;
    for (size_t i = 0; i < LS_SNAPSHOT_ANCHORS_MAX; i++) {
        struct ls__anchor *anchor = &provider->anchors[i];
        if (anchor->live && anchor->lease_us <= now) {
            ls__snap_thaw(provider, anchor);
        }
        if (anchor->live) {
            live = true;
            wake_at(provider, anchor->lease_us);
        }
    }
    if (live) {
        ls__snap_serve(provider, now);
    } else {
        ls__snap_release_memory(provider);
    }
}

/* Who gets a snapshot needs the log from its anchor on. */
static size_t provider_pins(void *self, struct ls_sync_pin out[LS_SYNC_PINS_MAX])
{
    struct ls__snap_provider *provider = self;
    uint64_t now = now_of(provider);
    size_t count = 0;
    for (size_t i = 0; i < LS_SNAPSHOT_ANCHORS_MAX; i++) {
        const struct ls__anchor *anchor = &provider->anchors[i];
        if (anchor->live && anchor->lease_us > now) {
            out[count++] = (struct ls_sync_pin){.kind = LS_SYNC_PIN_FROZEN,
                                                .peer = anchor->asker,
                                                .safe = anchor->frozen.anchor.index,
                                                .until_us = anchor->lease_us};
        }
    }
    return count;
}

static ls_index provider_safe_to_prune_prefix(void *self)
{
    struct ls__snap_provider *provider = self;
    struct ls_sync_pin pins[LS_SYNC_PINS_MAX];
    size_t count = provider_pins(self, pins);
    const struct ls_sync_context *base = &provider->context.base;
    ls_index safe = base->committed(base->self).index;
    for (size_t i = 0; i < count && !LS_MUTANT(S7_FROZEN); i++) {
        safe = pins[i].safe < safe ? pins[i].safe : safe;
    }
    return safe;
}

static void provider_peer(void *self, const struct ls_peer_id *peer, bool bonded)
{
    struct ls__snap_provider *provider = self;
    if (!bonded) {
        ls__snap_drop_asks(provider, peer); /* its lease stays: it may be back soon */
    }
}

static void provider_destroy(void *self)
{
    struct ls__snap_provider *provider = self;
    for (size_t i = 0; i < LS_SNAPSHOT_ANCHORS_MAX; i++) {
        if (provider->anchors[i].live) {
            ls__snap_thaw(provider, &provider->anchors[i]);
        }
    }
    ls__snap_release_memory(provider);
    ls__free(provider->context.base.env, provider);
}

enum ls_status ls__snap_provider_create(void *self, const struct ls_provider_context *context,
                                        struct ls_sync_provider *out)
{
    struct ls__snap_provider *provider = ls__allocate(context->base.env, sizeof *provider);
    if (provider == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    memset(provider, 0, sizeof *provider);
    provider->context = *context;
    provider->limits = ls__snap_limits(self);
    ls_index first = 0;
    context->base.log_bounds(context->base.self, &first, &provider->opened_last);
    provider->asks_end = &provider->asks;
    provider->builder.env = context->base.env;
    *out = (struct ls_sync_provider){
        .size = sizeof *out,
        .self = provider,
        .poll = provider_poll,
        .receive = provider_receive,
        .safe_to_prune_prefix = provider_safe_to_prune_prefix,
        .peer = provider_peer,
        .destroy = provider_destroy,
        .marker = provider_marker,
        .pins = provider_pins,
    };
    return LS_OK;
}
