/* SPDX-License-Identifier: MIT */
/* What lockstep-sim can simulate. */
#ifndef LOCKSTEP_SIM_WORKLOADS_H
#define LOCKSTEP_SIM_WORKLOADS_H

#include <lockstep/sim.h>

extern const struct ls_sim_workload workload_register;
extern const struct ls_sim_workload workload_kv;

#endif
