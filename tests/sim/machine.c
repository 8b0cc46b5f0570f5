/* SPDX-License-Identifier: MIT */
/*
 * Between the node and the workload's machine: knows which call each command is of, and tells the
 * checks what every member applied, where, and what it replied. The number of the call travels in
 * front of each command and query; the workload's machine never sees it.
 */
#include "snapshots.h"

#include <stdlib.h>

uint64_t sim_hash(struct ls_span bytes)
{
    return sim_digest(1, bytes.data, bytes.bytes) | 1u; /* 0 means: not known */
}

/* The number in front, which `data` then lacks; 0: none. */
static uint64_t prefix_take(struct ls_span *data)
{
    uint64_t id = 0;
    if (data->bytes >= SIM_PREFIX_BYTES) {
        (void)memcpy(&id, data->data, SIM_PREFIX_BYTES);
        data->data = (const uint8_t *)data->data + SIM_PREFIX_BYTES;
        data->bytes -= SIM_PREFIX_BYTES;
    }
    return id;
}

/* One that is busy is asked again. */
static void note_busy(struct sim_machine *machine, enum ls_status status)
{
    if (status == LS_ERR_BUSY) {
        sim_check_refused(machine->member);
    }
}

/* `given` as the node had it. */
static void note_applied(struct sim_machine *machine, const struct ls_command *given,
                         const struct ls_replies *replies, size_t at)
{
    struct ls_span data = given->data, reply = {NULL, 0};
    uint64_t id = prefix_take(&data);
    bool known = ls_reply_get(replies, at, &reply) == LS_OK;
    uint64_t command = sim_hash(data);
    const uint64_t link[] = {given->cursor.index, given->cursor.term, id, command};
    machine->chain = sim_digest(machine->chain, link, sizeof link) | 1u;
    if (given->cursor.index <= machine->applied) {
        sim_fail(machine->member->world, "index %llu applied after %llu",
                 (unsigned long long)given->cursor.index, (unsigned long long)machine->applied);
    }
    machine->applied = given->cursor.index;
    sim_check_applied(machine, given->cursor.index, id, command, known ? sim_hash(reply) : 0);
}

static struct ls_span machine_signature(void *self)
{
    struct sim_machine *machine = self;
    return machine->inner.signature(machine->inner.self);
}

static enum ls_status machine_open(void *self, const struct ls_group_id *group,
                                   const struct ls_incarnation *incarnation, ls_index *applied,
                                   struct ls_error *error)
{
    struct sim_machine *machine = self;
    *applied = 0;
    enum ls_status status = LS_OK;
    if (machine->inner.open != NULL) {
        status = machine->inner.open(machine->inner.self, group, incarnation, applied, error);
    }
    if (status == LS_OK && *applied > 0) { /* it goes on from there */
        machine->applied = sim_check_last(machine->member->world, *applied, &machine->chain);
    }
    return status;
}

static void on_inside(void *arg, const struct ls_outcome *outcome)
{
    (void)arg;
    (void)outcome;
}

/* A machine must not call its group, and is told so (A4). */
static void call_inside(struct sim_machine *machine)
{
    struct sim_member *member = machine->member;
    if (member->group == NULL || machine->applied % 16 != 0) {
        return;
    }
    enum ls_status status = ls_group_read_barrier(member->group, NULL, on_inside, NULL);
    if (status != LS_ERR_REENTRANT) {
        sim_fail(member->world, "%s is called from inside of its machine, and says: %s",
                 member->name, ls_status_text(status));
    }
}

static enum ls_status machine_apply(void *self, const struct ls_command *command,
                                    struct ls_replies *replies)
{
    struct sim_machine *machine = self;
    struct ls_command inner = *command;
    size_t count = 1;
    enum ls_status status = sim_slow_apply(machine->member, &count);
    if (status != LS_OK) {
        return status;
    }
    (void)prefix_take(&inner.data);
    call_inside(machine);
    status = machine->inner.apply(machine->inner.self, &inner, replies);
    if (status == LS_OK) {
        note_applied(machine, command, replies, 0);
        sim_check_state(machine);
    }
    note_busy(machine, status);
    return status;
}

static enum ls_status machine_apply_batch(void *self, const struct ls_command *commands,
                                          size_t count, struct ls_replies *replies, size_t *applied)
{
    struct sim_machine *machine = self;
    *applied = 0;
    enum ls_status status = sim_slow_apply(machine->member, &count);
    if (status != LS_OK) {
        return status;
    }
    if (count > machine->capacity) {
        machine->capacity = 2 * count;
        machine->commands =
            realloc(machine->commands, machine->capacity * sizeof *machine->commands);
        LS_ASSERT(machine->commands != NULL);
    }
    for (size_t i = 0; i < count; i++) {
        machine->commands[i] = commands[i];
        (void)prefix_take(&machine->commands[i].data);
    }
    call_inside(machine);
    status =
        machine->inner.apply_batch(machine->inner.self, machine->commands, count, replies, applied);
    for (size_t i = 0; i < *applied && i < count; i++) {
        note_applied(machine, &commands[i], replies, i);
    }
    if (*applied > 0) {
        sim_check_state(machine);
    }
    note_busy(machine, status);
    return status;
}

static enum ls_status machine_query(void *self, struct ls_span query, struct ls_replies *reply)
{
    struct sim_machine *machine = self;
    struct world *world = machine->member->world;
    uint64_t id = prefix_take(&query);
    if (id == 0 || id > world->ops_made || sim_op_writes(world->ops[id])) {
        sim_fail(world, "%s is asked what nobody asked", machine->member->name);
        return LS_ERR_INVALID;
    }
    world->ops[id]->read_at = machine->applied;
    call_inside(machine);
    return machine->inner.query(machine->inner.self, query, reply);
}

static ls_index machine_durable(void *self)
{
    struct sim_machine *machine = self;
    return machine->inner.durable_applied(machine->inner.self);
}

/* ---- snapshots ---- */

static enum ls_status machine_freeze(void *self, struct ls_frozen *out)
{
    struct sim_machine *machine = self;
    enum ls_status status = machine->inner.freeze(machine->inner.self, out);
    if (status == LS_OK) {
        sim_check_digest(machine);
    }
    return status;
}

static enum ls_status machine_iterate(void *self, const struct ls_frozen *frozen,
                                      struct ls_span from, ls_item_visit visit, void *arg)
{
    struct sim_machine *machine = self;
    return machine->inner.iterate(machine->inner.self, frozen, from, visit, arg);
}

static void machine_thaw(void *self, struct ls_frozen *frozen)
{
    struct sim_machine *machine = self;
    machine->inner.thaw(machine->inner.self, frozen);
}

static enum ls_status machine_restore(void *self, struct ls_cursor anchor)
{
    struct sim_machine *machine = self;
    return machine->inner.restore(machine->inner.self, anchor);
}

static enum ls_status machine_restore_item(void *self, const struct ls_item *item)
{
    struct sim_machine *machine = self;
    return machine->inner.restore_item(machine->inner.self, item);
}

static enum ls_status machine_publish(void *self, struct ls_cursor anchor)
{
    struct sim_machine *machine = self;
    struct sim_member *member = machine->member;
    bool on_disk = machine->inner.durable_applied != NULL && member->vault.install.runs &&
                   !member->world->sync->on_disk; /* else that is what makes it durable */
    if (member->dying || (on_disk && sim_install_step(member, SIM_INSTALL_PUBLISHING, false))) {
        return LS_ERR_IO; /* without power nothing becomes durable */
    }
    enum ls_status status = machine->inner.publish(machine->inner.self, anchor);
    if (status == LS_OK) {
        sim_check_published(machine, anchor);
        if (on_disk) {
            sim_install_published(member, anchor);
            (void)sim_install_step(member, SIM_INSTALL_PUBLISHING, true);
        }
    }
    return status;
}

static void machine_restore_end(void *self)
{
    struct sim_machine *machine = self;
    machine->inner.restore_end(machine->inner.self);
}

void sim_machine_close(struct sim_machine *machine)
{
    if (machine->inner.close != NULL) {
        machine->inner.close(machine->inner.self);
    }
    free(machine->commands);
    machine->inner = (struct ls_machine){.size = 0};
    machine->commands = NULL;
    machine->capacity = 0;
}

static void machine_close(void *self)
{
    sim_machine_close(self);
}

enum ls_status sim_machine_make(struct sim_member *member, struct ls_machine *out)
{
    const struct ls_sim_workload *workload = member->world->workload;
    struct sim_machine *machine = &member->machine;
    *machine = (struct sim_machine){.member = member, .chain = member->world->options.seed | 1u};
    enum ls_status status = workload->machine(workload->self, member->at, &machine->inner);
    const struct ls_machine *inner = &machine->inner;
    if (status != LS_OK) {
        machine->inner = (struct ls_machine){.size = 0};
        return status;
    }
    *out = (struct ls_machine){
        .size = sizeof *out,
        .self = machine,
        .signature = inner->signature != NULL ? machine_signature : NULL,
        .open = machine_open,
        .apply = inner->apply != NULL ? machine_apply : NULL,
        .apply_batch = inner->apply_batch != NULL ? machine_apply_batch : NULL,
        .query = inner->query != NULL ? machine_query : NULL,
        .durable_applied = inner->durable_applied != NULL ? machine_durable : NULL,
        .close = machine_close};
    if (inner->freeze != NULL && sim_sync_snapshots(member->world)) {
        out->freeze = machine_freeze;
        out->iterate = machine_iterate;
        out->thaw = machine_thaw;
        out->restore = machine_restore;
        out->restore_item = machine_restore_item;
        out->publish = machine_publish;
        out->restore_end = machine_restore_end;
    }
    return LS_OK;
}
