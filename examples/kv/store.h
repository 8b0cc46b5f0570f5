/* SPDX-License-Identifier: MIT */
/*
 * Where the state of the key-value machine is kept: in memory, or in RocksDB. Both walk keys in the
 * order of (kv_key_hash, key), so that a SCAN cursor means the same on every member.
 *
 * Writes belong to a batch that ends with commit or rollback; reads see the batch so far.
 *
 * Snapshots: an item is a key with its value, in the same order. There is nothing else that replies
 * depend on.
 */
#ifndef KV_STORE_H
#define KV_STORE_H

#include <lockstep/machine.h>

/** One key of a scan, borrowed for the call. */
typedef void (*kv_store_visit)(void *arg, struct ls_span key);

struct kv_store {
    void *self;

    /** Binds the state to a group and incarnation; *applied: the index it stands at. errors
     * LS_ERR_MISMATCH, LS_ERR_LOCKED, LS_ERR_FORMAT, LS_ERR_CORRUPT, LS_ERR_IO, with text */
    enum ls_status (*open)(void *self, const struct ls_group_id *group,
                           const struct ls_incarnation *incarnation, ls_index *applied,
                           struct ls_error *error);

    /** Before the first call of a batch. errors LS_ERR_BUSY (try again later), LS_ERR_IO (latched)
     */
    enum ls_status (*begin)(void *self);
    /** The batch should end here, for memory. O(1). */
    bool (*full)(void *self);

    /** A key of this kv_key_hash will be wanted soon, or (`near`) sooner: for speed only. */
    void (*prefetch)(void *self, uint64_t hash, bool near);

    /** The value is borrowed until the next call on the store. errors LS_ERR_NOT_FOUND, LS_ERR_IO
     */
    enum ls_status (*get)(void *self, struct ls_span key, struct ls_span *value);
    /** `value` may be what get returned. errors LS_ERR_NO_MEMORY, LS_ERR_IO */
    enum ls_status (*put)(void *self, struct ls_span key, struct ls_span value);
    /** errors LS_ERR_NOT_FOUND, LS_ERR_NO_MEMORY, LS_ERR_IO */
    enum ls_status (*remove)(void *self, struct ls_span key);
    enum ls_status (*clear)(void *self);
    /** Keys. Only between batches. O(1). */
    uint64_t (*count)(void *self);

    /**
     * Visits all keys whose hash is at least `cursor`, at least `keys` of them and always whole
     * runs of equal hashes. Only between batches.
     *
     * next   where to go on; 0: that was all
     * errors LS_ERR_IO
     */
    enum ls_status (*scan)(void *self, uint64_t cursor, uint64_t *next, uint32_t keys,
                           kv_store_visit visit, void *arg);

    /** Ends the batch: what becomes durable holds all of it, with `applied` in the same atomic
     * write, or nothing. errors LS_ERR_NO_MEMORY, LS_ERR_IO (latched); the state is of no more use
     * then */
    enum ls_status (*commit)(void *self, ls_index applied);
    /** Gives the batch up: it never becomes durable, and the state is of no more use. */
    void (*rollback)(void *self);

    /** What survives a power cut now. NULL: nothing, it is in memory. */
    ls_index (*durable)(void *self);

    /* as the functions of these names in machine.h, between batches */
    enum ls_status (*freeze)(void *self, struct ls_frozen *out);
    enum ls_status (*iterate)(void *self, const struct ls_frozen *frozen, struct ls_span from,
                              ls_item_visit visit, void *arg);
    void (*thaw)(void *self, struct ls_frozen *frozen);
    enum ls_status (*restore)(void *self, struct ls_cursor anchor);
    enum ls_status (*restore_item)(void *self, const struct ls_item *item);
    enum ls_status (*publish)(void *self, struct ls_cursor anchor);
    void (*restore_end)(void *self);
    enum ls_status (*restore_sync)(void *self); /* or NULL */

    /** Why it failed, or NULL. */
    const char *(*trouble)(void *self);
    void (*close)(void *self);
};

/** errors LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status kv_store_memory_open(struct kv_store *out);

/** Nothing is touched before `open`. directory: borrowed for the call. errors LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status kv_store_rocksdb_open(const char *directory, struct kv_store *out);

#endif
