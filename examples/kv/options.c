/* SPDX-License-Identifier: MIT */
/* The command line: one table of flags, each with its own check and the sentence when it is wrong.
 */
#include "options.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

enum {
    ELECTION_MS_DEFAULT = 300,
    ELECTION_MS_MIN = 20,
    ENTRIES_MAX = 1000000000,
    MILLISECONDS_MAX = 60000
};

static const char help_text[] =
    "usage: lockstep-kv --name NAME --members LIST --group-key FILE --data DIR --redis HOST:PORT\n"
    "       lockstep-kv keygen FILE\n"
    "\n"
    "One member of a replicated key-value service that speaks the protocol of Redis. Start one\n"
    "process for each member; clients may connect to any of them.\n"
    "\n"
    "Who it is\n"
    "  --name NAME            its name, one of --members\n"
    "  --members LIST         all founders: a=HOST:PORT,b=HOST:PORT,...  The address of --name is\n"
    "                         where it listens for the others; \"/observer\" behind an address "
    "makes\n"
    "                         a member that replicates without a vote\n"
    "  --group-key FILE       32 secret bytes, the same on all members; made by keygen\n"
    "\n"
    "Where it keeps what\n"
    "  --data DIR             DIR/log is the replicated log, DIR/state the state, DIR/vault what\n"
    "                         snapshots need; made if missing\n"
    "  --state KIND           rocksdb (default), or memory: rebuilt from a snapshot file and the\n"
    "                         log at each start\n"
    "\n"
    "Clients\n"
    "  --redis HOST:PORT      where Redis clients connect\n"
    "  --redis-password-file FILE\n"
    "                         first line: the password that AUTH asks for\n"
    "  --insecure             allow a --redis address beyond loopback without a password\n"
    "  --clients-max N        connected clients (default 10000)\n"
    "\n"
    "Old entries of the log, and members that were away\n"
    "  --keep-entries N       entries kept for members that were away for a short time (default\n"
    "  --keep-bytes BYTES     100000, 64M, whichever is less); beyond them a snapshot brings a\n"
    "                         member back\n"
    "  --prune-entries N      what is not needed is removed N entries, or so many bytes, at a "
    "time\n"
    "  --prune-bytes BYTES    (default 10000, 16M); 0 entries: never\n"
    "  --lag-entries N        a member that is further behind holds no log back (default 200000,\n"
    "  --lag-bytes BYTES      256M)\n"
    "  --pinned-bytes BYTES   of the log, held by members that lag or fetch, all together\n"
    "                         (default 1G)\n"
    "  --snapshot-entries N   with --state memory: applied between two snapshot files (default\n"
    "                         100000)\n"
    "  --snapshot-rate BYTES  of snapshots, sent in a second, e.g. 32M (default 128M)\n"
    "  --sync-lease-ms T      what a member fetches is kept for it until T after its last\n"
    "                         question (default 30000)\n"
    "\n"
    "Timing\n"
    "  --election-ms T        a follower waits T to 2 T for its leader (default 300)\n"
    "  --heartbeat-ms T       less than half of --election-ms (default a fifth of it)\n"
    "  --bulk-rate BYTES      bytes per second for catching up other members, e.g. 32M\n"
    "                         (default: unlimited)\n"
    "\n"
    "Log\n"
    "  --log-level LEVEL      error, warn, info (default) or debug\n"
    "  --log-file FILE        appended to; default: standard error\n"
    "\n"
    "  --help, --version\n"
    "\n"
    "SIGTERM hands leadership over, closes, and exits with 0. A wrong command line exits with 2, "
    "a\n"
    "failed start with 1.\n";

const char *kv_options_help(void)
{
    return help_text;
}

static bool wrong(char why[LS_ERROR_TEXT_BYTES], const char *format, ...) LS_PRINTF(2, 3);

static bool wrong(char why[LS_ERROR_TEXT_BYTES], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why, LS_ERROR_TEXT_BYTES, format, arguments);
    va_end(arguments);
    return false;
}

static struct ls_span span(const char *text)
{
    return (struct ls_span){text, strlen(text)};
}

bool kv_address_split(const char *address, char *host, char *port)
{
    const char *colon = strrchr(address, ':');
    int64_t number = 0;
    if (colon == NULL || strlen(colon + 1) > 5 || !kv_integer_parse(span(colon + 1), &number) ||
        number < 1 || number > 65535) {
        return false;
    }
    const char *first = address;
    size_t bytes = (size_t)(colon - address);
    if (bytes >= 2 && address[0] == '[' && colon[-1] == ']') {
        first++;
        bytes -= 2;
    } else if (memchr(address, ':', bytes) != NULL) {
        return false; /* an IPv6 address needs brackets */
    }
    if (bytes == 0 || strlen(address) >= LS_ADDRESS_BYTES) {
        return false;
    }
    (void)memcpy(host, first, bytes);
    host[bytes] = '\0';
    (void)memcpy(port, colon + 1, strlen(colon + 1) + 1);
    return true;
}

bool kv_address_is_loopback(const char *address)
{
    char host[LS_ADDRESS_BYTES];
    char port[8];
    struct in_addr v4;
    struct in6_addr v6;
    if (!kv_address_split(address, host, port)) {
        return false;
    }
    if (inet_pton(AF_INET, host, &v4) == 1) {
        return ntohl(v4.s_addr) >> 24 == 127;
    }
    if (inet_pton(AF_INET6, host, &v6) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&v6);
    }
    return strcmp(host, "localhost") == 0;
}

static bool name_is_valid(const char *name)
{
    size_t bytes = strlen(name);
    return bytes > 0 && bytes < LS_NAME_BYTES &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
               bytes;
}

struct range {
    uint32_t least, most;
};

static bool number_read(const char *flag, const char *value, struct range range, uint32_t *out,
                        char why[LS_ERROR_TEXT_BYTES])
{
    int64_t number = 0;
    if (!kv_integer_parse(span(value), &number) || number < range.least || number > range.most) {
        return wrong(why, "%s %s: expected a number from %u to %u", flag, value, range.least,
                     range.most);
    }
    *out = (uint32_t)number;
    return true;
}

/* A number of bytes with an optional K, M or G. */
static bool bytes_read(const char *flag, const char *value, uint64_t *out,
                       char why[LS_ERROR_TEXT_BYTES])
{
    size_t digits = strspn(value, "0123456789");
    int64_t number = 0;
    unsigned shift = 0;
    const char *unit = value + digits;
    bool known = true;
    if (kv_text_is(span(unit), "k")) {
        shift = 10;
    } else if (kv_text_is(span(unit), "m")) {
        shift = 20;
    } else if (kv_text_is(span(unit), "g")) {
        shift = 30;
    } else {
        known = *unit == '\0';
    }
    if (!known || !kv_integer_parse((struct ls_span){value, digits}, &number) || number < 1 ||
        number > INT64_MAX >> shift) {
        return wrong(why, "%s %s: expected bytes per second, like 1000000, 512K or 32M", flag,
                     value);
    }
    *out = (uint64_t)number << shift;
    return true;
}

/* One "name=host:port[/observer]" of `text`, cut in place. */
static bool founder_read(struct kv_options *options, char *text, char why[LS_ERROR_TEXT_BYTES])
{
    char host[LS_ADDRESS_BYTES];
    char port[8];
    char *address = strchr(text, '=');
    if (address == NULL) {
        return wrong(why, "--members: '%s' is not name=host:port", text);
    }
    *address++ = '\0';
    struct ls_founder founder = {text, address, LS_MEMBER_VOTER};
    char *slash = strchr(address, '/');
    if (slash != NULL) {
        *slash++ = '\0';
        if (strcmp(slash, "observer") != 0) {
            return wrong(why, "--members: '%s' behind the address of %s: expected observer", slash,
                         text);
        }
        founder.role = LS_MEMBER_OBSERVER;
    }
    if (!name_is_valid(text)) {
        return wrong(why, "--members: '%s' is no name: expected 1 to %d of A-Z a-z 0-9 . _ -", text,
                     LS_NAME_BYTES - 1);
    }
    if (!kv_address_split(address, host, port)) {
        return wrong(why, "--members: address '%s' of %s: expected host:port", address, text);
    }
    for (size_t i = 0; i < options->founders_count; i++) {
        if (strcmp(options->founders[i].name, text) == 0) {
            return wrong(why, "--members: %s is named twice", text);
        }
        if (strcmp(options->founders[i].address, address) == 0) {
            return wrong(why, "--members: %s and %s have the same address %s",
                         options->founders[i].name, text, address);
        }
    }
    if (options->founders_count == LS_MEMBERS_MAX) {
        return wrong(why, "--members: expected at most %d", LS_MEMBERS_MAX);
    }
    options->founders[options->founders_count++] = founder;
    return true;
}

static bool members_read(struct kv_options *options, const char *list,
                         char why[LS_ERROR_TEXT_BYTES])
{
    size_t voters = 0;
    if (strlen(list) >= sizeof options->texts) {
        return wrong(why, "--members: longer than %zu bytes", sizeof options->texts - 1);
    }
    (void)memcpy(options->texts, list, strlen(list) + 1);
    options->founders_count = 0;
    for (char *at = options->texts; at != NULL;) {
        char *comma = strchr(at, ',');
        if (comma != NULL) {
            *comma++ = '\0';
        }
        if (!founder_read(options, at, why)) {
            return false;
        }
        at = comma;
    }
    for (size_t i = 0; i < options->founders_count; i++) {
        voters += options->founders[i].role == LS_MEMBER_VOTER ? 1 : 0;
    }
    if (voters == 0 || voters > LS_VOTERS_MAX) {
        return wrong(why, "--members: %zu voters, expected 1 to %d", voters, LS_VOTERS_MAX);
    }
    return true;
}

static bool level_read(struct kv_options *options, const char *value, char why[LS_ERROR_TEXT_BYTES])
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(value, names[i]) == 0) {
            options->log_level = (enum ls_trace_level)(LS_TRACE_ERROR + i);
            return true;
        }
    }
    return wrong(why, "--log-level %s: expected error, warn, info or debug", value);
}

static bool state_read(struct kv_options *options, const char *value, char why[LS_ERROR_TEXT_BYTES])
{
    options->state_in_memory = strcmp(value, "memory") == 0;
    if (!options->state_in_memory && strcmp(value, "rocksdb") != 0) {
        return wrong(why, "--state %s: expected rocksdb or memory", value);
    }
    return true;
}

/* A flag whose value is a text that is kept as it is. */
static const char **text_field(struct kv_options *options, const char *flag)
{
    const struct {
        const char *flag;
        const char **field;
    } fields[] = {
        {"--name", &options->name},
        {"--group-key", &options->group_key},
        {"--data", &options->data},
        {"--redis", &options->redis},
        {"--redis-password-file", &options->password_file},
        {"--log-file", &options->log_file},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (strcmp(flag, fields[i].flag) == 0) {
            return fields[i].field;
        }
    }
    return NULL;
}

/* A flag with a value. */
static bool flag_read(struct kv_options *options, const char *flag, const char *value,
                      char why[LS_ERROR_TEXT_BYTES])
{
    const char **text = text_field(options, flag);
    if (text != NULL) {
        *text = value;
        return value[0] != '\0' || wrong(why, "%s: expected a value that is not empty", flag);
    }
    if (strcmp(flag, "--members") == 0) {
        return members_read(options, value, why);
    }
    if (strcmp(flag, "--state") == 0) {
        return state_read(options, value, why);
    }
    if (strcmp(flag, "--log-level") == 0) {
        return level_read(options, value, why);
    }
    if (strcmp(flag, "--election-ms") == 0) {
        return number_read(flag, value, (struct range){ELECTION_MS_MIN, MILLISECONDS_MAX},
                           &options->election_ms, why);
    }
    if (strcmp(flag, "--heartbeat-ms") == 0) {
        return number_read(flag, value, (struct range){1, MILLISECONDS_MAX}, &options->heartbeat_ms,
                           why);
    }
    if (strcmp(flag, "--sync-lease-ms") == 0) {
        return number_read(flag, value, (struct range){1, MILLISECONDS_MAX},
                           &options->sync_lease_ms, why);
    }
    if (strcmp(flag, "--clients-max") == 0) {
        return number_read(flag, value, (struct range){1, KV_CLIENTS_MAX}, &options->clients_max,
                           why);
    }
    const struct {
        const char *flag;
        uint32_t least, *field;
    } counts[] = {{"--keep-entries", 1, &options->keep_entries},
                  {"--prune-entries", 0, &options->prune_entries},
                  {"--lag-entries", 1, &options->lag_entries},
                  {"--snapshot-entries", 1, &options->snapshot_entries}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        if (strcmp(flag, counts[i].flag) == 0) {
            return number_read(flag, value, (struct range){counts[i].least, ENTRIES_MAX},
                               counts[i].field, why);
        }
    }
    const struct {
        const char *flag;
        uint64_t *field;
    } bytes[] = {{"--snapshot-rate", &options->snapshot_bytes_per_s},
                 {"--keep-bytes", &options->keep_bytes},
                 {"--prune-bytes", &options->prune_bytes},
                 {"--lag-bytes", &options->lag_bytes},
                 {"--pinned-bytes", &options->pinned_bytes}};
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
        if (strcmp(flag, bytes[i].flag) == 0) {
            return bytes_read(flag, value, bytes[i].field, why);
        }
    }
    return bytes_read(flag, value, &options->bulk_bytes_per_s, why);
}

static bool flag_takes_value(const char *flag)
{
    static const char *const flags[] = {"--name",
                                        "--members",
                                        "--group-key",
                                        "--data",
                                        "--redis",
                                        "--state",
                                        "--log-level",
                                        "--log-file",
                                        "--election-ms",
                                        "--bulk-rate",
                                        "--clients-max",
                                        "--heartbeat-ms",
                                        "--redis-password-file",
                                        "--keep-entries",
                                        "--keep-bytes",
                                        "--prune-bytes",
                                        "--lag-bytes",
                                        "--pinned-bytes",
                                        "--prune-entries",
                                        "--lag-entries",
                                        "--snapshot-entries",
                                        "--snapshot-rate",
                                        "--sync-lease-ms"};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(flag, flags[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* What only the whole command line can tell. */
static bool options_check(struct kv_options *options, char why[LS_ERROR_TEXT_BYTES])
{
    char host[LS_ADDRESS_BYTES];
    char port[8];
    const struct {
        const char *flag, *example;
        bool given;
    } required[] = {
        {"--name", "a", options->name != NULL},
        {"--members", "a=127.0.0.1:7101,b=127.0.0.1:7102,c=127.0.0.1:7103",
         options->founders_count > 0},
        {"--group-key", "FILE (lockstep-kv keygen FILE makes one)", options->group_key != NULL},
        {"--data", "DIR", options->data != NULL},
        {"--redis", "127.0.0.1:6401", options->redis != NULL},
    };
    for (size_t i = 0; i < sizeof required / sizeof required[0]; i++) {
        if (!required[i].given) {
            return wrong(why, "%s is missing: expected %s %s", required[i].flag, required[i].flag,
                         required[i].example);
        }
    }
    for (size_t i = 0; i < options->founders_count; i++) {
        if (strcmp(options->founders[i].name, options->name) == 0) {
            options->address = options->founders[i].address;
        }
    }
    if (options->address == NULL) {
        return wrong(why, "--name %s: expected one of the names in --members", options->name);
    }
    if (!kv_address_split(options->redis, host, port)) {
        return wrong(why, "--redis %s: expected host:port", options->redis);
    }
    if (!kv_address_is_loopback(options->redis) && options->password_file == NULL &&
        !options->insecure) {
        return wrong(why,
                     "--redis %s is not loopback: expected --redis-password-file FILE, or "
                     "--insecure",
                     options->redis);
    }
    if (options->heartbeat_ms == 0) {
        options->heartbeat_ms = options->election_ms / 5;
    }
    if (options->heartbeat_ms * 2 >= options->election_ms) {
        return wrong(why, "--heartbeat-ms %u: expected less than half of --election-ms %u",
                     options->heartbeat_ms, options->election_ms);
    }
    return true;
}

bool kv_options_parse(struct kv_options *options, int argc, char **argv,
                      char why[LS_ERROR_TEXT_BYTES])
{
    *options = (struct kv_options){.election_ms = ELECTION_MS_DEFAULT,
                                   .clients_max = KV_CLIENTS_MAX,
                                   .keep_entries = LS_REPLAY_KEEP_ENTRIES,
                                   .prune_entries = LS_PRUNE_ENTRIES_DEFAULT,
                                   .lag_entries = LS_LAG_ENTRIES_DEFAULT,
                                   .prune_bytes = LS_PRUNE_BYTES_DEFAULT,
                                   .lag_bytes = LS_LAG_BYTES_DEFAULT,
                                   .pinned_bytes = LS_LOG_PINNED_BYTES_MAX,
                                   .snapshot_entries = LS_SNAPSHOT_ENTRIES_DEFAULT,
                                   .sync_lease_ms = LS_SNAPSHOT_LEASE_MS,
                                   .log_level = LS_TRACE_INFO};
    if (argc > 1 && strcmp(argv[1], "keygen") == 0) {
        if (argc == 3 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
            options->help = true;
            return true;
        }
        bool file = argc == 3 && argv[2][0] != '-' && argv[2][0] != '\0';
        options->keygen = file ? argv[2] : NULL;
        return file || wrong(why, "keygen: expected one FILE to write the key to");
    }
    for (int i = 1; i < argc; i++) {
        char flag[64];
        const char *value = strchr(argv[i], '=');
        size_t bytes = value == NULL ? strlen(argv[i]) : (size_t)(value - argv[i]);
        (void)snprintf(flag, sizeof flag, "%.*s", (int)(bytes < 60 ? bytes : 60), argv[i]);
        value = value == NULL ? NULL : value + 1;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            options->help = true;
            return true;
        }
        if (strcmp(argv[i], "--version") == 0) {
            options->version = true;
            return true;
        }
        if (strcmp(argv[i], "--insecure") == 0) {
            options->insecure = true;
            continue;
        }
        if (!flag_takes_value(flag)) {
            return wrong(why, "unknown argument '%s': see --help", argv[i]);
        }
        if (value == NULL && i + 1 == argc) {
            return wrong(why, "%s: expected a value behind it", flag);
        }
        if (!flag_read(options, flag, value != NULL ? value : argv[++i], why)) {
            return false;
        }
    }
    return options_check(options, why);
}
