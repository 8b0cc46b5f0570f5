/* SPDX-License-Identifier: MIT */
/*
 * The serving side, watched: nothing leaves it that no member has committed. One member's may lie,
 * in every way that a session can and must see through: it says nothing, or too much, at another
 * place, in another order, to another question. In some worlds all are slow: an answer waits, and
 * the session that asked may be over when it arrives.
 */
#include "sync.h"

#include <stdlib.h>

enum { ASK = 1, TELL = 2, FETCH = 3, ENTRIES = 4 };
/* where the message of entries has what */
enum { AT_ATTEMPT = 2, AT_ID = 3, AT_FIRST = 6, AT_COUNT = 7, AT_ENTRIES = 8 };

#define SPELL_US 2000000u
/* fetches that are remembered of one member */
#define ASKED LS_REPLAY_WINDOW_MAX

enum lie {
    LIE_SILENCE,
    LIE_TWICE,
    LIE_CUT,
    LIE_EMPTY,
    LIE_SHORTER,
    LIE_LONGER,
    LIE_ELSEWHERE,
    LIE_TERMS,
    LIE_ID,
    LIE_ATTEMPT,
    LIES
};

/* An answer that waits. */
struct held {
    struct held *next;
    struct ls_peer_id to;
    uint64_t due_us;
    size_t bytes;
    uint8_t data[];
};

struct provider {
    struct sim_relay relay;
    struct ls_provider_context outer;
    struct held *held;
    uint8_t *bytes;
    size_t capacity;
    struct {
        uint64_t id, last;
    } asked[SIM_MEMBERS_MAX][ASKED]; /* by each member, the latest */
};

static void check_committed(struct provider *provider, ls_index last)
{
    struct sim_side *side = provider->relay.side;
    struct sim_sync *sync = side->world->sync;
    ls_index own = provider->relay.outer.committed(provider->relay.outer.self).index;
    ls_index committed = own > sync->committed ? own : sync->committed;
    if (last > committed) {
        sim_fail(side->world, "%s offers up to %llu, but no member has committed more than %llu",
                 side->world->members[side->at].name, (unsigned long long)last,
                 (unsigned long long)committed);
    }
}

/* ---- lies ---- */

static void resize(struct ls_value *values, size_t *count, uint64_t entries)
{
    *count = AT_ENTRIES + 3u * (size_t)entries;
    values[AT_COUNT].as.count = 3u * (uint32_t)entries;
}

/* For a while it knows one lie only, then it says any of them now and then (LIES). */
static enum lie spell(const struct sim_sync *sync, uint64_t now_us)
{
    struct sim_random random = {sync->spells ^ now_us / SPELL_US};
    return (enum lie)sim_random_in(&random, 0, LIES);
}

/* An answer that is shorter than what was asked for may go on with anything, and the session has to
 * believe it: members are trusted. One that is full may not. */
static bool is_full(const struct provider *provider, const struct ls_peer_id *to,
                    const struct ls_value *values)
{
    uint32_t peer = sim_member_find(provider->relay.side->world, to);
    uint64_t last = values[AT_FIRST].as.number + values[AT_COUNT].as.count / 3u - 1u;
    for (uint32_t i = 0; peer < SIM_MEMBERS_MAX && i < ASKED; i++) {
        if (provider->asked[peer][i].id == values[AT_ID].as.number) {
            return provider->asked[peer][i].last == last;
        }
    }
    return false;
}

/* Changes the message in place; false: there is nothing to change it into. */
static bool lie_about_entries(struct ls_value *values, size_t *count, enum lie lie,
                              uint32_t entries_max)
{
    uint64_t entries = values[AT_COUNT].as.count / 3u;
    switch ((int)lie) {
    case LIE_EMPTY:
        resize(values, count, 0);
        return true;
    case LIE_SHORTER:
        resize(values, count, (entries + 1) / 2);
        return true;
    case LIE_LONGER: /* than any range: one more than was sent might be what was asked for */
        for (; entries <= entries_max; entries++) {
            (void)memcpy(&values[*count], &values[*count - 3], 3 * sizeof *values);
            resize(values, count, entries + 1);
        }
        return true;
    case LIE_ELSEWHERE:
        values[AT_FIRST].as.number++;
        return true;
    case LIE_TERMS:
        values[AT_ENTRIES + 3u * (size_t)(entries - 1)].as.number = 0;
        return true;
    case LIE_ID:
        values[AT_ID].as.number += 1000000u;
        return true;
    default:
        return false;
    }
}

static enum ls_status send_lie(struct provider *provider, const struct ls_peer_id *to,
                               struct ls_span message, enum lie lie)
{
    struct sim_relay *relay = &provider->relay;
    struct sim_sync *sync = relay->side->world->sync;
    struct ls_value *values = sync->values;
    size_t count = 0;
    if (lie == LIE_SILENCE) {
        return LS_OK;
    }
    if (lie == LIE_TWICE) {
        (void)relay->outer.send_to(relay->outer.self, to, message);
    } else if (lie == LIE_CUT) {
        message.bytes /= 2;
    } else if (sim_sync_peek(relay->outer.env, sync, message, &count)) {
        bool changed = lie == LIE_ATTEMPT;
        values[AT_ATTEMPT].as.number += lie == LIE_ATTEMPT ? 1 : 0;
        if (values[1].as.number == ENTRIES &&
            (lie != LIE_LONGER || is_full(provider, to, values))) {
            changed = lie_about_entries(values, &count, lie, sync->options.entries_max) || changed;
        } else if (values[1].as.number == TELL && lie == LIE_LONGER) {
            values[4].as.number += 50; /* more than it holds */
            changed = true;
        }
        const struct ls_codec *codec = &relay->outer.env->codec;
        size_t room = (message.bytes + 1024) * (sync->options.entries_max + 1u);
        if (room > provider->capacity) {
            provider->bytes = realloc(provider->bytes, room);
            LS_ASSERT(provider->bytes != NULL);
            provider->capacity = room;
        }
        size_t written = 0;
        if (changed &&
            codec->encode(codec->self, values, count, provider->bytes, room, &written) == LS_OK) {
            message = (struct ls_span){provider->bytes, written};
        }
    }
    return relay->outer.send_to(relay->outer.self, to, message);
}

/* ---- slowness ---- */

static void hold(struct provider *provider, const struct ls_peer_id *to, struct ls_span message)
{
    struct sim_relay *relay = &provider->relay;
    struct sim_sync *sync = relay->side->world->sync;
    struct held *held = sim_allocate(sizeof *held + message.bytes);
    held->to = *to;
    held->due_us = relay->outer.now_us(relay->outer.self) +
                   sim_random_in(&sync->random, 0, 2000u * (uint64_t)sync->options.timeout_ms);
    held->bytes = message.bytes;
    (void)memcpy(held->data, message.data, message.bytes);
    struct held **at = &provider->held;
    while (*at != NULL && (*at)->due_us <= held->due_us) {
        at = &(*at)->next;
    }
    held->next = *at;
    *at = held;
    relay->outer.wake_at(relay->outer.self, provider->held->due_us);
}

static void send_held(struct provider *provider, bool all)
{
    struct sim_relay *relay = &provider->relay;
    while (provider->held != NULL &&
           (all || provider->held->due_us <= relay->outer.now_us(relay->outer.self))) {
        struct held *held = provider->held;
        provider->held = held->next;
        if (!all) {
            (void)relay->outer.send_to(relay->outer.self, &held->to,
                                       (struct ls_span){held->data, held->bytes});
        }
        free(held);
    }
    if (provider->held != NULL) {
        relay->outer.wake_at(relay->outer.self, provider->held->due_us);
    }
}

/* ---- what it says and hears ---- */

static enum ls_status provider_send(void *self, const struct ls_peer_id *to, struct ls_span message)
{
    struct provider *provider = self;
    struct sim_side *side = provider->relay.side;
    struct sim_sync *sync = side->world->sync;
    size_t count = 0;
    bool read = sim_sync_peek(provider->relay.outer.env, sync, message, &count);
    LS_ASSERT(read);
    if (sync->values[1].as.number == TELL) {
        check_committed(provider, sync->values[4].as.number);
    } else {
        check_committed(provider, sync->values[AT_FIRST].as.number - 1 +
                                      sync->values[AT_COUNT].as.count / 3u);
    }
    bool quiet = side->world->quiet && !sync->eager;
    if (sync->mute_percent > 0 && sim_random_percent(&sync->random, sync->mute_percent)) {
        return LS_OK;
    }
    if (!quiet && sim_random_percent(&sync->random, sync->slow_percent)) {
        hold(provider, to, message);
        return LS_OK;
    }
    enum lie lie = spell(sync, side->world->now_us);
    if (sync->liar != side->at + 1 || quiet ||
        (lie == LIES && !sim_random_percent(&sync->random, sync->lies_percent))) {
        return provider->relay.outer.send_to(provider->relay.outer.self, to, message);
    }
    lie = lie == LIES ? (enum lie)sim_random_in(&sync->random, 0, LIES - 1) : lie;
    sim_note(side->world, "%s: lies, kind %u", side->world->members[side->at].name, (unsigned)lie);
    return send_lie(provider, to, message, lie);
}

static enum ls_sync_verdict provider_receive(void *self, const struct ls_peer_id *from,
                                             struct ls_span message)
{
    struct provider *provider = self;
    struct sim_side *side = provider->relay.side;
    struct world *world = side->world;
    const struct ls_value *values = world->sync->values;
    uint32_t peer = sim_member_find(world, from);
    size_t count = 0;
    bool read = sim_sync_peek(provider->relay.outer.env, world->sync, message, &count);
    uint64_t kind = read ? values[1].as.number : 0;
    if (kind == FETCH && peer < world->count) {
        provider->asked[peer][values[3].as.number % ASKED].id = values[3].as.number;
        provider->asked[peer][values[3].as.number % ASKED].last = values[6].as.number;
    }
    ls_index need = kind == ASK ? values[3].as.number : kind == FETCH ? values[4].as.number : 0;
    uint64_t now = sim_member_now(&world->members[side->at]); /* a turn may take time */
    enum ls_sync_verdict verdict =
        provider->relay.provider.receive(provider->relay.provider.self, from, message);
    if (verdict == LS_SYNC_OK && need != 0 && peer < world->count) {
        side->leases[peer] =
            (struct sim_lease){need, now + 1000u * (uint64_t)world->sync->options.lease_ms};
        if (side->prune_next && kind == FETCH) {
            side->prune_next = false;
            sim_push(world, world->now_us, SIM_PRUNE, side->at, 0, 0);
        }
    }
    return verdict;
}

static bool provider_is_leader(void *self)
{
    struct provider *provider = self;
    return provider->outer.is_leader(provider->outer.base.self);
}

static void provider_poll(void *self)
{
    struct provider *provider = self;
    send_held(provider, false);
    provider->relay.provider.poll(provider->relay.provider.self);
}

static void provider_destroy(void *self)
{
    struct provider *provider = self;
    provider->relay.provider.destroy(provider->relay.provider.self);
    send_held(provider, true);
    free(provider->bytes);
    free(provider);
}

enum ls_status sim_sync_provider(void *self, const struct ls_provider_context *context,
                                 struct ls_sync_provider *out)
{
    struct sim_side *side = self;
    struct provider *provider = sim_allocate(sizeof *provider);
    provider->outer = *context;
    struct ls_provider_context inner = *context;
    sim_relay_make(&provider->relay, side, &context->base, &inner.base);
    inner.base.send_to = provider_send;
    inner.is_leader = provider_is_leader;
    provider->relay.provider.size = sizeof provider->relay.provider;
    enum ls_status status =
        side->replay.create_provider(side->replay.self, &inner, &provider->relay.provider);
    if (status != LS_OK) {
        free(provider);
        return status;
    }
    *out = sim_relay_provider(&provider->relay);
    out->poll = provider_poll;
    out->receive = provider_receive;
    out->destroy = provider_destroy;
    return LS_OK;
}
