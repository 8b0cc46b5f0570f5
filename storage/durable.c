/* SPDX-License-Identifier: MIT */
/*
 * The durable store: the storage port over the engine, the guard files and the writer thread
 * (durable.h draws how they meet). Everything here runs on the loop's thread.
 */
#include "durable.h"

#include "crash.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* a batch that grew beyond this is given back to the allocator after its write */
#define BATCH_BYTES_KEPT ((size_t)1 << 20)
/* the fixed part of a key and a value in a batch, about */
#define OPERATION_BYTES 64u

static const char store_key[] = "store";
static const struct ls_group_id no_group;

static struct ls_span cell_key(const struct ls_group_id *id, enum ls__cell cell, uint8_t out[33])
{
    (void)memcpy(out + 1, id->bytes, sizeof id->bytes);
    if (cell == LS__CELL_HARD) {
        return (struct ls_span){out + 1, sizeof id->bytes};
    }
    out[0] = cell == LS__CELL_ANCHOR ? 'a' : 'c';
    return (struct ls_span){out, 33};
}

static enum ls__family cell_family(enum ls__cell cell)
{
    return cell == LS__CELL_HARD ? LS__FAMILY_HARD : LS__FAMILY_META;
}

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

static struct ls__buffer *pending_buffer(struct ls__durable *durable)
{
    struct ls__buffer *buffer = durable->pending;
    if (buffer != NULL) {
        return buffer;
    }
    buffer = durable->spare;
    if (buffer != NULL) {
        durable->spare = buffer->next;
        buffer->next = NULL;
    } else {
        buffer = ls__allocate(&durable->env, sizeof *buffer);
        if (buffer == NULL) {
            return NULL;
        }
        *buffer = (struct ls__buffer){.batch = ls__engine_batch_open()};
    }
    buffer->generation = ++durable->generation;
    durable->pending = buffer;
    return buffer;
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

/* The group's part of the pending buffer; NULL: out of memory. The mutex is held. */
static struct ls__part *touch(struct ls__durable *durable, struct ls_storage_group *group)
{
    struct ls__buffer *buffer = pending_buffer(durable);
    if (buffer == NULL) {
        return NULL;
    }
    if (group->touched_generation == buffer->generation) {
        return &buffer->parts[group->touched_at];
    }
    void *array = buffer->parts;
    bool grown = ls__array_grow(&durable->env, &array, &buffer->parts_capacity,
                                buffer->parts_count + 1, sizeof *buffer->parts);
    buffer->parts = array;
    if (!grown) {
        return NULL;
    }
    group->touched_generation = buffer->generation;
    group->touched_at = buffer->parts_count++;
    group->buffers++;
    struct ls__part *part = &buffer->parts[group->touched_at];
    *part = (struct ls__part){.group = group,
                              .outcome = {.last = {group->ledger.last, group->ledger.chain.check}}};
    return part;
}

/* emit: what the ledger decided goes into the pending batch */

static enum ls_status emit_reserve(void *self, size_t operations, size_t bytes)
{
    struct ls__buffer *buffer = ((struct ls__durable *)self)->pending;
    bytes += operations * OPERATION_BYTES;
    if (buffer->bytes > 0 && buffer->bytes + bytes > LS_STORAGE_STAGED_BYTES_MAX) {
        return LS_ERR_BUSY;
    }
    buffer->bytes += bytes;
    return LS_OK;
}

static enum ls_status emit_find(void *self, ls_index index, struct ls__mark *out)
{
    struct ls__durable *durable = self;
    const struct ls__ledger *ledger = &durable->staging->ledger;
    struct ls__pages pages;
    enum ls_status status =
        ls__pages_open(&pages, &durable->env, durable->engine, &ledger->id, index);
    if (status != LS_OK) {
        return status;
    }
    ls_index found;
    struct ls_span bytes;
    struct ls__record record;
    const char *reason = "";
    status = LS_ERR_CORRUPT;
    if (ls__pages_next(&pages, &found, &bytes)) {
        status = ls__record_parse(ledger->chain.group, bytes, &record, &reason);
        if (status == LS_OK && (found != index || record.index != index)) {
            status = LS_ERR_CORRUPT;
        }
    }
    if (status == LS_OK) {
        *out = (struct ls__mark){{record.entry.term, index}, record.check};
    }
    enum ls_status read = ls__pages_close(&pages, NULL);
    return read != LS_OK ? read : status;
}

static void put_page(struct ls__durable *durable, ls_index first, const struct ls_span value[2])
{
    uint8_t key[LS__LOG_KEY_BYTES];
    ls__log_key(&durable->staging->ledger.id, first, key);
    ls__engine_batch_put(durable->engine, durable->pending->batch, LS__FAMILY_LOG,
                         (struct ls_span){key, sizeof key}, value);
}

/* Ends the page that is being filled. */
static void flush_page(struct ls__durable *durable)
{
    struct ls__page *page = &durable->page;
    if (page->bytes > 0) {
        const struct ls_span value[2] = {{page->data, page->bytes}, {NULL, 0}};
        put_page(durable, page->first, value);
        page->bytes = 0;
    }
}

/* The index at which the page of the durable record `index` begins; 0: it cannot be found now. */
static ls_index page_of(const struct ls__durable *durable, ls_index index)
{
    ls_index first = 0;
    struct ls_span bytes;
    struct ls__engine_iterator *iterator =
        ls__engine_iterate(durable->engine, &durable->staging->ledger.id, index);
    if (iterator == NULL) {
        return 0;
    }
    if (!ls__engine_iterator_record(iterator, &first, &bytes) || first > index) {
        first = 0;
    }
    return ls__engine_iterator_close(iterator, NULL) == LS_OK ? first : 0;
}

static void emit_remove(void *self, ls_index first, ls_index last)
{
    struct ls__durable *durable = self;
    ls_index range[2] = {first, last};
    LS_ASSERT(durable->page.bytes == 0);
    LS__CRASH_STAGED(last != UINT64_MAX ? "prune" : first == 0 ? "reset" : "truncate");
    durable->pending->sync = true;
    if (last != UINT64_MAX) {
        /* a prefix: the page of `last` may hold more than that, and stays */
        ls_index page = page_of(durable, last);
        if (page <= first) {
            return;
        }
        range[1] = page - 1;
    }
    ls__engine_batch_remove(durable->engine, durable->pending->batch, &durable->staging->ledger.id,
                            range);
    if (last == UINT64_MAX && first > 0) {
        /* the page before may reach beyond the cut */
        static const struct ls_span empty[2] = {{"", 0}, {NULL, 0}};
        LS__CRASH_STAGED("cut");
        put_page(durable, first, empty);
    }
}

static void emit_append(void *self, ls_index index, const uint8_t header[LS__RECORD_HEADER_BYTES],
                        struct ls_span payload)
{
    struct ls__durable *durable = self;
    struct ls__buffer *buffer = durable->pending;
    size_t bytes = LS__RECORD_HEADER_BYTES + payload.bytes;
    if (!ls__page_takes(&durable->page, index, bytes)) {
        flush_page(durable);
    }
    if (bytes > LS__PAGE_BYTES) {
        const struct ls_span value[2] = {{header, LS__RECORD_HEADER_BYTES}, payload};
        put_page(durable, index, value);
    } else {
        ls__page_add(&durable->page, index, header, payload);
    }
    LS__CRASH_STAGED("append");
    buffer->entries++;
    buffer->payload_bytes += payload.bytes;
    buffer->sync = true;
}

static void emit_put(void *self, enum ls__cell cell, struct ls_span bytes)
{
    struct ls__durable *durable = self;
    uint8_t key[33];
    const struct ls_span value[2] = {bytes, {NULL, 0}};
    if (cell == LS__CELL_COMMIT) {
        LS_ASSERT(bytes.bytes == sizeof durable->staging->hint);
        (void)memcpy(durable->staging->hint, bytes.data, bytes.bytes);
        durable->staging->hinted = true;
        return;
    }
    if (cell == LS__CELL_HARD) {
        LS__CRASH_STAGED("hard");
    }
    ls__engine_batch_put(durable->engine, durable->pending->batch, cell_family(cell),
                         cell_key(&durable->staging->ledger.id, cell, key), value);
    durable->pending->sync = true;
}

void ls__durable_add_hints(struct ls__durable *durable, struct ls__buffer *buffer)
{
    for (struct ls_storage_group *group = durable->groups; group != NULL; group = group->next) {
        uint8_t key[33];
        const struct ls_span value[2] = {{group->hint, sizeof group->hint}, {NULL, 0}};
        if (group->hinted) {
            ls__engine_batch_put(durable->engine, buffer->batch, LS__FAMILY_META,
                                 cell_key(&group->ledger.id, LS__CELL_COMMIT, key), value);
            group->hinted = false;
        }
    }
}

static const struct ls__emit emit_template = {NULL,        emit_reserve, emit_find,
                                              emit_remove, emit_append,  emit_put};

static enum ls_status durable_stage(void *self, struct ls_storage_group *group,
                                    const struct ls_storage_batch *batch)
{
    struct ls__durable *durable = self;
    (void)pthread_mutex_lock(&durable->mutex);
    enum ls_status status = durable->failed != LS_OK ? LS_ERR_IO : LS_OK;
    if (status == LS_OK) {
        status = ls__ledger_admits(&group->ledger, batch->seq);
    }
    struct ls__part *part = status == LS_OK ? touch(durable, group) : NULL;
    if (part != NULL) {
        struct ls__emit emit = emit_template;
        emit.self = durable;
        durable->staging = group;
        status = ls__ledger_stage(&group->ledger, batch, durable->pending->generation, &emit,
                                  &part->outcome);
        flush_page(durable);
    } else if (status == LS_OK) {
        status = LS_ERR_NO_MEMORY;
    }
    (void)pthread_mutex_unlock(&durable->mutex);
    return ls__ledger_staged(&group->ledger, batch->seq, status);
}

static enum ls_status durable_prune(void *self, struct ls_storage_group *group, ls_index upto)
{
    struct ls__durable *durable = self;
    (void)pthread_mutex_lock(&durable->mutex);
    enum ls_status status = durable->failed != LS_OK ? LS_ERR_IO : LS_OK;
    struct ls__part *part = status == LS_OK ? touch(durable, group) : NULL;
    if (part != NULL) {
        struct ls__emit emit = emit_template;
        emit.self = durable;
        durable->staging = group;
        status = ls__ledger_prune(&group->ledger, upto, &emit, &part->outcome);
    } else if (status == LS_OK) {
        status = LS_ERR_NO_MEMORY;
    }
    (void)pthread_mutex_unlock(&durable->mutex);
    return status;
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

/* open_group */

static enum ls_status load_guard(struct ls__durable *durable, struct ls_storage_group *group,
                                 struct ls_error *error)
{
    uint8_t image[LS__GUARD_FILE_BYTES] = {0};
    size_t bytes = 0;
    enum ls_status status = ls__guard_file_open(durable->directory.guard, &group->ledger.id,
                                                &group->guard_file, image, &bytes);
    if (status == LS_ERR_NOT_FOUND) {
        return LS_OK;
    }
    if (status != LS_OK) {
        return ls_error_set(error, status, "guard of group %s: %s", group->ledger.name,
                            strerror(errno));
    }
    /* an empty file is damage too, not a missing one */
    struct ls_span found = {image, bytes > 0 ? bytes : 1};
    return ls__ledger_load_guard(&group->ledger, found, error);
}

static enum ls_status load_cells(struct ls__durable *durable, struct ls__ledger *ledger,
                                 struct ls_error *error)
{
    static const enum ls__cell cells[] = {LS__CELL_HARD, LS__CELL_ANCHOR, LS__CELL_COMMIT};
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
        uint8_t key[33];
        struct ls__engine_value *value;
        struct ls_span bytes;
        enum ls_status status =
            ls__engine_get(durable->engine, cell_family(cells[i]),
                           cell_key(&ledger->id, cells[i], key), &value, &bytes, error);
        if (status == LS_ERR_NOT_FOUND) {
            continue;
        }
        if (status != LS_OK) {
            return ls_error_wrap(error, status, "group %s", ledger->name);
        }
        status = ls__ledger_load_cell(ledger, cells[i], bytes, error);
        ls__engine_value_release(value);
        if (status != LS_OK) {
            return status;
        }
    }
    return LS_OK;
}

static enum ls_status load_log(struct ls__durable *durable, struct ls__ledger *ledger,
                               struct ls_error *error)
{
    struct ls__pages pages;
    enum ls_status status = ls__pages_open(&pages, &durable->env, durable->engine, &ledger->id,
                                           ledger->anchor.at.index + 1);
    if (status != LS_OK) {
        return ls_error_set(error, status, "out of memory");
    }
    ls_index index;
    struct ls_span bytes;
    while (status == LS_OK && ls__pages_next(&pages, &index, &bytes)) {
        status = ls__ledger_load_record(ledger, index, bytes, error);
    }
    struct ls_error reading;
    enum ls_status read = ls__pages_close(&pages, &reading);
    if (read != LS_OK) {
        return ls_error_set(error, read, "log of group %s: after index %llu: %s", ledger->name,
                            (unsigned long long)ledger->last.index, reading.text);
    }
    return status;
}

static enum ls_status store_guard(struct ls__durable *durable, struct ls_storage_group *group,
                                  struct ls_error *error)
{
    struct ls__ledger *ledger = &group->ledger;
    group->guard = ledger->guard;
    group->guard_synced_us = durable->env.now_us(durable->env.self);
    enum ls_status status =
        ledger->guard_found ? ls__guard_file_write(group->guard_file, &ledger->id, &group->guard)
                            : ls__guard_file_create(durable->directory.guard, &ledger->id,
                                                    &group->guard, &group->guard_file);
    if (status != LS_OK) {
        return ls_error_set(error, status, "guard of group %s: %s", ledger->name, strerror(errno));
    }
    return LS_OK;
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

static enum ls_status open_group(struct ls__durable *durable, struct ls_storage_group *group,
                                 struct ls_storage_state *state, struct ls_error *error)
{
    enum ls_status status = load_guard(durable, group, error);
    if (status == LS_OK) {
        status = load_cells(durable, &group->ledger, error);
    }
    if (status == LS_OK) {
        status = load_log(durable, &group->ledger, error);
    }
    if (status == LS_OK) {
        status = ls__ledger_finish(&group->ledger, &durable->incarnation, state, error);
    }
    return status == LS_OK ? store_guard(durable, group, error) : status;
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
    status = open_group(durable, made, state, error);
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
    if (group->hinted && durable->failed == LS_OK && touch(durable, group) != NULL) {
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

/* open */

/* Makes a new log under another name, so that a half-made one is never taken for ours. */
static enum ls_status create_log(struct ls__durable *durable, const char *fresh,
                                 uint64_t write_buffer_bytes, struct ls_error *error)
{
    enum ls_status status = ls__directory_clean(&durable->directory, error);
    struct ls__engine *engine;
    if (status == LS_OK) {
        status = ls__engine_open(&durable->env, fresh, true, write_buffer_bytes, &engine, error);
    }
    if (status != LS_OK) {
        return status;
    }
    LS__CRASH("format.made");
    uint8_t cell[LS__STORE_BYTES];
    durable->env.entropy(durable->env.self, cell + LS__CELL_HEADER_BYTES, 16);
    (void)ls__cell_seal(ls__record_group(&no_group), LS__CELL_STORE, cell, 16);
    const struct ls_span value[2] = {{cell, sizeof cell}, {NULL, 0}};
    struct ls__engine_batch *batch = ls__engine_batch_open();
    ls__engine_batch_put(engine, batch, LS__FAMILY_META,
                         (struct ls_span){store_key, sizeof store_key - 1}, value);
    status = ls__engine_write(engine, batch, error);
    LS__CRASH("incarnation.written");
    ls__engine_batch_close(batch);
    ls__engine_close(engine);
    LS__CRASH("log.closed");
    return status == LS_OK ? ls__directory_publish(&durable->directory, error) : status;
}

static enum ls_status load_incarnation(struct ls__durable *durable, struct ls_error *error)
{
    struct ls__engine_value *value;
    struct ls_span bytes;
    struct ls_span body;
    const char *reason = "";
    enum ls_status status =
        ls__engine_get(durable->engine, LS__FAMILY_META,
                       (struct ls_span){store_key, sizeof store_key - 1}, &value, &bytes, error);
    if (status == LS_ERR_NOT_FOUND) {
        return ls_error_set(error, LS_ERR_CORRUPT, "log: it is not one of Lockstep's");
    }
    if (status != LS_OK) {
        return status;
    }
    status = ls__cell_open(ls__record_group(&no_group), LS__CELL_STORE, bytes, &body, &reason);
    if (status == LS_OK && body.bytes != sizeof durable->incarnation.bytes) {
        status = LS_ERR_CORRUPT;
        reason = "its form is unknown";
    }
    if (status == LS_OK) {
        (void)memcpy(durable->incarnation.bytes, body.data, body.bytes);
    } else {
        (void)ls_error_set(error, status, "the store's own record: %s", reason);
    }
    ls__engine_value_release(value);
    return status;
}

static enum ls_status open_log(struct ls__durable *durable, uint64_t write_buffer_bytes,
                               struct ls_error *error)
{
    char base[PATH_MAX];
    char path[PATH_MAX + 16];
    char fresh[PATH_MAX + 16];
    if (realpath(durable->path, base) == NULL) {
        return ls_error_set(error, LS_ERR_IO, "%s", strerror(errno));
    }
    (void)snprintf(path, sizeof path, "%s/log", base);
    (void)snprintf(fresh, sizeof fresh, "%s/log.new", base);
    bool exists;
    enum ls_status status = ls__directory_log(&durable->directory, &exists, error);
    if (status == LS_OK && !exists) {
        status = create_log(durable, fresh, write_buffer_bytes, error);
    }
    if (status == LS_OK) {
        status = ls__engine_open(&durable->env, path, false, write_buffer_bytes, &durable->engine,
                                 error);
    }
    return status == LS_OK ? load_incarnation(durable, error) : status;
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
    status = open_log(durable, write_buffer_bytes, error);
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
        .stage = durable_stage,
        .commit = durable_commit,
        .descriptor = durable_descriptor,
        .collect = durable_collect,
        .read = durable_read,
        .prune = durable_prune,
        .close_group = durable_close_group,
        .close = durable_close,
        .incarnation = durable_incarnation,
        .counters = durable_counters,
    };
    return LS_OK;
}
