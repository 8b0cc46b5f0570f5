/* SPDX-License-Identifier: MIT */
/*
 * AppendEntries, the follower's side, and the rule by which any entries enter the log: keep what
 * matches, truncate only at a proven conflict of terms, never at or below commit (P4; Raft paper
 * 5.3, figure 2).
 */
#include "core_state.h"

/*
 * How many of `count` entries from `first` on the ring can hold while everything above `floor`
 * stays in it. Not a matter of bytes: the leader is bounded by them, and a follower that refused
 * would keep the leader's first entry, and with it every commit, out for ever.
 */
static uint32_t ring_fit(const struct ls_core *core, ls_index first, ls_index floor, uint32_t count)
{
    ls_index kept_from = floor + 1 > core->ring.first ? floor + 1 : core->ring.first;
    uint64_t kept = first > kept_from ? first - kept_from : 0;
    uint64_t free_slots = kept < LS_CACHE_ENTRIES_MAX ? LS_CACHE_ENTRIES_MAX - kept : 0;
    uint64_t committed = first <= floor ? floor - first + 1 : 0;
    uint64_t fit = committed + free_slots;
    return fit < count ? (uint32_t)fit : count;
}

/* Decodes the configurations among the entries to append into the slots after the present ones. */
static enum ls__verdict plan_configurations(struct ls_core *core, struct ls__plan *plan)
{
    size_t found = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        found += plan->entries[i].kind == LS_ENTRY_CONFIGURATION;
    }
    if (found > 0 && !ls__configurations_reserve(core, found)) {
        return LS__PLAN_NO_MEMORY;
    }
    for (uint32_t i = 0; i < plan->count && found > 0; i++) {
        if (plan->entries[i].kind != LS_ENTRY_CONFIGURATION) {
            continue;
        }
        struct ls_configuration_at *at =
            &core->configurations[core->configurations_count + plan->configurations];
        at->index = plan->append_first + i;
        if (ls_configuration_decode(&core->env.codec, plan->entries[i].data, &at->configuration) !=
            LS_OK) {
            return LS__PLAN_MALFORMED;
        }
        plan->configurations++;
    }
    return LS__PLAN_OK;
}

/* The first entry that is not in the log, and where the log has another one. */
static enum ls__verdict plan_compare(const struct ls_core *core, struct ls_cursor prev,
                                     const struct ls_entry *entries, uint32_t count,
                                     struct ls__plan *plan)
{
    const struct ls__trail *trail = &core->trail;
    uint32_t at = 0;
    plan->verified = prev.index;
    if (prev.index < trail->anchor.index && !LS_MUTANT(L5)) {
        /* what lies below the anchor is committed: it matches */
        uint64_t skip = trail->anchor.index - prev.index;
        at = skip > count ? count : (uint32_t)skip;
        plan->verified = prev.index + at;
        if (skip <= count && entries[at - 1].term != trail->anchor.term) {
            plan->conflict = trail->anchor.index;
            return LS__PLAN_DIVERGED;
        }
    } else if (prev.index > trail->last) {
        return LS__PLAN_MISMATCH;
    } else if (ls__trail_term(trail, prev.index) != prev.term) {
        plan->conflict = prev.index;
        return prev.index <= core->commit ? LS__PLAN_DIVERGED : LS__PLAN_MISMATCH;
    }
    while (at < count && prev.index + 1 + at <= trail->last &&
           (ls__trail_term(trail, prev.index + 1 + at) == entries[at].term ||
            (LS_MUTANT(L1) && at > 0))) {
        at++;
    }
    at = LS_MUTANT(L2) && prev.index >= core->commit ? 0 : at;
    plan->append_first = prev.index + 1 + at;
    plan->verified = prev.index + at;
    plan->count = count - at;
    plan->entries = count == at ? NULL : entries + at;
    if (plan->count > 0 && plan->append_first <= trail->last) {
        plan->conflict = plan->append_first;
        plan->truncate = true;
        plan->truncate_from = plan->append_first;
        return plan->append_first <= core->commit && !LS_MUTANT(L3) ? LS__PLAN_DIVERGED
                                                                    : LS__PLAN_OK;
    }
    return LS__PLAN_OK;
}

enum ls__verdict ls__plan_prepare(struct ls_core *core, struct ls_cursor prev,
                                  const struct ls_entry *entries, uint32_t count, ls_index commit)
{
    struct ls__plan *plan = &core->plan;
    memset(plan, 0, sizeof *plan);
    plan->verdict = plan_compare(core, prev, entries, count, plan);
    if (plan->verdict != LS__PLAN_OK || plan->count == 0) {
        return plan->verdict;
    }
    ls_index end = plan->append_first + plan->count - 1;
    ls_index floor = commit < end ? commit : end;
    floor = floor > core->commit ? floor : core->commit;
    /* what does not fit is as if it had been lost: the reply tells how far it went */
    plan->count = ring_fit(core, plan->append_first, floor, plan->count);
    plan->truncate = plan->truncate && plan->count > 0;
    plan->verified += plan->count;
    size_t runs = 0;
    ls_term before = plan->append_first == prev.index + 1 ? prev.term : plan->entries[-1].term;
    for (uint32_t i = 0; i < plan->count; i++) {
        runs += i == 0 || plan->entries[i].term != before;
        before = plan->entries[i].term;
    }
    if (core->trail.count + runs > LS_TRAIL_RUNS_MAX) {
        plan->verdict = LS__PLAN_FULL;
        return plan->verdict;
    }
    if (!ls__trail_reserve(&core->trail, &core->env, runs) ||
        !ls__ring_reserve(&core->ring, &core->env, plan->count)) {
        plan->verdict = LS__PLAN_NO_MEMORY;
        return plan->verdict;
    }
    plan->verdict = plan_configurations(core, plan);
    return plan->verdict;
}

void ls__plan_apply(struct ls_core *core)
{
    const struct ls__plan *plan = &core->plan;
    LS_ASSERT(plan->verdict == LS__PLAN_OK);
    if (plan->count == 0) {
        return;
    }
    struct ls_configuration_at *decoded = core->configurations + core->configurations_count;
    if (plan->truncate) {
        ls__log_truncate(core, plan->truncate_from);
    }
    ls__log_append(core, plan->entries, plan->count);
    if (plan->configurations > 0) {
        memmove(core->configurations + core->configurations_count, decoded,
                plan->configurations * sizeof *decoded);
        core->configurations_count += plan->configurations;
        const struct ls_configuration_at *newest =
            &core->configurations[core->configurations_count - 1];
        ls__trace(core, LS_TRACE_INFO, "configuration of {} members in force from {}", NULL,
                  LS__ARGS(newest->configuration.count, newest->index));
        ls__members_refresh(core);
    }
}

void ls__follower_commit(struct ls_core *core, ls_index leader_commit)
{
    if (leader_commit > core->leader_commit) {
        core->leader_commit = leader_commit;
    }
    /* what is committed is in this term's leader's log (leader completeness) */
    if (core->commit > core->verified || LS_MUTANT(C2)) {
        core->verified = LS_MUTANT(C2) ? core->trail.last : core->commit;
    }
    ls__commit_set(core,
                   core->leader_commit < core->verified ? core->leader_commit : core->verified);
    ls__tail_check(core);
}

enum ls_status ls__append_prepare(struct ls_core *core, const struct ls_message *message)
{
    const struct ls_append *append = &message->as.append;
    memset(&core->plan, 0, sizeof core->plan);
    if (core->halted != LS_OK || (message->term < core->hard.term && !LS_MUTANT(L10))) {
        return LS_OK; /* the log is not touched */
    }
    enum ls__verdict verdict =
        ls__plan_prepare(core, append->prev, append->entries, append->count, append->commit);
    return verdict == LS__PLAN_NO_MEMORY ? LS_ERR_NO_MEMORY : LS_OK;
}

static struct ls_outgoing *append_reply(struct ls_core *core, const struct ls_message *message,
                                        bool accepted, ls_index match)
{
    struct ls_outgoing *reply = ls__send(core, LS_MESSAGE_APPEND_REPLY, &message->from);
    reply->message.as.append_reply = (struct ls_append_reply){.accepted = accepted,
                                                              .counts = ls__makes_promises(core),
                                                              .prev = message->as.append.prev,
                                                              .match = match,
                                                              .last = core->trail.last};
    return reply;
}

static ls_index settled(const struct ls_core *core)
{
    return core->commit < core->durable ? core->commit : core->durable;
}

static void reject(struct ls_core *core, const struct ls_message *message)
{
    const struct ls_append *append = &message->as.append;
    struct ls_outgoing *reply = append_reply(core, message, false, settled(core));
    reply->message.as.append_reply.hint = ls__trail_floor(&core->trail, append->prev);
    ls__trace(core, LS_TRACE_DEBUG, "append of {p} after {^} refused, last is {^}", &message->from,
              LS__ARGS(append->prev.term, append->prev.index, ls__trail_last(&core->trail).term,
                       core->trail.last));
    ls__follower_commit(core, append->commit);
    if (append->syncing && append->commit > core->commit) {
        core->ready.gap = true;
        core->ready.gap_target = append->commit;
        core->ready.gap_prev = append->prev;
        core->ready.gap_entries = append->entries;
        core->ready.gap_entries_count = append->count;
    }
}

static void accept(struct ls_core *core, const struct ls_message *message)
{
    const struct ls_append *append = &message->as.append;
    ls__plan_apply(core);
    ls_index verified = core->plan.verified;
    LS_ASSERT(verified <= core->trail.last || append->prev.index < core->trail.anchor.index);
    if (verified > core->verified) {
        core->verified = verified;
    }
    ls__follower_commit(core, append->commit);
    struct ls_outgoing *reply =
        append_reply(core, message, true, LS_MUTANT(L6) ? core->trail.last : verified);
    /* P1: durable before it is acknowledged */
    if (verified > core->durable && !LS_MUTANT(P1_ACK)) {
        uint64_t seq = ls__batches_covering(&core->batches, verified);
        LS_ASSERT(seq > core->durable_seq);
        reply->after = seq > reply->after ? seq : reply->after;
    }
}

void ls__on_append(struct ls_core *core, const struct ls_message *message)
{
    const struct ls__plan *plan = &core->plan;
    if (message->term < core->hard.term && !LS_MUTANT(L10)) {
        /* its term tells the sender; it is about no position, for the sender may lead that term */
        append_reply(core, message, false, settled(core))->message.as.append_reply.prev =
            (struct ls_cursor){0, 0};
        return;
    }
    if (message->term == core->hard.term && core->role == LS_ROLE_LEADER) {
        ls__trace(core, LS_TRACE_ERROR, "{p} also leads term {}: ignored", &message->from,
                  LS__ARGS(message->term));
        return;
    }
    if (plan->verdict == LS__PLAN_MALFORMED) {
        ls__trace(core, LS_TRACE_ERROR, "a configuration of {p} cannot be read: append ignored",
                  &message->from, LS__ARGS(0));
        return;
    }
    ls__become_follower(core, message->term, &message->from);
    ls__tail_heard(core, message->as.append.prev.index, message->as.append.commit);
    if (plan->verdict == LS__PLAN_DIVERGED && !LS_MUTANT(P4_DIVERGED)) {
        ls__trace(core, LS_TRACE_ERROR, "{p} contradicts the committed entry {^}", &message->from,
                  LS__ARGS(ls__trail_term(&core->trail, plan->conflict), plan->conflict));
        ls__halt(core, LS_ERR_DIVERGED, "a leader contradicts a committed entry");
        return;
    }
    if (plan->verdict == LS__PLAN_FULL) {
        ls__halt_full(core);
    } else if (plan->verdict != LS__PLAN_OK) {
        reject(core, message);
    } else {
        accept(core, message);
    }
}
