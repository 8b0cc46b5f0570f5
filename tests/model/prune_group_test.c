/* SPDX-License-Identifier: MIT */
/*
 * The prune-safe index as a whole (docs/architecture.md): the smallest of all bounds, for every
 * combination of small values, and nothing above it is ever given to the store to remove; where a
 * snapshot brings back who comes too late, nobody but the machine holds more than so many bytes.
 * The group is made of a real core and a real supervisor with two providers that say what they are
 * told; the rest is set by hand.
 */
#include <stdlib.h>

#include "runtime.h"
#include "test.h"

#define VALUES      4u
#define ENTRY_BYTES (100u + LS__SIZES_ENTRY_BYTES)

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

static uint64_t world_now(void *self)
{
    (void)self;
    return 1;
}

static const struct ls_env world_env = {
    .size = sizeof world_env, .allocate = world_allocate, .now_us = world_now};

/* ---- providers that say what they are told ---- */

static ls_index provider_safe(void *self)
{
    return *(ls_index *)self;
}

/* The other one says who it is that holds the log. */
static size_t provider_pins(void *self, struct ls_sync_pin out[LS_SYNC_PINS_MAX])
{
    ls_index safe = *(ls_index *)self;
    out[0] = (struct ls_sync_pin){.kind = LS_SYNC_PIN_KEEP, .safe = safe + 1};
    out[1] = (struct ls_sync_pin){.kind = LS_SYNC_PIN_SESSION, .peer = {{9}}, .safe = safe};
    out[2] = (struct ls_sync_pin){.kind = LS_SYNC_PIN_FROZEN, .safe = safe + 2};
    return 3;
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
    static uint32_t number;
    out->pins = number++ % 2 == 0 ? NULL : provider_pins;
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

/* As much as a holder of `safe` holds that may hold `bytes` bytes of entries of ENTRY_BYTES each.
 */
static ls_index holds(const struct ls_group *group, ls_index safe, uint64_t bytes)
{
    while (group->snapshots && bytes > 0 && safe < group->commit &&
           (group->commit - safe) * ENTRY_BYTES > bytes) {
        safe++;
    }
    return safe;
}

/* Each row of the table is named, and the smallest is what the status says. */
static void check_rows(struct world *world, ls_index safe)
{
    static struct ls_group_pin pins[LS_GROUP_PINS_MAX];
    size_t count = ls_group_pins(&world->group, pins, LS_GROUP_PINS_MAX);
    ls_index lowest = UINT64_MAX;
    uint32_t kinds = 0;
    for (size_t i = 0; i < count; i++) {
        lowest = smaller(lowest, pins[i].safe);
        kinds |= 1u << pins[i].kind;
        assert_true(pins[i].text[0] != '\0');
    }
    assert_int_equal(count, 7);
    assert_true(lowest == safe);
    assert_int_equal(kinds, 1u << LS_PIN_COMMIT | 1u << LS_PIN_MACHINE | 1u << LS_PIN_LEADER |
                                1u << LS_PIN_PROVIDER | 1u << LS_PIN_KEEP | 1u << LS_PIN_SESSION |
                                1u << LS_PIN_FROZEN);
}

static void check(struct world *world)
{
    struct ls_group *group = &world->group;
    bool on_disk = group->machine.durable_applied != NULL;
    ls_index safe = group->commit > 0 ? group->commit - 1 : 0;
    safe = smaller(safe, on_disk ? smaller(group->applied, world->durable_applied) : 0);
    ls_index held = smaller(world->of_provider[0], world->of_provider[1]);
    held = smaller(held, holds(group, group->prune_safe, group->lag_bytes));
    safe = smaller(safe, holds(group, held, group->pinned_bytes));
    struct ls_group_status status;
    ls_group_status(group, &status);
    assert_true(status.prune_safe == safe);
    check_rows(world, safe);
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
    world.node.env = world_env;
    world.node.id = (struct ls_peer_id){{1}};
    world.node.storage = (struct ls_storage){.self = &world, .prune = store_prune};
    world.group.node = &world.node;
    world.group.machine.self = &world;
    world.group.snapshots = true;
    open_supervisor(&world);
    open_core(&world);
    uint64_t combinations = 0;
    static const uint64_t limits[][2] = {
        {0, 0}, {ENTRY_BYTES, 0}, {0, ENTRY_BYTES}, {ENTRY_BYTES, 2 * ENTRY_BYTES}};
    ls__sizes_reset(&world.group.sizes, 0);
    for (uint32_t i = 0; i < VALUES; i++) {
        ls__sizes_add(&world.group.sizes, 1, 100);
    }
    for (uint32_t number = 0; number < 1u << 16; number++) {
        struct ls_group *group = &world.group;
        group->snapshots = number * 7 / 13 % 8 != 0;
        group->lag_bytes = limits[number * 5 / 3 % 4][0];
        group->pinned_bytes = limits[number * 5 / 3 % 4][1];
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
