/* SPDX-License-Identifier: MIT */
/*
 * What a session fetched: staged in a file beside the present state, and installed so that an end
 * of the process at any step leaves the one state or the other, never a mixture:
 *
 *      loading     every staged chunk is read back, checked, and given to the machine's new state
 *                  (load.c)
 *      syncing     the staged file is durable
 *  (a) marking     the mark says: this anchor is being installed
 *  (b) publishing  the new state takes the place of the old one, durably
 *  (c) restoring   the store's log follows the anchor; then the mark goes
 *
 * A join finds the mark (snapshots.c): before (b) it is dropped, the old state is served, and what
 * is staged is there for the next session; after it (c) is done before any message leaves.
 */
#include "runtime.h"

#include <string.h>

static void finish(struct ls_group *group, enum ls_status status)
{
    struct ls__snapshots *snapshots = &group->snap;
    uint64_t token = snapshots->token;
    snapshots->step = LS__INSTALL_NONE;
    snapshots->token = 0;
    if (status != LS_OK) {
        ls__group_trace(group, LS_TRACE_WARN, "the install of a snapshot ends", NULL,
                        ls_status_text(status));
    }
    if (token != 0) {
        ls_supervisor_effect(group->supervisor, token, status);
        group->sync_deadline_us = 0; /* to be polled */
    }
}

static void wait(struct ls_group *group)
{
    ls__group_retry(group, LS__SNAPSHOT_SYNC_US);
}

/* ---- staging --------------------------------------------------------------------------------- */

static enum ls_status staged_remove(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    ls__load_drop(group);
    ls__pack_close(&snapshots->staged);
    snapshots->staged_open = false;
    enum ls_status status =
        snapshots->vault->remove(snapshots->vault->self, &group->id, LS_VAULT_STAGED);
    snapshots->staged_left = status != LS_OK;
    return status;
}

static enum ls_status staged_open(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (snapshots->staged_open) {
        return LS_OK;
    }
    enum ls_status status = ls__pack_open(&snapshots->staged, &group->node->env, snapshots->vault,
                                          &group->id, &snapshots->incarnation, LS_VAULT_STAGED);
    /* a bad place of the disk, or a file of another version: of no use, and nothing is lost */
    if ((status == LS_ERR_IO || status == LS_ERR_FORMAT) && staged_remove(group) == LS_OK) {
        status = ls__pack_open(&snapshots->staged, &group->node->env, snapshots->vault, &group->id,
                               &snapshots->incarnation, LS_VAULT_STAGED);
    }
    snapshots->staged_open = status == LS_OK;
    snapshots->staged_left = true;
    return status;
}

static bool same_table(const struct ls__pack *pack, const struct ls_snapshot *snapshot)
{
    return pack->whole && ls_cursor_compare(pack->snapshot.anchor, snapshot->anchor) == 0 &&
           ls_hash_equal(&pack->snapshot.root, &snapshot->root);
}

enum ls_status ls__staging_begin(struct ls_group *group, uint64_t token,
                                 const struct ls_snapshot *snapshot, const struct ls_hash *hashes)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (snapshots->vault == NULL || !snapshots->able ||
        (snapshot->chunks > 0 && !snapshots->whole)) {
        return LS_ERR_NOT_FOUND;
    }
    if (snapshots->step != LS__INSTALL_NONE) {
        return LS_ERR_BUSY; /* of an attempt that ended; it goes on to its end */
    }
    struct ls_configuration configuration;
    if (ls_configuration_decode(&group->node->env.codec, snapshot->configuration, &configuration) !=
            LS_OK ||
        (snapshot->anchor.index <= group->commit && !LS_MUTANT(S4))) {
        return LS_ERR_PROTOCOL;
    }
    enum ls_status status = staged_open(group);
    if (status == LS_OK && ls__pack_wasteful(&snapshots->staged, snapshot->bytes)) {
        ls__load_drop(group);
        status = ls__pack_empty(&snapshots->staged);
    }
    if (status == LS_OK && !same_table(&snapshots->staged, snapshot)) {
        status = ls__pack_table(&snapshots->staged, snapshot, hashes);
    }
    if (status == LS_ERR_IO) {
        (void)staged_remove(group); /* as in put */
    }
    if (status == LS_OK) {
        ls__load_early(group);
        ls_supervisor_effect(group->supervisor, token, LS_OK);
    }
    return status;
}

bool ls__staging_has(const struct ls_group *group, uint32_t chunk)
{
    const struct ls__snapshots *snapshots = &group->snap;
    return snapshots->staged_open && snapshots->staged.whole &&
           chunk < snapshots->staged.snapshot.chunks && ls__pack_has(&snapshots->staged, chunk);
}

enum ls_status ls__staging_put(struct ls_group *group, uint64_t token, uint32_t chunk,
                               struct ls_span bytes)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (!snapshots->staged_open || !snapshots->staged.whole ||
        chunk >= snapshots->staged.snapshot.chunks || snapshots->step != LS__INSTALL_NONE) {
        return LS_ERR_INVALID;
    }
    bool again = !ls__load_arrived(group, chunk, bytes);
    enum ls_status status =
        ls__pack_chunk(&snapshots->staged, &snapshots->staged.hashes[chunk], bytes, again);
    if (status == LS_OK) {
        ls_supervisor_effect(group->supervisor, token, LS_OK);
    } else if (status == LS_ERR_IO) {
        (void)staged_remove(group); /* the disk may be full, and the log needs room, too */
    }
    return status;
}

/* ---- installing ------------------------------------------------------------------------------ */

enum ls_status ls__staging_publish(struct ls_group *group, uint64_t token)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (!snapshots->staged_open || !snapshots->staged.whole ||
        snapshots->step != LS__INSTALL_NONE) {
        return LS_ERR_INVALID;
    }
    const struct ls_snapshot *snapshot = &snapshots->staged.snapshot;
    struct ls_hash root = ls_snapshot_root(&group->node->env, snapshot, snapshots->staged.hashes);
    bool behind = snapshot->anchor.index <= group->commit && !LS_MUTANT(S4);
    if (!ls_hash_equal(&root, &snapshot->root) || behind) {
        return LS_ERR_INVALID;
    }
    enum ls_status status = ls__load_begin(group);
    if (status != LS_OK) {
        return status;
    }
    snapshots->token = token;
    snapshots->step = LS__INSTALL_LOADING;
    ls__group_trace(group, LS_TRACE_INFO, "a snapshot is being installed", NULL, NULL);
    ls__group_touch(group);
    return LS_OK;
}

bool ls__staging_installing(const struct ls_group *group, struct ls_sync_install *out)
{
    const struct ls__snapshots *snapshots = &group->snap;
    if (snapshots->step == LS__INSTALL_NONE) {
        return false;
    }
    bool loading = snapshots->step == LS__INSTALL_LOADING;
    *out = (struct ls_sync_install){.chunks = snapshots->chunk,
                                    .chunks_total = loading ? snapshots->staged.snapshot.chunks
                                                            : snapshots->chunk,
                                    .waits = loading ? NULL : "the disk"};
    return true;
}

static void give_up(struct ls_group *group, enum ls_status status)
{
    ls__load_drop(group);
    finish(group, status);
}

static void step_load(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    enum ls_status status = ls__load_slice(group);
    if (status == LS_ERR_BUSY) {
        wait(group);
    } else if (status != LS_OK) {
        give_up(group, status);
    } else if (snapshots->chunk == snapshots->staged.snapshot.chunks) {
        snapshots->step = LS__INSTALL_SYNCING;
    }
    if (snapshots->step == LS__INSTALL_SYNCING && snapshots->kept) {
        status = ls__pack_check(&snapshots->staged);
        if (status != LS_OK) {
            /* the next session opens it anew, and fetches what is not there */
            give_up(group, status);
            ls__pack_close(&snapshots->staged);
            snapshots->staged_open = false;
        }
    }
}

/* True: the file is durable. */
static bool synced(struct ls_group *group, enum ls_vault_file file)
{
    const struct ls_vault *vault = group->snap.vault;
    enum ls_status status = vault->sync(vault->self, &group->id, file);
    if (status == LS_ERR_BUSY) {
        wait(group);
    } else if (status != LS_OK) {
        if (file == LS_VAULT_STAGED) {
            (void)staged_remove(group); /* what of it is on the disk, nobody knows */
        }
        give_up(group, status);
    }
    return status == LS_OK;
}

static void step_sync(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    enum ls_status restored = ls__restore_sync(group);
    if (restored != LS_OK && restored != LS_ERR_BUSY) {
        give_up(group, restored);
        return;
    }
    if (!LS_MUTANT(S1_SYNC) && !synced(group, LS_VAULT_STAGED)) {
        return; /* both go on at once */
    }
    if (restored == LS_ERR_BUSY) {
        wait(group);
        return;
    }
    struct ls_snapshot snapshot = snapshots->staged.snapshot;
    snapshot.chunks = 0; /* the mark needs none */
    enum ls_status status = ls__pack_empty(&snapshots->mark);
    if (status == LS_OK) {
        status = ls__pack_table(&snapshots->mark, &snapshot, NULL);
    }
    if (status == LS_ERR_BUSY) {
        wait(group);
        return;
    }
    if (status != LS_OK) {
        (void)ls__pack_empty(&snapshots->mark);
        give_up(group, status);
        return;
    }
    snapshots->step = LS__INSTALL_MARKING;
}

static void mark_drop(struct ls_group *group)
{
    group->snap.marked = false;
    (void)ls__pack_empty(&group->snap.mark); /* one that stays is judged at the next join */
}

/* The log came by another way, or will: a leader's log holds all that is committed. */
static bool overtaken(const struct ls_group *group)
{
    return !LS_MUTANT(S4) && (group->commit >= group->snap.mark.snapshot.anchor.index ||
                              group->role == LS_ROLE_LEADER);
}

static void abandon(struct ls_group *group)
{
    mark_drop(group);
    give_up(group, LS_ERR_INVALID);
}

/* The fetched file takes the name of the newest one: that is what publishes a state in memory. */
static void step_replace(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (snapshots->staged_open && overtaken(group)) {
        abandon(group);
        return;
    }
    if (snapshots->kept_unsynced) { /* what is being synced cannot be replaced */
        wait(group);
        return;
    }
    ls__keep_abort(group); /* it is of an older state */
    ls__pack_close(&snapshots->staged);
    snapshots->staged_open = false;
    enum ls_status status = snapshots->vault->replace(snapshots->vault->self, &group->id,
                                                      LS_VAULT_STAGED, LS_VAULT_SNAPSHOT);
    if (status == LS_ERR_BUSY) {
        wait(group);
    } else if (status != LS_OK) {
        /* P10: it may have happened. The mark stays, and the next join finds out */
        ls__group_halt(group, status, "the snapshot file cannot be replaced by the fetched one");
    } else {
        snapshots->kept_at = snapshots->mark.snapshot.anchor;
        /* a join has published it, and the log followed before */
        snapshots->step = snapshots->rename_due ? LS__INSTALL_SETTLING : LS__INSTALL_PUBLISHING;
        snapshots->rename_due = false;
    }
}

static void step_publish(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    const struct ls_cursor anchor = snapshots->mark.snapshot.anchor;
    if (overtaken(group)) {
        /* a file that was replaced is of use as soon as the log holds its anchor, and not before */
        if (snapshots->kept && (group->commit < anchor.index || group->durable < anchor.index)) {
            wait(group);
        } else {
            abandon(group);
        }
        return;
    }
    enum ls_status status = LS_MUTANT(S1_LOG) ? ls__staging_restored(group) : LS_OK;
    status = status == LS_OK ? ls__restore_publish(group, anchor) : status;
    if (status == LS_ERR_BUSY) {
        wait(group);
        return;
    }
    if (status != LS_OK) {
        /* P10: it may have happened. The mark stays, and the next join finds out */
        ls__group_halt(group, status, "the machine cannot take its new state");
        return;
    }
    snapshots->loading = false; /* it is the present state now */
    group->applied = group->applied_reported = anchor.index;
    snapshots->step = LS__INSTALL_RESTORING;
}

enum ls_status ls__staging_restored(struct ls_group *group)
{
    const struct ls_snapshot *mark = &group->snap.mark.snapshot;
    struct ls_configuration configuration;
    if (ls_configuration_decode(&group->node->env.codec, mark->configuration, &configuration) !=
        LS_OK) {
        return LS_ERR_CORRUPT;
    }
    struct ls_event event = {.kind = LS_EVENT_RESTORED,
                             .as.restored = {.anchor = mark->anchor,
                                             .configuration = &configuration,
                                             .configuration_index = mark->configuration_index}};
    return ls__group_step(group, &event, NULL);
}

static void step_restore(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    enum ls_status status = ls__staging_restored(group);
    if (status == LS_ERR_NO_MEMORY) {
        wait(group);
        return;
    }
    if (status != LS_OK) {
        ls__group_halt(group, status, "the log cannot follow the installed snapshot");
        return;
    }
    group->applied_reported =
        0; /* told once more: if the log came meanwhile, the core ignored it */
    snapshots->seq = group->staged_seq;
    snapshots->step = LS__INSTALL_SETTLING;
    ls__group_touch(group);
}

static void step_settle(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (group->persisted_seq < snapshots->seq && !LS_MUTANT(S1_MARK)) {
        return; /* a turn follows when it is */
    }
    if (snapshots->kept_unsynced) { /* a power cut may bring back its old name yet */
        wait(group);
        return;
    }
    if (!snapshots->kept || snapshots->kept_at.index > 0) {
        mark_drop(group); /* it stays where the file cannot be synced: the next join needs it */
    }
    (void)staged_remove(group); /* of a machine on disk, also when a join did the rest */
    snapshots->installed++;
    ls__group_trace(group, LS_TRACE_INFO, "a snapshot is installed", NULL, NULL);
    finish(group, LS_OK);
}

void ls__staging_turn(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (snapshots->step == LS__INSTALL_NONE && snapshots->staged_left && !group->session_runs &&
        ls__group_online(group)) {
        /* the log came by another way: what was staged for it only takes room */
        (void)staged_remove(group);
        snapshots->staged_left = false; /* one that stays goes with the next, or at the next join */
    }
    ls__load_turn(group);
    if (snapshots->step == LS__INSTALL_LOADING) {
        step_load(group);
    }
    if (snapshots->step == LS__INSTALL_SYNCING) {
        step_sync(group);
    }
    if (snapshots->step == LS__INSTALL_MARKING &&
        (LS_MUTANT(S1_UNMARKED) || synced(group, LS_VAULT_MARK))) {
        snapshots->marked = true;
        snapshots->step = snapshots->kept ? LS__INSTALL_REPLACING : LS__INSTALL_PUBLISHING;
    }
    if (snapshots->step == LS__INSTALL_REPLACING) {
        step_replace(group);
    }
    if (snapshots->step == LS__INSTALL_PUBLISHING && group->halted == LS_OK) {
        step_publish(group);
    }
    if (snapshots->step == LS__INSTALL_RESTORING && group->halted == LS_OK) {
        step_restore(group);
    }
    if (snapshots->step == LS__INSTALL_SETTLING) {
        step_settle(group);
    }
}
