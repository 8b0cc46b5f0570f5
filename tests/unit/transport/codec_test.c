/* SPDX-License-Identifier: MIT */
/* The production codec: what it writes, what it refuses, and msgpack-c as the second opinion. */
#include <stdio.h>
#include <stdlib.h>

#include <msgpack.h>

#include "codec.h"
#include "test.h"

static struct ls_value number(uint64_t value)
{
    return (struct ls_value){.kind = LS_VALUE_UINT, .as.number = value};
}

static struct ls_value array(uint32_t count)
{
    return (struct ls_value){.kind = LS_VALUE_ARRAY, .as.count = count};
}

static struct ls_value text(const char *value)
{
    return (struct ls_value){.kind = LS_VALUE_BYTES, .as.bytes = {value, strlen(value)}};
}

static enum ls_status decode(const void *bytes, size_t count, struct ls_value *values,
                             size_t values_max, size_t *used)
{
    /* an exact heap copy, so that the address sanitizer sees a read behind the end */
    uint8_t *copy = malloc(count > 0 ? count : 1);
    assert_non_null(copy);
    (void)memcpy(copy, bytes, count);
    enum ls_status status =
        ls__codec_decode(NULL, (struct ls_span){copy, count}, values, values_max, used);
    if (status == LS_OK) {
        assert_null(ls__codec_check((struct ls_span){copy, count}));
    }
    free(copy);
    return status;
}

#define decode_status(...)                                                                         \
    decode((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), values, 64,     \
           &count)

static bool values_equal(const struct ls_value *a, const struct ls_value *b)
{
    if (a->kind != b->kind) {
        return false;
    }
    switch (a->kind) {
    case LS_VALUE_UINT:
        return a->as.number == b->as.number;
    case LS_VALUE_ARRAY:
        return a->as.count == b->as.count;
    case LS_VALUE_BYTES:
        return a->as.bytes.bytes == b->as.bytes.bytes &&
               (a->as.bytes.bytes == 0 ||
                memcmp(a->as.bytes.data, b->as.bytes.data, a->as.bytes.bytes) == 0);
    default:
        return false;
    }
}

/* A random tree. Large sizes are rare, so that each width of a header occurs and a run is short. */
#define TREE_VALUES_MAX 400
static const char noise[70000];

struct tree {
    uint64_t random;
    size_t count;
    struct ls_value values[TREE_VALUES_MAX];
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void grow_tree(struct tree *tree)
{
    uint32_t open[LS_DECODE_DEPTH_MAX];
    size_t depth = 0;
    size_t owed = 1;
    tree->count = 0;
    while (owed > 0) {
        uint64_t random = next_random(&tree->random);
        struct ls_value *value = &tree->values[tree->count++];
        size_t room = TREE_VALUES_MAX - tree->count - (owed - 1);
        owed--;
        if (random % 3 == 0 && depth < LS_DECODE_DEPTH_MAX) {
            uint64_t most = (random >> 8) % 8 == 0 ? 300 : 6;
            uint32_t count = (uint32_t)((random >> 16) % (1 + (most < room ? most : room)));
            *value = array(count);
            owed += count;
            if (count > 0) {
                open[depth++] = count;
                continue;
            }
        } else if (random % 3 == 1) {
            size_t bytes = (random >> 16) % ((random >> 8) % 64 == 0 ? sizeof noise : 300);
            *value = (struct ls_value){.kind = LS_VALUE_BYTES, .as.bytes = {noise, bytes}};
        } else {
            *value = number(next_random(&tree->random) >> (random >> 8) % 64);
        }
        while (depth > 0 && --open[depth - 1] == 0) {
            depth--;
        }
    }
}

/* Appends what msgpack-c unpacked in preorder; depth is bounded by the tree that was packed. */
static void flatten(const msgpack_object *object, struct ls_value *values, size_t *count)
{
    struct ls_value *value = &values[(*count)++];
    if (object->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
        *value = number(object->via.u64);
    } else if (object->type == MSGPACK_OBJECT_BIN) {
        *value = (struct ls_value){.kind = LS_VALUE_BYTES,
                                   .as.bytes = {object->via.bin.ptr, object->via.bin.size}};
    } else {
        assert_int_equal(object->type, MSGPACK_OBJECT_ARRAY);
        *value = array(object->via.array.size);
        for (uint32_t i = 0; i < object->via.array.size; i++) {
            flatten(&object->via.array.ptr[i], values, count);
        }
    }
}

TEST(codec, agrees_with_msgpack_c_on_random_trees)
{
    static struct tree tree;
    static struct ls_value values[TREE_VALUES_MAX];
    static uint8_t bytes[8u << 20];
    tree.random = test_seed() | 1;
    for (int round = 0; round < 2000; round++) {
        size_t written = 0;
        size_t count = 0;
        grow_tree(&tree);
        assert_ok(ls__codec_encode(NULL, tree.values, tree.count, bytes, sizeof bytes, &written));
        assert_null(ls__codec_check((struct ls_span){bytes, written}));

        assert_ok(ls__codec_decode(NULL, (struct ls_span){bytes, written}, values, TREE_VALUES_MAX,
                                   &count));
        assert_int_equal(count, tree.count);
        for (size_t i = 0; i < count; i++) {
            assert_true(values_equal(&values[i], &tree.values[i]));
        }

        msgpack_unpacked unpacked;
        size_t offset = 0;
        msgpack_unpacked_init(&unpacked);
        assert_int_equal(msgpack_unpack_next(&unpacked, (const char *)bytes, written, &offset),
                         MSGPACK_UNPACK_SUCCESS);
        assert_int_equal(offset, written);
        count = 0;
        flatten(&unpacked.data, values, &count);
        assert_int_equal(count, tree.count);
        for (size_t i = 0; i < count; i++) {
            assert_true(values_equal(&values[i], &tree.values[i]));
        }
        msgpack_unpacked_destroy(&unpacked);
    }
}

TEST(codec, refuses_an_array_that_announces_more_than_follows)
{
    struct ls_value values[64];
    size_t count = 0;
    assert_int_equal(decode_status(0xdd, 0x10, 0x00, 0x00, 0x00), LS_ERR_PROTOCOL);
    assert_int_equal(decode_status(0xdd, 0xff, 0xff, 0xff, 0xff), LS_ERR_PROTOCOL);
    assert_int_equal(decode_status(0xdc, 0xff, 0xff, 0x01), LS_ERR_PROTOCOL);
    /* each array alone would fit, their sum does not */
    assert_int_equal(decode_status(0x92, 0x93, 0x01, 0x02, 0x03), LS_ERR_PROTOCOL);
    assert_int_equal(decode_status(0x92, 0x93, 0x01, 0x02, 0x03, 0x04), LS_OK);
}

TEST(codec, refuses_bytes_longer_than_what_is_left)
{
    struct ls_value values[64];
    size_t count = 0;
    assert_int_equal(decode_status(0xc6, 0xff, 0xff, 0xff, 0xff), LS_ERR_PROTOCOL);
    assert_int_equal(decode_status(0xc5, 0x00, 0x02, 'a'), LS_ERR_PROTOCOL);
    assert_int_equal(decode_status(0xc4, 0x02, 'a'), LS_ERR_PROTOCOL);
    assert_int_equal(decode_status(0xc4, 0x02, 'a', 'b'), LS_OK);
    assert_int_equal(decode_status(0xc4), LS_ERR_PROTOCOL);
    assert_int_equal(decode_status(0xc4, 0x00), LS_OK);
}

TEST(codec, refuses_kinds_that_no_message_uses)
{
    struct ls_value values[64];
    size_t count = 0;
    /* fixstr, fixmap, nil, never used, ext, float, negative, signed, fixext, str, map */
    const uint8_t heads[] = {0xa0, 0xbf, 0x80, 0x8f, 0xc0, 0xc1, 0xc7, 0xc8, 0xc9,
                             0xca, 0xcb, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6,
                             0xd7, 0xd8, 0xd9, 0xda, 0xdb, 0xde, 0xdf, 0xe0, 0xff};
    for (size_t i = 0; i < sizeof heads; i++) {
        uint8_t frame[32] = {heads[i]};
        for (size_t bytes = 1; bytes <= sizeof frame; bytes++) {
            assert_int_equal(decode(frame, bytes, values, 64, &count), LS_ERR_PROTOCOL);
        }
    }
}

TEST(codec, leaves_booleans_to_frames)
{
    struct ls_value values[64];
    size_t count = 0;
    const uint8_t frame[] = {0x92, 0xc2, 0xc3};
    assert_null(ls__codec_check((struct ls_span){frame, sizeof frame}));
    assert_int_equal(decode(frame, sizeof frame, values, 64, &count), LS_ERR_PROTOCOL);
}

TEST(codec, nests_as_deep_as_the_limit_and_no_deeper)
{
    struct ls_value values[64];
    uint8_t bytes[64];
    size_t count = 0;
    size_t written = 0;
    for (size_t depth = 1; depth <= LS_DECODE_DEPTH_MAX + 1; depth++) {
        bool fits = depth <= LS_DECODE_DEPTH_MAX;
        (void)memset(bytes, 0x91, depth - 1);
        bytes[depth - 1] = 0x90;
        assert_int_equal(decode(bytes, depth, values, 64, &count), fits ? LS_OK : LS_ERR_PROTOCOL);

        for (size_t i = 0; i < depth; i++) {
            values[i] = array(i + 1 < depth);
        }
        assert_int_equal(ls__codec_encode(NULL, values, depth, bytes, sizeof bytes, &written),
                         fits ? LS_OK : LS_ERR_INVALID);
    }
    /* a closed array is no depth: its siblings start where it did */
    (void)memset(bytes, 0x92, LS_DECODE_DEPTH_MAX - 1);
    (void)memset(bytes + LS_DECODE_DEPTH_MAX - 1, 0x90, LS_DECODE_DEPTH_MAX);
    assert_int_equal(decode(bytes, 2 * LS_DECODE_DEPTH_MAX - 1, values, 64, &count), LS_OK);
}

TEST(codec, refuses_every_truncation_and_every_trailing_byte)
{
    const struct ls_value values[] = {array(6),    number(127),      number(128),
                                      number(256), number(1u << 16), number(1ull << 32),
                                      array(2),    text("key"),      text("")};
    struct ls_value decoded[64];
    uint8_t bytes[64];
    size_t written = 0;
    size_t count = 0;
    assert_ok(ls__codec_encode(NULL, values, 9, bytes, sizeof bytes - 1, &written));
    for (size_t cut = 0; cut < written; cut++) {
        assert_int_equal(decode(bytes, cut, decoded, 64, &count), LS_ERR_PROTOCOL);
    }
    assert_ok(decode(bytes, written, decoded, 64, &count));
    bytes[written] = 0;
    assert_int_equal(decode(bytes, written + 1, decoded, 64, &count), LS_ERR_PROTOCOL);
}

TEST(codec, fills_exactly_the_values_it_was_given)
{
    const uint8_t frame[] = {0x93, 1, 2, 3};
    struct ls_value values[5];
    size_t count = 0;
    (void)memset(values, 0x5a, sizeof values);
    struct ls_value untouched = values[4];
    assert_int_equal(decode(frame, sizeof frame, values, 3, &count), LS_ERR_PROTOCOL);
    assert_int_equal(count, 0);
    assert_ok(decode(frame, sizeof frame, values, 4, &count));
    assert_int_equal(count, 4);
    assert_memory_equal(&values[4], &untouched, sizeof untouched);
}

TEST(codec, tells_how_many_bytes_it_needs_and_writes_none_beyond)
{
    const struct ls_value values[] = {array(2), text("0123456789"), number(UINT64_MAX)};
    uint8_t bytes[64];
    size_t needs = 0;
    assert_int_equal(ls__codec_encode(NULL, values, 3, NULL, 0, &needs), LS_ERR_LIMIT);
    assert_int_equal(needs, 1 + 2 + 10 + 9);
    for (size_t capacity = 0; capacity <= needs; capacity++) {
        size_t written = 0;
        (void)memset(bytes, 0x5a, sizeof bytes);
        assert_int_equal(ls__codec_encode(NULL, values, 3, bytes, capacity, &written),
                         capacity < needs ? LS_ERR_LIMIT : LS_OK);
        assert_int_equal(written, needs);
        for (size_t i = capacity; i < sizeof bytes; i++) {
            assert_int_equal(bytes[i], 0x5a);
        }
    }
}

TEST(codec, refuses_to_encode_what_is_not_one_tree)
{
    const struct ls_value two[] = {number(1), number(2)};
    const struct ls_value lacking[] = {array(2), number(2)};
    const struct ls_value unknown[] = {{.kind = (enum ls_value_kind)9}};
    uint8_t bytes[16];
    size_t written = 0;
    assert_int_equal(ls__codec_encode(NULL, NULL, 0, bytes, 16, &written), LS_ERR_INVALID);
    assert_int_equal(ls__codec_encode(NULL, two, 2, bytes, 16, &written), LS_ERR_INVALID);
    assert_int_equal(ls__codec_encode(NULL, lacking, 2, bytes, 16, &written), LS_ERR_INVALID);
    assert_int_equal(ls__codec_encode(NULL, unknown, 1, bytes, 16, &written), LS_ERR_INVALID);
}

TEST(codec, takes_the_most_values_that_a_message_may_have)
{
    static struct ls_value values[LS_VALUES_MAX];
    static struct ls_value decoded[LS_VALUES_MAX];
    static uint8_t bytes[LS_VALUES_MAX * 4];
    size_t written = 0;
    size_t count = 0;
    values[0] = array(LS_VALUES_MAX - 1);
    for (size_t i = 1; i < LS_VALUES_MAX; i++) {
        values[i] = number(i);
    }
    assert_ok(ls__codec_encode(NULL, values, LS_VALUES_MAX, bytes, sizeof bytes, &written));
    assert_int_equal(decode(bytes, written, decoded, LS_VALUES_MAX - 1, &count), LS_ERR_PROTOCOL);
    assert_ok(decode(bytes, written, decoded, LS_VALUES_MAX, &count));
    assert_int_equal(decoded[LS_VALUES_MAX - 1].as.number, LS_VALUES_MAX - 1);
}
