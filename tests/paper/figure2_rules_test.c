/* SPDX-License-Identifier: MIT */
/* Raft paper, figure 2, box "Rules for Servers": one test a sentence, quoted above it. */
#include "bench.h"

/* All servers: "If commitIndex > lastApplied: increment lastApplied, apply log[lastApplied] to
 * state machine". The driver applies; what it may apply is min(commit, durable) (P12). */
TEST(figure2_servers, what_is_committed_and_durable_may_be_applied)
{
    struct bench *bench = bench_open(&(struct setup){.term = 1, .log = {1}});
    bench_append(bench, 1, CURSOR(1, 1), TERMS(1, 1), 2, 3);
    assert_int_equal(bench->ready.durable, 1);
    bench_persist(bench);
    assert_int_equal(bench->ready.durable, 3);
    assert_int_equal(bench->ready.commit, 3);
    bench_close(bench);
}

/* All servers: "If RPC request ... contains term T > currentTerm: set currentTerm = T, convert to
 * follower" */
TEST(figure2_servers, a_request_of_a_later_term_makes_a_follower)
{
    struct bench *bench = bench_open(&(struct setup){.term = 1, .log = {1}});
    bench_lead(bench, 1);
    bench_heartbeat(bench, C, 9, 0);
    assert_int_equal(bench->ready.term, 9);
    assert_int_equal(bench->ready.role, LS_ROLE_FOLLOWER);
    assert_true(ls_peer_id_equal(&bench->ready.leader, &bench->ids[C]));
    bench_close(bench);
}

/* "... or response ..." */
TEST(figure2_servers, a_response_of_a_later_term_makes_a_follower)
{
    struct bench *bench = bench_open(&(struct setup){.term = 1, .log = {1}});
    bench_lead(bench, 1);
    struct ls_message message = bench_message(bench, LS_MESSAGE_APPEND_REPLY, C, 9);
    message.as.append_reply = (struct ls_append_reply){.counts = true, .last = 1};
    bench_receive(bench, &message);
    assert_int_equal(bench->ready.term, 9);
    assert_int_equal(bench->ready.role, LS_ROLE_FOLLOWER);
    assert_true(ls_peer_id_is_zero(&bench->ready.leader));
    bench_close(bench);
}

/* Followers: "Respond to RPCs from candidates and leaders" */
TEST(figure2_followers, respond_to_candidates_and_leaders)
{
    struct bench *bench = bench_open(&(struct setup){.term = 1, .log = {1}});
    bench_vote(bench, C, 2, CURSOR(1, 1));
    assert_non_null(bench_sent(bench, LS_MESSAGE_VOTE_REPLY, C));
    bench_append(bench, 2, CURSOR(1, 1), NULL, 0, 0);
    bench_persist(bench);
    assert_non_null(bench_sent(bench, LS_MESSAGE_APPEND_REPLY, B));
    bench_heartbeat(bench, B, 2, 0);
    assert_non_null(bench_sent(bench, LS_MESSAGE_HEARTBEAT_REPLY, B));
    bench_close(bench);
}

/* Followers: "If election timeout elapses without receiving AppendEntries RPC from current leader
 * ...: convert to candidate" (here by way of a pre-vote, thesis 9.6) */
TEST(figure2_followers, campaign_when_nothing_is_heard_for_a_timeout)
{
    struct bench *bench = bench_open(&(struct setup){.term = 1, .log = {1}});
    uint64_t began = bench->now_us;
    assert_int_equal(bench->ready.role, LS_ROLE_FOLLOWER);
    bench_wait(bench);
    assert_int_equal(bench->ready.role, LS_ROLE_PRE_CANDIDATE);
    assert_true(bench->now_us - began >= BENCH_ELECTION_MS * 1000u);
    assert_true(bench->now_us - began <= 2u * BENCH_ELECTION_MS * 1000u);
    bench_close(bench);
}

TEST(figure2_followers, hearing_from_the_leader_puts_the_timeout_off)
{
    struct bench *bench = bench_open(&(struct setup){.term = 1, .log = {1}});
    for (int i = 0; i < 20; i++) {
        bench_pass(bench, BENCH_ELECTION_MS / 2);
        bench_heartbeat(bench, B, 1, 0);
        bench_tick(bench);
        assert_int_equal(bench->ready.role, LS_ROLE_FOLLOWER);
    }
    bench_close(bench);
}

/* "... or granting vote to candidate" */
TEST(figure2_followers, granting_a_vote_puts_the_timeout_off)
{
    struct bench *bench = bench_open(&(struct setup){.term = 1, .log = {1}});
    uint64_t before = bench->ready.deadline_us;
    bench->now_us = before - 1000;
    bench_vote(bench, C, 2, CURSOR(1, 1));
    assert_true(bench->ready.deadline_us >= bench->now_us + BENCH_ELECTION_MS * 1000u);
    bench_close(bench);
}

/* Candidates: "On conversion to candidate, start election: Increment currentTerm" */
TEST(figure2_candidates, increment_the_term)
{
    struct bench *bench = bench_open(&(struct setup){.term = 4, .log = {1}});
    bench_campaign(bench, 1);
    assert_int_equal(bench->ready.term, 5);
    bench_close(bench);
}

/* "Vote for self" (and durably before asking others: P1, E4) */
TEST(figure2_candidates, vote_for_themselves_before_they_ask)
{
    struct bench *bench = bench_open(&(struct setup){.term = 4, .log = {1}});
    bench_campaign(bench, 1);
    assert_true(ls_peer_id_equal(&bench->ready.hard_state.vote, &bench->ids[A]));
    const struct ls_outgoing *vote = bench_sent(bench, LS_MESSAGE_VOTE, B);
    assert_non_null(vote);
    assert_int_equal(vote->after, bench->staged_seq);
    bench_vote(bench, C, 5, CURSOR(4, 9));
    assert_false(bench_sent(bench, LS_MESSAGE_VOTE_REPLY, C)->message.as.vote_reply.granted);
    bench_close(bench);
}

/* "Reset election timer" */
TEST(figure2_candidates, reset_the_election_timer)
{
    struct bench *bench = bench_open(&(struct setup){.term = 4, .log = {1}});
    bench_campaign(bench, 1);
    assert_true(bench->ready.deadline_us >= bench->now_us + BENCH_ELECTION_MS * 1000u);
    bench_close(bench);
}

/* "Send RequestVote RPCs to all other servers" */
TEST(figure2_candidates, ask_every_other_voter)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 5, .term = 4, .log = {1, 3}});
    bench_campaign(bench, 2);
    for (int to = B; to <= E; to++) {
        const struct ls_outgoing *vote = bench_sent(bench, LS_MESSAGE_VOTE, to);
        assert_non_null(vote);
        assert_int_equal(vote->message.term, 5);
        assert_int_equal(vote->message.as.vote.last.term, 3);
        assert_int_equal(vote->message.as.vote.last.index, 2);
    }
    bench_close(bench);
}

/* "If votes received from majority of servers: become leader" */
TEST(figure2_candidates, lead_with_the_votes_of_a_majority)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 5, .term = 1, .log = {1}});
    bench_campaign(bench, 2);
    bench_grant(bench, B, true);
    assert_int_equal(bench->ready.role, LS_ROLE_CANDIDATE);
    bench_grant(bench, C, true);
    assert_int_equal(bench->ready.role, LS_ROLE_LEADER);
    bench_close(bench);
}

/* E14: one vote is one vote however often it arrives. */
TEST(figure2_candidates, do_not_count_a_vote_twice)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 5, .term = 1, .log = {1}});
    bench_campaign(bench, 2);
    bench_grant(bench, B, true);
    bench_grant(bench, B, true);
    bench_grant(bench, B, true);
    assert_int_equal(bench->ready.role, LS_ROLE_CANDIDATE);
    bench_close(bench);
}

/* E14: a vote of an earlier term counts for nothing. */
TEST(figure2_candidates, do_not_count_votes_of_an_earlier_term)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 6, .log = {1}});
    bench_campaign(bench, 1);
    struct ls_message late = bench_message(bench, LS_MESSAGE_VOTE_REPLY, B, 5);
    late.as.vote_reply.granted = true;
    bench_receive(bench, &late);
    assert_int_equal(bench->ready.role, LS_ROLE_CANDIDATE);
    bench_close(bench);
}

/* E1: a majority of the configuration, whoever can be reached. */
TEST(figure2_candidates, do_not_lead_because_nobody_else_is_there)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 6, .log = {1}});
    for (int from = B; from <= C; from++) {
        struct ls_event event = {.kind = LS_EVENT_LINK};
        event.as.link.peer = bench->ids[from];
        event.as.link.up = false;
        bench_step(bench, &event);
    }
    for (int i = 0; i < 20; i++) {
        bench_wait(bench);
        bench_persist(bench);
        assert_int_not_equal(bench->ready.role, LS_ROLE_LEADER);
    }
    assert_int_equal(bench->ready.term, 6);
    bench_close(bench);
}

/* "If AppendEntries RPC received from new leader: convert to follower" */
TEST(figure2_candidates, follow_a_leader_of_their_term)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 6, .log = {1}});
    bench_campaign(bench, 1);
    bench_append(bench, 7, CURSOR(1, 1), NULL, 0, 0);
    assert_int_equal(bench->ready.role, LS_ROLE_FOLLOWER);
    assert_true(ls_peer_id_equal(&bench->ready.leader, &bench->ids[B]));
    /* and its vote of the term stays its own */
    assert_true(ls_peer_id_equal(&bench->ready.hard_state.vote, &bench->ids[A]));
    bench_close(bench);
}

/* "If election timeout elapses: start new election" */
TEST(figure2_candidates, start_a_new_election_when_the_timeout_elapses)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 6, .log = {1}});
    bench_campaign(bench, 1);
    bench_forget(bench);
    for (int i = 0; i < 8 && bench_count(bench, LS_MESSAGE_PRE_VOTE, B) == 0; i++) {
        bench_wait(bench);
        bench_persist(bench);
    }
    assert_true(bench_count(bench, LS_MESSAGE_PRE_VOTE, B) > 0);
    bench_grant(bench, B, true);
    bench_persist(bench);
    assert_int_equal(bench->ready.role, LS_ROLE_CANDIDATE);
    assert_int_equal(bench->ready.term, 8);
    bench_close(bench);
}

/* Leaders: "Upon election: send initial empty AppendEntries RPCs (heartbeat) to each server" */
TEST(figure2_leaders, announce_themselves_to_every_server)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 5, .term = 1, .log = {1}});
    bench_lead(bench, 2);
    for (int to = B; to <= E; to++) {
        assert_true(bench_sent(bench, LS_MESSAGE_APPEND, to) != NULL ||
                    bench_sent(bench, LS_MESSAGE_HEARTBEAT, to) != NULL);
    }
    bench_close(bench);
}

/* "... repeat during idle periods to prevent election timeouts" */
TEST(figure2_leaders, repeat_heartbeats_when_idle)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_lead(bench, 1);
    bench_persist(bench);
    bench_accept(bench, B, bench->last);
    bench_accept(bench, C, bench->last);
    uint64_t began = bench->now_us;
    bench_forget(bench);
    while (bench->now_us < began + BENCH_ELECTION_MS * 1000u) {
        bench_wait(bench);
        uint64_t round =
            bench_sent(bench, LS_MESSAGE_HEARTBEAT, B) == NULL
                ? 0
                : bench_sent(bench, LS_MESSAGE_HEARTBEAT, B)->message.as.heartbeat.round;
        bench_heartbeat_reply(bench, B, round);
    }
    assert_int_equal(bench->ready.role, LS_ROLE_LEADER);
    assert_true(bench_count(bench, LS_MESSAGE_HEARTBEAT, B) >= 3);
    assert_true(bench_count(bench, LS_MESSAGE_HEARTBEAT, C) >= 3);
    bench_close(bench);
}

/* "If command received from client: append entry to local log, ..." */
TEST(figure2_leaders, append_commands_to_their_log)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_lead(bench, 1);
    bench_propose(bench, 2);
    assert_ok(bench->ready.propose_status);
    assert_int_equal(bench->ready.append_first, 3);
    assert_int_equal(bench->ready.entries_count, 2);
    assert_log(1, 2, 2, 2);
    bench_close(bench);
}

TEST(figure2_leaders, only_they_take_commands)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_propose(bench, 1);
    assert_int_equal(bench->ready.propose_status, LS_ERR_NOT_LEADER);
    assert_log(1);
    bench_close(bench);
}

/* "If last log index >= nextIndex for a follower: send AppendEntries RPC with log entries starting
 * at nextIndex" (and at once, beside its own disk's work: thesis 10.2.1) */
TEST(figure2_leaders, send_entries_from_next_index_on_at_once)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_lead(bench, 1);
    bench_persist(bench);
    bench_accept(bench, B, 2);
    bench_forget(bench);
    bench_propose(bench, 2);
    const struct ls_outgoing *append = bench_sent(bench, LS_MESSAGE_APPEND, B);
    assert_non_null(append);
    assert_true(append->after < bench->staged_seq);
    assert_int_equal(append->message.as.append.prev.index, 2);
    assert_int_equal(append->message.as.append.prev.term, 2);
    assert_int_equal(append->message.as.append.count, 2);
    bench_close(bench);
}

/* "If successful: update nextIndex and matchIndex for follower" */
TEST(figure2_leaders, note_what_a_follower_accepted)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1, 1, 1}});
    bench_lead(bench, 1);
    bench_accept(bench, B, 4);
    struct ls_core_status status;
    assert_int_equal(bench_progress(bench, B, &status)->match, 4);
    assert_int_equal(bench_progress(bench, B, &status)->next, 5);
    bench_close(bench);
}

/* "If AppendEntries fails because of log inconsistency: decrement nextIndex and retry" */
TEST(figure2_leaders, retry_earlier_after_a_rejection)
{
    struct bench *bench =
        bench_open(&(struct setup){.voters = 3, .term = 3, .log = {1, 1, 2, 3, 3, 3}});
    bench_lead(bench, 1);
    bench_forget(bench);
    bench_reject(bench, B, CURSOR(3, 6), CURSOR(1, 2));
    const struct ls_outgoing *append = bench_sent(bench, LS_MESSAGE_APPEND, B);
    assert_non_null(append);
    assert_int_equal(append->message.as.append.prev.index, 2);
    assert_int_equal(append->message.as.append.prev.term, 1);
    bench_close(bench);
}

/* "If there exists an N such that N > commitIndex, a majority of matchIndex[i] >= N, and
 * log[N].term
 * == currentTerm: set commitIndex = N" */
TEST(figure2_leaders, commit_what_a_majority_holds)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 5, .term = 1, .log = {1}});
    bench_lead(bench, 2);
    bench_propose(bench, 2);
    bench_persist(bench);
    bench_accept(bench, B, 3);
    assert_int_equal(bench->ready.commit, 0);
    bench_accept(bench, C, 4);
    assert_int_equal(bench->ready.commit, 3);
    bench_accept(bench, D, 4);
    assert_int_equal(bench->ready.commit, 4);
    bench_close(bench);
}

/* The leader's own copy counts when it is durable, not before (thesis 10.2.1, C5). */
TEST(figure2_leaders, count_their_own_entry_when_it_is_durable)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_lead(bench, 1);
    bench_accept(bench, B, 2);
    assert_int_equal(bench->ready.commit, 0);
    bench_persist(bench);
    assert_int_equal(bench->ready.commit, 2);
    bench_close(bench);
}

TEST(figure2_leaders, may_commit_before_their_own_disk)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_lead(bench, 1);
    bench_accept(bench, B, 2);
    bench_accept(bench, C, 2);
    assert_int_equal(bench->ready.commit, 2);
    assert_int_equal(bench->ready.durable, 1);
    bench_close(bench);
}
