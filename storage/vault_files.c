/* SPDX-License-Identifier: MIT */
/*
 * The vault on a disk:
 *
 *     <directory>/<group id>/snapshot, writing, staged, mark
 *
 * The directory itself is flock'ed while open. Writes go to the page cache at once; each sync of a
 * file runs on a thread of its own. Every name that is made, moved or removed is synced with the
 * folder it is in, by the caller: that waits for the disk, and so do closing a file that is being
 * synced and closing the vault.
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

static const char *const names[LS_VAULT_FILES + 1] = {"", "snapshot", "writing", "staged", "mark"};

/* A file in use. */
struct place {
    struct place *next;
    struct ls_group_id group;
    enum ls_vault_file file;
    int folder, descriptor; /* folder: of the group */
    bool syncing;
    pthread_t thread;
    atomic_bool synced;
    enum ls_status status; /* of the sync, once synced */
};

struct vault {
    struct ls_env env;
    int directory;
    struct place *places;
};

static void *allocate(const struct vault *vault, void *block, size_t bytes)
{
    return vault->env.allocate(vault->env.self, block, bytes);
}

/* ---- places ---------------------------------------------------------------------------------- */

static void place_drop(struct vault *vault, struct place *place)
{
    struct place **at = &vault->places;
    while (*at != place) {
        at = &(*at)->next;
    }
    *at = place->next;
    if (place->syncing) {
        (void)pthread_join(place->thread, NULL);
    }
    (void)close(place->descriptor);
    (void)close(place->folder);
    (void)allocate(vault, place, 0);
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

/* The folder of a group; -1: errno. */
static int folder_open(const struct vault *vault, const struct ls_group_id *group, bool make)
{
    char name[2 * sizeof group->bytes + 1];
    for (size_t i = 0; i < sizeof group->bytes; i++) {
        (void)snprintf(name + 2 * i, 3, "%02x", group->bytes[i]);
    }
    if (make && mkdirat(vault->directory, name, 0700) == 0 && fsync(vault->directory) != 0) {
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
        return LS_OK;
    }
    struct place *place = allocate(vault, NULL, sizeof *place);
    if (place == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    (void)memset(place, 0, sizeof *place);
    place->group = *group;
    place->file = file;
    enum ls_status status = place_fill(vault, place, make);
    if (status != LS_OK) {
        (void)allocate(vault, place, 0);
        return status;
    }
    place->next = vault->places;
    vault->places = place;
    *out = place;
    return LS_OK;
}

/* ---- the port -------------------------------------------------------------------------------- */

static enum ls_status files_write(void *self, const struct ls_group_id *group,
                                  enum ls_vault_file file, uint64_t offset, struct ls_span bytes)
{
    struct place *place = NULL;
    enum ls_status status = place_open(self, group, file, true, &place);
    const uint8_t *at = bytes.data;
    size_t left = bytes.bytes;
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
    if (status == LS_OK && ftruncate(place->descriptor, (off_t)bytes) != 0) {
        status = LS_ERR_IO;
    }
    return status;
}

static void *sync_run(void *arg)
{
    struct place *place = arg;
    bool synced = fsync(place->descriptor) == 0 && fsync(place->folder) == 0;
    place->status = synced ? LS_OK : LS_ERR_IO;
    atomic_store(&place->synced, true);
    return NULL;
}

static enum ls_status files_sync(void *self, const struct ls_group_id *group,
                                 enum ls_vault_file file)
{
    struct place *place = NULL;
    enum ls_status status = place_open(self, group, file, false, &place);
    if (status != LS_OK) {
        return status;
    }
    if (place->syncing) {
        if (!atomic_load(&place->synced)) {
            return LS_ERR_BUSY;
        }
        (void)pthread_join(place->thread, NULL);
        place->syncing = false;
        return place->status;
    }
    atomic_store(&place->synced, false);
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    place->syncing = pthread_create(&place->thread, NULL, sync_run, place) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return place->syncing ? LS_ERR_BUSY : LS_ERR_IO;
}

/* Both files are closed: a descriptor would go on showing what a name no longer means. */
static enum ls_status files_replace(void *self, const struct ls_group_id *group,
                                    enum ls_vault_file from, enum ls_vault_file to)
{
    struct vault *vault = self;
    const enum ls_vault_file both[] = {from, to};
    for (size_t i = 0; i < 2; i++) {
        struct place *place = place_find(vault, group, both[i]);
        if (place != NULL) {
            place_drop(vault, place);
        }
    }
    int folder = folder_open(vault, group, false);
    if (folder < 0) {
        return LS_ERR_IO;
    }
    bool done = renameat(folder, names[from], folder, names[to]) == 0 && fsync(folder) == 0;
    (void)close(folder);
    return done ? LS_OK : LS_ERR_IO;
}

static enum ls_status files_remove(void *self, const struct ls_group_id *group,
                                   enum ls_vault_file file)
{
    struct vault *vault = self;
    struct place *place = place_find(vault, group, file);
    if (place != NULL) {
        place_drop(vault, place);
    }
    int folder = folder_open(vault, group, false);
    if (folder < 0) {
        return errno == ENOENT ? LS_OK : LS_ERR_IO;
    }
    bool removed = unlinkat(folder, names[file], 0) == 0;
    bool gone = removed || errno == ENOENT;
    if (removed) {
        gone = fsync(folder) == 0;
    }
    (void)close(folder);
    return gone ? LS_OK : LS_ERR_IO;
}

static void files_close(void *self)
{
    struct vault *vault = self;
    while (vault->places != NULL) {
        place_drop(vault, vault->places);
    }
    (void)close(vault->directory);
    struct ls_env env = vault->env;
    (void)env.allocate(env.self, vault, 0);
}

/* Makes the last name of the path, and syncs it in its parent. */
static bool make_directory(const char *path)
{
    if (mkdir(path, 0700) != 0) {
        return errno == EEXIST;
    }
    char parent[PATH_MAX];
    if (snprintf(parent, sizeof parent, "%s/..", path) >= (int)sizeof parent) {
        errno = ENAMETOOLONG;
        return false;
    }
    int descriptor = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = descriptor >= 0 && fsync(descriptor) == 0;
    if (descriptor >= 0) {
        (void)close(descriptor);
    }
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
                             .close = files_close};
    return LS_OK;
}
