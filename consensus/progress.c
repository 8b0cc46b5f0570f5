/* SPDX-License-Identifier: MIT */
/*
 * The leader's view of each member, and what it sends next.
 *
 *              accepted                next below the cache
 *     PROBE ------------> PIPELINE --------------------------> SYNCING
 *       ^                    |                                    |
 *       +--------------------+------------------------------------+
 *        rejected, lost, link          link, or match + 1 is in the cache
 *
 * (From PROBE, too, when it would have to be asked about what was pruned here. And from SYNCING
 * straight back to PIPELINE, when it accepts the entries that are sent as they are appended: what
 * is committed before a round trip is over may have left a small cache, but is under way.)
 * Invariant: 0 <= match < next. match never falls but for a member that lost its log (L7, L8, L16).
 */
#include "core_state.h"

void ls__progress_reset(struct ls_core *core, struct ls__peer *peer)
{
    peer->state = LS_PROGRESS_PROBE;
    peer->match = 0;
    peer->next = core->trail.last + 1;
    peer->probing = false;
    peer->probe_empty = false;
    peer->probe_last = 0;
    peer->flight_from = 0;
    peer->append_round = 0;
    peer->check_round = 0;
    peer->acked_round = 0;
    peer->told_commit = 0;
    peer->counts = true; /* until it says otherwise; it counts for nothing before it answers */
}

void ls__progress_open(struct ls_core *core)
{
    for (uint32_t i = 0; i < core->peers_count; i++) {
        ls__progress_reset(core, &core->peers[i]);
        core->peers[i].heard_us = 0;
        core->peers[i].contact_us = core->now_us;
    }
}

void ls__progress_meet(struct ls_core *core, struct ls__peer *peer,
                       const struct ls_incarnation *incarnation)
{
    if (peer->met && ls_incarnation_equal(&peer->incarnation, incarnation)) {
        return;
    }
    if (peer->met && !LS_MUTANT(L16)) {
        /* another data directory holds none of the promises of the old one (P14, L16) */
        ls__trace(core, LS_TRACE_WARN, "{p} came back with another data directory", &peer->id,
                  LS__ARGS(0));
        ls__progress_reset(core, peer);
        int at = ls__place(core, &peer->id);
        core->grants &= ~(1u << at);
    }
    peer->met = true;
    peer->incarnation = *incarnation;
}

void ls__progress_probe(struct ls__peer *peer)
{
    if (peer->state != LS_PROGRESS_PROBE) {
        peer->next = peer->match + 1;
        peer->state = LS_PROGRESS_PROBE;
    }
    peer->probing = false;
    peer->probe_empty = false;
    peer->flight_from = peer->next;
    peer->check_round = 0;
}

static void syncing_begin(struct ls_core *core, struct ls__peer *peer)
{
    ls__trace(core, LS_TRACE_INFO, "{p} needs {}, the cache begins at {}: left to state sync",
              &peer->id, LS__ARGS(peer->next, core->ring.first));
    peer->state = LS_PROGRESS_SYNCING;
    peer->next = core->trail.last + 1; /* new entries are sent as they are appended, once */
    peer->run_from = peer->next;
    peer->flight_from = peer->next;
    peer->probing = false;
    peer->check_round = 0;
    ls__heartbeat_send(core, (uint32_t)(peer - core->peers));
}

uint64_t ls__progress_in_flight(const struct ls_core *core, const struct ls__peer *peer)
{
    if (peer->state == LS_PROGRESS_SYNCING) {
        return ls__ring_bytes(&core->ring, peer->flight_from, peer->next - 1);
    }
    ls_index last = peer->state == LS_PROGRESS_PIPELINE ? peer->next - 1
                    : peer->probing                     ? peer->probe_last
                                                        : 0;
    return ls__ring_bytes(&core->ring, peer->match + 1, last);
}

static void append_send(struct ls_core *core, struct ls__peer *peer, uint32_t count)
{
    struct ls_message *message = &ls__send(core, LS_MESSAGE_APPEND, &peer->id)->message;
    ls_index prev = peer->next - 1;
    LS_ASSERT(prev >= core->trail.anchor.index && prev + count <= core->trail.last);
    message->as.append = (struct ls_append){.prev = {ls__trail_term(&core->trail, prev), prev},
                                            .commit = core->commit,
                                            .syncing = peer->state == LS_PROGRESS_SYNCING,
                                            .count = count};
    peer->append_round = core->round;
    peer->told_commit = core->commit;
}

void ls__progress_ask(struct ls_core *core, struct ls__peer *peer)
{
    LS_ASSERT(peer->state == LS_PROGRESS_PIPELINE);
    append_send(core, peer, 0);
}

/* One AppendEntries, if this member may have one now. */
static bool send_one(struct ls_core *core, struct ls__peer *peer)
{
    ls_index last = core->trail.last;
    if (peer->next < core->ring.first && peer->state != LS_PROGRESS_SYNCING && !peer->probing) {
        /* where its log parts from this one is asked first, which takes no entry: state sync goes
         * on from its commit, and all may have pruned up to what it had acknowledged */
        if (peer->state == LS_PROGRESS_PIPELINE || peer->next <= core->trail.anchor.index) {
            syncing_begin(core, peer);
            return false;
        }
        peer->probe_empty = true;
    }
    if (peer->state == LS_PROGRESS_PROBE) {
        if (peer->probing) {
            return false;
        }
        uint32_t count = peer->next > last || peer->probe_empty || LS_MUTANT(L9)
                             ? 0
                             : ls__ring_batch(&core->ring, peer->next, last);
        append_send(core, peer, count);
        peer->probing = true;
        peer->probe_empty = false;
        peer->probe_last = peer->next - 1 + count;
        return false;
    }
    if (peer->next < core->ring.first) {
        peer->next = core->ring.first;
        peer->run_from = peer->next;
    }
    uint64_t in_flight = ls__progress_in_flight(core, peer);
    if (peer->next > last || (in_flight > 0 && in_flight >= core->window_bytes)) {
        return false;
    }
    uint32_t count = ls__ring_batch(&core->ring, peer->next, last);
    append_send(core, peer, count);
    peer->next += count;
    return true;
}

void ls__progress_send(struct ls_core *core, uint32_t at)
{
    struct ls__peer *peer = &core->peers[at];
    if (ls_peer_id_equal(&peer->id, &core->self)) {
        return;
    }
    for (uint32_t sent = 0; sent < LS__SENDS_MAX && send_one(core, peer); sent++) {
    }
}

void ls__progress_send_all(struct ls_core *core)
{
    for (uint32_t i = 0; i < core->peers_count; i++) {
        ls__progress_send(core, i);
    }
}

void ls__progress_match(struct ls_core *core, struct ls__peer *peer, ls_index match)
{
    LS_ASSERT(match <= core->trail.last);
    peer->match = match > peer->match || LS_MUTANT(L7) ? match : peer->match;
    peer->next = peer->next > peer->match || LS_MUTANT(L8) ? peer->next : peer->match + 1;
    if (peer->state == LS_PROGRESS_SYNCING && peer->match + 1 >= core->ring.first) {
        ls__trace(core, LS_TRACE_INFO, "{p} caught up to {}: appends go on", &peer->id,
                  LS__ARGS(peer->match));
        peer->state = LS_PROGRESS_PROBE;
        peer->next = peer->match + 1;
        peer->probing = false;
    }
}

void ls__progress_heard(struct ls_core *core, uint32_t at, bool counts)
{
    struct ls__peer *peer = &core->peers[at];
    peer->counts = counts;
    peer->heard_us = core->now_us;
    if (counts && ls__promise_counts(core, at)) {
        peer->contact_us = core->now_us;
    }
}

/* Where to try next after a refusal: the last entry here whose term is not above the hint's. */
static void back_off(struct ls_core *core, struct ls__peer *peer,
                     const struct ls_append_reply *reply)
{
    ls_index try = ls__trail_floor(&core->trail, reply->hint).index + 1;
    try = try < reply->prev.index ?
    try : reply
        ->prev.index;
    if (reply->prev.index <= peer->match) {
        /* it lost what it had acknowledged: it counts for what it has now (L16) */
        ls__trace(core, LS_TRACE_WARN, "{p} refuses {}, which it had acknowledged: falls to {}",
                  &peer->id, LS__ARGS(reply->prev.index, try - 1));
        peer->match = LS_MUTANT(L16)           ? peer->match
                      : reply->match < try - 1 ? reply->match
                                               : try - 1;
    }
    peer->state = LS_PROGRESS_PROBE;
    try = LS_MUTANT(L14) ? peer->next : try;
    peer->next = try > peer->match ?
    try : peer
        ->match + 1;
    peer->probing = false;
    peer->check_round = 0;
}

static void on_rejected(struct ls_core *core, struct ls__peer *peer,
                        const struct ls_append_reply *reply)
{
    if (peer->state == LS_PROGRESS_SYNCING) {
        peer->flight_from = peer->next; /* a round trip: the window is open again */
        ls__progress_match(core, peer, reply->match);
        return;
    }
    bool stale = peer->state == LS_PROGRESS_PROBE
                     ? reply->prev.index != peer->next - 1
                     : reply->prev.index <= peer->match || reply->prev.index >= peer->next;
    if (stale || reply->prev.index == 0) {
        ls__trace(core, LS_TRACE_DEBUG, "stale refusal of {p} after {} ignored", &peer->id,
                  LS__ARGS(reply->prev.index));
        return;
    }
    back_off(core, peer, reply);
    ls__progress_match(core, peer, reply->match);
}

static void on_accepted(struct ls_core *core, struct ls__peer *peer,
                        const struct ls_append_reply *reply)
{
    if (peer->state == LS_PROGRESS_SYNCING) {
        peer->flight_from = peer->next;
        if (reply->match + 1 >= peer->run_from) {
            /* what it lacks was sent after what it accepted, all of it: nothing to probe */
            ls__trace(core, LS_TRACE_INFO, "{p} follows from {} on: appends go on", &peer->id,
                      LS__ARGS(reply->match));
            peer->state = LS_PROGRESS_PIPELINE;
        }
    }
    bool probed = peer->state == LS_PROGRESS_PROBE && reply->match + 1 >= peer->next;
    ls__progress_match(core, peer, reply->match);
    if (probed) {
        peer->state = LS_PROGRESS_PIPELINE;
        peer->next = LS_MUTANT(L9) ? core->trail.last + 1 : peer->match + 1;
        peer->probing = false;
    }
}

void ls__on_append_reply(struct ls_core *core, const struct ls_message *message)
{
    const struct ls_append_reply *reply = &message->as.append_reply;
    int at = ls__place(core, &message->from);
    if (core->role != LS_ROLE_LEADER || (message->term != core->hard.term && !LS_MUTANT(L13)) ||
        at < 0) {
        return; /* L13: acknowledgements of another term say nothing */
    }
    struct ls__peer *peer = &core->peers[at];
    if (reply->match > core->trail.last) {
        ls__trace(core, LS_TRACE_ERROR, "{p} acknowledges {}, the log ends at {}: ignored",
                  &message->from, LS__ARGS(reply->match, core->trail.last));
        return;
    }
    ls__progress_heard(core, (uint32_t)at, reply->counts);
    if (reply->accepted) {
        on_accepted(core, peer, reply);
    } else {
        on_rejected(core, peer, reply);
    }
    ls__leader_commit(core);
    if (core->role == LS_ROLE_LEADER) {
        ls__progress_send(core, (uint32_t)at);
        ls__transfer_advance(core);
    }
}

void ls__leader_commit(struct ls_core *core)
{
    const struct ls_configuration *view = ls__view(core);
    uint64_t values[LS_MEMBERS_MAX];
    for (uint32_t i = 0; i < view->count; i++) {
        const struct ls__peer *peer = &core->peers[i];
        if (ls_peer_id_equal(&peer->id, &core->self)) {
            values[i] = ls__makes_promises(core) ? core->durable : 0; /* C5 */
            values[i] = LS_MUTANT(C5) ? core->trail.last : values[i];
        } else {
            values[i] = peer->counts && ls__promise_counts(core, i) ? peer->match : 0;
        }
    }
    ls_index reached = ls__quorum_value(view, values);
    if (reached <= core->commit ||
        (ls__trail_term(&core->trail, reached) != core->hard.term && !LS_MUTANT(C1))) {
        return; /* P3: entries of earlier terms are committed by one of the own term */
    }
    bool first = core->commit < core->own_term_first;
    ls__commit_set(core, reached);
    if (first && core->commit >= core->own_term_first) {
        ls__trace(core, LS_TRACE_INFO, "first entry of term {} committed at {}", NULL,
                  LS__ARGS(core->hard.term, core->own_term_first));
    }
    if (core->notice_deadline_us == UINT64_MAX) {
        core->notice_deadline_us = core->now_us + core->heartbeat_us / LS__NOTICE_DIVISOR;
    }
    ls__log_evict(core);
    ls__reads_advance(core);
}

/* Up to where a member's entries may go: one that lags too far holds nothing, and one that has not
 * answered since this member leads is taken to lag just as far as is allowed. */
ls_index ls__prunable(const struct ls_core *core, const struct ls__peer *peer)
{
    bool gone = core->lag_entries > 0 && core->commit > peer->match &&
                core->commit - peer->match > core->lag_entries;
    if (LS_MUTANT(S7) || (LS_MUTANT(Y10) && peer->match == 0)) {
        return UINT64_MAX;
    }
    if (!gone) {
        return peer->match;
    }
    return peer->match == 0 ? core->commit - core->lag_entries : UINT64_MAX;
}

/* The prune-safe index. */
ls_index ls__prune_safe(const struct ls_core *core)
{
    if (core->role != LS_ROLE_LEADER) {
        return core->prune_safe;
    }
    ls_index safe = core->durable < core->commit ? core->durable : core->commit;
    for (uint32_t i = 0; i < core->peers_count; i++) {
        const struct ls__peer *peer = &core->peers[i];
        ls_index upto = ls_peer_id_equal(&peer->id, &core->self) ? safe : ls__prunable(core, peer);
        safe = upto < safe ? upto : safe;
    }
    return safe;
}

enum ls_status ls__propose_prepare(struct ls_core *core, const struct ls_event *event)
{
    uint32_t count = event->as.propose.count;
    LS_ASSERT(count >= 1 && count <= LS_PROPOSE_ENTRIES_MAX);
    return ls__own_reserve(core, count) && ls__ring_reserve(&core->ring, &core->env, count)
               ? LS_OK
               : LS_ERR_NO_MEMORY;
}

static enum ls_status propose_refusal(const struct ls_core *core, const struct ls_event *event)
{
    if (core->halted != LS_OK) {
        return LS_ERR_HALTED;
    }
    if (core->role != LS_ROLE_LEADER) {
        return LS_ERR_NOT_LEADER;
    }
    if (core->transferring && !LS_MUTANT(TRANSFER)) {
        return LS_ERR_BUSY;
    }
    ls_index kept_from = (core->commit < core->durable ? core->commit : core->durable) + 1;
    kept_from = kept_from > core->ring.first ? kept_from : core->ring.first;
    uint64_t kept = core->trail.last + 1 - kept_from;
    uint64_t bytes = ls__ring_bytes(&core->ring, kept_from, core->trail.last);
    for (uint32_t i = 0; i < event->as.propose.count; i++) {
        bytes += event->as.propose.entries[i].data.bytes;
    }
    bool full = kept + event->as.propose.count > LS_CACHE_ENTRIES_MAX - LS__RING_SLACK ||
                (kept > 0 && bytes > core->cache_bytes);
    return full ? LS_ERR_BUSY : LS_OK;
}

void ls__on_propose(struct ls_core *core, const struct ls_event *event)
{
    core->ready.propose_status = propose_refusal(core, event);
    if (core->ready.propose_status != LS_OK) {
        return;
    }
    for (uint32_t i = 0; i < event->as.propose.count; i++) {
        core->own[i] = event->as.propose.entries[i];
        core->own[i].term = core->hard.term;
        LS_ASSERT(core->own[i].kind == LS_ENTRY_COMMAND || core->own[i].kind == LS_ENTRY_MARKER);
    }
    ls__log_append(core, core->own, event->as.propose.count);
    ls__progress_send_all(core);
}
