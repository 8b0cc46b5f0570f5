/* SPDX-License-Identifier: MIT */
/*
 * Pictures of the state. A freeze seals the active layer and does nothing else: no file is touched
 * and nobody is waited for. Until the layers of a picture are written, it is they and RocksDB
 * together; nothing newer gets into RocksDB meanwhile. As soon as they are, and before anything
 * newer is, it becomes a snapshot of RocksDB, and the layers are free.
 */
#include "rocks.h"

#include <stdlib.h>

#include "kv_limits.h"
#include "picture.h"
#include "text.h"

static rocksdb_readoptions_t *read_options(void)
{
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(read, 0); /* it is for those who ask again */
    rocksdb_readoptions_set_readahead_size(read, KV_ROCKSDB_READAHEAD_BYTES);
    return read;
}

/* From here on it needs no layers. */
static void snapshot_take(struct kv_frozen *frozen)
{
    (void)kv_walks_close(&frozen->walks, frozen->state);
    frozen->top = NULL;
    frozen->snapshot = rocksdb_create_snapshot(frozen->state->db);
    rocksdb_readoptions_set_snapshot(frozen->read, frozen->snapshot);
}

enum ls_status kv_state_freeze(struct kv_state *state, struct ls_frozen *out)
{
    LS_ASSERT(state->fresh.count == 0);
    if (state->trouble[0] != '\0' || state->spoiled) {
        return LS_ERR_IO;
    }
    struct kv_frozen *frozen = calloc(1, sizeof *frozen);
    if (frozen == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    enum ls_status status = state->active->dirty ? kv_state_seal(state) : LS_OK;
    if (status != LS_OK) {
        free(frozen);
        return status;
    }
    frozen->state = state;
    frozen->read = read_options();
    frozen->top = state->active->below;
    if (frozen->top == NULL || frozen->top->written) {
        snapshot_take(frozen);
    }
    frozen->next = state->frozen;
    state->frozen = frozen;
    *out = (struct ls_frozen){frozen, state->stand.count,
                              kv_picture_bytes(state->stand.count, state->stand.bytes)};
    return LS_OK;
}

void kv_frozen_written(struct kv_state *state, const struct kv_layer *layer)
{
    for (struct kv_frozen *frozen = state->frozen; frozen != NULL; frozen = frozen->next) {
        if (frozen->top == layer) {
            snapshot_take(frozen);
        }
    }
}

void kv_frozen_walks_close(struct kv_state *state)
{
    for (struct kv_frozen *frozen = state->frozen; frozen != NULL; frozen = frozen->next) {
        if (frozen->top != NULL) {
            (void)kv_walks_close(&frozen->walks, state);
        }
    }
}

/* Stands at `key`, which is usually where the last call stopped. */
static enum ls_status walks_seek(struct kv_frozen *frozen, struct ls_span key)
{
    struct kv_walks *walks = &frozen->walks;
    if (walks->at != NULL && walks->at->key.bytes == key.bytes &&
        memcmp(walks->at->key.data, key.data, key.bytes) == 0) {
        return LS_OK;
    }
    (void)kv_walks_close(walks, frozen->state);
    return kv_walks_open(walks, frozen->state, frozen->top, frozen->read, kv_key_hash(key), key);
}

enum ls_status kv_frozen_iterate(struct kv_frozen *frozen, struct kv_buffer *buffer,
                                 struct ls_span from, ls_item_visit visit, void *arg)
{
    struct kv_state *state = frozen->state;
    struct kv_walks *walks = &frozen->walks;
    struct ls_span key = {0};
    enum ls_status status = LS_OK;
    if (state->trouble[0] != '\0') {
        return LS_ERR_IO;
    }
    if (from.bytes == 0) {
        (void)kv_walks_close(walks, state);
        status = kv_walks_open(walks, state, frozen->top, frozen->read, 0, key);
    } else {
        status = kv_picture_key_read(from, &key) ? walks_seek(frozen, key) : LS_ERR_INVALID;
    }
    while (status == LS_OK && walks->at != NULL) {
        const struct ls_item item = {kv_picture_key(buffer, walks->at->key), kv_walks_value(walks)};
        if (item.key.data == NULL) {
            status = LS_ERR_NO_MEMORY;
        } else if (!visit(arg, &item)) {
            break;
        } else {
            kv_walks_next(walks);
        }
    }
    if (status != LS_OK || walks->at == NULL || kv_walks_database_ended(walks)) {
        enum ls_status closed = kv_walks_close(walks, state); /* tells of what could not be read */
        status = status == LS_OK ? closed : status;
    }
    return status;
}

void kv_frozen_thaw(struct kv_frozen *frozen)
{
    struct kv_state *state = frozen->state;
    struct kv_frozen **at = &state->frozen;
    while (*at != frozen) {
        at = &(*at)->next;
    }
    *at = frozen->next;
    (void)kv_walks_close(&frozen->walks, state);
    if (frozen->snapshot != NULL) {
        rocksdb_release_snapshot(state->db, frozen->snapshot);
    }
    rocksdb_readoptions_destroy(frozen->read);
    free(frozen);
}
