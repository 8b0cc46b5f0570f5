/* SPDX-License-Identifier: MIT */
/* What lockstep-sim tells of its runs. */
#include "sync.h"

#include <inttypes.h>
#include <stdio.h>

void sim_print_options(const struct world *world)
{
    (void)printf("seed %" PRIu64
                 ": members %u, workload %s, virtual seconds %u, election %u ms, heartbeat %u "
                 "ms, delay %u-%u us, clients %u, fault gap %u ms",
                 world->options.seed, world->count, world->workload->name, world->options.seconds,
                 world->election_ms, world->heartbeat_ms, world->network.delay_min_us,
                 world->network.delay_max_us, world->clients_count, world->fault_gap_ms);
    (void)printf("%s faults", world->sync->snapshots ? ", snapshots," : ",");
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        if (sim_fault_enabled(world, (enum sim_fault)i)) {
            (void)printf(" %s", sim_fault_name((enum sim_fault)i));
        }
    }
    (void)printf("\n");
    (void)fflush(stdout);
}

void sim_print_outcome(const struct world *world)
{
    (void)printf("seed %" PRIu64 ": %s; events %" PRIu64 ", messages %" PRIu64 ", sessions %" PRIu64
                 ", leaders %" PRIu64 ", log %" PRIu64 ", operations %" PRIu64 " (ok %" PRIu64
                 ", unknown %" PRIu64 ", nothing done %" PRIu64 "), installs %" PRIu64 ", faults",
                 world->options.seed, world->failed ? world->text : "clean", world->events,
                 world->network.messages, world->network.sessions, world->checks.leader_changes,
                 world->checks.last, world->ops_made, world->acknowledged, world->unknown,
                 world->refused, world->sync->installs);
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        if (world->injected[i] > 0) {
            (void)printf(" %s %" PRIu64, sim_fault_name((enum sim_fault)i), world->injected[i]);
        }
    }
    (void)printf("\n");
    if (world->failed) {
        sim_faults_print(world);
    }
    (void)printf("seed %" PRIu64 ": trace %016" PRIx64 "\n", world->options.seed, world->hash);
    (void)fflush(stdout);
}

void sim_print_speed(const struct world *world, uint64_t real_us)
{
    uint64_t faults = 0;
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        bool lasts = sim_fault_lasts((enum sim_fault)i);
        faults += lasts ? 0 : world->injected[i];
    }
    double seconds = (double)world->now_us / 1e6;
    (void)printf("seed %" PRIu64 ": speed: %.1f virtual seconds, in each %.1f operations and %.2f "
                 "faults; %.0f times real time\n",
                 world->options.seed, seconds, (double)world->acknowledged / seconds,
                 (double)faults / seconds, seconds * 1e6 / (double)(real_us > 0 ? real_us : 1));
    (void)fflush(stdout);
}

static void add(char out[SIM_REPLAY_BYTES], const char *format, ...) LS_PRINTF(2, 3);
static void add(char out[SIM_REPLAY_BYTES], const char *format, ...)
{
    size_t used = strlen(out);
    va_list list;
    va_start(list, format);
    (void)vsnprintf(out + used, SIM_REPLAY_BYTES - used, format, list);
    va_end(list);
}

void sim_replay_text(const struct sim_options *options, char out[SIM_REPLAY_BYTES])
{
    out[0] = '\0';
    add(out, "--seed %" PRIu64 " --workload %s --seconds %u", options->seed,
        options->workload->name, options->seconds);
    if (options->members != 0) {
        add(out, " --members %u", options->members);
    }
    if (options->operations != 0) {
        add(out, " --operations %u", options->operations);
    }
    for (uint32_t i = 0, told = 0; i < SIM_FAULTS; i++) {
        if ((options->without >> i & 1u) != 0) {
            add(out, "%s%s", told++ == 0 ? " --without " : ",", sim_fault_name((enum sim_fault)i));
        }
    }
    if (options->snapshots != LS_SIM_SNAPSHOTS_DEFAULT) {
        add(out, " --snapshots %s",
            options->snapshots == LS_SIM_SNAPSHOTS_YES  ? "yes"
            : options->snapshots == LS_SIM_SNAPSHOTS_NO ? "no"
                                                        : "draw");
    }
    add(out, "%s", options->exact ? " --exact" : "");
    for (uint32_t i = 0, told = 0; i < SIM_SKIP_MAX; i++) {
        uint32_t last = i;
        while (sim_skipped(options, last)) {
            last++;
        }
        if (last > i) {
            add(out, "%s%u", told++ == 0 ? " --skip " : ",", i);
            if (last > i + 1) {
                add(out, "-%u", last - 1);
            }
            i = last;
        }
    }
}

void sim_print_replay(const struct sim_options *options)
{
    char text[SIM_REPLAY_BYTES];
    sim_replay_text(options, text);
    (void)printf("replay: %s %s\n", options->program, text);
    (void)fflush(stdout);
}

void sim_totals_add(struct sim_totals *totals, const struct world *world)
{
    totals->seeds++;
    totals->leaders += world->checks.leader_changes;
    totals->events += world->events;
    totals->messages += world->network.messages;
    totals->operations += world->ops_made;
    totals->virtual_us += world->now_us;
    totals->with_snapshots += world->sync->snapshots;
    totals->installs += world->sync->installs;
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        totals->injected[i] += world->injected[i];
    }
}

void sim_print_totals(const struct sim_totals *totals)
{
    (void)printf("totals: seeds %" PRIu64 " leaders %" PRIu64 " events %" PRIu64
                 " messages %" PRIu64 " operations %" PRIu64 " virtual_seconds %" PRIu64,
                 totals->seeds, totals->leaders, totals->events, totals->messages,
                 totals->operations, totals->virtual_us / 1000000u);
    (void)printf(" with_snapshots %" PRIu64 " installs %" PRIu64, totals->with_snapshots,
                 totals->installs);
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        (void)printf(" fault_%s %" PRIu64, sim_fault_name((enum sim_fault)i), totals->injected[i]);
    }
    (void)printf("\n");
    (void)fflush(stdout);
}
