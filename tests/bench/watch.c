/* SPDX-License-Identifier: MIT */
/*
 * What processes use while something else goes on.
 *
 * usage: bench_watch SECONDS PID...      SECONDS 0: until SIGTERM
 *
 * Prints a line "pid peak_anonymous_kib cpu_percent" for each. The peak is that of RssAnon in
 * /proc/PID/status, looked at every 20 ms: the memory that belongs to the process alone, without
 * mapped files. The percentage is user and system time of the whole process over the time watched,
 * 100 being one core.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PROCESSES_MAX = 32, LOOK_MS = 20 };

struct process {
    long pid;
    uint64_t peak_kib;
    uint64_t first_ticks, last_ticks;
};

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* A file below /proc/PID as text; false when the process has gone. */
static int read_proc(long pid, const char *name, char *text, size_t capacity)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return 0;
    }
    size_t bytes = fread(text, 1, capacity - 1, file);
    text[bytes] = '\0';
    (void)fclose(file);
    return bytes > 0;
}

static void look(struct process *process)
{
    char text[8192];
    if (read_proc(process->pid, "status", text, sizeof text)) {
        const char *line = strstr(text, "RssAnon:");
        uint64_t kib = line != NULL ? strtoull(line + strlen("RssAnon:"), NULL, 10) : 0;
        process->peak_kib = kib > process->peak_kib ? kib : process->peak_kib;
    }
    if (read_proc(process->pid, "stat", text, sizeof text)) {
        /* the name may hold blanks: utime and stime are fields 12 and 13 behind its last ')' */
        char *at = strrchr(text, ')');
        for (int field = 0; at != NULL && field < 12; field++) {
            at = strchr(at + 1, ' ');
        }
        if (at != NULL) {
            char *next = at;
            uint64_t user = strtoull(at, &next, 10);
            process->last_ticks = user + strtoull(next, NULL, 10);
        }
    }
}

int main(int argc, char **argv)
{
    static struct process processes[PROCESSES_MAX];
    size_t count = argc > 2 ? (size_t)argc - 2 : 0;
    if (count == 0 || count > PROCESSES_MAX) {
        (void)fprintf(stderr, "usage: bench_watch SECONDS PID...\n");
        return 2;
    }
    uint64_t seconds = strtoull(argv[1], NULL, 10);
    const struct sigaction action = {.sa_handler = stop};
    (void)sigaction(SIGTERM, &action, NULL);
    for (size_t i = 0; i < count; i++) {
        processes[i].pid = strtol(argv[i + 2], NULL, 10);
        look(&processes[i]);
        processes[i].first_ticks = processes[i].last_ticks;
    }
    uint64_t start = now_ms();
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    while (!stopped && (seconds == 0 || now_ms() - start < seconds * 1000u)) {
        (void)nanosleep(&pause, NULL);
        for (size_t i = 0; i < count; i++) {
            look(&processes[i]);
        }
    }
    double ms = (double)(now_ms() - start);
    double tick_ms = 1000.0 / (double)sysconf(_SC_CLK_TCK);
    for (size_t i = 0; i < count; i++) {
        double used = (double)(processes[i].last_ticks - processes[i].first_ticks) * tick_ms;
        printf("%ld %" PRIu64 " %.2f\n", processes[i].pid, processes[i].peak_kib,
               100.0 * used / ms);
    }
    return 0;
}
