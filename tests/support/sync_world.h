/* SPDX-License-Identifier: MIT */
/*
 * A small world for tests of state sync: members with a log in memory and a real supervisor each,
 * joined by links with latency, in virtual time. The driver below does what the core does with
 * fetched entries, and checks that nothing is skipped, changed or applied twice. Everything follows
 * from one seed.
 */
#ifndef LOCKSTEP_SYNC_WORLD_H
#define LOCKSTEP_SYNC_WORLD_H

#include "test.h"

#include <lockstep/supervisor.h>

#define WORLD_NODES_MAX 8
#define SECOND          1000000ull

struct world;

struct world_log {
    struct ls_entry *entries; /* entries[i] has index i + 1; payloads owned by the world */
    ls_index last, capacity;
};

#define WORLD_FROZEN_MAX 4

/* A node's state is that of WORLD_ITEMS registers: entry i wrote register i % WORLD_ITEMS. */
#define WORLD_ITEMS 3000u

struct world_frozen {
    uint64_t id;
    struct ls_cursor anchor;
};

/* What a node staged of a snapshot: by hash, as long as the node lives. */
struct world_staged {
    struct ls_hash hash;
    uint8_t *bytes;
    size_t count;
};

struct world_effect {
    uint64_t token, at_us;
    enum ls_status status;
};

struct world_node {
    struct world *world;
    struct ls_peer_id id;
    bool up, leads;
    struct world_log log;
    ls_index first, commit, durable, applied;
    uint64_t applied_hash;
    struct ls_supervisor *supervisor;
    uint64_t due_us;
    struct world_effect effects[64];
    uint32_t effects_count;
    /* what tests look at */
    uint64_t polls, installs, appended, refused, read_calls;
    uint64_t questions; /* fetch and availability requests it received */
    uint64_t fetches;   /* fetch requests it received */
    uint64_t answers;   /* messages it sent to sessions */
    uint32_t syncing_changes;
    bool syncing;
    enum ls_status refuse_install; /* not OK: the next install is refused with it */
    bool hold_disk;                /* effects wait until it is false again */
    size_t queue_bytes_max;        /* bytes under way to one peer; 0: no limit */
    /* snapshots, sync_snapshots.c */
    struct world_frozen frozen[WORLD_FROZEN_MAX];
    uint64_t frozen_id;
    struct ls_snapshot snapshot; /* that was begun; hashes: */
    struct ls_hash *hashes;
    struct world_staged *staged;
    size_t staged_count;
    uint64_t puts, put_bytes, publishes, freezes;
    uint64_t chunk_bytes_sent;                 /* by its provider */
    bool diverged;                             /* its state is not that of the others */
    bool miscounts;                            /* ... and it counts wrongly */
    bool no_snapshots;                         /* its machine cannot be frozen */
    enum ls_status refuse_put, refuse_publish; /* not OK: the next is refused with it */
    uint32_t busy_begins;                      /* so many are refused with LS_ERR_BUSY */
    struct ls_sync_install install;            /* shown while it installs; total 0: nothing */
};

struct world_message {
    struct world_message *next;
    uint64_t at_us;
    uint32_t from, to, tag;
    bool to_session;
    size_t bytes;
    uint8_t data[];
};

enum world_fate { WORLD_DELIVER = 0, WORLD_DROP = 1, WORLD_TWICE = 2 };

struct world_options {
    uint32_t nodes;
    uint64_t seed;
    struct ls_log_replay_options replay; /* of all nodes */
    uint32_t retry_min_ms, watchdog_ms;
    const struct ls_statesync *strategies; /* NULL: log replay */
    size_t strategies_count;
    bool snapshots; /* the machines take them */
};

struct world {
    struct ls_env env;
    struct world_options options;
    struct ls_statesync strategies[LS_STATESYNCS_MAX];
    size_t strategies_count;
    uint64_t now_us, random;
    uint64_t latency_min_us, latency_max_us, disk_us;
    uint64_t bytes_per_s; /* of each path, to each side; 0: no limit */
    uint64_t free_us[WORLD_NODES_MAX][WORLD_NODES_MAX]; /* a path has sent all it was given */
    struct world_node nodes[WORLD_NODES_MAX];
    uint32_t nodes_count;
    uint32_t leader; /* index of a node; nodes_count: unknown */
    ls_term term;
    struct world_log truth;
    bool cut[WORLD_NODES_MAX][WORLD_NODES_MAX]; /* no bond */
    struct world_message *messages;
    /* May change, drop or repeat a message as it is sent; a changed one is given in *out (malloc).
     */
    enum world_fate (*intercept)(struct world *world, const struct world_message *message,
                                 void *arg);
    void *intercept_arg;
    ls_index marker; /* a marker entry at that index becomes committed at: */
    uint64_t marker_us;
    bool no_markers; /* they do not commit */
    uint64_t bytes_live, bytes_peak, allocations, refuse_at, refused;
    uint64_t warnings;
    char last_warning[256];
    void **blocks; /* payloads */
    size_t blocks_count, blocks_capacity;
};

/** Node 0 leads. Logs are empty. */
struct world *world_open(const struct world_options *options);
void world_close(struct world *world);
uint64_t world_random(struct world *world, uint64_t below);
/** Appends `count` entries of `term`, payloads of up to `bytes`, to the truth. */
void world_write(struct world *world, ls_term term, ls_index count, uint32_t bytes);
/** Gives a node the truth up to `last`, committed up to `commit`. */
void world_fill(struct world *world, uint32_t node, ls_index last, ls_index commit);
/** Appends to a node's log an entry that is not in the truth. */
void world_diverge(struct world *world, uint32_t node, ls_term term, uint32_t count);
void world_prune(struct world *world, uint32_t node, ls_index upto);
void world_bond(struct world *world, uint32_t a, uint32_t b, bool bonded);
/** Bonds with all, or none. A node that is down answers nothing and keeps its log. */
void world_up(struct world *world, uint32_t node, bool up);
/** Its supervisor ends, and another one begins with the log as it is. */
void world_restart(struct world *world, uint32_t node);
/** The leader tells `node` its commit, and the truth's entries (prev, prev + count]. */
void world_gap(struct world *world, uint32_t node, ls_index target, ls_index prev, uint32_t count);
/** An append of the leader: taken if it continues the log, else a gap. */
void world_append(struct world *world, uint32_t node, ls_index target, ls_index prev,
                  uint32_t count);
/** Sends as if from that node, past its supervisor. */
void world_send(struct world *world, uint32_t from, uint32_t to, bool to_session,
                struct ls_span message);
void world_poll(struct world *world, uint32_t node);
/** Handles the next event; false: none until `until_us`, where the clock then stands. */
bool world_step(struct world *world, uint64_t until_us);
void world_run(struct world *world, uint64_t for_us);
/** Runs until the node's commit reaches `index`; false: not within that time. */
bool world_reaches(struct world *world, uint32_t node, ls_index index, uint64_t within_us);
/** Asserts that the node's log up to its commit is the truth, each entry applied once. */
void world_check(const struct world *world, uint32_t node);
/* sync_snapshots.c */
void world_snapshots_driver(struct ls_supervisor_driver *driver);
void world_snapshots_free(struct world_node *node);
/** The marker that was fed is committed and applied by all who are up and have the log before it.
 */
void world_marker(struct world *world);
/** Counts what a provider sends. */
void world_count_sent(struct world_node *node, struct ls_span bytes);
/** For sync_snapshots.c: as if the log began after `anchor`. */
void world_jump(struct world *world, uint32_t node, ls_index anchor);
void world_push(struct world *world, ls_term term, enum ls_entry_kind kind, struct ls_span data);
struct ls_sync_progress world_progress(const struct world *world, uint32_t node);

#endif
