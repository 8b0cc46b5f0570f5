/* SPDX-License-Identifier: MIT */
/*
 * The consensus core: Raft as a pure step. Events in, one `ready` batch out; no clock, randomness,
 * I/O, threads or storage of its own. Time arrives with each event, entropy as a seed, memory
 * through env.
 *
 * Source: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (Raft paper);
 * Ongaro's thesis (pre-vote 9.6, read index 6.4, transfer 3.10, membership 4); the shape step ->
 * update after cowsql/raft, the contract per field after etcd-io/raft.
 *
 * Thread: one core belongs to one thread at a time.
 */
#ifndef LOCKSTEP_CORE_H
#define LOCKSTEP_CORE_H

#include <lockstep/configuration.h>
#include <lockstep/message.h>

LS_EXTERN_C_BEGIN

struct ls_core;

/** A configuration and where in the log it stands. */
struct ls_configuration_at {
    ls_index index;
    struct ls_configuration configuration;
};

/** What the core starts from. Everything is borrowed until ls_core_open returns. */
struct ls_core_config {
    size_t size;
    const struct ls_env *env; /* copied; allocate, codec, trace are used; now and entropy are not */
    const struct ls_group_id *group; /* for trace records; copied */
    struct ls_peer_id self;
    struct ls_incarnation incarnation; /* of this data directory */

    struct ls_hard_state hard_state;
    struct ls_cursor anchor; /* last pruned or snapshotted entry; {0,0} when the log is whole */
    const struct ls_cursor
        *runs; /* first entry of each run of equal terms after the anchor, ascending */
    size_t runs_count;
    ls_index last; /* last index of the log; anchor.index when it is empty */
    const struct ls_configuration_at
        *configurations; /* ascending: the one in force at the anchor and each since */
    size_t configurations_count;
    /* Payload sizes of the last cached_count entries, which the driver caches. They should reach
     * down to commit_floor + 1: an uncommitted entry below them can be sent by nobody, neither by
     * this member if it leads nor by state sync, and then a member that lacks it never catches up.
     */
    const uint32_t *cached_bytes;
    size_t cached_count;
    ls_index commit_floor; /* max(anchor, commit hint, machine's durable applied index) */
    ls_index applied;      /* the machine's applied index; <= commit_floor */

    /* The founders' configuration, incarnations zero; used only while the log and anchor hold none.
     */
    const struct ls_configuration *founders;

    /* the store is behind its guard: replicate, do not vote or count, until all is here again that
     * leaders may have counted on (P11) */
    bool tail_unknown;

    uint64_t seed; /* of the timeouts */
    uint64_t now_us;
    uint32_t election_ms; /* T: timeouts are drawn from [T, 2T) */
    uint32_t heartbeat_ms;
    uint32_t reluctance;   /* 1: normal. f > 1: own election timeouts are f times as long */
    uint64_t window_bytes; /* AppendEntries in flight per follower */
    uint64_t cache_bytes;  /* payload bytes the driver keeps for sending again */
    /* A member further behind the leader's commit does not hold the log of others any more: a
     * snapshot brings it back. 0: every member holds it, for ever */
    uint64_t lag_entries;
};

enum ls_event_kind {
    LS_EVENT_TICK = 1, /* the deadline of the last ready passed; harmless at any other time */
    LS_EVENT_MESSAGE = 2,
    LS_EVENT_PROPOSE = 3,
    LS_EVENT_PERSISTED = 4, /* every persist batch up to `seq` is durable */
    LS_EVENT_FAILED = 5,    /* the store failed for good: promise nothing more, step down (P10) */
    LS_EVENT_APPLIED = 6,   /* the machine has applied up to `index` */
    LS_EVENT_LINK = 7,      /* the bond to `peer` came up or went down */
    LS_EVENT_SYNCING = 8,   /* a session runs (on) or ended: others may campaign first */
    LS_EVENT_SYNCED = 9,    /* entries fetched by state sync */
    LS_EVENT_RESTORED = 10, /* the machine stands at a snapshot's anchor */
    LS_EVENT_READ = 11,     /* a linearizable read wants an index */
    LS_EVENT_TRANSFER = 12, /* hand leadership to `transfer_to`, or if zero to a bonded voter: the
                               one that holds the most, of equals the one heard last */
    LS_EVENT_PRUNED = 13    /* storage removed the prefix up to `index` */
};

struct ls_event {
    enum ls_event_kind kind;
    uint64_t now_us;
    union {
        const struct ls_message
            *message; /* borrowed for the step; already passed ls_message_invalid() */
        struct {
            const struct ls_entry
                *entries; /* kind COMMAND or MARKER, data; term is ignored; borrowed for the step */
            uint32_t count; /* 1 <= count <= LS_PROPOSE_ENTRIES_MAX */
        } propose;
        uint64_t persisted_seq;
        struct {
            uint64_t seq;
            enum ls_status status;
        } failed;
        ls_index applied;
        struct {
            struct ls_peer_id peer;
            struct ls_incarnation incarnation; /* of the peer, valid when up */
            bool up;
        } link;
        bool syncing;
        struct {
            ls_term
                term; /* of the leader whose uncommitted entries these are; 0: all are committed */
            struct ls_cursor prev;
            const struct ls_entry *entries;
            uint32_t count;
            ls_index commit; /* commit may advance to min(this, last of these entries, leader commit
                                seen) */
        } synced;
        struct {
            struct ls_cursor anchor;
            const struct ls_configuration *configuration; /* in force at the anchor */
            ls_index configuration_index;
        } restored;
        uint64_t read_token; /* chosen by the driver, echoed in ready.reads; never used twice, or a
                                late answer could serve a later read */
        struct ls_peer_id transfer_to;
        ls_index pruned;
    } as;
};

/** A message and the persist batch whose durability it presumes: send it when durable seq >= after.
 */
struct ls_outgoing {
    struct ls_message message;
    uint64_t after; /* 0: at once */
};

/** The outcome of one READ. */
struct ls_read_result {
    uint64_t token;
    enum ls_status
        status; /* OK: serve when applied >= index. NO_LEADER: retry or fail; nothing was read */
    ls_index index;
};

/**
 * What the driver must do after a step. Borrowed until the next step on this core. Order of work:
 * stage the persist batch, put messages into the held queue, then look at the rest.
 */
struct ls_ready {
    /* To persist as one atomic batch; persist_seq == 0: nothing. Applied in this order: reset,
     * truncate, append. */
    uint64_t persist_seq;
    bool hard_state_changed;
    struct ls_hard_state hard_state; /* always the present one */
    bool reset;                      /* RESTORED: the log becomes empty after `anchor` */
    struct ls_cursor anchor;
    bool truncate; /* remove entries at and above truncate_from */
    ls_index truncate_from;
    ls_index append_first; /* index of entries[0] */
    const struct ls_entry
        *entries; /* payloads borrowed from the event, or from the core for its own entries */
    uint32_t entries_count;
    bool tail_unknown; /* with any batch: the store must go on doubting (P11) */

    const struct ls_outgoing *messages;
    size_t messages_count;

    /* The outcome of a PROPOSE step: OK and its range [append_first, append_first + count), or
     * LS_ERR_NOT_LEADER, LS_ERR_BUSY (being transferred, ring full), LS_ERR_HALTED. */
    enum ls_status propose_status;
    /* The outcome of a TRANSFER step: OK (begun), LS_ERR_NOT_LEADER, LS_ERR_NOT_FOUND (no such
     * voter; nobody was named and nobody is bonded), LS_ERR_BUSY. */
    enum ls_status transfer_status;

    const struct ls_read_result *reads;
    size_t reads_count;

    enum ls_role role;
    ls_term term;
    struct ls_peer_id leader; /* zero: unknown */
    bool leader_changed;      /* role, term or leader differ from the previous ready */
    ls_index commit;          /* never decreases */
    ls_index last;
    ls_index durable; /* last index that is durable here; apply up to min(commit, durable) (P12) */
    ls_index
        own_term_first; /* leader: index of its no-op; it is serving when this is applied. Else 0 */
    ls_index cache_first; /* the driver may drop cached payloads below */
    ls_index
        prune_safe; /* leader: what no member within lag_entries needs; follower: from heartbeat */

    bool configuration_changed;                      /* by append, truncate, restore */
    const struct ls_configuration_at *configuration; /* in force; NULL while founding */

    /* A gap that state sync must close: entries up to gap_target are committed on the leader and
     * missing here. */
    bool gap;
    ls_index gap_target;
    struct ls_cursor gap_prev; /* the entries that revealed it (may be none: a heartbeat did) ... */
    const struct ls_entry *gap_entries; /* ... borrowed from the event */
    uint32_t gap_entries_count;

    uint64_t deadline_us; /* when the next TICK is due; UINT64_MAX: never */

    enum ls_status halted;   /* OK, or why this core promises nothing more (DIVERGED, IO, ...) */
    const char *halted_text; /* static */
};

/** Why a member's vote and acknowledgements count, or do not. */
enum ls_standing {
    LS_STANDING_COUNTS = 1,
    LS_STANDING_FOUNDING = 2, /* no configuration yet: waiting for every founder */
    LS_STANDING_OBSERVER = 3, /* by its role */
    LS_STANDING_OTHER_INCARNATION =
        4,                        /* its data directory is not the one that was admitted (P14) */
    LS_STANDING_TAIL_UNKNOWN = 5, /* its log ends before what it may have acknowledged (P11) */
    LS_STANDING_NOT_MEMBER = 6,
    LS_STANDING_HALTED = 7
};

/** A static sentence for a standing, e.g. "does not count: its data directory was re-created". */
LS_API const char *ls_standing_text(enum ls_standing standing);

enum ls_progress_state { LS_PROGRESS_PROBE = 1, LS_PROGRESS_PIPELINE = 2, LS_PROGRESS_SYNCING = 3 };

/** The leader's view of one member. Invariant: 0 <= match < next. */
struct ls_progress {
    struct ls_peer_id id;
    enum ls_progress_state state;
    enum ls_standing standing;
    bool linked;
    ls_index match;
    ls_index next;
    uint64_t in_flight_bytes;
    uint64_t heard_us; /* when its last reply arrived; 0: never */
    ls_index holds;    /* the last index that may go for its sake; UINT64_MAX: it lags too far */
};

struct ls_core_status {
    enum ls_role role;
    enum ls_standing standing; /* of this member */
    ls_term term;
    struct ls_peer_id leader;
    ls_index commit, applied, last, durable;
    ls_index cache_first;  /* from here on the driver keeps payloads */
    uint64_t cached_bytes; /* of them; above the setting only by what is not committed yet */
    struct ls_cursor anchor;
    bool transferring;
    const struct ls_configuration_at *configuration; /* NULL while founding */
    struct ls_peer_id
        missing_founders[LS_MEMBERS_MAX]; /* while founding: not linked or not voted */
    uint32_t missing_founders_count;
    uint32_t progress_count; /* leader only, one per member but self */
    struct ls_progress progress[LS_MEMBERS_MAX];
};

/**
 * Opens a core. The first ready (deadline, role) comes from a TICK the driver sends at once.
 *
 * core     owned; release with ls_core_close
 * errors   LS_ERR_INVALID    a setting out of range, or self neither in the configuration nor a
 * founder LS_ERR_CORRUPT    the parts contradict each other: runs not ascending, commit floor above
 * the log, ... LS_ERR_NO_MEMORY
 */
LS_API LS_NODISCARD enum ls_status ls_core_open(const struct ls_core_config *config,
                                                struct ls_core **core, struct ls_error *error);

/**
 * One event. Either succeeds or changes nothing.
 *
 * ready    borrowed until the next step or close
 * errors   LS_ERR_NO_MEMORY  nothing changed; for a MESSAGE it is as if it had been lost
 */
LS_API LS_NODISCARD enum ls_status ls_core_step(struct ls_core *core, const struct ls_event *event,
                                                const struct ls_ready **ready);

/** Takes NULL. */
LS_API void ls_core_close(struct ls_core *core);

/** O(members). Arrays are set as far as their counts. */
LS_API void ls_core_status(const struct ls_core *core, struct ls_core_status *out);

/** The term of the entry at `index`, which lies in [anchor, last]; else 0. O(log runs). */
LS_API ls_term ls_core_term_at(const struct ls_core *core, ls_index index);

/** Asserts every structural invariant. Called after every step in debug builds; tests call it
 * always. */
LS_API void ls_core_check(const struct ls_core *core);

/** NULL, or why this message cannot come from a correct peer. Called at the border, before a step.
 */
LS_API const char *ls_message_invalid(const struct ls_message *message);

LS_EXTERN_C_END

#endif
