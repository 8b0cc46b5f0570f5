/* SPDX-License-Identifier: MIT */
/* The loop port over libevent. */
#include "test.h"

#include <event2/event.h>

#include "runtime.h"

struct busy {
    struct event_base *base;
    struct ls_loop loop;
    uint32_t turns, ticks, ticks_needed;
};

static void on_timer(void *self)
{
    (void)self;
}

static void on_tick(evutil_socket_t descriptor, short what, void *arg)
{
    (void)descriptor;
    (void)what;
    struct busy *busy = arg;
    busy->ticks++;
}

/* Always has more to do, until something else had its turn. */
static void on_turn(void *self)
{
    struct busy *busy = self;
    busy->turns++;
    if (busy->ticks >= busy->ticks_needed || busy->turns == 1000000) {
        (void)event_base_loopbreak(busy->base);
    } else {
        busy->loop.defer(busy->loop.self);
    }
}

/* Y5: heartbeats and votes arrive while a long backlog is applied. */
TEST(loop, a_turn_with_always_more_to_do_leaves_the_others_their_turn)
{
    struct busy busy = {.base = event_base_new(), .ticks_needed = 3};
    assert_non_null(busy.base);
    assert_ok(ls__loop_libevent(busy.base, &busy.loop, NULL));
    struct ls_loop_sink sink = {&busy, on_timer, on_timer, on_turn};
    busy.loop.attach(busy.loop.self, &sink);
    struct event *tick = event_new(busy.base, -1, EV_PERSIST, on_tick, &busy);
    const struct timeval often = {0, 1000};
    assert_non_null(tick);
    assert_int_equal(event_add(tick, &often), 0);
    busy.loop.defer(busy.loop.self);
    (void)event_base_loop(busy.base, 0);
    assert_int_equal(busy.ticks, busy.ticks_needed);
    event_free(tick);
    busy.loop.close(busy.loop.self);
    event_base_free(busy.base);
}

static void close_in_turn(void *self)
{
    struct busy *busy = self;
    busy->turns++;
    busy->loop.close(busy->loop.self);
}

/* Y15 */
TEST(loop, may_be_closed_by_its_own_turn)
{
    struct busy busy = {.base = event_base_new()};
    assert_non_null(busy.base);
    assert_ok(ls__loop_libevent(busy.base, &busy.loop, NULL));
    struct ls_loop_sink sink = {&busy, on_timer, on_timer, close_in_turn};
    busy.loop.attach(busy.loop.self, &sink);
    busy.loop.defer(busy.loop.self);
    busy.loop.defer(busy.loop.self);
    (void)event_base_loop(busy.base, 0);
    assert_int_equal(busy.turns, 1);
    event_base_free(busy.base);
}
