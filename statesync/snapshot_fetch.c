/* SPDX-License-Identifier: MIT */
/*
 * Which chunk is asked of whom. Every peer that offers the anchor gets a few questions at a time,
 * the leader only when no other can serve; a chunk is checked against the table before it is
 * staged. What is on its way is bounded in bytes, which the table tells beforehand.
 */
#include "snapshot_sync.h"

/* after a full queue or a refused allocation */
#define PAUSE_US 50000u
/* a chunk may be so many bytes a second slow before its sender counts as silent */
#define PACE_BYTES (256u << 10)

static size_t chunk_bytes(const struct ls__snap_session *session, uint32_t chunk)
{
    const struct ls__chunk_row *row = &session->table.rows[chunk];
    return (size_t)row->bytes + (size_t)row->items * LS_ITEM_HEAD_BYTES;
}

static void set_staged(struct ls__snap_session *session, uint32_t chunk)
{
    session->chunks[chunk] = LS__CHUNK_STAGED;
    session->staged++;
    session->staged_items += session->table.rows[chunk].items;
    session->staged_bytes += session->table.rows[chunk].bytes;
}

static void set_missing(struct ls__snap_session *session, uint32_t chunk)
{
    session->chunks[chunk] = LS__CHUNK_MISSING;
    session->next = chunk < session->next ? chunk : session->next;
}

void ls__snap_look(struct ls__snap_session *session)
{
    session->next = session->staged = 0;
    session->staged_items = session->staged_bytes = 0;
    for (uint32_t i = 0; i < session->table.count; i++) {
        session->chunks[i] = LS__CHUNK_MISSING;
        if (session->context.staged(session->context.base.self, i)) {
            set_staged(session, i);
        }
    }
}

static void remove_fetch(struct ls__snap_session *session, uint32_t at)
{
    struct ls__fetch *fetch = &session->fetches[at];
    struct ls__snap_peer *peer = ls__snap_find_peer(session, &fetch->peer);
    LS_ASSERT(peer != NULL && peer->in_flight > 0);
    peer->in_flight--;
    size_t bytes = chunk_bytes(session, fetch->chunk);
    LS_ASSERT(session->buffered >= bytes);
    session->buffered -= bytes;
    if (session->chunks[fetch->chunk] == LS__CHUNK_ASKED) {
        set_missing(session, fetch->chunk);
    }
    session->fetches_count--;
    *fetch = session->fetches[session->fetches_count];
}

void ls__snap_release(struct ls__snap_session *session, struct ls__snap_peer *peer)
{
    for (uint32_t i = session->fetches_count; i > 0; i--) {
        if (ls_peer_id_equal(&session->fetches[i - 1].peer, &peer->id)) {
            remove_fetch(session, i - 1);
        }
    }
    LS_ASSERT(peer->in_flight == 0);
}

void ls__snap_fetch_clear(struct ls__snap_session *session)
{
    while (session->fetches_count > 0) {
        remove_fetch(session, session->fetches_count - 1);
    }
    while (session->held != NULL) {
        struct ls__held_chunk *held = session->held;
        session->held = held->next;
        ls__free(session->context.base.env, held);
    }
    session->buffered = 0;
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* The first missing chunk; table.count: none. */
static uint32_t next_missing(struct ls__snap_session *session)
{
    while (session->next < session->table.count &&
           session->chunks[session->next] != LS__CHUNK_MISSING) {
        session->next++;
    }
    return session->next;
}

static bool has_room(const struct ls__snap_session *session, uint32_t chunk)
{
    return session->fetches_count < LS__SNAP_FETCHES_MAX &&
           (session->buffered == 0 ||
            session->buffered + chunk_bytes(session, chunk) <= session->limits.buffer_bytes_max);
}

/* When an answer of that size counts as lost, if nothing comes until then. */
static uint64_t answer_us(const struct ls__snap_session *session, uint32_t chunk, uint64_t now)
{
    return now + session->limits.timeout_us +
           (uint64_t)chunk_bytes(session, chunk) * 1000000u / PACE_BYTES;
}

/* A peer that sends is not silent: what else it was asked for waits for its turn. Were it asked of
 * others, over a slow link nothing would ever arrive in time. */
static void renew(struct ls__snap_session *session, const struct ls__snap_peer *peer)
{
    uint64_t now = ls__snap_now(session);
    for (uint32_t i = 0; i < session->fetches_count; i++) {
        struct ls__fetch *fetch = &session->fetches[i];
        if (ls_peer_id_equal(&fetch->peer, &peer->id)) {
            fetch->deadline_us = answer_us(session, fetch->chunk, now);
        }
    }
}

/* While the group is busy, bytes take their time; sources take turns. */
static void pay(struct ls__snap_session *session, struct ls__snap_peer *peer, uint32_t chunk,
                uint64_t now)
{
    if (session->load.busy) {
        session->credit_us =
            now + (uint64_t)chunk_bytes(session, chunk) * 1000000u / LS_SNAPSHOT_BUSY_BYTES;
        peer->order = ++session->last_order;
    }
}

static bool ask_chunk(struct ls__snap_session *session, struct ls__snap_peer *peer, uint64_t now)
{
    uint32_t chunk = next_missing(session);
    if (chunk == session->table.count || !has_room(session, chunk)) {
        return false;
    }
    if (session->load.busy && now < session->credit_us) {
        session->context.base.wake_at(session->context.base.self, session->credit_us);
        return false;
    }
    struct ls__snap_message question = {.kind = LS__SNAP_CHUNK_ASK,
                                        .anchor = session->snapshot.anchor,
                                        .chunk = chunk,
                                        .data = ls__table_key(&session->table, chunk)};
    if (ls__snap_ask(session, peer, &question) != LS_OK) {
        peer->avoid_us = now + PAUSE_US;
        return false;
    }
    session->fetches[session->fetches_count++] =
        (struct ls__fetch){.id = question.id,
                           .chunk = chunk,
                           .peer = peer->id,
                           .deadline_us = answer_us(session, chunk, now)};
    session->chunks[chunk] = LS__CHUNK_ASKED;
    session->buffered += chunk_bytes(session, chunk);
    peer->in_flight++;
    pay(session, peer, chunk, now);
    return true;
}

static void expire(struct ls__snap_session *session, uint64_t now)
{
    for (uint32_t i = session->fetches_count; i > 0; i--) {
        const struct ls__fetch *fetch = &session->fetches[i - 1];
        if (fetch->deadline_us > now) {
            continue;
        }
        struct ls__snap_peer *peer = ls__snap_find_peer(session, &fetch->peer);
        LS_ASSERT(peer != NULL);
        peer->order = ++session->last_order; /* slow: to the end of the list */
        peer->avoid_us = now + PAUSE_US;
        const struct ls_sync_context *base = &session->context.base;
        const struct ls__note note = {base->env, &base->group, &peer->id, NULL};
        ls__note(&note, LS_TRACE_INFO, "{p} did not send chunk {} in time", fetch->chunk, 0, 0);
        remove_fetch(session, i - 1);
    }
}

/* One chunk to each in turn, those that are slow last. */
static bool ask_round(struct ls__snap_session *session, bool leader, uint64_t now, bool *can)
{
    bool asked = false;
    uint64_t after = 0;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        struct ls__snap_peer *next = NULL;
        for (uint32_t k = 0; k < session->peers_count; k++) {
            struct ls__snap_peer *peer = &session->peers[k];
            if (peer->order > after && (next == NULL || peer->order < next->order)) {
                next = peer;
            }
        }
        if (next == NULL) {
            break;
        }
        after = next->order;
        if (ls__snap_leads(session, next) != leader || !ls__snap_serves(session, next, now)) {
            continue;
        }
        *can = true;
        asked =
            (next->in_flight < session->limits.window && ask_chunk(session, next, now)) || asked;
    }
    return asked;
}

/* Hands over what arrived while too many effects were under way. */
static void put_held(struct ls__snap_session *session)
{
    for (struct ls__held_chunk *held = session->held; held != NULL; held = held->next) {
        if (held->token == 0) {
            held->token = session->context.put(session->context.base.self, held->chunk,
                                               (struct ls_span){held->data, held->bytes});
        }
    }
}

void ls__snap_fetch(struct ls__snap_session *session, uint64_t now)
{
    const struct ls_sync_context *base = &session->context.base;
    expire(session, now);
    put_held(session);
    if (session->staged == session->table.count) {
        session->token = session->context.publish(base->self);
        session->state = session->token != 0 ? LS__SNAP_PUBLISHING : session->state;
        return;
    }
    if (now < session->memory_us) {
        base->wake_at(base->self, session->memory_us);
        return;
    }
    bool others = false;
    while (ask_round(session, false, now, &others)) {
    }
    bool leader = false;
    while (!others && ask_round(session, true, now, &leader)) {
    }
    bool offered = false;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        const struct ls__snap_peer *peer = &session->peers[i];
        offered = offered || (peer->bonded && peer->offers);
        if (peer->bonded && peer->offers && peer->avoid_us > now) {
            base->wake_at(base->self, peer->avoid_us);
        }
    }
    if (!offered && session->held == NULL) {
        ls__snap_restart(session, "nobody offers the snapshot any more");
        return;
    }
    for (uint32_t i = 0; i < session->fetches_count; i++) {
        base->wake_at(base->self, session->fetches[i].deadline_us);
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

/* NULL, or why this is not the chunk of the table. */
static const char *chunk_invalid(const struct ls__snap_session *session, uint32_t chunk,
                                 struct ls_span data)
{
    if (data.bytes != chunk_bytes(session, chunk)) {
        return "a chunk of another size";
    }
    struct ls_hash hash = ls_chunk_hash(session->context.base.env, data);
    return ls_hash_equal(&hash, &session->table.hashes[chunk]) || LS_MUTANT(S12)
               ? NULL
               : "a chunk with another hash";
}

static bool same_bytes(struct ls_span a, struct ls_span b)
{
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

/* NULL, or why a chunk that has the right hash cannot be what the table says it is. The order of
 * keys is the machine's own; that none comes twice in a row can be seen. */
static const char *chunk_malformed(const struct ls__snap_session *session, uint32_t chunk,
                                   struct ls_span data)
{
    const struct ls__chunk_row *row = &session->table.rows[chunk];
    struct ls_item item = {{NULL, 0}, {NULL, 0}};
    struct ls_span before = {NULL, 0};
    size_t at = 0;
    uint32_t items = 0;
    while (ls_chunk_next(data, &at, &item)) {
        if (items == 0 ? !same_bytes(item.key, ls__table_key(&session->table, chunk))
                       : same_bytes(item.key, before)) {
            return items == 0 ? "a chunk that begins with another key" : "a chunk with a key twice";
        }
        before = item.key;
        items++;
    }
    return at == data.bytes && items == row->items ? NULL : "a chunk of what are no items";
}

/* The table itself is wrong: all who stand for it are, and so is who has such a chunk. */
static void discredit(struct ls__snap_session *session, const struct ls__snap_peer *sender,
                      const char *reason)
{
    for (uint32_t i = 0; i < session->peers_count; i++) {
        struct ls__snap_peer *peer = &session->peers[i];
        if (peer == sender ||
            (peer->offers && peer->voted && ls_hash_equal(&peer->root, &session->snapshot.root))) {
            ls__snap_strike(session, peer, reason);
        }
    }
    ls__snap_restart(session, "the snapshot holds what cannot be a state");
}

static uint32_t find_fetch(const struct ls__snap_session *session, uint64_t id)
{
    uint32_t at = 0;
    while (at < session->fetches_count && session->fetches[at].id != id) {
        at++;
    }
    return at;
}

enum ls_sync_verdict ls__snap_take_chunk(struct ls__snap_session *session,
                                         struct ls__snap_peer *peer,
                                         const struct ls__snap_message *answer)
{
    if (answer->id == 0 || answer->id > session->last_id) {
        ls__snap_strike(session, peer, "an answer to nothing that was asked");
        return LS_SYNC_INVALID;
    }
    uint32_t at = find_fetch(session, answer->id);
    if (at == session->fetches_count) {
        return LS_SYNC_IGNORE; /* late, or sent twice */
    }
    const struct ls__fetch fetch = session->fetches[at];
    if (!ls_peer_id_equal(&fetch.peer, &peer->id)) {
        ls__snap_strike(session, peer, "an answer to what another was asked");
        return LS_SYNC_INVALID;
    }
    remove_fetch(session, at);
    if (answer->kind == LS__SNAP_GONE) {
        ls__snap_withdraw(session, peer);
        return LS_SYNC_OK;
    }
    const char *reason = chunk_invalid(session, fetch.chunk, answer->data);
    if (reason != NULL) {
        ls__snap_strike(session, peer, reason);
        return LS_SYNC_INVALID;
    }
    reason = chunk_malformed(session, fetch.chunk, answer->data);
    if (reason != NULL) {
        discredit(session, peer, reason);
        return LS_SYNC_INVALID;
    }
    const struct ls_env *env = session->context.base.env;
    struct ls__held_chunk *held = ls__allocate(env, sizeof *held + answer->data.bytes);
    if (held == NULL) {
        session->memory_us = ls__snap_now(session) + PAUSE_US;
        return LS_SYNC_IGNORE;
    }
    *held = (struct ls__held_chunk){
        .next = session->held, .chunk = fetch.chunk, .bytes = answer->data.bytes};
    memcpy(held->data, answer->data.data, answer->data.bytes);
    session->held = held;
    session->chunks[fetch.chunk] = LS__CHUNK_HELD;
    renew(session, peer);
    session->buffered += held->bytes;
    return LS_SYNC_OK;
}

void ls__snap_put_done(struct ls__snap_session *session, uint64_t token, enum ls_status status)
{
    struct ls__held_chunk **at = &session->held;
    while (*at != NULL && (*at)->token != token) {
        at = &(*at)->next;
    }
    struct ls__held_chunk *held = *at;
    if (held == NULL) {
        return;
    }
    *at = held->next;
    session->buffered -= held->bytes;
    if (status == LS_OK) {
        set_staged(session, held->chunk);
    } else {
        set_missing(session, held->chunk);
        session->failed = "a chunk could not be staged";
    }
    ls__free(session->context.base.env, held);
}
