/* SPDX-License-Identifier: MIT */
/*
 * Frames of a bond: a frame that decodes can be encoded, and then decodes to the same frame; no
 * input makes the decoder allocate more than a small multiple of its own size.
 */
#include "fuzz.h"

#include <stdlib.h>

#include <lockstep/wire.h>

/* The smallest entry takes 4 bytes of input and 32 of memory, and arrays double when they grow. */
enum { MEMORY_PER_INPUT = 16, MEMORY_AT_LEAST = 4096 };

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ls_env env = {.size = sizeof env, .allocate = allocate};
    struct ls_wire_decoder *decoder = NULL;
    struct ls_wire_buffer first = {.env = &env};
    struct ls_wire_buffer second = {.env = &env};
    struct ls_wire_frame frame;
    const char *reason = NULL;

    input_bytes = size;
    LS_ASSERT(ls_wire_decoder_open(&env, &decoder) == LS_OK);
    enum ls_status status = ls_wire_decode(decoder, (struct ls_span){data, size}, &frame, &reason);
    LS_ASSERT((status == LS_OK) == (reason == NULL));
    if (status == LS_OK) {
        LS_ASSERT(ls_wire_encode(&frame, &first) == LS_OK);
        LS_ASSERT(first.bytes <= size); /* the encoder chooses the shortest form */
        LS_ASSERT(ls_wire_decode(decoder, (struct ls_span){first.data, first.bytes}, &frame,
                                 NULL) == LS_OK);
        LS_ASSERT(ls_wire_encode(&frame, &second) == LS_OK);
        LS_ASSERT(first.bytes == second.bytes);
        LS_ASSERT(memcmp(first.data, second.data, first.bytes) == 0);
    } else {
        LS_ASSERT(status == LS_ERR_PROTOCOL);
    }
    ls_wire_buffer_free(&first);
    ls_wire_buffer_free(&second);
    ls_wire_decoder_close(decoder);
    return 0;
}
