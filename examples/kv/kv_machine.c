/* SPDX-License-Identifier: MIT */
/*
 * The machine. A batch of entries is one batch of the store, committed with the index of its last
 * entry. Replies are RESP3 values; the server that answers the client turns them into RESP2 where
 * it has to. An entry that this program did not write is answered with an error, on all members
 * alike.
 */
#include "kv_machine.h"

#include "kv_limits.h"
#include "text.h"

enum { FORESEEN = 8 }; /* commands */

/* Names the language of entries and their meaning: a change of either needs a new number. */
static const char signature_text[] = "lockstep-kv/2";

static struct ls_span machine_signature(void *self)
{
    (void)self;
    return (struct ls_span){signature_text, sizeof signature_text - 1};
}

static enum ls_status machine_open(void *self, const struct ls_group_id *group,
                                   const struct ls_incarnation *incarnation, ls_index *applied,
                                   struct ls_error *error)
{
    struct kv_machine *machine = self;
    enum ls_status status =
        machine->store.open(machine->store.self, group, incarnation, applied, error);
    if (status == LS_OK) {
        machine->applied = *applied;
    }
    return status;
}

static enum ls_status entry_apply(struct kv_machine *machine, const struct ls_command *command)
{
    kv_buffer_reset(&machine->reply, KV_READ_BYTES);
    struct resp_out out = {&machine->reply, 3};
    enum ls_status status = kv_entry_decode(&machine->entry, command->data);
    if (status == LS_ERR_PROTOCOL) {
        resp_error(&out, "ERR the log entry is not a command of lockstep-kv");
        return LS_OK;
    }
    if (status == LS_OK) {
        struct kv_call call = {machine->entry.args, machine->entry.argc, &machine->store, &out};
        if (kv_command_keys_fit(machine->entry.command, call.args, call.argc)) {
            status = machine->entry.command->run(&call);
        } else {
            kv_reply_key_too_long(&out);
        }
    }
    return status == LS_OK && machine->reply.failed ? LS_ERR_NO_MEMORY : status;
}

/* Where the keys of coming commands lie is fetched while the present one runs: half of the time of
 * a SET would be waiting for memory. `hashes`: of the commands from `at` on, as far as known. */
static void batch_foresee(const struct kv_store *store, const struct ls_command *commands,
                          size_t count, size_t at, uint64_t hashes[FORESEEN])
{
    if (at + FORESEEN < count) {
        uint64_t hash = kv_key_hash(kv_entry_key(commands[at + FORESEEN].data));
        hashes[at % FORESEEN] = hash; /* the place of at + FORESEEN, too */
        store->prefetch(store->self, hash, false);
    }
    if (at >= FORESEEN / 2 && at + FORESEEN / 2 < count) {
        store->prefetch(store->self, hashes[(at + FORESEEN / 2) % FORESEEN], true);
    }
}

static enum ls_status machine_apply_batch(void *self, const struct ls_command *commands,
                                          size_t count, struct ls_replies *replies, size_t *applied)
{
    struct kv_machine *machine = self;
    *applied = 0;
    if (machine->failed != LS_OK) {
        return machine->failed;
    }
    if (count == 0) {
        return LS_OK;
    }
    const struct kv_store *store = &machine->store;
    enum ls_status status = store->begin(store->self);
    if (status == LS_ERR_BUSY) {
        return status;
    }
    uint64_t hashes[FORESEEN];
    size_t done = 0;
    while (status == LS_OK && done < count && (done == 0 || !store->full(store->self))) {
        batch_foresee(store, commands, count, done, hashes);
        status = entry_apply(machine, &commands[done]);
        if (status == LS_OK && replies != NULL) {
            struct ls_span reply = kv_buffer_span(&machine->reply);
            status = ls_reply_set(replies, done, reply.data, reply.bytes);
        }
        done++;
    }
    if (status != LS_OK) {
        store->rollback(store->self);
        machine->failed = status;
        return status;
    }
    status = store->commit(store->self, commands[done - 1].cursor.index);
    if (status != LS_OK) {
        machine->failed = status;
        return status;
    }
    *applied = done;
    machine->applied = commands[done - 1].cursor.index;
    return LS_OK;
}

enum ls_status kv_machine_read(struct kv_machine *machine, const struct kv_command *command,
                               const struct ls_span *args, size_t argc, struct resp_out *out)
{
    if (machine->failed != LS_OK) {
        return machine->failed;
    }
    struct kv_call call = {args, argc, &machine->store, out};
    return command->run(&call);
}

/* A query is a read command as an array of bulk strings; its reply is RESP3. */
static enum ls_status machine_query(void *self, struct ls_span query, struct ls_replies *reply)
{
    struct kv_machine *machine = self;
    struct resp_parser parser;
    struct kv_buffer buffer = {.limit = KV_OUTPUT_BYTES_MAX};
    struct resp_out out = {&buffer, 3};
    size_t consumed = 0;
    resp_parser_init(&parser, KV_VALUE_BYTES_MAX, KV_COMMAND_BYTES_MAX);
    enum ls_status status = LS_ERR_INVALID;
    if (resp_parse(&parser, query, &consumed) == RESP_COMMAND && parser.argc > 0) {
        const struct kv_command *command = kv_command_find(parser.args[0]);
        if (command != NULL && (command->flags & KV_READ) != 0 &&
            kv_command_arity_fits(command, parser.argc)) {
            status = kv_machine_read(machine, command, parser.args, parser.argc, &out);
        }
    }
    if (status == LS_OK) {
        struct ls_span bytes = kv_buffer_span(&buffer);
        status = buffer.failed ? LS_ERR_LIMIT : ls_reply_set(reply, 0, bytes.data, bytes.bytes);
    }
    kv_buffer_free(&buffer);
    resp_parser_free(&parser);
    return status;
}

static ls_index machine_durable(void *self)
{
    struct kv_machine *machine = self;
    return machine->store.durable(machine->store.self);
}

/* ---- snapshots ---- */

static enum ls_status machine_freeze(void *self, struct ls_frozen *out)
{
    struct kv_machine *machine = self;
    return machine->failed != LS_OK ? machine->failed
                                    : machine->store.freeze(machine->store.self, out);
}

static enum ls_status machine_iterate(void *self, const struct ls_frozen *frozen,
                                      struct ls_span from, ls_item_visit visit, void *arg)
{
    struct kv_machine *machine = self;
    return machine->store.iterate(machine->store.self, frozen, from, visit, arg);
}

static void machine_thaw(void *self, struct ls_frozen *frozen)
{
    struct kv_machine *machine = self;
    machine->store.thaw(machine->store.self, frozen);
}

static enum ls_status machine_restore(void *self, struct ls_cursor anchor)
{
    struct kv_machine *machine = self;
    return machine->failed != LS_OK ? machine->failed
                                    : machine->store.restore(machine->store.self, anchor);
}

static enum ls_status machine_restore_item(void *self, const struct ls_item *item)
{
    struct kv_machine *machine = self;
    return machine->store.restore_item(machine->store.self, item);
}

static enum ls_status machine_publish(void *self, struct ls_cursor anchor)
{
    struct kv_machine *machine = self;
    enum ls_status status = machine->store.publish(machine->store.self, anchor);
    if (status == LS_OK) {
        machine->applied = anchor.index;
    }
    return status;
}

static void machine_restore_end(void *self)
{
    struct kv_machine *machine = self;
    machine->store.restore_end(machine->store.self);
}

static enum ls_status machine_restore_sync(void *self)
{
    struct kv_machine *machine = self;
    return machine->store.restore_sync(machine->store.self);
}

static void machine_close(void *self)
{
    struct kv_machine *machine = self;
    if (machine->store.close != NULL) {
        machine->store.close(machine->store.self);
    }
    kv_entry_free(&machine->entry);
    kv_buffer_free(&machine->reply);
    *machine = (struct kv_machine){.failed = LS_ERR_CLOSED};
}

const char *kv_machine_trouble(const struct kv_machine *machine)
{
    return machine->store.trouble == NULL ? NULL : machine->store.trouble(machine->store.self);
}

void kv_machine_init(struct kv_machine *machine, const struct kv_store *store)
{
    *machine = (struct kv_machine){.store = *store, .failed = LS_OK};
}

struct ls_machine kv_machine_port(struct kv_machine *machine)
{
    return (struct ls_machine){
        .size = sizeof(struct ls_machine),
        .self = machine,
        .signature = machine_signature,
        .open = machine_open,
        .apply_batch = machine_apply_batch,
        .query = machine_query,
        .durable_applied = machine->store.durable == NULL ? NULL : machine_durable,
        .freeze = machine_freeze,
        .iterate = machine_iterate,
        .thaw = machine_thaw,
        .restore = machine_restore,
        .restore_item = machine_restore_item,
        .publish = machine_publish,
        .restore_end = machine_restore_end,
        .restore_sync = machine->store.restore_sync == NULL ? NULL : machine_restore_sync,
        .close = machine_close};
}
