/* SPDX-License-Identifier: MIT */
/*
 * The power goes for all members at once, in the middle of writes: each disk falls back
 * to what was synced (tests/fault/powercut.c). What was acknowledged before must be there after,
 * with the state in memory and on the disk.
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
static char environment[CLUSTER_MEMBERS_MAX][4][256];
static char disks[CLUSTER_MEMBERS_MAX][80], shadows[CLUSTER_MEMBERS_MAX][80];
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

/* The disk is there; the data directory on it is for the member to make. */
static void prepare_disks(void)
{
    for (unsigned at = 0; at < cluster.count; at++) {
        struct member *member = &cluster.members[at];
        char(*lines)[256] = environment[at];
        (void)snprintf(disks[at], sizeof disks[at], "%.60s/disk-%s", cluster.directory,
                       member->name);
        (void)snprintf(shadows[at], sizeof shadows[at], "%.60s/shadow-%s", cluster.directory,
                       member->name);
        (void)snprintf(member->data, sizeof member->data, "%.79s/data", disks[at]);
        assert_int_equal(mkdir(disks[at], 0700), 0);
        (void)snprintf(lines[0], sizeof lines[0], "LD_PRELOAD=%s", LS_POWERCUT);
        (void)snprintf(lines[1], sizeof lines[1], "LS_POWERCUT_DIRECTORY=%.79s", disks[at]);
        (void)snprintf(lines[2], sizeof lines[2], "LS_POWERCUT_SHADOW=%.79s", shadows[at]);
        (void)snprintf(lines[3], sizeof lines[3], "ASAN_OPTIONS=verify_asan_link_order=0");
        for (unsigned i = 0; i < 4; i++) {
            member->environment[i] = lines[i];
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
        uint64_t before = bytes_of(disks[at]);
        cluster_run((const char *const[]){LS_POWERCUT_RESTORE, shadows[at], disks[at], seed, NULL});
        uint64_t after = bytes_of(disks[at]);
        dropped += before > after ? before - after : 0;
    }
    return dropped;
}

/* F12 */
TEST(powercut, of_all_members_loses_no_acknowledged_write)
{
    uint64_t random = test_seed();
    unsigned cuts = cuts_wanted();
    unsigned felt = 0; /* cuts that took something away */
    unsigned acknowledged = 0;
    cluster_prepare(&cluster, 3);
    prepare_disks();

    for (unsigned cut = 0; cut < cuts; cut++) {
        /* the state is rebuilt from the log, or lies behind it on the disk: by turns, so that it
         * also has to be brought up from a round in which it was not written */
        cluster.state = cut % 2 == 0 ? "memory" : "rocksdb";
        for (unsigned at = 0; at < cluster.count; at++) {
            cluster_spawn(&cluster, at);
        }
        (void)cluster_await_leader(&cluster);
        struct writer *writer = writer_start(&cluster, NOBODY, cut * KEYS_PER_CUT);
        unsigned wanted = 50u + (unsigned)(next_random(&random) % 500u);
        eventually(writer_acknowledged(writer) >= wanted);
        felt += cut_power(cut / 2 % 2 == 0 ? 0 : next_random(&random) | 1u) > 0 ? 1u : 0u;
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
