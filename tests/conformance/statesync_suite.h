/* SPDX-License-Identifier: MIT */
/*
 * The contract of a state sync (lockstep/statesync.h) that brings whole logs, proved over any
 * implementation in the small world of tests/support/sync_world.h: real supervisors on both sides,
 * virtual time.
 */
#ifndef LOCKSTEP_STATESYNC_SUITE_H
#define LOCKSTEP_STATESYNC_SUITE_H

#include "sync_world.h"

struct statesync_subject {
    struct ls_statesync statesync;
    uint64_t seed;
};

void statesync_closes_gaps(const struct statesync_subject *subject);
void statesync_serves_committed_entries_only(const struct statesync_subject *subject);
void statesync_follows_a_moving_target(const struct statesync_subject *subject);
void statesync_changes_its_source(const struct statesync_subject *subject);
void statesync_survives_garbage(const struct statesync_subject *subject);
void statesync_survives_refused_memory(const struct statesync_subject *subject);
void statesync_may_be_destroyed_at_any_time(const struct statesync_subject *subject);
void statesync_does_not_spin(const struct statesync_subject *subject);
void statesync_allows_no_pruning_beyond_commit(const struct statesync_subject *subject);

#endif
