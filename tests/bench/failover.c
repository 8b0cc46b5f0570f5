/* SPDX-License-Identifier: MIT */
/*
 * One failover under load, as a client sees it.
 *
 * usage: bench_failover PID LEADER_PORT SURVIVOR_PORT...
 *
 * Writers keep one SET in flight on each of some connections to every member. After a second of
 * this the program kills PID with SIGKILL and then sends one more write every few milliseconds,
 * each on a connection of its own to a survivor, so that a write which went down with the leader
 * holds up no other. Prints the milliseconds from the kill to the first +OK, from a survivor, for a
 * write that was sent after the kill; and how many writes were acknowledged in the second before.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    WRITERS_PER_MEMBER = 16,
    PROBES_PER_MEMBER = 200,
    MEMBERS_MAX = 9,
    CONNECTIONS_MAX = MEMBERS_MAX * (WRITERS_PER_MEMBER + PROBES_PER_MEMBER),
    VALUE_BYTES = 128,
    KEYS = 100000,
    PROBE_EVERY_US = 5000,
    LOAD_US = 1000000,
    GIVE_UP_US = 30000000,
    REPLY_BYTES_MAX = 512
};

struct connection {
    int descriptor; /* -1: closed */
    bool survivor;
    bool probe;
    uint64_t sent_us; /* of the write in flight; 0: none */
    char reply[REPLY_BYTES_MAX];
    size_t reply_bytes;
};

static struct connection connections[CONNECTIONS_MAX];
static size_t connections_count;
static int poller;
static uint64_t killed_us; /* 0: not yet */
static uint64_t first_us;  /* the first acknowledgement that counts; 0: none yet */
static uint64_t acknowledged;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void open_connection(uint16_t port, bool survivor, bool probe)
{
    struct connection *connection = &connections[connections_count++];
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event interest = {.events = EPOLLIN, .data.ptr = connection};
    int one = 1;
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
        fail("connect");
    }
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)fcntl(descriptor, F_SETFL, O_NONBLOCK);
    *connection =
        (struct connection){.descriptor = descriptor, .survivor = survivor, .probe = probe};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &interest) != 0) {
        fail("epoll_ctl");
    }
}

static void close_connection(struct connection *connection)
{
    (void)close(connection->descriptor);
    connection->descriptor = -1;
}

/* One SET. It is far smaller than a socket's buffer, which is empty: it is written whole. */
static void send_write(struct connection *connection)
{
    static char value[VALUE_BYTES + 1];
    static uint64_t random = 88172645463325252u;
    char command[VALUE_BYTES + 128];
    char key[32];
    if (value[0] == '\0') {
        (void)memset(value, 'v', VALUE_BYTES);
    }
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    int key_bytes = snprintf(key, sizeof key, "key:%012u", (unsigned)(random % KEYS));
    int bytes = snprintf(command, sizeof command, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n",
                         key_bytes, key, VALUE_BYTES, value);
    connection->sent_us = now_us();
    connection->reply_bytes = 0;
    if (write(connection->descriptor, command, (size_t)bytes) != bytes) {
        close_connection(connection);
    }
}

static void take_reply(struct connection *connection)
{
    uint64_t now = now_us();
    bool ok = strncmp(connection->reply, "+OK", 3) == 0;
    if (ok && killed_us == 0) {
        acknowledged++;
    } else if (ok && first_us == 0 && connection->survivor && connection->sent_us > killed_us) {
        first_us = now;
    }
    connection->sent_us = 0;
    if (!connection->probe) {
        send_write(connection);
    }
}

static void read_reply(struct connection *connection)
{
    ssize_t got = read(connection->descriptor, connection->reply + connection->reply_bytes,
                       sizeof connection->reply - 1 - connection->reply_bytes);
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    if (got <= 0) {
        if (killed_us == 0) {
            (void)fprintf(stderr, "a member closed a connection before the kill\n");
            exit(1);
        }
        close_connection(connection);
        return;
    }
    connection->reply_bytes += (size_t)got;
    connection->reply[connection->reply_bytes] = '\0';
    if (strstr(connection->reply, "\r\n") != NULL) {
        take_reply(connection);
    }
}

/* The next idle probe, round robin over the survivors. */
static void send_probe(void)
{
    static size_t next;
    for (size_t i = 0; i < connections_count; i++) {
        struct connection *connection = &connections[next++ % connections_count];
        if (connection->probe && connection->descriptor >= 0 && connection->sent_us == 0) {
            send_write(connection);
            return;
        }
    }
}

static void turn(void)
{
    struct epoll_event events[64];
    int count = epoll_wait(poller, events, sizeof events / sizeof events[0], 1);
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        if (connection->descriptor >= 0) {
            read_reply(connection);
        }
    }
}

static uint16_t parse_port(const char *text)
{
    unsigned long port = strtoul(text, NULL, 10);
    if (port == 0 || port > UINT16_MAX) {
        (void)fprintf(stderr, "%s: expected a port\n", text);
        exit(2);
    }
    return (uint16_t)port;
}

/* Members alternate, so that a round over the connections is one over the members. */
static void open_connections(int argc, char **argv)
{
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) {
        fail("epoll_create1");
    }
    for (int i = 0; i < WRITERS_PER_MEMBER; i++) {
        for (int member = 2; member < argc; member++) {
            open_connection(parse_port(argv[member]), member > 2, false);
        }
    }
    for (int i = 0; i < PROBES_PER_MEMBER; i++) {
        for (int member = 3; member < argc; member++) {
            open_connection(parse_port(argv[member]), true, true);
        }
    }
}

int main(int argc, char **argv)
{
    long pid = argc > 3 ? strtol(argv[1], NULL, 10) : 0;
    if (pid <= 1 || argc > 2 + MEMBERS_MAX) {
        (void)fprintf(stderr, "usage: bench_failover PID LEADER_PORT SURVIVOR_PORT...\n");
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    open_connections(argc, argv);
    for (size_t i = 0; i < connections_count; i++) {
        if (!connections[i].probe) {
            send_write(&connections[i]);
        }
    }
    uint64_t start = now_us();
    while (now_us() - start < LOAD_US) {
        turn();
    }
    if (acknowledged == 0) {
        (void)fprintf(stderr, "no write was acknowledged before the kill\n");
        return 1;
    }
    killed_us = now_us();
    if (kill((pid_t)pid, SIGKILL) != 0) {
        fail("kill");
    }
    uint64_t probed = killed_us;
    while (first_us == 0 && now_us() - killed_us < GIVE_UP_US) {
        if (now_us() - probed >= PROBE_EVERY_US) {
            probed = now_us();
            send_probe();
        }
        turn();
    }
    if (first_us == 0) {
        (void)fprintf(stderr, "no write was acknowledged within 30 s of the kill\n");
        return 1;
    }
    printf("%.0f %llu\n", (double)(first_us - killed_us) / 1000.0,
           (unsigned long long)acknowledged);
    return 0;
}
