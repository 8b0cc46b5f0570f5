/* SPDX-License-Identifier: MIT */
/*
 * Frozen states of the machine, and what a join finds in the vault: the newest snapshot of a
 * machine in memory, and the mark of an install that was interrupted.
 */
#include "runtime.h"

#include <string.h>

/* Its state can be told in items, and restored from them. */
static bool machine_whole(const struct ls_machine *machine)
{
    return machine->freeze != NULL && machine->iterate != NULL && machine->thaw != NULL &&
           machine->restore != NULL && machine->restore_item != NULL && machine->publish != NULL &&
           machine->restore_end != NULL;
}

bool ls__snapshots_able(const struct ls_machine *machine)
{
    return machine_whole(machine) || (machine->freeze != NULL && machine->publish != NULL &&
                                      machine->durable_applied != NULL);
}

/* ---- frozen states --------------------------------------------------------------------------- */

/* The configuration in force at the applied index. LS_ERR_BUSY: a newer one is not applied yet. */
static enum ls_status copy_configuration(struct ls_group *group, struct ls__frozen *frozen)
{
    struct ls_core_status *status = &group->node->core_status;
    const struct ls_env *env = &group->node->env;
    ls_core_status(group->core, status);
    if (status->configuration == NULL || status->configuration->index > group->applied) {
        return LS_ERR_BUSY;
    }
    uint8_t *bytes = ls__allocate(env, NULL, LS_CONFIGURATION_BYTES_MAX);
    if (bytes == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    enum ls_status encoded =
        ls_configuration_encode(&env->codec, &status->configuration->configuration, bytes,
                                LS_CONFIGURATION_BYTES_MAX, &frozen->configuration_bytes);
    LS_ASSERT(encoded == LS_OK);
    frozen->configuration_index = status->configuration->index;
    frozen->configuration = bytes;
    return LS_OK;
}

enum ls_status ls__freeze(struct ls_group *group, struct ls__frozen **out)
{
    struct ls__snapshots *snapshots = &group->snap;
    struct ls_node *node = group->node;
    struct ls__frozen *frozen = snapshots->frozen;
    struct ls__frozen *end = frozen + sizeof snapshots->frozen / sizeof snapshots->frozen[0];
    while (frozen < end && frozen->used) {
        frozen++;
    }
    if (!snapshots->able || frozen == end) {
        return snapshots->able ? LS_ERR_LIMIT : LS_ERR_NOT_FOUND;
    }
    const ls_index at = group->applied - (LS_MUTANT(S5) ? 1 : 0);
    const struct ls_cursor anchor = {ls_core_term_at(group->core, at), at};
    if (anchor.term == 0 || group->halted != LS_OK) {
        return LS_ERR_BUSY;
    }
    *frozen = (struct ls__frozen){.anchor = anchor};
    enum ls_status status = copy_configuration(group, frozen);
    if (status != LS_OK) {
        return status;
    }
    bool inside = ls__machine_enter(node);
    uint64_t start = ls__now(node);
    status = group->machine.freeze(group->machine.self, &frozen->frozen);
    uint64_t took = ls__now(node) - start;
    ls__machine_leave(node, inside);
    if (status != LS_OK) {
        (void)ls__allocate(&node->env, frozen->configuration, 0);
        return status;
    }
    group->freeze_us_max = took > group->freeze_us_max ? took : group->freeze_us_max;
    frozen->used = true;
    frozen->id = ++snapshots->next_id;
    *out = frozen;
    return LS_OK;
}

void ls__thaw(struct ls_group *group, struct ls__frozen *frozen)
{
    LS_ASSERT(frozen->used);
    if (group->machine.thaw != NULL) {
        bool inside = ls__machine_enter(group->node);
        group->machine.thaw(group->machine.self, &frozen->frozen);
        ls__machine_leave(group->node, inside);
    }
    (void)ls__allocate(&group->node->env, frozen->configuration, 0);
    *frozen = (struct ls__frozen){0};
}

struct ls__frozen *ls__frozen_find(struct ls_group *group, uint64_t id)
{
    struct ls__snapshots *snapshots = &group->snap;
    for (size_t i = 0; i < sizeof snapshots->frozen / sizeof snapshots->frozen[0]; i++) {
        if (snapshots->frozen[i].used && snapshots->frozen[i].id == id) {
            return &snapshots->frozen[i];
        }
    }
    return NULL;
}

enum ls_status ls__frozen_iterate(struct ls_group *group, const struct ls__frozen *frozen,
                                  struct ls_span from, ls_item_visit visit, void *arg)
{
    struct ls_node *node = group->node;
    if (!group->snap.whole) {
        return LS_ERR_NOT_FOUND; /* only a state sync of its own can tell its state */
    }
    bool inside = ls__machine_enter(node);
    enum ls_status status =
        group->machine.iterate(group->machine.self, &frozen->frozen, from, visit, arg);
    ls__machine_leave(node, inside);
    return status;
}

enum ls_status ls__restore_chunk(struct ls_group *group, struct ls_span chunk, size_t *at)
{
    struct ls_node *node = group->node;
    struct ls_item item;
    enum ls_status status = LS_OK;
    size_t next = *at;
    bool inside = ls__machine_enter(node);
    while (status == LS_OK && ls_chunk_next(chunk, &next, &item)) {
        status = group->machine.restore_item(group->machine.self, &item);
        *at = status == LS_OK ? next : *at;
    }
    ls__machine_leave(node, inside);
    return status == LS_OK && *at != chunk.bytes ? LS_ERR_CORRUPT : status;
}

enum ls_status ls__restore_sync(struct ls_group *group)
{
    if (group->machine.restore_sync == NULL || !group->snap.whole) {
        return LS_OK;
    }
    bool inside = ls__machine_enter(group->node);
    enum ls_status status = group->machine.restore_sync(group->machine.self);
    ls__machine_leave(group->node, inside);
    return status;
}

void ls__restore_end(struct ls_group *group)
{
    if (group->snap.whole) {
        bool inside = ls__machine_enter(group->node);
        group->machine.restore_end(group->machine.self);
        ls__machine_leave(group->node, inside);
    }
}

enum ls_status ls__restore_begin(struct ls_group *group, struct ls_cursor anchor)
{
    if (!group->snap.whole) {
        return LS_OK; /* a state sync of its own brings the state */
    }
    bool inside = ls__machine_enter(group->node);
    enum ls_status status = group->machine.restore(group->machine.self, anchor);
    ls__machine_leave(group->node, inside);
    return status;
}

enum ls_status ls__restore_publish(struct ls_group *group, struct ls_cursor anchor)
{
    bool inside = ls__machine_enter(group->node);
    enum ls_status status = group->machine.publish(group->machine.self, anchor);
    ls__machine_leave(group->node, inside);
    return status;
}

/* ---- at a join ------------------------------------------------------------------------------- */

/* The term of the entry at `index` as the store tells; 0: it holds none there. */
static ls_term stored_term(const struct ls_storage_state *state, ls_index index)
{
    ls_term term = 0;
    if (index == state->anchor.index) {
        return state->anchor.term;
    }
    if (index < state->anchor.index || index > state->last.index) {
        return 0;
    }
    for (size_t i = 0; i < state->runs_count && state->runs[i].index <= index; i++) {
        term = state->runs[i].term;
    }
    return term;
}

static enum ls_status mark_open(struct ls_group *group, struct ls_error *error)
{
    struct ls__snapshots *snapshots = &group->snap;
    enum ls_status status = ls__pack_open(&snapshots->mark, &group->node->env, snapshots->vault,
                                          &group->id, &snapshots->incarnation, LS_VAULT_MARK);
    if (status != LS_OK) {
        return ls_error_set(error, status, "read the mark of an install: %s",
                            ls_status_text(status));
    }
    snapshots->marked = snapshots->mark.whole;
    return LS_OK;
}

/* An install was interrupted. Before (b) nothing has changed: the mark is dropped, what is staged
 * stays for the next session. After it the log must follow. */
static enum ls_status mark_judge(struct ls_group *group, const struct ls_storage_state *state,
                                 struct ls_error *error)
{
    struct ls__snapshots *snapshots = &group->snap;
    const struct ls_cursor anchor = snapshots->mark.snapshot.anchor;
    bool published = group->applied >= anchor.index;
    /* also when it was pruned: that takes only what is applied, so the log went on from it */
    bool known =
        anchor.index < state->anchor.index || stored_term(state, anchor.index) == anchor.term;
    if (published && !known && group->applied != anchor.index) {
        return ls_error_set(error, LS_ERR_CORRUPT,
                            "the snapshot at index %llu was being installed, but the machine has "
                            "applied up to %llu",
                            (unsigned long long)anchor.index, (unsigned long long)group->applied);
    }
    snapshots->restore_due = published && !known && !LS_MUTANT(S1_JOIN);
    if (!snapshots->restore_due) {
        snapshots->marked = false;
        (void)ls__pack_empty(
            &snapshots->mark); /* one that stays does no harm: it is judged again */
    }
    return LS_OK;
}

/* The process that exchanged the names ended before that was durable, the next one let the log
 * follow, and then the power went: the log begins at the anchor of the file that has its old name
 * again. The mark outlives that time. */
static enum ls_status names_judge(struct ls_group *group, const struct ls_storage_state *state,
                                  struct ls_error *error)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (group->applied >= state->anchor.index ||
        ls_cursor_compare(snapshots->mark.snapshot.anchor, state->anchor) != 0) {
        return LS_OK;
    }
    enum ls_status status = ls__keep_load(group, LS_VAULT_STAGED, error);
    if (status == LS_OK && group->applied == state->anchor.index) {
        snapshots->rename_due = true;
        snapshots->step = LS__INSTALL_REPLACING;
    }
    return status;
}

enum ls_status ls__snapshots_open(struct ls_group *group, const struct ls_storage_state *state,
                                  uint64_t keep_entries, struct ls_error *error)
{
    struct ls__snapshots *snapshots = &group->snap;
    struct ls_node *node = group->node;
    snapshots->able = ls__snapshots_able(&group->machine);
    snapshots->whole = machine_whole(&group->machine);
    snapshots->vault = node->vault.size > 0 ? &node->vault : NULL;
    snapshots->incarnation = state->incarnation;
    snapshots->staged_left = true; /* of an earlier life */
    snapshots->keep_entries = keep_entries;
    snapshots->builder.env = &node->env;
    snapshots->kept =
        snapshots->whole && snapshots->vault != NULL && group->machine.durable_applied == NULL;
    if (!snapshots->able || snapshots->vault == NULL) {
        return LS_OK;
    }
    /* what was being written when the process ended is of no use */
    (void)snapshots->vault->remove(snapshots->vault->self, &group->id, LS_VAULT_WRITING);
    enum ls_status status = mark_open(group, error);
    if (status == LS_OK && snapshots->kept) {
        status = ls__keep_load(group, LS_VAULT_SNAPSHOT, error);
        if (status == LS_ERR_CORRUPT && state->anchor.index == 0 && !snapshots->marked) {
            ls__group_trace(group, LS_TRACE_WARN,
                            "the snapshot file is damaged: the whole log is "
                            "applied again",
                            NULL, error != NULL ? error->text : NULL);
            status = LS_OK;
        }
    }
    if (status == LS_OK && snapshots->kept && snapshots->marked) {
        status = names_judge(group, state, error);
    }
    if (status == LS_OK && snapshots->marked && !snapshots->rename_due) {
        status = mark_judge(group, state, error);
    }
    if (status == LS_OK && snapshots->kept && group->applied > 0 && !snapshots->restore_due &&
        group->applied <= state->last.index && group->applied >= state->anchor.index &&
        stored_term(state, group->applied) != snapshots->kept_at.term) {
        status = ls_error_set(error, LS_ERR_CORRUPT,
                              "the log has another entry at index %llu than the snapshot file",
                              (unsigned long long)group->applied);
    }
    return status;
}

enum ls_status ls__snapshots_resume(struct ls_group *group, struct ls_error *error)
{
    struct ls__snapshots *snapshots = &group->snap;
    if (!snapshots->restore_due) {
        return LS_OK;
    }
    const struct ls_cursor anchor = snapshots->mark.snapshot.anchor;
    group->applied = group->applied_reported = anchor.index;
    enum ls_status status = ls__staging_restored(group);
    if (status != LS_OK) {
        return ls_error_set(error, status, "finish the install of a snapshot: %s",
                            ls_status_text(status));
    }
    if (group->commit < anchor.index) {
        return ls_error_set(error, LS_ERR_CORRUPT,
                            "the snapshot at index %llu was published, and cannot be installed",
                            (unsigned long long)anchor.index);
    }
    snapshots->restore_due = false;
    snapshots->step = LS__INSTALL_SETTLING;
    snapshots->seq = group->staged_seq;
    ls__group_trace(group, LS_TRACE_INFO, "an interrupted install is finished", NULL, NULL);
    return LS_OK;
}

void ls__snapshots_close(struct ls_group *group)
{
    struct ls__snapshots *snapshots = &group->snap;
    ls__keep_abort(group);
    ls__load_drop(group);
    for (size_t i = 0; i < sizeof snapshots->frozen / sizeof snapshots->frozen[0]; i++) {
        if (snapshots->frozen[i].used) {
            ls__thaw(group, &snapshots->frozen[i]);
        }
    }
    ls__pack_close(&snapshots->staged);
    ls__pack_close(&snapshots->mark);
    if (snapshots->vault != NULL && snapshots->vault->close_group != NULL) {
        snapshots->vault->close_group(snapshots->vault->self, &group->id);
    }
    if (snapshots->builder.env != NULL) {
        ls_chunk_builder_free(&snapshots->builder);
    }
}

/* ---- the turn -------------------------------------------------------------------------------- */

void ls__snapshots_turn(struct ls_group *group)
{
    if (group->snap.vault == NULL || !group->snap.able || group->halted != LS_OK) {
        return;
    }
    ls__staging_turn(group);
    ls__keep_turn(group);
}

bool ls__snapshots_more(const struct ls_group *group)
{
    const struct ls__snapshots *snapshots = &group->snap;
    bool load = snapshots->step == LS__INSTALL_LOADING
                    ? !snapshots->load_waits
                    : snapshots->step == LS__INSTALL_NONE && ls__load_more(group);
    return group->halted == LS_OK &&
           (load || (snapshots->keep == LS__KEEP_CUTTING && !snapshots->keep_waits));
}
