/* SPDX-License-Identifier: MIT */
/*
 * What the memory store keeps, as bytes, and the commits that wait to get there. The medium is the
 * disk: only what was applied to it is durable.
 */
#ifndef LS_STORAGE_MEDIUM_H
#define LS_STORAGE_MEDIUM_H

#include <lockstep/storage_memory.h>

#include "ledger.h"

struct ls__blob {
    uint8_t *bytes;
    size_t count, capacity;
};

struct ls__medium_record {
    size_t offset, bytes;
};

struct ls__medium_group {
    struct ls__medium_group *next;
    struct ls_group_id id;
    struct ls__blob log; /* records, back to back */
    struct ls__medium_record *records;
    size_t records_count, records_capacity, records_head; /* before head: pruned */
    ls_index first;                                       /* index of records[head] */
    struct ls__blob cells[LS__CELL_COMMIT + 1];
    uint8_t hard_before[LS__HARD_BYTES]; /* the cell that the last one replaced */
    size_t hard_before_bytes;
    struct ls__blob guard_image;     /* empty: no guard file */
    struct ls__medium_group *backup; /* log and cells as they were then; NULL: none was kept */

    struct ls__guard guard; /* of the open store: not durable until in the image */
    bool guard_dirty;
    uint64_t guard_synced_us;
    size_t wanted_records, wanted_bytes; /* while a commit is applied */
};

enum ls__op_kind { LS__OP_REMOVE = 1, LS__OP_APPEND = 2, LS__OP_PUT = 3 };

struct ls__op {
    enum ls__op_kind kind;
    struct ls__medium_group *group;
    ls_index first, last; /* remove; append: first */
    enum ls__cell cell;
    size_t offset, bytes; /* in the commit's arena */
};

struct ls__touched {
    struct ls_storage_group *handle; /* NULL: closed meanwhile */
    struct ls__medium_group *group;
    struct ls__outcome outcome;
};

struct ls__commit {
    struct ls__commit *next;
    uint64_t generation;
    struct ls__op *ops;
    size_t ops_count, ops_capacity;
    struct ls__blob arena;
    struct ls__touched *touched;
    size_t touched_count, touched_capacity;
    uint64_t entries, payload_bytes;
};

struct ls_storage_medium {
    struct ls_env env_copy;
    const struct ls_env *env; /* the copy */
    struct ls_incarnation incarnation;
    struct ls__medium_group *groups;
    struct ls__memory *store; /* open on it, or NULL */
    bool hold;
    bool dead; /* power cut: the open store is of no use */
    enum ls_storage_fault fault;
    size_t fault_after;
    bool open_cut; /* the next open of a group loses the power */
    size_t open_cut_bytes;
    size_t refusals; /* stages that find no room */
    uint64_t faults;
};

/** The group's place, made if missing. NULL: out of memory. */
struct ls__medium_group *ls__medium_group(struct ls_storage_medium *medium,
                                          const struct ls_group_id *id, bool make);

/** The record stored for an index; bytes 0: none. */
struct ls_span ls__medium_record(const struct ls__medium_group *group, ls_index index);

/**
 * Applies a commit and its guards, all or nothing. guard_syncs counts them.
 * errors LS_ERR_NO_MEMORY
 */
LS_NODISCARD enum ls_status ls__medium_apply(struct ls_storage_medium *medium,
                                             struct ls__commit *commit, uint64_t *guard_syncs);

/** Makes room for all of a commit, so that writing it cannot fail. */
bool ls__medium_reserve(struct ls_storage_medium *medium, const struct ls__commit *commit);
/** Writes its operations; the room was reserved. */
void ls__medium_write(const struct ls__commit *commit);
void ls__medium_remove(struct ls__medium_group *group, ls_index first, ls_index last);

/** Writes group->guard into the image. errors LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status ls__medium_guard_write(struct ls_storage_medium *medium,
                                                   struct ls__medium_group *group);

/** The write of the guard with which opening a group ends. errors LS_ERR_IO, LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status ls__medium_guard_open(struct ls_storage_medium *medium,
                                                  struct ls__medium_group *group,
                                                  struct ls_error *error);

bool ls__blob_append(const struct ls_env *env, struct ls__blob *blob, const void *bytes,
                     size_t count);

/** With its backup. Takes NULL. */
void ls__medium_group_free(const struct ls_env *env, struct ls__medium_group *group);

/* memory.c, for the faults that concern the open store */
void ls__memory_release(struct ls__memory *memory, size_t commits);
size_t ls__memory_held(const struct ls__memory *memory);
/** Is the group open in the store? */
bool ls__memory_uses(const struct ls__memory *memory, const struct ls__medium_group *place);
/** The commit that would be durable next, or NULL. */
struct ls__commit *ls__memory_oldest(struct ls__memory *memory);
/** Drops what is staged and waiting; returns how many commits were lost. */
size_t ls__memory_lose(struct ls__memory *memory);

#endif
