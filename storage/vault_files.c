/* SPDX-License-Identifier: MIT */
/*
 * The vault on a disk:
 *
 *     <directory>/<group id>/snapshot, writing, staged, mark
 *
 * The directory itself is flock'ed while open. Reads and writes go to the page cache. What waits
 * for the disk, the sync of a file and the durable exchange of two names, runs on a thread of its
 * own, of which there is at most one for each file: the caller hears BUSY until it is done. Only
 * closing the vault waits for those threads. A sync begins by itself whenever much was written, and
 * what is written while it runs is bounded: a kernel that has more to write than it likes lets the
 * next write wait.
 */
#include "vault_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crash.h"

/* descriptors that syncs still use though their files were removed: no more files are then */
#define LEFT_MAX 16u

const char *const ls__vault_names[LS_VAULT_FILES + 1] = {"", "snapshot", "writing", "staged",
                                                         "mark"};

static enum ls_status files_write(void *self, const struct ls_group_id *group,
                                  enum ls_vault_file file, uint64_t offset, struct ls_span bytes)
{
    struct ls__place *place = NULL;
    enum ls_status status = ls__place_open(self, group, file, true, &place);
    const uint8_t *at = bytes.data;
    size_t left = bytes.bytes;
    status = status == LS_OK ? ls__place_pace(self, place) : status;
    if (status == LS_OK) {
        place->generation++;
        place->unsynced += bytes.bytes;
    }
    while (status == LS_OK && left > 0) {
        ssize_t wrote = pwrite(place->descriptor, at, left, (off_t)offset);
        if (wrote > 0) {
            at += wrote;
            left -= (size_t)wrote;
            offset += (uint64_t)wrote;
        } else if (wrote == 0 || errno != EINTR) {
            status = LS_ERR_IO;
        }
    }
    LS__CRASH_FILE(ls__vault_names[file], "written");
    return status;
}

static enum ls_status files_read(void *self, const struct ls_group_id *group,
                                 enum ls_vault_file file, uint64_t offset, void *out, size_t bytes,
                                 size_t *got)
{
    *got = 0;
    struct ls__place *place = NULL;
    enum ls_status status = ls__place_open(self, group, file, false, &place);
    while (status == LS_OK && *got < bytes) {
        ssize_t part =
            pread(place->descriptor, (uint8_t *)out + *got, bytes - *got, (off_t)(offset + *got));
        if (part == 0) {
            break;
        }
        if (part > 0) {
            *got += (size_t)part;
        } else if (errno != EINTR) {
            status = LS_ERR_IO;
        }
    }
    return status;
}

static enum ls_status files_truncate(void *self, const struct ls_group_id *group,
                                     enum ls_vault_file file, uint64_t bytes)
{
    struct ls__place *place = NULL;
    enum ls_status status = ls__place_open(self, group, file, false, &place);
    if (status == LS_OK) {
        place->generation++;
        status = ftruncate(place->descriptor, (off_t)bytes) == 0 ? LS_OK : LS_ERR_IO;
    }
    return status;
}

static enum ls_status files_sync(void *self, const struct ls_group_id *group,
                                 enum ls_vault_file file)
{
    struct ls__vault *vault = self;
    struct ls__place *place = NULL;
    enum ls_status status = ls__place_open(vault, group, file, false, &place);
    if (status != LS_OK) {
        return status;
    }
    if (!ls__place_settle(vault, place)) {
        return LS_ERR_BUSY;
    }
    if (place->lost) {
        /* the kernel may have dropped what it could not write, and says so only once */
        return LS_ERR_IO;
    }
    if (place->durable == place->generation) {
        return LS_OK;
    }
    return ls__place_sync(vault, place);
}

/* Both files are closed: a descriptor would go on showing what a name no longer means. */
static enum ls_status files_replace(void *self, const struct ls_group_id *group,
                                    enum ls_vault_file from, enum ls_vault_file to)
{
    struct ls__vault *vault = self;
    struct ls__task *replace = ls__task_replaces(vault, group, to);
    if (replace != NULL) {
        if (!atomic_load(&replace->done)) {
            return LS_ERR_BUSY;
        }
        bool same = replace->from == from && replace->to == to && !replace->left;
        enum ls_status status = ls__task_end(vault, replace);
        if (same) {
            return status;
        }
    }
    const enum ls_vault_file both[] = {from, to};
    for (size_t i = 0; i < 2; i++) {
        struct ls__place *place = ls__place_find(vault, group, both[i]);
        if (place != NULL && !ls__place_settle(vault, place)) {
            return LS_ERR_BUSY;
        }
        if (place != NULL && place->lost && both[i] == from) {
            return LS_ERR_IO;
        }
    }
    int folder = ls__folder_open(vault, group, false);
    if (folder < 0 || faccessat(folder, ls__vault_names[from], F_OK, 0) != 0) {
        if (folder >= 0) {
            (void)close(folder);
        }
        return LS_ERR_IO;
    }
    const struct ls__task task = {.kind = LS__TASK_REPLACE,
                                  .group = *group,
                                  .from = from,
                                  .to = to,
                                  .folder = folder,
                                  .descriptor = -1};
    struct ls__task *started = NULL;
    enum ls_status status = ls__task_start(vault, &task, &started);
    if (started == NULL) {
        (void)close(folder);
        return status;
    }
    for (size_t i = 0; i < 2; i++) {
        struct ls__place *place = ls__place_find(vault, group, both[i]);
        if (place != NULL) {
            ls__place_drop(vault, place);
        }
        (void)ls__task_doubt(vault, group, both[i]);
    }
    return status;
}

static enum ls_status files_remove(void *self, const struct ls_group_id *group,
                                   enum ls_vault_file file)
{
    struct ls__vault *vault = self;
    size_t left = ls__vault_sweep(vault);
    struct ls__place *place = ls__place_find(vault, group, file);
    const struct ls__task *replace = ls__task_replaces(vault, group, file);
    if ((replace != NULL && !atomic_load(&replace->done)) ||
        (place != NULL && place->task != NULL && left >= LEFT_MAX)) {
        return LS_ERR_BUSY;
    }
    (void)ls__place_open(vault, group, file, false, &place); /* if it can: see bury */
    int folder = ls__folder_open(vault, group, false);
    if (folder < 0) {
        return errno == ENOENT ? LS_OK : LS_ERR_IO;
    }
    bool gone = unlinkat(folder, ls__vault_names[file], 0) == 0 || errno == ENOENT;
    LS__CRASH_FILE(ls__vault_names[file], "unlinked");
    (void)close(folder);
    if (gone && place != NULL) {
        ls__place_bury(vault, place);
    }
    (void)(gone && ls__task_doubt(vault, group, file));
    return gone ? LS_OK : LS_ERR_IO;
}

/* A file that was lost stays known as such, and one that syncs until that is over: nobody is told
 * twice that a sync failed. */
static void files_close_group(void *self, const struct ls_group_id *group)
{
    struct ls__vault *vault = self;
    struct ls__place *next = NULL;
    for (struct ls__place *place = vault->places; place != NULL; place = next) {
        next = place->next;
        if (!ls_group_id_equal(&place->group, group)) {
            continue;
        }
        place->left = true;
        if (ls__place_settle(vault, place) && !place->lost) {
            ls__place_drop(vault, place);
        }
    }
    for (struct ls__task *task = vault->tasks; task != NULL; task = task->next) {
        bool replaces = task->kind == LS__TASK_REPLACE && ls_group_id_equal(&task->group, group);
        task->left = task->left || replaces;
    }
    (void)ls__vault_sweep(vault);
}

static uint64_t files_busy_since_us(void *self)
{
    const struct ls__vault *vault = self;
    uint64_t since = 0;
    for (const struct ls__task *task = vault->tasks; task != NULL; task = task->next) {
        if (!atomic_load(&task->done) && (since == 0 || task->since_us < since)) {
            since = task->since_us;
        }
    }
    return since;
}

static void files_close(void *self)
{
    struct ls__vault *vault = self;
    while (vault->places != NULL) {
        ls__place_drop(vault, vault->places);
    }
    while (vault->tasks != NULL) {
        if (vault->tasks->kind == LS__TASK_FAILED) {
            ls__task_forget(vault, vault->tasks);
        } else {
            (void)ls__task_end(vault, vault->tasks);
        }
    }
    (void)close(vault->directory);
    struct ls_env env = vault->env;
    (void)env.allocate(env.self, vault, 0);
}

/* Makes the last name of the path, and syncs it in its parent: also one that is there, since who
 * made it may have ended before. A parent that we may not read was made by others. */
static bool make_directory(const char *path)
{
    bool made = mkdir(path, 0700) == 0;
    if (!made && errno != EEXIST) {
        return false;
    }
    char parent[PATH_MAX];
    if (snprintf(parent, sizeof parent, "%s/..", path) >= (int)sizeof parent) {
        errno = ENAMETOOLONG;
        return false;
    }
    int descriptor = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        return !made && errno == EACCES;
    }
    bool synced = fsync(descriptor) == 0;
    (void)close(descriptor);
    return synced;
}

enum ls_status ls_vault_files_open(const char *directory, const struct ls_env *env,
                                   struct ls_vault *out, struct ls_error *error)
{
    const struct ls_env *used = env != NULL ? env : ls_env_default();
    struct ls__vault *vault = used->allocate(used->self, NULL, sizeof *vault);
    if (vault == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "vault %s: out of memory", directory);
    }
    *vault = (struct ls__vault){.env = *used, .directory = -1};
    enum ls_status status = LS_OK;
    if (make_directory(directory)) {
        vault->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (vault->directory < 0) {
        status = ls_error_set(error, LS_ERR_IO, "vault %s: %s", directory, strerror(errno));
    } else if (flock(vault->directory, LOCK_EX | LOCK_NB) != 0) {
        status = ls_error_set(error, LS_ERR_LOCKED, "vault %s is in use", directory);
    }
    if (status != LS_OK) {
        if (vault->directory >= 0) {
            (void)close(vault->directory);
        }
        (void)used->allocate(used->self, vault, 0);
        return status;
    }
    *out = (struct ls_vault){.size = sizeof *out,
                             .self = vault,
                             .write = files_write,
                             .read = files_read,
                             .truncate = files_truncate,
                             .sync = files_sync,
                             .replace = files_replace,
                             .remove = files_remove,
                             .close = files_close,
                             .close_group = files_close_group,
                             .busy_since_us = files_busy_since_us};
    return LS_OK;
}
