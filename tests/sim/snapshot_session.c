/* SPDX-License-Identifier: MIT */
/*
 * The lagging side of the snapshot strategy, watched: it takes only what was committed and adds up,
 * stages only chunks of the table, finds nothing staged that it did not stage, does not ask in a
 * hot loop, blames no honest peer, and reports as installed only what is.
 */
#include "snapshots.h"

#include <stdlib.h>

#define U(number) ((unsigned long long)(number))

/* requests to one peer, and questions for one chunk, in a virtual second */
#define REQUESTS_MAX 150u
#define CHUNKS_MAX   60u
#define PLACES       64u

enum { REQUEST = 1, CHUNK_ASK = 6 };

struct snap_session {
    struct sim_relay relay;
    struct ls_session_context outer;
    struct sim_rate requests[SIM_MEMBERS_MAX], chunks[PLACES];
    struct ls_snapshot snapshot; /* that was begun; without the configuration */
    struct ls_hash *hashes;
    uint64_t published; /* token */
};

static struct sim_member *member_of(const struct snap_session *session)
{
    return &session->relay.side->world->members[session->relay.side->at];
}

/* ---- what it says and hears ---- */

static enum ls_status session_send(void *self, const struct ls_peer_id *to, struct ls_span message)
{
    struct snap_session *session = self;
    struct world *world = session->relay.side->world;
    const struct ls_value *values = world->sync->values;
    uint32_t peer = sim_member_find(world, to);
    size_t count = 0;
    bool read = sim_sync_peek(session->outer.base.env, world->sync, message, &count);
    LS_ASSERT(read && peer < world->count);
    uint64_t kind = values[1].as.number, chunk = kind == CHUNK_ASK ? values[6].as.number : 0;
    enum ls_status status = session->relay.outer.send_to(session->relay.outer.self, to, message);
    uint64_t now = sim_member_now(member_of(session));
    bool often =
        status == LS_OK &&
        (kind == REQUEST ? sim_too_often(&session->requests[peer], 0, now, REQUESTS_MAX)
                         : kind == CHUNK_ASK && sim_too_often(&session->chunks[chunk % PLACES],
                                                              chunk + 1, now, CHUNKS_MAX));
    if (often) {
        sim_fail(world, "%s: a snapshot is asked of %s in a hot loop", member_of(session)->name,
                 world->members[peer].name);
    }
    return status;
}

static enum ls_sync_verdict session_receive(void *self, const struct ls_peer_id *from,
                                            struct ls_span message)
{
    struct snap_session *session = self;
    struct world *world = session->relay.side->world;
    uint32_t peer = sim_member_find(world, from);
    enum ls_sync_verdict verdict =
        session->relay.session.receive(session->relay.session.self, from, message);
    if (verdict == LS_SYNC_INVALID && (world->sync->lied >> peer & 1u) == 0) {
        sim_fail(world, "%s blames %s, which did not lie", member_of(session)->name,
                 world->members[peer].name);
    }
    return verdict;
}

static bool session_leader(void *self, struct ls_peer_id *out)
{
    struct snap_session *session = self;
    return session->outer.leader(session->outer.base.self, out);
}

/* ---- what it does ---- */

static uint64_t session_install(void *self, ls_term term, struct ls_cursor prev,
                                const struct ls_entry *entries, uint32_t count, ls_index commit)
{
    struct snap_session *session = self;
    return session->outer.install(session->outer.base.self, term, prev, entries, count, commit);
}

static void check_begin(struct snap_session *session, const struct ls_snapshot *snapshot,
                        const struct ls_hash *hashes)
{
    struct world *world = session->relay.side->world;
    const struct sim_member *member = member_of(session);
    struct ls_hash root = ls_snapshot_root(&member->env, snapshot, hashes);
    if (!ls_hash_equal(&root, &snapshot->root)) {
        sim_fail(world, "%s begins with a snapshot at %llu whose root is another", member->name,
                 U(snapshot->anchor.index));
    }
}

static uint64_t session_begin(void *self, const struct ls_snapshot *snapshot,
                              const struct ls_hash *hashes)
{
    struct snap_session *session = self;
    check_begin(session, snapshot, hashes);
    uint64_t token = session->outer.begin(session->outer.base.self, snapshot, hashes);
    if (token != 0) {
        session->snapshot = *snapshot;
        session->snapshot.configuration = (struct ls_span){NULL, 0};
        free(session->hashes);
        session->hashes = sim_allocate((snapshot->chunks + 1u) * sizeof *hashes);
        if (snapshot->chunks > 0) {
            (void)memcpy(session->hashes, hashes, snapshot->chunks * sizeof *hashes);
        }
    }
    return token;
}

static bool session_staged(void *self, uint32_t chunk)
{
    struct snap_session *session = self;
    return session->outer.staged(session->outer.base.self, chunk);
}

static uint64_t session_put(void *self, uint32_t chunk, struct ls_span bytes)
{
    struct snap_session *session = self;
    const struct sim_member *member = member_of(session);
    struct ls_hash hash = ls_chunk_hash(&member->env, bytes);
    if (session->hashes == NULL || chunk >= session->snapshot.chunks ||
        !ls_hash_equal(&hash, &session->hashes[chunk])) {
        sim_fail(member->world, "%s stages what is not chunk %u of the snapshot at %llu",
                 member->name, chunk, U(session->snapshot.anchor.index));
    }
    return session->outer.put(session->outer.base.self, chunk, bytes);
}

static uint64_t session_publish(void *self)
{
    struct snap_session *session = self;
    session->published = session->outer.publish(session->outer.base.self);
    if (session->published != 0) {
        sim_install_begins(member_of(session), session->snapshot.anchor);
    }
    return session->published;
}

static void session_effect(void *self, uint64_t token, enum ls_status status)
{
    struct snap_session *session = self;
    if (token != 0 && token == session->published) {
        session->published = 0;
        sim_install_over(member_of(session), status);
    }
    session->relay.session.effect(session->relay.session.self, token, status);
}

static enum ls_session_state session_poll(void *self, struct ls_cursor *at, const char **reason)
{
    struct snap_session *session = self;
    struct sim_side *side = session->relay.side;
    enum ls_session_state state =
        session->relay.session.poll(session->relay.session.self, at, reason);
    if (state == LS_SESSION_FAILED) {
        sim_sync_failed(side);
    } else if (state == LS_SESSION_DONE) {
        side->failures = 0;
        if (session->published != 0) {
            sim_fail(side->world, "%s: a snapshot counts as installed while it is being installed",
                     member_of(session)->name);
        }
    }
    return state;
}

static void session_destroy(void *self)
{
    struct snap_session *session = self;
    session->relay.session.destroy(session->relay.session.self);
    free(session->hashes);
    free(session);
}

enum ls_status sim_snapshot_session(void *self, const struct ls_session_context *context,
                                    const struct ls_sync_gap *gap, struct ls_sync_session *out)
{
    struct sim_side *side = self;
    struct snap_session *session = sim_allocate(sizeof *session);
    session->outer = *context;
    struct ls_session_context inner = *context;
    sim_relay_make(&session->relay, side, &context->base, &inner.base);
    inner.base.send_to = session_send;
    inner.leader = session_leader;
    inner.install = session_install;
    inner.begin = session_begin;
    inner.staged = session_staged;
    inner.put = session_put;
    inner.publish = session_publish;
    sim_sync_begins(side);
    session->relay.session.size = sizeof session->relay.session;
    enum ls_status status =
        side->snapshot.create_session(side->snapshot.self, &inner, gap, &session->relay.session);
    if (status != LS_OK) {
        sim_sync_failed(side);
        free(session);
        return status;
    }
    *out = sim_relay_session(&session->relay);
    out->poll = session_poll;
    out->receive = session_receive;
    out->effect = session_effect;
    out->destroy = session_destroy;
    return LS_OK;
}
