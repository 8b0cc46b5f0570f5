/* SPDX-License-Identifier: MIT */
/* The report that a person reads: the window, an operation a line, with a bar for its time. */
#include "checker.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "search.h"

#define BAR_COLUMNS 48u
#define TEXT_BYTES  96u

struct report {
    FILE *out;
    const struct linear_result *result;
    const char *(*name)(uint64_t value);
    uint64_t *times; /* that stand in the window, ascending, each once */
    size_t times_count;
};

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void times_collect(struct report *report)
{
    const struct linear_result *result = report->result;
    size_t used = 0;
    report->times = linear__grow(NULL, 2 * result->window_count, sizeof *report->times);
    for (size_t i = 0; i < result->window_count; i++) {
        report->times[used++] = result->window[i].invoked;
        if (result->window[i].outcome != LINEAR_UNKNOWN) {
            report->times[used++] = result->window[i].returned;
        }
    }
    qsort(report->times, used, sizeof *report->times, by_number);
    for (size_t i = 0; i < used; i++) {
        if (i == 0 || report->times[i] != report->times[report->times_count - 1]) {
            report->times[report->times_count++] = report->times[i];
        }
    }
}

/* The column of a time: only their order shows, not how long they are apart. */
static size_t column(const struct report *report, uint64_t time)
{
    size_t rank = 0;
    while (rank < report->times_count && report->times[rank] < time) {
        rank++;
    }
    if (report->times_count <= BAR_COLUMNS / 3) {
        return 3 * rank;
    }
    return rank * (BAR_COLUMNS - 1) / report->times_count;
}

static void bar(const struct report *report, const struct linear_op *op, char *out)
{
    bool open = op->outcome == LINEAR_UNKNOWN;
    size_t from = column(report, op->invoked);
    size_t to = open ? BAR_COLUMNS - 1 : column(report, op->returned);
    memset(out, ' ', BAR_COLUMNS);
    memset(out + from, open ? '.' : '-', to - from + 1);
    out[from] = '|';
    out[to] = open ? '>' : '|';
    out[BAR_COLUMNS] = '\0';
}

static const char *text_of(const struct report *report, uint64_t value, char *out)
{
    if (value == LINEAR_ABSENT) {
        (void)snprintf(out, TEXT_BYTES, "nothing");
    } else if (report->name != NULL) {
        (void)snprintf(out, TEXT_BYTES, "%s", report->name(value));
    } else {
        (void)snprintf(out, TEXT_BYTES, "%" PRIu64, value);
    }
    return out;
}

static void print_what(const struct report *report, const struct linear_op *op)
{
    char value[TEXT_BYTES], expected[TEXT_BYTES];
    (void)text_of(report, op->value, value);
    (void)text_of(report, op->expected, expected);
    switch (op->kind) {
    case LINEAR_READ:
        (void)fprintf(report->out, "read: %s", value);
        break;
    case LINEAR_WRITE:
        (void)fprintf(report->out, "write %s", value);
        break;
    case LINEAR_CAS:
        (void)fprintf(report->out, "cas %s -> %s%s", expected, value,
                      op->outcome == LINEAR_NO ? ": refused" : "");
        break;
    case LINEAR_DELETE:
        (void)fprintf(report->out, "delete%s",
                      op->outcome == LINEAR_NO   ? ": there was nothing"
                      : op->outcome == LINEAR_OK ? ": there was something"
                                                 : "");
        break;
    }
    if (op->outcome == LINEAR_UNKNOWN) {
        (void)fprintf(report->out, ": no answer");
    }
}

static void print_op(const struct report *report, const struct linear_op *op)
{
    char picture[BAR_COLUMNS + 1], returned[32] = "";
    uint64_t begin = report->times[0];
    bar(report, op, picture);
    if (op->outcome != LINEAR_UNKNOWN) {
        (void)snprintf(returned, sizeof returned, "+%" PRIu64, op->returned - begin);
    }
    (void)fprintf(report->out, "  %s  +%-10" PRIu64 " %-11s client %-4u ", picture,
                  op->invoked - begin, returned, (unsigned)op->client);
    print_what(report, op);
    (void)fprintf(report->out, "\n");
}

static bool in_window(const struct linear_result *result, uint64_t value)
{
    for (size_t i = 0; i < result->window_count; i++) {
        const struct linear_op *op = &result->window[i];
        if (linear__mutates(op) && linear__leaves(op) == value) {
            return true;
        }
    }
    return false;
}

/* Where a value came from that the window shows and does not explain. */
static void print_origin(const struct report *report, const struct linear_op *ops, size_t count,
                         uint64_t value)
{
    char text[TEXT_BYTES];
    uint64_t begin = report->times[0];
    (void)fprintf(report->out, "%s ", text_of(report, value, text));
    for (size_t i = 0; i < count; i++) {
        if (ops[i].key == report->result->key && ops[i].outcome != LINEAR_NEVER &&
            linear__mutates(&ops[i]) && linear__leaves(&ops[i]) == value) {
            (void)fprintf(report->out, "was written by client %u, invoked ",
                          (unsigned)ops[i].client);
            if (ops[i].invoked < begin) {
                (void)fprintf(report->out, "%" PRIu64 " before the window begins\n",
                              begin - ops[i].invoked);
            } else {
                (void)fprintf(report->out, "at +%" PRIu64 "\n", ops[i].invoked - begin);
            }
            return;
        }
    }
    (void)fprintf(report->out, "was never written\n");
}

static void print_window(struct report *report, const struct linear_op *ops, size_t count)
{
    const struct linear_result *result = report->result;
    times_collect(report);
    (void)fprintf(report->out,
                  "key %" PRIu64 ": its %zu operations are not linearizable; no order explains "
                  "these %zu, %s\n(times from %" PRIu64 "; bars show only their order)\n",
                  result->key, result->count, result->window_count,
                  result->from_any ? "whatever the key held before"
                                   : "the key holding nothing before",
                  report->times[0]);
    for (size_t i = 0; i < result->window_count; i++) {
        print_op(report, &result->window[i]);
    }
    for (size_t i = 0; i < result->window_count; i++) {
        uint64_t seen = LINEAR_ABSENT;
        if (linear__observes(&result->window[i], &seen) && seen != LINEAR_ABSENT &&
            !in_window(result, seen)) {
            print_origin(report, ops, count, seen);
        }
    }
    free(report->times);
}

void linear_print(FILE *out, const struct linear_result *result, const struct linear_op *ops,
                  size_t count, const char *(*name)(uint64_t value))
{
    struct report report = {.out = out, .result = result, .name = name};
    switch (result->verdict) {
    case LINEAR_LEGAL:
        (void)fprintf(out, "%zu operations on %zu keys are linearizable (%" PRIu64 " steps)\n",
                      count, result->keys, result->steps);
        break;
    case LINEAR_UNDECIDED:
        (void)fprintf(out,
                      "key %" PRIu64 ": its %zu operations are undecided after %" PRIu64 " steps\n",
                      result->key, result->count, result->steps);
        break;
    case LINEAR_ILLEGAL:
        print_window(&report, ops, count);
        break;
    }
}
