/* SPDX-License-Identifier: MIT */
/*
 * The memory store for tests and simulators: its medium outlives it, and can hold back, lose, fail
 * and damage on request. Everything passes the same framing, checksums and guard as on a disk.
 *
 * Thread: a medium and its store belong to one thread.
 */
#ifndef LOCKSTEP_STORAGE_MEMORY_H
#define LOCKSTEP_STORAGE_MEMORY_H

#include <lockstep/storage.h>

LS_EXTERN_C_BEGIN

struct ls_storage_medium;

/**
 * An empty medium with a new incarnation.
 * env     copied; NULL: ls_env_default()
 * medium  owned; release with ls_storage_medium_close
 * errors  LS_ERR_NO_MEMORY
 */
LS_API LS_NODISCARD enum ls_status ls_storage_medium_open(const struct ls_env *env,
                                                          struct ls_storage_medium **medium);

/** No store may be open on it. Takes NULL. */
LS_API void ls_storage_medium_close(struct ls_storage_medium *medium);

/**
 * A store on `medium`, which must outlive it. Opening again finds what was durable at close. Faults
 * asked for before are over; holding and FULL stay.
 * errors  LS_ERR_LOCKED (a store is open on it), LS_ERR_NO_MEMORY
 */
LS_API LS_NODISCARD enum ls_status ls_storage_memory_open_on(struct ls_storage_medium *medium,
                                                             struct ls_storage *out,
                                                             struct ls_error *error);

/**
 * While on, commits wait; they are durable only when released, and reported at the next collect
 * (the caller of release sees to it that collect is called). Turned off, all that wait are
 * released. Close releases all.
 */
LS_API void ls_storage_medium_hold(struct ls_storage_medium *medium, bool on);
/** Makes the oldest `commits` waiting commits durable. */
LS_API void ls_storage_medium_release(struct ls_storage_medium *medium, size_t commits);
/** Commits that wait. */
LS_API size_t ls_storage_medium_held(const struct ls_storage_medium *medium);

/** What is not durable is gone, and the open store reports nothing more: close it. */
LS_API void ls_storage_medium_power_cut(struct ls_storage_medium *medium);

/** Where in a commit the power goes (guard.h, "Order"). */
enum ls_storage_cut {
    LS_STORAGE_CUT_LOWERING = 1, /* inside of the guard's slot that is lowered before the log */
    LS_STORAGE_CUT_LOWERED = 2,  /* after it */
    LS_STORAGE_CUT_LOG = 3,      /* the log has the commit, the guard does not know of it */
    LS_STORAGE_CUT_RAISING = 4   /* inside of the guard's slot that is written after the log */
};
/**
 * Power cut within the oldest waiting commit.
 * bytes   of the slot that get there, modulo its length
 * False: none waits; the power is cut all the same.
 */
LS_API bool ls_storage_medium_power_cut_at(struct ls_storage_medium *medium,
                                           enum ls_storage_cut cut, size_t bytes);
/** The next open of a group fails with LS_ERR_IO after `bytes` of the guard's slot. */
LS_API void ls_storage_medium_power_cut_open(struct ls_storage_medium *medium, size_t bytes);

/** The next `stages` calls of stage find no room: LS_ERR_BUSY. */
LS_API void ls_storage_medium_refuse(struct ls_storage_medium *medium, size_t stages);

enum ls_storage_fault {
    LS_STORAGE_FAULT_NONE = 0,
    LS_STORAGE_FAULT_WRITE = 1,    /* nothing of the commit is there afterwards */
    LS_STORAGE_FAULT_SYNC = 2,     /* it is there after reopening, but was reported as failed */
    LS_STORAGE_FAULT_FULL = 3,     /* as WRITE, and stays until set to NONE */
    LS_STORAGE_FAULT_SYNC_LOST = 4 /* as SYNC, but it is not there */
};
/** Lets one commit fail, after `after` more that succeed. */
LS_API void ls_storage_medium_fail(struct ls_storage_medium *medium, enum ls_storage_fault fault,
                                   size_t after);

enum ls_storage_part {
    LS_STORAGE_LOG = 1, /* the record at `index` */
    LS_STORAGE_HARD = 2,
    LS_STORAGE_ANCHOR = 3,
    LS_STORAGE_COMMIT = 4,
    LS_STORAGE_GUARD = 5
};
/** Flips bit `bit` (modulo its length) of what is stored. False: there is no such thing. */
LS_API bool ls_storage_medium_flip(struct ls_storage_medium *medium, const struct ls_group_id *id,
                                   enum ls_storage_part part, ls_index index, size_t bit);
/** Removes a part; of the log, the records from `index` on. False: there is no such thing. */
LS_API bool ls_storage_medium_drop(struct ls_storage_medium *medium, const struct ls_group_id *id,
                                   enum ls_storage_part part, ls_index index);
/** Two records change places; the same again puts them right. False: one is not there, or they are
 * of different lengths. */
LS_API bool ls_storage_medium_swap(struct ls_storage_medium *medium, const struct ls_group_id *id,
                                   ls_index a, ls_index b);
/** The hard state that was stored before the last one is back: its write was reported durable and
 * is lost. False: there is none. */
LS_API bool ls_storage_medium_stale(struct ls_storage_medium *medium, const struct ls_group_id *id);
/** Keeps a copy of what is durable of the group but for its guard, in place of one that was kept
 * before. False: there is nothing, or no memory. */
LS_API bool ls_storage_medium_keep(struct ls_storage_medium *medium, const struct ls_group_id *id);
/** The copy takes the place of what is there, as an old backup of the log's disk does; the guard
 * stays. No store may have the group open. False: none was kept since the last time. */
LS_API bool ls_storage_medium_put_back(struct ls_storage_medium *medium,
                                       const struct ls_group_id *id);
/** The last index that the stored guard promises; what is lost above it is not noticed. */
LS_API ls_index ls_storage_medium_guarded(struct ls_storage_medium *medium,
                                          const struct ls_group_id *id);
/** Would a store that opens the group now find that it lost something (P11)? Reads the medium, not
 * the store; false also if it would not open. */
LS_API bool ls_storage_medium_doubtful(struct ls_storage_medium *medium,
                                       const struct ls_group_id *id);
/** A new incarnation, everything gone. No store may be open on it. */
LS_API void ls_storage_medium_wipe(struct ls_storage_medium *medium);

/** What a power cut at this moment would leave of a group, and whether its checksums hold. */
struct ls_storage_medium_left {
    bool damaged; /* hard state or anchor: unreadable, and zero here */
    struct ls_hard_state hard_state;
    struct ls_cursor anchor;
    ls_index last; /* records reach so far, sound or not; anchor.index: there are none */
};
/** Reads the medium, not the store. False: nothing of the group is durable. */
LS_API bool ls_storage_medium_left(const struct ls_storage_medium *medium,
                                   const struct ls_group_id *id,
                                   struct ls_storage_medium_left *out);
/** The durable entry at `index`, payload borrowed until the next commit or fault. False: there is
 * none, or its checksum does not hold. */
LS_API bool ls_storage_medium_entry(const struct ls_storage_medium *medium,
                                    const struct ls_group_id *id, ls_index index,
                                    struct ls_entry *out);

/** How many faults were caused (failed commits, lost commits, flips, drops). */
LS_API uint64_t ls_storage_medium_faults(const struct ls_storage_medium *medium);

LS_EXTERN_C_END

#endif
