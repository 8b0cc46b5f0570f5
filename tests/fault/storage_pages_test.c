/* SPDX-License-Identifier: MIT */
/*
 * A power cut in the middle of a write to RocksDB's write-ahead log. What was synced is there; of
 * the pages behind it any subset is, the others are zeros, and the file may end anywhere: a disk
 * writes pages in the order it likes. The store has to open without that write, or with all of it.
 */
#include "store.h"
#include "tree.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE_BYTES  4096u
#define DURABLE     20u
#define ENTRIES     12u
#define LOG_BYTES   (1u << 20)
#define ROUNDS      16u
#define DEAD        77
#define BLOCK_BYTES 32768u
#define HEAD_BYTES  7u

static char place[128], before[160], after[160], later[160], damaged[160];
static uint8_t had_bytes[LOG_BYTES], has_bytes[LOG_BYTES], bad_bytes[LOG_BYTES];
static const char *dies_at; /* a part of the name of the file whose sync ends the process */

static int sync_or_die(int descriptor, long call)
{
    char link[64], name[512] = "";
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t got = dies_at != NULL ? readlink(link, name, sizeof name - 1) : 0;
    if (got > 0 && strstr(name, dies_at) != NULL) {
        _exit(DEAD);
    }
    return (int)syscall(call, descriptor);
}

/* RocksDB's, too. */
__attribute__((visibility("default"))) int fsync(int descriptor);
int fsync(int descriptor)
{
    return sync_or_die(descriptor, SYS_fsync);
}

__attribute__((visibility("default"))) int fdatasync(int descriptor);
int fdatasync(int descriptor)
{
    return sync_or_die(descriptor, SYS_fdatasync);
}

static void place_open(void *self, struct ls_storage *out)
{
    struct ls_storage_rocksdb_options options = {.size = sizeof options, .directory = self};
    assert_ok(ls_storage_rocksdb_open(&options, out, NULL));
}

static bool is_log(const char *path)
{
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, ".log") == 0;
}

/* The write-ahead log that has grown: its name, and bytes before and after. */
static size_t read_log(const char *directory, const char *name, uint8_t *bytes)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = file < 0 ? 0 : read(file, bytes, LOG_BYTES);
    if (file >= 0) {
        (void)close(file);
    }
    return got < 0 ? 0 : (size_t)got;
}

static void write_log(const char *name, const uint8_t *bytes, size_t count)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", damaged, name);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    assert_int_equal(write(file, bytes, count), count);
    (void)close(file);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* A store with one write that is durable, and its copy. */
static void make_durable(struct store *store)
{
    static const struct store_backend backend = {place, place_open, NULL};
    (void)snprintf(place, sizeof place, "%s/pages", test_memory_directory());
    (void)snprintf(before, sizeof before, "%s.before", place);
    (void)snprintf(after, sizeof after, "%s.after", place);
    (void)snprintf(later, sizeof later, "%s.later", place);
    (void)snprintf(damaged, sizeof damaged, "%s.damaged", place);
    tree_remove(place);
    store_open(store, &backend);
    store_append(store, 1, DURABLE, 1);
    tree_copy(place, before);
}

/* One write that is durable, one that is not, and one that shows that it was. */
static void make_copies(uint32_t bytes)
{
    struct store store;
    make_durable(&store);
    struct ls_storage_batch batch = store_batch(&store, DURABLE + 1, ENTRIES, 1, bytes);
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store_settle(&store);
    tree_copy(place, after);
    store_append(&store, DURABLE + ENTRIES + 1, 1, 1);
    tree_copy(place, later);
    store_close(&store);
}

static void judge(bool all, const char *what)
{
    struct ls_storage_rocksdb_options options = {.size = sizeof options, .directory = damaged};
    static const struct ls_storage_sink nobody;
    struct store store = {0};
    enum ls_status status = ls_storage_rocksdb_open(&options, &store.storage, &store.error);
    if (status != LS_OK) {
        fail_msg("%s: does not open: %s", what, store.error.text);
    }
    store.storage.attach(store.storage.self, &nobody);
    status = store_open_group(&store);
    if (status != LS_OK) {
        fail_msg("%s: does not open: %s", what, store.error.text);
    }
    assert_false(store.state.tail_unknown);
    if (store.state.last.index != DURABLE &&
        !(all && store.state.last.index == DURABLE + ENTRIES)) {
        fail_msg("%s: ends at %" PRIu64, what, store.state.last.index);
    }
    ls_index last = store.state.last.index;
    store_close(&store);
    const struct store_backend backend = {damaged, place_open, NULL};
    store_open(&store, &backend);
    assert_int_equal(store.state.last.index, last);
    assert_false(store.state.tail_unknown);
    store_append(&store, last + 1, 2, 1);
    store_close(&store);
}

static void lose_pages(uint32_t entry_bytes)
{
    static uint8_t old[LOG_BYTES], new[LOG_BYTES], mixed[LOG_BYTES];
    static struct tree files;
    uint64_t seed = test_seed() | 1;
    size_t writes = 0;
    make_copies(entry_bytes);
    tree_list(before, &files);
    for (size_t i = 0; i < files.count; i++) {
        const char *name = files.files[i].path;
        size_t had = is_log(name) ? read_log(before, name, old) : 0;
        size_t has = is_log(name) ? read_log(after, name, new) : 0;
        for (uint32_t round = 0; round < ROUNDS && has > had; round++) {
            char what[128];
            bool all = true;
            size_t count = had + next_random(&seed) % (has - had + 1);
            count = round % 2 == 0 ? has : count;
            (void)memcpy(mixed, new, count);
            uint64_t kept = next_random(&seed);
            for (size_t at = had; at < count; at = (at / PAGE_BYTES + 1) * PAGE_BYTES) {
                size_t end = (at / PAGE_BYTES + 1) * PAGE_BYTES;
                end = end < count ? end : count;
                if ((kept >> (at / PAGE_BYTES) % 64 & 1u) == 0) {
                    (void)memset(mixed + at, 0, end - at);
                    all = false;
                }
            }
            tree_copy(before, damaged);
            write_log(name, mixed, count);
            (void)snprintf(what, sizeof what, "round %u, %zu bytes of %zu to %zu, pages %" PRIx64,
                           round, count, had, has, kept);
            judge(all && count == has, what);
            writes++;
        }
    }
    assert_true(writes > 0);
}

TEST(pages, any_subset_of_a_write_under_way_is_cut_off)
{
    lose_pages(3000);
}

TEST(pages, any_subset_of_a_long_write_is_cut_off)
{
    lose_pages(30000);
}

/* F3: what was synced is never cut off, whatever is behind it. */
TEST(pages, hole_in_front_of_another_write_is_refused)
{
    static uint8_t old[LOG_BYTES], new[LOG_BYTES], last[LOG_BYTES];
    static struct tree files;
    static const struct ls_storage_sink nobody;
    size_t refused = 0;
    make_copies(3000);
    tree_list(before, &files);
    for (size_t i = 0; i < files.count; i++) {
        const char *name = files.files[i].path;
        size_t had = is_log(name) ? read_log(before, name, old) : 0;
        size_t has = is_log(name) ? read_log(after, name, new) : 0;
        for (size_t at = had; at < has; at = (at / PAGE_BYTES + 1) * PAGE_BYTES) {
            size_t end = (at / PAGE_BYTES + 1) * PAGE_BYTES;
            size_t count = read_log(later, name, last);
            assert_true(count > has);
            (void)memset(last + at, 0, (end < has ? end : has) - at);
            tree_copy(later, damaged);
            write_log(name, last, count);
            struct ls_storage_rocksdb_options options = {.size = sizeof options,
                                                         .directory = damaged};
            struct store store = {0};
            enum ls_status status = ls_storage_rocksdb_open(&options, &store.storage, &store.error);
            if (status == LS_OK) {
                store.storage.attach(store.storage.self, &nobody);
                status = store_open_group(&store);
                store.group = NULL;
                store_close(&store);
            }
            assert_int_equal(status, LS_ERR_CORRUPT);
            refused++;
        }
    }
    assert_true(refused > 5);
}

/* One write that was acknowledged a moment ago, of which the guard does not know yet: its log. */
static const char *make_acknowledged(size_t bytes, bool zeros, size_t *had, size_t *has)
{
    static struct tree files;
    struct store store;
    make_durable(&store);
    struct ls_storage_batch batch = store_batch(&store, DURABLE + 1, 1, 1, bytes);
    struct ls_entry entry = batch.entries[0];
    void *zero = calloc(1, bytes);
    assert_non_null(zero);
    entry.data.data = zeros ? zero : entry.data.data;
    batch.entries = &entry;
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store_settle(&store);
    assert_int_equal(store.log.durable, store.seq);
    free(zero);
    tree_copy(place, after);
    batch = (struct ls_storage_batch){.seq = ++store.seq, .commit_hint = DURABLE + 1};
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store_settle(&store);
    tree_copy(place, later);
    store_close(&store);
    tree_list(before, &files);
    for (size_t i = 0; i < files.count; i++) {
        const char *name = files.files[i].path;
        *had = is_log(name) ? read_log(before, name, had_bytes) : 0;
        *has = is_log(name) ? read_log(after, name, has_bytes) : 0;
        if (*has > *had) {
            return name;
        }
    }
    fail_msg("no log has grown");
    return NULL;
}

static void expect_refused(const char *what)
{
    struct ls_storage_rocksdb_options options = {.size = sizeof options, .directory = damaged};
    struct ls_storage storage;
    enum ls_status status = ls_storage_rocksdb_open(&options, &storage, NULL);
    if (status == LS_OK) {
        storage.close(storage.self);
    }
    if (status != LS_ERR_CORRUPT) {
        fail_msg("%s: %s", what, ls_status_text(status));
    }
}

/* What is refused is not touched, so the copy serves for all. */
static void flip_bits(const char *name, size_t has, size_t first_bit, size_t count)
{
    for (size_t bit = first_bit; bit < first_bit + count; bit++) {
        char what[64];
        (void)memcpy(bad_bytes, has_bytes, has);
        bad_bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_log(name, bad_bytes, has);
        (void)snprintf(what, sizeof what, "bit %zu of %zu", bit, has * 8);
        expect_refused(what);
    }
}

/* RocksDB takes some of them, in the head of a record, for the end of the log. */
TEST(pages, any_flipped_bit_of_a_write_that_was_acknowledged_a_moment_ago_is_refused)
{
    size_t had, has;
    const char *name = make_acknowledged(100, false, &had, &has);
    assert_in_range(has - had, 150, 400);
    tree_copy(after, damaged);
    flip_bits(name, has, had * 8, (has - had) * 8);
}

/* Zeros that somebody wrote are no sectors that were lost. */
TEST(pages, flipped_bit_of_a_write_that_holds_zeros_is_refused)
{
    size_t had, has;
    uint64_t seed = test_seed() | 1;
    const char *name = make_acknowledged(40000, true, &had, &has);
    assert_in_range(has, BLOCK_BYTES + 1, 2 * BLOCK_BYTES);
    tree_copy(after, damaged);
    flip_bits(name, has, had * 8, (HEAD_BYTES + 12) * 8);
    flip_bits(name, has, BLOCK_BYTES * 8, HEAD_BYTES * 8);
    for (uint32_t round = 0; round < 64; round++) {
        flip_bits(name, has, had * 8 + next_random(&seed) % ((has - had) * 8), 1);
    }
}

/* So there is no write that is not synced in front of another. */
TEST(pages, commit_hint_is_written_with_the_next_write_and_never_alone)
{
    size_t had, has;
    const char *name = make_acknowledged(9000, false, &had, &has);
    assert_int_equal(read_log(later, name, bad_bytes), has);
    const struct store_backend backend = {later, place_open, NULL};
    struct store store;
    store_open(&store, &backend);
    assert_int_equal(store.state.commit_hint, 0);
    struct ls_storage_batch batch = {.seq = ++store.seq, .commit_hint = DURABLE};
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store_settle(&store);
    assert_int_equal(store.log.durable, store.seq);
    store_append(&store, DURABLE + 2, 1, 1);
    tree_copy(later, damaged);
    store_close(&store);
    const struct store_backend copied = {damaged, place_open, NULL};
    store_open(&store, &copied);
    assert_int_equal(store.state.commit_hint, DURABLE);
    store_close(&store);
}

TEST(pages, commit_hint_that_waits_is_written_at_the_close)
{
    size_t had, has;
    (void)make_acknowledged(9000, false, &had, &has);
    const struct store_backend backend = {place, place_open, NULL};
    struct store store;
    store_open(&store, &backend);
    assert_int_equal(store.state.commit_hint, DURABLE + 1);
    store_close(&store);
}

/* RocksDB removes the file of a write that was cut off, but does not sync that: it may come back.
 */
TEST(pages, write_that_was_cut_off_is_no_damage_if_its_file_comes_back)
{
    for (int ends = 0; ends < 2; ends++) {
        size_t had, has;
        const char *name = make_acknowledged(9000, false, &had, &has);
        (void)memcpy(bad_bytes, has_bytes, has);
        (void)memset(bad_bytes + (had / PAGE_BYTES + 1) * PAGE_BYTES, 0, PAGE_BYTES);
        size_t count = ends == 0 ? has : (had / PAGE_BYTES + 1) * PAGE_BYTES;
        tree_copy(before, damaged);
        write_log(name, bad_bytes, count);
        const struct store_backend backend = {damaged, place_open, NULL};
        struct store store;
        store_open(&store, &backend);
        assert_int_equal(store.state.last.index, DURABLE);
        store_append(&store, DURABLE + 1, 3, 1);
        store_append(&store, DURABLE + 4, 3, 1);
        store_close(&store);
        write_log(name, bad_bytes, count);
        store_open(&store, &backend);
        assert_int_equal(store.state.last.index, DURABLE + 6);
        assert_false(store.state.tail_unknown);
        store_close(&store);
    }
}

TEST(pages, death_while_a_write_is_cut_off_is_no_damage)
{
    static const char *const deaths[] = {".sst", ".log", "MANIFEST-", "/log"};
    size_t had, has;
    const char *name = make_acknowledged(9000, false, &had, &has);
    for (size_t i = 0; i < sizeof deaths / sizeof deaths[0]; i++) {
        (void)memcpy(bad_bytes, has_bytes, has);
        (void)memset(bad_bytes + (had / PAGE_BYTES + 1) * PAGE_BYTES, 0, PAGE_BYTES);
        tree_copy(before, damaged);
        write_log(name, bad_bytes, has);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct ls_storage_rocksdb_options options = {.size = sizeof options,
                                                         .directory = damaged};
            struct ls_storage storage;
            dies_at = deaths[i];
            _exit(ls_storage_rocksdb_open(&options, &storage, NULL) == LS_OK ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), DEAD);
        judge(false, deaths[i]);
    }
}
