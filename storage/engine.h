/* SPDX-License-Identifier: MIT */
/*
 * The little that the durable store needs of RocksDB: three column families, atomic batches, get
 * and ordered iteration. rocksdb.c is the only file that knows more.
 *
 * Keys:   log    group id (32), index of the first record of a page (u64, big-endian; page.h)
 *         hard   group id
 *         meta   "store"; 'a' group id (anchor); 'c' group id (commit hint)
 *
 * Thread: get and iterate from any thread; one thread at a time writes.
 */
#ifndef LS_STORAGE_ENGINE_H
#define LS_STORAGE_ENGINE_H

#include "record.h"

struct ls__engine;
struct ls__engine_batch;
struct ls__engine_iterator;
struct ls__engine_value;

enum ls__family { LS__FAMILY_LOG = 0, LS__FAMILY_HARD = 1, LS__FAMILY_META = 2 };
#define LS__FAMILIES 3u

#define LS__LOG_KEY_BYTES  40u
#define LS__CELL_KEY_BYTES 33u

/**
 * path    absolute; `create`: it must be new, else it must exist
 * errors  LS_ERR_CORRUPT, LS_ERR_FORMAT, LS_ERR_IO
 */
LS_NODISCARD enum ls_status ls__engine_open(const struct ls_env *env, const char *path, bool create,
                                            uint64_t write_buffer_bytes, struct ls__engine **engine,
                                            struct ls_error *error);
/** No batch, value or iterator may be left. Takes NULL. */
void ls__engine_close(struct ls__engine *engine);

struct ls__engine_batch *ls__engine_batch_open(void);
void ls__engine_batch_close(struct ls__engine_batch *batch);
void ls__engine_batch_clear(struct ls__engine_batch *batch);
/** The value is head and tail, one after the other. */
void ls__engine_batch_put(const struct ls__engine *engine, struct ls__engine_batch *batch,
                          enum ls__family family, struct ls_span key,
                          const struct ls_span value[2]);
/** Removes the pages of a group's log that begin at first..last. */
void ls__engine_batch_remove(const struct ls__engine *engine, struct ls__engine_batch *batch,
                             const struct ls_group_id *id, const ls_index range[2]);

/**
 * Writes the batch whole or not at all; it is durable on return. There are no other writes: that
 * each is synced before the next one begins is what wal.h judges by. errors LS_ERR_IO,
 * LS_ERR_CORRUPT
 */
LS_NODISCARD enum ls_status
ls__engine_write(struct ls__engine *engine, struct ls__engine_batch *batch, struct ls_error *error);

/**
 * value   owned; release with ls__engine_value_release, after which `bytes` is gone
 * errors  LS_ERR_NOT_FOUND, LS_ERR_CORRUPT, LS_ERR_IO
 */
LS_NODISCARD enum ls_status ls__engine_get(struct ls__engine *engine, enum ls__family family,
                                           struct ls_span key, struct ls__engine_value **value,
                                           struct ls_span *bytes, struct ls_error *error);
void ls__engine_value_release(struct ls__engine_value *value);

/** Over the pages of a group's log, from the last one that begins at or before `index`, or else
 * from the first one behind it. NULL: out of memory. */
struct ls__engine_iterator *ls__engine_iterate(struct ls__engine *engine,
                                               const struct ls_group_id *id, ls_index index);
/** The page at the iterator and its index, borrowed until the next call; false at the end or on an
 * error. */
bool ls__engine_iterator_record(struct ls__engine_iterator *iterator, ls_index *index,
                                struct ls_span *bytes);
/** Did it end on an error? Close tells which. */
bool ls__engine_iterator_failed(const struct ls__engine_iterator *iterator);
void ls__engine_iterator_next(struct ls__engine_iterator *iterator);
/** Why it ended, and releases it. errors LS_ERR_CORRUPT, LS_ERR_IO */
LS_NODISCARD enum ls_status ls__engine_iterator_close(struct ls__engine_iterator *iterator,
                                                      struct ls_error *error);

void ls__log_key(const struct ls_group_id *id, ls_index index, uint8_t out[LS__LOG_KEY_BYTES]);
/** Where a cell of a group is kept; the key is in `out`. */
struct ls_span ls__cell_key(const struct ls_group_id *id, enum ls__cell cell,
                            uint8_t out[LS__CELL_KEY_BYTES]);
enum ls__family ls__cell_family(enum ls__cell cell);

#endif
