/* SPDX-License-Identifier: MIT */
/*
 * Commits of a three-member group: encrypted TCP on 127.0.0.1, RocksDB, each member on a thread of
 * its own in one process, 128-byte commands, a closed loop on the leader. Prints one line for each
 * number in flight.
 *
 *     bench_group [in flight ...]
 */
#define _XOPEN_SOURCE 700
#include <lockstep/lockstep.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MEMBERS    3
#define COMMAND    128
#define WARM_UP_US 1000000u
#define RUN_US     3000000u
#define SAMPLES    4000000u

struct member {
    struct ls_identity *identity;
    struct ls_node *node;
    struct ls_group *group;
    uint64_t count;
};

static const uint8_t key[LS_KEY_BYTES] = {3, 1, 4, 1, 5, 9, 2, 6};
static struct ls_founder founders[MEMBERS];
static char names[MEMBERS][8], addresses[MEMBERS][32];
static struct member members[MEMBERS];
static char directory[] = "/tmp/lockstep-bench-XXXXXX";

static struct {
    struct ls_group *group;
    uint64_t until, measure_from;
    uint32_t in_flight;
    uint32_t *samples;
    size_t count;
    uint64_t failed;
} load;

static uint64_t now(void)
{
    return ls_env_default()->now_us(NULL);
}

static void require(enum ls_status status, const char *what, const struct ls_error *error)
{
    if (status != LS_OK) {
        (void)fprintf(stderr, "%s: %s %s\n", what, ls_status_text(status),
                      error != NULL ? error->text : "");
        exit(1);
    }
}

static struct ls_span count_signature(void *self)
{
    (void)self;
    return (struct ls_span){"count/1", 7};
}

static enum ls_status count_apply(void *self, const struct ls_command *command,
                                  struct ls_replies *replies)
{
    uint64_t *count = self;
    (void)command;
    ++*count;
    return ls_reply_set(replies, 0, count, sizeof *count);
}

static enum ls_status count_query(void *self, struct ls_span query, struct ls_replies *reply)
{
    (void)query;
    return ls_reply_set(reply, 0, self, sizeof(uint64_t));
}

static void join(void *arg)
{
    struct member *member = arg;
    struct ls_group_options options;
    struct ls_error error = {LS_OK, ""};
    ls_group_options_init(&options);
    options.name = "bench";
    options.member = names[member - members];
    options.founders = founders;
    options.founders_count = MEMBERS;
    options.election_ms = 300;
    options.heartbeat_ms = 60;
    options.machine = (struct ls_machine){.size = sizeof options.machine,
                                          .self = &member->count,
                                          .signature = count_signature,
                                          .apply = count_apply,
                                          .query = count_query};
    require(ls_group_join(member->node, &options, &member->group, &error), "join", &error);
}

static void start(struct member *member, size_t at)
{
    struct ls_error error = {LS_OK, ""};
    char path[64];
    (void)snprintf(path, sizeof path, "%s/%zu", directory, at);
    struct ls_node_options options;
    ls_node_options_init(&options);
    require(ls_identity_founder(key, names[at], &member->identity, &error), "identity", &error);
    options.identity = member->identity;
    options.listen = addresses[at];
    const struct ls_storage_rocksdb_options store = {.size = sizeof store, .directory = path};
    const struct ls_transport_tcp_options tcp = {.size = sizeof tcp, .identity = member->identity};
    require(ls_storage_rocksdb_open(&store, &options.storage, &error), "store", &error);
    require(ls_transport_tcp_open(&tcp, &options.transport, &error), "transport", &error);
    require(ls_node_open(&options, &member->node, &error), "node", &error);
    require(ls_node_call(member->node, join, member), "join", NULL);
}

struct slot {
    uint64_t begun;
    bool stopped;
};

static void submit(struct slot *slot);

static void on_done(void *arg, const struct ls_outcome *outcome)
{
    struct slot *slot = arg;
    uint64_t at = now();
    if (outcome->status != LS_OK) {
        load.failed++;
    } else if (slot->begun >= load.measure_from && load.count < SAMPLES) {
        load.samples[load.count++] = (uint32_t)(at - slot->begun);
    }
    if (at < load.until) {
        submit(slot);
    } else {
        slot->stopped = true;
    }
}

static void submit(struct slot *slot)
{
    static const uint8_t command[COMMAND];
    slot->begun = now();
    if (ls_group_execute(load.group, (struct ls_span){command, sizeof command}, NULL, on_done,
                         slot) != LS_OK) {
        load.failed++;
        slot->stopped = true;
    }
}

static struct slot slots[8192];

static void begin(void *arg)
{
    (void)arg;
    load.measure_from = now() + WARM_UP_US;
    load.until = load.measure_from + RUN_US;
    load.count = 0;
    for (uint32_t i = 0; i < load.in_flight; i++) {
        slots[i].stopped = false;
        submit(&slots[i]);
    }
}

static void finished(void *arg)
{
    bool *all = arg;
    *all = true;
    for (uint32_t i = 0; i < load.in_flight; i++) {
        *all = *all && slots[i].stopped;
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void counters(void *arg)
{
    struct ls_node_status *status = arg;
    for (size_t i = 0; i < MEMBERS; i++) {
        if (members[i].group == load.group) {
            ls_node_status(members[i].node, status);
        }
    }
}

/* Processor time of all members and the client, microseconds. */
static double processor_us(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void measure(uint32_t in_flight)
{
    struct ls_node *node = ls_group_node(load.group);
    struct ls_node_status before, after;
    bool all = false;
    load.in_flight = in_flight;
    require(ls_node_call(node, counters, &before), "status", NULL);
    double processor = processor_us();
    require(ls_node_call(node, begin, NULL), "begin", NULL);
    while (!all) {
        (void)usleep(50000);
        require(ls_node_call(node, finished, &all), "finished", NULL);
    }
    require(ls_node_call(node, counters, &after), "status", NULL);
    processor = processor_us() - processor;
    qsort(load.samples, load.count, sizeof load.samples[0], compare);
    double seconds = (double)RUN_US / 1e6;
    double total = (double)(RUN_US + WARM_UP_US) / 1e6;
    size_t n = load.count > 0 ? load.count : 1;
    printf("in flight %5u  %9.0f commits/s  p50 %6u us  p99 %6u us  p99.9 %6u us  max %6u us  "
           "%5.0f syncs/s  %6.2f CPU us a commit  failed %llu\n",
           in_flight, (double)load.count / seconds, load.samples[n / 2], load.samples[n * 99 / 100],
           load.samples[n * 999 / 1000], load.samples[n - 1],
           (double)(after.storage.syncs - before.storage.syncs) / total,
           processor / (double)(after.storage.entries - before.storage.entries),
           (unsigned long long)load.failed);
    (void)fflush(stdout);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

int main(int argc, char **argv)
{
    load.samples = calloc(SAMPLES, sizeof load.samples[0]);
    if (load.samples == NULL || mkdtemp(directory) == NULL) {
        perror("bench_group");
        return 1;
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        (void)snprintf(names[i], sizeof names[i], "m%zu", i);
        (void)snprintf(addresses[i], sizeof addresses[i], "127.0.0.1:%d",
                       27300 + getpid() % 1000 * 3 + (int)i);
        founders[i] = (struct ls_founder){.name = names[i], .address = addresses[i]};
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        start(&members[i], i);
    }
    for (size_t i = 0; load.group == NULL; i = (i + 1) % MEMBERS) {
        if (ls_group_wait(members[i].group, &(struct ls_condition){.kind = LS_WHEN_SERVING}, 50) ==
            LS_OK) {
            load.group = members[i].group;
        }
    }
    static const uint32_t defaults[] = {1, 64, 256, 1000, 4096};
    if (argc > 1) {
        for (int i = 1; i < argc; i++) {
            uint32_t in_flight = (uint32_t)strtoul(argv[i], NULL, 10);
            measure(in_flight >= 1 && in_flight <= 8192 ? in_flight : 1);
        }
    } else {
        for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
            measure(defaults[i]);
        }
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        ls_node_close(members[i].node, NULL, NULL);
        ls_identity_close(members[i].identity);
    }
    (void)nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(load.samples);
    return 0;
}
