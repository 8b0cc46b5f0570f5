/* SPDX-License-Identifier: MIT */
/*
 * What clients see of real members, while leaders die, freeze and come back, is linearizable. Every
 * client has a thread, a connection and a record of its own, by one monotonic clock.
 */
#include "cluster.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "checker.h"

#define CLIENTS       6u
#define KEYS          4u
#define PHASE_ANSWERS 400u /* between one fault and the next */
#define IMPATIENCE_MS 400  /* longer than an election mostly takes */
#define VISIT_OPS     50u  /* at one member, about */

struct client {
    const struct cluster *cluster;
    pthread_t thread;
    uint32_t number;
    uint64_t random;
    uint64_t written; /* values given out */
    bool impatient;
    unsigned at;
    redisContext *connection;
    struct linear_history history;
    uint64_t held[KEYS]; /* what it last heard of, for CAS */
    char surprise[128];  /* an answer that no member should give */
};

static struct cluster cluster;
static struct client clients[CLIENTS];
static atomic_bool stop;
static atomic_uint answered;

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t below(struct client *client, uint64_t bound)
{
    client->random ^= client->random << 13;
    client->random ^= client->random >> 7;
    client->random ^= client->random << 17;
    return client->random % bound;
}

/* Values tell who wrote them: the number of the client, then how many it had written. */
static uint64_t value_new(struct client *client)
{
    return (uint64_t)(client->number + 1) << 32 | ++client->written;
}

static const char *value_name(uint64_t value)
{
    static char text[48];
    (void)snprintf(text, sizeof text, "%" PRIu64 " of client %" PRIu64, value & UINT32_MAX,
                   (value >> 32) - 1);
    return text;
}

static redisReply *send_op(redisContext *connection, const struct linear_op *op)
{
    switch (op->kind) {
    case LINEAR_READ:
        return redisCommand(connection, "GET key:%d", (int)op->key);
    case LINEAR_WRITE:
        return redisCommand(connection, "SET key:%d %" PRIu64, (int)op->key, op->value);
    case LINEAR_CAS:
        return redisCommand(connection, "CAS key:%d %" PRIu64 " %" PRIu64, (int)op->key,
                            op->expected, op->value);
    case LINEAR_DELETE:
        return redisCommand(connection, "DEL key:%d", (int)op->key);
    }
    return NULL;
}

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* What the answer says; false if it is one that cannot be. */
static bool outcome_of(const struct linear_op *op, const redisReply *reply,
                       enum linear_outcome *outcome, uint64_t *saw)
{
    *saw = LINEAR_ABSENT;
    *outcome = LINEAR_OK;
    if (reply == NULL) {
        *outcome = LINEAR_UNKNOWN; /* the connection is lost, or nobody answers */
        return true;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        *outcome = begins(reply->str, "TRYAGAIN ") ? LINEAR_NEVER : LINEAR_UNKNOWN;
        return begins(reply->str, "TRYAGAIN ") || begins(reply->str, "UNKNOWN ");
    }
    switch (op->kind) {
    case LINEAR_READ:
        if (reply->type == REDIS_REPLY_STRING) {
            *saw = strtoull(reply->str, NULL, 10);
            return *saw != LINEAR_ABSENT;
        }
        return reply->type == REDIS_REPLY_NIL;
    case LINEAR_WRITE:
        return reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "OK") == 0;
    case LINEAR_CAS:
    case LINEAR_DELETE:
        *outcome =
            reply->type == REDIS_REPLY_INTEGER && reply->integer == 1 ? LINEAR_OK : LINEAR_NO;
        return reply->type == REDIS_REPLY_INTEGER && reply->integer >= 0 && reply->integer <= 1;
    }
    return false;
}

/* Does one operation and records it. False: the connection is of no more use. */
static bool operate(struct client *client, struct linear_op op)
{
    enum linear_outcome outcome = LINEAR_UNKNOWN;
    uint64_t saw = LINEAR_ABSENT;
    op.client = client->number;
    op.invoked = now_ns();
    size_t number = linear_begin(&client->history, &op);
    redisReply *reply = send_op(client->connection, &op);
    uint64_t returned = now_ns();
    if (!outcome_of(&op, reply, &outcome, &saw)) {
        (void)snprintf(client->surprise, sizeof client->surprise, "kind %d was answered %s",
                       (int)op.kind, reply->str == NULL ? "strangely" : reply->str);
    } else if (outcome != LINEAR_UNKNOWN) {
        linear_end(&client->history, number, outcome, saw, returned);
    }
    if (outcome == LINEAR_OK || outcome == LINEAR_NO) {
        (void)atomic_fetch_add(&answered, 1);
    }
    if (outcome == LINEAR_OK) {
        client->held[op.key] = op.kind == LINEAR_READ ? saw : op.value;
    }
    bool alive = reply != NULL;
    freeReplyObject(reply);
    return alive;
}

static struct linear_op choose(struct client *client)
{
    struct linear_op op = {.key = below(client, KEYS)};
    uint64_t dice = below(client, 100);
    op.kind = dice < 45   ? LINEAR_READ
              : dice < 70 ? LINEAR_WRITE
              : dice < 95 ? LINEAR_CAS
                          : LINEAR_DELETE;
    if (op.kind == LINEAR_CAS && client->held[op.key] == LINEAR_ABSENT) {
        op.kind = LINEAR_READ; /* there is nothing to compare with yet */
    }
    if (op.kind == LINEAR_WRITE || op.kind == LINEAR_CAS) {
        op.value = value_new(client);
        op.expected = client->held[op.key];
    }
    return op;
}

static void leave(struct client *client)
{
    if (client->connection != NULL) {
        redisFree(client->connection);
        client->connection = NULL;
    }
    client->at = (client->at + 1) % client->cluster->count;
}

/*
 * Half of the clients wait for what a frozen member says when it wakes up; the others soon go to
 * another member, leaving behind what may still happen, and wander even if all is well.
 */
static redisContext *visit(const struct client *client)
{
    struct timeval limit = {.tv_usec = IMPATIENCE_MS * 1000};
    redisContext *connection = cluster_connect(client->cluster, client->at);
    if (connection != NULL && client->impatient && redisSetTimeout(connection, limit) != REDIS_OK) {
        redisFree(connection);
        return NULL;
    }
    return connection;
}

static void *work(void *arg)
{
    struct client *client = arg;
    while (!atomic_load(&stop) && client->surprise[0] == '\0') {
        if (client->connection == NULL) {
            client->connection = visit(client);
        }
        if (client->connection == NULL || !operate(client, choose(client))) {
            leave(client);
            cluster_nap();
        } else if (client->impatient && below(client, VISIT_OPS) == 0) {
            leave(client);
        }
    }
    return NULL;
}

static void clients_start(uint64_t seed)
{
    atomic_store(&stop, false);
    atomic_store(&answered, 0);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.cluster = &cluster,
                                     .number = i,
                                     .impatient = i % 2 == 1,
                                     .random = (seed + i) * 0x9e3779b97f4a7c15u | 1u,
                                     .at = i % cluster.count};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, work, &clients[i]), 0);
    }
}

static void clients_stop(void)
{
    atomic_store(&stop, true);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
        if (clients[i].connection != NULL) {
            redisFree(clients[i].connection);
            clients[i].connection = NULL;
        }
    }
}

static void some_answers(void)
{
    unsigned before = atomic_load(&answered);
    eventually(atomic_load(&answered) >= before + PHASE_ANSWERS);
}

static bool others_lead(unsigned stopped)
{
    for (unsigned at = 0; at < cluster.count; at++) {
        if (at != stopped && strcmp(cluster_info(&cluster, at, "role"), "leader") == 0) {
            return true;
        }
    }
    return false;
}

static void leader_dies(void)
{
    unsigned leader = cluster_await_leader(&cluster);
    cluster_kill(&cluster, leader);
    some_answers();
    cluster_start(&cluster, leader);
    some_answers();
}

static void leader_freezes(void)
{
    unsigned leader = cluster_await_leader(&cluster);
    cluster_pause(&cluster, leader);
    eventually(others_lead(leader));
    some_answers();
    cluster_resume(&cluster, leader);
    some_answers();
}

static void all_die(void)
{
    cluster_kill_all(&cluster);
    for (unsigned at = 0; at < cluster.count; at++) {
        cluster_spawn(&cluster, at);
    }
    some_answers();
}

/* All that the clients recorded, in one. */
static struct linear_history gather(void)
{
    struct linear_history all = {0};
    for (uint32_t i = 0; i < CLIENTS; i++) {
        if (clients[i].surprise[0] != '\0') {
            fail_msg("client %u: %s", (unsigned)i, clients[i].surprise);
        }
        for (size_t at = 0; at < clients[i].history.count; at++) {
            const struct linear_op *op = &clients[i].history.ops[at];
            size_t number = linear_begin(&all, op);
            if (op->outcome != LINEAR_UNKNOWN) {
                linear_end(&all, number, op->outcome, op->value, op->returned);
            }
        }
        linear_history_free(&clients[i].history);
    }
    return all;
}

static unsigned count_outcome(const struct linear_history *history, enum linear_outcome outcome)
{
    unsigned count = 0;
    for (size_t i = 0; i < history->count; i++) {
        count += history->ops[i].outcome == outcome ? 1 : 0;
    }
    return count;
}

static unsigned won(const struct linear_history *history, enum linear_kind kind)
{
    unsigned count = 0;
    for (size_t i = 0; i < history->count; i++) {
        const struct linear_op *op = &history->ops[i];
        count += op->kind == kind && op->outcome == LINEAR_OK ? 1 : 0;
    }
    return count;
}

static unsigned rounds_wanted(void)
{
    const char *given = getenv("LS_LINEAR_ROUNDS");
    return given != NULL ? (unsigned)strtoul(given, NULL, 10) : 1u;
}

TEST(linear, clients_see_one_map_while_leaders_die_freeze_and_return)
{
    unsigned rounds = rounds_wanted();
    struct linear_result result;
    uint64_t seed = test_seed();
    cluster_open(&cluster, 3);
    clients_start(seed);
    some_answers();
    for (unsigned round = 0; round < rounds; round++) {
        leader_dies();
        leader_freezes();
        all_die();
    }
    clients_stop();
    /* what survived is what was acknowledged: everyone reads every key at the end */
    for (uint32_t i = 0; i < CLIENTS; i++) {
        for (uint64_t key = 0; key < KEYS; key++) {
            clients[i].connection = cluster_connect(&cluster, i % cluster.count);
            assert_non_null(clients[i].connection);
            assert_true(operate(&clients[i], (struct linear_op){.kind = LINEAR_READ, .key = key}));
            redisFree(clients[i].connection);
            clients[i].connection = NULL;
        }
    }
    struct linear_history all = gather();

    enum linear_verdict verdict = linear_check(all.ops, all.count, &result);
    print_message("%u without an answer, %u certainly not done\n",
                  count_outcome(&all, LINEAR_UNKNOWN), count_outcome(&all, LINEAR_NEVER));
    linear_print(verdict == LINEAR_LEGAL ? stdout : stderr, &result, all.ops, all.count,
                 value_name);
    assert_int_equal(verdict, LINEAR_LEGAL);
    assert_int_equal(result.keys, KEYS);
    assert_true(count_outcome(&all, LINEAR_UNKNOWN) > 0);
    assert_true(won(&all, LINEAR_READ) > 100 && won(&all, LINEAR_WRITE) > 100);
    assert_true(won(&all, LINEAR_CAS) > 0 && won(&all, LINEAR_DELETE) > 0);
    linear_result_free(&result);
    linear_history_free(&all);
    cluster_close(&cluster);
}

/* Shows that such a history can be refused: a follower that is asked for no more than it has. */
TEST(linear, reads_that_may_be_stale_are_found_out)
{
    struct linear_result result;
    bool stale = false;
    cluster_open(&cluster, 3);
    unsigned leader = cluster_await_leader(&cluster);
    struct client writer = {.number = 0, .connection = cluster_connect(&cluster, leader)};
    struct client reader = {.number = 1,
                            .connection = cluster_connect(&cluster, cluster_follower(&cluster))};
    assert_true(writer.connection != NULL && reader.connection != NULL);
    freeReplyObject(redisCommand(reader.connection, "READONLY"));

    for (unsigned i = 0; i < 2000 && !stale; i++) {
        struct linear_op write = {.kind = LINEAR_WRITE, .value = value_new(&writer)};
        assert_true(operate(&writer, write));
        assert_true(operate(&reader, (struct linear_op){.kind = LINEAR_READ}));
        stale = writer.held[0] == write.value && reader.held[0] != write.value;
    }
    assert_true(stale);
    redisFree(writer.connection);
    redisFree(reader.connection);
    clients[0] = writer;
    clients[1] = reader;
    for (uint32_t i = 2; i < CLIENTS; i++) {
        clients[i] = (struct client){0};
    }
    struct linear_history all = gather();

    assert_int_equal(linear_check(all.ops, all.count, &result), LINEAR_ILLEGAL);
    linear_print(stdout, &result, all.ops, all.count, value_name);
    assert_in_range(result.window_count, 1, 3);
    linear_result_free(&result);
    linear_history_free(&all);
    cluster_close(&cluster);
}
