/* SPDX-License-Identifier: MIT */
/*
 * Every structural invariant of a core, one fact a line. Only a bug of ours can break one.
 */
#include "core_state.h"

static void check_trail(const struct ls_core *core)
{
    const struct ls__trail *trail = &core->trail;
    LS_ASSERT(trail->anchor.index <= trail->last);
    LS_ASSERT((trail->anchor.index == 0) == (trail->anchor.term == 0));
    LS_ASSERT((trail->count == 0) == (trail->anchor.index == trail->last));
    LS_ASSERT(trail->count <= trail->capacity);
    for (size_t i = 0; i < trail->count; i++) {
        LS_ASSERT(trail->runs[i].index <= trail->last);
        if (i == 0) {
            LS_ASSERT(trail->runs[i].index == trail->anchor.index + 1);
            LS_ASSERT(trail->runs[i].term >= trail->anchor.term && trail->runs[i].term > 0);
        } else {
            LS_ASSERT(trail->runs[i].index > trail->runs[i - 1].index);
            LS_ASSERT(trail->runs[i].term > trail->runs[i - 1].term);
        }
    }
    LS_ASSERT(ls__trail_last(trail).term <= core->hard.term);
}

static void check_log(const struct ls_core *core)
{
    LS_ASSERT(core->commit <= core->trail.last);
    LS_ASSERT(core->commit >= core->trail.anchor.index);
    LS_ASSERT(core->applied <= core->commit);
    LS_ASSERT(core->durable <= core->trail.last);
    LS_ASSERT(core->durable_seq <= core->seq && core->hard_seq <= core->seq);
    LS_ASSERT(core->hard.voted || ls_peer_id_is_zero(&core->hard.vote));
    LS_ASSERT(core->ring.first + core->ring.count == core->trail.last + 1);
    LS_ASSERT(core->ring.first > core->trail.anchor.index);
    LS_ASSERT(core->ring.count <= core->ring.capacity);
    LS_ASSERT(core->ring.capacity <= LS_CACHE_ENTRIES_MAX);
    const struct ls__batches *batches = &core->batches;
    LS_ASSERT(batches->count <= batches->capacity);
    struct ls__batch before = {core->durable_seq, 0};
    for (size_t i = 0; i < batches->count; i++) {
        struct ls__batch batch = batches->items[(batches->head + i) & (batches->capacity - 1)];
        LS_ASSERT(batch.seq > before.seq && batch.seq <= core->seq);
        LS_ASSERT(batch.last >= before.last && batch.last <= core->trail.last);
        before = batch;
    }
    /* once all that is under way is durable, all of the log is */
    LS_ASSERT((batches->count > 0 && before.last == core->trail.last) ||
              core->durable == core->trail.last);
}

static void check_members(const struct ls_core *core)
{
    const struct ls_configuration *view = ls__view(core);
    LS_ASSERT(core->peers_count == view->count);
    for (uint32_t i = 0; i < view->count; i++) {
        const struct ls__peer *peer = &core->peers[i];
        LS_ASSERT(ls_peer_id_equal(&peer->id, &view->members[i].id));
        if (core->role == LS_ROLE_LEADER && !ls_peer_id_equal(&peer->id, &core->self)) {
            LS_ASSERT(peer->match < peer->next);
            LS_ASSERT(peer->next <= core->trail.last + 1);
            LS_ASSERT(peer->acked_round <= core->round);
            LS_ASSERT(peer->state != LS_PROGRESS_SYNCING || peer->run_from <= peer->next);
        }
    }
    for (size_t i = 0; i < core->configurations_count; i++) {
        const struct ls_configuration_at *at = &core->configurations[i];
        LS_ASSERT(at->index <= core->trail.last);
        LS_ASSERT(i == 0 || at->index > core->configurations[i - 1].index);
        LS_ASSERT(i == 0 || at->index > core->trail.anchor.index);
        LS_ASSERT(ls_configuration_invalid(&at->configuration) == NULL);
    }
    LS_ASSERT(core->configurations_count > 0 || core->trail.anchor.index == 0);
}

static void check_role(const struct ls_core *core)
{
    bool leads = core->role == LS_ROLE_LEADER;
    LS_ASSERT(leads == (core->own_term_first != 0));
    LS_ASSERT(leads == ls_peer_id_equal(&core->leader, &core->self));
    LS_ASSERT(leads || !core->transferring);
    LS_ASSERT(core->halted == LS_OK || core->role == LS_ROLE_FOLLOWER);
    LS_ASSERT(core->verified <= core->trail.last);
    if (leads) {
        LS_ASSERT(core->hard.voted && ls_peer_id_equal(&core->hard.vote, &core->self));
        LS_ASSERT(ls__trail_term(&core->trail, core->own_term_first) == core->hard.term ||
                  core->own_term_first < core->trail.anchor.index);
        LS_ASSERT(!ls__founding(core));
    }
    if (core->role == LS_ROLE_CANDIDATE) {
        LS_ASSERT(core->hard.voted && ls_peer_id_equal(&core->hard.vote, &core->self));
    }
    LS_ASSERT(core->reads_count <= LS_READS_MAX);
    for (size_t i = 0; i < core->reads_count; i++) {
        LS_ASSERT(core->reads[i].forwarded == (core->role == LS_ROLE_FOLLOWER));
        LS_ASSERT(core->reads[i].round <= core->round);
        LS_ASSERT(
            i == 0 || core->reads[i].round == 0 ||
            (core->reads[i - 1].round != 0 && core->reads[i - 1].round <= core->reads[i].round));
    }
}

static void check_ready(const struct ls_core *core)
{
    const struct ls_ready *ready = &core->ready;
    LS_ASSERT(ready->messages_count <= core->messages_capacity);
    LS_ASSERT(ready->persist_seq != 0 || (!ready->hard_state_changed && !ready->reset &&
                                          !ready->truncate && ready->entries_count == 0));
    LS_ASSERT(ready->entries_count == 0 ||
              ready->append_first + ready->entries_count == core->trail.last + 1);
    for (size_t i = 0; i < ready->messages_count; i++) {
        LS_ASSERT(core->messages[i].after <= core->seq);
    }
}

void ls_core_check(const struct ls_core *core)
{
    check_trail(core);
    check_log(core);
    check_members(core);
    check_role(core);
    check_ready(core);
}
