/* SPDX-License-Identifier: MIT */
/*
 * The group runtime: steps the core, absorbs what is ready, and does a group's part of the turn.
 * The one place where a persist batch is staged, an entry enters the cache, and a message leaves.
 */
#include "runtime.h"

#include <stdio.h>
#include <string.h>

void ls__group_touch(struct ls_group *group)
{
    struct ls_node *node = group->node;
    if (group->dirty) {
        return;
    }
    group->dirty = true;
    group->next_dirty = NULL;
    *node->dirty_end = group;
    node->dirty_end = &group->next_dirty;
    node->loop.defer(node->loop.self);
}

void ls__group_trace(const struct ls_group *group, enum ls_trace_level level, const char *format,
                     const struct ls_peer_id *peer, const char *detail)
{
    const struct ls_env *env = &group->node->env;
    if (env->trace != NULL) {
        env->trace(env->self, &(struct ls_trace){.level = level,
                                                 .room = "machine",
                                                 .format = format,
                                                 .group = &group->id,
                                                 .peer = peer,
                                                 .detail = detail});
    }
}

void ls__group_halt(struct ls_group *group, enum ls_status status, const char *text)
{
    if (group->halted != LS_OK) {
        return;
    }
    group->halted = status;
    (void)snprintf(group->halted_text, sizeof group->halted_text, "%s", text);
    ls__group_trace(group, LS_TRACE_ERROR, "group halts", NULL, group->halted_text);
    if (group->failed == LS_OK) {
        group->failed = status; /* the core steps down and promises nothing more */
    }
    ls__group_touch(group);
}

void ls__group_retry(struct ls_group *group, uint64_t wait_us)
{
    uint64_t at = ls__now(group->node) + wait_us;
    group->retry_us = at < group->retry_us ? at : group->retry_us;
}

/* ---- messages ---- */

enum ls_status ls__group_send(struct ls_group *group, const struct ls_peer_id *peer,
                              enum ls_lane lane, const struct ls_wire_frame *frame)
{
    struct ls_node *node = group->node;
    enum ls_status status = ls_wire_encode(frame, &node->buffer);
    if (status != LS_OK) {
        return status;
    }
    return node->transport.send(node->transport.self, &group->id, peer, lane,
                                (struct ls_span){node->buffer.data, node->buffer.bytes});
}

/* The core knows positions only: the payloads come from the cache. False: they are gone, the
 * message is lost. */
static bool append_fill(struct ls_group *group, struct ls_append *append)
{
    struct ls_entry *entries = group->node->entries;
    LS_ASSERT(append->count <= LS_APPEND_ENTRIES_MAX);
    for (uint32_t i = 0; i < append->count; i++) {
        const struct ls_entry *entry = ls__cache_at(&group->cache, append->prev.index + 1 + i);
        if (entry == NULL) {
            return false;
        }
        entries[i] = *entry;
    }
    append->entries = entries;
    return true;
}

static void send_outgoing(struct ls_group *group, const struct ls_outgoing *outgoing)
{
    struct ls_node *node = group->node;
    struct ls_wire_frame frame = {.kind = LS_WIRE_CORE, .as.core = outgoing->message};
    struct ls_message *message = &frame.as.core;
    if (message->kind == LS_MESSAGE_APPEND && !append_fill(group, &message->as.append)) {
        return;
    }
    if (ls_wire_encode(&frame, &node->buffer) != LS_OK) {
        return; /* no memory: as if lost */
    }
    struct ls_span bytes = {node->buffer.data, node->buffer.bytes};
    if (outgoing->after > group->durable_seq) {
        (void)ls__held_add(&group->held, outgoing->after, &message->to, bytes);
        return;
    }
    (void)node->transport.send(node->transport.self, &group->id, &message->to, LS_LANE_CONSENSUS,
                               bytes);
}

/* ---- absorb ---- */

static enum ls_status persist_stage(struct ls_group *group, const struct ls_ready *ready,
                                    const struct ls_entry *entries)
{
    struct ls_node *node = group->node;
    struct ls_storage_batch batch = {.seq = ready->persist_seq,
                                     .hard_state =
                                         ready->hard_state_changed ? &ready->hard_state : NULL,
                                     .reset = ready->reset,
                                     .anchor = ready->anchor,
                                     .truncate = ready->truncate,
                                     .truncate_from = ready->truncate_from,
                                     .first = ready->append_first,
                                     .entries = entries,
                                     .count = ready->entries_count,
                                     .tail_known = !ready->tail_unknown};
    uint8_t configuration[LS_CONFIGURATION_BYTES_MAX];
    if (ready->reset && ready->configuration != NULL) {
        size_t bytes = 0;
        enum ls_status encoded =
            ls_configuration_encode(&node->env.codec, &ready->configuration->configuration,
                                    configuration, sizeof configuration, &bytes);
        LS_ASSERT(encoded == LS_OK);
        batch.anchor_configuration =
            (struct ls_stored_configuration){ready->configuration->index, {configuration, bytes}};
    }
    if (ready->commit > group->hinted) {
        batch.commit_hint = ready->commit < ready->last ? ready->commit : ready->last;
    }
    enum ls_status status = node->storage.stage(node->storage.self, group->store, &batch);
    if (status == LS_OK) {
        group->hinted = batch.commit_hint > 0 ? batch.commit_hint : group->hinted;
        node->staged = true;
    }
    return status;
}

/* A store without room or memory is no failed store: the batch waits, and with it the core. */
static void persist_result(struct ls_group *group, const struct ls_ready *ready,
                           enum ls_status status)
{
    group->unstaged = NULL;
    if (status == LS_ERR_BUSY || status == LS_ERR_NO_MEMORY) {
        group->unstaged = ready;
        ls__group_retry(group, LS__RETRY_US);
    } else if (status != LS_OK && group->failed == LS_OK) {
        group->failed = status;
    }
    ls__group_touch(group);
}

static void absorb_persist(struct ls_group *group, const struct ls_ready *ready)
{
    if (ready->persist_seq > 0) {
        LS_ASSERT(group->unstaged == NULL);
        group->staged_seq = ready->persist_seq;
        persist_result(group, ready, persist_stage(group, ready, ready->entries));
    }
}

/* The event that brought the entries is gone; the cache has them. */
static void persist_again(struct ls_group *group)
{
    const struct ls_ready *ready = group->unstaged;
    struct ls_entry *entries = group->node->entries;
    LS_ASSERT(ready->entries_count <= LS__ENTRIES_MAX);
    for (uint32_t i = 0; i < ready->entries_count; i++) {
        const struct ls_entry *entry = ls__cache_at(&group->cache, ready->append_first + i);
        LS_ASSERT(entry != NULL);
        entries[i] = *entry;
    }
    persist_result(group, ready, persist_stage(group, ready, entries));
}

static void absorb_cache(struct ls_group *group, const struct ls_ready *ready)
{
    if (ready->reset) {
        ls__cache_truncate(&group->cache, 0);
        ls__sizes_reset(&group->sizes, ready->anchor.index);
        group->log_first = ready->anchor.index + 1;
        group->pruned_reported = ready->anchor.index;
    }
    if (ready->truncate) {
        ls__cache_truncate(&group->cache, ready->truncate_from);
        ls__sizes_truncate(&group->sizes, ready->truncate_from);
        group->reversions++;
    }
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < ready->entries_count; i++) {
        ls__cache_append(&group->cache, ready->append_first + i, &ready->entries[i]);
        bytes += ready->entries[i].data.bytes;
    }
    if (ready->entries_count > 0) {
        LS_ASSERT(ready->append_first == group->sizes.last.index + 1);
        ls__sizes_add(&group->sizes, ready->entries_count, bytes);
    }
    bool waits = group->unstaged != NULL && ready->append_first < ready->cache_first;
    ls__cache_drop(&group->cache, waits ? ready->append_first : ready->cache_first);
}

static void absorb_role(struct ls_group *group, const struct ls_ready *ready)
{
    bool led = group->role == LS_ROLE_LEADER;
    bool deposed = led && (ready->role != LS_ROLE_LEADER || ready->term != group->term);
    if (ready->role == LS_ROLE_CANDIDATE && group->role != LS_ROLE_CANDIDATE) {
        group->elections++;
    }
    bool changed =
        !ls_peer_id_is_zero(&ready->leader) && !ls_peer_id_equal(&ready->leader, &group->leader);
    group->role = ready->role;
    group->term = ready->term;
    group->leader = ready->leader;
    if (changed) {
        group->leader_changes++;
        ls__calls_leader_changed(group);
    }
    if (deposed) {
        ls__calls_deposed(group);
    }
}

static void absorb(struct ls_group *group, const struct ls_ready *ready)
{
    absorb_persist(group, ready);
    absorb_cache(group, ready);
    absorb_role(group, ready);
    LS_ASSERT(ready->commit >= group->commit);
    group->commit = ready->commit;
    group->last = ready->last;
    group->durable = ready->durable;
    group->own_term_first = ready->own_term_first;
    group->prune_safe = ready->prune_safe;
    group->core_deadline_us = ready->deadline_us;
    for (size_t i = 0; i < ready->messages_count; i++) {
        send_outgoing(group, &ready->messages[i]);
    }
    for (size_t i = 0; i < ready->reads_count; i++) {
        ls__reads_result(group, &ready->reads[i]);
    }
    if (ready->halted != LS_OK) {
        ls__group_halt(group, ready->halted, ready->halted_text);
    }
    if (ready->configuration_changed) {
        group->meets = true;
    }
    ls__group_touch(group);
    if (ready->gap) {
        /* last: the supervisor may step the core again, and `ready` is borrowed until then */
        ls_supervisor_gap(group->supervisor, ready->term, ready->gap_target, ready->gap_prev,
                          ready->gap_entries, ready->gap_entries_count);
    }
}

/* What a step of this event may add to the cache: an append cannot fail once the core has stepped.
 */
static enum ls_status reserve(struct ls_group *group, const struct ls_event *event)
{
    const struct ls_entry *entries = NULL;
    uint32_t count = 0;
    if (event->kind == LS_EVENT_PROPOSE) {
        entries = event->as.propose.entries;
        count = event->as.propose.count;
    } else if (event->kind == LS_EVENT_SYNCED) {
        entries = event->as.synced.entries;
        count = event->as.synced.count;
    } else if (event->kind == LS_EVENT_MESSAGE && event->as.message->kind == LS_MESSAGE_APPEND) {
        entries = event->as.message->as.append.entries;
        count = event->as.message->as.append.count;
    }
    size_t bytes = LS_CONFIGURATION_BYTES_MAX; /* the core's own: a configuration and a no-op */
    for (uint32_t i = 0; i < count; i++) {
        bytes += entries[i].data.bytes;
    }
    return ls__cache_reserve(&group->cache, (size_t)count + 2, bytes);
}

enum ls_status ls__group_step(struct ls_group *group, struct ls_event *event,
                              const struct ls_ready **out)
{
    const struct ls_ready *ready = NULL;
    event->now_us = ls__now(group->node);
    enum ls_status status =
        group->unstaged == NULL ? reserve(group, event) : LS_ERR_NO_MEMORY; /* `ready` is in use */
    if (status == LS_OK) {
        status = ls_core_step(group->core, event, &ready);
    }
    if (status != LS_OK) {
        /* nothing happened: what must not be lost is stepped again by the turn */
        ls__group_retry(group, LS__RETRY_US);
        return status;
    }
    if (out != NULL) {
        *out = ready;
    }
    absorb(group, ready);
    return LS_OK;
}

/* ---- what comes up from the transport ---- */

static const char *receive_core(struct ls_group *group, const struct ls__peer *peer,
                                struct ls_message *message)
{
    message->from = peer->id;
    message->to = group->node->id;
    message->incarnation = peer->incarnation;
    const char *reason = ls_message_invalid(message);
    if (reason != NULL) {
        return reason;
    }
    struct ls_event event = {.kind = LS_EVENT_MESSAGE, .as.message = message};
    (void)ls__group_step(group, &event, NULL); /* no memory: as if the message had been lost */
    return NULL;
}

const char *ls__group_receive(struct ls_group *group, const struct ls_peer_id *id,
                              struct ls_span bytes)
{
    struct ls__peer *peer = ls__group_peer(group, id);
    if (peer == NULL || group->closed) {
        return NULL;
    }
    struct ls_wire_frame frame;
    const char *reason = NULL;
    enum ls_status status = ls_wire_decode(group->node->decoder, bytes, &frame, &reason);
    if (status != LS_OK) {
        /* no memory: as if the message had been lost */
        return status == LS_ERR_PROTOCOL ? reason : NULL;
    }
    switch (frame.kind) {
    case LS_WIRE_CORE:
        return receive_core(group, peer, &frame.as.core);
    case LS_WIRE_FORWARD:
        ls__calls_forward(group, id, &frame.as.forward);
        break;
    case LS_WIRE_FORWARD_REPLY:
        ls__calls_forward_reply(group, id, &frame.as.forward_reply);
        break;
    case LS_WIRE_NOTE:
        peer->note = frame.as.note;
        peer->note_us = ls__now(group->node);
        break;
    case LS_WIRE_SYNC:
        (void)ls_supervisor_receive(group->supervisor, id, frame.as.sync.tag,
                                    frame.as.sync.to_session, frame.as.sync.bytes);
        ls__group_touch(group);
        break;
    }
    return NULL;
}

void ls__group_bond(struct ls_group *group, const struct ls_bond_notice *notice)
{
    struct ls__peer *peer = ls__group_peer(group, &notice->peer);
    if (peer == NULL) {
        return;
    }
    switch (notice->event) {
    case LS_BOND_UP:
        ls__calls_peer_down(group, &peer->id); /* what was sent on an older link is lost */
        peer->up = true;
        peer->reported =
            false; /* a new link: the core must hear of it even if the old one never went down */
        peer->incarnation = notice->incarnation;
        peer->refused[0] = '\0';
        peer->noted = false;
        peer->note_us = 0;
        break;
    case LS_BOND_DOWN:
    case LS_BOND_DEPARTED:
        peer->up = false;
        break;
    case LS_BOND_REFUSED:
        peer->up = false;
        (void)snprintf(peer->refused, sizeof peer->refused, "%s",
                       notice->text != NULL ? notice->text : "refused");
        ls__group_trace(group, LS_TRACE_WARN, "bond with {p} refused", &notice->peer, notice->text);
        break;
    case LS_BOND_FORMED:
        return;
    }
    group->bond_changes++;
    if (!peer->up) {
        ls__calls_peer_down(group, &peer->id);
    }
    ls__group_touch(group);
}

/* Tells core and supervisor of links that changed; what gets no memory is told in the next turn. */
static void report_links(struct ls_group *group)
{
    for (size_t i = 0; i < group->peers_count; i++) {
        struct ls__peer *peer = &group->peers[i];
        if (peer->up == peer->reported) {
            continue;
        }
        struct ls_event event = {
            .kind = LS_EVENT_LINK,
            .as.link = {.peer = peer->id, .incarnation = peer->incarnation, .up = peer->up}};
        if (ls__group_step(group, &event, NULL) == LS_OK) {
            peer->reported = peer->up;
            ls_supervisor_peer(group->supervisor, &peer->id, peer->up);
        }
    }
}

/* ---- the turn ---- */

static void tell_supervisor(struct ls_group *group)
{
    if (group->sync_term != group->term) {
        group->sync_term = group->term;
        ls_supervisor_term(group->supervisor, group->term);
    }
    if (group->sync_commit != group->commit) {
        group->sync_commit = group->commit;
        ls_supervisor_committed(group->supervisor, group->commit);
    }
    group->sync_deadline_us = ls_supervisor_poll(group->supervisor);
}

void ls__group_turn_begin(struct ls_group *group)
{
    group->retry_us = UINT64_MAX;
    group->apply_paused = false;
    if (group->unstaged != NULL) {
        persist_again(group);
    }
    ls__group_meet(group);
    report_links(group);
    ls__catchup_report(group);
    ls__prune_report(group);
    if (ls__now(group->node) >= group->core_deadline_us) {
        struct ls_event event = {.kind = LS_EVENT_TICK};
        if (ls__group_step(group, &event, NULL) != LS_OK) {
            group->core_deadline_us = event.now_us + LS__RETRY_US;
        }
    }
    ls__calls_begin(group);
    ls__reads_begin(group);
    tell_supervisor(group);
    ls__held_release(group, group->durable_seq);
}

void ls__group_turn_persisted(struct ls_group *group)
{
    if (group->failed != LS_OK && !group->failed_reported) {
        const char *text = group->node->storage_text; /* says more than the core could */
        ls__group_halt(group, group->failed,
                       text[0] != '\0' ? text : ls_status_text(group->failed));
        struct ls_event event = {.kind = LS_EVENT_FAILED,
                                 .as.failed = {.seq = group->staged_seq, .status = group->failed}};
        group->failed_reported = ls__group_step(group, &event, NULL) == LS_OK;
    }
    if (group->durable_seq > group->persisted_seq && group->failed == LS_OK) {
        uint64_t seq = group->durable_seq;
        struct ls_event event = {.kind = LS_EVENT_PERSISTED, .as.persisted_seq = seq};
        if (ls__group_step(group, &event, NULL) == LS_OK) {
            group->persisted_seq = seq;
            group->room_made = group->calls.queued.first != NULL;
        }
    }
    ls__catchup_persisted(group); /* also what was in the log already and needed no write */
    ls__held_release(group, group->durable_seq);
}

void ls__group_turn_apply(struct ls_group *group)
{
    if (group->halted == LS_OK) {
        ls__apply(group);
    }
    if (group->applied != group->applied_reported) {
        ls_index applied = group->applied;
        struct ls_event event = {.kind = LS_EVENT_APPLIED, .as.applied = applied};
        if (ls__group_step(group, &event, NULL) == LS_OK) {
            group->applied_reported = applied;
        }
    }
    ls__snapshots_turn(group);
    ls__prune_turn(group);
    ls__reads_applied(group);
    if (group->halted != LS_OK && !group->closed) {
        ls__calls_end(group, LS_ERR_HALTED);
    }
}

void ls__group_turn_end(struct ls_group *group)
{
    ls__notes_turn(group);
    ls__calls_answer(group);
    ls__when_check(group);
    ls_index ready_to_apply = group->commit < group->durable ? group->commit : group->durable;
    bool more = group->halted == LS_OK && group->applied < ready_to_apply && !group->apply_paused;
    bool sync = group->sync_deadline_us == 0; /* an install ended: the session goes on at once */
    /* the core steps down, in the next turn or when there is memory */
    bool fault = group->failed != LS_OK && !group->failed_reported && group->retry_us == UINT64_MAX;
    bool room = group->room_made; /* for calls that the leader had none for in this turn */
    group->room_made = false;
    if (more || sync || fault || room || ls__snapshots_more(group) ||
        group->calls.finished.first != NULL) {
        ls__group_touch(group);
    }
}

uint64_t ls__group_deadline(const struct ls_group *group)
{
    const uint64_t all[] = {
        group->core_deadline_us, group->sync_deadline_us,
        group->retry_us,         group->calls.deadline_us,
        group->note_due_us,      group->closing ? group->close_by_us : UINT64_MAX};
    uint64_t deadline = UINT64_MAX;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        deadline = all[i] < deadline ? all[i] : deadline;
    }
    return deadline;
}

void ls__group_timer(struct ls_group *group, uint64_t now_us)
{
    if (now_us < ls__group_deadline(group)) {
        return;
    }
    ls__calls_expire(group, now_us);
    ls__group_touch(group);
}

bool ls__group_serving(const struct ls_group *group)
{
    return group->role == LS_ROLE_LEADER && group->own_term_first > 0 &&
           (group->applied >= group->own_term_first || LS_MUTANT(K8)) && group->halted == LS_OK;
}

bool ls__group_online(const struct ls_group *group)
{
    if (group->halted != LS_OK) {
        return false;
    }
    if (group->role == LS_ROLE_LEADER) {
        return ls__group_serving(group);
    }
    return !ls_peer_id_is_zero(&group->leader) && !group->session_runs &&
           ls_core_term_at(group->core, group->applied) == group->term;
}
