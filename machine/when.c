/* SPDX-License-Identifier: MIT */
/*
 * Conditions on a group: one-shot callbacks on the loop's thread, and the blocking wait for other
 * threads.
 */
#include "runtime.h"

#include <errno.h>
#include <string.h>
#include <time.h>

struct ls__waiter {
    struct ls__waiter *next;
    struct ls_condition condition;
    ls_index commit;          /* when asked */
    uint64_t reversions;      /* when asked */
    struct ls_peer_id leader; /* when asked */
    uint64_t bond_changes;    /* when asked */
    uint64_t generation;      /* of the catch-up when asked, and: */
    enum ls_sync_phase phase;
    uint32_t percent;
    void (*then)(void *arg, enum ls_status status);
    void *arg;
};

static bool sync_holds(const struct ls_group *group, const struct ls__waiter *waiter)
{
    struct ls_sync_progress sync;
    ls_supervisor_progress(group->supervisor, &sync);
    if (waiter->condition.kind == LS_WHEN_SYNC_PHASE) {
        return sync.phase == waiter->condition.phase;
    }
    return sync.generation != waiter->generation || sync.phase != waiter->phase ||
           sync.percent != waiter->percent;
}

static bool holds(const struct ls_group *group, const struct ls__waiter *waiter)
{
    const struct ls_condition *condition = &waiter->condition;
    switch (condition->kind) {
    case LS_WHEN_LEADER_KNOWN:
        return !ls_peer_id_is_zero(&group->leader);
    case LS_WHEN_LEADER_CHANGED:
        return !ls_peer_id_is_zero(&group->leader) &&
               !ls_peer_id_equal(&group->leader, &waiter->leader);
    case LS_WHEN_LEADER_IS:
        return ls_peer_id_equal(&group->leader, &condition->peer);
    case LS_WHEN_I_LEAD:
        return group->role == LS_ROLE_LEADER;
    case LS_WHEN_I_FOLLOW:
        return group->role == LS_ROLE_FOLLOWER && !ls_peer_id_is_zero(&group->leader);
    case LS_WHEN_ONLINE:
        return ls__group_online(group);
    case LS_WHEN_OFFLINE:
        return !ls__group_online(group);
    case LS_WHEN_SERVING:
        return ls__group_serving(group);
    case LS_WHEN_COMMITTED:
        return group->commit >= condition->index;
    case LS_WHEN_COMMIT_ADVANCES:
        return group->commit > waiter->commit;
    case LS_WHEN_APPLIED:
        return group->applied >= condition->index;
    case LS_WHEN_LOG_REVERTS:
        return group->reversions > waiter->reversions;
    case LS_WHEN_SYNC_MOVES:
    case LS_WHEN_SYNC_PHASE:
        return sync_holds(group, waiter);
    case LS_WHEN_BONDS_CHANGE:
        return group->bond_changes > waiter->bond_changes;
    }
    return false;
}

enum ls_status ls_group_when(struct ls_group *group, const struct ls_condition *condition,
                             void (*then)(void *arg, enum ls_status status), void *arg)
{
    if (group->node->in_machine) {
        return LS_ERR_REENTRANT;
    }
    if (group->closing || group->closed) {
        return LS_ERR_CLOSED;
    }
    if (then == NULL || condition->kind < LS_WHEN_LEADER_KNOWN ||
        condition->kind > LS_WHEN_BONDS_CHANGE) {
        return LS_ERR_INVALID;
    }
    struct ls_sync_progress sync;
    ls_supervisor_progress(group->supervisor, &sync);
    struct ls__waiter *waiter = ls__allocate(&group->node->env, NULL, sizeof *waiter);
    if (waiter == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    *waiter = (struct ls__waiter){.next = group->waiters,
                                  .condition = *condition,
                                  .commit = group->commit,
                                  .reversions = group->reversions,
                                  .leader = group->leader,
                                  .bond_changes = group->bond_changes,
                                  .generation = sync.generation,
                                  .phase = sync.phase,
                                  .percent = sync.percent,
                                  .then = then,
                                  .arg = arg};
    group->waiters = waiter;
    ls__group_touch(group);
    return LS_OK;
}

/* Takes from the group the waiters that are due, so that their callbacks may add new ones. */
static struct ls__waiter *take(struct ls_group *group, bool all)
{
    struct ls__waiter *due = NULL;
    for (struct ls__waiter **at = &group->waiters; *at != NULL;) {
        struct ls__waiter *waiter = *at;
        if (all || holds(group, waiter)) {
            *at = waiter->next;
            waiter->next = due;
            due = waiter;
        } else {
            at = &waiter->next;
        }
    }
    return due;
}

static void fire(struct ls_group *group, struct ls__waiter *due, enum ls_status status)
{
    while (due != NULL) {
        struct ls__waiter waiter = *due;
        (void)ls__allocate(&group->node->env, due, 0);
        waiter.then(waiter.arg, status);
        due = waiter.next;
    }
}

void ls__when_check(struct ls_group *group)
{
    fire(group, take(group, false), LS_OK);
}

void ls__when_end(struct ls_group *group)
{
    fire(group, take(group, true), LS_ERR_CLOSED);
}

/* ---- the blocking wait ---- */

/* Shared by the waiting thread, the condition, and the task that takes it back after the timeout;
 * whoever comes last frees it. */
struct wait {
    struct ls_env env;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t holders;
    struct ls_node *node;
    struct ls_group *group;
    struct ls_condition condition;
    bool done;
    enum ls_status status;
};

static void wait_release(struct wait *wait)
{
    (void)pthread_mutex_lock(&wait->lock);
    bool last = --wait->holders == 0;
    (void)pthread_mutex_unlock(&wait->lock);
    if (last) {
        (void)pthread_cond_destroy(&wait->changed);
        (void)pthread_mutex_destroy(&wait->lock);
        struct ls_env env = wait->env;
        (void)env.allocate(env.self, wait, 0);
    }
}

static void wait_done(void *arg, enum ls_status status)
{
    struct wait *wait = arg;
    (void)pthread_mutex_lock(&wait->lock);
    wait->done = true;
    wait->status = status;
    (void)pthread_cond_signal(&wait->changed);
    (void)pthread_mutex_unlock(&wait->lock);
    wait_release(wait);
}

static void wait_begin(void *arg)
{
    struct wait *wait = arg;
    const struct ls_group *group = wait->node->groups;
    while (group != NULL && group != wait->group) {
        group = group->next;
    }
    /* a group that closed since the call is not there any more */
    enum ls_status status = group == NULL
                                ? LS_ERR_CLOSED
                                : ls_group_when(wait->group, &wait->condition, wait_done, wait);
    if (status != LS_OK) {
        wait_done(wait, status);
    }
}

/* Nobody waits any more: a condition that never holds must not pile up. */
static void wait_end(void *arg)
{
    struct wait *wait = arg;
    (void)pthread_mutex_lock(&wait->lock);
    bool done = wait->done;
    (void)pthread_mutex_unlock(&wait->lock);
    if (!done) { /* then its group is still there */
        struct ls__waiter **at = &wait->group->waiters;
        while ((*at)->arg != wait) {
            at = &(*at)->next;
        }
        struct ls__waiter *waiter = *at;
        *at = waiter->next;
        (void)ls__allocate(&wait->env, waiter, 0);
        wait_release(wait);
    }
    wait_release(wait);
}

static void wait_give_up(struct wait *wait)
{
    (void)pthread_mutex_lock(&wait->lock);
    wait->holders++;
    (void)pthread_mutex_unlock(&wait->lock);
    if (ls_node_post(wait->node, wait_end, wait) != LS_OK) {
        wait_release(wait); /* the condition or the end of the group does it */
    }
}

static struct timespec after_ms(uint32_t wait_ms)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += wait_ms / 1000u;
    at.tv_nsec += (long)(wait_ms % 1000u) * 1000000L;
    if (at.tv_nsec >= 1000000000L) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000L;
    }
    return at;
}

static struct wait *wait_new(struct ls_group *group, const struct ls_condition *condition)
{
    struct ls_node *node = group->node;
    struct wait *wait = ls__allocate(&node->env, NULL, sizeof *wait);
    if (wait == NULL) {
        return NULL;
    }
    *wait = (struct wait){
        .env = node->env, .holders = 2, .node = node, .group = group, .condition = *condition};
    (void)pthread_mutex_init(&wait->lock, NULL);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&wait->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return wait;
}

enum ls_status ls_group_wait(struct ls_group *group, const struct ls_condition *condition,
                             uint32_t timeout_ms)
{
    struct ls_node *node = group->node;
    if (node->loop.inside(node->loop.self)) {
        return LS_ERR_WOULD_DEADLOCK;
    }
    struct timespec until = after_ms(timeout_ms);
    struct wait *wait = wait_new(group, condition);
    if (wait == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    enum ls_status status = ls_node_post(node, wait_begin, wait);
    if (status != LS_OK) {
        wait_release(wait);
        wait_release(wait);
        return status;
    }
    (void)pthread_mutex_lock(&wait->lock);
    int waited = 0;
    while (!wait->done && waited != ETIMEDOUT) {
        waited = pthread_cond_timedwait(&wait->changed, &wait->lock, &until);
    }
    bool done = wait->done;
    status = done ? wait->status : LS_ERR_TIMEOUT;
    (void)pthread_mutex_unlock(&wait->lock);
    if (!done) {
        wait_give_up(wait);
    }
    wait_release(wait);
    return status;
}
