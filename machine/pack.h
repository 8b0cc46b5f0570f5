/* SPDX-License-Identifier: MIT */
/*
 * A file of chunks in a vault: what a snapshot looks like on a disk, whether it is being fetched,
 * being written, or the newest one. Records, one after another:
 *
 *    0  "LSP1"            4
 *    4  kind              4 LE   1 chunk, 2 table
 *    8  payload bytes     8 LE
 *   16  hash of payload  32      a chunk's is its ls_chunk_hash
 *   48  incarnation      16      of the store the file belongs to
 *   64  check             8      of the above and the group id
 *   72  payload
 *
 * Chunks are known by their hash and may come in any order; the last table tells which of them, in
 * which order, are the snapshot. A torn end is cut off. Payloads are checked when they are read.
 */
#ifndef LOCKSTEP_PACK_H
#define LOCKSTEP_PACK_H

#include <lockstep/configuration.h>
#include <lockstep/snapshot.h>
#include <lockstep/vault.h>

#define LS__PACK_HEAD_BYTES 72u

struct ls__pack_place {
    struct ls_hash hash;
    uint64_t offset; /* of the payload */
    uint32_t bytes;
    bool bad;    /* what is there is not what was written */
    bool summed; /* this process wrote it: a sum tells as well whether it is still there, and the
                    hash need not be computed once more */
    uint64_t sum;
};

struct ls__pack {
    const struct ls_env *env;
    const struct ls_vault *vault;
    struct ls_group_id group;
    struct ls_incarnation incarnation;
    enum ls_vault_file file;
    uint64_t end;
    struct ls__pack_place *places; /* of chunks */
    size_t places_count, places_capacity;
    uint32_t *slots; /* number of a place + 1, by hash; 0: free */
    size_t slots_count;
    /* of the last table */
    struct ls_snapshot snapshot; /* chunks: how many hashes */
    bool whole;                  /* there is a table */
    struct ls_hash *hashes;
    uint8_t configuration[LS_CONFIGURATION_BYTES_MAX];
    uint8_t *block; /* of the chunk that was read last */
    size_t block_capacity;
};

/**
 * Finds what is in the file, nothing when it is of another group or incarnation, and cuts off what
 * is torn, but of LS_VAULT_SNAPSHOT. Cost: a read for each chunk.
 * errors  LS_ERR_FORMAT (of a newer version), LS_ERR_IO, LS_ERR_NO_MEMORY
 */
enum ls_status ls__pack_open(struct ls__pack *pack, const struct ls_env *env,
                             const struct ls_vault *vault, const struct ls_group_id *group,
                             const struct ls_incarnation *incarnation, enum ls_vault_file file);
/** Frees memory; the file stays. */
void ls__pack_close(struct ls__pack *pack);
/** Begins anew, without a file. errors LS_ERR_BUSY, LS_ERR_IO: all is as before */
enum ls_status ls__pack_empty(struct ls__pack *pack);
/** Adds a chunk if it is not there; `again`: it will be read soon. errors LS_ERR_IO,
 * LS_ERR_NO_MEMORY, LS_ERR_LIMIT */
enum ls_status ls__pack_chunk(struct ls__pack *pack, const struct ls_hash *hash,
                              struct ls_span bytes, bool again);
/** Adds a table, which counts from now on. errors LS_ERR_IO, LS_ERR_NO_MEMORY */
enum ls_status ls__pack_table(struct ls__pack *pack, const struct ls_snapshot *snapshot,
                              const struct ls_hash *hashes);
/** Is that chunk of the table there? */
bool ls__pack_has(const struct ls__pack *pack, uint32_t chunk);
/** Reads a chunk of the table; borrowed until the next. errors LS_ERR_CORRUPT: it counts as missing
 * from now on; LS_ERR_IO, LS_ERR_NO_MEMORY */
enum ls_status ls__pack_read(struct ls__pack *pack, uint32_t chunk, struct ls_span *out);
/**
 * Is the table on the disk, too, and the head of each of its chunks? What this process holds in
 * memory tells nothing to the next one. Cost: a read for each chunk.
 * errors LS_ERR_CORRUPT: no; LS_ERR_IO, LS_ERR_NO_MEMORY: not known
 */
enum ls_status ls__pack_check(const struct ls__pack *pack);
/** A chunk of the table counts as missing from now on. */
void ls__pack_forget(struct ls__pack *pack, uint32_t chunk);
/** Bytes of the file that no table needs are more than the rest: begin anew when something changes
 */
bool ls__pack_wasteful(const struct ls__pack *pack, uint64_t needed_bytes);

#endif
