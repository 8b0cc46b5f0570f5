/* SPDX-License-Identifier: MIT */
/*
 * A growing byte buffer with a limit, filled at its end and consumed at its front. An append that
 * the allocator or the limit refuses sets `failed`, which stays: callers check once, after a whole
 * reply or command.
 */
#ifndef KV_BUFFER_H
#define KV_BUFFER_H

#include <lockstep/types.h>

struct kv_buffer {
    char *data;
    size_t start, end, capacity;
    size_t limit; /* of end - start; 0: none */
    bool failed;
};

void kv_buffer_free(struct kv_buffer *buffer);

/** Room for `bytes` more at data + end, or false (and `failed`). */
bool kv_buffer_reserve(struct kv_buffer *buffer, size_t bytes);
void kv_buffer_append(struct kv_buffer *buffer, const void *data, size_t bytes);

/** Removes `bytes` at the front. */
void kv_buffer_consume(struct kv_buffer *buffer, size_t bytes);
/** Empties it and keeps the memory, unless it is more than `keep` bytes. */
void kv_buffer_reset(struct kv_buffer *buffer, size_t keep);

static inline size_t kv_buffer_bytes(const struct kv_buffer *buffer)
{
    return buffer->end - buffer->start;
}

static inline struct ls_span kv_buffer_span(const struct kv_buffer *buffer)
{
    return (struct ls_span){buffer->data == NULL ? NULL : buffer->data + buffer->start,
                            kv_buffer_bytes(buffer)};
}

#endif
