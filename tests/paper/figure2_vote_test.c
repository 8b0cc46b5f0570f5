/* SPDX-License-Identifier: MIT */
/* Raft paper, figure 2, box "RequestVote RPC": one test a sentence, quoted above it. */
#include "bench.h"

static bool granted(const struct bench *bench, int to)
{
    const struct ls_outgoing *sent = bench_sent(bench, LS_MESSAGE_VOTE_REPLY, to);
    return sent != NULL && sent->message.as.vote_reply.granted;
}

/* "Results: term: currentTerm, for candidate to update itself" */
TEST(figure2_vote, the_answer_carries_the_current_term)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .log = {1, 2}});
    bench_vote(bench, B, 4, CURSOR(2, 2));
    assert_int_equal(bench_sent(bench, LS_MESSAGE_VOTE_REPLY, B)->message.term, 5);
    bench_close(bench);
}

/* "1. Reply false if term < currentTerm" */
TEST(figure2_vote, replies_false_to_an_old_term)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .log = {1, 2}});
    bench_vote(bench, B, 4, CURSOR(3, 9));
    assert_non_null(bench_sent(bench, LS_MESSAGE_VOTE_REPLY, B));
    assert_false(granted(bench, B));
    assert_false(bench->ready.hard_state.voted);
    bench_close(bench);
}

/* "2. If votedFor is null ... and candidate's log is at least as up-to-date as receiver's log,
 * grant vote" */
TEST(figure2_vote, grants_when_it_has_not_voted)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .log = {1, 2}});
    bench_vote(bench, B, 5, CURSOR(2, 2));
    assert_true(granted(bench, B));
    assert_true(ls_peer_id_equal(&bench->ready.hard_state.vote, &bench->ids[B]));
    bench_close(bench);
}

/* "If votedFor is ... candidateId" */
TEST(figure2_vote, grants_the_same_candidate_again)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .vote = B, .log = {1, 2}});
    bench_vote(bench, B, 5, CURSOR(2, 2));
    assert_true(granted(bench, B));
    bench_close(bench);
}

TEST(figure2_vote, refuses_a_second_candidate_of_the_term)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .vote = B, .log = {1, 2}});
    bench_vote(bench, C, 5, CURSOR(4, 9));
    assert_non_null(bench_sent(bench, LS_MESSAGE_VOTE_REPLY, C));
    assert_false(granted(bench, C));
    assert_true(ls_peer_id_equal(&bench->ready.hard_state.vote, &bench->ids[B]));
    bench_close(bench);
}

/* "... at least as up-to-date": a shorter log of the same term is not */
TEST(figure2_vote, refuses_a_shorter_log_of_the_same_term)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .log = {1, 2, 2}});
    bench_vote(bench, B, 6, CURSOR(2, 2));
    assert_false(granted(bench, B));
    assert_int_equal(bench->ready.term, 6);
    assert_false(bench->ready.hard_state.voted);
    bench_close(bench);
}

/* E2: the vote of a term survives everything that happens within it. */
TEST(figure2_vote, a_vote_outlives_the_discovery_of_the_leader)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .vote = B, .log = {1, 2}});
    bench_heartbeat(bench, C, 5, 0);
    assert_true(bench->ready.hard_state.voted);
    assert_true(ls_peer_id_equal(&bench->ready.hard_state.vote, &bench->ids[B]));
    bench_close(bench);
}
