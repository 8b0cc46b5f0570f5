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

#include "note.h"

/* a session that wants to be polled at once, from inside its poll, waits at least so long */
#define POLL_GAP_US 1000u

#define NEVER UINT64_MAX

const char *ls_sync_phase_text(enum ls_sync_phase phase)
{
    switch (phase) {
    case LS_SYNC_IDLE:
        return "idle";
    case LS_SYNC_SELECTING:
        return "selecting";
    case LS_SYNC_FETCHING:
        return "fetching";
    case LS_SYNC_VERIFYING:
        return "verifying";
    case LS_SYNC_INSTALLING:
        return "installing";
    case LS_SYNC_REPLAYING:
        return "replaying";
    case LS_SYNC_DONE:
        return "done";
    case LS_SYNC_WAITING:
        return "waiting";
    case LS_SYNC_BACKING_OFF:
        return "backing off";
    }
    return "unknown phase";
}

static uint64_t now_us(const struct ls_supervisor *supervisor)
{
    return supervisor->env.now_us(supervisor->env.self);
}

static struct ls__note note_of(const struct ls_supervisor *supervisor,
                               const struct ls_peer_id *peer, const char *detail)
{
    return (struct ls__note){&supervisor->env, &supervisor->group, peer, detail};
}

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
            .supervisor = supervisor, .tag = i, .to_session = true, .wake_us = NEVER};
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

static void drop_session(struct ls_supervisor *supervisor)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    LS_ASSERT(attempt->live && supervisor->inside == 0);
    attempt->live = false;
    memset(supervisor->effects, 0, sizeof supervisor->effects);
    supervisor->inside++;
    attempt->session.destroy(attempt->session.self);
    supervisor->inside--;
}

void ls_supervisor_close(struct ls_supervisor *supervisor)
{
    if (supervisor == NULL) {
        return;
    }
    LS_ASSERT(supervisor->inside == 0 && !supervisor->carrying);
    if (supervisor->attempt.live) {
        drop_session(supervisor);
    }
    for (uint32_t i = 0; i < supervisor->providers_count; i++) {
        struct ls_sync_provider *provider = &supervisor->hosted[i].provider;
        provider->destroy(provider->self);
    }
    struct ls_env env = supervisor->env;
    ls__free(&env, supervisor->hosted);
    ls__free(&env, supervisor);
}

/* ---- what the user sees ---------------------------------------------------------------------- */

static uint32_t percent_of(const struct ls_sync_progress *progress)
{
    uint64_t whole = progress->target > progress->from ? progress->target - progress->from : 0;
    uint64_t part = progress->at > progress->from ? progress->at - progress->from : 0;
    if (progress->bytes_total > 0) {
        whole = progress->bytes_total;
        part = progress->bytes;
    }
    if (part >= whole) {
        return 99; /* 100 only at the end */
    }
    uint64_t percent = whole < UINT64_MAX / 100u ? part * 100u / whole : part / (whole / 100u + 1u);
    return percent > 99u ? 99u : (uint32_t)percent;
}

static void show_pace(struct ls_sync_progress *shown, uint64_t elapsed_us)
{
    shown->left_ms = UINT64_MAX;
    shown->items_per_s = 0;
    if (shown->items == 0 || elapsed_us == 0) {
        return;
    }
    shown->items_per_s = shown->items * 1000000u / elapsed_us;
    uint64_t left = shown->target > shown->at ? shown->target - shown->at : 0;
    if (shown->bytes_total > 0) {
        uint64_t bytes = shown->bytes_total > shown->bytes ? shown->bytes_total - shown->bytes : 0;
        shown->left_ms =
            shown->bytes == 0 ? UINT64_MAX : bytes / (shown->bytes / (elapsed_us / 1000u + 1) + 1);
    } else if (shown->items_per_s > 0) {
        shown->left_ms = left * 1000u / shown->items_per_s;
    }
}

/* What the watchdog and the choice of strategy look at. */
static void watch(struct ls__attempt *attempt, const struct ls_sync_progress *fresh, uint64_t now)
{
    const struct ls_sync_progress *seen = &attempt->seen;
    if (fresh->at > seen->at || fresh->items > seen->items || fresh->bytes > seen->bytes) {
        attempt->moved_us = now;
    }
    if (fresh->phase == LS_SYNC_WAITING || seen->phase == LS_SYNC_WAITING) {
        attempt->moved_us = now; /* it waited until now: its time begins anew */
    }
    if (fresh->phase == LS_SYNC_WAITING) {
        attempt->waiting_us = attempt->waiting_us == NEVER ? now : attempt->waiting_us;
    } else {
        attempt->waiting_us = NEVER;
    }
    attempt->seen = *fresh;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Takes what the session knows into `shown`, which never goes back within an attempt. */
static void refresh(struct ls_supervisor *supervisor)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    struct ls_sync_progress *shown = &supervisor->shown;
    LS_ASSERT(attempt->live);
    struct ls_sync_progress fresh = {.from = shown->from, .target = supervisor->target};
    supervisor->inside++;
    attempt->session.progress(attempt->session.self, &fresh);
    supervisor->inside--;
    uint64_t now = now_us(supervisor);
    watch(attempt, &fresh, now);

    shown->phase = fresh.phase == LS_SYNC_IDLE ? LS_SYNC_SELECTING : fresh.phase;
    if (fresh.reason != NULL) {
        shown->reason = fresh.reason;
    }
    shown->at = larger(shown->at, fresh.at);
    shown->target = larger(shown->target, fresh.target);
    shown->items = larger(shown->items, fresh.items);
    shown->bytes = larger(shown->bytes, fresh.bytes);
    shown->bytes_total = fresh.bytes_total;
    uint32_t percent = shown->items == 0 ? 0 : percent_of(shown);
    shown->percent = percent > shown->percent ? percent : shown->percent;
    show_pace(shown, now - attempt->started_us);
}

void ls_supervisor_progress(const struct ls_supervisor *supervisor, struct ls_sync_progress *out)
{
    *out = supervisor->shown;
    out->failures = supervisor->failures;
    out->penalties = supervisor->penalties;
    out->wait_us = 0;
    if (supervisor->attempt.live || !supervisor->wanted) {
        return;
    }
    uint64_t now = now_us(supervisor);
    if (now < supervisor->not_before_us) {
        out->phase = LS_SYNC_BACKING_OFF;
        out->wait_us = supervisor->not_before_us - now;
    } else if (supervisor->waits_for != NULL) {
        out->phase = LS_SYNC_WAITING;
        out->reason = supervisor->waits_for;
    } else {
        out->phase = LS_SYNC_SELECTING;
    }
}

/* ---- attempts -------------------------------------------------------------------------------- */

static void count_failure(struct ls_supervisor *supervisor, struct ls__hosted *hosted,
                          const char *reason)
{
    supervisor->failures += !LS_MUTANT(Y16);
    hosted->failures++;
    uint32_t exponent = supervisor->failures < LS_SYNC_BACKOFF_EXPONENT_MAX
                            ? supervisor->failures
                            : LS_SYNC_BACKOFF_EXPONENT_MAX;
    uint64_t wait_us = larger(1000000ull << exponent, supervisor->retry_min_us);
    supervisor->not_before_us = now_us(supervisor) + wait_us;
    supervisor->shown.reason = reason;
    if (hosted->failures >= LS_SYNC_FAILURES_MAX && !LS_MUTANT(Y4)) {
        hosted->failures = 0;
        supervisor->preferred = (hosted->side.tag + 1) % supervisor->hosted_count;
    }
    struct ls__note note = note_of(supervisor, NULL, reason);
    ls__note(&note, LS_TRACE_WARN, "catch-up {} failed, the next attempt in {} ms",
             supervisor->generation, wait_us / 1000u, 0);
}

static void attempt_failed(struct ls_supervisor *supervisor, const char *reason)
{
    struct ls__hosted *hosted = supervisor->attempt.hosted;
    drop_session(supervisor);
    count_failure(supervisor, hosted, reason != NULL ? reason : "the state sync gave no reason");
}

/* Not the fault of anybody: overtaken, or another strategy has its turn. */
static void attempt_dropped(struct ls_supervisor *supervisor, const char *reason)
{
    drop_session(supervisor);
    supervisor->shown.phase = LS_SYNC_IDLE;
    supervisor->shown.reason = reason;
    struct ls__note note = note_of(supervisor, NULL, reason);
    ls__note(&note, LS_TRACE_INFO, "catch-up {} ended", supervisor->generation, 0, 0);
}

static void attempt_done(struct ls_supervisor *supervisor, struct ls_cursor at)
{
    refresh(supervisor);
    drop_session(supervisor);
    bool further = at.index > supervisor->reached;
    uint64_t now = now_us(supervisor);
    supervisor->reached = larger(supervisor->reached, at.index);
    supervisor->not_before_us = further ? now : now + supervisor->retry_min_us;
    supervisor->failures = 0;
    supervisor->attempt.hosted->failures = 0;
    supervisor->preferred = 0;
    supervisor->wanted = supervisor->target > at.index;
    struct ls_sync_progress *shown = &supervisor->shown;
    shown->phase = LS_SYNC_DONE;
    shown->at = larger(shown->at, at.index);
    shown->target = larger(shown->target, shown->at);
    shown->percent = 100;
    shown->left_ms = 0;
    struct ls__note note = note_of(supervisor, NULL, NULL);
    ls__note(&note, LS_TRACE_INFO, "catch-up {} done at {^}", supervisor->generation, at.term,
             at.index);
}

static const char *unusable(const struct ls__hosted *hosted, const struct ls_sync_facts *facts)
{
    const struct ls_statesync *strategy = &hosted->strategy;
    return strategy->usable == NULL ? NULL : strategy->usable(strategy->self, facts);
}

/* The first legal strategy from number `from` on, or NULL; *reason tells why this one, or why none.
 */
static struct ls__hosted *choose(struct ls_supervisor *supervisor, uint32_t from,
                                 const char **reason)
{
    struct ls_supervisor_driver *driver = &supervisor->driver;
    struct ls_sync_bond bonds[LS_MEMBERS_MAX];
    struct ls_sync_facts facts = {
        .commit = driver->committed(driver->self).index,
        .last = driver->log_last(driver->self).index,
        .target = supervisor->target,
        .bonded = (uint32_t)driver->bonds(driver->self, bonds, LS_MEMBERS_MAX),
        .machine_snapshots = supervisor->machine_snapshots,
    };
    *reason = NULL;
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        uint32_t at = (from + i) % supervisor->hosted_count;
        const char *why_not = unusable(&supervisor->hosted[at], &facts);
        if (why_not == NULL) {
            *reason = at == 0 ? "the first state sync of the list can close the gap"
                              : "the state syncs before it failed or cannot be used";
            return &supervisor->hosted[at];
        }
        *reason = *reason == NULL ? why_not : *reason;
    }
    return NULL;
}

static enum ls_status open_session(struct ls_supervisor *supervisor)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    const struct ls_statesync *strategy = &attempt->hosted->strategy;
    struct ls_session_context context = ls__session_context(&attempt->side);
    struct ls_sync_gap gap = {
        .commit = supervisor->shown.from,
        .target = supervisor->target,
        .term = supervisor->term,
    };
    attempt->session.size = sizeof attempt->session;
    supervisor->inside++;
    enum ls_status status =
        strategy->create_session(strategy->self, &context, &gap, &attempt->session);
    supervisor->inside--;
    return status;
}

static void begin_attempt(struct ls_supervisor *supervisor, struct ls__hosted *hosted,
                          const char *reason)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    LS_ASSERT(!attempt->live && supervisor->wanted);
    struct ls_supervisor_driver *driver = &supervisor->driver;
    ls_index commit = driver->committed(driver->self).index;
    uint64_t now = now_us(supervisor);
    supervisor->generation++;
    *attempt = (struct ls__attempt){
        .hosted = hosted,
        .side = {.supervisor = supervisor, .tag = hosted->side.tag, .wake_us = now},
        .started_us = now,
        .moved_us = now,
        .waiting_us = NEVER,
        .seen = {.at = commit},
    };
    supervisor->shown = (struct ls_sync_progress){
        .phase = LS_SYNC_SELECTING,
        .strategy = hosted->strategy.name,
        .reason = reason,
        .from = commit,
        .at = commit,
        .target = supervisor->target,
        .left_ms = UINT64_MAX,
        .generation = supervisor->generation,
    };
    if (open_session(supervisor) != LS_OK) {
        count_failure(supervisor, hosted, "the session could not be created");
        return;
    }
    attempt->live = true;
    struct ls__note note = note_of(supervisor, NULL, hosted->strategy.name);
    ls__note(&note, LS_TRACE_INFO, "catch-up {} begins after {} up to {}", supervisor->generation,
             commit, supervisor->target);
}

static void begin_if_due(struct ls_supervisor *supervisor)
{
    struct ls_supervisor_driver *driver = &supervisor->driver;
    if (supervisor->attempt.live || !supervisor->wanted) {
        return;
    }
    if (driver->committed(driver->self).index >= supervisor->target) {
        supervisor->wanted = false; /* ordinary appends closed the gap */
        supervisor->shown.phase = supervisor->shown.percent == 100 ? LS_SYNC_DONE : LS_SYNC_IDLE;
        return;
    }
    if (driver->is_leader(driver->self) || now_us(supervisor) < supervisor->not_before_us) {
        return;
    }
    const char *reason = NULL;
    struct ls__hosted *hosted = choose(supervisor, supervisor->preferred, &reason);
    supervisor->waits_for = hosted == NULL ? reason : NULL;
    if (hosted != NULL) {
        begin_attempt(supervisor, hosted, reason);
    }
}

/* The session waits for sources that another strategy might not need: that one has its turn. */
static bool pass_on(struct ls_supervisor *supervisor)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    if (supervisor->hosted_count == 1 || attempt->waiting_us == NEVER) {
        return false;
    }
    uint64_t until = attempt->waiting_us + 1000ull * LS_SYNC_WAITING_MS_MAX;
    if (!attempt->seen.unservable && now_us(supervisor) < until) {
        return false;
    }
    const char *reason = NULL;
    uint32_t from = (attempt->hosted->side.tag + 1) % supervisor->hosted_count;
    struct ls__hosted *next = choose(supervisor, from, &reason);
    if (next == NULL || next == attempt->hosted) {
        return false;
    }
    supervisor->preferred = next->side.tag;
    return true;
}

static void poll_session(struct ls_supervisor *supervisor)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    uint64_t now = now_us(supervisor);
    if (supervisor->driver.is_leader(supervisor->driver.self)) {
        supervisor->wanted = false;
        attempt_dropped(supervisor, "this member leads now");
        return;
    }
    if (attempt->side.wake_us <= now) {
        attempt->side.wake_us = NEVER;
        struct ls_cursor at = {0, 0};
        const char *reason = NULL;
        supervisor->inside++;
        enum ls_session_state state = attempt->session.poll(attempt->session.self, &at, &reason);
        supervisor->inside--;
        /* a wish to be called again at once must not become a hot loop */
        attempt->side.wake_us = larger(attempt->side.wake_us, now + POLL_GAP_US);
        if (state == LS_SESSION_DONE) {
            attempt_done(supervisor, at);
            return;
        }
        if (state == LS_SESSION_FAILED) {
            attempt_failed(supervisor, reason);
            return;
        }
    }
    refresh(supervisor);
    if (now >= attempt->moved_us + supervisor->watchdog_us) { /* moved_us may be later than now */
        attempt_failed(supervisor, "no progress within the watchdog's time");
    } else if (pass_on(supervisor)) {
        attempt_dropped(supervisor, "no peer had what this state sync needs");
    }
}

/* ---- effects --------------------------------------------------------------------------------- */

static void session_due(struct ls_supervisor *supervisor)
{
    if (supervisor->attempt.live) {
        supervisor->attempt.side.wake_us = 0;
    }
}

static void report_effect(struct ls_supervisor *supervisor, struct ls__effect *effect,
                          enum ls_status status)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    LS_ASSERT(attempt->live);
    uint64_t token = effect->token;
    *effect = (struct ls__effect){0};
    supervisor->inside++;
    attempt->session.effect(attempt->session.self, token, status);
    supervisor->inside--;
    session_due(supervisor);
}

static struct ls__effect *oldest_queued(struct ls_supervisor *supervisor)
{
    struct ls__effect *oldest = NULL;
    for (size_t i = 0; i < LS_SYNC_EFFECTS_MAX; i++) {
        struct ls__effect *effect = &supervisor->effects[i];
        if (effect->state == LS__EFFECT_QUEUED &&
            (oldest == NULL || effect->token < oldest->token)) {
            oldest = effect;
        }
    }
    return oldest;
}

static enum ls_status carry_out(const struct ls_supervisor_driver *driver,
                                const struct ls__effect *effect)
{
    switch (effect->kind) {
    case LS__EFFECT_INSTALL:
        return driver->install(driver->self, effect->token, effect->term, effect->prev,
                               effect->entries, effect->count, effect->commit);
    case LS__EFFECT_BEGIN:
        return driver->begin == NULL
                   ? LS_ERR_NOT_FOUND
                   : driver->begin(driver->self, effect->token, effect->snapshot, effect->hashes);
    case LS__EFFECT_PUT:
        return driver->put == NULL
                   ? LS_ERR_NOT_FOUND
                   : driver->put(driver->self, effect->token, effect->chunk, effect->bytes);
    case LS__EFFECT_PUBLISH:
        return driver->publish == NULL ? LS_ERR_NOT_FOUND
                                       : driver->publish(driver->self, effect->token);
    }
    return LS_ERR_INVALID;
}

static void carry_out_markers(struct ls_supervisor *supervisor)
{
    struct ls_supervisor_driver *driver = &supervisor->driver;
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        struct ls__side *side = &supervisor->hosted[i].side;
        if (side->marker_bytes == 0) {
            continue;
        }
        struct ls_span payload = {side->marker, side->marker_bytes};
        side->marker_bytes = 0; /* one that is lost is asked for again */
        if (driver->feed_marker != NULL) {
            supervisor->carrying = true;
            (void)driver->feed_marker(driver->self, payload);
            supervisor->carrying = false;
        }
    }
}

static void carry_out_effects(struct ls_supervisor *supervisor)
{
    struct ls__effect *effect = NULL;
    while ((effect = oldest_queued(supervisor)) != NULL) {
        effect->state = LS__EFFECT_CALLING;
        supervisor->carrying = true;
        enum ls_status status = carry_out(&supervisor->driver, effect);
        supervisor->carrying = false;
        if (status != LS_OK) {
            report_effect(supervisor, effect, status);
        } else if (effect->state == LS__EFFECT_OVER) {
            report_effect(supervisor, effect, effect->status);
        } else {
            effect->state = LS__EFFECT_UNDER_WAY;
        }
    }
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

void ls_supervisor_effect(struct ls_supervisor *supervisor, uint64_t token, enum ls_status status)
{
    LS_ASSERT(supervisor->inside == 0);
    for (size_t i = 0; i < LS_SYNC_EFFECTS_MAX; i++) {
        struct ls__effect *effect = &supervisor->effects[i];
        if (effect->token != token) {
            continue; /* also the late result of an older attempt: its slot was cleared */
        }
        if (effect->state == LS__EFFECT_CALLING) {
            effect->state = LS__EFFECT_OVER; /* the driver still reads the entries */
            effect->status = status;
        } else if (effect->state == LS__EFFECT_UNDER_WAY) {
            report_effect(supervisor, effect, status);
        }
        return;
    }
}

/* ---- events ---------------------------------------------------------------------------------- */

static void poll_providers(struct ls_supervisor *supervisor)
{
    uint64_t now = now_us(supervisor);
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        struct ls__hosted *hosted = &supervisor->hosted[i];
        if (hosted->side.wake_us > now) {
            continue;
        }
        hosted->side.wake_us = NEVER;
        if (hosted->provider.poll != NULL) {
            supervisor->inside++;
            hosted->provider.poll(hosted->provider.self);
            supervisor->inside--;
        }
        hosted->side.wake_us = larger(hosted->side.wake_us, now + POLL_GAP_US);
    }
}

static uint64_t next_due(const struct ls_supervisor *supervisor)
{
    uint64_t now = now_us(supervisor);
    uint64_t due = NEVER;
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        uint64_t wake = supervisor->hosted[i].side.wake_us;
        due = wake < due ? wake : due;
    }
    const struct ls__attempt *attempt = &supervisor->attempt;
    if (attempt->live) {
        uint64_t watchdog = attempt->moved_us + supervisor->watchdog_us;
        due = watchdog < due ? watchdog : due;
        due = attempt->side.wake_us < due ? attempt->side.wake_us : due;
        if (attempt->waiting_us != NEVER && supervisor->hosted_count > 1) {
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

uint64_t ls_supervisor_poll(struct ls_supervisor *supervisor)
{
    LS_ASSERT(supervisor->inside == 0);
    if (supervisor->carrying) {
        return NEVER; /* the outer call finishes the work and answers */
    }
    tell_syncing(supervisor); /* of a session that a gap began */
    poll_providers(supervisor);
    if (supervisor->attempt.live) {
        poll_session(supervisor);
    }
    carry_out_effects(supervisor);
    carry_out_markers(supervisor);
    begin_if_due(supervisor);
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
    if (attempt->live) {
        supervisor->inside++;
        attempt->session.term(attempt->session.self, term);
        supervisor->inside--;
        session_due(supervisor);
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
    supervisor->target = larger(supervisor->target, target);
    if (supervisor->target > driver->committed(driver->self).index) {
        supervisor->wanted = true;
    }
    if (!attempt->live) {
        begin_if_due(supervisor); /* so that these entries are not lost */
    } else if (moved) {
        supervisor->inside++;
        attempt->session.target(attempt->session.self, target);
        supervisor->inside--;
    }
    if (attempt->live && count > 0) {
        supervisor->inside++;
        (void)attempt->session.buffer(attempt->session.self, term, prev, entries, count);
        supervisor->inside--;
    }
    session_due(supervisor);
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
    session_due(supervisor);
    return verdict == LS_SYNC_NOT_MINE ? LS_SYNC_IGNORE : verdict;
}

enum ls_sync_verdict ls_supervisor_receive(struct ls_supervisor *supervisor,
                                           const struct ls_peer_id *from, uint32_t tag,
                                           bool to_session, struct ls_span message)
{
    LS_ASSERT(supervisor->inside == 0);
    enum ls_sync_verdict verdict = LS_SYNC_INVALID;
    if (tag < supervisor->hosted_count) {
        verdict = deliver(supervisor, from, &supervisor->hosted[tag], to_session, message);
    }
    if (verdict == LS_SYNC_INVALID) {
        supervisor->penalties++;
        struct ls__note note = note_of(supervisor, from, NULL);
        ls__note(&note, LS_TRACE_WARN, "a wrong state sync message from {p}: {} bytes, tag {}",
                 message.bytes, tag, 0);
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
    if (supervisor->attempt.live) {
        supervisor->attempt.session.peer(supervisor->attempt.session.self, peer, bonded);
    }
    supervisor->inside--;
    session_due(supervisor);
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
    session_due(supervisor);
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
