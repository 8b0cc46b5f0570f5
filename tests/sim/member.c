/* SPDX-License-Identifier: MIT */
/*
 * A member: its node's loop (events instead of libevent), its env (env.c) and its disk, whose
 * commits wait until an event makes them durable. A crash cuts the power of the medium and the
 * node's paths first, so that nothing that the dying node still does can reach disk or network.
 */
#include "snapshots.h"

#include <stdio.h>
#include <stdlib.h>

/* no deadline is this one */
#define NOT_ARMED (UINT64_MAX - 1)
/* more than closing may take */
#define DYING_US 3600000000u
/* clocks begin above what one can lose by standing still */
#define CLOCK_MIN_US 100000000000u
/* a member that could not start is started again */
#define START_AGAIN_US 100000u

static const uint8_t network_key[LS_KEY_BYTES] = {7, 1, 8, 2, 8, 1, 8, 2, 8, 4};

/* ---- loop ---- */

static void turn_ask(struct sim_member *member)
{
    if (!member->turn_due) {
        member->turn_due = true;
        sim_push(member->world, member->world->now_us, SIM_TURN, member->at, 0, member->life);
    }
}

static void loop_attach(void *self, const struct ls_loop_sink *sink)
{
    ((struct sim_member *)self)->loop = *sink;
}

static void loop_arm(void *self, uint64_t at_us)
{
    struct sim_member *member = self;
    if (at_us == member->armed_local_us) {
        return;
    }
    member->armed_local_us = at_us;
    member->armed++;
    uint64_t due_us = at_us == UINT64_MAX ? UINT64_MAX : sim_member_time(member, at_us);
    if (due_us != UINT64_MAX) {
        sim_push(member->world, due_us, SIM_TIMER, member->at, 0, member->armed);
    }
}

void sim_member_clock(struct sim_member *member)
{
    uint64_t at_us = member->armed_local_us;
    if (member->node != NULL && at_us != NOT_ARMED) {
        member->armed_local_us = NOT_ARMED;
        loop_arm(member, at_us);
    }
}

static void loop_watch(void *self, int descriptor)
{
    (void)self;
    LS_ASSERT(descriptor == -1); /* the memory store has none */
}

static void loop_defer(void *self)
{
    turn_ask(self);
}

static bool loop_inside(void *self)
{
    (void)self;
    return true;
}

static void *loop_base(void *self)
{
    (void)self;
    return NULL;
}

static void loop_close(void *self)
{
    struct sim_member *member = self;
    member->armed++;
    member->loop = (struct ls_loop_sink){NULL, NULL, NULL, NULL};
}

/* ---- life ---- */

/* The medium is a disk: what it holds is nobody's memory. */
static void *disk_allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, bytes);
}

uint32_t sim_member_find(const struct world *world, const struct ls_peer_id *id)
{
    uint32_t at = 0;
    while (at < world->count && !ls_peer_id_equal(&world->members[at].id, id)) {
        at++;
    }
    return at;
}

void sim_member_prepare(struct world *world, uint32_t at)
{
    struct sim_member *member = &world->members[at];
    *member = (struct sim_member){.world = world, .at = at};
    (void)snprintf(member->name, sizeof member->name, "%c", (char)('a' + at));
    (void)snprintf(member->address, sizeof member->address, "10.0.0.%u:7000", (unsigned)at + 1);
    member->random.state = sim_random_next(&world->random);
    member->granularity_us = 1;
    member->clock_us = CLOCK_MIN_US + sim_random_in(&world->random, 1, 1000000000u);
    sim_env_make(member);
    struct ls_error error = {LS_OK, ""};
    enum ls_status status =
        ls_identity_founder(network_key, member->name, &member->identity, &error);
    if (status == LS_OK) {
        member->id = ls_identity_id(member->identity);
        struct ls_env disk = member->env;
        disk.allocate = disk_allocate;
        status = ls_storage_medium_open(&disk, &member->medium);
    }
    if (status != LS_OK) {
        sim_fail(world, "member %s: %s", member->name, error.text);
        return;
    }
    ls_storage_medium_hold(member->medium, true);
    sim_vault_prepare(member);
    world->founders[at] = (struct ls_founder){.name = member->name, .address = member->address};
}

static enum ls_status node_open(struct sim_member *member, struct ls_error *error)
{
    const struct ls_loop loop = {.size = sizeof loop,
                                 .self = member,
                                 .attach = loop_attach,
                                 .arm = loop_arm,
                                 .watch = loop_watch,
                                 .defer = loop_defer,
                                 .wake = loop_defer,
                                 .inside = loop_inside,
                                 .base = loop_base,
                                 .close = loop_close};
    struct ls_node_options options;
    ls_node_options_init(&options);
    options.loop = &loop;
    options.env = &member->env;
    options.identity = member->identity;
    enum ls_status status = ls_storage_memory_open_on(member->medium, &options.storage, error);
    if (status != LS_OK) {
        return status;
    }
    sim_check_store(member, &options.storage);
    sim_disk_arm(member, 0);
    status = sim_port_open(member->world, member->at, &options.transport, error);
    if (status != LS_OK) {
        options.storage.close(options.storage.self);
        return status;
    }
    options.listen = member->address;
    sim_vault_open(member, &options.vault);
    return ls_node_open(&options, &member->node, error);
}

static enum ls_status group_join(struct sim_member *member, struct ls_error *error)
{
    struct world *world = member->world;
    const struct ls_sim_workload *workload = world->workload;
    struct ls_group_options options;
    ls_group_options_init(&options);
    sim_topology_group(member, &options);
    if (workload->group != NULL) {
        workload->group(workload->self, member->at, &options);
    }
    options.name = "sim";
    options.member = member->name;
    options.founders = world->founders;
    options.founders_count = world->count;
    member->watch.window_bytes = options.window_bytes;
    member->watch.in_flight_bytes = options.in_flight_bytes;
    enum ls_status status = sim_machine_make(member, &options.machine);
    if (status != LS_OK) {
        return ls_error_set(error, status, "its machine: %s", ls_status_text(status));
    }
    struct ls_statesync list[3];
    sim_sync_group(member, &options, list);
    member->watch.cache_bytes = options.cache_bytes;
    status = ls_group_join(member->node, &options, &member->group, error);
    member->shadow.of = member->group;
    if (status != LS_OK) {
        sim_machine_close(&member->machine);
    }
    return status;
}

static void on_closed(void *arg)
{
    struct sim_member *member = arg;
    member->node = NULL;
    sim_check_closed(member);
    if (member->unanswered != 0) {
        sim_fail(member->world, "%s has closed, and %u hand-overs or reads have no answer",
                 member->name, member->unanswered);
        member->unanswered = 0;
    }
    member->closing = member->paused = false;
    member->life++;
    sim_client_resume(member->world, member->at);
    if (!member->dying) {
        sim_push(member->world, member->world->now_us + member->down_us, SIM_START, member->at, 0,
                 0);
    }
}

void sim_member_close(struct sim_member *member, uint64_t down_us)
{
    if (member->node != NULL && !member->closing) {
        sim_mix(member->world, down_us << 8 | member->at);
        member->closing = true;
        member->down_us = down_us;
        member->group = NULL;
        ls_node_close(member->node, on_closed, member);
        sim_member_after(member);
    }
}

/* Someone tries again a bit later. */
static void start_failed(struct sim_member *member, enum ls_status status, const char *text)
{
    struct world *world = member->world;
    sim_note(world, "%s: does not start: %s", member->name, text);
    sim_mix(world, (uint64_t)status << 16 | member->at);
    if ((member->start_excused >> (uint32_t)status & 1u) == 0) {
        sim_fail(world, "member %s cannot start: %s", member->name, text);
        return;
    }
    if (member->node != NULL) {
        sim_member_close(member, START_AGAIN_US);
    } else {
        sim_push(world, world->now_us + START_AGAIN_US, SIM_START, member->at, 0, 0);
    }
}

void sim_member_start(struct sim_member *member)
{
    struct world *world = member->world;
    if (member->node != NULL) {
        return;
    }
    member->life++;
    member->armed_local_us = NOT_ARMED;
    member->turn_due = member->timer_due = member->paused = member->releasing = false;
    member->commit = 0;
    member->halted = false;
    member->tell_us = 0;
    member->excused = 0;
    member->release++;
    sim_network_wake(world, member->at);
    sim_mix(world, (uint64_t)SIM_START << 32 | member->at);
    sim_note(world, "%s: starts", member->name);
    struct ls_error error = {LS_OK, ""};
    bool doubtful = ls_storage_medium_doubtful(member->medium, &member->shadow.group);
    enum ls_status status = node_open(member, &error);
    status = status == LS_OK ? group_join(member, &error) : status;
    if (member->off) {
        member->group = NULL; /* it ends with this event */
        return;
    }
    if (status != LS_OK) {
        start_failed(member, status, error.text);
        member->start_excused &= ~(1u << (uint32_t)status); /* the others have yet to strike */
    } else {
        member->start_excused = 0;
        sim_check_start(member, doubtful);
    }
}

/* What is not on its media is lost, and nobody hears of it any more. */
static void lose_power(struct sim_member *member, size_t keep)
{
    sim_mix(member->world, (uint64_t)SIM_FAULT_SNAPSHOT << 32 | member->at);
    sim_note(member->world, "%s: power cut", member->name);
    ls_storage_medium_release(member->medium, keep);
    if (member->tear != 0 &&
        ls_storage_medium_power_cut_at(member->medium, member->tear, member->tear_bytes)) {
        sim_fault_count(member->world, SIM_FAULT_TORN_COMMIT);
        member->tear = (enum ls_storage_cut)0;
    }
    ls_storage_medium_power_cut(member->medium);
    sim_vault_off(member);
    sim_network_vanish(member->world, member->at);
    member->dying = true;
    member->group = NULL;
}

void sim_member_off(struct sim_member *member, bool keeps, uint64_t down_us)
{
    struct world *world = member->world;
    lose_power(member, keeps ? SIZE_MAX : 0);
    member->off = true;
    world->off |= 1u << member->at;
    sim_push(world, world->now_us + down_us, SIM_START, member->at, 0, 0);
}

void sim_members_end(struct world *world)
{
    for (uint32_t i = 0; world->off != 0; i++) {
        if ((world->off >> i & 1u) != 0) {
            sim_member_crash(&world->members[i], 0);
        }
    }
}

void sim_member_crash(struct sim_member *member, size_t keep)
{
    if (member->node != NULL && !member->off) {
        lose_power(member, keep);
    }
    member->world->off &= ~(1u << member->at);
    member->off = member->off_due = false;
    if (member->node == NULL) {
        member->dying = false;
        return;
    }
    sim_clock_settle(member);
    ls_node_close(member->node, on_closed, member);
    member->clock_us += DYING_US; /* no time is left to close in */
    member->loop.turn(member->loop.self);
    LS_ASSERT(member->node == NULL);
    member->clock_us -= DYING_US;
    member->dying = false;
}

bool sim_member_wipes(const struct world *world)
{
    for (uint32_t i = 0; i < world->count; i++) {
        if (world->members[i].machine.inner.durable_applied != NULL) {
            return false; /* its machine would be ahead of its log */
        }
        struct ls_group_status status;
        sim_glance(&world->members[i], &status);
        if (status.log_first > 1 && !sim_sync_snapshots(world)) {
            return false; /* what was pruned, not everybody can give again */
        }
    }
    return true;
}

void sim_member_wipe(struct sim_member *member)
{
    sim_member_crash(member, SIZE_MAX);
    sim_note(member->world, "%s: loses its disk", member->name);
    member->wiped_us = member->world->now_us;
    member->wiped_last = member->shadow.last;
    sim_mix(member->world, member->at);
    ls_storage_medium_wipe(member->medium);
    sim_vault_wipe(member);
    member->shadow.promise = (struct sim_promise){.voted = false};
    sim_sync_wipe(member);
    member->rules.wipes++;
}

void sim_member_after(struct sim_member *member)
{
    if (member->node == NULL || member->releasing || member->sync_hangs ||
        ls_storage_medium_held(member->medium) == 0) {
        return;
    }
    member->releasing = true;
    struct world *world = member->world;
    uint64_t takes = sim_random_in(&world->random, member->sync_min_us, member->sync_max_us);
    sim_push(world, world->now_us + takes, SIM_RELEASE, member->at, 0, member->release);
}

void sim_member_disk(struct sim_member *member)
{
    member->release++;
    member->releasing = false;
    sim_member_after(member);
}

ls_index sim_member_disk_last(const struct sim_member *member)
{
    struct ls_storage_medium_left left;
    return ls_storage_medium_left(member->medium, &member->shadow.group, &left) ? left.last : 0;
}

bool sim_member_excused(const struct sim_member *member, enum ls_status halted)
{
    return (member->excused >> (uint32_t)halted & 1u) != 0;
}

void sim_member_repair(struct sim_member *member, uint64_t down_us)
{
    if (member->group != NULL) {
        struct ls_group_status status;
        sim_glance(member, &status);
        if (status.halted != LS_OK) {
            sim_member_close(member, down_us);
        }
    }
}

static void run_turn(struct sim_member *member)
{
    if (!member->turn_due) {
        return;
    }
    member->turn_due = false;
    if (member->timer_due) {
        member->timer_due = false;
        member->tell_us = sim_member_now(member) >= member->tell_us ? 0 : member->tell_us;
        member->loop.timer(member->loop.self);
    }
    member->turn_due = false; /* asked for by the timer: this one */
    sim_dawdle_begin(member);
    uint64_t faults = ls_storage_medium_faults(member->medium);
    uint32_t refusals = member->refusals;
    sim_check_loop(member);
    member->loop.turn(member->loop.self);
    if (ls_storage_medium_faults(member->medium) != faults) {
        sim_fault_count(member->world, SIM_FAULT_STORE_BUSY);
        sim_check_refused(member); /* it asks again soon */
    }
    if (member->off_due) {
        sim_member_off(member, member->off_keeps, member->off_down_us);
    }
    if (member->off) {
        return;
    }
    sim_member_after(member);
    sim_check_turn(member);
    if (member->excused != 0) {
        bool refused =
            member->refusals != refusals || ls_storage_medium_faults(member->medium) != faults;
        sim_check_halted(member, refused);
    }
    uint64_t ends_us = member->dawdles ? sim_member_time(member, member->floor_us) : 0;
    if (ends_us > member->world->now_us && ends_us != UINT64_MAX && member->node != NULL) {
        sim_member_pause(member, true); /* that long it took */
        sim_push(member->world, ends_us, SIM_RESUME, member->at, 0, member->life);
    }
}

static void on_release(struct sim_member *member)
{
    member->releasing = false;
    if (member->paused || member->sync_hangs) {
        return; /* resumed: asked for again */
    }
    if (member->tear != 0) {
        sim_member_crash(member, 0);
        sim_push(member->world, member->world->now_us + member->tear_down_us, SIM_START, member->at,
                 0, 0);
        return;
    }
    uint64_t faults = ls_storage_medium_faults(member->medium);
    ls_storage_medium_release(member->medium, 1);
    if (ls_storage_medium_faults(member->medium) != faults) {
        sim_disk_failed(member);
    }
    sim_check_input(member);
    member->loop.readable(member->loop.self);
    sim_member_after(member);
}

void sim_member_pause(struct sim_member *member, bool paused)
{
    if (member->node == NULL || member->paused == paused) {
        return;
    }
    member->paused = paused;
    if (!member->dawdles) {
        sim_note(member->world, "%s: %s", member->name, paused ? "stands still" : "goes on");
    }
    if (!paused) {
        sim_client_resume(member->world, member->at);
        if (!member->dawdles) {
            sim_sync_resumed(&member->world->sync->sides[member->at]);
        }
        if (member->timer_due &&
            !member->dawdles) { /* timers and sockets are served in any order */
            member->timer_due = false;
            sim_push(member->world,
                     member->world->now_us + sim_random_in(&member->world->random, 0, 3000),
                     SIM_TIMER, member->at, 0, member->armed);
        }
        sim_push(member->world, member->world->now_us, SIM_TURN, member->at, 0, member->life);
        sim_network_wake(member->world, member->at);
        sim_member_after(member);
    }
}

void sim_member_event(struct world *world, const struct sim_event *event)
{
    struct sim_member *member = &world->members[event->a];
    switch ((int)event->kind) {
    case SIM_TIMER:
        if (member->node != NULL && event->token == member->armed) {
            member->armed_local_us = NOT_ARMED;
            member->timer_due = true;
            turn_ask(member);
        }
        break;
    case SIM_TURN:
        if (member->node != NULL && event->token == member->life && !member->paused) {
            run_turn(member);
        }
        break;
    case SIM_RELEASE:
        if (member->node != NULL && event->token == member->release) {
            on_release(member);
        }
        break;
    case SIM_START:
        if ((world->resting >> member->at & 1u) == 0) {
            sim_member_start(member);
        }
        break;
    case SIM_RESUME:
        if (event->token == member->life) {
            sim_member_pause(member, false);
        }
        break;
    default:
        break;
    }
}

void sim_member_free(struct sim_member *member)
{
    sim_member_crash(member, SIZE_MAX);
    sim_lost_free(member);
    ls_storage_medium_close(member->medium);
    ls_vault_medium_close(member->vault.medium);
    ls_identity_close(member->identity);
}
