/* SPDX-License-Identifier: MIT */
/*
 * What the handshake may do with an identity's secrets; they never leave identity.c.
 */
#ifndef LOCKSTEP_TRANSPORT_SECRETS_H
#define LOCKSTEP_TRANSPORT_SECRETS_H

#include <lockstep/identity.h>

/** Ed25519 signature of `message`. */
void ls__identity_sign(const struct ls_identity *identity, struct ls_span message,
                       uint8_t signature[64]);

/** BLAKE2b-256 over the concatenation of `parts`, keyed with the network key. */
void ls__identity_keyed_hash(const struct ls_identity *identity, const struct ls_span *parts,
                             size_t count, uint8_t out[32]);

#endif
