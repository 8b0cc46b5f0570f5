/* SPDX-License-Identifier: MIT */
/*
 * Decides whether what clients saw of a map of registers is linearizable: whether every operation
 * can be given one moment between its invocation and its response so that all of them, done one by
 * one in that order, give the results that were seen. Knows nothing of Raft and trusts nobody but
 * the clients' own records. After Wing and Gong (1993) with Lowe's memory of configurations met
 * (2017), each key by itself, which linearizability allows.
 */
#ifndef LOCKSTEP_TESTS_LINEAR_CHECKER_H
#define LOCKSTEP_TESTS_LINEAR_CHECKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/** A value is a number that the caller gives it; a key holds this one until it is written. */
#define LINEAR_ABSENT 0u

enum linear_kind {
    LINEAR_READ,   /* OK: saw `value`, which may be absent */
    LINEAR_WRITE,  /* OK: wrote `value` */
    LINEAR_CAS,    /* OK: held `expected`, now holds `value`; NO: did not hold `expected` */
    LINEAR_DELETE, /* OK: there was something; NO: there was nothing */
};

enum linear_outcome {
    LINEAR_OK,
    LINEAR_NO,
    LINEAR_UNKNOWN, /* no answer: takes effect once at any time after the invocation, or never */
    LINEAR_NEVER,   /* certainly did not happen: not looked at */
};

/**
 * What one client did.
 *
 * Times are of one clock for all clients, in any unit; only their order counts. Operations whose
 * times meet (one returned when the other was invoked) count as concurrent: where virtual time
 * stands still for many events, give event numbers instead.
 */
struct linear_op {
    enum linear_kind kind;
    enum linear_outcome outcome;
    uint32_t client; /* for the report only */
    uint64_t key;
    uint64_t value;
    uint64_t expected; /* of a CAS */
    uint64_t invoked;
    uint64_t returned; /* >= invoked (asserted); not read when the outcome is unknown */
};

enum linear_verdict {
    LINEAR_LEGAL,
    LINEAR_ILLEGAL,
    LINEAR_UNDECIDED, /* the bound of steps was met; a test treats it as a failure */
};

struct linear_result {
    enum linear_verdict verdict;
    uint64_t steps; /* operations tried, over all keys */
    size_t keys;
    /* if illegal: of the first key that is (in order of keys), owned: linear_result_free */
    uint64_t key;
    size_t count;             /* operations of that key */
    struct linear_op *window; /* some of them that no order explains, in order of invocation */
    size_t window_count;
    bool from_any; /* no value at the window's beginning explains it; else: it begins absent */
};

/**
 * Decides the history and, if it is illegal, shrinks it to a window that is illegal too.
 *
 * ops      borrowed, in any order
 * cost     about linear in `count` for a few concurrent clients a key; at worst exponential in the
 *          operations of one key that are concurrent, bounded by LINEAR_STEPS_MAX a key
 */
enum linear_verdict linear_check(const struct linear_op *ops, size_t count,
                                 struct linear_result *result);
#define LINEAR_STEPS_MAX 20000000u

void linear_result_free(struct linear_result *result);

/**
 * Prints the verdict and the window, an operation a line.
 *
 * name     turns a value into text (in a buffer of its own, valid until the next call), or NULL
 * ops      all of the history: to tell where values of the window came from
 */
void linear_print(FILE *out, const struct linear_result *result, const struct linear_op *ops,
                  size_t count, const char *(*name)(uint64_t value));

/** A growing history, for whoever records one. Zeroed is empty. */
struct linear_history {
    struct linear_op *ops;
    size_t count, capacity;
};

/** Records an invocation, as one of unknown outcome until its end is; returns its number. */
size_t linear_begin(struct linear_history *history, const struct linear_op *op);
/** The response: outcome, time, and what a read saw (`value`; else ignored). */
void linear_end(struct linear_history *history, size_t number, enum linear_outcome outcome,
                uint64_t value, uint64_t returned);
void linear_history_free(struct linear_history *history);

#endif
