/* SPDX-License-Identifier: MIT */
/*
 * Three members with snapshots, of whom one is away and comes back by a snapshot: for tests of its
 * install. Stores and vaults are in memory and can lose their power.
 */
#ifndef LOCKSTEP_TEST_SCENE_H
#define LOCKSTEP_TEST_SCENE_H

#include "trio.h"

#define SCENE_BATCH 500u

struct scene {
    struct trio trio;
    size_t leader, away;
    uint64_t count; /* commands so far */
};

/** Members with machines in memory, all up. */
void scene_open(struct scene *scene);
/** The same, with machines that keep their state themselves. */
void scene_open_of(struct scene *scene, bool durable);
struct ls_group_status scene_status(const struct scene *scene, size_t at);
/** Stops the member that is away, if it runs, and leaves it behind what the others hold. */
void scene_leave_behind(struct scene *scene);
/** Starts the member that is away. It writes no snapshot files of its own: the changes of its vault
 * are those of an install. */
void scene_start(struct scene *scene);
/** Waits until all have all commands. */
void scene_catches_up(struct scene *scene);
/** The member that is away loses what is not durable, and ends. */
void scene_power_cut(struct scene *scene);

/** Is there such a file in the vault of the member that is away? */
bool scene_has_file(const struct scene *scene, const struct ls_group_id *id,
                    enum ls_vault_file file);

struct scene_reach {
    struct scene *scene;
    uint64_t changes; /* of the vault */
};

/** For trio_until: its vault was changed more often than that, or it has all and is online. */
bool scene_changed(struct trio *trio, void *reach);

#endif
