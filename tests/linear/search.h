/* SPDX-License-Identifier: MIT */
/* Inside the checker: the search for an order of one key's operations. */
#ifndef LOCKSTEP_TESTS_LINEAR_SEARCH_H
#define LOCKSTEP_TESTS_LINEAR_SEARCH_H

#include "checker.h"

/**
 * Whether operations of one key have an order, if it holds `initial` before.
 *
 * ops      borrowed, in any order; LINEAR_NEVER is passed over
 * steps    the operations tried are added to it
 */
enum linear_verdict linear__search(const struct linear_op *ops, size_t count, uint64_t initial,
                                   uint64_t *steps);

/** Whether it can leave the key with another value than it found: a write, a CAS or a delete that
 * was not refused. */
bool linear__mutates(const struct linear_op *op);
/** What the key holds after it, if it mutates. */
uint64_t linear__leaves(const struct linear_op *op);
/** Whether its result says which value the key held, and which: reads and what was compared. */
bool linear__observes(const struct linear_op *op, uint64_t *value);

/** Memory or the test ends. */
void *linear__grow(void *block, size_t count, size_t bytes);

#endif
