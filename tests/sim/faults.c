/* SPDX-License-Identifier: MIT */
/* The script: which fault strikes when, which are switched off, and what they did. */
#include "faults.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* numbers of streams that are no fault's */
#define STREAM_MIX       (UINT64_MAX - 1)
#define STREAM_MEMBERS   (UINT64_MAX - 64)
#define STREAM_SNAPSHOTS (UINT64_MAX - 128)
/* so many messages meet every condition of the network */
#define MESSAGES_ENOUGH 5000u

/* after so many faults there is a calm of up to so long, or some groups would never be founded */
#define CALM_EVERY  16u
#define CALM_MS_MAX 6000u

static const struct {
    const char *name;
    uint32_t members; /* that it needs at least */
    bool later;       /* counted when it strikes, which is later */
} kinds[SIM_FAULTS] = {
    [SIM_FAULT_CRASH] = {"crash", 1, false},
    [SIM_FAULT_CLOSE] = {"close", 1, false},
    [SIM_FAULT_STORM] = {"restart_storm", 1, false},
    [SIM_FAULT_START_CRASH] = {"start_crash", 1, true},
    [SIM_FAULT_PAUSE] = {"pause", 1, false},
    [SIM_FAULT_TRANSFER] = {"transfer", 2, false},
    [SIM_FAULT_PRUNE] = {"prune", 2, true},
    [SIM_FAULT_NO_MEMORY] = {"no_memory", 1, true},
    [SIM_FAULT_ABSENCE] = {"absence", 3, false},
    [SIM_FAULT_SLOW_LOOP] = {"slow_loop", 1, false},
    [SIM_FAULT_SLOW_APPLY] = {"slow_apply", 1, false},
    [SIM_FAULT_CLOCK_STOP] = {"clock_stop", 1, false},
    [SIM_FAULT_CLOCK_LEAP] = {"clock_leap", 1, false},
    [SIM_FAULT_TORN_COMMIT] = {"torn_commit", 1, true},
    [SIM_FAULT_SLOW_SYNC] = {"slow_sync", 1, false},
    [SIM_FAULT_HUNG_SYNC] = {"hung_sync", 1, false},
    [SIM_FAULT_WRITE_ERROR] = {"write_error", 1, true},
    [SIM_FAULT_SYNC_ERROR] = {"sync_error", 1, true},
    [SIM_FAULT_DISK_FULL] = {"disk_full", 1, true},
    [SIM_FAULT_STORE_BUSY] = {"store_busy", 1, true},
    [SIM_FAULT_DISK_DAMAGE] = {"damaged_disk", 1, false},
    [SIM_FAULT_CLOCK_RATE] = {"clock_rate", 1, false}, /* R9 */
    [SIM_FAULT_CLOCK_COARSE] = {"clock_coarse", 1, false},
    [SIM_FAULT_LATE_START] = {"late_start", 1, false},
    [SIM_FAULT_RESET] = {"session_reset", 2, false},
    [SIM_FAULT_HALVES] = {"partition_halves", 2, false},
    [SIM_FAULT_ISOLATE] = {"partition_isolate", 2, false},
    [SIM_FAULT_ONE_WAY] = {"partition_one_way", 2, false},
    [SIM_FAULT_RING] = {"partition_ring", 4, false},
    [SIM_FAULT_STAR] = {"partition_star", 3, false},
    [SIM_FAULT_CLOG] = {"clog", 2, false},
    [SIM_FAULT_FLAP] = {"flapping_path", 2, false},
    [SIM_FAULT_SLOW_PEER] = {"slow_peer", 2, false},
    [SIM_FAULT_DAMAGE] = {"damaged_byte", 2, false},
    [SIM_FAULT_LONG_DELAY] = {"long_delay", 2, false},
    [SIM_FAULT_LOSS] = {"packet_loss", 2, false}, /* G7 */
    [SIM_FAULT_TWICE] = {"message_twice", 2, false},
    [SIM_FAULT_LATE] = {"message_late", 2, false},
    [SIM_FAULT_FULL_QUEUE] = {"full_send_queue", 2, false},
    [SIM_FAULT_VAULT_ERROR] = {"vault_error", 1, true},
    [SIM_FAULT_VAULT_FULL] = {"vault_full", 1, true},
    [SIM_FAULT_VAULT_DAMAGE] = {"damaged_staging", 2, false},
    [SIM_FAULT_INSTALL_LOADING] = {"crash_loading", 2, true}, /* S1 */
    [SIM_FAULT_INSTALL_SYNCING] = {"crash_syncing", 2, true},
    [SIM_FAULT_INSTALL_MARKING] = {"crash_marking", 2, true},
    [SIM_FAULT_INSTALL_PUBLISHING] = {"crash_publishing", 2, true},
    [SIM_FAULT_INSTALL_RESTORING] = {"crash_restoring", 2, true},
    [SIM_FAULT_INSTALL_UNMARKING] = {"crash_unmarking", 2, true},
};

/* a condition of the run, not a point in time */
static bool whole_run(uint32_t fault)
{
    return (fault >= SIM_FAULT_LONG_DELAY && fault < SIM_FAULT_SNAPSHOT) ||
           (fault >= SIM_FAULT_CONDITION && fault < SIM_FAULT_NETWORK);
}

const char *sim_fault_name(enum sim_fault fault)
{
    return kinds[fault].name;
}

bool sim_fault_lasts(enum sim_fault fault)
{
    return whole_run((uint32_t)fault);
}

static bool without(const struct world *world, enum sim_fault fault)
{
    return (world->options.without >> (uint32_t)fault & 1u) != 0;
}

bool sim_fault_enabled(const struct world *world, enum sim_fault fault)
{
    return (world->fault_mask >> (uint32_t)fault & 1u) != 0 && !without(world, fault);
}

void sim_fault_count(struct world *world, enum sim_fault fault)
{
    world->injected[fault]++;
}

bool sim_fault_owed(const struct world *world, enum sim_fault fault)
{
    /* a path needs something under way: a full queue a peer that is slow enough */
    bool met = fault < SIM_FAULT_NETWORK ||
               (world->network.messages > MESSAGES_ENOUGH && fault != SIM_FAULT_FULL_QUEUE);
    /* they need a log that may be pruned, a vault in use, an install, at that moment */
    bool chance = fault == SIM_FAULT_PRUNE || fault >= SIM_FAULT_SNAPSHOT;
    return sim_fault_enabled(world, fault) && met && world->injected[fault] == 0 && !chance;
}

/* The stream of `number`; streams of neighbours have nothing in common. */
static struct sim_random stream(const struct world *world, uint64_t number)
{
    struct sim_random random = {world->options.seed ^ 0x6c6f636b73746570u};
    random.state = sim_random_next(&random) ^ number * 0xd1342543de82ef95u;
    random.state = sim_random_next(&random);
    return random;
}

/* ---- one strike ---- */

uint64_t sim_strike_until(struct sim_strike *strike, uint64_t low_ms, uint64_t high_ms)
{
    high_ms >>= sim_random_in(&strike->random, 0, 5);
    high_ms = high_ms > low_ms ? high_ms : low_ms;
    return strike->world->now_us + sim_random_in(&strike->random, low_ms, high_ms) * 1000u;
}

uint32_t sim_strike_pick(struct sim_strike *strike)
{
    return (uint32_t)sim_random_in(&strike->random, 0, strike->world->count - 1);
}

bool sim_is_up(const struct sim_member *member)
{
    return member->node != NULL;
}

bool sim_is_awake(const struct sim_member *member)
{
    return member->group != NULL && !member->paused;
}

struct sim_member *sim_strike_find(struct sim_strike *strike,
                                   bool (*fits)(const struct sim_member *member))
{
    struct world *world = strike->world;
    uint32_t from = sim_strike_pick(strike);
    for (uint32_t i = 0; i < world->count; i++) {
        struct sim_member *member = &world->members[(from + i) % world->count];
        if (fits(member)) {
            return member;
        }
    }
    return &world->members[from];
}

void sim_strike_tell(struct sim_strike *strike, const char *format, ...)
{
    char *text = strike->record->text;
    size_t used = strlen(text);
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text + used, sizeof strike->record->text - used, format, list);
    va_end(list);
}

void sim_strike_heal(struct sim_strike *strike, uint64_t at_us, uint32_t member)
{
    strike->world->in_force[strike->fault][member] = strike->number + 1u;
    sim_push(strike->world, at_us, SIM_HEAL, (uint32_t)strike->fault, member, strike->number + 1u);
}

static void on_heal(struct world *world, const struct sim_event *event)
{
    enum sim_fault fault = (enum sim_fault)event->a;
    if (world->in_force[fault][event->b] != event->token) {
        return;
    }
    world->in_force[fault][event->b] = 0;
    sim_note(world, "fault %" PRIu64 " ends: %s", event->token - 1, kinds[fault].name);
    if (fault >= SIM_FAULT_SNAPSHOT) {
        sim_heal_vault(&world->members[event->b]);
    } else if (fault >= SIM_FAULT_NETWORK) {
        sim_heal_network(world, fault, event->b, event->token);
    } else if (fault >= SIM_FAULT_DISK) {
        sim_heal_disk(world, fault, event->b);
    } else if (fault >= SIM_FAULT_CLOCK) {
        sim_heal_clock(world, fault, event->b);
    } else {
        sim_heal_member(world, fault, event->b);
    }
}

/* ---- the script ---- */

/* A stream of their own: in a run without snapshots nothing is drawn for them. */
static void snapshot_faults(struct world *world)
{
    struct sim_random mix = stream(world, STREAM_SNAPSHOTS);
    if (sim_sync_snapshots(world) && world->count >= kinds[SIM_FAULT_ABSENCE].members) {
        world->fault_mask |= (uint64_t)1u << SIM_FAULT_ABSENCE; /* else hardly anybody needs one */
        world->fault_weights[SIM_FAULT_ABSENCE] = 16;
    }
    for (uint32_t i = SIM_FAULT_SNAPSHOT; i < SIM_FAULTS && sim_sync_snapshots(world); i++) {
        bool enabled = sim_random_percent(&mix, 70);
        world->fault_weights[i] = (uint32_t)1u << sim_random_in(&mix, 0, 3);
        if (enabled && world->count >= kinds[i].members) {
            world->fault_mask |= (uint64_t)1u << i;
        }
    }
}

void sim_faults_open(struct world *world)
{
    static const uint32_t shares[] = {15, 30, 50, 50, 75, 100};
    struct sim_random mix = stream(world, STREAM_MIX);
    uint32_t share = shares[sim_random_in(&mix, 0, sizeof shares / sizeof shares[0] - 1)];
    for (uint32_t i = 0; i < SIM_FAULT_SNAPSHOT; i++) {
        /* swarm: each run has a mix of its own, and crashes are never absent */
        bool enabled = sim_random_percent(&mix, share) || i == SIM_FAULT_CRASH;
        world->fault_weights[i] = (uint32_t)1u << sim_random_in(&mix, 0, 4);
        enabled = enabled && (i != SIM_FAULT_PRUNE || sim_sync_prunes(world));
        if (enabled && world->count >= kinds[i].members) {
            world->fault_mask |= (uint64_t)1u << i;
        }
    }
    snapshot_faults(world);
    uint32_t at = 0;
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        if ((world->fault_mask >> i & 1u) != 0 && !whole_run(i)) {
            world->fault_order[at++] = (enum sim_fault)i;
        }
    }
    world->fault_order_count = at;
    for (; at > 1; at--) {
        uint32_t other = (uint32_t)sim_random_in(&mix, 0, at - 1);
        enum sim_fault kept = world->fault_order[at - 1];
        world->fault_order[at - 1] = world->fault_order[other];
        world->fault_order[other] = kept;
    }
    /* most groups are founded in peace */
    uint64_t founding_us = sim_random_percent(&mix, 60) ? 2000000 : 0;
    sim_push(world, founding_us + sim_random_in(&mix, 0, 3000000), SIM_FAULT, 0, 0, 0);
}

struct sim_random sim_fault_member_stream(const struct world *world, uint32_t at)
{
    return stream(world, STREAM_MEMBERS + at);
}

/* Every other one is next in the order of all enabled kinds, so that each has its turn; the rest
 * are drawn by weight. */
static enum sim_fault choose(const struct world *world, uint32_t number, struct sim_random *random)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < world->fault_order_count; i++) {
        total += world->fault_weights[world->fault_order[i]];
    }
    uint64_t drawn = sim_random_in(random, 0, total - 1);
    if (number % 2 == 0) {
        return world->fault_order[number / 2 % world->fault_order_count];
    }
    uint32_t at = 0;
    while (drawn >= world->fault_weights[world->fault_order[at]]) {
        drawn -= world->fault_weights[world->fault_order[at]];
        at++;
    }
    return world->fault_order[at];
}

static struct sim_fault_record *record_add(struct world *world)
{
    if (world->records_count == world->records_capacity) {
        world->records_capacity = world->records_capacity == 0 ? 64 : world->records_capacity * 2;
        world->records = realloc(world->records, world->records_capacity * sizeof *world->records);
        LS_ASSERT(world->records != NULL);
    }
    struct sim_fault_record *record = &world->records[world->records_count++];
    *record = (struct sim_fault_record){.at_us = world->now_us};
    return record;
}

bool sim_skipped(const struct sim_options *options, uint32_t number)
{
    return number < SIM_SKIP_MAX && (options->skip[number / 64] >> number % 64 & 1u) != 0;
}

/* A kind that is owed, else this one. */
static enum sim_fault owed_before(const struct world *world, enum sim_fault fault)
{
    for (uint32_t i = 0; i < world->fault_order_count; i++) {
        if (sim_fault_owed(world, world->fault_order[i])) {
            return world->fault_order[i];
        }
    }
    return fault;
}

static void strike(struct world *world)
{
    uint32_t number = (uint32_t)world->records_count;
    struct sim_strike strike = {.world = world, .random = stream(world, number), .number = number};
    uint64_t gap = sim_random_in(&strike.random, 1, 2u * world->fault_gap_ms);
    gap += (number + 1u) % CALM_EVERY == 0 ? sim_random_in(&strike.random, 1000, CALM_MS_MAX) : 0;
    sim_push(world, world->now_us + gap * 1000u, SIM_FAULT, 0, 0, 0);
    strike.record = record_add(world);
    strike.fault = choose(world, number, &strike.random);
    strike.fault = world->owed_only ? owed_before(world, strike.fault) : strike.fault;
    strike.record->fault = strike.fault;
    if (sim_skipped(&world->options, number) || without(world, strike.fault) ||
        (world->owed_only && !sim_fault_owed(world, strike.fault))) {
        return;
    }
    sim_mix(world, (uint64_t)number << 8 | (uint64_t)strike.fault);
    bool struck = strike.fault >= SIM_FAULT_SNAPSHOT  ? sim_strike_vault(&strike)
                  : strike.fault >= SIM_FAULT_NETWORK ? sim_strike_network(&strike)
                  : strike.fault >= SIM_FAULT_DISK    ? sim_strike_disk(&strike)
                  : strike.fault >= SIM_FAULT_CLOCK   ? sim_strike_clock(&strike)
                                                      : sim_strike_member(&strike);
    strike.record->struck = struck;
    world->injected[strike.fault] += struck && !kinds[strike.fault].later ? 1u : 0u;
    sim_note(world, "fault %u: %s%s%s", number, kinds[strike.fault].name, strike.record->text,
             struck ? "" : " (nothing to strike)");
}

void sim_fault_event(struct world *world, const struct sim_event *event)
{
    if (world->quiet || world->fault_order_count == 0) {
        return;
    }
    if (event->kind == SIM_HEAL) {
        on_heal(world, event);
    } else {
        strike(world);
    }
}

void sim_faults_end(struct world *world)
{
    world->quiet = true;
    sim_note(world, "the last fault has ended");
    (void)memset(world->in_force, 0, sizeof world->in_force);
    sim_heal_paths(world);
    sim_heal_members(world);
}

void sim_faults_print(const struct world *world)
{
    for (size_t i = 0; i < world->records_count; i++) {
        const struct sim_fault_record *record = &world->records[i];
        if (record->struck) {
            (void)printf("fault %zu at %.3f ms: %s%s\n", i, (double)record->at_us / 1000.0,
                         kinds[record->fault].name, record->text);
        }
    }
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        if (whole_run(i) && world->injected[i] > 0) {
            (void)printf("all the time: %s\n", kinds[i].name);
        }
    }
}

void sim_faults_free(struct world *world)
{
    free(world->records);
}

/* ---- what is switched off ---- */

bool sim_skip_parse(const char *text, struct sim_options *out)
{
    char *end = NULL;
    for (const char *at = text; at != NULL; at = *end == ',' ? end + 1 : NULL) {
        unsigned long first = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : SIM_SKIP_MAX;
        unsigned long last = first;
        if (first < SIM_SKIP_MAX && *end == '-') {
            at = end + 1;
            last = *at >= '0' && *at <= '9' ? strtoul(at, &end, 10) : SIM_SKIP_MAX;
        }
        if (first > last || last >= SIM_SKIP_MAX || (*end != ',' && *end != '\0')) {
            return false;
        }
        for (; first <= last; first++) {
            out->skip[first / 64] |= (uint64_t)1u << first % 64;
        }
    }
    out->exact = true;
    return text != NULL;
}
