/* SPDX-License-Identifier: MIT */
/*
 * The inside of a core, shared by the files of this room and nobody else.
 *
 * Every step has two halves. The first reserves: it may allocate and fail, and changes nothing that
 * can be seen. The second mutates and cannot fail. Functions that allocate are called *_reserve or
 * *_prepare; everything else belongs to the second half.
 */
#ifndef LOCKSTEP_CORE_STATE_H
#define LOCKSTEP_CORE_STATE_H

#include <lockstep/core.h>

/* AppendEntries to one member in one step; the rest follows with its acknowledgements */
#define LS__SENDS_MAX 16u
/* slots of the size ring that entries of others leave to a new leader's own first entries */
#define LS__RING_SLACK 1024u
/* a commit that nothing else carries is told to the followers after this part of a heartbeat */
#define LS__NOTICE_DIVISOR 8u

/* election timeouts that a leader waits for its own disk while the others commit without it */
#define LS__DISK_PATIENCE 4u

LS_STATIC_ASSERT(LS_PROPOSE_ENTRIES_MAX + LS__RING_SLACK < LS_CACHE_ENTRIES_MAX,
                 "a proposal fits an idle ring");
LS_STATIC_ASSERT(LS_APPEND_ENTRIES_MAX + LS__RING_SLACK < LS_CACHE_ENTRIES_MAX,
                 "an AppendEntries fits an idle ring");
LS_STATIC_ASSERT(LS_MEMBERS_MAX < 32, "a set of members is a mask of 32 bits");

/**
 * Makes room for `needed` items; doubles. Returns the array (moved or not), or NULL when the
 * allocator refused and everything is as before.
 */
void *ls__grow(const struct ls_env *env, void *array, size_t *capacity, size_t needed,
               size_t item_bytes);

/* ---- trail: the terms of the log, run-length encoded (trail.c) ---- */

struct ls__trail {
    struct ls_cursor anchor; /* what lies at or below it is committed and compacted (P9) */
    ls_index last;
    struct ls_cursor *runs; /* first entry of each run of equal terms, ascending in both */
    size_t count, capacity;
};

/** Room for `more` runs; whoever adds other members' terms keeps to LS_TRAIL_RUNS_MAX. */
bool ls__trail_reserve(struct ls__trail *trail, const struct ls_env *env, size_t more);
/** The term at `index` in [anchor, last]; else 0. */
ls_term ls__trail_term(const struct ls__trail *trail, ls_index index);
struct ls_cursor ls__trail_last(const struct ls__trail *trail);
/** Appends one entry; a new term needs a reserved run. */
void ls__trail_append(struct ls__trail *trail, ls_term term);
/** Removes entries at and above `from`, which lies above the anchor. */
void ls__trail_truncate(struct ls__trail *trail, ls_index from);
/** Moves the anchor up to `upto` <= last. */
void ls__trail_prune(struct ls__trail *trail, ls_index upto);
/** The log becomes empty after `anchor`. */
void ls__trail_reset(struct ls__trail *trail, struct ls_cursor anchor);
/** The last entry at or below `at` in index whose term is <= at.term; {0, 0} if there is none. */
struct ls_cursor ls__trail_floor(const struct ls__trail *trail, struct ls_cursor at);

/* ---- rings (ring.c) ---- */

/** Which persist batch makes which last index durable. */
struct ls__batch {
    uint64_t seq;
    ls_index last;
};
struct ls__batches {
    struct ls__batch *items; /* circular, ascending seq; capacity is 0 or a power of two */
    size_t head, count, capacity;
};
bool ls__batches_reserve(struct ls__batches *batches, const struct ls_env *env);
/** Records that batch `seq` ends at `last`. When full it joins the newest batch: later, not wrong.
 */
void ls__batches_push(struct ls__batches *batches, uint64_t seq, ls_index last);
/** No batch in flight vouches for entries at or above `from` any more (L11). */
void ls__batches_clamp(struct ls__batches *batches, ls_index from);
/** Takes out what `seq` made durable. Returns the last index it vouches for, or `durable`. */
ls_index ls__batches_pop(struct ls__batches *batches, uint64_t seq, ls_index durable);
/** The batch whose durability makes `index` durable; 0 when none is in flight for it. */
uint64_t ls__batches_covering(const struct ls__batches *batches, ls_index index);

/** Payload sizes of the entries the driver caches: [first, first + count). */
struct ls__ring {
    uint64_t
        *ends; /* circular: payload bytes from the ring's start of counting to each entry's end */
    size_t capacity; /* 0 or a power of two, <= LS_CACHE_ENTRIES_MAX */
    ls_index first;
    size_t count;
    uint64_t base; /* the end of the entry before `first` */
};
bool ls__ring_reserve(struct ls__ring *ring, const struct ls_env *env, size_t more);
/** Adds the entry after the last; drops the first when the ring is at its limit. */
void ls__ring_push(struct ls__ring *ring, uint64_t bytes);
void ls__ring_truncate(struct ls__ring *ring, ls_index from);
void ls__ring_drop(struct ls__ring *ring, ls_index below);
void ls__ring_reset(struct ls__ring *ring, ls_index first);
/** Payload bytes of the cached part of [first, last]; 0 when the range is empty. */
uint64_t ls__ring_bytes(const struct ls__ring *ring, ls_index first, ls_index last);
/** Entries from `first` on, up to `last`, that fit one AppendEntries (at least one). */
uint32_t ls__ring_batch(const struct ls__ring *ring, ls_index first, ls_index last);

/* ---- quorum: arithmetic over a configuration, both halves when joint (quorum.c) ---- */

/** Does this member's vote count anywhere in the configuration? */
bool ls__quorum_voter(const struct ls_configuration *configuration, uint32_t at);
/** Is a majority of every half in `mask` (bit = place of the member)? */
bool ls__quorum_has(const struct ls_configuration *configuration, uint32_t mask);
/** Are all voters of every half in `mask`? */
bool ls__quorum_has_all(const struct ls_configuration *configuration, uint32_t mask);
/** The largest value that a majority of every half reaches; values by place of the member. */
uint64_t ls__quorum_value(const struct ls_configuration *configuration, const uint64_t *values);

/* ---- the core ---- */

/** What is known of a member of the configuration in force (or of a founder). */
struct ls__peer {
    struct ls_peer_id id;
    struct ls_incarnation incarnation; /* as last met */
    bool met;                          /* `incarnation` is valid */
    bool linked;
    /* the rest is the leader's */
    bool counts; /* said so in its last reply */
    enum ls_progress_state state;
    ls_index match;
    ls_index next;
    bool probing;          /* probe: one AppendEntries is under way; wait for a sign of life */
    bool probe_empty;      /* its entries have arrived: ask again without them */
    ls_index probe_last;   /* the last entry it carried */
    ls_index flight_from;  /* syncing: first entry sent since its last reply */
    ls_index run_from;     /* syncing: from here to `next` all was sent */
    uint64_t append_round; /* the newest round when the last AppendEntries was sent */
    uint64_t check_round;  /* a heartbeat that will tell a loss ... */
    ls_index check_sent;   /* ... if the log then ends below this; round 0: none under way */
    uint64_t check_us;
    uint64_t acked_round;
    uint64_t heard_us;
    uint64_t contact_us; /* last reply that counts; for check-quorum */
    ls_index told_commit;
};

struct ls__read {
    uint64_t token;
    struct ls_peer_id from; /* who asked; valid when remote */
    bool remote;
    bool forwarded; /* this follower waits for its leader's answer */
    ls_index index; /* 0: captured when an entry of the own term is committed */
    uint64_t round; /* 0: waits for a round to start */
    uint64_t since_us;
};

/** What an AppendEntries or SYNCED would do to the log; made before anything changes. */
enum ls__verdict {
    LS__PLAN_OK = 1,
    LS__PLAN_MISMATCH = 2,  /* prev is not in the log */
    LS__PLAN_DIVERGED = 3,  /* it contradicts a committed entry (P4) */
    LS__PLAN_MALFORMED = 4, /* a configuration that cannot be read */
    LS__PLAN_NO_MEMORY = 5,
    LS__PLAN_FULL = 6 /* more runs of terms than LS_TRAIL_RUNS_MAX */
};
struct ls__plan {
    enum ls__verdict verdict;
    bool truncate;
    ls_index truncate_from;
    ls_index conflict;     /* diverged: where */
    ls_index append_first; /* index of the first entry to append */
    const struct ls_entry *entries;
    uint32_t count;
    uint32_t configurations; /* decoded into the slots after the present ones */
    ls_index verified;       /* last index that then equals the sender's log */
};

struct ls_core {
    struct ls_env env;
    struct ls_group_id group;
    struct ls_peer_id self;
    struct ls_incarnation incarnation;
    uint64_t now_us, election_us, heartbeat_us, window_bytes, cache_bytes, random;
    ls_index lag_entries; /* 0: no member is ever given up */
    uint32_t reluctance;

    /* durable promises and what is under way to the disk */
    struct ls_hard_state hard;
    uint64_t seq;         /* of the newest persist batch */
    uint64_t durable_seq; /* of the newest durable one */
    uint64_t hard_seq;    /* of the newest that changed the hard state (P1) */
    struct ls__batches batches;

    /* the log */
    struct ls__trail trail;
    struct ls__ring ring;
    ls_index durable, commit, applied;

    /* membership */
    struct ls_configuration founders; /* count 0: none given */
    struct ls_configuration_at *configurations;
    size_t configurations_count, configurations_capacity;
    struct ls__peer peers[LS_MEMBERS_MAX]; /* parallel to ls__view(core)->members */
    uint32_t peers_count;

    /* role */
    enum ls_role role;
    struct ls_peer_id leader;
    uint64_t leader_heard_us; /* stickiness; 0: no leader was heard */
    uint64_t election_deadline_us;
    uint32_t grants;        /* of the present (pre-)campaign, by place of the member */
    bool campaign_transfer; /* the present campaign was asked for by the leader */
    bool removed;           /* told by a member that it is none any more: no campaign (P6) */
    bool syncing;           /* a state sync session runs: the others may campaign first ... */
    bool syncing_waited;    /* ... for one timeout, which has passed */
    bool tail_unknown;
    enum ls_status halted;
    const char *halted_text;

    /* follower */
    ls_index verified; /* highest index known to equal the log of this term's leader (P4, C2) */
    ls_index leader_commit;  /* highest commit its leader told in this term */
    ls_index leader_counted; /* what it may have counted on this member for when it was first heard
                                in this term and this life (P11); UINT64_MAX: not heard */
    ls_index prune_safe;

    /* leader */
    ls_index own_term_first;
    uint64_t heartbeat_deadline_us, notice_deadline_us;
    uint64_t round;    /* newest confirmation round */
    uint64_t disk_seq; /* the newest durable batch when the disk was last looked at ... */
    uint64_t disk_us;  /* ... and when that changed, or nothing was under way */
    bool transferring, transfer_sent;
    bool transfer_any; /* nobody was named: `transfer_to` was chosen here */
    struct ls_peer_id transfer_to;
    uint64_t transfer_deadline_us;

    struct ls__read *reads;
    size_t reads_count, reads_capacity;

    /* output */
    struct ls_ready ready;
    struct ls_outgoing *messages;
    size_t messages_capacity;
    struct ls_read_result *results;
    size_t results_capacity;
    struct ls_entry *own; /* entries whose term the core fills in */
    size_t own_capacity;
    uint8_t *own_payload; /* the founders' configuration, encoded; only while there is none */
    ls_term traced_term; /* of the pre-votes whose traces are noted here; without a quorum they come
                            again and again, and once for each term is enough */
    bool traced_ask;
    uint64_t traced_answers; /* a bit for each place in the configuration and answer */
    enum ls_role told_role;
    ls_term told_term;
    struct ls_peer_id told_leader;
    struct ls__plan plan;
};

/* core.c */
void ls__trace(const struct ls_core *core, enum ls_trace_level level, const char *format,
               const struct ls_peer_id *peer, const uint64_t args[LS_TRACE_ARGS_MAX]);
#define LS__ARGS(...) ((const uint64_t[LS_TRACE_ARGS_MAX]){__VA_ARGS__})
/** A message of the present term, held until the term is durable (P1). */
struct ls_outgoing *ls__send(struct ls_core *core, enum ls_message_kind kind,
                             const struct ls_peer_id *to);
void ls__read_result(struct ls_core *core, uint64_t token, enum ls_status status, ls_index index);
/** The persist batch of this step. */
uint64_t ls__persist(struct ls_core *core);
void ls__hard_state_set(struct ls_core *core, struct ls_hard_state hard);
bool ls__own_reserve(struct ls_core *core, size_t count);
/** Appends to the log; terms are filled in, everything is reserved. */
void ls__log_append(struct ls_core *core, const struct ls_entry *entries, uint32_t count);
void ls__log_truncate(struct ls_core *core, ls_index from);
void ls__log_evict(struct ls_core *core);
/** Stops promising for good: no votes, no acknowledgements, no campaigns (P10). */
void ls__halt(struct ls_core *core, enum ls_status status, const char *text);
/** More changes of leader since the anchor than LS_TRAIL_RUNS_MAX. */
void ls__halt_full(struct ls_core *core);
void ls__commit_set(struct ls_core *core, ls_index commit);

/* membership.c */
const struct ls_configuration *ls__view(const struct ls_core *core);
bool ls__founding(const struct ls_core *core);
/** The place of a member in the view, or -1. */
int ls__place(const struct ls_core *core, const struct ls_peer_id *id);
struct ls__peer *ls__peer_find(struct ls_core *core, const struct ls_peer_id *id);
bool ls__configurations_reserve(struct ls_core *core, size_t more);
/** The view changed: keeps what is known of members that stay. */
void ls__members_refresh(struct ls_core *core);
void ls__configurations_truncate(struct ls_core *core, ls_index from);
void ls__configurations_prune(struct ls_core *core, ls_index upto);
/** The configuration with the highest index at or below commit, or NULL. */
const struct ls_configuration *ls__configuration_committed(const struct ls_core *core);
enum ls_standing ls__standing(const struct ls_core *core);
enum ls_standing ls__standing_of(const struct ls_core *core, uint32_t at);
/** A voter whose incarnation, as met, is the recorded one. */
bool ls__promise_counts(const struct ls_core *core, uint32_t at);
bool ls__makes_promises(const struct ls_core *core);
void ls__tail_check(struct ls_core *core);
/** The leader of the term sends; it holds this member to no more than `match`. */
void ls__tail_heard(struct ls_core *core, ls_index match, ls_index commit);

/* election.c */
void ls__election_timer_reset(struct ls_core *core);
void ls__become_follower(struct ls_core *core, ls_term term, const struct ls_peer_id *leader);
void ls__on_vote(struct ls_core *core, const struct ls_message *message);
void ls__on_vote_reply(struct ls_core *core, const struct ls_message *message);
void ls__on_timeout_now(struct ls_core *core, const struct ls_message *message);
void ls__election_tick(struct ls_core *core);
void ls__election_persisted(struct ls_core *core);

/* append.c: the follower's side */
enum ls__verdict ls__plan_prepare(struct ls_core *core, struct ls_cursor prev,
                                  const struct ls_entry *entries, uint32_t count, ls_index commit);
void ls__plan_apply(struct ls_core *core);
enum ls_status ls__append_prepare(struct ls_core *core, const struct ls_message *message);
void ls__on_append(struct ls_core *core, const struct ls_message *message);
void ls__follower_commit(struct ls_core *core, ls_index leader_commit);

/* progress.c: the leader's side */
void ls__progress_open(struct ls_core *core);
void ls__progress_reset(struct ls_core *core, struct ls__peer *peer);
void ls__progress_meet(struct ls_core *core, struct ls__peer *peer,
                       const struct ls_incarnation *incarnation);
void ls__progress_send(struct ls_core *core, uint32_t at);
void ls__progress_send_all(struct ls_core *core);
void ls__progress_probe(struct ls__peer *peer);
/** An AppendEntries without entries after all that was sent: its answer tells how far they are
 * safe. */
void ls__progress_ask(struct ls_core *core, struct ls__peer *peer);
/** The member is known to hold what is committed up to `match`. */
void ls__progress_match(struct ls_core *core, struct ls__peer *peer, ls_index match);
void ls__progress_heard(struct ls_core *core, uint32_t at, bool counts);
uint64_t ls__progress_in_flight(const struct ls_core *core, const struct ls__peer *peer);
void ls__on_append_reply(struct ls_core *core, const struct ls_message *message);
void ls__leader_commit(struct ls_core *core);
ls_index ls__prune_safe(const struct ls_core *core);
/** Up to where this member's entries may go; UINT64_MAX: it lags too far and holds nothing. */
ls_index ls__prunable(const struct ls_core *core, const struct ls__peer *peer);
enum ls_status ls__propose_prepare(struct ls_core *core, const struct ls_event *event);
void ls__on_propose(struct ls_core *core, const struct ls_event *event);

/* heartbeat.c */
void ls__heartbeat_round(struct ls_core *core, bool voters_only);
void ls__heartbeat_send(struct ls_core *core, uint32_t at);
void ls__on_heartbeat(struct ls_core *core, const struct ls_message *message);
void ls__on_heartbeat_reply(struct ls_core *core, const struct ls_message *message);
uint64_t ls__quorum_deadline(const struct ls_core *core);
void ls__leader_tick(struct ls_core *core);

/* read.c */
bool ls__read_prepare(struct ls_core *core);
void ls__on_read(struct ls_core *core, uint64_t token);
void ls__on_read_index(struct ls_core *core, const struct ls_message *message);
void ls__on_read_index_reply(struct ls_core *core, const struct ls_message *message);
/** Starts a round if reads wait for one, and answers what is confirmed. */
void ls__reads_advance(struct ls_core *core);
void ls__reads_fail(struct ls_core *core);
/** The link to `peer` is another one, or gone: what was asked over it gets no answer. */
void ls__reads_unlink(struct ls_core *core, const struct ls_peer_id *peer);
void ls__reads_expire(struct ls_core *core);
uint64_t ls__reads_deadline(const struct ls_core *core);

/* transfer.c */
void ls__on_transfer(struct ls_core *core, const struct ls_peer_id *to);
void ls__transfer_advance(struct ls_core *core);
void ls__transfer_link(struct ls_core *core, const struct ls__peer *peer);
void ls__transfer_tick(struct ls_core *core);

/* sync.c */
enum ls_status ls__sync_prepare(struct ls_core *core, const struct ls_event *event);
void ls__on_synced(struct ls_core *core, const struct ls_event *event);
void ls__on_restored(struct ls_core *core, const struct ls_event *event);
void ls__on_pruned(struct ls_core *core, ls_index upto);

#endif
