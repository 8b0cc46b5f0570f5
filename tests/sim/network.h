/* SPDX-License-Identifier: MIT */
/*
 * The virtual network. Members talk through the production transport (handshake, sealed streams,
 * links, bonds, pings and their deadlines); what is virtual is the net below it, transport/net.h:
 *
 *     port.c      the transport port that a node gets: the production one, with a sink in between
 *                 that counts, and hands messages over twice or late
 *     network.c   paths between members: delay, loss, what is blocked; timers
 *     dialing.c   listening, dialling, accepting
 *     sockets.c   byte streams and how they end
 *     cipher.c    in most runs, a cheap stand-in for the mathematics of libsodium
 */
#ifndef LOCKSTEP_SIM_NETWORK_H
#define LOCKSTEP_SIM_NETWORK_H

#include "queue.h"

#include <lockstep/sim.h>
#include <lockstep/transport.h>

#define SIM_MEMBERS_MAX LS_SIM_MEMBERS_MAX
#define SIM_NEVER       UINT64_MAX

struct world;
struct ls__event;

/** Why a path is blocked: each begins and ends on its own. */
enum sim_block { SIM_BLOCK_PARTITION = 1, SIM_BLOCK_CLOG = 2, SIM_BLOCK_FLAP = 4 };

/** From one member to another; what is sent over it takes its time. */
struct sim_path {
    uint32_t blocked;     /* set of sim_block: all bytes are held */
    uint64_t flap_us;     /* until then it opens and closes */
    uint64_t open_us;     /* nothing arrives before */
    uint32_t bytes_per_s; /* 0: without limit */
    uint64_t busy_us;     /* until then earlier bytes are being sent */
};

/** Bytes before `end` arrive at `due`. */
struct sim_due {
    uint64_t end, due;
};

/** One direction of a connection. Positions count from its first byte. */
struct sim_pipe {
    uint8_t *ring;
    struct sim_due *marks; /* a ring, too */
    uint32_t marks_first, marks_count;
    uint64_t written, arrived, read;
    uint64_t due;     /* of the last mark */
    uint64_t damaged; /* position of a byte that was changed; SIM_NEVER: none */
};

enum sim_end_state {
    SIM_END_NONE = 0,
    SIM_END_DIALING = 1,
    SIM_END_WAITING = 2, /* for accept */
    SIM_END_OPEN = 3,
    SIM_END_CLOSED = 4, /* by its owner */
    SIM_END_DEAD = 5    /* its owner died */
};

struct sim_end {
    enum sim_end_state state;
    uint32_t member;
    struct sim_pipe in;
    bool finished; /* the other end closed; all that it wrote is marked */
    bool full;     /* a write found no room */
    bool silent;   /* its host died, not only its process */
    bool activated;
    int failure; /* errno: what has arrived is still read */
    struct ls__event *readable, *writable;
    uint64_t look_us; /* when an event looks at this end; SIM_NEVER: none does */
};

struct sim_connection {
    bool used;
    uint32_t generation;
    uint32_t dials;         /* first packets lost so far */
    uint64_t order;         /* of waiting for accept */
    struct sim_end ends[2]; /* [0] dialled */
};

struct sim_timer {
    struct ls__event *event; /* NULL: free */
    uint32_t member, generation, next_free;
    bool missed; /* while the member stood still */
};

struct sim_listener {
    bool open;
    struct ls__event *readable;
};

struct sim_parcel;

/** What a member's node has of the network. */
struct sim_port {
    struct ls_transport tcp; /* self NULL: closed */
    struct ls_transport_sink sink;
    struct ls_incarnation incarnations[SIM_MEMBERS_MAX]; /* of each peer whose bond is up */
    bool up[SIM_MEMBERS_MAX];
    uint64_t damaged_us[SIM_MEMBERS_MAX]; /* a damaged byte of it ended a connection */
    bool broken[SIM_MEMBERS_MAX];         /* it may end for another reason */
    bool cut;                             /* nothing reaches the network, and no time is left */
    uint64_t live_bytes;                  /* memory of its links */
    struct sim_parcel *late;              /* messages that are handed over later */
};

struct sim_network {
    struct sim_random random;
    struct sim_path paths[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX];
    struct sim_port ports[SIM_MEMBERS_MAX];
    struct sim_listener listeners[SIM_MEMBERS_MAX];
    struct sim_connection **connections;
    uint32_t connections_count, connections_capacity;
    struct sim_timer *timers;
    uint32_t timers_count, timers_capacity, timers_free;
    uint32_t delay_min_us, delay_max_us, tail_percent, tail_us;
    uint32_t loss_percent, twice_percent, late_percent, late_us;
    uint32_t handshake_ms, idle_ms, reconnect_min_ms, reconnect_max_ms;
    uint64_t bulk_bytes_per_s;
    size_t queue_bytes;    /* that may wait for one lane of a peer */
    uint32_t ring_bytes;   /* a power of two: the largest window */
    uint32_t window_bytes; /* under way and not read, in one direction of a connection */
    bool stand_in;         /* no real mathematics in this run */
    bool disordered;       /* messages may overtake others, or might have */
    bool tainted;          /* what is read now was damaged: no message may come of it */
    uint64_t messages, sessions, connects, parcels;
};

/* ---- network.c ---- */

void sim_network_open(struct world *world);
void sim_network_free(struct world *world);
void sim_network_event(struct world *world, const struct sim_event *event);

/** Holds all bytes of a path, or lets them go, as a partition does. */
void sim_network_block(struct world *world, uint32_t from, uint32_t to, bool blocked);
void sim_path_block(struct world *world, uint32_t from, uint32_t to, enum sim_block why, bool on);
/** It opens and closes until then. */
void sim_network_flap(struct world *world, uint32_t from, uint32_t to, uint64_t until_us);
/** Bytes a second, 0: without limit. */
void sim_network_narrow(struct world *world, uint32_t from, uint32_t to, uint32_t bytes_per_s);
/** The member is gone without a word; its peers notice some time later, or never by themselves. */
void sim_network_vanish(struct world *world, uint32_t at);
/** What waited for a member goes on. */
void sim_network_wake(struct world *world, uint32_t at);
/** How long so many bytes take from now on; counts what the path did to them. */
uint64_t sim_path_due(struct world *world, uint32_t from, uint32_t to, size_t bytes);
/** From now on so many messages of the core are late, until all is calm. */
void sim_network_disorder(struct world *world, uint32_t late_percent);
/** All conditions and faults of the network end. */
void sim_network_calm(struct world *world);

/* ---- sockets.c, dialing.c ---- */

/** Connections of two members break; what is under way is lost. all: else only one of them. */
bool sim_sockets_reset(struct world *world, uint32_t a, uint32_t b, bool all);
/** All of them break at both ends now, as something between the two does it; what is under way is
 * lost, also where no news gets through. */
void sim_sockets_sever(struct world *world, uint32_t a, uint32_t b);
/** Changes a byte that is under way. False: none is. */
bool sim_sockets_damage(struct world *world, struct sim_random *random, uint32_t *from,
                        uint32_t *to);
/** All ends of this member are dead. */
void sim_sockets_die(struct world *world, uint32_t at, bool silent);
/** Looks at every end that is fed by (from, to), or (from == SIM_MEMBERS_MAX) that `to` owns. */
void sim_sockets_look(struct world *world, uint32_t from, uint32_t to);
void sim_sockets_event(struct world *world, const struct sim_event *event);
void sim_sockets_free(struct world *world);

/* ---- port.c ---- */

/** The transport of a member's node. */
enum ls_status sim_port_open(struct world *world, uint32_t at, struct ls_transport *out,
                             struct ls_error *error);
void sim_port_event(struct world *world, const struct sim_event *event);
void sim_port_forget(struct world *world, uint32_t at);

/* ---- cipher.c ---- */

void sim_cipher_stand_in(bool on);

#endif
