/* SPDX-License-Identifier: MIT */
/* See catchup_suite.h. */
#include "catchup_suite.h"

#include <stdlib.h>

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

static struct away go_away(struct realm *realm, uint64_t gap, bool pruned)
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
    if (pruned) {
        prune(realm);
    }
    return away;
}

static struct away open_away(const struct realm_subject *subject, uint32_t members, uint32_t unit,
                             uint64_t gap, bool disk)
{
    return go_away(realm_open(subject, members, unit, disk), gap, true);
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
            if (disk && units[u] != 7 && units[u] != 1000) {
                continue; /* opening stores is slow */
            }
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
    for (uint32_t i = 0; i < away.realm->count; i++) {
        away.realm->slow_us[i] = i == away.leader ? 0 : 3000; /* it would answer first */
    }
    realm_start(away.realm, away.lagging);
    comes_back(&away);
    const struct realm_member *member = &away.realm->members[away.lagging];
    assert_true(member->carried_bytes > 0);
    assert_int_equal(member->sent[away.leader], 0);
    realm_close(away.realm);
}

void catchup_asks_nothing_when_nothing_is_missing(const struct realm_subject *subject, bool disk)
{
    struct away away = open_away(subject, 3, UNIT, 0, disk);
    realm_start(away.realm, away.lagging);
    comes_back(&away);
    realm_run(away.realm, 30 * SECOND);
    assert_int_equal(away.realm->members[away.lagging].carried, 0);
    for (uint32_t i = 0; i < away.realm->count; i++) {
        assert_int_equal(away.realm->members[i].asked, 0);
    }
    realm_close(away.realm);
}

/* How much is on its way to a member that is not interrupted. */
static uint64_t whole(const struct realm_subject *subject, bool disk, uint64_t *messages)
{
    struct away away = open_away(subject, 3, UNIT, GAP, disk);
    realm_start(away.realm, away.lagging);
    comes_back(&away);
    const struct realm_member *member = &away.realm->members[away.lagging];
    uint64_t bytes = member->carried_bytes;
    *messages = member->carried;
    realm_close(away.realm);
    return bytes;
}

struct progress {
    uint32_t at;
    uint64_t messages;
};

static bool carried(struct realm *realm, void *arg)
{
    const struct progress *progress = arg;
    return realm->members[progress->at].carried >= progress->messages;
}

void catchup_fetches_nothing_twice_after_a_power_cut(const struct realm_subject *subject, bool disk)
{
    uint64_t messages = 0;
    uint64_t bytes = whole(subject, disk, &messages);
    assert_true(messages > 3);
    struct away away = open_away(subject, 3, UNIT, GAP, disk);
    realm_start(away.realm, away.lagging);
    struct progress half = {away.lagging, messages / 2};
    assert_true(realm_until(away.realm, carried, &half, WITHIN));
    if (disk) {
        realm_stop(away.realm, away.lagging);
    } else {
        realm_crash(away.realm, away.lagging);
    }
    realm_start(away.realm, away.lagging);
    comes_back(&away);
    /* what was under way, from two peers, is lost */
    const struct realm_member *member = &away.realm->members[away.lagging];
    assert_true(member->carried_bytes <= bytes + 10 * (bytes / messages));
    realm_close(away.realm);
}

void catchup_waits_while_all_peers_are_gone(const struct realm_subject *subject, bool disk)
{
    struct away away = open_away(subject, 3, UNIT, GAP, disk);
    begin(&away);
    realm_alone(away.realm, away.lagging, true);
    uint64_t steps = away.realm->steps;
    realm_run(away.realm, 600 * SECOND);
    assert_true(away.realm->steps - steps < 600 * 200); /* nobody spins */
    realm_alone(away.realm, away.lagging, false);
    comes_back(&away);
    realm_close(away.realm);
}

void catchup_uses_a_peer_that_comes_in_the_middle(const struct realm_subject *subject, bool disk)
{
    struct away away = open_away(subject, 3, UNIT, 5 * GAP, disk);
    realm_cut(away.realm, away.lagging, away.other, true);
    begin(&away);
    const struct realm_member *member = &away.realm->members[away.lagging];
    assert_true(member->sent[away.leader] > 0);
    realm_cut(away.realm, away.lagging, away.other, false);
    comes_back(&away);
    assert_true(!subject->any_peer || member->sent[away.other] > 0);
    realm_close(away.realm);
}

void catchup_follows_a_target_that_moves_a_hundred_times(const struct realm_subject *subject,
                                                         bool disk)
{
    struct away away = open_away(subject, 3, UNIT, GAP, disk);
    begin(&away);
    for (int i = 0; i < 100; i++) {
        realm_feed(away.realm, away.leader, 1);
        realm_run(away.realm, 200 + realm_random(away.realm, 20000));
    }
    comes_back(&away);
    realm_close(away.realm);
}

void catchup_is_not_overtaken_by_pruning(const struct realm_subject *subject, bool disk)
{
    struct away away = open_away(subject, 3, UNIT, GAP, disk);
    away.realm->latency_us = 5000; /* so that there is a log behind what was offered */
    realm_start(away.realm, away.lagging);
    uint64_t loaded = away.realm->members[away.lagging].publishes;
    for (int i = 0; i < 300; i++) {
        realm_feed(away.realm, realm_leader(away.realm) % away.realm->count, 20);
        realm_run(away.realm, 1000 + realm_random(away.realm, 3000));
        (void)realm_prune(away.realm);
    }
    comes_back(&away);
    struct ls_group_status status = realm_status(away.realm, away.lagging);
    assert_true(status.sync.failures == 0);
    assert_true(away.realm->members[away.lagging].publishes <= loaded + 1); /* once is enough */
    realm_close(away.realm);
}

static bool has_more(struct realm *realm, void *arg)
{
    const struct away *away = arg;
    return realm->members[away->lagging].applied > away->had;
}

void catchup_finds_the_log_that_it_was_promised(const struct realm_subject *subject, bool disk)
{
    struct away away = go_away(realm_open(subject, 3, UNIT, disk), 5 * GAP, false);
    realm_start(away.realm, away.lagging);
    uint64_t loaded = away.realm->members[away.lagging].publishes;
    assert_true(realm_until(away.realm, has_more, &away, WITHIN)); /* log replay is under way */
    for (int i = 0; i < 100; i++) {
        (void)realm_prune(away.realm);
        realm_run(away.realm, 300);
    }
    comes_back(&away);
    assert_int_equal(away.realm->members[away.lagging].publishes, loaded);
    realm_close(away.realm);
}

void catchup_survives_full_queues(const struct realm_subject *subject, bool disk)
{
    struct away away = open_away(subject, 3, UNIT, GAP, disk);
    away.realm->queue_bytes_max = 1; /* one message at a time */
    realm_start(away.realm, away.lagging);
    comes_back(&away);
    realm_close(away.realm);
}

void catchup_outlasts_pauses_of_a_minute(const struct realm_subject *subject, bool disk)
{
    for (uint32_t who = 0; who < 3; who++) {
        struct away away = open_away(subject, 3, UNIT, GAP, disk);
        begin(&away);
        realm_pause(away.realm, who, true);
        realm_run(away.realm, 60 * SECOND);
        realm_pause(away.realm, who, false);
        comes_back(&away);
        realm_close(away.realm);
    }
}

void catchup_gets_by_with_one_peer_that_needs_it(const struct realm_subject *subject, bool disk)
{
    struct away away = open_away(subject, 3, UNIT, GAP, disk);
    realm_stop(away.realm, away.other);
    realm_run(away.realm, 10 * SECOND); /* who is left does not lead alone */
    realm_start(away.realm, away.lagging);
    comes_back(&away);
    realm_write(away.realm, 10);
    realm_equal(away.realm, WITHIN);
    realm_start(away.realm, away.other);
    realm_equal(away.realm, WITHIN);
    realm_close(away.realm);
}

/* ---- in memory ------------------------------------------------------------------------------- */

/* Runs one member for so many of its turns. */
static bool run_turns(struct realm *realm, uint32_t at, uint64_t turns)
{
    uint64_t until_us = realm->now_us + WITHIN;
    while (turns > 0 && realm->now_us < until_us) {
        struct ls_group_status status = realm_status(realm, at);
        if (status.online && status.sync.phase == LS_SYNC_DONE) {
            return false;
        }
        bool due = realm->members[at].turn_due;
        (void)realm_step(realm, until_us);
        turns -= due;
    }
    return true;
}

static bool ended(struct realm *realm, void *arg)
{
    const struct away *away = arg;
    if (realm->members[away->lagging].node == NULL) {
        return true;
    }
    uint32_t leader = realm_leader(realm);
    struct ls_group_status status = realm_status(realm, away->lagging);
    return leader < realm->count && status.online &&
           status.core.applied >= realm_status(realm, leader).core.commit;
}

void catchup_survives_a_power_cut_at_every_step(const struct realm_subject *subject, bool disk)
{
    bool more = true;
    for (uint64_t change = 1; more; change += change < 20 ? 1 : 1 + change / 20) {
        struct away away = open_away(subject, 3, UNIT, 200, disk);
        for (uint64_t again = 0; again < 3; again++) { /* and soon after it started again */
            realm_start(away.realm, away.lagging);
            realm_dies_at(away.realm, away.lagging, again == 0 ? change : again);
            assert_true(realm_until(away.realm, ended, &away, WITHIN));
            bool died = away.realm->members[away.lagging].node == NULL;
            more = again == 0 ? died : more;
            realm_crash(away.realm, away.lagging);
        }
        realm_start(away.realm, away.lagging);
        comes_back(&away);
        realm_close(away.realm);
    }
}

void catchup_survives_a_source_that_loses_its_power(const struct realm_subject *subject, bool disk)
{
    for (uint64_t turns = 1; turns < 60; turns += 5) {
        for (uint32_t leads = 0; leads < 2; leads++) {
            struct away away = open_away(subject, 3, UNIT, 200, disk);
            uint32_t dies = leads ? away.leader : away.other;
            realm_start(away.realm, away.lagging);
            (void)run_turns(away.realm, away.lagging, turns);
            realm_crash(away.realm, dies);
            realm_run(away.realm, realm_random(away.realm, 5 * SECOND));
            realm_start(away.realm, dies);
            comes_back(&away);
            realm_close(away.realm);
        }
    }
}

void catchup_installs_slower_than_every_timeout(const struct realm_subject *subject, bool disk)
{
    struct away away = open_away(subject, 3, UNIT, GAP, disk);
    begin(&away);
    realm_hold(away.realm, away.lagging, true);
    realm_run(away.realm, 200 * SECOND);
    realm_hold(away.realm, away.lagging, false);
    comes_back(&away);
    realm_close(away.realm);
}

/* ---- forgeries ------------------------------------------------------------------------------- */

struct forger {
    enum realm_forgery forgery;
    uint32_t liar;
    uint64_t seen, forged;
    uint8_t *before;
    size_t before_bytes;
};

static size_t forged_bytes(struct realm *realm, struct forger *forger,
                           const struct realm_sync *sync)
{
    const struct realm_subject *subject = realm->subject;
    const struct ls_span message = sync->message;
    uint8_t *out = sync->edit;
    memcpy(out, message.data, message.bytes);
    switch (forger->forgery) {
    case REALM_GARBAGE:
        for (size_t i = 0; i < message.bytes; i++) {
            out[i] = (uint8_t)realm_random(realm, 256);
        }
        return message.bytes;
    case REALM_TRUNCATED:
        return message.bytes / 2;
    case REALM_LONGER:
        memset(out + message.bytes, 7, 9);
        return message.bytes + 9;
    case REALM_NOTHING:
        return 1;
    case REALM_EARLIER:
        memcpy(out, forger->before, forger->before_bytes);
        return forger->before_bytes;
    case REALM_FLIPPED:
        out[message.bytes - 1 - realm_random(realm, sync->carries)] ^=
            (uint8_t)(1u << realm_random(realm, 8));
        return subject->verifies ? message.bytes : 0;
    case REALM_SHORT:
    case REALM_EMPTY:
    case REALM_OVERSIZED:
    case REALM_MISPLACED:
    case REALM_REGRESSING:
        return subject->forge == NULL
                   ? 0
                   : subject->forge(subject->self, forger->forgery, message, out);
    case REALM_TELLING:
        out[realm_random(realm, message.bytes)] ^= (uint8_t)(1u << realm_random(realm, 8));
        return message.bytes;
    case REALM_LOST:
    case REALM_DOUBLE:
        break;
    }
    return 0;
}

/* No correct peer sends it, whatever was asked. */
static bool is_wrong(enum realm_forgery forgery)
{
    return forgery <= REALM_NOTHING || forgery == REALM_FLIPPED || forgery == REALM_OVERSIZED ||
           forgery == REALM_REGRESSING;
}

static enum realm_fate forge(struct realm *realm, struct realm_sync *sync, void *arg)
{
    struct forger *forger = arg;
    bool tells = forger->forgery == REALM_TELLING;
    if (!sync->to_session || (sync->carries == 0) != tells || sync->from != forger->liar) {
        return REALM_DELIVER;
    }
    enum realm_fate fate = REALM_DELIVER;
    if (forger->seen++ % 2 == (tells ? 0 : 1)) {
        if (forger->forgery == REALM_LOST || forger->forgery == REALM_DOUBLE) {
            fate = forger->forgery == REALM_LOST ? REALM_DROP : REALM_TWICE;
            forger->forged++;
        } else {
            sync->edit_bytes = forged_bytes(realm, forger, sync);
            forger->forged += sync->edit_bytes > 0;
        }
    }
    forger->before = realloc(forger->before, sync->message.bytes);
    assert_non_null(forger->before);
    memcpy(forger->before, sync->message.data, sync->message.bytes);
    forger->before_bytes = sync->message.bytes;
    return fate;
}

static void survives(const struct realm_subject *subject, bool disk, enum realm_forgery forgery,
                     uint32_t members, uint64_t seed)
{
    struct away away = open_away(subject, members, UNIT, GAP, disk);
    struct forger forger = {.forgery = forgery, .liar = away.other};
    away.realm->random += seed;
    away.realm->intercept = forge;
    away.realm->intercept_arg = &forger;
    realm_start(away.realm, away.lagging);
    comes_back(&away);
    assert_true(forger.forged > 0 || forgery == REALM_FLIPPED || forgery >= REALM_SHORT);
    uint32_t penalties = realm_status(away.realm, away.lagging).sync.penalties;
    assert_true(forger.forged == 0 || !is_wrong(forgery) || penalties > 0);
    free(forger.before);
    realm_close(away.realm);
}

void catchup_survives_every_forgery(const struct realm_subject *subject, bool disk)
{
    for (int forgery = 0; forgery < REALM_FORGERIES; forgery++) {
        for (int times = forgery == REALM_TELLING ? 4 : 1; times > 0; times--) {
            survives(subject, disk, (enum realm_forgery)forgery, 3,
                     (uint64_t)times); /* of one follower */
            survives(subject, disk, (enum realm_forgery)forgery, 4,
                     (uint64_t)times); /* of one of two */
        }
    }
}

/* ---- at random ------------------------------------------------------------------------------- */

static void stumble(struct realm *realm, uint32_t lagging)
{
    uint32_t who = (uint32_t)realm_random(realm, realm->count);
    struct realm_member *member = &realm->members[who];
    switch (realm_random(realm, 9)) {
    case 0:
        realm_alone(realm, who, realm_random(realm, 2) == 0);
        break;
    case 1:
        realm_cut(realm, who, (who + 1) % realm->count, realm_random(realm, 2) == 0);
        break;
    case 2:
        realm_pause(realm, who, realm_random(realm, 2) == 0);
        break;
    case 3:
        if (who == lagging && member->node != NULL) {
            realm_dies_at(realm, who, 1 + realm_random(realm, 20));
        } else {
            realm_crash(realm, who);
        }
        break;
    case 4:
        realm_hold(realm, who, realm_random(realm, 2) == 0);
        break;
    case 5:
        (void)realm_prune(realm);
        break;
    case 6:
        realm->queue_bytes_max = (size_t)realm_random(realm, 3) * 300000;
        break;
    default:
        realm_feed(realm, who, 1 + realm_random(realm, 100));
        break;
    }
}

static void heal(struct realm *realm)
{
    realm->queue_bytes_max = 0;
    for (uint32_t i = 0; i < realm->count; i++) {
        realm->members[i].dies_at = 0;
        realm_pause(realm, i, false);
        realm_alone(realm, i, false);
        if (realm->members[i].dead) {
            realm_crash(realm, i);
        }
        realm_hold(realm, i, false);
        if (realm->members[i].node == NULL) {
            realm_start(realm, i);
        }
    }
}

/* Somebody falls behind the others' logs, or further behind, and comes back while things go wrong.
 */
static void fall_behind(struct realm *realm, uint32_t who)
{
    uint32_t leader = realm_leader(realm);
    bool down = realm_random(realm, 2) == 0;
    if (leader == realm->count || leader == who) {
        return;
    }
    if (down) {
        realm_crash(realm, who);
    } else {
        realm_alone(realm, who, true);
    }
    realm_feed(realm, leader, 1 + realm_random(realm, GAP));
    realm_run(realm, SECOND + realm_random(realm, 10 * SECOND));
    (void)realm_prune(realm);
    realm_run(realm, SECOND / 10);
    realm_alone(realm, who, false);
    if (realm->members[who].node == NULL) {
        realm_hold(realm, who, false);
        realm_start(realm, who);
    }
}

static void wander(const struct realm_subject *subject, uint64_t seed)
{
    struct realm *realm = realm_open(subject, 3 + (uint32_t)(seed % 2), UNIT, false);
    realm->random += seed * 1000003;
    struct forger forger = {.forgery = REALM_LOST};
    struct away away = go_away(realm, 1 + realm_random(realm, GAP), true);
    realm->intercept = forge;
    realm->intercept_arg = &forger;
    realm_start(realm, away.lagging);
    for (int i = 0; i < 60; i++) {
        forger.forgery = (enum realm_forgery)realm_random(realm, REALM_FORGERIES);
        forger.liar = (uint32_t)realm_random(realm, realm->count);
        if ((forger.forgery == REALM_EARLIER && forger.before == NULL) ||
            (forger.forgery == REALM_TELLING && subject->trusts_leader)) {
            forger.forgery = REALM_LOST;
        }
        if (i % 15 == 14) {
            heal(realm);
            realm_run(realm, 5 * SECOND);
            fall_behind(realm, (uint32_t)realm_random(realm, realm->count));
        }
        stumble(realm, away.lagging);
        realm_run(realm, realm_random(realm, realm_random(realm, 8) == 0 ? 20 * SECOND : 6000));
        uint32_t who = (uint32_t)realm_random(realm, realm->count);
        if (realm->members[who].node == NULL && realm_random(realm, 2) == 0) {
            realm_hold(realm, who, false);
            realm_start(realm, who);
        }
    }
    realm->intercept = NULL;
    heal(realm);
    realm_equal(realm, 600 * SECOND);
    realm_write(realm, 10);
    realm_equal(realm, WITHIN);
    free(forger.before);
    realm_close(realm);
}

void catchup_survives_whatever_happens(const struct realm_subject *subject, bool disk)
{
    uint64_t seed = test_seed();
    const char *more = getenv("LS_CATCHUP_SEEDS");
    uint64_t count = more != NULL ? strtoull(more, NULL, 10) : 5;
    (void)disk;
    for (uint64_t i = 0; i < count; i++) {
        if (more != NULL) {
            print_message("seed %llu\n", (unsigned long long)(seed + i));
        }
        wander(subject, seed + i);
    }
}
