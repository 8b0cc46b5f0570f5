/* SPDX-License-Identifier: MIT */
/* The handshake's mathematics; see handshake.h for the protocol. */
#include "handshake.h"

#include <string.h>

#include "bytes.h"
#include "secrets.h"

#define MAGIC       "LOCKSTEP"
#define AT_VERSIONS 8u
#define AT_FEATURES 12u
#define AT_LANE     16u
#define AT_ZERO     17u
#define AT_RUN      24u /* incarnation */
#define AT_NONCE    40u
#define AT_KEY      72u
#define AT_PEER     104u

LS_STATIC_ASSERT(AT_PEER + 32u == LS__HELLO_BYTES, "the peer id is the last field");
LS_STATIC_ASSERT(crypto_scalarmult_BYTES == 32, "an ephemeral key is a field of 32 bytes");

enum role { ROLE_DIALER = 'D', ROLE_ACCEPTOR = 'A' };

static enum role role_of(const struct ls__handshake *handshake, bool mine)
{
    return handshake->dialer == mine ? ROLE_DIALER : ROLE_ACCEPTOR;
}

/* BLAKE2b-256 over parts; `key` of 32 bytes or NULL. */
static void hash(const uint8_t *key, const struct ls_span *parts, size_t count, uint8_t out[32])
{
    crypto_generichash_state state;
    (void)crypto_generichash_init(&state, key, key == NULL ? 0 : 32, 32);
    for (size_t i = 0; i < count; i++) {
        (void)crypto_generichash_update(&state, parts[i].data, parts[i].bytes);
    }
    (void)crypto_generichash_final(&state, out, 32);
    sodium_memzero(&state, sizeof state);
}

static void derive(const struct ls__handshake *handshake, const char *label, enum role role,
                   uint8_t out[32])
{
    const uint8_t byte = (uint8_t)role;
    const struct ls_span parts[] = {{label, strlen(label)}, {&byte, 1}};
    hash(handshake->master, parts, 2, out);
}

/* What a side of that role must show: the MAC, and what its signature covers. */
struct claim {
    uint8_t mac[32];
    uint8_t text[64];
    size_t text_bytes;
};

static void claim_make(const struct ls__handshake *handshake, enum role role, struct claim *claim)
{
    static const char label[] = "lockstep identity proof 1";
    uint8_t key[32];
    const uint8_t byte = (uint8_t)role;
    const struct ls_span parts[] = {{&byte, 1},
                                    {handshake->transcript, sizeof handshake->transcript}};
    derive(handshake, "proof key", role, key);
    hash(key, parts, 2, claim->mac);
    sodium_memzero(key, sizeof key);
    LS_STATIC_ASSERT(sizeof label + 1 + 32 <= sizeof claim->text, "the signed text fits");
    (void)memcpy(claim->text, label, sizeof label);
    claim->text[sizeof label] = byte;
    (void)memcpy(claim->text + sizeof label + 1, handshake->transcript, 32);
    claim->text_bytes = sizeof label + 1 + 32;
}

void ls__handshake_begin(struct ls__handshake *handshake, const struct ls_env *env,
                         const struct ls_identity *identity,
                         const struct ls_incarnation *incarnation, bool dialer, enum ls_lane lane)
{
    (void)memset(handshake, 0, sizeof *handshake);
    handshake->identity = identity;
    handshake->dialer = dialer;
    handshake->lane = lane;
    env->entropy(env->self, handshake->ephemeral, sizeof handshake->ephemeral);
    uint8_t *mine = handshake->mine;
    const struct ls_peer_id id = ls_identity_id(identity);
    (void)memcpy(mine, MAGIC, AT_VERSIONS);
    ls__put16(mine + AT_VERSIONS, LS__PROTOCOL_VERSION_MIN);
    ls__put16(mine + AT_VERSIONS + 2, LS__PROTOCOL_VERSION_MAX);
    ls__put32(mine + AT_FEATURES, LS__FEATURES);
    mine[AT_LANE] = (uint8_t)lane;
    (void)memcpy(mine + AT_RUN, incarnation->bytes, sizeof incarnation->bytes);
    env->entropy(env->self, mine + AT_NONCE, 32);
    env->entropy(env->self, handshake->header, sizeof handshake->header);
    (void)crypto_scalarmult_base(mine + AT_KEY, handshake->ephemeral);
    (void)memcpy(mine + AT_PEER, id.bytes, sizeof id.bytes);
}

/* NULL, or why these bytes are no hello. */
static const char *hello_invalid(const uint8_t hello[LS__HELLO_BYTES])
{
    if (memcmp(hello, MAGIC, AT_VERSIONS) != 0) {
        return "not the protocol of Lockstep";
    }
    if (ls__get16(hello + AT_VERSIONS) > ls__get16(hello + AT_VERSIONS + 2)) {
        return "empty range of protocol versions";
    }
    if (hello[AT_LANE] >= LS_LANES) {
        return "unknown lane";
    }
    for (size_t at = AT_ZERO; at < AT_RUN; at++) {
        if (hello[at] != 0) {
            return "reserved bytes are set";
        }
    }
    return NULL;
}

const char *ls__handshake_hello(struct ls__handshake *handshake,
                                const uint8_t theirs[LS__HELLO_BYTES])
{
    const char *reason = hello_invalid(theirs);
    if (reason != NULL) {
        return reason;
    }
    uint16_t low = ls__get16(theirs + AT_VERSIONS), high = ls__get16(theirs + AT_VERSIONS + 2);
    if (low > LS__PROTOCOL_VERSION_MAX || high < LS__PROTOCOL_VERSION_MIN) {
        return "no protocol version in common";
    }
    if (handshake->dialer && theirs[AT_LANE] != (uint8_t)handshake->lane) {
        return "another lane than the one dialled";
    }
    handshake->lane = (enum ls_lane)theirs[AT_LANE];
    handshake->mine[AT_LANE] = theirs[AT_LANE]; /* an acceptor answers with the dialer's lane */
    handshake->version = high < LS__PROTOCOL_VERSION_MAX ? high : LS__PROTOCOL_VERSION_MAX;
    handshake->features = ls__get32(theirs + AT_FEATURES) & LS__FEATURES;
    (void)memcpy(handshake->peer.bytes, theirs + AT_PEER, 32);
    (void)memcpy(handshake->incarnation.bytes, theirs + AT_RUN, 16);
    const struct ls_peer_id own = ls_identity_id(handshake->identity);
    if (ls_peer_id_equal(&handshake->peer, &own)) {
        return "the peer is this node itself";
    }
    static const char label[] = "lockstep handshake 1";
    const uint8_t *first = handshake->dialer ? handshake->mine : theirs;
    const uint8_t *second = handshake->dialer ? theirs : handshake->mine;
    const struct ls_span hellos[] = {
        {label, sizeof label}, {first, LS__HELLO_BYTES}, {second, LS__HELLO_BYTES}};
    hash(NULL, hellos, 3, handshake->transcript);
    uint8_t shared[crypto_scalarmult_BYTES];
    if (crypto_scalarmult(shared, handshake->ephemeral, theirs + AT_KEY) != 0) {
        return "a degenerate ephemeral key";
    }
    static const char master[] = "lockstep session 1";
    const struct ls_span parts[] = {{master, sizeof master},
                                    {shared, sizeof shared},
                                    {handshake->transcript, sizeof handshake->transcript}};
    ls__identity_keyed_hash(handshake->identity, parts, 3, handshake->master);
    sodium_memzero(shared, sizeof shared);
    sodium_memzero(handshake->ephemeral, sizeof handshake->ephemeral);
    return NULL;
}

void ls__handshake_prove(const struct ls__handshake *handshake, ls__stream *push,
                         uint8_t proof[LS__PROOF_BYTES])
{
    enum role role = role_of(handshake, true);
    struct claim claim;
    uint8_t text[LS__PROOF_TEXT], key[32];
    claim_make(handshake, role, &claim);
    (void)memcpy(text, claim.mac, sizeof claim.mac);
    ls__identity_sign(handshake->identity, (struct ls_span){claim.text, claim.text_bytes},
                      text + sizeof claim.mac);
    derive(handshake, "stream key", role, key);
    /* init_push would draw the header from libsodium itself, and entropy comes from the env only.
     * Apart from that the two are one: key and header make the state of both directions */
    (void)memcpy(proof, handshake->header, sizeof handshake->header);
    LS_ASSERT(crypto_secretstream_xchacha20poly1305_init_pull(push, handshake->header, key) == 0);
    (void)crypto_secretstream_xchacha20poly1305_push(
        push, proof + crypto_secretstream_xchacha20poly1305_HEADERBYTES, NULL, text, sizeof text,
        NULL, 0, crypto_secretstream_xchacha20poly1305_TAG_MESSAGE);
    sodium_memzero(key, sizeof key);
    sodium_memzero(&claim, sizeof claim);
}

const char *ls__handshake_verify(const struct ls__handshake *handshake, ls__stream *pull,
                                 const uint8_t proof[LS__PROOF_BYTES])
{
    enum role role = role_of(handshake, false);
    struct claim claim;
    uint8_t text[LS__PROOF_TEXT], key[32], tag = 0;
    derive(handshake, "stream key", role, key);
    int opened = crypto_secretstream_xchacha20poly1305_init_pull(pull, proof, key);
    sodium_memzero(key, sizeof key);
    if (opened == 0) {
        opened = crypto_secretstream_xchacha20poly1305_pull(
            pull, text, NULL, &tag, proof + crypto_secretstream_xchacha20poly1305_HEADERBYTES,
            LS__PROOF_TEXT + LS__STREAM_OVERHEAD, NULL, 0);
    }
    if (opened != 0) {
        return "the peer does not hold the network key";
    }
    claim_make(handshake, role, &claim);
    const char *reason = NULL;
    if (sodium_memcmp(text, claim.mac, sizeof claim.mac) != 0) {
        reason = "the peer does not hold the network key";
    } else if (crypto_sign_verify_detached(text + sizeof claim.mac, claim.text, claim.text_bytes,
                                           handshake->peer.bytes) != 0) {
        reason = "the peer does not hold the key pair of its id";
    }
    sodium_memzero(&claim, sizeof claim);
    return reason;
}

void ls__handshake_wipe(struct ls__handshake *handshake)
{
    sodium_memzero(handshake->ephemeral, sizeof handshake->ephemeral);
    sodium_memzero(handshake->master, sizeof handshake->master);
}
