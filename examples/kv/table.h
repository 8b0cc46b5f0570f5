/* SPDX-License-Identifier: MIT */
/*
 * A hash table whose items can be walked in the order of (hash, key): buckets are chosen by the top
 * bits of the hash, chains are sorted. It grows in independent shards, so that no insert pays for
 * the whole.
 *
 * Items are allocated one by one, or, where the table only grows until all of it is dropped, from
 * an arena: what replaces an item then leaves the bytes of the old one behind, which count.
 *
 * A table can be frozen: who changes a shard that is common to several tables copies it first.
 */
#ifndef KV_TABLE_H
#define KV_TABLE_H

#include <lockstep/types.h>

struct kv_item {
    struct kv_item *next;
    uint64_t hash;
    uint32_t key_bytes, value_bytes, capacity; /* capacity: room for the value */
    bool gone;                                 /* a tombstone: for overlays */
    char bytes[];                              /* key, then value */
};

struct kv_shard {
    unsigned *holders; /* how many tables have this shard; NULL: this one alone */
    struct kv_item **buckets;
    unsigned bits; /* 2^bits buckets; valid when buckets != NULL */
    size_t count;
};

struct kv_chunk;

struct kv_arena {
    struct kv_chunk *used, *spare; /* the first of `used` is being filled */
    size_t taken;                  /* of the first of `used` */
    size_t bytes;                  /* of all used chunks */
};

struct kv_table {
    struct kv_shard *shards;
    unsigned shard_bits;
    bool pooled; /* items come from the arena */
    struct kv_arena arena;
    size_t bucket_bytes;
    size_t count; /* items, tombstones included */
};

/** What a table held under a key before. */
enum kv_was { KV_WAS_NOTHING, KV_WAS_PRESENT, KV_WAS_GONE };
struct kv_before {
    enum kv_was was;
    size_t value_bytes; /* of what was PRESENT, else 0 */
};

/** errors LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status kv_table_open(struct kv_table *table, unsigned shard_bits);
/** With an arena. errors LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status kv_table_open_pooled(struct kv_table *table, unsigned shard_bits);
void kv_table_close(struct kv_table *table);
/** A pooled table keeps its memory for the next items: O(buckets), else O(items). */
void kv_table_clear(struct kv_table *table);
/** Memory of a pooled table, bytes. O(1). */
static inline size_t kv_table_bytes(const struct kv_table *table)
{
    return table->arena.bytes + table->bucket_bytes;
}

/** NULL: not there. */
struct kv_item *kv_table_find(const struct kv_table *table, uint64_t hash, struct ls_span key);

/** A key of this hash will be asked for soon: first its bucket is fetched from memory (not `near`),
 * some calls later the item. */
void kv_table_prefetch(const struct kv_table *table, uint64_t hash, bool near);

/** Inserts or replaces. `value` may lie in the item itself. errors LS_ERR_NO_MEMORY: unchanged */
LS_NODISCARD enum ls_status kv_table_put(struct kv_table *table, uint64_t hash, struct ls_span key,
                                         struct ls_span value);
/** The same; *before: what was there. NULL: out of memory, unchanged. */
LS_NODISCARD struct kv_item *kv_table_upsert(struct kv_table *table, uint64_t hash,
                                             struct ls_span key, struct ls_span value,
                                             struct kv_before *before);
/** Inserts or replaces by a tombstone. errors LS_ERR_NO_MEMORY: unchanged */
LS_NODISCARD enum ls_status kv_table_bury(struct kv_table *table, uint64_t hash,
                                          struct ls_span key);
/** *value_bytes: of what was there. errors LS_ERR_NOT_FOUND, LS_ERR_NO_MEMORY: unchanged */
LS_NODISCARD enum ls_status kv_table_remove(struct kv_table *table, uint64_t hash,
                                            struct ls_span key, size_t *value_bytes);

/** The order of (hash, key): <0, 0, >0. */
int kv_key_order(uint64_t hash, struct ls_span key, uint64_t other_hash, struct ls_span other);

/**
 * A table with what is in this one now, that does not see what changes in it. Shards are common
 * until they are changed. Not of a pooled one; close it. O(shards). errors LS_ERR_NO_MEMORY
 */
LS_NODISCARD enum ls_status kv_table_freeze(struct kv_table *table, struct kv_table *out);

/** The first item at or behind a key, or NULL. */
struct kv_item *kv_table_seek_key(const struct kv_table *table, uint64_t hash, struct ls_span key);
/** The first item whose hash is at least `hash`, or NULL; and the one behind an item. */
struct kv_item *kv_table_seek(const struct kv_table *table, uint64_t hash);
struct kv_item *kv_table_next(const struct kv_table *table, const struct kv_item *item);

static inline struct ls_span kv_item_key(const struct kv_item *item)
{
    return (struct ls_span){item->bytes, item->key_bytes};
}

static inline struct ls_span kv_item_value(const struct kv_item *item)
{
    return (struct ls_span){item->bytes + item->key_bytes, item->value_bytes};
}

#endif
