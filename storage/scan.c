/* SPDX-License-Identifier: MIT */
/*
 * Reading a range of a log: every record is verified again, and against the one before it, before a
 * visitor sees it.
 */
#include "ledger.h"

static enum ls_status damaged(const struct ls__scan *scan, enum ls_status status,
                              const char *reason)
{
    const struct ls_env *env = scan->ledger->env;
    if (env->trace != NULL) {
        const struct ls_trace trace = {.level = LS_TRACE_ERROR,
                                       .room = "storage",
                                       .format = "cannot read index {}",
                                       .group = &scan->ledger->id,
                                       .detail = reason,
                                       .args = {scan->next}};
        env->trace(env->self, &trace);
    }
    return status;
}

enum ls_status ls__scan_take(struct ls__scan *scan, struct ls_span bytes, bool *more)
{
    struct ls__record record;
    const char *reason = "";
    *more = false;
    enum ls_status status = ls__record_parse(scan->ledger->chain.group, bytes, &record, &reason);
    if (status != LS_OK) {
        return damaged(scan, status, reason);
    }
    if (record.index != scan->next && !LS_MUTANT(F6)) {
        return damaged(scan, LS_ERR_CORRUPT, "it holds the record of another index");
    }
    if (scan->begun && record.previous != scan->previous && !LS_MUTANT(F6)) {
        return damaged(scan, LS_ERR_CORRUPT, "it was not written after the record before it");
    }
    if (scan->begun && record.entry.data.bytes > scan->bytes_left) {
        return LS_OK;
    }
    scan->begun = true;
    scan->previous = record.check;
    scan->bytes_left -=
        record.entry.data.bytes < scan->bytes_left ? record.entry.data.bytes : scan->bytes_left;
    bool wanted = scan->visit(scan->arg, scan->next, &record.entry);
    *more = wanted && scan->next < scan->last && scan->bytes_left > 0;
    scan->next++;
    return LS_OK;
}
