/* SPDX-License-Identifier: MIT */
/* Child processes of the fault tests (process.h). */
#include "process.h"

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void process_start(struct process *process, const char *const *arguments,
                   const char *const *environment)
{
    int in[2];
    int out[2];
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(in[0], STDIN_FILENO);
        (void)dup2(out[1], STDOUT_FILENO);
        for (int descriptor = 3; descriptor < 256; descriptor++) {
            (void)close(descriptor);
        }
        for (; environment != NULL && *environment != NULL; environment++) {
            (void)putenv((char *)(uintptr_t)*environment);
        }
        (void)execv(arguments[0], (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    *process = (struct process){.pid = pid, .input = in[1], .output = out[0]};
}

const char *process_line_within(struct process *process, int timeout_ms)
{
    static char line[sizeof process->buffer];
    for (;;) {
        char *end = memchr(process->buffer, '\n', process->held);
        if (end != NULL) {
            size_t length = (size_t)(end - process->buffer);
            (void)memcpy(line, process->buffer, length);
            line[length] = '\0';
            process->held -= length + 1;
            (void)memmove(process->buffer, end + 1, process->held);
            return line;
        }
        struct pollfd watched = {process->output, POLLIN, 0};
        if (poll(&watched, 1, timeout_ms) == 0) {
            return NULL;
        }
        assert_true(process->held < sizeof process->buffer);
        ssize_t got = read(process->output, process->buffer + process->held,
                           sizeof process->buffer - process->held);
        if (got <= 0) {
            return NULL;
        }
        process->held += (size_t)got;
    }
}

const char *process_line(struct process *process)
{
    return process_line_within(process, 60000);
}

void process_kill(struct process *process)
{
    (void)kill(process->pid, SIGKILL);
}

int process_end(struct process *process)
{
    int status = 0;
    (void)close(process->input);
    while (waitpid(process->pid, &status, 0) < 0 && errno == EINTR) {
    }
    (void)close(process->output);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int process_run(const char *const *arguments)
{
    struct process process;
    process_start(&process, arguments, NULL);
    while (process_line(&process) != NULL) {
    }
    return process_end(&process);
}
