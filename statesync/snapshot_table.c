/* SPDX-License-Identifier: MIT */
/*
 * The table of a snapshot's chunks: hash, counts and first key of each, within a bound of memory.
 */
#include "snapshot_sync.h"

static bool grow(const struct ls_env *env, void **block, size_t bytes)
{
    void *fresh = env->allocate(env->self, *block, bytes);
    if (fresh != NULL) {
        *block = fresh;
    }
    return fresh != NULL;
}

static bool reserve_rows(struct ls__table *table)
{
    if (table->count < table->capacity) {
        return true;
    }
    uint32_t capacity = table->capacity == 0 ? 64u : 2u * table->capacity;
    void *hashes = table->hashes;
    void *rows = table->rows;
    bool hashes_grown = grow(table->env, &hashes, capacity * sizeof *table->hashes);
    table->hashes = hashes;
    bool rows_grown = grow(table->env, &rows, capacity * sizeof *table->rows);
    table->rows = rows;
    table->capacity = hashes_grown && rows_grown ? capacity : table->capacity;
    return hashes_grown && rows_grown;
}

static bool reserve_keys(struct ls__table *table, size_t bytes)
{
    if (table->keys_bytes + bytes <= table->keys_capacity) {
        return true;
    }
    size_t capacity = table->keys_capacity == 0 ? 4096u : table->keys_capacity;
    while (capacity < table->keys_bytes + bytes) {
        capacity *= 2;
    }
    void *keys = table->keys;
    if (!grow(table->env, &keys, capacity)) {
        return false;
    }
    table->keys = keys;
    table->keys_capacity = capacity;
    return true;
}

enum ls_status ls__table_add(struct ls__table *table, const struct ls_hash *hash, uint32_t items,
                             uint32_t bytes, struct ls_span key)
{
    size_t row = sizeof *table->hashes + sizeof *table->rows;
    size_t used = (table->count + 1u) * row + table->keys_bytes + key.bytes;
    if (table->count == LS_SNAPSHOT_CHUNKS_MAX || used > LS_SNAPSHOT_TABLE_BYTES_MAX) {
        return LS_ERR_LIMIT;
    }
    if (!reserve_rows(table) || !reserve_keys(table, key.bytes)) {
        return LS_ERR_NO_MEMORY;
    }
    table->hashes[table->count] = *hash;
    table->rows[table->count] = (struct ls__chunk_row){.items = items,
                                                       .bytes = bytes,
                                                       .key_bytes = (uint32_t)key.bytes,
                                                       .key_at = table->keys_bytes};
    if (key.bytes > 0) {
        memcpy(table->keys + table->keys_bytes, key.data, key.bytes);
    }
    table->keys_bytes += key.bytes;
    table->items += items;
    table->bytes += bytes;
    table->count++;
    return LS_OK;
}

void ls__table_clear(struct ls__table *table)
{
    ls__free(table->env, table->hashes);
    ls__free(table->env, table->rows);
    ls__free(table->env, table->keys);
    *table = (struct ls__table){.env = table->env};
}

struct ls_span ls__table_key(const struct ls__table *table, uint32_t chunk)
{
    LS_ASSERT(chunk < table->count);
    const struct ls__chunk_row *row = &table->rows[chunk];
    return (struct ls_span){row->key_bytes > 0 ? table->keys + row->key_at : NULL, row->key_bytes};
}
