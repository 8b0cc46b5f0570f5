/* SPDX-License-Identifier: MIT */
/* The state in memory: empty at each start, rebuilt from the log. */
#include "store.h"

#include <stdlib.h>

#include "table.h"
#include "text.h"

/* 1024 shards: a doubling moves a thousandth of the keys */
enum { SHARD_BITS = 10 };

struct memory_store {
    struct kv_table table;
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
    return kv_table_put(&store->table, kv_key_hash(key), key, value);
}

static enum ls_status memory_remove(void *self, struct ls_span key)
{
    struct memory_store *store = self;
    return kv_table_remove(&store->table, kv_key_hash(key), key) ? LS_OK : LS_ERR_NOT_FOUND;
}

static enum ls_status memory_clear(void *self)
{
    struct memory_store *store = self;
    kv_table_clear(&store->table);
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

static ls_index memory_durable(void *self)
{
    (void)self;
    return 0;
}

static const char *memory_trouble(void *self)
{
    (void)self;
    return NULL;
}

static void memory_close(void *self)
{
    struct memory_store *store = self;
    kv_table_close(&store->table);
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
                             .durable = memory_durable,
                             .trouble = memory_trouble,
                             .close = memory_close};
    return LS_OK;
}
