/* SPDX-License-Identifier: MIT */
/*
 * Pending calls. Each is on exactly one list from its acceptance until its callback, and each ends
 * exactly once (P13):
 *
 *   queued ----> proposed ----> finished     this member leads
 *     |  ^
 *     v  | "not the leader": nothing was done
 *   forwarded -----------------> finished    another one leads
 *
 * What was given to a log ends as unknown when its fate cannot be told; what was not, as "nothing
 * was done".
 */
#include "runtime.h"

#include <string.h>

/* a forwarded call leaves the leader this much less time than we have ourselves, so its answer
 * arrives */
#define FORWARD_MARGIN_US 20000u
/* after a leader sent a call back, nothing is forwarded for so long: it may send all back */
#define FORWARD_PAUSE_US 10000u
/* a former leader's answers may still be under way for so long; one that froze never answers */
#define FORMER_LEADER_US 200000u

/* ---- lists ---- */

void ls__list_append(struct ls__list *list, struct ls__call *call)
{
    LS_ASSERT(call->list == NULL);
    call->list = list;
    call->next = NULL;
    call->previous = list->last;
    if (list->last != NULL) {
        list->last->next = call;
    } else {
        list->first = call;
    }
    list->last = call;
    list->count++;
}

/* Back into its place among those that were accepted before and after it. */
static void list_insert(struct ls__list *list, struct ls__call *call)
{
    struct ls__call *after = NULL;
    for (struct ls__call *at = list->first; at != NULL && at->order < call->order; at = at->next) {
        after = at;
    }
    LS_ASSERT(call->list == NULL);
    call->list = list;
    call->previous = after;
    call->next = after != NULL ? after->next : list->first;
    *(after != NULL ? &after->next : &list->first) = call;
    *(call->next != NULL ? &call->next->previous : &list->last) = call;
    list->count++;
}

void ls__list_remove(struct ls__call *call)
{
    struct ls__list *list = call->list;
    LS_ASSERT(list != NULL && list->count > 0);
    *(call->previous != NULL ? &call->previous->next : &list->first) = call->next;
    *(call->next != NULL ? &call->next->previous : &list->last) = call->previous;
    call->list = NULL;
    list->count--;
}

static void call_move(struct ls__call *call, struct ls__list *to)
{
    ls__list_remove(call);
    ls__list_append(to, call);
}

/* ---- a call's life ---- */

enum ls_status ls__call_check(const struct ls_group *group)
{
    if (group->node->in_machine && !LS_MUTANT(A4)) {
        return LS_ERR_REENTRANT;
    }
    if (group->closing || group->closed) {
        return LS_ERR_CLOSED;
    }
    return group->halted != LS_OK ? LS_ERR_HALTED : LS_OK;
}

static enum ls_status call_block(const struct ls_env *env, struct ls__call *call, size_t bytes)
{
    if (call->block_bytes >= bytes) {
        return LS_OK;
    }
    /* what is kept for later calls grows in few steps, so that it soon fits them all */
    size_t room = LS__CALL_BLOCK_BYTES;
    while (room < bytes) {
        room *= 2;
    }
    room = room > LS__CALL_KEEP_BYTES ? bytes : room;
    uint8_t *block = ls__allocate(env, call->block, room);
    if (block == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    call->block = block;
    call->block_bytes = room;
    return LS_OK;
}

static void call_free(struct ls_group *group, struct ls__call *call)
{
    const struct ls_env *env = &group->node->env;
    ls__replies_free(&call->replies);
    if (call->block != NULL) {
        (void)ls__allocate(env, call->block, 0);
    }
    (void)ls__allocate(env, call, 0);
}

/* Back to the spare list, with its memory if that is small. */
static void call_recycle(struct ls_group *group, struct ls__call *call)
{
    if (call->block_bytes > LS__CALL_KEEP_BYTES || call->replies.capacity > LS__CALL_KEEP_BYTES ||
        group->calls.spare.count >= 1024) {
        call_free(group, call);
        return;
    }
    ls__list_append(&group->calls.spare, call);
}

static struct ls__call *call_take(struct ls_group *group)
{
    const struct ls_env *env = &group->node->env;
    struct ls__call *call = group->calls.spare.last; /* the one that was in use last */
    if (call != NULL) {
        ls__list_remove(call);
        struct ls__call fresh = {
            .block = call->block, .block_bytes = call->block_bytes, .replies = call->replies};
        *call = fresh;
        return call;
    }
    call = ls__allocate(env, NULL, sizeof *call);
    if (call != NULL) {
        (void)memset(call, 0, sizeof *call);
        call->replies.env = env;
    }
    return call;
}

enum ls_status ls__call_new(struct ls_group *group, enum ls__call_kind kind,
                            const struct ls_span *commands, size_t count, struct ls__call **out)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (commands[i].bytes > LS_ENTRY_BYTES_MAX) {
            return LS_ERR_LIMIT;
        }
        bytes += commands[i].bytes;
    }
    if (count > LS_PROPOSE_ENTRIES_MAX || bytes > LS_PROPOSE_BYTES_MAX) {
        return LS_ERR_LIMIT;
    }
    size_t charged = bytes + count * sizeof(struct ls_span) + LS__CALL_BYTES;
    size_t calls = group->calls.queued.count + group->calls.proposed.count +
                   group->calls.forwarded.count + group->calls.reads.count +
                   group->calls.rounds.count + group->calls.fresh.count;
    /* a call larger than the whole budget is let through alone: it fits no later time either */
    bool over = group->calls.in_flight_bytes + charged > group->in_flight_bytes_max &&
                group->calls.in_flight_bytes > 0;
    if (over || calls >= LS_IN_FLIGHT_CALLS_MAX) {
        return LS_ERR_BUSY;
    }
    struct ls__call *call = call_take(group);
    if (call == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    if (call_block(&group->node->env, call, count * sizeof(struct ls_span) + bytes) != LS_OK ||
        ls__replies_reset(&call->replies, 0) != LS_OK) {
        call_recycle(group, call);
        return LS_ERR_NO_MEMORY;
    }
    call->kind = kind;
    call->order = ++group->calls.next_order;
    call->count = (uint32_t)count;
    call->charged = charged;
    call->commands = (struct ls_span *)(void *)call->block;
    uint8_t *at = count > 0 ? call->block + count * sizeof(struct ls_span) : NULL;
    for (size_t i = 0; i < count; i++) {
        call->commands[i] = (struct ls_span){at, commands[i].bytes};
        if (commands[i].bytes > 0) {
            (void)memcpy(at, commands[i].data, commands[i].bytes);
        }
        at += commands[i].bytes;
    }
    group->calls.in_flight_bytes += charged;
    *out = call;
    return LS_OK;
}

static void call_deadline(struct ls_group *group, struct ls__call *call, uint64_t wait_ms)
{
    call->deadline_us = ls__now(group->node) + wait_ms * 1000u;
    if (call->deadline_us < group->calls.deadline_us) {
        group->calls.deadline_us = call->deadline_us;
    }
}

void ls__call_submit(struct ls_group *group, struct ls__call *call, struct ls__list *list,
                     const struct ls_call_options *options, ls_done done, void *arg)
{
    uint32_t wait_ms = options != NULL && options->deadline_ms != 0 ? options->deadline_ms
                                                                    : LS_CALL_DEADLINE_MS_DEFAULT;
    call->done = done;
    call->arg = arg;
    call_deadline(group, call, wait_ms);
    ls__list_append(list, call);
    ls__group_touch(group);
}

void ls__call_finish(struct ls_group *group, struct ls__call *call, enum ls_status status)
{
    call->status = status;
    if (status == LS_ERR_UNKNOWN) {
        group->unknown++;
    }
    call_move(call, &group->calls.finished);
    ls__group_touch(group);
}

/* ---- the calls ---- */

static enum ls_status submit_commands(struct ls_group *group, enum ls__call_kind kind,
                                      const struct ls_span *commands, size_t count,
                                      const struct ls_call_options *options, ls_done done,
                                      void *arg)
{
    enum ls_status status = ls__call_check(group);
    if (status != LS_OK) {
        return status;
    }
    if (count == 0 || commands == NULL || (kind == LS__CALL_EXECUTE && done == NULL)) {
        return LS_ERR_INVALID;
    }
    struct ls__call *call = NULL;
    status = ls__call_new(group, kind, commands, count, &call);
    if (status == LS_OK) {
        ls__call_submit(group, call, &group->calls.queued, options, done, arg);
    }
    return status;
}

enum ls_status ls_group_execute_many(struct ls_group *group, const struct ls_span *commands,
                                     size_t count, const struct ls_call_options *call, ls_done done,
                                     void *arg)
{
    return submit_commands(group, LS__CALL_EXECUTE, commands, count, call, done, arg);
}

enum ls_status ls_group_execute(struct ls_group *group, struct ls_span command,
                                const struct ls_call_options *call, ls_done done, void *arg)
{
    return submit_commands(group, LS__CALL_EXECUTE, &command, 1, call, done, arg);
}

enum ls_status ls_group_feed_many(struct ls_group *group, const struct ls_span *commands,
                                  size_t count, const struct ls_call_options *call, ls_done done,
                                  void *arg)
{
    return submit_commands(group, LS__CALL_FEED, commands, count, call, done, arg);
}

enum ls_status ls_group_feed(struct ls_group *group, struct ls_span command,
                             const struct ls_call_options *call, ls_done done, void *arg)
{
    return submit_commands(group, LS__CALL_FEED, &command, 1, call, done, arg);
}

enum ls_status ls_group_transfer(struct ls_group *group, const char *name,
                                 const struct ls_call_options *options, ls_done done, void *arg)
{
    enum ls_status status = ls__call_check(group);
    if (status != LS_OK) {
        return status;
    }
    struct ls_peer_id target = {{0}};
    if (name != NULL && strcmp(name, group->member) == 0) {
        target = group->node->id;
    } else if (name != NULL) {
        size_t at = 0;
        while (at < group->peers_count && strcmp(group->peers[at].name, name) != 0) {
            at++;
        }
        if (at == group->peers_count) {
            return LS_ERR_NOT_FOUND;
        }
        target = group->peers[at].id;
    }
    struct ls__call *call = NULL;
    status = ls__call_new(group, LS__CALL_TRANSFER, NULL, 0, &call);
    if (status == LS_OK) {
        call->target = target;
        ls__call_submit(group, call, &group->calls.queued, options, done, arg);
    }
    return status;
}

/* ---- this member leads: one proposal a turn ---- */

static void propose_transfer(struct ls_group *group, struct ls__call *call)
{
    if (ls_peer_id_equal(&call->target, &group->node->id)) {
        ls__call_finish(group, call, LS_OK); /* it leads already */
        return;
    }
    const struct ls_ready *ready = NULL;
    struct ls_event event = {.kind = LS_EVENT_TRANSFER, .as.transfer_to = call->target};
    if (ls__group_step(group, &event, &ready) == LS_OK) {
        ls__call_finish(group, call, ready->transfer_status);
    }
}

static size_t payload_bytes(const struct ls__call *call)
{
    return call->charged - call->count * sizeof(struct ls_span) - LS__CALL_BYTES;
}

/* Collects queued commands into the node's entries; *last is the last call that is in. */
static uint32_t collect_commands(struct ls_group *group, struct ls__call **last)
{
    struct ls_entry *entries = group->node->entries;
    uint32_t count = 0;
    size_t bytes = 0;
    *last = NULL;
    for (struct ls__call *call = group->calls.queued.first; call != NULL; call = call->next) {
        bytes += payload_bytes(call);
        if (call->kind == LS__CALL_TRANSFER || count + call->count > LS_PROPOSE_ENTRIES_MAX ||
            bytes > LS_PROPOSE_BYTES_MAX) {
            break;
        }
        for (uint32_t i = 0; i < call->count; i++) {
            entries[count++] =
                (struct ls_entry){.kind = LS_ENTRY_COMMAND, .data = call->commands[i]};
        }
        *last = call;
    }
    return count;
}

static void proposed_range(struct ls_group *group, struct ls__call *last, struct ls_cursor first)
{
    struct ls__call *call = NULL;
    do {
        call = group->calls.queued.first;
        call->first = first;
        first.index += call->count;
        group->proposed += call->count;
        if (call->kind == LS__CALL_FEED) {
            ls__call_finish(group, call, LS_OK);
        } else {
            call_move(call, &group->calls.proposed);
        }
    } while (call != last);
}

/* False: no more can be proposed in this turn. */
static bool propose(struct ls_group *group)
{
    struct ls__call *last = NULL;
    uint32_t count = collect_commands(group, &last);
    const struct ls_ready *ready = NULL;
    struct ls_event event = {.kind = LS_EVENT_PROPOSE,
                             .as.propose = {.entries = group->node->entries, .count = count}};
    if (ls__group_step(group, &event, &ready) != LS_OK) {
        group->calls.queued.first->status = LS_ERR_BUSY; /* no memory: again next turn */
        return false;
    }
    if (ready->propose_status == LS_OK) {
        proposed_range(group, last, (struct ls_cursor){ready->term, ready->append_first});
        return true;
    }
    for (struct ls__call *call = group->calls.queued.first; call != NULL; call = call->next) {
        call->status = ready->propose_status;
    }
    return false; /* busy or not: what changes that is an event of the core, which makes a turn */
}

/* ---- another one leads: forward, one hop ---- */

/* Ends by which nothing was done: the call may be tried again, here or elsewhere. */
static bool nothing_was_done(enum ls_status status)
{
    return status == LS_ERR_NOT_LEADER || status == LS_ERR_NO_LEADER || status == LS_ERR_BUSY ||
           status == LS_ERR_NO_MEMORY || status == LS_ERR_CLOSED || status == LS_ERR_HALTED;
}

/* What is at an end here is not at an end for who asked: soon another member leads. */
static enum ls_status remote_status(enum ls_status status)
{
    if (status == LS_ERR_NO_MEMORY) {
        return LS_ERR_BUSY;
    }
    return status == LS_ERR_CLOSED || status == LS_ERR_HALTED ? LS_ERR_NOT_LEADER : status;
}

static void call_answer_remote(struct ls_group *group, struct ls__call *call)
{
    struct ls_span *spans = group->node->spans;
    struct ls_wire_frame frame = {
        .kind = LS_WIRE_FORWARD_REPLY,
        .as.forward_reply = {.id = call->id, .status = remote_status(call->status)}};
    struct ls_forward_reply *reply = &frame.as.forward_reply;
    if (call->status == LS_OK) {
        reply->first = call->first;
        reply->first.index += LS_MUTANT(K9);
    }
    if (call->status == LS_OK && call->kind == LS__CALL_EXECUTE) {
        for (uint32_t i = 0; i < call->count; i++) {
            spans[i] = ls__replies_at(&call->replies, i);
        }
        reply->count = call->count;
        reply->replies = spans;
    }
    enum ls_status status = ls__group_send(group, &call->peer, LS_LANE_CONSENSUS, &frame);
    if (status == LS_ERR_LIMIT) {
        /* it was applied, but its replies fit no message: the caller hears that the outcome is
         * unknown */
        reply->status = LS_ERR_UNKNOWN;
        reply->first = (struct ls_cursor){0, 0};
        reply->count = 0;
        (void)ls__group_send(group, &call->peer, LS_LANE_CONSENSUS, &frame);
    }
}

static enum ls_status forward_send(struct ls_group *group, struct ls__call *call)
{
    uint64_t now = ls__now(group->node);
    uint64_t left = call->deadline_us > now + FORWARD_MARGIN_US
                        ? call->deadline_us - now - FORWARD_MARGIN_US
                        : 0;
    struct ls_wire_frame frame = {
        .kind = LS_WIRE_FORWARD,
        .as.forward = {.id = call->id,
                       .kind = call->kind == LS__CALL_EXECUTE ? LS_FORWARD_EXECUTE
                               : call->kind == LS__CALL_FEED  ? LS_FORWARD_FEED
                                                              : LS_FORWARD_TRANSFER,
                       .deadline_ms = (uint32_t)(left / 1000u),
                       .count = call->count,
                       .commands = call->commands,
                       .target = call->target}};
    return ls__group_send(group, &group->leader, LS_LANE_CONSENSUS, &frame);
}

/* One hop only (K2): whoever asked us asks the leader itself. */
static void refuse_remote(struct ls_group *group)
{
    struct ls__call *next = NULL;
    for (struct ls__call *call = group->calls.queued.first; call != NULL; call = next) {
        next = call->next;
        if (call->remote && !LS_MUTANT(K2)) {
            ls__call_finish(group, call, LS_ERR_NOT_LEADER);
        }
    }
}

static void forward_queued(struct ls_group *group)
{
    uint64_t now = ls__now(group->node);
    if (group->calls.queued.first != NULL && now < group->calls.forward_us) {
        ls__group_retry(group, group->calls.forward_us - now);
        return;
    }
    struct ls__call *next = NULL;
    for (struct ls__call *call = group->calls.queued.first; call != NULL; call = next) {
        next = call->next;
        call->id = ++group->calls.next_id;
        call->peer = group->leader;
        enum ls_status status = forward_send(group, call);
        if (status == LS_OK) {
            group->forwarded += call->count;
            call_move(call, &group->calls.forwarded);
        } else if (status == LS_ERR_LIMIT) {
            ls__call_finish(group, call, status);
        } else {
            ls__group_retry(group, LS__RETRY_US * 10);
            return;
        }
    }
}

void ls__calls_begin(struct ls_group *group)
{
    if (group->role != LS_ROLE_LEADER) {
        const struct ls__peer *leader = ls__group_peer(group, &group->leader);
        refuse_remote(group);
        if (leader != NULL && leader->up) {
            forward_queued(group);
        }
        return;
    }
    while (group->calls.queued.first != NULL && group->role == LS_ROLE_LEADER) {
        struct ls__call *first = group->calls.queued.first;
        if (first->kind == LS__CALL_TRANSFER) {
            propose_transfer(group, first);
            if (group->calls.queued.first == first) {
                return; /* no memory: again next turn */
            }
        } else if (!propose(group)) {
            return;
        }
    }
}

void ls__calls_forward(struct ls_group *group, const struct ls_peer_id *from,
                       const struct ls_forward *forward)
{
    enum ls__call_kind kind = forward->kind == LS_FORWARD_EXECUTE ? LS__CALL_EXECUTE
                              : forward->kind == LS_FORWARD_FEED  ? LS__CALL_FEED
                                                                  : LS__CALL_TRANSFER;
    struct ls__call *call = NULL;
    enum ls_status status =
        group->role == LS_ROLE_LEADER || LS_MUTANT(K2) ? ls__call_check(group) : LS_ERR_NOT_LEADER;
    if (status == LS_OK) {
        status = ls__call_new(group, kind, forward->commands, forward->count, &call);
    }
    if (status != LS_OK) {
        struct ls_wire_frame frame = {
            .kind = LS_WIRE_FORWARD_REPLY,
            .as.forward_reply = {.id = forward->id, .status = remote_status(status)}};
        (void)ls__group_send(group, from, LS_LANE_CONSENSUS, &frame);
        return;
    }
    call->remote = true;
    call->peer = *from;
    call->id = forward->id;
    call->target = forward->target;
    call_deadline(group, call, forward->deadline_ms);
    ls__list_append(&group->calls.queued, call);
    ls__group_touch(group);
}

/* Nothing was done there: the call waits again. */
static void call_requeue(struct ls_group *group, struct ls__call *call, enum ls_status why)
{
    ls__list_remove(call);
    call->status = remote_status(why);
    list_insert(&group->calls.queued, call);
    group->calls.forward_us = ls__now(group->node) + FORWARD_PAUSE_US;
    ls__group_touch(group);
}

/* What the leader's answer means for the call. */
static enum ls_status forward_outcome(struct ls__call *call, const struct ls_forward_reply *reply)
{
    if (reply->status == LS_ERR_NOT_FOUND || reply->status == LS_ERR_LIMIT) {
        return reply->status;
    }
    if (reply->status != LS_OK) {
        return LS_ERR_UNKNOWN;
    }
    if (call->kind == LS__CALL_TRANSFER) {
        return LS_OK;
    }
    /* it was done, but what it answered is not known */
    bool execute = call->kind == LS__CALL_EXECUTE;
    if (reply->first.index == 0 || reply->count != (execute ? call->count : 0) ||
        ls__replies_reset(&call->replies, reply->count) != LS_OK) {
        return LS_ERR_UNKNOWN;
    }
    for (uint32_t i = 0; i < reply->count; i++) {
        if (ls__replies_put(&call->replies, i, reply->replies[i]) != LS_OK) {
            return LS_ERR_UNKNOWN;
        }
    }
    return LS_OK;
}

void ls__calls_forward_reply(struct ls_group *group, const struct ls_peer_id *from,
                             const struct ls_forward_reply *reply)
{
    struct ls__call *call = group->calls.forwarded.first;
    while (call != NULL && (call->id != reply->id || !ls_peer_id_equal(&call->peer, from))) {
        call = call->next;
    }
    if (call == NULL) {
        return; /* it ended at its deadline */
    }
    if (nothing_was_done(reply->status) ||
        (LS_MUTANT(K5) && !ls_peer_id_equal(from, &group->leader))) {
        call_requeue(group, call, reply->status);
        return;
    }
    call->first = reply->first;
    ls__call_finish(group, call, forward_outcome(call, reply));
}

/* ---- the log answers ---- */

void ls__calls_applied(struct ls_group *group, struct ls_cursor cursor,
                       const struct ls_replies *replies, size_t at)
{
    struct ls__call *call = group->calls.proposed.first;
    if (call == NULL || cursor.index < call->first.index) {
        return;
    }
    LS_ASSERT(cursor.index < call->first.index + call->count);
    if (cursor.term != call->first.term && !LS_MUTANT(K6)) {
        ls__call_finish(group, call, LS_ERR_UNKNOWN); /* another leader's entry stands there (K6) */
        return;
    }
    if (call->answered == 0 && ls__replies_reset(&call->replies, call->count) != LS_OK) {
        ls__call_finish(group, call, LS_ERR_UNKNOWN);
        return;
    }
    LS_ASSERT(cursor.index == call->first.index + call->answered);
    struct ls_span reply = ls__replies_at(replies, at);
    if (replies->slots[at].lost ||
        (reply.bytes > 0 && ls__replies_put(&call->replies, call->answered, reply) != LS_OK)) {
        ls__call_finish(group, call, LS_ERR_UNKNOWN);
        return;
    }
    call->answered++;
    if (call->answered == call->count) {
        ls__call_finish(group, call, LS_OK);
    }
}

static void finish_all(struct ls_group *group, struct ls__list *list, enum ls_status status)
{
    while (list->first != NULL) {
        ls__call_finish(group, list->first, status);
    }
}

void ls__calls_deposed(struct ls_group *group)
{
    if (!LS_MUTANT(K6)) {
        finish_all(group, &group->calls.proposed,
                   LS_MUTANT(K1) ? LS_ERR_NO_LEADER : LS_ERR_UNKNOWN);
    }
}

void ls__calls_leader_changed(struct ls_group *group)
{
    uint64_t until_us = ls__now(group->node) + FORMER_LEADER_US;
    group->calls.forward_us = 0;
    for (struct ls__call *call = group->calls.forwarded.first; call != NULL; call = call->next) {
        if (!ls_peer_id_equal(&call->peer, &group->leader) && call->deadline_us > until_us) {
            call_deadline(group, call, FORMER_LEADER_US / 1000u);
        }
    }
}

void ls__calls_peer_down(struct ls_group *group, const struct ls_peer_id *peer)
{
    struct ls__call *next = NULL;
    for (struct ls__call *call = group->calls.forwarded.first; call != NULL; call = next) {
        next = call->next;
        if (ls_peer_id_equal(&call->peer, peer)) {
            LS_MUTANT(K4) ? call_requeue(group, call, LS_ERR_NO_LEADER)
                          : ls__call_finish(group, call, LS_ERR_UNKNOWN);
        }
    }
}

/* ---- ends ---- */

static enum ls_status expired_status(const struct ls_group *group, const struct ls__call *call)
{
    if (call->list == &group->calls.proposed || call->list == &group->calls.forwarded) {
        return LS_MUTANT(K1_DEADLINE) ? LS_ERR_TIMEOUT : LS_ERR_UNKNOWN;
    }
    if (call->list == &group->calls.queued) {
        return call->status == LS_ERR_BUSY ? LS_ERR_BUSY : LS_ERR_NO_LEADER;
    }
    return LS_ERR_TIMEOUT; /* a read */
}

void ls__calls_expire(struct ls_group *group, uint64_t now_us)
{
    struct ls__calls *calls = &group->calls;
    if (now_us < calls->deadline_us || LS_MUTANT(K11)) {
        return;
    }
    calls->deadline_us = UINT64_MAX;
    struct ls__list *lists[] = {&calls->queued, &calls->proposed, &calls->forwarded,
                                &calls->reads,  &calls->rounds,   &calls->fresh};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct ls__call *next = NULL;
        for (struct ls__call *call = lists[i]->first; call != NULL; call = next) {
            next = call->next;
            if (call->deadline_us <= now_us) {
                ls__call_finish(group, call, expired_status(group, call));
            } else if (call->deadline_us < calls->deadline_us) {
                calls->deadline_us = call->deadline_us;
            }
        }
    }
}

void ls__calls_refuse(struct ls_group *group, enum ls_status status)
{
    finish_all(group, &group->calls.queued, status);
    finish_all(group, &group->calls.reads, status);
}

void ls__calls_end(struct ls_group *group, enum ls_status status)
{
    ls__calls_refuse(group, status);
    finish_all(group, &group->calls.rounds, status);
    finish_all(group, &group->calls.fresh, status);
    finish_all(group, &group->calls.proposed, LS_ERR_UNKNOWN);
    if (!LS_MUTANT(K10)) {
        finish_all(group, &group->calls.forwarded, LS_ERR_UNKNOWN);
    }
}

void ls__calls_answer(struct ls_group *group)
{
    struct ls_node *node = group->node;
    /* what callbacks finish waits for the next turn: a callback cannot keep us here */
    size_t due = group->calls.finished.count;
    while (due-- > 0) {
        struct ls__call *call = group->calls.finished.first;
        ls__list_remove(call);
        group->calls.in_flight_bytes -= call->charged;
        if (call->remote) {
            call_answer_remote(group, call);
        } else if (call->done != NULL) {
            struct ls_outcome outcome = {.status = call->status};
            if (call->status == LS_OK) {
                outcome.first = call->first;
                outcome.count = call->replies.count;
                for (size_t i = 0; i < outcome.count; i++) {
                    node->spans[i] = ls__replies_at(&call->replies, i);
                }
                outcome.replies = node->spans;
            }
            call->done(call->arg, &outcome);
        }
        call_recycle(group, call);
    }
}

void ls__calls_free(struct ls_group *group)
{
    struct ls__calls *calls = &group->calls;
    struct ls__list *lists[] = {&calls->queued, &calls->proposed, &calls->forwarded, &calls->reads,
                                &calls->rounds, &calls->fresh,    &calls->finished,  &calls->spare};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        while (lists[i]->first != NULL) {
            struct ls__call *call = lists[i]->first;
            ls__list_remove(call);
            call_free(group, call);
        }
    }
}
