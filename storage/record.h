/* SPDX-License-Identifier: MIT */
/*
 * How bytes are framed on disk, the same for every backend. All numbers little-endian.
 *
 * A log record, one for each entry:
 *
 *      0  u16  format version (1)
 *      2  u8   kind of the entry
 *      3  u8   zero
 *      4  u32  payload bytes
 *      8  u64  term
 *     16  u64  index
 *     24  u64  check of the record before it, or the anchor's
 *     32  u64  check = XXH3(payload, seed XXH3(bytes 0..31, seed group))
 *     40  payload
 *
 * The check covers the check of the record before, so a log is a chain: a record that is old, of
 * another group, or of another place does not fit its neighbours. The chain begins
 * at the anchor's check, which is kept with the anchor.
 *
 * Everything else (hard state, anchor, commit hint, store, guard slots) is a sealed cell:
 *
 *      0  u16  format version (1)
 *      2  u8   kind of the cell
 *      3  u8   zero
 *      4  u32  body bytes
 *      8  u64  check = XXH3(body, seed XXH3(bytes 0..7, seed group))
 *     16  body
 *
 *     hard state   u64 term, u64 voted (0, 1), 32 vote
 *     anchor       u64 term, u64 index, u64 check, u64 index of the configuration, configuration
 *     commit hint  u64 index
 *     store        16 incarnation
 *     guard        guard.h
 *
 * The checks find damage, not forgery: whoever can write the directory owns the member.
 */
#ifndef LS_STORAGE_RECORD_H
#define LS_STORAGE_RECORD_H

#include <lockstep/storage.h>

#define LS__FORMAT              1u
#define LS__RECORD_HEADER_BYTES 40u
#define LS__CELL_HEADER_BYTES   16u

/** A place in the chain of one group. */
struct ls__chain {
    uint64_t group; /* ls__record_group */
    uint64_t check; /* of the last record */
};

struct ls__record {
    ls_index index;
    struct ls_entry entry; /* payload borrowed from what was parsed */
    uint64_t previous;     /* check of the record before */
    uint64_t check;
};

enum ls__cell {
    LS__CELL_HARD = 1,
    LS__CELL_ANCHOR = 2,
    LS__CELL_COMMIT = 3,
    LS__CELL_STORE = 4,
    LS__CELL_GUARD = 5
};

/** The seed that ties records and cells to their group. */
uint64_t ls__record_group(const struct ls_group_id *id);

/** The check with which the chain begins after an anchor that no record here led to. */
uint64_t ls__record_origin(uint64_t group, struct ls_cursor anchor);

/** Writes the header of the record that follows `chain`, and moves the chain to it. */
void ls__record_frame(struct ls__chain *chain, ls_index index, const struct ls_entry *entry,
                      uint8_t header[LS__RECORD_HEADER_BYTES]);

/**
 * Checks form and checksum of one record, not its place in the chain.
 * reason  what is wrong, static
 * errors  LS_ERR_CORRUPT, LS_ERR_FORMAT
 */
LS_NODISCARD enum ls_status ls__record_parse(uint64_t group, struct ls_span bytes,
                                             struct ls__record *out, const char **reason);

/** Seals a body of `body_bytes` that already stands at out + LS__CELL_HEADER_BYTES; returns the
 * bytes of the whole cell. */
size_t ls__cell_seal(uint64_t group, enum ls__cell kind, uint8_t *out, size_t body_bytes);

/** Checks a cell and gives its body. errors as ls__record_parse */
LS_NODISCARD enum ls_status ls__cell_open(uint64_t group, enum ls__cell kind, struct ls_span bytes,
                                          struct ls_span *body, const char **reason);

#define LS__HARD_BYTES   (LS__CELL_HEADER_BYTES + 48u)
#define LS__COMMIT_BYTES (LS__CELL_HEADER_BYTES + 8u)
#define LS__STORE_BYTES  (LS__CELL_HEADER_BYTES + 16u)
/* before the configuration */
#define LS__ANCHOR_BYTES (LS__CELL_HEADER_BYTES + 32u)

void ls__hard_encode(uint64_t group, const struct ls_hard_state *hard, uint8_t out[LS__HARD_BYTES]);
LS_NODISCARD enum ls_status ls__hard_decode(uint64_t group, struct ls_span bytes,
                                            struct ls_hard_state *out, const char **reason);

/* little-endian numbers, written so that compilers make one load or store of each */
static inline void ls__put_u64(uint8_t *out, uint64_t value)
{
    out[0] = (uint8_t)value;
    out[1] = (uint8_t)(value >> 8);
    out[2] = (uint8_t)(value >> 16);
    out[3] = (uint8_t)(value >> 24);
    out[4] = (uint8_t)(value >> 32);
    out[5] = (uint8_t)(value >> 40);
    out[6] = (uint8_t)(value >> 48);
    out[7] = (uint8_t)(value >> 56);
}

static inline uint64_t ls__get_u64(const uint8_t *at)
{
    return (uint64_t)at[0] | (uint64_t)at[1] << 8 | (uint64_t)at[2] << 16 | (uint64_t)at[3] << 24 |
           (uint64_t)at[4] << 32 | (uint64_t)at[5] << 40 | (uint64_t)at[6] << 48 |
           (uint64_t)at[7] << 56;
}

static inline void ls__put_u32(uint8_t *out, uint32_t value)
{
    out[0] = (uint8_t)value;
    out[1] = (uint8_t)(value >> 8);
    out[2] = (uint8_t)(value >> 16);
    out[3] = (uint8_t)(value >> 24);
}

static inline uint32_t ls__get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

#endif
