/* SPDX-License-Identifier: MIT */
/*
 * The memory store, inside: what is staged is collected in the pending commit (memory_stage.c), and
 * goes its way to the medium from there (memory.c).
 */
#ifndef LS_STORAGE_MEMORY_STORE_H
#define LS_STORAGE_MEMORY_STORE_H

#include "medium.h"

struct ls_storage_group {
    struct ls_storage_group *next;
    struct ls__ledger ledger;
    struct ls__medium_group *place;
    void *context;
    uint64_t reported; /* last seq that was */
    bool failed;       /* told so */
};

struct ls__memory {
    const struct ls_env *env;
    struct ls_storage_medium *medium;
    bool medium_owned;
    struct ls_storage_sink sink;
    struct ls_storage_group *groups;
    struct ls__commit *pending;
    struct ls__commit *waiting, **waiting_end;
    struct ls__commit *finished, **finished_end;
    struct ls__commit *spare;
    struct ls_storage_group *staging; /* the group that emits */
    uint64_t generation;
    enum ls_status failed; /* latched */
    char text[LS_ERROR_TEXT_BYTES];
    struct ls_storage_counters counters;
};

/* memory_stage.c, of the port */

LS_NODISCARD enum ls_status ls__memory_stage(void *self, struct ls_storage_group *group,
                                             const struct ls_storage_batch *batch);
LS_NODISCARD enum ls_status ls__memory_prune(void *self, struct ls_storage_group *group,
                                             ls_index upto);

#endif
