/* SPDX-License-Identifier: MIT */
/* Hashes of several messages at once are those of one after another. */
#include "hash_many.h"

#include "test.h"

enum { BYTES_MAX = 700, MESSAGES_MAX = 9 };

static uint8_t bytes[MESSAGES_MAX][BYTES_MAX];

static uint64_t draw(uint64_t *seed, uint64_t below)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (*seed >> 33) % below;
}

static void expect_same(struct ls_span head, const struct ls_span *bodies, size_t count,
                        uint8_t (*found)[32])
{
    const struct ls_env *env = ls_env_default();
    for (size_t i = 0; i < count; i++) {
        uint8_t expected[32];
        const struct ls_span parts[] = {head, bodies[i]};
        env->hash(env->self, parts, 2, expected);
        assert_memory_equal(found[i], expected, sizeof expected);
    }
}

static void fill(uint64_t *seed)
{
    for (size_t i = 0; i < MESSAGES_MAX; i++) {
        for (size_t k = 0; k < BYTES_MAX; k++) {
            bytes[i][k] = (uint8_t)draw(seed, 256);
        }
    }
}

TEST(hash_many, is_the_hash_of_each_message_of_any_length_on_any_vectors)
{
    uint64_t seed = test_seed();
    ls__hash_lanes lanes[2];
    size_t kinds = ls__hash_lanes_list(lanes);
    uint8_t head[128];
    uint8_t found[LS__HASH_LANES][32];
    fill(&seed);
    (void)memcpy(head, bytes[0], sizeof head);
    for (size_t round = 0; round < 2000; round++) {
        struct ls_span bodies[LS__HASH_LANES];
        const struct ls_span front = {head, draw(&seed, sizeof head + 1)};
        size_t count = 1 + draw(&seed, LS__HASH_LANES);
        for (size_t i = 0; i < count; i++) {
            /* often a whole number of blocks, with the head */
            size_t blocks = 128u * draw(&seed, 6);
            size_t any = draw(&seed, BYTES_MAX);
            bool whole = draw(&seed, 3) == 0 && blocks >= front.bytes;
            bodies[i] = (struct ls_span){bytes[i], whole ? blocks - front.bytes : any};
        }
        for (size_t kind = 0; kind < kinds; kind++) {
            lanes[kind](front, bodies, count, found);
            expect_same(front, bodies, count, found);
        }
    }
}

TEST(hash_many, takes_any_number_of_messages)
{
    uint64_t seed = test_seed();
    const struct ls_env *env = ls_env_default();
    struct ls_span bodies[MESSAGES_MAX];
    uint8_t found[MESSAGES_MAX][32];
    fill(&seed);
    for (size_t i = 0; i < MESSAGES_MAX; i++) {
        bodies[i] = (struct ls_span){bytes[i], BYTES_MAX - i};
    }
    for (size_t count = 0; count <= MESSAGES_MAX; count++) {
        env->hash_many(env->self, (struct ls_span){"head", 4}, bodies, count, found);
        expect_same((struct ls_span){"head", 4}, bodies, count, found);
    }
}
