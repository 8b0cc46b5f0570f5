/* SPDX-License-Identifier: MIT */
/*
 * Inside of the store over RocksDB. Its directory holds one state, and for a while a second one:
 *
 *   current    names the folder of the present state
 *   <number>/  a state: a RocksDB of its own. The numbers grow
 *
 *   store_rocksdb.c   the store: begin, put, commit, ..., of the present state
 *   rocks_state.c     one state: opening a folder, its owner, its layers
 *   rocks_walk.c      keys of layers and RocksDB in order
 *   rocks_freeze.c    pictures of the state, while it goes on
 *   rocks_restore.c   a new state beside the present one
 *   rocks_builder.c   ... which a thread of its own makes
 *   rocks_home.c      the directory: current, leftovers
 */
#ifndef KV_ROCKS_H
#define KV_ROCKS_H

#include <limits.h>

#include "layer.h"
#include "store.h"

enum { KV_OWNER_BYTES = 32 + 16, KV_LAYERS_MAX = 6, KV_FORMAT = 2 };

/* Keys of a batch, put without a look whether RocksDB has them. */
struct kv_fresh {
    const struct kv_item **items; /* for hash and key only: an item may have been replaced */
    size_t count, capacity;
};

/* One state, in one folder. */
struct kv_state {
    char folder[PATH_MAX];
    uint64_t number;
    const rocksdb_options_t *options; /* of the store */
    rocksdb_t *db;
    rocksdb_column_family_handle_t *family;
    rocksdb_readoptions_t *read;
    rocksdb_pinnableslice_t *pinned; /* the value that the last get lent */
    struct kv_buffer key;
    /* The active layer; below it those that wait for the writer or are being written, the oldest
     * last; and, if there is room, one that is written, as a cache. */
    struct kv_layer *active, *spare;
    size_t layers; /* below the active one */
    struct kv_writer writer;
    struct kv_layer *writing; /* NULL: the writer is idle */
    struct kv_fresh fresh;
    struct kv_stand stand;   /* if all fresh keys are new; `applied`: of the last batch */
    struct kv_stand durable; /* in RocksDB */
    struct kv_frozen *frozen;
    struct kv_state *next;             /* of those whose place another one took */
    bool spoiled;                      /* a batch was given up: the active layer is of no use */
    char trouble[LS_ERROR_TEXT_BYTES]; /* empty: none */
};

/* ---- rocks_state.c ---- */

rocksdb_options_t *kv_rocks_options(void);
/** Opens the folder, which is made if missing; no owner is looked at, no writer started. errors
 * with text */
LS_NODISCARD enum ls_status kv_state_open(const char *folder, const rocksdb_options_t *options,
                                          struct kv_state **out, struct ls_error *error);
/** Checks the owner (a new one is written), reads the stand, starts the writer. errors with text */
LS_NODISCARD enum ls_status kv_state_bind(struct kv_state *state, const char owner[KV_OWNER_BYTES],
                                          struct ls_error *error);
/** `keep`: what is not durable is written first. Takes NULL. */
void kv_state_close(struct kv_state *state, bool keep);
/** Ends the loan of the last get. */
void kv_state_release(struct kv_state *state);
/** Latches a failure. Returns LS_ERR_IO. */
enum ls_status kv_state_fail(struct kv_state *state, const char *what, const char *text);
/** The same; the text of RocksDB is released. */
enum ls_status kv_state_failed(struct kv_state *state, const char *what, char *text);

/** Takes over what the writer did, and gives it what waits for it; `wait` until it is idle. */
void kv_state_work(struct kv_state *state, bool wait);
/** The active layer, which is dirty, waits for the writer from now on. errors LS_ERR_NO_MEMORY,
 * LS_ERR_BUSY (too many wait) */
LS_NODISCARD enum ls_status kv_state_seal(struct kv_state *state);
/** Memory of all layers that are not written, bytes. */
size_t kv_state_bytes(const struct kv_state *state);

/* ---- rocks_walk.c ---- */

/* Where the walk stands in one layer, or in RocksDB. */
struct kv_walk {
    const struct kv_table *table; /* NULL: RocksDB */
    const struct kv_item *item;
    rocksdb_iterator_t *iterator;
    bool valid, gone;
    uint64_t hash;
    struct ls_span key;
};

struct kv_walks {
    struct kv_walk of[KV_LAYERS_MAX + 2];
    size_t count;
    struct kv_walk *at; /* the one that stands at the present key; NULL: at the end */
};

/** Stands at the first key at or behind (hash, key), of `top`, the layers below it, and RocksDB as
 * `read` sees it. The layers must not change until it is closed. errors LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status kv_walks_open(struct kv_walks *walks, struct kv_state *state,
                                          const struct kv_layer *top,
                                          const rocksdb_readoptions_t *read, uint64_t hash,
                                          struct ls_span key);
/** Goes on to the next key. */
void kv_walks_next(struct kv_walks *walks);
/** RocksDB gives no more: at its end, or because of an error, which close tells. */
bool kv_walks_database_ended(const struct kv_walks *walks);
struct ls_span kv_walks_value(const struct kv_walks *walks);
/** errors LS_ERR_IO: latched in the state. Closed ones are empty. */
enum ls_status kv_walks_close(struct kv_walks *walks, struct kv_state *state);

/* ---- rocks_freeze.c ---- */

struct kv_frozen {
    struct kv_frozen *next;
    struct kv_state *state;
    const struct kv_layer *top;         /* it and what is below it is not in RocksDB yet; or NULL */
    const rocksdb_snapshot_t *snapshot; /* once it is */
    rocksdb_readoptions_t *read;
    struct kv_walks walks; /* where the last iterate stopped */
};

/** errors LS_ERR_NO_MEMORY, LS_ERR_BUSY, LS_ERR_IO */
LS_NODISCARD enum ls_status kv_state_freeze(struct kv_state *state, struct ls_frozen *out);
enum ls_status kv_frozen_iterate(struct kv_frozen *frozen, struct kv_buffer *buffer,
                                 struct ls_span from, ls_item_visit visit, void *arg);
void kv_frozen_thaw(struct kv_frozen *frozen);
/** RocksDB has `layer` now, and nothing newer yet. */
void kv_frozen_written(struct kv_state *state, const struct kv_layer *layer);
/** A layer is about to go. */
void kv_frozen_walks_close(struct kv_state *state);

/* ---- rocks_home.c ---- */

/** Number of the present state; 0: there is none yet. *named: it is in current. errors with text */
LS_NODISCARD enum ls_status kv_home_read(const char *directory, uint64_t *number, bool *named,
                                         struct ls_error *error);
/** The durable switch. errors LS_ERR_IO: nothing has changed; *moved: it may have */
LS_NODISCARD enum ls_status kv_home_switch(const char *directory, uint64_t number, bool *moved,
                                           char why[LS_ERROR_TEXT_BYTES]);
/** Removes every state but that. */
void kv_home_clean(const char *directory, uint64_t number);
void kv_home_folder(const char *directory, uint64_t number, char out[PATH_MAX]);
/** A folder with the files in it. */
void kv_home_remove(const char *folder);
/** Makes names in the directory durable. */
bool kv_home_sync(const char *directory);

/* ---- rocks_restore.c: the files of a new state ---- */

/* A state that is being built, by one thread at a time. */
struct kv_restore {
    char folder[PATH_MAX];
    uint64_t number;
    const rocksdb_options_t *options;
    struct ls_cursor anchor;
    struct kv_stand stand;
    rocksdb_envoptions_t *env;
    rocksdb_sstfilewriter_t *file; /* NULL: none is open */
    uint64_t file_bytes;
    size_t files;
    uint64_t last_hash;
    struct kv_buffer last; /* the key before */
    struct kv_buffer key;
    bool built;                        /* it needs no more than the switch */
    char trouble[LS_ERROR_TEXT_BYTES]; /* why it failed */
};

/** errors LS_ERR_NO_MEMORY, LS_ERR_IO */
LS_NODISCARD enum ls_status kv_restore_open(const char *directory, uint64_t number,
                                            const rocksdb_options_t *options,
                                            struct ls_cursor anchor, struct kv_restore **out);
/** errors LS_ERR_INVALID, LS_ERR_NO_MEMORY, LS_ERR_IO */
LS_NODISCARD enum ls_status kv_restore_item(struct kv_restore *restore, struct ls_span key,
                                            struct ls_span value);
/** All is durable in its folder afterwards. errors LS_ERR_IO, LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status kv_restore_build(struct kv_restore *restore,
                                             const char owner[KV_OWNER_BYTES]);
/** Takes NULL; `remove` its folder, too. */
void kv_restore_close(struct kv_restore *restore, bool remove);

/* ---- rocks_builder.c ---- */

struct kv_builder;

/** Begins a new state in a folder of that number, and the thread, which waits for the end of the
 * `former` one and closes it. directory, options: as long as it. errors LS_ERR_NO_MEMORY,
 * LS_ERR_BUSY (too many were given up and still run) */
LS_NODISCARD enum ls_status kv_builder_open(const char *directory, uint64_t number,
                                            const rocksdb_options_t *options,
                                            const char owner[KV_OWNER_BYTES],
                                            struct ls_cursor anchor, struct kv_builder **former,
                                            struct kv_builder **out);
struct ls_cursor kv_builder_anchor(const struct kv_builder *builder);
/** errors LS_ERR_BUSY (again later), LS_ERR_NO_MEMORY, and what the thread met before */
LS_NODISCARD enum ls_status kv_builder_item(struct kv_builder *builder, struct ls_span key,
                                            struct ls_span value);
/** No more items come: all becomes durable. errors LS_ERR_BUSY (not yet), and what the thread met
 */
LS_NODISCARD enum ls_status kv_builder_finish(struct kv_builder *builder);
/** The new state, open, once it is finished: whoever takes it closes it. */
struct kv_state *kv_builder_take(struct kv_builder *builder);
/** Gives it up: the thread ends when it can, and unless the state was taken, its folder goes, too.
 * Waits for nothing; only closing is left to do. */
void kv_builder_stop(struct kv_builder *builder);
/** Takes NULL. The same, and waits for the thread. */
void kv_builder_close(struct kv_builder *builder);

#endif
