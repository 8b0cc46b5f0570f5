/* SPDX-License-Identifier: MIT */
/*
 * What the user sees of a catch-up, and the watchdog's eye. Within an attempt nothing shown ever
 * goes back; 100 percent are shown at the end only. Rates are those of the last seconds, so that an
 * estimate follows what really happens; before the first item there is none.
 */
#include "supervisor_state.h"

/* of a snapshot, fetching is so many of ten parts of the work, installing the rest */
#define FETCH_PARTS 9u

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

/* ---- how much is done ------------------------------------------------------------------------ */

struct work {
    uint64_t part, whole;
};

/* In bytes where the whole is known, else in entries. */
static struct work work_of(const struct ls__attempt *attempt,
                           const struct ls_sync_progress *progress)
{
    if (progress->bytes_total > 0 && progress->bytes_total < UINT64_MAX / 10u) {
        uint64_t part =
            progress->bytes < progress->bytes_total ? progress->bytes : progress->bytes_total;
        if (!attempt->stages) {
            return (struct work){part, progress->bytes_total};
        }
        const struct ls_sync_install *install = &attempt->install_seen;
        uint64_t each = install->chunks_total > 0 ? progress->bytes_total / install->chunks_total
                                                  : 0; /* chunks are about alike */
        uint64_t installed = each * install->chunks;
        return (struct work){FETCH_PARTS * part + (10u - FETCH_PARTS) * installed,
                             10u * progress->bytes_total};
    }
    return (struct work){progress->at > progress->from ? progress->at - progress->from : 0,
                         progress->target > progress->from ? progress->target - progress->from : 0};
}

static uint32_t percent_of(struct work work)
{
    if (work.part >= work.whole) {
        return 99; /* 100 only at the end */
    }
    uint64_t percent = work.whole < UINT64_MAX / 100u ? work.part * 100u / work.whole
                                                      : work.part / (work.whole / 100u + 1u);
    return percent > 99u ? 99u : (uint32_t)percent;
}

/* ---- how fast -------------------------------------------------------------------------------- */

static void mark(struct ls__attempt *attempt, uint64_t now, uint64_t part)
{
    if (attempt->marks_count > 0 &&
        now < attempt->marks[attempt->marks_count - 1].at_us + LS__PACE_US) {
        return;
    }
    if (attempt->marks_count == LS__PACE_MARKS) {
        attempt->marks_count--;
        memmove(attempt->marks, attempt->marks + 1, attempt->marks_count * sizeof *attempt->marks);
    }
    attempt->marks[attempt->marks_count++] = (struct ls__mark){
        .at_us = now, .items = attempt->seen.items, .bytes = attempt->seen.bytes, .part = part};
}

static uint64_t per_second(uint64_t count, uint64_t elapsed_us)
{
    if (elapsed_us == 0) {
        return 0;
    }
    return count < UINT64_MAX / 1000000u ? count * 1000000u / elapsed_us
                                         : count / (elapsed_us / 1000000u + 1u);
}

static void show_pace(const struct ls__attempt *attempt, struct ls_sync_progress *shown,
                      struct work work, uint64_t now)
{
    const struct ls__mark *oldest = &attempt->marks[0];
    uint64_t elapsed_us = now - oldest->at_us;
    uint64_t done = work.part > oldest->part ? work.part - oldest->part : 0;
    shown->left_ms = UINT64_MAX;
    shown->items_per_s = per_second(attempt->seen.items - oldest->items, elapsed_us);
    shown->bytes_per_s = per_second(attempt->seen.bytes - oldest->bytes, elapsed_us);
    if (shown->items > 0 && done > 0 && elapsed_us > 0) {
        uint64_t left = work.whole > work.part ? work.whole - work.part : 0;
        uint64_t elapsed_ms = elapsed_us / 1000u + 1u;
        shown->left_ms =
            left < UINT64_MAX / elapsed_ms ? left * elapsed_ms / done : left / done * elapsed_ms;
    }
}

/* ---- the watchdog ---------------------------------------------------------------------------- */

static bool searches(enum ls_sync_phase phase)
{
    return phase == LS_SYNC_IDLE || phase == LS_SYNC_SELECTING || phase == LS_SYNC_WAITING ||
           phase == LS_SYNC_VERIFYING;
}

/* How far an install has come. One that waits for a disk takes as long as the disk does: to end the
 * attempt would not end the install. */
static void watch_install(struct ls_supervisor *supervisor, struct ls_sync_progress *fresh,
                          uint64_t now)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    const struct ls_supervisor_driver *driver = &supervisor->driver;
    struct ls_sync_install install = {0};
    if (fresh->phase != LS_SYNC_INSTALLING || !attempt->stages || driver->installing == NULL ||
        !driver->installing(driver->self, &install)) {
        return;
    }
    if (install.chunks > attempt->install_seen.chunks || install.waits != NULL) {
        attempt->moved_us = now;
    }
    if (attempt->install_seen.chunks_total == 0) {
        attempt->marks_count = 0; /* its pace is its own */
    }
    fresh->reason = install.waits;
    attempt->install_seen = install;
}

/* What the watchdog and the choice of strategy look at. */
static void watch(struct ls__attempt *attempt, const struct ls_sync_progress *fresh, uint64_t now)
{
    const struct ls_sync_progress *seen = &attempt->seen;
    if (fresh->at > seen->at || fresh->items > seen->items || fresh->bytes > seen->bytes ||
        fresh->prepared > seen->prepared) {
        attempt->moved_us = now;
    }
    if (fresh->phase == LS_SYNC_WAITING || seen->phase == LS_SYNC_WAITING) {
        attempt->moved_us = now; /* it waited until now: its time begins anew */
    }
    if (fresh->phase == LS_SYNC_WAITING) {
        attempt->waiting_us = attempt->waiting_us == LS__NEVER ? now : attempt->waiting_us;
    } else {
        attempt->waiting_us = LS__NEVER;
    }
    bool back = fresh->items < seen->items || fresh->bytes < seen->bytes;
    if (back || (searches(seen->phase) && !searches(fresh->phase))) {
        attempt->marks_count = 0; /* what came before tells nothing about the pace from now on */
    }
    attempt->seen = *fresh;
}

/* ---- what is shown --------------------------------------------------------------------------- */

static enum ls_sync_phase phase_of(const struct ls_supervisor *supervisor, enum ls_sync_phase phase)
{
    const struct ls__hosted *completed = supervisor->completed;
    if (phase == LS_SYNC_FETCHING && completed != NULL && completed != supervisor->attempt.hosted) {
        return LS_SYNC_REPLAYING; /* what came after the snapshot */
    }
    return phase == LS_SYNC_IDLE ? LS_SYNC_SELECTING : phase;
}

void ls__progress_refresh(struct ls_supervisor *supervisor)
{
    struct ls__attempt *attempt = &supervisor->attempt;
    struct ls_sync_progress *shown = &supervisor->shown;
    LS_ASSERT(attempt->live);
    struct ls_sync_progress fresh = {.from = shown->from, .target = supervisor->target};
    supervisor->inside++;
    attempt->session.progress(attempt->session.self, &fresh);
    supervisor->inside--;
    uint64_t now = ls__supervisor_now(supervisor);
    watch_install(supervisor, &fresh, now);
    watch(attempt, &fresh, now);

    shown->phase = phase_of(supervisor, fresh.phase);
    shown->reason = fresh.reason;
    shown->at = ls__larger(shown->at, fresh.at);
    shown->target = ls__larger(shown->target, fresh.target);
    shown->items = ls__larger(shown->items, fresh.items);
    shown->bytes = ls__larger(shown->bytes, fresh.bytes);
    shown->bytes_total = fresh.bytes_total;
    shown->items_total = fresh.items_total;
    shown->held_first = fresh.held_first;
    struct work work = work_of(attempt, shown);
    uint32_t percent = shown->items == 0 ? 0 : percent_of(work);
    shown->percent = percent > shown->percent ? percent : shown->percent;
    mark(attempt, now, work.part);
    show_pace(attempt, shown, work, now);
}

void ls__progress_done(struct ls_supervisor *supervisor, ls_index at)
{
    struct ls_sync_progress *shown = &supervisor->shown;
    uint64_t elapsed_us = ls__supervisor_now(supervisor) - supervisor->attempt.started_us;
    shown->phase = LS_SYNC_DONE;
    shown->reason = NULL;
    shown->at = ls__larger(shown->at, at);
    shown->target = ls__larger(shown->target, shown->at);
    shown->percent = 100;
    shown->left_ms = 0;
    shown->items_per_s = per_second(shown->items, elapsed_us);
    shown->bytes_per_s = per_second(shown->bytes, elapsed_us);
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
    uint64_t now = ls__supervisor_now(supervisor);
    out->reason = supervisor->failures > 0 ? supervisor->failure : NULL;
    out->items_per_s = out->bytes_per_s = 0;
    out->left_ms = UINT64_MAX;
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
