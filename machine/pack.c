/* SPDX-License-Identifier: MIT */
/* See pack.h. */
#include "pack.h"

#include <string.h>

#define KIND_CHUNK 1u
#define KIND_TABLE 2u
/* numbers at the front of a table: anchor, configuration index, items, bytes, chunks, and the
 * length of the configuration, which follows them with the root and the hashes */
#define TABLE_NUMBERS 7u
/* what may be of no use any more before a file is begun anew */
#define WASTE_BYTES (64u << 20)

static void put_number(uint8_t *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        out[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint64_t get_number(const uint8_t *in, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        value |= (uint64_t)in[i] << (8 * i);
    }
    return value;
}

static bool grow(const struct ls_env *env, void *block_pointer, size_t bytes)
{
    void *block = NULL;
    (void)memcpy(&block, block_pointer, sizeof block);
    void *fresh = env->allocate(env->self, block, bytes);
    if (fresh != NULL) {
        (void)memcpy(block_pointer, &fresh, sizeof fresh);
    }
    return fresh != NULL;
}

static void release(const struct ls_env *env, void *block)
{
    if (block != NULL) {
        (void)env->allocate(env->self, block, 0);
    }
}

/* ---- heads of records ------------------------------------------------------------------------ */

static void head_check(const struct ls__pack *pack, const uint8_t *head, uint8_t out[8])
{
    uint8_t hash[32];
    const struct ls_span parts[] = {{"lockstep-pack/1", 15},
                                    {pack->group.bytes, sizeof pack->group.bytes},
                                    {head, LS__PACK_HEAD_BYTES - 8}};
    pack->env->hash(pack->env->self, parts, sizeof parts / sizeof parts[0], hash);
    (void)memcpy(out, hash, 8);
}

static void head_make(const struct ls__pack *pack, uint32_t kind, const struct ls_hash *hash,
                      size_t bytes, uint8_t head[LS__PACK_HEAD_BYTES])
{
    (void)memcpy(head, "LSP1", 4);
    put_number(head + 4, kind, 4);
    put_number(head + 8, bytes, 8);
    (void)memcpy(head + 16, hash->bytes, sizeof hash->bytes);
    (void)memcpy(head + 48, pack->incarnation.bytes, sizeof pack->incarnation.bytes);
    head_check(pack, head, head + 64);
}

static bool head_right(const struct ls__pack *pack, const uint8_t *head)
{
    uint8_t check[8];
    head_check(pack, head, check);
    return memcmp(head, "LSP1", 4) == 0 && memcmp(check, head + 64, sizeof check) == 0 &&
           memcmp(head + 48, pack->incarnation.bytes, sizeof pack->incarnation.bytes) == 0;
}

/* ---- places by hash -------------------------------------------------------------------------- */

static size_t slot_of(const struct ls__pack *pack, const struct ls_hash *hash)
{
    size_t slot = (size_t)get_number(hash->bytes, sizeof slot) & (pack->slots_count - 1);
    while (pack->slots[slot] != 0 &&
           !ls_hash_equal(&pack->places[pack->slots[slot] - 1].hash, hash)) {
        slot = (slot + 1) & (pack->slots_count - 1);
    }
    return slot;
}

static struct ls__pack_place *place_of(const struct ls__pack *pack, const struct ls_hash *hash)
{
    if (pack->slots_count == 0) {
        return NULL;
    }
    uint32_t number = pack->slots[slot_of(pack, hash)];
    return number == 0 ? NULL : &pack->places[number - 1];
}

static bool places_reserve(struct ls__pack *pack)
{
    if (pack->places_count < pack->places_capacity) {
        return true;
    }
    size_t capacity = pack->places_capacity == 0 ? 64u : 2u * pack->places_capacity;
    uint32_t *slots = NULL;
    if (!grow(pack->env, &pack->places, capacity * sizeof *pack->places) ||
        !grow(pack->env, &slots, 2u * capacity * sizeof *slots)) {
        return false;
    }
    release(pack->env, pack->slots);
    pack->slots = slots;
    pack->slots_count = 2u * capacity;
    pack->places_capacity = capacity;
    (void)memset(slots, 0, pack->slots_count * sizeof *slots);
    for (size_t i = 0; i < pack->places_count; i++) {
        pack->slots[slot_of(pack, &pack->places[i].hash)] = (uint32_t)i + 1;
    }
    return true;
}

/* A chunk at that offset; one that is there again takes the place of a bad one. */
static struct ls__pack_place *place_add(struct ls__pack *pack, const struct ls_hash *hash,
                                        uint64_t offset, size_t bytes)
{
    struct ls__pack_place fresh = {.hash = *hash, .offset = offset, .bytes = (uint32_t)bytes};
    struct ls__pack_place *place = place_of(pack, hash);
    if (place != NULL) {
        *place = fresh;
        return place;
    }
    LS_ASSERT(pack->places != NULL && pack->places_count < pack->places_capacity);
    pack->places[pack->places_count++] = fresh;
    pack->slots[slot_of(pack, hash)] = (uint32_t)pack->places_count;
    return &pack->places[pack->places_count - 1];
}

/* ---- tables ---------------------------------------------------------------------------------- */

/* errors LS_ERR_CORRUPT (no table of ours), LS_ERR_NO_MEMORY (the former table counts) */
static enum ls_status table_take(struct ls__pack *pack, const uint8_t *bytes, size_t count)
{
    struct ls_snapshot snapshot;
    uint64_t numbers[TABLE_NUMBERS];
    size_t front = sizeof numbers;
    if (count < front + sizeof(struct ls_hash)) {
        return LS_ERR_CORRUPT;
    }
    for (size_t i = 0; i < TABLE_NUMBERS; i++) {
        numbers[i] = get_number(bytes + 8 * i, 8);
    }
    if (numbers[5] > LS_SNAPSHOT_CHUNKS_MAX || numbers[6] > sizeof pack->configuration ||
        count != front + (1 + numbers[5]) * sizeof(struct ls_hash) + numbers[6]) {
        return LS_ERR_CORRUPT;
    }
    snapshot = (struct ls_snapshot){.anchor = {numbers[0], numbers[1]},
                                    .configuration_index = numbers[2],
                                    .items = numbers[3],
                                    .bytes = numbers[4],
                                    .chunks = (uint32_t)numbers[5]};
    (void)memcpy(snapshot.root.bytes, bytes + front, sizeof snapshot.root.bytes);
    front += sizeof snapshot.root.bytes;
    if (!grow(pack->env, &pack->hashes, (snapshot.chunks + 1u) * sizeof *pack->hashes)) {
        return LS_ERR_NO_MEMORY;
    }
    (void)memcpy(pack->configuration, bytes + front, (size_t)numbers[6]);
    snapshot.configuration = (struct ls_span){pack->configuration, (size_t)numbers[6]};
    front += (size_t)numbers[6];
    if (snapshot.chunks > 0) {
        (void)memcpy(pack->hashes, bytes + front, snapshot.chunks * sizeof *pack->hashes);
    }
    pack->snapshot = snapshot;
    pack->whole = true;
    return LS_OK;
}

static size_t table_bytes(const struct ls_snapshot *snapshot)
{
    return (size_t)TABLE_NUMBERS * 8 + (1u + (size_t)snapshot->chunks) * sizeof(struct ls_hash) +
           snapshot->configuration.bytes;
}

static void table_make(const struct ls_snapshot *snapshot, const struct ls_hash *hashes,
                       uint8_t *out)
{
    const uint64_t numbers[TABLE_NUMBERS] = {snapshot->anchor.term,
                                             snapshot->anchor.index,
                                             snapshot->configuration_index,
                                             snapshot->items,
                                             snapshot->bytes,
                                             snapshot->chunks,
                                             snapshot->configuration.bytes};
    for (size_t i = 0; i < TABLE_NUMBERS; i++) {
        put_number(out + 8 * i, numbers[i], 8);
    }
    out += (size_t)TABLE_NUMBERS * 8;
    (void)memcpy(out, snapshot->root.bytes, sizeof snapshot->root.bytes);
    out += sizeof snapshot->root.bytes;
    (void)memcpy(out, snapshot->configuration.data, snapshot->configuration.bytes);
    out += snapshot->configuration.bytes;
    if (snapshot->chunks > 0) {
        (void)memcpy(out, hashes, snapshot->chunks * sizeof *hashes);
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool block_reserve(struct ls__pack *pack, size_t bytes)
{
    if (bytes > pack->block_capacity) {
        if (!grow(pack->env, &pack->block, bytes)) {
            return false;
        }
        pack->block_capacity = bytes;
    }
    return true;
}

/* Tells damage by a disk, not by a mind: four sums side by side, as fast as memory. */
static uint64_t sum_of(const uint8_t *bytes, size_t count)
{
    uint64_t sums[4] = {count, 1, 2, 3};
    for (; count >= sizeof sums; bytes += sizeof sums, count -= sizeof sums) {
        uint64_t words[4];
        (void)memcpy(words, bytes, sizeof words);
        for (size_t i = 0; i < 4; i++) {
            sums[i] = (sums[i] ^ words[i]) * 0x9fb21c651e98df25u;
            sums[i] ^= sums[i] >> 29;
        }
    }
    for (; count > 0; bytes++, count--) {
        sums[0] = (sums[0] ^ *bytes) * 0x9fb21c651e98df25u;
    }
    for (size_t i = 1; i < 4; i++) {
        sums[0] = ((sums[0] ^ sums[i]) * 0x9fb21c651e98df25u);
        sums[0] ^= sums[0] >> 32;
    }
    return sums[0];
}

static bool payload_right(const struct ls__pack *pack, size_t bytes, const struct ls_hash *hash,
                          const struct ls__pack_place *place)
{
    if (place != NULL && place->summed) {
        return sum_of(pack->block, bytes) == place->sum;
    }
    struct ls_hash found = ls_chunk_hash(pack->env, (struct ls_span){pack->block, bytes});
    return ls_hash_equal(&found, hash);
}

/* Reads a payload and compares its hash. place: of a chunk that is known; or NULL. errors
 * LS_ERR_CORRUPT */
static enum ls_status payload_read(struct ls__pack *pack, uint64_t offset, size_t bytes,
                                   const struct ls_hash *hash, const struct ls__pack_place *place)
{
    if (!block_reserve(pack, bytes > 0 ? bytes : 1)) {
        return LS_ERR_NO_MEMORY;
    }
    size_t got = 0;
    enum ls_status status = pack->vault->read(pack->vault->self, &pack->group, pack->file, offset,
                                              pack->block, bytes, &got);
    if (status != LS_OK) {
        return status == LS_ERR_NOT_FOUND ? LS_ERR_CORRUPT : status;
    }
    return got == bytes && payload_right(pack, bytes, hash, place) ? LS_OK : LS_ERR_CORRUPT;
}

/* Does the file reach up to `end`? LS_ERR_CORRUPT: no. */
static enum ls_status reaches(struct ls__pack *pack, uint64_t end)
{
    uint8_t last = 0;
    size_t got = 0;
    enum ls_status status = pack->vault->read(pack->vault->self, &pack->group, pack->file, end - 1,
                                              &last, sizeof last, &got);
    if (status != LS_OK) {
        return status == LS_ERR_NOT_FOUND ? LS_ERR_CORRUPT : status;
    }
    return got == sizeof last ? LS_OK : LS_ERR_CORRUPT;
}

/* The record at pack->end. LS_ERR_NOT_FOUND: the file ends here. LS_ERR_CORRUPT: none that is
 * whole, and nothing else: what could not be read, or not be kept in memory, is there all the same.
 */
static enum ls_status record_scan(struct ls__pack *pack)
{
    uint8_t head[LS__PACK_HEAD_BYTES];
    size_t got = 0;
    enum ls_status status = pack->vault->read(pack->vault->self, &pack->group, pack->file,
                                              pack->end, head, sizeof head, &got);
    if (status != LS_OK || got == 0) {
        return status != LS_OK ? status : LS_ERR_NOT_FOUND;
    }
    if (pack->end == 0 && got == sizeof head && memcmp(head, "LSP", 3) == 0 && head[3] != '1') {
        return LS_ERR_FORMAT;
    }
    if (got < sizeof head || !head_right(pack, head)) {
        return LS_ERR_CORRUPT;
    }
    uint64_t kind = get_number(head + 4, 4);
    uint64_t bytes = get_number(head + 8, 8);
    uint64_t offset = pack->end + sizeof head;
    struct ls_hash hash;
    (void)memcpy(hash.bytes, head + 16, sizeof hash.bytes);
    if (bytes > LS_SNAPSHOT_TABLE_BYTES_MAX + LS_ITEM_BYTES_MAX) {
        return LS_ERR_CORRUPT;
    }
    status = bytes > 0 ? reaches(pack, offset + bytes) : LS_OK;
    if (status != LS_OK) {
        return status;
    }
    if (kind == KIND_TABLE) {
        status = payload_read(pack, offset, (size_t)bytes, &hash, NULL);
        status = status == LS_OK ? table_take(pack, pack->block, (size_t)bytes) : status;
    } else if (!places_reserve(pack)) {
        status = LS_ERR_NO_MEMORY;
    } else {
        (void)place_add(pack, &hash, offset, (size_t)bytes);
    }
    pack->end = status == LS_OK ? offset + bytes : pack->end;
    return status;
}

static enum ls_status scan(struct ls__pack *pack)
{
    enum ls_status status = LS_OK;
    while (status == LS_OK) {
        status = record_scan(pack);
    }
    return status;
}

enum ls_status ls__pack_check(const struct ls__pack *pack)
{
    LS_ASSERT(pack->whole);
    struct ls__pack disk = {.env = pack->env,
                            .vault = pack->vault,
                            .group = pack->group,
                            .incarnation = pack->incarnation,
                            .file = pack->file};
    enum ls_status status = scan(&disk);
    if (status == LS_ERR_NOT_FOUND || status == LS_ERR_CORRUPT || status == LS_ERR_FORMAT) {
        bool same = disk.whole && disk.snapshot.chunks == pack->snapshot.chunks &&
                    ls_hash_equal(&disk.snapshot.root, &pack->snapshot.root);
        for (uint32_t i = 0; same && i < disk.snapshot.chunks; i++) {
            same = ls_hash_equal(&disk.hashes[i], &pack->hashes[i]) && ls__pack_has(&disk, i);
        }
        status = same ? LS_OK : LS_ERR_CORRUPT;
    }
    ls__pack_close(&disk);
    return status;
}

enum ls_status ls__pack_open(struct ls__pack *pack, const struct ls_env *env,
                             const struct ls_vault *vault, const struct ls_group_id *group,
                             const struct ls_incarnation *incarnation, enum ls_vault_file file)
{
    *pack = (struct ls__pack){
        .env = env, .vault = vault, .group = *group, .incarnation = *incarnation, .file = file};
    enum ls_status status = scan(pack);
    if (status == LS_ERR_NOT_FOUND || (status == LS_ERR_CORRUPT && file == LS_VAULT_SNAPSHOT)) {
        /* a snapshot was whole when it got this name: what is missing now is for who reads */
        status = LS_OK;
    } else if (status == LS_ERR_CORRUPT) {
        /* the end; what may follow it is torn */
        status = pack->end == 0 ? vault->remove(vault->self, group, file)
                                : vault->truncate(vault->self, group, file, pack->end);
    }
    if (status != LS_OK) {
        ls__pack_close(pack);
    }
    return status;
}

void ls__pack_close(struct ls__pack *pack)
{
    if (pack->env == NULL) {
        return;
    }
    release(pack->env, pack->places);
    release(pack->env, pack->slots);
    release(pack->env, pack->hashes);
    release(pack->env, pack->block);
    *pack = (struct ls__pack){0};
}

enum ls_status ls__pack_empty(struct ls__pack *pack)
{
    enum ls_status status = pack->vault->remove(pack->vault->self, &pack->group, pack->file);
    if (status == LS_OK) {
        struct ls__pack fresh = {.env = pack->env,
                                 .vault = pack->vault,
                                 .group = pack->group,
                                 .incarnation = pack->incarnation,
                                 .file = pack->file};
        ls__pack_close(pack);
        *pack = fresh;
    }
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* What was written of a record that failed is overwritten by the next, or cut off. */
static enum ls_status record_write(struct ls__pack *pack, uint32_t kind, const struct ls_hash *hash,
                                   struct ls_span payload)
{
    uint8_t head[LS__PACK_HEAD_BYTES];
    head_make(pack, kind, hash, payload.bytes, head);
    const struct ls_vault *vault = pack->vault;
    enum ls_status status = vault->write(vault->self, &pack->group, pack->file, pack->end,
                                         (struct ls_span){head, sizeof head});
    if (status == LS_OK && payload.bytes > 0) {
        status =
            vault->write(vault->self, &pack->group, pack->file, pack->end + sizeof head, payload);
    }
    if (status == LS_OK) {
        pack->end += sizeof head + payload.bytes;
    }
    return status;
}

enum ls_status ls__pack_chunk(struct ls__pack *pack, const struct ls_hash *hash,
                              struct ls_span bytes, bool again)
{
    const struct ls__pack_place *place = place_of(pack, hash);
    if (place != NULL && !place->bad) {
        return LS_OK;
    }
    if (!places_reserve(pack)) {
        return LS_ERR_NO_MEMORY;
    }
    uint64_t offset = pack->end + LS__PACK_HEAD_BYTES;
    enum ls_status status = record_write(pack, KIND_CHUNK, hash, bytes);
    if (status == LS_OK) {
        struct ls__pack_place *added = place_add(pack, hash, offset, bytes.bytes);
        added->summed = again;
        added->sum = again ? sum_of(bytes.data, bytes.bytes) : 0;
    }
    return status;
}

enum ls_status ls__pack_table(struct ls__pack *pack, const struct ls_snapshot *snapshot,
                              const struct ls_hash *hashes)
{
    size_t bytes = table_bytes(snapshot);
    uint8_t *payload = NULL;
    if (!grow(pack->env, &payload, bytes)) {
        return LS_ERR_NO_MEMORY;
    }
    table_make(snapshot, hashes, payload);
    struct ls_hash hash = ls_chunk_hash(pack->env, (struct ls_span){payload, bytes});
    enum ls_status status = record_write(pack, KIND_TABLE, &hash, (struct ls_span){payload, bytes});
    if (status == LS_OK) {
        status = table_take(pack, payload, bytes);
    }
    release(pack->env, payload);
    return status;
}

bool ls__pack_has(const struct ls__pack *pack, uint32_t chunk)
{
    LS_ASSERT(pack->whole && chunk < pack->snapshot.chunks);
    const struct ls__pack_place *place = place_of(pack, &pack->hashes[chunk]);
    return place != NULL && !place->bad;
}

enum ls_status ls__pack_read(struct ls__pack *pack, uint32_t chunk, struct ls_span *out)
{
    LS_ASSERT(pack->whole && chunk < pack->snapshot.chunks);
    struct ls__pack_place *place = place_of(pack, &pack->hashes[chunk]);
    if (place == NULL || place->bad) {
        return LS_ERR_CORRUPT;
    }
    enum ls_status status = payload_read(pack, place->offset, place->bytes, &place->hash, place);
    place->bad = status == LS_ERR_CORRUPT;
    *out = (struct ls_span){pack->block, place->bytes};
    return status;
}

void ls__pack_forget(struct ls__pack *pack, uint32_t chunk)
{
    LS_ASSERT(pack->whole && chunk < pack->snapshot.chunks);
    struct ls__pack_place *place = place_of(pack, &pack->hashes[chunk]);
    if (place != NULL) {
        place->bad = true;
    }
}

bool ls__pack_wasteful(const struct ls__pack *pack, uint64_t needed_bytes)
{
    return pack->end > WASTE_BYTES + 2 * needed_bytes;
}
