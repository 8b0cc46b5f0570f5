/* SPDX-License-Identifier: MIT */
/*
 * The store over RocksDB.
 *
 * What batches write is kept in layers in front of RocksDB and written a layer at a time, by a
 * thread of its own (layer.h). A plain SET of a key that the layers do not know says nothing about
 * the number of keys; which of these keys are new is asked of RocksDB at the end of the batch, for
 * all of them at once.
 *
 * RocksDB's own log is not used: the group's log is the log. What survives kill -9 or a power cut
 * is the last layer written, always a whole number of batches, and the applied index in it says
 * from where the group's log has to be applied again.
 *
 * A new state is restored beside the present one (rocks.h). The old one goes in a thread of its
 * own, when nobody looks at a picture of it any more.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "crash.h"
#include "kv_limits.h"
#include "picture.h"
#include "rocks.h"
#include "text.h"

struct rocks_store {
    char *directory;
    rocksdb_options_t *options;
    char owner[KV_OWNER_BYTES];
    struct kv_state *now;
    struct kv_builder *builder; /* of a new state; NULL: none */
    struct kv_builder *former;  /* that was given up, and not closed yet */
    /* states whose place another one took */
    struct kv_state *retired;
    struct kv_state *dropped; /* ... by the thread; NULL: it does not run */
    pthread_t dropper;
    struct kv_buffer key;
};

static struct kv_state *now_of(void *self)
{
    return ((struct rocks_store *)self)->now;
}

/* ---- layers ---- */

static uint64_t clock_ms(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000u + (uint64_t)at.tv_nsec / 1000000u;
}

/* Whether it is time to write the active layer. */
static bool layer_due(const struct kv_layer *layer)
{
    return layer->dirty && (layer->cleared || layer->log_bytes >= KV_LAYER_LOG_BYTES ||
                            kv_table_bytes(&layer->items) >= KV_LAYER_BYTES ||
                            clock_ms() - layer->since_ms >= KV_LAYER_MS);
}

/* It is sealed when the writer has nothing else to do. */
static void layer_change(struct kv_state *state)
{
    kv_state_work(state, false);
    if (state->writing == NULL && state->trouble[0] == '\0' && layer_due(state->active) &&
        kv_state_seal(state) == LS_OK) {
        kv_state_work(state, false);
    }
}

static bool rocks_full(void *self)
{
    const struct kv_state *state = now_of(self);
    return kv_table_bytes(&state->active->items) >= KV_LAYER_BYTES_MAX ||
           kv_state_bytes(state) >= 2 * (size_t)KV_LAYER_BYTES_MAX;
}

static enum ls_status rocks_begin(void *self)
{
    struct kv_state *state = now_of(self);
    layer_change(state);
    if (state->trouble[0] != '\0') {
        return LS_ERR_IO;
    }
    return rocks_full(self) ? LS_ERR_BUSY : LS_OK;
}

/* ---- lookups ---- */

/* A key as the layers in memory have it, from `layer` downwards, or NULL. `deeper`: RocksDB may
 * know it. */
static const struct kv_item *layers_find(const struct kv_layer *layer, uint64_t hash,
                                         struct ls_span key, bool *deeper)
{
    const struct kv_item *item = NULL;
    *deeper = true;
    for (; layer != NULL && item == NULL && *deeper; layer = layer->below) {
        item = kv_table_find(&layer->items, hash, key);
        *deeper = item == NULL && !layer->cleared;
    }
    return item;
}

/* RocksDB holds keys, as far as is known. */
static bool anything_written(const struct kv_state *state)
{
    return state->durable.count > 0 || state->active->below != NULL;
}

static enum ls_status rocks_lookup(struct kv_state *state, uint64_t hash, struct ls_span key,
                                   struct ls_span *value)
{
    bool deeper = false;
    const struct kv_item *item = layers_find(state->active, hash, key, &deeper);
    if (item != NULL) {
        *value = kv_item_value(item);
        return item->gone ? LS_ERR_NOT_FOUND : LS_OK;
    }
    if (!deeper) {
        return LS_ERR_NOT_FOUND;
    }
    struct ls_span record = kv_record_key(&state->key, hash, key);
    if (record.data == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    kv_state_release(state);
    char *text = NULL;
    state->pinned = rocksdb_get_pinned(state->db, state->read, record.data, record.bytes, &text);
    if (text != NULL) {
        return kv_state_failed(state, "read", text);
    }
    if (state->pinned == NULL) {
        return LS_ERR_NOT_FOUND;
    }
    value->data = rocksdb_pinnableslice_value(state->pinned, &value->bytes);
    return LS_OK;
}

static void rocks_prefetch(void *self, uint64_t hash, bool near)
{
    const struct kv_state *state = now_of(self);
    kv_table_prefetch(&state->active->items, hash, near);
    if (state->active->below != NULL) {
        kv_table_prefetch(&state->active->below->items, hash, near);
    }
}

static enum ls_status rocks_get(void *self, struct ls_span key, struct ls_span *value)
{
    return rocks_lookup(now_of(self), kv_key_hash(key), key, value);
}

/* ---- writes ---- */

static bool fresh_reserve(struct kv_fresh *fresh)
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
    struct kv_state *state = now_of(self);
    struct kv_layer *active = state->active;
    uint64_t hash = kv_key_hash(key);
    struct kv_before before;
    if (!fresh_reserve(&state->fresh)) {
        return LS_ERR_NO_MEMORY;
    }
    const struct kv_item *item = kv_table_upsert(&active->items, hash, key, value, &before);
    if (item == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    active->log_bytes += key.bytes + value.bytes;
    if (before.was == KV_WAS_NOTHING && !active->cleared) {
        bool deeper = false;
        const struct kv_item *below = layers_find(active->below, hash, key, &deeper);
        if (below != NULL) {
            before.was = below->gone ? KV_WAS_GONE : KV_WAS_PRESENT;
            before.value_bytes = below->gone ? 0 : below->value_bytes;
        } else if (deeper) {
            state->fresh.items[state->fresh.count++] = item;
        }
    }
    state->stand.count += before.was == KV_WAS_PRESENT ? 0 : 1;
    state->stand.bytes += before.was == KV_WAS_PRESENT ? 0 : key.bytes;
    state->stand.bytes += value.bytes - before.value_bytes;
    return LS_OK;
}

static enum ls_status rocks_remove(void *self, struct ls_span key)
{
    struct kv_state *state = now_of(self);
    uint64_t hash = kv_key_hash(key);
    struct ls_span value = {NULL, 0};
    enum ls_status status = rocks_lookup(state, hash, key, &value);
    if (status == LS_OK) {
        size_t value_bytes = value.bytes; /* the loan ends */
        status = kv_table_bury(&state->active->items, hash, key);
        state->active->log_bytes += key.bytes;
        state->stand.count -= status == LS_OK ? 1 : 0;
        state->stand.bytes -= status == LS_OK ? key.bytes + value_bytes : 0;
    }
    return status;
}

static enum ls_status rocks_clear(void *self)
{
    struct kv_state *state = now_of(self);
    kv_table_clear(&state->active->items);
    state->active->cleared = true;
    state->fresh.count = 0;
    state->stand.count = state->stand.bytes = 0;
    return LS_OK;
}

static uint64_t rocks_count(void *self)
{
    const struct kv_state *state = now_of(self);
    LS_ASSERT(state->fresh.count == 0);
    return state->stand.count;
}

static int fresh_compare(const void *left, const void *right)
{
    const struct kv_item *a = *(const struct kv_item *const *)left;
    const struct kv_item *b = *(const struct kv_item *const *)right;
    return kv_key_order(a->hash, kv_item_key(a), b->hash, kv_item_key(b));
}

/* Asks RocksDB for some keys, in its order; adds up how many it has, and their bytes. */
static enum ls_status fresh_look(struct kv_state *state, const struct kv_item **items, size_t count,
                                 struct kv_stand *found)
{
    const char *keys[KV_LOOKUP_KEYS_MAX];
    size_t bytes[KV_LOOKUP_KEYS_MAX];
    rocksdb_pinnableslice_t *values[KV_LOOKUP_KEYS_MAX];
    char *texts[KV_LOOKUP_KEYS_MAX];
    kv_buffer_reset(&state->key, SIZE_MAX);
    for (size_t i = 0; i < count; i++) {
        char prefix[KV_RECORD_PREFIX_BYTES] = {'k'};
        kv_be64_store(prefix + 1, items[i]->hash);
        kv_buffer_append(&state->key, prefix, sizeof prefix);
        kv_buffer_append(&state->key, items[i]->bytes, items[i]->key_bytes);
        bytes[i] = sizeof prefix + items[i]->key_bytes;
    }
    if (state->key.failed) {
        return LS_ERR_NO_MEMORY;
    }
    const char *at = kv_buffer_span(&state->key).data;
    for (size_t i = 0; i < count; at += bytes[i++]) {
        keys[i] = at;
    }
    rocksdb_batched_multi_get_cf(state->db, state->read, state->family, count, keys, bytes, values,
                                 texts, 1);
    enum ls_status status = LS_OK;
    for (size_t i = 0; i < count; i++) {
        if (values[i] != NULL) {
            size_t value_bytes = 0;
            (void)rocksdb_pinnableslice_value(values[i], &value_bytes);
            found->count++;
            found->bytes += items[i]->key_bytes + value_bytes;
        }
        rocksdb_pinnableslice_destroy(values[i]);
        if (texts[i] != NULL) {
            status = kv_state_failed(state, "read", texts[i]);
        }
    }
    return status;
}

/* Corrects number and bytes of keys by those fresh ones that were there before. */
static enum ls_status fresh_settle(struct kv_state *state)
{
    struct kv_fresh *fresh = &state->fresh;
    enum ls_status status = LS_OK;
    struct kv_stand found = {0};
    if (fresh->count > 0 && anything_written(state)) {
        qsort(fresh->items, fresh->count, sizeof(void *), fresh_compare);
        for (size_t at = 0; at < fresh->count && status == LS_OK; at += KV_LOOKUP_KEYS_MAX) {
            size_t rest = fresh->count - at;
            status = fresh_look(state, fresh->items + at,
                                rest < KV_LOOKUP_KEYS_MAX ? rest : KV_LOOKUP_KEYS_MAX, &found);
        }
    }
    fresh->count = 0;
    if (status == LS_OK) {
        LS_ASSERT(found.count <= state->stand.count && found.bytes <= state->stand.bytes);
        state->stand.count -= found.count;
        state->stand.bytes -= found.bytes;
    }
    return status;
}

static void rocks_rollback(void *self)
{
    struct kv_state *state = now_of(self);
    state->fresh.count = 0;
    state->spoiled = true;
}

static enum ls_status rocks_commit(void *self, ls_index applied)
{
    struct kv_state *state = now_of(self);
    kv_state_release(state);
    enum ls_status status = state->trouble[0] != '\0' ? LS_ERR_IO : fresh_settle(state);
    if (status != LS_OK) {
        rocks_rollback(self);
        return status;
    }
    struct kv_layer *active = state->active;
    active->since_ms = active->dirty ? active->since_ms : clock_ms();
    active->dirty = true;
    state->stand.applied = applied;
    active->stand = state->stand;
    layer_change(state);
    return LS_OK;
}

static ls_index rocks_durable(void *self)
{
    struct kv_state *state = now_of(self);
    if (state->fresh.count == 0) { /* between two batches */
        layer_change(state);
    }
    return state->durable.applied;
}

static const char *rocks_trouble(void *self)
{
    struct kv_state *state = now_of(self);
    kv_state_work(state, false);
    return state->trouble[0] == '\0' ? NULL : state->trouble;
}

/* ---- scan ---- */

static enum ls_status rocks_scan(void *self, uint64_t cursor, uint64_t *next, uint32_t keys,
                                 kv_store_visit visit, void *arg)
{
    struct kv_state *state = now_of(self);
    LS_ASSERT(state->fresh.count == 0);
    *next = 0;
    if (cursor > (uint64_t)INT64_MAX) {
        return LS_OK; /* behind every hash */
    }
    struct kv_walks walks;
    uint32_t seen = 0;
    uint64_t last = 0;
    enum ls_status status =
        kv_walks_open(&walks, state, state->active, state->read, cursor, (struct ls_span){0});
    for (; status == LS_OK && walks.at != NULL; kv_walks_next(&walks)) {
        if (seen >= keys && walks.at->hash != last) {
            *next = last + 1;
            break;
        }
        visit(arg, walks.at->key);
        last = walks.at->hash;
        seen++;
    }
    return status == LS_OK ? kv_walks_close(&walks, state) : status;
}

/* ---- snapshots ---- */

static enum ls_status rocks_freeze(void *self, struct ls_frozen *out)
{
    return kv_state_freeze(now_of(self), out);
}

static enum ls_status rocks_iterate(void *self, const struct ls_frozen *frozen, struct ls_span from,
                                    ls_item_visit visit, void *arg)
{
    struct rocks_store *store = self;
    struct kv_frozen *picture = frozen->handle;
    kv_state_work(picture->state, false);
    return kv_frozen_iterate(picture, &store->key, from, visit, arg);
}

static void *drop_run(void *arg)
{
    struct kv_state *state = arg;
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", state->folder);
    kv_state_close(state, false);
    kv_home_remove(folder);
    KV_CRASH("switch.cleaned");
    return NULL;
}

static void drop_wait(struct rocks_store *store)
{
    if (store->dropped != NULL) {
        (void)pthread_join(store->dropper, NULL);
        store->dropped = NULL;
    }
}

/* Closing a large state and removing its files takes a while: not on the loop's thread. */
static void drop_start(struct rocks_store *store, struct kv_state *state)
{
    sigset_t all;
    sigset_t before;
    drop_wait(store);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&store->dropper, NULL, drop_run, state) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) {
        store->dropped = state;
    } else {
        (void)drop_run(state);
    }
}

/* Drops the retired states of which there is no picture any more. */
static void retired_sweep(struct rocks_store *store)
{
    for (struct kv_state **at = &store->retired; *at != NULL;) {
        struct kv_state *state = *at;
        if (state->frozen != NULL) {
            at = &state->next;
            continue;
        }
        *at = state->next;
        drop_start(store, state);
    }
}

static void rocks_thaw(void *self, struct ls_frozen *frozen)
{
    struct rocks_store *store = self;
    kv_frozen_thaw(frozen->handle);
    *frozen = (struct ls_frozen){0};
    retired_sweep(store);
}

static void rocks_restore_end(void *self)
{
    struct rocks_store *store = self;
    if (store->builder != NULL) {
        LS_ASSERT(store->former == NULL);
        kv_builder_stop(store->builder);
        store->former = store->builder;
        store->builder = NULL;
    }
}

static enum ls_status rocks_restore(void *self, struct ls_cursor anchor)
{
    struct rocks_store *store = self;
    rocks_restore_end(store);
    return kv_builder_open(store->directory, store->now->number + 1, store->options, store->owner,
                           anchor, &store->former, &store->builder);
}

static enum ls_status rocks_restore_item(void *self, const struct ls_item *item)
{
    struct rocks_store *store = self;
    struct ls_span key;
    if (store->builder == NULL || !kv_picture_item_read(item, &key)) {
        return LS_ERR_INVALID;
    }
    return kv_builder_item(store->builder, key, item->value);
}

static enum ls_status rocks_restore_sync(void *self)
{
    struct rocks_store *store = self;
    return store->builder == NULL ? LS_ERR_INVALID : kv_builder_finish(store->builder);
}

/* The old one goes when nobody looks at it any more. */
static void state_replace(struct rocks_store *store, struct kv_state *state)
{
    struct kv_state *old = store->now;
    store->now = state;
    kv_state_release(old);
    old->next = store->retired;
    store->retired = old;
    retired_sweep(store);
}

static enum ls_status rocks_publish(void *self, struct ls_cursor anchor)
{
    struct rocks_store *store = self;
    char why[LS_ERROR_TEXT_BYTES] = "";
    bool moved = false;
    if (store->builder == NULL) {
        return store->now->durable.applied == anchor.index ? LS_OK : LS_ERR_INVALID;
    }
    if (kv_builder_anchor(store->builder).index != anchor.index) {
        return LS_ERR_INVALID;
    }
    enum ls_status status = kv_builder_finish(store->builder);
    if (status != LS_OK) {
        return status;
    }
    status = kv_home_switch(store->directory, store->now->number + 1, &moved, why);
    if (status == LS_OK || moved) {
        state_replace(store, kv_builder_take(store->builder));
        rocks_restore_end(store);
    }
    /* a name that has changed may yet change back: nothing can be promised any more */
    return status == LS_OK ? LS_OK : kv_state_fail(store->now, "", why);
}

/* ---- open and close ---- */

static enum ls_status rocks_open(void *self, const struct ls_group_id *group,
                                 const struct ls_incarnation *incarnation, ls_index *applied,
                                 struct ls_error *error)
{
    struct rocks_store *store = self;
    char folder[PATH_MAX];
    uint64_t number = 0;
    (void)memcpy(store->owner, group->bytes, 32);
    (void)memcpy(store->owner + 32, incarnation->bytes, 16);
    bool named = false;
    enum ls_status status = kv_home_read(store->directory, &number, &named, error);
    if (status == LS_OK && named && !kv_home_sync(store->directory)) {
        /* who switched may have ended before: the other state goes only when this one is named */
        status = ls_error_set(error, LS_ERR_IO, "state %s: it cannot be synced", store->directory);
    }
    if (status != LS_OK) {
        return status;
    }
    number = number == 0 ? 1 : number;
    kv_home_folder(store->directory, number, folder);
    struct kv_state *state = NULL;
    status = kv_state_open(folder, store->options, &state, error);
    if (status != LS_OK) {
        return status;
    }
    state->number = number;
    status = kv_state_bind(state, store->owner, error);
    if (status == LS_OK && !named) {
        char why[LS_ERROR_TEXT_BYTES] = "";
        bool moved = false;
        status = kv_home_switch(store->directory, number, &moved, why);
        status = status == LS_OK ? status : ls_error_set(error, status, "%s", why);
    }
    if (status != LS_OK) {
        kv_state_close(state, false);
        return status;
    }
    kv_home_clean(store->directory, number);
    store->now = state;
    *applied = state->durable.applied;
    return LS_OK;
}

static void rocks_close(void *self)
{
    struct rocks_store *store = self;
    rocks_restore_end(store);
    kv_builder_close(store->former);
    kv_state_close(store->now, true);
    retired_sweep(store);
    drop_wait(store);
    LS_ASSERT(store->retired == NULL);
    rocksdb_options_destroy(store->options);
    kv_buffer_free(&store->key);
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
    if (store->directory == NULL) {
        free(store);
        return LS_ERR_NO_MEMORY;
    }
    store->options = kv_rocks_options();
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
                             .freeze = rocks_freeze,
                             .iterate = rocks_iterate,
                             .thaw = rocks_thaw,
                             .restore = rocks_restore,
                             .restore_item = rocks_restore_item,
                             .publish = rocks_publish,
                             .restore_end = rocks_restore_end,
                             .restore_sync = rocks_restore_sync,
                             .trouble = rocks_trouble,
                             .close = rocks_close};
    return LS_OK;
}
