/* SPDX-License-Identifier: MIT */
/*
 * The vault on a disk, inside:
 *
 *     vault_files.c    the port: what each call does, opening and closing
 *     vault_places.c   files in use: descriptors, what is synced of them, what was lost
 *     vault_tasks.c    what waits for the disk, on threads, and what a failed one leaves in doubt
 *
 * Everything but the body of a task runs on the thread of the vault's owner.
 */
#ifndef LS_STORAGE_VAULT_FILES_H
#define LS_STORAGE_VAULT_FILES_H

#include <pthread.h>
#include <stdatomic.h>

#include <lockstep/vault.h>

/* by enum ls_vault_file */
extern const char *const ls__vault_names[LS_VAULT_FILES + 1];

enum ls__task_kind {
    LS__TASK_SYNC = 1,
    LS__TASK_REPLACE,
    LS__TASK_CLOSE,
    LS__TASK_FAILED /* a REPLACE: which file has the name `to` after a power cut is not known */
};

/* What a thread does; it touches nothing else. */
struct ls__task {
    struct ls__task *next;
    enum ls__task_kind kind;
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
struct ls__place {
    struct ls__place *next;
    struct ls_group_id group;
    enum ls_vault_file file;
    int folder, descriptor; /* folder: of the group */
    struct ls__task *task;  /* its sync; NULL: none */
    uint64_t generation;    /* counts writes */
    uint64_t durable;       /* generation that is; UINT64_MAX: not known */
    uint64_t unsynced;      /* bytes written since its last sync began */
    bool lost;              /* a sync failed: what is on the disk cannot be known any more */
    bool left; /* its group was closed: it goes when its sync is over, if that is well */
};

struct ls__vault {
    struct ls_env env;
    int directory;
    struct ls__place *places;
    struct ls__task *tasks;
};

/* vault_tasks.c */

/**
 * Begins a copy of `wanted`; *out is left alone if it could not.
 *
 * errors  LS_ERR_BUSY, always: it runs, or there is no memory or no thread for it now
 */
enum ls_status ls__task_start(struct ls__vault *vault, const struct ls__task *wanted,
                              struct ls__task **out);
/** Waits for the thread if need be. A REPLACE that failed stays, as LS__TASK_FAILED. */
enum ls_status ls__task_end(struct ls__vault *vault, struct ls__task *task);
void ls__task_forget(struct ls__vault *vault, struct ls__task *task);
/** The exchange of names that the file takes part in, or NULL. */
struct ls__task *ls__task_replaces(const struct ls__vault *vault, const struct ls_group_id *group,
                                   enum ls_vault_file file);
/** Was another file to get this name, and nobody knows whether it has it? Forgets it. */
bool ls__task_doubt(struct ls__vault *vault, const struct ls_group_id *group,
                    enum ls_vault_file file);

/* vault_places.c */

/** The folder of a group, owned; -1: errno. */
int ls__folder_open(const struct ls__vault *vault, const struct ls_group_id *group, bool make);
/** The file, if it is in use. */
struct ls__place *ls__place_find(const struct ls__vault *vault, const struct ls_group_id *group,
                                 enum ls_vault_file file);
/** errors  LS_ERR_NOT_FOUND without `make`, LS_ERR_BUSY, LS_ERR_NO_MEMORY, LS_ERR_IO */
enum ls_status ls__place_open(struct ls__vault *vault, const struct ls_group_id *group,
                              enum ls_vault_file file, bool make, struct ls__place **out);
/** BUSY: it runs, or cannot be begun now. */
enum ls_status ls__place_sync(struct ls__vault *vault, struct ls__place *place);
/** The end of its sync, if there is one, and what that latches. False: it still runs. */
bool ls__place_settle(struct ls__vault *vault, struct ls__place *place);
/** May more be written? errors LS_ERR_BUSY: not before a sync has ended, LS_ERR_IO */
LS_NODISCARD enum ls_status ls__place_pace(struct ls__vault *vault, struct ls__place *place);
/** A sync that runs takes the descriptors over. */
void ls__place_drop(struct ls__vault *vault, struct ls__place *place);
/** Of a file without a name: what it held is given back when it is closed. */
void ls__place_bury(struct ls__vault *vault, struct ls__place *place);
/** Ends what is done of what nobody asks for; returns how many tasks of that kind are not. */
size_t ls__vault_sweep(struct ls__vault *vault);

static inline void *ls__vault_allocate(const struct ls__vault *vault, void *block, size_t bytes)
{
    return vault->env.allocate(vault->env.self, block, bytes);
}

#endif
