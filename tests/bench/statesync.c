/* SPDX-License-Identifier: MIT */
/*
 * A member brought back by snapshot, with real lockstep-kv processes: four members, one of them is
 * ended, a state is written and the logs are pruned past it, it is started again. Prints, beside
 * what this machine does at most, how fast the state came back, from its start to the last applied
 * entry, install included; who served how much of it; processor time; the largest memory of each
 * process, by the system's own count of resident pages, also what one session adds to that of a
 * provider; and the longest freeze. Or, one of:
 *
 *     --kill WHO     lagging, provider or leader: it is killed when half of the state is there;
 *                    what was fetched in all
 *     --load         the leader has 256 writes in flight: commits and their p99, before the member
 *                    is started and while it syncs
 *
 *     bench_statesync [--mib N] [--value BYTES] [--runs N] [--rate BYTES] [--limit MIB]
 *                     [--kill WHO | --load]
 *
 * --limit: the kernel refuses members more memory of their own than that (RLIMIT_DATA: all private
 * writable mappings, touched or not; thread stacks of 1 MiB in it).
 */
#include "statesync.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    MEMBERS = 4,
    KEYS_EACH = 32,
    PIPELINE = 16,
    LOAD_US = 4000000,
    WARM_UP_US = 1000000,
    CALM_US = 500000
};

enum victim { NONE, LAGGING, PROVIDER, THE_LEADER };

static struct cluster cluster;
static uint64_t state_mib = 1024, limit_mib;
static unsigned value_bytes = 1024, runs = 3;
static enum victim victim;
static bool with_load;
static const char *rate;

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
    uint64_t begun = now_us();
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
    figure_add(FILL, (double)(keys * value_bytes) / (double)(now_us() - begun));
    return keys;
}

/* ---- members ---- */

/* Of /proc/PID/status, in MiB. */
static double status_mib(unsigned at, const char *field)
{
    char path[64];
    char line[256];
    unsigned long kib = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)cluster.members[at].pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        size_t bytes = strlen(field);
        if (strncmp(line, field, bytes) == 0 && line[bytes] == ':') {
            kib = strtoul(line + bytes + 1, NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return (double)kib / 1024;
}

/* The peak of its resident memory, VmHWM, is that of what comes now. */
static void peak_reset(unsigned at)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/clear_refs", (int)cluster.members[at].pid);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs("5", file) >= 0);
    assert_int_equal(fclose(file), 0);
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
static void received(unsigned at, uint64_t out[MEMBERS])
{
    const char *line = cluster_text(&cluster, at, "LOCKSTEP BONDS");
    for (; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        line += *line == '\n' ? 1 : 0;
        const char *found = strstr(line, " bytes_in=");
        const char *end = strchr(line, '\n');
        for (unsigned i = 0; i < MEMBERS; i++) {
            size_t bytes = strlen(cluster.members[i].name);
            if (found != NULL && (end == NULL || found < end) && line[bytes] == ' ' &&
                strncmp(line, cluster.members[i].name, bytes) == 0) {
                uint64_t value = strtoull(found + strlen(" bytes_in="), NULL, 10);
                out[i] = value > out[i] ? value : out[i]; /* also of one that is gone */
            }
        }
    }
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

static bool installed(unsigned away)
{
    return cluster_number(&cluster, away, "snapshots_installed") > 0;
}

static bool answers(unsigned at)
{
    return strcmp(cluster_text(&cluster, at, "PING"), "PONG") == 0;
}

/* Naps until the member has the state, and has applied `commit`. */
static void await_back(unsigned away, uint64_t commit)
{
    uint64_t until = cluster_now_ms() + 600000;
    while (!installed(away) || cluster_number(&cluster, away, "applied") < commit) {
        if (cluster_now_ms() > until) {
            fail_msg("it does not come back: %s", cluster_text(&cluster, away, "LOCKSTEP STATUS"));
        }
        cluster_nap();
    }
}

/* Naps until what the writing left to do (flushes and compactions) is done: for half a second the
 * members used less than a twentieth of a processor. */
static void await_calm(unsigned away)
{
    uint64_t until = cluster_now_ms() + 120000;
    double before = -1;
    double now = 0;
    while (now - before > CALM_US / 1e6 / 20) {
        if (cluster_now_ms() > until) {
            (void)fprintf(stderr,
                          "the members still work on what was written: the rate will be too low\n");
            return;
        }
        (void)usleep(CALM_US);
        before = now;
        now = 0;
        for (unsigned at = 0; at < MEMBERS; at++) {
            now += at == away ? 0 : cpu_seconds(at);
        }
    }
}

static void spawn(unsigned at)
{
    cluster_spawn(&cluster, at);
    eventually(answers(at));
}

/* ---- as fast as it can ---- */

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static void shares(unsigned away, unsigned leader, uint64_t state)
{
    uint64_t got[MEMBERS] = {0};
    received(away, got);
    double all = (double)sum(got);
    double least = 100;
    double most = 0;
    for (unsigned at = 0; at < MEMBERS; at++) {
        double share = 100 * (double)got[at] / all;
        if (at == leader) {
            figure_add(LEADER, share);
        } else if (at != away) {
            least = share < least ? share : least;
            most = share > most ? share : most;
        }
    }
    figure_add(FETCHED, all / (double)state);
    figure_add(FOLLOWER_LEAST, least);
    figure_add(FOLLOWER_MOST, most);
}

static void come_back(unsigned away, unsigned leader, uint64_t state)
{
    uint64_t commit = cluster_number(&cluster, leader, "commit");
    double serving = 0;
    double peak = 0;
    double added = 0;
    double before[MEMBERS] = {0};
    for (unsigned at = 0; at < MEMBERS; at++) {
        if (at != away) {
            peak = larger(peak, status_mib(at, "VmHWM"));
            serving -= cpu_seconds(at);
            peak_reset(at);
            before[at] = status_mib(at, "VmHWM");
        }
    }
    uint64_t started = now_us();
    spawn(away);
    uint64_t opened = now_us();
    await_back(away, commit);
    double gib = (double)state / (1u << 30);
    figure_add(RATE, (double)state / (double)(now_us() - started));
    figure_add(OPENED, (double)(opened - started) / 1e6);
    double freeze = 0;
    for (unsigned at = 0; at < MEMBERS; at++) {
        freeze = larger(freeze, (double)cluster_number(&cluster, at, "freeze_us_max") / 1000);
        if (at != away) {
            double now = status_mib(at, "VmHWM");
            serving += cpu_seconds(at);
            peak = larger(peak, now);
            added = larger(added, now - before[at]);
        }
    }
    figure_add(CPU_LAGGING, cpu_seconds(away) / gib);
    figure_add(CPU_SERVING, serving / gib);
    figure_add(FREEZE, freeze);
    figure_add(MEMORY_LAGGING, status_mib(away, "VmHWM"));
    figure_add(MEMORY_SERVING, peak);
    figure_add(MEMORY_SESSION, added);
    shares(away, leader, state);
}

/* ---- with a kill -9 at half ---- */

static void come_back_killed(unsigned away, unsigned leader, uint64_t state)
{
    uint64_t commit = cluster_number(&cluster, leader, "commit");
    uint64_t got[MEMBERS] = {0};
    uint64_t before = 0;
    unsigned provider = 0;
    while (provider == away || provider == leader) {
        provider++;
    }
    unsigned killed = victim == LAGGING ? away : victim == PROVIDER ? provider : leader;
    uint64_t started = now_us();
    spawn(away);
    do {
        received(away, got);
    } while (sum(got) < state / 2);
    cluster_kill(&cluster, killed);
    if (killed == away) {
        before = sum(got);
        (void)memset(got, 0, sizeof got);
        spawn(away);
    }
    await_back(away, commit);
    figure_add(KILLED_SECONDS, (double)(now_us() - started) / 1e6);
    received(away, got);
    figure_add(KILLED_FETCHED, (double)(sum(got) + before) / (double)state);
    if (killed != away) {
        spawn(killed);
    }
}

/* ---- under load ---- */

static void come_back_loaded(unsigned away, unsigned leader, uint64_t state)
{
    struct load *load = load_open(&cluster, leader);
    (void)usleep(WARM_UP_US);
    load_begin(load);
    (void)usleep(LOAD_US);
    struct load_figures alone = load_end(load);
    load_begin(load);
    uint64_t started = now_us();
    spawn(away);
    await_back(away, 0);
    struct load_figures meanwhile = load_end(load);
    figure_add(SYNC_UNDER_LOAD, (double)state / (double)(now_us() - started));
    load_close(load);
    figure_add(LOAD_ALONE, alone.per_second);
    figure_add(LOAD_MEANWHILE, meanwhile.per_second);
    figure_add(LOAD_LOSS, 100 - 100 * meanwhile.per_second / alone.per_second);
    figure_add(P99_ALONE, alone.p99_ms);
    figure_add(P99_MEANWHILE, meanwhile.p99_ms);
    figure_add(P99_RISE, 100 * meanwhile.p99_ms / alone.p99_ms - 100);
}

/* ---- runs ---- */

static void run(void)
{
    static const char *const flags[] = {"--keep-entries", "1000", "--prune-entries", "500",
                                        "--lag-entries",  "2000"};
    cluster_prepare(&cluster, MEMBERS);
    cluster.state = "rocksdb";
    cluster.election_ms = victim == THE_LEADER ? 1000 : 5000; /* else no election is measured */
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
    uint64_t keys = fill(cluster_await_leader(&cluster));
    eventually(pruned_past(away, last));
    eventually(cluster_level(&cluster));
    unsigned leader = cluster_await_leader(&cluster);
    uint64_t state = keys * value_bytes;
    await_calm(away);
    if (with_load) {
        come_back_loaded(away, leader, state);
    } else if (victim != NONE) {
        come_back_killed(away, leader, state);
    } else {
        come_back(away, leader, state);
    }
    eventually(cluster_level(&cluster));
    uint64_t found = strtoull(cluster_text(&cluster, away, "DBSIZE"), NULL, 10);
    assert_true(with_load ? found > keys : found == keys);
    cluster_close(&cluster);
}

static bool victim_read(const char *text)
{
    static const char *const names[] = {"", "lagging", "provider", "leader"};
    for (int i = LAGGING; i <= THE_LEADER; i++) {
        victim = strcmp(text, names[i]) == 0 ? (enum victim)i : victim;
    }
    return victim != NONE;
}

static bool options_read(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        bool value = i + 1 < argc;
        if (strcmp(argv[i], "--load") == 0) {
            with_load = true;
        } else if (value && strcmp(argv[i], "--kill") == 0) {
            if (!victim_read(argv[++i])) {
                return false;
            }
        } else if (value && strcmp(argv[i], "--mib") == 0) {
            state_mib = strtoull(argv[++i], NULL, 10);
        } else if (value && strcmp(argv[i], "--value") == 0) {
            value_bytes = (unsigned)strtoul(argv[++i], NULL, 10);
        } else if (value && strcmp(argv[i], "--runs") == 0) {
            runs = (unsigned)strtoul(argv[++i], NULL, 10);
        } else if (value && strcmp(argv[i], "--limit") == 0) {
            limit_mib = strtoull(argv[++i], NULL, 10);
        } else if (value && strcmp(argv[i], "--rate") == 0) {
            rate = argv[++i];
        } else {
            return false;
        }
    }
    return state_mib > 0 && value_bytes >= 8 && value_bytes <= 1u << 16 && runs > 0 &&
           runs <= RUNS_MAX && !(with_load && victim != NONE);
}

/* Members inherit it. */
static void limit_memory(void)
{
    const struct rlimit stack = {1u << 20, 1u << 20};
    const struct rlimit data = {limit_mib << 20, limit_mib << 20};
    assert_int_equal(setrlimit(RLIMIT_STACK, &stack), 0);
    assert_int_equal(setrlimit(RLIMIT_DATA, &data), 0);
}

int main(int argc, char **argv)
{
    if (!options_read(argc, argv)) {
        (void)fprintf(stderr,
                      "usage: %s [--mib N] [--value BYTES] [--runs 1..%d] [--rate BYTES] "
                      "[--limit MIB] [--kill lagging|provider|leader | --load]\n",
                      argv[0], RUNS_MAX);
        return 2;
    }
    if (limit_mib > 0) {
        limit_memory();
    }
    for (unsigned i = 0; i < runs; i++) {
        limits_measure(state_mib);
        run();
    }
    static const char *const kills[] = {"", ", it is killed at half",
                                        ", a provider is killed at half",
                                        ", the leader is killed at half"};
    printf("\nstate of %" PRIu64 " MiB in values of %u bytes, four members, one comes back%s%s",
           state_mib, value_bytes, kills[victim], with_load ? " under load" : "");
    if (limit_mib > 0) {
        printf(", each within %" PRIu64 " MiB", limit_mib);
    }
    printf("\n");
    figures_print();
    return 0;
}
