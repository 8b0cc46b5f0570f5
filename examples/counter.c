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
    return (struct ls_span){"counter/1", 9}; /* names what commands mean; not equal: no bond */
}

/* Runs on every member, in the same order: depends on the state and the command, nothing else. */
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

static struct member {
    const char *name;
    struct counter counter;
    struct ls_identity *identity;
    struct ls_node *node;
    struct ls_group *group;
} members[] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
#define MEMBERS (sizeof members / sizeof members[0])

static struct event_base *base;
static bool done; /* what the program waits for has happened */

static void check(enum ls_status status, const char *what, const struct ls_error *error)
{
    if (status != LS_OK) {
        const char *text = error != NULL ? error->text : ls_status_text(status);
        (void)fprintf(stderr, "%s: %s\n", what, text);
        exit(EXIT_FAILURE);
    }
}

/* Turns the loop until `done`. A program with more to do would simply go on from its callbacks. */
static void wait_until_done(void)
{
    while (!done && event_base_loop(base, EVLOOP_ONCE) == 0) {
    }
    done = false;
}

static void member_open(struct member *member, struct ls_loopback *hub)
{
    static const uint8_t key[LS_KEY_BYTES] = "no secret: all is in one process";
    static const struct ls_founder founders[] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
    struct ls_error error;
    struct ls_node_options node;
    struct ls_group_options group;

    check(ls_identity_founder(key, member->name, &member->identity, &error), "identity", &error);
    ls_node_options_init(&node);
    node.base = base;
    node.identity = member->identity;
    check(ls_storage_memory_open(NULL, &node.storage, &error), "storage", &error);
    check(ls_loopback_endpoint(hub, member->identity, &node.transport, &error), "network", &error);
    check(ls_node_open(&node, &member->node, &error), "node", &error);

    ls_group_options_init(&group);
    group.name = "counters";
    group.member = member->name;
    group.founders = founders;
    group.founders_count = MEMBERS;
    group.machine = (struct ls_machine){.size = sizeof group.machine,
                                        .self = &member->counter,
                                        .signature = signature,
                                        .apply = apply,
                                        .query = query};
    check(ls_group_join(member->node, &group, &member->group, &error), "join", &error);
}

/* How a call of `arg`'s member ended. Called exactly once for each call that returned LS_OK. */
static void answered(void *arg, const struct ls_outcome *outcome)
{
    const struct member *member = arg;
    int64_t value;
    check(outcome->status, member->name, NULL);
    memcpy(&value, outcome->replies[0].data, sizeof value);
    if (outcome->first.index > 0) {
        printf("  %s is told %" PRId64 ", by entry %" PRIu64 " of term %" PRIu64 "\n", member->name,
               value, outcome->first.index, outcome->first.term);
    } else {
        printf("  %s reads %" PRId64 "\n", member->name, value);
    }
    done = true;
}

static void add(struct member *member, int64_t step)
{
    printf("%s adds %" PRId64 "\n", member->name, step);
    struct ls_span command = {&step, sizeof step};
    check(ls_group_execute(member->group, command, NULL, answered, member), "execute", NULL);
    wait_until_done();
}

static void read_counter(struct member *member)
{
    struct ls_span nothing = {NULL, 0};
    check(ls_group_query(member->group, LS_STRONG, nothing, NULL, answered, member), "query", NULL);
    wait_until_done();
}

static void happened(void *arg, enum ls_status status)
{
    (void)arg;
    check(status, "wait", NULL);
    done = true;
}

/* Waits until `member` knows who leads, and returns the leader. */
static struct member *leader_of(struct member *member)
{
    const struct ls_condition online = {.kind = LS_WHEN_ONLINE};
    struct ls_group_status status;
    check(ls_group_when(member->group, &online, happened, NULL), "when", NULL);
    wait_until_done();
    ls_group_status(member->group, &status);
    for (size_t i = 0; i < MEMBERS; i++) {
        struct ls_peer_id id = ls_identity_founder_id(member->identity, members[i].name);
        if (ls_peer_id_equal(&id, &status.core.leader)) {
            printf("%s leads in term %" PRIu64 "\n", members[i].name, status.core.term);
            return &members[i];
        }
    }
    return member;
}

static void closed(void *arg)
{
    (void)arg;
    done = true;
}

static void member_close(struct member *member)
{
    ls_node_close(member->node, closed, NULL);
    wait_until_done();
    ls_identity_close(member->identity);
    member->node = NULL;
}

int main(void)
{
    struct ls_loopback *hub = NULL;
    base = event_base_new();
    check(ls_loopback_open(NULL, &hub), "network", NULL);
    for (size_t i = 0; i < MEMBERS; i++) {
        member_open(&members[i], hub);
    }

    struct member *leader = leader_of(&members[0]);
    add(&members[0], 40);
    add(&members[1], 5); /* any member takes commands: it forwards them to the leader */
    add(&members[2], -3);
    for (size_t i = 0; i < MEMBERS; i++) {
        read_counter(&members[i]); /* linearizable on any member */
    }

    printf("%s leaves\n", leader->name);
    member_close(leader);
    struct member *other = leader == &members[0] ? &members[1] : &members[0];
    (void)leader_of(other); /* two of three are a majority: they go on */
    add(other, 100);
    read_counter(other);
    int64_t value = other->counter.value;

    for (size_t i = 0; i < MEMBERS; i++) {
        if (members[i].node != NULL) {
            member_close(&members[i]);
        }
    }
    ls_loopback_close(hub);
    event_base_free(base);
    return value == 142 ? EXIT_SUCCESS : EXIT_FAILURE;
}
