/* SPDX-License-Identifier: MIT */
/*
 * The writer: keys in ascending order, each sent once and never again, so that what was
 * acknowledged is known exactly. An error or a lost connection means "not acknowledged" and says
 * nothing else.
 */
#include "cluster.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define WRITER_KEYS_MAX  (1u << 20)
#define WRITER_PIPELINE  16u
#define WRITER_READ_MANY 500u

struct writer {
    struct cluster cluster; /* a copy, for its addresses: the test's thread owns the original */
    unsigned through;
    unsigned first;
    unsigned sent;
    unsigned at;
    pthread_t thread;
    bool joined;
    atomic_bool stop;
    atomic_uint acknowledged;
    atomic_uint gap_ms;
    uint64_t heard_ms;
    unsigned char acked[WRITER_KEYS_MAX];
};

static void acknowledge(struct writer *writer, unsigned key)
{
    uint64_t now = cluster_now_ms();
    unsigned gap = (unsigned)(now - writer->heard_ms);
    writer->acked[key] = 1;
    writer->heard_ms = now;
    if (gap > atomic_load(&writer->gap_ms)) {
        atomic_store(&writer->gap_ms, gap);
    }
    (void)atomic_fetch_add(&writer->acknowledged, 1);
}

/* One pipeline of writes; false when the connection is lost. */
static bool write_some(struct writer *writer, redisContext *connection)
{
    unsigned from = writer->sent;
    for (unsigned i = 0; i < WRITER_PIPELINE; i++) {
        unsigned key = writer->first + from + i;
        if (redisAppendCommand(connection, "SET key:%u value:%u", key, key) != REDIS_OK) {
            return false;
        }
        writer->sent++;
    }
    for (unsigned i = 0; i < WRITER_PIPELINE; i++) {
        redisReply *reply = NULL;
        if (redisGetReply(connection, (void **)&reply) != REDIS_OK || reply == NULL) {
            return false;
        }
        if (reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "OK") == 0) {
            acknowledge(writer, from + i);
        }
        freeReplyObject(reply);
    }
    return true;
}

static void *write_all(void *arg)
{
    struct writer *writer = arg;
    redisContext *connection = NULL;
    writer->heard_ms = cluster_now_ms();
    while (!atomic_load(&writer->stop) && writer->sent + WRITER_PIPELINE <= WRITER_KEYS_MAX) {
        if (connection == NULL) {
            connection = cluster_connect(&writer->cluster, writer->at);
        }
        if (connection == NULL || !write_some(writer, connection)) {
            if (connection != NULL) {
                redisFree(connection);
                connection = NULL;
            }
            if (writer->through == NOBODY) {
                writer->at = (writer->at + 1) % writer->cluster.count;
            }
            cluster_nap();
        }
    }
    if (connection != NULL) {
        redisFree(connection);
    }
    return NULL;
}

struct writer *writer_start(const struct cluster *cluster, unsigned through, unsigned first)
{
    struct writer *writer = calloc(1, sizeof *writer);
    assert_non_null(writer);
    writer->cluster = *cluster;
    writer->through = through;
    writer->at = through == NOBODY ? 0 : through;
    writer->first = first;
    assert_int_equal(pthread_create(&writer->thread, NULL, write_all, writer), 0);
    return writer;
}

unsigned writer_acknowledged(struct writer *writer)
{
    return atomic_load(&writer->acknowledged);
}

unsigned writer_gap_ms(struct writer *writer)
{
    return atomic_load(&writer->gap_ms);
}

void writer_stop(struct writer *writer)
{
    if (!writer->joined) {
        atomic_store(&writer->stop, true);
        assert_int_equal(pthread_join(writer->thread, NULL), 0);
        writer->joined = true;
    }
}

/* Reads the keys [from, from + count) and counts those acknowledged and not there. */
static unsigned missing_among(struct writer *writer, redisContext *connection, unsigned from,
                              unsigned count)
{
    unsigned missing = 0;
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(redisAppendCommand(connection, "GET key:%u", writer->first + from + i),
                         REDIS_OK);
    }
    for (unsigned i = 0; i < count; i++) {
        char expected[32];
        redisReply *reply = NULL;
        assert_int_equal(redisGetReply(connection, (void **)&reply), REDIS_OK);
        assert_non_null(reply);
        if (reply->type == REDIS_REPLY_ERROR) {
            fail_msg("GET key:%u: %s", writer->first + from + i, reply->str);
        }
        (void)snprintf(expected, sizeof expected, "value:%u", writer->first + from + i);
        if (writer->acked[from + i] != 0 &&
            (reply->type != REDIS_REPLY_STRING || strcmp(reply->str, expected) != 0)) {
            if (missing++ < 5) {
                (void)fprintf(stderr, "missing: %s\n", expected);
            }
        }
        freeReplyObject(reply);
    }
    return missing;
}

unsigned writer_missing(struct writer *writer, struct cluster *cluster, unsigned at)
{
    unsigned missing = 0;
    assert_true(writer->joined);
    assert_true(writer_acknowledged(writer) > 0);
    redisContext *connection = cluster_connect(cluster, at);
    assert_non_null(connection);
    for (unsigned from = 0; from < writer->sent; from += WRITER_READ_MANY) {
        unsigned left = writer->sent - from;
        missing += missing_among(writer, connection, from,
                                 left < WRITER_READ_MANY ? left : WRITER_READ_MANY);
    }
    redisFree(connection);
    return missing;
}

void writer_free(struct writer *writer)
{
    writer_stop(writer);
    free(writer);
}
