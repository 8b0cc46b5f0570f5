/* SPDX-License-Identifier: MIT */
/*
 * Whom a log replay session asks for what. The gap is cut into ranges; each free peer gets the
 * first uncovered one it can serve, a few at a time; the leader only what nobody else can serve.
 * Every path that asks again waits for a time or an event first, so nothing here can spin.
 */
#include "log_replay.h"

/* between two questions for the availability of one peer: doubled while it has nothing */
#define ASK_US_MIN 10000u
#define ASK_US_MAX 2000000u
/* after a full queue, a lost link or a refused allocation */
#define PAUSE_US 100000u
/* the leader waits for the answers of others for this part of the timeout */
#define PATIENCE_DIVISOR 10u

#define NEVER UINT64_MAX

static struct ls__note note_of(const struct ls__replay_session *session,
                               const struct ls_peer_id *peer, const char *detail)
{
    const struct ls_sync_context *base = &session->context.base;
    return (struct ls__note){base->env, &base->group, peer, detail};
}

struct ls__replay_peer *ls__replay_find_peer(struct ls__replay_session *session,
                                             const struct ls_peer_id *id)
{
    for (uint32_t i = 0; i < session->peers_count; i++) {
        if (ls_peer_id_equal(&session->peers[i].id, id)) {
            return &session->peers[i];
        }
    }
    return NULL;
}

ls_index ls__replay_goal(const struct ls__replay_session *session)
{
    const struct ls__run *run = &session->run;
    bool useful = run->first_arena != NULL && run->last.index > session->handed.index;
    return useful && run->prev.index < session->target ? run->prev.index : session->target;
}

/* ---- ranges ---------------------------------------------------------------------------------- */

void ls__replay_remove_range(struct ls__replay_session *session, uint32_t at)
{
    LS_ASSERT(at < session->ranges_count);
    struct ls__replay_range *range = &session->ranges[at];
    if (range->state == LS__RANGE_ASKED) {
        struct ls__replay_peer *peer = ls__replay_find_peer(session, &range->peer);
        LS_ASSERT(peer != NULL && peer->in_flight > 0);
        peer->in_flight--;
    } else if (range->arena != NULL) {
        ls__arena_give(&session->arenas, range->arena);
    }
    session->ranges_count--;
    memmove(range, range + 1, (session->ranges_count - at) * sizeof *range);
}

static void insert_range(struct ls__replay_session *session, const struct ls__replay_range *range)
{
    LS_ASSERT(session->ranges_count < LS_REPLAY_RANGES_MAX);
    uint32_t at = session->ranges_count;
    while (at > 0 && session->ranges[at - 1].first > range->first) {
        at--;
    }
    LS_ASSERT(at == 0 || session->ranges[at - 1].last < range->first);
    memmove(&session->ranges[at + 1], &session->ranges[at],
            (session->ranges_count - at) * sizeof *range);
    session->ranges[at] = *range;
    session->ranges_count++;
}

void ls__replay_release(struct ls__replay_session *session, struct ls__replay_peer *peer)
{
    for (uint32_t i = session->ranges_count; i > 0; i--) {
        const struct ls__replay_range *range = &session->ranges[i - 1];
        if (range->state == LS__RANGE_ASKED && ls_peer_id_equal(&range->peer, &peer->id)) {
            ls__replay_remove_range(session, i - 1);
        }
    }
    LS_ASSERT(peer->in_flight == 0);
}

static uint32_t step_of(const struct ls__replay_session *session,
                        const struct ls__replay_peer *peer)
{
    return peer->step != 0 ? peer->step : session->limits.entries_max;
}

void ls__replay_answered(struct ls__replay_session *session, struct ls__replay_peer *peer,
                         uint64_t id)
{
    uint64_t deadline_us = ls__replay_now(session) + session->limits.timeout_us;
    for (uint32_t i = 0; i < session->ranges_count; i++) {
        struct ls__replay_range *range = &session->ranges[i];
        if (range->state == LS__RANGE_ASKED && ls_peer_id_equal(&range->peer, &peer->id)) {
            range->deadline_us = deadline_us;
        }
    }
    peer->answered_id = id > peer->answered_id ? id : peer->answered_id;
    peer->step =
        step_of(session, peer) < session->limits.entries_max ? peer->step + peer->step / 3 + 1 : 0;
}

static void expire_ranges(struct ls__replay_session *session, uint64_t now)
{
    for (uint32_t i = session->ranges_count; i > 0; i--) {
        const struct ls__replay_range *range = &session->ranges[i - 1];
        if (range->state != LS__RANGE_ASKED || range->deadline_us > now || LS_MUTANT(Y12)) {
            continue;
        }
        struct ls__replay_peer *peer = ls__replay_find_peer(session, &range->peer);
        LS_ASSERT(peer != NULL);             /* a departed peer took its ranges along */
        peer->order = ++session->last_order; /* slow: to the end of the list */
        uint32_t step = step_of(session, peer);
        bool lost = range->id < peer->answered_id; /* what it was asked for later has come */
        peer->step = lost ? peer->step : (step > 1 ? step / 2 : 1);
        struct ls__note note = note_of(session, &peer->id, NULL);
        ls__note(&note, LS_TRACE_INFO, "{p} did not answer for {} to {} in time", range->first,
                 range->last, 0);
        ls__replay_remove_range(session, i - 1);
    }
}

/* ---- peers ----------------------------------------------------------------------------------- */

void ls__replay_penalise(struct ls__replay_session *session, struct ls__replay_peer *peer,
                         const char *reason)
{
    const struct ls_sync_context *base = &session->context.base;
    peer->order = ++session->last_order;
    peer->avoid_us = base->strike(base->self, &peer->id, reason);
}

/* Is there something it might hold by now that it did not hold when it last answered? */
static bool worth_asking(const struct ls__replay_session *session,
                         const struct ls__replay_peer *peer)
{
    return peer->bonded && !peer->asked && peer->in_flight == 0 &&
           (!peer->known || peer->last < ls__replay_goal(session) ||
            peer->first > session->handed.index + 1);
}

void ls__replay_set_held(struct ls__replay_session *session, struct ls__replay_peer *peer,
                         ls_index first, ls_index last)
{
    peer->known = true;
    peer->first = first;
    peer->last = last;
    if (peer->asked) {
        peer->asked = false;
        bool more = last >= ls__replay_goal(session) && first <= session->handed.index + 1;
        uint64_t pause = more ? ASK_US_MIN : 2 * peer->pause_us;
        peer->pause_us = pause < ASK_US_MAX ? pause : ASK_US_MAX;
        peer->ask_us = peer->asked_us + peer->pause_us;
    }
}

void ls__replay_expect_more(struct ls__replay_session *session)
{
    for (uint32_t i = 0; i < session->peers_count; i++) {
        struct ls__replay_peer *peer = &session->peers[i];
        if (peer->known && peer->last < session->target) {
            peer->pause_us = ASK_US_MIN;
            peer->ask_us = peer->asked_us + ASK_US_MIN;
        }
    }
}

static void ask(struct ls__replay_session *session, struct ls__replay_peer *peer, uint64_t now)
{
    const struct ls_sync_context *base = &session->context.base;
    struct ls__replay_message question = {.kind = LS__REPLAY_AVAILABILITY_REQUEST,
                                          .attempt = session->attempt,
                                          .need = session->handed.index + 1};
    uint8_t bytes[LS__REPLAY_HEAD_BYTES];
    size_t written = ls__replay_encode(&base->env->codec, &question, bytes);
    if (base->send_to(base->self, &peer->id, (struct ls_span){bytes, written}) != LS_OK) {
        peer->ask_us = now + PAUSE_US;
        return;
    }
    if (peer->pause_us < ASK_US_MIN) {
        peer->pause_us = ASK_US_MIN;
    }
    peer->asked = true;
    peer->asked_us = now;
    peer->ask_us = now + peer->pause_us;
}

static void ask_peers(struct ls__replay_session *session, uint64_t now)
{
    for (uint32_t i = 0; i < session->peers_count; i++) {
        struct ls__replay_peer *peer = &session->peers[i];
        if (peer->asked && now >= peer->asked_us + session->limits.timeout_us) {
            peer->asked = false;
            peer->order = ++session->last_order;
        }
        if (worth_asking(session, peer) && now >= peer->ask_us && now >= peer->avoid_us) {
            ask(session, peer, now);
        }
    }
}

static bool can_serve(const struct ls__replay_peer *peer, ls_index index, uint64_t now)
{
    return peer->bonded && peer->known && now >= peer->avoid_us && peer->first <= index &&
           index <= peer->last;
}

static uint64_t patience_us(const struct ls__replay_session *session)
{
    return session->limits.timeout_us / PATIENCE_DIVISOR;
}

/* Might it still say that it can serve? */
static bool undecided(const struct ls__replay_session *session, const struct ls__replay_peer *peer,
                      uint64_t now)
{
    return peer->bonded && peer->asked && now < peer->asked_us + patience_us(session);
}

bool ls__replay_has_source(const struct ls__replay_session *session, bool *asking)
{
    bool found = false;
    *asking = false;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        const struct ls__replay_peer *peer = &session->peers[i];
        found = found || can_serve(peer, session->handed.index + 1, NEVER);
        *asking = *asking || (peer->bonded && !peer->known);
    }
    return found;
}

/* ---- who gets what --------------------------------------------------------------------------- */

struct span {
    ls_index first, last;
};

/* Cuts from `span` what somebody but `leader` can serve, at its front and behind it. */
static bool only_of_leader(const struct ls__replay_session *session,
                           const struct ls__replay_peer *leader, uint64_t now, struct span *span)
{
    for (uint32_t i = 0; i < session->peers_count; i++) {
        const struct ls__replay_peer *peer = &session->peers[i];
        if (peer == leader || !can_serve(peer, span->first, now)) {
            continue;
        }
        if (peer->last >= span->last) {
            return false;
        }
        span->first = peer->last + 1;
        i = UINT32_MAX; /* from the start: at most once for each peer, as first grows past its last
                         */
    }
    for (uint32_t i = 0; i < session->peers_count; i++) {
        const struct ls__replay_peer *peer = &session->peers[i];
        if (peer != leader && peer->first > span->first && peer->first <= span->last &&
            can_serve(peer, peer->first, now)) {
            span->last = peer->first - 1;
        }
    }
    return true;
}

/* The part of a hole that this peer is to be asked for. */
static bool take_part(const struct ls__replay_session *session, const struct ls__replay_peer *peer,
                      bool leads, uint64_t now, struct span *hole)
{
    hole->first = hole->first > peer->first ? hole->first : peer->first;
    hole->last = hole->last < peer->last ? hole->last : peer->last;
    if (hole->first > hole->last) {
        return false;
    }
    if (leads && !only_of_leader(session, peer, now, hole)) {
        return false;
    }
    if (hole->last - hole->first >= step_of(session, peer)) {
        hole->last = hole->first + step_of(session, peer) - 1;
    }
    return true;
}

static bool find_range(const struct ls__replay_session *session, const struct ls__replay_peer *peer,
                       bool leads, uint64_t now, struct span *out)
{
    ls_index goal = ls__replay_goal(session);
    ls_index next = session->handed.index + 1;
    for (uint32_t i = 0; i <= session->ranges_count && next <= goal; i++) {
        bool tail = i == session->ranges_count;
        ls_index end = tail ? goal : session->ranges[i].first - 1;
        *out = (struct span){next, end < goal ? end : goal};
        if (out->first <= out->last && take_part(session, peer, leads, now, out)) {
            return true;
        }
        if (!tail && session->ranges[i].last >= next) {
            next = session->ranges[i].last + 1;
        }
    }
    return false;
}

/* Is there room for the answer? The next range in order always has some, else nothing would move.
 */
static bool has_room(const struct ls__replay_session *session, bool head)
{
    size_t asked = 1;
    for (uint32_t i = 0; i < session->ranges_count; i++) {
        asked += session->ranges[i].state == LS__RANGE_ASKED;
    }
    size_t limit = session->limits.buffer_bytes_max;
    bool fits = asked * session->limits.bytes_max + session->arenas.bytes <= limit;
    if (head) {
        return session->ranges_count < LS_REPLAY_RANGES_MAX &&
               (fits || session->installing_count == 0);
    }
    return session->ranges_count + 1 < LS_REPLAY_RANGES_MAX && fits;
}

static bool give_range(struct ls__replay_session *session, struct ls__replay_peer *peer, bool leads,
                       uint64_t now)
{
    struct span span;
    if (!find_range(session, peer, leads, now, &span) ||
        !has_room(session, span.first == session->handed.index + 1)) {
        return false;
    }
    const struct ls_sync_context *base = &session->context.base;
    struct ls__replay_message question = {.kind = LS__REPLAY_FETCH,
                                          .attempt = session->attempt,
                                          .id = session->last_id + 1,
                                          .need = session->handed.index + 1,
                                          .first = span.first,
                                          .last = span.last};
    uint8_t bytes[LS__REPLAY_HEAD_BYTES];
    size_t written = ls__replay_encode(&base->env->codec, &question, bytes);
    if (base->send_to(base->self, &peer->id, (struct ls_span){bytes, written}) != LS_OK) {
        peer->avoid_us = now + PAUSE_US;
        return false;
    }
    session->last_id++;
    peer->in_flight++;
    struct ls__replay_range range = {.state = LS__RANGE_ASKED,
                                     .first = span.first,
                                     .last = span.last,
                                     .peer = peer->id,
                                     .id = question.id,
                                     .deadline_us = now + session->limits.timeout_us};
    insert_range(session, &range);
    return true;
}

static void give_ranges(struct ls__replay_session *session, struct ls__replay_peer *peer,
                        bool leads, uint64_t now)
{
    while (peer->bonded && peer->known && now >= peer->avoid_us &&
           peer->in_flight < session->limits.window && give_range(session, peer, leads, now)) {
    }
}

/* The peers in the order of the list, slow ones last. */
static uint32_t in_order(struct ls__replay_session *session,
                         struct ls__replay_peer *out[LS_MEMBERS_MAX])
{
    for (uint32_t i = 0; i < session->peers_count; i++) {
        uint32_t at = i;
        while (at > 0 && out[at - 1]->order > session->peers[i].order) {
            out[at] = out[at - 1];
            at--;
        }
        out[at] = &session->peers[i];
    }
    return session->peers_count;
}

void ls__replay_fetch(struct ls__replay_session *session, uint64_t now)
{
    expire_ranges(session, now);
    if (session->handed.index >= ls__replay_goal(session) || now < session->memory_us) {
        return;
    }
    ask_peers(session, now);
    bool asking = false;
    if (!ls__replay_has_source(session, &asking)) {
        return; /* what would follow a hole may never be of use */
    }
    struct ls_peer_id leader_id = {{0}};
    bool leader_known = session->context.leader(session->context.base.self, &leader_id);
    struct ls__replay_peer *leader = NULL;
    struct ls__replay_peer *peers[LS_MEMBERS_MAX];
    uint32_t count = in_order(session, peers);
    bool wait_for_others = false;
    for (uint32_t i = 0; i < count; i++) {
        if (leader_known && ls_peer_id_equal(&peers[i]->id, &leader_id)) {
            leader = peers[i];
            continue;
        }
        wait_for_others = wait_for_others || undecided(session, peers[i], now);
        give_ranges(session, peers[i], false, now);
    }
    if (leader != NULL && (!wait_for_others || LS_MUTANT(LEADER_LAST))) {
        give_ranges(session, leader, true, now);
    }
}

/* ---- when next ------------------------------------------------------------------------------- */

static void sooner(uint64_t *due, uint64_t at, uint64_t now)
{
    if (at > now && at < *due) {
        *due = at;
    }
}

uint64_t ls__replay_fetch_due(const struct ls__replay_session *session, uint64_t now)
{
    uint64_t due = NEVER;
    for (uint32_t i = 0; i < session->ranges_count; i++) {
        if (session->ranges[i].state == LS__RANGE_ASKED) {
            sooner(&due, session->ranges[i].deadline_us, now);
        }
    }
    if (session->handed.index >= ls__replay_goal(session)) {
        return due;
    }
    sooner(&due, session->memory_us, now);
    for (uint32_t i = 0; i < session->peers_count; i++) {
        const struct ls__replay_peer *peer = &session->peers[i];
        if (!peer->bonded) {
            continue;
        }
        sooner(&due, peer->avoid_us, now);
        if (peer->asked) {
            sooner(&due, peer->asked_us + patience_us(session), now);
            sooner(&due, peer->asked_us + session->limits.timeout_us, now);
        } else if (worth_asking(session, peer)) {
            sooner(&due, peer->ask_us, now);
        }
    }
    return due;
}
