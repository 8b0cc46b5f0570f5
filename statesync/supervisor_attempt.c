/* SPDX-License-Identifier: MIT */
/*
 * When an attempt to catch up begins and ends, and which state sync has its turn: the first of the
 * list that is legal, or the one after it when that waited in vain or failed three times; until it
 * succeeds, one failure of it is enough from then on. Each choice carries a reason with its
 * numbers.
 */
#include "supervisor_state.h"

/* a session that wants to be polled at once, from inside its poll, waits at least so long */
#define POLL_GAP_US 1000u

/* The first state sync that would have been taken, and why it cannot be used. */
struct ls__refusal {
    const struct ls__hosted *hosted;
    const char *reason;
};

void ls__attempt_drop(struct ls_supervisor *supervisor)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    LS_ASSERT(attempt->live && supervisor->inside == 0);
    attempt->live = false;
    memset(supervisor->effects, 0, sizeof supervisor->effects);
    supervisor->inside++;
    attempt->session.destroy(attempt->session.self);
    supervisor->inside--;
}

/* ---- whose turn it is ------------------------------------------------------------------------ */

static void prefer(struct ls_supervisor *supervisor, uint32_t tag)
{
    supervisor->preferred = tag;
    supervisor->because[0] = '\0';
}

static void because_of_failures(struct ls_supervisor *supervisor, const struct ls__hosted *failed,
                                const char *reason)
{
    struct ls__text text = ls__text_begin(supervisor->because, sizeof supervisor->because);
    ls__text_put(&text, failed->strategy.name);
    ls__text_put(&text, " failed ");
    ls__text_number(&text, failed->failures);
    ls__text_put(&text, " times, last: ");
    ls__text_put(&text, reason);
}

static void because_of_waiting(struct ls_supervisor *supervisor)
{
    const struct ls__attempt *attempt = &supervisor->attempt;
    const struct ls_supervisor_driver *driver = &supervisor->driver;
    ls_index commit = driver->committed(driver->self).index;
    struct ls__text text = ls__text_begin(supervisor->because, sizeof supervisor->because);
    if (attempt->seen.held_first > commit + 1) {
        ls__text_put(&text, "log pruned to ");
        ls__text_number(&text, attempt->seen.held_first - 1);
        ls__text_put(&text, ", my commit ");
        ls__text_number(&text, commit);
        return;
    }
    ls__text_put(&text, attempt->hosted->strategy.name);
    ls__text_put(&text, " waited ");
    ls__text_number(&text, (ls__supervisor_now(supervisor) - attempt->waiting_us) / 1000000u);
    ls__text_put(&text, " s: ");
    ls__text_put(&text, attempt->seen.reason != NULL ? attempt->seen.reason : "no peer can serve");
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
    uint64_t wait_us = ls__larger(1000000ull << exponent, supervisor->retry_min_us);
    supervisor->not_before_us = ls__supervisor_now(supervisor) + wait_us;
    supervisor->failure = reason;
    supervisor->completed = NULL;
    if (hosted->failures >= LS_SYNC_FAILURES_MAX && !LS_MUTANT(Y4)) {
        prefer(supervisor, (hosted->side.tag + 1) % supervisor->hosted_count);
        because_of_failures(supervisor, hosted, reason);
    }
    struct ls__note note = ls__supervisor_note(supervisor, NULL, reason);
    ls__note(&note, LS_TRACE_WARN, "catch-up {} failed, the next attempt in {} ms",
             supervisor->generation, wait_us / 1000u, 0);
}

static void attempt_failed(struct ls_supervisor *supervisor, const char *reason)
{
    struct ls__hosted *hosted = supervisor->attempt.hosted;
    ls__attempt_drop(supervisor);
    count_failure(supervisor, hosted, reason != NULL ? reason : "the state sync gave no reason");
}

/* Not the fault of anybody: overtaken, or another strategy has its turn. */
static void attempt_dropped(struct ls_supervisor *supervisor, const char *reason)
{
    ls__attempt_drop(supervisor);
    supervisor->shown.phase = LS_SYNC_IDLE;
    supervisor->shown.reason = NULL;
    supervisor->completed = NULL;
    struct ls__note note = ls__supervisor_note(supervisor, NULL, reason);
    ls__note(&note, LS_TRACE_INFO, "catch-up {} ended", supervisor->generation, 0, 0);
}

static void attempt_done(struct ls_supervisor *supervisor, struct ls_cursor at)
{
    ls__progress_refresh(supervisor);
    ls__attempt_drop(supervisor);
    bool further = at.index > supervisor->reached;
    uint64_t now = ls__supervisor_now(supervisor);
    supervisor->reached = ls__larger(supervisor->reached, at.index);
    supervisor->not_before_us = further ? now : now + supervisor->retry_min_us;
    supervisor->failures = 0;
    supervisor->attempt.hosted->failures = 0;
    supervisor->completed = supervisor->attempt.hosted;
    prefer(supervisor, 0);
    supervisor->wanted = supervisor->target > at.index;
    ls__progress_done(supervisor, at.index);
    struct ls__note note = ls__supervisor_note(supervisor, NULL, NULL);
    ls__note(&note, LS_TRACE_INFO, "catch-up {} done at {^}", supervisor->generation, at.term,
             at.index);
}

static const char *unusable(const struct ls__hosted *hosted, const struct ls_sync_facts *facts)
{
    const struct ls_statesync *strategy = &hosted->strategy;
    return strategy->usable == NULL ? NULL : strategy->usable(strategy->self, facts);
}

/* Where the look for a legal strategy begins. */
static struct ls__hosted *choose(struct ls_supervisor *supervisor, uint32_t from,
                                 struct ls__refusal *refusal)
{
    struct ls_supervisor_driver *driver = &supervisor->driver;
    struct ls_sync_bond bonds[LS_MEMBERS_MAX];
    struct ls_sync_facts facts = {
        .commit = driver->committed(driver->self).index,
        .last = driver->log_last(driver->self).index,
        .target = supervisor->target,
        .bonded = (uint32_t)driver->bonds(driver->self, bonds, LS_MEMBERS_MAX),
        .machine_snapshots = supervisor->machine_snapshots,
        .machine_publishes = supervisor->machine_publishes,
    };
    *refusal = (struct ls__refusal){NULL, NULL};
    for (uint32_t i = 0; i < supervisor->hosted_count; i++) {
        struct ls__hosted *hosted = &supervisor->hosted[(from + i) % supervisor->hosted_count];
        const char *why_not = unusable(hosted, &facts);
        if (why_not == NULL) {
            return hosted;
        }
        if (refusal->reason == NULL) {
            *refusal = (struct ls__refusal){hosted, why_not};
        }
    }
    return NULL;
}

/* Why this one, with the numbers. */
static void explain(const struct ls_supervisor *supervisor, const struct ls__hosted *hosted,
                    const struct ls__refusal *refusal, struct ls_sync_progress *shown)
{
    struct ls__text text = ls__text_begin(shown->choice, sizeof shown->choice);
    ls__text_put(&text, hosted->strategy.name);
    ls__text_put(&text, ": ");
    if (refusal->hosted != NULL) {
        ls__text_put(&text, refusal->hosted->strategy.name);
        ls__text_put(&text, " cannot be used: ");
        ls__text_put(&text, refusal->reason);
    } else if (supervisor->because[0] != '\0') {
        ls__text_put(&text, supervisor->because);
    } else {
        const struct ls__hosted *completed = supervisor->completed;
        bool after = completed != NULL && completed != hosted;
        ls__text_number(&text, shown->target - shown->from);
        ls__text_put(&text, after ? " entries after the " : " entries missing, my commit ");
        ls__text_put(&text, after ? completed->strategy.name : "");
        ls__text_put(&text, after ? " at " : "");
        ls__text_number(&text, shown->from);
    }
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
                          const struct ls__refusal *refusal)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    LS_ASSERT(!attempt->live && supervisor->wanted);
    struct ls_supervisor_driver *driver = &supervisor->driver;
    ls_index commit = driver->committed(driver->self).index;
    uint64_t now = ls__supervisor_now(supervisor);
    supervisor->generation++;
    *attempt = (struct ls__attempt){
        .hosted = hosted,
        .side = {.supervisor = supervisor, .tag = hosted->side.tag, .wake_us = now},
        .started_us = now,
        .moved_us = now,
        .waiting_us = LS__NEVER,
        .seen = {.at = commit},
    };
    supervisor->shown = (struct ls_sync_progress){
        .phase = LS_SYNC_SELECTING,
        .strategy = hosted->strategy.name,
        .from = commit,
        .at = commit,
        .target = supervisor->target,
        .left_ms = UINT64_MAX,
        .generation = supervisor->generation,
    };
    explain(supervisor, hosted, refusal, &supervisor->shown);
    if (open_session(supervisor) != LS_OK) {
        count_failure(supervisor, hosted, "the session could not be created");
        return;
    }
    attempt->live = true;
    struct ls__note note = ls__supervisor_note(supervisor, NULL, supervisor->shown.choice);
    ls__note(&note, LS_TRACE_INFO, "catch-up {} begins after {} up to {}", supervisor->generation,
             commit, supervisor->target);
}

void ls__attempt_begin(struct ls_supervisor *supervisor)
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
    if (driver->is_leader(driver->self) ||
        ls__supervisor_now(supervisor) < supervisor->not_before_us) {
        return;
    }
    struct ls__refusal refusal;
    struct ls__hosted *hosted = choose(supervisor, supervisor->preferred, &refusal);
    supervisor->waits_for = hosted == NULL ? refusal.reason : NULL;
    if (hosted != NULL) {
        begin_attempt(supervisor, hosted, &refusal);
    }
}

/* The session waits for sources that another strategy might not need: that one has its turn. */
static bool pass_on(struct ls_supervisor *supervisor)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    if (supervisor->hosted_count == 1 || attempt->waiting_us == LS__NEVER) {
        return false;
    }
    uint64_t until = attempt->waiting_us + 1000ull * LS_SYNC_WAITING_MS_MAX;
    if (!attempt->seen.unservable && ls__supervisor_now(supervisor) < until) {
        return false;
    }
    struct ls__refusal refusal;
    uint32_t from = (attempt->hosted->side.tag + 1) % supervisor->hosted_count;
    struct ls__hosted *next = choose(supervisor, from, &refusal);
    if (next == NULL || next == attempt->hosted) {
        return false;
    }
    prefer(supervisor, next->side.tag);
    because_of_waiting(supervisor);
    return true;
}

void ls__attempt_poll(struct ls_supervisor *supervisor)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    uint64_t now = ls__supervisor_now(supervisor);
    if (supervisor->driver.is_leader(supervisor->driver.self)) {
        supervisor->wanted = false;
        attempt_dropped(supervisor, "this member leads now");
        return;
    }
    if (attempt->side.wake_us <= now) {
        attempt->side.wake_us = LS__NEVER;
        struct ls_cursor at = {0, 0};
        const char *reason = NULL;
        supervisor->inside++;
        enum ls_session_state state = attempt->session.poll(attempt->session.self, &at, &reason);
        supervisor->inside--;
        /* a wish to be called again at once must not become a hot loop */
        attempt->side.wake_us = ls__larger(attempt->side.wake_us, now + POLL_GAP_US);
        if (state == LS_SESSION_DONE) {
            attempt_done(supervisor, at);
            return;
        }
        if (state == LS_SESSION_FAILED) {
            attempt_failed(supervisor, reason);
            return;
        }
    }
    ls__progress_refresh(supervisor);
    if (now >= attempt->moved_us + supervisor->watchdog_us) { /* moved_us may be later than now */
        attempt_failed(supervisor, "no progress within the watchdog's time");
    } else if (pass_on(supervisor)) {
        attempt_dropped(supervisor, "no peer had what this state sync needs");
    }
}

void ls_supervisor_force(struct ls_supervisor *supervisor)
{
    LS_ASSERT(supervisor->inside == 0);
    supervisor->not_before_us = ls__supervisor_now(supervisor);
    ls__session_due(supervisor);
}
