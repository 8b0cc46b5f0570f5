/* SPDX-License-Identifier: MIT */
/*
 * What a snapshot is: the items of a machine's state at one place of the log, in the machine's
 * order, cut into chunks. Equal states give equal chunks, byte for byte, on every member and in
 * every build that speaks this format, so that chunks may come from all of them.
 *
 *   item    key bytes, 4 LE | value bytes, 4 LE | key | value
 *   chunk   items, as many as fit ls_snapshot_chunk_bytes(); a larger item has a chunk of its own
 *   hash    BLAKE2b-256("lockstep-chunk/1" | chunk)
 *   root    BLAKE2b-256("lockstep-snapshot/1" | anchor, configuration, counts | every hash)
 *
 * Source: paging and verified pieces after calimero's snapshot and commonware's syncer.
 */
#ifndef LOCKSTEP_SNAPSHOT_H
#define LOCKSTEP_SNAPSHOT_H

#include <lockstep/env.h>

LS_EXTERN_C_BEGIN

/** Keys are unique within a state. Borrowed. */
struct ls_item {
    struct ls_span key;   /* 1 to LS_ITEM_KEY_BYTES_MAX */
    struct ls_span value; /* with the key at most LS_ITEM_BYTES_MAX */
};

/** Receives items in order; borrowed for the call. Returns false to stop. */
typedef bool (*ls_item_visit)(void *arg, const struct ls_item *item);

struct ls_hash {
    uint8_t bytes[32];
};

struct ls_snapshot {
    struct ls_cursor anchor;      /* of the last entry that is applied in it */
    ls_index configuration_index; /* of the configuration in force at the anchor */
    struct ls_span configuration; /* ls_configuration_encode; borrowed */
    uint64_t items;
    uint64_t bytes; /* of keys and values */
    uint32_t chunks;
    struct ls_hash root;
};

#define LS_ITEM_HEAD_BYTES 8u

/** NULL, or why this cannot be an item. */
LS_API const char *ls_item_invalid(const struct ls_item *item);

/** Upper bound of a chunk of more than one item, bytes, in a state of `bytes`: larger states have
 * larger chunks, so that their number stays small. */
LS_API size_t ls_snapshot_chunk_bytes(uint64_t bytes);

/**
 * The next item of a chunk; *at begins at 0.
 * returns  false at the end, and when the rest is malformed: then *at is not chunk.bytes
 */
LS_API bool ls_chunk_next(struct ls_span chunk, size_t *at, struct ls_item *item);

LS_API struct ls_hash ls_chunk_hash(const struct ls_env *env, struct ls_span chunk);

/** The root of a snapshot, whose own `root` is not looked at. hashes: snapshot->chunks of them. */
LS_API struct ls_hash ls_snapshot_root(const struct ls_env *env, const struct ls_snapshot *snapshot,
                                       const struct ls_hash *hashes);

static inline bool ls_hash_equal(const struct ls_hash *a, const struct ls_hash *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/** A chunk being cut: pass ls_chunk_visit and this to whatever visits items. Zero but env and
 * bytes_max at first. */
struct ls_chunk_builder {
    const struct ls_env *env;
    size_t bytes_max; /* ls_snapshot_chunk_bytes */
    uint8_t *data;    /* owned; kept from chunk to chunk */
    size_t bytes, capacity;
    uint64_t items, item_bytes; /* of this chunk; item_bytes: keys and values */
    bool full;                  /* the next item begins another chunk: its key is in `next` */
    uint8_t *next;              /* owned */
    size_t next_bytes, next_capacity;
    enum ls_status failed; /* NO_MEMORY, or INVALID: the machine gave what is no item */
};

/** Empties the chunk, keeps `next` and the memory. */
LS_API void ls_chunk_begin(struct ls_chunk_builder *builder);
/** An ls_item_visit. */
LS_API bool ls_chunk_visit(void *builder, const struct ls_item *item);
LS_API void ls_chunk_builder_free(struct ls_chunk_builder *builder);

LS_EXTERN_C_END

#endif
