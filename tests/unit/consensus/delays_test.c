/* SPDX-License-Identifier: MIT */
/* Answers from another time: of an earlier term, process, link or log. R2, L5, L13, L15, G1. */
#include "cores.h"

static struct group *leading(uint64_t window_bytes, uint64_t cache_bytes)
{
    struct group *group = group_prepare(3, 3, false);
    group->window_bytes = window_bytes;
    group->cache_bytes = cache_bytes;
    group_open(group);
    group_elect(group, 0);
    group_run(group, HEARTBEAT + HEARTBEAT / 2);
    net_drop_all(group);
    assert_int_equal(group->nodes[0].ready.commit, 2);
    return group;
}

static struct ls_message accepted(unsigned from, ls_term term, ls_index match)
{
    struct ls_message m = test_message(LS_MESSAGE_APPEND_REPLY, from, 0, term);
    m.as.append_reply = (struct ls_append_reply){
        .accepted = true, .counts = true, .prev = {1, 1}, .match = match, .last = match};
    return m;
}

static struct ls_message beat_reply(unsigned from, ls_term term, uint64_t round, ls_index last)
{
    struct ls_message m = test_message(LS_MESSAGE_HEARTBEAT_REPLY, from, 0, term);
    m.as.heartbeat_reply =
        (struct ls_heartbeat_reply){.round = round, .last = last, .counts = true};
    return m;
}

static void link_event(struct group *group, unsigned at, unsigned peer, bool up)
{
    struct ls_event event = {.kind = LS_EVENT_LINK};
    event.as.link.peer = test_id(peer);
    event.as.link.incarnation = test_incarnation(peer, 0);
    event.as.link.up = up;
    node_step(group, at, event);
}

/*
 * Member 0 led term 2, restarted, and leads term 4 with rounds that begin anew. Its heartbeat of
 * term 2 arrives only now: the answer has the term of today and must not look like one to a round
 * of today, or it would confirm a read that begins after it was sent.
 */
TEST(delays, P7_R2_an_answer_to_a_heartbeat_of_an_earlier_term_names_no_round)
{
    struct group *group = leading(1u << 20, 1u << 22);
    struct ls_message beat = test_message(LS_MESSAGE_HEARTBEAT, 0, 1, 4);
    beat.as.heartbeat.round = 1;
    node_receive(group, 1, &beat);
    beat.term = 2;
    beat.as.heartbeat.round = 7;
    node_receive(group, 1, &beat);
    const struct ls_message *reply = &node_sent(group, 1, LS_MESSAGE_HEARTBEAT_REPLY)->message;
    assert_int_equal(reply->term, 4);
    assert_int_equal(reply->as.heartbeat_reply.round, 0);
    group_free(group);
}

TEST(delays, L13_a_refusal_of_an_append_of_an_earlier_term_is_about_no_position)
{
    struct group *group = leading(1u << 20, 1u << 22);
    struct ls_message beat = test_message(LS_MESSAGE_HEARTBEAT, 0, 1, 4);
    node_receive(group, 1, &beat);
    struct ls_message append = test_message(LS_MESSAGE_APPEND, 0, 1, 2);
    append.as.append.prev = (struct ls_cursor){2, 2};
    node_receive(group, 1, &append);
    const struct ls_message *reply = &node_sent(group, 1, LS_MESSAGE_APPEND_REPLY)->message;
    assert_null(ls_message_invalid(reply));
    assert_int_equal(reply->term, 4);
    assert_false(reply->as.append_reply.accepted);
    assert_int_equal(reply->as.append_reply.prev.index, 0);
    group_free(group);
}

/* The window of member 2 is full; meanwhile the others commit, and the log is pruned beyond it. */
TEST(delays, a_member_whose_next_entry_was_pruned_meanwhile_is_left_to_state_sync)
{
    struct group *group = leading(100, 200);
    group_propose(group, 0, 1, 100);
    node_sync(group, 0);
    struct ls_message m = accepted(1, 2, 3);
    node_receive(group, 0, &m);
    group_propose(group, 0, 10, 100);
    node_sync(group, 0);
    m = accepted(1, 2, 13);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.commit, 13);
    assert_true(group->nodes[0].ready.cache_first > 4);
    group->now += HEARTBEAT;
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_TICK});
    uint64_t round = node_sent(group, 0, LS_MESSAGE_HEARTBEAT)->message.as.heartbeat.round;
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_PRUNED, .as.pruned = 11});
    m = beat_reply(2, 2, round, 3); /* it has what it was sent, not yet on its disk */
    node_receive(group, 0, &m);
    assert_true(node_sent(group, 0, LS_MESSAGE_HEARTBEAT)->message.as.heartbeat.syncing);
    group_free(group);
}

/* A follower that restarted may choose the same token again: what the process before it asked must
 * not answer it, the index was captured too early. */
TEST(delays, P7_R2_a_read_asked_over_a_link_that_is_gone_is_not_answered)
{
    for (int up = 0; up < 2; up++) {
        struct group *group = leading(1u << 20, 1u << 22);
        struct ls_message ask = test_message(LS_MESSAGE_READ_INDEX, 1, 0, 2);
        ask.as.read_index.token = 9;
        node_receive(group, 0, &ask);
        uint64_t round = node_sent(group, 0, LS_MESSAGE_HEARTBEAT)->message.as.heartbeat.round;
        link_event(group, 0, 1, up == 1);
        struct ls_message m = beat_reply(2, 2, round, 2);
        node_receive(group, 0, &m);
        assert_int_equal(node_sends(group, 0, LS_MESSAGE_READ_INDEX_REPLY), 0);
        group_free(group);
    }
}

TEST(delays, P7_a_leader_refuses_to_read_for_one_of_an_earlier_term)
{
    struct group *group = leading(1u << 20, 1u << 22);
    struct ls_message ask = test_message(LS_MESSAGE_READ_INDEX, 1, 0, 1);
    ask.as.read_index.token = 9;
    node_receive(group, 0, &ask);
    assert_false(
        node_sent(group, 0, LS_MESSAGE_READ_INDEX_REPLY)->message.as.read_index_reply.valid);
    assert_int_equal(node_sends(group, 0, LS_MESSAGE_HEARTBEAT), 0);
    group_free(group);
}

/* The index is the leader's commit; the log here may still end in another history. */
TEST(delays, P4_C2_the_index_of_a_read_commits_only_what_this_leader_verified)
{
    struct group *group = group_prepare(3, 3, false);
    disk_terms(group, 1, "22");
    group_open(group);
    struct ls_message beat = test_message(LS_MESSAGE_HEARTBEAT, 0, 1, 4);
    node_receive(group, 1, &beat);
    node_step(group, 1, (struct ls_event){.kind = LS_EVENT_READ, .as.read_token = 5});
    struct ls_message m = test_message(LS_MESSAGE_READ_INDEX_REPLY, 0, 1, 4);
    m.as.read_index_reply = (struct ls_read_index_reply){.token = 5, .valid = true, .index = 3};
    node_receive(group, 1, &m);
    assert_int_equal(group->nodes[1].results[0].status, LS_OK);
    assert_int_equal(group->nodes[1].results[0].index, 3);
    assert_int_equal(group->nodes[1].ready.commit, 0);
    group_free(group);
}

TEST(delays, P7_an_index_of_an_earlier_term_answers_no_read)
{
    struct group *group = leading(1u << 20, 1u << 22);
    struct ls_message beat = test_message(LS_MESSAGE_HEARTBEAT, 0, 1, 4);
    node_receive(group, 1, &beat);
    node_step(group, 1, (struct ls_event){.kind = LS_EVENT_READ, .as.read_token = 5});
    struct ls_message m = test_message(LS_MESSAGE_READ_INDEX_REPLY, 0, 1, 2);
    m.as.read_index_reply = (struct ls_read_index_reply){.token = 5, .valid = true, .index = 2};
    node_receive(group, 1, &m);
    assert_int_equal(group->nodes[1].results_count, 1);
    assert_int_equal(group->nodes[1].results[0].status, LS_ERR_NO_LEADER);
    group_free(group);
}

/* A leader prunes by what its members hold: it must be on their disks. */
TEST(delays, P1_a_heartbeat_is_answered_with_what_is_committed_and_durable)
{
    struct group *group = leading(1u << 20, 1u << 22);
    group->nodes[1].hold = true;
    struct ls_entry entry = {2, LS_ENTRY_COMMAND, {"x", 1}};
    struct ls_message m = test_message(LS_MESSAGE_APPEND, 0, 1, 2);
    m.as.append = (struct ls_append){.prev = {2, 2}, .commit = 3, .entries = &entry, .count = 1};
    node_receive(group, 1, &m);
    assert_int_equal(group->nodes[1].ready.commit, 3);
    struct ls_message beat = test_message(LS_MESSAGE_HEARTBEAT, 0, 1, 2);
    beat.as.heartbeat = (struct ls_heartbeat){.commit = 3, .round = 9};
    node_receive(group, 1, &beat);
    const struct ls_message *reply = &node_sent(group, 1, LS_MESSAGE_HEARTBEAT_REPLY)->message;
    assert_int_equal(reply->as.heartbeat_reply.match, 2);
    assert_int_equal(reply->as.heartbeat_reply.last, 3);
    group_free(group);
}

TEST(delays, P7_a_new_link_to_the_leader_ends_what_was_asked_over_the_old_one)
{
    struct group *group = leading(1u << 20, 1u << 22);
    struct ls_message beat = test_message(LS_MESSAGE_HEARTBEAT, 0, 1, 2);
    node_receive(group, 1, &beat);
    node_step(group, 1, (struct ls_event){.kind = LS_EVENT_READ, .as.read_token = 5});
    assert_int_equal(group->nodes[1].results_count, 0);
    link_event(group, 1, 0, true);
    assert_int_equal(group->nodes[1].results_count, 1);
    assert_int_equal(group->nodes[1].results[0].status, LS_ERR_NO_LEADER);
    group_free(group);
}
