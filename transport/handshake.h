/* SPDX-License-Identifier: MIT */
/*
 * The mutual handshake of one connection, as a pure exchange of four fixed-size units:
 *
 *     dialer                                acceptor
 *     hello  ---------------------------->
 *            <----------------------------  hello
 *     proof  ---------------------------->            encrypted; the acceptor answers only if it
 *            <----------------------------  proof     holds
 *
 *     hello = magic[8] version_min[2] version_max[2] features[4] lane[1] zero[7]
 *             incarnation[16] nonce[32] ephemeral X25519 key[32] peer id[32]
 *     transcript = BLAKE2b(label, dialer's hello, acceptor's hello)
 *     master     = BLAKE2b keyed with the network key (label, X25519 secret, transcript)
 *     two stream keys, two proof keys = BLAKE2b keyed with master (label, role)
 *     proof = stream header[24], sealed(MAC(proof key, role, transcript)[32], Ed25519(role,
 *             transcript)[64])
 *
 * The key itself never travels. Fresh ephemeral keys and nonces on both sides make a replay
 * worthless; roles in MAC and signature make a reflection worthless. No socket is known here.
 */
#ifndef LOCKSTEP_TRANSPORT_HANDSHAKE_H
#define LOCKSTEP_TRANSPORT_HANDSHAKE_H

#include <sodium.h>

#include <lockstep/transport.h>

#define LS__PROTOCOL_VERSION_MIN 1u
#define LS__PROTOCOL_VERSION_MAX 1u
#define LS__FEATURES             0u /* none yet: both sides use what both offer */

#define LS__HELLO_BYTES     136u
#define LS__PROOF_TEXT      (32u + crypto_sign_BYTES)
#define LS__STREAM_OVERHEAD crypto_secretstream_xchacha20poly1305_ABYTES
#define LS__PROOF_BYTES                                                                            \
    (crypto_secretstream_xchacha20poly1305_HEADERBYTES + LS__PROOF_TEXT + LS__STREAM_OVERHEAD)

typedef crypto_secretstream_xchacha20poly1305_state ls__stream;

struct ls__handshake {
    const struct ls_identity *identity; /* borrowed */
    bool dialer;
    uint8_t mine[LS__HELLO_BYTES];
    uint8_t ephemeral[crypto_scalarmult_SCALARBYTES];
    uint8_t header[crypto_secretstream_xchacha20poly1305_HEADERBYTES]; /* of the own stream */
    /* known after the other hello, to be believed after its proof */
    struct ls_peer_id peer;
    struct ls_incarnation incarnation;
    enum ls_lane lane;
    uint32_t version, features;
    uint8_t transcript[32];
    uint8_t master[32];
};

/** Makes the own hello (`mine`). An acceptor takes the lane from the dialer's hello. */
void ls__handshake_begin(struct ls__handshake *handshake, const struct ls_env *env,
                         const struct ls_identity *identity,
                         const struct ls_incarnation *incarnation, bool dialer, enum ls_lane lane);

/** Takes the other side's hello; NULL, or why it is refused (static). */
const char *ls__handshake_hello(struct ls__handshake *handshake,
                                const uint8_t theirs[LS__HELLO_BYTES]);

/** Makes the own proof and the stream in which everything after it is sealed. */
void ls__handshake_prove(const struct ls__handshake *handshake, ls__stream *push,
                         uint8_t proof[LS__PROOF_BYTES]);

/** Checks the other side's proof and makes the stream that opens what follows; NULL, or why not. */
const char *ls__handshake_verify(const struct ls__handshake *handshake, ls__stream *pull,
                                 const uint8_t proof[LS__PROOF_BYTES]);

/** Wipes the secrets; the transcript stays. */
void ls__handshake_wipe(struct ls__handshake *handshake);

#endif
