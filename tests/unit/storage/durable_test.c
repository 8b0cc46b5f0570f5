/* SPDX-License-Identifier: MIT */
/* The durable store beyond the contract: order of guard and report, threads, limits, memory. */
#include "directory.h"
#include "engine.h"
#include "guard.h"
#include "store.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <xxhash.h>

/* An env with a clock that stands still until it is moved, and an allocator that refuses once. */
struct world {
    struct ls_env env;
    _Atomic uint64_t now_us;
    size_t fail_at, calls;
    _Atomic long live;
};

static uint64_t world_now(void *self)
{
    return ((struct world *)self)->now_us;
}

static void world_entropy(void *self, void *out, size_t bytes)
{
    (void)self;
    (void)memset(out, 0x42, bytes);
}

static void *world_allocate(void *self, void *block, size_t bytes)
{
    struct world *world = self;
    if (bytes == 0) {
        world->live -= block != NULL ? 1 : 0;
        free(block);
        return NULL;
    }
    if (++world->calls == world->fail_at) {
        return NULL;
    }
    void *result = realloc(block, bytes);
    world->live += block == NULL && result != NULL ? 1 : 0;
    return result;
}

static void world_start(struct world *world)
{
    *world = (struct world){.env = *ls_env_default(), .now_us = 1000000};
    world->env.self = world;
    world->env.now_us = world_now;
    world->env.entropy = world_entropy;
    world->env.allocate = world_allocate;
}

struct place {
    char directory[128];
    const struct ls_env *env;
};

static void place_open(void *self, struct ls_storage *out)
{
    const struct place *place = self;
    struct ls_storage_rocksdb_options options = {
        .size = sizeof options, .directory = place->directory, .env = place->env};
    assert_ok(ls_storage_rocksdb_open(&options, out, NULL));
}

static void place_start(struct place *place, const struct ls_env *env)
{
    *place = (struct place){.env = env};
    (void)snprintf(place->directory, sizeof place->directory, "%s/data", test_memory_directory());
}

/* What the guard file of group 1 says now. */
static struct ls__guard guard_on_disk(const struct place *place)
{
    char path[160];
    uint8_t image[LS__GUARD_FILE_BYTES];
    size_t bytes;
    int file;
    bool torn;
    const char *reason = "";
    struct ls__guard guard;
    struct ls_group_id id = store_group_id(1);
    (void)snprintf(path, sizeof path, "%s/guard", place->directory);
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_ok(ls__guard_file_open(directory, &id, &file, image, &bytes));
    assert_ok(ls__guard_decode((struct ls_span){image, bytes}, &id, &guard, &torn, &reason));
    assert_false(torn);
    (void)close(file);
    (void)close(directory);
    return guard;
}

static const struct place *watched_place;
static ls_term reported_term;

static void on_durable(void *self, void *context, uint64_t seq)
{
    (void)self;
    (void)context;
    (void)seq;
    reported_term = guard_on_disk(watched_place).hard.term;
}

static void on_failed(void *self, void *context, uint64_t seq, enum ls_status status,
                      const char *text)
{
    (void)self;
    (void)context;
    (void)seq;
    (void)status;
    fail_msg("%s", text);
}

TEST(durable, guard_holds_the_vote_before_it_is_reported)
{
    static const struct ls_storage_sink sink = {NULL, on_durable, on_failed};
    struct place place;
    place_start(&place, NULL);
    watched_place = &place;
    struct store store = {0};
    place_open(&place, &store.storage);
    store.storage.attach(store.storage.self, &sink);
    assert_ok(store_open_group(&store));
    for (ls_term term = 1; term <= 5; term++) {
        struct ls_hard_state hard = {term, true, {{(uint8_t)term}}};
        struct ls_storage_batch batch = {.seq = term, .hard_state = &hard};
        assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
        store.storage.commit(store.storage.self);
        reported_term = 0;
        while (reported_term == 0) {
            store_wait(&store);
        }
        assert_int_equal(reported_term, term);
    }
    store_close(&store);
}

TEST(durable, guard_cursor_is_synced_once_a_second_under_load_and_at_close)
{
    struct world world;
    struct place place;
    struct store store;
    world_start(&world);
    place_start(&place, &world.env);
    const struct store_backend backend = {&place, place_open, NULL};
    store_open(&store, &backend);
    store_append(&store, 1, 5, 1);
    store_append(&store, 6, 5, 1);
    assert_int_equal(guard_on_disk(&place).last.at.index, 0);
    world.now_us += 2 * LS__GUARD_PERIOD_US;
    /* due now: done before the writer takes the next buffer */
    store_append(&store, 11, 5, 1);
    assert_int_equal(guard_on_disk(&place).last.at.index, 10);
    struct ls_storage_counters counters;
    store.storage.counters(store.storage.self, &counters);
    assert_int_equal(counters.guard_syncs, 1);
    store_close(&store);
    assert_int_equal(guard_on_disk(&place).last.at.index, 15);
    assert_int_equal(world.live, 0);
}

TEST(durable, closed_group_leaves_an_exact_guard)
{
    struct place place;
    struct store store;
    place_start(&place, NULL);
    const struct store_backend backend = {&place, place_open, NULL};
    store_open(&store, &backend);
    store_append(&store, 1, 7, 3);
    store.storage.close_group(store.storage.self, store.group);
    assert_ok(store_open_group(&store)); /* waits for the old one to be gone */
    struct ls__guard guard = guard_on_disk(&place);
    assert_int_equal(guard.last.at.index, 7);
    assert_int_equal(guard.last.at.term, 3);
    store_close(&store);
}

TEST(durable, threads_block_all_signals)
{
    struct place place;
    struct store store;
    place_start(&place, NULL);
    const struct store_backend backend = {&place, place_open, NULL};
    store_open(&store, &backend);
    store_append(&store, 1, 7, 3);
    DIR *tasks = opendir("/proc/self/task");
    assert_non_null(tasks);
    struct dirent *task;
    size_t others = 0;
    while ((task = readdir(tasks)) != NULL) {
        char path[320];
        char line[256];
        if (task->d_name[0] == '.' || strtol(task->d_name, NULL, 10) == getpid()) {
            continue;
        }
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *status = fopen(path, "r");
        while (status != NULL && fgets(line, sizeof line, status) != NULL) {
            uint64_t blocked;
            if (sscanf(line, "SigBlk: %" SCNx64, &blocked) == 1) {
                assert_true((blocked >> (SIGTERM - 1) & 1) == 1);
                assert_true((blocked >> (SIGINT - 1) & 1) == 1);
                assert_true((blocked >> (SIGUSR1 - 1) & 1) == 1);
                others++;
            }
        }
        if (status != NULL) {
            (void)fclose(status);
        }
    }
    (void)closedir(tasks);
    assert_true(others > 0);
    store_close(&store);
}

TEST(durable, absurd_amount_of_staged_bytes_is_busy)
{
    static uint8_t payload[LS_ENTRY_BYTES_MAX];
    struct place place;
    struct store store;
    place_start(&place, NULL);
    const struct store_backend backend = {&place, place_open, NULL};
    store_open(&store, &backend);
    const struct ls_entry entry = {1, LS_ENTRY_COMMAND, {payload, sizeof payload}};
    struct ls_storage_batch batch = {.entries = &entry, .count = 1};
    enum ls_status status = LS_OK;
    while (status == LS_OK && store.seq < 100) {
        batch.seq = batch.first = store.seq + 1;
        status = store.storage.stage(store.storage.self, store.group, &batch);
        store.seq += status == LS_OK ? 1 : 0;
    }
    assert_int_equal(status, LS_ERR_BUSY);
    assert_int_equal(store.seq, LS_STORAGE_STAGED_BYTES_MAX / LS_ENTRY_BYTES_MAX - 1);
    /* a small one would fit, but its report would say that the refused one is durable */
    struct ls_storage_batch later = {.seq = batch.seq + 1, .commit_hint = 1};
    assert_int_equal(store.storage.stage(store.storage.self, store.group, &later), LS_ERR_BUSY);
    store_settle(&store);
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store.seq++;
    store_settle(&store);
    assert_int_equal(store.log.durable, store.seq);
    store_close(&store);
}

/* The store's own record, written as `bytes` (0: left out). */
static void make_store_record(const struct place *place, struct ls_span bytes)
{
    char path[160];
    struct ls__directory directory;
    struct ls__engine *engine;
    assert_ok(ls__directory_open(place->directory, &directory, NULL));
    (void)snprintf(path, sizeof path, "%s/log", place->directory);
    assert_ok(ls__engine_open(ls_env_default(), path, true, 1u << 20, &engine, NULL));
    if (bytes.bytes > 0) {
        const struct ls_span value[2] = {bytes, {NULL, 0}};
        struct ls__engine_batch *batch = ls__engine_batch_open();
        ls__engine_batch_put(engine, batch, LS__FAMILY_META, (struct ls_span){"store", 5}, value);
        assert_ok(ls__engine_write(engine, batch, NULL));
        ls__engine_batch_close(batch);
    }
    ls__engine_close(engine);
    ls__directory_close(&directory);
}

static enum ls_status open_place(const struct place *place, struct ls_error *error)
{
    struct ls_storage storage;
    struct ls_storage_rocksdb_options options = {.size = sizeof options,
                                                 .directory = place->directory};
    enum ls_status status = ls_storage_rocksdb_open(&options, &storage, error);
    if (status == LS_OK) {
        storage.close(storage.self);
    }
    return status;
}

TEST(durable, directory_of_somebody_else_is_refused)
{
    struct place place;
    struct ls_error error;
    place_start(&place, NULL);
    make_store_record(&place, (struct ls_span){NULL, 0});
    assert_int_equal(open_place(&place, &error), LS_ERR_CORRUPT);
    assert_non_null(strstr(error.text, "not one of Lockstep's"));
}

/* Reseals a cell as a version after this one would. */
static void reseal(uint8_t *cell, size_t bytes, uint64_t group)
{
    uint64_t seed = XXH3_64bits_withSeed(cell, 8, group);
    ls__put_u64(cell + 8, XXH3_64bits_withSeed(cell + LS__CELL_HEADER_BYTES,
                                               bytes - LS__CELL_HEADER_BYTES, seed));
}

/* F18 */
TEST(durable, directory_of_a_newer_version_is_refused)
{
    struct place place;
    struct ls_error error;
    uint8_t cell[LS__STORE_BYTES] = {0};
    static const struct ls_group_id no_group;
    place_start(&place, NULL);
    (void)ls__cell_seal(ls__record_group(&no_group), LS__CELL_STORE, cell, 16);
    cell[0] = LS__FORMAT + 1;
    reseal(cell, sizeof cell, ls__record_group(&no_group));
    make_store_record(&place, (struct ls_span){cell, sizeof cell});
    assert_int_equal(open_place(&place, &error), LS_ERR_FORMAT);
    assert_non_null(strstr(error.text, "format version that this build does not read"));
}

TEST(durable, options_of_a_newer_caller_are_taken_if_they_ask_for_nothing_new)
{
    struct {
        struct ls_storage_rocksdb_options known;
        uint64_t added;
    } options = {.known = {.size = sizeof options}};
    struct place place;
    struct ls_storage storage;
    struct ls_error error;
    place_start(&place, NULL);
    options.known.directory = place.directory;
    assert_ok(ls_storage_rocksdb_open(&options.known, &storage, &error));
    storage.close(storage.self);
    options.added = 1;
    assert_int_equal(ls_storage_rocksdb_open(&options.known, &storage, &error), LS_ERR_INVALID);
    options.known.size = 0;
    assert_int_equal(ls_storage_rocksdb_open(&options.known, &storage, &error), LS_ERR_INVALID);
    assert_string_equal(error.text, "open store: options.size is smaller than the struct");
}

/* Opens, appends, truncates, prunes, closes and looks; what is refused is tried once more. */
static void history(struct world *world, const struct place *place)
{
    struct store store = {0};
    struct ls_storage_rocksdb_options options = {
        .size = sizeof options, .directory = place->directory, .env = &world->env};
    enum ls_status status = ls_storage_rocksdb_open(&options, &store.storage, &store.error);
    if (status != LS_OK) {
        assert_int_equal(status, LS_ERR_NO_MEMORY);
        assert_ok(ls_storage_rocksdb_open(&options, &store.storage, NULL));
    }
    store_attach(&store);
    status = store_open_group(&store);
    if (status != LS_OK) {
        assert_int_equal(status, LS_ERR_NO_MEMORY);
        assert_ok(store_open_group(&store));
    }
    ls_index last = store.state.last.index;
    for (uint64_t i = 1; i <= 4; i++) {
        struct ls_storage_batch batch =
            store_batch(&store, last + 1, 50, store.state.last.term + i, 100);
        if (i == 3) {
            batch.truncate = true;
            batch.truncate_from = batch.first = last - 10;
            last -= 11;
        }
        status = store.storage.stage(store.storage.self, store.group, &batch);
        if (status != LS_OK) {
            assert_int_equal(status, LS_ERR_NO_MEMORY);
            assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
        }
        last += 50;
        store_settle(&store);
        assert_int_equal(store.log.failed_calls, 0);
    }
    status = store.storage.prune(store.storage.self, store.group, last - 100);
    assert_true(status == LS_OK || status == LS_ERR_NO_MEMORY);
    store_close(&store);
    assert_int_equal(world->live, 0);
    world->fail_at = 0;
    const struct store_backend backend = {(void *)(uintptr_t)place, place_open, NULL};
    store_open(&store, &backend);
    assert_int_equal(store.state.last.index, last);
    assert_false(store.state.tail_unknown);
    store_close(&store);
}

TEST(durable, refused_allocation_changes_nothing_and_leaks_nothing)
{
    static struct world world;
    struct place place;
    world_start(&world);
    place_start(&place, &world.env);
    history(&world, &place);
    size_t calls = world.calls;
    assert_true(calls > 10);
    for (size_t at = 1; at <= calls; at++) {
        world.calls = 0;
        world.fail_at = at;
        history(&world, &place);
    }
}
