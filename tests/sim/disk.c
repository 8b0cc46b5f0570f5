/* SPDX-License-Identifier: MIT */
/*
 * A machine on disk around any machine in memory. Its state is the journal of the commands that it
 * applied; a crash takes the tail that was not synced, or leaves a part of it. After a start the
 * journal is read when the machine is first needed, so the group has to go on exactly behind it.
 */
#include "snapshots.h"

#include <stdlib.h>

/* A query for which the journal is read. */
static const struct ls_span wanted = {"sim-disk", 8};

static struct ls_span disk_signature(void *self)
{
    const struct sim_disk *disk = self;
    return disk->inner.signature(disk->inner.self);
}

ls_index sim_disk_durable(const struct sim_disk *disk)
{
    return disk->synced == 0 ? disk->base_at.index : disk->items[disk->synced - 1].at.index;
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
    disk->base_read = disk->base_at.index == 0;
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

static enum ls_status image_give(struct sim_disk *disk, const struct sim_image *image,
                                 struct ls_cursor anchor)
{
    const struct ls_machine *inner = &disk->inner;
    enum ls_status status = inner->restore(inner->self, anchor);
    for (size_t i = 0; i < image->count && status == LS_OK; i++) {
        struct ls_item item = sim_image_item(image, i);
        status = inner->restore_item(inner->self, &item);
    }
    status = status == LS_OK ? inner->publish(inner->self, anchor) : status;
    if (status != LS_OK) {
        inner->restore_end(inner->self);
    }
    return status;
}

/* The state that it took in, below the journal. */
static enum ls_status base_read(struct sim_disk *disk)
{
    enum ls_status status = LS_OK;
    if (!disk->base_read && disk->base_at.index > disk->kept) {
        status = image_give(disk, &disk->base, disk->base_at);
    }
    disk->base_read = disk->base_read || status == LS_OK;
    return status;
}

/* Whoever needs the state first lends its replies; nobody reads them. */
static enum ls_status journal_read(struct sim_disk *disk, struct ls_replies *replies)
{
    bool any = disk->read < disk->count;
    enum ls_status status = base_read(disk);
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

static void journal_add(struct sim_disk *disk, const struct ls_command *command)
{
    size_t bytes = command->data.bytes;
    disk->items = sim_grow(disk->items, &disk->capacity, disk->count, sizeof *disk->items);
    disk->bytes = sim_grow(disk->bytes, &disk->bytes_capacity, disk->bytes_count + bytes, 1);
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
    if (query.bytes == wanted.bytes && memcmp(query.data, wanted.data, wanted.bytes) == 0) {
        return status; /* of the simulator itself */
    }
    return status == LS_OK ? disk->inner.query(disk->inner.self, query, reply) : status;
}

/* ---- snapshots ---- */

static enum ls_status disk_freeze(void *self, struct ls_frozen *out)
{
    struct sim_disk *disk = self;
    disk->wanted = disk->read < disk->count; /* only a call that replies can read it */
    enum ls_status status = disk->wanted ? LS_ERR_BUSY : base_read(disk);
    return status == LS_OK ? disk->inner.freeze(disk->inner.self, out) : status;
}

static enum ls_status disk_iterate(void *self, const struct ls_frozen *frozen, struct ls_span from,
                                   ls_item_visit visit, void *arg)
{
    struct sim_disk *disk = self;
    return disk->inner.iterate(disk->inner.self, frozen, from, visit, arg);
}

static void disk_thaw(void *self, struct ls_frozen *frozen)
{
    struct sim_disk *disk = self;
    disk->inner.thaw(disk->inner.self, frozen);
}

static enum ls_status disk_restore(void *self, struct ls_cursor anchor)
{
    struct sim_disk *disk = self;
    (void)anchor;
    sim_image_clear(&disk->staged); /* the machine above may still be reading its own */
    return LS_OK;
}

static enum ls_status disk_restore_item(void *self, const struct ls_item *item)
{
    struct sim_disk *disk = self;
    sim_image_add(&disk->staged, item);
    return LS_OK;
}

/* In one step: the new state instead of the old one and its journal. */
static enum ls_status disk_publish(void *self, struct ls_cursor anchor)
{
    struct sim_disk *disk = self;
    struct sim_member *member = disk->member;
    if (member->dying || sim_install_step(member, SIM_INSTALL_PUBLISHING, false)) {
        return LS_ERR_IO;
    }
    enum ls_status status = image_give(disk, &disk->staged, anchor);
    if (status != LS_OK) {
        return status;
    }
    struct sim_image old = disk->base;
    disk->base = disk->staged;
    disk->staged = old;
    disk->base_at = anchor;
    disk->base_read = true;
    disk->count = disk->synced = disk->read = disk->bytes_count = 0;
    sim_install_published(member, anchor);
    (void)sim_install_step(member, SIM_INSTALL_PUBLISHING, true);
    return LS_OK;
}

static void disk_restore_end(void *self)
{
    struct sim_disk *disk = self;
    sim_image_clear(&disk->staged);
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
    disk->member = &side->world->members[side->at];
    if (made.freeze != NULL) {
        machine->freeze = disk_freeze;
        machine->iterate = disk_iterate;
        machine->thaw = disk_thaw;
        machine->restore = disk_restore;
        machine->restore_item = disk_restore_item;
        machine->publish = disk_publish;
        machine->restore_end = disk_restore_end;
    }
}

static void on_read(void *arg, const struct ls_outcome *outcome)
{
    sim_mix(arg, (uint64_t)outcome->status);
}

void sim_disk_turn(struct sim_disk *disk)
{
    struct sim_member *member = disk->member;
    if (disk->wanted && member->group != NULL) {
        disk->wanted = false; /* if it is refused, the next freeze asks again */
        enum ls_status status =
            ls_group_query(member->group, LS_WEAK, wanted, NULL, on_read, member->world);
        sim_mix(member->world, (uint64_t)status);
        sim_member_after(member);
    }
}

bool sim_disk_ready(const struct world *world, uint32_t at)
{
    const struct sim_disk *disk = &world->sync->sides[at].disk;
    return !world->sync->on_disk || (disk->read == disk->count && disk->base_read);
}

void sim_disk_free(struct sim_disk *disk)
{
    free(disk->items);
    free(disk->bytes);
    sim_image_free(&disk->base);
    sim_image_free(&disk->staged);
}
