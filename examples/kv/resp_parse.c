/* SPDX-License-Identifier: MIT */
/*
 * The request parser. It keeps how far it came, so that a command that arrives byte by byte is
 * looked at once; arguments are remembered as places and become spans when the command is whole.
 * Never allocates by an announced count, only for what has arrived.
 */
#include "resp.h"

#include <stdio.h>
#include <stdlib.h>

#include "kv_limits.h"
#include "text.h"

void resp_parser_init(struct resp_parser *parser, size_t value_bytes_max, size_t command_bytes_max)
{
    *parser = (struct resp_parser){.value_bytes_max = value_bytes_max,
                                   .command_bytes_max = command_bytes_max,
                                   .expected = -1,
                                   .bulk = -1};
}

void resp_parser_free(struct resp_parser *parser)
{
    free(parser->args);
    free(parser->places);
    free(parser->unquoted);
    *parser = (struct resp_parser){.expected = -1, .bulk = -1};
}

static enum resp_result broken(struct resp_parser *parser, const char *reason)
{
    (void)snprintf(parser->error, sizeof parser->error, "Protocol error: %s", reason);
    parser->broken = true;
    return RESP_BROKEN;
}

/* The command is whole: ready for the next one. */
static enum resp_result complete(struct resp_parser *parser, size_t *consumed)
{
    *consumed = parser->at;
    parser->at = 0;
    parser->searched = 0;
    parser->expected = -1;
    parser->bulk = -1;
    return RESP_COMMAND;
}

static bool argument_add(struct resp_parser *parser, size_t place, size_t bytes)
{
    if (parser->argc == parser->capacity) {
        size_t capacity = parser->capacity == 0 ? 16 : parser->capacity * 2;
        struct ls_span *args = realloc(parser->args, capacity * sizeof *args);
        if (args == NULL) {
            return false;
        }
        parser->args = args;
        size_t *places = realloc(parser->places, capacity * sizeof *places);
        if (places == NULL) {
            return false;
        }
        parser->places = places;
        parser->capacity = capacity;
    }
    parser->places[parser->argc] = place;
    parser->args[parser->argc++] = (struct ls_span){NULL, bytes};
    return true;
}

/* Turns the places of all arguments into pointers. */
static void arguments_resolve(struct resp_parser *parser, const char *base)
{
    for (size_t i = 0; i < parser->argc; i++) {
        parser->args[i].data = base + parser->places[i];
    }
}

/*
 * Finds the byte that ends the line at parser->at. Returns its place, or SIZE_MAX when it has not
 * arrived.
 */
static size_t line_end(struct resp_parser *parser, struct ls_span input, char end)
{
    const char *data = input.data;
    size_t from = parser->at + parser->searched;
    const char *found = from < input.bytes ? memchr(data + from, end, input.bytes - from) : NULL;
    if (found == NULL) {
        parser->searched = input.bytes - parser->at;
        return SIZE_MAX;
    }
    return (size_t)(found - data);
}

/*
 * A header line "<mark><number>\r\n" at parser->at. RESP_COMMAND: *number is read and the line is
 * behind us. `wrong` names a bad number, `too_long` a line without an end.
 */
struct header {
    const char *wrong;
    const char *too_long;
    int64_t least, most;
};

static enum resp_result header_read(struct resp_parser *parser, struct ls_span input,
                                    const struct header *header, int64_t *number)
{
    const char *data = input.data;
    size_t end = line_end(parser, input, '\r');
    if (end == SIZE_MAX) {
        return input.bytes - parser->at > KV_LINE_BYTES_MAX ? broken(parser, header->too_long)
                                                            : RESP_MORE;
    }
    if (end + 1 >= input.bytes) {
        parser->searched = end - parser->at;
        return RESP_MORE;
    }
    if (parser->expected >= 0 && data[parser->at] != '$') {
        char reason[40];
        char got = data[parser->at];
        (void)snprintf(reason, sizeof reason, "expected '$', got '%c'",
                       got == '\r' || got == '\n' ? ' ' : got);
        return broken(parser, reason);
    }
    struct ls_span digits = {data + parser->at + 1, end > parser->at ? end - parser->at - 1 : 0};
    if (!kv_integer_parse(digits, number) || *number < header->least || *number > header->most) {
        return broken(parser, header->wrong);
    }
    parser->at = end + 2;
    parser->searched = 0;
    return RESP_COMMAND;
}

/* One argument of an array: its header, its bytes and the two bytes behind it. */
static enum resp_result argument_read(struct resp_parser *parser, struct ls_span input)
{
    if (parser->bulk < 0) {
        const struct header header = {.wrong = "invalid bulk length",
                                      .too_long = "too big bulk count string",
                                      .least = 0,
                                      .most = (int64_t)parser->value_bytes_max};
        enum resp_result result = header_read(parser, input, &header, &parser->bulk);
        if (result != RESP_COMMAND) {
            parser->bulk = -1;
            return result;
        }
        if (parser->unauthenticated && parser->bulk > KV_UNAUTHENTICATED_BULK_MAX) {
            return broken(parser, "unauthenticated bulk length");
        }
        if (parser->at + (size_t)parser->bulk + 2 > parser->command_bytes_max) {
            return broken(parser, "too big request");
        }
    }
    size_t bytes = (size_t)parser->bulk;
    if (input.bytes - parser->at < bytes + 2) {
        return RESP_MORE;
    }
    if (!argument_add(parser, parser->at, bytes)) {
        return broken(parser, "out of memory");
    }
    parser->at += bytes + 2;
    parser->bulk = -1;
    return RESP_COMMAND;
}

static enum resp_result array_parse(struct resp_parser *parser, struct ls_span input,
                                    size_t *consumed)
{
    if (parser->expected < 0) {
        const struct header header = {.wrong = "invalid multibulk length",
                                      .too_long = "too big mbulk count string",
                                      .least = INT64_MIN,
                                      .most = KV_ARGUMENTS_MAX};
        int64_t count = 0;
        enum resp_result result = header_read(parser, input, &header, &count);
        if (result != RESP_COMMAND) {
            return result;
        }
        if (parser->unauthenticated && count > KV_UNAUTHENTICATED_ARGUMENTS_MAX) {
            return broken(parser, "unauthenticated multibulk length");
        }
        parser->expected = count > 0 ? count : 0;
    }
    while (parser->expected > 0) {
        enum resp_result result = argument_read(parser, input);
        if (result != RESP_COMMAND) {
            return result;
        }
        parser->expected--;
    }
    arguments_resolve(parser, input.data);
    return complete(parser, consumed);
}

static bool is_blank(char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static int hex_digit(char byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    char folded = (char)(byte | 0x20);
    return folded >= 'a' && folded <= 'f' ? folded - 'a' + 10 : -1;
}

/* A cursor over an inline command; arguments are unquoted into `out`, which has room for all. */
struct inline_scan {
    const char *at, *end;
    char *out;
};

static char unescape(char byte)
{
    switch (byte) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return byte;
    }
}

/* One escape in double quotes; scan->at is at the backslash and is left behind the escape. */
static void escape_read(struct inline_scan *scan)
{
    const char *at = scan->at;
    if (scan->end - at >= 4 && at[1] == 'x' && hex_digit(at[2]) >= 0 && hex_digit(at[3]) >= 0) {
        *scan->out++ = (char)(hex_digit(at[2]) * 16 + hex_digit(at[3]));
        scan->at += 4;
    } else {
        *scan->out++ = unescape(at[1]);
        scan->at += 2;
    }
}

/* A quoted part from the opening quote on. False: it is not closed, or text touches its end. */
static bool quoted_read(struct inline_scan *scan)
{
    char quote = *scan->at++;
    while (scan->at < scan->end) {
        bool more = scan->end - scan->at >= 2;
        if (*scan->at == quote) {
            scan->at++;
            return scan->at == scan->end || is_blank(*scan->at);
        }
        if (quote == '"' && more && *scan->at == '\\') {
            escape_read(scan);
        } else if (quote == '\'' && more && scan->at[0] == '\\' && scan->at[1] == '\'') {
            *scan->out++ = '\'';
            scan->at += 2;
        } else {
            *scan->out++ = *scan->at++;
        }
    }
    return false;
}

static enum resp_result inline_parse(struct resp_parser *parser, struct ls_span input,
                                     size_t *consumed)
{
    const char *data = input.data;
    size_t end = line_end(parser, input, '\n');
    if (end == SIZE_MAX) {
        return input.bytes > KV_LINE_BYTES_MAX ? broken(parser, "too big inline request")
                                               : RESP_MORE;
    }
    parser->at = end + 1;
    if (end > 0 && data[end - 1] == '\r') {
        end--;
    }
    char *unquoted = realloc(parser->unquoted, end + 1);
    if (unquoted == NULL) {
        return broken(parser, "out of memory");
    }
    parser->unquoted = unquoted;
    struct inline_scan scan = {data, data + end, unquoted};
    for (;;) {
        while (scan.at < scan.end && is_blank(*scan.at)) {
            scan.at++;
        }
        if (scan.at == scan.end) {
            break;
        }
        char *first = scan.out;
        while (scan.at < scan.end && !is_blank(*scan.at)) {
            if (*scan.at != '"' && *scan.at != '\'') {
                *scan.out++ = *scan.at++;
            } else if (!quoted_read(&scan)) {
                return broken(parser, "unbalanced quotes in request");
            } else {
                break;
            }
        }
        if (!argument_add(parser, (size_t)(first - unquoted), (size_t)(scan.out - first))) {
            return broken(parser, "out of memory");
        }
    }
    arguments_resolve(parser, unquoted);
    return complete(parser, consumed);
}

enum resp_result resp_parse(struct resp_parser *parser, struct ls_span input, size_t *consumed)
{
    const char *data = input.data;
    if (parser->at == 0 && parser->searched == 0) {
        parser->argc = 0;
    }
    if (parser->broken) {
        return RESP_BROKEN;
    }
    if (input.bytes == 0) {
        return RESP_MORE;
    }
    return data[0] == '*' ? array_parse(parser, input, consumed)
                          : inline_parse(parser, input, consumed);
}
