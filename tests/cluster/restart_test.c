/* SPDX-License-Identifier: MIT */
/* Members that end and come back, in good order and in bad. */
#include "cluster.h"

#include <stdio.h>

static struct cluster cluster;

static void restart_all(const char *state)
{
    cluster_prepare(&cluster, 3);
    cluster.state = state;
    for (unsigned at = 0; at < cluster.count; at++) {
        cluster_spawn(&cluster, at);
    }
    (void)cluster_await_leader(&cluster);
    struct writer *writer = writer_start(&cluster, NOBODY, 0);
    eventually(writer_acknowledged(writer) >= 300);

    cluster_kill_all(&cluster);
    writer_stop(writer);
    for (unsigned at = 0; at < cluster.count; at++) {
        cluster_spawn(&cluster, at);
    }
    (void)cluster_await_leader(&cluster);

    for (unsigned at = 0; at < cluster.count; at++) {
        assert_int_equal(writer_missing(writer, &cluster, at), 0);
    }
    assert_string_equal(cluster_text(&cluster, 0, "SET after restart"), "OK");
    writer_free(writer);
    cluster_close(&cluster);
}

TEST(restart, of_all_at_once_keeps_every_acknowledged_write_with_state_in_memory)
{
    restart_all("memory");
}

TEST(restart, of_all_at_once_keeps_every_acknowledged_write_with_state_on_disk)
{
    restart_all("rocksdb");
}

TEST(restart, needs_a_majority_only_when_the_group_exists)
{
    cluster_open(&cluster, 3);
    assert_string_equal(cluster_text(&cluster, 0, "SET here 1"), "OK");
    for (unsigned at = 0; at < cluster.count; at++) {
        cluster_terminate(&cluster, at);
    }

    cluster_spawn(&cluster, 0);
    cluster_spawn(&cluster, 2);
    (void)cluster_await_leader(&cluster);
    assert_string_equal(cluster_text(&cluster, 2, "GET here"), "1");
    cluster_close(&cluster);
}

TEST(restart, with_another_member_list_keeps_the_groups_and_says_so)
{
    cluster_open(&cluster, 3);
    assert_string_equal(cluster_text(&cluster, 0, "SET here 1"), "OK");
    cluster_terminate(&cluster, 2);
    assert_false(cluster_logged(&cluster, 2, "the members given are not those of the group"));

    struct cluster four = cluster;
    four.members[3] = four.members[2];
    four.members[3].name = "d";
    four.members[3].peer_port = 7104;
    four.count = 4;
    cluster.members[2].connection = NULL;
    cluster_start(&four, 2);
    cluster.members[2] = four.members[2];

    eventually(
        cluster_logged(&cluster, 2, "the members given are not those of the group, which stay: "));
    eventually(strcmp(cluster_text(&cluster, 2, "GET here"), "1") == 0);
    cluster_close(&cluster);
}

TEST(restart, founding_needs_every_founder_and_says_whom_it_waits_for)
{
    cluster_prepare(&cluster, 3);
    cluster_start(&cluster, 0);
    cluster_start(&cluster, 1);

    eventually(strstr(cluster_text(&cluster, 0, "LOCKSTEP STATUS"), "waiting for founder c") !=
               NULL);
    assert_int_equal(cluster_leader(&cluster), NOBODY);
    cluster_start(&cluster, 2);
    (void)cluster_await_leader(&cluster);
    assert_string_equal(cluster_text(&cluster, 0, "SET founded yes"), "OK");
    cluster_close(&cluster);
}

/* With timeouts this long an election by timeout could not be over in half of one. */
static void open_patient(void)
{
    cluster_prepare(&cluster, 3);
    cluster.election_ms = 4000;
    for (unsigned at = 0; at < cluster.count; at++) {
        cluster_spawn(&cluster, at);
    }
    (void)cluster_await_leader(&cluster);
    eventually(cluster_level(&cluster));
}

TEST(restart, sigterm_hands_leadership_over_before_the_end)
{
    open_patient();
    unsigned old = cluster_leader(&cluster);
    uint64_t begin = cluster_now_ms();

    cluster_terminate(&cluster, old);
    unsigned leader = cluster_await_leader(&cluster);

    assert_int_not_equal(leader, old);
    assert_true(cluster_now_ms() - begin < 2000);
    assert_string_equal(cluster_text(&cluster, leader, "SET handed over"), "OK");
    cluster_close(&cluster);
}

TEST(restart, transfer_gives_leadership_to_the_member_named)
{
    open_patient();
    for (unsigned turn = 0; turn < 3; turn++) {
        unsigned old = cluster_await_leader(&cluster);
        unsigned wanted = (old + 1) % 3;
        unsigned asked = (old + 2) % 3; /* forwards to the leader */
        uint64_t begin = cluster_now_ms();
        assert_string_equal(
            cluster_text(&cluster, asked, "LOCKSTEP TRANSFER %s", cluster.members[wanted].name),
            "OK");
        eventually(cluster_leader(&cluster) == wanted);
        assert_true(cluster_now_ms() - begin < 2000);
        assert_string_equal(cluster_text(&cluster, old, "SET turn %u", turn), "OK");
    }
    cluster_close(&cluster);
}

TEST(restart, a_data_directory_in_use_is_refused_with_a_text)
{
    cluster_open(&cluster, 1);
    struct cluster second = cluster;
    struct member *intruder = &second.members[0];
    intruder->pid = 0;
    intruder->connection = NULL;
    intruder->peer_port = 7201;
    intruder->redis_port = 6501;
    (void)snprintf(intruder->log, sizeof intruder->log, "%s/second.log", cluster.directory);

    cluster_spawn(&second, 0);
    int status = cluster_reap(&second, 0);

    assert_int_not_equal(status, 0);
    assert_true(cluster_logged(&second, 0, "in use"));
    assert_true(cluster_logged(&second, 0, cluster.members[0].data));
    assert_string_equal(cluster_text(&cluster, 0, "SET still here"), "OK");
    cluster_close(&cluster);
}
