/* SPDX-License-Identifier: MIT */
/*
 * The storage port: where a group's log and hard state are kept, and its two backends.
 *
 * One store serves all groups of a node; what is staged by all of them is written with one atomic
 * batch and one sync per commit. A write or sync error is latched: afterwards only reads and close
 * (P10).
 *
 * Thread: all functions on the thread of the loop. A backend may have a writer thread of its own;
 * its results come up in `collect` only.
 */
#ifndef LOCKSTEP_STORAGE_H
#define LOCKSTEP_STORAGE_H

#include <lockstep/env.h>

LS_EXTERN_C_BEGIN

struct ls_storage_group; /* a backend's handle of one open group */

/** An entry of kind configuration found in the log, or the one kept with the anchor. */
struct ls_stored_configuration {
    ls_index index;
    struct ls_span bytes; /* ls_configuration_encode */
};

/** What open_group found. Pointers are borrowed until the next call on that group. */
struct ls_storage_state {
    struct ls_incarnation incarnation; /* of this store; made with the directory */
    struct ls_hard_state hard_state;
    struct ls_cursor anchor;      /* last pruned entry, or the snapshot's; {0,0}: none */
    struct ls_cursor last;        /* == anchor when the log is empty */
    const struct ls_cursor *runs; /* first entry of each run of equal terms after the anchor */
    size_t runs_count;
    const struct ls_stored_configuration
        *configurations; /* in force at the anchor, then each since */
    size_t configurations_count;
    ls_index commit_hint;                /* 0: none */
    bool tail_unknown;                   /* the log or hard state is behind the guard (P11) */
    struct ls_cursor guard_last;         /* the guard's last durable cursor */
    char tail_text[LS_ERROR_TEXT_BYTES]; /* tail_unknown: the sentence why, else empty */
};

/** One persist batch of one group: atomic, applied in the order reset, truncate, append. */
struct ls_storage_batch {
    uint64_t seq;                           /* increasing per group, from 1 at each open */
    const struct ls_hard_state *hard_state; /* NULL: unchanged */
    bool reset;                             /* the log becomes empty after `anchor` */
    struct ls_cursor anchor;
    struct ls_stored_configuration anchor_configuration; /* with reset */
    bool truncate; /* remove entries at and above truncate_from, > anchor */
    ls_index truncate_from;
    ls_index first; /* index of entries[0]; == last + 1 after the above */
    const struct ls_entry *entries;
    uint32_t count;
    ls_index commit_hint; /* 0: unchanged; stored with the next write, a crash may take it */
    bool tail_known; /* nothing is missing any more of what was acknowledged: an unknown tail is
                        known again when this batch is durable (P11) */
};

struct ls_storage_sink {
    void *self;
    /** Everything of `group_context` up to `seq` is durable. */
    void (*durable)(void *self, void *group_context, uint64_t seq);
    /** The store failed and stays failed; called once per group. `text` names the directory and the
     * reason. */
    void (*failed)(void *self, void *group_context, uint64_t seq, enum ls_status status,
                   const char *text);
};

/** Receives entries in order; borrowed for the call. Returns false to stop. */
typedef bool (*ls_storage_visit)(void *arg, ls_index index, const struct ls_entry *entry);

struct ls_storage_counters {
    uint64_t syncs;         /* synced writes */
    uint64_t guard_syncs;   /* syncs of guard files */
    uint64_t entries;       /* log entries written */
    uint64_t bytes;         /* payload bytes of them */
    uint64_t sync_us_total; /* time spent in synced writes */
    uint64_t sync_us_max;
};

struct ls_storage {
    size_t size;
    void *self;

    /** Sets where results go. Called once, before any group is opened. */
    void (*attach)(void *self, const struct ls_storage_sink *sink);

    /**
     * Opens a group, creating it empty. Verifies every record's checksum and chain from the anchor
     * on: O(entries), about a second for some millions. Waits for a close_group of the same group.
     *
     * group_context  handed back to the sink
     * errors   LS_ERR_CORRUPT    a record that is not what was written; the text names group, index
     *                            and reason
     *          LS_ERR_FORMAT     written by a newer version
     *          LS_ERR_MISMATCH   log and guard are of different incarnations
     *          LS_ERR_INVALID    already open
     *          LS_ERR_IO, LS_ERR_NO_MEMORY
     */
    enum ls_status (*open_group)(void *self, const struct ls_group_id *id, void *group_context,
                                 struct ls_storage_group **group, struct ls_storage_state *state,
                                 struct ls_error *error);

    /**
     * Adds a batch to what the next commit writes; copies payloads. A refused batch changes
     * nothing, and until the same seq is taken no later one of its group is: its report would cover
     * both. errors   LS_ERR_IO         latched LS_ERR_CORRUPT    the record before a truncation
     * cannot be read LS_ERR_BUSY       more than LS_STORAGE_STAGED_BYTES_MAX would be staged
     *          LS_ERR_NO_MEMORY
     */
    enum ls_status (*stage)(void *self, struct ls_storage_group *group,
                            const struct ls_storage_batch *batch);

    /** Begins to make all that is staged durable; returns at once. Results come through collect. */
    void (*commit)(void *self);

    /** A descriptor that is readable while results wait for collect; -1: collect right after
     * commit. */
    int (*descriptor)(void *self);

    /** Reports finished batches to the sink. */
    void (*collect)(void *self);

    /**
     * Visits durable entries first..last in order, until the next one would exceed `bytes_max`
     * payload bytes (at least one is visited), the visitor stops, or the last durable one was
     * reached. Checksums are verified.
     *
     * errors   LS_ERR_COMPACTED  first is at or below the anchor
     *          LS_ERR_NOT_FOUND  first is above the last durable entry
     *          LS_ERR_CORRUPT, LS_ERR_IO, LS_ERR_NO_MEMORY
     */
    enum ls_status (*read)(void *self, struct ls_storage_group *group, ls_index first,
                           ls_index last, size_t bytes_max, ls_storage_visit visit, void *arg);

    /** Removes entries up to and with `upto` (durable, anchor < upto < last); its cursor becomes
     * the anchor. Staged. errors as stage, and LS_ERR_INVALID (upto is not in those bounds) */
    enum ls_status (*prune)(void *self, struct ls_storage_group *group, ls_index upto);

    /** Commits what is staged, and reports nothing more for the group. Does not wait. */
    void (*close_group)(void *self, struct ls_storage_group *group);

    /** Writes out what is staged if the store has not failed, stops the writer, releases the
     * directory. Frees self. */
    void (*close)(void *self);

    struct ls_incarnation (*incarnation)(void *self);
    void (*counters)(void *self, struct ls_storage_counters *out);
};

struct ls_storage_memory_options {
    size_t size;
    const struct ls_env *env; /* NULL: ls_env_default() */
};

/**
 * A store that lives in memory: durable until closed. For examples and tests.
 * options  NULL: defaults
 * errors   LS_ERR_INVALID (options.size), LS_ERR_NO_MEMORY
 */
LS_API LS_NODISCARD enum ls_status
ls_storage_memory_open(const struct ls_storage_memory_options *options, struct ls_storage *out,
                       struct ls_error *error);

struct ls_storage_rocksdb_options {
    size_t size;
    const char *directory;       /* of this node alone, on a local disk; made if missing, with its
                                    parents (0700); borrowed for the call */
    const struct ls_env *env;    /* NULL: ls_env_default() */
    uint64_t write_buffer_bytes; /* memory for unflushed entries; 0: default 32 MiB */
};

/**
 * The durable store.
 * errors   LS_ERR_INVALID  options.size, or no directory
 *          LS_ERR_LOCKED   the directory is in use; the text says by whom if known
 *          LS_ERR_FORMAT   the directory was written by a newer version
 *          LS_ERR_CORRUPT  the directory is not one of ours, or damaged
 *          LS_ERR_IO       the text names the path and the reason
 */
LS_API LS_NODISCARD enum ls_status
ls_storage_rocksdb_open(const struct ls_storage_rocksdb_options *options, struct ls_storage *out,
                        struct ls_error *error);

LS_EXTERN_C_END

#endif
