/* SPDX-License-Identifier: MIT */
/*
 * The driver of the state sync supervisor: what sessions and providers may read of the group, and
 * the one way by which fetched entries enter the log (the core's SYNCED step).
 */
#include "runtime.h"

#include <string.h>

static struct ls_cursor driver_committed(void *self)
{
    const struct ls_group *group = self;
    return (struct ls_cursor){ls_core_term_at(group->core, group->commit), group->commit};
}

static void driver_log_bounds(void *self, ls_index *first, ls_index *last)
{
    const struct ls_group *group = self;
    *first = group->log_first;
    *last = group->durable;
}

static struct ls_cursor driver_log_last(void *self)
{
    const struct ls_group *group = self;
    return (struct ls_cursor){ls_core_term_at(group->core, group->last), group->last};
}

static enum ls_status driver_log_read(void *self, ls_index first, ls_index last, size_t bytes_max,
                                      ls_storage_visit visit, void *arg)
{
    struct ls_group *group = self;
    const struct ls_storage *storage = &group->node->storage;
    return storage->read(storage->self, group->store, first, last, bytes_max, visit, arg);
}

static enum ls_status driver_send(void *self, const struct ls_peer_id *peer, uint32_t tag,
                                  bool to_session, struct ls_span message)
{
    struct ls_group *group = self;
    const struct ls_wire_frame frame = {
        .kind = LS_WIRE_SYNC, .as.sync = {.tag = tag, .to_session = to_session, .bytes = message}};
    return ls__group_send(group, peer, LS_LANE_BULK, &frame);
}

static size_t driver_bonds(void *self, struct ls_sync_bond *out, size_t capacity)
{
    struct ls_group *group = self;
    const struct ls_transport *transport = &group->node->transport;
    size_t count = 0;
    for (size_t i = 0; i < group->peers_count && count < capacity; i++) {
        const struct ls__peer *peer = &group->peers[i];
        if (!peer->up) {
            continue;
        }
        struct ls_bond_info info;
        bool known = transport->bond_info(transport->self, &group->id, &peer->id, &info) == LS_OK;
        out[count++] = (struct ls_sync_bond){.peer = peer->id,
                                             .leader = ls_peer_id_equal(&peer->id, &group->leader),
                                             .rtt_us = known ? info.rtt_us : 0,
                                             .load = peer->note_us != 0 ? peer->note.serves : 0};
    }
    return count;
}

static ls_index driver_log_back(void *self, uint64_t bytes)
{
    const struct ls_group *group = self;
    return ls__sizes_back(&group->sizes, group->commit, bytes);
}

static bool driver_leader(void *self, struct ls_peer_id *out)
{
    const struct ls_group *group = self;
    *out = group->leader;
    return !ls_peer_id_is_zero(&group->leader);
}

static bool driver_is_leader(void *self)
{
    const struct ls_group *group = self;
    return group->role == LS_ROLE_LEADER;
}

static enum ls_status driver_install(void *self, uint64_t token, ls_term term,
                                     struct ls_cursor prev, const struct ls_entry *entries,
                                     uint32_t count, ls_index commit)
{
    struct ls_group *group = self;
    if (group->installs_count == LS__INSTALLS_MAX) {
        return LS_ERR_BUSY;
    }
    struct ls_event event = {
        .kind = LS_EVENT_SYNCED,
        .as.synced = {
            .term = term, .prev = prev, .entries = entries, .count = count, .commit = commit}};
    enum ls_status status = ls__group_step(group, &event, NULL);
    if (status != LS_OK) {
        return status;
    }
    ls_index last = prev.index + count;
    bool taken =
        last <= group->last && (count == 0 || last < group->log_first ||
                                ls_core_term_at(group->core, last) == entries[count - 1].term);
    if (!taken) {
        return LS_ERR_INVALID; /* the core would not append it here */
    }
    /* what was there before may not be durable yet either: all that is staged is */
    group->installs[group->installs_count++] =
        (struct ls__install){token, LS_MUTANT(Y20) ? 0 : group->staged_seq};
    ls__group_touch(group);
    return LS_OK;
}

void ls__catchup_persisted(struct ls_group *group)
{
    size_t kept = 0;
    struct ls__install done[LS__INSTALLS_MAX];
    size_t done_count = 0;
    for (size_t i = 0; i < group->installs_count; i++) {
        struct ls__install install = group->installs[i];
        if (install.seq <= group->persisted_seq) {
            done[done_count++] = install;
        } else {
            group->installs[kept++] = install;
        }
    }
    group->installs_count = kept;
    for (size_t i = 0; i < done_count; i++) {
        ls_supervisor_effect(group->supervisor, done[i].token, LS_OK);
        group->sync_deadline_us = 0; /* to be polled */
    }
}

static void driver_syncing(void *self, bool on)
{
    struct ls_group *group = self;
    group->session_runs = on;
    ls__catchup_report(group);
}

void ls__catchup_report(struct ls_group *group)
{
    if (group->session_reported == group->session_runs) {
        return;
    }
    struct ls_event event = {.kind = LS_EVENT_SYNCING, .as.syncing = group->session_runs};
    if (ls__group_step(group, &event, NULL) == LS_OK) { /* else the next turn does */
        group->session_reported = group->session_runs;
    }
}

/* ---- snapshots ---- */

static enum ls_status driver_begin(void *self, uint64_t token, const struct ls_snapshot *snapshot,
                                   const struct ls_hash *hashes)
{
    return ls__staging_begin(self, token, snapshot, hashes);
}

static bool driver_staged(void *self, uint32_t chunk)
{
    return ls__staging_has(self, chunk);
}

static enum ls_status driver_put(void *self, uint64_t token, uint32_t chunk, struct ls_span bytes)
{
    return ls__staging_put(self, token, chunk, bytes);
}

static enum ls_status driver_publish(void *self, uint64_t token)
{
    return ls__staging_publish(self, token);
}

static bool driver_installing(void *self, struct ls_sync_install *out)
{
    return ls__staging_installing(self, out);
}

static enum ls_status driver_feed_marker(void *self, struct ls_span payload)
{
    const struct ls_entry entry = {.kind = LS_ENTRY_MARKER, .data = payload};
    struct ls_event event = {.kind = LS_EVENT_PROPOSE,
                             .as.propose = {.entries = &entry, .count = 1}};
    const struct ls_ready *ready = NULL;
    enum ls_status status = ls__group_step(self, &event, &ready);
    return status == LS_OK ? ready->propose_status : status;
}

static enum ls_status driver_freeze(void *self, struct ls_sync_frozen *out)
{
    struct ls__frozen *frozen = NULL;
    enum ls_status status = ls__freeze(self, &frozen);
    if (status == LS_OK) {
        *out = (struct ls_sync_frozen){
            .id = frozen->id,
            .anchor = frozen->anchor,
            .configuration_index = frozen->configuration_index,
            .configuration = {frozen->configuration, frozen->configuration_bytes},
            .items = frozen->frozen.items,
            .bytes = frozen->frozen.bytes};
    }
    return status;
}

static enum ls_status driver_iterate(void *self, uint64_t id, struct ls_span from,
                                     ls_item_visit visit, void *arg)
{
    const struct ls__frozen *frozen = ls__frozen_find(self, id);
    return frozen == NULL ? LS_ERR_NOT_FOUND : ls__frozen_iterate(self, frozen, from, visit, arg);
}

static void driver_thaw(void *self, uint64_t id)
{
    struct ls__frozen *frozen = ls__frozen_find(self, id);
    if (frozen != NULL) {
        ls__thaw(self, frozen);
    }
}

bool ls__catchup_snapshots(const struct ls_group *group, const struct ls_statesync *strategies,
                           size_t count)
{
    bool brings = false;
    for (size_t i = 0; i < count; i++) {
        brings = brings || strategies[i].beyond_log;
    }
    return brings && ls__snapshots_able(&group->machine) && group->node->vault.size > 0;
}

enum ls_status ls__catchup_open(struct ls_group *group, const struct ls_statesync *strategies,
                                size_t count, struct ls_error *error)
{
    struct ls_node *node = group->node;
    const struct ls_supervisor_config config = {
        .size = sizeof config,
        .env = &node->env,
        .local = node->id,
        .group = group->id,
        .network = ls_identity_network(node->identity),
        .driver = {.size = sizeof config.driver,
                   .self = group,
                   .committed = driver_committed,
                   .log_bounds = driver_log_bounds,
                   .log_last = driver_log_last,
                   .log_read = driver_log_read,
                   .send = driver_send,
                   .bonds = driver_bonds,
                   .log_back = driver_log_back,
                   .leader = driver_leader,
                   .is_leader = driver_is_leader,
                   .install = driver_install,
                   .syncing = driver_syncing,
                   .begin = driver_begin,
                   .staged = driver_staged,
                   .put = driver_put,
                   .publish = driver_publish,
                   .installing = driver_installing,
                   .feed_marker = driver_feed_marker,
                   .freeze = driver_freeze,
                   .iterate = driver_iterate,
                   .thaw = driver_thaw},
        .strategies = strategies,
        .strategies_count = count,
        .machine_snapshots = group->snap.whole && group->snap.vault != NULL,
        .machine_publishes = group->snap.able && group->snap.vault != NULL};
    return ls_supervisor_open(&config, &group->supervisor, error);
}
