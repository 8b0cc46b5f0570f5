/* SPDX-License-Identifier: MIT */
/*
 * The life of a realm and of its members: start from what the disk holds, crash, wipe, and the
 * links between those that live.
 */
#include <stdio.h>
#include <stdlib.h>

#include "realm.h"

uint64_t realm_random(struct realm *realm, uint64_t bound)
{
    /* splitmix64 */
    uint64_t z = (realm->random += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return bound == 0 ? z : z % bound;
}

static void fail_by_exit(struct realm *realm, const char *reason)
{
    (void)fprintf(stderr, "seed %llu: %s\n", (unsigned long long)realm->seed, reason);
    exit(1);
}

struct realm *realm_open(uint64_t seed)
{
    struct realm *realm = calloc(1, sizeof *realm);
    if (realm == NULL) {
        abort();
    }
    realm->seed = seed;
    realm->random = seed;
    realm->now_us = REALM_START_US;
    realm->election_ms = REALM_ELECTION_MS;
    realm->heartbeat_ms = REALM_ELECTION_MS / 5;
    realm->cache_bytes = LS_CACHE_BYTES_DEFAULT;
    realm->window_bytes = LS_WINDOW_BYTES_DEFAULT;
    realm->latency_us = REALM_LATENCY_US;
    realm->disk_us = REALM_DISK_US;
    realm->sync_us = REALM_SYNC_US;
    realm->failed = fail_by_exit;
    return realm;
}

void realm_close(struct realm *realm)
{
    if (realm == NULL) {
        return;
    }
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        struct node *node = &realm->nodes[i];
        ls_core_close(node->core);
        log_release(&node->disk.log);
        log_release(&node->view);
        log_release(&node->ghost);
        free(node->ghost_votes);
        free(node->batches);
        free(node->held.items);
        free(node->votes);
    }
    for (size_t i = 0; i < realm->known_count; i++) {
        free(realm->known[i].entries);
    }
    free(realm->known);
    free(realm->leaders);
    free(realm->reads);
    free(realm->network.items);
    free(realm->parked.items);
    free(realm->trace);
    arena_release(realm);
    free(realm);
}

static void tell(const struct realm *realm, const char *line)
{
    if (realm->tell) {
        (void)fprintf(stderr, "%10.3f  %s\n", (double)(realm->now_us - REALM_START_US) / 1000.0,
                      line);
    }
}

/* What `--trace` shows of a message that arrives. */
void realm_tell_message(const struct realm *realm, const struct packet *packet)
{
    const struct ls_message *message = &packet->message;
    char line[REALM_TEXT_BYTES], more[REALM_TEXT_BYTES / 2] = "";
    if (!realm->tell) {
        return;
    }
    const struct ls_append *append = &message->as.append;
    const struct ls_append_reply *reply = &message->as.append_reply;
    if (message->kind == LS_MESSAGE_APPEND) {
        (void)snprintf(more, sizeof more, " after %llu^%llu count %u commit %llu%s",
                       (unsigned long long)append->prev.term,
                       (unsigned long long)append->prev.index, (unsigned)append->count,
                       (unsigned long long)append->commit, append->syncing ? " syncing" : "");
    } else if (message->kind == LS_MESSAGE_APPEND_REPLY) {
        (void)snprintf(more, sizeof more, " %s match %llu prev %llu hint %llu last %llu%s",
                       reply->accepted ? "accepted" : "rejected", (unsigned long long)reply->match,
                       (unsigned long long)reply->prev.index, (unsigned long long)reply->hint.index,
                       (unsigned long long)reply->last, reply->counts ? "" : " does not count");
    }
    (void)snprintf(line, sizeof line, "     %s->%s %s term %llu%s", realm->nodes[packet->from].name,
                   realm->nodes[packet->to].name, message_kind_text((int)message->kind),
                   (unsigned long long)message->term, more);
    tell(realm, line);
}

void realm_note(struct realm *realm, const char *line)
{
    tell(realm, line);
    size_t bytes = strlen(line) + 1;
    if (realm->trace_bytes + bytes + 1 > realm->trace_capacity) {
        realm->trace_capacity = (realm->trace_bytes + bytes + 1) * 2;
        realm->trace = realloc(realm->trace, realm->trace_capacity);
        if (realm->trace == NULL) {
            abort();
        }
    }
    (void)memcpy(realm->trace + realm->trace_bytes, line, bytes - 1);
    realm->trace_bytes += bytes;
    realm->trace[realm->trace_bytes - 1] = '\n';
    realm->trace[realm->trace_bytes] = '\0';
}

/* Writes names where the rendered line has the first four bytes of a peer's id. */
static void trace_names(const struct realm *realm, char *line, size_t capacity)
{
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        char hex[9], copy[REALM_TEXT_BYTES * 2];
        const uint8_t *id = realm->nodes[i].id.bytes;
        (void)snprintf(hex, sizeof hex, "%02x%02x%02x%02x", id[0], id[1], id[2], id[3]);
        char *at = strstr(line, hex);
        if (at != NULL) {
            (void)snprintf(copy, sizeof copy, "%.*s%s%s", (int)(at - line), line,
                           realm->nodes[i].name, at + 8);
            copy[capacity - 1] = '\0';
            (void)memcpy(line, copy, strlen(copy) + 1);
        }
    }
}

static void node_trace(void *self, const struct ls_trace *trace)
{
    struct node *node = self;
    if (trace->level > LS_TRACE_INFO && !node->realm->tell) {
        return;
    }
    struct ls_trace plain = *trace;
    plain.group = NULL;
    char text[REALM_TEXT_BYTES], line[REALM_TEXT_BYTES + LS_NAME_BYTES];
    (void)ls_trace_render(&plain, text, sizeof text);
    trace_names(node->realm, text, sizeof text);
    (void)snprintf(line, sizeof line, "%-4s %s", node->name, text);
    if (trace->level <= LS_TRACE_INFO) {
        realm_note(node->realm, line);
    } else {
        tell(node->realm, line);
    }
}

struct ls_incarnation realm_incarnation(const struct node *node, unsigned incarnation)
{
    struct ls_incarnation out = {{0}};
    (void)memcpy(out.bytes, node->id.bytes, 4);
    out.bytes[8] = (uint8_t)incarnation;
    return out;
}

/* Ids ascend with the order of creation; their first bytes are unlikely in any other text. */
struct node *realm_add(struct realm *realm, const char *name, enum ls_role_in_configuration seat)
{
    if (realm->nodes_count == REALM_NODES_MAX) {
        return NULL;
    }
    struct node *node = &realm->nodes[realm->nodes_count];
    node->realm = realm;
    node->number = realm->nodes_count++;
    (void)snprintf(node->name, sizeof node->name, "%s", name);
    node->id.bytes[0] = 0xe0;
    node->id.bytes[1] = (uint8_t)(node->number + 1);
    node->id.bytes[2] = 0x9d;
    node->id.bytes[3] = 0xfc;
    node->seat = seat;
    node->incarnation = 1;
    node->reluctance = 1;
    node->deadline_us = UINT64_MAX;
    node->role = LS_ROLE_FOLLOWER;
    node->env = (struct ls_env){
        .size = sizeof(struct ls_env),
        .self = node,
        .allocate = realm_allocate,
        .codec = realm_codec,
        .trace = node_trace,
    };
    return node;
}

struct node *realm_find(struct realm *realm, const char *name)
{
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        if (strcmp(realm->nodes[i].name, name) == 0) {
            return &realm->nodes[i];
        }
    }
    return NULL;
}

struct node *realm_by_id(struct realm *realm, const struct ls_peer_id *id)
{
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        if (ls_peer_id_equal(&realm->nodes[i].id, id)) {
            return &realm->nodes[i];
        }
    }
    return NULL;
}

void realm_founders(const struct realm *realm, struct ls_configuration *out)
{
    *out = (struct ls_configuration){.count = realm->nodes_count};
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        struct ls_member *member = &out->members[i];
        member->id = realm->nodes[i].id;
        member->role = realm->nodes[i].seat;
        (void)snprintf(member->name, sizeof member->name, "%s", realm->nodes[i].name);
    }
    ls_configuration_sort(out);
}

/* What ls_core_open is told of the log: where terms begin, and every configuration. */
struct survey {
    struct ls_cursor runs[1024];
    size_t runs_count;
    struct ls_configuration_at configurations[16];
    size_t configurations_count;
    uint32_t cached[4096];
    size_t cached_count;
};

static void survey_log(struct survey *survey, const struct log *log)
{
    *survey = (struct survey){0};
    if (log->anchor_configuration != NULL) {
        survey->configurations[survey->configurations_count++] = *log->anchor_configuration;
    }
    ls_term before = 0;
    for (size_t i = 0; i < log->count; i++) {
        const struct ls_entry *entry = &log->entries[i];
        ls_index index = log->anchor.index + i + 1;
        if (entry->term != before) {
            LS_ASSERT(survey->runs_count < sizeof survey->runs / sizeof survey->runs[0]);
            survey->runs[survey->runs_count++] = (struct ls_cursor){entry->term, index};
            before = entry->term;
        }
        if (entry->kind == LS_ENTRY_CONFIGURATION) {
            LS_ASSERT(survey->configurations_count < 16);
            bool found = log_configuration(log, index,
                                           &survey->configurations[survey->configurations_count++]);
            LS_ASSERT(found);
        }
    }
    survey->cached_count = log->count < 4096 ? log->count : 4096;
    for (size_t i = 0; i < survey->cached_count; i++) {
        survey->cached[i] =
            (uint32_t)log->entries[log->count - survey->cached_count + i].data.bytes;
    }
}

static void open_core(struct node *node)
{
    struct realm *realm = node->realm;
    struct ls_configuration *founders = calloc(1, sizeof *founders);
    struct survey *survey = calloc(1, sizeof *survey);
    if (founders == NULL || survey == NULL) {
        abort();
    }
    realm_founders(realm, founders);
    survey_log(survey, &node->disk.log);
    static const struct ls_group_id group = {{1}};
    struct ls_core_config config = {
        .size = sizeof config,
        .env = &node->env,
        .group = &group,
        .self = node->id,
        .incarnation = realm_incarnation(node, node->incarnation),
        .hard_state = node->disk.hard_state,
        .anchor = node->disk.log.anchor,
        .runs = survey->runs,
        .runs_count = survey->runs_count,
        .last = log_last(&node->disk.log),
        .configurations = survey->configurations,
        .configurations_count = survey->configurations_count,
        .cached_bytes = survey->cached,
        .cached_count = survey->cached_count,
        .commit_floor = node->applied,
        .applied = node->applied,
        .founders = founders,
        .tail_unknown = node->disk.torn,
        .seed = realm->seed * 1000003u + node->number * 101u + node->lives,
        .now_us = realm->now_us + node->clock_skew_us,
        .election_ms = realm->election_ms,
        .heartbeat_ms = realm->heartbeat_ms,
        .reluctance = node->reluctance,
        .window_bytes = realm->window_bytes,
        .cache_bytes = realm->cache_bytes,
    };
    struct ls_error error = {LS_OK, ""};
    enum ls_status status = ls_core_open(&config, &node->core, &error);
    free(survey);
    free(founders);
    if (status != LS_OK) {
        realm_fail(realm, "%s: open: %s", node->name, error.text);
    }
}

void realm_start(struct node *node)
{
    struct realm *realm = node->realm;
    LS_ASSERT(!node->alive);
    node->lives++;
    log_copy(&node->view, &node->disk.log);
    node->batches_count = 0;
    node->held.count = 0;
    node->staged_seq = 0;
    node->durable_seq = 0;
    node->role = LS_ROLE_FOLLOWER;
    node->term = node->disk.hard_state.term;
    node->leader = (struct ls_peer_id){{0}};
    node->applied = node->disk.log.anchor.index;
    if (realm->durable_machine && node->disk.applied > node->applied) {
        node->applied = node->disk.applied;
    }
    node->commit = node->applied;
    node->durable = log_last(&node->disk.log);
    node->cache_first = 0;
    node->gap = false;
    node->syncing = false;
    node->sync_at_us = 0;
    node->halted = LS_OK;
    node->disk_failed = false;
    open_core(node);
    node->alive = true;
    realm_step(node, &(struct ls_event){.kind = LS_EVENT_TICK});
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        if (i != node->number && realm->nodes[i].alive) {
            realm_link(node, &realm->nodes[i], true);
        }
    }
}

static void step_link(struct node *node, const struct node *peer, bool up)
{
    node->linked[peer->number] = up;
    if (node->alive) {
        struct ls_event event = {.kind = LS_EVENT_LINK};
        event.as.link.peer = peer->id;
        event.as.link.incarnation = realm_incarnation(peer, peer->incarnation);
        event.as.link.up = up;
        realm_step(node, &event);
    }
}

void realm_link(struct node *a, struct node *b, bool up)
{
    if (a->linked[b->number] != up) {
        if (!up && !a->realm->reorder) {
            network_drop_pair(a->realm, a->number, b->number);
        }
        a->linked[b->number] = up;
        b->linked[a->number] = up;
        step_link(a, b, up);
        step_link(b, a, up);
    }
}

void realm_crash(struct node *node, size_t kept)
{
    struct realm *realm = node->realm;
    LS_ASSERT(node->alive);
    if (kept > node->batches_count || node->disk_failed) {
        kept = node->disk_failed ? 0 : node->batches_count;
    }
    for (size_t i = 0; i < kept; i++) {
        log_apply_batch(&node->disk.log, &node->batches[i]);
        node->disk.hard_state = node->batches[i].hard_state;
    }
    node->alive = false;
    ls_core_close(node->core);
    node->core = NULL;
    node->role = LS_ROLE_FOLLOWER;
    node->held.count = 0;
    node->batches_count = 0;
    node->deadline_us = UINT64_MAX;
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        if (i != node->number) {
            realm_link(node, &realm->nodes[i], false);
        }
    }
    for (size_t i = 0; i < realm->reads_count; i++) {
        if (realm->reads[i].node == node->number && !realm->reads[i].done) {
            realm->reads[i].done = true;
            realm->reads[i].status = LS_ERR_CLOSED;
        }
    }
}

static void keep_ghost(struct node *node)
{
    log_copy(&node->ghost, &node->disk.log);
    node->ghost_incarnation = node->incarnation;
}

void realm_wipe(struct node *node)
{
    LS_ASSERT(!node->alive);
    keep_ghost(node);
    free(node->ghost_votes);
    node->ghost_votes = node->votes;
    node->ghost_votes_count = node->votes_count;
    log_release(&node->disk.log);
    node->disk = (struct disk){0};
    node->acked = (struct ls_cursor){0, 0};
    node->incarnation++;
    node->votes = NULL;
    node->votes_count = 0;
    node->realm->damaged++;
}

void realm_tear(struct node *node, size_t count)
{
    LS_ASSERT(!node->alive && count <= node->disk.log.count);
    keep_ghost(node);
    node->disk.torn = true;
    node->acked = (struct ls_cursor){0, 0};
    node->disk.log.count -= count;
    node->realm->damaged++;
}
