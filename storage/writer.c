/* SPDX-License-Identifier: MIT */
/*
 * The writer thread of the durable store: one synced write for everything that was pending, then
 * the guards whose term or vote changed. The first error is latched, and from then on nothing is
 * written: what is on the disk is known again only after close and reopen (P10).
 */
#include "durable.h"

#include "crash.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_us(const struct ls__durable *durable)
{
    return durable->env.now_us(durable->env.self);
}

static enum ls_status sync_guard(struct ls__durable *durable, struct ls_storage_group *group,
                                 struct ls_error *error)
{
    enum ls_status status =
        ls__guard_file_write(group->guard_file, &group->ledger.id, &group->guard);
    if (status != LS_OK) {
        return ls_error_set(error, status, "guard of group %s: %s", group->ledger.name,
                            strerror(errno));
    }
    group->guard_synced_us = now_us(durable);
    return LS_OK;
}

/* What the guards of a buffer's groups need, before or after its write. */
static enum ls_status sync_guards(struct ls__durable *durable, struct ls__buffer *buffer,
                                  bool before, uint64_t *syncs, struct ls_error *error)
{
    enum ls_status status = LS_OK;
    for (size_t i = 0; i < buffer->parts_count && status == LS_OK; i++) {
        struct ls_storage_group *group = buffer->parts[i].group;
        const struct ls__outcome *outcome = &buffer->parts[i].outcome;
        bool dirty = false;
        bool due = before ? ls__guard_before(&group->guard, outcome)
                          : ls__guard_after(&group->guard, outcome, &dirty);
        if (due) {
            status = sync_guard(durable, group, error);
            (*syncs)++;
            LS__CRASH(before ? "guard.before-write" : "guard.after-write");
        }
        buffer->parts[i].dirty = before ? false : dirty;
        buffer->parts[i].clean = due && !before;
    }
    return status;
}

static enum ls_status write_buffer(struct ls__durable *durable, struct ls__buffer *buffer,
                                   struct ls_storage_counters *counters, struct ls_error *error)
{
    enum ls_status status = sync_guards(durable, buffer, true, &counters->guard_syncs, error);
    if (status == LS_OK && buffer->sync) {
        uint64_t begun = now_us(durable);
        LS__CRASH_WRITE("before-write");
        status = ls__engine_write(durable->engine, buffer->batch, error);
        LS__CRASH_WRITE("after-write");
        uint64_t took = now_us(durable) - begun;
        counters->syncs++;
        counters->sync_us_total += took;
        counters->sync_us_max = took;
    }
    if (status == LS_OK) {
        status = sync_guards(durable, buffer, false, &counters->guard_syncs, error);
    }
    counters->entries += buffer->entries;
    counters->bytes += buffer->payload_bytes;
    return status;
}

static void add_counters(struct ls__durable *durable, const struct ls_storage_counters *more)
{
    struct ls_storage_counters *all = &durable->counters;
    all->syncs += more->syncs;
    all->guard_syncs += more->guard_syncs;
    all->entries += more->entries;
    all->bytes += more->bytes;
    all->sync_us_total += more->sync_us_total;
    if (more->sync_us_max > all->sync_us_max) {
        all->sync_us_max = more->sync_us_max;
    }
}

static void announce(struct ls__durable *durable)
{
    const uint64_t one = 1;
    ssize_t written;
    do {
        written = write(durable->event, &one, sizeof one);
    } while (written < 0 && errno == EINTR); /* EAGAIN: it is readable as it is */
    (void)pthread_cond_broadcast(&durable->rested);
}

/* The mutex is held, as in all that follow. */
static void latch(struct ls__durable *durable, const struct ls_error *error)
{
    if (durable->failed == LS_OK) {
        durable->failed = LS_ERR_IO;
        (void)ls_error_set(&durable->failure, LS_ERR_IO, "write %s: %s", durable->path,
                           error->text);
    }
    for (struct ls_storage_group *group = durable->groups; group != NULL; group = group->next) {
        group->dirty = false; /* nothing more is written */
    }
    durable->guard_due_us = UINT64_MAX;
}

static uint64_t due_of(const struct ls_storage_group *group)
{
    return group->closing ? 0 : group->guard_synced_us + LS__GUARD_PERIOD_US;
}

static void note_guards(struct ls__durable *durable, const struct ls__buffer *buffer)
{
    for (size_t i = 0; i < buffer->parts_count; i++) {
        struct ls_storage_group *group = buffer->parts[i].group;
        if (buffer->parts[i].clean) {
            group->dirty = false;
        } else if (buffer->parts[i].dirty) {
            group->dirty = true;
            uint64_t due = due_of(group);
            durable->guard_due_us = due < durable->guard_due_us ? due : durable->guard_due_us;
        }
    }
}

static void take_pending(struct ls__durable *durable)
{
    struct ls__buffer *buffer = durable->pending;
    durable->pending = NULL;
    durable->wanted = false;
    LS__CRASH_TAKEN();
    bool dead = durable->failed != LS_OK;
    struct ls_error error = {LS_OK, ""};
    struct ls_storage_counters counters = {0};
    durable->busy = true;
    if (!dead) {
        if (buffer->sync) {
            ls__durable_add_hints(durable, buffer);
        }
        (void)pthread_mutex_unlock(&durable->mutex);
        enum ls_status status = write_buffer(durable, buffer, &counters, &error);
        (void)pthread_mutex_lock(&durable->mutex);
        buffer->written = status == LS_OK;
        add_counters(durable, &counters);
        if (status != LS_OK) {
            latch(durable, &error);
        } else {
            note_guards(durable, buffer);
        }
    }
    durable->busy = false;
    *durable->written_end = buffer;
    durable->written_end = &buffer->next;
    LS__CRASH("write.done");
    announce(durable);
}

/* Syncs the guards whose time has come, and finds out when the next one is due. */
static void sync_due_guards(struct ls__durable *durable)
{
    uint64_t now = now_us(durable);
    durable->guard_due_us = UINT64_MAX;
    struct ls_storage_group *group = durable->groups;
    while (group != NULL) {
        uint64_t due = due_of(group);
        if (!group->dirty || (due > now && !durable->stop)) {
            if (group->dirty && due < durable->guard_due_us) {
                durable->guard_due_us = due;
            }
            group = group->next;
            continue;
        }
        struct ls_error error = {LS_OK, ""};
        durable->busy = true; /* keeps the group from being released */
        group->guard.sequence++;
        (void)pthread_mutex_unlock(&durable->mutex);
        LS__CRASH("guard.due");
        enum ls_status status = sync_guard(durable, group, &error);
        (void)pthread_mutex_lock(&durable->mutex);
        durable->busy = false;
        group->dirty = false;
        durable->counters.guard_syncs++;
        group = group->next;
        if (status != LS_OK) {
            latch(durable, &error);
        }
        announce(durable);
    }
}

static void wait_for_work(struct ls__durable *durable)
{
    if (durable->guard_due_us == UINT64_MAX) {
        (void)pthread_cond_wait(&durable->work, &durable->mutex);
        return;
    }
    uint64_t now = now_us(durable);
    uint64_t left = durable->guard_due_us > now ? durable->guard_due_us - now : 0;
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t nanoseconds = (uint64_t)until.tv_nsec + left * 1000u;
    until.tv_sec += (time_t)(nanoseconds / 1000000000u);
    until.tv_nsec = (long)(nanoseconds % 1000000000u);
    (void)pthread_cond_timedwait(&durable->work, &durable->mutex, &until);
}

static void *run(void *arg)
{
    struct ls__durable *durable = arg;
    (void)pthread_mutex_lock(&durable->mutex);
    for (;;) {
        /* guards first: under a steady load there is always something wanted */
        bool due = durable->guard_due_us != UINT64_MAX && now_us(durable) >= durable->guard_due_us;
        if (due) {
            sync_due_guards(durable);
        } else if (durable->wanted && durable->pending != NULL) {
            take_pending(durable);
        } else if (durable->stop) {
            sync_due_guards(durable);
            break;
        } else {
            wait_for_work(durable);
        }
    }
    (void)pthread_mutex_unlock(&durable->mutex);
    return NULL;
}

enum ls_status ls__writer_start(struct ls__durable *durable, struct ls_error *error)
{
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&durable->mutex, NULL);
    (void)pthread_cond_init(&durable->work, &monotonic);
    (void)pthread_cond_init(&durable->rested, NULL);
    (void)pthread_condattr_destroy(&monotonic);
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    int failure = pthread_create(&durable->writer, NULL, run, durable);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure != 0) {
        (void)pthread_cond_destroy(&durable->rested);
        (void)pthread_cond_destroy(&durable->work);
        (void)pthread_mutex_destroy(&durable->mutex);
        return ls_error_set(error, LS_ERR_IO, "cannot start a thread: %s", strerror(failure));
    }
    return LS_OK;
}

void ls__writer_stop(struct ls__durable *durable)
{
    (void)pthread_mutex_lock(&durable->mutex);
    durable->wanted = durable->pending != NULL;
    durable->stop = true;
    (void)pthread_cond_signal(&durable->work);
    (void)pthread_mutex_unlock(&durable->mutex);
    (void)pthread_join(durable->writer, NULL);
    (void)pthread_cond_destroy(&durable->rested);
    (void)pthread_cond_destroy(&durable->work);
    (void)pthread_mutex_destroy(&durable->mutex);
}

void ls__writer_want(struct ls__durable *durable)
{
    if (durable->pending != NULL && !durable->wanted) {
        durable->wanted = true;
        (void)pthread_cond_signal(&durable->work);
    }
}

void ls__writer_rest(struct ls__durable *durable, const struct ls_storage_group *group)
{
    ls__writer_want(durable);
    (void)pthread_cond_signal(&durable->work);
    while (durable->busy || durable->wanted || group->dirty) {
        (void)pthread_cond_wait(&durable->rested, &durable->mutex);
    }
}
