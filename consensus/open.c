/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing: what a core starts from is checked as bytes from a disk are, with a status
 * and a sentence, never with an assertion.
 */
#include "core_state.h"

static enum ls_status refuse(struct ls_error *error, enum ls_status status, const char *text)
{
    if (error != NULL) {
        size_t bytes = strlen(text);
        bytes = bytes < sizeof error->text ? bytes : sizeof error->text - 1;
        error->status = status;
        memcpy(error->text, text, bytes);
        error->text[bytes] = '\0';
    }
    return status;
}

static const char *settings_invalid(const struct ls_core_config *config)
{
    if (config->size != sizeof *config) {
        return "core: the size of the settings is not the one of this build";
    }
    if (config->env == NULL || config->group == NULL || ls_peer_id_is_zero(&config->self)) {
        return "core: env, group and self are required";
    }
    if (config->election_ms == 0 || config->heartbeat_ms == 0 ||
        config->heartbeat_ms >= config->election_ms) {
        return "core: election_ms and heartbeat_ms are wrong: expected 0 < heartbeat < election";
    }
    if (config->reluctance == 0) {
        return "core: reluctance is 0: expected 1 (normal) or a factor above";
    }
    if (config->founders != NULL && ls_configuration_invalid(config->founders) != NULL) {
        return ls_configuration_invalid(config->founders);
    }
    bool founder =
        config->founders != NULL && ls_configuration_find(config->founders, &config->self) != NULL;
    size_t count = config->configurations_count;
    if (!founder &&
        (count == 0 || ls_configuration_find(&config->configurations[count - 1].configuration,
                                             &config->self) == NULL)) {
        return "core: this member is neither in the configuration nor a founder";
    }
    return NULL;
}

static const char *log_contradicts(const struct ls_core_config *config)
{
    struct ls_cursor before = config->anchor;
    if ((before.index == 0) != (before.term == 0)) {
        return "core: the anchor is half a position";
    }
    if (config->last < before.index || (config->last > before.index) != (config->runs_count > 0)) {
        return "core: the runs of terms do not cover the log";
    }
    for (size_t i = 0; i < config->runs_count; i++) {
        struct ls_cursor run = config->runs[i];
        bool follows = i == 0 ? run.index == before.index + 1 && run.term >= before.term
                              : run.index > before.index && run.term > before.term;
        if (!follows || run.index > config->last || run.term == 0) {
            return "core: the runs of terms are not ascending";
        }
        before = run;
    }
    if (before.term > config->hard_state.term) {
        return "core: the log has a later term than the hard state";
    }
    if (!config->hard_state.voted && !ls_peer_id_is_zero(&config->hard_state.vote)) {
        return "core: the hard state has a vote and has not voted";
    }
    if (config->commit_floor > config->last || config->commit_floor < config->anchor.index) {
        return "core: the commit floor is outside the log";
    }
    if (config->applied > config->commit_floor) {
        return "core: the machine has applied more than the log holds";
    }
    if (config->cached_count > config->last - config->anchor.index) {
        return "core: more entries cached than the log holds";
    }
    return NULL;
}

static const char *configurations_contradict(const struct ls_core_config *config)
{
    ls_index before = 0;
    for (size_t i = 0; i < config->configurations_count; i++) {
        const struct ls_configuration_at *at = &config->configurations[i];
        const char *reason = ls_configuration_invalid(&at->configuration);
        if (reason != NULL) {
            return reason;
        }
        if (at->index > config->last || (i > 0 && at->index <= before) ||
            (i > 0 && at->index <= config->anchor.index)) {
            return "core: the configurations are not ascending within the log";
        }
        before = at->index;
    }
    if (config->configurations_count == 0 && config->anchor.index > 0) {
        return "core: no configuration is known at the anchor";
    }
    return NULL;
}

static bool arrays_open(struct ls_core *core, const struct ls_core_config *config)
{
    size_t configurations = config->configurations_count;
    size_t cached = config->cached_count;
    cached = cached > LS_CACHE_ENTRIES_MAX ? LS_CACHE_ENTRIES_MAX : cached;
    if (!ls__trail_reserve(&core->trail, &core->env, config->runs_count + 1) ||
        !ls__configurations_reserve(core, configurations)) {
        return false;
    }
    if (config->runs_count > 0) {
        memcpy(core->trail.runs, config->runs, config->runs_count * sizeof *config->runs);
    }
    core->trail.count = config->runs_count;
    core->trail.anchor = config->anchor;
    core->trail.last = config->last;
    if (configurations > 0) {
        memcpy(core->configurations, config->configurations,
               configurations * sizeof *config->configurations);
    }
    core->configurations_count = configurations;
    ls__ring_reset(&core->ring, config->last - cached + 1);
    if (!ls__ring_reserve(&core->ring, &core->env, cached)) {
        return false;
    }
    for (size_t i = config->cached_count - cached; i < config->cached_count; i++) {
        ls__ring_push(&core->ring, config->cached_bytes[i]);
    }
    if (configurations == 0) {
        core->own_payload = core->env.allocate(core->env.self, NULL, LS_CONFIGURATION_BYTES_MAX);
        return core->own_payload != NULL;
    }
    return true;
}

/* Is this member alone a quorum? Then it need not wait for a timeout (E17). */
static bool alone(const struct ls_core *core)
{
    int at = ls__place(core, &core->self);
    uint32_t mask = at < 0 ? 0 : 1u << at;
    return at >= 0 && (ls__founding(core) ? ls__quorum_has_all(ls__view(core), mask)
                                          : ls__quorum_has(ls__view(core), mask));
}

enum ls_status ls_core_open(const struct ls_core_config *config, struct ls_core **core_out,
                            struct ls_error *error)
{
    *core_out = NULL;
    const char *reason = settings_invalid(config);
    if (reason != NULL) {
        return refuse(error, LS_ERR_INVALID, reason);
    }
    reason = log_contradicts(config);
    reason = reason == NULL ? configurations_contradict(config) : reason;
    if (reason != NULL) {
        return refuse(error, LS_ERR_CORRUPT, reason);
    }
    struct ls_core *core = config->env->allocate(config->env->self, NULL, sizeof *core);
    if (core == NULL) {
        return refuse(error, LS_ERR_NO_MEMORY, "core: out of memory");
    }
    memset(core, 0, sizeof *core);
    core->env = *config->env;
    core->group = *config->group;
    core->self = config->self;
    core->incarnation = config->incarnation;
    core->now_us = config->now_us;
    core->election_us = (uint64_t)config->election_ms * 1000;
    core->heartbeat_us = (uint64_t)config->heartbeat_ms * 1000;
    core->window_bytes = config->window_bytes;
    core->cache_bytes = config->cache_bytes;
    core->lag_entries = config->lag_entries;
    core->random = config->seed;
    core->reluctance = config->reluctance;
    core->hard = config->hard_state;
    core->durable = config->last;
    core->commit = LS_MUTANT(C10) ? config->last : config->commit_floor;
    core->applied = config->applied;
    core->role = LS_ROLE_FOLLOWER;
    core->tail_unknown = config->tail_unknown && !LS_MUTANT(P11);
    core->leader_counted = UINT64_MAX;
    core->notice_deadline_us = UINT64_MAX;
    if (config->founders != NULL) {
        core->founders = *config->founders;
    }
    if (!arrays_open(core, config)) {
        ls_core_close(core);
        return refuse(error, LS_ERR_NO_MEMORY, "core: out of memory");
    }
    ls__members_refresh(core);
    ls__election_timer_reset(core);
    if (alone(core)) {
        core->election_deadline_us = core->now_us;
    }
    *core_out = core;
    return LS_OK;
}

void ls_core_close(struct ls_core *core)
{
    if (core == NULL) {
        return;
    }
    struct ls_env env = core->env;
    void *blocks[] = {core->trail.runs, core->batches.items,
                      core->ring.ends,  core->configurations,
                      core->messages,   core->results,
                      core->own,        core->own_payload,
                      core->reads,      core};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        if (blocks[i] != NULL) {
            (void)env.allocate(env.self, blocks[i], 0);
        }
    }
}
