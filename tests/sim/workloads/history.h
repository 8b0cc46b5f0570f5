/* SPDX-License-Identifier: MIT */
/* What the clients of a workload with keys and values were told, for the linearizability checker.
 */
#ifndef LOCKSTEP_SIM_HISTORY_H
#define LOCKSTEP_SIM_HISTORY_H

#include <lockstep/sim.h>

#include "checker.h"

#define HISTORY_KEYS_MAX 16u

/** Zeroed is empty. */
struct history {
    struct linear_history linear;
    /* value that each client saw last under each key: the last client is the simulator itself */
    uint64_t seen[LS_SIM_CLIENTS_MAX + 1][HISTORY_KEYS_MAX];
};

/** A call begins. `op` lacks client and time. Returns its number in the history. */
size_t history_begin(struct history *history, const struct ls_sim_call *call,
                     const struct linear_op *op);

/** It ended without an answer. */
void history_fail(struct history *history, size_t number, const struct ls_sim_call *call,
                  enum ls_status status);

/** It ended with one; `value`: what a read, or a CAS or delete that was refused, has seen. */
void history_answer(struct history *history, size_t number, const struct ls_sim_call *call,
                    bool done, uint64_t value);

/** Fails the run, and prints the window, if the history is not linearizable. */
void history_judge(const struct history *history, struct ls_sim *sim);

void history_free(struct history *history);

#endif
