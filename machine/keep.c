/* SPDX-License-Identifier: MIT */
/*
 * Snapshot files of a machine in memory: its durable state, so that its log may be pruned; none are
 * written for one whose members could not be brought back beyond the log. Written in slices from a
 * frozen state, beside the newest one, whose place it takes when it is durable.
 */
#include "runtime.h"

#include <string.h>

/* ---- loading --------------------------------------------------------------------------------- */

static enum ls_status load_chunks(struct ls_group *group, struct ls__pack *pack,
                                  struct ls_error *error)
{
    struct ls_hash root = ls_snapshot_root(&group->node->env, &pack->snapshot, pack->hashes);
    enum ls_status status = ls_hash_equal(&root, &pack->snapshot.root) ? LS_OK : LS_ERR_CORRUPT;
    for (uint32_t i = 0; status == LS_OK && i < pack->snapshot.chunks; i++) {
        struct ls_span chunk;
        status = ls__pack_read(pack, i, &chunk);
        if (status == LS_OK) {
            size_t at = 0;
            status = ls__restore_chunk(group, chunk, &at);
        }
        if (status != LS_OK) {
            return ls_error_set(error, status, "snapshot file at index %llu: chunk %lu of %lu: %s",
                                (unsigned long long)pack->snapshot.anchor.index,
                                (unsigned long)i + 1, (unsigned long)pack->snapshot.chunks,
                                ls_status_text(status));
        }
    }
    return status == LS_OK ? status
                           : ls_error_set(error, status, "snapshot file: its table is damaged");
}

static enum ls_status load(struct ls_group *group, struct ls__pack *pack, struct ls_error *error)
{
    const struct ls_cursor anchor = pack->snapshot.anchor;
    enum ls_status status = ls__restore_begin(group, anchor);
    if (status == LS_OK) {
        status = load_chunks(group, pack, error);
        if (status == LS_OK) {
            status = ls__restore_publish(group, anchor);
        }
        if (status != LS_OK) {
            ls__restore_end(group);
        }
    }
    if (status == LS_OK) {
        group->applied = anchor.index;
        group->snap.kept_at = anchor;
        group->snap.kept_unsynced = true; /* its exchange may have been cut short */
    }
    return status;
}

enum ls_status ls__keep_load(struct ls_group *group, enum ls_vault_file file,
                             struct ls_error *error)
{
    struct ls__snapshots *snapshots = &group->snap;
    struct ls__pack pack;
    enum ls_status status = ls__pack_open(&pack, &group->node->env, snapshots->vault, &group->id,
                                          &snapshots->incarnation, file);
    if (status != LS_OK) {
        return ls_error_set(error, status, "read the snapshot file: %s", ls_status_text(status));
    }
    const struct ls_snapshot *wanted = &snapshots->mark.snapshot;
    bool right = file == LS_VAULT_SNAPSHOT ||
                 (ls_cursor_compare(pack.snapshot.anchor, wanted->anchor) == 0 &&
                  ls_hash_equal(&pack.snapshot.root, &wanted->root));
    if (pack.whole && right) {
        status = load(group, &pack, error);
    }
    ls__pack_close(&pack);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

void ls__keep_abort(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (snapshots->source != NULL) {
        ls__thaw(group, snapshots->source);
        snapshots->source = NULL;
    }
    ls__pack_close(&snapshots->writing);
    if (snapshots->hashes != NULL) {
        (void)ls__allocate(&group->node->env, snapshots->hashes, 0);
    }
    snapshots->hashes = NULL;
    snapshots->hashes_count = snapshots->hashes_capacity = 0;
    snapshots->keep = LS__KEEP_NONE;
    snapshots->keep_waits = false;
}

static void wait(struct ls_group *group)
{
    ls__group_retry(group, LS__SNAPSHOT_SYNC_US);
}

static void fail(struct ls_group *group, enum ls_status status)
{
    ls__group_trace(group, LS_TRACE_WARN, "the snapshot file was not written", NULL,
                    ls_status_text(status));
    group->snap.keep_not_before_us = ls__now(group->node) + LS__KEEP_PAUSE_US;
    ls__keep_abort(group);
    /* the disk may be full; one that stays goes before the next is begun */
    const struct ls_vault *vault = group->snap.vault;
    (void)vault->remove(vault->self, &group->id, LS_VAULT_WRITING);
}

/* Has so much been applied since the newest file that there should be another? */
static bool enough(const struct ls_group *group)
{
    const struct ls__snapshots *snapshots = &group->snap;
    ls_index kept = snapshots->kept_at.index;
    return group->applied > kept &&
           (group->applied - kept >= snapshots->keep_entries ||
            (snapshots->keep_bytes > 0 &&
             ls__sizes_between(&group->sizes, kept, group->applied) >= snapshots->keep_bytes));
}

static bool due(const struct ls_group *group)
{
    const struct ls__snapshots *snapshots = &group->snap;
    return snapshots->kept && group->snapshots && snapshots->keep == LS__KEEP_NONE &&
           snapshots->step == LS__INSTALL_NONE && snapshots->keep_entries > 0 && enough(group) &&
           ls__now(group->node) >= snapshots->keep_not_before_us;
}

static void begin(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    enum ls_status status = ls__freeze(group, &snapshots->source);
    if (status == LS_ERR_BUSY) {
        return; /* with a later turn */
    }
    if (status == LS_OK) { /* an older one, which need not be readable */
        const struct ls_vault *vault = snapshots->vault;
        status = vault->remove(vault->self, &group->id, LS_VAULT_WRITING);
    }
    if (status == LS_OK) {
        status = ls__pack_open(&snapshots->writing, &group->node->env, snapshots->vault, &group->id,
                               &snapshots->incarnation, LS_VAULT_WRITING);
    }
    if (status != LS_OK) {
        fail(group, status);
        return;
    }
    snapshots->builder.bytes_max = ls_snapshot_chunk_bytes(snapshots->source->frozen.bytes);
    snapshots->builder.next_bytes = 0;
    snapshots->kept_at = LS_MUTANT(S1_KEEP) ? snapshots->source->anchor : snapshots->kept_at;
    snapshots->keep_began_us = ls__now(group->node);
    snapshots->keep = LS__KEEP_CUTTING;
}

static enum ls_status add_hash(struct ls_group *group, const struct ls_hash *hash)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (snapshots->hashes_count == LS_SNAPSHOT_CHUNKS_MAX) {
        return LS_ERR_LIMIT;
    }
    enum ls_status status =
        ls__block_grow(&group->node->env, &snapshots->hashes, &snapshots->hashes_capacity,
                       snapshots->hashes_count + 1, sizeof *snapshots->hashes);
    if (status == LS_OK) {
        snapshots->hashes[snapshots->hashes_count++] = *hash;
    }
    return status;
}

/* The next chunk, with its hash behind those of the others. */
static enum ls_status cut(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    struct ls_chunk_builder *builder = &snapshots->builder;
    const struct ls_span from = {builder->next, builder->next_bytes};
    ls_chunk_begin(builder);
    enum ls_status status =
        ls__frozen_iterate(group, snapshots->source, from, ls_chunk_visit, builder);
    status = status == LS_OK ? builder->failed : status;
    if (status != LS_OK || builder->items == 0) {
        return status;
    }
    struct ls_hash hash =
        ls_chunk_hash(&group->node->env, (struct ls_span){builder->data, builder->bytes});
    return add_hash(group, &hash);
}

/* Cuts a chunk and writes it, or writes the one that waits; *done: it was the last.
 * LS_ERR_BUSY: it waits for the disk */
static enum ls_status write_chunk(struct ls_group *group, bool *done)
{
    struct ls__snapshots *snapshots = &group->snap;
    const struct ls_chunk_builder *builder = &snapshots->builder;
    enum ls_status status = snapshots->keep_waits ? LS_OK : cut(group);
    if (status == LS_OK && builder->items > 0) {
        status =
            ls__pack_chunk(&snapshots->writing, &snapshots->hashes[snapshots->hashes_count - 1],
                           (struct ls_span){builder->data, builder->bytes}, false);
    }
    *done = !builder->full;
    snapshots->keep_waits = status == LS_ERR_BUSY;
    return status;
}

static enum ls_status end(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    const struct ls__frozen *source = snapshots->source;
    struct ls_snapshot snapshot = {
        .anchor = source->anchor,
        .configuration_index = source->configuration_index,
        .configuration = {source->configuration, source->configuration_bytes},
        .items = source->frozen.items,
        .bytes = source->frozen.bytes,
        .chunks = (uint32_t)snapshots->hashes_count};
    snapshot.root = ls_snapshot_root(&group->node->env, &snapshot, snapshots->hashes);
    return ls__pack_table(&snapshots->writing, &snapshot, snapshots->hashes);
}

static void step_cut(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    uint64_t before = snapshots->writing.end;
    uint64_t until = ls__now(group->node) + LS__SNAPSHOT_SLICE_US;
    bool done = false;
    enum ls_status status = write_chunk(group, &done);
    while (status == LS_OK && !done && ls__now(group->node) < until &&
           snapshots->writing.end - before < LS__SNAPSHOT_SLICE_BYTES) {
        status = write_chunk(group, &done);
    }
    if (status == LS_OK && done) {
        status = end(group);
        snapshots->keep = status == LS_OK ? LS__KEEP_SYNCING : snapshots->keep;
        snapshots->keep_waits = status == LS_ERR_BUSY; /* the last chunk is there already */
    }
    if (status == LS_ERR_BUSY) {
        wait(group);
    } else if (status != LS_OK) {
        fail(group, status);
    }
}

/* True: it is done; false: fails, or is asked for again. */
static bool ended(struct ls_group *group, enum ls_status status)
{
    if (status == LS_ERR_BUSY) {
        wait(group);
    } else if (status != LS_OK) {
        fail(group, status);
    }
    return status == LS_OK;
}

static void step_sync(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    const struct ls_vault *vault = snapshots->vault;
    if (LS_MUTANT(S1_FILE) ||
        ended(group, vault->sync(vault->self, &group->id, LS_VAULT_WRITING))) {
        snapshots->keep = LS__KEEP_REPLACING;
    }
}

/* One that fails may have happened: then the newest file is newer than what is counted on. */
static void step_replace(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    const struct ls_vault *vault = snapshots->vault;
    if (!ended(group,
               vault->replace(vault->self, &group->id, LS_VAULT_WRITING, LS_VAULT_SNAPSHOT))) {
        return;
    }
    uint64_t now = ls__now(group->node);
    snapshots->kept_at = snapshots->source->anchor;
    snapshots->keep_not_before_us = now + (LS__KEEP_SHARE - 1) * (now - snapshots->keep_began_us);
    snapshots->written++;
    ls__keep_abort(group);
}

/* The file found at the join. One that cannot be synced is not counted on: another is due. */
static void step_found(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    enum ls_status status =
        snapshots->vault->sync(snapshots->vault->self, &group->id, LS_VAULT_SNAPSHOT);
    snapshots->kept_unsynced = status == LS_ERR_BUSY;
    if (status == LS_ERR_BUSY) {
        wait(group);
    } else if (status != LS_OK) {
        snapshots->kept_at = (struct ls_cursor){0};
    }
}

void ls__keep_turn(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (snapshots->kept_unsynced) {
        step_found(group);
    }
    if (due(group)) {
        begin(group);
    }
    if (snapshots->keep == LS__KEEP_CUTTING) {
        step_cut(group);
    }
    if (snapshots->keep == LS__KEEP_SYNCING) {
        step_sync(group);
    }
    if (snapshots->keep == LS__KEEP_REPLACING && !snapshots->kept_unsynced) {
        step_replace(group);
    }
}
