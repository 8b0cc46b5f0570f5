/* SPDX-License-Identifier: MIT */
/*
 * lockstep-kv: one member of a replicated key-value service. Everything runs on one libevent loop:
 * the node, its group, and the clients.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crash.h"
#include "log.h"
#include "options.h"
#include "owner.h"
#include "server.h"

/* descriptors: for the log, the state and the peers; and the least with which clients get some */
enum { EXIT_USAGE = 2, DESCRIPTORS_OWN = 384, DESCRIPTORS_MIN = DESCRIPTORS_OWN + 64 };

static const char group_name[] = "kv";

struct program {
    struct kv_options options;
    struct ls_env env;
    struct event_base *base;
    struct event *signals[2];
    struct ls_identity *identity;
    struct kv_machine machine;
    struct ls_log_replay_options replay;
    struct ls_snapshot_options snapshots;
    struct ls_node *node;
    struct ls_group *group;
    struct kv_server *server;
    rlim_t descriptors_max;
    bool closing;
};

static void program_closed(void *arg)
{
    struct program *program = arg;
    program->node = NULL;
    (void)event_base_loopbreak(program->base);
}

static void program_signalled(evutil_socket_t signal_number, short what, void *arg)
{
    (void)what;
    struct program *program = arg;
    if (program->closing) {
        return;
    }
    program->closing = true;
    kv_log(LS_TRACE_INFO, "%s: closing", signal_number == SIGTERM ? "terminated" : "interrupted");
    kv_server_stop(program->server);
    ls_node_close(program->node, program_closed, program);
}

/* Until the name of a directory is on disk, a power cut takes it and all that was synced in it. */
static bool name_sync(const char *path)
{
    char parent[PATH_MAX];
    (void)snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL) {
        (void)snprintf(parent, sizeof parent, ".");
    } else {
        slash[slash == parent ? 1 : 0] = '\0';
    }
    int descriptor = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        return false;
    }
    bool synced = fsync(descriptor) == 0;
    (void)close(descriptor);
    return synced;
}

/* Makes `path`/`name` (name may be empty) and its parents, 0700; each new name is synced. */
static enum ls_status directory_make(const char *path, const char *name, char out[PATH_MAX],
                                     struct ls_error *error)
{
    int length = snprintf(out, PATH_MAX, "%s%s%s", path, name[0] == '\0' ? "" : "/", name);
    if (length < 0 || length >= PATH_MAX) {
        return ls_error_set(error, LS_ERR_INVALID, "%s: the path is too long", path);
    }
    for (char *at = out + 1;; at++) {
        char here = *at;
        if (here != '/' && here != '\0') {
            continue;
        }
        *at = '\0';
        bool made = mkdir(out, 0700) == 0;
        if (made) {
            KV_CRASH("data.made");
        }
        bool failed = !made && errno != EEXIST;
        /* also a name that was there: who made it may have died before its sync */
        bool synced = !failed && name_sync(out);
        if (failed || (made && !synced)) {
            return ls_error_set(error, LS_ERR_IO, "make directory %s: %s", out, strerror(errno));
        }
        if (made) {
            KV_CRASH("data.synced");
        }
        *at = here;
        if (here == '\0') {
            return LS_OK;
        }
    }
}

static enum ls_status identity_open(struct program *program, struct ls_error *error)
{
    uint8_t key[LS_KEY_BYTES];
    const struct kv_options *options = &program->options;
    enum ls_status status = ls_key_read(options->group_key, key, error);
    if (status == LS_OK) {
        status = ls_identity_founder(key, options->name, &program->identity, error);
    }
    explicit_bzero(key, sizeof key);
    for (size_t i = 0; status == LS_OK && i < options->founders_count; i++) {
        struct ls_peer_id id = ls_identity_founder_id(program->identity, options->founders[i].name);
        kv_log_name(&id, options->founders[i].name);
    }
    return status;
}

/* The first line of the password file; wiped by the caller. */
static enum ls_status password_read(const char *path, char password[KV_PASSWORD_BYTES_MAX + 2],
                                    struct ls_error *error)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return ls_error_set(error, LS_ERR_IO, "password file %s: %s", path, strerror(errno));
    }
    bool read = fgets(password, KV_PASSWORD_BYTES_MAX + 2, file) != NULL;
    (void)fclose(file);
    size_t bytes = read ? strcspn(password, "\r\n") : 0;
    password[bytes] = '\0';
    if (bytes == 0 || bytes > KV_PASSWORD_BYTES_MAX) {
        return ls_error_set(error, LS_ERR_INVALID,
                            "password file %s: expected a first line of 1 to %u bytes", path,
                            KV_PASSWORD_BYTES_MAX);
    }
    return LS_OK;
}

/* Without enough of them a store would fail in the middle of its work. */
static enum ls_status descriptors_raise(struct program *program, struct ls_error *error)
{
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    program->descriptors_max = limit.rlim_max;
    return limit.rlim_max >= DESCRIPTORS_MIN
               ? LS_OK
               : ls_error_set(error, LS_ERR_LIMIT,
                              "the limit of open files is %llu, expected at least %d (ulimit -n)",
                              (unsigned long long)limit.rlim_max, DESCRIPTORS_MIN);
}

static enum ls_status server_start(struct program *program, struct ls_error *error)
{
    const struct kv_options *options = &program->options;
    char password[KV_PASSWORD_BYTES_MAX + 2] = "";
    if (options->password_file != NULL) {
        enum ls_status status = password_read(options->password_file, password, error);
        if (status != LS_OK) {
            return status;
        }
    }
    uint32_t clients_max = options->clients_max;
    if (program->descriptors_max < (rlim_t)clients_max + DESCRIPTORS_OWN) {
        clients_max = (uint32_t)program->descriptors_max - DESCRIPTORS_OWN;
        kv_log(LS_TRACE_WARN, "clients are limited to %u by the limit of open files", clients_max);
    }
    const struct kv_server_options server = {
        .base = program->base,
        .machine = &program->machine,
        .listen = options->redis,
        .password = options->password_file != NULL ? password : NULL,
        .directory = options->data,
        .state = options->state_in_memory ? "memory" : "rocksdb",
        .clients_max = clients_max};
    enum ls_status status = kv_server_open(&server, &program->server, error);
    explicit_bzero(password, sizeof password);
    return status;
}

/* What was opened for a node that is not to be. */
static enum ls_status node_give_up(struct ls_node_options *node, enum ls_status status)
{
    node->storage.close(node->storage.self);
    if (node->vault.size > 0) {
        node->vault.close(node->vault.self);
    }
    return status;
}

static enum ls_status node_start(struct program *program, struct ls_error *error)
{
    const struct kv_options *options = &program->options;
    char directory[PATH_MAX];
    struct ls_node_options node;
    ls_node_options_init(&node);
    enum ls_status status = directory_make(options->data, "log", directory, error);
    if (status != LS_OK) {
        return status;
    }
    const struct ls_storage_rocksdb_options storage = {
        .size = sizeof storage, .directory = directory, .env = &program->env};
    status = ls_storage_rocksdb_open(&storage, &node.storage, error);
    if (status != LS_OK) {
        return status;
    }
    status = kv_owner_check(options->data, options->name, program->identity, error);
    char vault[PATH_MAX];
    status = status == LS_OK ? directory_make(options->data, "vault", vault, error) : status;
    status =
        status == LS_OK ? ls_vault_files_open(vault, &program->env, &node.vault, error) : status;
    if (status != LS_OK) {
        return node_give_up(&node, status);
    }
    const struct ls_transport_tcp_options transport = {.size = sizeof transport,
                                                       .env = &program->env,
                                                       .identity = program->identity,
                                                       .bulk_bytes_per_s =
                                                           options->bulk_bytes_per_s};
    status = ls_transport_tcp_open(&transport, &node.transport, error);
    if (status != LS_OK) {
        return node_give_up(&node, status);
    }
    node.base = program->base;
    node.env = &program->env;
    node.identity = program->identity;
    node.listen = options->address;
    return ls_node_open(&node, &program->node, error);
}

/* Who missed a little gets the entries, who missed more a snapshot. */
static enum ls_status syncs_make(struct program *program, struct ls_statesync syncs[2],
                                 struct ls_error *error)
{
    const struct kv_options *options = &program->options;
    program->replay = (struct ls_log_replay_options){.size = sizeof program->replay,
                                                     .keep_entries = options->keep_entries,
                                                     .keep_bytes = options->keep_bytes,
                                                     .lease_ms = options->sync_lease_ms};
    program->snapshots = (struct ls_snapshot_options){.size = sizeof program->snapshots,
                                                      .rate_bytes = options->snapshot_bytes_per_s,
                                                      .lease_ms = options->sync_lease_ms};
    enum ls_status status = ls_log_replay(&program->replay, &syncs[0]);
    status = status == LS_OK ? ls_snapshot_sync(&program->snapshots, &syncs[1]) : status;
    return status == LS_OK ? LS_OK : ls_error_set(error, status, "the state syncs cannot be made");
}

static enum ls_status group_start(struct program *program, struct ls_error *error)
{
    const struct kv_options *options = &program->options;
    char directory[PATH_MAX];
    struct kv_store store;
    enum ls_status status = directory_make(options->data, "state", directory, error);
    if (status != LS_OK) {
        return status;
    }
    status = options->state_in_memory ? kv_store_memory_open(&store)
                                      : kv_store_rocksdb_open(directory, &store);
    if (status != LS_OK) {
        return ls_error_set(error, status, "state %s: %s", directory, ls_status_text(status));
    }
    kv_machine_init(&program->machine, &store);
    struct ls_statesync syncs[2];
    status = syncs_make(program, syncs, error);
    if (status != LS_OK) {
        return status;
    }
    struct ls_group_options group;
    ls_group_options_init(&group);
    group.statesyncs = syncs;
    group.statesyncs_count = sizeof syncs / sizeof syncs[0];
    group.prune_entries = options->prune_entries;
    group.lag_entries = options->lag_entries;
    group.prune_bytes = options->prune_bytes;
    group.lag_bytes = options->lag_bytes;
    group.pinned_bytes = options->pinned_bytes;
    group.snapshot_entries = options->snapshot_entries;
    group.name = group_name;
    group.member = options->name;
    group.machine = kv_machine_port(&program->machine);
    group.founders = options->founders;
    group.founders_count = options->founders_count;
    group.election_ms = options->election_ms;
    group.heartbeat_ms = options->heartbeat_ms;
    status = ls_group_join(program->node, &group, &program->group, error);
    if (status == LS_OK) {
        kv_server_serve(program->server, program->group);
    }
    return status;
}

static enum ls_status signals_start(struct program *program)
{
    static const int numbers[2] = {SIGTERM, SIGINT};
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < 2; i++) {
        program->signals[i] = evsignal_new(program->base, numbers[i], program_signalled, program);
        if (program->signals[i] == NULL || event_add(program->signals[i], NULL) != 0) {
            return LS_ERR_NO_MEMORY;
        }
    }
    return LS_OK;
}

static enum ls_status program_start(struct program *program, struct ls_error *error)
{
    const struct kv_options *options = &program->options;
    enum ls_status status = descriptors_raise(program, error);
    if (status != LS_OK) {
        return status;
    }
    program->env = *ls_env_default();
    program->env.trace = kv_log_trace;
    program->base = event_base_new();
    if (program->base == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "the event loop cannot be made");
    }
    status = identity_open(program, error);
    status = status == LS_OK ? node_start(program, error) : status;
    status = status == LS_OK ? server_start(program, error) : status;
    status = status == LS_OK ? group_start(program, error) : status;
    status = status == LS_OK ? signals_start(program) : status;
    if (status == LS_OK) {
        kv_log(LS_TRACE_INFO,
               "lockstep-kv %s: member %s of %zu, peers on %s, redis clients on %s, data in %s, "
               "state in %s",
               ls_version(), options->name, options->founders_count, options->address,
               options->redis, options->data, options->state_in_memory ? "memory" : "rocksdb");
    }
    return status;
}

/* Closes what was opened, in any state of the start. */
static void program_close(struct program *program)
{
    if (program->node != NULL) {
        ls_node_close(program->node, program_closed, program);
        while (program->node != NULL && event_base_loop(program->base, EVLOOP_ONCE) == 0) {
        }
    }
    kv_server_close(program->server);
    struct ls_machine machine = kv_machine_port(&program->machine);
    machine.close(machine.self); /* a second time does nothing */
    for (size_t i = 0; i < 2; i++) {
        if (program->signals[i] != NULL) {
            event_free(program->signals[i]);
        }
    }
    ls_identity_close(program->identity);
    if (program->base != NULL) {
        event_base_free(program->base);
    }
    libevent_global_shutdown();
}

static int keygen(const char *path)
{
    struct ls_error error = {0};
    if (ls_key_generate(path, &error) != LS_OK) {
        (void)fprintf(stderr, "lockstep-kv: keygen: %s\n", error.text);
        return EXIT_FAILURE;
    }
    (void)printf("wrote a new key to %s\n", path);
    return EXIT_SUCCESS;
}

static int serve(struct program *program)
{
    struct ls_error error = {0};
    enum ls_status status =
        kv_log_open(program->options.log_file, program->options.log_level, &error);
    bool logs = status == LS_OK && program->options.log_file != NULL;
    status = status == LS_OK ? program_start(program, &error) : status;
    if (status != LS_OK) {
        const char *text = error.text[0] == '\0' ? ls_status_text(status) : error.text;
        (void)fprintf(stderr, "lockstep-kv: %s\n", text);
        if (logs) {
            kv_log(LS_TRACE_ERROR, "%s", text);
        }
    } else {
        (void)event_base_dispatch(program->base);
    }
    program_close(program);
    if (status == LS_OK) {
        kv_log(LS_TRACE_INFO, "closed");
    }
    kv_log_close();
    return status == LS_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static struct program program;
    char why[LS_ERROR_TEXT_BYTES];
    if (!kv_options_parse(&program.options, argc, argv, why)) {
        (void)fprintf(stderr, "lockstep-kv: %s\n", why);
        return EXIT_USAGE;
    }
    if (program.options.help) {
        (void)fputs(kv_options_help(), stdout);
        return EXIT_SUCCESS;
    }
    if (program.options.version) {
        (void)printf("lockstep-kv %s\n", ls_version());
        return EXIT_SUCCESS;
    }
    return program.options.keygen != NULL ? keygen(program.options.keygen) : serve(&program);
}
