/* SPDX-License-Identifier: MIT */
/*
 * StateSync: how a lagging member catches up. One factory, a provider (the serving side, one per
 * member and group) and a session (the lagging side, one per catch-up), each a vtable that a user
 * may implement.
 *
 * Calls of a context that would change something here only record an effect: it is carried out
 * after the vtable call returned and reported through `effect`, so a session can never pull the log
 * from under the code that called it. Reads answer, and messages are queued, at once. Every struct
 * is copied when it is handed over.
 *
 * Messages are opaque bytes here; they travel with the tag of the state sync (its place in the
 * group's list).
 *
 * Thread: the loop's.
 */
#ifndef LOCKSTEP_STATESYNC_H
#define LOCKSTEP_STATESYNC_H

#include <lockstep/env.h>
#include <lockstep/snapshot.h>
#include <lockstep/storage.h>

LS_EXTERN_C_BEGIN

/** Exact facts from which a strategy is chosen. */
struct ls_sync_facts {
    ls_index commit; /* of this member */
    ls_index last;
    ls_index target;        /* the leader's commit as far as known */
    uint32_t bonded;        /* peers bonded now */
    bool machine_snapshots; /* the machine can freeze and restore, and there is a vault */
    bool machine_publishes; /* it can freeze and publish, and there is a vault: all that a state
                               sync needs which brings the state in a way of its own */
};

struct ls_sync_bond {
    struct ls_peer_id peer;
    bool leader;
    uint64_t rtt_us; /* 0: unknown */
    uint32_t load;   /* other members that it brings up to date, as it said lately */
};

/** What both sides may ask and do. Borrowed by the vtables for their lifetime. */
struct ls_sync_context {
    void *self;
    const struct ls_env *env;
    struct ls_peer_id local;
    struct ls_group_id group;
    struct ls_network_id network;

    uint64_t (*now_us)(void *self);
    /** Asks for a poll at that time or earlier. */
    void (*wake_at)(void *self, uint64_t at_us);
    /** The commit index of this member and the term of the entry there ({0, 0}: nothing yet). */
    struct ls_cursor (*committed)(void *self);
    /** First index in the log (anchor + 1) and last durable index; first > last when empty. */
    void (*log_bounds)(void *self, ls_index *first, ls_index *last);
    /** As ls_storage.read, durable entries only. */
    enum ls_status (*log_read)(void *self, ls_index first, ls_index last, size_t bytes_max,
                               ls_storage_visit visit, void *arg);
    /** Queues a message to the other side's provider (from a session) or session (from a provider).
     * Copies. errors LS_ERR_UNREACHABLE, LS_ERR_BUSY, LS_ERR_LIMIT */
    enum ls_status (*send_to)(void *self, const struct ls_peer_id *peer, struct ls_span message);
    /** The same to every bonded peer; *sent (optional, room for LS_MEMBERS_MAX) tells which it went
     * to. errors LS_ERR_BUSY when it went to none because queues are full */
    enum ls_status (*broadcast)(void *self, struct ls_span message, struct ls_peer_id *sent,
                                size_t *sent_count);
    /** Bonded peers now, the best sources first: those that serve few others, then those that are
     * near, the leader last. Returns how many were written. */
    size_t (*bonds)(void *self, struct ls_sync_bond *out, size_t capacity);
    /** The lowest index so that the entries after it up to the commit have at most that many bytes,
     * about; 0: all of them, or unknown. */
    ls_index (*log_back)(void *self, uint64_t bytes);
    /** A peer sent what a correct one does not send (reason: static). It outlives the session, and
     * is shown to the user. Returns until when the peer is to be left alone. An answer that
     * `receive` calls invalid counts by itself, once. */
    uint64_t (*strike)(void *self, const struct ls_peer_id *peer, const char *reason);
    /** Until when a peer is to be left alone; 0, or a time that has passed: not. */
    uint64_t (*avoided)(void *self, const struct ls_peer_id *peer);
};

struct ls_session_context {
    struct ls_sync_context base;
    /** The current leader as far as known; false: unknown. */
    bool (*leader)(void *self, struct ls_peer_id *out);
    /**
     * Effect: appends entries after `prev`: what matches is kept, the log is truncated only at a
     * term conflict above commit (P4). `term` is that of the leader whose uncommitted entries these
     * are, or 0 when all are committed; `commit` is how far they are known to be committed. Entries
     * and payloads are pinned until effect(token) was called. returns  a token, or 0:
     * LS_SYNC_EFFECTS_MAX are under way
     */
    uint64_t (*install)(void *self, ls_term term, struct ls_cursor prev,
                        const struct ls_entry *entries, uint32_t count, ls_index commit);
    uint64_t generation; /* of the attempt: increasing as long as the group is open */

    /**
     * Effect: a snapshot is to be staged: its description and the hashes of its chunks, both pinned
     * until the effect. What is staged already of an earlier one, also before a restart, is kept
     * where the hash is the same. The previous state stays in service.
     * LS_ERR_NOT_FOUND: no vault, or the machine takes no snapshots
     */
    uint64_t (*begin)(void *self, const struct ls_snapshot *snapshot, const struct ls_hash *hashes);
    /** Is that chunk of the snapshot that was begun staged? */
    bool (*staged)(void *self, uint32_t chunk);
    /** Effect: stages a chunk, which the session has checked against its hash. Pinned. */
    uint64_t (*put)(void *self, uint32_t chunk, struct ls_span bytes);
    /** Effect: all chunks are staged: mark, publish, reset the log to the anchor, each durable
     * before the next. LS_ERR_CORRUPT: some are not what was staged: `staged` tells which are left
     */
    uint64_t (*publish)(void *self);
};
#define LS_SYNC_EFFECTS_MAX 16u

/** A state of this member's machine that stands still. */
struct ls_sync_frozen {
    uint64_t id;
    struct ls_cursor anchor; /* applied when it was frozen */
    ls_index configuration_index;
    struct ls_span configuration; /* borrowed until thawed */
    uint64_t items, bytes;
};

struct ls_provider_context {
    struct ls_sync_context base;
    bool (*is_leader)(void *self);
    /** Effect without report: the leader appends a marker. payload: copied, less than
     * LS_SYNC_MARKER_BYTES_MAX. Lost if this member does not lead. */
    void (*feed_marker)(void *self, struct ls_span payload);
    /** Freezes the machine where it stands. errors LS_ERR_NOT_FOUND (it takes no snapshots),
     * LS_ERR_BUSY, LS_ERR_LIMIT (too many are frozen), the machine's */
    enum ls_status (*freeze)(void *self, struct ls_sync_frozen *out);
    /** As ls_machine.iterate. */
    enum ls_status (*iterate)(void *self, uint64_t id, struct ls_span from, ls_item_visit visit,
                              void *arg);
    void (*thaw)(void *self, uint64_t id);
};

enum ls_sync_verdict {
    LS_SYNC_OK = 1,      /* taken */
    LS_SYNC_IGNORE = 2,  /* legal but of no use now: late, duplicate */
    LS_SYNC_INVALID = 3, /* a correct peer cannot send this: the sender is penalised */
    LS_SYNC_NOT_MINE = 4 /* provider only: for the session */
};

enum ls_buffer_verdict {
    LS_BUFFER_ADDED = 1,
    LS_BUFFER_DUPLICATE = 2,
    LS_BUFFER_EVICTED = 3,
    LS_BUFFER_DROPPED = 4
};

enum ls_session_state { LS_SESSION_PENDING = 1, LS_SESSION_DONE = 2, LS_SESSION_FAILED = 3 };

enum ls_sync_phase {
    LS_SYNC_IDLE = 0,
    LS_SYNC_SELECTING = 1,
    LS_SYNC_FETCHING = 2,
    LS_SYNC_VERIFYING = 3,
    LS_SYNC_INSTALLING = 4,
    LS_SYNC_REPLAYING = 5,
    LS_SYNC_DONE = 6,
    LS_SYNC_WAITING = 7,    /* text: for what */
    LS_SYNC_BACKING_OFF = 8 /* wait_us: how long */
};
/** "idle", "fetching", ... Static. */
LS_API const char *ls_sync_phase_text(enum ls_sync_phase phase);

/** Never decreases within an attempt; 100 % only at the end. */
struct ls_sync_progress {
    enum ls_sync_phase phase;
    const char *strategy;      /* name, static; NULL while idle */
    const char *reason;        /* static sentence: what is waited for, or why the last attempt
                                  failed; NULL: nothing to say */
    ls_index from, at, target; /* entries: done up to `at` */
    uint64_t items;            /* entries or items installed in this attempt */
    uint64_t bytes;            /* payload bytes of them */
    uint32_t percent;
    uint64_t items_per_s;
    uint64_t left_ms;     /* estimated; UINT64_MAX: unknown */
    uint64_t wait_us;     /* BACKING_OFF: until the next attempt */
    uint64_t generation;  /* of the attempt */
    uint32_t failures;    /* consecutive */
    uint32_t penalties;   /* wrong answers met, ever */
    uint64_t bytes_total; /* 0: unknown; else percent and left_ms follow from bytes */
    bool unservable; /* every bonded peer answered, and none can: another state sync may have its
                        turn at once */
    ls_index held_first;  /* the first entry that a bonded peer still holds; 0: unknown */
    uint64_t items_total; /* 0: unknown */
    uint64_t bytes_per_s;
    /* why this state sync, with the numbers: "snapshot: log pruned to 81 234, my commit 20 001" */
    char choice[LS_SYNC_TEXT_BYTES];
    uint64_t prepared; /* anything else that grew in this attempt: not shown, but no standstill */
};

/** How far the install of a snapshot has come. */
struct ls_sync_install {
    uint32_t chunks, chunks_total; /* read back and given to the machine */
    const char *waits;             /* static: for what, when that takes its own time; else NULL */
};

struct ls_sync_session {
    size_t size;
    void *self;
    /** Does what is due now. DONE sets *at; FAILED sets *reason (static). */
    enum ls_session_state (*poll)(void *self, struct ls_cursor *at, const char **reason);
    enum ls_sync_verdict (*receive)(void *self, const struct ls_peer_id *from,
                                    struct ls_span message);
    /** Optional. Uncommitted entries of the leader of `term` that do not follow the log yet. Copied
     * if kept. */
    enum ls_buffer_verdict (*buffer)(void *self, ls_term term, struct ls_cursor prev,
                                     const struct ls_entry *entries, uint32_t count);
    /** Optional. The leader's commit moved. */
    void (*target)(void *self, ls_index target);
    /** Optional. A leader of a newer term is known: buffered entries of the old one are void. */
    void (*term)(void *self, ls_term term);
    /** Optional. */
    void (*peer)(void *self, const struct ls_peer_id *peer, bool bonded);
    /** The effect with that token was carried out, durable for installs, or refused with a status.
     */
    void (*effect)(void *self, uint64_t token, enum ls_status status);
    /** Fills what it knows; the supervisor the rest. An attempt whose at, items and bytes do not
     * grow for the watchdog's time has failed, unless its phase is WAITING. */
    void (*progress)(void *self, struct ls_sync_progress *out);
    void (*destroy)(void *self);
};

/** Who or what holds the log. */
enum ls_sync_pin_kind {
    LS_SYNC_PIN_PROVIDER = 1, /* a provider that says no more than how much */
    LS_SYNC_PIN_KEEP = 2,     /* the newest entries, for short absences */
    LS_SYNC_PIN_SESSION = 3,  /* of `peer` */
    LS_SYNC_PIN_FROZEN = 4    /* a frozen state; `peer` asked for it last */
};
struct ls_sync_pin {
    enum ls_sync_pin_kind kind;
    struct ls_peer_id peer; /* zero: nobody */
    ls_index safe;          /* the last index that may go */
    uint64_t until_us;      /* of a lease; 0: it has no end */
};
/* of one provider: a session of each member, frozen states, what is kept */
#define LS_SYNC_PINS_MAX (LS_MEMBERS_MAX + LS_SNAPSHOT_ANCHORS_MAX + 1u)

struct ls_sync_provider {
    size_t size;
    void *self;
    /** Optional. Does what is due now. */
    void (*poll)(void *self);
    enum ls_sync_verdict (*receive)(void *self, const struct ls_peer_id *from,
                                    struct ls_span message);
    /** The last index whose removal would take nothing from a session it serves. */
    ls_index (*safe_to_prune_prefix)(void *self);
    /** Optional. The commit index moved. */
    void (*committed)(void *self, ls_index commit);
    /** Optional. */
    void (*peer)(void *self, const struct ls_peer_id *peer, bool bonded);
    void (*destroy)(void *self);
    /** Optional. A marker that this state sync fed: the machine stands exactly at it, and a freeze
     * here precedes the next apply. */
    void (*marker)(void *self, struct ls_cursor at, struct ls_span payload);
    /** Optional. By what safe_to_prune_prefix is bounded: its value is the smallest `safe` of
     * these, or the commit. Returns how many were written, at most LS_SYNC_PINS_MAX. */
    size_t (*pins)(void *self, struct ls_sync_pin out[LS_SYNC_PINS_MAX]);
};

/** The position to reach. */
struct ls_sync_gap {
    ls_index commit; /* where catch-up starts: commit + 1 */
    ls_index target; /* the leader's commit */
    ls_term term;    /* the leader's term */
};

struct ls_statesync {
    size_t size;
    void *self;
    const char *name; /* static, for the user: "log replay" */
    struct ls_span
        signature; /* what must be equal on all members: strategy and message format. Static */
    /** NULL: can be used now; else the static reason why not. */
    const char *(*usable)(void *self, const struct ls_sync_facts *facts);
    enum ls_status (*create_provider)(void *self, const struct ls_provider_context *context,
                                      struct ls_sync_provider *out);
    enum ls_status (*create_session)(void *self, const struct ls_session_context *context,
                                     const struct ls_sync_gap *gap, struct ls_sync_session *out);
    /** It brings back a member whose next entries were pruned everywhere: with one such in the list
     * the log is pruned by itself, and not kept for a member that lags by more than lag_entries. */
    bool beyond_log;
};

/** Local settings of log replay; 0 means the default of limits.h. Not part of the
 * signature. */
struct ls_log_replay_options {
    size_t size;
    uint32_t entries_max, window, timeout_ms, lease_ms;
    uint64_t bytes_max, buffer_bytes_max, keep_entries, keep_bytes;
};

/**
 * The built-in log replay.
 *
 * options  borrowed until the groups that use it are closed; NULL: defaults
 * errors   LS_ERR_INVALID  entries_max, bytes_max, window above the limits, or an unknown tail
 */
LS_API LS_NODISCARD enum ls_status ls_log_replay(struct ls_log_replay_options *options,
                                                 struct ls_statesync *out);

/** Local settings of the snapshot strategy; 0 means the default of limits.h. Not part of the
 * signature. */
struct ls_snapshot_options {
    size_t size;
    uint32_t window, timeout_ms, lease_ms, marker_ms;
    uint64_t rate_bytes;       /* served in a second */
    uint64_t buffer_bytes_max; /* of a session */
};

/**
 * The built-in snapshot strategy, for members whose next entries were pruned everywhere.
 *
 * options  borrowed until the groups that use it are closed; NULL: defaults
 * errors   LS_ERR_INVALID  window above its limit, buffer_bytes_max below the largest chunk, or an
 * unknown tail
 */
LS_API LS_NODISCARD enum ls_status ls_snapshot_sync(struct ls_snapshot_options *options,
                                                    struct ls_statesync *out);

LS_EXTERN_C_END

#endif
