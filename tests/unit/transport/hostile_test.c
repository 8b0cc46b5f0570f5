/* SPDX-License-Identifier: MIT */
/*
 * Those who must not get in: strangers, eavesdroppers that replay, a network that flips bits, and a
 * peer that holds the key and breaks the protocol.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bytes.h"
#include "control.h"
#include "network.h"
#include "proxy.h"
#include "stream.h"

#define GROUP "orders-of-the-day"

static const struct ls_transport_tcp_options quick = {
    .reconnect_min_ms = 2, .reconnect_max_ms = 10, .handshake_ms = 100, .idle_ms = 300};

static void begin(struct network *network, size_t count)
{
    const struct network_backend backend = network_tcp(&quick);
    network_open(network, &backend, count);
}

static void begin_proxied(struct network *network, struct proxy *proxy)
{
    begin(network, 2);
    proxy_open(proxy, network->base, network->nodes[1].address);
    (void)snprintf(network->nodes[1].dial, sizeof network->nodes[1].dial, "%s", proxy->address);
}

static struct ls_bond_info info_of(struct network *network, size_t node, size_t peer)
{
    struct ls_bond_info info;
    struct ls_transport *transport = &network->nodes[node].transport;
    const struct ls_group_id group = network_group(network, GROUP, "test/1");
    assert_ok(transport->bond_info(transport->self, &group, &network->nodes[peer].id, &info));
    return info;
}

/* A raw socket whose answers are collected. */
struct raw {
    int descriptor;
    uint8_t got[4096];
    size_t bytes;
    bool ended;
};

static void raw_open(struct raw *raw, const struct network_node *node)
{
    (void)memset(raw, 0, sizeof *raw);
    raw->descriptor = proxy_connect(node->address);
    assert_int_equal(fcntl(raw->descriptor, F_SETFL, O_NONBLOCK), 0);
}

static void raw_send(struct raw *raw, const void *data, size_t bytes)
{
    ssize_t sent = send(raw->descriptor, data, bytes, MSG_NOSIGNAL);
    assert_true(sent == (ssize_t)bytes || sent < 0);
}

static void raw_receive(struct raw *raw)
{
    while (!raw->ended) {
        assert_true(raw->bytes < sizeof raw->got);
        ssize_t got = recv(raw->descriptor, raw->got + raw->bytes, sizeof raw->got - raw->bytes, 0);
        if (got < 0 && errno == EAGAIN) {
            return;
        }
        raw->ended = got <= 0;
        raw->bytes += got > 0 ? (size_t)got : 0;
    }
}

static bool raw_ended(struct network *network, void *arg)
{
    (void)network;
    raw_receive(arg);
    return ((struct raw *)arg)->ended;
}

static void raw_close(struct raw *raw)
{
    (void)close(raw->descriptor);
}

/* Looks for names in all that passes. */
struct eavesdropper {
    const char *words[3];
    size_t found;
    uint8_t *seen[2];
    size_t bytes[2];
};

static void eavesdrop(void *arg, struct proxy_pipe *pipe, enum proxy_direction direction,
                      uint8_t *data, size_t bytes)
{
    struct eavesdropper *ear = arg;
    (void)pipe;
    ear->seen[direction] = realloc(ear->seen[direction], ear->bytes[direction] + bytes);
    assert_non_null(ear->seen[direction]);
    (void)memcpy(ear->seen[direction] + ear->bytes[direction], data, bytes);
    ear->bytes[direction] += bytes;
}

static bool heard(const struct eavesdropper *ear, const char *word)
{
    size_t length = strlen(word);
    for (size_t direction = 0; direction < 2; direction++) {
        for (size_t at = 0; at + length <= ear->bytes[direction]; at++) {
            if (memcmp(ear->seen[direction] + at, word, length) == 0) {
                return true;
            }
        }
    }
    return false;
}

static void ear_free(struct eavesdropper *ear)
{
    free(ear->seen[0]);
    free(ear->seen[1]);
}

TEST(hostile, names_and_messages_are_never_in_clear)
{
    struct network network;
    struct proxy proxy;
    struct eavesdropper ear = {.found = 0};
    begin_proxied(&network, &proxy);
    proxy.tap = eavesdrop;
    proxy.arg = &ear;
    network_bonded(&network, GROUP, 0, 1);
    assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("the secret plan")));
    assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_BULK, TEXT_SPAN("the secret plan")));
    network_until_messages(&network, 1, 2);
    assert_true(heard(&ear, "LOCKSTEP"));
    assert_false(heard(&ear, GROUP));
    assert_false(heard(&ear, "node-0"));
    assert_false(heard(&ear, "test/1"));
    assert_false(heard(&ear, "secret"));
    proxy_close(&proxy);
    network_close(&network);
    ear_free(&ear);
}

static bool has_trouble(struct network *network, void *arg)
{
    return strstr(info_of(network, 0, 1).trouble, arg) != NULL;
}

TEST(hostile, stranger_with_another_key_bonds_with_nobody_and_learns_no_name)
{
    /* the stranger is dialled in one round, and dials in the other */
    for (size_t stranger = 0; stranger < 2; stranger++) {
        struct network network;
        struct proxy proxy;
        struct eavesdropper ear = {.found = 0};
        begin(&network, 2);
        network_node_rekey(&network, stranger, 0x40);
        network.nodes[stranger].deaf = stranger == 0;
        network.nodes[0].deaf = true;
        network_node_close(&network, 0);
        network.nodes[0].address[0] = '\0';
        network_node_open(&network, 0, 1);
        if (stranger == 1) {
            network_node_open(&network, 1, 1);
        }
        proxy_open(&proxy, network.base, network.nodes[1].address);
        (void)snprintf(network.nodes[1].dial, sizeof network.nodes[1].dial, "%s", proxy.address);
        proxy.tap = eavesdrop;
        proxy.arg = &ear;
        network_bond(&network, GROUP, 0, 1);
        network_bond(&network, GROUP, 1, 0);
        char another_key[] = "another network key";
        network_until(&network, has_trouble, another_key);
        assert_int_equal(info_of(&network, 0, 1).why, LS_ERR_AUTH);
        for (size_t node = 0; node < 2; node++) {
            assert_int_equal(network.nodes[node].notices_count, 0);
        }
        assert_string_equal(info_of(&network, 0, 1).name, "");
        assert_false(heard(&ear, GROUP));
        proxy_close(&proxy);
        network_close(&network);
        ear_free(&ear);
    }
}

TEST(hostile, garbage_is_answered_with_nothing)
{
    struct network network;
    begin(&network, 1);
    for (size_t i = 0; i < 4; i++) {
        struct raw raw;
        uint8_t garbage[LS__HELLO_BYTES];
        raw_open(&raw, &network.nodes[0]);
        (void)memset(garbage, (int)(i * 0x55), sizeof garbage);
        if (i == 3) {
            (void)memcpy(garbage, "LOCKSTEP", 8); /* and then nonsense */
        }
        raw_send(&raw, garbage, sizeof garbage);
        network_until(&network, raw_ended, &raw);
        assert_int_equal(raw.bytes, 0);
        raw_close(&raw);
    }
    network_close(&network);
}

TEST(hostile, slow_handshake_meets_its_deadline)
{
    struct network network;
    const struct ls_env *env = ls_env_default();
    begin(&network, 1);
    for (size_t bytes = 0; bytes <= 100; bytes += 50) {
        struct raw raw;
        uint64_t start = env->now_us(env->self);
        raw_open(&raw, &network.nodes[0]);
        raw_send(&raw,
                 "LOCKSTEP\1\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                 bytes);
        network_until(&network, raw_ended, &raw);
        assert_int_equal(raw.bytes, 0);
        assert_true(env->now_us(env->self) - start >= 90000);
        raw_close(&raw);
    }
    network_close(&network);
}

TEST(hostile, flood_of_connections_is_bounded_and_keeps_nobody_out)
{
    enum { FLOOD = LS_HANDSHAKES_MAX + 40 };
    static struct raw raws[FLOOD];
    const struct ls_transport_tcp_options options = {
        .reconnect_min_ms = 2, .reconnect_max_ms = 10, .handshake_ms = 60000};
    const struct network_backend backend = network_tcp(&options);
    struct network network;
    network_open(&network, &backend, 2);
    for (size_t i = 0; i < FLOOD; i++) {
        raw_open(&raws[i], &network.nodes[1]);
        network_run(&network, 0);
    }
    network_until(&network, raw_ended, &raws[0]); /* the oldest went */
    network_bonded(&network, GROUP, 0, 1);
    size_t alive = 0;
    for (size_t i = 0; i < FLOOD; i++) {
        raw_receive(&raws[i]);
        alive += raws[i].ended ? 0u : 1u;
    }
    assert_true(alive <= LS_HANDSHAKES_MAX);
    assert_true(alive > 0);
    for (size_t i = 0; i < FLOOD; i++) {
        raw_close(&raws[i]);
    }
    network_close(&network);
}

/* A7 */
TEST(hostile, recorded_handshake_opens_nothing_when_replayed)
{
    struct network network;
    struct proxy proxy;
    struct eavesdropper ear = {.found = 0};
    struct raw raw;
    begin_proxied(&network, &proxy);
    proxy.tap = eavesdrop;
    proxy.arg = &ear;
    network_bond(&network, GROUP, 0,
                 1); /* the other side does not want it: hellos and proofs only */
    network_run(&network, 50);
    assert_true(ear.bytes[PROXY_TO_TARGET] > LS__HELLO_BYTES + LS__PROOF_BYTES);
    raw_open(&raw, &network.nodes[1]);
    raw_send(&raw, ear.seen[PROXY_TO_TARGET], LS__HELLO_BYTES + LS__PROOF_BYTES);
    network_until(&network, raw_ended, &raw);
    assert_int_equal(raw.bytes, LS__HELLO_BYTES); /* a hello, and no proof */
    raw_close(&raw);
    network_bond(&network, GROUP, 1, 0); /* the honest link is as it was */
    network_until_notices(&network, 1, LS_BOND_UP, 1);
    proxy_close(&proxy);
    network_close(&network);
    ear_free(&ear);
}

/* Flips one bit at a place of the consensus or bulk connection, once. */
struct flipper {
    size_t pipe;
    enum proxy_direction direction;
    uint64_t at;
    uint32_t bit;
    bool done;
};

static void flip(void *arg, struct proxy_pipe *pipe, enum proxy_direction direction, uint8_t *data,
                 size_t bytes)
{
    struct flipper *flipper = arg;
    uint64_t before = pipe->passed[direction];
    if (!flipper->done && pipe->number == flipper->pipe && direction == flipper->direction &&
        flipper->at >= before && flipper->at < before + bytes) {
        data[flipper->at - before] ^= (uint8_t)(1u << flipper->bit);
        flipper->done = true;
    }
}

static bool dialled_again(struct network *network, void *arg)
{
    (void)network;
    return ((struct proxy *)arg)->count > 2;
}

TEST(hostile, flipped_bit_anywhere_costs_the_link_and_nothing_else)
{
    uint64_t seed = test_seed();
    size_t flipped = 0;
    uint8_t data[3000];
    (void)memset(data, 0x5a, sizeof data);
    for (uint32_t round = 0; round < 24; round++) {
        struct network network;
        struct proxy proxy;
        begin_proxied(&network, &proxy);
        struct flipper flipper = {.pipe = round % 2,
                                  .direction = (enum proxy_direction)((round / 2) % 2),
                                  .at = (seed + (uint64_t)round * 97u) % 1200u,
                                  .bit = round % 8};
        proxy.tap = flip;
        proxy.arg = &flipper;
        network_bonded(&network, GROUP, 0, 1);
        for (size_t i = 0; i < 50 && !flipper.done; i++) {
            for (size_t lane = 0; lane < LS_LANES; lane++) {
                (void)network_send(&network, GROUP, 0, 1, (enum ls_lane)lane,
                                   (struct ls_span){data, sizeof data});
                (void)network_send(&network, GROUP, 1, 0, (enum ls_lane)lane,
                                   (struct ls_span){data, sizeof data});
            }
            network_run(&network, 1);
        }
        flipped += flipper.done ? 1u : 0u;
        network_run(&network, 5);
        /* it is dialled again: at once, or, if a frame's length seems to have grown, when nothing
         * authentic was heard for a while */
        network_until(&network, dialled_again, &proxy);
        size_t before = network.nodes[1].messages_count;
        while (network.nodes[1].messages_count == before) {
            (void)network_send(&network, GROUP, 0, 1, LS_LANE_BULK,
                               (struct ls_span){data, sizeof data});
            network_run(&network, 2);
        }
        for (size_t node = 0; node < 2; node++) {
            for (size_t i = 0; i < network.nodes[node].messages_count; i++) {
                assert_int_equal(network.nodes[node].messages[i].bytes, sizeof data);
                assert_memory_equal(network.nodes[node].messages[i].data, data, sizeof data);
            }
        }
        proxy_close(&proxy);
        network_close(&network);
    }
    assert_int_equal(flipped, 24);
}

/* A peer of our own making that holds the key: it speaks the handshake and then what it likes. */
struct insider {
    struct network *network;
    struct ls_identity *identity;
    struct raw raw;
    struct ls__handshake handshake;
    struct ls__frame_pool pool;
    struct ls__out out;
    struct ls__in in;
    ls__stream push, pull;
    size_t taken; /* of raw.got */
};

static bool insider_has(struct network *network, void *arg)
{
    struct insider *insider = arg;
    (void)network;
    raw_receive(&insider->raw);
    return insider->raw.bytes >= insider->taken + LS__HELLO_BYTES || insider->raw.ended;
}

static bool insider_has_proof(struct network *network, void *arg)
{
    struct insider *insider = arg;
    (void)network;
    raw_receive(&insider->raw);
    return insider->raw.bytes >= insider->taken + LS__PROOF_BYTES || insider->raw.ended;
}

static void insider_flush(struct insider *insider)
{
    struct iovec vectors[8];
    size_t count = ls__out_vectors(&insider->out, 1u << 20, vectors, 8), bytes = 0;
    for (size_t i = 0; i < count; i++) {
        raw_send(&insider->raw, vectors[i].iov_base, vectors[i].iov_len);
        bytes += vectors[i].iov_len;
    }
    ls__out_written(&insider->out, bytes);
}

static void insider_open(struct insider *insider, struct network *network, enum ls_lane lane)
{
    const struct ls_incarnation incarnation = {{0x33}};
    uint8_t proof[LS__PROOF_BYTES];
    (void)memset(insider, 0, sizeof *insider);
    insider->network = network;
    assert_ok(ls_identity_founder(network->key, "insider", &insider->identity, NULL));
    insider->pool.env = ls_env_default();
    ls__out_open(&insider->out, &insider->pool, &insider->push);
    ls__in_open(&insider->in, ls_env_default(), &insider->pull);
    raw_open(&insider->raw, &network->nodes[0]);
    ls__handshake_begin(&insider->handshake, ls_env_default(), insider->identity, &incarnation,
                        true, lane);
    raw_send(&insider->raw, insider->handshake.mine, LS__HELLO_BYTES);
    network_until(network, insider_has, insider);
    assert_null(ls__handshake_hello(&insider->handshake, insider->raw.got));
    insider->taken = LS__HELLO_BYTES;
    ls__handshake_prove(&insider->handshake, &insider->push, proof);
    raw_send(&insider->raw, proof, sizeof proof);
    network_until(network, insider_has_proof, insider);
    assert_null(ls__handshake_verify(&insider->handshake, &insider->pull,
                                     insider->raw.got + LS__HELLO_BYTES));
    insider->taken += LS__PROOF_BYTES;
}

static void insider_close(struct insider *insider)
{
    raw_close(&insider->raw);
    ls__out_close(&insider->out);
    ls__in_close(&insider->in);
    ls__frame_pool_free(&insider->pool);
    ls_identity_close(insider->identity);
}

static void insider_record(struct insider *insider, const void *data, size_t bytes)
{
    const struct ls_span part = {data, bytes};
    assert_ok(ls__out_record(&insider->out, &part, 1));
    insider_flush(insider);
}

static void insider_control(struct insider *insider, const struct ls__control *control)
{
    uint8_t bytes[LS__CONTROL_BYTES_MAX];
    insider_record(insider, bytes, ls__control_encode(control, bytes));
}

static void insider_bind(struct insider *bulk, const struct insider *consensus)
{
    struct ls__control bind = {.kind = LS__CONTROL_BIND};
    (void)memcpy(bind.session, consensus->handshake.transcript, sizeof bind.session);
    insider_control(bulk, &bind);
}

/* The next record it is sent, waiting for it; fails when the connection ends. */
struct awaited {
    struct insider *insider;
    struct ls__control control;
    uint8_t copy[4096];
    bool have;
};

static bool insider_next(struct network *network, void *arg)
{
    struct awaited *awaited = arg;
    struct insider *insider = awaited->insider;
    struct ls_span record;
    const char *reason = NULL;
    (void)network;
    raw_receive(&insider->raw);
    enum ls_status status = ls__in_record(&insider->in, &record, &reason);
    if (status == LS_ERR_BUSY && insider->raw.bytes > insider->taken) {
        uint8_t *at = NULL;
        size_t space = 0, some = insider->raw.bytes - insider->taken;
        assert_ok(ls__in_space(&insider->in, &at, &space));
        assert_true(space >= some);
        (void)memcpy(at, insider->raw.got + insider->taken, some);
        ls__in_received(&insider->in, some);
        insider->raw.bytes = 0;
        insider->taken = 0;
        status = ls__in_record(&insider->in, &record, &reason);
    }
    if (status == LS_OK) {
        assert_true(record.bytes <= sizeof awaited->copy);
        (void)memcpy(awaited->copy, record.data, record.bytes);
        record.data = awaited->copy;
        assert_null(ls__control_decode(record, &awaited->control));
        awaited->have = true;
    }
    return awaited->have || insider->raw.ended;
}

static void insider_await(struct insider *insider, enum ls__control_kind kind,
                          struct awaited *awaited)
{
    do {
        *awaited = (struct awaited){.insider = insider};
        network_until(insider->network, insider_next, awaited);
        assert_true(awaited->have);
    } while (awaited->control.kind != kind);
}

TEST(hostile, insider_that_keeps_the_protocol_is_bonded)
{
    struct network network;
    struct insider consensus, bulk;
    static struct awaited awaited;
    begin(&network, 1);
    insider_open(&consensus, &network, LS_LANE_CONSENSUS);
    insider_open(&bulk, &network, LS_LANE_BULK);
    insider_bind(&bulk, &consensus);
    network.nodes[1].id = ls_identity_id(consensus.identity);
    network_bond(&network, GROUP, 0, 1);
    insider_await(&consensus, LS__CONTROL_OPEN, &awaited);
    const uint32_t channel = awaited.control.channel;
    struct ls__control control = {
        .kind = LS__CONTROL_OPEN, .channel = 77, .hello = awaited.control.hello};
    insider_control(&consensus, &control);
    insider_await(&consensus, LS__CONTROL_ACCEPT, &awaited);
    assert_int_equal(awaited.control.channel, 77);
    /* a message on the other lane overtakes the ACCEPT: it is not lost */
    uint8_t message[LS__MESSAGE_HEAD + 3] = {0, 0, 0, 0, 0, 'h', 'e', 'y'};
    ls__message_head(channel, message);
    insider_record(&bulk, message, sizeof message);
    network_until_messages(&network, 0, 1);
    assert_int_equal(network_notices(&network.nodes[0], LS_BOND_UP), 1);
    assert_int_equal(network.nodes[0].notices[0].notice.incarnation.bytes[0], 0x33);
    control = (struct ls__control){.kind = LS__CONTROL_ACCEPT, .channel = channel};
    insider_control(&consensus, &control);
    /* pings are answered with their stamp; messages on unknown channels are only dropped */
    ls__message_head(channel + 2 * LS_GROUPS_MAX, message);
    insider_record(&consensus, message, sizeof message);
    control = (struct ls__control){.kind = LS__CONTROL_PING, .stamp = 4711};
    insider_control(&consensus, &control);
    insider_await(&consensus, LS__CONTROL_PONG, &awaited);
    assert_int_equal(awaited.control.stamp, 4711);
    assert_int_equal(network.nodes[0].messages_count, 1);
    assert_int_equal(network_notices(&network.nodes[0], LS_BOND_UP), 1);
    insider_close(&consensus);
    insider_close(&bulk);
    network_until_notices(&network, 0, LS_BOND_DOWN, 1);
    network_close(&network);
}

TEST(hostile, insider_that_breaks_the_protocol_loses_the_connection)
{
    static const struct {
        const char *record;
        size_t bytes;
        enum ls_lane lane;
    } cases[] = {
        {"\0", 1, LS_LANE_CONSENSUS}, /* unknown kinds */
        {"\xff", 1, LS_LANE_CONSENSUS},
        {"\1\1\1", 3, LS_LANE_CONSENSUS},                          /* message without a channel */
        {"\2garbage", 8, LS_LANE_CONSENSUS},                       /* half an OPEN */
        {"\3\1", 2, LS_LANE_CONSENSUS},                            /* half an ACCEPT */
        {"\7\1", 2, LS_LANE_CONSENSUS},                            /* half a PING */
        {"\3\1\1\1\1", 5, LS_LANE_BULK},                           /* a record before the BIND */
        {"\x9zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", 33, LS_LANE_BULK}, /* of another session */
        {"\x9zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", 33, LS_LANE_CONSENSUS}, /* on the wrong lane */
    };
    struct network network;
    begin(&network, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct insider insider;
        insider_open(&insider, &network, cases[i].lane);
        insider_record(&insider, cases[i].record, cases[i].bytes);
        network_until(&network, raw_ended, &insider.raw);
        insider_close(&insider);
    }
    assert_int_equal(network.nodes[0].notices_count, 0);
    network_close(&network);
}

TEST(hostile, bulk_connection_joins_only_the_session_it_names)
{
    struct network network;
    struct insider consensus, strays[2], bulk, second;
    static struct awaited awaited;
    begin(&network, 1);
    insider_open(&consensus, &network, LS_LANE_CONSENSUS);
    for (size_t i = 0; i < 2; i++) { /* any bytes, and the transcript of itself */
        struct ls__control bind = {.kind = LS__CONTROL_BIND};
        insider_open(&strays[i], &network, LS_LANE_BULK);
        (void)memcpy(bind.session, i == 0 ? network.key : strays[i].handshake.transcript,
                     sizeof bind.session);
        insider_control(&strays[i], &bind);
        network_until(&network, raw_ended, &strays[i].raw);
        insider_close(&strays[i]);
    }
    insider_open(&bulk, &network, LS_LANE_BULK);
    insider_bind(&bulk, &consensus);
    insider_await(&consensus, LS__CONTROL_PING, &awaited); /* the link is up */
    insider_open(&second, &network, LS_LANE_BULK);
    insider_bind(&second, &consensus);
    network_until(&network, raw_ended, &second.raw);
    raw_receive(&bulk.raw);
    assert_false(bulk.raw.ended);
    insider_close(&second);
    insider_close(&bulk);
    insider_close(&consensus);
    network_close(&network);
}

TEST(hostile, insider_may_offer_only_so_many_groups)
{
    struct network network;
    struct insider insider;
    /* only the number of groups may end it, however slow this build is */
    const struct ls_transport_tcp_options options = {.handshake_ms = 60000, .idle_ms = 90000};
    const struct network_backend backend = network_tcp(&options);
    network_open(&network, &backend, 1);
    insider_open(&insider, &network, LS_LANE_CONSENSUS);
    struct ls__control control = {.kind = LS__CONTROL_OPEN, .channel = 1};
    (void)memcpy(control.hello.name, GROUP, sizeof GROUP);
    uint32_t sent = 0;
    while (!insider.raw.ended && sent < 2 * LS_GROUPS_MAX) {
        ls__put32(control.hello.group.bytes, ++sent);
        insider_control(&insider, &control);
        network_run(&network, 0);
        raw_receive(&insider.raw);
    }
    assert_true(insider.raw.ended);
    assert_true(sent > LS_GROUPS_MAX);
    insider_close(&insider);
    network_close(&network);
}

TEST(hostile, consensus_connection_without_its_second_lane_ends)
{
    struct network network;
    struct insider insider;
    static struct awaited awaited;
    const struct ls_transport_tcp_options options = {
        .reconnect_min_ms = 2, .reconnect_max_ms = 10, .handshake_ms = 60, .idle_ms = 90};
    const struct network_backend backend = network_tcp(&options);
    network_open(&network, &backend, 1);
    insider_open(&insider, &network, LS_LANE_CONSENSUS);
    while (!insider.raw.ended) {
        /* never silent */
        const struct ls__control ping = {.kind = LS__CONTROL_PING, .stamp = 1};
        insider_control(&insider, &ping);
        awaited = (struct awaited){.insider = &insider};
        network_until(&network, insider_next, &awaited);
    }
    insider_close(&insider);
    network_close(&network);
}

struct counted {
    struct ls_env env;
    size_t warnings;
};

static void count_trace(void *self, const struct ls_trace *trace)
{
    struct counted *counted = self;
    counted->warnings += trace->level <= LS_TRACE_WARN ? 1u : 0u;
}

TEST(hostile, peer_that_stays_away_is_traced_once)
{
    struct counted counted = {.env = *ls_env_default()};
    counted.env.self = &counted;
    counted.env.trace = count_trace;
    const struct ls_transport_tcp_options options = {
        .env = &counted.env, .reconnect_min_ms = 1, .reconnect_max_ms = 2};
    const struct network_backend backend = network_tcp(&options);
    struct network network;
    network_open(&network, &backend, 2);
    network_node_close(&network, 1);
    network_bond(&network, GROUP, 0, 1);
    network_run(&network, 60);
    assert_int_equal(counted.warnings, 1);
    /* refusals of strangers neither */
    for (int i = 0; i < 5; i++) {
        struct raw raw;
        uint8_t garbage[LS__HELLO_BYTES] = {0};
        raw_open(&raw, &network.nodes[0]);
        raw_send(&raw, garbage, sizeof garbage);
        network_until(&network, raw_ended, &raw);
        raw_close(&raw);
    }
    assert_int_equal(counted.warnings, 2);
    network_close(&network);
}
