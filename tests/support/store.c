/* SPDX-License-Identifier: MIT */
/* A store under test (store.h). */
#include "store.h"

#include <poll.h>
#include <stdlib.h>

static void on_durable(void *self, void *group_context, uint64_t seq)
{
    struct store_log *log = group_context;
    (void)self;
    assert_true(seq > log->durable);
    log->durable = seq;
    log->durable_calls++;
}

static void on_failed(void *self, void *group_context, uint64_t seq, enum ls_status status,
                      const char *text)
{
    struct store_log *log = group_context;
    (void)self;
    log->failed = seq;
    log->failed_calls++;
    log->status = status;
    (void)strncpy(log->text, text, sizeof log->text - 1);
}

struct ls_group_id store_group_id(uint8_t byte)
{
    struct ls_group_id id;
    (void)memset(id.bytes, byte, sizeof id.bytes);
    return id;
}

void store_attach(struct store *store)
{
    static const struct ls_storage_sink sink = {NULL, on_durable, on_failed};
    store->storage.attach(store->storage.self, &sink);
}

void store_open_bare(struct store *store, const struct store_backend *backend)
{
    *store = (struct store){.backend = *backend};
    backend->open(backend->self, &store->storage);
    store_attach(store);
}

enum ls_status store_open_group(struct store *store)
{
    struct ls_group_id id = store_group_id(1);
    store->seq = 0;
    (void)memset(&store->log, 0, sizeof store->log);
    return store->storage.open_group(store->storage.self, &id, &store->log, &store->group,
                                     &store->state, &store->error);
}

void store_open(struct store *store, const struct store_backend *backend)
{
    store_open_bare(store, backend);
    assert_ok(store_open_group(store));
}

void store_close(struct store *store)
{
    if (store->group != NULL) {
        store->storage.close_group(store->storage.self, store->group);
    }
    store->storage.close(store->storage.self);
}

void store_reopen(struct store *store)
{
    struct store_backend backend = store->backend;
    store_close(store);
    store_open(store, &backend);
}

const struct ls_entry *store_entries(ls_index first, uint32_t count, ls_term term, size_t bytes)
{
    static struct ls_entry *entries;
    static uint8_t *payloads;
    entries = realloc(entries, (count + 1) * sizeof *entries);
    payloads = realloc(payloads, (size_t)count * bytes + 1);
    assert_true(entries != NULL && payloads != NULL);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *payload = payloads + (size_t)i * bytes;
        uint64_t mixed = (first + i) * 31 + term;
        for (size_t k = 0; k < bytes; k++) { /* nothing that compresses: tests fill disks with it */
            mixed = mixed * 6364136223846793005u + 1442695040888963407u;
            payload[k] = (uint8_t)(mixed >> 56);
        }
        entries[i] = (struct ls_entry){term, LS_ENTRY_COMMAND, {payload, bytes}};
    }
    return entries;
}

struct ls_storage_batch store_batch(struct store *store, ls_index first, uint32_t count,
                                    ls_term term, size_t bytes)
{
    return (struct ls_storage_batch){.seq = ++store->seq,
                                     .first = first,
                                     .entries = store_entries(first, count, term, bytes),
                                     .count = count};
}

void store_wait(struct store *store)
{
    int descriptor = store->storage.descriptor(store->storage.self);
    if (descriptor >= 0) {
        struct pollfd watched = {descriptor, POLLIN, 0};
        assert_int_equal(poll(&watched, 1, 20000), 1);
    }
    store->storage.collect(store->storage.self);
}

void store_settle(struct store *store)
{
    store->storage.commit(store->storage.self);
    while (store->log.durable < store->seq && store->log.failed_calls == 0) {
        store_wait(store);
    }
}

void store_append(struct store *store, ls_index first, uint32_t count, ls_term term)
{
    struct ls_storage_batch batch = store_batch(store, first, count, term, 16);
    assert_ok(store->storage.stage(store->storage.self, store->group, &batch));
    store_settle(store);
    assert_int_equal(store->log.durable, store->seq);
}

struct expectation {
    ls_index next;
    ls_term term;
    size_t bytes, count;
};

static bool expect_entry(void *arg, ls_index index, const struct ls_entry *entry)
{
    struct expectation *expected = arg;
    assert_int_equal(index, expected->next);
    assert_int_equal(entry->term, expected->term);
    assert_int_equal(entry->data.bytes, expected->bytes);
    const struct ls_entry *same = store_entries(index, 1, expected->term, expected->bytes);
    assert_int_equal(entry->kind, same->kind);
    if (expected->bytes > 0) {
        assert_memory_equal(entry->data.data, same->data.data, expected->bytes);
    }
    expected->next++;
    expected->count++;
    return true;
}

size_t store_expect(struct store *store, ls_index first, ls_index last, ls_term term, size_t bytes)
{
    struct expectation expected = {first, term, bytes, 0};
    assert_ok(store->storage.read(store->storage.self, store->group, first, last, SIZE_MAX,
                                  expect_entry, &expected));
    return expected.count;
}
