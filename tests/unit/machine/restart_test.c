/* SPDX-License-Identifier: MIT */
/* What a group finds again after all its members lost their power at once. */
#include "trio.h"

/* more than a join reads into the cache for its own sake */
#define TAIL  9000u
#define BATCH 1000u

struct reach {
    size_t at;
    ls_index durable, commit;
};

static bool reached(struct trio *trio, void *arg)
{
    const struct reach *reach = arg;
    struct ls_group_status status;
    ls_group_status(trio->members[reach->at].group, &status);
    return status.core.durable >= reach->durable && status.core.commit >= reach->commit;
}

TEST(restart, of_all_members_commits_a_long_tail_that_no_quorum_held)
{
    static struct ls_span commands[BATCH];
    static struct trio_outcome outcome;
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    assert_int_equal(trio_execute(&trio, leader, "x").status, LS_OK);
    trio_wait_equal(&trio, 1);

    /* the followers' disks stand still: the leader alone makes the tail durable */
    ls_storage_medium_hold(trio.members[(leader + 1) % 3].medium, true);
    ls_storage_medium_hold(trio.members[(leader + 2) % 3].medium, true);
    for (size_t i = 0; i < BATCH; i++) {
        commands[i] = (struct ls_span){"tail", 4};
    }
    for (size_t i = 0; i < TAIL / BATCH; i++) {
        assert_ok(ls_group_feed_many(trio.members[leader].group, commands, BATCH, NULL, trio_done,
                                     &outcome));
    }
    trio_until(&trio, reached, &(struct reach){.at = leader, .durable = TAIL});
    for (size_t i = 0; i < 3; i++) {
        ls_storage_medium_power_cut(trio.members[i].medium);
        trio_stop(&trio, i);
        ls_storage_medium_hold(trio.members[i].medium, false);
    }

    /* with one other member only the holder of the tail can win, and it must bring it to a quorum
     */
    trio_start(&trio, leader);
    trio_start(&trio, (leader + 1) % 3);
    trio_until(&trio, reached, &(struct reach){.at = leader, .commit = TAIL});
    trio_wait_equal(&trio, TAIL - BATCH);
    trio_close(&trio);
}
