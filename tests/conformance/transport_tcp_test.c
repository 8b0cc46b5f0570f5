/* SPDX-License-Identifier: MIT */
/* The transport contract over encrypted TCP on 127.0.0.1. */
#include "transport_suite.h"

static void tcp_endpoint(void *self, const struct ls_identity *identity, struct ls_transport *out)
{
    (void)self;
    const struct ls_transport_tcp_options options = {.size = sizeof options,
                                                     .identity = identity,
                                                     .reconnect_min_ms = 5,
                                                     .reconnect_max_ms = 20};
    assert_ok(ls_transport_tcp_open(&options, out, NULL));
}

static void tcp_open(struct network_backend *out)
{
    *out = (struct network_backend){.endpoint = tcp_endpoint, .listens = true};
}

#define RUN(test)                                                                                  \
    TEST(tcp, test)                                                                                \
    {                                                                                              \
        transport_suite_##test(tcp_open);                                                          \
    }
TRANSPORT_SUITE_TESTS(RUN)
