/* SPDX-License-Identifier: MIT */
/*
 * What the tests of this room share: an env with a tiny codec and an allocator that can refuse, and
 * a group of cores with disks that can hold back and a network that can cut, so that a test steers
 * every message and every sync itself.
 */
#ifndef LOCKSTEP_TEST_CORES_H
#define LOCKSTEP_TEST_CORES_H

#include <stdio.h>
#include <stdlib.h>

#include <lockstep/core.h>

#include "test.h"

#define CORES_MAX 5
#define LOG_MAX   9000
#define NET_MAX   4096
#define ELECTION  1000000u /* T, us */
#define HEARTBEAT 100000u

/* ---- env ---- */

static uint64_t alloc_left = UINT64_MAX; /* allocations until one is refused */
static uint64_t alloc_refused;
static char last_trace[256];

static inline void *test_allocate(void *self, void *block, size_t bytes)
{
    (void)self;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    if (alloc_left != UINT64_MAX) {
        if (alloc_left == 0) {
            alloc_refused++;
            return NULL;
        }
        alloc_left--;
    }
    return realloc(block, bytes);
}

/* kind, 8 bytes of number, and the bytes themselves: simple and exact */
static inline enum ls_status test_encode(void *self, const struct ls_value *values, size_t count,
                                         void *out, size_t capacity, size_t *written)
{
    (void)self;
    uint8_t *to = out;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t number = values[i].kind == LS_VALUE_UINT    ? values[i].as.number
                          : values[i].kind == LS_VALUE_ARRAY ? values[i].as.count
                                                             : values[i].as.bytes.bytes;
        size_t bytes = values[i].kind == LS_VALUE_BYTES ? values[i].as.bytes.bytes : 0;
        if (at + 5 + bytes > capacity) {
            return LS_ERR_LIMIT;
        }
        to[at++] = (uint8_t)values[i].kind;
        for (int b = 0; b < 4; b++) {
            to[at++] = (uint8_t)(number >> (8 * b));
        }
        if (bytes > 0) {
            memcpy(to + at, values[i].as.bytes.data, bytes);
            at += bytes;
        }
    }
    *written = at;
    return LS_OK;
}

static inline enum ls_status test_decode(void *self, struct ls_span bytes, struct ls_value *values,
                                         size_t values_max, size_t *count)
{
    (void)self;
    const uint8_t *from = bytes.data;
    size_t at = 0;
    *count = 0;
    while (at < bytes.bytes) {
        if (at + 5 > bytes.bytes || *count == values_max) {
            return LS_ERR_PROTOCOL;
        }
        struct ls_value *value = &values[(*count)++];
        value->kind = (enum ls_value_kind)from[at];
        uint64_t number = 0;
        for (int b = 0; b < 4; b++) {
            number |= (uint64_t)from[at + 1 + (size_t)b] << (8 * b);
        }
        at += 5;
        if (value->kind == LS_VALUE_UINT) {
            value->as.number = number;
        } else if (value->kind == LS_VALUE_ARRAY) {
            value->as.count = (uint32_t)number;
        } else {
            if (number > bytes.bytes - at) {
                return LS_ERR_PROTOCOL;
            }
            value->as.bytes = (struct ls_span){from + at, number};
            at += number;
        }
    }
    return LS_OK;
}

static inline void test_trace(void *self, const struct ls_trace *trace)
{
    (void)self;
    (void)ls_trace_render(trace, last_trace, sizeof last_trace);
    if (getenv("LS_TEST_TRACE") != NULL) {
        (void)fprintf(stderr, "  %s\n", last_trace);
    }
}

static const struct ls_env test_env = {
    .size = sizeof(struct ls_env),
    .allocate = test_allocate,
    .codec = {.size = sizeof(struct ls_codec), .encode = test_encode, .decode = test_decode},
    .trace = test_trace};

/* ---- names ---- */

static inline struct ls_peer_id test_id(unsigned at)
{
    struct ls_peer_id id = {{0}};
    id.bytes[0] = (uint8_t)(0xa0 + at);
    return id;
}

static inline struct ls_incarnation test_incarnation(unsigned at, unsigned life)
{
    struct ls_incarnation incarnation = {{0}};
    incarnation.bytes[0] = (uint8_t)(0xa0 + at);
    incarnation.bytes[1] = (uint8_t)(1 + life);
    return incarnation;
}

/* Members 0 .. voters - 1 vote, the others observe. */
static inline struct ls_configuration test_configuration(unsigned voters, unsigned count,
                                                         bool incarnations)
{
    struct ls_configuration configuration = {.count = count};
    for (unsigned i = 0; i < count; i++) {
        struct ls_member *member = &configuration.members[i];
        member->id = test_id(i);
        member->role = i < voters ? LS_MEMBER_VOTER : LS_MEMBER_OBSERVER;
        if (incarnations && i < voters) {
            member->incarnation = test_incarnation(i, 0);
        }
        member->name[0] = (char)('a' + i);
    }
    return configuration;
}

/* ---- a core with a disk ---- */

struct stored {
    ls_term term;
    enum ls_entry_kind kind;
    uint8_t *data;
    size_t bytes;
};

struct image {
    struct ls_hard_state hard;
    struct ls_cursor anchor;
    struct ls_configuration_at anchor_configuration; /* index 0, count 0: none */
    struct stored log[LOG_MAX];                      /* log[i]: index anchor + 1 + i */
    size_t count;
};

struct packet {
    struct ls_outgoing outgoing;
    struct ls_entry *entries; /* owned copies */
    unsigned from, to;
};

struct batch {
    uint64_t seq;
    bool hard_changed, reset, truncate;
    struct ls_hard_state hard;
    struct ls_cursor anchor;
    struct ls_configuration_at anchor_configuration;
    ls_index truncate_from, first;
    struct stored *entries;
    size_t count;
};

struct node {
    struct ls_core *core;
    struct image staged, disk;
    struct batch *batches;
    size_t batches_count;
    uint64_t durable_seq;
    bool hold; /* the disk holds syncs back until node_sync */
    bool up;
    unsigned life;
    struct ls_ready ready;
    struct ls_read_result results[64];
    size_t results_count;
    struct ls_status_copy {
        enum ls_status propose, transfer;
    } outcome;
    bool gap;
    ls_index gap_target;
    ls_index commit_max;
};

struct group {
    unsigned count, voters;
    bool founding;
    struct node *nodes;
    uint64_t now;
    struct packet *net;
    size_t net_count;
    bool cut[CORES_MAX][CORES_MAX]; /* [from][to] */
    uint64_t dropped, refusals;
    uint64_t window_bytes, cache_bytes;
    uint32_t reluctance[CORES_MAX];
};

static inline void stored_free(struct stored *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(entries[i].data);
    }
}

static inline struct stored stored_copy(const struct ls_entry *entry)
{
    struct stored stored = {entry->term, entry->kind, NULL, entry->data.bytes};
    if (entry->data.bytes > 0) {
        stored.data = malloc(entry->data.bytes);
        assert_non_null(stored.data);
        memcpy(stored.data, entry->data.data, entry->data.bytes);
    }
    return stored;
}

static inline void image_apply(struct image *image, const struct batch *batch)
{
    if (batch->hard_changed) {
        image->hard = batch->hard;
    }
    if (batch->reset) {
        stored_free(image->log, image->count);
        image->count = 0;
        image->anchor = batch->anchor;
        image->anchor_configuration = batch->anchor_configuration;
    }
    if (batch->truncate) {
        size_t keep = (size_t)(batch->truncate_from - image->anchor.index - 1);
        assert_true(keep <= image->count);
        stored_free(image->log + keep, image->count - keep);
        image->count = keep;
    }
    if (batch->count > 0) {
        assert_int_equal(batch->first, image->anchor.index + image->count + 1);
        assert_true(image->count + batch->count <= LOG_MAX);
        for (size_t i = 0; i < batch->count; i++) {
            struct ls_entry entry = {batch->entries[i].term,
                                     batch->entries[i].kind,
                                     {batch->entries[i].data, batch->entries[i].bytes}};
            image->log[image->count++] = stored_copy(&entry);
        }
    }
}

static inline struct packet packet_copy(const struct group *group, unsigned from,
                                        const struct ls_outgoing *outgoing)
{
    struct packet packet = {.outgoing = *outgoing, .from = from, .to = CORES_MAX};
    for (unsigned i = 0; i < group->count; i++) {
        struct ls_peer_id id = test_id(i);
        if (ls_peer_id_equal(&id, &outgoing->message.to)) {
            packet.to = i;
        }
    }
    struct ls_append *append = &packet.outgoing.message.as.append;
    if (outgoing->message.kind == LS_MESSAGE_APPEND && append->count > 0) {
        const struct image *image = &group->nodes[from].staged;
        packet.entries = calloc(append->count, sizeof *packet.entries);
        assert_non_null(packet.entries);
        for (uint32_t i = 0; i < append->count; i++) {
            size_t at = (size_t)(append->prev.index + i - image->anchor.index);
            assert_true(at < image->count);
            struct ls_entry entry = {image->log[at].term,
                                     image->log[at].kind,
                                     {image->log[at].data, image->log[at].bytes}};
            struct stored copy = stored_copy(&entry);
            packet.entries[i] = (struct ls_entry){copy.term, copy.kind, {copy.data, copy.bytes}};
        }
        append->entries = packet.entries;
    }
    return packet;
}

static inline void packet_free(struct packet *packet)
{
    if (packet->entries != NULL) {
        for (uint32_t i = 0; i < packet->outgoing.message.as.append.count; i++) {
            union {
                const void *in;
                void *out;
            } data = {packet->entries[i].data.data};
            free(data.out);
        }
        free(packet->entries);
    }
}

/* One step of one core; what it asks for goes to its disk and to the network. */
static inline void node_step(struct group *group, unsigned at, struct ls_event event)
{
    struct node *node = &group->nodes[at];
    const struct ls_ready *ready = NULL;
    event.now_us = group->now;
    ls_index commit = node->ready.commit;
    assert_ok(ls_core_step(node->core, &event, &ready));
    ls_core_check(node->core);
    node->ready = *ready;
    assert_true(ready->commit >= commit); /* C3 */
    node->outcome.propose = ready->propose_status;
    node->outcome.transfer = ready->transfer_status;
    for (size_t i = 0; i < ready->reads_count; i++) {
        assert_true(node->results_count < 64);
        node->results[node->results_count++] = ready->reads[i];
    }
    if (ready->gap) {
        node->gap = true;
        node->gap_target = ready->gap_target;
    }
    if (ready->persist_seq != 0) {
        node->batches = realloc(node->batches, (node->batches_count + 1) * sizeof *node->batches);
        struct batch *batch = &node->batches[node->batches_count++];
        *batch = (struct batch){.seq = ready->persist_seq,
                                .hard_changed = ready->hard_state_changed,
                                .hard = ready->hard_state,
                                .reset = ready->reset,
                                .anchor = ready->anchor,
                                .truncate = ready->truncate,
                                .truncate_from = ready->truncate_from,
                                .first = ready->append_first,
                                .count = ready->entries_count};
        if (ready->reset) {
            batch->anchor_configuration = *ready->configuration;
        }
        batch->entries = calloc(batch->count + 1, sizeof *batch->entries);
        for (size_t i = 0; i < batch->count; i++) {
            batch->entries[i] = stored_copy(&ready->entries[i]);
        }
        image_apply(&node->staged, batch);
    }
    for (size_t i = 0; i < ready->messages_count; i++) {
        struct packet packet = packet_copy(group, at, &ready->messages[i]);
        assert_true(group->net_count < NET_MAX);
        group->net[group->net_count++] = packet;
    }
}

/* Makes everything that is staged durable. */
static inline void node_sync(struct group *group, unsigned at)
{
    struct node *node = &group->nodes[at];
    while (node->batches_count > 0) {
        uint64_t seq = node->batches[node->batches_count - 1].seq;
        size_t count = node->batches_count;
        for (size_t i = 0; i < count; i++) {
            image_apply(&node->disk, &node->batches[i]);
            stored_free(node->batches[i].entries, node->batches[i].count);
            free(node->batches[i].entries);
        }
        node->batches_count = 0;
        node->durable_seq = seq;
        node_step(group, at,
                  (struct ls_event){.kind = LS_EVENT_PERSISTED, .as.persisted_seq = seq});
    }
}

static inline void node_close(struct group *group, unsigned at)
{
    struct node *node = &group->nodes[at];
    ls_core_close(node->core);
    node->core = NULL;
    node->up = false;
    for (size_t i = 0; i < node->batches_count; i++) {
        stored_free(node->batches[i].entries, node->batches[i].count);
        free(node->batches[i].entries);
    }
    free(node->batches);
    node->batches = NULL;
    node->batches_count = 0;
    /* what it sent and what was on its way is lost with its links */
    size_t kept = 0;
    for (size_t i = 0; i < group->net_count; i++) {
        if (group->net[i].from == at || group->net[i].to == at) {
            packet_free(&group->net[i]);
        } else {
            group->net[kept++] = group->net[i];
        }
    }
    group->net_count = kept;
}

/* Starts a core from what its disk holds. */
static inline void node_open_with(struct group *group, unsigned at, bool tail_unknown,
                                  ls_index commit_floor)
{
    struct node *node = &group->nodes[at];
    struct image *disk = &node->disk;
    static struct ls_cursor runs[LOG_MAX];
    static uint32_t cached[LOG_MAX];
    struct ls_configuration_at *configurations = calloc(LOG_MAX / 100, sizeof *configurations);
    size_t runs_count = 0;
    size_t configurations_count = 0;
    assert_non_null(configurations);
    if (disk->anchor_configuration.configuration.count > 0) {
        configurations[configurations_count++] = disk->anchor_configuration;
    }
    for (size_t i = 0; i < disk->count; i++) {
        ls_index index = disk->anchor.index + 1 + i;
        cached[i] = (uint32_t)disk->log[i].bytes;
        if (i == 0 || disk->log[i].term != disk->log[i - 1].term) {
            runs[runs_count++] = (struct ls_cursor){disk->log[i].term, index};
        }
        if (disk->log[i].kind == LS_ENTRY_CONFIGURATION) {
            configurations[configurations_count].index = index;
            assert_ok(ls_configuration_decode(
                &test_env.codec, (struct ls_span){disk->log[i].data, disk->log[i].bytes},
                &configurations[configurations_count].configuration));
            configurations_count++;
        }
    }
    struct ls_configuration founders = test_configuration(group->voters, group->count, false);
    struct ls_group_id id = {{1}};
    struct ls_core_config config = {.size = sizeof config,
                                    .env = &test_env,
                                    .group = &id,
                                    .self = test_id(at),
                                    .incarnation = test_incarnation(at, node->life),
                                    .hard_state = disk->hard,
                                    .anchor = disk->anchor,
                                    .runs = runs,
                                    .runs_count = runs_count,
                                    .last = disk->anchor.index + disk->count,
                                    .configurations = configurations,
                                    .configurations_count = configurations_count,
                                    .cached_bytes = cached,
                                    .cached_count = disk->count,
                                    .commit_floor = commit_floor,
                                    .applied = commit_floor,
                                    .founders = &founders,
                                    .tail_unknown = tail_unknown,
                                    .seed = 77 + at,
                                    .now_us = group->now,
                                    .election_ms = ELECTION / 1000,
                                    .heartbeat_ms = HEARTBEAT / 1000,
                                    .reluctance = group->reluctance[at],
                                    .window_bytes = group->window_bytes,
                                    .cache_bytes = group->cache_bytes};
    struct ls_error error;
    assert_ok(ls_core_open(&config, &node->core, &error));
    ls_core_check(node->core);
    free(configurations);
    /* the staged image starts over from the disk */
    stored_free(node->staged.log, node->staged.count);
    node->staged.hard = disk->hard;
    node->staged.anchor = disk->anchor;
    node->staged.anchor_configuration = disk->anchor_configuration;
    node->staged.count = disk->count;
    for (size_t i = 0; i < disk->count; i++) {
        struct ls_entry entry = {
            disk->log[i].term, disk->log[i].kind, {disk->log[i].data, disk->log[i].bytes}};
        node->staged.log[i] = stored_copy(&entry);
    }
    node->durable_seq = 0;
    node->up = true;
    memset(&node->ready, 0, sizeof node->ready);
    node_step(group, at, (struct ls_event){.kind = LS_EVENT_TICK});
}

static inline void node_open(struct group *group, unsigned at)
{
    node_open_with(group, at, false, group->nodes[at].disk.anchor.index);
}

static inline void node_wipe(struct group *group, unsigned at)
{
    struct node *node = &group->nodes[at];
    node_close(group, at);
    stored_free(node->disk.log, node->disk.count);
    node->disk.count = 0;
    memset(&node->disk.hard, 0, sizeof node->disk.hard);
    memset(&node->disk.anchor, 0, sizeof node->disk.anchor);
    memset(&node->disk.anchor_configuration, 0, sizeof node->disk.anchor_configuration);
    node->life++;
}

/* ---- a group ---- */

static inline void disk_append(struct group *group, unsigned at, struct ls_entry entry)
{
    struct image *disk = &group->nodes[at].disk;
    disk->log[disk->count++] = stored_copy(&entry);
    if (disk->hard.term < entry.term) {
        disk->hard = (struct ls_hard_state){.term = entry.term};
    }
}

/* Puts entries of these terms (text of digits) after the configuration on a disk. */
static inline void disk_terms(struct group *group, unsigned at, const char *terms)
{
    for (const char *term = terms; *term != '\0'; term++) {
        disk_append(group, at,
                    (struct ls_entry){(ls_term)(*term - '0'), LS_ENTRY_COMMAND, {"x", 1}});
    }
}

/* Not founded, cores closed: disks may be prepared. Entry 1 is the configuration, unless founding.
 */
static inline struct group *group_prepare(unsigned voters, unsigned count, bool founding)
{
    struct group *group = calloc(1, sizeof *group);
    assert_non_null(group);
    group->count = count;
    group->voters = voters;
    group->founding = founding;
    group->nodes = calloc(count, sizeof *group->nodes);
    group->net = calloc(NET_MAX, sizeof *group->net);
    assert_non_null(group->nodes);
    assert_non_null(group->net);
    group->now = 1000;
    group->window_bytes = 1u << 20;
    group->cache_bytes = 1u << 22;
    struct ls_configuration configuration = test_configuration(voters, count, true);
    uint8_t bytes[LS_CONFIGURATION_BYTES_MAX];
    size_t written = 0;
    assert_ok(
        ls_configuration_encode(&test_env.codec, &configuration, bytes, sizeof bytes, &written));
    for (unsigned i = 0; i < count; i++) {
        group->reluctance[i] = 1;
        if (!founding) {
            disk_append(group, i, (struct ls_entry){1, LS_ENTRY_CONFIGURATION, {bytes, written}});
        }
    }
    return group;
}

static inline void group_open(struct group *group)
{
    for (unsigned i = 0; i < group->count; i++) {
        node_open(group, i);
    }
}

static inline struct group *group_new(unsigned voters, unsigned count)
{
    struct group *group = group_prepare(voters, count, false);
    group_open(group);
    return group;
}

static inline void group_free(struct group *group)
{
    for (unsigned i = 0; i < group->count; i++) {
        if (group->nodes[i].up) {
            node_close(group, i);
        }
        stored_free(group->nodes[i].staged.log, group->nodes[i].staged.count);
        stored_free(group->nodes[i].disk.log, group->nodes[i].disk.count);
    }
    for (size_t i = 0; i < group->net_count; i++) {
        packet_free(&group->net[i]);
    }
    free(group->net);
    free(group->nodes);
    free(group);
}

/* Delivers the packet at `at` of the network, or loses it where the way is cut. */
static inline void net_take(struct group *group, size_t at)
{
    struct packet packet = group->net[at];
    memmove(group->net + at, group->net + at + 1, (group->net_count - at - 1) * sizeof *group->net);
    group->net_count--;
    bool lost =
        packet.to >= CORES_MAX || group->cut[packet.from][packet.to] || !group->nodes[packet.to].up;
    if (lost) {
        group->dropped++;
    } else {
        packet.outgoing.message.incarnation =
            test_incarnation(packet.from, group->nodes[packet.from].life);
        assert_null(ls_message_invalid(&packet.outgoing.message));
        group->refusals += packet.outgoing.message.kind == LS_MESSAGE_APPEND_REPLY &&
                           !packet.outgoing.message.as.append_reply.accepted;
        node_step(
            group, packet.to,
            (struct ls_event){.kind = LS_EVENT_MESSAGE, .as.message = &packet.outgoing.message});
    }
    packet_free(&packet);
}

/* Syncs disks that do not hold, delivers what may leave, until nothing moves. */
static inline void group_settle(struct group *group)
{
    for (unsigned guard = 0; guard < 100000; guard++) {
        for (unsigned i = 0; i < group->count; i++) {
            if (group->nodes[i].up && !group->nodes[i].hold) {
                node_sync(group, i);
            }
        }
        size_t at = 0;
        while (at < group->net_count &&
               group->net[at].outgoing.after > group->nodes[group->net[at].from].durable_seq) {
            at++;
        }
        if (at == group->net_count) {
            return;
        }
        net_take(group, at);
    }
    fail_msg("the group never settles");
}

static inline void group_tick(struct group *group)
{
    for (unsigned i = 0; i < group->count; i++) {
        if (group->nodes[i].up && group->nodes[i].ready.deadline_us <= group->now) {
            node_step(group, i, (struct ls_event){.kind = LS_EVENT_TICK});
        }
    }
}

/* Runs the group for `us`, from deadline to deadline. */
static inline void group_run(struct group *group, uint64_t us)
{
    uint64_t end = group->now + us;
    group_settle(group);
    for (;;) {
        uint64_t next = end;
        for (unsigned i = 0; i < group->count; i++) {
            if (group->nodes[i].up && group->nodes[i].ready.deadline_us < next) {
                next = group->nodes[i].ready.deadline_us;
            }
        }
        group->now = next > group->now ? next : group->now;
        if (group->now >= end) {
            group->now = end;
            return;
        }
        group_tick(group);
        group_settle(group);
    }
}

/* The leader of the latest term, or -1. */
static inline int group_leader(const struct group *group)
{
    int leader = -1;
    for (unsigned i = 0; i < group->count; i++) {
        const struct node *node = &group->nodes[i];
        if (node->up && node->ready.role == LS_ROLE_LEADER &&
            (leader < 0 || node->ready.term > group->nodes[leader].ready.term)) {
            leader = (int)i;
        }
    }
    return leader;
}

/* Lets `at` time out first and the group elect it; again when it had to learn a later term. */
static inline void group_elect(struct group *group, unsigned at)
{
    for (unsigned i = 0; i < 3 && group->nodes[at].ready.role != LS_ROLE_LEADER; i++) {
        group->now += 2 * ELECTION * (uint64_t)group->reluctance[at];
        node_step(group, at, (struct ls_event){.kind = LS_EVENT_TICK});
        group_settle(group);
    }
    assert_int_equal(group->nodes[at].ready.role, LS_ROLE_LEADER);
}

static inline void group_propose(struct group *group, unsigned at, uint32_t count, size_t bytes)
{
    static uint8_t payload[1u << 16];
    struct ls_entry *entries = calloc(count, sizeof *entries);
    assert_non_null(entries);
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (struct ls_entry){0, LS_ENTRY_COMMAND, {payload, bytes}};
    }
    node_step(group, at,
              (struct ls_event){.kind = LS_EVENT_PROPOSE,
                                .as.propose = {.entries = entries, .count = count}});
    free(entries);
}

static inline void group_link(struct group *group, unsigned a, unsigned b, bool up)
{
    struct ls_event event = {.kind = LS_EVENT_LINK};
    group->cut[a][b] = group->cut[b][a] = !up;
    event.as.link.up = up;
    if (group->nodes[a].up) {
        event.as.link.peer = test_id(b);
        event.as.link.incarnation = test_incarnation(b, group->nodes[b].life);
        node_step(group, a, event);
    }
    if (group->nodes[b].up) {
        event.as.link.peer = test_id(a);
        event.as.link.incarnation = test_incarnation(a, group->nodes[a].life);
        node_step(group, b, event);
    }
}

static inline void group_cut(struct group *group, unsigned at, bool cut)
{
    for (unsigned i = 0; i < group->count; i++) {
        if (i != at) {
            group->cut[at][i] = group->cut[i][at] = cut;
        }
    }
}

/* A message by hand, from a member with its first incarnation. */
static inline struct ls_message test_message(enum ls_message_kind kind, unsigned from, unsigned to,
                                             ls_term term)
{
    return (struct ls_message){.kind = kind,
                               .from = test_id(from),
                               .to = test_id(to),
                               .incarnation = test_incarnation(from, 0),
                               .term = term};
}

static inline void node_receive(struct group *group, unsigned at, const struct ls_message *message)
{
    assert_null(ls_message_invalid(message));
    node_step(group, at, (struct ls_event){.kind = LS_EVENT_MESSAGE, .as.message = message});
}

/* How many messages of a kind the last step of `at` sent. */
static inline unsigned node_sends(const struct group *group, unsigned at, enum ls_message_kind kind)
{
    const struct ls_ready *ready = &group->nodes[at].ready;
    unsigned count = 0;
    for (size_t i = 0; i < ready->messages_count; i++) {
        count += ready->messages[i].message.kind == kind;
    }
    return count;
}

/* The newest message of a kind that the last step of `at` sent: there must be one. */
static inline const struct ls_outgoing *node_sent(const struct group *group, unsigned at,
                                                  enum ls_message_kind kind)
{
    static const struct ls_outgoing none;
    const struct ls_ready *ready = &group->nodes[at].ready;
    for (size_t i = ready->messages_count; i > 0; i--) {
        if (ready->messages[i - 1].message.kind == kind) {
            return &ready->messages[i - 1];
        }
    }
    fail_msg("no message of kind %d was sent", (int)kind);
    return &none;
}

static inline void net_drop_all(struct group *group)
{
    for (size_t i = 0; i < group->net_count; i++) {
        packet_free(&group->net[i]);
    }
    group->net_count = 0;
}

/* Every pair of disks agrees on what both have committed. */
static inline void group_agrees(const struct group *group)
{
    for (unsigned a = 0; a < group->count; a++) {
        for (unsigned b = 0; b < a; b++) {
            const struct node *x = &group->nodes[a];
            const struct node *y = &group->nodes[b];
            ls_index commit = x->ready.commit < y->ready.commit ? x->ready.commit : y->ready.commit;
            for (ls_index i = 1; x->up && y->up && i <= commit; i++) {
                ls_term at_x = ls_core_term_at(x->core, i);
                ls_term at_y = ls_core_term_at(y->core, i);
                assert_true(at_x == at_y || at_x == 0 || at_y == 0);
            }
        }
    }
}

#endif
