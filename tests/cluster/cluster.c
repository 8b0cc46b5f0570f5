/* SPDX-License-Identifier: MIT */
/* Starting, ending and asking real members. See cluster.h. */
#include "cluster.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TEXT_BYTES 8192u

/* The cluster of the running test: a failed test leaves it to the next one, or to exit. */
static struct cluster *current;

uint64_t cluster_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

void cluster_nap(void)
{
    struct timespec pause = {.tv_nsec = 5000000};
    (void)nanosleep(&pause, NULL);
}

static void disconnect(struct member *member)
{
    if (member->connection != NULL) {
        redisFree(member->connection);
        member->connection = NULL;
    }
}

static void show_log(const struct member *member)
{
    char line[512];
    FILE *file = fopen(member->log, "r");
    if (file == NULL) {
        return;
    }
    if (fseek(file, -3000, SEEK_END) == 0) {
        (void)fgets(line, sizeof line, file); /* the rest of a line cut in two */
    } else {
        rewind(file);
    }
    (void)fprintf(stderr, "---- end of the log of %s\n", member->name);
    while (fgets(line, sizeof line, file) != NULL) {
        (void)fputs(line, stderr);
    }
    (void)fclose(file);
}

static void end_leftovers(void)
{
    if (current == NULL) {
        return;
    }
    for (unsigned at = 0; at < current->count; at++) {
        show_log(&current->members[at]);
    }
    cluster_close(current);
}

/*
 * Each test process has a loopback address of its own, made from its pid, so that tests that run
 * side by side never compete for a port; the ports lie below the range that clients get.
 */
static void choose_host(char *out, size_t capacity)
{
    unsigned pid = (unsigned)getpid();
    (void)snprintf(out, capacity, "127.%u.%u.%u", 64u + ((pid >> 16) & 63u), (pid >> 8) & 255u,
                   pid & 255u);
}

void cluster_address(uint16_t port, char *out, size_t capacity)
{
    char host[32];
    choose_host(host, sizeof host);
    (void)snprintf(out, capacity, "%s:%u", host, (unsigned)port);
}

void cluster_run(const char *const *arguments)
{
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        union {
            const char *const *ours;
            char *const *theirs; /* execv does not change them, its type only says so */
        } list = {.ours = arguments};
        (void)execv(arguments[0], list.theirs);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status != 0) {
        fail_msg("%s ended with status 0x%x", arguments[0], (unsigned)status);
    }
}

void cluster_prepare(struct cluster *cluster, unsigned count)
{
    static const char *const names[CLUSTER_MEMBERS_MAX] = {"a", "b", "c", "d", "e"};
    static bool registered;
    if (!registered) {
        registered = true;
        (void)test_directory(); /* its removal at exit must come after our members' end */
        (void)atexit(end_leftovers);
    }
    end_leftovers();
    assert_in_range(count, 1, CLUSTER_MEMBERS_MAX);
    *cluster = (struct cluster){
        .count = count, .election_ms = 300, .state = "memory", .directory = test_directory()};
    choose_host(cluster->host, sizeof cluster->host);
    for (unsigned at = 0; at < count; at++) {
        struct member *member = &cluster->members[at];
        member->name = names[at];
        member->peer_port = (uint16_t)(7101u + at);
        member->redis_port = (uint16_t)(6401u + at);
        (void)snprintf(member->data, sizeof member->data, "%s/%s", cluster->directory, names[at]);
        (void)snprintf(member->log, sizeof member->log, "%s/%s.log", cluster->directory, names[at]);
        (void)snprintf(member->key, sizeof member->key, "%s/key", cluster->directory);
    }
    cluster_run((const char *const[]){LOCKSTEP_KV, "keygen", cluster->members[0].key, NULL});
    current = cluster;
}

void cluster_open(struct cluster *cluster, unsigned count)
{
    cluster_prepare(cluster, count);
    for (unsigned at = 0; at < count; at++) {
        cluster_spawn(cluster, at);
    }
    (void)cluster_await_leader(cluster);
}

void cluster_close(struct cluster *cluster)
{
    for (unsigned at = 0; at < cluster->count; at++) {
        struct member *member = &cluster->members[at];
        disconnect(member);
        if (member->pid != 0) {
            (void)kill(member->pid, SIGKILL);
            (void)waitpid(member->pid, NULL, 0);
            member->pid = 0;
        }
    }
    current = NULL;
}

static void list_members(const struct cluster *cluster, char *out, size_t capacity)
{
    size_t used = 0;
    for (unsigned at = 0; at < cluster->count; at++) {
        const struct member *member = &cluster->members[at];
        int written = snprintf(out + used, capacity - used, "%s%s=%s:%u", at == 0 ? "" : ",",
                               member->name, cluster->host, (unsigned)member->peer_port);
        assert_in_range(written, 1, capacity - used - 1);
        used += (size_t)written;
    }
}

static void become_member(const struct cluster *cluster, const struct member *member, pid_t parent)
{
    char list[512], redis[64], election[16], heartbeat[16];
    int log = open(member->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || log < 0 || null < 0) {
        _exit(126);
    }
    (void)dup2(null, 0);
    (void)dup2(log, 1);
    (void)dup2(log, 2);
    for (size_t i = 0; member->environment[i] != NULL; i++) {
        char *copy = strdup(member->environment[i]);
        if (copy == NULL || putenv(copy) != 0) {
            _exit(126);
        }
    }
    list_members(cluster, list, sizeof list);
    (void)snprintf(redis, sizeof redis, "%s:%u", cluster->host, (unsigned)member->redis_port);
    (void)snprintf(election, sizeof election, "%u", cluster->election_ms);
    (void)snprintf(heartbeat, sizeof heartbeat, "%u", cluster->election_ms / 5u);
    const char *const ours[] = {
        "lockstep-kv",  "--name",        member->name, "--members",      list,     "--group-key",
        member->key,    "--data",        member->data, "--redis",        redis,    "--state",
        cluster->state, "--election-ms", election,     "--heartbeat-ms", heartbeat};
    const size_t count = sizeof ours / sizeof ours[0];
    char *arguments[sizeof ours / sizeof ours[0] + sizeof cluster->flags / sizeof(char *)];
    for (size_t i = 0; i < count; i++) {
        arguments[i] = strdup(ours[i]);
    }
    size_t more = 0;
    for (; cluster->flags[more] != NULL; more++) {
        arguments[count + more] = strdup(cluster->flags[more]);
    }
    arguments[count + more] = NULL;
    (void)execv(LOCKSTEP_KV, arguments);
    _exit(127);
}

void cluster_spawn(struct cluster *cluster, unsigned at)
{
    struct member *member = &cluster->members[at];
    pid_t parent = getpid();
    assert_int_equal(member->pid, 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        become_member(cluster, member, parent);
    }
    member->pid = pid;
}

/* A member that ended by itself explains why nobody answers; without this a test waits in vain. */
static bool answers(struct cluster *cluster, unsigned at)
{
    struct member *member = &cluster->members[at];
    int status = 0;
    if (waitpid(member->pid, &status, WNOHANG) == member->pid) {
        member->pid = 0;
        fail_msg("%s ended by itself, status 0x%x", member->name, (unsigned)status);
    }
    return strcmp(cluster_text(cluster, at, "PING"), "PONG") == 0;
}

void cluster_start(struct cluster *cluster, unsigned at)
{
    cluster_spawn(cluster, at);
    eventually(answers(cluster, at));
}

static bool reaped(struct member *member, int *status)
{
    pid_t pid = waitpid(member->pid, status, WNOHANG);
    assert_true(pid >= 0);
    return pid != 0;
}

int cluster_reap(struct cluster *cluster, unsigned at)
{
    struct member *member = &cluster->members[at];
    int status = 0;
    assert_int_not_equal(member->pid, 0);
    eventually(reaped(member, &status));
    member->pid = 0;
    disconnect(member);
    return status;
}

void cluster_kill(struct cluster *cluster, unsigned at)
{
    assert_int_not_equal(cluster->members[at].pid, 0);
    assert_int_equal(kill(cluster->members[at].pid, SIGKILL), 0);
    (void)cluster_reap(cluster, at);
}

void cluster_kill_all(struct cluster *cluster)
{
    for (unsigned at = 0; at < cluster->count; at++) {
        if (cluster->members[at].pid != 0) {
            assert_int_equal(kill(cluster->members[at].pid, SIGKILL), 0);
        }
    }
    for (unsigned at = 0; at < cluster->count; at++) {
        if (cluster->members[at].pid != 0) {
            (void)cluster_reap(cluster, at);
        }
    }
}

void cluster_terminate(struct cluster *cluster, unsigned at)
{
    assert_int_not_equal(cluster->members[at].pid, 0);
    assert_int_equal(kill(cluster->members[at].pid, SIGTERM), 0);
    int status = cluster_reap(cluster, at);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fail_msg("%s ended with status 0x%x after SIGTERM", cluster->members[at].name,
                 (unsigned)status);
    }
}

void cluster_pause(struct cluster *cluster, unsigned at)
{
    int status = 0;
    assert_int_equal(kill(cluster->members[at].pid, SIGSTOP), 0);
    /* it has stopped when its parent is told so, not when the signal was sent */
    assert_int_equal(waitpid(cluster->members[at].pid, &status, WUNTRACED),
                     cluster->members[at].pid);
    assert_true(WIFSTOPPED(status));
}

void cluster_resume(struct cluster *cluster, unsigned at)
{
    assert_int_equal(kill(cluster->members[at].pid, SIGCONT), 0);
}

redisContext *cluster_connect(const struct cluster *cluster, unsigned at)
{
    struct timeval connect_limit = {.tv_sec = 1};
    struct timeval reply_limit = {.tv_sec = CLUSTER_REPLY_MS / 1000u};
    redisContext *connection =
        redisConnectWithTimeout(cluster->host, cluster->members[at].redis_port, connect_limit);
    if (connection == NULL || connection->err != 0 ||
        redisSetTimeout(connection, reply_limit) != REDIS_OK) {
        if (connection != NULL) {
            redisFree(connection);
        }
        return NULL;
    }
    return connection;
}

static redisReply *ask(struct cluster *cluster, unsigned at, const char *format, va_list arguments)
{
    struct member *member = &cluster->members[at];
    if (member->connection == NULL) {
        member->connection = cluster_connect(cluster, at);
    }
    if (member->connection == NULL) {
        return NULL;
    }
    redisReply *reply = redisvCommand(member->connection, format, arguments);
    if (reply == NULL) {
        disconnect(member);
    }
    return reply;
}

redisReply *cluster_ask(struct cluster *cluster, unsigned at, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    redisReply *reply = ask(cluster, at, format, arguments);
    va_end(arguments);
    return reply;
}

/* Appends a reply, arrays element by element with a line each. */
static void render(const redisReply *reply, char *out, size_t capacity)
{
    size_t used = strlen(out);
    switch (reply->type) {
    case REDIS_REPLY_INTEGER:
        (void)snprintf(out + used, capacity - used, "%lld", reply->integer);
        break;
    case REDIS_REPLY_NIL:
        (void)snprintf(out + used, capacity - used, "(nil)");
        break;
    case REDIS_REPLY_ARRAY:
        for (size_t i = 0; i < reply->elements; i++) {
            const redisReply *element = reply->element[i];
            used = strlen(out);
            if (element->type != REDIS_REPLY_ARRAY && element->str != NULL) {
                (void)snprintf(out + used, capacity - used, "%s\n", element->str);
            }
        }
        break;
    default:
        (void)snprintf(out + used, capacity - used, "%s", reply->str);
        break;
    }
}

const char *cluster_text(struct cluster *cluster, unsigned at, const char *format, ...)
{
    static char text[TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    redisReply *reply = ask(cluster, at, format, arguments);
    va_end(arguments);
    text[0] = '\0';
    if (reply == NULL) {
        (void)snprintf(text, sizeof text, "(none)");
    } else {
        render(reply, text, sizeof text);
        freeReplyObject(reply);
    }
    return text;
}

const char *cluster_info(struct cluster *cluster, unsigned at, const char *field)
{
    static char value[128];
    const char *line = cluster_text(cluster, at, "INFO");
    size_t bytes = strlen(field);
    value[0] = '\0';
    for (; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        line += *line == '\n' ? 1 : 0;
        if (strncmp(line, field, bytes) == 0 && line[bytes] == ':') {
            size_t length = strcspn(line + bytes + 1, "\r\n");
            (void)snprintf(value, sizeof value, "%.*s", (int)length, line + bytes + 1);
            break;
        }
    }
    return value;
}

uint64_t cluster_number(struct cluster *cluster, unsigned at, const char *field)
{
    return strtoull(cluster_info(cluster, at, field), NULL, 10);
}

unsigned cluster_leader(struct cluster *cluster)
{
    unsigned leader = NOBODY;
    uint64_t term = 0;
    for (unsigned at = 0; at < cluster->count; at++) {
        if (cluster->members[at].pid == 0 ||
            strcmp(cluster_info(cluster, at, "role"), "leader") != 0) {
            continue;
        }
        uint64_t own = cluster_number(cluster, at, "term");
        if (leader == NOBODY || own > term) {
            leader = at;
            term = own;
        }
    }
    return leader;
}

static bool agreed(struct cluster *cluster, unsigned *leader)
{
    *leader = cluster_leader(cluster);
    if (*leader == NOBODY || cluster_number(cluster, *leader, "serving") != 1) {
        return false;
    }
    for (unsigned at = 0; at < cluster->count; at++) {
        if (cluster->members[at].pid != 0 &&
            strcmp(cluster_info(cluster, at, "leader"), cluster->members[*leader].name) != 0) {
            return false;
        }
    }
    return true;
}

unsigned cluster_await_leader(struct cluster *cluster)
{
    unsigned leader = NOBODY;
    eventually(agreed(cluster, &leader));
    return leader;
}

bool cluster_level(struct cluster *cluster)
{
    unsigned leader = cluster_leader(cluster);
    if (leader == NOBODY) {
        return false;
    }
    uint64_t commit = cluster_number(cluster, leader, "commit");
    for (unsigned at = 0; at < cluster->count; at++) {
        if (cluster->members[at].pid != 0 && cluster_number(cluster, at, "applied") < commit) {
            return false;
        }
    }
    return true;
}

unsigned cluster_follower(struct cluster *cluster)
{
    unsigned leader = cluster_await_leader(cluster);
    for (unsigned at = 0; at < cluster->count; at++) {
        if (at != leader && cluster->members[at].pid != 0) {
            return at;
        }
    }
    fail_msg("nobody follows");
    return NOBODY;
}

bool cluster_logged(const struct cluster *cluster, unsigned at, const char *text)
{
    char line[2048];
    bool found = false;
    FILE *file = fopen(cluster->members[at].log, "r");
    while (file != NULL && !found && fgets(line, sizeof line, file) != NULL) {
        found = strstr(line, text) != NULL;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}
