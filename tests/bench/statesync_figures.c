/* SPDX-License-Identifier: MIT */
/* The table of figures, and what this machine does at most. See statesync.h. */
#include "statesync.h"

#include <lockstep/snapshot.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BLOCK = 256 << 10 };

uint64_t now_us(void)
{
    return ls_env_default()->now_us(NULL);
}

static const struct {
    const char *name, *unit, *goal;
} figures[FIGURES] = {
    [LOOPBACK] = {"limit: TCP over loopback", "MB/s", ""},
    [DISK] = {"limit: sequential write, synced", "MB/s", ""},
    [HASH] = {"limit: hash of chunks, one core", "MB/s", ""},
    [FILL] = {"the state is written", "MB/s", ""},
    [RATE] = {"the state comes back", "MB/s", ">= 150"},
    [FETCHED] = {"fetched / state", "", "<= 1.05"},
    [LEADER] = {"served by the leader", "%", "< 5"},
    [FOLLOWER_LEAST] = {"served by the follower with less", "%", ">= 30"},
    [FOLLOWER_MOST] = {"served by the follower with more", "%", ""},
    [OPENED] = {"of it until it answers clients", "s", ""},
    [CPU_LAGGING] = {"processor time of who comes back", "s/GiB", ""},
    [CPU_SERVING] = {"processor time of all who serve", "s/GiB", ""},
    [FREEZE] = {"longest freeze", "ms", "<= 1"},
    [MEMORY_LAGGING] = {"peak memory of who comes back", "MiB", "<= 256"},
    [MEMORY_SERVING] = {"peak memory of who serves", "MiB", "<= 256"},
    [MEMORY_SESSION] = {"of it added by the session served", "MiB", "<= 16"},
    [KILLED_FETCHED] = {"fetched / state, with the kill", "", "<= 1.05"},
    [KILLED_SECONDS] = {"seconds, with the kill", "s", ""},
    [LOAD_ALONE] = {"writes, nobody syncs", "/s", ""},
    [LOAD_MEANWHILE] = {"writes, while one syncs", "/s", ""},
    [LOAD_LOSS] = {"less than without", "%", "<= 10"},
    [P99_ALONE] = {"p99 of writes, nobody syncs", "ms", ""},
    [P99_MEANWHILE] = {"p99 of writes, while one syncs", "ms", ""},
    [P99_RISE] = {"more than without", "%", "<= 25"},
    [SYNC_UNDER_LOAD] = {"the state comes back under that load", "MB/s", ""},
};

static double measured[FIGURES][RUNS_MAX];
static unsigned counts[FIGURES];

void figure_add(enum figure figure, double value)
{
    if (counts[figure] < RUNS_MAX) {
        measured[figure][counts[figure]++] = value;
    }
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;
    return a < b ? -1 : a > b;
}

void figures_print(void)
{
    printf("%-38s %10s %10s %10s %6s  %s\n", "", "min", "median", "max", "", "goal");
    for (size_t i = 0; i < FIGURES; i++) {
        unsigned count = counts[i];
        if (count > 0) {
            double *values = measured[i];
            qsort(values, count, sizeof *values, compare);
            double median = (values[(count - 1) / 2] + values[count / 2]) / 2;
            printf("%-38s %10.2f %10.2f %10.2f %6s  %s\n", figures[i].name, values[0], median,
                   values[count - 1], figures[i].unit, figures[i].goal);
        }
    }
}

/* ---- what this machine does at most ---- */

static void *drain(void *arg)
{
    static char block[BLOCK];
    while (read(*(int *)arg, block, sizeof block) > 0) {
        continue;
    }
    return NULL;
}

static void limit_loopback(void)
{
    static char block[BLOCK];
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    pthread_t thread;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int sender = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    assert_int_equal(connect(sender, (const struct sockaddr *)&address, sizeof address), 0);
    int receiver = accept(listener, NULL, NULL);
    assert_true(receiver >= 0);
    assert_int_equal(pthread_create(&thread, NULL, drain, &receiver), 0);
    uint64_t begun = now_us();
    uint64_t bytes = 0;
    for (; bytes < (uint64_t)512 << 20; bytes += sizeof block) {
        assert_int_equal(write(sender, block, sizeof block), sizeof block);
    }
    (void)close(sender);
    (void)pthread_join(thread, NULL);
    figure_add(LOOPBACK, (double)bytes / (double)(now_us() - begun));
    (void)close(receiver);
    (void)close(listener);
}

static void limit_disk(uint64_t file_mib)
{
    static char block[1 << 20];
    char path[300];
    (void)snprintf(path, sizeof path, "%s/limit", test_directory());
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    (void)memset(block, 'x', sizeof block);
    uint64_t begun = now_us();
    for (uint64_t i = 0; i < file_mib; i++) {
        assert_int_equal(write(file, block, sizeof block), sizeof block);
    }
    assert_int_equal(fsync(file), 0);
    figure_add(DISK, (double)(file_mib << 20) / (double)(now_us() - begun));
    (void)close(file);
    (void)unlink(path);
}

static void limit_hash(void)
{
    static uint8_t block[BLOCK];
    uint64_t begun = now_us();
    uint64_t bytes = 0;
    for (; bytes < (uint64_t)256 << 20; bytes += sizeof block) {
        struct ls_hash hash =
            ls_chunk_hash(ls_env_default(), (struct ls_span){block, sizeof block});
        block[0] = (uint8_t)(block[0] ^ hash.bytes[0]);
    }
    figure_add(HASH, (double)bytes / (double)(now_us() - begun));
}

void limits_measure(uint64_t file_mib)
{
    limit_loopback();
    limit_disk(file_mib);
    limit_hash();
}
