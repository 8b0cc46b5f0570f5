/* SPDX-License-Identifier: MIT */
/* Members that must not count: one that lost its promises, one that cannot prove the key. */
#include "cluster.h"

#include <stdio.h>
#include <sys/stat.h>

static struct cluster cluster;

/* Out of the way rather than removed: for the member it is gone. */
static void wipe(unsigned at)
{
    char aside[160];
    (void)snprintf(aside, sizeof aside, "%s.before", cluster.members[at].data);
    assert_int_equal(rename(cluster.members[at].data, aside), 0);
}

TEST(stranger, a_wiped_member_runs_and_is_told_why_it_does_not_count)
{
    cluster_open(&cluster, 3);
    unsigned leader = cluster_await_leader(&cluster);
    unsigned wiped = (leader + 1) % 3;
    unsigned other = (leader + 2) % 3;
    assert_string_equal(cluster_text(&cluster, leader, "SET kept value"), "OK");

    cluster_terminate(&cluster, wiped);
    wipe(wiped);
    cluster_start(&cluster, wiped);

    eventually(strstr(cluster_text(&cluster, wiped, "LOCKSTEP STATUS"),
                      "does not count: its data directory was re-created") != NULL);
    /* it is brought up to date all the same */
    eventually(cluster_level(&cluster));
    assert_string_equal(cluster_text(&cluster, wiped, "READONLY"), "OK");
    assert_string_equal(cluster_text(&cluster, wiped, "GET kept"), "value");
    /* with the other voter the group works ... */
    assert_string_equal(cluster_text(&cluster, leader, "SET with two"), "OK");
    /* ... and without it the wiped member is no substitute */
    cluster_kill(&cluster, other);
    const char *written = cluster_text(&cluster, leader, "SET with one");
    assert_true(strncmp(written, "TRYAGAIN ", 9) == 0 || strncmp(written, "UNKNOWN ", 8) == 0);
    cluster_start(&cluster, other);
    eventually(strcmp(cluster_text(&cluster, other, "SET with two-again"), "OK") == 0);
    cluster_close(&cluster);
}

TEST(stranger, without_the_group_key_nobody_joins)
{
    struct cluster forger;
    cluster_open(&cluster, 3);
    unsigned leader = cluster_await_leader(&cluster);
    unsigned away = (leader + 1) % 3;
    uint64_t term = cluster_number(&cluster, leader, "term");
    assert_string_equal(cluster_text(&cluster, leader, "SET secret value"), "OK");
    cluster_terminate(&cluster, away);

    /* same name and addresses, a key of its own, a fresh directory */
    forger = cluster;
    struct member *member = &cluster.members[away];
    (void)snprintf(member->key, sizeof member->key, "%s/other.key", forger.directory);
    (void)snprintf(member->data, sizeof member->data, "%s/forged", forger.directory);
    FILE *file = fopen(member->key, "w");
    assert_non_null(file);
    assert_true(fputs("0123456789abcdef0123456789abcdef", file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(member->key, 0600), 0);
    cluster_start(&cluster, away);

    /* Another key makes another identity. Both sides have tried and say so; then it is certain that
     * nothing came through */
    eventually(strstr(cluster_text(&cluster, leader, "LOCKSTEP BONDS"),
                      "another name or another group key") != NULL);
    eventually(strstr(cluster_text(&cluster, away, "LOCKSTEP BONDS"),
                      "another name or another group key") != NULL);
    assert_string_equal(cluster_info(&cluster, away, "leader"), "-");
    assert_int_equal(cluster_number(&cluster, away, "applied"), 0);
    assert_string_equal(cluster_text(&cluster, away, "READONLY"), "OK");
    assert_string_equal(cluster_text(&cluster, away, "GET secret"), "(nil)");
    /* and the group did not notice */
    assert_string_equal(cluster_text(&cluster, leader, "SET still works"), "OK");
    assert_int_equal(cluster_number(&cluster, leader, "term"), term);
    cluster_close(&cluster);
}
