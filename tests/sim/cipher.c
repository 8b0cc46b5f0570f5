/* SPDX-License-Identifier: MIT */
/*
 * The mathematics of libsodium costs more than all the rest of a simulated message, and is not what
 * the simulator doubts. So in most runs some of its primitives are replaced with cheap ones that
 * keep what the code above relies on: two sides that know the same keys and transcript derive the
 * same stream, and a change of any byte is noticed. They hide nothing. The simulator builds the
 * sources of transport/ with cipher.h in front of them; the library itself knows nothing of this.
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

static _Thread_local bool stand_in;

void sim_cipher_stand_in(bool on)
{
    stand_in = on;
}

/* ---- secrets: without guard pages, each of which costs system calls; links come and go ---- */

void *sim_sodium_malloc(size_t bytes);
void sim_sodium_free(void *block);

void *sim_sodium_malloc(size_t bytes)
{
    max_align_t *head = malloc(sizeof *head + bytes);
    if (head == NULL) {
        return NULL;
    }
    (void)memcpy(head, &bytes, sizeof bytes);
    (void)memset(head + 1, 0xdb, bytes); /* as libsodium does: nobody may rely on zeros */
    return head + 1;
}

void sim_sodium_free(void *block)
{
    max_align_t *head = block == NULL ? NULL : (max_align_t *)block - 1;
    size_t bytes = 0;
    if (head != NULL) {
        (void)memcpy(&bytes, head, sizeof bytes);
        sodium_memzero(block, bytes);
    }
    free(head);
}

/* ---- primitives ---- */

static uint64_t mixed(uint64_t a, uint64_t b)
{
    uint64_t z = (a ^ b) * 0x9fb21c651e98df25u;
    z = (z ^ (z >> 32)) * 0xd6e8feb86659fd93u;
    return z ^ (z >> 29);
}

static uint64_t word_at(const uint8_t *bytes)
{
    uint64_t word;
    (void)memcpy(&word, bytes, sizeof word);
    return word;
}

static void expand(uint64_t seed, uint8_t *out, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 8) {
        seed = mixed(seed, i + 1);
        (void)memcpy(out + i, &seed, 8);
    }
}

typedef crypto_secretstream_xchacha20poly1305_state stream_state;

/* as declared to transport/, where cipher.h renames what sodium.h declares */
int sim_crypto_scalarmult_base(unsigned char *q, const unsigned char *n);
int sim_crypto_scalarmult(unsigned char *q, const unsigned char *n, const unsigned char *p);
int sim_crypto_sign_detached(unsigned char *sig, unsigned long long *bytes, const unsigned char *m,
                             unsigned long long count, const unsigned char *sk);
int sim_crypto_sign_verify_detached(const unsigned char *sig, const unsigned char *m,
                                    unsigned long long count, const unsigned char *pk);
int sim_crypto_secretstream_xchacha20poly1305_init_pull(stream_state *state,
                                                        const unsigned char *header,
                                                        const unsigned char *k);
int sim_crypto_secretstream_xchacha20poly1305_push(stream_state *state, unsigned char *c,
                                                   unsigned long long *bytes,
                                                   const unsigned char *m, unsigned long long count,
                                                   const unsigned char *ad,
                                                   unsigned long long ad_count, unsigned char tag);
int sim_crypto_secretstream_xchacha20poly1305_pull(stream_state *state, unsigned char *m,
                                                   unsigned long long *bytes, unsigned char *tag,
                                                   const unsigned char *c, unsigned long long count,
                                                   const unsigned char *ad,
                                                   unsigned long long ad_count);

/* A public key is the secret one turned around; what two share is made of both public keys. */
int sim_crypto_scalarmult_base(unsigned char *q, const unsigned char *n)
{
    if (!stand_in) {
        return crypto_scalarmult_base(q, n);
    }
    for (size_t i = 0; i < 32; i++) {
        q[i] = (unsigned char)~n[i];
    }
    return 0;
}

int sim_crypto_scalarmult(unsigned char *q, const unsigned char *n, const unsigned char *p)
{
    if (!stand_in) {
        return crypto_scalarmult(q, n, p);
    }
    unsigned char own[32];
    (void)sim_crypto_scalarmult_base(own, n);
    expand(sim_digest(3, own, 32) + sim_digest(3, p, 32), q, 32);
    return 0;
}

/* A secret key ends with its public one. */
int sim_crypto_sign_detached(unsigned char *sig, unsigned long long *bytes, const unsigned char *m,
                             unsigned long long count, const unsigned char *sk)
{
    if (!stand_in) {
        return crypto_sign_detached(sig, bytes, m, count, sk);
    }
    expand(sim_digest(sim_digest(5, sk + 32, 32), m, count), sig, 64);
    return 0;
}

int sim_crypto_sign_verify_detached(const unsigned char *sig, const unsigned char *m,
                                    unsigned long long count, const unsigned char *pk)
{
    if (!stand_in) {
        return crypto_sign_verify_detached(sig, m, count, pk);
    }
    uint8_t expected[64];
    expand(sim_digest(sim_digest(5, pk, 32), m, count), expected, 64);
    return memcmp(sig, expected, 64) == 0 ? 0 : -1;
}

int sim_crypto_secretstream_xchacha20poly1305_init_pull(stream_state *state,
                                                        const unsigned char *header,
                                                        const unsigned char *k)
{
    if (!stand_in) {
        return crypto_secretstream_xchacha20poly1305_init_pull(state, header, k);
    }
    (void)memset(state, 0, sizeof *state);
    expand(sim_digest(sim_digest(7, k, 32), header, 24), state->k, 8);
    return 0;
}

/* The state is one word that each frame moves on. */
static void seal(stream_state *state, const uint8_t *sealed, uint64_t count,
                 const struct ls_span *ad, uint8_t mac[16])
{
    uint64_t sum = sim_digest(sim_digest(word_at(state->k), ad->data, ad->bytes), sealed, count);
    expand(sum, mac, 16);
}

static void move_on(stream_state *state)
{
    uint64_t next = mixed(word_at(state->k), 11);
    (void)memcpy(state->k, &next, sizeof next);
}

int sim_crypto_secretstream_xchacha20poly1305_push(stream_state *state, unsigned char *c,
                                                   unsigned long long *bytes,
                                                   const unsigned char *m, unsigned long long count,
                                                   const unsigned char *ad,
                                                   unsigned long long ad_count, unsigned char tag)
{
    if (!stand_in) {
        return crypto_secretstream_xchacha20poly1305_push(state, c, bytes, m, count, ad, ad_count,
                                                          tag);
    }
    (void)memmove(c + 1, m, count);
    c[0] = tag;
    const struct ls_span more = {ad, ad_count};
    seal(state, c, count + 1, &more, c + 1 + count);
    move_on(state);
    return 0;
}

int sim_crypto_secretstream_xchacha20poly1305_pull(stream_state *state, unsigned char *m,
                                                   unsigned long long *bytes, unsigned char *tag,
                                                   const unsigned char *c, unsigned long long count,
                                                   const unsigned char *ad,
                                                   unsigned long long ad_count)
{
    if (!stand_in) {
        return crypto_secretstream_xchacha20poly1305_pull(state, m, bytes, tag, c, count, ad,
                                                          ad_count);
    }
    uint8_t mac[16];
    const struct ls_span more = {ad, ad_count};
    if (count < 17) {
        return -1;
    }
    seal(state, c, count - 16, &more, mac);
    if (memcmp(mac, c + count - 16, 16) != 0) {
        return -1;
    }
    *tag = c[0];
    (void)memmove(m, c + 1, count - 17);
    move_on(state);
    return 0;
}
