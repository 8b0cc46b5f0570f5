/* SPDX-License-Identifier: MIT */
/*
 * How the worlds differ in state sync, the state sync that always fails, and pruning, which must
 * never take what a member still needs.
 */
#include "sync.h"

#include <stdlib.h>

/* the snapshot strategy in a run that may have it: one in so many */
#define SNAPSHOTS_ONE_IN 4u
#define SNAPSHOTS_STREAM 0x736e617073686f74u

static const struct ls_span dud_signature = {"sim-dud/1", 9};

bool sim_sync_peek(const struct ls_env *env, struct sim_sync *sync, struct ls_span message,
                   size_t *count)
{
    const struct ls_codec *codec = &env->codec;
    return codec->decode(codec->self, message, sync->values, LS_VALUES_MAX, count) == LS_OK &&
           *count >= 4 && sync->values[0].kind == LS_VALUE_ARRAY;
}

/* ---- the world's choice ---- */

bool sim_snapshots_occur(const struct sim_options *options)
{
    return options->snapshots >= LS_SIM_SNAPSHOTS_YES &&
           (options->workload == NULL || options->workload->snapshots);
}

/* A stream of its own: runs without snapshots are what they would be if there were none. */
static void snapshots_draw(struct world *world, struct sim_sync *sync)
{
    struct sim_random *random = &sync->snapshot_random;
    const struct sim_options *options = &world->options;
    bool drawn = sim_random_in(random, 1, SNAPSHOTS_ONE_IN) == 1;
    sync->snapshots =
        sim_snapshots_occur(options) && (drawn || options->snapshots == LS_SIM_SNAPSHOTS_YES);
    struct ls_snapshot_options *snapshot = &sync->snapshot;
    *snapshot = (struct ls_snapshot_options){.size = sizeof *snapshot};
    snapshot->window = (uint32_t)sim_random_in(random, 1, 4);
    snapshot->timeout_ms = (uint32_t)sim_random_in(random, 500, 5000);
    snapshot->lease_ms = (uint32_t)sim_random_in(random, 1000, 30000);
    snapshot->marker_ms = (uint32_t)sim_random_in(random, 100, 2000);
    snapshot->rate_bytes = (uint64_t)1 << sim_random_in(random, 20, 27);
    sync->snapshot_entries = sim_random_in(random, 5, 200);
    sync->prune_entries = sim_random_in(random, 1, 60);
    sync->lag_entries = sim_random_in(random, 5, 200);
    uint64_t cache_bytes = (uint64_t)256 << sim_random_in(random, 0, 3);
    uint32_t liar = (uint32_t)sim_random_in(random, 1, world->count);
    bool lies = sim_random_percent(random, 75);
    if (sync->snapshots && world->count > 1) { /* who was away shall need one */
        sync->cache_bytes = cache_bytes;
        sync->options.keep_entries = 1 + sync->options.keep_entries % 5;
        sync->liar = lies && world->count > 2 ? liar : 0;
    }
    sync->hoarder = (uint32_t)sim_random_in(random, 0, 2u * world->count);
}

void sim_sync_open(struct world *world)
{
    struct sim_sync *sync = sim_allocate(sizeof *sync);
    world->sync = sync;
    struct sim_random *random = &sync->random;
    random->state = world->options.seed ^ 0x5851f42d4c957f2du;
    for (uint32_t i = 0; i < SIM_MEMBERS_MAX; i++) {
        sync->sides[i].world = world;
        sync->sides[i].at = i;
    }
    struct ls_log_replay_options *options = &sync->options;
    *options = (struct ls_log_replay_options){.size = sizeof *options};
    options->entries_max = (uint32_t)sim_random_in(random, 1, 60);
    options->window = (uint32_t)sim_random_in(random, 1, 3);
    options->timeout_ms = (uint32_t)sim_random_in(random, 100, 2000);
    options->lease_ms = (uint32_t)sim_random_in(random, 1000, 20000);
    options->keep_entries = sim_random_in(random, 1, 30);
    bool small = sim_random_percent(random, 75);
    uint64_t cache_bytes = sim_random_in(random, 256, 512);
    cache_bytes <<= sim_random_in(random, 0, 4);
    bool on_disk = sim_random_percent(random, 60);
    bool dud = sim_random_percent(random, 25);
    bool liar = sim_random_percent(random, 40);
    uint32_t which = (uint32_t)sim_random_in(random, 1, world->count);
    sync->lies_percent = (uint32_t)sim_random_in(random, 5, 60);
    sync->every = (uint32_t)sim_random_in(random, 1, 50);
    sync->spells = sim_random_next(random);
    bool slow = sim_random_percent(random, 40);
    sync->slow_percent = slow ? (uint32_t)sim_random_in(random, 5, 50) : 0;
    sync->on_disk = on_disk;
    sync->snapshot_random.state = world->options.seed ^ SNAPSHOTS_STREAM;
    if (world->count > 1 && small) {
        sync->cache_bytes = cache_bytes;
        sync->dud = dud;
        sync->liar = liar && world->count > 2 ? which : 0;
    }
    snapshots_draw(world, sync);
}

void sim_sync_close(struct world *world)
{
    for (uint32_t i = 0; i < SIM_MEMBERS_MAX; i++) {
        sim_disk_free(&world->sync->sides[i].disk);
    }
    free(world->sync);
}

/* ---- a state sync that always fails ---- */

static enum ls_session_state dud_poll(void *self, struct ls_cursor *at, const char **reason)
{
    (void)at;
    *reason = "it never works";
    sim_sync_failed(self);
    return LS_SESSION_FAILED;
}

static enum ls_sync_verdict dud_receive(void *self, const struct ls_peer_id *from,
                                        struct ls_span message)
{
    (void)self;
    (void)from;
    (void)message;
    return LS_SYNC_INVALID;
}

static enum ls_buffer_verdict dud_buffer(void *self, ls_term term, struct ls_cursor prev,
                                         const struct ls_entry *entries, uint32_t count)
{
    (void)self;
    (void)term;
    (void)prev;
    (void)entries;
    (void)count;
    return LS_BUFFER_DROPPED;
}

static void dud_number(void *self, uint64_t number)
{
    (void)self;
    (void)number;
}

static void dud_peer(void *self, const struct ls_peer_id *peer, bool bonded)
{
    (void)self;
    (void)peer;
    (void)bonded;
}

static void dud_effect(void *self, uint64_t token, enum ls_status status)
{
    (void)self;
    (void)token;
    (void)status;
}

static void dud_progress(void *self, struct ls_sync_progress *out)
{
    (void)self;
    out->phase = LS_SYNC_FETCHING;
}

static void dud_destroy(void *self)
{
    (void)self;
}

static enum ls_status dud_session(void *self, const struct ls_session_context *context,
                                  const struct ls_sync_gap *gap, struct ls_sync_session *out)
{
    struct sim_side *side = self;
    (void)gap;
    sim_sync_begins(side);
    context->base.wake_at(context->base.self, context->base.now_us(context->base.self));
    *out = (struct ls_sync_session){.size = sizeof *out,
                                    .self = side,
                                    .poll = dud_poll,
                                    .receive = dud_receive,
                                    .buffer = dud_buffer,
                                    .target = dud_number,
                                    .term = dud_number,
                                    .peer = dud_peer,
                                    .effect = dud_effect,
                                    .progress = dud_progress,
                                    .destroy = dud_destroy};
    return LS_OK;
}

static ls_index dud_safe(void *self)
{
    (void)self;
    return UINT64_MAX;
}

static enum ls_status dud_provider(void *self, const struct ls_provider_context *context,
                                   struct ls_sync_provider *out)
{
    (void)context;
    *out = (struct ls_sync_provider){.size = sizeof *out,
                                     .self = self,
                                     .receive = dud_receive,
                                     .safe_to_prune_prefix = dud_safe,
                                     .destroy = dud_destroy};
    return LS_OK;
}

/* ---- a member's group ---- */

void sim_sync_group(struct sim_member *member, struct ls_group_options *options,
                    struct ls_statesync list[3])
{
    struct sim_sync *sync = member->world->sync;
    struct sim_side *side = &sync->sides[member->at];
    if (sync->on_disk) {
        sim_disk_wrap(side, &options->machine);
    }
    if (options->statesyncs_count != 0) {
        return; /* the workload's own */
    }
    side->failures = 0;
    (void)memset(side->leases, 0, sizeof side->leases);
    enum ls_status status = ls_log_replay(&sync->options, &side->replay);
    LS_ASSERT(status == LS_OK);
    size_t count = 0;
    if (sync->dud) {
        list[count++] = (struct ls_statesync){.size = sizeof list[0],
                                              .self = side,
                                              .name = "dud",
                                              .signature = dud_signature,
                                              .create_provider = dud_provider,
                                              .create_session = dud_session};
    }
    list[count] = side->replay;
    list[count].self = side;
    list[count].usable = NULL;
    list[count].create_provider = sim_sync_provider;
    list[count].create_session = sim_sync_session;
    count++;
    if (sync->snapshots) {
        status = ls_snapshot_sync(&sync->snapshot, &side->snapshot);
        LS_ASSERT(status == LS_OK);
        list[count] = side->snapshot;
        list[count].self = side;
        list[count].create_provider = sim_snapshot_provider;
        list[count].create_session = sim_snapshot_session;
        count++;
        options->snapshot_entries = sync->snapshot_entries;
        options->prune_entries = member->at == sync->hoarder ? 0 : sync->prune_entries;
        options->lag_entries = sync->lag_entries;
    }
    options->statesyncs = list;
    options->statesyncs_count = count;
    if (sync->cache_bytes != 0) {
        options->cache_bytes = sync->cache_bytes;
    }
}

bool sim_sync_prune_due(const struct sim_member *member)
{
    return member->world->sync->sides[member->at].prune_able && !member->world->quiet;
}

void sim_sync_turn(struct sim_member *member, const struct ls_group_status *status)
{
    struct sim_sync *sync = member->world->sync;
    sync->committed = status->core.commit > sync->committed ? status->core.commit : sync->committed;
    struct sim_side *side = &sync->sides[member->at];
    sim_sync_awake(side);
    if (sync->snapshots) {
        sim_snapshot_turn(side, &status->core);
        sim_disk_turn(&side->disk);
    }
    if (sim_sync_prune_due(member) && status->prune_safe >= status->log_first) {
        side->prune_able = false;
        sim_push(member->world, member->world->now_us, SIM_PRUNE, member->at, 0, 0);
    }
}

/* ---- pruning ---- */

void sim_sync_check_prune(struct sim_member *member, ls_index before, ls_index upto)
{
    struct world *world = member->world;
    struct sim_side *side = &world->sync->sides[member->at];
    if (side->disk.inner.size != 0 && upto > sim_disk_durable(&side->disk)) {
        sim_fail(world, "%s pruned up to %llu, its machine's disk holds %llu", member->name,
                 (unsigned long long)upto, (unsigned long long)sim_disk_durable(&side->disk));
    }
    uint64_t now = sim_member_now(member);
    for (uint32_t i = 0; i < world->count; i++) {
        const struct sim_lease *lease = &side->leases[i];
        if (lease->until_us > now && lease->need > before && upto >= lease->need) {
            sim_fail(world, "%s pruned up to %llu and serves a session of %s that needs %llu",
                     member->name, (unsigned long long)upto, world->members[i].name,
                     (unsigned long long)lease->need);
        }
    }
}

bool sim_sync_prune(struct world *world, uint32_t at)
{
    struct sim_member *member = &world->members[at];
    if (member->group == NULL || member->paused) {
        return false;
    }
    struct ls_group_status status;
    sim_glance(member, &status);
    ls_index before = status.log_first - 1, pruned = 0;
    if (ls_group_prune(member->group, UINT64_MAX, &pruned) != LS_OK || pruned <= before) {
        return false;
    }
    sim_note(world, "%s: pruned up to %llu", member->name, (unsigned long long)pruned);
    sim_mix(world, pruned << 8 | at);
    sim_fault_count(world, SIM_FAULT_PRUNE);
    sim_member_after(member);
    return true;
}

/* At once, or in the middle of what the member serves next. */
bool sim_sync_prune_soon(struct world *world, uint32_t at, bool at_once)
{
    if (at_once && sim_sync_prune(world, at)) {
        return true;
    }
    world->sync->sides[at].prune_able = at_once;
    world->sync->sides[at].prune_next = !at_once;
    return true; /* counted when it strikes */
}

void sim_sync_wipe(struct sim_member *member)
{
    struct sim_sync *sync = member->world->sync;
    struct sim_disk *disk = &sync->sides[member->at].disk;
    disk->count = disk->synced = disk->bytes_count = 0;
    disk->base_at = (struct ls_cursor){0, 0};
    sim_image_clear(&disk->base);
    for (uint32_t i = 0; i < member->world->count; i++) {
        sync->sides[i].prune_next = sync->sides[i].prune_able = false;
    }
}

bool sim_sync_waits(const struct world *world)
{
    return world->sync->dud;
}

bool sim_sync_prunes(const struct world *world)
{
    return world->sync->on_disk || world->sync->snapshots;
}

bool sim_sync_lags(const struct world *world)
{
    return world->sync->cache_bytes != 0;
}

uint64_t sim_sync_catch_ups(const struct world *world)
{
    return world->sync->sessions;
}

bool sim_sync_catching_up(const struct world *world)
{
    bool runs = false;
    for (uint32_t i = 0; i < world->count; i++) {
        runs = runs || world->sync->sides[i].session != NULL;
    }
    return runs;
}

bool sim_sync_keeps_all(const struct world *world)
{
    return !sim_sync_prunes(world);
}

bool sim_sync_snapshots(const struct world *world)
{
    return world->sync->snapshots;
}
