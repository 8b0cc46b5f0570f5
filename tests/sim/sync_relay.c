/* SPDX-License-Identifier: MIT */
/* What stands between a state sync and its supervisor and only passes on. */
#include "sync.h"

#define SECOND_US 1000000u

static uint64_t relay_now(void *self)
{
    struct sim_relay *relay = self;
    return relay->outer.now_us(relay->outer.self);
}

static void relay_wake(void *self, uint64_t at_us)
{
    struct sim_relay *relay = self;
    relay->outer.wake_at(relay->outer.self, at_us);
}

static struct ls_cursor relay_committed(void *self)
{
    struct sim_relay *relay = self;
    return relay->outer.committed(relay->outer.self);
}

static void relay_bounds(void *self, ls_index *first, ls_index *last)
{
    struct sim_relay *relay = self;
    relay->outer.log_bounds(relay->outer.self, first, last);
}

static enum ls_status relay_read(void *self, ls_index first, ls_index last, size_t bytes_max,
                                 ls_storage_visit visit, void *arg)
{
    struct sim_relay *relay = self;
    return relay->outer.log_read(relay->outer.self, first, last, bytes_max, visit, arg);
}

static enum ls_status relay_send(void *self, const struct ls_peer_id *peer, struct ls_span message)
{
    struct sim_relay *relay = self;
    return relay->outer.send_to(relay->outer.self, peer, message);
}

static enum ls_status relay_broadcast(void *self, struct ls_span message, struct ls_peer_id *sent,
                                      size_t *sent_count)
{
    struct sim_relay *relay = self;
    return relay->outer.broadcast(relay->outer.self, message, sent, sent_count);
}

static size_t relay_bonds(void *self, struct ls_sync_bond *out, size_t capacity)
{
    struct sim_relay *relay = self;
    return relay->outer.bonds(relay->outer.self, out, capacity);
}

static ls_index relay_log_back(void *self, uint64_t bytes)
{
    struct sim_relay *relay = self;
    return relay->outer.log_back(relay->outer.self, bytes);
}

static uint64_t relay_strike(void *self, const struct ls_peer_id *peer, const char *reason)
{
    struct sim_relay *relay = self;
    return relay->outer.strike(relay->outer.self, peer, reason);
}

static uint64_t relay_avoided(void *self, const struct ls_peer_id *peer)
{
    struct sim_relay *relay = self;
    return relay->outer.avoided(relay->outer.self, peer);
}

void sim_relay_make(struct sim_relay *relay, struct sim_side *side,
                    const struct ls_sync_context *outer, struct ls_sync_context *inner)
{
    relay->outer = *outer;
    relay->side = side;
    *inner = *outer;
    inner->self = relay;
    inner->now_us = relay_now;
    inner->wake_at = relay_wake;
    inner->committed = relay_committed;
    inner->log_bounds = relay_bounds;
    inner->log_read = relay_read;
    inner->send_to = relay_send;
    inner->broadcast = relay_broadcast;
    inner->bonds = relay_bonds;
    inner->log_back = relay_log_back;
    inner->strike = relay_strike;
    inner->avoided = relay_avoided;
}

/* ---- the watched ---- */

static enum ls_buffer_verdict session_buffer(void *self, ls_term term, struct ls_cursor prev,
                                             const struct ls_entry *entries, uint32_t count)
{
    const struct ls_sync_session *inner = &((struct sim_relay *)self)->session;
    return inner->buffer(inner->self, term, prev, entries, count);
}

static void session_target(void *self, ls_index target)
{
    const struct ls_sync_session *inner = &((struct sim_relay *)self)->session;
    inner->target(inner->self, target);
}

static void session_term(void *self, ls_term term)
{
    const struct ls_sync_session *inner = &((struct sim_relay *)self)->session;
    inner->term(inner->self, term);
}

static void session_peer(void *self, const struct ls_peer_id *id, bool bonded)
{
    const struct ls_sync_session *inner = &((struct sim_relay *)self)->session;
    inner->peer(inner->self, id, bonded);
}

static void session_progress(void *self, struct ls_sync_progress *out)
{
    const struct ls_sync_session *inner = &((struct sim_relay *)self)->session;
    inner->progress(inner->self, out);
}

struct ls_sync_session sim_relay_session(struct sim_relay *relay)
{
    return (struct ls_sync_session){.size = sizeof relay->session,
                                    .self = relay,
                                    .buffer = session_buffer,
                                    .target = session_target,
                                    .term = session_term,
                                    .peer = session_peer,
                                    .progress = session_progress};
}

static ls_index provider_safe(void *self)
{
    const struct ls_sync_provider *inner = &((struct sim_relay *)self)->provider;
    return inner->safe_to_prune_prefix(inner->self);
}

static void provider_peer(void *self, const struct ls_peer_id *peer, bool bonded)
{
    const struct ls_sync_provider *inner = &((struct sim_relay *)self)->provider;
    inner->peer(inner->self, peer, bonded);
}

struct ls_sync_provider sim_relay_provider(struct sim_relay *relay)
{
    return (struct ls_sync_provider){.size = sizeof relay->provider,
                                     .self = relay,
                                     .safe_to_prune_prefix = provider_safe,
                                     .peer = provider_peer};
}

bool sim_too_often(struct sim_rate *rate, uint64_t what, uint64_t now_us, uint32_t max)
{
    if (rate->what != what || now_us - rate->since_us > SECOND_US) {
        *rate = (struct sim_rate){what, now_us, 0};
    }
    return ++rate->count > max;
}
