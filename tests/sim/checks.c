/* SPDX-License-Identifier: MIT */
/* What must hold after every turn and every applied command. */
#include "world.h"

#include <stdlib.h>

#define TELLS_AGAIN_US 1000u /* a group whose core refused an event asks it again after so long */

void sim_glance_of(const struct sim_member *member, struct ls_group *group,
                   struct ls_group_status *out)
{
    if (member->dawdles) {
        ls_group_status(group, out); /* reads the clock, which takes time */
    } else {
        ls_group_glance(group, out);
    }
}

void sim_glance(const struct sim_member *member, struct ls_group_status *out)
{
    sim_glance_of(member, member->group, out);
}

void sim_check_leader(struct sim_member *member, ls_term term)
{
    struct sim_checks *checks = &member->world->checks;
    checks->leaders =
        sim_grow(checks->leaders, &checks->leaders_capacity, term, sizeof *checks->leaders);
    struct sim_reign *reign = &checks->leaders[term];
    if (reign->by == 0) {
        *reign = (struct sim_reign){member->at + 1, member->life};
        checks->leader_changes++;
        member->lead_known = checks->known;
        sim_check_new_leader(member, term);
    } else if (reign->by != member->at + 1) {
        sim_fail(member->world, "two leaders in term %llu: %s and %s", (unsigned long long)term,
                 member->world->members[reign->by - 1].name, member->name);
    } else if (reign->life != member->life) {
        sim_fail(member->world, "two leaders in term %llu: %s, and %s as it started again",
                 (unsigned long long)term, member->name, member->name);
    }
}

void sim_check_turn(struct sim_member *member)
{
    if (member->group == NULL || member->world->failed) {
        return;
    }
    struct ls_group_status status;
    if (sim_sync_prune_due(member)) {
        ls_group_status(member->group, &status);
    } else {
        sim_glance(member, &status);
    }
    sim_sync_turn(member, &status);
    if (status.core.role == LS_ROLE_LEADER) {
        sim_check_leader(member, status.core.term);
    }
    if (status.core.commit < member->commit) {
        sim_fail(member->world, "commit of %s went back from %llu to %llu", member->name,
                 (unsigned long long)member->commit, (unsigned long long)status.core.commit);
    }
    member->commit = status.core.commit;
    sim_check_commit(member, status.core.term, status.core.commit);
    sim_rules_turn(member, &status.core);
    /* a state that was taken in may wait for the core, which then waits for the store */
    const struct sim_install *install = &member->vault.install;
    bool taken_in = install->runs && install->published && !install->restored &&
                    status.core.applied == install->anchor.index;
    if (status.core.commit > status.core.last ||
        (status.core.applied > status.core.commit && !taken_in)) {
        sim_fail(member->world, "%s: applied %llu, commit %llu, last %llu are out of order",
                 member->name, (unsigned long long)status.core.applied,
                 (unsigned long long)status.core.commit, (unsigned long long)status.core.last);
    }
    sim_check_doubts(member, &status);
    if (status.serving && status.core.applied < member->lead_known) {
        sim_fail(member->world, "%s serves at %llu, but %llu was acknowledged before it led",
                 member->name, (unsigned long long)status.core.applied,
                 (unsigned long long)member->lead_known);
    }
    sim_check_buffers(member, &status);
    if (status.halted != LS_OK && !sim_member_excused(member, status.halted)) {
        ls_group_status(member->group, &status);
        sim_fail(member->world, "%s halted: %s", member->name, status.text);
    }
}

/* P10: what has failed takes part no more. In the turn of the failure the core may not know yet,
 * and for want of memory it is told when a timer rings a millisecond later. */
void sim_check_halted(struct sim_member *member, bool refused)
{
    struct ls_group_status status;
    if (member->group == NULL) {
        return;
    }
    sim_glance(member, &status);
    member->tell_us = refused ? sim_member_now(member) + TELLS_AGAIN_US : member->tell_us;
    if (member->halted && member->tell_us == 0 && status.core.standing != LS_STANDING_HALTED) {
        sim_fail(member->world, "%s has halted, and its core goes on in term %llu", member->name,
                 (unsigned long long)status.core.term);
    }
    member->halted = status.halted != LS_OK;
}

void sim_checks_free(struct world *world)
{
    free(world->checks.steps);
    free(world->checks.leaders);
    sim_check_log_free(world);
}
