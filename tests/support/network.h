/* SPDX-License-Identifier: MIT */
/*
 * A few transport endpoints in one event base, with everything they reported kept in order, so that
 * a test reads as: open, bond, send, run until, compare.
 */
#ifndef LOCKSTEP_TEST_NETWORK_H
#define LOCKSTEP_TEST_NETWORK_H

#include <event2/event.h>

#include <lockstep/transport.h>

#include "test.h"

#define NETWORK_NODES_MAX 8

struct network_message {
    struct ls_group_id group;
    struct ls_peer_id from;
    enum ls_lane lane;
    size_t bytes;
    uint8_t *data;
};

struct network_notice {
    struct ls_bond_notice notice; /* its text points to `text` or is NULL */
    char text[LS_ERROR_TEXT_BYTES];
};

struct network;

struct network_node {
    struct network *network;
    bool open;
    struct ls_identity *identity;
    struct ls_peer_id id;
    struct ls_incarnation incarnation;
    struct ls_transport transport;
    char address[LS_ADDRESS_BYTES]; /* where it listens, or empty */
    char dial[LS_ADDRESS_BYTES];    /* where others dial it, if that is another place */
    bool deaf;                      /* does not listen although the backend does */
    bool count_only;                /* keep no bytes of messages */
    struct network_message *messages;
    size_t messages_count, messages_capacity;
    struct network_notice *notices;
    size_t notices_count, notices_capacity;
    void (*on_receive)(struct network_node *node, const struct network_message *message);
    const char *finds; /* what it says of each message: NULL, or why it breaks the protocol */
    void *arg;
};

/** How a backend makes an endpoint. */
struct network_backend {
    void *self;
    void (*endpoint)(void *self, const struct ls_identity *identity, struct ls_transport *out);
    bool listens; /* endpoints get a port and listen; else addresses are empty */
    void (*close)(void *self);
};

/** TCP endpoints with these options (identity filled in); borrowed until the network is closed. */
struct network_backend network_tcp(const struct ls_transport_tcp_options *options);

struct network {
    struct event_base *base;
    struct network_backend backend;
    uint8_t key[LS_KEY_BYTES];
    struct network_node nodes[NETWORK_NODES_MAX];
    size_t count;
};

/** `count` started nodes, ids in ascending order, listening if the backend does. */
void network_open(struct network *network, const struct network_backend *backend, size_t count);
/** (Re)starts one node with the given incarnation byte; records begin empty. */
void network_node_open(struct network *network, size_t node, uint8_t incarnation);
/** The node becomes one of another network: closed, with an identity of that key. */
void network_node_rekey(struct network *network, size_t node, uint8_t key_byte);
/** Closes the node's transport, and forgets what it recorded. */
void network_node_close(struct network *network, size_t node);
void network_close(struct network *network);

/** Runs the loop until the condition holds; fails the test after 10 s. */
void network_until(struct network *network, bool (*condition)(struct network *, void *), void *arg);
/** Runs the loop for that long: only to show that something does not happen. */
void network_run(struct network *network, uint32_t ms);

/** The group called `name` whose machine is `signature`. */
struct ls_group_id network_group(struct network *network, const char *name, const char *signature);
/** Node `from` opens the bond of group `name` with `to`, at its address. */
void network_bond(struct network *network, const char *name, size_t from, size_t to);
void network_bond_as(struct network *network, const char *name, const char *signature, size_t from,
                     size_t to);
/** Bonds both ways and waits until both sides are up. */
void network_bonded(struct network *network, const char *name, size_t a, size_t b);

/** How many notices of that kind the node has had (from anyone). */
size_t network_notices(const struct network_node *node, enum ls_bond_event event);
void network_until_notices(struct network *network, size_t node, enum ls_bond_event event,
                           size_t count);
void network_until_messages(struct network *network, size_t node, size_t count);
void network_forget(struct network *network, size_t node);

enum ls_status network_send(struct network *network, const char *name, size_t from, size_t to,
                            enum ls_lane lane, struct ls_span message);

#define TEXT_SPAN(text) ((struct ls_span){(text), sizeof(text) - 1})

#endif
