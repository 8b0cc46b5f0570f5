/* SPDX-License-Identifier: MIT */
/* Framing: every bit of a record counts, and a record fits only where it was written. */
#include "record.h"
#include "test.h"

#include <xxhash.h>

struct framed {
    struct ls__chain chain;
    uint8_t bytes[LS__RECORD_HEADER_BYTES + 24];
    size_t count;
};

static struct framed frame(uint64_t group, uint64_t previous, ls_index index, const char *payload)
{
    struct framed framed = {.chain = {group, previous}};
    const struct ls_entry entry = {3, LS_ENTRY_COMMAND, {payload, strlen(payload)}};
    ls__record_frame(&framed.chain, index, &entry, framed.bytes);
    (void)memcpy(framed.bytes + LS__RECORD_HEADER_BYTES, payload, entry.data.bytes);
    framed.count = LS__RECORD_HEADER_BYTES + entry.data.bytes;
    return framed;
}

static enum ls_status parse(uint64_t group, const struct framed *framed, struct ls__record *out)
{
    const char *reason = "";
    return ls__record_parse(group, (struct ls_span){framed->bytes, framed->count}, out, &reason);
}

/* L18 */
TEST(record, comes_back_as_it_was_framed)
{
    struct framed framed = frame(7, 9, 17, "hello");
    struct ls__record record;
    assert_ok(parse(7, &framed, &record));
    assert_int_equal(record.index, 17);
    assert_int_equal(record.entry.term, 3);
    assert_int_equal(record.entry.kind, LS_ENTRY_COMMAND);
    assert_int_equal(record.entry.data.bytes, 5);
    assert_memory_equal(record.entry.data.data, "hello", 5);
    assert_int_equal(record.previous, 9);
    assert_int_equal(record.check, framed.chain.check);
}

/* F5 */
TEST(record, any_flipped_bit_is_noticed)
{
    struct framed framed = frame(7, 9, 17, "some payload");
    struct ls__record record;
    for (size_t bit = 0; bit < framed.count * 8; bit++) {
        framed.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(parse(7, &framed, &record), LS_ERR_CORRUPT);
        framed.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    assert_ok(parse(7, &framed, &record));
}

TEST(record, any_other_length_is_noticed)
{
    struct framed framed = frame(7, 9, 17, "some payload");
    struct ls__record record;
    size_t whole = framed.count;
    for (framed.count = 0; framed.count < whole; framed.count++) {
        assert_int_equal(parse(7, &framed, &record), LS_ERR_CORRUPT);
    }
    framed.count = whole + 1;
    assert_int_equal(parse(7, &framed, &record), LS_ERR_CORRUPT);
}

TEST(record, of_another_group_is_noticed)
{
    struct framed framed = frame(7, 9, 17, "hello");
    struct ls__record record;
    assert_int_equal(parse(8, &framed, &record), LS_ERR_CORRUPT);
}

/* F6 */
TEST(record, check_depends_on_everything_before)
{
    assert_int_not_equal(frame(7, 9, 17, "hello").chain.check,
                         frame(7, 8, 17, "hello").chain.check);
    assert_int_not_equal(frame(7, 9, 17, "hello").chain.check,
                         frame(7, 9, 18, "hello").chain.check);
    assert_int_not_equal(frame(7, 9, 17, "hello").chain.check,
                         frame(7, 9, 17, "hallo").chain.check);
    assert_int_not_equal(ls__record_origin(7, (struct ls_cursor){1, 2}),
                         ls__record_origin(7, (struct ls_cursor){2, 1}));
}

/* The bytes on disk are a promise to the next version: they change only with LS__FORMAT. */
TEST(record, bytes_are_those_of_format_1)
{
    static const uint8_t expected[] = {
        1,  0, 1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
        17, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0,
    };
    struct framed framed = frame(7, 9, 17, "ab");
    assert_memory_equal(framed.bytes, expected, sizeof expected);
    assert_int_equal(ls__get_u64(framed.bytes + 32), 0xf4038ed9c7604788ull);
    assert_memory_equal(framed.bytes + LS__RECORD_HEADER_BYTES, "ab", 2);
}

/* F18: as a newer version would write it: another version, and a check that is right. */
TEST(record, newer_format_is_told_from_damage)
{
    uint8_t cell[LS__COMMIT_BYTES] = {0};
    struct ls_span body;
    struct ls__record record;
    const char *reason = "";
    (void)ls__cell_seal(7, LS__CELL_COMMIT, cell, 8);
    cell[0] = 2;
    struct ls_span bytes = {cell, sizeof cell};
    assert_int_equal(ls__cell_open(7, LS__CELL_COMMIT, bytes, &body, &reason), LS_ERR_CORRUPT);
    ls__put_u64(cell + 8, XXH3_64bits_withSeed(cell + 16, 8, XXH3_64bits_withSeed(cell, 8, 7)));
    assert_int_equal(ls__cell_open(7, LS__CELL_COMMIT, bytes, &body, &reason), LS_ERR_FORMAT);

    struct framed newer = frame(7, 9, 17, "hello");
    newer.bytes[0] = 2;
    assert_int_equal(parse(7, &newer, &record), LS_ERR_CORRUPT);
    ls__put_u64(newer.bytes + 32,
                XXH3_64bits_withSeed("hello", 5, XXH3_64bits_withSeed(newer.bytes, 32, 7)));
    assert_int_equal(parse(7, &newer, &record), LS_ERR_FORMAT);
}

TEST(cell, any_flipped_bit_and_other_kind_is_noticed)
{
    uint8_t cell[LS__HARD_BYTES];
    const struct ls_hard_state hard = {5, true, {{1, 2, 3}}};
    struct ls_hard_state out;
    const char *reason = "";
    ls__hard_encode(7, &hard, cell);
    struct ls_span bytes = {cell, sizeof cell};
    assert_ok(ls__hard_decode(7, bytes, &out, &reason));
    assert_int_equal(out.term, 5);
    assert_true(out.voted);
    assert_true(ls_peer_id_equal(&out.vote, &hard.vote));
    struct ls_span body;
    assert_int_equal(ls__cell_open(7, LS__CELL_ANCHOR, bytes, &body, &reason), LS_ERR_CORRUPT);
    assert_int_equal(ls__hard_decode(8, bytes, &out, &reason), LS_ERR_CORRUPT);
    for (size_t bit = 0; bit < sizeof cell * 8; bit++) {
        cell[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(ls__hard_decode(7, bytes, &out, &reason), LS_ERR_CORRUPT);
        cell[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}
