/* SPDX-License-Identifier: MIT */
/* A member that was away while the log was pruned past it comes back by snapshot. */
#include "cluster.h"

#include <stdio.h>
#include <stdlib.h>

static struct cluster cluster;

static void come_back(const char *state, unsigned count)
{
    cluster_prepare(&cluster, count);
    cluster.state = state;
    cluster_prune_early(&cluster);
    for (unsigned at = 0; at < count; at++) {
        cluster_spawn(&cluster, at);
    }
    unsigned away = cluster_follower(&cluster);
    cluster_fill(&cluster, cluster_leader(&cluster), 0, 300, &(struct cluster_values){100, 0});
    eventually(cluster_level(&cluster));
    uint64_t last = cluster_number(&cluster, away, "log_last");
    cluster_kill(&cluster, away);
    cluster_write_past(&cluster, last);

    cluster_spawn(&cluster, away);
    eventually(cluster_number(&cluster, away, "snapshots_installed") == 1);
    eventually(cluster_level(&cluster));
    cluster_assert_same(&cluster);
    assert_true(cluster_number(&cluster, away, "log_first") > last + 1);

    /* and it goes on as a member like the others, also after another end */
    assert_string_equal(cluster_text(&cluster, away, "SET back yes"), "OK");
    cluster_kill(&cluster, away);
    cluster_spawn(&cluster, away);
    eventually(cluster_level(&cluster));
    cluster_assert_same(&cluster);
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
