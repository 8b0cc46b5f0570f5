/* SPDX-License-Identifier: MIT */
/*
 * Opening a group: every stored record passes through here once, in order, and has to fit the one
 * before; then the whole is compared with the guard. A torn tail, a damaged middle and a log that
 * lost its end are three different things (P11).
 */
#include "ledger.h"

#include <inttypes.h>
#include <stdio.h>

enum ls_status ls__ledger_load_guard(struct ls__ledger *ledger, struct ls_span image,
                                     struct ls_error *error)
{
    if (image.bytes == 0) {
        return LS_OK;
    }
    bool torn;
    const char *reason = "";
    enum ls_status status = ls__guard_decode(image, &ledger->id, &ledger->guard, &torn, &reason);
    if (status == LS_ERR_CORRUPT) {
        return ls_error_set(error, status,
                            "guard of group %s: both slots are damaged (%s): what this member has "
                            "promised is not known",
                            ledger->name, reason);
    }
    if (status != LS_OK) {
        return ls_error_set(error, status, "guard of group %s: %s", ledger->name, reason);
    }
    ledger->guard_found = true;
    return LS_OK;
}

static bool add_configuration(struct ls__ledger *ledger, ls_index index, struct ls_span bytes)
{
    void *array = ledger->configurations;
    bool grown = ls__array_grow(ledger->env, &array, &ledger->configurations_capacity,
                                ledger->configurations_count + 1, sizeof *ledger->configurations);
    ledger->configurations = array;
    uint8_t *copy = grown ? ls__allocate(ledger->env, bytes.bytes + 1) : NULL;
    if (copy == NULL) {
        return false;
    }
    (void)memcpy(copy, bytes.data, bytes.bytes);
    ledger->configurations[ledger->configurations_count++] =
        (struct ls_stored_configuration){index, {copy, bytes.bytes}};
    return true;
}

/* The log passes the guard's cursor: it has to be the same record. */
static void meet_guard(struct ls__ledger *ledger, struct ls_cursor at, uint64_t check)
{
    const struct ls__mark *promised = &ledger->guard.last;
    if (ledger->guard_found && at.index != 0 && at.index == promised->at.index &&
        (at.term != promised->at.term || check != promised->check)) {
        ledger->guard_differs = true;
    }
}

static enum ls_status load_anchor(struct ls__ledger *ledger, struct ls_span body,
                                  struct ls_error *error)
{
    const uint8_t *at = body.data;
    if (body.bytes < 32) {
        return ls_error_set(error, LS_ERR_CORRUPT, "anchor of group %s: it is too short",
                            ledger->name);
    }
    ledger->anchor.at = (struct ls_cursor){ls__get_u64(at), ls__get_u64(at + 8)};
    ledger->anchor.check = ls__get_u64(at + 16);
    ledger->last = ledger->anchor.at;
    ledger->chain.check = ledger->anchor.check;
    meet_guard(ledger, ledger->last, ledger->chain.check);
    if (body.bytes > 32 && !add_configuration(ledger, ls__get_u64(at + 24),
                                              (struct ls_span){at + 32, body.bytes - 32})) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "group %s: out of memory", ledger->name);
    }
    return LS_OK;
}

enum ls_status ls__ledger_load_cell(struct ls__ledger *ledger, enum ls__cell cell,
                                    struct ls_span bytes, struct ls_error *error)
{
    static const char *const names[] = {"?",           "hard state", "anchor",
                                        "commit hint", "store",      "guard"};
    LS_ASSERT(cell == LS__CELL_HARD || cell == LS__CELL_ANCHOR || cell == LS__CELL_COMMIT);
    const char *reason = "";
    struct ls_span body;
    enum ls_status status =
        cell == LS__CELL_HARD ? ls__hard_decode(ledger->chain.group, bytes, &ledger->hard, &reason)
                              : ls__cell_open(ledger->chain.group, cell, bytes, &body, &reason);
    if (status != LS_OK) {
        return ls_error_set(error, status, "%s of group %s: %s", names[cell], ledger->name, reason);
    }
    if (cell == LS__CELL_ANCHOR) {
        return load_anchor(ledger, body, error);
    }
    if (cell == LS__CELL_COMMIT) {
        if (body.bytes != 8) {
            return ls_error_set(error, LS_ERR_CORRUPT, "commit hint of group %s: %zu bytes",
                                ledger->name, body.bytes);
        }
        ledger->commit_hint = ls__get_u64(body.data);
    }
    return LS_OK;
}

/* Does the record fit the one before? NULL, or an error is set. */
static enum ls_status check_place(const struct ls__ledger *ledger, ls_index index,
                                  const struct ls__record *record, struct ls_error *error)
{
    const char *name = ledger->name;
    if (record->index != index && !LS_MUTANT(F6)) {
        return ls_error_set(error, LS_ERR_CORRUPT,
                            "log of group %s: index %" PRIu64 " holds the record of index %" PRIu64,
                            name, index, record->index);
    }
    if (record->previous != ledger->chain.check && !LS_MUTANT(F6)) {
        return ls_error_set(error, LS_ERR_CORRUPT,
                            "log of group %s: index %" PRIu64
                            " is not the record written after %" PRIu64 "^%" PRIu64
                            ": one of them is stale",
                            name, index, ledger->last.term, ledger->last.index);
    }
    if (record->entry.term < ledger->last.term) {
        return ls_error_set(error, LS_ERR_CORRUPT,
                            "log of group %s: index %" PRIu64 " has term %" PRIu64
                            " after term %" PRIu64,
                            name, index, record->entry.term, ledger->last.term);
    }
    return LS_OK;
}

enum ls_status ls__ledger_load_record(struct ls__ledger *ledger, ls_index index,
                                      struct ls_span bytes, struct ls_error *error)
{
    struct ls__record record;
    const char *reason = "";
    if (ledger->last.index == 0 && index > 1 && LS_MUTANT(S2)) {
        return LS_OK;
    }
    if (index != ledger->last.index + 1 && LS_MUTANT(F3)) {
        return LS_OK;
    }
    if (index != ledger->last.index + 1) {
        return ls_error_set(error, LS_ERR_CORRUPT,
                            "log of group %s: index %" PRIu64 " follows %" PRIu64, ledger->name,
                            index, ledger->last.index);
    }
    enum ls_status status = ls__record_parse(ledger->chain.group, bytes, &record, &reason);
    if (status != LS_OK && LS_MUTANT(F3)) {
        return LS_OK;
    }
    if (status != LS_OK) {
        return ls_error_set(error, status, "log of group %s: record of index %" PRIu64 ": %s",
                            ledger->name, index, reason);
    }
    status = check_place(ledger, index, &record, error);
    if (status != LS_OK) {
        return status;
    }
    struct ls_cursor at = {record.entry.term, index};
    if (ledger->runs_count == 0 || at.term != ledger->last.term) {
        void *array = ledger->runs;
        bool grown = ls__array_grow(ledger->env, &array, &ledger->runs_capacity,
                                    ledger->runs_count + 1, sizeof *ledger->runs);
        ledger->runs = array;
        if (!grown) {
            return ls_error_set(error, LS_ERR_NO_MEMORY, "group %s: out of memory", ledger->name);
        }
        ledger->runs[ledger->runs_count++] = at;
    }
    if (record.entry.kind == LS_ENTRY_CONFIGURATION &&
        !add_configuration(ledger, index, record.entry.data)) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "group %s: out of memory", ledger->name);
    }
    ledger->last = at;
    ledger->chain.check = record.check;
    meet_guard(ledger, at, record.check);
    return LS_OK;
}

/* Writes the sentence why the tail is unknown; leaves `text` empty if all that the guard knows of
 * is there. */
static void judge(const struct ls__ledger *ledger, char *text, size_t capacity)
{
    const struct ls__guard *guard = &ledger->guard;
    struct ls_cursor last = ledger->last;
    text[0] = '\0';
    if (!ledger->guard_found) {
        if (last.index != 0 || ledger->hard.term != 0) {
            (void)snprintf(text, capacity,
                           "the guard of group %s is missing while its log ends at %" PRIu64
                           "^%" PRIu64 ": what was acknowledged is not known",
                           ledger->name, last.term, last.index);
        }
    } else if (last.index < guard->last.at.index && !LS_MUTANT(F4)) {
        (void)snprintf(text, capacity,
                       "the log of group %s ends at %" PRIu64 "^%" PRIu64 " but %" PRIu64
                       "^%" PRIu64 " was durable: it lost acknowledged entries",
                       ledger->name, last.term, last.index, guard->last.at.term,
                       guard->last.at.index);
    } else if (ledger->guard_differs && !LS_MUTANT(F16)) {
        (void)snprintf(text, capacity,
                       "the log of group %s holds another record at index %" PRIu64
                       " than the durable %" PRIu64 "^%" PRIu64 ": it is an older copy",
                       ledger->name, guard->last.at.index, guard->last.at.term,
                       guard->last.at.index);
    } else if (ls__hard_behind(&ledger->hard, &guard->hard)) {
        (void)snprintf(text, capacity,
                       "the hard state of group %s has term %" PRIu64
                       " but a promise in term %" PRIu64
                       " was durable: it lost acknowledged writes",
                       ledger->name, ledger->hard.term, guard->hard.term);
    } else if (guard->unknown && !LS_MUTANT(F4_RESTART)) {
        (void)snprintf(text, capacity,
                       "the log of group %s lost acknowledged entries before and has not reached "
                       "%" PRIu64 "^%" PRIu64 " again",
                       ledger->name, guard->last.at.term, guard->last.at.index);
    }
}

enum ls_status ls__ledger_finish(struct ls__ledger *ledger,
                                 const struct ls_incarnation *incarnation,
                                 struct ls_storage_state *state, struct ls_error *error)
{
    struct ls__guard *guard = &ledger->guard;
    if (ledger->guard_found && !ls_incarnation_equal(&guard->incarnation, incarnation)) {
        return ls_error_set(error, LS_ERR_MISMATCH,
                            "guard of group %s: it belongs to another incarnation of this "
                            "directory: log and guard are not of one member",
                            ledger->name);
    }
    *state = (struct ls_storage_state){.incarnation = *incarnation};
    judge(ledger, state->tail_text, sizeof state->tail_text);
    bool unknown = state->tail_text[0] != '\0';
    /* the guard's promise holds even if the log forgot it, and what was found is promised now */
    if (!ls__hard_behind(&ledger->hard, &guard->hard) || LS_MUTANT(F4_VOTE)) {
        guard->hard = ledger->hard;
    }
    if (!ledger->guard_found || !unknown) {
        guard->last = (struct ls__mark){ledger->last, ledger->chain.check};
    }
    guard->incarnation = *incarnation;
    guard->unknown = unknown;
    guard->sequence++;
    state->hard_state = guard->hard;
    state->anchor = ledger->anchor.at;
    state->last = ledger->last;
    state->runs = ledger->runs;
    state->runs_count = ledger->runs_count;
    state->configurations = ledger->configurations;
    state->configurations_count = ledger->configurations_count;
    state->commit_hint = ledger->commit_hint;
    state->tail_unknown = unknown;
    state->guard_last = guard->last.at;
    return LS_OK;
}
