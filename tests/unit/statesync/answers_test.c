/* SPDX-License-Identifier: MIT */
/*
 * Wrong answers of log replay: each is penalised, asked of somebody else, and never reaches the
 * log. The bad peer here is a follower whose answers are changed on their way.
 */
#include "sync_world.h"

#include "log_replay.h"

enum wrong {
    EMPTY,
    OVERSIZED,
    MISPLACED,
    TERM_BACK,
    TERM_BELOW_PREV,
    UNKNOWN_ID,
    UNKNOWN_KIND,
    QUESTION,
    GARBAGE,
    SHORT, /* not wrong: the rest is asked again */
    OF_OLD_ATTEMPT
};

struct bad_peer {
    enum wrong wrong;
    uint32_t node;
    uint64_t from_answer, answers, changed; /* from which answer on; seen; changed */
};

/* Encodes the message again with other entries. */
static void resend(struct world *world, const struct world_message *message,
                   struct ls_value *values, size_t count)
{
    static uint8_t bytes[1u << 20];
    size_t written = 0;
    assert_ok(world->env.codec.encode(world->env.codec.self, values, count, bytes, sizeof bytes,
                                      &written));
    world_send(world, message->from, message->to, true, (struct ls_span){bytes, written});
}

/* Changes the values of an ENTRIES message; returns the new count. */
static size_t spoil(enum wrong wrong, struct ls_value *values, size_t count)
{
    switch (wrong) {
    case EMPTY:
        values[7].as.count = 0;
        return LS__REPLAY_HEAD_VALUES;
    case OVERSIZED:
        memcpy(values + count, values + count - 3, 3 * sizeof values[0]);
        values[7].as.count += 3;
        return count + 3;
    case MISPLACED:
        values[6].as.number++;
        return count;
    case TERM_BACK:
        values[8].as.number += 7;
        return count;
    case TERM_BELOW_PREV:
        for (size_t i = 8; i < count; i += 3) {
            values[i].as.number = 1;
        }
        return count;
    case UNKNOWN_ID:
        values[3].as.number += 1000;
        return count;
    case UNKNOWN_KIND:
        values[9].as.number = 9;
        return count;
    case QUESTION:
        values[0].as.count = 3;
        values[1].as.number = LS__REPLAY_AVAILABILITY_REQUEST;
        return 4;
    case SHORT:
        values[7].as.count = 3;
        return LS__REPLAY_HEAD_VALUES + 3;
    case OF_OLD_ATTEMPT:
        values[2].as.number--;
        return count;
    case GARBAGE:
        break;
    }
    return count;
}

static enum world_fate change(struct world *world, const struct world_message *message, void *arg)
{
    static struct ls_value values[LS_VALUES_MAX];
    struct bad_peer *bad = arg;
    struct ls_span bytes = {message->data, message->bytes};
    size_t count = 0;
    if (!message->to_session || message->from != bad->node) {
        return WORLD_DELIVER;
    }
    assert_ok(
        world->env.codec.decode(world->env.codec.self, bytes, values, LS_VALUES_MAX - 3, &count));
    if (values[1].as.number != LS__REPLAY_ENTRIES || bad->answers++ < bad->from_answer) {
        return WORLD_DELIVER;
    }
    bad->changed++;
    if (bad->wrong == GARBAGE) {
        world_send(world, message->from, message->to, true, (struct ls_span){"what?", 5});
    } else {
        resend(world, message, values, spoil(bad->wrong, values, count));
    }
    return WORLD_DROP;
}

/* Follower 1 is bad, follower 2 and leader 0 are good, node 3 lags. Terms rise on the way. */
static struct world *spoiled(struct bad_peer *bad, uint64_t seed)
{
    struct world_options options = {
        .nodes = 4, .seed = seed, .replay = {.entries_max = 50, .timeout_ms = 1000}};
    struct world *world = world_open(&options);
    world_write(world, 2, 500, 20);
    world_write(world, 3, 1500, 20);
    world->term = 3;
    for (uint32_t i = 0; i < 3; i++) {
        world_fill(world, i, 2000, 2000);
    }
    world_fill(world, 3, 10, 10);
    bad->node = 1;
    world->intercept = change;
    world->intercept_arg = bad;
    return world;
}

static void is_penalised(enum wrong wrong)
{
    struct bad_peer bad = {.wrong = wrong};
    struct world *world = spoiled(&bad, 1 + (uint64_t)wrong);
    world_gap(world, 3, 2000, 0, 0);
    assert_true(world_reaches(world, 3, 2000, 60 * SECOND));
    world_check(world, 3);
    assert_int_equal(world->nodes[3].appended, 1990);
    assert_true(bad.changed > 0);
    struct ls_sync_progress progress = world_progress(world, 3);
    assert_in_range(progress.penalties, 1, bad.changed);
    assert_int_equal(progress.failures, 0);
    assert_true(world->warnings >= 2); /* of the session with the reason, of the supervisor */
    world_close(world);
}

/* Y11 */
TEST(answers, empty_ones_are_penalised)
{
    is_penalised(EMPTY);
}

TEST(answers, with_more_than_asked_are_penalised)
{
    is_penalised(OVERSIZED);
}

TEST(answers, from_another_place_are_penalised)
{
    is_penalised(MISPLACED);
}

TEST(answers, whose_terms_go_back_are_penalised)
{
    is_penalised(TERM_BACK);
}

TEST(answers, below_the_term_of_the_entry_before_are_penalised)
{
    is_penalised(TERM_BELOW_PREV);
}

TEST(answers, to_nothing_that_was_asked_are_penalised)
{
    is_penalised(UNKNOWN_ID);
}

TEST(answers, with_an_unknown_kind_of_entry_are_penalised)
{
    is_penalised(UNKNOWN_KIND);
}

TEST(answers, that_are_questions_are_penalised)
{
    is_penalised(QUESTION);
}

TEST(answers, that_are_garbage_are_penalised)
{
    is_penalised(GARBAGE);
}

TEST(answers, that_are_short_leave_a_remainder_and_no_blame)
{
    struct bad_peer bad = {.wrong = SHORT};
    struct world *world = spoiled(&bad, test_seed());
    world_gap(world, 3, 2000, 0, 0);
    assert_true(world_reaches(world, 3, 2000, 60 * SECOND));
    world_check(world, 3);
    assert_true(bad.changed > 10);
    assert_int_equal(world->nodes[3].appended, 1990);
    assert_int_equal(world_progress(world, 3).penalties, 0);
    world_close(world);
}

TEST(answers, of_an_older_attempt_are_ignored_without_blame)
{
    struct bad_peer bad = {.wrong = OF_OLD_ATTEMPT};
    struct world *world = spoiled(&bad, test_seed());
    world_gap(world, 3, 2000, 0, 0);
    assert_true(world_reaches(world, 3, 2000, 60 * SECOND));
    assert_true(bad.changed > 0);
    assert_int_equal(world_progress(world, 3).penalties, 0);
    world_close(world);
}

/* The leader, who was asked for no entries, sends what follower 1 was asked for; once. */
static enum world_fate by_another(struct world *world, const struct world_message *message,
                                  void *arg)
{
    struct bad_peer *bad = arg;
    if (!message->to_session || message->from != 1 || message->bytes < 200 || bad->changed > 0) {
        return WORLD_DELIVER;
    }
    bad->changed++;
    world_send(world, 0, message->to, true, (struct ls_span){message->data, message->bytes});
    return WORLD_DROP;
}

TEST(answers, by_another_than_was_asked_are_penalised)
{
    struct bad_peer bad = {.wrong = SHORT};
    struct world *world = spoiled(&bad, test_seed());
    world->intercept = by_another;
    world_gap(world, 3, 2000, 0, 0);
    assert_true(world_reaches(world, 3, 2000, 60 * SECOND));
    world_check(world, 3);
    assert_int_equal(bad.changed, 1);
    assert_int_equal(world_progress(world, 3).penalties, 1);
    world_close(world);
}

/* Y16: a source that always lies and is the only one is asked with growing pauses. */
TEST(answers, that_are_always_wrong_cause_no_hot_loop)
{
    struct bad_peer bad = {.wrong = EMPTY};
    struct world *world = spoiled(&bad, test_seed());
    world_up(world, 0, false);
    world_up(world, 2, false);
    world_gap(world, 3, 2000, 0, 0);
    world_run(world, 60 * SECOND);
    assert_in_range(bad.changed, 5, 20);
    assert_int_equal(world->nodes[3].appended, 0);
    assert_true(world->nodes[3].polls < 200);
    bad.from_answer = UINT64_MAX; /* it behaves again */
    assert_true(world_reaches(world, 3, 2000, 300 * SECOND));
    world_close(world);
}

TEST(answers, when_a_source_turns_bad_in_the_middle_go_to_others)
{
    for (enum wrong wrong = EMPTY; wrong <= GARBAGE; wrong++) {
        struct bad_peer bad = {.wrong = wrong, .from_answer = 6};
        struct world *world = spoiled(&bad, test_seed());
        world_gap(world, 3, 2000, 0, 0);
        assert_true(world_reaches(world, 3, 2000, 60 * SECOND));
        world_check(world, 3);
        assert_true(bad.changed > 0);
        world_close(world);
    }
}

/* ---- the provider ---------------------------------------------------------------------------- */

static void ask(struct world *world, const struct ls__replay_message *question)
{
    uint8_t bytes[LS__REPLAY_HEAD_BYTES];
    size_t written = ls__replay_encode(&world->env.codec, question, bytes);
    world_send(world, 3, 0, false, (struct ls_span){bytes, written});
}

/* Keeps the last message that node 0 sent to a session. */
struct heard {
    uint8_t bytes[1u << 20];
    size_t length;
    uint64_t count;
};

static enum world_fate hear(struct world *world, const struct world_message *message, void *arg)
{
    (void)world;
    struct heard *heard = arg;
    if (message->from == 0 && message->to_session) {
        assert_true(message->bytes <= sizeof heard->bytes);
        memcpy(heard->bytes, message->data, message->bytes);
        heard->length = message->bytes;
        heard->count++;
    }
    return WORLD_DELIVER;
}

static struct ls__replay_message decoded(struct world *world, const struct heard *heard)
{
    static struct ls_value values[LS_VALUES_MAX];
    struct ls__replay_message message;
    assert_null(ls__replay_decode(&world->env.codec, (struct ls_span){heard->bytes, heard->length},
                                  values, LS_VALUES_MAX, &message));
    return message;
}

static struct world *with_provider(struct heard *heard)
{
    struct bad_peer unused = {.wrong = SHORT};
    struct world *world = spoiled(&unused, test_seed());
    world->intercept = hear;
    world->intercept_arg = heard;
    return world;
}

/* Y1 */
TEST(provider, offers_only_what_is_committed_and_durable)
{
    static struct heard heard;
    heard = (struct heard){.count = 0};
    struct world *world = with_provider(&heard);
    world->nodes[0].commit = 1500;
    world_prune(world, 0, 99);
    ask(world, &(struct ls__replay_message){.kind = LS__REPLAY_AVAILABILITY_REQUEST, .need = 1});
    world_run(world, SECOND);
    struct ls__replay_message answer = decoded(world, &heard);
    assert_int_equal(answer.kind, LS__REPLAY_AVAILABILITY);
    assert_int_equal(answer.held_first, 100);
    assert_int_equal(answer.held_last, 1500);
    world->nodes[0].durable = 1400;
    ask(world, &(struct ls__replay_message){
                   .kind = LS__REPLAY_FETCH, .id = 1, .need = 1, .first = 1380, .last = 1600});
    world_run(world, SECOND);
    answer = decoded(world, &heard);
    assert_int_equal(answer.kind, LS__REPLAY_ENTRIES);
    assert_int_equal(answer.first, 1380);
    assert_int_equal(answer.count, 21);
    world->nodes[0].durable = 2000;
    world->nodes[0].commit = 2000;
    world_close(world);
}

/* Y14 */
TEST(provider, caps_an_answer_in_entries_and_bytes)
{
    static struct heard heard;
    heard = (struct heard){.count = 0};
    struct world *world = with_provider(&heard);
    ask(world, &(struct ls__replay_message){
                   .kind = LS__REPLAY_FETCH, .id = 1, .need = 1, .first = 1, .last = UINT64_MAX});
    world_run(world, SECOND);
    assert_int_equal(decoded(world, &heard).count, 50);
    world_write(world, 3, 40, 200000);
    world_fill(world, 0, 2040, 2040);
    ask(world, &(struct ls__replay_message){
                   .kind = LS__REPLAY_FETCH, .id = 2, .need = 1, .first = 2001, .last = 2040});
    world_run(world, SECOND);
    struct ls__replay_message answer = decoded(world, &heard);
    assert_in_range(answer.count, 5, 39);
    assert_true(answer.payload_bytes <= LS_REPLAY_BYTES_MAX);
    world_close(world);
}

TEST(provider, answers_what_it_no_longer_holds_with_what_it_holds)
{
    static struct heard heard;
    heard = (struct heard){.count = 0};
    struct world *world = with_provider(&heard);
    world_prune(world, 0, 700);
    ask(world, &(struct ls__replay_message){
                   .kind = LS__REPLAY_FETCH, .id = 1, .need = 1, .first = 600, .last = 800});
    world_run(world, SECOND);
    struct ls__replay_message answer = decoded(world, &heard);
    assert_int_equal(answer.kind, LS__REPLAY_AVAILABILITY);
    assert_int_equal(answer.held_first, 701);
    world_close(world);
}

TEST(provider, drops_questions_beyond_a_bound_while_the_queue_is_full)
{
    static struct heard heard;
    heard = (struct heard){.count = 0};
    struct world *world = with_provider(&heard);
    world->nodes[0].queue_bytes_max = 1;
    world->latency_min_us = world->latency_max_us = 5000;
    for (uint64_t i = 1; i <= 100; i++) {
        ask(world, &(struct ls__replay_message){
                       .kind = LS__REPLAY_FETCH, .id = i, .need = 1, .first = i, .last = i});
    }
    world_run(world, 10 * SECOND);
    assert_int_equal(heard.count, 1 + LS_REPLAY_PENDING_MAX);
    world_close(world);
}

TEST(provider, refuses_malformed_questions)
{
    static struct heard heard;
    heard = (struct heard){.count = 0};
    struct world *world = with_provider(&heard);
    ask(world, &(struct ls__replay_message){.kind = LS__REPLAY_FETCH, .need = 5, .first = 4});
    ask(world,
        &(struct ls__replay_message){.kind = LS__REPLAY_FETCH, .need = 5, .first = 9, .last = 8});
    ask(world, &(struct ls__replay_message){.kind = LS__REPLAY_AVAILABILITY_REQUEST, .need = 0});
    world_send(world, 3, 0, false, (struct ls_span){"junk", 4});
    world_run(world, SECOND);
    assert_int_equal(world_progress(world, 0).penalties, 4);
    assert_int_equal(heard.count, 0);
    world_close(world);
}

TEST(provider, gives_its_buffers_back_when_the_last_lease_ends)
{
    static struct heard heard;
    heard = (struct heard){.count = 0};
    struct world *world = with_provider(&heard);
    uint64_t before = world->bytes_live;
    ask(world, &(struct ls__replay_message){
                   .kind = LS__REPLAY_FETCH, .id = 1, .need = 1, .first = 1, .last = 9});
    world_run(world, SECOND);
    assert_true(world->bytes_live > before);
    world_run(world, 31 * SECOND);
    assert_int_equal(world->bytes_live, before);
    world_close(world);
}
