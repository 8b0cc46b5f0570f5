/* SPDX-License-Identifier: MIT */
/* Pictures of the state: what is in them, the same in memory and in RocksDB; and the way back. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kv_limits.h"
#include "kv_support.h"
#include "picture.h"
#include "text.h"

static const struct ls_group_id group = {{1, 2, 3}};
static const struct ls_incarnation incarnation = {{4, 5, 6}};

static void store_start(struct kv_store *store, const char *directory, ls_index expected)
{
    ls_index applied = 0;
    struct ls_error error = {0};
    if (directory == NULL) {
        assert_ok(kv_store_memory_open(store));
    } else {
        assert_ok(kv_store_rocksdb_open(directory, store));
    }
    if (store->open(store->self, &group, &incarnation, &applied, &error) != LS_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(applied, expected);
}

static void begin(struct kv_store *store)
{
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = store->begin(store->self);
    }
    assert_ok(status);
}

/* A freeze that is refused has too many layers before it that are not written yet. */
static void freeze(struct kv_store *store, struct ls_frozen *out)
{
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = store->freeze(store->self, out);
        if (status == LS_ERR_BUSY) {
            (void)store->durable(store->self);
        }
    }
    assert_ok(status);
}

static uint64_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 20;
}

/* One random write to all stores. The empty key is one, too. */
static void random_write(struct kv_store *const *stores, size_t count, uint64_t random)
{
    static char value[300000];
    char key[16] = "";
    unsigned number = (unsigned)(random >> 10) % 200;
    size_t key_bytes = number == 0 ? 0 : (size_t)snprintf(key, sizeof key, "k%u", number);
    size_t bytes = (size_t)(random >> 16) % (random % 8 == 1 ? sizeof value : 500);
    (void)memset(value, (char)('a' + random % 26), bytes);
    for (size_t i = 0; i < count; i++) {
        struct kv_store *store = stores[i];
        const struct ls_span name = {key, key_bytes};
        if (random % 500 == 0) {
            assert_ok(store->clear(store->self));
        } else if (random % 4 == 0) {
            enum ls_status status = store->remove(store->self, name);
            assert_true(status == LS_OK || status == LS_ERR_NOT_FOUND);
        } else {
            assert_ok(store->put(store->self, name, (struct ls_span){value, bytes}));
        }
    }
}

static void random_batch(struct kv_store *const *stores, size_t count, uint64_t *random,
                         ls_index index)
{
    for (size_t i = 0; i < count; i++) {
        begin(stores[i]);
    }
    for (uint64_t n = random_next(random) % 8 + 1; n > 0; n--) {
        random_write(stores, count, random_next(random));
    }
    for (size_t i = 0; i < count; i++) {
        assert_ok(stores[i]->commit(stores[i]->self, index));
    }
}

/* The hashes of all chunks of a picture, and how many items are in it. */
struct cut {
    struct ls_hash hashes[4000];
    size_t chunks;
    uint64_t items, bytes;
};

/* As a provider cuts it, but into small pieces; `step` > 1: only every so manieth, so that each
 * begins with a search. */
static void cut(struct kv_store *store, const struct ls_frozen *frozen, struct cut *out)
{
    struct ls_chunk_builder builder = {.env = ls_env_default(), .bytes_max = 20000};
    *out = (struct cut){.chunks = 0};
    bool more = frozen->items > 0;
    while (more) {
        const struct ls_span from = {builder.next, builder.next_bytes};
        ls_chunk_begin(&builder);
        assert_ok(store->iterate(store->self, frozen, from, ls_chunk_visit, &builder));
        assert_ok(builder.failed);
        assert_true(out->chunks < sizeof out->hashes / sizeof out->hashes[0]);
        out->hashes[out->chunks++] =
            ls_chunk_hash(ls_env_default(), (struct ls_span){builder.data, builder.bytes});
        out->items += builder.items;
        out->bytes += builder.item_bytes;
        more = builder.full;
    }
    assert_int_equal(out->items, frozen->items);
    assert_int_equal(out->bytes, frozen->bytes);
    ls_chunk_builder_free(&builder);
}

static void assert_same(const struct cut *one, const struct cut *other)
{
    assert_int_equal(one->chunks, other->chunks);
    assert_memory_equal(one->hashes, other->hashes, one->chunks * sizeof one->hashes[0]);
}

static struct cut first_cut, second_cut;

TEST(pictures, of_memory_and_rocksdb_are_the_same_bytes_while_both_go_on)
{
    enum { ROUNDS = 30, BATCHES = 12 };
    struct kv_store memory, rocks;
    struct kv_store *const stores[2] = {&memory, &rocks};
    struct ls_frozen held[2][2] = {{{0}}};
    struct cut *kept = calloc(2, sizeof *kept);
    uint64_t random = test_seed();
    assert_non_null(kept);
    store_start(&memory, NULL, 0);
    store_start(&rocks, test_memory_directory(), 0);
    for (int round = 0; round < ROUNDS; round++) {
        size_t at = (size_t)round % 2;
        if (held[at][0].handle != NULL) { /* two rounds old, and nothing of it has changed */
            for (size_t i = 0; i < 2; i++) {
                cut(stores[i], &held[at][i], &first_cut);
                assert_same(&first_cut, &kept[at]);
                stores[i]->thaw(stores[i]->self, &held[at][i]);
            }
        }
        for (ls_index i = 1; i <= BATCHES; i++) {
            random_batch(stores, 2, &random, (ls_index)round * BATCHES + i);
        }
        for (size_t i = 0; i < 2; i++) {
            freeze(stores[i], &held[at][i]);
        }
        assert_int_equal(held[at][0].items, memory.count(memory.self));
        cut(&memory, &held[at][0], &first_cut);
        cut(&rocks, &held[at][1], &second_cut);
        assert_same(&first_cut, &second_cut);
        kept[at] = first_cut;
    }
    for (size_t i = 0; i < 4; i++) {
        stores[i % 2]->thaw(stores[i % 2]->self, &held[i / 2][i % 2]);
    }
    memory.close(memory.self);
    rocks.close(rocks.self);
    free(kept);
}

struct collected {
    struct kv_buffer bytes;
    size_t left; /* visits until it stops */
    size_t items, starts[200];
};

static bool collect(void *arg, const struct ls_item *item)
{
    struct collected *collected = arg;
    if (collected->left == 0) {
        return false;
    }
    collected->left--;
    if (collected->items < sizeof collected->starts / sizeof collected->starts[0]) {
        collected->starts[collected->items++] = kv_buffer_bytes(&collected->bytes);
    }
    kv_buffer_append(&collected->bytes, item->key.data, item->key.bytes);
    kv_buffer_append(&collected->bytes, item->value.data, item->value.bytes);
    return true;
}

static bool is_part(const struct collected *whole, const struct collected *part)
{
    struct ls_span all = kv_buffer_span(&whole->bytes);
    struct ls_span some = kv_buffer_span(&part->bytes);
    bool found = false;
    for (size_t i = 0; i < whole->items && !found; i++) {
        size_t at = whole->starts[i];
        found = some.bytes <= all.bytes - at &&
                memcmp((const char *)all.data + at, some.data, some.bytes) == 0;
    }
    return found;
}

/* From any key, in any order of asking, also for the same place again. */
TEST(pictures, can_be_read_from_any_item_on)
{
    for (int kind = 0; kind < 2; kind++) {
        struct kv_store store;
        struct kv_store *const stores[1] = {&store};
        struct ls_frozen frozen;
        struct collected all = {.left = SIZE_MAX};
        uint64_t random = test_seed();
        store_start(&store, kind == 0 ? NULL : test_memory_directory(), 0);
        for (ls_index index = 1; index <= 100; index++) {
            random_batch(stores, 1, &random, index);
        }
        assert_ok(store.freeze(store.self, &frozen));
        assert_ok(store.iterate(store.self, &frozen, (struct ls_span){NULL, 0}, collect, &all));
        for (uint64_t i = 0; i < 200; i++) {
            char key[32];
            unsigned number = (unsigned)random_next(&random) % 200;
            int bytes = number == 0 ? snprintf(key, sizeof key, "k")
                                    : snprintf(key, sizeof key, "kk%u", number);
            struct ls_span value;
            if (store.get(store.self, (struct ls_span){key + 1, (size_t)bytes - 1}, &value) !=
                LS_OK) {
                continue;
            }
            struct collected some = {.left = random_next(&random) % 5 + 1};
            assert_ok(store.iterate(store.self, &frozen, (struct ls_span){key, (size_t)bytes},
                                    collect, &some));
            struct ls_span part = kv_buffer_span(&some.bytes);
            assert_true(part.bytes >= (size_t)bytes);
            assert_memory_equal(part.data, key, (size_t)bytes);
            assert_true(is_part(&all, &some));
            kv_buffer_free(&some.bytes);
        }
        store.thaw(store.self, &frozen);
        store.close(store.self);
        kv_buffer_free(&all.bytes);
    }
}

/* ---- the way back ---- */

struct way {
    struct kv_store *to;
    enum ls_status status;
};

static bool carry(void *arg, const struct ls_item *item)
{
    struct way *way = arg;
    way->status = LS_ERR_BUSY;
    while (way->status == LS_ERR_BUSY) {
        way->status = way->to->restore_item(way->to->self, item);
    }
    return way->status == LS_OK;
}

static void carry_all(struct kv_store *from, const struct ls_frozen *frozen, struct kv_store *to)
{
    struct way way = {to, LS_OK};
    assert_ok(from->iterate(from->self, frozen, (struct ls_span){NULL, 0}, carry, &way));
    assert_ok(way.status);
}

/* Folders with a number, that is states, in a directory. */
static int states_in(const char *directory)
{
    int count = 0;
    DIR *list = opendir(directory);
    assert_non_null(list);
    for (struct dirent *entry = readdir(list); entry != NULL; entry = readdir(list)) {
        count += atoi(entry->d_name) > 0 ? 1 : 0;
    }
    (void)closedir(list);
    return count;
}

/* The thread that builds makes its folder, and takes it away. */
static void wait_states(const char *directory, int count)
{
    while (states_in(directory) != count) {
        (void)sched_yield();
    }
}

static const struct ls_cursor anchor = {3, 1000};

/* Until it is built. */
static enum ls_status publish(struct kv_store *store)
{
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = store->publish(store->self, anchor);
    }
    return status;
}

static enum ls_status restore_sync(struct kv_store *store)
{
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = store->restore_sync(store->self);
    }
    return status;
}

TEST(restored, state_is_that_of_the_picture_and_is_found_at_the_next_open)
{
    for (int from_kind = 0; from_kind < 2; from_kind++) {
        const char *directory = test_memory_directory();
        struct kv_store from, to;
        struct kv_store *const froms[1] = {&from};
        struct kv_store *const tos[1] = {&to};
        struct ls_frozen frozen, old, again;
        uint64_t random = test_seed();
        store_start(&from, from_kind == 0 ? NULL : test_memory_directory(), 0);
        store_start(&to, directory, 0);
        for (ls_index index = 1; index <= 100; index++) {
            random_batch(froms, 1, &random, index);
            random_batch(tos, 1, &random, index);
        }
        assert_ok(from.freeze(from.self, &frozen));
        assert_ok(to.freeze(to.self, &old));
        cut(&to, &old, &second_cut);
        assert_ok(to.restore(to.self, anchor));
        carry_all(&from, &frozen, &to);
        random_batch(tos, 1, &random, 101); /* the old state goes on meanwhile */
        assert_ok(publish(&to));
        assert_ok(publish(&to)); /* again: it is done */
        assert_int_equal(to.durable(to.self), anchor.index);
        cut(&to, &old, &first_cut); /* pictures of the old state stay */
        assert_same(&first_cut, &second_cut);
        to.thaw(to.self, &old);
        cut(&from, &frozen, &first_cut);
        for (int round = 0; round < 2; round++) {
            assert_int_equal(to.count(to.self), frozen.items);
            assert_ok(to.freeze(to.self, &again));
            cut(&to, &again, &second_cut);
            assert_same(&first_cut, &second_cut);
            to.thaw(to.self, &again);
            to.close(to.self);
            assert_int_equal(states_in(directory), 1);
            store_start(&to, directory, anchor.index);
        }
        /* and both go on alike */
        struct kv_store *const both[2] = {&from, &to};
        random_batch(both, 2, &random, anchor.index + 1);
        assert_int_equal(to.count(to.self), from.count(from.self));
        from.thaw(from.self, &frozen);
        from.close(from.self);
        to.close(to.self);
    }
}

TEST(restored, state_may_be_empty)
{
    const char *directory = test_memory_directory();
    struct kv_store store;
    store_start(&store, directory, 0);
    begin(&store);
    assert_ok(store.put(store.self, text_span("old"), text_span("1")));
    assert_ok(store.commit(store.self, 1));
    assert_ok(store.restore(store.self, anchor));
    assert_ok(publish(&store));
    assert_int_equal(store.count(store.self), 0);
    store.close(store.self);
    store_start(&store, directory, anchor.index);
    assert_int_equal(store.count(store.self), 0);
    store.close(store.self);
}

TEST(restored, state_that_is_given_up_leaves_the_present_one_and_no_files)
{
    const char *directory = test_memory_directory();
    struct kv_store store;
    struct ls_span value;
    const struct ls_item items[2] = {{text_span("ka"), text_span("1")},
                                     {text_span("kb"), text_span("2")}};
    bool swap = kv_key_hash(text_span("a")) > kv_key_hash(text_span("b"));
    store_start(&store, directory, 0);
    begin(&store);
    assert_ok(store.put(store.self, text_span("old"), text_span("1")));
    assert_ok(store.commit(store.self, 1));
    assert_int_equal(store.restore_item(store.self, &items[0]), LS_ERR_INVALID);
    assert_int_equal(publish(&store), LS_ERR_INVALID);
    assert_ok(store.restore(store.self, anchor));
    assert_ok(store.restore_item(store.self, &items[swap ? 0 : 1]));
    const struct ls_item foreign = {text_span("x"), text_span("1")};
    assert_int_equal(store.restore_item(store.self, &foreign), LS_ERR_INVALID);
    wait_states(directory, 2);
    assert_ok(store.restore_item(store.self, &items[swap ? 1 : 0])); /* out of order */
    assert_int_equal(restore_sync(&store), LS_ERR_INVALID);
    assert_int_equal(restore_sync(&store), LS_ERR_INVALID);
    store.restore_end(store.self);
    store.restore_end(store.self);
    wait_states(directory, 1);
    assert_ok(store.restore(store.self, anchor)); /* and this one is left by the close */
    assert_ok(store.restore_item(store.self, &items[0]));
    assert_ok(store.get(store.self, text_span("old"), &value));
    store.close(store.self);
    assert_int_equal(states_in(directory), 1);
    store_start(&store, directory, 1);
    assert_ok(store.get(store.self, text_span("old"), &value));
    store.close(store.self);
}

/* ---- a disk that hangs ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hangs;
    ino_t fails; /* what cannot be synced; 0: nothing */
    uint64_t waiting;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

int fsync(int descriptor);
int fsync(int descriptor)
{
    (void)pthread_mutex_lock(&disk.lock);
    disk.waiting++;
    (void)pthread_cond_broadcast(&disk.changed);
    while (disk.hangs) {
        (void)pthread_cond_wait(&disk.changed, &disk.lock);
    }
    disk.waiting--;
    struct stat info;
    bool fails = disk.fails != 0 && fstat(descriptor, &info) == 0 && info.st_ino == disk.fails;
    (void)pthread_mutex_unlock(&disk.lock);
    if (fails) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, descriptor);
}

static void disk_hang(bool on)
{
    (void)pthread_mutex_lock(&disk.lock);
    disk.hangs = on;
    (void)pthread_cond_broadcast(&disk.changed);
    (void)pthread_mutex_unlock(&disk.lock);
}

static void disk_wait(void)
{
    (void)pthread_mutex_lock(&disk.lock);
    while (disk.waiting == 0) {
        (void)pthread_cond_wait(&disk.changed, &disk.lock);
    }
    (void)pthread_mutex_unlock(&disk.lock);
}

TEST(restored, state_is_given_up_and_begun_again_without_waiting_for_the_disk)
{
    const char *directory = test_memory_directory();
    struct kv_store store;
    const struct ls_item item = {text_span("ka"), text_span("1")};
    store_start(&store, directory, 0);
    disk_hang(true);
    enum ls_status status = LS_OK;
    size_t begun = 0;
    for (; begun < 20 && status == LS_OK; begun++) {
        status = store.restore(store.self, anchor);
        if (status == LS_OK) {
            assert_ok(store.restore_item(store.self, &item));
            disk_wait();
            assert_int_equal(store.restore_sync(store.self), LS_ERR_BUSY);
            store.restore_end(store.self);
        }
    }
    assert_int_equal(status, LS_ERR_BUSY); /* what hangs is bounded */
    assert_true(begun > 2);
    disk_hang(false);
    while (status == LS_ERR_BUSY) {
        status = store.restore(store.self, anchor);
        (void)sched_yield();
    }
    assert_ok(status);
    assert_ok(store.restore_item(store.self, &item));
    assert_ok(publish(&store));
    assert_int_equal(store.count(store.self), 1);
    store.close(store.self);
    assert_int_equal(states_in(directory), 1);
}

/* Who switched may have ended before that was durable: the old state goes only afterwards. */
TEST(restored, state_that_an_open_finds_is_synced_before_the_other_goes)
{
    const char *directory = test_memory_directory();
    struct kv_store store;
    char folder[PATH_MAX];
    struct stat info;
    ls_index applied = 0;
    store_start(&store, directory, 0);
    assert_ok(store.restore(store.self, anchor));
    assert_ok(publish(&store));
    store.close(store.self);
    (void)snprintf(folder, sizeof folder, "%s/1", directory); /* as if it had not gone yet */
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(stat(directory, &info), 0);
    disk.fails = info.st_ino;
    assert_ok(kv_store_rocksdb_open(directory, &store));
    assert_int_equal(store.open(store.self, &group, &incarnation, &applied, NULL), LS_ERR_IO);
    assert_int_equal(states_in(directory), 2);
    store.close(store.self);
    disk.fails = 0;
    store_start(&store, directory, anchor.index);
    assert_int_equal(states_in(directory), 1);
    store.close(store.self);
}

/* ---- what a crash leaves ---- */

static void file_write(const char *directory, const char *name, const char *text)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    (void)fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

TEST(directory, is_cleaned_at_open_of_what_is_not_current)
{
    const char *directory = test_memory_directory();
    char folder[512];
    struct kv_store store;
    store_start(&store, directory, 0);
    store.close(store.self);
    (void)snprintf(folder, sizeof folder, "%s/2", directory);
    assert_int_equal(mkdir(folder, 0700), 0);
    file_write(folder, "part-0.new", "half");
    file_write(directory, "current.new", "lockstep-kv state 2\n");
    store_start(&store, directory, 0);
    assert_int_equal(states_in(directory), 1);
    store.close(store.self);
}

TEST(directory, whose_file_current_is_damaged_or_missing_is_refused)
{
    static const char *const wrong[] = {"",
                                        "lockstep-kv state",
                                        "lockstep-kv state 0\n",
                                        "lockstep-kv state 7\n",
                                        "lockstep-kv state 1",
                                        "lockstep-kv state 1\nx"};
    const char *directory = test_memory_directory();
    char path[512];
    struct kv_store store;
    ls_index applied = 0;
    struct ls_error error = {0};
    store_start(&store, directory, 0);
    store.close(store.self);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        file_write(directory, "current", wrong[i]);
        assert_ok(kv_store_rocksdb_open(directory, &store));
        assert_int_equal(store.open(store.self, &group, &incarnation, &applied, &error),
                         LS_ERR_CORRUPT);
        assert_non_null(strstr(error.text, directory));
        store.close(store.self);
    }
    (void)snprintf(path, sizeof path, "%s/current", directory);
    assert_int_equal(unlink(path), 0);
    store_start(&store, directory, 0); /* the only state there is */
    store.close(store.self);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(path, sizeof path, "%s/2", directory);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_ok(kv_store_rocksdb_open(directory, &store));
    assert_int_equal(store.open(store.self, &group, &incarnation, &applied, &error),
                     LS_ERR_CORRUPT);
    store.close(store.self);
}

/* ---- limits ---- */

TEST(keys, that_would_not_fit_an_item_are_refused_by_writes)
{
    static char line[KV_KEY_BYTES_MAX + 64];
    struct kv_bench bench;
    bench_open_memory(&bench);
    for (size_t more = 0; more < 2; more++) {
        const char *const forms[] = {"SET %s v", "MSET a 1 %s v", "INCR %s", "DEL b %s"};
        static char key[KV_KEY_BYTES_MAX + 2];
        (void)memset(key, 'k', KV_KEY_BYTES_MAX + more);
        key[KV_KEY_BYTES_MAX + more] = '\0';
        for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
            (void)snprintf(line, sizeof line,
                           i == 0   ? "SET %s v"
                           : i == 1 ? "MSET a 1 %s v"
                           : i == 2 ? "INCR %s"
                                    : "DEL b %s",
                           key);
            const char *reply = bench_run(&bench, line);
            if (more == 1) {
                assert_string_equal(reply, "-ERR a key is longer than 65535 bytes\r\n");
            } else {
                assert_null(strstr(reply, "longer"));
            }
        }
    }
    assert_reply(&bench, "DBSIZE", ":1\r\n"); /* nothing of an MSET that was refused */
    bench_close(&bench);
}
