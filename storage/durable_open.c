/* SPDX-License-Identifier: MIT */
/*
 * What the durable store finds on the disk, or makes there: its log, with the incarnation, and of a
 * group the guard, the cells and the records, which the ledger judges (ledger_open.c).
 */
#include "durable.h"

#include "crash.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static const char store_key[] = "store";
static const struct ls_group_id no_group;

/* the store */

/* Makes a new log under another name, so that a half-made one is never taken for ours. */
static enum ls_status create_log(struct ls__durable *durable, const char *fresh,
                                 uint64_t write_buffer_bytes, struct ls_error *error)
{
    enum ls_status status = ls__directory_clean(&durable->directory, error);
    struct ls__engine *engine;
    if (status == LS_OK) {
        status = ls__engine_open(&durable->env, fresh, true, write_buffer_bytes, &engine, error);
    }
    if (status != LS_OK) {
        return status;
    }
    LS__CRASH("format.made");
    uint8_t cell[LS__STORE_BYTES];
    durable->env.entropy(durable->env.self, cell + LS__CELL_HEADER_BYTES, 16);
    (void)ls__cell_seal(ls__record_group(&no_group), LS__CELL_STORE, cell, 16);
    const struct ls_span value[2] = {{cell, sizeof cell}, {NULL, 0}};
    struct ls__engine_batch *batch = ls__engine_batch_open();
    ls__engine_batch_put(engine, batch, LS__FAMILY_META,
                         (struct ls_span){store_key, sizeof store_key - 1}, value);
    status = ls__engine_write(engine, batch, error);
    LS__CRASH("incarnation.written");
    ls__engine_batch_close(batch);
    ls__engine_close(engine);
    LS__CRASH("log.closed");
    return status == LS_OK ? ls__directory_publish(&durable->directory, error) : status;
}

static enum ls_status load_incarnation(struct ls__durable *durable, struct ls_error *error)
{
    struct ls__engine_value *value;
    struct ls_span bytes;
    struct ls_span body;
    const char *reason = "";
    enum ls_status status =
        ls__engine_get(durable->engine, LS__FAMILY_META,
                       (struct ls_span){store_key, sizeof store_key - 1}, &value, &bytes, error);
    if (status == LS_ERR_NOT_FOUND) {
        return ls_error_set(error, LS_ERR_CORRUPT, "log: it is not one of Lockstep's");
    }
    if (status != LS_OK) {
        return status;
    }
    status = ls__cell_open(ls__record_group(&no_group), LS__CELL_STORE, bytes, &body, &reason);
    if (status == LS_OK && body.bytes != sizeof durable->incarnation.bytes) {
        status = LS_ERR_CORRUPT;
        reason = "its form is unknown";
    }
    if (status == LS_OK) {
        (void)memcpy(durable->incarnation.bytes, body.data, body.bytes);
    } else {
        (void)ls_error_set(error, status, "the store's own record: %s", reason);
    }
    ls__engine_value_release(value);
    return status;
}

enum ls_status ls__durable_open_log(struct ls__durable *durable, uint64_t write_buffer_bytes,
                                    struct ls_error *error)
{
    char base[PATH_MAX];
    char path[PATH_MAX + 16];
    char fresh[PATH_MAX + 16];
    if (realpath(durable->path, base) == NULL) {
        return ls_error_set(error, LS_ERR_IO, "%s", strerror(errno));
    }
    (void)snprintf(path, sizeof path, "%s/log", base);
    (void)snprintf(fresh, sizeof fresh, "%s/log.new", base);
    bool exists;
    enum ls_status status = ls__directory_log(&durable->directory, &exists, error);
    if (status == LS_OK && !exists) {
        status = create_log(durable, fresh, write_buffer_bytes, error);
    }
    if (status == LS_OK) {
        status = ls__engine_open(&durable->env, path, false, write_buffer_bytes, &durable->engine,
                                 error);
    }
    return status == LS_OK ? load_incarnation(durable, error) : status;
}

/* a group */

static enum ls_status load_guard(struct ls__durable *durable, struct ls_storage_group *group,
                                 struct ls_error *error)
{
    uint8_t image[LS__GUARD_FILE_BYTES] = {0};
    size_t bytes = 0;
    enum ls_status status = ls__guard_file_open(durable->directory.guard, &group->ledger.id,
                                                &group->guard_file, image, &bytes);
    if (status == LS_ERR_NOT_FOUND) {
        return LS_OK;
    }
    if (status != LS_OK) {
        return ls_error_set(error, status, "guard of group %s: %s", group->ledger.name,
                            strerror(errno));
    }
    /* an empty file is damage too, not a missing one */
    struct ls_span found = {image, bytes > 0 ? bytes : 1};
    return ls__ledger_load_guard(&group->ledger, found, error);
}

static enum ls_status load_cells(struct ls__durable *durable, struct ls__ledger *ledger,
                                 struct ls_error *error)
{
    static const enum ls__cell cells[] = {LS__CELL_HARD, LS__CELL_ANCHOR, LS__CELL_COMMIT};
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
        uint8_t key[LS__CELL_KEY_BYTES];
        struct ls__engine_value *value;
        struct ls_span bytes;
        enum ls_status status =
            ls__engine_get(durable->engine, ls__cell_family(cells[i]),
                           ls__cell_key(&ledger->id, cells[i], key), &value, &bytes, error);
        if (status == LS_ERR_NOT_FOUND) {
            continue;
        }
        if (status != LS_OK) {
            return ls_error_wrap(error, status, "group %s", ledger->name);
        }
        status = ls__ledger_load_cell(ledger, cells[i], bytes, error);
        ls__engine_value_release(value);
        if (status != LS_OK) {
            return status;
        }
    }
    return LS_OK;
}

static enum ls_status load_log(struct ls__durable *durable, struct ls__ledger *ledger,
                               struct ls_error *error)
{
    struct ls__pages pages;
    enum ls_status status = ls__pages_open(&pages, &durable->env, durable->engine, &ledger->id,
                                           ledger->anchor.at.index + 1);
    if (status != LS_OK) {
        return ls_error_set(error, status, "out of memory");
    }
    ls_index index;
    struct ls_span bytes;
    while (status == LS_OK && ls__pages_next(&pages, &index, &bytes)) {
        status = ls__ledger_load_record(ledger, index, bytes, error);
    }
    struct ls_error reading;
    enum ls_status read = ls__pages_close(&pages, &reading);
    if (read != LS_OK) {
        return ls_error_set(error, read, "log of group %s: after index %llu: %s", ledger->name,
                            (unsigned long long)ledger->last.index, reading.text);
    }
    return status;
}

static enum ls_status store_guard(struct ls__durable *durable, struct ls_storage_group *group,
                                  struct ls_error *error)
{
    struct ls__ledger *ledger = &group->ledger;
    group->guard = ledger->guard;
    group->guard_synced_us = durable->env.now_us(durable->env.self);
    enum ls_status status =
        ledger->guard_found ? ls__guard_file_write(group->guard_file, &ledger->id, &group->guard)
                            : ls__guard_file_create(durable->directory.guard, &ledger->id,
                                                    &group->guard, &group->guard_file);
    if (status != LS_OK) {
        return ls_error_set(error, status, "guard of group %s: %s", ledger->name, strerror(errno));
    }
    return LS_OK;
}

enum ls_status ls__durable_load(struct ls__durable *durable, struct ls_storage_group *group,
                                struct ls_storage_state *state, struct ls_error *error)
{
    enum ls_status status = load_guard(durable, group, error);
    if (status == LS_OK) {
        status = load_cells(durable, &group->ledger, error);
    }
    if (status == LS_OK) {
        status = load_log(durable, &group->ledger, error);
    }
    if (status == LS_OK) {
        status = ls__ledger_finish(&group->ledger, &durable->incarnation, state, error);
    }
    return status == LS_OK ? store_guard(durable, group, error) : status;
}
