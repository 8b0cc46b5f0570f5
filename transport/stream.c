/* SPDX-License-Identifier: MIT */
/* Queueing, sealing, opening and reassembly; see stream.h for the format. */
#include "stream.h"

#include <string.h>

#include "bytes.h"

/* free frames kept for the next turn: enough that steady traffic does not allocate */
#define POOL_SMALL_MAX 64u
#define POOL_LARGE_MAX 32u

#define FRAME_OVERHEAD  (LS__FRAME_HEAD + LS__STREAM_OVERHEAD)
#define BUFFER_START    (16u << 10)
#define BUFFER_MAX      (LS_FRAME_BYTES_MAX + FRAME_OVERHEAD)
#define RECORD_KEEP_MAX (1u << 20) /* a larger reassembly buffer is given back after its record */

LS_STATIC_ASSERT(LS__FRAME_LARGE <= LS_FRAME_BYTES_MAX, "we send what we accept");
LS_STATIC_ASSERT(LS__STREAM_OVERHEAD == 17, "one byte before the text, sixteen after it");

static void *allocate(const struct ls_env *env, void *block, size_t bytes)
{
    return env->allocate(env->self, block, bytes);
}

static struct ls__frame *frame_take(struct ls__frame_pool *pool, bool large)
{
    struct ls__frame *frame = pool->free[large];
    uint32_t capacity = large ? LS__FRAME_LARGE : LS__FRAME_SMALL;
    if (frame != NULL) {
        pool->free[large] = frame->next;
        pool->count[large]--;
    } else {
        frame = allocate(pool->env, NULL, sizeof *frame + capacity + FRAME_OVERHEAD);
    }
    if (frame != NULL) {
        *frame = (struct ls__frame){.capacity = capacity};
    }
    return frame;
}

static void frame_give(struct ls__frame_pool *pool, struct ls__frame *frame)
{
    bool large = frame->capacity == LS__FRAME_LARGE;
    if (pool->count[large] >= (large ? POOL_LARGE_MAX : POOL_SMALL_MAX)) {
        (void)allocate(pool->env, frame, 0);
        return;
    }
    frame->next = pool->free[large];
    pool->free[large] = frame;
    pool->count[large]++;
}

void ls__frame_pool_free(struct ls__frame_pool *pool)
{
    for (size_t size = 0; size < 2; size++) {
        while (pool->free[size] != NULL) {
            struct ls__frame *frame = pool->free[size];
            pool->free[size] = frame->next;
            (void)allocate(pool->env, frame, 0);
        }
        pool->count[size] = 0;
    }
}

void ls__out_open(struct ls__out *out, struct ls__frame_pool *pool, ls__stream *stream)
{
    (void)memset(out, 0, sizeof *out);
    out->pool = pool;
    out->stream = stream;
}

void ls__out_close(struct ls__out *out)
{
    while (out->first != NULL) {
        struct ls__frame *frame = out->first;
        out->first = frame->next;
        frame_give(out->pool, frame);
    }
    out->last = NULL;
    out->unsealed = NULL;
    out->queued = 0;
    out->sealed = 0;
}

static void frames_append(struct ls__out *out, struct ls__frame *first, struct ls__frame *last)
{
    if (out->first == NULL) {
        out->first = first;
    } else {
        out->last->next = first;
    }
    out->last = last;
}

enum ls_status ls__out_raw(struct ls__out *out, struct ls_span bytes)
{
    LS_ASSERT(bytes.bytes <= LS__FRAME_SMALL && out->unsealed == NULL);
    struct ls__frame *frame = frame_take(out->pool, false);
    if (frame == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    (void)memcpy(frame->bytes, bytes.data, bytes.bytes);
    frame->wire = (uint32_t)bytes.bytes;
    out->sealed += bytes.bytes;
    frames_append(out, frame, frame);
    return LS_OK;
}

static size_t frame_room(const struct ls__frame *frame)
{
    return frame == NULL ? 0 : frame->capacity - frame->used;
}

/* Appends empty frames until `bytes` more fit behind the open one; NULL list: none are needed. */
static enum ls_status frames_reserve(struct ls__out *out, size_t bytes)
{
    struct ls__frame *open = out->unsealed == NULL ? NULL : out->last;
    size_t room = frame_room(open);
    struct ls__frame *first = NULL, *last = NULL;
    while (room < bytes) {
        bool large = open != NULL || bytes - room > LS__FRAME_SMALL;
        struct ls__frame *frame = frame_take(out->pool, large);
        if (frame == NULL) {
            while (first != NULL) {
                struct ls__frame *next = first->next;
                frame_give(out->pool, first);
                first = next;
            }
            return LS_ERR_NO_MEMORY;
        }
        room += frame->capacity;
        if (first == NULL) {
            first = frame;
        } else {
            last->next = frame;
        }
        last = frame;
    }
    if (first != NULL) {
        frames_append(out, first, last);
        out->unsealed = out->unsealed == NULL ? first : out->unsealed;
    }
    return LS_OK;
}

enum ls_status ls__out_record(struct ls__out *out, const struct ls_span *parts, size_t count)
{
    uint8_t head[LS__RECORD_HEAD];
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += parts[i].bytes;
    }
    LS_ASSERT(bytes > 0 && bytes <= LS__RECORD_BYTES_MAX);
    struct ls__frame *frame = out->unsealed == NULL ? NULL : out->last;
    enum ls_status status = frames_reserve(out, sizeof head + bytes);
    if (status != LS_OK) {
        return status;
    }
    frame = frame == NULL ? out->unsealed : frame;
    ls__put32(head, (uint32_t)bytes);
    for (size_t i = 0; i <= count; i++) {
        struct ls_span part = i == 0 ? (struct ls_span){head, sizeof head} : parts[i - 1];
        const uint8_t *from = part.data;
        while (part.bytes > 0) {
            if (frame_room(frame) == 0) {
                frame = frame->next;
                LS_ASSERT(frame != NULL);
            }
            size_t room = frame_room(frame), some = part.bytes < room ? part.bytes : room;
            (void)memcpy(frame->bytes + LS__FRAME_HEAD + 1 + frame->used, from, some);
            frame->used += (uint32_t)some;
            from += some;
            part.bytes -= some;
        }
    }
    LS_ASSERT(frame == out->last);
    out->queued += sizeof head + bytes;
    return LS_OK;
}

static void frame_seal(struct ls__out *out, struct ls__frame *frame)
{
    LS_ASSERT(frame->used > 0 && frame->wire == 0);
    uint32_t sealed = frame->used + LS__STREAM_OVERHEAD;
    uint8_t *text = frame->bytes + LS__FRAME_HEAD;
    ls__put32(frame->bytes, sealed);
    (void)crypto_secretstream_xchacha20poly1305_push(
        out->stream, text, NULL, text + 1, frame->used, frame->bytes, LS__FRAME_HEAD,
        crypto_secretstream_xchacha20poly1305_TAG_MESSAGE);
    frame->wire = LS__FRAME_HEAD + sealed;
    out->sealed += frame->wire;
    out->unsealed = frame->next;
}

size_t ls__out_vectors(struct ls__out *out, size_t bytes, struct iovec *vectors, size_t capacity)
{
    size_t count = 0, listed = 0;
    for (struct ls__frame *frame = out->first; frame != NULL && count < capacity && listed < bytes;
         frame = frame->next) {
        if (frame == out->unsealed) {
            frame_seal(out, frame);
        }
        vectors[count].iov_base = frame->bytes + frame->written;
        vectors[count].iov_len = frame->wire - frame->written;
        listed += vectors[count].iov_len;
        count++;
    }
    return count;
}

void ls__out_written(struct ls__out *out, size_t bytes)
{
    LS_ASSERT(bytes <= out->sealed);
    out->sealed -= bytes;
    while (bytes > 0) {
        struct ls__frame *frame = out->first;
        LS_ASSERT(frame != NULL); /* what is sealed and not written is in a frame */
        size_t left = frame->wire - frame->written, some = bytes < left ? bytes : left;
        frame->written += (uint32_t)some;
        bytes -= some;
        if (frame->written == frame->wire) {
            out->queued -= frame->used;
            out->first = frame->next;
            out->last = out->first == NULL ? NULL : out->last;
            frame_give(out->pool, frame);
        }
    }
}

void ls__in_open(struct ls__in *in, const struct ls_env *env, ls__stream *stream)
{
    (void)memset(in, 0, sizeof *in);
    in->env = env;
    in->stream = stream;
}

void ls__in_close(struct ls__in *in)
{
    const struct ls_env *env = in->env;
    if (in->buffer != NULL) {
        (void)allocate(env, in->buffer, 0);
    }
    if (in->record != NULL) {
        (void)allocate(env, in->record, 0);
    }
    (void)memset(in, 0, sizeof *in);
    in->env = env;
}

enum ls_status ls__in_space(struct ls__in *in, uint8_t **at, size_t *bytes)
{
    LS_ASSERT(in->plain_bytes == 0);
    bool full = in->end == in->capacity;
    size_t held = in->end - in->begin;
    if (in->begin > 0) {
        (void)memmove(in->buffer, in->buffer + in->begin, held);
        in->begin = 0;
        in->end = held;
    }
    size_t wanted = in->capacity == 0 ? BUFFER_START : in->capacity;
    if (full && wanted < BUFFER_MAX && in->capacity > 0) {
        wanted =
            wanted * 2 < BUFFER_MAX ? wanted * 2 : BUFFER_MAX; /* it fills: take more at once */
    }
    if (wanted > in->capacity) {
        uint8_t *buffer = allocate(in->env, in->buffer, wanted);
        if (buffer != NULL) {
            in->buffer = buffer;
            in->capacity = wanted;
        } else if (in->end == in->capacity) {
            return LS_ERR_NO_MEMORY;
        }
    }
    *at = in->buffer + in->end;
    *bytes = in->capacity - in->end;
    return LS_OK;
}

void ls__in_received(struct ls__in *in, size_t bytes)
{
    LS_ASSERT(bytes <= in->capacity - in->end);
    in->end += bytes;
}

const uint8_t *ls__in_raw(struct ls__in *in, size_t bytes)
{
    if (in->end - in->begin < bytes) {
        return NULL;
    }
    const uint8_t *at = in->buffer + in->begin;
    in->begin += bytes;
    return at;
}

/* Opens the next frame into `plain`. */
static enum ls_status frame_open(struct ls__in *in, const char **reason)
{
    size_t held = in->end - in->begin;
    if (held < LS__FRAME_HEAD) {
        return LS_ERR_BUSY;
    }
    uint8_t *head = in->buffer + in->begin;
    uint32_t sealed = ls__get32(head);
    if (sealed <= LS__STREAM_OVERHEAD || sealed > LS_FRAME_BYTES_MAX + LS__STREAM_OVERHEAD) {
        *reason = "a frame of impossible length";
        return LS_ERR_PROTOCOL;
    }
    if (held - LS__FRAME_HEAD < sealed) {
        return LS_ERR_BUSY;
    }
    uint8_t tag = 0, *text = head + LS__FRAME_HEAD;
    if ((crypto_secretstream_xchacha20poly1305_pull(in->stream, text + 1, NULL, &tag, text, sealed,
                                                    head, LS__FRAME_HEAD) != 0 ||
         tag != crypto_secretstream_xchacha20poly1305_TAG_MESSAGE) &&
        !LS_MUTANT(A7_FRAME)) {
        *reason = "a frame that is not authentic";
        return LS_ERR_PROTOCOL;
    }
    in->frames++;
    in->plain = text + 1;
    in->plain_bytes = sealed - LS__STREAM_OVERHEAD;
    in->begin += LS__FRAME_HEAD + sealed;
    return LS_OK;
}

static bool record_impossible(uint32_t bytes)
{
    return bytes == 0 || bytes > LS__RECORD_BYTES_MAX;
}

/* Moves up to `bytes` of the opened frame to the record that is put together. The buffer grows with
 * what has arrived, not with what was announced. */
static enum ls_status record_extend(struct ls__in *in, size_t bytes, const char **reason)
{
    size_t some = bytes < in->plain_bytes ? bytes : in->plain_bytes;
    if (in->record_bytes + some > in->record_capacity) {
        size_t wanted = in->record_capacity < 4096 ? 4096 : in->record_capacity * 2;
        size_t most = LS__RECORD_HEAD + LS__RECORD_BYTES_MAX;
        wanted = wanted < in->record_bytes + some ? in->record_bytes + some : wanted;
        uint8_t *record = allocate(in->env, in->record, wanted < most ? wanted : most);
        if (record == NULL) {
            *reason = "no memory to put a message together";
            return LS_ERR_NO_MEMORY;
        }
        in->record = record;
        in->record_capacity = wanted < most ? wanted : most;
    }
    (void)memcpy(in->record + in->record_bytes, in->plain, some);
    in->record_bytes += some;
    in->plain += some;
    in->plain_bytes -= some;
    return LS_OK;
}

/* Continues a record that spans frames. */
static enum ls_status record_assemble(struct ls__in *in, struct ls_span *record,
                                      const char **reason)
{
    enum ls_status status = LS_OK;
    if (in->record_bytes < LS__RECORD_HEAD) {
        status = record_extend(in, LS__RECORD_HEAD - in->record_bytes, reason);
        if (status != LS_OK || in->record_bytes < LS__RECORD_HEAD) {
            return status == LS_OK ? LS_ERR_BUSY : status;
        }
    }
    uint32_t bytes = ls__get32(in->record);
    if (record_impossible(bytes)) {
        *reason = "a record of impossible length";
        return LS_ERR_PROTOCOL;
    }
    status = record_extend(in, LS__RECORD_HEAD + bytes - in->record_bytes, reason);
    if (status != LS_OK) {
        return status;
    }
    if (in->record_bytes < LS__RECORD_HEAD + bytes) {
        return LS_ERR_BUSY;
    }
    *record = (struct ls_span){in->record + LS__RECORD_HEAD, bytes};
    in->record_taken = true;
    return LS_OK;
}

static void record_release(struct ls__in *in)
{
    in->record_taken = false;
    in->record_bytes = 0;
    if (in->record_capacity > RECORD_KEEP_MAX) {
        in->record = allocate(in->env, in->record, 0);
        in->record_capacity = 0;
    }
}

enum ls_status ls__in_record(struct ls__in *in, struct ls_span *record, const char **reason)
{
    if (in->record_taken) {
        record_release(in);
    }
    for (;;) {
        if (in->plain_bytes == 0) {
            enum ls_status status = frame_open(in, reason);
            if (status != LS_OK) {
                return status;
            }
        }
        if (in->record_bytes == 0 && in->plain_bytes >= LS__RECORD_HEAD) {
            uint32_t bytes = ls__get32(in->plain);
            if (record_impossible(bytes)) {
                *reason = "a record of impossible length";
                return LS_ERR_PROTOCOL;
            }
            if (in->plain_bytes - LS__RECORD_HEAD >= bytes) {
                *record = (struct ls_span){in->plain + LS__RECORD_HEAD, bytes};
                in->plain += LS__RECORD_HEAD + bytes;
                in->plain_bytes -= LS__RECORD_HEAD + bytes;
                return LS_OK;
            }
        }
        enum ls_status status = record_assemble(in, record, reason);
        if (status != LS_ERR_BUSY) {
            return status;
        }
        LS_ASSERT(in->plain_bytes == 0); /* all of the frame went into the record */
    }
}
