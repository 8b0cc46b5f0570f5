/* SPDX-License-Identifier: MIT */
/*
 * Staging in the memory store: what the ledger decided becomes operations of the pending commit.
 * Nothing is written to the medium here.
 */
#include "memory_store.h"

static struct ls__commit *pending_commit(struct ls__memory *memory)
{
    if (memory->pending == NULL) {
        struct ls__commit *commit = memory->spare;
        memory->spare = NULL;
        if (commit == NULL) {
            commit = ls__allocate(memory->env, sizeof *commit);
            if (commit == NULL) {
                return NULL;
            }
            *commit = (struct ls__commit){0};
        }
        commit->generation = ++memory->generation;
        memory->pending = commit;
    }
    return memory->pending;
}

/* emit: operations into the pending commit; reserve made the room */

static enum ls_status emit_reserve(void *self, size_t operations, size_t bytes)
{
    struct ls__memory *memory = self;
    struct ls__commit *commit = memory->pending;
    void *ops = commit->ops;
    bool grown = ls__array_grow(memory->env, &ops, &commit->ops_capacity,
                                commit->ops_count + operations, sizeof *commit->ops);
    commit->ops = ops;
    void *arena = commit->arena.bytes;
    grown = grown && ls__array_grow(memory->env, &arena, &commit->arena.capacity,
                                    commit->arena.count + bytes, 1);
    commit->arena.bytes = arena;
    return grown ? LS_OK : LS_ERR_NO_MEMORY;
}

static enum ls_status emit_find(void *self, ls_index index, struct ls__mark *out)
{
    struct ls__memory *memory = self;
    const struct ls_storage_group *group = memory->staging;
    struct ls__record record;
    const char *reason = "";
    enum ls_status status = ls__record_parse(
        group->ledger.chain.group, ls__medium_record(group->place, index), &record, &reason);
    if (status != LS_OK || record.index != index) {
        return LS_ERR_CORRUPT;
    }
    *out = (struct ls__mark){{record.entry.term, index}, record.check};
    return LS_OK;
}

static struct ls__op *next_op(struct ls__memory *memory, enum ls__op_kind kind)
{
    struct ls__commit *commit = memory->pending;
    LS_ASSERT(commit->ops_count < commit->ops_capacity);
    struct ls__op *op = &commit->ops[commit->ops_count++];
    *op = (struct ls__op){
        .kind = kind, .group = memory->staging->place, .offset = commit->arena.count};
    return op;
}

static void add_bytes(struct ls__memory *memory, struct ls__op *op, const void *bytes, size_t count)
{
    bool added = ls__blob_append(memory->env, &memory->pending->arena, bytes, count);
    LS_ASSERT(added);
    op->bytes += count;
}

static void emit_remove(void *self, ls_index first, ls_index last)
{
    struct ls__op *op = next_op(self, LS__OP_REMOVE);
    op->first = first;
    op->last = last;
}

static void emit_append(void *self, ls_index index, const uint8_t header[LS__RECORD_HEADER_BYTES],
                        struct ls_span payload)
{
    struct ls__memory *memory = self;
    struct ls__op *op = next_op(memory, LS__OP_APPEND);
    op->first = index;
    add_bytes(memory, op, header, LS__RECORD_HEADER_BYTES);
    add_bytes(memory, op, payload.data, payload.bytes);
    memory->pending->entries++;
    memory->pending->payload_bytes += payload.bytes;
}

static void emit_put(void *self, enum ls__cell cell, struct ls_span bytes)
{
    struct ls__memory *memory = self;
    struct ls__op *op = next_op(memory, LS__OP_PUT);
    op->cell = cell;
    add_bytes(memory, op, bytes.data, bytes.bytes);
}

static const struct ls__emit emit_template = {NULL,        emit_reserve, emit_find,
                                              emit_remove, emit_append,  emit_put};

/* The group's outcome in the pending commit; NULL: out of memory. */
static struct ls__touched *touch(struct ls__memory *memory, struct ls_storage_group *group)
{
    struct ls__commit *commit = pending_commit(memory);
    if (commit == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < commit->touched_count; i++) {
        if (commit->touched[i].handle == group) {
            return &commit->touched[i];
        }
    }
    void *array = commit->touched;
    bool grown = ls__array_grow(memory->env, &array, &commit->touched_capacity,
                                commit->touched_count + 1, sizeof *commit->touched);
    commit->touched = array;
    if (!grown) {
        return NULL;
    }
    struct ls__touched *touched = &commit->touched[commit->touched_count++];
    *touched =
        (struct ls__touched){.handle = group,
                             .group = group->place,
                             .outcome = {.last = {group->ledger.last, group->ledger.chain.check}}};
    return touched;
}

enum ls_status ls__memory_stage(void *self, struct ls_storage_group *group,
                                const struct ls_storage_batch *batch)
{
    struct ls__memory *memory = self;
    if (memory->failed != LS_OK || memory->medium->dead) {
        return LS_ERR_IO;
    }
    enum ls_status status = ls__ledger_admits(&group->ledger, batch->seq);
    if (status == LS_OK && memory->medium->refusals > 0) {
        memory->medium->refusals--;
        memory->medium->faults++;
        status = LS_ERR_BUSY;
    }
    struct ls__touched *touched = status == LS_OK ? touch(memory, group) : NULL;
    if (touched != NULL) {
        struct ls__emit emit = emit_template;
        emit.self = memory;
        memory->staging = group;
        status = ls__ledger_stage(&group->ledger, batch, memory->pending->generation, &emit,
                                  &touched->outcome);
    } else if (status == LS_OK) {
        status = LS_ERR_NO_MEMORY;
    }
    return ls__ledger_staged(&group->ledger, batch->seq, status);
}

enum ls_status ls__memory_prune(void *self, struct ls_storage_group *group, ls_index upto)
{
    struct ls__memory *memory = self;
    if (memory->failed != LS_OK || memory->medium->dead) {
        return LS_ERR_IO;
    }
    struct ls__touched *touched = touch(memory, group);
    if (touched == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    struct ls__emit emit = emit_template;
    emit.self = memory;
    memory->staging = group;
    return ls__ledger_prune(&group->ledger, upto, &emit, &touched->outcome);
}
