/* SPDX-License-Identifier: MIT */
/*
 * A directory whose files are damaged, cut or deleted while the store is closed: opening it never
 * crashes, and never passes off a log that lost something as a whole one. Either everything that
 * was acknowledged is there, or it says that the tail is unknown, or it refuses with a reason.
 */
#include "store.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES       2400u
#define ENTRY_BYTES   150u
#define BATCH_ENTRIES 40u

static char pristine[128];
static char damaged[128];
static ls_term terms[ENTRIES + 1];
static uint64_t refused, unknown, whole;

static void place_open(void *self, struct ls_storage *out)
{
    /* small, so that part of the log is in tables and part in the write-ahead log */
    struct ls_storage_rocksdb_options options = {
        .size = sizeof options, .directory = self, .write_buffer_bytes = 256u << 10};
    assert_ok(ls_storage_rocksdb_open(&options, out, NULL));
}

/* A store of several terms, with a vote, a prune and a commit hint, closed in good order. */
static void make_pristine(void)
{
    if (pristine[0] != '\0') {
        return;
    }
    const char *place = test_memory_directory();
    (void)snprintf(pristine, sizeof pristine, "%s/pristine", place);
    (void)snprintf(damaged, sizeof damaged, "%s/damaged", place);
    struct store store;
    const struct store_backend backend = {pristine, place_open, NULL};
    store_open(&store, &backend);
    for (ls_index first = 1; first <= ENTRIES; first += BATCH_ENTRIES) {
        ls_term term = 1 + first / 500;
        struct ls_hard_state hard = {term, true, {{(uint8_t)term}}};
        struct ls_storage_batch batch =
            store_batch(&store, first, BATCH_ENTRIES, term, ENTRY_BYTES);
        batch.hard_state = &hard;
        batch.commit_hint = first;
        assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
        store_settle(&store);
        for (ls_index i = first; i < first + BATCH_ENTRIES; i++) {
            terms[i] = term;
        }
    }
    assert_ok(store.storage.prune(store.storage.self, store.group, 100));
    store.storage.commit(store.storage.self);
    store_close(&store);
}

static void expect_whole(struct store *store, const char *what)
{
    if (store->state.last.index != ENTRIES || store->state.hard_state.term != terms[ENTRIES] ||
        !store->state.hard_state.voted) {
        fail_msg("%s: the log ends at %" PRIu64 " in term %" PRIu64 " and nothing is said about it",
                 what, store->state.last.index, store->state.hard_state.term);
    }
    for (ls_index first = store->state.anchor.index + 1; first <= ENTRIES;) {
        ls_index last = first;
        while (last < ENTRIES && terms[last + 1] == terms[first]) {
            last++;
        }
        assert_int_equal(store_expect(store, first, last, terms[first], ENTRY_BYTES),
                         last - first + 1);
        first = last + 1;
    }
}

static void expect_refusal(enum ls_status status, const struct ls_error *error, const char *what)
{
    if (status != LS_ERR_CORRUPT && status != LS_ERR_IO && status != LS_ERR_FORMAT) {
        fail_msg("%s: refused with %s: %s", what, ls_status_text(status), error->text);
    }
    if (strstr(error->text, damaged) == NULL || strlen(error->text) < strlen(damaged) + 12) {
        fail_msg("%s: the reason is \"%s\"", what, error->text);
    }
    assert_int_equal(error->status, status);
    refused++;
}

/* Opens what was damaged. */
static void judge(const char *what)
{
    struct ls_storage_rocksdb_options options = {
        .size = sizeof options, .directory = damaged, .write_buffer_bytes = 256u << 10};
    static const struct ls_storage_sink nobody;
    struct store store = {0};
    enum ls_status status = ls_storage_rocksdb_open(&options, &store.storage, &store.error);
    if (status != LS_OK) {
        expect_refusal(status, &store.error, what);
        return;
    }
    store.storage.attach(store.storage.self, &nobody);
    status = store_open_group(&store);
    if (status != LS_OK) {
        expect_refusal(status, &store.error, what);
        store.group = NULL;
    } else if (store.state.tail_unknown) {
        assert_true(strlen(store.state.tail_text) > 20);
        assert_true(store.state.hard_state.term >= terms[ENTRIES]); /* promises are kept */
        unknown++;
    } else {
        expect_whole(&store, what);
        whole++;
    }
    store_close(&store);
}

static void path_of(const struct tree_file *file, char out[512])
{
    (void)snprintf(out, 512, "%s/%s", damaged, file->path);
}

static void flip(const struct tree_file *file, size_t bit)
{
    char path[512];
    uint8_t byte;
    path_of(file, path);
    int descriptor = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(descriptor, &byte, 1, (off_t)(bit / 8)), 1);
    byte ^= (uint8_t)(1u << (bit % 8));
    assert_int_equal(pwrite(descriptor, &byte, 1, (off_t)(bit / 8)), 1);
    (void)close(descriptor);
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text);
    return length >= strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Files that say nothing about the log: RocksDB's own log and notes of its options. */
static bool matters(const struct tree_file *file)
{
    return strstr(file->path, "LOG") == NULL && strstr(file->path, "OPTIONS") == NULL &&
           strstr(file->path, "LOCK") == NULL && strcmp(file->path, "lock") != 0;
}

static struct tree files;

static void begin(void)
{
    make_pristine();
    tree_list(pristine, &files);
    refused = unknown = whole = 0;
}

TEST(damage, pristine_directory_has_tables_and_a_write_ahead_log)
{
    begin();
    size_t tables = 0;
    size_t logs = 0;
    size_t guards = 0;
    for (size_t i = 0; i < files.count; i++) {
        tables += ends_with(files.files[i].path, ".sst") ? 1 : 0;
        logs += ends_with(files.files[i].path, ".log") && files.files[i].bytes > 0 ? 1 : 0;
        guards += strncmp(files.files[i].path, "guard/", 6) == 0 ? 1 : 0;
    }
    assert_true(tables > 0);
    assert_true(logs > 0);
    assert_int_equal(guards, 1);
    tree_copy(pristine, damaged);
    judge("pristine");
    assert_int_equal(whole, 1);
}

/* F5 */
TEST(damage, flipped_bits_in_any_file_are_noticed_or_harmless)
{
    begin();
    uint64_t seed = test_seed() | 1;
    uint64_t flips = 0;
    for (size_t i = 0; i < files.count; i++) {
        const struct tree_file *file = &files.files[i];
        for (int round = 0; round < 6 && file->bytes > 0 && matters(file); round++) {
            char what[400];
            size_t bit = next_random(&seed) % (file->bytes * 8);
            tree_copy(pristine, damaged);
            flip(file, bit);
            (void)snprintf(what, sizeof what, "bit %zu of %s flipped", bit, file->path);
            judge(what);
            flips++;
        }
    }
    assert_true(flips > 20);
    assert_true(refused > 0);
}

/* F3 */
TEST(damage, flipped_bit_in_the_middle_of_the_write_ahead_log_is_refused)
{
    begin();
    for (size_t i = 0; i < files.count; i++) {
        const struct tree_file *file = &files.files[i];
        if (ends_with(file->path, ".log") && file->bytes > 1000) {
            tree_copy(pristine, damaged);
            flip(file, file->bytes * 4);
            judge("middle of the write-ahead log");
        }
    }
    assert_true(refused > 0);
    assert_int_equal(unknown + whole, 0);
}

TEST(damage, cut_files_are_noticed)
{
    begin();
    uint64_t seed = test_seed() | 1;
    uint64_t cuts = 0;
    for (size_t i = 0; i < files.count; i++) {
        const struct tree_file *file = &files.files[i];
        for (int round = 0; round < 4 && file->bytes > 0 && matters(file); round++) {
            char path[512];
            char what[400];
            size_t kept = round == 0 ? 0 : next_random(&seed) % file->bytes;
            tree_copy(pristine, damaged);
            path_of(file, path);
            assert_int_equal(truncate(path, (off_t)kept), 0);
            (void)snprintf(what, sizeof what, "%s cut from %zu to %zu bytes", file->path,
                           file->bytes, kept);
            judge(what);
            cuts++;
        }
    }
    assert_true(cuts > 15);
    assert_true(refused > 0);
    assert_true(unknown > 0); /* a cut write-ahead log opens, and the guard knows better */
}

TEST(damage, deleted_files_are_noticed)
{
    begin();
    for (size_t i = 0; i < files.count; i++) {
        char path[512];
        char what[400];
        tree_copy(pristine, damaged);
        path_of(&files.files[i], path);
        assert_int_equal(unlink(path), 0);
        (void)snprintf(what, sizeof what, "%s deleted", files.files[i].path);
        uint64_t before = whole;
        judge(what);
        const char *name = files.files[i].path;
        if (ends_with(name, "CURRENT") || strstr(name, "MANIFEST") != NULL ||
            ends_with(name, ".sst") || strncmp(name, "guard/", 6) == 0 ||
            (ends_with(name, ".log") && files.files[i].bytes > 0)) {
            assert_int_equal(whole, before);
        }
    }
    assert_true(refused > 2);
    assert_true(unknown > 1); /* the write-ahead log, and the guard */
}

TEST(damage, deleted_log_directory_is_not_a_fresh_start)
{
    char path[256];
    begin();
    tree_copy(pristine, damaged);
    (void)snprintf(path, sizeof path, "%s/log", damaged);
    tree_remove(path);
    judge("log/ deleted");
    assert_int_equal(refused, 1);
}

TEST(damage, guard_of_another_incarnation_is_a_mismatch)
{
    begin();
    struct store store;
    tree_remove(damaged);
    const struct store_backend backend = {damaged, place_open, NULL};
    store_open_bare(&store, &backend);
    store_close(&store);
    char from[512];
    char to[512];
    for (size_t i = 0; i < files.count; i++) {
        if (strncmp(files.files[i].path, "guard/", 6) == 0) {
            (void)snprintf(from, sizeof from, "%s/%s", pristine, files.files[i].path);
            (void)snprintf(to, sizeof to, "%s/%s", damaged, files.files[i].path);
            assert_int_equal(link(from, to), 0);
        }
    }
    store_open_bare(&store, &backend);
    assert_int_equal(store_open_group(&store), LS_ERR_MISMATCH);
    assert_non_null(strstr(store.error.text, "another incarnation"));
    store.group = NULL;
    store_close(&store);
    (void)unlink(to);
}

/* F16 */
TEST(damage, older_copy_of_the_log_is_an_unknown_tail)
{
    char from[256];
    char to[256];
    begin();
    /* go on in a copy, and put the old log back under the new guard */
    tree_copy(pristine, damaged);
    const struct store_backend backend = {damaged, place_open, NULL};
    struct store store;
    store_open(&store, &backend);
    store_append(&store, ENTRIES + 1, 5, 9);
    store_close(&store);
    (void)snprintf(from, sizeof from, "%s/log", pristine);
    (void)snprintf(to, sizeof to, "%s/log", damaged);
    tree_copy(from, to);
    store_open(&store, &backend);
    assert_true(store.state.tail_unknown);
    assert_int_equal(store.state.guard_last.index, ENTRIES + 5);
    store_append(&store, ENTRIES + 1, 9, 9); /* there again, but others may still count on more */
    store_close(&store);
    store_open(&store, &backend);
    assert_true(store.state.tail_unknown);
    struct ls_storage_batch batch = store_batch(&store, ENTRIES + 10, 1, 9, 16);
    batch.tail_known = true;
    assert_ok(store.storage.stage(store.storage.self, store.group, &batch));
    store_settle(&store);
    store_close(&store);
    store_open(&store, &backend);
    assert_false(store.state.tail_unknown);
    store_close(&store);
}

TEST(damage, interrupted_creation_is_begun_again)
{
    char path[256];
    const char *place = test_memory_directory();
    (void)snprintf(damaged, sizeof damaged, "%s/data", place);
    assert_int_equal(mkdir(damaged, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/log.new", damaged);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/log.new/CURRENT", damaged);
    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    (void)close(file);
    struct store store;
    const struct store_backend backend = {damaged, place_open, NULL};
    store_open(&store, &backend);
    store_append(&store, 1, 3, 1);
    store_reopen(&store);
    assert_int_equal(store.state.last.index, 3);
    store_close(&store);
    pristine[0] = '\0'; /* the place of the others is in use no more */
}

TEST(directory, that_cannot_be_made_is_an_error_with_path_and_reason)
{
    struct ls_storage storage;
    struct ls_error error;
    struct ls_storage_rocksdb_options options = {.size = sizeof options,
                                                 .directory = "/dev/null/data"};
    assert_int_equal(ls_storage_rocksdb_open(&options, &storage, &error), LS_ERR_IO);
    assert_string_equal(error.text, "open /dev/null/data: cannot be made: Not a directory");
    options.directory = "";
    assert_int_equal(ls_storage_rocksdb_open(&options, &storage, &error), LS_ERR_INVALID);
}
