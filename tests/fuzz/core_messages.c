/* SPDX-License-Identifier: MIT */
/*
 * One core among peers that may say anything. Every message that passes the border, in any order,
 * between all that its driver may do: it may be led astray, it may halt, but no invariant breaks
 * and nothing asserts, commit never goes back, and what it calls durable was persisted.
 *
 * Each byte is what happens (low four bits) and from whom (the next two); most are followed by
 * numbers of one byte: small, near the end of the log, or near the end of all numbers.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include <lockstep/core.h>

enum { MEMBERS = 3, EVENTS_MAX = 300, ENTRIES = 4, KINDS = 16 };
/* no election gets near the end of terms, and there is none after it */
#define TERM_MAX (UINT64_MAX / 2)

struct script {
    const uint8_t *data;
    size_t size, at;
    struct ls_core *core;
    uint64_t now_us, staged_seq, reads, allocations, refuse_at;
    struct ls_incarnation incarnations[MEMBERS];
    struct ls_configuration configuration;
    uint8_t payload[LS_CONFIGURATION_BYTES_MAX];
    size_t payload_bytes;
    /* of the last ready */
    ls_index commit, durable, last, applied;
    ls_term term;
    bool halted;
};

static void *script_allocate(void *self, void *block, size_t bytes)
{
    struct script *script = self;
    if (bytes == 0) {
        free(block);
        return NULL;
    }
    return ++script->allocations == script->refuse_at ? NULL : realloc(block, bytes);
}

static uint8_t next(struct script *script)
{
    return script->at < script->size ? script->data[script->at++] : 0;
}

static uint64_t number(struct script *script, uint64_t base)
{
    uint8_t byte = next(script);
    uint64_t low = byte & 31u;
    switch (byte >> 5) {
    case 5:
        return base + low;
    case 6:
        return base > low ? base - low : 0;
    case 7:
        return UINT64_MAX - (low & 16u) * LS_APPEND_ENTRIES_MAX - (low & 15u);
    default:
        return low;
    }
}

static struct ls_peer_id id_of(uint32_t at)
{
    return (struct ls_peer_id){.bytes = {(uint8_t)(at + 1)}};
}

/* A position that is near the truth, mostly. */
static struct ls_cursor cursor(struct script *script)
{
    ls_index index = number(script, script->last);
    ls_term known = ls_core_term_at(script->core, index);
    uint8_t byte = next(script);
    struct ls_cursor at = {(byte & 128u) == 0 ? known : byte & 31u, index};
    return at;
}

static uint32_t entries_of(struct script *script, ls_term from, struct ls_entry *entries)
{
    uint8_t byte = next(script);
    uint32_t count = byte % (ENTRIES + 1);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t detail = next(script);
        from += detail >> 6;
        entries[i] = (struct ls_entry){.term = from, .kind = (enum ls_entry_kind)(1 + detail % 4)};
        if (entries[i].kind == LS_ENTRY_CONFIGURATION) {
            size_t bytes = (detail & 16u) != 0 ? script->payload_bytes / 2 : script->payload_bytes;
            entries[i].data = (struct ls_span){script->payload, bytes};
        } else {
            entries[i].data = (struct ls_span){script->payload, (detail >> 2) & 15u};
        }
    }
    return count;
}

static void step(struct script *script, struct ls_event *event)
{
    const struct ls_ready *ready = NULL;
    event->now_us = script->now_us;
    enum ls_status status = ls_core_step(script->core, event, &ready);
    ls_core_check(script->core);
    LS_ASSERT(status == LS_OK || status == LS_ERR_NO_MEMORY);
    if (status != LS_OK) {
        return;
    }
    LS_ASSERT(ready->commit >= script->commit && ready->commit <= ready->last);
    LS_ASSERT(ready->term >= script->term && ready->durable <= ready->last);
    LS_ASSERT(!script->halted || (ready->halted != LS_OK && ready->persist_seq == 0));
    LS_ASSERT(ready->persist_seq == 0 || ready->persist_seq > script->staged_seq);
    for (size_t i = 0; i < ready->messages_count; i++) {
        const struct ls_outgoing *out = &ready->messages[i];
        struct ls_message message = out->message;
        if (message.kind == LS_MESSAGE_APPEND) {
            message.as.append.count = 0; /* the driver fills them in */
        }
        LS_ASSERT(ls_message_invalid(&message) == NULL);
        LS_ASSERT(out->after <= (ready->persist_seq > 0 ? ready->persist_seq : script->staged_seq));
    }
    script->staged_seq = ready->persist_seq > 0 ? ready->persist_seq : script->staged_seq;
    script->commit = ready->commit;
    script->durable = ready->durable;
    script->last = ready->last;
    script->term = ready->term;
    script->halted = ready->halted != LS_OK;
}

static void fill_append(struct script *script, struct ls_message *message,
                        struct ls_entry entries[ENTRIES])
{
    struct ls_append *append = &message->as.append;
    append->prev = cursor(script);
    append->commit = number(script, script->last);
    append->count = entries_of(script, append->prev.term == 0 ? 1 : append->prev.term, entries);
    append->entries = entries;
    append->syncing = (next(script) & 1u) != 0;
}

static void fill_reply(struct script *script, struct ls_message *message)
{
    uint8_t flags = next(script);
    if (message->kind == LS_MESSAGE_APPEND_REPLY) {
        struct ls_append_reply *reply = &message->as.append_reply;
        reply->accepted = (flags & 1u) != 0;
        reply->counts = (flags & 2u) != 0;
        reply->prev = cursor(script);
        reply->match = number(script, script->last);
        reply->last = number(script, script->last);
        reply->hint = reply->accepted ? (struct ls_cursor){0, 0} : cursor(script);
    } else if (message->kind == LS_MESSAGE_HEARTBEAT_REPLY) {
        struct ls_heartbeat_reply *reply = &message->as.heartbeat_reply;
        reply->counts = (flags & 1u) != 0;
        reply->round = number(script, flags);
        reply->last = number(script, script->last);
        reply->match = number(script, script->commit);
    } else {
        struct ls_vote_reply *reply = &message->as.vote_reply;
        reply->granted = (flags & 1u) != 0;
        reply->transfer = (flags & 2u) != 0;
        reply->not_member = (flags & 4u) != 0;
    }
}

static void receive(struct script *script, enum ls_message_kind kind, uint32_t from)
{
    struct ls_entry entries[ENTRIES];
    struct ls_message message = {.kind = kind,
                                 .from = id_of(from),
                                 .to = id_of(0),
                                 .incarnation = script->incarnations[from % MEMBERS],
                                 .term = number(script, script->term)};
    switch (kind) {
    case LS_MESSAGE_PRE_VOTE:
    case LS_MESSAGE_VOTE:
        message.as.vote.last = cursor(script);
        message.as.vote.transfer = (next(script) & 1u) != 0;
        break;
    case LS_MESSAGE_APPEND:
        fill_append(script, &message, entries);
        break;
    case LS_MESSAGE_HEARTBEAT:
        message.as.heartbeat.commit = number(script, script->last);
        message.as.heartbeat.sent = number(script, script->last);
        message.as.heartbeat.round = number(script, script->term);
        message.as.heartbeat.prune_safe = number(script, script->commit);
        message.as.heartbeat.syncing = (next(script) & 1u) != 0;
        break;
    case LS_MESSAGE_READ_INDEX:
        message.as.read_index.token = number(script, script->reads);
        break;
    case LS_MESSAGE_READ_INDEX_REPLY:
        message.as.read_index_reply.token = number(script, script->reads);
        message.as.read_index_reply.valid = (next(script) & 1u) != 0;
        message.as.read_index_reply.index = number(script, script->commit);
        break;
    case LS_MESSAGE_TIMEOUT_NOW:
        break;
    case LS_MESSAGE_PRE_VOTE_REPLY:
    case LS_MESSAGE_VOTE_REPLY:
    case LS_MESSAGE_APPEND_REPLY:
    case LS_MESSAGE_HEARTBEAT_REPLY:
        fill_reply(script, &message);
        break;
    }
    if (message.term <= TERM_MAX && ls_message_invalid(&message) == NULL) {
        step(script, &(struct ls_event){.kind = LS_EVENT_MESSAGE, .as.message = &message});
    }
}

static void sync(struct script *script, uint8_t detail)
{
    struct ls_entry entries[ENTRIES];
    struct ls_event event = {.kind = LS_EVENT_SYNCED};
    if ((detail & 1u) != 0) {
        event.kind = LS_EVENT_RESTORED;
        event.as.restored.anchor = cursor(script);
        event.as.restored.configuration = &script->configuration;
        event.as.restored.configuration_index = 1;
        if (event.as.restored.anchor.index >= UINT32_MAX) {
            return; /* a snapshot is checked before it is told */
        }
    } else {
        event.as.synced.term = number(script, script->term);
        event.as.synced.prev = cursor(script);
        event.as.synced.commit = number(script, script->last);
        event.as.synced.count = entries_of(
            script, event.as.synced.prev.term == 0 ? 1 : event.as.synced.prev.term, entries);
        event.as.synced.entries = entries;
        if (event.as.synced.prev.index >= UINT32_MAX || event.as.synced.term > TERM_MAX) {
            return; /* a session hands over what follows its log */
        }
    }
    step(script, &event);
}

/* What its own driver does, within what a driver may do. */
static void drive(struct script *script, uint8_t what, uint32_t from)
{
    struct ls_event event = {.kind = LS_EVENT_TICK};
    struct ls_entry entries[ENTRIES];
    uint8_t detail = next(script);
    ls_index both = script->commit < script->durable ? script->commit : script->durable;
    switch (what) {
    case 0:
        script->now_us += (uint64_t)detail * 5000u;
        break;
    case 12:
        event.kind = LS_EVENT_PERSISTED;
        event.as.persisted_seq = script->staged_seq;
        break;
    case 13:
        event.kind = LS_EVENT_PROPOSE;
        for (uint32_t i = 0; i < ENTRIES; i++) {
            entries[i] =
                (struct ls_entry){.kind = LS_ENTRY_COMMAND, .data = {script->payload, detail >> 2}};
        }
        event.as.propose.entries = entries;
        event.as.propose.count = 1 + detail % ENTRIES;
        break;
    case 14:
        event.kind = (detail & 1u) != 0 ? LS_EVENT_READ : LS_EVENT_TRANSFER;
        if (event.kind == LS_EVENT_READ) {
            event.as.read_token = ++script->reads;
        } else {
            event.as.transfer_to = id_of(detail >> 1);
        }
        break;
    default:
        event.kind = LS_EVENT_LINK;
        event.as.link.peer = id_of(from);
        script->incarnations[from].bytes[1] = (detail & 14u) == 14u;
        event.as.link.incarnation = script->incarnations[from];
        event.as.link.up = (detail & 1u) != 0;
        if ((detail & 128u) != 0) {
            sync(script, detail);
            return;
        }
        if ((detail & 64u) != 0) {
            event.kind = (detail & 32u) != 0 ? LS_EVENT_PRUNED : LS_EVENT_APPLIED;
            script->applied = event.kind == LS_EVENT_APPLIED ? both : script->applied;
            event.as.applied = script->applied;
        } else if ((detail & 32u) != 0) {
            script->refuse_at = script->allocations + 1 + (detail & 7u);
            return;
        }
        break;
    }
    step(script, &event);
}

static void open_core(struct script *script, const struct ls_env *env)
{
    static const struct ls_group_id group = {{1}};
    static const struct ls_cursor run = {1, 1};
    static struct ls_configuration_at at;
    const uint32_t cached = 100;
    script->configuration.count = MEMBERS;
    for (uint32_t i = 0; i < MEMBERS; i++) {
        struct ls_member *member = &script->configuration.members[i];
        script->incarnations[i].bytes[0] = (uint8_t)(i + 1);
        *member = (struct ls_member){.id = id_of(i),
                                     .incarnation = script->incarnations[i],
                                     .role = LS_MEMBER_VOTER,
                                     .name = {(char)('a' + (int)i)}};
    }
    at = (struct ls_configuration_at){1, script->configuration};
    LS_ASSERT(ls_configuration_encode(&env->codec, &script->configuration, script->payload,
                                      sizeof script->payload, &script->payload_bytes) == LS_OK);
    const struct ls_core_config config = {.size = sizeof config,
                                          .env = env,
                                          .group = &group,
                                          .self = id_of(0),
                                          .incarnation = script->incarnations[0],
                                          .hard_state = {.term = 1},
                                          .runs = &run,
                                          .runs_count = 1,
                                          .last = 1,
                                          .configurations = &at,
                                          .configurations_count = 1,
                                          .cached_bytes = &cached,
                                          .cached_count = 1,
                                          .commit_floor = 1,
                                          .applied = 1,
                                          .founders = &script->configuration,
                                          .seed = 7,
                                          .now_us = script->now_us,
                                          .election_ms = 150,
                                          .heartbeat_ms = 30,
                                          .reluctance = 1,
                                          .window_bytes = 1000,
                                          .cache_bytes = 2000};
    struct ls_error error;
    LS_ASSERT(ls_core_open(&config, &script->core, &error) == LS_OK);
    script->commit = script->durable = script->last = script->applied = script->term = 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script script = {.data = data, .size = size, .now_us = 1000000};
    const struct ls_env env = {.size = sizeof env,
                               .self = &script,
                               .allocate = script_allocate,
                               .codec = ls_env_default()->codec};
    open_core(&script, &env);
    for (unsigned events = 0; script.at < size && events < EVENTS_MAX; events++) {
        uint8_t what = next(&script);
        uint32_t from = 1 + (what >> 4) % (MEMBERS - 1);
        if (what % KINDS >= LS_MESSAGE_PRE_VOTE && what % KINDS <= LS_MESSAGE_TIMEOUT_NOW) {
            receive(&script, (enum ls_message_kind)(what % KINDS), from);
        } else {
            drive(&script, what % KINDS, from);
        }
    }
    ls_core_close(script.core);
    return 0;
}
