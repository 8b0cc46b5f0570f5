/* SPDX-License-Identifier: MIT */
/* lockstep-sim: the simulator with the workloads of the project. */
#include "workloads.h"

int main(int argc, char **argv)
{
    static const struct ls_sim_workload *const workloads[] = {&workload_register};
    return ls_sim_main(argc, argv, workloads, sizeof workloads / sizeof *workloads);
}
