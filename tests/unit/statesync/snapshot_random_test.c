/* SPDX-License-Identifier: MIT */
/*
 * The snapshot strategy among members to which anything happens: bonds and members that go and
 * come, messages that are lost, doubled or changed, disks and memory that refuse, logs that grow
 * and are pruned. The world asserts that nothing unchecked is staged and nothing wrong installed;
 * when all is healed, the member that lags must reach the end.
 */
#include "sync_world.h"

#define NODES  4u
#define LAGS   3u
#define EVENTS 120u

static struct ls_statesync syncs[2];

static struct world *lagging(uint64_t seed)
{
    static struct ls_log_replay_options replay = {
        .size = sizeof replay, .keep_entries = 50, .lease_ms = 300, .timeout_ms = 300};
    static struct ls_snapshot_options snapshots = {
        .size = sizeof snapshots, .lease_ms = 2000, .timeout_ms = 300, .marker_ms = 400};
    assert_ok(ls_log_replay(&replay, &syncs[0]));
    assert_ok(ls_snapshot_sync(&snapshots, &syncs[1]));
    struct world_options options = {.nodes = NODES,
                                    .seed = seed,
                                    .strategies = syncs,
                                    .strategies_count = 2,
                                    .retry_min_ms = 100,
                                    .watchdog_ms = 5000,
                                    .snapshots = true};
    struct world *world = world_open(&options);
    world_write(world, 1, 4000, 16);
    for (uint32_t i = 0; i < LAGS; i++) {
        world_fill(world, i, 4000, 4000);
        world_prune(world, i, 3900);
    }
    return world;
}

struct harm {
    uint64_t rate; /* of 1000 messages so many come to harm */
    uint64_t done;
};

static enum world_fate meet(struct world *world, const struct world_message *message, void *arg)
{
    static uint8_t bytes[1u << 20];
    struct harm *harm = arg;
    if (world_random(world, 1000) >= harm->rate || message->bytes > sizeof bytes) {
        return WORLD_DELIVER;
    }
    harm->done++;
    /* what log replay brings is not checked: that it is right is what the members' bond is for */
    uint64_t kind = world_random(world, message->tag == 1 ? 3 : 2);
    if (kind < 2) {
        return kind == 0 ? WORLD_DROP : WORLD_TWICE;
    }
    memcpy(bytes, message->data, message->bytes);
    size_t head = world_random(world, 2) == 0 && message->bytes > 60 ? 60 : message->bytes;
    bytes[world_random(world, head)] ^= (uint8_t)(1u << world_random(world, 8));
    world_send(world, message->from, message->to, message->to_session,
               (struct ls_span){bytes, message->bytes});
    for (struct world_message *m = world->messages; m != NULL; m = m->next) {
        if (m->from == message->from && m->to == message->to && m->bytes == message->bytes &&
            memcmp(m->data, bytes, m->bytes) == 0) {
            m->tag = message->tag;
        }
    }
    return WORLD_DROP;
}

static void write_more(struct world *world)
{
    if (world->marker != 0 || world->truth.last > 9000 || !world->nodes[0].up) {
        return;
    }
    world_write(world, world->term, 1 + world_random(world, 200), 16);
    ls_index last = world->truth.last;
    for (uint32_t i = 0; i < LAGS; i++) {
        if (i == 0 || (world->nodes[i].up && world->nodes[i].log.last + 300 > last)) {
            world_fill(world, i, last, last);
            ls_supervisor_committed(world->nodes[i].supervisor, last);
            ls_index safe = ls_supervisor_safe_to_prune(world->nodes[i].supervisor);
            if (safe > world->nodes[i].first) {
                world_prune(world, i, safe);
            }
            world_poll(world, i);
        }
    }
}

static void refuse_something(struct world *world)
{
    struct world_node *node = &world->nodes[LAGS];
    switch (world_random(world, 5)) {
    case 0:
        node->refuse_put = LS_ERR_IO;
        break;
    case 1:
        node->refuse_publish = world_random(world, 2) == 0 ? LS_ERR_CORRUPT : LS_ERR_IO;
        break;
    case 2:
        world->refuse_at = world->allocations + 1 + world_random(world, 60);
        break;
    case 3:
        node->hold_disk = !node->hold_disk;
        break;
    default:
        world->nodes[world_random(world, NODES)].queue_bytes_max = world_random(world, 400000);
        break;
    }
}

static void happen(struct world *world)
{
    uint32_t a = (uint32_t)world_random(world, NODES);
    uint32_t b = (a + 1 + (uint32_t)world_random(world, NODES - 1)) % NODES;
    switch (world_random(world, 8)) {
    case 0:
        write_more(world);
        break;
    case 1:
        world_bond(world, a, b, world->cut[a][b]);
        break;
    case 2:
        world_up(world, a, !world->nodes[a].up || world_random(world, 2) == 0);
        break;
    case 3:
        refuse_something(world);
        break;
    case 4:
        world->leader = world_random(world, 3) == 0 ? NODES : 0;
        world->no_markers = world_random(world, 3) == 0;
        break;
    case 5:
        if (world->nodes[LAGS].up) {
            world_gap(world, LAGS, world->nodes[0].commit, 0, 0);
        }
        break;
    default:
        world_run(world, 1 + world_random(world, 200000));
        break;
    }
    world_run(world, 1 + world_random(world, 20000));
}

static void heal(struct world *world)
{
    world->intercept = NULL;
    world->refuse_at = 0;
    world->leader = 0;
    world->no_markers = false;
    for (uint32_t i = 0; i < NODES; i++) {
        struct world_node *node = &world->nodes[i];
        node->hold_disk = false;
        node->refuse_put = node->refuse_publish = LS_OK;
        node->queue_bytes_max = 0;
        if (!node->up) {
            world_up(world, i, true);
        }
        for (uint32_t j = 0; j < i; j++) {
            world_bond(world, i, j, true);
        }
    }
}

TEST(random, whatever_happens_the_member_that_lags_comes_back_when_all_is_healed)
{
    uint64_t seed = test_seed();
    uint64_t harm_done = 0;
    uint64_t published = 0;
    for (uint64_t run = 0; run < 25; run++) {
        struct world *world = lagging(seed * 1000 + run);
        struct harm harm = {.rate = world_random(world, 3) * 30};
        world->intercept = meet;
        world->intercept_arg = &harm;
        world_gap(world, LAGS, 4000, 0, 0);
        for (unsigned i = 0; i < EVENTS; i++) {
            happen(world);
        }
        heal(world);
        ls_index target = world->nodes[0].commit;
        for (unsigned rounds = 0; world->nodes[LAGS].commit < target && rounds < 60; rounds++) {
            for (uint32_t i = 1; i < NODES; i++) {
                world_gap(world, i, target, 0, 0); /* a heartbeat tells again */
            }
            world_run(world, 10 * SECOND);
        }
        assert_true(world_reaches(world, LAGS, target, 600 * SECOND));
        world_check(world, LAGS);
        harm_done += harm.done;
        published += world->nodes[LAGS].publishes;
        world_close(world);
    }
    assert_true(harm_done > 20);
    assert_true(published > 10);
}
