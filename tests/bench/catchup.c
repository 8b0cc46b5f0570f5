/* SPDX-License-Identifier: MIT */
/*
 * Catch-up by log replay, without a program around the library: three members in one process, each
 * on a thread of its own, encrypted TCP on 127.0.0.1, RocksDB logs, a machine that only counts. A
 * follower is stopped, entries are executed that the leader's cache cannot hold, it is started
 * again. Prints how fast it came back and what that cost: processor time of the loop and the writer
 * of each member, per million entries. RocksDB's background threads serve all three.
 *
 *     bench_catchup [--entries N] [--bytes N] [--rate MiB/s] [--load IN-FLIGHT] [--dir DIR]
 *
 * --rate   pace of the bulk lane
 * --load   so many commands are in flight while it catches up; prints the leader's commits per
 *          second without and with the replay
 */
#define _XOPEN_SOURCE 700
#include <lockstep/lockstep.h>

#include <dirent.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MEMBERS     3
#define BATCH       1000u
#define BATCHES     8u
#define BYTES_MAX   65536u
#define LOAD_MAX    8192u
#define THREADS_MAX 64u
#define LOAD_US     4000000u

struct member {
    struct ls_identity *identity;
    struct ls_node *node;
    struct ls_group *group;
    uint64_t count;
    int threads[2]; /* the writer's and the loop's, as the system numbers them */
};

static const uint8_t key[LS_KEY_BYTES] = {3, 1, 4, 1, 5, 9, 2, 6};
static struct ls_founder founders[MEMBERS];
static char names[MEMBERS][8], addresses[MEMBERS][32];
static struct member members[MEMBERS];
static char directory[256];
static uint8_t command[BYTES_MAX];
static uint64_t entries = 1000000, rate;
static size_t command_bytes = 128;
static uint32_t in_flight;

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

/* ---- threads and their processor time ---- */

static size_t list_threads(int out[THREADS_MAX])
{
    size_t count = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (const struct dirent *entry = tasks == NULL ? NULL : readdir(tasks);
         entry != NULL && count < THREADS_MAX; entry = readdir(tasks)) {
        int id = (int)strtol(entry->d_name, NULL, 10);
        if (id > 0) {
            out[count++] = id;
        }
    }
    if (tasks != NULL) {
        (void)closedir(tasks);
    }
    return count;
}

static double seconds_of(int thread)
{
    char path[64];
    unsigned long long nanoseconds = 0;
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", thread);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%llu", &nanoseconds) != 1) {
            nanoseconds = 0;
        }
        (void)fclose(file);
    }
    return (double)nanoseconds / 1e9;
}

static bool is_background(int thread)
{
    char path[64];
    char name[32] = "";
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/comm", thread);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        if (fgets(name, sizeof name, file) == NULL) {
            name[0] = '\0';
        }
        (void)fclose(file);
    }
    return strncmp(name, "rocksdb", 7) == 0;
}

static double background_seconds(void)
{
    int threads[THREADS_MAX];
    size_t count = list_threads(threads);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += is_background(threads[i]) ? seconds_of(threads[i]) : 0;
    }
    return sum;
}

/* The thread that is there now and was not before. */
static int new_thread(const int before[THREADS_MAX], size_t before_count)
{
    int threads[THREADS_MAX];
    size_t count = list_threads(threads);
    int found = 0;
    for (size_t i = 0; i < count; i++) {
        bool known = is_background(threads[i]);
        for (size_t k = 0; k < before_count; k++) {
            known = known || before[k] == threads[i];
        }
        found = known ? found : threads[i];
    }
    return found;
}

/* ---- the machine, and members ---- */

static struct ls_span count_signature(void *self)
{
    (void)self;
    return (struct ls_span){"count/1", 7};
}

static enum ls_status count_apply(void *self, const struct ls_command *commands, size_t count,
                                  struct ls_replies *replies, size_t *applied)
{
    uint64_t *total = self;
    (void)commands;
    (void)replies;
    *total += count;
    *applied = count;
    return LS_OK;
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
    options.election_ms = 1000;
    options.heartbeat_ms = 100;
    options.machine = (struct ls_machine){.size = sizeof options.machine,
                                          .self = &member->count,
                                          .signature = count_signature,
                                          .apply_batch = count_apply,
                                          .query = count_query};
    member->count = 0;
    require(ls_group_join(member->node, &options, &member->group, &error), "join", &error);
}

static void start(struct member *member)
{
    size_t at = (size_t)(member - members);
    struct ls_error error = {LS_OK, ""};
    char path[300];
    int before[THREADS_MAX];
    (void)snprintf(path, sizeof path, "%s/%zu", directory, at);
    struct ls_node_options options;
    ls_node_options_init(&options);
    require(ls_identity_founder(key, names[at], &member->identity, &error), "identity", &error);
    options.identity = member->identity;
    options.listen = addresses[at];
    const struct ls_storage_rocksdb_options store = {.size = sizeof store, .directory = path};
    const struct ls_transport_tcp_options tcp = {
        .size = sizeof tcp, .identity = member->identity, .bulk_bytes_per_s = rate};
    size_t count = list_threads(before);
    require(ls_storage_rocksdb_open(&store, &options.storage, &error), "store", &error);
    member->threads[0] = new_thread(before, count);
    count = list_threads(before);
    require(ls_transport_tcp_open(&tcp, &options.transport, &error), "transport", &error);
    require(ls_node_open(&options, &member->node, &error), "node", &error);
    member->threads[1] = new_thread(before, count);
    require(ls_node_call(member->node, join, member), "join", NULL);
}

static void stop(struct member *member)
{
    ls_node_close(member->node, NULL, NULL);
    ls_identity_close(member->identity);
    member->node = NULL;
}

/* ---- what is executed ---- */

static struct {
    struct ls_group *group;
    uint64_t left; /* to be submitted */
    uint32_t under_way;
    ls_index first, last;
    atomic_bool done;
} fill;

static void fill_more(void);

static void on_filled(void *arg, const struct ls_outcome *outcome)
{
    (void)arg;
    require(outcome->status, "execute", NULL);
    ls_index last = outcome->first.index + BATCH - 1;
    fill.last = last > fill.last ? last : fill.last;
    fill.first = fill.first == 0 ? outcome->first.index : fill.first;
    fill.under_way--;
    fill_more();
    if (fill.under_way == 0 && fill.left == 0) {
        atomic_store(&fill.done, true);
    }
}

static void fill_more(void)
{
    static struct ls_span commands[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        commands[i] = (struct ls_span){command, command_bytes};
    }
    while (fill.left > 0 && fill.under_way < BATCHES &&
           (fill.under_way + 1) * BATCH * (command_bytes + 16) < LS_IN_FLIGHT_BYTES_DEFAULT) {
        const struct ls_call_options call = {.deadline_ms = 60000};
        require(ls_group_execute_many(fill.group, commands, BATCH, &call, on_filled, NULL),
                "execute", NULL);
        fill.left -= BATCH;
        fill.under_way++;
    }
}

static void fill_begin(void *arg)
{
    (void)arg;
    fill_more();
}

/* ---- load: a closed loop on the leader ---- */

static struct {
    atomic_bool stop;
    atomic_uint_fast64_t commits, failed;
    atomic_uint open;
} load;

static void load_submit(void);

static void on_load(void *arg, const struct ls_outcome *outcome)
{
    (void)arg;
    (void)atomic_fetch_add(outcome->status == LS_OK ? &load.commits : &load.failed, 1);
    if (atomic_load(&load.stop)) {
        (void)atomic_fetch_sub(&load.open, 1);
    } else {
        load_submit();
    }
}

static void load_submit(void)
{
    require(
        ls_group_execute(fill.group, (struct ls_span){command, command_bytes}, NULL, on_load, NULL),
        "execute", NULL);
}

static void load_begin(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < in_flight; i++) {
        (void)atomic_fetch_add(&load.open, 1);
        load_submit();
    }
}

static double load_rate(uint64_t us)
{
    uint64_t from = now(), commits = atomic_load(&load.commits);
    (void)usleep((useconds_t)us);
    return (double)(atomic_load(&load.commits) - commits) / (double)(now() - from) * 1e6;
}

/* ---- the measurement ---- */

static struct member *find_leader(void)
{
    for (size_t i = 0;; i = (i + 1) % MEMBERS) {
        if (ls_group_wait(members[i].group, &(struct ls_condition){.kind = LS_WHEN_SERVING}, 50) ==
            LS_OK) {
            return &members[i];
        }
    }
}

static void await(struct member *member, ls_index index)
{
    const struct ls_condition condition = {.kind = LS_WHEN_APPLIED, .index = index};
    require(ls_group_wait(member->group, &condition, 600000), "wait until applied", NULL);
}

static void node_status(void *arg)
{
    void **pair = arg;
    ls_node_status(pair[0], pair[1]);
}

static void report(const char *what, const struct member *member, const double before[2])
{
    double million = (double)entries / 1e6;
    double writer = seconds_of(member->threads[0]) - before[0];
    double loop = seconds_of(member->threads[1]) - before[1];
    printf("  %-16s loop %6.3f  writer %6.3f  CPU s per million\n", what, loop / million,
           writer / million);
}

static void replay(struct member *leader, struct member *lagging, struct member *other)
{
    double before[MEMBERS][2];
    double background = background_seconds();
    uint64_t begun = now();
    for (size_t i = 0; i < MEMBERS; i++) {
        for (size_t k = 0; k < 2; k++) {
            before[i][k] = &members[i] == lagging ? 0 : seconds_of(members[i].threads[k]);
        }
    }
    uint64_t commits = atomic_load(&load.commits);
    start(lagging);
    uint64_t opened = now();
    await(lagging, fill.first);
    uint64_t first = now();
    await(lagging, fill.last);
    uint64_t ended = now();
    double us = (double)(ended - begun);
    printf("replay  %8.0f entries/s  %6.1f MB/s  %6.3f s, open in %.3f s, first after %.3f s\n",
           (double)entries / us * 1e6, (double)(entries * command_bytes) / us, us / 1e6,
           (double)(opened - begun) / 1e6, (double)(first - begun) / 1e6);
    report("lagging", lagging, before[lagging - members]);
    report("other follower", other, before[other - members]);
    report("leader", leader, before[leader - members]);
    struct ls_node_status status;
    void *pair[] = {lagging->node, &status};
    require(ls_node_call(lagging->node, node_status, pair), "status", NULL);
    printf("  background %.3f CPU s per million; lagging: %llu syncs of %.3f s, %llu of guards, "
           "%llu turns, longest %llu us\n",
           (background_seconds() - background) / ((double)entries / 1e6),
           (unsigned long long)status.storage.syncs, (double)status.storage.sync_us_total / 1e6,
           (unsigned long long)status.storage.guard_syncs, (unsigned long long)status.turns,
           (unsigned long long)status.turn_us_max);
    if (in_flight > 0) {
        printf("  leader's commits/s meanwhile %.0f\n",
               (double)(atomic_load(&load.commits) - commits) / us * 1e6);
    }
    (void)fflush(stdout);
}

static void run(void)
{
    for (size_t i = 0; i < MEMBERS; i++) {
        start(&members[i]);
    }
    struct member *leader = find_leader();
    struct member *lagging = leader == &members[0] ? &members[1] : &members[0];
    struct member *other = &members[3 - (leader - members) - (lagging - members)];
    fill.group = leader->group;
    fill.left = entries;
    if (in_flight > 0) {
        require(ls_node_call(leader->node, load_begin, NULL), "load", NULL);
        printf("leader's commits/s, all members up %.0f\n", load_rate(LOAD_US));
        atomic_store(&load.stop, true);
        while (atomic_load(&load.open) > 0) {
            (void)usleep(1000);
        }
    }
    stop(lagging);
    uint64_t begun = now();
    require(ls_node_call(leader->node, fill_begin, NULL), "fill", NULL);
    while (!atomic_load(&fill.done)) {
        (void)usleep(1000);
    }
    await(other, fill.last);
    printf("fill    %8.0f entries/s by two members\n",
           (double)entries / (double)(now() - begun) * 1e6);
    if (in_flight > 0) {
        atomic_store(&load.stop, false);
        require(ls_node_call(leader->node, load_begin, NULL), "load", NULL);
        printf("leader's commits/s, a member down %.0f\n", load_rate(LOAD_US));
    }
    replay(leader, lagging, other);
    atomic_store(&load.stop, true);
    while (atomic_load(&load.open) > 0) {
        (void)usleep(1000);
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        stop(&members[i]);
    }
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static void arguments(int argc, char **argv)
{
    const char *base = "/var/tmp";
    for (int i = 1; i + 1 < argc; i += 2) {
        unsigned long long value = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--entries") == 0) {
            entries = (value + BATCH - 1) / BATCH * BATCH;
        } else if (strcmp(argv[i], "--bytes") == 0 && value <= BYTES_MAX) {
            command_bytes = (size_t)value;
        } else if (strcmp(argv[i], "--rate") == 0) {
            rate = value << 20;
        } else if (strcmp(argv[i], "--load") == 0 && value <= LOAD_MAX) {
            in_flight = (uint32_t)value;
        } else if (strcmp(argv[i], "--dir") == 0) {
            base = argv[i + 1];
        } else {
            (void)fprintf(stderr, "bench_catchup: what is %s %s?\n", argv[i], argv[i + 1]);
            exit(2);
        }
    }
    (void)snprintf(directory, sizeof directory, "%s/lockstep-catchup-XXXXXX", base);
}

int main(int argc, char **argv)
{
    arguments(argc, argv);
    ls_env_default()->entropy(NULL, command, sizeof command); /* not to be compressed */
    if (mkdtemp(directory) == NULL) {
        perror("bench_catchup");
        return 1;
    }
    for (size_t i = 0; i < MEMBERS; i++) {
        (void)snprintf(names[i], sizeof names[i], "m%zu", i);
        (void)snprintf(addresses[i], sizeof addresses[i], "127.0.0.1:%d",
                       27300 + getpid() % 1000 * 3 + (int)i);
        founders[i] = (struct ls_founder){.name = names[i], .address = addresses[i]};
    }
    run();
    (void)nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
