/* SPDX-License-Identifier: MIT */
/*
 * The medium of the memory store: bytes that outlive it. The faults tests ask for: medium_faults.c.
 */
#include "medium.h"

bool ls__blob_append(const struct ls_env *env, struct ls__blob *blob, const void *bytes,
                     size_t count)
{
    void *array = blob->bytes;
    bool grown = ls__array_grow(env, &array, &blob->capacity, blob->count + count, 1);
    blob->bytes = array;
    if (!grown) {
        return false;
    }
    if (count > 0) {
        (void)memcpy(blob->bytes + blob->count, bytes, count);
        blob->count += count;
    }
    return true;
}

static bool blob_reserve(const struct ls_env *env, struct ls__blob *blob, size_t count)
{
    void *array = blob->bytes;
    bool grown = ls__array_grow(env, &array, &blob->capacity, count, 1);
    blob->bytes = array;
    return grown;
}

enum ls_status ls_storage_medium_open(const struct ls_env *env, struct ls_storage_medium **medium)
{
    if (env == NULL) {
        env = ls_env_default();
    }
    struct ls_storage_medium *made = ls__allocate(env, sizeof *made);
    if (made == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    *made = (struct ls_storage_medium){.env_copy = *env};
    made->env = &made->env_copy;
    env->entropy(env->self, made->incarnation.bytes, sizeof made->incarnation.bytes);
    *medium = made;
    return LS_OK;
}

void ls__medium_group_free(const struct ls_env *env, struct ls__medium_group *group)
{
    while (group != NULL) {
        struct ls__medium_group *backup = group->backup;
        ls__free(env, group->log.bytes);
        ls__free(env, group->records);
        ls__free(env, group->guard_image.bytes);
        for (size_t i = 0; i <= LS__CELL_COMMIT; i++) {
            ls__free(env, group->cells[i].bytes);
        }
        ls__free(env, group);
        group = backup;
    }
}

static void groups_free(struct ls_storage_medium *medium)
{
    while (medium->groups != NULL) {
        struct ls__medium_group *group = medium->groups;
        medium->groups = group->next;
        ls__medium_group_free(medium->env, group);
    }
}

void ls_storage_medium_close(struct ls_storage_medium *medium)
{
    if (medium != NULL) {
        LS_ASSERT(medium->store == NULL);
        groups_free(medium);
        const struct ls_env env = medium->env_copy;
        ls__free(&env, medium);
    }
}

void ls_storage_medium_wipe(struct ls_storage_medium *medium)
{
    LS_ASSERT(medium->store == NULL);
    groups_free(medium);
    if (!LS_MUTANT(F15)) {
        medium->env->entropy(medium->env->self, medium->incarnation.bytes,
                             sizeof medium->incarnation.bytes);
    }
}

struct ls__medium_group *ls__medium_group(struct ls_storage_medium *medium,
                                          const struct ls_group_id *id, bool make)
{
    for (struct ls__medium_group *group = medium->groups; group != NULL; group = group->next) {
        if (ls_group_id_equal(&group->id, id)) {
            return group;
        }
    }
    struct ls__medium_group *made = make ? ls__allocate(medium->env, sizeof *made) : NULL;
    if (made != NULL) {
        *made = (struct ls__medium_group){.next = medium->groups, .id = *id, .first = 1};
        medium->groups = made;
    }
    return made;
}

static struct ls__medium_record *record_at(const struct ls__medium_group *group, ls_index index)
{
    size_t held = group->records_count - group->records_head;
    if (index < group->first || index - group->first >= held) {
        return NULL;
    }
    return &group->records[group->records_head + (size_t)(index - group->first)];
}

struct ls_span ls__medium_record(const struct ls__medium_group *group, ls_index index)
{
    const struct ls__medium_record *record = record_at(group, index);
    if (record == NULL) {
        return (struct ls_span){NULL, 0};
    }
    return (struct ls_span){group->log.bytes + record->offset, record->bytes};
}

/* Gives the room of pruned records back once it is half of all. */
static void log_compact(struct ls__medium_group *group)
{
    size_t head = group->records_head;
    size_t held = group->records_count - head;
    if (held == 0) {
        group->log.count = group->records_count = group->records_head = 0;
        return;
    }
    if (head < held || head == 0) {
        return;
    }
    size_t dead = group->records[head].offset;
    group->log.count -= dead;
    (void)memmove(group->log.bytes, group->log.bytes + dead, group->log.count);
    for (size_t i = 0; i < held; i++) {
        group->records[i] = (struct ls__medium_record){group->records[head + i].offset - dead,
                                                       group->records[head + i].bytes};
    }
    group->records_count = held;
    group->records_head = 0;
}

void ls__medium_remove(struct ls__medium_group *group, ls_index first, ls_index last)
{
    size_t held = group->records_count - group->records_head;
    if (held == 0) {
        return;
    }
    ls_index end = group->first + held - 1;
    if (last >= end) { /* a tail, or all */
        ls_index kept = first > group->first ? first - group->first : 0;
        if (kept < held) {
            group->records_count = group->records_head + (size_t)kept;
            group->log.count = group->records[group->records_count].offset;
        }
    } else if (last >= group->first) { /* a prefix */
        LS_ASSERT(first <= group->first);
        group->records_head += (size_t)(last + 1 - group->first);
        group->first = last + 1;
    }
    log_compact(group);
}

static void log_append(struct ls__medium_group *group, ls_index index, const uint8_t *bytes,
                       size_t count)
{
    size_t held = group->records_count - group->records_head;
    if (held == 0) {
        group->first = index;
    }
    LS_ASSERT(index == group->first + held);
    LS_ASSERT(group->log.count + count <= group->log.capacity);
    group->records[group->records_count++] = (struct ls__medium_record){group->log.count, count};
    (void)memcpy(group->log.bytes + group->log.count, bytes, count);
    group->log.count += count;
}

/* Makes room for everything first: growing changes no content, so a refusal changes nothing. */
bool ls__medium_reserve(struct ls_storage_medium *medium, const struct ls__commit *commit)
{
    const struct ls_env *env = medium->env;
    for (size_t i = 0; i < commit->touched_count; i++) {
        struct ls__medium_group *group = commit->touched[i].group;
        group->wanted_records = group->records_count;
        group->wanted_bytes = group->log.count;
        if (!blob_reserve(env, &group->guard_image, LS__GUARD_FILE_BYTES)) {
            return false;
        }
    }
    for (size_t i = 0; i < commit->ops_count; i++) {
        const struct ls__op *op = &commit->ops[i];
        if (op->kind == LS__OP_APPEND) {
            op->group->wanted_records++;
            op->group->wanted_bytes += op->bytes;
        } else if (op->kind == LS__OP_PUT &&
                   !blob_reserve(env, &op->group->cells[op->cell], op->bytes)) {
            return false;
        }
    }
    for (size_t i = 0; i < commit->touched_count; i++) {
        struct ls__medium_group *group = commit->touched[i].group;
        void *array = group->records;
        bool grown = ls__array_grow(env, &array, &group->records_capacity, group->wanted_records,
                                    sizeof *group->records);
        group->records = array;
        if (!grown || !blob_reserve(env, &group->log, group->wanted_bytes)) {
            return false;
        }
    }
    return true;
}

enum ls_status ls__medium_guard_write(struct ls_storage_medium *medium,
                                      struct ls__medium_group *group)
{
    if (!blob_reserve(medium->env, &group->guard_image, LS__GUARD_FILE_BYTES)) {
        return LS_ERR_NO_MEMORY;
    }
    if (group->guard_image.count != LS__GUARD_FILE_BYTES) {
        ls__guard_image(&group->guard, &group->id, group->guard_image.bytes);
        group->guard_image.count = LS__GUARD_FILE_BYTES;
    } else {
        uint8_t slot[LS__GUARD_SLOT_BYTES];
        size_t offset = ls__guard_encode(&group->guard, &group->id, slot);
        (void)memcpy(group->guard_image.bytes + offset, slot, sizeof slot);
    }
    group->guard_dirty = false;
    group->guard_synced_us = medium->env->now_us(medium->env->self);
    return LS_OK;
}

static void put(const struct ls__op *op, const uint8_t *bytes)
{
    struct ls__blob *cell = &op->group->cells[op->cell];
    if (op->cell == LS__CELL_HARD) {
        op->group->hard_before_bytes = cell->count;
        (void)memcpy(op->group->hard_before, cell->bytes, cell->count);
    }
    (void)memcpy(cell->bytes, bytes, op->bytes);
    cell->count = op->bytes;
}

void ls__medium_write(const struct ls__commit *commit)
{
    for (size_t i = 0; i < commit->ops_count; i++) {
        const struct ls__op *op = &commit->ops[i];
        const uint8_t *bytes = commit->arena.bytes + op->offset;
        if (op->kind == LS__OP_REMOVE) {
            ls__medium_remove(op->group, op->first, op->last);
        } else if (op->kind == LS__OP_APPEND) {
            log_append(op->group, op->first, bytes, op->bytes);
        } else {
            put(op, bytes);
        }
    }
}

enum ls_status ls__medium_apply(struct ls_storage_medium *medium, struct ls__commit *commit,
                                uint64_t *guard_syncs)
{
    if (!ls__medium_reserve(medium, commit)) {
        return LS_ERR_NO_MEMORY;
    }
    ls__medium_write(commit);
    uint64_t now = medium->env->now_us(medium->env->self);
    for (size_t i = 0; i < commit->touched_count; i++) {
        struct ls__medium_group *group = commit->touched[i].group;
        const struct ls__outcome *outcome = &commit->touched[i].outcome;
        bool sync = ls__guard_before(&group->guard, outcome);
        sync = ls__guard_after(&group->guard, outcome, &group->guard_dirty) || sync;
        if (!sync && group->guard_dirty && now - group->guard_synced_us >= LS__GUARD_PERIOD_US) {
            group->guard.sequence++;
            sync = true;
        }
        if (sync && ls__medium_guard_write(medium, group) == LS_OK) {
            (*guard_syncs)++; /* cannot be refused: reserved above */
        }
    }
    return LS_OK;
}

static const struct ls__medium_group *group_find(const struct ls_storage_medium *medium,
                                                 const struct ls_group_id *id)
{
    const struct ls__medium_group *group = medium->groups;
    while (group != NULL && !ls_group_id_equal(&group->id, id)) {
        group = group->next;
    }
    return group;
}

bool ls_storage_medium_left(const struct ls_storage_medium *medium, const struct ls_group_id *id,
                            struct ls_storage_medium_left *out)
{
    *out = (struct ls_storage_medium_left){.damaged = false};
    const struct ls__medium_group *group = group_find(medium, id);
    if (group == NULL) {
        return false;
    }
    uint64_t seed = ls__record_group(id);
    const char *reason;
    const struct ls__blob *cell = &group->cells[LS__CELL_HARD];
    if (cell->count > 0 && ls__hard_decode(seed, (struct ls_span){cell->bytes, cell->count},
                                           &out->hard_state, &reason) != LS_OK) {
        out->hard_state = (struct ls_hard_state){0};
        out->damaged = true;
    }
    struct ls_span body = {NULL, 0};
    cell = &group->cells[LS__CELL_ANCHOR];
    if (cell->count > 0) {
        enum ls_status status = ls__cell_open(
            seed, LS__CELL_ANCHOR, (struct ls_span){cell->bytes, cell->count}, &body, &reason);
        if (status == LS_OK && body.bytes >= 16) {
            const uint8_t *at = body.data;
            out->anchor = (struct ls_cursor){ls__get_u64(at), ls__get_u64(at + 8)};
        } else {
            out->damaged = true;
        }
    }
    size_t held = group->records_count - group->records_head;
    out->last = held > 0 ? group->first + held - 1 : out->anchor.index;
    return true;
}

bool ls_storage_medium_entry(const struct ls_storage_medium *medium, const struct ls_group_id *id,
                             ls_index index, struct ls_entry *out)
{
    const struct ls__medium_group *group = group_find(medium, id);
    struct ls__record record;
    const char *reason;
    if (group == NULL || ls__record_parse(ls__record_group(id), ls__medium_record(group, index),
                                          &record, &reason) != LS_OK) {
        return false;
    }
    *out = record.entry;
    return record.index == index;
}
