/* SPDX-License-Identifier: MIT */
/*
 * Random schedules: messages lost, doubled and reordered, disks that hold back and lose what was
 * not synced, crashes, cut links, small caches with state sync. What must hold: one leader a term,
 * committed entries never change, and after healing everyone has everything.
 */
#include "cores.h"

struct world {
    struct group *group;
    uint64_t random;
    ls_term committed[LOG_MAX]; /* term of each entry seen committed, by index */
    int leaders[4096];          /* by term: who led it, + 1 */
    bool wiped;
    uint64_t faults, read_token, reads, read_floor[64];
};

static uint64_t draw(struct world *world, uint64_t below)
{
    world->random ^= world->random << 13;
    world->random ^= world->random >> 7;
    world->random ^= world->random << 17;
    return world->random % below;
}

static void observe(struct world *world)
{
    struct group *group = world->group;
    for (unsigned i = 0; i < group->count; i++) {
        struct node *node = &group->nodes[i];
        if (!node->up) {
            continue;
        }
        assert_int_equal(node->ready.halted, LS_OK);
        if (node->ready.role == LS_ROLE_LEADER) {
            assert_true(node->ready.term < 4096);
            int *leader = &world->leaders[node->ready.term];
            assert_true(*leader == 0 || *leader == (int)i + 1); /* election safety */
            *leader = (int)i + 1;
        }
        for (ls_index index = node->commit_max + 1; index <= node->ready.commit; index++) {
            ls_term term = ls_core_term_at(node->core, index);
            assert_true(index < LOG_MAX);
            if (world->committed[index] == 0) {
                world->committed[index] = term;
            }
            assert_int_equal(world->committed[index], term); /* state machine safety */
        }
        node->commit_max = node->ready.commit;
        for (size_t r = 0; r < node->results_count; r++) {
            const struct ls_read_result *result = &node->results[r];
            if (result->status == LS_OK) {
                world->reads++;
                assert_true(result->index >= world->read_floor[result->token % 64]);
            }
        }
        node->results_count = 0;
    }
}

static void crash(struct world *world, unsigned at)
{
    struct group *group = world->group;
    struct node *node = &group->nodes[at];
    size_t kept = node->batches_count == 0 ? 0 : draw(world, node->batches_count + 1);
    for (size_t i = 0; i < kept; i++) { /* some of what was staged reached the disk */
        image_apply(&node->disk, &node->batches[i]);
    }
    node_close(group, at);
    node->commit_max = 0;
    world->faults++;
}

static void duplicate(struct world *world, size_t at)
{
    struct group *group = world->group;
    struct packet copy = group->net[at];
    if (group->net_count >= NET_MAX / 2) {
        return;
    }
    if (copy.entries != NULL) {
        uint32_t count = copy.outgoing.message.as.append.count;
        struct ls_entry *entries = calloc(count, sizeof *entries);
        assert_non_null(entries);
        for (uint32_t i = 0; i < count; i++) {
            struct stored stored = stored_copy(&copy.entries[i]);
            entries[i] = (struct ls_entry){stored.term, stored.kind, {stored.data, stored.bytes}};
        }
        copy.entries = entries;
        copy.outgoing.message.as.append.entries = entries;
    }
    group->net[group->net_count++] = copy;
    world->faults++;
}

/* What state sync would do: committed entries of another member, from the own commit on. */
static void state_sync(struct world *world, unsigned at)
{
    struct group *group = world->group;
    unsigned from = (unsigned)draw(world, group->count);
    struct node *node = &group->nodes[at];
    struct node *provider = &group->nodes[from];
    ls_index first = node->ready.commit + 1;
    ls_index last = provider->ready.commit < provider->ready.durable ? provider->ready.commit
                                                                     : provider->ready.durable;
    if (!node->gap || from == at || !provider->up || last < first) {
        return;
    }
    uint32_t count = (uint32_t)(last - first + 1 > 10 ? 10 : last - first + 1);
    struct ls_entry entries[10];
    for (uint32_t i = 0; i < count; i++) {
        const struct stored *stored = &provider->disk.log[first - 1 + i];
        entries[i] = (struct ls_entry){stored->term, stored->kind, {stored->data, stored->bytes}};
    }
    struct ls_event event = {.kind = LS_EVENT_SYNCED};
    event.as.synced.prev = (struct ls_cursor){ls_core_term_at(node->core, first - 1), first - 1};
    event.as.synced.entries = entries;
    event.as.synced.count = count;
    event.as.synced.commit = last;
    node->gap = false;
    node_step(group, at, event);
}

static void act(struct world *world)
{
    struct group *group = world->group;
    unsigned at = (unsigned)draw(world, group->count);
    struct node *node = &group->nodes[at];
    uint64_t what = draw(world, 1000);
    if (what < 600 && group->net_count > 0) {
        size_t packet = draw(world, 4) == 0 ? draw(world, group->net_count) : 0;
        unsigned from = group->net[packet].from;
        if (group->net[packet].outgoing.after > group->nodes[from].durable_seq) {
            return;
        }
        if (draw(world, 20) == 0) {
            duplicate(world, packet);
        }
        if (draw(world, 20) == 0) {
            group->net[packet].to = CORES_MAX;
            world->faults++;
        }
        net_take(group, packet);
    } else if (what < 720) {
        if (node->up) {
            node_sync(group, at);
        }
    } else if (what < 860) {
        group->now += draw(world, HEARTBEAT / 4);
        if (node->up) {
            node_step(group, at, (struct ls_event){.kind = LS_EVENT_TICK});
        }
    } else if (what < 920) {
        at = group_leader(group) >= 0 ? (unsigned)group_leader(group) : at;
        node = &group->nodes[at];
        if (node->up && node->ready.last < LOG_MAX - 200) {
            group_propose(group, at, 1 + (uint32_t)draw(world, 5), draw(world, 300));
        }
    } else if (what < 960) {
        if (node->up) {
            state_sync(world, at);
        }
    } else if (what < 980) {
        if (node->up) {
            ls_index floor = 0;
            for (unsigned i = 0; i < group->count; i++) {
                floor = group->nodes[i].commit_max > floor ? group->nodes[i].commit_max : floor;
            }
            world->read_floor[world->read_token % 64] = floor;
            node_step(
                group, at,
                (struct ls_event){.kind = LS_EVENT_READ, .as.read_token = world->read_token++});
        }
    } else if (what < 984) {
        if (node->up) {
            crash(world, at);
        }
    } else if (what < 992) {
        if (!node->up && at == 0 && !world->wiped && draw(world, 60) == 0) {
            node->up = true; /* its directory is lost: P14; the others are still a quorum */
            node_wipe(group, at);
            world->wiped = true;
        }
        if (!node->up) {
            node_open(group, at);
        }
    } else {
        unsigned other = (unsigned)draw(world, group->count);
        if (other != at) {
            bool up = group->cut[at][other] || draw(world, 3) > 0;
            group_link(group, at, other, up);
            if (draw(world, 8) == 0) {
                group->cut[at][other] = true; /* one way only, and nobody is told (E12) */
            }
            world->faults++;
        }
    }
}

static void heal(struct world *world)
{
    struct group *group = world->group;
    for (unsigned a = 0; a < group->count; a++) {
        if (!group->nodes[a].up) {
            node_open(group, a);
        }
    }
    for (unsigned a = 0; a < group->count; a++) {
        for (unsigned b = 0; b < a; b++) {
            group_link(group, a, b, true);
        }
    }
    for (unsigned round = 0; round < 400; round++) {
        group_run(group, HEARTBEAT);
        observe(world);
        for (unsigned a = 0; a < group->count; a++) {
            state_sync(world, a);
        }
    }
}

static void run(uint64_t seed)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->random = seed | 1;
    world->read_token = 1;
    unsigned voters = 3 + 2 * (unsigned)draw(world, 2);
    bool founding = draw(world, 4) == 0;
    unsigned count = voters + (unsigned)draw(world, CORES_MAX - voters + 1); /* and observers */
    world->group = group_prepare(voters, count, founding);
    world->group->window_bytes = draw(world, 2) == 0 ? 500 : 1u << 20;
    world->group->cache_bytes = draw(world, 2) == 0 ? 2000 : 1u << 20;
    group_open(world->group);
    group_run(world->group, founding ? 4 * ELECTION : 0);
    for (unsigned i = 0; i < 60000; i++) {
        act(world);
        observe(world);
    }
    heal(world);
    int leader = group_leader(world->group);
    assert_true(leader >= 0);
    const struct node *first = &world->group->nodes[leader];
    for (unsigned i = 0; i < world->group->count; i++) {
        const struct node *node = &world->group->nodes[i];
        assert_int_equal(node->ready.commit, first->ready.last);
        assert_int_equal(node->ready.last, first->ready.last);
        for (ls_index index = 1; index <= node->ready.last; index++) {
            assert_true(world->committed[index] == ls_core_term_at(node->core, index));
        }
    }
    assert_true(world->faults > 0);
    if (getenv("LS_TEST_TRACE") != NULL) {
        print_message("wiped %d term %llu last %llu reads %llu faults %llu\n", world->wiped,
                      (unsigned long long)first->ready.term, (unsigned long long)first->ready.last,
                      (unsigned long long)world->reads, (unsigned long long)world->faults);
    }
    group_free(world->group);
    free(world);
}

TEST(random, schedules_keep_one_leader_a_term_and_lose_nothing_committed)
{
    uint64_t seed = test_seed();
    for (uint64_t i = 0; i < 12; i++) {
        print_message("schedule LS_TEST_SEED=%llu + %llu\n", (unsigned long long)seed,
                      (unsigned long long)i);
        run(seed + i * UINT64_C(0x9e3779b97f4a7c15));
    }
}
