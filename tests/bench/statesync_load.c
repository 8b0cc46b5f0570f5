/* SPDX-License-Identifier: MIT */
/* A client that always has the same number of writes in flight. See statesync.h. */
#include "statesync.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { IN_FLIGHT = 256, VALUE_BYTES = 128, KEYS = 100000, SAMPLES_MAX = 16 << 20 };

struct load {
    redisContext *connection;
    pthread_t thread;
    atomic_bool stop;
    uint64_t sent_us[IN_FLIGHT]; /* answers come in the order of questions */
    uint32_t *samples;           /* microseconds, of all answers */
    atomic_size_t count;
    size_t from;
    uint64_t from_us;
};

static void send_one(struct load *load, uint64_t number)
{
    static const char value[VALUE_BYTES + 1] =
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    load->sent_us[number % IN_FLIGHT] = now_us();
    assert_int_equal(redisAppendCommand(load->connection, "SET load:%u %b",
                                        (unsigned)(number * 7919 % KEYS), value,
                                        (size_t)VALUE_BYTES),
                     REDIS_OK);
}

static void *run(void *arg)
{
    struct load *load = arg;
    uint64_t sent = 0;
    uint64_t got = 0;
    while (sent < IN_FLIGHT) {
        send_one(load, sent++);
    }
    while (got < sent) {
        redisReply *reply = NULL;
        assert_int_equal(redisGetReply(load->connection, (void **)&reply), REDIS_OK);
        if (reply->type != REDIS_REPLY_STATUS) {
            fail_msg("SET: %s", reply->str);
        }
        freeReplyObject(reply);
        size_t count = atomic_load(&load->count);
        if (count < SAMPLES_MAX) {
            load->samples[count] = (uint32_t)(now_us() - load->sent_us[got % IN_FLIGHT]);
            atomic_store(&load->count, count + 1);
        }
        got++;
        if (!atomic_load(&load->stop)) {
            send_one(load, sent++);
        }
    }
    return NULL;
}

struct load *load_open(const struct cluster *cluster, unsigned at)
{
    struct load *load = calloc(1, sizeof *load);
    assert_non_null(load);
    load->samples = calloc(SAMPLES_MAX, sizeof *load->samples);
    assert_non_null(load->samples);
    load->connection = cluster_connect(cluster, at);
    assert_non_null(load->connection);
    assert_int_equal(pthread_create(&load->thread, NULL, run, load), 0);
    return load;
}

void load_begin(struct load *load)
{
    load->from = atomic_load(&load->count);
    load->from_us = now_us();
}

static int compare(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

struct load_figures load_end(struct load *load)
{
    size_t count = atomic_load(&load->count) - load->from;
    uint64_t us = now_us() - load->from_us;
    assert_in_range(count, 100, SAMPLES_MAX - load->from - 1); /* or it was not all counted */
    uint32_t *span = calloc(count, sizeof *span);
    assert_non_null(span);
    (void)memcpy(span, load->samples + load->from, count * sizeof *span);
    qsort(span, count, sizeof *span, compare);
    const struct load_figures figures = {(double)count / (double)us * 1e6,
                                         (double)span[count * 99 / 100] / 1000};
    free(span);
    return figures;
}

void load_close(struct load *load)
{
    atomic_store(&load->stop, true);
    (void)pthread_join(load->thread, NULL);
    redisFree(load->connection);
    free(load->samples);
    free(load);
}
