/* SPDX-License-Identifier: MIT */
/* The transport contract over encrypted TCP on 127.0.0.1. */
#include "transport_suite.h"

static void tcp_open(struct network_backend *out)
{
    static const struct ls_transport_tcp_options options = {.reconnect_min_ms = 5,
                                                            .reconnect_max_ms = 20};
    *out = network_tcp(&options);
}

#define RUN(test)                                                                                  \
    TEST(tcp, test)                                                                                \
    {                                                                                              \
        transport_suite_##test(tcp_open);                                                          \
    }
TRANSPORT_SUITE_TESTS(RUN)
