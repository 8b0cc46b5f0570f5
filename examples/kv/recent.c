/* SPDX-License-Identifier: MIT */
/* The cache of recent writes. Where it cannot keep an item it forgets the key, which is always
 * right. */
#include "recent.h"

enum { SHARD_BITS = 4 };

enum ls_status kv_recent_open(struct kv_recent *recent, size_t bytes_max)
{
    *recent = (struct kv_recent){.bytes_max = bytes_max};
    enum ls_status status = kv_table_open(&recent->young, SHARD_BITS);
    return status == LS_OK ? kv_table_open(&recent->old, SHARD_BITS) : status;
}

void kv_recent_close(struct kv_recent *recent)
{
    kv_table_close(&recent->young);
    kv_table_close(&recent->old);
}

void kv_recent_clear(struct kv_recent *recent)
{
    kv_table_clear(&recent->young);
    kv_table_clear(&recent->old);
    recent->bytes = 0;
}

const struct kv_item *kv_recent_find(const struct kv_recent *recent, uint64_t hash,
                                     struct ls_span key)
{
    const struct kv_item *item = kv_table_find(&recent->young, hash, key);
    return item != NULL ? item : kv_table_find(&recent->old, hash, key);
}

static void forget(struct kv_recent *recent, uint64_t hash, struct ls_span key)
{
    (void)kv_table_remove(&recent->young, hash, key);
    (void)kv_table_remove(&recent->old, hash, key);
}

/* As allocated, its bucket included. */
static size_t item_bytes(const struct kv_item *item)
{
    return sizeof *item + item->key_bytes + item->value_bytes + sizeof(void *);
}

void kv_recent_note(struct kv_recent *recent, const struct kv_item *item)
{
    struct ls_span key = kv_item_key(item);
    size_t bytes = item_bytes(item);
    const struct kv_item *known = kv_table_find(&recent->young, item->hash, key);
    size_t before = known == NULL ? 0 : item_bytes(known);
    if (recent->bytes + bytes > recent->bytes_max + before) {
        struct kv_table emptied = recent->old;
        kv_table_clear(&emptied);
        recent->old = recent->young;
        recent->young = emptied;
        recent->bytes = before = 0;
    }
    enum ls_status status = LS_ERR_LIMIT;
    if (bytes <= recent->bytes_max / 16) {
        status = item->gone ? kv_table_bury(&recent->young, item->hash, key)
                            : kv_table_put(&recent->young, item->hash, key, kv_item_value(item));
    }
    if (status == LS_OK) {
        recent->bytes += bytes - before;
    } else {
        recent->bytes -= before;
        forget(recent, item->hash, key);
    }
}
