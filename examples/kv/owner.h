/* SPDX-License-Identifier: MIT */
/* Whose a data directory is: member and network, in the file DIR/member. */
#ifndef KV_OWNER_H
#define KV_OWNER_H

#include <lockstep/identity.h>

/**
 * Notes in `directory` that it is that member's; a directory that is noted as another's is refused
 * and left alone. To be called by whoever holds the lock of the log in it.
 *
 * errors  LS_ERR_MISMATCH  another member's, or a group's with another key
 *         LS_ERR_CORRUPT   the note is not one of ours
 *         LS_ERR_IO
 */
LS_NODISCARD enum ls_status kv_owner_check(const char *directory, const char *member,
                                           const struct ls_identity *identity,
                                           struct ls_error *error);

#endif
