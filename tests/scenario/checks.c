/* SPDX-License-Identifier: MIT */
/*
 * The safety properties, checked over all members together after every step. Each holds for any
 * correct run whatever the faults were (Raft paper, figure 3): one leader a term, log matching,
 * leader completeness, one command per applied index; and, closer to the implementation, that the
 * commit never regresses, that it rests on a quorum of disks, that a vote is cast once a term, that
 * what leaves a member is durable there first, and that a read sees everything committed before it.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "realm.h"

void realm_fail(struct realm *realm, const char *format, ...)
{
    char text[REALM_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    realm->failed(realm, text);
    abort();
}

#define REQUIRE(node, condition, ...)                                                              \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            require_failed((node), __VA_ARGS__);                                                   \
        }                                                                                          \
    } while (0)

static void require_failed(const struct node *node, const char *format, ...)
    __attribute__((format(printf, 2, 3))) __attribute__((noreturn));

static void require_failed(const struct node *node, const char *format, ...)
{
    char text[REALM_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    realm_fail(node->realm, "%s (term %" PRIu64 ", commit %" PRIu64 "): %s", node->name, node->term,
               node->commit, text);
}

static void *grow(void *block, size_t *count, size_t wanted, size_t item)
{
    if (wanted <= *count) {
        return block;
    }
    size_t next = *count == 0 ? 64 : *count;
    while (next < wanted) {
        next *= 2;
    }
    block = realloc(block, next * item);
    if (block == NULL) {
        abort();
    }
    (void)memset((uint8_t *)block + *count * item, 0, (next - *count) * item);
    *count = next;
    return block;
}

static struct known_index *known_at(struct realm *realm, ls_index index)
{
    realm->known = grow(realm->known, &realm->known_count, index + 1, sizeof *realm->known);
    return &realm->known[index];
}

/* P2, and the order of things in one ready, before the batch is staged. */
void check_ready_before(struct node *node, const struct ls_ready *ready)
{
    const struct ls_hard_state *now = &ready->hard_state;
    REQUIRE(node, ready->term == now->term,
            "ready.term %" PRIu64 " is not the hard state's %" PRIu64, ready->term, now->term);
    REQUIRE(node, ready->term >= node->term, "the term regressed to %" PRIu64, ready->term);
    REQUIRE(node, ready->commit >= node->commit, "the commit regressed to %" PRIu64, ready->commit);
    if (ready->persist_seq == 0) {
        REQUIRE(node,
                !ready->hard_state_changed && !ready->reset && !ready->truncate &&
                    ready->entries_count == 0,
                "something to persist without a batch number");
        return;
    }
    REQUIRE(node, ready->persist_seq > node->staged_seq, "batch %" PRIu64 " after %" PRIu64,
            ready->persist_seq, node->staged_seq);
    const struct ls_hard_state *before = node->batches_count > 0
                                             ? &node->batches[node->batches_count - 1].hard_state
                                             : &node->disk.hard_state;
    if (before->term == now->term && before->voted) {
        REQUIRE(node, now->voted && ls_peer_id_equal(&before->vote, &now->vote),
                "the vote of term %" PRIu64 " changed", now->term);
    }
    bool differs = before->term != now->term || before->voted != now->voted ||
                   !ls_peer_id_equal(&before->vote, &now->vote);
    REQUIRE(node, !differs || ready->hard_state_changed, "the hard state changed unannounced");
    if (ready->truncate && !ready->reset) {
        REQUIRE(node, ready->truncate_from > node->commit,
                "truncates from %" PRIu64 ", which is committed", ready->truncate_from);
    }
    if (ready->reset) {
        REQUIRE(node, ready->anchor.index >= node->commit, "reset to %" PRIu64 " below the commit",
                ready->anchor.index);
    }
}

/* Log matching by induction: (term, index) names one entry, and one term before it. */
void check_append(struct node *node, ls_index index, const struct ls_entry *entry)
{
    struct known_index *known = known_at(node->realm, index);
    struct known_entry now = {entry->term, log_term(&node->view, index - 1), entry_hash(entry)};
    REQUIRE(node, entry->term >= now.prev_term, "%" PRIu64 "^%" PRIu64 " follows term %" PRIu64,
            entry->term, index, now.prev_term);
    for (size_t i = 0; i < known->count; i++) {
        if (known->entries[i].term == entry->term) {
            REQUIRE(node,
                    known->entries[i].prev_term == now.prev_term &&
                        known->entries[i].hash == now.hash,
                    "two entries are called %" PRIu64 "^%" PRIu64, entry->term, index);
            return;
        }
    }
    known->entries = realloc(known->entries, (known->count + 1) * sizeof *known->entries);
    if (known->entries == NULL) {
        abort();
    }
    known->entries[known->count++] = now;
}

/* Does a member keep a promise: now, or (`ghost`) before it was wiped or torn? */
typedef bool holds_fn(const struct node *node, bool ghost, const void *arg);

/* Promises count for the recorded incarnation only; {0} records none yet. */
static bool promise_kept(const struct node *node, const struct ls_member *member, holds_fn *holds,
                         const void *arg)
{
    static const struct ls_incarnation none = {{0}};
    bool any = ls_incarnation_equal(&member->incarnation, &none);
    struct ls_incarnation present = realm_incarnation(node, node->incarnation);
    struct ls_incarnation ghost = realm_incarnation(node, node->ghost_incarnation);
    bool now = any || ls_incarnation_equal(&member->incarnation, &present);
    bool before =
        node->ghost_incarnation != 0 && (any || ls_incarnation_equal(&member->incarnation, &ghost));
    return (now && holds(node, false, arg)) || (before && holds(node, true, arg));
}

/* Do a majority of the voters of one half keep the promise? */
static bool quorum(const struct node *node, const struct ls_configuration *configuration,
                   bool outgoing, holds_fn *holds, const void *arg)
{
    unsigned voters = 0, holding = 0;
    for (uint32_t i = 0; i < configuration->count; i++) {
        const struct ls_member *member = &configuration->members[i];
        bool votes = outgoing
                         ? member->outgoing_voter
                         : member->role == LS_MEMBER_VOTER || member->role == LS_MEMBER_WITNESS;
        const struct node *other = realm_by_id(node->realm, &member->id);
        voters += votes ? 1 : 0;
        holding += votes && other != NULL && promise_kept(other, member, holds, arg) ? 1 : 0;
    }
    return holding > voters / 2;
}

static bool joint_quorum(const struct node *node, const struct ls_configuration *configuration,
                         holds_fn *holds, const void *arg)
{
    return quorum(node, configuration, false, holds, arg) &&
           (!configuration->joint || quorum(node, configuration, true, holds, arg));
}

static bool disk_holds(const struct node *node, bool ghost, const void *arg)
{
    const struct ls_cursor *at = arg;
    const struct log *log = ghost ? &node->ghost : &node->disk.log;
    return log->anchor.index >= at->index || log_term(log, at->index) == at->term;
}

struct vote_of {
    ls_term term;
    unsigned candidate;
};

static bool voted_for(const struct node *node, bool ghost, const void *arg)
{
    const struct vote_of *vote = arg;
    const struct ls_hard_state *durable = &node->disk.hard_state;
    if (node->number == vote->candidate) { /* a single voter asks nobody */
        return durable->term == vote->term && durable->voted &&
               ls_peer_id_equal(&durable->vote, &node->id);
    }
    const unsigned *votes = ghost ? node->ghost_votes : node->votes;
    size_t count = ghost ? node->ghost_votes_count : node->votes_count;
    return vote->term < count && votes[vote->term] == vote->candidate + 1;
}

static void check_new_leader(struct node *node, const struct ls_ready *ready)
{
    struct realm *realm = node->realm;
    realm->leaders = grow(realm->leaders, &realm->leaders_count, ready->term + 1, sizeof(unsigned));
    unsigned *leader = &realm->leaders[ready->term];
    REQUIRE(node, *leader == 0 || *leader == node->number + 1, "term %" PRIu64 " has a leader: %s",
            ready->term, realm->nodes[*leader - 1].name);
    if (*leader != 0) {
        return;
    }
    *leader = node->number + 1;
    struct vote_of vote = {ready->term, node->number};
    if (ready->configuration != NULL) {
        REQUIRE(node, joint_quorum(node, &ready->configuration->configuration, voted_for, &vote),
                "leads term %" PRIu64 " without the votes of a quorum", ready->term);
    }
    for (ls_index at = node->view.anchor.index + 1; at <= realm->committed; at++) {
        const struct known_index *known = known_at(realm, at);
        REQUIRE(node,
                !known->committed || known->committed_in >= ready->term ||
                    log_term(&node->view, at) == known->term,
                "leads term %" PRIu64 " without the committed entry %" PRIu64 "^%" PRIu64,
                ready->term, known->term, at);
    }
}

static void check_newly_committed(struct node *node, ls_index index)
{
    struct realm *realm = node->realm;
    struct known_index *known = known_at(realm, index);
    ls_term term = log_term(&node->view, index);
    if (known->committed) {
        REQUIRE(node, index < node->view.anchor.index || known->term == term,
                "commits %" PRIu64 "^%" PRIu64 ", but %" PRIu64 "^%" PRIu64 " is committed", term,
                index, known->term, index);
        return;
    }
    known->committed = true;
    known->term = term;
    known->committed_in = node->term;
    realm->committed = index > realm->committed ? index : realm->committed;
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        const struct node *other = &realm->nodes[i];
        REQUIRE(node,
                !other->alive || other->role != LS_ROLE_LEADER || other->term <= node->term ||
                    index <= other->view.anchor.index || log_term(&other->view, index) == term,
                "commits %" PRIu64 "^%" PRIu64 ", which the later leader %s lacks", term, index,
                other->name);
    }
}

/* P5: a configuration acts from its append until it is truncated. */
static void check_configuration(struct node *node, const struct ls_ready *ready)
{
    struct ls_configuration_at *at = arena_allocate(node->realm, sizeof *at);
    bool known = log_configuration(&node->view, log_last(&node->view), at);
    REQUIRE(node,
            known == (ready->configuration != NULL) &&
                (!known || ready->configuration->index == at->index),
            "the configuration of %" PRIu64 " is in force, the log has one at %" PRIu64,
            ready->configuration == NULL ? 0 : ready->configuration->index, known ? at->index : 0);
}

void check_ready_after(struct node *node, const struct ls_ready *ready, enum ls_role was,
                       ls_index commit_was, ls_term term_was)
{
    ls_index last = log_last(&node->view);
    REQUIRE(node, ready->last == last, "ready.last is %" PRIu64 ", the log ends at %" PRIu64,
            ready->last, last);
    REQUIRE(node, ready->commit <= last, "commit %" PRIu64 " beyond the log's %" PRIu64,
            ready->commit, last);
    REQUIRE(node, ls_core_term_at(node->core, last) == log_term(&node->view, last),
            "the core's last term is %" PRIu64, ls_core_term_at(node->core, last));
    REQUIRE(node, log_term(&node->view, last) <= ready->term,
            "an entry of term %" PRIu64 " at its end", log_term(&node->view, last));
    REQUIRE(node, node->acked.term != ready->term || node->acked.index <= last,
            "lets go of %" PRIu64 ", which it acknowledged in this term: ends at %" PRIu64,
            node->acked.index, last);
    if (ready->truncate || ready->configuration_changed) {
        check_configuration(node, ready);
    }
    ls_index safe = log_common(&node->disk.log, &node->view);
    REQUIRE(node, ready->durable <= safe, "ready.durable is %" PRIu64 ", on disk is %" PRIu64,
            ready->durable, safe);
    if (ready->role == LS_ROLE_LEADER) {
        check_new_leader(node, ready);
        REQUIRE(node, ls_peer_id_equal(&ready->leader, &node->id),
                "leads and names another leader");
    }
    for (ls_index at = commit_was + 1; at <= ready->commit; at++) {
        check_newly_committed(node, at);
    }
    if (ready->role == LS_ROLE_LEADER && was == LS_ROLE_LEADER && term_was == ready->term &&
        ready->commit > commit_was) {
        struct ls_cursor at = {log_term(&node->view, ready->commit), ready->commit};
        REQUIRE(node, at.term == ready->term, "counts to %" PRIu64 "^%" PRIu64 " of another term",
                at.term, at.index);
        REQUIRE(node,
                ready->configuration != NULL &&
                    joint_quorum(node, &ready->configuration->configuration, disk_holds, &at),
                "commits %" PRIu64 "^%" PRIu64 " that no quorum of disks holds", at.term, at.index);
    }
}

void check_outgoing(struct node *node, const struct ls_message *message)
{
    const char *invalid = ls_message_invalid(message);
    REQUIRE(node, invalid == NULL, "sends an invalid %s: %s", message_kind_text((int)message->kind),
            invalid);
    REQUIRE(node, ls_peer_id_equal(&message->from, &node->id), "sends in another's name");
    if (message->kind == LS_MESSAGE_APPEND) {
        const struct ls_append *append = &message->as.append;
        REQUIRE(node, log_term(&node->view, append->prev.index) == append->prev.term,
                "sends entries after %" PRIu64 "^%" PRIu64 ", which it does not hold",
                append->prev.term, append->prev.index);
        REQUIRE(node, append->count == 0 || append->prev.index + 1 >= node->cache_first,
                "sends %" PRIu64 ", but the cache begins at %" PRIu64, append->prev.index + 1,
                node->cache_first);
    }
}

/* One vote a term for each incarnation, over all its lives. */
static void check_vote(struct node *node, ls_term term, const struct node *candidate)
{
    node->votes = grow(node->votes, &node->votes_count, term + 1, sizeof *node->votes);
    unsigned before = node->votes[term];
    REQUIRE(node, before == 0 || before == candidate->number + 1,
            "votes for %s in term %" PRIu64 " after it voted for %s", candidate->name, term,
            node->realm->nodes[before - 1].name);
    node->votes[term] = candidate->number + 1;
}

/* P1: what a message promises is on the disk when it leaves. */
void check_release(struct node *node, const struct packet *packet)
{
    const struct ls_message *message = &packet->message;
    const struct ls_hard_state *durable = &node->disk.hard_state;
    bool proposed = message->kind == LS_MESSAGE_PRE_VOTE ||
                    (message->kind == LS_MESSAGE_PRE_VOTE_REPLY && message->as.vote_reply.granted);
    REQUIRE(node, proposed || message->term <= durable->term,
            "a %s of term %" PRIu64 " leaves, durable is %" PRIu64,
            message_kind_text((int)message->kind), message->term, durable->term);
    const struct node *to = &node->realm->nodes[packet->to];
    bool present = message->term == durable->term;
    if (message->kind == LS_MESSAGE_VOTE) {
        REQUIRE(node, !present || (durable->voted && ls_peer_id_equal(&durable->vote, &node->id)),
                "asks for votes before its own is durable");
        check_vote(node, message->term, node);
    }
    if (message->kind == LS_MESSAGE_VOTE_REPLY && message->as.vote_reply.granted) {
        REQUIRE(node, !present || (durable->voted && ls_peer_id_equal(&durable->vote, &to->id)),
                "grants a vote that is not durable");
        check_vote(node, message->term, to);
    }
    if (message->kind == LS_MESSAGE_APPEND_REPLY && message->as.append_reply.accepted) {
        ls_index safe = log_last(&node->disk.log);
        REQUIRE(node, !present || message->as.append_reply.match <= safe,
                "acknowledges %" PRIu64 ", durable is %" PRIu64, message->as.append_reply.match,
                safe);
        if (message->term > node->acked.term ||
            (present && message->as.append_reply.match > node->acked.index)) {
            node->acked = (struct ls_cursor){message->term, message->as.append_reply.match};
        }
    }
}

/* P7: linearizable. What anybody saw committed before the read began, it sees. */
void check_read(struct node *node, const struct ls_read_result *result)
{
    struct realm *realm = node->realm;
    for (size_t i = 0; i < realm->reads_count; i++) {
        struct pending_read *read = &realm->reads[i];
        if (read->token != result->token) {
            continue;
        }
        REQUIRE(node, !read->done && read->node == node->number && read->life == node->lives,
                "answers read %" PRIu64 " twice or for another", read->token);
        read->done = true;
        read->status = result->status;
        read->index = result->index;
        REQUIRE(node, result->status != LS_OK || result->index >= read->floor,
                "a read at %" PRIu64 " misses %" PRIu64 ", committed before it began",
                result->index, read->floor);
        return;
    }
    require_failed(node, "answers a read nobody asked: %" PRIu64, result->token);
}

void check_applied(struct node *node, ls_index index)
{
    const struct known_index *known = known_at(node->realm, index);
    REQUIRE(node, known->committed && log_term(&node->view, index) == known->term,
            "applies %" PRIu64 ", which is not the committed entry", index);
    REQUIRE(node, log_term(&node->disk.log, index) == known->term,
            "applies %" PRIu64 ", which is not durable here", index);
}
