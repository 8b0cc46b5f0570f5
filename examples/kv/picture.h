/* SPDX-License-Identifier: MIT */
/*
 * How the state looks as items of a snapshot, the same over memory and RocksDB: an item for each
 * key, in the order of (kv_key_hash, key). Its key is a "k" and the key (so it is never empty, and
 * there is room for other kinds), its value the value.
 */
#ifndef KV_PICTURE_H
#define KV_PICTURE_H

#include <lockstep/machine.h>

#include "buffer.h"
#include "store.h"

enum { KV_PICTURE_PREFIX_BYTES = 1 };

/** Of all items together. */
static inline uint64_t kv_picture_bytes(uint64_t count, uint64_t bytes)
{
    return bytes + count * KV_PICTURE_PREFIX_BYTES;
}

/** The key of an item, valid until the next call with this buffer. NULL data: out of memory. */
struct ls_span kv_picture_key(struct kv_buffer *buffer, struct ls_span key);
/** And back. False: no key of an item of ours. */
bool kv_picture_key_read(struct ls_span item_key, struct ls_span *key);
/** A whole item. False: a key or a value that this program would not have taken. */
bool kv_picture_item_read(const struct ls_item *item, struct ls_span *key);

#endif
