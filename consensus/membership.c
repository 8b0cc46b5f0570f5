/* SPDX-License-Identifier: MIT */
/*
 * The configurations of the log: they act when appended, go when truncated, travel with snapshots
 * (P5, thesis 4.1). Until the first one arrives the founders stand in for it.
 */
#include "core_state.h"

const struct ls_configuration *ls__view(const struct ls_core *core)
{
    if (core->configurations_count > 0) {
        return &core->configurations[core->configurations_count - 1].configuration;
    }
    return &core->founders;
}

bool ls__founding(const struct ls_core *core)
{
    return core->configurations_count == 0;
}

int ls__place(const struct ls_core *core, const struct ls_peer_id *id)
{
    const struct ls_configuration *view = ls__view(core);
    const struct ls_member *member = ls_configuration_find(view, id);
    return member == NULL ? -1 : (int)(member - view->members);
}

struct ls__peer *ls__peer_find(struct ls_core *core, const struct ls_peer_id *id)
{
    int at = ls__place(core, id);
    return at < 0 ? NULL : &core->peers[at];
}

bool ls__configurations_reserve(struct ls_core *core, size_t more)
{
    size_t needed = core->configurations_count + more;
    struct ls_configuration_at *grown =
        ls__grow(&core->env, core->configurations, &core->configurations_capacity,
                 needed == 0 ? 1 : needed, sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    core->configurations = grown;
    return true;
}

void ls__members_refresh(struct ls_core *core)
{
    const struct ls_configuration *view = ls__view(core);
    struct ls__peer before[LS_MEMBERS_MAX];
    uint32_t before_count = core->peers_count;
    memcpy(before, core->peers, sizeof before);
    for (uint32_t i = 0; i < view->count; i++) {
        struct ls__peer *peer = &core->peers[i];
        memset(peer, 0, sizeof *peer);
        peer->id = view->members[i].id;
        peer->contact_us = core->now_us;
        ls__progress_reset(core, peer);
        for (uint32_t j = 0; j < before_count; j++) {
            if (ls_peer_id_equal(&before[j].id, &peer->id)) {
                *peer = before[j];
            }
        }
    }
    core->peers_count = view->count;
    core->ready.configuration_changed = true;
    if (ls__place(core, &core->self) >= 0) {
        core->removed = false;
    }
}

void ls__configurations_truncate(struct ls_core *core, ls_index from)
{
    size_t before = core->configurations_count;
    while (core->configurations_count > 0 &&
           core->configurations[core->configurations_count - 1].index >= from && !LS_MUTANT(P5)) {
        core->configurations_count--;
    }
    if (core->configurations_count != before) {
        ls__trace(core, LS_TRACE_INFO, "configuration reverted: truncated from {}", NULL,
                  LS__ARGS(from));
        ls__members_refresh(core);
    }
}

void ls__configurations_prune(struct ls_core *core, ls_index upto)
{
    size_t gone = 0;
    while (gone + 1 < core->configurations_count && core->configurations[gone + 1].index <= upto) {
        gone++;
    }
    if (gone > 0) {
        core->configurations_count -= gone;
        memmove(core->configurations, core->configurations + gone,
                core->configurations_count * sizeof *core->configurations);
    }
}

const struct ls_configuration *ls__configuration_committed(const struct ls_core *core)
{
    for (size_t i = core->configurations_count; i > 0; i--) {
        if (core->configurations[i - 1].index <= core->commit) {
            return &core->configurations[i - 1].configuration;
        }
    }
    return NULL;
}

static bool incarnation_fits(const struct ls_member *member, const struct ls_incarnation *met)
{
    static const struct ls_incarnation none = {{0}};
    return LS_MUTANT(P14) || ls_incarnation_equal(&member->incarnation, &none) ||
           ls_incarnation_equal(&member->incarnation, met);
}

enum ls_standing ls__standing(const struct ls_core *core)
{
    const struct ls_configuration *view = ls__view(core);
    int at = ls__place(core, &core->self);
    if (core->halted != LS_OK) {
        return LS_STANDING_HALTED;
    }
    if (at < 0) {
        return LS_STANDING_NOT_MEMBER;
    }
    if (!ls__quorum_voter(view, (uint32_t)at)) {
        return LS_STANDING_OBSERVER;
    }
    if (!incarnation_fits(&view->members[at], &core->incarnation)) {
        return LS_STANDING_OTHER_INCARNATION;
    }
    if (core->tail_unknown) {
        return LS_STANDING_TAIL_UNKNOWN;
    }
    return ls__founding(core) ? LS_STANDING_FOUNDING : LS_STANDING_COUNTS;
}

bool ls__makes_promises(const struct ls_core *core)
{
    enum ls_standing standing = ls__standing(core);
    return standing == LS_STANDING_COUNTS || standing == LS_STANDING_FOUNDING;
}

bool ls__promise_counts(const struct ls_core *core, uint32_t at)
{
    const struct ls_configuration *view = ls__view(core);
    const struct ls__peer *peer = &core->peers[at];
    return ls__quorum_voter(view, at) && peer->met &&
           incarnation_fits(&view->members[at], &peer->incarnation);
}

enum ls_standing ls__standing_of(const struct ls_core *core, uint32_t at)
{
    const struct ls_configuration *view = ls__view(core);
    const struct ls__peer *peer = &core->peers[at];
    if (!ls__quorum_voter(view, at)) {
        return LS_STANDING_OBSERVER;
    }
    if (peer->met && !incarnation_fits(&view->members[at], &peer->incarnation)) {
        return LS_STANDING_OTHER_INCARNATION;
    }
    if (peer->heard_us != 0 && !peer->counts) {
        return LS_STANDING_TAIL_UNKNOWN;
    }
    return ls__founding(core) ? LS_STANDING_FOUNDING : LS_STANDING_COUNTS;
}

void ls__tail_heard(struct ls_core *core, ls_index match, ls_index commit)
{
    if (core->leader_counted == UINT64_MAX) {
        core->leader_counted = match > commit ? match : commit;
    }
}

/*
 * P11: this member may have acknowledged what it has lost, also more than its guard knew of, and
 * leaders may still commit with that. So it counts again when it holds, durable,
 *   - an entry of the present leader's term: in front of it is all that leaders before this one
 *     commit, for this one was elected without this member's vote, or before the loss;
 *   - up to what this leader counted on when it was first heard: what it had acknowledged by then,
 *     if it did not know of the loss, and if it did, what it had committed.
 * The store is told with a batch of its own, which also holds the promise that maybe only the guard
 * kept: else the same loss would be met at each start, and the next batch may be long in coming.
 */
void ls__tail_check(struct ls_core *core)
{
    ls_index here = core->verified < core->durable ? core->verified : core->durable;
    bool counted = here >= core->leader_counted ||
                   (LS_MUTANT(P11_COUNTED) && core->leader_counted != UINT64_MAX);
    if (!core->tail_unknown || !counted || ls__trail_term(&core->trail, here) != core->hard.term) {
        return;
    }
    core->tail_unknown = false;
    core->ready.hard_state_changed = !LS_MUTANT(F4_OWED);
    (void)ls__persist(core);
    ls__trace(core, LS_TRACE_INFO, "tail known again, {} is durable: counts again", NULL,
              LS__ARGS(here));
}

const char *ls_standing_text(enum ls_standing standing)
{
    switch (standing) {
    case LS_STANDING_COUNTS:
        return "counts";
    case LS_STANDING_FOUNDING:
        return "founding: waiting for every founder";
    case LS_STANDING_OBSERVER:
        return "does not count: its role is to observe";
    case LS_STANDING_OTHER_INCARNATION:
        return "does not count: its data directory was re-created";
    case LS_STANDING_TAIL_UNKNOWN:
        return "does not count: its log ends before what it may have acknowledged";
    case LS_STANDING_NOT_MEMBER:
        return "does not count: it is not in the configuration";
    case LS_STANDING_HALTED:
        return "does not count: it is halted";
    }
    return "unknown standing";
}
