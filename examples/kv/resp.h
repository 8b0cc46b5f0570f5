/* SPDX-License-Identifier: MIT */
/*
 * The protocol of Redis: an incremental parser of requests (arrays of bulk strings, and inline
 * commands) and a writer of replies in RESP2 and RESP3. Pure: bytes in, spans or bytes out. Error
 * texts and limits are those of Redis 7.
 */
#ifndef KV_RESP_H
#define KV_RESP_H

#include "buffer.h"

enum resp_result {
    RESP_MORE = 1,    /* the command is not complete */
    RESP_COMMAND = 2, /* args[0..argc) is one; argc 0: an empty one, to be skipped */
    RESP_BROKEN = 3   /* `error` tells; nothing after it can be understood */
};

/** Zero it, set the limits, release with resp_parser_free. */
struct resp_parser {
    /* result of RESP_COMMAND: borrowed from the input until it is consumed */
    struct ls_span *args;
    size_t argc;
    char error[128];
    bool broken; /* for good */

    bool unauthenticated; /* apply the smaller limits */
    size_t value_bytes_max;
    size_t command_bytes_max;

    /* progress in the present command; places count from its first byte */
    size_t at;        /* everything before is understood */
    size_t searched;  /* of the line that begins at `at`, how much holds no line end */
    int64_t expected; /* arguments still to come; -1: the header is not read */
    int64_t bulk;     /* length of the argument under way; -1: its header is not read */
    size_t *places;   /* of each argument */
    size_t capacity;  /* of args and places */
    char *unquoted;   /* arguments of an inline command */
};

void resp_parser_init(struct resp_parser *parser, size_t value_bytes_max, size_t command_bytes_max);
void resp_parser_free(struct resp_parser *parser);

/**
 * Goes on with one command. `input` begins with the command's first byte; a later call for the same
 * command passes at least as many bytes of it (they may have moved).
 *
 * consumed  out, with RESP_COMMAND: its bytes, to be removed from the input before the next call
 */
enum resp_result resp_parse(struct resp_parser *parser, struct ls_span input, size_t *consumed);

/** Where replies are written, and how: protocol 2 or 3. */
struct resp_out {
    struct kv_buffer *buffer;
    int protocol;
};

void resp_simple(struct resp_out *out, const char *text);
/** "-text": `text` carries its code ("ERR ..."); line ends in it become blanks. */
void resp_error(struct resp_out *out, const char *format, ...) LS_PRINTF(2, 3);
void resp_integer(struct resp_out *out, int64_t number);
void resp_bulk(struct resp_out *out, struct ls_span bytes);
void resp_text(struct resp_out *out, const char *text);
void resp_null(struct resp_out *out);
void resp_array(struct resp_out *out, size_t count);
/** A map of `pairs`: an array of twice as many elements in RESP2. */
void resp_map(struct resp_out *out, size_t pairs);
void resp_set(struct resp_out *out, size_t count);
/** Text for a human: a verbatim string in RESP3, a bulk string in RESP2. */
void resp_verbatim(struct resp_out *out, struct ls_span text);

/** Copies a reply that was written in RESP3 and is a single value: only nulls differ. */
void resp_relay(struct resp_out *out, struct ls_span reply);

#endif
