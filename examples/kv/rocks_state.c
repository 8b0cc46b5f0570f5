/* SPDX-License-Identifier: MIT */
/*
 * One state in RocksDB, in the folder of one member of one group.
 *
 *   key                              value
 *   "f"                              format version, 1 byte
 *   "o"                              owner: group id (32), incarnation (16)
 *   "s"                              applied index (8), number of keys (8), their bytes and those
 *                                    of their values (8), big endian
 *   "k" hash (8, big endian) key     value; so the order of records is the order of SCAN
 *
 * A failed write is latched: nothing is offered to RocksDB any more (P10).
 */
#include "rocks.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "crash.h"
#include "kv_limits.h"

enum {
    INFO_LOG_HEADER = 5, /* anything chattier aborts the process when the disk is full */
    BLOOM_BITS = 14      /* most keys that are asked for are new; a wrong guess reads a block */
};

enum ls_status kv_state_fail(struct kv_state *state, const char *what, const char *text)
{
    if (state->trouble[0] == '\0') {
        (void)snprintf(state->trouble, sizeof state->trouble, "state %.300s: %s%s%.150s",
                       state->folder, what, what[0] == '\0' ? "" : ": ", text);
    }
    return LS_ERR_IO;
}

enum ls_status kv_state_failed(struct kv_state *state, const char *what, char *text)
{
    enum ls_status status = kv_state_fail(state, what, text);
    rocksdb_free(text);
    return status;
}

void kv_state_release(struct kv_state *state)
{
    if (state->pinned != NULL) {
        rocksdb_pinnableslice_destroy(state->pinned);
        state->pinned = NULL;
    }
}

/* ---- layers and the writer ---- */

/* An empty layer, or NULL. */
static struct kv_layer *layer_take(struct kv_state *state)
{
    struct kv_layer *layer = state->spare;
    state->spare = NULL;
    if (layer == NULL) {
        layer = malloc(sizeof *layer);
        if (layer != NULL && kv_layer_open(layer) != LS_OK) {
            free(layer);
            layer = NULL;
        }
    }
    return layer;
}

static void layer_free(struct kv_layer *layer)
{
    if (layer != NULL) {
        kv_layer_close(layer);
        free(layer);
    }
}

static void layer_drop(struct kv_state *state, struct kv_layer *layer)
{
    if (state->spare != NULL) {
        layer_free(layer);
        return;
    }
    kv_layer_reset(layer);
    state->spare = layer;
}

enum ls_status kv_state_seal(struct kv_state *state)
{
    LS_ASSERT(state->active->dirty && state->fresh.count == 0);
    if (state->layers == KV_LAYERS_MAX) {
        return LS_ERR_BUSY;
    }
    struct kv_layer *layer = layer_take(state);
    if (layer == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    layer->below = state->active;
    state->active = layer;
    state->layers++;
    return LS_OK;
}

/* The oldest layer that waits for the writer, who is idle, is given to it; the cache below it goes.
 */
static void oldest_start(struct kv_state *state)
{
    struct kv_layer *oldest = NULL;
    for (struct kv_layer *layer = state->active->below; layer != NULL && !layer->written;
         layer = layer->below) {
        oldest = layer;
    }
    if (oldest == NULL) {
        return;
    }
    if (oldest->below != NULL) {
        kv_frozen_walks_close(state);
        layer_drop(state, oldest->below);
        oldest->below = NULL;
        state->layers--;
    }
    state->writing = oldest;
    kv_writer_start(&state->writer, oldest);
}

void kv_state_work(struct kv_state *state, bool wait)
{
    if (!state->writer.open || state->trouble[0] != '\0') {
        return;
    }
    do {
        if (state->writing == NULL) {
            oldest_start(state);
        }
        if (state->writing == NULL) {
            return;
        }
        enum kv_writer_state writer =
            wait ? kv_writer_wait(&state->writer) : kv_writer_poll(&state->writer);
        if (writer == KV_WRITER_FAILED) {
            (void)kv_state_fail(state, "", state->writer.trouble);
            return;
        }
        if (writer != KV_WRITER_DONE) {
            return;
        }
        struct kv_layer *written = state->writing;
        written->written = true;
        state->writing = NULL;
        state->durable = written->stand;
        KV_CRASH("durable.moved");
        kv_frozen_written(state, written);
    } while (true);
}

size_t kv_state_bytes(const struct kv_state *state)
{
    size_t bytes = 0;
    for (const struct kv_layer *layer = state->active; layer != NULL && !layer->written;
         layer = layer->below) {
        bytes += kv_table_bytes(&layer->items);
    }
    return bytes;
}

/* ---- open and close ---- */

rocksdb_options_t *kv_rocks_options(void)
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
    rocksdb_block_based_options_set_block_size(table, KV_ROCKSDB_BLOCK_BYTES);
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
static rocksdb_t *rocks_open_quietly(struct kv_state *state, char **text)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const char *const names[1] = {"default"};
    const rocksdb_options_t *const options[1] = {state->options};
    rocksdb_t *db = rocksdb_open_column_families(state->options, state->folder, 1, names, options,
                                                 &state->family, text);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return db;
}

/* Reads a meta record of exactly `bytes` bytes. errors LS_ERR_NOT_FOUND, LS_ERR_IO, LS_ERR_CORRUPT
 */
static enum ls_status meta_read(struct kv_state *state, const char *name, char *out, size_t bytes)
{
    char *text = NULL;
    size_t found = 0;
    char *value = rocksdb_get(state->db, state->read, name, 1, &found, &text);
    if (text != NULL) {
        return kv_state_failed(state, "read", text);
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
static enum ls_status owner_write(struct kv_state *state, const char owner[KV_OWNER_BYTES])
{
    const char format = KV_FORMAT;
    const char stand[KV_STAND_BYTES] = {0};
    char *text = NULL;
    rocksdb_writeoptions_t *write = rocksdb_writeoptions_create();
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    rocksdb_writeoptions_disable_WAL(write, 1);
    rocksdb_writebatch_put(batch, "f", 1, &format, 1);
    rocksdb_writebatch_put(batch, "o", 1, owner, KV_OWNER_BYTES);
    rocksdb_writebatch_put(batch, "s", 1, stand, sizeof stand);
    rocksdb_write(state->db, write, batch, &text);
    rocksdb_writebatch_destroy(batch);
    rocksdb_writeoptions_destroy(write);
    KV_CRASH("owner.written");
    if (text == NULL) {
        rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
        rocksdb_flushoptions_set_wait(flush, 1);
        rocksdb_flush(state->db, flush, &text);
        rocksdb_flushoptions_destroy(flush);
        KV_CRASH("owner.flushed");
    }
    return text == NULL ? LS_OK : kv_state_failed(state, "write", text);
}

static enum ls_status owner_check(struct kv_state *state, const char owner[KV_OWNER_BYTES],
                                  struct ls_error *error)
{
    char format = 0;
    enum ls_status status = meta_read(state, "f", &format, 1);
    if (status == LS_ERR_NOT_FOUND) {
        rocksdb_iterator_t *iterator = rocksdb_create_iterator(state->db, state->read);
        rocksdb_iter_seek_to_first(iterator);
        bool empty = !rocksdb_iter_valid(iterator);
        rocksdb_iter_destroy(iterator);
        if (!empty) {
            return ls_error_set(error, LS_ERR_CORRUPT,
                                "state %s: it is not the state of a lockstep-kv", state->folder);
        }
        return owner_write(state, owner);
    }
    char found[KV_OWNER_BYTES];
    if (status == LS_OK && format != KV_FORMAT) {
        return ls_error_set(error, LS_ERR_FORMAT, "state %s: format %d, this program reads %d",
                            state->folder, format, KV_FORMAT);
    }
    status = status == LS_OK ? meta_read(state, "o", found, sizeof found) : status;
    if (status == LS_OK && memcmp(found, owner, KV_OWNER_BYTES) != 0) {
        return ls_error_set(error, LS_ERR_MISMATCH,
                            "state %s: it belongs to another %s; remove it, and it is rebuilt from "
                            "the log",
                            state->folder,
                            memcmp(found, owner, 32) != 0 ? "group" : "incarnation of this member");
    }
    return status;
}

enum ls_status kv_state_bind(struct kv_state *state, const char owner[KV_OWNER_BYTES],
                             struct ls_error *error)
{
    enum ls_status status = owner_check(state, owner, error);
    char stand[KV_STAND_BYTES];
    if (status == LS_OK) {
        status = meta_read(state, "s", stand, sizeof stand);
        if (status == LS_ERR_NOT_FOUND || status == LS_ERR_CORRUPT) {
            return ls_error_set(error, LS_ERR_CORRUPT, "state %s: no valid applied index",
                                state->folder);
        }
    }
    if (state->trouble[0] != '\0') {
        return ls_error_set(error, status, "%s", state->trouble);
    }
    if (status == LS_OK) {
        state->stand = state->durable = kv_stand_decode(stand);
        if (kv_writer_open(&state->writer, state->db, state->options, state->folder) != LS_OK) {
            return ls_error_set(error, LS_ERR_NO_MEMORY, "state %s: no thread for its writer",
                                state->folder);
        }
    }
    return status;
}

enum ls_status kv_state_open(const char *folder, const rocksdb_options_t *options,
                             struct kv_state **out, struct ls_error *error)
{
    struct kv_state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    (void)snprintf(state->folder, sizeof state->folder, "%s", folder);
    state->options = options;
    state->read = rocksdb_readoptions_create();
    state->active = layer_take(state);
    enum ls_status status = state->active == NULL ? LS_ERR_NO_MEMORY : LS_OK;
    char *text = NULL;
    if (status == LS_OK) {
        state->db = rocks_open_quietly(state, &text);
    }
    if (text != NULL) {
        status = strstr(text, "Corruption") != NULL        ? LS_ERR_CORRUPT
                 : strstr(text, "While lock file") != NULL ? LS_ERR_LOCKED
                 : strstr(text, "lock hold by") != NULL    ? LS_ERR_LOCKED
                                                           : LS_ERR_IO;
        (void)ls_error_set(error, status, "state %s: %s%s", folder,
                           status == LS_ERR_LOCKED ? "in use by another process: " : "", text);
        rocksdb_free(text);
        state->db = NULL;
    }
    if (status != LS_OK) {
        kv_state_close(state, false);
        return status;
    }
    *out = state;
    return LS_OK;
}

void kv_state_close(struct kv_state *state, bool keep)
{
    if (state == NULL) {
        return;
    }
    LS_ASSERT(state->frozen == NULL);
    kv_state_release(state);
    if (keep) {
        kv_state_work(state, true);
        if (state->trouble[0] == '\0' && !state->spoiled && state->active->dirty &&
            kv_state_seal(state) == LS_OK) {
            /* saves applying again at the next start; a failure costs no more than that */
            kv_state_work(state, true);
        }
    }
    kv_writer_close(&state->writer);
    if (state->db != NULL) {
        rocksdb_column_family_handle_destroy(state->family);
        rocksdb_close(state->db);
    }
    rocksdb_readoptions_destroy(state->read);
    while (state->active != NULL) {
        struct kv_layer *layer = state->active;
        state->active = layer->below;
        layer_free(layer);
    }
    layer_free(state->spare);
    kv_buffer_free(&state->key);
    free(state->fresh.items);
    free(state);
}
