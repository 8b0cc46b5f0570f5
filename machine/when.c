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
    struct ls_peer_id leader; /* when asked */
    void (*then)(void *arg, enum ls_status status);
    void *arg;
};

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
        return group->reverted;
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
        condition->kind > LS_WHEN_LOG_REVERTS) {
        return LS_ERR_INVALID;
    }
    struct ls__waiter *waiter = ls__allocate(&group->node->env, NULL, sizeof *waiter);
    if (waiter == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    *waiter =
        (struct ls__waiter){group->waiters, *condition, group->commit, group->leader, then, arg};
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

/* Shared by the waiting thread and the loop; whoever comes last frees it. */
struct wait {
    struct ls_env env;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct ls_group *group;
    struct ls_condition condition;
    bool done, abandoned;
    enum ls_status status;
};

static void wait_free(struct wait *wait)
{
    (void)pthread_cond_destroy(&wait->changed);
    (void)pthread_mutex_destroy(&wait->lock);
    struct ls_env env = wait->env;
    (void)env.allocate(env.self, wait, 0);
}

static void wait_done(void *arg, enum ls_status status)
{
    struct wait *wait = arg;
    (void)pthread_mutex_lock(&wait->lock);
    wait->done = true;
    wait->status = status;
    bool abandoned = wait->abandoned;
    (void)pthread_cond_signal(&wait->changed);
    (void)pthread_mutex_unlock(&wait->lock);
    if (abandoned) {
        wait_free(wait);
    }
}

static void wait_begin(void *arg)
{
    struct wait *wait = arg;
    enum ls_status status = ls_group_when(wait->group, &wait->condition, wait_done, wait);
    if (status != LS_OK) {
        wait_done(wait, status);
    }
}

enum ls_status ls_group_wait(struct ls_group *group, const struct ls_condition *condition,
                             uint32_t timeout_ms)
{
    struct ls_node *node = group->node;
    if (node->loop.inside(node->loop.self)) {
        return LS_ERR_WOULD_DEADLOCK;
    }
    struct wait *wait = ls__allocate(&node->env, NULL, sizeof *wait);
    if (wait == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    *wait = (struct wait){.env = node->env, .group = group, .condition = *condition};
    (void)pthread_mutex_init(&wait->lock, NULL);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&wait->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000u;
    until.tv_nsec += (long)(timeout_ms % 1000u) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    enum ls_status status = ls_node_post(node, wait_begin, wait);
    if (status != LS_OK) {
        wait_free(wait);
        return status;
    }
    (void)pthread_mutex_lock(&wait->lock);
    int waited = 0;
    while (!wait->done && waited != ETIMEDOUT) {
        waited = pthread_cond_timedwait(&wait->changed, &wait->lock, &until);
    }
    bool done = wait->done;
    status = done ? wait->status : LS_ERR_TIMEOUT;
    wait->abandoned = true;
    (void)pthread_mutex_unlock(&wait->lock);
    if (done) {
        wait_free(wait);
    }
    return status;
}
