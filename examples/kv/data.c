/* SPDX-License-Identifier: MIT */
/*
 * What each data command does. Writes run on every member in the order of the log: they depend on
 * the store and their arguments only. A status other than OK is the store's fault.
 */
#include <stdio.h>
#include <stdlib.h>

#include "command.h"
#include "kv_limits.h"
#include "text.h"

static enum ls_status store_get(const struct kv_call *call, struct ls_span key,
                                struct ls_span *value)
{
    return call->store->get(call->store->self, key, value);
}

static enum ls_status store_put(const struct kv_call *call, struct ls_span key,
                                struct ls_span value)
{
    return call->store->put(call->store->self, key, value);
}

/* LS_OK with *present, instead of LS_ERR_NOT_FOUND. */
static enum ls_status store_look(const struct kv_call *call, struct ls_span key,
                                 struct ls_span *value, bool *present)
{
    enum ls_status status = store_get(call, key, value);
    *present = status == LS_OK;
    return status == LS_ERR_NOT_FOUND ? LS_OK : status;
}

static void reply_value(const struct kv_call *call, bool present, struct ls_span value)
{
    if (present) {
        resp_bulk(call->out, value);
    } else {
        resp_null(call->out);
    }
}

enum ls_status kv_run_get(struct kv_call *call)
{
    struct ls_span value = {0};
    bool present = false;
    enum ls_status status = store_look(call, call->args[1], &value, &present);
    if (status == LS_OK) {
        reply_value(call, present, value);
    }
    return status;
}

enum ls_status kv_run_mget(struct kv_call *call)
{
    resp_array(call->out, call->argc - 1);
    for (size_t i = 1; i < call->argc; i++) {
        struct ls_span value = {0};
        bool present = false;
        enum ls_status status = store_look(call, call->args[i], &value, &present);
        if (status != LS_OK) {
            return status;
        }
        reply_value(call, present, value);
    }
    return LS_OK;
}

enum ls_status kv_run_exists(struct kv_call *call)
{
    int64_t found = 0;
    for (size_t i = 1; i < call->argc; i++) {
        struct ls_span value = {0};
        bool present = false;
        enum ls_status status = store_look(call, call->args[i], &value, &present);
        if (status != LS_OK) {
            return status;
        }
        found += present ? 1 : 0;
    }
    resp_integer(call->out, found);
    return LS_OK;
}

enum ls_status kv_run_strlen(struct kv_call *call)
{
    struct ls_span value = {0};
    bool present = false;
    enum ls_status status = store_look(call, call->args[1], &value, &present);
    if (status == LS_OK) {
        resp_integer(call->out, present ? (int64_t)value.bytes : 0);
    }
    return status;
}

enum ls_status kv_run_dbsize(struct kv_call *call)
{
    resp_integer(call->out, (int64_t)call->store->count(call->store->self));
    return LS_OK;
}

struct set_options {
    bool if_absent, if_present, reply_old;
};

static bool set_options_parse(const struct kv_call *call, struct set_options *options)
{
    *options = (struct set_options){0};
    for (size_t i = 3; i < call->argc; i++) {
        if (kv_text_is(call->args[i], "nx") && !options->if_present) {
            options->if_absent = true;
        } else if (kv_text_is(call->args[i], "xx") && !options->if_absent) {
            options->if_present = true;
        } else if (kv_text_is(call->args[i], "get")) {
            options->reply_old = true;
        } else {
            return false;
        }
    }
    return true;
}

enum ls_status kv_run_set(struct kv_call *call)
{
    struct set_options options;
    if (!set_options_parse(call, &options)) {
        kv_reply_syntax(call->out);
        return LS_OK;
    }
    bool present = false;
    struct ls_span old = {0};
    if (options.if_absent || options.if_present || options.reply_old) {
        enum ls_status status = store_look(call, call->args[1], &old, &present);
        if (status != LS_OK) {
            return status;
        }
    }
    if (options.reply_old) {
        reply_value(call, present, old); /* before the put, which ends the loan of `old` */
    }
    if ((options.if_absent && present) || (options.if_present && !present)) {
        if (!options.reply_old) {
            resp_null(call->out);
        }
        return LS_OK;
    }
    if (!options.reply_old) {
        resp_simple(call->out, "OK");
    }
    return store_put(call, call->args[1], call->args[2]);
}

enum ls_status kv_run_setnx(struct kv_call *call)
{
    struct ls_span old = {0};
    bool present = false;
    enum ls_status status = store_look(call, call->args[1], &old, &present);
    if (status != LS_OK) {
        return status;
    }
    resp_integer(call->out, present ? 0 : 1);
    return present ? LS_OK : store_put(call, call->args[1], call->args[2]);
}

enum ls_status kv_run_getset(struct kv_call *call)
{
    struct ls_span old = {0};
    bool present = false;
    enum ls_status status = store_look(call, call->args[1], &old, &present);
    if (status != LS_OK) {
        return status;
    }
    reply_value(call, present, old);
    return store_put(call, call->args[1], call->args[2]);
}

enum ls_status kv_run_mset(struct kv_call *call)
{
    if (call->argc % 2 == 0) {
        kv_reply_arity(call->out, "mset");
        return LS_OK;
    }
    for (size_t i = 1; i < call->argc; i += 2) {
        enum ls_status status = store_put(call, call->args[i], call->args[i + 1]);
        if (status != LS_OK) {
            return status;
        }
    }
    resp_simple(call->out, "OK");
    return LS_OK;
}

enum ls_status kv_run_del(struct kv_call *call)
{
    int64_t removed = 0;
    for (size_t i = 1; i < call->argc; i++) {
        enum ls_status status = call->store->remove(call->store->self, call->args[i]);
        if (status != LS_OK && status != LS_ERR_NOT_FOUND) {
            return status;
        }
        removed += status == LS_OK ? 1 : 0;
    }
    resp_integer(call->out, removed);
    return LS_OK;
}

static enum ls_status add(struct kv_call *call, int64_t amount)
{
    struct ls_span old = {0};
    bool present = false;
    int64_t number = 0;
    enum ls_status status = store_look(call, call->args[1], &old, &present);
    if (status != LS_OK) {
        return status;
    }
    if (present && !kv_integer_parse(old, &number)) {
        kv_reply_not_integer(call->out);
        return LS_OK;
    }
    if (amount > 0 ? number > INT64_MAX - amount : number < INT64_MIN - amount) {
        resp_error(call->out, "ERR increment or decrement would overflow");
        return LS_OK;
    }
    number += amount;
    char text[KV_INTEGER_BYTES];
    size_t bytes = kv_integer_print(number, text);
    resp_integer(call->out, number);
    return store_put(call, call->args[1], (struct ls_span){text, bytes});
}

enum ls_status kv_run_incr(struct kv_call *call)
{
    return add(call, 1);
}

enum ls_status kv_run_decr(struct kv_call *call)
{
    return add(call, -1);
}

enum ls_status kv_run_incrby(struct kv_call *call)
{
    int64_t amount = 0;
    if (!kv_integer_parse(call->args[2], &amount)) {
        kv_reply_not_integer(call->out);
        return LS_OK;
    }
    return add(call, amount);
}

enum ls_status kv_run_decrby(struct kv_call *call)
{
    int64_t amount = 0;
    if (!kv_integer_parse(call->args[2], &amount)) {
        kv_reply_not_integer(call->out);
        return LS_OK;
    }
    if (amount == INT64_MIN) {
        resp_error(call->out, "ERR decrement would overflow");
        return LS_OK;
    }
    return add(call, -amount);
}

enum ls_status kv_run_append(struct kv_call *call)
{
    struct ls_span old = {0};
    bool present = false;
    struct ls_span more = call->args[2];
    enum ls_status status = store_look(call, call->args[1], &old, &present);
    if (status != LS_OK) {
        return status;
    }
    size_t bytes = (present ? old.bytes : 0) + more.bytes;
    if (present && bytes > KV_VALUE_BYTES_MAX) {
        resp_error(call->out, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        return LS_OK;
    }
    struct kv_buffer whole = {0};
    if (present) {
        kv_buffer_append(&whole, old.data, old.bytes);
    }
    kv_buffer_append(&whole, more.data, more.bytes);
    status =
        whole.failed ? LS_ERR_NO_MEMORY : store_put(call, call->args[1], kv_buffer_span(&whole));
    kv_buffer_free(&whole);
    resp_integer(call->out, (int64_t)bytes);
    return status;
}

enum ls_status kv_run_cas(struct kv_call *call)
{
    struct ls_span old = {0};
    bool present = false;
    struct ls_span expected = call->args[2];
    enum ls_status status = store_look(call, call->args[1], &old, &present);
    if (status != LS_OK) {
        return status;
    }
    bool equal = present && old.bytes == expected.bytes &&
                 (old.bytes == 0 || memcmp(old.data, expected.data, old.bytes) == 0);
    resp_integer(call->out, equal ? 1 : 0);
    return equal ? store_put(call, call->args[1], call->args[3]) : LS_OK;
}

enum ls_status kv_run_flushall(struct kv_call *call)
{
    bool known = call->argc == 1 || (call->argc == 2 && (kv_text_is(call->args[1], "sync") ||
                                                         kv_text_is(call->args[1], "async")));
    if (!known) {
        kv_reply_syntax(call->out);
        return LS_OK;
    }
    resp_simple(call->out, "OK");
    return call->store->clear(call->store->self);
}

/* The keys of one SCAN that match, as bulk strings. */
struct scan_result {
    struct ls_span pattern;
    bool filtered, nothing;
    size_t count;
    struct kv_buffer keys;
};

static void scan_visit(void *arg, struct ls_span key)
{
    struct scan_result *result = arg;
    if (result->nothing || (result->filtered && !kv_pattern_matches(result->pattern, key))) {
        return;
    }
    struct resp_out out = {&result->keys, 2};
    resp_bulk(&out, key);
    result->count++;
}

/* Options from args[2] on. False: the reply is written. */
static bool scan_options_parse(struct kv_call *call, struct scan_result *result, uint32_t *keys)
{
    for (size_t i = 2; i < call->argc; i += 2) {
        int64_t number = 0;
        if (i + 1 == call->argc) {
            kv_reply_syntax(call->out);
            return false;
        }
        struct ls_span value = call->args[i + 1];
        if (kv_text_is(call->args[i], "count")) {
            if (!kv_integer_parse(value, &number)) {
                kv_reply_not_integer(call->out);
                return false;
            }
            if (number < 1) {
                kv_reply_syntax(call->out);
                return false;
            }
            *keys = number > KV_SCAN_COUNT_MAX ? KV_SCAN_COUNT_MAX : (uint32_t)number;
        } else if (kv_text_is(call->args[i], "match")) {
            result->pattern = value;
            result->filtered = true;
        } else if (kv_text_is(call->args[i], "type")) {
            result->nothing = !kv_text_is(value, "string");
        } else {
            kv_reply_syntax(call->out);
            return false;
        }
    }
    return true;
}

enum ls_status kv_run_scan(struct kv_call *call)
{
    int64_t cursor = 0;
    if (!kv_integer_parse(call->args[1], &cursor) || cursor < 0) {
        resp_error(call->out, "ERR invalid cursor");
        return LS_OK;
    }
    struct scan_result result = {.keys = {.limit = KV_OUTPUT_BYTES_MAX}};
    uint32_t keys = KV_SCAN_COUNT_DEFAULT;
    if (!scan_options_parse(call, &result, &keys)) {
        return LS_OK;
    }
    uint64_t next = 0;
    enum ls_status status =
        call->store->scan(call->store->self, (uint64_t)cursor, &next, keys, scan_visit, &result);
    if (status == LS_OK) {
        char text[KV_INTEGER_BYTES];
        size_t bytes = kv_integer_print((int64_t)next, text);
        resp_array(call->out, 2);
        resp_bulk(call->out, (struct ls_span){text, bytes});
        resp_array(call->out, result.count);
        struct ls_span found = kv_buffer_span(&result.keys);
        kv_buffer_append(call->out->buffer, found.data, found.bytes);
        call->out->buffer->failed = call->out->buffer->failed || result.keys.failed;
    }
    kv_buffer_free(&result.keys);
    return status;
}
