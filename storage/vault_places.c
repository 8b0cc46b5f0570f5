/* SPDX-License-Identifier: MIT */
/*
 * The files that a vault on a disk has in use. Each knows what was written to it, what of that is
 * durable, and whether a sync of it ever failed: then it is lost, until it is removed or another
 * file gets its name (P10).
 */
#include "vault_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* closing a large file that has no name any more takes its time, too */
#define CLOSE_BYTES (64u << 20)

void ls__place_drop(struct ls__vault *vault, struct ls__place *place)
{
    struct ls__place **at = &vault->places;
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
    (void)ls__vault_allocate(vault, place, 0);
}

bool ls__place_settle(struct ls__vault *vault, struct ls__place *place)
{
    if (place->task == NULL) {
        return true;
    }
    if (!atomic_load(&place->task->done)) {
        return false;
    }
    place->durable = place->task->generation;
    place->lost = ls__task_end(vault, place->task) != LS_OK || place->lost;
    place->task = NULL;
    return true;
}

struct ls__place *ls__place_find(const struct ls__vault *vault, const struct ls_group_id *group,
                                 enum ls_vault_file file)
{
    struct ls__place *place = vault->places;
    while (place != NULL && (place->file != file || !ls_group_id_equal(&place->group, group))) {
        place = place->next;
    }
    return place;
}

size_t ls__vault_sweep(struct ls__vault *vault)
{
    struct ls__place *following = NULL;
    for (struct ls__place *place = vault->places; place != NULL; place = following) {
        following = place->next;
        if (place->left && ls__place_settle(vault, place) && !place->lost) {
            ls__place_drop(vault, place);
        }
    }
    size_t left = 0;
    struct ls__task *next = NULL;
    for (struct ls__task *task = vault->tasks; task != NULL; task = next) {
        next = task->next;
        if (task->left && atomic_load(&task->done)) {
            (void)ls__task_end(vault, task);
        } else {
            left += task->left;
        }
    }
    return left;
}

int ls__folder_open(const struct ls__vault *vault, const struct ls_group_id *group, bool make)
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

static enum ls_status place_fill(struct ls__vault *vault, struct ls__place *place, bool make)
{
    place->folder = ls__folder_open(vault, &place->group, make);
    if (place->folder < 0) {
        return errno == ENOENT ? LS_ERR_NOT_FOUND : LS_ERR_IO;
    }
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0);
    place->descriptor = openat(place->folder, ls__vault_names[place->file], flags, 0600);
    if (place->descriptor < 0) {
        enum ls_status status = errno == ENOENT ? LS_ERR_NOT_FOUND : LS_ERR_IO;
        (void)close(place->folder);
        return status;
    }
    return LS_OK;
}

enum ls_status ls__place_open(struct ls__vault *vault, const struct ls_group_id *group,
                              enum ls_vault_file file, bool make, struct ls__place **out)
{
    *out = ls__place_find(vault, group, file);
    if (*out != NULL) {
        (*out)->left = false;
        return LS_OK;
    }
    struct ls__task *replace = ls__task_replaces(vault, group, file);
    if (replace != NULL && !atomic_load(&replace->done)) {
        return LS_ERR_BUSY; /* which file has this name is not known */
    }
    if (replace != NULL) {
        (void)ls__task_end(vault, replace); /* who wanted it gave it up */
    }
    struct ls__place *place = ls__vault_allocate(vault, NULL, sizeof *place);
    if (place == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    *place = (struct ls__place){.group = *group, .file = file, .durable = UINT64_MAX};
    enum ls_status status = place_fill(vault, place, make);
    if (status != LS_OK) {
        (void)ls__vault_allocate(vault, place, 0);
        return status;
    }
    place->lost = ls__task_doubt(vault, group, file);
    place->next = vault->places;
    vault->places = place;
    *out = place;
    return LS_OK;
}

enum ls_status ls__place_sync(struct ls__vault *vault, struct ls__place *place)
{
    const struct ls__task task = {.kind = LS__TASK_SYNC,
                                  .group = place->group,
                                  .from = place->file,
                                  .to = place->file,
                                  .folder = place->folder,
                                  .descriptor = place->descriptor,
                                  .generation = place->generation};
    enum ls_status status = ls__task_start(vault, &task, &place->task);
    place->unsynced = place->task != NULL ? 0 : place->unsynced;
    return status;
}

enum ls_status ls__place_pace(struct ls__vault *vault, struct ls__place *place)
{
    if (place->unsynced < LS_VAULT_UNSYNCED_BYTES) {
        return LS_OK;
    }
    if (!ls__place_settle(vault, place)) {
        return LS_ERR_BUSY;
    }
    if (place->lost) {
        return LS_ERR_IO;
    }
    (void)ls__place_sync(vault, place);
    return place->task != NULL ? LS_OK : LS_ERR_BUSY;
}

void ls__place_bury(struct ls__vault *vault, struct ls__place *place)
{
    struct stat info;
    struct ls__task task = {.kind = LS__TASK_CLOSE,
                            .group = place->group,
                            .from = place->file,
                            .to = place->file,
                            .folder = place->folder,
                            .descriptor = place->descriptor,
                            .left = true};
    struct ls__task *started = NULL;
    bool large = fstat(place->descriptor, &info) == 0 && info.st_size > (off_t)CLOSE_BYTES;
    if (place->task == NULL && large) {
        (void)ls__task_start(vault, &task, &started);
    }
    if (started != NULL) {
        place->descriptor = place->folder = -1;
    }
    ls__place_drop(vault, place);
}
