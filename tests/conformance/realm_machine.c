/* SPDX-License-Identifier: MIT */
/* See realm.h: the subject's machines, and the watch over what they apply. */
#include "realm.h"

#include <stdlib.h>

#define NONE 1u /* truth: no command at that index */

static uint64_t *truth_at(struct realm *realm, ls_index index)
{
    if (index >= realm->truth_capacity) {
        size_t capacity = 2 * (size_t)index + 1024;
        realm->truth = realloc(realm->truth, capacity * sizeof *realm->truth);
        assert_non_null(realm->truth);
        memset(realm->truth + realm->truth_capacity, 0,
               (capacity - realm->truth_capacity) * sizeof *realm->truth);
        realm->truth_capacity = capacity;
    }
    return &realm->truth[index];
}

static void witness(struct realm_member *member, const struct ls_command *command)
{
    struct realm *realm = member->realm;
    const uint8_t *bytes = command->data.data;
    uint64_t hash = 14695981039346656037u ^ command->cursor.term;
    for (size_t i = 0; i < command->data.bytes; i++) {
        hash = (hash ^ bytes[i]) * 1099511628211u;
    }
    hash += hash <= NONE ? 2 : 0;
    assert_true(command->cursor.index > member->applied); /* nothing is applied twice */
    for (ls_index i = member->applied + 1; i < command->cursor.index; i++) {
        uint64_t *skipped = truth_at(realm, i);
        assert_true(*skipped <= NONE); /* nothing is left out */
        *skipped = NONE;
    }
    uint64_t *truth = truth_at(realm, command->cursor.index);
    assert_true(*truth == 0 || *truth == hash); /* nothing is changed */
    *truth = hash;
    member->applied = command->cursor.index;
}

static struct ls_span machine_signature(void *self)
{
    const struct ls_machine *machine = &((struct realm_member *)self)->machine;
    return machine->signature(machine->self);
}

static enum ls_status machine_open(void *self, const struct ls_group_id *group,
                                   const struct ls_incarnation *incarnation, ls_index *applied,
                                   struct ls_error *error)
{
    struct realm_member *member = self;
    const struct ls_machine *machine = &member->machine;
    enum ls_status status = LS_OK;
    if (machine->open != NULL) {
        status = machine->open(machine->self, group, incarnation, applied, error);
    }
    member->applied = status == LS_OK ? *applied : 0;
    return status;
}

static enum ls_status machine_apply(void *self, const struct ls_command *command,
                                    struct ls_replies *replies)
{
    struct realm_member *member = self;
    enum ls_status status = member->machine.apply(member->machine.self, command, replies);
    if (status == LS_OK) {
        witness(member, command);
    }
    return status;
}

static enum ls_status machine_apply_batch(void *self, const struct ls_command *commands,
                                          size_t count, struct ls_replies *replies, size_t *applied)
{
    struct realm_member *member = self;
    const struct ls_machine *machine = &member->machine;
    enum ls_status status = machine->apply_batch(machine->self, commands, count, replies, applied);
    for (size_t i = 0; i < *applied; i++) {
        witness(member, &commands[i]);
    }
    return status;
}

static enum ls_status machine_query(void *self, struct ls_span query, struct ls_replies *reply)
{
    const struct ls_machine *machine = &((struct realm_member *)self)->machine;
    return machine->query(machine->self, query, reply);
}

static ls_index machine_durable_applied(void *self)
{
    const struct ls_machine *machine = &((struct realm_member *)self)->machine;
    return machine->durable_applied(machine->self);
}

static void machine_close(void *self)
{
    const struct ls_machine *machine = &((struct realm_member *)self)->machine;
    if (machine->close != NULL) {
        machine->close(machine->self);
    }
}

static enum ls_status machine_freeze(void *self, struct ls_frozen *out)
{
    const struct ls_machine *machine = &((struct realm_member *)self)->machine;
    return machine->freeze(machine->self, out);
}

static enum ls_status machine_iterate(void *self, const struct ls_frozen *frozen,
                                      struct ls_span from, ls_item_visit visit, void *arg)
{
    const struct ls_machine *machine = &((struct realm_member *)self)->machine;
    return machine->iterate(machine->self, frozen, from, visit, arg);
}

static void machine_thaw(void *self, struct ls_frozen *frozen)
{
    const struct ls_machine *machine = &((struct realm_member *)self)->machine;
    machine->thaw(machine->self, frozen);
}

static enum ls_status machine_restore(void *self, struct ls_cursor anchor)
{
    const struct ls_machine *machine = &((struct realm_member *)self)->machine;
    return machine->restore(machine->self, anchor);
}

static enum ls_status machine_restore_item(void *self, const struct ls_item *item)
{
    const struct ls_machine *machine = &((struct realm_member *)self)->machine;
    return machine->restore_item(machine->self, item);
}

static enum ls_status machine_publish(void *self, struct ls_cursor anchor)
{
    struct realm_member *member = self;
    enum ls_status status = member->machine.publish(member->machine.self, anchor);
    if (status == LS_OK) {
        assert_true(anchor.index >= member->applied); /* a state never goes back */
        member->applied = anchor.index;
        member->publishes++;
    }
    return status;
}

static void machine_restore_end(void *self)
{
    const struct ls_machine *machine = &((struct realm_member *)self)->machine;
    machine->restore_end(machine->self);
}

struct ls_machine realm_machine(struct realm_member *member)
{
    const struct ls_machine *inner = &member->machine;
    return (struct ls_machine){
        .size = sizeof *inner,
        .self = member,
        .signature = machine_signature,
        .open = machine_open,
        .apply = inner->apply != NULL ? machine_apply : NULL,
        .apply_batch = inner->apply_batch != NULL ? machine_apply_batch : NULL,
        .query = machine_query,
        .durable_applied = inner->durable_applied != NULL ? machine_durable_applied : NULL,
        .close = machine_close,
        .freeze = inner->freeze != NULL ? machine_freeze : NULL,
        .iterate = inner->iterate != NULL ? machine_iterate : NULL,
        .thaw = inner->thaw != NULL ? machine_thaw : NULL,
        .restore = inner->restore != NULL ? machine_restore : NULL,
        .restore_item = inner->restore_item != NULL ? machine_restore_item : NULL,
        .publish = inner->publish != NULL ? machine_publish : NULL,
        .restore_end = inner->restore_end != NULL ? machine_restore_end : NULL};
}
