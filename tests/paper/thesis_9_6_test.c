/* SPDX-License-Identifier: MIT */
/*
 * Raft thesis 9.6, "Preventing disruptions when a server rejoins the cluster" (pre-vote), and 3.10,
 * "Leadership transfer extension". One test a sentence, quoted above it.
 */
#include "bench.h"

static const struct ls_vote_reply *answer_to(const struct bench *bench, int to)
{
    const struct ls_outgoing *sent = bench_sent(bench, LS_MESSAGE_PRE_VOTE_REPLY, to);
    return sent == NULL ? NULL : &sent->message.as.vote_reply;
}

static bool granted(const struct bench *bench, int to)
{
    const struct ls_vote_reply *answer = answer_to(bench, to);
    return answer != NULL && answer->granted;
}

/* "a candidate only increments its term if it first learns from a majority of the cluster that they
 * would be willing to grant the candidate their votes" */
TEST(thesis_9_6, the_term_rises_only_after_a_majority_would_vote)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 5, .term = 4, .log = {1}});
    bench_wait(bench);
    assert_int_equal(bench->ready.role, LS_ROLE_PRE_CANDIDATE);
    assert_int_equal(bench->ready.term, 4);
    const struct ls_outgoing *asked = bench_sent(bench, LS_MESSAGE_PRE_VOTE, B);
    assert_non_null(asked);
    assert_int_equal(asked->message.term, 5);
    bench_grant(bench, B, true);
    assert_int_equal(bench->ready.term, 4);
    bench_grant(bench, C, true);
    assert_int_equal(bench->ready.role, LS_ROLE_CANDIDATE);
    assert_int_equal(bench->ready.term, 5);
    bench_close(bench);
}

TEST(thesis_9_6, an_isolated_server_never_raises_its_term)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 4, .log = {1}});
    for (int i = 0; i < 50; i++) {
        bench_wait(bench);
        bench_persist(bench);
    }
    assert_int_equal(bench->ready.term, 4);
    bench_close(bench);
}

/* "... if the candidate's log is sufficiently up-to-date ..." (E7) */
TEST(thesis_9_6, a_pre_vote_is_refused_to_a_shorter_log)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 4, .log = {1, 2, 3}});
    bench_pre_vote(bench, C, 5, CURSOR(3, 2));
    assert_false(granted(bench, C));
    bench_pre_vote(bench, C, 5, CURSOR(3, 3));
    assert_true(granted(bench, C));
    bench_close(bench);
}

/* "... and the voters have not received heartbeats from a valid leader for at least a baseline
 * election timeout" */
TEST(thesis_9_6, a_pre_vote_is_refused_while_a_leader_is_heard)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 4, .log = {1}});
    bench_heartbeat(bench, B, 4, 0);
    bench_pass(bench, BENCH_ELECTION_MS - 1);
    bench_pre_vote(bench, C, 5, CURSOR(4, 9));
    assert_false(granted(bench, C));
    bench_pass(bench, 2);
    bench_pre_vote(bench, C, 5, CURSOR(4, 9));
    assert_true(granted(bench, C));
    bench_close(bench);
}

/* P2, E6: a pre-vote touches nothing durable, not on either side. */
TEST(thesis_9_6, granting_a_pre_vote_changes_nothing_durable)
{
    struct bench *bench =
        bench_open(&(struct setup){.voters = 3, .term = 4, .vote = B, .log = {1}});
    uint64_t staged = bench->staged_seq;
    bench_pre_vote(bench, C, 9, CURSOR(4, 9));
    assert_true(granted(bench, C));
    assert_int_equal(bench->staged_seq, staged);
    assert_int_equal(bench->ready.term, 4);
    assert_true(ls_peer_id_equal(&bench->ready.hard_state.vote, &bench->ids[B]));
    bench_close(bench);
}

TEST(thesis_9_6, a_pre_vote_may_be_granted_to_several)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 4, .log = {1}});
    bench_pre_vote(bench, B, 5, CURSOR(1, 1));
    bench_pre_vote(bench, C, 5, CURSOR(1, 1));
    assert_true(granted(bench, B));
    assert_true(granted(bench, C));
    bench_close(bench);
}

/* E5: what was granted as a pre-vote is no vote. */
TEST(thesis_9_6, a_late_pre_vote_is_never_counted_as_a_vote)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 5, .term = 4, .log = {1}});
    bench_campaign(bench, 2);
    for (int from = B; from <= E; from++) {
        struct ls_message late = bench_message(bench, LS_MESSAGE_PRE_VOTE_REPLY, from, 5);
        late.as.vote_reply.granted = true;
        bench_receive(bench, &late);
    }
    assert_int_equal(bench->ready.role, LS_ROLE_CANDIDATE);
    bench_close(bench);
}

/* "Pre-Vote ... solves the issue of a partitioned server disrupting the cluster when it rejoins"
 * (E10): its refusal carries the present term, and the cluster keeps it. */
TEST(thesis_9_6, a_server_of_an_old_term_learns_the_present_one)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 9, .log = {1, 9}});
    bench_pre_vote(bench, C, 5, CURSOR(1, 1));
    assert_non_null(answer_to(bench, C));
    assert_false(granted(bench, C));
    assert_int_equal(bench_sent(bench, LS_MESSAGE_PRE_VOTE_REPLY, C)->message.term, 9);
    bench_close(bench);
}

/* 3.10: "1. The prior leader stops accepting new client requests" */
TEST(thesis_3_10, a_leader_that_hands_over_takes_no_commands)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_lead(bench, 1);
    bench_persist(bench);
    struct ls_event event = {.kind = LS_EVENT_TRANSFER};
    event.as.transfer_to = bench->ids[B];
    bench_step(bench, &event);
    assert_ok(bench->ready.transfer_status);
    bench_propose(bench, 1);
    assert_int_equal(bench->ready.propose_status, LS_ERR_BUSY);
    bench_close(bench);
}

/* "2. The prior leader fully updates the target server's log to match its own" and "3. ... sends a
 * TimeoutNow request to the target server" */
TEST(thesis_3_10, the_target_is_told_when_its_log_is_complete)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_lead(bench, 1);
    bench_persist(bench);
    struct ls_event event = {.kind = LS_EVENT_TRANSFER};
    event.as.transfer_to = bench->ids[B];
    bench_step(bench, &event);
    assert_null(bench_sent(bench, LS_MESSAGE_TIMEOUT_NOW, B));
    bench_accept(bench, B, 2);
    assert_non_null(bench_sent(bench, LS_MESSAGE_TIMEOUT_NOW, B));
    assert_null(bench_sent(bench, LS_MESSAGE_TIMEOUT_NOW, C));
    bench_close(bench);
}

/* "This request has the same effect as the target server's election timer firing: the target server
 * starts a new election (incrementing its term and becoming a candidate)" */
TEST(thesis_3_10, timeout_now_starts_an_election_at_once)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_heartbeat(bench, B, 1, 0);
    struct ls_message message = bench_message(bench, LS_MESSAGE_TIMEOUT_NOW, B, 1);
    bench_receive(bench, &message);
    bench_persist(bench);
    assert_int_equal(bench->ready.role, LS_ROLE_CANDIDATE);
    assert_int_equal(bench->ready.term, 2);
    const struct ls_outgoing *vote = bench_sent(bench, LS_MESSAGE_VOTE, C);
    assert_non_null(vote);
    assert_true(vote->message.as.vote.transfer);
    bench_close(bench);
}

/* "If leadership transfer does not complete after about an election timeout, the prior leader
 * aborts the transfer and resumes accepting client requests" */
TEST(thesis_3_10, a_transfer_that_fails_is_given_up)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_lead(bench, 1);
    bench_persist(bench);
    struct ls_event event = {.kind = LS_EVENT_TRANSFER};
    event.as.transfer_to = bench->ids[B];
    bench_step(bench, &event);
    uint64_t end = bench->now_us + 3u * BENCH_ELECTION_MS * 1000u;
    while (bench->now_us < end) {
        bench_wait(bench);
        const struct ls_outgoing *beat = bench_sent(bench, LS_MESSAGE_HEARTBEAT, C);
        bench_heartbeat_reply(bench, C, beat == NULL ? 0 : beat->message.as.heartbeat.round);
        bench->sent_count = bench->sent_count > 200 ? 0 : bench->sent_count;
    }
    assert_int_equal(bench->ready.role, LS_ROLE_LEADER);
    bench_propose(bench, 1);
    assert_ok(bench->ready.propose_status);
    bench_close(bench);
}
