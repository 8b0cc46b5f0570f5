/* SPDX-License-Identifier: MIT */
/*
 * A complete replicated machine: a counter, with three members in one process. They talk through an
 * in-process network and keep their logs in memory, so that nothing but this file is needed. A real
 * program has one member in each process and opens ls_transport_tcp_open and
 * ls_storage_rocksdb_open instead; the rest stays as it is (see kv/main.c).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <event2/event.h>

#include <lockstep/lockstep.h>

/* ---- the machine: the state, what a command does to it, and how it is read ---- */

struct counter {
    int64_t value;
};

static struct ls_span signature(void *self)
{
    (void)self;
    return (struct ls_span){"counter/1", 9}; /* the language of commands, equal on all members */
}

/* Runs on every member in the same order: depends on the state and the command, nothing else. */
static enum ls_status apply(void *self, const struct ls_command *command,
                            struct ls_replies *replies)
{
    struct counter *counter = self;
    int64_t step;
    if (command->data.bytes != sizeof step) {
        return ls_reply_set(replies, 0, "bad", 3); /* refusing a command is a reply, not an error */
    }
    memcpy(&step, command->data.data, sizeof step);
    counter->value += step;
    return ls_reply_set(replies, 0, &counter->value, sizeof counter->value);
}

static enum ls_status query(void *self, struct ls_span what, struct ls_replies *reply)
{
    struct counter *counter = self;
    (void)what;
    return ls_reply_set(reply, 0, &counter->value, sizeof counter->value);
}

/* ---- three members ---- */

#define MEMBERS 3
static const struct ls_founder founders[MEMBERS] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
static struct member {
    struct counter counter;
    struct ls_identity *identity;
    struct ls_node *node;
    struct ls_group *group;
} members[MEMBERS];

static struct event_base *base;
static bool done;      /* what the program waits for has happened */
static int64_t answer; /* to the last call */

static void check(enum ls_status status, const char *what)
{
    if (status != LS_OK) {
        (void)fprintf(stderr, "%s: %s\n", what, ls_status_text(status));
        exit(EXIT_FAILURE);
    }
}

static void member_open(struct member *member, const char *name, struct ls_loopback *hub)
{
    static const uint8_t key[LS_KEY_BYTES] = "no secret: all is in one process";
    struct ls_node_options node;
    ls_node_options_init(&node);
    check(ls_identity_founder(key, name, &member->identity, NULL), "identity");
    check(ls_storage_memory_open(NULL, &node.storage, NULL), "storage");
    check(ls_loopback_endpoint(hub, member->identity, &node.transport, NULL), "network");
    node.base = base;
    node.identity = member->identity;
    check(ls_node_open(&node, &member->node, NULL), "node");

    struct ls_group_options group;
    ls_group_options_init(&group);
    group.name = "counters";
    group.member = name;
    group.founders = founders;
    group.founders_count = MEMBERS;
    group.machine = (struct ls_machine){.size = sizeof group.machine,
                                        .self = &member->counter,
                                        .signature = signature,
                                        .apply = apply,
                                        .query = query};
    check(ls_group_join(member->node, &group, &member->group, NULL), "join");
}

/* Turns the loop until `done`. A program with more to do would simply go on from its callbacks. */
static void wait_until_done(void)
{
    while (!done && event_base_loop(base, EVLOOP_ONCE) == 0) {
    }
    done = false;
}

/* How a call ended: fires exactly once for each call that returned LS_OK. */
static void answered(void *arg, const struct ls_outcome *outcome)
{
    (void)arg;
    check(outcome->status, "call");
    memcpy(&answer, outcome->replies[0].data, sizeof answer);
    done = true;
}

static void add(size_t at, int64_t step)
{
    struct ls_span command = {&step, sizeof step};
    check(ls_group_execute(members[at].group, command, NULL, answered, NULL), "execute");
    wait_until_done();
    printf("%s adds %" PRId64 " and is told %" PRId64 "\n", founders[at].name, step, answer);
}

static void read_strong(size_t at)
{
    struct ls_span nothing = {NULL, 0};
    check(ls_group_query(members[at].group, LS_STRONG, nothing, NULL, answered, NULL), "query");
    wait_until_done();
    printf("%s reads %" PRId64 "\n", founders[at].name, answer);
}

static void happened(void *arg, enum ls_status status)
{
    (void)arg;
    check(status, "wait");
    done = true;
}

/* Waits until member `at` is online, and returns who leads. */
static size_t leader_of(size_t at)
{
    const struct ls_condition online = {.kind = LS_WHEN_ONLINE};
    struct ls_group_status status;
    check(ls_group_when(members[at].group, &online, happened, NULL), "when");
    wait_until_done();
    ls_group_status(members[at].group, &status);
    for (size_t i = 0; i < MEMBERS; i++) {
        struct ls_peer_id id = ls_identity_founder_id(members[at].identity, founders[i].name);
        if (ls_peer_id_equal(&id, &status.core.leader)) {
            printf("%s leads in term %" PRIu64 "\n", founders[i].name, status.core.term);
            return i;
        }
    }
    return at;
}

static void closed(void *arg)
{
    (void)arg;
    done = true;
}

static void member_close(struct member *member)
{
    if (member->node != NULL) {
        ls_node_close(member->node, closed, NULL); /* hands leadership over first */
        wait_until_done();
        ls_identity_close(member->identity);
        member->node = NULL;
    }
}

int main(void)
{
    struct ls_loopback *hub = NULL;
    base = event_base_new();
    check(ls_loopback_open(NULL, &hub), "network");
    for (size_t i = 0; i < MEMBERS; i++) {
        member_open(&members[i], founders[i].name, hub);
    }
    size_t leader = leader_of(0);
    add(0, 40);
    add(1, 5); /* any member takes commands: it forwards them to the leader */
    add(2, -3);
    for (size_t i = 0; i < MEMBERS; i++) {
        read_strong(i); /* linearizable on any member */
    }

    printf("%s leaves\n", founders[leader].name);
    member_close(&members[leader]);
    size_t other = leader == 0 ? 1 : 0;
    (void)leader_of(other); /* two of three are a majority: they go on */
    add(other, 100);
    read_strong(other);

    for (size_t i = 0; i < MEMBERS; i++) {
        member_close(&members[i]);
    }
    ls_loopback_close(hub);
    event_base_free(base);
    return answer == 142 ? EXIT_SUCCESS : EXIT_FAILURE;
}
