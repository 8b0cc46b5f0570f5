/* SPDX-License-Identifier: MIT */
/* Layers, and the thread that gives them to RocksDB. */
#include "layer.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "crash.h"
#include "kv_limits.h"

enum { SHARD_BITS = 4, STOPPED_WAIT_MS = 5 };

enum ls_status kv_layer_open(struct kv_layer *layer)
{
    *layer = (struct kv_layer){0};
    return kv_table_open_pooled(&layer->items, SHARD_BITS);
}

void kv_layer_reset(struct kv_layer *layer)
{
    kv_table_clear(&layer->items);
    *layer = (struct kv_layer){.items = layer->items};
}

void kv_layer_close(struct kv_layer *layer)
{
    kv_table_close(&layer->items);
}

/* ---- records ---- */

void kv_be64_store(char out[8], uint64_t number)
{
    for (int i = 7; i >= 0; i--, number >>= 8) {
        out[i] = (char)(number & 0xff);
    }
}

uint64_t kv_be64_load(const char *in)
{
    uint64_t number = 0;
    for (int i = 0; i < 8; i++) {
        number = (number << 8) | (uint8_t)in[i];
    }
    return number;
}

struct ls_span kv_record_key(struct kv_buffer *buffer, uint64_t hash, struct ls_span key)
{
    char prefix[KV_RECORD_PREFIX_BYTES] = {'k'};
    kv_be64_store(prefix + 1, hash);
    kv_buffer_reset(buffer, SIZE_MAX);
    kv_buffer_append(buffer, prefix, sizeof prefix);
    kv_buffer_append(buffer, key.data, key.bytes);
    return buffer->failed ? (struct ls_span){NULL, 0} : kv_buffer_span(buffer);
}

void kv_stand_encode(char out[KV_STAND_BYTES], const struct kv_stand *stand)
{
    kv_be64_store(out, stand->applied);
    kv_be64_store(out + 8, stand->count);
    kv_be64_store(out + 16, stand->bytes);
}

struct kv_stand kv_stand_decode(const char in[KV_STAND_BYTES])
{
    return (struct kv_stand){kv_be64_load(in), kv_be64_load(in + 8), kv_be64_load(in + 16)};
}

/* ---- the writer's thread ---- */

/* True when it went well; else the text is kept and released. */
static bool went_well(struct kv_writer *writer, const char *what, char *text)
{
    if (text != NULL) {
        (void)snprintf(writer->trouble, sizeof writer->trouble, "%s: %s", what, text);
        rocksdb_free(text);
    }
    return text == NULL;
}

static bool item_write(struct kv_writer *writer, rocksdb_sstfilewriter_t *file,
                       const struct kv_item *item)
{
    char *text = NULL;
    struct ls_span record = kv_record_key(&writer->key, item->hash, kv_item_key(item));
    if (record.data == NULL) {
        (void)snprintf(writer->trouble, sizeof writer->trouble, "write: out of memory");
        return false;
    }
    if (item->gone) {
        rocksdb_sstfilewriter_delete(file, record.data, record.bytes, &text);
    } else {
        struct ls_span value = kv_item_value(item);
        rocksdb_sstfilewriter_put(file, record.data, record.bytes, value.data, value.bytes, &text);
    }
    return went_well(writer, "write", text);
}

/* The records of a layer, in their order: "k..." before "s". */
static bool records_write(struct kv_writer *writer, rocksdb_sstfilewriter_t *file,
                          const struct kv_layer *layer)
{
    char *text = NULL;
    if (layer->cleared) {
        rocksdb_sstfilewriter_delete_range(file, "k", 1, "l", 1, &text);
    }
    bool well = went_well(writer, "write", text);
    for (const struct kv_item *item = kv_table_seek(&layer->items, 0); well && item != NULL;
         item = kv_table_next(&layer->items, item)) {
        well = item_write(writer, file, item);
    }
    if (!well) {
        return false;
    }
    char stand[KV_STAND_BYTES];
    kv_stand_encode(stand, &layer->stand);
    rocksdb_sstfilewriter_put(file, "s", 1, stand, sizeof stand, &text);
    if (!went_well(writer, "write", text)) {
        return false;
    }
    rocksdb_sstfilewriter_finish(file, &text); /* synced */
    return went_well(writer, "write", text);
}

static bool file_write(struct kv_writer *writer, const struct kv_layer *layer)
{
    /* after a crash it may be another name of a file that RocksDB has taken in: never truncate it
     */
    (void)unlink(writer->path);
    char *text = NULL;
    rocksdb_envoptions_t *env = rocksdb_envoptions_create();
    rocksdb_sstfilewriter_t *file = rocksdb_sstfilewriter_create(env, writer->options);
    rocksdb_sstfilewriter_open(file, writer->path, &text);
    bool well = went_well(writer, "write", text) && records_write(writer, file, layer);
    rocksdb_sstfilewriter_destroy(file);
    rocksdb_envoptions_destroy(env);
    return well;
}

/* RocksDB lets the system forget what it wrote. Lookups, which are on the loop's thread, and the
 * next compaction want it: so it is read once. */
static void file_remember(const struct kv_writer *writer)
{
    char page[KV_READ_BYTES];
    int file = open(writer->path, O_RDONLY | O_CLOEXEC);
    while (file >= 0 && read(file, page, sizeof page) > 0) {
        continue;
    }
    if (file >= 0) {
        (void)close(file);
    }
}

static bool layer_write(struct kv_writer *writer, const struct kv_layer *layer)
{
    KV_CRASH("layer.begin");
    bool well = file_write(writer, layer);
    if (well) {
        KV_CRASH("layer.file");
        file_remember(writer);
        char *text = NULL;
        const char *const paths[1] = {writer->path};
        rocksdb_ingestexternalfileoptions_t *options = rocksdb_ingestexternalfileoptions_create();
        rocksdb_ingestexternalfileoptions_set_move_files(options, 1);
        rocksdb_ingest_external_file(writer->db, paths, 1, options, &text); /* synced */
        KV_CRASH("layer.ingested");
        rocksdb_ingestexternalfileoptions_destroy(options);
        well = went_well(writer, "take in", text);
    }
    (void)unlink(writer->path);
    KV_CRASH("layer.moved");
    return well;
}

static uint64_t property(struct kv_writer *writer, const char *name)
{
    uint64_t number = 0;
    return rocksdb_property_int(writer->db, name, &number) == 0 ? number : 0;
}

/* Compactions are behind: more files would only slow them and reads. With the lock. */
static void stopped_wait(struct kv_writer *writer)
{
    while (!writer->hurry && property(writer, "rocksdb.is-write-stopped") != 0 &&
           property(writer, "rocksdb.background-errors") == 0) {
        struct timespec until;
        (void)clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += STOPPED_WAIT_MS * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        (void)pthread_cond_timedwait(&writer->changed, &writer->lock, &until);
    }
}

static void *writer_run(void *arg)
{
    struct kv_writer *writer = arg;
    (void)pthread_mutex_lock(&writer->lock);
    while (true) {
        while (writer->state != KV_WRITER_BUSY && !writer->stop) {
            (void)pthread_cond_wait(&writer->changed, &writer->lock);
        }
        if (writer->state != KV_WRITER_BUSY) {
            break;
        }
        stopped_wait(writer);
        (void)pthread_mutex_unlock(&writer->lock);
        bool well = layer_write(writer, writer->layer);
        (void)pthread_mutex_lock(&writer->lock);
        writer->state = well ? KV_WRITER_DONE : KV_WRITER_FAILED;
        (void)pthread_cond_broadcast(&writer->changed);
    }
    (void)pthread_mutex_unlock(&writer->lock);
    return NULL;
}

/* ---- for the loop's thread ---- */

enum ls_status kv_writer_open(struct kv_writer *writer, rocksdb_t *db,
                              const rocksdb_options_t *options, const char *directory)
{
    static const char name[] = "/layer.new";
    *writer = (struct kv_writer){.db = db, .options = options, .state = KV_WRITER_IDLE};
    size_t path_bytes = strlen(directory) + sizeof name;
    writer->path = malloc(path_bytes);
    if (writer->path == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    (void)snprintf(writer->path, path_bytes, "%s%s", directory, name);
    (void)pthread_mutex_init(&writer->lock, NULL);
    (void)pthread_cond_init(&writer->changed, NULL);
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all); /* signals are for the program's loop */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&writer->thread, NULL, writer_run, writer);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        (void)pthread_cond_destroy(&writer->changed);
        (void)pthread_mutex_destroy(&writer->lock);
        free(writer->path);
        writer->path = NULL;
        return LS_ERR_NO_MEMORY;
    }
    writer->open = true;
    return LS_OK;
}

void kv_writer_start(struct kv_writer *writer, const struct kv_layer *layer)
{
    (void)pthread_mutex_lock(&writer->lock);
    LS_ASSERT(writer->state == KV_WRITER_IDLE);
    writer->layer = layer;
    writer->state = KV_WRITER_BUSY;
    (void)pthread_cond_broadcast(&writer->changed);
    (void)pthread_mutex_unlock(&writer->lock);
}

static enum kv_writer_state state_take(struct kv_writer *writer, bool wait)
{
    (void)pthread_mutex_lock(&writer->lock);
    if (wait) {
        writer->hurry = true;
        (void)pthread_cond_broadcast(&writer->changed);
    }
    while (wait && writer->state == KV_WRITER_BUSY) {
        (void)pthread_cond_wait(&writer->changed, &writer->lock);
    }
    enum kv_writer_state state = writer->state;
    writer->state = state == KV_WRITER_DONE ? KV_WRITER_IDLE : state;
    (void)pthread_mutex_unlock(&writer->lock);
    return state;
}

enum kv_writer_state kv_writer_poll(struct kv_writer *writer)
{
    return state_take(writer, false);
}

enum kv_writer_state kv_writer_wait(struct kv_writer *writer)
{
    return state_take(writer, true);
}

void kv_writer_close(struct kv_writer *writer)
{
    if (!writer->open) {
        return;
    }
    (void)pthread_mutex_lock(&writer->lock);
    writer->stop = writer->hurry = true;
    (void)pthread_cond_broadcast(&writer->changed);
    (void)pthread_mutex_unlock(&writer->lock);
    (void)pthread_join(writer->thread, NULL);
    (void)pthread_cond_destroy(&writer->changed);
    (void)pthread_mutex_destroy(&writer->lock);
    kv_buffer_free(&writer->key);
    free(writer->path);
    *writer = (struct kv_writer){0};
}
