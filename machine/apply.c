/* SPDX-License-Identifier: MIT */
/*
 * Committed and locally durable entries (P12) into the user's machine, in slices, so that the loop
 * keeps turning; their replies to whoever proposed them.
 */
#include "runtime.h"

#include <string.h>

/* ---- replies ---- */

enum ls_status ls__replies_reset(struct ls_replies *replies, size_t count)
{
    if (ls__block_grow(replies->env, &replies->slots, &replies->slots_capacity, count,
                       sizeof *replies->slots) != LS_OK) {
        return LS_ERR_NO_MEMORY;
    }
    if (count > 0) {
        (void)memset(replies->slots, 0, count * sizeof *replies->slots);
    }
    replies->count = count;
    replies->bytes = 0;
    return LS_OK;
}

enum ls_status ls__replies_put(struct ls_replies *replies, size_t at, struct ls_span reply)
{
    LS_ASSERT(at < replies->count);
    if (ls__block_grow(replies->env, &replies->data, &replies->capacity,
                       replies->bytes + reply.bytes, 1) != LS_OK) {
        return LS_ERR_NO_MEMORY;
    }
    if (reply.bytes > 0) {
        (void)memcpy(replies->data + replies->bytes, reply.data, reply.bytes);
    }
    replies->slots[at] = (struct ls__reply_at){.offset = replies->bytes, .bytes = reply.bytes};
    replies->bytes += reply.bytes;
    return LS_OK;
}

enum ls_status ls_reply_set(struct ls_replies *replies, size_t at, const void *data, size_t bytes)
{
    if (at >= replies->count) {
        return LS_ERR_INVALID;
    }
    if (ls__replies_put(replies, at, (struct ls_span){data, bytes}) != LS_OK) {
        replies->slots[at] = (struct ls__reply_at){.lost = true};
    }
    return LS_OK;
}

struct ls_span ls__replies_at(const struct ls_replies *replies, size_t at)
{
    LS_ASSERT(at < replies->count);
    const struct ls__reply_at *slot = &replies->slots[at];
    return (struct ls_span){slot->bytes > 0 ? replies->data + slot->offset : NULL, slot->bytes};
}

enum ls_status ls_reply_get(const struct ls_replies *replies, size_t at, struct ls_span *reply)
{
    if (at >= replies->count) {
        return LS_ERR_INVALID;
    }
    *reply = ls__replies_at(replies, at);
    return replies->slots[at].lost ? LS_ERR_NO_MEMORY : LS_OK;
}

void ls__replies_free(struct ls_replies *replies)
{
    const struct ls_env *env = replies->env;
    if (replies->data != NULL) {
        (void)ls__allocate(env, replies->data, 0);
    }
    if (replies->slots != NULL) {
        (void)ls__allocate(env, replies->slots, 0);
    }
    *replies = (struct ls_replies){.env = env};
}

/* ---- a batch ---- */

/* Commands of a run of entries; what is not for the machine is only counted. */
struct batch {
    struct ls_group *group;
    ls_index last; /* last entry looked at */
    size_t count;  /* commands */
    size_t bytes;  /* copied, when read from storage */
    bool marked;   /* the last entry is a marker: the machine must stand exactly there */
    uint8_t marker[LS_SYNC_MARKER_BYTES_MAX];
    size_t marker_bytes;
};

static void batch_add(struct batch *batch, ls_index index, const struct ls_entry *entry,
                      const void *data)
{
    batch->last = index;
    if (entry->kind == LS_ENTRY_COMMAND) {
        batch->group->node->commands[batch->count++] =
            (struct ls_command){.cursor = {entry->term, index}, .data = {data, entry->data.bytes}};
    }
    if (entry->kind == LS_ENTRY_MARKER && entry->data.bytes <= sizeof batch->marker) {
        batch->marked = true;
        batch->marker_bytes = entry->data.bytes;
        if (entry->data.bytes > 0) {
            (void)memcpy(batch->marker, data, entry->data.bytes);
        }
    }
}

static bool batch_visit(void *arg, ls_index index, const struct ls_entry *entry)
{
    struct batch *batch = arg;
    struct ls_node *node = batch->group->node;
    size_t need = batch->bytes + entry->data.bytes;
    /* commands point into the block: it must not move once the first is in */
    size_t room =
        batch->bytes == 0 ? LS__APPLY_READ_BYTES + entry->data.bytes : node->read_capacity;
    if (need > room ||
        (batch->bytes == 0 &&
         ls__block_grow(&node->env, &node->read_block, &node->read_capacity, room, 1) != LS_OK)) {
        return false;
    }
    if (entry->data.bytes > 0) {
        (void)memcpy(node->read_block + batch->bytes, entry->data.data, entry->data.bytes);
    }
    batch_add(batch, index, entry, node->read_block + batch->bytes);
    batch->bytes = need;
    return !batch->marked && batch->last - batch->group->applied < LS_APPLY_ENTRIES_PER_TURN;
}

static enum ls_status batch_collect(struct batch *batch, ls_index until)
{
    struct ls_group *group = batch->group;
    ls_index index = group->applied + 1;
    if (ls__cache_at(&group->cache, index) == NULL) {
        struct ls_node *node = group->node;
        return node->storage.read(node->storage.self, group->store, index, until,
                                  LS__APPLY_READ_BYTES, batch_visit, batch);
    }
    for (; index <= until && !batch->marked; index++) {
        const struct ls_entry *entry = ls__cache_at(&group->cache, index);
        if (entry == NULL) {
            break;
        }
        batch_add(batch, index, entry, entry->data.data);
    }
    return LS_OK;
}

/* Calls the machine until all commands are in, or it wants a pause, or fails. */
static enum ls_status batch_apply(struct ls_group *group, size_t count, size_t *done)
{
    struct ls_node *node = group->node;
    const struct ls_machine *machine = &group->machine;
    *done = 0;
    while (*done < count) {
        const struct ls_command *commands = &node->commands[*done];
        size_t offered = machine->apply_batch != NULL ? count - *done : 1;
        if (ls__replies_reset(&node->replies, offered) != LS_OK) {
            return LS_ERR_BUSY;
        }
        uint64_t start = ls__now(node);
        size_t applied = 0;
        enum ls_status status = LS_OK;
        node->in_machine = true;
        if (machine->apply_batch != NULL) {
            status =
                machine->apply_batch(machine->self, commands, offered, &node->replies, &applied);
        } else {
            status = machine->apply(machine->self, commands, &node->replies);
            applied = status == LS_OK ? 1 : 0;
        }
        node->in_machine = false;
        uint64_t took = ls__now(node) - start;
        group->apply_us_max = took > group->apply_us_max ? took : group->apply_us_max;
        if (applied > offered) { /* then nothing can be said of its state */
            return LS_ERR_INVALID;
        }
        for (size_t i = 0; i < applied; i++) {
            group->applied = commands[i].cursor.index;
            ls__calls_applied(group, commands[i].cursor, &node->replies, i);
        }
        group->applied_commands += applied;
        *done += applied;
        if (status != LS_OK || applied == 0) {
            return status != LS_OK ? status : LS_ERR_BUSY;
        }
    }
    return LS_OK;
}

static void apply_pause(struct ls_group *group)
{
    group->apply_paused = true;
    ls__group_retry(group, LS__RETRY_US);
}

static void marker_pass(struct ls_group *group, const struct batch *batch)
{
    const struct ls_cursor at = {ls_core_term_at(group->core, batch->last), batch->last};
    ls_supervisor_marker(group->supervisor, at,
                         (struct ls_span){batch->marker, batch->marker_bytes});
    group->sync_deadline_us = 0; /* to be polled */
}

void ls__apply(struct ls_group *group)
{
    ls_index until =
        group->commit < group->durable || LS_MUTANT(P12) ? group->commit : group->durable;
    if (group->applied >= until) {
        return;
    }
    if (until - group->applied > LS_APPLY_ENTRIES_PER_TURN) {
        until = group->applied + LS_APPLY_ENTRIES_PER_TURN;
    }
    struct batch batch = {.group = group, .last = group->applied};
    enum ls_status status = batch_collect(&batch, until);
    if (status == LS_ERR_NO_MEMORY) {
        apply_pause(group);
        return;
    }
    if (status != LS_OK) {
        ls__group_halt(group, status, "the log cannot be read back");
        return;
    }
    if (batch.last == group->applied) {
        apply_pause(group); /* no memory for the first entry */
        return;
    }
    size_t done = 0;
    status = batch_apply(group, batch.count, &done);
    if (status == LS_OK) {
        group->applied = batch.last;
        if (batch.marked) {
            marker_pass(group, &batch);
        }
    } else if (status == LS_ERR_BUSY) {
        apply_pause(group);
    } else {
        ls__group_halt(group, status, "the machine failed to apply a command");
    }
}
