/* SPDX-License-Identifier: MIT */
/*
 * The book-keeping of one group, shared by every backend: where its chain stands, what is staged
 * and not yet durable, which configurations it holds, and what open found. A backend moves bytes;
 * the ledger decides which.
 *
 *            anchor          visible            last
 *              |                |                |
 *   -- pruned -+---- durable ---+---- tail ------+      tail: staged, not yet reported durable
 *
 * Each entry of the tail remembers its generation, the number of the write it belongs to. When a
 * write is reported, its entries leave the tail at the front; what is before the tail is on disk.
 */
#ifndef LS_STORAGE_LEDGER_H
#define LS_STORAGE_LEDGER_H

#include "guard.h"

struct ls__tail_entry {
    ls_term term;
    uint64_t check;
    uint64_t generation;
};

/** What the batches of one group in one write amount to; the writer learns it with the write. */
struct ls__outcome {
    uint64_t seq;         /* of the last batch */
    struct ls__mark last; /* end of the log after it */
    bool lowered;         /* it was cut below, in between */
    struct ls__mark lowest;
    bool hard_changed;
    struct ls_hard_state hard;
    bool tail_known;
};

/** Where a ledger puts what it decided; filled by the backend. */
struct ls__emit {
    void *self;
    /** Makes sure that the calls below cannot fail. errors LS_ERR_NO_MEMORY, LS_ERR_BUSY */
    enum ls_status (*reserve)(void *self, size_t operations, size_t bytes);
    /** The mark of a durable record. errors LS_ERR_CORRUPT, LS_ERR_IO */
    enum ls_status (*find)(void *self, ls_index index, struct ls__mark *out);
    /** Removes the records first..last; last may be UINT64_MAX. */
    void (*remove)(void *self, ls_index first, ls_index last);
    void (*append)(void *self, ls_index index, const uint8_t header[LS__RECORD_HEADER_BYTES],
                   struct ls_span payload);
    void (*put)(void *self, enum ls__cell cell, struct ls_span bytes);
};

struct ls__ledger {
    const struct ls_env *env; /* borrowed from the store */
    struct ls_group_id id;
    char name[9]; /* first digits of the id, for texts */
    struct ls__chain chain;
    struct ls_cursor last; /* of all that is staged */
    struct ls__mark anchor;
    uint64_t seq;         /* of the last staged batch */
    uint64_t refused_seq; /* 0, or the batch without which no later one is taken */
    enum ls_status refused;

    struct ls__tail_entry *tail; /* a ring */
    size_t tail_capacity, tail_head, tail_count;

    struct ls_stored_configuration *configurations; /* bytes owned; ascending */
    size_t configurations_count, configurations_capacity;
    uint8_t *anchor_cell; /* scratch for encoding */
    size_t anchor_cell_capacity;

    /* found by open */
    struct ls_hard_state hard;
    ls_index commit_hint;
    struct ls_cursor *runs; /* released at the first stage */
    size_t runs_count, runs_capacity;
    struct ls__guard guard;
    bool guard_found;
    bool guard_differs; /* the log holds another record at the guard's cursor */
};

void ls__ledger_init(struct ls__ledger *ledger, const struct ls_env *env,
                     const struct ls_group_id *id);
void ls__ledger_release(struct ls__ledger *ledger);

/* open: guard, then cells, then every record in order, then finish */

/** image: the guard file, bytes 0: none. errors LS_ERR_CORRUPT, LS_ERR_FORMAT */
LS_NODISCARD enum ls_status ls__ledger_load_guard(struct ls__ledger *ledger, struct ls_span image,
                                                  struct ls_error *error);
/** One stored cell of the group. errors LS_ERR_CORRUPT, LS_ERR_FORMAT, LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status ls__ledger_load_cell(struct ls__ledger *ledger, enum ls__cell cell,
                                                 struct ls_span bytes, struct ls_error *error);
/** The record stored for `index`, which must follow the one before. errors as load_cell */
LS_NODISCARD enum ls_status ls__ledger_load_record(struct ls__ledger *ledger, ls_index index,
                                                   struct ls_span bytes, struct ls_error *error);
/**
 * Compares with the guard and fills `state`. Afterwards ledger->guard is what the guard has to say
 * from now on; the backend stores it before it returns from open_group, creating it if it was not
 * found. errors LS_ERR_MISMATCH (guard of another incarnation)
 */
LS_NODISCARD enum ls_status ls__ledger_finish(struct ls__ledger *ledger,
                                              const struct ls_incarnation *incarnation,
                                              struct ls_storage_state *state,
                                              struct ls_error *error);

/**
 * Takes one batch: frames its entries and emits what is to be written. Changes nothing if it fails.
 * outcome  of this group in this write; all zero before the first batch
 * errors   LS_ERR_NO_MEMORY, LS_ERR_BUSY, LS_ERR_CORRUPT, LS_ERR_IO
 */
LS_NODISCARD enum ls_status ls__ledger_stage(struct ls__ledger *ledger,
                                             const struct ls_storage_batch *batch,
                                             uint64_t generation, const struct ls__emit *emit,
                                             struct ls__outcome *outcome);
/**
 * Between a refused batch and those after it: a later one must not be taken, since its report would
 * say that the refused one is durable too. Returns why `seq` cannot be staged, or LS_OK.
 */
LS_NODISCARD enum ls_status ls__ledger_admits(const struct ls__ledger *ledger, uint64_t seq);
/** Notes how staging `seq` ended; returns `status`. */
enum ls_status ls__ledger_staged(struct ls__ledger *ledger, uint64_t seq, enum ls_status status);

/** The same for a prune. errors as stage, LS_ERR_INVALID (not anchor < upto < last, not durable) */
LS_NODISCARD enum ls_status ls__ledger_prune(struct ls__ledger *ledger, ls_index upto,
                                             const struct ls__emit *emit,
                                             struct ls__outcome *outcome);

/** The write of that generation, and all before, is durable. */
void ls__ledger_settle(struct ls__ledger *ledger, uint64_t generation);

/** The last index that may be read: durable, reported, and not staged to be removed. */
ls_index ls__ledger_visible(const struct ls__ledger *ledger);

/** Why a read of `first` cannot begin, or LS_OK; bounds *last. */
LS_NODISCARD enum ls_status ls__ledger_readable(const struct ls__ledger *ledger, ls_index first,
                                                ls_index *last);

/** A read under way: each stored record of the range is taken in order. */
struct ls__scan {
    const struct ls__ledger *ledger;
    ls_index next, last;
    uint64_t previous; /* check of the record before; valid after the first */
    bool begun;
    size_t bytes_left;
    ls_storage_visit visit;
    void *arg;
};

/**
 * Verifies and visits one record. *more is false when the range, the bytes or the visitor end it.
 * errors LS_ERR_CORRUPT, LS_ERR_FORMAT; traced
 */
LS_NODISCARD enum ls_status ls__scan_take(struct ls__scan *scan, struct ls_span bytes, bool *more);

/* The guard's part in a write. Each returns true if the guard must be synced: */
/** ... before the write. */
bool ls__guard_before(struct ls__guard *guard, const struct ls__outcome *outcome);
/** ... after it, before it is reported. Also notes the cursor: *dirty, if the guard is older. */
bool ls__guard_after(struct ls__guard *guard, const struct ls__outcome *outcome, bool *dirty);

/**
 * NULL, or why an options struct cannot be taken: `size` is not set, or a newer caller asks for
 * something that this version does not know.
 */
const char *ls__storage_options_invalid(const void *options, size_t size, size_t known);

static inline void *ls__allocate(const struct ls_env *env, size_t bytes)
{
    return env->allocate(env->self, NULL, bytes);
}

static inline void ls__free(const struct ls_env *env, void *block)
{
    if (block != NULL) {
        (void)env->allocate(env->self, block, 0);
    }
}

/** Grows an array to hold `count` elements, doubling. False: refused, nothing changed. */
bool ls__array_grow(const struct ls_env *env, void **array, size_t *capacity, size_t count,
                    size_t bytes);

#endif
