/* SPDX-License-Identifier: MIT */
/* The prune-safe index, the core's part: what every member has, for every small set of members. */
#include "core_state.h"
#include "test.h"

enum { OTHERS = 3, VALUES = 4, STATES = 3, LIKES = VALUES * STATES * 2 };

/*
 * The last index that may go on a leader: committed and durable here, and acknowledged by every
 * other member, whatever its role, its progress and its promises. One that never acknowledged
 * counts as zero; one that lags too far holds nothing, where that is allowed.
 */
TEST(prune_safe, on_a_leader_it_is_what_every_member_has_acknowledged)
{
    static struct ls_core core;
    for (uint32_t world = 0; world < LIKES * LIKES * LIKES * VALUES * VALUES; world++) {
        uint32_t rest = world / (VALUES * VALUES);
        memset(&core, 0, sizeof core);
        core.role = LS_ROLE_LEADER;
        core.commit = world % VALUES;
        core.lag_entries = world * 7 / 5 % 2; /* 0: nobody is ever given up */
        core.durable = world / VALUES % VALUES;
        core.prune_safe = 9; /* of a leader before it: says nothing now */
        core.self.bytes[0] = 1 + world % (OTHERS + 1);
        core.peers_count = OTHERS + 1;
        ls_index expected = core.commit;
        expected = core.durable < expected ? core.durable : expected;
        for (uint32_t i = 0; i <= OTHERS; i++) {
            struct ls__peer *peer = &core.peers[i];
            peer->id.bytes[0] = (uint8_t)(1 + i);
            if (peer->id.bytes[0] == core.self.bytes[0]) {
                continue;
            }
            peer->match = rest % VALUES;
            peer->state = (enum ls_progress_state)(1 + rest / VALUES % STATES);
            peer->counts = peer->met = peer->linked = rest / (VALUES * STATES) % 2 == 0;
            ls_index holds = peer->match;
            if (core.lag_entries > 0 && core.commit > holds + core.lag_entries) {
                /* it lags too far; one that never answered, no further than that */
                holds = holds == 0 ? core.commit - core.lag_entries : UINT64_MAX;
            }
            assert_true(ls__prunable(&core, peer) == holds);
            expected = holds < expected ? holds : expected;
            rest /= LIKES;
        }
        assert_true(ls__prune_safe(&core) == expected);
    }
}

TEST(prune_safe, elsewhere_it_is_what_the_leader_of_the_term_told)
{
    static const enum ls_role roles[] = {LS_ROLE_FOLLOWER, LS_ROLE_PRE_CANDIDATE,
                                         LS_ROLE_CANDIDATE};
    static struct ls_core core;
    for (size_t role = 0; role < sizeof roles / sizeof roles[0]; role++) {
        for (uint32_t world = 0; world < VALUES * VALUES * VALUES; world++) {
            memset(&core, 0, sizeof core);
            core.role = roles[role];
            core.prune_safe = world % VALUES;
            core.commit = core.durable = world / VALUES % VALUES;
            core.peers_count = 2;
            core.peers[1].match = world / VALUES / VALUES;
            assert_true(ls__prune_safe(&core) == world % VALUES);
        }
    }
}
