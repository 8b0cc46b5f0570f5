/* SPDX-License-Identifier: MIT */
/* Nodes on threads of their own, several groups in one node, and the calls that other threads may
 * make. */
#include "trio.h"

#include "runtime.h"

#include <pthread.h>
#include <stdatomic.h>

static const uint8_t network_key[LS_KEY_BYTES] = {9, 8, 7, 6, 5};

/* A machine that counts; the reply is the count. */
static struct ls_span count_signature(void *self)
{
    (void)self;
    return (struct ls_span){"count/1", 7};
}

static enum ls_status count_apply(void *self, const struct ls_command *command,
                                  struct ls_replies *replies)
{
    uint64_t *count = self;
    (void)command;
    ++*count;
    return ls_reply_set(replies, 0, count, sizeof *count);
}

static enum ls_status count_query(void *self, struct ls_span query, struct ls_replies *reply)
{
    uint64_t *count = self;
    (void)query;
    return ls_reply_set(reply, 0, count, sizeof *count);
}

struct threaded {
    struct ls_loopback *hub;
    struct ls_identity *identity;
    struct ls_node *node;
    struct ls_group *groups[2];
    uint64_t counts[2];
    enum ls_status status;
    struct ls_error error;
};

static void open_threaded_in(struct threaded *threaded, const struct ls_env *env)
{
    (void)memset(threaded, 0, sizeof *threaded);
    assert_ok(ls_loopback_open(NULL, &threaded->hub));
    assert_ok(ls_identity_founder(network_key, "solo", &threaded->identity, NULL));
    struct ls_node_options options;
    ls_node_options_init(&options);
    options.identity = threaded->identity;
    assert_ok(ls_storage_memory_open(NULL, &options.storage, NULL));
    assert_ok(ls_loopback_endpoint(threaded->hub, threaded->identity, &options.transport, NULL));
    options.env = env;
    assert_ok(ls_node_open(&options, &threaded->node, NULL));
}

static void open_threaded(struct threaded *threaded)
{
    open_threaded_in(threaded, NULL);
}

static void close_threaded(struct threaded *threaded)
{
    ls_node_close(threaded->node, NULL, NULL);
    ls_identity_close(threaded->identity);
    ls_loopback_close(threaded->hub);
}

static void join_both(void *arg)
{
    struct threaded *threaded = arg;
    static const char *const names[] = {"first", "second"};
    static const struct ls_founder founders[] = {{.name = "solo"}};
    for (size_t i = 0; i < 2; i++) {
        struct ls_group_options options;
        ls_group_options_init(&options);
        options.name = names[i];
        options.member = "solo";
        options.founders = founders;
        options.founders_count = 1;
        options.election_ms = 30;
        options.heartbeat_ms = 10;
        options.machine = (struct ls_machine){.size = sizeof options.machine,
                                              .self = &threaded->counts[i],
                                              .signature = count_signature,
                                              .apply = count_apply,
                                              .query = count_query};
        threaded->status =
            ls_group_join(threaded->node, &options, &threaded->groups[i], &threaded->error);
        if (threaded->status != LS_OK) {
            return;
        }
    }
}

struct execute {
    struct ls_group *group;
    size_t count;
    enum ls_status status;
    struct trio_outcome outcome;
};

static void execute(void *arg)
{
    struct execute *call = arg;
    for (size_t i = 0; i < call->count; i++) {
        call->status = ls_group_execute(call->group, (struct ls_span){"x", 1}, NULL, trio_done,
                                        &call->outcome);
    }
}

TEST(node, two_groups_on_its_own_thread_do_not_mix)
{
    struct threaded threaded;
    open_threaded(&threaded);
    assert_ok(ls_node_call(threaded.node, join_both, &threaded));
    assert_ok(threaded.status);
    struct execute calls[2] = {{.group = threaded.groups[0], .count = 2},
                               {.group = threaded.groups[1], .count = 3}};
    for (size_t i = 0; i < 2; i++) {
        assert_ok(
            ls_group_wait(calls[i].group, &(struct ls_condition){.kind = LS_WHEN_SERVING}, 10000));
        assert_ok(ls_node_call(threaded.node, execute, &calls[i]));
    }
    /* a configuration and a no-op open each log */
    for (size_t i = 0; i < 2; i++) {
        assert_ok(ls_group_wait(
            calls[i].group,
            &(struct ls_condition){.kind = LS_WHEN_APPLIED, .index = 2 + calls[i].count}, 10000));
    }
    close_threaded(&threaded);
    assert_int_equal(threaded.counts[0], 2);
    assert_int_equal(threaded.counts[1], 3);
}

TEST(node, a_wait_for_what_does_not_come_ends_at_its_timeout)
{
    struct threaded threaded;
    open_threaded(&threaded);
    assert_ok(ls_node_call(threaded.node, join_both, &threaded));
    const struct ls_condition never = {.kind = LS_WHEN_COMMITTED, .index = 1000000};
    assert_int_equal(ls_group_wait(threaded.groups[0], &never, 20), LS_ERR_TIMEOUT);
    close_threaded(&threaded);
}

static void nothing(void *arg)
{
    (void)arg;
}

static atomic_long blocks;

static void *counting_allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    const struct ls_env *env = ls_env_default();
    (void)atomic_fetch_add(&blocks, (bytes > 0 && block == NULL ? 1 : 0) -
                                        (bytes == 0 && block != NULL ? 1 : 0));
    return env->allocate(env->self, block, bytes);
}

/* A thread that polls with a wait must not fill the group with waits that nobody waits for. */
TEST(node, waits_that_timed_out_leave_nothing_behind)
{
    struct ls_env env = *ls_env_default();
    env.allocate = counting_allocate;
    struct threaded threaded;
    open_threaded_in(&threaded, &env);
    assert_ok(ls_node_call(threaded.node, join_both, &threaded));
    const struct ls_condition never = {.kind = LS_WHEN_COMMITTED, .index = 1000000};
    assert_ok(
        ls_group_wait(threaded.groups[0], &(struct ls_condition){.kind = LS_WHEN_SERVING}, 10000));
    assert_int_equal(ls_group_wait(threaded.groups[0], &never, 1), LS_ERR_TIMEOUT);
    assert_ok(ls_node_call(threaded.node, nothing, NULL));
    long before = atomic_load(&blocks);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(ls_group_wait(threaded.groups[0], &never, 1), LS_ERR_TIMEOUT);
    }
    assert_ok(ls_node_call(threaded.node, nothing, NULL));
    assert_true(atomic_load(&blocks) < before + 50);
    close_threaded(&threaded);
    assert_int_equal(atomic_load(&blocks), 0);
}

struct waiting {
    struct ls_group *group;
    bool registered;
    enum ls_status status;
};

static void *wait_for_ever(void *arg)
{
    struct waiting *waiting = arg;
    const struct ls_condition never = {.kind = LS_WHEN_COMMITTED, .index = 1000000};
    waiting->status = ls_group_wait(waiting->group, &never, 20000);
    return NULL;
}

static void look(void *arg)
{
    struct waiting *waiting = arg;
    waiting->registered = waiting->group->waiters != NULL;
}

TEST(node, a_wait_ends_when_the_node_closes)
{
    struct threaded threaded;
    open_threaded(&threaded);
    assert_ok(ls_node_call(threaded.node, join_both, &threaded));
    struct waiting waiting = {.group = threaded.groups[1]};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_for_ever, &waiting), 0);
    while (!waiting.registered) {
        assert_ok(ls_node_call(threaded.node, look, &waiting));
    }
    close_threaded(&threaded);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(waiting.status, LS_ERR_CLOSED);
}

struct inside {
    struct threaded *threaded;
    enum ls_status wait, call;
};

static void block_inside(void *arg)
{
    struct inside *inside = arg;
    inside->wait = ls_group_wait(inside->threaded->groups[0],
                                 &(struct ls_condition){.kind = LS_WHEN_SERVING}, 10);
    inside->call = ls_node_call(inside->threaded->node, nothing, NULL);
}

TEST(node, blocking_on_the_loops_own_thread_is_refused)
{
    struct threaded threaded;
    open_threaded(&threaded);
    assert_ok(ls_node_call(threaded.node, join_both, &threaded));
    struct inside inside = {.threaded = &threaded};
    assert_ok(ls_node_call(threaded.node, block_inside, &inside));
    assert_int_equal(inside.wait, LS_ERR_WOULD_DEADLOCK);
    assert_int_equal(inside.call, LS_ERR_WOULD_DEADLOCK);
    close_threaded(&threaded);
}

TEST(node, the_same_group_is_joined_once)
{
    struct threaded threaded;
    open_threaded(&threaded);
    assert_ok(ls_node_call(threaded.node, join_both, &threaded));
    assert_ok(threaded.status);
    assert_ok(ls_node_call(threaded.node, join_both, &threaded));
    assert_int_equal(threaded.status, LS_ERR_INVALID);
    assert_non_null(strstr(threaded.error.text, "already joined"));
    close_threaded(&threaded);
}

/* The memory store's medium is free again, and the endpoint: both were closed. */
TEST(node, that_cannot_open_leaves_nothing_behind)
{
    struct ls_storage_medium *medium = NULL;
    struct threaded threaded = {0};
    assert_ok(ls_storage_medium_open(NULL, &medium));
    assert_ok(ls_loopback_open(NULL, &threaded.hub));
    assert_ok(ls_identity_founder(network_key, "solo", &threaded.identity, NULL));
    for (int i = 0; i < 4; i++) {
        struct ls_node_options options;
        struct ls_error error = {LS_OK, ""};
        struct ls_transport_tcp_options tcp = {.size = sizeof tcp, .identity = threaded.identity};
        ls_node_options_init(&options);
        options.identity = i == 0 ? NULL : threaded.identity;
        options.size -= i == 1 ? 1u : 0u;
        assert_ok(ls_storage_memory_open_on(medium, &options.storage, NULL));
        if (i < 3) {
            assert_ok(ls_transport_tcp_open(&tcp, &options.transport, NULL));
            options.listen = "nowhere at all";
            assert_int_equal(ls_node_open(&options, &threaded.node, &error), LS_ERR_INVALID);
            assert_null(threaded.node);
            assert_true(error.text[0] != '\0');
        } else {
            assert_ok(
                ls_loopback_endpoint(threaded.hub, threaded.identity, &options.transport, NULL));
            assert_ok(ls_node_open(&options, &threaded.node, &error));
        }
    }
    close_threaded(&threaded);
    ls_storage_medium_close(medium);
}

TEST(node, options_that_were_not_initialised_are_refused)
{
    struct ls_node_options options = {0};
    struct ls_node *node = NULL;
    struct ls_error error = {LS_OK, ""};
    assert_int_equal(ls_node_open(&options, &node, &error), LS_ERR_INVALID);
    assert_non_null(strstr(error.text, "ls_node_options_init"));
    assert_null(node);
    ls_node_close(NULL, NULL, NULL);
}

/* A store whose close hangs until it is let go. */
static struct {
    struct ls_storage inner;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hangs, closed;
} hung;

static void hung_close(void *self)
{
    (void)pthread_mutex_lock(&hung.lock);
    while (hung.hangs) {
        (void)pthread_cond_wait(&hung.changed, &hung.lock);
    }
    (void)pthread_mutex_unlock(&hung.lock);
    hung.inner.close(self);
    (void)pthread_mutex_lock(&hung.lock);
    hung.closed = true;
    (void)pthread_cond_signal(&hung.changed);
    (void)pthread_mutex_unlock(&hung.lock);
}

/* F11 */
TEST(node, closes_within_its_time_although_a_sync_hangs)
{
    struct threaded threaded;
    (void)memset(&threaded, 0, sizeof threaded);
    (void)pthread_mutex_init(&hung.lock, NULL);
    (void)pthread_cond_init(&hung.changed, NULL);
    hung.hangs = true;
    assert_ok(ls_loopback_open(NULL, &threaded.hub));
    assert_ok(ls_identity_founder(network_key, "solo", &threaded.identity, NULL));
    struct ls_node_options options;
    ls_node_options_init(&options);
    options.identity = threaded.identity;
    options.close_ms = 20;
    assert_ok(ls_storage_memory_open(NULL, &options.storage, NULL));
    hung.inner = options.storage;
    options.storage.close = hung_close;
    assert_ok(ls_loopback_endpoint(threaded.hub, threaded.identity, &options.transport, NULL));
    assert_ok(ls_node_open(&options, &threaded.node, NULL));
    close_threaded(&threaded); /* would not return */
    (void)pthread_mutex_lock(&hung.lock);
    assert_false(hung.closed);
    hung.hangs = false;
    (void)pthread_cond_broadcast(&hung.changed);
    while (!hung.closed) {
        (void)pthread_cond_wait(&hung.changed, &hung.lock);
    }
    (void)pthread_mutex_unlock(&hung.lock);
}
