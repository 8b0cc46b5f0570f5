/* SPDX-License-Identifier: MIT */
/* INFO and LOCKSTEP: how this member and its group are, as "key:value" lines. */
#include "server.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "text.h"

static void line(struct kv_buffer *text, const char *format, ...) LS_PRINTF(2, 3);

static void line(struct kv_buffer *text, const char *format, ...)
{
    char bytes[2 * LS_ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(bytes, sizeof bytes, format, arguments);
    va_end(arguments);
    kv_buffer_append(text, bytes, strlen(bytes));
    kv_buffer_append(text, "\r\n", 2);
}

static const char *role_text(enum ls_role role)
{
    switch (role) {
    case LS_ROLE_LEADER:
        return "leader";
    case LS_ROLE_PRE_CANDIDATE:
    case LS_ROLE_CANDIDATE:
        return "candidate";
    case LS_ROLE_FOLLOWER:
        break;
    }
    return "follower";
}

static const char *member_role_text(enum ls_role_in_configuration role)
{
    switch (role) {
    case LS_MEMBER_VOTER:
        return "voter";
    case LS_MEMBER_LEARNER:
        return "learner";
    case LS_MEMBER_OBSERVER:
        return "observer";
    case LS_MEMBER_WITNESS:
        return "witness";
    }
    return "?";
}

/* The leader's name, or empty. */
static void leader_name(struct ls_group *group, char out[LS_NAME_BYTES])
{
    struct ls_member_info members[LS_MEMBERS_MAX];
    size_t count = ls_group_members(group, members, LS_MEMBERS_MAX);
    out[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (members[i].leader) {
            (void)snprintf(out, LS_NAME_BYTES, "%s", members[i].member.name);
        }
    }
}

static void info_server(struct kv_server *server, struct kv_buffer *text)
{
    uint64_t up = (kv_now_ms() - server->started_ms) / 1000;
    line(text, "redis_version:" KV_REDIS_VERSION);
    line(text, "redis_mode:standalone");
    line(text, "lockstep_version:%s", ls_version());
    line(text, "process_id:%ld", (long)getpid());
    line(text, "tcp_port:%s", strrchr(server->listen, ':') + 1);
    line(text, "uptime_in_seconds:%" PRIu64, up);
    line(text, "data:%s", server->directory);
    line(text, "state:%s", server->state);
}

static void info_clients(struct kv_server *server, struct kv_buffer *text)
{
    line(text, "connected_clients:%" PRIu32, server->clients_count);
    line(text, "maxclients:%" PRIu32, server->clients_max);
}

/* Resident bytes now, from /proc. */
static uint64_t resident_bytes(void)
{
    char text[128] = "";
    FILE *file = fopen("/proc/self/statm", "re");
    bool read = file != NULL && fgets(text, sizeof text, file) != NULL;
    if (file != NULL) {
        (void)fclose(file);
    }
    const char *second = read ? strchr(text, ' ') : NULL;
    uint64_t pages = second == NULL ? 0 : strtoull(second, NULL, 10);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void info_memory(struct kv_server *server, struct kv_buffer *text)
{
    (void)server;
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    line(text, "used_memory_rss:%" PRIu64, resident_bytes());
    line(text, "used_memory_peak_rss:%" PRIu64, (uint64_t)usage.ru_maxrss * 1024);
    line(text, "maxmemory:0");
}

static void info_stats(struct kv_server *server, struct kv_buffer *text)
{
    line(text, "total_connections_received:%" PRIu64, server->connections);
    line(text, "rejected_connections:%" PRIu64, server->rejected);
    line(text, "total_commands_processed:%" PRIu64, server->commands);
    line(text, "total_net_input_bytes:%" PRIu64, server->bytes_in);
    line(text, "total_net_output_bytes:%" PRIu64, server->bytes_out);
    line(text, "write_batches:%" PRIu64, server->batches);
    line(text, "read_barriers:%" PRIu64, server->barriers_total);
}

static void info_replication(struct kv_server *server, struct kv_buffer *text)
{
    if (server->group == NULL) {
        line(text, "role:follower");
        return;
    }
    struct ls_group_status status;
    char leader[LS_NAME_BYTES];
    ls_group_status(server->group, &status);
    leader_name(server->group, leader);
    line(text, "role:%s", role_text(status.core.role));
    line(text, "name:%s", status.member);
    line(text, "leader:%s", leader[0] == '\0' ? "-" : leader);
    line(text, "term:%" PRIu64, status.core.term);
    line(text, "commit:%" PRIu64, status.core.commit);
    line(text, "applied:%" PRIu64, status.core.applied);
    line(text, "log_first:%" PRIu64, status.log_first);
    line(text, "log_last:%" PRIu64, status.core.last);
    line(text, "serving:%d", status.serving ? 1 : 0);
    line(text, "online:%d", status.online ? 1 : 0);
    line(text, "elections:%" PRIu64, status.elections);
    line(text, "leader_changes:%" PRIu64, status.leader_changes);
}

static void info_lockstep(struct kv_server *server, struct kv_buffer *text)
{
    if (server->group == NULL) {
        return;
    }
    struct ls_group_status status;
    struct ls_node_status node;
    ls_group_status(server->group, &status);
    ls_node_status(ls_group_node(server->group), &node);
    line(text, "syncs:%" PRIu64, node.storage.syncs);
    line(text, "guard_syncs:%" PRIu64, node.storage.guard_syncs);
    line(text, "sync_us_mean:%" PRIu64,
         node.storage.syncs == 0 ? 0 : node.storage.sync_us_total / node.storage.syncs);
    line(text, "sync_us_max:%" PRIu64, node.storage.sync_us_max);
    line(text, "log_entries_written:%" PRIu64, node.storage.entries);
    line(text, "log_bytes_written:%" PRIu64, node.storage.bytes);
    line(text, "turns:%" PRIu64, node.turns);
    line(text, "turn_us_max:%" PRIu64, node.turn_us_max);
    line(text, "apply_us_max:%" PRIu64, status.apply_us_max);
    line(text, "proposed:%" PRIu64, status.proposed);
    line(text, "applied_commands:%" PRIu64, status.applied_commands);
    line(text, "forwarded:%" PRIu64, status.forwarded);
    line(text, "reads:%" PRIu64, status.reads);
    line(text, "unknown:%" PRIu64, status.unknown);
    line(text, "snapshots_written:%" PRIu64, status.snapshots_written);
    line(text, "snapshots_installed:%" PRIu64, status.snapshots_installed);
    line(text, "freeze_us_max:%" PRIu64, status.freeze_us_max);
    line(text, "in_flight_bytes:%" PRIu64, status.in_flight_bytes);
}

static void info_keyspace(struct kv_server *server, struct kv_buffer *text)
{
    uint64_t keys = server->machine->store.count(server->machine->store.self);
    if (keys > 0) {
        line(text, "db0:keys=%" PRIu64 ",expires=0,avg_ttl=0", keys);
    }
}

static const struct section {
    const char *name, *title;
    void (*write)(struct kv_server *server, struct kv_buffer *text);
} sections[] = {
    {"server", "Server", info_server},
    {"clients", "Clients", info_clients},
    {"memory", "Memory", info_memory},
    {"stats", "Stats", info_stats},
    {"replication", "Replication", info_replication},
    {"lockstep", "Lockstep", info_lockstep},
    {"keyspace", "Keyspace", info_keyspace},
};

static bool section_wanted(const char *name, const struct ls_span *args, size_t argc)
{
    bool wanted = argc == 1;
    for (size_t i = 1; i < argc; i++) {
        wanted = wanted || kv_text_is(args[i], name) || kv_text_is(args[i], "all") ||
                 kv_text_is(args[i], "default") || kv_text_is(args[i], "everything");
    }
    return wanted;
}

enum kv_wait kv_run_info(struct kv_client *client, const struct ls_span *args, size_t argc)
{
    struct kv_buffer text = {0};
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (section_wanted(sections[i].name, args, argc)) {
            if (kv_buffer_bytes(&text) > 0) {
                line(&text, "%s", "");
            }
            line(&text, "# %s", sections[i].title);
            sections[i].write(client->server, &text);
        }
    }
    struct resp_out out = kv_client_out(client);
    resp_verbatim(&out, kv_buffer_span(&text));
    kv_buffer_free(&text);
    return KV_WAIT_NONE;
}

/* ---- LOCKSTEP ---- */

static void status_sync(struct kv_buffer *text, const struct ls_sync_progress *sync)
{
    line(text, "sync_phase:%s", ls_sync_phase_text(sync->phase));
    line(text, "sync_strategy:%s", sync->strategy == NULL ? "-" : sync->strategy);
    line(text, "sync_choice:%s", sync->choice[0] == '\0' ? "-" : sync->choice);
    line(text, "sync_reason:%s", sync->reason == NULL ? "-" : sync->reason);
    if (sync->phase == LS_SYNC_BACKING_OFF) {
        line(text, "sync_wait_ms:%" PRIu64, sync->wait_us / 1000);
    }
    line(text, "sync_attempt:%" PRIu64, sync->generation);
    line(text, "sync_from:%" PRIu64, sync->from);
    line(text, "sync_at:%" PRIu64, sync->at);
    line(text, "sync_target:%" PRIu64, sync->target);
    line(text, "sync_percent:%" PRIu32, sync->percent);
    line(text, "sync_items:%" PRIu64, sync->items);
    line(text, "sync_items_total:%" PRIu64, sync->items_total);
    line(text, "sync_bytes:%" PRIu64, sync->bytes);
    line(text, "sync_bytes_total:%" PRIu64, sync->bytes_total);
    line(text, "sync_items_per_s:%" PRIu64, sync->items_per_s);
    line(text, "sync_bytes_per_s:%" PRIu64, sync->bytes_per_s);
    if (sync->left_ms != UINT64_MAX) {
        line(text, "sync_left_ms:%" PRIu64, sync->left_ms);
    }
    line(text, "sync_failures:%" PRIu32, sync->failures);
    line(text, "sync_penalties:%" PRIu32, sync->penalties);
}

static void status_founding(struct kv_buffer *text, struct ls_group *group,
                            const struct ls_core_status *core)
{
    struct ls_member_info members[LS_MEMBERS_MAX];
    size_t count = ls_group_members(group, members, LS_MEMBERS_MAX);
    for (uint32_t i = 0; i < core->missing_founders_count; i++) {
        for (size_t m = 0; m < count; m++) {
            if (ls_peer_id_equal(&members[m].member.id, &core->missing_founders[i])) {
                line(text, "waiting_for_founder:%s", members[m].member.name);
            }
        }
    }
}

static void status_write(struct kv_server *server, struct kv_buffer *text)
{
    struct ls_group_status status;
    ls_group_status(server->group, &status);
    line(text, "group:%s", status.name);
    info_replication(server, text);
    line(text, "standing:%s", ls_standing_text(status.core.standing));
    line(text, "trouble:%s",
         status.text[0] != '\0'                        ? status.text
         : kv_machine_trouble(server->machine) != NULL ? kv_machine_trouble(server->machine)
                                                       : "-");
    line(text, "halted:%s", status.halted == LS_OK ? "no" : ls_status_text(status.halted));
    status_founding(text, server->group, &status.core);
    line(text, "durable:%" PRIu64, status.core.durable);
    const struct kv_store *store = &server->machine->store;
    line(text, "state_durable:%" PRIu64,
         store->durable != NULL ? store->durable(store->self) : status.snapshot_index);
    line(text, "pruning:%s", status.prune_text[0] == '\0' ? "-" : status.prune_text);
    line(text, "prune_safe:%" PRIu64, status.prune_safe);
    line(text, "log_bytes:%" PRIu64, status.log_bytes);
    status_sync(text, &status.sync);
    info_lockstep(server, text);
}

static void pins_write(struct kv_server *server, struct kv_buffer *text)
{
    static struct ls_group_pin pins[LS_GROUP_PINS_MAX];
    size_t count = ls_group_pins(server->group, pins, LS_GROUP_PINS_MAX);
    for (size_t i = 0; i < count; i++) {
        const struct ls_group_pin *pin = &pins[i];
        line(text, "safe=%" PRIu64 " bytes=%" PRIu64 " lease_ms=%" PRIu64 "%s %s",
             pin->safe == UINT64_MAX ? 0 : pin->safe, pin->bytes, pin->left_ms,
             pin->given_up ? " given-up" : "", pin->text);
    }
}

static int member_compare(const void *a, const void *b)
{
    const struct ls_member_info *first = a;
    const struct ls_member_info *second = b;
    return strcmp(first->member.name, second->member.name);
}

static void members_write(struct kv_server *server, struct kv_buffer *text)
{
    struct ls_member_info members[LS_MEMBERS_MAX];
    size_t count = ls_group_members(server->group, members, LS_MEMBERS_MAX);
    qsort(members, count, sizeof members[0], member_compare);
    for (size_t i = 0; i < count; i++) {
        const struct ls_member *member = &members[i].member;
        line(text, "%s address=%s role=%s%s%s", member->name,
             member->address[0] == '\0' ? "-" : member->address, member_role_text(member->role),
             members[i].leader ? " leader" : "", members[i].self ? " self" : "");
    }
}

static void bond_progress(struct kv_buffer *text, const struct ls_group_bond *bond)
{
    static const char *const states[] = {"?", "probe", "pipeline", "syncing"};
    const struct ls_progress *progress = &bond->progress;
    bool known = progress->state >= LS_PROGRESS_PROBE && progress->state <= LS_PROGRESS_SYNCING;
    line(text, "  progress=%s match=%" PRIu64 " next=%" PRIu64 " in_flight_bytes=%" PRIu64,
         states[known ? progress->state : 0], progress->match, progress->next,
         progress->in_flight_bytes);
    line(text, "  standing=%s", ls_standing_text(progress->standing));
}

/* What the peer says of itself, and what can be seen of the bond. */
static void bond_peer(struct kv_server *server, struct kv_buffer *text,
                      const struct ls_group_bond *bond, uint64_t now)
{
    struct ls_member_info members[LS_MEMBERS_MAX];
    size_t count = ls_group_members(server->group, members, LS_MEMBERS_MAX);
    char with[LS_MEMBERS_MAX * LS_NAME_BYTES] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < bond->info.bonds_count; i++) {
        for (size_t m = 0; m < count; m++) {
            if (ls_peer_id_equal(&members[m].member.id, &bond->info.bonds[i])) {
                used += (size_t)snprintf(with + used, sizeof with - used, "%s%s",
                                         used > 0 ? "," : "", members[m].member.name);
            }
        }
    }
    line(text, "  in_bytes_per_s=%" PRIu64 " out_bytes_per_s=%" PRIu64 " bonded_to=%s",
         bond->bytes_in_per_s, bond->bytes_out_per_s, with[0] == '\0' ? "-" : with);
    if (bond->strikes.strikes > 0) {
        line(text, "  strikes=%" PRIu32 " left_alone_ms=%" PRIu64 " last: %s",
             bond->strikes.strikes, bond->strikes.left_us / 1000, bond->strikes.reason);
    }
    if (bond->note_us != 0) {
        const struct ls_peer_note *note = &bond->note;
        line(text,
             "  role=%s term=%" PRIu64 " commit=%" PRIu64 " applied=%" PRIu64 " log_first=%" PRIu64
             " sync=%s percent=%" PRIu32 " serves=%" PRIu32 " said_ms_ago=%" PRIu64,
             role_text(note->role), note->term, note->commit, note->applied, note->log_first,
             ls_sync_phase_text((enum ls_sync_phase)note->sync_phase), note->percent, note->serves,
             now < bond->note_us ? 0 : (now - bond->note_us) / 1000);
    }
}

static void bonds_write(struct kv_server *server, struct kv_buffer *text)
{
    static struct ls_group_bond bonds[LS_MEMBERS_MAX];
    size_t count = ls_group_bonds(server->group, bonds, LS_MEMBERS_MAX);
    const struct ls_env *env = ls_env_default();
    uint64_t now = env->now_us(env->self);
    for (size_t i = 0; i < count; i++) {
        const struct ls_bond_info *info = &bonds[i].info;
        uint64_t silent = info->heard_us == 0 || now < info->heard_us ? 0 : now - info->heard_us;
        line(text,
             "%s address=%s %s%s rtt_us=%" PRIu64 " jitter_us=%" PRIu64 " heard_ms_ago=%" PRIu64
             " bytes_in=%" PRIu64 " bytes_out=%" PRIu64 " queued=%" PRIu32 " reconnects=%" PRIu32
             " bonds=%" PRIu32,
             info->name[0] == '\0' ? "?" : info->name, info->address, info->up ? "up" : "down",
             bonds[i].leader ? " leader" : "", info->rtt_us, info->jitter_us, silent / 1000,
             info->bytes_in, info->bytes_out, info->queued_bytes, info->reconnects,
             info->bonds_count);
        if (info->trouble[0] != '\0') {
            line(text, "  trouble=%s", info->trouble);
        }
        if (info->up) {
            bond_peer(server, text, &bonds[i], now);
        }
        if (bonds[i].progress_known) {
            bond_progress(text, &bonds[i]);
        }
    }
}

static void transfer_done(void *arg, const struct ls_outcome *outcome)
{
    struct kv_client *client = arg;
    if (!client->closed) {
        struct resp_out out = kv_client_out(client);
        if (outcome->status == LS_OK) {
            resp_simple(&out, "OK");
        } else if (outcome->status == LS_ERR_NOT_FOUND) {
            resp_error(&out, "ERR no such voter");
        } else {
            kv_reply_status(&out, client->server, outcome->status);
        }
        kv_client_resume(client);
    }
    kv_client_release(client);
}

static enum kv_wait transfer_begin(struct kv_client *client, struct ls_span to)
{
    static const struct ls_call_options call = {.deadline_ms = KV_CALL_MS};
    struct resp_out out = kv_client_out(client);
    char name[LS_NAME_BYTES];
    if (to.bytes >= sizeof name) {
        resp_error(&out, "ERR no such voter");
        return KV_WAIT_NONE;
    }
    (void)memcpy(name, to.data == NULL ? "" : to.data, to.bytes);
    name[to.bytes] = '\0';
    kv_client_reference(client);
    enum ls_status status = ls_group_transfer(client->server->group, to.bytes == 0 ? NULL : name,
                                              &call, transfer_done, client);
    if (status != LS_OK) {
        if (status == LS_ERR_NOT_FOUND) {
            resp_error(&out, "ERR no such voter");
        } else {
            kv_reply_status(&out, client->server, status);
        }
        kv_client_release(client);
        return KV_WAIT_NONE;
    }
    return KV_WAIT_CALL;
}

static void release(struct kv_client *client, struct ls_span who)
{
    struct resp_out out = kv_client_out(client);
    char name[LS_NAME_BYTES] = "";
    if (who.bytes > 0 && who.bytes < sizeof name) {
        (void)memcpy(name, who.data, who.bytes);
    }
    if (ls_group_release(client->server->group, name) == LS_OK) {
        resp_simple(&out, "OK");
    } else {
        resp_error(&out, "ERR no such other member");
    }
}

enum kv_wait kv_run_lockstep(struct kv_client *client, const struct ls_span *args, size_t argc)
{
    struct resp_out out = kv_client_out(client);
    struct kv_buffer text = {0};
    if (client->server->group == NULL) {
        kv_reply_status(&out, client->server, LS_ERR_CLOSED);
        return KV_WAIT_NONE;
    }
    if (kv_text_is(args[1], "transfer") && argc <= 3) {
        return transfer_begin(client, argc == 3 ? args[2] : (struct ls_span){"", 0});
    }
    if (kv_text_is(args[1], "retry") && argc == 2) {
        ls_group_retry(client->server->group);
        resp_simple(&out, "OK");
        return KV_WAIT_NONE;
    }
    if (kv_text_is(args[1], "release") && argc == 3) {
        release(client, args[2]);
        return KV_WAIT_NONE;
    }
    if (kv_text_is(args[1], "status") && argc == 2) {
        status_write(client->server, &text);
    } else if (kv_text_is(args[1], "members") && argc == 2) {
        members_write(client->server, &text);
    } else if (kv_text_is(args[1], "bonds") && argc == 2) {
        bonds_write(client->server, &text);
    } else if (kv_text_is(args[1], "pins") && argc == 2) {
        pins_write(client->server, &text);
    } else {
        resp_error(&out, "ERR expected LOCKSTEP STATUS, MEMBERS, BONDS, PINS, RETRY, RELEASE name "
                         "or TRANSFER [name]");
        return KV_WAIT_NONE;
    }
    resp_verbatim(&out, kv_buffer_span(&text));
    kv_buffer_free(&text);
    return KV_WAIT_NONE;
}
