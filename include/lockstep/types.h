/* SPDX-License-Identifier: MIT */
/*
 * The words of Lockstep, each with one meaning. (docs/architecture.md, "Words")
 */
#ifndef LOCKSTEP_TYPES_H
#define LOCKSTEP_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <lockstep/limits.h>
#include <lockstep/macros.h>
#include <lockstep/status.h>

typedef uint64_t ls_term;
typedef uint64_t ls_index; /* of the log, 1-based; nothing else is called index */

/** A position in the log. {0, 0} is the position before the first entry. */
struct ls_cursor {
    ls_term term;
    ls_index index;
};

/** Borrowed bytes. `data` may be NULL when `bytes` is 0. */
struct ls_span {
    const void *data;
    size_t bytes;
};

/** An Ed25519 public key: names a node for ever. All zero names nobody. */
struct ls_peer_id {
    uint8_t bytes[32];
};

/** BLAKE2b of the shared key: names the set of nodes that may link. */
struct ls_network_id {
    uint8_t bytes[32];
};

/** BLAKE2b(network id, group name, machine signature, sync signature). */
struct ls_group_id {
    uint8_t bytes[32];
};

/** Made with a data directory; a wiped directory is another incarnation of the same member. */
struct ls_incarnation {
    uint8_t bytes[16];
};

enum ls_role_in_configuration {
    LS_MEMBER_VOTER = 1,
    LS_MEMBER_LEARNER = 2,  /* replicated to, not counted, to be promoted */
    LS_MEMBER_OBSERVER = 3, /* replicated to, never counted, never promoted */
    LS_MEMBER_WITNESS = 4   /* votes and counts, keeps terms only */
};

enum ls_role {
    LS_ROLE_FOLLOWER = 1,
    LS_ROLE_PRE_CANDIDATE = 2,
    LS_ROLE_CANDIDATE = 3,
    LS_ROLE_LEADER = 4
};

enum ls_entry_kind {
    LS_ENTRY_COMMAND = 1,
    LS_ENTRY_NOOP = 2,
    LS_ENTRY_CONFIGURATION = 3, /* payload: ls_configuration_encode */
    LS_ENTRY_MARKER = 4         /* payload: the state sync that fed it; the machine never sees it */
};

/** An entry without its index, which its place in a range gives. */
struct ls_entry {
    ls_term term;
    enum ls_entry_kind kind;
    struct ls_span data;
};

/** Everything that must be durable before a message of a term leaves (P1). */
struct ls_hard_state {
    ls_term term;
    bool voted;
    struct ls_peer_id vote; /* all zero when !voted */
};

static inline bool ls_peer_id_equal(const struct ls_peer_id *a, const struct ls_peer_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static inline bool ls_peer_id_is_zero(const struct ls_peer_id *id)
{
    static const struct ls_peer_id zero = {{0}};
    return ls_peer_id_equal(id, &zero);
}

static inline bool ls_incarnation_equal(const struct ls_incarnation *a,
                                        const struct ls_incarnation *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static inline bool ls_group_id_equal(const struct ls_group_id *a, const struct ls_group_id *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/** The order in which elections compare logs: by term, then by index (Raft paper 5.4.1). <0, 0, >0.
 */
static inline int ls_cursor_compare(struct ls_cursor a, struct ls_cursor b)
{
    if (a.term != b.term) {
        return a.term < b.term ? -1 : 1;
    }
    return a.index == b.index ? 0 : (a.index < b.index ? -1 : 1);
}

#endif
