/* SPDX-License-Identifier: MIT */
/*
 * Quorum arithmetic against the definition, for every configuration of up to 5 members in every
 * order and every role, and every joint one of up to 5 + 5 voters in every order, with members
 * that do not vote around them (P15, P5, C7, R13).
 */
#include "core_state.h"
#include "test.h"

#define ORDERED_MAX 5u
#define HALF_MAX    5u

/* What the twin knows: two sets of places. */
struct sets {
    uint32_t incoming, outgoing;
    bool joint;
};

static uint32_t size_of(uint32_t set)
{
    uint32_t size = 0;
    for (; set != 0; set &= set - 1) {
        size++;
    }
    return size;
}

/* More of them are in than are out. */
static bool majority(uint32_t set, uint32_t mask)
{
    return size_of(set & mask) > size_of(set & ~mask);
}

static bool twin_has(const struct sets *sets, uint32_t mask)
{
    return majority(sets->incoming, mask) && (!sets->joint || majority(sets->outgoing, mask));
}

static void member(struct ls_configuration *configuration, struct sets *sets,
                   enum ls_role_in_configuration role, bool outgoing)
{
    uint32_t at = configuration->count++;
    configuration->members[at].role = role;
    configuration->members[at].outgoing_voter = outgoing;
    sets->incoming |= role == LS_MEMBER_VOTER || role == LS_MEMBER_WITNESS ? 1u << at : 0;
    sets->outgoing |= outgoing ? 1u << at : 0;
    configuration->joint = sets->joint = sets->outgoing != 0;
}

/* One set of places: everything that is asked of it. */
static void check_mask(const struct ls_configuration *configuration, const struct sets *sets,
                       uint32_t mask)
{
    uint64_t values[LS_MEMBERS_MAX] = {0};
    for (uint32_t i = 0; i < configuration->count; i++) {
        values[i] = 1 + ((mask >> i) & 1u);
    }
    bool has = ls__quorum_has(configuration, mask);
    assert_true(has == twin_has(sets, mask));
    assert_true(ls__quorum_value(configuration, values) == (has ? 2 : 1));
    uint32_t voters = sets->incoming | sets->outgoing;
    assert_true(ls__quorum_has_all(configuration, mask) == ((mask & voters) == voters));
    if (has) { /* what is left is no quorum: not of all, and not of either half alone */
        struct sets incoming = {.incoming = sets->incoming};
        struct sets outgoing = {.incoming = sets->outgoing};
        assert_false(ls__quorum_has(configuration, ~mask));
        assert_false(twin_has(&incoming, ~mask));
        assert_false(sets->joint && twin_has(&outgoing, ~mask));
    }
}

/* The largest value such that those who reached it are a quorum. */
static void check_values(const struct ls_configuration *configuration, const struct sets *sets,
                         const uint64_t *values)
{
    uint64_t best = 0;
    for (uint64_t value = 1; value <= 3; value++) {
        uint32_t mask = 0;
        for (uint32_t i = 0; i < configuration->count; i++) {
            mask |= values[i] >= value ? 1u << i : 0;
        }
        best = twin_has(sets, mask) ? value : best;
    }
    assert_true(ls__quorum_value(configuration, values) == best);
}

static void check_all_values(const struct ls_configuration *configuration, const struct sets *sets)
{
    for (uint32_t vector = 0; vector < 1u << (2 * configuration->count); vector++) {
        uint64_t values[LS_MEMBERS_MAX] = {0};
        for (uint32_t i = 0; i < configuration->count; i++) {
            values[i] = (vector >> (2 * i)) & 3u;
        }
        check_values(configuration, sets, values);
    }
}

TEST(quorum, every_configuration_of_up_to_5_in_every_order_and_role_agrees_with_the_definition)
{
    uint64_t configurations = 0;
    for (uint32_t count = 1; count <= ORDERED_MAX; count++) {
        for (uint32_t shape = 0; shape < 1u << (3 * count); shape++) {
            struct ls_configuration configuration = {.count = 0};
            struct sets sets = {.joint = false};
            for (uint32_t i = 0; i < count; i++) {
                uint32_t digit = (shape >> (3 * i)) & 7u;
                member(&configuration, &sets, (enum ls_role_in_configuration)(1 + (digit & 3u)),
                       (digit & 4u) != 0);
            }
            if (sets.incoming == 0) {
                continue; /* no configuration has no voter */
            }
            for (uint32_t i = 0; i < count; i++) {
                bool votes = ((sets.incoming | sets.outgoing) >> i & 1u) != 0;
                assert_true(ls__quorum_voter(&configuration, i) == votes);
            }
            for (uint32_t mask = 0; mask < 1u << count; mask++) {
                check_mask(&configuration, &sets, mask);
            }
            if (count < ORDERED_MAX) { /* four places show every order of four values */
                check_all_values(&configuration, &sets);
            }
            configurations++;
        }
    }
    assert_int_equal(configurations, 8 + 64 + 512 + 4096 + 32768 - 4 - 16 - 64 - 256 - 1024);
}

/* Orders of `both` members of both halves, `in` of the incoming and `out` of the outgoing alone. */
struct order {
    uint32_t both, in, out;
    struct ls_configuration configuration;
    struct sets sets;
    uint64_t leaves;
};

static void check_order(struct order *order, bool bystanders)
{
    struct ls_configuration configuration = {.count = 0};
    struct sets sets = {.joint = false};
    if (bystanders) {
        member(&configuration, &sets, LS_MEMBER_OBSERVER, false);
    }
    for (uint32_t i = 0; i < order->configuration.count; i++) {
        const struct ls_member *one = &order->configuration.members[i];
        member(&configuration, &sets, one->role, one->outgoing_voter);
        if (bystanders && i % 4 == 1) {
            member(&configuration, &sets, LS_MEMBER_LEARNER, false);
        }
    }
    /* every subset of the voters, each with all and with none of those who do not vote */
    uint32_t voters = sets.incoming | sets.outgoing;
    uint32_t others = ((1u << configuration.count) - 1) & ~voters;
    uint32_t mask = 0;
    do {
        check_mask(&configuration, &sets, mask);
        check_mask(&configuration, &sets, mask | others);
        mask = (mask - voters) & voters;
    } while (mask != 0);
    order->leaves++;
}

static void place(struct order *order)
{
    struct {
        uint32_t *left;
        bool incoming, outgoing;
    } kinds[] = {{&order->both, true, true}, {&order->in, true, false}, {&order->out, false, true}};
    if (order->both + order->in + order->out == 0) {
        check_order(order, false);
        check_order(order, true);
        return;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (*kinds[i].left == 0) {
            continue;
        }
        struct ls_configuration *configuration = &order->configuration;
        struct sets sets = order->sets;
        enum ls_role_in_configuration votes =
            configuration->count % 3 == 2 ? LS_MEMBER_WITNESS : LS_MEMBER_VOTER;
        enum ls_role_in_configuration waits =
            configuration->count % 2 == 1 ? LS_MEMBER_LEARNER : LS_MEMBER_OBSERVER;
        --*kinds[i].left;
        member(configuration, &order->sets, kinds[i].incoming ? votes : waits, kinds[i].outgoing);
        place(order);
        order->configuration.count--;
        order->sets = sets;
        ++*kinds[i].left;
    }
}

TEST(quorum, every_joint_configuration_of_up_to_5_and_5_voters_agrees_with_the_definition)
{
    static struct order order;
    uint64_t leaves = 0;
    for (uint32_t both = 0; both <= HALF_MAX; both++) {
        for (uint32_t in = 0; in + both <= HALF_MAX; in++) {
            for (uint32_t out = 0; out + both <= HALF_MAX; out++) {
                if (both + in == 0) {
                    continue;
                }
                order = (struct order){.both = both, .in = in, .out = out};
                place(&order);
                leaves += order.leaves;
            }
        }
    }
    assert_true(leaves > 5000);
}

/* ---- whose acknowledgement counts ---- */

enum kind { OURS, FORMER, UNMET, SILENT, KINDS };

/* A leader's core with just what counting looks at: itself at place 0 and its peers. */
static void counting(struct ls_core *core, struct ls_configuration_at *at, uint32_t count)
{
    memset(core, 0, sizeof *core);
    memset(at, 0, sizeof *at);
    core->role = LS_ROLE_LEADER;
    core->hard.term = 2;
    core->notice_deadline_us = 1;
    core->configurations = at;
    core->configurations_count = 1;
    core->peers_count = at->configuration.count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct ls_member *one = &at->configuration.members[i];
        one->role = LS_MEMBER_VOTER;
        one->id.bytes[0] = core->peers[i].id.bytes[0] = (uint8_t)(1 + i);
        one->incarnation.bytes[0] = (uint8_t)(1 + i);
    }
    core->self = at->configuration.members[0].id;
    core->incarnation = at->configuration.members[0].incarnation;
}

/*
 * C5, C7, P14: every mix of roles, of incarnations (the recorded one, another one, none met yet)
 * and of members that say that they do not count, with every acknowledged index: the leader commits
 * what a majority of the voters holds whose promises count, and nothing else.
 */
TEST(quorum, a_leader_counts_recorded_incarnations_of_voters_that_promise_and_nobody_else)
{
    enum { COUNT = 4, DIGIT = KINDS * 2 * 3 }; /* kind, role, match */
    static struct ls_core core;
    static struct ls_configuration_at at;
    struct ls_cursor run = {2, 1};
    uint64_t ring[4] = {0};
    uint64_t commits = 0;
    for (uint32_t shape = 0; shape < DIGIT * DIGIT * DIGIT * 3; shape++) {
        counting(&core, &at, COUNT);
        core.trail = (struct ls__trail){.last = 2, .runs = &run, .count = 1, .capacity = 1};
        core.ring = (struct ls__ring){.ends = ring, .capacity = 4, .first = 1, .count = 2};
        core.own_term_first = 1;
        core.durable = shape % 3;
        uint32_t rest = shape / 3;
        uint32_t voters = 1;
        uint32_t holding[3] = {COUNT, core.durable >= 1, core.durable >= 2};
        for (uint32_t i = 1; i < COUNT; i++, rest /= DIGIT) {
            struct ls__peer *peer = &core.peers[i];
            enum kind kind = (enum kind)(rest % DIGIT / 6);
            bool votes = rest % 6 / 3 == 0;
            at.configuration.members[i].role = votes ? LS_MEMBER_VOTER : LS_MEMBER_LEARNER;
            peer->match = rest % 3;
            peer->next = 3;
            peer->told_commit = 2;
            peer->counts = kind != SILENT;
            peer->met = kind != UNMET;
            peer->incarnation = at.configuration.members[i].incarnation;
            peer->incarnation.bytes[1] = kind == FORMER;
            voters += votes;
            for (uint32_t index = 1; index <= 2; index++) {
                holding[index] += votes && kind == OURS && peer->match >= index;
            }
        }
        ls_index expected = 2 * holding[2] > voters ? 2 : 2 * holding[1] > voters ? 1 : 0;
        ls__leader_commit(&core);
        assert_true(core.commit == expected);
        commits += expected > 0;
    }
    assert_true(commits > 1000);
}
