/* SPDX-License-Identifier: MIT */
/*
 * What tests and simulators ask of a medium: to hold commits back, to lose, fail, refuse, damage
 * them, and to lose power in the middle of one.
 *
 * Steps of a commit that the power may go between, as on a disk (guard.h, "Order"):
 *
 *     guard lowered (if it cuts below the guard) -> log -> guard raised (if due) -> reported
 *
 * The log takes a commit whole or not at all, as a write-ahead log with checksums does; the guard's
 * slot may be cut anywhere.
 */
#include "medium.h"

void ls_storage_medium_hold(struct ls_storage_medium *medium, bool on)
{
    medium->hold = on;
    if (!on) {
        ls_storage_medium_release(medium, SIZE_MAX);
    }
}

void ls_storage_medium_release(struct ls_storage_medium *medium, size_t commits)
{
    if (medium->store != NULL) {
        ls__memory_release(medium->store, commits);
    }
}

size_t ls_storage_medium_held(const struct ls_storage_medium *medium)
{
    return medium->store == NULL ? 0 : ls__memory_held(medium->store);
}

void ls_storage_medium_power_cut(struct ls_storage_medium *medium)
{
    if (medium->store != NULL) {
        medium->dead = true;
        medium->faults += ls__memory_lose(medium->store);
    }
}

/* Writes the slot up to a byte. A guard that is not there yet gets its name only when it is whole.
 */
static void guard_torn(struct ls__medium_group *group, size_t bytes)
{
    uint8_t slot[LS__GUARD_SLOT_BYTES];
    if (group->guard_image.count == LS__GUARD_FILE_BYTES) {
        size_t offset = ls__guard_encode(&group->guard, &group->id, slot);
        (void)memcpy(group->guard_image.bytes + offset, slot, bytes % sizeof slot);
    }
}

/* Its room was reserved. */
static void guard_written(struct ls_storage_medium *medium, struct ls__medium_group *group)
{
    enum ls_status status = ls__medium_guard_write(medium, group);
    LS_ASSERT(status == LS_OK);
}

static void cut_group(struct ls_storage_medium *medium, const struct ls__touched *touched,
                      enum ls_storage_cut cut, size_t bytes)
{
    struct ls__medium_group *group = touched->group;
    if (cut == LS_STORAGE_CUT_LOWERING || cut == LS_STORAGE_CUT_LOWERED) {
        if (ls__guard_before(&group->guard, &touched->outcome)) {
            if (cut == LS_STORAGE_CUT_LOWERING) {
                guard_torn(group, bytes);
            } else {
                guard_written(medium, group);
            }
        }
        return;
    }
    bool sync = ls__guard_before(&group->guard, &touched->outcome);
    if (sync) {
        guard_written(medium, group);
    }
    if (cut == LS_STORAGE_CUT_RAISING) {
        group->guard_dirty = true;
        if (!ls__guard_after(&group->guard, &touched->outcome, &group->guard_dirty)) {
            group->guard.sequence++; /* a second may have passed */
        }
        guard_torn(group, bytes);
    }
}

bool ls_storage_medium_power_cut_at(struct ls_storage_medium *medium, enum ls_storage_cut cut,
                                    size_t bytes)
{
    struct ls__commit *commit = medium->store == NULL ? NULL : ls__memory_oldest(medium->store);
    bool within = commit != NULL && ls__medium_reserve(medium, commit);
    for (size_t i = 0; within && i < commit->touched_count; i++) {
        cut_group(medium, &commit->touched[i], cut, bytes);
    }
    if (within && (cut == LS_STORAGE_CUT_LOG || cut == LS_STORAGE_CUT_RAISING)) {
        ls__medium_write(commit);
    }
    ls_storage_medium_power_cut(medium);
    return within;
}

void ls_storage_medium_power_cut_open(struct ls_storage_medium *medium, size_t bytes)
{
    medium->open_cut = true;
    medium->open_cut_bytes = bytes;
}

enum ls_status ls__medium_guard_open(struct ls_storage_medium *medium,
                                     struct ls__medium_group *group, struct ls_error *error)
{
    if (medium->open_cut) {
        medium->open_cut = false;
        medium->faults++;
        guard_torn(group, medium->open_cut_bytes);
        return ls_error_set(error, LS_ERR_IO, "the power went");
    }
    enum ls_status status = ls__medium_guard_write(medium, group);
    return status == LS_OK ? LS_OK : ls_error_set(error, status, "out of memory");
}

void ls_storage_medium_refuse(struct ls_storage_medium *medium, size_t stages)
{
    medium->refusals = stages;
}

void ls_storage_medium_fail(struct ls_storage_medium *medium, enum ls_storage_fault fault,
                            size_t after)
{
    medium->fault = fault;
    medium->fault_after = after;
}

static struct ls_span part_of(struct ls__medium_group *group, enum ls_storage_part part,
                              ls_index index)
{
    const struct ls__blob *blob = NULL;
    switch (part) {
    case LS_STORAGE_LOG:
        return ls__medium_record(group, index);
    case LS_STORAGE_HARD:
        blob = &group->cells[LS__CELL_HARD];
        break;
    case LS_STORAGE_ANCHOR:
        blob = &group->cells[LS__CELL_ANCHOR];
        break;
    case LS_STORAGE_COMMIT:
        blob = &group->cells[LS__CELL_COMMIT];
        break;
    case LS_STORAGE_GUARD:
        blob = &group->guard_image;
        break;
    }
    return blob == NULL ? (struct ls_span){NULL, 0} : (struct ls_span){blob->bytes, blob->count};
}

bool ls_storage_medium_flip(struct ls_storage_medium *medium, const struct ls_group_id *id,
                            enum ls_storage_part part, ls_index index, size_t bit)
{
    struct ls__medium_group *group = ls__medium_group(medium, id, false);
    struct ls_span found = {NULL, 0};
    if (group != NULL) {
        found = part_of(group, part, index);
    }
    if (found.bytes == 0) {
        return false;
    }
    bit %= found.bytes * 8;
    uint8_t *bytes = (uint8_t *)(uintptr_t)found.data;
    bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    medium->faults++;
    return true;
}

bool ls_storage_medium_drop(struct ls_storage_medium *medium, const struct ls_group_id *id,
                            enum ls_storage_part part, ls_index index)
{
    struct ls__medium_group *group = ls__medium_group(medium, id, false);
    if (group == NULL || part_of(group, part, index).bytes == 0) {
        return false;
    }
    if (part == LS_STORAGE_LOG) {
        ls__medium_remove(group, index, UINT64_MAX);
    } else if (part == LS_STORAGE_GUARD) {
        group->guard_image.count = 0;
    } else {
        group
            ->cells[part == LS_STORAGE_HARD     ? LS__CELL_HARD
                    : part == LS_STORAGE_ANCHOR ? LS__CELL_ANCHOR
                                                : LS__CELL_COMMIT]
            .count = 0;
    }
    medium->faults++;
    return true;
}

bool ls_storage_medium_swap(struct ls_storage_medium *medium, const struct ls_group_id *id,
                            ls_index a, ls_index b)
{
    struct ls__medium_group *group = ls__medium_group(medium, id, false);
    if (group == NULL) {
        return false;
    }
    struct ls_span first = ls__medium_record(group, a), second = ls__medium_record(group, b);
    if (first.bytes == 0 || first.bytes != second.bytes || first.data == second.data) {
        return false;
    }
    uint8_t *left = (uint8_t *)(uintptr_t)first.data;
    uint8_t *right = (uint8_t *)(uintptr_t)second.data;
    for (size_t i = 0; i < first.bytes; i++) {
        uint8_t kept = left[i];
        left[i] = right[i];
        right[i] = kept;
    }
    medium->faults++;
    return true;
}

bool ls_storage_medium_stale(struct ls_storage_medium *medium, const struct ls_group_id *id)
{
    struct ls__medium_group *group = ls__medium_group(medium, id, false);
    struct ls__blob *cell = group == NULL ? NULL : &group->cells[LS__CELL_HARD];
    if (cell == NULL || cell->count == 0 ||
        (cell->count == group->hard_before_bytes &&
         memcmp(cell->bytes, group->hard_before, cell->count) == 0)) {
        return false;
    }
    cell->count = group->hard_before_bytes;
    (void)memcpy(cell->bytes, group->hard_before, cell->count);
    medium->faults++;
    return true;
}

bool ls_storage_medium_keep(struct ls_storage_medium *medium, const struct ls_group_id *id)
{
    const struct ls_env *env = medium->env;
    struct ls__medium_group *group = ls__medium_group(medium, id, false);
    struct ls__medium_group *copy = group == NULL ? NULL : ls__allocate(env, sizeof *copy);
    if (copy == NULL) {
        return false;
    }
    *copy = (struct ls__medium_group){.id = *id,
                                      .records_count = group->records_count,
                                      .records_head = group->records_head,
                                      .first = group->first,
                                      .hard_before_bytes = group->hard_before_bytes};
    (void)memcpy(copy->hard_before, group->hard_before, sizeof copy->hard_before);
    void *records = NULL;
    bool whole = ls__array_grow(env, &records, &copy->records_capacity, group->records_count,
                                sizeof *copy->records) &&
                 ls__blob_append(env, &copy->log, group->log.bytes, group->log.count);
    copy->records = records;
    for (size_t i = 0; i <= LS__CELL_COMMIT && whole; i++) {
        const struct ls__blob *cell = &group->cells[i];
        whole = ls__blob_append(env, &copy->cells[i], cell->bytes, cell->count);
    }
    if (!whole) {
        ls__medium_group_free(env, copy);
        return false;
    }
    if (group->records_count > 0) {
        (void)memcpy(copy->records, group->records, group->records_count * sizeof *copy->records);
    }
    ls__medium_group_free(env, group->backup);
    group->backup = copy;
    return true;
}

bool ls_storage_medium_put_back(struct ls_storage_medium *medium, const struct ls_group_id *id)
{
    struct ls__medium_group *group = ls__medium_group(medium, id, false);
    if (group == NULL || group->backup == NULL) {
        return false;
    }
    LS_ASSERT(medium->store == NULL || !ls__memory_uses(medium->store, group));
    struct ls__medium_group *backup = group->backup, lost = *group;
    *group = *backup;
    group->next = lost.next;
    group->guard_image = lost.guard_image;
    *backup = lost; /* its log and cells go */
    backup->guard_image = (struct ls__blob){.bytes = NULL};
    backup->backup = NULL;
    ls__medium_group_free(medium->env, backup);
    medium->faults++;
    return true;
}

ls_index ls_storage_medium_guarded(struct ls_storage_medium *medium, const struct ls_group_id *id)
{
    const struct ls__medium_group *group = ls__medium_group(medium, id, false);
    struct ls__guard guard;
    bool torn = false;
    const char *reason = "";
    if (group == NULL || group->guard_image.count == 0) {
        return 0;
    }
    struct ls_span image = {group->guard_image.bytes, group->guard_image.count};
    return ls__guard_decode(image, id, &guard, &torn, &reason) == LS_OK ? guard.last.at.index : 0;
}

static bool differs(const struct ls__medium_group *group, const struct ls__mark *promised)
{
    struct ls__record record;
    const char *reason = "";
    struct ls_span bytes = ls__medium_record(group, promised->at.index);
    return bytes.bytes > 0 &&
           ls__record_parse(ls__record_group(&group->id), bytes, &record, &reason) == LS_OK &&
           (record.entry.term != promised->at.term || record.check != promised->check);
}

bool ls_storage_medium_doubtful(struct ls_storage_medium *medium, const struct ls_group_id *id)
{
    const struct ls__medium_group *group = ls__medium_group(medium, id, false);
    struct ls_storage_medium_left left;
    struct ls__guard guard;
    bool torn = false;
    const char *reason = "";
    if (group == NULL || !ls_storage_medium_left(medium, id, &left)) {
        return false;
    }
    if (group->guard_image.count == 0) {
        return left.last > 0 || left.hard_state.term > 0;
    }
    struct ls_span image = {group->guard_image.bytes, group->guard_image.count};
    if (ls__guard_decode(image, id, &guard, &torn, &reason) != LS_OK) {
        return false;
    }
    return guard.unknown || left.last < guard.last.at.index || differs(group, &guard.last) ||
           ls__hard_behind(&left.hard_state, &guard.hard);
}

uint64_t ls_storage_medium_faults(const struct ls_storage_medium *medium)
{
    return medium->faults;
}
