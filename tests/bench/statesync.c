/* SPDX-License-Identifier: MIT */
/*
 * A member brought back by snapshot, with real lockstep-kv processes: four members, one of them is
 * ended, a state is written and the logs are pruned past it, it is started again. Prints, beside
 * what this machine does at most, how fast the state came back, from its start to the last applied
 * entry, install included; who served how much of it; what was fetched in all, also when it is
 * killed in the middle; the largest memory of each process, by the system's own count of resident
 * pages, and the longest freeze.
 *
 *     bench_statesync [--mib N] [--value BYTES] [--runs N] [--kill] [--rate BYTES]
 */
#include "../cluster/cluster.h"

#include <lockstep/snapshot.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEMBERS = 4, RUNS_MAX = 16, KEYS_EACH = 32, PIPELINE = 16, BLOCK = 256 << 10 };

static struct cluster cluster;
static uint64_t state_mib = 1024;
static unsigned value_bytes = 1024, runs = 3;
static bool with_kill;
static const char *rate;

static uint64_t now(void)
{
    return ls_env_default()->now_us(NULL);
}

/* ---- figures ---- */

enum figure {
    LOOPBACK,
    DISK,
    HASH,
    FILL,
    RATE,
    FETCHED,
    LEADER,
    FOLLOWER_LEAST,
    FOLLOWER_MOST,
    OPENED,
    CPU_LAGGING,
    CPU_SERVING,
    FREEZE,
    MEMORY_LAGGING,
    MEMORY_SERVING,
    KILLED_FETCHED,
    KILLED_SECONDS,
    FIGURES
};

static const struct {
    const char *name, *unit, *goal;
} figures[FIGURES] = {
    [LOOPBACK] = {"limit: TCP over loopback", "MB/s", ""},
    [DISK] = {"limit: sequential write, synced", "MB/s", ""},
    [HASH] = {"limit: hash of chunks, one core", "MB/s", ""},
    [FILL] = {"the state is written", "MB/s", ""},
    [RATE] = {"the state comes back", "MB/s", "goal: >= 150"},
    [FETCHED] = {"fetched / state", "", "goal: <= 1.05"},
    [LEADER] = {"served by the leader", "%", "goal: < 5"},
    [FOLLOWER_LEAST] = {"served by the follower with less", "%", "goal: >= 30"},
    [FOLLOWER_MOST] = {"served by the follower with more", "%", ""},
    [OPENED] = {"of it until it answers clients", "s", ""},
    [CPU_LAGGING] = {"processor time of who comes back", "s/GiB", ""},
    [CPU_SERVING] = {"processor time of all who serve", "s/GiB", ""},
    [FREEZE] = {"longest freeze", "ms", "goal: <= 1"},
    [MEMORY_LAGGING] = {"peak memory of who comes back", "MiB", "goal: <= 256"},
    [MEMORY_SERVING] = {"peak memory of who serves", "MiB", "goal: <= 256"},
    [KILLED_FETCHED] = {"fetched / state, killed at half", "", "goal: <= 1.05"},
    [KILLED_SECONDS] = {"seconds, killed at half", "s", ""},
};

static double measured[FIGURES][RUNS_MAX];
static unsigned counts[FIGURES];

static void add(enum figure figure, double value)
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

static void print(void)
{
    printf("\n%-36s %10s %10s %10s\n", "", "min", "median", "max");
    for (size_t i = 0; i < FIGURES; i++) {
        unsigned count = counts[i];
        if (count > 0) {
            double *values = measured[i];
            qsort(values, count, sizeof *values, compare);
            printf("%-36s %10.2f %10.2f %10.2f %s\n", figures[i].name, values[0], values[count / 2],
                   values[count - 1], figures[i].unit);
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
    uint64_t begun = now();
    uint64_t bytes = 0;
    for (; bytes < (uint64_t)512 << 20; bytes += sizeof block) {
        assert_int_equal(write(sender, block, sizeof block), sizeof block);
    }
    (void)close(sender);
    (void)pthread_join(thread, NULL);
    add(LOOPBACK, (double)bytes / (double)(now() - begun));
    (void)close(receiver);
    (void)close(listener);
}

static void limit_disk(void)
{
    static char block[1 << 20];
    char path[300];
    (void)snprintf(path, sizeof path, "%s/limit", test_directory());
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    (void)memset(block, 'x', sizeof block);
    uint64_t begun = now();
    for (uint64_t i = 0; i < state_mib; i++) {
        assert_int_equal(write(file, block, sizeof block), sizeof block);
    }
    assert_int_equal(fsync(file), 0);
    add(DISK, (double)(state_mib << 20) / (double)(now() - begun));
    (void)close(file);
    (void)unlink(path);
}

static void limit_hash(void)
{
    static uint8_t block[BLOCK];
    uint64_t begun = now();
    uint64_t bytes = 0;
    for (; bytes < (uint64_t)256 << 20; bytes += sizeof block) {
        struct ls_hash hash =
            ls_chunk_hash(ls_env_default(), (struct ls_span){block, sizeof block});
        block[0] = (uint8_t)(block[0] ^ hash.bytes[0]);
    }
    add(HASH, (double)bytes / (double)(now() - begun));
}

/* ---- the state ---- */

/* Values that nothing could make smaller. */
static void fill_value(char *out, uint64_t key)
{
    uint64_t random = key * 0x9e3779b97f4a7c15u + 1;
    for (unsigned i = 0; i + 8 <= value_bytes; i += 8) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (void)memcpy(out + i, &random, 8);
    }
}

static void fill_send(redisContext *connection, uint64_t first)
{
    static char keys[KEYS_EACH][32];
    static char values[KEYS_EACH][1 << 16];
    const char *words[1 + 2 * KEYS_EACH] = {"MSET"};
    size_t lengths[1 + 2 * KEYS_EACH] = {4};
    for (unsigned i = 0; i < KEYS_EACH; i++) {
        lengths[1 + 2 * i] = (size_t)snprintf(keys[i], sizeof keys[i], "key:%" PRIu64, first + i);
        words[1 + 2 * i] = keys[i];
        fill_value(values[i], first + i);
        words[2 + 2 * i] = values[i];
        lengths[2 + 2 * i] = value_bytes;
    }
    assert_int_equal(redisAppendCommandArgv(connection, 1 + 2 * KEYS_EACH, words, lengths),
                     REDIS_OK);
}

static void fill_reply(redisContext *connection)
{
    redisReply *reply = NULL;
    assert_int_equal(redisGetReply(connection, (void **)&reply), REDIS_OK);
    if (reply->type != REDIS_REPLY_STATUS) {
        fail_msg("MSET: %s", reply->str);
    }
    freeReplyObject(reply);
}

static uint64_t fill(unsigned at)
{
    uint64_t keys = (state_mib << 20) / value_bytes / KEYS_EACH * KEYS_EACH;
    uint64_t begun = now();
    uint64_t open = 0;
    redisContext *connection = cluster_connect(&cluster, at);
    assert_non_null(connection);
    for (uint64_t key = 0; key < keys; key += KEYS_EACH) {
        fill_send(connection, key);
        if (++open == PIPELINE) {
            fill_reply(connection);
            open--;
        }
    }
    for (; open > 0; open--) {
        fill_reply(connection);
    }
    redisFree(connection);
    add(FILL, (double)(keys * value_bytes) / (double)(now() - begun));
    return keys;
}

/* ---- members ---- */

static double peak_mib(unsigned at)
{
    char path[64];
    char line[256];
    unsigned long kib = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)cluster.members[at].pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "VmHWM: %lu", &kib);
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return (double)kib / 1024;
}

/* Processor time of a member up to now, of all its threads. */
static double cpu_seconds(unsigned at)
{
    char path[64];
    char line[1024] = "";
    unsigned long user = 0;
    unsigned long system = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)cluster.members[at].pid);
    FILE *file = fopen(path, "r");
    if (file != NULL) {
        const char *end = fgets(line, sizeof line, file) == NULL ? NULL : strrchr(line, ')');
        if (end != NULL) {
            (void)sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                         &system);
        }
        (void)fclose(file);
    }
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* Bytes that a member received from each of the others, by their bonds. */
static bool received(unsigned at, uint64_t out[MEMBERS])
{
    const char *line = cluster_text(&cluster, at, "LOCKSTEP BONDS");
    bool any = false;
    for (; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        line += *line == '\n' ? 1 : 0;
        const char *found = strstr(line, " bytes_in=");
        const char *end = strchr(line, '\n');
        for (unsigned i = 0; i < MEMBERS; i++) {
            size_t bytes = strlen(cluster.members[i].name);
            if (found != NULL && (end == NULL || found < end) && line[bytes] == ' ' &&
                strncmp(line, cluster.members[i].name, bytes) == 0) {
                out[i] = strtoull(found + strlen(" bytes_in="), NULL, 10);
                any = true;
            }
        }
    }
    return any;
}

static uint64_t sum(const uint64_t values[MEMBERS])
{
    uint64_t total = 0;
    for (unsigned i = 0; i < MEMBERS; i++) {
        total += values[i];
    }
    return total;
}

static bool pruned_past(unsigned away, uint64_t last)
{
    for (unsigned at = 0; at < MEMBERS; at++) {
        if (at != away && cluster_number(&cluster, at, "log_first") <= last + 1) {
            return false;
        }
    }
    return true;
}

static bool back(unsigned away, uint64_t commit)
{
    return cluster_number(&cluster, away, "snapshots_installed") > 0 &&
           cluster_number(&cluster, away, "applied") >= commit;
}

static bool answers(unsigned at)
{
    return strcmp(cluster_text(&cluster, at, "PING"), "PONG") == 0;
}

/* Until half of the state is there; then it is killed. Returns what it had received. */
static uint64_t kill_at_half(unsigned away, uint64_t state)
{
    uint64_t got[MEMBERS] = {0};
    cluster_spawn(&cluster, away);
    eventually(answers(away));
    do {
        (void)received(away, got);
    } while (sum(got) < state / 2);
    cluster_kill(&cluster, away);
    return sum(got);
}

static void come_back(unsigned away, uint64_t state)
{
    unsigned leader = cluster_await_leader(&cluster);
    uint64_t commit = cluster_number(&cluster, leader, "commit");
    uint64_t before = 0;
    uint64_t got[MEMBERS] = {0};
    uint64_t begun = now();
    if (with_kill) {
        before = kill_at_half(away, state);
    }
    double serving = 0;
    for (unsigned at = 0; at < MEMBERS; at++) {
        serving -= at == away ? 0 : cpu_seconds(at);
    }
    uint64_t started = now();
    cluster_spawn(&cluster, away);
    eventually(answers(away));
    uint64_t opened = now();
    uint64_t until = cluster_now_ms() + 600000;
    while (!back(away, commit)) {
        if (cluster_now_ms() > until) {
            fail_msg("it does not come back: %s", cluster_text(&cluster, away, "LOCKSTEP STATUS"));
        }
        cluster_nap();
    }
    uint64_t ended = now();
    (void)received(away, got);
    double all = (double)sum(got);
    if (with_kill) {
        add(KILLED_FETCHED, (all + (double)before) / (double)state);
        add(KILLED_SECONDS, (double)(ended - begun) / 1e6);
        return;
    }
    double gib = (double)state / (1u << 30);
    for (unsigned at = 0; at < MEMBERS; at++) {
        serving += at == away ? 0 : cpu_seconds(at);
    }
    add(CPU_LAGGING, cpu_seconds(away) / gib);
    add(CPU_SERVING, serving / gib);
    double least = 100;
    double most = 0;
    for (unsigned at = 0; at < MEMBERS; at++) {
        double share = 100 * (double)got[at] / all;
        if (at == leader) {
            add(LEADER, share);
        } else if (at != away) {
            least = share < least ? share : least;
            most = share > most ? share : most;
        }
    }
    add(RATE, (double)state / (double)(ended - started));
    add(OPENED, (double)(opened - started) / 1e6);
    add(FETCHED, all / (double)state);
    add(FOLLOWER_LEAST, least);
    add(FOLLOWER_MOST, most);
}

static void run(void)
{
    static const char *const flags[] = {"--keep-entries", "1000", "--prune-entries", "500",
                                        "--lag-entries",  "2000"};
    cluster_prepare(&cluster, MEMBERS);
    cluster.state = "rocksdb";
    cluster.election_ms = 5000; /* what is measured is no election */
    size_t count = sizeof flags / sizeof flags[0];
    for (size_t i = 0; i < count; i++) {
        cluster.flags[i] = flags[i];
    }
    if (rate != NULL) {
        cluster.flags[count] = "--snapshot-rate";
        cluster.flags[count + 1] = rate;
    }
    for (unsigned at = 0; at < MEMBERS; at++) {
        cluster_spawn(&cluster, at);
    }
    unsigned away = cluster_follower(&cluster);
    eventually(cluster_level(&cluster));
    uint64_t last = cluster_number(&cluster, away, "log_last");
    cluster_kill(&cluster, away);
    unsigned leader = cluster_await_leader(&cluster);
    uint64_t keys = fill(leader);
    eventually(pruned_past(away, last));
    eventually(cluster_level(&cluster));
    come_back(away, keys * value_bytes);
    double freeze = 0;
    double serving = 0;
    for (unsigned at = 0; at < MEMBERS; at++) {
        double peak = peak_mib(at);
        double stall = (double)cluster_number(&cluster, at, "freeze_us_max") / 1000;
        freeze = stall > freeze ? stall : freeze;
        serving = at != away && peak > serving ? peak : serving;
    }
    add(FREEZE, freeze);
    add(MEMORY_SERVING, serving);
    add(MEMORY_LAGGING, peak_mib(away));
    eventually(cluster_level(&cluster));
    assert_int_equal(strtoull(cluster_text(&cluster, away, "DBSIZE"), NULL, 10), keys);
    cluster_close(&cluster);
}

static bool options_read(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        bool value = i + 1 < argc;
        if (strcmp(argv[i], "--kill") == 0) {
            with_kill = true;
        } else if (value && strcmp(argv[i], "--mib") == 0) {
            state_mib = strtoull(argv[++i], NULL, 10);
        } else if (value && strcmp(argv[i], "--value") == 0) {
            value_bytes = (unsigned)strtoul(argv[++i], NULL, 10);
        } else if (value && strcmp(argv[i], "--runs") == 0) {
            runs = (unsigned)strtoul(argv[++i], NULL, 10);
        } else if (value && strcmp(argv[i], "--rate") == 0) {
            rate = argv[++i];
        } else {
            return false;
        }
    }
    return state_mib > 0 && value_bytes >= 8 && value_bytes <= 1u << 16 && runs > 0 &&
           runs <= RUNS_MAX / 2;
}

int main(int argc, char **argv)
{
    if (!options_read(argc, argv)) {
        (void)fprintf(stderr,
                      "usage: %s [--mib N] [--value BYTES] [--runs 1..%d] [--kill] "
                      "[--rate BYTES]\n",
                      argv[0], RUNS_MAX / 2);
        return 2;
    }
    for (unsigned i = 0; i < runs; i++) {
        limit_loopback();
        limit_disk();
        limit_hash();
        run();
    }
    printf("state of %" PRIu64 " MiB in values of %u bytes, four members, one comes back\n",
           state_mib, value_bytes);
    print();
    return 0;
}
