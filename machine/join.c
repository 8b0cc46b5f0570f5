/* SPDX-License-Identifier: MIT */
/*
 * How a group comes into a node and leaves it: from what the store holds to an open core, and back.
 * What is found wrong here is a status with a sentence, before the first message leaves.
 */
#include "runtime.h"

#include <stdio.h>
#include <string.h>

void ls_group_options_init(struct ls_group_options *options)
{
    *options = (struct ls_group_options){.size = sizeof *options,
                                         .election_ms = LS_ELECTION_MS_DEFAULT,
                                         .heartbeat_ms = LS_HEARTBEAT_MS_DEFAULT,
                                         .reluctance = 1,
                                         .window_bytes = LS_WINDOW_BYTES_DEFAULT,
                                         .cache_bytes = LS_CACHE_BYTES_DEFAULT,
                                         .in_flight_bytes = LS_IN_FLIGHT_BYTES_DEFAULT,
                                         .snapshot_entries = LS_SNAPSHOT_ENTRIES_DEFAULT,
                                         .lag_entries = LS_LAG_ENTRIES_DEFAULT,
                                         .prune_entries = LS_PRUNE_ENTRIES_DEFAULT,
                                         .prune_bytes = LS_PRUNE_BYTES_DEFAULT,
                                         .lag_bytes = LS_LAG_BYTES_DEFAULT,
                                         .pinned_bytes = LS_LOG_PINNED_BYTES_MAX,
                                         .snapshot_log_bytes = LS_SNAPSHOT_LOG_BYTES_DEFAULT};
}

static bool text_copy(char *out, size_t capacity, const char *text)
{
    size_t bytes = text != NULL ? strlen(text) : 0;
    if (bytes >= capacity) {
        return false;
    }
    (void)memset(out, 0, capacity);
    if (bytes > 0) {
        (void)memcpy(out, text, bytes);
    }
    return true;
}

static enum ls_status options_check(const struct ls_group_options *options, struct ls_error *error)
{
    if (!ls__size_fits(options, options->size, sizeof *options)) {
        return ls_error_set(error, LS_ERR_INVALID,
                            "options.size is %zu, expected %zu (call ls_group_options_init)",
                            options->size, sizeof *options);
    }
    if (options->name == NULL || options->name[0] == '\0' ||
        strlen(options->name) >= LS_NAME_BYTES) {
        return ls_error_set(error, LS_ERR_INVALID, "the group's name needs 1 to %d bytes",
                            LS_NAME_BYTES - 1);
    }
    if (options->member == NULL || options->founders == NULL || options->founders_count == 0) {
        return ls_error_set(error, LS_ERR_INVALID, "member and founders are required");
    }
    if (options->founders_count > LS_MEMBERS_MAX) {
        return ls_error_set(error, LS_ERR_INVALID, "%zu founders, at most %d",
                            options->founders_count, LS_MEMBERS_MAX);
    }
    if (options->heartbeat_ms == 0 ||
        2u * (uint64_t)options->heartbeat_ms >= options->election_ms) {
        return ls_error_set(error, LS_ERR_INVALID,
                            "heartbeat_ms is %u and election_ms is %u: expected more than 0, and "
                            "less than half of election_ms",
                            options->heartbeat_ms, options->election_ms);
    }
    const struct ls_machine *machine = &options->machine;
    if (machine->size != sizeof *machine) {
        return ls_error_set(error, LS_ERR_INVALID, "machine.size is %zu, expected %zu",
                            machine->size, sizeof *machine);
    }
    if (machine->signature == NULL || machine->query == NULL ||
        (machine->apply == NULL && machine->apply_batch == NULL)) {
        return ls_error_set(error, LS_ERR_INVALID,
                            "the machine needs signature, query, and apply or apply_batch");
    }
    if (machine->signature(machine->self).bytes > LS_SIGNATURE_BYTES_MAX) {
        return ls_error_set(error, LS_ERR_INVALID,
                            "the machine's signature has %zu bytes, at most %d",
                            machine->signature(machine->self).bytes, LS_SIGNATURE_BYTES_MAX);
    }
    if (options->in_flight_bytes < LS_ENTRY_BYTES_MAX) {
        return ls_error_set(error, LS_ERR_INVALID,
                            "in_flight_bytes is %llu, at least %u (one entry)",
                            (unsigned long long)options->in_flight_bytes, LS_ENTRY_BYTES_MAX);
    }
    return LS_OK;
}

static enum ls_status founders_read(struct ls_group *group, const struct ls_group_options *options,
                                    struct ls_error *error)
{
    struct ls_configuration *founders = &group->founders;
    for (size_t i = 0; i < options->founders_count; i++) {
        const struct ls_founder *founder = &options->founders[i];
        struct ls_member *member = &founders->members[founders->count++];
        member->role = founder->role != 0 ? founder->role : LS_MEMBER_VOTER;
        if (founder->name == NULL || !text_copy(member->name, sizeof member->name, founder->name) ||
            !text_copy(member->address, sizeof member->address, founder->address)) {
            return ls_error_set(error, LS_ERR_INVALID,
                                "founder %zu: name or address is missing or too long", i + 1);
        }
        member->id = ls_identity_founder_id(group->node->identity, founder->name);
    }
    ls_configuration_sort(founders);
    const char *invalid = ls_configuration_invalid(founders);
    if (invalid != NULL) {
        return ls_error_set(error, LS_ERR_INVALID, "founders: %s", invalid);
    }
    const struct ls_member *self = ls_configuration_find(founders, &group->node->id);
    if (self == NULL || strcmp(self->name, options->member) != 0) {
        return ls_error_set(error, LS_ERR_INVALID,
                            "member '%s' is not the founder this node's identity belongs to",
                            options->member);
    }
    return LS_OK;
}

/* The group id covers machine and state syncs: members that would apply the log differently cannot
 * bond. */
static void name_group(struct ls_group *group, const struct ls_group_options *options,
                       const struct ls_statesync *syncs, size_t syncs_count)
{
    uint8_t signature[LS_SIGNATURE_BYTES_MAX * 4];
    size_t bytes = 0;
    for (size_t i = 0; i < syncs_count; i++) {
        size_t room = sizeof signature - bytes - 1;
        size_t part = syncs[i].signature.bytes < room ? syncs[i].signature.bytes : room;
        (void)memcpy(signature + bytes, syncs[i].signature.data, part);
        bytes += part;
        signature[bytes++] = '\n';
        if (bytes == sizeof signature) {
            break;
        }
    }
    struct ls_span machine = options->machine.signature(options->machine.self);
    group->id = ls_identity_group_id(group->node->identity, options->name, machine,
                                     (struct ls_span){signature, bytes});
    (void)text_copy(group->name, sizeof group->name, options->name);
    (void)text_copy(group->member, sizeof group->member, options->member);
    group->hello.group = group->id;
    (void)memcpy(group->hello.name, group->name, sizeof group->hello.name);
    (void)memcpy(group->hello.member, group->member, sizeof group->hello.member);
    if (machine.bytes > 0) {
        (void)memcpy(group->hello.signature, machine.data, machine.bytes);
    }
    group->hello.signature_bytes = (uint32_t)machine.bytes;
}

/* ---- from the store to the core ---- */

static bool warm_visit(void *arg, ls_index index, const struct ls_entry *entry)
{
    struct ls_group *group = arg;
    if (ls__cache_reserve(&group->cache, 1, entry->data.bytes) != LS_OK) {
        return false;
    }
    ls__cache_append(&group->cache, index, entry);
    return true;
}

/* What is known to be committed, as far as the store and the machine can tell. */
static ls_index commit_floor(const struct ls_group *group, const struct ls_storage_state *state)
{
    ls_index floor = state->anchor.index;
    floor = state->commit_hint > floor ? state->commit_hint : floor;
    floor = floor > state->last.index ? state->last.index : floor; /* behind a guard only (P11) */
    return group->applied > floor ? group->applied : floor;
}

/*
 * Reads the tail of the log into the cache, so that a restarted leader can send it without a state
 * sync. All that is not known to be committed must be in: a state sync serves committed entries
 * only, so nobody but the leader can bring the rest to a quorum.
 */
static enum ls_status cache_warm(struct ls_group *group, const struct ls_storage_state *state,
                                 uint64_t bytes_max, struct ls_error *error)
{
    ls_index last = state->last.index;
    ls_index floor = commit_floor(group, state);
    ls__cache_open(&group->cache, &group->node->env, last + 1);
    ls_index first = last > LS__CACHE_WARM_ENTRIES ? last - LS__CACHE_WARM_ENTRIES + 1 : 1;
    first = first > floor + 1 ? floor + 1 : first;
    first = first > state->anchor.index ? first : state->anchor.index + 1;
    while (first <= last) {
        enum ls_status status =
            group->node->storage.read(group->node->storage.self, group->store, first, last,
                                      LS__APPLY_READ_BYTES, warm_visit, group);
        if (status != LS_OK) {
            return ls_error_set(error, status, "read the tail of the log from index %llu: %s",
                                (unsigned long long)first, ls_status_text(status));
        }
        ls_index next = group->cache.first + group->cache.count;
        if (next == first || group->cache.count == 0) {
            return ls_error_set(error, LS_ERR_NO_MEMORY, "read the tail of the log: out of memory");
        }
        first = next;
    }
    uint64_t bytes = 0;
    uint64_t seen = 0;
    ls_index anchor = state->anchor.index;
    for (ls_index index = last; ls__cache_at(&group->cache, index) != NULL; index--) {
        bytes += ls__cache_at(&group->cache, index)->data.bytes;
        seen++;
        if (bytes > bytes_max && index <= floor) {
            ls__cache_drop(&group->cache, index + 1);
            break;
        }
    }
    ls__sizes_reset(&group->sizes, anchor);
    /* the rest counts as large as these */
    uint64_t each = seen > 0 ? bytes / seen : 0;
    ls__sizes_add(&group->sizes, last - anchor, each * (last - anchor));
    return LS_OK;
}

static enum ls_status configurations_decode(struct ls_group *group,
                                            const struct ls_storage_state *state,
                                            struct ls_configuration_at **out,
                                            struct ls_error *error)
{
    const struct ls_env *env = &group->node->env;
    *out = NULL;
    if (state->configurations_count == 0) {
        return LS_OK;
    }
    struct ls_configuration_at *all =
        ls__allocate(env, NULL, state->configurations_count * sizeof *all);
    if (all == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < state->configurations_count; i++) {
        all[i].index = state->configurations[i].index;
        if (ls_configuration_decode(&env->codec, state->configurations[i].bytes,
                                    &all[i].configuration) != LS_OK) {
            ls_index index = all[i].index;
            (void)ls__allocate(env, all, 0);
            return ls_error_set(error, LS_ERR_CORRUPT,
                                "the configuration at index %llu does not decode",
                                (unsigned long long)index);
        }
    }
    *out = all;
    return LS_OK;
}

static enum ls_status machine_open(struct ls_group *group, const struct ls_group_options *options,
                                   const struct ls_storage_state *state, struct ls_error *error)
{
    if (group->machine.open != NULL) {
        bool inside = ls__machine_enter(group->node);
        enum ls_status status = group->machine.open(group->machine.self, &group->id,
                                                    &state->incarnation, &group->applied, error);
        ls__machine_leave(group->node, inside);
        if (status != LS_OK) {
            return ls_error_wrap(error, status, "open the machine");
        }
    }
    group->applied = LS_MUTANT(F13) ? 0 : group->applied;
    enum ls_status status = ls__snapshots_open(group, state, options->snapshot_entries, error);
    if (status != LS_OK) {
        return status;
    }
    if (group->snap.restore_due) {
        group->applied = state->anchor.index; /* the core is told afterwards */
        return LS_OK;
    }
    if (group->applied > state->last.index) {
        return ls_error_set(
            error, LS_ERR_CORRUPT,
            "the log ends at index %llu, below the machine's applied index %llu: entries were lost",
            (unsigned long long)state->last.index, (unsigned long long)group->applied);
    }
    if (group->applied < state->anchor.index) {
        return ls_error_set(
            error, LS_ERR_CORRUPT,
            "the log begins after index %llu, but the machine has applied only up to %llu",
            (unsigned long long)state->anchor.index, (unsigned long long)group->applied);
    }
    return LS_OK;
}

static enum ls_status core_open(struct ls_group *group, const struct ls_group_options *options,
                                const struct ls_storage_state *state,
                                const struct ls_configuration_at *configurations,
                                struct ls_error *error)
{
    struct ls_node *node = group->node;
    const struct ls_env *env = &node->env;
    size_t cached = group->cache.count;
    uint32_t *sizes = ls__allocate(env, NULL, (cached + 1) * sizeof *sizes);
    if (sizes == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < cached; i++) {
        sizes[i] = (uint32_t)ls__cache_at(&group->cache, group->cache.first + i)->data.bytes;
    }
    ls_index floor = commit_floor(group, state);
    struct ls_core_config config = {.size = sizeof config,
                                    .env = env,
                                    .group = &group->id,
                                    .self = node->id,
                                    .incarnation = state->incarnation,
                                    .hard_state = state->hard_state,
                                    .anchor = state->anchor,
                                    .runs = state->runs,
                                    .runs_count = state->runs_count,
                                    .last = state->last.index,
                                    .configurations = configurations,
                                    .configurations_count = state->configurations_count,
                                    .cached_bytes = sizes,
                                    .cached_count = cached,
                                    .commit_floor = floor,
                                    .applied = group->applied,
                                    .founders = &group->founders,
                                    .tail_unknown = state->tail_unknown,
                                    .now_us = ls__now(node),
                                    .election_ms = options->election_ms,
                                    .heartbeat_ms = options->heartbeat_ms,
                                    .reluctance = options->reluctance,
                                    .window_bytes = options->window_bytes,
                                    .cache_bytes = options->cache_bytes,
                                    .lag_entries = group->snapshots ? options->lag_entries : 0};
    env->entropy(env->self, &config.seed, sizeof config.seed);
    /* tokens of reads are never used twice, not by the next process of this member either */
    env->entropy(env->self, &group->calls.next_token, sizeof group->calls.next_token);
    enum ls_status status = ls_core_open(&config, &group->core, error);
    (void)ls__allocate(env, sizes, 0);
    group->commit = floor;
    group->last = group->durable = state->last.index;
    group->term = state->hard_state.term;
    group->role = LS_ROLE_FOLLOWER;
    group->log_first = state->anchor.index + 1;
    group->pruned_reported = state->anchor.index;
    group->applied_reported = group->applied;
    group->tail_unknown = state->tail_unknown;
    (void)memcpy(group->tail_text, state->tail_text, sizeof group->tail_text);
    return status;
}

static enum ls_status group_load(struct ls_group *group, const struct ls_group_options *options,
                                 struct ls_error *error)
{
    struct ls_node *node = group->node;
    struct ls_storage_state state;
    (void)memset(&state, 0, sizeof state);
    enum ls_status status = node->storage.open_group(node->storage.self, &group->id, group,
                                                     &group->store, &state, error);
    if (status != LS_OK) {
        return status;
    }
    struct ls_configuration_at *configurations = NULL;
    status = configurations_decode(group, &state, &configurations, error);
    if (status == LS_OK) {
        status = machine_open(group, options, &state, error);
    }
    /* what the store lent is used up before its next call, which the cache makes */
    struct ls_cursor *runs = NULL;
    if (status == LS_OK && state.runs_count > 0) {
        runs = ls__allocate(&node->env, NULL, state.runs_count * sizeof *runs);
        status = runs != NULL ? LS_OK : ls_error_set(error, LS_ERR_NO_MEMORY, "out of memory");
    }
    if (status == LS_OK) {
        if (runs != NULL) {
            (void)memcpy(runs, state.runs, state.runs_count * sizeof *runs);
        }
        state.runs = runs;
        status = cache_warm(group, &state, options->cache_bytes, error);
    }
    if (status == LS_OK) {
        status = core_open(group, options, &state, configurations, error);
    }
    if (runs != NULL) {
        (void)ls__allocate(&node->env, runs, 0);
    }
    if (configurations != NULL) {
        (void)ls__allocate(&node->env, configurations, 0);
    }
    return status;
}

/* ---- peers ---- */

struct ls__peer *ls__group_peer(struct ls_group *group, const struct ls_peer_id *id)
{
    for (size_t i = 0; i < group->peers_count; i++) {
        if (ls_peer_id_equal(&group->peers[i].id, id)) {
            return &group->peers[i];
        }
    }
    return NULL;
}

/* The address on the command line wins over the stored one. */
static const char *address_of(const struct ls_group *group, const struct ls_member *member)
{
    const struct ls_member *founder = ls_configuration_find(&group->founders, &member->id);
    return founder != NULL && founder->address[0] != '\0' ? founder->address : member->address;
}

static void peer_add(struct ls_group *group, const struct ls_member *member)
{
    LS_ASSERT(group->peers_count < LS_MEMBERS_MAX);
    struct ls__peer *peer = &group->peers[group->peers_count++];
    (void)memset(peer, 0, sizeof *peer);
    peer->id = member->id;
    (void)memcpy(peer->name, member->name, sizeof peer->name);
    (void)text_copy(peer->address, sizeof peer->address, address_of(group, member));
}

static void peer_bond(struct ls_group *group, struct ls__peer *peer)
{
    const struct ls_transport *transport = &group->node->transport;
    struct ls_error error = {LS_OK, ""};
    enum ls_status status =
        transport->bond_open(transport->self, &group->hello, &peer->id, peer->address, &error);
    peer->bonded = status != LS_ERR_NO_MEMORY;
    if (status != LS_OK) {
        (void)snprintf(peer->refused, sizeof peer->refused, "%s", error.text);
    }
    if (!peer->bonded) {
        group->meets = true;
        ls__group_retry(group, LS__RETRY_US);
    }
}

/* The group's own list of members counts, whatever this member was given (docs/architecture.md,
 * "Founding"). */
static void list_compare(struct ls_group *group, const struct ls_configuration *configuration)
{
    const struct ls_configuration *given = &group->founders;
    bool same = given->count == configuration->count;
    for (uint32_t i = 0; same && i < given->count; i++) {
        same = ls_peer_id_equal(&given->members[i].id, &configuration->members[i].id) &&
               given->members[i].role == configuration->members[i].role;
    }
    if (same || group->list_told) {
        return;
    }
    group->list_told = true;
    char names[LS_ERROR_TEXT_BYTES] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < configuration->count && used < sizeof names; i++) {
        int printed = snprintf(names + used, sizeof names - used, "%s%s", i == 0 ? "" : ", ",
                               configuration->members[i].name);
        used += printed > 0 ? (size_t)printed : 0;
    }
    ls__group_trace(group, LS_TRACE_WARN,
                    "the members given are not those of the group, which stay", NULL, names);
}

void ls__group_meet(struct ls_group *group)
{
    if (!group->meets) {
        return;
    }
    group->meets = false;
    struct ls_node *node = group->node;
    struct ls_core_status *status = &node->core_status;
    ls_core_status(group->core, status);
    const struct ls_configuration *configuration =
        status->configuration != NULL ? &status->configuration->configuration : &group->founders;
    for (uint32_t i = 0; i < configuration->count; i++) {
        const struct ls_member *member = &configuration->members[i];
        if (!ls_peer_id_equal(&member->id, &node->id) &&
            ls__group_peer(group, &member->id) == NULL) {
            peer_add(group, member);
        }
    }
    if (status->configuration != NULL) {
        list_compare(group, configuration);
    }
    for (size_t i = 0; i < group->peers_count; i++) {
        if (!group->peers[i].bonded) {
            peer_bond(group, &group->peers[i]);
        }
    }
}

/* ---- join ---- */

static enum ls_status join_checked(struct ls_group *group, const struct ls_group_options *options,
                                   struct ls_error *error)
{
    struct ls_statesync replay;
    const struct ls_statesync *syncs = options->statesyncs;
    size_t syncs_count = options->statesyncs_count;
    if (syncs == NULL) {
        enum ls_status opened = ls_log_replay(NULL, &replay);
        if (opened != LS_OK) {
            return ls_error_set(error, opened, "log replay");
        }
        syncs = &replay;
        syncs_count = 1;
    }
    enum ls_status status = founders_read(group, options, error);
    if (status != LS_OK) {
        return status;
    }
    name_group(group, options, syncs, syncs_count);
    if (ls__node_find(group->node, &group->id) != NULL) {
        return ls_error_set(error, LS_ERR_INVALID, "already joined in this node");
    }
    group->snapshots = ls__catchup_snapshots(group, syncs, syncs_count);
    status = group_load(group, options, error);
    if (status == LS_OK) {
        status = ls__catchup_open(group, syncs, syncs_count, error);
    }
    if (status == LS_OK) {
        status = ls__snapshots_resume(group, error);
    }
    return status;
}

static struct ls_group *group_new(struct ls_node *node, const struct ls_group_options *options)
{
    struct ls_group *group = ls__allocate(&node->env, NULL, sizeof *group);
    if (group == NULL) {
        return NULL;
    }
    (void)memset(group, 0, sizeof *group);
    group->node = node;
    group->machine = options->machine;
    group->election_ms = options->election_ms;
    group->in_flight_bytes_max = options->in_flight_bytes;
    group->prune_entries = options->prune_entries;
    group->prune_bytes = options->prune_bytes;
    group->lag_bytes = options->lag_bytes;
    group->pinned_bytes = options->pinned_bytes;
    group->snap.keep_bytes = options->snapshot_log_bytes;
    group->held.env = &node->env;
    group->core_deadline_us = 0; /* the first turn ticks */
    group->sync_deadline_us = group->retry_us = group->calls.deadline_us = UINT64_MAX;
    group->note_due_us = UINT64_MAX;
    group->close_by_us = UINT64_MAX;
    const struct ls_env *env = &node->env;
    env->entropy(env->self, &group->calls.next_id, sizeof group->calls.next_id);
    env->entropy(env->self, &group->calls.next_token, sizeof group->calls.next_token);
    return group;
}

static enum ls_status join(struct ls_node *node, const struct ls_group_options *options,
                           struct ls_group **out, struct ls_error *error)
{
    if (node->in_machine) {
        return ls_error_set(error, LS_ERR_REENTRANT, "called by a machine");
    }
    if (node->closing) {
        return ls_error_set(error, LS_ERR_CLOSED, "the node is closing");
    }
    enum ls_status status = options_check(options, error);
    if (status != LS_OK) {
        return status;
    }
    if (node->groups_count >= LS_GROUPS_MAX) {
        return ls_error_set(error, LS_ERR_LIMIT, "the node hosts %d groups already", LS_GROUPS_MAX);
    }
    struct ls_group *group = group_new(node, options);
    if (group == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "out of memory");
    }
    status = join_checked(group, options, error);
    if (status != LS_OK) {
        ls__group_free(group);
        return status;
    }
    group->joined = true;
    ls__node_add(node, group);
    group->meets = true;
    ls__group_meet(group);
    ls__group_touch(group);
    *out = group;
    return LS_OK;
}

enum ls_status ls_group_join(struct ls_node *node, const struct ls_group_options *options,
                             struct ls_group **out, struct ls_error *error)
{
    *out = NULL;
    enum ls_status status = join(node, options, out, error);
    return status == LS_OK ? status
                           : ls_error_wrap(error, status, "join group %s",
                                           options->name != NULL ? options->name : "(no name)");
}

/* ---- close ---- */

void ls_group_close(struct ls_group *group, void (*closed)(void *arg), void *arg)
{
    if (group == NULL) {
        return;
    }
    struct ls_node *node = group->node;
    group->close_done = closed != NULL ? closed : group->close_done;
    group->close_arg = closed != NULL ? arg : group->close_arg;
    if (group->closing) {
        return;
    }
    group->closing = true;
    /* half of the time for the hand-over, the rest for writing out */
    group->close_by_us = ls__now(node) + (uint64_t)node->close_ms * 500u;
    ls__group_touch(group);
}

/* True while it is worth to wait: calls in flight are finished, then leadership is handed over. */
static bool handing_over(struct ls_group *group, uint64_t now_us)
{
    if (now_us >= group->close_by_us || group->halted != LS_OK || group->role != LS_ROLE_LEADER) {
        return false;
    }
    if (group->calls.proposed.first != NULL) {
        return true;
    }
    if (!group->handed_over) {
        const struct ls_ready *ready = NULL;
        struct ls_event event = {.kind = LS_EVENT_TRANSFER};
        if (ls__group_step(group, &event, &ready) != LS_OK) {
            return true; /* no memory: again next turn */
        }
        group->handed_over = true;
        return group->role == LS_ROLE_LEADER && ready->transfer_status == LS_OK;
    }
    struct ls_core_status *status = &group->node->core_status;
    ls_core_status(group->core, status);
    return status->transferring;
}

bool ls__group_close_step(struct ls_group *group, uint64_t now_us)
{
    ls__calls_refuse(group, LS_ERR_CLOSED);
    if (handing_over(group, now_us)) {
        ls__calls_answer(group);
        return false;
    }
    group->closed = true;
    ls__calls_end(group, LS_ERR_CLOSED);
    ls__calls_answer(group);
    ls__when_end(group);
    group->node->transport.flush(group->node->transport.self);
    for (size_t i = 0; i < group->peers_count; i++) {
        group->node->transport.bond_close(group->node->transport.self, &group->id,
                                          &group->peers[i].id);
    }
    return true;
}

void ls__group_free(struct ls_group *group)
{
    struct ls_node *node = group->node;
    ls_supervisor_close(group->supervisor);
    ls__snapshots_close(group);
    ls_core_close(group->core);
    if (group->store != NULL) {
        node->storage.close_group(node->storage.self, group->store);
    }
    if (group->joined && group->machine.close != NULL) {
        bool inside = ls__machine_enter(node);
        group->machine.close(group->machine.self);
        ls__machine_leave(node, inside);
    }
    ls__calls_free(group);
    ls__held_free(&group->held);
    ls__cache_close(&group->cache);
    (void)ls__allocate(&node->env, group, 0);
}

struct ls_node *ls_group_node(const struct ls_group *group)
{
    return group->node;
}
