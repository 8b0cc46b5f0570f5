/* SPDX-License-Identifier: MIT */
/*
 * What one entry costs the key-value machine, without a group: batches of 2000 SETs of 128 bytes,
 * as log replay applies them. Prints one line for each store and load.
 *
 *   kv_store <directory, emptied by the caller>
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kv_machine.h"

enum { BATCH = 2000, VALUE_BYTES = 128, ENTRIES = 1000000, FEW_KEYS = 100000 };

static double now_s(clockid_t clock)
{
    struct timespec time;
    (void)clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void die(const char *what)
{
    (void)fprintf(stderr, "kv_store: %s\n", what);
    exit(1);
}

/* Fills the commands first + 1 ... first + BATCH; their entries lie in `bytes`. */
static void batch_fill(struct ls_command *commands, struct kv_buffer *bytes, uint64_t first,
                       unsigned keys)
{
    static uint64_t random = 88172645463325252u;
    char key[32];
    char value[VALUE_BYTES];
    size_t ends[BATCH];
    const struct ls_span name = {"set", 3};
    kv_buffer_reset(bytes, SIZE_MAX);
    for (size_t i = 0; i < BATCH; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        unsigned number = keys == ENTRIES ? (unsigned)(first + i) : (unsigned)(random % keys);
        int key_bytes = snprintf(key, sizeof key, "key:%012u", number);
        (void)memset(value, 'a' + (int)(random % 26), sizeof value);
        const struct ls_span args[3] = {name, {key, (size_t)key_bytes}, {value, sizeof value}};
        kv_entry_encode(bytes, kv_command_find(name), args, 3);
        ends[i] = kv_buffer_bytes(bytes);
    }
    for (size_t i = 0; i < BATCH; i++) {
        size_t start = i == 0 ? 0 : ends[i - 1];
        commands[i] =
            (struct ls_command){{1, first + i + 1}, {bytes->data + start, ends[i] - start}};
    }
}

static double apply_all(const struct ls_machine *port, const struct ls_command *commands,
                        unsigned *busy)
{
    double worst = 0;
    for (size_t done = 0; done < BATCH;) {
        size_t applied = 0;
        double start = now_s(CLOCK_MONOTONIC);
        enum ls_status status =
            port->apply_batch(port->self, commands + done, BATCH - done, NULL, &applied);
        double took = now_s(CLOCK_MONOTONIC) - start;
        worst = took > worst ? took : worst;
        if (status == LS_ERR_BUSY) {
            const struct timespec pause = {0, 1000000};
            (void)nanosleep(&pause, NULL);
            (*busy)++;
        } else if (status != LS_OK) {
            die(ls_status_text(status));
        }
        done += applied;
    }
    return worst;
}

static void run(const char *what, struct kv_store *store, unsigned keys)
{
    static struct ls_command commands[BATCH];
    struct kv_buffer bytes = {0};
    struct kv_machine machine;
    struct ls_error error = {0};
    ls_index applied = 0;
    const struct ls_group_id group = {{1}};
    const struct ls_incarnation incarnation = {{2}};
    kv_machine_init(&machine, store);
    struct ls_machine port = kv_machine_port(&machine);
    if (port.open(port.self, &group, &incarnation, &applied, &error) != LS_OK) {
        die(error.text);
    }
    double spent = 0;
    double worst = 0;
    double cpu_thread = 0;
    unsigned busy = 0;
    double cpu_before = now_s(CLOCK_PROCESS_CPUTIME_ID);
    double filling = 0;
    for (uint64_t first = 0; first < ENTRIES; first += BATCH) {
        double cpu = now_s(CLOCK_THREAD_CPUTIME_ID);
        batch_fill(commands, &bytes, first, keys);
        filling += now_s(CLOCK_THREAD_CPUTIME_ID) - cpu;
        cpu = now_s(CLOCK_THREAD_CPUTIME_ID);
        double start = now_s(CLOCK_MONOTONIC);
        double took = apply_all(&port, commands, &busy);
        spent += now_s(CLOCK_MONOTONIC) - start;
        cpu_thread += now_s(CLOCK_THREAD_CPUTIME_ID) - cpu;
        worst = took > worst ? took : worst;
    }
    port.close(port.self);
    double cpu_all = now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu_before - filling;
    printf("%-28s %7.0f k/s  CPU/M: thread %5.2f s, process with close %5.2f s  worst call %6.1f "
           "ms  busy %u\n",
           what, ENTRIES / spent / 1000, cpu_thread * 1e6 / ENTRIES, cpu_all * 1e6 / ENTRIES,
           worst * 1000, busy);
    kv_buffer_free(&bytes);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        die("expected a directory");
    }
    const unsigned loads[] = {ENTRIES, FEW_KEYS};
    for (size_t i = 0; i < 2; i++) {
        char what[64];
        char directory[4096];
        struct kv_store store;
        (void)snprintf(what, sizeof what, "memory, %u keys", loads[i]);
        if (kv_store_memory_open(&store) != LS_OK) {
            die("out of memory");
        }
        run(what, &store, loads[i]);
        (void)snprintf(what, sizeof what, "rocksdb, %u keys", loads[i]);
        (void)snprintf(directory, sizeof directory, "%s/%u", argv[1], loads[i]);
        if (kv_store_rocksdb_open(directory, &store) != LS_OK) {
            die("out of memory");
        }
        run(what, &store, loads[i]);
    }
    return 0;
}
