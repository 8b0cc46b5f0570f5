/* SPDX-License-Identifier: MIT */
/* Members of a cluster that die at a named step (steps.h), by turns with their power. */
#ifndef LOCKSTEP_TEST_ARMED_H
#define LOCKSTEP_TEST_ARMED_H

#include "cluster.h"

/** Three members with their states on disk, each with a disk of its own; starts nobody. */
void armed_prepare(struct cluster *cluster);
/** The directory that is `what` of a member. */
void armed_place(const struct cluster *cluster, unsigned at, const char *what, char out[96]);
/** Starts a member with a step, and watched by the shim: what is on its disk now is durable. */
void armed_spawn(struct cluster *cluster, unsigned at, const char *step);
/** True when the member has died, which must be at its step. */
bool armed_dead(struct cluster *cluster, unsigned at, const char *step);
/** The power of the one that died goes, too: what it did not sync is gone. */
void armed_cut_power(struct cluster *cluster, unsigned at);

#endif
