/* SPDX-License-Identifier: MIT */
/*
 * Who is in a group, and how a quorum is counted. Written for joint configurations and learners
 * from the start; quorum sizes come from here only, never from who can be reached (P15).
 */
#ifndef LOCKSTEP_CONFIGURATION_H
#define LOCKSTEP_CONFIGURATION_H

#include <lockstep/env.h>

LS_EXTERN_C_BEGIN

struct ls_member {
    struct ls_peer_id id;
    struct ls_incarnation incarnation; /* the one whose promises count; zero: none recorded yet */
    enum ls_role_in_configuration role;
    bool outgoing_voter; /* while joint: a voter of the outgoing set */
    char name[LS_NAME_BYTES];
    char address[LS_ADDRESS_BYTES]; /* "host:port" or empty */
};

/** Members are kept in ascending order of id, so that equal configurations have equal bytes. */
struct ls_configuration {
    uint32_t count;
    bool joint; /* both the incoming voters (role) and the outgoing ones are needed (P5) */
    struct ls_member members[LS_MEMBERS_MAX];
};

/**
 * NULL, or why this cannot be a configuration: no voter, too many, ids not ascending or repeated,
 * names empty, repeated or with bytes outside [A-Za-z0-9._-], unterminated texts, unknown role.
 */
LS_API const char *ls_configuration_invalid(const struct ls_configuration *configuration);

/** The member with that id, borrowed from `configuration`, or NULL. O(log n). */
LS_API const struct ls_member *ls_configuration_find(const struct ls_configuration *configuration,
                                                     const struct ls_peer_id *id);

/** Sorts members by id. */
LS_API void ls_configuration_sort(struct ls_configuration *configuration);

/** Upper bound of an encoded configuration, bytes. */
#define LS_CONFIGURATION_BYTES_MAX                                                                 \
    (64u + LS_MEMBERS_MAX * (32u + 16u + LS_NAME_BYTES + LS_ADDRESS_BYTES + 32u))

/** errors  LS_ERR_LIMIT  more than `capacity` bytes */
LS_API LS_NODISCARD enum ls_status
ls_configuration_encode(const struct ls_codec *codec, const struct ls_configuration *configuration,
                        void *out, size_t capacity, size_t *written);

/** errors  LS_ERR_PROTOCOL  malformed, or ls_configuration_invalid() */
LS_API LS_NODISCARD enum ls_status ls_configuration_decode(const struct ls_codec *codec,
                                                           struct ls_span bytes,
                                                           struct ls_configuration *out);

LS_EXTERN_C_END

#endif
