/* SPDX-License-Identifier: MIT */
/*
 * The step: reserve, dispatch, conclude. The families of messages have a file each; what they share
 * (output, hard state, log, commit) is here.
 */
#include "core_state.h"

void ls__trace(const struct ls_core *core, enum ls_trace_level level, const char *format,
               const struct ls_peer_id *peer, const uint64_t args[LS_TRACE_ARGS_MAX])
{
    if (core->env.trace == NULL) {
        return;
    }
    struct ls_trace trace = {
        .level = level, .room = "consensus", .format = format, .group = &core->group, .peer = peer};
    memcpy(trace.args, args, sizeof trace.args);
    core->env.trace(core->env.self, &trace);
}

struct ls_outgoing *ls__send(struct ls_core *core, enum ls_message_kind kind,
                             const struct ls_peer_id *to)
{
    LS_ASSERT(core->ready.messages_count < core->messages_capacity);
    struct ls_outgoing *outgoing = &core->messages[core->ready.messages_count++];
    memset(outgoing, 0, sizeof *outgoing);
    outgoing->message.kind = kind;
    outgoing->message.from = core->self;
    outgoing->message.to = *to;
    outgoing->message.incarnation = core->incarnation;
    outgoing->message.term = core->hard.term;
    outgoing->after = LS_MUTANT(P1_TERM) ? 0 : core->hard_seq;
    return outgoing;
}

void ls__read_result(struct ls_core *core, uint64_t token, enum ls_status status, ls_index index)
{
    LS_ASSERT(core->ready.reads_count < core->results_capacity);
    core->results[core->ready.reads_count++] = (struct ls_read_result){token, status, index};
}

uint64_t ls__persist(struct ls_core *core)
{
    LS_ASSERT(core->halted == LS_OK);
    if (core->ready.persist_seq == 0) {
        core->ready.persist_seq = ++core->seq;
    }
    return core->ready.persist_seq;
}

void ls__hard_state_set(struct ls_core *core, struct ls_hard_state hard)
{
    LS_ASSERT(hard.term >= core->hard.term);
    LS_ASSERT(hard.term > core->hard.term || !core->hard.voted); /* P2 */
    core->hard = hard;
    core->ready.hard_state_changed = true;
    core->hard_seq = ls__persist(core);
}

bool ls__own_reserve(struct ls_core *core, size_t count)
{
    struct ls_entry *own = ls__grow(&core->env, core->own, &core->own_capacity, count, sizeof *own);
    if (own == NULL) {
        return false;
    }
    core->own = own;
    return true;
}

void ls__log_append(struct ls_core *core, const struct ls_entry *entries, uint32_t count)
{
    LS_ASSERT(count > 0 && core->ready.entries_count == 0);
    core->ready.append_first = core->trail.last + 1;
    core->ready.entries = entries;
    core->ready.entries_count = count;
    for (uint32_t i = 0; i < count; i++) {
        LS_ASSERT(entries[i].term <= core->hard.term);
        ls__trail_append(&core->trail, entries[i].term);
        ls__ring_push(&core->ring, entries[i].data.bytes);
    }
    ls__batches_push(&core->batches, ls__persist(core), core->trail.last);
}

void ls__log_truncate(struct ls_core *core, ls_index from)
{
    LS_ASSERT(from > core->commit && from <= core->trail.last);
    ls__trace(core, LS_TRACE_INFO, "log truncated from {}, last was {^}", NULL,
              LS__ARGS(from, ls__trail_last(&core->trail).term, core->trail.last));
    core->ready.truncate = true;
    core->ready.truncate_from = from;
    ls__trail_truncate(&core->trail, from);
    ls__ring_truncate(&core->ring, from);
    ls__batches_clamp(&core->batches, from);
    ls__batches_push(&core->batches, ls__persist(core), core->trail.last);
    core->durable = core->durable < from ? core->durable : from - 1;
    core->verified = core->verified < from ? core->verified : from - 1;
    ls__configurations_truncate(core, from);
}

/* Uncommitted entries stay: nobody but the cache could send them again. */
void ls__log_evict(struct ls_core *core)
{
    ls_index keep = LS_MUTANT(RING) ? core->trail.last : core->commit;
    if (core->role == LS_ROLE_LEADER && core->durable < keep) {
        keep = core->durable;
    }
    keep = LS_MUTANT(G1) && core->applied < keep ? core->applied : keep;
    keep = LS_MUTANT(G2) && core->role == LS_ROLE_LEADER ? ls__prune_safe(core) : keep;
    ls_index below = core->ring.first;
    while (below <= keep && below <= core->trail.last &&
           ls__ring_bytes(&core->ring, below, core->trail.last) > core->cache_bytes) {
        below++;
    }
    ls__ring_drop(&core->ring, below);
}

void ls__commit_set(struct ls_core *core, ls_index commit)
{
    LS_ASSERT(commit <= core->trail.last);
    if (commit > core->commit || LS_MUTANT(C3)) {
        core->commit = commit;
    }
}

void ls__halt(struct ls_core *core, enum ls_status status, const char *text)
{
    if (core->halted != LS_OK) {
        return;
    }
    ls__trace(core, LS_TRACE_ERROR, "halted: {} at term {} commit {}", NULL,
              LS__ARGS((uint64_t)status, core->hard.term, core->commit));
    ls__become_follower(core, core->hard.term, NULL);
    ls__reads_fail(core);
    core->halted = status;
    core->halted_text = text;
}

void ls__halt_full(struct ls_core *core)
{
    ls__halt(core, LS_ERR_LIMIT, "too many changes of leader since the log was last pruned");
}

/* A member opened with a configuration can need this only if that entry is overwritten. */
static bool founding_reserve(struct ls_core *core)
{
    if (!ls__founding(core)) {
        return true;
    }
    if (core->own_payload == NULL) {
        core->own_payload = core->env.allocate(core->env.self, NULL, LS_CONFIGURATION_BYTES_MAX);
    }
    return core->own_payload != NULL && ls__configurations_reserve(core, 1);
}

/* Everything that any event can need; what depends on the event is reserved by its *_prepare. */
static bool step_reserve(struct ls_core *core)
{
    size_t messages = (size_t)core->peers_count * (LS__SENDS_MAX + 4) + core->reads_count + 8;
    struct ls_outgoing *outgoing =
        ls__grow(&core->env, core->messages, &core->messages_capacity, messages, sizeof *outgoing);
    if (outgoing == NULL) {
        return false;
    }
    core->messages = outgoing;
    struct ls_read_result *results = ls__grow(&core->env, core->results, &core->results_capacity,
                                              core->reads_count + 1, sizeof *results);
    if (results == NULL) {
        return false;
    }
    core->results = results;
    return ls__own_reserve(core, 2) && ls__trail_reserve(&core->trail, &core->env, 1) &&
           ls__ring_reserve(&core->ring, &core->env, 2) &&
           ls__batches_reserve(&core->batches, &core->env) && founding_reserve(core);
}

static enum ls_status message_prepare(struct ls_core *core, const struct ls_message *message)
{
    if (message->kind == LS_MESSAGE_APPEND) {
        return ls__append_prepare(core, message);
    }
    if (message->kind == LS_MESSAGE_READ_INDEX) {
        return ls__read_prepare(core) ? LS_OK : LS_ERR_NO_MEMORY;
    }
    return LS_OK;
}

static enum ls_status event_prepare(struct ls_core *core, const struct ls_event *event)
{
    switch (event->kind) {
    case LS_EVENT_MESSAGE:
        return message_prepare(core, event->as.message);
    case LS_EVENT_PROPOSE:
        return ls__propose_prepare(core, event);
    case LS_EVENT_SYNCED:
    case LS_EVENT_RESTORED:
        return ls__sync_prepare(core, event);
    case LS_EVENT_READ:
        return ls__read_prepare(core) ? LS_OK : LS_ERR_NO_MEMORY;
    case LS_EVENT_TICK:
    case LS_EVENT_PERSISTED:
    case LS_EVENT_FAILED:
    case LS_EVENT_APPLIED:
    case LS_EVENT_LINK:
    case LS_EVENT_SYNCING:
    case LS_EVENT_TRANSFER:
    case LS_EVENT_PRUNED:
        break;
    }
    return LS_OK;
}

/*
 * Figure 2, "rules for servers": a later term makes a follower. A request for a vote decides for
 * itself (stickiness), a granted pre-vote carries a term that nobody is in yet, and replies move us
 * only when they come from a member (E11).
 */
static void adopt_term(struct ls_core *core, const struct ls_message *message)
{
    bool proposed = message->kind == LS_MESSAGE_PRE_VOTE || message->kind == LS_MESSAGE_VOTE ||
                    (message->kind == LS_MESSAGE_PRE_VOTE_REPLY &&
                     (message->as.vote_reply.granted || LS_MUTANT(E8)));
    bool from_leader = message->kind == LS_MESSAGE_APPEND || message->kind == LS_MESSAGE_HEARTBEAT;
    if (message->term <= core->hard.term || proposed || from_leader) {
        return;
    }
    if (ls__place(core, &message->from) < 0 && !LS_MUTANT(E11)) {
        ls__trace(core, LS_TRACE_DEBUG, "term {} of {p} ignored: not a member", &message->from,
                  LS__ARGS(message->term));
        return;
    }
    ls__become_follower(core, message->term, NULL);
}

static void on_message(struct ls_core *core, const struct ls_message *message)
{
    if (core->halted != LS_OK || !ls_peer_id_equal(&message->to, &core->self) ||
        ls_peer_id_equal(&message->from, &core->self)) {
        return;
    }
    struct ls__peer *peer = ls__peer_find(core, &message->from);
    if (peer != NULL) {
        ls__progress_meet(core, peer, &message->incarnation);
    }
    adopt_term(core, message);
    switch (message->kind) {
    case LS_MESSAGE_PRE_VOTE:
    case LS_MESSAGE_VOTE:
        ls__on_vote(core, message);
        break;
    case LS_MESSAGE_PRE_VOTE_REPLY:
    case LS_MESSAGE_VOTE_REPLY:
        ls__on_vote_reply(core, message);
        break;
    case LS_MESSAGE_APPEND:
        ls__on_append(core, message);
        break;
    case LS_MESSAGE_APPEND_REPLY:
        ls__on_append_reply(core, message);
        break;
    case LS_MESSAGE_HEARTBEAT:
        ls__on_heartbeat(core, message);
        break;
    case LS_MESSAGE_HEARTBEAT_REPLY:
        ls__on_heartbeat_reply(core, message);
        break;
    case LS_MESSAGE_READ_INDEX:
        ls__on_read_index(core, message);
        break;
    case LS_MESSAGE_READ_INDEX_REPLY:
        ls__on_read_index_reply(core, message);
        break;
    case LS_MESSAGE_TIMEOUT_NOW:
        ls__on_timeout_now(core, message);
        break;
    }
}

static void on_persisted(struct ls_core *core, uint64_t seq)
{
    LS_ASSERT(seq <= core->seq);
    if (core->halted != LS_OK || seq <= core->durable_seq) {
        return;
    }
    core->durable_seq = seq;
    core->durable = ls__batches_pop(&core->batches, seq, core->durable);
    LS_ASSERT(core->durable <= core->trail.last);
    ls__tail_check(core);
    ls__election_persisted(core);
    if (core->role == LS_ROLE_LEADER && !LS_MUTANT(C8)) {
        ls__leader_commit(core);
    }
}

static void on_link(struct ls_core *core, const struct ls_event *event)
{
    const struct ls_peer_id *id = &event->as.link.peer;
    struct ls__peer *peer = ls__peer_find(core, id);
    if (peer == NULL || ls_peer_id_equal(id, &core->self)) {
        return;
    }
    peer->linked = event->as.link.up;
    ls__reads_unlink(core, id);
    if (!event->as.link.up) {
        ls__progress_probe(peer);
        peer->probing = true; /* nothing can arrive; the link's return or a reply ends this */
        ls__transfer_link(core, peer);
        return;
    }
    ls__progress_meet(core, peer, &event->as.link.incarnation);
    ls__progress_probe(peer);
    if (core->role == LS_ROLE_LEADER) {
        ls__progress_send(core, (uint32_t)(peer - core->peers));
        ls__heartbeat_send(core, (uint32_t)(peer - core->peers));
        ls__transfer_link(core, peer);
    }
}

static void on_tick(struct ls_core *core)
{
    if (core->halted != LS_OK) {
        return;
    }
    ls__reads_expire(core);
    if (core->role == LS_ROLE_LEADER) {
        ls__leader_tick(core);
    } else {
        ls__election_tick(core);
    }
}

static void dispatch(struct ls_core *core, const struct ls_event *event)
{
    switch (event->kind) {
    case LS_EVENT_TICK:
        on_tick(core);
        break;
    case LS_EVENT_MESSAGE:
        on_message(core, event->as.message);
        break;
    case LS_EVENT_PROPOSE:
        ls__on_propose(core, event);
        break;
    case LS_EVENT_PERSISTED:
        on_persisted(core, event->as.persisted_seq);
        break;
    case LS_EVENT_FAILED:
        LS_ASSERT(event->as.failed.status != LS_OK);
        if (!LS_MUTANT(P10)) {
            ls__halt(core, event->as.failed.status, "the store failed");
        }
        break;
    case LS_EVENT_APPLIED:
        LS_ASSERT(event->as.applied <= core->commit);
        if (event->as.applied > core->applied) {
            core->applied = event->as.applied;
        }
        break;
    case LS_EVENT_LINK:
        on_link(core, event);
        break;
    case LS_EVENT_SYNCING:
        if (core->syncing && !event->as.syncing && core->role != LS_ROLE_LEADER) {
            ls__election_timer_reset(core);
        }
        core->syncing = event->as.syncing;
        core->syncing_waited = false;
        break;
    case LS_EVENT_SYNCED:
        ls__on_synced(core, event);
        break;
    case LS_EVENT_RESTORED:
        ls__on_restored(core, event);
        break;
    case LS_EVENT_READ:
        ls__on_read(core, event->as.read_token);
        break;
    case LS_EVENT_TRANSFER:
        ls__on_transfer(core, &event->as.transfer_to);
        break;
    case LS_EVENT_PRUNED:
        ls__on_pruned(core, event->as.pruned);
        break;
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t step_deadline(const struct ls_core *core)
{
    if (core->halted != LS_OK) {
        return UINT64_MAX;
    }
    uint64_t deadline = ls__reads_deadline(core);
    if (core->role != LS_ROLE_LEADER) {
        return earlier(deadline, core->election_deadline_us);
    }
    deadline = earlier(deadline, core->notice_deadline_us);
    deadline = earlier(deadline, ls__quorum_deadline(core));
    if (core->peers_count > 1) {
        deadline = earlier(deadline, core->heartbeat_deadline_us);
    }
    return core->transferring ? earlier(deadline, core->transfer_deadline_us) : deadline;
}

static void conclude(struct ls_core *core)
{
    struct ls_ready *ready = &core->ready;
    ls__log_evict(core);
    ready->hard_state = core->hard;
    ready->hard_state_changed &= !(LS_MUTANT(L12) && ready->entries_count > 0);
    ready->messages = core->messages;
    ready->reads = core->results;
    ready->role = core->role;
    ready->term = core->hard.term;
    ready->leader = core->leader;
    ready->leader_changed = core->role != core->told_role || core->hard.term != core->told_term ||
                            !ls_peer_id_equal(&core->leader, &core->told_leader);
    core->told_role = core->role;
    core->told_term = core->hard.term;
    core->told_leader = core->leader;
    ready->commit = core->commit;
    ready->last = core->trail.last;
    ready->durable = core->durable;
    ready->own_term_first = core->own_term_first;
    ready->tail_unknown = core->tail_unknown;
    ready->cache_first = core->ring.first;
    ready->prune_safe = ls__prune_safe(core);
    ready->configuration =
        ls__founding(core) ? NULL : &core->configurations[core->configurations_count - 1];
    ready->deadline_us = step_deadline(core);
    ready->halted = core->halted;
    ready->halted_text = core->halted_text;
}

enum ls_status ls_core_step(struct ls_core *core, const struct ls_event *event,
                            const struct ls_ready **ready)
{
    if (!step_reserve(core)) {
        return LS_ERR_NO_MEMORY;
    }
    enum ls_status status = event_prepare(core, event);
    if (status != LS_OK) {
        return status;
    }
    /* from here on nothing fails */
    memset(&core->ready, 0, sizeof core->ready);
    core->now_us = event->now_us > core->now_us ? event->now_us : core->now_us;
    dispatch(core, event);
    conclude(core);
    *ready = &core->ready;
#ifdef LS_CHECK_INVARIANTS
    ls_core_check(core);
#endif
    return LS_OK;
}

ls_term ls_core_term_at(const struct ls_core *core, ls_index index)
{
    return ls__trail_term(&core->trail, index);
}

static void missing_founders(const struct ls_core *core, struct ls_core_status *out)
{
    const struct ls_configuration *view = ls__view(core);
    bool campaign = core->role == LS_ROLE_PRE_CANDIDATE || core->role == LS_ROLE_CANDIDATE;
    for (uint32_t i = 0; i < view->count; i++) {
        if (!ls__quorum_voter(view, i) || ls_peer_id_equal(&view->members[i].id, &core->self)) {
            continue;
        }
        bool voted = campaign && ((core->grants >> i) & 1u) != 0;
        if (!voted && (campaign || !core->peers[i].linked)) {
            out->missing_founders[out->missing_founders_count++] = view->members[i].id;
        }
    }
}

void ls_core_status(const struct ls_core *core, struct ls_core_status *out)
{
    memset(out, 0, offsetof(struct ls_core_status, missing_founders));
    out->missing_founders_count = out->progress_count = 0;
    out->role = core->role;
    out->standing = ls__standing(core);
    out->term = core->hard.term;
    out->leader = core->leader;
    out->commit = core->commit;
    out->applied = core->applied;
    out->last = core->trail.last;
    out->durable = core->durable;
    out->cache_first = core->ring.first;
    out->cached_bytes = ls__ring_bytes(&core->ring, core->ring.first, core->trail.last);
    out->anchor = core->trail.anchor;
    out->transferring = core->transferring;
    if (ls__founding(core)) {
        missing_founders(core, out);
    } else {
        out->configuration = &core->configurations[core->configurations_count - 1];
    }
    for (uint32_t i = 0; core->role == LS_ROLE_LEADER && i < core->peers_count; i++) {
        const struct ls__peer *peer = &core->peers[i];
        if (ls_peer_id_equal(&peer->id, &core->self)) {
            continue;
        }
        out->progress[out->progress_count++] =
            (struct ls_progress){.id = peer->id,
                                 .state = peer->state,
                                 .standing = ls__standing_of(core, i),
                                 .linked = peer->linked,
                                 .match = peer->match,
                                 .next = peer->next,
                                 .in_flight_bytes = ls__progress_in_flight(core, peer),
                                 .heard_us = peer->heard_us,
                                 .holds = ls__prunable(core, peer)};
    }
}
