/* SPDX-License-Identifier: MIT */
/*
 * The format of snapshots (lockstep/snapshot.h): items into chunks and back, hashes and the root.
 * Used by the provider, the session, and by machine/ for the files of a group.
 */
#include "note.h"

#include <lockstep/snapshot.h>

static void put32(uint8_t *out, uint64_t value)
{
    LS_ASSERT(value <= UINT32_MAX);
    for (size_t i = 0; i < 4; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

static size_t get32(const uint8_t *in)
{
    return (size_t)in[0] | (size_t)in[1] << 8 | (size_t)in[2] << 16 | (size_t)in[3] << 24;
}

static void put64(uint8_t *out, uint64_t value)
{
    for (size_t i = 0; i < 8; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

const char *ls_item_invalid(const struct ls_item *item)
{
    if (item->key.bytes == 0) {
        return "the key of an item is empty"; /* it means the first one, where a key is asked for */
    }
    if (item->key.bytes > LS_ITEM_KEY_BYTES_MAX) {
        return "the key of an item is too long";
    }
    if (item->value.bytes > LS_ITEM_BYTES_MAX - LS_ITEM_HEAD_BYTES - item->key.bytes) {
        return "an item is too large";
    }
    return NULL;
}

/* A power of two, so that a state that grows a little is cut in the same places. */
size_t ls_snapshot_chunk_bytes(uint64_t bytes)
{
    size_t chunk = LS_SNAPSHOT_CHUNK_BYTES_MIN;
    while (chunk < LS_SNAPSHOT_CHUNK_BYTES_MAX && bytes / chunk > LS_SNAPSHOT_CHUNKS_USUAL) {
        chunk *= 2;
    }
    return chunk;
}

bool ls_chunk_next(struct ls_span chunk, size_t *at, struct ls_item *item)
{
    LS_ASSERT(*at <= chunk.bytes);
    size_t left = chunk.bytes - *at;
    if (left < LS_ITEM_HEAD_BYTES) {
        return false;
    }
    const uint8_t *head = (const uint8_t *)chunk.data + *at;
    item->key = (struct ls_span){head + LS_ITEM_HEAD_BYTES, get32(head)};
    item->value.bytes = get32(head + 4);
    left -= LS_ITEM_HEAD_BYTES;
    if (item->key.bytes > left || item->value.bytes > left - item->key.bytes) {
        return false;
    }
    item->value.data = head + LS_ITEM_HEAD_BYTES + item->key.bytes;
    if (ls_item_invalid(item) != NULL) {
        return false;
    }
    *at += LS_ITEM_HEAD_BYTES + item->key.bytes + item->value.bytes;
    return true;
}

static struct ls_span text(const char *words)
{
    return (struct ls_span){words, strlen(words)};
}

struct ls_hash ls_chunk_hash(const struct ls_env *env, struct ls_span chunk)
{
    struct ls_hash hash;
    const struct ls_span parts[] = {text("lockstep-chunk/1"), chunk};
    env->hash(env->self, parts, 2, hash.bytes);
    return hash;
}

struct ls_hash ls_snapshot_root(const struct ls_env *env, const struct ls_snapshot *snapshot,
                                const struct ls_hash *hashes)
{
    struct ls_hash root;
    uint8_t numbers[7 * 8];
    put64(numbers, snapshot->anchor.term);
    put64(numbers + 8, snapshot->anchor.index);
    put64(numbers + 16, snapshot->configuration_index);
    put64(numbers + 24, snapshot->items);
    put64(numbers + 32, snapshot->bytes);
    put64(numbers + 40, snapshot->chunks);
    put64(numbers + 48, snapshot->configuration.bytes);
    const struct ls_span parts[] = {text("lockstep-snapshot/1"),
                                    {numbers, sizeof numbers},
                                    snapshot->configuration,
                                    {hashes, snapshot->chunks * sizeof *hashes}};
    env->hash(env->self, parts, sizeof parts / sizeof parts[0], root.bytes);
    return root;
}

/* ---- cutting --------------------------------------------------------------------------------- */

/* a builder's blocks begin with so much */
#define ROOM_BYTES 4096u

void ls_chunk_begin(struct ls_chunk_builder *builder)
{
    builder->bytes = 0;
    builder->items = builder->item_bytes = 0;
    builder->full = false;
    builder->failed = LS_OK;
}

static void copy(uint8_t *to, struct ls_span from)
{
    if (from.bytes > 0) {
        memcpy(to, from.data, from.bytes);
    }
}

bool ls_chunk_visit(void *arg, const struct ls_item *item)
{
    struct ls_chunk_builder *builder = arg;
    if (ls_item_invalid(item) != NULL) {
        builder->failed = LS_ERR_INVALID;
        return false;
    }
    size_t need = LS_ITEM_HEAD_BYTES + item->key.bytes + item->value.bytes;
    bool fits = builder->items == 0 || builder->bytes + need <= builder->bytes_max;
    const struct ls_env *env = builder->env;
    bool room =
        fits ? ls__grow(env, ROOM_BYTES, &builder->data, &builder->capacity, builder->bytes + need)
             : ls__grow(env, ROOM_BYTES, &builder->next, &builder->next_capacity, item->key.bytes);
    if (!room) {
        builder->failed = LS_ERR_NO_MEMORY;
        return false;
    }
    if (!fits) {
        builder->full = true;
        builder->next_bytes = item->key.bytes;
        copy(builder->next, item->key);
        return false;
    }
    uint8_t *at = builder->data + builder->bytes;
    put32(at, item->key.bytes);
    put32(at + 4, item->value.bytes);
    copy(at + LS_ITEM_HEAD_BYTES, item->key);
    copy(at + LS_ITEM_HEAD_BYTES + item->key.bytes, item->value);
    builder->bytes += need;
    builder->items++;
    builder->item_bytes += item->key.bytes + item->value.bytes;
    return true;
}

void ls_chunk_builder_free(struct ls_chunk_builder *builder)
{
    ls__free(builder->env, builder->data);
    ls__free(builder->env, builder->next);
    *builder = (struct ls_chunk_builder){.env = builder->env, .bytes_max = builder->bytes_max};
}
