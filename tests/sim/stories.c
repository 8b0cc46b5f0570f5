/* SPDX-License-Identifier: MIT */
/*
 * Stories: faults in an order that chance finds too rarely, each the plot of a bug that some
 * system had. They begin in a converged group, wait for what has to happen rather than for a time,
 * and end with all paths open and all members up; the checks do the rest. A story that cannot
 * go on, because the members chose another way, ends early.
 */
#include "stories.h"

/* ---- stories: `leader` leads story.term; there are at least three voters ---- */

static void hang(struct world *world, uint32_t mask, bool hangs)
{
    for (uint32_t i = 0; i < world->count; i++) {
        if ((mask >> i & 1u) != 0) {
            world->members[i].sync_hangs = hangs;
            sim_member_after(&world->members[i]);
        }
    }
}

/*
 * A leader is cut off with few others and goes on writing, or stands still; another one is elected
 * and commits. Then the former leader is back, with its long tail, while the new one is gone, or
 * cut off in turn; or it is asked to read before it notices anything (E15, L1, L11, R2, R3, R13).
 */
static void former_leader(struct world *world, uint32_t leader, uint32_t spare)
{
    uint32_t side = 1u << leader, turn = (uint32_t)sim_random_in(&world->random, 0, 3);
    bool stands = sim_random_percent(&world->random, 40);
    side |= some_voters(world, side, (uint32_t)sim_random_in(&world->random, 0, spare - 1));
    uint32_t slow = sim_random_percent(&world->random, 50)
                        ? side & (uint32_t)sim_random_next(&world->random)
                        : 0;
    if (sim_random_percent(&world->random, 50)) {
        /* the others hold its last entries, and it does not know */
        for (uint32_t i = 0; i < world->count; i++) {
            for (uint32_t j = 0; j < world->count; j++) {
                bool back = (side >> i & 1u) == 0 && (side >> j & 1u) != 0;
                sim_network_block(world, i, j, back);
            }
        }
        writes(world, leader, (uint32_t)sim_random_in(&world->random, 1, 10));
        wait_ms(world, 12, 20);
    }
    cut(world, side);
    hang(world, slow, true);
    if (stands) {
        sim_member_pause(&world->members[leader], true);
    } else {
        writes(world, leader, (uint32_t)sim_random_in(&world->random, 1, 40));
    }
    world->story.but = side;
    if (until(world, other_leads)) {
        ls_term term = 0;
        uint32_t next = leader_but(world, side, &term);
        bool many = sim_random_percent(&world->random, 30); /* more than some leaders can send */
        writes(world, next, (uint32_t)sim_random_in(&world->random, 1, many ? 80 : 8));
        if (stands) {
            sim_member_pause(&world->members[leader], false);
            for (uint32_t i = 0; i < world->count; i++) {
                sim_calm_read(world, (side >> i & 1u) != 0 ? i : leader);
            }
            wait_ms(world, 10, 50);
        }
        if (turn == 1) {
            crash(world, next);
        } else if (turn == 2) {
            isolate(world, next);
        } else if (turn == 3) {
            for (uint32_t i = 0; i < world->count; i++) {
                crash(world, i);
                sim_push(world, world->now_us + sim_random_in(&world->random, 0, 100000), SIM_START,
                         i, 0, 0);
            }
        }
        for (uint32_t i = 0; i < world->count; i++) {
            bool away = turn == 2 && i == next;
            for (uint32_t j = 0; j < world->count && !away; j++) {
                sim_network_block(world, i, j, turn == 2 && j == next);
            }
        }
        wait_ms(world, 50, 500);
        hang(world, slow, false);
        wait_ms(world, world->election_ms, 3u * world->election_ms);
    }
    hang(world, slow, false);
    sim_member_pause(&world->members[leader], false);
}

/*
 * A leader hears nothing any more, hands over, and does not learn of its successor. Asked to read,
 * it has only itself and the few beside it to be sure of (R2, R3, R13).
 */
static void deaf_leader(struct world *world, uint32_t leader, uint32_t spare)
{
    uint32_t to = first_of(some_voters(world, 1u << leader, 1));
    uint32_t beside = some_voters(world, 1u << leader | 1u << to,
                                  (uint32_t)sim_random_in(&world->random, 0, spare - 1));
    for (uint32_t i = 0; i < world->count; i++) {
        sim_network_block(world, i, leader, i != leader && (beside >> i & 1u) == 0);
        for (uint32_t j = 0; j < world->count && (beside >> i & 1u) != 0; j++) {
            sim_network_block(world, j, i, j != i && j != leader); /* hears the old one alone */
        }
    }
    world->story.but = 1u << leader;
    if (!sim_transfer(world, leader, to) || !until(world, other_leads)) {
        return;
    }
    for (uint32_t i = 0; i < 4; i++) {
        writes(world, to, 3);
        wait_ms(world, 0, 25);
        sim_calm_read(world, leader);
    }
    wait_ms(world, 30, 60);
}

/*
 * The target of a hand-over begins a term, and nobody hears of it; the leader goes on, and then is
 * gone. Left are a member with the later term and one with the longer log (E8).
 */
static void term_alone(struct world *world, uint32_t leader, uint32_t spare)
{
    uint32_t to = first_of(some_voters(world, 1u << leader, 1));
    world->story.who = to;
    if (!sim_transfer(world, leader, to) || !until(world, is_candidate)) {
        return;
    }
    isolate(world, to);
    world->story.who = leader;
    if (!until(world, gave_up) || core_of(world, leader).role != LS_ROLE_LEADER) {
        return;
    }
    writes(world, leader, 5);
    wait_ms(world, 50, 100);
    uint32_t gone = 1u << leader | some_voters(world, 1u << leader | 1u << to, spare - 1);
    for (uint32_t i = 0; i < world->count; i++) {
        if ((gone >> i & 1u) != 0) {
            crash(world, i);
        }
    }
    world->resting = gone; /* whoever was about to start them */
    lose(world, 1u << to); /* what asks for votes in its term */
    sim_heal_paths(world);
    world->story.but = gone;
    if (!sim_world_until(world, world->now_us + 60000000u, other_leads)) {
        sim_fail(world, "a majority without faults finds no leader in 60 virtual seconds");
    }
    world->resting = 0;
}

/*
 * A leader hears nothing of one follower, whose acknowledgements wait on the path; it is deposed,
 * that follower's log is cut, and when it leads again they arrive (L13).
 */
static void late_acknowledgements(struct world *world, uint32_t leader, uint32_t spare)
{
    (void)spare;
    uint32_t follower = first_of(some_voters(world, 1u << leader, 1));
    isolate(world, leader);
    sim_network_block(world, leader, follower, false);
    writes(world, leader, (uint32_t)sim_random_in(&world->random, 5, 20));
    world->story.but = 1u << leader | 1u << follower;
    if (!until(world, other_leads)) {
        return;
    }
    ls_term term = 0;
    uint32_t next = leader_but(world, world->story.but, &term);
    wait_ms(world, 30, 60);
    isolate(world, follower);
    writes(world, next, 30);
    for (uint32_t i = 0; i < world->count; i++) {
        sim_network_block(world, leader, i, i == follower);
        sim_network_block(world, i, leader, i == follower);
    }
    wait_ms(world, world->election_ms, 2u * world->election_ms);
    world->story.but = ~(1u << leader);
    world->story.term = term;
    if (world->failed || !sim_transfer(world, next, leader) || !until(world, other_leads)) {
        return;
    }
    sim_network_block(world, follower, leader, false);
    wait_ms(world, 30, 60);
}

/*
 * A candidate gets the votes of its last term late, in the next one, from members that never heard
 * of that (E14).
 */
static void late_votes(struct world *world, uint32_t leader, uint32_t spare)
{
    uint32_t to = first_of(some_voters(world, 1u << leader, 1));
    uint32_t late = 1u << leader | some_voters(world, 1u << leader | 1u << to, spare - 1);
    world->story.who = to;
    if (!sim_transfer(world, leader, to) || !until(world, is_candidate)) {
        return;
    }
    for (uint32_t i = 0; i < world->count; i++) {
        sim_network_block(world, i, to, i != to);
    }
    wait_ms(world, 20, 40);
    for (uint32_t i = 0; i < world->count; i++) {
        if (i != to && (late >> i & 1u) == 0) {
            sim_sockets_sever(world, i, to);
        }
    }
    wait_ms(world, 25, 30);
    for (uint32_t i = 0; i < world->count; i++) {
        bool holds = (late >> i & 1u) != 0;
        sim_member_pause(&world->members[i], holds);
        sim_network_block(world, i, to, holds);
    }
    world->story.term = world->members[to].rules.term;
    if (until(world, is_candidate)) {
        for (uint32_t i = 0; i < world->count; i++) {
            sim_network_block(world, to, i, i != to);
            sim_network_block(world, i, to, (late >> i & 1u) == 0 && i != to);
        }
        wait_ms(world, 20, 40);
    }
    for (uint32_t i = 0; i < world->count; i++) {
        sim_member_pause(&world->members[i], false);
    }
    wait_ms(world, 2u * world->election_ms, 3u * world->election_ms);
}

/*
 * Some members miss writes; of the others, one loses its disk and the rest are away. It comes back
 * under the same name: its vote would elect a member that lacks what is committed (P14, L16).
 */
static void lost_disk(struct world *world, uint32_t leader, uint32_t spare)
{
    uint32_t lacks = some_voters(world, 1u << leader, spare);
    uint32_t lost = first_of(some_voters(world, 1u << leader | lacks, 1));
    cut(world, lacks);
    writes(world, leader, (uint32_t)sim_random_in(&world->random, 1, 10));
    wait_ms(world, 30, 60);
    lose(world, lacks);
    bool leader_too = sim_random_percent(&world->random, 80);
    for (uint32_t i = 0; i < world->count; i++) {
        bool holds = (lacks >> i & 1u) == 0;
        if (holds && i != lost && (leader_too || i != leader)) {
            crash(world, i);
        }
    }
    sim_member_wipe(&world->members[lost]);
    sim_member_start(&world->members[lost]);
    sim_heal_paths(world);
    wait_elections(world);
}

/* What a disk lost is there, and comes back in pieces. */
static bool in_pieces(const struct world *world)
{
    return sim_sync_lags(world) && sim_damage_logs_end(world);
}

/* ---- */

static const struct story {
    const char *name;
    void (*plot)(struct world *world, uint32_t leader, uint32_t spare);
    uint32_t weight, voters; /* how many it needs */
    bool (*fits)(const struct world *world);
} stories[] = {{"a former leader", former_leader, 3, 3, NULL},
               {"a deaf leader", deaf_leader, 2, 3, NULL},
               {"a term alone", term_alone, 1, 3, NULL},
               {"late acknowledgements", late_acknowledgements, 1, 5, NULL},
               {"late votes", late_votes, 1, 5, NULL},
               {"a lost disk", lost_disk, 3, 3, sim_member_wipes},
               {"a dead disk", sim_story_dead_disk, 1, 3, NULL},
               {"damaged disks", sim_story_damage, 2, 3, NULL},
               {"lost writes", sim_story_lost_writes, 2, 3, NULL},
               {"losses behind the guard", sim_story_behind_the_guard, 4, 3, in_pieces},
               {"every disk", sim_story_every_disk, 1, 3, NULL},
               {"an old backup", sim_story_old_backup, 3, 3, sim_damage_logs_end},
               {"left behind", sim_story_left_behind, 5, 3, sim_sync_lags},
               {"far behind", sim_story_far_behind, 12, 3, sim_sync_snapshots}};

static bool possible(const struct world *world, const struct story *story, uint32_t voters)
{
    return voters >= story->voters && (story->fits == NULL || story->fits(world));
}

/* One that this group can play, by weight. */
static const struct story *choose(struct world *world, uint32_t voters)
{
    const size_t count = sizeof stories / sizeof stories[0];
    uint32_t total = 0;
    for (size_t i = 0; i < count; i++) {
        total += possible(world, &stories[i], voters) ? stories[i].weight : 0;
    }
    uint64_t drawn = total == 0 ? 0 : sim_random_in(&world->random, 0, total - 1);
    for (size_t i = 0; i < count && total > 0; i++) {
        if (possible(world, &stories[i], voters)) {
            if (drawn < stories[i].weight) {
                return &stories[i];
            }
            drawn -= stories[i].weight;
        }
    }
    return NULL;
}

void sim_story(struct world *world)
{
    uint32_t voters = 0, leader = leader_but(world, 0, &world->story.term);
    for (uint32_t i = 0; i < world->count; i++) {
        bool counts = core_of(world, i).standing == LS_STANDING_COUNTS;
        if (sim_is_voter(world, i) && !counts) {
            return; /* one is missing already */
        }
        voters += sim_is_voter(world, i);
    }
    const struct story *story = choose(world, voters);
    if (leader == world->count || story == NULL) {
        return;
    }
    sim_note(world, "the story of %s begins with %s", story->name, world->members[leader].name);
    world->story.but = 1u << leader;
    story->plot(world, leader, (voters - 1) / 2);
    sim_heal_paths(world);
    for (uint32_t i = 0; i < world->count && !world->failed; i++) {
        sim_member_pause(&world->members[i], false);
        sim_member_start(&world->members[i]);
    }
    sim_note(world, "the story ends");
}
