/* SPDX-License-Identifier: MIT */
/*
 * A group: a replicated machine, as this member sees it. See node.h for threads.
 *
 * Every call with a `done` callback fires it exactly once, never from inside the call itself, or
 * returns an error and never fires it. Spans are copied when the call returns LS_OK.
 */
#ifndef LOCKSTEP_GROUP_H
#define LOCKSTEP_GROUP_H

#include <lockstep/core.h>
#include <lockstep/machine.h>
#include <lockstep/node.h>
#include <lockstep/supervisor.h>
#include <lockstep/wire.h>

LS_EXTERN_C_BEGIN

struct ls_group;

/** A member of the first configuration. */
struct ls_founder {
    const char *name;                   /* [A-Za-z0-9._-], < LS_NAME_BYTES */
    const char *address;                /* "host:port", or NULL when it is not dialled (loopback) */
    enum ls_role_in_configuration role; /* 0: voter */
};

struct ls_group_options {
    size_t size;
    const char *name;          /* of the group */
    const char *member;        /* own name: one of the founders */
    struct ls_machine machine; /* copied; self borrowed until the group closed */
    const struct ls_founder
        *founders; /* the same list on all; used at the first start, later only addresses count */
    size_t founders_count;
    const struct ls_statesync *statesyncs; /* ordered; copied. NULL: log replay */
    size_t statesyncs_count;
    uint32_t election_ms;      /* minimum T; timeouts are drawn from [T, 2T) */
    uint32_t heartbeat_ms;     /* < election_ms / 2 */
    uint32_t reluctance;       /* leadership preference: 1 normal, f > 1 reluctant by that factor */
    uint64_t window_bytes;     /* per follower */
    uint64_t cache_bytes;      /* what the leader can send again itself; a member that needs
                                  older entries is left to state sync */
    uint64_t in_flight_bytes;  /* accepted and not yet applied; over it: LS_ERR_BUSY */
    uint64_t snapshot_entries; /* applied between two snapshot files of a machine in memory */
    uint64_t prune_entries;    /* with the snapshot strategy: the log is pruned by itself when so
                                  many entries are not needed; 0: by ls_group_prune only */
    uint64_t lag_entries;      /* with the snapshot strategy: a member further behind holds nobody's
                                       log any more */
    uint64_t lag_bytes;        /* ... in bytes of the log; 0: by entries only */
    uint64_t prune_bytes;      /* as prune_entries: so many bytes suffice, too; 0: entries only */
    uint64_t pinned_bytes;     /* with the snapshot strategy: members, sessions and leases hold at
                                  most so many bytes of the log together; 0: no limit */
    uint64_t snapshot_log_bytes; /* as snapshot_entries, in bytes of the log; 0: entries only */
};

LS_API void ls_group_options_init(struct ls_group_options *options);

/**
 * Joins or re-joins a group with the state in the node's store. Cost: the store checks every record
 * of the log, and a machine in memory takes its newest snapshot file in, all in this call, before
 * the loop turns again: about a second for each GiB. Who hosts other groups in the same node joins
 * large ones first.
 * errors  LS_ERR_INVALID   a setting, with the text; or the group is already in this node
 *         LS_ERR_CORRUPT, LS_ERR_FORMAT, LS_ERR_IO  from the store; CORRUPT also when the log ends
 *                          below what the machine has applied
 *         LS_ERR_MISMATCH  the machine's directory belongs to another group or incarnation
 *         LS_ERR_LIMIT     LS_GROUPS_MAX
 *         LS_ERR_BUSY      the vault still works for this group from before it was closed: again
 *                          later
 *         LS_ERR_CLOSED, LS_ERR_REENTRANT, LS_ERR_NO_MEMORY
 * After an error nothing stays behind, and the machine is not closed.
 */
LS_API LS_NODISCARD enum ls_status ls_group_join(struct ls_node *node,
                                                 const struct ls_group_options *options,
                                                 struct ls_group **group, struct ls_error *error);

/** Stops the group here; membership stays. As ls_node_close for one group. `closed` may be NULL.
 * Takes NULL. */
LS_API void ls_group_close(struct ls_group *group, void (*closed)(void *arg), void *arg);

/** How a call ended; borrowed until the callback returns. */
struct ls_outcome {
    /* OK. NO_LEADER, BUSY, CLOSED, HALTED; of a transfer NOT_LEADER, NOT_FOUND; forwarded: LIMIT:
     * nothing was done. UNKNOWN. Of a query also TIMEOUT, NO_MEMORY, the machine's */
    enum ls_status status;
    struct ls_cursor first;        /* of the first command; {0,0} unless OK */
    size_t count;                  /* of replies */
    const struct ls_span *replies; /* execute: one per command; query: one */
};
typedef void (*ls_done)(void *arg, const struct ls_outcome *outcome);

struct ls_call_options {
    uint32_t deadline_ms; /* 0: LS_CALL_DEADLINE_MS_DEFAULT. Waits for a leader until then */
};

/**
 * Replicates commands; done fires when all are committed and applied, on any member (forwarded once
 * to the leader); the replies are the leader's. Several commands take consecutive indices. Calls
 * that are outstanding together may take effect in another order when leadership moves: where order
 * matters, put them into one call or wait for done.
 *
 * call     NULL: defaults
 * errors   LS_ERR_BUSY (over in_flight_bytes), LS_ERR_LIMIT (LS_ENTRY_BYTES_MAX,
 * LS_PROPOSE_ENTRIES_MAX, LS_PROPOSE_BYTES_MAX), LS_ERR_INVALID (count 0), LS_ERR_CLOSED,
 * LS_ERR_HALTED, LS_ERR_REENTRANT, LS_ERR_NO_MEMORY
 */
LS_API LS_NODISCARD enum ls_status
ls_group_execute_many(struct ls_group *group, const struct ls_span *commands, size_t count,
                      const struct ls_call_options *call, ls_done done, void *arg);
LS_API LS_NODISCARD enum ls_status ls_group_execute(struct ls_group *group, struct ls_span command,
                                                    const struct ls_call_options *call,
                                                    ls_done done, void *arg);

/** The same, but done fires when the leader assigned indices: the commands may still be lost. done
 * may be NULL. */
LS_API LS_NODISCARD enum ls_status ls_group_feed_many(struct ls_group *group,
                                                      const struct ls_span *commands, size_t count,
                                                      const struct ls_call_options *call,
                                                      ls_done done, void *arg);
LS_API LS_NODISCARD enum ls_status ls_group_feed(struct ls_group *group, struct ls_span command,
                                                 const struct ls_call_options *call, ls_done done,
                                                 void *arg);

enum ls_consistency {
    LS_WEAK = 1,  /* the local state, however old */
    LS_STRONG = 2 /* linearizable on any member: read index (thesis 6.4) */
};

/** Queries the local machine when the consistency is reached. done: OK, TIMEOUT, CLOSED, or the
 * machine's error. */
LS_API LS_NODISCARD enum ls_status
ls_group_query(struct ls_group *group, enum ls_consistency consistency, struct ls_span query,
               const struct ls_call_options *call, ls_done done, void *arg);

/**
 * The barrier of a strong query without the query: done fires when the local state is linearizably
 * fresh; the caller then reads its machine itself, before it returns to the loop.
 */
LS_API LS_NODISCARD enum ls_status ls_group_read_barrier(struct ls_group *group,
                                                         const struct ls_call_options *call,
                                                         ls_done done, void *arg);

/** Hands leadership to the member called `name` (NULL: of the members bonded to the leader the most
 * up to date; if it leaves meanwhile, another one). Forwarded if needed. done: OK when begun. */
LS_API LS_NODISCARD enum ls_status ls_group_transfer(struct ls_group *group, const char *name,
                                                     const struct ls_call_options *call,
                                                     ls_done done, void *arg);

enum ls_condition_kind {
    LS_WHEN_LEADER_KNOWN = 1,
    LS_WHEN_LEADER_CHANGED = 2, /* from the one known when asked */
    LS_WHEN_LEADER_IS = 3,      /* condition.peer */
    LS_WHEN_I_LEAD = 4,
    LS_WHEN_I_FOLLOW = 5,
    LS_WHEN_ONLINE = 6, /* caught up, with a serving leader known */
    LS_WHEN_OFFLINE = 7,
    LS_WHEN_SERVING = 8,          /* leading, and the first entry of the own term is applied */
    LS_WHEN_COMMITTED = 9,        /* commit >= condition.index */
    LS_WHEN_COMMIT_ADVANCES = 10, /* beyond what it was when asked */
    LS_WHEN_APPLIED = 11,         /* applied >= condition.index */
    LS_WHEN_LOG_REVERTS = 12,     /* uncommitted entries were truncated */
    LS_WHEN_SYNC_MOVES = 13,  /* attempt, phase or percent of the catch-up differ from when asked */
    LS_WHEN_SYNC_PHASE = 14,  /* the catch-up is in condition.phase */
    LS_WHEN_BONDS_CHANGE = 15 /* a bond came up, went down or was refused since asked */
};

struct ls_condition {
    enum ls_condition_kind kind;
    struct ls_peer_id peer;
    ls_index index;
    enum ls_sync_phase phase;
};

/** Calls back once when the condition holds (soon, if it holds already): LS_OK, or LS_ERR_CLOSED.
 */
LS_API LS_NODISCARD enum ls_status ls_group_when(struct ls_group *group,
                                                 const struct ls_condition *condition,
                                                 void (*then)(void *arg, enum ls_status status),
                                                 void *arg);

/** Blocks another thread until it holds. errors LS_ERR_TIMEOUT, LS_ERR_CLOSED,
 * LS_ERR_WOULD_DEADLOCK on the loop's thread */
LS_API LS_NODISCARD enum ls_status
ls_group_wait(struct ls_group *group, const struct ls_condition *condition, uint32_t timeout_ms);

struct ls_group_status {
    char name[LS_NAME_BYTES];
    char member[LS_NAME_BYTES];
    struct ls_group_id id;
    struct ls_core_status core;
    bool serving, online;
    enum ls_status halted;          /* OK, or why the group stopped */
    char text[LS_ERROR_TEXT_BYTES]; /* what keeps it from counting or serving; empty: all is well */
    char prune_text[LS_ERROR_TEXT_BYTES]; /* what pins the log: "log kept: member c at 1200" */
    ls_index log_first;
    ls_index prune_safe;
    struct ls_sync_progress sync;
    uint64_t in_flight_bytes;
    uint64_t proposed, applied_commands, forwarded, reads, unknown; /* counters since the join */
    uint64_t apply_us_max;                                          /* longest single apply call */
    uint64_t elections, leader_changes;
    ls_index snapshot_index;                         /* of the newest snapshot file; 0: none */
    uint64_t snapshots_written, snapshots_installed; /* since the join */
    uint64_t freeze_us_max;                          /* longest single freeze of the machine */
    uint64_t log_bytes;                              /* of the log in the store, about */
};
/** What lies beyond the end of a text is left as it was. */
LS_API void ls_group_status(struct ls_group *group, struct ls_group_status *out);
/** The same, for who asks again and again: without text, prune_text, prune_safe, log_bytes and
 * sync, which are left as they were. */
LS_API void ls_group_glance(struct ls_group *group, struct ls_group_status *out);

struct ls_member_info {
    struct ls_member member;
    bool self, leader;
};
/** Members of the configuration in force (or the founders); returns how many were written. */
LS_API size_t ls_group_members(struct ls_group *group, struct ls_member_info *out, size_t capacity);

struct ls_group_bond {
    struct ls_bond_info info;
    bool leader;
    bool progress_known; /* this member leads: */
    struct ls_progress progress;
    uint64_t note_us;         /* when the peer last said what follows; 0: never on this link */
    struct ls_peer_note note; /* its role, term, commit, catch-up, ... */
    uint64_t bytes_in_per_s, bytes_out_per_s; /* of the last seconds */
    struct ls_sync_strikes strikes; /* wrong answers as a source of state sync: ls_group_release */
};
/** Bonds with the other members; returns how many were written. */
LS_API size_t ls_group_bonds(struct ls_group *group, struct ls_group_bond *out, size_t capacity);

/**
 * Removes the log up to `upto`, bounded by what is safe (docs/architecture.md); *pruned tells how
 * far it went. Nothing is pruned by itself while no snapshot strategy is configured.
 *
 * errors  LS_ERR_BUSY, LS_ERR_NO_MEMORY (nothing was pruned: again later), LS_ERR_IO,
 * LS_ERR_CLOSED, LS_ERR_HALTED, LS_ERR_REENTRANT
 */
LS_API LS_NODISCARD enum ls_status ls_group_prune(struct ls_group *group, ls_index upto,
                                                  ls_index *pruned);

/** A catch-up that waits for its next attempt begins it at once. */
LS_API void ls_group_retry(struct ls_group *group);

/**
 * Forgives a member what it answered wrongly as a source of state sync: it may be asked again at
 * once. errors  LS_ERR_NOT_FOUND  no member of that name but this one
 */
LS_API LS_NODISCARD enum ls_status ls_group_release(struct ls_group *group, const char *name);

enum ls_pin_kind {
    LS_PIN_COMMIT = 1,   /* the last committed entry stays */
    LS_PIN_MACHINE = 2,  /* the machine's state is not durable beyond */
    LS_PIN_MEMBER = 3,   /* `peer` has not acknowledged more; this member leads */
    LS_PIN_LEADER = 4,   /* the same of some member, as the leader says */
    LS_PIN_SESSION = 5,  /* a state sync that is served to `peer` */
    LS_PIN_FROZEN = 6,   /* a frozen state that is leased, last to `peer` */
    LS_PIN_KEEP = 7,     /* kept for short absences */
    LS_PIN_PROVIDER = 8, /* a state sync that says no more */
    LS_PIN_DURABLE = 9   /* at the leader: what is durable and committed here */
};
/* rows that ls_group_pins writes at most: every member, and the providers */
#define LS_GROUP_PINS_MAX 128u
/** Who or what holds the log. */
struct ls_group_pin {
    enum ls_pin_kind kind;
    struct ls_peer_id peer; /* zero: nobody */
    ls_index safe;    /* the last index that may go for its sake; UINT64_MAX: it holds nothing */
    uint64_t bytes;   /* of the entries after it, about */
    uint64_t left_ms; /* of a lease; 0: it has no end */
    bool given_up;    /* it held more than lag_bytes or pinned_bytes allow: not any more */
    char text[LS_SYNC_TEXT_BYTES]; /* "member c at 1200" */
};
/** What is known to hold the log; the smallest `safe` is how far it may be pruned. Returns how many
 * were written. */
LS_API size_t ls_group_pins(struct ls_group *group, struct ls_group_pin *out, size_t capacity);

LS_API struct ls_node *ls_group_node(const struct ls_group *group);

LS_EXTERN_C_END

#endif
