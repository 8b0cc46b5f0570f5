/* SPDX-License-Identifier: MIT */
/*
 * Snapshots in the small world of sync_world.h: what a node's state is at any index follows from
 * the truth, so that a frozen state costs nothing and an installed one can be checked item by item.
 */
#include "sync_world.h"

#include <stdio.h>
#include <stdlib.h>

#define MARKER_US 5000u

/* ---- the state ------------------------------------------------------------------------------- */

static size_t value_bytes(uint64_t item)
{
    return 200 + (size_t)(item * 37 % 800);
}

/* The last entry up to `at` that wrote the item; 0: none. */
static ls_index written_by(ls_index at, uint64_t item)
{
    ls_index last = at - at % WORLD_ITEMS + item;
    last = last > at ? (last > WORLD_ITEMS ? last - WORLD_ITEMS : 0) : last;
    return last;
}

static void make_value(ls_index by, uint64_t item, bool diverged, uint8_t *out)
{
    for (size_t i = 0; i < value_bytes(item); i++) {
        out[i] = (uint8_t)(by * 131 + item + i * 7);
    }
    if (diverged && item == 1700) {
        out[3] ^= 1;
    }
}

struct item_at {
    char key[16];
    uint8_t value[1024];
    struct ls_item item;
};

static bool make_item(ls_index at, uint64_t number, bool diverged, struct item_at *out)
{
    ls_index by = written_by(at, number);
    if (by == 0) {
        return false;
    }
    int bytes = snprintf(out->key, sizeof out->key, "item %05u", (unsigned)number);
    make_value(by, number, diverged, out->value);
    out->item = (struct ls_item){.key = {out->key, (size_t)bytes},
                                 .value = {out->value, value_bytes(number)}};
    return true;
}

/* ---- frozen ---------------------------------------------------------------------------------- */

static struct world_frozen *frozen_of(struct world_node *node, uint64_t id)
{
    for (size_t i = 0; i < WORLD_FROZEN_MAX; i++) {
        if (node->frozen[i].id == id) {
            return &node->frozen[i];
        }
    }
    return NULL;
}

static enum ls_status driver_freeze(void *self, struct ls_sync_frozen *out)
{
    struct world_node *node = self;
    struct world_frozen *frozen = frozen_of(node, 0);
    if (node->no_snapshots || node->applied == 0) {
        return LS_ERR_NOT_FOUND;
    }
    if (frozen == NULL) {
        return LS_ERR_LIMIT;
    }
    node->freezes++;
    frozen->id = ++node->frozen_id;
    frozen->anchor = (struct ls_cursor){node->log.entries[node->applied - 1].term, node->applied};
    *out = (struct ls_sync_frozen){.id = frozen->id,
                                   .anchor = frozen->anchor,
                                   .configuration_index = 1,
                                   .configuration = {"the founders", 12}};
    struct item_at at;
    for (uint64_t i = 0; i < WORLD_ITEMS; i++) {
        if (make_item(node->applied, i, false, &at)) {
            out->items++;
            out->bytes += at.item.key.bytes + at.item.value.bytes;
        }
    }
    out->bytes += node->miscounts;
    return LS_OK;
}

static enum ls_status driver_iterate(void *self, uint64_t id, struct ls_span from,
                                     ls_item_visit visit, void *arg)
{
    struct world_node *node = self;
    const struct world_frozen *frozen = frozen_of(node, id);
    assert_true(id != 0 && frozen != NULL);
    struct item_at at;
    bool begun = from.bytes == 0;
    for (uint64_t i = 0; i < WORLD_ITEMS; i++) {
        if (!make_item(frozen->anchor.index, i, node->diverged, &at)) {
            continue;
        }
        begun = begun || (at.item.key.bytes == from.bytes &&
                          memcmp(at.item.key.data, from.data, from.bytes) == 0);
        if (begun && !visit(arg, &at.item)) {
            break;
        }
    }
    return LS_OK;
}

static void driver_thaw(void *self, uint64_t id)
{
    struct world_node *node = self;
    uint32_t thawed = 0;
    for (size_t i = 0; i < WORLD_FROZEN_MAX; i++) {
        if (id != 0 && node->frozen[i].id == id) {
            node->frozen[i].id = 0;
            thawed++;
        }
    }
    assert_int_equal(thawed, 1);
}

/* ---- markers --------------------------------------------------------------------------------- */

static enum ls_status driver_feed_marker(void *self, struct ls_span payload)
{
    struct world_node *node = self;
    struct world *world = node->world;
    if (!node->leads || world->no_markers || world->marker != 0) {
        return LS_ERR_NOT_LEADER;
    }
    world_push(world, world->term, LS_ENTRY_MARKER, payload);
    world->marker = world->truth.last;
    world->marker_us = world->now_us + MARKER_US;
    return LS_OK;
}

void world_marker(struct world *world)
{
    ls_index index = world->marker;
    struct ls_entry entry = world->truth.entries[index - 1];
    if (!world->nodes[0].up) { /* who fed it does not commit it now */
        world->marker_us = world->now_us + MARKER_US;
        return;
    }
    world->marker = 0;
    for (uint32_t i = 0; i < world->nodes_count; i++) {
        struct world_node *node = &world->nodes[i];
        if (!node->up) {
            continue;
        }
        if (node->commit + 1 != index || node->log.last + 1 != index) {
            world_gap(world, i, index, index - 1, 1);
            continue;
        }
        world_append(world, i, index, index - 1, 1);
        if (node->applied == index) {
            ls_supervisor_marker(node->supervisor, (struct ls_cursor){entry.term, index},
                                 entry.data);
            world_poll(world, i);
        }
    }
}

/* ---- staging --------------------------------------------------------------------------------- */

static struct world_staged *staged_of(struct world_node *node, const struct ls_hash *hash)
{
    for (size_t i = 0; i < node->staged_count; i++) {
        if (ls_hash_equal(&node->staged[i].hash, hash)) {
            return &node->staged[i];
        }
    }
    return NULL;
}

static enum ls_status driver_begin(void *self, uint64_t token, const struct ls_snapshot *snapshot,
                                   const struct ls_hash *hashes)
{
    struct world_node *node = self;
    assert_true(snapshot->anchor.index > node->commit);
    if (node->busy_begins > 0) {
        node->busy_begins--;
        return LS_ERR_BUSY;
    }
    node->snapshot = *snapshot;
    node->hashes = realloc(node->hashes, (snapshot->chunks + 1u) * sizeof *hashes);
    assert_non_null(node->hashes);
    memcpy(node->hashes, hashes, snapshot->chunks * sizeof *hashes);
    ls_supervisor_effect(node->supervisor, token, LS_OK);
    return LS_OK;
}

static bool driver_staged(void *self, uint32_t chunk)
{
    struct world_node *node = self;
    assert_true(chunk < node->snapshot.chunks);
    return staged_of(node, &node->hashes[chunk]) != NULL;
}

static enum ls_status driver_put(void *self, uint64_t token, uint32_t chunk, struct ls_span bytes)
{
    struct world_node *node = self;
    struct ls_hash hash = ls_chunk_hash(&node->world->env, bytes);
    assert_true(chunk < node->snapshot.chunks);
    assert_true(ls_hash_equal(&hash, &node->hashes[chunk])); /* nothing unchecked is staged */
    if (node->refuse_put != LS_OK) {
        enum ls_status status = node->refuse_put;
        node->refuse_put = LS_OK;
        return status;
    }
    assert_null(staged_of(node, &hash)); /* nothing is fetched twice */
    node->staged = realloc(node->staged, (node->staged_count + 1) * sizeof *node->staged);
    uint8_t *copy = malloc(bytes.bytes);
    assert_non_null(node->staged);
    assert_non_null(copy);
    memcpy(copy, bytes.data, bytes.bytes);
    node->staged[node->staged_count++] = (struct world_staged){hash, copy, bytes.bytes};
    node->puts++;
    node->put_bytes += bytes.bytes;
    ls_supervisor_effect(node->supervisor, token, LS_OK);
    return LS_OK;
}

/* The staged items are those of the anchor, each in its place. */
static void check_items(struct world_node *node)
{
    ls_index anchor = node->snapshot.anchor.index;
    uint64_t number = 0;
    for (uint32_t i = 0; i < node->snapshot.chunks; i++) {
        const struct world_staged *staged = staged_of(node, &node->hashes[i]);
        if (staged == NULL) {
            fail_msg("a chunk of the snapshot is not staged");
            return;
        }
        struct ls_span chunk = {staged->bytes, staged->count};
        struct ls_item item;
        struct item_at expected;
        size_t at = 0;
        while (ls_chunk_next(chunk, &at, &item)) {
            while (!make_item(anchor, number, false, &expected)) {
                number++;
            }
            number++;
            assert_int_equal(item.key.bytes, expected.item.key.bytes);
            assert_memory_equal(item.key.data, expected.key, item.key.bytes);
            assert_int_equal(item.value.bytes, expected.item.value.bytes);
            assert_memory_equal(item.value.data, expected.value, item.value.bytes);
        }
        assert_int_equal(at, chunk.bytes);
    }
    assert_int_equal(number, WORLD_ITEMS);
}

static enum ls_status driver_publish(void *self, uint64_t token)
{
    struct world_node *node = self;
    struct world *world = node->world;
    if (node->refuse_publish != LS_OK) {
        enum ls_status status = node->refuse_publish;
        node->refuse_publish = LS_OK;
        if (status == LS_ERR_CORRUPT) { /* some of it is not there any more */
            free(node->staged[--node->staged_count].bytes);
        }
        return status;
    }
    assert_true(node->snapshot.anchor.index > node->commit);
    check_items(node);
    node->publishes++;
    for (uint32_t i = 0; i < world->nodes_count; i++) {
        if (&world->nodes[i] == node) {
            world_jump(world, i, node->snapshot.anchor.index);
        }
    }
    assert_true(node->effects_count < sizeof node->effects / sizeof node->effects[0]);
    node->effects[node->effects_count++] =
        (struct world_effect){token, world->now_us + world->disk_us, LS_OK};
    return LS_OK;
}

static bool driver_installing(void *self, struct ls_sync_install *out)
{
    const struct world_node *node = self;
    *out = node->install;
    return node->install.chunks_total > 0;
}

void world_count_sent(struct world_node *node, struct ls_span bytes)
{
    struct ls_value values[8];
    size_t count = 0;
    const struct ls_codec *codec = &node->world->env.codec;
    if (codec->decode(codec->self, bytes, values, 8, &count) == LS_OK && count == 5 &&
        values[1].kind == LS_VALUE_UINT && values[1].as.number == 7 &&
        values[4].kind == LS_VALUE_BYTES) {
        node->chunk_bytes_sent += values[4].as.bytes.bytes;
    }
}

void world_snapshots_driver(struct ls_supervisor_driver *driver)
{
    driver->begin = driver_begin;
    driver->staged = driver_staged;
    driver->put = driver_put;
    driver->publish = driver_publish;
    driver->installing = driver_installing;
    driver->feed_marker = driver_feed_marker;
    driver->freeze = driver_freeze;
    driver->iterate = driver_iterate;
    driver->thaw = driver_thaw;
}

void world_snapshots_free(struct world_node *node)
{
    for (size_t i = 0; i < WORLD_FROZEN_MAX; i++) {
        assert_int_equal(node->frozen[i].id, 0); /* whoever freezes, thaws */
    }
    for (size_t i = 0; i < node->staged_count; i++) {
        free(node->staged[i].bytes);
    }
    free(node->staged);
    free(node->hashes);
}
