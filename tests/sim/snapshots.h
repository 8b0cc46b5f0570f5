/* SPDX-License-Identifier: MIT */
/*
 * Vaults and installs in the simulator. vault.c stands between a node and the medium of its vault:
 * it makes syncs take time, lets calls fail, and knows what is durable. install.c follows an
 * install from step to step (docs/state-sync.md, "Installing"), judges their order, and cuts the
 * power in the middle of them.
 */
#ifndef LOCKSTEP_SIM_SNAPSHOTS_H
#define LOCKSTEP_SIM_SNAPSHOTS_H

#include "sync.h"

/* ---- vault.c ---- */

void sim_vault_prepare(struct sim_member *member);
/** For a node that starts; nothing in a world without snapshots. */
void sim_vault_open(struct sim_member *member, struct ls_vault *out);
/** Its disk is no longer slow: what waits for it does so no longer than others do. */
void sim_vault_heal(struct sim_member *member);
/** The power of the member goes. */
void sim_vault_off(struct sim_member *member);
/** Its disk is a new one. */
void sim_vault_wipe(struct sim_member *member);

/* ---- install.c ---- */

enum sim_install_step {
    SIM_INSTALL_LOADING,
    SIM_INSTALL_SYNCING,
    SIM_INSTALL_MARKING,
    SIM_INSTALL_PUBLISHING,
    SIM_INSTALL_RESTORING,
    SIM_INSTALL_UNMARKING
};

/** The member is at that step, before it is done or `after`. True: its power has gone. */
bool sim_install_step(struct sim_member *member, enum sim_install_step step, bool after);
/** The session has all chunks; how that ends. */
void sim_install_begins(struct sim_member *member, struct ls_cursor anchor);
void sim_install_over(struct sim_member *member, enum ls_status status);
/** The mark is durable; the new state is; the log follows it; the mark goes. */
void sim_install_marked(struct sim_member *member);
void sim_install_published(struct sim_member *member, struct ls_cursor anchor);
void sim_install_restores(struct sim_member *member, struct ls_cursor anchor);
void sim_install_unmarks(struct sim_member *member);

#endif
