/* SPDX-License-Identifier: MIT */
/* Raft thesis 3.6, "Safety": one test a sentence, quoted above it. */
#include "bench.h"

static bool grants(const struct setup *setup, struct ls_cursor last)
{
    struct bench *bench = bench_open(setup);
    bench_vote(bench, B, setup->term + 1, last);
    const struct ls_outgoing *sent = bench_sent(bench, LS_MESSAGE_VOTE_REPLY, B);
    assert_non_null(sent);
    bool granted = sent->message.as.vote_reply.granted;
    bench_close(bench);
    return granted;
}

static const struct setup voter = {.term = 4, .log = {1, 2, 3, 3}};

/* 3.6.1: "the RPC includes information about the candidate's log, and the voter denies its vote if
 * its own log is more up-to-date than that of the candidate" */
TEST(thesis_3_6_1, denies_a_vote_to_a_less_complete_log)
{
    assert_false(grants(&voter, CURSOR(3, 3)));
    assert_false(grants(&voter, CURSOR(2, 9)));
}

/* "Raft determines which of two logs is more up-to-date by comparing the index and term of the last
 * entries in the logs": equal ends are equally up to date */
TEST(thesis_3_6_1, grants_a_vote_to_an_equal_log)
{
    assert_true(grants(&voter, CURSOR(3, 4)));
}

/* "If the logs have last entries with different terms, then the log with the later term is more
 * up-to-date" (E15) */
TEST(thesis_3_6_1, the_later_term_wins_however_short_the_log)
{
    assert_true(grants(&voter, CURSOR(4, 2)));
    assert_false(grants(&voter, CURSOR(2, 100)));
}

/* "If the logs end with the same term, then whichever log is longer is more up-to-date" */
TEST(thesis_3_6_1, of_equal_terms_the_longer_log_wins)
{
    assert_true(grants(&voter, CURSOR(3, 5)));
    assert_false(grants(&voter, CURSOR(3, 3)));
}

/* 3.6.2: "Raft never commits log entries from previous terms by counting replicas" (C1, figure 8)
 */
TEST(thesis_3_6_2, an_entry_of_an_earlier_term_is_not_committed_by_counting)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 3, .log = {1, 2, 2}});
    bench_lead(bench, 1);
    bench_persist(bench);
    bench_accept(bench, B, 3);
    bench_accept(bench, C, 3);
    assert_int_equal(bench->ready.commit, 0);
    bench_close(bench);
}

/* "Only log entries from the leader's current term are committed by counting replicas; once an
 * entry from the current term has been committed in this way, then all prior entries are committed
 * indirectly" */
TEST(thesis_3_6_2, an_entry_of_the_own_term_commits_all_before_it)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 3, .log = {1, 2, 2}});
    bench_lead(bench, 1);
    bench_persist(bench);
    assert_log(1, 2, 2, 4);
    bench_accept(bench, B, 4);
    assert_int_equal(bench->ready.commit, 4);
    bench_close(bench);
}

/* "a leader ... creates new log entries ... each has the leader's term"; P3: a no-op opens the
 * term, so that entries of earlier terms need not wait for a client */
TEST(thesis_3_6_2, a_noop_opens_each_term)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 3, .log = {1, 2, 2}});
    bench_lead(bench, 1);
    assert_log(1, 2, 2, 4);
    assert_int_equal(bench->ready.own_term_first, 4);
    bench_close(bench);
}
