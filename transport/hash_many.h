/* SPDX-License-Identifier: MIT */
/*
 * Hashes of several messages at once, for ls_env.hash_many: one in each lane of the processor's
 * vectors. The result is that of ls_env.hash; only where the processor has wide vectors it is
 * faster.
 */
#ifndef LOCKSTEP_TRANSPORT_HASH_MANY_H
#define LOCKSTEP_TRANSPORT_HASH_MANY_H

#include <lockstep/env.h>

enum { LS__HASH_LANES = 4 };

/* `count` <= LS__HASH_LANES messages, each of them `head`, of at most 128 bytes, and a body. */
typedef void (*ls__hash_lanes)(struct ls_span head, const struct ls_span *bodies, size_t count,
                               uint8_t (*out)[32]);

/** Those that this processor can run, the fastest one first; returns how many there are. */
size_t ls__hash_lanes_list(ls__hash_lanes out[2]);

/** As ls_env.hash_many. Any thread. */
void ls__hash_many(void *self, struct ls_span head, const struct ls_span *bodies, size_t count,
                   uint8_t (*out)[32]);

#endif
