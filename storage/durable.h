/* SPDX-License-Identifier: MIT */
/*
 * The durable store between its two threads.
 *
 *     loop thread                        writer thread
 *     stage  -> pending buffer
 *     commit -> "wanted"          ->     takes the pending buffer, writes and syncs it, then the
 *     stage  -> next buffer              guards that are due
 *     collect <- descriptor       <-     puts it on the written list
 *
 * So while one buffer syncs the next collects, and the writer goes on by itself when it is done.
 * Staged batches that were not yet committed may be written early with those that were: a batch is
 * whole at any time the mutex is free.
 *
 *     durable.c          the port, and what is reported
 *     durable_open.c     what is found on the disk
 *     durable_stage.c    stage and prune
 *     writer.c           the writer thread
 */
#ifndef LS_STORAGE_DURABLE_H
#define LS_STORAGE_DURABLE_H

#include <pthread.h>

#include "directory.h"
#include "engine.h"
#include "ledger.h"
#include "page.h"

struct ls_storage_group {
    struct ls_storage_group *next; /* under the mutex */
    /* loop's */
    struct ls__ledger ledger;
    void *context;
    uint64_t reported;           /* last seq that was */
    bool failed;                 /* told so */
    uint64_t touched_generation; /* the buffer that knows it, and where */
    size_t touched_at;
    /* writer's, once open */
    int guard_file;
    struct ls__guard guard;
    uint64_t guard_synced_us;
    /* under the mutex */
    uint32_t buffers; /* that hold it */
    bool dirty;       /* the guard's cursor waits for its sync */
    bool closing;
    bool hinted; /* the commit hint below goes with the next write */
    uint8_t hint[LS__COMMIT_BYTES];
};

struct ls__part {
    struct ls_storage_group *group; /* NULL: closed meanwhile */
    struct ls__outcome outcome;
    bool dirty, clean; /* the guard's state after the write */
};

struct ls__buffer {
    struct ls__buffer *next;
    uint64_t generation;
    struct ls__engine_batch *batch;
    struct ls__part *parts;
    size_t parts_count, parts_capacity;
    size_t bytes;
    bool sync; /* there is something to write; commit hints alone wait for more */
    bool written;
    uint64_t entries, payload_bytes;
};

struct ls__durable {
    struct ls_env env;
    char *path; /* as the caller named it */
    struct ls__directory directory;
    struct ls__engine *engine;
    struct ls_incarnation incarnation;
    int event; /* readable while results wait */
    pthread_t writer;

    /* loop's */
    struct ls_storage_sink sink;
    struct ls_storage_group *staging;
    struct ls__page page; /* of the batch that is being staged */
    bool failure_traced;

    pthread_mutex_t mutex;
    pthread_cond_t work;   /* for the writer */
    pthread_cond_t rested; /* the writer finished something */
    /* under the mutex */
    struct ls_storage_group *groups;
    struct ls__buffer *pending;
    struct ls__buffer *spare;
    struct ls__buffer *written, **written_end;
    uint64_t generation;
    uint64_t guard_due_us; /* earliest, UINT64_MAX: none */
    bool wanted, busy, stop;
    enum ls_status failed; /* latched */
    struct ls_error failure;
    struct ls_storage_counters counters;
};

/* durable_stage.c */

/** Of the port; both take the mutex. */
LS_NODISCARD enum ls_status ls__durable_stage(void *self, struct ls_storage_group *group,
                                              const struct ls_storage_batch *batch);
LS_NODISCARD enum ls_status ls__durable_prune(void *self, struct ls_storage_group *group,
                                              ls_index upto);
/** The group's part of the pending buffer; NULL: out of memory. The mutex is held. */
struct ls__part *ls__durable_touch(struct ls__durable *durable, struct ls_storage_group *group);
/** Adds the commit hints that wait for a write to one; the mutex is held. */
void ls__durable_add_hints(struct ls__durable *durable, struct ls__buffer *buffer);

/* durable_open.c */

/** Opens the log, made if there is none, and reads the incarnation. */
LS_NODISCARD enum ls_status ls__durable_open_log(struct ls__durable *durable,
                                                 uint64_t write_buffer_bytes,
                                                 struct ls_error *error);
/** Loads what is stored of a group, and stores its guard anew. */
LS_NODISCARD enum ls_status ls__durable_load(struct ls__durable *durable,
                                             struct ls_storage_group *group,
                                             struct ls_storage_state *state,
                                             struct ls_error *error);

/* writer.c */

/** Starts the writer. errors LS_ERR_IO */
LS_NODISCARD enum ls_status ls__writer_start(struct ls__durable *durable, struct ls_error *error);
/** Lets it write what is pending and sync the guards, and joins it. */
void ls__writer_stop(struct ls__durable *durable);
/** Asks it to write what is pending; the mutex is held. */
void ls__writer_want(struct ls__durable *durable);
/** Waits until it has nothing to do for `group`; the mutex is held. */
void ls__writer_rest(struct ls__durable *durable, const struct ls_storage_group *group);

#endif
