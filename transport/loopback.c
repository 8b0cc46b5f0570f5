/* SPDX-License-Identifier: MIT */
/*
 * The in-process transport: a hub whose endpoints reach each other by peer id, each on the thread
 * of its own event base. No links, keys or copies beyond one per message; what a bond means is the
 * same as over TCP.
 *
 * Everything is kept under the hub's lock: wanted bonds, whether they are up, and one inbox for
 * each endpoint. A bond carries what the hub decided (epoch, up) and what its owner was told; the
 * owner's event compares the two, so that a change of state never needs memory. Messages carry the
 * epoch of the bond they were sent on and die with it. Sinks are called with no lock held.
 */
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <lockstep/transport.h>

/* delivered in one callback before other events of the base have their turn */
#define DELIVER_MESSAGES_MAX 1024u
#define DELIVER_BYTES_MAX    (4u << 20)
/* before bonds come back that a malformed message cost; doubled each time, up to 2^5 */
#define AGAIN_MS           50u
#define AGAIN_EXPONENT_MAX 5u

struct parcel {
    struct parcel *next;
    struct ls_group_id group;
    struct ls_peer_id from;
    struct ls_peer_id other; /* of a FORMED notice */
    uint64_t epoch;
    bool formed; /* a notice, without bytes */
    size_t bytes;
    uint8_t data[];
};

struct inbox {
    struct parcel *first;
    struct parcel **last;
};

struct bond {
    struct bond *next;
    struct ls_bond_hello hello;
    struct ls_peer_id peer;
    bool up;
    uint64_t epoch;      /* of the last time it came up; 0: never */
    uint64_t lost;       /* messages of this epoch and earlier are lost */
    bool departed;       /* why it is not up */
    bool refused;        /* a REFUSED notice is owed */
    bool told_up;        /* what the owner knows */
    uint64_t told_epoch; /* of the last UP it was told */
    struct ls_incarnation incarnation;
    uint64_t heard_us;
    uint64_t bytes_in, bytes_out;
    uint32_t queued[LS_LANES]; /* sent by the owner and not yet delivered */
    uint32_t reconnects;
    uint32_t malformed; /* messages of the peer that broke the protocol */
    bool again;         /* the owner's timer brings it up again */
    char trouble[LS_ERROR_TEXT_BYTES];
};

struct endpoint {
    struct endpoint *next;
    struct ls_loopback *hub;
    struct ls_peer_id id;
    struct ls_incarnation incarnation;
    struct ls_transport_sink sink;
    struct event *event;
    struct event *again;
    int descriptor; /* readable while there is something to deliver */
    bool started;
    bool inside; /* a sink call is under way */
    bool closed; /* closed inside of one */
    struct bond *bonds;
    struct inbox inboxes[LS_LANES];
};

struct cut {
    struct cut *next;
    struct ls_peer_id from, to;
};

struct ls_loopback {
    const struct ls_env *env;
    pthread_mutex_t lock;
    struct endpoint *endpoints;
    struct cut *cuts;
    uint64_t epochs;
};

static void *hub_allocate(struct ls_loopback *hub, size_t bytes)
{
    void *block = hub->env->allocate(hub->env->self, NULL, bytes);
    if (block != NULL) {
        (void)memset(block, 0, bytes);
    }
    return block;
}

static void hub_free(struct ls_loopback *hub, void *block)
{
    if (block != NULL) {
        (void)hub->env->allocate(hub->env->self, block, 0);
    }
}

static void hub_lock(struct ls_loopback *hub)
{
    LS_ASSERT(pthread_mutex_lock(&hub->lock) == 0);
}

static void hub_unlock(struct ls_loopback *hub)
{
    LS_ASSERT(pthread_mutex_unlock(&hub->lock) == 0);
}

static void endpoint_wake(struct endpoint *endpoint)
{
    const uint64_t one = 1;
    ssize_t written = write(endpoint->descriptor, &one, sizeof one);
    LS_ASSERT(written == sizeof one || errno == EAGAIN); /* EAGAIN: it is awake enough */
}

static struct endpoint *hub_find(struct ls_loopback *hub, const struct ls_peer_id *id)
{
    for (struct endpoint *at = hub->endpoints; at != NULL; at = at->next) {
        if (ls_peer_id_equal(&at->id, id)) {
            return at;
        }
    }
    return NULL;
}

static struct bond *bond_find(struct endpoint *endpoint, const struct ls_group_id *group,
                              const struct ls_peer_id *peer)
{
    for (struct bond *at = endpoint->bonds; at != NULL; at = at->next) {
        if (ls_group_id_equal(&at->hello.group, group) && ls_peer_id_equal(&at->peer, peer)) {
            return at;
        }
    }
    return NULL;
}

static bool hub_is_cut(struct ls_loopback *hub, const struct ls_peer_id *a,
                       const struct ls_peer_id *b)
{
    for (struct cut *at = hub->cuts; at != NULL; at = at->next) {
        if ((ls_peer_id_equal(&at->from, a) && ls_peer_id_equal(&at->to, b)) ||
            (ls_peer_id_equal(&at->from, b) && ls_peer_id_equal(&at->to, a))) {
            return true;
        }
    }
    return false;
}

static void inbox_put(struct inbox *inbox, struct parcel *parcel)
{
    if (inbox->first == NULL) {
        inbox->last = &inbox->first;
    }
    parcel->next = NULL;
    *inbox->last = parcel;
    inbox->last = &parcel->next;
}

static struct parcel *inbox_take(struct inbox *inbox)
{
    struct parcel *parcel = inbox->first;
    if (parcel != NULL) {
        inbox->first = parcel->next;
    }
    return parcel;
}

/* Tells `to` that `from` formed a bond with `other`. Left out when memory is refused: bond_info
 * reads the mesh itself. */
static void formed_tell(struct endpoint *to, const struct bond *bond, const struct ls_peer_id *from,
                        const struct ls_peer_id *other)
{
    struct parcel *parcel = hub_allocate(to->hub, sizeof *parcel);
    if (parcel != NULL) {
        parcel->group = bond->hello.group;
        parcel->from = *from;
        parcel->other = *other;
        parcel->epoch = bond->epoch;
        parcel->formed = true;
        inbox_put(&to->inboxes[LS_LANE_CONSENSUS], parcel);
        endpoint_wake(to);
    }
}

/* `a` formed a bond with `b`: the others bonded to `a` learn of it, and `b` learns of them. */
static void formed_spread(struct endpoint *a, struct endpoint *b, const struct ls_group_id *group)
{
    struct bond *fresh = bond_find(b, group, &a->id);
    for (struct bond *at = a->bonds; at != NULL; at = at->next) {
        if (!at->up || !ls_group_id_equal(&at->hello.group, group) ||
            ls_peer_id_equal(&at->peer, &b->id)) {
            continue;
        }
        struct endpoint *third = hub_find(a->hub, &at->peer);
        LS_ASSERT(third != NULL); /* a bond that is up has two ends */
        formed_tell(third, at, &a->id, &b->id);
        formed_tell(b, fresh, &a->id, &at->peer);
    }
}

static void bond_raise(struct endpoint *owner, struct bond *bond, const struct endpoint *other,
                       uint64_t epoch)
{
    bond->reconnects += bond->epoch > 0 ? 1u : 0u;
    bond->up = true;
    bond->departed = false;
    bond->refused = false;
    bond->again = false;
    bond->epoch = epoch;
    bond->incarnation = other->incarnation;
    bond->heard_us = owner->hub->env->now_us(owner->hub->env->self);
    bond->trouble[0] = '\0';
    endpoint_wake(owner);
}

static void bond_lower(struct endpoint *owner, struct bond *bond, bool departed, const char *why)
{
    if (bond->up) {
        bond->up = false;
        bond->departed = departed;
        if (!departed) {
            bond->lost = bond->epoch; /* a graceful end lets what was sent before it arrive */
        }
        (void)snprintf(bond->trouble, sizeof bond->trouble, "%s", why);
        endpoint_wake(owner);
    }
}

/* `owner` met the same group name with another machine behind it. */
static void bond_refuse(struct endpoint *owner, struct bond *bond, const struct bond *theirs)
{
    if (!bond->up && !bond->refused) {
        bond->refused = true;
        (void)snprintf(bond->trouble, sizeof bond->trouble,
                       "the peer runs group %s with machine \"%.*s\", this member with \"%.*s\"",
                       bond->hello.name, (int)theirs->hello.signature_bytes,
                       (const char *)theirs->hello.signature, (int)bond->hello.signature_bytes,
                       (const char *)bond->hello.signature);
        endpoint_wake(owner);
    }
}

/* Brings the bond of `a` up if the other side wants it too and the path is whole. */
static void bond_match(struct endpoint *a, struct bond *mine)
{
    struct endpoint *b = hub_find(a->hub, &mine->peer);
    if (mine->up || b == NULL || !b->started || hub_is_cut(a->hub, &a->id, &b->id)) {
        return;
    }
    struct bond *theirs = bond_find(b, &mine->hello.group, &a->id);
    if (theirs != NULL) {
        LS_ASSERT(!theirs->up);
        uint64_t epoch = ++a->hub->epochs;
        bond_raise(a, mine, b, epoch);
        bond_raise(b, theirs, a, epoch);
        formed_spread(a, b, &mine->hello.group);
        formed_spread(b, a, &mine->hello.group);
        return;
    }
    for (theirs = b->bonds; theirs != NULL; theirs = theirs->next) {
        if (ls_peer_id_equal(&theirs->peer, &a->id) &&
            strcmp(theirs->hello.name, mine->hello.name) == 0) {
            bond_refuse(a, mine, theirs);
            bond_refuse(b, theirs, mine);
        }
    }
}

/* The peer of a bond that is ending sees it depart. */
static void bond_depart(struct endpoint *endpoint, struct bond *bond)
{
    struct endpoint *other = bond->up ? hub_find(endpoint->hub, &bond->peer) : NULL;
    if (other != NULL) {
        struct bond *theirs = bond_find(other, &bond->hello.group, &endpoint->id);
        LS_ASSERT(theirs != NULL && theirs->epoch == bond->epoch);
        bond_lower(other, theirs, true, "the peer departed");
    }
}

/* What the owner must be told next of its bonds' state; false: it knows all. `done`: messages that
 * came before an end have been delivered. */
static bool notice_next(struct endpoint *endpoint, struct bond *bond, bool done,
                        struct ls_bond_notice *notice, char *text)
{
    *notice = (struct ls_bond_notice){.group = bond->hello.group, .peer = bond->peer};
    if (bond->told_up && (bond->told_epoch != bond->epoch || (done && !bond->up))) {
        bond->told_up = false;
        notice->event = bond->departed ? LS_BOND_DEPARTED : LS_BOND_DOWN;
    } else if (bond->told_epoch != bond->epoch && (bond->up || !done)) {
        bond->told_up = true;
        bond->told_epoch = bond->epoch;
        notice->event = LS_BOND_UP;
        notice->incarnation = bond->incarnation;
    } else if (bond->refused && done) {
        bond->refused = false;
        notice->event = LS_BOND_REFUSED;
    } else {
        return false;
    }
    if (notice->event != LS_BOND_UP) {
        (void)snprintf(text, LS_ERROR_TEXT_BYTES, "%s", bond->trouble);
        notice->text = text;
    }
    (void)endpoint;
    return true;
}

static void sink_notice(struct endpoint *endpoint, const struct ls_bond_notice *notice)
{
    hub_unlock(endpoint->hub);
    endpoint->sink.bond(endpoint->sink.self, notice);
    hub_lock(endpoint->hub);
}

/* Both ends' bonds of a path follow its state: whole, or cut with the reason. */
static void path_update(struct endpoint *a, const struct endpoint *b, const char *cut)
{
    for (struct bond *bond = a->bonds; bond != NULL; bond = bond->next) {
        if (!ls_peer_id_equal(&bond->peer, &b->id)) {
            continue;
        }
        if (cut == NULL) {
            bond_match(a, bond);
        } else {
            bond_lower(a, bond, false, cut);
        }
    }
}

/* The sink found what no correct peer sends: there are no links here, so all bonds with the peer
 * fall, and the timer brings them back. */
static void path_malformed(struct endpoint *endpoint, const struct parcel *parcel,
                           const char *reason)
{
    struct bond *bond = bond_find(endpoint, &parcel->group, &parcel->from);
    struct endpoint *other = hub_find(endpoint->hub, &parcel->from);
    if (endpoint->closed || bond == NULL || bond->epoch != parcel->epoch || !bond->up) {
        return;
    }
    LS_ASSERT(other != NULL); /* a bond that is up has two ends */
    uint32_t exponent = bond->malformed < AGAIN_EXPONENT_MAX ? bond->malformed : AGAIN_EXPONENT_MAX;
    const struct timeval pause = {.tv_sec = (time_t)((AGAIN_MS << exponent) / 1000u),
                                  .tv_usec = (suseconds_t)((AGAIN_MS << exponent) % 1000u * 1000u)};
    bond->malformed++;
    for (struct bond *at = endpoint->bonds; at != NULL; at = at->next) {
        at->again = at->again || (at->up && ls_peer_id_equal(&at->peer, &parcel->from));
    }
    path_update(endpoint, other, reason);
    path_update(other, endpoint, "the peer met a malformed message");
    (void)event_add(endpoint->again, &pause);
}

static void on_again(evutil_socket_t descriptor, short what, void *arg)
{
    (void)descriptor;
    (void)what;
    struct endpoint *endpoint = arg;
    hub_lock(endpoint->hub);
    for (struct bond *bond = endpoint->bonds; bond != NULL; bond = bond->next) {
        if (bond->again) {
            bond->again = false;
            bond_match(endpoint, bond);
        }
    }
    hub_unlock(endpoint->hub);
}

static void parcel_trace(const struct endpoint *endpoint, const struct parcel *parcel,
                         const char *reason)
{
    const struct ls_env *env = endpoint->hub->env;
    if (env->trace != NULL) {
        const struct ls_trace trace = {.level = LS_TRACE_WARN,
                                       .room = "transport",
                                       .format = "no link to {p}",
                                       .group = &parcel->group,
                                       .peer = &parcel->from,
                                       .detail = reason};
        env->trace(env->self, &trace);
    }
}

/* Hands one parcel over, with the notices that its epoch is ahead of. Called and left with the lock
 * held. */
static void parcel_deliver(struct endpoint *endpoint, struct parcel *parcel, enum ls_lane lane)
{
    char text[LS_ERROR_TEXT_BYTES];
    struct ls_bond_notice notice;
    struct bond *bond = bond_find(endpoint, &parcel->group, &parcel->from);
    while (bond != NULL && parcel->epoch == bond->epoch && parcel->epoch > bond->told_epoch &&
           notice_next(endpoint, bond, false, &notice, text)) {
        sink_notice(endpoint, &notice);
        bond = endpoint->closed ? NULL : bond_find(endpoint, &parcel->group, &parcel->from);
    }
    if (bond == NULL || !bond->told_up || parcel->epoch != bond->told_epoch ||
        parcel->epoch <= bond->lost) {
        return;
    }
    if (parcel->formed) {
        notice = (struct ls_bond_notice){.event = LS_BOND_FORMED,
                                         .group = parcel->group,
                                         .peer = parcel->from,
                                         .other = parcel->other};
        sink_notice(endpoint, &notice);
        return;
    }
    bond->bytes_in += parcel->bytes;
    bond->heard_us = endpoint->hub->env->now_us(endpoint->hub->env->self);
    hub_unlock(endpoint->hub);
    const char *reason =
        endpoint->sink.receive(endpoint->sink.self, &parcel->group, &parcel->from, lane,
                               (struct ls_span){parcel->data, parcel->bytes});
    if (reason != NULL) {
        parcel_trace(endpoint, parcel, reason);
    }
    hub_lock(endpoint->hub);
    if (reason != NULL) {
        path_malformed(endpoint, parcel, reason);
    }
}

/* The sender may queue more. */
static void parcel_account(struct endpoint *endpoint, const struct parcel *parcel,
                           enum ls_lane lane)
{
    struct endpoint *from = parcel->formed ? NULL : hub_find(endpoint->hub, &parcel->from);
    struct bond *bond = from == NULL ? NULL : bond_find(from, &parcel->group, &endpoint->id);
    if (bond != NULL) {
        uint32_t bytes = (uint32_t)parcel->bytes;
        bond->queued[lane] -= bond->queued[lane] < bytes ? bond->queued[lane] : bytes;
    }
}

static void notices_deliver(struct endpoint *endpoint)
{
    char text[LS_ERROR_TEXT_BYTES];
    struct ls_bond_notice notice;
    struct bond *bond = endpoint->bonds;
    while (bond != NULL && !endpoint->closed) {
        if (notice_next(endpoint, bond, true, &notice, text)) {
            sink_notice(endpoint, &notice);
            bond = endpoint->bonds; /* the sink may have changed the list */
        } else {
            bond = bond->next;
        }
    }
}

/* Removes the endpoint and all it holds; the lock is held and released. */
static void endpoint_free(struct endpoint *endpoint)
{
    struct ls_loopback *hub = endpoint->hub;
    hub_unlock(hub);
    for (size_t lane = 0; lane < LS_LANES; lane++) {
        for (struct parcel *parcel = NULL;
             (parcel = inbox_take(&endpoint->inboxes[lane])) != NULL;) {
            hub_free(hub, parcel);
        }
    }
    while (endpoint->bonds != NULL) {
        struct bond *bond = endpoint->bonds;
        endpoint->bonds = bond->next;
        hub_free(hub, bond);
    }
    if (endpoint->event != NULL) {
        event_free(endpoint->event);
        event_free(endpoint->again);
    }
    (void)close(endpoint->descriptor);
    hub_free(hub, endpoint);
}

static void deliver(evutil_socket_t descriptor, short what, void *arg)
{
    (void)what;
    struct endpoint *endpoint = arg;
    uint64_t count = 0;
    (void)!read(descriptor, &count, sizeof count);
    hub_lock(endpoint->hub);
    endpoint->inside = true;
    size_t messages = 0, bytes = 0;
    while (!endpoint->closed && messages < DELIVER_MESSAGES_MAX && bytes < DELIVER_BYTES_MAX) {
        enum ls_lane lane = LS_LANE_CONSENSUS;
        struct parcel *parcel = inbox_take(&endpoint->inboxes[lane]);
        if (parcel == NULL) {
            lane = LS_LANE_BULK;
            parcel = inbox_take(&endpoint->inboxes[lane]);
        }
        if (parcel == NULL) {
            break;
        }
        messages++;
        bytes += parcel->bytes;
        parcel_account(endpoint, parcel, lane);
        parcel_deliver(endpoint, parcel, lane);
        hub_free(endpoint->hub, parcel);
    }
    bool left = endpoint->inboxes[LS_LANE_CONSENSUS].first != NULL ||
                endpoint->inboxes[LS_LANE_BULK].first != NULL;
    if (left && !endpoint->closed) {
        endpoint_wake(endpoint); /* the rest, and then the ends of bonds */
    } else {
        notices_deliver(endpoint);
    }
    endpoint->inside = false;
    if (endpoint->closed) {
        endpoint_free(endpoint);
    } else {
        hub_unlock(endpoint->hub);
    }
}

static enum ls_status loopback_start(void *self, struct event_base *base,
                                     const struct ls_incarnation *incarnation,
                                     const struct ls_transport_sink *sink, struct ls_error *error)
{
    struct endpoint *endpoint = self;
    LS_ASSERT(!endpoint->started);
    struct event *event =
        event_new(base, endpoint->descriptor, EV_READ | EV_PERSIST, deliver, endpoint);
    struct event *again = event_new(base, -1, 0, on_again, endpoint);
    if (event == NULL || again == NULL || event_add(event, NULL) != 0) {
        if (event != NULL) {
            event_free(event);
        }
        if (again != NULL) {
            event_free(again);
        }
        return ls_error_set(error, LS_ERR_NO_MEMORY, "loopback: no event");
    }
    hub_lock(endpoint->hub);
    endpoint->event = event;
    endpoint->again = again;
    endpoint->incarnation = *incarnation;
    endpoint->sink = *sink;
    endpoint->started = true;
    hub_unlock(endpoint->hub);
    return LS_OK;
}

/* Nobody dials here: every endpoint of the hub can be reached. */
static enum ls_status loopback_listen(void *self, const char *address, struct ls_error *error)
{
    (void)self;
    (void)address;
    (void)error;
    return LS_OK;
}

static enum ls_status loopback_bond_open(void *self, const struct ls_bond_hello *hello,
                                         const struct ls_peer_id *peer, const char *address,
                                         struct ls_error *error)
{
    struct endpoint *endpoint = self;
    (void)address;
    LS_ASSERT(endpoint->started);
    if (ls_peer_id_equal(peer, &endpoint->id)) {
        return ls_error_set(error, LS_ERR_INVALID, "bond: the peer is this node itself");
    }
    hub_lock(endpoint->hub);
    enum ls_status status = LS_OK;
    struct bond *bond = bond_find(endpoint, &hello->group, peer);
    if (bond == NULL) {
        bond = hub_allocate(endpoint->hub, sizeof *bond);
        if (bond == NULL) {
            status = ls_error_set(error, LS_ERR_NO_MEMORY, "bond: out of memory");
        } else {
            bond->hello = *hello;
            bond->peer = *peer;
            bond->next = endpoint->bonds;
            endpoint->bonds = bond;
            bond_match(endpoint, bond);
        }
    }
    hub_unlock(endpoint->hub);
    return status;
}

static void loopback_bond_close(void *self, const struct ls_group_id *group,
                                const struct ls_peer_id *peer)
{
    struct endpoint *endpoint = self;
    hub_lock(endpoint->hub);
    for (struct bond **at = &endpoint->bonds; *at != NULL; at = &(*at)->next) {
        struct bond *bond = *at;
        if (ls_group_id_equal(&bond->hello.group, group) && ls_peer_id_equal(&bond->peer, peer)) {
            *at = bond->next;
            bond_depart(endpoint, bond);
            hub_free(endpoint->hub, bond);
            break;
        }
    }
    hub_unlock(endpoint->hub);
}

static enum ls_status queue_message(struct endpoint *endpoint, struct bond *bond, enum ls_lane lane,
                                    struct ls_span message)
{
    if (bond->queued[lane] + message.bytes > LS_SEND_QUEUE_BYTES_MAX) {
        return LS_ERR_BUSY;
    }
    struct ls_loopback *hub = endpoint->hub;
    struct parcel *parcel =
        hub->env->allocate(hub->env->self, NULL, sizeof *parcel + message.bytes);
    if (parcel == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    *parcel = (struct parcel){.group = bond->hello.group,
                              .from = endpoint->id,
                              .epoch = bond->epoch,
                              .bytes = message.bytes};
    if (message.bytes > 0) {
        (void)memcpy(parcel->data, message.data, message.bytes);
    }
    struct endpoint *to = hub_find(hub, &bond->peer);
    LS_ASSERT(to != NULL); /* a bond that is up has two ends */
    bool idle = to->inboxes[lane].first == NULL;
    inbox_put(&to->inboxes[lane], parcel);
    if (idle) {
        endpoint_wake(to);
    }
    bond->queued[lane] += (uint32_t)message.bytes;
    bond->bytes_out += message.bytes;
    return LS_OK;
}

static enum ls_status loopback_send(void *self, const struct ls_group_id *group,
                                    const struct ls_peer_id *peer, enum ls_lane lane,
                                    struct ls_span message)
{
    struct endpoint *endpoint = self;
    LS_ASSERT(lane == LS_LANE_CONSENSUS || lane == LS_LANE_BULK);
    if (message.bytes > LS_MESSAGE_BYTES_MAX) {
        return LS_ERR_LIMIT;
    }
    hub_lock(endpoint->hub);
    struct bond *bond = bond_find(endpoint, group, peer);
    enum ls_status status = LS_ERR_UNREACHABLE;
    if (bond != NULL && bond->up) {
        status = queue_message(endpoint, bond, lane, message);
    }
    hub_unlock(endpoint->hub);
    return status;
}

/* What is sent is queued at its receiver already. */
static void loopback_flush(void *self)
{
    (void)self;
}

static enum ls_status loopback_bond_info(void *self, const struct ls_group_id *group,
                                         const struct ls_peer_id *peer, struct ls_bond_info *out)
{
    struct endpoint *endpoint = self;
    hub_lock(endpoint->hub);
    struct bond *bond = bond_find(endpoint, group, peer);
    enum ls_status status = bond == NULL ? LS_ERR_NOT_FOUND : LS_OK;
    if (bond != NULL) {
        *out = (struct ls_bond_info){.peer = bond->peer,
                                     .address = "loopback",
                                     .up = bond->up,
                                     .incarnation = bond->incarnation,
                                     .heard_us = bond->heard_us,
                                     .bytes_in = bond->bytes_in,
                                     .bytes_out = bond->bytes_out,
                                     .queued_bytes = bond->queued[0] + bond->queued[1],
                                     .reconnects = bond->reconnects,
                                     .malformed = bond->malformed,
                                     .why = bond->up      ? LS_OK
                                            : bond->again ? LS_ERR_PROTOCOL
                                                          : LS_ERR_UNREACHABLE};
        (void)memcpy(out->trouble, bond->trouble, sizeof out->trouble);
        struct endpoint *other = bond->up ? hub_find(endpoint->hub, &bond->peer) : NULL;
        struct bond *theirs = other == NULL ? NULL : bond_find(other, group, &endpoint->id);
        if (theirs != NULL) {
            (void)memcpy(out->name, theirs->hello.member, sizeof out->name);
        }
        for (struct bond *at = other == NULL ? NULL : other->bonds; at != NULL; at = at->next) {
            if (at->up && ls_group_id_equal(&at->hello.group, group) &&
                out->bonds_count < LS_MEMBERS_MAX) {
                out->bonds[out->bonds_count++] = at->peer;
            }
        }
    }
    hub_unlock(endpoint->hub);
    return status;
}

static void loopback_close(void *self)
{
    struct endpoint *endpoint = self;
    hub_lock(endpoint->hub);
    for (struct bond *bond = endpoint->bonds; bond != NULL; bond = bond->next) {
        bond_depart(endpoint, bond);
        bond->up = false;
    }
    struct endpoint **at = &endpoint->hub->endpoints;
    while (*at != endpoint) {
        at = &(*at)->next;
    }
    *at = endpoint->next;
    endpoint->closed = true;
    if (endpoint->inside) {
        hub_unlock(endpoint->hub); /* `deliver` frees it */
    } else {
        endpoint_free(endpoint);
    }
}

enum ls_status ls_loopback_open(const struct ls_env *env, struct ls_loopback **hub)
{
    *hub = NULL;
    env = env == NULL ? ls_env_default() : env;
    struct ls_loopback *made = env->allocate(env->self, NULL, sizeof *made);
    if (made == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    *made = (struct ls_loopback){.env = env};
    LS_ASSERT(pthread_mutex_init(&made->lock, NULL) == 0);
    *hub = made;
    return LS_OK;
}

void ls_loopback_close(struct ls_loopback *hub)
{
    if (hub == NULL) {
        return;
    }
    LS_ASSERT(hub->endpoints == NULL);
    while (hub->cuts != NULL) {
        struct cut *cut = hub->cuts;
        hub->cuts = cut->next;
        hub_free(hub, cut);
    }
    (void)pthread_mutex_destroy(&hub->lock);
    hub_free(hub, hub);
}

enum ls_status ls_loopback_endpoint(struct ls_loopback *hub, const struct ls_identity *identity,
                                    struct ls_transport *out, struct ls_error *error)
{
    struct endpoint *endpoint = hub_allocate(hub, sizeof *endpoint);
    if (endpoint == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "loopback: out of memory");
    }
    endpoint->hub = hub;
    endpoint->id = ls_identity_id(identity);
    endpoint->descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (endpoint->descriptor < 0) {
        int reason = errno;
        hub_free(hub, endpoint);
        return ls_error_set(error, LS_ERR_IO, "loopback: eventfd: %s", strerror(reason));
    }
    hub_lock(hub);
    bool taken = hub_find(hub, &endpoint->id) != NULL;
    if (!taken) {
        endpoint->next = hub->endpoints;
        hub->endpoints = endpoint;
    }
    hub_unlock(hub);
    if (taken) {
        (void)close(endpoint->descriptor);
        hub_free(hub, endpoint);
        return ls_error_set(error, LS_ERR_INVALID, "loopback: this identity has an endpoint");
    }
    *out = (struct ls_transport){.size = sizeof *out,
                                 .self = endpoint,
                                 .start = loopback_start,
                                 .listen = loopback_listen,
                                 .bond_open = loopback_bond_open,
                                 .bond_close = loopback_bond_close,
                                 .send = loopback_send,
                                 .flush = loopback_flush,
                                 .bond_info = loopback_bond_info,
                                 .close = loopback_close};
    return LS_OK;
}

static void cut_add(struct ls_loopback *hub, const struct ls_peer_id *from,
                    const struct ls_peer_id *to)
{
    for (struct cut *at = hub->cuts; at != NULL; at = at->next) {
        if (ls_peer_id_equal(&at->from, from) && ls_peer_id_equal(&at->to, to)) {
            return;
        }
    }
    struct cut *cut = hub_allocate(hub, sizeof *cut);
    if (cut != NULL) {
        cut->from = *from;
        cut->to = *to;
        cut->next = hub->cuts;
        hub->cuts = cut;
    }
}

static void cut_remove(struct ls_loopback *hub, const struct ls_peer_id *from,
                       const struct ls_peer_id *to)
{
    for (struct cut **at = &hub->cuts; *at != NULL; at = &(*at)->next) {
        struct cut *cut = *at;
        if (ls_peer_id_equal(&cut->from, from) && ls_peer_id_equal(&cut->to, to)) {
            *at = cut->next;
            hub_free(hub, cut);
            return;
        }
    }
}

void ls_loopback_cut(struct ls_loopback *hub, const struct ls_peer_id *from,
                     const struct ls_peer_id *to, bool cut)
{
    hub_lock(hub);
    if (cut) {
        cut_add(hub, from, to);
    } else {
        cut_remove(hub, from, to);
    }
    struct endpoint *a = hub_find(hub, from);
    struct endpoint *b = hub_find(hub, to);
    if (a != NULL && b != NULL) {
        const char *why = hub_is_cut(hub, from, to) ? "the path is cut" : NULL;
        path_update(a, b, why);
        path_update(b, a, why);
    }
    hub_unlock(hub);
}
