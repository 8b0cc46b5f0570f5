/* SPDX-License-Identifier: MIT */
/*
 * One of three lockstep-kv members dies at a named step while writes go on, by turns with its power
 * (what it did not sync is gone), comes back and catches up: no acknowledged write is missing
 * anywhere, and all members hold the same number of keys.
 *
 * LS_CRASHES=1 takes every step that a member comes by (steps.c), else a few; LS_STEP=<part of a
 * name> only some.
 */
#include "armed.h"
#include "steps.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WRITES 40u

static struct cluster cluster;
static unsigned next_key;

static bool wanted(const struct crash_step *step)
{
    static const char *const few[] = {"log.renamed", "append.after-write", "hard.before-write",
                                      "truncate.after-write", "layer.ingested"};
    const char *part = getenv("LS_STEP");
    if (part != NULL) {
        return strstr(step->name, part) != NULL;
    }
    bool found = getenv("LS_CRASHES") != NULL;
    for (size_t i = 0; i < sizeof few / sizeof few[0] && !found; i++) {
        found = strcmp(few[i], step->name) == 0;
    }
    return found;
}

/* What makes terms change: an election, again and again. */
static void hand_over(unsigned except)
{
    unsigned leader = cluster_leader(&cluster);
    if (leader != NOBODY) {
        unsigned other = 3 - leader - except; /* of three: the one that is neither */
        if (leader != except) {
            (void)cluster_text(&cluster, leader, "LOCKSTEP TRANSFER %s",
                               cluster.members[other].name);
        }
    }
}

static struct writer *start_writer(void)
{
    struct writer *writer = writer_start(&cluster, NOBODY, next_key);
    next_key += 1u << 20;
    return writer;
}

static void await_writes(struct writer *writer)
{
    unsigned before = writer_acknowledged(writer);
    eventually(writer_acknowledged(writer) >= before + WRITES);
}

static bool same_size(void)
{
    char first[32];
    (void)snprintf(first, sizeof first, "%.31s", cluster_text(&cluster, 0, "DBSIZE"));
    for (unsigned at = 1; at < cluster.count; at++) {
        if (strcmp(cluster_text(&cluster, at, "DBSIZE"), first) != 0) {
            return false;
        }
    }
    return true;
}

/* All members run; the writer has been at it since before the death. */
static void check(struct writer *writer)
{
    await_writes(writer);
    writer_stop(writer);
    (void)cluster_await_leader(&cluster);
    eventually(cluster_level(&cluster));
    for (unsigned at = 0; at < cluster.count; at++) {
        assert_int_equal(writer_missing(writer, &cluster, at), 0);
    }
    assert_true(same_size());
    writer_free(writer);
}

/* A founder dies while it makes its directories. */
static void die_new(const struct crash_step *step, bool cut)
{
    armed_prepare(&cluster);
    cluster_spawn(&cluster, 0);
    cluster_spawn(&cluster, 1);
    if (step->after != NULL) {
        armed_spawn(&cluster, 2, step->after);
        eventually(armed_dead(&cluster, 2, step->after));
    }
    armed_spawn(&cluster, 2, step->name);
    eventually(armed_dead(&cluster, 2, step->name));
    if (cut) {
        armed_cut_power(&cluster, 2);
    }
    cluster_spawn(&cluster, 2);
    (void)cluster_await_leader(&cluster);
    check(start_writer());
    cluster_close(&cluster);
}

static void each_other(unsigned leader, void (*act)(struct cluster *cluster, unsigned at))
{
    for (unsigned at = 0; at < cluster.count; at++) {
        if (at != leader) {
            act(&cluster, at);
        }
    }
}

/* The leader ends with writes on its disk that nobody else has: they will have to be cut off. The
 * others are ended first: of who is only paused the system would take what is on its way. */
static void leave_alone(unsigned leader)
{
    int sent = 0;
    redisContext *connection = cluster_connect(&cluster, leader);
    assert_non_null(connection);
    uint64_t before = cluster_number(&cluster, leader, "log_entries_written");
    each_other(leader, cluster_kill);
    for (unsigned i = 0; i < WRITES; i++) {
        assert_int_equal(redisAppendCommand(connection, "SET alone:%u 1", i), REDIS_OK);
    }
    while (sent == 0) {
        assert_int_equal(redisBufferWrite(connection, &sent), REDIS_OK);
    }
    eventually(cluster_number(&cluster, leader, "log_entries_written") > before);
    cluster_kill(&cluster, leader);
    redisFree(connection);
    each_other(leader, cluster_spawn);
}

static void die_running(const struct crash_step *step, bool leads, bool cut)
{
    unsigned at = leads || (step->where & STEP_CUT) ? cluster_await_leader(&cluster)
                                                    : cluster_follower(&cluster);
    if (step->where & STEP_CUT) {
        leave_alone(at);
    } else {
        cluster_kill(&cluster, at);
    }
    unsigned other = cluster_await_leader(&cluster);
    /* a state that was emptied is written at once, else it takes megabytes */
    assert_string_equal(cluster_text(&cluster, other, "FLUSHALL"), "OK");
    struct writer *writer = start_writer();
    await_writes(writer);

    armed_spawn(&cluster, at, step->name);
    bool hard =
        strncmp(step->name, "hard.", 5) == 0 || strcmp(step->name, "guard.after-write") == 0;
    uint64_t until = cluster_now_ms() + CLUSTER_DEADLINE_MS;
    uint64_t next = cluster_now_ms() + 400;
    while (!armed_dead(&cluster, at, step->name)) {
        if (cluster_now_ms() > until) {
            fail_msg("%s was never reached", step->name);
        }
        if (hard && cluster_now_ms() > next) {
            hand_over(at);
            next = cluster_now_ms() + 400;
        }
        cluster_nap();
    }
    if (cut) {
        armed_cut_power(&cluster, at);
    }
    await_writes(writer);
    cluster_spawn(&cluster, at);
    check(writer);
}

TEST(crash, of_a_member_at_a_step_loses_no_acknowledged_write)
{
    unsigned steps = 0;
    for (size_t i = 0; i < crash_steps_count; i++) {
        if (wanted(&crash_steps[i]) &&
            (crash_steps[i].where & (STEP_NEW | STEP_RARE)) == STEP_NEW) {
            die_new(&crash_steps[i], i % 4 < 2);
            steps++;
        }
    }
    armed_prepare(&cluster);
    for (unsigned at = 0; at < cluster.count; at++) {
        cluster_spawn(&cluster, at);
    }
    for (size_t i = 0; i < crash_steps_count; i++) {
        if (wanted(&crash_steps[i]) && !(crash_steps[i].where & (STEP_NEW | STEP_RARE))) {
            uint64_t begun = cluster_now_ms();
            bool cut = i % 4 < 2;
            die_running(&crash_steps[i], i % 2 == 0, cut);
            printf("%s%s: %u ms\n", crash_steps[i].name, cut ? ", power cut" : "",
                   (unsigned)(cluster_now_ms() - begun));
            steps++;
        }
    }
    cluster_close(&cluster);
    printf("%u steps\n", steps);
    assert_true(steps > 0);
}
