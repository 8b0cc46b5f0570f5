/* SPDX-License-Identifier: MIT */
/*
 * What the checks remember. They only observe: the status of a group, what it gives its store, what
 * leaves it in messages, and what its medium would hold if the power went now.
 */
#ifndef LOCKSTEP_SIM_CHECKS_H
#define LOCKSTEP_SIM_CHECKS_H

#include <lockstep/lockstep.h>
#include <lockstep/sim.h>
#include <lockstep/storage_memory.h>
#include <lockstep/wire.h>

struct world;
struct sim_member;

/** An entry in a log. `chain` is a hash over it and all entries before it. */
struct sim_mark {
    ls_term term;
    uint64_t chain;
};

/** An entry that some member held: one for each term at an index. */
struct sim_fact {
    struct sim_mark mark;
    uint64_t past; /* the chain of the entry before it */
    uint32_t by;   /* member + 1, who held it first; 0: none */
    uint32_t next; /* in `more`, + 1; 0: no other term at this index */
};

/** What a member's messages have said, and its disk therefore must never forget. */
struct sim_promise {
    ls_term term;
    bool voted; /* in `term` */
    struct ls_peer_id vote;
    ls_index match;         /* acknowledged so far, in whatever term */
    struct sim_mark mark;   /* the entry there */
    struct ls_cursor fresh; /* term of the newest acknowledgement, and how far they go in it */
};

/** A member's log as its core has it, durable or not. */
struct sim_shadow {
    struct ls_storage store; /* the one under the tap */
    struct ls_group_id group;
    struct ls_group *of;  /* also while it closes: to be asked from within only */
    struct sim_mark *log; /* by index; what was pruned stays */
    size_t capacity;
    ls_index last, anchor;     /* anchor: as it started, of a state that it took in, or pruned */
    struct ls_hard_state hard; /* as given to the store */
    struct sim_promise promise;
    uint32_t wipes;  /* before the promises were made */
    ls_index commit; /* seen in this life */
    bool refused;    /* the last batch waits for room: the core is ahead by it */
};

/** A committed entry, and the earliest term in which it is known to be committed. */
struct sim_committed {
    ls_term term;
    uint64_t chain;
};

/** What a member costs. */
struct sim_watch {
    uint64_t allocations; /* of its node, ever */
    uint64_t live_bytes, live_bytes_max;
    uint64_t second; /* of virtual time, in which are counted: */
    uint64_t turns, inputs;
    uint64_t refused_ms;                    /* of virtual time, in which a refusal was counted */
    uint64_t append_bytes_max;              /* payloads of the largest AppendEntries it sent */
    ls_index sent_next[LS_SIM_MEMBERS_MAX]; /* behind the last one to each */
    /* the first that was not sent to each when more than the window was in flight; 0: it is not */
    ls_index window_next[LS_SIM_MEMBERS_MAX];
    uint64_t log_bytes;                                  /* payloads ever given to its store */
    uint64_t window_bytes, in_flight_bytes, cache_bytes; /* settings of its group */
};

/** The last message of a core that was read when it was sent: a leader sends it to several. */
struct sim_sent {
    struct ls_message message; /* without its entries */
    uint64_t payload;          /* bytes of their data */
    size_t count;
    uint8_t bytes[512];
};

struct sim_logs {
    struct sim_fact *facts; /* by index */
    size_t facts_capacity;
    struct sim_fact *more;
    size_t more_count, more_capacity;
    struct sim_committed *committed; /* by index */
    size_t committed_capacity;
    ls_index committed_last;
    struct ls_wire_decoder *decoder;
    struct sim_sent sent;
};

/** Zeroed room for `at`; moves the block. */
void *sim_grow(void *block, size_t *capacity, size_t at, size_t size);

/* ---- checks_log.c: log matching, append-only, completeness ---- */

/** Puts a tap between the member's node and its store. */
void sim_check_store(struct sim_member *member, struct ls_storage *store);
/** The member is about to start: its log is what its medium holds. */
void sim_check_log_restart(struct sim_member *member);
void sim_check_new_leader(struct sim_member *member, ls_term term);
/** The member, in `term`, knows that all up to `commit` is committed. */
void sim_check_commit(struct sim_member *member, ls_term term, ls_index commit);
void sim_check_log_free(struct world *world);

/* ---- checks_media.c: what would survive a power cut ---- */

/** Is the entry on the member's medium now? */
bool sim_check_holds(const struct sim_member *member, ls_index index, struct sim_mark mark);
/** An entry is committed now, says `member`: a quorum's media must hold it. */
void sim_check_quorum(struct sim_member *member, ls_index index);
/** A message leaves, or is lost because there is no link. */
void sim_check_sent(struct sim_member *member, const struct ls_peer_id *to, struct ls_span bytes,
                    bool leaves);
/** The member is about to start: its medium must keep what its messages promised. */
void sim_check_promises(struct sim_member *member);

/* ---- checks_limits.c: memory, turns, buffers, and what is pruned ---- */

/** Allocates as env.allocate must, and counts. */
void *sim_check_allocate(struct sim_member *member, void *block, size_t bytes);
/** The node is gone. */
void sim_check_closed(struct sim_member *member);
/** Something came to the member from outside: a message, a call, a finished sync, a bond. */
void sim_check_input(struct sim_member *member);
/** Something was refused to the member, which asks again a millisecond later at the earliest: more
 * often is a hot loop. */
void sim_check_refused(struct sim_member *member);
/** Its loop turns. */
void sim_check_loop(struct sim_member *member);
void sim_check_buffers(struct sim_member *member, const struct ls_group_status *status);
/** The member removes its log up to `upto`. */
void sim_check_prune(struct sim_member *member, ls_index upto);
/** All is well and the faults are over: idle, then under load. */
void sim_check_steady(struct world *world);

#endif
