/* SPDX-License-Identifier: MIT */
/*
 * The script of faults. Fault k happens at a time and is of a kind that follow from (seed, k)
 * alone, as do all its choices; so a fault that is switched off leaves the others as they are, as
 * far as what they meet allows it.
 */
#ifndef LOCKSTEP_SIM_FAULTS_H
#define LOCKSTEP_SIM_FAULTS_H

#include "world.h"

/** One fault that is about to strike. */
struct sim_strike {
    struct world *world;
    struct sim_random random; /* its own stream */
    uint32_t number;
    enum sim_fault fault;
    struct sim_fault_record *record;
};

/** Most are short, some as long as `high`: a time from now on. */
uint64_t sim_strike_until(struct sim_strike *strike, uint64_t low_ms, uint64_t high_ms);
uint32_t sim_strike_pick(struct sim_strike *strike);
/** The first from a random one on that fits; if none does, that random one. */
struct sim_member *sim_strike_find(struct sim_strike *strike,
                                   bool (*fits)(const struct sim_member *member));
bool sim_is_up(const struct sim_member *member);
/** Up, and neither closing nor paused. */
bool sim_is_awake(const struct sim_member *member);
/** For the list of faults: what it did (at most SIM_RECORD_BYTES, with all that was told). */
void sim_strike_tell(struct sim_strike *strike, const char *format, ...) LS_PRINTF(2, 3);
/** It ends at `at_us`, unless a newer one of its kind has replaced it on that member. */
void sim_strike_heal(struct sim_strike *strike, uint64_t at_us, uint32_t member);

/* each returns whether it changed anything */
bool sim_strike_member(struct sim_strike *strike);
bool sim_strike_clock(struct sim_strike *strike);
bool sim_strike_disk(struct sim_strike *strike);
bool sim_strike_network(struct sim_strike *strike);
bool sim_strike_damage(struct sim_strike *strike);
bool sim_strike_vault(struct sim_strike *strike);
bool sim_strike_transfer(struct sim_strike *strike, uint32_t at, uint32_t to);

void sim_heal_member(struct world *world, enum sim_fault fault, uint32_t at);
void sim_heal_clock(struct world *world, enum sim_fault fault, uint32_t at);
void sim_heal_clocks(struct sim_member *member);
void sim_heal_disk(struct world *world, enum sim_fault fault, uint32_t at);
/** All faults of its disk end. */
void sim_heal_disks(struct sim_member *member);
/** All faults of its vault end. */
void sim_heal_vault(struct sim_member *member);
/** token: number of the fault + 1. */
void sim_heal_network(struct world *world, enum sim_fault fault, uint32_t at, uint64_t token);

/** All that is in force ends; members that are down start again. */
void sim_heal_members(struct world *world);

#endif
