/* SPDX-License-Identifier: MIT */
/* Keys apart, the verdict, the recorder. See checker.h. */
#include "checker.h"

#include <stdlib.h>

#include <lockstep/macros.h>

#include "search.h"
#include "shrink.h"

static int by_key(const void *a, const void *b)
{
    const struct linear_op *x = a, *y = b;
    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return (x->invoked > y->invoked) - (x->invoked < y->invoked);
}

enum linear_verdict linear_check(const struct linear_op *ops, size_t count,
                                 struct linear_result *result)
{
    struct linear_op *sorted = linear__grow(NULL, count, sizeof *sorted);
    size_t used = 0;
    *result = (struct linear_result){.verdict = LINEAR_LEGAL};
    for (size_t i = 0; i < count; i++) {
        if (ops[i].outcome != LINEAR_NEVER) {
            sorted[used++] = ops[i];
        }
    }
    if (used > 0) {
        qsort(sorted, used, sizeof *sorted, by_key);
    }
    for (size_t from = 0, to = 0; from < used && result->verdict != LINEAR_ILLEGAL; from = to) {
        while (to < used && sorted[to].key == sorted[from].key) {
            to++;
        }
        enum linear_verdict verdict =
            linear__search(&sorted[from], to - from, LINEAR_ABSENT, &result->steps);
        result->keys++;
        if (verdict != LINEAR_LEGAL) {
            result->verdict = verdict;
            result->key = sorted[from].key;
            result->count = to - from;
        }
        if (verdict == LINEAR_ILLEGAL) {
            linear__shrink(&sorted[from], to - from, result);
        }
    }
    free(sorted);
    return result->verdict;
}

void linear_result_free(struct linear_result *result)
{
    free(result->window);
    *result = (struct linear_result){0};
}

size_t linear_begin(struct linear_history *history, const struct linear_op *op)
{
    if (history->count == history->capacity) {
        history->capacity = 2 * history->capacity + 256;
        history->ops = linear__grow(history->ops, history->capacity, sizeof *history->ops);
    }
    history->ops[history->count] = *op;
    history->ops[history->count].outcome = LINEAR_UNKNOWN;
    return history->count++;
}

void linear_end(struct linear_history *history, size_t number, enum linear_outcome outcome,
                uint64_t value, uint64_t returned)
{
    LS_ASSERT(number < history->count);
    struct linear_op *op = &history->ops[number];
    LS_ASSERT(op->outcome == LINEAR_UNKNOWN);
    op->outcome = outcome;
    op->returned = returned;
    if (op->kind == LINEAR_READ) {
        op->value = value;
    }
}

void linear_history_free(struct linear_history *history)
{
    free(history->ops);
    *history = (struct linear_history){0};
}
