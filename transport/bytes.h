/* SPDX-License-Identifier: MIT */
/* Little-endian numbers in byte arrays. */
#ifndef LOCKSTEP_TRANSPORT_BYTES_H
#define LOCKSTEP_TRANSPORT_BYTES_H

#include <stdint.h>

static inline void ls__put16(uint8_t *out, uint16_t number)
{
    out[0] = (uint8_t)number;
    out[1] = (uint8_t)(number >> 8);
}

static inline void ls__put32(uint8_t *out, uint32_t number)
{
    ls__put16(out, (uint16_t)number);
    ls__put16(out + 2, (uint16_t)(number >> 16));
}

static inline void ls__put64(uint8_t *out, uint64_t number)
{
    ls__put32(out, (uint32_t)number);
    ls__put32(out + 4, (uint32_t)(number >> 32));
}

static inline uint16_t ls__get16(const uint8_t *in)
{
    return (uint16_t)(in[0] | (uint16_t)(in[1] << 8));
}

static inline uint32_t ls__get32(const uint8_t *in)
{
    return (uint32_t)ls__get16(in) | (uint32_t)ls__get16(in + 2) << 16;
}

static inline uint64_t ls__get64(const uint8_t *in)
{
    return (uint64_t)ls__get32(in) | (uint64_t)ls__get32(in + 4) << 32;
}

#endif
