/* SPDX-License-Identifier: MIT */
/* Several groups in one node: one transport, one store and one thread, but logs and leaders apart.
 */
#include "cluster.h"

#include <lockstep/lockstep.h>
#include <pthread.h>
#include <stdio.h>

#define NODES       3u
#define GROUPS      2u
#define DEADLINE_MS 30000u

static const char *const node_names[NODES] = {"a", "b", "c"};
static const char *const group_names[GROUPS] = {"left", "right"};

/* A machine that counts its commands; the reply is the count after it. */
struct tally {
    uint64_t count;
};

struct host {
    struct ls_identity *identity;
    struct ls_node *node;
    struct ls_group *groups[GROUPS];
    struct tally tallies[GROUPS];
    const char *directory;
};

struct world {
    uint8_t key[LS_KEY_BYTES];
    char addresses[NODES][32];
    struct host hosts[NODES];
};

static struct world world;

static struct ls_span tally_signature(void *self)
{
    (void)self;
    return (struct ls_span){"tally/1", 7};
}

static enum ls_status tally_apply(void *self, const struct ls_command *command,
                                  struct ls_replies *replies)
{
    struct tally *tally = self;
    (void)command;
    tally->count++;
    return ls_reply_set(replies, 0, &tally->count, sizeof tally->count);
}

static enum ls_status tally_query(void *self, struct ls_span query, struct ls_replies *reply)
{
    const struct tally *tally = self;
    (void)query;
    return ls_reply_set(reply, 0, &tally->count, sizeof tally->count);
}

/* One call made on the loop's thread and waited for on ours. */
struct call {
    struct ls_group *group;
    enum { CALL_EXECUTE, CALL_QUERY, CALL_TRANSFER } kind;
    const char *to;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
    enum ls_status status;
    uint64_t count;
};

static void call_end(void *arg, const struct ls_outcome *outcome)
{
    struct call *call = arg;
    (void)pthread_mutex_lock(&call->lock);
    call->done = true;
    call->status = outcome->status;
    if (outcome->status == LS_OK && outcome->count == 1 &&
        outcome->replies[0].bytes == sizeof call->count) {
        memcpy(&call->count, outcome->replies[0].data, sizeof call->count);
    }
    (void)pthread_cond_signal(&call->ended);
    (void)pthread_mutex_unlock(&call->lock);
}

static void call_begin(void *arg)
{
    struct call *call = arg;
    struct ls_span nothing = {"x", 1};
    enum ls_status status = LS_ERR_INVALID;
    switch (call->kind) {
    case CALL_EXECUTE:
        status = ls_group_execute(call->group, nothing, NULL, call_end, call);
        break;
    case CALL_QUERY:
        status = ls_group_query(call->group, LS_STRONG, nothing, NULL, call_end, call);
        break;
    case CALL_TRANSFER:
        status = ls_group_transfer(call->group, call->to, NULL, call_end, call);
        break;
    }
    if (status != LS_OK) {
        struct ls_outcome outcome = {.status = status};
        call_end(call, &outcome);
    }
}

static enum ls_status call_wait(struct host *host, struct call *call)
{
    assert_int_equal(pthread_mutex_init(&call->lock, NULL), 0);
    assert_int_equal(pthread_cond_init(&call->ended, NULL), 0);
    assert_ok(ls_node_call(host->node, call_begin, call));
    (void)pthread_mutex_lock(&call->lock);
    while (!call->done) {
        (void)pthread_cond_wait(&call->ended, &call->lock);
    }
    (void)pthread_mutex_unlock(&call->lock);
    (void)pthread_cond_destroy(&call->ended);
    (void)pthread_mutex_destroy(&call->lock);
    return call->status;
}

static uint64_t execute(unsigned host, unsigned group)
{
    struct call call = {.group = world.hosts[host].groups[group], .kind = CALL_EXECUTE};
    assert_ok(call_wait(&world.hosts[host], &call));
    return call.count;
}

static uint64_t query(unsigned host, unsigned group)
{
    struct call call = {.group = world.hosts[host].groups[group], .kind = CALL_QUERY};
    assert_ok(call_wait(&world.hosts[host], &call));
    return call.count;
}

static void await(unsigned host, unsigned group, enum ls_condition_kind kind)
{
    struct ls_condition condition = {.kind = kind};
    assert_ok(ls_group_wait(world.hosts[host].groups[group], &condition, DEADLINE_MS));
}

static void join_groups(void *arg)
{
    struct host *host = arg;
    struct ls_founder founders[NODES];
    struct ls_error error = {LS_OK, ""};
    for (unsigned at = 0; at < NODES; at++) {
        founders[at] = (struct ls_founder){.name = node_names[at], .address = world.addresses[at]};
    }
    for (unsigned group = 0; group < GROUPS; group++) {
        struct ls_group_options options;
        ls_group_options_init(&options);
        options.name = group_names[group];
        options.member = node_names[host - world.hosts];
        options.machine = (struct ls_machine){.size = sizeof options.machine,
                                              .self = &host->tallies[group],
                                              .signature = tally_signature,
                                              .apply = tally_apply,
                                              .query = tally_query};
        options.founders = founders;
        options.founders_count = NODES;
        options.election_ms = 300;
        options.heartbeat_ms = 60;
        if (ls_group_join(host->node, &options, &host->groups[group], &error) != LS_OK) {
            (void)fprintf(stderr, "join %s: %s\n", group_names[group], error.text);
        }
    }
}

static void host_open(unsigned at)
{
    struct host *host = &world.hosts[at];
    struct ls_error error = {LS_OK, ""};
    struct ls_storage_rocksdb_options storage = {.size = sizeof storage,
                                                 .directory = host->directory};
    struct ls_transport_tcp_options transport = {.size = sizeof transport};
    struct ls_node_options options;

    memset(host->tallies, 0, sizeof host->tallies);
    assert_ok(ls_identity_founder(world.key, node_names[at], &host->identity, &error));
    transport.identity = host->identity;
    ls_node_options_init(&options);
    options.identity = host->identity;
    options.listen = world.addresses[at];
    assert_ok(ls_storage_rocksdb_open(&storage, &options.storage, &error));
    assert_ok(ls_transport_tcp_open(&transport, &options.transport, &error));
    assert_ok(ls_node_open(&options, &host->node, &error));
    assert_ok(ls_node_call(host->node, join_groups, host));
    for (unsigned group = 0; group < GROUPS; group++) {
        assert_non_null(host->groups[group]);
    }
}

static void host_close(unsigned at)
{
    struct host *host = &world.hosts[at];
    ls_node_close(host->node, NULL, NULL);
    ls_identity_close(host->identity);
    host->node = NULL;
    host->identity = NULL;
    memset(host->groups, 0, sizeof host->groups);
}

static void world_open(void)
{
    memset(&world, 0, sizeof world);
    for (size_t i = 0; i < sizeof world.key; i++) {
        world.key[i] = (uint8_t)(i * 7 + 1);
    }
    for (unsigned at = 0; at < NODES; at++) {
        cluster_address((uint16_t)(7101u + at), world.addresses[at], sizeof world.addresses[at]);
        world.hosts[at].directory = test_directory();
    }
    for (unsigned at = 0; at < NODES; at++) {
        host_open(at);
    }
    for (unsigned at = 0; at < NODES; at++) {
        for (unsigned group = 0; group < GROUPS; group++) {
            await(at, group, LS_WHEN_ONLINE);
        }
    }
}

static void world_close(void)
{
    for (unsigned at = 0; at < NODES; at++) {
        host_close(at);
    }
}

/* Gives `group` to `to`, who leads it when this returns. */
static void lead(unsigned to, unsigned group)
{
    struct call call = {
        .group = world.hosts[to].groups[group], .kind = CALL_TRANSFER, .to = node_names[to]};
    enum ls_status status = call_wait(&world.hosts[to], &call);
    assert_true(status == LS_OK || status == LS_ERR_BUSY || status == LS_ERR_NOT_FOUND);
    await(to, group, LS_WHEN_SERVING);
}

TEST(groups, in_one_node_keep_their_commands_apart)
{
    world_open();

    for (uint64_t i = 1; i <= 40; i++) {
        assert_int_equal(execute((unsigned)(i % NODES), 0), i);
        if (i <= 15) {
            assert_int_equal(execute((unsigned)((i + 1) % NODES), 1), i);
        }
    }

    for (unsigned at = 0; at < NODES; at++) {
        assert_int_equal(query(at, 0), 40);
        assert_int_equal(query(at, 1), 15);
    }
    world_close();
}

TEST(groups, in_one_node_have_leaders_of_their_own_and_outlive_one)
{
    world_open();
    lead(0, 0);
    lead(1, 1);
    assert_int_equal(execute(2, 0), 1);
    assert_int_equal(execute(2, 1), 1);

    host_close(0); /* led the first group, followed in the second */
    assert_int_equal(execute(2, 0), 2);
    assert_int_equal(execute(2, 1), 2);
    host_open(0);

    assert_int_equal(query(0, 0), 2);
    assert_int_equal(query(0, 1), 2);
    world_close();
}

TEST(groups, in_one_node_come_back_with_their_own_logs)
{
    world_open();
    for (uint64_t i = 1; i <= 10; i++) {
        assert_int_equal(execute(0, 0), i);
    }
    assert_int_equal(execute(0, 1), 1);

    world_close();
    for (unsigned at = 0; at < NODES; at++) {
        host_open(at);
    }

    for (unsigned at = 0; at < NODES; at++) {
        assert_int_equal(query(at, 0), 10);
        assert_int_equal(query(at, 1), 1);
    }
    world_close();
}
