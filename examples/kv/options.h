/* SPDX-License-Identifier: MIT */
/* The command line of lockstep-kv. Pure but for reading the password file. */
#ifndef KV_OPTIONS_H
#define KV_OPTIONS_H

#include <lockstep/env.h>
#include <lockstep/group.h>

#include "kv_limits.h"

struct kv_options {
    const char *keygen; /* the file of `keygen FILE`; then nothing else is set */
    bool help, version;

    const char *name;
    struct ls_founder founders[LS_MEMBERS_MAX]; /* texts point into `texts` */
    size_t founders_count;
    const char *address; /* the founder's that has our name */
    const char *group_key, *data, *redis;
    bool state_in_memory, insecure;
    const char *password_file;
    uint32_t election_ms, heartbeat_ms, clients_max;
    uint64_t bulk_bytes_per_s; /* 0: unlimited */
    uint32_t keep_entries, prune_entries, lag_entries, snapshot_entries;
    uint32_t sync_lease_ms;
    uint64_t snapshot_bytes_per_s;                 /* 0: the library's default */
    uint64_t keep_bytes;                           /* 0: the library's default */
    uint64_t prune_bytes, lag_bytes, pinned_bytes; /* 0: no such bound */
    enum ls_trace_level log_level;
    const char *log_file; /* NULL: standard error */

    char texts[LS_MEMBERS_MAX * (LS_NAME_BYTES + LS_ADDRESS_BYTES)];
};

/**
 * Reads the command line. Strings of argv are borrowed for the life of the options.
 *
 * why      out: one line that says what is wrong and what is expected
 * returns  false: see why
 */
bool kv_options_parse(struct kv_options *options, int argc, char **argv,
                      char why[LS_ERROR_TEXT_BYTES]);

/** What --help prints. */
const char *kv_options_help(void);

/** "host:port" or "[v6]:port", port 1..65535, host not empty. host: LS_ADDRESS_BYTES, port: 8. */
bool kv_address_split(const char *address, char *host, char *port);
/** Whether it can be reached from this machine only. */
bool kv_address_is_loopback(const char *address);

#endif
