/* SPDX-License-Identifier: MIT */
/*
 * How a lagging member is brought back, proved over any state sync with any machine, in the whole
 * library: real groups in virtual time (realm.h). In each case a member is away while
 * the others go on, and while it catches up something happens. In the end all members have applied
 * the same commands, none twice and none left out; the realm asserts that as it happens.
 */
#ifndef LOCKSTEP_CATCHUP_SUITE_H
#define LOCKSTEP_CATCHUP_SUITE_H

#include "realm.h"

/** Defines the tests of area `area` over `subject` (an expression) that work with any stores. */
#define CATCHUP_SUITE_ANY(area, subject, disk)                                                     \
    CATCHUP_TEST(area, closes_any_gap_with_any_size_of_ranges, subject, disk)                      \
    CATCHUP_TEST(area, takes_what_is_written_meanwhile, subject, disk)                             \
    CATCHUP_TEST(area, goes_on_when_its_source_dies_in_the_middle, subject, disk)                  \
    CATCHUP_TEST(area, goes_on_when_the_leader_dies_in_the_middle, subject, disk)                  \
    CATCHUP_TEST(area, asks_the_leader_last, subject, disk)                                        \
    CATCHUP_TEST(area, asks_nothing_when_nothing_is_missing, subject, disk)                        \
    CATCHUP_TEST(area, fetches_nothing_twice_after_a_power_cut, subject, disk)                     \
    CATCHUP_TEST(area, waits_while_all_peers_are_gone, subject, disk)                              \
    CATCHUP_TEST(area, uses_a_peer_that_comes_in_the_middle, subject, disk)                        \
    CATCHUP_TEST(area, follows_a_target_that_moves_a_hundred_times, subject, disk)                 \
    CATCHUP_TEST(area, is_not_overtaken_by_pruning, subject, disk)                                 \
    CATCHUP_TEST(area, finds_the_log_that_it_was_promised, subject, disk)                          \
    CATCHUP_TEST(area, survives_full_queues, subject, disk)                                        \
    CATCHUP_TEST(area, outlasts_pauses_of_a_minute, subject, disk)                                 \
    CATCHUP_TEST(area, gets_by_with_one_peer_that_needs_it, subject, disk)

/** All of them, with stores in memory, whose power can be cut. */
#define CATCHUP_SUITE(area, subject)                                                               \
    CATCHUP_SUITE_ANY(area, subject, false)                                                        \
    CATCHUP_TEST(area, survives_a_power_cut_at_every_step, subject, false)                         \
    CATCHUP_TEST(area, survives_a_source_that_loses_its_power, subject, false)                     \
    CATCHUP_TEST(area, installs_slower_than_every_timeout, subject, false)                         \
    CATCHUP_TEST(area, survives_every_forgery, subject, false)                                     \
    CATCHUP_TEST(area, survives_whatever_happens, subject, false)

#define CATCHUP_TEST(area, behaviour, subject, disk)                                               \
    TEST(area, behaviour)                                                                          \
    {                                                                                              \
        catchup_##behaviour(subject, disk);                                                        \
    }

void catchup_closes_any_gap_with_any_size_of_ranges(const struct realm_subject *subject, bool disk);
void catchup_takes_what_is_written_meanwhile(const struct realm_subject *subject, bool disk);
void catchup_goes_on_when_its_source_dies_in_the_middle(const struct realm_subject *subject,
                                                        bool disk);
void catchup_goes_on_when_the_leader_dies_in_the_middle(const struct realm_subject *subject,
                                                        bool disk);
void catchup_asks_the_leader_last(const struct realm_subject *subject, bool disk);
void catchup_asks_nothing_when_nothing_is_missing(const struct realm_subject *subject, bool disk);
void catchup_fetches_nothing_twice_after_a_power_cut(const struct realm_subject *subject,
                                                     bool disk);
void catchup_waits_while_all_peers_are_gone(const struct realm_subject *subject, bool disk);
void catchup_uses_a_peer_that_comes_in_the_middle(const struct realm_subject *subject, bool disk);
void catchup_follows_a_target_that_moves_a_hundred_times(const struct realm_subject *subject,
                                                         bool disk);
void catchup_is_not_overtaken_by_pruning(const struct realm_subject *subject, bool disk);
void catchup_finds_the_log_that_it_was_promised(const struct realm_subject *subject, bool disk);
void catchup_survives_full_queues(const struct realm_subject *subject, bool disk);
void catchup_outlasts_pauses_of_a_minute(const struct realm_subject *subject, bool disk);
void catchup_gets_by_with_one_peer_that_needs_it(const struct realm_subject *subject, bool disk);
void catchup_survives_a_power_cut_at_every_step(const struct realm_subject *subject, bool disk);
void catchup_survives_a_source_that_loses_its_power(const struct realm_subject *subject, bool disk);
void catchup_installs_slower_than_every_timeout(const struct realm_subject *subject, bool disk);
void catchup_survives_every_forgery(const struct realm_subject *subject, bool disk);
void catchup_survives_whatever_happens(const struct realm_subject *subject, bool disk);

#endif
