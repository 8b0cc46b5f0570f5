/* SPDX-License-Identifier: MIT */
/* The table of steps (steps.h), in the order in which a new store comes by. */
#include "steps.h"

const struct crash_step crash_steps[] = {
    /* directory.c */
    {"directory.made", STEP_RARE | STEP_NEW | STEP_STORE | STEP_ONCE, NULL},
    {"directory.synced", STEP_STORE | STEP_ONCE, NULL},
    {"lock.made", STEP_STORE | STEP_ONCE, NULL},
    {"lock.written", STEP_STORE | STEP_ONCE, NULL},
    {"guards.made", STEP_NEW | STEP_STORE | STEP_ONCE, NULL},
    {"guards.synced", STEP_NEW | STEP_STORE | STEP_ONCE, NULL},
    {"log.cleaning", STEP_NEW | STEP_STORE | STEP_ONCE, "log.closed"},
    {"log.cleaned", STEP_NEW | STEP_STORE | STEP_ONCE, "log.closed"},
    {"log.renamed", STEP_NEW | STEP_STORE | STEP_ONCE, NULL},
    {"log.published", STEP_NEW | STEP_STORE | STEP_ONCE, NULL},
    /* durable_open.c */
    {"format.made", STEP_NEW | STEP_STORE | STEP_ONCE, NULL},
    {"incarnation.written", STEP_NEW | STEP_STORE | STEP_ONCE, NULL},
    {"log.closed", STEP_NEW | STEP_STORE | STEP_ONCE, NULL},
    /* guard.c, writer.c */
    {"guard.filled", STEP_NEW | STEP_STORE | STEP_ONCE, NULL},
    {"guard.filled-synced", STEP_NEW | STEP_STORE | STEP_ONCE, NULL},
    {"guard.renamed", STEP_NEW | STEP_STORE | STEP_ONCE, NULL},
    {"guard.created", STEP_NEW | STEP_STORE | STEP_ONCE, NULL},
    {"guard.begin", STEP_STORE, NULL},
    {"guard.written", STEP_STORE, NULL},
    {"guard.synced", STEP_STORE, NULL},
    {"guard.before-write", STEP_CUT | STEP_STORE, NULL},
    {"guard.after-write", STEP_STORE, NULL},
    {"guard.due", STEP_STORE | STEP_ONCE, NULL},
    {"write.done", STEP_STORE, NULL},
    /* a write that holds a batch of this kind */
    {"append.before-write", STEP_STORE, NULL},
    {"append.after-write", STEP_STORE, NULL},
    {"hard.before-write", STEP_STORE, NULL},
    {"hard.after-write", STEP_STORE, NULL},
    {"truncate.before-write", STEP_CUT | STEP_STORE, NULL},
    {"truncate.after-write", STEP_CUT | STEP_STORE, NULL},
    {"cut.before-write", STEP_CUT | STEP_STORE, NULL},
    {"cut.after-write", STEP_CUT | STEP_STORE, NULL},
    {"reset.before-write", STEP_RARE | STEP_STORE | STEP_SYNC, NULL},
    {"reset.after-write", STEP_RARE | STEP_STORE | STEP_SYNC, NULL},
    {"prune.before-write", STEP_RARE | STEP_STORE, NULL},
    {"prune.after-write", STEP_RARE | STEP_STORE, NULL},
    /* the state of lockstep-kv: layer.c, rocks_state.c */
    {"owner.written", STEP_NEW | STEP_STATE | STEP_ONCE, NULL},
    {"owner.flushed", STEP_NEW | STEP_STATE | STEP_ONCE, NULL},
    /* rocks_home.c: a new directory comes by, and each state that was restored */
    {"switch.begin", STEP_NEW | STEP_STATE | STEP_SYNC, NULL},
    {"switch.written", STEP_NEW | STEP_STATE | STEP_SYNC, NULL},
    {"switch.renamed", STEP_NEW | STEP_STATE | STEP_SYNC, NULL},
    {"switch.synced", STEP_NEW | STEP_STATE | STEP_SYNC, NULL},
    /* rocks_restore.c, and what follows the switch: store_rocksdb.c */
    {"restore.made", STEP_RARE | STEP_STATE | STEP_SYNC, NULL},
    {"restore.file", STEP_RARE | STEP_STATE | STEP_SYNC, NULL},
    {"restore.files", STEP_RARE | STEP_STATE | STEP_SYNC, NULL},
    {"restore.built", STEP_RARE | STEP_STATE | STEP_SYNC, NULL},
    {"switch.cleaned", STEP_RARE | STEP_STATE | STEP_SYNC, NULL},
    /* lockstep-kv as a program: main.c, owner.c */
    {"data.made", STEP_NEW | STEP_ONCE, NULL},
    {"data.synced", STEP_NEW | STEP_ONCE, NULL},
    {"note.written", STEP_NEW | STEP_ONCE, NULL},
    {"note.renamed", STEP_NEW | STEP_ONCE, NULL},
    {"note.synced", STEP_NEW | STEP_ONCE, NULL},
    {"layer.begin", STEP_STATE, NULL},
    {"layer.file", STEP_STATE, NULL},
    {"layer.ingested", STEP_STATE, NULL},
    {"layer.moved", STEP_STATE, NULL},
    {"durable.moved", STEP_STATE, NULL},
    /* vault_files.c, vault_tasks.c, of a state on disk */
    {"vault.staged.written", STEP_RARE | STEP_SYNC, NULL},
    {"vault.staged.synced", STEP_RARE | STEP_SYNC, NULL},
    {"vault.mark.written", STEP_RARE | STEP_SYNC, NULL},
    {"vault.mark.synced", STEP_RARE | STEP_SYNC, NULL},
    {"vault.mark.unlinked", STEP_RARE | STEP_SYNC, NULL},
    {"vault.staged.unlinked", STEP_RARE | STEP_SYNC, NULL},
    /* ... of one in memory */
    {"vault.snapshot.synced", STEP_RARE | STEP_MEMORY, NULL}, /* one that a join found */
    {"vault.snapshot.renamed", STEP_RARE | STEP_SYNC | STEP_MEMORY, NULL},
    {"vault.snapshot.replaced", STEP_RARE | STEP_SYNC | STEP_MEMORY, NULL},
    {"vault.writing.written", STEP_RARE | STEP_MEMORY, NULL},
    {"vault.writing.synced", STEP_RARE | STEP_MEMORY, NULL},
    {"vault.writing.unlinked", STEP_RARE | STEP_MEMORY, NULL},
    {"vault.snapshot.unlinked", STEP_RARE, NULL},
    /* inside RocksDB, at the system calls of its files: crash_point.c */
    {"wal.before-sync", STEP_STORE, NULL},
    {"wal.after-sync", STEP_STORE, NULL},
    {"manifest.before-sync", STEP_STORE | STEP_STATE, NULL},
    {"manifest.after-sync", STEP_STORE | STEP_STATE, NULL},
    {"table.before-sync", STEP_STORE | STEP_STATE, NULL},
    {"table.after-sync", STEP_STORE | STEP_STATE, NULL},
    {"current.before-sync", STEP_STORE | STEP_STATE | STEP_ONCE, NULL},
    {"current.after-sync", STEP_STORE | STEP_STATE | STEP_ONCE, NULL},
    {"names.before-sync", STEP_STORE | STEP_STATE, NULL},
    {"names.after-sync", STEP_STORE | STEP_STATE, NULL},
};
const size_t crash_steps_count = sizeof crash_steps / sizeof crash_steps[0];
