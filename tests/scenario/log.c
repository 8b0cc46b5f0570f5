/* SPDX-License-Identifier: MIT */
/*
 * Logs and batches of the simulated members, the arena their payloads live in, and the codec the
 * cores are given. A log here is as plain as it can be: an array after an anchor.
 */
#include <stdlib.h>

#include "realm.h"

#define ARENA_BLOCK_BYTES (256u << 10)

struct arena {
    struct arena *next;
    size_t used, capacity;
    max_align_t bytes[];
};

void *arena_allocate(struct realm *realm, size_t bytes)
{
    size_t rounded = (bytes + sizeof(max_align_t)) & ~(sizeof(max_align_t) - 1);
    struct arena *block = realm->arena;
    if (block == NULL || block->capacity - block->used < rounded) {
        size_t capacity = rounded > ARENA_BLOCK_BYTES ? rounded : ARENA_BLOCK_BYTES;
        block = malloc(sizeof *block + capacity);
        if (block == NULL) {
            abort();
        }
        *block = (struct arena){realm->arena, 0, capacity};
        realm->arena = block;
    }
    void *out = (uint8_t *)block->bytes + block->used;
    block->used += rounded;
    return out;
}

void arena_release(struct realm *realm)
{
    while (realm->arena != NULL) {
        struct arena *next = realm->arena->next;
        free(realm->arena);
        realm->arena = next;
    }
}

void *realm_allocate(void *self, void *block, size_t bytes)
{
    const struct node *node = self;
    if (bytes > 0 && node != NULL && node->realm->refusing) {
        return NULL;
    }
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, bytes);
}

ls_index log_last(const struct log *log)
{
    return log->anchor.index + log->count;
}

ls_term log_term(const struct log *log, ls_index index)
{
    if (index == log->anchor.index) {
        return log->anchor.term;
    }
    const struct ls_entry *entry = log_entry(log, index);
    return entry == NULL ? 0 : entry->term;
}

const struct ls_entry *log_entry(const struct log *log, ls_index index)
{
    if (index <= log->anchor.index || index > log_last(log)) {
        return NULL;
    }
    return &log->entries[index - log->anchor.index - 1];
}

void log_push(struct log *log, const struct ls_entry *entry)
{
    if (log->count == log->capacity) {
        log->capacity = log->capacity == 0 ? 64 : log->capacity * 2;
        log->entries = realloc(log->entries, log->capacity * sizeof *log->entries);
        if (log->entries == NULL) {
            abort();
        }
    }
    log->entries[log->count++] = *entry;
}

void log_truncate(struct log *log, ls_index from)
{
    LS_ASSERT(from > log->anchor.index);
    if (from <= log_last(log)) {
        log->count = (size_t)(from - log->anchor.index - 1);
    }
}

void log_prune(struct log *log, ls_index upto)
{
    LS_ASSERT(upto <= log_last(log));
    if (upto <= log->anchor.index) {
        return;
    }
    size_t gone = (size_t)(upto - log->anchor.index);
    log->anchor = (struct ls_cursor){log_term(log, upto), upto};
    log->count -= gone;
    (void)memmove(log->entries, log->entries + gone, log->count * sizeof *log->entries);
}

void log_copy(struct log *to, const struct log *from)
{
    to->anchor = from->anchor;
    to->anchor_configuration = from->anchor_configuration;
    to->count = 0;
    for (size_t i = 0; i < from->count; i++) {
        log_push(to, &from->entries[i]);
    }
}

void log_release(struct log *log)
{
    free(log->entries);
    *log = (struct log){0};
}

void log_apply_batch(struct log *log, const struct batch *batch)
{
    if (batch->reset) {
        log->count = 0;
        log->anchor = batch->anchor;
        log->anchor_configuration = batch->anchor_configuration;
    }
    if (batch->truncate) {
        log_truncate(log, batch->truncate_from);
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        LS_ASSERT(batch->append_first + i == log_last(log) + 1);
        log_push(log, &batch->entries[i]);
    }
}

bool log_configuration(const struct log *log, ls_index index, struct ls_configuration_at *out)
{
    for (ls_index at = index; at > log->anchor.index; at--) {
        const struct ls_entry *entry = log_entry(log, at);
        if (entry != NULL && entry->kind == LS_ENTRY_CONFIGURATION) {
            out->index = at;
            return ls_configuration_decode(&realm_codec, entry->data, &out->configuration) == LS_OK;
        }
    }
    if (log->anchor_configuration != NULL) {
        *out = *log->anchor_configuration;
        return true;
    }
    return false;
}

struct ls_entry entry_copy(struct realm *realm, const struct ls_entry *entry)
{
    struct ls_entry copy = *entry;
    if (entry->data.bytes > 0) {
        void *data = arena_allocate(realm, entry->data.bytes);
        (void)memcpy(data, entry->data.data, entry->data.bytes);
        copy.data.data = data;
    } else {
        copy.data.data = NULL;
    }
    return copy;
}

uint64_t entry_hash(const struct ls_entry *entry)
{
    uint64_t hash = 14695981039346656037u ^ (uint64_t)entry->kind;
    const uint8_t *bytes = entry->data.data;
    for (size_t i = 0; i < entry->data.bytes; i++) {
        hash = (hash ^ bytes[i]) * 1099511628211u;
    }
    return hash;
}

ls_index log_common(const struct log *a, const struct log *b)
{
    ls_index at = a->anchor.index > b->anchor.index ? a->anchor.index : b->anchor.index;
    ls_index end = log_last(a) < log_last(b) ? log_last(a) : log_last(b);
    while (at < end && log_term(a, at + 1) == log_term(b, at + 1)) {
        at++;
    }
    return at < end ? at : end;
}

static void put_number(uint8_t *out, uint64_t number)
{
    for (unsigned i = 0; i < 8; i++) {
        out[i] = (uint8_t)(number >> (8 * i));
    }
}

static uint64_t get_number(const uint8_t *in)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < 8; i++) {
        number |= (uint64_t)in[i] << (8 * i);
    }
    return number;
}

static enum ls_status codec_encode(void *self, const struct ls_value *values, size_t count,
                                   void *out, size_t capacity, size_t *written)
{
    (void)self;
    uint8_t *bytes = out;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const struct ls_value *value = &values[i];
        size_t extra = value->kind == LS_VALUE_BYTES ? value->as.bytes.bytes : 0;
        if (at + 9 + extra <= capacity) {
            bytes[at] = (uint8_t)value->kind;
            put_number(bytes + at + 1, value->kind == LS_VALUE_UINT    ? value->as.number
                                       : value->kind == LS_VALUE_ARRAY ? value->as.count
                                                                       : extra);
            if (extra > 0) {
                (void)memcpy(bytes + at + 9, value->as.bytes.data, extra);
            }
        }
        at += 9 + extra;
    }
    *written = at;
    return at <= capacity ? LS_OK : LS_ERR_LIMIT;
}

static enum ls_status codec_decode(void *self, struct ls_span bytes, struct ls_value *values,
                                   size_t values_max, size_t *count)
{
    (void)self;
    const uint8_t *in = bytes.data;
    size_t at = 0, due = 1, read = 0;
    for (; due > 0; due--) {
        if (read == values_max || bytes.bytes - at < 9) {
            return LS_ERR_PROTOCOL;
        }
        struct ls_value *value = &values[read++];
        uint64_t number = get_number(in + at + 1);
        value->kind = (enum ls_value_kind)in[at];
        at += 9;
        switch (value->kind) {
        case LS_VALUE_UINT:
            value->as.number = number;
            break;
        case LS_VALUE_ARRAY:
            if (number > values_max) {
                return LS_ERR_PROTOCOL;
            }
            value->as.count = (uint32_t)number;
            due += (size_t)number;
            break;
        case LS_VALUE_BYTES:
            if (number > bytes.bytes - at) {
                return LS_ERR_PROTOCOL;
            }
            value->as.bytes = (struct ls_span){in + at, (size_t)number};
            at += (size_t)number;
            break;
        default:
            return LS_ERR_PROTOCOL;
        }
    }
    *count = read;
    return at == bytes.bytes ? LS_OK : LS_ERR_PROTOCOL;
}

const struct ls_codec realm_codec = {sizeof(struct ls_codec), NULL, codec_encode, codec_decode};
