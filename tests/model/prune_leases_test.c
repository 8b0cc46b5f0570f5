/* SPDX-License-Identifier: MIT */
/*
 * The prune-safe index, a provider's part: nothing that a session needs whose lease lives, for
 * three sessions that asked for anything at any time, with every commit index and every number of
 * entries to keep.
 */
#include <stdlib.h>

#include "log_replay.h"
#include "test.h"

enum { COMMIT_MAX = 4, SESSIONS = 3, NEEDS = COMMIT_MAX + 2, TIMES = 3 };
#define LEASE_US 1000000u

struct world {
    uint64_t now_us, allocated;
    ls_index commit;
};

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
    ls_index commit = ((struct world *)self)->commit;
    return (struct ls_cursor){commit > 0, commit};
}

static void world_bounds(void *self, ls_index *first, ls_index *last)
{
    *first = 1;
    *last = ((struct world *)self)->commit;
}

static enum ls_status world_send(void *self, const struct ls_peer_id *peer, struct ls_span message)
{
    (void)self;
    (void)peer;
    (void)message;
    return LS_OK;
}

static void ask(const struct ls_sync_provider *provider, const struct ls_env *env, uint32_t session,
                ls_index need)
{
    struct ls_peer_id from = {.bytes = {(uint8_t)(1 + session)}};
    struct ls__replay_message question = {
        .kind = LS__REPLAY_AVAILABILITY_REQUEST, .attempt = 1, .need = need};
    uint8_t bytes[LS__REPLAY_HEAD_BYTES];
    size_t written = ls__replay_encode(&env->codec, &question, bytes);
    assert_int_equal(provider->receive(provider->self, &from, (struct ls_span){bytes, written}),
                     LS_SYNC_OK);
}

/* Each session asks (need 0: never) at one of three times; then every moment around their ends. */
static void run(uint32_t number, ls_index commit, uint64_t keep)
{
    struct world world = {.now_us = 1, .commit = commit};
    struct ls_log_replay_options options = {
        .size = sizeof options, .keep_entries = keep, .lease_ms = LEASE_US / 1000};
    const struct ls_env env = {
        .size = sizeof env, .allocate = world_allocate, .codec = ls_env_default()->codec};
    const struct ls_provider_context context = {.base = {.self = &world,
                                                         .env = &env,
                                                         .now_us = world_now,
                                                         .wake_at = world_wake,
                                                         .committed = world_committed,
                                                         .log_bounds = world_bounds,
                                                         .send_to = world_send}};
    struct ls_statesync replay;
    struct ls_sync_provider provider;
    assert_ok(ls_log_replay(&options, &replay));
    assert_ok(replay.create_provider(replay.self, &context, &provider));
    for (uint64_t time = 0; time < 2 * TIMES; time++) {
        world.now_us = 1 + time * LEASE_US / 2;
        ls_index expected = commit > keep ? commit - keep : 0;
        uint32_t rest = number;
        for (uint32_t i = 0; i < SESSIONS; i++, rest /= NEEDS * TIMES) {
            ls_index need = rest % NEEDS;
            uint64_t asked = rest / NEEDS % TIMES;
            if (need > 0 && time == asked) {
                ask(&provider, &env, i, need);
            }
            bool lives = need > 0 && time >= asked && time < asked + 2;
            expected = lives && need - 1 < expected ? need - 1 : expected;
        }
        assert_true(provider.safe_to_prune_prefix(provider.self) == expected);
    }
    provider.destroy(provider.self);
}

TEST(prune_safe, a_provider_keeps_what_a_session_with_a_lease_needs_and_the_newest_entries)
{
    const uint32_t numbers = NEEDS * TIMES * NEEDS * TIMES * NEEDS * TIMES;
    for (ls_index commit = 0; commit <= COMMIT_MAX; commit++) {
        for (uint32_t number = 0; number < numbers; number++) {
            run(number, commit, 1 + number % 2);
        }
    }
}
