/* SPDX-License-Identifier: MIT */
/* Pages: records that share a stored value, cut, pruned and read back. */
#include "page.h"
#include "store.h"

#include <stdio.h>
#include <stdlib.h>

struct place {
    char directory[128];
};

static void place_open(void *self, struct ls_storage *out)
{
    const struct place *place = self;
    struct ls_storage_rocksdb_options options = {.size = sizeof options,
                                                 .directory = place->directory};
    assert_ok(ls_storage_rocksdb_open(&options, out, NULL));
}

static void start(struct place *place, struct store *store)
{
    (void)snprintf(place->directory, sizeof place->directory, "%s/data", test_memory_directory());
    const struct store_backend backend = {place, place_open, NULL};
    store_open(store, &backend);
}

static struct ls__page page;

TEST(page, takes_records_that_follow_until_it_is_full)
{
    static uint8_t payload[LS__PAGE_BYTES];
    const uint8_t header[LS__RECORD_HEADER_BYTES] = {0};
    page = (struct ls__page){0};
    assert_false(ls__page_takes(&page, 1, LS__PAGE_BYTES + 1));
    assert_true(ls__page_takes(&page, 7, LS__PAGE_BYTES));
    ls__page_add(&page, 7, header, (struct ls_span){payload, 100});
    assert_int_equal(page.first, 7);
    assert_false(ls__page_takes(&page, 7, 40));
    assert_false(ls__page_takes(&page, 9, 40));
    assert_true(ls__page_takes(&page, 8, LS__PAGE_BYTES - 140));
    assert_false(ls__page_takes(&page, 8, LS__PAGE_BYTES - 139));
}

TEST(page, walk_gives_what_is_left_when_a_length_is_impossible)
{
    uint8_t bytes[LS__RECORD_HEADER_BYTES + 3 + LS__RECORD_HEADER_BYTES + 5] = {0};
    bytes[4] = 3;
    bytes[LS__RECORD_HEADER_BYTES + 3 + 4] = 6; /* one more than there is */
    struct ls__page_walk walk = {4, {bytes, sizeof bytes}};
    ls_index index;
    struct ls_span record;
    assert_true(ls__page_walk(&walk, &index, &record));
    assert_int_equal(index, 4);
    assert_int_equal(record.bytes, LS__RECORD_HEADER_BYTES + 3);
    assert_true(ls__page_walk(&walk, &index, &record));
    assert_int_equal(index, 5);
    assert_int_equal(record.bytes, LS__RECORD_HEADER_BYTES + 5);
    assert_false(ls__page_walk(&walk, &index, &record));
    walk = (struct ls__page_walk){4, {bytes, LS__RECORD_HEADER_BYTES - 1}};
    assert_true(ls__page_walk(&walk, &index, &record));
    assert_int_equal(record.bytes, LS__RECORD_HEADER_BYTES - 1);
    assert_false(ls__page_walk(&walk, &index, &record));
}

/* Truncates alone: nothing is appended. */
static void cut(struct store *store, ls_index from)
{
    struct ls_storage_batch batch = {.seq = ++store->seq, .truncate = true, .truncate_from = from};
    assert_ok(store->storage.stage(store->storage.self, store->group, &batch));
    store_settle(store);
}

TEST(page, cut_inside_of_a_page_stays_cut)
{
    struct place place;
    struct store store;
    start(&place, &store);
    store_append(&store, 1, 100, 1);
    cut(&store, 51);
    assert_int_equal(store_expect(&store, 1, 100, 1, 16), 50);
    store_reopen(&store);
    assert_int_equal(store.state.last.index, 50);
    cut(&store, 31);
    store_append(&store, 31, 10, 2);
    store_reopen(&store);
    assert_int_equal(store.state.last.index, 40);
    assert_int_equal(store.state.last.term, 2);
    assert_int_equal(store_expect(&store, 1, 30, 1, 16), 30);
    assert_int_equal(store_expect(&store, 31, 100, 2, 16), 10);
    store_close(&store);
}

TEST(page, prune_inside_of_a_page_keeps_the_rest_of_it)
{
    struct place place;
    struct store store;
    start(&place, &store);
    store_append(&store, 1, 100, 1);
    store_append(&store, 101, 100, 1);
    static const ls_index upto[] = {30, 99, 100, 101, 150};
    for (size_t i = 0; i < sizeof upto / sizeof upto[0]; i++) {
        assert_ok(store.storage.prune(store.storage.self, store.group, upto[i]));
        store_settle(&store);
        store_reopen(&store);
        assert_int_equal(store.state.anchor.index, upto[i]);
        assert_int_equal(store.state.last.index, 200);
        assert_int_equal(store_expect(&store, upto[i] + 1, 200, 1, 16), 200 - upto[i]);
    }
    store_close(&store);
}

/* ---- a store against a plain array ---- */

#define ENTRIES_MAX 4000u
#define FILLS       4u

struct model {
    ls_index anchor, last;
    struct {
        ls_term term;
        uint32_t bytes;
        uint8_t fill;
    } at[ENTRIES_MAX + 1];
};

static struct model model;
static struct ls_entry entries[256];
static uint8_t payloads[FILLS][2u * LS__PAGE_BYTES];
static uint64_t randomness;

static uint32_t below(uint32_t bound)
{
    randomness = randomness * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(randomness >> 33) % bound;
}

static uint32_t entry_bytes(void)
{
    switch (below(8)) {
    case 0:
        return 0;
    case 1:
        return LS__PAGE_BYTES - 50 + below(20); /* around what a page takes */
    case 2:
        return LS__PAGE_BYTES + below(1000);
    default:
        return below(400);
    }
}

static void stage(struct store *store, bool truncate, ls_index from, uint32_t count)
{
    ls_term term = model.at[model.last].term + truncate;
    for (uint32_t i = 0; i < count; i++) {
        ls_index index = from + i;
        model.at[index].term = term;
        model.at[index].bytes = entry_bytes();
        model.at[index].fill = (uint8_t)below(FILLS);
        entries[i] = (struct ls_entry){
            term, LS_ENTRY_COMMAND, {payloads[model.at[index].fill], model.at[index].bytes}};
    }
    struct ls_storage_batch batch = {.seq = ++store->seq,
                                     .truncate = truncate,
                                     .truncate_from = from,
                                     .first = from,
                                     .entries = entries,
                                     .count = count};
    assert_ok(store->storage.stage(store->storage.self, store->group, &batch));
    model.last = from + count - 1;
}

static bool compare(void *arg, ls_index index, const struct ls_entry *entry)
{
    ls_index *next = arg;
    assert_int_equal(index, (*next)++);
    assert_int_equal(entry->term, model.at[index].term);
    assert_int_equal(entry->data.bytes, model.at[index].bytes);
    if (entry->data.bytes > 0) {
        assert_memory_equal(entry->data.data, payloads[model.at[index].fill], entry->data.bytes);
    }
    return true;
}

static void look(struct store *store)
{
    if (model.last == model.anchor) {
        return;
    }
    ls_index first = model.anchor + 1 + below((uint32_t)(model.last - model.anchor));
    ls_index last = first + below((uint32_t)(model.last - first) + 1);
    ls_index next = first;
    assert_ok(store->storage.read(store->storage.self, store->group, first, last, SIZE_MAX, compare,
                                  &next));
    assert_int_equal(next, last + 1);
}

static void reopen(struct store *store)
{
    store_reopen(store);
    assert_int_equal(store->state.anchor.index, model.anchor);
    assert_int_equal(store->state.last.index, model.last);
    look(store);
}

/* As many of `count` entries from `from` on as the model has places for. */
static uint32_t fitting(ls_index from, uint32_t count)
{
    ls_index places = ENTRIES_MAX + 1 - from;
    return count < places ? count : (uint32_t)places;
}

static void one_step(struct store *store)
{
    uint32_t count = 1 + below(200);
    uint32_t held = (uint32_t)(model.last - model.anchor);
    switch (below(10)) {
    case 0:
        if (held > 0) {
            ls_index from = model.anchor + 1 + below(held);
            stage(store, true, from, fitting(from, below(2) * count % 100));
        }
        break;
    case 1:
        store_settle(store);
        if (held > 1) {
            ls_index upto = model.anchor + 1 + below(held - 1);
            assert_ok(store->storage.prune(store->storage.self, store->group, upto));
            model.anchor = upto;
        }
        break;
    case 2:
        store_settle(store);
        reopen(store);
        break;
    case 3:
    case 4:
        store_settle(store);
        look(store);
        break;
    default:
        count = fitting(model.last + 1, count);
        if (count > 0) {
            stage(store, false, model.last + 1, count);
        }
    }
}

TEST(page, store_reads_back_what_an_array_holds)
{
    struct place place;
    struct store store;
    randomness = test_seed();
    model = (struct model){0};
    for (size_t i = 0; i < FILLS; i++) {
        (void)memset(payloads[i], (int)(i + 1), sizeof payloads[i]);
    }
    start(&place, &store);
    for (uint32_t i = 0; i < 150; i++) {
        one_step(&store);
    }
    store_settle(&store);
    reopen(&store);
    store_close(&store);
}
