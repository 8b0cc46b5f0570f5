/* SPDX-License-Identifier: MIT */
/* Snapshot messages with every value changed, and chunks with every byte: refused, or in bounds. */
#include <stdlib.h>

#include "snapshot_sync.h"
#include "test.h"

#define VALUES_ALL 32u

static const struct ls_hash hash = {{1, 2, 3}};

/* A message of each kind that lacks nothing; a table of two rows. */
static size_t message(enum ls__snap_kind kind, struct ls_value *values)
{
    const struct ls__snap_message whole = {.kind = kind,
                                           .attempt = 5,
                                           .id = 2,
                                           .need = 3,
                                           .alone = true,
                                           .anchor = {2, 9},
                                           .items = 7,
                                           .bytes = 70,
                                           .chunks = 4,
                                           .chunk = 1,
                                           .count = 2,
                                           .root = hash,
                                           .configuration_index = 1,
                                           .data = {"key", 3}};
    static struct ls__snap_message kept;
    kept = whole; /* the values point into it */
    size_t count = ls__snap_head(&kept, values);
    for (size_t row = 0; kind == LS__SNAP_TABLE && row < 2; row++) {
        values[count++] =
            (struct ls_value){.kind = LS_VALUE_BYTES, .as.bytes = {hash.bytes, sizeof hash.bytes}};
        values[count++] = (struct ls_value){.kind = LS_VALUE_UINT, .as.number = 3};
        values[count++] = (struct ls_value){.kind = LS_VALUE_UINT, .as.number = 30};
        values[count++] = (struct ls_value){.kind = LS_VALUE_BYTES, .as.bytes = {"first", 5}};
    }
    return count;
}

/* The values as the codec would hand them over, whatever an honest encoder would refuse. */
struct given {
    const struct ls_value *values;
    size_t count;
};

static enum ls_status hand_over(void *self, struct ls_span bytes, struct ls_value *values,
                                size_t values_max, size_t *count)
{
    const struct given *given = self;
    (void)bytes;
    assert_true(given->count <= values_max);
    memcpy(values, given->values, given->count * sizeof *values);
    *count = given->count;
    return LS_OK;
}

static const char *decode(const struct ls_value *values, size_t count, struct ls__snap_message *out)
{
    static struct ls_value room[VALUES_ALL];
    struct given given = {values, count};
    const struct ls_codec codec = {.size = sizeof codec, .self = &given, .decode = hand_over};
    return ls__snap_decode(&codec, (struct ls_span){"", 0}, room, VALUES_ALL, out);
}

static void within_bounds(const struct ls__snap_message *message)
{
    assert_true(message->chunks <= LS_SNAPSHOT_CHUNKS_MAX);
    assert_true(message->chunk <= LS_SNAPSHOT_CHUNKS_MAX);
    assert_true(message->count <= LS__SNAP_ROWS_MAX);
    assert_true(message->data.bytes <= LS_ITEM_BYTES_MAX);
    if (message->kind == LS__SNAP_TABLE) {
        assert_true(message->chunk + message->count <= message->chunks);
        assert_true(message->data.bytes <= LS_CONFIGURATION_BYTES_MAX);
        for (uint32_t i = 0; i < message->count; i++) {
            const struct ls_value *row = message->rows + 4u * (size_t)i;
            assert_int_equal(row[0].as.bytes.bytes, sizeof(struct ls_hash));
            assert_true(row[1].as.number > 0 && row[1].as.number <= LS_ITEM_BYTES_MAX);
            assert_true(row[2].as.number <= LS_ITEM_BYTES_MAX);
            assert_true(row[3].as.bytes.bytes <= LS_ITEM_KEY_BYTES_MAX);
        }
    }
    if (message->kind == LS__SNAP_TABLE_ASK || message->kind == LS__SNAP_CHUNK_ASK) {
        assert_true(message->id > 0 && message->anchor.index > 0);
    }
}

TEST(border, a_snapshot_message_with_any_value_changed_or_missing_is_refused_or_within_bounds)
{
    static const struct ls_value others[] = {
        {.kind = LS_VALUE_UINT, .as.number = 0},
        {.kind = LS_VALUE_UINT, .as.number = 1},
        {.kind = LS_VALUE_UINT, .as.number = 8},
        {.kind = LS_VALUE_UINT, .as.number = LS_SNAPSHOT_CHUNKS_MAX + 1},
        {.kind = LS_VALUE_UINT, .as.number = UINT64_MAX},
        {.kind = LS_VALUE_BYTES, .as.bytes = {"x", 1}},
        {.kind = LS_VALUE_BYTES, .as.bytes = {"x", LS_ITEM_BYTES_MAX + 1}}, /* never read */
        {.kind = LS_VALUE_ARRAY, .as.count = 0},
        {.kind = LS_VALUE_ARRAY, .as.count = 4},
        {.kind = LS_VALUE_ARRAY, .as.count = UINT32_MAX},
    };
    for (int kind = LS__SNAP_REQUEST; kind <= LS__SNAP_KEEP; kind++) {
        struct ls_value values[VALUES_ALL] = {{.as.number = 0}};
        struct ls__snap_message out;
        size_t count = message((enum ls__snap_kind)kind, values);
        unsigned refused = 0;
        assert_null(decode(values, count, &out));
        assert_int_equal(out.kind, kind);
        within_bounds(&out);
        for (size_t at = 0; at < count; at++) {
            struct ls_value was = values[at];
            for (size_t other = 0; other < sizeof others / sizeof others[0]; other++) {
                values[at] = others[other];
                const char *reason = decode(values, count, &out);
                assert_true(reason != NULL || values[at].kind == was.kind);
                refused += reason != NULL;
                if (reason == NULL) {
                    within_bounds(&out);
                }
            }
            values[at] = was;
            assert_non_null(decode(values, at, &out)); /* it ends too early */
        }
        assert_non_null(decode(values, count + 1, &out)); /* or too late */
        assert_true(refused > 15);
    }
}

/* ---- chunks ---------------------------------------------------------------------------------- */

static void build(struct ls_chunk_builder *builder, uint64_t from, uint64_t to, size_t bytes)
{
    uint8_t value[3000];
    ls_chunk_begin(builder);
    for (uint64_t i = from; i < to; i++) {
        memset(value, (int)i, sizeof value);
        struct ls_item item = {.key = {&i, sizeof i}, .value = {value, bytes + i % 7}};
        if (!ls_chunk_visit(builder, &item)) {
            return;
        }
    }
}

TEST(chunk, cut_from_any_first_key_on_is_the_same)
{
    struct ls_chunk_builder whole = {.env = ls_env_default(), .bytes_max = 10000};
    struct ls_chunk_builder part = {.env = ls_env_default(), .bytes_max = 10000};
    uint64_t from = 0;
    size_t chunks = 0;
    do {
        build(&whole, from, 100, 1000);
        assert_ok(whole.failed);
        assert_true(whole.bytes <= 10000 && whole.items > 0);
        build(&part, from, 100, 1000);
        assert_int_equal(part.bytes, whole.bytes);
        assert_memory_equal(part.data, whole.data, whole.bytes);
        size_t at = 0;
        struct ls_item item;
        struct ls_span chunk = {whole.data, whole.bytes};
        for (uint64_t i = 0; i < whole.items; i++) {
            assert_true(ls_chunk_next(chunk, &at, &item));
            assert_int_equal(item.key.bytes, sizeof from);
            assert_memory_equal(item.key.data, &from, sizeof from);
            from++;
        }
        assert_false(ls_chunk_next(chunk, &at, &item));
        assert_int_equal(at, whole.bytes);
        chunks++;
    } while (whole.full);
    assert_int_equal(from, 100);
    assert_true(chunks > 5);
    ls_chunk_builder_free(&whole);
    ls_chunk_builder_free(&part);
}

TEST(chunk, with_any_byte_changed_is_never_read_past_its_end)
{
    struct ls_chunk_builder builder = {.env = ls_env_default(), .bytes_max = 500};
    build(&builder, 0, 20, 20);
    struct ls_span chunk = {builder.data, builder.bytes};
    struct ls_hash right = ls_chunk_hash(ls_env_default(), chunk);
    for (size_t at = 0; at < builder.bytes; at++) {
        for (int bit = 0; bit < 8; bit++) {
            builder.data[at] ^= (uint8_t)(1 << bit);
            size_t read = 0;
            struct ls_item item;
            while (ls_chunk_next(chunk, &read, &item)) {
                const uint8_t *end = (const uint8_t *)item.value.data + item.value.bytes;
                assert_true(end <= builder.data + builder.bytes);
            }
            struct ls_hash wrong = ls_chunk_hash(ls_env_default(), chunk);
            assert_false(ls_hash_equal(&right, &wrong));
            builder.data[at] ^= (uint8_t)(1 << bit);
        }
    }
    ls_chunk_builder_free(&builder);
}

TEST(chunk, of_an_item_beyond_the_limits_is_refused)
{
    struct ls_chunk_builder builder = {.env = ls_env_default(), .bytes_max = 500};
    struct ls_item item = {.key = {"k", LS_ITEM_KEY_BYTES_MAX + 1}, .value = {"v", 1}};
    ls_chunk_begin(&builder);
    assert_false(ls_chunk_visit(&builder, &item));
    assert_int_equal(builder.failed, LS_ERR_INVALID);
    item = (struct ls_item){.key = {"k", 1}, .value = {"v", LS_ITEM_BYTES_MAX - 8}};
    assert_non_null(ls_item_invalid(&item));
    item.value.bytes--;
    assert_null(ls_item_invalid(&item));
    ls_chunk_builder_free(&builder);
}

TEST(chunk, sizes_grow_with_the_state_and_keep_the_number_small)
{
    size_t before = 0;
    for (uint64_t bytes = 1; bytes < (1ull << 37); bytes *= 2) {
        size_t chunk = ls_snapshot_chunk_bytes(bytes);
        assert_true(chunk >= before && chunk <= LS_SNAPSHOT_CHUNK_BYTES_MAX);
        assert_true(bytes / chunk <= LS_SNAPSHOT_CHUNKS_USUAL + 1);
        before = chunk;
    }
}
