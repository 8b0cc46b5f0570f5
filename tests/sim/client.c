/* SPDX-License-Identifier: MIT */
/*
 * The machine (registers) and the clients. The log gives every write its place, and a read tells
 * the place of the write that it saw, so linearizability can be judged at each answer: an
 * operation may not see less than what was known to be done when it began.
 */
#include "world.h"

#include <stdlib.h>

enum word { WORD_KIND, WORD_KEY, WORD_ID, WORD_EXPECTED, WORDS };
enum answer { ANSWER_INDEX, ANSWER_VERSION, ANSWER_VALUE, ANSWER_DONE, ANSWERS };

/* ---- machine ---- */

static struct ls_span machine_signature(void *self)
{
    (void)self;
    return (struct ls_span){"sim-register/1", 14};
}

static enum ls_status machine_apply(void *self, const struct ls_command *command,
                                    struct ls_replies *replies)
{
    struct sim_machine *machine = self;
    uint64_t words[WORDS] = {0};
    if (command->data.bytes != sizeof words) {
        return LS_ERR_CORRUPT;
    }
    (void)memcpy(words, command->data.data, sizeof words);
    struct sim_register *target = &machine->registers[words[WORD_KEY] % SIM_KEYS];
    const struct sim_register old = *target;
    bool done = words[WORD_KIND] == SIM_WRITE || old.value == words[WORD_EXPECTED];
    if (done) {
        *target = (struct sim_register){words[WORD_ID], command->cursor.index};
    }
    if (command->cursor.index <= machine->applied) {
        sim_fail(machine->world, "index %llu applied after %llu",
                 (unsigned long long)command->cursor.index, (unsigned long long)machine->applied);
    }
    machine->applied = command->cursor.index;
    struct sim_random chain = {machine->chain ^ command->cursor.index};
    chain.state = sim_random_next(&chain) ^ command->cursor.term;
    for (size_t i = 0; i < WORDS; i++) {
        chain.state = sim_random_next(&chain) ^ words[i];
    }
    machine->chain = sim_random_next(&chain) | 1u;
    sim_check_applied(machine->world, machine->applied, machine->chain, words[WORD_ID]);
    const uint64_t answer[ANSWERS] = {[ANSWER_INDEX] = command->cursor.index,
                                      [ANSWER_VERSION] = old.version,
                                      [ANSWER_VALUE] = old.value,
                                      [ANSWER_DONE] = done};
    return ls_reply_set(replies, 0, answer, sizeof answer);
}

static enum ls_status machine_query(void *self, struct ls_span query, struct ls_replies *reply)
{
    const struct sim_machine *machine = self;
    uint32_t key = 0;
    if (query.bytes != sizeof key) {
        return LS_ERR_INVALID;
    }
    (void)memcpy(&key, query.data, sizeof key);
    const struct sim_register *found = &machine->registers[key % SIM_KEYS];
    const uint64_t answer[ANSWERS] = {[ANSWER_INDEX] = machine->applied,
                                      [ANSWER_VERSION] = found->version,
                                      [ANSWER_VALUE] = found->value,
                                      [ANSWER_DONE] = 1};
    return ls_reply_set(reply, 0, answer, sizeof answer);
}

void sim_machine_make(struct sim_member *member, struct ls_machine *out)
{
    *out = (struct ls_machine){.size = sizeof *out,
                               .self = &member->machine,
                               .signature = machine_signature,
                               .apply = machine_apply,
                               .query = machine_query};
}

/* ---- answers ---- */

static void judge(struct sim_op *op, const uint64_t answer[ANSWERS])
{
    struct world *world = op->world;
    ls_index *newest = &world->checks.newest[op->key];
    ls_index version = answer[ANSWER_VERSION];
    bool wrote = op->kind == SIM_WRITE || (op->kind == SIM_CAS && answer[ANSWER_DONE] != 0);
    if (version < op->floor) {
        sim_fail(world,
                 "not linearizable: operation %llu on key %u saw the write at %llu, but the one at "
                 "%llu was done before it began",
                 (unsigned long long)op->id, op->key, (unsigned long long)version,
                 (unsigned long long)op->floor);
    }
    version = wrote ? answer[ANSWER_INDEX] : version;
    if (op->kind != SIM_READ && (answer[ANSWER_INDEX] >= world->checks.steps_capacity ||
                                 world->checks.steps[answer[ANSWER_INDEX]].op != op->id)) {
        sim_fail(world, "write %llu was acknowledged at %llu, where nobody applied it",
                 (unsigned long long)op->id, (unsigned long long)answer[ANSWER_INDEX]);
    }
    *newest = version > *newest ? version : *newest;
    world->clients[op->client].last_seen[op->key] = wrote ? op->id : answer[ANSWER_VALUE];
}

bool sim_did_nothing(enum ls_status status)
{
    return status == LS_ERR_NO_LEADER || status == LS_ERR_BUSY || status == LS_ERR_CLOSED ||
           status == LS_ERR_HALTED || status == LS_ERR_TIMEOUT || status == LS_ERR_LIMIT;
}

static void on_done(void *arg, const struct ls_outcome *outcome)
{
    struct sim_op *op = arg;
    struct world *world = op->world;
    sim_mix(world, op->id << 8 | (uint64_t)outcome->status);
    if (op->fired || !op->accepted) {
        sim_fail(world, "operation %llu was answered %s", (unsigned long long)op->id,
                 op->fired ? "twice" : "inside of the call");
        return;
    }
    op->fired = true;
    op->status = outcome->status;
    op->returned = world->events;
    if (outcome->status == LS_OK) {
        world->acknowledged++;
        uint64_t answer[ANSWERS] = {0};
        if (outcome->count != 1 || outcome->replies[0].bytes != sizeof answer) {
            sim_fail(world, "operation %llu has a reply of another form",
                     (unsigned long long)op->id);
            return;
        }
        (void)memcpy(answer, outcome->replies[0].data, sizeof answer);
        op->saw = answer[ANSWER_VALUE];
        op->done = answer[ANSWER_DONE] != 0;
        judge(op, answer);
    } else if (sim_did_nothing(outcome->status)) {
        world->refused++;
        if (op->index != 0 && op->kind != SIM_READ) {
            sim_fail(world, "operation %llu ended with \"%s\" but is in the log at %llu",
                     (unsigned long long)op->id, ls_status_text(outcome->status),
                     (unsigned long long)op->index);
        }
    } else {
        world->unknown++;
    }
    if (op->client < world->clients_count && world->clients[op->client].op == op) {
        world->clients[op->client].op = NULL;
        sim_push(world, world->now_us + sim_random_in(&world->random, 0, 2 * world->think_us),
                 SIM_CLIENT, op->client, 0, 0);
    }
}

/* ---- calls ---- */

static bool op_send(struct sim_op *op)
{
    struct sim_member *member = &op->world->members[op->member];
    const struct ls_call_options call = {
        .deadline_ms =
            (uint32_t)sim_random_in(&op->world->random, op->world->quiet ? 3000 : 200, 3000)};
    enum ls_status status = LS_OK;
    op->accepted = true;
    if (op->kind == SIM_READ) {
        const struct ls_span query = {&op->key, sizeof op->key};
        status = ls_group_query(member->group, LS_STRONG, query, &call, on_done, op);
    } else {
        const uint64_t words[WORDS] = {[WORD_KIND] = (uint64_t)op->kind,
                                       [WORD_KEY] = op->key,
                                       [WORD_ID] = op->id,
                                       [WORD_EXPECTED] = op->expected};
        const struct ls_span command = {words, sizeof words};
        status = ls_group_execute(member->group, command, &call, on_done, op);
    }
    sim_mix(op->world, op->id << 16 | (uint64_t)op->member << 8 | (uint64_t)status);
    if (status != LS_OK) {
        op->accepted = false;
        op->fired = true;
        op->status = status;
    }
    sim_member_after(member);
    return status == LS_OK;
}

static struct sim_op *op_new(struct world *world, uint32_t client, uint32_t member,
                             enum sim_op_kind kind)
{
    struct sim_op *op = sim_allocate(sizeof *op);
    op->world = world;
    op->id = ++world->ops_made;
    op->client = client;
    op->member = member;
    op->kind = kind;
    op->key = (uint32_t)sim_random_in(&world->random, 0, SIM_KEYS - 1);
    op->invoked = world->events;
    op->floor = world->checks.newest[op->key];
    if (op->id >= world->ops_capacity) {
        world->ops_capacity = world->ops_capacity == 0 ? 1024 : world->ops_capacity * 2;
        world->ops = realloc(world->ops, world->ops_capacity * sizeof *world->ops);
        LS_ASSERT(world->ops != NULL);
    }
    world->ops[op->id] = op;
    return op;
}

void sim_client_event(struct world *world, const struct sim_event *event)
{
    struct sim_client *client = &world->clients[event->a];
    if (world->quiet || client->op != NULL) {
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
        uint64_t die = sim_random_in(&world->random, 0, 99);
        enum sim_op_kind kind = die < 45 ? SIM_WRITE : die < 60 ? SIM_CAS : SIM_READ;
        struct sim_op *op = op_new(world, event->a, at, kind);
        op->expected = client->last_seen[op->key];
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
    struct sim_op *op = op_new(world, SIM_CLIENTS_MAX, member, SIM_WRITE);
    return op_send(op) ? op : NULL;
}

void sim_clients_free(struct world *world)
{
    for (uint64_t id = 1; id <= world->ops_made; id++) {
        free(world->ops[id]);
    }
    free(world->ops);
}
