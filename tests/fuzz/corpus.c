/* SPDX-License-Identifier: MIT */
/* Writes the seed inputs of the codec and wire targets below the folder on the command line. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <lockstep/wire.h>

#include "wire_sample.h"

struct seed {
    const char *target, *name;
    struct ls_span bytes;
};

#define SEED(target_name, seed_name, text)                                                         \
    {                                                                                              \
        target_name, seed_name,                                                                    \
        {                                                                                          \
            text, sizeof(text) - 1                                                                 \
        }                                                                                          \
    }

static const struct seed seeds[] = {
    SEED("codec", "numbers",
         "\x95\x7f\xcc\xff\xcd\xff\xff\xce\xff\xff\xff\xff\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
    SEED("codec", "bytes", "\x93\xc4\x03one\xc5\x00\x03two\xc6\x00\x00\x00\x05three"),
    SEED("codec", "arrays", "\x93\x91\x90\xdc\x00\x01\x01\xdd\x00\x00\x00\x01\x02"),
    SEED("codec", "deepest", "\x91\x91\x91\x91\x91\x91\x91\x90"),
    SEED("codec", "too_deep", "\x91\x91\x91\x91\x91\x91\x91\x91\x90"),
    SEED("codec", "announced", "\xdd\x10\x00\x00\x00"),
    SEED("codec", "trailing", "\x01\x01"),
    SEED("codec", "map", "\x81\x01\x02"),
    SEED("codec", "bool", "\x91\xc3"),
    SEED("codec", "range",
         "\x95\x02\x07\x93\x08\x09\x01\x92\xc4\x01"
         "a\xc4\x01"
         "b\xcd\x01\x00"),
    SEED("wire", "announced", "\xdd\x10\x00\x00\x00"),
    SEED("wire", "announced_entries", "\x99\x01\x01\x05\x09\x06\x07\x07\xc2\xdd\x10\x00\x00\x00"),
    SEED("wire", "wide_numbers",
         "\x94\xcc\x01\xcd\x00\x01\xce\x00\x00\x00\x0b\xcf\x00\x00\x00\x00"
         "\x00\x00\x00\x09"),
    SEED("wire", "version_2", "\x94\x02\x01\x0b\x09"),
    SEED("wire", "map", "\x81\x01\x02"),
    SEED("wire", "empty", ""),
};

static void *allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, bytes);
}

static void write_seed(const char *folder, const char *target, const char *name,
                       struct ls_span bytes)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", folder, target);
    (void)mkdir(path, 0777);
    (void)snprintf(path, sizeof path, "%s/%s/%s", folder, target, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes.data, 1, bytes.bytes, file) != bytes.bytes ||
        fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    const struct ls_env env = {.size = sizeof env, .allocate = allocate};
    struct ls_wire_buffer buffer = {.env = &env};
    if (argc != 2) {
        (void)fprintf(stderr, "usage: fuzz_corpus FOLDER\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        write_seed(argv[1], seeds[i].target, seeds[i].name, seeds[i].bytes);
    }
    for (size_t i = 0; i < WIRE_SAMPLES; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "sample_%02zu", i);
        if (ls_wire_encode(&wire_samples[i], &buffer) != LS_OK) {
            return 1;
        }
        write_seed(argv[1], "wire", name, (struct ls_span){buffer.data, buffer.bytes});
    }
    ls_wire_buffer_free(&buffer);
    return 0;
}
