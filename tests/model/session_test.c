/* SPDX-License-Identifier: MIT */
/*
 * A log replay session through every sequence, up to a depth, of what can happen to it: answers
 * that are whole or short, the newest entries of a leader and of the one after it, a new term,
 * installs that are carried out or refused, a log that lets no more in. Whatever the order, it
 * hands over only what continues the log, as committed only what is committed, and in the end the
 * log holds all that is.
 */
#include <stdlib.h>

#include "log_replay.h"
#include "test.h"

#define COMMITTED 3u /* entries 1 to 3, of term 1 */
#define LAST_MAX  5u
#define DEPTH     5u
#define PENDING   2u /* installs that fit the log's queue */
#define STEP_US   1000000u

struct asked {
    ls_index first, last;
    uint64_t id;
};

struct world {
    uint64_t now_us, attempt, token;
    struct ls_env env;
    struct ls_sync_session session;
    ls_term log[LAST_MAX + 1];
    ls_index last, commit;
    struct asked asked;
    bool was_asked, about_held;
    uint64_t tokens[PENDING];
    uint32_t tokens_count;
    bool invalid[PENDING]; /* does not fit the log any more */
    bool refused;          /* entries that are committed: the session fails, and another begins */
};

static const struct ls_peer_id peer = {{2}};
static uint64_t done, failures, of_newest;

static void *world_allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, bytes);
}

static uint64_t world_now(void *self)
{
    return ((struct world *)self)->now_us;
}

static void world_wake(void *self, uint64_t at_us)
{
    (void)self;
    (void)at_us;
}

static struct ls_cursor world_committed(void *self)
{
    const struct world *world = self;
    return (struct ls_cursor){world->log[world->commit], world->commit};
}

static size_t world_bonds(void *self, struct ls_sync_bond *out, size_t capacity)
{
    (void)self;
    assert_true(capacity > 0);
    out[0] = (struct ls_sync_bond){.peer = peer};
    return 1;
}

static bool world_leader(void *self, struct ls_peer_id *out)
{
    (void)self;
    (void)out;
    return false;
}

static enum ls_status world_send(void *self, const struct ls_peer_id *to, struct ls_span bytes)
{
    struct world *world = self;
    struct ls_value values[16];
    struct ls__replay_message message;
    assert_true(ls_peer_id_equal(to, &peer));
    assert_null(ls__replay_decode(&world->env.codec, bytes, values, 16, &message));
    world->attempt = message.attempt;
    if (message.kind == LS__REPLAY_FETCH) {
        assert_true(message.last <= COMMITTED);
        world->asked = (struct asked){message.first, message.last, message.id};
        world->was_asked = true;
    } else {
        world->about_held = true;
    }
    return LS_OK;
}

/* The rule of AppendEntries. False: it does not continue the log. */
static bool take(struct world *world, struct ls_cursor prev, const struct ls_entry *entries,
                 uint32_t count)
{
    if (prev.index > world->last || world->log[prev.index] != prev.term) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        ls_index index = prev.index + 1 + i;
        assert_true(index <= LAST_MAX);
        if (index <= world->last && world->log[index] != entries[i].term) {
            assert_true(index > world->commit); /* P4 */
            world->last = index - 1;
        }
        if (index > world->last) {
            world->log[index] = entries[i].term;
            world->last = index;
        }
    }
    return true;
}

static uint64_t world_install(void *self, ls_term term, struct ls_cursor prev,
                              const struct ls_entry *entries, uint32_t count, ls_index commit)
{
    struct world *world = self;
    if (world->tokens_count == PENDING) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool committed = prev.index + 1 + i <= COMMITTED;
        assert_true(term != 0 || committed);
        assert_true(!committed || entries[i].term == 1);
        assert_true(term == 0 || entries[i].term <= term);
    }
    of_newest += term != 0;
    bool taken = take(world, prev, entries, count);
    ls_index end = prev.index + count;
    end = end < commit ? end : commit;
    if (taken && end > world->commit) {
        world->commit = end < COMMITTED ? end : COMMITTED;
    }
    world->invalid[world->tokens_count] = !taken;
    world->tokens[world->tokens_count++] = ++world->token;
    return world->token;
}

/* ---- what happens ---- */

static bool poll(struct world *world)
{
    struct ls_cursor at = {0, 0};
    const char *reason = NULL;
    enum ls_session_state state = world->session.poll(world->session.self, &at, &reason);
    if (state == LS_SESSION_FAILED) {
        assert_true(world->refused);
        failures++;
        return true;
    }
    if (state == LS_SESSION_DONE) {
        assert_true(at.index >= COMMITTED && world->last >= COMMITTED);
        done++;
        return true;
    }
    return false;
}

static void held(struct world *world)
{
    struct ls__replay_message message = {.kind = LS__REPLAY_AVAILABILITY,
                                         .attempt = world->attempt,
                                         .held_first = 1,
                                         .held_last = COMMITTED};
    uint8_t bytes[LS__REPLAY_HEAD_BYTES];
    if (world->about_held) {
        size_t written = ls__replay_encode(&world->env.codec, &message, bytes);
        world->about_held = false;
        (void)world->session.receive(world->session.self, &peer, (struct ls_span){bytes, written});
    }
}

static void answer(struct world *world, bool whole)
{
    struct ls_value values[LS__REPLAY_HEAD_VALUES + 3 * LAST_MAX];
    const struct ls_entry entry = {1, LS_ENTRY_COMMAND, {"x", 1}};
    uint8_t bytes[256];
    size_t written = 0;
    if (!world->was_asked) {
        return;
    }
    ls_index last = whole ? world->asked.last : world->asked.first;
    const struct ls__replay_message message = {.kind = LS__REPLAY_ENTRIES,
                                               .attempt = world->attempt,
                                               .id = world->asked.id,
                                               .held_first = 1,
                                               .held_last = COMMITTED,
                                               .first = world->asked.first,
                                               .count = (uint32_t)(last - world->asked.first + 1)};
    size_t count = ls__replay_entries_head(&message, values);
    for (uint32_t i = 0; i < message.count; i++, count += 3) {
        ls__replay_put_entry(values + count, &entry);
    }
    const struct ls_codec *codec = &world->env.codec;
    assert_ok(codec->encode(codec->self, values, count, bytes, sizeof bytes, &written));
    world->was_asked = false;
    enum ls_sync_verdict verdict =
        world->session.receive(world->session.self, &peer, (struct ls_span){bytes, written});
    assert_true(verdict == LS_SYNC_OK || verdict == LS_SYNC_IGNORE);
}

/* A leader's entries from after `prev` to 5: committed ones as they are, the rest of its term. */
static void newest(struct world *world, ls_term term, ls_index prev)
{
    struct ls_entry entries[LAST_MAX];
    uint32_t count = 0;
    for (ls_index index = prev + 1; index <= LAST_MAX; index++) {
        entries[count++] = (struct ls_entry){
            .term = index <= COMMITTED ? 1 : term, .kind = LS_ENTRY_COMMAND, .data = {"y", 1}};
    }
    (void)world->session.buffer(world->session.self, term, (struct ls_cursor){prev > 0, prev},
                                entries, count);
}

static void effect(struct world *world, bool carried_out)
{
    if (world->tokens_count == 0) {
        return;
    }
    uint64_t token = world->tokens[0];
    bool ok = carried_out && !world->invalid[0];
    world->tokens_count--;
    memmove(world->tokens, world->tokens + 1, world->tokens_count * sizeof world->tokens[0]);
    memmove(world->invalid, world->invalid + 1, world->tokens_count * sizeof world->invalid[0]);
    world->refused = world->refused || !ok;
    world->session.effect(world->session.self, token, ok ? LS_OK : LS_ERR_INVALID);
}

enum happening {
    POLL,
    WHOLE,
    SHORT,
    NEWEST,
    NEWEST_BEFORE,
    NEXT_LEADER,
    TERM,
    CARRIED_OUT,
    REFUSED
};
enum { HAPPENINGS = REFUSED + 1 };

/* True: the session has ended. */
static bool happen(struct world *world, enum happening what)
{
    switch (what) {
    case POLL:
        held(world);
        return poll(world);
    case WHOLE:
    case SHORT:
        answer(world, what == WHOLE);
        break;
    case NEWEST:
        newest(world, 1, COMMITTED);
        break;
    case NEWEST_BEFORE:
        newest(world, 1, 1);
        break;
    case NEXT_LEADER:
        newest(world, 2, COMMITTED - 1);
        break;
    case TERM:
        world->session.term(world->session.self, 2);
        break;
    case CARRIED_OUT:
    case REFUSED:
        effect(world, what == CARRIED_OUT);
        break;
    }
    return false;
}

/* Nobody answers wrongly here. */
static uint64_t world_strike(void *self, const struct ls_peer_id *from, const char *reason)
{
    (void)self;
    (void)from;
    fail_msg("%s", reason);
    return 0;
}

static uint64_t world_avoided(void *self, const struct ls_peer_id *from)
{
    (void)self;
    (void)from;
    return 0;
}

static void run(uint32_t number)
{
    struct world world = {.now_us = STEP_US, .env = {.size = sizeof world.env}};
    world.env.allocate = world_allocate;
    world.env.codec = ls_env_default()->codec;
    const struct ls_session_context context = {.base = {.self = &world,
                                                        .env = &world.env,
                                                        .now_us = world_now,
                                                        .wake_at = world_wake,
                                                        .committed = world_committed,
                                                        .send_to = world_send,
                                                        .bonds = world_bonds,
                                                        .strike = world_strike,
                                                        .avoided = world_avoided},
                                               .leader = world_leader,
                                               .install = world_install,
                                               .generation = 1};
    const struct ls_sync_gap gap = {.commit = 0, .target = COMMITTED, .term = 1};
    struct ls_log_replay_options options = {.size = sizeof options, .entries_max = 2, .window = 1};
    struct ls_statesync replay;
    assert_ok(ls_log_replay(&options, &replay));
    assert_ok(replay.create_session(replay.self, &context, &gap, &world.session));
    bool over = happen(&world, POLL) || happen(&world, POLL);
    for (unsigned i = 0; i < DEPTH && !over; i++, number /= HAPPENINGS) {
        over = happen(&world, (enum happening)(number % HAPPENINGS));
    }
    for (unsigned rounds = 0; !over; rounds++) { /* from here on all goes well */
        assert_true(rounds < 40);
        world.now_us += STEP_US;
        answer(&world, true);
        effect(&world, true);
        over = happen(&world, POLL);
    }
    world.session.destroy(world.session.self);
}

TEST(session, in_every_order_of_events_it_hands_over_what_continues_the_log_and_ends)
{
    uint32_t sequences = 1;
    for (unsigned i = 0; i < DEPTH; i++) {
        sequences *= HAPPENINGS;
    }
    for (uint32_t number = 0; number < sequences; number++) {
        run(number);
    }
    assert_true(done > sequences / 2 && failures > 100 && of_newest > 1000);
    assert_int_equal(done + failures, sequences);
}
