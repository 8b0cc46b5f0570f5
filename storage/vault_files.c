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
#include <lockstep/vault.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crash.h"

static const char *const names[LS_VAULT_FILES + 1] = {"", "snapshot", "writing", "staged", "mark"};

/* descriptors that syncs still use though their files were removed: no more files are then */
#define LEFT_MAX 16u

/* closing a large file that has no name any more takes its time, too */
#define CLOSE_BYTES (64u << 20)

enum task_kind {
    TASK_SYNC = 1,
    TASK_REPLACE,
    TASK_CLOSE,
    TASK_FAILED /* it was a REPLACE: which file has the name `to` after a power cut is not known */
};

/* What a thread does; it touches nothing else. */
struct task {
    struct task *next;
    enum task_kind kind;
    struct ls_group_id group;
    enum ls_vault_file from, to; /* SYNC: both the file */
    pthread_t thread;
    int directory, folder, descriptor; /* SYNC: lent by the place, REPLACE: -1 and its own folder */
    bool left;           /* nobody asks for it any more; all descriptors are its own */
    uint64_t generation; /* SYNC: of what it makes durable */
    uint64_t since_us;
    enum ls_status status; /* once done */
    atomic_bool done;
};

/* A file in use. */
struct place {
    struct place *next;
    struct ls_group_id group;
    enum ls_vault_file file;
    int folder, descriptor; /* folder: of the group */
    struct task *task;      /* its sync; NULL: none */
    uint64_t generation;    /* counts writes */
    uint64_t durable;       /* generation that is; UINT64_MAX: not known */
    uint64_t unsynced;      /* bytes written since its last sync began */
    bool lost;              /* a sync failed: what is on the disk cannot be known any more */
    bool left; /* its group was closed: it goes when its sync is over, if that is well */
};

struct vault {
    struct ls_env env;
    int directory;
    struct place *places;
    struct task *tasks;
};

static void *allocate(const struct vault *vault, void *block, size_t bytes)
{
    return vault->env.allocate(vault->env.self, block, bytes);
}

/* ---- tasks ----------------------------------------------------------------------------------- */

static void *task_run(void *arg)
{
    struct task *task = arg;
    bool right = false;
    if (task->kind == TASK_SYNC) {
        /* the group's folder may be as new as the file */
        right =
            fsync(task->descriptor) == 0 && fsync(task->folder) == 0 && fsync(task->directory) == 0;
        LS__CRASH_FILE(names[task->from], "synced");
    } else if (task->kind == TASK_CLOSE) {
        right = close(task->descriptor) == 0;
    } else {
        right = renameat(task->folder, names[task->from], task->folder, names[task->to]) == 0;
        LS__CRASH_FILE(names[task->to], "renamed");
        right = right && fsync(task->folder) == 0;
        LS__CRASH_FILE(names[task->to], "replaced");
    }
    task->status = right ? LS_OK : LS_ERR_IO;
    atomic_store(&task->done, true);
    return NULL;
}

/* LS_ERR_BUSY: it runs, or there is no memory or no thread for it now. */
static enum ls_status task_start(struct vault *vault, const struct task *wanted, struct task **out)
{
    struct task *task = allocate(vault, NULL, sizeof *task);
    if (task == NULL) {
        return LS_ERR_BUSY;
    }
    *task = *wanted;
    task->directory = vault->directory;
    task->since_us = vault->env.now_us(vault->env.self);
    atomic_init(&task->done, false);
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    bool runs = pthread_create(&task->thread, NULL, task_run, task) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!runs) {
        (void)allocate(vault, task, 0);
        return LS_ERR_BUSY;
    }
    task->next = vault->tasks;
    vault->tasks = task;
    *out = task;
    return LS_ERR_BUSY;
}

static void task_forget(struct vault *vault, struct task *task)
{
    struct task **at = &vault->tasks;
    while (*at != task) {
        LS_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = task->next;
    (void)allocate(vault, task, 0);
}

/* Waits for the thread if need be. */
static enum ls_status task_end(struct vault *vault, struct task *task)
{
    (void)pthread_join(task->thread, NULL);
    enum ls_status status = task->status;
    if (task->kind == TASK_REPLACE || task->left) {
        (void)close(task->folder);
    }
    if (task->kind == TASK_SYNC && task->left) {
        (void)close(task->descriptor);
    }
    if (task->kind == TASK_REPLACE && status != LS_OK) {
        task->kind = TASK_FAILED;
        task->left = false;
    } else {
        task_forget(vault, task);
    }
    return status;
}

/* The exchange of names that the file takes part in. */
static struct task *replace_of(const struct vault *vault, const struct ls_group_id *group,
                               enum ls_vault_file file)
{
    struct task *task = vault->tasks;
    while (task != NULL &&
           (task->kind != TASK_REPLACE || (task->from != file && task->to != file) ||
            !ls_group_id_equal(&task->group, group))) {
        task = task->next;
    }
    return task;
}

/* Was another file to get this name, and nobody knows whether it has it? Forgets it. */
static bool doubt_take(struct vault *vault, const struct ls_group_id *group,
                       enum ls_vault_file file)
{
    bool doubt = false;
    struct task *next = NULL;
    for (struct task *task = vault->tasks; task != NULL; task = next) {
        next = task->next;
        if (task->kind == TASK_FAILED && task->to == file &&
            ls_group_id_equal(&task->group, group)) {
            task_forget(vault, task);
            doubt = true;
        }
    }
    return doubt;
}

/* ---- places ---------------------------------------------------------------------------------- */

/* A sync that runs takes the descriptors over. */
static void place_drop(struct vault *vault, struct place *place)
{
    struct place **at = &vault->places;
    while (*at != place) {
        at = &(*at)->next;
    }
    *at = place->next;
    if (place->task != NULL) {
        place->task->left = true;
    } else if (place->descriptor >= 0) {
        (void)close(place->descriptor);
        (void)close(place->folder);
    }
    (void)allocate(vault, place, 0);
}

/* The end of its sync, if there is one. False: it still runs. */
static bool place_settle(struct vault *vault, struct place *place)
{
    if (place->task == NULL) {
        return true;
    }
    if (!atomic_load(&place->task->done)) {
        return false;
    }
    place->durable = place->task->generation;
    place->lost = task_end(vault, place->task) != LS_OK || place->lost;
    place->task = NULL;
    return true;
}

static struct place *place_find(const struct vault *vault, const struct ls_group_id *group,
                                enum ls_vault_file file)
{
    struct place *place = vault->places;
    while (place != NULL && (place->file != file || !ls_group_id_equal(&place->group, group))) {
        place = place->next;
    }
    return place;
}

/* Ends what is done of what nobody asks for; returns how many are not. */
static size_t tasks_sweep(struct vault *vault)
{
    struct place *following = NULL;
    for (struct place *place = vault->places; place != NULL; place = following) {
        following = place->next;
        if (place->left && place_settle(vault, place) && !place->lost) {
            place_drop(vault, place);
        }
    }
    size_t left = 0;
    struct task *next = NULL;
    for (struct task *task = vault->tasks; task != NULL; task = next) {
        next = task->next;
        if (task->left && atomic_load(&task->done)) {
            (void)task_end(vault, task);
        } else {
            left += task->left;
        }
    }
    return left;
}

/* The folder of a group; -1: errno. */
static int folder_open(const struct vault *vault, const struct ls_group_id *group, bool make)
{
    char name[2 * sizeof group->bytes + 1];
    for (size_t i = 0; i < sizeof group->bytes; i++) {
        (void)snprintf(name + 2 * i, 3, "%02x", group->bytes[i]);
    }
    if (make && mkdirat(vault->directory, name, 0700) != 0 && errno != EEXIST) {
        return -1;
    }
    return openat(vault->directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

static enum ls_status place_fill(struct vault *vault, struct place *place, bool make)
{
    place->folder = folder_open(vault, &place->group, make);
    if (place->folder < 0) {
        return errno == ENOENT ? LS_ERR_NOT_FOUND : LS_ERR_IO;
    }
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0);
    place->descriptor = openat(place->folder, names[place->file], flags, 0600);
    if (place->descriptor < 0) {
        enum ls_status status = errno == ENOENT ? LS_ERR_NOT_FOUND : LS_ERR_IO;
        (void)close(place->folder);
        return status;
    }
    return LS_OK;
}

static enum ls_status place_open(struct vault *vault, const struct ls_group_id *group,
                                 enum ls_vault_file file, bool make, struct place **out)
{
    *out = place_find(vault, group, file);
    if (*out != NULL) {
        (*out)->left = false;
        return LS_OK;
    }
    struct task *replace = replace_of(vault, group, file);
    if (replace != NULL && !atomic_load(&replace->done)) {
        return LS_ERR_BUSY; /* which file has this name is not known */
    }
    if (replace != NULL) {
        (void)task_end(vault, replace); /* who wanted it gave it up */
    }
    struct place *place = allocate(vault, NULL, sizeof *place);
    if (place == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    *place = (struct place){.group = *group, .file = file, .durable = UINT64_MAX};
    enum ls_status status = place_fill(vault, place, make);
    if (status != LS_OK) {
        (void)allocate(vault, place, 0);
        return status;
    }
    place->lost = doubt_take(vault, group, file);
    place->next = vault->places;
    vault->places = place;
    *out = place;
    return LS_OK;
}

/* BUSY: it runs, or cannot be begun now. */
static enum ls_status place_sync(struct vault *vault, struct place *place)
{
    const struct task task = {.kind = TASK_SYNC,
                              .group = place->group,
                              .from = place->file,
                              .to = place->file,
                              .folder = place->folder,
                              .descriptor = place->descriptor,
                              .generation = place->generation};
    enum ls_status status = task_start(vault, &task, &place->task);
    place->unsynced = place->task != NULL ? 0 : place->unsynced;
    return status;
}

/* May more be written? LS_ERR_BUSY: not before a sync has ended. */
static enum ls_status place_pace(struct vault *vault, struct place *place)
{
    if (place->unsynced < LS_VAULT_UNSYNCED_BYTES) {
        return LS_OK;
    }
    if (!place_settle(vault, place)) {
        return LS_ERR_BUSY;
    }
    if (place->lost) {
        return LS_ERR_IO;
    }
    (void)place_sync(vault, place);
    return place->task != NULL ? LS_OK : LS_ERR_BUSY;
}

/* ---- the port -------------------------------------------------------------------------------- */

static enum ls_status files_write(void *self, const struct ls_group_id *group,
                                  enum ls_vault_file file, uint64_t offset, struct ls_span bytes)
{
    struct place *place = NULL;
    enum ls_status status = place_open(self, group, file, true, &place);
    const uint8_t *at = bytes.data;
    size_t left = bytes.bytes;
    status = status == LS_OK ? place_pace(self, place) : status;
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
    LS__CRASH_FILE(names[file], "written");
    return status;
}

static enum ls_status files_read(void *self, const struct ls_group_id *group,
                                 enum ls_vault_file file, uint64_t offset, void *out, size_t bytes,
                                 size_t *got)
{
    *got = 0;
    struct place *place = NULL;
    enum ls_status status = place_open(self, group, file, false, &place);
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
    struct place *place = NULL;
    enum ls_status status = place_open(self, group, file, false, &place);
    if (status == LS_OK) {
        place->generation++;
        status = ftruncate(place->descriptor, (off_t)bytes) == 0 ? LS_OK : LS_ERR_IO;
    }
    return status;
}

static enum ls_status files_sync(void *self, const struct ls_group_id *group,
                                 enum ls_vault_file file)
{
    struct vault *vault = self;
    struct place *place = NULL;
    enum ls_status status = place_open(vault, group, file, false, &place);
    if (status != LS_OK) {
        return status;
    }
    if (!place_settle(vault, place)) {
        return LS_ERR_BUSY;
    }
    if (place->lost) {
        /* the kernel may have dropped what it could not write, and says so only once */
        return LS_ERR_IO;
    }
    if (place->durable == place->generation) {
        return LS_OK;
    }
    return place_sync(vault, place);
}

/* Both files are closed: a descriptor would go on showing what a name no longer means. */
static enum ls_status files_replace(void *self, const struct ls_group_id *group,
                                    enum ls_vault_file from, enum ls_vault_file to)
{
    struct vault *vault = self;
    struct task *replace = replace_of(vault, group, to);
    if (replace != NULL) {
        if (!atomic_load(&replace->done)) {
            return LS_ERR_BUSY;
        }
        bool same = replace->from == from && replace->to == to && !replace->left;
        enum ls_status status = task_end(vault, replace);
        if (same) {
            return status;
        }
    }
    const enum ls_vault_file both[] = {from, to};
    for (size_t i = 0; i < 2; i++) {
        struct place *place = place_find(vault, group, both[i]);
        if (place != NULL && !place_settle(vault, place)) {
            return LS_ERR_BUSY;
        }
        if (place != NULL && place->lost && both[i] == from) {
            return LS_ERR_IO;
        }
    }
    int folder = folder_open(vault, group, false);
    if (folder < 0 || faccessat(folder, names[from], F_OK, 0) != 0) {
        if (folder >= 0) {
            (void)close(folder);
        }
        return LS_ERR_IO;
    }
    const struct task task = {.kind = TASK_REPLACE,
                              .group = *group,
                              .from = from,
                              .to = to,
                              .folder = folder,
                              .descriptor = -1};
    struct task *started = NULL;
    enum ls_status status = task_start(vault, &task, &started);
    if (started == NULL) {
        (void)close(folder);
        return status;
    }
    for (size_t i = 0; i < 2; i++) {
        struct place *place = place_find(vault, group, both[i]);
        if (place != NULL) {
            place_drop(vault, place);
        }
        (void)doubt_take(vault, group, both[i]);
    }
    return status;
}

/* Of a file without a name: what it held is given back when it is closed. */
static void place_bury(struct vault *vault, struct place *place)
{
    struct stat info;
    struct task task = {.kind = TASK_CLOSE,
                        .group = place->group,
                        .from = place->file,
                        .to = place->file,
                        .folder = place->folder,
                        .descriptor = place->descriptor,
                        .left = true};
    struct task *started = NULL;
    bool large = fstat(place->descriptor, &info) == 0 && info.st_size > (off_t)CLOSE_BYTES;
    if (place->task == NULL && large) {
        (void)task_start(vault, &task, &started);
    }
    if (started != NULL) {
        place->descriptor = place->folder = -1;
    }
    place_drop(vault, place);
}

static enum ls_status files_remove(void *self, const struct ls_group_id *group,
                                   enum ls_vault_file file)
{
    struct vault *vault = self;
    size_t left = tasks_sweep(vault);
    struct place *place = place_find(vault, group, file);
    const struct task *replace = replace_of(vault, group, file);
    if ((replace != NULL && !atomic_load(&replace->done)) ||
        (place != NULL && place->task != NULL && left >= LEFT_MAX)) {
        return LS_ERR_BUSY;
    }
    (void)place_open(vault, group, file, false, &place); /* if it can be: see place_bury */
    int folder = folder_open(vault, group, false);
    if (folder < 0) {
        return errno == ENOENT ? LS_OK : LS_ERR_IO;
    }
    bool gone = unlinkat(folder, names[file], 0) == 0 || errno == ENOENT;
    LS__CRASH_FILE(names[file], "unlinked");
    (void)close(folder);
    if (gone && place != NULL) {
        place_bury(vault, place);
    }
    (void)(gone && doubt_take(vault, group, file));
    return gone ? LS_OK : LS_ERR_IO;
}

/* A file that was lost stays known as such, and one that syncs until that is over: nobody is told
 * twice that a sync failed. */
static void files_close_group(void *self, const struct ls_group_id *group)
{
    struct vault *vault = self;
    struct place *next = NULL;
    for (struct place *place = vault->places; place != NULL; place = next) {
        next = place->next;
        if (!ls_group_id_equal(&place->group, group)) {
            continue;
        }
        place->left = true;
        if (place_settle(vault, place) && !place->lost) {
            place_drop(vault, place);
        }
    }
    for (struct task *task = vault->tasks; task != NULL; task = task->next) {
        bool replaces = task->kind == TASK_REPLACE && ls_group_id_equal(&task->group, group);
        task->left = task->left || replaces;
    }
    (void)tasks_sweep(vault);
}

static uint64_t files_busy_since_us(void *self)
{
    const struct vault *vault = self;
    uint64_t since = 0;
    for (const struct task *task = vault->tasks; task != NULL; task = task->next) {
        if (!atomic_load(&task->done) && (since == 0 || task->since_us < since)) {
            since = task->since_us;
        }
    }
    return since;
}

static void files_close(void *self)
{
    struct vault *vault = self;
    while (vault->places != NULL) {
        place_drop(vault, vault->places);
    }
    while (vault->tasks != NULL) {
        if (vault->tasks->kind == TASK_FAILED) {
            task_forget(vault, vault->tasks);
        } else {
            (void)task_end(vault, vault->tasks);
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
    struct vault *vault = used->allocate(used->self, NULL, sizeof *vault);
    if (vault == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "vault %s: out of memory", directory);
    }
    *vault = (struct vault){.env = *used, .directory = -1};
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
