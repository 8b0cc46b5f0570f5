/* SPDX-License-Identifier: MIT */
/* Words that the stories are told with, and the plots that stand in a file of their own. */
#ifndef LOCKSTEP_SIM_STORIES_H
#define LOCKSTEP_SIM_STORIES_H

#include "world.h"

/* longer than elections take */
#define PATIENCE(world) (20000u * (uint64_t)(world)->election_ms + 2000000u)
/* messages that others overtake, where a story wants some */
#define LATE_PERCENT 30u

static inline struct ls_core_status core_of(const struct world *world, uint32_t at)
{
    struct ls_group_status status;
    sim_glance(&world->members[at], &status);
    return status.core;
}

/* The member that leads the newest term, of those not in `but`; count: none. */
static inline uint32_t leader_but(const struct world *world, uint32_t but, ls_term *term)
{
    uint32_t leader = world->count;
    *term = 0;
    for (uint32_t i = 0; i < world->count; i++) {
        if (world->members[i].group != NULL && (but >> i & 1u) == 0) {
            const struct ls_core_status core = core_of(world, i);
            if (core.role == LS_ROLE_LEADER && core.term > *term) {
                *term = core.term;
                leader = i;
            }
        }
    }
    return leader;
}

/* Somebody else leads a newer term, and has committed in it. */
static inline bool other_leads(struct world *world)
{
    ls_term term = 0;
    uint32_t leader = leader_but(world, world->story.but, &term);
    return leader != world->count && term > world->story.term &&
           world->members[leader].rules.serving;
}

static inline bool is_candidate(struct world *world)
{
    const struct sim_rules *rules = &world->members[world->story.who].rules;
    return rules->role == LS_ROLE_CANDIDATE && rules->term > world->story.term;
}

static inline bool gave_up(struct world *world)
{
    return !core_of(world, world->story.who).transferring;
}

static inline bool until(struct world *world, bool (*holds)(struct world *world))
{
    return sim_world_until(world, world->now_us + PATIENCE(world), holds) && !world->failed;
}

static inline void wait_ms(struct world *world, uint64_t low, uint64_t high)
{
    uint64_t ms = sim_random_in(&world->random, low, high);
    (void)sim_world_until(world, world->now_us + 1000u * ms, NULL);
}

/* Bonds come up, and whoever can win an election has won one. */
static inline void wait_elections(struct world *world)
{
    wait_ms(world, 3u * world->election_ms,
            6u * world->election_ms + world->network.reconnect_max_ms);
}

static inline void writes(struct world *world, uint32_t at, uint32_t count)
{
    for (uint32_t i = 0; i < count && world->members[at].group != NULL && !world->failed; i++) {
        (void)sim_probe(world, at);
        (void)sim_world_until(world, world->now_us + 1000u, NULL);
    }
}

static inline void cut(struct world *world, uint32_t side)
{
    for (uint32_t from = 0; from < world->count; from++) {
        for (uint32_t to = 0; to < world->count; to++) {
            if ((side >> from & 1u) != (side >> to & 1u)) {
                sim_network_block(world, from, to, true);
            }
        }
    }
}

/* What waits on the blocked paths between the sides is lost. */
static inline void lose(struct world *world, uint32_t side)
{
    for (uint32_t from = 0; from < world->count; from++) {
        for (uint32_t to = 0; to < from; to++) {
            if ((side >> from & 1u) != (side >> to & 1u)) {
                sim_sockets_sever(world, from, to);
            }
        }
    }
    wait_ms(world, 2, 5);
}

static inline void isolate(struct world *world, uint32_t at)
{
    for (uint32_t i = 0; i < world->count; i++) {
        if (i != at) {
            sim_network_block(world, at, i, true);
            sim_network_block(world, i, at, true);
        }
    }
}

static inline void crash(struct world *world, uint32_t at)
{
    size_t held = ls_storage_medium_held(world->members[at].medium);
    sim_member_crash(&world->members[at], (size_t)sim_random_in(&world->random, 0, held));
}

/* Voters but those in `but`, up to `most`, from a random place on. */
static inline uint32_t some_voters(struct world *world, uint32_t but, uint32_t most)
{
    uint32_t mask = 0, from = (uint32_t)sim_random_in(&world->random, 0, world->count - 1);
    for (uint32_t i = 0; i < world->count; i++) {
        uint32_t at = (from + i) % world->count;
        if (most > 0 && sim_is_voter(world, at) && (but >> at & 1u) == 0) {
            mask |= 1u << at;
            most--;
        }
    }
    return mask;
}

static inline uint32_t first_of(uint32_t mask)
{
    uint32_t at = 0;
    while ((mask >> at & 1u) == 0) {
        at++;
    }
    return at;
}

/* ---- stories_state.c: `leader` leads story.term, `spare` voters can be missed ---- */

/** The disk of the leader fails for good, its links do not (G8, P10). */
void sim_story_dead_disk(struct world *world, uint32_t leader, uint32_t spare);
/** Disks lose or change what was durable, one after the other (F4 to F7, P11). */
void sim_story_damage(struct world *world, uint32_t leader, uint32_t spare);
/** A member catches up under load, from members that are slow or say nothing (Y8, Y12, Y21). */
void sim_story_left_behind(struct world *world, uint32_t leader, uint32_t spare);
/** A former leader with a long tail returns when the others have pruned what it lacks (L1, P9). */
void sim_story_far_behind(struct world *world, uint32_t leader, uint32_t spare);

/* ---- stories_writes.c ---- */

/** The end of a log or a vote is lost where it would elect who lacks what is committed (F4). */
void sim_story_lost_writes(struct world *world, uint32_t leader, uint32_t spare);
/** The end of a log is lost, and the guard does not know how much (P11). */
void sim_story_behind_the_guard(struct world *world, uint32_t leader, uint32_t spare);
/** Each disk loses a vote, after the one before knows its own again (E3, F4). */
void sim_story_every_disk(struct world *world, uint32_t leader, uint32_t spare);
/** The log of a former leader is an old backup, longer than what its guard knows of (F16). */
void sim_story_old_backup(struct world *world, uint32_t leader, uint32_t spare);

#endif
