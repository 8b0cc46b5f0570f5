/* SPDX-License-Identifier: MIT */
/* The insides of the supervisor, shared by supervisor.c and supervisor_context.c. */
#ifndef LOCKSTEP_STATESYNC_SUPERVISOR_STATE_H
#define LOCKSTEP_STATESYNC_SUPERVISOR_STATE_H

#include <lockstep/supervisor.h>

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

struct ls__attempt {
    bool live;
    struct ls__hosted *hosted;
    struct ls_sync_session session;
    struct ls__side side;
    uint64_t started_us;
    uint64_t moved_us;   /* when progress was last seen, or waited for somebody else */
    uint64_t waiting_us; /* since when the session waits; UINT64_MAX: it does not */
    struct ls_sync_progress seen;
};

struct ls_supervisor {
    struct ls_env env;
    struct ls_peer_id local;
    struct ls_group_id group;
    struct ls_network_id network;
    struct ls_supervisor_driver driver;
    bool machine_snapshots;
    uint64_t retry_min_us, watchdog_us;

    struct ls__hosted *hosted;
    uint32_t hosted_count, providers_count;
    uint32_t preferred; /* the first strategy to consider */

    bool wanted; /* a gap is known */
    ls_index target;
    ls_term term;

    struct ls__attempt attempt;
    uint64_t generation;
    uint64_t not_before_us;
    uint32_t failures;     /* consecutive attempts */
    uint32_t penalties;    /* ever */
    ls_index reached;      /* by the furthest completed attempt */
    bool syncing_told;     /* what the driver knows */
    bool carrying;         /* inside driver.install or driver.syncing */
    uint32_t inside;       /* vtable calls under way */
    const char *waits_for; /* no legal strategy: why */

    struct ls__effect effects[LS_SYNC_EFFECTS_MAX];
    uint64_t next_token;
    struct ls_sync_progress shown;
};

/** What a provider sees of the group. */
struct ls_provider_context ls__provider_context(struct ls__side *side);
/** What the session of the running attempt sees of the group. */
struct ls_session_context ls__session_context(struct ls__side *side);

#endif
