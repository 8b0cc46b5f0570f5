/* SPDX-License-Identifier: MIT */
/* What only the in-process hub can do: cuts, threads, refused memory. */
#include <pthread.h>
#include <stdlib.h>

#include "network.h"

#define GROUP "g"

static void hub_endpoint(void *self, const struct ls_identity *identity, struct ls_transport *out)
{
    assert_ok(ls_loopback_endpoint(self, identity, out, NULL));
}

static void hub_close(void *self)
{
    ls_loopback_close(self);
}

static struct ls_loopback *begin(struct network *network, const struct ls_env *env, size_t count)
{
    struct ls_loopback *hub = NULL;
    assert_ok(ls_loopback_open(env, &hub));
    const struct network_backend backend = {
        .self = hub, .endpoint = hub_endpoint, .close = hub_close};
    network_open(network, &backend, count);
    return hub;
}

TEST(loopback, cut_in_one_direction_brings_both_down_and_healing_up)
{
    struct network network;
    struct ls_loopback *hub = begin(&network, NULL, 2);
    network_bonded(&network, GROUP, 0, 1);
    assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("lost")));
    ls_loopback_cut(hub, &network.nodes[0].id, &network.nodes[1].id, true);
    network_until_notices(&network, 0, LS_BOND_DOWN, 1);
    network_until_notices(&network, 1, LS_BOND_DOWN, 1);
    assert_int_equal(network.nodes[1].messages_count, 0);
    assert_int_equal(network_send(&network, GROUP, 1, 0, LS_LANE_CONSENSUS, TEXT_SPAN("x")),
                     LS_ERR_UNREACHABLE);
    ls_loopback_cut(hub, &network.nodes[1].id, &network.nodes[0].id, true);
    ls_loopback_cut(hub, &network.nodes[0].id, &network.nodes[1].id, false);
    network_run(&network, 20);
    assert_int_equal(network_notices(&network.nodes[0], LS_BOND_UP), 1); /* still cut one way */
    ls_loopback_cut(hub, &network.nodes[1].id, &network.nodes[0].id, false);
    network_until_notices(&network, 0, LS_BOND_UP, 2);
    network_until_notices(&network, 1, LS_BOND_UP, 2);
    assert_ok(network_send(&network, GROUP, 1, 0, LS_LANE_CONSENSUS, TEXT_SPAN("back")));
    network_until_messages(&network, 0, 1);
    network_close(&network);
}

TEST(loopback, flap_between_two_turns_is_told_as_down_and_up)
{
    struct network network;
    struct ls_loopback *hub = begin(&network, NULL, 2);
    network_bonded(&network, GROUP, 0, 1);
    ls_loopback_cut(hub, &network.nodes[0].id, &network.nodes[1].id, true);
    ls_loopback_cut(hub, &network.nodes[0].id, &network.nodes[1].id, false);
    network_until_notices(&network, 0, LS_BOND_UP, 2);
    assert_int_equal(network_notices(&network.nodes[0], LS_BOND_DOWN), 1);
    network_close(&network);
}

TEST(loopback, second_endpoint_of_an_identity_is_refused)
{
    struct network network;
    struct ls_loopback *hub = begin(&network, NULL, 1);
    struct ls_transport second;
    struct ls_error error = {0};
    assert_int_equal(ls_loopback_endpoint(hub, network.nodes[0].identity, &second, &error),
                     LS_ERR_INVALID);
    network_close(&network);
}

struct refusal {
    struct ls_env env;
    bool refuse;
    size_t refused;
};

static void *refusing(void *self, void *block, size_t bytes)
{
    struct refusal *refusal = self;
    if (bytes > 0 && refusal->refuse) {
        refusal->refused++;
        return NULL;
    }
    const struct ls_env *env = ls_env_default();
    return env->allocate(env->self, block, bytes);
}

TEST(loopback, refused_memory_is_a_status_and_changes_nothing)
{
    struct refusal refusal = {.env = *ls_env_default()};
    refusal.env.self = &refusal;
    refusal.env.allocate = refusing;
    struct network network;
    (void)begin(&network, &refusal.env, 2);
    network_bond(&network, GROUP, 0, 1);
    refusal.refuse = true;
    struct ls_transport *transport = &network.nodes[1].transport;
    struct ls_bond_hello hello = {.group = network_group(&network, GROUP, "test/1"), .name = GROUP};
    assert_int_equal(transport->bond_open(transport->self, &hello, &network.nodes[0].id, "", NULL),
                     LS_ERR_NO_MEMORY);
    refusal.refuse = false;
    network_bond(&network, GROUP, 1, 0);
    network_until_notices(&network, 0, LS_BOND_UP, 1);
    refusal.refuse = true;
    assert_int_equal(network_send(&network, GROUP, 0, 1, LS_LANE_BULK, TEXT_SPAN("x")),
                     LS_ERR_NO_MEMORY);
    refusal.refuse = false;
    assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_BULK, TEXT_SPAN("y")));
    network_until_messages(&network, 1, 1);
    assert_int_equal(refusal.refused, 2);
    network_close(&network);
}

/* Two endpoints on threads of their own count each other's messages up. */
enum { VOLLEYS = 3000 };

struct player {
    struct event_base *base;
    struct ls_transport transport;
    uint32_t next;
};

static const char *player_receive(void *self, const struct ls_group_id *group,
                                  const struct ls_peer_id *peer, enum ls_lane lane,
                                  struct ls_span message)
{
    struct player *player = self;
    uint32_t number = 0;
    LS_ASSERT(message.bytes == sizeof number);
    (void)memcpy(&number, message.data, sizeof number);
    LS_ASSERT(number == player->next);
    number++;
    player->next = number + 1;
    LS_ASSERT(player->transport.send(player->transport.self, group, peer, lane,
                                     (struct ls_span){&number, sizeof number}) == LS_OK);
    if (number >= VOLLEYS) {
        (void)event_base_loopexit(player->base, NULL);
    }
    return NULL;
}

static void player_bond(void *self, const struct ls_bond_notice *notice)
{
    struct player *player = self;
    if (notice->event == LS_BOND_UP && player->next == 1) {
        const uint32_t zero = 0; /* the one that expects 1 serves */
        LS_ASSERT(player->transport.send(player->transport.self, &notice->group, &notice->peer,
                                         LS_LANE_CONSENSUS,
                                         (struct ls_span){&zero, sizeof zero}) == LS_OK);
    }
}

static void *player_run(void *arg)
{
    struct player *player = arg;
    (void)event_base_dispatch(player->base);
    return NULL;
}

TEST(loopback, endpoints_on_two_threads_keep_order)
{
    struct ls_loopback *hub = NULL;
    struct ls_identity *identities[2] = {NULL, NULL};
    struct player players[2] = {{.next = 1}, {.next = 0}};
    uint8_t key[LS_KEY_BYTES] = {1, 2, 3};
    assert_ok(ls_loopback_open(NULL, &hub));
    struct ls_bond_hello hello = {.name = GROUP, .member = "m"};
    for (size_t i = 0; i < 2; i++) {
        const struct ls_incarnation incarnation = {{1}};
        const struct ls_transport_sink sink = {&players[i], player_receive, player_bond};
        assert_ok(ls_identity_founder(key, i == 0 ? "a" : "b", &identities[i], NULL));
        players[i].base = event_base_new();
        assert_ok(ls_loopback_endpoint(hub, identities[i], &players[i].transport, NULL));
        assert_ok(players[i].transport.start(players[i].transport.self, players[i].base,
                                             &incarnation, &sink, NULL));
    }
    for (size_t i = 0; i < 2; i++) {
        const struct ls_peer_id other = ls_identity_id(identities[1 - i]);
        assert_ok(
            players[i].transport.bond_open(players[i].transport.self, &hello, &other, "", NULL));
    }
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, player_run, &players[i]), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(players[i].next >= VOLLEYS);
    }
    for (size_t i = 0; i < 2; i++) {
        players[i].transport.close(players[i].transport.self);
        event_base_free(players[i].base);
        ls_identity_close(identities[i]);
    }
    ls_loopback_close(hub);
}
