/* SPDX-License-Identifier: MIT */
/* The contract of struct ls_transport, sentence by sentence. */
#include "transport_suite.h"

#include <stdio.h>
#include <stdlib.h>

#define GROUP "orders"

static void begin(struct network *network, transport_backend_open open, size_t count)
{
    struct network_backend backend = {0};
    open(&backend);
    network_open(network, &backend, count);
}

static const struct ls_bond_notice *last_notice(const struct network_node *node,
                                                enum ls_bond_event event)
{
    for (size_t i = node->notices_count; i > 0; i--) {
        if (node->notices[i - 1].notice.event == event) {
            return &node->notices[i - 1].notice;
        }
    }
    fail_msg("no notice %d", (int)event);
    return NULL;
}

static const char *last_text(const struct network_node *node, enum ls_bond_event event)
{
    for (size_t i = node->notices_count; i > 0; i--) {
        if (node->notices[i - 1].notice.event == event) {
            return node->notices[i - 1].text;
        }
    }
    return "no such notice";
}

static struct ls_bond_info info_of(struct network *network, size_t node, size_t peer)
{
    struct ls_bond_info info;
    struct ls_transport *transport = &network->nodes[node].transport;
    const struct ls_group_id group = network_group(network, GROUP, "test/1");
    assert_ok(transport->bond_info(transport->self, &group, &network->nodes[peer].id, &info));
    return info;
}

void transport_suite_bond_comes_up_on_both_sides_with_the_peers_incarnation(
    transport_backend_open open)
{
    struct network network;
    begin(&network, open, 2);
    network_bonded(&network, GROUP, 0, 1);
    for (size_t i = 0; i < 2; i++) {
        const struct ls_bond_notice *up = last_notice(&network.nodes[i], LS_BOND_UP);
        const struct ls_group_id group = network_group(&network, GROUP, "test/1");
        assert_true(ls_group_id_equal(&up->group, &group));
        assert_true(ls_peer_id_equal(&up->peer, &network.nodes[1 - i].id));
        assert_true(ls_incarnation_equal(&up->incarnation, &network.nodes[1 - i].incarnation));
        assert_int_equal(network.nodes[i].notices_count, 1);
    }
    network_close(&network);
}

void transport_suite_bond_waits_for_the_other_side(transport_backend_open open)
{
    struct network network;
    begin(&network, open, 2);
    network_bond(&network, GROUP, 0, 1);
    network_run(&network, 50);
    assert_int_equal(network.nodes[0].notices_count, 0);
    assert_int_equal(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("early")),
                     LS_ERR_UNREACHABLE);
    network_bond(&network, GROUP, 1, 0);
    network_until_notices(&network, 0, LS_BOND_UP, 1);
    network_until_notices(&network, 1, LS_BOND_UP, 1);
    network_close(&network);
}

static void fill(uint8_t *data, size_t bytes, uint32_t seed)
{
    uint32_t state = seed * 2654435761u + 12345u;
    for (size_t i = 0; i < bytes; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = (uint8_t)(state >> 24);
    }
}

void transport_suite_messages_of_every_size_arrive_whole_and_in_order(transport_backend_open open)
{
    static const size_t sizes[] = {0,      1,      2,        255,      4087,
                                   4096,   65535,  65536,    65537,    262143,
                                   262144, 262145, 1u << 20, 3u << 20, LS_MESSAGE_BYTES_MAX,
                                   17,     0,      1000,     9u << 20, 1};
    const size_t count = sizeof sizes / sizeof sizes[0];
    uint8_t *data = malloc(LS_MESSAGE_BYTES_MAX);
    assert_non_null(data);
    struct network network;
    begin(&network, open, 2);
    network_bonded(&network, GROUP, 0, 1);
    for (size_t lane = 0; lane < LS_LANES; lane++) {
        network_forget(&network, 1);
        for (uint32_t i = 0; i < count; i++) {
            fill(data, sizes[i], i);
            enum ls_status status;
            while ((status = network_send(&network, GROUP, 0, 1, (enum ls_lane)lane,
                                          (struct ls_span){data, sizes[i]})) == LS_ERR_BUSY) {
                network_until_messages(&network, 1, network.nodes[1].messages_count + 1);
            }
            assert_ok(status);
        }
        network_until_messages(&network, 1, count);
        assert_int_equal(network.nodes[1].messages_count, count);
        for (uint32_t i = 0; i < count; i++) {
            const struct network_message *got = &network.nodes[1].messages[i];
            assert_int_equal(got->lane, lane);
            assert_int_equal(got->bytes, sizes[i]);
            assert_true(ls_peer_id_equal(&got->from, &network.nodes[0].id));
            fill(data, sizes[i], i);
            assert_true(sizes[i] == 0 || memcmp(got->data, data, sizes[i]) == 0);
        }
    }
    network_close(&network);
    free(data);
}

void transport_suite_small_messages_arrive_in_lane_order(transport_backend_open open)
{
    enum { MESSAGES = 5000 };
    struct network network;
    begin(&network, open, 2);
    network_bonded(&network, GROUP, 0, 1);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        for (size_t from = 0; from < 2; from++) {
            assert_ok(network_send(&network, GROUP, from, 1 - from, (enum ls_lane)(i % 2),
                                   (struct ls_span){&i, sizeof i}));
        }
        if (i % 100 == 0) {
            network_until_messages(&network, 0, i / 2);
        }
    }
    for (size_t node = 0; node < 2; node++) {
        uint32_t next[LS_LANES] = {0, 1};
        network_until_messages(&network, node, MESSAGES);
        assert_int_equal(network.nodes[node].messages_count, MESSAGES);
        for (size_t i = 0; i < MESSAGES; i++) {
            const struct network_message *got = &network.nodes[node].messages[i];
            uint32_t number = 0;
            assert_int_equal(got->bytes, sizeof number);
            (void)memcpy(&number, got->data, sizeof number);
            assert_int_equal(number, next[got->lane]);
            next[got->lane] += 2;
        }
    }
    network_close(&network);
}

void transport_suite_message_over_the_limit_is_refused(transport_backend_open open)
{
    static uint8_t data[LS_MESSAGE_BYTES_MAX + 1];
    struct network network;
    begin(&network, open, 2);
    network_bonded(&network, GROUP, 0, 1);
    assert_int_equal(
        network_send(&network, GROUP, 0, 1, LS_LANE_BULK, (struct ls_span){data, sizeof data}),
        LS_ERR_LIMIT);
    network_close(&network);
}

void transport_suite_send_without_a_bond_is_unreachable(transport_backend_open open)
{
    struct network network;
    begin(&network, open, 2);
    assert_int_equal(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("x")),
                     LS_ERR_UNREACHABLE);
    network_close(&network);
}

void transport_suite_full_queue_is_busy_and_drains(transport_backend_open open)
{
    enum { BYTES = 1u << 20 };
    uint8_t *data = calloc(1, BYTES);
    assert_non_null(data);
    struct network network;
    begin(&network, open, 2);
    network_bonded(&network, GROUP, 0, 1);
    network.nodes[1].count_only = true;
    for (size_t lane = 0; lane < LS_LANES; lane++) {
        network_forget(&network, 1);
        size_t sent = 0;
        enum ls_status status;
        while ((status = network_send(&network, GROUP, 0, 1, (enum ls_lane)lane,
                                      (struct ls_span){data, BYTES})) == LS_OK) {
            sent++;
            assert_true(sent <= LS_SEND_QUEUE_BYTES_MAX / BYTES);
        }
        assert_int_equal(status, LS_ERR_BUSY);
        assert_true(sent >= LS_SEND_QUEUE_BYTES_MAX / BYTES - 1);
        assert_true(info_of(&network, 0, 1).queued_bytes >= sent * BYTES);
        /* the other lane and the other direction are not concerned */
        assert_ok(network_send(&network, GROUP, 0, 1, (enum ls_lane)(1 - lane), TEXT_SPAN("x")));
        assert_ok(network_send(&network, GROUP, 1, 0, (enum ls_lane)lane, TEXT_SPAN("x")));
        network_until_messages(&network, 1, sent + 1);
        assert_ok(
            network_send(&network, GROUP, 0, 1, (enum ls_lane)lane, (struct ls_span){data, BYTES}));
        network_until_messages(&network, 1, sent + 2);
    }
    network_close(&network);
    free(data);
}

void transport_suite_closing_a_bond_departs_and_opening_it_again_brings_it_up(
    transport_backend_open open)
{
    struct network network;
    begin(&network, open, 2);
    network_bonded(&network, GROUP, 0, 1);
    const struct ls_group_id group = network_group(&network, GROUP, "test/1");
    struct ls_transport *transport = &network.nodes[0].transport;
    transport->bond_close(transport->self, &group, &network.nodes[1].id);
    network_until_notices(&network, 1, LS_BOND_DEPARTED, 1);
    assert_int_equal(network.nodes[0].notices_count, 1); /* none for the one who left */
    assert_int_equal(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("x")),
                     LS_ERR_UNREACHABLE);
    assert_int_equal(network_send(&network, GROUP, 1, 0, LS_LANE_CONSENSUS, TEXT_SPAN("x")),
                     LS_ERR_UNREACHABLE);
    network_bond(&network, GROUP, 0, 1);
    network_until_notices(&network, 0, LS_BOND_UP, 2);
    network_until_notices(&network, 1, LS_BOND_UP, 2);
    assert_int_equal(network_notices(&network.nodes[1], LS_BOND_DOWN), 0);
    assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_BULK, TEXT_SPAN("again")));
    network_until_messages(&network, 1, 1);
    network_close(&network);
}

void transport_suite_messages_sent_before_departing_arrive_first(transport_backend_open open)
{
    struct network network;
    begin(&network, open, 2);
    network_bonded(&network, GROUP, 0, 1);
    const struct ls_group_id group = network_group(&network, GROUP, "test/1");
    struct ls_transport *transport = &network.nodes[0].transport;
    assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("farewell")));
    transport->bond_close(transport->self, &group, &network.nodes[1].id);
    network_until_notices(&network, 1, LS_BOND_DEPARTED, 1);
    assert_int_equal(network.nodes[1].messages_count, 1);
    network_close(&network);
}

void transport_suite_closing_the_transport_departs_from_all_bonds(transport_backend_open open)
{
    struct network network;
    begin(&network, open, 3);
    network_bonded(&network, GROUP, 0, 1);
    network_bonded(&network, GROUP, 0, 2);
    assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("last words")));
    network_node_close(&network, 0);
    network_until_notices(&network, 1, LS_BOND_DEPARTED, 1);
    network_until_notices(&network, 2, LS_BOND_DEPARTED, 1);
    assert_int_equal(network.nodes[1].messages_count, 1);
    assert_int_equal(network_notices(&network.nodes[1], LS_BOND_DOWN), 0);
    network_close(&network);
}

void transport_suite_restarted_peer_comes_back_with_another_incarnation(transport_backend_open open)
{
    struct network network;
    begin(&network, open, 2);
    network_bonded(&network, GROUP, 0, 1);
    for (size_t node = 0; node < 2; node++) {
        size_t other = 1 - node, ups = network_notices(&network.nodes[other], LS_BOND_UP);
        network_node_close(&network, node);
        network_until_notices(&network, other, LS_BOND_DEPARTED, 1);
        network_node_open(&network, node, 0x77);
        network_bond(&network, GROUP, node, other);
        network_until_notices(&network, node, LS_BOND_UP, 1);
        network_until_notices(&network, other, LS_BOND_UP, ups + 1);
        const struct ls_bond_notice *up = last_notice(&network.nodes[other], LS_BOND_UP);
        LS_ASSERT(up != NULL); /* the optimiser does not know that assert_non_null ends the test */
        assert_int_equal(up->incarnation.bytes[0], 0x77);
        assert_true(info_of(&network, other, node).reconnects >= 1);
        assert_ok(network_send(&network, GROUP, other, node, LS_LANE_BULK, TEXT_SPAN("hello")));
        network_until_messages(&network, node, 1);
    }
    network_close(&network);
}

void transport_suite_same_name_with_another_machine_is_refused_with_both_named(
    transport_backend_open open)
{
    struct network network;
    begin(&network, open, 2);
    network_bond_as(&network, GROUP, "counter/1", 0, 1);
    network_bond_as(&network, GROUP, "ledger/2", 1, 0);
    for (size_t node = 0; node < 2; node++) {
        network_until_notices(&network, node, LS_BOND_REFUSED, 1);
        const char *text = network.nodes[node].notices[0].text;
        assert_non_null(strstr(text, GROUP));
        assert_non_null(strstr(text, "counter/1"));
        assert_non_null(strstr(text, "ledger/2"));
        assert_int_equal(network_notices(&network.nodes[node], LS_BOND_UP), 0);
    }
    network_close(&network);
}

static bool knows_three(struct network *network, void *arg)
{
    (void)arg;
    for (size_t node = 0; node < 3; node++) {
        for (size_t peer = 0; peer < 3; peer++) {
            if (node != peer && info_of(network, node, peer).bonds_count != 2) {
                return false;
            }
        }
    }
    return true;
}

static bool knows_no_more(struct network *network, void *arg)
{
    (void)arg;
    return info_of(network, 0, 1).bonds_count == 1;
}

void transport_suite_third_member_learns_of_formed_bonds(transport_backend_open open)
{
    struct network network;
    begin(&network, open, 3);
    network_bonded(&network, GROUP, 0, 1);
    network_bonded(&network, GROUP, 0, 2);
    network_bonded(&network, GROUP, 1, 2);
    for (size_t node = 0; node < 3; node++) {
        network_until_notices(&network, node, LS_BOND_FORMED, 1);
    }
    network_until(&network, knows_three, NULL);
    const struct ls_bond_notice *formed = last_notice(&network.nodes[0], LS_BOND_FORMED);
    assert_false(ls_peer_id_equal(&formed->other, &network.nodes[0].id));
    assert_false(ls_peer_id_equal(&formed->other, &formed->peer));
    /* and of their end */
    network_node_close(&network, 2);
    network_until(&network, knows_no_more, NULL);
    network_close(&network);
}

void transport_suite_groups_on_one_link_are_apart(transport_backend_open open)
{
    struct network network;
    begin(&network, open, 2);
    network_bonded(&network, "left", 0, 1);
    network_bonded(&network, "right", 0, 1);
    assert_ok(network_send(&network, "right", 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("r")));
    assert_ok(network_send(&network, "left", 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("l")));
    network_until_messages(&network, 1, 2);
    const struct ls_group_id left = network_group(&network, "left", "test/1");
    const struct ls_group_id right = network_group(&network, "right", "test/1");
    assert_true(ls_group_id_equal(&network.nodes[1].messages[0].group, &right));
    assert_true(ls_group_id_equal(&network.nodes[1].messages[1].group, &left));
    struct ls_transport *transport = &network.nodes[0].transport;
    transport->bond_close(transport->self, &left, &network.nodes[1].id);
    network_until_notices(&network, 1, LS_BOND_DEPARTED, 1);
    assert_ok(network_send(&network, "right", 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("still")));
    network_until_messages(&network, 1, 3);
    network_close(&network);
}

static void answer(struct network_node *node, const struct network_message *message)
{
    if (message->bytes < 20) {
        uint8_t longer[20] = {0};
        assert_ok(node->transport.send(node->transport.self, &message->group, &message->from,
                                       message->lane,
                                       (struct ls_span){longer, message->bytes + 1}));
    }
}

void transport_suite_answers_from_inside_the_sink_arrive(transport_backend_open open)
{
    struct network network;
    begin(&network, open, 2);
    network_bonded(&network, GROUP, 0, 1);
    network.nodes[0].on_receive = answer;
    network.nodes[1].on_receive = answer;
    assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("")));
    network_until_messages(&network, 1, 11);
    assert_int_equal(network.nodes[1].messages[10].bytes, 20);
    network_close(&network);
}

void transport_suite_malformed_message_costs_the_link_which_comes_back(transport_backend_open open)
{
    struct network network;
    begin(&network, open, 3);
    network_bonded(&network, GROUP, 0, 1);
    network_bonded(&network, "left", 0, 1);
    network_bonded(&network, GROUP, 1, 2);
    for (uint32_t times = 1; times <= 2; times++) {
        network_forget(&network, 0);
        network_forget(&network, 1);
        network.nodes[1].finds = "three is not a number";
        assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("bad")));
        assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("lost")));
        network_until_notices(&network, 1, LS_BOND_DOWN, 2); /* all bonds of the link */
        network_until_notices(&network, 0, LS_BOND_DOWN, 2);
        assert_int_equal(network.nodes[1].messages_count, 1);
        assert_string_equal(last_text(&network.nodes[1], LS_BOND_DOWN), "three is not a number");
        network.nodes[1].finds = NULL;
        network_until_notices(&network, 0, LS_BOND_UP, 2);
        network_until_notices(&network, 1, LS_BOND_UP, 2);
        assert_int_equal(info_of(&network, 1, 0).malformed, times);
        assert_int_equal(info_of(&network, 1, 0).reconnects, times);
        assert_int_equal(info_of(&network, 0, 1).malformed, 0);
        assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("good")));
        network_until_messages(&network, 1, 2);
    }
    assert_int_equal(network_notices(&network.nodes[2], LS_BOND_DOWN), 0);
    network_close(&network);
}

void transport_suite_bond_with_oneself_is_refused(transport_backend_open open)
{
    struct network network;
    begin(&network, open, 1);
    struct ls_bond_hello hello = {.group = network_group(&network, GROUP, "test/1"), .name = GROUP};
    struct ls_error error = {0};
    struct ls_transport *transport = &network.nodes[0].transport;
    assert_int_equal(
        transport->bond_open(transport->self, &hello, &network.nodes[0].id, "", &error),
        LS_ERR_INVALID);
    assert_true(error.text[0] != '\0');
    network_close(&network);
}

void transport_suite_bond_info_tells_names_and_traffic(transport_backend_open open)
{
    struct network network;
    begin(&network, open, 2);
    struct ls_bond_info info;
    struct ls_transport *transport = &network.nodes[0].transport;
    const struct ls_group_id group = network_group(&network, GROUP, "test/1");
    assert_int_equal(transport->bond_info(transport->self, &group, &network.nodes[1].id, &info),
                     LS_ERR_NOT_FOUND);
    network_bond(&network, GROUP, 0, 1);
    assert_int_equal(info_of(&network, 0, 1).why, LS_ERR_UNREACHABLE);
    network_bonded(&network, GROUP, 0, 1);
    assert_int_equal(info_of(&network, 0, 1).why, LS_OK);
    assert_ok(network_send(&network, GROUP, 0, 1, LS_LANE_CONSENSUS, TEXT_SPAN("12345")));
    network_until_messages(&network, 1, 1);
    info = info_of(&network, 0, 1);
    assert_true(info.up);
    assert_string_equal(info.name, "node-1");
    assert_true(info.heard_us > 0);
    assert_true(info.bytes_out >= 5);
    assert_string_equal(info.trouble, "");
    assert_true(ls_incarnation_equal(&info.incarnation, &network.nodes[1].incarnation));
    assert_true(info_of(&network, 1, 0).bytes_in >= 5);
    network_close(&network);
}
