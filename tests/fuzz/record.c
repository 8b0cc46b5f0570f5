/* SPDX-License-Identifier: MIT */
/*
 * What stands on disk: no bytes make a parser read outside of them; a record made from the input is
 * read back as it was written, and not at all when one of its bits is another.
 */
#include "fuzz.h"

#include <stdlib.h>

#include "record.h"

enum { INPUT_BYTES_MAX = 4096, FIELDS_BYTES = 26 };

static const uint64_t group = 0x0123456789abcdef;

static void parse_raw(struct ls_span bytes)
{
    struct ls__record record;
    struct ls_hard_state hard;
    struct ls_span body;
    const char *reason = NULL;
    if (ls__record_parse(group, bytes, &record, &reason) == LS_OK) {
        LS_ASSERT(record.entry.data.bytes == bytes.bytes - LS__RECORD_HEADER_BYTES);
    } else {
        LS_ASSERT(reason != NULL);
    }
    for (int kind = LS__CELL_HARD; kind <= LS__CELL_GUARD; kind++) {
        if (ls__cell_open(group, (enum ls__cell)kind, bytes, &body, &reason) == LS_OK) {
            LS_ASSERT(body.bytes == bytes.bytes - LS__CELL_HEADER_BYTES);
        }
    }
    if (ls__hard_decode(group, bytes, &hard, &reason) == LS_OK) {
        LS_ASSERT(hard.voted || ls_peer_id_is_zero(&hard.vote));
    }
}

/* data: kind, which bit to flip (8), term (8), index (8), a byte to spare, then the payload */
static void frame_and_parse(const uint8_t *data, size_t size)
{
    const struct ls_entry entry = {
        ls__get_u64(data + 9),
        (enum ls_entry_kind)(LS_ENTRY_COMMAND + data[0] % LS_ENTRY_MARKER),
        {data + FIELDS_BYTES, size - FIELDS_BYTES}};
    ls_index index = ls__get_u64(data + 17);
    struct ls__chain chain = {group, data[25]};
    size_t bytes = LS__RECORD_HEADER_BYTES + entry.data.bytes;
    uint8_t *stored = malloc(bytes);
    struct ls__record record;
    const char *reason = NULL;
    LS_ASSERT(stored != NULL);
    ls__record_frame(&chain, index, &entry, stored);
    if (entry.data.bytes > 0) {
        (void)memcpy(stored + LS__RECORD_HEADER_BYTES, entry.data.data, entry.data.bytes);
    }
    LS_ASSERT(ls__record_parse(group, (struct ls_span){stored, bytes}, &record, &reason) == LS_OK);
    LS_ASSERT(record.index == index && record.entry.term == entry.term);
    LS_ASSERT(record.entry.kind == entry.kind && record.previous == data[25]);
    LS_ASSERT(record.check == chain.check);
    LS_ASSERT(record.entry.data.bytes == entry.data.bytes);

    size_t bit = (size_t)(ls__get_u64(data + 1) % (8 * bytes));
    stored[bit / 8] ^= (uint8_t)(1u << bit % 8);
    LS_ASSERT(ls__record_parse(group, (struct ls_span){stored, bytes}, &record, &reason) != LS_OK);
    free(stored);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_BYTES_MAX) {
        return 0;
    }
    parse_raw((struct ls_span){data, size});
    if (size >= FIELDS_BYTES) {
        frame_and_parse(data, size);
    }
    return 0;
}
