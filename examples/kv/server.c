/* SPDX-License-Identifier: MIT */
/*
 * Listening, the turn at the end of each loop turn, and opening and closing. A turn serves the
 * clients that something happened to, then hands over their writes and asks for one read barrier.
 */
#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/listener.h>

#include "options.h"

enum { LISTEN_BACKLOG = 511, ACCEPT_PAUSE_MS = 100 };

uint64_t kv_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void kv_server_turn(struct kv_server *server)
{
    if (!server->turning && !event_pending(server->turn, EV_TIMEOUT, NULL)) {
        event_active(server->turn, EV_TIMEOUT, 0);
    }
}

static void server_turn(evutil_socket_t descriptor, short what, void *arg)
{
    (void)descriptor;
    (void)what;
    struct kv_server *server = arg;
    struct kv_client *client = server->touched;
    server->touched = NULL;
    server->touched_tail = &server->touched;
    server->turning = true;
    while (client != NULL) {
        struct kv_client *next = client->next_touched;
        client->touched = false;
        kv_client_process(client);
        kv_client_send(client);
        kv_client_release(client);
        client = next;
    }
    kv_writes_flush(server);
    kv_reads_flush(server);
    server->turning = false;
    if (server->touched != NULL) {
        /* after the sockets had their turn */
        static const struct timeval now = {0, 0};
        (void)event_del(server->turn);
        (void)event_add(server->turn, &now);
    }
}

static void address_print(const struct sockaddr *address, char out[LS_ADDRESS_BYTES])
{
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        (void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        port = ntohs(v4->sin_port);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        (void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        port = ntohs(v6->sin6_port);
    }
    (void)snprintf(out, LS_ADDRESS_BYTES, address->sa_family == AF_INET6 ? "[%s]:%u" : "%s:%u",
                   host, port);
}

static void server_accept(struct evconnlistener *listener, evutil_socket_t descriptor,
                          struct sockaddr *from, int length, void *arg)
{
    (void)listener;
    (void)length;
    struct kv_server *server = arg;
    static const char full[] = "-ERR max number of clients reached\r\n";
    static const int on = 1;
    char address[LS_ADDRESS_BYTES];
    address_print(from, address);
    server->connections++;
    if (server->clients_count >= server->clients_max) {
        server->rejected++;
        (void)send(descriptor, full, sizeof full - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)close(descriptor);
        return;
    }
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (kv_client_open(server, descriptor, address) == NULL) {
        (void)close(descriptor);
    }
}

static void server_retry(evutil_socket_t descriptor, short what, void *arg)
{
    (void)descriptor;
    (void)what;
    struct kv_server *server = arg;
    if (server->listener != NULL) {
        (void)evconnlistener_enable(server->listener);
    }
    kv_server_turn(server);
}

/* Out of descriptors or memory: accepting again at once would only spin. */
static void server_accept_failed(struct evconnlistener *listener, void *arg)
{
    static const struct timeval pause = {0, ACCEPT_PAUSE_MS * 1000};
    struct kv_server *server = arg;
    (void)evconnlistener_disable(listener);
    (void)event_add(server->retry, &pause);
}

static enum ls_status server_listen(struct kv_server *server, const char *address,
                                    struct ls_error *error)
{
    char host[LS_ADDRESS_BYTES];
    char port[8];
    if (!kv_address_split(address, host, port)) {
        return ls_error_set(error, LS_ERR_INVALID, "redis address %s: expected host:port", address);
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed != 0) {
        return ls_error_set(error, LS_ERR_IO, "listen on %s: %s", address, gai_strerror(failed));
    }
    server->listener =
        evconnlistener_new_bind(server->base, server_accept, server,
                                LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
                                LISTEN_BACKLOG, found->ai_addr, (int)found->ai_addrlen);
    int reason = errno;
    freeaddrinfo(found);
    if (server->listener == NULL) {
        return ls_error_set(error, LS_ERR_IO, "listen on %s: %s", address, strerror(reason));
    }
    evconnlistener_set_error_cb(server->listener, server_accept_failed);
    return LS_OK;
}

static void password_hash(const struct kv_server *server, struct ls_span password, uint8_t out[32])
{
    const struct ls_env *env = ls_env_default();
    const struct ls_span parts[2] = {{server->password_salt, sizeof server->password_salt},
                                     password};
    env->hash(env->self, parts, 2, out);
}

bool kv_password_matches(const struct kv_server *server, struct ls_span password)
{
    /* hashes under a random salt: neither length nor content shows in the time it takes */
    uint8_t hash[32];
    password_hash(server, password, hash);
    volatile uint8_t difference = 0;
    for (size_t i = 0; i < sizeof hash; i++) {
        difference = (uint8_t)(difference | (hash[i] ^ server->password_hash[i]));
    }
    return difference == 0;
}

enum ls_status kv_server_open(const struct kv_server_options *options, struct kv_server **out,
                              struct ls_error *error)
{
    struct kv_server *server = calloc(1, sizeof *server);
    if (server == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "out of memory");
    }
    server->base = options->base;
    server->machine = options->machine;
    server->directory = options->directory;
    server->state = options->state;
    server->clients_max = options->clients_max;
    server->touched_tail = &server->touched;
    server->started_ms = kv_now_ms();
    (void)snprintf(server->listen, sizeof server->listen, "%s", options->listen);
    if (options->password != NULL) {
        const struct ls_env *env = ls_env_default();
        env->entropy(env->self, server->password_salt, sizeof server->password_salt);
        server->password_asked = true;
        password_hash(server, (struct ls_span){options->password, strlen(options->password)},
                      server->password_hash);
    }
    server->turn = event_new(server->base, -1, EV_TIMEOUT, server_turn, server);
    server->retry = event_new(server->base, -1, EV_TIMEOUT, server_retry, server);
    enum ls_status status = LS_OK;
    if (server->turn == NULL || server->retry == NULL) {
        status = ls_error_set(error, LS_ERR_NO_MEMORY, "out of memory");
    } else {
        status = server_listen(server, options->listen, error);
    }
    if (status != LS_OK) {
        kv_server_close(server);
        return status;
    }
    *out = server;
    return LS_OK;
}

void kv_server_serve(struct kv_server *server, struct ls_group *group)
{
    server->group = group;
}

void kv_server_stop(struct kv_server *server)
{
    if (server->listener != NULL) {
        evconnlistener_free(server->listener);
        server->listener = NULL;
    }
    server->group = NULL;
    kv_writes_flush(server);
    kv_reads_flush(server);
    kv_server_turn(server);
}

void kv_server_close(struct kv_server *server)
{
    if (server == NULL) {
        return;
    }
    if (server->listener != NULL) {
        evconnlistener_free(server->listener);
    }
    server->group = NULL;
    server->turning = true; /* no more turns: what still waits ends here */
    kv_writes_flush(server);
    kv_reads_flush(server);
    /* what the last callbacks answered goes out as far as the sockets take it */
    for (struct kv_client *client = server->clients; client != NULL;) {
        struct kv_client *next = client->next;
        kv_client_reference(client);
        kv_client_send(client);
        kv_client_close(client);
        kv_client_release(client);
        client = next;
    }
    while (server->touched != NULL) {
        struct kv_client *client = server->touched;
        server->touched = client->next_touched;
        kv_client_release(client);
    }
    if (server->turn != NULL) {
        event_free(server->turn);
    }
    if (server->retry != NULL) {
        event_free(server->retry);
    }
    kv_buffer_free(&server->staged_bytes);
    free(server->staged);
    free(server);
}

/* With the reason, which an operator looks for first. */
static void reply_halted(struct resp_out *out, struct kv_server *server)
{
    struct ls_group_status status = {.text = ""};
    if (server->group != NULL) {
        ls_group_status(server->group, &status);
    }
    resp_error(out, "ERR this member is halted%s%s", status.text[0] == '\0' ? "" : ": ",
               status.text);
}

void kv_reply_status(struct resp_out *out, struct kv_server *server, enum ls_status status)
{
    const char *trouble = kv_machine_trouble(server->machine);
    switch ((int)status) {
    case LS_ERR_NO_LEADER:
    case LS_ERR_TIMEOUT:
    case LS_ERR_NOT_LEADER:
        resp_error(out, "TRYAGAIN no leader");
        break;
    case LS_ERR_CLOSED:
        resp_error(out, "TRYAGAIN this member is closing");
        break;
    case LS_ERR_BUSY:
        resp_error(out, "TRYAGAIN too many commands are in flight");
        break;
    case LS_ERR_UNKNOWN:
        resp_error(out, "UNKNOWN outcome unknown");
        break;
    case LS_ERR_HALTED:
        reply_halted(out, server);
        break;
    default:
        resp_error(out, "ERR %s%s%s", ls_status_text(status), trouble == NULL ? "" : ": ",
                   trouble == NULL ? "" : trouble);
        break;
    }
}
