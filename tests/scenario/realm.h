/* SPDX-License-Identifier: MIT */
/*
 * A realm of several real consensus cores on one virtual clock: a network whose messages can be
 * lost, parked, copied and reordered, and a disk for each member on which a persist batch is
 * durable only when the disk says so. Everything a driver must do with a `ready` is done here in
 * its simplest form, and after every step the safety properties of Raft are checked over all
 * members together. Deterministic: the same seed and the same calls give the same run.
 *
 * Used by the scenario scripts (script.c) and by the randomised test (random_test.c).
 */
#ifndef SCENARIO_REALM_H
#define SCENARIO_REALM_H

#include <lockstep/core.h>

#define REALM_NODES_MAX 9u
#define REALM_BUSY_STEPS                                                                           \
    20000u /* steps at one instant: more is a core that asks for a tick now                        \
            */
#define REALM_START_US    1000000u
#define REALM_LATENCY_US  1000u
#define REALM_DISK_US     500u
#define REALM_SYNC_US     5000u
#define REALM_ELECTION_MS 150u
#define REALM_TEXT_BYTES  1024u

struct realm;

/** Entries after an anchor; the payloads live in the realm's arena. */
struct log {
    struct ls_cursor anchor;
    struct ls_configuration_at *anchor_configuration; /* NULL while the anchor is {0, 0} */
    struct ls_entry *entries;
    size_t count, capacity;
};

/** What one ready asked to persist. */
struct batch {
    uint64_t seq;
    uint64_t due_us;
    struct ls_hard_state hard_state;
    bool reset, truncate;
    struct ls_cursor anchor;
    struct ls_configuration_at *anchor_configuration;
    ls_index truncate_from;
    ls_index append_first;
    struct ls_entry *entries;
    uint32_t count;
    ls_index applied; /* the machine's applied index then: it may reach the disk with the batch */
};

struct disk {
    struct ls_hard_state hard_state;
    struct log log;
    ls_index applied; /* of a durable machine */
    bool torn;        /* lost acknowledged entries: the guard knows better */
};

/** A message on its way, or held back until `after` is durable. */
struct packet {
    struct ls_message message;
    uint64_t after;
    uint64_t at_us;
    uint64_t order;
    unsigned from, to;
    bool straggles;
};

struct packets {
    struct packet *items;
    size_t count, capacity;
};

struct node {
    struct realm *realm;
    unsigned number;
    char name[LS_NAME_BYTES];
    struct ls_peer_id id;
    enum ls_role_in_configuration seat;
    unsigned incarnation; /* 1, 2, ...: counted up by a wipe */
    unsigned lives;
    uint32_t reluctance;

    bool alive;
    bool asleep;     /* its ticks do not come */
    bool disk_held;  /* nothing becomes durable */
    bool apply_held; /* the machine does not apply */
    bool disk_failed;
    uint64_t clock_skew_us;

    struct ls_env env;
    struct ls_core *core;
    struct disk disk;
    struct log view; /* the log as the core believes it, durable or not */
    struct batch *batches;
    size_t batches_count, batches_capacity;
    struct packets held;
    uint64_t staged_seq, durable_seq;

    /* copies from the last ready */
    enum ls_role role;
    ls_term term;
    struct ls_peer_id leader;
    ls_index commit, durable, applied, cache_first, prune_safe, own_term_first;
    bool gap;
    ls_index gap_target;
    enum ls_status halted;
    uint64_t deadline_us;
    enum ls_status propose_status, transfer_status;
    bool syncing;
    uint64_t sync_at_us; /* when the automatic state sync answers; 0: none under way */

    struct ls_cursor acked; /* how far it acknowledged entries in that term */
    unsigned *votes;        /* by term: 1 + candidate, of the present incarnation */
    size_t votes_count;
    /* what it had promised before it was wiped or torn: that much was counted rightly */
    struct log ghost;
    unsigned ghost_incarnation; /* 0: none */
    unsigned *ghost_votes;
    size_t ghost_votes_count;
    bool linked[REALM_NODES_MAX];
};

enum rule_action { RULE_DROP = 1, RULE_PARK = 2, RULE_COPY = 3 };

struct rule {
    enum rule_action action;
    int from, to; /* -1: any */
    int kind;     /* 0: any */
};

/** What is known about the one entry at (index, term): the induction step of log matching. */
struct known_entry {
    ls_term term, prev_term;
    uint64_t hash;
};

struct known_index {
    struct known_entry *entries;
    size_t count;
    bool committed;
    ls_term term;         /* of the committed entry */
    ls_term committed_in; /* term of the member that first saw it committed */
};

struct pending_read {
    uint64_t token;
    unsigned node;
    unsigned life;
    ls_index floor; /* committed anywhere when the read began: it must not return less */
    bool done;
    enum ls_status status;
    ls_index index;
};

struct arena;

struct realm {
    uint64_t seed, random;
    uint64_t now_us;
    struct node nodes[REALM_NODES_MAX];
    unsigned nodes_count;
    struct packets network, parked;
    uint64_t order;
    bool cut[REALM_NODES_MAX][REALM_NODES_MAX]; /* messages from, to are lost */
    struct rule rules[32];
    size_t rules_count;
    uint64_t sent[REALM_NODES_MAX][REALM_NODES_MAX][LS_MESSAGE_TIMEOUT_NOW + 1];

    /* settings */
    uint32_t election_ms, heartbeat_ms;
    uint64_t cache_bytes, window_bytes;
    bool durable_machine;
    bool auto_sync;
    uint64_t latency_us, jitter_us, disk_us;
    unsigned loss_percent, duplicate_percent;
    unsigned refused_percent; /* of messages: the core gets no memory while it handles them */
    bool refusing;
    unsigned straggle_percent; /* of messages: come very late, whatever happened to the link */
    uint64_t sync_us;          /* until an automatic state sync answers */
    unsigned restore_percent;  /* of those: a snapshot, although the log would do */
    uint64_t refusals;
    bool reorder;

    /* what the checks remember */
    struct known_index *known; /* by index */
    size_t known_count;
    ls_index committed; /* the longest commit any member has seen */
    unsigned *leaders;  /* by term: 1 + node */
    size_t leaders_count;
    bool may_damage;
    unsigned damaged; /* wipes and torn disks so far */
    struct pending_read *reads;
    size_t reads_count, reads_capacity;
    uint64_t steps;

    struct arena *arena;
    char *trace; /* lines of level info and above */
    size_t trace_bytes, trace_capacity;
    bool tell; /* print the trace, debug included, as it happens */

    /** Called with the reason when a check fails; must not return. */
    void (*failed)(struct realm *realm, const char *reason);
    void *failed_arg;
};

/* realm.c: life of the realm and its members */
struct realm *realm_open(uint64_t seed);
void realm_close(struct realm *realm);
struct node *realm_add(struct realm *realm, const char *name, enum ls_role_in_configuration seat);
struct node *realm_find(struct realm *realm, const char *name);
struct node *realm_by_id(struct realm *realm, const struct ls_peer_id *id);
void realm_start(struct node *node);
/** Ends the process. The first `kept` batches that are not durable yet survive all the same. */
void realm_crash(struct node *node, size_t kept);
/** Empties the data directory of a crashed member: a new incarnation. */
void realm_wipe(struct node *node);
/** Takes the last `count` durable entries from a crashed member, although it acknowledged them. */
void realm_tear(struct node *node, size_t count);
void realm_link(struct node *a, struct node *b, bool up);
uint64_t realm_random(struct realm *realm, uint64_t bound);
void realm_founders(const struct realm *realm, struct ls_configuration *out);
struct ls_incarnation realm_incarnation(const struct node *node, unsigned incarnation);

/** Puts a line of the driver's own into the trace. */
void realm_note(struct realm *realm, const char *line);

void realm_tell_message(const struct realm *realm, const struct packet *packet);

/* drive.c: events and time */
void realm_step(struct node *node, struct ls_event *event);
enum ls_status realm_propose(struct node *node, const struct ls_span *payloads, uint32_t count);
struct pending_read *realm_read(struct node *node);
enum ls_status realm_transfer(struct node *node, const struct node *to);
void realm_disk_fails(struct node *node);
void realm_prune(struct node *node, ls_index upto);
void realm_sync(struct node *node, const struct node *from);
void realm_restore(struct node *node, const struct node *from);
void realm_make_durable(struct node *node, size_t count);
void realm_apply(struct node *node);
/** Runs until `until_us` or until `done` says so; true when it did. `done` may be NULL. */
bool realm_run(struct realm *realm, uint64_t until_us, bool (*done)(void *arg), void *arg);
/** Lets messages and disks come to rest without any tick. */
void realm_deliver(struct realm *realm);

/* network.c */
void network_send(struct node *node, const struct packet *packet);
/** Sends what the disk has released. */
void network_flush(struct node *node);
/** Takes the next message due at or before `now`; false: none. */
bool network_take(struct realm *realm, struct packet *out);
uint64_t network_next_us(const struct realm *realm);
void network_drop_pair(struct realm *realm, unsigned from, unsigned to);
void network_rule(struct realm *realm, const struct rule *rule);
/** Parked messages that match go out now; returns how many. */
size_t network_release(struct realm *realm, const struct rule *match);
void packets_push(struct packets *packets, const struct packet *packet);
void packets_remove(struct packets *packets, size_t at);
bool rule_matches(const struct rule *rule, const struct packet *packet);
const char *message_kind_text(int kind);

/* checks.c: what must hold after every step, over all members */
void check_ready_before(struct node *node, const struct ls_ready *ready);
void check_append(struct node *node, ls_index index, const struct ls_entry *entry);
void check_ready_after(struct node *node, const struct ls_ready *ready, enum ls_role was,
                       ls_index commit_was, ls_term term_was);
void check_outgoing(struct node *node, const struct ls_message *message);
void check_release(struct node *node, const struct packet *packet);
void check_read(struct node *node, const struct ls_read_result *result);
void check_applied(struct node *node, ls_index index);
void realm_fail(struct realm *realm, const char *format, ...) __attribute__((format(printf, 2, 3)))
__attribute__((noreturn));

/* log.c: logs, batches, memory, codec */
void *arena_allocate(struct realm *realm, size_t bytes);
void arena_release(struct realm *realm);
ls_index log_last(const struct log *log);
ls_term log_term(const struct log *log, ls_index index); /* 0: not held */
const struct ls_entry *log_entry(const struct log *log, ls_index index);
void log_push(struct log *log, const struct ls_entry *entry);
void log_truncate(struct log *log, ls_index from);
void log_prune(struct log *log, ls_index upto);
void log_copy(struct log *to, const struct log *from);
void log_release(struct log *log);
void log_apply_batch(struct log *log, const struct batch *batch);
/** The configuration in force at `index`, decoded; false: none. */
bool log_configuration(const struct log *log, ls_index index, struct ls_configuration_at *out);
struct ls_entry entry_copy(struct realm *realm, const struct ls_entry *entry);
uint64_t entry_hash(const struct ls_entry *entry);
/** Entries that `a` and `b` share from their start. */
ls_index log_common(const struct log *a, const struct log *b);
/** Codec of tests: a tag byte, then numbers as eight bytes. Stateless. */
extern const struct ls_codec realm_codec;
/** The allocator of env; `self` is a node whose realm may refuse, or NULL. */
void *realm_allocate(void *self, void *block, size_t bytes);

#endif
