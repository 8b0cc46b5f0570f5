/* SPDX-License-Identifier: MIT */
/*
 * Linearizable reads (P7, thesis 6.4). The index is captured before its round starts; the round is
 * a number that only grows, so no answer to an earlier one can confirm a later read (R2). A read
 * starts a round at once if none is under way, else it shares the next: one round per round trip,
 * not per read.
 *
 * The queue is in order of arrival: first the reads of the round under way, then those without one.
 */
#include "core_state.h"

bool ls__read_prepare(struct ls_core *core)
{
    if (core->reads_count >= LS_READS_MAX) {
        return true; /* it will be refused */
    }
    struct ls__read *reads = ls__grow(&core->env, core->reads, &core->reads_capacity,
                                      core->reads_count + 1, sizeof *reads);
    if (reads == NULL) {
        return false;
    }
    core->reads = reads;
    return true;
}

static void remote_answer(struct ls_core *core, const struct ls__read *read, bool valid,
                          ls_index index)
{
    struct ls_message *reply = &ls__send(core, LS_MESSAGE_READ_INDEX_REPLY, &read->from)->message;
    reply->as.read_index_reply =
        (struct ls_read_index_reply){.token = read->token, .valid = valid, .index = index};
}

static void answer(struct ls_core *core, const struct ls__read *read, enum ls_status status,
                   ls_index index)
{
    if (read->remote) {
        remote_answer(core, read, status == LS_OK, index);
    } else {
        ls__read_result(core, read->token, status, index);
    }
}

static void reads_remove(struct ls_core *core, size_t from, size_t count)
{
    LS_ASSERT(from + count <= core->reads_count);
    core->reads_count -= count;
    if (count == 0) {
        return; /* there may be no array yet */
    }
    memmove(core->reads + from, core->reads + from + count,
            (core->reads_count - from) * sizeof *core->reads);
}

void ls__reads_fail(struct ls_core *core)
{
    for (size_t i = 0; i < core->reads_count; i++) {
        answer(core, &core->reads[i], LS_ERR_NO_LEADER, 0);
    }
    core->reads_count = 0;
}

/*
 * A member that restarted may ask with the same token again, and an index captured for the process
 * before it would be too old. What waits for the leader's answer here is as good as lost.
 */
void ls__reads_unlink(struct ls_core *core, const struct ls_peer_id *peer)
{
    if (ls_peer_id_equal(peer, &core->leader)) {
        ls__reads_fail(core);
    }
    size_t kept = 0;
    for (size_t i = 0; i < core->reads_count; i++) {
        if (!core->reads[i].remote || !ls_peer_id_equal(&core->reads[i].from, peer)) {
            core->reads[kept++] = core->reads[i];
        }
    }
    core->reads_count = kept;
}

static uint64_t confirmed_round(const struct ls_core *core)
{
    const struct ls_configuration *view = ls__view(core);
    uint64_t values[LS_MEMBERS_MAX];
    for (uint32_t i = 0; i < view->count; i++) {
        const struct ls__peer *peer = &core->peers[i];
        if (ls_peer_id_equal(&peer->id, &core->self)) {
            values[i] = ls__makes_promises(core) ? core->round : 0;
        } else {
            values[i] = peer->counts && ls__promise_counts(core, i) ? peer->acked_round : 0;
        }
        values[i] = LS_MUTANT(R13) && i == 0 ? core->round : values[i];
    }
    return LS_MUTANT(R3) ? core->round : ls__quorum_value(view, values);
}

static void answer_confirmed(struct ls_core *core)
{
    uint64_t confirmed = confirmed_round(core);
    size_t count = 0;
    while (count < core->reads_count && core->reads[count].round != 0 &&
           core->reads[count].round <= confirmed) {
        answer(core, &core->reads[count], LS_OK, core->reads[count].index);
        count++;
    }
    if (count > 0) {
        reads_remove(core, 0, count);
    }
}

void ls__reads_advance(struct ls_core *core)
{
    if (core->role != LS_ROLE_LEADER || core->reads_count == 0) {
        return;
    }
    answer_confirmed(core);
    if (core->reads_count == 0 || core->reads[0].round != 0 ||
        (core->commit < core->own_term_first && !LS_MUTANT(R1))) {
        return; /* nothing waits, or a round is under way, or R1: no commit of the own term */
    }
    for (size_t i = 0; i < core->reads_count; i++) {
        if (core->reads[i].index == 0) {
            core->reads[i].index = core->commit;
        }
        core->reads[i].round = core->round + !LS_MUTANT(R2);
    }
    ls__heartbeat_round(core, true);
    if (!LS_MUTANT(R5)) {
        answer_confirmed(core); /* a single voter confirms itself (R5) */
    }
}

static void read_add(struct ls_core *core, const struct ls__read *read)
{
    LS_ASSERT(core->reads_count < core->reads_capacity);
    core->reads[core->reads_count++] = *read;
}

/* The index is taken now, before any round that may confirm it begins. */
static ls_index captured(const struct ls_core *core)
{
    return core->commit >= core->own_term_first || LS_MUTANT(R1) ? core->commit : 0;
}

void ls__on_read(struct ls_core *core, uint64_t token)
{
    struct ls__read read = {.token = token, .since_us = core->now_us};
    if (core->halted != LS_OK) {
        ls__read_result(core, token, LS_ERR_HALTED, 0);
    } else if (core->reads_count >= LS_READS_MAX) {
        ls__read_result(core, token, LS_ERR_BUSY, 0);
    } else if (core->role == LS_ROLE_LEADER) {
        read.index = captured(core);
        read_add(core, &read);
        ls__reads_advance(core);
    } else if (ls_peer_id_is_zero(&core->leader)) {
        ls__read_result(core, token, LS_ERR_NO_LEADER, 0);
    } else {
        read.forwarded = true;
        read_add(core, &read);
        struct ls_message *ask = &ls__send(core, LS_MESSAGE_READ_INDEX, &core->leader)->message;
        ask->as.read_index.token = token;
    }
}

void ls__on_read_index(struct ls_core *core, const struct ls_message *message)
{
    struct ls__read read = {.token = message->as.read_index.token,
                            .from = message->from,
                            .remote = true,
                            .since_us = core->now_us};
    if (core->role != LS_ROLE_LEADER || message->term != core->hard.term ||
        ls__place(core, &message->from) < 0 || core->reads_count >= LS_READS_MAX) {
        remote_answer(core, &read, false, 0);
        return;
    }
    read.index = captured(core);
    read_add(core, &read);
    ls__reads_advance(core);
}

void ls__on_read_index_reply(struct ls_core *core, const struct ls_message *message)
{
    const struct ls_read_index_reply *reply = &message->as.read_index_reply;
    if (core->role != LS_ROLE_FOLLOWER || !ls_peer_id_equal(&message->from, &core->leader)) {
        return;
    }
    for (size_t i = 0; i < core->reads_count; i++) {
        if (!core->reads[i].forwarded || core->reads[i].token != reply->token) {
            continue;
        }
        reads_remove(core, i, 1);
        bool valid = reply->valid && message->term == core->hard.term;
        if (valid) {
            ls__follower_commit(core, reply->index); /* the reader need not wait for a heartbeat */
        }
        ls__read_result(core, reply->token, valid ? LS_OK : LS_ERR_NO_LEADER,
                        valid ? reply->index : 0);
        return;
    }
}

/* A forwarded read whose answer was lost ends after two election timeouts. */
uint64_t ls__reads_deadline(const struct ls_core *core)
{
    if (core->reads_count == 0 || !core->reads[0].forwarded) {
        return UINT64_MAX;
    }
    return core->reads[0].since_us + 2 * core->election_us;
}

void ls__reads_expire(struct ls_core *core)
{
    size_t count = 0;
    while (count < core->reads_count && core->reads[count].forwarded &&
           core->now_us >= core->reads[count].since_us + 2 * core->election_us) {
        answer(core, &core->reads[count], LS_ERR_NO_LEADER, 0);
        count++;
    }
    reads_remove(core, 0, count);
}
