/* SPDX-License-Identifier: MIT */
/*
 * A random but repeatable history of one group: appends, truncations, resets, prunes, votes. Step n
 * stores n as its commit hint in the same batch, so whoever opens the store later knows up to which
 * step it holds, and the model tells what has to be there.
 */
#ifndef LOCKSTEP_TEST_HISTORY_H
#define LOCKSTEP_TEST_HISTORY_H

#include <lockstep/storage.h>

#define HISTORY_ENTRIES_MAX (1u << 20)

struct history {
    uint64_t seed;
    uint64_t step; /* the last one taken */
    ls_term term;
    ls_index anchor, last;
    struct ls_hard_state hard;
    ls_term *terms; /* by index; HISTORY_ENTRIES_MAX of them */
};

/** One step: a prune of durable entries first (0: none), then a batch. */
struct history_step {
    ls_index prune;
    struct ls_storage_batch batch; /* entries borrowed until the next step */
    struct ls_hard_state hard;
};

void history_open(struct history *history, uint64_t seed);
void history_close(struct history *history);
void history_next(struct history *history, struct history_step *step);

/** NULL, or in what the store's group differs from the history as it stands. */
const char *history_differs(const struct history *history, struct ls_storage *storage,
                            struct ls_storage_group *group, const struct ls_storage_state *state);

#endif
