/* SPDX-License-Identifier: MIT */
/* The state in memory: empty at each start, rebuilt from a snapshot and the log. */
#include "store.h"

#include <stdlib.h>

#include "picture.h"
#include "table.h"
#include "text.h"

/* 1024 shards: a doubling moves a thousandth of the keys */
enum { SHARD_BITS = 10 };

struct memory_store {
    struct kv_table table;
    uint64_t bytes; /* of keys and values */
    /* being restored */
    bool restoring;
    struct kv_table next;
    uint64_t next_bytes;
    struct kv_buffer key; /* of an item */
};

static enum ls_status memory_open(void *self, const struct ls_group_id *group,
                                  const struct ls_incarnation *incarnation, ls_index *applied,
                                  struct ls_error *error)
{
    (void)self;
    (void)group;
    (void)incarnation;
    (void)error;
    *applied = 0;
    return LS_OK;
}

static void memory_prefetch(void *self, uint64_t hash, bool near)
{
    const struct memory_store *store = self;
    kv_table_prefetch(&store->table, hash, near);
}

static enum ls_status memory_get(void *self, struct ls_span key, struct ls_span *value)
{
    struct memory_store *store = self;
    const struct kv_item *item = kv_table_find(&store->table, kv_key_hash(key), key);
    if (item == NULL) {
        return LS_ERR_NOT_FOUND;
    }
    *value = kv_item_value(item);
    return LS_OK;
}

static enum ls_status memory_put(void *self, struct ls_span key, struct ls_span value)
{
    struct memory_store *store = self;
    struct kv_before before;
    if (kv_table_upsert(&store->table, kv_key_hash(key), key, value, &before) == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    store->bytes += before.was == KV_WAS_PRESENT ? 0 : key.bytes;
    store->bytes += value.bytes - before.value_bytes;
    return LS_OK;
}

static enum ls_status memory_remove(void *self, struct ls_span key)
{
    struct memory_store *store = self;
    size_t value_bytes = 0;
    enum ls_status status = kv_table_remove(&store->table, kv_key_hash(key), key, &value_bytes);
    store->bytes -= status == LS_OK ? key.bytes + value_bytes : 0;
    return status;
}

static enum ls_status memory_clear(void *self)
{
    struct memory_store *store = self;
    kv_table_clear(&store->table);
    store->bytes = 0;
    return LS_OK;
}

static uint64_t memory_count(void *self)
{
    const struct memory_store *store = self;
    return store->table.count;
}

static enum ls_status memory_scan(void *self, uint64_t cursor, uint64_t *next, uint32_t keys,
                                  kv_store_visit visit, void *arg)
{
    struct memory_store *store = self;
    *next = 0;
    uint32_t seen = 0;
    uint64_t last = 0;
    if (cursor > (uint64_t)INT64_MAX) {
        return LS_OK; /* behind every hash */
    }
    for (const struct kv_item *item = kv_table_seek(&store->table, cursor); item != NULL;
         item = kv_table_next(&store->table, item)) {
        if (seen >= keys && item->hash != last) {
            *next = last + 1;
            return LS_OK;
        }
        visit(arg, kv_item_key(item));
        last = item->hash;
        seen++;
    }
    return LS_OK;
}

static enum ls_status memory_begin(void *self)
{
    (void)self;
    return LS_OK;
}

static bool memory_full(void *self)
{
    (void)self;
    return false; /* it has no bound */
}

static enum ls_status memory_commit(void *self, ls_index applied)
{
    (void)self;
    (void)applied;
    return LS_OK;
}

static void memory_rollback(void *self)
{
    (void)self; /* a batch fails here only when memory is out, and then the group halts */
}

static const char *memory_trouble(void *self)
{
    (void)self;
    return NULL;
}

/* ---- snapshots ---- */

static enum ls_status memory_freeze(void *self, struct ls_frozen *out)
{
    struct memory_store *store = self;
    struct kv_table *picture = malloc(sizeof *picture);
    if (picture == NULL || kv_table_freeze(&store->table, picture) != LS_OK) {
        free(picture);
        return LS_ERR_NO_MEMORY;
    }
    *out = (struct ls_frozen){picture, store->table.count,
                              kv_picture_bytes(store->table.count, store->bytes)};
    return LS_OK;
}

static enum ls_status memory_iterate(void *self, const struct ls_frozen *frozen,
                                     struct ls_span from, ls_item_visit visit, void *arg)
{
    struct memory_store *store = self;
    const struct kv_table *picture = frozen->handle;
    const struct kv_item *item = kv_table_seek(picture, 0);
    struct ls_span key;
    if (from.bytes > 0) {
        if (!kv_picture_key_read(from, &key)) {
            return LS_ERR_INVALID;
        }
        item = kv_table_seek_key(picture, kv_key_hash(key), key);
    }
    for (bool more = true; more && item != NULL; item = kv_table_next(picture, item)) {
        const struct ls_item seen = {kv_picture_key(&store->key, kv_item_key(item)),
                                     kv_item_value(item)};
        if (seen.key.data == NULL) {
            return LS_ERR_NO_MEMORY;
        }
        more = visit(arg, &seen);
    }
    return LS_OK;
}

static void memory_thaw(void *self, struct ls_frozen *frozen)
{
    (void)self;
    kv_table_close(frozen->handle);
    free(frozen->handle);
    *frozen = (struct ls_frozen){0};
}

static void memory_restore_end(void *self)
{
    struct memory_store *store = self;
    if (store->restoring) {
        kv_table_close(&store->next);
        store->restoring = false;
    }
}

static enum ls_status memory_restore(void *self, struct ls_cursor anchor)
{
    struct memory_store *store = self;
    (void)anchor;
    memory_restore_end(store);
    enum ls_status status = kv_table_open(&store->next, SHARD_BITS);
    store->restoring = status == LS_OK;
    store->next_bytes = 0;
    return status;
}

static enum ls_status memory_restore_item(void *self, const struct ls_item *item)
{
    struct memory_store *store = self;
    struct ls_span key;
    if (!store->restoring || !kv_picture_item_read(item, &key)) {
        return LS_ERR_INVALID;
    }
    store->next_bytes += key.bytes + item->value.bytes;
    return kv_table_put(&store->next, kv_key_hash(key), key, item->value);
}

static enum ls_status memory_publish(void *self, struct ls_cursor anchor)
{
    struct memory_store *store = self;
    (void)anchor;
    if (!store->restoring) {
        return LS_ERR_INVALID;
    }
    kv_table_close(&store->table);
    store->table = store->next;
    store->bytes = store->next_bytes;
    store->restoring = false;
    return LS_OK;
}

static void memory_close(void *self)
{
    struct memory_store *store = self;
    memory_restore_end(store);
    kv_table_close(&store->table);
    kv_buffer_free(&store->key);
    free(store);
}

enum ls_status kv_store_memory_open(struct kv_store *out)
{
    struct memory_store *store = calloc(1, sizeof *store);
    if (store == NULL || kv_table_open(&store->table, SHARD_BITS) != LS_OK) {
        free(store);
        return LS_ERR_NO_MEMORY;
    }
    *out = (struct kv_store){.self = store,
                             .open = memory_open,
                             .begin = memory_begin,
                             .full = memory_full,
                             .prefetch = memory_prefetch,
                             .get = memory_get,
                             .put = memory_put,
                             .remove = memory_remove,
                             .clear = memory_clear,
                             .count = memory_count,
                             .scan = memory_scan,
                             .commit = memory_commit,
                             .rollback = memory_rollback,
                             .trouble = memory_trouble,
                             .freeze = memory_freeze,
                             .iterate = memory_iterate,
                             .thaw = memory_thaw,
                             .restore = memory_restore,
                             .restore_item = memory_restore_item,
                             .publish = memory_publish,
                             .restore_end = memory_restore_end,
                             .close = memory_close};
    return LS_OK;
}
