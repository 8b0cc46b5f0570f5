/* SPDX-License-Identifier: MIT */
/* What statesync.c measures with: its table of figures, the limits of this machine, and a load. */
#ifndef LOCKSTEP_BENCH_STATESYNC_H
#define LOCKSTEP_BENCH_STATESYNC_H

#include "../cluster/cluster.h"

#define RUNS_MAX 16

enum figure {
    LOOPBACK,
    DISK,
    HASH,
    FILL,
    RATE,
    FETCHED,
    LEADER,
    FOLLOWER_LEAST,
    FOLLOWER_MOST,
    OPENED,
    CPU_LAGGING,
    CPU_SERVING,
    FREEZE,
    MEMORY_LAGGING,
    MEMORY_SERVING,
    MEMORY_SESSION,
    KILLED_FETCHED,
    KILLED_SECONDS,
    LOAD_ALONE,
    LOAD_MEANWHILE,
    LOAD_LOSS,
    P99_ALONE,
    P99_MEANWHILE,
    P99_RISE,
    SYNC_UNDER_LOAD,
    FIGURES
};

/** Of one run. */
void figure_add(enum figure figure, double value);
/** Least, median and most of those that have values. */
void figures_print(void);

/** Adds LOOPBACK, DISK (with a file of so many MiB) and HASH. */
void limits_measure(uint64_t file_mib);

uint64_t now_us(void);

/* ---- load: SETs of 128 bytes on one connection, always so many in flight ---- */

struct load;
struct load_figures {
    double per_second, p99_ms;
};

struct load *load_open(const struct cluster *cluster, unsigned at);
/** What was answered from now on is of a new span. */
void load_begin(struct load *load);
/** Of the span up to now. */
struct load_figures load_end(struct load *load);
void load_close(struct load *load);

#endif
