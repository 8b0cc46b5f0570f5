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

/* When a sync or a move that begins now will be over. */
static uint64_t ready_us(const struct sim_member *member)
{
    struct world *world = member->world;
    struct sim_random *random = &world->sync->snapshot_random;
    bool at_once = member->sync_max_us <= 2000 && sim_random_percent(random, 30);
    uint64_t takes = sim_random_in(random, member->sync_min_us, member->sync_max_us);
    return world->now_us + (at_once ? 0 : takes);
}

static bool ready(struct sim_member *member, uint64_t at_us)
{
    bool over = (!member->sync_hangs && member->world->now_us >= at_us) || member->dying;
    if (!over) {
        sim_check_refused(member); /* it asks again soon */
    }
    return over;
}

/* The move that is under way is done, whoever asks. */
static enum ls_status move_end(struct sim_member *member, const struct ls_group_id *group)
{
    struct sim_vault *vault = &member->vault;
    enum ls_vault_file from = vault->moves, to = vault->moves_to;
    bool publishes = from == LS_VAULT_STAGED;
    vault->moves = vault->moves_to = (enum ls_vault_file)0;
    enum ls_status status = meet(member, false);
    bool fails = status != LS_OK;
    if (!fails || sim_random_percent(&member->world->sync->snapshot_random, 50)) {
        status = vault->inner.replace(vault->inner.self, group, from, to);
    }
    if (fails && publishes) {
        member->excused |= 1u << LS_ERR_IO; /* whether it happened, only the next start can tell */
    }
    if (status == LS_OK) {
        vault->files[from].dirty = vault->files[to].dirty = false;
        vault->files[from].lost = vault->files[to].lost = false;
        if (publishes) {
            sim_install_published(member, vault->install.anchor);
            (void)sim_install_step(member, SIM_INSTALL_PUBLISHING, true);
        }
    }
    return fails ? LS_ERR_IO : status;
}

/* What is being moved answers nothing else; but it comes to its end by itself. */
static bool busy(struct sim_member *member, const struct ls_group_id *group,
                 enum ls_vault_file file)
{
    struct sim_vault *vault = &member->vault;
    if (vault->moves == 0 || (file != vault->moves && file != vault->moves_to)) {
        return false;
    }
    bool over = ready(member, vault->moved_us);
    if (over) {
        (void)move_end(member, group);
    }
    return !over;
}

static enum ls_status vault_write(void *self, const struct ls_group_id *group,
                                  enum ls_vault_file file, uint64_t offset, struct ls_span bytes)
{
    struct sim_member *member = self;
    struct sim_vault *vault = &member->vault;
    if (busy(member, group, file)) {
        return LS_ERR_BUSY;
    }
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
    if (busy(member, group, file)) {
        return LS_ERR_BUSY;
    }
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
    if (busy(member, group, file)) {
        return LS_ERR_BUSY;
    }
    enum ls_status status = meet(member, false);
    vault->files[file].dirty = true;
    return status == LS_OK ? vault->inner.truncate(vault->inner.self, group, file, bytes) : status;
}

/* Is it over? The first call begins it; what is written meanwhile is a part of it. */
static bool sync_over(struct sim_member *member, enum ls_vault_file file)
{
    struct sim_vault *vault = &member->vault;
    if (!vault->files[file].dirty || vault->files[file].lost || member->dying) {
        return true;
    }
    if (!vault->files[file].syncs) {
        vault->files[file].syncs = true;
        vault->files[file].ready_us = ready_us(member);
    }
    return ready(member, vault->files[file].ready_us);
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
    if (busy(member, group, file) || !sync_over(member, file)) {
        return LS_ERR_BUSY;
    }
    vault->files[file].syncs = false;
    enum ls_status status = vault->files[file].lost ? LS_ERR_IO : meet(member, false);
    vault->files[file].lost = status != LS_OK && !member->dying;
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
    bool goes_on = vault->moves == from && vault->moves_to == to;
    if (!goes_on && (busy(member, group, from) || busy(member, group, to))) {
        return LS_ERR_BUSY;
    }
    if (vault->files[from].dirty && !member->dying) {
        sim_fail(member->world, "%s gives the file \"%s\" another name before it is durable",
                 member->name, names[from]);
        return LS_ERR_IO;
    }
    if (!goes_on) {
        if (publishes && sim_install_step(member, SIM_INSTALL_PUBLISHING, false)) {
            return LS_ERR_IO;
        }
        vault->moves = from;
        vault->moves_to = to;
        vault->moved_us = ready_us(member);
    }
    if (!ready(member, vault->moved_us)) {
        return LS_ERR_BUSY;
    }
    return move_end(member, group);
}

static enum ls_status vault_remove(void *self, const struct ls_group_id *group,
                                   enum ls_vault_file file)
{
    struct sim_member *member = self;
    struct sim_vault *vault = &member->vault;
    bool mark = file == LS_VAULT_MARK && vault->install.marked;
    if (busy(member, group, file)) {
        return LS_ERR_BUSY;
    }
    if (mark && sim_install_step(member, SIM_INSTALL_UNMARKING, false)) {
        return LS_ERR_IO;
    }
    enum ls_status status = meet(member, false);
    if (status == LS_OK && mark && !member->dying) {
        sim_install_unmarks(member);
    }
    status = status == LS_OK ? vault->inner.remove(vault->inner.self, group, file) : status;
    if (status == LS_OK) {
        vault->files[file].dirty = vault->files[file].syncs = vault->files[file].lost = false;
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
    vault->moves = vault->moves_to = (enum ls_vault_file)0;
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

void sim_vault_heal(struct sim_member *member)
{
    struct sim_vault *vault = &member->vault;
    uint64_t latest = member->world->now_us + member->sync_max_us;
    for (size_t i = 0; i <= LS_VAULT_FILES; i++) {
        uint64_t *ready = &vault->files[i].ready_us;
        *ready = *ready < latest ? *ready : latest;
    }
    vault->moved_us = vault->moved_us < latest ? vault->moved_us : latest;
}

void sim_vault_off(struct sim_member *member)
{
    const struct world *world = member->world;
    /* without a draw: runs that lose nothing go on as they did */
    ls_vault_medium_tear(member->vault.medium, (world->options.seed ^ world->now_us) | 1);
    ls_vault_medium_power_cut(member->vault.medium);
}

void sim_vault_wipe(struct sim_member *member)
{
    ls_vault_medium_wipe(member->vault.medium);
    member->vault.install = (struct sim_install){.runs = false};
}
