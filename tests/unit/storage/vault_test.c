/* SPDX-License-Identifier: MIT */
/*
 * The vault on a disk whose syncs fail or hang: fsync is the test's own here. Nothing but closing
 * the vault waits for it, and what was not synced is never said to be.
 */
#include "test.h"

#include <lockstep/vault.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct ls_group_id group = {{9, 1}}, other = {{9, 2}};

/* ---- the disk -------------------------------------------------------------------------------- */

static struct disk {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hangs;
    uint64_t fail_at; /* number of the sync that fails; 0: none */
    uint64_t begun, ended;
    ino_t last; /* what was synced last */
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

int fsync(int descriptor);
int fsync(int descriptor)
{
    (void)pthread_mutex_lock(&disk.lock);
    bool fails = ++disk.begun == disk.fail_at;
    struct stat info;
    disk.last = fstat(descriptor, &info) == 0 ? info.st_ino : 0;
    (void)pthread_cond_broadcast(&disk.changed);
    while (disk.hangs) {
        (void)pthread_cond_wait(&disk.changed, &disk.lock);
    }
    disk.ended++;
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

static uint64_t disk_begun(void)
{
    (void)pthread_mutex_lock(&disk.lock);
    uint64_t begun = disk.begun;
    (void)pthread_mutex_unlock(&disk.lock);
    return begun;
}

static void disk_wait_begun(uint64_t more_than)
{
    (void)pthread_mutex_lock(&disk.lock);
    while (disk.begun <= more_than) {
        (void)pthread_cond_wait(&disk.changed, &disk.lock);
    }
    (void)pthread_mutex_unlock(&disk.lock);
}

/* ---- the vault ------------------------------------------------------------------------------- */

static char path[512];
static uint64_t refused; /* the next allocation is */

static void *refusing(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes > 0 && refused > 0) {
        refused--;
        return NULL;
    }
    return ls_env_default()->allocate(NULL, block, bytes);
}

static struct ls_vault open_vault(void)
{
    struct ls_vault vault;
    struct ls_env env = *ls_env_default();
    env.allocate = refusing;
    disk.fail_at = 0;
    (void)snprintf(path, sizeof path, "%s", test_directory());
    assert_ok(ls_vault_files_open(path, &env, &vault, NULL));
    return vault;
}

static void write_text(const struct ls_vault *vault, enum ls_vault_file file, uint64_t offset,
                       const char *text)
{
    assert_ok(
        vault->write(vault->self, &group, file, offset, (struct ls_span){text, strlen(text)}));
}

static enum ls_status sync_once(const struct ls_vault *vault, enum ls_vault_file file)
{
    return vault->sync(vault->self, &group, file);
}

static enum ls_status sync_file(const struct ls_vault *vault, enum ls_vault_file file)
{
    enum ls_status status = sync_once(vault, file);
    for (; status == LS_ERR_BUSY; status = sync_once(vault, file)) {
        (void)sched_yield();
    }
    return status;
}

static enum ls_status replace_file(const struct ls_vault *vault)
{
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = vault->replace(vault->self, &group, LS_VAULT_WRITING, LS_VAULT_SNAPSHOT);
        (void)sched_yield();
    }
    return status;
}

static void expect_text(const struct ls_vault *vault, enum ls_vault_file file, const char *text)
{
    char found[100];
    size_t got = 0;
    assert_ok(vault->read(vault->self, &group, file, 0, found, sizeof found, &got));
    assert_int_equal(got, strlen(text));
    assert_memory_equal(found, text, got);
}

static size_t descriptors(void)
{
    size_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory) != NULL) {
        count++;
    }
    (void)closedir(directory);
    return count;
}

TEST(vault, syncs_again_what_was_written_while_it_synced)
{
    struct ls_vault vault = open_vault();
    write_text(&vault, LS_VAULT_STAGED, 0, "one");
    disk_hang(true);
    uint64_t before = disk_begun();
    assert_int_equal(sync_once(&vault, LS_VAULT_STAGED), LS_ERR_BUSY);
    disk_wait_begun(before);
    write_text(&vault, LS_VAULT_STAGED, 3, "two");
    disk_hang(false);
    assert_ok(sync_file(&vault, LS_VAULT_STAGED));
    uint64_t twice = disk_begun();
    assert_int_equal(twice - before, 6); /* the file, its folder and the directory, two times */
    assert_ok(sync_once(&vault, LS_VAULT_STAGED)); /* and nothing is left to do */
    assert_int_equal(disk_begun(), twice);
    assert_ok(vault.truncate(vault.self, &group, LS_VAULT_STAGED, 2));
    assert_int_equal(sync_once(&vault, LS_VAULT_STAGED), LS_ERR_BUSY);
    assert_ok(sync_file(&vault, LS_VAULT_STAGED));
    vault.close(vault.self);
}

TEST(vault, never_says_that_a_file_is_durable_whose_sync_failed)
{
    for (uint64_t at = 1; at <= 3; at++) { /* the file, its folder, the directory */
        struct ls_vault vault = open_vault();
        write_text(&vault, LS_VAULT_STAGED, 0, "one");
        disk.fail_at = disk_begun() + at;
        assert_int_equal(sync_file(&vault, LS_VAULT_STAGED), LS_ERR_IO);
        assert_int_equal(sync_file(&vault, LS_VAULT_STAGED), LS_ERR_IO);
        write_text(&vault, LS_VAULT_STAGED, 3, "two");
        assert_int_equal(sync_file(&vault, LS_VAULT_STAGED), LS_ERR_IO);
        assert_int_equal(vault.replace(vault.self, &group, LS_VAULT_STAGED, LS_VAULT_SNAPSHOT),
                         LS_ERR_IO);
        vault.close_group(vault.self, &group);
        assert_int_equal(sync_file(&vault, LS_VAULT_STAGED), LS_ERR_IO);
        assert_ok(vault.remove(vault.self, &group, LS_VAULT_STAGED));
        write_text(&vault, LS_VAULT_STAGED, 0, "one");
        assert_ok(sync_file(&vault, LS_VAULT_STAGED));
        vault.close(vault.self);
    }
}

/* The kernel tells of it once, and nobody asks while the group is closed. */
TEST(vault, knows_of_a_sync_that_failed_after_its_group_was_closed)
{
    for (size_t swept = 0; swept < 3; swept++) {
        struct ls_vault vault = open_vault();
        size_t before = descriptors();
        write_text(&vault, LS_VAULT_SNAPSHOT, 0, "one");
        disk_hang(true);
        uint64_t begun = disk_begun();
        disk.fail_at = begun + 1;
        assert_int_equal(sync_once(&vault, LS_VAULT_SNAPSHOT), LS_ERR_BUSY);
        disk_wait_begun(begun);
        vault.close_group(vault.self, &group);
        if (swept == 1) {
            expect_text(&vault, LS_VAULT_SNAPSHOT, "one"); /* joined again meanwhile */
        }
        disk_hang(false);
        while (vault.busy_since_us(vault.self) > 0) {
            (void)sched_yield();
        }
        if (swept == 2) {
            vault.close_group(vault.self, &group);
        }
        assert_int_equal(sync_file(&vault, LS_VAULT_SNAPSHOT), LS_ERR_IO);
        expect_text(&vault, LS_VAULT_SNAPSHOT, "one");
        assert_ok(vault.remove(vault.self, &group, LS_VAULT_SNAPSHOT));
        assert_int_equal(descriptors(), before);
        vault.close(vault.self);
    }
}

TEST(vault, lets_go_of_a_file_when_the_sync_is_over_that_ran_as_its_group_was_closed)
{
    struct ls_vault vault = open_vault();
    size_t before = descriptors();
    write_text(&vault, LS_VAULT_STAGED, 0, "one");
    disk_hang(true);
    uint64_t begun = disk_begun();
    assert_int_equal(sync_once(&vault, LS_VAULT_STAGED), LS_ERR_BUSY);
    disk_wait_begun(begun);
    vault.close_group(vault.self, &group);
    disk_hang(false);
    while (vault.busy_since_us(vault.self) > 0) {
        (void)sched_yield();
    }
    vault.close_group(vault.self, &other);
    assert_int_equal(descriptors(), before);
    vault.close(vault.self);
}

/* Whether it has happened nobody knows: what is there may be another file after a power cut. */
TEST(vault, does_not_say_that_a_file_is_durable_that_took_its_place_in_vain)
{
    for (size_t closed = 0; closed < 2; closed++) {
        struct ls_vault vault = open_vault();
        write_text(&vault, LS_VAULT_WRITING, 0, "one");
        assert_ok(sync_file(&vault, LS_VAULT_WRITING));
        disk.fail_at = disk_begun() + 1;
        if (closed == 0) {
            assert_int_equal(replace_file(&vault), LS_ERR_IO);
        } else {
            assert_int_equal(vault.replace(vault.self, &group, LS_VAULT_WRITING, LS_VAULT_SNAPSHOT),
                             LS_ERR_BUSY);
            vault.close_group(vault.self, &group);
            while (vault.busy_since_us(vault.self) > 0) {
                (void)sched_yield();
            }
        }
        assert_ok(vault.remove(vault.self, &group, LS_VAULT_WRITING)); /* as a join begins */
        expect_text(&vault, LS_VAULT_SNAPSHOT, "one");
        assert_int_equal(sync_file(&vault, LS_VAULT_SNAPSHOT), LS_ERR_IO);
        write_text(&vault, LS_VAULT_WRITING, 0, "two");
        assert_ok(sync_file(&vault, LS_VAULT_WRITING));
        assert_ok(replace_file(&vault));
        assert_ok(sync_file(&vault, LS_VAULT_SNAPSHOT));
        expect_text(&vault, LS_VAULT_SNAPSHOT, "two");
        vault.close(vault.self);
    }
}

/* Nobody asked for the end of the sync of a file that is replaced. */
TEST(vault, replaces_a_file_whose_sync_nobody_asks_for_any_more)
{
    struct ls_vault vault = open_vault();
    write_text(&vault, LS_VAULT_SNAPSHOT, 0, "old");
    write_text(&vault, LS_VAULT_WRITING, 0, "new");
    assert_ok(sync_file(&vault, LS_VAULT_WRITING));
    assert_int_equal(sync_once(&vault, LS_VAULT_SNAPSHOT), LS_ERR_BUSY);
    while (vault.busy_since_us(vault.self) > 0) {
        (void)sched_yield();
    }
    assert_ok(replace_file(&vault));
    expect_text(&vault, LS_VAULT_SNAPSHOT, "new");
    vault.close(vault.self);
}

/* Who made it may have ended before it was durable in its parent. */
TEST(vault, syncs_the_name_of_a_directory_that_is_there)
{
    struct ls_vault vault = open_vault();
    vault.close(vault.self);
    struct stat parent;
    char up[600];
    (void)snprintf(up, sizeof up, "%s/..", path);
    assert_int_equal(stat(up, &parent), 0);
    uint64_t begun = disk_begun();
    assert_ok(ls_vault_files_open(path, NULL, &vault, NULL));
    assert_int_equal(disk_begun(), begun + 1);
    assert_true(disk.last == parent.st_ino);
    vault.close(vault.self);
    disk.fail_at = disk_begun() + 1;
    assert_int_equal(ls_vault_files_open(path, NULL, &vault, NULL), LS_ERR_IO);
}

static enum ls_status write_much(const struct ls_vault *vault, uint64_t *at)
{
    static const char much[LS_VAULT_UNSYNCED_BYTES / 4];
    enum ls_status status = vault->write(vault->self, &group, LS_VAULT_STAGED, *at,
                                         (struct ls_span){much, sizeof much});
    *at += status == LS_OK ? sizeof much : 0;
    return status;
}

/* Otherwise the last sync takes as long as the whole file, and the kernel stops who writes. */
TEST(vault, lets_no_more_wait_for_the_disk_than_twice_the_limit)
{
    struct ls_vault vault = open_vault();
    uint64_t at = 0;
    disk_hang(true);
    uint64_t begun = disk_begun();
    while (at < LS_VAULT_UNSYNCED_BYTES) {
        assert_ok(write_much(&vault, &at));
    }
    assert_int_equal(vault.busy_since_us(vault.self), 0);
    assert_ok(write_much(&vault, &at));
    disk_wait_begun(begun); /* nobody asked for it */
    enum ls_status status = LS_OK;
    while (status == LS_OK) {
        status = write_much(&vault, &at);
    }
    assert_int_equal(status, LS_ERR_BUSY);
    assert_int_equal(at, 2 * LS_VAULT_UNSYNCED_BYTES);
    write_text(&vault, LS_VAULT_MARK, 0, "another file");
    disk_hang(false);
    while (status == LS_ERR_BUSY) {
        status = write_much(&vault, &at);
        (void)sched_yield();
    }
    assert_ok(status);
    assert_ok(sync_file(&vault, LS_VAULT_STAGED));
    vault.close(vault.self);
}

TEST(vault, writes_no_further_when_what_was_written_could_not_be_synced)
{
    struct ls_vault vault = open_vault();
    uint64_t at = 0;
    disk.fail_at = disk_begun() + 1;
    enum ls_status status = LS_OK;
    while (status == LS_OK || status == LS_ERR_BUSY) {
        status = write_much(&vault, &at);
    }
    assert_int_equal(status, LS_ERR_IO);
    assert_int_equal(at, 2 * LS_VAULT_UNSYNCED_BYTES);
    assert_ok(vault.remove(vault.self, &group, LS_VAULT_STAGED));
    at = 0;
    assert_ok(write_much(&vault, &at));
    vault.close(vault.self);
}

TEST(vault, removes_and_writes_while_the_disk_hangs)
{
    struct ls_vault vault = open_vault();
    assert_int_equal(vault.busy_since_us(vault.self), 0);
    disk_hang(true);
    size_t before = descriptors();
    enum ls_status status = LS_OK;
    for (size_t i = 0; i < 40 && status == LS_OK; i++) {
        write_text(&vault, LS_VAULT_STAGED, 0, "one");
        assert_int_equal(sync_once(&vault, LS_VAULT_STAGED), LS_ERR_BUSY);
        assert_true(vault.busy_since_us(vault.self) > 0);
        status = vault.remove(vault.self, &group, LS_VAULT_STAGED);
    }
    assert_int_equal(status, LS_ERR_BUSY); /* what hangs is bounded */
    assert_true(descriptors() < before + 64);
    disk_hang(false);
    while (status == LS_ERR_BUSY) {
        status = vault.remove(vault.self, &group, LS_VAULT_STAGED);
        (void)sched_yield();
    }
    assert_ok(status);
    vault.close(vault.self);
    assert_int_equal(descriptors(), before - 1);
}

TEST(vault, answers_busy_for_both_files_while_one_replaces_the_other)
{
    struct ls_vault vault = open_vault();
    write_text(&vault, LS_VAULT_WRITING, 0, "new");
    write_text(&vault, LS_VAULT_SNAPSHOT, 0, "old");
    assert_ok(sync_file(&vault, LS_VAULT_SNAPSHOT));
    assert_ok(sync_file(&vault, LS_VAULT_WRITING));
    disk_hang(true);
    uint64_t before = disk_begun();
    assert_int_equal(vault.replace(vault.self, &group, LS_VAULT_WRITING, LS_VAULT_SNAPSHOT),
                     LS_ERR_BUSY);
    disk_wait_begun(before);
    char byte = 0;
    size_t got = 0;
    const enum ls_vault_file both[] = {LS_VAULT_WRITING, LS_VAULT_SNAPSHOT};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(vault.read(vault.self, &group, both[i], 0, &byte, 1, &got), LS_ERR_BUSY);
        assert_int_equal(vault.write(vault.self, &group, both[i], 0, (struct ls_span){"x", 1}),
                         LS_ERR_BUSY);
        assert_int_equal(vault.remove(vault.self, &group, both[i]), LS_ERR_BUSY);
        assert_int_equal(sync_once(&vault, both[i]), LS_ERR_BUSY);
    }
    write_text(&vault, LS_VAULT_STAGED, 0, "not concerned");
    assert_ok(vault.write(vault.self, &other, LS_VAULT_WRITING, 0, (struct ls_span){"y", 1}));
    disk_hang(false);
    assert_ok(replace_file(&vault));
    expect_text(&vault, LS_VAULT_SNAPSHOT, "new");
    assert_int_equal(vault.read(vault.self, &group, LS_VAULT_WRITING, 0, &byte, 1, &got),
                     LS_ERR_NOT_FOUND);
    vault.close(vault.self);
}

/* What became of it is of no interest to the next one. */
TEST(vault, does_not_take_a_replacing_that_was_given_up_for_the_next)
{
    struct ls_vault vault = open_vault();
    for (size_t i = 0; i < 2; i++) {
        write_text(&vault, LS_VAULT_WRITING, 0, "one");
        assert_ok(sync_file(&vault, LS_VAULT_WRITING));
        assert_int_equal(vault.replace(vault.self, &group, LS_VAULT_WRITING, LS_VAULT_SNAPSHOT),
                         LS_ERR_BUSY);
        if (i == 1) {
            vault.close_group(vault.self, &group); /* and the group is joined again */
        }
        while (vault.busy_since_us(vault.self) > 0) {
            (void)sched_yield();
        }
        write_text(&vault, LS_VAULT_WRITING, 0, "two");
        assert_ok(sync_file(&vault, LS_VAULT_WRITING));
        assert_ok(replace_file(&vault));
        expect_text(&vault, LS_VAULT_SNAPSHOT, "two");
    }
    vault.close(vault.self);
}

TEST(vault, is_busy_without_memory_for_what_waits)
{
    struct ls_vault vault = open_vault();
    write_text(&vault, LS_VAULT_WRITING, 0, "one");
    uint64_t before = disk_begun();
    refused = 1;
    assert_int_equal(sync_once(&vault, LS_VAULT_WRITING), LS_ERR_BUSY);
    assert_int_equal(disk_begun(), before);
    assert_ok(sync_file(&vault, LS_VAULT_WRITING));
    size_t open = descriptors();
    refused = 1;
    assert_int_equal(vault.replace(vault.self, &group, LS_VAULT_WRITING, LS_VAULT_SNAPSHOT),
                     LS_ERR_BUSY);
    assert_true(descriptors() <= open);
    assert_ok(replace_file(&vault));
    vault.close(vault.self);
}

TEST(vault, closes_what_is_open_for_a_group_that_is_closed)
{
    struct ls_vault vault = open_vault();
    size_t before = descriptors();
    for (int file = LS_VAULT_SNAPSHOT; file <= LS_VAULT_MARK; file++) {
        write_text(&vault, (enum ls_vault_file)file, 0, "one");
    }
    assert_ok(vault.write(vault.self, &other, LS_VAULT_MARK, 0, (struct ls_span){"y", 1}));
    assert_int_equal(descriptors(), before + 10);
    vault.close_group(vault.self, &group);
    assert_int_equal(descriptors(), before + 2);
    expect_text(&vault, LS_VAULT_MARK, "one");
    vault.close(vault.self);
}

/* A large one is given back elsewhere: the name is free at once. */
TEST(vault, removes_a_large_file_at_once)
{
    struct ls_vault vault = open_vault();
    size_t before = descriptors();
    for (size_t i = 0; i < 2; i++) {
        write_text(&vault, LS_VAULT_STAGED, (uint64_t)65 << 20, "far out");
        assert_ok(sync_file(&vault, LS_VAULT_STAGED));
        if (i == 1) {
            vault.close_group(vault.self, &group);
        }
        assert_ok(vault.remove(vault.self, &group, LS_VAULT_STAGED));
        char byte = 0;
        size_t got = 0;
        assert_int_equal(vault.read(vault.self, &group, LS_VAULT_STAGED, 0, &byte, 1, &got),
                         LS_ERR_NOT_FOUND);
        while (vault.busy_since_us(vault.self) > 0) {
            (void)sched_yield();
        }
        vault.close_group(vault.self, &group);
        assert_int_equal(descriptors(), before);
    }
    vault.close(vault.self);
}
