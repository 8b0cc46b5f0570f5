/* SPDX-License-Identifier: MIT */
/* The request parser and the reply writer. */
#include "resp.h"

#include <stdio.h>
#include <stdlib.h>

#include "kv_limits.h"
#include "test.h"

/* Parses all of `input`, given in pieces of `piece` bytes; writes commands as "[a][b];" into out.
 */
static void parse_all(struct ls_span input, size_t piece, bool unauthenticated,
                      struct kv_buffer *out)
{
    struct resp_parser parser;
    resp_parser_init(&parser, KV_VALUE_BYTES_MAX, KV_COMMAND_BYTES_MAX);
    parser.unauthenticated = unauthenticated;
    const char *data = input.data;
    size_t begin = 0;
    size_t arrived = 0;
    enum resp_result result = RESP_MORE;
    while (result != RESP_BROKEN && (arrived < input.bytes || result == RESP_COMMAND)) {
        if (result == RESP_MORE) {
            arrived = input.bytes - arrived < piece ? input.bytes : arrived + piece;
        }
        /* a copy of exactly what has arrived: a sanitizer sees a step too far */
        char *copy = malloc(arrived - begin + 1);
        assert_non_null(copy);
        (void)memcpy(copy, data + begin, arrived - begin);
        size_t consumed = 0;
        result = resp_parse(&parser, (struct ls_span){copy, arrived - begin}, &consumed);
        if (result == RESP_COMMAND) {
            assert_true(consumed > 0 && consumed <= arrived - begin);
            for (size_t i = 0; i < parser.argc; i++) {
                kv_buffer_append(out, "[", 1);
                kv_buffer_append(out, parser.args[i].data, parser.args[i].bytes);
                kv_buffer_append(out, "]", 1);
            }
            kv_buffer_append(out, ";", 1);
            begin += consumed;
        } else if (result == RESP_BROKEN) {
            kv_buffer_append(out, parser.error, strlen(parser.error));
        }
        free(copy);
    }
    kv_buffer_append(out, "", 1);
    resp_parser_free(&parser);
}

static void assert_parses(const char *input, const char *expected)
{
    size_t bytes = strlen(input);
    for (size_t piece = 1; piece <= bytes; piece++) {
        struct kv_buffer out = {0};
        parse_all((struct ls_span){input, bytes}, piece, false, &out);
        assert_string_equal(out.data, expected);
        kv_buffer_free(&out);
    }
}

TEST(resp, reads_arrays_of_bulk_strings_at_every_split)
{
    assert_parses("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n", "[GET][k];[PING];");
    assert_parses("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\r\n\r\n", "[SET][k][\r\n\r\n];");
    assert_parses("*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "[GET][];");
}

TEST(resp, skips_empty_commands)
{
    assert_parses("*0\r\n*-1\r\n\r\n   \r\n*1\r\n$4\r\nPING\r\n", ";;;;[PING];");
}

TEST(resp, reads_inline_commands_with_quotes)
{
    assert_parses("PING\r\nSET  k v\n", "[PING];[SET][k][v];");
    assert_parses("SET k \"a b\\x41\\n\\\"\" 'it\\'s \\n'\r\n", "[SET][k][a bA\n\"][it's \\n];");
    assert_parses("SET k \"\" ''\r\n", "[SET][k][][];");
    assert_parses("GET k\"x y\"\r\n", "[GET][kx y];");
}

TEST(resp, refuses_unbalanced_quotes)
{
    assert_parses("SET k \"abc\r\n", "Protocol error: unbalanced quotes in request");
    assert_parses("SET k 'abc\r\n", "Protocol error: unbalanced quotes in request");
    assert_parses("SET k \"abc\"d\r\n", "Protocol error: unbalanced quotes in request");
    assert_parses("SET k \"abc\\\r\n", "Protocol error: unbalanced quotes in request");
}

TEST(resp, refuses_what_is_no_header)
{
    assert_parses("*1\r\nx4\r\nPING\r\n", "Protocol error: expected '$', got 'x'");
    assert_parses("*abc\r\n", "Protocol error: invalid multibulk length");
    assert_parses("*1048577\r\n", "Protocol error: invalid multibulk length");
    assert_parses("*99999999999999999999\r\n", "Protocol error: invalid multibulk length");
    assert_parses("*1\r\n$-1\r\n", "Protocol error: invalid bulk length");
    assert_parses("*1\r\n$1048577\r\n", "Protocol error: invalid bulk length");
    assert_parses("*1\r\n$\r\n", "Protocol error: invalid bulk length");
    assert_parses("*1\r\n$+4\r\n", "Protocol error: invalid bulk length");
}

static void assert_endless_line_is_refused(const char *begin, const char *expected)
{
    size_t bytes = KV_LINE_BYTES_MAX + 64;
    char *input = malloc(bytes);
    assert_non_null(input);
    (void)memset(input, '1', bytes);
    (void)memcpy(input, begin, strlen(begin));
    struct kv_buffer out = {0};
    parse_all((struct ls_span){input, bytes}, 4096, false, &out);
    assert_string_equal(out.data, expected);
    kv_buffer_free(&out);
    free(input);
}

TEST(resp, refuses_lines_without_an_end)
{
    assert_endless_line_is_refused("PING ", "Protocol error: too big inline request");
    assert_endless_line_is_refused("*", "Protocol error: too big mbulk count string");
    assert_endless_line_is_refused("*1\r\n$", "Protocol error: too big bulk count string");
}

TEST(resp, refuses_a_command_beyond_the_limit_before_it_arrives)
{
    struct kv_buffer input = {0};
    struct kv_buffer out = {0};
    struct resp_parser parser;
    size_t consumed = 0;
    const char *text = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\n";
    kv_buffer_append(&input, text, strlen(text));
    resp_parser_init(&parser, 1024, 500);
    assert_int_equal(resp_parse(&parser, kv_buffer_span(&input), &consumed), RESP_BROKEN);
    assert_string_equal(parser.error, "Protocol error: too big request");
    resp_parser_free(&parser);
    kv_buffer_free(&input);
    kv_buffer_free(&out);
}

static void assert_unauthenticated(const char *input, const char *expected)
{
    struct kv_buffer out = {0};
    parse_all((struct ls_span){input, strlen(input)}, 1, true, &out);
    assert_string_equal(out.data, expected);
    kv_buffer_free(&out);
}

TEST(resp, limits_who_is_not_authenticated)
{
    assert_unauthenticated("*11\r\n", "Protocol error: unauthenticated multibulk length");
    assert_unauthenticated("*1\r\n$16385\r\n", "Protocol error: unauthenticated bulk length");
    assert_unauthenticated("*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n", "[AUTH][x];");
}

TEST(resp, says_the_same_of_garbage_at_every_split)
{
    static const char alphabet[] = "*$0123456789-\r\n\r\n \"'\\xaG";
    uint64_t random = test_seed() | 1;
    size_t broken = 0;
    for (int round = 0; round < 2000; round++) {
        char input[48];
        for (size_t i = 0; i < sizeof input; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            input[i] = alphabet[(random >> 33) % (sizeof alphabet - 1)];
        }
        input[0] = round % 2 == 0 ? '*' : input[0];
        struct kv_buffer whole = {0};
        struct kv_buffer split = {0};
        parse_all((struct ls_span){input, sizeof input}, sizeof input, false, &whole);
        parse_all((struct ls_span){input, sizeof input}, 1, false, &split);
        assert_string_equal(whole.data, split.data);
        broken += strstr(whole.data, "Protocol error") != NULL ? 1 : 0;
        kv_buffer_free(&whole);
        kv_buffer_free(&split);
    }
    assert_true(broken > 0);
}

static void write_all(struct resp_out *out)
{
    resp_simple(out, "OK");
    resp_error(out, "ERR a\r\nb %d", 7);
    resp_integer(out, INT64_MIN);
    resp_bulk(out, (struct ls_span){"a\0b", 3});
    resp_null(out);
    resp_map(out, 1);
    resp_text(out, "k");
    resp_set(out, 1);
    resp_array(out, 0);
    resp_verbatim(out, (struct ls_span){"hi", 2});
    resp_relay(out, (struct ls_span){"_\r\n", 3});
    resp_relay(out, (struct ls_span){":1\r\n", 4});
}

static void assert_written(int protocol, struct ls_span expected)
{
    struct kv_buffer buffer = {0};
    struct resp_out out = {&buffer, protocol};
    write_all(&out);
    assert_int_equal(kv_buffer_bytes(&buffer), expected.bytes);
    assert_memory_equal(buffer.data, expected.data, expected.bytes);
    kv_buffer_free(&buffer);
}

TEST(resp, writes_resp2)
{
    static const char expected[] = "+OK\r\n-ERR a  b 7\r\n:-9223372036854775808\r\n$3\r\na\0b\r\n"
                                   "$-1\r\n*2\r\n$1\r\nk\r\n*1\r\n*0\r\n$2\r\nhi\r\n$-1\r\n:1\r\n";
    assert_written(2, (struct ls_span){expected, sizeof expected - 1});
}

TEST(resp, writes_resp3)
{
    static const char expected[] = "+OK\r\n-ERR a  b 7\r\n:-9223372036854775808\r\n$3\r\na\0b\r\n"
                                   "_\r\n%1\r\n$1\r\nk\r\n~1\r\n*0\r\n=6\r\ntxt:hi\r\n_\r\n:1\r\n";
    assert_written(3, (struct ls_span){expected, sizeof expected - 1});
}

TEST(resp, a_reply_beyond_the_limit_marks_the_buffer)
{
    struct kv_buffer buffer = {.limit = 8};
    struct resp_out out = {&buffer, 2};
    resp_text(&out, "too long for it");
    assert_true(buffer.failed);
    assert_true(kv_buffer_bytes(&buffer) <= 8);
    kv_buffer_free(&buffer);
}
