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

/* One item for each command, of bytes that follow from the digest. */
static void tally_write(struct tally *tally)
{
    uint8_t *item = tally->items + (size_t)(tally->count % TALLY_ITEMS) * TALLY_ITEM_BYTES;
    for (size_t i = 0; i < TALLY_ITEM_BYTES; i += 8) {
        uint64_t value = (tally->digest + i) * 0x9e3779b97f4a7c15u;
        (void)memcpy(item + i, &value, sizeof value);
    }
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
    if (tally->items != NULL) {
        tally_write(tally);
    }
    return ls_reply_set(replies, 0, &tally->count, sizeof tally->count);
}

/* ---- its snapshots: the numbers first, then the items by number, those that were written ---- */

struct tally_numbers {
    uint64_t count, digest, last;
};

static uint64_t items_of(const struct tally *tally)
{
    return 1 + (tally->count < TALLY_ITEMS ? tally->count : TALLY_ITEMS);
}

static struct tally *tally_copy(const struct tally *from)
{
    struct tally *copy = malloc(sizeof *copy);
    assert_non_null(copy);
    *copy = *from;
    copy->items = malloc((size_t)TALLY_ITEMS * TALLY_ITEM_BYTES);
    assert_non_null(copy->items);
    (void)memcpy(copy->items, from->items, (size_t)TALLY_ITEMS * TALLY_ITEM_BYTES);
    return copy;
}

static void tally_free(struct tally *tally)
{
    if (tally != NULL) {
        free(tally->items);
        free(tally);
    }
}

static enum ls_status tally_freeze(void *self, struct ls_frozen *out)
{
    struct tally *tally = self;
    tally->freezes++;
    uint64_t items = items_of(tally);
    *out = (struct ls_frozen){.handle = tally_copy(tally),
                              .items = items,
                              .bytes = 4 * items + sizeof(struct tally_numbers) +
                                       (items - 1) * TALLY_ITEM_BYTES};
    return LS_OK;
}

static void tally_thaw(void *self, struct ls_frozen *frozen)
{
    ((struct tally *)self)->thaws++;
    tally_free(frozen->handle);
}

static enum ls_status tally_iterate(void *self, const struct ls_frozen *frozen, struct ls_span from,
                                    ls_item_visit visit, void *arg)
{
    (void)self;
    const struct tally *tally = frozen->handle;
    const struct tally_numbers numbers = {tally->count, tally->digest, tally->last};
    char key[5] = "0000";
    uint64_t at = from.bytes == 4 ? strtoull(memcpy(key, from.data, 4), NULL, 16) : 0;
    for (; at < items_of(tally); at++) {
        (void)snprintf(key, sizeof key, "%04x", (unsigned)at & 0xffffu);
        struct ls_item item = {.key = {key, 4}, .value = {&numbers, sizeof numbers}};
        if (at > 0) {
            /* the first command wrote item 1 */
            uint64_t number = at % TALLY_ITEMS;
            item.value = (struct ls_span){tally->items + (size_t)number * TALLY_ITEM_BYTES,
                                          TALLY_ITEM_BYTES};
        }
        if (!visit(arg, &item)) {
            break;
        }
    }
    return LS_OK;
}

static void tally_restore_end(void *self)
{
    struct tally *tally = self;
    tally_free(tally->restoring);
    tally->restoring = NULL;
}

static enum ls_status tally_restore(void *self, struct ls_cursor anchor)
{
    (void)anchor;
    struct tally *tally = self;
    tally_restore_end(tally);
    tally->restoring = tally_copy(tally);
    tally->restoring->count = 0;
    return LS_OK;
}

static enum ls_status tally_restore_item(void *self, const struct ls_item *item)
{
    struct tally *fresh = ((struct tally *)self)->restoring;
    char key[5] = "0000";
    assert_int_equal(item->key.bytes, 4);
    uint64_t at = strtoull(memcpy(key, item->key.data, 4), NULL, 16);
    if (at == 0) {
        struct tally_numbers numbers;
        assert_int_equal(item->value.bytes, sizeof numbers);
        (void)memcpy(&numbers, item->value.data, sizeof numbers);
        fresh->count = numbers.count;
        fresh->digest = numbers.digest;
        fresh->last = numbers.last;
        return LS_OK;
    }
    assert_int_equal(item->value.bytes, TALLY_ITEM_BYTES);
    (void)memcpy(fresh->items + (size_t)(at % TALLY_ITEMS) * TALLY_ITEM_BYTES, item->value.data,
                 TALLY_ITEM_BYTES);
    return LS_OK;
}

static enum ls_status tally_publish(void *self, struct ls_cursor anchor)
{
    struct tally *tally = self;
    struct tally *fresh = tally->restoring;
    assert_non_null(fresh);
    enum ls_status answer = tally->publish_answer;
    if (tally->publish_answers > 0 && --tally->publish_answers == 0) {
        tally->publish_answer = LS_OK;
    }
    if (answer != LS_OK && !tally->publish_all_the_same) {
        return answer;
    }
    assert_true(fresh->last <= anchor.index);
    tally->count = fresh->count;
    tally->digest = fresh->digest;
    tally->last = fresh->last;
    tally->restored = anchor.index;
    uint8_t *items = tally->items;
    tally->items = fresh->items;
    fresh->items = items;
    tally->published++;
    tally_restore_end(tally);
    return answer;
}

static enum ls_status tally_query(void *self, struct ls_span query, struct ls_replies *reply)
{
    struct tally *tally = self;
    (void)query;
    return ls_reply_set(reply, 0, &tally->count, sizeof tally->count);
}

static ls_index tally_durable(void *self)
{
    const struct tally *tally = self;
    return tally->last > tally->restored ? tally->last : tally->restored;
}

/* What it knows of the applied index is that of its last command: a little less is fine. */
static enum ls_status tally_open(void *self, const struct ls_group_id *group,
                                 const struct ls_incarnation *incarnation, ls_index *applied,
                                 struct ls_error *error)
{
    (void)group;
    (void)incarnation;
    (void)error;
    *applied = tally_durable(self);
    return LS_OK;
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

static enum ls_status open_vault(const struct trio *trio, struct trio_member *member,
                                 struct ls_vault *out, struct ls_error *error)
{
    if (!trio->snapshots || trio->no_vaults) {
        return LS_OK;
    }
    if (trio->disk) {
        if (member->vault_directory == NULL) {
            member->vault_directory = test_directory();
        }
        return ls_vault_files_open(member->vault_directory, trio->env, out, error);
    }
    if (member->vault == NULL) {
        assert_ok(ls_vault_medium_open(trio->env, &member->vault));
    }
    ls_vault_memory_open_on(member->vault, out);
    ls_vault_memory_open_on(member->vault, out);
    return LS_OK;
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
    status = open_vault(trio, member, &options.vault, error);
    assert_ok(status);
    if (trio->on_vault != NULL && options.vault.size > 0) {
        trio->on_vault(&options.vault);
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
        tally_restore_end(&member->tally);
        free(member->tally.items);
        member->tally = (struct tally){0};
    }
    if (trio->snapshots && member->tally.items == NULL) {
        member->tally.items = calloc(TALLY_ITEMS, TALLY_ITEM_BYTES);
        assert_non_null(member->tally.items);
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
    if (trio->snapshots) {
        options.machine.freeze = tally_freeze;
        options.machine.iterate = tally_iterate;
        options.machine.thaw = tally_thaw;
        options.machine.restore = tally_restore;
        options.machine.restore_item = tally_restore_item;
        options.machine.publish = tally_publish;
        options.machine.restore_end = tally_restore_end;
    }
    if (trio->durable) {
        options.machine.open = tally_open;
        options.machine.durable_applied = tally_durable;
    }
    if (trio->on_machine != NULL) {
        trio->on_machine(&options.machine);
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
        assert_int_equal(trio->members[i].tally.freezes, trio->members[i].tally.thaws);
        assert_null(trio->members[i].tally.restoring);
        free(trio->members[i].tally.items);
        ls_vault_medium_close(trio->members[i].vault);
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

void trio_load(struct trio *trio, size_t at, uint32_t batches)
{
    char bytes[40] = {0};
    struct ls_span commands[100];
    for (uint32_t i = 0; i < batches * (TRIO_BATCH / 100); i++) {
        (void)snprintf(bytes, sizeof bytes, "command %u of this load", i);
        for (size_t c = 0; c < 100; c++) {
            commands[c] = (struct ls_span){bytes, sizeof bytes};
        }
        struct trio_outcome outcome = {.status = LS_ERR_UNKNOWN};
        while (outcome.status == LS_ERR_UNKNOWN) { /* a busy machine may cost a leader its role */
            outcome = (struct trio_outcome){0};
            assert_ok(ls_group_execute_many(trio->members[at].group, commands, 100, NULL, trio_done,
                                            &outcome));
            trio_wait(trio, &outcome);
        }
        assert_int_equal(outcome.status, LS_OK);
    }
}

struct ls_group_status trio_status(const struct trio *trio, size_t at)
{
    struct ls_group_status status;
    ls_group_status(trio->members[at].group, &status);
    return status;
}

/* ---- a vault that has enough to do ------------------------------------------------------------
 */

static struct ls_vault busy;
static uint64_t busy_writes;

static enum ls_status busy_write(void *self, const struct ls_group_id *group,
                                 enum ls_vault_file file, uint64_t offset, struct ls_span bytes)
{
    return ++busy_writes % 3 == 0 ? LS_ERR_BUSY : busy.write(self, group, file, offset, bytes);
}

void trio_make_busy(struct ls_vault *vault)
{
    busy = *vault;
    busy_writes = 0;
    vault->write = busy_write;
}

uint64_t trio_busy_writes(void)
{
    return busy_writes;
}
