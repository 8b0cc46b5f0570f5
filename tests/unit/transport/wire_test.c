/* SPDX-License-Identifier: MIT */
/* Frames of a bond: their bytes, what is refused, and that nothing grows by what a peer announces.
 */
#include <stdio.h>
#include <stdlib.h>

#include <lockstep/core.h>

#include "codec.h"
#include "test.h"
#include "wire_sample.h"

/* The bytes of each sample, in its order. */
static const char *const sample_bytes[] = {
    "970101010908cd012cc2",
    "9701010209c3c2c2",
    "970101030908cd012cc3",
    "9701010409c2c3c3",
    "990101050906ce00011170ce0001116fc39c0701c407736574206120310702c4000903c40d636f6e"
    "66696775726174696f6e0904c4016d",
    "9901010509000000c290",
    "9c01010609c3c306ce00011170ce000111740000ce00011175",
    "9c01010609c2c206ce0001117003052829",
    "9901010709cf000000012a05f200cf000000012a05f20111ccc8c3",
    "980101080911cd012dcd012bc3",
    "9501010909cffedcba9876543210",
    "9701010a09cffedcba9876543210c309",
    "9401010b09",
    "9701024d01cd1388c40093c4036f6e65c400c4057468726565",
    "9701024e02ceffffffffc40091c4036f6e65",
    "9701024f0300c4200102030405060708000000000000000000000000000000000000000000000000"
    "90",
    "970102500301c40090",
    "9701034d0009ce0001117493c4036f6e65c400c4057468726565",
    "970103cfffffffffffffffff17000090",
    "95010401c3c40572616e6765",
    "950104ceffffffffc2c400",
    "9a01050109ce00011174ce00011171cdea60022901",
};
LS_STATIC_ASSERT(sizeof sample_bytes / sizeof sample_bytes[0] == WIRE_SAMPLES, "one text each");

/* An allocator that counts, and refuses from the n-th allocation on. */
struct counting {
    struct ls_env env;
    size_t allocations;
    size_t live;
    size_t largest;
    size_t refuse_from; /* 0: never */
};

static void *counting_allocate(void *self, void *block, size_t bytes)
{
    struct counting *counting = self;
    if (bytes == 0) {
        counting->live -= block != NULL;
        free(block);
        return NULL;
    }
    assert_null(block);
    counting->allocations++;
    if (counting->refuse_from != 0 && counting->allocations >= counting->refuse_from) {
        return NULL;
    }
    counting->live++;
    counting->largest = bytes > counting->largest ? bytes : counting->largest;
    return malloc(bytes);
}

struct fixture {
    struct counting counting;
    struct ls_wire_buffer buffer;
    struct ls_wire_decoder *decoder;
    struct ls_wire_frame frame;
    const char *reason;
    uint8_t *copy; /* what was decoded last: an exact heap copy, that a sanitizer guards */
};

static void setup(struct fixture *fixture)
{
    (void)memset(fixture, 0, sizeof *fixture);
    fixture->counting.env = (struct ls_env){
        .size = sizeof(struct ls_env), .self = &fixture->counting, .allocate = counting_allocate};
    fixture->buffer.env = &fixture->counting.env;
    assert_ok(ls_wire_decoder_open(&fixture->counting.env, &fixture->decoder));
}

static void teardown(struct fixture *fixture)
{
    ls_wire_decoder_close(fixture->decoder);
    ls_wire_buffer_free(&fixture->buffer);
    free(fixture->copy);
    assert_int_equal(fixture->counting.live, 0);
}

static enum ls_status decode(struct fixture *fixture, const void *bytes, size_t count)
{
    free(fixture->copy);
    fixture->copy = malloc(count > 0 ? count : 1);
    assert_non_null(fixture->copy);
    (void)memcpy(fixture->copy, bytes, count);
    enum ls_status status = ls_wire_decode(fixture->decoder, (struct ls_span){fixture->copy, count},
                                           &fixture->frame, &fixture->reason);
    assert_int_equal(status == LS_OK, fixture->reason == NULL);
    return status;
}

#define decode_list(fixture, ...)                                                                  \
    decode(fixture, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void assert_refused(struct fixture *fixture, const char *reason)
{
    assert_non_null(fixture->reason);
    assert_string_equal(fixture->reason, reason);
    assert_int_equal(fixture->frame.kind, 0);
}

/* What was decoded encodes to exactly these bytes. */
static void assert_same_frame(struct fixture *fixture, const uint8_t *bytes, size_t count)
{
    struct ls_wire_buffer again = {.env = &fixture->counting.env};
    assert_ok(ls_wire_encode(&fixture->frame, &again));
    assert_int_equal(again.bytes, count);
    assert_memory_equal(again.data, bytes, count);
    ls_wire_buffer_free(&again);
}

TEST(wire, every_kind_has_the_documented_bytes)
{
    struct fixture fixture;
    setup(&fixture);
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        assert_ok(ls_wire_encode(&wire_samples[i], &fixture.buffer));
        char text[512] = "";
        assert_true(2 * fixture.buffer.bytes < sizeof text);
        for (size_t at = 0; at < fixture.buffer.bytes; at++) {
            (void)snprintf(text + 2 * at, 3, "%02x", fixture.buffer.data[at]);
        }
        assert_string_equal(text, sample_bytes[i]);
    }
    teardown(&fixture);
}

TEST(wire, every_kind_decodes_to_what_was_encoded)
{
    struct fixture fixture;
    setup(&fixture);
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        assert_ok(ls_wire_encode(&wire_samples[i], &fixture.buffer));
        assert_ok(decode(&fixture, fixture.buffer.data, fixture.buffer.bytes));
        assert_int_equal(fixture.frame.kind, wire_samples[i].kind);
        assert_same_frame(&fixture, fixture.buffer.data, fixture.buffer.bytes);
    }
    teardown(&fixture);
}

TEST(wire, entries_point_into_the_received_bytes)
{
    struct fixture fixture;
    setup(&fixture);
    assert_ok(ls_wire_encode(&wire_samples[4], &fixture.buffer));
    assert_ok(decode(&fixture, fixture.buffer.data, fixture.buffer.bytes));
    const struct ls_append *append = &fixture.frame.as.core.as.append;
    assert_int_equal(append->count, 4);
    for (uint32_t i = 0; i < append->count; i++) {
        const uint8_t *data = append->entries[i].data.data;
        size_t bytes = append->entries[i].data.bytes;
        assert_int_equal(append->entries[i].term, wire_sample_entries[i].term);
        assert_int_equal(append->entries[i].kind, wire_sample_entries[i].kind);
        assert_int_equal(bytes, wire_sample_entries[i].data.bytes);
        assert_true(data >= fixture.copy && data + bytes <= fixture.copy + fixture.buffer.bytes);
    }
    teardown(&fixture);
}

TEST(wire, leaves_sender_and_receiver_to_the_bond)
{
    struct fixture fixture;
    struct ls_wire_frame frame = wire_samples[0];
    setup(&fixture);
    frame.as.core.from.bytes[3] = 1;
    frame.as.core.to.bytes[3] = 2;
    frame.as.core.incarnation.bytes[3] = 3;
    assert_ok(ls_wire_encode(&frame, &fixture.buffer));
    assert_ok(decode(&fixture, fixture.buffer.data, fixture.buffer.bytes));
    assert_true(ls_peer_id_is_zero(&fixture.frame.as.core.from));
    assert_true(ls_peer_id_is_zero(&fixture.frame.as.core.to));
    assert_memory_equal(&fixture.frame.as.core.incarnation, &(struct ls_incarnation){{0}}, 16);
    teardown(&fixture);
}

/* A1 */
TEST(wire, refuses_every_truncation)
{
    struct fixture fixture;
    setup(&fixture);
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        assert_ok(ls_wire_encode(&wire_samples[i], &fixture.buffer));
        for (size_t cut = 0; cut < fixture.buffer.bytes; cut++) {
            assert_int_equal(decode(&fixture, fixture.buffer.data, cut), LS_ERR_PROTOCOL);
        }
    }
    teardown(&fixture);
}

TEST(wire, refuses_bytes_behind_a_frame)
{
    struct fixture fixture;
    setup(&fixture);
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        uint8_t longer[512] = {0};
        assert_ok(ls_wire_encode(&wire_samples[i], &fixture.buffer));
        (void)memcpy(longer, fixture.buffer.data, fixture.buffer.bytes);
        assert_int_equal(decode(&fixture, longer, fixture.buffer.bytes + 1), LS_ERR_PROTOCOL);
        assert_refused(&fixture, "holds bytes after its end");
    }
    teardown(&fixture);
}

TEST(wire, a_flipped_bit_is_refused_or_makes_another_well_formed_frame)
{
    struct fixture fixture;
    size_t refused = 0;
    size_t other = 0;
    setup(&fixture);
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        uint8_t bytes[512];
        assert_ok(ls_wire_encode(&wire_samples[i], &fixture.buffer));
        size_t count = fixture.buffer.bytes;
        for (size_t bit = 0; bit < 8 * count; bit++) {
            (void)memcpy(bytes, fixture.buffer.data, count);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (decode(&fixture, bytes, count) != LS_OK) {
                refused++;
                continue;
            }
            /* well formed: it can be sent again and is then the same frame */
            struct ls_wire_buffer again = {.env = &fixture.counting.env};
            other++;
            assert_ok(ls_wire_encode(&fixture.frame, &again));
            assert_ok(decode(&fixture, again.data, again.bytes));
            assert_same_frame(&fixture, again.data, again.bytes);
            ls_wire_buffer_free(&again);
        }
    }
    assert_true(refused > 100);
    assert_true(other > 100);
    teardown(&fixture);
}

TEST(wire, refuses_unknown_versions_and_kinds)
{
    struct fixture fixture;
    setup(&fixture);
    assert_int_equal(decode_list(&fixture, 0x94, 0, 1, 11, 9), LS_ERR_PROTOCOL);
    assert_refused(&fixture, "unknown version");
    assert_int_equal(decode_list(&fixture, 0x94, 2, 1, 11, 9), LS_ERR_PROTOCOL);
    assert_refused(&fixture, "unknown version");
    assert_int_equal(decode_list(&fixture, 0x94, 0xcf, 1, 0, 0, 0, 0, 0, 0, 1, 1, 11, 9),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "unknown version");
    const uint8_t kinds[][5] = {
        {0x94, 1, 0, 11, 9}, {0x94, 1, 6, 11, 9}, {0x94, 1, 1, 0, 9}, {0x94, 1, 1, 12, 9}};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(decode(&fixture, kinds[i], 5), LS_ERR_PROTOCOL);
        assert_refused(&fixture, "unknown kind or status");
    }
    assert_int_equal(decode_list(&fixture, 0x97, 1, 2, 1, 0, 0, 0xc4, 0, 0x91, 0xc4, 0),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "unknown kind or status");
    assert_int_equal(decode_list(&fixture, 0x97, 1, 2, 1, 4, 0, 0xc4, 0, 0x91, 0xc4, 0),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "unknown kind or status");
    assert_int_equal(decode_list(&fixture, 0x97, 1, 3, 1, 25, 0, 0, 0x90), LS_ERR_PROTOCOL);
    assert_refused(&fixture, "unknown kind or status");
    teardown(&fixture);
}

TEST(wire, refuses_missing_and_additional_fields)
{
    struct fixture fixture;
    setup(&fixture);
    assert_ok(decode_list(&fixture, 0x94, 1, 1, 11, 9));
    assert_int_equal(decode_list(&fixture, 0x93, 1, 1, 11), LS_ERR_PROTOCOL);
    assert_int_equal(decode_list(&fixture, 0x95, 1, 1, 11, 9, 0), LS_ERR_PROTOCOL);
    assert_refused(&fixture, "a frame has more or fewer fields than its kind");
    assert_int_equal(decode_list(&fixture, 0x90), LS_ERR_PROTOCOL);
    assert_int_equal(decode_list(&fixture, 0x91, 1), LS_ERR_PROTOCOL);
    assert_int_equal(decode_list(&fixture, 0x92, 1, 1), LS_ERR_PROTOCOL);
    assert_int_equal(decode_list(&fixture, 0x01), LS_ERR_PROTOCOL);
    assert_refused(&fixture, "a field is of another kind than expected");
    /* a sync with its tag as bytes, and with bytes as its direction */
    assert_int_equal(decode_list(&fixture, 0x95, 1, 4, 0xc4, 0, 0xc2, 0xc4, 0), LS_ERR_PROTOCOL);
    assert_refused(&fixture, "a field is of another kind than expected");
    assert_int_equal(decode_list(&fixture, 0x95, 1, 4, 0, 1, 0xc4, 0), LS_ERR_PROTOCOL);
    assert_refused(&fixture, "a field is of another kind than expected");
    /* a target of 2 bytes */
    assert_int_equal(decode_list(&fixture, 0x97, 1, 2, 1, 3, 0, 0xc4, 2, 1, 2, 0x90),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "a peer id has neither 32 bytes nor none");
    teardown(&fixture);
}

TEST(wire, refuses_numbers_wider_than_their_field)
{
    struct fixture fixture;
    setup(&fixture);
    assert_int_equal(decode_list(&fixture, 0x95, 1, 4, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0, 0xc2, 0xc4, 0),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "a tag above 32 bits");
    assert_int_equal(decode_list(&fixture, 0x97, 1, 2, 1, 1, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0, 0xc4, 0,
                                 0x91, 0xc4, 0),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "a deadline above 32 bits");
    teardown(&fixture);
}

TEST(wire, refuses_unknown_and_partial_entries)
{
    struct fixture fixture;
    setup(&fixture);
    assert_int_equal(decode_list(&fixture, 0x99, 1, 1, 5, 9, 6, 7, 7, 0xc2, 0x92, 9, 1),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "more entries than an append may have, or a part of one");
    assert_int_equal(decode_list(&fixture, 0x99, 1, 1, 5, 9, 6, 7, 7, 0xc2, 0x93, 9, 0, 0xc4, 0),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "unknown kind of entry");
    assert_int_equal(decode_list(&fixture, 0x99, 1, 1, 5, 9, 6, 7, 7, 0xc2, 0x93, 9, 5, 0xc4, 0),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "unknown kind of entry");
    assert_int_equal(decode_list(&fixture, 0x99, 1, 1, 5, 9, 6, 7, 7, 0xc2, 0x93, 9, 1, 1),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "a field of an entry is of another kind than expected");
    teardown(&fixture);
}

/* An append of `count` equal entries. */
static struct ls_wire_frame append_of(struct ls_entry *entries, uint32_t count, struct ls_span data)
{
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (struct ls_entry){9, LS_ENTRY_COMMAND, data};
    }
    return (struct ls_wire_frame){
        .kind = LS_WIRE_CORE,
        .as.core = {
            .kind = LS_MESSAGE_APPEND,
            .term = 9,
            .as.append = {.prev = {9, 1000}, .commit = 1000, .entries = entries, .count = count}}};
}

TEST(wire, takes_the_most_entries_of_an_append_and_not_one_more)
{
    static struct ls_entry entries[LS_APPEND_ENTRIES_MAX];
    struct fixture fixture;
    setup(&fixture);
    struct ls_wire_frame frame =
        append_of(entries, LS_APPEND_ENTRIES_MAX, (struct ls_span){"value", 5});
    assert_ok(ls_wire_encode(&frame, &fixture.buffer));
    assert_ok(decode(&fixture, fixture.buffer.data, fixture.buffer.bytes));
    assert_int_equal(fixture.frame.as.core.as.append.count, LS_APPEND_ENTRIES_MAX);
    assert_same_frame(&fixture, fixture.buffer.data, fixture.buffer.bytes);

    /* one more entry: the array's length is a 16 bit number behind 0xdc */
    static const uint8_t entry[] = {9, LS_ENTRY_COMMAND, 0xc4, 0};
    uint8_t *longer = malloc(fixture.buffer.bytes + sizeof entry);
    uint8_t head[] = {0xdc, (3 * LS_APPEND_ENTRIES_MAX) >> 8, (3 * LS_APPEND_ENTRIES_MAX) & 0xff};
    assert_non_null(longer);
    (void)memcpy(longer, fixture.buffer.data, fixture.buffer.bytes);
    (void)memcpy(longer + fixture.buffer.bytes, entry, sizeof entry);
    size_t at = 0;
    while (memcmp(longer + at, head, sizeof head) != 0) {
        at++;
        assert_true(at < 64);
    }
    longer[at + 1] = (3 * LS_APPEND_ENTRIES_MAX + 3) >> 8;
    longer[at + 2] = (3 * LS_APPEND_ENTRIES_MAX + 3) & 0xff;
    assert_int_equal(decode(&fixture, longer, fixture.buffer.bytes + sizeof entry),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "more entries than an append may have, or a part of one");
    free(longer);
    teardown(&fixture);
}

TEST(wire, takes_the_most_commands_of_a_proposal_and_not_one_more)
{
    static struct ls_span commands[LS_PROPOSE_ENTRIES_MAX];
    static uint8_t longer[LS_PROPOSE_ENTRIES_MAX * 2 + 64];
    struct fixture fixture;
    setup(&fixture);
    struct ls_wire_frame frame = {.kind = LS_WIRE_FORWARD,
                                  .as.forward = {.id = 1,
                                                 .kind = LS_FORWARD_FEED,
                                                 .count = LS_PROPOSE_ENTRIES_MAX,
                                                 .commands = commands}};
    assert_ok(ls_wire_encode(&frame, &fixture.buffer));
    assert_ok(decode(&fixture, fixture.buffer.data, fixture.buffer.bytes));
    assert_int_equal(fixture.frame.as.forward.count, LS_PROPOSE_ENTRIES_MAX);

    size_t count = fixture.buffer.bytes;
    (void)memcpy(longer, fixture.buffer.data, count);
    const uint8_t head[] = {0xdc, LS_PROPOSE_ENTRIES_MAX >> 8, LS_PROPOSE_ENTRIES_MAX & 0xff};
    size_t at = count - 2 * LS_PROPOSE_ENTRIES_MAX - sizeof head;
    assert_memory_equal(longer + at, head, sizeof head);
    longer[at + 2] = 1;
    longer[count] = 0xc4;
    longer[count + 1] = 0;
    assert_int_equal(decode(&fixture, longer, count + 2), LS_ERR_PROTOCOL);
    assert_refused(&fixture, "more commands or replies than one proposal may have");
    teardown(&fixture);
}

TEST(wire, carries_the_longest_entry)
{
    static uint8_t data[LS_ENTRY_BYTES_MAX];
    struct ls_entry entry;
    struct fixture fixture;
    setup(&fixture);
    data[0] = 1;
    data[LS_ENTRY_BYTES_MAX - 1] = 2;
    struct ls_wire_frame frame = append_of(&entry, 1, (struct ls_span){data, sizeof data});
    assert_ok(ls_wire_encode(&frame, &fixture.buffer));
    assert_ok(decode(&fixture, fixture.buffer.data, fixture.buffer.bytes));
    assert_int_equal(fixture.frame.as.core.as.append.entries[0].data.bytes, LS_ENTRY_BYTES_MAX);
    assert_memory_equal(fixture.frame.as.core.as.append.entries[0].data.data, data, sizeof data);

    const struct ls_span span = {data, sizeof data};
    frame = (struct ls_wire_frame){
        .kind = LS_WIRE_FORWARD,
        .as.forward = {.id = 1, .kind = LS_FORWARD_EXECUTE, .count = 1, .commands = &span}};
    assert_ok(ls_wire_encode(&frame, &fixture.buffer));
    assert_ok(decode(&fixture, fixture.buffer.data, fixture.buffer.bytes));
    teardown(&fixture);
}

TEST(wire, fills_a_message_to_its_limit_and_no_further)
{
    /* [1, 4, 0, false, bin 32 bits]: what a sync takes beside its bytes */
    const size_t beside = 1 + 1 + 1 + 1 + 1 + 5;
    struct fixture fixture;
    setup(&fixture);
    uint8_t *bytes = calloc(1, LS_MESSAGE_BYTES_MAX + 1);
    assert_non_null(bytes);
    struct ls_wire_frame frame = {.kind = LS_WIRE_SYNC,
                                  .as.sync = {.bytes = {bytes, LS_MESSAGE_BYTES_MAX - beside}}};
    assert_ok(ls_wire_encode(&frame, &fixture.buffer));
    assert_int_equal(fixture.buffer.bytes, LS_MESSAGE_BYTES_MAX);
    assert_true(fixture.buffer.capacity <= LS_MESSAGE_BYTES_MAX);
    assert_ok(decode(&fixture, fixture.buffer.data, fixture.buffer.bytes));

    frame.as.sync.bytes.bytes++;
    assert_int_equal(ls_wire_encode(&frame, &fixture.buffer), LS_ERR_LIMIT);
    assert_int_equal(fixture.buffer.bytes, 0);
    frame.as.sync.bytes.bytes = SIZE_MAX;
    assert_int_equal(ls_wire_encode(&frame, &fixture.buffer), LS_ERR_LIMIT);

    assert_int_equal(decode(&fixture, bytes, LS_MESSAGE_BYTES_MAX + 1), LS_ERR_PROTOCOL);
    assert_refused(&fixture, "longer than a message may be");
    free(bytes);
    teardown(&fixture);
}

TEST(wire, entries_that_exceed_a_message_together_are_over_the_limit)
{
    static uint8_t data[LS_ENTRY_BYTES_MAX];
    struct ls_span commands[3] = {{data, sizeof data}, {data, sizeof data}, {data, sizeof data}};
    struct fixture fixture;
    setup(&fixture);
    struct ls_wire_frame frame = {
        .kind = LS_WIRE_FORWARD,
        .as.forward = {.id = 1, .kind = LS_FORWARD_EXECUTE, .count = 3, .commands = commands}};
    assert_int_equal(ls_wire_encode(&frame, &fixture.buffer), LS_ERR_LIMIT);
    frame.as.forward.count = 2;
    assert_ok(ls_wire_encode(&frame, &fixture.buffer));
    teardown(&fixture);
}

TEST(wire, allocates_nothing_for_counts_that_are_only_announced)
{
    struct fixture fixture;
    setup(&fixture);
    size_t before = fixture.counting.allocations;
    assert_int_equal(decode_list(&fixture, 0xdd, 0x10, 0, 0, 0), LS_ERR_PROTOCOL);
    assert_refused(&fixture, "announces more elements than follow");
    assert_int_equal(decode_list(&fixture, 0x99, 1, 1, 5, 9, 6, 7, 7, 0xc2, 0xdd, 0x10, 0, 0, 0),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "announces more elements than follow");
    assert_int_equal(decode_list(&fixture, 0x99, 1, 1, 5, 9, 6, 7, 7, 0xc2, 0xdc, 0x30, 0, 9, 1),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "announces more elements than follow");
    assert_int_equal(decode_list(&fixture, 0x97, 1, 2, 1, 1, 0, 0xc4, 0, 0xdd, 0, 0x0f, 0xff, 0xff),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "announces more elements than follow");
    assert_int_equal(decode_list(&fixture, 0x95, 1, 4, 0, 0xc2, 0xc6, 0x10, 0, 0, 0),
                     LS_ERR_PROTOCOL);
    assert_refused(&fixture, "ends in the middle of an element");
    assert_int_equal(fixture.counting.allocations, before);
    teardown(&fixture);
}

TEST(wire, keeps_its_arrays_for_the_next_frame)
{
    static struct ls_entry entries[LS_APPEND_ENTRIES_MAX];
    struct fixture fixture;
    setup(&fixture);
    struct ls_wire_frame frame =
        append_of(entries, LS_APPEND_ENTRIES_MAX, (struct ls_span){"v", 1});
    assert_ok(ls_wire_encode(&frame, &fixture.buffer));
    assert_ok(decode(&fixture, fixture.buffer.data, fixture.buffer.bytes));
    size_t allocations = fixture.counting.allocations;
    for (int round = 0; round < 3; round++) {
        assert_ok(ls_wire_encode(&frame, &fixture.buffer));
        assert_ok(decode(&fixture, fixture.buffer.data, fixture.buffer.bytes));
    }
    assert_int_equal(fixture.counting.allocations, allocations);
    assert_true(fixture.counting.largest <= LS_APPEND_ENTRIES_MAX * sizeof(struct ls_entry));
    teardown(&fixture);
}

TEST(wire, a_refused_allocation_is_a_status_and_changes_nothing)
{
    struct fixture fixture;
    size_t refused = 0;
    setup(&fixture);
    assert_ok(ls_wire_encode(&wire_samples[4], &fixture.buffer));
    struct ls_wire_buffer empty = {.env = &fixture.counting.env};
    struct ls_wire_decoder *none = NULL;
    fixture.counting.refuse_from = 1;
    refused += ls_wire_encode(&wire_samples[4], &empty) == LS_ERR_NO_MEMORY;
    refused += ls_wire_decoder_open(&fixture.counting.env, &none) == LS_ERR_NO_MEMORY;
    refused += decode(&fixture, fixture.buffer.data, fixture.buffer.bytes) == LS_ERR_NO_MEMORY;
    assert_int_equal(fixture.frame.kind, 0);
    assert_int_equal(refused, 3);
    assert_null(none);
    assert_null(empty.data);

    fixture.counting.refuse_from = 0;
    assert_ok(decode(&fixture, fixture.buffer.data, fixture.buffer.bytes));
    teardown(&fixture);
}

TEST(wire, refuses_core_messages_that_no_correct_peer_sends)
{
    struct fixture fixture;
    setup(&fixture);
    assert_int_equal(decode_list(&fixture, 0x94, 1, 1, 11, 0), LS_ERR_PROTOCOL);
    teardown(&fixture);
}

TEST(wire, forwards_are_checked_on_both_sides)
{
    static const struct ls_span spans[] = {{"a", 1}};
    static const struct ls_span no_address[] = {{NULL, 1}};
    static const struct ls_span too_long[] = {{"a", LS_ENTRY_BYTES_MAX + 1}};
    const struct ls_forward good = {.kind = LS_FORWARD_EXECUTE, .count = 1, .commands = spans};
    struct ls_forward bad = good;
    assert_null(ls_forward_invalid(&good));
    bad.kind = (enum ls_forward_kind)4;
    assert_non_null(ls_forward_invalid(&bad));
    bad = good;
    bad.count = 0;
    assert_non_null(ls_forward_invalid(&bad));
    bad = good;
    bad.count = LS_PROPOSE_ENTRIES_MAX + 1;
    assert_non_null(ls_forward_invalid(&bad));
    bad = good;
    bad.commands = NULL;
    assert_non_null(ls_forward_invalid(&bad));
    bad = good;
    bad.commands = no_address;
    assert_non_null(ls_forward_invalid(&bad));
    bad = good;
    bad.commands = too_long;
    assert_non_null(ls_forward_invalid(&bad));
    bad = good;
    bad.target.bytes[0] = 1;
    assert_non_null(ls_forward_invalid(&bad));
    bad = good;
    bad.kind = LS_FORWARD_TRANSFER;
    assert_non_null(ls_forward_invalid(&bad));
}

TEST(wire, forward_replies_are_checked_on_both_sides)
{
    static const struct ls_span spans[] = {{"a", 1}, {NULL, 0}};
    const struct ls_forward_reply good = {
        .status = LS_OK, .first = {3, 4}, .count = 2, .replies = spans};
    struct ls_forward_reply bad = good;
    assert_null(ls_forward_reply_invalid(&good));
    bad.status = (enum ls_status)(LS_ERR_UNREACHABLE + 1);
    assert_non_null(ls_forward_reply_invalid(&bad));
    bad = good;
    bad.status = LS_ERR_NOT_LEADER;
    assert_non_null(ls_forward_reply_invalid(&bad));
    bad.count = 0;
    assert_null(ls_forward_reply_invalid(&bad));
    bad = good;
    bad.first.term = 0;
    assert_non_null(ls_forward_reply_invalid(&bad));
    bad = good;
    bad.first = (struct ls_cursor){0, 0};
    assert_non_null(ls_forward_reply_invalid(&bad));
    bad = good;
    bad.first.index = UINT64_MAX;
    assert_non_null(ls_forward_reply_invalid(&bad));
    bad.first.index--;
    assert_null(ls_forward_reply_invalid(&bad));
    bad.replies = NULL;
    assert_non_null(ls_forward_reply_invalid(&bad));
    bad = good;
    bad.count = LS_PROPOSE_ENTRIES_MAX + 1;
    assert_non_null(ls_forward_reply_invalid(&bad));
}
