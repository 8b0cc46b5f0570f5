/* SPDX-License-Identifier: MIT */
/*
 * Frames of a bond. Each is one msgpack array whose length is fixed by its kind, so that a missing
 * or an additional field is an error and not a guess. A cursor is two fields, term then index.
 *
 *   every frame      version = 1, kind, ...
 *   1 CORE           message kind, term, ...
 *       1 PRE_VOTE, 3 VOTE               last cursor, transfer?
 *       2 PRE_VOTE_REPLY, 4 VOTE_REPLY   granted?, transfer?, not_member?
 *       5 APPEND            prev cursor, commit, syncing?, [term, kind, payload, term, kind, ...]
 *       6 APPEND_REPLY      accepted?, counts?, prev cursor, match, hint cursor, last
 *       7 HEARTBEAT         commit, sent, round, prune_safe, syncing?
 *       8 HEARTBEAT_REPLY   round, last, match, counts?
 *       9 READ_INDEX        token
 *      10 READ_INDEX_REPLY  token, valid?, index
 *      11 TIMEOUT_NOW       nothing
 *   2 FORWARD        id, forward kind, deadline_ms, target, [command, ...]
 *   3 FORWARD_REPLY  id, status, first cursor, [reply, ...]
 *   4 SYNC           tag, to_session?, bytes
 *   5 NOTE           role, term, commit, applied, first index of the log, sync phase, percent,
 * serves
 *
 * Numbers are unsigned integers, `?` is a boolean, payloads and bytes are bin, target is a bin of
 * 32 bytes, or of none for nobody. Who sent a frame is not in it: the bond knows.
 *
 * The fields of a kind are listed once, in a function that passes over a frame in either direction;
 * tests hold the bytes of every kind. A frame is decoded only after ls__codec_check proved all its
 * counts, and arrays grow by counts that passed the limits too.
 */
#include <lockstep/core.h>
#include <lockstep/wire.h>

#include "codec.h"

enum {
    WIRE_VERSION = 1,
    FIELDS_HEAD = 2, /* version, kind */
    FIELDS_ENTRY = 3,
    FIELDS_NOTE = 8,
    NOTE_PHASE_MAX = 8,      /* LS_SYNC_BACKING_OFF */
    HEADERS_BYTES_MAX = 256, /* all of a frame but its arrays and payloads */
    ENTRY_HEADER_BYTES_MAX = 16,
    SPAN_HEADER_BYTES_MAX = 5,
    /* an estimate is above what a frame takes by less than all headers in it */
    ESTIMATE_SLACK_BYTES = HEADERS_BYTES_MAX + LS_APPEND_ENTRIES_MAX * ENTRY_HEADER_BYTES_MAX,
    BUFFER_BYTES_MIN = 512,
    ARRAY_COUNT_MIN = 64
};

LS_STATIC_ASSERT(LS_PROPOSE_ENTRIES_MAX *SPAN_HEADER_BYTES_MAX <=
                     LS_APPEND_ENTRIES_MAX * ENTRY_HEADER_BYTES_MAX,
                 "the slack covers spans too");

struct ls_wire_decoder {
    struct ls_env env;
    struct ls_entry *entries;
    size_t entries_capacity;
    struct ls_span *spans;
    size_t spans_capacity;
};

/* One pass over a frame: writes its fields, or reads them until the first that is wrong. */
struct pass {
    struct ls__writer *writer; /* NULL: reading */
    struct ls__scan scan;
    struct ls_wire_decoder *decoder;
    enum ls_status status;
    const char *reason;
    uint32_t fields; /* passed so far */
};

static void fail(struct pass *pass, enum ls_status status, const char *reason)
{
    if (pass->status == LS_OK) {
        pass->status = status;
        pass->reason = reason;
    }
}

static void protocol(struct pass *pass, const char *reason)
{
    fail(pass, LS_ERR_PROTOCOL, reason);
}

/* Reads a token of that kind. */
static bool take(struct pass *pass, enum ls__token_kind kind, struct ls__token *token)
{
    if (pass->status != LS_OK) {
        return false;
    }
    if (!ls__scan_next(&pass->scan, token)) {
        protocol(pass, pass->scan.reason);
        return false;
    }
    if (token->kind != kind) {
        protocol(pass, "a field is of another kind than expected");
        return false;
    }
    return true;
}

static void pass_number(struct pass *pass, uint64_t *number)
{
    struct ls__token token;
    pass->fields++;
    if (pass->writer != NULL) {
        ls__write_number(pass->writer, *number);
    } else if (take(pass, LS__TOKEN_UINT, &token)) {
        *number = token.number;
    }
}

/* A number that may not be above `most`: reading stores it nowhere else. */
static void pass_small(struct pass *pass, uint32_t *number, uint32_t most, const char *reason)
{
    uint64_t wide = *number;
    pass_number(pass, &wide);
    if (wide > most) {
        protocol(pass, reason);
        return;
    }
    *number = (uint32_t)wide;
}

static void pass_bool(struct pass *pass, bool *value)
{
    struct ls__token token;
    pass->fields++;
    if (pass->writer != NULL) {
        ls__write_bool(pass->writer, *value);
    } else if (take(pass, LS__TOKEN_BOOL, &token)) {
        *value = token.number != 0;
    }
}

static void pass_cursor(struct pass *pass, struct ls_cursor *cursor)
{
    pass_number(pass, &cursor->term);
    pass_number(pass, &cursor->index);
}

static void pass_bytes(struct pass *pass, struct ls_span *span)
{
    struct ls__token token;
    pass->fields++;
    if (pass->writer != NULL) {
        ls__write_bytes(pass->writer, *span);
    } else if (take(pass, LS__TOKEN_BYTES, &token)) {
        *span = token.bytes;
    }
}

/* Makes room for `count` elements; the pre-scan has seen that many. What was there is not kept. */
static bool reserve(struct pass *pass, void **array, size_t *capacity, size_t count,
                    size_t element_bytes)
{
    const struct ls_env *env = &pass->decoder->env;
    if (count <= *capacity) {
        return true;
    }
    size_t room = *capacity > ARRAY_COUNT_MIN ? *capacity : ARRAY_COUNT_MIN;
    while (room < count) {
        room *= 2;
    }
    void *grown = env->allocate(env->self, NULL, room * element_bytes);
    if (grown == NULL) {
        fail(pass, LS_ERR_NO_MEMORY, "no memory for the elements of a frame");
        return false;
    }
    if (*array != NULL) {
        (void)env->allocate(env->self, *array, 0);
    }
    *array = grown;
    *capacity = room;
    return true;
}

static void write_entries(struct ls__writer *writer, const struct ls_append *append)
{
    ls__write_array(writer, (size_t)append->count * FIELDS_ENTRY);
    for (uint32_t i = 0; i < append->count; i++) {
        ls__write_number(writer, append->entries[i].term);
        ls__write_number(writer, append->entries[i].kind);
        ls__write_bytes(writer, append->entries[i].data);
    }
}

static const char *read_entry(struct ls__scan *scan, struct ls_entry *entry)
{
    struct ls__token term;
    struct ls__token kind;
    struct ls__token data;
    if (!ls__scan_next(scan, &term) || !ls__scan_next(scan, &kind) || !ls__scan_next(scan, &data)) {
        return scan->reason;
    }
    if (term.kind != LS__TOKEN_UINT || kind.kind != LS__TOKEN_UINT ||
        data.kind != LS__TOKEN_BYTES) {
        return "a field of an entry is of another kind than expected";
    }
    if (kind.number < LS_ENTRY_COMMAND || kind.number > LS_ENTRY_MARKER) {
        return "unknown kind of entry";
    }
    *entry = (struct ls_entry){term.number, (enum ls_entry_kind)kind.number, data.bytes};
    return NULL;
}

static void pass_entries(struct pass *pass, struct ls_append *append)
{
    struct ls__token token;
    pass->fields++;
    if (pass->writer != NULL) {
        write_entries(pass->writer, append);
        return;
    }
    if (!take(pass, LS__TOKEN_ARRAY, &token)) {
        return;
    }
    if (token.number % FIELDS_ENTRY != 0 || token.number / FIELDS_ENTRY > LS_APPEND_ENTRIES_MAX) {
        protocol(pass, "more entries than an append may have, or a part of one");
        return;
    }
    struct ls_wire_decoder *decoder = pass->decoder;
    uint32_t count = (uint32_t)token.number / FIELDS_ENTRY;
    void *array = decoder->entries;
    if (!reserve(pass, &array, &decoder->entries_capacity, count, sizeof *decoder->entries)) {
        return;
    }
    decoder->entries = array;
    struct ls__scan scan = pass->scan; /* a local the compiler can keep in registers */
    for (uint32_t i = 0; i < count; i++) {
        const char *reason = read_entry(&scan, &decoder->entries[i]);
        if (reason != NULL) {
            protocol(pass, reason);
            return;
        }
    }
    pass->scan = scan;
    append->entries = count > 0 ? decoder->entries : NULL;
    append->count = count;
}

static void pass_spans(struct pass *pass, const struct ls_span **spans, uint32_t *count)
{
    struct ls__token token;
    pass->fields++;
    if (pass->writer != NULL) {
        ls__write_array(pass->writer, *count);
        for (uint32_t i = 0; i < *count; i++) {
            ls__write_bytes(pass->writer, (*spans)[i]);
        }
        return;
    }
    if (!take(pass, LS__TOKEN_ARRAY, &token)) {
        return;
    }
    if (token.number > LS_PROPOSE_ENTRIES_MAX) {
        protocol(pass, "more commands or replies than one proposal may have");
        return;
    }
    struct ls_wire_decoder *decoder = pass->decoder;
    void *array = decoder->spans;
    if (!reserve(pass, &array, &decoder->spans_capacity, (size_t)token.number,
                 sizeof *decoder->spans)) {
        return;
    }
    decoder->spans = array;
    *count = (uint32_t)token.number;
    for (uint32_t i = 0; i < *count; i++) {
        if (!take(pass, LS__TOKEN_BYTES, &token)) {
            return;
        }
        decoder->spans[i] = token.bytes;
    }
    *spans = *count > 0 ? decoder->spans : NULL;
}

/* Fields of a core message behind its kind and term. */
static uint32_t core_fields(enum ls_message_kind kind)
{
    static const uint8_t fields[] = {[LS_MESSAGE_PRE_VOTE] = 3,   [LS_MESSAGE_PRE_VOTE_REPLY] = 3,
                                     [LS_MESSAGE_VOTE] = 3,       [LS_MESSAGE_VOTE_REPLY] = 3,
                                     [LS_MESSAGE_APPEND] = 5,     [LS_MESSAGE_APPEND_REPLY] = 8,
                                     [LS_MESSAGE_HEARTBEAT] = 5,  [LS_MESSAGE_HEARTBEAT_REPLY] = 4,
                                     [LS_MESSAGE_READ_INDEX] = 1, [LS_MESSAGE_READ_INDEX_REPLY] = 3,
                                     [LS_MESSAGE_TIMEOUT_NOW] = 0};
    LS_ASSERT(kind < sizeof fields);
    return fields[kind];
}

static void pass_core_body(struct pass *pass, struct ls_message *message)
{
    switch (message->kind) {
    case LS_MESSAGE_PRE_VOTE:
    case LS_MESSAGE_VOTE:
        pass_cursor(pass, &message->as.vote.last);
        pass_bool(pass, &message->as.vote.transfer);
        break;
    case LS_MESSAGE_PRE_VOTE_REPLY:
    case LS_MESSAGE_VOTE_REPLY:
        pass_bool(pass, &message->as.vote_reply.granted);
        pass_bool(pass, &message->as.vote_reply.transfer);
        pass_bool(pass, &message->as.vote_reply.not_member);
        break;
    case LS_MESSAGE_APPEND:
        pass_cursor(pass, &message->as.append.prev);
        pass_number(pass, &message->as.append.commit);
        pass_bool(pass, &message->as.append.syncing);
        pass_entries(pass, &message->as.append);
        break;
    case LS_MESSAGE_APPEND_REPLY:
        pass_bool(pass, &message->as.append_reply.accepted);
        pass_bool(pass, &message->as.append_reply.counts);
        pass_cursor(pass, &message->as.append_reply.prev);
        pass_number(pass, &message->as.append_reply.match);
        pass_cursor(pass, &message->as.append_reply.hint);
        pass_number(pass, &message->as.append_reply.last);
        break;
    case LS_MESSAGE_HEARTBEAT:
        pass_number(pass, &message->as.heartbeat.commit);
        pass_number(pass, &message->as.heartbeat.sent);
        pass_number(pass, &message->as.heartbeat.round);
        pass_number(pass, &message->as.heartbeat.prune_safe);
        pass_bool(pass, &message->as.heartbeat.syncing);
        break;
    case LS_MESSAGE_HEARTBEAT_REPLY:
        pass_number(pass, &message->as.heartbeat_reply.round);
        pass_number(pass, &message->as.heartbeat_reply.last);
        pass_number(pass, &message->as.heartbeat_reply.match);
        pass_bool(pass, &message->as.heartbeat_reply.counts);
        break;
    case LS_MESSAGE_READ_INDEX:
        pass_number(pass, &message->as.read_index.token);
        break;
    case LS_MESSAGE_READ_INDEX_REPLY:
        pass_number(pass, &message->as.read_index_reply.token);
        pass_bool(pass, &message->as.read_index_reply.valid);
        pass_number(pass, &message->as.read_index_reply.index);
        break;
    case LS_MESSAGE_TIMEOUT_NOW:
        break;
    }
}

/* A reader learns the array's length first; the fields that the kind should have must agree. */
static void expect_fields(struct pass *pass, uint32_t announced, uint32_t expected)
{
    if (pass->writer == NULL && announced != expected) {
        protocol(pass, "a frame has more or fewer fields than its kind");
    }
}

/* An enum as a field: 1 .. most, or 0 .. most. */
static uint32_t pass_kind(struct pass *pass, uint32_t value, uint32_t least, uint32_t most)
{
    pass_small(pass, &value, most, "unknown kind or status");
    if (value < least) {
        protocol(pass, "unknown kind or status");
    }
    return value;
}

static void pass_core(struct pass *pass, struct ls_message *message, uint32_t announced)
{
    message->kind = (enum ls_message_kind)pass_kind(pass, message->kind, LS_MESSAGE_PRE_VOTE,
                                                    LS_MESSAGE_TIMEOUT_NOW);
    pass_number(pass, &message->term);
    if (pass->status == LS_OK) {
        expect_fields(pass, announced, FIELDS_HEAD + 2 + core_fields(message->kind));
        pass_core_body(pass, message);
    }
}

static void pass_target(struct pass *pass, struct ls_peer_id *target)
{
    struct ls_span span = {target->bytes, ls_peer_id_is_zero(target) ? 0 : sizeof target->bytes};
    pass_bytes(pass, &span);
    if (pass->writer != NULL || pass->status != LS_OK) {
        return;
    }
    if (span.bytes != 0 && span.bytes != sizeof target->bytes) {
        protocol(pass, "a peer id has neither 32 bytes nor none");
    } else if (span.bytes != 0) {
        (void)memcpy(target->bytes, span.data, sizeof target->bytes);
    }
}

static void pass_forward(struct pass *pass, struct ls_forward *forward, uint32_t announced)
{
    expect_fields(pass, announced, FIELDS_HEAD + 5);
    pass_number(pass, &forward->id);
    forward->kind = (enum ls_forward_kind)pass_kind(pass, forward->kind, LS_FORWARD_EXECUTE,
                                                    LS_FORWARD_TRANSFER);
    pass_small(pass, &forward->deadline_ms, UINT32_MAX, "a deadline above 32 bits");
    pass_target(pass, &forward->target);
    pass_spans(pass, &forward->commands, &forward->count);
}

static void pass_reply(struct pass *pass, struct ls_forward_reply *reply, uint32_t announced)
{
    expect_fields(pass, announced, FIELDS_HEAD + 5);
    pass_number(pass, &reply->id);
    reply->status = (enum ls_status)pass_kind(pass, reply->status, LS_OK, LS_ERR_UNREACHABLE);
    pass_cursor(pass, &reply->first);
    pass_spans(pass, &reply->replies, &reply->count);
}

static void pass_sync(struct pass *pass, struct ls_wire_sync *sync, uint32_t announced)
{
    expect_fields(pass, announced, FIELDS_HEAD + 3);
    pass_small(pass, &sync->tag, UINT32_MAX, "a tag above 32 bits");
    pass_bool(pass, &sync->to_session);
    pass_bytes(pass, &sync->bytes);
}

static void pass_note(struct pass *pass, struct ls_peer_note *note, uint32_t announced)
{
    expect_fields(pass, announced, FIELDS_HEAD + FIELDS_NOTE);
    note->role = (enum ls_role)pass_kind(pass, note->role, LS_ROLE_FOLLOWER, LS_ROLE_LEADER);
    pass_number(pass, &note->term);
    pass_number(pass, &note->commit);
    pass_number(pass, &note->applied);
    pass_number(pass, &note->log_first);
    pass_small(pass, &note->sync_phase, NOTE_PHASE_MAX, "an unknown phase of a state sync");
    pass_small(pass, &note->percent, 100, "more than 100 percent");
    pass_small(pass, &note->serves, LS_MEMBERS_MAX * LS_STATESYNCS_MAX,
               "more members served than there can be");
}

/* announced   reading: the length of the array. Writing: not looked at */
static void pass_frame(struct pass *pass, struct ls_wire_frame *frame, uint32_t announced)
{
    uint32_t version = WIRE_VERSION;
    pass_small(pass, &version, UINT32_MAX, "unknown version");
    if (version != WIRE_VERSION) {
        protocol(pass, "unknown version");
    }
    frame->kind = (enum ls_wire_kind)pass_kind(pass, frame->kind, LS_WIRE_CORE, LS_WIRE_NOTE);
    if (pass->status != LS_OK) {
        return;
    }
    switch (frame->kind) {
    case LS_WIRE_CORE:
        pass_core(pass, &frame->as.core, announced);
        break;
    case LS_WIRE_FORWARD:
        pass_forward(pass, &frame->as.forward, announced);
        break;
    case LS_WIRE_FORWARD_REPLY:
        pass_reply(pass, &frame->as.forward_reply, announced);
        break;
    case LS_WIRE_SYNC:
        pass_sync(pass, &frame->as.sync, announced);
        break;
    case LS_WIRE_NOTE:
        pass_note(pass, &frame->as.note, announced);
        break;
    }
}

static uint32_t frame_fields(const struct ls_wire_frame *frame)
{
    switch (frame->kind) {
    case LS_WIRE_CORE:
        return FIELDS_HEAD + 2 + core_fields(frame->as.core.kind);
    case LS_WIRE_FORWARD:
    case LS_WIRE_FORWARD_REPLY:
        return FIELDS_HEAD + 5;
    case LS_WIRE_SYNC:
        return FIELDS_HEAD + 3;
    case LS_WIRE_NOTE:
        return FIELDS_HEAD + FIELDS_NOTE;
    }
    return 0;
}

/* Adds a payload to an estimate that stops growing far above the limit: no sum overflows. */
static size_t add(size_t sum, size_t bytes)
{
    const size_t most = (size_t)LS_MESSAGE_BYTES_MAX * 2;
    return bytes > most - sum ? most : sum + bytes;
}

static size_t spans_bytes_max(const struct ls_span *spans, uint32_t count)
{
    size_t sum = HEADERS_BYTES_MAX;
    for (uint32_t i = 0; i < count; i++) {
        sum = add(sum, SPAN_HEADER_BYTES_MAX + spans[i].bytes);
    }
    return sum;
}

/* What the frame can take at most. */
static size_t frame_bytes_max(const struct ls_wire_frame *frame)
{
    size_t sum = HEADERS_BYTES_MAX;
    switch (frame->kind) {
    case LS_WIRE_CORE:
        if (frame->as.core.kind == LS_MESSAGE_APPEND) {
            const struct ls_append *append = &frame->as.core.as.append;
            for (uint32_t i = 0; i < append->count; i++) {
                sum = add(sum, ENTRY_HEADER_BYTES_MAX + append->entries[i].data.bytes);
            }
        }
        return sum;
    case LS_WIRE_FORWARD:
        return spans_bytes_max(frame->as.forward.commands, frame->as.forward.count);
    case LS_WIRE_FORWARD_REPLY:
        return spans_bytes_max(frame->as.forward_reply.replies, frame->as.forward_reply.count);
    case LS_WIRE_SYNC:
        return add(sum, frame->as.sync.bytes.bytes);
    case LS_WIRE_NOTE:
        return sum;
    }
    return sum;
}

/* The sender's side of what ls_wire_decode demands; consensus answers for its own messages. */
static void assert_sendable(const struct ls_wire_frame *frame)
{
    LS_ASSERT(frame->kind >= LS_WIRE_CORE && frame->kind <= LS_WIRE_NOTE);
    if (frame->kind == LS_WIRE_CORE && frame->as.core.kind == LS_MESSAGE_APPEND) {
        const struct ls_append *append = &frame->as.core.as.append;
        LS_ASSERT(append->count <= LS_APPEND_ENTRIES_MAX);
        LS_ASSERT(append->count == 0 || append->entries != NULL);
    } else if (frame->kind == LS_WIRE_FORWARD) {
        LS_ASSERT(ls_forward_invalid(&frame->as.forward) == NULL);
    } else if (frame->kind == LS_WIRE_FORWARD_REPLY) {
        LS_ASSERT(ls_forward_reply_invalid(&frame->as.forward_reply) == NULL);
    }
}

void ls_wire_buffer_free(struct ls_wire_buffer *buffer)
{
    if (buffer->data != NULL) {
        (void)buffer->env->allocate(buffer->env->self, buffer->data, 0);
    }
    buffer->data = NULL;
    buffer->bytes = 0;
    buffer->capacity = 0;
}

static enum ls_status buffer_reserve(struct ls_wire_buffer *buffer, size_t bytes)
{
    if (bytes <= buffer->capacity) {
        return LS_OK;
    }
    size_t room = buffer->capacity > BUFFER_BYTES_MIN ? buffer->capacity : BUFFER_BYTES_MIN;
    while (room < bytes) {
        room *= 2;
    }
    room = room > LS_MESSAGE_BYTES_MAX ? LS_MESSAGE_BYTES_MAX : room;
    uint8_t *grown = buffer->env->allocate(buffer->env->self, NULL, room);
    if (grown == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    ls_wire_buffer_free(buffer);
    buffer->data = grown;
    buffer->capacity = room;
    return LS_OK;
}

enum ls_status ls_wire_encode(const struct ls_wire_frame *frame, struct ls_wire_buffer *out)
{
    assert_sendable(frame);
    out->bytes = 0;
    size_t most = frame_bytes_max(frame);
    if (most > LS_MESSAGE_BYTES_MAX + ESTIMATE_SLACK_BYTES) {
        return LS_ERR_LIMIT;
    }
    enum ls_status status =
        buffer_reserve(out, most < LS_MESSAGE_BYTES_MAX ? most : LS_MESSAGE_BYTES_MAX);
    if (status != LS_OK) {
        return status;
    }
    struct ls_wire_frame copy = *frame; /* passes take what they could write to */
    struct ls__writer writer = {.data = out->data, .capacity = out->capacity};
    struct pass pass = {.writer = &writer};
    ls__write_array(&writer, frame_fields(frame));
    pass_frame(&pass, &copy, 0);
    LS_ASSERT(pass.status == LS_OK);
    LS_ASSERT(pass.fields == frame_fields(frame));
    if (writer.bytes > LS_MESSAGE_BYTES_MAX) {
        return LS_ERR_LIMIT;
    }
    LS_ASSERT(writer.bytes <= out->capacity);
    out->bytes = writer.bytes;
    return LS_OK;
}

enum ls_status ls_wire_decoder_open(const struct ls_env *env, struct ls_wire_decoder **out)
{
    struct ls_wire_decoder *decoder = env->allocate(env->self, NULL, sizeof *decoder);
    if (decoder == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    *decoder = (struct ls_wire_decoder){.env = *env};
    *out = decoder;
    return LS_OK;
}

void ls_wire_decoder_close(struct ls_wire_decoder *decoder)
{
    if (decoder == NULL) {
        return;
    }
    struct ls_env env = decoder->env;
    if (decoder->entries != NULL) {
        (void)env.allocate(env.self, decoder->entries, 0);
    }
    if (decoder->spans != NULL) {
        (void)env.allocate(env.self, decoder->spans, 0);
    }
    (void)env.allocate(env.self, decoder, 0);
}

/* Why a frame whose fields were all read is not well formed, or NULL. */
static const char *frame_invalid(struct ls_wire_frame *frame)
{
    switch (frame->kind) {
    case LS_WIRE_CORE: {
        /* two peers stand in for those that the bond knows */
        struct ls_message *message = &frame->as.core;
        message->from.bytes[0] = 1;
        message->to.bytes[0] = 2;
        const char *reason = ls_message_invalid(message);
        message->from.bytes[0] = 0;
        message->to.bytes[0] = 0;
        return reason;
    }
    case LS_WIRE_FORWARD:
        return ls_forward_invalid(&frame->as.forward);
    case LS_WIRE_FORWARD_REPLY:
        return ls_forward_reply_invalid(&frame->as.forward_reply);
    case LS_WIRE_SYNC:
    case LS_WIRE_NOTE:
        return NULL;
    }
    return "unknown kind of frame";
}

static enum ls_status decode(struct pass *pass, struct ls_span bytes, struct ls_wire_frame *out)
{
    struct ls__token head;
    const char *reason = bytes.bytes > LS_MESSAGE_BYTES_MAX ? "longer than a message may be"
                                                            : ls__codec_check(bytes);
    if (reason != NULL) {
        protocol(pass, reason);
        return pass->status;
    }
    pass->scan = ls__scan_open(bytes);
    if (take(pass, LS__TOKEN_ARRAY, &head)) {
        pass_frame(pass, out, (uint32_t)head.number);
    }
    if (pass->status == LS_OK) {
        LS_ASSERT(pass->scan.at == pass->scan.end); /* the pre-scan and the fields agree */
        reason = frame_invalid(out);
        if (reason != NULL) {
            protocol(pass, reason);
        }
    }
    return pass->status;
}

enum ls_status ls_wire_decode(struct ls_wire_decoder *decoder, struct ls_span bytes,
                              struct ls_wire_frame *out, const char **reason)
{
    struct pass pass = {.decoder = decoder};
    (void)memset(out, 0, sizeof *out);
    enum ls_status status = decode(&pass, bytes, out);
    if (status != LS_OK) {
        (void)memset(out, 0, sizeof *out);
    }
    if (reason != NULL) {
        *reason = pass.reason;
    }
    return status;
}

static const char *spans_invalid(const struct ls_span *spans, uint32_t count, size_t bytes_max)
{
    if (count > LS_PROPOSE_ENTRIES_MAX) {
        return "more commands or replies than one proposal may have";
    }
    if (count > 0 && spans == NULL) {
        return "commands or replies without an address";
    }
    for (uint32_t i = 0; i < count; i++) {
        if (spans[i].bytes > bytes_max) {
            return "a command or reply longer than the limit";
        }
        if (spans[i].bytes > 0 && spans[i].data == NULL) {
            return "a command or reply without an address";
        }
    }
    return NULL;
}

const char *ls_forward_invalid(const struct ls_forward *forward)
{
    switch (forward->kind) {
    case LS_FORWARD_EXECUTE:
    case LS_FORWARD_FEED:
        if (forward->count == 0) {
            return "a forwarded call without a command";
        }
        if (!ls_peer_id_is_zero(&forward->target)) {
            return "a forwarded command names a peer";
        }
        break;
    case LS_FORWARD_TRANSFER:
        if (forward->count != 0) {
            return "a forwarded transfer holds commands";
        }
        break;
    default:
        return "unknown kind of forwarded call";
    }
    return spans_invalid(forward->commands, forward->count, LS_ENTRY_BYTES_MAX);
}

const char *ls_forward_reply_invalid(const struct ls_forward_reply *reply)
{
    const struct ls_cursor *first = &reply->first;
    if (reply->status > LS_ERR_UNREACHABLE) {
        return "unknown status";
    }
    if ((first->term == 0) != (first->index == 0)) {
        return "a cursor with a term or an index alone";
    }
    if (reply->count == 0) {
        return NULL;
    }
    if (reply->status != LS_OK) {
        return "replies of a call that failed";
    }
    if (first->index == 0 || reply->count - 1 > UINT64_MAX - first->index) {
        return "replies without a place in the log";
    }
    return spans_invalid(reply->replies, reply->count, LS_MESSAGE_BYTES_MAX);
}
