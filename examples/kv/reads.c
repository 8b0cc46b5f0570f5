/* SPDX-License-Identifier: MIT */
/*
 * Linearizable reads: all clients that have one at the end of a loop turn share one barrier. It
 * covers every read that had begun to arrive when it was asked for, so a pipeline of reads costs a
 * single barrier, too.
 */
#include "server.h"

#include <stdlib.h>

struct barrier {
    struct kv_server *server;
    struct kv_client *readers;
};

void kv_reads_add(struct kv_client *client)
{
    struct kv_server *server = client->server;
    kv_client_reference(client);
    client->next_reader = server->readers;
    server->readers = client;
    kv_server_turn(server);
}

static void readers_resume(struct kv_client *readers, enum ls_status status)
{
    while (readers != NULL) {
        struct kv_client *client = readers;
        readers = client->next_reader;
        client->next_reader = NULL;
        client->fresh_until = client->barrier_until;
        client->fresh_status = status;
        client->wait = KV_WAIT_NONE;
        kv_client_process(client);
        kv_client_touch(client); /* to send */
        kv_client_release(client);
    }
}

static void barrier_done(void *arg, const struct ls_outcome *outcome)
{
    struct barrier *barrier = arg;
    struct kv_server *server = barrier->server;
    server->barriers--;
    readers_resume(barrier->readers, outcome->status);
    free(barrier);
    if (server->readers != NULL) {
        kv_server_turn(server);
    }
}

/* Takes all readers of this turn and notes how far the barrier covers their input. */
static struct kv_client *readers_take(struct kv_server *server)
{
    struct kv_client *readers = server->readers;
    server->readers = NULL;
    for (struct kv_client *client = readers; client != NULL; client = client->next_reader) {
        client->barrier_until = client->consumed + kv_buffer_bytes(&client->in);
    }
    return readers;
}

void kv_reads_flush(struct kv_server *server)
{
    bool full = server->group != NULL && server->barriers >= KV_BARRIERS_MAX;
    if (server->readers == NULL || full) {
        return;
    }
    struct barrier *barrier = calloc(1, sizeof *barrier);
    enum ls_status status = barrier == NULL         ? LS_ERR_NO_MEMORY
                            : server->group == NULL ? LS_ERR_CLOSED
                                                    : LS_OK;
    if (status == LS_OK) {
        static const struct ls_call_options call = {.deadline_ms = KV_CALL_MS};
        barrier->server = server;
        status = ls_group_read_barrier(server->group, &call, barrier_done, barrier);
    }
    struct kv_client *readers = readers_take(server);
    if (status == LS_OK) {
        server->barriers++;
        server->barriers_total++;
        barrier->readers = readers;
    } else {
        free(barrier);
        readers_resume(readers, status);
    }
}

static void own_applied(void *arg, enum ls_status status)
{
    struct kv_client *client = arg;
    if (status != LS_OK) {
        client->seen = 0; /* the group closed: the read itself says so */
    }
    if (!client->closed) {
        kv_client_resume(client);
    }
    kv_client_release(client);
}

void kv_reads_await_own(struct kv_client *client)
{
    const struct ls_condition condition = {.kind = LS_WHEN_APPLIED, .index = client->seen};
    kv_client_reference(client);
    enum ls_status status = ls_group_when(client->server->group, &condition, own_applied, client);
    if (status != LS_OK) {
        own_applied(client, status);
    }
}
