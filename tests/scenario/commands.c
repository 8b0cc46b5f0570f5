/* SPDX-License-Identifier: MIT */
/* The commands of scenario scripts, each a few words long. README.md lists them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "script.h"

static void add_members(struct script *script, enum ls_role_in_configuration seat)
{
    for (size_t i = 1; i < script->count; i++) {
        if (realm_find(script->realm, script->words[i]) != NULL ||
            realm_add(script->realm, script->words[i], seat) == NULL) {
            script_fail(script, "\"%s\" is there already, or one too many", script->words[i]);
        }
    }
}

static void do_nodes(struct script *script)
{
    add_members(script, LS_MEMBER_VOTER);
}

static void do_observers(struct script *script)
{
    add_members(script, LS_MEMBER_OBSERVER);
}

static void do_learners(struct script *script)
{
    add_members(script, LS_MEMBER_LEARNER);
}

static void do_seed(struct script *script)
{
    script->realm->seed = script_number(script, 1, "a seed");
    script->realm->random = script->realm->seed;
}

static void do_election(struct script *script)
{
    script->realm->election_ms = (uint32_t)script_number(script, 1, "milliseconds");
}

static void do_heartbeat(struct script *script)
{
    script->realm->heartbeat_ms = (uint32_t)script_number(script, 1, "milliseconds");
}

static void do_cache(struct script *script)
{
    script->realm->cache_bytes = script_number(script, 1, "bytes");
}

static void do_window(struct script *script)
{
    script->realm->window_bytes = script_number(script, 1, "bytes");
}

static void do_reluctant(struct script *script)
{
    script_node(script, 1)->reluctance = (uint32_t)script_number(script, 2, "a factor");
}

static void do_durable(struct script *script)
{
    script->realm->durable_machine = true;
}

static void do_autosync(struct script *script)
{
    script->realm->auto_sync = !script_is(script, 1, "off");
}

static void do_start(struct script *script)
{
    for (unsigned i = 0; script->count == 1 && i < script->realm->nodes_count; i++) {
        if (!script->realm->nodes[i].alive) {
            realm_start(&script->realm->nodes[i]);
        }
    }
    for (size_t i = 1; i < script->count; i++) {
        struct node *node = script_node(script, i);
        if (node->alive) {
            script_fail(script, "%s: %s runs already", script->words[0], node->name);
        }
        realm_start(node);
    }
}

static void do_crash(struct script *script)
{
    size_t kept = 0;
    size_t names = script->count;
    for (size_t i = 1; i < script->count; i++) {
        if (script_is(script, i, "keeping")) {
            kept = script_is(script, i + 1, "all") ? SIZE_MAX
                                                   : script_number(script, i + 1, "batches or all");
            names = i;
        }
    }
    for (size_t i = 1; i < names; i++) {
        realm_crash(script_alive(script, i), kept);
    }
}

static struct node *stopped(struct script *script, size_t at)
{
    struct node *node = script_node(script, at);
    if (node->alive) {
        script_fail(script, "%s: crash %s first", script->words[0], node->name);
    }
    return node;
}

static void do_wipe(struct script *script)
{
    realm_wipe(stopped(script, 1));
}

static void do_tear(struct script *script)
{
    struct node *node = stopped(script, 1);
    uint64_t count = script_number(script, 2, "entries");
    if (count > node->disk.log.count) {
        script_fail(script, "tear: %s has %zu entries on disk", node->name, node->disk.log.count);
    }
    realm_tear(node, (size_t)count);
}

struct awaited {
    struct script *script;
    size_t at;
    char why[SCRIPT_WHY_BYTES];
};

static bool awaited_holds(void *arg)
{
    struct awaited *awaited = arg;
    return script_holds(awaited->script, awaited->at, awaited->why);
}

/* run until <what expect understands> | run 500 ms */
static void do_run(struct script *script)
{
    struct realm *realm = script->realm;
    if (script_is(script, 1, "until")) {
        struct awaited awaited = {script, 2, ""};
        if (!realm_run(realm, realm->now_us + SCRIPT_LIMIT_MS * 1000u, awaited_holds, &awaited)) {
            script_fail(script, "not within %u ms: %s", SCRIPT_LIMIT_MS, awaited.why);
        }
        return;
    }
    uint64_t ms = script_number(script, 1, "a time, or until");
    if (!script_is(script, 2, "ms")) {
        script_fail(script, "run: expected ms after the number");
    }
    (void)realm_run(realm, realm->now_us + ms * 1000u, NULL, NULL);
}

static void do_deliver(struct script *script)
{
    realm_deliver(script->realm);
}

static bool leads(void *arg)
{
    const struct node *node = arg;
    return node->role == LS_ROLE_LEADER;
}

/* Nobody else's ticks come until that member leads. */
static void do_elect(struct script *script)
{
    struct realm *realm = script->realm;
    struct node *chosen = script_alive(script, 1);
    bool asleep[REALM_NODES_MAX];
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        asleep[i] = realm->nodes[i].asleep;
        realm->nodes[i].asleep = &realm->nodes[i] != chosen;
    }
    if (!realm_run(realm, realm->now_us + SCRIPT_LIMIT_MS * 1000u, leads, chosen)) {
        script_fail(script, "elect: %s cannot win", chosen->name);
    }
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        realm->nodes[i].asleep = asleep[i];
    }
}

/* elapse b 300 ms: the clock of b alone runs ahead, tick by tick. */
static void do_elapse(struct script *script)
{
    struct node *node = script_alive(script, 1);
    uint64_t left = script_number(script, 2, "milliseconds") * 1000u;
    while (left > 0) {
        uint64_t local = script->realm->now_us + node->clock_skew_us;
        uint64_t due = node->deadline_us > local ? node->deadline_us - local : 0;
        uint64_t step = due < left ? due : left;
        node->clock_skew_us += step;
        left -= step;
        if (step == due) {
            realm_step(node, &(struct ls_event){.kind = LS_EVENT_TICK});
            left -= left > 0 ? 1 : 0; /* a deadline of now cannot hold us */
        }
    }
}

static void set_asleep(struct script *script, bool asleep)
{
    for (size_t i = 1; i < script->count; i++) {
        script_node(script, i)->asleep = asleep;
    }
}

static void do_asleep(struct script *script)
{
    set_asleep(script, true);
}

static void do_awake(struct script *script)
{
    set_asleep(script, false);
}

/* partition a | b c: messages between the sides are lost; who is not named is alone. */
static void do_partition(struct script *script)
{
    struct realm *realm = script->realm;
    int side[REALM_NODES_MAX];
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        side[i] = -1 - (int)i;
    }
    int current = 0;
    for (size_t i = 1; i < script->count; i++) {
        if (script_is(script, i, "|")) {
            current++;
        } else {
            side[script_node(script, i)->number] = current;
        }
    }
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        for (unsigned j = 0; j < realm->nodes_count; j++) {
            realm->cut[i][j] = side[i] != side[j];
        }
    }
}

static void do_cut(struct script *script)
{
    for (size_t i = 1; i < script->count; i++) {
        struct rule rule = {0};
        script_arrow(script, i, &rule);
        for (int from = 0; from < (int)script->realm->nodes_count; from++) {
            for (int to = 0; to < (int)script->realm->nodes_count; to++) {
                if ((rule.from < 0 || rule.from == from) && (rule.to < 0 || rule.to == to)) {
                    script->realm->cut[from][to] = true;
                }
            }
        }
    }
}

static void do_heal(struct script *script)
{
    (void)memset(script->realm->cut, 0, sizeof script->realm->cut);
    script->realm->rules_count = 0;
    script->realm->parked.count = 0;
}

static void add_rule(struct script *script, enum rule_action action)
{
    struct rule rule = {.action = action};
    script_arrow(script, 1, &rule);
    rule.kind = script_kind(script, 2);
    network_rule(script->realm, &rule);
}

static void do_drop(struct script *script)
{
    add_rule(script, RULE_DROP);
}

static void do_park(struct script *script)
{
    add_rule(script, RULE_PARK);
}

static void do_copy(struct script *script)
{
    add_rule(script, RULE_COPY);
}

/* pass a->b append: the rules for it end. */
static void do_pass(struct script *script)
{
    struct rule rule = {0};
    script_arrow(script, 1, &rule);
    rule.kind = script_kind(script, 2);
    struct realm *realm = script->realm;
    size_t kept = 0;
    for (size_t i = 0; i < realm->rules_count; i++) {
        const struct rule *old = &realm->rules[i];
        if (old->from != rule.from || old->to != rule.to || old->kind != rule.kind) {
            realm->rules[kept++] = *old;
        }
    }
    if (kept == realm->rules_count) {
        script_fail(script, "pass: no rule reads %s", script->words[1]);
    }
    realm->rules_count = kept;
}

static bool *held_thing(struct script *script)
{
    struct node *node = script_node(script, 2);
    if (script_is(script, 1, "machine")) {
        return &node->apply_held;
    }
    return &node->disk_held;
}

static void do_hold(struct script *script)
{
    if (!script_is(script, 1, "disk") && !script_is(script, 1, "machine")) {
        script_fail(script, "hold: expected disk or machine");
    }
    *held_thing(script) = true;
}

/* release disk a | release machine a | release a->b [kind] */
static void do_release(struct script *script)
{
    if (script_is(script, 1, "disk") || script_is(script, 1, "machine")) {
        *held_thing(script) = false;
        struct node *node = script_node(script, 2);
        if (node->alive) {
            realm_apply(node);
        }
        return;
    }
    struct rule rule = {0};
    script_arrow(script, 1, &rule);
    rule.kind = script_kind(script, 2);
    if (network_release(script->realm, &rule) == 0) {
        script_fail(script, "release: no such message is parked");
    }
}

/* persist b 1: the oldest batch of a held disk becomes durable, and nothing else */
static void do_persist(struct script *script)
{
    struct node *node = script_alive(script, 1);
    uint64_t count = script_number(script, 2, "batches");
    if (count == 0 || count > node->batches_count) {
        script_fail(script, "persist: %s has %zu batches to persist", node->name,
                    node->batches_count);
    }
    realm_make_durable(node, (size_t)count);
}

static void do_fail(struct script *script)
{
    if (!script_is(script, 1, "disk")) {
        script_fail(script, "fail: expected disk");
    }
    realm_disk_fails(script_alive(script, 2));
}

static void set_link(struct script *script, bool up)
{
    realm_link(script_alive(script, 1), script_alive(script, 2), up);
}

static void do_link(struct script *script)
{
    set_link(script, true);
}

static void do_unlink(struct script *script)
{
    set_link(script, false);
}

static void do_propose(struct script *script)
{
    struct node *node = script_alive(script, 1);
    (void)script_word(script, 2, "a command");
    for (size_t i = 2; i < script->count; i++) {
        struct ls_span payload = {script->words[i], strlen(script->words[i])};
        enum ls_status status = realm_propose(node, &payload, 1);
        if (status != LS_OK) {
            script_fail(script, "%s refuses: %s", node->name, ls_status_text(status));
        }
    }
}

/* fill a 100: that many numbered commands, in one proposal */
static void do_fill(struct script *script)
{
    struct node *node = script_alive(script, 1);
    uint64_t count = script_number(script, 2, "a number of commands");
    if (count == 0 || count > LS_PROPOSE_ENTRIES_MAX) {
        script_fail(script, "fill: 1 to %u commands", LS_PROPOSE_ENTRIES_MAX);
    }
    struct ls_span *payloads = arena_allocate(script->realm, count * sizeof *payloads);
    for (uint64_t i = 0; i < count; i++) {
        char *text = arena_allocate(script->realm, 24);
        int length = snprintf(text, 24, "f%" PRIu64, i + 1);
        payloads[i] = (struct ls_span){text, (size_t)length};
    }
    enum ls_status status = realm_propose(node, payloads, (uint32_t)count);
    if (status != LS_OK) {
        script_fail(script, "%s refuses: %s", node->name, ls_status_text(status));
    }
}

static void do_read(struct script *script)
{
    struct node *node = script_alive(script, 1);
    (void)realm_read(node);
    script->last_read[node->number] = script->realm->reads_count;
}

static void do_transfer(struct script *script)
{
    struct node *node = script_alive(script, 1);
    enum ls_status status = realm_transfer(node, script->count > 2 ? script_node(script, 2) : NULL);
    if (status != LS_OK) {
        script_fail(script, "%s refuses: %s", node->name, ls_status_text(status));
    }
}

static void do_prune(struct script *script)
{
    realm_prune(script_alive(script, 1), script_number(script, 2, "an index"));
}

static const struct node *source(struct script *script)
{
    if (!script_is(script, 2, "from")) {
        script_fail(script, "%s: expected from", script->words[0]);
    }
    return script_alive(script, 3);
}

static void do_sync(struct script *script)
{
    realm_sync(script_alive(script, 1), source(script));
}

static void do_restore(struct script *script)
{
    realm_restore(script_alive(script, 1), source(script));
}

static void do_count(struct script *script)
{
    (void)memcpy(script->sent_base, script->realm->sent, sizeof script->sent_base);
}

static void do_expect(struct script *script)
{
    char why[SCRIPT_WHY_BYTES] = "";
    if (!script_holds(script, 1, why)) {
        script_fail(script, "%s", why);
    }
}

static const struct {
    const char *name;
    void (*run)(struct script *script);
} commands[] = {
    {"nodes", do_nodes},     {"observers", do_observers}, {"learners", do_learners},
    {"seed", do_seed},       {"election", do_election},   {"heartbeat", do_heartbeat},
    {"cache", do_cache},     {"window", do_window},       {"reluctant", do_reluctant},
    {"durable", do_durable}, {"autosync", do_autosync},   {"configuration", script_configuration},
    {"disk", script_disk},   {"founded", script_founded}, {"persist", do_persist},
    {"start", do_start},     {"restart", do_start},       {"crash", do_crash},
    {"wipe", do_wipe},       {"tear", do_tear},           {"run", do_run},
    {"deliver", do_deliver}, {"elect", do_elect},         {"elapse", do_elapse},
    {"asleep", do_asleep},   {"awake", do_awake},         {"partition", do_partition},
    {"cut", do_cut},         {"heal", do_heal},           {"drop", do_drop},
    {"park", do_park},       {"copy", do_copy},           {"pass", do_pass},
    {"hold", do_hold},       {"release", do_release},     {"fail", do_fail},
    {"link", do_link},       {"unlink", do_unlink},       {"propose", do_propose},
    {"fill", do_fill},       {"read", do_read},           {"transfer", do_transfer},
    {"prune", do_prune},     {"sync", do_sync},           {"restore", do_restore},
    {"count", do_count},     {"expect", do_expect},
};

void script_command(struct script *script)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(script->words[0], commands[i].name) == 0) {
            commands[i].run(script);
            return;
        }
    }
    script_fail(script, "unknown command \"%s\"", script->words[0]);
}
