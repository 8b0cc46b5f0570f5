/* SPDX-License-Identifier: MIT */
/* How many entries per second the wire codec encodes and decodes, in appends of one size. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <lockstep/wire.h>

enum { ENTRIES = 256, ENTRY_BYTES = 128, MEASURE_US = 500000, ROUNDS_PER_LOOK = 64 };

static void *allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, bytes);
}

static uint64_t now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void report(const char *what, uint64_t entries, uint64_t us)
{
    printf("%s: %.1f M entries/s\n", what, (double)entries / (double)us);
}

int main(void)
{
    static uint8_t payload[ENTRY_BYTES];
    static struct ls_entry entries[ENTRIES];
    const struct ls_env env = {.size = sizeof env, .allocate = allocate};
    struct ls_wire_buffer buffer = {.env = &env};
    struct ls_wire_decoder *decoder = NULL;
    struct ls_wire_frame decoded;
    struct ls_wire_frame frame = {.kind = LS_WIRE_CORE,
                                  .as.core = {.kind = LS_MESSAGE_APPEND,
                                              .term = 1000,
                                              .as.append = {.prev = {1000, 5000000},
                                                            .commit = 5000000,
                                                            .entries = entries,
                                                            .count = ENTRIES}}};
    for (size_t i = 0; i < ENTRIES; i++) {
        entries[i] = (struct ls_entry){1000, LS_ENTRY_COMMAND, {payload, sizeof payload}};
    }
    if (ls_wire_decoder_open(&env, &decoder) != LS_OK || ls_wire_encode(&frame, &buffer) != LS_OK) {
        return 1;
    }

    uint64_t count = 0;
    uint64_t start = now_us();
    uint64_t us = 0;
    while (us < MEASURE_US) {
        for (int i = 0; i < ROUNDS_PER_LOOK; i++, count += ENTRIES) {
            if (ls_wire_encode(&frame, &buffer) != LS_OK) {
                return 1;
            }
        }
        us = now_us() - start;
    }
    report("wire encode, 256 x 128 B", count, us);

    count = 0;
    us = 0;
    start = now_us();
    while (us < MEASURE_US) {
        for (int i = 0; i < ROUNDS_PER_LOOK; i++, count += ENTRIES) {
            const struct ls_span bytes = {buffer.data, buffer.bytes};
            if (ls_wire_decode(decoder, bytes, &decoded, NULL) != LS_OK) {
                return 1;
            }
        }
        us = now_us() - start;
    }
    report("wire decode, 256 x 128 B", count, us);

    ls_wire_decoder_close(decoder);
    ls_wire_buffer_free(&buffer);
    return 0;
}
