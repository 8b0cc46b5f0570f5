/* SPDX-License-Identifier: MIT */
/* lockstep-kv as a program: connections, pipelines, passwords, limits, and how it starts and ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"
#include "test.h"

static const char *const no_flags[] = {NULL};

static void start(struct program *program, const char *const *flags)
{
    program_start_lockstep(program, flags);
    program_await(program, "DBSIZE\r\n", ":0\r\n");
}

static void assert_answers(const struct program *program, const char *input, const char *expected)
{
    struct kv_buffer reply = {0};
    assert_true(program_talk(program->port, (struct ls_span){input, strlen(input)}, &reply));
    assert_string_equal(reply.data, expected);
    kv_buffer_free(&reply);
}

TEST(server, a_pipeline_of_reads_and_writes_is_answered_in_order)
{
    enum { ROUNDS = 300 };
    struct program program;
    struct kv_buffer input = {0};
    struct kv_buffer expected = {0};
    struct kv_buffer reply = {0};
    start(&program, no_flags);
    for (int i = 1; i <= ROUNDS; i++) {
        char text[96];
        int bytes = snprintf(text, sizeof text,
                             "INCR n\r\nGET n\r\nPING %d\r\nSET n %d\r\nINCR n\r\n", i, i - 1);
        kv_buffer_append(&input, text, (size_t)bytes);
        char number[16];
        int digits = snprintf(number, sizeof number, "%d", i);
        bytes = snprintf(text, sizeof text, ":%d\r\n$%d\r\n%d\r\n$%d\r\n%d\r\n+OK\r\n:%d\r\n", i,
                         digits, i, digits, i, i);
        kv_buffer_append(&expected, text, (size_t)bytes);
        /* the next round starts from i */
        bytes = snprintf(text, sizeof text, "SET n %d\r\n", i);
        kv_buffer_append(&input, text, (size_t)bytes);
        kv_buffer_append(&expected, "+OK\r\n", 5);
    }
    kv_buffer_append(&expected, "", 1);
    assert_true(program_talk(program.port, kv_buffer_span(&input), &reply));
    assert_string_equal(reply.data, expected.data);
    kv_buffer_free(&input);
    kv_buffer_free(&expected);
    kv_buffer_free(&reply);
    program_end(&program);
}

TEST(server, a_local_read_sees_the_writes_of_its_connection)
{
    struct program program;
    start(&program, no_flags);
    assert_answers(&program,
                   "READONLY\r\nSET a 1\r\nGET a\r\nINCR a\r\nGET a\r\nREADWRITE\r\nGET a\r\n",
                   "+OK\r\n+OK\r\n$1\r\n1\r\n:2\r\n$1\r\n2\r\n+OK\r\n$1\r\n2\r\n");
    program_end(&program);
}

/* More replies than any buffer holds, asked for before one is read. */
TEST(server, a_client_that_does_not_read_waits_and_loses_nothing)
{
    enum { VALUE = 100000, GETS = 400 };
    struct program program;
    struct kv_buffer input = {0};
    struct kv_buffer reply = {0};
    start(&program, no_flags);
    static char value[VALUE + 1];
    (void)memset(value, 'v', VALUE);
    char head[64];
    int bytes = snprintf(head, sizeof head, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n", VALUE);
    kv_buffer_append(&input, head, (size_t)bytes);
    kv_buffer_append(&input, value, VALUE);
    kv_buffer_append(&input, "\r\n", 2);
    for (int i = 0; i < GETS; i++) {
        kv_buffer_append(&input, "GET k\r\n", 7);
    }
    int descriptor = program_dial(program.port);
    assert_true(descriptor >= 0);
    assert_int_equal(send(descriptor, input.data, input.end, 0), input.end);
    /* others are served meanwhile */
    program_await(&program, "STRLEN k\r\n", ":100000\r\n");
    size_t expected = 5 + (size_t)GETS * (VALUE + 2 + 9);
    while (reply.end < expected) {
        assert_true(kv_buffer_reserve(&reply, 1u << 20));
        ssize_t got = recv(descriptor, reply.data + reply.end, 1u << 20, 0);
        assert_true(got > 0);
        reply.end += (size_t)got;
    }
    assert_int_equal(reply.end, expected);
    (void)close(descriptor);
    kv_buffer_free(&input);
    kv_buffer_free(&reply);
    program_end(&program);
}

TEST(server, survives_clients_that_vanish_with_calls_in_flight)
{
    struct program program;
    start(&program, no_flags);
    for (int i = 0; i < 200; i++) {
        static const char input[] = "SET a 1\r\nGET a\r\nMSET b 1 c 2\r\nLOCKSTEP TRANSFER a\r\n";
        int descriptor = program_dial(program.port);
        assert_true(descriptor >= 0);
        const struct linger reset = {1, 0};
        (void)setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        assert_true(send(descriptor, input, (size_t)(i % (int)sizeof input), MSG_NOSIGNAL) >= 0);
        (void)close(descriptor);
    }
    assert_answers(&program, "PING\r\n", "+PONG\r\n");
    program_end(&program);
}

TEST(server, turns_away_more_clients_than_it_may_have)
{
    static const char *const flags[] = {"--clients-max", "2", NULL};
    struct program program;
    char reply[64] = "";
    program_start_lockstep(&program, flags);
    program_await(&program, "DBSIZE\r\n", ":0\r\n");
    int first = program_dial(program.port);
    int second = program_dial(program.port);
    /* both are known to it */
    assert_int_equal(send(first, "PING\r\n", 6, 0), 6);
    assert_int_equal(recv(first, reply, sizeof reply - 1, 0), 7);
    assert_int_equal(send(second, "PING\r\n", 6, 0), 6);
    assert_int_equal(recv(second, reply, sizeof reply - 1, 0), 7);
    int third = program_dial(program.port);
    ssize_t bytes = recv(third, reply, sizeof reply - 1, MSG_WAITALL);
    assert_true(bytes > 0);
    reply[bytes] = '\0';
    assert_string_equal(reply, "-ERR max number of clients reached\r\n");
    (void)close(first);
    (void)close(second);
    (void)close(third);
    program_await(&program, "PING\r\n", "+PONG\r\n");
    program_end(&program);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

TEST(server, asks_for_its_password)
{
    char path[128];
    struct program program;
    (void)snprintf(path, sizeof path, "%s/password", test_directory());
    write_file(path, "open sesame\nsecond line\n");
    const char *const flags[] = {"--redis-password-file", path, NULL};
    program_start_lockstep(&program, flags);
    program_await(&program, "AUTH \"open sesame\"\r\nDBSIZE\r\n", "+OK\r\n:0\r\n");
    assert_answers(&program, "PING\r\nGET a\r\nSET a 1\r\nINFO\r\n",
                   "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n"
                   "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n");
    assert_answers(&program, "AUTH wrong\r\nAUTH other \"open sesame\"\r\nPING\r\n",
                   "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
                   "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
                   "-NOAUTH Authentication required.\r\n");
    assert_answers(&program, "AUTH default \"open sesame\"\r\nSET a 1\r\nGET a\r\n",
                   "+OK\r\n+OK\r\n$1\r\n1\r\n");
    assert_answers(&program, "*1\r\n$20000\r\n",
                   "-ERR Protocol error: unauthenticated bulk length\r\n");
    program_end(&program);
}

TEST(server, keeps_its_state_when_it_is_started_again)
{
    static const char *const states[] = {"memory", "rocksdb"};
    for (size_t i = 0; i < 2; i++) {
        const char *const flags[] = {"--state", states[i], NULL};
        struct program program;
        program_start_lockstep(&program, flags);
        program_await(&program, "SET a 1\r\n", "+OK\r\n");
        program_end(&program);
        program_start_again(&program);
        program_await(&program, "GET a\r\n", "$1\r\n1\r\n");
        program_end(&program);
    }
}

TEST(server, says_in_one_line_why_it_cannot_start)
{
    struct program program;
    char said[PROGRAM_SAID_BYTES];
    start(&program, no_flags);
    /* the same directory again: in use; the ports are other ones */
    char members[64];
    char redis[64];
    (void)snprintf(members, sizeof members, "a=127.0.0.1:%u", test_port());
    (void)snprintf(redis, sizeof redis, "127.0.0.1:%u", test_port());
    const char *const locked[] = {LOCKSTEP_KV,  "--name",      "a",         "--members",
                                  members,      "--group-key", program.key, "--data",
                                  program.data, "--redis",     redis,       NULL};
    assert_int_equal(program_run(locked, said), 1);
    assert_non_null(strstr(said, program.data));
    assert_non_null(strstr(said, "in use"));
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    /* a port that is taken */
    char taken[64];
    (void)snprintf(taken, sizeof taken, "127.0.0.1:%u", program.port);
    const char *const port[] = {LOCKSTEP_KV,      "--name",      "a",         "--members",
                                members,          "--group-key", program.key, "--data",
                                test_directory(), "--redis",     taken,       NULL};
    assert_int_equal(program_run(port, said), 1);
    assert_non_null(strstr(said, taken));
    /* no key */
    const char *const key[] = {LOCKSTEP_KV,    "--name", "a",
                               "--members",    members,  "--group-key",
                               "/no/such/key", "--data", test_directory(),
                               "--redis",      redis,    NULL};
    assert_int_equal(program_run(key, said), 1);
    assert_non_null(strstr(said, "/no/such/key"));
    program_end(&program);
}

static void assert_one_line(const char *said, const char *holds)
{
    assert_non_null(strstr(said, holds));
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
}

TEST(server, is_not_started_on_the_data_of_another_member_or_group)
{
    struct program program;
    char said[PROGRAM_SAID_BYTES];
    char members[96];
    char redis[64];
    char key[160];
    start(&program, no_flags);
    program_await(&program, "SET a 1\r\n", "+OK\r\n");
    program_end(&program);
    (void)snprintf(members, sizeof members, "a=127.0.0.1:%u,b=127.0.0.1:%u", test_port(),
                   test_port());
    (void)snprintf(redis, sizeof redis, "127.0.0.1:%u", test_port());
    (void)snprintf(key, sizeof key, "%s/other", test_directory());

    const char *const name[] = {LOCKSTEP_KV,  "--name",      "b",         "--members",
                                members,      "--group-key", program.key, "--data",
                                program.data, "--redis",     redis,       NULL};
    assert_int_equal(program_run(name, said), 1);
    assert_one_line(said, program.data);
    assert_one_line(said, "belongs to member a, not to b");

    const char *const keygen[] = {LOCKSTEP_KV, "keygen", key, NULL};
    assert_int_equal(program_run(keygen, said), 0);
    const char *const other[] = {LOCKSTEP_KV,   "--name",  "a",      "--members",  members,
                                 "--group-key", key,       "--data", program.data, "--redis",
                                 redis,         "--state", "memory", NULL};
    assert_int_equal(program_run(other, said), 1);
    assert_one_line(said, "another --group-key");

    /* and nothing was lost by it */
    program_start_again(&program);
    program_await(&program, "GET a\r\n", "$1\r\n1\r\n");
    program_end(&program);
}

TEST(server, says_how_many_open_files_it_needs)
{
    const struct rlimit low = {.rlim_cur = 64, .rlim_max = 64};
    char said[PROGRAM_SAID_BYTES];
    char members[64];
    const char *const argv[] = {LOCKSTEP_KV,    "--name",      "a",
                                "--members",    members,       "--group-key",
                                "/no/such/key", "--data",      test_directory(),
                                "--redis",      "127.0.0.1:1", NULL};
    (void)snprintf(members, sizeof members, "a=127.0.0.1:%u", test_port());
    assert_int_equal(program_run_limited(argv, &low, said), 1);
    assert_one_line(said, "the limit of open files is 64, expected at least");
}

TEST(server, says_once_that_its_log_file_cannot_be_opened)
{
    char said[PROGRAM_SAID_BYTES];
    char members[64];
    (void)snprintf(members, sizeof members, "a=127.0.0.1:%u", test_port());
    const char *const argv[] = {LOCKSTEP_KV,    "--name",      "a",
                                "--members",    members,       "--group-key",
                                "/no/such/key", "--data",      test_directory(),
                                "--redis",      "127.0.0.1:1", "--log-file",
                                "/no/such/log", NULL};
    assert_int_equal(program_run(argv, said), 1);
    assert_one_line(said, "/no/such/log");
}

TEST(server, exits_with_2_after_a_wrong_command_line)
{
    char said[PROGRAM_SAID_BYTES];
    static const char *const argv[] = {LOCKSTEP_KV, "--state", "disk", NULL};
    assert_int_equal(program_run(argv, said), 2);
    assert_string_equal(said, "lockstep-kv: --state disk: expected rocksdb or memory\n");
}

TEST(server, keygen_makes_a_key_once)
{
    char path[128];
    char said[PROGRAM_SAID_BYTES];
    struct stat info;
    (void)snprintf(path, sizeof path, "%s/key", test_directory());
    const char *const argv[] = {LOCKSTEP_KV, "keygen", path, NULL};
    assert_int_equal(program_run(argv, said), 0);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 32);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(program_run(argv, said), 1);
    assert_non_null(strstr(said, path));
}
