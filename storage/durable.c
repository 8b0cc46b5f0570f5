/* SPDX-License-Identifier: MIT */
/*
 * The durable store: the storage port over the engine, the guard files and the writer thread
 * (durable.h draws how they meet, and names the files). Everything here runs on the loop's thread.
 */
#include "durable.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* a batch that grew beyond this is given back to the allocator after its write */
#define BATCH_BYTES_KEPT ((size_t)1 << 20)

/* buffers */

static void buffer_close(struct ls__durable *durable, struct ls__buffer *buffer)
{
    if (buffer != NULL) {
        ls__engine_batch_close(buffer->batch);
        ls__free(&durable->env, buffer->parts);
        ls__free(&durable->env, buffer);
    }
}

static void buffers_close(struct ls__durable *durable, struct ls__buffer *list)
{
    while (list != NULL) {
        struct ls__buffer *buffer = list;
        list = buffer->next;
        buffer_close(durable, buffer);
    }
}

/* The mutex is held. */
static void buffer_recycle(struct ls__durable *durable, struct ls__buffer *buffer)
{
    if (buffer->bytes > BATCH_BYTES_KEPT) {
        ls__engine_batch_close(buffer->batch);
        buffer->batch = ls__engine_batch_open();
    } else {
        ls__engine_batch_clear(buffer->batch);
    }
    buffer->parts_count = buffer->bytes = 0;
    buffer->entries = buffer->payload_bytes = 0;
    buffer->sync = buffer->written = false;
    buffer->next = durable->spare;
    durable->spare = buffer;
}

static void durable_commit(void *self)
{
    struct ls__durable *durable = self;
    (void)pthread_mutex_lock(&durable->mutex);
    ls__writer_want(durable);
    (void)pthread_mutex_unlock(&durable->mutex);
}

static int durable_descriptor(void *self)
{
    return ((struct ls__durable *)self)->event;
}

static void trace_failure(struct ls__durable *durable)
{
    if (!durable->failure_traced && durable->env.trace != NULL) {
        const struct ls_trace trace = {.level = LS_TRACE_ERROR,
                                       .room = "storage",
                                       .format = "the store failed and promises nothing more",
                                       .detail = durable->failure.text};
        durable->env.trace(durable->env.self, &trace);
    }
    durable->failure_traced = true;
}

static void group_free(struct ls__durable *durable, struct ls_storage_group *group)
{
    if (group->guard_file >= 0) {
        (void)close(group->guard_file);
    }
    ls__ledger_release(&group->ledger);
    ls__free(&durable->env, group);
}

/* Frees the closed groups that nobody holds any more. The mutex is held. */
static void reap(struct ls__durable *durable)
{
    struct ls_storage_group **at = &durable->groups;
    while (*at != NULL) {
        struct ls_storage_group *group = *at;
        if (group->closing && group->buffers == 0 && !group->dirty) {
            *at = group->next;
            group_free(durable, group);
        } else {
            at = &group->next;
        }
    }
}

static void report(struct ls__durable *durable, struct ls__buffer *buffer)
{
    for (size_t i = 0; i < buffer->parts_count && buffer->written; i++) {
        struct ls_storage_group *group = buffer->parts[i].group;
        uint64_t seq = buffer->parts[i].outcome.seq;
        if (group->closing) {
            continue;
        }
        ls__ledger_settle(&group->ledger, buffer->generation);
        if (seq > group->reported) {
            group->reported = seq;
            durable->sink.durable(durable->sink.self, group->context, seq);
        }
    }
}

static void report_failure(struct ls__durable *durable)
{
    trace_failure(durable);
    for (struct ls_storage_group *group = durable->groups; group != NULL; group = group->next) {
        if (!group->failed && !group->closing) {
            group->failed = true;
            durable->sink.failed(durable->sink.self, group->context, group->reported + 1, LS_ERR_IO,
                                 durable->failure.text);
        }
    }
}

static void durable_collect(void *self)
{
    struct ls__durable *durable = self;
    uint64_t events;
    ssize_t got = read(durable->event, &events, sizeof events);
    (void)got; /* nothing to read: collected already */
    (void)pthread_mutex_lock(&durable->mutex);
    struct ls__buffer *list = durable->written;
    durable->written = NULL;
    durable->written_end = &durable->written;
    bool failed = durable->failed != LS_OK;
    (void)pthread_mutex_unlock(&durable->mutex);

    for (struct ls__buffer *buffer = list; buffer != NULL; buffer = buffer->next) {
        report(durable, buffer);
    }
    (void)pthread_mutex_lock(&durable->mutex);
    while (list != NULL) {
        struct ls__buffer *buffer = list;
        list = buffer->next;
        for (size_t i = 0; i < buffer->parts_count; i++) {
            buffer->parts[i].group->buffers--;
        }
        buffer_recycle(durable, buffer);
    }
    reap(durable);
    (void)pthread_mutex_unlock(&durable->mutex);
    if (failed) {
        report_failure(durable);
    }
}

static enum ls_status durable_read(void *self, struct ls_storage_group *group, ls_index first,
                                   ls_index last, size_t bytes_max, ls_storage_visit visit,
                                   void *arg)
{
    struct ls__durable *durable = self;
    enum ls_status status = ls__ledger_readable(&group->ledger, first, &last);
    if (status != LS_OK) {
        return status;
    }
    struct ls__scan scan = {.ledger = &group->ledger,
                            .next = first,
                            .last = last,
                            .bytes_left = bytes_max,
                            .visit = visit,
                            .arg = arg};
    struct ls__pages pages;
    status = ls__pages_open(&pages, &durable->env, durable->engine, &group->ledger.id, first);
    if (status != LS_OK) {
        return status;
    }
    bool more = true;
    bool ended = false;
    while (status == LS_OK && more && !ended) {
        ls_index index;
        struct ls_span bytes;
        if (!ls__pages_next(&pages, &index, &bytes)) {
            ended = true;
        } else if (index != scan.next) {
            status = LS_ERR_CORRUPT; /* a hole */
        } else {
            status = ls__scan_take(&scan, bytes, &more);
        }
    }
    enum ls_status read = ls__pages_close(&pages, NULL);
    if (read != LS_OK) {
        return read;
    }
    /* an end before the last durable record is a hole */
    return ended ? LS_ERR_CORRUPT : status;
}

/* A group that was closed a moment ago is written out and forgotten first; LS_ERR_INVALID if one
 * with that id is open. The mutex is held. */
static enum ls_status make_way(struct ls__durable *durable, const struct ls_group_id *id)
{
    for (struct ls_storage_group *group = durable->groups; group != NULL; group = group->next) {
        if (!ls_group_id_equal(&group->ledger.id, id)) {
            continue;
        }
        if (!group->closing) {
            return LS_ERR_INVALID;
        }
        ls__writer_rest(durable, group);
        for (struct ls__buffer *buffer = durable->written; buffer != NULL; buffer = buffer->next) {
            for (size_t i = 0; i < buffer->parts_count; i++) {
                if (buffer->parts[i].group == group) {
                    buffer->parts[i] = buffer->parts[--buffer->parts_count];
                    group->buffers--;
                    break;
                }
            }
        }
        LS_ASSERT(group->buffers == 0);
        reap(durable);
        return LS_OK;
    }
    return LS_OK;
}

static enum ls_status durable_open_group(void *self, const struct ls_group_id *id,
                                         void *group_context, struct ls_storage_group **group,
                                         struct ls_storage_state *state, struct ls_error *error)
{
    struct ls__durable *durable = self;
    (void)pthread_mutex_lock(&durable->mutex);
    enum ls_status status = make_way(durable, id);
    bool failed = durable->failed != LS_OK;
    (void)pthread_mutex_unlock(&durable->mutex);
    if (status != LS_OK) {
        return ls_error_set(error, status, "open %s: the group is already open", durable->path);
    }
    if (failed) {
        return ls_error_set(error, LS_ERR_IO, "%s", durable->failure.text);
    }
    struct ls_storage_group *made = ls__allocate(&durable->env, sizeof *made);
    if (made == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "open %s: out of memory", durable->path);
    }
    *made = (struct ls_storage_group){.context = group_context, .guard_file = -1};
    ls__ledger_init(&made->ledger, &durable->env, id);
    status = ls__durable_load(durable, made, state, error);
    if (status != LS_OK) {
        group_free(durable, made);
        return ls_error_wrap(error, status, "open %s", durable->path);
    }
    (void)pthread_mutex_lock(&durable->mutex);
    made->next = durable->groups;
    durable->groups = made;
    (void)pthread_mutex_unlock(&durable->mutex);
    *group = made;
    return LS_OK;
}

static void durable_attach(void *self, const struct ls_storage_sink *sink)
{
    struct ls__durable *durable = self;
    LS_ASSERT(durable->groups == NULL);
    durable->sink = *sink;
}

static void durable_close_group(void *self, struct ls_storage_group *group)
{
    struct ls__durable *durable = self;
    (void)pthread_mutex_lock(&durable->mutex);
    LS_ASSERT(!group->closing);
    /* its commit hint is written now; without memory it is lost, which a hint may be */
    if (group->hinted && durable->failed == LS_OK && ls__durable_touch(durable, group) != NULL) {
        durable->pending->sync = true;
    }
    group->closing = true;
    durable->guard_due_us = 0; /* its cursor is synced now */
    ls__writer_want(durable);
    (void)pthread_cond_signal(&durable->work);
    reap(durable);
    (void)pthread_mutex_unlock(&durable->mutex);
}

static void release(struct ls__durable *durable)
{
    while (durable->groups != NULL) {
        struct ls_storage_group *group = durable->groups;
        durable->groups = group->next;
        group_free(durable, group);
    }
    buffer_close(durable, durable->pending);
    buffers_close(durable, durable->spare);
    buffers_close(durable, durable->written);
    ls__engine_close(durable->engine);
    ls__directory_close(&durable->directory);
    if (durable->event >= 0) {
        (void)close(durable->event);
    }
    struct ls_env env = durable->env;
    ls__free(&env, durable->path);
    ls__free(&env, durable);
}

static void durable_close(void *self)
{
    ls__writer_stop(self);
    release(self);
}

static struct ls_incarnation durable_incarnation(void *self)
{
    return ((struct ls__durable *)self)->incarnation;
}

static void durable_counters(void *self, struct ls_storage_counters *out)
{
    struct ls__durable *durable = self;
    (void)pthread_mutex_lock(&durable->mutex);
    *out = durable->counters;
    (void)pthread_mutex_unlock(&durable->mutex);
}

static enum ls_status start(struct ls__durable *durable, uint64_t write_buffer_bytes,
                            struct ls_error *error)
{
    enum ls_status status = ls__directory_open(durable->path, &durable->directory, error);
    if (status != LS_OK) {
        return status;
    }
    durable->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (durable->event < 0) {
        return ls_error_set(error, LS_ERR_IO, "eventfd: %s", strerror(errno));
    }
    status = ls__durable_open_log(durable, write_buffer_bytes, error);
    return status == LS_OK ? ls__writer_start(durable, error) : status;
}

static struct ls__durable *make(const struct ls_storage_rocksdb_options *options)
{
    const struct ls_env *env = options->env != NULL ? options->env : ls_env_default();
    struct ls__durable *durable = ls__allocate(env, sizeof *durable);
    size_t bytes = strlen(options->directory) + 1;
    char *path = durable == NULL ? NULL : ls__allocate(env, bytes);
    if (path == NULL) {
        ls__free(env, durable);
        return NULL;
    }
    (void)memcpy(path, options->directory, bytes);
    *durable = (struct ls__durable){.env = *env,
                                    .path = path,
                                    .directory = {-1, -1, -1},
                                    .event = -1,
                                    .guard_due_us = UINT64_MAX};
    durable->written_end = &durable->written;
    return durable;
}

enum ls_status ls_storage_rocksdb_open(const struct ls_storage_rocksdb_options *options,
                                       struct ls_storage *out, struct ls_error *error)
{
    const char *reason = ls__storage_options_invalid(options, options->size, sizeof *options);
    if (reason != NULL) {
        return ls_error_set(error, LS_ERR_INVALID, "open store: %s", reason);
    }
    if (options->directory == NULL || options->directory[0] == '\0') {
        return ls_error_set(error, LS_ERR_INVALID, "open store: a directory is required");
    }
    struct ls__durable *durable = make(options);
    if (durable == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "open %s: out of memory", options->directory);
    }
    uint64_t bytes = options->write_buffer_bytes != 0 ? options->write_buffer_bytes
                                                      : LS_STORAGE_WRITE_BUFFER_BYTES_DEFAULT;
    enum ls_status status = start(durable, bytes, error);
    if (status != LS_OK) {
        release(durable);
        return ls_error_wrap(error, status, "open %s", options->directory);
    }
    *out = (struct ls_storage){
        .size = sizeof *out,
        .self = durable,
        .attach = durable_attach,
        .open_group = durable_open_group,
        .stage = ls__durable_stage,
        .commit = durable_commit,
        .descriptor = durable_descriptor,
        .collect = durable_collect,
        .read = durable_read,
        .prune = ls__durable_prune,
        .close_group = durable_close_group,
        .close = durable_close,
        .incarnation = durable_incarnation,
        .counters = durable_counters,
    };
    return LS_OK;
}
