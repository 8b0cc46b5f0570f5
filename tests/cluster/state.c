/* SPDX-License-Identifier: MIT */
/* States as a whole: filling one, and comparing what members hold. See cluster.h. */
#include "cluster.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#define PIPELINE 256u

void cluster_fill(struct cluster *cluster, unsigned at, unsigned first, unsigned count,
                  const struct cluster_values *values)
{
    redisContext *connection = cluster_connect(cluster, at);
    char *value = malloc(values->bytes + 1u);
    assert_non_null(connection);
    assert_non_null(value);
    for (unsigned done = 0; done < count;) {
        unsigned some = count - done < PIPELINE ? count - done : PIPELINE;
        for (unsigned i = 0; i < some; i++) {
            unsigned key = first + done + i;
            for (unsigned k = 0; k < values->bytes; k++) {
                value[k] =
                    (char)('a' + (key * 31u + values->round * 7u + k * (k / 64u + 1u)) % 26u);
            }
            assert_int_equal(
                redisAppendCommand(connection, "SET fill:%u %b", key, value, (size_t)values->bytes),
                REDIS_OK);
        }
        for (unsigned i = 0; i < some; i++) {
            redisReply *reply = NULL;
            assert_int_equal(redisGetReply(connection, (void **)&reply), REDIS_OK);
            if (reply->type != REDIS_REPLY_STATUS) {
                fail_msg("SET: %s", reply->str == NULL ? "another type" : reply->str);
            }
            freeReplyObject(reply);
        }
        done += some;
    }
    free(value);
    redisFree(connection);
}

static void add(crypto_hash_sha256_state *sum, const char *bytes, size_t count)
{
    (void)crypto_hash_sha256_update(sum, (const unsigned char *)&count, sizeof count);
    (void)crypto_hash_sha256_update(sum, (const unsigned char *)bytes, count);
}

/* Adds each key with its value; false: one did not come. */
static bool add_keys(struct cluster *cluster, unsigned at, const redisReply *keys,
                     crypto_hash_sha256_state *sum)
{
    redisContext *connection = cluster->members[at].connection;
    for (size_t i = 0; i < keys->elements; i++) {
        if (redisAppendCommand(connection, "GET %b", keys->element[i]->str,
                               keys->element[i]->len) != REDIS_OK) {
            return false;
        }
    }
    bool whole = true;
    for (size_t i = 0; i < keys->elements; i++) {
        redisReply *reply = NULL;
        if (redisGetReply(connection, (void **)&reply) != REDIS_OK) {
            return false;
        }
        whole = whole && reply->type == REDIS_REPLY_STRING;
        if (whole) {
            add(sum, keys->element[i]->str, keys->element[i]->len);
            add(sum, reply->str, reply->len);
        }
        freeReplyObject(reply);
    }
    return whole;
}

const char *cluster_digest(struct cluster *cluster, unsigned at)
{
    static char hexadecimal[2 * crypto_hash_sha256_BYTES + 1];
    unsigned char hash[crypto_hash_sha256_BYTES];
    char cursor[32] = "0";
    crypto_hash_sha256_state sum;
    bool whole = true;
    (void)crypto_hash_sha256_init(&sum);
    do {
        redisReply *reply = cluster_ask(cluster, at, "SCAN %s COUNT 500", cursor);
        whole = reply != NULL && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2;
        if (whole) {
            (void)snprintf(cursor, sizeof cursor, "%s", reply->element[0]->str);
            whole = add_keys(cluster, at, reply->element[1], &sum);
        }
        if (reply != NULL) {
            freeReplyObject(reply);
        }
    } while (whole && strcmp(cursor, "0") != 0);
    (void)crypto_hash_sha256_final(&sum, hash);
    hexadecimal[0] = '\0';
    if (whole) {
        (void)sodium_bin2hex(hexadecimal, sizeof hexadecimal, hash, sizeof hash);
    }
    return hexadecimal;
}

void cluster_assert_same(struct cluster *cluster)
{
    char first[2 * crypto_hash_sha256_BYTES + 1];
    (void)snprintf(first, sizeof first, "%s", cluster_digest(cluster, 0));
    assert_int_equal(strlen(first), sizeof first - 1);
    for (unsigned at = 1; at < cluster->count; at++) {
        assert_string_equal(cluster_digest(cluster, at), first);
    }
}

void cluster_prune_early(struct cluster *cluster)
{
    static const char *const flags[] = {"--keep-entries",  "100", "--prune-entries",    "50",
                                        "--lag-entries",   "300", "--snapshot-entries", "200",
                                        "--sync-lease-ms", "500"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        cluster->flags[i] = flags[i];
    }
}

static bool pruned_past(struct cluster *cluster, uint64_t last)
{
    for (unsigned at = 0; at < cluster->count; at++) {
        if (cluster->members[at].pid != 0 && cluster_number(cluster, at, "log_first") <= last + 1) {
            return false;
        }
    }
    return true;
}

void cluster_write_past(struct cluster *cluster, uint64_t last)
{
    static unsigned round;
    unsigned leader = cluster_await_leader(cluster);
    uint64_t until = cluster_now_ms() + 2 * CLUSTER_DEADLINE_MS;
    while (!pruned_past(cluster, last)) {
        cluster_fill(cluster, leader, 0, 1000, &(struct cluster_values){4000, ++round});
        if (cluster_now_ms() > until) {
            fail_msg("the log was not pruned: %s",
                     cluster_text(cluster, leader, "LOCKSTEP STATUS"));
        }
    }
}
