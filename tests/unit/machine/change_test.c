/* SPDX-License-Identifier: MIT */
/* Calls across a change of leader: what is said of them is true, once (K1, K5, K6, K10, P13). */
#include "trio.h"

#include <event2/event.h>

#define CALLS 8u

static const struct ls_span command = {"x", 1};

static void cut(struct trio *trio, size_t at, bool off)
{
    const struct ls_peer_id here = ls_identity_id(trio->members[at].identity);
    for (size_t i = 0; i < trio->count; i++) {
        if (i != at) {
            const struct ls_peer_id there = ls_identity_id(trio->members[i].identity);
            ls_loopback_cut(trio->hub, &here, &there, off);
        }
    }
}

static uint64_t in_flight(const struct trio *trio, size_t at)
{
    struct ls_group_status status;
    ls_group_status(trio->members[at].group, &status);
    return status.in_flight_bytes;
}

struct other {
    size_t than, found;
};

static bool another_leads(struct trio *trio, void *arg)
{
    struct other *other = arg;
    for (size_t i = 0; i < trio->count; i++) {
        struct ls_group_status status;
        ls_group_status(trio->members[i].group, &status);
        if (i != other->than && status.serving) {
            other->found = i;
            return true;
        }
    }
    return false;
}

TEST(change, what_a_cut_off_leader_accepted_is_unknown_and_never_another_leaders_entry)
{
    struct trio trio;
    struct trio_outcome executed[CALLS] = {{0}}, fed = {0}, read = {0};
    trio_open(&trio, 3);
    struct other other = {.than = trio_up(&trio)};
    struct ls_group *group = trio.members[other.than].group;
    assert_int_equal(trio_execute(&trio, other.than, "before").status, LS_OK);
    trio_wait_equal(&trio, 1);
    cut(&trio, other.than, true);
    for (size_t i = 0; i < CALLS; i++) {
        assert_ok(ls_group_execute(group, command, NULL, trio_done, &executed[i]));
    }
    assert_ok(ls_group_feed(group, command, NULL, trio_done, &fed));
    assert_ok(ls_group_query(group, LS_STRONG, command, &(struct ls_call_options){2000}, trio_done,
                             &read));
    trio_until(&trio, another_leads, &other);
    for (size_t i = 0; i < CALLS; i++) { /* they take the same indices */
        assert_int_equal(trio_execute(&trio, other.found, "other").reply, i + 2);
    }
    for (size_t i = 0; i < CALLS; i++) {
        trio_wait(&trio, &executed[i]);
    }
    cut(&trio, other.than, false);
    trio_wait(&trio, &read);
    trio_wait_equal(&trio, 1 + CALLS);
    assert_int_equal(read.status, LS_OK); /* it waited for the other leader */
    assert_true(read.reply >= 1 + CALLS);
    for (size_t i = 0; i < CALLS; i++) {
        assert_int_equal(executed[i].status, LS_ERR_UNKNOWN);
        assert_int_equal(executed[i].times, 1);
    }
    assert_int_equal(fed.times, 1);
    assert_int_equal(fed.status, LS_OK); /* an index was assigned, and lost: so it is with feed */
    assert_int_equal(in_flight(&trio, other.than), 0);
    assert_int_equal(in_flight(&trio, other.found), 0);
    trio_close(&trio);
}

static void on_reverts(void *arg, enum ls_status status)
{
    *(enum ls_status *)arg = status;
}

TEST(change, a_log_that_reverts_is_told_to_who_asked_before)
{
    struct trio trio;
    struct trio_outcome lost = {0};
    enum ls_status asked_before = LS_ERR_BUSY, asked_after = LS_ERR_BUSY;
    trio_open(&trio, 3);
    struct other other = {.than = trio_up(&trio)};
    struct ls_group *group = trio.members[other.than].group;
    const struct ls_condition reverts = {.kind = LS_WHEN_LOG_REVERTS};
    assert_ok(ls_group_when(group, &reverts, on_reverts, &asked_before));
    cut(&trio, other.than, true);
    assert_ok(ls_group_execute(group, command, NULL, trio_done, &lost));
    trio_until(&trio, another_leads, &other);
    assert_int_equal(trio_execute(&trio, other.found, "other").status, LS_OK);
    assert_int_equal(asked_before, LS_ERR_BUSY);
    cut(&trio, other.than, false);
    trio_wait(&trio, &lost);
    trio_wait_equal(&trio, 1);
    assert_int_equal(asked_before, LS_OK);
    assert_ok(ls_group_when(group, &reverts, on_reverts, &asked_after));
    assert_int_equal(trio_execute(&trio, other.than, "more").status, LS_OK);
    assert_int_equal(asked_after, LS_ERR_BUSY);
    trio_close(&trio);
    assert_int_equal(asked_after, LS_ERR_CLOSED);
}

/* K10, and reads of members that lose sight of the leader. */
TEST(change, reads_and_calls_of_followers_wait_for_the_next_leader)
{
    struct trio trio;
    struct trio_outcome read = {0}, barrier = {0}, executed = {0};
    const struct ls_call_options patient = {.deadline_ms = 15000};
    trio_open(&trio, 3);
    struct other other = {.than = trio_up(&trio)};
    struct ls_group *follower = trio.members[(other.than + 1) % 3].group;
    assert_int_equal(trio_execute(&trio, other.than, "before").status, LS_OK);
    trio_wait_equal(&trio, 1);
    cut(&trio, other.than, true);
    assert_ok(ls_group_query(follower, LS_STRONG, command, &patient, trio_done, &read));
    assert_ok(ls_group_read_barrier(follower, &patient, trio_done, &barrier));
    (void)event_base_loop(trio.base, EVLOOP_ONCE); /* the bond's end is known */
    (void)event_base_loop(trio.base, EVLOOP_ONCE);
    assert_ok(ls_group_execute(follower, command, &patient, trio_done, &executed));
    trio_wait(&trio, &read);
    trio_wait(&trio, &barrier);
    trio_wait(&trio, &executed);
    assert_int_equal(read.status, LS_OK);
    assert_int_equal(barrier.status, LS_OK);
    assert_int_equal(executed.status, LS_OK);
    assert_int_equal(read.times + barrier.times + executed.times, 3);
    cut(&trio, other.than, false);
    trio_wait_equal(&trio, 2);
    trio_close(&trio);
}

TEST(change, without_a_leader_only_the_weak_query_is_answered)
{
    struct trio trio;
    struct trio_outcome weak = {0}, strong = {0}, executed = {0}, fed = {0}, moved = {0};
    const struct ls_call_options soon = {.deadline_ms = 40};
    trio_open(&trio, 3);
    trio_start(&trio, 0);
    struct ls_group *group = trio.members[0].group;
    assert_ok(ls_group_query(group, LS_WEAK, command, &soon, trio_done, &weak));
    assert_ok(ls_group_query(group, LS_STRONG, command, &soon, trio_done, &strong));
    assert_ok(ls_group_execute(group, command, &soon, trio_done, &executed));
    assert_ok(ls_group_feed(group, command, &soon, trio_done, &fed));
    assert_ok(ls_group_transfer(group, "b", &soon, trio_done, &moved));
    assert_false(weak.fired); /* never from inside the call */
    trio_wait(&trio, &weak);
    trio_wait(&trio, &strong);
    trio_wait(&trio, &executed);
    trio_wait(&trio, &fed);
    trio_wait(&trio, &moved);
    assert_int_equal(weak.status, LS_OK);
    assert_int_equal(strong.status, LS_ERR_TIMEOUT);
    assert_int_equal(executed.status, LS_ERR_NO_LEADER);
    assert_int_equal(fed.status, LS_ERR_NO_LEADER);
    assert_int_equal(moved.status, LS_ERR_NO_LEADER);
    assert_int_equal(in_flight(&trio, 0), 0);
    trio_close(&trio);
}

/* The others' disks stand still: all is proposed, nothing can be said of it. */
TEST(change, what_was_given_to_the_log_is_unknown_at_the_deadline_and_may_still_happen)
{
    struct trio trio;
    struct trio_outcome executed = {0};
    const struct ls_call_options soon = {.deadline_ms = 40};
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    for (size_t i = 1; i < 3; i++) {
        ls_storage_medium_hold(trio.members[(leader + i) % 3].medium, true);
    }
    assert_ok(ls_group_execute(trio.members[leader].group, command, &soon, trio_done, &executed));
    trio_wait(&trio, &executed);
    assert_int_equal(executed.status, LS_ERR_UNKNOWN);
    assert_int_equal(in_flight(&trio, leader), 0);
    for (size_t i = 1; i < 3; i++) {
        ls_storage_medium_hold(trio.members[(leader + i) % 3].medium, false);
    }
    trio_wait_equal(&trio, 1); /* it did */
    assert_int_equal(executed.times, 1);
    trio_close(&trio);
}

/* ---- a machine on disk ---- */

TEST(change, a_machine_that_is_ahead_of_its_log_is_refused_with_a_sentence)
{
    struct trio trio;
    struct ls_error error = {LS_OK, ""};
    trio_open(&trio, 3);
    trio.durable = true;
    size_t leader = trio_up(&trio);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(trio_execute(&trio, leader, "x").status, LS_OK);
    }
    trio_wait_equal(&trio, 5);
    size_t away = (leader + 1) % 3;
    struct ls_group_status status;
    ls_group_status(trio.members[away].group, &status);
    trio_stop(&trio, away);
    assert_true(ls_storage_medium_drop(trio.members[away].medium, &status.id, LS_STORAGE_LOG, 4));
    assert_int_equal(trio_try_start(&trio, away, &error), LS_ERR_CORRUPT);
    if (strstr(error.text, "below the machine's applied index 7: entries were lost") == NULL) {
        fail_msg("%s", error.text);
    }
    trio.members[away].tally = (struct tally){0}; /* without its state it comes back */
    trio_start(&trio, away);
    trio_wait_equal(&trio, 5);
    trio_close(&trio);
}

/* F13 */
TEST(change, a_machine_on_disk_applies_nothing_twice_after_a_restart)
{
    struct trio trio;
    trio_open(&trio, 3);
    trio.durable = true;
    size_t leader = trio_up(&trio);
    for (uint64_t round = 0; round < 3; round++) {
        assert_int_equal(trio_execute(&trio, leader, "x").reply, round + 1);
        trio_wait_equal(&trio, round + 1);
        for (size_t i = 0; i < 3; i++) {
            trio_stop(&trio, i);
        }
        leader = trio_up(&trio);
    }
    trio_wait_equal(&trio, 3);
    trio_close(&trio);
}
