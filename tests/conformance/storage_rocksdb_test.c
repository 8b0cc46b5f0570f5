/* SPDX-License-Identifier: MIT */
/* The storage contract over the RocksDB store. */
#include "storage_suite.h"

static char directory[128];

static void place_open(void *self, struct ls_storage *out)
{
    struct ls_storage_rocksdb_options options = {.size = sizeof options, .directory = self};
    assert_ok(ls_storage_rocksdb_open(&options, out, NULL));
}

static void rocksdb_open(struct store_backend *out)
{
    (void)strncpy(directory, test_directory(), sizeof directory - 1);
    *out = (struct store_backend){directory, place_open, NULL};
}

#define RUN(test)                                                                                  \
    TEST(rocksdb, test)                                                                            \
    {                                                                                              \
        storage_suite_##test(rocksdb_open);                                                        \
    }
STORAGE_SUITE_TESTS(RUN)
