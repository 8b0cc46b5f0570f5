/* SPDX-License-Identifier: MIT */
/*
 * What a vault on a disk leaves to threads: the sync of a file, the durable exchange of two names,
 * and the end of a large file. One that is started is ended or left; an exchange that failed stays
 * in the list until the name that it leaves in doubt is looked at.
 */
#include "vault_files.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "crash.h"

static void *task_run(void *arg)
{
    struct ls__task *task = arg;
    bool right = false;
    if (task->kind == LS__TASK_SYNC) {
        /* the group's folder may be as new as the file */
        right =
            fsync(task->descriptor) == 0 && fsync(task->folder) == 0 && fsync(task->directory) == 0;
        LS__CRASH_FILE(ls__vault_names[task->from], "synced");
    } else if (task->kind == LS__TASK_CLOSE) {
        right = close(task->descriptor) == 0;
    } else {
        right = renameat(task->folder, ls__vault_names[task->from], task->folder,
                         ls__vault_names[task->to]) == 0;
        LS__CRASH_FILE(ls__vault_names[task->to], "renamed");
        right = right && fsync(task->folder) == 0;
        LS__CRASH_FILE(ls__vault_names[task->to], "replaced");
    }
    task->status = right ? LS_OK : LS_ERR_IO;
    atomic_store(&task->done, true);
    return NULL;
}

enum ls_status ls__task_start(struct ls__vault *vault, const struct ls__task *wanted,
                              struct ls__task **out)
{
    struct ls__task *task = ls__vault_allocate(vault, NULL, sizeof *task);
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
        (void)ls__vault_allocate(vault, task, 0);
        return LS_ERR_BUSY;
    }
    task->next = vault->tasks;
    vault->tasks = task;
    *out = task;
    return LS_ERR_BUSY;
}

void ls__task_forget(struct ls__vault *vault, struct ls__task *task)
{
    struct ls__task **at = &vault->tasks;
    while (*at != task) {
        LS_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = task->next;
    (void)ls__vault_allocate(vault, task, 0);
}

enum ls_status ls__task_end(struct ls__vault *vault, struct ls__task *task)
{
    (void)pthread_join(task->thread, NULL);
    enum ls_status status = task->status;
    if (task->kind == LS__TASK_REPLACE || task->left) {
        (void)close(task->folder);
    }
    if (task->kind == LS__TASK_SYNC && task->left) {
        (void)close(task->descriptor);
    }
    if (task->kind == LS__TASK_REPLACE && status != LS_OK) {
        task->kind = LS__TASK_FAILED;
        task->left = false;
    } else {
        ls__task_forget(vault, task);
    }
    return status;
}

struct ls__task *ls__task_replaces(const struct ls__vault *vault, const struct ls_group_id *group,
                                   enum ls_vault_file file)
{
    struct ls__task *task = vault->tasks;
    while (task != NULL &&
           (task->kind != LS__TASK_REPLACE || (task->from != file && task->to != file) ||
            !ls_group_id_equal(&task->group, group))) {
        task = task->next;
    }
    return task;
}

bool ls__task_doubt(struct ls__vault *vault, const struct ls_group_id *group,
                    enum ls_vault_file file)
{
    bool doubt = false;
    struct ls__task *next = NULL;
    for (struct ls__task *task = vault->tasks; task != NULL; task = next) {
        next = task->next;
        if (task->kind == LS__TASK_FAILED && task->to == file &&
            ls_group_id_equal(&task->group, group)) {
            ls__task_forget(vault, task);
            doubt = true;
        }
    }
    return doubt;
}
