/* SPDX-License-Identifier: MIT */
/*
 * What one encrypted link carries over 127.0.0.1, one way, sender and receiver on a thread each:
 * large messages on the bulk lane, small ones on the consensus lane, flushed in batches; and how
 * often one message goes to and fro.
 */
#include <event2/event.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <lockstep/transport.h>

enum { MEASURE_US = 1000000, BATCH = 64, ECHO_BYTES = 100 };

struct side {
    struct event_base *base;
    struct ls_identity *identity;
    struct ls_transport transport;
    struct ls_peer_id peer;
    struct ls_group_id group;
    struct event *pump;
    enum ls_lane lane;
    size_t message_bytes;
    bool sending, echo;
    atomic_uint_fast64_t messages, bytes;
};

static uint8_t payload[1u << 20];

static const char *on_receive(void *self, const struct ls_group_id *group,
                              const struct ls_peer_id *peer, enum ls_lane lane,
                              struct ls_span message)
{
    struct side *side = self;
    if (side->echo) {
        (void)side->transport.send(side->transport.self, group, peer, lane, message);
        side->transport.flush(side->transport.self);
    }
    (void)atomic_fetch_add_explicit(&side->messages, 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&side->bytes, message.bytes, memory_order_relaxed);
    return NULL;
}

static void pump_soon(struct side *side)
{
    const struct timeval soon = {0, 0};
    (void)event_add(side->pump, &soon);
}

static void on_bond(void *self, const struct ls_bond_notice *notice)
{
    struct side *side = self;
    if (notice->event == LS_BOND_UP && side->sending && !side->echo) {
        pump_soon(side);
    } else if (notice->event == LS_BOND_UP && side->sending) {
        const struct ls_span message = {payload, side->message_bytes};
        (void)side->transport.send(side->transport.self, &side->group, &side->peer, side->lane,
                                   message);
    }
}

/* One turn of a driver: some messages, then one flush. */
static void on_pump(evutil_socket_t descriptor, short what, void *arg)
{
    (void)descriptor;
    (void)what;
    struct side *side = arg;
    struct ls_bond_info info;
    const struct ls_span message = {payload, side->message_bytes};
    if (side->transport.bond_info(side->transport.self, &side->group, &side->peer, &info) ==
            LS_OK &&
        info.queued_bytes < (2u << 20)) {
        for (int i = 0; i < BATCH; i++) {
            if (side->transport.send(side->transport.self, &side->group, &side->peer, side->lane,
                                     message) != LS_OK) {
                break;
            }
        }
    }
    side->transport.flush(side->transport.self);
    pump_soon(side);
}

static void *run(void *arg)
{
    struct side *side = arg;
    (void)event_base_loop(side->base, EVLOOP_NO_EXIT_ON_EMPTY);
    return NULL;
}

static void on_stop(evutil_socket_t descriptor, short what, void *arg)
{
    (void)descriptor;
    (void)what;
    (void)event_base_loopbreak(arg);
}

static void stop_after(struct side *side)
{
    const struct timeval interval = {MEASURE_US / 1000000 + 1, 0};
    (void)event_base_once(side->base, -1, EV_TIMEOUT, on_stop, side->base, &interval);
}

static void open_side(struct side *side, const char *name, const char *other, const char *address)
{
    uint8_t key[LS_KEY_BYTES] = {1, 2, 3};
    struct ls_error error = {0};
    const struct ls_incarnation incarnation = {{1}};
    const struct ls_transport_sink sink = {side, on_receive, on_bond};
    side->base = event_base_new();
    LS_ASSERT(ls_identity_founder(key, name, &side->identity, &error) == LS_OK);
    side->peer = ls_identity_founder_id(side->identity, other);
    side->group = ls_identity_group_id(side->identity, "bench", (struct ls_span){"b", 1},
                                       (struct ls_span){NULL, 0});
    const struct ls_transport_tcp_options options = {.size = sizeof options,
                                                     .identity = side->identity};
    LS_ASSERT(ls_transport_tcp_open(&options, &side->transport, &error) == LS_OK);
    LS_ASSERT(side->transport.start(side->transport.self, side->base, &incarnation, &sink,
                                    &error) == LS_OK);
    side->pump = evtimer_new(side->base, on_pump, side);
    struct ls_bond_hello hello = {.group = side->group, .name = "bench", .member = "m"};
    if (!side->sending) {
        LS_ASSERT(side->transport.listen(side->transport.self, address, &error) == LS_OK);
        address = "";
    }
    LS_ASSERT(side->transport.bond_open(side->transport.self, &hello, &side->peer, address,
                                        &error) == LS_OK);
}

static void measure(const char *what, enum ls_lane lane, size_t message_bytes, const char *address)
{
    const bool echo = message_bytes == ECHO_BYTES;
    struct side sides[2] = {
        {.sending = true, .lane = lane, .message_bytes = message_bytes, .echo = echo},
        {.lane = lane, .echo = echo}};
    pthread_t threads[2];
    open_side(&sides[0], "a", "b", address);
    open_side(&sides[1], "b", "a", address);
    for (size_t i = 0; i < 2; i++) {
        stop_after(&sides[i]);
        LS_ASSERT(pthread_create(&threads[i], NULL, run, &sides[i]) == 0);
    }
    const struct ls_env *env = ls_env_default();
    uint64_t start = 0, messages = 0;
    while (atomic_load(&sides[1].messages) == 0) {
    }
    start = env->now_us(env->self);
    for (size_t i = 0; i < 2; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    uint64_t us = env->now_us(env->self) - start;
    messages = atomic_load(&sides[1].messages);
    printf("%-28s %8.1f MB/s %10.0f messages/s\n", what,
           (double)atomic_load(&sides[1].bytes) / (double)us, (double)messages / (double)us * 1e6);
    for (size_t i = 0; i < 2; i++) {
        event_free(sides[i].pump);
        sides[i].transport.close(sides[i].transport.self);
        event_base_free(sides[i].base);
        ls_identity_close(sides[i].identity);
    }
}

int main(int argc, char **argv)
{
    const char *address = argc > 1 ? argv[1] : "127.0.0.1:17951";
    measure("bulk, 64 KiB", LS_LANE_BULK, 64u << 10, address);
    measure("bulk, 1 MiB", LS_LANE_BULK, 1u << 20, address);
    measure("consensus, 4 KiB", LS_LANE_CONSENSUS, 4u << 10, address);
    measure("consensus, 128 bytes", LS_LANE_CONSENSUS, 128, address);
    measure("consensus, one to and fro", LS_LANE_CONSENSUS, ECHO_BYTES, address);
    return 0;
}
