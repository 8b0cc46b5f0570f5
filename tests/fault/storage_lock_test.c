/* SPDX-License-Identifier: MIT */
/* One directory, one store: in this process and among processes. */
#include "process.h"
#include "store.h"

#include <stdio.h>

static enum ls_status open_store(const char *directory, struct ls_storage *out,
                                 struct ls_error *error)
{
    struct ls_storage_rocksdb_options options = {.size = sizeof options, .directory = directory};
    return ls_storage_rocksdb_open(&options, out, error);
}

/* F14 */
TEST(lock, directory_of_another_process_is_refused_with_its_pid)
{
    char data[128];
    char expected[256];
    (void)snprintf(data, sizeof data, "%s/data", test_memory_directory());
    const char *const holder[] = {LS_STORAGE_WRITER, data, "7", "hold", NULL};
    struct process process;
    process_start(&process, holder, NULL);
    assert_string_equal(process_line(&process), "open 0");
    struct ls_storage storage;
    struct ls_error error;
    assert_int_equal(open_store(data, &storage, &error), LS_ERR_LOCKED);
    (void)snprintf(expected, sizeof expected, "open %s: the directory is in use by process %ld",
                   data, (long)process.pid);
    assert_string_equal(error.text, expected);
    assert_int_equal(process_end(&process), 0);
    assert_ok(open_store(data, &storage, &error));
    storage.close(storage.self);
}

TEST(lock, of_a_killed_process_is_free)
{
    char data[128];
    (void)snprintf(data, sizeof data, "%s/data", test_memory_directory());
    const char *const holder[] = {LS_STORAGE_WRITER, data, "7", "hold", NULL};
    struct process process;
    process_start(&process, holder, NULL);
    assert_string_equal(process_line(&process), "open 0");
    process_kill(&process);
    assert_int_equal(process_end(&process), 128 + 9);
    struct ls_storage storage;
    struct ls_error error;
    assert_ok(open_store(data, &storage, &error));
    storage.close(storage.self);
}

TEST(lock, directory_of_the_same_process_is_refused)
{
    char data[128];
    (void)snprintf(data, sizeof data, "%s/data", test_memory_directory());
    struct ls_storage first;
    struct ls_storage second;
    struct ls_error error;
    assert_ok(open_store(data, &first, &error));
    assert_int_equal(open_store(data, &second, &error), LS_ERR_LOCKED);
    first.close(first.self);
    assert_ok(open_store(data, &second, &error));
    second.close(second.self);
}
