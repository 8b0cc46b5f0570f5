/* SPDX-License-Identifier: MIT */
/*
 * The k-th write or sync of a store fails with EIO, for every k: the first error is latched, says
 * which directory and why, and is over after reopening, when everything that was acknowledged is
 * there. Calls that do half of it or are interrupted are no error. Those below take the place of
 * libc's for the whole program, RocksDB included.
 */
#define _GNU_SOURCE
#include "store.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum call { CALL_NONE, CALL_SYNC, CALL_DATA_SYNC, CALL_WRITE, CALL_IN_PIECES };

static struct {
    _Atomic int call;
    _Atomic long left; /* calls of that kind that still succeed */
    _Atomic long faults;
} fault;

/* Is it this call's turn to fail? Only regular files and directories count. */
static bool strikes(enum call call, int descriptor)
{
    struct stat info;
    if (fault.call != (int)call || fstat(descriptor, &info) != 0 ||
        !(S_ISREG(info.st_mode) || S_ISDIR(info.st_mode))) {
        return false;
    }
    if (fault.left-- != 0) {
        return false;
    }
    fault.faults++;
    errno = EIO;
    return true;
}

/*
 * What a read or write of `count` bytes may do when they come in pieces: the first half, or nothing
 * but EINTR (0).
 */
static size_t piece(int descriptor, size_t count)
{
    struct stat info;
    if (fault.call != CALL_IN_PIECES || count < 2 || fstat(descriptor, &info) != 0 ||
        !S_ISREG(info.st_mode)) {
        return count;
    }
    fault.faults++;
    return fault.faults % 3 == 0 ? 0 : count / 2;
}

static bool interrupted(size_t part, size_t count)
{
    errno = part == 0 && count > 0 ? EINTR : errno;
    return part == 0 && count > 0;
}

__attribute__((visibility("default"))) int fsync(int descriptor)
{
    int (*next)(int);
    *(void **)&next = dlsym(RTLD_NEXT, "fsync");
    return strikes(CALL_SYNC, descriptor) ? -1 : next(descriptor);
}

__attribute__((visibility("default"))) int fdatasync(int descriptor)
{
    int (*next)(int);
    *(void **)&next = dlsym(RTLD_NEXT, "fdatasync");
    return strikes(CALL_DATA_SYNC, descriptor) ? -1 : next(descriptor);
}

__attribute__((visibility("default"))) ssize_t write(int descriptor, const void *bytes,
                                                     size_t count)
{
    ssize_t (*next)(int, const void *, size_t);
    *(void **)&next = dlsym(RTLD_NEXT, "write");
    size_t part = piece(descriptor, count);
    return interrupted(part, count) || strikes(CALL_WRITE, descriptor)
               ? -1
               : next(descriptor, bytes, part);
}

__attribute__((visibility("default"))) ssize_t pwrite(int descriptor, const void *bytes,
                                                      size_t count, off_t offset)
{
    ssize_t (*next)(int, const void *, size_t, off_t);
    *(void **)&next = dlsym(RTLD_NEXT, "pwrite");
    size_t part = piece(descriptor, count);
    return interrupted(part, count) || strikes(CALL_WRITE, descriptor)
               ? -1
               : next(descriptor, bytes, part, offset);
}

__attribute__((visibility("default"))) ssize_t read(int descriptor, void *bytes, size_t count)
{
    ssize_t (*next)(int, void *, size_t);
    *(void **)&next = dlsym(RTLD_NEXT, "read");
    size_t part = piece(descriptor, count);
    return interrupted(part, count) ? -1 : next(descriptor, bytes, part);
}

__attribute__((visibility("default"))) ssize_t pread(int descriptor, void *bytes, size_t count,
                                                     off_t offset)
{
    ssize_t (*next)(int, void *, size_t, off_t);
    *(void **)&next = dlsym(RTLD_NEXT, "pread");
    size_t part = piece(descriptor, count);
    return interrupted(part, count) ? -1 : next(descriptor, bytes, part, offset);
}

static void expect_text(const char *text, const char *directory)
{
    if (strstr(text, directory) == NULL ||
        (strstr(text, "Input/output error") == NULL && strstr(text, "failing disk") == NULL)) {
        fail_msg("the reason is \"%s\"", text);
    }
}

/* Appends with a new term now and then; returns the last acknowledged index. */
static ls_index run(struct store *store, const char *directory, size_t bytes)
{
    ls_index acknowledged = 0;
    for (ls_index i = 0; i < 8; i++) {
        struct ls_hard_state hard = {1 + i, true, {{1}}};
        struct ls_storage_batch batch = store_batch(store, 1 + 4 * i, 4, 1, bytes);
        batch.hard_state = i % 3 == 0 ? &hard : NULL;
        enum ls_status status = store->storage.stage(store->storage.self, store->group, &batch);
        if (status == LS_OK) {
            store_settle(store);
        } else {
            assert_int_equal(status, LS_ERR_IO);
            while (store->log.failed_calls == 0) {
                store_wait(store);
            }
        }
        if (store->log.failed_calls > 0) {
            assert_int_equal(store->log.failed_calls, 1);
            assert_int_equal(store->log.status, LS_ERR_IO);
            expect_text(store->log.text, directory);
            batch = store_batch(store, 100, 1, 1, 16);
            assert_int_equal(store->storage.stage(store->storage.self, store->group, &batch),
                             LS_ERR_IO);
            break;
        }
        acknowledged = 4 * (i + 1);
    }
    return acknowledged;
}

/* One life of a store in which one call fails; false once `k` is beyond the last call. */
static bool one_fault(enum call call, long k, size_t bytes, bool in_open)
{
    char directory[128];
    (void)snprintf(directory, sizeof directory, "%s/data", test_memory_directory());
    struct ls_storage_rocksdb_options options = {
        .size = sizeof options, .directory = directory, .write_buffer_bytes = 128u << 10};
    struct store store = {0};
    ls_index acknowledged = 0;
    fault.left = k;
    fault.faults = 0;
    fault.call = in_open ? (int)call : CALL_NONE;
    enum ls_status status = ls_storage_rocksdb_open(&options, &store.storage, &store.error);
    if (status == LS_OK) {
        store_attach(&store);
        status = store_open_group(&store);
        if (status == LS_OK) {
            fault.call = (int)call;
            acknowledged = run(&store, directory, bytes);
        }
        store_close(&store);
    }
    fault.call = CALL_NONE;
    if (status != LS_OK) {
        assert_int_equal(status, LS_ERR_IO);
        expect_text(store.error.text, directory);
    }
    bool struck = fault.faults > 0;

    store = (struct store){0};
    assert_ok(ls_storage_rocksdb_open(&options, &store.storage, &store.error));
    store_attach(&store);
    assert_ok(store_open_group(&store));
    assert_false(store.state.tail_unknown);
    assert_true(store.state.last.index >= acknowledged);
    if (acknowledged > 0) {
        assert_int_equal(store_expect(&store, 1, acknowledged, 1, bytes), acknowledged);
        assert_true(store.state.hard_state.term >= (acknowledged / 4 - 1) / 3 * 3 + 1);
    }
    store_close(&store);
    return struck;
}

static void every_call(enum call call)
{
    long k = 0;
    while (one_fault(call, k, 100, true)) {
        k++;
    }
    assert_true(k > 3);
}

/* F1 */
TEST(error, of_any_fsync_is_latched_and_named)
{
    every_call(CALL_SYNC);
}

TEST(error, of_any_fdatasync_is_latched_and_named)
{
    every_call(CALL_DATA_SYNC);
}

TEST(error, of_any_write_is_latched_and_named)
{
    every_call(CALL_WRITE);
}

/* Large entries, so that a table is being written: RocksDB would go on by itself. */
TEST(error, in_the_background_is_latched_too)
{
    static const struct {
        enum call call;
        long k;
    } cases[] = {{CALL_WRITE, 9}, {CALL_DATA_SYNC, 6}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(one_fault(cases[i].call, cases[i].k, 10000, false));
    }
}

/* F17 */
TEST(pieces, reads_and_writes_that_end_early_or_are_interrupted_change_nothing)
{
    char directory[128];
    (void)snprintf(directory, sizeof directory, "%s/data", test_memory_directory());
    struct ls_storage_rocksdb_options options = {
        .size = sizeof options, .directory = directory, .write_buffer_bytes = 128u << 10};
    fault.faults = 0;
    fault.call = CALL_IN_PIECES;
    for (int life = 0; life < 2; life++) {
        struct store store = {0};
        assert_ok(ls_storage_rocksdb_open(&options, &store.storage, &store.error));
        store_attach(&store);
        assert_ok(store_open_group(&store));
        assert_false(store.state.tail_unknown);
        if (life == 0) {
            assert_int_equal(run(&store, directory, 1000), 32);
        } else {
            assert_int_equal(store_expect(&store, 1, 32, 1, 1000), 32);
        }
        store_close(&store);
    }
    fault.call = CALL_NONE;
    assert_true(fault.faults > 20);
}
