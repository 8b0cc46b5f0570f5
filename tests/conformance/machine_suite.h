/* SPDX-License-Identifier: MIT */
/*
 * What every machine promises (machine.h), as tests over a subject. A subject's program writes
 * MACHINE_SUITE_TESTS over a macro that calls machine_suite_<test>(open_subject), where
 * open_subject fills a struct machine_subject with an empty place. The tests of snapshots skip a
 * machine that has none.
 */
#ifndef LOCKSTEP_MACHINE_SUITE_H
#define LOCKSTEP_MACHINE_SUITE_H

#include <lockstep/machine.h>

#include "test.h"

struct machine_subject {
    void *self;
    /** The machine over the place; after its close, another one that finds what was durable. */
    void (*make)(void *self, struct ls_machine *out);
    /** Command `number`: depends on nothing else. Borrowed until the next call. */
    struct ls_span (*command)(void *self, uint64_t number);
    /** Queries 0 to `queries` - 1, whose replies together tell as much of the state as possible. */
    struct ls_span (*query)(void *self, size_t number);
    size_t queries;
    bool on_disk;
    /** Optional: the machine's next `times` applies answer BUSY. */
    void (*busy)(void *self, uint32_t times);
    /** The machine closed: gives up the place. Optional. */
    void (*close)(void *self);
};

typedef void (*machine_subject_open)(struct machine_subject *out);

#define MACHINE_SUITE_TESTS(X)                                                                     \
    X(signature_is_one_for_all_and_fits)                                                           \
    X(two_instances_answer_alike)                                                                  \
    X(batch_is_its_commands_one_by_one)                                                            \
    X(busy_means_nothing_happened)                                                                 \
    X(query_changes_nothing)                                                                       \
    X(bytes_of_nobody_are_answered_alike)                                                          \
    X(durable_index_only_grows_and_is_found_again)                                                 \
    X(state_of_another_group_or_incarnation_is_refused)                                            \
    X(pictures_of_equal_states_are_equal)                                                          \
    X(picture_stands_still_while_the_machine_goes_on)                                              \
    X(picture_is_read_from_any_item_on)                                                            \
    X(restored_state_is_the_one_of_the_picture)                                                    \
    X(state_that_is_not_published_changes_nothing)

#define MACHINE_SUITE_DECLARE(test) void machine_suite_##test(machine_subject_open open);
MACHINE_SUITE_TESTS(MACHINE_SUITE_DECLARE)

#endif
