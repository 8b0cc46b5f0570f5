/* SPDX-License-Identifier: MIT */
/* Links between honest nodes over a network that is slow, cut, crowded or far from it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "network.h"
#include "proxy.h"

#define GROUP "orders"

static const struct ls_transport_tcp_options quick = {.reconnect_min_ms = 2,
                                                      .reconnect_max_ms = 10};

static void begin(struct network *network, const struct ls_transport_tcp_options *options,
                  size_t count)
{
    const struct network_backend backend = network_tcp(options);
    network_open(network, &backend, count);
}

/* Node 0 has the lower id and dials node 1, here through a proxy. */
static void begin_proxied(struct network *network, struct proxy *proxy,
                          const struct ls_transport_tcp_options *options)
{
    begin(network, options, 2);
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

static size_t descriptors_open(void)
{
    size_t count = 0;
    for (int at = 0; at < 1024; at++) {
        count += fcntl(at, F_GETFD) >= 0 ? 1u : 0u;
    }
    return count;
}

TEST(tcp, cut_is_down_and_not_departed_and_comes_back)
{
    struct network network;
    struct proxy proxy;
    begin_proxied(&network, &proxy, &quick);
    network_bonded(&network, GROUP, 0, 1);
    for (size_t i = 1; i <= 3; i++) {
        proxy_cut(&proxy);
        for (size_t node = 0; node < 2; node++) {
            network_until_notices(&network, node, LS_BOND_DOWN, i);
            network_until_notices(&network, node, LS_BOND_UP, i + 1);
            assert_int_equal(network_notices(&network.nodes[node], LS_BOND_DEPARTED), 0);
        }
    }
    assert_int_equal(info_of(&network, 0, 1).reconnects, 3);
    assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_BULK, TEXT_SPAN("alive")));
    network_until_messages(&network, 1, 1);
    proxy_close(&proxy);
    network_close(&network);
}

TEST(tcp, silence_is_down_after_the_idle_time)
{
    static const struct ls_transport_tcp_options options = {
        .reconnect_min_ms = 2, .reconnect_max_ms = 10, .idle_ms = 500, .handshake_ms = 500};
    struct network network;
    struct proxy proxy;
    begin_proxied(&network, &proxy, &options);
    network_bonded(&network, GROUP, 0, 1);
    network_run(&network, 700); /* pings keep an idle link */
    assert_int_equal(network_notices(&network.nodes[0], LS_BOND_DOWN), 0);
    assert_true(info_of(&network, 0, 1).rtt_us > 0);
    proxy.frozen = true;
    network_until_notices(&network, 0, LS_BOND_DOWN, 1);
    network_until_notices(&network, 1, LS_BOND_DOWN, 1);
    assert_non_null(strstr(network.nodes[0].notices[1].text, "nothing heard for 500 ms"));
    proxy.frozen = false;
    network_until_notices(&network, 0, LS_BOND_UP, 2);
    network_until_notices(&network, 1, LS_BOND_UP, 2);
    proxy_close(&proxy);
    network_close(&network);
}

TEST(tcp, killed_peer_comes_back_as_another_incarnation_before_it_was_missed)
{
    struct network network;
    struct proxy proxy;
    begin_proxied(&network, &proxy, &quick);
    network_bonded(&network, GROUP, 0, 1);
    proxy.frozen = true; /* its farewell is lost, and its connections stay open */
    network_run(&network, 20);
    network_node_close(&network, 0);
    proxy.frozen = false;
    network_node_open(&network, 0, 0x99);
    network_bond(&network, GROUP, 0, 1);
    network_until_notices(&network, 1, LS_BOND_UP, 2);
    assert_int_equal(network_notices(&network.nodes[1], LS_BOND_DOWN), 1);
    assert_int_equal(network_notices(&network.nodes[1], LS_BOND_DEPARTED), 0);
    assert_int_equal(network.nodes[1].notices[2].notice.incarnation.bytes[0], 0x99);
    network_until_notices(&network, 0, LS_BOND_UP, 1);
    proxy_close(&proxy);
    network_close(&network);
}

static void no_listeners(size_t expected)
{
    size_t found = 0;
    for (int at = 0; at < 1024; at++) {
        int listening = 0;
        socklen_t bytes = sizeof listening;
        if (getsockopt(at, SOL_SOCKET, SO_ACCEPTCONN, &listening, &bytes) == 0) {
            found += listening != 0 ? 1u : 0u;
        }
    }
    assert_int_equal(found, expected);
}

TEST(tcp, listens_only_when_told_and_dials_when_it_does_not)
{
    for (size_t deaf = 0; deaf < 2; deaf++) {
        struct network network;
        begin(&network, &quick, 2);
        network_node_close(&network, deaf);
        network.nodes[deaf].deaf = true;
        network.nodes[deaf].address[0] = '\0';
        network_node_open(&network, deaf, 5);
        no_listeners(1);
        network_bonded(&network, GROUP, 0, 1);
        network_close(&network);
    }
}

TEST(tcp, node_that_starts_need_not_wait_out_the_pause_of_its_peer)
{
    static const struct ls_transport_tcp_options options = {.reconnect_min_ms = 60000,
                                                            .reconnect_max_ms = 120000};
    struct network network;
    begin(&network, &options, 2);
    network_node_close(&network, 1);
    network_bond(&network, GROUP, 0, 1);
    while (strstr(info_of(&network, 0, 1).trouble, "refused") == NULL) {
        network_run(&network, 5);
    }
    network_node_open(&network, 1, 5);
    network_bond(&network, GROUP, 1, 0);
    network_until_notices(&network, 0, LS_BOND_UP, 1);
    network_until_notices(&network, 1, LS_BOND_UP, 1);
    network_close(&network);
}

TEST(tcp, higher_id_dials_when_the_lower_does_not_know_its_address)
{
    struct network network;
    begin(&network, &quick, 2);
    char address[LS_ADDRESS_BYTES];
    (void)memcpy(address, network.nodes[1].address, sizeof address);
    network.nodes[1].address[0] = '\0';
    network_bond(&network, GROUP, 0, 1);
    (void)memcpy(network.nodes[1].address, address, sizeof address);
    network_bond(&network, GROUP, 1, 0);
    network_until_notices(&network, 0, LS_BOND_UP, 1);
    network_until_notices(&network, 1, LS_BOND_UP, 1);
    network_close(&network);
}

TEST(tcp, crossing_dials_end_in_one_link)
{
    static const struct ls_transport_tcp_options options = {.reconnect_min_ms = 1,
                                                            .reconnect_max_ms = 1};
    for (int round = 0; round < 12; round++) {
        struct network network;
        struct proxy proxy;
        begin_proxied(&network, &proxy, &options); /* the proxy makes the lower id's dial slower */
        network_bond(&network, GROUP, 1, 0);
        network_run(&network, (uint32_t)round % 3);
        network_bond(&network, GROUP, 0, 1);
        network_until_notices(&network, 0, LS_BOND_UP, 1);
        network_until_notices(&network, 1, LS_BOND_UP, 1);
        network_run(&network, 10);
        for (size_t node = 0; node < 2; node++) {
            assert_true(info_of(&network, node, 1 - node).up);
            assert_true(network_notices(&network.nodes[node], LS_BOND_UP) <= 2);
        }
        assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("one")));
        assert_ok(network_send(&network, GROUP, 1, 0, LS_LANE_BULK, TEXT_SPAN("link")));
        network_until_messages(&network, 1, 1);
        network_until_messages(&network, 0, 1);
        proxy_close(&proxy);
        network_close(&network);
    }
}

TEST(tcp, name_is_resolved_without_stopping_the_loop)
{
    struct network network;
    begin(&network, &quick, 2);
    (void)snprintf(network.nodes[1].dial, sizeof network.nodes[1].dial, "localhost%s",
                   strrchr(network.nodes[1].address, ':'));
    network_bonded(&network, GROUP, 0, 1);
    assert_string_equal(info_of(&network, 0, 1).address, network.nodes[1].dial);
    network_close(&network);
}

static bool has_trouble(struct network *network, void *arg)
{
    return strstr(info_of(network, 0, 1).trouble, arg) != NULL;
}

TEST(tcp, trouble_says_why_there_is_no_link)
{
    struct network network;
    begin(&network, &quick, 3);
    (void)snprintf(network.nodes[1].dial, sizeof network.nodes[1].dial, "127.0.0.1:%u",
                   (unsigned)test_port());
    network_bond(&network, GROUP, 0, 1);
    char refused[] = "refused";
    network_until(&network, has_trouble, refused);
    assert_non_null(strstr(info_of(&network, 0, 1).trouble, network.nodes[1].dial));
    /* another node answers at the address */
    (void)memcpy(network.nodes[1].dial, network.nodes[2].address, LS_ADDRESS_BYTES);
    network_bond(&network, GROUP, 0, 1);
    char another[] = "another node answers there: another name or another group key";
    network_until(&network, has_trouble, another);
    /* the peer is there and does not want the bond */
    (void)memcpy(network.nodes[1].dial, network.nodes[1].address, LS_ADDRESS_BYTES);
    network_bond(&network, GROUP, 0, 1);
    char not_in[] = "not in the group";
    network_until(&network, has_trouble, not_in);
    network_bond(&network, GROUP, 1, 0);
    network_until_notices(&network, 0, LS_BOND_UP, 1);
    assert_string_equal(info_of(&network, 0, 1).trouble, "");
    network_close(&network);
}

TEST(tcp, wrong_addresses_and_hellos_are_refused_with_a_text)
{
    static const char *const addresses[] = {"nowhere",    "host:",   ":1",         "host:0",
                                            "host:65536", "host:1x", "host:123456"};
    struct network network;
    begin(&network, &quick, 2);
    struct ls_transport *transport = &network.nodes[0].transport;
    struct ls_bond_hello hello = {.group = network_group(&network, GROUP, "m"), .name = GROUP};
    struct ls_error error = {0};
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        assert_int_equal(transport->bond_open(transport->self, &hello, &network.nodes[1].id,
                                              addresses[i], &error),
                         LS_ERR_INVALID);
        assert_non_null(strstr(error.text, "expected"));
        assert_int_equal(transport->listen(transport->self, addresses[i], &error), LS_ERR_INVALID);
    }
    assert_int_equal(transport->listen(transport->self, network.nodes[1].address, &error),
                     LS_ERR_IO);
    assert_non_null(strstr(error.text, network.nodes[1].address));
    hello.name[0] = '\0';
    assert_int_equal(
        transport->bond_open(transport->self, &hello, &network.nodes[1].id, "", &error),
        LS_ERR_INVALID);
    network_close(&network);
}

TEST(tcp, unknown_options_are_refused)
{
    struct newer {
        struct ls_transport_tcp_options known;
        uint64_t unknown;
    } options = {.known = {.size = sizeof(struct newer)}, .unknown = 1};
    struct ls_transport transport;
    struct ls_error error = {0};
    struct ls_identity *identity = NULL;
    const uint8_t key[LS_KEY_BYTES] = {1};
    assert_ok(ls_identity_founder(key, "a", &identity, NULL));
    options.known.identity = identity;
    assert_int_equal(ls_transport_tcp_open(&options.known, &transport, &error), LS_ERR_INVALID);
    options.unknown = 0;
    assert_ok(ls_transport_tcp_open(&options.known, &transport, &error));
    transport.close(transport.self);       /* never started */
    options.known.bulk_bytes_per_s = 1000; /* a ping would wait for longer than it may */
    assert_int_equal(ls_transport_tcp_open(&options.known, &transport, &error), LS_ERR_INVALID);
    options.known.bulk_bytes_per_s = 0;
    options.known.reconnect_min_ms = 20;
    options.known.reconnect_max_ms = 10;
    assert_int_equal(ls_transport_tcp_open(&options.known, &transport, &error), LS_ERR_INVALID);
    options.known.identity = NULL;
    assert_int_equal(ls_transport_tcp_open(&options.known, &transport, &error), LS_ERR_INVALID);
    options.known.size = 8;
    assert_int_equal(ls_transport_tcp_open(&options.known, &transport, &error), LS_ERR_INVALID);
    ls_identity_close(identity);
}

TEST(tcp, consensus_is_never_behind_bulk)
{
    enum { BULK = 16 << 20, PART = 1 << 20 };
    uint8_t *data = calloc(1, PART);
    assert_non_null(data);
    struct network network;
    begin(&network, &quick, 2);
    network_bonded(&network, GROUP, 0, 1);
    network.nodes[1].count_only = true;
    for (size_t i = 0; i < BULK / PART; i++) {
        assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_BULK, (struct ls_span){data, PART}));
    }
    assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("heartbeat")));
    network_until_messages(&network, 1, BULK / PART + 1);
    size_t at = 0;
    while (network.nodes[1].messages[at].lane != LS_LANE_CONSENSUS) {
        at++;
    }
    assert_true(at < BULK / PART / 2);
    network_close(&network);
    free(data);
}

TEST(tcp, bulk_keeps_its_pace_and_consensus_has_none)
{
    enum { RATE = 8 << 20, PART = 64 << 10, PARTS = 32 };
    static const struct ls_transport_tcp_options options = {
        .reconnect_min_ms = 2, .reconnect_max_ms = 10, .bulk_bytes_per_s = RATE};
    uint8_t *data = calloc(1, PART);
    assert_non_null(data);
    const struct ls_env *env = ls_env_default();
    struct network network;
    begin(&network, &options, 2);
    network_bonded(&network, GROUP, 0, 1);
    network.nodes[1].count_only = true;
    uint64_t start = env->now_us(env->self);
    for (size_t i = 0; i < PARTS; i++) {
        assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_BULK, (struct ls_span){data, PART}));
        assert_ok(
            network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, (struct ls_span){data, PART}));
    }
    network_until_messages(&network, 1, 2 * PARTS);
    uint64_t took = env->now_us(env->self) - start;
    /* 2 MiB at 8 MiB/s, less the burst of a twentieth of a second and one frame */
    const uint64_t bytes = (uint64_t)PART * PARTS - RATE / 20 - PART;
    assert_true(took >= bytes * 1000000u / RATE);
    size_t consensus_last = 0;
    for (size_t i = 0; i < network.nodes[1].messages_count; i++) {
        consensus_last =
            network.nodes[1].messages[i].lane == LS_LANE_CONSENSUS ? i : consensus_last;
    }
    assert_true(consensus_last < 2 * PARTS - PARTS / 2);
    network_close(&network);
    free(data);
}

/* A5 */
TEST(tcp, close_with_queued_data_says_farewell_and_leaks_nothing)
{
    enum { PART = 4 << 20 };
    uint8_t *data = calloc(1, PART);
    assert_non_null(data);
    size_t before = descriptors_open();
    for (int frozen = 0; frozen < 2; frozen++) {
        struct network network;
        struct proxy proxy;
        begin_proxied(&network, &proxy, &quick);
        network_bonded(&network, GROUP, 0, 1);
        proxy.frozen = frozen != 0;
        for (size_t i = 0; i < 7; i++) {
            assert_ok(
                network_send(&network, GROUP, 0, 1, LS_LANE_BULK, (struct ls_span){data, PART}));
            assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS,
                                   (struct ls_span){data, PART}));
        }
        network_node_close(&network, 0);
        if (frozen == 0) {
            network_until_notices(&network, 1, LS_BOND_UP, 1);
        }
        proxy_close(&proxy);
        network_close(&network);
        assert_int_equal(descriptors_open(), before);
    }
    free(data);
}

TEST(tcp, every_descriptor_is_closed_on_exec)
{
    bool existed[1024] = {false};
    for (int at = 0; at < 1024; at++) {
        existed[at] = fcntl(at, F_GETFD) >= 0;
    }
    struct network network;
    begin(&network, &quick, 3);
    network_bonded(&network, GROUP, 0, 1);
    network_bonded(&network, GROUP, 1, 2);
    size_t seen = 0;
    for (int at = 0; at < 1024; at++) {
        int flags = existed[at] ? -1 : fcntl(at, F_GETFD);
        if (flags >= 0) {
            assert_true((flags & FD_CLOEXEC) != 0);
            seen++;
        }
    }
    assert_true(seen >= 3 + 8); /* listeners, and both ends of two links' two lanes */
    network_close(&network);
}

static void close_inside(struct network_node *node, const struct network_message *message)
{
    (void)message;
    node->transport.close(node->transport.self);
    node->open = false;
}

TEST(tcp, transport_may_be_closed_from_inside_its_sink)
{
    struct network network;
    begin(&network, &quick, 3);
    network_bonded(&network, GROUP, 0, 1);
    network_bonded(&network, GROUP, 1, 2);
    network.nodes[1].on_receive = close_inside;
    for (int i = 0; i < 10; i++) {
        assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("close")));
    }
    network_until_notices(&network, 0, LS_BOND_DEPARTED, 1);
    network_until_notices(&network, 2, LS_BOND_DEPARTED, 1);
    assert_int_equal(network.nodes[1].messages_count, 1);
    network_close(&network);
}

static void leave_inside(struct network_node *node, const struct network_message *message)
{
    node->transport.bond_close(node->transport.self, &message->group, &message->from);
}

TEST(tcp, bond_may_be_closed_from_inside_its_sink)
{
    struct network network;
    begin(&network, &quick, 2);
    network_bonded(&network, GROUP, 0, 1);
    network.nodes[1].on_receive = leave_inside;
    for (int i = 0; i < 10; i++) {
        assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("leave")));
    }
    network_until_notices(&network, 0, LS_BOND_DEPARTED, 1);
    network_run(&network, 10);
    assert_int_equal(network.nodes[1].messages_count, 1);
    network_close(&network);
}

static bool no_sockets_left(struct network *network, void *arg)
{
    (void)network;
    return descriptors_open() == *(size_t *)arg;
}

TEST(tcp, link_without_bonds_ends)
{
    struct network network;
    begin(&network, &quick, 2);
    size_t before = descriptors_open();
    network_bonded(&network, GROUP, 0, 1);
    const struct ls_group_id group = network_group(&network, GROUP, "test/1");
    for (size_t node = 0; node < 2; node++) {
        struct ls_transport *transport = &network.nodes[node].transport;
        transport->bond_close(transport->self, &group, &network.nodes[1 - node].id);
    }
    network_until(&network, no_sockets_left, &before);
    network_bonded(&network, GROUP, 0, 1); /* and can be made again */
    network_close(&network);
}

/* A2 */
TEST(tcp, many_groups_share_one_link)
{
    enum { GROUPS = 200 };
    struct network network;
    begin(&network, &quick, 2);
    char name[16];
    for (unsigned i = 0; i < GROUPS; i++) {
        (void)snprintf(name, sizeof name, "group-%u", i);
        network_bond(&network, name, 0, 1);
        network_bond(&network, name, 1, 0);
    }
    network_until_notices(&network, 0, LS_BOND_UP, GROUPS);
    network_until_notices(&network, 1, LS_BOND_UP, GROUPS);
    for (unsigned i = 0; i < GROUPS; i++) {
        (void)snprintf(name, sizeof name, "group-%u", i);
        assert_ok(network_send(&network, name, 1, 0, LS_LANE_CONSENSUS, TEXT_SPAN("x")));
    }
    network_until_messages(&network, 0, GROUPS);
    for (unsigned i = 0; i < GROUPS; i++) {
        (void)snprintf(name, sizeof name, "group-%u", i);
        const struct ls_group_id group = network_group(&network, name, "test/1");
        assert_true(ls_group_id_equal(&network.nodes[0].messages[i].group, &group));
    }
    assert_true(descriptors_open() < 40);
    network_close(&network);
}

/* An env that refuses memory from the k-th request on, for some requests. */
struct refusal {
    struct ls_env env;
    size_t calls, from, count;
    size_t refused;
};

static void *refusing(void *self, void *block, size_t bytes)
{
    struct refusal *refusal = self;
    const struct ls_env *env = ls_env_default();
    if (bytes > 0) {
        refusal->calls++;
        if (refusal->from != 0 && refusal->calls >= refusal->from &&
            refusal->calls < refusal->from + refusal->count) {
            refusal->refused++;
            return NULL;
        }
    }
    return env->allocate(env->self, block, bytes);
}

static void bond_somehow(struct network *network, size_t from, size_t to)
{
    struct network_node *node = &network->nodes[from];
    struct ls_bond_hello hello = {
        .group = network_group(network, GROUP, "test/1"), .name = GROUP, .member = "m"};
    (void)memcpy(hello.signature, "test/1", 6);
    hello.signature_bytes = 6;
    enum ls_status status;
    while ((status = node->transport.bond_open(node->transport.self, &hello, &network->nodes[to].id,
                                               network->nodes[to].address, NULL)) != LS_OK) {
        assert_int_equal(status, LS_ERR_NO_MEMORY);
    }
}

TEST(tcp, refused_memory_delays_and_breaks_nothing)
{
    uint8_t *data = calloc(1, 300000);
    assert_non_null(data);
    size_t refused = 0;
    for (size_t from = 1; from < 40; from++) {
        struct refusal refusal = {.env = *ls_env_default(), .count = 1 + from % 3};
        refusal.env.self = &refusal;
        refusal.env.allocate = refusing;
        const struct ls_transport_tcp_options options = {
            .env = &refusal.env, .reconnect_min_ms = 1, .reconnect_max_ms = 2};
        struct network network;
        begin(&network, &options, 2);
        refusal.from = refusal.calls + from;
        bond_somehow(&network, 0, 1);
        bond_somehow(&network, 1, 0);
        network_until_notices(&network, 0, LS_BOND_UP, 1);
        network_until_notices(&network, 1, LS_BOND_UP, 1);
        while (network.nodes[1].messages_count == 0) {
            enum ls_status status =
                network_send(&network, GROUP, 0, 1, LS_LANE_BULK, (struct ls_span){data, 300000});
            assert_true(status == LS_OK || status == LS_ERR_NO_MEMORY ||
                        status == LS_ERR_UNREACHABLE);
            network_run(&network, 2);
        }
        refused += refusal.refused;
        network_close(&network);
    }
    assert_true(refused > 20);
    free(data);
}

TEST(tcp, running_out_of_descriptors_pauses_accepting)
{
    struct rlimit before, low;
    struct network network;
    begin(&network, &quick, 2);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = 64;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    int filler = -1, last = -1;
    while ((filler = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        last = filler;
    }
    (void)close(last); /* one is left: for the dialling socket, and none to accept it */
    network_bond(&network, GROUP, 0, 1);
    network_bond(&network, GROUP, 1, 0);
    network_run(&network, 50);
    assert_int_equal(network_notices(&network.nodes[0], LS_BOND_UP), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    network_until_notices(&network, 0, LS_BOND_UP, 1);
    network_until_notices(&network, 1, LS_BOND_UP, 1);
    for (int at = 0; at < 64; at++) {
        struct stat info;
        if (fstat(at, &info) == 0 && S_ISCHR(info.st_mode) && at > 2) {
            (void)close(at);
        }
    }
    network_close(&network);
}
