/* SPDX-License-Identifier: MIT */
/*
 * What a disk lost of what its member had acknowledged, and who counts on it. The member may count
 * again only when it holds what could still be committed with those acknowledgements (P11).
 */
#include "lost.h"

#include "world.h"

#include <stdlib.h>
#include <string.h>

#define U(number) ((unsigned long long)(number))

void sim_lost_note(struct sim_member *member, ls_index kept)
{
    struct world *world = member->world;
    struct sim_lost *lost = &member->lost;
    const struct sim_shadow *shadow = &member->shadow;
    lost->first = kept + 1;
    lost->last = shadow->promise.match < shadow->last ? shadow->promise.match : shadow->last;
    if (kept >= lost->last) {
        lost->last = kept;
    } else {
        size_t count = (size_t)(lost->last - kept);
        lost->marks = sim_grow(lost->marks, &lost->capacity, count, sizeof *lost->marks);
        (void)memcpy(lost->marks, &shadow->log[lost->first], count * sizeof *lost->marks);
    }
    for (uint32_t i = 0; i < world->count; i++) {
        const struct sim_rules *rules = &world->members[i].rules;
        bool leads = i != member->at && world->members[i].group != NULL &&
                     rules->role == LS_ROLE_LEADER && rules->life == world->members[i].life;
        lost->counted[i] = (struct ls_cursor){leads ? rules->term : 0,
                                              leads ? rules->beliefs[member->at].match : 0};
    }
}

void sim_lost_lowered(struct sim_member *member, uint32_t leader, struct ls_cursor commit)
{
    struct ls_cursor *counted = &member->lost.counted[leader];
    if (counted->term == commit.term && counted->index > commit.index) {
        counted->index = commit.index;
    }
}

void sim_lost_check(const struct sim_member *member, ls_term term)
{
    struct world *world = member->world;
    const struct sim_lost *lost = &member->lost;
    const struct sim_logs *logs = &world->checks.logs;
    ls_index last = sim_member_disk_last(member);
    for (uint32_t i = 0; i < world->count; i++) {
        if (lost->counted[i].term == term && lost->counted[i].index > last) {
            sim_fail(world, "%s counts again up to %llu, and %s counted on it up to %llu",
                     member->name, U(last), world->members[i].name, U(lost->counted[i].index));
        }
    }
    for (ls_index i = lost->first; i <= lost->last && i <= logs->committed_last; i++) {
        const struct sim_mark *mark = &lost->marks[i - lost->first];
        const struct sim_committed *committed = &logs->committed[i];
        if (committed->term < term && committed->chain == mark->chain &&
            !sim_check_holds(member, i, *mark)) {
            sim_fail(world, "%s counts again without %llu^%llu, which it helped to commit",
                     member->name, U(mark->term), U(i));
            return;
        }
    }
}

void sim_lost_free(struct sim_member *member)
{
    free(member->lost.marks);
}
