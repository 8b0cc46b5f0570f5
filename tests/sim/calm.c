/* SPDX-License-Identifier: MIT */
/*
 * What is demanded of a group without faults, beyond that it converges: a majority is enough, every
 * member answers a read that is alone, leadership goes where it is sent while calls go on, and one
 * member that loses touch disturbs nobody, neither while it is away nor when it comes back.
 */
#include "world.h"

#include <stdlib.h>

/* a call that needs no more than a few messages; links that broke unseen cost seconds */
#define READ_MS 10000u
/* between two calls during a hand-over: closer than a round trip */
#define LOAD_US 2000u
/* with such an election timeout half of it is many round trips */
#define SLOW_MS 400u
/* a link that broke before the faults ended is noticed by then */
#define NOTICE_US 3000000u
/* all deadlines of calls have passed by then */
#define ANSWERS_US 60000000u

static enum ls_standing standing(const struct world *world, uint32_t at)
{
    struct ls_group_status status;
    sim_glance(&world->members[at], &status);
    return status.core.standing;
}

/* The member that serves; count: none. */
static uint32_t serving(const struct world *world, ls_term *term)
{
    for (uint32_t i = 0; i < world->count; i++) {
        if (world->members[i].group != NULL) {
            struct ls_group_status status;
            sim_glance(&world->members[i], &status);
            if (status.serving) {
                *term = status.core.term;
                return i;
            }
        }
    }
    return world->count;
}

/* ---- calls that are no client's ---- */

void sim_answered(struct sim_member *member)
{
    if (member->unanswered == 0) {
        sim_fail(member->world, "%s answers a call that it was not asked", member->name);
        return;
    }
    member->unanswered--;
}

static void on_transfer(void *arg, const struct ls_outcome *outcome)
{
    struct sim_member *member = arg;
    sim_answered(member);
    sim_mix(member->world, (uint64_t)outcome->status);
}

bool sim_transfer(struct world *world, uint32_t from, uint32_t to)
{
    struct sim_member *member = &world->members[from];
    enum ls_status status =
        ls_group_transfer(member->group, world->members[to].name, NULL, on_transfer, member);
    member->unanswered += status == LS_OK;
    sim_member_after(member);
    return status == LS_OK;
}

static bool all_answered(struct world *world)
{
    for (uint32_t i = 0; i < world->count; i++) {
        if (world->members[i].unanswered > 0) {
            return false;
        }
    }
    return true;
}

void sim_calm_answers(struct world *world)
{
    if (!sim_world_until(world, world->now_us + ANSWERS_US, all_answered)) {
        sim_fail(world, "a hand-over or a read has no answer when the run ends");
    }
}

/* ---- who may be sent away ---- */

/* A voter that counts and is not `but`, from a random place on; count: none. `spare`: how many of
 * those that count a quorum can do without. */
static uint32_t some_voter(struct world *world, uint32_t but, uint32_t *spare)
{
    uint32_t voters = 0, counting = 0, found = world->count;
    uint32_t from = (uint32_t)sim_random_in(&world->random, 0, world->count - 1);
    for (uint32_t i = 0; i < world->count; i++) {
        uint32_t at = (from + i) % world->count;
        bool counts = sim_is_voter(world, at) && standing(world, at) == LS_STANDING_COUNTS;
        voters += sim_is_voter(world, at);
        counting += counts;
        found = counts && at != but && found == world->count ? at : found;
    }
    *spare = counting > voters / 2 ? counting - voters / 2 - 1 : 0;
    return found;
}

/* Voters that may not know what they promised (P11): only a leader can heal them. */
static uint32_t tails_unknown(const struct world *world)
{
    uint32_t unknown = 0;
    for (uint32_t i = 0; i < world->count; i++) {
        const struct sim_member *member = &world->members[i];
        unknown += sim_is_voter(world, i) && member->rules.wipes == 0 &&
                   (member->group == NULL || standing(world, i) == LS_STANDING_TAIL_UNKNOWN);
    }
    return unknown;
}

uint32_t sim_calm_rest(struct world *world)
{
    uint32_t voters = 0, mask = 0;
    for (uint32_t i = 0; i < world->count; i++) {
        voters += sim_is_voter(world, i);
    }
    if (world->rules_commit == 0 || sim_random_percent(&world->random, 40)) {
        return 0; /* founding needs them all */
    }
    uint32_t spare = (voters - 1) / 2, unknown = tails_unknown(world);
    spare -= unknown < spare ? unknown : spare;
    uint32_t from = (uint32_t)sim_random_in(&world->random, 0, world->count - 1);
    for (uint32_t i = 0; i < world->count; i++) {
        uint32_t at = (from + i) % world->count;
        /* one that came back without its promises does not count, here or away */
        bool goes = sim_is_voter(world, at) ? spare > 0 : sim_random_percent(&world->random, 50);
        if (goes || world->members[at].rules.wipes > 0) {
            mask |= 1u << at;
            spare -= sim_is_voter(world, at) && spare > 0;
        }
    }
    for (uint32_t i = 0; i < world->count; i++) {
        if ((mask >> i & 1u) != 0) {
            sim_member_crash(&world->members[i], SIZE_MAX);
        }
    }
    return mask;
}

/* ---- links ---- */

static bool all_bonded(struct world *world)
{
    struct ls_group_bond bonds[SIM_MEMBERS_MAX];
    for (uint32_t i = 0; i < world->count; i++) {
        size_t count = ls_group_bonds(world->members[i].group, bonds, SIM_MEMBERS_MAX);
        for (size_t j = 0; j < count; j++) {
            if (!bonds[j].info.up) {
                return false;
            }
        }
    }
    return true;
}

void sim_calm_links(struct world *world)
{
    (void)sim_world_until(world, world->now_us + NOTICE_US, NULL);
    if (!all_bonded(world) &&
        !sim_world_until(world, world->now_us + 20u * NOTICE_US, all_bonded)) {
        sim_fail(world, "members without faults find no link to each other");
    }
}

/* ---- reads ---- */

struct sim_calm_read {
    struct sim_calm_read *before; /* all of the run: one that ends twice has to be there */
    struct sim_member *member;
    ls_index floor; /* known to be done when it was asked */
    bool demanded, over;
};

static void on_read(void *arg, const struct ls_outcome *outcome)
{
    struct sim_calm_read *read = arg;
    struct sim_member *member = read->member;
    struct world *world = member->world;
    if (read->over) {
        sim_fail(world, "a read of %s ends twice, or was refused", member->name);
        return;
    }
    read->over = true;
    sim_answered(member);
    world->calm_reads -= read->demanded;
    sim_mix(world, (uint64_t)outcome->status);
    if (outcome->status == LS_OK && member->machine.applied < read->floor) {
        sim_fail(world,
                 "not linearizable: %s read the state at %llu, but %llu was done before it asked",
                 member->name, (unsigned long long)member->machine.applied,
                 (unsigned long long)read->floor);
    } else if (outcome->status != LS_OK && read->demanded &&
               (member->machine.applied >= world->checks.last || !sim_sync_waits(world))) {
        sim_fail(world, "a read of %s in a group without faults ends with \"%s\"", member->name,
                 ls_status_text(outcome->status));
    }
}

static void ask_read(struct world *world, uint32_t at, bool demanded)
{
    struct sim_member *member = &world->members[at];
    const struct ls_call_options call = {.deadline_ms = READ_MS};
    struct sim_calm_read *read = sim_allocate(sizeof *read);
    *read = (struct sim_calm_read){.before = world->reads,
                                   .member = member,
                                   .floor = world->checks.known,
                                   .demanded = demanded};
    world->reads = read;
    enum ls_status status = ls_group_read_barrier(member->group, &call, on_read, read);
    member->unanswered += status == LS_OK;
    if (status != LS_OK) {
        read->over = true;
        if (demanded) {
            sim_fail(world, "%s refuses a read in a group without faults: %s", member->name,
                     ls_status_text(status));
        }
        return;
    }
    world->calm_reads += demanded;
    sim_member_after(member);
}

void sim_calm_free(struct world *world)
{
    while (world->reads != NULL) {
        struct sim_calm_read *read = world->reads;
        world->reads = read->before;
        free(read);
    }
}

void sim_calm_read(struct world *world, uint32_t at)
{
    if (world->members[at].group != NULL && !world->members[at].paused) {
        ask_read(world, at, false);
    }
}

static bool reads_done(struct world *world)
{
    return world->calm_reads == 0;
}

static void lone_reads(struct world *world)
{
    for (uint32_t i = 0; i < world->count && !world->failed; i++) {
        ask_read(world, i, true);
        (void)sim_world_until(world, world->now_us + 2000u * READ_MS, reads_done);
    }
}

/* Some member has not applied all that is committed: with small caches a hand-over may leave it to
 * state sync, which takes its time. */
static bool some_lag(const struct world *world)
{
    for (uint32_t i = 0; i < world->count; i++) {
        struct ls_group_status status;
        if (world->members[i].group != NULL) {
            sim_glance(&world->members[i], &status);
            if (status.core.applied < world->rules_commit) {
                return true;
            }
        }
    }
    return false;
}

/* ---- a hand-over under load ---- */

static void hand_over(struct world *world)
{
    uint32_t spare = 0;
    ls_term term = 0, now = 0;
    uint32_t leader = serving(world, &term), to = some_voter(world, leader, &spare);
    if (leader == world->count || to == world->count) {
        return;
    }
    sim_note(world, "%s is to hand over to %s", world->members[leader].name,
             world->members[to].name);
    uint64_t until_us = world->now_us + 2000u * world->election_ms + 1000000u;
    world->handing = true;
    for (uint32_t i = 0; world->now_us < until_us && !world->failed; i++) {
        if (i == 10 && !sim_transfer(world, leader, to)) {
            sim_fail(world, "%s refuses to hand over", world->members[leader].name);
        }
        (void)sim_probe(world, leader);
        ask_read(world, i % 2 == 0 ? leader : to, true);
        (void)sim_world_until(world, world->now_us + LOAD_US, NULL);
        if (serving(world, &now) == to) {
            break;
        }
    }
    if (!world->failed && (serving(world, &now) != to || now != term + 1)) {
        sim_fail(world, "%s was to hand over to %s in term %llu, and in term %llu it has not",
                 world->members[leader].name, world->members[to].name, (unsigned long long)term,
                 (unsigned long long)now);
    }
    /* the leader before it ends its reads at once, and does not leave them to a timeout */
    uint64_t patience_us =
        world->election_ms >= SLOW_MS ? 500u * world->election_ms : 2000u * READ_MS;
    if (!sim_world_until(world, world->now_us + patience_us, reads_done) && !world->failed &&
        world->calm_reads > 0 && !some_lag(world)) {
        sim_fail(world, "%u reads hang after a hand-over", world->calm_reads);
    }
    world->handing = false;
}

/* ---- one that loses touch ---- */

static void cut_off(struct world *world)
{
    uint32_t spare = 0;
    ls_term term = 0, now = 0;
    uint32_t leader = serving(world, &term), away = some_voter(world, leader, &spare);
    if (leader == world->count || away == world->count || spare == 0) {
        return;
    }
    /* away from all, deaf, or deaf to the leader alone */
    uint64_t shape = sim_random_in(&world->random, 0, 2);
    sim_note(world, "%s loses touch", world->members[away].name);
    for (uint32_t i = 0; i < world->count; i++) {
        if (i != away && (shape != 2 || i == leader)) {
            sim_network_block(world, i, away, true);
            sim_network_block(world, away, i, shape == 0);
        }
    }
    (void)sim_world_until(world, world->now_us + 4000u * world->election_ms, NULL);
    if (!world->failed && (serving(world, &now) != leader || now != term)) {
        sim_fail(world, "one member lost touch, and term %llu became %llu",
                 (unsigned long long)term, (unsigned long long)now);
    }
    sim_heal_paths(world);
    (void)sim_world_until(world, world->now_us + 4000u * world->election_ms, NULL);
    if (!world->failed && (serving(world, &now) != leader || now != term)) {
        sim_fail(world, "one member came back, and term %llu became %llu", (unsigned long long)term,
                 (unsigned long long)now);
    }
}

void sim_calm(struct world *world)
{
    sim_calm_links(world);
    lone_reads(world);
    hand_over(world);
    cut_off(world);
}
