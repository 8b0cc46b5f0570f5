/* SPDX-License-Identifier: MIT */
/*
 * Links: who dials whom and when, and which proven connections make the link to a peer.
 *
 * A node dials a peer whose address it knows if its own id is the lower one, or if it does not
 * listen. Otherwise it expects to be dialled, but dials too when nobody came for a while: the peer
 * may not know the address. Two connections that cross are told apart by the id of their dialer:
 * the lower one's stays. A newer connection of the same dialer replaces the older: it restarted.
 *
 * The dialer makes the consensus connection first and then the bulk connection, which names the
 * other by its transcript, so that the lanes of two sessions are never mixed.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tcp.h"

/* a node that starts waits so long for those who should dial it */
#define FIRST_PATIENCE_US 100000u

static int id_compare(const struct ls_peer_id *a, const struct ls_peer_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

static bool own_id_is_lower(const struct ls__link *link)
{
    return id_compare(&link->tcp->id, &link->peer) < 0;
}

struct ls__link *ls__link_find(struct ls__tcp *tcp, const struct ls_peer_id *peer)
{
    for (struct ls__link *at = tcp->links; at != NULL; at = at->next) {
        if (ls_peer_id_equal(&at->peer, peer)) {
            return at;
        }
    }
    return NULL;
}

static void link_dial(struct ls__link *link);

static void on_dial(void *arg)
{
    struct ls__link *link = arg;
    struct ls__tcp *tcp = link->tcp;
    ls__tcp_enter(tcp);
    link->dial_armed = false;
    if (link->lanes[LS_LANE_CONSENSUS] == NULL && link->dialing == NULL) {
        link_dial(link);
    }
    ls__tcp_leave(tcp);
}

struct ls__link *ls__link_get(struct ls__tcp *tcp, const struct ls_peer_id *peer)
{
    struct ls__link *link = ls__link_find(tcp, peer);
    if (link != NULL || tcp->links_count >= LS_LINKS_MAX) {
        return link;
    }
    link = ls__tcp_allocate(tcp, NULL, sizeof *link);
    if (link != NULL) {
        (void)memset(link, 0, sizeof *link);
        link->tcp = tcp;
        link->peer = *peer;
        ls__tcp_event(tcp, &link->dial_timer, LS__EVENT_TIMER, -1, on_dial, link);
        link->next = tcp->links;
        tcp->links = link;
        tcp->links_count++;
    }
    return link;
}

bool ls__link_idle(const struct ls__link *link)
{
    return link->bonds == 0 && link->lanes[0] == NULL && link->lanes[1] == NULL &&
           link->dialing == NULL;
}

void ls__link_free(struct ls__link *link)
{
    struct ls__tcp *tcp = link->tcp;
    struct ls__link **at = &tcp->links;
    while (*at != link) {
        at = &(*at)->next;
    }
    *at = link->next;
    tcp->links_count--;
    ls__tcp_remove(tcp, &link->dial_timer);
    ls__resolve_close(link->resolving);
    ls__bonds_free(link);
    (void)ls__tcp_allocate(tcp, link, 0);
}

/* Keeps why the link is not up, and traces it once until it is. */
static void link_trouble(struct ls__link *link, enum ls_status why, const char *reason)
{
    link->why = why;
    (void)snprintf(link->trouble, sizeof link->trouble, "%s", reason);
    if (!link->troubled) {
        link->troubled = true;
        ls__tcp_trace(link->tcp, LS_TRACE_WARN, "no link to {p}", NULL, &link->peer, reason);
    }
}

static void dial_failed(struct ls__link *link, const char *address, const char *reason)
{
    char text[LS_ERROR_TEXT_BYTES];
    (void)snprintf(text, sizeof text, "connect %s: %s", address, reason);
    link_trouble(link, LS_ERR_IO, text);
    if (link->lanes[LS_LANE_CONSENSUS] != NULL) {
        ls__connection_kill(link->lanes[LS_LANE_CONSENSUS], LS_ERR_IO, "%s", text);
    } else {
        ls__link_schedule(link);
    }
}

static void link_dial_address(struct ls__link *link, const struct ls__address *address)
{
    enum ls_lane lane = link->lanes[LS_LANE_CONSENSUS] == NULL ? LS_LANE_CONSENSUS : LS_LANE_BULK;
    struct ls__tcp *tcp = link->tcp;
    int descriptor = tcp->net.dial(tcp->net.self, address);
    if (descriptor < 0) {
        dial_failed(link, link->address, strerror(errno));
        return;
    }
    link->dialing = ls__connection_open(tcp, descriptor, link, lane, link->address);
    if (link->dialing == NULL) {
        dial_failed(link, link->address, "out of memory");
    }
}

/* While a name was resolved, the peer may have dialled. */
static bool link_dial_useful(const struct ls__link *link)
{
    const struct ls__connection *consensus = link->lanes[LS_LANE_CONSENSUS];
    return consensus == NULL || (consensus->dialer && link->lanes[LS_LANE_BULK] == NULL);
}

static void on_resolved(void *arg, const struct ls__address *address, const char *reason)
{
    struct ls__link *link = arg;
    link->resolving = NULL;
    if (address == NULL) {
        dial_failed(link, link->address, reason);
    } else if (link->dialing == NULL && link_dial_useful(link)) {
        link_dial_address(link, address);
    }
}

static void link_dial(struct ls__link *link)
{
    struct ls__address address;
    if (ls__address_resolve(link->address, true, &address) == NULL) {
        link_dial_address(link, &address);
    } else if (link->resolving == NULL) {
        link->resolving = ls__resolve_open(link->tcp, link->address, on_resolved, link);
        if (link->resolving == NULL) {
            dial_failed(link, link->address, "cannot ask the name service");
        }
    }
}

/* Exponential, from half to all of it: peers that lost each other at once do not meet in step. */
static uint64_t backoff_us(struct ls__link *link)
{
    const struct ls_transport_tcp_options *options = &link->tcp->options;
    uint64_t us = (uint64_t)options->reconnect_min_ms * 1000u;
    uint64_t most = (uint64_t)options->reconnect_max_ms * 1000u;
    for (uint32_t i = 1; i < link->attempts && us < most; i++) {
        us *= 2;
    }
    us = us < most ? us : most;
    uint32_t random = 0;
    link->tcp->env.entropy(link->tcp->env.self, &random, sizeof random);
    return us / 2 + (us / 2) * (random >> 16) / 65536u;
}

void ls__link_schedule(struct ls__link *link)
{
    struct ls__tcp *tcp = link->tcp;
    if (tcp->closed || link->wanted == 0 || link->address[0] == '\0' || link->dial_armed ||
        link->dialing != NULL || link->resolving != NULL ||
        link->lanes[LS_LANE_CONSENSUS] != NULL) {
        return;
    }
    uint64_t delay = link->attempts == 0 ? 0 : backoff_us(link);
    if (!own_id_is_lower(link) && tcp->listeners_count > 0) {
        /* expected to be dialled: only if nobody comes. A peer that waits for us longer than we run
         * may be in the middle of a long pause: then it is found sooner than it would come */
        uint64_t patience = (uint64_t)tcp->options.reconnect_max_ms * 1000u;
        bool fresh = link->ups == 0 && link->attempts == 0;
        delay += fresh && patience > FIRST_PATIENCE_US ? FIRST_PATIENCE_US : patience;
    }
    link->attempts++;
    link->dial_armed = ls__tcp_add(tcp, &link->dial_timer, delay);
}

static void link_up(struct ls__link *link)
{
    link->up = true;
    link->ups++;
    link->up_us = ls__tcp_now(link->tcp);
    link->troubled = false;
    link->trouble[0] = '\0';
    ls__tcp_remove(link->tcp, &link->dial_timer);
    link->dial_armed = false;
    ls__tcp_trace(link->tcp, LS_TRACE_INFO, "link to {p} is up", NULL, &link->peer,
                  link->lanes[LS_LANE_CONSENSUS]->remote);
    for (size_t lane = 0; lane < LS_LANES; lane++) {
        ls__connection_ping(link->lanes[lane]);
    }
    ls__bonds_offer(link);
}

/* Detaches and ends one connection of the link. */
static void connection_drop(struct ls__connection **at, const char *reason)
{
    struct ls__connection *connection = *at;
    *at = NULL;
    if (connection != NULL) {
        connection->link = NULL;
        ls__connection_kill(connection, LS_ERR_CLOSED, "%s", reason);
    }
}

void ls__link_down(struct ls__link *link, enum ls_status why, const char *reason)
{
    bool was_up = link->up;
    link->up = false;
    if (link->dialing != NULL && link->dialing->lane == LS_LANE_BULK) {
        connection_drop(&link->dialing, reason); /* a consensus connection may yet succeed */
    }
    for (size_t lane = 0; lane < LS_LANES; lane++) {
        struct ls__connection *connection = link->lanes[lane];
        if (connection != NULL && connection->heard_us > link->heard_us) {
            link->heard_us = connection->heard_us;
        }
        connection_drop(&link->lanes[lane], reason);
    }
    link->rtt_us = link->jitter_us = 0;
    if (was_up) {
        uint64_t lasted_us = ls__tcp_now(link->tcp) - link->up_us;
        if (lasted_us >= (uint64_t)link->tcp->options.reconnect_max_ms * 1000u) {
            link->attempts = 0; /* one that falls at once is not dialled at once again */
        }
        if (link->wanted > 0) {
            link->troubled = false;
            link_trouble(link, why, reason);
        }
    }
    ls__bonds_lower(link);
}

void ls__link_lost(struct ls__link *link, struct ls__connection *connection)
{
    char reason[sizeof connection->reason];
    (void)memcpy(reason, connection->reason, sizeof reason);
    bool attached =
        connection == link->lanes[LS_LANE_CONSENSUS] || connection == link->lanes[LS_LANE_BULK];
    bool bulk_dial = connection == link->dialing && connection->lane == LS_LANE_BULK;
    if (connection == link->dialing) {
        link->dialing = NULL;
    }
    if (attached || bulk_dial) {
        ls__link_down(link, connection->ended, reason);
    }
    if (!link->up) {
        link_trouble(link, connection->ended, reason);
    }
    ls__link_schedule(link);
}

/* A proven consensus connection becomes the link's, or yields to the one that is. */
static void consensus_opened(struct ls__link *link, struct ls__connection *connection)
{
    struct ls__connection *old = link->lanes[LS_LANE_CONSENSUS];
    if (connection == link->dialing) {
        link->dialing = NULL;
    }
    if (old != NULL && old->phase == LS__OPEN && old->dialer != connection->dialer &&
        connection->dialer != own_id_is_lower(link)) {
        connection->link = NULL;
        ls__connection_kill(connection, LS_ERR_CLOSED, "crossed a connection that stays");
        ls__connection_ping(old); /* in case it is one that the peer no longer has */
        return;
    }
    if (old != NULL) {
        ls__link_down(link, LS_ERR_CLOSED, "replaced by a newer connection");
        if (connection->phase == LS__DEAD) {
            return; /* the sink closed the transport */
        }
    }
    link->lanes[LS_LANE_CONSENSUS] = connection;
    connection->link = link;
    link->incarnation = connection->secrets->handshake.incarnation;
    (void)memcpy(link->session, connection->secrets->handshake.transcript, sizeof link->session);
    if (connection->dialer) {
        link_dial(link);
    }
}

void ls__link_opened(struct ls__connection *connection)
{
    struct ls__tcp *tcp = connection->tcp;
    struct ls__link *link = connection->link;
    if (connection->lane == LS_LANE_CONSENSUS) {
        link = link != NULL ? link : ls__link_get(tcp, &connection->secrets->handshake.peer);
        if (link == NULL) {
            ls__connection_kill(connection, LS_ERR_LIMIT, "no room for another link");
            return;
        }
        consensus_opened(link, connection);
    } else if (connection->dialer) {
        LS_ASSERT(link != NULL && connection == link->dialing);
        struct ls__control bind = {.kind = LS__CONTROL_BIND};
        (void)memcpy(bind.session, link->session, sizeof bind.session);
        link->dialing = NULL;
        link->lanes[LS_LANE_BULK] = connection;
        ls__connection_control(connection, &bind);
        link_up(link);
    }
}

void ls__link_bind(struct ls__connection *connection, const uint8_t session[32])
{
    struct ls__link *link = ls__link_find(connection->tcp, &connection->secrets->handshake.peer);
    struct ls__connection *consensus = link == NULL ? NULL : link->lanes[LS_LANE_CONSENSUS];
    if (connection->dialer || connection->lane != LS_LANE_BULK || consensus == NULL ||
        consensus->dialer || link->lanes[LS_LANE_BULK] != NULL || consensus->phase != LS__OPEN ||
        memcmp(link->session, session, 32) != 0) {
        ls__connection_kill(connection, LS_ERR_PROTOCOL, "%s: a lane of another session",
                            connection->remote);
        return;
    }
    link->lanes[LS_LANE_BULK] = connection;
    connection->link = link;
    link_up(link);
}
