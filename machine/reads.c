/* SPDX-License-Identifier: MIT */
/*
 * Linearizable reads on any member (thesis 6.4): all reads of a turn share one confirmation round;
 * when the core answers with an index, they wait until it is applied here, and then look at the
 * local machine.
 *
 *   reads --(one READ a turn)--> rounds --(index)--> fresh --(applied >= index)--> finished
 */
#include "runtime.h"

#include <string.h>

static enum ls_status submit_read(struct ls_group *group, enum ls__call_kind kind,
                                  struct ls_span query, const struct ls_call_options *options,
                                  ls_done done, void *arg)
{
    enum ls_status status = ls__call_check(group);
    if (status != LS_OK) {
        return status;
    }
    if (done == NULL) {
        return LS_ERR_INVALID;
    }
    struct ls__call *call = NULL;
    status = ls__call_new(group, kind, &query, 1, &call);
    if (status == LS_OK) {
        group->reads++;
        ls__call_submit(group, call,
                        kind == LS__CALL_QUERY_WEAK ? &group->calls.fresh : &group->calls.reads,
                        options, done, arg);
    }
    return status;
}

enum ls_status ls_group_query(struct ls_group *group, enum ls_consistency consistency,
                              struct ls_span query, const struct ls_call_options *call,
                              ls_done done, void *arg)
{
    if (consistency != LS_WEAK && consistency != LS_STRONG) {
        return LS_ERR_INVALID;
    }
    return submit_read(group, consistency == LS_WEAK ? LS__CALL_QUERY_WEAK : LS__CALL_QUERY_STRONG,
                       query, call, done, arg);
}

enum ls_status ls_group_read_barrier(struct ls_group *group, const struct ls_call_options *call,
                                     ls_done done, void *arg)
{
    return submit_read(group, LS__CALL_BARRIER, (struct ls_span){NULL, 0}, call, done, arg);
}

static void move(struct ls__call *call, struct ls__list *to)
{
    ls__list_remove(call);
    ls__list_append(to, call);
}

/* A round whose answer was lost on the way is asked again. */
static void rounds_retry(struct ls_group *group, uint64_t now_us)
{
    uint64_t patience_us = (uint64_t)group->election_ms * 1000u;
    struct ls__call *next = NULL;
    for (struct ls__call *call = group->calls.rounds.first; call != NULL; call = next) {
        next = call->next;
        if (now_us - call->asked_us < patience_us) {
            return; /* in the order of asking */
        }
        move(call, &group->calls.reads);
    }
}

void ls__reads_begin(struct ls_group *group)
{
    uint64_t now = ls__now(group->node);
    rounds_retry(group, now);
    if (group->calls.reads.first == NULL) {
        return;
    }
    if (group->role != LS_ROLE_LEADER && ls_peer_id_is_zero(&group->leader)) {
        return; /* a change of leader touches the group */
    }
    uint64_t token = ++group->calls.next_token;
    while (group->calls.reads.first != NULL) {
        struct ls__call *call = group->calls.reads.first;
        call->token = token;
        call->asked_us = now;
        move(call, &group->calls.rounds);
    }
    struct ls_event event = {.kind = LS_EVENT_READ, .as.read_token = token};
    if (ls__group_step(group, &event, NULL) != LS_OK) {
        ls__reads_result(group, &(struct ls_read_result){token, LS_ERR_NO_MEMORY, 0});
    }
}

void ls__reads_result(struct ls_group *group, const struct ls_read_result *result)
{
    struct ls__call *next = NULL;
    for (struct ls__call *call = group->calls.rounds.first; call != NULL; call = next) {
        next = call->next;
        if (call->token != result->token) {
            continue;
        }
        if (result->status == LS_OK) {
            call->read_index = result->index;
            move(call, &group->calls.fresh);
        } else {
            move(call, &group->calls.reads); /* nothing was read: again, until the deadline */
            ls__group_retry(group, LS__RETRY_US * 10);
        }
    }
}

static void query_run(struct ls_group *group, struct ls__call *call)
{
    struct ls_node *node = group->node;
    enum ls_status status = LS_OK;
    if (call->kind != LS__CALL_BARRIER) {
        status = ls__replies_reset(&call->replies, 1);
        if (status == LS_OK) {
            node->in_machine = true;
            status = group->machine.query(group->machine.self, call->commands[0], &call->replies);
            node->in_machine = false;
            if (status == LS_OK && call->replies.slots[0].lost) {
                status = LS_ERR_NO_MEMORY;
            }
        }
    }
    ls__call_finish(group, call, status);
}

void ls__reads_applied(struct ls_group *group)
{
    struct ls__call *next = NULL;
    for (struct ls__call *call = group->calls.fresh.first; call != NULL; call = next) {
        next = call->next;
        if (call->read_index <= group->applied || LS_MUTANT(R10)) {
            query_run(group, call);
        }
    }
}
