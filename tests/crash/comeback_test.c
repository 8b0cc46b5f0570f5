/* SPDX-License-Identifier: MIT */
/*
 * A member that a snapshot brings back dies at a named step of fetching or installing it, by turns
 * with its power, is started again and comes back: with the state of the others, or, at the worst,
 * with its old one, from which it is brought back once more.
 *
 * LS_CRASHES=1 takes every such step (steps.c), LS_CRASHES=2 with the power where 1 has none, else
 * a few; LS_STEP=<part of a name> only some.
 */
#include "armed.h"
#include "steps.h"

#include <stdio.h>
#include <stdlib.h>

static struct cluster cluster;

static bool wanted(const struct crash_step *step)
{
    static const char *const few[] = {"vault.mark.synced", "restore.built", "switch.renamed",
                                      "reset.after-write", "vault.snapshot.replaced"};
    const char *part = getenv("LS_STEP");
    bool found = part == NULL ? getenv("LS_CRASHES") != NULL : strstr(step->name, part) != NULL;
    for (size_t i = 0; i < sizeof few / sizeof few[0] && part == NULL && !found; i++) {
        found = strcmp(few[i], step->name) == 0;
    }
    return found && (step->where & STEP_SYNC) != 0;
}

static void die_coming_back(const char *step, bool cut)
{
    unsigned away = cluster_follower(&cluster);
    eventually(cluster_level(&cluster));
    uint64_t last = cluster_number(&cluster, away, "log_last");
    cluster_kill(&cluster, away);
    cluster_write_past(&cluster, last);

    armed_spawn(&cluster, away, step);
    eventually(armed_dead(&cluster, away, step));
    if (cut) {
        armed_cut_power(&cluster, away);
    }
    cluster_spawn(&cluster, away);
    (void)cluster_await_leader(&cluster);
    eventually(cluster_level(&cluster));
    cluster_assert_same(&cluster);
    assert_true(cluster_number(&cluster, away, "log_first") > last + 1);
    assert_string_equal(cluster_text(&cluster, away, "SET back %s", step), "OK");
}

static void die_at_each(bool memory)
{
    unsigned steps = 0;
    armed_prepare(&cluster);
    cluster.state = memory ? "memory" : "rocksdb";
    cluster_prune_early(&cluster);
    for (unsigned at = 0; at < cluster.count; at++) {
        cluster_spawn(&cluster, at);
    }
    (void)cluster_await_leader(&cluster);
    for (size_t i = 0; i < crash_steps_count; i++) {
        const struct crash_step *step = &crash_steps[i];
        if (wanted(step) && ((step->where & STEP_MEMORY) != 0) == memory) {
            uint64_t begun = cluster_now_ms();
            const char *crashes = getenv("LS_CRASHES");
            bool cut = (i + (crashes == NULL ? 0 : strtoul(crashes, NULL, 0))) % 2 == 0;
            die_coming_back(step->name, cut);
            printf("%s%s: %u ms\n", step->name, cut ? ", power cut" : "",
                   (unsigned)(cluster_now_ms() - begun));
            steps++;
        }
    }
    cluster_close(&cluster);
    printf("%u steps\n", steps);
    assert_true(steps > 0 || getenv("LS_STEP") != NULL);
}

TEST(crash, of_a_member_that_comes_back_by_snapshot_leaves_one_state_or_the_other_on_disk)
{
    die_at_each(false);
}

TEST(crash, of_a_member_that_comes_back_by_snapshot_leaves_one_state_or_the_other_in_memory)
{
    die_at_each(true);
}
