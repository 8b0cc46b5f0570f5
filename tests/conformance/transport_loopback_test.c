/* SPDX-License-Identifier: MIT */
/* The transport contract over the in-process hub. */
#include "transport_suite.h"

static void hub_endpoint(void *self, const struct ls_identity *identity, struct ls_transport *out)
{
    assert_ok(ls_loopback_endpoint(self, identity, out, NULL));
}

static void hub_close(void *self)
{
    ls_loopback_close(self);
}

static void hub_open(struct network_backend *out)
{
    struct ls_loopback *hub = NULL;
    assert_ok(ls_loopback_open(NULL, &hub));
    *out = (struct network_backend){.self = hub, .endpoint = hub_endpoint, .close = hub_close};
}

#define RUN(test)                                                                                  \
    TEST(loopback, test)                                                                           \
    {                                                                                              \
        transport_suite_##test(hub_open);                                                          \
    }
TRANSPORT_SUITE_TESTS(RUN)
