/* SPDX-License-Identifier: MIT */
/*
 * The serving side of the snapshot strategy, watched: what it offers is committed, a state that
 * somebody still has a lease on stays frozen, and the log behind it stays. One at a time may lie,
 * in every way that a session can see through: about counts, place, table and chunks.
 */
#include "snapshots.h"

#include <stdlib.h>

#define U(number) ((unsigned long long)(number))

enum { OFFER = 2, TABLE_ASK = 3, TABLE = 4, CHUNK_ASK = 6, CHUNK = 7, GONE = 8 };
/* where the messages have what */
enum { AT_KIND = 1, AT_ATTEMPT = 2, AT_ID = 3 };
enum { OFFER_TERM = 3, OFFER_INDEX = 4, OFFER_ITEMS = 5, OFFER_BYTES = 6 };
enum { ASK_TERM = 4, ASK_INDEX = 5 };
enum { TABLE_CHUNKS = 4, TABLE_ROOT = 5, TABLE_CONFIGURATION = 7, TABLE_ROWS = 10 };
enum { CHUNK_BYTES = 4 };

#define SPELL_US 4000000u

enum lie {
    LIE_SILENCE,
    LIE_TWICE,
    LIE_CUT,
    LIE_ID,
    LIE_ATTEMPT,
    LIE_COUNTS,  /* of an offer */
    LIE_ABOVE,   /* an anchor that nobody has committed */
    LIE_TERM,    /* an anchor that nobody has */
    LIE_ROOT,    /* of a table, and what it adds up to */
    LIE_HASH,    /* of one chunk */
    LIE_CHUNKS,  /* how many */
    LIE_MEMBERS, /* the configuration */
    LIE_BYTES,   /* of a chunk */
    LIE_SHORT,   /* a chunk without its end */
    LIE_GONE,
    LIES
};

/* of each message, beside what can be said of all */
static const uint32_t offers[] = {LIE_COUNTS, LIE_ABOVE, LIE_TERM};
static const uint32_t tables[] = {LIE_ID, LIE_ROOT, LIE_HASH, LIE_CHUNKS, LIE_MEMBERS, LIE_GONE};
static const uint32_t chunks[] = {LIE_BYTES, LIE_BYTES, LIE_BYTES, LIE_SHORT, LIE_GONE, LIE_ID};

struct snap_provider {
    struct sim_relay relay;
    struct ls_provider_context outer;
    struct {
        uint64_t id;
        struct ls_cursor anchor;
        uint64_t until_us; /* leased; by its clock */
    } frozen[LS_SNAPSHOT_ANCHORS_MAX + 1];
    uint64_t now_us; /* when it was called */
    uint8_t *bytes, *part;
    size_t capacity, part_capacity;
    bool closing;
};

static struct sim_member *member_of(const struct snap_provider *provider)
{
    return &provider->relay.side->world->members[provider->relay.side->at];
}

static void enter(struct snap_provider *provider)
{
    provider->now_us = sim_member_now(member_of(provider));
}

/* ---- leases ---- */

static void lease(struct snap_provider *provider, struct ls_cursor anchor)
{
    uint64_t lease_us = 1000u * (uint64_t)provider->relay.side->world->sync->snapshot.lease_ms;
    for (size_t i = 0; i <= LS_SNAPSHOT_ANCHORS_MAX; i++) {
        if (provider->frozen[i].id != 0 &&
            ls_cursor_compare(provider->frozen[i].anchor, anchor) == 0) {
            provider->frozen[i].until_us = provider->now_us + lease_us;
        }
    }
}

void sim_snapshot_check_prune(struct sim_side *side, ls_index upto)
{
    const struct snap_provider *provider = side->snap_provider;
    uint64_t now = sim_member_now(&side->world->members[side->at]);
    for (size_t i = 0; provider != NULL && i <= LS_SNAPSHOT_ANCHORS_MAX; i++) {
        if (provider->frozen[i].id != 0 && provider->frozen[i].until_us > now &&
            provider->frozen[i].anchor.index < upto) {
            sim_fail(side->world, "%s prunes up to %llu, and offers a state at %llu",
                     side->world->members[side->at].name, U(upto),
                     U(provider->frozen[i].anchor.index));
        }
    }
}

/* A member that lags by more than the setting holds nobody's log, nor one that has not answered
 * since this one leads more than that. What a turn did with is between its beginning and end. */
void sim_snapshot_turn(struct sim_side *side, const struct ls_core_status *core)
{
    struct world *world = side->world;
    uint64_t lag = world->sync->lag_entries;
    if (core->role != LS_ROLE_LEADER) {
        return;
    }
    for (uint32_t i = 0; i < core->progress_count; i++) {
        uint32_t at = sim_member_find(world, &core->progress[i].id);
        if (at == world->count) {
            continue;
        }
        ls_index before = side->match_term == core->term ? side->match[at] : 0;
        ls_index match = core->progress[i].match;
        struct sim_side *peer = &world->sync->sides[at];
        if (core->commit > before && core->commit - before > lag) {
            ls_index upto = before == 0 && match == 0 ? core->commit - lag : core->commit;
            peer->given_up = upto > peer->given_up ? upto : peer->given_up;
        }
        side->match[at] = match;
    }
    side->match_term = core->term;
}

void sim_snapshot_leads(struct sim_member *member)
{
    struct world *world = member->world;
    if (world->sync->snapshots) {
        struct ls_group_status status;
        sim_glance_of(member, member->shadow.of, &status);
        sim_snapshot_turn(&world->sync->sides[member->at], &status.core);
    }
}

static enum ls_status provider_freeze(void *self, struct ls_sync_frozen *out)
{
    struct snap_provider *provider = self;
    enum ls_status status = provider->outer.freeze(provider->outer.base.self, out);
    for (size_t i = 0; status == LS_OK && i <= LS_SNAPSHOT_ANCHORS_MAX; i++) {
        if (provider->frozen[i].id == 0) {
            provider->frozen[i].id = out->id;
            provider->frozen[i].anchor = out->anchor;
            provider->frozen[i].until_us = 0;
            break;
        }
    }
    return status;
}

static void provider_thaw(void *self, uint64_t id)
{
    struct snap_provider *provider = self;
    uint64_t now = sim_member_now(member_of(provider));
    for (size_t i = 0; i <= LS_SNAPSHOT_ANCHORS_MAX; i++) {
        if (provider->frozen[i].id == id) {
            if (provider->frozen[i].until_us > now && !provider->closing) {
                sim_fail(provider->relay.side->world,
                         "%s drops the state at %llu, which somebody has a lease on",
                         member_of(provider)->name, U(provider->frozen[i].anchor.index));
            }
            provider->frozen[i].id = 0;
        }
    }
    provider->outer.thaw(provider->outer.base.self, id);
}

/* ---- lies ---- */

static struct ls_span copy(struct snap_provider *provider, struct ls_span from)
{
    if (from.bytes + 1 > provider->part_capacity) {
        provider->part = realloc(provider->part, from.bytes + 1);
        LS_ASSERT(provider->part != NULL);
        provider->part_capacity = from.bytes + 1;
    }
    if (from.bytes > 0) {
        (void)memcpy(provider->part, from.data, from.bytes);
    }
    return (struct ls_span){provider->part, from.bytes};
}

static bool flip(struct snap_provider *provider, struct ls_value *value, struct sim_random *random)
{
    struct ls_span bytes = copy(provider, value->as.bytes);
    if (bytes.bytes == 0) {
        return false;
    }
    provider->part[sim_random_in(random, 0, bytes.bytes - 1)] ^= 1;
    value->as.bytes = bytes;
    return true;
}

static bool lie_about_offer(struct ls_value *values, enum lie lie, struct sim_random *random)
{
    if (values[OFFER_INDEX].as.number == 0) {
        return false;
    }
    switch ((int)lie) {
    case LIE_COUNTS:
        values[sim_random_percent(random, 50) ? OFFER_ITEMS : OFFER_BYTES].as.number++;
        return true;
    case LIE_ABOVE:
        values[OFFER_INDEX].as.number += sim_random_in(random, 1, 1000);
        return true;
    case LIE_TERM:
        values[OFFER_TERM].as.number++;
        return true;
    default:
        return false;
    }
}

static bool lie_about_table(struct snap_provider *provider, struct ls_value *values, size_t count,
                            enum lie lie, struct sim_random *random)
{
    switch ((int)lie) {
    case LIE_ROOT:
        return flip(provider, &values[TABLE_ROOT], random);
    case LIE_HASH:
        return count > TABLE_ROWS && flip(provider, &values[TABLE_ROWS], random);
    case LIE_CHUNKS:
        values[TABLE_CHUNKS].as.number++;
        return true;
    case LIE_MEMBERS:
        return flip(provider, &values[TABLE_CONFIGURATION], random);
    default:
        return false;
    }
}

static bool lie_about_chunk(struct snap_provider *provider, struct ls_value *values, enum lie lie,
                            struct sim_random *random)
{
    struct ls_value *bytes = &values[CHUNK_BYTES];
    switch ((int)lie) {
    case LIE_BYTES:
        return flip(provider, bytes, random);
    case LIE_SHORT:
        bytes->as.bytes.bytes = (size_t)sim_random_in(random, 0, bytes->as.bytes.bytes);
        return true;
    default:
        return false;
    }
}

/* Changes the message in place; false: there is nothing to change it into. */
static bool change(struct snap_provider *provider, struct ls_value *values, size_t *count,
                   enum lie lie)
{
    struct sim_random *random = &provider->relay.side->world->sync->snapshot_random;
    uint64_t kind = values[AT_KIND].as.number;
    if (lie == LIE_ATTEMPT) {
        values[AT_ATTEMPT].as.number++;
        return true;
    }
    if (kind == OFFER) {
        return lie_about_offer(values, lie, random);
    }
    if (lie == LIE_ID) {
        values[AT_ID].as.number += 1000000u;
        return true;
    }
    if (lie == LIE_GONE && (kind == TABLE || kind == CHUNK)) {
        values[0].as.count = 3;
        values[AT_KIND].as.number = GONE;
        *count = 4;
        return true;
    }
    return kind == TABLE   ? lie_about_table(provider, values, *count, lie, random)
           : kind == CHUNK ? lie_about_chunk(provider, values, lie, random)
                           : false;
}

static enum ls_status send_lie(struct snap_provider *provider, const struct ls_peer_id *to,
                               struct ls_span message, enum lie lie)
{
    struct sim_relay *relay = &provider->relay;
    struct ls_value *values = relay->side->world->sync->values;
    size_t count = 0;
    if (lie == LIE_SILENCE) {
        return LS_OK;
    }
    if (lie == LIE_TWICE) {
        (void)relay->outer.send_to(relay->outer.self, to, message);
    } else if (lie == LIE_CUT) {
        message.bytes /= 2;
    } else if (sim_sync_peek(relay->outer.env, relay->side->world->sync, message, &count) &&
               change(provider, values, &count, lie)) {
        const struct ls_codec *codec = &relay->outer.env->codec;
        size_t room = message.bytes + 64, written = 0;
        if (room > provider->capacity) {
            provider->bytes = realloc(provider->bytes, room);
            LS_ASSERT(provider->bytes != NULL);
            provider->capacity = room;
        }
        if (codec->encode(codec->self, values, count, provider->bytes, room, &written) == LS_OK) {
            message = (struct ls_span){provider->bytes, written};
        }
    }
    return relay->outer.send_to(relay->outer.self, to, message);
}

/* One member at a time lies, for a while nearly always or now and then. LIES: the truth. */
static enum lie choose(struct snap_provider *provider, uint64_t kind)
{
    struct world *world = provider->relay.side->world;
    struct sim_sync *sync = world->sync;
    struct sim_random *random = &sync->snapshot_random;
    struct sim_random spell = {sync->spells ^ (world->now_us / SPELL_US + 1)};
    uint32_t percent = sim_random_percent(&spell, 60) ? 95 : sync->lies_percent;
    uint32_t liar = (uint32_t)sim_random_in(&spell, 0, world->count - 1);
    /* who lies about all of it is not asked for chunks: a run has its subject, or all (0) */
    static const uint64_t subjects[] = {0, OFFER, TABLE, CHUNK, CHUNK, CHUNK};
    uint64_t subject = subjects[sync->spells % (sizeof subjects / sizeof *subjects)];
    if (sync->liar == 0 || liar != provider->relay.side->at || world->quiet ||
        (subject != 0 && kind != subject) || !sim_random_percent(random, percent)) {
        return LIES;
    }
    if (sim_random_percent(random, 15)) {
        return (enum lie)sim_random_in(random, LIE_SILENCE, LIE_ATTEMPT);
    }
    const uint32_t *own = kind == OFFER ? offers : kind == TABLE ? tables : chunks;
    size_t count = kind == OFFER   ? sizeof offers / sizeof *offers
                   : kind == TABLE ? sizeof tables / sizeof *tables
                                   : sizeof chunks / sizeof *chunks;
    return (enum lie)own[sim_random_in(random, 0, count - 1)];
}

/* ---- what it says and hears ---- */

static void check_offer(struct snap_provider *provider, struct ls_cursor anchor)
{
    struct world *world = provider->relay.side->world;
    const struct sim_relay *relay = &provider->relay;
    ls_index committed = world->checks.logs.committed_last;
    ls_index own = relay->outer.committed(relay->outer.self).index; /* maybe in this turn */
    committed = own > committed ? own : committed;
    if (anchor.index > committed) {
        sim_fail(world, "%s offers a state at %llu, but no member has committed more than %llu",
                 member_of(provider)->name, U(anchor.index), U(committed));
    }
}

static enum ls_status provider_send(void *self, const struct ls_peer_id *to, struct ls_span message)
{
    struct snap_provider *provider = self;
    struct sim_side *side = provider->relay.side;
    struct sim_sync *sync = side->world->sync;
    const struct ls_value *values = sync->values;
    size_t count = 0;
    bool read = sim_sync_peek(provider->relay.outer.env, sync, message, &count);
    LS_ASSERT(read);
    if (values[AT_KIND].as.number == OFFER && values[OFFER_INDEX].as.number != 0) {
        struct ls_cursor anchor = {values[OFFER_TERM].as.number, values[OFFER_INDEX].as.number};
        check_offer(provider, anchor);
        lease(provider, anchor);
    }
    enum lie lie = choose(provider, values[AT_KIND].as.number);
    if (lie == LIES) {
        return provider->relay.outer.send_to(provider->relay.outer.self, to, message);
    }
    sync->lied |= 1u << side->at;
    sim_note(side->world, "%s: lies about a snapshot, kind %u", member_of(provider)->name,
             (unsigned)lie);
    return send_lie(provider, to, message, lie);
}

static enum ls_sync_verdict provider_receive(void *self, const struct ls_peer_id *from,
                                             struct ls_span message)
{
    struct snap_provider *provider = self;
    struct world *world = provider->relay.side->world;
    const struct ls_value *values = world->sync->values;
    struct ls_cursor anchor = {0, 0};
    size_t count = 0;
    bool read = sim_sync_peek(provider->relay.outer.env, world->sync, message, &count);
    if (read && count > ASK_INDEX &&
        (values[AT_KIND].as.number == TABLE_ASK || values[AT_KIND].as.number == CHUNK_ASK)) {
        anchor = (struct ls_cursor){values[ASK_TERM].as.number, values[ASK_INDEX].as.number};
    }
    enter(provider);
    enum ls_sync_verdict verdict =
        provider->relay.provider.receive(provider->relay.provider.self, from, message);
    if (verdict == LS_SYNC_OK && anchor.index != 0) {
        lease(provider, anchor);
    }
    return verdict;
}

/* ---- the rest is passed on ---- */

static bool provider_is_leader(void *self)
{
    struct snap_provider *provider = self;
    return provider->outer.is_leader(provider->outer.base.self);
}

static void provider_feed(void *self, struct ls_span payload)
{
    struct snap_provider *provider = self;
    provider->outer.feed_marker(provider->outer.base.self, payload);
}

static enum ls_status provider_iterate(void *self, uint64_t id, struct ls_span from,
                                       ls_item_visit visit, void *arg)
{
    struct snap_provider *provider = self;
    return provider->outer.iterate(provider->outer.base.self, id, from, visit, arg);
}

static void provider_marker(void *self, struct ls_cursor at, struct ls_span payload)
{
    struct snap_provider *provider = self;
    enter(provider);
    provider->relay.provider.marker(provider->relay.provider.self, at, payload);
}

static void provider_poll(void *self)
{
    struct snap_provider *provider = self;
    enter(provider);
    provider->relay.provider.poll(provider->relay.provider.self);
}

static void provider_destroy(void *self)
{
    struct snap_provider *provider = self;
    provider->closing = true;
    provider->relay.side->snap_provider = NULL;
    provider->relay.provider.destroy(provider->relay.provider.self);
    free(provider->bytes);
    free(provider->part);
    free(provider);
}

enum ls_status sim_snapshot_provider(void *self, const struct ls_provider_context *context,
                                     struct ls_sync_provider *out)
{
    struct sim_side *side = self;
    struct snap_provider *provider = sim_allocate(sizeof *provider);
    provider->outer = *context;
    struct ls_provider_context inner = *context;
    sim_relay_make(&provider->relay, side, &context->base, &inner.base);
    inner.base.send_to = provider_send;
    inner.is_leader = provider_is_leader;
    inner.feed_marker = provider_feed;
    inner.freeze = provider_freeze;
    inner.iterate = provider_iterate;
    inner.thaw = provider_thaw;
    provider->relay.provider.size = sizeof provider->relay.provider;
    enum ls_status status =
        side->snapshot.create_provider(side->snapshot.self, &inner, &provider->relay.provider);
    if (status != LS_OK) {
        free(provider);
        return status;
    }
    side->snap_provider = provider;
    *out = sim_relay_provider(&provider->relay);
    out->poll = provider_poll;
    out->receive = provider_receive;
    out->marker = provider_marker;
    out->destroy = provider_destroy;
    return LS_OK;
}
