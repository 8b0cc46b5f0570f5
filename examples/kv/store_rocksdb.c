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
 * What batches write is kept in two layers in front of RocksDB and written a layer at a time, by a
 * thread of its own (layer.h). A plain SET of a key that the layers do not know says nothing about
 * the number of keys; which of these keys are new is asked of RocksDB at the end of the batch, for
 * all of them at once.
 *
 * RocksDB's own log is not used: the group's log is the log. What survives kill -9 or a power cut
 * is the last layer written, always a whole number of batches, and the applied index in it says
 * from where the group's log has to be applied again.
 *
 * A failed write is latched: nothing is offered to RocksDB any more (P10).
 */
#include "store.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "crash.h"
#include "kv_limits.h"
#include "layer.h"
#include "text.h"

enum {
    FORMAT = 1,
    INFO_LOG_HEADER = 5, /* anything chattier aborts the process when the disk is full */
    BLOOM_BITS = 14,     /* most keys that are asked for are new; a wrong guess reads a block */
    OWNER_BYTES = 32 + 16
};

/* Keys of a batch, put without a look whether RocksDB has them. */
struct fresh {
    const struct kv_item **items; /* for hash and key only: an item may have been replaced */
    size_t count, capacity;
};

struct rocks_store {
    char *directory;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *family;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read;
    rocksdb_pinnableslice_t *pinned; /* the value that the last get lent */
    struct kv_buffer key;
    struct kv_layer layers[2];
    struct kv_layer *active, *lower;
    struct kv_writer writer;
    struct fresh fresh;
    uint64_t count; /* keys, if all fresh ones are new */
    ls_index durable;
    uint64_t durable_count;
    bool spoiled;                      /* a batch was given up: the active layer is of no use */
    char trouble[LS_ERROR_TEXT_BYTES]; /* empty: none */
};

/* Latches a failure. */
static enum ls_status fail_text(struct rocks_store *store, const char *what, const char *text)
{
    if (store->trouble[0] == '\0') {
        (void)snprintf(store->trouble, sizeof store->trouble, "state %s: %s%s%.400s",
                       store->directory, what, what[0] == '\0' ? "" : ": ", text);
    }
    return LS_ERR_IO;
}

/* The same; the text of RocksDB is released. */
static enum ls_status fail(struct rocks_store *store, const char *what, char *text)
{
    enum ls_status status = fail_text(store, what, text);
    rocksdb_free(text);
    return status;
}

static void pinned_release(struct rocks_store *store)
{
    if (store->pinned != NULL) {
        rocksdb_pinnableslice_destroy(store->pinned);
        store->pinned = NULL;
    }
}

/* ---- layers and the writer ---- */

/* Takes over what the writer did since the last look. True: it has nothing to do. */
static bool writer_take(struct rocks_store *store, bool wait)
{
    if (!store->writer.open) {
        return false;
    }
    enum kv_writer_state state =
        wait ? kv_writer_wait(&store->writer) : kv_writer_poll(&store->writer);
    if (state == KV_WRITER_DONE) {
        store->durable = store->lower->applied;
        store->durable_count = store->lower->count;
        KV_CRASH("durable.moved");
    } else if (state == KV_WRITER_FAILED) {
        (void)fail_text(store, "", store->writer.trouble);
    }
    return state == KV_WRITER_DONE || state == KV_WRITER_IDLE;
}

/* The active layer is given to the writer, who is idle; a new one begins. */
static void layers_change(struct rocks_store *store)
{
    LS_ASSERT(store->active->dirty && store->fresh.count == 0);
    struct kv_layer *written = store->active;
    store->active = store->lower;
    store->lower = written;
    kv_layer_reset(store->active);
    kv_writer_start(&store->writer, store->lower);
}

/* Whether it is time to write the active layer. */
static bool layer_due(const struct kv_layer *layer)
{
    return layer->dirty && (layer->cleared || layer->log_bytes >= KV_LAYER_LOG_BYTES ||
                            kv_table_bytes(&layer->items) >= KV_LAYER_BYTES);
}

static bool rocks_full(void *self)
{
    const struct rocks_store *store = self;
    return kv_table_bytes(&store->active->items) >= KV_LAYER_BYTES_MAX;
}

static enum ls_status rocks_begin(void *self)
{
    struct rocks_store *store = self;
    bool idle = writer_take(store, false);
    if (store->trouble[0] != '\0') {
        return LS_ERR_IO;
    }
    if (idle && layer_due(store->active)) {
        layers_change(store);
    }
    return rocks_full(store) ? LS_ERR_BUSY : LS_OK;
}

/* ---- lookups ---- */

/* A key as the layers in memory have it, or NULL. `deeper`: RocksDB may know it. */
static const struct kv_item *layers_find(const struct rocks_store *store, uint64_t hash,
                                         struct ls_span key, bool *deeper)
{
    const struct kv_item *item = kv_table_find(&store->active->items, hash, key);
    *deeper = false;
    if (item == NULL && !store->active->cleared) {
        item = kv_table_find(&store->lower->items, hash, key);
        *deeper = item == NULL && !store->lower->cleared;
    }
    return item;
}

/* RocksDB holds keys, as far as is known. */
static bool anything_written(const struct rocks_store *store)
{
    return store->durable_count > 0 || store->lower->dirty;
}

static enum ls_status rocks_lookup(struct rocks_store *store, uint64_t hash, struct ls_span key,
                                   struct ls_span *value)
{
    bool deeper = false;
    const struct kv_item *item = layers_find(store, hash, key, &deeper);
    if (item != NULL) {
        *value = kv_item_value(item);
        return item->gone ? LS_ERR_NOT_FOUND : LS_OK;
    }
    if (!deeper) {
        return LS_ERR_NOT_FOUND;
    }
    struct ls_span record = kv_record_key(&store->key, hash, key);
    if (record.data == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    pinned_release(store);
    char *text = NULL;
    store->pinned = rocksdb_get_pinned(store->db, store->read, record.data, record.bytes, &text);
    if (text != NULL) {
        return fail(store, "read", text);
    }
    if (store->pinned == NULL) {
        return LS_ERR_NOT_FOUND;
    }
    value->data = rocksdb_pinnableslice_value(store->pinned, &value->bytes);
    return LS_OK;
}

static void rocks_prefetch(void *self, uint64_t hash, bool near)
{
    const struct rocks_store *store = self;
    kv_table_prefetch(&store->active->items, hash, near);
    kv_table_prefetch(&store->lower->items, hash, near);
}

static enum ls_status rocks_get(void *self, struct ls_span key, struct ls_span *value)
{
    return rocks_lookup(self, kv_key_hash(key), key, value);
}

/* ---- writes ---- */

static bool fresh_reserve(struct fresh *fresh)
{
    if (fresh->count == fresh->capacity) {
        size_t capacity = fresh->capacity == 0 ? LS_APPLY_ENTRIES_PER_TURN : fresh->capacity * 2;
        const struct kv_item **items = realloc(fresh->items, capacity * sizeof(void *));
        if (items == NULL) {
            return false;
        }
        fresh->items = items;
        fresh->capacity = capacity;
    }
    return true;
}

static enum ls_status rocks_put(void *self, struct ls_span key, struct ls_span value)
{
    struct rocks_store *store = self;
    struct kv_layer *active = store->active;
    uint64_t hash = kv_key_hash(key);
    enum kv_was was = KV_WAS_NOTHING;
    if (!fresh_reserve(&store->fresh)) {
        return LS_ERR_NO_MEMORY;
    }
    const struct kv_item *item = kv_table_upsert(&active->items, hash, key, value, &was);
    if (item == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    active->log_bytes += key.bytes + value.bytes;
    if (was == KV_WAS_NOTHING && !active->cleared) {
        const struct kv_item *below = kv_table_find(&store->lower->items, hash, key);
        if (below != NULL) {
            was = below->gone ? KV_WAS_GONE : KV_WAS_PRESENT;
        } else if (!store->lower->cleared) {
            store->fresh.items[store->fresh.count++] = item;
        }
    }
    store->count += was == KV_WAS_PRESENT ? 0 : 1;
    return LS_OK;
}

static enum ls_status rocks_remove(void *self, struct ls_span key)
{
    struct rocks_store *store = self;
    uint64_t hash = kv_key_hash(key);
    struct ls_span value;
    enum ls_status status = rocks_lookup(store, hash, key, &value);
    if (status == LS_OK) {
        status = kv_table_bury(&store->active->items, hash, key);
        store->active->log_bytes += key.bytes;
        store->count -= status == LS_OK ? 1 : 0;
    }
    return status;
}

static enum ls_status rocks_clear(void *self)
{
    struct rocks_store *store = self;
    kv_table_clear(&store->active->items);
    store->active->cleared = true;
    store->fresh.count = 0;
    store->count = 0;
    return LS_OK;
}

static uint64_t rocks_count(void *self)
{
    const struct rocks_store *store = self;
    LS_ASSERT(store->fresh.count == 0);
    return store->count;
}

static int fresh_compare(const void *left, const void *right)
{
    const struct kv_item *a = *(const struct kv_item *const *)left;
    const struct kv_item *b = *(const struct kv_item *const *)right;
    return kv_key_order(a->hash, kv_item_key(a), b->hash, kv_item_key(b));
}

/* Asks RocksDB for some keys, in its order; tells how many it has. */
static enum ls_status fresh_look(struct rocks_store *store, const struct kv_item **items,
                                 size_t count, uint64_t *found)
{
    const char *keys[KV_LOOKUP_KEYS_MAX];
    size_t bytes[KV_LOOKUP_KEYS_MAX];
    rocksdb_pinnableslice_t *values[KV_LOOKUP_KEYS_MAX];
    char *texts[KV_LOOKUP_KEYS_MAX];
    kv_buffer_reset(&store->key, SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        char prefix[KV_RECORD_PREFIX_BYTES] = {'k'};
        kv_be64_store(prefix + 1, items[i]->hash);
        kv_buffer_append(&store->key, prefix, sizeof prefix);
        kv_buffer_append(&store->key, items[i]->bytes, items[i]->key_bytes);
        bytes[i] = sizeof prefix + items[i]->key_bytes;
    }
    if (store->key.failed) {
        return LS_ERR_NO_MEMORY;
    }
    const char *at = kv_buffer_span(&store->key).data;
    for (size_t i = 0; i < count; at += bytes[i++]) {
        keys[i] = at;
    }
    rocksdb_batched_multi_get_cf(store->db, store->read, store->family, count, keys, bytes, values,
                                 texts, 1);
    enum ls_status status = LS_OK;
    for (size_t i = 0; i < count; i++) {
        *found += values[i] != NULL ? 1 : 0;
        rocksdb_pinnableslice_destroy(values[i]);
        if (texts[i] != NULL) {
            status = fail(store, "read", texts[i]);
        }
    }
    return status;
}

/* Corrects the number of keys by those fresh ones that were there before. */
static enum ls_status fresh_settle(struct rocks_store *store)
{
    struct fresh *fresh = &store->fresh;
    enum ls_status status = LS_OK;
    uint64_t found = 0;
    if (fresh->count > 0 && anything_written(store)) {
        qsort(fresh->items, fresh->count, sizeof(void *), fresh_compare);
        for (size_t at = 0; at < fresh->count && status == LS_OK; at += KV_LOOKUP_KEYS_MAX) {
            size_t rest = fresh->count - at;
            status = fresh_look(store, fresh->items + at,
                                rest < KV_LOOKUP_KEYS_MAX ? rest : KV_LOOKUP_KEYS_MAX, &found);
        }
    }
    fresh->count = 0;
    LS_ASSERT(status != LS_OK || found <= store->count);
    store->count -= status == LS_OK ? found : 0;
    return status;
}

static void rocks_rollback(void *self)
{
    struct rocks_store *store = self;
    store->fresh.count = 0;
    store->spoiled = true;
}

static enum ls_status rocks_commit(void *self, ls_index applied)
{
    struct rocks_store *store = self;
    pinned_release(store);
    enum ls_status status = store->trouble[0] != '\0' ? LS_ERR_IO : fresh_settle(store);
    if (status != LS_OK) {
        rocks_rollback(store);
        return status;
    }
    struct kv_layer *active = store->active;
    active->dirty = true;
    active->applied = applied;
    active->count = store->count;
    if (layer_due(active) && writer_take(store, false)) {
        layers_change(store);
    }
    return LS_OK;
}

static ls_index rocks_durable(void *self)
{
    struct rocks_store *store = self;
    (void)writer_take(store, false);
    return store->durable;
}

static const char *rocks_trouble(void *self)
{
    struct rocks_store *store = self;
    (void)writer_take(store, false);
    return store->trouble[0] == '\0' ? NULL : store->trouble;
}

/* ---- scan: layers and RocksDB, merged ---- */

/* Where the walk stands in one of them. */
struct walk {
    const struct kv_table *table; /* NULL: RocksDB */
    const struct kv_item *item;
    rocksdb_iterator_t *iterator;
    bool valid, gone;
    uint64_t hash;
    struct ls_span key;
};

static void walk_look(struct walk *walk)
{
    if (walk->table != NULL) {
        walk->valid = walk->item != NULL;
        if (walk->valid) {
            walk->hash = walk->item->hash;
            walk->key = kv_item_key(walk->item);
            walk->gone = walk->item->gone;
        }
        return;
    }
    walk->valid = rocksdb_iter_valid(walk->iterator) != 0;
    if (walk->valid) {
        size_t bytes = 0;
        const char *record = rocksdb_iter_key(walk->iterator, &bytes);
        walk->valid = bytes >= KV_RECORD_PREFIX_BYTES && record[0] == 'k';
        if (walk->valid) {
            walk->hash = kv_be64_load(record + 1);
            walk->key =
                (struct ls_span){record + KV_RECORD_PREFIX_BYTES, bytes - KV_RECORD_PREFIX_BYTES};
        }
    }
}

static void walk_next(struct walk *walk)
{
    if (walk->table != NULL) {
        walk->item = kv_table_next(walk->table, walk->item);
    } else {
        rocksdb_iter_next(walk->iterator);
    }
    walk_look(walk);
}

/* Begins to walk in all that count, the upper ones first; returns how many. */
static size_t walks_open(struct rocks_store *store, uint64_t cursor, struct walk walks[3])
{
    const struct kv_layer *layers[2] = {store->active, store->lower};
    size_t count = 0;
    bool deeper = true;
    for (size_t i = 0; i < 2 && deeper; i++) {
        const struct kv_table *table = &layers[i]->items;
        walks[count] = (struct walk){.table = table, .item = kv_table_seek(table, cursor)};
        walk_look(&walks[count++]);
        deeper = !layers[i]->cleared;
    }
    if (deeper) {
        char from[KV_RECORD_PREFIX_BYTES] = {'k'};
        kv_be64_store(from + 1, cursor);
        walks[count] = (struct walk){.iterator = rocksdb_create_iterator(store->db, store->read)};
        rocksdb_iter_seek(walks[count].iterator, from, sizeof from);
        walk_look(&walks[count++]);
    }
    return count;
}

static int walk_order(const struct walk *left, const struct walk *right)
{
    return kv_key_order(left->hash, left->key, right->hash, right->key);
}

/* The walk that stands at the first key, the upper one of several; NULL: all are at their end. */
static struct walk *walks_first(struct walk *walks, size_t count)
{
    struct walk *first = NULL;
    for (size_t i = 0; i < count; i++) {
        if (walks[i].valid && (first == NULL || walk_order(&walks[i], first) < 0)) {
            first = &walks[i];
        }
    }
    return first;
}

static enum ls_status walks_close(struct rocks_store *store, struct walk *walks, size_t count)
{
    char *text = NULL;
    if (walks[count - 1].iterator != NULL) {
        rocksdb_iter_get_error(walks[count - 1].iterator, &text);
        rocksdb_iter_destroy(walks[count - 1].iterator);
    }
    return text == NULL ? LS_OK : fail(store, "scan", text);
}

static enum ls_status rocks_scan(void *self, uint64_t cursor, uint64_t *next, uint32_t keys,
                                 kv_store_visit visit, void *arg)
{
    struct rocks_store *store = self;
    LS_ASSERT(store->fresh.count == 0);
    *next = 0;
    if (cursor > (uint64_t)INT64_MAX) {
        return LS_OK; /* behind every hash */
    }
    struct walk walks[3];
    size_t count = walks_open(store, cursor, walks);
    uint32_t seen = 0;
    uint64_t last = 0;
    for (struct walk *at = walks_first(walks, count); at != NULL; at = walks_first(walks, count)) {
        if (!at->gone) {
            if (seen >= keys && at->hash != last) {
                *next = last + 1;
                break;
            }
            visit(arg, at->key);
            last = at->hash;
            seen++;
        }
        for (struct walk *other = at + 1; other < walks + count; other++) {
            if (other->valid && walk_order(other, at) == 0) {
                walk_next(other);
            }
        }
        walk_next(at);
    }
    return walks_close(store, walks, count);
}

/* ---- open and close ---- */

static rocksdb_options_t *rocks_options(void)
{
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_info_log_level(options, INFO_LOG_HEADER);
    rocksdb_options_set_keep_log_file_num(options, 2);
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_max_open_files(options, KV_ROCKSDB_FILES_OPEN);
    rocksdb_options_set_compression(options, rocksdb_no_compression);
    rocksdb_options_set_write_buffer_size(options, KV_ROCKSDB_MEMTABLE_BYTES);
    rocksdb_options_set_level0_file_num_compaction_trigger(options, KV_ROCKSDB_FILES_COMPACT);
    rocksdb_options_set_level0_slowdown_writes_trigger(options, KV_ROCKSDB_FILES_MAX);
    rocksdb_options_set_level0_stop_writes_trigger(options, KV_ROCKSDB_FILES_MAX);
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_cache_t *cache = rocksdb_cache_create_lru(KV_ROCKSDB_CACHE_BYTES);
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    /* in parts: a filter of a large file would push all others out of the small cache */
    rocksdb_block_based_options_set_index_type(
        table, rocksdb_block_based_table_index_type_two_level_index_search);
    rocksdb_block_based_options_set_partition_filters(table, 1);
    rocksdb_block_based_options_set_pin_top_level_index_and_filter(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
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
    const char *const names[1] = {"default"};
    const rocksdb_options_t *const options[1] = {store->options};
    rocksdb_t *db = rocksdb_open_column_families(store->options, store->directory, 1, names,
                                                 options, &store->family, text);
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
    const char stand[KV_STAND_BYTES] = {0};
    char *text = NULL;
    rocksdb_writeoptions_t *write = rocksdb_writeoptions_create();
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    rocksdb_writeoptions_disable_WAL(write, 1);
    rocksdb_writebatch_put(batch, "f", 1, &format, 1);
    rocksdb_writebatch_put(batch, "o", 1, owner, OWNER_BYTES);
    rocksdb_writebatch_put(batch, "s", 1, stand, sizeof stand);
    rocksdb_write(store->db, write, batch, &text);
    rocksdb_writebatch_destroy(batch);
    rocksdb_writeoptions_destroy(write);
    KV_CRASH("owner.written");
    if (text == NULL) {
        rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
        rocksdb_flushoptions_set_wait(flush, 1);
        rocksdb_flush(store->db, flush, &text);
        rocksdb_flushoptions_destroy(flush);
        KV_CRASH("owner.flushed");
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
    char stand[KV_STAND_BYTES];
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
        *applied = store->durable = kv_be64_load(stand);
        store->count = store->durable_count = kv_be64_load(stand + 8);
        if (kv_writer_open(&store->writer, store->db, store->options, store->directory) != LS_OK) {
            return ls_error_set(error, LS_ERR_NO_MEMORY, "state %s: no thread for its writer",
                                store->directory);
        }
    }
    return status;
}

static void db_close(struct rocks_store *store)
{
    if (store->db != NULL) {
        rocksdb_column_family_handle_destroy(store->family);
        rocksdb_close(store->db);
        store->db = NULL;
    }
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
        db_close(store);
    }
    return status;
}

static void store_free(struct rocks_store *store)
{
    kv_layer_close(&store->layers[0]);
    kv_layer_close(&store->layers[1]);
    kv_buffer_free(&store->key);
    free(store->fresh.items);
    free(store->directory);
    free(store);
}

static void rocks_close(void *self)
{
    struct rocks_store *store = self;
    pinned_release(store);
    if (writer_take(store, true) && store->trouble[0] == '\0' && !store->spoiled &&
        store->active->dirty) {
        /* saves applying again at the next start; a failure costs no more than that */
        layers_change(store);
        (void)writer_take(store, true);
    }
    kv_writer_close(&store->writer);
    db_close(store);
    rocksdb_readoptions_destroy(store->read);
    rocksdb_options_destroy(store->options);
    store_free(store);
}

enum ls_status kv_store_rocksdb_open(const char *directory, struct kv_store *out)
{
    struct rocks_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    store->directory = strdup(directory);
    store->active = &store->layers[0];
    store->lower = &store->layers[1];
    if (store->directory == NULL || kv_layer_open(store->active) != LS_OK ||
        kv_layer_open(store->lower) != LS_OK) {
        store_free(store);
        return LS_ERR_NO_MEMORY;
    }
    store->options = rocks_options();
    store->read = rocksdb_readoptions_create();
    *out = (struct kv_store){.self = store,
                             .open = rocks_open,
                             .begin = rocks_begin,
                             .full = rocks_full,
                             .prefetch = rocks_prefetch,
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
