/* SPDX-License-Identifier: MIT */
/*
 * The factory of log replay. What must be equal on all members, the strategy and its message
 * format, is in the signature; limits and timeouts are each member's own.
 */
#include "log_replay.h"

static const char signature[] = "lockstep-log-replay/1";

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
    return value != 0 ? value : otherwise;
}

struct ls__replay_limits ls__replay_limits(const struct ls_log_replay_options *options)
{
    static const struct ls_log_replay_options defaults = {.size = sizeof defaults};
    const struct ls_log_replay_options *o = options != NULL ? options : &defaults;
    return (struct ls__replay_limits){
        .entries_max = (uint32_t)or_default(o->entries_max, LS_REPLAY_ENTRIES_MAX),
        .window = (uint32_t)or_default(o->window, LS_REPLAY_WINDOW),
        .timeout_us = 1000u * or_default(o->timeout_ms, LS_REPLAY_TIMEOUT_MS),
        .lease_us = 1000u * or_default(o->lease_ms, LS_REPLAY_LEASE_MS),
        .bytes_max = (size_t)or_default(o->bytes_max, LS_REPLAY_BYTES_MAX),
        .buffer_bytes_max = (size_t)or_default(o->buffer_bytes_max, LS_REPLAY_BUFFER_BYTES_MAX),
        .keep_entries = or_default(o->keep_entries, LS_REPLAY_KEEP_ENTRIES),
        .keep_bytes = or_default(o->keep_bytes, LS_REPLAY_KEEP_BYTES),
    };
}

static const char *usable(void *self, const struct ls_sync_facts *facts)
{
    (void)self;
    return facts->bonded == 0 ? "no peer is bonded" : NULL;
}

enum ls_status ls_log_replay(struct ls_log_replay_options *options, struct ls_statesync *out)
{
    if (options != NULL &&
        (options->size != sizeof *options || options->entries_max > LS_REPLAY_ENTRIES_MAX ||
         options->bytes_max > LS_REPLAY_BYTES_MAX || options->window > LS_REPLAY_WINDOW_MAX)) {
        return LS_ERR_INVALID;
    }
    *out = (struct ls_statesync){
        .size = sizeof *out,
        .self = options,
        .name = "log replay",
        .signature = {signature, sizeof signature - 1},
        .usable = usable,
        .create_provider = ls__replay_provider_create,
        .create_session = ls__replay_session_create,
    };
    return LS_OK;
}
