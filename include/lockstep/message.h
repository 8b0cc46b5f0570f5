/* SPDX-License-Identifier: MIT */
/*
 * The messages of the consensus core, as values. How they look on the wire is the business of
 * wire.h.
 */
#ifndef LOCKSTEP_MESSAGE_H
#define LOCKSTEP_MESSAGE_H

#include <lockstep/types.h>

enum ls_message_kind {
    LS_MESSAGE_PRE_VOTE =
        1, /* pre-vote has its own kinds: it can never be counted as a vote (P2, E5) */
    LS_MESSAGE_PRE_VOTE_REPLY = 2,
    LS_MESSAGE_VOTE = 3,
    LS_MESSAGE_VOTE_REPLY = 4,
    LS_MESSAGE_APPEND = 5,
    LS_MESSAGE_APPEND_REPLY = 6,
    LS_MESSAGE_HEARTBEAT = 7,
    LS_MESSAGE_HEARTBEAT_REPLY = 8,
    LS_MESSAGE_READ_INDEX = 9,
    LS_MESSAGE_READ_INDEX_REPLY = 10,
    LS_MESSAGE_TIMEOUT_NOW = 11
};

/** PRE_VOTE and VOTE. `term` of a pre-vote is the term the sender would start, not its own. */
struct ls_vote {
    struct ls_cursor last; /* the sender's last entry */
    bool transfer;         /* asked for by the leader: ignore stickiness */
};

/** Answers to both. The term is the proposed one when granted, else the voter's own. */
struct ls_vote_reply {
    bool granted;
    bool transfer; /* echo of the request */
    bool
        not_member; /* the voter's committed configuration does not hold the sender (P6's notice) */
};

struct ls_append {
    struct ls_cursor prev;
    ls_index commit; /* the leader's commit index */
    bool syncing;    /* the leader waits for nothing: a gap is closed by state sync */
    const struct ls_entry
        *entries;   /* prev.index + 1 ...; borrowed. NULL in messages the core sends: */
    uint32_t count; /* the driver fills the payloads from its entry cache */
};

struct ls_append_reply {
    bool accepted;
    bool counts; /* false: this member makes no promises now (other incarnation, unknown tail) */
    struct ls_cursor prev; /* echo of the request's prev, which a rejection is about; {0, 0}: the
                              request was of an earlier term than this reply */
    ls_index match; /* accepted: last index this message verified, and durable. Else: min(commit,
                       durable) */
    struct ls_cursor hint; /* rejected: the last entry at or below prev whose term is <= prev.term
                              (fast back-off) */
    ls_index last;         /* last index of the log */
};

struct ls_heartbeat {
    ls_index
        commit; /* the leader's; a follower takes min(this, what this leader's appends verified) */
    ls_index sent;  /* last index sent to this follower before this: less in its log means loss.
                       Like the index of an append's prev never below what the leader holds to be
                       acknowledged by it: who lost its log relies on that (P11) */
    uint64_t round; /* confirmation round, increasing within a term (P7) */
    ls_index prune_safe; /* docs/architecture.md, "The prune-safe index" */
    bool syncing;        /* as in append: what the follower lacks, it fetches by state sync */
};

struct ls_heartbeat_reply {
    uint64_t round; /* echo; 0: the heartbeat was of an earlier term than this reply */
    ls_index last;  /* last index of the log, durable or not: a hint that shows loss */
    ls_index match; /* min(commit, durable): committed entries are in every later leader's log */
    bool counts;    /* as in append_reply */
};

/** A follower asks the leader for a read index. */
struct ls_read_index {
    uint64_t token;
};

struct ls_read_index_reply {
    uint64_t token;
    bool valid; /* false: not the leader, or deposed before the round was confirmed (R4) */
    ls_index index;
};

struct ls_message {
    enum ls_message_kind kind;
    struct ls_peer_id from;
    struct ls_peer_id to;
    struct ls_incarnation
        incarnation; /* of the sender; set by the receiving driver from the bond */
    ls_term term;
    union {
        struct ls_vote vote;                         /* PRE_VOTE, VOTE */
        struct ls_vote_reply vote_reply;             /* PRE_VOTE_REPLY, VOTE_REPLY */
        struct ls_append append;                     /* APPEND */
        struct ls_append_reply append_reply;         /* APPEND_REPLY */
        struct ls_heartbeat heartbeat;               /* HEARTBEAT */
        struct ls_heartbeat_reply heartbeat_reply;   /* HEARTBEAT_REPLY */
        struct ls_read_index read_index;             /* READ_INDEX */
        struct ls_read_index_reply read_index_reply; /* READ_INDEX_REPLY */
    } as;                                            /* TIMEOUT_NOW has no body */
};

#endif
