/* SPDX-License-Identifier: MIT */
/* How the sessions of every strategy of this room begin. */
#ifndef LOCKSTEP_STATESYNC_SESSION_H
#define LOCKSTEP_STATESYNC_SESSION_H

#include <lockstep/statesync.h>

/** What tells the answers to this session from those to others of this member. Never the same
 * twice: all that is added grows, and a clock may stand still over a restart. */
static inline uint64_t ls__session_attempt(const struct ls_session_context *context,
                                           const struct ls_sync_gap *gap, uint64_t now)
{
    return now + context->generation + gap->commit;
}

/** Tells the session of the peers that are bonded when it begins. */
static inline void ls__session_meet(const struct ls_sync_context *base, void *session,
                                    void (*peer)(void *self, const struct ls_peer_id *id,
                                                 bool bonded))
{
    struct ls_sync_bond bonds[LS_MEMBERS_MAX];
    size_t count = base->bonds(base->self, bonds, LS_MEMBERS_MAX);
    for (size_t i = 0; i < count; i++) {
        peer(session, &bonds[i].peer, true);
    }
}

#endif
