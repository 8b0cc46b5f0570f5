/* SPDX-License-Identifier: MIT */
/* See catchup_suite.h. */
#include "catchup_suite.h"

#define BASE   50u
#define GAP    1000u
#define UNIT   20u
#define WITHIN (300 * SECOND)

/* A group of which one follower is away. */
struct away {
    struct realm *realm;
    uint32_t leader, lagging, other; /* places; other: a follower that is up */
    ls_index had;                    /* commit of the one that is away */
};

/* Each was written, and the log is pruned as far as it may, if that is what the subject is for. */
static void prune(struct realm *realm)
{
    if (!realm->subject->beyond_log) {
        return;
    }
    ls_index commit = realm_status(realm, realm_wait_leader(realm)).core.commit;
    for (int i = 0; i < 600 && realm_prune(realm) + 20 < commit; i++) {
        realm_run(realm, SECOND / 10);
    }
    assert_true(realm_prune(realm) + 20 >= commit);
}

static struct away go_away(struct realm *realm, uint64_t gap)
{
    struct away away = {.realm = realm};
    for (uint32_t i = 0; i < realm->count; i++) {
        realm_start(realm, i);
    }
    (void)realm_wait_leader(realm);
    realm_write(realm, BASE);
    realm_equal(realm, WITHIN);
    away.leader = realm_wait_leader(realm);
    away.lagging = (away.leader + 1) % realm->count;
    away.other = (away.leader + 2) % realm->count;
    away.had = realm_status(realm, away.lagging).core.commit;
    realm_stop(realm, away.lagging);
    realm_write(realm, gap);
    realm_run(realm, SECOND); /* until the followers know that all is committed */
    prune(realm);
    return away;
}

static struct away open_away(const struct realm_subject *subject, uint32_t members, uint32_t unit,
                             uint64_t gap, bool disk)
{
    return go_away(realm_open(subject, members, unit, disk), gap);
}

static void comes_back(struct away *away)
{
    assert_true(realm_caught_up(away->realm, away->lagging, WITHIN));
    realm_equal(away->realm, WITHIN);
}

static bool half_way(struct realm *realm, void *arg)
{
    const struct realm_member *member = &realm->members[*(const uint32_t *)arg];
    return member->carried > 0;
}

/* The lagging member starts, and runs until something was on its way to it. */
static void begin(struct away *away)
{
    realm_start(away->realm, away->lagging);
    assert_true(realm_until(away->realm, half_way, &away->lagging, WITHIN));
}

void catchup_closes_any_gap_with_any_size_of_ranges(const struct realm_subject *subject, bool disk)
{
    static const uint64_t gaps[] = {1, 10, 1000, 10000};
    static const uint32_t units[] = {1, 3, 7, 20, 100, 999, 1000, 1001};
    for (size_t g = 0; g < sizeof gaps / sizeof gaps[0]; g++) {
        for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
            struct away away = open_away(subject, 3, units[u], gaps[g], disk);
            realm_start(away.realm, away.lagging);
            comes_back(&away);
            const struct realm_member *member = &away.realm->members[away.lagging];
            assert_true(gaps[g] < 100 || member->carried > 0); /* it was what brought it back */
            assert_int_equal(realm_status(away.realm, away.lagging).sync.penalties, 0);
            realm_close(away.realm);
        }
    }
}

void catchup_takes_what_is_written_meanwhile(const struct realm_subject *subject, bool disk)
{
    struct away away = open_away(subject, 3, UNIT, GAP, disk);
    begin(&away);
    for (int i = 0; i < 50; i++) {
        realm_feed(away.realm, away.leader, 10);
        realm_run(away.realm, realm_random(away.realm, 3000));
    }
    comes_back(&away);
    assert_int_equal(realm_status(away.realm, away.leader).applied_commands, BASE + GAP + 500);
    realm_close(away.realm);
}

void catchup_goes_on_when_its_source_dies_in_the_middle(const struct realm_subject *subject,
                                                        bool disk)
{
    struct away away = open_away(subject, 4, UNIT, GAP, disk);
    begin(&away);
    realm_alone(away.realm, away.other, true);
    assert_true(realm_caught_up(away.realm, away.lagging, WITHIN));
    realm_alone(away.realm, away.other, false);
    realm_equal(away.realm, WITHIN);
    realm_close(away.realm);
}

void catchup_goes_on_when_the_leader_dies_in_the_middle(const struct realm_subject *subject,
                                                        bool disk)
{
    struct away away = open_away(subject, 4, UNIT, GAP, disk);
    begin(&away);
    realm_alone(away.realm, away.leader, true);
    realm_run(away.realm, 5 * SECOND);
    assert_true(realm_caught_up(away.realm, away.lagging, WITHIN));
    realm_alone(away.realm, away.leader, false);
    realm_equal(away.realm, WITHIN);
    realm_close(away.realm);
}

void catchup_asks_the_leader_last(const struct realm_subject *subject, bool disk)
{
    struct away away = open_away(subject, 4, UNIT, GAP, disk);
    realm_start(away.realm, away.lagging);
    comes_back(&away);
    const struct realm_member *member = &away.realm->members[away.lagging];
    assert_true(member->carried_bytes > 0);
    assert_int_equal(member->sent[away.leader], 0);
    realm_close(away.realm);
}
