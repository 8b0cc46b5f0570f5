/* SPDX-License-Identifier: MIT */
/* The world below in production: libevent's events, the system's sockets. */
#include "net.h"

static void on_event(evutil_socket_t descriptor, short what, void *arg)
{
    (void)descriptor;
    (void)what;
    const struct ls__event *event = arg;
    event->fire(event->arg);
}

static void net_prepare(void *self, struct ls__event *event)
{
    static const short flags[] = {
        [LS__EVENT_READABLE] = EV_READ | EV_PERSIST, [LS__EVENT_WRITABLE] = EV_WRITE};
    short what = event->kind == LS__EVENT_TIMER ? 0 : flags[event->kind];
    (void)event_assign(&event->libevent, self, event->descriptor, what, on_event, event);
}

static bool net_add(void *self, struct ls__event *event, uint64_t after_us)
{
    (void)self;
    const struct timeval after = {(time_t)(after_us / 1000000u),
                                  (suseconds_t)(after_us % 1000000u)};
    return event_add(&event->libevent, event->kind == LS__EVENT_TIMER ? &after : NULL) == 0;
}

static void net_remove(void *self, struct ls__event *event)
{
    (void)self;
    (void)event_del(&event->libevent);
}

static void net_activate(void *self, struct ls__event *event)
{
    (void)self;
    event_active(&event->libevent, event->kind == LS__EVENT_READABLE ? EV_READ : EV_TIMEOUT, 0);
}

static int net_dial(void *self, const struct ls__address *address)
{
    (void)self;
    return ls__socket_dial(address);
}

static int net_listen(void *self, const struct ls__address *address)
{
    (void)self;
    return ls__socket_listen(address);
}

static int net_accept(void *self, int listener, struct ls__address *remote)
{
    (void)self;
    return ls__socket_accept(listener, remote);
}

static int net_failure(void *self, int descriptor)
{
    (void)self;
    return ls__socket_error(descriptor);
}

static ssize_t net_write(void *self, int descriptor, struct iovec *vectors, size_t count)
{
    (void)self;
    return ls__socket_write(descriptor, vectors, count);
}

static ssize_t net_read(void *self, int descriptor, void *out, size_t bytes)
{
    (void)self;
    return ls__socket_read(descriptor, out, bytes);
}

static void net_close(void *self, int descriptor)
{
    (void)self;
    ls__socket_close(descriptor);
}

struct ls__net ls__net_system(struct event_base *base)
{
    return (struct ls__net){.self = base,
                            .prepare = net_prepare,
                            .add = net_add,
                            .remove = net_remove,
                            .activate = net_activate,
                            .dial = net_dial,
                            .listen = net_listen,
                            .accept = net_accept,
                            .failure = net_failure,
                            .write = net_write,
                            .read = net_read,
                            .close = net_close};
}
