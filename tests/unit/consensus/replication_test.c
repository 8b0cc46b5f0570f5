/* SPDX-License-Identifier: MIT */
/* A group of cores elects, replicates and commits. */
#include "cores.h"

TEST(replication, three_members_elect_and_commit_what_is_proposed)
{
    struct group *group = group_new(3, 3);
    group_run(group, 3 * ELECTION);
    int leader = group_leader(group);
    assert_true(leader >= 0);
    group_propose(group, (unsigned)leader, 10, 100);
    assert_int_equal(group->nodes[leader].outcome.propose, LS_OK);
    group_run(group, 2 * HEARTBEAT);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(group->nodes[i].ready.last, 12);
        assert_int_equal(group->nodes[i].ready.commit, 12);
        assert_int_equal(group->nodes[i].ready.durable, 12);
    }
    group_agrees(group);
    group_free(group);
}

TEST(replication, survivors_elect_another_leader_and_the_old_one_follows_when_it_returns)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    group_propose(group, 0, 5, 10);
    group_settle(group);
    node_close(group, 0);
    group_run(group, 4 * ELECTION);
    int leader = group_leader(group);
    assert_true(leader > 0);
    group_propose(group, (unsigned)leader, 5, 10);
    group_run(group, HEARTBEAT);
    node_open(group, 0);
    group_run(group, 3 * ELECTION);
    assert_int_equal(group_leader(group), leader);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_FOLLOWER);
    assert_int_equal(group->nodes[0].ready.commit, group->nodes[leader].ready.commit);
    group_agrees(group);
    group_free(group);
}
