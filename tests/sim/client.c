/* SPDX-License-Identifier: MIT */
/*
 * The clients: each has one call at a time, asks any member, and goes on when the call has ended.
 * What they ask is the workload's; how it may end is judged here and in checks.c.
 */
#include "world.h"

#include <stdlib.h>

bool ls_sim_did_nothing(enum ls_status status)
{
    return status == LS_ERR_NO_LEADER || status == LS_ERR_BUSY || status == LS_ERR_CLOSED ||
           status == LS_ERR_HALTED || status == LS_ERR_TIMEOUT || status == LS_ERR_LIMIT;
}

/*
 * The mean time between two calls of a client. With a number of operations to aim at: whoever is
 * ahead of it takes the time that it allows, and behind it, after a time without a leader, all ask
 * as fast as at the highest load that a seed draws.
 */
static uint64_t think_us(const struct world *world)
{
    uint64_t aim = world->options.operations;
    if (aim == 0) {
        return world->think_us;
    }
    bool behind = world->acknowledged * 1000000u < aim * world->now_us;
    return behind ? world->hurry_us : world->clients_count * (uint64_t)1000000u / aim;
}

/* ---- answers ---- */

static void judge(struct sim_op *op, const struct ls_outcome *outcome)
{
    const struct ls_sim_workload *workload = op->world->workload;
    op->call.returned = op->world->events;
    op->call.data = (struct ls_span){NULL, 0};
    op->call.commands = NULL;
    if (workload->judge != NULL && !op->world->failed) {
        workload->judge(workload->self, &op->world->handle, &op->call, outcome);
    }
}

static void count(struct sim_op *op, const struct ls_outcome *outcome)
{
    struct world *world = op->world;
    if (outcome->status == LS_OK) {
        world->acknowledged++;
        sim_check_answer(op, outcome);
    } else if (ls_sim_did_nothing(outcome->status)) {
        world->refused++;
        if (op->index != 0) {
            sim_fail(world, "call %llu ended with \"%s\" but is in the log at %llu",
                     (unsigned long long)op->call.id, ls_status_text(outcome->status),
                     (unsigned long long)op->index);
        }
    } else {
        world->unknown++;
    }
}

static void on_done(void *arg, const struct ls_outcome *outcome)
{
    struct sim_op *op = arg;
    struct world *world = op->world;
    uint32_t client = op->call.client;
    sim_mix(world, op->call.id << 8 | (uint64_t)outcome->status);
    if (op->fired || !op->accepted) {
        sim_fail(world, "call %llu was answered %s", (unsigned long long)op->call.id,
                 op->fired ? "twice" : "inside of the call");
        return;
    }
    op->fired = true;
    op->status = outcome->status;
    if (outcome->status != LS_OK) {
        sim_check_input(&world->members[op->call.member]); /* its deadline has a turn of its own */
    }
    count(op, outcome);
    judge(op, outcome);
    if (client < world->clients_count && world->clients[client].op == op) {
        world->clients[client].op = NULL;
        sim_push(world, world->now_us + sim_random_in(&world->random, 0, 2 * think_us(world)),
                 SIM_CLIENT, client, 0, 0);
    }
}

/* ---- calls ---- */

static enum ls_status group_call(struct sim_op *op, const struct ls_span *data)
{
    struct world *world = op->world;
    struct ls_group *group = world->members[op->call.member].group;
    /* most have little time, or those who ask a member that is away would be the load no more */
    bool hurry = sim_random_percent(&world->random, 80) && !world->quiet;
    const struct ls_call_options call = {
        .deadline_ms =
            (uint32_t)sim_random_in(&world->random, world->quiet ? 3000 : 50, hurry ? 300 : 3000)};
    switch (op->call.kind) {
    case LS_SIM_QUERY:
        return ls_group_query(group, op->call.consistency, *data, &call, on_done, op);
    case LS_SIM_FEED:
        return ls_group_feed_many(group, data, op->count, &call, on_done, op);
    case LS_SIM_BARRIER:
        return sim_disk_ready(world, op->call.member)
                   ? ls_group_read_barrier(group, &call, on_done, op)
                   : LS_ERR_BUSY;
    case LS_SIM_COMMAND:
        break;
    }
    return ls_group_execute_many(group, data, op->count, &call, on_done, op);
}

/* What the workload gave, with a prefix in front of each. */
static enum ls_status op_call(struct sim_op *op)
{
    const struct ls_span *given = op->call.count > 0 ? op->call.commands : &op->call.data;
    struct ls_span *prefixed = sim_allocate(op->count * sizeof *prefixed);
    size_t bytes = op->count * SIM_PREFIX_BYTES;
    for (uint32_t i = 0; i < op->count; i++) {
        bytes += given[i].bytes;
    }
    uint8_t *block = sim_allocate(bytes), *at = block;
    for (uint32_t i = 0; i < op->count; i++) {
        uint64_t prefix = op->call.id | (uint64_t)i << SIM_PREFIX_BITS;
        prefixed[i] = (struct ls_span){at, SIM_PREFIX_BYTES + given[i].bytes};
        (void)memcpy(at, &prefix, SIM_PREFIX_BYTES);
        if (given[i].bytes > 0) {
            (void)memcpy(at + SIM_PREFIX_BYTES, given[i].data, given[i].bytes);
        }
        at += prefixed[i].bytes;
    }
    enum ls_status status = group_call(op, prefixed);
    free(block);
    free(prefixed);
    return status;
}

static bool op_send(struct sim_op *op)
{
    op->accepted = true;
    sim_check_input(&op->world->members[op->call.member]);
    enum ls_status status = op_call(op);
    sim_mix(op->world, op->call.id << 16 | (uint64_t)op->call.member << 8 | (uint64_t)status);
    if (status != LS_OK) {
        op->accepted = false;
        op->fired = true;
        op->status = status;
        judge(op, &(struct ls_outcome){.status = status});
    }
    sim_member_after(&op->world->members[op->call.member]);
    return status == LS_OK;
}

static bool kind_writes(enum ls_sim_kind kind)
{
    return kind == LS_SIM_COMMAND || kind == LS_SIM_FEED;
}

bool sim_op_writes(const struct sim_op *op)
{
    return kind_writes(op->call.kind);
}

/* The next call of the workload, not asked yet. */
static struct sim_op *op_new(struct world *world, uint32_t client, uint32_t member)
{
    const struct ls_sim_workload *workload = world->workload;
    struct ls_sim_call call = {.id = ++world->ops_made,
                               .client = client,
                               .member = member,
                               .probe = client == SIM_CLIENTS_MAX,
                               .kind = LS_SIM_COMMAND,
                               .consistency = LS_STRONG,
                               .invoked = world->events};
    if (call.id >= world->ops_capacity) {
        world->ops_capacity = world->ops_capacity == 0 ? 1024 : world->ops_capacity * 2;
        world->ops = realloc(world->ops, world->ops_capacity * sizeof *world->ops);
        LS_ASSERT(world->ops != NULL);
    }
    workload->next(workload->self, &world->handle, &call);
    if (call.count > LS_SIM_COMMANDS_MAX || (call.count > 1 && !kind_writes(call.kind))) {
        sim_fail(world, "the workload gave %zu commands in one call", call.count);
        call.count = 0;
    }
    uint32_t count = call.count > 0 ? (uint32_t)call.count : 1;
    struct sim_op *op = sim_allocate(sizeof *op + count * sizeof op->hashes[0]);
    op->world = world;
    op->floor = world->checks.known;
    op->call = call;
    op->count = count;
    for (uint32_t i = 0; i < count; i++) {
        op->hashes[i] = sim_hash(call.count > 0 ? call.commands[i] : call.data);
    }
    world->ops[call.id] = op;
    return op;
}

void sim_client_event(struct world *world, const struct sim_event *event)
{
    struct sim_client *client = &world->clients[event->a];
    if ((world->quiet && !world->steady) || client->op != NULL) {
        return;
    }
    uint32_t at = client->waits != 0 ? client->waits - 1
                                     : (uint32_t)sim_random_in(&world->random, 0, world->count - 1);
    struct sim_member *member = &world->members[at];
    client->waits = 0;
    /* a few of them wait: asked as soon as it goes on, before it does anything else */
    if (member->group != NULL && member->paused && event->a % 4 == 0) {
        client->waits = at + 1;
        return;
    }
    bool sent = false;
    if (member->group != NULL && !member->paused) {
        struct sim_op *op = op_new(world, event->a, at);
        client->op = op;
        sent = op_send(op);
        client->op = sent ? op : NULL;
    }
    if (!sent) {
        sim_push(world, world->now_us + 1000 + think_us(world), SIM_CLIENT, event->a, 0, 0);
    }
}

void sim_client_resume(struct world *world, uint32_t member)
{
    for (uint32_t i = 0; i < world->clients_count; i++) {
        if (world->clients[i].waits == member + 1) {
            sim_push(world, world->now_us, SIM_CLIENT, i, 0, 0);
        }
    }
}

struct sim_op *sim_probe(struct world *world, uint32_t member)
{
    struct sim_op *op = op_new(world, SIM_CLIENTS_MAX, member);
    return op_send(op) ? op : NULL;
}

void sim_clients_free(struct world *world)
{
    for (uint64_t id = 1; id <= world->ops_made; id++) {
        free(world->ops[id]);
    }
    free(world->ops);
}
