/* SPDX-License-Identifier: MIT */
/*
 * The prune-safe index as a whole (docs/architecture.md): the smallest of all bounds, for every
 * combination of small values, and nothing above it is ever given to the store to remove. The
 * group is made of a real core and a real supervisor with two providers that say what they are
 * told; the rest is set by hand.
 */
#include <stdlib.h>

#include "runtime.h"
#include "test.h"

#define VALUES 4u

struct world {
    struct ls_node node;
    struct ls_group group;
    ls_index commit, durable_applied, of_provider[2];
    ls_index given; /* to the store to remove; 0: nothing */
};

static void *world_allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, bytes);
}

static const struct ls_env world_env = {.size = sizeof world_env, .allocate = world_allocate};

/* ---- providers that say what they are told ---- */

static ls_index provider_safe(void *self)
{
    return *(ls_index *)self;
}

static void provider_destroy(void *self)
{
    (void)self;
}

static enum ls_sync_verdict provider_receive(void *self, const struct ls_peer_id *from,
                                             struct ls_span message)
{
    (void)self;
    (void)from;
    (void)message;
    return LS_SYNC_IGNORE;
}

static enum ls_status provider_create(void *self, const struct ls_provider_context *context,
                                      struct ls_sync_provider *out)
{
    (void)context;
    *out = (struct ls_sync_provider){.size = sizeof *out,
                                     .self = self,
                                     .receive = provider_receive,
                                     .safe_to_prune_prefix = provider_safe,
                                     .destroy = provider_destroy};
    return LS_OK;
}

static enum ls_status session_create(void *self, const struct ls_session_context *context,
                                     const struct ls_sync_gap *gap, struct ls_sync_session *out)
{
    (void)self;
    (void)context;
    (void)gap;
    (void)out;
    return LS_ERR_NO_MEMORY;
}

static const char *unusable(void *self, const struct ls_sync_facts *facts)
{
    (void)self;
    (void)facts;
    return "a test";
}

static struct ls_cursor world_committed(void *self)
{
    const struct world *world = self;
    return (struct ls_cursor){world->commit > 0, world->commit};
}

static void open_supervisor(struct world *world)
{
    struct ls_statesync strategies[2];
    for (size_t i = 0; i < 2; i++) {
        strategies[i] = (struct ls_statesync){.size = sizeof strategies[i],
                                              .self = &world->of_provider[i],
                                              .name = i == 0 ? "one" : "other",
                                              .signature = {i == 0 ? "one" : "other", 3},
                                              .usable = unusable,
                                              .create_provider = provider_create,
                                              .create_session = session_create};
    }
    const struct ls_supervisor_config config = {
        .size = sizeof config,
        .env = &world_env,
        .driver = {.size = sizeof config.driver, .self = world, .committed = world_committed},
        .strategies = strategies,
        .strategies_count = 2};
    struct ls_error error = {.text = ""};
    assert_ok(ls_supervisor_open(&config, &world->group.supervisor, &error));
}

static void open_core(struct world *world)
{
    struct ls_configuration founders = {.count = 1};
    founders.members[0] = (struct ls_member){.id = {{1}}, .role = LS_MEMBER_VOTER, .name = "a"};
    const struct ls_group_id id = {{1}};
    const struct ls_core_config config = {.size = sizeof config,
                                          .env = &world_env,
                                          .group = &id,
                                          .self = {{1}},
                                          .founders = &founders,
                                          .election_ms = 100,
                                          .heartbeat_ms = 10,
                                          .reluctance = 1};
    struct ls_error error;
    assert_ok(ls_core_open(&config, &world->group.core, &error));
}

static ls_index durable_applied(void *self)
{
    return ((struct world *)self)->durable_applied;
}

/* The store takes nothing: what it was asked to remove is all that is looked at. */
static enum ls_status store_prune(void *self, struct ls_storage_group *group, ls_index upto)
{
    (void)group;
    ((struct world *)self)->given = upto;
    return LS_ERR_BUSY;
}

static ls_index smaller(ls_index a, ls_index b)
{
    return a < b ? a : b;
}

static void check(struct world *world)
{
    struct ls_group *group = &world->group;
    bool on_disk = group->machine.durable_applied != NULL;
    ls_index safe = group->commit > 0 ? group->commit - 1 : 0;
    safe = smaller(safe, on_disk ? smaller(group->applied, world->durable_applied) : 0);
    safe = smaller(safe, smaller(world->of_provider[0], world->of_provider[1]));
    safe = smaller(safe, group->prune_safe);
    struct ls_group_status status;
    ls_group_status(group, &status);
    assert_true(status.prune_safe == safe);
    for (ls_index upto = 0; upto <= VALUES; upto++) {
        ls_index pruned = 0;
        world->given = 0;
        enum ls_status result = ls_group_prune(group, upto, &pruned);
        ls_index expected =
            smaller(smaller(upto, safe), group->durable > 0 ? group->durable - 1 : 0);
        expected = expected >= group->log_first ? expected : 0;
        assert_true(world->given == expected);
        assert_true(result == (expected > 0 ? LS_ERR_BUSY : LS_OK));
        assert_true(pruned == group->log_first - 1);
    }
}

TEST(prune_safe, is_the_smallest_bound_and_nothing_above_it_is_removed)
{
    static struct world world;
    world.node.id = (struct ls_peer_id){{1}};
    world.node.storage = (struct ls_storage){.self = &world, .prune = store_prune};
    world.group.node = &world.node;
    world.group.machine.self = &world;
    world.group.snapshots = true;
    open_supervisor(&world);
    open_core(&world);
    uint64_t combinations = 0;
    for (uint32_t number = 0; number < 1u << 16; number++) {
        struct ls_group *group = &world.group;
        world.commit = group->commit = number & 3u;
        group->applied = number >> 2 & 3u;
        world.durable_applied = number >> 4 & 3u;
        world.of_provider[0] = number >> 6 & 3u;
        world.of_provider[1] = number >> 8 & 3u;
        group->prune_safe = number >> 10 & 3u;
        group->durable = number >> 12 & 3u;
        group->log_first = 1 + (number >> 14 & 1u);
        group->machine.durable_applied = number >> 15 == 0 ? durable_applied : NULL;
        if (group->applied > group->commit) {
            continue; /* cannot be */
        }
        check(&world);
        combinations++;
    }
    assert_int_equal(combinations, (1u << 16) * 10 / 16);
    ls_supervisor_close(world.group.supervisor);
    ls_core_close(world.group.core);
}
