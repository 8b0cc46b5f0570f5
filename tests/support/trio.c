/* SPDX-License-Identifier: MIT */
#include "trio.h"

#include <stdio.h>
#include <stdlib.h>

#include <event2/event.h>

#define PATIENCE_S 20

static const uint8_t network_key[LS_KEY_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9};

/* ---- the machine ---- */

static struct ls_span tally_signature(void *self)
{
    (void)self;
    return (struct ls_span){"tally/1", 7};
}

static enum ls_status tally_apply(void *self, const struct ls_command *command,
                                  struct ls_replies *replies)
{
    struct tally *tally = self;
    if (tally->reenter != NULL) {
        struct trio_outcome unused = {0};
        tally->reentered =
            ls_group_execute(tally->reenter, command->data, NULL, trio_done, &unused);
    }
    if (tally->answer != LS_OK) {
        return tally->answer;
    }
    assert_true(command->cursor.index > tally->last);
    const uint8_t *bytes = command->data.data;
    uint64_t digest = tally->digest ^ command->cursor.index;
    for (size_t i = 0; i < command->data.bytes; i++) {
        digest = (digest ^ bytes[i]) * 1099511628211u;
    }
    tally->digest = digest;
    tally->last = command->cursor.index;
    tally->count++;
    return ls_reply_set(replies, 0, &tally->count, sizeof tally->count);
}

static enum ls_status tally_query(void *self, struct ls_span query, struct ls_replies *reply)
{
    struct tally *tally = self;
    (void)query;
    return ls_reply_set(reply, 0, &tally->count, sizeof tally->count);
}

/* What it knows of the applied index is that of its last command: a little less is fine. */
static enum ls_status tally_open(void *self, const struct ls_group_id *group,
                                 const struct ls_incarnation *incarnation, ls_index *applied,
                                 struct ls_error *error)
{
    (void)group;
    (void)incarnation;
    (void)error;
    *applied = ((struct tally *)self)->last;
    return LS_OK;
}

static ls_index tally_durable(void *self)
{
    return ((struct tally *)self)->last;
}

/* ---- members ---- */

static enum ls_status open_store(const struct trio *trio, struct trio_member *member,
                                 struct ls_storage *out, struct ls_error *error)
{
    if (!trio->disk) {
        return ls_storage_memory_open_on(member->medium, out, error);
    }
    if (member->directory == NULL) {
        member->directory = test_directory();
    }
    const struct ls_storage_rocksdb_options options = {
        .size = sizeof options, .directory = member->directory, .env = trio->env};
    return ls_storage_rocksdb_open(&options, out, error);
}

void trio_open(struct trio *trio, size_t count)
{
    trio_open_in(trio, count, NULL);
}

void trio_open_in(struct trio *trio, size_t count, const struct ls_env *env)
{
    static const char *const names[TRIO_MAX] = {"a", "b", "c", "d", "e"};
    assert_true(count >= 1 && count <= TRIO_MAX);
    (void)memset(trio, 0, sizeof *trio);
    trio->base = event_base_new();
    assert_non_null(trio->base);
    trio->env = env;
    assert_ok(ls_loopback_open(env, &trio->hub));
    trio->count = count;
    trio->group_name = "tally";
    ls_group_options_init(&trio->options);
    trio->options.election_ms = 60;
    trio->options.heartbeat_ms = 15;
    for (size_t i = 0; i < count; i++) {
        struct trio_member *member = &trio->members[i];
        (void)snprintf(member->name, sizeof member->name, "%s", names[i]);
        trio->founders[i] = (struct ls_founder){.name = member->name};
        assert_ok(ls_identity_founder(network_key, member->name, &member->identity, NULL));
        assert_ok(ls_storage_medium_open(NULL, &member->medium));
    }
}

static enum ls_status open_node(const struct trio *trio, struct trio_member *member,
                                struct ls_error *error)
{
    struct ls_node_options options;
    ls_node_options_init(&options);
    options.base = trio->base;
    options.env = trio->env;
    options.close_ms = trio->close_ms > 0 ? trio->close_ms : options.close_ms;
    options.identity = member->identity;
    enum ls_status status = open_store(trio, member, &options.storage, error);
    if (status != LS_OK) {
        return status;
    }
    if (trio->on_storage != NULL) {
        trio->on_storage(&options.storage);
    }
    status = ls_loopback_endpoint(trio->hub, member->identity, &options.transport, error);
    if (status != LS_OK) {
        options.storage.close(options.storage.self);
        return status;
    }
    return ls_node_open(&options, &member->node, error);
}

enum ls_status trio_try_start(struct trio *trio, size_t at, struct ls_error *error)
{
    struct trio_member *member = &trio->members[at];
    enum ls_status status = open_node(trio, member, error);
    if (status != LS_OK) {
        return status;
    }
    if (!trio->durable) {
        member->tally = (struct tally){0};
    }
    member->closed = false;
    struct ls_group_options options = trio->options;
    options.name = trio->group_name;
    options.member = member->name;
    options.founders = trio->founders;
    options.founders_count = trio->count;
    options.machine = (struct ls_machine){.size = sizeof options.machine,
                                          .self = &member->tally,
                                          .signature = tally_signature,
                                          .apply = tally_apply,
                                          .query = tally_query};
    if (trio->durable) {
        options.machine.open = tally_open;
        options.machine.durable_applied = tally_durable;
    }
    status = ls_group_join(member->node, &options, &member->group, error);
    if (status != LS_OK) {
        trio_stop(trio, at);
    }
    return status;
}

void trio_start(struct trio *trio, size_t at)
{
    struct ls_error error = {LS_OK, ""};
    if (trio_try_start(trio, at, &error) != LS_OK) {
        fail_msg("%s", error.text);
    }
}

static void on_closed(void *arg)
{
    struct trio_member *member = arg;
    member->closed = true;
}

static bool is_closed(struct trio *trio, void *arg)
{
    (void)trio;
    const struct trio_member *member = arg;
    return member->closed;
}

void trio_stop(struct trio *trio, size_t at)
{
    struct trio_member *member = &trio->members[at];
    ls_node_close(member->node, on_closed, member);
    trio_until(trio, is_closed, member);
    member->node = NULL;
    member->group = NULL;
}

size_t trio_up(struct trio *trio)
{
    for (size_t i = 0; i < trio->count; i++) {
        trio_start(trio, i);
    }
    return trio_wait_leader(trio);
}

void trio_close(struct trio *trio)
{
    for (size_t i = 0; i < trio->count; i++) {
        if (trio->members[i].node != NULL) {
            trio_stop(trio, i);
        }
        ls_storage_medium_close(trio->members[i].medium);
        ls_identity_close(trio->members[i].identity);
    }
    ls_loopback_close(trio->hub);
    event_base_free(trio->base);
}

/* ---- waiting ---- */

static void nudge(evutil_socket_t descriptor, short what, void *arg)
{
    (void)descriptor;
    (void)what;
    (void)arg;
}

void trio_until(struct trio *trio, bool (*holds)(struct trio *trio, void *arg), void *arg)
{
    uint64_t until = ls_env_default()->now_us(NULL) + PATIENCE_S * 1000000u;
    struct timeval soon = {0, 5000};
    struct event *timer = event_new(trio->base, -1, EV_PERSIST, nudge, NULL);
    assert_non_null(timer);
    assert_int_equal(event_add(timer, &soon), 0);
    while (!holds(trio, arg)) {
        assert_true(ls_env_default()->now_us(NULL) < until);
        (void)event_base_loop(trio->base, EVLOOP_ONCE);
    }
    event_free(timer);
}

size_t trio_leader(const struct trio *trio)
{
    for (size_t i = 0; i < trio->count; i++) {
        if (trio->members[i].node == NULL) {
            continue;
        }
        struct ls_group_status status;
        ls_group_status(trio->members[i].group, &status);
        if (status.serving) {
            return i;
        }
    }
    return trio->count;
}

static bool has_leader(struct trio *trio, void *arg)
{
    (void)arg;
    return trio_leader(trio) < trio->count;
}

size_t trio_wait_leader(struct trio *trio)
{
    trio_until(trio, has_leader, NULL);
    return trio_leader(trio);
}

static bool all_equal(struct trio *trio, void *arg)
{
    const uint64_t *count = arg;
    const struct tally *first = NULL;
    for (size_t i = 0; i < trio->count; i++) {
        const struct trio_member *member = &trio->members[i];
        if (member->node == NULL) {
            continue;
        }
        if (member->tally.count < *count ||
            (first != NULL &&
             (first->digest != member->tally.digest || first->count != member->tally.count))) {
            return false;
        }
        first = &member->tally;
    }
    return true;
}

void trio_wait_equal(struct trio *trio, uint64_t count)
{
    trio_until(trio, all_equal, &count);
}

void trio_done(void *arg, const struct ls_outcome *outcome)
{
    struct trio_outcome *out = arg;
    out->fired = true;
    out->times++;
    out->status = outcome->status;
    out->first = outcome->first;
    out->count = outcome->count;
    if (outcome->count > 0 && outcome->replies[0].bytes == sizeof out->reply) {
        (void)memcpy(&out->reply, outcome->replies[0].data, sizeof out->reply);
    }
}

static bool has_fired(struct trio *trio, void *arg)
{
    (void)trio;
    const struct trio_outcome *outcome = arg;
    return outcome->fired;
}

void trio_wait(struct trio *trio, struct trio_outcome *outcome)
{
    trio_until(trio, has_fired, outcome);
}

struct trio_outcome trio_execute(struct trio *trio, size_t at, const char *text)
{
    struct trio_outcome outcome = {0};
    assert_ok(ls_group_execute(trio->members[at].group, (struct ls_span){text, strlen(text)}, NULL,
                               trio_done, &outcome));
    trio_wait(trio, &outcome);
    return outcome;
}
