/* SPDX-License-Identifier: MIT */
/*
 * The server: clients of the Redis protocol in the node's event base. Inside it
 *
 *   client.c   sockets and buffers of one client, and what its next command has to wait for
 *   writes.c   collects the writes of all clients of a loop turn into ls_group_execute_many
 *   reads.c    one read barrier for all linearizable reads of a loop turn
 *   session.c  commands about the connection: HELLO, AUTH, CLIENT, CONFIG, COMMAND, ...
 *   info.c     INFO and LOCKSTEP
 *
 * The order of one client. Commands stay in its input buffer until they can run: a write runs
 * behind writes that are under way, anything else only when none is. So replies come in order, a
 * read sees every earlier write of its pipeline and no later one, and a waiting command costs no
 * copy.
 *
 * Lives on the loop's thread.
 */
#ifndef KV_SERVER_H
#define KV_SERVER_H

#include <event2/event.h>

#include <lockstep/lockstep.h>

#include "kv_limits.h"
#include "kv_machine.h"

/* what clients compare to know which commands to use */
#define KV_REDIS_VERSION "7.0.15"

struct kv_server;
struct kv_client;

/** Why the first command in a client's input does not run yet. */
enum kv_wait {
    KV_WAIT_NONE = 0,
    KV_WAIT_WRITES = 1,  /* until its own writes are answered */
    KV_WAIT_ROOM = 2,    /* until the group takes staged writes again */
    KV_WAIT_BARRIER = 3, /* until the local state is fresh enough for a linearizable read */
    KV_WAIT_APPLIED = 4, /* until the local state holds the client's own writes */
    KV_WAIT_CALL = 5,    /* until an asynchronous command has replied */
    KV_WAIT_OUTPUT = 6   /* until the client reads its replies */
};

/** A write command under way, in the order of its client. */
struct kv_write {
    struct kv_client *client;
    struct kv_write *next;
    bool proposed, done;
    struct kv_buffer reply; /* RESP3, kept while earlier ones are not done */
};

struct kv_client {
    struct kv_server *server;
    struct kv_client *previous, *next; /* of the server's list */
    struct kv_client *next_touched;
    struct kv_client *next_reader; /* of the barrier it waits for */
    uint32_t references;           /* the list, writes, barriers, calls and the touched queue */
    int descriptor;
    struct event *readable, *writable;
    bool reading, closed, touched;
    bool end_of_input;     /* no more comes; closed when all is answered */
    bool close_after_send; /* QUIT or a broken protocol */

    struct kv_buffer in, out;
    struct resp_parser parser;
    uint64_t consumed; /* bytes of input that are behind us, ever */
    enum kv_wait wait;

    struct kv_write *writes, **writes_tail;
    uint32_t writes_count;
    uint32_t proposed_count; /* of its writes, handed to the group and not done */

    /* Reads that begin before this place of the input may use the last barrier ... */
    uint64_t fresh_until;
    enum ls_status fresh_status; /* ... and this is how it ended */
    uint64_t barrier_until;      /* of the barrier under way */
    ls_index seen;               /* the highest index of its own writes */

    uint64_t id;
    int protocol;
    bool authenticated, readonly;
    char name[KV_CLIENT_NAME_BYTES];
    char library[KV_CLIENT_NAME_BYTES], library_version[KV_CLIENT_NAME_BYTES];
    char address[LS_ADDRESS_BYTES];
    uint64_t since_ms, active_ms;
    const char *last_command; /* static */
};

/** A write that the group has not taken yet; its bytes are in the server's staged buffer. */
struct kv_staged {
    struct kv_write *write;
    size_t bytes;
    uint64_t since_ms;
};

struct kv_server_options {
    struct event_base *base;
    struct kv_machine *machine;
    const char *listen;   /* "host:port" */
    const char *password; /* NULL: none asked */
    const char *directory, *state;
    uint32_t clients_max;
};

struct kv_server {
    struct event_base *base;
    struct ls_group *group; /* NULL before kv_server_serve and while closing */
    struct kv_machine *machine;
    struct evconnlistener *listener;
    struct event *turn, *retry;
    bool turning;
    char listen[LS_ADDRESS_BYTES];
    const char *directory, *state;

    bool password_asked;
    uint8_t password_hash[32], password_salt[32];

    struct kv_client *clients;
    uint32_t clients_count, clients_max;
    struct kv_client *touched, **touched_tail;

    struct kv_buffer staged_bytes;
    struct kv_staged *staged;
    size_t staged_first, staged_count, staged_capacity;
    struct kv_client *readers; /* waiting for the next barrier */
    uint32_t barriers;

    uint64_t started_ms, next_client_id;
    uint64_t commands, connections, rejected, barriers_total, batches, bytes_in, bytes_out;
};

uint64_t kv_now_ms(void);

/**
 * Listens; clients get TRYAGAIN until kv_server_serve.
 *
 * errors  LS_ERR_INVALID, LS_ERR_IO, LS_ERR_NO_MEMORY, with text
 */
LS_NODISCARD enum ls_status kv_server_open(const struct kv_server_options *options,
                                           struct kv_server **server, struct ls_error *error);
void kv_server_serve(struct kv_server *server, struct ls_group *group);
/** Accepts no more clients, and makes no more calls to the group; what is under way is answered. */
void kv_server_stop(struct kv_server *server);
/** After the group closed: sends what can be sent at once, closes all clients. Takes NULL. */
void kv_server_close(struct kv_server *server);

/* ---- between the files of the server ---- */

/** Serves and flushes the client later in this turn. */
void kv_client_touch(struct kv_client *client);
void kv_client_reference(struct kv_client *client);
void kv_client_release(struct kv_client *client);
/** Closes the socket; the client is gone when nothing refers to it. */
void kv_client_close(struct kv_client *client);
struct kv_client *kv_client_open(struct kv_server *server, int descriptor, const char *address);
/** Runs what can run. */
void kv_client_process(struct kv_client *client);
/** Sends what the socket takes. */
void kv_client_send(struct kv_client *client);
struct resp_out kv_client_out(struct kv_client *client);
/** Ends a wait and touches the client. */
void kv_client_resume(struct kv_client *client);

/** Asks for a turn at the end of this loop turn. */
void kv_server_turn(struct kv_server *server);

/** In constant time. */
bool kv_password_matches(const struct kv_server *server, struct ls_span password);

/** The error reply for how a call ended. */
void kv_reply_status(struct resp_out *out, struct kv_server *server, enum ls_status status);

/** Stages a write. Returns what it has to wait for; KV_WAIT_NONE: staged. */
enum kv_wait kv_writes_add(struct kv_client *client, const struct kv_command *command);
/** Hands staged writes to the group. */
void kv_writes_flush(struct kv_server *server);

/** Waits for the next barrier. */
void kv_reads_add(struct kv_client *client);
void kv_reads_flush(struct kv_server *server);
/** Waits until the local state has applied the client's own writes. */
void kv_reads_await_own(struct kv_client *client);

/** A command of the session: writes its reply, or returns what to wait for. */
typedef enum kv_wait (*kv_session_handler)(struct kv_client *client, const struct ls_span *args,
                                           size_t argc);
struct kv_session_command {
    struct kv_command info;
    kv_session_handler run;
};
const struct kv_session_command *kv_session_find(struct ls_span name);
const struct kv_session_command *kv_session_commands(size_t *count);

enum kv_wait kv_run_info(struct kv_client *client, const struct ls_span *args, size_t argc);
enum kv_wait kv_run_lockstep(struct kv_client *client, const struct ls_span *args, size_t argc);
enum kv_wait kv_run_command(struct kv_client *client, const struct ls_span *args, size_t argc);
enum kv_wait kv_run_client(struct kv_client *client, const struct ls_span *args, size_t argc);
enum kv_wait kv_run_config(struct kv_client *client, const struct ls_span *args, size_t argc);
enum kv_wait kv_run_auth(struct kv_client *client, const struct ls_span *args, size_t argc);
enum kv_wait kv_run_hello(struct kv_client *client, const struct ls_span *args, size_t argc);
/** Unknown subcommand, as Redis says it. */
void kv_reply_subcommand(struct resp_out *out, const char *container, struct ls_span name);

#endif
