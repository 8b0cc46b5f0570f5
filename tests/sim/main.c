/* SPDX-License-Identifier: MIT */
/* lockstep-sim: the simulator with the workloads of the project. */
#include "workloads/workloads.h"

int main(int argc, char **argv)
{
    const struct ls_sim_workload workloads[] = {workload_register, workload_kv};
    return ls_sim_main(argc, argv, workloads, sizeof workloads / sizeof *workloads);
}
