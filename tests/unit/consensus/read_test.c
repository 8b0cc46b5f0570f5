/* SPDX-License-Identifier: MIT */
/* Linearizable reads. P7, R1-R5, R13; thesis 6.4. */
#include "cores.h"

static void read_at(struct group *group, unsigned at, uint64_t token)
{
    node_step(group, at, (struct ls_event){.kind = LS_EVENT_READ, .as.read_token = token});
}

static struct ls_message beat_reply(unsigned from, ls_term term, uint64_t round)
{
    struct ls_message m = test_message(LS_MESSAGE_HEARTBEAT_REPLY, from, 0, term);
    m.as.heartbeat_reply =
        (struct ls_heartbeat_reply){.round = round, .last = 2, .match = 2, .counts = true};
    return m;
}

static struct group *leading(unsigned voters, unsigned count)
{
    struct group *group = group_new(voters, count);
    group_elect(group, 0);
    group_run(group, HEARTBEAT + HEARTBEAT / 2);
    net_drop_all(group);
    return group;
}

TEST(read, P7_the_index_is_taken_before_the_round_and_valid_when_a_quorum_answers_it)
{
    struct group *group = leading(5, 5);
    read_at(group, 0, 1);
    assert_int_equal(node_sends(group, 0, LS_MESSAGE_HEARTBEAT), 4);
    uint64_t round = node_sent(group, 0, LS_MESSAGE_HEARTBEAT)->message.as.heartbeat.round;
    assert_int_equal(group->nodes[0].results_count, 0);
    struct ls_message m = beat_reply(1, 2, round);
    node_receive(group, 0, &m);
    node_receive(group, 0, &m); /* R13: one member twice is no majority */
    assert_int_equal(group->nodes[0].results_count, 0);
    m = beat_reply(2, 2, round);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].results_count, 1);
    assert_int_equal(group->nodes[0].results[0].status, LS_OK);
    assert_int_equal(group->nodes[0].results[0].token, 1);
    assert_int_equal(group->nodes[0].results[0].index, 2);
    group_free(group);
}

TEST(read, P7_answers_that_do_not_count_confirm_nothing)
{
    struct group *group = leading(3, 5);
    read_at(group, 0, 1);
    uint64_t round = group->nodes[0].ready.messages[0].message.as.heartbeat.round;
    struct ls_message m = beat_reply(3, 2, round); /* an observer */
    node_receive(group, 0, &m);
    m = beat_reply(1, 2, round); /* makes no promises now */
    m.as.heartbeat_reply.counts = false;
    node_receive(group, 0, &m);
    m = beat_reply(1, 2, round); /* another data directory */
    m.incarnation = test_incarnation(1, 4);
    node_receive(group, 0, &m);
    m = beat_reply(2, 1, round); /* of another term */
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].results_count, 0);
    m = beat_reply(2, 2, round);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].results_count, 1);
    group_free(group);
}

/* R2: an answer to an earlier round, late or repeated, confirms no later read. */
TEST(read, P7_R2_a_late_answer_confirms_only_the_reads_of_its_round)
{
    struct group *group = leading(3, 3);
    read_at(group, 0, 1);
    uint64_t round = group->nodes[0].ready.messages[0].message.as.heartbeat.round;
    read_at(group, 0, 2); /* waits for the next round */
    assert_int_equal(group->nodes[0].ready.messages_count, 0);
    struct ls_message late = beat_reply(1, 2, round);
    node_receive(group, 0, &late);
    assert_int_equal(group->nodes[0].results_count, 1);
    assert_int_equal(node_sends(group, 0, LS_MESSAGE_HEARTBEAT), 2); /* the next round begins */
    node_receive(group, 0, &late);
    assert_int_equal(group->nodes[0].results_count, 1);
    late = beat_reply(2, 2, round + 1);
    node_receive(group, 0, &late);
    assert_int_equal(group->nodes[0].results_count, 2);
    group_free(group);
}

TEST(read, reads_that_arrive_during_a_round_share_the_next_one)
{
    struct group *group = leading(3, 3);
    unsigned beats = 0;
    for (uint64_t token = 1; token <= 40; token++) {
        read_at(group, 0, token);
        beats += node_sends(group, 0, LS_MESSAGE_HEARTBEAT);
    }
    assert_int_equal(beats, 2); /* one round, to two members */
    group_settle(group);
    assert_int_equal(group->nodes[0].results_count, 40);
    group_free(group);
}

TEST(read, a_round_lost_on_the_way_is_made_up_by_the_next_heartbeat)
{
    struct group *group = leading(3, 3);
    read_at(group, 0, 1);
    net_drop_all(group);
    group_run(group, 2 * HEARTBEAT);
    assert_int_equal(group->nodes[0].results_count, 1);
    group_free(group);
}

TEST(read, P7_R1_a_leader_without_a_commit_of_its_term_holds_the_read)
{
    struct group *group = group_new(3, 3);
    group->nodes[1].hold = group->nodes[2].hold = true;
    group->now += 2 * ELECTION;
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_TICK});
    for (unsigned i = 0; i < 6; i++) {
        group_settle(group);
        if (group->nodes[0].ready.role == LS_ROLE_CANDIDATE) {
            node_sync(group, 1);
            node_sync(group, 2);
        }
    }
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    assert_true(group->nodes[0].ready.commit < group->nodes[0].ready.own_term_first);
    read_at(group, 0, 1);
    group_settle(group);
    assert_int_equal(group->nodes[0].results_count, 0);
    group->nodes[1].hold = false;
    group_settle(group);
    assert_int_equal(group->nodes[0].results_count, 1);
    assert_int_equal(group->nodes[0].results[0].status, LS_OK);
    assert_true(group->nodes[0].results[0].index >= 2);
    group_free(group);
}

TEST(read, R3_a_partitioned_leader_answers_no_read)
{
    struct group *group = leading(3, 3);
    group_cut(group, 0, true);
    read_at(group, 0, 1);
    group_run(group, 2 * ELECTION);
    assert_int_equal(group->nodes[0].results_count, 1);
    assert_int_equal(group->nodes[0].results[0].status, LS_ERR_NO_LEADER);
    read_at(group, 0, 2);
    assert_int_equal(group->nodes[0].results[1].status, LS_ERR_NO_LEADER);
    group_free(group);
}

TEST(read, R4_a_deposed_leader_fails_its_reads_and_tells_those_who_asked)
{
    struct group *group = leading(3, 3);
    read_at(group, 0, 1);
    struct ls_message ask = test_message(LS_MESSAGE_READ_INDEX, 1, 0, 2);
    ask.as.read_index.token = 9;
    node_receive(group, 0, &ask);
    struct ls_message beat = test_message(LS_MESSAGE_HEARTBEAT, 2, 0, 3);
    beat.as.heartbeat.round = 1;
    node_receive(group, 0, &beat);
    assert_int_equal(group->nodes[0].results_count, 1);
    assert_int_equal(group->nodes[0].results[0].status, LS_ERR_NO_LEADER);
    const struct ls_message *told = &node_sent(group, 0, LS_MESSAGE_READ_INDEX_REPLY)->message;
    assert_int_equal(told->as.read_index_reply.token, 9);
    assert_false(told->as.read_index_reply.valid);
    group_free(group);
}

TEST(read, a_follower_asks_its_leader_and_may_then_apply_at_once)
{
    struct group *group = leading(3, 3);
    group_propose(group, 0, 3, 10);
    group_settle(group);
    assert_int_equal(group->nodes[1].ready.commit, 2); /* not told yet */
    read_at(group, 1, 7);
    group_settle(group);
    assert_int_equal(group->nodes[1].results_count, 1);
    assert_int_equal(group->nodes[1].results[0].status, LS_OK);
    assert_int_equal(group->nodes[1].results[0].index, 5);
    assert_int_equal(group->nodes[1].ready.commit, 5);
    group_free(group);
}

/* R5: the only voter confirms itself, for an observer too. */
TEST(read, R5_an_observer_of_a_single_voter_gets_its_answer)
{
    struct group *group = group_new(1, 2);
    group_settle(group);
    group_run(group, HEARTBEAT);
    read_at(group, 0, 1);
    assert_int_equal(group->nodes[0].results_count, 1);
    read_at(group, 1, 2);
    group_settle(group);
    assert_int_equal(group->nodes[1].results_count, 1);
    assert_int_equal(group->nodes[1].results[0].status, LS_OK);
    group_free(group);
}

TEST(read, a_forwarded_read_ends_when_the_leader_is_lost_or_never_answers)
{
    struct group *group = leading(3, 3);
    read_at(group, 1, 1);
    struct ls_event down = {.kind = LS_EVENT_LINK};
    down.as.link.peer = test_id(0);
    node_step(group, 1, down);
    assert_int_equal(group->nodes[1].results[0].status, LS_ERR_NO_LEADER);
    read_at(group, 2, 2);
    net_drop_all(group);
    group_run(group, 2 * ELECTION + HEARTBEAT); /* heartbeats go on, the question was lost */
    assert_int_equal(group->nodes[2].results_count, 1);
    assert_int_equal(group->nodes[2].results[0].status, LS_ERR_NO_LEADER);
    group_free(group);
}

TEST(read, one_over_the_limit_is_refused)
{
    struct group *group = leading(3, 3);
    for (uint64_t token = 1; token <= LS_READS_MAX; token++) {
        read_at(group, 0, token);
        assert_int_equal(group->nodes[0].results_count, 0);
    }
    read_at(group, 0, LS_READS_MAX + 1);
    assert_int_equal(group->nodes[0].results_count, 1);
    assert_int_equal(group->nodes[0].results[0].status, LS_ERR_BUSY);
    group_free(group);
}
