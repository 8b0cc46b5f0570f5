/* SPDX-License-Identifier: MIT */
/* Servers as child processes that end with the test, however it ends. */
#include "program.h"

#include <arpa/inet.h>
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

#include "test.h"

enum { PATIENCE_MS = 20000, NAP_MS = 5, ARGUMENTS_MAX = PROGRAM_FLAGS_MAX };

/* In the child: becomes the program, its standard error going to `errors`. */
static void become(const char *const *argv, int errors, pid_t parent, const struct rlimit *files)
{
    char *copy[ARGUMENTS_MAX] = {NULL};
    for (size_t i = 0; argv[i] != NULL && i + 1 < ARGUMENTS_MAX; i++) {
        copy[i] = strdup(argv[i]);
    }
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    (void)dup2(nothing, STDOUT_FILENO);
    (void)dup2(errors >= 0 ? errors : nothing, STDERR_FILENO);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent && (files == NULL || setrlimit(RLIMIT_NOFILE, files) == 0)) {
        (void)execvp(copy[0], copy);
    }
    _exit(127);
}

void program_start(struct program *program, const char *const *argv)
{
    pid_t parent = getpid();
    program->pid = fork();
    assert_true(program->pid >= 0);
    if (program->pid == 0) {
        become(argv, -1, parent, NULL);
    }
}

int program_run(const char *const *argv, char said[PROGRAM_SAID_BYTES])
{
    return program_run_limited(argv, NULL, said);
}

int program_run_limited(const char *const *argv, const struct rlimit *files,
                        char said[PROGRAM_SAID_BYTES])
{
    int pipes[2];
    pid_t parent = getpid();
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        become(argv, pipes[1], parent, files);
    }
    (void)close(pipes[1]);
    size_t length = 0;
    ssize_t bytes = 0;
    while ((bytes = read(pipes[0], said + length, PROGRAM_SAID_BYTES - 1 - length)) > 0) {
        length += (size_t)bytes;
    }
    said[length] = '\0';
    (void)close(pipes[0]);
    int status = -1;
    assert_true(waitpid(pid, &status, 0) == pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

void program_end(struct program *program)
{
    int status = -1;
    (void)kill(program->pid, SIGTERM);
    assert_true(waitpid(program->pid, &status, 0) == program->pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int program_dial(uint16_t port)
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

bool program_talk(uint16_t port, struct ls_span input, struct kv_buffer *reply)
{
    int descriptor = program_dial(port);
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

void program_await(struct program *program, const char *input, const char *expected)
{
    for (int waited = 0; waited < PATIENCE_MS; waited += NAP_MS) {
        struct kv_buffer reply = {0};
        struct ls_span bytes = {input, strlen(input)};
        bool answered =
            program_talk(program->port, bytes, &reply) && strcmp(reply.data, expected) == 0;
        kv_buffer_free(&reply);
        if (answered) {
            return;
        }
        static const struct timespec nap = {0, NAP_MS * 1000000};
        (void)nanosleep(&nap, NULL);
    }
    fail_msg("no answer on port %u", program->port);
}

void program_start_lockstep(struct program *program, const char *const *flags)
{
    char members[64];
    char redis[32];
    const char *argv[ARGUMENTS_MAX] = {LOCKSTEP_KV, "keygen", program->key, NULL};
    char said[PROGRAM_SAID_BYTES];
    program->directory = test_directory();
    (void)snprintf(program->key, sizeof program->key, "%s/key", program->directory);
    (void)snprintf(program->data, sizeof program->data, "%s/data", program->directory);
    (void)snprintf(members, sizeof members, "a=127.0.0.1:%u", test_port());
    program->port = test_port();
    (void)snprintf(redis, sizeof redis, "127.0.0.1:%u", program->port);
    assert_int_equal(program_run(argv, said), 0);
    const char *const always[] = {LOCKSTEP_KV,   "--name",      "a",          "--members",
                                  members,       "--group-key", program->key, "--data",
                                  program->data, "--redis",     redis,        "--election-ms",
                                  "50"};
    size_t count = sizeof always / sizeof always[0];
    (void)memcpy(argv, always, sizeof always);
    while (*flags != NULL && count + 1 < ARGUMENTS_MAX) {
        argv[count++] = *flags++;
    }
    argv[count] = NULL;
    for (size_t i = 0; i <= count; i++) {
        (void)snprintf(program->flags[i], sizeof program->flags[0], "%s",
                       argv[i] == NULL ? "" : argv[i]);
    }
    program_start_again(program);
}

void program_start_again(struct program *program)
{
    const char *argv[ARGUMENTS_MAX] = {NULL};
    for (size_t i = 0; program->flags[i][0] != '\0'; i++) {
        argv[i] = program->flags[i];
    }
    program_start(program, argv);
}
