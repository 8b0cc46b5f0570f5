/* SPDX-License-Identifier: MIT */
/* The system calls of TCP. */
#define _GNU_SOURCE /* accept4 */
#include "socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LISTEN_BACKLOG 128

const char *ls__address_split(const char *text, char host[LS__HOST_BYTES], char port[8])
{
    const char *colon = strrchr(text, ':');
    size_t length = strlen(text);
    if (colon == NULL || length >= LS_ADDRESS_BYTES) {
        return "expected host:port";
    }
    const char *from = text, *end = colon;
    if (from[0] == '[' && end > from && end[-1] == ']') {
        from++;
        end--;
    }
    size_t digits = strspn(colon + 1, "0123456789");
    if (end <= from || digits == 0 || digits > 5 || colon[1 + digits] != '\0') {
        return "expected host:port";
    }
    unsigned number = 0;
    for (const char *at = colon + 1; *at != '\0'; at++) {
        number = number * 10 + (unsigned)(*at - '0');
    }
    if (number == 0 || number > 65535) {
        return "expected a port from 1 to 65535";
    }
    (void)memcpy(host, from, (size_t)(end - from));
    host[end - from] = '\0';
    (void)snprintf(port, 8, "%u", number);
    return NULL;
}

const char *ls__address_resolve(const char *text, bool numeric, struct ls__address *out)
{
    char host[LS__HOST_BYTES], port[8];
    const char *reason = ls__address_split(text, host, port);
    if (reason != NULL) {
        return reason;
    }
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_NUMERICSERV | (numeric ? AI_NUMERICHOST : 0)};
    struct addrinfo *found = NULL;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed != 0) {
        return gai_strerror(failed);
    }
    (void)memset(out, 0, sizeof *out);
    (void)memcpy(&out->storage, found->ai_addr, found->ai_addrlen);
    out->bytes = found->ai_addrlen;
    freeaddrinfo(found);
    return NULL;
}

void ls__address_text(const struct ls__address *address, char out[LS_ADDRESS_BYTES])
{
    char host[LS__HOST_BYTES], port[16];
    const struct sockaddr *name = (const struct sockaddr *)&address->storage;
    if (getnameinfo(name, address->bytes, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        (void)snprintf(out, LS_ADDRESS_BYTES, "?");
        return;
    }
    bool six = address->storage.ss_family == AF_INET6;
    (void)snprintf(out, LS_ADDRESS_BYTES, "%s%.100s%s:%s", six ? "[" : "", host, six ? "]" : "",
                   port);
}

static void set_option(int descriptor, int level, int option)
{
    const int on = 1;
    (void)setsockopt(descriptor, level, option, &on, sizeof on);
}

static int abandon(int descriptor)
{
    int reason = errno;
    (void)close(descriptor);
    errno = reason;
    return -1;
}

int ls__socket_dial(const struct ls__address *address)
{
    int descriptor =
        socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        return -1;
    }
    set_option(descriptor, IPPROTO_TCP, TCP_NODELAY);
    const struct sockaddr *name = (const struct sockaddr *)&address->storage;
    if (connect(descriptor, name, address->bytes) != 0 && errno != EINPROGRESS && errno != EINTR) {
        return abandon(descriptor);
    }
    return descriptor;
}

int ls__socket_listen(const struct ls__address *address)
{
    int descriptor =
        socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) {
        return -1;
    }
    set_option(descriptor, SOL_SOCKET, SO_REUSEADDR);
    const struct sockaddr *name = (const struct sockaddr *)&address->storage;
    if (bind(descriptor, name, address->bytes) != 0 || listen(descriptor, LISTEN_BACKLOG) != 0) {
        return abandon(descriptor);
    }
    return descriptor;
}

int ls__socket_accept(int listener, struct ls__address *remote)
{
    remote->bytes = sizeof remote->storage;
    int descriptor = accept4(listener, (struct sockaddr *)&remote->storage, &remote->bytes,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor >= 0) {
        set_option(descriptor, IPPROTO_TCP, TCP_NODELAY);
    }
    return descriptor;
}

int ls__socket_error(int descriptor)
{
    int reason = 0;
    socklen_t bytes = sizeof reason;
    return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &reason, &bytes) == 0 ? reason : errno;
}

ssize_t ls__socket_write(int descriptor, struct iovec *vectors, size_t count)
{
    const struct msghdr message = {.msg_iov = vectors, .msg_iovlen = count};
    for (;;) {
        ssize_t written = sendmsg(descriptor, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written >= 0) {
            return written;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return 0;
        }
        if (errno != EINTR) {
            return -1;
        }
    }
}

ssize_t ls__socket_read(int descriptor, void *out, size_t bytes)
{
    for (;;) {
        ssize_t got = recv(descriptor, out, bytes, MSG_DONTWAIT);
        if (got >= 0 || errno != EINTR) {
            return got;
        }
    }
}

void ls__socket_close(int descriptor)
{
    /* at most so much is discarded: a peer that never stops is not waited for */
    enum { DISCARD_READS_MAX = 64 };
    uint8_t scratch[4096];
    (void)shutdown(descriptor, SHUT_WR);
    for (int i = 0; i < DISCARD_READS_MAX; i++) {
        if (recv(descriptor, scratch, sizeof scratch, MSG_DONTWAIT) <= 0) {
            break;
        }
    }
    (void)close(descriptor);
}
