/* SPDX-License-Identifier: MIT */
/* Stories of disks and of state sync: what a member holds is lost, changed, or far behind. */
#include "faults.h"
#include "stories.h"
#include "sync.h"

/* a majority without faults leads again within so long */
#define LEADS_US 60000000u
/* answers of state sync that never leave */
#define MUTE_PERCENT 25u
/* a node that holds so much is given nothing more to keep */
#define MEMORY_MAX (6u << 20)

void sim_story_dead_disk(struct world *world, uint32_t leader, uint32_t spare)
{
    struct sim_member *member = &world->members[leader];
    (void)spare;
    member->disk_error = (struct sim_disk_error){.kind = LS_STORAGE_FAULT_WRITE, .struck = true};
    ls_storage_medium_fail(member->medium, LS_STORAGE_FAULT_WRITE, 0);
    writes(world, leader, 5);
    if (!sim_world_until(world, world->now_us + LEADS_US, other_leads) && !world->failed) {
        sim_fail(world, "the disk of %s has failed, and for 60 virtual seconds nobody else leads",
                 member->name);
    }
    wait_ms(world, 0, 2u * world->election_ms);
    sim_heal_disks(member);
}

/* Every voter is there, and its promises count. */
static bool all_count(struct world *world)
{
    for (uint32_t i = 0; i < world->count; i++) {
        if (world->members[i].group == NULL ||
            (sim_is_voter(world, i) && core_of(world, i).standing != LS_STANDING_COUNTS)) {
            return false;
        }
    }
    return true;
}

void sim_story_damage(struct world *world, uint32_t leader, uint32_t spare)
{
    struct sim_fault_record record = {.text = ""};
    struct sim_strike strike = {.world = world,
                                .random = {sim_random_next(&world->random)},
                                .fault = SIM_FAULT_DISK_DAMAGE,
                                .record = &record};
    (void)leader;
    (void)spare;
    for (uint32_t i = 0; i < 4 && !world->failed; i++) {
        ls_term term = 0;
        uint32_t leads = leader_but(world, 0, &term);
        writes(world, leads < world->count ? leads : 0,
               (uint32_t)sim_random_in(&world->random, 1, 10));
        wait_ms(world, 0, 1500); /* the guard learns of entries once a second */
        record.text[0] = '\0';
        (void)sim_strike_damage(&strike);
        if (!until(world, all_count)) {
            return;
        }
    }
}

void sim_story_left_behind(struct world *world, uint32_t leader, uint32_t spare)
{
    struct sim_sync *sync = world->sync;
    uint32_t behind = first_of(some_voters(world, 1u << leader, 1));
    (void)spare;
    isolate(world, behind);
    writes(world, leader, (uint32_t)sim_random_in(&world->random, 60, 150));
    lose(world, 1u << behind);
    sim_heal_paths(world);
    sync->mute_percent = MUTE_PERCENT;
    sync->eager = true;
    sim_network_disorder(world, LATE_PERCENT);
    for (uint32_t i = 0; i < 40 && !world->failed; i++) {
        writes(world, leader, 5);
        wait_ms(world, 0, 30);
    }
    sync->mute_percent = 0;
    sync->eager = false;
}

/* As many, unless they are large. */
static void many_writes(struct world *world, uint32_t at, uint64_t count)
{
    for (uint64_t i = 0; i < count && world->members[at].watch.live_bytes < MEMORY_MAX; i += 10) {
        writes(world, at, 10);
    }
}

/* The leader alone goes on writing, and does not know what of it the others hold; they go on
 * without it until it lags too far to hold back their logs, and take snapshots. */
void sim_story_far_behind(struct world *world, uint32_t leader, uint32_t spare)
{
    const uint64_t lag = world->sync->lag_entries;
    (void)spare;
    for (uint32_t i = 0; i < world->count; i++) {
        sim_network_block(world, i, leader, i != leader);
    }
    writes(world, leader, (uint32_t)sim_random_in(&world->random, 1, 10));
    wait_ms(world, 12, 20);
    isolate(world, leader);
    lose(world, 1u << leader);
    bool longer = sim_random_percent(&world->random, 50);
    many_writes(world, leader, sim_random_in(&world->random, 0, lag + (longer ? 400 : 100)));
    if (!until(world, other_leads)) {
        return;
    }
    ls_term term = 0;
    uint32_t next = leader_but(world, world->story.but, &term);
    many_writes(world, next, sim_random_in(&world->random, lag, lag + 200));
    wait_ms(world, 1000, 3000);
    writes(world, next, 5);
}
