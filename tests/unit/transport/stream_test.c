/* SPDX-License-Identifier: MIT */
/* Records through sealed frames, without sockets: any sizes, any pieces, any damage. */
#include <stdio.h>
#include <stdlib.h>

#include "stream.h"
#include "test.h"

struct refusal {
    struct ls_env env;
    size_t largest; /* request seen */
    size_t calls, refuse_at;
    size_t refused;
    size_t held; /* blocks not freed */
};

static void *counting(void *self, void *block, size_t bytes)
{
    struct refusal *refusal = self;
    if (bytes > 0) {
        refusal->calls++;
        refusal->largest = bytes > refusal->largest ? bytes : refusal->largest;
        if (refusal->refuse_at != 0 && refusal->calls >= refusal->refuse_at) {
            refusal->refused++;
            return NULL;
        }
    }
    refusal->held += block == NULL && bytes > 0 ? 1u : 0u;
    refusal->held -= block != NULL && bytes == 0 ? 1u : 0u;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, bytes);
}

struct pipe {
    struct refusal refusal;
    struct ls__frame_pool pool;
    struct ls__out out;
    struct ls__in in;
    ls__stream push, pull;
};

static void pipe_open(struct pipe *pipe)
{
    (void)memset(pipe, 0, sizeof *pipe);
    pipe->refusal.env = *ls_env_default();
    pipe->refusal.env.self = &pipe->refusal;
    pipe->refusal.env.allocate = counting;
    pipe->pool.env = &pipe->refusal.env;
    ls__out_open(&pipe->out, &pipe->pool, &pipe->push);
    ls__in_open(&pipe->in, &pipe->refusal.env, &pipe->pull);
    static const uint8_t key[32] = {7};
    uint8_t header[crypto_secretstream_xchacha20poly1305_HEADERBYTES];
    assert_int_equal(crypto_secretstream_xchacha20poly1305_init_push(&pipe->push, header, key), 0);
    assert_int_equal(crypto_secretstream_xchacha20poly1305_init_pull(&pipe->pull, header, key), 0);
}

static void pipe_close(struct pipe *pipe)
{
    ls__out_close(&pipe->out);
    ls__in_close(&pipe->in);
    ls__frame_pool_free(&pipe->pool);
    assert_int_equal(pipe->refusal.held, 0);
}

/* Takes at most `bytes` of the wire. */
static size_t wire_take(struct pipe *pipe, uint8_t *to, size_t bytes)
{
    struct iovec vectors[4];
    size_t count = ls__out_vectors(&pipe->out, bytes, vectors, 4), taken = 0;
    for (size_t i = 0; i < count && taken < bytes; i++) {
        size_t some = vectors[i].iov_len < bytes - taken ? vectors[i].iov_len : bytes - taken;
        (void)memcpy(to + taken, vectors[i].iov_base, some);
        taken += some;
    }
    ls__out_written(&pipe->out, taken);
    return taken;
}

static enum ls_status wire_give(struct pipe *pipe, const uint8_t *from, size_t bytes,
                                struct ls_span *record, const char **reason)
{
    enum ls_status status = LS_ERR_BUSY;
    while (bytes > 0 && status == LS_ERR_BUSY) {
        uint8_t *at = NULL;
        size_t space = 0;
        assert_ok(ls__in_space(&pipe->in, &at, &space));
        size_t some = bytes < space ? bytes : space;
        (void)memcpy(at, from, some);
        ls__in_received(&pipe->in, some);
        from += some;
        bytes -= some;
        status = ls__in_record(&pipe->in, record, reason);
    }
    return status;
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static uint8_t byte_of(size_t record, size_t at)
{
    return (uint8_t)(record * 31 + at * 7 + (at >> 8));
}

TEST(stream, records_of_any_size_pass_in_any_pieces)
{
    enum { RECORDS = 400, PIECE = 70000 };
    uint64_t seed = test_seed();
    static size_t sizes[RECORDS];
    uint8_t *data = malloc(300000), *wire = malloc(PIECE);
    assert_non_null(data);
    assert_non_null(wire);
    struct pipe pipe;
    pipe_open(&pipe);
    size_t sent = 0, got = 0;
    while (got < RECORDS) {
        for (uint32_t burst = next_random(&seed) % 5; burst > 0 && sent < RECORDS; burst--) {
            uint32_t kind = next_random(&seed) % 10;
            sizes[sent] = 1 + next_random(&seed) % (kind < 6 ? 200u : kind < 9 ? 9000u : 290000u);
            for (size_t i = 0; i < sizes[sent]; i++) {
                data[i] = byte_of(sent, i);
            }
            size_t half = sizes[sent] / 2;
            const struct ls_span parts[] = {{data, half}, {data + half, sizes[sent] - half}};
            assert_ok(ls__out_record(&pipe.out, parts, 2));
            sent++;
        }
        size_t piece = 1 + next_random(&seed) % (next_random(&seed) % 2 == 0 ? 50u : PIECE);
        size_t bytes = wire_take(&pipe, wire, piece);
        const uint8_t *from = wire;
        struct ls_span record;
        const char *reason = NULL;
        while (bytes > 0) {
            uint8_t *at = NULL;
            size_t space = 0;
            enum ls_status status;
            assert_ok(ls__in_space(&pipe.in, &at, &space));
            size_t some = bytes < space ? bytes : space;
            (void)memcpy(at, from, some);
            ls__in_received(&pipe.in, some);
            from += some;
            bytes -= some;
            while ((status = ls__in_record(&pipe.in, &record, &reason)) == LS_OK) {
                const uint8_t *seen = record.data;
                assert_true(got < sent);
                assert_int_equal(record.bytes, sizes[got]);
                for (size_t i = 0; i < record.bytes; i++) {
                    assert_int_equal(seen[i], byte_of(got, i));
                }
                got++;
            }
            assert_int_equal(status, LS_ERR_BUSY);
        }
    }
    assert_int_equal(pipe.out.queued, 0);
    pipe_close(&pipe);
    free(data);
    free(wire);
}

TEST(stream, small_records_of_one_turn_share_a_frame)
{
    struct pipe pipe;
    struct iovec vectors[8];
    pipe_open(&pipe);
    const struct ls_span part = {"0123456789", 10};
    for (int i = 0; i < 100; i++) {
        assert_ok(ls__out_record(&pipe.out, &part, 1));
    }
    assert_int_equal(pipe.out.queued, 1400);
    assert_int_equal(ls__out_vectors(&pipe.out, 1u << 20, vectors, 8), 1);
    assert_int_equal(vectors[0].iov_len, 4 + 17 + 1400);
    pipe_close(&pipe);
}

TEST(stream, any_flipped_bit_is_noticed)
{
    enum { TEXT = 40, WIRE = 4 + 17 + 4 + TEXT };
    for (size_t bit = 0; bit < (size_t)WIRE * 8; bit++) {
        struct pipe pipe;
        uint8_t text[TEXT] = {0}, wire[256];
        struct ls_span record;
        const char *reason = NULL;
        pipe_open(&pipe);
        const struct ls_span part = {text, sizeof text};
        assert_ok(ls__out_record(&pipe.out, &part, 1));
        assert_int_equal(wire_take(&pipe, wire, sizeof wire), WIRE);
        wire[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        enum ls_status status = wire_give(&pipe, wire, WIRE, &record, &reason);
        if (status == LS_ERR_BUSY) {
            /* the length grew: it waits for more, and then it does not verify */
            uint8_t more[300] = {0};
            assert_true(bit < 32);
            for (size_t fed = 0; fed < (2u * LS_FRAME_BYTES_MAX) && status == LS_ERR_BUSY;
                 fed += sizeof more) {
                status = wire_give(&pipe, more, sizeof more, &record, &reason);
            }
        }
        assert_int_equal(status, LS_ERR_PROTOCOL);
        assert_non_null(reason);
        pipe_close(&pipe);
    }
}

TEST(stream, frames_cannot_be_repeated_or_left_out)
{
    struct pipe pipe;
    uint8_t first[128], second[128];
    struct ls_span record;
    const char *reason = NULL;
    const struct ls_span part = {"abc", 3};
    for (int left_out = 0; left_out < 2; left_out++) {
        pipe_open(&pipe);
        assert_ok(ls__out_record(&pipe.out, &part, 1));
        size_t bytes = wire_take(&pipe, first, sizeof first);
        assert_ok(ls__out_record(&pipe.out, &part, 1));
        assert_int_equal(wire_take(&pipe, second, sizeof second), bytes);
        if (left_out == 0) {
            assert_ok(wire_give(&pipe, first, bytes, &record, &reason));
            assert_int_equal(ls__in_record(&pipe.in, &record, &reason), LS_ERR_BUSY);
        }
        assert_int_equal(wire_give(&pipe, left_out == 0 ? first : second, bytes, &record, &reason),
                         LS_ERR_PROTOCOL);
        pipe_close(&pipe);
    }
}

/* A1 */
TEST(stream, oversized_length_is_refused_before_anything_is_allocated)
{
    static const uint32_t lengths[] = {0, 17, LS_FRAME_BYTES_MAX + 18, 0x10000000, 0xffffffff};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct pipe pipe;
        struct ls_span record;
        const char *reason = NULL;
        uint8_t head[5] = {0};
        for (size_t byte = 0; byte < 4; byte++) {
            head[byte] = (uint8_t)(lengths[i] >> (8 * byte));
        }
        pipe_open(&pipe);
        assert_int_equal(wire_give(&pipe, head, sizeof head, &record, &reason), LS_ERR_PROTOCOL);
        assert_true(pipe.refusal.largest <= 16u << 10);
        pipe_close(&pipe);
    }
}

/* Seals plaintext that our own sender would not write. */
static size_t seal(struct pipe *pipe, const uint8_t *text, uint32_t bytes, uint8_t *wire)
{
    uint32_t sealed = bytes + LS__STREAM_OVERHEAD;
    for (size_t byte = 0; byte < 4; byte++) {
        wire[byte] = (uint8_t)(sealed >> (8 * byte));
    }
    assert_int_equal(crypto_secretstream_xchacha20poly1305_push(
                         &pipe->push, wire + 4, NULL, text, bytes, wire, 4,
                         crypto_secretstream_xchacha20poly1305_TAG_MESSAGE),
                     0);
    return 4 + sealed;
}

TEST(stream, announced_record_costs_no_more_than_what_arrived)
{
    struct pipe pipe;
    struct ls_span record;
    const char *reason = NULL;
    uint8_t text[1000] = {0}, wire[1100];
    pipe_open(&pipe);
    const uint32_t announced = LS__RECORD_BYTES_MAX;
    for (size_t byte = 0; byte < 4; byte++) {
        text[byte] = (uint8_t)(announced >> (8 * byte));
    }
    size_t bytes = seal(&pipe, text, sizeof text, wire);
    assert_int_equal(wire_give(&pipe, wire, bytes, &record, &reason), LS_ERR_BUSY);
    assert_true(pipe.refusal.largest <= 16u << 10);
    pipe_close(&pipe);
}

TEST(stream, record_of_impossible_length_is_refused)
{
    static const uint32_t lengths[] = {0, LS__RECORD_BYTES_MAX + 1, 0xffffffff};
    for (size_t i = 0; i < 3; i++) {
        for (size_t split = 0; split < 2; split++) {
            struct pipe pipe;
            struct ls_span record;
            const char *reason = NULL;
            uint8_t text[4], wire[128];
            for (size_t byte = 0; byte < 4; byte++) {
                text[byte] = (uint8_t)(lengths[i] >> (8 * byte));
            }
            pipe_open(&pipe);
            size_t bytes = seal(&pipe, text, split == 0 ? 4 : 2, wire);
            if (split == 1) { /* the head itself spans two frames */
                assert_int_equal(wire_give(&pipe, wire, bytes, &record, &reason), LS_ERR_BUSY);
                bytes = seal(&pipe, text + 2, 2, wire);
            }
            assert_int_equal(wire_give(&pipe, wire, bytes, &record, &reason), LS_ERR_PROTOCOL);
            pipe_close(&pipe);
        }
    }
}

TEST(stream, refused_memory_queues_nothing_of_a_record)
{
    enum { BYTES = 500000 };
    uint8_t *data = calloc(1, BYTES), *wire = malloc(BYTES + 1000);
    assert_non_null(data);
    assert_non_null(wire);
    size_t refusals = 0;
    for (size_t at = 1; at < 20; at++) {
        struct pipe pipe;
        pipe_open(&pipe);
        const struct ls_span small = {"before", 6}, large = {data, BYTES};
        assert_ok(ls__out_record(&pipe.out, &small, 1));
        pipe.refusal.refuse_at = pipe.refusal.calls + at;
        size_t queued = pipe.out.queued;
        enum ls_status status = ls__out_record(&pipe.out, &large, 1);
        if (status == LS_OK) {
            assert_int_equal(pipe.refusal.refused, 0);
            pipe_close(&pipe);
            continue;
        }
        assert_int_equal(status, LS_ERR_NO_MEMORY);
        assert_int_equal(pipe.out.queued, queued);
        refusals++;
        pipe.refusal.refuse_at = 0;
        struct ls_span record;
        const char *reason = NULL;
        size_t bytes = wire_take(&pipe, wire, 100);
        assert_ok(wire_give(&pipe, wire, bytes, &record, &reason));
        assert_memory_equal(record.data, "before", 6);
        assert_int_equal(ls__in_record(&pipe.in, &record, &reason), LS_ERR_BUSY);
        pipe_close(&pipe);
    }
    assert_true(refusals > 3);
    free(data);
    free(wire);
}

TEST(stream, refused_memory_while_reassembling_is_a_status)
{
    enum { BYTES = 200000 };
    uint8_t *data = calloc(1, BYTES), *wire = malloc(BYTES + 1000);
    assert_non_null(data);
    assert_non_null(wire);
    struct pipe pipe;
    struct ls_span record;
    const char *reason = NULL;
    pipe_open(&pipe);
    const struct ls_span large = {data, BYTES};
    assert_ok(ls__out_record(&pipe.out, &large, 1));
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        size_t bytes = wire_take(&pipe, wire, 10000);
        assert_true(bytes > 0);
        status = wire_give(&pipe, wire, bytes, &record, &reason);
        if (pipe.in.record_bytes > 0 && pipe.refusal.refuse_at == 0) {
            pipe.refusal.refuse_at = pipe.refusal.calls + 1;
        }
    }
    assert_int_equal(status, LS_ERR_NO_MEMORY);
    assert_int_equal(pipe.refusal.refused > 0, 1);
    pipe_close(&pipe);
    free(data);
    free(wire);
}
