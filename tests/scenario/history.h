/* SPDX-License-Identifier: MIT */
/* What the random worlds have beside chance (history.c). */
#ifndef SCENARIO_HISTORY_H
#define SCENARIO_HISTORY_H

#include "realm.h"

/** Before the first start: the disks hold two terms in which leaders changed the members. */
void realm_past(struct realm *realm);
/** One who is no member claims a later term: nothing may come of it. */
void realm_stranger(struct node *node);
/** The member `from` claims another entry where `node` has a committed one: `node` must halt. */
void realm_contradict(struct node *node, struct node *from);

#endif
