/* SPDX-License-Identifier: MIT */
/*
 * A store under test: any backend, a sink that records, one group at hand, and short ways to stage,
 * settle and read.
 */
#ifndef LOCKSTEP_TEST_STORE_H
#define LOCKSTEP_TEST_STORE_H

#include "test.h"

#include <lockstep/storage.h>
#include <lockstep/storage_memory.h>

/** Where a store is kept; `open` after a close finds what was there. */
struct store_backend {
    void *self;
    void (*open)(void *self, struct ls_storage *out);
    void (*close)(void *self); /* of the place */
};

/** What the sink was told about one group. */
struct store_log {
    uint64_t durable, failed;
    uint64_t durable_calls, failed_calls;
    enum ls_status status;
    char text[LS_ERROR_TEXT_BYTES];
};

struct store {
    struct store_backend backend;
    struct ls_storage storage;
    struct ls_storage_group *group;
    struct ls_storage_state state;
    struct store_log log;
    uint64_t seq;
    struct ls_error error;
};

/** A group id of repeated bytes. */
struct ls_group_id store_group_id(uint8_t byte);

/** Opens the store, and group 1 into store->group. */
void store_open(struct store *store, const struct store_backend *backend);
/** Opens the store alone. */
void store_open_bare(struct store *store, const struct store_backend *backend);
/** Attaches the recording sink to a storage that the test opened itself. */
void store_attach(struct store *store);
/** Opens group 1 into store->group; store->error tells why not. */
enum ls_status store_open_group(struct store *store);
void store_close(struct store *store);
/** Closes and opens again, with group 1. */
void store_reopen(struct store *store);

/** An entry whose payload is made from its index; lives until the next call. */
const struct ls_entry *store_entries(ls_index first, uint32_t count, ls_term term, size_t bytes);

/** A batch with the next seq and entries first .. first + count - 1 of store_entries. */
struct ls_storage_batch store_batch(struct store *store, ls_index first, uint32_t count,
                                    ls_term term, size_t bytes);
/** Stages that batch and settles. */
void store_append(struct store *store, ls_index first, uint32_t count, ls_term term);
/** Commits, and collects until everything staged is durable or failed. */
void store_settle(struct store *store);
/** Waits for the descriptor and collects once. */
void store_wait(struct store *store);

/** Reads first..last; asserts that each is what store_entries made with that term; returns how
 * many. */
size_t store_expect(struct store *store, ls_index first, ls_index last, ls_term term, size_t bytes);

#endif
