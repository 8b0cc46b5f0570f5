/* SPDX-License-Identifier: MIT */
/*
 * What this machine can do now: the figures of Lockstep mean something only beside these.
 *
 * usage: bench_calibrate FOLDER
 *
 * A write of 4 KiB made durable, in a file that grows and in one whose extents were written before;
 * and 64 bytes there and back over TCP on 127.0.0.1 between two processes. Medians, microseconds.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SYNCS = 1000, BLOCK_BYTES = 4096, ROUND_TRIPS = 10000, MESSAGE_BYTES = 64 };

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return *x < *y ? -1 : *x > *y;
}

static double median_us(uint64_t *samples, size_t count)
{
    qsort(samples, count, sizeof *samples, compare);
    return (double)samples[count / 2] / 1000.0;
}

static void write_blocks(int file, uint64_t *samples)
{
    static uint8_t block[BLOCK_BYTES];
    (void)memset(block, 0x5a, sizeof block);
    for (size_t i = 0; i < SYNCS; i++) {
        uint64_t start = now_ns();
        if (pwrite(file, block, sizeof block, (off_t)(i * sizeof block)) != sizeof block ||
            fdatasync(file) != 0) {
            fail("write");
        }
        samples[i] = now_ns() - start;
    }
}

static void calibrate_sync(const char *folder)
{
    static uint64_t samples[SYNCS];
    char path[PATH_MAX];
    (void)snprintf(path, sizeof path, "%s/calibrate-XXXXXX", folder);
    int file = mkstemp(path);
    if (file < 0) {
        fail(path);
    }
    (void)unlink(path);
    write_blocks(file, samples);
    printf("sync_4k_growing_us %.0f\n", median_us(samples, SYNCS));
    write_blocks(file, samples);
    printf("sync_4k_rewritten_us %.0f\n", median_us(samples, SYNCS));
    (void)close(file);
}

static void read_message(int descriptor, uint8_t *message)
{
    size_t have = 0;
    while (have < MESSAGE_BYTES) {
        ssize_t got = read(descriptor, message + have, MESSAGE_BYTES - have);
        if (got <= 0) {
            exit(got == 0 ? 0 : 1);
        }
        have += (size_t)got;
    }
}

static int connect_pair(const struct sockaddr_in *address)
{
    int one = 1;
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    if (descriptor < 0 ||
        connect(descriptor, (const struct sockaddr *)address, sizeof *address) != 0) {
        fail("connect");
    }
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return descriptor;
}

static void echo(int listener)
{
    uint8_t message[MESSAGE_BYTES];
    int one = 1;
    int descriptor = accept(listener, NULL, NULL);
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (;;) {
        read_message(descriptor, message);
        if (write(descriptor, message, sizeof message) != sizeof message) {
            exit(1);
        }
    }
}

static void calibrate_round_trip(void)
{
    static uint64_t samples[ROUND_TRIPS];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
        fail("listen");
    }
    (void)fflush(stdout);
    pid_t child = fork();
    if (child < 0) {
        fail("fork");
    }
    if (child == 0) {
        echo(listener);
    }
    uint8_t message[MESSAGE_BYTES] = {0};
    int descriptor = connect_pair(&address);
    for (size_t i = 0; i < ROUND_TRIPS; i++) {
        uint64_t start = now_ns();
        if (write(descriptor, message, sizeof message) != sizeof message) {
            fail("write");
        }
        read_message(descriptor, message);
        samples[i] = now_ns() - start;
    }
    (void)close(descriptor);
    (void)waitpid(child, NULL, 0);
    printf("tcp_round_trip_us %.0f\n", median_us(samples, ROUND_TRIPS));
    (void)close(listener);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: bench_calibrate FOLDER\n");
        return 2;
    }
    calibrate_sync(argv[1]);
    calibrate_round_trip();
    return 0;
}
