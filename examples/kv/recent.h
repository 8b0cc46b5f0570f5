/* SPDX-License-Identifier: MIT */
/*
 * What the state has last written: keys with their values, or that they are gone. A bounded cache
 * in front of RocksDB, in two generations: when the young one is full it becomes the old one, and
 * the old one is dropped. What is found is the present state, never an older one.
 */
#ifndef KV_RECENT_H
#define KV_RECENT_H

#include "table.h"

struct kv_recent {
    struct kv_table young, old;
    size_t bytes, bytes_max; /* of one generation */
};

/** errors LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status kv_recent_open(struct kv_recent *recent, size_t bytes_max);
void kv_recent_close(struct kv_recent *recent);
void kv_recent_clear(struct kv_recent *recent);

/** NULL: not known here. */
const struct kv_item *kv_recent_find(const struct kv_recent *recent, uint64_t hash,
                                     struct ls_span key);
/** `item`, of another table, is what was just written. */
void kv_recent_note(struct kv_recent *recent, const struct kv_item *item);

#endif
