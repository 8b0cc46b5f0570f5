/* SPDX-License-Identifier: MIT */
/*
 * lockstep-kv against the real redis-server: the same bytes in, the same bytes out. Runs only where
 * redis-server is installed. A group of one member: what is compared is the protocol and the
 * commands.
 */
#include <stdio.h>
#include <stdlib.h>

#include "program.h"
#include "test.h"

static void start_redis(struct program *redis)
{
    char port[8];
    const char *argv[] = {"redis-server", "--port",       port, "--bind",
                          "127.0.0.1",    "--save",       "",   "--proto-max-bulk-len",
                          "1mb",          "--appendonly", "no", NULL};
    redis->port = test_port();
    (void)snprintf(port, sizeof port, "%u", redis->port);
    program_start(redis, argv);
    program_await(redis, "PING\r\n", "+PONG\r\n");
}

#define CASE(text)                                                                                 \
    {                                                                                              \
        text, sizeof text - 1                                                                      \
    }

static const struct ls_span cases[] = {
    CASE("PING\r\nPING hello\r\nPING a b\r\nECHO x\r\nECHO\r\nECHO a b\r\n"),
    CASE("*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n"),
    CASE("SET a 1\r\nGET a\r\nset a 2 get\r\nGET a\r\nSET a 3 NX\r\nSET a 4 xx\r\nGET a\r\n"
         "SET b 1 XX\r\nSET b 1 NX\r\nSET b 2 NX GET\r\nSET c 2 NX GET\r\nMGET a b c d\r\n"),
    CASE("SET\r\nSET a\r\nSET a b NX XX\r\nSET a b XX NX\r\nSET a b FOO\r\nSET a b GET GET\r\n"
         "GET\r\nGET a b\r\nMGET\r\nMSET\r\nMSET a\r\nMSET a b c\r\nDEL\r\nEXISTS\r\nINCR\r\n"
         "DBSIZE x\r\nSCAN\r\nFLUSHALL x\r\nFLUSHALL a b\r\nAPPEND a\r\nSTRLEN\r\nGETSET a\r\n"
         "SETNX a\r\nINCRBY a\r\nDECRBY a\r\n"),
    CASE("SETNX a 1\r\nSETNX a 2\r\nGETSET a 3\r\nGETSET z 3\r\nGET z\r\nAPPEND z 45\r\n"
         "APPEND y 45\r\nSTRLEN z\r\nSTRLEN none\r\nEXISTS a a z none\r\nDEL a a z none\r\n"
         "DBSIZE\r\n"),
    CASE(
        "INCR n\r\nINCRBY n 10\r\nDECR n\r\nDECRBY n 100\r\nGET n\r\nINCRBY n x\r\nINCRBY n 1.5\r\n"
        "INCRBY n 9223372036854775808\r\nSET n 9223372036854775807\r\nINCR n\r\n"
        "SET n -9223372036854775808\r\nDECR n\r\nDECRBY n -9223372036854775808\r\n"
        "DECRBY n 9223372036854775807\r\nSET n \" 1\"\r\nINCR n\r\nSET n 01\r\nINCR n\r\n"
        "SET n \"\"\r\nINCR n\r\nSET n -0\r\nINCR n\r\nINCRBY q +5\r\n"),
    CASE("MSET a 1 b 2 a 3\r\nMGET a b\r\nDBSIZE\r\nFLUSHALL async\r\nDBSIZE\r\nMGET a b\r\n"),
    CASE(
        "SCAN 0\r\nSET only 1\r\nSCAN 0\r\nSCAN 0 MATCH o*\r\nSCAN 0 MATCH x*\r\nSCAN 0 COUNT 0\r\n"
        "SCAN 0 COUNT x\r\nSCAN x\r\nSCAN 0 MATCH\r\nSCAN 0 FOO bar\r\nSCAN 0 TYPE string\r\n"
        "SCAN 0 TYPE list\r\nSCAN 0 COUNT 100 MATCH on[a-m]y\r\n"),
    CASE("FOO\r\nfoo bar\r\nfoo a b c d e f g h i j k l m n o p q r s t u v w x y z aa bb cc dd\r\n"
         "foo \"a\\r\\nb\" c\r\n\"x\\ny\" c\r\nFOO \"\"\r\n"),
    CASE("foo "
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbb\r\n"),
    CASE("SELECT 0\r\nSELECT x\r\nSELECT\r\nSELECT 99999999999\r\nSELECT 1 2\r\nSELECT -1\r\n"),
    CASE("AUTH x\r\nAUTH default x\r\nAUTH other x\r\nAUTH a b c\r\nAUTH\r\n"),
    CASE("HELLO 4\r\nHELLO x\r\nHELLO 3 foo\r\nHELLO 3 auth\r\nHELLO 3 auth a b\r\nHELLO 1\r\n"
         "HELLO 3 SETNAME \"a b\"\r\n"),
    CASE("CLIENT\r\nCLIENT FOO\r\nCLIENT SETNAME\r\nCLIENT GETNAME\r\nCLIENT SETNAME joe\r\n"
         "CLIENT GETNAME\r\nCLIENT SETNAME \"a b\"\r\nCLIENT ID x\r\n"),
    CASE("CONFIG\r\nCONFIG GET\r\nCONFIG GET save\r\nCONFIG GET nothing\r\nCONFIG FOO\r\n"
         "CONFIG GET proto-max-bulk-len\r\n"),
    CASE("COMMAND FOO\r\nCOMMAND INFO nothing\r\nCOMMAND DOCS nothing\r\n"),
    CASE("QUIT\r\nPING\r\n"),
    CASE("PING\r\nQUIT now\r\nPING\r\n"),
    CASE("*0\r\n*-1\r\n\r\n  \r\nPING\r\n"),
    CASE("*1\r\nx4\r\nPING\r\n"),
    CASE("PING\r\n*1\r\n+4\r\nPING\r\nPING\r\n"),
    CASE("*x\r\n"),
    CASE("*1048577999999\r\n"),
    CASE("*1\r\n$-1\r\nPING\r\n"),
    CASE("*1\r\n$1048577\r\n"),
    CASE("*1\r\n$x\r\n"),
    CASE("*2\r\n$3\r\nGET\r\n\r1\r\n"),
    CASE("SET a \"b\r\nPING\r\n"),
    CASE("SET a 'b'c\r\nPING\r\n"),
    CASE("SET a 'it\\'s' \r\nGET a\r\nSET a \"\\x41\\n\\t\\q\"\r\nGET a\r\n"),
    CASE("*3\r\n$3\r\nSET\r\n$4\r\n\0\r\n\1\r\n$5\r\na\0\r\nb\r\n*2\r\n$3\r\nGET\r\n$"
         "4\r\n\0\r\n\1\r\n"),
    CASE("*2\r\n$3\r\nfoo\r\n$4\r\n\0\r\n\1\r\n"),
    CASE("HELLO 3\r\nECHO ---\r\nGET none\r\nMGET none\r\nSET a 1\r\nSET a 1 NX\r\nGETSET b 1\r\n"
         "SET a 2 GET\r\nCONFIG GET save\r\nCLIENT GETNAME\r\nGET none x\r\nFOO\r\nINCR a\r\n"),
    CASE("SET a 1\r\nGET a\r\nINCR a\r\nGET a\r\nSET a 5\r\nGET a\r\nPING\r\nDEL a\r\nGET a\r\n"),
};

/* What comes behind the marker, where there is one. */
static const char *comparable(const char *reply)
{
    const char *marker = strstr(reply, "$3\r\n---\r\n");
    return marker == NULL ? reply : marker;
}

/* Returns how many differ: 0 or 1. */
static int compare(const struct program *redis, const struct program *lockstep,
                   struct ls_span input)
{
    struct kv_buffer expected = {0};
    struct kv_buffer found = {0};
    static const char flush[] = "FLUSHALL\r\n";
    struct kv_buffer whole = {0};
    kv_buffer_append(&whole, flush, sizeof flush - 1);
    kv_buffer_append(&whole, input.data, input.bytes);
    assert_true(program_talk(redis->port, kv_buffer_span(&whole), &expected));
    assert_true(program_talk(lockstep->port, kv_buffer_span(&whole), &found));
    const char *a = comparable(expected.data);
    const char *b = comparable(found.data);
    size_t a_bytes = expected.end - (size_t)(a - expected.data);
    size_t b_bytes = found.end - (size_t)(b - found.data);
    bool same = a_bytes == b_bytes && memcmp(a, b, a_bytes) == 0;
    if (!same) {
        print_error("after %s\nredis says:\n%s\nlockstep-kv says:\n%s\n", (const char *)input.data,
                    a, b);
    }
    kv_buffer_free(&expected);
    kv_buffer_free(&found);
    kv_buffer_free(&whole);
    return same ? 0 : 1;
}

/* Values at the limit, and one byte beyond: as arrays. */
static int compare_large(const struct program *redis, const struct program *lockstep)
{
    int different = 0;
    for (size_t bytes = (1u << 20) - 1; bytes <= (1u << 20) + 1; bytes++) {
        struct kv_buffer input = {0};
        char head[64];
        int length =
            snprintf(head, sizeof head, "*3\r\n$6\r\nAPPEND\r\n$1\r\nk\r\n$%zu\r\n", bytes);
        kv_buffer_append(&input, head, (size_t)length);
        assert_true(kv_buffer_reserve(&input, bytes));
        (void)memset(input.data + input.end, 'v', bytes);
        input.end += bytes;
        static const char tail[] = "\r\nSTRLEN k\r\nAPPEND k x\r\nAPPEND k x\r\nSTRLEN k\r\n";
        kv_buffer_append(&input, tail, sizeof tail - 1);
        different += compare(redis, lockstep, kv_buffer_span(&input));
        kv_buffer_free(&input);
    }
    return different;
}

static void compare_all(const char *state)
{
    struct program redis;
    struct program lockstep;
    int different = 0;
    if (system("command -v redis-server >/dev/null") != 0) {
        skip();
    }
    start_redis(&redis);
    const char *const flags[] = {"--state", state, NULL};
    program_start_lockstep(&lockstep, flags);
    program_await(&lockstep, "DBSIZE\r\n", ":0\r\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        different += compare(&redis, &lockstep, cases[i]);
    }
    different += compare_large(&redis, &lockstep);
    program_end(&redis);
    program_end(&lockstep);
    assert_int_equal(different, 0);
}

TEST(redis, answers_what_redis_answers_with_the_state_in_memory)
{
    compare_all("memory");
}

TEST(redis, answers_what_redis_answers_with_the_state_in_rocksdb)
{
    compare_all("rocksdb");
}
