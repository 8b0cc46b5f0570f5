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

/* ---- answers ---- */

static void judge(struct sim_op *op, const struct ls_outcome *outcome)
{
    const struct ls_sim_workload *workload = op->world->workload;
    op->call.returned = op->world->events;
    op->call.data = (struct ls_span){NULL, 0};
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
    count(op, outcome);
    judge(op, outcome);
    if (client < world->clients_count && world->clients[client].op == op) {
        world->clients[client].op = NULL;
        sim_push(world, world->now_us + sim_random_in(&world->random, 0, 2 * world->think_us),
                 SIM_CLIENT, client, 0, 0);
    }
}

/* ---- calls ---- */

static enum ls_status group_call(struct sim_op *op, struct ls_span data)
{
    struct world *world = op->world;
    struct ls_group *group = world->members[op->call.member].group;
    const struct ls_call_options call = {
        .deadline_ms = (uint32_t)sim_random_in(&world->random, world->quiet ? 3000 : 200, 3000)};
    if (op->call.kind == LS_SIM_QUERY) {
        return ls_group_query(group, op->call.consistency, data, &call, on_done, op);
    }
    return ls_group_execute(group, data, &call, on_done, op);
}

static bool op_send(struct sim_op *op)
{
    struct ls_span data = op->call.data;
    uint8_t *bytes = sim_allocate(SIM_PREFIX_BYTES + data.bytes);
    (void)memcpy(bytes, &op->call.id, SIM_PREFIX_BYTES);
    if (data.bytes > 0) {
        (void)memcpy(bytes + SIM_PREFIX_BYTES, data.data, data.bytes);
    }
    op->accepted = true;
    sim_check_input(&op->world->members[op->call.member]);
    enum ls_status status = group_call(op, (struct ls_span){bytes, SIM_PREFIX_BYTES + data.bytes});
    free(bytes);
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

/* The next call of the workload, not asked yet. */
static struct sim_op *op_new(struct world *world, uint32_t client, uint32_t member)
{
    const struct ls_sim_workload *workload = world->workload;
    struct sim_op *op = sim_allocate(sizeof *op);
    op->world = world;
    op->floor = world->checks.known;
    op->call = (struct ls_sim_call){.id = ++world->ops_made,
                                    .client = client,
                                    .member = member,
                                    .probe = client == SIM_CLIENTS_MAX,
                                    .kind = LS_SIM_COMMAND,
                                    .consistency = LS_STRONG,
                                    .invoked = world->events};
    if (op->call.id >= world->ops_capacity) {
        world->ops_capacity = world->ops_capacity == 0 ? 1024 : world->ops_capacity * 2;
        world->ops = realloc(world->ops, world->ops_capacity * sizeof *world->ops);
        LS_ASSERT(world->ops != NULL);
    }
    world->ops[op->call.id] = op;
    workload->next(workload->self, &world->handle, &op->call);
    op->hash = sim_hash(op->call.data);
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
        sim_push(world, world->now_us + 1000 + world->think_us, SIM_CLIENT, event->a, 0, 0);
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
