/* SPDX-License-Identifier: MIT */
/*
 * The supervisor of state sync: hosts a group's ordered list of state syncs, owns every session,
 * and tells the user what goes on. The group runtime drives it; it is as pure as the core.
 *
 * Source: generations and watchdog after calimero's sync manager.
 */
#ifndef LOCKSTEP_SUPERVISOR_H
#define LOCKSTEP_SUPERVISOR_H

#include <lockstep/statesync.h>

LS_EXTERN_C_BEGIN

struct ls_supervisor;

/**
 * What the group runtime offers. `install` and `syncing` are called outside of any vtable call of a
 * session or provider; the rest also from inside, and must not call back into the supervisor.
 */
struct ls_supervisor_driver {
    size_t size;
    void *self;
    /** Commit index and the term there (ls_core_term_at); {0, 0}: nothing yet. */
    struct ls_cursor (*committed)(void *self);
    void (*log_bounds)(void *self, ls_index *first, ls_index *last);
    struct ls_cursor (*log_last)(void *self);
    enum ls_status (*log_read)(void *self, ls_index first, ls_index last, size_t bytes_max,
                               ls_storage_visit visit, void *arg);
    enum ls_status (*send)(void *self, const struct ls_peer_id *peer, uint32_t tag, bool to_session,
                           struct ls_span message);
    size_t (*bonds)(void *self, struct ls_sync_bond *out, size_t capacity);
    /** Optional. As in ls_sync_context. */
    ls_index (*log_back)(void *self, uint64_t bytes);
    bool (*leader)(void *self, struct ls_peer_id *out);
    bool (*is_leader)(void *self);
    /** Steps SYNCED; ls_supervisor_effect(token) follows when the entries are durable. Nothing is
     * kept of the spans after it returns. errors: refused at once (also reported to the session) */
    enum ls_status (*install)(void *self, uint64_t token, ls_term term, struct ls_cursor prev,
                              const struct ls_entry *entries, uint32_t count, ls_index commit);
    /** A session began or ended: step SYNCING. */
    void (*syncing)(void *self, bool on);

    /* Snapshots: all of them, or none. The first four as in ls_session_context: an effect
     * follows unless refused at once; nothing is kept of the spans after they return. */
    enum ls_status (*begin)(void *self, uint64_t token, const struct ls_snapshot *snapshot,
                            const struct ls_hash *hashes);
    bool (*staged)(void *self, uint32_t chunk);
    /** LS_ERR_BUSY: the disk has enough to do; it is put again with a later poll */
    enum ls_status (*put)(void *self, uint64_t token, uint32_t chunk, struct ls_span bytes);
    enum ls_status (*publish)(void *self, uint64_t token);
    /** How far what was published has come; false: no install is under way. */
    bool (*installing)(void *self, struct ls_sync_install *out);
    /* of providers */
    enum ls_status (*feed_marker)(void *self, struct ls_span payload);
    enum ls_status (*freeze)(void *self, struct ls_sync_frozen *out);
    enum ls_status (*iterate)(void *self, uint64_t id, struct ls_span from, ls_item_visit visit,
                              void *arg);
    void (*thaw)(void *self, uint64_t id);
};

struct ls_supervisor_config {
    size_t size;
    const struct ls_env *env; /* copied; now_us, allocate, codec, hash, trace are used */
    struct ls_peer_id local;
    struct ls_group_id group;
    struct ls_network_id network;
    struct ls_supervisor_driver driver;    /* copied */
    const struct ls_statesync *strategies; /* ordered; copied */
    size_t strategies_count;
    bool machine_snapshots, machine_publishes; /* ls_sync_facts */
    uint32_t retry_min_ms;                     /* 0: 5000 */
    uint32_t watchdog_ms; /* no progress for so long ends an attempt; 0: 120000 */
};

LS_API LS_NODISCARD enum ls_status ls_supervisor_open(const struct ls_supervisor_config *config,
                                                      struct ls_supervisor **out,
                                                      struct ls_error *error);
LS_API void ls_supervisor_close(struct ls_supervisor *supervisor);

/**
 * Does what is due; returns when to call again (UINT64_MAX: not before something happens). To be
 * called in the same loop turn after any other call here, which may have made something due. Only
 * this function begins and ends sessions.
 */
LS_API uint64_t ls_supervisor_poll(struct ls_supervisor *supervisor);

/** From ready.gap: what is missing, and the entries that revealed it (may be none), of the leader
 * of `term`. */
LS_API void ls_supervisor_gap(struct ls_supervisor *supervisor, ls_term term, ls_index target,
                              struct ls_cursor prev, const struct ls_entry *entries,
                              uint32_t count);

/** A message of a state sync. Returns the verdict, which was already counted and traced. */
LS_API enum ls_sync_verdict ls_supervisor_receive(struct ls_supervisor *supervisor,
                                                  const struct ls_peer_id *from, uint32_t tag,
                                                  bool to_session, struct ls_span message);
LS_API void ls_supervisor_peer(struct ls_supervisor *supervisor, const struct ls_peer_id *peer,
                               bool bonded);
LS_API void ls_supervisor_committed(struct ls_supervisor *supervisor, ls_index commit);
LS_API void ls_supervisor_term(struct ls_supervisor *supervisor, ls_term term);
LS_API void ls_supervisor_effect(struct ls_supervisor *supervisor, uint64_t token,
                                 enum ls_status status);

/** The next attempt does not wait: for a user who knows that something changed. */
LS_API void ls_supervisor_force(struct ls_supervisor *supervisor);

/** What speaks against a peer as a source. */
struct ls_sync_strikes {
    uint32_t strikes;   /* wrong answers not yet forgotten */
    uint64_t left_us;   /* it is left alone for so long */
    const char *reason; /* static: of the last one; NULL: none */
};
LS_API void ls_supervisor_strikes(const struct ls_supervisor *supervisor,
                                  const struct ls_peer_id *peer, struct ls_sync_strikes *out);
/** Forgives the peer: it may be asked again at once. */
LS_API void ls_supervisor_release(struct ls_supervisor *supervisor, const struct ls_peer_id *peer);

/** The machine stands exactly at a marker entry. */
LS_API void ls_supervisor_marker(struct ls_supervisor *supervisor, struct ls_cursor at,
                                 struct ls_span payload);

struct ls_supervisor_pin {
    const char *strategy; /* static */
    struct ls_sync_pin pin;
};
/** By what the providers bound pruning; one row at least for each of them, however small `capacity`
 * (>= LS_STATESYNCS_MAX). Returns how many were written. */
LS_API size_t ls_supervisor_pins(struct ls_supervisor *supervisor, struct ls_supervisor_pin *out,
                                 size_t capacity);
/** min over providers of safe_to_prune_prefix. */
LS_API ls_index ls_supervisor_safe_to_prune(struct ls_supervisor *supervisor);

/** The running, or else the last attempt. */
LS_API void ls_supervisor_progress(const struct ls_supervisor *supervisor,
                                   struct ls_sync_progress *out);

LS_EXTERN_C_END

#endif
