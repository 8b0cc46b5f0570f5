/* SPDX-License-Identifier: MIT */
/*
 * A new state from the items of a snapshot: files in the order of the keys, which an empty RocksDB
 * takes in as they are, all in one step and without a compaction. The format comes before all keys,
 * the owner and the stand behind them.
 */
#include "rocks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "crash.h"
#include "kv_limits.h"
#include "text.h"

static enum ls_status restore_failed(struct kv_restore *restore, const char *what, char *text)
{
    (void)snprintf(restore->trouble, sizeof restore->trouble, "%s: %.400s", what, text);
    rocksdb_free(text);
    return LS_ERR_IO;
}

static void file_path(const struct kv_restore *restore, size_t number, char out[PATH_MAX])
{
    (void)snprintf(out, PATH_MAX, "%.*s/part-%zu.new", PATH_MAX - 64, restore->folder, number);
}

enum ls_status kv_restore_open(const char *directory, uint64_t number,
                               const rocksdb_options_t *options, struct ls_cursor anchor,
                               struct kv_restore **out)
{
    struct kv_restore *restore = calloc(1, sizeof *restore);
    if (restore == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    kv_home_folder(directory, number, restore->folder);
    kv_home_remove(restore->folder); /* of an attempt that ended with the process */
    restore->number = number;
    restore->options = options;
    restore->anchor = anchor;
    restore->stand.applied = anchor.index;
    restore->env = rocksdb_envoptions_create();
    if (mkdir(restore->folder, 0700) != 0 || !kv_home_sync(directory)) {
        kv_restore_close(restore, true);
        return LS_ERR_IO;
    }
    KV_CRASH("restore.made");
    *out = restore;
    return LS_OK;
}

static enum ls_status file_finish(struct kv_restore *restore)
{
    char *text = NULL;
    rocksdb_sstfilewriter_finish(restore->file, &text); /* synced */
    rocksdb_sstfilewriter_destroy(restore->file);
    restore->file = NULL;
    KV_CRASH("restore.file");
    return text == NULL ? LS_OK : restore_failed(restore, "write", text);
}

static enum ls_status file_begin(struct kv_restore *restore)
{
    char path[PATH_MAX];
    char *text = NULL;
    file_path(restore, restore->files, path);
    restore->file = rocksdb_sstfilewriter_create(restore->env, restore->options);
    restore->file_bytes = 0;
    rocksdb_sstfilewriter_open(restore->file, path, &text);
    if (text != NULL) {
        rocksdb_sstfilewriter_destroy(restore->file);
        restore->file = NULL;
        return restore_failed(restore, "write", text);
    }
    restore->files++;
    return LS_OK;
}

static enum ls_status record_put(struct kv_restore *restore, struct ls_span key,
                                 struct ls_span value)
{
    static const char format = KV_FORMAT;
    char *text = NULL;
    if (restore->file == NULL) {
        bool first = restore->files == 0;
        enum ls_status status = file_begin(restore);
        if (status != LS_OK) {
            return status;
        }
        if (first) {
            rocksdb_sstfilewriter_put(restore->file, "f", 1, &format, 1, &text);
        }
    }
    if (text != NULL) {
        return restore_failed(restore, "write", text);
    }
    rocksdb_sstfilewriter_put(restore->file, key.data, key.bytes, value.data, value.bytes, &text);
    restore->file_bytes += key.bytes + value.bytes;
    return text == NULL ? LS_OK : restore_failed(restore, "write", text);
}

enum ls_status kv_restore_item(struct kv_restore *restore, struct ls_span key, struct ls_span value)
{
    uint64_t hash = kv_key_hash(key);
    if (restore->built ||
        (restore->stand.count > 0 &&
         kv_key_order(restore->last_hash, kv_buffer_span(&restore->last), hash, key) >= 0)) {
        return LS_ERR_INVALID;
    }
    restore->last_hash = hash;
    kv_buffer_reset(&restore->last, SIZE_MAX);
    kv_buffer_append(&restore->last, key.data, key.bytes);
    struct ls_span record = kv_record_key(&restore->key, hash, key);
    if (restore->last.failed || record.data == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    enum ls_status status = LS_OK;
    if (restore->file != NULL && restore->file_bytes >= KV_RESTORE_FILE_BYTES) {
        status = file_finish(restore);
    }
    status = status == LS_OK ? record_put(restore, record, value) : status;
    restore->stand.count += status == LS_OK ? 1 : 0;
    restore->stand.bytes += status == LS_OK ? key.bytes + value.bytes : 0;
    return status;
}

/* Behind all keys. */
static enum ls_status meta_put(struct kv_restore *restore, const char owner[KV_OWNER_BYTES])
{
    char stand[KV_STAND_BYTES];
    kv_stand_encode(stand, &restore->stand);
    enum ls_status status =
        record_put(restore, (struct ls_span){"o", 1}, (struct ls_span){owner, KV_OWNER_BYTES});
    return status == LS_OK ? record_put(restore, (struct ls_span){"s", 1},
                                        (struct ls_span){stand, sizeof stand})
                           : status;
}

/* All files at once, into a RocksDB that is empty. */
static enum ls_status ingest(struct kv_restore *restore)
{
    struct kv_state *state = NULL;
    struct ls_error error = {LS_OK, ""};
    char *text = NULL;
    char(*paths)[PATH_MAX] = calloc(restore->files, sizeof *paths);
    const char **list = calloc(restore->files, sizeof *list);
    enum ls_status status = paths == NULL || list == NULL ? LS_ERR_NO_MEMORY : LS_OK;
    for (size_t i = 0; status == LS_OK && i < restore->files; i++) {
        file_path(restore, i, paths[i]);
        list[i] = paths[i];
    }
    if (status == LS_OK) {
        status = kv_state_open(restore->folder, restore->options, &state, &error);
        (void)snprintf(restore->trouble, sizeof restore->trouble, "%s", error.text);
    }
    if (status == LS_OK) {
        rocksdb_ingestexternalfileoptions_t *options = rocksdb_ingestexternalfileoptions_create();
        rocksdb_ingestexternalfileoptions_set_move_files(options, 1);
        rocksdb_ingest_external_file(state->db, list, restore->files, options, &text); /* synced */
        rocksdb_ingestexternalfileoptions_destroy(options);
        status = text == NULL ? LS_OK : restore_failed(restore, "take in", text);
        for (size_t i = 0; i < restore->files; i++) {
            (void)remove(paths[i]);
        }
        kv_state_close(state, false);
    }
    free(paths);
    free(list);
    return status;
}

enum ls_status kv_restore_build(struct kv_restore *restore, const char owner[KV_OWNER_BYTES])
{
    if (restore->built) {
        return LS_OK;
    }
    enum ls_status status = meta_put(restore, owner);
    status = status == LS_OK ? file_finish(restore) : status;
    if (status == LS_OK) {
        KV_CRASH("restore.files");
        status = ingest(restore);
    }
    if (status == LS_OK && !kv_home_sync(restore->folder)) {
        (void)snprintf(restore->trouble, sizeof restore->trouble, "sync %.300s: %s",
                       restore->folder, strerror(errno));
        status = LS_ERR_IO;
    }
    if (status == LS_OK) {
        KV_CRASH("restore.built");
        restore->built = true;
    }
    return status;
}

void kv_restore_close(struct kv_restore *restore, bool remove)
{
    if (restore == NULL) {
        return;
    }
    if (restore->file != NULL) {
        rocksdb_sstfilewriter_destroy(restore->file);
    }
    if (remove) {
        kv_home_remove(restore->folder);
    }
    rocksdb_envoptions_destroy(restore->env);
    kv_buffer_free(&restore->last);
    kv_buffer_free(&restore->key);
    free(restore);
}
