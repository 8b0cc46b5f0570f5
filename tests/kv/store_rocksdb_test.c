/* SPDX-License-Identifier: MIT */
/* The state in RocksDB: what survives, whose it is, and a full disk. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <rocksdb/c.h>

#include "kv_limits.h"
#include "kv_support.h"
#include "text.h"

/* Sets keys from..to-1, each to its own number. */
static void fill(struct kv_bench *bench, int from, int to)
{
    char line[64];
    for (int i = from; i < to; i++) {
        (void)snprintf(line, sizeof line, "SET k%d %d", i, i);
        assert_reply(bench, line, "+OK\r\n");
    }
}

TEST(state, comes_back_with_its_applied_index_after_close)
{
    const char *directory = test_directory();
    struct kv_bench bench;
    assert_int_equal(bench_open_rocksdb(&bench, directory), 0);
    fill(&bench, 0, 100);
    bench_close(&bench);
    assert_int_equal(bench_open_rocksdb(&bench, directory), 100);
    assert_int_equal(bench.port.durable_applied(bench.port.self), 100);
    assert_reply(&bench, "DBSIZE", ":100\r\n");
    assert_reply(&bench, "GET k42", "$2\r\n42\r\n");
    bench_close(&bench);
}

TEST(state, does_not_call_durable_what_is_only_in_memory)
{
    struct kv_bench bench;
    (void)bench_open_rocksdb(&bench, test_directory());
    fill(&bench, 0, 10);
    assert_int_equal(bench.port.durable_applied(bench.port.self), 0);
    bench_close(&bench);
}

/* ---- kills ---- */

enum { VICTIM_VALUE_BYTES = 40000 };

/* Sets key i, which entry i + 1 does, to a large value. */
static void set_large(struct kv_bench *bench, int i)
{
    static char line[VICTIM_VALUE_BYTES + 32];
    int head = snprintf(line, sizeof line, "SET k%d ", i);
    (void)memset(line + head, 'v', VICTIM_VALUE_BYTES);
    line[head + VICTIM_VALUE_BYTES] = '\0';
    (void)bench_run(bench, line);
}

/*
 * The part of the victim, in a process of its own: RocksDB's threads do not survive a fork. Writes
 * until more has become durable, tells how much, writes `more` keys, and dies: with layers that are
 * not written, and some time with one that is being written.
 */
static void write_and_die(const char *directory, int more, int report)
{
    struct kv_bench bench;
    uint64_t first = bench_open_rocksdb(&bench, directory);
    uint64_t durable = first;
    int next = (int)first;
    for (; durable == first; next++) {
        set_large(&bench, next);
        durable = bench.port.durable_applied(bench.port.self);
    }
    for (int i = 0; i < more; i++) {
        set_large(&bench, next++);
    }
    (void)!write(report, &durable, sizeof durable);
    (void)kill(getpid(), SIGKILL);
}

TEST(victim, writes_and_dies)
{
    const char *directory = getenv("LS_TEST_VICTIM");
    const char *more = getenv("LS_TEST_VICTIM_MORE");
    if (directory == NULL || more == NULL) {
        skip(); /* started by the next tests only */
    }
    write_and_die(directory, atoi(more), STDOUT_FILENO);
}

/* Runs a victim to its end; returns what it called durable. */
static uint64_t victim_run(const char *directory, int more)
{
    int pipes[2];
    char number[16];
    uint64_t durable = 0;
    assert_int_equal(pipe(pipes), 0);
    (void)snprintf(number, sizeof number, "%d", more);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)setenv("LS_TEST_VICTIM", directory, 1);
        (void)setenv("LS_TEST_VICTIM_MORE", number, 1);
        (void)dup2(pipes[1], STDOUT_FILENO);
        (void)execl("/proc/self/exe", "victim", "victim: writes_and_dies", (char *)NULL);
        _exit(1);
    }
    (void)close(pipes[1]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    char said[256];
    ssize_t bytes = read(pipes[0], said, sizeof said);
    assert_true(bytes >= (ssize_t)sizeof durable);
    (void)memcpy(&durable, said + bytes - sizeof durable, sizeof durable);
    (void)close(pipes[0]);
    return durable;
}

/* Exactly the keys of the entries up to the applied index are there. */
static ls_index assert_whole(const char *directory)
{
    struct kv_bench bench;
    char line[32];
    char reply[32];
    ls_index applied = bench_open_rocksdb(&bench, directory);
    (void)snprintf(reply, sizeof reply, ":%llu\r\n", (unsigned long long)applied);
    assert_reply(&bench, "DBSIZE", reply);
    for (int i = 0; i < (int)applied; i++) {
        (void)snprintf(line, sizeof line, "STRLEN k%d", i);
        assert_reply(&bench, line, ":40000\r\n");
    }
    (void)snprintf(line, sizeof line, "EXISTS k%d", (int)applied);
    assert_reply(&bench, line, ":0\r\n");
    bench_close(&bench);
    return applied;
}

TEST(state, holds_whole_batches_up_to_an_index_not_below_the_durable_one_after_kills)
{
    const char *directory = test_directory();
    static const int more[] = {0, 10, 300, 560};
    ls_index before = 0;
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        uint64_t durable = victim_run(directory, more[i]);
        assert_true(durable > before);
        ls_index applied = assert_whole(directory);
        assert_true(applied >= durable);
        before = applied;
    }
}

/* The name that a file had while it was written may outlive a crash after RocksDB took it in. */
TEST(state, never_writes_into_a_file_that_the_database_has_taken_in)
{
    const char *directory = test_directory();
    struct kv_bench bench;
    (void)bench_open_rocksdb(&bench, directory);
    fill(&bench, 0, 50);
    bench_close(&bench);
    char command[4200];
    (void)snprintf(command, sizeof command,
                   "cd '%s/1' && ln \"$(ls -S *.sst | head -n 1)\" layer.new", directory);
    assert_int_equal(system(command), 0);
    (void)bench_open_rocksdb(&bench, directory);
    fill(&bench, 50, 60);
    bench_close(&bench);
    (void)bench_open_rocksdb(&bench, directory);
    assert_reply(&bench, "GET k7", "$1\r\n7\r\n");
    assert_reply(&bench, "GET k57", "$2\r\n57\r\n");
    assert_reply(&bench, "DBSIZE", ":60\r\n");
    bench_close(&bench);
}

/* ---- layers ---- */

/* One SET as a batch, without waiting: as a group offers it. */
static enum ls_status set_once(struct kv_bench *bench, int i, struct ls_span value)
{
    char key[32];
    int bytes = snprintf(key, sizeof key, "k%d", i);
    const struct ls_span args[3] = {text_span("set"), {key, (size_t)bytes}, value};
    struct kv_buffer entry = {0};
    kv_entry_encode(&entry, kv_command_find(args[0]), args, 3);
    struct ls_command one = {{1, bench->next}, kv_buffer_span(&entry)};
    size_t applied = 0;
    enum ls_status status = bench->port.apply_batch(bench->port.self, &one, 1, NULL, &applied);
    assert_int_equal(applied, status == LS_OK ? 1 : 0);
    bench->next += applied;
    kv_buffer_free(&entry);
    return status;
}

TEST(layers, that_cannot_be_written_fast_enough_make_batches_wait_and_nothing_worse)
{
    static char value[1u << 20];
    struct kv_bench bench;
    const char *directory = test_directory();
    (void)bench_open_rocksdb(&bench, directory);
    int busy = 0;
    int keys = 0;
    (void)memset(value, 'v', sizeof value);
    while (busy == 0) {
        assert_true(keys < 1000); /* memory is faster than the disk */
        enum ls_status status = set_once(&bench, keys, (struct ls_span){value, sizeof value});
        assert_true(status == LS_OK || status == LS_ERR_BUSY);
        busy += status == LS_ERR_BUSY ? 1 : 0;
        keys += status == LS_OK ? 1 : 0;
    }
    assert_null(kv_machine_trouble(&bench.machine));
    assert_reply(&bench, "STRLEN k3", ":1048576\r\n"); /* reads go on */
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = set_once(&bench, keys, (struct ls_span){"last", 4});
    }
    assert_ok(status);
    char reply[32];
    (void)snprintf(reply, sizeof reply, ":%d\r\n", keys + 1);
    assert_reply(&bench, "DBSIZE", reply);
    bench_close(&bench);
    assert_int_equal(bench_open_rocksdb(&bench, directory), keys + 1);
    assert_reply(&bench, "DBSIZE", reply);
    bench_close(&bench);
}

TEST(layers, end_a_batch_early_when_they_are_full)
{
    enum { COUNT = 64 };
    static char value[1u << 20];
    struct kv_bench bench;
    struct kv_buffer bytes = {0};
    struct ls_command commands[COUNT];
    (void)bench_open_rocksdb(&bench, test_directory());
    size_t entry = 0;
    for (int i = 0; i < COUNT; i++) {
        char key[3] = {'k', (char)('0' + i / 10), (char)('0' + i % 10)};
        const struct ls_span args[3] = {text_span("set"), {key, sizeof key}, {value, sizeof value}};
        kv_entry_encode(&bytes, kv_command_find(args[0]), args, 3);
        entry = i == 0 ? kv_buffer_bytes(&bytes) : entry;
    }
    for (size_t i = 0; i < COUNT; i++) {
        commands[i] = (struct ls_command){{1, i + 1}, {bytes.data + i * entry, entry}};
    }
    size_t done = 0;
    size_t calls = 0;
    while (done < COUNT) {
        size_t applied = 0;
        enum ls_status status =
            bench.port.apply_batch(bench.port.self, commands + done, COUNT - done, NULL, &applied);
        assert_true(status == LS_OK || (status == LS_ERR_BUSY && applied == 0));
        assert_true(applied <= KV_LAYER_BYTES_MAX / sizeof value + 1);
        done += applied;
        calls += applied > 0 ? 1 : 0;
    }
    assert_true(calls >= 3);
    assert_reply(&bench, "DBSIZE", ":64\r\n");
    bench_close(&bench);
    kv_buffer_free(&bytes);
}

TEST(layers, of_a_batch_that_was_given_up_are_never_written)
{
    const char *directory = test_directory();
    const struct ls_group_id group = {{1}};
    const struct ls_incarnation incarnation = {{2}};
    struct kv_store store;
    ls_index applied = 0;
    struct ls_span value;
    for (int round = 0; round < 2; round++) {
        assert_ok(kv_store_rocksdb_open(directory, &store));
        assert_ok(store.open(store.self, &group, &incarnation, &applied, NULL));
        assert_int_equal(applied, round == 0 ? 0 : 7);
        assert_int_equal(store.count(store.self), round);
        assert_ok(store.begin(store.self));
        assert_ok(store.put(store.self, text_span(round == 0 ? "kept" : "lost"), text_span("v")));
        if (round == 0) {
            assert_ok(store.commit(store.self, 7));
        } else {
            store.rollback(store.self);
        }
        store.close(store.self);
    }
    assert_ok(kv_store_rocksdb_open(directory, &store));
    assert_ok(store.open(store.self, &group, &incarnation, &applied, NULL));
    assert_int_equal(applied, 7);
    assert_ok(store.get(store.self, text_span("kept"), &value));
    assert_int_equal(store.get(store.self, text_span("lost"), &value), LS_ERR_NOT_FOUND);
    assert_int_equal(store.count(store.self), 1);
    store.close(store.self);
}

/* What must be there: the first byte and the length of each value; 0: no such key. */
enum { MODEL_KEYS = 60 };
struct model {
    struct {
        char first;
        size_t bytes;
    } keys[MODEL_KEYS];
    int present;
};

static void model_set(struct model *model, unsigned key, char first, size_t bytes)
{
    model->present += (first != 0) - (model->keys[key].first != 0);
    model->keys[key].first = first;
    model->keys[key].bytes = bytes;
}

struct seen {
    const struct model *model;
    uint64_t last_hash;
    int keys;
    bool marks[MODEL_KEYS];
};

static void seen_visit(void *arg, struct ls_span key)
{
    struct seen *seen = arg;
    char text[16] = {0};
    assert_true(key.bytes > 1 && key.bytes < sizeof text);
    (void)memcpy(text, key.data, key.bytes);
    int number = atoi(text + 1);
    assert_true(number >= 0 && number < MODEL_KEYS && !seen->marks[number]);
    assert_true(seen->model->keys[number].first != 0);
    assert_true(kv_key_hash(key) >= seen->last_hash);
    seen->last_hash = kv_key_hash(key);
    seen->marks[number] = true;
    seen->keys++;
}

static void assert_is(const struct kv_store *store, const struct model *model)
{
    struct seen seen = {.model = model};
    uint64_t cursor = 0;
    do {
        assert_ok(store->scan(store->self, cursor, &cursor, 7, seen_visit, &seen));
    } while (cursor != 0);
    assert_int_equal(seen.keys, model->present);
    assert_int_equal(store->count(store->self), model->present);
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        char key[16];
        struct ls_span value = {0};
        (void)snprintf(key, sizeof key, "k%u", i);
        enum ls_status status = store->get(store->self, text_span(key), &value);
        assert_int_equal(status, model->keys[i].first != 0 ? LS_OK : LS_ERR_NOT_FOUND);
        if (status == LS_OK) {
            assert_int_equal(value.bytes, model->keys[i].bytes);
            assert_int_equal(((const char *)value.data)[0], model->keys[i].first);
            assert_int_equal(((const char *)value.data)[value.bytes - 1], model->keys[i].first);
        }
    }
}

static uint64_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 20;
}

static void random_write(const struct kv_store *store, struct model *model, uint64_t random)
{
    static char value[300000];
    char key[16];
    unsigned number = (unsigned)(random >> 10) % MODEL_KEYS;
    (void)snprintf(key, sizeof key, "k%u", number);
    if (random % 400 == 0) {
        assert_ok(store->clear(store->self));
        *model = (struct model){0};
    } else if (random % 4 == 0) {
        assert_int_equal(store->remove(store->self, text_span(key)),
                         model->keys[number].first != 0 ? LS_OK : LS_ERR_NOT_FOUND);
        model_set(model, number, 0, 0);
    } else {
        char first = (char)('a' + random % 26);
        size_t bytes = 1 + (size_t)(random >> 16) % sizeof value;
        (void)memset(value, first, bytes);
        assert_ok(store->put(store->self, text_span(key), (struct ls_span){value, bytes}));
        model_set(model, number, first, bytes);
    }
}

/* The values are large, so that layers change often; batches meet them in every state. */
TEST(layers, and_database_together_hold_what_a_random_history_left)
{
    const char *directory = test_directory();
    const struct ls_group_id group = {{1}};
    const struct ls_incarnation incarnation = {{2}};
    struct model model = {0};
    struct kv_store store;
    uint64_t random = test_seed();
    ls_index applied = 0;
    ls_index durable = 0;
    int changes = 0;
    for (ls_index index = 0; index < 600;) {
        assert_ok(kv_store_rocksdb_open(directory, &store));
        assert_ok(store.open(store.self, &group, &incarnation, &applied, NULL));
        assert_int_equal(applied, index);
        assert_is(&store, &model);
        for (ls_index end = index + 200; index < end;) {
            enum ls_status status = store.begin(store.self);
            if (status == LS_ERR_BUSY) {
                continue;
            }
            assert_ok(status);
            for (uint64_t i = random_next(&random) % 8 + 1; i > 0; i--) {
                random_write(&store, &model, random_next(&random));
            }
            assert_ok(store.commit(store.self, ++index));
            if (index % 10 == 0) {
                assert_is(&store, &model);
            }
            changes += store.durable(store.self) > durable ? 1 : 0;
            durable = store.durable(store.self);
            assert_true(durable <= index);
        }
        store.close(store.self);
    }
    assert_true(changes >= 5);
}

/* ---- whose it is ---- */

static enum ls_status open_as(const char *directory, const struct ls_group_id *group,
                              const struct ls_incarnation *incarnation, struct ls_error *error)
{
    struct kv_store store;
    ls_index applied = 0;
    assert_ok(kv_store_rocksdb_open(directory, &store));
    enum ls_status status = store.open(store.self, group, incarnation, &applied, error);
    store.close(store.self);
    return status;
}

TEST(state, refuses_another_group_and_another_incarnation)
{
    const char *directory = test_directory();
    struct ls_group_id group = {{1}};
    struct ls_group_id other_group = {{2}};
    struct ls_incarnation incarnation = {{3}};
    struct ls_incarnation other_incarnation = {{4}};
    struct ls_error error = {0};
    assert_ok(open_as(directory, &group, &incarnation, &error));
    assert_int_equal(open_as(directory, &other_group, &incarnation, &error), LS_ERR_MISMATCH);
    assert_non_null(strstr(error.text, "another group"));
    assert_int_equal(open_as(directory, &group, &other_incarnation, &error), LS_ERR_MISMATCH);
    assert_non_null(strstr(error.text, "another incarnation"));
    assert_non_null(strstr(error.text, directory));
    assert_ok(open_as(directory, &group, &incarnation, &error));
}

/* A RocksDB with one record that lockstep-kv did not write. */
static void foreign_database(const char *directory, const char *key, const char *value)
{
    char *text = NULL;
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_writeoptions_t *write = rocksdb_writeoptions_create();
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_t *db = rocksdb_open(options, directory, &text);
    assert_null(text);
    rocksdb_put(db, write, key, strlen(key), value, strlen(value), &text);
    assert_null(text);
    rocksdb_close(db);
    rocksdb_writeoptions_destroy(write);
    rocksdb_options_destroy(options);
}

/* ... where a state would be. */
static const char *foreign_directory(const char *key, const char *value)
{
    const char *directory = test_directory();
    char folder[512];
    (void)snprintf(folder, sizeof folder, "%s/1", directory);
    assert_int_equal(mkdir(folder, 0700), 0);
    foreign_database(folder, key, value);
    return directory;
}

TEST(state, refuses_a_newer_format_and_a_foreign_directory)
{
    struct ls_group_id group = {{1}};
    struct ls_incarnation incarnation = {{3}};
    struct ls_error error = {0};
    const char *newer = foreign_directory("f", "\3");
    const char *older = test_directory();
    const char *foreign = foreign_directory("x", "y");
    assert_int_equal(open_as(newer, &group, &incarnation, &error), LS_ERR_FORMAT);
    assert_non_null(strstr(error.text, "format 3"));
    assert_int_equal(open_as(foreign, &group, &incarnation, &error), LS_ERR_CORRUPT);
    assert_non_null(strstr(error.text, foreign));
    foreign_database(older, "f", "\1"); /* which had no folders */
    assert_int_equal(open_as(older, &group, &incarnation, &error), LS_ERR_FORMAT);
    assert_non_null(strstr(error.text, "without snapshots"));
}

/* Inverts a bit in the data of every table file with more than a few records; returns how many. */
static int tables_damage(const char *directory)
{
    int damaged = 0;
    DIR *list = opendir(directory);
    assert_non_null(list);
    for (struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        char path[1024];
        const char *dot = strrchr(entry->d_name, '.');
        if (dot == NULL || strcmp(dot, ".sst") != 0) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        int file = open(path, O_RDWR | O_CLOEXEC);
        struct stat info;
        char byte = 0;
        assert_true(file >= 0);
        assert_int_equal(fstat(file, &info), 0);
        if (info.st_size < 8192) {
            (void)close(file);
            continue;
        }
        assert_int_equal(pread(file, &byte, 1, info.st_size / 3), 1);
        byte = (char)(byte ^ 0x10);
        assert_int_equal(pwrite(file, &byte, 1, info.st_size / 3), 1);
        (void)close(file);
        damaged++;
    }
    (void)closedir(list);
    return damaged;
}

TEST(state, a_damaged_file_is_an_error_and_never_a_wrong_value)
{
    const char *directory = test_directory();
    struct kv_bench bench;
    (void)bench_open_rocksdb(&bench, directory);
    fill(&bench, 0, 3000);
    bench_close(&bench);
    char folder[512];
    (void)snprintf(folder, sizeof folder, "%s/1", directory);
    assert_true(tables_damage(folder) > 0);
    (void)bench_open_rocksdb(&bench, directory);
    const struct kv_command *get = kv_command_find(text_span("get"));
    int failed = 0;
    for (int i = 0; i < 3000; i++) {
        char key[16];
        char expected[32];
        char number[16];
        (void)snprintf(key, sizeof key, "k%d", i);
        int digits = snprintf(number, sizeof number, "%d", i);
        (void)snprintf(expected, sizeof expected, "$%d\r\n%s\r\n", digits, number);
        struct kv_buffer reply = {0};
        struct resp_out out = {&reply, 3};
        const struct ls_span args[2] = {text_span("get"), text_span(key)};
        if (kv_machine_read(&bench.machine, get, args, 2, &out) != LS_OK) {
            failed++;
        } else {
            assert_int_equal(kv_buffer_bytes(&reply), strlen(expected));
            assert_memory_equal(reply.data, expected, strlen(expected));
        }
        kv_buffer_free(&reply);
    }
    assert_true(failed > 0);
    assert_non_null(strstr(kv_machine_trouble(&bench.machine), directory));
    bench_close(&bench);
}

TEST(state, says_that_its_directory_is_in_use)
{
    const char *directory = test_directory();
    struct kv_bench bench;
    (void)bench_open_rocksdb(&bench, directory);
    struct ls_group_id group = {{1, 2, 3}};
    struct ls_incarnation incarnation = {{4, 5, 6}};
    struct ls_error error = {0};
    assert_int_equal(open_as(directory, &group, &incarnation, &error), LS_ERR_LOCKED);
    assert_non_null(strstr(error.text, directory));
    bench_close(&bench);
}

TEST(state, says_why_a_directory_cannot_be_used)
{
    struct ls_group_id group = {{1}};
    struct ls_incarnation incarnation = {{3}};
    struct ls_error error = {0};
    assert_int_equal(open_as("/proc/no/such/place", &group, &incarnation, &error), LS_ERR_IO);
    assert_non_null(strstr(error.text, "/proc/no/such/place"));
}

/* Applies writes until the machine refuses one. */
static enum ls_status write_until_refused(struct kv_bench *bench)
{
    static char value[500000];
    (void)memset(value, 'v', sizeof value);
    enum ls_status status = LS_OK;
    for (int i = 0; i < 2000 && status == LS_OK; i++) {
        do {
            status = set_once(bench, i, (struct ls_span){value, sizeof value});
        } while (status == LS_ERR_BUSY);
    }
    return status;
}

TEST(state, a_full_disk_halts_the_machine_and_loses_nothing_durable)
{
    const char *directory = test_directory();
    char options[64];
    (void)snprintf(options, sizeof options, "size=%u", 40u << 20);
    if (mount("tmpfs", directory, "tmpfs", 0, options) != 0) {
        print_message("needs the right to mount a tmpfs\n");
        skip();
    }
    struct kv_bench bench;
    (void)bench_open_rocksdb(&bench, directory);
    assert_int_equal(write_until_refused(&bench), LS_ERR_IO);
    assert_non_null(kv_machine_trouble(&bench.machine));
    assert_non_null(strstr(kv_machine_trouble(&bench.machine), directory));
    ls_index durable = bench.port.durable_applied(bench.port.self);
    ls_index reached = bench.next - 1;
    /* nothing after the failure is taken, not even when there is room again */
    (void)snprintf(options, sizeof options, "remount,size=%u", 200u << 20);
    assert_int_equal(mount("tmpfs", directory, "tmpfs", MS_REMOUNT, options + 8), 0);
    assert_int_equal(write_until_refused(&bench), LS_ERR_IO);
    assert_int_equal(bench.next - 1, reached);
    bench_close(&bench);
    ls_index applied = bench_open_rocksdb(&bench, directory);
    assert_true(durable > 0 && applied >= durable && applied <= reached);
    bench_close(&bench);
    assert_int_equal(umount(directory), 0);
}
