/* SPDX-License-Identifier: MIT */
/*
 * The state in RocksDB is kept in layers, the upper ones in memory, each above the older ones:
 *
 *   active   what batches wrote since the last change of layers; the loop's thread changes it
 *   sealed   the active ones of before, which nobody changes. Usually one: while the writer's
 *            thread writes it, and then, until the next change, as a cache. A freeze (rocks.h)
 *            seals one more, which then waits for the writer
 *   RocksDB  all that was written
 *
 * A layer holds whole batches and is written as one file that RocksDB takes in as a whole, with the
 * applied index and the number of keys in it (P12): what is durable is always a state that the
 * group went through. Many updates of one key within a layer are written once.
 *
 * The writer runs in a thread of its own; RocksDB's memtables are not used. A failed write is
 * never tried again (P10).
 */
#ifndef KV_LAYER_H
#define KV_LAYER_H

#include <lockstep/types.h>

#include <pthread.h>
#include <rocksdb/c.h>

#include "buffer.h"
#include "table.h"

enum { KV_RECORD_PREFIX_BYTES = 9, KV_STAND_BYTES = 24 };

/** What a state holds: the applied index, the number of keys, and the bytes of keys and values. */
struct kv_stand {
    ls_index applied;
    uint64_t count, bytes;
};

struct kv_layer {
    struct kv_table items;
    bool cleared;          /* nothing in the layers below it counts */
    bool dirty;            /* a batch was committed into it */
    bool written;          /* RocksDB has it */
    struct kv_stand stand; /* after its last batch */
    uint64_t since_ms;     /* when the first one was committed */
    size_t log_bytes; /* what was put, again and again too: what a crash would have us apply again
                       */
    struct kv_layer *below; /* the next older one, or NULL */
};

/** errors LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status kv_layer_open(struct kv_layer *layer);
void kv_layer_reset(struct kv_layer *layer);
void kv_layer_close(struct kv_layer *layer);

/** The key of a record, valid until the next call with this buffer. NULL data: out of memory. */
struct ls_span kv_record_key(struct kv_buffer *buffer, uint64_t hash, struct ls_span key);
/** The value of the record "s". */
void kv_stand_encode(char out[KV_STAND_BYTES], const struct kv_stand *stand);
struct kv_stand kv_stand_decode(const char in[KV_STAND_BYTES]);
void kv_be64_store(char out[8], uint64_t number);
uint64_t kv_be64_load(const char *in);

enum kv_writer_state { KV_WRITER_IDLE, KV_WRITER_BUSY, KV_WRITER_DONE, KV_WRITER_FAILED };

struct kv_writer {
    rocksdb_t *db;
    const rocksdb_options_t *options;
    char *path; /* of the file until RocksDB has it */
    struct kv_buffer key;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    /* behind the lock */
    bool hurry, stop; /* hurry: compactions that are behind do not count */
    enum kv_writer_state state;
    const struct kv_layer *layer;
    char trouble[LS_ERROR_TEXT_BYTES];
};

/** Starts the thread. db, options: borrowed until close. errors LS_ERR_NO_MEMORY, LS_ERR_IO */
LS_NODISCARD enum ls_status kv_writer_open(struct kv_writer *writer, rocksdb_t *db,
                                           const rocksdb_options_t *options, const char *directory);
/** Hands over a layer, which must stay as it is while the state is BUSY. Only when IDLE. */
void kv_writer_start(struct kv_writer *writer, const struct kv_layer *layer);
/** DONE is told once, then it is IDLE. FAILED stays, and `trouble` says why. */
enum kv_writer_state kv_writer_poll(struct kv_writer *writer);
/** The same, after waiting while it is BUSY: for the end, so it hurries from then on. */
enum kv_writer_state kv_writer_wait(struct kv_writer *writer);
/** Ends what it does, and the thread. */
void kv_writer_close(struct kv_writer *writer);

#endif
