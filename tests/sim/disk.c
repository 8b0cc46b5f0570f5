/* SPDX-License-Identifier: MIT */
/*
 * A machine on disk around any machine in memory. Its state is the journal of the commands that it
 * applied; a crash takes the tail that was not synced, or leaves a part of it. After a start the
 * journal is read when the machine is first needed, so the group has to go on exactly behind it.
 */
#include "sync.h"

#include <stdlib.h>

static struct ls_span disk_signature(void *self)
{
    const struct sim_disk *disk = self;
    return disk->inner.signature(disk->inner.self);
}

ls_index sim_disk_durable(const struct sim_disk *disk)
{
    return disk->synced == 0 ? 0 : disk->items[disk->synced - 1].at.index;
}

static ls_index disk_durable(void *self)
{
    return sim_disk_durable(self);
}

static enum ls_status disk_open(void *self, const struct ls_group_id *group,
                                const struct ls_incarnation *incarnation, ls_index *applied,
                                struct ls_error *error)
{
    struct sim_disk *disk = self;
    enum ls_status status = disk->inner.open != NULL ? disk->inner.open(disk->inner.self, group,
                                                                        incarnation, applied, error)
                                                     : LS_OK;
    if (status != LS_OK) {
        return status;
    }
    disk->count = (size_t)sim_random_in(&disk->random, disk->synced, disk->count);
    disk->synced = disk->count;
    disk->bytes_count =
        disk->count == 0 ? 0
                         : disk->items[disk->count - 1].offset + disk->items[disk->count - 1].bytes;
    disk->read = 0;
    disk->kept = *applied;
    *applied = disk_durable(disk) > disk->kept ? disk_durable(disk) : disk->kept;
    return LS_OK;
}

/* ---- after a start ---- */

static enum ls_status inner_apply(struct sim_disk *disk, const struct ls_command *command,
                                  struct ls_replies *replies)
{
    const struct ls_machine *inner = &disk->inner;
    (void)ls_reply_set(replies, 0, NULL, 0);
    if (inner->apply != NULL) {
        return inner->apply(inner->self, command, replies);
    }
    size_t applied = 0;
    enum ls_status status = inner->apply_batch(inner->self, command, 1, replies, &applied);
    return status == LS_OK && applied == 0 ? LS_ERR_BUSY : status;
}

/* Whoever needs the state first lends its replies; nobody reads them. */
static enum ls_status journal_read(struct sim_disk *disk, struct ls_replies *replies)
{
    bool any = disk->read < disk->count;
    enum ls_status status = LS_OK;
    for (; disk->read < disk->count && status == LS_OK; disk->read += status == LS_OK ? 1 : 0) {
        const struct ls_command command = {
            .cursor = disk->items[disk->read].at,
            .data = {disk->bytes + disk->items[disk->read].offset, disk->items[disk->read].bytes}};
        if (command.cursor.index > disk->kept) {
            (void)ls_reply_set(replies, 0, NULL, 0); /* a machine need not set one */
            status = inner_apply(disk, &command, replies);
        }
    }
    if (any) {
        (void)ls_reply_set(replies, 0, NULL, 0);
    }
    return status;
}

/* ---- commands and queries ---- */

static void *grow(void *block, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity) {
        return block;
    }
    *capacity = need < 512 ? 1024 : need * 2;
    void *grown = realloc(block, *capacity * size);
    LS_ASSERT(grown != NULL);
    return grown;
}

static void journal_add(struct sim_disk *disk, const struct ls_command *command)
{
    size_t bytes = command->data.bytes;
    disk->items = grow(disk->items, &disk->capacity, disk->count + 1, sizeof *disk->items);
    disk->bytes = grow(disk->bytes, &disk->bytes_capacity, disk->bytes_count + bytes + 1, 1);
    if (bytes > 0) {
        (void)memcpy(disk->bytes + disk->bytes_count, command->data.data, bytes);
    }
    disk->items[disk->count].at = command->cursor;
    disk->items[disk->count].offset = disk->bytes_count;
    disk->items[disk->count].bytes = bytes;
    disk->bytes_count += bytes;
    disk->read = ++disk->count;
    if (disk->count - disk->synced >= disk->every) {
        disk->synced = disk->count;
    }
}

static enum ls_status disk_apply(void *self, const struct ls_command *command,
                                 struct ls_replies *replies)
{
    struct sim_disk *disk = self;
    enum ls_status status = journal_read(disk, replies);
    if (status == LS_OK) {
        status = disk->inner.apply(disk->inner.self, command, replies);
    }
    if (status == LS_OK) {
        journal_add(disk, command);
    }
    return status;
}

static enum ls_status disk_apply_batch(void *self, const struct ls_command *commands, size_t count,
                                       struct ls_replies *replies, size_t *applied)
{
    struct sim_disk *disk = self;
    enum ls_status status = journal_read(disk, replies);
    if (status != LS_OK) {
        *applied = 0;
        return status;
    }
    status = disk->inner.apply_batch(disk->inner.self, commands, count, replies, applied);
    for (size_t i = 0; i < *applied && i < count; i++) {
        journal_add(disk, &commands[i]);
    }
    return status;
}

static enum ls_status disk_query(void *self, struct ls_span query, struct ls_replies *reply)
{
    struct sim_disk *disk = self;
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = journal_read(disk, reply);
    }
    return status == LS_OK ? disk->inner.query(disk->inner.self, query, reply) : status;
}

static void disk_close(void *self)
{
    struct sim_disk *disk = self;
    if (disk->inner.close != NULL) {
        disk->inner.close(disk->inner.self);
    }
}

void sim_disk_wrap(struct sim_side *side, struct ls_machine *machine)
{
    struct sim_disk *disk = &side->disk;
    disk->every = side->world->sync->every;
    disk->random.state = sim_random_next(&side->world->sync->random);
    disk->inner = *machine;
    const struct ls_machine made = *machine;
    *machine =
        (struct ls_machine){.size = sizeof *machine,
                            .self = disk,
                            .signature = disk_signature,
                            .open = disk_open,
                            .apply = made.apply != NULL ? disk_apply : NULL,
                            .apply_batch = made.apply_batch != NULL ? disk_apply_batch : NULL,
                            .query = disk_query,
                            .durable_applied = disk_durable,
                            .close = disk_close};
}

bool sim_disk_ready(const struct world *world, uint32_t at)
{
    const struct sim_disk *disk = &world->sync->sides[at].disk;
    return !world->sync->on_disk || disk->read == disk->count;
}

void sim_disk_free(struct sim_disk *disk)
{
    free(disk->items);
    free(disk->bytes);
}
