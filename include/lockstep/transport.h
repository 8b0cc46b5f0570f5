/* SPDX-License-Identifier: MIT */
/*
 * The transport port: links between nodes, bonds of groups on them, and the two backends.
 *
 * A link is the encrypted connections between two nodes. A bond is one group's membership on a
 * link; it is up when both sides opened it and the link is up. Messages travel on bonds, in order
 * within a lane. Nothing listens unless told to.
 *
 * Thread: the loop's.
 */
#ifndef LOCKSTEP_TRANSPORT_H
#define LOCKSTEP_TRANSPORT_H

#include <lockstep/env.h>
#include <lockstep/identity.h>

LS_EXTERN_C_BEGIN

struct event_base; /* libevent's */

enum ls_lane {
    LS_LANE_CONSENSUS = 0, /* votes, heartbeats, appends, forwarded calls: never behind bulk */
    LS_LANE_BULK = 1       /* state sync */
};
#define LS_LANES 2

/** What one side says of itself when it opens a bond. */
struct ls_bond_hello {
    struct ls_group_id group;
    char name[LS_NAME_BYTES];                  /* of the group; compared after the key proof */
    char member[LS_NAME_BYTES];                /* of this member */
    uint8_t signature[LS_SIGNATURE_BYTES_MAX]; /* of the machine */
    uint32_t signature_bytes;
};

enum ls_bond_event {
    LS_BOND_UP = 1,
    LS_BOND_DOWN = 2,     /* the link broke or was lost */
    LS_BOND_DEPARTED = 3, /* the peer closed the bond gracefully */
    LS_BOND_REFUSED = 4, /* the peer has the group name but another machine signature; text tells */
    LS_BOND_FORMED = 5   /* notice: `peer` formed a bond with `other` */
};

struct ls_bond_notice {
    enum ls_bond_event event;
    struct ls_group_id group;
    struct ls_peer_id peer;
    struct ls_incarnation incarnation; /* of the peer, with UP */
    struct ls_peer_id other;           /* with FORMED */
    const char *text;                  /* static or borrowed: why; NULL: nothing to say */
};

struct ls_transport_sink {
    void *self;
    /**
     * One whole message, borrowed for the call. Returns NULL, or the static reason why a correct
     * peer cannot have sent it: then the link is dropped and comes back after a backoff.
     */
    const char *(*receive)(void *self, const struct ls_group_id *group,
                           const struct ls_peer_id *peer, enum ls_lane lane,
                           struct ls_span message);
    void (*bond)(void *self, const struct ls_bond_notice *notice);
};

struct ls_bond_info {
    struct ls_peer_id peer;
    char name[LS_NAME_BYTES];       /* member name the peer gave, or empty */
    char address[LS_ADDRESS_BYTES]; /* that we dial, or the remote end */
    bool up;
    struct ls_incarnation incarnation;
    uint64_t rtt_us;   /* smoothed round-trip time of pings; 0: not measured yet */
    uint64_t heard_us; /* monotonic time of the last byte received; 0: never */
    uint64_t bytes_in, bytes_out;
    uint32_t queued_bytes; /* waiting to be sent, both lanes */
    uint32_t reconnects;
    uint32_t bonds_count; /* peers it told us it is bonded to, in this group */
    struct ls_peer_id bonds[LS_MEMBERS_MAX];
    char trouble[LS_ERROR_TEXT_BYTES]; /* why it is not up ("connect 127.0.0.1:7102: refused"), or
                                          empty */
    uint32_t malformed; /* its messages that broke the protocol: each cost the link */
    /* LS_OK when up. AUTH, PROTOCOL, TIMEOUT, IO, NO_MEMORY, LIMIT: how the link ended or could not
     * begin; else UNREACHABLE */
    enum ls_status why;
    uint64_t jitter_us; /* mean deviation of the round-trip time, smoothed; 0: not measured yet */
};

struct ls_transport {
    size_t size;
    void *self;

    /** Begins to work on `base`; called once. incarnation: told to every peer in the handshake. */
    enum ls_status (*start)(void *self, struct event_base *base,
                            const struct ls_incarnation *incarnation,
                            const struct ls_transport_sink *sink, struct ls_error *error);

    /** Accepts connections on "host:port". errors LS_ERR_INVALID, LS_ERR_IO with text. May be
     * called again for more. */
    enum ls_status (*listen)(void *self, const char *address, struct ls_error *error);

    /**
     * Wants a bond of `hello->group` with `peer`; keeps a link to it, dialling `address` ("" : wait
     * to be dialled) with jittered exponential backoff. A second call updates the address.
     */
    enum ls_status (*bond_open)(void *self, const struct ls_bond_hello *hello,
                                const struct ls_peer_id *peer, const char *address,
                                struct ls_error *error);

    /** Leaves gracefully: the peer sees DEPARTED. No notice comes back for it. */
    void (*bond_close)(void *self, const struct ls_group_id *group, const struct ls_peer_id *peer);

    /**
     * Queues one message; copies it. It arrives whole and in lane order, or is lost with the link.
     * errors   LS_ERR_UNREACHABLE  the bond is not up
     *          LS_ERR_BUSY         over LS_SEND_QUEUE_BYTES_MAX
     *          LS_ERR_LIMIT        over LS_MESSAGE_BYTES_MAX
     */
    enum ls_status (*send)(void *self, const struct ls_group_id *group,
                           const struct ls_peer_id *peer, enum ls_lane lane,
                           struct ls_span message);

    /** Writes out what is queued, as far as the sockets take it; the driver calls it once per loop
     * turn. */
    void (*flush)(void *self);

    /** errors LS_ERR_NOT_FOUND */
    enum ls_status (*bond_info)(void *self, const struct ls_group_id *group,
                                const struct ls_peer_id *peer, struct ls_bond_info *out);

    /** Departs from all bonds, closes all sockets; no sink call comes after it. Frees self. */
    void (*close)(void *self);
};

struct ls_transport_tcp_options {
    size_t size;
    const struct ls_env *env;           /* NULL: ls_env_default() */
    const struct ls_identity *identity; /* borrowed until close */
    uint32_t handshake_ms;              /* 0: 5000 */
    uint32_t idle_ms; /* no byte for so long ends a connection; pings every third; 0: 6000 */
    uint32_t reconnect_min_ms; /* 0: 50 */
    uint32_t reconnect_max_ms; /* 0: 2000 */
    uint64_t bulk_bytes_per_s; /* pace of the bulk lane, all peers together; 0: unlimited */
};

/** Encrypted TCP over libevent. */
LS_API LS_NODISCARD enum ls_status
ls_transport_tcp_open(const struct ls_transport_tcp_options *options, struct ls_transport *out,
                      struct ls_error *error);

/** In-process network for examples and tests: all endpoints of one hub reach each other by peer id.
 */
struct ls_loopback;
LS_API LS_NODISCARD enum ls_status ls_loopback_open(const struct ls_env *env,
                                                    struct ls_loopback **hub);
/** After the last endpoint closed. */
LS_API void ls_loopback_close(struct ls_loopback *hub);
/** Endpoints may live on different threads. `identity` is borrowed until the endpoint closes. */
LS_API LS_NODISCARD enum ls_status ls_loopback_endpoint(struct ls_loopback *hub,
                                                        const struct ls_identity *identity,
                                                        struct ls_transport *out,
                                                        struct ls_error *error);
/** For tests: cuts or heals the path from `from` to `to` (one way: messages are dropped, the bond
 * goes down for both when either is cut). Any thread. */
LS_API void ls_loopback_cut(struct ls_loopback *hub, const struct ls_peer_id *from,
                            const struct ls_peer_id *to, bool cut);

LS_EXTERN_C_END

#endif
