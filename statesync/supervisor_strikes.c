/* SPDX-License-Identifier: MIT */
/*
 * Sources that answered wrongly. The first wrong answer costs a peer a second, the second one two;
 * with the third it is blocked for half a minute, and then each further one blocks it again, until
 * nothing was wrong for ten minutes or the user releases it. All of it outlives sessions.
 */
#include "supervisor_state.h"

static struct ls__offender *find(struct ls_supervisor *supervisor, const struct ls_peer_id *peer)
{
    for (size_t i = 0; i < LS_MEMBERS_MAX; i++) {
        struct ls__offender *offender = &supervisor->offenders[i];
        if (offender->strikes > 0 && ls_peer_id_equal(&offender->peer, peer)) {
            return offender;
        }
    }
    return NULL;
}

static bool forgotten(const struct ls__offender *offender, uint64_t now)
{
    return offender->strikes == 0 || now >= offender->last_us + 1000ull * LS_SYNC_FORGET_MS;
}

/* A free place, or that of the one who was wrong longest ago. */
static struct ls__offender *place(struct ls_supervisor *supervisor)
{
    struct ls__offender *oldest = &supervisor->offenders[0];
    for (size_t i = 0; i < LS_MEMBERS_MAX; i++) {
        struct ls__offender *offender = &supervisor->offenders[i];
        if (offender->strikes == 0) {
            return offender;
        }
        oldest = offender->last_us < oldest->last_us ? offender : oldest;
    }
    return oldest;
}

uint64_t ls__strike(struct ls_supervisor *supervisor, const struct ls_peer_id *peer,
                    const char *reason)
{
    uint64_t now = ls__supervisor_now(supervisor);
    struct ls__offender *offender = find(supervisor, peer);
    if (offender == NULL || forgotten(offender, now)) {
        offender = offender == NULL ? place(supervisor) : offender;
        *offender = (struct ls__offender){.peer = *peer};
    }
    offender->strikes++;
    offender->last_us = now;
    offender->reason = reason;
    uint64_t pause_ms = offender->strikes >= LS_SYNC_STRIKES_MAX
                            ? LS_SYNC_BLOCK_MS
                            : (uint64_t)LS_SYNC_STRIKE_MS * offender->strikes;
    offender->until_us = now + 1000u * pause_ms;
    supervisor->struck = true;
    struct ls__note note = ls__supervisor_note(supervisor, peer, reason);
    ls__note(&note, LS_TRACE_WARN, "{p} answered wrongly, {} times: left alone for {} ms",
             offender->strikes, pause_ms, 0);
    return offender->until_us;
}

uint64_t ls__avoided_until(const struct ls_supervisor *supervisor, const struct ls_peer_id *peer)
{
    for (size_t i = 0; i < LS_MEMBERS_MAX; i++) {
        const struct ls__offender *offender = &supervisor->offenders[i];
        if (offender->strikes > 0 && ls_peer_id_equal(&offender->peer, peer)) {
            return offender->until_us;
        }
    }
    return 0;
}

void ls_supervisor_strikes(const struct ls_supervisor *supervisor, const struct ls_peer_id *peer,
                           struct ls_sync_strikes *out)
{
    uint64_t now = ls__supervisor_now(supervisor);
    *out = (struct ls_sync_strikes){0};
    for (size_t i = 0; i < LS_MEMBERS_MAX; i++) {
        const struct ls__offender *offender = &supervisor->offenders[i];
        if (!forgotten(offender, now) && ls_peer_id_equal(&offender->peer, peer)) {
            out->strikes = offender->strikes;
            out->reason = offender->reason;
            out->left_us = offender->until_us > now ? offender->until_us - now : 0;
        }
    }
}

void ls_supervisor_release(struct ls_supervisor *supervisor, const struct ls_peer_id *peer)
{
    LS_ASSERT(supervisor->inside == 0);
    struct ls__offender *offender = find(supervisor, peer);
    if (offender == NULL) {
        return;
    }
    *offender = (struct ls__offender){0};
    struct ls__note note = ls__supervisor_note(supervisor, peer, NULL);
    ls__note(&note, LS_TRACE_INFO, "{p} may be asked again", 0, 0, 0);
    struct ls_supervisor_driver *driver = &supervisor->driver;
    struct ls_sync_bond bonds[LS_MEMBERS_MAX];
    size_t count = driver->bonds(driver->self, bonds, LS_MEMBERS_MAX);
    for (size_t i = 0; supervisor->attempt.live && i < count; i++) {
        if (ls_peer_id_equal(&bonds[i].peer, peer)) { /* as if it had just come */
            supervisor->inside++;
            supervisor->attempt.session.peer(supervisor->attempt.session.self, peer, true);
            supervisor->inside--;
        }
    }
    ls__session_due(supervisor);
}
