/* SPDX-License-Identifier: MIT */
/* What must hold after every turn and every applied command. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

#include "checker.h"

void sim_check_applied(struct world *world, ls_index index, uint64_t chain, uint64_t id)
{
    struct sim_checks *checks = &world->checks;
    checks->steps = sim_grow(checks->steps, &checks->steps_capacity, index, sizeof *checks->steps);
    struct sim_step *step = &checks->steps[index];
    if (step->chain != 0) {
        if (step->chain != chain) {
            sim_fail(world, "machines differ at index %llu: operation %llu and %llu",
                     (unsigned long long)index, (unsigned long long)step->op,
                     (unsigned long long)id);
        }
        return;
    }
    *step = (struct sim_step){chain, id};
    checks->last = index > checks->last ? index : checks->last;
    struct sim_op *op = id >= 1 && id <= world->ops_made ? world->ops[id] : NULL;
    if (op == NULL) {
        sim_fail(world, "index %llu holds a command that nobody gave", (unsigned long long)index);
    } else if (op->index != 0) {
        sim_fail(world, "operation %llu is in the log twice: at %llu and %llu",
                 (unsigned long long)id, (unsigned long long)op->index, (unsigned long long)index);
    } else if (op->fired && sim_did_nothing(op->status)) {
        sim_fail(world, "operation %llu ended with \"%s\" and was applied later, at %llu",
                 (unsigned long long)id, ls_status_text(op->status), (unsigned long long)index);
    } else {
        op->index = index;
    }
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
    if (status.core.role == LS_ROLE_LEADER) {
        check_leader(member, status.core.term);
    }
    if (status.core.commit < member->commit) {
        sim_fail(member->world, "commit of %s went back from %llu to %llu", member->name,
                 (unsigned long long)member->commit, (unsigned long long)status.core.commit);
    }
    member->commit = status.core.commit;
    sim_check_commit(member, status.core.term, status.core.commit);
    if (status.core.commit > status.core.last || status.core.applied > status.core.commit) {
        sim_fail(member->world, "%s: applied %llu, commit %llu, last %llu are out of order",
                 member->name, (unsigned long long)status.core.applied,
                 (unsigned long long)status.core.commit, (unsigned long long)status.core.last);
    }
    if (status.halted != LS_OK && !(status.halted == LS_ERR_IO && member->faulty_disk != 0)) {
        sim_fail(member->world, "%s halted: %s", member->name, status.text);
    }
}

static struct linear_op record_of(const struct sim_op *op)
{
    static const enum linear_kind kinds[] = {
        [SIM_WRITE] = LINEAR_WRITE, [SIM_CAS] = LINEAR_CAS, [SIM_READ] = LINEAR_READ};
    struct linear_op record = {.kind = kinds[op->kind],
                               .outcome = LINEAR_UNKNOWN,
                               .client = op->client,
                               .key = op->key,
                               .value = op->kind == SIM_READ ? op->saw : op->id,
                               .expected = op->expected,
                               .invoked = op->invoked,
                               .returned = op->returned};
    if (!op->accepted || (op->fired && sim_did_nothing(op->status))) {
        record.outcome = LINEAR_NEVER;
    } else if (op->fired && op->status == LS_OK) {
        record.outcome = op->kind == SIM_CAS && !op->done ? LINEAR_NO : LINEAR_OK;
    }
    return record;
}

void sim_check_history(struct world *world)
{
    size_t count = world->ops_made;
    struct linear_op *records = sim_allocate((count + 1) * sizeof *records);
    for (size_t i = 0; i < count; i++) {
        records[i] = record_of(world->ops[i + 1]);
    }
    struct linear_result result;
    if (linear_check(records, count, &result) != LINEAR_LEGAL) {
        linear_print(stdout, &result, records, count, NULL);
        sim_fail(world, "the history of key %llu is not linearizable",
                 (unsigned long long)result.key);
    }
    linear_result_free(&result);
    free(records);
}

void sim_checks_free(struct world *world)
{
    free(world->checks.steps);
    free(world->checks.leaders);
    sim_check_log_free(world);
}
