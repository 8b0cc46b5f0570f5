/* SPDX-License-Identifier: MIT */
/* The contract of a vault, over memory; and the faults that only this one has. */
#include "vault_suite.h"

static void open_memory(void *arg, struct ls_vault *out)
{
    ls_vault_memory_open_on(arg, out);
}

static void on_medium(void (*prove)(const struct vault_subject *subject))
{
    struct ls_vault_medium *medium = NULL;
    assert_ok(ls_vault_medium_open(NULL, &medium));
    struct vault_subject subject = {open_memory, medium};
    prove(&subject);
    ls_vault_medium_close(medium);
}

TEST(vault_memory, keeps_what_was_synced)
{
    on_medium(vault_keeps_what_was_synced);
}

TEST(vault_memory, overwrites_cuts_and_grows)
{
    on_medium(vault_overwrites_cuts_and_grows);
}

TEST(vault_memory, replaces_at_once)
{
    on_medium(vault_replaces_at_once);
}

TEST(vault_memory, removes_also_what_is_not_there)
{
    on_medium(vault_removes_also_what_is_not_there);
}

TEST(vault_memory, goes_on_with_what_was_written_while_it_synced)
{
    on_medium(vault_goes_on_with_what_was_written_while_it_synced);
}

TEST(vault_memory, serves_a_group_that_was_closed_again)
{
    on_medium(vault_serves_a_group_that_was_closed_again);
}

TEST(vault_memory, keeps_groups_and_files_apart)
{
    on_medium(vault_keeps_groups_and_files_apart);
}

TEST(vault_memory, loses_with_the_power_what_was_not_synced)
{
    struct ls_vault_medium *medium = NULL;
    struct ls_vault vault;
    const struct ls_group_id group = {{1}};
    char found[8];
    size_t got = 0;
    assert_ok(ls_vault_medium_open(NULL, &medium));
    ls_vault_memory_open_on(medium, &vault);
    assert_ok(vault.write(vault.self, &group, LS_VAULT_MARK, 0, (struct ls_span){"one", 3}));
    assert_ok(vault.sync(vault.self, &group, LS_VAULT_MARK));
    assert_ok(vault.write(vault.self, &group, LS_VAULT_MARK, 3, (struct ls_span){"two", 3}));
    assert_ok(vault.write(vault.self, &group, LS_VAULT_STAGED, 0, (struct ls_span){"x", 1}));
    ls_vault_medium_power_cut(medium);
    assert_int_equal(vault.write(vault.self, &group, LS_VAULT_MARK, 3, (struct ls_span){"y", 1}),
                     LS_ERR_IO);
    ls_vault_memory_open_on(medium, &vault);
    assert_ok(vault.read(vault.self, &group, LS_VAULT_MARK, 0, found, sizeof found, &got));
    assert_int_equal(got, 3);
    assert_int_equal(vault.read(vault.self, &group, LS_VAULT_STAGED, 0, found, 1, &got),
                     LS_ERR_NOT_FOUND);
    ls_vault_medium_close(medium);
}

TEST(vault_memory, holds_syncs_and_fails_on_request)
{
    struct ls_vault_medium *medium = NULL;
    struct ls_vault vault;
    const struct ls_group_id group = {{1}};
    assert_ok(ls_vault_medium_open(NULL, &medium));
    ls_vault_memory_open_on(medium, &vault);
    ls_vault_medium_fail(medium, 1, 1);
    assert_ok(vault.write(vault.self, &group, LS_VAULT_MARK, 0, (struct ls_span){"one", 3}));
    assert_int_equal(vault.write(vault.self, &group, LS_VAULT_MARK, 3, (struct ls_span){"x", 1}),
                     LS_ERR_IO);
    ls_vault_medium_hold(medium, true);
    assert_int_equal(vault.sync(vault.self, &group, LS_VAULT_MARK), LS_ERR_BUSY);
    ls_vault_medium_hold(medium, false);
    assert_ok(vault.sync(vault.self, &group, LS_VAULT_MARK));
    assert_int_equal(ls_vault_medium_changes(medium), 3);
    assert_true(ls_vault_medium_flip(medium, &group, LS_VAULT_MARK, 2));
    assert_false(ls_vault_medium_flip(medium, &group, LS_VAULT_MARK, 3));
    ls_vault_medium_close(medium);
}

TEST(vault_memory, may_have_what_was_removed_back_after_a_power_cut)
{
    struct ls_vault_medium *medium = NULL;
    struct ls_vault vault;
    const struct ls_group_id group = {{1}};
    char found = 0;
    size_t got = 0;
    assert_ok(ls_vault_medium_open(NULL, &medium));
    ls_vault_memory_open_on(medium, &vault);
    assert_ok(vault.write(vault.self, &group, LS_VAULT_MARK, 0, (struct ls_span){"one", 3}));
    assert_ok(vault.sync(vault.self, &group, LS_VAULT_MARK));
    assert_ok(vault.remove(vault.self, &group, LS_VAULT_MARK));
    assert_int_equal(vault.read(vault.self, &group, LS_VAULT_MARK, 0, &found, 1, &got),
                     LS_ERR_NOT_FOUND);
    ls_vault_medium_power_cut(medium);
    ls_vault_memory_open_on(medium, &vault);
    assert_ok(vault.read(vault.self, &group, LS_VAULT_MARK, 0, &found, 1, &got));
    assert_int_equal(found, 'o');
    ls_vault_medium_close(medium);
}

TEST(vault_memory, loses_a_file_whose_sync_failed_and_shows_a_replacing_that_failed)
{
    struct ls_vault_medium *medium = NULL;
    struct ls_vault vault;
    const struct ls_group_id group = {{1}};
    char found = 0;
    size_t got = 0;
    assert_ok(ls_vault_medium_open(NULL, &medium));
    ls_vault_memory_open_on(medium, &vault);
    assert_ok(vault.write(vault.self, &group, LS_VAULT_WRITING, 0, (struct ls_span){"n", 1}));
    ls_vault_medium_fail(medium, 0, 1);
    assert_int_equal(vault.sync(vault.self, &group, LS_VAULT_WRITING), LS_ERR_IO);
    assert_int_equal(vault.sync(vault.self, &group, LS_VAULT_WRITING), LS_ERR_IO);
    assert_ok(vault.remove(vault.self, &group, LS_VAULT_WRITING));
    assert_ok(vault.write(vault.self, &group, LS_VAULT_WRITING, 0, (struct ls_span){"n", 1}));
    assert_ok(vault.sync(vault.self, &group, LS_VAULT_WRITING));
    ls_vault_medium_fail(medium, 0, 1);
    assert_int_equal(vault.replace(vault.self, &group, LS_VAULT_WRITING, LS_VAULT_SNAPSHOT),
                     LS_ERR_IO);
    assert_ok(vault.read(vault.self, &group, LS_VAULT_SNAPSHOT, 0, &found, 1, &got));
    assert_int_equal(found, 'n');
    ls_vault_medium_power_cut(medium);
    ls_vault_memory_open_on(medium, &vault);
    assert_int_equal(vault.read(vault.self, &group, LS_VAULT_SNAPSHOT, 0, &found, 1, &got),
                     LS_ERR_NOT_FOUND);
    assert_ok(vault.read(vault.self, &group, LS_VAULT_WRITING, 0, &found, 1, &got));
    ls_vault_medium_close(medium);
}

TEST(vault_memory, keeps_any_pages_of_what_was_not_synced_when_it_tears)
{
    const struct ls_group_id group = {{1}};
    static uint8_t bytes[4096], found[8192];
    unsigned kinds = 0; /* lengths and contents that were met */
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct ls_vault_medium *medium = NULL;
        struct ls_vault vault;
        size_t got = 0;
        assert_ok(ls_vault_medium_open(NULL, &medium));
        ls_vault_memory_open_on(medium, &vault);
        ls_vault_medium_tear(medium, seed);
        (void)memset(bytes, 'a', sizeof bytes);
        assert_ok(vault.write(vault.self, &group, LS_VAULT_STAGED, 0,
                              (struct ls_span){bytes, sizeof bytes}));
        assert_ok(vault.sync(vault.self, &group, LS_VAULT_STAGED));
        (void)memset(bytes, 'b', sizeof bytes);
        assert_ok(vault.write(vault.self, &group, LS_VAULT_STAGED, sizeof bytes,
                              (struct ls_span){bytes, sizeof bytes}));
        ls_vault_medium_power_cut(medium);
        ls_vault_memory_open_on(medium, &vault);
        assert_ok(vault.read(vault.self, &group, LS_VAULT_STAGED, 0, found, sizeof found, &got));
        assert_true(got >= sizeof bytes);
        for (size_t i = 0; i < got; i++) {
            assert_true(i < sizeof bytes ? found[i] == 'a' : found[i] == 'b' || found[i] == 0);
        }
        kinds |= got == sizeof bytes ? 1u : 2u;
        kinds |= got > sizeof bytes && memchr(found, 0, got) != NULL ? 4u : 0;
        ls_vault_medium_close(medium);
    }
    assert_int_equal(kinds, 7);
}
