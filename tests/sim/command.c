/* SPDX-License-Identifier: MIT */
/*
 * The command line of lockstep-sim and of programs with workloads of their own: runs seeds one
 * after the other, up to the first that fails.
 */
#include "world.h"

#include <inttypes.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct arguments {
    struct sim_options options;
    const struct ls_sim_workload *workloads;
    size_t workloads_count;
    uint64_t count;
    bool twice, all_faults, totals, shrink, help;
};

static int usage(FILE *to, const struct arguments *arguments)
{
    (void)fprintf(to,
                  "usage: %s [option...]\n"
                  "  --seed N       the first seed (default 1)\n"
                  "  --count N      how many seeds, one after the other (default 1)\n"
                  "  --workload W   what clients do; default: the seed decides\n"
                  "  --members N    1 to %u; default: the seed decides\n"
                  "  --seconds N    virtual seconds with faults (default 20)\n"
                  "  --operations N a second, aimed at by the clients; default: the seed decides\n"
                  "  --without K,K  kinds of fault that do not happen\n"
                  "  --snapshots S  yes, no, or draw: the seed decides (default no)\n"
                  "  --skip LIST    faults that do not, by number: 3,7,12-20\n"
                  "  --exact        stop at --seconds, even if some kind has not struck\n"
                  "  --twice        every seed twice: the trace must be the same\n"
                  "  --all-faults   fail unless every kind of fault was injected at least once\n"
                  "  --shrink       look for a smaller run in which the seed fails, too\n"
                  "  --totals       a line of totals for scripts at the end\n"
                  "  --trace        print every trace record\n"
                  "  --help         this text\n"
                  "status 0: clean, 1: a seed failed, 2: these arguments\n"
                  "kinds of fault:",
                  arguments->options.program, SIM_MEMBERS_MAX);
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        (void)fprintf(to, " %s", sim_fault_name((enum sim_fault)i));
    }
    (void)fprintf(to, "\nworkloads:");
    for (size_t i = 0; i < arguments->workloads_count; i++) {
        (void)fprintf(to, " %s", arguments->workloads[i].name);
    }
    (void)fprintf(to, "\n");
    return to == stdout ? 0 : 2;
}

static bool number(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end = NULL;
    *out = text != NULL ? strtoull(text, &end, 10) : 0;
    return text != NULL && *text >= '0' && *text <= '9' && *end == '\0' && *out >= min &&
           *out <= max;
}

/* Names of kinds, with commas between them. */
static bool kinds(const char *text, uint64_t *mask)
{
    for (const char *at = text; at != NULL; at = *at == ',' ? at + 1 : NULL) {
        size_t length = strcspn(at, ",");
        uint32_t kind = 0;
        while (kind < SIM_FAULTS && (strlen(sim_fault_name((enum sim_fault)kind)) != length ||
                                     memcmp(sim_fault_name((enum sim_fault)kind), at, length))) {
            kind++;
        }
        if (kind == SIM_FAULTS) {
            return false;
        }
        *mask |= (uint64_t)1u << kind;
        at += length;
    }
    return text != NULL;
}

/* An option without a value. */
static bool flag(const char *name, struct arguments *out)
{
    const struct {
        const char *name;
        bool *target;
    } flags[] = {{"--twice", &out->twice},
                 {"--all-faults", &out->all_faults},
                 {"--totals", &out->totals},
                 {"--shrink", &out->shrink},
                 {"--exact", &out->options.exact},
                 {"--trace", &out->options.trace},
                 {"--help", &out->help}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (strcmp(name, flags[i].name) == 0) {
            *flags[i].target = true;
            return true;
        }
    }
    return false;
}

static bool workload(const char *name, struct arguments *out)
{
    for (size_t i = 0; i < out->workloads_count && name != NULL; i++) {
        if (strcmp(out->workloads[i].name, name) == 0) {
            out->options.workload = &out->workloads[i];
        }
    }
    return out->options.workload != NULL;
}

static bool snapshots(const char *value, enum ls_sim_snapshots *out)
{
    static const char *const words[] = {[LS_SIM_SNAPSHOTS_NO] = "no",
                                        [LS_SIM_SNAPSHOTS_YES] = "yes",
                                        [LS_SIM_SNAPSHOTS_DRAW] = "draw"};
    for (int i = LS_SIM_SNAPSHOTS_NO; i <= LS_SIM_SNAPSHOTS_DRAW; i++) {
        if (value != NULL && strcmp(value, words[i]) == 0) {
            *out = (enum ls_sim_snapshots)i;
            return true;
        }
    }
    return false;
}

static bool option(const char *name, const char *value, struct arguments *out)
{
    uint64_t parsed = 0;
    if (strcmp(name, "--seed") == 0) {
        return number(value, 0, UINT64_MAX, &out->options.seed);
    }
    if (strcmp(name, "--count") == 0) {
        return number(value, 1, UINT32_MAX, &out->count);
    }
    if (strcmp(name, "--without") == 0) {
        return kinds(value, &out->options.without);
    }
    if (strcmp(name, "--snapshots") == 0) {
        return snapshots(value, &out->options.snapshots);
    }
    if (strcmp(name, "--skip") == 0) {
        return sim_skip_parse(value, &out->options);
    }
    if (strcmp(name, "--workload") == 0) {
        return workload(value, out);
    }
    if (strcmp(name, "--members") == 0 && number(value, 1, SIM_MEMBERS_MAX, &parsed)) {
        out->options.members = (uint32_t)parsed;
        return true;
    }
    if (strcmp(name, "--operations") == 0 && number(value, 1, SIM_OPERATIONS_MAX, &parsed)) {
        out->options.operations = (uint32_t)parsed;
        return true;
    }
    if (strcmp(name, "--seconds") == 0 && number(value, 1, 100000, &parsed)) {
        out->options.seconds = (uint32_t)parsed;
        return true;
    }
    return false;
}

static bool parse(int argc, char **argv, struct arguments *out)
{
    for (int i = 1; i < argc && !out->help; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (flag(argv[i], out)) {
            continue;
        }
        if (!option(argv[i], value, out)) {
            (void)fprintf(stderr, "%s: %s %s: no such option or value\n", out->options.program,
                          argv[i], value != NULL ? value : "");
            return false;
        }
        i++;
    }
    return true;
}

/* CPU time of this process: what else the machine does is no part of the figure. */
static uint64_t real_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static bool run_seed(const struct sim_options *options, struct sim_totals *totals, uint64_t *hash)
{
    struct world *world = sim_allocate(sizeof *world);
    sim_world_open(world, options);
    sim_print_options(world);
    uint64_t began_us = real_us();
    sim_world_run(world);
    sim_print_outcome(world);
    sim_print_speed(world, real_us() - began_us);
    sim_totals_add(totals, world);
    *hash = world->hash;
    bool clean = !world->failed;
    world->options.trace = false; /* what the end of the process does is no part of the run */
    sim_world_free(world);
    free(world);
    return clean;
}

/* What the seed simulates, unless it was named. */
static struct sim_options options_of(const struct arguments *arguments)
{
    struct sim_options options = arguments->options;
    if (options.workload == NULL) {
        struct sim_random random = {~options.seed};
        options.workload =
            &arguments->workloads[sim_random_in(&random, 0, arguments->workloads_count - 1)];
    }
    return options;
}

static bool run_seeds(struct arguments *arguments, struct sim_totals *totals)
{
    for (uint64_t i = 0; i < arguments->count; i++) {
        uint64_t first = 0, second = 0;
        const struct sim_options options = options_of(arguments);
        bool clean = run_seed(&options, totals, &first);
        if (clean && arguments->twice) {
            clean = run_seed(&options, totals, &second);
            if (clean && first != second) {
                (void)printf("seed %" PRIu64 ": two runs differ\n", arguments->options.seed);
                clean = false;
            }
        }
        if (!clean) {
            sim_print_replay(&options);
            return false;
        }
        arguments->options.seed++;
    }
    return true;
}

int ls_sim_main(int argc, char **argv, const struct ls_sim_workload *workloads, size_t count)
{
    LS_ASSERT(count > 0);
#ifdef __GLIBC__
    /* members come and go with tables of their own: not a system call for each of them */
    (void)mallopt(M_MMAP_THRESHOLD, 64 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 512 << 20);
#endif
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *program = argc > 0 ? argv[0] : "lockstep-sim";
    struct arguments arguments = {.options = {.program = slash != NULL ? slash + 1 : program,
                                              .seed = 1,
                                              .seconds = LS_SIM_SECONDS_DEFAULT},
                                  .workloads = workloads,
                                  .workloads_count = count,
                                  .count = 1};
    if (!parse(argc, argv, &arguments)) {
        return usage(stderr, &arguments);
    }
    if (arguments.help) {
        return usage(stdout, &arguments);
    }
    if (arguments.options.trace) {
        (void)setvbuf(stdout, NULL, _IOLBF, 0); /* complete also if an assertion ends the run */
    }
    if (arguments.shrink) {
        const struct sim_options options = options_of(&arguments);
        return sim_shrink(&options) ? 1 : 0;
    }
    struct sim_totals totals = {0};
    if (!run_seeds(&arguments, &totals)) {
        return 1;
    }
    if (arguments.totals) {
        sim_print_totals(&totals);
    }
    for (uint32_t i = 0; arguments.all_faults && i < SIM_FAULTS; i++) {
        bool never = i >= SIM_FAULT_SNAPSHOT && !sim_snapshots_occur(&arguments.options);
        if (totals.injected[i] == 0 && !never) {
            (void)printf("no %s was injected in these seeds\n", sim_fault_name((enum sim_fault)i));
            return 1;
        }
    }
    return 0;
}
