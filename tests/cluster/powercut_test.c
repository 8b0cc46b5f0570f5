/* SPDX-License-Identifier: MIT */
/*
 * The power goes for all members at once, in the middle of writes: each data directory falls back
 * to what was synced (tests/fault/powercut.c). What was acknowledged before must be there after.
 */
#define _XOPEN_SOURCE 700
#include "cluster.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define KEYS_PER_CUT 100000u

static struct cluster cluster;
static char environment[CLUSTER_MEMBERS_MAX][4][512];
static char shadows[CLUSTER_MEMBERS_MAX][160];
static uint64_t tree_bytes;

/* LS_CUTS=100 for the whole figure */
static unsigned cuts_wanted(void)
{
    const char *given = getenv("LS_CUTS");
    return given != NULL ? (unsigned)strtoul(given, NULL, 10) : 10u;
}

static uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int add_bytes(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)path;
    (void)walk;
    if (type == FTW_F) {
        tree_bytes += (uint64_t)info->st_size;
    }
    return 0;
}

static uint64_t bytes_of(const char *tree)
{
    tree_bytes = 0;
    assert_int_equal(nftw(tree, add_bytes, 16, FTW_PHYS), 0);
    return tree_bytes;
}

static void prepare_shadows(void)
{
    for (unsigned at = 0; at < cluster.count; at++) {
        struct member *member = &cluster.members[at];
        assert_int_equal(mkdir(member->data, 0700), 0);
        (void)snprintf(shadows[at], sizeof shadows[at], "%s.shadow", member->data);
        (void)snprintf(environment[at][0], sizeof environment[at][0], "LD_PRELOAD=%s", LS_POWERCUT);
        (void)snprintf(environment[at][1], sizeof environment[at][1], "LS_POWERCUT_DIRECTORY=%s",
                       member->data);
        (void)snprintf(environment[at][2], sizeof environment[at][2], "LS_POWERCUT_SHADOW=%.160s",
                       shadows[at]);
        (void)snprintf(environment[at][3], sizeof environment[at][3],
                       "ASAN_OPTIONS=verify_asan_link_order=0");
        for (unsigned i = 0; i < 4; i++) {
            member->environment[i] = environment[at][i];
        }
    }
}

/* Puts every directory back to what was synced; returns how many bytes that took away. */
static uint64_t cut_power(uint64_t torn_seed)
{
    uint64_t dropped = 0;
    char seed[24];
    (void)snprintf(seed, sizeof seed, "%" PRIu64, torn_seed);
    cluster_kill_all(&cluster);
    for (unsigned at = 0; at < cluster.count; at++) {
        const char *data = cluster.members[at].data;
        uint64_t before = bytes_of(data);
        cluster_run((const char *const[]){LS_POWERCUT_RESTORE, shadows[at], data, seed, NULL});
        uint64_t after = bytes_of(data);
        dropped += before > after ? before - after : 0;
    }
    return dropped;
}

TEST(powercut, of_all_members_loses_no_acknowledged_write)
{
    uint64_t random = test_seed();
    unsigned cuts = cuts_wanted();
    unsigned felt = 0; /* cuts that took something away */
    unsigned acknowledged = 0;
    cluster_prepare(&cluster, 3);
    prepare_shadows();

    for (unsigned cut = 0; cut < cuts; cut++) {
        for (unsigned at = 0; at < cluster.count; at++) {
            cluster_spawn(&cluster, at);
        }
        (void)cluster_await_leader(&cluster);
        struct writer *writer = writer_start(&cluster, NOBODY, cut * KEYS_PER_CUT);
        unsigned wanted = 50u + (unsigned)(next_random(&random) % 500u);
        eventually(writer_acknowledged(writer) >= wanted);
        felt += cut_power(cut % 2 == 0 ? 0 : next_random(&random) | 1u) > 0 ? 1u : 0u;
        writer_stop(writer);

        for (unsigned at = 0; at < cluster.count; at++) {
            cluster_spawn(&cluster, at);
        }
        (void)cluster_await_leader(&cluster);
        acknowledged += writer_acknowledged(writer);
        for (unsigned at = 0; at < cluster.count; at++) {
            assert_int_equal(writer_missing(writer, &cluster, at), 0);
        }
        writer_free(writer);
        /* the next round begins with another cut, of a group that has just come back */
        (void)cut_power(0);
    }

    printf("%u cuts, %u of them took something away, %u writes acknowledged\n", cuts, felt,
           acknowledged);
    assert_true(felt > 0);
    cluster_close(&cluster);
}
