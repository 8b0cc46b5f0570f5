/* SPDX-License-Identifier: MIT */
/*
 * What state sync brings: entries fetched from other members, and a snapshot the machine stands at.
 *
 * Fetched entries obey the rule of AppendEntries (append.c). With term 0 they are committed on the
 * member that served them, which is trusted to follow the protocol (docs/architecture.md, Trust),
 * so commit may follow up to their end: at most as far as a leader of the present term has told, if
 * one has. Entries that are a leader's uncommitted ones are taken in that leader's term only, and
 * commit moves with what that leader told, never without.
 */
#include "core_state.h"

static ls_term last_term(const struct ls_event *event)
{
    uint32_t count = event->as.synced.count;
    return count == 0 ? event->as.synced.prev.term : event->as.synced.entries[count - 1].term;
}

static bool synced_well_formed(const struct ls_event *event)
{
    ls_term before = event->as.synced.prev.term;
    for (uint32_t i = 0; i < event->as.synced.count; i++) {
        const struct ls_entry *entry = &event->as.synced.entries[i];
        if (entry->term == 0 || entry->term < before || entry->kind < LS_ENTRY_COMMAND ||
            entry->kind > LS_ENTRY_MARKER) {
            return false;
        }
        before = entry->term;
    }
    return event->as.synced.term == 0 || before <= event->as.synced.term;
}

/* Is the event of use at all? Decided the same way in both halves of the step. */
static bool synced_applies(const struct ls_core *core, const struct ls_event *event)
{
    ls_term term = event->as.synced.term;
    return core->halted == LS_OK && core->role != LS_ROLE_LEADER && synced_well_formed(event) &&
           (term == 0 || term >= core->hard.term);
}

enum ls_status ls__sync_prepare(struct ls_core *core, const struct ls_event *event)
{
    memset(&core->plan, 0, sizeof core->plan);
    if (event->kind == LS_EVENT_RESTORED) {
        return ls__configurations_reserve(core, 1) ? LS_OK : LS_ERR_NO_MEMORY;
    }
    if (!synced_applies(core, event)) {
        return LS_OK;
    }
    /* committed entries may leave the cache again: others hold them */
    ls_index floor = event->as.synced.term == 0 ? UINT64_MAX : event->as.synced.commit;
    enum ls__verdict verdict = ls__plan_prepare(
        core, event->as.synced.prev, event->as.synced.entries, event->as.synced.count, floor);
    return verdict == LS__PLAN_NO_MEMORY ? LS_ERR_NO_MEMORY : LS_OK;
}

static void synced_ignore(struct ls_core *core, const struct ls_event *event)
{
    ls__trace(
        core, LS_TRACE_INFO, "{} fetched entries after {^} ignored", NULL,
        LS__ARGS(event->as.synced.count, event->as.synced.prev.term, event->as.synced.prev.index));
}

void ls__on_synced(struct ls_core *core, const struct ls_event *event)
{
    const struct ls__plan *plan = &core->plan;
    if (!synced_applies(core, event) || plan->verdict == LS__PLAN_MISMATCH ||
        plan->verdict == LS__PLAN_MALFORMED) {
        synced_ignore(core, event);
        return;
    }
    if (plan->verdict == LS__PLAN_DIVERGED) {
        ls__halt(core, LS_ERR_DIVERGED, "fetched entries contradict a committed entry");
        return;
    }
    if (plan->verdict == LS__PLAN_FULL) {
        ls__halt_full(core);
        return;
    }
    ls_term term = event->as.synced.term;
    ls_term raised = term > last_term(event) ? term : last_term(event);
    if (raised > core->hard.term && !LS_MUTANT(P4_TERM)) {
        ls__become_follower(core, raised, NULL); /* P4: the term rises in the same batch */
    } else if (core->role != LS_ROLE_FOLLOWER) {
        ls__become_follower(core, core->hard.term, NULL);
    }
    ls__plan_apply(core);
    ls_index end = plan->verified < core->trail.last ? plan->verified : core->trail.last;
    ls_index commit = event->as.synced.commit < end ? event->as.synced.commit : end;
    if (term != 0) {
        core->verified = end > core->verified ? end : core->verified;
    }
    if ((term != 0 || core->leader_commit > 0) && core->leader_commit < commit) {
        commit = core->leader_commit;
    }
    ls__commit_set(core, commit);
    ls__tail_check(core);
}

/*
 * P9: a log that holds the anchor with the same term keeps what follows it; otherwise nothing of
 * the log is known to follow the snapshot.
 */
void ls__on_restored(struct ls_core *core, const struct ls_event *event)
{
    struct ls_cursor anchor = event->as.restored.anchor;
    if (core->halted != LS_OK || anchor.index <= core->commit || anchor.term == 0) {
        ls__trace(core, LS_TRACE_INFO, "snapshot at {^} ignored, commit is {}", NULL,
                  LS__ARGS(anchor.term, anchor.index, core->commit));
        return;
    }
    if (anchor.term > core->hard.term) {
        ls__become_follower(core, anchor.term, NULL);
    } else if (core->role != LS_ROLE_FOLLOWER) {
        ls__become_follower(core, core->hard.term, NULL);
    }
    bool kept = ls__trail_term(&core->trail, anchor.index) == anchor.term && !LS_MUTANT(P9_DROP);
    kept = LS_MUTANT(P9_KEEP) ? anchor.index <= core->trail.last : kept;
    ls__trace(core, LS_TRACE_INFO,
              kept ? "snapshot at {^} installed, the log up to {} is kept"
                   : "snapshot at {^} installed, the log up to {} is dropped",
              NULL, LS__ARGS(anchor.term, anchor.index, core->trail.last));
    if (kept) {
        ls__configurations_prune(core, anchor.index);
        ls__trail_prune(&core->trail, anchor.index);
        ls__ring_drop(&core->ring, anchor.index + 1);
    } else {
        core->ready.reset = true;
        core->ready.anchor = anchor;
        ls__trail_reset(&core->trail, anchor);
        ls__ring_reset(&core->ring, anchor.index + 1);
        ls__batches_clamp(&core->batches, core->commit + 1);
        ls__batches_push(&core->batches, ls__persist(core), anchor.index);
        core->durable = core->durable < core->commit ? core->durable : core->commit;
        core->verified = core->verified < anchor.index ? core->verified : anchor.index;
        core->configurations_count = 0;
    }
    if (core->configurations_count == 0 || core->configurations[0].index <= anchor.index) {
        core->configurations_count += core->configurations_count == 0;
        core->configurations[0].index = event->as.restored.configuration_index;
        core->configurations[0].configuration = *event->as.restored.configuration;
    }
    ls__members_refresh(core);
    ls__commit_set(core, anchor.index);
    core->applied = anchor.index > core->applied ? anchor.index : core->applied;
}

void ls__on_pruned(struct ls_core *core, ls_index upto)
{
    if (upto <= core->trail.anchor.index) {
        return;
    }
    LS_ASSERT(upto <= core->commit && upto <= core->durable);
    ls__configurations_prune(core, upto);
    ls__trail_prune(&core->trail, upto);
    ls__ring_drop(&core->ring, upto + 1);
}
