/* SPDX-License-Identifier: MIT */
/* A child process whose output is read line by line. Used by the fault tests. */
#ifndef LOCKSTEP_TEST_PROCESS_H
#define LOCKSTEP_TEST_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct process {
    pid_t pid;
    int input, output; /* of the child; ours to write and to read */
    char buffer[4096];
    size_t held;
};

/** Starts `arguments[0]`; `environment` is a list of "NAME=value" put before ours, or NULL. */
void process_start(struct process *process, const char *const *arguments,
                   const char *const *environment);
/** The next line without its newline, borrowed until the next call; NULL at the end. */
const char *process_line(struct process *process);
/** A line if one can be had within `timeout_ms`. */
const char *process_line_within(struct process *process, int timeout_ms);
/** Ends it with SIGKILL; reads of what it wrote before still work. */
void process_kill(struct process *process);
/** Waits for it and closes; returns its exit code, or 128 + signal. */
int process_end(struct process *process);
/** Runs to the end; returns its exit code. */
int process_run(const char *const *arguments);

#endif
