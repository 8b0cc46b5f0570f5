/* SPDX-License-Identifier: MIT */
/* A member that was away while the log was pruned past it comes back by snapshot. */
#include "cluster.h"

#include <stdio.h>
#include <stdlib.h>

static struct cluster cluster;

static void prepare(unsigned count, const char *state)
{
    static const char *const flags[] = {"--keep-entries", "100", "--prune-entries",    "50",
                                        "--lag-entries",  "300", "--snapshot-entries", "200"};
    cluster_prepare(&cluster, count);
    cluster.state = state;
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        cluster.flags[i] = flags[i];
    }
}

/* All others have no entry any more that would follow the log of the one that is away. */
static bool pruned_past(unsigned away, uint64_t last)
{
    for (unsigned at = 0; at < cluster.count; at++) {
        if (at != away && cluster.members[at].pid != 0 &&
            cluster_number(&cluster, at, "log_first") <= last + 1) {
            return false;
        }
    }
    return true;
}

/* Writes until the log is pruned past `last`: a state on disk is durable only after megabytes. */
static void write_past(unsigned away, uint64_t last)
{
    unsigned leader = cluster_await_leader(&cluster);
    uint64_t until = cluster_now_ms() + 2 * CLUSTER_DEADLINE_MS;
    for (unsigned round = 1; !pruned_past(away, last); round++) {
        cluster_fill(&cluster, leader, 0, 1000, &(struct cluster_values){4000, round});
        if (cluster_now_ms() > until) {
            fail_msg("the log was not pruned: %s",
                     cluster_text(&cluster, leader, "LOCKSTEP STATUS"));
        }
    }
}

static void assert_same_states(void)
{
    char first[80];
    eventually(cluster_level(&cluster));
    (void)snprintf(first, sizeof first, "%s", cluster_digest(&cluster, 0));
    assert_int_equal(strlen(first), 64);
    for (unsigned at = 1; at < cluster.count; at++) {
        assert_string_equal(cluster_digest(&cluster, at), first);
    }
}

static void come_back(const char *state, unsigned count)
{
    prepare(count, state);
    for (unsigned at = 0; at < count; at++) {
        cluster_spawn(&cluster, at);
    }
    unsigned away = cluster_follower(&cluster);
    cluster_fill(&cluster, cluster_leader(&cluster), 0, 300, &(struct cluster_values){100, 0});
    eventually(cluster_level(&cluster));
    uint64_t last = cluster_number(&cluster, away, "log_last");
    cluster_kill(&cluster, away);
    write_past(away, last);

    cluster_spawn(&cluster, away);
    eventually(cluster_number(&cluster, away, "snapshots_installed") == 1);
    assert_same_states();
    assert_true(cluster_number(&cluster, away, "log_first") > last + 1);

    /* and it goes on as a member like the others, also after another end */
    assert_string_equal(cluster_text(&cluster, away, "SET back yes"), "OK");
    cluster_kill(&cluster, away);
    cluster_spawn(&cluster, away);
    assert_same_states();
    cluster_close(&cluster);
}

TEST(comeback, by_snapshot_brings_the_same_state_on_disk)
{
    come_back("rocksdb", 3);
}

TEST(comeback, by_snapshot_brings_the_same_state_in_memory)
{
    come_back("memory", 3);
}
