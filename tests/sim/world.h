/* SPDX-License-Identifier: MIT */
/*
 * The whole stack in one process over a virtual clock, network and disk. Nodes, groups, state sync
 * and stores are the production code; what differs from production is the loop, the transport
 * backend, the medium under the store, and the env. One seed decides everything that happens.
 */
#ifndef LOCKSTEP_SIM_WORLD_H
#define LOCKSTEP_SIM_WORLD_H

#include <lockstep/lockstep.h>
#include <lockstep/sim.h>
#include <lockstep/storage_memory.h>

#include "checks.h"
#include "lost.h"
#include "network.h"

#include <stdarg.h>

#include "rules.h"

#define SIM_CLIENTS_MAX LS_SIM_CLIENTS_MAX
#define SIM_TEXT_BYTES  LS_SIM_TEXT_BYTES
/* a second, that the clients of a run may be told to aim at */
#define SIM_OPERATIONS_MAX 10000u
/* faults that can be switched off by number */
#define SIM_SKIP_MAX 8192u
/* the arguments that run something again: at worst every other fault is skipped */
#define SIM_REPLAY_BYTES (1024u + 3u * SIM_SKIP_MAX)
/* what a fault did, in words */
#define SIM_RECORD_BYTES 64u
/* turns and deliveries at one instant of virtual time: more is a loop that never sleeps */
#define SIM_EVENTS_PER_INSTANT_MAX 200000u

struct world;

/* ---- kinds of fault ---- */

enum sim_fault {
    SIM_FAULT_CRASH = 0,
    SIM_FAULT_CLOSE, /* with hand-over and farewell */
    SIM_FAULT_STORM,
    SIM_FAULT_START_CRASH,
    SIM_FAULT_PAUSE,
    SIM_FAULT_TRANSFER,
    SIM_FAULT_PRUNE, /* logs, also in the middle of what is served from them */
    SIM_FAULT_ABSENCE,
    SIM_FAULT_NO_MEMORY,
    SIM_FAULT_SLOW_LOOP,
    SIM_FAULT_SLOW_APPLY,
    SIM_FAULT_CLOCK_STOP,
    SIM_FAULT_CLOCK_LEAP,
    SIM_FAULT_TORN_COMMIT,
    SIM_FAULT_SLOW_SYNC,
    SIM_FAULT_HUNG_SYNC,
    SIM_FAULT_WRITE_ERROR,
    SIM_FAULT_SYNC_ERROR,
    SIM_FAULT_DISK_FULL,
    SIM_FAULT_STORE_BUSY,
    SIM_FAULT_DISK_DAMAGE, /* what was durable is lost or changed */
    SIM_FAULT_CLOCK_RATE,
    SIM_FAULT_CLOCK_COARSE,
    SIM_FAULT_LATE_START,
    SIM_FAULT_RESET,
    SIM_FAULT_HALVES,
    SIM_FAULT_ISOLATE,
    SIM_FAULT_ONE_WAY,
    SIM_FAULT_RING, /* each hears its neighbours only */
    SIM_FAULT_STAR, /* each hears the centre only */
    SIM_FAULT_CLOG, /* all bytes of a path are held, then come at once */
    SIM_FAULT_FLAP, /* a path opens and closes again and again */
    SIM_FAULT_SLOW_PEER,
    SIM_FAULT_DAMAGE, /* a byte changes on its way */
    SIM_FAULT_LONG_DELAY,
    SIM_FAULT_LOSS,        /* of packets: TCP sends them again, and what follows waits */
    SIM_FAULT_TWICE,       /* messages of the core */
    SIM_FAULT_LATE,        /* the same */
    SIM_FAULT_FULL_QUEUE,  /* a message found no room to wait in */
    SIM_FAULT_VAULT_ERROR, /* of a write or a sync in a vault; only with snapshots, from here on */
    SIM_FAULT_VAULT_FULL,
    SIM_FAULT_VAULT_DAMAGE,    /* of what is staged */
    SIM_FAULT_INSTALL_LOADING, /* power cuts in the steps of an install */
    SIM_FAULT_INSTALL_SYNCING,
    SIM_FAULT_INSTALL_MARKING,
    SIM_FAULT_INSTALL_PUBLISHING,
    SIM_FAULT_INSTALL_RESTORING,
    SIM_FAULT_INSTALL_UNMARKING,
    SIM_FAULTS,
    SIM_FAULT_SNAPSHOT = SIM_FAULT_VAULT_ERROR, /* from here on: of vaults and installs */
    SIM_FAULT_DISK = SIM_FAULT_TORN_COMMIT,     /* from here on: of disks */
    SIM_FAULT_CLOCK = SIM_FAULT_SLOW_LOOP,      /* from here on: of time */
    SIM_FAULT_CONDITION = SIM_FAULT_CLOCK_RATE, /* from here on: of the whole run */
    SIM_FAULT_NETWORK = SIM_FAULT_RESET         /* from here on: of paths */
};

/* ---- members ---- */

/* machine.c: the workload's machine, between the node and what judges it */
struct sim_machine {
    struct sim_member *member;
    struct ls_machine inner; /* the workload's; no functions: there is none */
    uint64_t chain;          /* over all that was applied */
    ls_index applied;
    struct ls_command *commands; /* of a batch, without what the simulator put in front */
    size_t capacity;
};

/** An error that one of the next commits meets; then it lasts for a while, FULL also over restarts.
 */
struct sim_disk_error {
    enum ls_storage_fault kind; /* NONE: nothing is armed or in force */
    enum sim_fault fault;
    uint32_t number; /* of the script */
    uint64_t lasts_us;
    bool struck;
};

/** An install at the vault, as far as a disk knows of it. */
struct sim_install {
    struct ls_cursor anchor;
    bool runs; /* the session asked for it; else it may still be found at a start */
    bool marked, published, restored;
};

/** vault.c: between a node and the medium of its vault. */
struct sim_vault {
    struct ls_vault_medium *medium;
    struct ls_vault inner;
    struct {
        bool dirty, syncs, lost; /* written since it was durable; being synced; that failed */
        uint64_t ready_us;
    } files[LS_VAULT_FILES + 1];
    enum ls_vault_file moves, moves_to; /* a file is taking the place of another; 0: none */
    uint64_t moved_us;
    struct sim_install install;
    uint32_t fail_after, fails; /* calls that succeed, then such that do not */
    bool full;
};

struct sim_member {
    struct world *world;
    uint32_t at;
    char name[8], address[24];
    struct ls_identity *identity;
    struct ls_peer_id id;
    struct ls_storage_medium *medium;
    struct ls_env env;
    struct sim_random random;
    struct ls_node *node; /* NULL: down */
    struct ls_group *group;
    struct sim_machine machine;
    struct ls_loop_sink loop;
    uint64_t life;  /* counts starts and ends */
    uint64_t armed; /* names the timer that counts */
    uint64_t armed_local_us;
    bool turn_due, timer_due, paused, dying;
    bool off;                /* its power went in the middle of an event */
    bool off_due, off_keeps; /* it goes when the turn ends; what is under way gets there */
    uint64_t off_down_us;
    struct sim_vault vault;
    bool releasing, sync_hangs;
    uint64_t release; /* names the release that counts */
    uint32_t sync_min_us, sync_max_us;
    uint32_t excused;    /* statuses, as bits, with which this life may halt */
    bool halted;         /* its group has, as a turn ended */
    uint64_t tell_us;    /* its core need not know until a timer rings then; 0: it must */
    bool broken;         /* its disk is as it must not be opened */
    bool lossy;          /* it lost what was durable, and has not caught up */
    ls_term lossy_term;  /* in which it was then */
    ls_index lossy_last; /* so far its log went then */
    struct sim_lost lost;
    uint64_t wiped_us;   /* when it lost its disk; 0: never */
    ls_index wiped_last; /* so far its log went then */
    bool hard_lost;      /* its hard state is an older one: only its guard knows better */
    bool misled;         /* by what was left of its guard: it doubts though nothing is lost */
    uint32_t losses;
    uint32_t start_excused; /* with which the next start may fail */
    struct sim_disk_error disk_error;
    uint32_t refuse_after, refusals; /* allocations that succeed, then such that do not */
    enum ls_storage_cut tear;
    size_t tear_bytes;
    uint64_t tear_down_us;
    int32_t rate_permille; /* its clock runs that much faster */
    uint64_t clock_us;     /* what its clock showed at 0 */
    uint64_t granularity_us, floor_us, stopped_us;
    bool stopped; /* its clock */
    bool dawdles; /* this turn takes time: what it reads of the clock */
    struct sim_random dawdle;
    uint64_t late_us; /* its first start, unless 0 */
    uint64_t dawdle_max_us, reading_us, apply_max_us;
    uint32_t apply_busy_percent;
    uint64_t down_us; /* after closing */
    ls_index commit;
    ls_index lead_known; /* what clients knew when it began to lead */
    struct sim_shadow shadow;
    uint64_t turns;
    struct sim_watch watch;
    bool closing;
    struct sim_rules rules;
    uint32_t reluctance;
    uint32_t unanswered; /* hand-overs and reads that no client asked for */
};

/** The member with that id; world->count: none. */
uint32_t sim_member_find(const struct world *world, const struct ls_peer_id *id);
uint64_t sim_member_now(const struct sim_member *member);
void sim_env_make(struct sim_member *member);
/** When the member's clock shows `local_us`, or a moment later; UINT64_MAX: it stands still. */
uint64_t sim_member_time(const struct sim_member *member, uint64_t local_us);
void sim_clock_stop(struct sim_member *member, bool stopped);
void sim_clock_leap(struct sim_member *member, uint64_t by_us);
/** It goes on; what a turn has taken has passed. */
void sim_clock_settle(struct sim_member *member);
/** The clock is another one: its timer is due at another time. */
void sim_member_clock(struct sim_member *member);
/** A turn begins; if the member is slow, what it does takes time. */
void sim_dawdle_begin(struct sim_member *member);
/** So much time passes in the middle of a turn that takes time. */
void sim_dawdle(struct sim_member *member, uint64_t local_us);
void sim_member_prepare(struct world *world, uint32_t at);
void sim_member_start(struct sim_member *member);
/**
 * Power cut: `keep` of the commits under way get to the medium, the rest and the process do not;
 * of the first of the rest, as much as member->tear says.
 */
void sim_member_crash(struct sim_member *member, size_t keep);
/** A power cut within a turn or a start: nothing gets to the media any more, and when the event has
 * ended the process is gone. It starts again after `down_us`. */
void sim_member_off(struct sim_member *member, bool keeps, uint64_t down_us);
/** Ends processes whose power went within this event. */
void sim_members_end(struct world *world);
/** Is it known why the group of this member halted? */
bool sim_member_excused(const struct sim_member *member, enum ls_status halted);
/** What an operator does about a group that halted: it starts again. */
void sim_member_repair(struct sim_member *member, uint64_t down_us);
/** Arms its disk error, if there is one that has not struck yet. */
void sim_disk_arm(struct sim_member *member, size_t after);
/** A commit of this member failed. */
void sim_disk_failed(struct sim_member *member);
/** What was under way to the medium is there as soon as the disk allows it now. */
void sim_member_disk(struct sim_member *member);
/** Where the log on its medium ends, whether its core has heard of it or not. */
ls_index sim_member_disk_last(const struct sim_member *member);
/** A power cut, and a new disk under the old name. */
void sim_member_wipe(struct sim_member *member);
/** Can a member of this world come back without its disk? */
bool sim_member_wipes(const struct world *world);
/** Closes the node as an operator does; it starts again after `down_us`. */
void sim_member_close(struct sim_member *member, uint64_t down_us);
void sim_member_pause(struct sim_member *member, bool paused);
void sim_member_event(struct world *world, const struct sim_event *event);
/** To be called after anything that may have made the node commit or change. */
void sim_member_after(struct sim_member *member);
void sim_member_free(struct sim_member *member);

/* ---- clients ---- */

/** A call, and all that is known of it. */
struct sim_op {
    struct world *world;
    struct ls_sim_call call;
    ls_index floor;   /* highest index that was known to be done when it began */
    ls_index index;   /* where the log holds its first command; 0: nowhere seen */
    ls_index fed;     /* where the leader said so, to a FEED; 0: not said */
    ls_index read_at; /* of a query: what the machine had applied when it was asked */
    bool accepted, fired;
    enum ls_status status;
    uint32_t count;    /* of commands */
    uint64_t hashes[]; /* of each */
};

struct sim_client {
    struct sim_op *op; /* NULL: between two */
    uint32_t waits;    /* for a paused member: its place + 1 */
};

/** In front of each command and query: the number of the call, and which of its commands it is. */
#define SIM_PREFIX_BYTES 8u
#define SIM_PREFIX_BITS  48u
#define SIM_PREFIX_CALL  ((UINT64_C(1) << SIM_PREFIX_BITS) - 1u)

void sim_client_event(struct world *world, const struct sim_event *event);
/** The member goes on, or is gone: who waited for it asks now. */
void sim_client_resume(struct world *world, uint32_t member);
/** One command asked of `member`, outside of the clients; NULL: refused. */
struct sim_op *sim_probe(struct world *world, uint32_t member);
void sim_clients_free(struct world *world);

bool sim_op_writes(const struct sim_op *op);
/** Is the state of that member back in its machine, which may lie on a disk? */
bool sim_disk_ready(const struct world *world, uint32_t at);

/** What the node of a member that starts gets as its machine. */
enum ls_status sim_machine_make(struct sim_member *member, struct ls_machine *out);
/** Closes the workload's machine if it is open. */
void sim_machine_close(struct sim_machine *machine);
uint64_t sim_hash(struct ls_span bytes);

/* ---- faults ---- */

/** What became of fault k of the script: records[k]. */
struct sim_fault_record {
    uint64_t at_us;
    enum sim_fault fault;
    bool struck;
    char text[SIM_RECORD_BYTES];
};

const char *sim_fault_name(enum sim_fault fault);
/** A condition of the whole run, which has no times to be counted. */
bool sim_fault_lasts(enum sim_fault fault);
bool sim_fault_enabled(const struct world *world, enum sim_fault fault);
/** One more of a kind that strikes later than it is armed. */
void sim_fault_count(struct world *world, enum sim_fault fault);
/** The run is meant to inject it and has not yet. */
bool sim_fault_owed(const struct world *world, enum sim_fault fault);
/** Decides the mix of the run and asks for the first fault. */
void sim_faults_open(struct world *world);
/** What concerns this member in the whole run is drawn from it. */
struct sim_random sim_fault_member_stream(const struct world *world, uint32_t at);
void sim_fault_event(struct world *world, const struct sim_event *event);
/** The clock and the first start of a member, by the conditions of the run. */
void sim_clock_conditions(struct sim_member *member, struct sim_random *random);
/** Before a machine applies: how long that takes. LS_OK and how many it may do, or LS_ERR_BUSY. */
enum ls_status sim_slow_apply(struct sim_member *member, size_t *count);
/** Ends all faults; members that are down start again. */
void sim_faults_end(struct world *world);
/** The list of all that struck, each with its number. */
void sim_faults_print(const struct world *world);
void sim_faults_free(struct world *world);
/** All paths are open again. */
void sim_heal_paths(struct world *world);

/* ---- snapshots (snapshots.h) ---- */

/** Power cuts that wait for the next install to come to a step. */
struct sim_install_crash {
    bool armed, after, keeps; /* the step is done; commits under way get to the medium */
    uint32_t skip;            /* times that the step is let through */
    uint64_t down_us;
};

/* ---- checks ---- */

struct sim_step {
    uint64_t chain; /* of the state after it; 0: not applied by anyone */
    uint64_t op;
    uint64_t reply, digest; /* hashes; 0: not known */
};

/** Who led a term, and in which of its lives. */
struct sim_reign {
    uint32_t by; /* member + 1; 0: nobody */
    uint64_t life;
};

struct sim_checks {
    struct sim_step *steps; /* by index */
    size_t steps_capacity;
    struct sim_reign *leaders; /* by term */
    size_t leaders_capacity;
    ls_index known; /* highest index that some client knows to be done */
    ls_index last;
    uint64_t leader_changes;
    struct sim_logs logs;
};
/**
 * The status of a member's group but for texts, state sync and what pins the log: what checks ask
 * for at each turn. In a turn that takes time it takes as much of it as the whole status.
 */
void sim_glance(const struct sim_member *member, struct ls_group_status *out);
void sim_glance_of(const struct sim_member *member, struct ls_group *group,
                   struct ls_group_status *out);
void sim_check_turn(struct sim_member *member);
/** After a turn; refused: it got no memory, or its store had no room. */
void sim_check_halted(struct sim_member *member, bool refused);
/** The member leads, as its status or a message of it says. */
void sim_check_leader(struct sim_member *member, ls_term term);
/** A machine applied the command with the prefix `op` at `index`; reply: hash of its reply or 0. */
void sim_check_applied(struct sim_machine *machine, ls_index index, uint64_t op, uint64_t command,
                       uint64_t reply);
/** A call of apply or apply_batch has ended. */
void sim_check_state(struct sim_machine *machine);
/** It was frozen, or took another state in. */
void sim_check_digest(struct sim_machine *machine);
void sim_check_published(struct sim_machine *machine, struct ls_cursor anchor);
/** The last index up to `upto` at which a command was applied, and the chain there. */
ls_index sim_check_last(const struct world *world, ls_index upto, uint64_t *chain);
/** A call ended with LS_OK. */
void sim_check_answer(struct sim_op *op, const struct ls_outcome *outcome);
void sim_checks_free(struct world *world);

/* ---- state sync (sync.h) ---- */

struct sim_sync;
struct sim_options;
void sim_sync_open(struct world *world);
void sim_sync_close(struct world *world);
/** The state syncs of the member's group, and its machine, on disk if the world says so. */
void sim_sync_group(struct sim_member *member, struct ls_group_options *options,
                    struct ls_statesync list[3]);
/** Is what may be pruned a question of this turn? Then the status must tell it. */
bool sim_sync_prune_due(const struct sim_member *member);
void sim_sync_turn(struct sim_member *member, const struct ls_group_status *status);
/** Prunes what may go; false: nothing. */
bool sim_sync_prune(struct world *world, uint32_t at);
bool sim_sync_prune_soon(struct world *world, uint32_t at, bool at_once);
/** Catching up takes long: what comes first in the list never works. */
bool sim_sync_waits(const struct world *world);
/** How many sessions of log replay began so far, of all members. */
uint64_t sim_sync_catch_ups(const struct world *world);
bool sim_sync_catching_up(const struct world *world);
/** May logs be pruned in this world? */
bool sim_sync_prunes(const struct world *world);
/** Does this world use the snapshot strategy? */
bool sim_sync_snapshots(const struct world *world);
/** May runs with these options? */
bool sim_snapshots_occur(const struct sim_options *options);
/** Is the leader's cache so small that who was away needs state sync? */
bool sim_sync_lags(const struct world *world);
/** Has every log its first entry, and does every machine live in memory? */
bool sim_sync_keeps_all(const struct world *world);
/** damage.c: a member that doubts its log has lost some of it. */
void sim_check_doubts(struct sim_member *member, const struct ls_group_status *status);
/** The member has started; doubtful: its disk had lost something when it did. */
void sim_check_start(struct sim_member *member, bool doubtful);
/** All are up: can a log lose its end, and others bring it back? */
bool sim_damage_logs_end(const struct world *world);
/**
 * A member that is down loses the end of its log, or the last write of its hard state; it starts,
 * and has to notice. False: nothing was lost, or nobody could notice it.
 */
bool sim_damage_lose(struct world *world, uint32_t at, bool log);
/**
 * The disk of a member that is down, but for its guard, is again what it was when its medium kept a
 * copy: before entries that came later. It starts, and has to notice. False: as sim_damage_lose.
 */
bool sim_damage_restore(struct world *world, uint32_t at);
/** Members that lost something and have caught up start again: their disks must know that they did.
 */
void sim_damage_forgotten(struct world *world);
/** The machine of the member loses its disk, and from now on nobody prunes. */
void sim_sync_wipe(struct sim_member *member);

/* ---- world ---- */

/** The handle of the functions of a workload. */
struct ls_sim {
    struct world *world;
};

struct sim_options {
    const struct ls_sim_workload *workload;
    const char *program; /* for replay */
    uint64_t seed;
    uint32_t members; /* 0: the seed decides */
    uint32_t seconds; /* of virtual time with faults */
    enum ls_sim_snapshots snapshots;
    uint32_t operations; /* that clients aim to get done in each second; 0: the seed decides */
    bool trace;          /* print every trace record */
    bool exact;          /* not longer than `seconds`, even if some kind has not struck */
    uint64_t without;    /* kinds that are switched off */
    uint64_t skip[SIM_SKIP_MAX / 64]; /* numbers of faults that are */
};
bool sim_skipped(const struct sim_options *options, uint32_t number);
/** "3,7,12-20": these faults do not happen, all others stay. False: it has another form. */
bool sim_skip_parse(const char *text, struct sim_options *out);

struct world {
    struct ls_sim handle;
    struct sim_options options;
    const struct ls_sim_workload *workload;
    struct sim_random random, workload_random;
    uint64_t now_us, instant_events, events, hash;
    struct sim_queue queue;
    struct sim_network network;
    uint32_t count;
    struct sim_member members[SIM_MEMBERS_MAX];
    struct ls_founder founders[SIM_MEMBERS_MAX];
    uint32_t election_ms, heartbeat_ms;
    uint64_t window_bytes;                          /* 0: the default */
    uint32_t clients_count, think_us, hurry_us;     /* between two calls; at the highest load */
    struct sim_client clients[SIM_CLIENTS_MAX + 1]; /* the last: probes */
    struct sim_op **ops;                            /* by id; 0 is none */
    size_t ops_capacity;
    uint64_t ops_made, acknowledged, unknown, refused;
    uint64_t ops_answered; /* of the first that were made, so many at least */
    bool owed_only;        /* kinds that have struck strike no more */
    bool quiet;            /* faults and clients have ended */
    bool steady;           /* ... but the clients go on */
    uint64_t fault_mask;
    uint32_t fault_gap_ms, fault_weights[SIM_FAULTS], fault_order_count;
    enum sim_fault fault_order[SIM_FAULTS];
    uint64_t in_force[SIM_FAULTS][SIM_MEMBERS_MAX]; /* number + 1 of the fault that is */
    uint64_t partition;                             /* the same of the partition */
    uint64_t injected[SIM_FAULTS];
    struct sim_fault_record *records;
    size_t records_count, records_capacity;
    struct sim_checks checks;
    struct sim_install_crash install_crashes[SIM_FAULTS - SIM_FAULT_INSTALL_LOADING];
    uint32_t off;          /* mask of members whose power went within this event */
    ls_index rules_commit; /* the highest that any member has known */
    struct {
        uint32_t but, who; /* mask of members; a member */
        ls_term term;
    } story;
    uint32_t resting;    /* mask of those that are away at the end */
    bool handing;        /* a hand-over of a calm group: nothing may be lost */
    uint32_t calm_reads; /* that have no answer yet */
    struct sim_calm_read *reads;
    struct sim_sync *sync;
    bool failed;
    char text[SIM_TEXT_BYTES];
};

void sim_fail(struct world *world, const char *format, ...) LS_PRINTF(2, 3);
void sim_fail_list(struct world *world, const char *format, va_list list) LS_PRINTF(2, 0);
/** Printed with --trace. */
void sim_note(const struct world *world, const char *format, ...) LS_PRINTF(2, 3);
void sim_note_list(const struct world *world, const char *format, va_list list) LS_PRINTF(2, 0);
void sim_mix(struct world *world, uint64_t word);
void sim_mix_bytes(struct world *world, const void *bytes, size_t count);
void sim_push(struct world *world, uint64_t at_us, enum sim_event_kind kind, uint32_t a, uint32_t b,
              uint64_t token);
void *sim_allocate(size_t bytes); /* zeroed; never NULL */

/* ---- topology ---- */

uint32_t sim_topology_count(struct sim_random *random);
/** Seats and settings of all members; asks for their starts. */
void sim_topology_open(struct world *world);
/** Of the group, as it was founded. */
bool sim_is_voter(const struct world *world, uint32_t at);
void sim_topology_group(const struct sim_member *member, struct ls_group_options *options);

/* ---- a run ---- */

/** The world that the seed decides, at time zero. */
void sim_world_open(struct world *world, const struct sim_options *options);
/** Runs until that time, or until `holds` (may be NULL): then true. */
bool sim_world_until(struct world *world, uint64_t until_us, bool (*holds)(struct world *world));
/** The faults end, and the group must converge and serve. */
void sim_world_finish(struct world *world);
/** Members that stay away when the faults end, as many as a group must do without: they are down.
 */
uint32_t sim_calm_rest(struct world *world);
/** Until all members have links to each other. */
void sim_calm_links(struct world *world);
/** A read of that member alone; if it is answered it must not be stale. */
void sim_calm_read(struct world *world, uint32_t at);
/** The member is asked to hand over; false: it refuses. */
bool sim_transfer(struct world *world, uint32_t from, uint32_t to);
/** The callback of such a call, or of a read that is no client's, comes. */
void sim_answered(struct sim_member *member);
/** All of them have come, or will. */
void sim_calm_answers(struct world *world);
void sim_calm_free(struct world *world);
/** In a converged group: one plot of faults (stories.c). */
void sim_story(struct world *world);
/** A converged group without faults does all that it must. */
void sim_calm(struct world *world);
/** Runs it to its end; world->failed tells how it went. */
void sim_world_run(struct world *world);
void sim_world_free(struct world *world);

/* ---- what is told of runs ---- */

struct sim_totals {
    uint64_t seeds, leaders, events, messages, operations, virtual_us, with_snapshots, installs;
    uint64_t injected[SIM_FAULTS];
};
void sim_totals_add(struct sim_totals *totals, const struct world *world);
/** One line of `name value` pairs, for scripts. */
void sim_print_totals(const struct sim_totals *totals);
void sim_print_options(const struct world *world);
void sim_print_outcome(const struct world *world);
/** Of a run that took so much of the real time; no part of the trace. */
void sim_print_speed(const struct world *world, uint64_t real_us);
/** The command that repeats a run. */
void sim_print_replay(const struct sim_options *options);
/** Its arguments. */
void sim_replay_text(const struct sim_options *options, char out[SIM_REPLAY_BYTES]);

/**
 * Looks for a smaller run that fails with the same sentence but for numbers and names: less virtual
 * time, fewer members, fewer faults. Each attempt is a process of its own, so a run that
 * dies is shrunk as well as one that a check ended. Prints what it finds; false: the run is clean.
 */
bool sim_shrink(const struct sim_options *options);

#endif
