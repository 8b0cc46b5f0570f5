/* SPDX-License-Identifier: MIT */
/* The storage contract over the memory store. */
#include "storage_suite.h"

static void place_open(void *self, struct ls_storage *out)
{
    assert_ok(ls_storage_memory_open_on(self, out, NULL));
}

static void place_close(void *self)
{
    ls_storage_medium_close(self);
}

static void memory_open(struct store_backend *out)
{
    struct ls_storage_medium *medium;
    assert_ok(ls_storage_medium_open(NULL, &medium));
    *out = (struct store_backend){medium, place_open, place_close};
}

#define RUN(test)                                                                                  \
    TEST(memory, test)                                                                             \
    {                                                                                              \
        storage_suite_##test(memory_open);                                                         \
    }
STORAGE_SUITE_TESTS(RUN)

TEST(memory, plain_store_needs_no_medium)
{
    struct ls_storage storage;
    struct ls_storage_memory_options options = {.size = sizeof options};
    assert_ok(ls_storage_memory_open(&options, &storage, NULL));
    assert_int_equal(storage.descriptor(storage.self), -1);
    storage.close(storage.self);
    assert_ok(ls_storage_memory_open(NULL, &storage, NULL));
    storage.close(storage.self);
    options.size = 1;
    assert_int_equal(ls_storage_memory_open(&options, &storage, NULL), LS_ERR_INVALID);
}
