/* SPDX-License-Identifier: MIT */
/* See armed.h. */
#include "armed.h"

#include "../fault/tree.h"
#include "steps.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

void armed_prepare(struct cluster *cluster)
{
    cluster_prepare(cluster, 3);
    cluster->state = "rocksdb";
    for (unsigned at = 0; at < cluster->count; at++) {
        char disk[96];
        armed_place(cluster, at, "disk", disk);
        assert_int_equal(mkdir(disk, 0700), 0);
        (void)snprintf(cluster->members[at].data, sizeof cluster->members[at].data, "%s/data",
                       disk);
    }
}

void armed_place(const struct cluster *cluster, unsigned at, const char *what, char out[96])
{
    (void)snprintf(out, 96, "%.60s/%s-%s", cluster->directory, what, cluster->members[at].name);
}

void armed_spawn(struct cluster *cluster, unsigned at, const char *step)
{
    static char lines[5][512];
    char disk[96], shadow[96];
    struct member *member = &cluster->members[at];
    armed_place(cluster, at, "disk", disk);
    armed_place(cluster, at, "shadow", shadow);
    tree_remove(shadow);
    (void)snprintf(lines[0], sizeof lines[0], "LS_CRASH_AT=%s:1", step);
    (void)snprintf(lines[1], sizeof lines[1], "LD_PRELOAD=%s", LS_POWERCUT);
    (void)snprintf(lines[2], sizeof lines[2], "LS_POWERCUT_DIRECTORY=%s", disk);
    (void)snprintf(lines[3], sizeof lines[3], "LS_POWERCUT_SHADOW=%s", shadow);
    (void)snprintf(lines[4], sizeof lines[4], "ASAN_OPTIONS=verify_asan_link_order=0");
    for (unsigned i = 0; i < 5; i++) {
        member->environment[i] = lines[i];
    }
    cluster_spawn(cluster, at);
    member->environment[0] = NULL;
}

void armed_cut_power(struct cluster *cluster, unsigned at)
{
    char disk[96], shadow[96];
    armed_place(cluster, at, "disk", disk);
    armed_place(cluster, at, "shadow", shadow);
    cluster_run((const char *const[]){LS_POWERCUT_RESTORE, shadow, disk, NULL});
}

bool armed_dead(struct cluster *cluster, unsigned at, const char *step)
{
    struct member *member = &cluster->members[at];
    int status = 0;
    if (waitpid(member->pid, &status, WNOHANG) != member->pid) {
        return false;
    }
    member->pid = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != CRASH_EXIT) {
        fail_msg("%s: ended with status 0x%x, not at its step", step, (unsigned)status);
    }
    return true;
}
