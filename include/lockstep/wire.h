/* SPDX-License-Identifier: MIT */
/*
 * What travels on a bond: msgpack arrays [version, kind, ...] behind a bounded pre-scan that checks
 * every count and length against the bytes left before anything is allocated.
 */
#ifndef LOCKSTEP_WIRE_H
#define LOCKSTEP_WIRE_H

#include <lockstep/env.h>
#include <lockstep/message.h>

LS_EXTERN_C_BEGIN

enum ls_wire_kind {
    LS_WIRE_CORE = 1,    /* a message of the consensus core */
    LS_WIRE_FORWARD = 2, /* a call forwarded to the leader, one hop */
    LS_WIRE_FORWARD_REPLY = 3,
    LS_WIRE_SYNC = 4, /* a state sync's own bytes, with its tag */
    LS_WIRE_NOTE = 5  /* what a member says of itself */
};

enum ls_forward_kind { LS_FORWARD_EXECUTE = 1, LS_FORWARD_FEED = 2, LS_FORWARD_TRANSFER = 3 };

struct ls_forward {
    uint64_t id; /* unique per sender incarnation */
    enum ls_forward_kind kind;
    uint32_t deadline_ms;           /* left when it was sent */
    uint32_t count;                 /* EXECUTE, FEED: >= 1 */
    const struct ls_span *commands; /* borrowed */
    struct ls_peer_id target;       /* TRANSFER: to whom; zero: anyone */
};

struct ls_forward_reply {
    uint64_t id;
    enum ls_status status;         /* LS_ERR_NOT_LEADER: nothing was done, ask another */
    struct ls_cursor first;        /* of the first command */
    uint32_t count;                /* replies: EXECUTE and LS_OK only, else 0 */
    const struct ls_span *replies; /* borrowed */
};

struct ls_wire_sync {
    uint32_t tag;    /* which state sync of the group's ordered list */
    bool to_session; /* false: for the provider first */
    struct ls_span bytes;
};

/** What a member says of itself, about once a second while it changes: for the user, and for the
 * choice of sources. Nothing that must be safe follows from it. */
struct ls_peer_note {
    enum ls_role role;
    ls_term term;
    ls_index commit, applied, log_first;
    uint32_t sync_phase; /* enum ls_sync_phase */
    uint32_t percent;    /* of its catch-up */
    uint32_t serves;     /* members that it brings up to date */
};

struct ls_wire_frame {
    enum ls_wire_kind kind;
    union {
        struct ls_message
            core; /* from, to and incarnation are not on the wire: the bond knows them */
        struct ls_forward forward;
        struct ls_forward_reply forward_reply;
        struct ls_wire_sync sync;
        struct ls_peer_note note;
    } as;
};

/** Growing output, owned by the caller; reused between messages. `env` is pinned until freed. */
struct ls_wire_buffer {
    const struct ls_env *env;
    uint8_t *data;
    size_t bytes, capacity;
};
LS_API void ls_wire_buffer_free(struct ls_wire_buffer *buffer);

/**
 * Replaces the content of `out` with the encoded frame.
 *
 * frame    passes ls_forward_invalid(), ls_forward_reply_invalid() (asserted) or is what the core
 *          sent, with the payloads of its entries filled in
 * errors   LS_ERR_NO_MEMORY, LS_ERR_LIMIT (over LS_MESSAGE_BYTES_MAX); `out` is then empty
 */
LS_API LS_NODISCARD enum ls_status ls_wire_encode(const struct ls_wire_frame *frame,
                                                  struct ls_wire_buffer *out);

struct ls_wire_decoder; /* holds the arrays that decoded frames point into */
LS_API LS_NODISCARD enum ls_status ls_wire_decoder_open(const struct ls_env *env,
                                                        struct ls_wire_decoder **out);
LS_API void ls_wire_decoder_close(struct ls_wire_decoder *decoder);

/**
 * Decodes one frame; payload spans point into `bytes`, arrays live until the next decode. A frame
 * that passes is well formed: ls_message_invalid(), ls_forward_invalid() ... are NULL for it. from,
 * to and incarnation of a core message are zero: the caller sets them to what the bond knows.
 *
 * decoder  keeps the largest arrays it needed: at most LS_APPEND_ENTRIES_MAX entries and
 *          LS_PROPOSE_ENTRIES_MAX spans
 * out      all zero on failure
 * reason   out, optional: static sentence, NULL on success
 * errors   LS_ERR_PROTOCOL, LS_ERR_NO_MEMORY
 */
LS_API LS_NODISCARD enum ls_status ls_wire_decode(struct ls_wire_decoder *decoder,
                                                  struct ls_span bytes, struct ls_wire_frame *out,
                                                  const char **reason);

LS_API const char *ls_forward_invalid(const struct ls_forward *forward);
LS_API const char *ls_forward_reply_invalid(const struct ls_forward_reply *reply);

LS_EXTERN_C_END

#endif
