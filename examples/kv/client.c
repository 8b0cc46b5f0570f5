/* SPDX-License-Identifier: MIT */
/*
 * One client: its socket, its buffers, and the decision whether the first command in its input can
 * run now. A command that has to wait stays where it is and is parsed again later.
 */
#include "server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "text.h"

/* unread input beyond which a waiting client is not read from */
#define INPUT_PAUSE_BYTES (8 * KV_READ_BYTES)
/* memory that an idle client may keep for its next replies */
#define OUTPUT_KEEP_BYTES (16u << 10)

void kv_client_reference(struct kv_client *client)
{
    client->references++;
}

void kv_client_release(struct kv_client *client)
{
    LS_ASSERT(client->references > 0);
    if (--client->references > 0) {
        return;
    }
    LS_ASSERT(client->closed && client->writes == NULL);
    kv_buffer_free(&client->in);
    kv_buffer_free(&client->out);
    resp_parser_free(&client->parser);
    free(client);
}

void kv_client_close(struct kv_client *client)
{
    if (client->closed) {
        return;
    }
    client->closed = true;
    event_free(client->readable);
    event_free(client->writable);
    (void)close(client->descriptor);
    if (client->previous != NULL) {
        client->previous->next = client->next;
    } else {
        client->server->clients = client->next;
    }
    if (client->next != NULL) {
        client->next->previous = client->previous;
    }
    client->server->clients_count--;
    kv_client_release(client);
}

void kv_client_touch(struct kv_client *client)
{
    if (client->touched || client->closed) {
        return;
    }
    client->touched = true;
    kv_client_reference(client);
    client->next_touched = NULL;
    *client->server->touched_tail = client;
    client->server->touched_tail = &client->next_touched;
    kv_server_turn(client->server);
}

void kv_client_resume(struct kv_client *client)
{
    client->wait = KV_WAIT_NONE;
    kv_client_touch(client);
}

struct resp_out kv_client_out(struct kv_client *client)
{
    return (struct resp_out){&client->out, client->protocol};
}

/* Reads while there is room, and while what has arrived can be worked on. */
static void reading_update(struct kv_client *client)
{
    bool wanted =
        !client->end_of_input && !client->close_after_send &&
        (client->wait == KV_WAIT_NONE || kv_buffer_bytes(&client->in) < INPUT_PAUSE_BYTES);
    if (wanted != client->reading) {
        client->reading = wanted;
        if (wanted) {
            (void)event_add(client->readable, NULL);
        } else {
            (void)event_del(client->readable);
        }
    }
}

void kv_client_send(struct kv_client *client)
{
    while (!client->closed && kv_buffer_bytes(&client->out) > 0) {
        struct ls_span bytes = kv_buffer_span(&client->out);
        ssize_t sent = send(client->descriptor, bytes.data, bytes.bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            (void)event_add(client->writable, NULL);
            return;
        }
        if (sent < 0) {
            kv_client_close(client);
            return;
        }
        client->server->bytes_out += (uint64_t)sent;
        kv_buffer_consume(&client->out, (size_t)sent);
    }
    if (client->closed) {
        return;
    }
    kv_buffer_reset(&client->out, OUTPUT_KEEP_BYTES);
    bool answered = client->writes == NULL && client->wait == KV_WAIT_NONE;
    if (client->close_after_send || (client->end_of_input && answered)) {
        kv_client_close(client);
    } else if (client->wait == KV_WAIT_OUTPUT) {
        kv_client_resume(client);
    }
}

static void client_writable(evutil_socket_t descriptor, short what, void *arg)
{
    (void)descriptor;
    (void)what;
    struct kv_client *client = arg;
    kv_client_reference(client);
    kv_client_send(client);
    /* a close in there gives back the list's reference, not ours */
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    kv_client_release(client);
}

static void client_readable(evutil_socket_t descriptor, short what, void *arg)
{
    (void)what;
    struct kv_client *client = arg;
    if (!kv_buffer_reserve(&client->in, KV_READ_BYTES)) {
        kv_client_close(client);
        return;
    }
    ssize_t bytes =
        recv(descriptor, client->in.data + client->in.end, client->in.capacity - client->in.end, 0);
    if (bytes < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        return;
    }
    if (bytes < 0) {
        kv_client_close(client);
        return;
    }
    client->end_of_input = bytes == 0;
    client->in.end += (size_t)bytes;
    client->server->bytes_in += (uint64_t)bytes;
    client->active_ms = kv_now_ms();
    kv_client_touch(client);
    if (client->end_of_input || client->wait != KV_WAIT_NONE) {
        reading_update(client);
    }
}

struct kv_client *kv_client_open(struct kv_server *server, int descriptor, const char *address)
{
    struct kv_client *client = calloc(1, sizeof *client);
    if (client == NULL) {
        return NULL;
    }
    *client = (struct kv_client){.server = server,
                                 .next = server->clients,
                                 .references = 1,
                                 .descriptor = descriptor,
                                 .protocol = 2,
                                 .authenticated = !server->password_asked,
                                 .id = ++server->next_client_id,
                                 .since_ms = kv_now_ms(),
                                 .active_ms = kv_now_ms(),
                                 .last_command = "NULL"};
    client->in.limit = KV_COMMAND_BYTES_MAX + 2 * KV_READ_BYTES;
    client->out.limit = KV_OUTPUT_BYTES_MAX;
    client->writes_tail = &client->writes;
    resp_parser_init(&client->parser, KV_VALUE_BYTES_MAX, KV_COMMAND_BYTES_MAX);
    client->parser.unauthenticated = !client->authenticated;
    (void)snprintf(client->address, sizeof client->address, "%s", address);
    client->readable =
        event_new(server->base, descriptor, EV_READ | EV_PERSIST, client_readable, client);
    client->writable = event_new(server->base, descriptor, EV_WRITE, client_writable, client);
    if (client->readable == NULL || client->writable == NULL) {
        if (client->readable != NULL) {
            event_free(client->readable);
        }
        free(client);
        return NULL;
    }
    if (server->clients != NULL) {
        server->clients->previous = client;
    }
    server->clients = client;
    server->clients_count++;
    reading_update(client);
    return client;
}

/* ---- commands ---- */

static void reply_unknown(struct kv_client *client)
{
    enum { SHOWN_BYTES = 128 };
    struct resp_out out = kv_client_out(client);
    const struct ls_span *args = client->parser.args;
    char shown[SHOWN_BYTES * 2] = "";
    size_t length = 0;
    for (size_t i = 1; i < client->parser.argc && length < SHOWN_BYTES; i++) {
        size_t room = SHOWN_BYTES - length;
        size_t bytes = args[i].bytes < room ? args[i].bytes : room;
        const char *end = bytes == 0 ? NULL : memchr(args[i].data, '\0', bytes);
        bytes = end == NULL ? bytes : (size_t)(end - (const char *)args[i].data);
        shown[length++] = '\'';
        if (bytes > 0) {
            (void)memcpy(shown + length, args[i].data, bytes);
        }
        length += bytes;
        shown[length++] = '\'';
        shown[length++] = ' ';
    }
    shown[length] = '\0';
    int name_bytes = (int)(args[0].bytes < SHOWN_BYTES ? args[0].bytes : SHOWN_BYTES);
    resp_error(&out, "ERR unknown command '%.*s', with args beginning with: %s", name_bytes,
               (const char *)args[0].data, shown);
}

static enum kv_wait read_run(struct kv_client *client, const struct kv_command *command)
{
    struct kv_server *server = client->server;
    struct resp_out out = kv_client_out(client);
    enum ls_status status = LS_OK;
    if (server->group == NULL) {
        status = LS_ERR_CLOSED;
    } else if (client->readonly) {
        if (server->machine->applied < client->seen) {
            return KV_WAIT_APPLIED;
        }
    } else if (client->consumed >= client->fresh_until) {
        return KV_WAIT_BARRIER;
    } else {
        status = client->fresh_status;
    }
    size_t before = kv_buffer_bytes(&client->out);
    if (status == LS_OK) {
        status = kv_machine_read(server->machine, command, client->parser.args, client->parser.argc,
                                 &out);
    }
    if (status != LS_OK) {
        client->out.end = client->out.start + before; /* a reply that broke off */
        kv_reply_status(&out, server, status);
    }
    return KV_WAIT_NONE;
}

/* Runs the parsed command, or tells what it has to wait for. */
static enum kv_wait command_run(struct kv_client *client)
{
    const struct ls_span *args = client->parser.args;
    size_t argc = client->parser.argc;
    const struct kv_command *command = kv_command_find(args[0]);
    const struct kv_session_command *session = command == NULL ? kv_session_find(args[0]) : NULL;
    command = session == NULL ? command : &session->info;
    bool allowed = client->authenticated || (command != NULL && (command->flags & KV_OPEN) != 0);
    bool fits = command != NULL && kv_command_arity_fits(command, argc);
    if (allowed && fits && (command->flags & KV_WRITE) != 0) {
        client->last_command = command->name;
        return kv_writes_add(client, command);
    }
    if (client->writes != NULL) {
        return KV_WAIT_WRITES;
    }
    struct resp_out out = kv_client_out(client);
    if (command == NULL) {
        reply_unknown(client);
        return KV_WAIT_NONE;
    }
    if (!fits) {
        kv_reply_arity(&out, command->name);
        return KV_WAIT_NONE;
    }
    if (!allowed) {
        resp_error(&out, "NOAUTH Authentication required.");
        return KV_WAIT_NONE;
    }
    client->last_command = command->name;
    return session != NULL ? session->run(client, args, argc) : read_run(client, command);
}

/* Registers the client with what it waits for. */
static void wait_begin(struct kv_client *client, enum kv_wait wait)
{
    client->wait = wait;
    if (wait == KV_WAIT_BARRIER) {
        kv_reads_add(client);
    } else if (wait == KV_WAIT_APPLIED) {
        kv_reads_await_own(client);
    }
}

/* The input cannot be understood any more: says so once all before it is answered. */
static void protocol_broken(struct kv_client *client)
{
    if (client->writes != NULL) {
        client->wait = KV_WAIT_WRITES;
        return;
    }
    struct resp_out out = kv_client_out(client);
    resp_error(&out, "ERR %s", client->parser.error);
    client->close_after_send = true;
}

/* One command from the input. False: nothing more can be done now. */
static bool command_next(struct kv_client *client)
{
    if (kv_buffer_bytes(&client->out) > KV_OUTPUT_PAUSE_BYTES) {
        client->wait = KV_WAIT_OUTPUT;
        return false;
    }
    size_t consumed = 0;
    enum resp_result result = resp_parse(&client->parser, kv_buffer_span(&client->in), &consumed);
    if (result == RESP_MORE) {
        return false;
    }
    if (result == RESP_BROKEN) {
        protocol_broken(client);
        return false;
    }
    enum kv_wait wait = client->parser.argc == 0 ? KV_WAIT_NONE : command_run(client);
    if (wait != KV_WAIT_NONE && wait != KV_WAIT_CALL) {
        wait_begin(client, wait);
        return false;
    }
    client->server->commands += client->parser.argc == 0 ? 0 : 1;
    client->wait = wait;
    client->consumed += consumed;
    kv_buffer_consume(&client->in, consumed);
    return wait == KV_WAIT_NONE && !client->close_after_send;
}

void kv_client_process(struct kv_client *client)
{
    unsigned left = KV_COMMANDS_PER_TURN;
    while (!client->closed && !client->close_after_send && client->wait == KV_WAIT_NONE &&
           left > 0 && command_next(client)) {
        left--;
    }
    if (client->closed) {
        return;
    }
    if (client->out.failed || client->in.failed) {
        kv_client_close(client); /* a reply larger than any client may get, or no memory */
        return;
    }
    if (left == 0) {
        kv_client_touch(client);
    }
    if (kv_buffer_bytes(&client->in) == 0) {
        kv_buffer_reset(&client->in, 0); /* idle clients hold no buffer */
    }
    reading_update(client);
}
