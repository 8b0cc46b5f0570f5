/* SPDX-License-Identifier: MIT */
/* See book.h. Item 0 holds count and digest, item i + 1 page i, if it was written. */
#include "book.h"

#include <lockstep/limits.h>

#include <stdlib.h>

#define STATE_BYTES     (1u << 20)
#define PAGE_BYTES_MIN  32u
#define PAGE_BYTES_MAX  (200u << 10)
#define PAGES_MAX       4096u
#define NUMBERS         2u
#define ITEM_HEAD_BYTES (LS_ITEM_HEAD_BYTES + 8u)

static struct book *open_book(void)
{
    struct book *book = calloc(1, sizeof *book);
    assert_non_null(book);
    return book;
}

static void empty(struct book *book)
{
    free(book->pages);
    if (book->next != NULL) {
        empty(book->next);
        free(book->next);
    }
}

void *book_place_open(void *self)
{
    (void)self;
    return open_book();
}

void book_stop(void *self, void *place)
{
    struct book *book = place;
    (void)self;
    empty(book);
    *book = (struct book){.published = book->published};
}

static void close_book(struct book *book)
{
    empty(book);
    free(book);
}

void book_place_close(void *self, void *place)
{
    (void)self;
    close_book(place);
}

uint64_t book_digest(void *self, void *place)
{
    (void)self;
    return ((struct book *)place)->digest;
}

size_t book_command(void *self, uint32_t unit, uint64_t n, uint8_t *out)
{
    (void)self;
    (void)unit;
    uint64_t value = (n + 1) * 0x9e3779b97f4a7c15u;
    memcpy(out, &value, sizeof value);
    memset(out + sizeof value, (int)(n % 251), 8 + n % 50);
    return sizeof value + 8 + n % 50;
}

static struct ls_span signature(void *self)
{
    (void)self;
    return (struct ls_span){"book/1", 6};
}

static enum ls_status apply(void *self, const struct ls_command *command, struct ls_replies *reply)
{
    struct book *book = self;
    uint64_t value;
    assert_true(command->data.bytes >= sizeof value);
    memcpy(&value, command->data.data, sizeof value);
    book->digest = (book->digest ^ value) * 1099511628211u + command->data.bytes;
    book->pages[book->count++ % book->pages_count] = value;
    return ls_reply_set(reply, 0, &book->count, sizeof book->count);
}

static enum ls_status query(void *self, struct ls_span what, struct ls_replies *reply)
{
    (void)what;
    return ls_reply_set(reply, 0, &((struct book *)self)->count, sizeof(uint64_t));
}

static struct book *copy(const struct book *from)
{
    struct book *book = open_book();
    *book = *from;
    book->next = NULL;
    book->pages = calloc(from->pages_count, sizeof *book->pages);
    assert_non_null(book->pages);
    memcpy(book->pages, from->pages, from->pages_count * sizeof *book->pages);
    return book;
}

static enum ls_status freeze(void *self, struct ls_frozen *out)
{
    const struct book *book = self;
    uint64_t written = book->count < book->pages_count ? book->count : book->pages_count;
    *out = (struct ls_frozen){.handle = copy(book),
                              .items = 1 + written,
                              .bytes = 8 + 8 * NUMBERS + written * (8 + book->page_bytes)};
    return LS_OK;
}

static void thaw(void *self, struct ls_frozen *frozen)
{
    (void)self;
    close_book(frozen->handle);
}

static void key_of(uint64_t item, uint8_t key[8])
{
    for (int i = 0; i < 8; i++) {
        key[i] = (uint8_t)(item >> (56 - 8 * i));
    }
}

static enum ls_status iterate(void *self, const struct ls_frozen *frozen, struct ls_span from,
                              ls_item_visit visit, void *arg)
{
    static uint8_t page[PAGE_BYTES_MAX + 8];
    const struct book *book = frozen->handle;
    uint64_t item = 0;
    (void)self;
    for (size_t i = 0; i < from.bytes; i++) {
        item = item << 8 | ((const uint8_t *)from.data)[i];
    }
    for (; item <= book->pages_count; item++) {
        const uint64_t numbers[NUMBERS] = {book->count, book->digest};
        uint8_t key[8];
        struct ls_item out = {.key = {key, sizeof key}, .value = {numbers, sizeof numbers}};
        key_of(item, key);
        if (item > 0 && book->pages[item - 1] == 0) {
            break;
        }
        if (item > 0) {
            for (size_t i = 0; i < book->page_bytes; i += 8) {
                uint64_t word = book->pages[item - 1] + i;
                memcpy(page + i, &word, sizeof word);
            }
            out.value = (struct ls_span){page, book->page_bytes};
        }
        if (!visit(arg, &out)) {
            break;
        }
    }
    return LS_OK;
}

static void restore_end(void *self)
{
    struct book *book = self;
    if (book->next != NULL) {
        close_book(book->next);
        book->next = NULL;
    }
}

static enum ls_status restore(void *self, struct ls_cursor anchor)
{
    struct book *book = self;
    (void)anchor;
    restore_end(book);
    book->next = copy(book);
    memset(book->next->pages, 0, book->pages_count * sizeof *book->pages);
    return LS_OK;
}

static enum ls_status restore_item(void *self, const struct ls_item *item)
{
    struct book *next = ((struct book *)self)->next;
    const uint8_t *bytes = item->value.data;
    uint64_t number = 0;
    assert_int_equal(item->key.bytes, 8);
    for (size_t i = 0; i < 8; i++) {
        number = number << 8 | ((const uint8_t *)item->key.data)[i];
    }
    if (number == 0) {
        assert_int_equal(item->value.bytes, 8 * NUMBERS);
        memcpy(&next->count, bytes, sizeof next->count);
        memcpy(&next->digest, bytes + 8, sizeof next->digest);
        return LS_OK;
    }
    assert_true(number <= next->pages_count);
    assert_int_equal(item->value.bytes, next->page_bytes);
    memcpy(&next->pages[number - 1], bytes, sizeof next->pages[0]);
    bool same = true;
    for (size_t i = 0; i < next->page_bytes; i += 8) {
        uint64_t word = next->pages[number - 1] + i;
        same = same && memcmp(bytes + i, &word, sizeof word) == 0;
    }
    assert_true(same);
    return LS_OK;
}

static enum ls_status publish(void *self, struct ls_cursor anchor)
{
    struct book *book = self;
    struct book *next = book->next;
    (void)anchor;
    assert_non_null(next);
    book->next = NULL;
    free(book->pages);
    next->published = book->published + 1;
    *book = *next;
    free(next);
    return LS_OK;
}

struct ls_machine book_machine(struct book *book, uint32_t unit, bool snapshots)
{
    size_t bytes = LS_SNAPSHOT_CHUNK_BYTES_MIN / unit - ITEM_HEAD_BYTES;
    bytes = bytes < PAGE_BYTES_MIN ? PAGE_BYTES_MIN : bytes;
    bytes = bytes > PAGE_BYTES_MAX ? PAGE_BYTES_MAX : bytes;
    book->page_bytes = bytes / 8 * 8;
    book->pages_count = STATE_BYTES / book->page_bytes;
    book->pages_count = book->pages_count > PAGES_MAX ? PAGES_MAX : book->pages_count;
    if (book->pages == NULL) {
        book->pages = calloc(book->pages_count, sizeof *book->pages);
        assert_non_null(book->pages);
    }
    struct ls_machine machine = {.size = sizeof machine,
                                 .self = book,
                                 .signature = signature,
                                 .apply = apply,
                                 .query = query};
    if (snapshots) {
        machine.freeze = freeze;
        machine.iterate = iterate;
        machine.thaw = thaw;
        machine.restore = restore;
        machine.restore_item = restore_item;
        machine.publish = publish;
        machine.restore_end = restore_end;
    }
    return machine;
}
