/* SPDX-License-Identifier: MIT */
/*
 * The checker against a twin that tries every order of every choice of the unanswered, and against
 * histories of a simulated map whose legality is known from how they were made.
 */
#include "checker.h"

#include <stdio.h>
#include <stdlib.h>

#include "search.h"
#include "shrink.h"
#include "test.h"

#define SMALL_OPS  6u
#define SMALL_KEYS 2u

static uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t below(uint64_t *state, uint64_t bound)
{
    return random_next(state) % bound;
}

/* ---- the twin ---- */

/* Does it; false if the result is not the one that was seen. */
static bool replay_one(const struct linear_op *op, uint64_t *held)
{
    bool unknown = op->outcome == LINEAR_UNKNOWN, ok = op->outcome == LINEAR_OK;
    switch (op->kind) {
    case LINEAR_READ:
        return unknown || *held == op->value;
    case LINEAR_WRITE:
        *held = op->value;
        return true;
    case LINEAR_CAS: {
        bool fits = *held == op->expected;
        *held = fits ? op->value : *held;
        return unknown || ok == fits;
    }
    case LINEAR_DELETE: {
        bool there = *held != LINEAR_ABSENT;
        *held = LINEAR_ABSENT;
        return unknown || ok == there;
    }
    }
    return false;
}

static bool order_explains(const struct linear_op *ops, const size_t *order, size_t count,
                           uint64_t initial)
{
    uint64_t held[SMALL_KEYS];
    for (size_t i = 0; i < count; i++) {
        for (size_t j = i + 1; j < count; j++) {
            if (ops[order[j]].outcome != LINEAR_UNKNOWN &&
                ops[order[j]].returned < ops[order[i]].invoked) {
                return false;
            }
        }
    }
    for (size_t i = 0; i < SMALL_KEYS; i++) {
        held[i] = initial;
    }
    for (size_t i = 0; i < count; i++) {
        if (!replay_one(&ops[order[i]], &held[ops[order[i]].key])) {
            return false;
        }
    }
    return true;
}

static bool some_order_explains(const struct linear_op *ops, size_t *order, size_t fixed,
                                size_t count, uint64_t initial)
{
    if (fixed == count) {
        return order_explains(ops, order, count, initial);
    }
    for (size_t i = fixed; i < count; i++) {
        size_t swapped = order[i];
        order[i] = order[fixed];
        order[fixed] = swapped;
        bool found = some_order_explains(ops, order, fixed + 1, count, initial);
        order[fixed] = order[i];
        order[i] = swapped;
        if (found) {
            return true;
        }
    }
    return false;
}

static bool twin_legal(const struct linear_op *ops, size_t count, uint64_t initial)
{
    for (size_t chosen = 0; chosen < (size_t)1 << count; chosen++) {
        size_t order[SMALL_OPS], used = 0;
        bool complete = true;
        for (size_t i = 0; i < count; i++) {
            bool in = (chosen >> i & 1u) != 0;
            complete = complete && (in || ops[i].outcome == LINEAR_UNKNOWN);
            if (in) {
                order[used++] = i;
            }
        }
        if (complete && some_order_explains(ops, order, 0, used, initial)) {
            return true;
        }
    }
    return false;
}

/* ---- both, and the window ---- */

static void show(const struct linear_op *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        print_message("kind %d outcome %d key %u value %u expected %u [%u, %u]\n", (int)ops[i].kind,
                      (int)ops[i].outcome, (unsigned)ops[i].key, (unsigned)ops[i].value,
                      (unsigned)ops[i].expected, (unsigned)ops[i].invoked,
                      (unsigned)ops[i].returned);
    }
}

/* The window proves by itself that its history is illegal. */
static bool window_proves(const struct linear_result *result, uint64_t values)
{
    if (result->window_count == 0 || result->window_count > SMALL_OPS) {
        return false;
    }
    for (uint64_t initial = 0; initial <= (result->from_any ? values + 1 : 0); initial++) {
        if (twin_legal(result->window, result->window_count, initial)) {
            return false;
        }
    }
    return true;
}

/*
 * A window proves something only because no step of shrinking makes a legal history illegal: so
 * from a legal one, where every step is tried, none is taken to an illegal window.
 */
static void shrinks_to_legal(const struct linear_op *ops, size_t count)
{
    struct linear_result result = {.verdict = LINEAR_LEGAL};
    uint64_t steps = 0;
    linear__shrink(ops, count, &result);
    enum linear_verdict verdict =
        linear__search(result.window, result.window_count, LINEAR_ABSENT, &steps);
    if (result.from_any || verdict != LINEAR_LEGAL) {
        show(ops, count);
        print_message("window:\n");
        show(result.window, result.window_count);
        fail_msg("a step of shrinking is wrong");
    }
    linear_result_free(&result);
}

static bool can_shrink(const struct linear_op *ops, size_t count)
{
    bool answers = false;
    for (size_t i = 0; i < count; i++) {
        answers = answers || ops[i].outcome != LINEAR_UNKNOWN;
        if (ops[i].key != ops[0].key) {
            return false;
        }
    }
    return answers;
}

/* Returns whether it is legal; fails the test where the two disagree. */
static bool both_say(const struct linear_op *ops, size_t count, uint64_t values)
{
    struct linear_result result;
    bool legal = twin_legal(ops, count, LINEAR_ABSENT);
    enum linear_verdict verdict = linear_check(ops, count, &result);
    if (verdict != (legal ? LINEAR_LEGAL : LINEAR_ILLEGAL)) {
        show(ops, count);
        fail_msg("the twin says %s", legal ? "legal" : "illegal");
    }
    if (!legal && !window_proves(&result, values)) {
        show(ops, count);
        print_message("window:\n");
        show(result.window, result.window_count);
        fail_msg("the window proves nothing");
    }
    linear_result_free(&result);
    if (legal && can_shrink(ops, count)) {
        shrinks_to_legal(ops, count);
    }
    return legal;
}

static struct linear_op random_op(uint64_t *random, uint64_t values, uint64_t keys)
{
    struct linear_op op = {.kind = (enum linear_kind)below(random, 4),
                           .key = below(random, keys),
                           .value = 1 + below(random, values),
                           .expected = below(random, values + 1),
                           .invoked = below(random, 12)};
    op.returned = op.invoked + below(random, 8);
    if (op.kind == LINEAR_READ) {
        op.value = below(random, values + 1);
    }
    if (below(random, 4) == 0) {
        op.outcome = LINEAR_UNKNOWN;
    } else if (op.kind == LINEAR_CAS || op.kind == LINEAR_DELETE) {
        op.outcome = below(random, 2) == 0 ? LINEAR_OK : LINEAR_NO;
    }
    return op;
}

TEST(twin, agrees_on_small_random_histories)
{
    uint64_t random = test_seed();
    unsigned legal = 0, illegal = 0;
    for (unsigned round = 0; round < 6000; round++) {
        struct linear_op ops[SMALL_OPS];
        size_t count = 1 + below(&random, SMALL_OPS);
        uint64_t values = 1 + below(&random, 4), keys = below(&random, 4) == 0 ? 2 : 1;
        for (size_t i = 0; i < count; i++) {
            ops[i] = random_op(&random, values, keys);
        }
        if (both_say(ops, count, values)) {
            legal++;
        } else {
            illegal++;
        }
    }
    print_message("%u legal, %u illegal\n", legal, illegal);
    assert_true(legal > 1000 && illegal > 1000);
}

/* ---- a simulated map ---- */

struct simulated {
    uint64_t random;
    unsigned clients, keys;
    unsigned lost_percent;
    uint64_t *held;  /* by key */
    uint64_t values; /* given out so far */
    uint64_t now;
    struct linear_op *ops;
    size_t count;
};

/* A client's operation under way: invoked, then done, then answered; the last two may get lost. */
struct client {
    enum { IDLE, INVOKED, DONE } stage;
    struct linear_op op;
    bool lost;
};

static void invoke(struct simulated *map, struct client *client, uint32_t number)
{
    struct linear_op op = {
        .client = number, .key = below(&map->random, map->keys), .invoked = map->now};
    uint64_t dice = below(&map->random, 100);
    op.kind = dice < 45   ? LINEAR_READ
              : dice < 75 ? LINEAR_WRITE
              : dice < 92 ? LINEAR_CAS
                          : LINEAR_DELETE;
    if (op.kind == LINEAR_WRITE || op.kind == LINEAR_CAS) {
        op.value = ++map->values;
    }
    /* mostly what is there now, so that a good part of them wins */
    op.expected =
        below(&map->random, 4) == 0 ? below(&map->random, map->values + 1) : map->held[op.key];
    *client = (struct client){INVOKED, op, below(&map->random, 100) < map->lost_percent};
}

static void take_effect(struct simulated *map, struct client *client)
{
    struct linear_op *op = &client->op;
    uint64_t *held = &map->held[op->key];
    switch (op->kind) {
    case LINEAR_READ:
        op->value = *held;
        break;
    case LINEAR_WRITE:
        *held = op->value;
        break;
    case LINEAR_CAS:
        op->outcome = *held == op->expected ? LINEAR_OK : LINEAR_NO;
        *held = *held == op->expected ? op->value : *held;
        break;
    case LINEAR_DELETE:
        op->outcome = *held != LINEAR_ABSENT ? LINEAR_OK : LINEAR_NO;
        *held = LINEAR_ABSENT;
        break;
    }
    client->stage = DONE;
}

static void answer(struct simulated *map, struct client *client)
{
    client->op.returned = map->now;
    if (client->lost) {
        client->op.outcome = LINEAR_UNKNOWN;
    }
    map->ops[map->count++] = client->op;
    client->stage = IDLE;
}

/* Lost operations stay with a client of their own, so that some take effect very late or never. */
static void simulate(struct simulated *map, size_t count)
{
    struct client *clients = calloc(map->clients, sizeof *clients);
    map->held = calloc(map->keys, sizeof *map->held);
    map->ops = calloc(count + map->clients + 1, sizeof *map->ops);
    assert_true(clients != NULL && map->held != NULL && map->ops != NULL);
    while (map->count < count) {
        uint32_t number = (uint32_t)below(&map->random, map->clients);
        struct client *client = &clients[number];
        map->now++;
        if (client->stage == IDLE) {
            invoke(map, client, number);
        } else if (client->stage == INVOKED && (!client->lost || below(&map->random, 8) == 0)) {
            take_effect(map, client);
        } else if (client->stage == DONE || below(&map->random, 16) == 0) {
            answer(map, client);
        }
    }
    for (unsigned i = 0; i < map->clients; i++) {
        if (clients[i].stage != IDLE) {
            clients[i].lost = true;
            answer(map, &clients[i]);
        }
    }
    free(clients);
}

static void simulated_free(struct simulated *map)
{
    free(map->held);
    free(map->ops);
}

static void print_and_fail(const struct simulated *map, const struct linear_result *result)
{
    linear_print(stderr, result, map->ops, map->count, NULL);
    fail_msg("a history of a correct map, refused");
}

TEST(simulated, histories_of_a_correct_map_are_legal)
{
    uint64_t random = test_seed();
    for (unsigned round = 0; round < 300; round++) {
        struct simulated map = {.random = random_next(&random),
                                .clients = 1 + (unsigned)below(&random, 12),
                                .keys = 1 + (unsigned)below(&random, 3),
                                .lost_percent = (unsigned)below(&random, 30)};
        struct linear_result result;
        simulate(&map, 20 + below(&random, 300));
        if (linear_check(map.ops, map.count, &result) != LINEAR_LEGAL) {
            print_and_fail(&map, &result);
        }
        linear_result_free(&result);
        simulated_free(&map);
    }
}

/* Another result for one answered operation. */
static void change_one(struct simulated *map, uint64_t *random)
{
    struct linear_op *op = &map->ops[below(random, map->count)];
    if (op->outcome == LINEAR_UNKNOWN || op->kind == LINEAR_WRITE) {
        return;
    }
    if (op->kind == LINEAR_READ) {
        op->value = (op->value + 1 + below(random, map->values + 1)) % (map->values + 2);
    } else {
        op->outcome = op->outcome == LINEAR_OK ? LINEAR_NO : LINEAR_OK;
    }
}

TEST(simulated, the_twin_agrees_on_short_histories_with_one_result_changed)
{
    uint64_t random = test_seed();
    unsigned illegal = 0;
    for (unsigned round = 0; round < 4000; round++) {
        struct simulated map = {.random = random_next(&random),
                                .clients = 1 + (unsigned)below(&random, 2),
                                .keys = 1,
                                .lost_percent = 15};
        simulate(&map, SMALL_OPS - map.clients);
        assert_true(both_say(map.ops, map.count, map.values + 1));
        change_one(&map, &random);
        illegal += both_say(map.ops, map.count, map.values + 1) ? 0 : 1;
        simulated_free(&map);
    }
    print_message("%u of 4000 illegal by the change\n", illegal);
    assert_true(illegal > 500);
}

/*
 * Makes a read see a value that was certainly gone: written once, and the whole of another write of
 * the same key lies between that write's answer and the read.
 */
static bool make_stale(struct simulated *map, uint64_t *random)
{
    for (unsigned tries = 0; tries < 100; tries++) {
        size_t at = below(random, map->count);
        struct linear_op *read = &map->ops[at];
        const struct linear_op *old = NULL, *between = NULL;
        if (read->kind != LINEAR_READ || read->outcome != LINEAR_OK) {
            continue;
        }
        for (size_t i = at; i-- > 0 && old == NULL;) {
            const struct linear_op *op = &map->ops[i];
            if (op->key != read->key || op->outcome != LINEAR_OK || op->kind != LINEAR_WRITE) {
                continue;
            }
            if (between == NULL && op->returned < read->invoked) {
                between = op;
            } else if (between != NULL && op->returned < between->invoked) {
                old = op;
            }
        }
        if (old != NULL) {
            read->value = old->value;
            return true;
        }
    }
    return false;
}

TEST(simulated, one_stale_read_is_found_and_cut_out)
{
    uint64_t random = test_seed();
    unsigned small = 0;
    for (unsigned round = 0; round < 100; round++) {
        struct simulated map = {.random = random_next(&random),
                                .clients = 2 + (unsigned)below(&random, 8),
                                .keys = 2,
                                .lost_percent = 5};
        struct linear_result result;
        simulate(&map, 300);
        assert_true(make_stale(&map, &random));
        assert_int_equal(linear_check(map.ops, map.count, &result), LINEAR_ILLEGAL);
        small += result.window_count <= 4 ? 1 : 0;
        linear_result_free(&result);
        simulated_free(&map);
    }
    print_message("%u of 100 windows of at most 4 operations\n", small);
    assert_true(small >= 60);
}

TEST(simulated, shrinking_never_makes_a_legal_history_illegal)
{
    uint64_t random = test_seed();
    for (unsigned round = 0; round < 3000; round++) {
        struct simulated map = {.random = random_next(&random),
                                .clients = 2 + (unsigned)below(&random, 5),
                                .keys = 1,
                                .lost_percent = 10};
        simulate(&map, 6 + below(&random, 25));
        map.ops[map.count++] = (struct linear_op){.kind = LINEAR_READ,
                                                  .invoked = map.now + 1,
                                                  .returned = map.now + 2,
                                                  .value = map.held[0]};
        shrinks_to_legal(map.ops, map.count);
        simulated_free(&map);
    }
}

#define LARGE_OPS 100000u

TEST(large, decides_a_hundred_thousand_operations_in_few_steps)
{
    uint64_t random = test_seed();
    struct simulated map = {.random = random, .clients = 200, .keys = 100, .lost_percent = 2};
    struct linear_result result;
    simulate(&map, LARGE_OPS);
    if (linear_check(map.ops, map.count, &result) != LINEAR_LEGAL) {
        print_and_fail(&map, &result);
    }
    print_message("%u steps\n", (unsigned)result.steps);
    assert_int_equal(result.keys, 100);
    assert_true(result.steps < 4 * LARGE_OPS);
    linear_result_free(&result);

    assert_true(make_stale(&map, &random));
    assert_int_equal(linear_check(map.ops, map.count, &result), LINEAR_ILLEGAL);
    print_message("%u steps, window of %u\n", (unsigned)result.steps,
                  (unsigned)result.window_count);
    assert_true(result.steps < 4 * LARGE_OPS);
    linear_result_free(&result);
    simulated_free(&map);
}
