/* SPDX-License-Identifier: MIT */
/*
 * The supervisor of state sync. It hosts the ordered list of strategies, one provider for each and
 * at most one session; it decides when an attempt begins and ends, counts failures and penalties,
 * and keeps what the user sees. It never looks into a message and never touches the log itself.
 *
 *   idle --gap--> selecting --a strategy is legal--> attempt --done--> idle
 *                     ^                                 |
 *                     +------- backing off <--failed----+
 *
 * When the next attempt may begin:
 *   after a failed one     max(retry_min, 2^min(failures, 8) s)
 *   after a completed one  at once if it came further than the ones before, else retry_min. A group
 *                          under load moves on while a member catches up, so the next gap is normal
 *                          and must be closed at once; an attempt that reached nothing new must not
 *                          be repeated in a loop.
 *
 * Source: generations and watchdog after calimero's sync manager.
 */
#include "supervisor_state.h"

/* a session that wants to be polled at once, from inside its poll, waits at least so long */
#define POLL_GAP_US 1000u

/* ---- open and close -------------------------------------------------------------------------- */

static const char *config_invalid(const struct ls_supervisor_config *config)
{
    if (config->strategies_count == 0 || config->strategies_count > LS_STATESYNCS_MAX) {
        return "list of state syncs: expected 1 to 8";
    }
    for (size_t i = 0; i < config->strategies_count; i++) {
        const struct ls_statesync *strategy = &config->strategies[i];
        if (strategy->size != sizeof *strategy || strategy->name == NULL ||
            strategy->create_provider == NULL || strategy->create_session == NULL) {
            return "a state sync without size, name, create_provider or create_session";
        }
    }
    return NULL;
}

static enum ls_status open_provider(struct ls_supervisor *supervisor, struct ls__hosted *hosted)
{
    struct ls_provider_context context = ls__provider_context(&hosted->side);
    hosted->provider.size = sizeof hosted->provider;
    supervisor->inside++;
    enum ls_status status =
        hosted->strategy.create_provider(hosted->strategy.self, &context, &hosted->provider);
    supervisor->inside--;
    return status;
}

static struct ls_supervisor *allocate_supervisor(const struct ls_supervisor_config *config)
{
    const struct ls_env *env = config->env;
    struct ls_supervisor *supervisor = ls__allocate(env, sizeof *supervisor);
    if (supervisor == NULL) {
        return NULL;
    }
    uint32_t retry_ms = config->retry_min_ms != 0 ? config->retry_min_ms : LS_SYNC_RETRY_MS_DEFAULT;
    uint32_t watchdog_ms =
        config->watchdog_ms != 0 ? config->watchdog_ms : LS_SYNC_WATCHDOG_MS_DEFAULT;
    *supervisor = (struct ls_supervisor){
        .env = *env,
        .local = config->local,
        .group = config->group,
        .network = config->network,
        .driver = config->driver,
        .machine_snapshots = config->machine_snapshots,
        .machine_publishes = config->machine_publishes,
        .put_us = LS__NEVER,
        .retry_min_us = 1000ull * retry_ms,
        .watchdog_us = 1000ull * watchdog_ms,
    };
    size_t bytes = config->strategies_count * sizeof *supervisor->hosted;
    supervisor->hosted = ls__allocate(env, bytes);
    if (supervisor->hosted == NULL) {
        ls__free(env, supervisor);
        return NULL;
    }
    memset(supervisor->hosted, 0, bytes);
    supervisor->hosted_count = (uint32_t)config->strategies_count;
    return supervisor;
}

enum ls_status ls_supervisor_open(const struct ls_supervisor_config *config,
                                  struct ls_supervisor **out, struct ls_error *error)
{
    *out = NULL;
    const char *reason = config_invalid(config);
    if (reason != NULL) {
        return ls__refuse(error, LS_ERR_INVALID, reason);
    }
    struct ls_supervisor *supervisor = allocate_supervisor(config);
    if (supervisor == NULL) {
        return ls__refuse(error, LS_ERR_NO_MEMORY, "supervisor of state sync: out of memory");
    }
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        struct ls__hosted *hosted = &supervisor->hosted[i];
        hosted->strategy = config->strategies[i];
        hosted->side = (struct ls__side){
            .supervisor = supervisor, .tag = i, .to_session = true, .wake_us = LS__NEVER};
        enum ls_status status = open_provider(supervisor, hosted);
        if (status != LS_OK) {
            ls_supervisor_close(supervisor);
            return ls__refuse(error, status, "the provider of a state sync could not be created");
        }
        supervisor->providers_count++;
    }
    *out = supervisor;
    return LS_OK;
}

void ls_supervisor_close(struct ls_supervisor *supervisor)
{
    if (supervisor == NULL) {
        return;
    }
    LS_ASSERT(supervisor->inside == 0 && !supervisor->carrying);
    if (supervisor->attempt.live) {
        ls__attempt_drop(supervisor);
    }
    for (uint32_t i = 0; i < supervisor->providers_count; i++) {
        struct ls_sync_provider *provider = &supervisor->hosted[i].provider;
        provider->destroy(provider->self);
    }
    struct ls_env env = supervisor->env;
    ls__free(&env, supervisor->hosted);
    ls__free(&env, supervisor);
}

/* ---- events ---------------------------------------------------------------------------------- */

static void poll_providers(struct ls_supervisor *supervisor)
{
    uint64_t now = ls__supervisor_now(supervisor);
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        struct ls__hosted *hosted = &supervisor->hosted[i];
        if (hosted->side.wake_us > now) {
            continue;
        }
        hosted->side.wake_us = LS__NEVER;
        if (hosted->provider.poll != NULL) {
            supervisor->inside++;
            hosted->provider.poll(hosted->provider.self);
            supervisor->inside--;
        }
        hosted->side.wake_us = ls__larger(hosted->side.wake_us, now + POLL_GAP_US);
    }
}

static uint64_t next_due(const struct ls_supervisor *supervisor)
{
    uint64_t now = ls__supervisor_now(supervisor);
    uint64_t due = LS__NEVER;
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        uint64_t wake = supervisor->hosted[i].side.wake_us;
        due = wake < due ? wake : due;
    }
    const struct ls__attempt *attempt = &supervisor->attempt;
    due = supervisor->put_us < due ? supervisor->put_us : due;
    if (attempt->live) {
        uint64_t watchdog = attempt->moved_us + supervisor->watchdog_us;
        due = watchdog < due ? watchdog : due;
        due = attempt->side.wake_us < due ? attempt->side.wake_us : due;
        if (attempt->waiting_us != LS__NEVER && supervisor->hosted_count > 1) {
            uint64_t look = now + 1000ull * LS_SYNC_WAITING_MS_MAX;
            due = look < due ? look : due;
        }
    } else if (supervisor->wanted) {
        uint64_t begin = supervisor->not_before_us > now ? supervisor->not_before_us
                                                         : now + supervisor->retry_min_us;
        due = begin < due ? begin : due;
    }
    return due;
}

static void tell_syncing(struct ls_supervisor *supervisor)
{
    struct ls_supervisor_driver *driver = &supervisor->driver;
    while (supervisor->syncing_told != supervisor->attempt.live) {
        supervisor->syncing_told = supervisor->attempt.live;
        supervisor->carrying = true;
        driver->syncing(driver->self, supervisor->syncing_told);
        supervisor->carrying = false;
    }
}

uint64_t ls_supervisor_poll(struct ls_supervisor *supervisor)
{
    LS_ASSERT(supervisor->inside == 0);
    if (supervisor->carrying) {
        return LS__NEVER; /* the outer call finishes the work and answers */
    }
    tell_syncing(supervisor); /* of a session that a gap began */
    poll_providers(supervisor);
    if (supervisor->attempt.live) {
        ls__attempt_poll(supervisor);
    }
    ls__effects_carry_out(supervisor);
    ls__markers_carry_out(supervisor);
    ls__attempt_begin(supervisor);
    tell_syncing(supervisor);
    return next_due(supervisor);
}

void ls_supervisor_term(struct ls_supervisor *supervisor, ls_term term)
{
    LS_ASSERT(supervisor->inside == 0);
    if (term <= supervisor->term) {
        return;
    }
    supervisor->term = term;
    struct ls__attempt *attempt = &supervisor->attempt;
    if (attempt->live && attempt->session.term != NULL) {
        supervisor->inside++;
        attempt->session.term(attempt->session.self, term);
        supervisor->inside--;
        ls__session_due(supervisor);
    }
}

void ls_supervisor_gap(struct ls_supervisor *supervisor, ls_term term, ls_index target,
                       struct ls_cursor prev, const struct ls_entry *entries, uint32_t count)
{
    LS_ASSERT(supervisor->inside == 0);
    if (term < supervisor->term) {
        return; /* of a leader that was replaced */
    }
    ls_supervisor_term(supervisor, term);
    struct ls__attempt *attempt = &supervisor->attempt;
    struct ls_supervisor_driver *driver = &supervisor->driver;
    bool moved = target > supervisor->target;
    supervisor->target = ls__larger(supervisor->target, target);
    if (supervisor->target > driver->committed(driver->self).index) {
        supervisor->wanted = true;
    }
    if (!attempt->live) {
        ls__attempt_begin(supervisor); /* so that these entries are not lost */
    } else if (moved && attempt->session.target != NULL) {
        supervisor->inside++;
        attempt->session.target(attempt->session.self, target);
        supervisor->inside--;
    }
    if (attempt->live && count > 0 && attempt->session.buffer != NULL) {
        supervisor->inside++;
        (void)attempt->session.buffer(attempt->session.self, term, prev, entries, count);
        supervisor->inside--;
    }
    ls__session_due(supervisor);
}

static enum ls_sync_verdict deliver(struct ls_supervisor *supervisor, const struct ls_peer_id *from,
                                    struct ls__hosted *hosted, bool to_session,
                                    struct ls_span message)
{
    enum ls_sync_verdict verdict = LS_SYNC_NOT_MINE;
    if (!to_session) {
        supervisor->inside++;
        verdict = hosted->provider.receive(hosted->provider.self, from, message);
        supervisor->inside--;
    }
    if (verdict != LS_SYNC_NOT_MINE) {
        return verdict;
    }
    struct ls__attempt *attempt = &supervisor->attempt;
    if (!attempt->live || attempt->hosted != hosted) {
        return LS_SYNC_IGNORE; /* for an attempt that ended */
    }
    supervisor->inside++;
    verdict = attempt->session.receive(attempt->session.self, from, message);
    supervisor->inside--;
    ls__session_due(supervisor);
    return verdict == LS_SYNC_NOT_MINE ? LS_SYNC_IGNORE : verdict;
}

enum ls_sync_verdict ls_supervisor_receive(struct ls_supervisor *supervisor,
                                           const struct ls_peer_id *from, uint32_t tag,
                                           bool to_session, struct ls_span message)
{
    LS_ASSERT(supervisor->inside == 0);
    enum ls_sync_verdict verdict = LS_SYNC_INVALID;
    supervisor->struck = false;
    if (tag < supervisor->hosted_count) {
        verdict = deliver(supervisor, from, &supervisor->hosted[tag], to_session, message);
    }
    if (verdict == LS_SYNC_INVALID) {
        supervisor->penalties++;
        struct ls__note note = ls__supervisor_note(supervisor, from, NULL);
        ls__note(&note, LS_TRACE_INFO, "a wrong state sync message from {p}: {} bytes, tag {}",
                 message.bytes, tag, 0);
        if (!supervisor->struck) {
            (void)ls__strike(supervisor, from, "a message that no correct peer sends");
        }
    }
    return verdict;
}

void ls_supervisor_peer(struct ls_supervisor *supervisor, const struct ls_peer_id *peer,
                        bool bonded)
{
    LS_ASSERT(supervisor->inside == 0);
    supervisor->inside++;
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        struct ls_sync_provider *provider = &supervisor->hosted[i].provider;
        if (provider->peer != NULL) {
            provider->peer(provider->self, peer, bonded);
        }
    }
    if (supervisor->attempt.live && supervisor->attempt.session.peer != NULL) {
        supervisor->attempt.session.peer(supervisor->attempt.session.self, peer, bonded);
    }
    supervisor->inside--;
    ls__session_due(supervisor);
}

void ls_supervisor_committed(struct ls_supervisor *supervisor, ls_index commit)
{
    LS_ASSERT(supervisor->inside == 0);
    supervisor->inside++;
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        struct ls_sync_provider *provider = &supervisor->hosted[i].provider;
        if (provider->committed != NULL) {
            provider->committed(provider->self, commit);
        }
    }
    supervisor->inside--;
    ls__session_due(supervisor);
}

void ls_supervisor_marker(struct ls_supervisor *supervisor, struct ls_cursor at,
                          struct ls_span payload)
{
    LS_ASSERT(supervisor->inside == 0);
    uint32_t tag = payload.bytes > 0 ? *(const uint8_t *)payload.data : UINT32_MAX;
    if (tag >= supervisor->hosted_count) {
        return; /* of another build */
    }
    const struct ls_sync_provider *provider = &supervisor->hosted[tag].provider;
    if (provider->marker != NULL) {
        const uint8_t *rest = (const uint8_t *)payload.data + 1;
        supervisor->inside++;
        provider->marker(provider->self, at, (struct ls_span){rest, payload.bytes - 1});
        supervisor->inside--;
    }
}

/* The rows of one provider; where there is no room for all, one that says as much. */
static size_t pins_of(struct ls_supervisor *supervisor, const struct ls__hosted *hosted,
                      struct ls_supervisor_pin *out, size_t capacity)
{
    const struct ls_sync_provider *provider = &hosted->provider;
    struct ls_sync_pin pins[LS_SYNC_PINS_MAX];
    size_t count = 0;
    supervisor->inside++;
    if (provider->pins != NULL && capacity >= LS_SYNC_PINS_MAX) {
        count = provider->pins(provider->self, pins);
    } else {
        pins[count++] = (struct ls_sync_pin){
            .kind = LS_SYNC_PIN_PROVIDER, .safe = provider->safe_to_prune_prefix(provider->self)};
    }
    supervisor->inside--;
    LS_ASSERT(count <= LS_SYNC_PINS_MAX && count <= capacity);
    for (size_t i = 0; i < count; i++) {
        out[i] = (struct ls_supervisor_pin){hosted->strategy.name, pins[i]};
    }
    return count;
}

size_t ls_supervisor_pins(struct ls_supervisor *supervisor, struct ls_supervisor_pin *out,
                          size_t capacity)
{
    LS_ASSERT(supervisor->inside == 0 && capacity >= supervisor->hosted_count);
    size_t count = 0;
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        size_t others = supervisor->hosted_count - i - 1; /* each needs a place */
        count +=
            pins_of(supervisor, &supervisor->hosted[i], out + count, capacity - count - others);
    }
    return count;
}

ls_index ls_supervisor_safe_to_prune(struct ls_supervisor *supervisor)
{
    LS_ASSERT(supervisor->inside == 0);
    struct ls_supervisor_driver *driver = &supervisor->driver;
    ls_index safe = driver->committed(driver->self).index;
    supervisor->inside++;
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        struct ls_sync_provider *provider = &supervisor->hosted[i].provider;
        ls_index of_provider = provider->safe_to_prune_prefix(provider->self);
        safe = of_provider < safe ? of_provider : safe;
    }
    supervisor->inside--;
    return safe;
}
