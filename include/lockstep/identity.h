/* SPDX-License-Identifier: MIT */
/*
 * Who a node is: an Ed25519 key pair and the shared key of its network. Secrets live in sodium
 * memory.
 */
#ifndef LOCKSTEP_IDENTITY_H
#define LOCKSTEP_IDENTITY_H

#include <lockstep/types.h>

LS_EXTERN_C_BEGIN

struct ls_identity;

#define LS_KEY_BYTES 32

/** Writes 32 random bytes to a new file, mode 0600. errors LS_ERR_IO (exists, cannot write) with
 * text. */
LS_API LS_NODISCARD enum ls_status ls_key_generate(const char *path, struct ls_error *error);

/**
 * Reads a key file: exactly 32 bytes, else LS_ERR_INVALID with a text that says what was found. A
 * key whose bytes are all equal is refused. errors LS_ERR_IO, LS_ERR_INVALID
 */
LS_API LS_NODISCARD enum ls_status ls_key_read(const char *path, uint8_t key[LS_KEY_BYTES],
                                               struct ls_error *error);

/**
 * A founder's identity, derived from key and name (BLAKE2b keyed): every founder knows the others'
 * ids in advance, and whoever holds the key can act as any founder.
 *
 * identity  owned; release with ls_identity_close. The key is copied; the caller wipes its own.
 */
LS_API LS_NODISCARD enum ls_status ls_identity_founder(const uint8_t key[LS_KEY_BYTES],
                                                       const char *name,
                                                       struct ls_identity **identity,
                                                       struct ls_error *error);

/**
 * A random identity, kept in `path` (0600, made if missing).
 * errors LS_ERR_IO, LS_ERR_CORRUPT (file of another form)
 */
LS_API LS_NODISCARD enum ls_status ls_identity_file(const uint8_t key[LS_KEY_BYTES],
                                                    const char *path, struct ls_identity **identity,
                                                    struct ls_error *error);

LS_API void ls_identity_close(struct ls_identity *identity);
LS_API struct ls_peer_id ls_identity_id(const struct ls_identity *identity);
LS_API struct ls_network_id ls_identity_network(const struct ls_identity *identity);
/** The id that a founder called `name` has in this network. */
LS_API struct ls_peer_id ls_identity_founder_id(const struct ls_identity *identity,
                                                const char *name);
/** group id = BLAKE2b(network id, name, machine signature, sync signature), each length-prefixed.
 */
LS_API struct ls_group_id ls_identity_group_id(const struct ls_identity *identity, const char *name,
                                               struct ls_span machine_signature,
                                               struct ls_span sync_signature);

LS_EXTERN_C_END

#endif
