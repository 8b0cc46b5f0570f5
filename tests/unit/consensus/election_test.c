/* SPDX-License-Identifier: MIT */
/* Votes, pre-votes, timeouts, stickiness, removal, standing. P1, P2, P6, P10, P11, P14, P15,
 * E1-E17.
 */
#include "cores.h"

static struct ls_message vote(enum ls_message_kind kind, unsigned from, unsigned to, ls_term term,
                              struct ls_cursor last)
{
    struct ls_message m = test_message(kind, from, to, term);
    m.as.vote.last = last;
    return m;
}

static struct ls_message granted(enum ls_message_kind kind, unsigned from, unsigned to,
                                 ls_term term)
{
    struct ls_message m = test_message(kind, from, to, term);
    m.as.vote_reply.granted = true;
    return m;
}

static struct ls_message heartbeat(unsigned from, unsigned to, ls_term term)
{
    struct ls_message m = test_message(LS_MESSAGE_HEARTBEAT, from, to, term);
    m.as.heartbeat.round = 1;
    return m;
}

static void tick(struct group *group, unsigned at)
{
    node_step(group, at, (struct ls_event){.kind = LS_EVENT_TICK});
}

static enum ls_standing standing(struct group *group, unsigned at)
{
    struct ls_core_status status;
    ls_core_status(group->nodes[at].core, &status);
    return status.standing;
}

/* The core of member 0 as a candidate of term 2, its vote durable, nothing delivered. */
static struct group *candidate(unsigned voters)
{
    struct group *group = group_new(voters, voters);
    group->now += 2 * ELECTION;
    tick(group, 0);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_PRE_CANDIDATE);
    for (unsigned i = 1; i <= voters / 2; i++) {
        struct ls_message m = granted(LS_MESSAGE_PRE_VOTE_REPLY, i, 0, 2);
        node_receive(group, 0, &m);
    }
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_CANDIDATE);
    assert_int_equal(group->nodes[0].ready.term, 2);
    return group;
}

TEST(election, P1_a_vote_leaves_when_it_is_durable_and_not_before)
{
    struct group *group = group_new(3, 3);
    struct ls_message ask = vote(LS_MESSAGE_VOTE, 1, 0, 2, (struct ls_cursor){1, 1});
    node_receive(group, 0, &ask);
    const struct ls_ready *ready = &group->nodes[0].ready;
    const struct ls_outgoing *reply = node_sent(group, 0, LS_MESSAGE_VOTE_REPLY);
    assert_non_null(reply);
    assert_true(reply->message.as.vote_reply.granted);
    assert_true(ready->hard_state_changed && ready->persist_seq != 0);
    assert_int_equal(reply->after, ready->persist_seq);
    group_free(group);
}

/* E4: the own vote is recorded before anybody is asked, and counts when it is durable. */
TEST(election, P1_a_candidate_asks_and_counts_itself_when_its_own_vote_is_durable)
{
    struct group *group = candidate(3);
    struct node *node = &group->nodes[0];
    const struct ls_outgoing *ask = node_sent(group, 0, LS_MESSAGE_VOTE);
    assert_non_null(ask);
    assert_int_equal(ask->after, node->ready.persist_seq);
    struct ls_peer_id self = test_id(0);
    assert_true(ls_peer_id_equal(&node->ready.hard_state.vote, &self));
    for (unsigned i = 1; i < 3; i++) { /* a majority, and yet */
        struct ls_message m = granted(LS_MESSAGE_VOTE_REPLY, i, 0, 2);
        node_receive(group, 0, &m);
        assert_int_equal(node->ready.role, LS_ROLE_CANDIDATE);
    }
    node_sync(group, 0);
    assert_int_equal(node->ready.role, LS_ROLE_LEADER);
    group_free(group);
}

TEST(election, P1_a_term_learned_from_others_is_durable_before_any_message_of_it_leaves)
{
    struct group *group = group_new(3, 3);
    struct ls_message beat = heartbeat(1, 0, 7);
    node_receive(group, 0, &beat);
    const struct ls_outgoing *reply = node_sent(group, 0, LS_MESSAGE_HEARTBEAT_REPLY);
    assert_int_equal(reply->message.term, 7);
    assert_int_equal(reply->after, group->nodes[0].ready.persist_seq);
    assert_true(reply->after != 0);
    group_free(group);
}

/* E3: what a crash takes away had not been said. */
TEST(election, P1_E3_a_vote_lost_with_an_unsynced_disk_had_not_left)
{
    struct group *group = group_new(3, 3);
    group->nodes[0].hold = true;
    struct ls_message ask = vote(LS_MESSAGE_VOTE, 1, 0, 2, (struct ls_cursor){1, 1});
    node_receive(group, 0, &ask);
    group_settle(group);
    assert_int_equal(group->net_count, 1); /* held */
    node_close(group, 0);
    node_open(group, 0);
    assert_int_equal(group->nodes[0].ready.term, 1);
    struct ls_message other = vote(LS_MESSAGE_VOTE, 2, 0, 2, (struct ls_cursor){1, 1});
    node_receive(group, 0, &other);
    assert_true(node_sent(group, 0, LS_MESSAGE_VOTE_REPLY)->message.as.vote_reply.granted);
    group_free(group);
}

TEST(election, P2_one_vote_a_term_and_the_same_candidate_is_answered_alike)
{
    struct group *group = group_new(3, 3);
    struct ls_message first = vote(LS_MESSAGE_VOTE, 1, 0, 2, (struct ls_cursor){1, 1});
    struct ls_message second = vote(LS_MESSAGE_VOTE, 2, 0, 2, (struct ls_cursor){1, 1});
    node_receive(group, 0, &first);
    uint64_t seq = group->nodes[0].ready.persist_seq;
    node_receive(group, 0, &second);
    assert_false(node_sent(group, 0, LS_MESSAGE_VOTE_REPLY)->message.as.vote_reply.granted);
    node_receive(group, 0, &first);
    const struct ls_outgoing *again = node_sent(group, 0, LS_MESSAGE_VOTE_REPLY);
    assert_true(again->message.as.vote_reply.granted);
    assert_int_equal(group->nodes[0].ready.persist_seq, 0);
    assert_int_equal(again->after, seq); /* still waits for the vote to be durable */
    group_free(group);
}

TEST(election, P2_E2_hearing_a_leader_of_the_term_does_not_clear_the_vote)
{
    struct group *group = group_new(3, 3);
    struct ls_message first = vote(LS_MESSAGE_VOTE, 1, 0, 2, (struct ls_cursor){1, 1});
    node_receive(group, 0, &first);
    struct ls_message beat = heartbeat(1, 0, 2);
    node_receive(group, 0, &beat);
    assert_true(group->nodes[0].ready.hard_state.voted);
    group->now += ELECTION; /* no longer sticky */
    struct ls_message second = vote(LS_MESSAGE_VOTE, 2, 0, 2, (struct ls_cursor){1, 1});
    node_receive(group, 0, &second);
    assert_false(node_sent(group, 0, LS_MESSAGE_VOTE_REPLY)->message.as.vote_reply.granted);
    group_free(group);
}

TEST(election, P2_E6_a_pre_vote_touches_nothing_durable_on_either_side)
{
    struct group *group = group_new(3, 3);
    struct ls_message cast = vote(LS_MESSAGE_VOTE, 1, 0, 2, (struct ls_cursor){1, 1});
    node_receive(group, 0, &cast);
    struct ls_message ask = vote(LS_MESSAGE_PRE_VOTE, 2, 0, 9, (struct ls_cursor){1, 1});
    node_receive(group, 0, &ask);
    const struct ls_outgoing *reply = node_sent(group, 0, LS_MESSAGE_PRE_VOTE_REPLY);
    assert_true(reply->message.as.vote_reply.granted);
    assert_int_equal(reply->message.term, 9);
    assert_int_equal(group->nodes[0].ready.persist_seq, 0);
    assert_int_equal(group->nodes[0].ready.term, 2);
    assert_true(group->nodes[0].ready.hard_state.voted);
    group->now += 2 * ELECTION;
    tick(group, 1);
    assert_int_equal(group->nodes[1].ready.role, LS_ROLE_PRE_CANDIDATE);
    assert_int_equal(group->nodes[1].ready.persist_seq, 0);
    assert_int_equal(group->nodes[1].ready.term, 1);
    group_free(group);
}

TEST(election, P2_E5_a_pre_vote_is_never_counted_as_a_vote)
{
    struct group *group = candidate(3);
    node_sync(group, 0);
    struct ls_message m = granted(LS_MESSAGE_PRE_VOTE_REPLY, 1, 0, 2);
    node_receive(group, 0, &m);
    m = granted(LS_MESSAGE_PRE_VOTE_REPLY, 2, 0, 3);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_CANDIDATE);
    group_free(group);
}

TEST(election, E7_a_pre_vote_is_refused_to_a_shorter_log)
{
    struct group *group = group_prepare(3, 3, false);
    disk_terms(group, 0, "12");
    group_open(group);
    struct ls_message ask = vote(LS_MESSAGE_PRE_VOTE, 1, 0, 9, (struct ls_cursor){2, 2});
    node_receive(group, 0, &ask);
    assert_false(node_sent(group, 0, LS_MESSAGE_PRE_VOTE_REPLY)->message.as.vote_reply.granted);
    ask.as.vote.last = (struct ls_cursor){2, 3};
    node_receive(group, 0, &ask);
    assert_true(node_sent(group, 0, LS_MESSAGE_PRE_VOTE_REPLY)->message.as.vote_reply.granted);
    group_free(group);
}

TEST(election, E8_a_candidate_with_a_low_term_learns_the_term_from_a_refusal)
{
    struct group *group = group_prepare(3, 3, false);
    disk_terms(group, 0, "11"); /* the longest log, the lowest term */
    group->nodes[1].disk.hard.term = 6;
    group->nodes[2].disk.hard.term = 6;
    group_open(group);
    group->now += 2 * ELECTION;
    tick(group, 0);
    group_settle(group);
    assert_int_equal(group->nodes[0].ready.term, 6); /* learned, and asks again */
    group_elect(group, 0);
    assert_true(group->nodes[0].ready.term > 6);
    group_free(group);
}

TEST(election, E9_followers_that_miss_their_leader_accept_each_others_pre_votes)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    node_close(group, 0);
    group_run(group, 2 * ELECTION + HEARTBEAT);
    assert_true(group_leader(group) > 0);
    group_free(group);
}

TEST(election, E10_a_partitioned_member_returns_without_deposing_the_leader)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    group_cut(group, 2, true);
    group_run(group, 20 * ELECTION);
    assert_int_equal(group->nodes[2].ready.term, 2); /* pre-votes raise no term */
    group_cut(group, 2, false);
    group_run(group, 2 * ELECTION);
    assert_int_equal(group_leader(group), 0);
    assert_int_equal(group->nodes[0].ready.term, 2);
    group_free(group);
}

/* E12: it can send and not receive, so it hears no quorum and gives up within T. */
TEST(election, E12_a_leader_that_hears_no_quorum_steps_down_within_one_timeout)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    group->cut[1][0] = group->cut[2][0] = true;
    group_run(group, ELECTION + HEARTBEAT);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_FOLLOWER);
    group_free(group);
}

TEST(election, a_leader_that_hears_a_quorum_goes_on_without_the_rest)
{
    struct group *group = group_new(5, 5);
    group_elect(group, 0);
    group_cut(group, 3, true);
    group_cut(group, 4, true);
    group_run(group, 5 * ELECTION);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    assert_int_equal(group->nodes[0].ready.term, 2);
    group_free(group);
}

TEST(election, E13_two_that_each_see_part_of_the_group_raise_no_terms)
{
    struct group *group = group_new(5, 5);
    group_elect(group, 0);
    group_link(group, 0, 4, false); /* 4 sees the others, not the leader */
    group_run(group, 20 * ELECTION);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    assert_int_equal(group->nodes[0].ready.term, 2);
    group_free(group);
}

TEST(election, E14_votes_repeated_or_of_another_term_are_not_counted)
{
    struct group *group = candidate(5);
    node_sync(group, 0);
    struct ls_message m = granted(LS_MESSAGE_VOTE_REPLY, 1, 0, 2);
    node_receive(group, 0, &m);
    node_receive(group, 0, &m);
    m = granted(LS_MESSAGE_VOTE_REPLY, 2, 0, 1); /* of a term long over */
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_CANDIDATE);
    m = granted(LS_MESSAGE_VOTE_REPLY, 2, 0, 2);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    group_free(group);
}

TEST(election, E15_logs_are_compared_by_term_and_then_by_length)
{
    struct group *group = group_prepare(3, 3, false);
    disk_terms(group, 0, "13");
    group_open(group);
    struct ls_message ask = vote(LS_MESSAGE_VOTE, 1, 0, 5, (struct ls_cursor){2, 90});
    node_receive(group, 0, &ask); /* longer, and of an older term */
    assert_false(node_sent(group, 0, LS_MESSAGE_VOTE_REPLY)->message.as.vote_reply.granted);
    ask = vote(LS_MESSAGE_VOTE, 1, 0, 6, (struct ls_cursor){4, 2});
    node_receive(group, 0, &ask); /* shorter, and of a newer term */
    assert_true(node_sent(group, 0, LS_MESSAGE_VOTE_REPLY)->message.as.vote_reply.granted);
    group_free(group);
}

TEST(election, E16_timeouts_lie_between_T_and_2T_and_are_drawn_anew)
{
    struct group *group = group_new(3, 3);
    uint64_t drawn[3] = {0};
    for (unsigned i = 0; i < 40; i++) {
        uint64_t deadline = group->nodes[0].ready.deadline_us;
        assert_true(deadline >= group->now + ELECTION || i == 0);
        assert_true(deadline < group->now + 2 * ELECTION);
        drawn[i % 3] = deadline - group->now;
        group->now = deadline;
        tick(group, 0);
    }
    assert_true(drawn[0] != drawn[1] && drawn[1] != drawn[2]);
    assert_true(group->nodes[1].ready.deadline_us != group->nodes[2].ready.deadline_us);
    group_free(group);
}

TEST(election, a_reluctant_member_waits_its_factor_longer)
{
    struct group *group = group_prepare(3, 3, false);
    group->reluctance[0] = 10;
    group_open(group);
    uint64_t deadline = group->nodes[0].ready.deadline_us;
    assert_true(deadline >= group->now + 10 * (uint64_t)ELECTION);
    assert_true(deadline < group->now + 20 * (uint64_t)ELECTION);
    group_run(group, 3 * ELECTION);
    assert_true(group_leader(group) > 0);
    group_free(group);
}

TEST(election, E17_a_single_voter_leads_at_once_and_an_observer_never)
{
    struct group *group = group_new(1, 2);
    group_settle(group);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    assert_int_equal(group->nodes[0].ready.commit, 2);
    assert_int_equal(standing(group, 1), LS_STANDING_OBSERVER);
    node_close(group, 0);
    group_run(group, 10 * ELECTION);
    assert_int_equal(group->nodes[1].ready.role, LS_ROLE_FOLLOWER);
    assert_true(ls_peer_id_is_zero(&group->nodes[1].ready.leader)); /* missed, not forgotten */
    group_free(group);
}

TEST(election, P15_E1_an_isolated_member_never_leads)
{
    struct group *group = group_new(3, 3);
    for (unsigned i = 1; i < 3; i++) {
        group_link(group, 0, i, false);
    }
    for (unsigned i = 0; i < 50; i++) {
        group->now = group->nodes[0].ready.deadline_us;
        tick(group, 0);
        assert_int_equal(group->nodes[0].ready.role, LS_ROLE_PRE_CANDIDATE);
    }
    assert_int_equal(group->nodes[0].ready.term, 1);
    group_free(group);
}

/* ---- stickiness and removal ---- */

TEST(election, P6_a_member_that_hears_its_leader_ignores_candidates_and_their_terms)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    group_run(group, 2 * HEARTBEAT);
    for (unsigned at = 0; at < 2; at++) { /* the leader, and a follower */
        struct ls_message ask = vote(LS_MESSAGE_VOTE, 2, at, 40, (struct ls_cursor){2, 9});
        node_receive(group, at, &ask);
        assert_int_equal(group->nodes[at].ready.messages_count, 0);
        assert_int_equal(group->nodes[at].ready.term, 2);
        ask.kind = LS_MESSAGE_PRE_VOTE;
        node_receive(group, at, &ask);
        assert_int_equal(group->nodes[at].ready.messages_count, 0);
    }
    struct ls_message asked = vote(LS_MESSAGE_VOTE, 2, 1, 40, (struct ls_cursor){2, 9});
    asked.as.vote.transfer = true;
    node_receive(group, 1, &asked);
    assert_int_equal(group->nodes[1].ready.term, 40);
    group_free(group);
}

TEST(election, P6_E11_a_server_that_is_no_member_is_told_and_raises_no_term)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    group_run(group, HEARTBEAT);
    struct ls_message ask = vote(LS_MESSAGE_VOTE, 7, 1, 40, (struct ls_cursor){1, 1});
    node_receive(group, 1, &ask);
    const struct ls_outgoing *reply = node_sent(group, 1, LS_MESSAGE_VOTE_REPLY);
    assert_non_null(reply);
    assert_true(reply->message.as.vote_reply.not_member);
    assert_int_equal(group->nodes[1].ready.term, 2);
    struct ls_message answer = granted(LS_MESSAGE_VOTE_REPLY, 7, 0, 50);
    answer.as.vote_reply.granted = false;
    node_receive(group, 0, &answer);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    group_free(group);
}

/* Thesis 4.2: it may hold a configuration that this member has not got yet. */
TEST(election, P6_an_unknown_candidate_with_a_longer_log_is_heard_by_the_ordinary_rules)
{
    struct group *group = group_new(3, 3);
    struct ls_message ask = vote(LS_MESSAGE_VOTE, 7, 1, 40, (struct ls_cursor){1, 2});
    node_receive(group, 1, &ask);
    assert_true(node_sent(group, 1, LS_MESSAGE_VOTE_REPLY)->message.as.vote_reply.granted);
    group_free(group);
}

TEST(election, P6_a_candidate_told_by_a_member_campaigns_no_more_until_a_leader_is_heard)
{
    struct group *group = group_new(3, 3);
    group->now += 2 * ELECTION;
    struct ls_message notice = test_message(LS_MESSAGE_PRE_VOTE_REPLY, 1, 0, 1);
    notice.as.vote_reply.not_member = true;
    node_receive(group, 0, &notice); /* not asked: not believed */
    tick(group, 0);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_PRE_CANDIDATE);
    struct ls_message stranger = notice;
    stranger.from = test_id(8);
    node_receive(group, 0, &stranger);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_PRE_CANDIDATE);
    struct ls_message wiped = notice;
    wiped.incarnation = test_incarnation(1, 5);
    node_receive(group, 0, &wiped);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_PRE_CANDIDATE);
    node_receive(group, 0, &notice);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_FOLLOWER);
    group->now += 2 * ELECTION;
    tick(group, 0);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_FOLLOWER);
    struct ls_message beat = heartbeat(1, 0, 2);
    node_receive(group, 0, &beat);
    group->now += 2 * ELECTION;
    tick(group, 0);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_PRE_CANDIDATE);
    group_free(group);
}

TEST(election, S10_a_member_with_a_state_sync_session_leaves_the_first_timeout_to_the_others)
{
    struct group *group = group_new(3, 3);
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_SYNCING, .as.syncing = true});
    group->now += 2 * ELECTION;
    tick(group, 0);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_FOLLOWER);
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_SYNCING, .as.syncing = false});
    group->now += 2 * ELECTION;
    tick(group, 0);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_PRE_CANDIDATE);
    group_free(group);
}

/*
 * The session of member 2 waits for an entry that member 2 holds but cannot know to be committed,
 * because the leader that committed it is gone. Nobody else alive can win: its log is the longest.
 */
TEST(election, a_session_that_waits_for_a_leader_does_not_keep_the_group_without_one)
{
    struct group *group = group_prepare(3, 3, false);
    disk_terms(group, 2, "3");
    group_open(group);
    node_close(group, 1);
    node_step(group, 2, (struct ls_event){.kind = LS_EVENT_SYNCING, .as.syncing = true});
    group_run(group, 8 * ELECTION);
    assert_int_equal(group->nodes[2].ready.role, LS_ROLE_LEADER);
    group_free(group);
}

TEST(election, a_transfer_to_a_syncing_member_is_ignored)
{
    struct group *group = group_new(3, 3);
    struct ls_message beat = heartbeat(1, 0, 2);
    node_receive(group, 0, &beat);
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_SYNCING, .as.syncing = true});
    struct ls_message now = test_message(LS_MESSAGE_TIMEOUT_NOW, 1, 0, 2);
    node_receive(group, 0, &now);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_FOLLOWER);
    group_free(group);
}

TEST(election, A6_a_clock_that_goes_back_ends_no_stickiness_and_no_patience)
{
    struct group *group = group_new(3, 3);
    group->now += ELECTION;
    struct ls_message beat = heartbeat(1, 0, 2);
    node_receive(group, 0, &beat);
    uint64_t deadline = group->nodes[0].ready.deadline_us;
    group->now -= ELECTION;
    struct ls_message ask = vote(LS_MESSAGE_VOTE, 2, 0, 3, (struct ls_cursor){1, 1});
    node_receive(group, 0, &ask);
    assert_int_equal(node_sends(group, 0, LS_MESSAGE_VOTE_REPLY), 0);
    tick(group, 0);
    assert_int_equal(group->nodes[0].ready.term, 2);
    assert_int_equal(group->nodes[0].ready.deadline_us, deadline);
    group_free(group);
}

TEST(election, a_leader_that_is_heard_makes_a_syncing_member_patient_again)
{
    struct group *group = group_new(3, 3);
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_SYNCING, .as.syncing = true});
    for (unsigned i = 0; i < 3; i++) {
        group->now += 2 * ELECTION;
        tick(group, 0);
        assert_int_equal(group->nodes[0].ready.role, LS_ROLE_FOLLOWER);
        struct ls_message beat = test_message(LS_MESSAGE_HEARTBEAT, 1, 0, 2);
        node_receive(group, 0, &beat);
    }
    group_free(group);
}

/* ---- standing ---- */

TEST(election, P10_a_failed_store_ends_leadership_votes_and_acknowledgements_for_good)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_FAILED, .as.failed = {1, LS_ERR_IO}});
    assert_int_equal(group->nodes[0].ready.halted, LS_ERR_IO);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_FOLLOWER);
    assert_int_equal(group->nodes[0].ready.deadline_us, UINT64_MAX);
    assert_int_equal(standing(group, 0), LS_STANDING_HALTED);
    struct ls_message ask = vote(LS_MESSAGE_VOTE, 1, 0, 9, (struct ls_cursor){8, 90});
    node_receive(group, 0, &ask);
    assert_int_equal(group->nodes[0].ready.messages_count, 0);
    assert_int_equal(group->nodes[0].ready.persist_seq, 0);
    group_propose(group, 0, 1, 1);
    assert_int_equal(group->nodes[0].outcome.propose, LS_ERR_HALTED);
    group_run(group, 4 * ELECTION);
    assert_true(group_leader(group) > 0);
    group_free(group);
}

TEST(election, P11_a_member_with_an_unknown_tail_replicates_and_neither_votes_nor_counts)
{
    struct group *group = group_prepare(3, 3, false);
    disk_terms(group, 0, "111");
    disk_terms(group, 1, "111");
    for (unsigned i = 0; i < 2; i++) {
        node_open(group, i);
    }
    node_open_with(group, 2, true, 0); /* had acknowledged 4, holds 1 */
    assert_int_equal(standing(group, 2), LS_STANDING_TAIL_UNKNOWN);
    struct ls_message ask = vote(LS_MESSAGE_VOTE, 1, 2, 2, (struct ls_cursor){1, 4});
    node_receive(group, 2, &ask);
    assert_false(node_sent(group, 2, LS_MESSAGE_VOTE_REPLY)->message.as.vote_reply.granted);
    group_elect(group, 0);
    group_run(group, 2 * HEARTBEAT);
    /* the leader of the term has committed beyond 4, and it is durable here */
    assert_int_equal(standing(group, 2), LS_STANDING_COUNTS);
    group_free(group);
}

/* Member 0 of three holds one entry and may have acknowledged more; 1 leads term 2. */
static struct group *doubting(void)
{
    struct group *group = group_prepare(3, 3, false);
    node_open_with(group, 0, true, 0);
    return group;
}

/* The leader appends an entry for each digit, which is its term. */
static void leader_appends(struct group *group, struct ls_cursor prev, ls_index commit,
                           const char *terms)
{
    struct ls_entry entries[4];
    uint32_t count = 0;
    for (; terms[count] != '\0'; count++) {
        assert_true(count < sizeof entries / sizeof entries[0]);
        entries[count] =
            (struct ls_entry){(ls_term)(terms[count] - '0'), LS_ENTRY_COMMAND, {"x", 1}};
    }
    struct ls_message m = test_message(LS_MESSAGE_APPEND, 1, 0, 2);
    m.as.append = (struct ls_append){
        .prev = prev, .commit = commit, .entries = entries, .count = count, .syncing = false};
    node_receive(group, 0, &m);
}

TEST(election, P11_an_unknown_tail_is_known_again_when_it_is_durable_and_not_when_it_arrives)
{
    struct group *group = doubting();
    leader_appends(group, (struct ls_cursor){1, 1}, 3, "12");
    assert_int_equal(group->nodes[0].ready.commit, 3);
    assert_int_equal(standing(group, 0), LS_STANDING_TAIL_UNKNOWN);
    assert_false(node_sent(group, 0, LS_MESSAGE_APPEND_REPLY)->message.as.append_reply.counts);
    node_sync(group, 0);
    assert_int_equal(standing(group, 0), LS_STANDING_COUNTS);
    group_free(group);
}

/* however long the log was once: what an earlier leader did not commit, this one has replaced */
TEST(election, P11_an_unknown_tail_does_not_wait_for_what_no_leader_counts_on)
{
    struct group *group = doubting();
    leader_appends(group, (struct ls_cursor){1, 1}, 2, "12");
    assert_true(group->nodes[0].ready.tail_unknown);
    node_sync(group, 0);
    assert_int_equal(standing(group, 0), LS_STANDING_COUNTS);
    group_free(group);
}

TEST(election, P11_the_store_hears_at_once_that_a_tail_is_known_again)
{
    struct group *group = doubting();
    leader_appends(group, (struct ls_cursor){1, 1}, 1, "2");
    uint64_t seq = group->nodes[0].ready.persist_seq;
    assert_true(seq > 0);
    struct ls_event persisted = {.kind = LS_EVENT_PERSISTED, .as.persisted_seq = seq};
    node_step(group, 0, persisted);
    assert_false(group->nodes[0].ready.tail_unknown);
    assert_int_equal(group->nodes[0].ready.persist_seq, seq + 1); /* nothing else may come */
    group_free(group);
}

/* what it acknowledged after the guard's last sync, this leader counts on; nobody else knows of it
 */
TEST(election, P11_an_unknown_tail_stays_unknown_until_all_is_here_that_its_leader_had_of_it)
{
    struct group *group = doubting();
    struct ls_message m = test_message(LS_MESSAGE_HEARTBEAT, 1, 0, 2);
    m.as.heartbeat = (struct ls_heartbeat){.commit = 3, .sent = 4, .round = 7};
    node_receive(group, 0, &m);
    leader_appends(group, (struct ls_cursor){1, 1}, 3, "22");
    node_sync(group, 0);
    assert_int_equal(group->nodes[0].ready.durable, 3);
    assert_int_equal(standing(group, 0), LS_STANDING_TAIL_UNKNOWN);
    assert_true(group->nodes[0].ready.tail_unknown);
    leader_appends(group, (struct ls_cursor){2, 3}, 3, "2");
    node_sync(group, 0);
    assert_int_equal(standing(group, 0), LS_STANDING_COUNTS);
    assert_false(group->nodes[0].ready.tail_unknown);
    group_free(group);
}

TEST(election, P11_an_unknown_tail_asks_for_what_the_first_append_of_a_leader_follows)
{
    struct group *group = doubting();
    leader_appends(group, (struct ls_cursor){2, 4}, 3, ""); /* refused */
    leader_appends(group, (struct ls_cursor){1, 1}, 3, "22");
    node_sync(group, 0);
    assert_int_equal(standing(group, 0), LS_STANDING_TAIL_UNKNOWN);
    leader_appends(group, (struct ls_cursor){2, 3}, 3, "2");
    node_sync(group, 0);
    assert_int_equal(standing(group, 0), LS_STANDING_COUNTS);
    group_free(group);
}

/* the leader has noticed the loss before this restart, and had committed with what was lost */
TEST(election, P11_an_unknown_tail_asks_for_what_a_leader_has_committed_when_it_is_first_heard)
{
    struct group *group = doubting();
    leader_appends(group, (struct ls_cursor){1, 1}, 4, "22");
    node_sync(group, 0);
    assert_int_equal(group->nodes[0].ready.commit, 3);
    assert_int_equal(standing(group, 0), LS_STANDING_TAIL_UNKNOWN);
    /* what it committed since then, it did without this member */
    leader_appends(group, (struct ls_cursor){2, 3}, 9, "2");
    node_sync(group, 0);
    assert_int_equal(standing(group, 0), LS_STANDING_COUNTS);
    group_free(group);
}

/* what earlier leaders committed with its help is in front of that entry */
TEST(election, P11_an_unknown_tail_stays_unknown_without_an_entry_of_the_leaders_own_term)
{
    struct group *group = doubting();
    leader_appends(group, (struct ls_cursor){1, 1}, 3, "11");
    node_sync(group, 0);
    assert_int_equal(group->nodes[0].ready.commit, 3);
    assert_int_equal(standing(group, 0), LS_STANDING_TAIL_UNKNOWN);
    leader_appends(group, (struct ls_cursor){1, 3}, 3, "2");
    assert_int_equal(standing(group, 0), LS_STANDING_TAIL_UNKNOWN);
    node_sync(group, 0);
    assert_int_equal(standing(group, 0), LS_STANDING_COUNTS);
    group_free(group);
}

TEST(election, P11_acknowledgements_of_an_unknown_tail_commit_nothing)
{
    struct group *group = group_prepare(3, 3, false);
    disk_terms(group, 0, "111");
    disk_terms(group, 1, "111");
    node_open(group, 0);
    node_open(group, 1);
    group_elect(group, 0);
    node_open_with(group, 2, true, 0);
    struct ls_message m = test_message(LS_MESSAGE_HEARTBEAT, 0, 2, group->nodes[0].ready.term);
    m.as.heartbeat = (struct ls_heartbeat){.sent = 90}; /* it had acknowledged so many */
    node_receive(group, 2, &m);
    group_link(group, 0, 2, true);
    group_run(group, 2 * HEARTBEAT);
    ls_index commit = group->nodes[0].ready.commit;
    node_close(group, 1);
    group_propose(group, 0, 3, 10);
    group_run(group, 3 * HEARTBEAT);
    assert_int_equal(group->nodes[2].ready.last, group->nodes[0].ready.last);
    assert_int_equal(group->nodes[0].ready.commit, commit);
    struct ls_core_status status;
    ls_core_status(group->nodes[0].core, &status);
    assert_int_equal(status.progress[1].standing, LS_STANDING_TAIL_UNKNOWN);
    group_free(group);
}

TEST(election, P14_a_wiped_member_replicates_and_neither_votes_nor_counts)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    group_propose(group, 0, 3, 10);
    group_settle(group);
    node_wipe(group, 2);
    node_open(group, 2);
    group_link(group, 0, 2, true);
    group_run(group, 5 * HEARTBEAT);
    assert_int_equal(group->nodes[2].ready.last, group->nodes[0].ready.last);
    assert_int_equal(standing(group, 2), LS_STANDING_OTHER_INCARNATION);
    assert_string_equal(ls_standing_text(standing(group, 2)),
                        "does not count: its data directory was re-created");
    ls_index commit = group->nodes[0].ready.commit;
    node_close(group, 1);
    group_propose(group, 0, 3, 10);
    group_run(group, 3 * HEARTBEAT);
    assert_int_equal(group->nodes[2].ready.last, group->nodes[0].ready.last);
    assert_int_equal(group->nodes[0].ready.commit, commit);
    group_run(group, 2 * ELECTION); /* nor does it keep a leader in office, nor elect one */
    assert_int_equal(group_leader(group), -1);
    group_free(group);
}

/* ---- founding ---- */

TEST(founding, the_first_leader_needs_every_founder_and_names_who_is_missing)
{
    struct group *group = group_prepare(3, 4, true);
    node_open(group, 0);
    node_open(group, 1);
    group_run(group, 10 * ELECTION);
    assert_int_equal(group_leader(group), -1);
    assert_int_equal(group->nodes[0].ready.term, 0); /* and no terms are used up */
    assert_null(group->nodes[0].ready.configuration);
    struct ls_core_status status;
    ls_core_status(group->nodes[0].core, &status);
    assert_int_equal(status.standing, LS_STANDING_FOUNDING);
    assert_true(status.missing_founders_count >= 1);
    struct ls_peer_id third = test_id(2);
    assert_true(
        ls_peer_id_equal(&status.missing_founders[status.missing_founders_count - 1], &third));
    node_open(group, 2);
    group_run(group, 4 * ELECTION);
    assert_true(group_leader(group) >= 0);
    group_free(group);
}

TEST(founding, the_first_entry_records_the_incarnations_that_voted)
{
    struct group *group = group_prepare(3, 4, true);
    group_open(group);
    group_elect(group, 1);
    group_run(group, 2 * HEARTBEAT);
    for (unsigned i = 0; i < 4; i++) {
        const struct ls_configuration_at *at = group->nodes[i].ready.configuration;
        assert_non_null(at);
        assert_int_equal(at->index, 1);
        for (unsigned j = 0; j < 4; j++) {
            struct ls_incarnation expected = test_incarnation(j, 0);
            struct ls_incarnation none = {{0}};
            assert_true(ls_incarnation_equal(&at->configuration.members[j].incarnation,
                                             j < 3 ? &expected : &none));
        }
        assert_int_equal(group->nodes[i].ready.commit, 2);
    }
    group_free(group);
}

TEST(founding, once_founded_the_ordinary_quorum_elects)
{
    struct group *group = group_prepare(3, 3, true);
    group_open(group);
    group_elect(group, 0);
    group_run(group, HEARTBEAT);
    node_close(group, 0);
    group_run(group, 4 * ELECTION);
    assert_true(group_leader(group) > 0);
    group_free(group);
}

TEST(founding, a_founder_wiped_before_the_first_entry_votes_again_as_its_new_self)
{
    struct group *group = group_prepare(3, 3, true);
    node_open(group, 0);
    node_open(group, 1);
    node_open(group, 2);
    group->nodes[0].hold = true; /* elected, and lost before anything was kept */
    group->now += 2 * ELECTION;
    tick(group, 0);
    group_settle(group);
    net_drop_all(group);
    group->nodes[0].hold = false;
    node_wipe(group, 2);
    node_open(group, 2);
    group_elect(group, 1);
    struct ls_incarnation second = test_incarnation(2, 1);
    assert_true(ls_incarnation_equal(
        &group->nodes[1].ready.configuration->configuration.members[2].incarnation, &second));
    group_free(group);
}

TEST(founding, P14_the_vote_of_a_founder_that_was_wiped_since_is_void)
{
    struct group *group = group_prepare(3, 3, true);
    group_open(group);
    group->now += 2 * ELECTION;
    tick(group, 0);
    for (unsigned i = 1; i < 3; i++) {
        struct ls_message m = granted(LS_MESSAGE_PRE_VOTE_REPLY, i, 0, 1);
        node_receive(group, 0, &m);
    }
    node_sync(group, 0);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_CANDIDATE);
    struct ls_message m = granted(LS_MESSAGE_VOTE_REPLY, 1, 0, 1);
    node_receive(group, 0, &m);
    struct ls_event wiped = {.kind = LS_EVENT_LINK};
    wiped.as.link.peer = test_id(1);
    wiped.as.link.incarnation = test_incarnation(1, 1);
    wiped.as.link.up = true;
    node_step(group, 0, wiped);
    m = granted(LS_MESSAGE_VOTE_REPLY, 2, 0, 1);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_CANDIDATE);
    group_free(group);
}

/* Only a restored backup can bring this about; it ends in a new founding, not in an assertion. */
TEST(founding, starts_over_when_the_first_entry_of_a_restarted_member_is_overwritten)
{
    struct group *group = group_new(3, 3);
    struct ls_entry other = {2, LS_ENTRY_COMMAND, {"x", 1}};
    struct ls_message m = test_message(LS_MESSAGE_APPEND, 1, 0, 2);
    m.as.append.entries = &other;
    m.as.append.count = 1;
    node_receive(group, 0, &m);
    assert_null(group->nodes[0].ready.configuration);
    node_sync(group, 0);
    group->now += 2 * ELECTION;
    tick(group, 0);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_PRE_CANDIDATE);
    for (unsigned i = 0; i < 4; i++) {
        m = test_message(i < 2 ? LS_MESSAGE_PRE_VOTE_REPLY : LS_MESSAGE_VOTE_REPLY, 1 + i % 2, 0,
                         3);
        m.as.vote_reply.granted = true;
        node_receive(group, 0, &m);
        node_sync(group, 0);
    }
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    assert_non_null(group->nodes[0].ready.configuration);
    group_free(group);
}
