/* SPDX-License-Identifier: MIT */
/*
 * The machine port: what a user writes. Every member of a group applies the same commands in the
 * same order, so apply must depend on nothing but the state and the command: no clock, no
 * randomness, no pointers, no floating point that differs between builds.
 *
 * Thread: the loop's. None of these functions may call ls_group_* (they get LS_ERR_REENTRANT).
 */
#ifndef LOCKSTEP_MACHINE_H
#define LOCKSTEP_MACHINE_H

#include <lockstep/snapshot.h>

LS_EXTERN_C_BEGIN

/** Where replies go; one for each command of a batch. */
struct ls_replies;

/**
 * Sets the reply of command `at` (0 for a single apply or query); copies. Unset means an empty
 * reply. A reply for which there is no memory is lost, but the command is applied all the same: who
 * waits for it hears LS_ERR_UNKNOWN (of a query LS_ERR_NO_MEMORY).
 *
 * errors  LS_ERR_INVALID  there is no such command
 */
LS_API enum ls_status ls_reply_set(struct ls_replies *replies, size_t at, const void *data,
                                   size_t bytes);

/**
 * What was set as the reply of command `at`, for a machine that wraps another one.
 *
 * reply   out: empty when nothing was set; borrowed until a reply is set
 * errors  LS_ERR_INVALID    there is no such command
 *         LS_ERR_NO_MEMORY  the reply was lost
 */
LS_API LS_NODISCARD enum ls_status ls_reply_get(const struct ls_replies *replies, size_t at,
                                                struct ls_span *reply);

struct ls_command {
    struct ls_cursor cursor;
    struct ls_span data; /* borrowed until the call returns */
};

/** A state that stands still while the machine goes on. */
struct ls_frozen {
    void *handle; /* the machine's */
    uint64_t items;
    uint64_t bytes; /* of all keys and values: counted as commands are applied, not by walking */
};

struct ls_machine {
    size_t size;
    void *self;

    /** Names the command language, e.g. "counter/1". Members with different signatures cannot bond.
     * Static. Required. */
    struct ls_span (*signature)(void *self);

    /**
     * Called once by ls_group_join, before any apply. A machine on disk checks that its directory
     * belongs to this group and incarnation (else LS_ERR_MISMATCH) and tells its durable applied
     * index; a machine in memory is empty: 0, and all commands of the log are applied again.
     * Optional: NULL means in memory.
     */
    enum ls_status (*open)(void *self, const struct ls_group_id *group,
                           const struct ls_incarnation *incarnation, ls_index *applied,
                           struct ls_error *error);

    /**
     * Applies one command. Refusing a command is a reply, not an error. Either this or apply_batch
     * is required. returns  LS_OK, LS_ERR_BUSY (nothing happened; called again later with the same
     * command), or an error: the group halts with its state kept
     */
    enum ls_status (*apply)(void *self, const struct ls_command *command,
                            struct ls_replies *replies);

    /**
     * Optional: applies `count` commands of ascending index, in order, and tells in *applied how
     * many it did; the rest is offered again. A machine on disk writes the state and the applied
     * index of the batch in one atomic write (P12). Indices need not be consecutive: no-ops and
     * configurations are not for the machine.
     */
    enum ls_status (*apply_batch)(void *self, const struct ls_command *commands, size_t count,
                                  struct ls_replies *replies, size_t *applied);

    /** Reads; must not change the state. Required. An error is handed to the caller of
     * ls_group_query. */
    enum ls_status (*query)(void *self, struct ls_span query, struct ls_replies *reply);

    /** The index up to which state is durable now (bounds pruning). Optional: NULL means none
     * (memory). */
    ls_index (*durable_applied)(void *self);

    /** The group closed and calls no more; not called when the join failed. Optional. */
    void (*close)(void *self);

    /*
     * Snapshots: all of the following, or none. A state is a set of items with unique keys, none of
     * which is empty (a machine whose own keys may be puts a byte before each); which
     * items there are, and their order, must follow from the applied commands alone. A machine
     * that has `durable_applied` is one on disk and makes publish durable itself; for one in
     * memory the library writes snapshot files, if the node has a vault.
     *
     * A machine on disk may have freeze and publish only: then it can be restored by a state sync
     * that brings the state in a way of its own and publishes a snapshot of no chunks
     * (examples/custom_sync.c).
     */

    /** Takes a picture of the state as it is now, in less than a millisecond: apply goes on and
     * must not change it. Several may be held. errors LS_ERR_BUSY (not now), LS_ERR_NO_MEMORY, ...
     */
    enum ls_status (*freeze)(void *self, struct ls_frozen *out);
    /** Visits items in order, from the one with key `from` on (which is one that was visited
     * before, on this member or on another), or from the first if it is empty. Cost: what is
     * visited. */
    enum ls_status (*iterate)(void *self, const struct ls_frozen *frozen, struct ls_span from,
                              ls_item_visit visit, void *arg);
    void (*thaw)(void *self, struct ls_frozen *frozen);

    /** Begins a new state beside the present one, which goes on being served; what an earlier call
     * began is dropped. */
    enum ls_status (*restore)(void *self, struct ls_cursor anchor);
    /** Adds an item, in order. errors LS_ERR_BUSY (of a machine on disk: nothing happened; the same
     * item is offered again later), or any other: the present state stays */
    enum ls_status (*restore_item)(void *self, const struct ls_item *item);
    /** The new state takes the place of the present one; a machine on disk makes this durable, with
     * anchor.index as its applied index, in one step: afterwards there is the one or the other.
     * errors LS_ERR_BUSY (nothing happened; called again later). After any other the group halts:
     * which state it is, `open` tells at the next join. */
    enum ls_status (*publish)(void *self, struct ls_cursor anchor);
    /** Drops the new state; nothing happens when there is none. */
    void (*restore_end)(void *self);

    /** Optional: all items were added. Makes what was built durable beside the present state, so
     * that publish is short. errors LS_ERR_BUSY (not yet; called again later), or any other: the
     * present state stays */
    enum ls_status (*restore_sync)(void *self);
};

LS_EXTERN_C_END

#endif
