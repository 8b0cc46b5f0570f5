/* SPDX-License-Identifier: MIT */
/*
 * Staging in the durable store: what the ledger decided goes into the pending buffer, the log's
 * records into pages (page.h). Nothing is written here. On the loop's thread, under the mutex.
 */
#include "durable.h"

#include "crash.h"

/* the fixed part of a key and a value in a batch, about */
#define OPERATION_BYTES 64u

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

struct ls__part *ls__durable_touch(struct ls__durable *durable, struct ls_storage_group *group)
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
    uint8_t key[LS__CELL_KEY_BYTES];
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
    ls__engine_batch_put(durable->engine, durable->pending->batch, ls__cell_family(cell),
                         ls__cell_key(&durable->staging->ledger.id, cell, key), value);
    durable->pending->sync = true;
}

void ls__durable_add_hints(struct ls__durable *durable, struct ls__buffer *buffer)
{
    for (struct ls_storage_group *group = durable->groups; group != NULL; group = group->next) {
        uint8_t key[LS__CELL_KEY_BYTES];
        const struct ls_span value[2] = {{group->hint, sizeof group->hint}, {NULL, 0}};
        if (group->hinted) {
            ls__engine_batch_put(durable->engine, buffer->batch, LS__FAMILY_META,
                                 ls__cell_key(&group->ledger.id, LS__CELL_COMMIT, key), value);
            group->hinted = false;
        }
    }
}

static const struct ls__emit emit_template = {NULL,        emit_reserve, emit_find,
                                              emit_remove, emit_append,  emit_put};

enum ls_status ls__durable_stage(void *self, struct ls_storage_group *group,
                                 const struct ls_storage_batch *batch)
{
    struct ls__durable *durable = self;
    (void)pthread_mutex_lock(&durable->mutex);
    enum ls_status status = durable->failed != LS_OK ? LS_ERR_IO : LS_OK;
    if (status == LS_OK) {
        status = ls__ledger_admits(&group->ledger, batch->seq);
    }
    struct ls__part *part = status == LS_OK ? ls__durable_touch(durable, group) : NULL;
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

enum ls_status ls__durable_prune(void *self, struct ls_storage_group *group, ls_index upto)
{
    struct ls__durable *durable = self;
    (void)pthread_mutex_lock(&durable->mutex);
    enum ls_status status = durable->failed != LS_OK ? LS_ERR_IO : LS_OK;
    struct ls__part *part = status == LS_OK ? ls__durable_touch(durable, group) : NULL;
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
