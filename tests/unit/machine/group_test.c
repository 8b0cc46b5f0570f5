/* SPDX-License-Identifier: MIT */
/* The application API over real cores, the loopback transport and the memory store. */
#include "trio.h"

#include <event2/event.h>

static struct ls_span text(const char *bytes)
{
    return (struct ls_span){bytes, strlen(bytes)};
}

TEST(group, elects_a_leader_and_applies_a_command_on_every_member)
{
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    struct trio_outcome outcome = trio_execute(&trio, leader, "one");
    assert_int_equal(outcome.status, LS_OK);
    assert_int_equal(outcome.reply, 1);
    assert_int_equal(outcome.times, 1);
    trio_wait_equal(&trio, 1);
    trio_close(&trio);
}

TEST(group, of_one_member_needs_nobody_else)
{
    struct trio trio;
    trio_open(&trio, 1);
    assert_int_equal(trio_up(&trio), 0);
    assert_int_equal(trio_execute(&trio, 0, "x").status, LS_OK);
    struct trio_outcome read = {0};
    assert_ok(ls_group_query(trio.members[0].group, LS_STRONG, text(""), NULL, trio_done, &read));
    trio_wait(&trio, &read);
    assert_int_equal(read.reply, 1);
    trio_close(&trio);
}

TEST(group, forwards_a_command_of_a_follower_to_the_leader_and_returns_its_reply)
{
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    for (size_t i = 0; i < 3; i++) {
        struct trio_outcome outcome = trio_execute(&trio, (leader + i) % 3, "x");
        assert_int_equal(outcome.status, LS_OK);
        assert_int_equal(outcome.reply, i + 1);
    }
    trio_wait_equal(&trio, 3);
    trio_close(&trio);
}

/* K9 */
TEST(group, execute_many_takes_consecutive_indices_and_answers_each)
{
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    const struct ls_span commands[] = {text("a"), text("bb"), text("ccc")};
    for (size_t i = 0; i < 3; i++) {
        struct trio_outcome outcome = {0};
        assert_ok(ls_group_execute_many(trio.members[(leader + i) % 3].group, commands, 3, NULL,
                                        trio_done, &outcome));
        trio_wait(&trio, &outcome);
        assert_int_equal(outcome.status, LS_OK);
        assert_int_equal(outcome.count, 3);
        assert_int_equal(outcome.reply, 3 * i + 1);
    }
    trio_close(&trio);
}

TEST(group, a_strong_query_on_any_member_sees_every_finished_command)
{
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    for (uint64_t i = 1; i <= 20; i++) {
        assert_int_equal(trio_execute(&trio, leader, "x").status, LS_OK);
        struct trio_outcome read = {0};
        assert_ok(ls_group_query(trio.members[(leader + i) % 3].group, LS_STRONG, text(""), NULL,
                                 trio_done, &read));
        trio_wait(&trio, &read);
        assert_int_equal(read.status, LS_OK);
        assert_int_equal(read.reply, i);
    }
    trio_close(&trio);
}

TEST(group, goes_on_when_the_leader_closes_and_brings_it_back)
{
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    assert_int_equal(trio_execute(&trio, leader, "before").status, LS_OK);
    trio_stop(&trio, leader);
    size_t next = trio_wait_leader(&trio);
    assert_int_not_equal(next, leader);
    assert_int_equal(trio_execute(&trio, next, "after").status, LS_OK);
    trio_start(&trio, leader);
    trio_wait_equal(&trio, 2);
    trio_close(&trio);
}

/* Members that took over because a leader told them to, not after a timeout. */
static size_t taken_over;

static void watch_taken_over(void *self, const struct ls_trace *trace)
{
    (void)self;
    taken_over += strcmp(trace->format, "takes over from {p}") == 0;
}

TEST(group, a_closing_leader_hands_over_to_a_member_that_has_not_just_left)
{
    struct trio trio;
    struct ls_env env = *ls_env_default();
    env.trace = watch_taken_over;
    trio_open_in(&trio, 5, &env);
    trio.options.election_ms = 300;
    trio.options.heartbeat_ms = 75;
    size_t leader = trio_up(&trio);
    assert_int_equal(trio_execute(&trio, leader, "x").status, LS_OK);
    trio_wait_equal(&trio, 1);
    /* all hold the same, so that it would be the first */
    const struct ls_group_status status = trio_status(&trio, leader);
    size_t left = 0;
    struct ls_peer_id id = ls_identity_id(trio.members[left].identity);
    while (!ls_peer_id_equal(&id, &status.core.progress[0].id)) {
        id = ls_identity_id(trio.members[++left].identity);
    }
    taken_over = 0;
    trio_stop(&trio, left);
    trio_stop(&trio, leader);
    size_t next = trio_wait_leader(&trio);
    assert_int_equal(taken_over, 1);
    assert_int_equal(trio_status(&trio, next).core.term, status.core.term + 1);
    trio_close(&trio);
}

/* R10 */
TEST(group, all_restarted_keep_everything)
{
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(trio_execute(&trio, leader, "x").status, LS_OK);
    }
    for (size_t i = 0; i < 3; i++) {
        trio_stop(&trio, i);
    }
    leader = trio_up(&trio);
    trio_wait_equal(&trio, 10);
    assert_int_equal(trio_execute(&trio, leader, "y").reply, 11);
    trio_close(&trio);
}

TEST(group, without_a_quorum_a_command_ends_as_unknown_or_without_leader)
{
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    trio_stop(&trio, (leader + 1) % 3);
    trio_stop(&trio, (leader + 2) % 3);
    size_t alone = leader;
    struct trio_outcome outcome = {0};
    const struct ls_call_options soon = {.deadline_ms = 400};
    assert_ok(ls_group_execute(trio.members[alone].group, text("x"), &soon, trio_done, &outcome));
    trio_wait(&trio, &outcome);
    assert_true(outcome.status == LS_ERR_UNKNOWN || outcome.status == LS_ERR_NO_LEADER);
    struct trio_outcome later = {0};
    const struct ls_call_options short_wait = {.deadline_ms = 50};
    struct ls_group_status status;
    do { /* check-quorum makes it step down */
        (void)event_base_loop(trio.base, EVLOOP_ONCE);
        ls_group_status(trio.members[alone].group, &status);
    } while (status.core.role == LS_ROLE_LEADER);
    assert_non_null(strstr(status.text, "no leader known; no link to "));
    assert_non_null(strstr(status.text, ", ")); /* both are named */
    assert_ok(
        ls_group_execute(trio.members[alone].group, text("x"), &short_wait, trio_done, &later));
    trio_wait(&trio, &later);
    assert_int_equal(later.status, LS_ERR_NO_LEADER);
    struct trio_outcome read = {0};
    assert_ok(ls_group_query(trio.members[alone].group, LS_STRONG, text(""), &short_wait, trio_done,
                             &read));
    trio_wait(&trio, &read);
    assert_int_equal(read.status, LS_ERR_TIMEOUT);
    trio_close(&trio);
}

TEST(group, founding_waits_for_every_founder_and_says_for_whom)
{
    struct trio trio;
    trio_open(&trio, 3);
    trio_start(&trio, 0);
    trio_start(&trio, 1);
    struct ls_group_status status;
    for (int turns = 0; turns < 50; turns++) {
        (void)event_base_loop(trio.base, EVLOOP_ONCE);
        ls_group_status(trio.members[0].group, &status);
        assert_false(status.serving);
    }
    while (strcmp(status.text, "waiting for founder c") != 0) {
        (void)event_base_loop(trio.base, EVLOOP_ONCE);
        ls_group_status(trio.members[0].group, &status);
    }
    trio_start(&trio, 2);
    (void)trio_wait_leader(&trio);
    trio_close(&trio);
}

TEST(group, hands_leadership_to_the_member_that_was_named)
{
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    size_t target = (leader + 1) % 3;
    struct trio_outcome outcome = {0};
    /* asked of a follower, which forwards it */
    assert_ok(ls_group_transfer(trio.members[target].group, trio.members[target].name, NULL,
                                trio_done, &outcome));
    trio_wait(&trio, &outcome);
    assert_int_equal(outcome.status, LS_OK);
    while (trio_leader(&trio) != target) {
        (void)event_base_loop(trio.base, EVLOOP_ONCE);
    }
    assert_int_equal(ls_group_transfer(trio.members[0].group, "nobody", NULL, trio_done, &outcome),
                     LS_ERR_NOT_FOUND);
    trio_close(&trio);
}

/* A4 */
TEST(group, a_call_from_apply_is_refused_as_reentrant)
{
    struct trio trio;
    trio_open(&trio, 1);
    (void)trio_up(&trio);
    trio.members[0].tally.reenter = trio.members[0].group;
    assert_int_equal(trio_execute(&trio, 0, "x").status, LS_OK);
    assert_int_equal(trio.members[0].tally.reentered, LS_ERR_REENTRANT);
    trio.members[0].tally.reenter = NULL;
    trio_close(&trio);
}

TEST(group, a_machine_that_fails_halts_the_group_and_says_so)
{
    struct trio trio;
    trio_open(&trio, 1);
    (void)trio_up(&trio);
    trio.members[0].tally.answer = LS_ERR_IO;
    struct trio_outcome outcome = trio_execute(&trio, 0, "x");
    assert_int_equal(outcome.status, LS_ERR_UNKNOWN);
    struct ls_group_status status;
    ls_group_status(trio.members[0].group, &status);
    assert_int_equal(status.halted, LS_ERR_IO);
    assert_non_null(strstr(status.text, "halted"));
    assert_int_equal(ls_group_execute(trio.members[0].group, text("x"), NULL, trio_done, &outcome),
                     LS_ERR_HALTED);
    trio_close(&trio);
}

TEST(group, a_busy_machine_is_asked_again)
{
    struct trio trio;
    trio_open(&trio, 1);
    (void)trio_up(&trio);
    trio.members[0].tally.answer = LS_ERR_BUSY;
    struct trio_outcome outcome = {0};
    assert_ok(ls_group_execute(trio.members[0].group, text("x"), NULL, trio_done, &outcome));
    for (int turns = 0; turns < 20; turns++) {
        (void)event_base_loop(trio.base, EVLOOP_ONCE);
    }
    assert_false(outcome.fired);
    trio.members[0].tally.answer = LS_OK;
    trio_wait(&trio, &outcome);
    assert_int_equal(outcome.status, LS_OK);
    assert_int_equal(trio.members[0].tally.count, 1);
    trio_close(&trio);
}

TEST(group, refuses_what_is_too_large_too_much_or_empty)
{
    struct trio trio;
    trio_open(&trio, 1);
    (void)trio_up(&trio);
    struct ls_group *group = trio.members[0].group;
    struct trio_outcome outcome = {0};
    static uint8_t large[LS_ENTRY_BYTES_MAX + 1];
    assert_int_equal(
        ls_group_execute(group, (struct ls_span){large, sizeof large}, NULL, trio_done, &outcome),
        LS_ERR_LIMIT);
    static struct ls_span many[LS_PROPOSE_ENTRIES_MAX + 1];
    assert_int_equal(
        ls_group_execute_many(group, many, LS_PROPOSE_ENTRIES_MAX + 1, NULL, trio_done, &outcome),
        LS_ERR_LIMIT);
    assert_int_equal(ls_group_execute_many(group, many, 0, NULL, trio_done, &outcome),
                     LS_ERR_INVALID);
    for (size_t i = 0; i < 3; i++) { /* each fits, but together they fit no message */
        many[i] = (struct ls_span){large, LS_PROPOSE_BYTES_MAX / 3 + 1};
    }
    assert_int_equal(ls_group_execute_many(group, many, 3, NULL, trio_done, &outcome),
                     LS_ERR_LIMIT);
    static struct trio_outcome first, second, third;
    assert_ok(ls_group_execute(group, (struct ls_span){large, sizeof large - 1}, NULL, trio_done,
                               &first));
    assert_int_equal(ls_group_execute(group, (struct ls_span){large, sizeof large - 1}, NULL,
                                      trio_done, &second),
                     LS_ERR_BUSY);
    trio_wait(&trio, &first);
    assert_ok(ls_group_execute(group, (struct ls_span){large, sizeof large - 1}, NULL, trio_done,
                               &third));
    trio_wait(&trio, &third);
    assert_int_equal(third.status, LS_OK);
    trio_close(&trio);
}

TEST(group, closing_ends_each_pending_call_exactly_once)
{
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    static struct trio_outcome outcomes[100];
    (void)memset(outcomes, 0, sizeof outcomes);
    for (size_t i = 0; i < 100; i++) {
        assert_ok(ls_group_execute(trio.members[(leader + i) % 3].group, text("x"), NULL, trio_done,
                                   &outcomes[i]));
    }
    for (size_t i = 0; i < 3; i++) {
        trio_stop(&trio, i);
    }
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(outcomes[i].times, 1);
        assert_true(outcomes[i].status == LS_OK || outcomes[i].status == LS_ERR_CLOSED ||
                    outcomes[i].status == LS_ERR_UNKNOWN);
    }
    trio_close(&trio);
}

TEST(group, a_failed_sync_halts_the_member_and_the_others_go_on)
{
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    ls_storage_medium_fail(trio.members[leader].medium, LS_STORAGE_FAULT_SYNC, 0);
    struct trio_outcome outcome = trio_execute(&trio, leader, "x");
    assert_true(outcome.status == LS_ERR_UNKNOWN || outcome.status == LS_OK);
    struct ls_group_status status;
    ls_group_status(trio.members[leader].group, &status);
    assert_int_equal(status.halted, LS_ERR_IO);
    assert_non_null(strstr(status.text, "sync failed"));
    size_t next = leader;
    while (next == leader || next == trio.count) {
        (void)event_base_loop(trio.base, EVLOOP_ONCE);
        next = trio_leader(&trio);
    }
    assert_int_equal(trio_execute(&trio, next, "y").status, LS_OK);
    assert_true(ls_storage_medium_faults(trio.members[leader].medium) > 0);
    trio_close(&trio);
}

TEST(group, a_wiped_member_replicates_and_is_told_why_it_does_not_count)
{
    struct trio trio;
    trio_open(&trio, 3);
    size_t leader = trio_up(&trio);
    size_t wiped = (leader + 1) % 3;
    assert_int_equal(trio_execute(&trio, leader, "x").status, LS_OK);
    trio_stop(&trio, wiped);
    ls_storage_medium_wipe(trio.members[wiped].medium);
    trio_start(&trio, wiped);
    trio_wait_equal(&trio, 1);
    struct ls_group_status status;
    ls_group_status(trio.members[wiped].group, &status);
    assert_int_equal(status.core.standing, LS_STANDING_OTHER_INCARNATION);
    assert_string_equal(status.text, ls_standing_text(LS_STANDING_OTHER_INCARNATION));
    trio_close(&trio);
}

struct fired {
    int times;
    enum ls_status status;
};

static void on_condition(void *arg, enum ls_status status)
{
    struct fired *fired = arg;
    fired->times++;
    fired->status = status;
}

static bool condition_fired(struct trio *trio, void *arg)
{
    (void)trio;
    const struct fired *fired = arg;
    return fired->times > 0;
}

TEST(group, conditions_call_back_once_and_end_with_the_group)
{
    struct trio trio;
    trio_open(&trio, 3);
    trio_start(&trio, 0);
    struct fired serving = {0}, online = {0}, applied = {0}, never = {0};
    struct ls_group *group = trio.members[0].group;
    assert_ok(ls_group_when(group, &(struct ls_condition){.kind = LS_WHEN_ONLINE}, on_condition,
                            &online));
    assert_ok(ls_group_when(group, &(struct ls_condition){.kind = LS_WHEN_LEADER_KNOWN},
                            on_condition, &serving));
    assert_ok(ls_group_when(group, &(struct ls_condition){.kind = LS_WHEN_APPLIED, .index = 3},
                            on_condition, &applied));
    assert_ok(ls_group_when(group, &(struct ls_condition){.kind = LS_WHEN_COMMITTED, .index = 1000},
                            on_condition, &never));
    trio_start(&trio, 1);
    trio_start(&trio, 2);
    size_t leader = trio_wait_leader(&trio);
    assert_int_equal(trio_execute(&trio, leader, "x").status, LS_OK);
    trio_until(&trio, condition_fired, &serving);
    trio_until(&trio, condition_fired, &online);
    trio_until(&trio, condition_fired, &applied);
    assert_int_equal(never.times, 0);
    trio_stop(&trio, 0);
    assert_int_equal(never.times, 1);
    assert_int_equal(never.status, LS_ERR_CLOSED);
    assert_int_equal(online.times, 1);
    trio_close(&trio);
}

TEST(group, a_member_list_without_this_member_is_refused_with_a_sentence)
{
    struct trio trio;
    trio_open(&trio, 1);
    trio_start(&trio, 0);
    struct ls_group_options options = trio.options;
    options.name = "other";
    options.member = "z";
    options.founders = trio.founders;
    options.founders_count = 1;
    struct ls_error error = {LS_OK, ""};
    struct ls_group *group = NULL;
    assert_int_equal(ls_group_join(trio.members[0].node, &options, &group, &error), LS_ERR_INVALID);
    assert_null(group);
    assert_non_null(strstr(error.text, "join group other"));
    trio_close(&trio);
}

TEST(group, prunes_nothing_for_a_machine_in_memory_and_says_why)
{
    struct trio trio;
    trio_open(&trio, 1);
    (void)trio_up(&trio);
    assert_int_equal(trio_execute(&trio, 0, "x").status, LS_OK);
    ls_index pruned = 99;
    assert_ok(ls_group_prune(trio.members[0].group, 100, &pruned));
    assert_int_equal(pruned, 0);
    struct ls_group_status status;
    ls_group_status(trio.members[0].group, &status);
    assert_string_equal(status.prune_text, "log kept: no snapshots");
    trio_close(&trio);
}
