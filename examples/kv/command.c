/* SPDX-License-Identifier: MIT */
/* The table of data commands, and writes as log entries. */
#include "command.h"

#include <stdlib.h>

#include "kv_limits.h"
#include "text.h"

enum { ENTRY_FORMAT = 1, LENGTH_BYTES_MAX = 5 };

/* The most frequent first. An opcode is for ever: entries of old logs carry it. */
static const struct kv_command commands[] = {
    {"get", 2, KV_READ, 0, kv_run_get, 1, 1, 1, "Returns the string value of a key."},
    {"set", -3, KV_WRITE, 1, kv_run_set, 1, 1, 1, "Sets the string value of a key."},
    {"mget", -2, KV_READ, 0, kv_run_mget, 1, -1, 1, "Returns the values of several keys at once."},
    {"mset", -3, KV_WRITE, 2, kv_run_mset, 1, -1, 2, "Sets several keys in one entry."},
    {"incr", 2, KV_WRITE, 3, kv_run_incr, 1, 1, 1, "Adds one to the integer value of a key."},
    {"incrby", 3, KV_WRITE, 4, kv_run_incrby, 1, 1, 1, "Adds to the integer value of a key."},
    {"decr", 2, KV_WRITE, 5, kv_run_decr, 1, 1, 1, "Subtracts one from the value of a key."},
    {"decrby", 3, KV_WRITE, 6, kv_run_decrby, 1, 1, 1, "Subtracts from the value of a key."},
    {"del", -2, KV_WRITE, 7, kv_run_del, 1, -1, 1, "Deletes keys; returns how many there were."},
    {"exists", -2, KV_READ, 0, kv_run_exists, 1, -1, 1, "Returns how many of the keys exist."},
    {"setnx", 3, KV_WRITE, 8, kv_run_setnx, 1, 1, 1, "Sets a key that does not exist."},
    {"getset", 3, KV_WRITE, 9, kv_run_getset, 1, 1, 1, "Sets a key and returns its old value."},
    {"append", 3, KV_WRITE, 10, kv_run_append, 1, 1, 1, "Appends to the value of a key."},
    {"strlen", 2, KV_READ, 0, kv_run_strlen, 1, 1, 1, "Returns the length of a value."},
    {"cas", 4, KV_WRITE, 11, kv_run_cas, 1, 1, 1,
     "CAS key expected new: sets the key if its value is as expected; 1 or 0."},
    {"scan", -2, KV_READ, 0, kv_run_scan, 0, 0, 0,
     "Iterates over the keys; the cursor is valid on every member."},
    {"dbsize", 1, KV_READ, 0, kv_run_dbsize, 0, 0, 0, "Returns the number of keys."},
    {"flushall", -1, KV_WRITE, 12, kv_run_flushall, 0, 0, 0, "Removes all keys."},
};

const struct kv_command *kv_commands(size_t *count)
{
    *count = sizeof commands / sizeof commands[0];
    return commands;
}

const struct kv_command *kv_command_find(struct ls_span name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (kv_text_is(name, commands[i].name)) {
            return &commands[i];
        }
    }
    return NULL;
}

bool kv_command_arity_fits(const struct kv_command *command, size_t argc)
{
    return command->arity >= 0 ? argc == (size_t)command->arity : argc >= (size_t)-command->arity;
}

bool kv_command_keys_fit(const struct kv_command *command, const struct ls_span *args, size_t argc)
{
    size_t last = command->last_key < 0 ? argc - 1 : (size_t)command->last_key;
    for (size_t i = (size_t)command->first_key; command->key_step > 0 && i <= last && i < argc;
         i += (size_t)command->key_step) {
        if (args[i].bytes > KV_KEY_BYTES_MAX) {
            return false;
        }
    }
    return true;
}

void kv_reply_key_too_long(struct resp_out *out)
{
    resp_error(out, "ERR a key is longer than %u bytes", KV_KEY_BYTES_MAX);
}

void kv_reply_arity(struct resp_out *out, const char *name)
{
    resp_error(out, "ERR wrong number of arguments for '%s' command", name);
}

void kv_reply_syntax(struct resp_out *out)
{
    resp_error(out, "ERR syntax error");
}

void kv_reply_not_integer(struct resp_out *out)
{
    resp_error(out, "ERR value is not an integer or out of range");
}

void kv_entry_encode(struct kv_buffer *buffer, const struct kv_command *command,
                     const struct ls_span *args, size_t argc)
{
    const uint8_t head[2] = {ENTRY_FORMAT, command->opcode};
    kv_buffer_append(buffer, head, sizeof head);
    for (size_t i = 1; i < argc; i++) {
        uint8_t length[LENGTH_BYTES_MAX];
        size_t bytes = 0;
        size_t rest = args[i].bytes;
        LS_ASSERT(rest <= UINT32_MAX);
        while (rest >= 0x80) {
            length[bytes++] = (uint8_t)(rest | 0x80);
            rest >>= 7;
        }
        length[bytes++] = (uint8_t)rest;
        kv_buffer_append(buffer, length, bytes);
        kv_buffer_append(buffer, args[i].data, args[i].bytes);
    }
}

void kv_entry_free(struct kv_entry *entry)
{
    free(entry->args);
    *entry = (struct kv_entry){0};
}

static bool entry_add(struct kv_entry *entry, struct ls_span argument)
{
    if (entry->argc == entry->capacity) {
        size_t capacity = entry->capacity == 0 ? 16 : entry->capacity * 2;
        struct ls_span *args = realloc(entry->args, capacity * sizeof *args);
        if (args == NULL) {
            return false;
        }
        entry->args = args;
        entry->capacity = capacity;
    }
    entry->args[entry->argc++] = argument;
    return true;
}

/* A length at *at, which moves behind it. False: cut, or longer than what is left. */
static bool length_decode(struct ls_span bytes, size_t *at, size_t *length)
{
    const uint8_t *data = bytes.data;
    uint64_t number = 0;
    for (unsigned i = 0; i < LENGTH_BYTES_MAX && *at < bytes.bytes; i++) {
        uint8_t byte = data[(*at)++];
        number |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *length = (size_t)number;
            return number <= bytes.bytes - *at;
        }
    }
    return false;
}

static const struct kv_command *command_of(uint8_t opcode)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (commands[i].opcode == opcode && (commands[i].flags & KV_WRITE) != 0) {
            return &commands[i];
        }
    }
    return NULL;
}

struct ls_span kv_entry_key(struct ls_span bytes)
{
    size_t at = 2;
    size_t length = 0;
    if (bytes.bytes < at || !length_decode(bytes, &at, &length)) {
        return (struct ls_span){NULL, 0};
    }
    return (struct ls_span){(const uint8_t *)bytes.data + at, length};
}

enum ls_status kv_entry_decode(struct kv_entry *entry, struct ls_span bytes)
{
    const uint8_t *data = bytes.data;
    entry->argc = 0;
    if (bytes.bytes < 2 || data[0] != ENTRY_FORMAT) {
        return LS_ERR_PROTOCOL;
    }
    entry->command = command_of(data[1]);
    if (entry->command == NULL) {
        return LS_ERR_PROTOCOL;
    }
    if (!entry_add(entry, (struct ls_span){entry->command->name, strlen(entry->command->name)})) {
        return LS_ERR_NO_MEMORY;
    }
    for (size_t at = 2; at < bytes.bytes;) {
        size_t length = 0;
        if (!length_decode(bytes, &at, &length)) {
            return LS_ERR_PROTOCOL;
        }
        if (!entry_add(entry, (struct ls_span){data + at, length})) {
            return LS_ERR_NO_MEMORY;
        }
        at += length;
    }
    return kv_command_arity_fits(entry->command, entry->argc) ? LS_OK : LS_ERR_PROTOCOL;
}
