/* SPDX-License-Identifier: MIT */
/*
 * Checks of what the outside sees, which hold for every machine: what each member applied, where
 * and with which reply and state (K3), and how calls may end.
 */
#include "sync.h"

static void check_same(struct sim_machine *machine, const struct sim_step *step, ls_index index,
                       uint64_t op, uint64_t reply)
{
    struct world *world = machine->member->world;
    if (step->chain != machine->chain) {
        sim_fail(world, "machines differ at index %llu: call %llu and %llu",
                 (unsigned long long)index, (unsigned long long)(step->op & SIM_PREFIX_CALL),
                 (unsigned long long)(op & SIM_PREFIX_CALL));
    } else if (step->reply != 0 && reply != 0 && step->reply != reply) {
        sim_fail(world, "machines differ at index %llu: %s replies to call %llu as no other does",
                 (unsigned long long)index, machine->member->name,
                 (unsigned long long)(op & SIM_PREFIX_CALL));
    }
}

/* A command is in the log for the first time as far as anyone saw. */
static void check_new(struct world *world, ls_index index, uint64_t prefix, uint64_t command)
{
    unsigned long long number = prefix & SIM_PREFIX_CALL, part = prefix >> SIM_PREFIX_BITS;
    struct sim_op *op = number >= 1 && number <= world->ops_made ? world->ops[number] : NULL;
    unsigned long long at = index;
    ls_index first = index - part; /* of the call's commands */
    if (op == NULL || !sim_op_writes(op) || part >= op->count || op->hashes[part] != command) {
        sim_fail(world, "index %llu holds a command that nobody gave", at);
    } else if (part >= index || (op->index != 0 && op->index != first)) {
        sim_fail(world,
                 "call %llu is in the log twice or in parts: at %llu and, part %llu, at %llu",
                 number, (unsigned long long)op->index, part, at);
    } else if (op->fired && ls_sim_did_nothing(op->status)) {
        sim_fail(world, "call %llu ended with \"%s\" and was applied later, at %llu", number,
                 ls_status_text(op->status), at);
    } else if (index <= op->floor) {
        sim_fail(world, "call %llu is in the log at %llu, but %llu was done before it began",
                 number, at, (unsigned long long)op->floor);
    } else if (op->fed != 0 && op->fed != first) {
        sim_fail(world, "call %llu was fed at %llu and is in the log at %llu", number,
                 (unsigned long long)op->fed, (unsigned long long)first);
    } else {
        op->index = first;
    }
}

void sim_check_applied(struct sim_machine *machine, ls_index index, uint64_t op, uint64_t command,
                       uint64_t reply)
{
    struct world *world = machine->member->world;
    struct sim_checks *checks = &world->checks;
    checks->steps = sim_grow(checks->steps, &checks->steps_capacity, index, sizeof *checks->steps);
    struct sim_step *step = &checks->steps[index];
    if (step->chain != 0) {
        check_same(machine, step, index, op, reply);
        step->reply = step->reply == 0 ? reply : step->reply;
        return;
    }
    *step = (struct sim_step){.chain = machine->chain, .op = op, .reply = reply};
    checks->last = index > checks->last ? index : checks->last;
    check_new(world, index, op, command);
}

ls_index sim_check_last(const struct world *world, ls_index upto, uint64_t *chain)
{
    const struct sim_checks *checks = &world->checks;
    ls_index index = upto < checks->last ? upto : checks->last;
    while (index > 0 && checks->steps[index].chain == 0) {
        index--; /* a marker, a configuration, the first of a term: not for machines */
    }
    *chain = index > 0 ? checks->steps[index].chain : world->options.seed | 1u;
    return index;
}

/* A state of another member, or of an earlier life, took the place of the present one. */
void sim_check_published(struct sim_machine *machine, struct ls_cursor anchor)
{
    struct sim_member *member = machine->member;
    struct world *world = member->world;
    const struct sim_logs *logs = &world->checks.logs;
    const struct sim_install *install = &member->vault.install;
    unsigned long long at = anchor.index;
    /* what it froze itself while it closed, it may not have told any more */
    if (anchor.index > logs->committed_last && install->runs) {
        sim_fail(world, "%s takes in the state at %llu, which nobody has committed", member->name,
                 at);
        return;
    }
    ls_index last = sim_check_last(world, anchor.index, &machine->chain);
    if (last < machine->applied) {
        sim_fail(world, "%s takes in the state at %llu, and has applied up to %llu", member->name,
                 at, (unsigned long long)machine->applied);
    }
    bool installs = install->runs && ls_cursor_compare(install->anchor, anchor) == 0;
    if (installs && anchor.index <= member->commit) { /* S4 */
        sim_fail(world, "%s takes in the state at %llu, its commit is %llu", member->name, at,
                 (unsigned long long)member->commit);
    }
    machine->applied = last;
    sim_check_digest(machine);
}

void sim_check_state(struct sim_machine *machine)
{
    struct sim_member *member = machine->member;
    struct world *world = member->world;
    const struct ls_sim_workload *workload = world->workload;
    if (world->failed) {
        return;
    }
    if (workload->check != NULL) {
        workload->check(workload->self, &world->handle, member->at, machine->inner.self);
    }
    /* it costs as much as the state is large: in long runs at every eighth index */
    if (machine->applied < 256 || machine->applied % 8 == 0) {
        sim_check_digest(machine);
    }
}

void sim_check_digest(struct sim_machine *machine)
{
    struct sim_member *member = machine->member;
    struct world *world = member->world;
    const struct ls_sim_workload *workload = world->workload;
    if (workload->digest != NULL && machine->applied > 0 && !world->failed) {
        uint64_t number = workload->digest(workload->self, machine->inner.self);
        uint64_t digest = sim_hash((struct ls_span){&number, sizeof number});
        uint64_t *known = &world->checks.steps[machine->applied].digest;
        if (*known != 0 && *known != digest) {
            sim_fail(world, "machines differ at index %llu: the state of %s is no other's",
                     (unsigned long long)machine->applied, member->name);
        }
        *known = digest;
    }
}

/* Each command was applied where the answer says, and replied so. Returns the last index. */
static ls_index check_executed(const struct sim_op *op, const struct ls_outcome *outcome)
{
    struct world *world = op->world;
    const struct sim_checks *checks = &world->checks;
    ls_index last = outcome->first.index + op->count - 1;
    for (uint32_t i = 0; i < op->count; i++) {
        ls_index at = outcome->first.index + i;
        const struct sim_step *step = at < checks->steps_capacity ? &checks->steps[at] : NULL;
        if (step == NULL || step->op != (op->call.id | (uint64_t)i << SIM_PREFIX_BITS)) {
            sim_fail(world, "call %llu was acknowledged at %llu, where nobody applied it",
                     (unsigned long long)op->call.id, (unsigned long long)at);
        } else if (step->reply != 0 && step->reply != sim_hash(outcome->replies[i])) {
            sim_fail(world, "call %llu was answered with another reply than the machine's",
                     (unsigned long long)op->call.id);
        }
    }
    return last;
}

/* A place is a promise of nothing: who gave it may be a leader of the past, and others have gone
 * on. But the command is nowhere else. */
static void check_fed(struct sim_op *op, const struct ls_outcome *outcome)
{
    op->fed = outcome->first.index;
    if (op->index != 0 && op->index != op->fed) {
        sim_fail(op->world, "call %llu was fed at %llu, but is at %llu",
                 (unsigned long long)op->call.id, (unsigned long long)op->fed,
                 (unsigned long long)op->index);
    }
}

void sim_check_answer(struct sim_op *op, const struct ls_outcome *outcome)
{
    struct world *world = op->world;
    bool replied = op->call.kind == LS_SIM_COMMAND || op->call.kind == LS_SIM_QUERY;
    size_t replies = replied ? op->count : 0;
    if (outcome->count != replies) {
        sim_fail(world, "call %llu has %zu replies", (unsigned long long)op->call.id,
                 outcome->count);
        return;
    }
    ls_index at = op->read_at;
    if (op->call.kind == LS_SIM_COMMAND) {
        at = check_executed(op, outcome);
    } else if (op->call.kind == LS_SIM_FEED) {
        check_fed(op, outcome);
        return; /* it may still be lost */
    } else if (op->call.kind == LS_SIM_BARRIER) {
        at = world->members[op->call.member].machine.applied;
    } else if (op->call.consistency != LS_STRONG) {
        return; /* it may be as old as it likes */
    }
    if (at < op->floor) {
        sim_fail(world,
                 "not linearizable: call %llu read the state at %llu, but %llu was done before it "
                 "began",
                 (unsigned long long)op->call.id, (unsigned long long)at,
                 (unsigned long long)op->floor);
    }
    world->checks.known = at > world->checks.known ? at : world->checks.known;
}
