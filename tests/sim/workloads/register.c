/* SPDX-License-Identifier: MIT */
/*
 * The workload "register": a machine of a few registers, and clients that write, compare and set,
 * and read them. Each write writes the number of its call, so no value is written twice. What the
 * clients were told is judged by the linearizability checker alone.
 *
 * Some members keep the state as a machine on disk does: what they had saved, with its index, is
 * there in their next life. Some are too busy for a command now and then.
 */
#include <stdlib.h>

#include "../image.h"
#include "history.h"
#include "workloads.h"

#define KEYS        8u
#define WRITE_MAX   4u     /* commands of one call */
#define PADDING_MAX 90000u /* two items are more than a chunk */
#define VALUES      8u     /* a call's id times this: room for a value of each of its commands */

enum word { WORD_KIND, WORD_KEY, WORD_VALUE, WORD_EXPECTED, WORDS };
enum answer { ANSWER_VALUE, ANSWER_DONE, ANSWERS };
_Static_assert(WRITE_MAX <= VALUES && WRITE_MAX <= LS_SIM_NOTES, "a note for each command");

struct machine {
    uint64_t registers[KEYS];
    ls_index applied;
};

/* What a member is like in this run. */
struct nature {
    bool durable;
    uint32_t save_percent, busy_percent; /* of its commands */
};

static struct {
    struct ls_sim *sim;
    struct nature natures[LS_SIM_MEMBERS_MAX];
    struct machine machines[LS_SIM_MEMBERS_MAX];
    struct machine saved[LS_SIM_MEMBERS_MAX]; /* of durable ones */
    struct machine staged[LS_SIM_MEMBERS_MAX];
    uint8_t padding[PADDING_MAX + sizeof(uint64_t)]; /* behind each value of a frozen state */
    size_t padding_bytes;
    struct ls_incarnation incarnations[LS_SIM_MEMBERS_MAX];
    uint64_t words[WRITE_MAX][WORDS]; /* of the next call */
    struct ls_span commands[WRITE_MAX];
    struct history history;
} all;

/* ---- machine ---- */

static struct ls_span signature(void *self)
{
    (void)self;
    return (struct ls_span){"sim-register/1", 14};
}

static bool percent(uint32_t share)
{
    return share > 0 && ls_sim_random(all.sim, 0, 99) < share;
}

static enum ls_status open_saved(void *self, const struct ls_group_id *group,
                                 const struct ls_incarnation *incarnation, ls_index *applied,
                                 struct ls_error *error)
{
    struct machine *machine = self;
    size_t member = (size_t)(machine - all.machines);
    (void)group;
    (void)error;
    if (!ls_incarnation_equal(&all.incarnations[member], incarnation)) {
        all.incarnations[member] = *incarnation; /* the disk was lost, and the state with it */
        all.saved[member] = *machine = (struct machine){.applied = 0};
    }
    *applied = machine->applied;
    return LS_OK;
}

static ls_index durable_applied(void *self)
{
    const struct machine *machine = self;
    return all.saved[machine - all.machines].applied;
}

static enum ls_status apply(void *self, const struct ls_command *command,
                            struct ls_replies *replies)
{
    struct machine *machine = self;
    const struct nature *nature = &all.natures[machine - all.machines];
    uint64_t words[WORDS] = {0};
    if (command->data.bytes != sizeof words) {
        return LS_ERR_CORRUPT;
    }
    if (percent(nature->busy_percent)) {
        return LS_ERR_BUSY;
    }
    (void)memcpy(words, command->data.data, sizeof words);
    uint64_t *target = &machine->registers[words[WORD_KEY] % KEYS];
    uint64_t old = *target;
    bool done = words[WORD_KIND] == LINEAR_WRITE || old == words[WORD_EXPECTED];
    *target = done ? words[WORD_VALUE] : old;
    machine->applied = command->cursor.index;
    if (nature->durable && percent(nature->save_percent)) {
        all.saved[machine - all.machines] = *machine;
    }
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

/* ---- snapshots ---- */

static enum ls_status freeze(void *self, struct ls_frozen *out)
{
    const struct machine *machine = self;
    struct sim_image *image = calloc(1, sizeof *image);
    LS_ASSERT(image != NULL);
    for (uint8_t key = 0; key < KEYS; key++) {
        if (machine->registers[key] != 0) {
            uint8_t *value = all.padding;
            (void)memcpy(value, &machine->registers[key], sizeof machine->registers[key]);
            const size_t bytes = sizeof machine->registers[key] + all.padding_bytes;
            sim_image_add(image, &(struct ls_item){{&key, 1}, {value, bytes}});
        }
    }
    *out = (struct ls_frozen){image, image->count, image->total};
    return LS_OK;
}

static enum ls_status iterate(void *self, const struct ls_frozen *frozen, struct ls_span from,
                              ls_item_visit visit, void *arg)
{
    (void)self;
    return sim_image_iterate(frozen->handle, from, visit, arg);
}

static void thaw(void *self, struct ls_frozen *frozen)
{
    (void)self;
    sim_image_free(frozen->handle);
    free(frozen->handle);
}

static enum ls_status restore(void *self, struct ls_cursor anchor)
{
    const struct machine *machine = self;
    (void)anchor;
    all.staged[machine - all.machines] = (struct machine){.applied = 0};
    return LS_OK;
}

static enum ls_status restore_item(void *self, const struct ls_item *item)
{
    const struct machine *machine = self;
    uint64_t value = 0;
    uint8_t key = KEYS;
    if (item->key.bytes != 1 || item->value.bytes != sizeof value + all.padding_bytes) {
        return LS_ERR_CORRUPT;
    }
    (void)memcpy(&key, item->key.data, 1);
    (void)memcpy(&value, item->value.data, sizeof value);
    if (key >= KEYS) {
        return LS_ERR_CORRUPT;
    }
    all.staged[machine - all.machines].registers[key] = value;
    return LS_OK;
}

static enum ls_status publish(void *self, struct ls_cursor anchor)
{
    struct machine *machine = self;
    size_t member = (size_t)(machine - all.machines);
    *machine = all.staged[member];
    machine->applied = anchor.index;
    if (all.natures[member].durable) {
        all.saved[member] = *machine;
    }
    return LS_OK;
}

static void restore_end(void *self)
{
    (void)self;
}

static enum ls_status make(void *self, uint32_t member, struct ls_machine *out)
{
    (void)self;
    bool durable = all.natures[member].durable;
    all.machines[member] = all.saved[member];
    *out = (struct ls_machine){.size = sizeof *out,
                               .self = &all.machines[member],
                               .signature = signature,
                               .open = durable ? open_saved : NULL,
                               .durable_applied = durable ? durable_applied : NULL,
                               .apply = apply,
                               .query = query,
                               .freeze = freeze,
                               .iterate = iterate,
                               .thaw = thaw,
                               .restore = restore,
                               .restore_item = restore_item,
                               .publish = publish,
                               .restore_end = restore_end};
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
    (void)memset(&all, 0, sizeof all);
    all.sim = sim;
    for (uint32_t i = 0; i < ls_sim_members(sim); i++) {
        all.natures[i].durable = percent(40);
        all.natures[i].save_percent = (uint32_t)ls_sim_random(sim, 1, 50);
        all.natures[i].busy_percent = percent(20) ? (uint32_t)ls_sim_random(sim, 1, 10) : 0;
    }
    /* by a draw that was made anyway: with snapshots a seed has the calls that it has without */
    uint32_t drawn = all.natures[0].save_percent;
    all.padding_bytes = drawn % 3 == 0 ? drawn * (PADDING_MAX / 50u) : 0;
}

/* One command or query of a call. */
static size_t begin_one(struct ls_sim *sim, const struct ls_sim_call *call, enum linear_kind kind,
                        uint32_t part)
{
    uint64_t *words = all.words[part];
    uint64_t key = ls_sim_random(sim, 0, KEYS - 1);
    words[WORD_KIND] = (uint64_t)kind;
    words[WORD_KEY] = key;
    words[WORD_VALUE] = call->id * VALUES + part;
    words[WORD_EXPECTED] = all.history.seen[call->client][key];
    all.commands[part] = (struct ls_span){words, sizeof all.words[part]};
    return history_begin(&all.history, call,
                         &(struct linear_op){.kind = kind,
                                             .key = key,
                                             .value = words[WORD_VALUE],
                                             .expected = words[WORD_EXPECTED]});
}

static void next(void *self, struct ls_sim *sim, struct ls_sim_call *call)
{
    (void)self;
    uint64_t die = call->probe ? 0 : ls_sim_random(sim, 0, 99);
    enum linear_kind kind = die < 45 ? LINEAR_WRITE : die < 60 ? LINEAR_CAS : LINEAR_READ;
    uint64_t count = kind != LINEAR_READ && percent(15) ? ls_sim_random(sim, 2, WRITE_MAX) : 1;
    if (kind == LINEAR_READ) {
        call->kind = LS_SIM_QUERY;
    } else if (!call->probe && percent(5)) {
        call->kind = LS_SIM_FEED;
    }
    for (uint32_t part = 0; part < count; part++) {
        call->notes[part] = begin_one(sim, call, kind, part);
    }
    call->data = all.commands[0];
    call->commands = all.commands;
    call->count = count > 1 ? (size_t)count : 0;
}

static void judge_one(struct ls_sim *sim, const struct ls_sim_call *call, size_t record,
                      struct ls_span reply)
{
    uint64_t answer[ANSWERS] = {0};
    if (reply.bytes != sizeof answer) {
        ls_sim_fail(sim, "call %llu has a reply of another form", (unsigned long long)call->id);
        return;
    }
    (void)memcpy(answer, reply.data, sizeof answer);
    history_answer(&all.history, record, call, answer[ANSWER_DONE] != 0, answer[ANSWER_VALUE]);
}

static void judge(void *self, struct ls_sim *sim, const struct ls_sim_call *call,
                  const struct ls_outcome *outcome)
{
    (void)self;
    size_t count = call->count > 0 ? call->count : 1;
    for (size_t part = 0; part < count; part++) {
        if (outcome->status != LS_OK) {
            history_fail(&all.history, call->notes[part], call, outcome->status);
        } else if (call->kind != LS_SIM_FEED) { /* of one that is fed nothing is known */
            judge_one(sim, call, call->notes[part], outcome->replies[part]);
        }
    }
}

static void check_end(void *self, struct ls_sim *sim)
{
    (void)self;
    history_judge(&all.history, sim);
}

static void end(void *self)
{
    (void)self;
    history_free(&all.history);
}

const struct ls_sim_workload workload_register = {.size = sizeof workload_register,
                                                  .name = "register",
                                                  .begin = begin,
                                                  .machine = make,
                                                  .next = next,
                                                  .judge = judge,
                                                  .digest = digest,
                                                  .check_end = check_end,
                                                  .end = end,
                                                  .snapshots = true};
