/* SPDX-License-Identifier: MIT */
/*
 * The lagging side, watched: it asks the leader last, does not ask in a hot loop, reports as
 * durable and as done only what is, begins attempts at growing distances, and blames no honest
 * peer.
 */
#include "sync.h"

#include <stdlib.h>

#define SECOND_US 1000000u
/* questions for one position, and for what one peer holds, in a virtual second */
#define FETCHES_MAX 40u
#define ASKS_MAX    150u
#define PLACES      128u
/* longer than two timeouts without a question */
#define SLEEPS_US 2000000u
/* log replay lets the leader wait this part of a timeout for what others say */
#define PATIENCE_DIVISOR 10u
#define BACKOFF_EXPONENT 8u

enum { ASK = 1, TELL = 2, FETCH = 3, ENTRIES = 4 };

struct source {
    bool asked, known, avoided;
    uint64_t asked_us;
    ls_index first, last;
    struct sim_rate asks;
};

struct session {
    struct sim_relay relay;
    struct ls_session_context outer;
    struct source sources[SIM_MEMBERS_MAX];
    struct sim_rate fetches[PLACES];
    /* asked for entries, had some written, or had nobody to ask: by the clock of the member, which
     * may leap, and by the one of the world, in which it may be paused */
    uint64_t active_us, active_world_us;
    struct {
        uint64_t token;
        ls_index last;
    } installs[LS_SYNC_EFFECTS_MAX];
};

static void active(struct session *session)
{
    const struct sim_side *side = session->relay.side;
    session->active_us = sim_member_now(&side->world->members[side->at]);
    session->active_world_us = side->world->now_us;
}

/* ---- attempts ---- */

void sim_sync_failed(struct sim_side *side)
{
    side->failures++;
    side->failed_us = sim_member_now(&side->world->members[side->at]);
}

void sim_sync_begins(struct sim_side *side)
{
    struct sim_member *member = &side->world->members[side->at];
    side->world->sync->sessions++;
    uint32_t exponent = side->failures < BACKOFF_EXPONENT ? side->failures : BACKOFF_EXPONENT;
    uint64_t wait = side->failures == 0 ? 0 : (uint64_t)SECOND_US << exponent;
    if (sim_member_now(member) - side->failed_us < wait) {
        sim_fail(
            side->world, "%s: state sync is tried again %llu ms after failure %u", member->name,
            (unsigned long long)(sim_member_now(member) - side->failed_us) / 1000u, side->failures);
    }
}

/* ---- what it asks ---- */

static void check_leader_last(struct session *session, uint32_t peer, ls_index first)
{
    struct sim_side *side = session->relay.side;
    struct world *world = side->world;
    struct ls_peer_id leader;
    if (!session->outer.leader(session->outer.base.self, &leader) ||
        !ls_peer_id_equal(&leader, &world->members[peer].id)) {
        return;
    }
    uint64_t now = sim_member_now(&world->members[side->at]);
    uint64_t patience = 1000u * (uint64_t)world->sync->options.timeout_ms / PATIENCE_DIVISOR;
    for (uint32_t i = 0; i < world->count; i++) {
        const struct source *source = &session->sources[i];
        bool undecided = source->asked && now < source->asked_us + patience;
        bool holds = source->known && source->first <= first && first <= source->last;
        if (i != peer && !source->avoided && (undecided || holds)) {
            sim_fail(world, "%s asks the leader for %llu, but %s %s", world->members[side->at].name,
                     (unsigned long long)first, world->members[i].name,
                     holds ? "holds it" : "has not said yet what it holds");
        }
    }
}

static enum ls_status session_send(void *self, const struct ls_peer_id *to, struct ls_span message)
{
    struct session *session = self;
    struct sim_side *side = session->relay.side;
    struct world *world = side->world;
    const struct ls_value *values = world->sync->values;
    const struct sim_member *member = &world->members[side->at];
    uint64_t now = sim_member_now(member);
    uint32_t peer = sim_member_find(world, to);
    size_t count = 0;
    bool read = sim_sync_peek(session->outer.base.env, world->sync, message, &count);
    LS_ASSERT(read && peer < world->count);
    struct source *source = &session->sources[peer];
    uint64_t kind = values[1].as.number;
    ls_index first = kind == FETCH ? values[5].as.number : 0;
    enum ls_status status = session->relay.outer.send_to(session->relay.outer.self, to, message);
    if (status != LS_OK) {
        source->avoided = true;
        return status;
    }
    if (kind == ASK) {
        source->asked = true;
        source->asked_us = now;
    } else if (kind == FETCH) {
        check_leader_last(session, peer, first);
        active(session);
    }
    bool often = kind == ASK
                     ? sim_too_often(&source->asks, 0, now, ASKS_MAX)
                     : sim_too_often(&session->fetches[first % PLACES], first, now, FETCHES_MAX);
    if (often) {
        sim_fail(world, "%s: state sync asks %s in a hot loop", member->name,
                 world->members[peer].name);
    }
    return LS_OK;
}

static enum ls_sync_verdict session_receive(void *self, const struct ls_peer_id *from,
                                            struct ls_span message)
{
    struct session *session = self;
    struct world *world = session->relay.side->world;
    const struct ls_value *values = world->sync->values;
    uint32_t peer = sim_member_find(world, from);
    size_t count = 0;
    bool read = sim_sync_peek(session->outer.base.env, world->sync, message, &count);
    struct source told = {.known = false};
    if (read && values[1].as.number == TELL && count == 5) {
        told = (struct source){
            .known = true, .first = values[3].as.number, .last = values[4].as.number};
    } else if (read && values[1].as.number == ENTRIES && count >= 8) {
        told = (struct source){
            .known = true, .first = values[4].as.number, .last = values[5].as.number};
    }
    bool empty = read && values[1].as.number == ENTRIES && count >= 8 && values[7].as.count == 0;
    enum ls_sync_verdict verdict =
        session->relay.session.receive(session->relay.session.self, from, message);
    LS_ASSERT(peer < world->count);
    struct source *source = &session->sources[peer];
    if (verdict == LS_SYNC_INVALID) {
        source->avoided = true;
        if (world->sync->liar != peer + 1) {
            sim_fail(world, "%s blames %s, which did not lie",
                     world->members[session->relay.side->at].name, world->members[peer].name);
        }
    } else {
        source->asked = false;
    }
    if (verdict == LS_SYNC_OK && empty) {
        sim_fail(world, "%s takes an answer of %s that holds no entries for entries",
                 world->members[session->relay.side->at].name, world->members[peer].name);
    }
    if (verdict == LS_SYNC_OK && told.known) {
        source->known = true;
        source->first = told.first;
        source->last = told.last;
    } else if (told.known) { /* it may have looked at that much of it, and had no memory for more */
        source->first = told.first > source->first ? told.first : source->first;
        source->last = told.last < source->last ? told.last : source->last;
    }
    return verdict;
}

/* ---- what it does ---- */

static bool session_leader(void *self, struct ls_peer_id *out)
{
    struct session *session = self;
    return session->outer.leader(session->outer.base.self, out);
}

static ls_index durable_last(struct session *session)
{
    ls_index first = 0, last = 0;
    session->relay.outer.log_bounds(session->relay.outer.self, &first, &last);
    return last;
}

static uint64_t session_install(void *self, ls_term term, struct ls_cursor prev,
                                const struct ls_entry *entries, uint32_t count, ls_index commit)
{
    struct session *session = self;
    uint64_t token =
        session->outer.install(session->outer.base.self, term, prev, entries, count, commit);
    for (size_t i = 0; token != 0 && i < LS_SYNC_EFFECTS_MAX; i++) {
        if (session->installs[i].token == 0) {
            session->installs[i].token = token;
            /* the leader's newest may be truncated again */
            session->installs[i].last = term == 0 ? prev.index + count : 0;
            break;
        }
    }
    return token;
}

static void session_effect(void *self, uint64_t token, enum ls_status status)
{
    struct session *session = self;
    struct world *world = session->relay.side->world;
    active(session);
    for (size_t i = 0; i < LS_SYNC_EFFECTS_MAX; i++) {
        if (session->installs[i].token != token) {
            continue;
        }
        session->installs[i].token = 0;
        if (status == LS_OK && session->installs[i].last > durable_last(session)) {
            sim_fail(world, "%s: fetched entries up to %llu count as durable, but %llu is",
                     world->members[session->relay.side->at].name,
                     (unsigned long long)session->installs[i].last,
                     (unsigned long long)durable_last(session));
        }
    }
    session->relay.session.effect(session->relay.session.self, token, status);
}

static enum ls_session_state session_poll(void *self, struct ls_cursor *at, const char **reason)
{
    struct session *session = self;
    struct sim_side *side = session->relay.side;
    enum ls_session_state state =
        session->relay.session.poll(session->relay.session.self, at, reason);
    if (state == LS_SESSION_FAILED) {
        sim_sync_failed(side);
    } else if (state == LS_SESSION_DONE) {
        side->failures = 0;
        for (size_t i = 0; i < LS_SYNC_EFFECTS_MAX; i++) {
            if (session->installs[i].token != 0) {
                sim_fail(side->world, "%s: state sync ends at %llu, but not all of it is durable",
                         side->world->members[side->at].name, (unsigned long long)at->index);
            }
        }
    }
    return state;
}

/* Y12: while somebody holds what it needs next it asks for it, again and again. */
void sim_sync_awake(struct sim_side *side)
{
    struct session *session = side->session;
    if (session == NULL) {
        return;
    }
    struct world *world = side->world;
    struct ls_sync_progress progress = {.phase = LS_SYNC_IDLE};
    session->relay.session.progress(session->relay.session.self, &progress);
    uint64_t now = sim_member_now(&world->members[side->at]);
    uint64_t patience = SLEEPS_US + 2000u * (uint64_t)world->sync->options.timeout_ms;
    bool held = false;
    for (uint32_t i = 0; i < world->count; i++) {
        const struct source *source = &session->sources[i];
        held = held || (source->known && !source->avoided && source->first <= progress.at + 1 &&
                        source->last > progress.at);
    }
    for (size_t i = 0; i < LS_SYNC_EFFECTS_MAX; i++) {
        held = held && session->installs[i].token == 0;
    }
    if (!held || progress.at >= progress.target) {
        active(session); /* it counts from when there is somebody to ask */
    } else if (now > session->active_us + patience &&
               world->now_us > session->active_world_us + patience) {
        sim_fail(world, "%s: state sync has asked nobody for %llu since %llu ms",
                 world->members[side->at].name, (unsigned long long)progress.at + 1,
                 (unsigned long long)(now - session->active_us) / 1000u);
    }
}

void sim_sync_resumed(struct sim_side *side)
{
    if (side->session != NULL) {
        active(side->session); /* who stood still asked nobody */
    }
}

static void session_peer(void *self, const struct ls_peer_id *id, bool bonded)
{
    struct session *session = self;
    uint32_t peer = sim_member_find(session->relay.side->world, id);
    if (peer < SIM_MEMBERS_MAX) {
        session->sources[peer].asked = session->sources[peer].known = false;
    }
    session->relay.session.peer(session->relay.session.self, id, bonded);
}

static void session_destroy(void *self)
{
    struct session *session = self;
    session->relay.side->session = NULL;
    session->relay.session.destroy(session->relay.session.self);
    free(session);
}

enum ls_status sim_sync_session(void *self, const struct ls_session_context *context,
                                const struct ls_sync_gap *gap, struct ls_sync_session *out)
{
    struct sim_side *side = self;
    struct session *session = sim_allocate(sizeof *session);
    session->outer = *context;
    struct ls_session_context inner = *context;
    sim_relay_make(&session->relay, side, &context->base, &inner.base);
    inner.base.send_to = session_send;
    inner.leader = session_leader;
    inner.install = session_install;
    sim_sync_begins(side);
    session->relay.session.size = sizeof session->relay.session;
    enum ls_status status =
        side->replay.create_session(side->replay.self, &inner, gap, &session->relay.session);
    if (status != LS_OK) {
        sim_sync_failed(side);
        free(session);
        return status;
    }
    side->session = session;
    active(session);
    *out = sim_relay_session(&session->relay);
    out->poll = session_poll;
    out->receive = session_receive;
    out->peer = session_peer;
    out->effect = session_effect;
    out->destroy = session_destroy;
    return LS_OK;
}
