/* SPDX-License-Identifier: MIT */
/*
 * What the files of machine/ share: the node, the group, and what a group keeps between the turns
 * of the loop. Each struct says which file works on it.
 *
 *   node.c     opens, closes, routes what comes up from transport and storage, runs the turn
 *   join.c     from the store to an open group, and back
 *   group.c    steps the core, absorbs what is ready, a group's part of the turn
 *   calls.c    pending calls: propose, forward, answer
 *   reads.c    read barriers and queries
 *   apply.c    committed entries into the user's machine
 *   cache.c    the payloads the leader can send again
 *   held.c     messages that wait for a sync
 *   catchup.c  the driver of the state sync supervisor
 *   snapshots.h  snapshots.c, staging.c, keep.c over pack.c: frozen states, installs, files
 *   when.c     conditions
 *   notes.c    what members say of themselves, and how fast their bonds are
 *   info.c     status, members, bonds
 *   prune.c    what may be removed from the log, and who holds the rest
 *   sizes.c    about how many bytes which part of the log has
 *   loop.c     libevent
 *   closer.c   closing a store or a vault whose disk may hang
 */
#ifndef LOCKSTEP_RUNTIME_H
#define LOCKSTEP_RUNTIME_H

#include <pthread.h>

#include <lockstep/group.h>
#include <lockstep/supervisor.h>
#include <lockstep/vault.h>
#include <lockstep/wire.h>

#include "sizes.h"
#include "snapshots.h"

/* a batch read from storage for applying: bounds the copy of payloads */
#define LS__APPLY_READ_BYTES (1u << 20)
/* entries of the log's tail that are read into the cache at a join */
#define LS__CACHE_WARM_ENTRIES 8192u
/* how soon a machine that answered BUSY, or a step that got no memory, is tried again */
#define LS__RETRY_US 1000u
/* between two notes to peers, unless role or phase changed */
#define LS__NOTE_US 1000000u
/* between two looks at what may be pruned */
#define LS__PRUNE_LOOK_US 100000u
/* what a call costs of in_flight_bytes beside its commands */
#define LS__CALL_BYTES 64u
/* the smallest block of a call */
#define LS__CALL_BLOCK_BYTES 128u
/* a finished call keeps a block up to this size for the next one */
#define LS__CALL_KEEP_BYTES (64u << 10)
#define LS__GROUP_SLOTS     (2u * LS_GROUPS_MAX)
/* entries of one step: of the event, and a no-op and a configuration of the core's own */
#define LS__ENTRIES_MAX (LS_PROPOSE_ENTRIES_MAX + 2u)

LS_STATIC_ASSERT(LS_APPEND_ENTRIES_MAX <= LS__ENTRIES_MAX, "an append is a step");
LS_STATIC_ASSERT(LS_REPLAY_ENTRIES_MAX <= LS__ENTRIES_MAX, "a range is a step");

/* ---- replies: what a machine answered, one slot for each command of a batch ---- */

struct ls__reply_at {
    size_t offset, bytes;
    bool lost; /* there was no memory for it */
};

struct ls_replies {
    const struct ls_env *env;
    uint8_t *data;
    size_t bytes, capacity;
    struct ls__reply_at *slots;
    size_t count, slots_capacity;
};

/** Empties `replies` and makes `count` empty slots. errors LS_ERR_NO_MEMORY */
enum ls_status ls__replies_reset(struct ls_replies *replies, size_t count);
/** As ls_reply_set. errors LS_ERR_NO_MEMORY */
enum ls_status ls__replies_put(struct ls_replies *replies, size_t at, struct ls_span reply);
struct ls_span ls__replies_at(const struct ls_replies *replies, size_t at);
void ls__replies_free(struct ls_replies *replies);

/* ---- cache.c ---- */

struct ls__slab;

struct ls__cached {
    struct ls_entry entry;
    struct ls__slab *slab;
};

/** Entries [first, first + count) with their payloads, in slabs that are freed from the front. */
struct ls__cache {
    const struct ls_env *env;
    ls_index first;
    size_t count;
    struct ls__cached *ring;
    size_t capacity, head;
    struct ls__slab *oldest, *newest, *spare;
};

void ls__cache_open(struct ls__cache *cache, const struct ls_env *env, ls_index first);
void ls__cache_close(struct ls__cache *cache);
/** Makes room, so that appending entries of that count and payload cannot fail. errors
 * LS_ERR_NO_MEMORY */
enum ls_status ls__cache_reserve(struct ls__cache *cache, size_t count, size_t bytes);
/** Appends within what was reserved; `index` follows the last one, or begins anew where the cache
 * is elsewhere. */
void ls__cache_append(struct ls__cache *cache, ls_index index, const struct ls_entry *entry);
/** Removes entries at and above. */
void ls__cache_truncate(struct ls__cache *cache, ls_index from);
/** Removes entries below. */
void ls__cache_drop(struct ls__cache *cache, ls_index below);
/** NULL: not cached. Borrowed until drop or truncate. */
const struct ls_entry *ls__cache_at(const struct ls__cache *cache, ls_index index);

/* ---- held.c ---- */

struct ls__held_message {
    uint64_t after;
    struct ls_peer_id peer;
    size_t offset, bytes;
};

struct ls__held {
    const struct ls_env *env;
    struct ls__held_message *messages;
    size_t count, capacity;
    uint64_t next_after; /* the smallest of `messages` */
    uint8_t *data;
    size_t bytes, data_capacity;
};

enum ls_status ls__held_add(struct ls__held *held, uint64_t after, const struct ls_peer_id *peer,
                            struct ls_span message);
/** Sends, in order, what waited for at most `durable`. */
void ls__held_release(struct ls_group *group, uint64_t durable);
void ls__held_free(struct ls__held *held);

/* ---- calls.c, reads.c ---- */

enum ls__call_kind {
    LS__CALL_EXECUTE = 1,
    LS__CALL_FEED = 2,
    LS__CALL_TRANSFER = 3,
    LS__CALL_BARRIER = 4,
    LS__CALL_QUERY_STRONG = 5,
    LS__CALL_QUERY_WEAK = 6
};

/** A call from its acceptance until its callback. It is on exactly one list of its group. */
struct ls__call {
    struct ls__call *previous, *next;
    struct ls__list *list;
    enum ls__call_kind kind;
    bool remote;            /* forwarded to us: answered by a message */
    struct ls_peer_id peer; /* remote: who asked; forwarded: whom we asked */
    uint64_t order;         /* of acceptance */
    uint64_t id;            /* of the forward */
    ls_done done;
    void *arg;
    uint64_t deadline_us;
    enum ls_status status;    /* finished: the outcome; queued: the last refusal */
    uint32_t count;           /* commands */
    struct ls_span *commands; /* point into block */
    uint8_t *block;
    size_t block_bytes, charged;
    struct ls_peer_id target; /* TRANSFER */
    struct ls_cursor first;   /* proposed: of the first command */
    uint32_t answered;        /* replies collected */
    struct ls_replies replies;
    uint64_t token; /* reads: of the round */
    uint64_t asked_us;
    ls_index read_index;
};

struct ls__list {
    struct ls__call *first, *last;
    size_t count;
};

void ls__list_append(struct ls__list *list, struct ls__call *call);
void ls__list_remove(struct ls__call *call);

struct ls__calls {
    struct ls__list queued;    /* wait for a leader */
    struct ls__list proposed;  /* in index order */
    struct ls__list forwarded; /* wait for the leader's answer */
    struct ls__list reads;     /* wait for a round to be asked */
    struct ls__list rounds;    /* wait for the answer to a round */
    struct ls__list fresh;     /* wait until read_index is applied */
    struct ls__list finished;  /* callbacks are due */
    struct ls__list spare;
    uint64_t next_order;
    /* from anywhere: an answer to an earlier life of this member must not meet a call of this one
     */
    uint64_t next_id, next_token;
    uint64_t forward_us;  /* nothing is forwarded before */
    uint64_t deadline_us; /* no deadline is earlier */
    uint64_t in_flight_bytes;
};

/** Forwards or proposes what is queued. */
void ls__calls_begin(struct ls_group *group);
/** Asks for one round for all reads that wait. */
void ls__reads_begin(struct ls_group *group);
void ls__reads_result(struct ls_group *group, const struct ls_read_result *result);
/** Queries whose index is applied. */
void ls__reads_applied(struct ls_group *group);
/** Fires the callbacks that are due. */
void ls__calls_answer(struct ls_group *group);
void ls__calls_expire(struct ls_group *group, uint64_t now_us);
/** This member stopped leading: what it proposed ends as unknown. */
void ls__calls_deposed(struct ls_group *group);
/** Another member leads: what went to the former one is given a moment to be answered. */
void ls__calls_leader_changed(struct ls_group *group);
void ls__calls_peer_down(struct ls_group *group, const struct ls_peer_id *peer);
void ls__calls_forward(struct ls_group *group, const struct ls_peer_id *from,
                       const struct ls_forward *forward);
void ls__calls_forward_reply(struct ls_group *group, const struct ls_peer_id *from,
                             const struct ls_forward_reply *reply);
/** The entry at `cursor` was applied: reply `at` belongs to whoever proposed it. */
void ls__calls_applied(struct ls_group *group, struct ls_cursor cursor,
                       const struct ls_replies *replies, size_t at);
/** What was not given to the log yet ends with `status`. */
void ls__calls_refuse(struct ls_group *group, enum ls_status status);
/** Everything ends: what was not proposed with `status`, the rest as unknown. */
void ls__calls_end(struct ls_group *group, enum ls_status status);
void ls__calls_free(struct ls_group *group);
/** errors as documented for ls_group_execute_many */
enum ls_status ls__call_check(const struct ls_group *group);
enum ls_status ls__call_new(struct ls_group *group, enum ls__call_kind kind,
                            const struct ls_span *commands, size_t count, struct ls__call **out);
void ls__call_submit(struct ls_group *group, struct ls__call *call, struct ls__list *list,
                     const struct ls_call_options *options, ls_done done, void *arg);
void ls__call_finish(struct ls_group *group, struct ls__call *call, enum ls_status status);

/* ---- when.c ---- */

struct ls__waiter;
void ls__when_check(struct ls_group *group);
void ls__when_end(struct ls_group *group);

/* ---- group ---- */

/** A peer of the group: an other member. */
struct ls__peer {
    struct ls_peer_id id;
    struct ls_incarnation incarnation;
    bool bonded;   /* the transport was asked for a bond */
    bool up;       /* as the transport says */
    bool reported; /* as the core was told */
    char name[LS_NAME_BYTES];
    char address[LS_ADDRESS_BYTES];
    char refused[LS_ERROR_TEXT_BYTES];
    /* notes.c */
    struct ls_peer_note note;
    uint64_t note_us;             /* when it came; 0: not on this link */
    bool noted;                   /* it was told what this member says of itself, on this link */
    uint64_t bytes_in, bytes_out; /* of its bond when last looked at, and: */
    uint64_t in_per_s, out_per_s;
};

#define LS__INSTALLS_MAX LS_SYNC_EFFECTS_MAX
struct ls__install {
    uint64_t token, seq;
};

struct ls_group {
    struct ls_node *node;
    struct ls_group *next, *next_dirty;
    bool dirty;
    struct ls_group_id id;
    char name[LS_NAME_BYTES];
    char member[LS_NAME_BYTES];
    struct ls_bond_hello hello;
    struct ls_machine machine;
    uint32_t election_ms;
    uint64_t in_flight_bytes_max;
    uint64_t prune_entries, prune_bytes;
    uint64_t prune_us; /* pruned by itself: in such steps, and not looked at before */
    uint64_t lag_bytes, pinned_bytes;
    struct ls__sizes sizes;
    bool snapshots; /* a strategy that can bring back a member beyond the log */

    struct ls_core *core;
    struct ls_storage_group *store;
    struct ls_supervisor *supervisor;
    struct ls__cache cache;
    struct ls__held held;
    struct ls__calls calls;

    struct ls__peer peers[LS_MEMBERS_MAX];
    size_t peers_count;
    struct ls_configuration founders;

    /* the core's last word */
    enum ls_role role;
    ls_term term;
    struct ls_peer_id leader;
    ls_index commit, last, durable, own_term_first, prune_safe, log_first;
    ls_index pruned_reported; /* as the core was told */
    uint64_t core_deadline_us, sync_deadline_us, retry_us;
    bool room_made; /* in this turn, after calls that wait were refused: once more */
    const struct ls_ready *unstaged; /* its batch waits for room in the store: no step until then */
    uint64_t staged_seq;             /* last given to storage */
    uint64_t durable_seq;            /* last that storage reported */
    uint64_t persisted_seq;          /* last the core was told */
    ls_index hinted;                 /* commit hint last staged */
    ls_index applied, applied_reported;
    bool apply_paused;     /* the machine, or memory, wants a pause */
    enum ls_status failed; /* storage's status, once */
    bool failed_reported;
    enum ls_status halted;
    char halted_text[LS_ERROR_TEXT_BYTES];
    bool session_runs, session_reported;
    bool meets;        /* a bond is to be opened */
    ls_term sync_term; /* what the supervisor was told */
    ls_index sync_commit;
    struct ls__install installs[LS__INSTALLS_MAX];
    size_t installs_count;
    struct ls__snapshots snap;

    struct ls__waiter *waiters;
    uint64_t reversions; /* truncations */
    uint64_t bond_changes;
    struct ls_peer_note note_sent;
    uint64_t note_us; /* when notes were last sent */
    uint64_t
        note_due_us;   /* something changed since: not later than then. UINT64_MAX: nothing did */
    uint64_t rates_us; /* when the bonds were last looked at */

    bool joined; /* the machine is ours to close */
    bool closing, handed_over, closed;
    uint64_t close_by_us;
    void (*close_done)(void *arg);
    void *close_arg;
    bool list_told; /* that the member list given is not the group's */
    bool tail_unknown;
    char tail_text[LS_ERROR_TEXT_BYTES];

    uint64_t proposed, applied_commands, forwarded, reads, unknown, elections, leader_changes;
    uint64_t apply_us_max, freeze_us_max;
};

/** Steps the core and absorbs what is ready. errors LS_ERR_NO_MEMORY: nothing happened. `ready` may
 * be NULL. */
enum ls_status ls__group_step(struct ls_group *group, struct ls_event *event,
                              const struct ls_ready **ready);
/** Work for the end of this turn. */
void ls__group_touch(struct ls_group *group);
/** A turn in so long, or sooner. */
void ls__group_retry(struct ls_group *group, uint64_t wait_us);
void ls__group_halt(struct ls_group *group, enum ls_status status, const char *text);
void ls__group_trace(const struct ls_group *group, enum ls_trace_level level, const char *format,
                     const struct ls_peer_id *peer, const char *detail);
/** NULL, or why a correct peer cannot have sent it. */
const char *ls__group_receive(struct ls_group *group, const struct ls_peer_id *peer,
                              struct ls_span message);
void ls__group_bond(struct ls_group *group, const struct ls_bond_notice *notice);
struct ls__peer *ls__group_peer(struct ls_group *group, const struct ls_peer_id *id);
/** Opens bonds with every other member of the configuration in force, if it changed. */
void ls__group_meet(struct ls_group *group);
/** The parts of a turn, in this order. */
void ls__group_turn_begin(struct ls_group *group);
void ls__group_turn_persisted(struct ls_group *group);
void ls__group_turn_apply(struct ls_group *group);
void ls__group_turn_end(struct ls_group *group);
uint64_t ls__group_deadline(const struct ls_group *group);
void ls__group_timer(struct ls_group *group, uint64_t now_us);
/** Hands leadership over, or ends; true when nothing is left to wait for. */
bool ls__group_close_step(struct ls_group *group, uint64_t now_us);
void ls__group_free(struct ls_group *group);
bool ls__group_serving(const struct ls_group *group);
bool ls__group_online(const struct ls_group *group);
enum ls_status ls__group_send(struct ls_group *group, const struct ls_peer_id *peer,
                              enum ls_lane lane, const struct ls_wire_frame *frame);

/* ---- notes.c ---- */

/** Tells the peers what changed here, about once a second. */
void ls__notes_turn(struct ls_group *group);

/* ---- info.c ---- */

/** The name of a member, or "?". */
const char *ls__name_of(const struct ls_group *group, const struct ls_peer_id *id);

/* ---- prune.c ---- */

/** What is safe, how large the log is, and what holds it. */
void ls__prune_status(struct ls_group *group, struct ls_group_status *out);

/** Tells the core what was pruned, if it does not know yet. */
void ls__prune_report(struct ls_group *group);
/** With the snapshot strategy: prunes when there is enough. */
void ls__prune_turn(struct ls_group *group);

/* ---- apply.c ---- */

void ls__apply(struct ls_group *group);

/* ---- catchup.c ---- */

enum ls_status ls__catchup_open(struct ls_group *group, const struct ls_statesync *strategies,
                                size_t count, struct ls_error *error);
/** Is there a state sync that brings back a member beyond the log, and a machine for it? */
bool ls__catchup_snapshots(const struct ls_group *group, const struct ls_statesync *strategies,
                           size_t count);
/** Tells the core whether a session runs, if it does not know yet. */
void ls__catchup_report(struct ls_group *group);
/** Reports installs that became durable. */
void ls__catchup_persisted(struct ls_group *group);

/* ---- node ---- */

struct ls__task {
    struct ls__task *next;
    void (*run)(void *arg);
    void *arg;
};

struct ls_node {
    struct ls_env env;
    struct ls_loop loop;
    bool own_thread;
    bool given_loop; /* the caller's: no thread of ours, and its clock may be virtual */
    pthread_t thread;
    const struct ls_identity *identity;
    struct ls_storage storage;
    struct ls_transport transport;
    struct ls_vault vault; /* size 0: none */
    bool storage_open, transport_open, loop_open;
    struct ls_incarnation incarnation;
    struct ls_peer_id id;
    uint32_t close_ms;

    struct ls_group *groups;
    size_t groups_count;
    struct ls_group *slots[LS__GROUP_SLOTS]; /* by id */
    struct ls_group *dirty, **dirty_end;
    bool in_machine; /* a function of a machine runs */
    bool in_turn;
    bool staged; /* something waits for storage.commit */

    struct ls_wire_decoder *decoder;
    struct ls_wire_buffer buffer;
    struct ls_replies replies; /* of the batch being applied */
    uint8_t *read_block;       /* LS__APPLY_READ_BYTES + an entry, on demand */
    size_t read_capacity;

    pthread_mutex_t lock; /* guards tasks, accepting, and who asked for the end */
    struct ls__task *tasks, **tasks_end;
    bool accepting, close_asked;

    bool closing, closed;
    uint64_t close_by_us;
    void (*close_done)(void *arg);
    void *close_arg;

    bool storage_failed;
    char storage_text[LS_ERROR_TEXT_BYTES];
    uint64_t turns, turn_us_max;

    /* scratch, large, and not zeroed by open: */
    struct ls_entry entries[LS__ENTRIES_MAX];              /* of the batch being built */
    struct ls_command commands[LS_APPLY_ENTRIES_PER_TURN]; /* of the batch being applied */
    struct ls_span spans[LS_PROPOSE_ENTRIES_MAX];          /* replies of the call being answered */
    struct ls_core_status core_status;
};

/** A struct of `size` bytes is one we know: `known` bytes, or from a newer caller, more that are
 * zero. */
bool ls__size_fits(const void *options, size_t size, size_t known);
struct ls_group *ls__node_find(const struct ls_node *node, const struct ls_group_id *id);
void ls__node_add(struct ls_node *node, struct ls_group *group);

static inline uint64_t ls__now(const struct ls_node *node)
{
    return node->env.now_us(node->env.self);
}

/** Around each call of a machine: what calls back is refused meanwhile. Returns what leave takes.
 */
static inline bool ls__machine_enter(struct ls_node *node)
{
    bool inside = node->in_machine;
    node->in_machine = true;
    return inside;
}

static inline void ls__machine_leave(struct ls_node *node, bool inside)
{
    node->in_machine = inside;
}

static inline void *ls__allocate(const struct ls_env *env, void *block, size_t bytes)
{
    return env->allocate(env->self, block, bytes);
}

/** Grows `*block` to at least `need` items of `item` bytes. errors LS_ERR_NO_MEMORY: unchanged */
enum ls_status ls__block_grow(const struct ls_env *env, void *block_pointer, size_t *capacity,
                              size_t need, size_t item);

/* ---- closer.c ---- */

/** Closes what may wait for a disk; false: it hung until `until_us`, and was left behind on its
 * thread. */
bool ls__close_in_time(const struct ls_env *env, void (*close)(void *self), void *self,
                       uint64_t until_us);

/* ---- loop.c ---- */

/** A loop in the caller's base, or (NULL) in a base of its own, which ls__loop_run runs until
 * ls__loop_stop. */
enum ls_status ls__loop_libevent(struct event_base *base, struct ls_loop *out,
                                 struct ls_error *error);
void ls__loop_runs_on(struct ls_loop *loop, pthread_t thread);
void ls__loop_run(struct ls_loop *loop);
void ls__loop_stop(struct ls_loop *loop);

#endif
