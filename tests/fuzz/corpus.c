/* SPDX-License-Identifier: MIT */
/* Writes the seed inputs of all targets below the folder on the command line. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <lockstep/wire.h>

#include "record.h"
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

#define TEXT_OF_32 "abcdefghijklmnopqrstuvwxyz012345"

static const struct seed seeds[] = {
    SEED("codec", "numbers",
         "\x95\x7f\xcc\xff\xcd\xff\xff\xce\xff\xff\xff\xff\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
    SEED("codec", "bytes", "\x93\xc4\x03one\xc5\x00\x03two\xc6\x00\x00\x00\x05three"),
    SEED("codec", "arrays", "\x93\x91\x90\xdc\x00\x01\x01\xdd\x00\x00\x00\x01\x02"),
    SEED("codec", "deepest", "\x91\x91\x91\x91\x91\x91\x91\x90"),
    SEED("codec", "too_deep", "\x91\x91\x91\x91\x91\x91\x91\x91\x90"),
    SEED("codec", "announced", "\xdd\x10\x00\x00\x00"),
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
    /* odd: plaintext of a peer with the keys; even: bytes off the wire */
    SEED("stream", "records", "\x01\x03\0\0\0one\x05\0\0\0three\x01\0\0\0x"),
    SEED("stream", "part_of_a_record", "\x01\x02\0\0\0ab\xff\0\0\0only this"),
    SEED("stream", "announced_record", "\x01\0\0\x10\x01"),
    SEED("stream", "empty_record", "\x01\x01\0\0\0x\0\0\0\0"),
    SEED("stream", "announced_frame", "\x02\0\0\x04\0xxxxxxxxxxxxxxxxxxxx"),
    SEED("stream", "forged_frame", "\x02\x14\0\0\0xxxxxxxxxxxxxxxxxxxx"),
    /* the first byte is the size of a piece, from 0x80 on of a client without password */
    SEED("resp", "set", "\x02*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nv\r\nal\r\n"),
    SEED("resp", "pipeline", "\x06*1\r\n$4\r\nPING\r\nGET k\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"),
    SEED("resp", "inline", "\x01SET k \"a\\x41\\n\\\"\" 'b\\'c'\r\n\r\nPING\n"),
    SEED("resp", "empty_commands", "\x00*0\r\n*-1\r\n\r\n*1\r\n$0\r\n\r\n"),
    SEED("resp", "unauthenticated", "\x84*11\r\n$4\r\nAUTH\r\n"),
    SEED("resp", "unauthenticated_bulk", "\x84*2\r\n$4\r\nAUTH\r\n$16385\r\nx"),
    SEED("resp", "count_too_large", "\x03*2147483648\r\n"),
    SEED("resp", "bulk_too_large", "\x03*1\r\n$4097\r\n"),
    SEED("resp", "no_dollar", "\x03*1\r\n+4\r\n"),
    SEED("resp", "unbalanced", "\x03SET k \"a\r\n"),
    SEED("control", "message", "\x01\x00\x00\x00\x07payload"),
    SEED("control", "open",
         "\x02\x00\x00\x00\x07" TEXT_OF_32 "\x04main\x01"
         "a\x0d"
         "lockstep-kv/1"),
    SEED("control", "accept", "\x03\x00\x00\x00\x07"),
    SEED("control", "close", "\x04" TEXT_OF_32),
    SEED("control", "formed", "\x05\x00\x00\x00\x07" TEXT_OF_32),
    SEED("control", "ping", "\x07\x00\x00\x00\x00\x00\x00\x00\x07"),
    SEED("control", "bind", "\x09" TEXT_OF_32),
    /* bits that are changed on the way: none, of the magic, of the incarnation */
    SEED("handshake", "unchanged", "\x00"),
    SEED("handshake", "magic", "\x01"),
    SEED("handshake", "incarnation",
         "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
         "\x00\x00\x00\x00\x01"),
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

/* Stored things that are whole; for the fields in front of an input of frame_and_parse see record.c
 */
static void write_records(const char *folder)
{
    static const uint64_t group = 0x0123456789abcdef; /* that of record.c */
    uint8_t bytes[256] = {0};
    struct ls__chain chain = {group, 7};
    const struct ls_entry entry = {3, LS_ENTRY_COMMAND, {"set a 1", 7}};
    ls__record_frame(&chain, 42, &entry, bytes);
    (void)memcpy(bytes + LS__RECORD_HEADER_BYTES, entry.data.data, entry.data.bytes);
    write_seed(folder, "record", "record",
               (struct ls_span){bytes, LS__RECORD_HEADER_BYTES + entry.data.bytes});

    const struct ls_hard_state hard = {.term = 5, .voted = true, .vote = {{1, 2, 3}}};
    ls__hard_encode(group, &hard, bytes);
    write_seed(folder, "record", "hard_state", (struct ls_span){bytes, LS__HARD_BYTES});

    ls__put_u64(bytes + LS__CELL_HEADER_BYTES, 99);
    size_t count = ls__cell_seal(group, LS__CELL_COMMIT, bytes, 8);
    write_seed(folder, "record", "commit_hint", (struct ls_span){bytes, count});

    for (size_t i = 0; i < 48; i++) {
        bytes[i] = (uint8_t)(i * 37);
    }
    write_seed(folder, "record", "fields", (struct ls_span){bytes, 48});
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
    write_records(argv[1]);
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
