/* SPDX-License-Identifier: MIT */
/* The contract of a vault (lockstep/vault.h), proved over any implementation. */
#ifndef LOCKSTEP_VAULT_SUITE_H
#define LOCKSTEP_VAULT_SUITE_H

#include "test.h"

#include <lockstep/vault.h>

struct vault_subject {
    /** Opens the same vault again, after the last one was closed. */
    void (*open)(void *arg, struct ls_vault *out);
    void *arg;
};

void vault_keeps_what_was_synced(const struct vault_subject *subject);
void vault_overwrites_cuts_and_grows(const struct vault_subject *subject);
void vault_replaces_at_once(const struct vault_subject *subject);
void vault_removes_also_what_is_not_there(const struct vault_subject *subject);
void vault_goes_on_with_what_was_written_while_it_synced(const struct vault_subject *subject);
void vault_serves_a_group_that_was_closed_again(const struct vault_subject *subject);
void vault_keeps_groups_and_files_apart(const struct vault_subject *subject);

#endif
