/* SPDX-License-Identifier: MIT */
/*
 * What sessions and providers may ask and do. Reads and sends go to the driver at once; what
 * changes something is only recorded, and carried out by ls_supervisor_poll after the vtable call
 * returned.
 */
#include "supervisor_state.h"

static uint64_t context_now(void *self)
{
    const struct ls_env *env = &((struct ls__side *)self)->supervisor->env;
    return env->now_us(env->self);
}

static void context_wake_at(void *self, uint64_t at_us)
{
    struct ls__side *side = self;
    if (at_us < side->wake_us) {
        side->wake_us = at_us;
    }
}

static struct ls_cursor context_committed(void *self)
{
    struct ls_supervisor_driver *driver = &((struct ls__side *)self)->supervisor->driver;
    return driver->committed(driver->self);
}

static void context_log_bounds(void *self, ls_index *first, ls_index *last)
{
    struct ls_supervisor_driver *driver = &((struct ls__side *)self)->supervisor->driver;
    driver->log_bounds(driver->self, first, last);
}

static enum ls_status context_log_read(void *self, ls_index first, ls_index last, size_t bytes_max,
                                       ls_storage_visit visit, void *arg)
{
    struct ls_supervisor_driver *driver = &((struct ls__side *)self)->supervisor->driver;
    return driver->log_read(driver->self, first, last, bytes_max, visit, arg);
}

static enum ls_status context_send_to(void *self, const struct ls_peer_id *peer,
                                      struct ls_span message)
{
    struct ls__side *side = self;
    struct ls_supervisor_driver *driver = &side->supervisor->driver;
    return driver->send(driver->self, peer, side->tag, side->to_session, message);
}

static uint64_t context_strike(void *self, const struct ls_peer_id *peer, const char *reason)
{
    return ls__strike(((struct ls__side *)self)->supervisor, peer, reason);
}

static uint64_t context_avoided(void *self, const struct ls_peer_id *peer)
{
    return ls__avoided_until(((struct ls__side *)self)->supervisor, peer);
}

/* Is `a` the better source? */
static bool better(const struct ls_sync_bond *a, const struct ls_sync_bond *b)
{
    if (a->leader != b->leader) {
        return b->leader;
    }
    if (a->load != b->load) {
        return a->load < b->load;
    }
    return a->rtt_us - 1 < b->rtt_us - 1; /* 0, unknown, comes last */
}

static size_t context_bonds(void *self, struct ls_sync_bond *out, size_t capacity)
{
    struct ls_supervisor_driver *driver = &((struct ls__side *)self)->supervisor->driver;
    size_t count = driver->bonds(driver->self, out, capacity);
    for (size_t i = 1; i < count; i++) {
        struct ls_sync_bond bond = out[i];
        size_t at = i;
        for (; at > 0 && better(&bond, &out[at - 1]); at--) {
            out[at] = out[at - 1];
        }
        out[at] = bond;
    }
    return count;
}

static ls_index context_log_back(void *self, uint64_t bytes)
{
    struct ls_supervisor_driver *driver = &((struct ls__side *)self)->supervisor->driver;
    return driver->log_back == NULL ? 0 : driver->log_back(driver->self, bytes);
}

static enum ls_status context_broadcast(void *self, struct ls_span message, struct ls_peer_id *sent,
                                        size_t *sent_count)
{
    struct ls_sync_bond bonds[LS_MEMBERS_MAX];
    size_t count = context_bonds(self, bonds, LS_MEMBERS_MAX);
    size_t taken = 0;
    bool busy = false;
    for (size_t i = 0; i < count; i++) {
        enum ls_status status = context_send_to(self, &bonds[i].peer, message);
        busy = busy || status == LS_ERR_BUSY;
        if (status == LS_OK) {
            if (sent != NULL) {
                sent[taken] = bonds[i].peer;
            }
            taken++;
        }
    }
    if (sent_count != NULL) {
        *sent_count = taken;
    }
    return taken == 0 && busy ? LS_ERR_BUSY : LS_OK;
}

static bool context_leader(void *self, struct ls_peer_id *out)
{
    struct ls_supervisor_driver *driver = &((struct ls__side *)self)->supervisor->driver;
    return driver->leader(driver->self, out);
}

static bool context_is_leader(void *self)
{
    struct ls_supervisor_driver *driver = &((struct ls__side *)self)->supervisor->driver;
    return driver->is_leader(driver->self);
}

/* Records an effect; 0: too many are under way. */
static uint64_t record(void *self, const struct ls__effect *wanted)
{
    struct ls_supervisor *supervisor = ((struct ls__side *)self)->supervisor;
    LS_ASSERT(supervisor->inside > 0);
    for (size_t i = 0; i < LS_SYNC_EFFECTS_MAX; i++) {
        struct ls__effect *effect = &supervisor->effects[i];
        if (effect->state == LS__EFFECT_FREE) {
            *effect = *wanted;
            effect->state = LS__EFFECT_QUEUED;
            effect->token = ++supervisor->next_token;
            return effect->token;
        }
    }
    return 0;
}

static uint64_t context_install(void *self, ls_term term, struct ls_cursor prev,
                                const struct ls_entry *entries, uint32_t count, ls_index commit)
{
    return record(self, &(struct ls__effect){.kind = LS__EFFECT_INSTALL,
                                             .term = term,
                                             .prev = prev,
                                             .entries = entries,
                                             .count = count,
                                             .commit = commit});
}

static uint64_t context_begin(void *self, const struct ls_snapshot *snapshot,
                              const struct ls_hash *hashes)
{
    ((struct ls__side *)self)->supervisor->attempt.stages = true;
    return record(self, &(struct ls__effect){
                            .kind = LS__EFFECT_BEGIN, .snapshot = snapshot, .hashes = hashes});
}

static bool context_staged(void *self, uint32_t chunk)
{
    struct ls_supervisor_driver *driver = &((struct ls__side *)self)->supervisor->driver;
    return driver->staged != NULL && driver->staged(driver->self, chunk);
}

static uint64_t context_put(void *self, uint32_t chunk, struct ls_span bytes)
{
    return record(self,
                  &(struct ls__effect){.kind = LS__EFFECT_PUT, .chunk = chunk, .bytes = bytes});
}

static uint64_t context_publish(void *self)
{
    return record(self, &(struct ls__effect){.kind = LS__EFFECT_PUBLISH});
}

/* ---- of providers ---------------------------------------------------------------------------- */

static void context_feed_marker(void *self, struct ls_span payload)
{
    struct ls__side *side = self;
    LS_ASSERT(payload.bytes < LS_SYNC_MARKER_BYTES_MAX);
    side->marker[0] = (uint8_t)side->tag;
    if (payload.bytes > 0) {
        memcpy(side->marker + 1, payload.data, payload.bytes);
    }
    side->marker_bytes = payload.bytes + 1;
}

static enum ls_status context_freeze(void *self, struct ls_sync_frozen *out)
{
    struct ls_supervisor_driver *driver = &((struct ls__side *)self)->supervisor->driver;
    return driver->freeze == NULL ? LS_ERR_NOT_FOUND : driver->freeze(driver->self, out);
}

static enum ls_status context_iterate(void *self, uint64_t id, struct ls_span from,
                                      ls_item_visit visit, void *arg)
{
    struct ls_supervisor_driver *driver = &((struct ls__side *)self)->supervisor->driver;
    return driver->iterate == NULL ? LS_ERR_NOT_FOUND
                                   : driver->iterate(driver->self, id, from, visit, arg);
}

static void context_thaw(void *self, uint64_t id)
{
    struct ls_supervisor_driver *driver = &((struct ls__side *)self)->supervisor->driver;
    if (driver->thaw != NULL) {
        driver->thaw(driver->self, id);
    }
}

static struct ls_sync_context base_context(struct ls__side *side)
{
    const struct ls_supervisor *supervisor = side->supervisor;
    return (struct ls_sync_context){
        .self = side,
        .env = &supervisor->env,
        .local = supervisor->local,
        .group = supervisor->group,
        .network = supervisor->network,
        .now_us = context_now,
        .wake_at = context_wake_at,
        .committed = context_committed,
        .log_bounds = context_log_bounds,
        .log_read = context_log_read,
        .send_to = context_send_to,
        .broadcast = context_broadcast,
        .bonds = context_bonds,
        .log_back = context_log_back,
        .strike = context_strike,
        .avoided = context_avoided,
    };
}

struct ls_provider_context ls__provider_context(struct ls__side *side)
{
    return (struct ls_provider_context){.base = base_context(side),
                                        .is_leader = context_is_leader,
                                        .feed_marker = context_feed_marker,
                                        .freeze = context_freeze,
                                        .iterate = context_iterate,
                                        .thaw = context_thaw};
}

struct ls_session_context ls__session_context(struct ls__side *side)
{
    return (struct ls_session_context){
        .base = base_context(side),
        .leader = context_leader,
        .install = context_install,
        .generation = side->supervisor->generation,
        .begin = context_begin,
        .staged = context_staged,
        .put = context_put,
        .publish = context_publish,
    };
}
