/* SPDX-License-Identifier: MIT */
/*
 * Heartbeats: they keep followers from campaigning, carry the commit index and the confirmation
 * round of reads (P7), show loss, and tell the leader that a quorum still follows it
 * (check-quorum).
 */
#include "core_state.h"

void ls__heartbeat_send(struct ls_core *core, uint32_t at)
{
    struct ls__peer *peer = &core->peers[at];
    core->round += core->round == 0;
    struct ls_message *message = &ls__send(core, LS_MESSAGE_HEARTBEAT, &peer->id)->message;
    ls_index sent = peer->state == LS_PROGRESS_PIPELINE ? peer->next - 1 : peer->match;
    message->as.heartbeat = (struct ls_heartbeat){.commit = core->commit,
                                                  .sent = sent,
                                                  .round = core->round,
                                                  .prune_safe = ls__prune_safe(core),
                                                  .syncing = peer->state == LS_PROGRESS_SYNCING};
    peer->told_commit = core->commit;
    bool answered = peer->check_round == 0 || core->now_us - peer->check_us >= core->election_us;
    if (answered && peer->state == LS_PROGRESS_PIPELINE && peer->append_round < core->round) {
        peer->check_round = core->round;
        peer->check_sent = sent;
        peer->check_us = core->now_us;
    }
}

void ls__heartbeat_round(struct ls_core *core, bool voters_only)
{
    const struct ls_configuration *view = ls__view(core);
    core->round++;
    for (uint32_t i = 0; i < view->count; i++) {
        if (ls_peer_id_equal(&view->members[i].id, &core->self) ||
            (voters_only && !ls__quorum_voter(view, i))) {
            continue;
        }
        ls__heartbeat_send(core, i);
    }
}

void ls__on_heartbeat(struct ls_core *core, const struct ls_message *message)
{
    const struct ls_heartbeat *heartbeat = &message->as.heartbeat;
    bool stale = message->term < core->hard.term;
    if (!stale && message->term == core->hard.term && core->role == LS_ROLE_LEADER) {
        ls__trace(core, LS_TRACE_ERROR, "{p} also leads term {}: ignored", &message->from,
                  LS__ARGS(message->term));
        return;
    }
    if (!stale) {
        ls__become_follower(core, message->term, &message->from);
        core->prune_safe = heartbeat->prune_safe;
        ls__tail_heard(core, heartbeat->sent, heartbeat->commit);
        ls__follower_commit(core, heartbeat->commit);
        if (heartbeat->syncing && heartbeat->commit > core->commit) {
            core->ready.gap = true;
            core->ready.gap_target = heartbeat->commit;
        }
    }
    struct ls_message *reply = &ls__send(core, LS_MESSAGE_HEARTBEAT_REPLY, &message->from)->message;
    /* the reply has the term of today: it must not look like one to a round of today (R2) */
    reply->as.heartbeat_reply = (struct ls_heartbeat_reply){
        .round = stale ? 0 : heartbeat->round,
        .last = core->trail.last,
        .match = core->commit < core->durable ? core->commit : core->durable,
        .counts = ls__makes_promises(core)};
}

/* What the answer to a heartbeat says about AppendEntries sent before it (L15). */
static void loss_check(struct ls_core *core, struct ls__peer *peer,
                       const struct ls_heartbeat_reply *reply)
{
    if (peer->state == LS_PROGRESS_PROBE) {
        if (peer->probing && reply->round > peer->append_round) {
            peer->probing = false; /* lost, refused and the refusal lost, or waiting for its disk */
            peer->probe_empty = reply->last >= peer->probe_last;
        }
        return;
    }
    if (peer->state == LS_PROGRESS_SYNCING) {
        peer->flight_from = peer->next;
        return;
    }
    if (peer->check_round == 0 || reply->round < peer->check_round) {
        return;
    }
    peer->check_round = 0;
    if (LS_MUTANT(L15)) {
        return;
    }
    if (reply->last < peer->check_sent) {
        ls__trace(core, LS_TRACE_INFO, "{p} ends at {}, {} was sent: sends again", &peer->id,
                  LS__ARGS(reply->last, peer->check_sent));
        ls__progress_probe(peer);
    } else if (peer->match < peer->check_sent && peer->next >= core->ring.first) {
        /* it has them: the acknowledgement waits for its disk, or was lost; what comes after them
         * is in the cache, else it is left to state sync */
        ls__progress_ask(core, peer);
    }
}

void ls__on_heartbeat_reply(struct ls_core *core, const struct ls_message *message)
{
    const struct ls_heartbeat_reply *reply = &message->as.heartbeat_reply;
    int at = ls__place(core, &message->from);
    if (core->role != LS_ROLE_LEADER || message->term != core->hard.term || at < 0) {
        return;
    }
    struct ls__peer *peer = &core->peers[at];
    if (reply->match > core->trail.last || reply->round > core->round) {
        ls__trace(core, LS_TRACE_ERROR, "{p} acknowledges {}, the log ends at {}: ignored",
                  &message->from, LS__ARGS(reply->match, core->trail.last));
        return;
    }
    ls__progress_heard(core, (uint32_t)at, reply->counts);
    if (reply->counts && reply->round > peer->acked_round) {
        peer->acked_round = reply->round;
    }
    loss_check(core, peer, reply);
    ls__progress_match(core, peer, reply->match);
    ls__leader_commit(core);
    ls__progress_send(core, (uint32_t)at);
    ls__reads_advance(core);
    ls__transfer_advance(core);
}

/*
 * When a quorum was last heard, plus one T. Followers keep a leader for at least T after its last
 * sign, so a leader that gives up T after theirs is never deposed by its own impatience, and one
 * that is cut off has stopped by the time the others may have elected the next.
 */
uint64_t ls__quorum_deadline(const struct ls_core *core)
{
    const struct ls_configuration *view = ls__view(core);
    uint64_t values[LS_MEMBERS_MAX];
    for (uint32_t i = 0; i < view->count; i++) {
        bool self = ls_peer_id_equal(&view->members[i].id, &core->self);
        values[i] = self ? UINT64_MAX : core->peers[i].contact_us;
    }
    uint64_t heard = ls__quorum_value(view, values);
    return heard == UINT64_MAX ? UINT64_MAX : heard + core->election_us;
}

static void commit_notice(struct ls_core *core)
{
    core->notice_deadline_us = UINT64_MAX;
    for (uint32_t i = 0; i < core->peers_count; i++) {
        const struct ls__peer *peer = &core->peers[i];
        if (peer->told_commit < core->commit && !ls_peer_id_equal(&peer->id, &core->self)) {
            ls__heartbeat_send(core, i);
        }
    }
}

/*
 * The others commit, and the disk here finishes nothing: what is not durable fills the cache until
 * every proposal is refused, for as long as the disk hangs. Others can lead (G8, F11).
 */
static bool disk_hangs(struct ls_core *core)
{
    if (core->disk_seq != core->durable_seq || core->durable_seq == core->seq) {
        core->disk_seq = core->durable_seq;
        core->disk_us = core->now_us;
    }
    return core->commit > core->durable &&
           core->now_us - core->disk_us >= LS__DISK_PATIENCE * core->election_us;
}

void ls__leader_tick(struct ls_core *core)
{
    if (disk_hangs(core)) {
        ls__trace(core, LS_TRACE_WARN, "nothing written for {} us: steps down in term {}", NULL,
                  LS__ARGS(core->now_us - core->disk_us, core->hard.term));
        ls__become_follower(core, core->hard.term, NULL);
        return;
    }
    if (core->now_us >= ls__quorum_deadline(core) && !LS_MUTANT(E12)) {
        ls__trace(core, LS_TRACE_WARN, "no quorum heard for {} us: steps down in term {}", NULL,
                  LS__ARGS(core->election_us, core->hard.term));
        ls__become_follower(core, core->hard.term, NULL);
        return;
    }
    ls__transfer_tick(core);
    if (core->now_us >= core->heartbeat_deadline_us) {
        core->heartbeat_deadline_us = core->now_us + core->heartbeat_us;
        core->notice_deadline_us = UINT64_MAX;
        ls__heartbeat_round(core, false);
        ls__reads_advance(core);
    } else if (core->now_us >= core->notice_deadline_us) {
        commit_notice(core);
    }
}
