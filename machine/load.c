/* SPDX-License-Identifier: MIT */
/*
 * Loading: staged chunks are given to the machine's new state, in order. A machine that builds in a
 * thread of its own (restore_sync) gets them as they come, so that most of the work is done when
 * the last one does: at once if it is its turn, else read back and checked, as all are of any
 * other.
 */
#include "runtime.h"

#include <string.h>

void ls__load_drop(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (snapshots->loading) {
        ls__restore_end(group);
    }
    snapshots->loading = false;
    snapshots->loaded = (struct ls_span){NULL, 0};
    snapshots->loaded_at = 0;
}

enum ls_status ls__load_begin(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    const struct ls_snapshot *snapshot = &snapshots->staged.snapshot;
    if (snapshots->loading && ls_hash_equal(&snapshots->load_root, &snapshot->root)) {
        return LS_OK; /* it goes on */
    }
    ls__load_drop(group);
    enum ls_status status = ls__restore_begin(group, snapshot->anchor);
    if (status != LS_OK) {
        return status;
    }
    snapshots->loading = true;
    snapshots->load_root = snapshot->root;
    snapshots->load_waits = false;
    snapshots->chunk = 0;
    return LS_OK;
}

void ls__load_early(struct ls_group *group)
{
    if (group->machine.restore_sync != NULL && group->snap.whole &&
        group->snap.staged.snapshot.chunks > 0) {
        (void)ls__load_begin(group); /* what goes wrong is told when all is there */
    }
}

/* The chunk that the machine gets next. */
static enum ls_status load_read(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (snapshots->loaded.data != NULL) {
        return LS_OK;
    }
    enum ls_status status = ls__pack_read(&snapshots->staged, snapshots->chunk, &snapshots->loaded);
    if (status != LS_OK) {
        snapshots->loaded = (struct ls_span){NULL, 0};
    }
    if (status == LS_ERR_IO) { /* as if it were not there: it is fetched once more */
        ls__pack_forget(&snapshots->staged, snapshots->chunk);
        status = LS_ERR_CORRUPT;
    }
    return status;
}

enum ls_status ls__load_slice(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    size_t done = 0;
    uint64_t until = ls__now(group->node) + LS__SNAPSHOT_SLICE_US;
    snapshots->load_waits = false;
    while (snapshots->chunk < snapshots->staged.snapshot.chunks &&
           done < LS__SNAPSHOT_SLICE_BYTES && (done == 0 || ls__now(group->node) < until)) {
        enum ls_status status = load_read(group);
        if (status == LS_OK) {
            status = ls__restore_chunk(group, snapshots->loaded, &snapshots->loaded_at);
            /* it is what was staged: to fetch it again would not help */
            status = status == LS_ERR_CORRUPT ? LS_ERR_INVALID : status;
        }
        snapshots->load_waits = status == LS_ERR_BUSY;
        if (status != LS_OK) {
            return status;
        }
        done += snapshots->loaded.bytes;
        snapshots->loaded = (struct ls_span){NULL, 0};
        snapshots->loaded_at = 0;
        snapshots->chunk++;
        if (snapshots->step == LS__INSTALL_NONE && !ls__load_more(group)) {
            break; /* it is still on its way */
        }
    }
    return LS_OK;
}

bool ls__load_arrived(struct ls_group *group, uint32_t chunk, struct ls_span bytes)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (!snapshots->loading || snapshots->load_waits || snapshots->step != LS__INSTALL_NONE ||
        chunk != snapshots->chunk || snapshots->loaded_at > 0) {
        return false;
    }
    enum ls_status status = ls__restore_chunk(group, bytes, &snapshots->loaded_at);
    if (status == LS_OK) {
        snapshots->loaded_at = 0;
        snapshots->chunk++;
    } else if (status != LS_ERR_BUSY) {
        ls__load_drop(group); /* once more when all is there, and then it is told */
    }
    return status == LS_OK;
}

bool ls__load_more(const struct ls_group *group)
{
    const struct ls__snapshots *snapshots = &group->snap;
    return snapshots->loading && !snapshots->load_waits && ls__staging_has(group, snapshots->chunk);
}

void ls__load_turn(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (!snapshots->loading || snapshots->step != LS__INSTALL_NONE) {
        return;
    }
    if (!group->session_runs) {
        ls__load_drop(group); /* the next one begins anew */
        return;
    }
    if (!ls__staging_has(group, snapshots->chunk)) {
        return;
    }
    enum ls_status status = ls__load_slice(group);
    if (status == LS_ERR_BUSY) {
        ls__group_retry(group, LS__SNAPSHOT_SYNC_US);
    } else if (status != LS_OK) {
        ls__load_drop(group); /* once more when all is there, and then it is told */
    }
}
