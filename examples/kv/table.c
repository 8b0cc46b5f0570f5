/* SPDX-License-Identifier: MIT */
/* The ordered hash table. Hashes have 63 bits (kv_key_hash). */
#include "table.h"

#include <stdlib.h>

enum { HASH_BITS = 63, BUCKET_BITS_MIN = 3 };

static size_t shard_of(const struct kv_table *table, uint64_t hash)
{
    return (size_t)(hash >> (HASH_BITS - table->shard_bits));
}

static size_t bucket_of(const struct kv_table *table, const struct kv_shard *shard, uint64_t hash)
{
    uint64_t mask = ((uint64_t)1 << shard->bits) - 1;
    return (size_t)((hash >> (HASH_BITS - table->shard_bits - shard->bits)) & mask);
}

/* The order of (hash, key): <0, 0, >0. */
static int item_compare(const struct kv_item *item, uint64_t hash, struct ls_span key)
{
    if (item->hash != hash) {
        return item->hash < hash ? -1 : 1;
    }
    size_t common = item->key_bytes < key.bytes ? item->key_bytes : key.bytes;
    int order = common == 0 ? 0 : memcmp(item->bytes, key.data, common);
    if (order != 0) {
        return order;
    }
    return item->key_bytes == key.bytes ? 0 : (item->key_bytes < key.bytes ? -1 : 1);
}

/* Where the item is linked, or where it would have to be. */
static struct kv_item **link_find(const struct kv_table *table, const struct kv_shard *shard,
                                  uint64_t hash, struct ls_span key)
{
    struct kv_item **link = &shard->buckets[bucket_of(table, shard, hash)];
    while (*link != NULL && item_compare(*link, hash, key) < 0) {
        link = &(*link)->next;
    }
    return link;
}

static bool link_matches(struct kv_item *const *link, uint64_t hash, struct ls_span key)
{
    return *link != NULL && item_compare(*link, hash, key) == 0;
}

enum ls_status kv_table_open(struct kv_table *table, unsigned shard_bits)
{
    *table = (struct kv_table){.shard_bits = shard_bits};
    table->shards = calloc((size_t)1 << shard_bits, sizeof *table->shards);
    return table->shards == NULL ? LS_ERR_NO_MEMORY : LS_OK;
}

static void shard_clear(struct kv_shard *shard)
{
    for (size_t i = 0; shard->buckets != NULL && i < (size_t)1 << shard->bits; i++) {
        while (shard->buckets[i] != NULL) {
            struct kv_item *item = shard->buckets[i];
            shard->buckets[i] = item->next;
            free(item);
        }
    }
    free(shard->buckets);
    *shard = (struct kv_shard){0};
}

void kv_table_clear(struct kv_table *table)
{
    for (size_t i = 0; table->count > 0 && i < (size_t)1 << table->shard_bits; i++) {
        shard_clear(&table->shards[i]);
    }
    table->count = 0;
}

void kv_table_close(struct kv_table *table)
{
    /* also empty shards have buckets, when they once held items */
    for (size_t i = 0; table->shards != NULL && i < (size_t)1 << table->shard_bits; i++) {
        shard_clear(&table->shards[i]);
    }
    free(table->shards);
    *table = (struct kv_table){0};
}

struct kv_item *kv_table_find(const struct kv_table *table, uint64_t hash, struct ls_span key)
{
    const struct kv_shard *shard = &table->shards[shard_of(table, hash)];
    if (shard->buckets == NULL) {
        return NULL;
    }
    struct kv_item **link = link_find(table, shard, hash, key);
    return link_matches(link, hash, key) ? *link : NULL;
}

/* Doubles the buckets when chains get long; each old bucket splits into two neighbours. */
static enum ls_status shard_reserve(struct kv_table *table, struct kv_shard *shard)
{
    if (shard->buckets != NULL && shard->count < (size_t)1 << shard->bits) {
        return LS_OK;
    }
    struct kv_shard grown = {.bits = shard->buckets == NULL ? BUCKET_BITS_MIN : shard->bits + 1,
                             .count = shard->count};
    grown.buckets = calloc((size_t)1 << grown.bits, sizeof(struct kv_item *));
    if (grown.buckets == NULL) {
        return shard->buckets == NULL ? LS_ERR_NO_MEMORY : LS_OK; /* long chains work, too */
    }
    for (size_t i = 0; shard->buckets != NULL && i < (size_t)1 << shard->bits; i++) {
        struct kv_item **tails[2] = {&grown.buckets[2 * i], &grown.buckets[2 * i + 1]};
        for (struct kv_item *item = shard->buckets[i]; item != NULL;) {
            struct kv_item *next = item->next;
            size_t half = bucket_of(table, &grown, item->hash) & 1;
            item->next = NULL;
            *tails[half] = item;
            tails[half] = &item->next;
            item = next;
        }
    }
    free(shard->buckets);
    *shard = grown;
    return LS_OK;
}

/* A new item that takes the place of *link (NULL: a new place). */
static struct kv_item *item_open(uint64_t hash, struct ls_span key, size_t value_bytes,
                                 size_t capacity)
{
    struct kv_item *item = malloc(sizeof *item + key.bytes + capacity);
    if (item != NULL) {
        *item = (struct kv_item){.hash = hash,
                                 .key_bytes = (uint32_t)key.bytes,
                                 .value_bytes = (uint32_t)value_bytes,
                                 .capacity = (uint32_t)capacity};
        if (key.bytes > 0) {
            (void)memcpy(item->bytes, key.data, key.bytes);
        }
    }
    return item;
}

static enum ls_status item_put(struct kv_table *table, uint64_t hash, struct ls_span key,
                               struct ls_span value)
{
    struct kv_shard *shard = &table->shards[shard_of(table, hash)];
    if (shard_reserve(table, shard) != LS_OK) {
        return LS_ERR_NO_MEMORY;
    }
    struct kv_item **link = link_find(table, shard, hash, key);
    bool present = link_matches(link, hash, key);
    struct kv_item *item = present ? *link : NULL;
    /* in place when it fits without wasting more than half */
    if (!present || item->capacity < value.bytes || item->capacity / 2 > value.bytes) {
        item = item_open(hash, key, value.bytes, value.bytes);
        if (item == NULL) {
            return LS_ERR_NO_MEMORY;
        }
    }
    if (value.bytes > 0) {
        (void)memmove(item->bytes + key.bytes, value.data, value.bytes);
    }
    item->value_bytes = (uint32_t)value.bytes;
    item->gone = false;
    if (!present) {
        item->next = *link;
        *link = item;
        shard->count++;
        table->count++;
    } else if (item != *link) {
        item->next = (*link)->next;
        free(*link);
        *link = item;
    }
    return LS_OK;
}

enum ls_status kv_table_put(struct kv_table *table, uint64_t hash, struct ls_span key,
                            struct ls_span value)
{
    return item_put(table, hash, key, value);
}

enum ls_status kv_table_bury(struct kv_table *table, uint64_t hash, struct ls_span key)
{
    enum ls_status status = item_put(table, hash, key, (struct ls_span){NULL, 0});
    if (status == LS_OK) {
        kv_table_find(table, hash, key)->gone = true;
    }
    return status;
}

bool kv_table_remove(struct kv_table *table, uint64_t hash, struct ls_span key)
{
    struct kv_shard *shard = &table->shards[shard_of(table, hash)];
    if (shard->buckets == NULL) {
        return false;
    }
    struct kv_item **link = link_find(table, shard, hash, key);
    if (!link_matches(link, hash, key)) {
        return false;
    }
    struct kv_item *item = *link;
    *link = item->next;
    free(item);
    shard->count--;
    table->count--;
    return true;
}

/* The first item in or behind a bucket. */
static struct kv_item *first_from(const struct kv_table *table, size_t shard_at, size_t bucket)
{
    for (size_t s = shard_at; s < (size_t)1 << table->shard_bits; s++, bucket = 0) {
        const struct kv_shard *shard = &table->shards[s];
        for (size_t b = bucket; shard->buckets != NULL && b < (size_t)1 << shard->bits; b++) {
            if (shard->buckets[b] != NULL) {
                return shard->buckets[b];
            }
        }
    }
    return NULL;
}

struct kv_item *kv_table_seek(const struct kv_table *table, uint64_t hash)
{
    size_t s = shard_of(table, hash);
    const struct kv_shard *shard = &table->shards[s];
    size_t bucket = shard->buckets == NULL ? 0 : bucket_of(table, shard, hash);
    struct kv_item *item = first_from(table, s, bucket);
    while (item != NULL && item->hash < hash) {
        item = kv_table_next(table, item);
    }
    return item;
}

struct kv_item *kv_table_next(const struct kv_table *table, const struct kv_item *item)
{
    if (item->next != NULL) {
        return item->next;
    }
    size_t s = shard_of(table, item->hash);
    return first_from(table, s, bucket_of(table, &table->shards[s], item->hash) + 1);
}
