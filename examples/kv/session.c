/* SPDX-License-Identifier: MIT */
/* Commands about the connection: their table, and what is needed for the usual clients. */
#include "server.h"

#include <stdio.h>

#include "text.h"

static enum kv_wait run_ping(struct kv_client *client, const struct ls_span *args, size_t argc)
{
    struct resp_out out = kv_client_out(client);
    if (argc > 2) {
        kv_reply_arity(&out, "ping");
    } else if (argc == 2) {
        resp_bulk(&out, args[1]);
    } else {
        resp_simple(&out, "PONG");
    }
    return KV_WAIT_NONE;
}

static enum kv_wait run_echo(struct kv_client *client, const struct ls_span *args, size_t argc)
{
    (void)argc;
    struct resp_out out = kv_client_out(client);
    resp_bulk(&out, args[1]);
    return KV_WAIT_NONE;
}

static enum kv_wait run_select(struct kv_client *client, const struct ls_span *args, size_t argc)
{
    (void)argc;
    struct resp_out out = kv_client_out(client);
    int64_t database = 0;
    if (!kv_integer_parse(args[1], &database)) {
        kv_reply_not_integer(&out);
    } else if (database < INT32_MIN || database > INT32_MAX) {
        resp_error(&out, "ERR value is out of range, value must between %d and %d", INT32_MIN,
                   INT32_MAX);
    } else if (database != 0) {
        resp_error(&out, "ERR DB index is out of range");
    } else {
        resp_simple(&out, "OK");
    }
    return KV_WAIT_NONE;
}

static enum kv_wait run_quit(struct kv_client *client, const struct ls_span *args, size_t argc)
{
    (void)args;
    (void)argc;
    struct resp_out out = kv_client_out(client);
    resp_simple(&out, "OK");
    client->close_after_send = true;
    return KV_WAIT_NONE;
}

static enum kv_wait run_readonly(struct kv_client *client, const struct ls_span *args, size_t argc)
{
    (void)argc;
    struct resp_out out = kv_client_out(client);
    client->readonly = kv_text_is(args[0], "readonly");
    resp_simple(&out, "OK");
    return KV_WAIT_NONE;
}

static const struct kv_session_command commands[] = {
    {{"ping", -1, KV_SERVER, 0, NULL, 0, 0, 0, "Answers PONG, or its argument."}, run_ping},
    {{"echo", 2, KV_SERVER, 0, NULL, 0, 0, 0, "Answers its argument."}, run_echo},
    {{"hello", -1, KV_SERVER | KV_OPEN, 0, NULL, 0, 0, 0, "Chooses RESP2 or RESP3."}, kv_run_hello},
    {{"auth", -2, KV_SERVER | KV_OPEN, 0, NULL, 0, 0, 0, "Authenticates the connection."},
     kv_run_auth},
    {{"quit", -1, KV_SERVER | KV_OPEN, 0, NULL, 0, 0, 0, "Closes the connection."}, run_quit},
    {{"select", 2, KV_SERVER, 0, NULL, 0, 0, 0, "There is one database, number 0."}, run_select},
    {{"readonly", 1, KV_SERVER, 0, NULL, 0, 0, 0, "Reads of this connection are local."},
     run_readonly},
    {{"readwrite", 1, KV_SERVER, 0, NULL, 0, 0, 0, "Reads of this connection are linearizable."},
     run_readonly},
    {{"info", -1, KV_SERVER, 0, NULL, 0, 0, 0, "Says how this member is."}, kv_run_info},
    {{"lockstep", -2, KV_SERVER, 0, NULL, 0, 0, 0,
      "LOCKSTEP STATUS, MEMBERS, BONDS or TRANSFER name: about the group."},
     kv_run_lockstep},
    {{"client", -2, KV_SERVER, 0, NULL, 0, 0, 0, "About this and other connections."},
     kv_run_client},
    {{"config", -2, KV_SERVER, 0, NULL, 0, 0, 0, "CONFIG GET: settings as Redis names them."},
     kv_run_config},
    {{"command", -1, KV_SERVER, 0, NULL, 0, 0, 0, "About commands."}, kv_run_command},
};

const struct kv_session_command *kv_session_commands(size_t *count)
{
    *count = sizeof commands / sizeof commands[0];
    return commands;
}

const struct kv_session_command *kv_session_find(struct ls_span name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (kv_text_is(name, commands[i].info.name)) {
            return &commands[i];
        }
    }
    return NULL;
}

void kv_reply_subcommand(struct resp_out *out, const char *container, struct ls_span name)
{
    int bytes = (int)(name.bytes < 128 ? name.bytes : 128);
    resp_error(out, "ERR unknown subcommand '%.*s'. Try %s HELP.", bytes, (const char *)name.data,
               container);
}

/* ---- HELLO and AUTH ---- */

static void authenticate(struct kv_client *client)
{
    client->authenticated = true;
    client->parser.unauthenticated = false;
}

/* Checks user and password; on failure the reply is written. */
static bool authenticated_by(struct kv_client *client, const struct ls_span *user,
                             struct ls_span password)
{
    bool known = user == NULL || (user->bytes == 7 && memcmp(user->data, "default", 7) == 0);
    /* with no password set, any does for the default user: as Redis */
    bool matches = !client->server->password_asked || kv_password_matches(client->server, password);
    if (known && matches) {
        authenticate(client);
        return true;
    }
    struct resp_out out = kv_client_out(client);
    resp_error(&out, "WRONGPASS invalid username-password pair or user is disabled.");
    return false;
}

enum kv_wait kv_run_auth(struct kv_client *client, const struct ls_span *args, size_t argc)
{
    struct resp_out out = kv_client_out(client);
    if (argc > 3) {
        kv_reply_syntax(&out);
    } else if (argc == 2 && !client->server->password_asked) {
        resp_error(&out, "ERR AUTH <password> called without any password configured for the "
                         "default user. Are you sure your configuration is correct?");
    } else if (authenticated_by(client, argc == 3 ? &args[1] : NULL, args[argc - 1])) {
        resp_simple(&out, "OK");
    }
    return KV_WAIT_NONE;
}

/* A name without blanks and control bytes, as CLIENT LIST needs it. False: refused. */
static bool name_set(char field[KV_CLIENT_NAME_BYTES], struct ls_span name)
{
    const unsigned char *bytes = name.data;
    for (size_t i = 0; i < name.bytes; i++) {
        if (bytes[i] < '!' || bytes[i] > '~') {
            return false;
        }
    }
    if (name.bytes >= KV_CLIENT_NAME_BYTES) {
        return false;
    }
    if (name.bytes > 0) {
        (void)memcpy(field, name.data, name.bytes);
    }
    field[name.bytes] = '\0';
    return true;
}

static void reply_name_refused(struct resp_out *out)
{
    resp_error(out, "ERR Client names cannot contain spaces, newlines or special characters.");
}

struct hello {
    int64_t protocol;
    bool auth, named;
    struct ls_span user, password, name;
};

/* False: the reply is written. */
static bool hello_parse(struct kv_client *client, const struct ls_span *args, size_t argc,
                        struct hello *hello)
{
    struct resp_out out = kv_client_out(client);
    *hello = (struct hello){.protocol = client->protocol};
    if (argc > 1 && !kv_integer_parse(args[1], &hello->protocol)) {
        resp_error(&out, "ERR Protocol version is not an integer or out of range");
        return false;
    }
    if (hello->protocol < 2 || hello->protocol > 3) {
        resp_error(&out, "NOPROTO unsupported protocol version");
        return false;
    }
    for (size_t i = 2; i < argc;) {
        if (kv_text_is(args[i], "auth") && i + 2 < argc) {
            hello->auth = true;
            hello->user = args[i + 1];
            hello->password = args[i + 2];
            i += 3;
        } else if (kv_text_is(args[i], "setname") && i + 1 < argc) {
            hello->named = true;
            hello->name = args[i + 1];
            i += 2;
        } else {
            int bytes = (int)(args[i].bytes < 128 ? args[i].bytes : 128);
            resp_error(&out, "ERR Syntax error in HELLO option '%.*s'", bytes,
                       (const char *)args[i].data);
            return false;
        }
    }
    return true;
}

enum kv_wait kv_run_hello(struct kv_client *client, const struct ls_span *args, size_t argc)
{
    struct hello hello;
    struct resp_out out = kv_client_out(client);
    if (!hello_parse(client, args, argc, &hello)) {
        return KV_WAIT_NONE;
    }
    if (hello.auth && !authenticated_by(client, &hello.user, hello.password)) {
        return KV_WAIT_NONE;
    }
    if (!client->authenticated) {
        resp_error(&out,
                   "NOAUTH HELLO must be called with the client already authenticated, otherwise "
                   "the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the "
                   "client and select the RESP protocol version at the same time");
        return KV_WAIT_NONE;
    }
    if (hello.named && !name_set(client->name, hello.name)) {
        reply_name_refused(&out);
        return KV_WAIT_NONE;
    }
    client->protocol = (int)hello.protocol;
    out = kv_client_out(client);
    resp_map(&out, 7);
    resp_text(&out, "server");
    resp_text(&out, "lockstep-kv");
    resp_text(&out, "version");
    resp_text(&out, KV_REDIS_VERSION);
    resp_text(&out, "proto");
    resp_integer(&out, client->protocol);
    resp_text(&out, "id");
    resp_integer(&out, (int64_t)client->id);
    resp_text(&out, "mode");
    resp_text(&out, "standalone");
    resp_text(&out, "role");
    resp_text(&out, "master"); /* every member takes writes */
    resp_text(&out, "modules");
    resp_array(&out, 0);
    return KV_WAIT_NONE;
}

/* ---- CLIENT ---- */

static void client_line(const struct kv_client *client, struct kv_buffer *out)
{
    char line[512];
    uint64_t now = kv_now_ms();
    int bytes = snprintf(
        line, sizeof line,
        "id=%llu addr=%s laddr=%s fd=%d name=%s age=%llu idle=%llu flags=%s db=0 qbuf=%zu "
        "writes=%u obl=%zu cmd=%s lib-name=%s lib-ver=%s resp=%d\n",
        (unsigned long long)client->id, client->address, client->server->listen, client->descriptor,
        client->name, (unsigned long long)(now - client->since_ms) / 1000,
        (unsigned long long)(now - client->active_ms) / 1000, client->readonly ? "r" : "N",
        kv_buffer_bytes(&client->in), client->writes_count, kv_buffer_bytes(&client->out),
        client->last_command, client->library, client->library_version, client->protocol);
    if (bytes > 0) {
        kv_buffer_append(out, line, strlen(line));
    }
}

static void client_list(struct kv_client *client, bool all)
{
    struct resp_out out = kv_client_out(client);
    struct kv_buffer text = {.limit = KV_OUTPUT_BYTES_MAX};
    for (struct kv_client *one = all ? client->server->clients : client; one != NULL;
         one = all ? one->next : NULL) {
        client_line(one, &text);
    }
    resp_verbatim(&out, kv_buffer_span(&text));
    kv_buffer_free(&text);
}

static void client_setinfo(struct kv_client *client, const struct ls_span *args)
{
    struct resp_out out = kv_client_out(client);
    char *field = kv_text_is(args[2], "lib-name")  ? client->library
                  : kv_text_is(args[2], "lib-ver") ? client->library_version
                                                   : NULL;
    if (field == NULL) {
        int bytes = (int)(args[2].bytes < 128 ? args[2].bytes : 128);
        resp_error(&out, "ERR Unrecognized option '%.*s'", bytes, (const char *)args[2].data);
    } else if (!name_set(field, args[3])) {
        resp_error(&out, "ERR %s cannot contain spaces, newlines or special characters.",
                   field == client->library ? "lib-name" : "lib-ver");
    } else {
        resp_simple(&out, "OK");
    }
}

struct subcommand {
    const char *name;
    size_t argc;
};

/* The subcommand with its number of arguments, or NULL with the reply written. */
static const char *subcommand_find(struct kv_client *client, const char *container,
                                   const struct subcommand *known, size_t known_count, size_t argc)
{
    struct resp_out out = kv_client_out(client);
    struct ls_span name = client->parser.args[1];
    for (size_t i = 0; i < known_count; i++) {
        if (kv_text_is(name, known[i].name)) {
            if (argc == known[i].argc) {
                return known[i].name;
            }
            resp_error(&out, "ERR wrong number of arguments for '%s|%s' command", container,
                       known[i].name);
            return NULL;
        }
    }
    char upper[16];
    size_t length = 0;
    for (; container[length] != '\0' && length + 1 < sizeof upper; length++) {
        upper[length] = (char)(container[length] - 'a' + 'A');
    }
    upper[length] = '\0';
    kv_reply_subcommand(&out, upper, name);
    return NULL;
}

enum kv_wait kv_run_client(struct kv_client *client, const struct ls_span *args, size_t argc)
{
    static const struct subcommand known[] = {{"setname", 3}, {"getname", 2}, {"id", 2},
                                              {"setinfo", 4}, {"list", 2},    {"info", 2}};
    struct resp_out out = kv_client_out(client);
    const char *name =
        subcommand_find(client, "client", known, sizeof known / sizeof known[0], argc);
    if (name == NULL) {
        return KV_WAIT_NONE;
    }
    if (strcmp(name, "setname") == 0) {
        if (name_set(client->name, args[2])) {
            resp_simple(&out, "OK");
        } else {
            reply_name_refused(&out);
        }
    } else if (strcmp(name, "getname") == 0) {
        if (client->name[0] == '\0') {
            resp_null(&out);
        } else {
            resp_text(&out, client->name);
        }
    } else if (strcmp(name, "id") == 0) {
        resp_integer(&out, (int64_t)client->id);
    } else if (strcmp(name, "setinfo") == 0) {
        client_setinfo(client, args);
    } else {
        client_list(client, strcmp(name, "list") == 0);
    }
    return KV_WAIT_NONE;
}

/* ---- CONFIG ---- */

struct setting {
    const char *name;
    char value[LS_ERROR_TEXT_BYTES];
};

enum kv_wait kv_run_config(struct kv_client *client, const struct ls_span *args, size_t argc)
{
    enum { SETTINGS = 8 };
    struct resp_out out = kv_client_out(client);
    const struct kv_server *server = client->server;
    if (kv_text_is(args[1], "get") && argc < 3) {
        resp_error(&out, "ERR wrong number of arguments for 'config|get' command");
        return KV_WAIT_NONE;
    }
    if (!kv_text_is(args[1], "get")) {
        kv_reply_subcommand(&out, "CONFIG", args[1]);
        return KV_WAIT_NONE;
    }
    struct setting settings[SETTINGS] = {
        {"save", ""},       {"appendonly", "yes"},     {"appendfsync", "always"},
        {"databases", "1"}, {"maxmemory", "0"},        {"dir", ""},
        {"maxclients", ""}, {"proto-max-bulk-len", ""}};
    (void)snprintf(settings[5].value, sizeof settings[5].value, "%s", server->directory);
    (void)snprintf(settings[6].value, sizeof settings[6].value, "%u", server->clients_max);
    (void)snprintf(settings[7].value, sizeof settings[7].value, "%u", KV_VALUE_BYTES_MAX);
    bool wanted[SETTINGS] = {false};
    size_t count = 0;
    for (size_t i = 0; i < SETTINGS; i++) {
        struct ls_span name = {settings[i].name, strlen(settings[i].name)};
        for (size_t at = 2; at < argc && !wanted[i]; at++) {
            wanted[i] =
                kv_text_is(args[at], settings[i].name) || kv_pattern_matches(args[at], name);
        }
        count += wanted[i] ? 1 : 0;
    }
    resp_map(&out, count);
    for (size_t i = 0; i < SETTINGS; i++) {
        if (wanted[i]) {
            resp_text(&out, settings[i].name);
            resp_text(&out, settings[i].value);
        }
    }
    return KV_WAIT_NONE;
}

/* ---- COMMAND ---- */

static size_t command_count(void)
{
    size_t data = 0;
    size_t session = 0;
    (void)kv_commands(&data);
    (void)kv_session_commands(&session);
    return data + session;
}

/* All commands by number: data first. */
static const struct kv_command *command_at(size_t at)
{
    size_t data = 0;
    size_t session = 0;
    const struct kv_command *commands_of_data = kv_commands(&data);
    const struct kv_session_command *of_session = kv_session_commands(&session);
    return at < data ? &commands_of_data[at] : &of_session[at - data].info;
}

static const struct kv_command *command_named(struct ls_span name)
{
    const struct kv_command *command = kv_command_find(name);
    const struct kv_session_command *session = kv_session_find(name);
    return command != NULL ? command : (session != NULL ? &session->info : NULL);
}

static void command_info(struct resp_out *out, const struct kv_command *command)
{
    if (command == NULL) {
        resp_null(out);
        return;
    }
    resp_array(out, 10);
    resp_text(out, command->name);
    resp_integer(out, command->arity);
    resp_set(out, 1);
    resp_simple(out, (command->flags & KV_WRITE) != 0  ? "write"
                     : (command->flags & KV_READ) != 0 ? "readonly"
                                                       : "fast");
    resp_integer(out, command->first_key);
    resp_integer(out, command->last_key);
    resp_integer(out, command->key_step);
    resp_set(out, 0);
    resp_array(out, 0);
    resp_array(out, 0);
    resp_array(out, 0);
}

static void command_docs(struct resp_out *out, const struct kv_command *command)
{
    bool session = (command->flags & KV_SERVER) != 0;
    resp_text(out, command->name);
    resp_map(out, 3);
    resp_text(out, "summary");
    resp_text(out, command->summary);
    resp_text(out, "since");
    resp_text(out, "0.1.0");
    resp_text(out, "group");
    resp_text(out, session ? "connection" : "string");
}

static void commands_docs(struct resp_out *out, const struct ls_span *args, size_t argc)
{
    size_t found = 0;
    for (size_t i = 2; i < argc; i++) {
        found += command_named(args[i]) != NULL ? 1 : 0;
    }
    resp_map(out, argc == 2 ? command_count() : found);
    for (size_t i = 0; argc == 2 && i < command_count(); i++) {
        command_docs(out, command_at(i));
    }
    for (size_t i = 2; i < argc; i++) {
        if (command_named(args[i]) != NULL) {
            command_docs(out, command_named(args[i]));
        }
    }
}

enum kv_wait kv_run_command(struct kv_client *client, const struct ls_span *args, size_t argc)
{
    struct resp_out out = kv_client_out(client);
    if (argc == 1 || (argc == 2 && kv_text_is(args[1], "info"))) {
        resp_array(&out, command_count());
        for (size_t i = 0; i < command_count(); i++) {
            command_info(&out, command_at(i));
        }
    } else if (kv_text_is(args[1], "info")) {
        resp_array(&out, argc - 2);
        for (size_t i = 2; i < argc; i++) {
            command_info(&out, command_named(args[i]));
        }
    } else if (kv_text_is(args[1], "docs")) {
        commands_docs(&out, args, argc);
    } else if (kv_text_is(args[1], "count") && argc == 2) {
        resp_integer(&out, (int64_t)command_count());
    } else if (kv_text_is(args[1], "list") && argc == 2) {
        resp_array(&out, command_count());
        for (size_t i = 0; i < command_count(); i++) {
            resp_text(&out, command_at(i)->name);
        }
    } else {
        kv_reply_subcommand(&out, "COMMAND", args[1]);
    }
    return KV_WAIT_NONE;
}
