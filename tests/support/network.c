/* SPDX-License-Identifier: MIT */
/* The recording network of transport tests. */
#include "network.h"

#include <stdio.h>
#include <stdlib.h>

#define MACHINE "test/1"

static void *grown(void *block, size_t count, size_t *capacity, size_t each)
{
    if (count < *capacity) {
        return block;
    }
    *capacity = *capacity == 0 ? 64 : *capacity * 2;
    block = realloc(block, *capacity * each);
    assert_non_null(block);
    return block;
}

static const char *on_receive(void *self, const struct ls_group_id *group,
                              const struct ls_peer_id *peer, enum ls_lane lane,
                              struct ls_span message)
{
    struct network_node *node = self;
    node->messages = grown(node->messages, node->messages_count, &node->messages_capacity,
                           sizeof *node->messages);
    struct network_message *kept = &node->messages[node->messages_count++];
    *kept = (struct network_message){*group, *peer, lane, message.bytes, NULL};
    if (!node->count_only && message.bytes > 0) {
        kept->data = malloc(message.bytes);
        assert_non_null(kept->data);
        (void)memcpy(kept->data, message.data, message.bytes);
    }
    if (node->on_receive != NULL) {
        node->on_receive(node, kept);
    }
    return node->finds;
}

static void on_bond(void *self, const struct ls_bond_notice *notice)
{
    struct network_node *node = self;
    node->notices =
        grown(node->notices, node->notices_count, &node->notices_capacity, sizeof *node->notices);
    struct network_notice *kept = &node->notices[node->notices_count++];
    kept->notice = *notice;
    kept->notice.text = NULL;
    kept->text[0] = '\0';
    if (notice->text != NULL) {
        (void)snprintf(kept->text, sizeof kept->text, "%s", notice->text);
    }
}

void network_forget(struct network *network, size_t node)
{
    struct network_node *at = &network->nodes[node];
    for (size_t i = 0; i < at->messages_count; i++) {
        free(at->messages[i].data);
    }
    at->messages_count = 0;
    at->notices_count = 0;
}

void network_node_open(struct network *network, size_t node, uint8_t incarnation)
{
    struct network_node *at = &network->nodes[node];
    struct ls_error error = {0};
    assert_false(at->open);
    network_forget(network, node);
    network->backend.endpoint(network->backend.self, at->identity, &at->transport);
    (void)memset(at->incarnation.bytes, incarnation, sizeof at->incarnation.bytes);
    const struct ls_transport_sink sink = {at, on_receive, on_bond};
    assert_ok(
        at->transport.start(at->transport.self, network->base, &at->incarnation, &sink, &error));
    at->open = true;
    if (network->backend.listens && !at->deaf) {
        if (at->address[0] == '\0') {
            (void)snprintf(at->address, sizeof at->address, "127.0.0.1:%u", (unsigned)test_port());
        }
        if (at->transport.listen(at->transport.self, at->address, &error) != LS_OK) {
            fail_msg("%s", error.text);
        }
    }
}

void network_node_close(struct network *network, size_t node)
{
    struct network_node *at = &network->nodes[node];
    if (at->open) {
        at->transport.close(at->transport.self);
        at->open = false;
    }
    network_forget(network, node);
}

void network_node_rekey(struct network *network, size_t node, uint8_t key_byte)
{
    struct network_node *at = &network->nodes[node];
    uint8_t key[LS_KEY_BYTES];
    (void)memcpy(key, network->key, sizeof key);
    key[0] ^= key_byte;
    network_node_close(network, node);
    ls_identity_close(at->identity);
    assert_ok(ls_identity_founder(key, "stranger", &at->identity, NULL));
    at->id = ls_identity_id(at->identity);
}

static void tcp_endpoint(void *self, const struct ls_identity *identity, struct ls_transport *out)
{
    struct ls_transport_tcp_options options = *(const struct ls_transport_tcp_options *)self;
    struct ls_error error = {0};
    options.size = sizeof options;
    options.identity = identity;
    if (ls_transport_tcp_open(&options, out, &error) != LS_OK) {
        fail_msg("%s", error.text);
    }
}

struct network_backend network_tcp(const struct ls_transport_tcp_options *options)
{
    return (struct network_backend){
        .self = (void *)(uintptr_t)options, .endpoint = tcp_endpoint, .listens = true};
}

static int by_id(const void *a, const void *b)
{
    const struct network_node *one = a, *other = b;
    return memcmp(one->id.bytes, other->id.bytes, sizeof one->id.bytes);
}

void network_open(struct network *network, const struct network_backend *backend, size_t count)
{
    (void)memset(network, 0, sizeof *network);
    assert_true(count <= NETWORK_NODES_MAX);
    network->base = event_base_new();
    assert_non_null(network->base);
    network->backend = *backend;
    network->count = count;
    for (size_t i = 0; i < sizeof network->key; i++) {
        network->key[i] = (uint8_t)(i * 7 + 1);
    }
    for (size_t i = 0; i < count; i++) {
        const char name[] = {(char)('a' + i), '\0'};
        network->nodes[i].network = network;
        assert_ok(ls_identity_founder(network->key, name, &network->nodes[i].identity, NULL));
        network->nodes[i].id = ls_identity_id(network->nodes[i].identity);
    }
    qsort(network->nodes, count, sizeof network->nodes[0], by_id);
    for (size_t i = 0; i < count; i++) {
        network_node_open(network, i, (uint8_t)(i + 1));
    }
}

void network_close(struct network *network)
{
    for (size_t i = 0; i < network->count; i++) {
        network_node_close(network, i);
        free(network->nodes[i].messages);
        free(network->nodes[i].notices);
        ls_identity_close(network->nodes[i].identity);
    }
    if (network->backend.close != NULL) {
        network->backend.close(network->backend.self);
    }
    event_base_free(network->base);
}

static void on_timeout(evutil_socket_t descriptor, short what, void *arg)
{
    (void)descriptor;
    (void)what;
    *(bool *)arg = true;
}

static void on_tick(evutil_socket_t descriptor, short what, void *arg)
{
    (void)descriptor;
    (void)what;
    (void)arg; /* the loop looks at the condition */
}

static void flush_all(struct network *network)
{
    for (size_t i = 0; i < network->count; i++) {
        if (network->nodes[i].open) {
            network->nodes[i].transport.flush(network->nodes[i].transport.self);
        }
    }
}

static bool run(struct network *network, bool (*condition)(struct network *, void *), void *arg,
                uint32_t ms)
{
    bool late = false, held = false;
    struct event *timer = evtimer_new(network->base, on_timeout, &late);
    struct event *tick = event_new(network->base, -1, EV_PERSIST, on_tick, NULL);
    const struct timeval interval = {ms / 1000, (ms % 1000) * 1000}, often = {0, 2000};
    assert_non_null(timer);
    assert_non_null(tick);
    assert_int_equal(evtimer_add(timer, &interval), 0);
    assert_int_equal(event_add(tick, &often), 0);
    while (!(held = condition != NULL && condition(network, arg)) && !late) {
        flush_all(network);
        assert_true(event_base_loop(network->base, EVLOOP_ONCE) >= 0);
    }
    event_free(timer);
    event_free(tick);
    return held;
}

void network_until(struct network *network, bool (*condition)(struct network *, void *), void *arg)
{
    assert_true(run(network, condition, arg, 10000));
}

void network_run(struct network *network, uint32_t ms)
{
    (void)run(network, NULL, NULL, ms);
}

struct ls_group_id network_group(struct network *network, const char *name, const char *signature)
{
    return ls_identity_group_id(network->nodes[0].identity, name,
                                (struct ls_span){signature, strlen(signature)},
                                (struct ls_span){NULL, 0});
}

void network_bond_as(struct network *network, const char *name, const char *signature, size_t from,
                     size_t to)
{
    struct network_node *node = &network->nodes[from];
    const struct network_node *peer = &network->nodes[to];
    const char *address = peer->dial[0] != '\0' ? peer->dial : peer->address;
    struct ls_bond_hello hello = {.group = network_group(network, name, signature)};
    (void)snprintf(hello.name, sizeof hello.name, "%s", name);
    (void)snprintf(hello.member, sizeof hello.member, "node-%zu", from);
    hello.signature_bytes = (uint32_t)strlen(signature);
    (void)memcpy(hello.signature, signature, hello.signature_bytes);
    assert_ok(node->transport.bond_open(node->transport.self, &hello, &network->nodes[to].id,
                                        address, NULL));
}

void network_bond(struct network *network, const char *name, size_t from, size_t to)
{
    network_bond_as(network, name, MACHINE, from, to);
}

struct wanted {
    size_t node, count;
    enum ls_bond_event event;
};

static bool has_notices(struct network *network, void *arg)
{
    const struct wanted *wanted = arg;
    return network_notices(&network->nodes[wanted->node], wanted->event) >= wanted->count;
}

static bool has_messages(struct network *network, void *arg)
{
    const struct wanted *wanted = arg;
    return network->nodes[wanted->node].messages_count >= wanted->count;
}

size_t network_notices(const struct network_node *node, enum ls_bond_event event)
{
    size_t count = 0;
    for (size_t i = 0; i < node->notices_count; i++) {
        count += node->notices[i].notice.event == event ? 1u : 0u;
    }
    return count;
}

void network_until_notices(struct network *network, size_t node, enum ls_bond_event event,
                           size_t count)
{
    struct wanted wanted = {node, count, event};
    network_until(network, has_notices, &wanted);
}

void network_until_messages(struct network *network, size_t node, size_t count)
{
    struct wanted wanted = {node, count, LS_BOND_UP};
    network_until(network, has_messages, &wanted);
}

void network_bonded(struct network *network, const char *name, size_t a, size_t b)
{
    size_t ups_a = network_notices(&network->nodes[a], LS_BOND_UP);
    size_t ups_b = network_notices(&network->nodes[b], LS_BOND_UP);
    network_bond(network, name, a, b);
    network_bond(network, name, b, a);
    network_until_notices(network, a, LS_BOND_UP, ups_a + 1);
    network_until_notices(network, b, LS_BOND_UP, ups_b + 1);
}

enum ls_status network_send(struct network *network, const char *name, size_t from, size_t to,
                            enum ls_lane lane, struct ls_span message)
{
    struct network_node *node = &network->nodes[from];
    const struct ls_group_id group = network_group(network, name, MACHINE);
    return node->transport.send(node->transport.self, &group, &network->nodes[to].id, lane,
                                message);
}
