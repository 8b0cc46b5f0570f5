/* SPDX-License-Identifier: MIT */
/* The commands over both stores: the same script gives the same replies. */
#include <stdio.h>
#include <stdlib.h>

#include "kv_limits.h"
#include "kv_support.h"
#include "text.h"

/* Runs a script over a fresh machine of each kind. */
static void on_both(void (*script)(struct kv_bench *bench))
{
    struct kv_bench bench;
    bench_open_memory(&bench);
    script(&bench);
    bench_close(&bench);
    (void)bench_open_rocksdb(&bench, test_directory());
    script(&bench);
    bench_close(&bench);
}

static void strings(struct kv_bench *b)
{
    assert_reply(b, "GET k", "_\r\n");
    assert_reply(b, "SET k v", "+OK\r\n");
    assert_reply(b, "GET k", "$1\r\nv\r\n");
    assert_reply(b, "SETNX k w", ":0\r\n");
    assert_reply(b, "SETNX n w", ":1\r\n");
    assert_reply(b, "GETSET k x", "$1\r\nv\r\n");
    assert_reply(b, "GETSET new x", "_\r\n");
    assert_reply(b, "APPEND k yz", ":3\r\n");
    assert_reply(b, "APPEND fresh ab", ":2\r\n");
    assert_reply(b, "STRLEN k", ":3\r\n");
    assert_reply(b, "STRLEN none", ":0\r\n");
    assert_reply(b, "MGET k none n", "*3\r\n$3\r\nxyz\r\n_\r\n$1\r\nw\r\n");
    assert_reply(b, "EXISTS k k none", ":2\r\n");
    assert_reply(b, "DBSIZE", ":4\r\n");
    assert_reply(b, "DEL k k none n", ":2\r\n");
    assert_reply(b, "DBSIZE", ":2\r\n");
    assert_reply(b, "SET \"\" \"\"", "+OK\r\n");
    assert_reply(b, "GET \"\"", "$0\r\n\r\n");
}

TEST(commands, strings_behave_as_in_redis)
{
    on_both(strings);
}

static void set_options(struct kv_bench *b)
{
    assert_reply(b, "SET k a XX", "_\r\n");
    assert_reply(b, "SET k a XX GET", "_\r\n");
    assert_reply(b, "SET k a NX", "+OK\r\n");
    assert_reply(b, "SET k b nx", "_\r\n");
    assert_reply(b, "SET k b NX GET", "$1\r\na\r\n");
    assert_reply(b, "GET k", "$1\r\na\r\n");
    assert_reply(b, "SET k b XX GET", "$1\r\na\r\n");
    assert_reply(b, "SET other c NX GET", "_\r\n");
    assert_reply(b, "GET other", "$1\r\nc\r\n");
    assert_reply(b, "SET k c NX XX", "-ERR syntax error\r\n");
    assert_reply(b, "SET k c XX NX", "-ERR syntax error\r\n");
    assert_reply(b, "SET k c EX 10", "-ERR syntax error\r\n");
    assert_reply(b, "GET k", "$1\r\nb\r\n");
}

TEST(commands, set_takes_nx_xx_and_get)
{
    on_both(set_options);
}

static void integers(struct kv_bench *b)
{
    assert_reply(b, "INCR n", ":1\r\n");
    assert_reply(b, "INCRBY n 41", ":42\r\n");
    assert_reply(b, "DECR n", ":41\r\n");
    assert_reply(b, "DECRBY n 50", ":-9\r\n");
    assert_reply(b, "GET n", "$2\r\n-9\r\n");
    assert_reply(b, "INCRBY n x", "-ERR value is not an integer or out of range\r\n");
    assert_reply(b, "SET n 9223372036854775807", "+OK\r\n");
    assert_reply(b, "INCR n", "-ERR increment or decrement would overflow\r\n");
    assert_reply(b, "SET n -9223372036854775808", "+OK\r\n");
    assert_reply(b, "DECR n", "-ERR increment or decrement would overflow\r\n");
    assert_reply(b, "DECRBY n -9223372036854775808", "-ERR decrement would overflow\r\n");
    assert_reply(b, "SET n 12x", "+OK\r\n");
    assert_reply(b, "INCR n", "-ERR value is not an integer or out of range\r\n");
    assert_reply(b, "GET n", "$3\r\n12x\r\n");
}

TEST(commands, integers_behave_as_in_redis)
{
    on_both(integers);
}

static void several(struct kv_bench *b)
{
    assert_reply(b, "MSET a 1 b 2 a 3", "+OK\r\n");
    assert_reply(b, "MGET a b", "*2\r\n$1\r\n3\r\n$1\r\n2\r\n");
    assert_reply(b, "MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n");
    assert_reply(b, "DBSIZE", ":2\r\n");
    assert_reply(b, "CAS a 3 4", ":1\r\n");
    assert_reply(b, "CAS a 3 5", ":0\r\n");
    assert_reply(b, "CAS none 3 5", ":0\r\n");
    assert_reply(b, "GET a", "$1\r\n4\r\n");
    assert_reply(b, "FLUSHALL NOW", "-ERR syntax error\r\n");
    assert_reply(b, "FLUSHALL", "+OK\r\n");
    assert_reply(b, "DBSIZE", ":0\r\n");
    assert_reply(b, "GET a", "_\r\n");
    assert_reply(b, "SET a 1", "+OK\r\n");
    assert_reply(b, "FLUSHALL async", "+OK\r\n");
    assert_reply(b, "SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n");
}

TEST(commands, mset_cas_and_flushall)
{
    on_both(several);
}

static void append_limit(struct kv_bench *b)
{
    size_t half = KV_VALUE_BYTES_MAX / 2;
    char *line = malloc(half + 32);
    assert_non_null(line);
    int head = sprintf(line, "APPEND k ");
    (void)memset(line + head, 'x', half);
    line[(size_t)head + half] = '\0';
    /* an inline line is at most 64 KiB: as an array */
    struct kv_buffer input = {0};
    struct resp_out out = {&input, 2};
    resp_array(&out, 3);
    resp_text(&out, "APPEND");
    resp_text(&out, "k");
    resp_text(&out, line + head);
    kv_buffer_append(&input, "", 1);
    assert_string_equal(bench_run(b, input.data), ":524288\r\n");
    assert_string_equal(bench_run(b, input.data), ":1048576\r\n");
    assert_reply(b, "APPEND k x",
                 "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n");
    assert_reply(b, "STRLEN k", ":1048576\r\n");
    kv_buffer_free(&input);
    free(line);
}

TEST(commands, append_stops_at_the_largest_value)
{
    on_both(append_limit);
}

static void scan_errors(struct kv_bench *b)
{
    assert_reply(b, "SCAN x", "-ERR invalid cursor\r\n");
    assert_reply(b, "SCAN 0 COUNT 0", "-ERR syntax error\r\n");
    assert_reply(b, "SCAN 0 COUNT x", "-ERR value is not an integer or out of range\r\n");
    assert_reply(b, "SCAN 0 MATCH", "-ERR syntax error\r\n");
    assert_reply(b, "SCAN 0 WHAT x", "-ERR syntax error\r\n");
    assert_reply(b, "SCAN 9223372036854775807", "*2\r\n$1\r\n0\r\n*0\r\n");
    assert_reply(b, "SET a 1", "+OK\r\n");
    assert_reply(b, "SCAN 0 TYPE string", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n");
    assert_reply(b, "SCAN 0 TYPE list", "*2\r\n$1\r\n0\r\n*0\r\n");
    assert_reply(b, "SCAN 0 MATCH b*", "*2\r\n$1\r\n0\r\n*0\r\n");
}

TEST(scan, answers_errors_as_redis)
{
    on_both(scan_errors);
}

/* Marks what one SCAN reply holds; returns the next cursor. Keys are "k<number>". */
static uint64_t scan_mark(const char *reply, uint8_t *seen, size_t keys)
{
    const char *at = strstr(reply, "\r\n") + 2;
    at = strstr(at, "\r\n") + 2;
    uint64_t cursor = strtoull(at, NULL, 10);
    while ((at = strstr(at, "\r\nk")) != NULL) {
        size_t key = strtoull(at + 3, NULL, 10);
        assert_true(key < keys);
        seen[key]++;
        at += 3;
    }
    return cursor;
}

static void scan_while_changing(struct kv_bench *b)
{
    enum { KEYS = 1000 };
    uint8_t seen[KEYS] = {0};
    char line[64];
    for (int i = 0; i < KEYS; i++) {
        (void)snprintf(line, sizeof line, "SET k%d v", i);
        assert_reply(b, line, "+OK\r\n");
    }
    uint64_t cursor = 0;
    int turn = 0;
    do {
        /* odd keys come and go and the table grows and shrinks; even keys are there throughout */
        (void)snprintf(line, sizeof line, "DEL k%d", (turn * 2 + 1) % KEYS);
        (void)bench_run(b, line);
        (void)snprintf(line, sizeof line, "SET noise%d v", turn);
        assert_reply(b, line, "+OK\r\n");
        (void)snprintf(line, sizeof line, "SCAN %llu MATCH k* COUNT 7", (unsigned long long)cursor);
        cursor = scan_mark(bench_run(b, line), seen, KEYS);
        turn++;
    } while (cursor != 0);
    for (int i = 0; i < KEYS; i++) {
        assert_true(seen[i] <= 1);
        assert_true(i % 2 == 1 || seen[i] == 1);
    }
    assert_true(turn > 100);
}

TEST(scan, returns_every_key_that_is_there_throughout)
{
    on_both(scan_while_changing);
}

TEST(scan, cursors_mean_the_same_on_both_stores)
{
    struct kv_bench memory;
    struct kv_bench rocks;
    bench_open_memory(&memory);
    (void)bench_open_rocksdb(&rocks, test_directory());
    char line[64];
    for (int i = 0; i < 300; i++) {
        (void)snprintf(line, sizeof line, "SET k%d v", i);
        (void)bench_run(&memory, line);
        (void)bench_run(&rocks, line);
    }
    uint64_t cursor = 0;
    uint8_t seen[300] = {0};
    bool on_memory = true;
    do {
        (void)snprintf(line, sizeof line, "SCAN %llu COUNT 11", (unsigned long long)cursor);
        struct kv_bench *one = on_memory ? &memory : &rocks;
        struct kv_bench *other = on_memory ? &rocks : &memory;
        const char *reply = bench_run(one, line);
        assert_string_equal(reply, bench_run(other, line));
        cursor = scan_mark(reply, seen, 300);
        on_memory = !on_memory;
    } while (cursor != 0);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(seen[i], 1);
    }
    bench_close(&memory);
    bench_close(&rocks);
}

/* Applies several lines as one batch and forgets the replies. */
static enum ls_status batch(struct kv_bench *bench, const char *const *lines, size_t count,
                            size_t *applied)
{
    struct kv_buffer entries[8] = {{0}};
    struct ls_command commands[8];
    assert_true(count <= 8);
    for (size_t i = 0; i < count; i++) {
        struct resp_parser parser;
        size_t consumed = 0;
        resp_parser_init(&parser, KV_VALUE_BYTES_MAX, KV_COMMAND_BYTES_MAX);
        assert_int_equal(resp_parse(&parser, text_span(lines[i]), &consumed), RESP_COMMAND);
        kv_entry_encode(&entries[i], kv_command_find(parser.args[0]), parser.args, parser.argc);
        commands[i] = (struct ls_command){{1, bench->next++}, kv_buffer_span(&entries[i])};
        resp_parser_free(&parser);
    }
    enum ls_status status =
        bench->port.apply_batch(bench->port.self, commands, count, NULL, applied);
    for (size_t i = 0; i < count; i++) {
        kv_buffer_free(&entries[i]);
    }
    return status;
}

static void batches(struct kv_bench *b)
{
    static const char *const first[] = {"SET a 1\n", "INCR a\n", "APPEND a 0\n", "SETNX a 5\n",
                                        "DEL z\n"};
    static const char *const second[] = {"FLUSHALL\n", "INCR a\n", "SET b 2\n", "DEL b\n",
                                         "SET c 3\n"};
    size_t applied = 0;
    assert_ok(batch(b, first, 5, &applied));
    assert_int_equal(applied, 5);
    assert_reply(b, "GET a", "$2\r\n20\r\n");
    assert_ok(batch(b, second, 5, &applied));
    assert_reply(b, "MGET a b c", "*3\r\n$1\r\n1\r\n_\r\n$1\r\n3\r\n");
    assert_reply(b, "DBSIZE", ":2\r\n");
}

TEST(machine, a_command_sees_what_earlier_ones_of_its_batch_did)
{
    on_both(batches);
}

static void strange_entries(struct kv_bench *b)
{
    static const struct {
        const char *bytes;
        size_t count;
    } entries[] = {{"", 0},
                   {"\1", 1},
                   {"\2\1\1k\1v", 6},
                   {"\1\377\1k", 4},
                   {"\1\1\5k", 4},
                   {"\1\1\1k", 4},
                   {"\1\1\377\377\377\377\377\1k", 9},
                   {"\1\1\1k\1", 5},
                   {"\1\14\1x\1y", 6}};
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        struct ls_command command = {{1, b->next++}, {entries[i].bytes, entries[i].count}};
        size_t applied = 0;
        assert_ok(b->port.apply_batch(b->port.self, &command, 1, NULL, &applied));
        assert_int_equal(applied, 1);
        assert_int_equal(b->machine.reply.data[0], '-');
    }
    assert_reply(b, "DBSIZE", ":0\r\n");
}

TEST(machine, an_entry_of_another_language_is_answered_with_an_error)
{
    on_both(strange_entries);
}

/* A long batch looks ahead at entries to come, also at such that nobody can read. */
static void long_batch(struct kv_bench *b)
{
    enum { COUNT = 100 };
    static const struct ls_span strange[] = {
        {"", 0}, {"\1", 1}, {"\1\1\377\377\377\377\377\1k", 9}, {"\1\1\5k", 4}, {"\1\14", 2}};
    struct kv_buffer entries[COUNT] = {{0}};
    struct ls_command commands[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%zu", i % 30);
        const struct ls_span args[3] = {text_span("append"), text_span(key), text_span("x")};
        kv_entry_encode(&entries[i], kv_command_find(args[0]), args, 3);
        /* the last of the strange ones removes all keys: at 4, 34 and 64 */
        struct ls_span data = i % 30 < 5 && i < 90 ? strange[i % 30] : kv_buffer_span(&entries[i]);
        commands[i] = (struct ls_command){{1, b->next++}, data};
    }
    size_t applied = 0;
    assert_ok(b->port.apply_batch(b->port.self, commands, COUNT, NULL, &applied));
    assert_int_equal(applied, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        kv_buffer_free(&entries[i]);
    }
    assert_reply(b, "DBSIZE", ":30\r\n");
    assert_reply(b, "GET k7", "$2\r\nxx\r\n");
    assert_reply(b, "GET k3", "$1\r\nx\r\n");
}

TEST(machine, applies_a_long_batch_with_strange_entries_in_it)
{
    on_both(long_batch);
}

TEST(machine, names_its_language)
{
    struct kv_bench bench;
    bench_open_memory(&bench);
    struct ls_span signature = bench.port.signature(bench.port.self);
    assert_int_equal(signature.bytes, strlen("lockstep-kv/2"));
    assert_memory_equal(signature.data, "lockstep-kv/2", signature.bytes);
    bench_close(&bench);
}

/* A dumb second implementation: what the store must hold after a random history. */
struct model {
    bool present[40];
    int64_t value[40];
};

static void random_step(struct kv_bench *bench, struct model *model, uint64_t random)
{
    char line[64];
    char reply[64];
    unsigned key = (unsigned)(random >> 8) % 40;
    long long number = (long long)((random >> 16) % 1000);
    switch (random % 5) {
    case 0:
        (void)snprintf(line, sizeof line, "SET k%u %lld", key, number);
        assert_reply(bench, line, "+OK\r\n");
        model->value[key] = number;
        model->present[key] = true;
        break;
    case 1:
        (void)snprintf(line, sizeof line, "DEL k%u", key);
        assert_reply(bench, line, model->present[key] ? ":1\r\n" : ":0\r\n");
        model->present[key] = false;
        break;
    case 2:
        model->value[key] = (model->present[key] ? model->value[key] : 0) + number;
        model->present[key] = true;
        (void)snprintf(line, sizeof line, "INCRBY k%u %lld", key, number);
        (void)snprintf(reply, sizeof reply, ":%lld\r\n", (long long)model->value[key]);
        assert_reply(bench, line, reply);
        break;
    case 3:
        if (random % 500 < 5) {
            assert_reply(bench, "FLUSHALL", "+OK\r\n");
            *model = (struct model){0};
        }
        break;
    default:
        (void)snprintf(line, sizeof line, "EXISTS k%u", key);
        assert_reply(bench, line, model->present[key] ? ":1\r\n" : ":0\r\n");
        break;
    }
}

static void assert_is(struct kv_bench *bench, const struct model *model)
{
    char reply[32];
    int count = 0;
    for (size_t i = 0; i < 40; i++) {
        count += model->present[i] ? 1 : 0;
    }
    (void)snprintf(reply, sizeof reply, ":%d\r\n", count);
    assert_reply(bench, "DBSIZE", reply);
}

TEST(machine, holds_what_a_random_history_left_on_both_stores_and_after_reopening)
{
    const char *directory = test_directory();
    struct kv_bench memory;
    struct kv_bench rocks;
    struct model of_memory = {0};
    struct model of_rocks = {0};
    bench_open_memory(&memory);
    (void)bench_open_rocksdb(&rocks, directory);
    uint64_t random = test_seed() | 1;
    for (int i = 0; i < 4000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        random_step(&memory, &of_memory, random >> 20);
        random_step(&rocks, &of_rocks, random >> 20);
        if (i % 500 == 499) {
            assert_is(&memory, &of_memory);
            assert_is(&rocks, &of_rocks);
            bench_close(&rocks);
            (void)bench_open_rocksdb(&rocks, directory);
        }
    }
    bench_close(&memory);
    bench_close(&rocks);
}

/* One step on both machines, which must answer alike. Values are large, so that files are written
 * and taken in all the time. */
static void same_step(struct kv_bench *memory, struct kv_bench *rocks, uint64_t random)
{
    enum { KEYS = 900, VALUE_MAX = 60000 };
    static char line[VALUE_MAX + 64];
    unsigned key = (unsigned)(random >> 8) % KEYS;
    size_t bytes = (random >> 20) % VALUE_MAX;
    unsigned long long cursor = 0;
    switch (random % 8) {
    case 0:
        (void)snprintf(line, sizeof line, "DEL k%u", key);
        break;
    case 1:
        (void)snprintf(line, sizeof line, "GET k%u", key);
        break;
    case 2:
        cursor = (random & (uint64_t)INT64_MAX);
        (void)snprintf(line, sizeof line, "SCAN %llu COUNT 1000", cursor);
        break;
    case 3:
        (void)snprintf(line, sizeof line, (random >> 40) % 400 == 0 ? "FLUSHALL" : "DBSIZE");
        break;
    default: {
        int head = snprintf(line, sizeof line, "SET k%u ", key);
        (void)memset(line + head, 'a' + (int)(random >> 50) % 26, bytes + 1);
        line[(size_t)head + bytes + 1] = '\0';
        break;
    }
    }
    assert_string_equal(bench_run(memory, line), bench_run(rocks, line));
}

TEST(machine, reads_layers_and_files_as_one_state)
{
    const char *directory = test_directory();
    struct kv_bench memory;
    struct kv_bench rocks;
    bench_open_memory(&memory);
    (void)bench_open_rocksdb(&rocks, directory);
    uint64_t random = test_seed() | 1;
    ls_index durable = 0;
    int files = 0; /* written beside the loop: a busy machine needs more rounds for them */
    for (int i = 0; i < 6000 || files <= 3; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        same_step(&memory, &rocks, random ^ (random >> 29));
        ls_index now = rocks.port.durable_applied(rocks.port.self);
        assert_true(now >= durable && now < rocks.next);
        files += now > durable ? 1 : 0;
        durable = now;
        if (i % 2000 == 1999) {
            bench_close(&rocks);
            assert_int_equal(bench_open_rocksdb(&rocks, directory), memory.next - 1);
        }
    }
    bench_close(&memory);
    bench_close(&rocks);
}
