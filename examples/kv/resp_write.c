/* SPDX-License-Identifier: MIT */
/* The reply writer: RESP2 and RESP3 into a growing buffer. */
#include "resp.h"

#include <stdarg.h>
#include <stdio.h>

#include "text.h"

enum { ERROR_BYTES_MAX = 512 };

/* "<mark><number>\r\n" */
static void header_write(struct resp_out *out, char mark, int64_t number)
{
    char line[KV_INTEGER_BYTES + 3];
    line[0] = mark;
    size_t length = 1 + kv_integer_print(number, line + 1);
    line[length++] = '\r';
    line[length++] = '\n';
    kv_buffer_append(out->buffer, line, length);
}

void resp_simple(struct resp_out *out, const char *text)
{
    kv_buffer_append(out->buffer, "+", 1);
    kv_buffer_append(out->buffer, text, strlen(text));
    kv_buffer_append(out->buffer, "\r\n", 2);
}

void resp_error(struct resp_out *out, const char *format, ...)
{
    char text[ERROR_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    int printed = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t length = printed < 0 ? 0 : strlen(text);
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\r' || text[i] == '\n') {
            text[i] = ' ';
        }
    }
    kv_buffer_append(out->buffer, "-", 1);
    kv_buffer_append(out->buffer, text, length);
    kv_buffer_append(out->buffer, "\r\n", 2);
}

void resp_integer(struct resp_out *out, int64_t number)
{
    header_write(out, ':', number);
}

void resp_bulk(struct resp_out *out, struct ls_span bytes)
{
    header_write(out, '$', (int64_t)bytes.bytes);
    kv_buffer_append(out->buffer, bytes.data, bytes.bytes);
    kv_buffer_append(out->buffer, "\r\n", 2);
}

void resp_text(struct resp_out *out, const char *text)
{
    resp_bulk(out, (struct ls_span){text, strlen(text)});
}

void resp_null(struct resp_out *out)
{
    const char *text = out->protocol >= 3 ? "_\r\n" : "$-1\r\n";
    kv_buffer_append(out->buffer, text, strlen(text));
}

void resp_array(struct resp_out *out, size_t count)
{
    header_write(out, '*', (int64_t)count);
}

void resp_map(struct resp_out *out, size_t pairs)
{
    if (out->protocol >= 3) {
        header_write(out, '%', (int64_t)pairs);
    } else {
        header_write(out, '*', (int64_t)pairs * 2);
    }
}

void resp_set(struct resp_out *out, size_t count)
{
    header_write(out, out->protocol >= 3 ? '~' : '*', (int64_t)count);
}

void resp_verbatim(struct resp_out *out, struct ls_span text)
{
    if (out->protocol < 3) {
        resp_bulk(out, text);
        return;
    }
    header_write(out, '=', (int64_t)text.bytes + 4);
    kv_buffer_append(out->buffer, "txt:", 4);
    kv_buffer_append(out->buffer, text.data, text.bytes);
    kv_buffer_append(out->buffer, "\r\n", 2);
}

void resp_relay(struct resp_out *out, struct ls_span reply)
{
    if (reply.bytes == 3 && memcmp(reply.data, "_\r\n", 3) == 0) {
        resp_null(out);
    } else {
        kv_buffer_append(out->buffer, reply.data, reply.bytes);
    }
}
