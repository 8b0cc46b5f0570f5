/* SPDX-License-Identifier: MIT */
/*
 * The data commands: their table, their meaning over a store, and how a write looks as a log entry.
 * Semantics and error texts are those of Redis 7; CAS is ours.
 */
#ifndef KV_COMMAND_H
#define KV_COMMAND_H

#include "resp.h"
#include "store.h"

enum kv_command_flags {
    KV_WRITE = 1,  /* changes data: becomes a log entry */
    KV_READ = 2,   /* reads data */
    KV_SERVER = 4, /* concerns the connection or this member only */
    KV_OPEN = 8    /* allowed before AUTH */
};

/** One command that runs: args[0] is its name. The reply goes to `out`. */
struct kv_call {
    const struct ls_span *args;
    size_t argc;
    const struct kv_store *store;
    struct resp_out *out;
};

/** Writes exactly one reply. A status other than OK is a fault of the store, not of the command. */
typedef enum ls_status (*kv_handler)(struct kv_call *call);

struct kv_command {
    const char *name; /* lower case */
    int arity;        /* arguments with the name; negative: at least so many */
    unsigned flags;
    uint8_t opcode; /* of writes, in log entries: never reused */
    kv_handler run; /* NULL: KV_SERVER */
    int first_key, last_key, key_step;
    const char *summary;
};

/** The data command called `name` in any case, or NULL. */
const struct kv_command *kv_command_find(struct ls_span name);
/** All of them. */
const struct kv_command *kv_commands(size_t *count);

bool kv_command_arity_fits(const struct kv_command *command, size_t argc);
/** False: a key is too long to be stored. */
bool kv_command_keys_fit(const struct kv_command *command, const struct ls_span *args, size_t argc);
void kv_reply_key_too_long(struct resp_out *out);
void kv_reply_arity(struct resp_out *out, const char *name);
void kv_reply_syntax(struct resp_out *out);
void kv_reply_not_integer(struct resp_out *out);

/*
 * A log entry: format (1 byte, 1), opcode (1 byte), then each argument but the name as length
 * (LEB128) and bytes, up to the end of the entry.
 */

/** Appends the entry of one write command. */
void kv_entry_encode(struct kv_buffer *buffer, const struct kv_command *command,
                     const struct ls_span *args, size_t argc);

/** Arguments of decoded entries; reused, released with kv_entry_free. Zero it first. */
struct kv_entry {
    const struct kv_command *command;
    struct ls_span *args; /* args[0] is the name; the rest borrowed from the entry */
    size_t argc, capacity;
};
void kv_entry_free(struct kv_entry *entry);
/** The first argument of an entry, which is a key; empty when there is none. */
struct ls_span kv_entry_key(struct ls_span bytes);
/** errors LS_ERR_PROTOCOL (not an entry of this program), LS_ERR_NO_MEMORY */
LS_NODISCARD enum ls_status kv_entry_decode(struct kv_entry *entry, struct ls_span bytes);

enum ls_status kv_run_append(struct kv_call *call);
enum ls_status kv_run_cas(struct kv_call *call);
enum ls_status kv_run_dbsize(struct kv_call *call);
enum ls_status kv_run_decr(struct kv_call *call);
enum ls_status kv_run_decrby(struct kv_call *call);
enum ls_status kv_run_del(struct kv_call *call);
enum ls_status kv_run_exists(struct kv_call *call);
enum ls_status kv_run_flushall(struct kv_call *call);
enum ls_status kv_run_get(struct kv_call *call);
enum ls_status kv_run_getset(struct kv_call *call);
enum ls_status kv_run_incr(struct kv_call *call);
enum ls_status kv_run_incrby(struct kv_call *call);
enum ls_status kv_run_mget(struct kv_call *call);
enum ls_status kv_run_mset(struct kv_call *call);
enum ls_status kv_run_scan(struct kv_call *call);
enum ls_status kv_run_set(struct kv_call *call);
enum ls_status kv_run_setnx(struct kv_call *call);
enum ls_status kv_run_strlen(struct kv_call *call);

#endif
