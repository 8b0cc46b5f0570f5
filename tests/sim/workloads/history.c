/* SPDX-License-Identifier: MIT */
#include "history.h"

#include <stdio.h>

size_t history_begin(struct history *history, const struct ls_sim_call *call,
                     const struct linear_op *op)
{
    struct linear_op begun = *op;
    begun.outcome = LINEAR_UNKNOWN;
    begun.client = call->client;
    begun.invoked = call->invoked;
    return linear_begin(&history->linear, &begun);
}

void history_fail(struct history *history, size_t number, const struct ls_sim_call *call,
                  enum ls_status status)
{
    if (ls_sim_did_nothing(status)) {
        linear_end(&history->linear, number, LINEAR_NEVER, 0, call->returned);
    }
}

void history_answer(struct history *history, size_t number, const struct ls_sim_call *call,
                    bool done, uint64_t value)
{
    const struct linear_op *op = &history->linear.ops[number];
    bool writes = done && (op->kind == LINEAR_WRITE || op->kind == LINEAR_CAS);
    LS_ASSERT(op->key < HISTORY_KEYS_MAX);
    if (done || value != LINEAR_ABSENT) { /* else it has learned only what is not there */
        history->seen[call->client][op->key] = writes ? op->value : value;
    }
    linear_end(&history->linear, number, done ? LINEAR_OK : LINEAR_NO, value, call->returned);
}

void history_judge(const struct history *history, struct ls_sim *sim)
{
    struct linear_result result;
    const struct linear_history *linear = &history->linear;
    if (linear_check(linear->ops, linear->count, &result) != LINEAR_LEGAL) {
        linear_print(stdout, &result, linear->ops, linear->count, NULL);
        ls_sim_fail(sim, "the history of key %llu is not linearizable",
                    (unsigned long long)result.key);
    }
    linear_result_free(&result);
}

void history_free(struct history *history)
{
    linear_history_free(&history->linear);
}
