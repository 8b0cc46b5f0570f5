/* SPDX-License-Identifier: MIT */
/*
 * The serving side of log replay: says which part of the log it holds and reads ranges of it.
 * Committed and durable entries only, capped in entries and bytes. It keeps nothing per request but
 * a lease, which says from where on the log must stay for a session that is being served.
 */
#include "lease.h"
#include "log_replay.h"

/* a full queue is tried again after so long */
#define RETRY_US 20000u
/* the blocks for an answer begin with so much */
#define ROOM_BYTES 65536u

/* A member that asked lately. */
struct client {
    struct ls__lease lease;
    struct ls__replay_message pending[LS_REPLAY_PENDING_MAX]; /* its queue was full */
    uint32_t pending_count;
};

struct provider {
    struct ls_provider_context context;
    struct ls__replay_limits limits;
    struct client clients[LS_MEMBERS_MAX];
    uint64_t leased_us; /* until when any of them has a lease, at most */
    /* for one answer at a time, reused; given back when no lease is left */
    struct ls_value *values;
    uint8_t *payload, *encoded;
    size_t payload_capacity, encoded_capacity;
};

static uint64_t now_of(const struct provider *provider)
{
    return provider->context.base.now_us(provider->context.base.self);
}

static bool reserve(struct provider *provider, uint8_t **block, size_t *capacity, size_t bytes)
{
    return ls__grow(provider->context.base.env, ROOM_BYTES, block, capacity, bytes);
}

static void release_memory(struct provider *provider)
{
    const struct ls_env *env = provider->context.base.env;
    ls__free(env, provider->values);
    ls__free(env, provider->payload);
    ls__free(env, provider->encoded);
    provider->values = NULL;
    provider->payload = provider->encoded = NULL;
    provider->payload_capacity = provider->encoded_capacity = 0;
}

/* ---- clients --------------------------------------------------------------------------------- */

/* The place of `id`, with its lease renewed; NULL when more members ask than a group can have. */
static struct client *renew(struct provider *provider, const struct ls_peer_id *id, ls_index need)
{
    uint64_t now = now_of(provider);
    struct client *client =
        ls__lease_place(provider->clients, sizeof provider->clients[0], id, now);
    if (client == NULL) {
        return NULL;
    }
    if (!ls_peer_id_equal(&client->lease.id, id)) {
        client->pending_count = 0;
    }
    client->lease = (struct ls__lease){*id, need, now + provider->limits.lease_us};
    provider->leased_us = client->lease.until_us;
    provider->context.base.wake_at(provider->context.base.self, client->lease.until_us);
    return client;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void held(const struct provider *provider, struct ls__replay_message *answer)
{
    const struct ls_sync_context *base = &provider->context.base;
    ls_index commit = base->committed(base->self).index;
    base->log_bounds(base->self, &answer->held_first, &answer->held_last);
    answer->held_last = commit < answer->held_last && !LS_MUTANT(Y1) ? commit : answer->held_last;
}

static enum ls_status answer_availability(struct provider *provider, const struct ls_peer_id *to,
                                          uint64_t attempt)
{
    const struct ls_sync_context *base = &provider->context.base;
    struct ls__replay_message answer = {.kind = LS__REPLAY_AVAILABILITY, .attempt = attempt};
    held(provider, &answer);
    uint8_t bytes[LS__REPLAY_HEAD_BYTES];
    size_t written = ls__replay_encode(&base->env->codec, &answer, bytes);
    return base->send_to(base->self, to, (struct ls_span){bytes, written});
}

struct reading {
    struct provider *provider;
    ls_index next;
    uint32_t count;
    size_t bytes;
};

static bool read_entry(void *arg, ls_index index, const struct ls_entry *entry)
{
    struct reading *reading = arg;
    struct provider *provider = reading->provider;
    LS_ASSERT(index == reading->next);
    if (reading->count == provider->limits.entries_max ||
        (reading->count > 0 && reading->bytes + entry->data.bytes > provider->limits.bytes_max) ||
        !reserve(provider, &provider->payload, &provider->payload_capacity,
                 reading->bytes + entry->data.bytes)) {
        return false;
    }
    if (entry->data.bytes > 0) {
        memcpy(provider->payload + reading->bytes, entry->data.data, entry->data.bytes);
    }
    ls__replay_put_entry(provider->values + LS__REPLAY_HEAD_VALUES + 3u * (size_t)reading->count,
                         entry);
    reading->bytes += entry->data.bytes;
    reading->count++;
    reading->next++;
    return true;
}

/* The payloads moved while their buffer grew: points every value at its place. */
static void point_payloads(struct provider *provider, uint32_t count)
{
    const uint8_t *at = provider->payload;
    for (uint32_t i = 0; i < count; i++) {
        struct ls_span *span =
            &provider->values[LS__REPLAY_HEAD_VALUES + 3u * (size_t)i + 2].as.bytes;
        span->data = at;
        at += span->bytes;
    }
}

static enum ls_status send_entries(struct provider *provider, const struct ls_peer_id *to,
                                   const struct ls__replay_message *answer,
                                   const struct reading *reading)
{
    const struct ls_sync_context *base = &provider->context.base;
    point_payloads(provider, reading->count);
    size_t count = ls__replay_entries_head(answer, provider->values) + 3u * (size_t)reading->count;
    size_t bytes =
        reading->bytes + LS__REPLAY_HEAD_BYTES + (size_t)reading->count * LS__REPLAY_ENTRY_OVERHEAD;
    if (!reserve(provider, &provider->encoded, &provider->encoded_capacity, bytes)) {
        return LS_ERR_NO_MEMORY;
    }
    size_t written = 0;
    const struct ls_codec *codec = &base->env->codec;
    enum ls_status status = codec->encode(codec->self, provider->values, count, provider->encoded,
                                          provider->encoded_capacity, &written);
    LS_ASSERT(status == LS_OK);
    return base->send_to(base->self, to, (struct ls_span){provider->encoded, written});
}

/* Reads and sends. LS_ERR_BUSY: nothing was sent, to be tried again; any other error is left to the
 * session's timeout. */
static enum ls_status serve(struct provider *provider, const struct ls_peer_id *to,
                            const struct ls__replay_message *request)
{
    const struct ls_sync_context *base = &provider->context.base;
    struct ls__replay_message answer = {.kind = LS__REPLAY_ENTRIES,
                                        .attempt = request->attempt,
                                        .id = request->id,
                                        .first = request->first};
    held(provider, &answer);
    if (request->first < answer.held_first || request->first > answer.held_last) {
        return answer_availability(provider, to, request->attempt); /* pruned since it was told */
    }
    if (provider->values == NULL) {
        provider->values = ls__allocate(base->env, LS_VALUES_MAX * sizeof *provider->values);
        if (provider->values == NULL) {
            return LS_ERR_NO_MEMORY;
        }
    }
    ls_index last = request->last < answer.held_last ? request->last : answer.held_last;
    if (last - request->first >= provider->limits.entries_max) {
        last = request->first + provider->limits.entries_max - 1;
    }
    struct reading reading = {.provider = provider, .next = request->first};
    enum ls_status status = base->log_read(base->self, request->first, last,
                                           provider->limits.bytes_max, read_entry, &reading);
    if (status == LS_ERR_COMPACTED) {
        return answer_availability(provider, to, request->attempt);
    }
    if (reading.count == 0) {
        return status == LS_OK ? LS_ERR_NO_MEMORY : status;
    }
    answer.count = reading.count;
    return send_entries(provider, to, &answer, &reading);
}

/* ---- the vtable ------------------------------------------------------------------------------ */

static void keep_pending(struct provider *provider, struct client *client,
                         const struct ls__replay_message *request)
{
    if (client->pending_count < LS_REPLAY_PENDING_MAX) {
        client->pending[client->pending_count++] = *request;
        const struct ls_sync_context *base = &provider->context.base;
        base->wake_at(base->self, now_of(provider) + RETRY_US);
    }
}

static enum ls_sync_verdict provider_receive(void *self, const struct ls_peer_id *from,
                                             struct ls_span message)
{
    struct provider *provider = self;
    struct ls_value values[LS__REPLAY_HEAD_VALUES + 1];
    struct ls__replay_message request;
    const char *reason = ls__replay_decode(&provider->context.base.env->codec, message, values,
                                           sizeof values / sizeof values[0], &request);
    if (reason != NULL) {
        return LS_SYNC_INVALID;
    }
    if (request.kind != LS__REPLAY_FETCH && request.kind != LS__REPLAY_AVAILABILITY_REQUEST) {
        return LS_SYNC_NOT_MINE;
    }
    struct client *client = renew(provider, from, request.need);
    if (request.kind == LS__REPLAY_AVAILABILITY_REQUEST) {
        (void)answer_availability(provider, from, request.attempt); /* lost: it asks again */
        return LS_SYNC_OK;
    }
    if (client == NULL) {
        return LS_SYNC_IGNORE;
    }
    if (client->pending_count > 0 || serve(provider, from, &request) == LS_ERR_BUSY) {
        keep_pending(provider, client, &request);
    }
    return LS_SYNC_OK;
}

static void serve_pending(struct provider *provider, struct client *client)
{
    uint32_t done = 0;
    while (done < client->pending_count &&
           serve(provider, &client->lease.id, &client->pending[done]) != LS_ERR_BUSY) {
        done++;
    }
    client->pending_count -= done;
    memmove(client->pending, client->pending + done,
            client->pending_count * sizeof client->pending[0]);
}

static void provider_poll(void *self)
{
    struct provider *provider = self;
    const struct ls_sync_context *base = &provider->context.base;
    uint64_t now = now_of(provider);
    bool leases = false;
    for (size_t i = 0; i < LS_MEMBERS_MAX; i++) {
        struct client *client = &provider->clients[i];
        if (!ls__lease_lives(&client->lease, now)) {
            client->lease.until_us = 0;
            client->pending_count = 0;
            continue;
        }
        leases = true;
        serve_pending(provider, client);
        base->wake_at(base->self,
                      client->pending_count > 0 ? now + RETRY_US : client->lease.until_us);
    }
    if (!leases) {
        release_memory(provider);
    }
}

/* What stays for short absences, in entries or bytes, whichever is less. */
static ls_index keep_from(const struct provider *provider, ls_index commit)
{
    const struct ls_sync_context *base = &provider->context.base;
    uint64_t keep = provider->limits.keep_entries;
    ls_index safe = commit > keep ? commit - keep : 0;
    ls_index by_bytes =
        base->log_back == NULL ? 0 : base->log_back(base->self, provider->limits.keep_bytes);
    return by_bytes > safe ? by_bytes : safe;
}

static size_t provider_pins(void *self, struct ls_sync_pin out[LS_SYNC_PINS_MAX])
{
    struct provider *provider = self;
    const struct ls_sync_context *base = &provider->context.base;
    uint64_t now = now_of(provider);
    size_t count = 0;
    ls_index first = 0;
    ls_index last = 0;
    base->log_bounds(base->self, &first, &last);
    out[count++] = (struct ls_sync_pin){
        .kind = LS_SYNC_PIN_KEEP, .safe = keep_from(provider, base->committed(base->self).index)};
    for (size_t i = 0; i < LS_MEMBERS_MAX && provider->leased_us > now; i++) {
        const struct ls__lease *lease = &provider->clients[i].lease;
        /* who needs what is gone already is not served, and holds nothing */
        if (ls__lease_lives(lease, now) && lease->need >= first && !LS_MUTANT(S7_LEASE)) {
            out[count++] = (struct ls_sync_pin){.kind = LS_SYNC_PIN_SESSION,
                                                .peer = lease->id,
                                                .safe = lease->need - 1,
                                                .until_us = lease->until_us};
        }
    }
    return count;
}

static ls_index provider_safe_to_prune_prefix(void *self)
{
    struct provider *provider = self;
    struct ls_sync_pin pins[LS_SYNC_PINS_MAX];
    size_t count = provider_pins(self, pins);
    const struct ls_sync_context *base = &provider->context.base;
    ls_index safe = base->committed(base->self).index;
    for (size_t i = 0; i < count; i++) {
        safe = pins[i].safe < safe ? pins[i].safe : safe;
    }
    return safe;
}

static void provider_peer(void *self, const struct ls_peer_id *peer, bool bonded)
{
    struct provider *provider = self;
    for (size_t i = 0; !bonded && i < LS_MEMBERS_MAX; i++) {
        struct client *client = &provider->clients[i];
        if (ls_peer_id_equal(&client->lease.id, peer)) {
            client->pending_count = 0; /* its lease stays: it may be back soon */
        }
    }
}

static void provider_destroy(void *self)
{
    struct provider *provider = self;
    release_memory(provider);
    ls__free(provider->context.base.env, provider);
}

enum ls_status ls__replay_provider_create(void *self, const struct ls_provider_context *context,
                                          struct ls_sync_provider *out)
{
    struct provider *provider = ls__allocate(context->base.env, sizeof *provider);
    if (provider == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    memset(provider, 0, sizeof *provider);
    provider->context = *context;
    provider->limits = ls__replay_limits(self);
    *out = (struct ls_sync_provider){
        .size = sizeof *out,
        .self = provider,
        .poll = provider_poll,
        .receive = provider_receive,
        .safe_to_prune_prefix = provider_safe_to_prune_prefix,
        .peer = provider_peer,
        .destroy = provider_destroy,
        .pins = provider_pins,
    };
    return LS_OK;
}
