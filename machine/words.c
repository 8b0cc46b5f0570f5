/* SPDX-License-Identifier: MIT */
/*
 * The functions behind the words of include/lockstep that every room may call: status texts,
 * errors, trace rendering, the assert hook, the version. Never allocates.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lockstep/env.h>
#include <lockstep/node.h>

void ls_assert_failed(const char *text, const char *file, int line)
{
    (void)fprintf(stderr, "lockstep: assertion failed: %s (%s:%d)\n", text, file, line);
    abort();
}

const char *ls_version(void)
{
    return "0.1.0";
}

const char *ls_status_text(enum ls_status status)
{
    switch (status) {
    case LS_OK:
        return "ok";
    case LS_ERR_INVALID:
        return "an argument or setting is wrong";
    case LS_ERR_NO_MEMORY:
        return "out of memory";
    case LS_ERR_BUSY:
        return "a bounded queue is full";
    case LS_ERR_LIMIT:
        return "larger than the limit";
    case LS_ERR_CLOSED:
        return "closed";
    case LS_ERR_NO_LEADER:
        return "no leader";
    case LS_ERR_NOT_LEADER:
        return "not the leader";
    case LS_ERR_UNKNOWN:
        return "outcome unknown";
    case LS_ERR_TIMEOUT:
        return "deadline reached";
    case LS_ERR_IO:
        return "input or output failed";
    case LS_ERR_CORRUPT:
        return "stored bytes are damaged";
    case LS_ERR_LOCKED:
        return "in use by another process";
    case LS_ERR_FORMAT:
        return "unknown format version";
    case LS_ERR_DIVERGED:
        return "a peer contradicts a committed entry";
    case LS_ERR_PROTOCOL:
        return "protocol broken";
    case LS_ERR_NOT_FOUND:
        return "not found";
    case LS_ERR_COMPACTED:
        return "pruned from the log";
    case LS_ERR_MISMATCH:
        return "belongs to another group, machine or incarnation";
    case LS_ERR_AUTH:
        return "the network key could not be proven";
    case LS_ERR_WOULD_DEADLOCK:
        return "a blocking wait on the loop's own thread";
    case LS_ERR_REENTRANT:
        return "called by a machine";
    case LS_ERR_HALTED:
        return "the group is halted";
    case LS_ERR_UNREACHABLE:
        return "no link to that peer";
    }
    return "unknown status";
}

enum ls_status ls_error_set(struct ls_error *error, enum ls_status status, const char *format, ...)
{
    if (error != NULL) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        (void)vsnprintf(error->text, sizeof error->text, format, arguments);
        va_end(arguments);
    }
    return status;
}

enum ls_status ls_error_wrap(struct ls_error *error, enum ls_status status, const char *format, ...)
{
    if (error == NULL) {
        return status;
    }
    char prefix[LS_ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int printed = vsnprintf(prefix, sizeof prefix, format, arguments);
    va_end(arguments);
    size_t before = printed < 0 ? 0 : strlen(prefix);
    size_t room = sizeof error->text - before;
    if (before > 0 && room > sizeof ": ") {
        (void)memmove(error->text + before + 2, error->text, room - 3);
        (void)memcpy(error->text, prefix, before);
        (void)memcpy(error->text + before, ": ", 2);
        error->text[sizeof error->text - 1] = '\0';
    }
    return error->status;
}

/* Output that counts what did not fit. */
struct render {
    char *out;
    size_t capacity, length;
};

static void render_text(struct render *render, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (render->length + 1 < render->capacity) {
            render->out[render->length] = text[i];
        }
        render->length++;
    }
}

static void render_number(struct render *render, uint64_t number)
{
    char digits[24];
    int count = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    render_text(render, digits, (size_t)count);
}

static void render_hex(struct render *render, const uint8_t *bytes, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        char pair[2] = {digits[bytes[i] >> 4], digits[bytes[i] & 15]};
        render_text(render, pair, sizeof pair);
    }
}

size_t ls_trace_render(const struct ls_trace *trace, char *out, size_t capacity)
{
    static const char *const levels[] = {"?", "error", "warn", "info", "debug"};
    struct render render = {out, capacity, 0};
    const char *level = levels[trace->level <= LS_TRACE_DEBUG ? trace->level : 0];
    render_text(&render, level, strlen(level));
    render_text(&render, " ", 1);
    render_text(&render, trace->room, strlen(trace->room));
    if (trace->group != NULL) {
        render_text(&render, "/", 1);
        render_hex(&render, trace->group->bytes, 4);
    }
    render_text(&render, ": ", 2);
    size_t next = 0;
    for (const char *at = trace->format; *at != '\0'; at++) {
        if (strncmp(at, "{}", 2) == 0 && next < LS_TRACE_ARGS_MAX) {
            render_number(&render, trace->args[next++]);
            at += 1;
        } else if (strncmp(at, "{^}", 3) == 0 && next + 1 < LS_TRACE_ARGS_MAX) {
            render_number(&render, trace->args[next]);
            render_text(&render, "^", 1);
            render_number(&render, trace->args[next + 1]);
            next += 2;
            at += 2;
        } else if (strncmp(at, "{p}", 3) == 0 && trace->peer != NULL) {
            render_hex(&render, trace->peer->bytes, 4);
            at += 2;
        } else {
            render_text(&render, at, 1);
        }
    }
    if (trace->detail != NULL) {
        render_text(&render, ": ", 2);
        render_text(&render, trace->detail, strlen(trace->detail));
    }
    if (capacity > 0) {
        out[render.length < capacity ? render.length : capacity - 1] = '\0';
    }
    return render.length;
}

void ls_trace_to_stderr(void *self, const struct ls_trace *trace)
{
    (void)self;
    if (trace->level > LS_TRACE_WARN) {
        return;
    }
    char line[1024];
    (void)ls_trace_render(trace, line, sizeof line);
    (void)fprintf(stderr, "lockstep: %s\n", line);
}
