/* SPDX-License-Identifier: MIT */
/* The production env. */
#include <lockstep/env.h>

#include "test.h"

/* Y9 */
TEST(env, clock_never_goes_back)
{
    const struct ls_env *env = ls_env_default();
    uint64_t last = env->now_us(env->self);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = env->now_us(env->self);
        assert_true(now >= last);
        last = now;
    }
    assert_true(last > 0);
}

TEST(env, hash_is_blake2b_of_the_concatenation)
{
    /* BLAKE2b-256 of "abc" */
    static const uint8_t expected[32] = {0xbd, 0xdd, 0x81, 0x3c, 0x63, 0x42, 0x39, 0x72,
                                         0x31, 0x71, 0xef, 0x3f, 0xee, 0x98, 0x57, 0x9b,
                                         0x94, 0x96, 0x4e, 0x3b, 0xb1, 0xcb, 0x3e, 0x42,
                                         0x72, 0x62, 0xc8, 0xc0, 0x68, 0xd5, 0x23, 0x19};
    const struct ls_env *env = ls_env_default();
    const struct ls_span parts[] = {{"a", 1}, {NULL, 0}, {"bc", 2}};
    uint8_t out[32];
    env->hash(env->self, parts, 3, out);
    assert_memory_equal(out, expected, sizeof out);
}

TEST(env, allocate_is_malloc_realloc_and_free)
{
    const struct ls_env *env = ls_env_default();
    uint8_t *block = env->allocate(env->self, NULL, 8);
    assert_non_null(block);
    (void)memset(block, 0x5a, 8);
    block = env->allocate(env->self, block, 100000);
    assert_non_null(block);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(block[i], 0x5a);
    }
    assert_null(env->allocate(env->self, block, 0));
    assert_null(env->allocate(env->self, NULL, 0));
}

TEST(env, entropy_differs_each_time)
{
    const struct ls_env *env = ls_env_default();
    uint8_t one[32] = {0}, other[32] = {0};
    env->entropy(env->self, one, sizeof one);
    env->entropy(env->self, other, sizeof other);
    assert_memory_not_equal(one, other, sizeof one);
}

TEST(env, codec_round_trips)
{
    const struct ls_env *env = ls_env_default();
    const struct ls_value values[] = {{LS_VALUE_ARRAY, {.count = 2}},
                                      {LS_VALUE_UINT, {.number = 1u << 20}},
                                      {LS_VALUE_BYTES, {.bytes = {"xyz", 3}}}};
    struct ls_value back[3];
    uint8_t out[64];
    size_t written = 0, count = 0;
    assert_ok(env->codec.encode(env->codec.self, values, 3, out, sizeof out, &written));
    assert_ok(env->codec.decode(env->codec.self, (struct ls_span){out, written}, back, 3, &count));
    assert_int_equal(count, 3);
    assert_int_equal(back[1].as.number, 1u << 20);
    assert_int_equal(back[2].as.bytes.bytes, 3);
    assert_null(env->trace);
}
