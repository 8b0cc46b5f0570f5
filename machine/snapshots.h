/* SPDX-License-Identifier: MIT */
/*
 * What a group keeps of snapshots: frozen states, the one that is being fetched and installed, and
 * for a machine in memory the files that are its durable state.
 *
 *   snapshots.c  frozen states for providers; what is found at a join
 *   staging.c    staging and installing what a session fetched
 *   keep.c       snapshot files of a machine in memory
 */
#ifndef LOCKSTEP_SNAPSHOTS_H
#define LOCKSTEP_SNAPSHOTS_H

#include <lockstep/core.h>
#include <lockstep/machine.h>
#include <lockstep/statesync.h>

#include "pack.h"

/* read or written in one turn of the loop; and no more begins after so long */
#define LS__SNAPSHOT_SLICE_BYTES (1u << 20)
#define LS__SNAPSHOT_SLICE_US    1000u
/* what waits for the disk is asked for again after so long */
#define LS__SNAPSHOT_SYNC_US 1000u
/* after a failure no snapshot file is written for so long */
#define LS__KEEP_PAUSE_US 10000000u
/* writing takes at most one part in so many of the time, however large the state is */
#define LS__KEEP_SHARE 10u

struct ls_group;

struct ls__frozen {
    bool used;
    uint64_t id;
    struct ls_frozen frozen;
    struct ls_cursor anchor;
    ls_index configuration_index;
    uint8_t *configuration;
    size_t configuration_bytes;
};

/* An install, step by step; each is durable before the next (docs/architecture.md). */
enum ls__install_step {
    LS__INSTALL_NONE = 0,
    LS__INSTALL_LOADING,    /* staged chunks into the machine's new state, checked again */
    LS__INSTALL_SYNCING,    /* the staged file */
    LS__INSTALL_MARKING,    /* (a) */
    LS__INSTALL_REPLACING,  /* (b) of a machine in memory: the staged file is its newest one */
    LS__INSTALL_PUBLISHING, /* (b) the machine switches */
    LS__INSTALL_RESTORING,  /* (c) the core takes the anchor */
    LS__INSTALL_SETTLING    /* ... and the store */
};

enum ls__keep_step { LS__KEEP_NONE = 0, LS__KEEP_CUTTING, LS__KEEP_SYNCING, LS__KEEP_REPLACING };

struct ls__snapshots {
    const struct ls_vault *vault; /* NULL: none */
    bool able;                    /* the machine takes snapshots */
    bool whole;                   /* ... and can be cut into items and restored from them */
    bool kept;                    /* it lives in memory, and its snapshot files are its state */
    struct ls_incarnation incarnation;
    struct ls__frozen frozen[LS_SNAPSHOT_ANCHORS_MAX + 1]; /* one for the file */
    uint64_t next_id;

    struct ls__pack staged;
    bool staged_open;
    bool staged_left; /* there may be a file of what is not needed any more */
    enum ls__install_step step;
    uint64_t token;
    uint32_t chunk; /* LOADING: the next */
    bool loading;   /* the machine has a new state, of the table with this root */
    struct ls_hash load_root;
    struct ls_span loaded; /* ... which was read; NULL: it was not. Valid until the next is */
    size_t loaded_at;      /* the machine has the chunk up to here */
    bool load_waits;       /* ... which takes no more now */
    uint64_t seq;          /* SETTLING: durable when this is */
    struct ls__pack mark;
    bool marked;      /* there is a mark, in the vault and here */
    bool restore_due; /* at a join: it was published, the log does not know yet */
    bool rename_due;  /* at a join: the log knows, and the staged file has its old name again */

    uint64_t keep_entries, keep_bytes; /* of the log: a file is due after either */
    enum ls__keep_step keep;
    bool keep_waits;          /* CUTTING: a chunk that was cut, for the disk */
    struct ls_cursor kept_at; /* anchor of the newest file */
    bool kept_unsynced;       /* ... which was found, and may not survive a power cut yet */
    struct ls__pack writing;
    struct ls__frozen *source;
    struct ls_chunk_builder builder;
    struct ls_hash *hashes;
    size_t hashes_count, hashes_capacity;
    uint64_t keep_not_before_us, keep_began_us;
    uint64_t written, installed; /* counters */
};

/** It takes snapshots, if only those that a state sync brings in a way of its own. */
bool ls__snapshots_able(const struct ls_machine *machine);

/** After the machine was opened, before the core: what the vault holds. A machine in memory gets
 * its newest snapshot; group->applied follows. */
enum ls_status ls__snapshots_open(struct ls_group *group, const struct ls_storage_state *state,
                                  uint64_t keep_entries, struct ls_error *error);
/** Finishes an install that the end of the process interrupted. */
enum ls_status ls__snapshots_resume(struct ls_group *group, struct ls_error *error);
void ls__snapshots_close(struct ls_group *group);
/** A slice of what is under way. */
void ls__snapshots_turn(struct ls_group *group);
/** Is there more to do at once? */
bool ls__snapshots_more(const struct ls_group *group);

/** errors LS_ERR_NOT_FOUND, LS_ERR_BUSY, LS_ERR_LIMIT, the machine's */
enum ls_status ls__freeze(struct ls_group *group, struct ls__frozen **out);
void ls__thaw(struct ls_group *group, struct ls__frozen *frozen);
struct ls__frozen *ls__frozen_find(struct ls_group *group, uint64_t id);
enum ls_status ls__frozen_iterate(struct ls_group *group, const struct ls__frozen *frozen,
                                  struct ls_span from, ls_item_visit visit, void *arg);
/** The items of a chunk into the machine's new state. */
enum ls_status ls__restore_chunk(struct ls_group *group, struct ls_span chunk, size_t *at);
/** The machine makes durable what it restored. errors LS_ERR_BUSY, the machine's */
enum ls_status ls__restore_sync(struct ls_group *group);
/* the machine's restore and publish */
enum ls_status ls__restore_begin(struct ls_group *group, struct ls_cursor anchor);
enum ls_status ls__restore_publish(struct ls_group *group, struct ls_cursor anchor);

/** Drops the machine's new state, if it can have one. */
void ls__restore_end(struct ls_group *group);

/* load.c */
/** Begins to load what is staged, or goes on with it. errors: the machine's */
enum ls_status ls__load_begin(struct ls_group *group);
/** The same, before all is there, if that is of use. */
void ls__load_early(struct ls_group *group);
/** Some chunks. errors LS_ERR_BUSY, LS_ERR_CORRUPT (one has to be fetched again), the machine's */
enum ls_status ls__load_slice(struct ls_group *group);
/** Gives the machine a chunk that is being staged, if it is the next one. False: it is to be read
 * back later. */
bool ls__load_arrived(struct ls_group *group, uint32_t chunk, struct ls_span bytes);
/** Can more be loaded at once? */
bool ls__load_more(const struct ls_group *group);
/** While chunks are fetched. */
void ls__load_turn(struct ls_group *group);
/** What was loaded is of no use. */
void ls__load_drop(struct ls_group *group);

/* staging.c: as in ls_supervisor_driver */
enum ls_status ls__staging_begin(struct ls_group *group, uint64_t token,
                                 const struct ls_snapshot *snapshot, const struct ls_hash *hashes);
enum ls_status ls__staging_put(struct ls_group *group, uint64_t token, uint32_t chunk,
                               struct ls_span bytes);
enum ls_status ls__staging_publish(struct ls_group *group, uint64_t token);
bool ls__staging_has(const struct ls_group *group, uint32_t chunk);
bool ls__staging_installing(const struct ls_group *group, struct ls_sync_install *out);
void ls__staging_turn(struct ls_group *group);
/** Steps RESTORED for the marked anchor. errors LS_ERR_NO_MEMORY */
enum ls_status ls__staging_restored(struct ls_group *group);

/* keep.c */
void ls__keep_turn(struct ls_group *group);
void ls__keep_abort(struct ls_group *group);
/** Loads the newest file into the machine, or the staged one if it is that of the mark. None:
 * LS_OK all the same */
enum ls_status ls__keep_load(struct ls_group *group, enum ls_vault_file file,
                             struct ls_error *error);

#endif
