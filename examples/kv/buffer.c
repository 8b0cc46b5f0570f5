/* SPDX-License-Identifier: MIT */
/* The byte buffer: doubles when it grows, moves its content to the front when that makes room. */
#include "buffer.h"

#include <stdlib.h>

enum { BUFFER_BYTES_MIN = 256 };

void kv_buffer_free(struct kv_buffer *buffer)
{
    free(buffer->data);
    size_t limit = buffer->limit;
    *buffer = (struct kv_buffer){.limit = limit};
}

bool kv_buffer_reserve(struct kv_buffer *buffer, size_t bytes)
{
    size_t used = kv_buffer_bytes(buffer);
    if (buffer->failed || bytes > SIZE_MAX / 4 ||
        (buffer->limit != 0 && used + bytes > buffer->limit)) {
        buffer->failed = true;
        return false;
    }
    if (buffer->capacity - buffer->end >= bytes) {
        return true;
    }
    if (buffer->start >= used && buffer->capacity - used >= bytes) {
        /* no more is moved than was consumed, so that moving costs O(1) for each byte */
        (void)memmove(buffer->data, buffer->data + buffer->start, used);
        buffer->start = 0;
        buffer->end = used;
        return true;
    }
    size_t capacity = buffer->capacity < BUFFER_BYTES_MIN ? BUFFER_BYTES_MIN : buffer->capacity;
    while (capacity < used + bytes) {
        capacity *= 2;
    }
    char *data = malloc(capacity);
    if (data == NULL) {
        buffer->failed = true;
        return false;
    }
    if (used > 0) {
        (void)memcpy(data, buffer->data + buffer->start, used);
    }
    free(buffer->data);
    buffer->data = data;
    buffer->capacity = capacity;
    buffer->start = 0;
    buffer->end = used;
    return true;
}

void kv_buffer_append(struct kv_buffer *buffer, const void *data, size_t bytes)
{
    if (bytes > 0 && kv_buffer_reserve(buffer, bytes)) {
        (void)memcpy(buffer->data + buffer->end, data, bytes);
        buffer->end += bytes;
    }
}

void kv_buffer_consume(struct kv_buffer *buffer, size_t bytes)
{
    LS_ASSERT(bytes <= kv_buffer_bytes(buffer));
    buffer->start += bytes;
    if (buffer->start == buffer->end) {
        buffer->start = buffer->end = 0;
    }
}

void kv_buffer_reset(struct kv_buffer *buffer, size_t keep)
{
    buffer->start = buffer->end = 0;
    buffer->failed = false;
    if (buffer->capacity > keep) {
        kv_buffer_free(buffer);
    }
}
