/* SPDX-License-Identifier: MIT */
/*
 * The workload "kv": the key-value machine of examples/kv, as it runs in production with its state
 * in memory, and clients that set, compare and set, delete and read, one key or two. A value is the
 * number of the call that wrote it, and in some runs now and then a long tail. What the clients
 * were told is judged by the linearizability checker alone.
 */
#include <stdio.h>
#include <stdlib.h>

#include "history.h"
#include "kv_machine.h"
#include "workloads.h"

#define KEYS        12u
#define TEXT_BYTES  24u
#define ARGS_MAX    5u
#define QUERY_BYTES 256u
#define TAIL_BYTES  40000u
#define REPLY_BYTES (2u * (TAIL_BYTES + 64u))

/* a call of two keys has two records, one after the other */
enum note { NOTE_VERB, NOTE_RECORD, NOTE_KEYS };

enum verb { VERB_SET, VERB_MSET, VERB_SETNX, VERB_CAS, VERB_DEL, VERB_GET, VERB_MGET, VERBS };

static const struct {
    const char *name;
    enum linear_kind kind;
    uint32_t keys;
    uint32_t percent; /* of the calls */
} verbs[VERBS] = {
    [VERB_SET] = {"set", LINEAR_WRITE, 1, 25},   [VERB_MSET] = {"mset", LINEAR_WRITE, 2, 10},
    [VERB_SETNX] = {"setnx", LINEAR_CAS, 1, 10}, [VERB_CAS] = {"cas", LINEAR_CAS, 1, 15},
    [VERB_DEL] = {"del", LINEAR_DELETE, 1, 10},  [VERB_GET] = {"get", LINEAR_READ, 1, 20},
    [VERB_MGET] = {"mget", LINEAR_READ, 2, 10},
};

static struct {
    struct kv_machine machines[LS_SIM_MEMBERS_MAX];
    struct kv_buffer entry;                  /* the next command */
    char query[QUERY_BYTES];                 /* the next query */
    char values[2][TEXT_BYTES + TAIL_BYTES]; /* of the next command: expected, and new */
    char reply[REPLY_BYTES];                 /* as text */
    uint32_t tail_bytes;                     /* at most, in this run */
    struct kv_buffer read;                   /* what was read behind a barrier */
    struct history history;
} all;

/* ---- machine ---- */

static enum ls_status make(void *self, uint32_t member, struct ls_machine *out)
{
    (void)self;
    struct kv_store store;
    enum ls_status status = kv_store_memory_open(&store);
    if (status == LS_OK) {
        kv_machine_init(&all.machines[member], &store);
        *out = kv_machine_port(&all.machines[member]);
    }
    return status;
}

struct sum {
    const struct kv_store *store;
    uint64_t hash;
};

static void sum_bytes(struct sum *sum, struct ls_span bytes)
{
    const uint8_t *at = bytes.data;
    for (size_t i = 0; i < bytes.bytes; i++) {
        sum->hash = (sum->hash ^ at[i]) * 1099511628211u;
    }
    sum->hash = (sum->hash ^ bytes.bytes) * 0x9fb21c651e98df25u;
    sum->hash ^= sum->hash >> 32;
}

static void sum_key(void *arg, struct ls_span key)
{
    struct sum *sum = arg;
    struct ls_span value = {NULL, 0};
    LS_ASSERT(sum->store->get(sum->store->self, key, &value) == LS_OK);
    sum_bytes(sum, key);
    sum_bytes(sum, value);
}

static uint64_t digest(void *self, const void *machine)
{
    (void)self;
    const struct kv_machine *kv = machine;
    struct sum sum = {.store = &kv->store};
    uint64_t next = 0;
    LS_ASSERT(kv->store.scan(kv->store.self, 0, &next, UINT32_MAX, sum_key, &sum) == LS_OK);
    return sum.hash;
}

/* ---- calls ---- */

/* The words of one call: the name, then what follows it. */
struct words {
    char text[ARGS_MAX][TEXT_BYTES];
    struct ls_span args[ARGS_MAX];
    size_t count;
};

static void words_add(struct words *words, const char *head, uint64_t number)
{
    char *text = words->text[words->count];
    (void)snprintf(text, TEXT_BYTES, "%s%llu", head, (unsigned long long)number);
    words->args[words->count++] = (struct ls_span){text, strlen(text)};
}

/* How many bytes follow the number in the value that this call wrote. */
static size_t tail_of(uint64_t id)
{
    uint64_t hash = id * 0x9fb21c651e98df25u;
    hash ^= hash >> 32;
    return all.tail_bytes > 0 && hash % 16 == 0 ? (size_t)(hash >> 4) % all.tail_bytes : 0;
}

static void words_add_value(struct words *words, uint32_t which, uint64_t id)
{
    char *text = all.values[which];
    size_t digits = (size_t)snprintf(text, TEXT_BYTES, "%llu", (unsigned long long)id);
    (void)memset(text + digits, 'x', tail_of(id));
    words->args[words->count++] = (struct ls_span){text, digits + tail_of(id)};
}

static enum verb choose(struct ls_sim *sim, const struct ls_sim_call *call)
{
    if (call->probe) {
        return VERB_SET;
    }
    uint64_t die = ls_sim_random(sim, 0, 99);
    uint32_t verb = 0;
    while (die >= verbs[verb].percent) {
        die -= verbs[verb++].percent;
    }
    return (enum verb)verb;
}

static void encode(const struct words *words, struct ls_sim_call *call)
{
    const struct kv_command *command = kv_command_find(words->args[0]);
    LS_ASSERT(command != NULL && kv_command_arity_fits(command, words->count));
    if ((command->flags & KV_WRITE) != 0) {
        kv_buffer_reset(&all.entry, QUERY_BYTES);
        kv_entry_encode(&all.entry, command, words->args, words->count);
        LS_ASSERT(!all.entry.failed);
        call->data = kv_buffer_span(&all.entry);
        return;
    }
    size_t used = (size_t)snprintf(all.query, QUERY_BYTES, "*%zu\r\n", words->count);
    for (size_t i = 0; i < words->count; i++) {
        used += (size_t)snprintf(all.query + used, QUERY_BYTES - used, "$%zu\r\n%s\r\n",
                                 words->args[i].bytes, words->text[i]);
    }
    call->kind = LS_SIM_QUERY;
    call->data = (struct ls_span){all.query, used};
}

static void next(void *self, struct ls_sim *sim, struct ls_sim_call *call)
{
    (void)self;
    enum verb verb = choose(sim, call);
    uint64_t key = ls_sim_random(sim, 0, KEYS - 1);
    uint64_t seen = all.history.seen[call->client][key];
    struct linear_op op = {.kind = verbs[verb].kind, .value = call->id};
    struct words words = {.count = 1};
    (void)snprintf(words.text[0], TEXT_BYTES, "%s", verbs[verb].name);
    words.args[0] = (struct ls_span){words.text[0], strlen(words.text[0])};
    if (verb == VERB_CAS) { /* it wants a value: what was never written is no one's */
        op.expected = seen != LINEAR_ABSENT ? seen : call->id;
    }
    for (uint32_t i = 0; i < verbs[verb].keys; i++) {
        op.key = (key + i * (1 + call->id % (KEYS - 1))) % KEYS;
        words_add(&words, "key", op.key);
        if (verb == VERB_CAS) {
            words_add_value(&words, 0, op.expected);
        }
        if (op.kind == LINEAR_WRITE || op.kind == LINEAR_CAS) {
            words_add_value(&words, 1, call->id);
        }
        call->notes[NOTE_KEYS + i] = op.key;
        size_t record = history_begin(&all.history, call, &op);
        call->notes[NOTE_RECORD] = i == 0 ? record : call->notes[NOTE_RECORD];
    }
    call->notes[NOTE_VERB] = (uint64_t)verb;
    encode(&words, call);
    if (call->kind == LS_SIM_QUERY && ls_sim_random(sim, 0, 1) == 1) {
        call->kind = LS_SIM_BARRIER;
        call->data = (struct ls_span){NULL, 0};
    }
}

/* ---- answers ---- */

/* The next word of a reply in RESP3: "+OK", ":1", "_", or a number that "$" announces. Bounded by
 * the reply, which ends with a line end. */
static bool reply_word(const char **at, char type, uint64_t *number)
{
    char *end = NULL;
    *number = LINEAR_ABSENT;
    if (type == '$' && (*at)[0] == '_') {
        *at += 1;
    } else if ((*at)[0] != type) {
        return false;
    } else if (type == '+') {
        *at += strcspn(*at, "\r");
    } else {
        *number = strtoull(*at + 1, &end, 10);
        *at = end;
        if (type == '$' && strncmp(*at, "\r\n", 2) == 0) {
            size_t bytes = (size_t)*number;
            *number = strtoull(*at + 2, &end, 10);
            size_t tail = strspn(end, "x");
            *at += 2 + bytes;
            if (bytes == 0 || tail != tail_of(*number) || end + tail != *at) {
                return false;
            }
        }
    }
    bool whole = strncmp(*at, "\r\n", 2) == 0;
    *at += whole ? 2 : 0;
    return whole;
}

/* Behind a barrier, as lockstep-kv does it. */
static struct ls_span read_here(struct ls_sim *sim, const struct ls_sim_call *call)
{
    enum verb verb = (enum verb)call->notes[NOTE_VERB];
    struct words words = {.count = 1};
    words.args[0] = (struct ls_span){verbs[verb].name, strlen(verbs[verb].name)};
    for (uint32_t i = 0; i < verbs[verb].keys; i++) {
        words_add(&words, "key", call->notes[NOTE_KEYS + i]);
    }
    struct resp_out out = {&all.read, 3};
    kv_buffer_reset(&all.read, QUERY_BYTES);
    enum ls_status status =
        kv_machine_read(ls_sim_machine(sim, call->member), kv_command_find(words.args[0]),
                        words.args, words.count, &out);
    LS_ASSERT(status == LS_OK);
    return kv_buffer_span(&all.read);
}

/* One number for each record. */
static bool reply_read(enum verb verb, struct ls_span reply, uint64_t numbers[2])
{
    if (reply.bytes >= sizeof all.reply) {
        return false;
    }
    (void)memcpy(all.reply, reply.data, reply.bytes);
    all.reply[reply.bytes] = '\0';
    const char *at = all.reply;
    uint64_t count = 0;
    if (verb == VERB_MGET) {
        return reply_word(&at, '*', &count) && count == 2 && reply_word(&at, '$', &numbers[0]) &&
               reply_word(&at, '$', &numbers[1]) && *at == '\0';
    }
    char type = verb == VERB_GET ? '$' : verbs[verb].kind == LINEAR_WRITE ? '+' : ':';
    return reply_word(&at, type, &numbers[0]) && *at == '\0';
}

static void judge(void *self, struct ls_sim *sim, const struct ls_sim_call *call,
                  const struct ls_outcome *outcome)
{
    (void)self;
    enum verb verb = (enum verb)call->notes[NOTE_VERB];
    enum linear_kind kind = verbs[verb].kind;
    uint64_t numbers[2] = {0, 0};
    if (outcome->status == LS_OK) {
        struct ls_span reply =
            call->kind == LS_SIM_BARRIER ? read_here(sim, call) : outcome->replies[0];
        if (!reply_read(verb, reply, numbers)) {
            ls_sim_fail(sim, "call %llu has a reply of another form", (unsigned long long)call->id);
            return;
        }
    }
    for (uint32_t i = 0; i < verbs[verb].keys; i++) {
        size_t record = (size_t)call->notes[NOTE_RECORD] + i;
        bool refuses = kind == LINEAR_CAS || kind == LINEAR_DELETE;
        if (outcome->status != LS_OK) {
            history_fail(&all.history, record, call, outcome->status);
        } else {
            history_answer(&all.history, record, call, !refuses || numbers[i] == 1,
                           kind == LINEAR_READ ? numbers[i] : LINEAR_ABSENT);
        }
    }
}

static void begin(void *self, struct ls_sim *sim)
{
    static const uint32_t tails[] = {0, 0, 0, 200, 3000, TAIL_BYTES};
    (void)self;
    (void)memset(&all, 0, sizeof all);
    all.tail_bytes = tails[ls_sim_random(sim, 0, sizeof tails / sizeof tails[0] - 1)];
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
    kv_buffer_free(&all.entry);
    kv_buffer_free(&all.read);
}

const struct ls_sim_workload workload_kv = {.size = sizeof workload_kv,
                                            .name = "kv",
                                            .begin = begin,
                                            .machine = make,
                                            .next = next,
                                            .judge = judge,
                                            .digest = digest,
                                            .check_end = check_end,
                                            .end = end,
                                            .snapshots = true};
