/* SPDX-License-Identifier: MIT */
/*
 * What every store promises (storage.h), as tests over a backend. A backend's program writes
 * STORAGE_SUITE_TESTS over a macro that calls storage_suite_<test>(open_backend), where
 * open_backend fills a struct store_backend with an empty place.
 */
#ifndef LOCKSTEP_STORAGE_SUITE_H
#define LOCKSTEP_STORAGE_SUITE_H

#include "store.h"

typedef void (*storage_backend_open)(struct store_backend *out);

#define STORAGE_SUITE_TESTS(X)                                                                     \
    X(new_group_is_empty)                                                                          \
    X(batch_is_reported_once_and_found_again)                                                      \
    X(staged_entries_are_not_readable_before_they_are_reported)                                    \
    X(hard_state_survives)                                                                         \
    X(every_kind_and_size_of_entry_survives)                                                       \
    X(runs_tell_each_change_of_term)                                                               \
    X(truncation_rewrites_the_end)                                                                 \
    X(truncation_of_what_is_still_staged)                                                          \
    X(truncation_takes_effect_for_readers_at_once)                                                 \
    X(several_truncations_in_one_commit)                                                           \
    X(reset_moves_the_anchor)                                                                      \
    X(reset_and_append_in_one_batch)                                                               \
    X(prune_keeps_the_cursor)                                                                      \
    X(prune_outside_the_durable_log_is_refused)                                                    \
    X(prune_then_append_in_one_commit)                                                             \
    X(configurations_are_found_and_revert_on_truncation)                                           \
    X(prune_keeps_the_configuration_in_force)                                                      \
    X(commit_hint_is_found_again)                                                                  \
    X(read_stops_at_bytes_and_at_the_visitor)                                                      \
    X(read_outside_the_log_says_why)                                                               \
    X(groups_are_apart_and_share_a_commit)                                                         \
    X(group_is_open_once)                                                                          \
    X(closed_group_opens_again_with_what_was_staged)                                               \
    X(close_writes_what_is_staged)                                                                 \
    X(empty_batch_is_reported)                                                                     \
    X(incarnation_stays)                                                                           \
    X(many_batches_in_flight_are_reported_in_order)                                                \
    X(random_histories_match_a_model)                                                              \
    X(counters_count)

#define STORAGE_SUITE_DECLARE(test) void storage_suite_##test(storage_backend_open open);
STORAGE_SUITE_TESTS(STORAGE_SUITE_DECLARE)

#endif
