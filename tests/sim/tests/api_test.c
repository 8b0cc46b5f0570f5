/* SPDX-License-Identifier: MIT */
/*
 * The public face of the simulator: what a run tells, what it asks of a workload, and that a
 * machine with a fault in it is noticed without a word of the workload.
 */
#include <lockstep/sim.h>
#include <pthread.h>
#include <stdio.h>

#include "test.h"

/* A machine that adds, and what is to go wrong with it. */
struct tally {
    uint64_t sum, count;
    uint32_t member;
    struct knobs *knobs;
};

struct knobs {
    struct tally tallies[LS_SIM_MEMBERS_MAX];
    bool batches, busy, forgets, other_reply, silent, other_state, check_fails, end_fails;
    bool no_machine, small_budget, query_changes, many;
    uint32_t begun, ended, made, closed, nexts, judged, judged_ok, checked;
};

static struct ls_span signature(void *self)
{
    (void)self;
    return (struct ls_span){"tally/1", 7};
}

static enum ls_status apply_at(struct tally *tally, const struct ls_command *command,
                               struct ls_replies *replies, size_t at)
{
    uint64_t number = 0, reply = 0;
    struct ls_span got = {&number, 1};
    assert_int_equal(command->data.bytes, sizeof number);
    (void)memcpy(&number, command->data.data, sizeof number);
    tally->count++;
    bool wrong = tally->member == 1 && tally->count % 16 == 0;
    tally->sum += number + (wrong && tally->knobs->other_state ? 1 : 0);
    reply = wrong && tally->knobs->other_reply ? 0 : number;
    assert_int_equal(ls_reply_get(replies, at, &got), LS_OK);
    assert_int_equal(got.bytes, 0);
    if (!tally->knobs->silent) {
        (void)ls_reply_set(replies, at, &reply, sizeof reply);
        assert_int_equal(ls_reply_get(replies, at, &got), LS_OK);
        assert_memory_equal(got.data, &reply, sizeof reply);
    }
    assert_int_equal(ls_reply_get(replies, at + 4096, &got), LS_ERR_INVALID);
    return LS_OK;
}

static enum ls_status apply(void *self, const struct ls_command *command,
                            struct ls_replies *replies)
{
    struct tally *tally = self;
    if (tally->knobs->busy && ++tally->knobs->checked % 3 == 0) {
        return LS_ERR_BUSY;
    }
    return apply_at(tally, command, replies, 0);
}

/* At most three at once; one that forgets does not apply the third, but says so. */
static enum ls_status apply_batch(void *self, const struct ls_command *commands, size_t count,
                                  struct ls_replies *replies, size_t *applied)
{
    struct tally *tally = self;
    for (*applied = 0; *applied < count && *applied < 3; (*applied)++) {
        if (!tally->knobs->forgets || *applied < 2) {
            (void)apply_at(tally, &commands[*applied], replies, *applied);
        }
    }
    return LS_OK;
}

static enum ls_status query(void *self, struct ls_span what, struct ls_replies *reply)
{
    struct tally *tally = self;
    assert_int_equal(what.bytes, 0);
    tally->sum += tally->knobs->query_changes ? 1 : 0;
    return ls_reply_set(reply, 0, &tally->sum, sizeof tally->sum);
}

static void tally_close(void *self)
{
    struct tally *tally = self;
    tally->knobs->closed++;
}

static enum ls_status make(void *self, uint32_t member, struct ls_machine *out)
{
    struct knobs *knobs = self;
    if (knobs->no_machine) {
        return LS_ERR_NO_MEMORY;
    }
    knobs->made++;
    knobs->tallies[member] = (struct tally){.member = member, .knobs = knobs};
    *out = (struct ls_machine){.size = sizeof *out,
                               .self = &knobs->tallies[member],
                               .signature = signature,
                               .apply = knobs->batches ? NULL : apply,
                               .apply_batch = knobs->batches ? apply_batch : NULL,
                               .query = query,
                               .close = tally_close};
    return LS_OK;
}

static void group(void *self, uint32_t member, struct ls_group_options *options)
{
    struct knobs *knobs = self;
    (void)member;
    options->name = "not this one";
    options->in_flight_bytes = knobs->small_budget ? 1 : options->in_flight_bytes;
}

static void begin(void *self, struct ls_sim *sim)
{
    struct knobs *knobs = self;
    knobs->begun++;
    assert_true(ls_sim_members(sim) >= 1 && ls_sim_members(sim) <= LS_SIM_MEMBERS_MAX);
    assert_int_equal(ls_sim_now_us(sim), 0);
    assert_null(ls_sim_machine(sim, 0));
    assert_null(ls_sim_group(sim, 0));
    assert_null(ls_sim_machine(sim, LS_SIM_MEMBERS_MAX));
}

static void next(void *self, struct ls_sim *sim, struct ls_sim_call *call)
{
    struct knobs *knobs = self;
    static _Thread_local uint64_t number;
    knobs->nexts++;
    assert_int_equal(call->id, knobs->nexts);
    assert_int_equal(call->invoked, ls_sim_event(sim));
    assert_true(call->member < ls_sim_members(sim));
    number = ls_sim_random(sim, 1, 9);
    assert_true(number >= 1 && number <= 9);
    call->notes[0] = number;
    if (!call->probe && ls_sim_random(sim, 0, 2) == 0) {
        call->kind = LS_SIM_QUERY;
    } else {
        call->data = (struct ls_span){&number, sizeof number};
    }
    if (knobs->many && call->kind == LS_SIM_QUERY && call->id % 2 == 0) {
        call->kind = LS_SIM_BARRIER;
    } else if (knobs->many && call->kind == LS_SIM_COMMAND) {
        static _Thread_local struct ls_span commands[3];
        commands[0] = commands[1] = commands[2] = call->data;
        call->commands = commands;
        call->count = 3;
        call->kind = !call->probe && call->id % 2 == 0 ? LS_SIM_FEED : LS_SIM_COMMAND;
    }
}

static void judge(void *self, struct ls_sim *sim, const struct ls_sim_call *call,
                  const struct ls_outcome *outcome)
{
    struct knobs *knobs = self;
    knobs->judged++;
    assert_true(call->returned >= call->invoked && call->returned == ls_sim_event(sim));
    if (outcome->status == LS_OK) {
        knobs->judged_ok++;
        size_t replies = call->count > 0 ? call->count : 1;
        bool none = call->kind == LS_SIM_FEED || call->kind == LS_SIM_BARRIER;
        assert_int_equal(outcome->count, none ? 0 : replies);
        assert_ptr_equal(ls_sim_machine(sim, call->member), &knobs->tallies[call->member]);
        assert_true(call->kind != LS_SIM_COMMAND ||
                    ls_sim_applied(sim, call->id) == outcome->first.index);
        bool known = call->kind == LS_SIM_COMMAND && !knobs->silent && !knobs->other_reply &&
                     !knobs->forgets;
        assert_true(!known || memcmp(outcome->replies[0].data, &call->notes[0], 8) == 0);
    }
}

static void check(void *self, struct ls_sim *sim, uint32_t member, const void *machine)
{
    struct knobs *knobs = self;
    assert_ptr_equal(machine, &knobs->tallies[member]);
    assert_ptr_equal(machine, ls_sim_machine(sim, member));
    if (knobs->check_fails && knobs->tallies[member].count == 5) {
        ls_sim_fail(sim, "member %u counts %d", (unsigned)member, 5);
        ls_sim_fail(sim, "a second reason");
    }
}

static uint64_t digest(void *self, const void *machine)
{
    (void)self;
    return ((const struct tally *)machine)->sum;
}

static void check_end(void *self, struct ls_sim *sim)
{
    const struct knobs *knobs = self;
    struct ls_group_status status;
    assert_int_equal(ls_sim_applied(sim, knobs->nexts + 1), 0);
    for (uint32_t i = 0; i < ls_sim_members(sim); i++) {
        ls_group_status(ls_sim_group(sim, i), &status);
        assert_string_equal(status.name, "sim");
        assert_int_equal(knobs->tallies[i].sum, knobs->tallies[0].sum);
    }
    if (knobs->end_fails) {
        ls_sim_fail(sim, "the end is bad");
    }
}

static void end(void *self)
{
    ((struct knobs *)self)->ended++;
}

static const struct ls_sim_workload template = {.size = sizeof template,
                                                .name = "tally",
                                                .begin = begin,
                                                .machine = make,
                                                .group = group,
                                                .next = next,
                                                .judge = judge,
                                                .check = check,
                                                .check_end = check_end,
                                                .end = end};

/* Three members, five seconds. */
static bool run_seed(struct knobs *knobs, uint64_t seed, bool with_digest,
                     struct ls_sim_result *result)
{
    struct ls_sim_workload workload = template;
    struct ls_sim_options options;
    workload.self = knobs;
    workload.digest = with_digest ? digest : NULL;
    ls_sim_options_init(&options);
    options.seed = seed;
    options.members = 3;
    options.seconds = 5;
    return ls_sim_run(&options, &workload, result);
}

static bool run(struct knobs *knobs, bool with_digest, struct ls_sim_result *result)
{
    return run_seed(knobs, 5, with_digest, result);
}

static void assert_says(const struct ls_sim_result *result, const char *words)
{
    if (result->clean || strstr(result->text, words) == NULL) {
        fail_msg("\"%s\" instead of \"%s\"", result->text, words);
    }
}

/* Some of the first seeds, and no other reason. */
static void assert_noticed(const struct knobs *wrong, bool with_digest, const char *words)
{
    uint32_t count = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct ls_sim_result result;
        struct knobs knobs = *wrong;
        if (!run_seed(&knobs, seed, with_digest, &result)) {
            assert_says(&result, words);
            count++;
        }
    }
    assert_in_range(count, 1, 10);
}

/* ---- a clean run ---- */

TEST(sim, run_of_a_seed_is_the_same_twice)
{
    struct ls_sim_result first, second;
    struct knobs knobs = {.batches = false};
    assert_true(run(&knobs, true, &first));
    knobs = (struct knobs){.batches = false};
    assert_true(run(&knobs, true, &second));
    assert_string_equal(first.text, "clean");
    assert_int_not_equal(first.trace_hash, 0);
    assert_memory_equal(&first, &second, sizeof first);
}

/* A thread's seeds, in one order or the other. */
struct thread {
    bool backwards;
    uint64_t hashes[10];
};

static void *run_thread(void *arg)
{
    struct thread *thread = arg;
    static const struct ls_sim_options options = {.size = sizeof options, .seconds = 2};
    for (uint64_t i = 0; i < 10; i++) {
        struct knobs knobs = {.batches = false};
        struct ls_sim_workload workload = template;
        struct ls_sim_options own = options;
        struct ls_sim_result result;
        uint64_t seed = thread->backwards ? 9 - i : i;
        workload.self = &knobs;
        own.seed = seed + 1;
        own.exact = true;
        thread->hashes[seed] = ls_sim_run(&own, &workload, &result) ? result.trace_hash : 0;
    }
    return NULL;
}

TEST(sim, runs_on_two_threads_do_not_meet)
{
    struct thread threads[2] = {{.backwards = false}, {.backwards = true}};
    pthread_t ids[2];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&ids[i], NULL, run_thread, &threads[i]), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(ids[i], NULL), 0);
    }
    assert_memory_equal(threads[0].hashes, threads[1].hashes, sizeof threads[0].hashes);
    assert_int_not_equal(threads[0].hashes[0], 0);
}

TEST(sim, every_call_is_judged_and_every_machine_closed)
{
    struct ls_sim_result result;
    struct knobs knobs = {.batches = false};
    assert_true(run(&knobs, true, &result));
    assert_int_equal(knobs.begun, 1);
    assert_int_equal(knobs.ended, 1);
    assert_true(knobs.made >= 3);
    assert_int_equal(knobs.made, knobs.closed);
    assert_int_equal(knobs.nexts, knobs.judged);
    assert_int_equal(result.calls, knobs.nexts);
    assert_int_equal(result.acknowledged, knobs.judged_ok);
    assert_int_equal(result.members, 3);
    assert_true(result.acknowledged > 10 && result.applied > 10 && result.messages > 10);
    assert_true(result.events > result.messages && result.sessions > 0);
    assert_true(result.leader_changes > 0 && result.virtual_us > 5000000);
}

TEST(sim, machine_may_take_batches_in_parts)
{
    struct ls_sim_result result;
    struct knobs knobs = {.batches = true};
    assert_true(run(&knobs, true, &result));
}

TEST(sim, calls_of_many_commands_feeds_and_barriers_are_followed)
{
    struct ls_sim_result result;
    struct knobs knobs = {.many = true};
    assert_true(run(&knobs, true, &result));
    assert_true(result.applied > result.acknowledged); /* three for each command */
}

TEST(sim, machine_may_be_busy_now_and_then)
{
    struct ls_sim_result result;
    struct knobs knobs = {.busy = true};
    assert_true(run(&knobs, true, &result));
    assert_true(knobs.checked > 3);
}

TEST(sim, without_kinds_of_fault_they_do_not_strike)
{
    struct ls_sim_result result;
    struct knobs knobs = {.batches = false};
    struct ls_sim_workload workload = template;
    struct ls_sim_options options;
    workload.self = &knobs;
    ls_sim_options_init(&options);
    options.seconds = 3;
    options.without = LS_SIM_FAULTS_ALL;
    assert_true(ls_sim_run(&options, &workload, &result));
    for (uint32_t i = 0; i < LS_SIM_FAULTS_MAX; i++) {
        assert_int_equal(result.injected[i], 0);
    }
    assert_in_range(result.virtual_us, 3000000, 60000000);
    knobs = (struct knobs){.batches = false};
    options.without = ~(ls_sim_fault_bit("crash") | ls_sim_fault_bit("pause"));
    assert_true(ls_sim_run(&options, &workload, &result));
    uint64_t struck = 0;
    for (uint32_t i = 0; ls_sim_fault_name(i) != NULL; i++) {
        assert_int_equal(ls_sim_fault_bit(ls_sim_fault_name(i)), UINT64_C(1) << i);
        struck |= result.injected[i] > 0 ? UINT64_C(1) << i : 0;
    }
    assert_true((struck & ls_sim_fault_bit("crash")) != 0);
    assert_int_equal(struck & options.without, 0);
    assert_int_equal(ls_sim_fault_bit("weather"), 0);
}

TEST(sim, settings_of_the_group_are_those_of_the_workload)
{
    struct ls_sim_result result;
    struct knobs knobs = {.small_budget = true};
    assert_false(run(&knobs, false, &result));
    assert_says(&result, "in_flight_bytes is 1");
}

/* ---- what is noticed ---- */

TEST(sim, replies_that_differ_are_noticed)
{
    assert_noticed(&(struct knobs){.other_reply = true}, false, "machines differ at index");
}

TEST(sim, states_that_differ_are_noticed_by_their_digest)
{
    assert_noticed(&(struct knobs){.other_state = true}, true, "machines differ at index");
}

TEST(sim, query_that_changes_the_state_is_noticed_by_the_digest)
{
    assert_noticed(&(struct knobs){.query_changes = true}, true, "machines differ at index");
}

TEST(sim, batch_that_forgets_a_command_is_noticed)
{
    assert_noticed(&(struct knobs){.batches = true, .forgets = true}, false,
                   "machines differ at index");
}

TEST(sim, what_a_workload_finds_ends_the_run_with_its_first_sentence)
{
    struct ls_sim_result result;
    struct knobs knobs = {.check_fails = true};
    assert_false(run(&knobs, false, &result));
    assert_says(&result, "counts 5");
    assert_string_equal(result.replay, "--seed 5 --workload tally --seconds 5 --members 3");
    assert_int_equal(knobs.made, knobs.closed);
    assert_int_equal(knobs.ended, 1);
}

TEST(sim, what_the_end_of_a_workload_finds_fails_the_run)
{
    struct ls_sim_result result;
    struct knobs knobs = {.end_fails = true};
    assert_false(run(&knobs, false, &result));
    assert_string_equal(result.text, "the end is bad");
}

TEST(sim, machine_that_cannot_be_made_fails_the_run)
{
    struct ls_sim_result result;
    struct knobs knobs = {.no_machine = true};
    assert_false(run(&knobs, false, &result));
    assert_says(&result, "cannot start: its machine");
    assert_int_equal(knobs.closed, 0);
}

/* ---- options ---- */

static void refused(const struct ls_sim_options *options, const struct ls_sim_workload *workload,
                    const char *words)
{
    struct ls_sim_result result;
    assert_false(ls_sim_run(options, workload, &result));
    assert_says(&result, words);
    assert_int_equal(result.events, 0);
    assert_false(ls_sim_run(options, workload, NULL));
}

TEST(sim, options_out_of_range_are_refused)
{
    struct ls_sim_workload workload = template;
    struct ls_sim_options good, bad;
    ls_sim_options_init(&good);
    bad = good;
    bad.members = LS_SIM_MEMBERS_MAX + 1;
    refused(&bad, &template, "LS_SIM_MEMBERS_MAX");
    bad = good;
    bad.skip = "3,,4";
    refused(&bad, &template, "skip");
    bad = good;
    bad.size--;
    refused(&bad, &template, "size");
    workload.next = NULL;
    refused(&good, &workload, "next");
}

TEST(sim, command_line_that_is_wrong_ends_with_2)
{
    char program[] = "api_test", seed[] = "--seed", none[] = "none";
    char *words[] = {program, seed, none, NULL};
    assert_int_equal(ls_sim_main(3, words, &template, 1), 2);
}
