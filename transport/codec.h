/* SPDX-License-Identifier: MIT */
/*
 * Bounded msgpack: the writer and the token reader under struct ls_codec (env.h) and the wire
 * frames (wire.h). Only unsigned integers, bin, arrays and, in frames, booleans exist here.
 *
 * Writing instantiates msgpack-c's pack template over a writer that the compiler can inline.
 * Reading does not use msgpack-c's unpacker: it builds objects in a zone, which allocates, and
 * sizes them by counts that a peer announced. What is left of msgpack without maps, strings, floats
 * and extensions is one switch; msgpack-c serves the tests as the second opinion on it.
 *
 * Never allocates, never recurses, never reads outside of the bytes it was given.
 */
#ifndef LOCKSTEP_TRANSPORT_CODEC_H
#define LOCKSTEP_TRANSPORT_CODEC_H

#include <lockstep/env.h>

#include <limits.h>

#include <msgpack/sysdep.h>
#include <msgpack/timestamp.h>

/** Output of fixed capacity that goes on counting when it is full: `bytes` tells what was needed.
 */
struct ls__writer {
    uint8_t *data;
    size_t capacity;
    size_t bytes;
};

static inline int ls__writer_put(struct ls__writer *writer, const void *data, size_t bytes)
{
    size_t at = writer->bytes;
    writer->bytes = at + bytes;
    if (LS_LIKELY(bytes > 0 && at <= writer->capacity && bytes <= writer->capacity - at)) {
        (void)memcpy(writer->data + at, data, bytes);
    }
    return 0;
}

/* ls__pack_uint64, ls__pack_bin, ls__pack_bin_body, ls__pack_array, ls__pack_true, ls__pack_false
 */
#define msgpack_pack_inline_func(name)              static inline int ls__pack##name
#define msgpack_pack_user                           struct ls__writer *
#define msgpack_pack_append_buffer(user, buf, size) return ls__writer_put(user, buf, size)
#include <msgpack/pack_template.h>

static inline void ls__write_number(struct ls__writer *writer, uint64_t number)
{
    (void)ls__pack_uint64(writer, number);
}

static inline void ls__write_bool(struct ls__writer *writer, bool value)
{
    (void)(value ? ls__pack_true(writer) : ls__pack_false(writer));
}

static inline void ls__write_array(struct ls__writer *writer, size_t count)
{
    (void)ls__pack_array(writer, count);
}

static inline void ls__write_bytes(struct ls__writer *writer, struct ls_span span)
{
    (void)ls__pack_bin(writer, span.bytes);
    (void)ls__pack_bin_body(writer, span.data, span.bytes);
}

enum ls__token_kind {
    LS__TOKEN_UINT = 1,
    LS__TOKEN_BYTES = 2,
    LS__TOKEN_ARRAY = 3,
    LS__TOKEN_BOOL = 4
};

struct ls__token {
    enum ls__token_kind kind;
    uint64_t number;      /* UINT, BOOL (0 or 1); ARRAY: elements, which follow */
    struct ls_span bytes; /* BYTES: borrowed from the input */
};

/** A place in input that is read token by token. */
struct ls__scan {
    const uint8_t *at;
    const uint8_t *end;
    const char *reason; /* static sentence, set when a call returned false */
};

static inline struct ls__scan ls__scan_open(struct ls_span bytes)
{
    /* an empty span may have no address, on which arithmetic is not defined */
    static const uint8_t nothing;
    const uint8_t *at = bytes.bytes > 0 ? bytes.data : &nothing;
    return (struct ls__scan){at, at + bytes.bytes, NULL};
}

static inline size_t ls__scan_left(const struct ls__scan *scan)
{
    return (size_t)(scan->end - scan->at);
}

/** ls__scan_next for every form of a token. */
bool ls__scan_wide(struct ls__scan *scan, struct ls__token *token);

/**
 * Reads one token. Its payload lies inside the input; an array's elements may not (that is what
 * ls__codec_check is for). false: truncated or of an unknown kind; `reason` tells.
 */
static inline bool ls__scan_next(struct ls__scan *scan, struct ls__token *token)
{
    if (LS_LIKELY(scan->at < scan->end)) {
        uint8_t head = *scan->at;
        if (head <= 0x7f) {
            scan->at++;
            token->kind = LS__TOKEN_UINT;
            token->number = head;
            return true;
        }
        size_t left = ls__scan_left(scan);
        if ((head & 0xfc) == 0xcc && left > sizeof token->number) { /* the last bytes: below */
            uint64_t eight;
            _msgpack_load64(uint64_t, scan->at + 1, &eight);
            unsigned bytes = 1u << (head & 3);
            token->kind = LS__TOKEN_UINT;
            token->number = eight >> (64u - 8u * bytes);
            scan->at += 1u + bytes;
            return true;
        }
        if (head == 0xc4 && left >= 2 && left - 2 >= scan->at[1]) {
            token->kind = LS__TOKEN_BYTES;
            token->bytes = (struct ls_span){scan->at + 2, scan->at[1]};
            scan->at += 2u + scan->at[1];
            return true;
        }
        if ((head & 0xfe) == 0xc2) {
            scan->at++;
            token->kind = LS__TOKEN_BOOL;
            token->number = head & 1;
            return true;
        }
    }
    return ls__scan_wide(scan, token);
}

/**
 * The bounded pre-scan: NULL if `bytes` are exactly one tree in which every length and the sum of
 * all announced elements fit the bytes left, at most LS_DECODE_DEPTH_MAX arrays deep; else the
 * reason, a static sentence. O(bytes of headers).
 */
const char *ls__codec_check(struct ls_span bytes);

/** struct ls_codec.encode; `self` is not used. errors LS_ERR_LIMIT; LS_ERR_INVALID: not one tree */
enum ls_status ls__codec_encode(void *self, const struct ls_value *values, size_t count, void *out,
                                size_t capacity, size_t *written);

/** struct ls_codec.decode; `self` is not used. errors LS_ERR_PROTOCOL */
enum ls_status ls__codec_decode(void *self, struct ls_span bytes, struct ls_value *values,
                                size_t values_max, size_t *count);

#endif
