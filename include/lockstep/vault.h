/* SPDX-License-Identifier: MIT */
/*
 * The vault port: the few files a group keeps beside its log, and its two implementations, on a
 * disk and in memory. A vault serves all groups of a node. What is in the files is the business of
 * machine/; a vault only promises when it is durable.
 *
 * Thread: the loop's.
 */
#ifndef LOCKSTEP_VAULT_H
#define LOCKSTEP_VAULT_H

#include <lockstep/env.h>

LS_EXTERN_C_BEGIN

enum ls_vault_file {
    LS_VAULT_SNAPSHOT = 1, /* the newest snapshot of a machine in memory */
    LS_VAULT_WRITING = 2,  /* the one that is being written */
    LS_VAULT_STAGED = 3,   /* the one that is being fetched */
    LS_VAULT_MARK = 4      /* a fetched one is being installed */
};
#define LS_VAULT_FILES 4u

struct ls_vault {
    size_t size;
    void *self;

    /** Writes at `offset`, at most the end of the file, which is made if missing. Not durable yet.
     * errors LS_ERR_BUSY (too much waits for the disk; nothing was written: again later),
     * LS_ERR_IO, LS_ERR_NO_MEMORY */
    enum ls_status (*write)(void *self, const struct ls_group_id *group, enum ls_vault_file file,
                            uint64_t offset, struct ls_span bytes);
    /** Reads up to `bytes` from `offset` on, fewer only at the end.
     * errors LS_ERR_NOT_FOUND (no such file), LS_ERR_IO */
    enum ls_status (*read)(void *self, const struct ls_group_id *group, enum ls_vault_file file,
                           uint64_t offset, void *out, size_t bytes, size_t *got);
    /** Cuts the file to `bytes`, at most its length. errors LS_ERR_NOT_FOUND, LS_ERR_IO */
    enum ls_status (*truncate)(void *self, const struct ls_group_id *group, enum ls_vault_file file,
                               uint64_t bytes);
    /**
     * Makes what was written so far durable: BUSY until it is, so it is called again, and then OK,
     * also when there was nothing to do. What is written meanwhile only makes it last longer. Once
     * it failed nobody knows what is in the file: it fails until the file is removed.
     * errors LS_ERR_BUSY, LS_ERR_NOT_FOUND, LS_ERR_IO
     */
    enum ls_status (*sync)(void *self, const struct ls_group_id *group, enum ls_vault_file file);
    /**
     * Gives a durable file the place of another, atomically and durably: BUSY until it is, so it is
     * called again; no other call for these files does anything meanwhile, but answers BUSY.
     * errors LS_ERR_BUSY, LS_ERR_IO: it may have happened
     */
    enum ls_status (*replace)(void *self, const struct ls_group_id *group, enum ls_vault_file from,
                              enum ls_vault_file to);
    /** OK also when there is none. Waits for nothing, so that the file may be there again after a
     * power cut. errors LS_ERR_BUSY, LS_ERR_IO */
    enum ls_status (*remove)(void *self, const struct ls_group_id *group, enum ls_vault_file file);
    /** Waits for what is under way, for as long as the disk takes; the node does not wait for it
     * longer than for its store. Frees self. */
    void (*close)(void *self);

    /** Optional. Nothing more is asked for that group until it is joined again: what is open for
     * it can be closed. Does not wait. */
    void (*close_group)(void *self, const struct ls_group_id *group);
    /** Optional. Since when (env.now_us) the disk is being waited for; 0: it is not. */
    uint64_t (*busy_since_us)(void *self);
};

/**
 * Files in a directory, one folder for each group; made if missing (0700).
 * env     copied; NULL: ls_env_default()
 * errors  LS_ERR_IO, LS_ERR_NO_MEMORY; the text names the path
 */
LS_API LS_NODISCARD enum ls_status ls_vault_files_open(const char *directory,
                                                       const struct ls_env *env,
                                                       struct ls_vault *out,
                                                       struct ls_error *error);

/** What a vault in memory keeps: outlives it, and can lose, fail and fill up on request. */
struct ls_vault_medium;

/** env copied; NULL: ls_env_default(). medium: owned, release with ls_vault_medium_close. errors
 * LS_ERR_NO_MEMORY */
LS_API LS_NODISCARD enum ls_status ls_vault_medium_open(const struct ls_env *env,
                                                        struct ls_vault_medium **medium);
/** No vault may be open on it. Takes NULL. */
LS_API void ls_vault_medium_close(struct ls_vault_medium *medium);
/** A vault on `medium`, which must outlive it. */
LS_API void ls_vault_memory_open_on(struct ls_vault_medium *medium, struct ls_vault *out);
/** What is not durable is gone, also for the open vault, which fails from now on until it is opened
 * again. */
LS_API void ls_vault_medium_power_cut(struct ls_vault_medium *medium);
/** From now on a power cut leaves, of what was written and not synced, any pages and any length:
 * which, follows from the seed. 0: nothing of it. */
LS_API void ls_vault_medium_tear(struct ls_vault_medium *medium, uint64_t seed);
/** While on, syncs and replacings stay BUSY. */
LS_API void ls_vault_medium_hold(struct ls_vault_medium *medium, bool on);
/** Of the calls that change something, `after` more succeed and then `count` fail with LS_ERR_IO.
 */
LS_API void ls_vault_medium_fail(struct ls_vault_medium *medium, uint64_t after, uint64_t count);
/** Calls that changed something, so far. */
LS_API uint64_t ls_vault_medium_changes(const struct ls_vault_medium *medium);
/** Flips a bit of a file, present and durable. False: there is no such byte. */
LS_API bool ls_vault_medium_flip(struct ls_vault_medium *medium, const struct ls_group_id *group,
                                 enum ls_vault_file file, uint64_t offset);
/** Everything is gone. */
LS_API void ls_vault_medium_wipe(struct ls_vault_medium *medium);

LS_EXTERN_C_END

#endif
