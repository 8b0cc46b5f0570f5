/* SPDX-License-Identifier: MIT */
/*
 * The state in RocksDB, in the directory of one member of one group.
 *
 *   key                              value
 *   "f"                              format version, 1 byte
 *   "o"                              owner: group id (32), incarnation (16)
 *   "s"                              applied index (8), number of keys (8), big endian
 *   "k" hash (8, big endian) key     value; so the order of records is the order of SCAN
 *
 * A batch is collected in an overlay, so that commands see what earlier ones of the batch did, and
 * is written as one WriteBatch together with the applied index (P12).
 *
 * RocksDB's own log is not used: the group's log is the log. What survives kill -9 or a power cut
 * is the last flushed memtable, always a whole number of batches, and the applied index in it says
 * from where the group's log has to be applied again. `durable` reads exactly that record.
 *
 * A failed write is latched: the batch is never offered to RocksDB again (P10).
 */
#include "store.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include <rocksdb/c.h>

#include "buffer.h"
#include "kv_limits.h"
#include "recent.h"
#include "table.h"
#include "text.h"

#define MEMTABLE_BLOOM_RATIO 0.05

enum {
    FORMAT = 1,
    INFO_LOG_HEADER = 5, /* anything chattier aborts the process when the disk is full */
    READ_PERSISTED = 2,  /* rocksdb::kPersistedTier: not what is only in memory */
    BLOOM_BITS = 10,
    OWNER_BYTES = 32 + 16,
    STAND_BYTES = 16,
    KEY_PREFIX_BYTES = 9
};

struct rocks_store {
    char *directory;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read;
    rocksdb_readoptions_t *read_persisted;
    rocksdb_writeoptions_t *write;
    rocksdb_writebatch_t *batch;
    rocksdb_pinnableslice_t *pinned; /* the value that the last get lent */
    struct kv_buffer key;
    struct kv_table overlay; /* of the batch */
    struct kv_recent recent; /* of committed batches */
    bool cleared; /* the batch began with, or contains, a clear: nothing below the overlay counts */
    uint64_t count, committed_count;
    char trouble[LS_ERROR_TEXT_BYTES]; /* empty: none */
};

static void be64_store(char out[8], uint64_t number)
{
    for (int i = 7; i >= 0; i--, number >>= 8) {
        out[i] = (char)(number & 0xff);
    }
}

static uint64_t be64_load(const char *in)
{
    uint64_t number = 0;
    for (int i = 0; i < 8; i++) {
        number = (number << 8) | (uint8_t)in[i];
    }
    return number;
}

/* Latches a failure; the text of RocksDB is released. */
static enum ls_status fail(struct rocks_store *store, const char *what, char *text)
{
    if (store->trouble[0] == '\0') {
        (void)snprintf(store->trouble, sizeof store->trouble, "state %s: %s: %s", store->directory,
                       what, text);
    }
    rocksdb_free(text);
    return LS_ERR_IO;
}

static void pinned_release(struct rocks_store *store)
{
    if (store->pinned != NULL) {
        rocksdb_pinnableslice_destroy(store->pinned);
        store->pinned = NULL;
    }
}

/* The record's key for `key`, valid until the next call. NULL: out of memory. */
static const char *record_key(struct rocks_store *store, uint64_t hash, struct ls_span key,
                              size_t *bytes)
{
    char prefix[KEY_PREFIX_BYTES] = {'k'};
    be64_store(prefix + 1, hash);
    kv_buffer_reset(&store->key, SIZE_MAX);
    kv_buffer_append(&store->key, prefix, sizeof prefix);
    kv_buffer_append(&store->key, key.data, key.bytes);
    *bytes = kv_buffer_bytes(&store->key);
    return store->key.failed ? NULL : store->key.data;
}

/* A key as committed. The value is lent until the next lookup. */
static enum ls_status committed_lookup(struct rocks_store *store, uint64_t hash, struct ls_span key,
                                       struct ls_span *value)
{
    const struct kv_item *item = kv_recent_find(&store->recent, hash, key);
    if (item != NULL) {
        *value = kv_item_value(item);
        return item->gone ? LS_ERR_NOT_FOUND : LS_OK;
    }
    size_t record_bytes = 0;
    const char *record = record_key(store, hash, key, &record_bytes);
    if (record == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    pinned_release(store);
    char *text = NULL;
    store->pinned = rocksdb_get_pinned(store->db, store->read, record, record_bytes, &text);
    if (text != NULL) {
        return fail(store, "read", text);
    }
    if (store->pinned == NULL) {
        return LS_ERR_NOT_FOUND;
    }
    value->data = rocksdb_pinnableslice_value(store->pinned, &value->bytes);
    return LS_OK;
}

static enum ls_status rocks_lookup(struct rocks_store *store, uint64_t hash, struct ls_span key,
                                   struct ls_span *value)
{
    const struct kv_item *item = kv_table_find(&store->overlay, hash, key);
    if (item != NULL) {
        *value = kv_item_value(item);
        return item->gone ? LS_ERR_NOT_FOUND : LS_OK;
    }
    return store->cleared ? LS_ERR_NOT_FOUND : committed_lookup(store, hash, key, value);
}

static enum ls_status rocks_get(void *self, struct ls_span key, struct ls_span *value)
{
    return rocks_lookup(self, kv_key_hash(key), key, value);
}

static enum ls_status rocks_put(void *self, struct ls_span key, struct ls_span value)
{
    struct rocks_store *store = self;
    uint64_t hash = kv_key_hash(key);
    /* first into the overlay, for `value` may be lent by the pinned slice that a lookup ends */
    const struct kv_item *item = kv_table_find(&store->overlay, hash, key);
    bool known = item != NULL;
    bool present = known && !item->gone;
    enum ls_status status = kv_table_put(&store->overlay, hash, key, value);
    if (status != LS_OK) {
        return status;
    }
    if (!known && !store->cleared) {
        struct ls_span before;
        status = committed_lookup(store, hash, key, &before);
        if (status != LS_OK && status != LS_ERR_NOT_FOUND) {
            return status;
        }
        present = status == LS_OK;
    }
    store->count += present ? 0 : 1;
    return LS_OK;
}

static enum ls_status rocks_remove(void *self, struct ls_span key)
{
    struct rocks_store *store = self;
    uint64_t hash = kv_key_hash(key);
    struct ls_span value;
    enum ls_status status = rocks_lookup(store, hash, key, &value);
    if (status == LS_OK) {
        status = kv_table_bury(&store->overlay, hash, key);
        store->count -= status == LS_OK ? 1 : 0;
    }
    return status;
}

static enum ls_status rocks_clear(void *self)
{
    struct rocks_store *store = self;
    kv_table_clear(&store->overlay);
    store->cleared = true;
    store->count = 0;
    return LS_OK;
}

static uint64_t rocks_count(void *self)
{
    const struct rocks_store *store = self;
    return store->count;
}

static enum ls_status rocks_scan(void *self, uint64_t cursor, uint64_t *next, uint32_t keys,
                                 kv_store_visit visit, void *arg)
{
    struct rocks_store *store = self;
    LS_ASSERT(store->overlay.count == 0 && !store->cleared);
    char from[KEY_PREFIX_BYTES] = {'k'};
    be64_store(from + 1, cursor);
    *next = 0;
    uint32_t seen = 0;
    uint64_t last = 0;
    rocksdb_iterator_t *iterator = rocksdb_create_iterator(store->db, store->read);
    for (rocksdb_iter_seek(iterator, from, sizeof from); rocksdb_iter_valid(iterator);
         rocksdb_iter_next(iterator)) {
        size_t bytes = 0;
        const char *record = rocksdb_iter_key(iterator, &bytes);
        if (bytes < KEY_PREFIX_BYTES || record[0] != 'k') {
            break;
        }
        uint64_t hash = be64_load(record + 1);
        if (seen >= keys && hash != last) {
            *next = last + 1;
            break;
        }
        visit(arg, (struct ls_span){record + KEY_PREFIX_BYTES, bytes - KEY_PREFIX_BYTES});
        last = hash;
        seen++;
    }
    char *text = NULL;
    rocksdb_iter_get_error(iterator, &text);
    rocksdb_iter_destroy(iterator);
    return text == NULL ? LS_OK : fail(store, "scan", text);
}

static void rocks_rollback(void *self)
{
    struct rocks_store *store = self;
    kv_table_clear(&store->overlay);
    store->cleared = false;
    store->count = store->committed_count;
}

/* Fills the WriteBatch from the overlay. False: out of memory. */
static bool batch_fill(struct rocks_store *store, ls_index applied)
{
    rocksdb_writebatch_clear(store->batch);
    if (store->cleared) {
        rocksdb_writebatch_delete_range(store->batch, "k", 1, "l", 1);
    }
    for (const struct kv_item *item = kv_table_seek(&store->overlay, 0); item != NULL;
         item = kv_table_next(&store->overlay, item)) {
        size_t record_bytes = 0;
        const char *record = record_key(store, item->hash, kv_item_key(item), &record_bytes);
        if (record == NULL) {
            return false;
        }
        struct ls_span value = kv_item_value(item);
        if (item->gone) {
            rocksdb_writebatch_delete(store->batch, record, record_bytes);
        } else {
            rocksdb_writebatch_put(store->batch, record, record_bytes, value.data, value.bytes);
        }
    }
    char stand[STAND_BYTES];
    be64_store(stand, applied);
    be64_store(stand + 8, store->count);
    rocksdb_writebatch_put(store->batch, "s", 1, stand, sizeof stand);
    return true;
}

/* RocksDB's flushes and compactions failed: it would keep us waiting for ever. */
static bool background_failed(struct rocks_store *store)
{
    uint64_t errors = 0;
    return rocksdb_property_int(store->db, "rocksdb.background-errors", &errors) == 0 && errors > 0;
}

/* The batch is written: what it wrote is what is recent. */
static void recent_update(struct rocks_store *store)
{
    if (store->cleared) {
        kv_recent_clear(&store->recent);
    }
    for (const struct kv_item *item = kv_table_seek(&store->overlay, 0); item != NULL;
         item = kv_table_next(&store->overlay, item)) {
        kv_recent_note(&store->recent, item);
    }
}

static enum ls_status rocks_commit(void *self, ls_index applied)
{
    struct rocks_store *store = self;
    pinned_release(store);
    if (store->trouble[0] != '\0') {
        rocks_rollback(store);
        return LS_ERR_IO;
    }
    if (!batch_fill(store, applied)) {
        rocks_rollback(store);
        return LS_ERR_NO_MEMORY;
    }
    char *text = NULL;
    rocksdb_write(store->db, store->write, store->batch, &text);
    if (text == NULL) {
        store->committed_count = store->count;
        recent_update(store);
        rocks_rollback(store);
        return LS_OK;
    }
    rocks_rollback(store);
    static const char stalled[] = "Result incomplete";
    if (strncmp(text, stalled, sizeof stalled - 1) == 0 && !background_failed(store)) {
        rocksdb_free(text); /* memtables wait for the disk; no_slowdown tells instead of blocking */
        return LS_ERR_BUSY;
    }
    return fail(store, "write", text);
}

static ls_index rocks_durable(void *self)
{
    struct rocks_store *store = self;
    char *text = NULL;
    size_t bytes = 0;
    char *stand = rocksdb_get(store->db, store->read_persisted, "s", 1, &bytes, &text);
    if (text != NULL) {
        (void)fail(store, "read", text);
    }
    ls_index applied = stand != NULL && bytes == STAND_BYTES ? be64_load(stand) : 0;
    rocksdb_free(stand);
    return applied;
}

static const char *rocks_trouble(void *self)
{
    const struct rocks_store *store = self;
    return store->trouble[0] == '\0' ? NULL : store->trouble;
}

static rocksdb_options_t *rocks_options(void)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_info_log_level(options, INFO_LOG_HEADER);
    rocksdb_options_set_keep_log_file_num(options, 2);
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_write_buffer_size(options, KV_ROCKSDB_MEMTABLE_BYTES);
    rocksdb_options_set_max_write_buffer_number(options, 3);
    /* one thread writes; and most keys that are looked for in a memtable are not in it */
    rocksdb_options_set_allow_concurrent_memtable_write(options, 0);
    rocksdb_options_set_memtable_prefix_bloom_size_ratio(options, MEMTABLE_BLOOM_RATIO);
    rocksdb_options_set_memtable_whole_key_filtering(options, 1);
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_cache_t *cache = rocksdb_cache_create_lru(KV_ROCKSDB_CACHE_BYTES);
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
    rocksdb_cache_destroy(cache);
    return options;
}

/* Threads that RocksDB starts block all signals: those are for the program's loop. */
static rocksdb_t *rocks_open_quietly(struct rocks_store *store, char **text)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    rocksdb_t *db = rocksdb_open(store->options, store->directory, text);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return db;
}

/* Reads a meta record of exactly `bytes` bytes. errors LS_ERR_NOT_FOUND, LS_ERR_IO, LS_ERR_CORRUPT
 */
static enum ls_status meta_read(struct rocks_store *store, const char *name, char *out,
                                size_t bytes)
{
    char *text = NULL;
    size_t found = 0;
    char *value = rocksdb_get(store->db, store->read, name, 1, &found, &text);
    if (text != NULL) {
        return fail(store, "read", text);
    }
    if (value == NULL) {
        return LS_ERR_NOT_FOUND;
    }
    bool whole = found == bytes;
    if (whole) {
        (void)memcpy(out, value, bytes);
    }
    rocksdb_free(value);
    return whole ? LS_OK : LS_ERR_CORRUPT;
}

/* A new directory: says whose it is, durably, before the first batch. */
static enum ls_status owner_write(struct rocks_store *store, const char owner[OWNER_BYTES])
{
    const char format = FORMAT;
    const char stand[STAND_BYTES] = {0};
    rocksdb_writebatch_clear(store->batch);
    rocksdb_writebatch_put(store->batch, "f", 1, &format, 1);
    rocksdb_writebatch_put(store->batch, "o", 1, owner, OWNER_BYTES);
    rocksdb_writebatch_put(store->batch, "s", 1, stand, sizeof stand);
    char *text = NULL;
    rocksdb_write(store->db, store->write, store->batch, &text);
    if (text == NULL) {
        rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
        rocksdb_flushoptions_set_wait(flush, 1);
        rocksdb_flush(store->db, flush, &text);
        rocksdb_flushoptions_destroy(flush);
    }
    return text == NULL ? LS_OK : fail(store, "write", text);
}

static enum ls_status owner_check(struct rocks_store *store, const char owner[OWNER_BYTES],
                                  struct ls_error *error)
{
    char format = 0;
    enum ls_status status = meta_read(store, "f", &format, 1);
    if (status == LS_ERR_NOT_FOUND) {
        rocksdb_iterator_t *iterator = rocksdb_create_iterator(store->db, store->read);
        rocksdb_iter_seek_to_first(iterator);
        bool empty = !rocksdb_iter_valid(iterator);
        rocksdb_iter_destroy(iterator);
        if (!empty) {
            return ls_error_set(error, LS_ERR_CORRUPT,
                                "state %s: it is not the state of a lockstep-kv", store->directory);
        }
        return owner_write(store, owner);
    }
    char found[OWNER_BYTES];
    if (status == LS_OK && format > FORMAT) {
        return ls_error_set(error, LS_ERR_FORMAT,
                            "state %s: format %d, this program reads up to %d", store->directory,
                            format, FORMAT);
    }
    status = status == LS_OK ? meta_read(store, "o", found, sizeof found) : status;
    if (status == LS_OK && memcmp(found, owner, OWNER_BYTES) != 0) {
        return ls_error_set(error, LS_ERR_MISMATCH,
                            "state %s: it belongs to another %s; remove it, and it is rebuilt from "
                            "the log",
                            store->directory,
                            memcmp(found, owner, 32) != 0 ? "group" : "incarnation of this member");
    }
    return status;
}

static enum ls_status rocks_bind(struct rocks_store *store, const char owner[OWNER_BYTES],
                                 ls_index *applied, struct ls_error *error)
{
    enum ls_status status = owner_check(store, owner, error);
    char stand[STAND_BYTES];
    if (status == LS_OK) {
        status = meta_read(store, "s", stand, sizeof stand);
        if (status == LS_ERR_NOT_FOUND || status == LS_ERR_CORRUPT) {
            return ls_error_set(error, LS_ERR_CORRUPT, "state %s: no valid applied index",
                                store->directory);
        }
    }
    if (store->trouble[0] != '\0') {
        return ls_error_set(error, status, "%s", store->trouble);
    }
    if (status == LS_OK) {
        *applied = be64_load(stand);
        store->count = store->committed_count = be64_load(stand + 8);
    }
    return status;
}

static enum ls_status rocks_open(void *self, const struct ls_group_id *group,
                                 const struct ls_incarnation *incarnation, ls_index *applied,
                                 struct ls_error *error)
{
    struct rocks_store *store = self;
    char *text = NULL;
    store->db = rocks_open_quietly(store, &text);
    if (text != NULL) {
        enum ls_status status = strstr(text, "Corruption") != NULL        ? LS_ERR_CORRUPT
                                : strstr(text, "While lock file") != NULL ? LS_ERR_LOCKED
                                : strstr(text, "lock hold by") != NULL    ? LS_ERR_LOCKED
                                                                          : LS_ERR_IO;
        (void)ls_error_set(error, status, "state %s: %s%s", store->directory,
                           status == LS_ERR_LOCKED ? "in use by another process: " : "", text);
        rocksdb_free(text);
        store->db = NULL;
        return status;
    }
    char owner[OWNER_BYTES];
    (void)memcpy(owner, group->bytes, 32);
    (void)memcpy(owner + 32, incarnation->bytes, 16);
    enum ls_status status = rocks_bind(store, owner, applied, error);
    if (status != LS_OK) {
        rocksdb_close(store->db);
        store->db = NULL;
    }
    return status;
}

static void rocks_close(void *self)
{
    struct rocks_store *store = self;
    pinned_release(store);
    if (store->db != NULL) {
        if (store->trouble[0] == '\0') {
            /* saves applying again at the next start; a failure costs no more than that */
            char *text = NULL;
            rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
            rocksdb_flushoptions_set_wait(flush, 1);
            rocksdb_flush(store->db, flush, &text);
            rocksdb_flushoptions_destroy(flush);
            rocksdb_free(text);
        }
        rocksdb_close(store->db);
    }
    kv_table_close(&store->overlay);
    kv_recent_close(&store->recent);
    kv_buffer_free(&store->key);
    rocksdb_writebatch_destroy(store->batch);
    rocksdb_writeoptions_destroy(store->write);
    rocksdb_readoptions_destroy(store->read);
    rocksdb_readoptions_destroy(store->read_persisted);
    rocksdb_options_destroy(store->options);
    free(store->directory);
    free(store);
}

enum ls_status kv_store_rocksdb_open(const char *directory, struct kv_store *out)
{
    struct rocks_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    store->directory = strdup(directory);
    if (store->directory == NULL || kv_table_open(&store->overlay, 0) != LS_OK ||
        kv_recent_open(&store->recent, KV_ROCKSDB_RECENT_BYTES) != LS_OK) {
        kv_recent_close(&store->recent);
        kv_table_close(&store->overlay);
        free(store->directory);
        free(store);
        return LS_ERR_NO_MEMORY;
    }
    store->options = rocks_options();
    store->read = rocksdb_readoptions_create();
    store->read_persisted = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(store->read_persisted, READ_PERSISTED);
    store->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(store->write, 1);
    rocksdb_writeoptions_set_no_slowdown(store->write, 1);
    store->batch = rocksdb_writebatch_create();
    *out = (struct kv_store){.self = store,
                             .open = rocks_open,
                             .get = rocks_get,
                             .put = rocks_put,
                             .remove = rocks_remove,
                             .clear = rocks_clear,
                             .count = rocks_count,
                             .scan = rocks_scan,
                             .commit = rocks_commit,
                             .rollback = rocks_rollback,
                             .durable = rocks_durable,
                             .trouble = rocks_trouble,
                             .close = rocks_close};
    return LS_OK;
}
