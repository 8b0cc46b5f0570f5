/* SPDX-License-Identifier: MIT */
/*
 * About how many bytes which part of the log has: the sum up to some of its entries, at even
 * distances, and between them a straight line. What was in the log at a join counts as large as the
 * entries at its end are.
 */
#ifndef LOCKSTEP_SIZES_H
#define LOCKSTEP_SIZES_H

#include <lockstep/core.h>

#define LS__SIZES_MARKS 256u
/* what an entry takes in a store beside its payload, about */
#define LS__SIZES_ENTRY_BYTES 32u

struct ls__sizes_mark {
    ls_index index;
    uint64_t bytes; /* of all entries up to it, since some time */
};

struct ls__sizes {
    struct ls__sizes_mark
        marks[LS__SIZES_MARKS]; /* ascending; the first is at the anchor or below */
    size_t count;
    uint64_t stride;            /* entries between two marks, at least */
    struct ls__sizes_mark last; /* end of the log */
};

/** The log is empty after `anchor`. */
void ls__sizes_reset(struct ls__sizes *sizes, ls_index anchor);
/** `count` entries follow that have `bytes` bytes of payload. */
void ls__sizes_add(struct ls__sizes *sizes, uint64_t count, uint64_t bytes);
/** Entries at and above `from` are gone. */
void ls__sizes_truncate(struct ls__sizes *sizes, ls_index from);
/** Entries up to `upto` are gone. */
void ls__sizes_prune(struct ls__sizes *sizes, ls_index upto);
/** Bytes of the entries after `after` up to `upto`. */
uint64_t ls__sizes_between(const struct ls__sizes *sizes, ls_index after, ls_index upto);
/** The lowest index so that the entries after it up to `upto` have at most `bytes` bytes; 0: all.
 */
ls_index ls__sizes_back(const struct ls__sizes *sizes, ls_index upto, uint64_t bytes);

#endif
