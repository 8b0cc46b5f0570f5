/* SPDX-License-Identifier: MIT */
/*
 * An install, step by step, as the disk sees it. Each step has to be durable before the next one
 * begins; a power cut between any two of them must leave the old state or the new one (S1).
 */
#include "snapshots.h"

#define U(number) ((unsigned long long)(number))

bool sim_install_step(struct sim_member *member, enum sim_install_step step, bool after)
{
    struct world *world = member->world;
    struct sim_install_crash *crash = &world->install_crashes[step];
    const struct sim_install *install = &member->vault.install;
    bool under_way = install->runs || install->marked;
    if (!crash->armed || crash->after != after || !under_way || member->dying || member->off_due) {
        return false;
    }
    if (crash->skip > 0) {
        crash->skip--;
        return false;
    }
    crash->armed = false;
    sim_fault_count(world, (enum sim_fault)(SIM_FAULT_INSTALL_LOADING + (uint32_t)step));
    sim_note(world, "%s: in an install, %s step %u:", member->name, after ? "after" : "before",
             (unsigned)step + 1u);
    if (step == SIM_INSTALL_RESTORING) { /* what is staged is committed when the turn ends */
        member->off_due = true;
        member->off_keeps = after;
        member->off_down_us = crash->down_us;
        return false;
    }
    sim_member_off(member, crash->keeps, crash->down_us);
    return true;
}

void sim_install_begins(struct sim_member *member, struct ls_cursor anchor)
{
    struct sim_install *install = &member->vault.install;
    if (install->runs) {
        return; /* of an attempt that ended: it goes on to its end, and this one is refused */
    }
    *install = (struct sim_install){.anchor = anchor, .runs = true, .marked = install->marked};
}

void sim_install_over(struct sim_member *member, enum ls_status status)
{
    struct sim_install *install = &member->vault.install;
    struct world *world = member->world;
    install->runs = false;
    if (status != LS_OK || member->dying) {
        return;
    }
    world->sync->installs++;
    struct ls_storage_medium_left left;
    bool there = ls_storage_medium_left(member->medium, &member->shadow.group, &left);
    if (!there || left.last < install->anchor.index) {
        sim_fail(world, "%s: the state at %llu counts as installed, its log ends at %llu",
                 member->name, U(install->anchor.index), U(there ? left.last : 0));
    }
}

void sim_install_marked(struct sim_member *member)
{
    member->vault.install.marked = true;
}

void sim_install_published(struct sim_member *member, struct ls_cursor anchor)
{
    struct sim_install *install = &member->vault.install;
    if (install->runs && !install->marked) {
        sim_fail(member->world, "%s takes in the state at %llu before its mark is durable",
                 member->name, U(anchor.index));
    }
    install->published = true;
}

void sim_install_restores(struct sim_member *member, struct ls_cursor anchor)
{
    const struct sim_install *install = &member->vault.install;
    if (!install->published || ls_cursor_compare(install->anchor, anchor) != 0) {
        sim_fail(member->world, "%s drops its log up to %llu, where its state is not", member->name,
                 U(anchor.index));
    }
    member->vault.install.restored = true;
    (void)sim_install_step(member, SIM_INSTALL_RESTORING, false);
    (void)sim_install_step(member, SIM_INSTALL_RESTORING, true);
}

void sim_install_unmarks(struct sim_member *member)
{
    struct sim_install *install = &member->vault.install;
    struct ls_storage_medium_left left = {.last = 0};
    (void)ls_storage_medium_left(member->medium, &member->shadow.group, &left);
    if (install->marked && install->published && left.last < install->anchor.index) {
        sim_fail(member->world, "%s removes the mark of %llu, its log ends at %llu", member->name,
                 U(install->anchor.index), U(left.last));
    }
    install->marked = install->published = false;
}
