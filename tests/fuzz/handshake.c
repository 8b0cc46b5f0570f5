/* SPDX-License-Identifier: MIT */
/*
 * A handshake with somebody in between, who changes bits of the dialer's hello and of its proof as
 * the input says: nobody passes but the dialer itself.
 */
#include "fuzz.h"

#include "handshake.h"

static uint64_t random_state;

/* Deterministic: an input must always mean the same. */
static void entropy(void *self, void *out, size_t bytes)
{
    uint8_t *at = out;
    (void)self;
    for (size_t i = 0; i < bytes; i++) {
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        at[i] = (uint8_t)(random_state >> 56);
    }
}

static struct ls_identity *identity(const char *name)
{
    static const uint8_t key[LS_KEY_BYTES] = {1, 2, 3};
    struct ls_identity *made = NULL;
    LS_ASSERT(ls_identity_founder(key, name, &made, NULL) == LS_OK);
    return made;
}

/* Flips in `target` what is set in the input from `at` on; true if that was anything. */
static bool flip(uint8_t *target, size_t bytes, struct ls_span input, size_t at)
{
    const uint8_t *data = input.data;
    bool changed = false;
    for (size_t i = 0; i < bytes && at + i < input.bytes; i++) {
        target[i] ^= data[at + i];
        changed = changed || data[at + i] != 0;
    }
    return changed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ls_identity *first, *second;
    static const struct ls_incarnation run = {{7}};
    const struct ls_span input = {data, size};
    struct ls_env env = *ls_env_default();
    struct ls__handshake dialer;
    struct ls__handshake acceptor;
    ls__stream push;
    ls__stream pull;
    uint8_t hello[LS__HELLO_BYTES];
    uint8_t proof[LS__PROOF_BYTES];

    if (first == NULL) {
        first = identity("a");
        second = identity("b");
    }
    env.entropy = entropy;
    random_state = 1;
    ls__handshake_begin(&dialer, &env, first, &run, true, LS_LANE_BULK);
    ls__handshake_begin(&acceptor, &env, second, &run, false, LS_LANE_CONSENSUS);
    (void)memcpy(hello, dialer.mine, sizeof hello);
    bool changed = flip(hello, sizeof hello, input, 0);
    if (ls__handshake_hello(&acceptor, hello) != NULL) {
        LS_ASSERT(changed);
        return 0;
    }
    if (ls__handshake_hello(&dialer, acceptor.mine) != NULL) {
        LS_ASSERT(changed); /* the lane that it is answered with was another */
        return 0;
    }
    ls__handshake_prove(&dialer, &push, proof);
    changed = flip(proof, sizeof proof, input, sizeof hello) || changed;
    LS_ASSERT((ls__handshake_verify(&acceptor, &pull, proof) != NULL) == changed);
    ls__handshake_wipe(&dialer);
    ls__handshake_wipe(&acceptor);
    return 0;
}
