/* SPDX-License-Identifier: MIT */
/* Members that stop and do not know it: SIGSTOP freezes a process with its sockets open. */
#include "cluster.h"

#include <stdio.h>

static struct cluster cluster;

static unsigned other_than(unsigned at)
{
    return at == 0 ? 1u : 0u;
}

/* Whether a member that is not `stopped` leads: the frozen one must not be asked. */
static bool others_lead(unsigned stopped, unsigned *leader)
{
    for (unsigned at = 0; at < cluster.count; at++) {
        if (at != stopped && strcmp(cluster_info(&cluster, at, "role"), "leader") == 0) {
            *leader = at;
            return true;
        }
    }
    return false;
}

/* R7 */
TEST(pause, a_leader_that_wakes_up_deposed_never_serves_what_is_stale)
{
    cluster_open(&cluster, 3);
    for (unsigned round = 0; round < 4; round++) {
        unsigned old = cluster_await_leader(&cluster);
        unsigned leader = NOBODY;
        redisReply *reply = NULL;
        char expected[32];
        assert_string_equal(cluster_text(&cluster, old, "SET register %u-old", round), "OK");
        redisContext *reader = cluster_connect(&cluster, old);
        assert_non_null(reader);

        cluster_pause(&cluster, old);
        /* The read waits in the socket of the frozen leader, which will find it, believing to lead,
         * before it hears of anything else. */
        int done = 0;
        assert_int_equal(redisAppendCommand(reader, "GET register"), REDIS_OK);
        assert_int_equal(redisBufferWrite(reader, &done), REDIS_OK);
        eventually(others_lead(old, &leader));
        assert_string_equal(cluster_text(&cluster, leader, "SET register %u-new", round), "OK");
        cluster_resume(&cluster, old);

        assert_int_equal(redisGetReply(reader, (void **)&reply), REDIS_OK);
        (void)snprintf(expected, sizeof expected, "%u-new", round);
        if (reply->type != REDIS_REPLY_ERROR) {
            assert_string_equal(reply->str, expected);
        }
        freeReplyObject(reply);
        redisFree(reader);
        eventually(strcmp(cluster_text(&cluster, old, "GET register"), expected) == 0);
    }
    cluster_close(&cluster);
}

/* G6 */
TEST(pause, a_write_waiting_in_a_frozen_leader_is_never_a_false_success)
{
    cluster_open(&cluster, 3);
    unsigned old = cluster_await_leader(&cluster);
    unsigned leader = NOBODY;
    redisReply *reply = NULL;
    redisContext *client = cluster_connect(&cluster, old);
    assert_non_null(client);

    cluster_pause(&cluster, old);
    int done = 0;
    assert_int_equal(redisAppendCommand(client, "SET late value"), REDIS_OK);
    assert_int_equal(redisBufferWrite(client, &done), REDIS_OK);
    eventually(others_lead(old, &leader));
    cluster_resume(&cluster, old);
    assert_int_equal(redisGetReply(client, (void **)&reply), REDIS_OK);

    /* an error may mean either; success means that everyone has it */
    if (reply->type == REDIS_REPLY_STATUS) {
        assert_string_equal(reply->str, "OK");
        for (unsigned at = 0; at < cluster.count; at++) {
            assert_string_equal(cluster_text(&cluster, at, "GET late"), "value");
        }
    } else {
        assert_int_equal(reply->type, REDIS_REPLY_ERROR);
        assert_true(strncmp(reply->str, "UNKNOWN ", 8) == 0 ||
                    strncmp(reply->str, "TRYAGAIN ", 9) == 0);
    }
    freeReplyObject(reply);
    redisFree(client);
    cluster_close(&cluster);
}

/* G3 */
TEST(pause, a_frozen_follower_delays_nobody_and_catches_up)
{
    cluster_open(&cluster, 3);
    unsigned leader = cluster_await_leader(&cluster);
    unsigned follower = other_than(leader);
    uint64_t term = cluster_number(&cluster, leader, "term");
    struct writer *writer = writer_start(&cluster, leader, 0);
    eventually(writer_acknowledged(writer) >= 100);

    cluster_pause(&cluster, follower);
    unsigned at_pause = writer_acknowledged(writer);
    /* long enough that the leader must have noticed: many election timeouts of silence */
    uint64_t until = cluster_now_ms() + 5u * cluster.election_ms;
    eventually(cluster_now_ms() >= until && writer_acknowledged(writer) >= at_pause + 500);
    cluster_resume(&cluster, follower);
    writer_stop(writer);

    eventually(cluster_level(&cluster));
    assert_int_equal(cluster_leader(&cluster), leader);
    assert_int_equal(cluster_number(&cluster, leader, "term"), term); /* it deposed nobody */
    assert_int_equal(writer_missing(writer, &cluster, follower), 0);
    assert_true(writer_gap_ms(writer) < 2000);
    writer_free(writer);
    cluster_close(&cluster);
}
