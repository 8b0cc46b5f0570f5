/* SPDX-License-Identifier: MIT */
/* Raft paper, figure 2, box "AppendEntries RPC": one test a sentence, quoted above it. */
#include "bench.h"

static const struct ls_append_reply *reply_to(const struct bench *bench, int to)
{
    const struct ls_outgoing *sent = bench_sent(bench, LS_MESSAGE_APPEND_REPLY, to);
    assert_non_null(sent);
    return &sent->message.as.append_reply;
}

/* "Results: term: currentTerm, for leader to update itself" */
TEST(figure2_append, the_answer_carries_the_current_term)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .log = {1, 2}});
    bench_append(bench, 4, CURSOR(2, 2), NULL, 0, 0);
    bench_persist(bench);
    assert_int_equal(bench_sent(bench, LS_MESSAGE_APPEND_REPLY, B)->message.term, 5);
    bench_close(bench);
}

/* "1. Reply false if term < currentTerm" */
TEST(figure2_append, replies_false_to_an_old_term)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .log = {1, 2}});
    bench_append(bench, 4, CURSOR(2, 2), TERMS(4), 1, 0);
    bench_persist(bench);
    assert_false(reply_to(bench, B)->accepted);
    assert_log(1, 2);
    bench_close(bench);
}

/* "2. Reply false if log doesn't contain an entry at prevLogIndex ..." */
TEST(figure2_append, replies_false_when_the_log_is_too_short)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .log = {1, 2}});
    bench_append(bench, 5, CURSOR(4, 7), TERMS(5), 1, 0);
    bench_persist(bench);
    assert_false(reply_to(bench, B)->accepted);
    assert_int_equal(reply_to(bench, B)->prev.index, 7);
    assert_int_equal(reply_to(bench, B)->last, 2);
    assert_log(1, 2);
    bench_close(bench);
}

/* "... whose term matches prevLogTerm" */
TEST(figure2_append, replies_false_when_the_term_before_differs)
{
    struct bench *bench = bench_open(&(struct setup){.term = 5, .log = {1, 2, 2, 3}});
    bench_append(bench, 5, CURSOR(4, 4), TERMS(5), 1, 0);
    bench_persist(bench);
    assert_false(reply_to(bench, B)->accepted);
    assert_log(1, 2, 2, 3);
    bench_close(bench);
}

/* Section 5.3: the rejection may carry "the term of the conflicting entry and the first index it
 * stores for that term", so that the leader backs off faster than one entry at a time. */
TEST(figure2_append, a_rejection_hints_at_the_last_entry_that_can_match)
{
    struct bench *bench = bench_open(&(struct setup){.term = 9, .log = {1, 1, 4, 7, 7, 7}});
    bench_append(bench, 9, CURSOR(5, 6), TERMS(9), 1, 0);
    bench_persist(bench);
    assert_int_equal(reply_to(bench, B)->hint.index, 3);
    assert_int_equal(reply_to(bench, B)->hint.term, 4);
    bench_close(bench);
}

/* "3. If an existing entry conflicts with a new one (same index but different terms), delete the
 * existing entry and all that follow it" */
TEST(figure2_append, deletes_a_conflicting_entry_and_all_that_follow)
{
    struct bench *bench = bench_open(&(struct setup){.term = 4, .log = {1, 2, 2, 2, 2}});
    bench_append(bench, 4, CURSOR(2, 2), TERMS(4), 1, 0);
    assert_true(bench->ready.truncate);
    assert_int_equal(bench->ready.truncate_from, 3);
    assert_log(1, 2, 4);
    bench_close(bench);
}

/* L1: the conflict lies in the middle of the batch. */
TEST(figure2_append, deletes_from_a_conflict_in_the_middle_of_a_batch)
{
    struct bench *bench = bench_open(&(struct setup){.term = 4, .log = {1, 2, 2, 2, 2}});
    bench_append(bench, 4, CURSOR(1, 1), TERMS(2, 2, 4, 4), 4, 0);
    assert_int_equal(bench->ready.truncate_from, 4);
    assert_int_equal(bench->ready.append_first, 4);
    assert_log(1, 2, 2, 4, 4);
    bench_close(bench);
}

/* L2: entries that follow what a message carries are no conflict. */
TEST(figure2_append, keeps_what_follows_a_batch_that_matches)
{
    struct bench *bench = bench_open(&(struct setup){.term = 2, .log = {1, 2, 2, 2, 2}});
    bench_append(bench, 2, CURSOR(1, 1), TERMS(2), 1, 0);
    bench_persist(bench);
    assert_false(bench->ready.truncate);
    assert_log(1, 2, 2, 2, 2);
    /* L6: and it acknowledges what this message verified, not what it holds */
    assert_true(reply_to(bench, B)->accepted);
    assert_int_equal(reply_to(bench, B)->match, 2);
    bench_close(bench);
}

/* "4. Append any new entries not already in the log" */
TEST(figure2_append, appends_only_what_is_not_there_already)
{
    struct bench *bench = bench_open(&(struct setup){.term = 2, .log = {1, 2, 2}});
    bench_append(bench, 2, CURSOR(1, 1), TERMS(2, 2, 2, 2), 4, 0);
    assert_int_equal(bench->ready.append_first, 4);
    assert_int_equal(bench->ready.entries_count, 2);
    assert_log(1, 2, 2, 2, 2);
    bench_close(bench);
}

/* "5. If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, ..." */
TEST(figure2_append, commits_what_the_leader_committed)
{
    struct bench *bench = bench_open(&(struct setup){.term = 2, .log = {1, 2, 2}});
    bench_append(bench, 2, CURSOR(2, 3), TERMS(2, 2), 2, 4);
    bench_persist(bench);
    assert_int_equal(bench->ready.commit, 4);
    bench_close(bench);
}

/* "... index of last new entry)" */
TEST(figure2_append, commits_no_further_than_the_last_new_entry)
{
    struct bench *bench = bench_open(&(struct setup){.term = 4, .log = {1, 2, 2, 2, 2}});
    /* verified up to 3; 4 and 5 may differ from the leader's */
    bench_append(bench, 4, CURSOR(2, 2), TERMS(2), 1, 5);
    bench_persist(bench);
    assert_int_equal(bench->ready.commit, 3);
    bench_close(bench);
}

TEST(figure2_append, a_heartbeat_commits_only_what_the_term_verified)
{
    struct bench *bench = bench_open(&(struct setup){.term = 4, .log = {1, 2, 2, 2, 2}});
    bench_heartbeat(bench, B, 5, 5);
    bench_persist(bench);
    assert_int_equal(bench->ready.commit, 0);
    bench_append(bench, 5, CURSOR(2, 4), NULL, 0, 5);
    bench_heartbeat(bench, B, 5, 5);
    bench_persist(bench);
    assert_int_equal(bench->ready.commit, 4);
    bench_close(bench);
}

/* P4: what contradicts a committed entry is a fault of somebody's and never overwritten. */
TEST(figure2_append, a_contradiction_of_a_committed_entry_halts)
{
    struct bench *bench = bench_open(&(struct setup){.term = 2, .log = {1, 2, 2}});
    bench_append(bench, 2, CURSOR(2, 3), NULL, 0, 3);
    bench_persist(bench);
    bench_append(bench, 3, CURSOR(1, 1), TERMS(3), 1, 0);
    assert_int_equal(bench->ready.halted, LS_ERR_DIVERGED);
    assert_non_null(bench->ready.halted_text);
    assert_log(1, 2, 2);
    bench_close(bench);
}
