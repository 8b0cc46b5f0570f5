/* SPDX-License-Identifier: MIT */
/*
 * Writes of all clients, in the order they were parsed: staged as log entries, handed to the group
 * in batches at the end of the loop turn, answered in the order of each client. When the group has
 * no room the queue stops as a whole, so that no write overtakes another.
 */
#include "server.h"

#include <stdlib.h>

/* One ls_group_execute_many under way. */
struct batch {
    struct kv_server *server;
    size_t count;
    struct kv_write *writes[];
};

static void write_free(struct kv_write *write)
{
    kv_buffer_free(&write->reply);
    kv_client_release(write->client);
    free(write);
}

/* Sends the replies of all writes at the head of the client that are done. */
static void replies_release(struct kv_client *client)
{
    while (client->writes != NULL && client->writes->done) {
        struct kv_write *write = client->writes;
        client->writes = write->next;
        if (client->writes == NULL) {
            client->writes_tail = &client->writes;
        }
        client->writes_count--;
        if (write->reply.failed) {
            client->out.failed = true;
        } else if (!client->closed) {
            struct resp_out out = kv_client_out(client);
            resp_relay(&out, kv_buffer_span(&write->reply));
        }
        write_free(write); /* the caller holds a reference to the client */
    }
}

static void write_done(struct kv_write *write, struct ls_span reply)
{
    struct kv_client *client = write->client;
    kv_client_reference(client);
    write->done = true;
    client->proposed_count -= write->proposed ? 1 : 0;
    kv_buffer_append(&write->reply, reply.data, reply.bytes);
    if (client->writes == write) {
        replies_release(client);
        if (client->wait == KV_WAIT_WRITES && client->writes == NULL) {
            client->wait = KV_WAIT_NONE;
        }
        kv_client_touch(client);
    }
    kv_client_release(client);
}

static void write_failed(struct kv_write *write, enum ls_status status)
{
    struct kv_buffer reply = {0};
    struct resp_out out = {&reply, 3};
    kv_reply_status(&out, write->client->server, status);
    write_done(write, kv_buffer_span(&reply));
    kv_buffer_free(&reply);
}

/* Clients that waited for room in the queue go on. */
static void room_resume(struct kv_server *server)
{
    if (kv_buffer_bytes(&server->staged_bytes) > KV_STAGED_BYTES_MAX / 2) {
        return;
    }
    for (struct kv_client *client = server->clients; client != NULL; client = client->next) {
        if (client->wait == KV_WAIT_ROOM) {
            kv_client_resume(client);
        }
    }
}

static void batch_done(void *arg, const struct ls_outcome *outcome)
{
    static const char missing[] = "-ERR the machine gave no reply\r\n";
    struct batch *batch = arg;
    struct kv_server *server = batch->server;
    for (size_t i = 0; i < batch->count; i++) {
        struct kv_write *write = batch->writes[i];
        if (outcome->status != LS_OK) {
            write_failed(write, outcome->status);
            continue;
        }
        if (outcome->first.index + i > write->client->seen) {
            write->client->seen = outcome->first.index + i;
        }
        bool present = i < outcome->count && outcome->replies[i].bytes > 0;
        write_done(write,
                   present ? outcome->replies[i] : (struct ls_span){missing, sizeof missing - 1});
    }
    free(batch);
    if (server->staged_count > 0) {
        kv_server_turn(server); /* there is room again */
    }
}

/* Makes place for one more staged write. */
static bool staged_reserve(struct kv_server *server)
{
    if (server->staged_first + server->staged_count < server->staged_capacity) {
        return true;
    }
    if (server->staged_first > server->staged_capacity / 2) {
        (void)memmove(server->staged, server->staged + server->staged_first,
                      server->staged_count * sizeof *server->staged);
        server->staged_first = 0;
        return true;
    }
    size_t capacity = server->staged_capacity == 0 ? 1024 : server->staged_capacity * 2;
    struct kv_staged *staged = realloc(server->staged, capacity * sizeof *staged);
    if (staged == NULL) {
        return false;
    }
    server->staged = staged;
    server->staged_capacity = capacity;
    return true;
}

enum kv_wait kv_writes_add(struct kv_client *client, const struct kv_command *command)
{
    struct kv_server *server = client->server;
    if (client->proposed_count > 0 || client->writes_count >= KV_CLIENT_WRITES_MAX) {
        return KV_WAIT_WRITES;
    }
    size_t before = kv_buffer_bytes(&server->staged_bytes);
    if (before >= KV_STAGED_BYTES_MAX) {
        return KV_WAIT_ROOM;
    }
    struct kv_write *write = calloc(1, sizeof *write);
    if (write == NULL || !staged_reserve(server)) {
        free(write);
        client->out.failed = true;
        return KV_WAIT_NONE;
    }
    write->client = client;
    kv_client_reference(client);
    *client->writes_tail = write;
    client->writes_tail = &write->next;
    client->writes_count++;
    client->fresh_until = 0; /* a read behind it needs a barrier that comes after it */
    kv_entry_encode(&server->staged_bytes, command, client->parser.args, client->parser.argc);
    if (server->staged_bytes.failed || server->group == NULL) {
        server->staged_bytes.failed = false;
        server->staged_bytes.end = server->staged_bytes.start + before;
        write_failed(write, server->group == NULL ? LS_ERR_CLOSED : LS_ERR_NO_MEMORY);
        return KV_WAIT_NONE;
    }
    server->staged[server->staged_first + server->staged_count++] =
        (struct kv_staged){write, kv_buffer_bytes(&server->staged_bytes) - before, kv_now_ms()};
    kv_server_turn(server);
    return KV_WAIT_NONE;
}

/* Takes `count` writes with their bytes off the queue. */
static void staged_remove(struct kv_server *server, size_t count, size_t bytes)
{
    kv_buffer_consume(&server->staged_bytes, bytes);
    server->staged_first += count;
    server->staged_count -= count;
    if (server->staged_count == 0) {
        server->staged_first = 0;
    }
}

/* How many writes make the next batch, and their bytes. None: the first one has to wait. */
static size_t batch_measure(const struct kv_server *server, size_t *bytes)
{
    size_t count = 0;
    *bytes = 0;
    while (count < server->staged_count && count < LS_PROPOSE_ENTRIES_MAX) {
        const struct kv_staged *staged = &server->staged[server->staged_first + count];
        size_t more = staged->bytes;
        if (staged->write->client->proposed_count > 0) {
            break; /* behind its own writes, which were cut off by the limits of a batch */
        }
        if (count > 0 && *bytes + more > KV_PROPOSE_BYTES_MAX) {
            break;
        }
        *bytes += more;
        count++;
    }
    return count;
}

/* Hands the first `count` writes over. OK: they are off the queue. */
static enum ls_status batch_propose(struct kv_server *server, size_t count, size_t bytes)
{
    static struct ls_span spans[LS_PROPOSE_ENTRIES_MAX];
    struct batch *batch = malloc(sizeof *batch + count * sizeof(struct kv_write *));
    if (batch == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    batch->server = server;
    batch->count = count;
    const char *at = kv_buffer_span(&server->staged_bytes).data;
    const struct kv_staged *staged = server->staged + server->staged_first;
    for (size_t i = 0; i < count; i++) {
        spans[i] = (struct ls_span){at, staged[i].bytes};
        batch->writes[i] = staged[i].write;
        at += staged[i].bytes;
    }
    uint64_t waited = kv_now_ms() - staged[0].since_ms;
    const struct ls_call_options call = {
        .deadline_ms = waited < KV_CALL_MS ? KV_CALL_MS - (uint32_t)waited : 1};
    enum ls_status status =
        ls_group_execute_many(server->group, spans, count, &call, batch_done, batch);
    if (status == LS_OK) {
        for (size_t i = 0; i < count; i++) {
            batch->writes[i]->proposed = true;
            batch->writes[i]->client->proposed_count++;
        }
        server->batches++;
        staged_remove(server, count, bytes);
    } else {
        free(batch);
    }
    return status;
}

/* The first `count` writes end with an error: nothing was done. */
static void batch_refuse(struct kv_server *server, size_t count, size_t bytes,
                         enum ls_status status)
{
    for (size_t i = 0; i < count; i++) {
        write_failed(server->staged[server->staged_first + i].write, status);
    }
    staged_remove(server, count, bytes);
}

void kv_writes_flush(struct kv_server *server)
{
    static const struct timeval retry = {0, KV_BUSY_RETRY_MS * 1000};
    while (server->staged_count > 0) {
        size_t bytes = 0;
        size_t count = batch_measure(server, &bytes);
        if (count == 0) {
            break; /* the batch before it ends with a turn */
        }
        enum ls_status status =
            server->group == NULL ? LS_ERR_CLOSED : batch_propose(server, count, bytes);
        bool late = kv_now_ms() - server->staged[server->staged_first].since_ms >= KV_CALL_MS;
        if (status == LS_ERR_BUSY && !late) {
            (void)event_add(server->retry, &retry);
            break;
        }
        if (status != LS_OK) {
            batch_refuse(server, count, bytes, status);
        }
    }
    room_resume(server);
}
