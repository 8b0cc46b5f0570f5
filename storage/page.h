/* SPDX-License-Identifier: MIT */
/*
 * Pages: how records lie in the durable store. A page is one stored value, the records of
 * consecutive entries one after the other, under the index of its first. A store pays for each
 * value (its key, a place in a sorted table, a checksum), so entries that are staged together share
 * one.
 *
 *      key 17:  [17][18][19]     key 20:  [20][21] ...
 *
 * Pages are never changed. A log that is cut inside of one keeps it, and the next page says where
 * it ends: what a page holds from the first index of the page behind it on is void. A cut leaves an
 * empty page at its place, so there is one behind even if nothing is appended. What a page holds at
 * or below the anchor is void as well.
 */
#ifndef LS_STORAGE_PAGE_H
#define LS_STORAGE_PAGE_H

#include "engine.h"

/* larger pages save no more; a longer record has a page of its own */
#define LS__PAGE_BYTES (32u << 10)

/** A page that is being filled; all zero: empty. */
struct ls__page {
    ls_index first, next;
    size_t bytes;
    uint8_t data[LS__PAGE_BYTES];
};

/** Does the record of `index` go into this page? */
bool ls__page_takes(const struct ls__page *page, ls_index index, size_t record_bytes);
/** Adds a record that it takes. */
void ls__page_add(struct ls__page *page, ls_index index,
                  const uint8_t header[LS__RECORD_HEADER_BYTES], struct ls_span payload);

/** The records of a page, from the front. */
struct ls__page_walk {
    ls_index next;
    struct ls_span left;
};
/** Takes the next record; one that is cut off or has an impossible length is what is left. False:
 * there is no more. */
bool ls__page_walk(struct ls__page_walk *walk, ls_index *index, struct ls_span *record);

/** Reads the records of one group in order. */
struct ls__pages {
    const struct ls_env *env;
    struct ls__engine_iterator *iterator;
    ls_index from;  /* records before are passed over */
    ls_index until; /* where the page behind begins */
    struct ls__page_walk walk;
    bool inside; /* the iterator still stands on the page that is walked */
    uint8_t *copy;
    size_t capacity;
    enum ls_status failed;
};

/** errors LS_ERR_NO_MEMORY; nothing is to be closed then */
LS_NODISCARD enum ls_status ls__pages_open(struct ls__pages *pages, const struct ls_env *env,
                                           struct ls__engine *engine, const struct ls_group_id *id,
                                           ls_index from);
/** The next record, borrowed until the next call; false at the end or on an error. */
bool ls__pages_next(struct ls__pages *pages, ls_index *index, struct ls_span *record);
/** Why it ended. errors LS_ERR_CORRUPT, LS_ERR_IO, LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status ls__pages_close(struct ls__pages *pages, struct ls_error *error);

#endif
