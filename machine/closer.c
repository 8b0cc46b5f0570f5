/* SPDX-License-Identifier: MIT */
/*
 * Closing a store or a vault waits for its last sync, and a sync may hang for as long as a disk
 * likes. So each is closed on a thread of its own, for which the node waits until its deadline and
 * no longer: what is left behind then frees itself when the disk answers, or ends with the process.
 */
#include "runtime.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

/* even when the deadline has passed, a healthy disk gets this long */
#define CLOSE_MS_MIN 200u

/* Shared by the node and the closing thread; whoever comes last frees it. */
struct closer {
    struct ls_env env;
    void (*close)(void *self);
    void *self;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done, abandoned;
};

static void closer_free(struct closer *closer)
{
    (void)pthread_cond_destroy(&closer->changed);
    (void)pthread_mutex_destroy(&closer->lock);
    struct ls_env env = closer->env;
    (void)env.allocate(env.self, closer, 0);
}

static void *closer_run(void *arg)
{
    struct closer *closer = arg;
    closer->close(closer->self);
    (void)pthread_mutex_lock(&closer->lock);
    closer->done = true;
    bool abandoned = closer->abandoned;
    (void)pthread_cond_signal(&closer->changed);
    (void)pthread_mutex_unlock(&closer->lock);
    if (abandoned) {
        closer_free(closer);
    }
    return NULL;
}

static struct timespec after_us(uint64_t wait_us)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    uint64_t nanoseconds = (uint64_t)at.tv_nsec + wait_us * 1000u;
    at.tv_sec += (time_t)(nanoseconds / 1000000000u);
    at.tv_nsec = (long)(nanoseconds % 1000000000u);
    return at;
}

static bool closer_wait(struct closer *closer, pthread_t thread, uint64_t wait_us)
{
    const struct timespec until = after_us(wait_us);
    (void)pthread_mutex_lock(&closer->lock);
    int waited = 0;
    while (!closer->done && waited != ETIMEDOUT) {
        waited = pthread_cond_timedwait(&closer->changed, &closer->lock, &until);
    }
    bool done = closer->done;
    closer->abandoned = !done;
    (void)pthread_mutex_unlock(&closer->lock);
    if (done) {
        (void)pthread_join(thread, NULL);
        closer_free(closer);
    } else {
        (void)pthread_detach(thread);
    }
    return done;
}

bool ls__close_in_time(const struct ls_env *env, void (*close)(void *self), void *self,
                       uint64_t until_us)
{
    struct closer *closer = ls__allocate(env, NULL, sizeof *closer);
    if (closer == NULL) {
        close(self);
        return true;
    }
    *closer = (struct closer){.env = *env, .close = close, .self = self};
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&closer->lock, NULL);
    (void)pthread_cond_init(&closer->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    pthread_t thread;
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, closer_run, closer);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        close(self);
        closer_free(closer);
        return true;
    }
    uint64_t now = env->now_us(env->self);
    uint64_t wait_us = until_us > now ? until_us - now : 0;
    return closer_wait(closer, thread,
                       wait_us > CLOSE_MS_MIN * 1000u ? wait_us : CLOSE_MS_MIN * 1000u);
}
