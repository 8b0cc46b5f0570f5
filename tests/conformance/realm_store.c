/* SPDX-License-Identifier: MIT */
/* See realm.h: stores and vaults whose changes are counted, take their time, and may be the last.
 */
#include "realm.h"

#include <poll.h>

/* Before each change of the disk: it may be the one that does not come any more. */
static void change(struct realm_member *member)
{
    member->changes++;
    if (member->dies_at != 0 && member->changes == member->dies_at) {
        ls_storage_medium_power_cut(member->disk);
        ls_vault_medium_power_cut(member->vault);
        member->dead = true;
    }
}

static enum ls_status vault_write(void *self, const struct ls_group_id *group,
                                  enum ls_vault_file file, uint64_t offset, struct ls_span bytes)
{
    struct realm_member *member = self;
    change(member);
    return member->files.write(member->files.self, group, file, offset, bytes);
}

static enum ls_status vault_read(void *self, const struct ls_group_id *group,
                                 enum ls_vault_file file, uint64_t offset, void *out, size_t bytes,
                                 size_t *got)
{
    struct realm_member *member = self;
    return member->files.read(member->files.self, group, file, offset, out, bytes, got);
}

static enum ls_status vault_truncate(void *self, const struct ls_group_id *group,
                                     enum ls_vault_file file, uint64_t bytes)
{
    struct realm_member *member = self;
    change(member);
    return member->files.truncate(member->files.self, group, file, bytes);
}

static enum ls_status vault_sync(void *self, const struct ls_group_id *group,
                                 enum ls_vault_file file)
{
    struct realm_member *member = self;
    uint64_t *due_us = &member->sync_us[file];
    if (!member->realm->on_disk) {
        *due_us = *due_us == 0 ? member->realm->now_us + member->realm->disk_us : *due_us;
        if (member->held || member->realm->now_us < *due_us) {
            return LS_ERR_BUSY;
        }
        *due_us = 0;
    }
    change(member);
    enum ls_status status = member->files.sync(member->files.self, group, file);
    while (status == LS_ERR_BUSY && member->realm->on_disk) {
        (void)poll(NULL, 0, 1); /* time stands still until the file is synced */
        status = member->files.sync(member->files.self, group, file);
    }
    return status;
}

static enum ls_status vault_replace(void *self, const struct ls_group_id *group,
                                    enum ls_vault_file from, enum ls_vault_file to)
{
    struct realm_member *member = self;
    change(member);
    return member->files.replace(member->files.self, group, from, to);
}

static enum ls_status vault_remove(void *self, const struct ls_group_id *group,
                                   enum ls_vault_file file)
{
    struct realm_member *member = self;
    change(member);
    return member->files.remove(member->files.self, group, file);
}

static void vault_close(void *self)
{
    struct realm_member *member = self;
    member->files.close(member->files.self);
}

static enum ls_status store_stage(void *self, struct ls_storage_group *group,
                                  const struct ls_storage_batch *batch)
{
    struct realm_member *member = self;
    enum ls_status status = member->store.stage(member->store.self, group, batch);
    if (status == LS_OK) {
        member->staged = true;
        member->staged_seq = batch->seq;
    }
    return status;
}

static void store_durable(void *self, void *context, uint64_t seq)
{
    struct realm_member *member = self;
    member->durable_seq = seq;
    member->sink.durable(member->sink.self, context, seq);
}

static void store_failed(void *self, void *context, uint64_t seq, enum ls_status status,
                         const char *text)
{
    struct realm_member *member = self;
    member->durable_seq = UINT64_MAX;
    member->sink.failed(member->sink.self, context, seq, status, text);
}

static void store_attach_sink(void *self, const struct ls_storage_sink *sink)
{
    struct realm_member *member = self;
    const struct ls_storage_sink own = {
        .self = member, .durable = store_durable, .failed = store_failed};
    member->sink = *sink;
    member->store.attach(member->store.self, &own);
}

static enum ls_status store_open_group(void *self, const struct ls_group_id *id, void *context,
                                       struct ls_storage_group **group,
                                       struct ls_storage_state *state, struct ls_error *error)
{
    struct realm_member *member = self;
    return member->store.open_group(member->store.self, id, context, group, state, error);
}

static void store_commit(void *self)
{
    struct realm_member *member = self;
    if (member->staged) {
        change(member);
        member->staged = false;
    }
    member->store.commit(member->store.self);
}

static int store_descriptor(void *self)
{
    struct realm_member *member = self;
    return member->store.descriptor(member->store.self);
}

static void store_collect(void *self)
{
    struct realm_member *member = self;
    member->store.collect(member->store.self);
}

static enum ls_status store_read(void *self, struct ls_storage_group *group, ls_index from,
                                 ls_index last, size_t bytes_max, ls_storage_visit visit, void *arg)
{
    struct realm_member *member = self;
    return member->store.read(member->store.self, group, from, last, bytes_max, visit, arg);
}

static enum ls_status store_prune(void *self, struct ls_storage_group *group, ls_index upto)
{
    struct realm_member *member = self;
    return member->store.prune(member->store.self, group, upto);
}

static void store_close_group(void *self, struct ls_storage_group *group)
{
    struct realm_member *member = self;
    member->store.close_group(member->store.self, group);
}

static void store_close(void *self)
{
    struct realm_member *member = self;
    member->store.close(member->store.self);
}

static struct ls_incarnation store_incarnation(void *self)
{
    struct realm_member *member = self;
    return member->store.incarnation(member->store.self);
}

static void store_counters(void *self, struct ls_storage_counters *out)
{
    struct realm_member *member = self;
    member->store.counters(member->store.self, out);
}

enum ls_status realm_store(struct realm_member *member, struct ls_node_options *options,
                           struct ls_error *error)
{
    const struct ls_storage_rocksdb_options rocksdb = {.size = sizeof rocksdb,
                                                       .directory = member->store_directory};
    enum ls_status status = LS_OK;
    if (member->realm->on_disk) {
        status = ls_storage_rocksdb_open(&rocksdb, &member->store, error);
    } else {
        status = ls_storage_memory_open_on(member->disk, &member->store, error);
    }
    if (status == LS_OK && member->realm->on_disk) {
        status = ls_vault_files_open(member->vault_directory, &member->env, &member->files, error);
    } else {
        ls_vault_memory_open_on(member->vault, &member->files);
    }
    assert_ok(status);
    options->storage = (struct ls_storage){.size = sizeof options->storage,
                                           .self = member,
                                           .attach = store_attach_sink,
                                           .open_group = store_open_group,
                                           .stage = store_stage,
                                           .commit = store_commit,
                                           .descriptor = store_descriptor,
                                           .collect = store_collect,
                                           .read = store_read,
                                           .prune = store_prune,
                                           .close_group = store_close_group,
                                           .close = store_close,
                                           .incarnation = store_incarnation,
                                           .counters = store_counters};
    options->vault = (struct ls_vault){.size = sizeof options->vault,
                                       .self = member,
                                       .write = vault_write,
                                       .read = vault_read,
                                       .truncate = vault_truncate,
                                       .sync = vault_sync,
                                       .replace = vault_replace,
                                       .remove = vault_remove,
                                       .close = vault_close};
    return status;
}
