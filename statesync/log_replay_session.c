/* SPDX-License-Identifier: MIT */
/*
 * The lagging side of log replay: checks answers against its own requests, hands ranges over to the
 * log in order and at once, and ends when the log is contiguous up to the target and durable.
 *
 *   commit        solid         handed                                     target
 *     |--installed--|--of the run--|----asked----|--fetched--|----asked----|
 *
 * Everything is decided in poll; the other functions only take in what happened. Memory is bounded
 * by buffer_bytes_max, half of it for the leader's run.
 */
#include "log_replay.h"
#include "session.h"

/* after a refused allocation nothing is asked for so long */
#define MEMORY_PAUSE_US 100000u
/* the target is reached but the leader's newest entries begin later: wait this part of the timeout
 * for them to be committed, before they are left to the next gap */
#define LINGER_DIVISOR 10u

/* ---- handing over ---------------------------------------------------------------------------- */

static uint32_t min_count(ls_index a, uint32_t b)
{
    return a < b ? (uint32_t)a : b;
}

/* Hands the entries of `arena`, of which `skip` are in the log, over. False: not now. */
static bool install(struct ls__replay_session *session, struct ls__arena *arena, ls_term term,
                    uint32_t skip)
{
    LS_ASSERT(skip < arena->count);
    const struct ls_entry *entries = ls__arena_entries(arena) + skip;
    uint32_t count = arena->count - skip;
    struct ls_cursor prev = session->handed;
    ls_index last = prev.index + count;
    uint64_t token = session->context.install(session->context.base.self, term, prev, entries,
                                              count, term == 0 ? last : session->target);
    if (token == 0) {
        return false;
    }
    arena->token = token;
    arena->skip = skip;
    arena->last = last;
    arena->of_run = term != 0;
    session->handed = (struct ls_cursor){entries[count - 1].term, last};
    if (term == 0) {
        session->solid = session->handed;
    }
    return true;
}

static void pin(struct ls__replay_session *session, struct ls__arena *arena)
{
    arena->next = session->installing;
    session->installing = arena;
    session->installing_count++;
}

/* What the leader's run added is void, or did not fit: go on from the last committed entry. */
static void roll_back(struct ls__replay_session *session)
{
    ls__run_clear(&session->run, &session->arenas);
    session->handed = session->solid;
}

/* The first fetched range continues the log: hands it over. False: nothing changed. */
static bool hand_range(struct ls__replay_session *session)
{
    struct ls__replay_range *range = &session->ranges[0];
    if (session->ranges_count == 0 || range->state != LS__RANGE_FETCHED ||
        range->first > session->handed.index + 1) {
        return false;
    }
    if (range->last <= session->handed.index) {
        ls__replay_remove_range(session, 0); /* the log came by another way */
        return true;
    }
    uint32_t skip = min_count(session->handed.index + 1 - range->first, range->arena->count);
    const struct ls_entry *entries = ls__arena_entries(range->arena);
    ls_term handed = session->handed.term;
    if (skip > 0 ? entries[skip - 1].term != handed : entries[0].term < handed) {
        if (session->handed.index != session->solid.index) {
            roll_back(session);
            return true;
        }
        struct ls__replay_peer *peer = ls__replay_find_peer(session, &range->peer);
        ls__replay_penalise(session, peer, "the range does not continue the log");
        ls__replay_remove_range(session, 0);
        return true;
    }
    struct ls__arena *arena = range->arena;
    if (!install(session, arena, 0, skip)) {
        return false;
    }
    range->arena = NULL;
    pin(session, arena);
    ls__replay_remove_range(session, 0);
    return true;
}

/* The leader's run continues the log: hands a part of it over. False: nothing changed. */
static bool hand_run(struct ls__replay_session *session)
{
    struct ls__run *run = &session->run;
    if (run->first_arena == NULL || session->handed.index < run->prev.index) {
        return false;
    }
    if (session->handed.index >= run->last.index || !ls__run_continues(run, session->handed)) {
        ls__run_clear(run, &session->arenas);
        return true;
    }
    struct ls__arena *arena = run->first_arena;
    if (session->handed.index >= run->prev.index + arena->count) {
        ls__arena_give(&session->arenas, ls__run_pop(run));
        return true;
    }
    if (!install(session, arena, run->term, (uint32_t)(session->handed.index - run->prev.index))) {
        return false;
    }
    pin(session, ls__run_pop(run));
    return true;
}

/* The log may also have grown by ordinary appends. */
static void follow_commit(struct ls__replay_session *session)
{
    const struct ls_sync_context *base = &session->context.base;
    struct ls_cursor commit = base->committed(base->self);
    if (commit.index > session->solid.index) {
        session->solid = commit;
    }
    if (session->handed.index <= session->solid.index) {
        session->handed = session->solid;
    }
    if (session->installing_count == 0 && commit.index > session->durable) {
        session->durable = commit.index;
    }
    while (session->ranges_count > 0 && session->ranges[0].last <= session->solid.index) {
        ls__replay_remove_range(session, 0);
    }
}

/* ---- answers --------------------------------------------------------------------------------- */

static uint32_t find_request(const struct ls__replay_session *session, uint64_t id)
{
    uint32_t at = 0;
    while (at < session->ranges_count &&
           (session->ranges[at].state != LS__RANGE_ASKED || session->ranges[at].id != id)) {
        at++;
    }
    return at;
}

/* NULL, or why these entries do not answer the request. */
static const char *answer_invalid(const struct ls__replay_session *session,
                                  const struct ls__replay_range *range,
                                  const struct ls__replay_message *answer)
{
    if (answer->first != range->first) {
        return "entries from another place than asked";
    }
    if (answer->count == 0 && !LS_MUTANT(Y11)) {
        return "no entries";
    }
    if (answer->count > range->last - range->first + 1) {
        return "more entries than asked";
    }
    if (range->first == session->solid.index + 1 &&
        answer->entries[0].as.number < session->solid.term) {
        return "the first term is below that of the entry before";
    }
    return NULL;
}

static struct ls__arena *copy_entries(struct ls__replay_session *session,
                                      const struct ls__replay_message *answer)
{
    struct ls__arena *arena =
        ls__arena_take(&session->arenas, ls__arena_capacity(answer->count, answer->payload_bytes));
    for (uint32_t i = 0; arena != NULL && i < answer->count; i++) {
        struct ls_entry entry = ls__replay_get_entry(answer->entries + 3u * (size_t)i);
        ls__arena_put(arena, &entry);
    }
    return arena;
}

static enum ls_sync_verdict take_entries(struct ls__replay_session *session,
                                         struct ls__replay_peer *peer,
                                         const struct ls__replay_message *answer)
{
    if (answer->id == 0 || answer->id > session->last_id) {
        ls__replay_penalise(session, peer, "an answer to nothing that was asked");
        return LS_SYNC_INVALID;
    }
    uint32_t at = find_request(session, answer->id);
    if (at == session->ranges_count) {
        return LS_SYNC_IGNORE; /* late, or sent twice */
    }
    struct ls__replay_range *range = &session->ranges[at];
    if (!ls_peer_id_equal(&range->peer, &peer->id)) {
        ls__replay_penalise(session, peer, "an answer to what another was asked");
        return LS_SYNC_INVALID;
    }
    const char *reason = answer_invalid(session, range, answer);
    if (reason != NULL) {
        ls__replay_remove_range(session, at);
        ls__replay_penalise(session, peer, reason);
        return LS_SYNC_INVALID;
    }
    ls__replay_set_held(session, peer, answer->held_first, answer->held_last);
    struct ls__arena *arena = copy_entries(session, answer);
    if (arena == NULL) {
        ls__replay_remove_range(session, at);
        session->memory_us = ls__replay_now(session) + MEMORY_PAUSE_US;
        return LS_SYNC_IGNORE;
    }
    peer->in_flight--;
    ls__replay_answered(session, peer, answer->id);
    range->state = LS__RANGE_FETCHED;
    range->arena = arena;
    range->last = range->first + answer->count - 1; /* the rest is asked again */
    return LS_SYNC_OK;
}

static enum ls_sync_verdict take_availability(struct ls__replay_session *session,
                                              struct ls__replay_peer *peer,
                                              const struct ls__replay_message *answer)
{
    ls__replay_set_held(session, peer, answer->held_first, answer->held_last);
    for (uint32_t i = session->ranges_count; i > 0; i--) {
        const struct ls__replay_range *range = &session->ranges[i - 1];
        if (range->state == LS__RANGE_ASKED && ls_peer_id_equal(&range->peer, &peer->id) &&
            (range->first < answer->held_first || range->first > answer->held_last)) {
            ls__replay_remove_range(session, i - 1); /* pruned meanwhile: no blame */
        }
    }
    return LS_SYNC_OK;
}

static enum ls_sync_verdict session_receive(void *self, const struct ls_peer_id *from,
                                            struct ls_span message)
{
    struct ls__replay_session *session = self;
    struct ls__replay_peer *peer = ls__replay_find_peer(session, from);
    if (peer == NULL || !peer->bonded) {
        return LS_SYNC_IGNORE;
    }
    struct ls__replay_message answer;
    const char *reason = ls__replay_decode(&session->context.base.env->codec, message,
                                           session->values, LS_VALUES_MAX, &answer);
    if (reason == NULL && answer.kind != LS__REPLAY_ENTRIES &&
        answer.kind != LS__REPLAY_AVAILABILITY) {
        reason = "a question in place of an answer";
    }
    if (reason != NULL) {
        ls__replay_release(session, peer); /* which one it was meant for cannot be known */
        ls__replay_penalise(session, peer, reason);
        return LS_SYNC_INVALID;
    }
    if (answer.attempt != session->attempt && !LS_MUTANT(Y21)) {
        return LS_SYNC_IGNORE;
    }
    return answer.kind == LS__REPLAY_ENTRIES ? take_entries(session, peer, &answer)
                                             : take_availability(session, peer, &answer);
}

/* ---- what else happens ----------------------------------------------------------------------- */

static enum ls_buffer_verdict session_buffer(void *self, ls_term term, struct ls_cursor prev,
                                             const struct ls_entry *entries, uint32_t count)
{
    struct ls__replay_session *session = self;
    if (count == 0 || prev.index + count <= session->handed.index) {
        return LS_BUFFER_DUPLICATE;
    }
    bool empty = session->run.first_arena == NULL;
    if (!empty && term < session->run.term) {
        return LS_BUFFER_DROPPED;
    }
    if (!empty && term > session->run.term) {
        ls__run_clear(&session->run, &session->arenas);
    }
    bool dropped = session->run.dropped;
    enum ls_buffer_verdict verdict =
        ls__run_add(&session->run, &session->arenas, session->limits.buffer_bytes_max / 2, term,
                    prev, entries, count);
    if (!dropped && session->run.dropped) {
        const struct ls_sync_context *base = &session->context.base;
        struct ls__note note = {base->env, &base->group, NULL, NULL};
        ls__note(&note, LS_TRACE_DEBUG, "the leader's newest entries are not kept after {}",
                 session->run.last.index, 0, 0);
    }
    return verdict;
}

static void session_target(void *self, ls_index target)
{
    struct ls__replay_session *session = self;
    if (target > session->target) {
        session->target = target;
        session->linger_us = 0;
        ls__replay_expect_more(session);
    }
}

static void session_term(void *self, ls_term term)
{
    struct ls__replay_session *session = self;
    bool of_run = session->handed.index != session->solid.index;
    if (of_run || (session->run.first_arena != NULL && session->run.term < term)) {
        roll_back(session);
    }
}

static void session_peer(void *self, const struct ls_peer_id *id, bool bonded)
{
    struct ls__replay_session *session = self;
    struct ls__replay_peer *peer = ls__replay_find_peer(session, id);
    if (peer == NULL) {
        if (!bonded || session->peers_count == LS_MEMBERS_MAX) {
            return;
        }
        peer = &session->peers[session->peers_count++];
        *peer = (struct ls__replay_peer){.id = *id, .order = ++session->last_order};
    }
    ls__replay_release(session, peer); /* also when it is back: what was asked went with the link */
    peer->bonded = bonded;
    peer->known = peer->asked = false;
    peer->ask_us = peer->pause_us = 0;
    const struct ls_sync_context *base = &session->context.base;
    peer->avoid_us = base->avoided(base->self, id);
}

static void session_effect(void *self, uint64_t token, enum ls_status status)
{
    struct ls__replay_session *session = self;
    struct ls__arena **at = &session->installing;
    while (*at != NULL && (*at)->token != token) {
        at = &(*at)->next;
    }
    struct ls__arena *arena = *at;
    if (arena == NULL) {
        return;
    }
    *at = arena->next;
    session->installing_count--;
    if (status == LS_OK) {
        session->durable = arena->last > session->durable ? arena->last : session->durable;
        session->items += arena->count - arena->skip;
        session->bytes += arena->payload_bytes;
    } else if (arena->of_run) {
        roll_back(session); /* of a leader that was replaced */
    } else {
        session->failed = "the log refused the fetched entries";
    }
    ls__arena_give(&session->arenas, arena);
}

/* ---- poll ------------------------------------------------------------------------------------ */

/* The target is in the log. True when nothing is left to wait for. */
static bool finished(struct ls__replay_session *session, uint64_t now)
{
    if (session->handed.index < session->target ||
        (session->installing_count > 0 && !LS_MUTANT(Y19))) {
        return false;
    }
    if (session->run.first_arena == NULL) {
        return true;
    }
    if (session->linger_us == 0) {
        session->linger_us = now + session->limits.timeout_us / LINGER_DIVISOR;
    }
    return now >= session->linger_us;
}

static enum ls_session_state session_poll(void *self, struct ls_cursor *at, const char **reason)
{
    struct ls__replay_session *session = self;
    const struct ls_sync_context *base = &session->context.base;
    if (session->failed != NULL) {
        *reason = session->failed;
        return LS_SESSION_FAILED;
    }
    uint64_t now = ls__replay_now(session);
    follow_commit(session);
    while (hand_range(session) || hand_run(session)) {
    }
    if (session->handed.index >= session->target) {
        session->run.dropped = false;
    }
    if (finished(session, now)) {
        *at = session->handed;
        return LS_SESSION_DONE;
    }
    ls__replay_fetch(session, now);
    base->wake_at(base->self, ls__replay_fetch_due(session, now));
    if (session->linger_us > now) { /* afterwards only effects are waited for, and they poll */
        base->wake_at(base->self, session->linger_us);
    }
    return LS_SESSION_PENDING;
}

/* Was the next entry pruned by everybody? Then waiting is of no use. */
static bool pruned_everywhere(const struct ls__replay_session *session)
{
    bool bonded = false;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        const struct ls__replay_peer *peer = &session->peers[i];
        if (peer->bonded && (!peer->known || peer->first <= session->handed.index + 1)) {
            return false;
        }
        bonded = bonded || peer->bonded;
    }
    return bonded;
}

/* The first entry that any bonded peer holds; 0: unknown. */
static ls_index held_first(const struct ls__replay_session *session)
{
    ls_index first = 0;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        const struct ls__replay_peer *peer = &session->peers[i];
        if (peer->bonded && peer->known && (first == 0 || peer->first < first)) {
            first = peer->first;
        }
    }
    return first;
}

static void set_phase(const struct ls__replay_session *session, struct ls_sync_progress *out)
{
    bool asking = false;
    bool source = ls__replay_has_source(session, &asking);
    bool bonded = false;
    bool asked = false;
    for (uint32_t i = 0; i < session->peers_count; i++) {
        bonded = bonded || session->peers[i].bonded;
        asked = asked || session->peers[i].in_flight > 0;
    }
    if (session->handed.index >= session->target) {
        bool installing = session->installing_count > 0;
        out->phase = installing ? LS_SYNC_INSTALLING : LS_SYNC_WAITING;
        out->reason = installing ? NULL : "the leader's newest entries are not committed yet";
    } else if (!bonded) {
        out->phase = LS_SYNC_WAITING;
        out->reason = "no peer is bonded";
    } else if (source || asked) {
        out->phase = LS_SYNC_FETCHING;
    } else if (session->installing_count > 0) {
        out->phase = LS_SYNC_INSTALLING;
    } else if (asking) {
        out->phase = LS_SYNC_SELECTING;
    } else {
        out->phase = LS_SYNC_WAITING;
        out->reason = "no peer holds the next entry";
        out->unservable = pruned_everywhere(session);
        out->held_first = held_first(session);
    }
}

static void session_progress(void *self, struct ls_sync_progress *out)
{
    const struct ls__replay_session *session = self;
    set_phase(session, out);
    out->from = session->from;
    out->at = session->durable;
    out->target = session->target;
    out->items = session->items;
    out->bytes = session->bytes;
    out->items_total = session->target > session->from ? session->target - session->from : 0;
}

/* ---- create and destroy ---------------------------------------------------------------------- */

static void session_destroy(void *self)
{
    struct ls__replay_session *session = self;
    const struct ls_env *env = session->context.base.env;
    for (uint32_t i = session->ranges_count; i > 0; i--) {
        ls__replay_remove_range(session, i - 1);
    }
    while (session->installing != NULL) {
        struct ls__arena *arena = session->installing;
        session->installing = arena->next;
        ls__arena_give(&session->arenas, arena);
    }
    ls__run_clear(&session->run, &session->arenas);
    LS_ASSERT(session->arenas.bytes == 0);
    ls__arenas_free(&session->arenas);
    ls__free(env, session->values);
    ls__free(env, session);
}

static struct ls__replay_session *allocate(const struct ls_env *env)
{
    struct ls__replay_session *session = ls__allocate(env, sizeof *session);
    if (session == NULL) {
        return NULL;
    }
    memset(session, 0, sizeof *session);
    session->values = ls__allocate(env, LS_VALUES_MAX * sizeof *session->values);
    if (session->values == NULL) {
        ls__free(env, session);
        return NULL;
    }
    return session;
}

enum ls_status ls__replay_session_create(void *self, const struct ls_session_context *context,
                                         const struct ls_sync_gap *gap, struct ls_sync_session *out)
{
    const struct ls_sync_context *base = &context->base;
    struct ls__replay_session *session = allocate(base->env);
    if (session == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    session->context = *context;
    session->limits = ls__replay_limits(self);
    session->arenas.env = base->env;
    uint64_t now = base->now_us(base->self);
    session->attempt = ls__session_attempt(context, gap, now);
    session->solid = session->handed = base->committed(base->self);
    session->from = session->durable = session->solid.index;
    session->target = gap->target;
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
