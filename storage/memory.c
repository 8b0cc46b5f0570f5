/* SPDX-License-Identifier: MIT */
/*
 * The memory store: the storage port over a medium. A commit is a list of operations that is
 * applied whole when it becomes durable; until then nothing of it can be read. Used by examples,
 * tests and the simulator.
 */
#include "memory_store.h"

#include <stdio.h>

static void commit_free(const struct ls_env *env, struct ls__commit *commit)
{
    if (commit != NULL) {
        ls__free(env, commit->ops);
        ls__free(env, commit->arena.bytes);
        ls__free(env, commit->touched);
        ls__free(env, commit);
    }
}

static void commit_recycle(struct ls__memory *memory, struct ls__commit *commit)
{
    if (memory->spare != NULL) {
        commit_free(memory->env, commit);
        return;
    }
    commit->next = NULL;
    commit->ops_count = commit->arena.count = commit->touched_count = 0;
    commit->entries = commit->payload_bytes = 0;
    memory->spare = commit;
}

static void list_drop(struct ls__memory *memory, struct ls__commit **list, struct ls__commit ***end)
{
    while (*list != NULL) {
        struct ls__commit *commit = *list;
        *list = commit->next;
        commit_free(memory->env, commit);
    }
    if (end != NULL) {
        *end = list;
    }
}

static void fail(struct ls__memory *memory, enum ls_status status, const char *reason)
{
    if (memory->failed == LS_OK) {
        memory->failed = LS_MUTANT(F1) ? LS_OK : status;
        (void)snprintf(memory->text, sizeof memory->text, "memory store: %s", reason);
    }
    list_drop(memory, &memory->waiting, &memory->waiting_end);
    list_drop(memory, &memory->pending, NULL);
}

static void report_failure(struct ls__memory *memory)
{
    for (struct ls_storage_group *group = memory->groups; group != NULL; group = group->next) {
        if (!group->failed) {
            group->failed = true;
            memory->sink.failed(memory->sink.self, group->context, group->reported + 1,
                                memory->failed, memory->text);
        }
    }
}

/* Does the fault that was asked for strike now? */
static enum ls_storage_fault fault_due(struct ls_storage_medium *medium)
{
    if (medium->fault == LS_STORAGE_FAULT_NONE) {
        return LS_STORAGE_FAULT_NONE;
    }
    if (medium->fault_after > 0) {
        medium->fault_after--;
        return LS_STORAGE_FAULT_NONE;
    }
    enum ls_storage_fault fault = medium->fault;
    if (fault != LS_STORAGE_FAULT_FULL) {
        medium->fault = LS_STORAGE_FAULT_NONE;
    }
    medium->faults++;
    return fault;
}

/* Makes the oldest waiting commit durable. */
static void make_durable(struct ls__memory *memory)
{
    struct ls__commit *commit = memory->waiting;
    enum ls_storage_fault fault = fault_due(memory->medium);
    if (fault == LS_STORAGE_FAULT_WRITE) {
        fail(memory, LS_ERR_IO, "write failed: Input/output error");
        return;
    }
    if (fault == LS_STORAGE_FAULT_FULL) {
        fail(memory, LS_ERR_IO, "write failed: No space left on device");
        return;
    }
    if (fault == LS_STORAGE_FAULT_SYNC_LOST) {
        fail(memory, LS_ERR_IO, "sync failed: Input/output error");
        return;
    }
    if (ls__medium_apply(memory->medium, commit, &memory->counters.guard_syncs) != LS_OK) {
        fail(memory, LS_ERR_IO, "write failed: out of memory");
        return;
    }
    if (fault == LS_STORAGE_FAULT_SYNC) {
        fail(memory, LS_ERR_IO, "sync failed: Input/output error");
        return;
    }
    memory->waiting = commit->next;
    if (memory->waiting == NULL) {
        memory->waiting_end = &memory->waiting;
    }
    commit->next = NULL;
    *memory->finished_end = commit;
    memory->finished_end = &commit->next;
    memory->counters.syncs++;
    memory->counters.entries += commit->entries;
    memory->counters.bytes += commit->payload_bytes;
}

void ls__memory_release(struct ls__memory *memory, size_t commits)
{
    while (commits > 0 && memory->waiting != NULL) {
        make_durable(memory);
        commits--;
    }
}

size_t ls__memory_held(const struct ls__memory *memory)
{
    size_t count = 0;
    for (const struct ls__commit *commit = memory->waiting; commit != NULL; commit = commit->next) {
        count++;
    }
    return count;
}

bool ls__memory_uses(const struct ls__memory *memory, const struct ls__medium_group *place)
{
    const struct ls_storage_group *group = memory->groups;
    while (group != NULL && group->place != place) {
        group = group->next;
    }
    return group != NULL;
}

struct ls__commit *ls__memory_oldest(struct ls__memory *memory)
{
    return memory->waiting;
}

size_t ls__memory_lose(struct ls__memory *memory)
{
    size_t lost = ls__memory_held(memory) + (memory->pending != NULL ? 1 : 0);
    list_drop(memory, &memory->waiting, &memory->waiting_end);
    list_drop(memory, &memory->pending, NULL);
    return lost;
}

static void memory_attach(void *self, const struct ls_storage_sink *sink)
{
    struct ls__memory *memory = self;
    LS_ASSERT(memory->groups == NULL);
    memory->sink = *sink;
}

static enum ls_status load(struct ls__memory *memory, struct ls__ledger *ledger,
                           struct ls__medium_group *place, struct ls_storage_state *state,
                           struct ls_error *error)
{
    static const enum ls__cell cells[] = {LS__CELL_HARD, LS__CELL_ANCHOR, LS__CELL_COMMIT};
    struct ls_span image = {place->guard_image.bytes, place->guard_image.count};
    enum ls_status status = ls__ledger_load_guard(ledger, image, error);
    for (size_t i = 0; status == LS_OK && i < sizeof cells / sizeof cells[0]; i++) {
        const struct ls__blob *cell = &place->cells[cells[i]];
        if (cell->count > 0) {
            status = ls__ledger_load_cell(ledger, cells[i],
                                          (struct ls_span){cell->bytes, cell->count}, error);
        }
    }
    size_t held = place->records_count - place->records_head;
    for (size_t i = 0; status == LS_OK && i < held; i++) {
        ls_index index = place->first + i;
        status = ls__ledger_load_record(ledger, index, ls__medium_record(place, index), error);
    }
    if (status != LS_OK) {
        return status;
    }
    return ls__ledger_finish(ledger, &memory->medium->incarnation, state, error);
}

/* A group that was closed a moment ago may still have commits on their way. */
static bool waits_for(const struct ls__commit *list, const struct ls__medium_group *place)
{
    for (; list != NULL; list = list->next) {
        for (size_t i = 0; i < list->touched_count; i++) {
            if (list->touched[i].group == place) {
                return true;
            }
        }
    }
    return false;
}

static enum ls_status memory_open_group(void *self, const struct ls_group_id *id,
                                        void *group_context, struct ls_storage_group **group,
                                        struct ls_storage_state *state, struct ls_error *error)
{
    struct ls__memory *memory = self;
    for (struct ls_storage_group *open = memory->groups; open != NULL; open = open->next) {
        if (ls_group_id_equal(&open->ledger.id, id)) {
            return ls_error_set(error, LS_ERR_INVALID, "memory store: group %s is already open",
                                open->ledger.name);
        }
    }
    if (memory->failed != LS_OK) {
        return ls_error_set(error, LS_ERR_IO, "%s", memory->text);
    }
    struct ls_storage_group *made = ls__allocate(memory->env, sizeof *made);
    struct ls__medium_group *place =
        made == NULL ? NULL : ls__medium_group(memory->medium, id, true);
    while (waits_for(memory->waiting, place)) {
        ls__memory_release(memory, 1);
    }
    if (place == NULL) {
        ls__free(memory->env, made);
        return ls_error_set(error, LS_ERR_NO_MEMORY, "memory store: out of memory");
    }
    *made = (struct ls_storage_group){.place = place, .context = group_context};
    ls__ledger_init(&made->ledger, memory->env, id);
    enum ls_status status = load(memory, &made->ledger, place, state, error);
    if (status == LS_OK) {
        place->guard = made->ledger.guard;
        status = ls__medium_guard_open(memory->medium, place, error);
    }
    if (status != LS_OK) {
        ls__ledger_release(&made->ledger);
        ls__free(memory->env, made);
        return ls_error_wrap(error, status, "memory store");
    }
    made->next = memory->groups;
    memory->groups = made;
    *group = made;
    return LS_OK;
}

static void memory_commit(void *self)
{
    struct ls__memory *memory = self;
    struct ls__commit *commit = memory->pending;
    if (commit == NULL || commit->touched_count == 0) {
        return;
    }
    memory->pending = NULL;
    *memory->waiting_end = commit;
    memory->waiting_end = &commit->next;
    if (!memory->medium->hold) {
        ls__memory_release(memory, SIZE_MAX);
    }
}

static int memory_descriptor(void *self)
{
    (void)self;
    return -1;
}

static void memory_collect(void *self)
{
    struct ls__memory *memory = self;
    while (memory->finished != NULL && !memory->medium->dead) {
        struct ls__commit *commit = memory->finished;
        memory->finished = commit->next;
        if (memory->finished == NULL) {
            memory->finished_end = &memory->finished;
        }
        for (size_t i = 0; i < commit->touched_count; i++) {
            struct ls_storage_group *group = commit->touched[i].handle;
            uint64_t seq = commit->touched[i].outcome.seq;
            if (group == NULL) {
                continue;
            }
            ls__ledger_settle(&group->ledger, commit->generation);
            if (seq > group->reported) {
                group->reported = seq;
                memory->sink.durable(memory->sink.self, group->context, seq);
            }
        }
        commit_recycle(memory, commit);
    }
    if (memory->failed != LS_OK && !memory->medium->dead) {
        report_failure(memory);
    }
}

static enum ls_status memory_read(void *self, struct ls_storage_group *group, ls_index first,
                                  ls_index last, size_t bytes_max, ls_storage_visit visit,
                                  void *arg)
{
    (void)self;
    enum ls_status status = ls__ledger_readable(&group->ledger, first, &last);
    struct ls__scan scan = {.ledger = &group->ledger,
                            .next = first,
                            .last = last,
                            .bytes_left = bytes_max,
                            .visit = visit,
                            .arg = arg};
    bool more = true;
    while (status == LS_OK && more) {
        status = ls__scan_take(&scan, ls__medium_record(group->place, scan.next), &more);
    }
    return status;
}

static void forget(struct ls__commit *list, const struct ls_storage_group *group)
{
    for (; list != NULL; list = list->next) {
        for (size_t i = 0; i < list->touched_count; i++) {
            if (list->touched[i].handle == group) {
                list->touched[i].handle = NULL;
            }
        }
    }
}

static void sync_guard(struct ls__memory *memory, struct ls__medium_group *place)
{
    if (place->guard_dirty && memory->failed == LS_OK && !memory->medium->dead) {
        place->guard.sequence++;
        if (ls__medium_guard_write(memory->medium, place) == LS_OK) {
            memory->counters.guard_syncs++;
        }
    }
}

static void memory_close_group(void *self, struct ls_storage_group *group)
{
    struct ls__memory *memory = self;
    for (struct ls_storage_group **at = &memory->groups; *at != NULL; at = &(*at)->next) {
        if (*at == group) {
            *at = group->next;
            break;
        }
    }
    memory_commit(memory);
    forget(memory->pending, group);
    forget(memory->waiting, group);
    forget(memory->finished, group);
    sync_guard(memory, group->place);
    ls__ledger_release(&group->ledger);
    ls__free(memory->env, group);
}

static void memory_close(void *self)
{
    struct ls__memory *memory = self;
    struct ls_storage_medium *medium = memory->medium;
    while (memory->groups != NULL) {
        memory_close_group(memory, memory->groups);
    }
    memory_commit(memory);
    ls__memory_release(memory, SIZE_MAX);
    for (struct ls__medium_group *place = medium->groups; place != NULL; place = place->next) {
        sync_guard(memory, place);
        place->guard_dirty = false;
    }
    list_drop(memory, &memory->pending, NULL);
    list_drop(memory, &memory->waiting, &memory->waiting_end);
    list_drop(memory, &memory->finished, &memory->finished_end);
    commit_free(memory->env, memory->spare);
    medium->store = NULL;
    medium->dead = false;
    bool medium_owned = memory->medium_owned;
    ls__free(memory->env, memory);
    if (medium_owned) {
        ls_storage_medium_close(medium);
    }
}

static struct ls_incarnation memory_incarnation(void *self)
{
    const struct ls__memory *memory = self;
    return memory->medium->incarnation;
}

static void memory_counters(void *self, struct ls_storage_counters *out)
{
    const struct ls__memory *memory = self;
    *out = memory->counters;
}

enum ls_status ls_storage_memory_open_on(struct ls_storage_medium *medium, struct ls_storage *out,
                                         struct ls_error *error)
{
    if (medium->store != NULL) {
        return ls_error_set(error, LS_ERR_LOCKED, "memory store: the medium is in use");
    }
    struct ls__memory *memory = ls__allocate(medium->env, sizeof *memory);
    if (memory == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "memory store: out of memory");
    }
    *memory = (struct ls__memory){.env = medium->env, .medium = medium};
    memory->waiting_end = &memory->waiting;
    memory->finished_end = &memory->finished;
    if (medium->fault != LS_STORAGE_FAULT_FULL) {
        medium->fault = LS_STORAGE_FAULT_NONE;
    }
    medium->store = memory;
    *out = (struct ls_storage){
        .size = sizeof *out,
        .self = memory,
        .attach = memory_attach,
        .open_group = memory_open_group,
        .stage = ls__memory_stage,
        .commit = memory_commit,
        .descriptor = memory_descriptor,
        .collect = memory_collect,
        .read = memory_read,
        .prune = ls__memory_prune,
        .close_group = memory_close_group,
        .close = memory_close,
        .incarnation = memory_incarnation,
        .counters = memory_counters,
    };
    return LS_OK;
}

enum ls_status ls_storage_memory_open(const struct ls_storage_memory_options *options,
                                      struct ls_storage *out, struct ls_error *error)
{
    struct ls_storage_medium *medium;
    const struct ls_storage_memory_options defaults = {.size = sizeof defaults};
    options = options != NULL ? options : &defaults;
    const char *reason = ls__storage_options_invalid(options, options->size, sizeof *options);
    if (reason != NULL) {
        return ls_error_set(error, LS_ERR_INVALID, "memory store: %s", reason);
    }
    enum ls_status status = ls_storage_medium_open(options->env, &medium);
    if (status != LS_OK) {
        return ls_error_set(error, status, "memory store: out of memory");
    }
    status = ls_storage_memory_open_on(medium, out, error);
    if (status != LS_OK) {
        ls_storage_medium_close(medium);
        return status;
    }
    ((struct ls__memory *)out->self)->medium_owned = true;
    return LS_OK;
}
