/* SPDX-License-Identifier: MIT */
/* What rules.c remembers of a member. */
#ifndef LOCKSTEP_SIM_RULES_H
#define LOCKSTEP_SIM_RULES_H

#include <lockstep/lockstep.h>
#include <lockstep/sim.h>

struct sim_member;

/** What a leader believes that a member holds. */
struct sim_belief {
    ls_index match;
    uint32_t wipes; /* of that member, that let it fall */
    bool refused;   /* it refused an append since */
};

struct sim_rules {
    uint64_t life; /* the rest is of this one */
    uint32_t wipes;
    enum ls_role role;
    bool serving; /* leads, and has committed in its term */
    ls_term term;
    ls_index durable, commit;
    ls_term floor_term;
    ls_index floor; /* committed anywhere when its round of pre-votes began */
    struct sim_belief beliefs[LS_SIM_MEMBERS_MAX];
};

/** The member gets a message that others may have overtaken: a refusal takes back what was
 * believed, rightly so in the order of a lane. */
void sim_rules_heard(struct sim_member *member, uint32_t from, struct ls_span message);
/** After each turn of the member. */
void sim_rules_turn(struct sim_member *member, const struct ls_core_status *core);

/** It asks for a vote in `term`. */
void sim_rules_vote(struct sim_member *member, ls_term term, const struct ls_vote *vote);

#endif
