/* SPDX-License-Identifier: MIT */
/*
 * The production env: the one place where Lockstep reads the clock, draws randomness and allocates.
 * Never fails after libsodium was initialised, and never traces.
 */
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <time.h>

#include <lockstep/env.h>

#include "codec.h"

static uint64_t now_us(void *self)
{
    (void)self;
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail on Linux */
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void entropy(void *self, void *out, size_t bytes)
{
    (void)self;
    randombytes_buf(out, bytes);
}

static void *allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, bytes);
}

static void hash(void *self, const struct ls_span *parts, size_t count, uint8_t out[32])
{
    (void)self;
    crypto_generichash_state state;
    (void)crypto_generichash_init(&state, NULL, 0, 32);
    for (size_t i = 0; i < count; i++) {
        if (parts[i].bytes > 0) {
            (void)crypto_generichash_update(&state, parts[i].data, parts[i].bytes);
        }
    }
    (void)crypto_generichash_final(&state, out, 32);
}

static const struct ls_env production = {
    .size = sizeof(struct ls_env),
    .now_us = now_us,
    .entropy = entropy,
    .allocate = allocate,
    .hash = hash,
    .codec = {.size = sizeof(struct ls_codec),
              .encode = ls__codec_encode,
              .decode = ls__codec_decode},
};

static pthread_once_t sodium_once = PTHREAD_ONCE_INIT;

/* Without a source of randomness there is no Lockstep: libsodium itself aborts when it is lost. */
static void sodium_prepare(void)
{
    LS_ASSERT(sodium_init() >= 0);
}

const struct ls_env *ls_env_default(void)
{
    (void)pthread_once(&sodium_once, sodium_prepare);
    return &production;
}
