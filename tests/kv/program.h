/* SPDX-License-Identifier: MIT */
/* Servers as child processes, and conversations with them in raw bytes. */
#ifndef KV_PROGRAM_H
#define KV_PROGRAM_H

#include <sys/resource.h>
#include <sys/types.h>

#include "buffer.h"

#define PROGRAM_SAID_BYTES 4096
#define PROGRAM_FLAGS_MAX  40

struct program {
    pid_t pid;
    uint16_t port; /* for Redis clients */
    const char *directory;
    char key[128], data[128];
    char flags[PROGRAM_FLAGS_MAX][256]; /* up to an empty one */
};

void program_start(struct program *program, const char *const *argv);
/** Runs to the end; returns the exit code, and what was written to standard error. */
int program_run(const char *const *argv, char said[PROGRAM_SAID_BYTES]);
/** The same with a limit of open files. */
int program_run_limited(const char *const *argv, const struct rlimit *files,
                        char said[PROGRAM_SAID_BYTES]);
/** SIGTERM; expects the exit code 0. */
void program_end(struct program *program);

/** A group of one member in a fresh directory, with more flags, NULL-terminated. */
void program_start_lockstep(struct program *program, const char *const *flags);
/** The same command line once more. */
void program_start_again(struct program *program);

/** -1: nobody listens. */
int program_dial(uint16_t port);
/** Sends `input`, then reads until the server has answered all and closes; the reply is terminated.
 * False: no connection. */
bool program_talk(uint16_t port, struct ls_span input, struct kv_buffer *reply);
/** Until the server answers `input` with exactly `expected`. */
void program_await(struct program *program, const char *input, const char *expected);

#endif
