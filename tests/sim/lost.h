/* SPDX-License-Identifier: MIT */
/* What lost.c remembers of a member. */
#ifndef LOCKSTEP_SIM_LOST_H
#define LOCKSTEP_SIM_LOST_H

#include "checks.h"

struct sim_member;

/** Acknowledged by it, and lost by its disk. */
struct sim_lost {
    struct sim_mark *marks; /* of `first` to `last` */
    size_t capacity;
    ls_index first, last; /* last == first - 1: nothing of its log */
    /* what each other member, as the leader of a term, had acknowledged by it then */
    struct ls_cursor counted[LS_SIM_MEMBERS_MAX];
};

/** The disk of a member, which is down, holds nothing behind `kept` any more. */
void sim_lost_note(struct sim_member *member, ls_index kept);
/** The leader of commit.term, which had committed so far, knows that it holds less. */
void sim_lost_lowered(struct sim_member *member, uint32_t leader, struct ls_cursor commit);
/** It counts again, in `term`. */
void sim_lost_check(const struct sim_member *member, ls_term term);
void sim_lost_free(struct sim_member *member);

#endif
