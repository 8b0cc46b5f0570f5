/* SPDX-License-Identifier: MIT */
/*
 * Framing and checks of everything that is stored (the tables are in record.h). Knows no backend,
 * does no I/O. XXH3 because one check of a small entry costs about 20 ns, so that a million entries
 * verify within an open; its 64 bits are kept stable by the xxHash project since 0.8.
 */
#include "record.h"

#include <xxhash.h>

uint64_t ls__record_group(const struct ls_group_id *id)
{
    return XXH3_64bits(id->bytes, sizeof id->bytes);
}

uint64_t ls__record_origin(uint64_t group, struct ls_cursor anchor)
{
    uint8_t bytes[16];
    ls__put_u64(bytes, anchor.term);
    ls__put_u64(bytes + 8, anchor.index);
    return XXH3_64bits_withSeed(bytes, sizeof bytes, group);
}

/* header_bytes: those before the check itself */
static uint64_t check_of(uint64_t group, const uint8_t *header, size_t header_bytes,
                         struct ls_span payload)
{
    uint64_t seed = XXH3_64bits_withSeed(header, header_bytes, group);
    return payload.bytes == 0 ? seed : XXH3_64bits_withSeed(payload.data, payload.bytes, seed);
}

static void put_head(uint8_t *out, unsigned kind, size_t bytes)
{
    LS_ASSERT(kind <= UINT8_MAX);
    LS_ASSERT(bytes <= UINT32_MAX);
    out[0] = LS__FORMAT;
    out[1] = 0;
    out[2] = (uint8_t)kind;
    out[3] = 0;
    ls__put_u32(out + 4, (uint32_t)bytes);
}

void ls__record_frame(struct ls__chain *chain, ls_index index, const struct ls_entry *entry,
                      uint8_t header[LS__RECORD_HEADER_BYTES])
{
    put_head(header, (unsigned)entry->kind, entry->data.bytes);
    ls__put_u64(header + 8, entry->term);
    ls__put_u64(header + 16, index);
    ls__put_u64(header + 24, chain->check);
    chain->check = check_of(chain->group, header, 32, entry->data);
    ls__put_u64(header + 32, chain->check);
}

enum ls_status ls__record_parse(uint64_t group, struct ls_span bytes, struct ls__record *out,
                                const char **reason)
{
    const uint8_t *at = bytes.data;
    if (bytes.bytes < LS__RECORD_HEADER_BYTES) {
        *reason = "it is shorter than its header";
        return LS_ERR_CORRUPT;
    }
    size_t payload = ls__get_u32(at + 4);
    if (payload != bytes.bytes - LS__RECORD_HEADER_BYTES) {
        *reason = "its length differs from its header";
        return LS_ERR_CORRUPT;
    }
    out->entry.data = (struct ls_span){at + LS__RECORD_HEADER_BYTES, payload};
    out->check = ls__get_u64(at + 32);
    if (check_of(group, at, 32, out->entry.data) != out->check && !LS_MUTANT(F5)) {
        *reason = "its checksum differs";
        return LS_ERR_CORRUPT;
    }
    if (at[0] != LS__FORMAT || at[1] != 0) {
        *reason = "it has a format version that this build does not read";
        return LS_ERR_FORMAT;
    }
    if (at[2] < LS_ENTRY_COMMAND || at[2] > LS_ENTRY_MARKER || at[3] != 0) {
        *reason = "its kind is unknown";
        return LS_ERR_CORRUPT;
    }
    out->entry.kind = (enum ls_entry_kind)at[2];
    out->entry.term = ls__get_u64(at + 8);
    out->index = ls__get_u64(at + 16);
    out->previous = ls__get_u64(at + 24);
    return LS_OK;
}

size_t ls__cell_seal(uint64_t group, enum ls__cell kind, uint8_t *out, size_t body_bytes)
{
    struct ls_span body = {out + LS__CELL_HEADER_BYTES, body_bytes};
    put_head(out, (unsigned)kind, body_bytes);
    ls__put_u64(out + 8, check_of(group, out, 8, body));
    return LS__CELL_HEADER_BYTES + body_bytes;
}

enum ls_status ls__cell_open(uint64_t group, enum ls__cell kind, struct ls_span bytes,
                             struct ls_span *body, const char **reason)
{
    const uint8_t *at = bytes.data;
    if (bytes.bytes < LS__CELL_HEADER_BYTES) {
        *reason = "it is shorter than its header";
        return LS_ERR_CORRUPT;
    }
    if (ls__get_u32(at + 4) != bytes.bytes - LS__CELL_HEADER_BYTES) {
        *reason = "its length differs from its header";
        return LS_ERR_CORRUPT;
    }
    *body = (struct ls_span){at + LS__CELL_HEADER_BYTES, bytes.bytes - LS__CELL_HEADER_BYTES};
    if (check_of(group, at, 8, *body) != ls__get_u64(at + 8) && !LS_MUTANT(F5_CELL)) {
        *reason = "its checksum differs";
        return LS_ERR_CORRUPT;
    }
    if (at[0] != LS__FORMAT || at[1] != 0) {
        *reason = "it has a format version that this build does not read";
        return LS_ERR_FORMAT;
    }
    if (at[2] != (uint8_t)kind || at[3] != 0) {
        *reason = "it is of another kind";
        return LS_ERR_CORRUPT;
    }
    return LS_OK;
}

void ls__hard_encode(uint64_t group, const struct ls_hard_state *hard, uint8_t out[LS__HARD_BYTES])
{
    uint8_t *body = out + LS__CELL_HEADER_BYTES;
    ls__put_u64(body, hard->term);
    ls__put_u64(body + 8, hard->voted ? 1 : 0);
    (void)memcpy(body + 16, hard->vote.bytes, sizeof hard->vote.bytes);
    (void)ls__cell_seal(group, LS__CELL_HARD, out, LS__HARD_BYTES - LS__CELL_HEADER_BYTES);
}

enum ls_status ls__hard_decode(uint64_t group, struct ls_span bytes, struct ls_hard_state *out,
                               const char **reason)
{
    struct ls_span body;
    enum ls_status status = ls__cell_open(group, LS__CELL_HARD, bytes, &body, reason);
    if (status != LS_OK) {
        return status;
    }
    const uint8_t *at = body.data;
    if (body.bytes != LS__HARD_BYTES - LS__CELL_HEADER_BYTES || ls__get_u64(at + 8) > 1) {
        *reason = "its form is unknown";
        return LS_ERR_CORRUPT;
    }
    out->term = ls__get_u64(at);
    out->voted = ls__get_u64(at + 8) == 1;
    (void)memcpy(out->vote.bytes, at + 16, sizeof out->vote.bytes);
    return LS_OK;
}
