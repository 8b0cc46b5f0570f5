/* SPDX-License-Identifier: MIT */
/* The machine contract over the key-value machine, in memory and on disk. */
#include "machine_suite.h"

#include <stdio.h>
#include <stdlib.h>

#include "kv_limits.h"
#include "kv_machine.h"

#define KEYS 23u

struct place {
    const char *directory; /* NULL: in memory */
    struct kv_machine machine;
    struct kv_buffer bytes;
};

static void make(void *self, struct ls_machine *out)
{
    struct place *place = self;
    struct kv_store store;
    if (place->directory != NULL) {
        assert_ok(kv_store_rocksdb_open(place->directory, &store));
    } else {
        assert_ok(kv_store_memory_open(&store));
    }
    kv_machine_init(&place->machine, &store);
    *out = kv_machine_port(&place->machine);
}

/* A line of words as RESP. */
static void resp(struct kv_buffer *out, const char *line)
{
    char text[256], words[4][64] = {{0}};
    int count = sscanf(line, "%63s %63s %63s %63s", words[0], words[1], words[2], words[3]);
    assert_true(count > 0);
    int used = snprintf(text, sizeof text, "*%d\r\n", count);
    kv_buffer_append(out, text, (size_t)used);
    for (int i = 0; i < count; i++) {
        used = snprintf(text, sizeof text, "$%zu\r\n%s\r\n", strlen(words[i]), words[i]);
        kv_buffer_append(out, text, (size_t)used);
    }
}

static void entry(struct kv_buffer *out, const char *line)
{
    struct kv_buffer input = {0};
    struct resp_parser parser;
    size_t consumed = 0;
    resp(&input, line);
    resp_parser_init(&parser, KV_VALUE_BYTES_MAX, KV_COMMAND_BYTES_MAX);
    assert_int_equal(resp_parse(&parser, kv_buffer_span(&input), &consumed), RESP_COMMAND);
    const struct kv_command *command = kv_command_find(parser.args[0]);
    assert_non_null(command);
    kv_entry_encode(out, command, parser.args, parser.argc);
    resp_parser_free(&parser);
    kv_buffer_free(&input);
}

static struct ls_span command(void *self, uint64_t number)
{
    static const char *const names[] = {"set", "append", "getset", "setnx", "mset"};
    struct place *place = self;
    char line[128];
    unsigned n = (unsigned)number, key = n * 7 % KEYS;
    if (n % 97 == 0) {
        (void)snprintf(line, sizeof line, "flushall");
    } else if (n % 5 == 1) {
        (void)snprintf(line, sizeof line, "incrby %c%u %u", n % 2 == 0 ? 'k' : 'n', key, n);
    } else if (n % 5 == 2) {
        (void)snprintf(line, sizeof line, "del k%u", key);
    } else if (n % 5 == 3) {
        (void)snprintf(line, sizeof line, "cas k%u v%u x%u", key, n - 1, n);
    } else {
        (void)snprintf(line, sizeof line, "%s k%u v%u", names[n % 3 + n % 2], key, n % 6);
    }
    kv_buffer_reset(&place->bytes, SIZE_MAX);
    entry(&place->bytes, line);
    return kv_buffer_span(&place->bytes);
}

static struct ls_span query(void *self, size_t number)
{
    struct place *place = self;
    char line[64] = "dbsize";
    if (number > 0) {
        (void)snprintf(line, sizeof line, "get %c%zu", number % 2 == 0 ? 'k' : 'n', number / 2);
    }
    kv_buffer_reset(&place->bytes, SIZE_MAX);
    resp(&place->bytes, line);
    return kv_buffer_span(&place->bytes);
}

static void place_close(void *self)
{
    struct place *place = self;
    kv_buffer_free(&place->bytes);
    free(place);
}

static void subject_open(struct machine_subject *out, const char *directory)
{
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    place->directory = directory;
    *out = (struct machine_subject){.self = place,
                                    .make = make,
                                    .command = command,
                                    .query = query,
                                    .queries = 1 + 2 * KEYS,
                                    .on_disk = directory != NULL,
                                    .close = place_close};
}

static void memory_open(struct machine_subject *out)
{
    subject_open(out, NULL);
}

static void rocksdb_open(struct machine_subject *out)
{
    subject_open(out, test_memory_directory());
}

#define RUN(test)                                                                                  \
    TEST(memory, test)                                                                             \
    {                                                                                              \
        machine_suite_##test(memory_open);                                                         \
    }                                                                                              \
    TEST(rocksdb, test)                                                                            \
    {                                                                                              \
        machine_suite_##test(rocksdb_open);                                                        \
    }
MACHINE_SUITE_TESTS(RUN)
