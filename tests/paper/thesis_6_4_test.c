/* SPDX-License-Identifier: MIT */
/* Raft thesis 6.4, "Processing read-only queries more efficiently": one test a sentence. */
#include "bench.h"

static uint64_t round_of(const struct bench *bench, int to)
{
    const struct ls_outgoing *sent = bench_sent(bench, LS_MESSAGE_HEARTBEAT, to);
    assert_non_null(sent);
    return sent->message.as.heartbeat.round;
}

/* A leader whose own first entry is committed. */
static struct bench *serving(unsigned voters)
{
    struct bench *bench = bench_open(&(struct setup){.voters = voters, .term = 1, .log = {1}});
    bench_lead(bench, voters / 2);
    bench_persist(bench);
    for (int from = B; from <= (int)(voters / 2); from++) {
        bench_accept(bench, from, 2);
    }
    assert_int_equal(bench->ready.commit, 2);
    bench_forget(bench);
    return bench;
}

/* 1. "If the leader has not yet marked an entry from its current term committed, it waits until it
 * has done so" (R1) */
TEST(thesis_6_4, a_read_waits_for_the_first_commit_of_the_term)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1, 1}});
    bench_lead(bench, 1);
    bench_persist(bench);
    bench_read(bench, 7);
    for (uint64_t round = 0; round < 10; round++) {
        bench_heartbeat_reply(bench, C, round);
    }
    assert_int_equal(bench->reads_count, 0);
    bench_accept(bench, B, 3);
    bench_heartbeat_reply(bench, B, round_of(bench, B));
    assert_int_equal(bench->reads_count, 1);
    assert_ok(bench->reads[0].status);
    assert_int_equal(bench->reads[0].index, 3);
    bench_close(bench);
}

/* 2. "The leader saves its current commit index in a local variable readIndex" */
TEST(thesis_6_4, the_read_index_is_the_commit_when_the_read_began)
{
    struct bench *bench = serving(3);
    bench_read(bench, 7);
    uint64_t round = round_of(bench, B);
    bench_propose(bench, 1);
    bench_persist(bench);
    bench_accept(bench, B, 3);
    bench_heartbeat_reply(bench, B, round);
    assert_int_equal(bench->reads_count, 1);
    assert_int_equal(bench->reads[0].token, 7);
    assert_int_equal(bench->reads[0].index, 2);
    bench_close(bench);
}

/* 3. "It issues a new round of heartbeats and waits for their acknowledgments from a majority of
 * the cluster" (R13: a majority, not one less) */
TEST(thesis_6_4, a_read_waits_for_a_majority_of_a_new_round)
{
    struct bench *bench = serving(5);
    bench_read(bench, 7);
    uint64_t round = round_of(bench, B);
    bench_heartbeat_reply(bench, B, round);
    assert_int_equal(bench->reads_count, 0);
    bench_heartbeat_reply(bench, B, round);
    assert_int_equal(bench->reads_count, 0);
    bench_heartbeat_reply(bench, C, round);
    assert_int_equal(bench->reads_count, 1);
    bench_close(bench);
}

/* "a new round": answers to heartbeats sent before the read confirm nothing (R2) */
TEST(thesis_6_4, answers_of_an_earlier_round_do_not_confirm)
{
    struct bench *bench = serving(3);
    bench_wait(bench);
    uint64_t before = round_of(bench, B);
    bench_read(bench, 7);
    assert_true(round_of(bench, B) > before);
    bench_heartbeat_reply(bench, B, before);
    bench_heartbeat_reply(bench, C, before);
    assert_int_equal(bench->reads_count, 0);
    bench_heartbeat_reply(bench, B, round_of(bench, B));
    assert_int_equal(bench->reads_count, 1);
    bench_close(bench);
}

/* "the leader ... no other server could have been elected": a deposed one fails its reads (R4) */
TEST(thesis_6_4, reads_fail_when_the_leader_is_deposed)
{
    struct bench *bench = serving(3);
    bench_read(bench, 7);
    bench_heartbeat(bench, C, 9, 0);
    assert_int_equal(bench->reads_count, 1);
    assert_int_equal(bench->reads[0].token, 7);
    assert_int_equal(bench->reads[0].status, LS_ERR_NO_LEADER);
    bench_close(bench);
}

/* "the leader can use a single round of heartbeats for any number of read-only queries that it has
 * accumulated" */
TEST(thesis_6_4, one_round_confirms_every_read_gathered_before_it)
{
    struct bench *bench = serving(3);
    bench_read(bench, 7);
    bench_read(bench, 8);
    bench_read(bench, 9);
    bench_heartbeat_reply(bench, B, round_of(bench, B));
    while (bench->reads_count < 3 && bench_count(bench, LS_MESSAGE_HEARTBEAT, B) < 4) {
        bench_heartbeat_reply(bench, B, round_of(bench, B));
    }
    assert_int_equal(bench->reads_count, 3);
    assert_true(bench_count(bench, LS_MESSAGE_HEARTBEAT, B) <= 2);
    bench_close(bench);
}

/* "Followers ... to serve a read-only query, a follower could issue a request to the leader that
 * just asked for a current readIndex" */
TEST(thesis_6_4, a_follower_asks_the_leader_for_a_read_index)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1, 1}});
    bench_append(bench, 1, CURSOR(1, 2), NULL, 0, 2);
    bench_read(bench, 7);
    const struct ls_outgoing *asked = bench_sent(bench, LS_MESSAGE_READ_INDEX, B);
    assert_non_null(asked);
    struct ls_message reply = bench_message(bench, LS_MESSAGE_READ_INDEX_REPLY, B, 1);
    reply.as.read_index_reply = (struct ls_read_index_reply){
        .token = asked->message.as.read_index.token, .valid = true, .index = 2};
    bench_receive(bench, &reply);
    assert_int_equal(bench->reads_count, 1);
    assert_int_equal(bench->reads[0].token, 7);
    assert_ok(bench->reads[0].status);
    assert_int_equal(bench->reads[0].index, 2);
    bench_close(bench);
}

/* "The leader would execute steps 1-3": for a follower as for itself */
TEST(thesis_6_4, the_leader_confirms_a_followers_read_too)
{
    struct bench *bench = serving(3);
    struct ls_message ask = bench_message(bench, LS_MESSAGE_READ_INDEX, C, bench->ready.term);
    ask.as.read_index.token = 55;
    bench_receive(bench, &ask);
    assert_null(bench_sent(bench, LS_MESSAGE_READ_INDEX_REPLY, C));
    bench_heartbeat_reply(bench, B, round_of(bench, B));
    const struct ls_outgoing *reply = bench_sent(bench, LS_MESSAGE_READ_INDEX_REPLY, C);
    assert_non_null(reply);
    assert_true(reply->message.as.read_index_reply.valid);
    assert_int_equal(reply->message.as.read_index_reply.token, 55);
    assert_int_equal(reply->message.as.read_index_reply.index, 2);
    bench_close(bench);
}

/* A single voter is its own majority (R5). */
TEST(thesis_6_4, a_single_voter_confirms_its_reads_itself)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 1, .term = 1, .log = {1}});
    for (int waits = 0; bench->ready.role != LS_ROLE_LEADER && waits < 20; waits++) {
        bench_wait(bench);
        bench_persist(bench);
    }
    bench_persist(bench);
    assert_int_equal(bench->ready.commit, 2);
    bench_read(bench, 7);
    assert_int_equal(bench->reads_count, 1);
    assert_ok(bench->reads[0].status);
    bench_close(bench);
}
