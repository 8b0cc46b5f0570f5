/* SPDX-License-Identifier: MIT */
/* Leadership transfer: to whom, what becomes of it, and what ends it. Thesis 3.10. */
#include "cores.h"

static struct group *leading(unsigned voters, unsigned count)
{
    struct group *group = group_new(voters, count);
    group_elect(group, 0);
    for (unsigned i = 1; i < count; i++) {
        group_link(group, 0, i, true);
    }
    group_run(group, HEARTBEAT + HEARTBEAT / 2);
    net_drop_all(group);
    return group;
}

static void transfer(struct group *group, unsigned at, struct ls_peer_id to)
{
    node_step(group, at, (struct ls_event){.kind = LS_EVENT_TRANSFER, .as.transfer_to = to});
}

static void transfer_to_anybody(struct group *group)
{
    transfer(group, 0, (struct ls_peer_id){{0}});
}

/* Takes commands again: no hand-over is under way. */
static bool takes_commands(struct group *group)
{
    group_propose(group, 0, 1, 1);
    return group->nodes[0].outcome.propose == LS_OK;
}

TEST(transfer, brings_the_target_up_to_date_and_hands_over_at_once)
{
    struct group *group = leading(3, 3);
    group_propose(group, 0, 5, 10);
    uint64_t before = group->now;
    transfer(group, 0, test_id(2));
    assert_int_equal(group->nodes[0].outcome.transfer, LS_OK);
    assert_int_equal(node_sends(group, 0, LS_MESSAGE_TIMEOUT_NOW), 0); /* not before it has all */
    group_propose(group, 0, 1, 1);
    assert_int_equal(group->nodes[0].outcome.propose, LS_ERR_BUSY);
    transfer(group, 0, test_id(1));
    assert_int_equal(group->nodes[0].outcome.transfer, LS_ERR_BUSY);
    group_settle(group);
    assert_int_equal(group->now, before); /* no timeout was waited for */
    assert_int_equal(group_leader(group), 2);
    assert_int_equal(group->nodes[2].ready.last, 8);
    group_free(group);
}

TEST(transfer, to_nobody_in_particular_takes_the_most_up_to_date_voter)
{
    struct group *group = leading(3, 4);
    group_run(group, 2 * HEARTBEAT);
    group->cut[0][1] = true;
    group_propose(group, 0, 5, 10);
    group_settle(group);
    transfer_to_anybody(group);
    assert_int_equal(group->nodes[0].outcome.transfer, LS_OK);
    group_settle(group);
    assert_int_equal(group_leader(group), 2);
    group_free(group);
}

TEST(transfer, is_given_up_after_one_timeout_and_proposals_go_on)
{
    struct group *group = leading(3, 3);
    group_cut(group, 2, true);
    transfer(group, 0, test_id(2));
    assert_int_equal(group->nodes[0].outcome.transfer, LS_OK);
    group_run(group, ELECTION + HEARTBEAT);
    group_propose(group, 0, 1, 1);
    assert_int_equal(group->nodes[0].outcome.propose, LS_OK);
    group_free(group);
}

TEST(transfer, goes_to_counting_voters_only_and_comes_from_the_leader_only)
{
    struct group *group = leading(3, 4);
    transfer(group, 0, test_id(3)); /* an observer */
    assert_int_equal(group->nodes[0].outcome.transfer, LS_ERR_NOT_FOUND);
    transfer(group, 0, test_id(9));
    assert_int_equal(group->nodes[0].outcome.transfer, LS_ERR_NOT_FOUND);
    transfer(group, 1, test_id(2));
    assert_int_equal(group->nodes[1].outcome.transfer, LS_ERR_NOT_LEADER);
    struct ls_message now = test_message(LS_MESSAGE_TIMEOUT_NOW, 2, 1, 2);
    node_receive(group, 1, &now); /* not its leader */
    assert_int_equal(group->nodes[1].ready.role, LS_ROLE_FOLLOWER);
    now = test_message(LS_MESSAGE_TIMEOUT_NOW, 0, 1, 1);
    node_receive(group, 1, &now); /* of an earlier term */
    assert_int_equal(group->nodes[1].ready.role, LS_ROLE_FOLLOWER);
    group_free(group);
}

TEST(transfer, to_nobody_in_particular_passes_over_a_member_whose_bond_is_down)
{
    struct group *group = leading(3, 3);
    group->cut[0][2] = true; /* it holds less, and is there */
    group_propose(group, 0, 5, 10);
    group_settle(group);
    group->cut[0][2] = false;
    group_link(group, 0, 1, false); /* it was heard just now, and has left */
    node_close(group, 1);
    transfer_to_anybody(group);
    assert_int_equal(group->nodes[0].outcome.transfer, LS_OK);
    group_run(group, 2 * HEARTBEAT); /* less than any timeout */
    assert_int_equal(group_leader(group), 2);
    group_free(group);
}

TEST(transfer, of_members_that_hold_the_same_takes_the_one_heard_last)
{
    struct group *group = leading(4, 4);
    struct ls_message late = test_message(LS_MESSAGE_HEARTBEAT_REPLY, 2, 0, 2);
    late.as.heartbeat_reply = (struct ls_heartbeat_reply){.last = 2, .match = 2, .counts = true};
    group->now += HEARTBEAT / 4; /* the others answer nothing for a while */
    node_receive(group, 0, &late);
    group->now += HEARTBEAT / 4;
    transfer_to_anybody(group);
    assert_int_equal(group->nodes[0].outcome.transfer, LS_OK);
    group_settle(group);
    assert_int_equal(group_leader(group), 2);
    group_free(group);
}

TEST(transfer, goes_to_another_at_once_when_the_bond_of_the_target_goes_down)
{
    struct group *group = leading(4, 4);
    uint64_t before = group->now;
    transfer_to_anybody(group);
    struct ls_peer_id target = node_sent(group, 0, LS_MESSAGE_TIMEOUT_NOW)->message.to;
    struct ls_peer_id first = test_id(1);
    assert_true(ls_peer_id_equal(&target, &first));
    group_link(group, 0, 1, false); /* it left, and what was sent to it is lost */
    assert_int_equal(node_sends(group, 0, LS_MESSAGE_TIMEOUT_NOW), 1);
    node_close(group, 1);
    group_settle(group);
    assert_int_equal(group->now, before);
    assert_int_equal(group_leader(group), 2);
    group_free(group);
}

TEST(transfer, to_nobody_in_particular_ends_at_once_when_nobody_is_bonded)
{
    struct group *group = leading(3, 3);
    group_link(group, 0, 1, false);
    transfer_to_anybody(group);
    assert_int_equal(group->nodes[0].outcome.transfer, LS_OK);
    assert_false(takes_commands(group));
    group_link(group, 0, 2, false);
    assert_true(takes_commands(group));
    transfer_to_anybody(group);
    assert_int_equal(group->nodes[0].outcome.transfer, LS_ERR_NOT_FOUND);
    assert_true(takes_commands(group));
    group_free(group);
}

TEST(transfer, to_the_member_named_waits_for_its_bond_and_tells_it_again)
{
    struct group *group = leading(3, 3);
    transfer(group, 0, test_id(2));
    assert_int_equal(node_sends(group, 0, LS_MESSAGE_TIMEOUT_NOW), 1);
    group_link(group, 0, 2, false);
    net_drop_all(group); /* what was sent is lost with its link */
    assert_false(takes_commands(group));
    group_link(group, 0, 2, true);
    group_settle(group);
    assert_int_equal(group_leader(group), 2);
    group_free(group);
}
