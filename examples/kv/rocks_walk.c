/* SPDX-License-Identifier: MIT */
/* Keys of layers and RocksDB together, in order: of several records of a key the upper one counts.
 */
#include "rocks.h"

#include "text.h"

static void walk_look(struct kv_walk *walk)
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

static void walk_next(struct kv_walk *walk)
{
    if (walk->table != NULL) {
        walk->item = kv_table_next(walk->table, walk->item);
    } else {
        rocksdb_iter_next(walk->iterator);
    }
    walk_look(walk);
}

static int walk_order(const struct kv_walk *left, const struct kv_walk *right)
{
    return kv_key_order(left->hash, left->key, right->hash, right->key);
}

/* Behind the present key, in all of them. */
static void step(struct kv_walks *walks)
{
    struct kv_walk *at = walks->at;
    for (struct kv_walk *other = at + 1; other < walks->of + walks->count; other++) {
        if (other->valid && walk_order(other, at) == 0) {
            walk_next(other);
        }
    }
    walk_next(at);
}

/* Finds the present key: the first that is not gone. */
static void settle(struct kv_walks *walks)
{
    struct kv_walk *end = walks->of + walks->count;
    do {
        if (walks->at != NULL) {
            step(walks);
        }
        walks->at = NULL;
        for (struct kv_walk *walk = walks->of; walk < end; walk++) {
            if (walk->valid && (walks->at == NULL || walk_order(walk, walks->at) < 0)) {
                walks->at = walk;
            }
        }
    } while (walks->at != NULL && walks->at->gone);
}

enum ls_status kv_walks_open(struct kv_walks *walks, struct kv_state *state,
                             const struct kv_layer *top, const rocksdb_readoptions_t *read,
                             uint64_t hash, struct ls_span key)
{
    bool deeper = true;
    *walks = (struct kv_walks){0};
    for (const struct kv_layer *layer = top; layer != NULL && deeper; layer = layer->below) {
        const struct kv_table *table = &layer->items;
        LS_ASSERT(walks->count <= KV_LAYERS_MAX);
        walks->of[walks->count] =
            (struct kv_walk){.table = table, .item = kv_table_seek_key(table, hash, key)};
        walk_look(&walks->of[walks->count++]);
        deeper = !layer->cleared;
    }
    if (deeper) {
        struct ls_span record = kv_record_key(&state->key, hash, key);
        if (record.data == NULL) {
            *walks = (struct kv_walks){0};
            return LS_ERR_NO_MEMORY;
        }
        struct kv_walk *walk = &walks->of[walks->count++];
        *walk = (struct kv_walk){.iterator = rocksdb_create_iterator(state->db, read)};
        rocksdb_iter_seek(walk->iterator, record.data, record.bytes);
        walk_look(walk);
    }
    settle(walks);
    return LS_OK;
}

void kv_walks_next(struct kv_walks *walks)
{
    LS_ASSERT(walks->at != NULL);
    settle(walks);
}

bool kv_walks_database_ended(const struct kv_walks *walks)
{
    const struct kv_walk *last = &walks->of[walks->count - 1];
    return walks->count > 0 && last->iterator != NULL && !last->valid;
}

struct ls_span kv_walks_value(const struct kv_walks *walks)
{
    const struct kv_walk *at = walks->at;
    if (at->table != NULL) {
        return kv_item_value(at->item);
    }
    struct ls_span value;
    value.data = rocksdb_iter_value(at->iterator, &value.bytes);
    return value;
}

enum ls_status kv_walks_close(struct kv_walks *walks, struct kv_state *state)
{
    char *text = NULL;
    rocksdb_iterator_t *iterator = walks->count == 0 ? NULL : walks->of[walks->count - 1].iterator;
    if (iterator != NULL) {
        rocksdb_iter_get_error(iterator, &text);
        rocksdb_iter_destroy(iterator);
    }
    walks->count = 0;
    walks->at = NULL;
    return text == NULL ? LS_OK : kv_state_failed(state, "scan", text);
}
