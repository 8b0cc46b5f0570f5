/* SPDX-License-Identifier: MIT */
/*
 * The loop port: what the node needs of an event loop. Production uses libevent (machine/loop.c);
 * the simulator drives the same node from its event queue.
 */
#ifndef LOCKSTEP_LOOP_H
#define LOCKSTEP_LOOP_H

#include <lockstep/types.h>

LS_EXTERN_C_BEGIN

struct ls_loop_sink {
    void *self;
    void (*timer)(void *self);    /* the armed time has come */
    void (*readable)(void *self); /* the watched descriptor is readable */
    void (*turn)(void *self);     /* asked for by defer or wake: the end-of-turn flush */
};

struct ls_loop {
    size_t size;
    void *self;
    void (*attach)(void *self, const struct ls_loop_sink *sink);
    void (*arm)(void *self,
                uint64_t at_us); /* one timer; replaces the earlier one; UINT64_MAX disarms */
    void (*watch)(void *self, int descriptor); /* -1: none */
    void (*defer)(void *self);  /* turn() once, at the end of this loop turn; idempotent */
    void (*wake)(void *self);   /* the same from any thread */
    bool (*inside)(void *self); /* on the loop's thread? Any thread. */
    void *(*base)(void *self);  /* the struct event_base, or NULL */
    void (*close)(void *self);  /* detaches; no sink call after it. Loop's thread. Frees self */
};

LS_EXTERN_C_END

#endif
