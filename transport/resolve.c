/* SPDX-License-Identifier: MIT */
/*
 * Names to addresses without stopping the loop: getaddrinfo blocks, so each question has a thread
 * of its own for as long as it takes. Numeric addresses never come here.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tcp.h"

struct ls__resolve {
    struct ls_env env;
    struct ls__tcp *tcp;
    struct ls__event answered;
    int descriptor; /* readable when the answer is there */
    pthread_mutex_t lock;
    bool done, abandoned; /* whoever comes second frees */
    char text[LS_ADDRESS_BYTES];
    struct ls__address address;
    const char *reason;
    ls__resolved then;
    void *arg;
};

static void resolve_free(struct ls__resolve *resolve)
{
    struct ls_env env = resolve->env;
    (void)close(resolve->descriptor);
    (void)pthread_mutex_destroy(&resolve->lock);
    (void)env.allocate(env.self, resolve, 0);
}

static void *resolve_run(void *arg)
{
    struct ls__resolve *resolve = arg;
    const uint64_t one = 1;
    resolve->reason = ls__address_resolve(resolve->text, false, &resolve->address);
    (void)pthread_mutex_lock(&resolve->lock);
    resolve->done = true;
    bool abandoned = resolve->abandoned;
    if (!abandoned) {
        (void)!write(resolve->descriptor, &one, sizeof one);
    }
    (void)pthread_mutex_unlock(&resolve->lock);
    if (abandoned) {
        resolve_free(resolve);
    }
    return NULL;
}

static void on_answer(void *arg)
{
    struct ls__resolve *resolve = arg;
    struct ls__tcp *tcp = resolve->tcp;
    ls__tcp_enter(tcp);
    (void)pthread_mutex_lock(&resolve->lock);
    const struct ls__address address = resolve->address;
    const char *reason = resolve->reason;
    (void)pthread_mutex_unlock(&resolve->lock);
    ls__resolved then = resolve->then;
    void *then_arg = resolve->arg;
    ls__resolve_close(resolve);
    then(then_arg, reason == NULL ? &address : NULL, reason);
    ls__tcp_leave(tcp);
}

/* Detached, with all signals blocked: the application's handlers are not for our threads. */
static int thread_start(struct ls__resolve *resolve)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    if (pthread_attr_init(&attributes) != 0) {
        return -1;
    }
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, &attributes, resolve_run, resolve);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return failed;
}

struct ls__resolve *ls__resolve_open(struct ls__tcp *tcp, const char *text, ls__resolved then,
                                     void *arg)
{
    struct ls__resolve *resolve = ls__tcp_allocate(tcp, NULL, sizeof *resolve);
    if (resolve == NULL) {
        return NULL;
    }
    *resolve = (struct ls__resolve){.env = tcp->env, .tcp = tcp, .then = then, .arg = arg};
    (void)snprintf(resolve->text, sizeof resolve->text, "%s", text);
    LS_ASSERT(pthread_mutex_init(&resolve->lock, NULL) == 0);
    resolve->descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (resolve->descriptor < 0) {
        (void)pthread_mutex_destroy(&resolve->lock);
        return ls__tcp_allocate(tcp, resolve, 0);
    }
    ls__tcp_event(tcp, &resolve->answered, LS__EVENT_READABLE, resolve->descriptor, on_answer,
                  resolve);
    if (!ls__tcp_add(tcp, &resolve->answered, 0) || thread_start(resolve) != 0) {
        ls__tcp_remove(tcp, &resolve->answered);
        resolve_free(resolve);
        return NULL;
    }
    return resolve;
}

void ls__resolve_close(struct ls__resolve *resolve)
{
    if (resolve == NULL) {
        return;
    }
    ls__tcp_remove(resolve->tcp, &resolve->answered);
    (void)pthread_mutex_lock(&resolve->lock);
    resolve->abandoned = true;
    bool done = resolve->done;
    (void)pthread_mutex_unlock(&resolve->lock);
    if (done) {
        resolve_free(resolve);
    }
}
