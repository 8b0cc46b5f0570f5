/* SPDX-License-Identifier: MIT */
/*
 * What travels in the records of an open connection: messages of bonds, and the few small fixed
 * forms by which two nodes agree on bonds. First byte: the kind.
 *
 *     MESSAGE  channel[4] bytes               channel: what the receiver named in its OPEN
 *     OPEN     channel[4] group[32] text(name) text(member) text(signature)    text = length[1]
 * bytes ACCEPT   channel[4]                     the OPEN with that channel was seen, and is wanted
 * here too CLOSE    group[32]                      the sender left the bond FORMED   channel[4]
 * peer[32]            the sender formed a bond of this group with that peer UNFORMED channel[4]
 * peer[32]            and lost it PING     stamp[8] PONG     stamp[8] BIND     session[32] first on
 * a bulk connection: the transcript of the consensus connection it belongs to
 */
#ifndef LOCKSTEP_TRANSPORT_CONTROL_H
#define LOCKSTEP_TRANSPORT_CONTROL_H

#include <lockstep/transport.h>

enum ls__control_kind {
    LS__CONTROL_MESSAGE = 1,
    LS__CONTROL_OPEN = 2,
    LS__CONTROL_ACCEPT = 3,
    LS__CONTROL_CLOSE = 4,
    LS__CONTROL_FORMED = 5,
    LS__CONTROL_UNFORMED = 6,
    LS__CONTROL_PING = 7,
    LS__CONTROL_PONG = 8,
    LS__CONTROL_BIND = 9
};

struct ls__control {
    enum ls__control_kind kind;
    uint32_t channel;
    uint64_t stamp;
    struct ls_peer_id peer;
    uint8_t session[32];
    struct ls_bond_hello hello; /* OPEN; CLOSE: its group only */
    struct ls_span message;     /* borrowed */
};

#define LS__MESSAGE_HEAD      5u
#define LS__CONTROL_BYTES_MAX (1u + 4u + 32u + 3u + 2u * LS_NAME_BYTES + LS_SIGNATURE_BYTES_MAX)

/** The head that precedes a message's bytes in its record. */
void ls__message_head(uint32_t channel, uint8_t head[LS__MESSAGE_HEAD]);

/** Encodes all kinds but MESSAGE; returns the bytes used. */
size_t ls__control_encode(const struct ls__control *control, uint8_t out[LS__CONTROL_BYTES_MAX]);

/** Decodes a record: NULL, or why a correct peer cannot have sent it (static). */
const char *ls__control_decode(struct ls_span record, struct ls__control *out);

/** NULL, or why this cannot be what a member says of itself: texts empty, unterminated, or with
 * control characters; a signature over its limit. */
const char *ls__bond_hello_invalid(const struct ls_bond_hello *hello);

#endif
