/* SPDX-License-Identifier: MIT */
/*
 * Leadership transfer (thesis 3.10): accept no proposals, bring the target up to date, tell it to
 * campaign at once, and go on as before if it has not taken over within one election timeout.
 */
#include "core_state.h"

/* A voter that can be told so: bonded, and heard lately. */
static bool fit_to_lead(const struct ls_core *core, uint32_t at)
{
    const struct ls__peer *peer = &core->peers[at];
    return !ls_peer_id_equal(&peer->id, &core->self) && ls__promise_counts(core, at) &&
           peer->counts && peer->linked && peer->heard_us != 0 &&
           core->now_us - peer->heard_us < core->election_us;
}

/* Of those the one that holds the most, and of equals the one heard last; or -1. One that answers
 * nothing any more falls behind in the first, or, where nothing is written, in the second. */
static int most_up_to_date(const struct ls_core *core)
{
    const struct ls__peer *best = NULL;
    for (uint32_t i = 0; i < core->peers_count; i++) {
        const struct ls__peer *peer = &core->peers[i];
        bool better = best == NULL || peer->match > best->match ||
                      (peer->match == best->match && peer->heard_us > best->heard_us);
        if (better && fit_to_lead(core, i)) {
            best = peer;
        }
    }
    return best == NULL ? -1 : (int)(best - core->peers);
}

/* To the member at this place, which may be the second: the deadline stands. */
static void transfer_begin(struct ls_core *core, uint32_t at)
{
    core->transferring = true;
    core->transfer_sent = false;
    core->transfer_to = core->peers[at].id;
    ls__trace(core, LS_TRACE_INFO, "hands over to {p}, which holds {} of {}", &core->transfer_to,
              LS__ARGS(core->peers[at].match, core->trail.last));
    ls__progress_send(core, at);
    ls__transfer_advance(core);
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
    bool any = ls_peer_id_is_zero(to);
    int at = any ? most_up_to_date(core) : ls__place(core, to);
    if (at < 0 || !ls__quorum_voter(ls__view(core), (uint32_t)at) ||
        ls__standing_of(core, (uint32_t)at) != LS_STANDING_COUNTS) {
        core->ready.transfer_status = LS_ERR_NOT_FOUND;
        return;
    }
    core->transfer_any = any;
    core->transfer_deadline_us = core->now_us + core->election_us;
    transfer_begin(core, (uint32_t)at);
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

/* The bond to `peer` came up or went down: what was on its way is lost. Where nobody was named
 * another one takes over at once; the member that was named may come back in time. */
void ls__transfer_link(struct ls_core *core, const struct ls__peer *peer)
{
    if (!core->transferring || !ls_peer_id_equal(&peer->id, &core->transfer_to)) {
        return;
    }
    core->transfer_sent = false;
    if (peer->linked) {
        ls__transfer_advance(core);
        return;
    }
    if (!core->transfer_any) {
        return;
    }
    int at = most_up_to_date(core);
    if (at >= 0) {
        transfer_begin(core, (uint32_t)at);
        return;
    }
    ls__trace(core, LS_TRACE_WARN, "{p} left, and nobody else can take over: goes on in term {}",
              &peer->id, LS__ARGS(core->hard.term));
    core->transferring = false;
}

void ls__transfer_tick(struct ls_core *core)
{
    if (core->transferring && core->now_us >= core->transfer_deadline_us) {
        ls__trace(core, LS_TRACE_WARN, "{p} did not take over: goes on in term {}",
                  &core->transfer_to, LS__ARGS(core->hard.term));
        core->transferring = false;
    }
}
