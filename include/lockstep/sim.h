/* SPDX-License-Identifier: MIT */
/*
 * The simulator: runs your machine in a group of members on a virtual clock, network and disk, with
 * clients and faults, all of it decided by one seed. Nodes, groups, state sync and stores are the
 * code of production. docs/simulator.md tells how to begin; examples/sim_bank.c is a whole program.
 *
 * A workload says what is simulated: how a member's machine is made, what a client asks next, and
 * what must hold. These hold for every machine, and no workload has to say them: one leader a term,
 * commit never goes back, every member applies the same commands at the same indices and gives the
 * same replies, every call ends once, what was refused is never applied and what was acknowledged
 * was, no call sees less than what was acknowledged before it began; and when the faults end, all
 * members converge and serve.
 *
 * A library of its own, static: link with `pkg-config lockstep-sim` or lockstep::sim; its names
 * begin with ls_sim_ and sim_. It is for tests: where memory is out it asserts.
 *
 * Thread: a run happens inside of ls_sim_run, on its caller's thread; runs on several threads are
 * independent if their workloads are. The functions of a workload may call those that take a struct
 * ls_sim, and nothing else of Lockstep but ls_reply_set and what needs no group.
 */
#ifndef LOCKSTEP_SIM_H
#define LOCKSTEP_SIM_H

#include <lockstep/group.h>

LS_EXTERN_C_BEGIN

/* more members would only be slower: every quorum rule shows with 7 */
#define LS_SIM_MEMBERS_MAX 7u
/* clients of one run, bounded by what one core can check */
#define LS_SIM_CLIENTS_MAX 16u
/* commands of one call, 16 bits of their prefix: enough to be cut by every limit below */
#define LS_SIM_COMMANDS_MAX 4096u
/* words that a workload may keep with a call */
#define LS_SIM_NOTES 4u
/* one line of text: a verdict, the arguments of a run; bytes with the terminator */
#define LS_SIM_TEXT_BYTES 1024u
/* kinds of faults there can be: bits of a mask */
#define LS_SIM_FAULTS_MAX 64u

/** One run, as the functions of a workload see it. Borrowed from `begin` until `end`. */
struct ls_sim;

/** Which runs of a workload that allows it use the snapshot strategy. */
enum ls_sim_snapshots {
    LS_SIM_SNAPSHOTS_DEFAULT = 0, /* LS_SIM_SNAPSHOTS_NO */
    LS_SIM_SNAPSHOTS_NO = 1,
    LS_SIM_SNAPSHOTS_YES = 2,
    LS_SIM_SNAPSHOTS_DRAW = 3 /* the seed decides: one in four */
};

enum ls_sim_kind {
    LS_SIM_COMMAND = 1, /* ls_group_execute */
    LS_SIM_QUERY = 2,   /* ls_group_query */
    LS_SIM_FEED = 3,    /* ls_group_feed: LS_OK says where it is in the log, no more */
    LS_SIM_BARRIER = 4  /* ls_group_read_barrier: with LS_OK `judge` may read the machine of
                           call->member itself, and sees what a strong query would */
};

/** One call of one client. */
struct ls_sim_call {
    /* given: */
    uint64_t id;     /* from 1; no other call of the run has it, so it makes values unique */
    uint32_t client; /* from 0 */
    uint32_t member; /* that is asked, from 0 */
    bool probe;      /* the faults are over and the group must take it: give a command */
    /* to be filled by `next`: */
    enum ls_sim_kind kind;           /* LS_SIM_COMMAND unless changed */
    enum ls_consistency consistency; /* of a query: LS_STRONG unless changed */
    struct ls_span data;             /* the command or query: borrowed until the next `next` */
    const struct ls_span *commands;  /* instead: several in one call, borrowed likewise */
    size_t count;                 /* of them, <= LS_SIM_COMMANDS_MAX; 0: `data` is the only one */
    uint64_t notes[LS_SIM_NOTES]; /* the workload's own, kept with the call */
    /* for `judge`; numbers of events, because at one virtual time much may happen: */
    uint64_t invoked, returned;
};

/** What is simulated. Optional members may be NULL. */
struct ls_sim_workload {
    size_t size;
    void *self;
    const char *name; /* static; for output and replay. Required */

    /** A run begins: nothing of an earlier one may be left in `self`. Optional. */
    void (*begin)(void *self, struct ls_sim *sim);

    /**
     * Makes the machine of a member that starts, for this life of it: a machine in memory is empty
     * again. Its `close` is called when that life ends, also when the member could not start. In
     * some runs the simulator keeps a journal of its commands, as if it were on a disk. Required.
     * Any error ends the run.
     */
    enum ls_status (*machine)(void *self, uint32_t member, struct ls_machine *out);

    /** Before a member joins: changes settings of its group, e.g. state syncs. What the simulator
     * sets itself (name, member, founders, machine) it sets afterwards. Optional. */
    void (*group)(void *self, uint32_t member, struct ls_group_options *options);

    /** The next call of call->client. It may still be refused before it begins: `judge` tells.
     * Required. */
    void (*next)(void *self, struct ls_sim *sim, struct ls_sim_call *call);

    /**
     * How a call ended; once for each `next`, unless the run fails before. With LS_OK, what was
     * replied is outcome->replies[0] (a reply for each command; none for FEED and BARRIER); with
     * another status ls_sim_did_nothing tells whether it may have happened. call->data and
     * call->commands are gone by now, notes are what they were. Optional.
     */
    void (*judge)(void *self, struct ls_sim *sim, const struct ls_sim_call *call,
                  const struct ls_outcome *outcome);

    /** The state of one member: after each call of its machine's apply or apply_batch. `machine` is
     * the `self` of what `machine` made. Optional. */
    void (*check)(void *self, struct ls_sim *sim, uint32_t member, const void *machine);

    /** A number that is equal for equal states. Members must agree on it wherever they applied
     * equally much; it may cost as much as the state is large, after each apply. Optional: without
     * it, states are equal if all replies are. */
    uint64_t (*digest)(void *self, const void *machine);

    /** The end of a run in which nothing failed so far: the place to judge a whole history.
     * Optional. */
    void (*check_end)(void *self, struct ls_sim *sim);

    /** The run is over: releases what `begin` made. Optional. */
    void (*end)(void *self);

    /** Its machines can be frozen, iterated and restored: in some runs the group uses the snapshot
     * strategy, logs are pruned early, and each member has a vault on a medium of its own. */
    bool snapshots;
};

/* ---- a run ---- */

struct ls_sim_options {
    size_t size;
    uint64_t seed;    /* decides everything that is not set here */
    uint32_t members; /* 1 to LS_SIM_MEMBERS_MAX; 0: the seed decides */
    uint32_t seconds; /* of virtual time with faults; 0: LS_SIM_SECONDS_DEFAULT */
    uint64_t without; /* kinds of fault that do not happen: bits of ls_sim_fault_bit */
    const char *skip; /* single faults that do not, by number: "3,7,12-20"; NULL: none. Borrowed */
    bool exact;       /* not longer than `seconds`, even if some kind of fault has not struck */
    bool trace;       /* print every trace record to standard output */
    enum ls_sim_snapshots snapshots;
};
#define LS_SIM_SECONDS_DEFAULT 20u
/** For ls_sim_options.without: no faults at all. */
#define LS_SIM_FAULTS_ALL UINT64_MAX

struct ls_sim_result {
    bool clean;
    char text[LS_SIM_TEXT_BYTES];   /* "clean", or the sentence of what failed first */
    char replay[LS_SIM_TEXT_BYTES]; /* the arguments of ls_sim_main that run it again */
    uint64_t trace_hash;            /* over all that happened: equal for each run of a seed */
    uint32_t members;
    uint64_t virtual_us;
    uint64_t events, messages, sessions, leader_changes;
    ls_index applied; /* the highest */
    uint64_t calls, acknowledged, unknown, nothing_done;
    uint64_t injected[LS_SIM_FAULTS_MAX]; /* by bit of the kind */
};

/** Sets size and defaults. */
void ls_sim_options_init(struct ls_sim_options *options);

/**
 * Runs one seed: virtual time with clients and faults, longer than asked for as long as a kind of
 * fault has not struck; then all faults end and everything must converge and serve.
 *
 * options   borrowed; NULL: defaults with seed 0
 * workload  borrowed
 * result    out; may be NULL
 * returns   whether it was clean. With an option out of range it is not, and the text says which
 * cost      some milliseconds for each virtual second
 */
LS_NODISCARD bool ls_sim_run(const struct ls_sim_options *options,
                             const struct ls_sim_workload *workload, struct ls_sim_result *result);

/**
 * The command line of lockstep-sim (--help tells) for workloads of your own: runs seeds, prints
 * what each came to, and for one that fails the command that runs it again; can shrink it.
 *
 * workloads  borrowed; the seed decides for one of them, unless --workload names it
 * returns    what main should: 0 clean, 1 a seed failed, 2 the arguments are wrong
 * thread     the only one of the process when it shrinks: it forks
 */
LS_NODISCARD int ls_sim_main(int argc, char **argv, const struct ls_sim_workload *workloads,
                             size_t count);

/** The name of the kind of fault that is bit `bit`, e.g. "crash"; NULL: there is none. Static. Any
 * thread. */
const char *ls_sim_fault_name(uint32_t bit);
/** The mask with the kind of that name; 0: there is none. Any thread. */
uint64_t ls_sim_fault_bit(const char *name);

/* ---- for the functions of a workload ---- */

/** A random number in [low, high], from the seed: the only randomness to be used. */
uint64_t ls_sim_random(struct ls_sim *sim, uint64_t low, uint64_t high);

/** Something that must hold does not: the run ends as failed with this sentence. Only the first one
 * counts. Keep numbers and names apart from the words: shrinking compares the words. */
void ls_sim_fail(struct ls_sim *sim, const char *format, ...) LS_PRINTF(2, 3);

/** A line of the trace. */
void ls_sim_note(struct ls_sim *sim, const char *format, ...) LS_PRINTF(2, 3);

uint32_t ls_sim_members(const struct ls_sim *sim);
/** Virtual time since the run began, microseconds. */
uint64_t ls_sim_now_us(const struct ls_sim *sim);
/** The number of the event that is happening. */
uint64_t ls_sim_event(const struct ls_sim *sim);
/** Does this run use the snapshot strategy? */
bool ls_sim_snapshots(const struct ls_sim *sim);
/** Where the first command of call `id` was applied; 0: nowhere so far, and at the end of a run for
 * ever. */
ls_index ls_sim_applied(const struct ls_sim *sim, uint64_t id);
/** The `self` of the machine that member runs now; NULL: it is down. Borrowed for the call. */
void *ls_sim_machine(const struct ls_sim *sim, uint32_t member);
/** The group of that member; NULL: it is down. For ls_group_status and the like; not from `check`
 * and `digest`, which are called from apply. Borrowed for the call. */
struct ls_group *ls_sim_group(const struct ls_sim *sim, uint32_t member);

/** Does this status of a call promise that nothing was done? Any thread. */
bool ls_sim_did_nothing(enum ls_status status);

LS_EXTERN_C_END

#endif
