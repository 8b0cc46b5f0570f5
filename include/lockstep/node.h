/* SPDX-License-Identifier: MIT */
/*
 * A node: hosts groups over one transport, one store and one loop.
 *
 * Two ways to run: in the caller's event_base, or (base NULL) on a thread of its own. A node
 * belongs to the thread that runs its loop: every call is for that thread, but ls_node_post,
 * ls_node_call, ls_node_close and ls_group_wait, which are for others too. Callbacks run on the
 * loop's thread; calling the API from them is fine. No signal handlers are installed; our threads
 * block all signals; a forked child must not touch the node.
 */
#ifndef LOCKSTEP_NODE_H
#define LOCKSTEP_NODE_H

#include <lockstep/loop.h>
#include <lockstep/storage.h>
#include <lockstep/transport.h>
#include <lockstep/vault.h>

LS_EXTERN_C_BEGIN

struct ls_node;

struct ls_node_options {
    size_t size;
    struct event_base *base;            /* borrowed until closed; NULL: own thread */
    const struct ls_loop *loop;         /* instead of base; moved, also when open fails */
    const struct ls_env *env;           /* copied; NULL: ls_env_default() */
    const struct ls_identity *identity; /* borrowed until closed. Required */
    struct ls_storage storage;          /* moved, also when open fails. Required */
    struct ls_transport transport;      /* moved, also when open fails. Required */
    const char *listen;                 /* "host:port", where the address that others have
                                           of this member leads; NULL: accept no connections */
    uint32_t close_ms;                  /* bound of closing, even if a sync hangs */
    struct ls_vault vault;              /* moved, also when open fails; size 0: none, then no
                                           snapshot is taken in or kept */
};

/** Sets size and defaults. */
LS_API void ls_node_options_init(struct ls_node_options *options);

/**
 * errors  LS_ERR_INVALID, LS_ERR_IO (cannot listen), LS_ERR_NO_MEMORY; nothing stays behind
 */
LS_API LS_NODISCARD enum ls_status ls_node_open(const struct ls_node_options *options,
                                                struct ls_node **node, struct ls_error *error);

/**
 * Stops listening, hands leadership over, ends each pending call exactly once (LS_ERR_UNKNOWN if it
 * may still happen, LS_ERR_CLOSED if nothing was done), stops writer, machines and store; at most
 * close_ms.
 *
 * closed  called once on the loop's thread when the node is gone (it must not use the node). NULL
 * with an own thread: blocks until closed, and joins the thread; NULL in the caller's base: nobody
 * is told. Any thread with an own thread, else the loop's. Takes NULL.
 */
LS_API void ls_node_close(struct ls_node *node, void (*closed)(void *arg), void *arg);

/** Runs `task` on the loop's thread soon. Any thread. errors LS_ERR_CLOSED, LS_ERR_NO_MEMORY: it
 * will not run */
LS_API LS_NODISCARD enum ls_status ls_node_post(struct ls_node *node, void (*task)(void *arg),
                                                void *arg);

/** Post and wait until it has run. errors LS_ERR_WOULD_DEADLOCK on the loop's thread, else as
 * ls_node_post */
LS_API LS_NODISCARD enum ls_status ls_node_call(struct ls_node *node, void (*task)(void *arg),
                                                void *arg);

struct ls_node_status {
    uint32_t groups;
    bool storage_failed;
    char storage_text[LS_ERROR_TEXT_BYTES];
    struct ls_incarnation incarnation;
    struct ls_peer_id id;
    struct ls_storage_counters storage;
    uint64_t turns;         /* loop turns that did work */
    uint64_t turn_us_max;   /* longest of them */
    uint64_t vault_busy_us; /* for so long the vault has been waiting for its disk; 0: it is not */
};
LS_API void ls_node_status(struct ls_node *node, struct ls_node_status *out);

LS_API const char *ls_version(void);

LS_EXTERN_C_END

#endif
