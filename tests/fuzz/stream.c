/* SPDX-License-Identifier: MIT */
/*
 * Sealed frames. The first byte of an input says what the rest is:
 *
 *     even  bytes off the wire: nothing of them is authentic, so no record may come out
 *     odd   plaintext of a peer that holds the keys, cut into frames and pieces as bytes of the
 * input say: the records that come out are those of a plain reading of the whole
 *
 * Neither makes the receiver allocate more than a small multiple of what it was given.
 */
#include "fuzz.h"

#include <stdlib.h>

#include "bytes.h"
#include "stream.h"

enum { MEMORY_PER_INPUT = 4, MEMORY_AT_LEAST = 64 << 10, PIECE_MAX = 300 };

static size_t input_bytes;

static void *allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    LS_ASSERT(bytes <= MEMORY_PER_INPUT * input_bytes + MEMORY_AT_LEAST);
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, bytes);
}

/* The plain reading: where the next record lies. false: none, or a length that breaks the stream.
 */
static bool plain_next(struct ls_span *left, struct ls_span *record)
{
    const uint8_t *at = left->data;
    if (left->bytes < LS__RECORD_HEAD) {
        return false;
    }
    uint32_t bytes = ls__get32(at);
    if (bytes == 0 || bytes > left->bytes - LS__RECORD_HEAD) {
        return false;
    }
    *record = (struct ls_span){at + LS__RECORD_HEAD, bytes};
    left->data = at + LS__RECORD_HEAD + bytes;
    left->bytes -= LS__RECORD_HEAD + bytes;
    return true;
}

/* Gives wire bytes in pieces and compares what comes out with `plain`; false: the stream broke. */
static bool give(struct ls__in *in, const uint8_t *wire, size_t bytes, struct ls_span *plain)
{
    while (bytes > 0) {
        uint8_t *at = NULL;
        size_t space = 0, piece = 1 + (size_t)wire[0] % PIECE_MAX;
        struct ls_span record, expected;
        const char *reason = NULL;
        LS_ASSERT(ls__in_space(in, &at, &space) == LS_OK && space > 0);
        piece = piece < bytes ? piece : bytes;
        piece = piece < space ? piece : space;
        (void)memcpy(at, wire, piece);
        ls__in_received(in, piece);
        wire += piece;
        bytes -= piece;
        enum ls_status status;
        while ((status = ls__in_record(in, &record, &reason)) == LS_OK) {
            LS_ASSERT(plain_next(plain, &expected));
            LS_ASSERT(record.bytes == expected.bytes);
            LS_ASSERT(memcmp(record.data, expected.data, record.bytes) == 0);
        }
        LS_ASSERT((status == LS_ERR_BUSY) == (reason == NULL));
        if (status != LS_ERR_BUSY) {
            return false;
        }
    }
    return true;
}

/* Seals `plain` in frames of sizes that its own bytes draw; returns the wire bytes. */
static size_t seal(ls__stream *push, struct ls_span plain, uint8_t *wire)
{
    const uint8_t *at = plain.data;
    size_t written = 0, left = plain.bytes;
    while (left > 0) {
        size_t some = 1 + at[0] % 64u;
        some = some < left ? some : left;
        uint8_t *head = wire + written;
        ls__put32(head, (uint32_t)some + LS__STREAM_OVERHEAD);
        (void)crypto_secretstream_xchacha20poly1305_push(
            push, head + LS__FRAME_HEAD, NULL, at, some, head, LS__FRAME_HEAD,
            crypto_secretstream_xchacha20poly1305_TAG_MESSAGE);
        written += LS__FRAME_HEAD + LS__STREAM_OVERHEAD + some;
        at += some;
        left -= some;
    }
    return written;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[crypto_secretstream_xchacha20poly1305_KEYBYTES] = {7};
    uint8_t header[crypto_secretstream_xchacha20poly1305_HEADERBYTES];
    struct ls_env env = *ls_env_default();
    ls__stream push, pull;
    struct ls__in in;
    if (size < 1) {
        return 0;
    }
    input_bytes = size;
    env.allocate = allocate;
    (void)crypto_secretstream_xchacha20poly1305_init_push(&push, header, key);
    (void)crypto_secretstream_xchacha20poly1305_init_pull(&pull, header, key);
    ls__in_open(&in, &env, &pull);
    struct ls_span plain = {data + 1, size - 1};
    if (data[0] % 2 == 0) {
        struct ls_span nothing = {NULL, 0};
        (void)give(&in, data + 1, size - 1, &nothing);
    } else {
        const size_t overhead = LS__FRAME_HEAD + LS__STREAM_OVERHEAD;
        uint8_t *wire = malloc(size * (1 + overhead));
        LS_ASSERT(wire != NULL);
        struct ls_span rest = plain, record;
        bool whole = give(&in, wire, seal(&push, plain, wire), &rest);
        /* what was not read is no whole record */
        LS_ASSERT(!whole || !plain_next(&rest, &record));
        free(wire);
    }
    ls__in_close(&in);
    return 0;
}
