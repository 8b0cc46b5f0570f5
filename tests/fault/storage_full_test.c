/* SPDX-License-Identifier: MIT */
/*
 * A real small file system that fills up under the store. Needs the right to mount (root); without
 * it the tests are skipped and say so.
 */
#define _GNU_SOURCE
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ENTRY_BYTES 4000u
#define BATCH       8u

struct full {
    char mount[128], data[160], ballast[160];
    struct store store;
    ls_index durable;
};

static void place_open(void *self, struct ls_storage *out)
{
    struct ls_storage_rocksdb_options options = {
        .size = sizeof options, .directory = self, .write_buffer_bytes = 1u << 20};
    struct ls_error error;
    enum ls_status status = ls_storage_rocksdb_open(&options, out, &error);
    if (status != LS_OK) {
        fail_msg("%s", error.text);
    }
}

/* A file system of `bytes` in a mount namespace of our own. False: not permitted. */
static bool start(struct full *full, const char *bytes)
{
    static bool own_namespace;
    char options[64];
    *full = (struct full){0};
    (void)snprintf(full->mount, sizeof full->mount, "%s", test_directory());
    (void)snprintf(full->data, sizeof full->data, "%s/data", full->mount);
    (void)snprintf(full->ballast, sizeof full->ballast, "%s/ballast", full->mount);
    (void)snprintf(options, sizeof options, "size=%s,mode=0700", bytes);
    if (!own_namespace &&
        (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)) {
        print_message("skipped: a mount namespace is not permitted here: %s\n", strerror(errno));
        return false;
    }
    own_namespace = true;
    if (mount("tmpfs", full->mount, "tmpfs", 0, options) != 0) {
        print_message("skipped: mounting a tmpfs is not permitted here: %s\n", strerror(errno));
        return false;
    }
    return true;
}

static void finish(struct full *full)
{
    assert_int_equal(umount(full->mount), 0);
}

static void fill_all_but(const struct full *full, uint64_t left)
{
    struct statvfs info;
    assert_int_equal(statvfs(full->mount, &info), 0);
    uint64_t free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    int file = open(full->ballast, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    if (free_bytes > left) {
        assert_int_equal(posix_fallocate(file, 0, (off_t)(free_bytes - left)), 0);
    }
    (void)close(file);
}

/* Appends until the store fails; full->durable is what was acknowledged. */
static void append_until_failure(struct full *full)
{
    struct store *store = &full->store;
    for (int i = 0; i < 2000 && store->log.failed_calls == 0; i++) {
        ls_index first = store->state.last.index + 1;
        struct ls_storage_batch batch = store_batch(store, first, BATCH, 1, ENTRY_BYTES);
        enum ls_status status = store->storage.stage(store->storage.self, store->group, &batch);
        if (status != LS_OK) { /* failed since the last settle, not told yet */
            assert_int_equal(status, LS_ERR_IO);
            store_wait(store);
            continue;
        }
        store_settle(store);
        if (store->log.durable == store->seq) {
            store->state.last.index += BATCH;
            full->durable = store->state.last.index;
        }
    }
}

static void expect_failure(struct full *full)
{
    struct store *store = &full->store;
    assert_int_equal(store->log.failed_calls, 1);
    assert_int_equal(store->log.status, LS_ERR_IO);
    assert_non_null(strstr(store->log.text, full->data));
    if (strstr(store->log.text, "No space left on device") == NULL &&
        strstr(store->log.text, "full") == NULL) {
        fail_msg("the reason is \"%s\"", store->log.text);
    }
    struct ls_storage_batch batch = store_batch(store, 1, 1, 1, 16);
    assert_int_equal(store->storage.stage(store->storage.self, store->group, &batch), LS_ERR_IO);
    /* what was acknowledged can still be read */
    if (full->durable > 0) {
        assert_int_equal(store_expect(store, 1, full->durable, 1, ENTRY_BYTES), full->durable);
    }
}

static void recover(struct full *full)
{
    struct store *store = &full->store;
    assert_int_equal(unlink(full->ballast), 0);
    /* room alone changes nothing: the error stays */
    struct ls_storage_batch batch = store_batch(store, 1, 1, 1, 16);
    assert_int_equal(store->storage.stage(store->storage.self, store->group, &batch), LS_ERR_IO);
    store_reopen(store);
    assert_false(store->state.tail_unknown);
    if (store->state.last.index < full->durable) {
        fail_msg("%" PRIu64 " entries were acknowledged, %" PRIu64 " are there", full->durable,
                 store->state.last.index);
    }
    ls_index last = store->state.last.index;
    if (last > 0) {
        assert_int_equal(store_expect(store, 1, last, 1, ENTRY_BYTES), last);
    }
    batch = store_batch(store, last + 1, 1, 1, ENTRY_BYTES);
    assert_ok(store->storage.stage(store->storage.self, store->group, &batch));
    store_settle(store);
    assert_int_equal(store->log.durable, 1);
}

/* F9 */
TEST(full, disk_is_latched_and_over_after_room_and_reopen)
{
    /* how much room there is decides what hits the end: the write-ahead log, a table, a
     * manifest. (RocksDB pauses a second after a failure in its background.) */
    static const uint64_t room[] = {0, 12, 100, 700, 1300, 2100};
    struct full full;
    for (size_t i = 0; i < sizeof room / sizeof room[0]; i++) {
        if (!start(&full, "16m")) {
            skip();
            return;
        }
        const struct store_backend backend = {full.data, place_open, NULL};
        store_open(&full.store, &backend);
        fill_all_but(&full, room[i] << 10);
        append_until_failure(&full);
        expect_failure(&full);
        recover(&full);
        store_close(&full.store);
        finish(&full);
    }
}

TEST(full, disk_at_open_is_an_error_or_works_but_never_a_crash)
{
    static const uint64_t room[] = {0, 4, 8, 16, 32, 64, 128};
    struct full full;
    uint64_t refused = 0;
    for (size_t i = 0; i < 2 * sizeof room / sizeof room[0]; i++) {
        if (!start(&full, "8m")) {
            skip();
            return;
        }
        const struct store_backend backend = {full.data, place_open, NULL};
        bool existing = i % 2 == 0;
        if (existing) {
            store_open(&full.store, &backend);
            store_append(&full.store, 1, 20, 1);
            store_close(&full.store);
        }
        fill_all_but(&full, room[i / 2] << 10);
        struct ls_storage_rocksdb_options options = {.size = sizeof options,
                                                     .directory = full.data};
        struct ls_storage storage;
        struct ls_error error;
        enum ls_status status = ls_storage_rocksdb_open(&options, &storage, &error);
        if (status != LS_OK) {
            assert_int_equal(status, LS_ERR_IO);
            assert_non_null(strstr(error.text, full.data));
            assert_non_null(strstr(error.text, "No space left on device"));
            refused++;
        } else {
            storage.close(storage.self);
        }
        assert_int_equal(unlink(full.ballast), 0);
        store_open(&full.store, &backend);
        assert_int_equal(full.store.state.last.index, existing ? 20 : 0);
        assert_false(full.store.state.tail_unknown);
        store_close(&full.store);
        finish(&full);
    }
    assert_true(refused > 0);
}
