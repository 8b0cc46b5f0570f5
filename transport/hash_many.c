/* SPDX-License-Identifier: MIT */
/* See hash_many.h. Where the processor has no wide vectors, messages are hashed one by one. */
#include "hash_many.h"

#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)

enum { BLOCK = 128 };

typedef uint64_t vector __attribute__((vector_size(32)));

/* RFC 7693, 2.6 and 2.7; no key, 32 bytes of hash */
#define PARAMETERS (0x01010000u ^ 32u)

static const uint64_t start[8] = {0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu,
                                  0xa54ff53a5f1d36f1u, 0x510e527fade682d1u, 0x9b05688c2b3e6c1fu,
                                  0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u};

static const uint8_t orders[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

#define SAME(value)        ((vector){(value), (value), (value), (value)})
#define RIGHT(value, bits) (((value) >> (bits)) | ((value) << (64 - (bits))))
#define MIX(a, b, c, d, x, y)                                                                      \
    do {                                                                                           \
        work[a] += work[b] + (x);                                                                  \
        work[d] = RIGHT(work[d] ^ work[a], 32);                                                    \
        work[c] += work[d];                                                                        \
        work[b] = RIGHT(work[b] ^ work[c], 24);                                                    \
        work[a] += work[b] + (y);                                                                  \
        work[d] = RIGHT(work[d] ^ work[a], 16);                                                    \
        work[c] += work[d];                                                                        \
        work[b] = RIGHT(work[b] ^ work[c], 63);                                                    \
    } while (0)

static uint64_t word(const uint8_t *in)
{
    uint64_t value; /* this processor is little endian, as the hash */
    (void)memcpy(&value, in, sizeof value);
    return value;
}

static void word_put(uint8_t *out, uint64_t value)
{
    (void)memcpy(out, &value, sizeof value);
}

/* The messages, block by block. A lane that is done, or has none, goes on with zeros. */
struct lanes_messages {
    struct ls_span head;
    struct ls_span bodies[LS__HASH_LANES];
    size_t count;
    uint64_t block;
    const uint8_t *at[LS__HASH_LANES];                   /* the present block */
    uint64_t done[LS__HASH_LANES], last[LS__HASH_LANES]; /* bytes with it; all ones: the last one */
    bool told[LS__HASH_LANES];
    uint8_t copies[LS__HASH_LANES][BLOCK];
};

static void messages_begin(struct lanes_messages *messages, struct ls_span head,
                           const struct ls_span *bodies, size_t count)
{
    LS_ASSERT(count <= LS__HASH_LANES && head.bytes <= BLOCK);
    (void)memset(messages, 0, sizeof *messages);
    messages->head = head;
    messages->count = count;
    for (size_t i = 0; i < count; i++) {
        messages->bodies[i] = bodies[i];
    }
}

/* A block that begins with the head, or ends after the body. */
static void block_copy(struct lanes_messages *messages, size_t lane, uint64_t from, uint64_t until)
{
    uint8_t *copy = messages->copies[lane];
    const struct ls_span body = messages->bodies[lane];
    const size_t head = messages->head.bytes;
    size_t filled = 0;
    (void)memset(copy, 0, BLOCK);
    if (from == 0 && head > 0) {
        (void)memcpy(copy, messages->head.data, head);
        filled = head;
    }
    if (until > from + filled) {
        const uint8_t *bytes = body.data;
        (void)memcpy(copy + filled, bytes + (from + filled - head), until - from - filled);
    }
    messages->at[lane] = copy;
}

/* False: all are done. */
static bool messages_next(struct lanes_messages *messages)
{
    bool more = false;
    const uint64_t from = messages->block++ * BLOCK;
    const size_t head = messages->head.bytes;
    for (size_t lane = 0; lane < LS__HASH_LANES; lane++) {
        const struct ls_span body = messages->bodies[lane];
        const uint64_t total = head + body.bytes;
        const uint64_t until = from + BLOCK < total ? from + BLOCK : total;
        if (lane >= messages->count || messages->last[lane] != 0) {
            (void)memset(messages->copies[lane], 0, BLOCK);
            messages->at[lane] = messages->copies[lane];
            continue;
        }
        more = true;
        if (from >= head && until - from == BLOCK) {
            messages->at[lane] = (const uint8_t *)body.data + (from - head);
        } else {
            block_copy(messages, lane, from, until);
        }
        messages->done[lane] = until;
        messages->last[lane] = until == total ? UINT64_MAX : 0;
    }
    return more;
}

#define HASH_LANES  lanes_512
#define HASH_TARGET __attribute__((target("avx512f,avx512vl")))
#include "hash_lanes.h"
#undef HASH_LANES
#undef HASH_TARGET

#define HASH_LANES  lanes_256
#define HASH_TARGET __attribute__((target("avx2")))
#include "hash_lanes.h"

size_t ls__hash_lanes_list(ls__hash_lanes out[2])
{
    size_t count = 0;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
        out[count++] = lanes_512;
    }
    if (__builtin_cpu_supports("avx2")) {
        out[count++] = lanes_256;
    }
    return count;
}

#else

size_t ls__hash_lanes_list(ls__hash_lanes out[2])
{
    (void)out;
    return 0;
}

#endif

void ls__hash_many(void *self, struct ls_span head, const struct ls_span *bodies, size_t count,
                   uint8_t (*out)[32])
{
    ls__hash_lanes lanes[2];
    size_t kinds = ls__hash_lanes_list(lanes);
    const struct ls_env *env = ls_env_default();
    while (count > 0) {
        size_t some = count < LS__HASH_LANES ? count : LS__HASH_LANES;
        if (kinds > 0 && some > 1) {
            lanes[0](head, bodies, some, out);
        } else {
            const struct ls_span parts[] = {head, bodies[0]};
            env->hash(self, parts, 2, out[0]);
            some = 1;
        }
        bodies += some;
        out += some;
        count -= some;
    }
}
