/* SPDX-License-Identifier: MIT */
/* Members that die: what was acknowledged stays, and a majority goes on. */
#include "cluster.h"

#include <stdio.h>
#include <stdlib.h>

/* LS_KILLS=100 for the whole figure */
static unsigned kills_wanted(void)
{
    const char *given = getenv("LS_KILLS");
    return given != NULL ? (unsigned)strtoul(given, NULL, 10) : 3u;
}

static struct cluster cluster;

TEST(failover, loses_no_acknowledged_write_when_leaders_are_killed)
{
    unsigned kills = kills_wanted();
    cluster_open(&cluster, 3);
    struct writer *writer = writer_start(&cluster, NOBODY, 0);

    for (unsigned i = 0; i < kills; i++) {
        unsigned before = writer_acknowledged(writer);
        eventually(writer_acknowledged(writer) >= before + 200);
        unsigned leader = cluster_await_leader(&cluster);
        cluster_kill(&cluster, leader);
        unsigned at_kill = writer_acknowledged(writer);
        eventually(writer_acknowledged(writer) >= at_kill + 200);
        cluster_start(&cluster, leader);
        eventually(cluster_level(&cluster));
    }

    writer_stop(writer);
    printf("%u kills, %u writes acknowledged, longest wait for one %u ms\n", kills,
           writer_acknowledged(writer), writer_gap_ms(writer));
    for (unsigned at = 0; at < cluster.count; at++) {
        assert_int_equal(writer_missing(writer, &cluster, at), 0);
    }
    writer_free(writer);
    cluster_close(&cluster);
}

TEST(failover, writes_through_a_follower_reach_every_member)
{
    cluster_open(&cluster, 3);
    unsigned follower = cluster_follower(&cluster);
    struct writer *writer = writer_start(&cluster, follower, 0);

    eventually(writer_acknowledged(writer) >= 500);

    writer_stop(writer);
    for (unsigned at = 0; at < cluster.count; at++) {
        assert_int_equal(writer_missing(writer, &cluster, at), 0);
    }
    writer_free(writer);
    cluster_close(&cluster);
}

TEST(failover, goes_on_without_a_follower_which_catches_up_later)
{
    cluster_open(&cluster, 3);
    unsigned follower = cluster_follower(&cluster);
    struct writer *writer = writer_start(&cluster, cluster_leader(&cluster), 0);
    eventually(writer_acknowledged(writer) >= 100);

    cluster_kill(&cluster, follower);
    unsigned at_kill = writer_acknowledged(writer);
    eventually(writer_acknowledged(writer) >= at_kill + 500);
    writer_stop(writer);
    cluster_start(&cluster, follower);
    eventually(cluster_level(&cluster));

    /* its own state, without asking the leader: as many keys as were sent and acknowledged */
    assert_string_equal(cluster_text(&cluster, follower, "READONLY"), "OK");
    uint64_t keys = strtoull(cluster_text(&cluster, follower, "DBSIZE"), NULL, 10);
    assert_true(keys >= writer_acknowledged(writer));
    assert_int_equal(writer_missing(writer, &cluster, follower), 0);
    writer_free(writer);
    cluster_close(&cluster);
}

TEST(failover, acknowledges_and_reads_nothing_without_a_majority)
{
    cluster_open(&cluster, 3);
    unsigned leader = cluster_await_leader(&cluster);
    assert_string_equal(cluster_text(&cluster, leader, "SET there before"), "OK");
    for (unsigned at = 0; at < cluster.count; at++) {
        if (at != leader) {
            cluster_kill(&cluster, at);
        }
    }

    /* both at once: each waits for the deadline of a call */
    redisContext *reads = cluster_connect(&cluster, leader);
    redisReply *reply = NULL;
    assert_non_null(reads);
    assert_int_equal(redisAppendCommand(reads, "GET there"), REDIS_OK);
    int done = 0;
    assert_int_equal(redisBufferWrite(reads, &done), REDIS_OK);
    const char *written = cluster_text(&cluster, leader, "SET there after");
    assert_true(strncmp(written, "TRYAGAIN ", 9) == 0 || strncmp(written, "UNKNOWN ", 8) == 0);
    assert_int_equal(redisGetReply(reads, (void **)&reply), REDIS_OK);
    assert_int_equal(reply->type, REDIS_REPLY_ERROR);
    freeReplyObject(reply);
    redisFree(reads);

    /* what it holds it still shows to those who ask for no more than that */
    assert_string_equal(cluster_text(&cluster, leader, "READONLY"), "OK");
    assert_string_equal(cluster_text(&cluster, leader, "GET there"), "before");
    cluster_close(&cluster);
}
