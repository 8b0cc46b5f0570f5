/* SPDX-License-Identifier: MIT */
/*
 * Raft paper, figure 2, box "State": one test a sentence, quoted above it.
 */
#include "bench.h"

/* "currentTerm: latest term server has seen (initialized to 0 on first boot ..." */
TEST(figure2_state, current_term_is_zero_on_first_boot)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3});
    assert_int_equal(bench->ready.term, 0);
    assert_false(bench->ready.hard_state.voted);
    bench_close(bench);
}

/* "... increases monotonically)" */
TEST(figure2_state, current_term_never_decreases)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .log = {1, 2}});
    bench_heartbeat(bench, B, 3, 0);
    bench_vote(bench, C, 4, CURSOR(3, 9));
    assert_int_equal(bench->ready.term, 5);
    bench_heartbeat(bench, B, 7, 0);
    assert_int_equal(bench->ready.term, 7);
    bench_heartbeat(bench, B, 6, 0);
    assert_int_equal(bench->ready.term, 7);
    bench_close(bench);
}

/* "votedFor: candidateId that received vote in current term (or null if none)" */
TEST(figure2_state, voted_for_is_null_in_a_new_term)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .vote = C, .log = {1, 2}});
    assert_true(bench->ready.hard_state.voted);
    bench_heartbeat(bench, B, 6, 0);
    assert_int_equal(bench->ready.hard_state.term, 6);
    assert_false(bench->ready.hard_state.voted);
    bench_close(bench);
}

/* "Persistent state on all servers: (Updated on stable storage before responding to RPCs)" */
TEST(figure2_state, a_vote_is_durable_before_the_answer_leaves)
{
    struct bench *bench = bench_open(&(struct setup){.term = 1, .log = {1}});
    bench_vote(bench, B, 2, CURSOR(1, 1));
    const struct ls_outgoing *reply = bench_sent(bench, LS_MESSAGE_VOTE_REPLY, B);
    assert_non_null(reply);
    assert_true(reply->message.as.vote_reply.granted);
    assert_true(reply->after > 0);
    assert_int_equal(reply->after, bench->staged_seq);
    assert_true(bench->ready.hard_state_changed);
    bench_close(bench);
}

TEST(figure2_state, entries_are_durable_before_they_are_acknowledged)
{
    struct bench *bench = bench_open(&(struct setup){.term = 1, .log = {1}});
    bench_append(bench, 1, CURSOR(1, 1), TERMS(1), 1, 0);
    const struct ls_outgoing *reply = bench_sent(bench, LS_MESSAGE_APPEND_REPLY, B);
    if (reply != NULL) { /* it may also wait for the disk inside the core */
        assert_true(reply->after == bench->staged_seq || reply->message.as.append_reply.match < 2);
    }
    bench_persist(bench);
    reply = bench_sent(bench, LS_MESSAGE_APPEND_REPLY, B);
    assert_non_null(reply);
    assert_true(reply->message.as.append_reply.accepted);
    assert_int_equal(reply->message.as.append_reply.match, 2);
    bench_close(bench);
}

/* "log[]: log entries; ... (first index is 1)" */
TEST(figure2_state, the_first_entry_has_index_one)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 1});
    for (int waits = 0; bench->ready.last == 0 && waits < 20; waits++) {
        bench_wait(bench);
        bench_persist(bench);
    }
    assert_true(bench->ready.last >= 1);
    assert_int_equal(ls_core_term_at(bench->core, 1), bench->ready.term);
    bench_close(bench);
}

/* "commitIndex: index of highest log entry known to be committed (initialized to 0, ..." */
TEST(figure2_state, commit_index_starts_at_zero_whatever_the_log_holds)
{
    struct bench *bench = bench_open(&(struct setup){.term = 3, .log = {1, 2, 3}});
    assert_int_equal(bench->ready.commit, 0);
    bench_close(bench);
}

/* "... increases monotonically)" */
TEST(figure2_state, commit_index_never_decreases)
{
    struct bench *bench = bench_open(&(struct setup){.term = 3, .log = {1, 2, 3}});
    bench_append(bench, 3, CURSOR(3, 3), NULL, 0, 3);
    bench_persist(bench);
    assert_int_equal(bench->ready.commit, 3);
    bench_append(bench, 3, CURSOR(3, 3), NULL, 0, 1);
    bench_heartbeat(bench, B, 3, 0);
    bench_heartbeat(bench, C, 4, 2);
    assert_int_equal(bench->ready.commit, 3);
    bench_close(bench);
}

/* "lastApplied: index of highest log entry applied to state machine" */
TEST(figure2_state, last_applied_is_what_the_machine_reported)
{
    struct bench *bench = bench_open(&(struct setup){.term = 3, .log = {1, 2, 3}});
    bench_append(bench, 3, CURSOR(3, 3), NULL, 0, 3);
    bench_persist(bench);
    bench_step(bench, &(struct ls_event){.kind = LS_EVENT_APPLIED, .as.applied = 2});
    struct ls_core_status status;
    ls_core_status(bench->core, &status);
    assert_int_equal(status.applied, 2);
    bench_close(bench);
}

/* "nextIndex[]: for each server, index of the next log entry to send to that server (initialized to
 * leader last log index + 1)" */
TEST(figure2_state, next_index_begins_after_the_leaders_last_entry)
{
    struct bench *bench = bench_open(&(struct setup){.term = 3, .log = {1, 2, 3}});
    bench_lead(bench, 1);
    /* the first AppendEntries begins right after what the log held at the election */
    const struct ls_outgoing *append = bench_sent(bench, LS_MESSAGE_APPEND, B);
    assert_non_null(append);
    assert_int_equal(append->message.as.append.prev.index, 3);
    assert_int_equal(append->message.as.append.prev.term, 3);
    bench_close(bench);
}

/* "matchIndex[]: for each server, index of highest log entry known to be replicated on server
 * (initialized to 0, ..." */
TEST(figure2_state, match_index_starts_at_zero)
{
    struct bench *bench = bench_open(&(struct setup){.term = 3, .log = {1, 2, 3}});
    bench_lead(bench, 1);
    struct ls_core_status status;
    assert_int_equal(bench_progress(bench, B, &status)->match, 0);
    assert_int_equal(bench_progress(bench, C, &status)->match, 0);
    bench_close(bench);
}

/* "... increases monotonically)" */
TEST(figure2_state, match_index_never_decreases)
{
    struct bench *bench = bench_open(&(struct setup){.term = 3, .log = {1, 2, 3}});
    bench_lead(bench, 1);
    bench_persist(bench);
    bench_propose(bench, 3);
    bench_accept(bench, C, 6);
    bench_accept(bench, C, 4);
    struct ls_core_status status;
    assert_int_equal(bench_progress(bench, C, &status)->match, 6);
    assert_true(bench_progress(bench, C, &status)->next > 6);
    bench_close(bench);
}
