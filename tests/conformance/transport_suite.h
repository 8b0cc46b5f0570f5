/* SPDX-License-Identifier: MIT */
/*
 * What every transport promises (transport.h), as tests over a backend. A backend's program writes
 * TRANSPORT_SUITE(area, open_backend) where open_backend fills a struct network_backend.
 */
#ifndef LOCKSTEP_TRANSPORT_SUITE_H
#define LOCKSTEP_TRANSPORT_SUITE_H

#include "network.h"

typedef void (*transport_backend_open)(struct network_backend *out);

#define TRANSPORT_SUITE_TESTS(X)                                                                   \
    X(bond_comes_up_on_both_sides_with_the_peers_incarnation)                                      \
    X(bond_waits_for_the_other_side)                                                               \
    X(messages_of_every_size_arrive_whole_and_in_order)                                            \
    X(small_messages_arrive_in_lane_order)                                                         \
    X(message_over_the_limit_is_refused)                                                           \
    X(send_without_a_bond_is_unreachable)                                                          \
    X(full_queue_is_busy_and_drains)                                                               \
    X(closing_a_bond_departs_and_opening_it_again_brings_it_up)                                    \
    X(messages_sent_before_departing_arrive_first)                                                 \
    X(closing_the_transport_departs_from_all_bonds)                                                \
    X(restarted_peer_comes_back_with_another_incarnation)                                          \
    X(same_name_with_another_machine_is_refused_with_both_named)                                   \
    X(third_member_learns_of_formed_bonds)                                                         \
    X(groups_on_one_link_are_apart)                                                                \
    X(answers_from_inside_the_sink_arrive)                                                         \
    X(malformed_message_costs_the_link_which_comes_back)                                           \
    X(bond_with_oneself_is_refused)                                                                \
    X(bond_info_tells_names_and_traffic)

#define TRANSPORT_SUITE_DECLARE(test) void transport_suite_##test(transport_backend_open open);
TRANSPORT_SUITE_TESTS(TRANSPORT_SUITE_DECLARE)

#endif
