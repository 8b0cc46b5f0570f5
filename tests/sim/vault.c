/* SPDX-License-Identifier: MIT */
/*
 * A member's vault: the one in memory of storage/, and what a disk does to it. A sync takes as long
 * as those of the member's log, or hangs with them; calls fail once, or while the disk is full.
 * What the contract of a vault demands of its user is checked.
 */
#include "snapshots.h"

#include <stdlib.h>

static const char *const names[] = {[LS_VAULT_SNAPSHOT] = "snapshot",
                                    [LS_VAULT_WRITING] = "writing",
                                    [LS_VAULT_STAGED] = "staged",
                                    [LS_VAULT_MARK] = "mark"};

/* LS_OK, or what a call that changes a file meets. */
static enum ls_status meet(struct sim_member *member, bool needs_room)
{
    struct sim_vault *vault = &member->vault;
    bool fails = vault->fails > 0 && vault->fail_after == 0;
    vault->fail_after -= vault->fails > 0 && vault->fail_after > 0;
    vault->fails -= fails;
    bool full = vault->full && needs_room;
    if (member->dying || (!fails && !full)) {
        return LS_OK; /* without power it is the medium that fails */
    }
    sim_fault_count(member->world, full ? SIM_FAULT_VAULT_FULL : SIM_FAULT_VAULT_ERROR);
    if (member->group == NULL) {
        member->start_excused |= 1u << LS_ERR_IO;
    }
    return LS_ERR_IO;
}

/* A file that is being synced is left alone. */
static void check_alone(const struct sim_member *member, enum ls_vault_file file, const char *call)
{
    if (member->vault.files[file].syncs && !member->dying) {
        sim_fail(member->world, "%s asks its vault to %s the file \"%s\", which is being synced",
                 member->name, call, names[file]);
    }
}

static enum ls_status vault_write(void *self, const struct ls_group_id *group,
                                  enum ls_vault_file file, uint64_t offset, struct ls_span bytes)
{
    struct sim_member *member = self;
    struct sim_vault *vault = &member->vault;
    check_alone(member, file, "write");
    if (file == LS_VAULT_MARK && sim_install_step(member, SIM_INSTALL_MARKING, false)) {
        return LS_ERR_IO;
    }
    enum ls_status status = meet(member, true);
    vault->files[file].dirty = true; /* also if it fails: then who knows what is there */
    return status == LS_OK ? vault->inner.write(vault->inner.self, group, file, offset, bytes)
                           : status;
}

static enum ls_status vault_read(void *self, const struct ls_group_id *group,
                                 enum ls_vault_file file, uint64_t offset, void *out, size_t bytes,
                                 size_t *got)
{
    struct sim_member *member = self;
    struct sim_vault *vault = &member->vault;
    *got = 0;
    if (file == LS_VAULT_STAGED && vault->install.runs &&
        sim_install_step(member, SIM_INSTALL_LOADING, false)) {
        return LS_ERR_IO;
    }
    return vault->inner.read(vault->inner.self, group, file, offset, out, bytes, got);
}

static enum ls_status vault_truncate(void *self, const struct ls_group_id *group,
                                     enum ls_vault_file file, uint64_t bytes)
{
    struct sim_member *member = self;
    struct sim_vault *vault = &member->vault;
    check_alone(member, file, "cut");
    enum ls_status status = meet(member, false);
    vault->files[file].dirty = true;
    return status == LS_OK ? vault->inner.truncate(vault->inner.self, group, file, bytes) : status;
}

/* Is it over? The first call begins it. */
static bool sync_over(struct sim_member *member, enum ls_vault_file file)
{
    struct world *world = member->world;
    struct sim_vault *vault = &member->vault;
    if (!vault->files[file].dirty || member->dying) {
        return true;
    }
    if (!vault->files[file].syncs) {
        struct sim_random *random = &world->sync->snapshot_random;
        bool at_once = member->sync_max_us <= 2000 && sim_random_percent(random, 30);
        uint64_t takes = sim_random_in(random, member->sync_min_us, member->sync_max_us);
        vault->files[file].syncs = true;
        vault->files[file].ready_us = world->now_us + (at_once ? 0 : takes);
    }
    return !member->sync_hangs && world->now_us >= vault->files[file].ready_us;
}

static enum ls_status vault_sync(void *self, const struct ls_group_id *group,
                                 enum ls_vault_file file)
{
    struct sim_member *member = self;
    struct sim_vault *vault = &member->vault;
    enum sim_install_step step = file == LS_VAULT_MARK ? SIM_INSTALL_MARKING : SIM_INSTALL_SYNCING;
    bool of_install = vault->install.runs && (file == LS_VAULT_MARK || file == LS_VAULT_STAGED);
    if (of_install && file == LS_VAULT_STAGED && sim_install_step(member, step, false)) {
        return LS_ERR_IO;
    }
    if (!sync_over(member, file)) {
        sim_check_input(member); /* it asks again soon */
        return LS_ERR_BUSY;
    }
    vault->files[file].syncs = false;
    enum ls_status status = meet(member, false);
    status = status == LS_OK ? vault->inner.sync(vault->inner.self, group, file) : status;
    if (status == LS_OK) {
        vault->files[file].dirty = false;
        if (file == LS_VAULT_MARK) {
            sim_install_marked(member);
        }
        if (of_install) {
            (void)sim_install_step(member, step, true);
        }
    }
    return status;
}

static enum ls_status vault_replace(void *self, const struct ls_group_id *group,
                                    enum ls_vault_file from, enum ls_vault_file to)
{
    struct sim_member *member = self;
    struct sim_vault *vault = &member->vault;
    bool publishes = from == LS_VAULT_STAGED;
    check_alone(member, from, "rename");
    check_alone(member, to, "replace");
    if (vault->files[from].dirty && !member->dying) {
        sim_fail(member->world, "%s gives the file \"%s\" another name before it is durable",
                 member->name, names[from]);
        return LS_ERR_IO;
    }
    if (publishes && sim_install_step(member, SIM_INSTALL_PUBLISHING, false)) {
        return LS_ERR_IO;
    }
    enum ls_status status = meet(member, false);
    status = status == LS_OK ? vault->inner.replace(vault->inner.self, group, from, to) : status;
    if (status == LS_OK) {
        vault->files[from].dirty = vault->files[to].dirty = false;
        if (publishes) {
            sim_install_published(member, vault->install.anchor);
            (void)sim_install_step(member, SIM_INSTALL_PUBLISHING, true);
        }
    }
    return status;
}

static enum ls_status vault_remove(void *self, const struct ls_group_id *group,
                                   enum ls_vault_file file)
{
    struct sim_member *member = self;
    struct sim_vault *vault = &member->vault;
    bool mark = file == LS_VAULT_MARK && vault->install.marked;
    if (mark && sim_install_step(member, SIM_INSTALL_UNMARKING, false)) {
        return LS_ERR_IO;
    }
    enum ls_status status = meet(member, false);
    if (status == LS_OK && mark && !member->dying) {
        sim_install_unmarks(member);
    }
    status = status == LS_OK ? vault->inner.remove(vault->inner.self, group, file) : status;
    if (status == LS_OK) {
        vault->files[file].dirty = vault->files[file].syncs = false;
        if (mark) {
            (void)sim_install_step(member, SIM_INSTALL_UNMARKING, true);
        }
    }
    return status;
}

static void vault_close(void *self)
{
    struct sim_member *member = self;
    member->vault.inner.close(member->vault.inner.self);
}

/* ---- life ---- */

static void *disk_allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, bytes);
}

void sim_vault_prepare(struct sim_member *member)
{
    struct ls_env disk = member->env;
    disk.allocate = disk_allocate; /* what it holds is nobody's memory */
    enum ls_status status = ls_vault_medium_open(&disk, &member->vault.medium);
    LS_ASSERT(status == LS_OK);
}

void sim_vault_open(struct sim_member *member, struct ls_vault *out)
{
    struct sim_vault *vault = &member->vault;
    if (!sim_sync_snapshots(member->world)) {
        return;
    }
    ls_vault_memory_open_on(vault->medium, &vault->inner);
    (void)memset(vault->files, 0, sizeof vault->files);
    vault->install.runs = false;
    *out = (struct ls_vault){.size = sizeof *out,
                             .self = member,
                             .write = vault_write,
                             .read = vault_read,
                             .truncate = vault_truncate,
                             .sync = vault_sync,
                             .replace = vault_replace,
                             .remove = vault_remove,
                             .close = vault_close};
}

void sim_vault_off(struct sim_member *member)
{
    ls_vault_medium_power_cut(member->vault.medium);
}

void sim_vault_wipe(struct sim_member *member)
{
    ls_vault_medium_wipe(member->vault.medium);
    member->vault.install = (struct sim_install){.runs = false};
}
