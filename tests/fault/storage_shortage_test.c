/* SPDX-License-Identifier: MIT */
/*
 * Calls that open and read fail for a moment, for want of descriptors or memory or with EIO, while
 * a store is opened whose last write the power cut: that is never taken for damage, nor for a file
 * that is not there. Once the shortage is over, the store opens. The calls below take the place of
 * libc's for the whole program, RocksDB included.
 */
#define _GNU_SOURCE
#include "store.h"
#include "tree.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DURABLE    20u
#define PAGE_BYTES 4096u

enum call { CALL_NONE, CALL_OPENAT, CALL_OPEN, CALL_OPENDIR, CALL_READDIR, CALL_PREAD, CALL_FREAD };

static struct {
    enum call call;
    int reason;
    long left; /* calls of that kind that still succeed */
    long faults;
} fault;

static bool strikes(enum call call)
{
    if (fault.call != call || fault.left-- != 0) {
        return false;
    }
    fault.faults++;
    errno = fault.reason;
    return true;
}

__attribute__((visibility("default"))) int openat(int at, const char *path, int flags, ...)
{
    int (*next)(int, const char *, int, ...);
    va_list arguments;
    va_start(arguments, flags);
    int mode = (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0;
    va_end(arguments);
    *(void **)&next = dlsym(RTLD_NEXT, "openat");
    return strikes(CALL_OPENAT) ? -1 : next(at, path, flags, mode);
}

__attribute__((visibility("default"))) int open(const char *path, int flags, ...)
{
    int (*next)(const char *, int, ...);
    va_list arguments;
    va_start(arguments, flags);
    int mode = (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0;
    va_end(arguments);
    *(void **)&next = dlsym(RTLD_NEXT, "open");
    return strikes(CALL_OPEN) ? -1 : next(path, flags, mode);
}

__attribute__((visibility("default"))) DIR *opendir(const char *path)
{
    DIR *(*next)(const char *);
    *(void **)&next = dlsym(RTLD_NEXT, "opendir");
    return strikes(CALL_OPENDIR) ? NULL : next(path);
}

__attribute__((visibility("default"))) struct dirent *readdir(DIR *listing)
{
    struct dirent *(*next)(DIR *);
    *(void **)&next = dlsym(RTLD_NEXT, "readdir");
    return strikes(CALL_READDIR) ? NULL : next(listing);
}

__attribute__((visibility("default"))) ssize_t pread(int descriptor, void *bytes, size_t count,
                                                     off_t offset)
{
    ssize_t (*next)(int, void *, size_t, off_t);
    *(void **)&next = dlsym(RTLD_NEXT, "pread");
    return strikes(CALL_PREAD) ? -1 : next(descriptor, bytes, count, offset);
}

/* how RocksDB reads its logs */
#undef fread_unlocked
__attribute__((visibility("default"))) size_t fread_unlocked(void *bytes, size_t size, size_t count,
                                                             FILE *file)
{
    size_t (*next)(void *, size_t, size_t, FILE *);
    *(void **)&next = dlsym(RTLD_NEXT, "fread_unlocked");
    return strikes(CALL_FREAD) ? 0 : next(bytes, size, count, file);
}

static char place[128], torn[160], subject[160];

static void place_open(void *self, struct ls_storage *out)
{
    struct ls_storage_rocksdb_options options = {.size = sizeof options, .directory = self};
    assert_ok(ls_storage_rocksdb_open(&options, out, NULL));
}

/* A page of the last write is not there. */
static void cut(const char *directory)
{
    static struct tree files;
    uint32_t cuts = 0;
    tree_list(directory, &files);
    for (size_t i = 0; i < files.count; i++) {
        const char *name = files.files[i].path;
        char path[512];
        size_t length = strlen(name);
        size_t bytes = files.files[i].bytes;
        if (length < 4 || strcmp(name + length - 4, ".log") != 0 || bytes < 4 * PAGE_BYTES) {
            continue;
        }
        static const uint8_t zeros[PAGE_BYTES];
        (void)snprintf(path, sizeof path, "%s/%s", directory, name);
        int file = open(path, O_WRONLY | O_CLOEXEC);
        off_t at = (off_t)((bytes / PAGE_BYTES - 2) * PAGE_BYTES);
        assert_int_equal(pwrite(file, zeros, sizeof zeros, at), sizeof zeros);
        (void)close(file);
        cuts++;
    }
    assert_int_equal(cuts, 1);
}

static void make_torn(void)
{
    (void)snprintf(place, sizeof place, "%s/shortage", test_memory_directory());
    (void)snprintf(torn, sizeof torn, "%s.torn", place);
    (void)snprintf(subject, sizeof subject, "%s.subject", place);
    tree_remove(place);
    struct store store;
    const struct store_backend backend = {place, place_open, NULL};
    store_open(&store, &backend);
    store_append(&store, 1, DURABLE, 1);
    struct ls_storage_batch batch = store_batch(&store, DURABLE + 1, 8, 1, 3000);
    char guard[200], kept[200];
    (void)snprintf(guard, sizeof guard, "%s/guard", place);
    (void)snprintf(kept, sizeof kept, "%s.guard", place);
    tree_copy(guard, kept); /* the write is on its way: its guard is the one before */
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store_settle(&store);
    tree_copy(place, torn);
    (void)snprintf(guard, sizeof guard, "%s/guard", torn);
    tree_copy(kept, guard);
    store_close(&store);
    cut(torn);
}

static enum ls_status open_subject(struct ls_error *error)
{
    struct ls_storage_rocksdb_options options = {.size = sizeof options, .directory = subject};
    static const struct ls_storage_sink nobody;
    struct store store = {0};
    enum ls_status status = ls_storage_rocksdb_open(&options, &store.storage, error);
    if (status != LS_OK) {
        return status;
    }
    store.storage.attach(store.storage.self, &nobody);
    status = store_open_group(&store);
    *error = store.error;
    if (status == LS_OK && (store.state.tail_unknown || store.state.last.index != DURABLE)) {
        fail_msg("opens with its log up to %" PRIu64, store.state.last.index);
    }
    if (status != LS_OK) {
        store.group = NULL;
    }
    store_close(&store);
    return status;
}

/* One call fails; false once `k` is beyond the last one. */
static bool one_shortage(enum call call, int reason, long k)
{
    struct ls_error error = {LS_OK, ""};
    tree_copy(torn, subject);
    fault.call = call;
    fault.reason = reason;
    fault.left = k;
    fault.faults = 0;
    enum ls_status status = open_subject(&error);
    fault.call = CALL_NONE;
    bool struck = fault.faults > 0;
    if (status != LS_OK && status != (reason == ENOMEM ? LS_ERR_NO_MEMORY : LS_ERR_IO) &&
        status != LS_ERR_IO) {
        fail_msg("call %ld (%s): %s: %s", k, strerror(reason), ls_status_text(status), error.text);
    }
    assert_true(struck || status == LS_OK);
    if (open_subject(&error) != LS_OK) {
        fail_msg("after call %ld (%s): %s", k, strerror(reason), error.text);
    }
    return struck;
}

static void every_call(enum call call, int reason)
{
    long k = 0;
    make_torn();
    while (one_shortage(call, reason, k)) {
        k++;
    }
    assert_true(k > 0);
}

TEST(shortage, of_descriptors_is_no_damage)
{
    every_call(CALL_OPENAT, EMFILE);
    every_call(CALL_OPEN, EMFILE);
}

TEST(shortage, of_memory_is_no_damage)
{
    every_call(CALL_OPENDIR, ENOMEM);
}

TEST(shortage, error_of_a_listing_is_not_its_end)
{
    every_call(CALL_READDIR, EIO);
}

TEST(shortage, error_of_a_read_is_no_damage)
{
    every_call(CALL_PREAD, EIO);
    every_call(CALL_FREAD, EIO);
}

TEST(shortage, guards_that_cannot_be_listed_are_not_absent)
{
    char path[200];
    struct ls_error error;
    make_torn();
    tree_copy(torn, subject);
    (void)snprintf(path, sizeof path, "%s/log", subject);
    tree_remove(path);
    fault.call = CALL_READDIR;
    fault.reason = EIO;
    fault.left = fault.faults = 0;
    enum ls_status status = open_subject(&error);
    fault.call = CALL_NONE;
    assert_int_equal(fault.faults, 1);
    assert_int_equal(status, LS_ERR_IO);
    assert_int_equal(open_subject(&error), LS_ERR_CORRUPT);
}
