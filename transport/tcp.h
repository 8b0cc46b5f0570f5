/* SPDX-License-Identifier: MIT */
/*
 * The TCP backend's own structures: who owns what, and who may end it.
 *
 *     ls__tcp          one per transport; owns listeners, connections and links
 *     ls__connection   one socket: handshake, then sealed records. Ended by connection_kill at any
 *                      time, freed only in the settle event, so no caller up the stack loses it
 *     ls__link         one per peer: at most one attached connection per lane; up with both
 *     ls__bond         one per peer and group, in a slot of its link: wanted here, offered there,
 * or both
 *
 * Files: connection.c knows no bonds, link.c dials and attaches, bond.c agrees on bonds and moves
 * messages, tcp.c is the port.
 */
#ifndef LOCKSTEP_TRANSPORT_TCP_H
#define LOCKSTEP_TRANSPORT_TCP_H

#include "control.h"
#include "net.h"
#include "stream.h"

#define LS__LISTENERS_MAX 8u
/* a link's slots: bonds wanted here and bonds offered by the peer */
#define LS__SLOTS_MAX    (2u * LS_GROUPS_MAX)
#define LS__BOND_BUCKETS 1024u

LS_STATIC_ASSERT((LS__SLOTS_MAX & (LS__SLOTS_MAX - 1)) == 0, "a channel's low bits are its slot");

enum ls__phase {
    LS__CONNECTING = 1, /* dialled, not yet connected */
    LS__HELLO = 2,      /* waits for the other hello */
    LS__PROOF = 3,      /* waits for the other proof */
    LS__OPEN = 4,
    LS__DEAD = 5 /* ended; the settle event frees it */
};

struct ls__tcp;
struct ls__link;

/* What would open a connection's traffic; in sodium memory. */
struct ls__secrets {
    struct ls__handshake handshake;
    ls__stream push, pull;
};

struct ls__connection {
    struct ls__connection *next;
    struct ls__tcp *tcp;
    struct ls__link *link; /* NULL: none yet, or no more */
    int descriptor;
    struct ls__event readable, writable, timer;
    enum ls__phase phase;
    bool dialer;
    enum ls_lane lane;
    bool blocked;      /* the socket takes no more; `writable` waits */
    bool write_failed; /* nothing can be sent; what has arrived is still read */
    struct ls__secrets *secrets;
    struct ls__in in;
    struct ls__out out;
    uint64_t opened_us, heard_us;
    uint64_t ping_us; /* stamp of the last ping, which its pong must carry; 0: answered */
    uint64_t pong_stamp;
    bool pong_due;
    char remote[LS_ADDRESS_BYTES];
    enum ls_status ended;
    char reason[LS_ADDRESS_BYTES + 128];
};

struct ls__bond {
    struct ls__bond *next; /* in its bucket, while wanted */
    struct ls__link *link;
    uint32_t slot;
    struct ls_group_id group;
    bool wanted;
    struct ls_bond_hello mine; /* while wanted */
    uint32_t channel;          /* named in the own OPEN of this session; 0: not sent */
    bool offered;              /* the peer's OPEN is in force: */
    uint32_t their_channel;
    struct ls_bond_hello theirs;
    bool up;
    bool refusal_due; /* a REFUSED notice is owed; trouble tells */
    uint32_t ups;
    uint64_t bytes_in, bytes_out;
    uint32_t malformed;
    uint32_t mesh_count;
    struct ls_peer_id mesh[LS_MEMBERS_MAX];
    char trouble[LS_ERROR_TEXT_BYTES];
};

struct ls__link {
    struct ls__link *next;
    struct ls__tcp *tcp;
    struct ls_peer_id peer;
    char address[LS_ADDRESS_BYTES]; /* to dial; empty: wait to be dialled */
    struct ls__connection *lanes[LS_LANES];
    struct ls__connection *dialing;
    struct ls__resolve *resolving;
    struct ls__event dial_timer;
    bool dial_armed;
    bool up;
    bool retire;   /* the last bond was closed: ends when what is queued was written */
    bool troubled; /* traced once, until it is up again */
    uint32_t attempts;
    uint32_t ups;
    uint64_t up_us; /* when it last came up */
    uint64_t rtt_us, jitter_us;
    uint64_t heard_us;
    uint8_t session[32]; /* transcript of the consensus connection */
    struct ls_incarnation incarnation;
    struct ls__bond **slots;
    uint32_t slots_capacity;
    uint32_t bonds, wanted; /* how many */
    enum ls_status why;     /* of trouble */
    char trouble[LS_ERROR_TEXT_BYTES];
};

struct ls__listener {
    struct ls__tcp *tcp;
    int descriptor;
    struct ls__event readable, resume;
};

struct ls__tcp {
    struct ls_env env;
    const struct ls_identity *identity;
    struct ls_peer_id id;
    struct ls_incarnation incarnation;
    struct ls_transport_tcp_options options; /* defaults filled in */
    struct ls__net net;
    bool net_given; /* else of the base */
    bool started;
    const size_t *queue_bytes; /* of one lane of a link */
    struct ls_transport_sink sink;
    struct ls__listener *listeners[LS__LISTENERS_MAX];
    uint32_t listeners_count;
    struct ls__connection *connections;
    uint32_t handshakes; /* inbound and not proven */
    struct ls__link *links;
    uint32_t links_count;
    struct ls__bond *buckets[LS__BOND_BUCKETS];
    struct ls__frame_pool pool;
    struct ls__event settle_event, flush_event, pace_event;
    bool settle_due, flush_due, pace_due;
    int64_t tokens; /* bytes that the bulk lanes may send now */
    uint64_t tokens_us;
    uint32_t bulk_turns;  /* who writes first when the pace leaves little */
    uint32_t generations; /* of channels */
    uint64_t dropped;     /* messages for bonds that are not up */
    uint64_t refusals, refusal_traced_us;
    uint32_t depth; /* callbacks of the net on the stack */
    bool closed;
};

/* tcp.c */
void *ls__tcp_allocate(struct ls__tcp *tcp, void *block, size_t bytes);
uint64_t ls__tcp_now(const struct ls__tcp *tcp);
void ls__tcp_trace(const struct ls__tcp *tcp, enum ls_trace_level level, const char *format,
                   const struct ls_group_id *group, const struct ls_peer_id *peer,
                   const char *detail);
/** Around every callback of the net: a close from inside of one frees at the end of it. */
void ls__tcp_enter(struct ls__tcp *tcp);
void ls__tcp_leave(struct ls__tcp *tcp);
/** Asks for the settle event: frees what is dead, tells what is owed. */
void ls__tcp_settle_soon(struct ls__tcp *tcp);
void ls__tcp_flush_soon(struct ls__tcp *tcp);
/** Bytes that the bulk lane may send now; 0: the pace timer is armed. */
size_t ls__tcp_bulk_allowance(struct ls__tcp *tcp, size_t wanted);
void ls__tcp_bulk_spent(struct ls__tcp *tcp, size_t bytes);
/** Prepares an event of the transport's net. */
void ls__tcp_event(struct ls__tcp *tcp, struct ls__event *event, enum ls__event_kind kind,
                   int descriptor, void (*fire)(void *arg), void *arg);
bool ls__tcp_add(struct ls__tcp *tcp, struct ls__event *event, uint64_t after_us);
void ls__tcp_remove(struct ls__tcp *tcp, struct ls__event *event);

/* connection.c */
/** Takes the descriptor, also when it fails (NULL: out of memory). */
struct ls__connection *ls__connection_open(struct ls__tcp *tcp, int descriptor,
                                           struct ls__link *dialed, enum ls_lane lane,
                                           const char *remote);
void ls__connection_kill(struct ls__connection *connection, enum ls_status why, const char *format,
                         ...) LS_PRINTF(3, 4);
void ls__connection_free(struct ls__connection *connection);
/** Writes what is queued: what the socket takes, at most a turn's share of it. */
void ls__connection_write(struct ls__connection *connection);
/** Queues a control record; a connection for which there is no memory ends. */
void ls__connection_control(struct ls__connection *connection, const struct ls__control *control);
void ls__connection_ping(struct ls__connection *connection);

/* link.c */
struct ls__link *ls__link_find(struct ls__tcp *tcp, const struct ls_peer_id *peer);
/** Finds or makes. NULL: LS_LINKS_MAX, or out of memory. */
struct ls__link *ls__link_get(struct ls__tcp *tcp, const struct ls_peer_id *peer);
/** A connection proved itself. */
void ls__link_opened(struct ls__connection *connection);
/** A bulk connection said to which consensus connection it belongs. */
void ls__link_bind(struct ls__connection *connection, const uint8_t session[32]);
/** A connection that belonged to the link is dead. */
void ls__link_lost(struct ls__link *link, struct ls__connection *connection);
/** Ends all connections of the link and lowers its bonds. */
void ls__link_down(struct ls__link *link, enum ls_status why, const char *reason);
/** Arms the dial timer if this side should dial now. */
void ls__link_schedule(struct ls__link *link);
/** The link has neither connection, nor bond, nor anybody who wants one. */
bool ls__link_idle(const struct ls__link *link);
void ls__link_free(struct ls__link *link);

/* bond.c */
struct ls__bond *ls__bond_find(struct ls__tcp *tcp, const struct ls_group_id *group,
                               const struct ls_peer_id *peer);
enum ls_status ls__bond_want(struct ls__link *link, const struct ls_bond_hello *hello,
                             struct ls_error *error);
void ls__bond_leave(struct ls__bond *bond);
/** The link came up: offers all wanted bonds. */
void ls__bonds_offer(struct ls__link *link);
/** The link went down. */
void ls__bonds_lower(struct ls__link *link);
/** Tells refusals that are owed. */
void ls__bonds_tell(struct ls__link *link);
/** Takes one record; NULL, or why a correct peer cannot have sent it. */
const char *ls__bonds_receive(struct ls__connection *connection, const struct ls__control *control);
enum ls_status ls__bond_send(struct ls__bond *bond, enum ls_lane lane, struct ls_span message);
void ls__bond_info(const struct ls__bond *bond, struct ls_bond_info *out);
/** Frees all bonds without a word. */
void ls__bonds_free(struct ls__link *link);

/* resolve.c */
/** Tells the address, or (NULL) the reason why there is none. */
typedef void (*ls__resolved)(void *arg, const struct ls__address *address, const char *reason);
/** Asks the name service on a thread of its own. NULL: no memory, thread or descriptor. */
struct ls__resolve *ls__resolve_open(struct ls__tcp *tcp, const char *text, ls__resolved then,
                                     void *arg);
/** Forgets it; `then` is not called any more. Takes NULL. */
void ls__resolve_close(struct ls__resolve *resolve);

#endif
