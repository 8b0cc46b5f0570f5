/* SPDX-License-Identifier: MIT */
/*
 * One real member whose leader is this program: it speaks the wire format over a loopback endpoint
 * of its own, and answers forwarded calls and reads early, late, twice, wrongly or not at all.
 */
#include "trio.h"

#include <lockstep/wire.h>

#include <event2/event.h>

#define FORWARDS_MAX 512u

struct forward_seen {
    uint64_t id;
    enum ls_forward_kind kind;
    uint32_t count;
};

struct impostor {
    struct trio trio;
    struct ls_transport transport;
    struct ls_group_id group;
    struct ls_incarnation incarnations[2]; /* of the member, and ours */
    bool up;
    uint32_t ups, downs;
    struct ls_wire_decoder *decoder;
    struct ls_wire_buffer buffer;
    struct forward_seen forwards[FORWARDS_MAX];
    size_t forwards_count;
    uint64_t read_token;
    uint32_t reads_count;
    ls_index acknowledged;
    ls_term vote_term; /* the member asked for our vote in it; 0: never */
};

static const char *on_receive(void *self, const struct ls_group_id *group,
                              const struct ls_peer_id *peer, enum ls_lane lane,
                              struct ls_span bytes)
{
    struct impostor *impostor = self;
    struct ls_wire_frame frame;
    (void)group;
    (void)peer;
    (void)lane;
    assert_ok(ls_wire_decode(impostor->decoder, bytes, &frame, NULL));
    if (frame.kind == LS_WIRE_FORWARD) {
        assert_true(impostor->forwards_count < FORWARDS_MAX);
        impostor->forwards[impostor->forwards_count++] = (struct forward_seen){
            frame.as.forward.id, frame.as.forward.kind, frame.as.forward.count};
    } else if (frame.kind == LS_WIRE_CORE && frame.as.core.kind == LS_MESSAGE_READ_INDEX) {
        impostor->read_token = frame.as.core.as.read_index.token;
        impostor->reads_count++;
    } else if (frame.kind == LS_WIRE_CORE && frame.as.core.kind == LS_MESSAGE_VOTE) {
        impostor->vote_term = frame.as.core.term;
    } else if (frame.kind == LS_WIRE_CORE && frame.as.core.kind == LS_MESSAGE_APPEND_REPLY) {
        assert_true(frame.as.core.as.append_reply.accepted);
        impostor->acknowledged = frame.as.core.as.append_reply.match;
    }
    return NULL;
}

static void on_bond(void *self, const struct ls_bond_notice *notice)
{
    struct impostor *impostor = self;
    if (notice->event == LS_BOND_UP) {
        impostor->incarnations[0] = notice->incarnation;
        impostor->up = true;
        impostor->ups++;
    } else if (notice->event == LS_BOND_DOWN || notice->event == LS_BOND_DEPARTED) {
        impostor->up = false;
        impostor->downs++;
    }
}

static void say(struct impostor *impostor, const struct ls_wire_frame *frame)
{
    const struct ls_peer_id member = ls_identity_id(impostor->trio.members[0].identity);
    assert_ok(ls_wire_encode(frame, &impostor->buffer));
    assert_ok(impostor->transport.send(
        impostor->transport.self, &impostor->group, &member, LS_LANE_CONSENSUS,
        (struct ls_span){impostor->buffer.data, impostor->buffer.bytes}));
}

static bool is_up(struct trio *trio, void *arg)
{
    (void)trio;
    return ((struct impostor *)arg)->up;
}

static bool is_down(struct trio *trio, void *arg)
{
    (void)trio;
    return !((struct impostor *)arg)->up;
}

static bool has_acknowledged(struct trio *trio, void *arg)
{
    (void)trio;
    return ((struct impostor *)arg)->acknowledged >= 2;
}

static void bond(struct impostor *impostor)
{
    struct ls_group_status status;
    ls_group_status(impostor->trio.members[0].group, &status);
    impostor->group = status.id;
    struct ls_bond_hello hello = {.group = status.id, .name = "tally", .member = "b"};
    hello.signature_bytes = 7;
    (void)memcpy(hello.signature, "tally/1", 7);
    const struct ls_peer_id member = ls_identity_id(impostor->trio.members[0].identity);
    assert_ok(impostor->transport.bond_open(impostor->transport.self, &hello, &member, "", NULL));
    trio_until(&impostor->trio, is_up, impostor);
}

/* The founders' configuration and the no-op that opens our term. */
static void lead(struct impostor *impostor)
{
    struct ls_configuration configuration = {.count = 2};
    for (size_t i = 0; i < 2; i++) {
        struct ls_member *member = &configuration.members[i];
        member->id = ls_identity_id(impostor->trio.members[i].identity);
        member->role = LS_MEMBER_VOTER;
        member->incarnation = impostor->incarnations[i];
        (void)memcpy(member->name, impostor->trio.members[i].name, 2);
    }
    ls_configuration_sort(&configuration);
    static uint8_t bytes[LS_CONFIGURATION_BYTES_MAX];
    size_t length = 0;
    assert_ok(ls_configuration_encode(&ls_env_default()->codec, &configuration, bytes, sizeof bytes,
                                      &length));
    const struct ls_entry entries[] = {
        {.term = 1, .kind = LS_ENTRY_CONFIGURATION, .data = {bytes, length}},
        {.term = 1, .kind = LS_ENTRY_NOOP}};
    struct ls_wire_frame frame = {.kind = LS_WIRE_CORE,
                                  .as.core = {.kind = LS_MESSAGE_APPEND,
                                              .term = 1,
                                              .as.append = {.entries = entries, .count = 2}}};
    say(impostor, &frame);
    trio_until(&impostor->trio, has_acknowledged, impostor);
    frame.as.core = (struct ls_message){.kind = LS_MESSAGE_HEARTBEAT,
                                        .term = 1,
                                        .as.heartbeat = {.commit = 2, .sent = 2, .round = 1}};
    say(impostor, &frame);
}

static struct impostor *begin(void)
{
    static struct impostor impostor;
    (void)memset(&impostor, 0, sizeof impostor);
    trio_open(&impostor.trio, 2);
    impostor.trio.options.election_ms = 60000; /* it never stands for election itself */
    impostor.trio.options.heartbeat_ms = 1000;
    assert_ok(ls_wire_decoder_open(ls_env_default(), &impostor.decoder));
    impostor.buffer.env = ls_env_default();
    impostor.incarnations[1].bytes[0] = 1;
    const struct ls_transport_sink sink = {&impostor, on_receive, on_bond};
    assert_ok(ls_loopback_endpoint(impostor.trio.hub, impostor.trio.members[1].identity,
                                   &impostor.transport, NULL));
    assert_ok(impostor.transport.start(impostor.transport.self, impostor.trio.base,
                                       &impostor.incarnations[1], &sink, NULL));
    trio_start(&impostor.trio, 0);
    bond(&impostor);
    lead(&impostor);
    return &impostor;
}

static void end(struct impostor *impostor)
{
    if (impostor->trio.members[0].node != NULL) {
        trio_stop(&impostor->trio, 0);
    }
    impostor->transport.close(impostor->transport.self);
    ls_wire_decoder_close(impostor->decoder);
    ls_wire_buffer_free(&impostor->buffer);
    trio_close(&impostor->trio);
}

static struct ls_group *member_of(const struct impostor *impostor)
{
    return impostor->trio.members[0].group;
}

static uint64_t in_flight(const struct impostor *impostor)
{
    struct ls_group_status status;
    ls_group_status(member_of(impostor), &status);
    return status.in_flight_bytes;
}

static void execute(struct impostor *impostor, uint32_t deadline_ms, struct trio_outcome *out)
{
    static const struct ls_span commands[] = {{"a", 1}, {"b", 1}};
    const struct ls_call_options options = {.deadline_ms = deadline_ms};
    *out = (struct trio_outcome){0};
    assert_ok(ls_group_execute_many(member_of(impostor), commands, 2, &options, trio_done, out));
}

struct count_wanted {
    const struct impostor *impostor;
    size_t count;
};

static bool has_forwards(struct trio *trio, void *arg)
{
    (void)trio;
    const struct count_wanted *wanted = arg;
    return wanted->impostor->forwards_count >= wanted->count;
}

static const struct forward_seen *await_forward(struct impostor *impostor, size_t count)
{
    struct count_wanted wanted = {impostor, count};
    trio_until(&impostor->trio, has_forwards, &wanted);
    return &impostor->forwards[count - 1];
}

static void reply(struct impostor *impostor, uint64_t id, enum ls_status status, uint32_t count)
{
    static const uint64_t one = 1;
    static const struct ls_span replies[3] = {{&one, 8}, {&one, 8}, {&one, 8}};
    const struct ls_wire_frame frame = {.kind = LS_WIRE_FORWARD_REPLY,
                                        .as.forward_reply = {.id = id,
                                                             .status = status,
                                                             .first = {count > 0, 3u * (count > 0)},
                                                             .count = count,
                                                             .replies = replies}};
    say(impostor, &frame);
}

/* Until all that was said has been heard: a later call's answer comes after it. */
static void settle(struct impostor *impostor)
{
    struct trio_outcome outcome;
    size_t count = impostor->forwards_count;
    execute(impostor, 5000, &outcome);
    reply(impostor, await_forward(impostor, count + 1)->id, LS_OK, 2);
    trio_wait(&impostor->trio, &outcome);
    assert_int_equal(outcome.status, LS_OK);
}

TEST(forged, the_answer_of_the_leader_ends_the_call)
{
    struct impostor *impostor = begin();
    struct trio_outcome outcome;
    execute(impostor, 5000, &outcome);
    const struct forward_seen *forward = await_forward(impostor, 1);
    assert_int_equal(forward->kind, LS_FORWARD_EXECUTE);
    assert_int_equal(forward->count, 2);
    assert_true(in_flight(impostor) > 0);
    reply(impostor, forward->id, LS_OK, 2);
    trio_wait(&impostor->trio, &outcome);
    assert_int_equal(outcome.status, LS_OK);
    assert_int_equal(outcome.count, 2);
    assert_int_equal(outcome.first.index, 3);
    assert_int_equal(in_flight(impostor), 0);
    end(impostor);
}

TEST(forged, answers_that_come_twice_or_name_another_call_are_ignored)
{
    struct impostor *impostor = begin();
    struct trio_outcome outcome;
    execute(impostor, 5000, &outcome);
    uint64_t id = await_forward(impostor, 1)->id;
    reply(impostor, id + 1, LS_OK, 2);
    reply(impostor, id - 1, LS_ERR_UNKNOWN, 0);
    reply(impostor, id, LS_OK, 2);
    reply(impostor, id, LS_OK, 2);
    reply(impostor, id, LS_ERR_NOT_LEADER, 0);
    trio_wait(&impostor->trio, &outcome);
    settle(impostor);
    assert_int_equal(outcome.status, LS_OK);
    assert_int_equal(outcome.times, 1);
    assert_int_equal(impostor->forwards_count, 2);
    assert_int_equal(in_flight(impostor), 0);
    end(impostor);
}

TEST(forged, an_answer_after_the_deadline_comes_to_nothing)
{
    struct impostor *impostor = begin();
    struct trio_outcome outcome;
    execute(impostor, 30, &outcome);
    uint64_t id = await_forward(impostor, 1)->id;
    trio_wait(&impostor->trio, &outcome);
    assert_int_equal(outcome.status, LS_ERR_UNKNOWN);
    reply(impostor, id, LS_OK, 2);
    settle(impostor);
    assert_int_equal(outcome.times, 1);
    assert_int_equal(in_flight(impostor), 0);
    end(impostor);
}

TEST(forged, an_answer_with_another_number_of_replies_is_no_answer)
{
    struct impostor *impostor = begin();
    for (uint32_t count = 1; count <= 3; count += 2) {
        struct trio_outcome outcome;
        execute(impostor, 5000, &outcome);
        reply(impostor, await_forward(impostor, impostor->forwards_count + 1)->id, LS_OK, count);
        trio_wait(&impostor->trio, &outcome);
        assert_int_equal(outcome.status, LS_ERR_UNKNOWN);
        assert_int_equal(outcome.count, 0);
    }
    assert_int_equal(in_flight(impostor), 0);
    end(impostor);
}

TEST(forged, success_without_a_place_in_the_log_is_no_answer)
{
    struct impostor *impostor = begin();
    struct trio_outcome fed = {0}, executed;
    assert_ok(ls_group_feed(member_of(impostor), (struct ls_span){"x", 1}, NULL, trio_done, &fed));
    reply(impostor, await_forward(impostor, 1)->id, LS_OK, 0);
    trio_wait(&impostor->trio, &fed);
    assert_int_equal(fed.status, LS_ERR_UNKNOWN);
    execute(impostor, 5000, &executed);
    reply(impostor, await_forward(impostor, 2)->id, LS_OK, 0);
    trio_wait(&impostor->trio, &executed);
    assert_int_equal(executed.status, LS_ERR_UNKNOWN);
    end(impostor);
}

TEST(forged, a_leader_that_closes_or_halts_does_not_end_calls_of_others)
{
    static const enum ls_status nothing_done[] = {LS_ERR_CLOSED,     LS_ERR_HALTED,
                                                  LS_ERR_NOT_LEADER, LS_ERR_NO_LEADER,
                                                  LS_ERR_BUSY,       LS_ERR_NO_MEMORY};
    struct impostor *impostor = begin();
    struct trio_outcome outcome;
    execute(impostor, 5000, &outcome);
    for (size_t i = 0; i < sizeof nothing_done / sizeof nothing_done[0]; i++) {
        reply(impostor, await_forward(impostor, i + 1)->id, nothing_done[i], 0);
    }
    reply(impostor, await_forward(impostor, 7)->id, LS_OK, 2);
    trio_wait(&impostor->trio, &outcome);
    assert_int_equal(outcome.status, LS_OK);
    assert_int_equal(outcome.times, 1);
    end(impostor);
}

static uint64_t now_ms(void)
{
    return ls_env_default()->now_us(NULL) / 1000u;
}

/* K11, K2: what is refused again and again is asked again at a pace, and until its deadline only.
 */
TEST(forged, a_call_that_is_refused_again_and_again_is_not_sent_in_a_circle)
{
    struct impostor *impostor = begin();
    struct trio_outcome outcome;
    uint64_t start = now_ms();
    size_t answered = 0;
    execute(impostor, 150, &outcome);
    while (!outcome.fired) {
        (void)event_base_loop(impostor->trio.base, EVLOOP_ONCE);
        while (answered < impostor->forwards_count) {
            reply(impostor, impostor->forwards[answered++].id, LS_ERR_NOT_LEADER, 0);
        }
    }
    assert_int_equal(outcome.status, LS_ERR_NO_LEADER); /* nothing was done */
    assert_true(impostor->forwards_count >= 2);
    assert_true(impostor->forwards_count <= (now_ms() - start) / 9 + 2);
    assert_int_equal(in_flight(impostor), 0);
    end(impostor);
}

TEST(forged, a_leader_that_is_busy_until_the_deadline_leaves_the_call_busy)
{
    struct impostor *impostor = begin();
    struct trio_outcome outcome;
    size_t answered = 0;
    execute(impostor, 100, &outcome);
    while (!outcome.fired) {
        (void)event_base_loop(impostor->trio.base, EVLOOP_ONCE);
        while (answered < impostor->forwards_count) {
            reply(impostor, impostor->forwards[answered++].id, LS_ERR_BUSY, 0);
        }
    }
    assert_int_equal(outcome.status, LS_ERR_BUSY);
    end(impostor);
}

/* K4 */
TEST(forged, calls_under_way_end_as_unknown_when_the_link_breaks)
{
    struct impostor *impostor = begin();
    struct trio_outcome executed, fed = {0}, transferred = {0};
    execute(impostor, 5000, &executed);
    assert_ok(ls_group_feed(member_of(impostor), (struct ls_span){"x", 1}, NULL, trio_done, &fed));
    assert_ok(ls_group_transfer(member_of(impostor), NULL, NULL, trio_done, &transferred));
    (void)await_forward(impostor, 3);
    const struct ls_peer_id member = ls_identity_id(impostor->trio.members[0].identity);
    impostor->transport.bond_close(impostor->transport.self, &impostor->group, &member);
    trio_wait(&impostor->trio, &executed);
    trio_wait(&impostor->trio, &fed);
    trio_wait(&impostor->trio, &transferred);
    assert_int_equal(executed.status, LS_ERR_UNKNOWN);
    assert_int_equal(fed.status, LS_ERR_UNKNOWN);
    assert_int_equal(transferred.status, LS_ERR_UNKNOWN);
    assert_int_equal(in_flight(impostor), 0);
    end(impostor);
}

static bool has_asked_for_a_vote(struct trio *trio, void *arg)
{
    (void)trio;
    return ((struct impostor *)arg)->vote_term != 0;
}

/* The former leader froze: it neither answers nor loses its link. */
TEST(forged, calls_under_way_to_a_former_leader_end_as_unknown)
{
    struct impostor *impostor = begin();
    struct trio_outcome outcome;
    execute(impostor, 3600000, &outcome);
    (void)await_forward(impostor, 1);
    struct ls_wire_frame frame = {.kind = LS_WIRE_CORE,
                                  .as.core = {.kind = LS_MESSAGE_TIMEOUT_NOW, .term = 1}};
    say(impostor, &frame);
    trio_until(&impostor->trio, has_asked_for_a_vote, impostor);
    frame.as.core = (struct ls_message){.kind = LS_MESSAGE_VOTE_REPLY,
                                        .term = impostor->vote_term,
                                        .as.vote_reply = {.granted = true, .transfer = true}};
    say(impostor, &frame);
    trio_wait(&impostor->trio, &outcome);
    assert_int_equal(outcome.status, LS_ERR_UNKNOWN);
    assert_int_equal(in_flight(impostor), 0);
    end(impostor);
}

static void restart(struct impostor *impostor)
{
    trio_stop(&impostor->trio, 0);
    trio_until(&impostor->trio, is_down, impostor);
    trio_start(&impostor->trio, 0);
    trio_until(&impostor->trio, is_up, impostor);
    const struct ls_wire_frame frame = {.kind = LS_WIRE_CORE,
                                        .as.core = {.kind = LS_MESSAGE_APPEND,
                                                    .term = 1,
                                                    .as.append = {.prev = {1, 2}, .commit = 2}}};
    say(impostor, &frame);
}

/* The leader may answer a call of the process that was here before. */
TEST(forged, an_answer_to_a_call_of_an_earlier_life_is_for_nobody)
{
    struct impostor *impostor = begin();
    struct trio_outcome before, after;
    execute(impostor, 5000, &before);
    uint64_t id = await_forward(impostor, 1)->id;
    restart(impostor);
    assert_int_equal(before.status, LS_ERR_UNKNOWN);
    assert_int_equal(before.times, 1);
    execute(impostor, 5000, &after);
    (void)await_forward(impostor, 2);
    reply(impostor, id, LS_OK, 2); /* of the first */
    settle(impostor);
    assert_false(after.fired);
    reply(impostor, impostor->forwards[1].id, LS_OK, 2);
    trio_wait(&impostor->trio, &after);
    assert_int_equal(after.status, LS_OK);
    end(impostor);
}

static bool has_asked(struct trio *trio, void *arg)
{
    (void)trio;
    return ((struct impostor *)arg)->reads_count > 0;
}

static void answer_read(struct impostor *impostor, uint64_t token, ls_index index)
{
    const struct ls_wire_frame frame = {
        .kind = LS_WIRE_CORE,
        .as.core = {.kind = LS_MESSAGE_READ_INDEX_REPLY,
                    .term = 1,
                    .as.read_index_reply = {.token = token, .valid = true, .index = index}}};
    say(impostor, &frame);
}

/* P7: its index may be older than what finished before the new read began. */
TEST(forged, an_answer_to_a_read_of_an_earlier_life_confirms_nothing)
{
    struct impostor *impostor = begin();
    struct trio_outcome before = {0}, after = {0};
    assert_ok(ls_group_query(member_of(impostor), LS_STRONG, (struct ls_span){"", 0}, NULL,
                             trio_done, &before));
    trio_until(&impostor->trio, has_asked, impostor);
    uint64_t token = impostor->read_token;
    restart(impostor);
    assert_int_equal(before.status, LS_ERR_CLOSED);
    impostor->reads_count = 0;
    assert_ok(ls_group_query(member_of(impostor), LS_STRONG, (struct ls_span){"", 0}, NULL,
                             trio_done, &after));
    trio_until(&impostor->trio, has_asked, impostor);
    answer_read(impostor, token, 1);
    settle(impostor);
    assert_false(after.fired);
    answer_read(impostor, impostor->read_token, 2);
    trio_wait(&impostor->trio, &after);
    assert_int_equal(after.status, LS_OK);
    end(impostor);
}

TEST(forged, a_message_that_breaks_the_protocol_costs_the_link)
{
    struct impostor *impostor = begin();
    const struct ls_peer_id member = ls_identity_id(impostor->trio.members[0].identity);
    struct trio_outcome outcome;
    execute(impostor, 5000, &outcome);
    (void)await_forward(impostor, 1);
    assert_ok(impostor->transport.send(impostor->transport.self, &impostor->group, &member,
                                       LS_LANE_CONSENSUS, (struct ls_span){"\x93\x01", 2}));
    trio_until(&impostor->trio, is_down, impostor);
    trio_wait(&impostor->trio, &outcome);
    assert_int_equal(outcome.status, LS_ERR_UNKNOWN);
    trio_until(&impostor->trio, is_up, impostor);
    struct ls_group_bond bond_seen;
    assert_int_equal(ls_group_bonds(member_of(impostor), &bond_seen, 1), 1);
    assert_int_equal(bond_seen.info.malformed, 1);
    settle(impostor);
    end(impostor);
}
