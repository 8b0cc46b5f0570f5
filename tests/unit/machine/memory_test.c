/* SPDX-License-Identifier: MIT */
/*
 * Memory is refused (A3): at each single allocation of a life, and at all of them for a while.
 * Nothing crashes, each call ends once, and the group goes on when there is memory again.
 */
#include "trio.h"

#include <event2/event.h>

static struct {
    struct ls_env env;
    bool armed;
    size_t at, width; /* refuses allocations at, at + 1 ... at + width - 1 since it was armed */
    size_t seen, refused;
} scarce;

static void *scarce_allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes > 0 && scarce.armed) {
        scarce.seen++;
        if (scarce.seen >= scarce.at && scarce.seen - scarce.at < scarce.width) {
            scarce.refused++;
            return NULL;
        }
    }
    const struct ls_env *env = ls_env_default();
    return env->allocate(env->self, block, bytes);
}

static const struct ls_env *scarce_env(void)
{
    scarce.env = *ls_env_default();
    scarce.env.allocate = scarce_allocate;
    scarce.armed = false;
    return &scarce.env;
}

static void refuse(size_t at, size_t width)
{
    scarce.at = at;
    scarce.width = width;
    scarce.seen = scarce.refused = 0;
    scarce.armed = true;
}

static uint64_t in_flight(const struct trio *trio, size_t at)
{
    struct ls_group_status status;
    ls_group_status(trio->members[at].group, &status);
    assert_int_equal(status.halted, LS_OK);
    return status.in_flight_bytes;
}

#define CALLS 6u

struct calls {
    struct trio_outcome outcomes[CALLS];
    bool accepted[CALLS];
};

/* One call of each kind; what is refused must not be called back. */
static void call_all(struct trio *trio, size_t at, struct calls *calls)
{
    static uint8_t large[300u << 10];
    const struct ls_call_options soon = {.deadline_ms = 300};
    const struct ls_span small = {"x", 1}, two[] = {small, {large, sizeof large}};
    struct ls_group *group = trio->members[at].group;
    *calls = (struct calls){0};
    struct trio_outcome *out = calls->outcomes;
    const enum ls_status statuses[CALLS] = {
        ls_group_execute(group, small, &soon, trio_done, &out[0]),
        ls_group_execute_many(group, two, 2, &soon, trio_done, &out[1]),
        ls_group_feed(group, small, &soon, trio_done, &out[2]),
        ls_group_query(group, LS_STRONG, small, &soon, trio_done, &out[3]),
        ls_group_query(group, LS_WEAK, small, &soon, trio_done, &out[4]),
        ls_group_read_barrier(group, &soon, trio_done, &out[5])};
    for (size_t i = 0; i < CALLS; i++) {
        assert_true(statuses[i] == LS_OK || statuses[i] == LS_ERR_NO_MEMORY);
        calls->accepted[i] = statuses[i] == LS_OK;
    }
}

static bool all_fired(struct trio *trio, void *arg)
{
    const struct calls *calls = arg;
    (void)trio;
    for (size_t i = 0; i < CALLS; i++) {
        if (calls->accepted[i] && !calls->outcomes[i].fired) {
            return false;
        }
    }
    return true;
}

static void check_ended(const struct calls *calls)
{
    for (size_t i = 0; i < CALLS; i++) {
        const struct trio_outcome *outcome = &calls->outcomes[i];
        assert_int_equal(outcome->times, calls->accepted[i] ? 1 : 0);
        assert_true(outcome->status == LS_OK || outcome->status == LS_ERR_UNKNOWN ||
                    outcome->status == LS_ERR_BUSY || outcome->status == LS_ERR_NO_LEADER ||
                    outcome->status == LS_ERR_TIMEOUT || outcome->status == LS_ERR_NO_MEMORY ||
                    outcome->status == LS_ERR_CLOSED);
    }
}

/* ---- one member, each allocation ---- */

static void open_one(struct trio *trio)
{
    trio_open_in(trio, 1, scarce_env());
    trio->options.election_ms = 4;
    trio->options.heartbeat_ms = 1;
}

/* A life in which the allocations from `at` on are refused; false: there were not so many. */
static bool join_life(size_t at)
{
    struct trio trio;
    struct ls_error error = {LS_OK, ""};
    open_one(&trio);
    (void)trio_up(&trio);
    assert_int_equal(trio_execute(&trio, 0, "before").status, LS_OK);
    trio_stop(&trio, 0);
    refuse(at, 1);
    enum ls_status status = trio_try_start(&trio, 0, &error);
    scarce.armed = false;
    bool refused = scarce.refused > 0;
    assert_int_equal(status, refused ? LS_ERR_NO_MEMORY : LS_OK); /* all of it or nothing */
    if (status != LS_OK) {
        assert_true(error.text[0] != '\0');
        assert_null(trio.members[0].node);
        trio_start(&trio, 0); /* nothing stayed behind that would keep it out */
    }
    (void)trio_wait_leader(&trio);
    assert_int_equal(trio_execute(&trio, 0, "after").reply, 2);
    trio_close(&trio);
    return refused;
}

TEST(memory, refused_at_any_point_of_a_join_leaves_nothing_behind)
{
    size_t at = 1;
    while (join_life(at)) {
        at++;
    }
    assert_true(at > 10);
}

static bool call_life(size_t at, size_t width)
{
    struct trio trio;
    struct calls calls;
    open_one(&trio);
    trio_start(&trio, 0);
    refuse(at, width); /* already while it founds the group */
    call_all(&trio, 0, &calls);
    trio_until(&trio, all_fired, &calls);
    bool refused = scarce.refused > 0;
    scarce.armed = false;
    check_ended(&calls);
    (void)trio_wait_leader(&trio);
    assert_int_equal(trio_execute(&trio, 0, "after").status, LS_OK);
    assert_int_equal(in_flight(&trio, 0), 0);
    uint64_t count = trio.members[0].tally.count;
    trio_stop(&trio, 0);
    trio_start(&trio, 0);
    trio_wait_equal(&trio, count);
    trio_close(&trio);
    return refused;
}

TEST(memory, refused_at_any_point_of_founding_and_calls_ends_each_call_once)
{
    size_t at = 1;
    while (call_life(at, 1)) {
        at++;
    }
    assert_true(at > 10);
}

TEST(memory, refused_for_a_while_is_made_up_for_later)
{
    for (size_t at = 1; at <= 31; at += 3) {
        (void)call_life(at, 40);
    }
}

static bool close_life(size_t at)
{
    struct trio trio;
    struct calls calls;
    open_one(&trio);
    (void)trio_up(&trio);
    call_all(&trio, 0, &calls);
    refuse(at, SIZE_MAX);
    trio_stop(&trio, 0);
    bool refused = scarce.refused > 0;
    scarce.armed = false;
    check_ended(&calls);
    assert_true(all_fired(&trio, &calls));
    trio_start(&trio, 0);
    (void)trio_wait_leader(&trio);
    assert_int_equal(trio_execute(&trio, 0, "after").status, LS_OK);
    trio_close(&trio);
    return refused;
}

TEST(memory, refused_while_closing_keeps_nothing_open)
{
    size_t at = 1;
    while (close_life(at)) {
        at++;
    }
    assert_true(at > 1);
}

/* ---- a store without room ---- */

static struct {
    enum ls_status (*stage)(void *self, struct ls_storage_group *group,
                            const struct ls_storage_batch *batch);
    enum ls_status answer;
    size_t at, times; /* refuses the batch with that number so many times */
    size_t seen, refused;
    uint64_t seq; /* of the refused batch */
} room;

static enum ls_status refusing_stage(void *self, struct ls_storage_group *group,
                                     const struct ls_storage_batch *batch)
{
    assert_true(room.refused == 0 || room.refused == room.times || batch->seq == room.seq);
    if (room.refused == 0) {
        room.seen++;
    }
    if (room.at > 0 && room.seen == room.at && room.refused < room.times) {
        room.refused++;
        room.seq = batch->seq;
        return room.answer;
    }
    return room.stage(self, group, batch);
}

static void refuse_room(struct ls_storage *storage)
{
    room.stage = storage->stage;
    storage->stage = refusing_stage;
}

static bool room_life(size_t at, enum ls_status answer)
{
    struct trio trio;
    struct calls calls;
    open_one(&trio);
    trio.on_storage = refuse_room;
    room.answer = answer;
    room.at = at;
    room.times = 3;
    room.seen = room.refused = 0;
    trio_start(&trio, 0);
    call_all(&trio, 0, &calls);
    trio_until(&trio, all_fired, &calls);
    check_ended(&calls);
    (void)trio_wait_leader(&trio);
    assert_int_equal(trio_execute(&trio, 0, "after").status, LS_OK);
    assert_int_equal(in_flight(&trio, 0), 0);
    uint64_t count = trio.members[0].tally.count, digest = trio.members[0].tally.digest;
    bool refused = room.refused > 0;
    room.at = 0;
    trio_stop(&trio, 0);
    trio_start(&trio, 0);
    trio_wait_equal(&trio, count);
    assert_int_equal(trio.members[0].tally.digest, digest);
    trio_close(&trio);
    return refused;
}

TEST(memory, a_store_without_room_for_a_batch_holds_the_group_up_and_no_more)
{
    size_t at = 1;
    while (room_life(at, at % 2 == 0 ? LS_ERR_BUSY : LS_ERR_NO_MEMORY)) {
        at++;
    }
    assert_true(at > 2);
}

/* ---- three members, of which one comes back ---- */

static void load(struct trio *trio, size_t at, uint32_t batches)
{
    struct ls_span commands[100];
    for (size_t i = 0; i < 100; i++) {
        commands[i] = (struct ls_span){"forty bytes and a little more than that..", 40};
    }
    for (uint32_t i = 0; i < batches; i++) {
        struct trio_outcome outcome = {0};
        enum ls_status status = ls_group_execute_many(trio->members[at].group, commands, 100, NULL,
                                                      trio_done, &outcome);
        if (status == LS_OK) {
            trio_wait(trio, &outcome);
        } else {
            assert_int_equal(status, LS_ERR_NO_MEMORY);
        }
    }
}

/* All allocations of all members: whoever needs one waits. */
TEST(memory, refused_while_a_member_catches_up_delays_it_and_no_more)
{
    static const size_t windows[][2] = {{1, 1}, {2, 80}, {20, 20}, {60, 60}, {150, 10}};
    size_t refused = 0;
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        struct trio trio;
        trio_open_in(&trio, 3, scarce_env());
        trio.options.cache_bytes = 16u << 10;
        trio.options.window_bytes = 8u << 10;
        size_t leader = trio_up(&trio);
        size_t away = (leader + 1) % 3;
        trio_stop(&trio, away);
        load(&trio, leader, 20);
        trio_start(&trio, away);
        refuse(windows[i][0], windows[i][1]);
        load(&trio, leader, 5);
        leader = trio_wait_leader(&trio);
        trio_wait_equal(&trio, 2000);
        refused += scarce.refused;
        scarce.armed = false;
        assert_int_equal(trio_execute(&trio, leader, "after").status, LS_OK);
        trio_wait_equal(&trio, 2001);
        for (size_t at = 0; at < 3; at++) {
            assert_int_equal(in_flight(&trio, at), 0);
        }
        trio_close(&trio);
    }
    assert_true(refused > 50);
}

/* ---- a store that refuses to prune ---- */

static struct {
    enum ls_status (*prune)(void *self, struct ls_storage_group *group, ls_index upto);
    uint32_t refuses, calls;
} pruning;

static enum ls_status refusing_prune(void *self, struct ls_storage_group *group, ls_index upto)
{
    pruning.calls++;
    if (pruning.refuses > 0) {
        pruning.refuses--;
        return LS_ERR_BUSY;
    }
    return pruning.prune(self, group, upto);
}

static void refuse_pruning(struct ls_storage *storage)
{
    pruning.prune = storage->prune;
    storage->prune = refusing_prune;
}

TEST(memory, a_refused_prune_changes_nothing_and_is_asked_again)
{
    struct trio trio;
    struct ls_statesync sync;
    struct ls_log_replay_options keep_little = {.size = sizeof keep_little, .keep_entries = 1};
    trio_open_in(&trio, 1, scarce_env());
    trio.options.election_ms = 4;
    trio.options.heartbeat_ms = 1;
    assert_ok(ls_log_replay(&keep_little, &sync));
    trio.options.statesyncs = &sync;
    trio.options.statesyncs_count = 1;
    trio.durable = true;
    trio.on_storage = refuse_pruning;
    pruning.refuses = 1;
    (void)trio_up(&trio);
    load(&trio, 0, 5);
    ls_index pruned = 0;
    assert_int_equal(ls_group_prune(trio.members[0].group, 300, &pruned), LS_ERR_BUSY);
    assert_int_equal(pruned, 0);
    load(&trio, 0, 1);
    refuse(1, 20); /* the core cannot be told at once either */
    assert_ok(ls_group_prune(trio.members[0].group, 300, &pruned));
    scarce.armed = false;
    assert_int_equal(pruned, 300);
    assert_int_equal(pruning.calls, 2);
    load(&trio, 0, 1);
    trio_stop(&trio, 0);
    trio_start(&trio, 0);
    (void)trio_wait_leader(&trio);
    struct ls_group_status status;
    ls_group_status(trio.members[0].group, &status);
    assert_int_equal(status.log_first, 301);
    assert_ok(ls_group_prune(trio.members[0].group, 10, &pruned)); /* pruned already */
    assert_int_equal(pruned, 300);
    assert_int_equal(trio_execute(&trio, 0, "after").reply, 701);
    trio_close(&trio);
}
