/* SPDX-License-Identifier: MIT */
/*
 * State sync in the simulator. Log replay itself is the production one; around it stands a relay
 * that sees what its two sides say and do, checks it, and lets the provider of one member lie. In
 * some worlds a state sync that always fails comes first in the list, and in some the machines keep
 * their state on disk, so that logs can be pruned while members catch up.
 */
#ifndef LOCKSTEP_SIM_SYNC_H
#define LOCKSTEP_SIM_SYNC_H

#include "image.h"
#include "world.h"

/** What a provider promised to keep for a member that asked it. */
struct sim_lease {
    ls_index need;
    uint64_t until_us; /* by the provider's clock */
};

/** A machine on disk: what it applied, as commands in a journal whose tail a crash may take. */
struct sim_disk {
    struct ls_machine inner; /* empty after each start, until the journal is read */
    struct sim_member *member;
    struct sim_random random;
    struct sim_image base, staged; /* the state it took in last, and the one being taken in */
    struct ls_cursor base_at;      /* index 0: none */
    bool base_read, wanted;        /* wanted: the journal has to be read */
    struct {
        struct ls_cursor at;
        size_t offset, bytes;
    } * items;
    size_t count, capacity, synced, read;
    uint8_t *bytes;
    size_t bytes_count, bytes_capacity;
    size_t every;  /* commands between two syncs */
    ls_index kept; /* the machine itself had as much when it was opened */
};

struct session;       /* sync_session.c */
struct snap_provider; /* snapshot_provider.c */

/** One member's. */
struct sim_side {
    struct world *world;
    uint32_t at;
    struct ls_statesync replay;
    struct sim_disk disk;
    struct sim_lease leases[SIM_MEMBERS_MAX];
    bool prune_next;         /* as soon as somebody fetches from it */
    bool prune_able;         /* as soon as something may go */
    struct session *session; /* that runs, or NULL */
    uint32_t failures;
    uint64_t failed_us;
    struct ls_statesync snapshot;
    struct snap_provider *snap_provider;
    ls_index given_up;               /* so far leaders needed not wait for it */
    ls_index match[SIM_MEMBERS_MAX]; /* of each, as this member had it as a leader */
    ls_term match_term;
};

struct sim_sync {
    struct sim_random random;
    struct ls_log_replay_options options;
    uint64_t cache_bytes; /* 0: the default */
    bool on_disk, dud, snapshots;
    struct ls_snapshot_options snapshot;
    uint64_t snapshot_entries, prune_entries, lag_entries;
    struct sim_random snapshot_random;
    uint64_t installs;
    uint32_t lied; /* mask of those whose provider of snapshots has */
    uint32_t liar; /* member + 1; 0: nobody lies */
    uint32_t lies_percent;
    uint32_t slow_percent; /* of answers that wait */
    uint32_t mute_percent; /* of answers that never leave, whoever gives them */
    bool eager;            /* slow and lying also when the faults are over */
    uint32_t hoarder;      /* a member that keeps its log, or nobody */
    uint64_t spells;       /* of the liar */
    uint32_t every;        /* commands between two syncs of a machine on disk */
    ls_index committed;    /* by any member */
    uint64_t sessions;
    struct ls_value values[LS_VALUES_MAX];
    struct sim_side sides[SIM_MEMBERS_MAX];
};

/* sync.c */
bool sim_sync_peek(const struct ls_env *env, struct sim_sync *sync, struct ls_span message,
                   size_t *count);
/** The member removes its log up to `upto`, by hand or by itself; it went to `before` already. */
void sim_sync_check_prune(struct sim_member *member, ls_index before, ls_index upto);

/* sync_session.c: the lagging side */
enum ls_status sim_sync_session(void *self, const struct ls_session_context *context,
                                const struct ls_sync_gap *gap, struct ls_sync_session *out);
/** An attempt begins, and one failed: they keep their distance. */
void sim_sync_begins(struct sim_side *side);
void sim_sync_failed(struct sim_side *side);
void sim_sync_awake(struct sim_side *side);
void sim_sync_resumed(struct sim_side *side);

/* sync_provider.c: the serving side */
enum ls_status sim_sync_provider(void *self, const struct ls_provider_context *context,
                                 struct ls_sync_provider *out);

/* snapshot_session.c and snapshot_provider.c: the same for snapshots */
enum ls_status sim_snapshot_session(void *self, const struct ls_session_context *context,
                                    const struct ls_sync_gap *gap, struct ls_sync_session *out);
enum ls_status sim_snapshot_provider(void *self, const struct ls_provider_context *context,
                                     struct ls_sync_provider *out);
/** What no leased state needs any more may go. */
void sim_snapshot_check_prune(struct sim_side *side, ls_index upto);
/** What a leader believes of the others decides whose lag holds its log. */
void sim_snapshot_turn(struct sim_side *side, const struct ls_core_status *core);

/** The same within a turn, also of one that is closing. */
void sim_snapshot_leads(struct sim_member *member);

/* sync_relay.c */
/** What a watched session or provider begins with: a pointer to it is one to its relay. */
struct sim_relay {
    struct ls_sync_context outer;
    struct sim_side *side;
    struct ls_sync_session session;   /* that is watched, */
    struct ls_sync_provider provider; /* or this */
};
/** `inner` asks the relay, which asks what it was made for. */
void sim_relay_make(struct sim_relay *relay, struct sim_side *side,
                    const struct ls_sync_context *outer, struct ls_sync_context *inner);
/** All that happens to them is passed on, but poll, receive, effect and destroy, which are missing.
 */
struct ls_sync_session sim_relay_session(struct sim_relay *relay);
/** The same without poll, receive and destroy. */
struct ls_sync_provider sim_relay_provider(struct sim_relay *relay);

/** How often something is asked for in a second. */
struct sim_rate {
    uint64_t what, since_us;
    uint32_t count;
};
bool sim_too_often(struct sim_rate *rate, uint64_t what, uint64_t now_us, uint32_t max);

/* disk.c */
void sim_disk_wrap(struct sim_side *side, struct ls_machine *machine);
ls_index sim_disk_durable(const struct sim_disk *disk);
/** Somebody waits for its journal: it is read. */
void sim_disk_turn(struct sim_disk *disk);
void sim_disk_free(struct sim_disk *disk);

#endif
