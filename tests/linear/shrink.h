/* SPDX-License-Identifier: MIT */
/* Inside the checker: from an illegal history of one key to a small one. */
#ifndef LOCKSTEP_TESTS_LINEAR_SHRINK_H
#define LOCKSTEP_TESTS_LINEAR_SHRINK_H

#include "checker.h"

/**
 * Fills result->window from a history of one key that is illegal for a key that begins absent.
 * Each step of shrinking would leave a legal history legal, so a window that is illegal proves that
 * the whole is.
 */
void linear__shrink(const struct linear_op *ops, size_t count, struct linear_result *result);

/** Illegal whatever the key held before. */
bool linear__illegal_from_any(const struct linear_op *ops, size_t count, uint64_t *steps);

#endif
