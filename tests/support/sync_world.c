/* SPDX-License-Identifier: MIT */
/* See sync_world.h. */
#include "sync_world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- env ------------------------------------------------------------------------------------- */

/* Time goes on between two looks at the clock, as it does in the world. */
static uint64_t world_now(void *self)
{
    return ((struct world *)self)->now_us++;
}

/* malloc with the size in front, so that live bytes are known. */
static void *world_allocate(void *self, void *block, size_t bytes)
{
    struct world *world = self;
    uint64_t *old = block == NULL ? NULL : (uint64_t *)block - 2;
    if (bytes == 0) {
        if (old != NULL) {
            world->bytes_live -= *old;
            free(old);
        }
        return NULL;
    }
    world->allocations++;
    if (world->refuse_at != 0 && world->allocations == world->refuse_at) {
        world->refused++;
        return NULL;
    }
    uint64_t before = old == NULL ? 0 : *old;
    uint64_t *fresh = realloc(old, bytes + 2 * sizeof *fresh);
    assert_non_null(fresh);
    *fresh = bytes;
    world->bytes_live += bytes - before;
    if (world->bytes_live > world->bytes_peak) {
        world->bytes_peak = world->bytes_live;
    }
    return fresh + 2;
}

static void world_trace(void *self, const struct ls_trace *trace)
{
    struct world *world = self;
    if (trace->level <= LS_TRACE_WARN) {
        world->warnings++;
        (void)ls_trace_render(trace, world->last_warning, sizeof world->last_warning);
    }
    if (getenv("LS_TEST_TRACE") != NULL) {
        char line[512];
        (void)ls_trace_render(trace, line, sizeof line);
        printf("%10" PRIu64 " %s\n", world->now_us, line);
    }
}

uint64_t world_random(struct world *world, uint64_t below)
{
    uint64_t x = world->random += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return below == 0 ? 0 : x % below;
}

/* ---- logs ------------------------------------------------------------------------------------ */

static void *keep(struct world *world, size_t bytes)
{
    if (world->blocks_count == world->blocks_capacity) {
        world->blocks_capacity = 2 * world->blocks_capacity + 64;
        world->blocks = realloc(world->blocks, world->blocks_capacity * sizeof *world->blocks);
        assert_non_null(world->blocks);
    }
    void *block = malloc(bytes == 0 ? 1 : bytes);
    assert_non_null(block);
    world->blocks[world->blocks_count++] = block;
    return block;
}

static void log_push(struct world_log *log, const struct ls_entry *entry)
{
    if (log->last == log->capacity) {
        log->capacity = 2 * log->capacity + 64;
        log->entries = realloc(log->entries, log->capacity * sizeof *log->entries);
        assert_non_null(log->entries);
    }
    log->entries[log->last++] = *entry;
}

static struct ls_cursor log_cursor(const struct world_log *log, ls_index index)
{
    assert_true(index <= log->last);
    return index == 0 ? (struct ls_cursor){0, 0}
                      : (struct ls_cursor){log->entries[index - 1].term, index};
}

void world_write(struct world *world, ls_term term, ls_index count, uint32_t bytes)
{
    uint8_t *block = keep(world, (size_t)count * bytes);
    for (ls_index i = 0; i < count; i++) {
        size_t size = bytes == 0 ? 0 : 1 + (size_t)world_random(world, bytes);
        for (size_t b = 0; b < size; b++) {
            block[b] = (uint8_t)(world->truth.last * 31 + b);
        }
        enum ls_entry_kind kind = (enum ls_entry_kind)(1 + world_random(world, 4));
        struct ls_entry entry = {.term = term, .kind = kind, .data = {block, size}};
        log_push(&world->truth, &entry);
        block += size;
    }
}

static uint64_t hash_entry(uint64_t hash, ls_index index, const struct ls_entry *entry)
{
    hash = (hash ^ index) * 0x100000001b3u;
    hash = (hash ^ entry->term ^ ((uint64_t)entry->kind << 32)) * 0x100000001b3u;
    const uint8_t *bytes = entry->data.data;
    for (size_t i = 0; i < entry->data.bytes; i++) {
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    return hash;
}

static void apply(struct world_node *node)
{
    while (node->applied < node->commit && node->applied < node->durable) {
        node->applied_hash =
            hash_entry(node->applied_hash, node->applied + 1, &node->log.entries[node->applied]);
        node->applied++;
    }
}

void world_fill(struct world *world, uint32_t at, ls_index last, ls_index commit)
{
    struct world_node *node = &world->nodes[at];
    for (ls_index i = node->log.last; i < last; i++) {
        log_push(&node->log, &world->truth.entries[i]);
    }
    node->durable = node->log.last;
    node->commit = commit;
    apply(node);
}

void world_diverge(struct world *world, uint32_t at, ls_term term, uint32_t count)
{
    struct world_node *node = &world->nodes[at];
    for (uint32_t i = 0; i < count; i++) {
        struct ls_entry entry = {.term = term, .kind = LS_ENTRY_COMMAND, .data = {"lost", 4}};
        log_push(&node->log, &entry);
    }
    node->durable = node->log.last;
}

void world_prune(struct world *world, uint32_t at, ls_index upto)
{
    world->nodes[at].first = upto + 1;
}

/* ---- the driver ------------------------------------------------------------------------------ */

static struct ls_cursor driver_committed(void *self)
{
    const struct world_node *node = self;
    return log_cursor(&node->log, node->commit);
}

static void driver_log_bounds(void *self, ls_index *first, ls_index *last)
{
    const struct world_node *node = self;
    *first = node->first;
    *last = node->durable;
}

static struct ls_cursor driver_log_last(void *self)
{
    const struct world_node *node = self;
    return log_cursor(&node->log, node->log.last);
}

static enum ls_status driver_log_read(void *self, ls_index first, ls_index last, size_t bytes_max,
                                      ls_storage_visit visit, void *arg)
{
    struct world_node *node = self;
    node->read_calls++;
    if (first < node->first) {
        return LS_ERR_COMPACTED;
    }
    if (first > node->durable) {
        return LS_ERR_NOT_FOUND;
    }
    size_t bytes = 0;
    for (ls_index i = first; i <= last && i <= node->durable; i++) {
        const struct ls_entry *entry = &node->log.entries[i - 1];
        if (!visit(arg, i, entry)) {
            break;
        }
        bytes += entry->data.bytes;
        if (bytes >= bytes_max) {
            break;
        }
    }
    return LS_OK;
}

static uint32_t node_index(const struct world *world, const struct ls_peer_id *id)
{
    uint32_t at = 0;
    while (at < world->nodes_count && !ls_peer_id_equal(&world->nodes[at].id, id)) {
        at++;
    }
    return at;
}

static bool bonded(const struct world *world, uint32_t a, uint32_t b)
{
    return a != b && world->nodes[a].up && world->nodes[b].up && !world->cut[a][b];
}

static void enqueue(struct world *world, struct world_message *message)
{
    uint64_t spread = world->latency_max_us - world->latency_min_us + 1;
    uint64_t *free_us = &world->free_us[message->from][message->to];
    *free_us = *free_us > world->now_us ? *free_us : world->now_us;
    if (world->bytes_per_s != 0) {
        *free_us += message->bytes * SECOND / world->bytes_per_s;
    }
    message->at_us = *free_us + world->latency_min_us + world_random(world, spread);
    for (const struct world_message *m = world->messages; m != NULL; m = m->next) {
        if (m->from == message->from && m->to == message->to && m->at_us > message->at_us) {
            message->at_us = m->at_us; /* lanes keep their order */
        }
    }
    struct world_message **at = &world->messages;
    while (*at != NULL && (*at)->at_us <= message->at_us) {
        at = &(*at)->next;
    }
    message->next = *at;
    *at = message;
}

static struct world_message *make_message(uint32_t from, uint32_t to, bool to_session,
                                          struct ls_span bytes)
{
    struct world_message *message = malloc(sizeof *message + bytes.bytes);
    assert_non_null(message);
    *message = (struct world_message){
        .from = from, .to = to, .to_session = to_session, .bytes = bytes.bytes};
    memcpy(message->data, bytes.data, bytes.bytes);
    return message;
}

void world_send(struct world *world, uint32_t from, uint32_t to, bool to_session,
                struct ls_span bytes)
{
    enqueue(world, make_message(from, to, to_session, bytes));
}

static enum ls_status driver_send(void *self, const struct ls_peer_id *peer, uint32_t tag,
                                  bool to_session, struct ls_span bytes)
{
    struct world_node *node = self;
    struct world *world = node->world;
    uint32_t from = node_index(world, &node->id);
    uint32_t to = node_index(world, peer);
    if (to == world->nodes_count || !bonded(world, from, to)) {
        return LS_ERR_UNREACHABLE;
    }
    size_t under_way = 0;
    for (const struct world_message *m = world->messages; m != NULL; m = m->next) {
        under_way += m->from == from && m->to == to ? m->bytes : 0;
    }
    if (node->queue_bytes_max != 0 && under_way > node->queue_bytes_max) {
        return LS_ERR_BUSY;
    }
    node->answers += to_session;
    if (to_session) {
        world_count_sent(node, bytes);
    }
    struct world_message *message = make_message(from, to, to_session, bytes);
    message->tag = tag;
    enum world_fate fate = WORLD_DELIVER;
    if (world->intercept != NULL) {
        fate = world->intercept(world, message, world->intercept_arg);
    }
    if (fate == WORLD_DROP) {
        free(message);
        return LS_OK;
    }
    enqueue(world, message);
    if (fate == WORLD_TWICE) {
        struct world_message *again = make_message(from, to, to_session, bytes);
        again->tag = tag;
        enqueue(world, again);
    }
    return LS_OK;
}

static size_t driver_bonds(void *self, struct ls_sync_bond *out, size_t capacity)
{
    const struct world_node *node = self;
    const struct world *world = node->world;
    uint32_t own = node_index(world, &node->id);
    size_t count = 0;
    for (uint32_t i = 0; i < world->nodes_count && count < capacity; i++) {
        if (bonded(world, own, i)) {
            out[count++] =
                (struct ls_sync_bond){.peer = world->nodes[i].id, .leader = i == world->leader};
        }
    }
    return count;
}

static bool driver_leader(void *self, struct ls_peer_id *out)
{
    const struct world *world = ((struct world_node *)self)->world;
    if (world->leader == world->nodes_count) {
        return false;
    }
    *out = world->nodes[world->leader].id;
    return true;
}

static bool driver_is_leader(void *self)
{
    return ((struct world_node *)self)->leads;
}

/* The rule of AppendEntries: keep what matches, truncate only at a conflict above commit. */
static enum ls_status take_entries(struct world_node *node, struct ls_cursor prev,
                                   const struct ls_entry *entries, uint32_t count)
{
    if (prev.index > node->log.last || log_cursor(&node->log, prev.index).term != prev.term) {
        return LS_ERR_INVALID;
    }
    for (uint32_t i = 0; i < count; i++) {
        ls_index index = prev.index + 1 + i;
        if (index <= node->log.last) {
            if (node->log.entries[index - 1].term == entries[i].term) {
                continue;
            }
            assert_true(index > node->commit); /* P4 */
            node->log.last = index - 1;
        }
        uint8_t *data = keep(node->world, entries[i].data.bytes);
        memcpy(data, entries[i].data.data, entries[i].data.bytes);
        struct ls_entry copy = entries[i];
        copy.data.data = data;
        log_push(&node->log, &copy);
        node->appended++;
    }
    return LS_OK;
}

static void raise_commit(struct world_node *node, ls_index commit)
{
    if (commit > node->commit) {
        node->commit = commit;
        ls_supervisor_committed(node->supervisor, commit);
    }
}

static enum ls_status driver_install(void *self, uint64_t token, ls_term term,
                                     struct ls_cursor prev, const struct ls_entry *entries,
                                     uint32_t count, ls_index commit)
{
    struct world_node *node = self;
    struct world *world = node->world;
    assert_true(count > 0 && node->syncing);
    node->installs++;
    enum ls_status status = node->refuse_install;
    node->refuse_install = LS_OK;
    if (node->effects_count == LS_SYNC_EFFECTS_MAX) {
        status = LS_ERR_BUSY; /* those of an attempt that ended are still under way */
    }
    if (status == LS_OK && term != 0 && term < world->term) {
        status = LS_ERR_INVALID;
    }
    if (status == LS_OK) {
        status = take_entries(node, prev, entries, count);
    }
    if (status != LS_OK) {
        node->refused++;
        return status;
    }
    ls_index end = prev.index + count;
    raise_commit(node, commit < end ? commit : end);
    node->effects[node->effects_count++] =
        (struct world_effect){token, world->now_us + world->disk_us, LS_OK};
    return LS_OK;
}

static void driver_syncing(void *self, bool on)
{
    struct world_node *node = self;
    assert_true(node->syncing != on);
    node->syncing = on;
    node->syncing_changes++;
}

/* ---- events ---------------------------------------------------------------------------------- */

void world_poll(struct world *world, uint32_t at)
{
    struct world_node *node = &world->nodes[at];
    node->polls++;
    node->due_us = ls_supervisor_poll(node->supervisor);
}

/* A fetch is the only question of six numbers. */
static void count_question(struct world *world, struct world_node *node,
                           const struct world_message *message)
{
    struct ls_value values[8];
    size_t count = 0;
    const struct ls_codec *codec = &world->env.codec;
    struct ls_span bytes = {message->data, message->bytes};
    node->questions++;
    if (codec->decode(codec->self, bytes, values, 8, &count) == LS_OK && count == 7) {
        node->fetches++;
    }
}

static void deliver(struct world *world, struct world_message *message)
{
    struct world_node *node = &world->nodes[message->to];
    if (bonded(world, message->from, message->to)) {
        if (!message->to_session) {
            count_question(world, node, message);
        }
        (void)ls_supervisor_receive(node->supervisor, &world->nodes[message->from].id, message->tag,
                                    message->to_session,
                                    (struct ls_span){message->data, message->bytes});
        world_poll(world, message->to);
    }
    free(message);
}

static void finish_effect(struct world *world, uint32_t at)
{
    struct world_node *node = &world->nodes[at];
    struct world_effect effect = node->effects[0];
    node->effects_count--;
    memmove(node->effects, node->effects + 1, node->effects_count * sizeof node->effects[0]);
    if (node->effects_count == 0 || effect.status == LS_OK) {
        node->durable = node->log.last;
    }
    apply(node);
    ls_supervisor_effect(node->supervisor, effect.token, effect.status);
    world_poll(world, at);
}

bool world_step(struct world *world, uint64_t until_us)
{
    uint64_t next = world->messages != NULL ? world->messages->at_us : UINT64_MAX;
    uint32_t at = world->nodes_count;
    bool effect = false;
    if (world->marker != 0 && world->marker_us <= next && world->marker_us <= until_us) {
        bool first = true;
        for (uint32_t i = 0; i < world->nodes_count; i++) {
            const struct world_node *node = &world->nodes[i];
            first = first && node->due_us >= world->marker_us;
        }
        if (first) {
            world->now_us = world->marker_us > world->now_us ? world->marker_us : world->now_us;
            world_marker(world);
            return true;
        }
    }
    for (uint32_t i = 0; i < world->nodes_count; i++) {
        const struct world_node *node = &world->nodes[i];
        if (node->effects_count > 0 && !node->hold_disk && node->effects[0].at_us < next) {
            next = node->effects[0].at_us;
            at = i;
            effect = true;
        }
        if (node->due_us < next) {
            next = node->due_us;
            at = i;
            effect = false;
        }
    }
    if (next > until_us || next == UINT64_MAX) {
        world->now_us = until_us == UINT64_MAX ? world->now_us : until_us;
        return false;
    }
    world->now_us = next > world->now_us ? next : world->now_us;
    if (at == world->nodes_count) {
        struct world_message *message = world->messages;
        world->messages = message->next;
        deliver(world, message);
    } else if (effect) {
        finish_effect(world, at);
    } else {
        world_poll(world, at);
    }
    return true;
}

void world_run(struct world *world, uint64_t for_us)
{
    uint64_t until = world->now_us + for_us;
    for (uint64_t steps = 0; world_step(world, until); steps++) {
        assert_true(steps < 20000000u);
    }
}

bool world_reaches(struct world *world, uint32_t node, ls_index index, uint64_t within_us)
{
    uint64_t until = world->now_us + within_us;
    while (world->nodes[node].commit < index || world->nodes[node].syncing ||
           world->nodes[node].applied < index) {
        if (!world_step(world, until)) {
            return false;
        }
    }
    return true;
}

void world_bond(struct world *world, uint32_t a, uint32_t b, bool on)
{
    bool was = bonded(world, a, b);
    world->cut[a][b] = world->cut[b][a] = !on;
    if (was != bonded(world, a, b)) {
        ls_supervisor_peer(world->nodes[a].supervisor, &world->nodes[b].id, !was);
        ls_supervisor_peer(world->nodes[b].supervisor, &world->nodes[a].id, !was);
        world_poll(world, a);
        world_poll(world, b);
    }
}

void world_up(struct world *world, uint32_t at, bool up)
{
    struct world_node *node = &world->nodes[at];
    for (uint32_t i = 0; i < world->nodes_count; i++) {
        bool was = bonded(world, at, i);
        node->up = up;
        bool is = bonded(world, at, i);
        if (was != is) {
            ls_supervisor_peer(world->nodes[i].supervisor, &node->id, is);
            ls_supervisor_peer(node->supervisor, &world->nodes[i].id, is);
            world_poll(world, i);
        }
        node->up = !up;
    }
    node->up = up;
    world_poll(world, at);
}

void world_gap(struct world *world, uint32_t at, ls_index target, ls_index prev, uint32_t count)
{
    struct world_node *node = &world->nodes[at];
    ls_supervisor_gap(node->supervisor, world->term, target, log_cursor(&world->truth, prev),
                      count == 0 ? NULL : world->truth.entries + prev, count);
    world_poll(world, at);
}

void world_append(struct world *world, uint32_t at, ls_index target, ls_index prev, uint32_t count)
{
    struct world_node *node = &world->nodes[at];
    struct ls_cursor cursor = log_cursor(&world->truth, prev);
    if (take_entries(node, cursor, world->truth.entries + prev, count) != LS_OK) {
        world_gap(world, at, target, prev, count);
        return;
    }
    node->durable = node->log.last;
    raise_commit(node, target < prev + count ? target : prev + count);
    apply(node);
    if (target > prev + count) {
        world_gap(world, at, target, prev, 0);
    }
    world_poll(world, at);
}

void world_check(const struct world *world, uint32_t at)
{
    const struct world_node *node = &world->nodes[at];
    uint64_t hash = 0;
    assert_true(node->commit <= node->log.last);
    for (ls_index i = 1; i <= node->applied; i++) {
        hash = hash_entry(hash, i, &world->truth.entries[i - 1]);
    }
    assert_int_equal(node->applied_hash, hash);
    assert_int_equal(node->applied, node->commit);
}

void world_push(struct world *world, ls_term term, enum ls_entry_kind kind, struct ls_span data)
{
    uint8_t *copy = keep(world, data.bytes);
    if (data.bytes > 0) {
        memcpy(copy, data.data, data.bytes);
    }
    struct ls_entry entry = {.term = term, .kind = kind, .data = {copy, data.bytes}};
    log_push(&world->truth, &entry);
}

void world_jump(struct world *world, uint32_t at, ls_index anchor)
{
    struct world_node *node = &world->nodes[at];
    assert_true(anchor > node->commit && anchor <= world->truth.last);
    if (node->log.last < anchor ||
        node->log.entries[anchor - 1].term != world->truth.entries[anchor - 1].term) {
        node->log.last = 0;
        for (ls_index i = 0; i < anchor; i++) {
            log_push(&node->log, &world->truth.entries[i]);
        }
        node->first = anchor + 1;
    }
    node->applied_hash = 0;
    for (ls_index i = 0; i < anchor; i++) {
        node->applied_hash = hash_entry(node->applied_hash, i + 1, &world->truth.entries[i]);
    }
    node->applied = node->commit = anchor;
    node->durable = node->log.last;
}

struct ls_sync_progress world_progress(const struct world *world, uint32_t node)
{
    struct ls_sync_progress progress;
    ls_supervisor_progress(world->nodes[node].supervisor, &progress);
    return progress;
}

/* ---- open and close -------------------------------------------------------------------------- */

static void supervise(struct world *world, uint32_t at)
{
    struct world_node *node = &world->nodes[at];
    const struct world_options *options = &world->options;
    struct ls_supervisor_config config = {
        .size = sizeof config,
        .env = &world->env,
        .local = node->id,
        .driver = {.size = sizeof config.driver,
                   .self = node,
                   .committed = driver_committed,
                   .log_bounds = driver_log_bounds,
                   .log_last = driver_log_last,
                   .log_read = driver_log_read,
                   .send = driver_send,
                   .bonds = driver_bonds,
                   .leader = driver_leader,
                   .is_leader = driver_is_leader,
                   .install = driver_install,
                   .syncing = driver_syncing},
        .machine_snapshots = options->snapshots,
        .strategies = world->strategies,
        .strategies_count = world->strategies_count,
        .retry_min_ms = options->retry_min_ms,
        .watchdog_ms = options->watchdog_ms,
    };
    if (options->snapshots) {
        world_snapshots_driver(&config.driver);
    }
    assert_ok(ls_supervisor_open(&config, &node->supervisor, NULL));
}

static void open_node(struct world *world, uint32_t at)
{
    struct world_node *node = &world->nodes[at];
    *node = (struct world_node){
        .world = world, .up = true, .leads = at == 0, .first = 1, .due_us = UINT64_MAX};
    node->id.bytes[0] = (uint8_t)(at + 1);
    supervise(world, at);
}

void world_restart(struct world *world, uint32_t node)
{
    ls_supervisor_close(world->nodes[node].supervisor);
    supervise(world, node);
}

struct world *world_open(const struct world_options *options)
{
    struct world *world = calloc(1, sizeof *world);
    struct ls_log_replay_options *replay = calloc(1, sizeof *replay);
    assert_non_null(world);
    assert_non_null(replay);
    world->env = (struct ls_env){
        .size = sizeof world->env,
        .self = world,
        .now_us = world_now,
        .allocate = world_allocate,
        .codec = ls_env_default()->codec,
        .hash = ls_env_default()->hash,
        .trace = world_trace,
    };
    world->random = options->seed;
    world->now_us = 1000 * SECOND;
    world->latency_min_us = 100;
    world->latency_max_us = 400;
    world->disk_us = 2000;
    world->term = 1;
    world->nodes_count = options->nodes;
    *replay = options->replay;
    replay->size = sizeof *replay;
    struct ls_statesync built_in;
    assert_ok(ls_log_replay(replay, &built_in));
    ((void **)keep(world, sizeof(void *)))[0] = NULL;
    free(world->blocks[0]);
    world->blocks[0] = replay;
    world->options = *options;
    world->strategies_count = options->strategies != NULL ? options->strategies_count : 1;
    assert_true(world->strategies_count <= LS_STATESYNCS_MAX);
    memcpy(world->strategies, options->strategies != NULL ? options->strategies : &built_in,
           world->strategies_count * sizeof built_in);
    for (uint32_t i = 0; i < options->nodes; i++) {
        open_node(world, i);
    }
    return world;
}

void world_close(struct world *world)
{
    for (uint32_t i = 0; i < world->nodes_count; i++) {
        ls_supervisor_close(world->nodes[i].supervisor);
        world_snapshots_free(&world->nodes[i]);
        free(world->nodes[i].log.entries);
    }
    while (world->messages != NULL) {
        struct world_message *message = world->messages;
        world->messages = message->next;
        free(message);
    }
    assert_int_equal(world->bytes_live, 0);
    for (size_t i = 0; i < world->blocks_count; i++) {
        free(world->blocks[i]);
    }
    free(world->blocks);
    free(world->truth.entries);
    free(world);
}
