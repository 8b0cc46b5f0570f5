/* SPDX-License-Identifier: MIT */
/*
 * The transport port over TCP: options, listening, the turn's flush, the settling of what ended,
 * and closing. Encrypted throughout; nothing listens unless listen() was called.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tcp.h"

#define HANDSHAKE_MS_DEFAULT     5000u
#define IDLE_MS_DEFAULT          6000u
#define RECONNECT_MIN_MS_DEFAULT 50u
#define RECONNECT_MAX_MS_DEFAULT 2000u
/* how long a listener rests when the process has no descriptor left */
#define ACCEPT_PAUSE_US 100000u
/* connections accepted in one callback */
#define ACCEPT_MAX 32u
/* refusals are traced once in so long: anybody can cause them */
#define REFUSAL_TRACE_US 10000000u
/* what the bulk pace may save up, as a part of a second */
#define PACE_BURST_DIVISOR 20
#define PACE_BURST_MIN     (64 << 10)
/* frames that the pace must let through while a silent peer is given up */
#define PACE_FRAMES_MIN 3u

void *ls__tcp_allocate(struct ls__tcp *tcp, void *block, size_t bytes)
{
    return tcp->env.allocate(tcp->env.self, block, bytes);
}

uint64_t ls__tcp_now(const struct ls__tcp *tcp)
{
    return tcp->env.now_us(tcp->env.self);
}

void ls__tcp_trace(const struct ls__tcp *tcp, enum ls_trace_level level, const char *format,
                   const struct ls_group_id *group, const struct ls_peer_id *peer,
                   const char *detail)
{
    if (tcp->env.trace != NULL) {
        const struct ls_trace trace = {.level = level,
                                       .room = "transport",
                                       .format = format,
                                       .group = group,
                                       .peer = peer,
                                       .detail = detail};
        tcp->env.trace(tcp->env.self, &trace);
    }
}

void ls__tcp_event(struct ls__tcp *tcp, struct ls__event *event, enum ls__event_kind kind,
                   int descriptor, void (*fire)(void *arg), void *arg)
{
    (void)memset(event, 0, sizeof *event);
    event->kind = kind;
    event->descriptor = descriptor;
    event->fire = fire;
    event->arg = arg;
    tcp->net.prepare(tcp->net.self, event);
}

bool ls__tcp_add(struct ls__tcp *tcp, struct ls__event *event, uint64_t after_us)
{
    return tcp->net.add(tcp->net.self, event, after_us);
}

void ls__tcp_remove(struct ls__tcp *tcp, struct ls__event *event)
{
    tcp->net.remove(tcp->net.self, event);
}

static void tcp_free(struct ls__tcp *tcp)
{
    while (tcp->links != NULL) {
        ls__link_free(tcp->links);
    }
    while (tcp->connections != NULL) {
        struct ls__connection *connection = tcp->connections;
        tcp->connections = connection->next;
        ls__connection_free(connection);
    }
    ls__frame_pool_free(&tcp->pool);
    struct ls_env env = tcp->env;
    (void)env.allocate(env.self, tcp, 0);
}

void ls__tcp_enter(struct ls__tcp *tcp)
{
    tcp->depth++;
}

void ls__tcp_leave(struct ls__tcp *tcp)
{
    LS_ASSERT(tcp->depth > 0);
    tcp->depth--;
    if (tcp->depth == 0 && tcp->closed) {
        tcp_free(tcp);
    }
}

void ls__tcp_settle_soon(struct ls__tcp *tcp)
{
    if (!tcp->settle_due && !tcp->closed) {
        tcp->settle_due = true;
        tcp->net.activate(tcp->net.self, &tcp->settle_event);
    }
}

void ls__tcp_flush_soon(struct ls__tcp *tcp)
{
    if (!tcp->flush_due && !tcp->closed) {
        /* a timer and not an activation: the driver's own flush comes first and takes it back */
        tcp->flush_due = ls__tcp_add(tcp, &tcp->flush_event, 0);
    }
}

static int64_t pace_burst(const struct ls__tcp *tcp)
{
    uint64_t part = tcp->options.bulk_bytes_per_s / PACE_BURST_DIVISOR;
    return part < PACE_BURST_MIN ? PACE_BURST_MIN : (int64_t)(part & INT64_MAX);
}

size_t ls__tcp_bulk_allowance(struct ls__tcp *tcp, size_t wanted)
{
    const uint64_t rate = tcp->options.bulk_bytes_per_s;
    if (rate == 0) {
        return wanted;
    }
    uint64_t now = ls__tcp_now(tcp), passed = now - tcp->tokens_us;
    passed = passed < 1000000u ? passed : 1000000u;
    int64_t earned = (int64_t)((double)rate * (double)passed / 1e6);
    if (earned > 0) {
        tcp->tokens_us = now;
        tcp->tokens += earned;
        tcp->tokens = tcp->tokens < pace_burst(tcp) ? tcp->tokens : pace_burst(tcp);
    }
    if (tcp->tokens > 0) {
        return (size_t)tcp->tokens < wanted ? (size_t)tcp->tokens : wanted;
    }
    if (!tcp->pace_due) {
        uint64_t debt = (uint64_t)(-tcp->tokens) + PACE_BURST_MIN / 4;
        uint64_t after_us = debt / rate * 1000000u + debt % rate * 1000000u / rate + 1;
        tcp->pace_due = ls__tcp_add(tcp, &tcp->pace_event, after_us);
    }
    return 0;
}

void ls__tcp_bulk_spent(struct ls__tcp *tcp, size_t bytes)
{
    if (tcp->options.bulk_bytes_per_s > 0) {
        tcp->tokens -= (int64_t)bytes;
    }
}

static void write_links(struct ls__tcp *tcp, enum ls_lane lane, uint32_t first, uint32_t end)
{
    uint32_t at = 0;
    for (struct ls__link *link = tcp->links; link != NULL && at < end; link = link->next, at++) {
        struct ls__connection *connection = link->lanes[lane];
        if (at >= first && connection != NULL &&
            (connection->out.first != NULL || connection->pong_due)) {
            ls__connection_write(connection);
        }
    }
}

/* Bulk begins with another link each time: the first takes most of what the pace allows. */
static void write_lane(struct ls__tcp *tcp, enum ls_lane lane)
{
    uint32_t first = 0;
    if (lane == LS_LANE_BULK && tcp->links_count > 0) {
        first = tcp->bulk_turns++ % tcp->links_count;
    }
    write_links(tcp, lane, first, tcp->links_count);
    write_links(tcp, lane, 0, first);
}

static void tcp_flush(void *self)
{
    struct ls__tcp *tcp = self;
    if (tcp->flush_due) {
        tcp->flush_due = false;
        ls__tcp_remove(tcp, &tcp->flush_event);
        write_lane(tcp, LS_LANE_CONSENSUS);
        write_lane(tcp, LS_LANE_BULK);
    }
}

static void on_flush(void *arg)
{
    struct ls__tcp *tcp = arg;
    ls__tcp_enter(tcp);
    tcp_flush(tcp);
    ls__tcp_leave(tcp);
}

static void on_pace(void *arg)
{
    struct ls__tcp *tcp = arg;
    ls__tcp_enter(tcp);
    tcp->pace_due = false;
    write_lane(tcp, LS_LANE_BULK);
    ls__tcp_leave(tcp);
}

/* Somebody could not prove the key, or spoke another protocol. */
static void refusal_trace(struct ls__tcp *tcp, const struct ls__connection *connection)
{
    uint64_t now = ls__tcp_now(tcp);
    tcp->refusals++;
    if (tcp->refusals == 1 || now - tcp->refusal_traced_us >= REFUSAL_TRACE_US) {
        tcp->refusal_traced_us = now;
        ls__tcp_trace(tcp, LS_TRACE_WARN, "connection refused", NULL, NULL, connection->reason);
    }
}

static void connection_settle(struct ls__tcp *tcp, struct ls__connection *connection)
{
    struct ls__link *link = connection->link;
    connection->link = NULL;
    bool refused = connection->ended == LS_ERR_AUTH || connection->ended == LS_ERR_PROTOCOL;
    if (refused) {
        refusal_trace(tcp, connection);
    }
    if (link != NULL) {
        ls__link_lost(link, connection);
    }
}

/* Takes dead connections out one by one: ending one may end others and call the sink. */
static void settle_connections(struct ls__tcp *tcp)
{
    struct ls__connection **at = &tcp->connections;
    while (*at != NULL && !tcp->closed) {
        struct ls__connection *connection = *at;
        if (connection->phase != LS__DEAD) {
            at = &connection->next;
            continue;
        }
        *at = connection->next;
        connection_settle(tcp, connection);
        ls__connection_free(connection);
        at = &tcp->connections;
    }
}

static void settle_links(struct ls__tcp *tcp)
{
    struct ls__link *next = NULL;
    for (struct ls__link *link = tcp->links; link != NULL && !tcp->closed; link = next) {
        ls__bonds_tell(link);
        next = link->next;
        bool written = true;
        for (size_t lane = 0; lane < LS_LANES; lane++) {
            written =
                written && (link->lanes[lane] == NULL || link->lanes[lane]->out.first == NULL);
        }
        if (link->retire && link->bonds == 0 && written) {
            ls__link_down(link, LS_ERR_CLOSED, "no group in common");
        }
        if (ls__link_idle(link)) {
            ls__link_free(link);
        }
    }
}

static void on_settle(void *arg)
{
    struct ls__tcp *tcp = arg;
    ls__tcp_enter(tcp);
    tcp->settle_due = false;
    settle_connections(tcp);
    settle_links(tcp);
    ls__tcp_leave(tcp);
}

/* One more inbound connection that proves nothing ends the one that has done so for longest. */
static void handshakes_bound(struct ls__tcp *tcp)
{
    struct ls__connection *oldest = NULL;
    if (tcp->handshakes < LS_HANDSHAKES_MAX) {
        return;
    }
    for (struct ls__connection *at = tcp->connections; at != NULL; at = at->next) {
        bool proving = at->phase == LS__HELLO || at->phase == LS__PROOF;
        if (proving && !at->dialer) {
            oldest = at; /* newer ones come first in the list */
        }
    }
    LS_ASSERT(oldest != NULL);
    ls__connection_kill(oldest, LS_ERR_BUSY, "%s: too many connections in handshake",
                        oldest->remote);
}

static void on_accept(void *arg)
{
    struct ls__listener *listener = arg;
    struct ls__tcp *tcp = listener->tcp;
    const struct ls__net *net = &tcp->net;
    ls__tcp_enter(tcp);
    for (uint32_t i = 0; i < ACCEPT_MAX; i++) {
        struct ls__address remote;
        char text[LS_ADDRESS_BYTES];
        int accepted = net->accept(net->self, listener->descriptor, &remote);
        if (accepted < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                ls__tcp_remove(tcp, &listener->readable);
                (void)ls__tcp_add(tcp, &listener->resume, ACCEPT_PAUSE_US);
                ls__tcp_trace(tcp, LS_TRACE_WARN, "cannot accept connections now", NULL, NULL,
                              strerror(errno));
            } else if (errno == EINTR || errno == ECONNABORTED) {
                continue;
            }
            break;
        }
        handshakes_bound(tcp);
        ls__address_text(&remote, text);
        (void)ls__connection_open(tcp, accepted, NULL, LS_LANE_CONSENSUS, text);
    }
    ls__tcp_leave(tcp);
}

static void on_resume(void *arg)
{
    struct ls__listener *listener = arg;
    (void)ls__tcp_add(listener->tcp, &listener->readable, 0);
}

static enum ls_status tcp_start(void *self, struct event_base *base,
                                const struct ls_incarnation *incarnation,
                                const struct ls_transport_sink *sink, struct ls_error *error)
{
    struct ls__tcp *tcp = self;
    (void)error;
    LS_ASSERT(!tcp->started);
    tcp->started = true;
    if (!tcp->net_given) {
        tcp->net = ls__net_system(base);
    }
    tcp->incarnation = *incarnation;
    tcp->sink = *sink;
    tcp->tokens = pace_burst(tcp);
    tcp->tokens_us = ls__tcp_now(tcp);
    ls__tcp_event(tcp, &tcp->settle_event, LS__EVENT_TIMER, -1, on_settle, tcp);
    ls__tcp_event(tcp, &tcp->flush_event, LS__EVENT_TIMER, -1, on_flush, tcp);
    ls__tcp_event(tcp, &tcp->pace_event, LS__EVENT_TIMER, -1, on_pace, tcp);
    return LS_OK;
}

static enum ls_status tcp_listen(void *self, const char *address, struct ls_error *error)
{
    struct ls__tcp *tcp = self;
    struct ls__address resolved;
    LS_ASSERT(tcp->started);
    if (tcp->listeners_count == LS__LISTENERS_MAX) {
        return ls_error_set(error, LS_ERR_INVALID, "listen %s: at most %u addresses", address,
                            LS__LISTENERS_MAX);
    }
    const char *reason = ls__address_resolve(address, false, &resolved);
    if (reason != NULL) {
        return ls_error_set(error, LS_ERR_INVALID, "listen %s: %s", address, reason);
    }
    const struct ls__net *net = &tcp->net;
    int descriptor = net->listen(net->self, &resolved);
    if (descriptor < 0) {
        return ls_error_set(error, LS_ERR_IO, "listen %s: %s", address, strerror(errno));
    }
    struct ls__listener *listener = ls__tcp_allocate(tcp, NULL, sizeof *listener);
    if (listener == NULL) {
        net->close(net->self, descriptor);
        return ls_error_set(error, LS_ERR_NO_MEMORY, "listen %s: out of memory", address);
    }
    *listener = (struct ls__listener){.tcp = tcp, .descriptor = descriptor};
    ls__tcp_event(tcp, &listener->readable, LS__EVENT_READABLE, descriptor, on_accept, listener);
    ls__tcp_event(tcp, &listener->resume, LS__EVENT_TIMER, -1, on_resume, listener);
    if (!ls__tcp_add(tcp, &listener->readable, 0)) {
        net->close(net->self, descriptor);
        (void)ls__tcp_allocate(tcp, listener, 0);
        return ls_error_set(error, LS_ERR_NO_MEMORY, "listen %s: no event", address);
    }
    tcp->listeners[tcp->listeners_count++] = listener;
    ls__tcp_trace(tcp, LS_TRACE_INFO, "listening", NULL, NULL, address);
    return LS_OK;
}

static enum ls_status tcp_bond_open(void *self, const struct ls_bond_hello *hello,
                                    const struct ls_peer_id *peer, const char *address,
                                    struct ls_error *error)
{
    struct ls__tcp *tcp = self;
    char host[LS__HOST_BYTES], port[8];
    LS_ASSERT(tcp->started);
    const char *reason = ls__bond_hello_invalid(hello);
    if (reason != NULL) {
        return ls_error_set(error, LS_ERR_INVALID, "bond: %s", reason);
    }
    if (ls_peer_id_equal(peer, &tcp->id) || ls_peer_id_is_zero(peer)) {
        return ls_error_set(error, LS_ERR_INVALID, "bond: the peer is %s",
                            ls_peer_id_is_zero(peer) ? "nobody" : "this node itself");
    }
    reason = address[0] == '\0' ? NULL : ls__address_split(address, host, port);
    if (reason != NULL) {
        return ls_error_set(error, LS_ERR_INVALID, "bond: address %.100s: %s", address, reason);
    }
    struct ls__link *link = ls__link_find(tcp, peer);
    if (link == NULL && tcp->links_count >= LS_LINKS_MAX) {
        return ls_error_set(error, LS_ERR_LIMIT, "bond: %u peers", LS_LINKS_MAX);
    }
    link = ls__link_get(tcp, peer);
    if (link == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "bond: out of memory");
    }
    enum ls_status status = ls__bond_want(link, hello, error);
    if (status != LS_OK) {
        ls__tcp_settle_soon(tcp); /* a link made for it goes again */
        return status;
    }
    if (address[0] != '\0' && strcmp(address, link->address) != 0) {
        (void)snprintf(link->address, sizeof link->address, "%s", address);
        link->attempts = 0;
        ls__tcp_remove(tcp, &link->dial_timer);
        link->dial_armed = false;
    }
    ls__link_schedule(link);
    return LS_OK;
}

static void tcp_bond_close(void *self, const struct ls_group_id *group,
                           const struct ls_peer_id *peer)
{
    struct ls__bond *bond = ls__bond_find(self, group, peer);
    if (bond != NULL) {
        ls__bond_leave(bond);
    }
}

static enum ls_status tcp_send(void *self, const struct ls_group_id *group,
                               const struct ls_peer_id *peer, enum ls_lane lane,
                               struct ls_span message)
{
    LS_ASSERT(lane == LS_LANE_CONSENSUS || lane == LS_LANE_BULK);
    if (message.bytes > LS_MESSAGE_BYTES_MAX) {
        return LS_ERR_LIMIT;
    }
    struct ls__bond *bond = ls__bond_find(self, group, peer);
    return bond == NULL ? LS_ERR_UNREACHABLE : ls__bond_send(bond, lane, message);
}

static enum ls_status tcp_bond_info(void *self, const struct ls_group_id *group,
                                    const struct ls_peer_id *peer, struct ls_bond_info *out)
{
    const struct ls__bond *bond = ls__bond_find(self, group, peer);
    if (bond == NULL) {
        return LS_ERR_NOT_FOUND;
    }
    ls__bond_info(bond, out);
    return LS_OK;
}

/* Leaves every bond and writes what the sockets take: the pace and the turn's share do not count.
 */
static void depart(struct ls__tcp *tcp)
{
    tcp->options.bulk_bytes_per_s = 0;
    for (struct ls__link *link = tcp->links; link != NULL; link = link->next) {
        for (uint32_t i = 0; i < link->slots_capacity; i++) {
            if (link->slots[i] != NULL && link->slots[i]->wanted) {
                ls__bond_leave(link->slots[i]);
            }
        }
        for (size_t lane = 0; lane < LS_LANES; lane++) {
            struct ls__connection *connection = link->lanes[lane];
            size_t left = 0;
            do {
                if (connection == NULL || connection->phase != LS__OPEN) {
                    break;
                }
                left = connection->out.queued;
                ls__connection_write(connection);
            } while (connection->out.queued > 0 && connection->out.queued < left);
        }
    }
}

static void tcp_close(void *self)
{
    struct ls__tcp *tcp = self;
    LS_ASSERT(!tcp->closed);
    if (tcp->started) {
        depart(tcp);
        tcp->closed = true;
        for (struct ls__connection *at = tcp->connections; at != NULL; at = at->next) {
            ls__connection_kill(at, LS_ERR_CLOSED, "closed");
        }
        for (uint32_t i = 0; i < tcp->listeners_count; i++) {
            struct ls__listener *listener = tcp->listeners[i];
            ls__tcp_remove(tcp, &listener->readable);
            ls__tcp_remove(tcp, &listener->resume);
            tcp->net.close(tcp->net.self, listener->descriptor);
            (void)ls__tcp_allocate(tcp, listener, 0);
        }
        ls__tcp_remove(tcp, &tcp->settle_event);
        ls__tcp_remove(tcp, &tcp->flush_event);
        ls__tcp_remove(tcp, &tcp->pace_event);
    }
    tcp->closed = true;
    if (tcp->depth == 0) {
        tcp_free(tcp);
    }
}

/* A larger struct of a newer caller is fine as long as it asks for nothing we do not know. */
static const char *options_invalid(const struct ls_transport_tcp_options *options)
{
    if (options->size < sizeof *options) {
        return "options of another version";
    }
    const uint8_t *bytes = (const uint8_t *)options;
    for (size_t at = sizeof *options; at < options->size; at++) {
        if (bytes[at] != 0) {
            return "options that this version does not know";
        }
    }
    if (options->identity == NULL) {
        return "an identity is required";
    }
    uint64_t idle_ms = options->idle_ms == 0 ? IDLE_MS_DEFAULT : options->idle_ms;
    if (options->bulk_bytes_per_s != 0 &&
        options->bulk_bytes_per_s < PACE_FRAMES_MIN * LS__FRAME_LARGE * 1000u / idle_ms) {
        return "bulk_bytes_per_s is so low that a link would seem dead within idle_ms";
    }
    if (options->reconnect_max_ms != 0 && options->reconnect_min_ms > options->reconnect_max_ms) {
        return "reconnect_min_ms is above reconnect_max_ms";
    }
    return NULL;
}

enum ls_status ls_transport_tcp_open(const struct ls_transport_tcp_options *options,
                                     struct ls_transport *out, struct ls_error *error)
{
    return ls__tcp_open_over(options, NULL, NULL, out, error);
}

enum ls_status ls__tcp_open_over(const struct ls_transport_tcp_options *options,
                                 const struct ls__net *net, const size_t *queue_bytes,
                                 struct ls_transport *out, struct ls_error *error)
{
    const char *reason = options_invalid(options);
    if (reason != NULL) {
        return ls_error_set(error, LS_ERR_INVALID, "tcp transport: %s", reason);
    }
    (void)ls_env_default(); /* libsodium, also when another env is given */
    const struct ls_env *env = options->env == NULL ? ls_env_default() : options->env;
    struct ls__tcp *tcp = env->allocate(env->self, NULL, sizeof *tcp);
    if (tcp == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "tcp transport: out of memory");
    }
    (void)memset(tcp, 0, sizeof *tcp);
    tcp->env = *env;
    tcp->identity = options->identity;
    tcp->id = ls_identity_id(options->identity);
    tcp->options = *options;
    tcp->pool.env = &tcp->env;
    static const size_t queue_bytes_max = LS_SEND_QUEUE_BYTES_MAX;
    tcp->queue_bytes = queue_bytes == NULL ? &queue_bytes_max : queue_bytes;
    if (net != NULL) {
        tcp->net = *net;
        tcp->net_given = true;
    }
    struct ls_transport_tcp_options *set = &tcp->options;
    set->handshake_ms = set->handshake_ms == 0 ? HANDSHAKE_MS_DEFAULT : set->handshake_ms;
    set->idle_ms = set->idle_ms == 0 ? IDLE_MS_DEFAULT : set->idle_ms;
    set->reconnect_min_ms =
        set->reconnect_min_ms == 0 ? RECONNECT_MIN_MS_DEFAULT : set->reconnect_min_ms;
    set->reconnect_max_ms =
        set->reconnect_max_ms == 0 ? RECONNECT_MAX_MS_DEFAULT : set->reconnect_max_ms;
    if (set->reconnect_max_ms < set->reconnect_min_ms) {
        set->reconnect_max_ms = set->reconnect_min_ms;
    }
    *out = (struct ls_transport){.size = sizeof *out,
                                 .self = tcp,
                                 .start = tcp_start,
                                 .listen = tcp_listen,
                                 .bond_open = tcp_bond_open,
                                 .bond_close = tcp_bond_close,
                                 .send = tcp_send,
                                 .flush = tcp_flush,
                                 .bond_info = tcp_bond_info,
                                 .close = tcp_close};
    return LS_OK;
}
