/* SPDX-License-Identifier: MIT */
/*
 * The durable ring in every interleaving, up to a depth, of what the core does with it: batches
 * that truncate and append, and batches that become durable singly or several at once. (A restored
 * state is a truncation above commit and an append.) The twin keeps, for every batch, the log that
 * is on disk once the batch is durable, each entry with the number of its writing. L11: nothing is
 * called durable that was rewritten.
 */
#include <stdlib.h>

#include "core_state.h"
#include "test.h"

#define LAST_MAX   4u
#define DEPTH      7u
#define FLIGHT_MAX 16u

struct image {
    uint32_t writings[LAST_MAX + 1]; /* by index; 0: none */
    ls_index last;
};

struct world {
    struct ls__batches batches;
    struct ls__batch items[FLIGHT_MAX];
    struct image log;             /* as the core has it */
    struct image disk[DEPTH + 1]; /* by seq: what is on disk then */
    uint64_t seq, durable_seq;
    uint32_t writing;
    ls_index durable; /* as the core has it */
};

static uint64_t worlds, rewritten;

/* Entries from the start that are the same writing in both. */
static ls_index same(const struct image *a, const struct image *b)
{
    ls_index index = 0;
    while (index < a->last && index < b->last && a->writings[index + 1] == b->writings[index + 1]) {
        index++;
    }
    return index;
}

static void check(const struct world *world)
{
    const struct ls__batches *batches = &world->batches;
    ls_index vouched = same(&world->log, &world->disk[world->durable_seq]);
    assert_true(world->durable == vouched);
    rewritten += vouched < world->disk[world->durable_seq].last;
    for (ls_index index = 1; index <= world->log.last; index++) {
        uint64_t expected = world->durable_seq + 1; /* the first batch that brings it to disk */
        while (expected <= world->seq && same(&world->log, &world->disk[expected]) < index) {
            expected++;
        }
        assert_true(expected <= world->seq || index <= world->durable);
        if (index > world->durable) {
            assert_true(ls__batches_covering(batches, index) == expected);
        }
    }
    assert_true(ls__batches_covering(batches, world->log.last + 1) == 0);
    assert_true(batches->count == world->seq - world->durable_seq);
}

static void explore(const struct world *world, unsigned depth);

/* One step of the core: perhaps a truncation, then perhaps entries, all in one batch. */
static void stage(const struct world *world, ls_index from, uint32_t count, unsigned depth)
{
    struct world next = *world;
    next.batches.items = next.items;
    next.seq++;
    if (from <= next.log.last) {
        next.log.last = from - 1;
        ls__batches_clamp(&next.batches, from);
        ls__batches_push(&next.batches, next.seq, next.log.last);
        next.durable = next.durable < from ? next.durable : from - 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        next.log.writings[++next.log.last] = ++next.writing;
    }
    if (count > 0) {
        ls__batches_push(&next.batches, next.seq, next.log.last);
    }
    next.disk[next.seq] = next.log;
    explore(&next, depth);
}

static void persist(const struct world *world, uint64_t seq, unsigned depth)
{
    struct world next = *world;
    next.batches.items = next.items;
    next.durable_seq = seq;
    next.durable = ls__batches_pop(&next.batches, seq, next.durable);
    explore(&next, depth);
}

static void explore(const struct world *world, unsigned depth)
{
    check(world);
    worlds++;
    if (depth == 0) {
        return;
    }
    for (ls_index from = 1; from <= world->log.last + 1; from++) {
        bool truncates = from <= world->log.last;
        for (uint32_t count = truncates ? 0 : 1; count <= 2 && from - 1 + count <= LAST_MAX;
             count++) {
            stage(world, from, count, depth - 1);
        }
    }
    for (uint64_t seq = world->durable_seq + 1; seq <= world->seq; seq++) {
        persist(world, seq, depth - 1);
    }
}

TEST(durable_ring, L11_no_interleaving_vouches_for_an_entry_that_was_rewritten)
{
    static struct world world;
    for (size_t head = 0; head < FLIGHT_MAX; head += FLIGHT_MAX - 2) { /* also around its end */
        world = (struct world){.batches = {.head = head, .capacity = FLIGHT_MAX}};
        world.batches.items = world.items;
        explore(&world, DEPTH);
    }
    assert_true(worlds > 100000 && rewritten > 10000);
}

/* ---- growing ---- */

static void *allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, bytes);
}

/* Wherever the ring begins and however full it is, it holds the same batches after it has grown. */
TEST(durable_ring, growing_keeps_every_batch_from_every_place_of_the_head)
{
    const struct ls_env env = {.size = sizeof env, .allocate = allocate};
    for (uint64_t popped = 0; popped <= 40; popped++) {
        struct ls__batches batches = {.count = 0};
        uint64_t seq = 0;
        for (; seq < popped; seq++) {
            assert_true(ls__batches_reserve(&batches, &env));
            ls__batches_push(&batches, seq + 1, seq + 1);
            assert_true(ls__batches_pop(&batches, seq + 1, 0) == seq + 1);
        }
        for (; seq < popped + 70; seq++) {
            assert_true(ls__batches_reserve(&batches, &env));
            ls__batches_push(&batches, seq + 1, seq + 1);
            for (uint64_t index = popped + 1; index <= seq + 1; index++) {
                assert_true(ls__batches_covering(&batches, index) == index);
            }
        }
        for (uint64_t at = popped + 1; at <= seq; at++) {
            assert_true(ls__batches_pop(&batches, at, 0) == at);
        }
        free(batches.items);
    }
}
