/* SPDX-License-Identifier: MIT */
/*
 * The factory of the snapshot strategy. What must be equal on all members is the strategy with the
 * format of messages and chunks; limits, rates and timeouts are each member's own.
 */
#include "snapshot_sync.h"

/* the pace of commits is looked at this often; a longer silence tells nothing of now */
#define LOOK_US     50000u
#define LOOK_US_MAX 1000000u

static const char signature[] = "lockstep-snapshot/1";

static uint64_t or_default(uint64_t value, uint64_t otherwise)
{
    return value != 0 ? value : otherwise;
}

struct ls__snap_limits ls__snap_limits(const struct ls_snapshot_options *options)
{
    static const struct ls_snapshot_options defaults = {.size = sizeof defaults};
    const struct ls_snapshot_options *o = options != NULL ? options : &defaults;
    return (struct ls__snap_limits){
        .window = (uint32_t)or_default(o->window, LS_SNAPSHOT_WINDOW),
        .timeout_us = 1000u * or_default(o->timeout_ms, LS_SNAPSHOT_TIMEOUT_MS),
        .lease_us = 1000u * or_default(o->lease_ms, LS_SNAPSHOT_LEASE_MS),
        .marker_us = 1000u * or_default(o->marker_ms, LS_SNAPSHOT_MARKER_MS),
        .rate_bytes = or_default(o->rate_bytes, LS_SNAPSHOT_RATE_BYTES_DEFAULT),
        .buffer_bytes_max = (size_t)or_default(o->buffer_bytes_max, LS_SNAPSHOT_BUFFER_BYTES_MAX),
    };
}

void ls__snap_load_look(struct ls__snap_load *load, ls_index commit, uint64_t now)
{
    bool first = load->looked_us == 0;
    uint64_t elapsed = now - load->looked_us;
    if (!first && elapsed < LOOK_US) {
        return;
    }
    load->busy = !first && elapsed < LOOK_US_MAX && commit > load->looked &&
                 (commit - load->looked) * 1000000u / elapsed >= LS_SNAPSHOT_BUSY_ENTRIES;
    load->looked_us = now;
    load->looked = commit;
}

static const char *usable(void *self, const struct ls_sync_facts *facts)
{
    (void)self;
    if (!facts->machine_snapshots) {
        return "the machine takes no snapshots, or there is no vault for them";
    }
    return facts->bonded == 0 ? "no peer is bonded" : NULL;
}

enum ls_status ls_snapshot_sync(struct ls_snapshot_options *options, struct ls_statesync *out)
{
    if (options != NULL &&
        (options->size != sizeof *options || options->window > LS_SNAPSHOT_WINDOW_MAX ||
         (options->buffer_bytes_max != 0 && options->buffer_bytes_max < LS_ITEM_BYTES_MAX))) {
        return LS_ERR_INVALID;
    }
    *out = (struct ls_statesync){
        .size = sizeof *out,
        .self = options,
        .name = "snapshot",
        .signature = {signature, sizeof signature - 1},
        .usable = usable,
        .create_provider = ls__snap_provider_create,
        .create_session = ls__snap_session_create,
        .beyond_log = true,
    };
    return LS_OK;
}
