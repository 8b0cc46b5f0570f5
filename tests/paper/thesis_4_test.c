/* SPDX-License-Identifier: MIT */
/*
 * Raft thesis 4, what of it is due before the change commands: which configuration counts (4.1,
 * 4.2.1, 4.2.2, 4.3) and who may not disturb (4.2.3). One test a sentence, quoted above it.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

#include "realm.h"

/* A configuration entry of A .. with `voters` voters, as a leader would send it. */
static void append_configuration(struct bench *bench, ls_term term, struct ls_cursor prev,
                                 unsigned voters)
{
    struct ls_configuration *configuration = calloc(1, sizeof *configuration);
    uint8_t *bytes = malloc(LS_CONFIGURATION_BYTES_MAX);
    assert_non_null(configuration);
    assert_non_null(bytes);
    configuration->count = voters;
    for (uint32_t i = 0; i < voters; i++) {
        configuration->members[i].id = bench->ids[i];
        configuration->members[i].role = LS_MEMBER_VOTER;
        configuration->members[i].incarnation.bytes[0] = 1;
        configuration->members[i].incarnation.bytes[1] = (uint8_t)i;
        (void)snprintf(configuration->members[i].name, LS_NAME_BYTES, "%c", 'A' + (int)i);
    }
    struct ls_entry entry = {.term = term, .kind = LS_ENTRY_CONFIGURATION};
    entry.data.data = bytes;
    assert_ok(ls_configuration_encode(&realm_codec, configuration, bytes,
                                      LS_CONFIGURATION_BYTES_MAX, &entry.data.bytes));
    struct ls_message message = bench_message(bench, LS_MESSAGE_APPEND, B, term);
    message.as.append = (struct ls_append){.prev = prev, .entries = &entry, .count = 1};
    bench_receive(bench, &message);
    free(bytes);
    free(configuration);
}

static uint32_t voters_in_force(const struct bench *bench)
{
    struct ls_core_status status;
    ls_core_status(bench->core, &status);
    assert_non_null(status.configuration);
    return status.configuration->configuration.count;
}

/* 4.1: "servers always use the latest configuration in their logs, regardless of whether or not the
 * entry has been committed" */
TEST(thesis_4_1, a_configuration_is_used_as_soon_as_it_is_in_the_log)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1, 1}});
    assert_int_equal(voters_in_force(bench), 3);
    append_configuration(bench, 1, CURSOR(1, 2), 4);
    assert_true(bench->ready.configuration_changed);
    assert_int_equal(bench->ready.commit, 0);
    assert_int_equal(voters_in_force(bench), 4);
    bench_close(bench);
}

/* 4.1: "a server must be prepared to fall back to the previous configuration in its log" */
TEST(thesis_4_1, a_truncated_configuration_is_undone)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1, 1}});
    append_configuration(bench, 1, CURSOR(1, 2), 4);
    append_configuration(bench, 1, CURSOR(1, 3), 5);
    assert_int_equal(voters_in_force(bench), 5);
    bench_append(bench, 2, CURSOR(1, 2), TERMS(2), 1, 0);
    assert_true(bench->ready.configuration_changed);
    assert_int_equal(voters_in_force(bench), 3);
    bench_close(bench);
}

/* 4.2.1: "the leader replicates log entries to it, but it is not yet counted towards majorities for
 * voting or commitment purposes" (C7) */
TEST(thesis_4_2_1, who_does_not_vote_is_replicated_to_and_not_counted)
{
    struct bench *bench =
        bench_open(&(struct setup){.voters = 3, .observers = 2, .term = 1, .log = {1}});
    bench_lead(bench, 1);
    bench_persist(bench);
    assert_non_null(bench_sent(bench, LS_MESSAGE_APPEND, D));
    bench_accept(bench, D, 2);
    bench_accept(bench, E, 2);
    assert_int_equal(bench->ready.commit, 0);
    bench_accept(bench, B, 2);
    assert_int_equal(bench->ready.commit, 2);
    bench_close(bench);
}

TEST(thesis_4_2_1, who_does_not_vote_is_not_asked)
{
    struct bench *bench =
        bench_open(&(struct setup){.voters = 3, .observers = 2, .term = 1, .log = {1}});
    bench_campaign(bench, 1);
    assert_null(bench_sent(bench, LS_MESSAGE_PRE_VOTE, D));
    assert_null(bench_sent(bench, LS_MESSAGE_VOTE, D));
    bench_grant(bench, D, true);
    bench_grant(bench, E, true);
    assert_int_equal(bench->ready.role, LS_ROLE_CANDIDATE);
    bench_close(bench);
}

/* 4.2.3: "if a server receives a RequestVote request within the minimum election timeout of hearing
 * from a current leader, it does not update its term or grant its vote" */
TEST(thesis_4_2_3, a_vote_is_ignored_while_the_leader_is_heard)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_heartbeat(bench, B, 1, 0);
    bench_pass(bench, BENCH_ELECTION_MS - 1);
    bench_vote(bench, C, 9, CURSOR(8, 8));
    assert_int_equal(bench->ready.term, 1);
    const struct ls_outgoing *reply = bench_sent(bench, LS_MESSAGE_VOTE_REPLY, C);
    assert_true(reply == NULL || !reply->message.as.vote_reply.granted);
    bench_close(bench);
}

TEST(thesis_4_2_3, a_vote_counts_again_when_the_leader_has_been_silent)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_heartbeat(bench, B, 1, 0);
    bench_pass(bench, BENCH_ELECTION_MS + 1);
    bench_vote(bench, C, 9, CURSOR(8, 8));
    assert_int_equal(bench->ready.term, 9);
    assert_true(bench_sent(bench, LS_MESSAGE_VOTE_REPLY, C)->message.as.vote_reply.granted);
    bench_close(bench);
}

/* "a leader is able to get heartbeats to its cluster ... it will not be deposed by larger term
 * numbers" (E10) */
TEST(thesis_4_2_3, a_leader_in_touch_is_not_deposed_by_a_vote)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_lead(bench, 1);
    bench_persist(bench);
    bench_accept(bench, B, bench->last);
    ls_term term = bench->ready.term;
    bench_vote(bench, C, term + 40, CURSOR(term + 39, 99));
    assert_int_equal(bench->ready.role, LS_ROLE_LEADER);
    assert_int_equal(bench->ready.term, term);
    bench_close(bench);
}

/* P6, E11: who is in no committed configuration is told so, whatever its term, and changes nothing
 */
TEST(thesis_4_2_3, a_stranger_is_told_that_it_is_no_member)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1, 1}});
    bench_append(bench, 1, CURSOR(1, 2), NULL, 0, 2);
    bench_pass(bench, 3u * BENCH_ELECTION_MS);
    bench_vote(bench, E, 40, CURSOR(1, 2));
    const struct ls_outgoing *reply = bench_sent(bench, LS_MESSAGE_VOTE_REPLY, E);
    assert_non_null(reply);
    assert_false(reply->message.as.vote_reply.granted);
    assert_true(reply->message.as.vote_reply.not_member);
    assert_int_equal(bench->ready.term, 1);
    assert_false(bench->ready.hard_state.voted);
    bench_close(bench);
}

/* ... and a candidate that is told so by a member asks no more, until a leader is heard again */
TEST(thesis_4_2_3, who_was_told_that_it_is_no_member_campaigns_no_more)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1, 1}});
    bench_wait(bench);
    assert_int_equal(bench->ready.role, LS_ROLE_PRE_CANDIDATE);
    struct ls_message notice = bench_message(bench, LS_MESSAGE_PRE_VOTE_REPLY, B, 1);
    notice.as.vote_reply.not_member = true;
    bench_receive(bench, &notice);
    bench_forget(bench);
    for (int waits = 0; waits < 10 && bench->ready.deadline_us != UINT64_MAX; waits++) {
        bench_wait(bench);
    }
    assert_int_equal(bench_count(bench, LS_MESSAGE_PRE_VOTE, -1), 0);
    assert_int_equal(bench->ready.role, LS_ROLE_FOLLOWER);

    bench_heartbeat(bench, B, 1, 0);
    for (int waits = 0; waits < 10 && bench->ready.role == LS_ROLE_FOLLOWER; waits++) {
        bench_wait(bench);
    }
    assert_int_equal(bench->ready.role, LS_ROLE_PRE_CANDIDATE);
    bench_close(bench);
}

/* "a special flag ... permission to disrupt the leader" for leadership transfer */
TEST(thesis_4_2_3, a_vote_asked_for_by_the_leader_is_not_ignored)
{
    struct bench *bench = bench_open(&(struct setup){.voters = 3, .term = 1, .log = {1}});
    bench_heartbeat(bench, B, 1, 0);
    struct ls_message message = bench_message(bench, LS_MESSAGE_VOTE, C, 2);
    message.as.vote = (struct ls_vote){.last = CURSOR(1, 1), .transfer = true};
    bench_receive(bench, &message);
    assert_true(bench_sent(bench, LS_MESSAGE_VOTE_REPLY, C)->message.as.vote_reply.granted);
    bench_close(bench);
}

/* 4.3: joint consensus: "Agreement (for elections and entry commitment) requires majorities from
 * both the old and new configurations" */
static const struct setup joint = {.voters = 5,
                                   .term = 1,
                                   .log = {1},
                                   .joint = true,
                                   .outgoing = 1u << A | 1u << B | 1u << C,
                                   .incoming = 1u << A | 1u << D | 1u << E};

TEST(thesis_4_3, a_joint_election_needs_both_majorities)
{
    struct bench *bench = bench_open(&joint);
    bench_campaign(bench, 4);
    bench_grant(bench, D, true);
    bench_grant(bench, E, true);
    assert_int_equal(bench->ready.role, LS_ROLE_CANDIDATE);
    bench_grant(bench, B, true);
    assert_int_equal(bench->ready.role, LS_ROLE_LEADER);
    bench_close(bench);
}

TEST(thesis_4_3, a_joint_commit_needs_both_majorities)
{
    struct bench *bench = bench_open(&joint);
    bench_lead(bench, 4);
    bench_persist(bench);
    bench_accept(bench, B, 2);
    bench_accept(bench, C, 2);
    assert_int_equal(bench->ready.commit, 0);
    bench_accept(bench, E, 2);
    assert_int_equal(bench->ready.commit, 2);
    bench_close(bench);
}

/* 4.2.2: "a leader ... manages a cluster that does not include itself; it replicates log entries
 * but does not count itself in majorities" (C6) */
TEST(thesis_4_2_2, a_leader_outside_the_new_set_does_not_count_itself_there)
{
    struct setup leaving = joint;
    leaving.incoming = 1u << D | 1u << E;
    struct bench *bench = bench_open(&leaving);
    bench_lead(bench, 4);
    bench_persist(bench);
    bench_accept(bench, B, 2);
    bench_accept(bench, D, 2);
    assert_int_equal(bench->ready.commit, 0);
    bench_accept(bench, E, 2);
    assert_int_equal(bench->ready.commit, 2);
    bench_close(bench);
}
