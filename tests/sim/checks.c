/* SPDX-License-Identifier: MIT */
/* What must hold after every turn and every applied command. */
#include "world.h"

#include <stdlib.h>

static void check_same(struct sim_machine *machine, const struct sim_step *step, ls_index index,
                       uint64_t op, uint64_t reply)
{
    struct world *world = machine->member->world;
    if (step->chain != machine->chain) {
        sim_fail(world, "machines differ at index %llu: call %llu and %llu",
                 (unsigned long long)index, (unsigned long long)step->op, (unsigned long long)op);
    } else if (step->reply != 0 && reply != 0 && step->reply != reply) {
        sim_fail(world, "machines differ at index %llu: %s replies to call %llu as no other does",
                 (unsigned long long)index, machine->member->name, (unsigned long long)op);
    }
}

/* The command of call `id` is in the log for the first time as far as anyone saw. */
static void check_new(struct world *world, ls_index index, uint64_t id, uint64_t command)
{
    struct sim_op *op = id >= 1 && id <= world->ops_made ? world->ops[id] : NULL;
    unsigned long long number = id, at = index;
    if (op == NULL || op->call.kind != LS_SIM_COMMAND || op->hash != command) {
        sim_fail(world, "index %llu holds a command that nobody gave", at);
    } else if (op->index != 0) {
        sim_fail(world, "call %llu is in the log twice: at %llu and %llu", number,
                 (unsigned long long)op->index, at);
    } else if (op->fired && ls_sim_did_nothing(op->status)) {
        sim_fail(world, "call %llu ended with \"%s\" and was applied later, at %llu", number,
                 ls_status_text(op->status), at);
    } else if (index <= op->floor) {
        sim_fail(world, "call %llu is in the log at %llu, but %llu was done before it began",
                 number, at, (unsigned long long)op->floor);
    } else {
        op->index = index;
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
    if (workload->digest != NULL) {
        uint64_t digest = workload->digest(workload->self, machine->inner.self) | 1u;
        uint64_t *known = &world->checks.steps[machine->applied].digest;
        if (*known != 0 && *known != digest) {
            sim_fail(world, "machines differ at index %llu: the state of %s is no other's",
                     (unsigned long long)machine->applied, member->name);
        }
        *known = digest;
    }
}

void sim_check_answer(struct sim_op *op, const struct ls_outcome *outcome)
{
    struct world *world = op->world;
    struct sim_checks *checks = &world->checks;
    unsigned long long id = op->call.id;
    if (outcome->count != 1) {
        sim_fail(world, "call %llu has %zu replies", id, outcome->count);
        return;
    }
    ls_index at = op->read_at;
    if (op->call.kind == LS_SIM_COMMAND) {
        at = outcome->first.index;
        const struct sim_step *step = at < checks->steps_capacity ? &checks->steps[at] : NULL;
        if (step == NULL || step->op != op->call.id) {
            sim_fail(world, "call %llu was acknowledged at %llu, where nobody applied it", id,
                     (unsigned long long)at);
        } else if (step->reply != 0 && step->reply != sim_hash(outcome->replies[0])) {
            sim_fail(world, "call %llu was answered with another reply than the machine's", id);
        }
    } else if (op->call.consistency != LS_STRONG) {
        return; /* it may be as old as it likes */
    } else if (at < op->floor) {
        sim_fail(world,
                 "not linearizable: call %llu read the state at %llu, but %llu was done "
                 "before it began",
                 id, (unsigned long long)at, (unsigned long long)op->floor);
    }
    checks->known = at > checks->known ? at : checks->known;
}

static void check_leader(struct sim_member *member, ls_term term)
{
    struct sim_checks *checks = &member->world->checks;
    checks->leaders =
        sim_grow(checks->leaders, &checks->leaders_capacity, term, sizeof *checks->leaders);
    uint32_t *leader = &checks->leaders[term];
    if (*leader == 0) {
        *leader = member->at + 1;
        checks->leader_changes++;
        sim_check_new_leader(member, term);
    } else if (*leader != member->at + 1) {
        sim_fail(member->world, "two leaders in term %llu: %s and %s", (unsigned long long)term,
                 member->world->members[*leader - 1].name, member->name);
    }
}

void sim_check_turn(struct sim_member *member)
{
    if (member->group == NULL || member->world->failed) {
        return;
    }
    struct ls_group_status status;
    ls_group_status(member->group, &status);
    sim_sync_turn(member, &status);
    if (status.core.role == LS_ROLE_LEADER) {
        check_leader(member, status.core.term);
    }
    if (status.core.commit < member->commit) {
        sim_fail(member->world, "commit of %s went back from %llu to %llu", member->name,
                 (unsigned long long)member->commit, (unsigned long long)status.core.commit);
    }
    member->commit = status.core.commit;
    sim_check_commit(member, status.core.term, status.core.commit);
    sim_rules_turn(member, &status.core);
    if (status.core.commit > status.core.last || status.core.applied > status.core.commit) {
        sim_fail(member->world, "%s: applied %llu, commit %llu, last %llu are out of order",
                 member->name, (unsigned long long)status.core.applied,
                 (unsigned long long)status.core.commit, (unsigned long long)status.core.last);
    }
    sim_check_buffers(member, &status);
    if (status.halted != LS_OK && !sim_member_excused(member, status.halted)) {
        sim_fail(member->world, "%s halted: %s", member->name, status.text);
    }
}

void sim_checks_free(struct world *world)
{
    free(world->checks.steps);
    free(world->checks.leaders);
    sim_check_log_free(world);
}
