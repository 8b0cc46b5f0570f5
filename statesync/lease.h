/* SPDX-License-Identifier: MIT */
/*
 * Members that a provider serves: a lease each, which every question renews, and what else the
 * provider remembers of them. A place whose lease ran out is given to the next one who asks.
 */
#ifndef LOCKSTEP_STATESYNC_LEASE_H
#define LOCKSTEP_STATESYNC_LEASE_H

#include <lockstep/statesync.h>

/* The first member of what a provider remembers of one; a table has LS_MEMBERS_MAX of these. */
struct ls__lease {
    struct ls_peer_id id;
    ls_index need;     /* the lowest index its session still needs */
    uint64_t until_us; /* 0: a free place */
};

static inline bool ls__lease_lives(const struct ls__lease *lease, uint64_t now)
{
    return lease->until_us > now;
}

/** The place of `id` in a table of things of `each` bytes, its lease alive or not; NULL: none. */
void *ls__lease_find(void *table, size_t each, const struct ls_peer_id *id);
/** The same, or else one that is free or whose lease ran out, as its last holder left it; NULL:
 * more members ask than a group can have. */
void *ls__lease_place(void *table, size_t each, const struct ls_peer_id *id, uint64_t now);

#endif
