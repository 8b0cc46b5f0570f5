/* SPDX-License-Identifier: MIT */
/* Key files, founders, identity files and ids. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <lockstep/identity.h>

#include "test.h"

static const char *path_in(const char *directory, const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void write_file(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void fill_key(uint8_t key[LS_KEY_BYTES], uint8_t first)
{
    for (size_t i = 0; i < LS_KEY_BYTES; i++) {
        key[i] = (uint8_t)(first + i);
    }
}

TEST(identity, generated_key_is_private_and_reads_back)
{
    const char *path = path_in(test_directory(), "key");
    uint8_t key[LS_KEY_BYTES] = {0}, again[LS_KEY_BYTES] = {0};
    struct ls_error error = {0};
    assert_ok(ls_key_generate(path, &error));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(info.st_size, 32);
    assert_ok(ls_key_read(path, key, &error));
    assert_ok(ls_key_read(path, again, &error));
    assert_memory_equal(key, again, sizeof key);
}

TEST(identity, key_generate_never_overwrites)
{
    const char *path = path_in(test_directory(), "key");
    uint8_t before[LS_KEY_BYTES], after[LS_KEY_BYTES];
    struct ls_error error = {0};
    assert_ok(ls_key_generate(path, &error));
    assert_ok(ls_key_read(path, before, &error));
    assert_int_equal(ls_key_generate(path, &error), LS_ERR_IO);
    assert_non_null(strstr(error.text, path));
    assert_ok(ls_key_read(path, after, &error));
    assert_memory_equal(before, after, sizeof before);
}

TEST(identity, key_of_another_size_is_refused_with_what_was_found)
{
    const char *path = path_in(test_directory(), "key");
    uint8_t key[LS_KEY_BYTES], bytes[65];
    struct ls_error error = {0};
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)i;
    }
    static const size_t sizes[] = {0, 31, 33, 65};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char found[32];
        (void)snprintf(found, sizeof found, "%zu bytes", sizes[i]);
        write_file(path, bytes, sizes[i]);
        assert_int_equal(ls_key_read(path, key, &error), LS_ERR_INVALID);
        assert_non_null(strstr(error.text, found));
    }
    assert_int_equal(ls_key_read("/nonexistent/key", key, &error), LS_ERR_IO);
}

TEST(identity, key_of_equal_bytes_is_refused)
{
    const char *path = path_in(test_directory(), "key");
    uint8_t key[LS_KEY_BYTES];
    struct ls_identity *identity = NULL;
    struct ls_error error = {0};
    (void)memset(key, 0, sizeof key);
    write_file(path, key, sizeof key);
    assert_int_equal(ls_key_read(path, key, &error), LS_ERR_INVALID);
    assert_int_equal(ls_identity_founder(key, "a", &identity, &error), LS_ERR_INVALID);
    assert_null(identity);
    key[31] = 1;
    write_file(path, key, sizeof key);
    assert_ok(ls_key_read(path, key, &error));
}

TEST(identity, founders_know_each_other_in_advance)
{
    uint8_t key[LS_KEY_BYTES], other_key[LS_KEY_BYTES];
    fill_key(key, 1);
    fill_key(other_key, 2);
    struct ls_identity *a = NULL, *b = NULL, *stranger = NULL;
    assert_ok(ls_identity_founder(key, "a", &a, NULL));
    assert_ok(ls_identity_founder(key, "b", &b, NULL));
    assert_ok(ls_identity_founder(other_key, "b", &stranger, NULL));
    struct ls_peer_id id_b = ls_identity_id(b), seen = ls_identity_founder_id(a, "b");
    struct ls_peer_id strange = ls_identity_id(stranger), id_a = ls_identity_id(a);
    assert_true(ls_peer_id_equal(&id_b, &seen));
    assert_false(ls_peer_id_equal(&id_b, &strange));
    assert_false(ls_peer_id_equal(&id_b, &id_a));
    struct ls_network_id here = ls_identity_network(a), there = ls_identity_network(stranger);
    struct ls_network_id same = ls_identity_network(b);
    assert_memory_equal(here.bytes, same.bytes, sizeof here.bytes);
    assert_memory_not_equal(here.bytes, there.bytes, sizeof here.bytes);
    ls_identity_close(a);
    ls_identity_close(b);
    ls_identity_close(stranger);
    ls_identity_close(NULL);
}

TEST(identity, knows_more_founders_than_it_remembers)
{
    uint8_t key[LS_KEY_BYTES];
    struct ls_identity *identity = NULL, *founder = NULL;
    fill_key(key, 9);
    assert_ok(ls_identity_founder(key, "asks", &identity, NULL));
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < LS_MEMBERS_MAX + 3; i++) {
            char name[16];
            (void)snprintf(name, sizeof name, "f%u", i);
            assert_ok(ls_identity_founder(key, name, &founder, NULL));
            for (unsigned again = 0; again < 2; again++) {
                struct ls_peer_id id = ls_identity_founder_id(identity, name);
                struct ls_peer_id expected = ls_identity_id(founder);
                assert_true(ls_peer_id_equal(&id, &expected));
            }
            ls_identity_close(founder);
        }
    }
    ls_identity_close(identity);
}

TEST(identity, founder_name_has_bounds)
{
    uint8_t key[LS_KEY_BYTES];
    fill_key(key, 1);
    struct ls_identity *identity = NULL;
    struct ls_error error = {0};
    char name[LS_NAME_BYTES + 1];
    (void)memset(name, 'n', sizeof name);
    name[LS_NAME_BYTES] = '\0';
    assert_int_equal(ls_identity_founder(key, "", &identity, &error), LS_ERR_INVALID);
    assert_int_equal(ls_identity_founder(key, name, &identity, &error), LS_ERR_INVALID);
    name[LS_NAME_BYTES - 1] = '\0';
    assert_ok(ls_identity_founder(key, name, &identity, &error));
    ls_identity_close(identity);
}

TEST(identity, file_is_made_once_private_and_kept)
{
    const char *path = path_in(test_directory(), "identity");
    uint8_t key[LS_KEY_BYTES];
    fill_key(key, 9);
    struct ls_identity *first = NULL, *again = NULL;
    struct ls_error error = {0};
    assert_ok(ls_identity_file(key, path, &first, &error));
    assert_ok(ls_identity_file(key, path, &again, &error));
    struct ls_peer_id one = ls_identity_id(first), two = ls_identity_id(again);
    assert_true(ls_peer_id_equal(&one, &two));
    assert_false(ls_peer_id_is_zero(&one));
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(info.st_nlink, 1);
    ls_identity_close(first);
    ls_identity_close(again);
}

TEST(identity, file_with_any_bit_flipped_is_corrupt)
{
    const char *path = path_in(test_directory(), "identity");
    uint8_t key[LS_KEY_BYTES], bytes[72];
    fill_key(key, 9);
    struct ls_identity *identity = NULL;
    struct ls_error error = {0};
    assert_ok(ls_identity_file(key, path, &identity, &error));
    ls_identity_close(identity);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(bytes, 1, sizeof bytes, file), sizeof bytes);
    assert_int_equal(fclose(file), 0);
    for (size_t at = 0; at < sizeof bytes; at += 5) {
        bytes[at] ^= 0x10;
        write_file(path, bytes, sizeof bytes);
        assert_int_equal(ls_identity_file(key, path, &identity, &error), LS_ERR_CORRUPT);
        assert_null(identity);
        bytes[at] ^= 0x10;
    }
    write_file(path, bytes, sizeof bytes - 1);
    assert_int_equal(ls_identity_file(key, path, &identity, &error), LS_ERR_CORRUPT);
    assert_int_equal(ls_identity_file(key, "/nonexistent/identity", &identity, &error), LS_ERR_IO);
}

TEST(identity, group_id_depends_on_every_part_and_their_borders)
{
    uint8_t key[LS_KEY_BYTES], other_key[LS_KEY_BYTES];
    fill_key(key, 1);
    fill_key(other_key, 2);
    struct ls_identity *here = NULL, *there = NULL;
    assert_ok(ls_identity_founder(key, "a", &here, NULL));
    assert_ok(ls_identity_founder(other_key, "a", &there, NULL));
    const struct ls_span m = {"m/1", 3}, s = {"s/1", 3}, ms = {"m/1s", 4}, rest = {"/1", 2};
    const struct ls_group_id ids[] = {
        ls_identity_group_id(here, "g", m, s), ls_identity_group_id(there, "g", m, s),
        ls_identity_group_id(here, "h", m, s), ls_identity_group_id(here, "g", s, m),
        ls_identity_group_id(here, "g", ms, rest)};
    for (size_t i = 0; i < 5; i++) {
        for (size_t j = i + 1; j < 5; j++) {
            assert_false(ls_group_id_equal(&ids[i], &ids[j]));
        }
    }
    const struct ls_group_id again = ls_identity_group_id(here, "g", m, s);
    assert_true(ls_group_id_equal(&ids[0], &again));
    ls_identity_close(here);
    ls_identity_close(there);
}
