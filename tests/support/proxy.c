/* SPDX-License-Identifier: MIT */
/* The proxy of transport tests. It handles EPIPE itself, so that a SIGPIPE can only be Lockstep's.
 */
#include "proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void pipe_end(struct proxy_pipe *pipe)
{
    if (!pipe->open) {
        return;
    }
    pipe->open = false;
    for (size_t side = 0; side < 2; side++) {
        event_free(pipe->readable[side]);
        event_free(pipe->writable[side]);
        evbuffer_free(pipe->pending[side]);
        (void)close(pipe->descriptors[side]);
    }
}

static void pipe_write(struct proxy_pipe *pipe, size_t direction)
{
    int to = pipe->descriptors[1 - direction];
    struct evbuffer *pending = pipe->pending[direction];
    while (!pipe->proxy->frozen && evbuffer_get_length(pending) > 0) {
        struct evbuffer_iovec part;
        (void)evbuffer_peek(pending, -1, NULL, &part, 1);
        ssize_t written = send(to, part.iov_base, part.iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written < 0 && errno == EAGAIN) {
            (void)event_add(pipe->writable[1 - direction], NULL);
            return;
        }
        if (written < 0) {
            pipe_end(pipe);
            return;
        }
        (void)evbuffer_drain(pending, (size_t)written);
    }
}

static void on_pipe(evutil_socket_t descriptor, short what, void *arg)
{
    struct proxy_pipe *pipe = arg;
    static uint8_t data[65536];
    size_t direction = descriptor == pipe->descriptors[0] ? PROXY_TO_TARGET : PROXY_TO_CLIENT;
    if (pipe->proxy->frozen) {
        (void)event_del(pipe->readable[direction]);
        return;
    }
    if ((what & EV_WRITE) != 0) {
        pipe_write(pipe, 1 - direction);
        return;
    }
    ssize_t got = recv(descriptor, data, sizeof data, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    if (got <= 0) {
        pipe_end(pipe);
        return;
    }
    if (pipe->proxy->tap != NULL) {
        pipe->proxy->tap(pipe->proxy->arg, pipe, (enum proxy_direction)direction, data,
                         (size_t)got);
    }
    if (pipe->open) {
        pipe->passed[direction] += (size_t)got;
        (void)evbuffer_add(pipe->pending[direction], data, (size_t)got);
        pipe_write(pipe, direction);
    }
}

static struct sockaddr_in local(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
}

static uint16_t port_of(const char *address)
{
    const char *colon = strrchr(address, ':');
    assert_non_null(colon);
    return (uint16_t)strtoul(colon + 1, NULL, 10);
}

static int dial(uint16_t port)
{
    const struct sockaddr_in address = local(port);
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(descriptor >= 0);
    if (connect(descriptor, (const struct sockaddr *)&address, sizeof address) != 0) {
        (void)close(descriptor);
        return -1;
    }
    return descriptor;
}

int proxy_connect(const char *target)
{
    int descriptor = dial(port_of(target));
    assert_true(descriptor >= 0);
    return descriptor;
}

static void on_client(evutil_socket_t descriptor, short what, void *arg)
{
    struct proxy *proxy = arg;
    (void)what;
    int client = accept(descriptor, NULL, NULL);
    if (client < 0) {
        return;
    }
    int target = dial(proxy->target);
    if (target < 0) {
        (void)close(client);
        return;
    }
    assert_true(proxy->count < PROXY_PIPES_MAX);
    struct proxy_pipe *pipe = &proxy->pipes[proxy->count];
    *pipe = (struct proxy_pipe){.proxy = proxy, .number = proxy->count, .open = true};
    proxy->count++;
    pipe->descriptors[0] = client;
    pipe->descriptors[1] = target;
    for (size_t side = 0; side < 2; side++) {
        int at = pipe->descriptors[side];
        (void)fcntl(at, F_SETFL, O_NONBLOCK);
        pipe->readable[side] = event_new(proxy->base, at, EV_READ | EV_PERSIST, on_pipe, pipe);
        pipe->writable[side] = event_new(proxy->base, at, EV_WRITE, on_pipe, pipe);
        pipe->pending[side] = evbuffer_new();
        assert_int_equal(event_add(pipe->readable[side], NULL), 0);
    }
}

void proxy_open(struct proxy *proxy, struct event_base *base, const char *target)
{
    uint16_t port = test_port();
    const struct sockaddr_in address = local(port);
    const int on = 1;
    (void)memset(proxy, 0, sizeof *proxy);
    proxy->base = base;
    proxy->target = port_of(target);
    (void)snprintf(proxy->address, sizeof proxy->address, "127.0.0.1:%u", (unsigned)port);
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(proxy->listener >= 0);
    (void)setsockopt(proxy->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    assert_int_equal(bind(proxy->listener, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(proxy->listener, 64), 0);
    proxy->acceptable = event_new(base, proxy->listener, EV_READ | EV_PERSIST, on_client, proxy);
    assert_int_equal(event_add(proxy->acceptable, NULL), 0);
}

void proxy_cut(struct proxy *proxy)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    for (size_t i = 0; i < proxy->count; i++) {
        if (proxy->pipes[i].open) {
            for (size_t side = 0; side < 2; side++) {
                (void)setsockopt(proxy->pipes[i].descriptors[side], SOL_SOCKET, SO_LINGER, &reset,
                                 sizeof reset);
            }
            pipe_end(&proxy->pipes[i]);
        }
    }
}

void proxy_close(struct proxy *proxy)
{
    proxy_cut(proxy);
    event_free(proxy->acceptable);
    (void)close(proxy->listener);
}
