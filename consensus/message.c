/* SPDX-License-Identifier: MIT */
/*
 * The border of the core: what no correct peer can send. Legal but unwanted messages (stale terms,
 * duplicates, strangers) pass here and are ignored with a trace by the handlers.
 */
#include <lockstep/core.h>

static const char *cursor_invalid(struct ls_cursor cursor, ls_term term)
{
    if ((cursor.index == 0) != (cursor.term == 0)) {
        return "a cursor with half a position";
    }
    return cursor.term > term ? "a position of a later term than the message" : NULL;
}

static const char *append_invalid(const struct ls_append *append, ls_term term)
{
    const char *reason = cursor_invalid(append->prev, term);
    if (reason != NULL) {
        return reason;
    }
    if (append->count > LS_APPEND_ENTRIES_MAX) {
        return "more entries than an append holds";
    }
    if (append->prev.index > UINT64_MAX - LS_APPEND_ENTRIES_MAX) {
        return "an index out of range";
    }
    if (append->count > 0 && append->entries == NULL) {
        return "entries are missing";
    }
    uint64_t bytes = 0;
    ls_term before = append->prev.term;
    for (uint32_t i = 0; i < append->count; i++) {
        const struct ls_entry *entry = &append->entries[i];
        if (entry->term == 0 || entry->term < before || entry->term > term) {
            return "entry terms are not ascending up to the message's";
        }
        if (entry->kind < LS_ENTRY_COMMAND || entry->kind > LS_ENTRY_MARKER) {
            return "an unknown kind of entry";
        }
        if (entry->data.bytes > LS_ENTRY_BYTES_MAX) {
            return "an entry over the limit";
        }
        if (entry->data.bytes > 0 && entry->data.data == NULL) {
            return "an entry without its payload";
        }
        bytes += entry->data.bytes;
        before = entry->term;
    }
    if (append->count > 1 && bytes > LS_APPEND_BYTES_MAX) {
        return "more bytes than an append holds";
    }
    return NULL;
}

static const char *append_reply_invalid(const struct ls_append_reply *reply, ls_term term)
{
    const char *reason = cursor_invalid(reply->prev, UINT64_MAX);
    if (reason != NULL) {
        return reason;
    }
    if (reply->match > reply->last) {
        return "a match above the last index";
    }
    if (reply->accepted) {
        return reply->match < reply->prev.index ? "accepted less than prev" : NULL;
    }
    reason = cursor_invalid(reply->hint, term);
    if (reason != NULL) {
        return reason;
    }
    if (reply->hint.index > reply->prev.index || reply->hint.term > reply->prev.term) {
        return "a hint above what was rejected";
    }
    return NULL;
}

static const char *vote_reply_invalid(const struct ls_vote_reply *reply)
{
    return reply->granted && reply->not_member ? "a vote for one who is no member" : NULL;
}

/* A refusal may come from a member that has seen no term yet. */
static bool may_have_no_term(const struct ls_message *message)
{
    return (message->kind == LS_MESSAGE_PRE_VOTE_REPLY && !message->as.vote_reply.granted) ||
           (message->kind == LS_MESSAGE_VOTE_REPLY && !message->as.vote_reply.granted) ||
           (message->kind == LS_MESSAGE_READ_INDEX_REPLY && !message->as.read_index_reply.valid);
}

const char *ls_message_invalid(const struct ls_message *message)
{
    if (ls_peer_id_is_zero(&message->from) || ls_peer_id_is_zero(&message->to)) {
        return "from or to nobody";
    }
    if (ls_peer_id_equal(&message->from, &message->to)) {
        return "from and to the same member";
    }
    if (message->term == 0 && !may_have_no_term(message)) {
        return "without a term";
    }
    if (message->term == UINT64_MAX) {
        return "a term out of range"; /* there would be no later one */
    }
    switch (message->kind) {
    case LS_MESSAGE_PRE_VOTE:
    case LS_MESSAGE_VOTE:
        /* a candidate's log ends in an earlier term than the one it starts */
        return cursor_invalid(message->as.vote.last, message->term - 1);
    case LS_MESSAGE_PRE_VOTE_REPLY:
    case LS_MESSAGE_VOTE_REPLY:
        return vote_reply_invalid(&message->as.vote_reply);
    case LS_MESSAGE_APPEND:
        return append_invalid(&message->as.append, message->term);
    case LS_MESSAGE_APPEND_REPLY:
        return append_reply_invalid(&message->as.append_reply, message->term);
    case LS_MESSAGE_HEARTBEAT_REPLY:
        return message->as.heartbeat_reply.match > message->as.heartbeat_reply.last
                   ? "a match above the last index"
                   : NULL;
    case LS_MESSAGE_HEARTBEAT:
    case LS_MESSAGE_READ_INDEX:
    case LS_MESSAGE_READ_INDEX_REPLY:
    case LS_MESSAGE_TIMEOUT_NOW:
        return NULL;
    default:
        return "an unknown kind of message";
    }
}
