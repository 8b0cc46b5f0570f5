/* SPDX-License-Identifier: MIT */
/*
 * The env port: all that the pure rooms (consensus, statesync) get from the world. Production and
 * the simulator pass different ones; entropy is taken from here and nowhere else.
 */
#ifndef LOCKSTEP_ENV_H
#define LOCKSTEP_ENV_H

#include <lockstep/types.h>

LS_EXTERN_C_BEGIN

enum ls_trace_level {
    LS_TRACE_ERROR = 1,
    LS_TRACE_WARN = 2,
    LS_TRACE_INFO = 3,
    LS_TRACE_DEBUG = 4
};

#define LS_TRACE_ARGS_MAX 6

/**
 * One decision, unformatted, so that pure rooms can trace without printf. `format` is a static text
 * in which each `{}` stands for the next number of `args`, `{^}` for the next two as term^index,
 * and `{p}` for `peer` (the first 4 bytes as hex, or the name the sink knows). Stable wording:
 * tests compare it.
 */
struct ls_trace {
    enum ls_trace_level level;
    const char *room; /* static: "consensus", "storage", ... */
    const char *format;
    const struct ls_group_id *group; /* NULL: of the node */
    const struct ls_peer_id *peer;   /* NULL: concerns no peer */
    const char *detail;              /* NULL or more text, appended after ": " */
    uint64_t args[LS_TRACE_ARGS_MAX];
};

/** Renders a trace record into `out` (always terminated); returns the length it would have had. Any
 * thread. */
LS_API size_t ls_trace_render(const struct ls_trace *trace, char *out, size_t capacity);

/** One element of a decoded or to be encoded message: arrays are followed by their elements
 * (preorder). */
enum ls_value_kind { LS_VALUE_UINT = 1, LS_VALUE_BYTES = 2, LS_VALUE_ARRAY = 3 };

struct ls_value {
    enum ls_value_kind kind;
    union {
        uint64_t number;      /* LS_VALUE_UINT */
        uint32_t count;       /* LS_VALUE_ARRAY: elements, which follow */
        struct ls_span bytes; /* LS_VALUE_BYTES: borrowed from what was decoded */
    } as;
};

/** Messages of the pure rooms: encoded as msgpack in production. Both functions never allocate. */
struct ls_codec {
    size_t size;
    void *self;
    /**
     * Encodes exactly one tree of `count` preorder values into `out`.
     * errors   LS_ERR_LIMIT  it needs more than `capacity` bytes; *written tells how many it needs
     */
    enum ls_status (*encode)(void *self, const struct ls_value *values, size_t count, void *out,
                             size_t capacity, size_t *written);
    /**
     * Decodes one tree into at most `values_max` preorder values, spans borrowed from `bytes`.
     * errors   LS_ERR_PROTOCOL  truncated, trailing bytes, unknown kind, too deep, or more than fit
     */
    enum ls_status (*decode)(void *self, struct ls_span bytes, struct ls_value *values,
                             size_t values_max, size_t *count);
};

struct ls_env {
    size_t size;
    void *self;
    /** Monotonic clock, microseconds. Any thread. */
    uint64_t (*now_us)(void *self);
    /** Fills `out` with random bytes. Cannot fail. Any thread. */
    void (*entropy)(void *self, void *out, size_t bytes);
    /**
     * malloc, realloc and free in one: `bytes` == 0 frees `block` and returns NULL; `block` == NULL
     * allocates. NULL means refused, and `block` is unchanged. Any thread.
     */
    void *(*allocate)(void *self, void *block, size_t bytes);
    /** BLAKE2b-256 over the concatenation of `parts`. Any thread. */
    void (*hash)(void *self, const struct ls_span *parts, size_t count, uint8_t out[32]);
    struct ls_codec codec;
    /** Optional (NULL: no trace). Called with no lock held, on the thread that decided. */
    void (*trace)(void *self, const struct ls_trace *trace);
};

/**
 * The production env: CLOCK_MONOTONIC, libsodium's randomness and hash, malloc, msgpack, no trace.
 * Initialises libsodium at first use. Copy it to change a member. Any thread.
 */
LS_API const struct ls_env *ls_env_default(void);

/** A trace function for ls_env.trace that prints level warn and above to standard error. */
LS_API void ls_trace_to_stderr(void *self, const struct ls_trace *trace);

LS_EXTERN_C_END

#endif
