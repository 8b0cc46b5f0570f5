/* SPDX-License-Identifier: MIT */
/* The log. A line is one write, so that threads and processes that append do not mix theirs. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 2048, HEX_BYTES = 9 };

static struct {
    int descriptor;
    enum ls_trace_level level;
    size_t names_count;
    struct {
        char hex[HEX_BYTES]; /* how ls_trace_render shows the peer */
        char name[LS_NAME_BYTES];
    } names[LS_MEMBERS_MAX];
} journal = {.descriptor = STDERR_FILENO, .level = LS_TRACE_INFO};

enum ls_status kv_log_open(const char *file, enum ls_trace_level level, struct ls_error *error)
{
    journal.level = level;
    if (file != NULL) {
        int descriptor = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
        if (descriptor < 0) {
            return ls_error_set(error, LS_ERR_IO, "log file %s: %s", file, strerror(errno));
        }
        journal.descriptor = descriptor;
    }
    return LS_OK;
}

void kv_log_close(void)
{
    if (journal.descriptor != STDERR_FILENO) {
        (void)close(journal.descriptor);
        journal.descriptor = STDERR_FILENO;
    }
}

void kv_log_name(const struct ls_peer_id *peer, const char *name)
{
    if (journal.names_count == LS_MEMBERS_MAX) {
        return;
    }
    (void)snprintf(journal.names[journal.names_count].hex, HEX_BYTES, "%02x%02x%02x%02x",
                   peer->bytes[0], peer->bytes[1], peer->bytes[2], peer->bytes[3]);
    (void)snprintf(journal.names[journal.names_count].name, LS_NAME_BYTES, "%s", name);
    journal.names_count++;
}

static void write_line(const char *text)
{
    char line[LINE_BYTES];
    struct timespec now;
    struct tm parts;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)localtime_r(&now.tv_sec, &parts);
    size_t length = strftime(line, sizeof line, "%Y-%m-%d %H:%M:%S", &parts);
    int printed =
        snprintf(line + length, sizeof line - length - 1, ".%03ld %s", now.tv_nsec / 1000000, text);
    length += printed < 0 ? 0 : (size_t)printed;
    if (length > sizeof line - 2) {
        length = sizeof line - 2;
    }
    line[length++] = '\n';
    (void)!write(journal.descriptor, line, length);
}

void kv_log(enum ls_trace_level level, const char *format, ...)
{
    static const char *const levels[] = {"", "error ", "warn ", "info ", "debug "};
    char text[LINE_BYTES];
    if (level > journal.level) {
        return;
    }
    int length = snprintf(text, sizeof text, "%s", levels[level]);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text + length, sizeof text - (size_t)length, format, arguments);
    va_end(arguments);
    write_line(text);
}

/* Puts the peer's name where its first bytes stand. */
static void name_peer(char text[LINE_BYTES], const struct ls_peer_id *peer)
{
    char hex[HEX_BYTES];
    (void)snprintf(hex, sizeof hex, "%02x%02x%02x%02x", peer->bytes[0], peer->bytes[1],
                   peer->bytes[2], peer->bytes[3]);
    char *at = strstr(text, hex);
    for (size_t i = 0; at != NULL && i < journal.names_count; i++) {
        if (strcmp(journal.names[i].hex, hex) == 0) {
            char rest[LINE_BYTES];
            (void)snprintf(rest, sizeof rest, "%s", at + HEX_BYTES - 1);
            (void)snprintf(at, LINE_BYTES - (size_t)(at - text), "%s%s", journal.names[i].name,
                           rest);
            return;
        }
    }
}

void kv_log_trace(void *self, const struct ls_trace *trace)
{
    (void)self;
    char text[LINE_BYTES];
    if (trace->level > journal.level) {
        return;
    }
    (void)ls_trace_render(trace, text, sizeof text);
    if (trace->peer != NULL) {
        name_peer(text, trace->peer);
    }
    write_line(text);
}
