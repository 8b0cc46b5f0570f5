/* SPDX-License-Identifier: MIT */
/* Numbers, patterns, the hash, and the table that is ordered by it. */
#include "text.h"

#include <stdio.h>

#include "table.h"
#include "test.h"

static struct ls_span span(const char *text)
{
    return (struct ls_span){text, strlen(text)};
}

TEST(text, reads_integers_strictly)
{
    int64_t number = 0;
    assert_true(kv_integer_parse(span("-9223372036854775808"), &number));
    assert_true(number == INT64_MIN);
    assert_true(kv_integer_parse(span("9223372036854775807"), &number));
    assert_true(number == INT64_MAX);
    assert_true(kv_integer_parse(span("0"), &number) && number == 0);
    static const char *const wrong[] = {"",
                                        "-",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "01",
                                        "-0",
                                        "1.0",
                                        "9223372036854775808",
                                        "-9223372036854775809",
                                        "18446744073709551616",
                                        "99999999999999999999999999",
                                        "0x1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(kv_integer_parse(span(wrong[i]), &number));
    }
}

TEST(text, prints_integers_that_it_reads)
{
    static const int64_t numbers[] = {0, 1, -1, 10, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        char out[KV_INTEGER_BYTES];
        int64_t number = 0;
        size_t bytes = kv_integer_print(numbers[i], out);
        assert_true(kv_integer_parse((struct ls_span){out, bytes}, &number));
        assert_true(number == numbers[i]);
    }
}

TEST(text, matches_patterns_as_redis)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"*", "", true},
        {"", "", true},
        {"", "a", false},
        {"a*c", "abbc", true},
        {"a*c", "abb", false},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"[ab]x", "bx", true},
        {"[^ab]x", "bx", false},
        {"[a-c]x", "bx", true},
        {"[c-a]x", "bx", true},
        {"\\*", "*", true},
        {"\\*", "a", false},
        {"*a*b*", "xaxxb", true},
        {"*ab", "aab", true},
        {"[\\]]", "]", true},
        {"[a", "a", true},
        {"h[^e]llo", "hallo", true},
        {"user:*:name", "user:17:name", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool matches = kv_pattern_matches(span(cases[i].pattern), span(cases[i].text));
        if (matches != cases[i].matches) {
            fail_msg("%s against %s", cases[i].pattern, cases[i].text);
        }
    }
}

TEST(text, a_hostile_pattern_costs_no_more_than_pattern_times_text)
{
    char text[4096];
    (void)memset(text, 'a', sizeof text);
    char pattern[256];
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = i % 2 == 0 ? '*' : 'a';
    }
    pattern[sizeof pattern - 1] = 'b';
    assert_false(kv_pattern_matches((struct ls_span){pattern, sizeof pattern},
                                    (struct ls_span){text, sizeof text}));
}

TEST(text, hashes_as_the_paper_on_siphash)
{
    /* appendix A: key 00..0f, input 00..0e */
    static const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    uint8_t input[15];
    for (uint8_t i = 0; i < sizeof input; i++) {
        input[i] = i;
    }
    assert_true(kv_siphash(key, (struct ls_span){input, sizeof input}) == 0xa129ca6149be45e5u);
}

TEST(text, the_order_of_keys_never_changes)
{
    /* golden: cursors that clients hold must mean the same in the next release */
    assert_true(kv_key_hash(span("")) == 6137751859874967361u);
    assert_true(kv_key_hash(span("key:000000000001")) == 529100651390913203u);
}

TEST(table, keeps_items_in_the_order_of_their_hashes)
{
    struct kv_table table;
    assert_ok(kv_table_open(&table, 4));
    for (int i = 0; i < 5000; i++) {
        char key[16];
        size_t bytes = (size_t)snprintf(key, sizeof key, "key%d", i % 4000);
        struct ls_span name = {key, bytes};
        assert_ok(kv_table_put(&table, kv_key_hash(name), name, name));
    }
    assert_int_equal(table.count, 4000);
    size_t seen = 0;
    uint64_t last = 0;
    for (struct kv_item *item = kv_table_seek(&table, 0); item != NULL;
         item = kv_table_next(&table, item)) {
        assert_true(item->hash >= last);
        assert_true(kv_table_seek(&table, item->hash)->hash == item->hash);
        last = item->hash;
        seen++;
    }
    assert_int_equal(seen, 4000);
    assert_null(kv_table_seek(&table, last + 1));
    kv_table_close(&table);
}

TEST(table, orders_equal_hashes_by_key)
{
    struct kv_table table;
    assert_ok(kv_table_open(&table, 0));
    static const char *const keys[] = {"b", "", "ab", "a", "abc"};
    static const char *const sorted[] = {"", "a", "ab", "abc", "b"};
    for (size_t i = 0; i < 5; i++) {
        assert_ok(kv_table_put(&table, 7, span(keys[i]), span("v")));
    }
    struct kv_item *item = kv_table_seek(&table, 7);
    for (size_t i = 0; i < 5; i++, item = kv_table_next(&table, item)) {
        assert_non_null(item);
        assert_int_equal(item->key_bytes, strlen(sorted[i]));
        assert_memory_equal(item->bytes, sorted[i], item->key_bytes);
    }
    size_t bytes = 0;
    assert_ok(kv_table_remove(&table, 7, span("ab"), &bytes));
    assert_int_equal(bytes, 1);
    assert_int_equal(kv_table_remove(&table, 7, span("ab"), &bytes), LS_ERR_NOT_FOUND);
    assert_null(kv_table_find(&table, 7, span("ab")));
    assert_non_null(kv_table_find(&table, 7, span("abc")));
    kv_table_close(&table);
}

TEST(table, replaces_values_of_any_size)
{
    struct kv_table table;
    assert_ok(kv_table_open(&table, 0));
    char value[3000];
    (void)memset(value, 'v', sizeof value);
    static const size_t sizes[] = {10, 3000, 2999, 0, 1, 3000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_ok(kv_table_put(&table, 1, span("k"), (struct ls_span){value, sizes[i]}));
        struct ls_span found = kv_item_value(kv_table_find(&table, 1, span("k")));
        assert_int_equal(found.bytes, sizes[i]);
        assert_memory_equal(found.data, value, found.bytes);
    }
    assert_ok(kv_table_bury(&table, 1, span("k")));
    assert_true(kv_table_find(&table, 1, span("k"))->gone);
    assert_ok(kv_table_put(&table, 1, span("k"), span("new")));
    assert_false(kv_table_find(&table, 1, span("k"))->gone);
    assert_int_equal(table.count, 1);
    kv_table_close(&table);
}

TEST(table, of_one_arena_tells_what_was_there_and_counts_its_memory)
{
    struct kv_table table;
    struct kv_before before;
    char value[3000];
    (void)memset(value, 'v', sizeof value);
    assert_ok(kv_table_open_pooled(&table, 2));
    const struct ls_span k = span("k");
    uint64_t hash = kv_key_hash(k);
    assert_non_null(kv_table_upsert(&table, hash, k, span("1"), &before));
    assert_int_equal(before.was, KV_WAS_NOTHING);
    struct kv_item *item = kv_table_upsert(&table, hash, k, (struct ls_span){value, 3000}, &before);
    assert_int_equal(before.was, KV_WAS_PRESENT);
    assert_int_equal(item->value_bytes, 3000);
    /* what grew has room to grow in place; what shrinks stays */
    assert_true(item->capacity > 3000);
    assert_ptr_equal(kv_table_upsert(&table, hash, k, span("2"), &before), item);
    assert_ok(kv_table_bury(&table, hash, k));
    assert_ptr_equal(kv_table_upsert(&table, hash, k, span("3"), &before), item);
    assert_int_equal(before.was, KV_WAS_GONE);
    assert_int_equal(table.count, 1);
    size_t bytes = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 2000; i++) {
            char key[16];
            int key_bytes = snprintf(key, sizeof key, "key%d", i);
            struct ls_span name = {key, (size_t)key_bytes};
            assert_ok(kv_table_put(&table, kv_key_hash(name), name, (struct ls_span){value, 3000}));
        }
        assert_true(kv_table_bytes(&table) > 2000 * 3000);
        assert_true(kv_table_bytes(&table) < 2000 * 3100 + (2 << 20));
        assert_true(bytes == 0 || bytes == kv_table_bytes(&table)); /* the same memory again */
        bytes = kv_table_bytes(&table);
        kv_table_clear(&table);
        assert_null(kv_table_seek(&table, 0));
        assert_true(kv_table_bytes(&table) < 1 << 20);
    }
    kv_table_close(&table);
}

TEST(table, of_one_arena_takes_items_larger_than_its_chunks)
{
    static char large[3u << 20];
    struct kv_table table;
    (void)memset(large, 'x', sizeof large);
    assert_ok(kv_table_open_pooled(&table, 0));
    for (int i = 0; i < 100; i++) {
        char key[16];
        int key_bytes = snprintf(key, sizeof key, "key%d", i);
        struct ls_span name = {key, (size_t)key_bytes};
        struct ls_span value = {large, i % 10 == 0 ? sizeof large : 1000};
        assert_ok(kv_table_put(&table, kv_key_hash(name), name, value));
        assert_memory_equal(kv_item_value(kv_table_find(&table, kv_key_hash(name), name)).data,
                            large, value.bytes);
    }
    /* small items went on filling their chunk between the large ones */
    assert_true(kv_table_bytes(&table) < 10 * sizeof large + (2u << 20));
    kv_table_close(&table);
}
