/* SPDX-License-Identifier: MIT */
/*
 * The driver of the simulated members: an event into a core, what its ready asks for done in the
 * contract's order, and the realm's time from one thing that is due to the next.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "realm.h"

static struct ls_configuration_at *keep_configuration(struct realm *realm,
                                                      const struct ls_configuration_at *at)
{
    struct ls_configuration_at *copy = arena_allocate(realm, sizeof *copy);
    *copy = *at;
    return copy;
}

static void stage(struct node *node, const struct ls_ready *ready)
{
    struct realm *realm = node->realm;
    struct batch batch = {
        .seq = ready->persist_seq,
        .due_us = realm->now_us + realm->disk_us,
        .hard_state = ready->hard_state,
        .reset = ready->reset,
        .truncate = ready->truncate,
        .anchor = ready->anchor,
        .truncate_from = ready->truncate_from,
        .append_first = ready->append_first,
        .count = ready->entries_count,
        .applied = node->applied,
    };
    if (batch.reset) {
        LS_ASSERT(ready->configuration != NULL);
        batch.anchor_configuration = keep_configuration(realm, ready->configuration);
    }
    if (batch.count > 0) {
        batch.entries = arena_allocate(realm, batch.count * sizeof *batch.entries);
        for (uint32_t i = 0; i < batch.count; i++) {
            batch.entries[i] = entry_copy(realm, &ready->entries[i]);
        }
    }
    struct batch headless = batch;
    headless.count = 0;
    log_apply_batch(&node->view, &headless);
    for (uint32_t i = 0; i < batch.count; i++) {
        if (batch.append_first + i != log_last(&node->view) + 1) {
            realm_fail(realm, "%s: appends %" PRIu64 " to a log that ends at %" PRIu64, node->name,
                       batch.append_first + i, log_last(&node->view));
        }
        check_append(node, batch.append_first + i, &batch.entries[i]);
        log_push(&node->view, &batch.entries[i]);
    }
    if (node->batches_count == node->batches_capacity) {
        node->batches_capacity = node->batches_capacity == 0 ? 16 : node->batches_capacity * 2;
        node->batches = realloc(node->batches, node->batches_capacity * sizeof *node->batches);
        if (node->batches == NULL) {
            abort();
        }
    }
    node->batches[node->batches_count++] = batch;
    node->staged_seq = batch.seq;
}

/* Encodes: payloads come from the log as it is now, into memory of the message's own. */
static void hold_message(struct node *node, const struct ls_outgoing *outgoing)
{
    struct realm *realm = node->realm;
    struct packet packet = {.message = outgoing->message, .after = outgoing->after};
    const struct node *to = realm_by_id(realm, &packet.message.to);
    if (to == NULL || to == node) {
        realm_fail(realm, "%s: sends a %s to nobody it knows", node->name,
                   message_kind_text((int)packet.message.kind));
    }
    if (packet.after > node->staged_seq) {
        realm_fail(realm, "%s: presumes batch %" PRIu64 ", which was never staged", node->name,
                   packet.after);
    }
    packet.from = node->number;
    packet.to = to->number;
    if (packet.message.kind == LS_MESSAGE_APPEND &&
        packet.message.as.append.prev.index + packet.message.as.append.count >
            log_last(&node->view)) {
        realm_fail(realm, "%s: sends entries beyond its log", node->name);
    }
    if (packet.message.kind == LS_MESSAGE_APPEND && packet.message.as.append.count > 0) {
        struct ls_append *append = &packet.message.as.append;
        struct ls_entry *entries = arena_allocate(realm, append->count * sizeof *entries);
        for (uint32_t i = 0; i < append->count; i++) {
            const struct ls_entry *entry = log_entry(&node->view, append->prev.index + 1 + i);
            if (entry == NULL) {
                realm_fail(realm, "%s: sends %" PRIu64 ", which it does not hold", node->name,
                           append->prev.index + 1 + i);
            }
            entries[i] = *entry;
        }
        append->entries = entries;
    }
    check_outgoing(node, &packet.message);
    packets_push(&node->held, &packet);
}

static void absorb(struct node *node, const struct ls_ready *ready)
{
    check_ready_before(node, ready);
    enum ls_role was = node->role;
    ls_index commit_was = node->commit;
    ls_term term_was = node->term;
    if (ready->persist_seq != 0) {
        stage(node, ready);
    }
    for (size_t i = 0; i < ready->messages_count; i++) {
        hold_message(node, &ready->messages[i]);
    }
    node->role = ready->role;
    node->term = ready->term;
    node->leader = ready->leader;
    node->commit = ready->commit;
    node->durable = ready->durable;
    node->cache_first = ready->cache_first;
    node->prune_safe = ready->prune_safe;
    node->own_term_first = ready->own_term_first;
    node->halted = ready->halted;
    node->deadline_us = ready->deadline_us;
    node->propose_status = ready->propose_status;
    node->transfer_status = ready->transfer_status;
    if (ready->gap) {
        node->gap = true;
        node->gap_target = ready->gap_target;
    }
    if (ready->reset && node->applied < ready->anchor.index) {
        node->applied = ready->anchor.index;
    }
    check_ready_after(node, ready, was, commit_was, term_was);
    for (size_t i = 0; i < ready->reads_count; i++) {
        check_read(node, &ready->reads[i]);
    }
    if (node->gap && node->commit >= node->gap_target) {
        node->gap = false;
    }
    if (node->disk.torn) {
        struct ls_core_status status;
        ls_core_status(node->core, &status);
        node->disk.torn = status.standing != LS_STANDING_COUNTS;
    }
    network_flush(node);
}

static enum ls_status step_once(struct node *node, struct ls_event *event)
{
    const struct ls_ready *ready = NULL;
    event->now_us = node->realm->now_us + node->clock_skew_us;
    node->realm->steps++;
    enum ls_status status = ls_core_step(node->core, event, &ready);
    node->realm->refusing = false;
    ls_core_check(node->core);
    if (status == LS_OK) {
        absorb(node, ready);
    }
    return status;
}

/* A message for which there is no memory is as good as lost: the core is as it was before. */
static void receive(struct node *node, struct ls_event *event)
{
    struct realm *realm = node->realm;
    realm->refusing =
        realm->refused_percent > 0 && realm_random(realm, 100) < realm->refused_percent;
    bool refusing = realm->refusing;
    struct ls_core_status before, after;
    ls_core_status(node->core, &before);
    enum ls_status status = step_once(node, event);
    if (status == LS_ERR_NO_MEMORY && refusing) {
        realm->refusals++;
        ls_core_status(node->core, &after);
        if (after.term != before.term || after.role != before.role ||
            after.commit != before.commit || after.last != before.last ||
            after.durable != before.durable) {
            realm_fail(realm, "%s: a step without memory left traces", node->name);
        }
    } else if (status != LS_OK) {
        realm_fail(realm, "%s: a message failed: %s", node->name, ls_status_text(status));
    }
    realm_apply(node);
}

void realm_step(struct node *node, struct ls_event *event)
{
    LS_ASSERT(node->alive);
    enum ls_status status = step_once(node, event);
    if (status != LS_OK) {
        realm_fail(node->realm, "%s: a step of kind %d failed: %s", node->name, (int)event->kind,
                   ls_status_text(status));
    }
    realm_apply(node);
}

void realm_apply(struct node *node)
{
    ls_index upto = node->commit < node->durable ? node->commit : node->durable;
    if (node->apply_held || node->halted != LS_OK || upto <= node->applied) {
        return;
    }
    while (node->applied < upto) {
        check_applied(node, ++node->applied);
    }
    realm_step(node, &(struct ls_event){.kind = LS_EVENT_APPLIED, .as.applied = upto});
}

enum ls_status realm_propose(struct node *node, const struct ls_span *payloads, uint32_t count)
{
    struct ls_entry *entries = arena_allocate(node->realm, count * sizeof *entries);
    for (uint32_t i = 0; i < count; i++) {
        struct ls_entry entry = {.kind = LS_ENTRY_COMMAND, .data = payloads[i]};
        entries[i] = entry_copy(node->realm, &entry);
    }
    struct ls_event event = {.kind = LS_EVENT_PROPOSE};
    event.as.propose.entries = entries;
    event.as.propose.count = count;
    node->realm->steps++;
    event.now_us = node->realm->now_us + node->clock_skew_us;
    const struct ls_ready *ready = NULL;
    enum ls_status status = ls_core_step(node->core, &event, &ready);
    ls_core_check(node->core);
    if (status != LS_OK) {
        return status;
    }
    enum ls_status outcome = ready->propose_status;
    absorb(node, ready);
    realm_apply(node);
    return outcome;
}

struct pending_read *realm_read(struct node *node)
{
    struct realm *realm = node->realm;
    if (realm->reads_count == realm->reads_capacity) {
        realm->reads_capacity = realm->reads_capacity == 0 ? 16 : realm->reads_capacity * 2;
        realm->reads = realloc(realm->reads, realm->reads_capacity * sizeof *realm->reads);
        if (realm->reads == NULL) {
            abort();
        }
    }
    size_t at = realm->reads_count++;
    realm->reads[at] = (struct pending_read){
        .token = at + 1,
        .node = node->number,
        .life = node->lives,
        .floor = realm->committed,
    };
    realm_step(node, &(struct ls_event){.kind = LS_EVENT_READ, .as.read_token = at + 1});
    return &realm->reads[at];
}

enum ls_status realm_transfer(struct node *node, const struct node *to)
{
    struct ls_event event = {.kind = LS_EVENT_TRANSFER};
    if (to != NULL) {
        event.as.transfer_to = to->id;
    }
    const struct ls_ready *ready = NULL;
    event.now_us = node->realm->now_us + node->clock_skew_us;
    enum ls_status status = ls_core_step(node->core, &event, &ready);
    ls_core_check(node->core);
    if (status != LS_OK) {
        return status;
    }
    enum ls_status outcome = ready->transfer_status;
    absorb(node, ready);
    realm_apply(node);
    return outcome;
}

void realm_disk_fails(struct node *node)
{
    node->disk_failed = true;
    struct ls_event event = {.kind = LS_EVENT_FAILED};
    event.as.failed.seq = node->durable_seq + 1;
    event.as.failed.status = LS_ERR_IO;
    realm_step(node, &event);
}

void realm_prune(struct node *node, ls_index upto)
{
    struct ls_configuration_at *at = arena_allocate(node->realm, sizeof *at);
    if (!log_configuration(&node->view, upto, at) ||
        log_common(&node->disk.log, &node->view) < upto) {
        realm_fail(node->realm, "%s: cannot prune up to %" PRIu64, node->name, upto);
    }
    log_prune(&node->view, upto);
    log_prune(&node->disk.log, upto);
    node->view.anchor_configuration = at;
    node->disk.log.anchor_configuration = at;
    realm_step(node, &(struct ls_event){.kind = LS_EVENT_PRUNED, .as.pruned = upto});
}

static void step_syncing(struct node *node, bool on)
{
    node->syncing = on;
    realm_step(node, &(struct ls_event){.kind = LS_EVENT_SYNCING, .as.syncing = on});
}

/* Log replay in one answer: what `from` has committed after the commit of `node`. */
void realm_sync(struct node *node, const struct node *from)
{
    struct realm *realm = node->realm;
    const struct log *log = &from->view;
    ls_index end =
        from->commit < log_last(&from->disk.log) ? from->commit : log_last(&from->disk.log);
    if (node->commit < log->anchor.index) {
        realm_restore(node, from);
    }
    if (end <= node->commit || node->commit < log->anchor.index) {
        return;
    }
    uint32_t count = (uint32_t)(end - node->commit);
    struct ls_entry *entries = arena_allocate(realm, count * sizeof *entries);
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = *log_entry(log, node->commit + 1 + i);
    }
    struct ls_event event = {.kind = LS_EVENT_SYNCED};
    event.as.synced.term = 0;
    event.as.synced.prev = (struct ls_cursor){log_term(log, node->commit), node->commit};
    event.as.synced.entries = entries;
    event.as.synced.count = count;
    event.as.synced.commit = end;
    step_syncing(node, true);
    realm_step(node, &event);
    step_syncing(node, false);
}

/* A snapshot in one answer: the machine of `node` stands where that of `from` does. */
void realm_restore(struct node *node, const struct node *from)
{
    struct ls_configuration_at *at = arena_allocate(node->realm, sizeof *at);
    if (from->applied <= node->applied || !log_configuration(&from->view, from->applied, at)) {
        return;
    }
    struct ls_event event = {.kind = LS_EVENT_RESTORED};
    event.as.restored.anchor =
        (struct ls_cursor){log_term(&from->view, from->applied), from->applied};
    event.as.restored.configuration = &at->configuration;
    event.as.restored.configuration_index = at->index;
    node->applied = from->applied;
    step_syncing(node, true);
    realm_step(node, &event);
    step_syncing(node, false);
}

void realm_make_durable(struct node *node, size_t count)
{
    LS_ASSERT(count > 0 && count <= node->batches_count);
    for (size_t i = 0; i < count; i++) {
        const struct batch *batch = &node->batches[i];
        log_apply_batch(&node->disk.log, batch);
        node->disk.hard_state = batch->hard_state;
        if (batch->applied > node->disk.applied) {
            node->disk.applied = batch->applied;
        }
        node->durable_seq = batch->seq;
    }
    node->batches_count -= count;
    (void)memmove(node->batches, node->batches + count,
                  node->batches_count * sizeof *node->batches);
    realm_step(node, &(struct ls_event){.kind = LS_EVENT_PERSISTED,
                                        .as.persisted_seq = node->durable_seq});
}

static uint64_t disk_next_us(const struct node *node)
{
    bool works = node->alive && !node->disk_held && !node->disk_failed && node->batches_count > 0;
    return works ? node->batches[0].due_us : UINT64_MAX;
}

static uint64_t tick_next_us(const struct node *node)
{
    if (!node->alive || node->asleep || node->deadline_us == UINT64_MAX) {
        return UINT64_MAX;
    }
    return node->deadline_us > node->clock_skew_us ? node->deadline_us - node->clock_skew_us : 0;
}

/* One automatic catch-up: any linked member that has what is missing. */
static void auto_sync(struct node *node)
{
    struct realm *realm = node->realm;
    const struct node *best = NULL;
    node->sync_at_us = 0;
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        const struct node *other = &realm->nodes[i];
        bool reachable = other->alive && node->linked[i] && !realm->cut[i][node->number] &&
                         !realm->cut[node->number][i];
        if (reachable && other->commit > node->commit && other->halted == LS_OK &&
            (best == NULL || other->commit > best->commit)) {
            best = other;
        }
    }
    if (best == NULL) {
        return;
    }
    if (realm->restore_percent > 0 && best->applied > node->commit &&
        realm_random(realm, 100) < realm->restore_percent) {
        realm_restore(node, best);
    } else {
        realm_sync(node, best);
    }
}

static uint64_t sync_next_us(struct node *node)
{
    struct realm *realm = node->realm;
    if (!realm->auto_sync || !node->alive || !node->gap || node->halted != LS_OK) {
        return UINT64_MAX;
    }
    if (node->sync_at_us == 0) {
        node->sync_at_us = realm->now_us + realm->sync_us;
    }
    return node->sync_at_us;
}

static uint64_t node_next_us(struct node *node, bool ticks)
{
    uint64_t disk = disk_next_us(node), sync = sync_next_us(node);
    uint64_t tick = ticks ? tick_next_us(node) : UINT64_MAX;
    uint64_t next = disk < sync ? disk : sync;
    return next < tick ? next : tick;
}

static void node_turn(struct node *node, bool ticks)
{
    uint64_t now = node->realm->now_us;
    if (disk_next_us(node) <= now) {
        realm_make_durable(node, node->batches_count);
    } else if (sync_next_us(node) <= now) {
        auto_sync(node);
    } else if (ticks && tick_next_us(node) <= now) {
        realm_step(node, &(struct ls_event){.kind = LS_EVENT_TICK});
    }
}

/* Does what is due at the earliest moment up to `until_us`; false: nothing was. */
static bool turn(struct realm *realm, uint64_t until_us, bool ticks)
{
    uint64_t next = network_next_us(realm);
    struct node *chosen = NULL;
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        uint64_t at = node_next_us(&realm->nodes[i], ticks);
        if (at < next) {
            next = at;
            chosen = &realm->nodes[i];
        }
    }
    if (next > until_us) {
        return false;
    }
    realm->now_us = next > realm->now_us ? next : realm->now_us;
    if (chosen != NULL) {
        node_turn(chosen, ticks);
        return true;
    }
    struct packet packet;
    if (network_take(realm, &packet)) {
        struct ls_event event = {.kind = LS_EVENT_MESSAGE, .as.message = &packet.message};
        realm_tell_message(realm, &packet);
        receive(&realm->nodes[packet.to], &event);
    }
    return true;
}

bool realm_run(struct realm *realm, uint64_t until_us, bool (*done)(void *arg), void *arg)
{
    uint64_t instant = realm->now_us;
    unsigned busy = 0;
    while (done == NULL || !done(arg)) {
        if (!turn(realm, until_us, true)) {
            realm->now_us = until_us;
            return done != NULL && done(arg);
        }
        busy = realm->now_us == instant ? busy + 1 : 0;
        instant = realm->now_us;
        if (busy > REALM_BUSY_STEPS) {
            realm_fail(realm, "time stands still: somebody wants a tick at once, again and again");
        }
    }
    return true;
}

void realm_deliver(struct realm *realm)
{
    for (unsigned turns = 0; turn(realm, UINT64_MAX - 1, false); turns++) {
        if (turns > REALM_BUSY_STEPS) {
            realm_fail(realm, "messages never come to rest");
        }
    }
}
