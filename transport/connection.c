/* SPDX-License-Identifier: MIT */
/*
 * One socket: connects or was accepted, shakes hands, then carries sealed records both ways. Knows
 * deadlines and pings, not what records mean.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tcp.h"

/* what one connection reads or writes before the others have their turn */
#define TURN_BYTES_CONSENSUS (1u << 20)
#define TURN_BYTES_BULK      (256u << 10)
/* sealed at once, so that a socket that takes no more leaves little sealed behind */
#define WRITE_BATCH_BYTES (256u << 10)
#define WRITE_VECTORS     64u
/* control records beyond what messages may queue; more means that the peer reads nothing */
#define CONTROL_BYTES_MAX (1u << 20)

static size_t turn_bytes(const struct ls__connection *connection)
{
    return connection->lane == LS_LANE_BULK ? TURN_BYTES_BULK : TURN_BYTES_CONSENSUS;
}

static void timer_arm(struct ls__connection *connection, uint64_t us)
{
    (void)ls__tcp_add(connection->tcp, &connection->timer, us);
}

void ls__connection_kill(struct ls__connection *connection, enum ls_status why, const char *format,
                         ...)
{
    if (connection->phase == LS__DEAD) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(connection->reason, sizeof connection->reason, format, arguments);
    va_end(arguments);
    bool proving = connection->phase == LS__HELLO || connection->phase == LS__PROOF;
    if (!connection->dialer && proving) {
        connection->tcp->handshakes--;
    }
    connection->ended = why;
    connection->phase = LS__DEAD;
    struct ls__tcp *tcp = connection->tcp;
    ls__tcp_remove(tcp, &connection->readable);
    ls__tcp_remove(tcp, &connection->writable);
    ls__tcp_remove(tcp, &connection->timer);
    tcp->net.close(tcp->net.self, connection->descriptor);
    connection->descriptor = -1;
    ls__handshake_wipe(&connection->secrets->handshake);
    ls__tcp_settle_soon(connection->tcp);
}

void ls__connection_free(struct ls__connection *connection)
{
    LS_ASSERT(connection->phase == LS__DEAD);
    ls__in_close(&connection->in);
    ls__out_close(&connection->out);
    sodium_free(connection->secrets);
    (void)ls__tcp_allocate(connection->tcp, connection, 0);
}

static void write_later(struct ls__connection *connection)
{
    (void)ls__tcp_add(connection->tcp, &connection->writable, 0);
}

static void pong_queue(struct ls__connection *connection)
{
    if (connection->pong_due && connection->phase == LS__OPEN) {
        const struct ls__control pong = {.kind = LS__CONTROL_PONG, .stamp = connection->pong_stamp};
        connection->pong_due = false;
        ls__connection_control(connection, &pong);
    }
}

void ls__connection_write(struct ls__connection *connection)
{
    const struct ls__net *net = &connection->tcp->net;
    size_t budget = turn_bytes(connection);
    pong_queue(connection);
    while (connection->phase != LS__DEAD && connection->out.first != NULL) {
        if (connection->phase == LS__CONNECTING || connection->blocked ||
            connection->write_failed) {
            return;
        }
        size_t bytes = budget < WRITE_BATCH_BYTES ? budget : WRITE_BATCH_BYTES;
        if (bytes > 0 && connection->lane == LS_LANE_BULK && connection->phase == LS__OPEN) {
            bytes = ls__tcp_bulk_allowance(connection->tcp, bytes);
            if (bytes == 0) {
                return;
            }
        }
        if (bytes == 0) {
            write_later(connection);
            return;
        }
        struct iovec vectors[WRITE_VECTORS];
        size_t count = ls__out_vectors(&connection->out, bytes, vectors, WRITE_VECTORS);
        ssize_t written = net->write(net->self, connection->descriptor, vectors, count);
        if (written < 0) {
            /* what the peer said before it closed is still to be read */
            connection->write_failed = true;
            net->activate(net->self, &connection->readable);
            return;
        }
        if (written == 0) {
            connection->blocked = true;
            if (!LS_MUTANT(G3_BLOCKED)) {
                write_later(connection);
            }
            return;
        }
        ls__out_written(&connection->out, (size_t)written);
        if (connection->lane == LS_LANE_BULK) {
            ls__tcp_bulk_spent(connection->tcp, (size_t)written);
        }
        budget -= (size_t)written < budget ? (size_t)written : budget;
    }
    if (connection->link != NULL && connection->link->retire) {
        ls__tcp_settle_soon(connection->tcp);
    }
}

void ls__connection_control(struct ls__connection *connection, const struct ls__control *control)
{
    if (connection->phase == LS__DEAD) {
        return;
    }
    uint8_t bytes[LS__CONTROL_BYTES_MAX];
    const struct ls_span part = {bytes, ls__control_encode(control, bytes)};
    if (connection->out.queued > LS_SEND_QUEUE_BYTES_MAX + CONTROL_BYTES_MAX) {
        ls__connection_kill(connection, LS_ERR_BUSY, "the peer does not read");
    } else if (ls__out_record(&connection->out, &part, 1) != LS_OK) {
        ls__connection_kill(connection, LS_ERR_NO_MEMORY, "out of memory");
    } else {
        ls__tcp_flush_soon(connection->tcp);
    }
}

void ls__connection_ping(struct ls__connection *connection)
{
    const struct ls__control ping = {.kind = LS__CONTROL_PING,
                                     .stamp = ls__tcp_now(connection->tcp)};
    connection->ping_us = ping.stamp;
    ls__connection_control(connection, &ping);
}

static void send_raw(struct ls__connection *connection, const void *data, size_t bytes)
{
    if (ls__out_raw(&connection->out, (struct ls_span){data, bytes}) != LS_OK) {
        ls__connection_kill(connection, LS_ERR_NO_MEMORY, "out of memory");
    }
    ls__connection_write(connection);
}

static void send_proof(struct ls__connection *connection)
{
    uint8_t proof[LS__PROOF_BYTES];
    ls__handshake_prove(&connection->secrets->handshake, &connection->secrets->push, proof);
    send_raw(connection, proof, sizeof proof);
}

/* Takes the other hello if it is there; false: wait. */
static bool hello_take(struct ls__connection *connection)
{
    const uint8_t *hello = ls__in_raw(&connection->in, LS__HELLO_BYTES);
    if (hello == NULL) {
        return false;
    }
    const char *reason = ls__handshake_hello(&connection->secrets->handshake, hello);
    if (reason != NULL) {
        ls__connection_kill(connection, LS_ERR_PROTOCOL, "%s: %s", connection->remote, reason);
        return false;
    }
    connection->lane = connection->secrets->handshake.lane;
    if (connection->dialer &&
        !ls_peer_id_equal(&connection->secrets->handshake.peer, &connection->link->peer)) {
        ls__connection_kill(connection, LS_ERR_AUTH,
                            "%s: another node answers there: another name or another group key",
                            connection->remote);
        return false;
    }
    connection->phase = LS__PROOF;
    if (connection->dialer) {
        send_proof(connection);
    } else {
        send_raw(connection, connection->secrets->handshake.mine, LS__HELLO_BYTES);
    }
    return connection->phase == LS__PROOF;
}

static bool proof_take(struct ls__connection *connection)
{
    const uint8_t *proof = ls__in_raw(&connection->in, LS__PROOF_BYTES);
    if (proof == NULL) {
        return false;
    }
    const char *reason =
        ls__handshake_verify(&connection->secrets->handshake, &connection->secrets->pull, proof);
    if (reason != NULL) {
        ls__connection_kill(connection, LS_ERR_AUTH, "%s: %s", connection->remote, reason);
        return false;
    }
    connection->phase = LS__OPEN;
    connection->opened_us = ls__tcp_now(connection->tcp);
    connection->heard_us = connection->opened_us;
    if (!connection->dialer) {
        connection->tcp->handshakes--;
        send_proof(connection);
        if (connection->phase == LS__DEAD) {
            return false;
        }
    }
    ls__handshake_wipe(&connection->secrets->handshake);
    timer_arm(connection, (uint64_t)connection->tcp->options.idle_ms * 1000u / 3u);
    ls__link_opened(connection);
    return connection->phase == LS__OPEN;
}

static const char *record_take(struct ls__connection *connection, struct ls_span record)
{
    struct ls__control control;
    const char *reason = ls__control_decode(record, &control);
    if (reason != NULL) {
        return reason;
    }
    if (control.kind == LS__CONTROL_PING) {
        connection->pong_due = true;
        connection->pong_stamp = control.stamp;
        ls__tcp_flush_soon(connection->tcp);
        return NULL;
    }
    if (control.kind == LS__CONTROL_PONG) {
        struct ls__link *link = connection->link;
        if (connection->ping_us != 0 && control.stamp == connection->ping_us &&
            connection->heard_us >= connection->ping_us) {
            uint64_t sample = connection->heard_us - connection->ping_us;
            connection->ping_us = 0;
            if (link != NULL && connection->lane == LS_LANE_CONSENSUS) {
                sample = sample > 0 ? sample : 1;
                uint64_t off =
                    sample > link->rtt_us ? sample - link->rtt_us : link->rtt_us - sample;
                link->jitter_us = link->rtt_us == 0 ? 0 : (3 * link->jitter_us + off + 3) / 4;
                link->rtt_us = link->rtt_us == 0 ? sample : (7 * link->rtt_us + sample + 7) / 8;
            }
        }
        return NULL;
    }
    if (control.kind == LS__CONTROL_BIND) {
        ls__link_bind(connection, control.session);
        return NULL;
    }
    if (connection->link == NULL) {
        return "a record on a connection that is not bound";
    }
    return ls__bonds_receive(connection, &control);
}

/* Takes all that has arrived. Only what proves authentic counts as heard: a frame that seems to
 * grow without end is silence. */
static void advance(struct ls__connection *connection)
{
    uint64_t now = ls__tcp_now(connection->tcp);
    if (connection->phase == LS__HELLO && !hello_take(connection)) {
        return;
    }
    if (connection->phase == LS__PROOF && !proof_take(connection)) {
        return;
    }
    while (connection->phase == LS__OPEN && !connection->tcp->closed) {
        struct ls_span record;
        const char *reason = NULL;
        uint64_t frames = connection->in.frames;
        enum ls_status status = ls__in_record(&connection->in, &record, &reason);
        if (connection->in.frames != frames) {
            connection->heard_us = now;
        }
        if (status == LS_ERR_BUSY) {
            return;
        }
        if (status == LS_OK) {
            reason = record_take(connection, record);
            status = reason == NULL ? LS_OK : LS_ERR_PROTOCOL;
        }
        if (status != LS_OK) {
            ls__connection_kill(connection, status, "%s", reason);
        }
    }
}

static void ended_by_peer(struct ls__connection *connection, int reason)
{
    const char *text = reason == 0 ? "closed by the peer" : strerror(reason);
    if (connection->dialer && connection->phase == LS__PROOF) {
        ls__connection_kill(connection, LS_ERR_AUTH,
                            "%s: refused in the handshake: does it hold another network key?",
                            connection->remote);
    } else {
        ls__connection_kill(connection, LS_ERR_IO, "%s: %s", connection->remote, text);
    }
}

static void on_readable(void *arg)
{
    struct ls__connection *connection = arg;
    struct ls__tcp *tcp = connection->tcp;
    size_t taken = 0;
    bool more = true;
    ls__tcp_enter(tcp);
    while (more && taken < turn_bytes(connection) && connection->phase != LS__DEAD) {
        uint8_t *at = NULL;
        size_t space = 0;
        if (ls__in_space(&connection->in, &at, &space) != LS_OK) {
            ls__connection_kill(connection, LS_ERR_NO_MEMORY, "out of memory");
            break;
        }
        ssize_t got = tcp->net.read(tcp->net.self, connection->descriptor, at, space);
        if (got > 0) {
            ls__in_received(&connection->in, (size_t)got);
            taken += (size_t)got;
            more = (size_t)got == space || connection->write_failed;
            advance(connection);
        } else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) &&
                   !connection->write_failed) {
            more = false;
        } else {
            ended_by_peer(connection, got < 0 && errno != EAGAIN ? errno : 0);
        }
    }
    ls__tcp_leave(tcp);
}

/* A dialled socket is connected, or not. */
static void connected(struct ls__connection *connection)
{
    struct ls__tcp *tcp = connection->tcp;
    int reason = tcp->net.failure(tcp->net.self, connection->descriptor);
    if (reason != 0) {
        ls__connection_kill(connection, LS_ERR_IO, "connect %s: %s", connection->remote,
                            strerror(reason));
        return;
    }
    connection->phase = LS__HELLO;
    if (!ls__tcp_add(tcp, &connection->readable, 0)) {
        ls__connection_kill(connection, LS_ERR_NO_MEMORY, "out of memory");
        return;
    }
    send_raw(connection, connection->secrets->handshake.mine, LS__HELLO_BYTES);
}

static void on_writable(void *arg)
{
    struct ls__connection *connection = arg;
    struct ls__tcp *tcp = connection->tcp;
    ls__tcp_enter(tcp);
    connection->blocked = false;
    if (connection->phase == LS__CONNECTING) {
        connected(connection);
    } else {
        ls__connection_write(connection);
    }
    ls__tcp_leave(tcp);
}

/* The deadline of the handshake; afterwards pings, and the deadlines of completion and silence. */
static void on_timer(void *arg)
{
    struct ls__connection *connection = arg;
    struct ls__tcp *tcp = connection->tcp;
    const struct ls_transport_tcp_options *options = &tcp->options;
    const uint64_t idle_us = (uint64_t)options->idle_ms * 1000u, now = ls__tcp_now(tcp);
    const uint64_t silent_us = now > connection->heard_us ? now - connection->heard_us : 0;
    ls__tcp_enter(tcp);
    if (connection->phase == LS__CONNECTING) {
        ls__connection_kill(connection, LS_ERR_TIMEOUT, "connect %s: no answer in %u ms",
                            connection->remote, (unsigned)options->handshake_ms);
    } else if (connection->phase != LS__OPEN) {
        ls__connection_kill(connection, LS_ERR_TIMEOUT, "%s: no handshake in %u ms",
                            connection->remote, (unsigned)options->handshake_ms);
    } else if (silent_us >= idle_us) {
        ls__connection_kill(connection, LS_ERR_TIMEOUT, "nothing heard for %u ms",
                            (unsigned)options->idle_ms);
    } else if ((connection->link == NULL || !connection->link->up) &&
               now - connection->opened_us >= (uint64_t)options->handshake_ms * 1000u) {
        ls__connection_kill(connection, LS_ERR_TIMEOUT, "no second lane in %u ms",
                            (unsigned)options->handshake_ms);
    } else {
        ls__connection_ping(connection);
        uint64_t left = idle_us - silent_us;
        timer_arm(connection, left < idle_us / 3u ? left : idle_us / 3u);
    }
    ls__tcp_leave(tcp);
}

struct ls__connection *ls__connection_open(struct ls__tcp *tcp, int descriptor,
                                           struct ls__link *dialed, enum ls_lane lane,
                                           const char *remote)
{
    struct ls__connection *connection = ls__tcp_allocate(tcp, NULL, sizeof *connection);
    struct ls__secrets *secrets =
        connection == NULL ? NULL : sodium_malloc(sizeof *connection->secrets);
    if (secrets == NULL) {
        tcp->net.close(tcp->net.self, descriptor);
        return connection == NULL ? NULL : ls__tcp_allocate(tcp, connection, 0);
    }
    (void)memset(connection, 0, sizeof *connection);
    connection->secrets = secrets;
    connection->tcp = tcp;
    connection->link = dialed;
    connection->descriptor = descriptor;
    connection->dialer = dialed != NULL;
    connection->lane = lane;
    connection->phase = connection->dialer ? LS__CONNECTING : LS__HELLO;
    connection->heard_us = ls__tcp_now(tcp);
    (void)snprintf(connection->remote, sizeof connection->remote, "%s", remote);
    ls__in_open(&connection->in, &tcp->env, &connection->secrets->pull);
    ls__out_open(&connection->out, &tcp->pool, &connection->secrets->push);
    ls__handshake_begin(&connection->secrets->handshake, &tcp->env, tcp->identity,
                        &tcp->incarnation, connection->dialer, lane);
    ls__tcp_event(tcp, &connection->readable, LS__EVENT_READABLE, descriptor, on_readable,
                  connection);
    ls__tcp_event(tcp, &connection->writable, LS__EVENT_WRITABLE, descriptor, on_writable,
                  connection);
    ls__tcp_event(tcp, &connection->timer, LS__EVENT_TIMER, -1, on_timer, connection);
    connection->next = tcp->connections;
    tcp->connections = connection;
    tcp->handshakes += connection->dialer ? 0u : 1u;
    bool added =
        ls__tcp_add(tcp, connection->dialer ? &connection->writable : &connection->readable, 0);
    timer_arm(connection, (uint64_t)tcp->options.handshake_ms * 1000u);
    if (!added) {
        ls__connection_kill(connection, LS_ERR_NO_MEMORY, "out of memory");
    }
    return connection;
}
