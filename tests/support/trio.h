/* SPDX-License-Identifier: MIT */
/*
 * A group of a few members in one process and one event_base: loopback transport, memory stores,
 * and a machine that keeps what it applied. For tests of the runtime; members can be closed and
 * opened again.
 */
#ifndef LOCKSTEP_TRIO_H
#define LOCKSTEP_TRIO_H

#include "test.h"

#include <lockstep/lockstep.h>
#include <lockstep/storage_memory.h>
#include <lockstep/vault.h>

#define TRIO_MAX 5

/** The machine "tally/1": appends each command to a running hash and counts; the reply is the count
 * as 8 bytes. */
/* What each command also writes with trio.snapshots: one of so many items of that size. */
#define TALLY_ITEMS      512u
#define TALLY_ITEM_BYTES 4096u

struct tally {
    uint64_t count;           /* commands applied */
    uint64_t digest;          /* of all of them, in order */
    ls_index last;            /* index of the last one; ascending is asserted */
    enum ls_status answer;    /* what apply returns; LS_OK unless a test sets it */
    struct ls_group *reenter; /* apply calls the API of it, if set */
    enum ls_status reentered;
    uint8_t *items; /* TALLY_ITEMS; owned. NULL: none */
    struct tally *restoring;
    ls_index restored; /* anchor of the last one that was published */
    uint64_t freezes, thaws, published;
    enum ls_status publish_answer; /* what publish returns; LS_OK unless a test sets it */
    uint32_t publish_answers;      /* so often; 0: always */
    bool publish_all_the_same;     /* ... but does its work */
};

/* commands of one batch of trio_load */
#define TRIO_BATCH 500u

struct trio_member {
    char name[8];
    struct ls_identity *identity;
    struct ls_node *node; /* NULL: closed */
    struct ls_group *group;
    struct tally tally;
    struct ls_storage_medium *medium; /* outlives the store: what a restart finds */
    const char *directory;            /* the same, of trio.disk */
    struct ls_vault_medium *vault;    /* of trio.snapshots */
    const char *vault_directory;      /* the same, of trio.disk */
    bool closed;
};

struct trio {
    struct event_base *base;
    struct ls_loopback *hub;
    size_t count;
    struct ls_founder founders[TRIO_MAX];
    struct trio_member members[TRIO_MAX];
    struct ls_group_options
        options; /* used at every open: a test may change it before trio_start */
    const char *group_name;
    bool disk;                /* stores are RocksDB in fresh directories instead of a medium */
    bool durable;             /* the machines keep their state while closed, and say so */
    bool snapshots;           /* the machines take snapshots, and the nodes have a vault */
    bool no_vaults;           /* ... but none that starts from now on */
    uint32_t close_ms;        /* of nodes; 0: the default */
    const struct ls_env *env; /* of nodes and network; NULL: the default */
    void (*on_storage)(struct ls_storage *storage); /* NULL, or changes a store before its node */
    void (*on_vault)(struct ls_vault *vault);       /* the same with its vault */
    void (*on_machine)(struct ls_machine *machine); /* NULL, or changes a machine before its join */
};

/** Prepares `count` members a, b, c ...; none runs yet. */
void trio_open(struct trio *trio, size_t count);
/** The same with an env of the test's own. */
void trio_open_in(struct trio *trio, size_t count, const struct ls_env *env);
/** Starts member `at` with what its medium holds. */
void trio_start(struct trio *trio, size_t at);
/** The same; when it fails, the member is as it was before. */
enum ls_status trio_try_start(struct trio *trio, size_t at, struct ls_error *error);
/** Closes member `at` and waits until it is gone. */
void trio_stop(struct trio *trio, size_t at);
/** Starts all and waits for a serving leader; returns its place. */
size_t trio_up(struct trio *trio);
void trio_close(struct trio *trio);

/** Runs the loop until `holds` or fails the test after 20 s. */
void trio_until(struct trio *trio, bool (*holds)(struct trio *trio, void *arg), void *arg);
/** The serving leader's place, or `count`. */
size_t trio_leader(const struct trio *trio);
/** Waits for a serving leader. */
size_t trio_wait_leader(struct trio *trio);
/** Waits until all running members applied the same number of commands, at least `count`, with one
 * digest. */
void trio_wait_equal(struct trio *trio, uint64_t count);

/** The last outcome of a call, copied. */
struct trio_outcome {
    bool fired;
    uint32_t times;
    enum ls_status status;
    struct ls_cursor first;
    size_t count;
    uint64_t reply; /* first reply, as a number */
};
void trio_done(void *arg, const struct ls_outcome *outcome);
/** Runs the loop until it fired. */
void trio_wait(struct trio *trio, struct trio_outcome *outcome);
/** Executes `text` on member `at` and waits. */
struct trio_outcome trio_execute(struct trio *trio, size_t at, const char *text);
/** Executes `batches` times TRIO_BATCH commands of 40 bytes on member `at`, 100 in a call, and
 * waits. */
void trio_load(struct trio *trio, size_t at, uint32_t batches);
struct ls_group_status trio_status(const struct trio *trio, size_t at);

/** For on_vault: one in three writes hears BUSY, of all vaults that are opened from now on. */
void trio_make_busy(struct ls_vault *vault);
/** How many there were since the last vault was made so. */
uint64_t trio_busy_writes(void);

#endif
