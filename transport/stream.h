/* SPDX-License-Identifier: MIT */
/*
 * Records in sealed frames: the two halves of an open connection, without its socket.
 *
 *     record = length[4] bytes        any size up to LS__RECORD_BYTES_MAX
 *     frame  = length[4] sealed[17 + n], 0 < n <= LS_FRAME_BYTES_MAX
 *
 * Records follow each other in the plaintext of frames without regard to the frames' borders: many
 * small ones share a frame, a large one takes several. A frame is sealed when it is about to be
 * written, so that what one loop turn sends is encrypted at once. The length in clear is
 * authenticated as additional data. Both sides seal and open in place.
 */
#ifndef LOCKSTEP_TRANSPORT_STREAM_H
#define LOCKSTEP_TRANSPORT_STREAM_H

#include <sys/uio.h>

#include "handshake.h"

/* a message with its head: kind and channel */
#define LS__RECORD_BYTES_MAX (LS_MESSAGE_BYTES_MAX + 16u)
#define LS__RECORD_HEAD      4u
#define LS__FRAME_HEAD       4u

/* plaintext of the two sizes of frames we send: one that costs little when a heartbeat is all there
 * is, and one that stays in the second-level cache between copy, seal and write */
#define LS__FRAME_SMALL 4000u
#define LS__FRAME_LARGE 65400u

struct ls__frame {
    struct ls__frame *next;
    uint32_t capacity; /* of plaintext */
    uint32_t used;     /* plaintext bytes; with `sealed` also wire - overhead */
    uint32_t wire;     /* bytes to write, once sealed */
    uint32_t written;
    uint8_t bytes[]; /* head, tag, plaintext, MAC */
};

/** Free frames of both sizes, shared by all connections of a transport. */
struct ls__frame_pool {
    const struct ls_env *env;
    struct ls__frame *free[2];
    uint32_t count[2];
};
void ls__frame_pool_free(struct ls__frame_pool *pool);

/** The sending half. */
struct ls__out {
    struct ls__frame_pool *pool;
    ls__stream *stream; /* borrowed until close: in sodium memory */
    struct ls__frame *first, *last;
    struct ls__frame *unsealed; /* first of those not sealed yet; NULL: none */
    size_t queued;              /* plaintext bytes in frames not wholly written */
    size_t sealed;              /* bytes sealed and not written */
};

void ls__out_open(struct ls__out *out, struct ls__frame_pool *pool, ls__stream *stream);
void ls__out_close(struct ls__out *out);

/** Queues bytes as they are: a hello or a proof. errors LS_ERR_NO_MEMORY */
enum ls_status ls__out_raw(struct ls__out *out, struct ls_span bytes);

/** Queues one record made of parts, whole or not at all. errors LS_ERR_NO_MEMORY */
enum ls_status ls__out_record(struct ls__out *out, const struct ls_span *parts, size_t count);

/** Seals until about `bytes` are ready and lists them; returns the number of vectors. */
size_t ls__out_vectors(struct ls__out *out, size_t bytes, struct iovec *vectors, size_t capacity);

/** `bytes` of the listed were written. */
void ls__out_written(struct ls__out *out, size_t bytes);

/** The receiving half. */
struct ls__in {
    const struct ls_env *env;
    ls__stream *stream; /* borrowed until close: in sodium memory */
    uint8_t *buffer;
    size_t capacity, begin, end; /* received and not taken: buffer[begin, end) */
    uint64_t frames;             /* opened so far: proof that the peer lives */
    const uint8_t *plain;        /* opened and not taken, inside of the buffer */
    size_t plain_bytes;
    uint8_t *record; /* one that spans frames, as far as it has come */
    size_t record_capacity, record_bytes;
    bool record_taken;
};

void ls__in_open(struct ls__in *in, const struct ls_env *env, ls__stream *stream);
void ls__in_close(struct ls__in *in);

/** Where to receive to. Invalidates what was handed out. errors LS_ERR_NO_MEMORY */
enum ls_status ls__in_space(struct ls__in *in, uint8_t **at, size_t *bytes);
void ls__in_received(struct ls__in *in, size_t bytes);

/** Takes `bytes` raw ones if they are there; else NULL. */
const uint8_t *ls__in_raw(struct ls__in *in, size_t bytes);

/**
 * Takes the next record, borrowed until the next call.
 * errors   LS_ERR_BUSY  not there yet
 *          LS_ERR_PROTOCOL, LS_ERR_NO_MEMORY  the connection cannot go on; *reason says why
 */
enum ls_status ls__in_record(struct ls__in *in, struct ls_span *record, const char **reason);

#endif
