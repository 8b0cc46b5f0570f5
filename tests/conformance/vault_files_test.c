/* SPDX-License-Identifier: MIT */
/* The contract of a vault, over files in a directory. */
#include "vault_suite.h"

#include <stdio.h>

static void open_files(void *arg, struct ls_vault *out)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/vault", (const char *)arg);
    assert_ok(ls_vault_files_open(path, NULL, out, NULL));
}

static void in_directory(void (*prove)(const struct vault_subject *subject))
{
    char path[500];
    (void)snprintf(path, sizeof path, "%s", test_directory());
    struct vault_subject subject = {open_files, path};
    prove(&subject);
}

TEST(vault_files, keeps_what_was_synced)
{
    in_directory(vault_keeps_what_was_synced);
}

TEST(vault_files, overwrites_cuts_and_grows)
{
    in_directory(vault_overwrites_cuts_and_grows);
}

TEST(vault_files, replaces_at_once)
{
    in_directory(vault_replaces_at_once);
}

TEST(vault_files, removes_also_what_is_not_there)
{
    in_directory(vault_removes_also_what_is_not_there);
}

TEST(vault_files, goes_on_with_what_was_written_while_it_synced)
{
    in_directory(vault_goes_on_with_what_was_written_while_it_synced);
}

TEST(vault_files, serves_a_group_that_was_closed_again)
{
    in_directory(vault_serves_a_group_that_was_closed_again);
}

TEST(vault_files, keeps_groups_and_files_apart)
{
    in_directory(vault_keeps_groups_and_files_apart);
}

TEST(vault_files, is_not_opened_twice_or_where_there_is_no_directory)
{
    struct ls_vault vault;
    struct ls_vault again;
    struct ls_error error = {LS_OK, ""};
    const char *path = test_directory();
    assert_ok(ls_vault_files_open(path, NULL, &vault, &error));
    assert_int_equal(ls_vault_files_open(path, NULL, &again, &error), LS_ERR_LOCKED);
    assert_non_null(strstr(error.text, path));
    vault.close(vault.self);
    assert_int_equal(ls_vault_files_open("/proc/nowhere/vault", NULL, &again, &error), LS_ERR_IO);
    assert_non_null(strstr(error.text, "/proc/nowhere"));
}
