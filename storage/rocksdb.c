/* SPDX-License-Identifier: MIT */
/*
 * The engine of the durable store: RocksDB through its C API, and what has to be known about
 * Debian's 7.8 of it.
 *
 * - WAL recovery mode 0 (tolerate a torn tail). The default opens a log with a flipped bit in its
 *   middle and says nothing. This one takes a flipped bit in the head of a record for the end of
 *   the log, and refuses what a power cut leaves of a write that was under way: so the log is
 *   judged first (wal.h), and only what was torn may be cut off. No mode notices a WAL that was
 *   cut at a record or deleted: that is what chain and guard are for. Mode 0 excludes recycling of
 *   WAL files: RocksDB turns it off itself.
 * - It is built with assertions and aborts on a full disk through its own info log, unless that is
 *   told to write nothing but its header.
 * - After a failed write it must not be written to again (flush_wal aborts), and it resumes by
 *   itself after ENOSPC, which is a silent retry (P10): the first error is latched above, and a
 *   failure in the background counts as one.
 * - Closing it with a live column family handle or iterator aborts.
 * - create_if_missing would make a fresh database beside the files of one whose CURRENT is lost.
 */
#include "engine.h"
#include "wal.h"

#include <rocksdb/c.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* for reads of the log, which are sequential: a cache would only hold memory */
#define BLOCK_CACHE_BYTES ((size_t)4 << 20)
#define BLOCK_BYTES       ((size_t)16 << 10)
/* the families beside the log hold a few hundred bytes for each group */
#define SMALL_BUFFER_BYTES ((size_t)1 << 20)
/* records up to here are put together before they are copied into the batch */
#define JOIN_BYTES           4096u
#define INFO_LOG_HEADER_ONLY 5

struct ls__engine {
    const struct ls_env *env;
    rocksdb_t *db;
    rocksdb_options_t *options[LS__FAMILIES];
    rocksdb_column_family_handle_t *families[LS__FAMILIES];
    rocksdb_block_based_table_options_t *table;
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *synced;
    rocksdb_readoptions_t *reads;
};

struct ls__engine_iterator {
    rocksdb_iterator_t *at;
    rocksdb_readoptions_t *options;
    const struct ls_env *env;
    /* the bounds, which RocksDB borrows */
    uint8_t begin[LS__LOG_KEY_BYTES];
    uint8_t end[LS__LOG_KEY_BYTES + 1];
};

/* Threads that RocksDB starts inherit the mask: signals are not for them. */
static void block_signals(sigset_t *before)
{
    sigset_t all;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, before);
}

static void restore_signals(const sigset_t *before)
{
    (void)pthread_sigmask(SIG_SETMASK, before, NULL);
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* What a message of RocksDB means for us. */
static enum ls_status classify(const char *message)
{
    if (starts_with(message, "Corruption")) {
        return LS_ERR_CORRUPT;
    }
    if (strstr(message, "Column families not opened") != NULL) {
        return LS_ERR_FORMAT; /* more families than this version knows */
    }
    if (strstr(message, "does not exist") != NULL || strstr(message, "No such file") != NULL) {
        return LS_ERR_CORRUPT; /* a file it needs was removed */
    }
    return LS_ERR_IO;
}

/* Turns a message into an error and frees it. */
static enum ls_status failed(struct ls_error *error, char *message)
{
    enum ls_status status = classify(message);
    (void)ls_error_set(error, status, "%s", message);
    rocksdb_free(message);
    return status;
}

static rocksdb_options_t *make_options(struct ls__engine *engine, bool create,
                                       uint64_t write_buffer_bytes, struct ls_error *error)
{
    rocksdb_options_t *plain = rocksdb_options_create();
    rocksdb_options_t *options = rocksdb_options_create();
    char *message = NULL;
    /* settings without a function of their own: no retry in the background; and no fallocate, after
     * which each sync commits a file system journal */
    rocksdb_get_options_from_string(plain, "max_bgerror_resume_count=0;allow_fallocate=false",
                                    options, &message);
    rocksdb_options_destroy(plain);
    if (message != NULL) {
        (void)failed(error, message);
        rocksdb_options_destroy(options);
        return NULL;
    }
    rocksdb_options_set_create_if_missing(options, create);
    rocksdb_options_set_create_missing_column_families(options, create);
    rocksdb_options_set_error_if_exists(options, create);
    rocksdb_options_set_paranoid_checks(options, 1);
    rocksdb_options_set_wal_recovery_mode(options,
                                          rocksdb_tolerate_corrupted_tail_records_recovery);
    rocksdb_options_set_info_log_level(options, INFO_LOG_HEADER_ONLY);
    rocksdb_options_set_keep_log_file_num(options, 2);
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_stats_persist_period_sec(options, 0);
    rocksdb_options_set_skip_stats_update_on_db_open(options, 1);
    rocksdb_options_set_max_background_jobs(options, 2);
    rocksdb_options_set_max_open_files(options, 256);
    rocksdb_options_set_max_manifest_file_size(options, (size_t)4 << 20);
    rocksdb_options_set_allow_concurrent_memtable_write(options, 0);
    /* families reach the disk together, so that old WAL files go as soon as the log is flushed */
    rocksdb_options_set_atomic_flush(options, 1);
    /* tables are written once and seldom read: what they are smaller is less of disk and cache */
    rocksdb_options_set_compression(options, rocksdb_lz4_compression);
    rocksdb_options_set_max_write_buffer_number(options, 2);
    rocksdb_options_set_write_buffer_size(options, (size_t)write_buffer_bytes);
    rocksdb_options_set_block_based_table_factory(options, engine->table);
    return options;
}

static void release(struct ls__engine *engine)
{
    for (size_t i = 0; i < LS__FAMILIES; i++) {
        if (engine->families[i] != NULL) {
            rocksdb_column_family_handle_destroy(engine->families[i]);
        }
    }
    if (engine->db != NULL) {
        rocksdb_close(engine->db);
    }
    for (size_t i = 0; i < LS__FAMILIES; i++) {
        if (engine->options[i] != NULL) {
            rocksdb_options_destroy(engine->options[i]);
        }
    }
    rocksdb_block_based_options_destroy(engine->table);
    rocksdb_cache_destroy(engine->cache);
    rocksdb_writeoptions_destroy(engine->synced);
    rocksdb_readoptions_destroy(engine->reads);
    (void)engine->env->allocate(engine->env->self, engine, 0);
}

static void prepare(struct ls__engine *engine)
{
    engine->cache = rocksdb_cache_create_lru(BLOCK_CACHE_BYTES);
    engine->table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(engine->table, engine->cache);
    rocksdb_block_based_options_set_block_size(engine->table, BLOCK_BYTES);
    engine->synced = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(engine->synced, 1);
    engine->reads = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(engine->reads, 1);
    rocksdb_readoptions_set_fill_cache(engine->reads, 0);
}

static void trace_cut(const struct ls_env *env, const char *path)
{
    if (env->trace != NULL) {
        const struct ls_trace trace = {
            .level = LS_TRACE_WARN,
            .room = "storage",
            .format = "the write-ahead log ends in a write that the power cut: it is left out",
            .detail = path};
        env->trace(env->self, &trace);
    }
}

/* NULL, or why it does not open; then there are no handles. */
static char *open_with(struct ls__engine *engine, const char *path,
                       const char *const names[LS__FAMILIES])
{
    char *message = NULL;
    engine->db = rocksdb_open_column_families(
        engine->options[LS__FAMILY_LOG], path, (int)LS__FAMILIES, names,
        (const rocksdb_options_t *const *)engine->options, engine->families, &message);
    if (message != NULL) {
        engine->db = NULL;
        (void)memset(engine->families, 0, sizeof engine->families);
    }
    return message;
}

static enum ls_status open_families(struct ls__engine *engine, const char *path, bool create,
                                    uint64_t write_buffer_bytes, struct ls_error *error)
{
    /* "default" is RocksDB's own; it holds what belongs to the whole store */
    static const char *const names[LS__FAMILIES] = {"log", "hard", "default"};
    for (size_t i = 0; i < LS__FAMILIES; i++) {
        /* half for the buffer that fills, half for the one that is written out */
        uint64_t bytes = i == LS__FAMILY_LOG ? write_buffer_bytes / 2 : SMALL_BUFFER_BYTES;
        engine->options[i] = make_options(engine, create, bytes, error);
        if (engine->options[i] == NULL) {
            return LS_ERR_IO;
        }
    }
    /* before RocksDB reads it, which would cut off what it takes for the end, and remove the file
     */
    bool torn = false;
    enum ls_status judged = create ? LS_OK : ls__wal_judge(engine->env, path, &torn, error);
    if (judged != LS_OK) {
        return judged;
    }
    char *message = open_with(engine, path, names);
    if (message != NULL && torn && classify(message) == LS_ERR_CORRUPT) {
        rocksdb_free(message);
        trace_cut(engine->env, path);
        rocksdb_options_set_wal_recovery_mode(engine->options[LS__FAMILY_LOG],
                                              rocksdb_point_in_time_recovery);
        message = open_with(engine, path, names);
    }
    return message != NULL ? failed(error, message) : LS_OK;
}

enum ls_status ls__engine_open(const struct ls_env *env, const char *path, bool create,
                               uint64_t write_buffer_bytes, struct ls__engine **engine,
                               struct ls_error *error)
{
    sigset_t signals;
    struct ls__engine *made = env->allocate(env->self, NULL, sizeof *made);
    if (made == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "out of memory");
    }
    *made = (struct ls__engine){.env = env};
    block_signals(&signals);
    prepare(made);
    enum ls_status status = open_families(made, path, create, write_buffer_bytes, error);
    if (status != LS_OK) {
        if (made->db == NULL) { /* then there are no handles, whatever the array holds */
            (void)memset(made->families, 0, sizeof made->families);
        }
        release(made);
    } else {
        *engine = made;
    }
    restore_signals(&signals);
    return status;
}

void ls__engine_close(struct ls__engine *engine)
{
    if (engine != NULL) {
        sigset_t signals;
        block_signals(&signals);
        release(engine);
        restore_signals(&signals);
    }
}

/* A batch is RocksDB's own; the cast keeps its name out of the header. */
static rocksdb_writebatch_t *inner(struct ls__engine_batch *batch)
{
    return (rocksdb_writebatch_t *)(void *)batch;
}

struct ls__engine_batch *ls__engine_batch_open(void)
{
    return (struct ls__engine_batch *)(void *)rocksdb_writebatch_create();
}

void ls__engine_batch_close(struct ls__engine_batch *batch)
{
    rocksdb_writebatch_destroy(inner(batch));
}

void ls__engine_batch_clear(struct ls__engine_batch *batch)
{
    rocksdb_writebatch_clear(inner(batch));
}

void ls__engine_batch_put(const struct ls__engine *engine, struct ls__engine_batch *batch,
                          enum ls__family family, struct ls_span key, const struct ls_span value[2])
{
    rocksdb_column_family_handle_t *handle = engine->families[family];
    size_t bytes = value[0].bytes + value[1].bytes;
    if (value[1].bytes == 0) {
        rocksdb_writebatch_put_cf(inner(batch), handle, key.data, key.bytes, value[0].data, bytes);
        return;
    }
    if (bytes <= JOIN_BYTES) {
        char joined[JOIN_BYTES];
        (void)memcpy(joined, value[0].data, value[0].bytes);
        (void)memcpy(joined + value[0].bytes, value[1].data, value[1].bytes);
        rocksdb_writebatch_put_cf(inner(batch), handle, key.data, key.bytes, joined, bytes);
        return;
    }
    const char *keys[] = {key.data};
    const char *values[] = {value[0].data, value[1].data};
    const size_t sizes[] = {value[0].bytes, value[1].bytes};
    rocksdb_writebatch_putv_cf(inner(batch), handle, 1, keys, &key.bytes, 2, values, sizes);
}

void ls__log_key(const struct ls_group_id *id, ls_index index, uint8_t out[LS__LOG_KEY_BYTES])
{
    (void)memcpy(out, id->bytes, sizeof id->bytes);
    for (unsigned i = 0; i < 8; i++) {
        out[32 + i] = (uint8_t)(index >> (56 - 8 * i));
    }
}

struct ls_span ls__cell_key(const struct ls_group_id *id, enum ls__cell cell,
                            uint8_t out[LS__CELL_KEY_BYTES])
{
    (void)memcpy(out + 1, id->bytes, sizeof id->bytes);
    if (cell == LS__CELL_HARD) {
        return (struct ls_span){out + 1, sizeof id->bytes};
    }
    out[0] = cell == LS__CELL_ANCHOR ? 'a' : 'c';
    return (struct ls_span){out, LS__CELL_KEY_BYTES};
}

enum ls__family ls__cell_family(enum ls__cell cell)
{
    return cell == LS__CELL_HARD ? LS__FAMILY_HARD : LS__FAMILY_META;
}

void ls__engine_batch_remove(const struct ls__engine *engine, struct ls__engine_batch *batch,
                             const struct ls_group_id *id, const ls_index range[2])
{
    uint8_t first[LS__LOG_KEY_BYTES];
    uint8_t end[LS__LOG_KEY_BYTES];
    ls__log_key(id, range[0], first);
    /* the end is exclusive; no record has the greatest index */
    ls__log_key(id, range[1] == UINT64_MAX ? UINT64_MAX : range[1] + 1, end);
    rocksdb_writebatch_delete_range_cf(inner(batch), engine->families[LS__FAMILY_LOG],
                                       (const char *)first, sizeof first, (const char *)end,
                                       sizeof end);
}

enum ls_status ls__engine_write(struct ls__engine *engine, struct ls__engine_batch *batch,
                                struct ls_error *error)
{
    char *message = NULL;
    rocksdb_write(engine->db, engine->synced, inner(batch), &message);
    if (message != NULL) {
        return failed(error, message);
    }
    uint64_t background = 0;
    if (rocksdb_property_int(engine->db, "rocksdb.background-errors", &background) == 0 &&
        background > 0) {
        return ls_error_set(error, LS_ERR_IO,
                            "writing out a full buffer failed (the reason is RocksDB's: often a "
                            "full or failing disk)");
    }
    return LS_OK;
}

enum ls_status ls__engine_get(struct ls__engine *engine, enum ls__family family, struct ls_span key,
                              struct ls__engine_value **value, struct ls_span *bytes,
                              struct ls_error *error)
{
    char *message = NULL;
    rocksdb_pinnableslice_t *slice = rocksdb_get_pinned_cf(
        engine->db, engine->reads, engine->families[family], key.data, key.bytes, &message);
    if (message != NULL) {
        return failed(error, message);
    }
    if (slice == NULL) {
        return ls_error_set(error, LS_ERR_NOT_FOUND, "not found");
    }
    bytes->data = rocksdb_pinnableslice_value(slice, &bytes->bytes);
    *value = (struct ls__engine_value *)(void *)slice;
    return LS_OK;
}

void ls__engine_value_release(struct ls__engine_value *value)
{
    rocksdb_pinnableslice_destroy((rocksdb_pinnableslice_t *)(void *)value);
}

bool ls__engine_iterator_failed(const struct ls__engine_iterator *iterator)
{
    char *message = NULL;
    rocksdb_iter_get_error(iterator->at, &message);
    if (message == NULL) {
        return false;
    }
    rocksdb_free(message);
    return true;
}

struct ls__engine_iterator *ls__engine_iterate(struct ls__engine *engine,
                                               const struct ls_group_id *id, ls_index index)
{
    struct ls__engine_iterator *made = engine->env->allocate(engine->env->self, NULL, sizeof *made);
    if (made == NULL) {
        return NULL;
    }
    made->env = engine->env;
    made->options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(made->options, 1);
    rocksdb_readoptions_set_fill_cache(made->options, 0);
    ls__log_key(id, UINT64_MAX, made->end);
    made->end[LS__LOG_KEY_BYTES] = 0; /* just above the greatest key */
    rocksdb_readoptions_set_iterate_upper_bound(made->options, (const char *)made->end,
                                                sizeof made->end);
    ls__log_key(id, 0, made->begin);
    rocksdb_readoptions_set_iterate_lower_bound(made->options, (const char *)made->begin,
                                                sizeof made->begin);
    made->at =
        rocksdb_create_iterator_cf(engine->db, made->options, engine->families[LS__FAMILY_LOG]);
    uint8_t key[LS__LOG_KEY_BYTES];
    ls__log_key(id, index, key);
    rocksdb_iter_seek_for_prev(made->at, (const char *)key, sizeof key);
    if (!rocksdb_iter_valid(made->at) && !ls__engine_iterator_failed(made)) {
        rocksdb_iter_seek(made->at, (const char *)key, sizeof key);
    }
    return made;
}

bool ls__engine_iterator_record(struct ls__engine_iterator *iterator, ls_index *index,
                                struct ls_span *bytes)
{
    if (!rocksdb_iter_valid(iterator->at)) {
        return false;
    }
    size_t key_bytes;
    const uint8_t *key = (const uint8_t *)rocksdb_iter_key(iterator->at, &key_bytes);
    *index = 0;
    for (size_t i = 32; i < key_bytes && i < LS__LOG_KEY_BYTES; i++) {
        *index = *index << 8 | key[i];
    }
    bytes->data = rocksdb_iter_value(iterator->at, &bytes->bytes);
    return true;
}

void ls__engine_iterator_next(struct ls__engine_iterator *iterator)
{
    rocksdb_iter_next(iterator->at);
}

enum ls_status ls__engine_iterator_close(struct ls__engine_iterator *iterator,
                                         struct ls_error *error)
{
    char *message = NULL;
    rocksdb_iter_get_error(iterator->at, &message);
    rocksdb_iter_destroy(iterator->at);
    rocksdb_readoptions_destroy(iterator->options);
    (void)iterator->env->allocate(iterator->env->self, iterator, 0);
    return message != NULL ? failed(error, message) : LS_OK;
}
