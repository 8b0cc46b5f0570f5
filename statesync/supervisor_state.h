/* SPDX-License-Identifier: MIT */
/*
 * The insides of the supervisor, shared by its files:
 *   supervisor.c           open, close, what happens
 *   supervisor_attempt.c   when an attempt begins and ends, and which state sync has its turn
 *   supervisor_progress.c  what the user sees of it, and the watchdog
 *   supervisor_effects.c   what sessions want done
 *   supervisor_strikes.c   who answered wrongly
 *   supervisor_context.c   what sessions and providers may ask
 */
#ifndef LOCKSTEP_STATESYNC_SUPERVISOR_STATE_H
#define LOCKSTEP_STATESYNC_SUPERVISOR_STATE_H

#include <lockstep/supervisor.h>

#include "note.h"
#include "text.h"

#define LS__NEVER UINT64_MAX

/* rates are those of so many marks, of which each is at least so old as the next */
#define LS__PACE_MARKS 8u
#define LS__PACE_US    500000u

/* Who calls a context: the provider of a strategy, or the session. */
struct ls__side {
    struct ls_supervisor *supervisor;
    uint32_t tag;
    bool to_session; /* where its messages go on the other side */
    uint64_t wake_us;
    uint8_t marker[LS_SYNC_MARKER_BYTES_MAX]; /* to be fed; its first byte is the tag */
    size_t marker_bytes;
};

struct ls__hosted {
    struct ls_statesync strategy;
    struct ls_sync_provider provider;
    struct ls__side side;
    uint32_t failures; /* consecutive, of this strategy */
};

enum ls__effect_state {
    LS__EFFECT_FREE = 0,
    LS__EFFECT_QUEUED,
    LS__EFFECT_CALLING,
    LS__EFFECT_UNDER_WAY,
    LS__EFFECT_OVER
};

enum ls__effect_kind {
    LS__EFFECT_INSTALL = 0,
    LS__EFFECT_BEGIN,
    LS__EFFECT_PUT,
    LS__EFFECT_PUBLISH
};

/* What a session asked for. Entries, hashes and chunks are pinned by the session. */
struct ls__effect {
    enum ls__effect_state state;
    enum ls__effect_kind kind;
    uint64_t token;
    const struct ls_snapshot *snapshot; /* BEGIN */
    const struct ls_hash *hashes;
    uint32_t chunk; /* PUT */
    struct ls_span bytes;
    ls_term term;
    struct ls_cursor prev;
    const struct ls_entry *entries;
    uint32_t count;
    ls_index commit;
    enum ls_status status; /* OVER: reported while the driver was still in the call */
};

/* How far an attempt had come at some time. */
struct ls__mark {
    uint64_t at_us, items, bytes, part;
};

struct ls__attempt {
    bool live;
    bool stages; /* a snapshot: what is fetched is installed afterwards */
    struct ls__hosted *hosted;
    struct ls_sync_session session;
    struct ls__side side;
    uint64_t started_us;
    uint64_t moved_us;   /* when progress was last seen, or waited for somebody else */
    uint64_t waiting_us; /* since when the session waits; UINT64_MAX: it does not */
    struct ls_sync_progress seen;
    struct ls_sync_install install_seen;
    struct ls__mark marks[LS__PACE_MARKS]; /* oldest first */
    uint32_t marks_count;
};

/* A peer that answered wrongly. */
struct ls__offender {
    struct ls_peer_id peer;
    uint32_t strikes; /* 0: a free place */
    uint64_t last_us, until_us;
    const char *reason;
};

struct ls_supervisor {
    struct ls_env env;
    struct ls_peer_id local;
    struct ls_group_id group;
    struct ls_network_id network;
    struct ls_supervisor_driver driver;
    bool machine_snapshots, machine_publishes;
    uint64_t retry_min_us, watchdog_us;

    struct ls__hosted *hosted;
    uint32_t hosted_count, providers_count;
    uint32_t preferred;                 /* the first strategy to consider ... */
    char because[LS_SYNC_TEXT_BYTES];   /* ... if not the first of all */
    const struct ls__hosted *completed; /* of the last attempt, if it was completed; else NULL */

    bool wanted; /* a gap is known */
    ls_index target;
    ls_term term;

    struct ls__attempt attempt;
    uint64_t generation;
    uint64_t not_before_us;
    uint32_t failures;  /* consecutive attempts */
    uint32_t penalties; /* ever */
    struct ls__offender offenders[LS_MEMBERS_MAX];
    bool struck;           /* in the message that is being delivered */
    ls_index reached;      /* by the furthest completed attempt */
    bool syncing_told;     /* what the driver knows */
    bool carrying;         /* inside driver.install or driver.syncing */
    uint32_t inside;       /* vtable calls under way */
    const char *waits_for; /* no legal strategy: why */
    const char *failure;   /* of the last attempt that failed */

    struct ls__effect effects[LS_SYNC_EFFECTS_MAX];
    uint64_t put_us; /* a chunk that the driver was too busy for is put again */
    uint64_t next_token;
    struct ls_sync_progress shown;
};

static inline uint64_t ls__supervisor_now(const struct ls_supervisor *supervisor)
{
    return supervisor->env.now_us(supervisor->env.self);
}

static inline struct ls__note ls__supervisor_note(const struct ls_supervisor *supervisor,
                                                  const struct ls_peer_id *peer, const char *detail)
{
    return (struct ls__note){&supervisor->env, &supervisor->group, peer, detail};
}

static inline uint64_t ls__larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/** The session is to be polled. */
static inline void ls__session_due(struct ls_supervisor *supervisor)
{
    if (supervisor->attempt.live) {
        supervisor->attempt.side.wake_us = 0;
    }
}

/* supervisor_attempt.c */

/** Begins an attempt if one is wanted, due and legal. */
void ls__attempt_begin(struct ls_supervisor *supervisor);
/** Lets the session of the running attempt work, and ends the attempt when that is due. */
void ls__attempt_poll(struct ls_supervisor *supervisor);
/** Destroys the session. */
void ls__attempt_drop(struct ls_supervisor *supervisor);

/* supervisor_progress.c */

/** Takes what the session knows into what is shown, which never goes back within an attempt. */
void ls__progress_refresh(struct ls_supervisor *supervisor);
/** The attempt was completed: 100 percent, and the rates of all of it. */
void ls__progress_done(struct ls_supervisor *supervisor, ls_index at);

/* supervisor_strikes.c */

uint64_t ls__strike(struct ls_supervisor *supervisor, const struct ls_peer_id *peer,
                    const char *reason);
uint64_t ls__avoided_until(const struct ls_supervisor *supervisor, const struct ls_peer_id *peer);

/* supervisor_effects.c */

void ls__effects_carry_out(struct ls_supervisor *supervisor);
void ls__markers_carry_out(struct ls_supervisor *supervisor);

/** What a provider sees of the group. */
struct ls_provider_context ls__provider_context(struct ls__side *side);
/** What the session of the running attempt sees of the group. */
struct ls_session_context ls__session_context(struct ls__side *side);

#endif
