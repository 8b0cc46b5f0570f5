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

/** Defines the tests of the suite, of area `area`, over `subject` (an expression), with stores in
 * memory or on disk. */
#define CATCHUP_SUITE(area, subject, disk)                                                         \
    CATCHUP_TEST(area, closes_any_gap_with_any_size_of_ranges, subject, disk)                      \
    CATCHUP_TEST(area, takes_what_is_written_meanwhile, subject, disk)                             \
    CATCHUP_TEST(area, goes_on_when_its_source_dies_in_the_middle, subject, disk)                  \
    CATCHUP_TEST(area, goes_on_when_the_leader_dies_in_the_middle, subject, disk)                  \
    CATCHUP_TEST(area, asks_the_leader_last, subject, disk)

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

#endif
