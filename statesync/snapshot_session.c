/* SPDX-License-Identifier: MIT */
/*
 * The lagging side of the snapshot strategy:
 *
 *   selecting --offers--> comparing --tables agree--> beginning --> fetching --all staged-->
 *       ^                     |                                        |        publishing --> done
 *       +------- nobody offers the anchor any more --------------------+
 *
 * Everything is decided in poll; the other functions only take in what happened. What was staged
 * outlives the session: chunks are known by their hash, so that whatever is the same in another
 * snapshot is not fetched again.
 */
#include "session.h"
#include "snapshot_sync.h"

/* who offered what it does not have any more is not asked before */
#define GONE_US 300000u
/* a refused effect is tried again after so long */
#define RETRY_US 20000u
/* so many times within a lease it is renewed: some of them may get lost */
#define KEEPS 4u

/* ---- peers ----------------------------------------------------------------------------------- */

struct ls__snap_peer *ls__snap_find_peer(struct ls__snap_session *session,
                                         const struct ls_peer_id *id)
{
    for (uint32_t i = 0; i < session->peers_count; i++) {
        if (ls_peer_id_equal(&session->peers[i].id, id)) {
            return &session->peers[i];
        }
    }
    return NULL;
}

bool ls__snap_leads(const struct ls__snap_session *session, const struct ls__snap_peer *peer)
{
    struct ls_peer_id leader;
    return session->context.leader(session->context.base.self, &leader) &&
           ls_peer_id_equal(&leader, &peer->id);
}

bool ls__snap_serves(const struct ls__snap_session *session, const struct ls__snap_peer *peer,
                     uint64_t now)
{
    return peer->bonded && peer->offers && now >= peer->avoid_us &&
           ls_cursor_compare(peer->anchor, session->snapshot.anchor) == 0;
}

void ls__snap_withdraw(struct ls__snap_session *session, struct ls__snap_peer *peer)
{
    if (session->state == LS__SNAP_FETCHING) {
        ls__snap_release(session, peer);
    }
    peer->offers = peer->voted = false;
    peer->question = peer->again_us = 0;
}

void ls__snap_strike(struct ls__snap_session *session, struct ls__snap_peer *peer,
                     const char *reason)
{
    const struct ls_sync_context *base = &session->context.base;
    peer->order = ++session->last_order;
    peer->avoid_us = base->strike(base->self, &peer->id, reason);
    if (peer->avoid_us >= ls__snap_now(session) + 1000ull * LS_SYNC_BLOCK_MS) {
        ls__snap_withdraw(session, peer); /* not to be waited for */
    }
}

enum ls_status ls__snap_ask(struct ls__snap_session *session, struct ls__snap_peer *peer,
                            struct ls__snap_message *question)
{
    question->attempt = session->attempt;
    question->id = session->last_id + 1;
    enum ls_status status =
        ls__snap_send(&session->context.base, &peer->id, question, session->room,
                      LS__SNAP_HEAD_BYTES + LS_ITEM_KEY_BYTES_MAX);
    session->last_id += status == LS_OK;
    return status;
}

/* ---- states ---------------------------------------------------------------------------------- */

static void clear(struct ls__snap_session *session)
{
    if (session->table.count > 0 && session->chunks != NULL) {
        ls__snap_fetch_clear(session);
    }
    LS_ASSERT(session->fetches_count == 0 && session->held == NULL);
    ls__table_clear(&session->table);
    ls__free(session->context.base.env, session->chunks);
    session->chunks = NULL;
}

void ls__snap_restart(struct ls__snap_session *session, const char *reason)
{
    const struct ls_sync_context *base = &session->context.base;
    const struct ls__note note = {base->env, &base->group, NULL, reason};
    ls__note(&note, LS_TRACE_INFO, "another snapshot than that at {^} is looked for",
             session->snapshot.anchor.term, session->snapshot.anchor.index, 0);
    clear(session);
    session->state = LS__SNAP_SELECTING;
    session->token = 0;
    session->first_offer_us = 0;
    session->alone_us = ls__snap_now(session) + session->limits.marker_us;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        struct ls__snap_peer *peer = &session->peers[i];
        peer->offers = peer->voted = false;
        peer->question = peer->again_us = 0;
        peer->ask_us = peer->pause_us = 0;
    }
    session->waits = reason;
    base->wake_at(base->self, ls__snap_now(session));
}

/* Questions renew the leases of those that are asked. The others, and all of them while what was
 * fetched is installed, keep the state and the log after it because they are told to: an install
 * may last longer than any lease, and would be for nothing without that log. */
static void keep(struct ls__snap_session *session, uint64_t now)
{
    const struct ls_sync_context *base = &session->context.base;
    if (now >= session->keep_us) {
        const struct ls__snap_message message = {
            .kind = LS__SNAP_KEEP, .attempt = session->attempt, .anchor = session->snapshot.anchor};
        for (uint32_t i = 0; i < session->peers_count; i++) {
            const struct ls__snap_peer *peer = &session->peers[i];
            if (peer->bonded && peer->offers &&
                ls_cursor_compare(peer->anchor, session->snapshot.anchor) == 0) {
                (void)ls__snap_send(base, &peer->id, &message, session->room, LS__SNAP_HEAD_BYTES);
            }
        }
        session->keep_us = now + session->limits.lease_us / KEEPS;
    }
    base->wake_at(base->self, session->keep_us);
}

/* The log came by another way: then there is nothing to install. */
static bool overtaken(struct ls__snap_session *session)
{
    const struct ls_sync_context *base = &session->context.base;
    ls_index commit = base->committed(base->self).index;
    if (session->state == LS__SNAP_PUBLISHING || session->state == LS__SNAP_PUBLISHED) {
        return false;
    }
    if (session->state != LS__SNAP_SELECTING && commit >= session->snapshot.anchor.index &&
        !LS_MUTANT(S4)) {
        ls__snap_restart(session, "the log came by another way");
    }
    return commit >= session->target;
}

static enum ls_session_state session_poll(void *self, struct ls_cursor *at, const char **reason)
{
    struct ls__snap_session *session = self;
    const struct ls_sync_context *base = &session->context.base;
    if (session->state == LS__SNAP_PUBLISHED) {
        *at = session->snapshot.anchor;
        return LS_SESSION_DONE;
    }
    if (overtaken(session)) {
        *at = base->committed(base->self);
        return LS_SESSION_DONE;
    }
    uint64_t now = ls__snap_now(session);
    ls__snap_load_look(&session->load, session->target, now);
    if (session->state != LS__SNAP_SELECTING) {
        keep(session, now);
    }
    switch (session->state) {
    case LS__SNAP_SELECTING:
        ls__snap_select(session, now);
        break;
    case LS__SNAP_COMPARING:
        ls__snap_compare(session, now);
        break;
    case LS__SNAP_FETCHING:
        ls__snap_fetch(session, now);
        break;
    case LS__SNAP_BEGINNING:
    case LS__SNAP_PUBLISHING:
    case LS__SNAP_PUBLISHED:
        break;
    }
    if (session->failed != NULL) {
        *reason = session->failed;
        return LS_SESSION_FAILED;
    }
    return LS_SESSION_PENDING;
}

/* ---- effects --------------------------------------------------------------------------------- */

static void began(struct ls__snap_session *session, enum ls_status status)
{
    const struct ls_sync_context *base = &session->context.base;
    if (status == LS_ERR_BUSY || status == LS_ERR_NO_MEMORY) {
        session->state = LS__SNAP_COMPARING; /* decides the same again */
        session->begin_us = ls__snap_now(session) + RETRY_US;
        return;
    }
    if (status == LS_ERR_PROTOCOL) {
        struct ls__snap_peer *peer = ls__snap_find_peer(session, &session->source);
        if (peer != NULL) {
            ls__snap_strike(session, peer, "a snapshot with a malformed configuration");
            ls__snap_withdraw(session, peer);
        }
        ls__snap_restart(session, "the snapshot cannot be installed");
        return;
    }
    session->chunks = ls__allocate(base->env, session->table.count + 1u);
    if (status != LS_OK || session->chunks == NULL) {
        session->failed = status == LS_ERR_NOT_FOUND ? "this member cannot take snapshots in"
                                                     : "the staging area failed";
        return;
    }
    session->state = LS__SNAP_FETCHING;
    ls__snap_look(session);
    const struct ls__note note = {base->env, &base->group, NULL, NULL};
    ls__note(&note, LS_TRACE_INFO, "{} of {} chunks are staged already", session->staged,
             session->table.count, 0);
}

static void published(struct ls__snap_session *session, enum ls_status status)
{
    if (status == LS_OK) {
        session->state = LS__SNAP_PUBLISHED;
    } else if (status == LS_ERR_CORRUPT) {
        session->state = LS__SNAP_FETCHING; /* some are asked again */
        ls__snap_look(session);
    } else {
        session->failed = "the snapshot could not be installed";
    }
}

static void session_effect(void *self, uint64_t token, enum ls_status status)
{
    struct ls__snap_session *session = self;
    if (token == session->token && session->token != 0) {
        session->token = 0;
        if (session->state == LS__SNAP_BEGINNING) {
            began(session, status);
        } else if (session->state == LS__SNAP_PUBLISHING) {
            published(session, status);
        }
        return;
    }
    ls__snap_put_done(session, token, status);
}

/* ---- what else happens ----------------------------------------------------------------------- */

static enum ls_sync_verdict session_receive(void *self, const struct ls_peer_id *from,
                                            struct ls_span message)
{
    struct ls__snap_session *session = self;
    struct ls__snap_peer *peer = ls__snap_find_peer(session, from);
    if (peer == NULL || !peer->bonded) {
        return LS_SYNC_IGNORE;
    }
    struct ls__snap_message answer;
    const char *reason = ls__snap_decode(&session->context.base.env->codec, message,
                                         session->values, LS__SNAP_VALUES_MAX, &answer);
    bool question =
        reason == NULL && (answer.kind == LS__SNAP_REQUEST || answer.kind == LS__SNAP_TABLE_ASK ||
                           answer.kind == LS__SNAP_CHUNK_ASK || answer.kind == LS__SNAP_KEEP);
    if (reason != NULL || question) {
        ls__snap_withdraw(session, peer); /* which question it was meant for cannot be known */
        ls__snap_strike(session, peer, reason != NULL ? reason : "a question for an answer");
        return LS_SYNC_INVALID;
    }
    if (answer.attempt != session->attempt) {
        return LS_SYNC_IGNORE;
    }
    if (answer.kind == LS__SNAP_OFFER) {
        return ls__snap_take_offer(session, peer, &answer);
    }
    if (answer.kind == LS__SNAP_CHUNK || answer.kind == LS__SNAP_GONE) {
        if (session->state == LS__SNAP_FETCHING) {
            return ls__snap_take_chunk(session, peer, &answer);
        }
        if (answer.kind == LS__SNAP_GONE && peer->question != 0 && answer.id == peer->question) {
            ls__snap_withdraw(session, peer);
            peer->avoid_us = ls__snap_now(session) + GONE_US; /* it may offer another one */
        }
        return LS_SYNC_IGNORE;
    }
    return session->state == LS__SNAP_COMPARING ? ls__snap_take_table(session, peer, &answer)
                                                : LS_SYNC_IGNORE;
}

/* The newest entries of the leader are fetched after the snapshot. */
static enum ls_buffer_verdict session_buffer(void *self, ls_term term, struct ls_cursor prev,
                                             const struct ls_entry *entries, uint32_t count)
{
    (void)self;
    (void)term;
    (void)prev;
    (void)entries;
    (void)count;
    return LS_BUFFER_DROPPED;
}

static void session_target(void *self, ls_index target)
{
    struct ls__snap_session *session = self;
    session->target = target > session->target ? target : session->target;
}

static void session_term(void *self, ls_term term)
{
    (void)self;
    (void)term; /* an anchor is committed, whoever leads */
}

static void session_peer(void *self, const struct ls_peer_id *id, bool bonded)
{
    struct ls__snap_session *session = self;
    struct ls__snap_peer *peer = ls__snap_find_peer(session, id);
    if (peer == NULL) {
        if (!bonded || session->peers_count == LS_MEMBERS_MAX) {
            return;
        }
        peer = &session->peers[session->peers_count++];
        *peer = (struct ls__snap_peer){.id = *id, .order = ++session->last_order};
    }
    ls__snap_withdraw(session, peer); /* also when it is back: what was asked went with the link */
    peer->bonded = bonded;
    peer->ask_us = peer->pause_us = 0;
    peer->avoid_us = session->context.base.avoided(session->context.base.self, id);
    if (bonded && session->state != LS__SNAP_SELECTING) {
        const struct ls_sync_context *base = &session->context.base;
        const struct ls__snap_message question = {.kind = LS__SNAP_REQUEST,
                                                  .attempt = session->attempt,
                                                  .need = session->snapshot.anchor.index};
        (void)ls__snap_send(base, id, &question, session->room, LS__SNAP_HEAD_BYTES);
    }
}

static void session_progress(void *self, struct ls_sync_progress *out)
{
    const struct ls__snap_session *session = self;
    out->from = out->at = session->from;
    out->target = session->target;
    switch (session->state) {
    case LS__SNAP_SELECTING:
        out->phase = LS_SYNC_WAITING;
        out->reason = session->waits;
        break;
    case LS__SNAP_COMPARING:
    case LS__SNAP_BEGINNING:
        out->phase = LS_SYNC_VERIFYING;
        break;
    case LS__SNAP_FETCHING:
        out->phase = LS_SYNC_FETCHING;
        break;
    case LS__SNAP_PUBLISHING:
        out->phase = LS_SYNC_INSTALLING;
        break;
    case LS__SNAP_PUBLISHED:
        out->phase = LS_SYNC_DONE;
        out->at = session->snapshot.anchor.index;
        break;
    }
    out->prepared = session->prepared;
    if (session->state >= LS__SNAP_FETCHING) {
        out->items = session->staged_items;
        out->bytes = session->staged_bytes;
        out->bytes_total = session->snapshot.bytes;
        out->items_total = session->snapshot.items;
    }
}

/* ---- create and destroy ---------------------------------------------------------------------- */

static void session_destroy(void *self)
{
    struct ls__snap_session *session = self;
    const struct ls_env *env = session->context.base.env;
    clear(session);
    ls__free(env, session->values);
    ls__free(env, session->room);
    ls__free(env, session->configuration);
    ls__free(env, session);
}

static struct ls__snap_session *allocate(const struct ls_env *env)
{
    struct ls__snap_session *session = ls__allocate(env, sizeof *session);
    if (session == NULL) {
        return NULL;
    }
    memset(session, 0, sizeof *session);
    session->values = ls__allocate(env, LS__SNAP_VALUES_MAX * sizeof *session->values);
    session->room = ls__allocate(env, LS__SNAP_HEAD_BYTES + LS_ITEM_KEY_BYTES_MAX);
    session->configuration = ls__allocate(env, LS_CONFIGURATION_BYTES_MAX);
    if (session->values == NULL || session->room == NULL || session->configuration == NULL) {
        ls__free(env, session->values);
        ls__free(env, session->room);
        ls__free(env, session->configuration);
        ls__free(env, session);
        return NULL;
    }
    return session;
}

enum ls_status ls__snap_session_create(void *self, const struct ls_session_context *context,
                                       const struct ls_sync_gap *gap, struct ls_sync_session *out)
{
    const struct ls_sync_context *base = &context->base;
    struct ls__snap_session *session = allocate(base->env);
    if (session == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    session->context = *context;
    session->limits = ls__snap_limits(self);
    session->table.env = base->env;
    session->state = LS__SNAP_SELECTING;
    uint64_t now = base->now_us(base->self);
    session->attempt = ls__session_attempt(context, gap, now);
    session->from = base->committed(base->self).index;
    session->target = gap->target;
    session->alone_us = now + session->limits.marker_us;
    session->waits = "no peer offers a snapshot yet";
    ls__session_meet(base, session, session_peer);
    *out = (struct ls_sync_session){
        .size = sizeof *out,
        .self = session,
        .poll = session_poll,
        .receive = session_receive,
        .buffer = session_buffer,
        .target = session_target,
        .term = session_term,
        .peer = session_peer,
        .effect = session_effect,
        .progress = session_progress,
        .destroy = session_destroy,
    };
    base->wake_at(base->self, now);
    return LS_OK;
}
