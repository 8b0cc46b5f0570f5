/* SPDX-License-Identifier: MIT */
/*
 * The hostile network between two endpoints: a TCP proxy in the test's own event base that can
 * watch, change, hold back, cut and inject.
 */
#ifndef LOCKSTEP_TEST_PROXY_H
#define LOCKSTEP_TEST_PROXY_H

#include <event2/buffer.h>
#include <event2/event.h>

#include "test.h"

#define PROXY_PIPES_MAX 64

enum proxy_direction { PROXY_TO_TARGET = 0, PROXY_TO_CLIENT = 1 };

struct proxy;

struct proxy_pipe {
    struct proxy *proxy;
    size_t number; /* in order of acceptance */
    bool open;
    int descriptors[2]; /* of the client, of the target */
    struct event *readable[2], *writable[2];
    struct evbuffer *pending[2]; /* by direction */
    uint64_t passed[2];          /* bytes, by direction */
};

struct proxy {
    struct event_base *base;
    char address[LS_ADDRESS_BYTES]; /* where it listens */
    uint16_t target;                /* port on 127.0.0.1 */
    int listener;
    struct event *acceptable;
    struct proxy_pipe pipes[PROXY_PIPES_MAX];
    size_t count;
    bool frozen; /* nothing passes, nothing is closed */
    /** May change what passes. */
    void (*tap)(void *arg, struct proxy_pipe *pipe, enum proxy_direction direction, uint8_t *data,
                size_t bytes);
    void *arg;
};

/** Proxies to "127.0.0.1:port". */
void proxy_open(struct proxy *proxy, struct event_base *base, const char *target);
/** Resets all connections; new ones are accepted. */
void proxy_cut(struct proxy *proxy);
void proxy_close(struct proxy *proxy);

/** A blocking socket connected to "127.0.0.1:port". */
int proxy_connect(const char *target);

#endif
