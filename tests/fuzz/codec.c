/* SPDX-License-Identifier: MIT */
/*
 * The codec of the pure rooms: what it decodes, msgpack-c takes too, it encodes again, and decodes
 * to the same values.
 */
#include "fuzz.h"

#include <msgpack.h>

#include "codec.h"

enum { VALUES_MAX = 4096, OUTPUT_BYTES_MAX = 1 << 21 };

static bool same(const struct ls_value *a, const struct ls_value *b)
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
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ls_value values[VALUES_MAX];
    static struct ls_value again[VALUES_MAX];
    static uint8_t out[OUTPUT_BYTES_MAX];
    const struct ls_span input = {data, size};
    size_t count = 0;
    size_t count_again = 0;
    size_t written = 0;
    if (size > OUTPUT_BYTES_MAX ||
        ls__codec_decode(NULL, input, values, VALUES_MAX, &count) != LS_OK) {
        return 0;
    }
    LS_ASSERT(ls__codec_check(input) == NULL);
    LS_ASSERT(ls__codec_encode(NULL, values, count, out, sizeof out, &written) == LS_OK);
    LS_ASSERT(written <= size); /* the encoder chooses the shortest form */
    LS_ASSERT(ls__codec_decode(NULL, (struct ls_span){out, written}, again, VALUES_MAX,
                               &count_again) == LS_OK);
    LS_ASSERT(count_again == count);
    for (size_t i = 0; i < count; i++) {
        LS_ASSERT(same(&values[i], &again[i]));
    }

    msgpack_unpacked unpacked;
    size_t offset = 0;
    msgpack_unpacked_init(&unpacked);
    LS_ASSERT(msgpack_unpack_next(&unpacked, (const char *)data, size, &offset) ==
              MSGPACK_UNPACK_SUCCESS);
    LS_ASSERT(offset == size);
    msgpack_unpacked_destroy(&unpacked);
    return 0;
}
