/* SPDX-License-Identifier: MIT */
/* Filling pages, and reading them back in order (page.h says what they are). */
#include "page.h"

bool ls__page_takes(const struct ls__page *page, ls_index index, size_t record_bytes)
{
    if (page->bytes > 0 && index != page->next) {
        return false;
    }
    return record_bytes <= LS__PAGE_BYTES - page->bytes;
}

void ls__page_add(struct ls__page *page, ls_index index,
                  const uint8_t header[LS__RECORD_HEADER_BYTES], struct ls_span payload)
{
    LS_ASSERT(ls__page_takes(page, index, LS__RECORD_HEADER_BYTES + payload.bytes));
    if (page->bytes == 0) {
        page->first = index;
    }
    (void)memcpy(page->data + page->bytes, header, LS__RECORD_HEADER_BYTES);
    if (payload.bytes > 0) {
        (void)memcpy(page->data + page->bytes + LS__RECORD_HEADER_BYTES, payload.data,
                     payload.bytes);
    }
    page->bytes += LS__RECORD_HEADER_BYTES + payload.bytes;
    page->next = index + 1;
}

/* The bytes of the record at the front, as its header has it; all there are if that cannot be. */
static size_t front_bytes(struct ls_span left)
{
    if (left.bytes < LS__RECORD_HEADER_BYTES) {
        return left.bytes;
    }
    const uint8_t *header = left.data;
    size_t payload = ls__get_u32(header + 4);
    size_t most = left.bytes - LS__RECORD_HEADER_BYTES;
    return payload <= most ? LS__RECORD_HEADER_BYTES + payload : left.bytes;
}

bool ls__page_walk(struct ls__page_walk *walk, ls_index *index, struct ls_span *record)
{
    if (walk->left.bytes == 0) {
        return false;
    }
    const uint8_t *at = walk->left.data;
    *index = walk->next++;
    *record = (struct ls_span){at, front_bytes(walk->left)};
    walk->left = (struct ls_span){at + record->bytes, walk->left.bytes - record->bytes};
    return true;
}

enum ls_status ls__pages_open(struct ls__pages *pages, const struct ls_env *env,
                              struct ls__engine *engine, const struct ls_group_id *id,
                              ls_index from)
{
    *pages = (struct ls__pages){.env = env, .from = from};
    pages->iterator = ls__engine_iterate(engine, id, from);
    return pages->iterator == NULL ? LS_ERR_NO_MEMORY : LS_OK;
}

/* Copies a page of several records, so that the iterator can look at the one behind. */
static bool page_copy(struct ls__pages *pages, struct ls_span *bytes)
{
    if (bytes->bytes > pages->capacity) {
        void *larger = pages->env->allocate(pages->env->self, pages->copy, bytes->bytes);
        if (larger == NULL) {
            pages->failed = LS_ERR_NO_MEMORY;
            return false;
        }
        pages->copy = larger;
        pages->capacity = bytes->bytes;
    }
    (void)memcpy(pages->copy, bytes->data, bytes->bytes);
    bytes->data = pages->copy;
    return true;
}

static bool page_begin(struct ls__pages *pages)
{
    ls_index first;
    struct ls_span bytes;
    if (pages->inside) {
        pages->inside = false;
        ls__engine_iterator_next(pages->iterator);
    }
    if (!ls__engine_iterator_record(pages->iterator, &first, &bytes)) {
        return false;
    }
    pages->until = UINT64_MAX;
    pages->inside = front_bytes(bytes) == bytes.bytes; /* one record: no page can begin in it */
    if (!pages->inside) {
        ls_index behind;
        struct ls_span ignored;
        if (!page_copy(pages, &bytes)) {
            return false;
        }
        ls__engine_iterator_next(pages->iterator);
        if (ls__engine_iterator_record(pages->iterator, &behind, &ignored)) {
            pages->until = behind;
        } else if (ls__engine_iterator_failed(pages->iterator)) {
            pages->failed = LS_ERR_CORRUPT; /* where this page ends is not known */
            return false;
        }
    }
    pages->walk = (struct ls__page_walk){first, bytes};
    return true;
}

bool ls__pages_next(struct ls__pages *pages, ls_index *index, struct ls_span *record)
{
    for (;;) {
        while (ls__page_walk(&pages->walk, index, record)) {
            if (*index >= pages->until) {
                pages->walk.left.bytes = 0;
            } else if (*index >= pages->from) {
                return true;
            }
        }
        if (pages->failed != LS_OK || !page_begin(pages)) {
            return false;
        }
    }
}

enum ls_status ls__pages_close(struct ls__pages *pages, struct ls_error *error)
{
    enum ls_status status = ls__engine_iterator_close(pages->iterator, error);
    if (pages->copy != NULL) {
        (void)pages->env->allocate(pages->env->self, pages->copy, 0);
    }
    if (status == LS_OK && pages->failed != LS_OK) {
        status = ls_error_set(error, pages->failed, "out of memory");
    }
    return status;
}
