/* SPDX-License-Identifier: MIT */
/*
 * What the TCP backend needs of the world below it: byte streams, timers, and somebody who calls
 * when they are due. In production that is libevent and the system's sockets (net.c); a simulator
 * puts a virtual clock and a virtual network here, and runs all of the backend above it.
 */
#ifndef LOCKSTEP_TRANSPORT_NET_H
#define LOCKSTEP_TRANSPORT_NET_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include <lockstep/transport.h>

#include "socket.h"

enum ls__event_kind {
    LS__EVENT_READABLE = 1, /* fires as long as there is something to read, until removed */
    LS__EVENT_WRITABLE = 2, /* fires once: there is room, or the dialling ended */
    LS__EVENT_TIMER = 3     /* fires once, after the time it was added with; no descriptor */
};

/** Lives where its owner puts it, and is removed before that ends. */
struct ls__event {
    enum ls__event_kind kind;
    int descriptor; /* of a timer: -1 */
    void (*fire)(void *arg);
    void *arg;
    struct event libevent; /* of net.c */
    uint64_t word;         /* of another net; 0 at first */
};

/** Descriptors are numbers >= 0 that only the net understands. Thread: the loop's. */
struct ls__net {
    void *self;
    /** Once for each event, before anything else; it is not added by that. */
    void (*prepare)(void *self, struct ls__event *event);
    /** after_us counts for timers only, and replaces the time of one that was added before. False:
     * out of memory. */
    bool (*add)(void *self, struct ls__event *event, uint64_t after_us);
    /** It does not fire any more. */
    void (*remove)(void *self, struct ls__event *event);
    /** Fires once, soon, but not inside of this call. */
    void (*activate)(void *self, struct ls__event *event);

    /* -1: errno tells */
    int (*dial)(void *self, const struct ls__address *address);
    int (*listen)(void *self, const struct ls__address *address);
    int (*accept)(void *self, int listener, struct ls__address *remote);
    /** Why dialling failed; 0: it is connected. */
    int (*failure)(void *self, int descriptor);
    /** Bytes written, 0: no room now, -1: errno. */
    ssize_t (*write)(void *self, int descriptor, struct iovec *vectors, size_t count);
    /** Bytes received, 0: the peer closed, -1: errno (EAGAIN: nothing there). */
    ssize_t (*read)(void *self, int descriptor, void *out, size_t bytes);
    /** What was written arrives, as far as the net can see to it. */
    void (*close)(void *self, int descriptor);
};

/** libevent's `base` and the system's sockets. */
struct ls__net ls__net_system(struct event_base *base);

/**
 * As ls_transport_tcp_open, over `net`: copied, and the base given to start() is not looked at;
 * NULL: that base and the system's sockets.
 * queue_bytes  that wait for one lane of one peer before send() says LS_ERR_BUSY; a message that
 *              finds nothing waiting is always taken. Pinned until close; NULL:
 *              LS_SEND_QUEUE_BYTES_MAX
 */
LS_NODISCARD enum ls_status ls__tcp_open_over(const struct ls_transport_tcp_options *options,
                                              const struct ls__net *net, const size_t *queue_bytes,
                                              struct ls_transport *out, struct ls_error *error);

#endif
