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

/*
 * The part of the victim, in a process of its own: RocksDB's threads do not survive a fork. Writes
 * until the state has flushed by itself, tells what it calls durable, writes more, and dies.
 */
static void write_and_die(const char *directory, int report)
{
    struct kv_bench bench;
    (void)bench_open_rocksdb(&bench, directory);
    static char line[40000];
    uint64_t durable = 0;
    int next = 0;
    for (; durable == 0; next++) {
        int head = snprintf(line, sizeof line, "SET k%d ", next);
        (void)memset(line + head, 'v', sizeof line - (size_t)head - 1);
        (void)bench_run(&bench, line);
        durable = bench.port.durable_applied(bench.port.self);
    }
    fill(&bench, next, next + 10);
    (void)!write(report, &durable, sizeof durable);
    (void)kill(getpid(), SIGKILL);
}

TEST(victim, writes_and_dies)
{
    const char *directory = getenv("LS_TEST_VICTIM");
    if (directory == NULL) {
        skip(); /* started by the next test only */
    }
    write_and_die(directory, STDOUT_FILENO);
}

TEST(state, holds_whole_batches_up_to_an_index_not_below_the_durable_one_after_a_kill)
{
    const char *directory = test_directory();
    int pipes[2];
    uint64_t durable = 0;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)setenv("LS_TEST_VICTIM", directory, 1);
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
    struct kv_bench bench;
    ls_index applied = bench_open_rocksdb(&bench, directory);
    assert_true(durable > 0 && applied >= durable);
    /* entry i + 1 set key i: exactly those up to the applied index are there */
    char reply[32];
    (void)snprintf(reply, sizeof reply, ":%llu\r\n", (unsigned long long)applied);
    assert_reply(&bench, "DBSIZE", reply);
    bench_close(&bench);
    (void)close(pipes[0]);
}

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

/* A RocksDB directory with one record that lockstep-kv did not write. */
static const char *foreign_directory(const char *key, const char *value)
{
    const char *directory = test_directory();
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
    return directory;
}

TEST(state, refuses_a_newer_format_and_a_foreign_directory)
{
    struct ls_group_id group = {{1}};
    struct ls_incarnation incarnation = {{3}};
    struct ls_error error = {0};
    const char *newer = foreign_directory("f", "\2");
    const char *foreign = foreign_directory("x", "y");
    assert_int_equal(open_as(newer, &group, &incarnation, &error), LS_ERR_FORMAT);
    assert_non_null(strstr(error.text, "format 2"));
    assert_int_equal(open_as(foreign, &group, &incarnation, &error), LS_ERR_CORRUPT);
    assert_non_null(strstr(error.text, foreign));
}

/* Inverts a bit in the data of every table file with more than a few records; returns how many. */
static int tables_damage(const char *directory)
{
    int damaged = 0;
    DIR *list = opendir(directory);
    assert_non_null(list);
    for (struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        char path[512];
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
    assert_true(tables_damage(directory) > 0);
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
        char key[32];
        int bytes = snprintf(key, sizeof key, "k%d", i);
        const struct ls_span args[3] = {
            text_span("set"), {key, (size_t)bytes}, {value, sizeof value}};
        struct kv_buffer entry = {0};
        kv_entry_encode(&entry, kv_command_find(args[0]), args, 3);
        struct ls_command one = {{1, bench->next}, kv_buffer_span(&entry)};
        size_t applied = 0;
        do {
            status = bench->port.apply_batch(bench->port.self, &one, 1, NULL, &applied);
        } while (status == LS_ERR_BUSY);
        bench->next += status == LS_OK ? 1 : 0;
        kv_buffer_free(&entry);
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
