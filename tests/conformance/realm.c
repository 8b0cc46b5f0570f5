/* SPDX-License-Identifier: MIT */
/* See realm.h: members with their loop and clock, time, and what tests do to them. */
#include "realm.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define DYING_US    3600000000u
#define CALL_MAX    1000u
#define CALL_BYTES  (2u << 20)
#define PATIENCE_MS 2000

static const uint8_t network_key[LS_KEY_BYTES] = {9, 8, 7, 6, 5, 4, 3, 2, 1};

uint64_t realm_random(struct realm *realm, uint64_t below)
{
    uint64_t x = realm->random += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return below == 0 ? x : x % below;
}

/* ---- env ------------------------------------------------------------------------------------- */

static uint64_t member_now(void *self)
{
    const struct realm_member *member = self;
    return member->realm->now_us + member->skew_us;
}

static void member_entropy(void *self, void *out, size_t bytes)
{
    struct realm_member *member = self;
    for (size_t i = 0; i < bytes; i++) {
        ((uint8_t *)out)[i] = (uint8_t)realm_random(member->realm, 0);
    }
}

static void member_trace(void *self, const struct ls_trace *trace)
{
    const struct realm_member *member = self;
    char line[600];
    (void)ls_trace_render(trace, line, sizeof line);
    printf("%9.3f %s %s\n", (double)member->realm->now_us / 1e6, member->name, line);
}

/* ---- loop ------------------------------------------------------------------------------------ */

static void loop_attach(void *self, const struct ls_loop_sink *sink)
{
    ((struct realm_member *)self)->loop = *sink;
}

static void loop_arm(void *self, uint64_t at_us)
{
    struct realm_member *member = self;
    member->timer_us = at_us > UINT64_MAX - DYING_US ? UINT64_MAX
                       : at_us < member->skew_us     ? 0
                                                     : at_us - member->skew_us;
}

static void loop_watch(void *self, int descriptor)
{
    ((struct realm_member *)self)->descriptor = descriptor;
}

static void loop_defer(void *self)
{
    ((struct realm_member *)self)->turn_due = true;
}

static bool loop_inside(void *self)
{
    (void)self;
    return true;
}

static void *loop_base(void *self)
{
    (void)self;
    return NULL;
}

static void loop_close(void *self)
{
    struct realm_member *member = self;
    member->timer_us = UINT64_MAX;
    member->turn_due = false;
    member->descriptor = -1;
}

/* ---- members --------------------------------------------------------------------------------- */

static enum ls_status open_node(struct realm_member *member, struct ls_error *error)
{
    const struct ls_loop loop = {.size = sizeof loop,
                                 .self = member,
                                 .attach = loop_attach,
                                 .arm = loop_arm,
                                 .watch = loop_watch,
                                 .defer = loop_defer,
                                 .wake = loop_defer,
                                 .inside = loop_inside,
                                 .base = loop_base,
                                 .close = loop_close};
    struct ls_node_options options;
    ls_node_options_init(&options);
    member->timer_us = UINT64_MAX;
    member->turn_due = member->dead = member->paused = member->staged = false;
    member->changes = member->staged_seq = member->durable_seq = 0;
    member->release_us = UINT64_MAX;
    memset(member->sync_us, 0, sizeof member->sync_us);
    member->descriptor = -1;
    options.loop = &loop;
    options.env = &member->env;
    options.identity = member->identity;
    enum ls_status status = realm_store(member, &options, error);
    if (status != LS_OK) {
        return status;
    }
    realm_transport(member, &options.transport);
    return ls_node_open(&options, &member->node, error);
}

static void on_closed(void *arg)
{
    struct realm_member *member = arg;
    member->node = NULL;
    member->group = NULL;
    if (member->realm->subject->stop != NULL) {
        member->realm->subject->stop(member->realm->subject->self, member->place);
    }
}

enum ls_status realm_try_start(struct realm *realm, uint32_t at, struct ls_error *error)
{
    struct realm_member *member = &realm->members[at];
    const struct realm_subject *subject = realm->subject;
    assert_null(member->node);
    enum ls_status status = open_node(member, error);
    if (status != LS_OK) {
        return status;
    }
    struct ls_statesync list[LS_STATESYNCS_MAX];
    size_t count = 0;
    subject->start(subject->self, member->place, realm->unit, &member->machine, list, &count);
    realm->tag = (uint32_t)count - 1;
    struct ls_group_options options = realm->options;
    options.name = "realm";
    options.member = member->name;
    options.founders = realm->founders;
    options.founders_count = realm->count;
    options.machine = realm_machine(member);
    options.statesyncs = list;
    options.statesyncs_count = count;
    status = ls_group_join(member->node, &options, &member->group, error);
    if (status != LS_OK) {
        options.machine.close(options.machine.self);
        realm_stop(realm, at);
    }
    return status;
}

void realm_start(struct realm *realm, uint32_t at)
{
    struct ls_error error = {LS_OK, ""};
    if (realm_try_start(realm, at, &error) != LS_OK) {
        fail_msg("member %u does not start: %s", at, error.text);
    }
}

static bool is_down(struct realm *realm, void *arg)
{
    const uint32_t *at = arg;
    return realm->members[*at].node == NULL;
}

void realm_stop(struct realm *realm, uint32_t at)
{
    struct realm_member *member = &realm->members[at];
    if (member->node != NULL) {
        ls_node_close(member->node, on_closed, member);
        assert_true(realm_until(realm, is_down, &at, 60 * SECOND));
    }
}

void realm_crash(struct realm *realm, uint32_t at)
{
    struct realm_member *member = &realm->members[at];
    if (member->node == NULL) {
        return;
    }
    assert_false(realm->on_disk);
    ls_storage_medium_power_cut(member->disk);
    ls_vault_medium_power_cut(member->vault);
    realm_net_leave(member, LS_BOND_DOWN);
    uint64_t skew_us = member->skew_us;
    member->dies_at = 0;
    member->dead = false;
    ls_node_close(member->node, on_closed, member);
    member->skew_us += DYING_US; /* no time is left to close in */
    member->loop.turn(member->loop.self);
    assert_null(member->node);
    member->skew_us = skew_us;
}

void realm_dies_at(struct realm *realm, uint32_t at, uint64_t change)
{
    struct realm_member *member = &realm->members[at];
    assert_false(realm->on_disk);
    member->dies_at = member->changes + change;
}

void realm_hold(struct realm *realm, uint32_t at, bool hold)
{
    struct realm_member *member = &realm->members[at];
    assert_false(realm->on_disk);
    member->held = hold;
}

void realm_pause(struct realm *realm, uint32_t at, bool paused)
{
    realm->members[at].paused = paused;
}

void realm_cut(struct realm *realm, uint32_t a, uint32_t b, bool cut)
{
    realm->cut[a][b] = realm->cut[b][a] = cut;
    realm_net_match(realm);
}

void realm_alone(struct realm *realm, uint32_t at, bool alone)
{
    for (uint32_t i = 0; i < realm->count; i++) {
        if (i != at) {
            realm_cut(realm, at, i, alone);
        }
    }
}

struct realm *realm_open(const struct realm_subject *subject, uint32_t count, uint32_t unit,
                         bool on_disk)
{
    static const char *const names[REALM_MAX] = {"a", "b", "c", "d", "e"};
    struct realm *realm = calloc(1, sizeof *realm);
    assert_non_null(realm);
    *realm = (struct realm){.subject = subject,
                            .now_us = 1000 * SECOND,
                            .random = 7,
                            .count = count,
                            .unit = unit,
                            .on_disk = on_disk,
                            .latency_us = 300,
                            .disk_us = 500};
    ls_group_options_init(&realm->options);
    realm->options.prune_entries = 0; /* by realm_prune */
    realm->options.lag_entries = 1;
    realm->options.cache_bytes = 1;
    realm->options.snapshot_entries = 10;
    realm->wire.env = ls_env_default();
    realm->edit = malloc(LS_MESSAGE_BYTES_MAX);
    assert_non_null(realm->edit);
    assert_ok(ls_wire_decoder_open(ls_env_default(), &realm->decoder));
    for (uint32_t i = 0; i < count; i++) {
        struct realm_member *member = &realm->members[i];
        *member = (struct realm_member){.realm = realm, .at = i, .descriptor = -1};
        member->env = *ls_env_default();
        member->env.self = member;
        member->env.now_us = member_now;
        member->env.entropy = member_entropy;
        member->env.trace = getenv("LS_TEST_TRACE") != NULL ? member_trace : NULL;
        member->timer_us = UINT64_MAX;
        (void)snprintf(member->name, sizeof member->name, "%s", names[i]);
        realm->founders[i] = (struct ls_founder){.name = member->name};
        assert_ok(ls_identity_founder(network_key, member->name, &member->identity, NULL));
        member->id = ls_identity_id(member->identity);
        assert_ok(ls_storage_medium_open(NULL, &member->disk));
        ls_storage_medium_hold(member->disk, true); /* released by step_media */
        assert_ok(ls_vault_medium_open(NULL, &member->vault));
        if (on_disk) {
            member->store_directory = test_memory_directory();
            member->vault_directory = test_memory_directory();
        }
        member->place = subject->place_open(subject->self);
    }
    return realm;
}

void realm_close(struct realm *realm)
{
    for (uint32_t i = 0; i < realm->count; i++) {
        struct realm_member *member = &realm->members[i];
        member->paused = false;
        member->held = false;
        realm_stop(realm, i);
        ls_identity_close(member->identity);
        ls_storage_medium_close(member->disk);
        ls_vault_medium_close(member->vault);
        realm->subject->place_close(realm->subject->self, member->place);
    }
    assert_int_equal(realm->outstanding, 0); /* each call ended */
    while (realm->messages != NULL) {
        struct realm_message *message = realm->messages;
        realm->messages = message->next;
        free(message);
    }
    ls_wire_decoder_close(realm->decoder);
    ls_wire_buffer_free(&realm->wire);
    free(realm->edit);
    free(realm->truth);
    free(realm);
}

/* ---- time ------------------------------------------------------------------------------------ */

/* A store on disk has something to tell. Waits for it, in real time, while one is writing. */
static bool step_disks(struct realm *realm)
{
    struct pollfd watched_fds[REALM_MAX];
    struct realm_member *of[REALM_MAX];
    nfds_t count = 0;
    bool writing = false;
    for (uint32_t i = 0; i < realm->count; i++) {
        struct realm_member *member = &realm->members[i];
        if (member->descriptor >= 0 && !member->paused) {
            of[count] = member;
            watched_fds[count++] = (struct pollfd){.fd = member->descriptor, .events = POLLIN};
            writing = writing || member->durable_seq < member->staged_seq;
        }
    }
    if (count == 0 || poll(watched_fds, count, writing ? PATIENCE_MS : 0) <= 0) {
        return false;
    }
    for (nfds_t i = 0; i < count; i++) {
        if ((watched_fds[i].revents & POLLIN) != 0) {
            of[i]->loop.readable(of[i]->loop.self);
        }
    }
    return true;
}

/* The disks in memory: each commit is durable after its time. */
static bool step_media(struct realm *realm)
{
    bool any = false;
    for (uint32_t i = 0; i < realm->count && !realm->on_disk; i++) {
        struct realm_member *member = &realm->members[i];
        if (member->node == NULL || member->held || ls_storage_medium_held(member->disk) == 0) {
            member->release_us = UINT64_MAX;
        } else if (member->release_us == UINT64_MAX) {
            member->release_us = realm->now_us + realm->disk_us;
        } else if (member->release_us <= realm->now_us && !member->paused) {
            ls_storage_medium_release(member->disk, 1);
            member->release_us = UINT64_MAX;
            member->loop.readable(member->loop.self);
            any = true;
        }
    }
    return any;
}

static bool step_turns(struct realm *realm)
{
    bool any = false;
    for (uint32_t i = 0; i < realm->count; i++) {
        struct realm_member *member = &realm->members[i];
        if (member->turn_due && !member->paused) {
            member->turn_due = false;
            member->loop.turn(member->loop.self);
            any = true;
        }
    }
    return any;
}

static uint64_t next_due(const struct realm *realm)
{
    uint64_t due = realm_net_due(realm);
    for (uint32_t i = 0; i < realm->count; i++) {
        const struct realm_member *member = &realm->members[i];
        if (!member->paused && member->timer_us < due) {
            due = member->timer_us;
        }
        if (!member->paused && member->release_us < due) {
            due = member->release_us;
        }
        for (uint32_t k = 0; k < realm->count; k++) {
            uint64_t again = member->bonds[k].again_us;
            due = again > realm->now_us && again < due ? again : due;
        }
    }
    return due;
}

bool realm_step(struct realm *realm, uint64_t until_us)
{
    realm->steps++;
    for (uint32_t i = 0; i < realm->count; i++) {
        if (realm->members[i].dead) {
            realm_crash(realm, i);
        }
    }
    realm_net_match(realm);
    if (step_turns(realm)) {
        return true;
    }
    if (step_media(realm) || (realm->on_disk && step_disks(realm))) {
        return true;
    }
    uint64_t due = next_due(realm);
    if (due > until_us) {
        realm->now_us = until_us > realm->now_us ? until_us : realm->now_us;
        return false;
    }
    realm->now_us = due > realm->now_us ? due : realm->now_us;
    for (uint32_t i = 0; i < realm->count; i++) {
        struct realm_member *member = &realm->members[i];
        if (!member->paused && member->timer_us <= realm->now_us) {
            member->timer_us = UINT64_MAX;
            member->loop.timer(member->loop.self);
        }
    }
    while (realm_net_deliver(realm)) {
    }
    return true;
}

void realm_run(struct realm *realm, uint64_t for_us)
{
    uint64_t until_us = realm->now_us + for_us;
    while (realm_step(realm, until_us)) {
    }
}

bool realm_until(struct realm *realm, bool (*holds)(struct realm *realm, void *arg), void *arg,
                 uint64_t within_us)
{
    uint64_t until_us = realm->now_us + within_us;
    while (!holds(realm, arg)) {
        if (!realm_step(realm, until_us)) {
            return holds(realm, arg);
        }
    }
    return true;
}

/* ---- what tests do --------------------------------------------------------------------------- */

struct ls_group_status realm_status(const struct realm *realm, uint32_t at)
{
    struct ls_group_status status;
    assert_non_null(realm->members[at].group);
    ls_group_status(realm->members[at].group, &status);
    return status;
}

uint32_t realm_leader(const struct realm *realm)
{
    uint32_t leader = realm->count;
    ls_term term = 0;
    for (uint32_t i = 0; i < realm->count; i++) {
        const struct realm_member *member = &realm->members[i];
        if (member->group == NULL || member->paused) {
            continue;
        }
        struct ls_group_status status = realm_status(realm, i);
        if (status.serving && status.core.term > term) { /* not one that was replaced */
            leader = i;
            term = status.core.term;
        }
    }
    return leader;
}

static bool has_leader(struct realm *realm, void *arg)
{
    (void)arg;
    return realm_leader(realm) < realm->count;
}

uint32_t realm_wait_leader(struct realm *realm)
{
    assert_true(realm_until(realm, has_leader, NULL, 60 * SECOND));
    return realm_leader(realm);
}

static void on_done(void *arg, const struct ls_outcome *outcome)
{
    struct realm *realm = arg;
    (void)outcome;
    realm->outstanding--;
}

void realm_feed(struct realm *realm, uint32_t at, uint64_t count)
{
    static uint8_t bytes[CALL_BYTES];
    static struct ls_span commands[CALL_MAX];
    while (count > 0) {
        size_t used = 0, calls = 0;
        while (calls < CALL_MAX && calls < count && used + REALM_COMMAND_BYTES_MAX <= CALL_BYTES) {
            size_t size = realm->subject->command(realm->subject->self, realm->unit,
                                                  realm->written++, bytes + used);
            commands[calls++] = (struct ls_span){bytes + used, size};
            used += size;
        }
        count -= calls;
        if (realm->members[at].group != NULL &&
            ls_group_execute_many(realm->members[at].group, commands, calls, NULL, on_done,
                                  realm) == LS_OK) {
            realm->outstanding++;
        }
    }
}

static bool all_answered(struct realm *realm, void *arg)
{
    (void)arg;
    return realm->outstanding == 0;
}

void realm_write(struct realm *realm, uint64_t count)
{
    while (count > 0) {
        uint64_t part = count < CALL_MAX ? count : CALL_MAX;
        uint32_t leader = realm_wait_leader(realm);
        realm_feed(realm, leader, part);
        assert_true(realm_until(realm, all_answered, NULL, 60 * SECOND));
        count -= part;
    }
}

ls_index realm_prune(struct realm *realm)
{
    ls_index least = UINT64_MAX;
    for (uint32_t i = 0; i < realm->count; i++) {
        if (realm->members[i].group != NULL) {
            ls_index pruned = 0;
            enum ls_status status = ls_group_prune(realm->members[i].group, UINT64_MAX, &pruned);
            assert_true(status == LS_OK || status == LS_ERR_BUSY);
            least = pruned + 1 < least ? pruned + 1 : least;
        }
    }
    return least;
}

struct caught {
    uint32_t at;
    bool all;
};

static bool same_as_leader(struct realm *realm, void *arg)
{
    const struct caught *caught = arg;
    uint32_t leader = realm_leader(realm);
    if (leader == realm->count) {
        return false;
    }
    ls_index commit = 0;
    for (uint32_t i = 0; i < realm->count; i++) {
        if (realm->members[i].group != NULL) {
            struct ls_group_status status = realm_status(realm, i);
            commit = status.core.commit > commit ? status.core.commit : commit;
        }
    }
    for (uint32_t i = 0; i < realm->count; i++) {
        if (realm->members[i].group == NULL || (!caught->all && i != caught->at)) {
            continue;
        }
        struct ls_group_status status = realm_status(realm, i);
        assert_int_equal(status.halted, LS_OK);
        if (status.core.applied < commit || !status.online) {
            return false;
        }
    }
    return true;
}

bool realm_caught_up(struct realm *realm, uint32_t at, uint64_t within_us)
{
    struct caught caught = {.at = at};
    return realm_until(realm, same_as_leader, &caught, within_us);
}

void realm_equal(struct realm *realm, uint64_t within_us)
{
    struct caught caught = {.all = true};
    assert_true(realm_until(realm, same_as_leader, &caught, within_us));
    const struct realm_subject *subject = realm->subject;
    uint64_t digest = 0;
    bool first = true;
    for (uint32_t i = 0; i < realm->count; i++) {
        if (realm->members[i].group != NULL) {
            uint64_t own = subject->digest(subject->self, realm->members[i].place);
            assert_true(first || own == digest);
            digest = own;
            first = false;
        }
    }
}
