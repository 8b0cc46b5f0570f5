/* SPDX-License-Identifier: MIT */
/*
 * lockstep-kv against the real redis-server: the same bytes in, the same bytes out. Runs only where
 * redis-server is installed. A group of one member: what is compared is the protocol and the
 * commands.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "buffer.h"
#include "test.h"

enum { PATIENCE_MS = 20000, NAP_MS = 10 };

struct served {
    pid_t pid;
    uint16_t port;
};

/* Ends with this program, however that ends. */
static pid_t start(const char *const *argv)
{
    enum { ARGUMENTS_MAX = 32 };
    pid_t parent = getpid();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char *copy[ARGUMENTS_MAX] = {NULL};
        for (size_t i = 0; argv[i] != NULL && i + 1 < ARGUMENTS_MAX; i++) {
            copy[i] = strdup(argv[i]);
        }
        int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
        (void)dup2(nothing, STDOUT_FILENO);
        (void)dup2(nothing, STDERR_FILENO);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent) {
            (void)execvp(copy[0], copy);
        }
        _exit(127);
    }
    return pid;
}

static void end(struct served *served)
{
    int status = -1;
    (void)kill(served->pid, SIGTERM);
    assert_true(waitpid(served->pid, &status, 0) == served->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int dial(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(descriptor >= 0);
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
        (void)close(descriptor);
        return -1;
    }
    return descriptor;
}

/* Sends `input`, then reads until the server has answered all and closes. False: no connection. */
static bool talk(uint16_t port, struct ls_span input, struct kv_buffer *reply)
{
    int descriptor = dial(port);
    if (descriptor < 0) {
        return false;
    }
    const char *data = input.data;
    size_t sent = 0;
    bool open = true;
    while (open) {
        struct pollfd watched = {.fd = descriptor,
                                 .events = (short)(POLLIN | (sent < input.bytes ? POLLOUT : 0))};
        assert_true(poll(&watched, 1, PATIENCE_MS) > 0);
        if ((watched.revents & POLLOUT) != 0) {
            ssize_t bytes =
                send(descriptor, data + sent, input.bytes - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            sent = bytes < 0 ? input.bytes : sent + (size_t)bytes;
            if (sent == input.bytes) {
                (void)shutdown(descriptor, SHUT_WR);
            }
        }
        if ((watched.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            assert_true(kv_buffer_reserve(reply, 65536));
            ssize_t bytes = recv(descriptor, reply->data + reply->end, 65536, 0);
            open = bytes > 0;
            reply->end += bytes > 0 ? (size_t)bytes : 0;
        }
    }
    (void)close(descriptor);
    kv_buffer_append(reply, "", 1);
    return true;
}

/* Until the server answers `input` with `expected`. */
static void await(struct served *served, const char *input, const char *expected)
{
    for (int waited = 0; waited < PATIENCE_MS; waited += NAP_MS) {
        struct kv_buffer reply = {0};
        bool answered = talk(served->port, (struct ls_span){input, strlen(input)}, &reply) &&
                        strcmp(reply.data, expected) == 0;
        kv_buffer_free(&reply);
        if (answered) {
            return;
        }
        static const struct timespec nap = {0, NAP_MS * 1000000};
        (void)nanosleep(&nap, NULL);
    }
    fail_msg("no answer on port %u", served->port);
}

static void start_redis(struct served *served)
{
    char port[8];
    const char *argv[] = {"redis-server", "--port",       port, "--bind",
                          "127.0.0.1",    "--save",       "",   "--proto-max-bulk-len",
                          "1mb",          "--appendonly", "no", NULL};
    served->port = test_port();
    (void)snprintf(port, sizeof port, "%u", served->port);
    served->pid = start(argv);
    await(served, "PING\r\n", "+PONG\r\n");
}

static void start_lockstep(struct served *served, const char *state)
{
    char key[128];
    char data[128];
    char members[64];
    char redis[32];
    const char *directory = test_directory();
    (void)snprintf(key, sizeof key, "%s/key", directory);
    (void)snprintf(data, sizeof data, "%s/data", directory);
    (void)snprintf(members, sizeof members, "a=127.0.0.1:%u", test_port());
    served->port = test_port();
    (void)snprintf(redis, sizeof redis, "127.0.0.1:%u", served->port);
    const char *keygen[] = {LOCKSTEP_KV, "keygen", key, NULL};
    int status = 0;
    assert_true(waitpid(start(keygen), &status, 0) > 0);
    assert_int_equal(status, 0);
    const char *argv[] = {LOCKSTEP_KV, "--name",        "a",  "--members", members, "--group-key",
                          key,         "--data",        data, "--redis",   redis,   "--state",
                          state,       "--election-ms", "50", NULL};
    served->pid = start(argv);
    await(served, "DBSIZE\r\n", ":0\r\n");
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
static int compare(const struct served *redis, const struct served *lockstep, struct ls_span input)
{
    struct kv_buffer expected = {0};
    struct kv_buffer found = {0};
    static const char flush[] = "FLUSHALL\r\n";
    struct kv_buffer whole = {0};
    kv_buffer_append(&whole, flush, sizeof flush - 1);
    kv_buffer_append(&whole, input.data, input.bytes);
    assert_true(talk(redis->port, kv_buffer_span(&whole), &expected));
    assert_true(talk(lockstep->port, kv_buffer_span(&whole), &found));
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
static int compare_large(const struct served *redis, const struct served *lockstep)
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
    struct served redis;
    struct served lockstep;
    int different = 0;
    if (system("command -v redis-server >/dev/null") != 0) {
        skip();
    }
    start_redis(&redis);
    start_lockstep(&lockstep, state);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        different += compare(&redis, &lockstep, cases[i]);
    }
    different += compare_large(&redis, &lockstep);
    end(&redis);
    end(&lockstep);
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
