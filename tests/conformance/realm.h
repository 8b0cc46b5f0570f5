/* SPDX-License-Identifier: MIT */
/*
 * A group of a few members in one process and virtual time: real nodes, group runtimes and stores
 * over a network, a clock and a loop of this file's own. Everything follows from one seed, and a
 * minute of waiting costs nothing. It keeps what was committed, and asserts that no member's
 * machine applies a command twice, out of order, changed, or leaves one out. For the conformance
 * suite of state syncs.
 */
#ifndef LOCKSTEP_REALM_H
#define LOCKSTEP_REALM_H

#include "test.h"

#include <lockstep/lockstep.h>
#include <lockstep/storage_memory.h>
#include <lockstep/vault.h>
#include <lockstep/wire.h>

#define REALM_MAX 5
#define SECOND    1000000ull

struct realm;

/** What somebody in the middle does to messages of one member to the lagging one; all but the last
 * to those that carry something. */
enum realm_forgery {
    REALM_GARBAGE = 0,   /* other bytes */
    REALM_TRUNCATED = 1, /* its first half */
    REALM_LONGER = 2,    /* with bytes behind it */
    REALM_NOTHING = 3,   /* one byte */
    REALM_LOST = 4,
    REALM_DOUBLE = 5,
    REALM_EARLIER = 6, /* one that was sent before, in its place */
    REALM_FLIPPED = 7, /* one bit of it; for subjects that verify */
    /* well formed, by realm_subject.forge: */
    REALM_SHORT = 8,       /* less than was asked for, which is legal */
    REALM_EMPTY = 9,       /* nothing of what was asked for */
    REALM_OVERSIZED = 10,  /* more than was asked for */
    REALM_MISPLACED = 11,  /* from another place */
    REALM_REGRESSING = 12, /* of terms that go back */
    REALM_TELLING = 13     /* one bit of what carries nothing: offers, sums, tables */
};
#define REALM_FORGERIES 14

/** What is replicated, and how a lagging member is brought back. */
struct realm_subject {
    const char *name;
    void *self;
    /** Where a member's state is while the member is down. */
    void *(*place_open)(void *self);
    void (*place_close)(void *self, void *place);
    /** At each start of a member; `unit`: about so many commands travel at a time. The list has
     * room for LS_STATESYNCS_MAX; the one under test is the last. */
    void (*start)(void *self, void *place, uint32_t unit, struct ls_machine *machine,
                  struct ls_statesync *list, size_t *count);
    /** The member is gone, after its machine was closed. Optional. */
    void (*stop)(void *self, void *place);
    /** Of the state: equal on members that applied the same commands. */
    uint64_t (*digest)(void *self, void *place);
    /** Command number n; returns its bytes, at most REALM_COMMAND_BYTES_MAX. */
    size_t (*command)(void *self, uint32_t unit, uint64_t n, uint8_t *out);
    /** How many bytes of the log or of the state the message carries, of the state sync under test,
     * for a session. 0: it only tells. */
    size_t (*carries)(void *self, struct ls_span message);
    /** Writes a well formed lie in place of a message that carries something. Returns its bytes; 0:
     * there is no such. Optional. */
    size_t (*forge)(void *self, enum realm_forgery forgery, struct ls_span message, uint8_t *out);
    bool verifies;      /* what is carried is checked by a hash */
    bool trusts_leader; /* what the leader tells is not compared with what others tell */
    bool any_peer;      /* also one that came in the middle can serve */
    bool beyond_log;    /* the log is pruned, and the state sync brings more than the log */
};
#define REALM_COMMAND_BYTES_MAX 4096u

struct realm_message {
    struct realm_message *next;
    uint64_t at_us, epoch;
    uint32_t from, to;
    enum ls_lane lane;
    enum ls_bond_event notice; /* 0: it is a message */
    size_t bytes;
    uint8_t data[];
};

enum realm_fate { REALM_DELIVER = 0, REALM_DROP = 1, REALM_TWICE = 2 };

/** A state sync's message on its way. What is written to `edit` (room for LS_MESSAGE_BYTES_MAX)
 * takes its place. */
struct realm_sync {
    uint32_t from, to, tag;
    bool to_session;
    struct ls_span message;
    uint8_t *edit;
    size_t edit_bytes; /* 0: as it is */
    size_t carries;
};

struct realm_bond {
    bool wanted, up;
    uint64_t epoch, again_us;
    struct ls_bond_hello hello;
    size_t queued; /* bytes under way to that member */
};

struct realm_member {
    struct realm *realm;
    uint32_t at;
    char name[4];
    struct ls_identity *identity;
    struct ls_peer_id id;
    struct ls_node *node; /* NULL: down */
    struct ls_group *group;
    struct ls_storage_medium *disk;
    struct ls_vault_medium *vault;
    const char *store_directory, *vault_directory; /* of realm.on_disk */
    void *place;
    struct ls_machine machine; /* the subject's, behind the one that the group has */
    ls_index applied;
    /* loop */
    struct ls_loop_sink loop;
    uint64_t timer_us;
    bool turn_due, dead, paused; /* dead: its power went; the next step buries it */
    int descriptor;
    bool staged;
    uint64_t staged_seq, durable_seq; /* less: a write that was not reported yet */
    struct ls_storage_sink sink;
    bool held;           /* by realm_hold */
    uint64_t release_us; /* when its oldest commit is durable; UINT64_MAX: none waits */
    uint64_t sync_us[LS_VAULT_FILES + 1]; /* when a file of the vault is; 0: nobody asked */
    struct ls_storage store;              /* behind the ones that the node has */
    struct ls_vault files;
    uint64_t changes; /* of store and vault, since it started */
    uint64_t dies_at; /* the power goes when there are so many; 0: never */
    uint64_t skew_us; /* its clock is ahead */
    struct ls_env env;
    /* network */
    struct ls_transport_sink net;
    bool started;
    struct ls_incarnation incarnation;
    struct realm_bond bonds[REALM_MAX];
    /* what tests look at: of the state sync under test */
    uint64_t asked;           /* messages to its provider */
    uint64_t carried;         /* messages to its session that carried something */
    uint64_t carried_bytes;   /* ... and how much */
    uint64_t sent[REALM_MAX]; /* bytes that others' providers sent it */
    uint64_t publishes;
};

struct realm {
    const struct realm_subject *subject;
    uint64_t now_us, random, steps;
    uint32_t count, unit, tag; /* tag: of the state sync under test */
    bool on_disk;
    struct realm_member members[REALM_MAX];
    struct ls_founder founders[REALM_MAX];
    struct ls_group_options options; /* changed before members start */
    bool cut[REALM_MAX][REALM_MAX];
    struct realm_message *messages;
    uint64_t epoch;
    uint64_t latency_us;
    uint64_t disk_us; /* a commit, or a sync of the vault, takes so long. In memory only */
    uint64_t slow_us[REALM_MAX]; /* what a member sends takes so much longer */
    uint64_t *truth; /* by index: hash of the command, 0: nobody was there yet, 1: none there */
    size_t truth_capacity;
    uint64_t outstanding; /* calls */
    uint64_t malformed;   /* messages that cost a link */
    uint64_t written;
    struct ls_wire_decoder *decoder;
    struct ls_wire_buffer wire;
    uint8_t *edit;
    size_t queue_bytes_max; /* of one bond; over it: BUSY */
    /** Sees each message of the state sync under test, from a provider or a session. */
    enum realm_fate (*intercept)(struct realm *realm, struct realm_sync *sync, void *arg);
    void *intercept_arg;
};

struct realm *realm_open(const struct realm_subject *subject, uint32_t count, uint32_t unit,
                         bool on_disk);
/** Closes all; asserts nothing more. */
void realm_close(struct realm *realm);
uint64_t realm_random(struct realm *realm, uint64_t below);

enum ls_status realm_try_start(struct realm *realm, uint32_t at, struct ls_error *error);
void realm_start(struct realm *realm, uint32_t at);
/** Closes in order. */
void realm_stop(struct realm *realm, uint32_t at);
/** Power cut: what is not durable is gone. In memory only. */
void realm_crash(struct realm *realm, uint32_t at);
/** Its power goes at the `change`th time from now that it would change its disk. In memory only. */
void realm_dies_at(struct realm *realm, uint32_t at, uint64_t change);
/** Nothing that it writes becomes durable until it is turned off. In memory only. */
void realm_hold(struct realm *realm, uint32_t at, bool hold);
/** It stands still, and its connections stay. */
void realm_pause(struct realm *realm, uint32_t at, bool paused);
/** Cuts or heals the path both ways. */
void realm_cut(struct realm *realm, uint32_t a, uint32_t b, bool cut);
/** The member is cut from all, or from none. */
void realm_alone(struct realm *realm, uint32_t at, bool alone);

/** One event; false: none until then, where the clock is now. */
bool realm_step(struct realm *realm, uint64_t until_us);
void realm_run(struct realm *realm, uint64_t for_us);
/** Runs until `holds`; false: not within that time. */
bool realm_until(struct realm *realm, bool (*holds)(struct realm *realm, void *arg), void *arg,
                 uint64_t within_us);
/** Who serves as the leader, or `count`. */
uint32_t realm_leader(const struct realm *realm);
uint32_t realm_wait_leader(struct realm *realm);
/** Executes the next `count` commands and waits for them. */
void realm_write(struct realm *realm, uint64_t count);
/** The same without waiting. */
void realm_feed(struct realm *realm, uint32_t at, uint64_t count);
/** Prunes all who are up as far as they may; returns the least first index that is left. */
ls_index realm_prune(struct realm *realm);
struct ls_group_status realm_status(const struct realm *realm, uint32_t at);
/** Runs until all who are up applied the same, with one digest. */
void realm_equal(struct realm *realm, uint64_t within_us);
/** Runs until that member has applied what the leader has. */
bool realm_caught_up(struct realm *realm, uint32_t at, uint64_t within_us);

/* realm_machine.c, realm_store.c */

/** The subject's machine, watched; what it lacks is lacking. */
struct ls_machine realm_machine(struct realm_member *member);
/** Store and vault of a member that starts. */
enum ls_status realm_store(struct realm_member *member, struct ls_node_options *options,
                           struct ls_error *error);

/* realm_net.c */
void realm_transport(struct realm_member *member, struct ls_transport *out);
/** The member's bonds fall; the others see them go down, or departed. */
void realm_net_leave(struct realm_member *member, enum ls_bond_event how);
/** Bonds that both sides want, and may have, come up. */
void realm_net_match(struct realm *realm);
/** Hands over the first message that is due; false: none until now. */
bool realm_net_deliver(struct realm *realm);
/** When the next one is due. */
uint64_t realm_net_due(const struct realm *realm);

#endif
