/* SPDX-License-Identifier: MIT */
/*
 * The env of a member: its clock, its randomness, its memory, and its trace, which goes into the
 * hash of the run. The clock may be fast or slow, coarse, stand still and leap; it never goes back.
 * While a member dawdles, reading the clock takes time, as if the process had been preempted there.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

/* a turn that dawdles reads the clock about this often */
#define READINGS 8u

/* ---- clock ---- */

static uint64_t running(const struct sim_member *member)
{
    uint64_t now = member->world->now_us;
    if (member->rate_permille == 0) { /* asked for at each step of a core */
        return member->clock_us + now;
    }
    return member->clock_us + now * (uint64_t)(1000 + member->rate_permille) / 1000u;
}

uint64_t sim_member_now(const struct sim_member *member)
{
    uint64_t now = member->stopped ? member->stopped_us : running(member);
    now -= member->granularity_us > 1 ? now % member->granularity_us : 0;
    return now > member->floor_us ? now : member->floor_us;
}

uint64_t sim_member_time(const struct sim_member *member, uint64_t local_us)
{
    uint64_t now_us = member->world->now_us;
    if (local_us <= sim_member_now(member) && local_us <= running(member)) {
        return now_us;
    }
    if (member->stopped) {
        return UINT64_MAX;
    }
    uint64_t rate = (uint64_t)(1000 + member->rate_permille);
    local_us += member->granularity_us - 1;
    local_us -= local_us % member->granularity_us;
    uint64_t since = local_us > member->clock_us ? local_us - member->clock_us : 0;
    uint64_t at = (since * 1000u + rate - 1) / rate;
    return at > now_us ? at : now_us;
}

void sim_clock_stop(struct sim_member *member, bool stopped)
{
    if (stopped && !member->stopped) {
        member->stopped_us = running(member);
    } else if (!stopped && member->stopped) {
        member->clock_us -= running(member) - member->stopped_us;
    }
    member->stopped = stopped;
    sim_member_clock(member);
}

void sim_clock_settle(struct sim_member *member)
{
    sim_clock_stop(member, false);
    if (member->floor_us > running(member)) {
        sim_clock_leap(member, member->floor_us - running(member));
    }
}

void sim_clock_leap(struct sim_member *member, uint64_t by_us)
{
    if (member->stopped) {
        member->stopped_us += by_us;
    }
    member->clock_us += by_us;
    sim_member_clock(member);
}

void sim_dawdle_begin(struct sim_member *member)
{
    if (member->dawdle_max_us > 0) {
        uint64_t takes = sim_random_in(&member->dawdle, 1000, member->dawdle_max_us);
        member->reading_us = takes / READINGS;
        member->dawdles = true;
    } else {
        member->reading_us = 0;
        member->dawdles = member->apply_max_us > 0;
    }
}

void sim_dawdle(struct sim_member *member, uint64_t local_us)
{
    if (member->dawdles && !member->dying) {
        member->floor_us = sim_member_now(member) + local_us;
    }
}

static uint64_t env_now(void *self)
{
    struct sim_member *member = self;
    sim_dawdle(member, member->reading_us);
    return sim_member_now(member);
}

/* ---- the rest ---- */

static void env_entropy(void *self, void *out, size_t bytes)
{
    struct sim_member *member = self;
    uint8_t *at = out;
    for (size_t i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(sim_random_next(&member->random) >> 56);
    }
}

static void *env_allocate(void *self, void *block, size_t bytes)
{
    struct sim_member *member = self;
    if (bytes > 0 && member->refusals > 0 && !member->dying) {
        if (member->refuse_after == 0) {
            member->refusals--;
            member->excused |= 1u << LS_ERR_NO_MEMORY;
            member->start_excused |= 1u << LS_ERR_NO_MEMORY;
            sim_fault_count(member->world, SIM_FAULT_NO_MEMORY);
            return NULL;
        }
        member->refuse_after--;
    }
    return sim_check_allocate(member, block, bytes);
}

static void env_trace(void *self, const struct ls_trace *trace)
{
    struct sim_member *member = self;
    struct world *world = member->world;
    sim_mix(world, (uint64_t)trace->level << 8 | member->at);
    sim_mix_bytes(world, trace->format, strlen(trace->format));
    if (trace->peer != NULL) {
        sim_mix_bytes(world, trace->peer->bytes, sizeof trace->peer->bytes);
    }
    if (trace->detail != NULL) {
        sim_mix_bytes(world, trace->detail, strlen(trace->detail));
    }
    for (size_t i = 0; i < LS_TRACE_ARGS_MAX; i++) {
        sim_mix(world, trace->args[i]);
    }
    if (world->options.trace) {
        char text[SIM_TEXT_BYTES];
        (void)ls_trace_render(trace, text, sizeof text);
        (void)printf("%9.3f ms  %s  %s: %s\n", (double)world->now_us / 1000.0, member->name,
                     trace->room, text);
    }
}

void sim_env_make(struct sim_member *member)
{
    member->env = *ls_env_default();
    member->env.self = member;
    member->env.now_us = env_now;
    member->env.entropy = env_entropy;
    member->env.allocate = env_allocate;
    member->env.trace = env_trace;
}
