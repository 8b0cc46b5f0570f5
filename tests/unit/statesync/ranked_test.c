/* SPDX-License-Identifier: MIT */
/* In which order sources are given to whoever looks for some. */
#include "supervisor_state.h"
#include "test.h"

static const struct ls_sync_bond given[] = {{.peer = {{1}}, .leader = true, .rtt_us = 1},
                                            {.peer = {{2}}, .rtt_us = 0},
                                            {.peer = {{3}}, .rtt_us = 900},
                                            {.peer = {{4}}, .rtt_us = 50, .load = 2},
                                            {.peer = {{5}}, .rtt_us = 300},
                                            {.peer = {{6}}, .rtt_us = 5000, .load = 1}};

static size_t driver_bonds(void *self, struct ls_sync_bond *out, size_t capacity)
{
    const size_t *count = self;
    assert_true(*count <= capacity);
    memcpy(out, given, *count * sizeof *out);
    return *count;
}

TEST(sources, come_by_load_then_by_distance_and_the_leader_last)
{
    static const uint8_t expected[] = {5, 3, 2, 6, 4, 1};
    size_t count = sizeof given / sizeof given[0];
    struct ls_supervisor supervisor = {.driver = {.self = &count, .bonds = driver_bonds}};
    struct ls__side side = {.supervisor = &supervisor};
    struct ls_session_context context = ls__session_context(&side);
    struct ls_sync_bond bonds[LS_MEMBERS_MAX];
    assert_int_equal(context.base.bonds(context.base.self, bonds, LS_MEMBERS_MAX), count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(bonds[i].peer.bytes[0], expected[i]);
    }
    count = 0;
    assert_int_equal(context.base.bonds(context.base.self, bonds, LS_MEMBERS_MAX), 0);
}
