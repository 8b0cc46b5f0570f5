/* SPDX-License-Identifier: MIT */
/*
 * The loop port over libevent: one timer, one watched descriptor, one deferred turn, and an eventfd
 * by which other threads wake it. Nothing else of machine/ knows libevent.
 */
#include "runtime.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

struct loop {
    struct event_base *base;
    bool own_base;
    pthread_t thread;
    struct ls_loop_sink sink;
    struct event *timer, *watch, *turn, *wake;
    int wake_fd;
    bool deferred;
    bool *in_turn; /* set while a turn runs: cleared by close, which the turn may call */
};

static void on_timer(evutil_socket_t descriptor, short what, void *self)
{
    (void)descriptor;
    (void)what;
    struct loop *loop = self;
    loop->sink.timer(loop->sink.self);
}

static void on_readable(evutil_socket_t descriptor, short what, void *self)
{
    (void)descriptor;
    (void)what;
    struct loop *loop = self;
    loop->sink.readable(loop->sink.self);
}

static void on_turn(evutil_socket_t descriptor, short what, void *self)
{
    (void)descriptor;
    (void)what;
    struct loop *loop = self;
    bool open = true;
    loop->deferred = false;
    loop->in_turn = &open;
    loop->sink.turn(loop->sink.self);
    if (open) {
        loop->in_turn = NULL;
    }
}

static void loop_defer(void *self)
{
    struct loop *loop = self;
    if (loop->deferred) {
        return;
    }
    loop->deferred = true;
    if (loop->in_turn != NULL) {
        /* libevent runs what a callback activates before it looks at any socket again: a turn with
         * more to do comes after that look */
        const struct timeval at_once = {0, 0};
        (void)event_add(loop->turn, &at_once);
    } else {
        event_active(loop->turn, 0, 0);
    }
}

static void on_wake(evutil_socket_t descriptor, short what, void *self)
{
    (void)what;
    uint64_t count = 0;
    (void)!read(descriptor, &count, sizeof count);
    loop_defer(self);
}

static void loop_attach(void *self, const struct ls_loop_sink *sink)
{
    struct loop *loop = self;
    loop->sink = *sink;
}

static void loop_arm(void *self, uint64_t at_us)
{
    struct loop *loop = self;
    if (at_us == UINT64_MAX) {
        (void)event_del(loop->timer);
        return;
    }
    uint64_t now = ls_env_default()->now_us(NULL);
    uint64_t wait = at_us > now ? at_us - now : 0;
    struct timeval after = {.tv_sec = (time_t)(wait / 1000000u),
                            .tv_usec = (suseconds_t)(wait % 1000000u)};
    (void)event_add(loop->timer, &after);
}

static void loop_watch(void *self, int descriptor)
{
    struct loop *loop = self;
    if (loop->watch != NULL) {
        event_free(loop->watch);
        loop->watch = NULL;
    }
    if (descriptor >= 0) {
        loop->watch = event_new(loop->base, descriptor, EV_READ | EV_PERSIST, on_readable, loop);
        LS_ASSERT(loop->watch != NULL && event_add(loop->watch, NULL) == 0);
    }
}

static void loop_wake(void *self)
{
    const struct loop *loop = self;
    const uint64_t one = 1;
    (void)!write(loop->wake_fd, &one, sizeof one);
}

static bool loop_inside(void *self)
{
    const struct loop *loop = self;
    return pthread_equal(loop->thread, pthread_self()) != 0;
}

static void *loop_base(void *self)
{
    const struct loop *loop = self;
    return loop->base;
}

static void loop_close(void *self)
{
    struct loop *loop = self;
    if (loop->in_turn != NULL) {
        *loop->in_turn = false;
    }
    struct event *events[] = {loop->timer, loop->watch, loop->turn, loop->wake};
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        if (events[i] != NULL) {
            event_free(events[i]);
        }
    }
    if (loop->wake_fd >= 0) {
        (void)close(loop->wake_fd);
    }
    if (loop->own_base && loop->base != NULL) {
        event_base_free(loop->base);
    }
    free(loop);
}

enum ls_status ls__loop_libevent(struct event_base *base, struct ls_loop *out,
                                 struct ls_error *error)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "open the event loop: out of memory");
    }
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->own_base = base == NULL;
    loop->base = base != NULL ? base : event_base_new();
    loop->thread = pthread_self();
    if (loop->base != NULL && loop->wake_fd >= 0) {
        loop->timer = event_new(loop->base, -1, 0, on_timer, loop);
        loop->turn = event_new(loop->base, -1, 0, on_turn, loop);
        loop->wake = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
    }
    if (loop->timer == NULL || loop->turn == NULL || loop->wake == NULL ||
        event_add(loop->wake, NULL) != 0) {
        loop_close(loop);
        return ls_error_set(error, LS_ERR_NO_MEMORY,
                            "open the event loop: out of memory or descriptors");
    }
    *out = (struct ls_loop){.size = sizeof *out,
                            .self = loop,
                            .attach = loop_attach,
                            .arm = loop_arm,
                            .watch = loop_watch,
                            .defer = loop_defer,
                            .wake = loop_wake,
                            .inside = loop_inside,
                            .base = loop_base,
                            .close = loop_close};
    return LS_OK;
}

void ls__loop_runs_on(struct ls_loop *self, pthread_t thread)
{
    struct loop *loop = self->self;
    loop->thread = thread;
}

void ls__loop_run(struct ls_loop *self)
{
    const struct loop *loop = self->self;
    (void)event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
}

void ls__loop_stop(struct ls_loop *self)
{
    const struct loop *loop = self->self;
    (void)event_base_loopbreak(loop->base);
}
