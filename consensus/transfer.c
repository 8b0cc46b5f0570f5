/* SPDX-License-Identifier: MIT */
/*
 * Leadership transfer (thesis 3.10): accept no proposals, bring the target up to date, tell it to
 * campaign at once, and go on as before if it has not taken over within one election timeout.
 */
#include "core_state.h"

static bool fit_to_lead(const struct ls_core *core, uint32_t at)
{
    const struct ls__peer *peer = &core->peers[at];
    return !ls_peer_id_equal(&peer->id, &core->self) && ls__promise_counts(core, at) &&
           peer->counts && peer->heard_us != 0 && core->now_us - peer->heard_us < core->election_us;
}

/* The voter that was heard lately and holds the most, or -1. */
static int most_up_to_date(const struct ls_core *core)
{
    int best = -1;
    for (uint32_t i = 0; i < core->peers_count; i++) {
        if (fit_to_lead(core, i) && (best < 0 || core->peers[i].match > core->peers[best].match)) {
            best = (int)i;
        }
    }
    return best;
}

void ls__on_transfer(struct ls_core *core, const struct ls_peer_id *to)
{
    core->ready.transfer_status = LS_OK;
    if (core->role != LS_ROLE_LEADER) {
        core->ready.transfer_status = LS_ERR_NOT_LEADER;
        return;
    }
    if (core->transferring) {
        core->ready.transfer_status = LS_ERR_BUSY;
        return;
    }
    if (ls_peer_id_equal(to, &core->self)) {
        return; /* it leads already */
    }
    int at = ls_peer_id_is_zero(to) ? most_up_to_date(core) : ls__place(core, to);
    if (at < 0 || !ls__quorum_voter(ls__view(core), (uint32_t)at) ||
        ls__standing_of(core, (uint32_t)at) != LS_STANDING_COUNTS) {
        core->ready.transfer_status = LS_ERR_NOT_FOUND;
        return;
    }
    core->transferring = true;
    core->transfer_sent = false;
    core->transfer_to = core->peers[at].id;
    core->transfer_deadline_us = core->now_us + core->election_us;
    ls__trace(core, LS_TRACE_INFO, "hands over to {p}, which holds {} of {}", &core->transfer_to,
              LS__ARGS(core->peers[at].match, core->trail.last));
    ls__progress_send(core, (uint32_t)at);
    ls__transfer_advance(core);
}

void ls__transfer_advance(struct ls_core *core)
{
    if (core->role != LS_ROLE_LEADER || !core->transferring || core->transfer_sent) {
        return;
    }
    const struct ls__peer *peer = ls__peer_find(core, &core->transfer_to);
    if (peer == NULL || (peer->match != core->trail.last && !LS_MUTANT(TRANSFER_EARLY))) {
        return;
    }
    core->transfer_sent = true;
    (void)ls__send(core, LS_MESSAGE_TIMEOUT_NOW, &peer->id);
}

void ls__transfer_tick(struct ls_core *core)
{
    if (core->transferring && core->now_us >= core->transfer_deadline_us) {
        ls__trace(core, LS_TRACE_WARN, "{p} did not take over: goes on in term {}",
                  &core->transfer_to, LS__ARGS(core->hard.term));
        core->transferring = false;
    }
}
