/* SPDX-License-Identifier: MIT */
/* See vault_suite.h. */
#include "vault_suite.h"

static const struct ls_group_id group = {{7, 1}}, other = {{7, 2}};

static void write_text(const struct ls_vault *vault, enum ls_vault_file file, uint64_t offset,
                       const char *text)
{
    assert_ok(
        vault->write(vault->self, &group, file, offset, (struct ls_span){text, strlen(text)}));
}

static void sync_file(const struct ls_vault *vault, enum ls_vault_file file)
{
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = vault->sync(vault->self, &group, file);
    }
    assert_ok(status);
}

static enum ls_status replace_file(const struct ls_vault *vault)
{
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = vault->replace(vault->self, &group, LS_VAULT_WRITING, LS_VAULT_SNAPSHOT);
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

static void expect_none(const struct ls_vault *vault, enum ls_vault_file file)
{
    char found[10];
    size_t got = 1;
    assert_int_equal(vault->read(vault->self, &group, file, 0, found, sizeof found, &got),
                     LS_ERR_NOT_FOUND);
    assert_int_equal(got, 0);
    assert_int_equal(vault->truncate(vault->self, &group, file, 0), LS_ERR_NOT_FOUND);
    assert_int_equal(vault->sync(vault->self, &group, file), LS_ERR_NOT_FOUND);
}

static struct ls_vault opened(const struct vault_subject *subject)
{
    struct ls_vault vault;
    subject->open(subject->arg, &vault);
    assert_int_equal(vault.size, sizeof vault);
    return vault;
}

void vault_keeps_what_was_synced(const struct vault_subject *subject)
{
    struct ls_vault vault = opened(subject);
    expect_none(&vault, LS_VAULT_STAGED);
    write_text(&vault, LS_VAULT_STAGED, 0, "one two");
    expect_text(&vault, LS_VAULT_STAGED, "one two");
    sync_file(&vault, LS_VAULT_STAGED);
    vault.close(vault.self);
    vault = opened(subject);
    expect_text(&vault, LS_VAULT_STAGED, "one two");
    vault.close(vault.self);
}

void vault_overwrites_cuts_and_grows(const struct vault_subject *subject)
{
    struct ls_vault vault = opened(subject);
    write_text(&vault, LS_VAULT_MARK, 0, "one two");
    write_text(&vault, LS_VAULT_MARK, 4, "three");
    expect_text(&vault, LS_VAULT_MARK, "one three");
    assert_ok(vault.truncate(vault.self, &group, LS_VAULT_MARK, 3));
    write_text(&vault, LS_VAULT_MARK, 3, "!");
    expect_text(&vault, LS_VAULT_MARK, "one!");
    char part[2];
    size_t got = 0;
    assert_ok(vault.read(vault.self, &group, LS_VAULT_MARK, 3, part, sizeof part, &got));
    assert_int_equal(got, 1);
    assert_ok(vault.read(vault.self, &group, LS_VAULT_MARK, 4, part, sizeof part, &got));
    assert_int_equal(got, 0);
    vault.close(vault.self);
}

void vault_replaces_at_once(const struct vault_subject *subject)
{
    struct ls_vault vault = opened(subject);
    write_text(&vault, LS_VAULT_SNAPSHOT, 0, "the old one, which is longer");
    sync_file(&vault, LS_VAULT_SNAPSHOT);
    write_text(&vault, LS_VAULT_WRITING, 0, "the new one");
    sync_file(&vault, LS_VAULT_WRITING);
    assert_ok(replace_file(&vault));
    expect_text(&vault, LS_VAULT_SNAPSHOT, "the new one");
    expect_none(&vault, LS_VAULT_WRITING);
    vault.close(vault.self);
    vault = opened(subject);
    expect_text(&vault, LS_VAULT_SNAPSHOT, "the new one");
    expect_none(&vault, LS_VAULT_WRITING);
    assert_int_equal(replace_file(&vault), LS_ERR_IO);
    vault.close(vault.self);
}

void vault_removes_also_what_is_not_there(const struct vault_subject *subject)
{
    struct ls_vault vault = opened(subject);
    assert_ok(vault.remove(vault.self, &group, LS_VAULT_WRITING));
    write_text(&vault, LS_VAULT_WRITING, 0, "one");
    assert_ok(vault.remove(vault.self, &group, LS_VAULT_WRITING));
    expect_none(&vault, LS_VAULT_WRITING);
    write_text(&vault, LS_VAULT_WRITING, 0, "two");
    expect_text(&vault, LS_VAULT_WRITING, "two");
    vault.close(vault.self);
}

void vault_goes_on_with_what_was_written_while_it_synced(const struct vault_subject *subject)
{
    struct ls_vault vault = opened(subject);
    write_text(&vault, LS_VAULT_STAGED, 0, "one");
    (void)vault.sync(vault.self, &group, LS_VAULT_STAGED);
    write_text(&vault, LS_VAULT_STAGED, 3, " two");
    sync_file(&vault, LS_VAULT_STAGED);
    expect_text(&vault, LS_VAULT_STAGED, "one two");
    sync_file(&vault, LS_VAULT_STAGED);
    vault.close(vault.self);
    vault = opened(subject);
    expect_text(&vault, LS_VAULT_STAGED, "one two");
    vault.close(vault.self);
}

void vault_serves_a_group_that_was_closed_again(const struct vault_subject *subject)
{
    struct ls_vault vault = opened(subject);
    write_text(&vault, LS_VAULT_STAGED, 0, "one");
    (void)vault.sync(vault.self, &group, LS_VAULT_STAGED);
    if (vault.close_group != NULL) {
        vault.close_group(vault.self, &group);
        vault.close_group(vault.self, &other);
    }
    expect_text(&vault, LS_VAULT_STAGED, "one");
    write_text(&vault, LS_VAULT_STAGED, 3, "!");
    sync_file(&vault, LS_VAULT_STAGED);
    expect_text(&vault, LS_VAULT_STAGED, "one!");
    assert_ok(vault.remove(vault.self, &group, LS_VAULT_STAGED));
    vault.close(vault.self);
}

void vault_keeps_groups_and_files_apart(const struct vault_subject *subject)
{
    struct ls_vault vault = opened(subject);
    write_text(&vault, LS_VAULT_SNAPSHOT, 0, "a");
    write_text(&vault, LS_VAULT_STAGED, 0, "b");
    assert_ok(vault.write(vault.self, &other, LS_VAULT_SNAPSHOT, 0, (struct ls_span){"c", 1}));
    expect_text(&vault, LS_VAULT_SNAPSHOT, "a");
    expect_text(&vault, LS_VAULT_STAGED, "b");
    assert_ok(vault.remove(vault.self, &group, LS_VAULT_SNAPSHOT));
    char found[4];
    size_t got = 0;
    assert_ok(vault.read(vault.self, &other, LS_VAULT_SNAPSHOT, 0, found, sizeof found, &got));
    assert_int_equal(got, 1);
    assert_int_equal(found[0], 'c');
    vault.close(vault.self);
}
