/* SPDX-License-Identifier: MIT */
/*
 * The workload "register": a machine of a few registers, and clients that write, compare and set,
 * and read them. Each write writes the number of its call, so no value is written twice. What the
 * clients were told is judged by the linearizability checker alone.
 */
#include "workloads.h"

#include <stdio.h>
#include <string.h>

#include "checker.h"

#define KEYS 8u

enum word { WORD_KIND, WORD_KEY, WORD_VALUE, WORD_EXPECTED, WORDS };
enum answer { ANSWER_VALUE, ANSWER_DONE, ANSWERS };
enum note { NOTE_RECORD, NOTE_KEY };

struct machine {
    uint64_t registers[KEYS];
};

static struct {
    struct machine machines[LS_SIM_MEMBERS_MAX];
    uint64_t last_seen[LS_SIM_CLIENTS_MAX + 1][KEYS]; /* what a CAS expects */
    uint64_t words[WORDS];                            /* of the next call */
    struct linear_history history;
} all;

/* ---- machine ---- */

static struct ls_span signature(void *self)
{
    (void)self;
    return (struct ls_span){"sim-register/1", 14};
}

static enum ls_status apply(void *self, const struct ls_command *command,
                            struct ls_replies *replies)
{
    struct machine *machine = self;
    uint64_t words[WORDS] = {0};
    if (command->data.bytes != sizeof words) {
        return LS_ERR_CORRUPT;
    }
    (void)memcpy(words, command->data.data, sizeof words);
    uint64_t *target = &machine->registers[words[WORD_KEY] % KEYS];
    uint64_t old = *target;
    bool done = words[WORD_KIND] == LINEAR_WRITE || old == words[WORD_EXPECTED];
    *target = done ? words[WORD_VALUE] : old;
    const uint64_t answer[ANSWERS] = {[ANSWER_VALUE] = old, [ANSWER_DONE] = done};
    return ls_reply_set(replies, 0, answer, sizeof answer);
}

static enum ls_status query(void *self, struct ls_span what, struct ls_replies *reply)
{
    const struct machine *machine = self;
    uint64_t words[WORDS] = {0};
    if (what.bytes != sizeof words) {
        return LS_ERR_INVALID;
    }
    (void)memcpy(words, what.data, sizeof words);
    const uint64_t answer[ANSWERS] = {
        [ANSWER_VALUE] = machine->registers[words[WORD_KEY] % KEYS], [ANSWER_DONE] = 1};
    return ls_reply_set(reply, 0, answer, sizeof answer);
}

static enum ls_status make(void *self, uint32_t member, struct ls_machine *out)
{
    (void)self;
    all.machines[member] = (struct machine){{0}};
    *out = (struct ls_machine){.size = sizeof *out,
                               .self = &all.machines[member],
                               .signature = signature,
                               .apply = apply,
                               .query = query};
    return LS_OK;
}

static uint64_t digest(void *self, const void *machine)
{
    (void)self;
    uint64_t hash = 0;
    for (uint32_t key = 0; key < KEYS; key++) {
        hash = (hash ^ ((const struct machine *)machine)->registers[key]) * 0x9fb21c651e98df25u;
        hash ^= hash >> 32;
    }
    return hash;
}

/* ---- clients ---- */

static void begin(void *self, struct ls_sim *sim)
{
    (void)self;
    (void)sim;
    (void)memset(&all, 0, sizeof all);
}

static void next(void *self, struct ls_sim *sim, struct ls_sim_call *call)
{
    (void)self;
    uint64_t die = call->probe ? 0 : ls_sim_random(sim, 0, 99);
    enum linear_kind kind = die < 45 ? LINEAR_WRITE : die < 60 ? LINEAR_CAS : LINEAR_READ;
    uint64_t key = ls_sim_random(sim, 0, KEYS - 1);
    all.words[WORD_KIND] = (uint64_t)kind;
    all.words[WORD_KEY] = key;
    all.words[WORD_VALUE] = call->id;
    all.words[WORD_EXPECTED] = all.last_seen[call->client][key];
    call->kind = kind == LINEAR_READ ? LS_SIM_QUERY : LS_SIM_COMMAND;
    call->data = (struct ls_span){all.words, sizeof all.words};
    const struct linear_op op = {.kind = kind,
                                 .outcome = LINEAR_UNKNOWN,
                                 .client = call->client,
                                 .key = key,
                                 .value = call->id,
                                 .expected = all.words[WORD_EXPECTED],
                                 .invoked = call->invoked};
    call->notes[NOTE_RECORD] = linear_begin(&all.history, &op);
    call->notes[NOTE_KEY] = key;
}

static void judge(void *self, struct ls_sim *sim, const struct ls_sim_call *call,
                  const struct ls_outcome *outcome)
{
    (void)self;
    size_t record = (size_t)call->notes[NOTE_RECORD];
    uint64_t answer[ANSWERS] = {0};
    if (outcome->status != LS_OK) {
        if (ls_sim_did_nothing(outcome->status)) {
            linear_end(&all.history, record, LINEAR_NEVER, 0, call->returned);
        }
        return;
    }
    if (outcome->replies[0].bytes != sizeof answer) {
        ls_sim_fail(sim, "call %llu has a reply of another form", (unsigned long long)call->id);
        return;
    }
    (void)memcpy(answer, outcome->replies[0].data, sizeof answer);
    bool done = answer[ANSWER_DONE] != 0;
    linear_end(&all.history, record, done ? LINEAR_OK : LINEAR_NO, answer[ANSWER_VALUE],
               call->returned);
    bool wrote = done && call->kind == LS_SIM_COMMAND;
    all.last_seen[call->client][call->notes[NOTE_KEY]] = wrote ? call->id : answer[ANSWER_VALUE];
}

static void check_end(void *self, struct ls_sim *sim)
{
    (void)self;
    struct linear_result result;
    if (linear_check(all.history.ops, all.history.count, &result) != LINEAR_LEGAL) {
        linear_print(stdout, &result, all.history.ops, all.history.count, NULL);
        ls_sim_fail(sim, "the history of key %llu is not linearizable",
                    (unsigned long long)result.key);
    }
    linear_result_free(&result);
}

static void end(void *self)
{
    (void)self;
    linear_history_free(&all.history);
}

const struct ls_sim_workload workload_register = {.size = sizeof workload_register,
                                                  .name = "register",
                                                  .begin = begin,
                                                  .machine = make,
                                                  .next = next,
                                                  .judge = judge,
                                                  .digest = digest,
                                                  .check_end = check_end,
                                                  .end = end};
