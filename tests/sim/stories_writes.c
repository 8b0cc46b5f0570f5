/* SPDX-License-Identifier: MIT */
/* Stories of disks that lose writes which they had reported as durable (damage.c). */
#include "stories.h"

/* of writes, until all members know again what they promised */
#define ROUNDS 100u

static bool is_closed(struct world *world)
{
    return world->members[world->story.who].node == NULL;
}

static bool all_whole(struct world *world)
{
    for (uint32_t i = 0; i < world->count; i++) {
        const struct sim_member *member = &world->members[i];
        if (member->group == NULL || core_of(world, i).standing == LS_STANDING_TAIL_UNKNOWN ||
            ls_storage_medium_doubtful(member->medium, &member->shadow.group)) {
            return false;
        }
    }
    return true;
}

/* An orderly end, after which the guard knows of all; then the disk loses some of it. */
static bool lose_writes(struct world *world, uint32_t at, bool log)
{
    world->story.who = at;
    log = log && sim_damage_logs_end(world);
    sim_member_close(&world->members[at], PATIENCE(world));
    return until(world, is_closed) && sim_damage_lose(world, at, log);
}

static void all_start(struct world *world)
{
    sim_heal_paths(world);
    for (uint32_t i = 0; i < world->count && !world->failed; i++) {
        sim_member_start(&world->members[i]);
    }
}

/*
 * Some members miss writes; of the others, one loses its last writes and the rest are away. With
 * its vote, a member would lead that lacks what is committed; but its guard knows better (F4).
 */
void sim_story_lost_writes(struct world *world, uint32_t leader, uint32_t spare)
{
    uint32_t lacks = some_voters(world, 1u << leader, spare);
    uint32_t lost = first_of(some_voters(world, 1u << leader | lacks, 1));
    bool log = sim_random_percent(&world->random, 70);
    cut(world, lacks);
    writes(world, leader, (uint32_t)sim_random_in(&world->random, 1, 10));
    wait_ms(world, 30, 60);
    lose(world, lacks);
    if (!lose_writes(world, lost, log)) {
        return;
    }
    for (uint32_t i = 0; i < world->count; i++) {
        if ((lacks >> i & 1u) == 0 && i != lost) {
            crash(world, i);
        }
    }
    sim_heal_paths(world);
    wait_elections(world);
}

/* A leader goes on until everybody knows what it promised. */
static void led_back(struct world *world, uint32_t lossy)
{
    for (uint32_t round = 0; !all_whole(world) && !world->failed; round++) {
        ls_term term = 0;
        uint32_t now = leader_but(world, 0, &term);
        if (round == ROUNDS) {
            sim_fail(world, "%s has lost writes, and doubts what it promised for good",
                     world->members[lossy].name);
        }
        wait_ms(world, 200, 400);
        writes(world, now == world->count ? lossy : now, 2);
    }
}

/*
 * One disk after the other loses its last vote, each when all others know what they promised, also
 * if they start again. So in the end all may start at once (E3, F4).
 */
void sim_story_every_disk(struct world *world, uint32_t leader, uint32_t spare)
{
    (void)spare;
    for (uint32_t i = 0; i < world->count && !world->failed; i++) {
        uint32_t at = (leader + i) % world->count;
        if (!lose_writes(world, at, false)) {
            return;
        }
        led_back(world, at);
    }
    for (uint32_t i = 0; i < world->count; i++) {
        crash(world, i);
        sim_member_start(&world->members[i]);
    }
}

static bool counts_again(struct world *world)
{
    const struct sim_member *member = &world->members[world->story.who];
    return member->group == NULL || core_of(world, member->at).standing == LS_STANDING_COUNTS;
}

/* Its disk holds more than its guard knew of, or all that it has to. */
static bool beyond_the_guard(struct world *world)
{
    const struct sim_member *member = &world->members[world->story.who];
    return sim_member_disk_last(member) >
               ls_storage_medium_guarded(member->medium, &member->shadow.group) ||
           counts_again(world);
}

/*
 * A disk loses more than its guard knew of; the leader, or the next one, commits with what was
 * acknowledged. What is missing comes back in pieces, and who counts again after the first ones
 * would elect a member that lacks the rest, when all others are gone (P11).
 */
void sim_story_behind_the_guard(struct world *world, uint32_t leader, uint32_t spare)
{
    uint32_t lacks = some_voters(world, 1u << leader, spare);
    uint32_t lost = first_of(some_voters(world, 1u << leader | lacks, 1));
    bool other = spare > 1 && sim_random_percent(&world->random, 70);
    wait_ms(world, 1000, 1200); /* the guard learns of entries once a second */
    writes(world, leader, 1);
    wait_ms(world, 30, 60);
    cut(world, lacks);
    writes(world, leader, (uint32_t)sim_random_in(&world->random, 5, 150));
    wait_ms(world, 30, 60);
    lose(world, lacks);
    crash(world, lost);
    world->resting = 1u << lost | (other ? 1u << leader : 0);
    if (other) {
        crash(world, leader);
        world->story.but = 1u << leader | 1u << lost;
    }
    sim_heal_paths(world);
    bool leads = !other || until(world, other_leads);
    world->resting = 0;
    if (!leads || !sim_damage_lose(world, lost, true)) {
        return;
    }
    world->story.who = lost;
    /* a heartbeat may be heard before the first append */
    sim_network_disorder(world, LATE_PERCENT);
    if (sim_random_percent(&world->random, 50) && until(world, beyond_the_guard) &&
        !counts_again(world)) {
        crash(world, lost); /* now only the guard's word is left that it doubts */
        sim_member_start(&world->members[lost]);
    }
    (void)until(world, counts_again);
    for (uint32_t i = 0; i < world->count && sim_random_percent(&world->random, 50); i++) {
        if ((lacks >> i & 1u) == 0 && i != lost) {
            crash(world, i);
        }
    }
    wait_elections(world);
}

/* ---- an old backup ---- */

/* Its disk knows of a later term than the one it led. */
static bool heard_of_term(struct world *world)
{
    const struct sim_member *member = &world->members[world->story.who];
    struct ls_storage_medium_left left;
    return ls_storage_medium_left(member->medium, &member->shadow.group, &left) &&
           left.hard_state.term > world->story.term;
}

/* It has durable what somebody else leads with, and all of that is committed. */
static bool caught_up(struct world *world)
{
    ls_term term = 0;
    uint32_t leader = leader_but(world, world->story.but, &term);
    if (leader == world->count || world->members[world->story.who].group == NULL) {
        return false;
    }
    const struct ls_core_status core = core_of(world, leader);
    const struct ls_core_status own = core_of(world, world->story.who);
    return term > world->story.term && own.term == term && own.durable == core.last &&
           own.last == core.last && core.commit == core.last;
}

/*
 * A former leader with a long tail, of which a backup is made: in its own term, or when it has
 * heard of the next. Its tail is replaced by a shorter one, which may be committed with it alone
 * beside the leader. Then its disk is the backup again: longer than its guard demands, maybe of the
 * right term, but of another past (F16).
 */
void sim_story_old_backup(struct world *world, uint32_t leader, uint32_t spare)
{
    struct sim_member *member = &world->members[leader];
    bool early = sim_random_percent(&world->random, 30);
    bool alone = sim_random_percent(&world->random, 60);
    ls_term term = 0;
    if (!all_whole(world)) {
        return;
    }
    world->story.who = leader;
    isolate(world, leader);
    writes(world, leader, (uint32_t)sim_random_in(&world->random, 10, 40));
    wait_ms(world, 10, 20);
    if (!until(world, other_leads)) {
        return;
    }
    uint32_t next = leader_but(world, world->story.but, &term);
    for (uint32_t i = 0; i < world->count && !early; i++) {
        sim_network_block(world, leader, i, i == next);
        sim_network_block(world, i, leader, i == next);
    }
    if (!early && !until(world, heard_of_term)) {
        return;
    }
    bool kept = ls_storage_medium_keep(member->medium, &member->shadow.group);
    writes(world, next, (uint32_t)sim_random_in(&world->random, 1, 5));
    sim_heal_paths(world);
    if (!kept || !until(world, caught_up)) {
        return;
    }
    next = leader_but(world, world->story.but, &term);
    uint32_t lacks = alone ? some_voters(world, 1u << leader | 1u << next, spare) : 0;
    cut(world, lacks);
    writes(world, next, (uint32_t)sim_random_in(&world->random, 1, 3));
    if (!until(world, caught_up)) {
        return;
    }
    lose(world, lacks);
    sim_member_close(member, PATIENCE(world));
    if (!until(world, is_closed) || !sim_damage_restore(world, leader)) {
        return;
    }
    for (uint32_t i = 0; i < world->count && lacks != 0; i++) {
        if ((lacks >> i & 1u) == 0 && i != leader) {
            crash(world, i);
        }
    }
    sim_heal_paths(world);
    wait_elections(world);
    all_start(world);
    led_back(world, leader);
}
