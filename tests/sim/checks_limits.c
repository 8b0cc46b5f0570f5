/* SPDX-License-Identifier: MIT */
/*
 * Checks of what a member costs: memory, turns of its loop, what waits in it.
 *
 * memory     what its node holds is bounded, and nothing of it is left when it has closed
 * turns      in no virtual second are there more than its inputs and its own deadlines explain
 * buffers    bytes in flight stay within the settings of the group
 * steady     at the end of a run, without faults: an idle group turns for heartbeats alone, and one
 *            under load has whole stretches in which no node allocates anything
 * prune      what is removed from a log is on the medium of every other member
 */
#include "sync.h"

#include <stdlib.h>

#define U(number) ((unsigned long long)(number))

#define SECOND_US 1000000u
/* turns in a second that no input and no heartbeat explains: elections, deadlines of calls, links
 */
#define TURNS_SLACK 200u
/* turns of a member of an idle group in a second, beside those for heartbeats and their answers */
#define IDLE_TURNS 20u
/* two idle seconds may pass so often until they are without an allocation */
#define IDLE_STRETCHES_MAX 5u
/* memory of a node beside what its settings bound: tables of fixed size, replies, messages */
#define MEMORY_BASE (6u << 20)
/* chunks that are cut, sent, held and read back, tables, messages of both sides */
#define MEMORY_SNAPSHOTS (8u << 20)
/* a range that log replay has fetched has a block of its own, however small */
#define MEMORY_RANGES (LS_REPLAY_RANGES_MAX * (16u << 10))
/* a stretch of load, and how many of them may pass until one is without an allocation */
#define STRETCH_US    150000u
#define STRETCHES_MAX 100u
/* fewer judged ones tell nothing: pools grow at first */
#define JUDGED_MIN 10u
/* stretches of load in which nothing is acknowledged: a slow member may be asked by all clients */
#define SILENT_MAX 40u

/* ---- memory ---- */

void *sim_check_allocate(struct sim_member *member, void *block, size_t bytes)
{
    struct sim_watch *watch = &member->watch;
    max_align_t *head = block == NULL ? NULL : (max_align_t *)block - 1;
    size_t before = 0;
    if (head != NULL) {
        (void)memcpy(&before, head, sizeof before);
    }
    if (bytes == 0) {
        free(head);
        watch->live_bytes -= before;
        return NULL;
    }
    head = realloc(head, sizeof *head + bytes);
    if (head == NULL) {
        return NULL;
    }
    (void)memcpy(head, &bytes, sizeof bytes);
    watch->allocations++;
    watch->live_bytes += bytes - before;
    watch->live_bytes_max =
        watch->live_bytes > watch->live_bytes_max ? watch->live_bytes : watch->live_bytes_max;
    return head + 1;
}

void sim_check_closed(struct sim_member *member)
{
    sim_note(member->world, "%s: its node held up to %llu bytes", member->name,
             U(member->watch.live_bytes_max));
    if (member->watch.live_bytes != 0) {
        sim_fail(member->world, "%s has closed and left %llu bytes behind", member->name,
                 U(member->watch.live_bytes));
    }
}

/* ---- turns ---- */

static void second_judge(struct sim_member *member)
{
    struct world *world = member->world;
    struct sim_watch *watch = &member->watch;
    uint64_t heartbeats = 1100u / world->heartbeat_ms + 1;
    uint64_t most = 2 * watch->inputs + 10 * heartbeats + TURNS_SLACK;
    if (watch->turns > most) {
        sim_fail(world, "a hot loop: %s turned %llu times in a second, for %llu inputs",
                 member->name, U(watch->turns), U(watch->inputs));
    }
}

static void second_of(struct sim_member *member)
{
    uint64_t second = member->world->now_us / SECOND_US;
    if (member->watch.second != second) {
        second_judge(member);
        member->watch.second = second;
        member->watch.turns = member->watch.inputs = 0;
    }
}

void sim_check_input(struct sim_member *member)
{
    second_of(member);
    member->watch.inputs++;
}

void sim_check_refused(struct sim_member *member)
{
    uint64_t ms = member->world->now_us / 1000u;
    if (member->watch.refused_ms != ms) {
        member->watch.refused_ms = ms;
        sim_check_input(member);
    }
}

void sim_check_loop(struct sim_member *member)
{
    second_of(member);
    member->watch.turns++;
    member->turns++;
}

/* ---- buffers and pruning ---- */

/* A leader whose window to a member is full appends nothing more. That more than the window is in
 * flight is no fault: what went to a member while state sync ran counts from the moment it ends. */
static void window_judge(struct sim_member *member, const struct ls_progress *progress)
{
    struct world *world = member->world;
    struct sim_watch *watch = &member->watch;
    uint32_t at = sim_member_find(world, &progress->id);
    if (at == world->count) {
        return;
    }
    /* a probe counts what the member may hold already: one append is under way at most */
    bool over = progress->state == LS_PROGRESS_PIPELINE &&
                progress->in_flight_bytes > watch->window_bytes + watch->append_bytes_max;
    bool left = progress->next <= watch->sent_next[at]; /* the last append may not have yet */
    if (over && left && watch->window_next[at] != 0 && progress->next > watch->window_next[at]) {
        sim_fail(world, "%s has %llu bytes in flight to a member, its window is %llu", member->name,
                 U(progress->in_flight_bytes), U(watch->window_bytes));
    }
    watch->window_next[at] = over ? progress->next : 0;
}

/* Payloads that were committed, and at a leader durable, make room for others, whoever lags (G1,
 * G2). */
static void cache_judge(struct sim_member *member, const struct ls_core_status *core)
{
    bool leads = core->role == LS_ROLE_LEADER && core->durable < core->commit;
    ls_index settled = leads ? core->durable : core->commit;
    if (core->cached_bytes > member->watch.cache_bytes && core->cache_first <= settled) {
        sim_fail(member->world, "%s keeps %llu bytes of entries from %llu on, its cache is %llu",
                 member->name, U(core->cached_bytes), U(core->cache_first),
                 U(member->watch.cache_bytes));
    }
}

void sim_check_buffers(struct sim_member *member, const struct ls_group_status *status)
{
    struct world *world = member->world;
    const struct sim_watch *watch = &member->watch;
    cache_judge(member, &status->core);
    if (status->in_flight_bytes > watch->in_flight_bytes) {
        sim_fail(world, "%s holds %llu bytes of calls, its limit is %llu", member->name,
                 U(status->in_flight_bytes), U(watch->in_flight_bytes));
    }
    for (uint32_t i = 0; i < status->core.progress_count; i++) {
        window_judge(member, &status->core.progress[i]);
    }
    /* not the setting: what is not committed stays in the cache, and a state may be frozen */
    uint64_t cached =
        LS_CACHE_BYTES_DEFAULT < watch->log_bytes ? LS_CACHE_BYTES_DEFAULT : watch->log_bytes;
    uint64_t buffered = watch->log_bytes + MEMORY_RANGES;
    buffered = LS_REPLAY_BUFFER_BYTES_MAX < buffered ? LS_REPLAY_BUFFER_BYTES_MAX : buffered;
    uint64_t most = MEMORY_BASE + 2 * cached + buffered + 4 * status->in_flight_bytes;
    most += sim_sync_snapshots(world) ? MEMORY_SNAPSHOTS : 0;
    if (watch->live_bytes > most) {
        sim_fail(world, "%s holds %llu bytes of memory, its settings and the load explain %llu",
                 member->name, U(watch->live_bytes), U(most));
    }
}

void sim_check_prune(struct sim_member *member, ls_index upto)
{
    struct world *world = member->world;
    if (upto > member->shadow.last) {
        sim_fail(world, "%s prunes up to %llu, its log ends at %llu", member->name, U(upto),
                 U(member->shadow.last));
        return;
    }
    struct sim_shadow *shadow = &member->shadow;
    sim_sync_check_prune(member, shadow->anchor, upto);
    shadow->anchor = upto > shadow->anchor ? upto : shadow->anchor;
    if (sim_sync_snapshots(world)) {
        sim_snapshot_leads(member);
        sim_snapshot_check_prune(&world->sync->sides[member->at], upto);
    }
    for (uint32_t i = 0; i < world->count; i++) {
        struct sim_member *other = &world->members[i];
        /* a snapshot brings back who lags too far, and who lost all it had */
        bool given_up = sim_sync_snapshots(world) &&
                        (world->sync->sides[i].given_up >= upto ||
                         (other->rules.wipes > 0 && sim_member_disk_last(other) == 0));
        if (!given_up && !sim_check_holds(other, upto, member->shadow.log[upto])) {
            sim_fail(world, "%s prunes up to %llu, which %s still needs", member->name, U(upto),
                     other->name);
        }
    }
}

/* ---- steady ---- */

static uint64_t leader_changes(const struct world *world)
{
    return world->checks.leader_changes + world->network.sessions;
}

static uint64_t allocations(const struct world *world)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < world->count; i++) {
        sum += world->members[i].watch.allocations;
    }
    return sum;
}

/* Two idle seconds; returns how often memory was allocated. */
static uint64_t idle_stretch(struct world *world)
{
    uint64_t before[SIM_MEMBERS_MAX];
    uint64_t made = allocations(world);
    for (uint32_t i = 0; i < world->count; i++) {
        before[i] = world->members[i].turns;
    }
    (void)sim_world_until(world, world->now_us + 2 * SECOND_US, NULL);
    /* one for the timer of the leader, and one for each answer; a clock may run 10 % too fast */
    uint64_t most = 2 * (1100u / world->heartbeat_ms + 1) * world->count + 2 * IDLE_TURNS;
    for (uint32_t i = 0; i < world->count && !world->failed; i++) {
        uint64_t turns = world->members[i].turns - before[i];
        if (turns > most) {
            sim_fail(world, "%s turned %llu times in two idle seconds, heartbeats explain %llu",
                     world->members[i].name, U(turns), U(most));
        }
    }
    return allocations(world) - made;
}

static void check_idle(struct world *world)
{
    (void)sim_world_until(world, world->now_us + 3 * SECOND_US, NULL);
    uint64_t changes = leader_changes(world), made = UINT64_MAX;
    /* pools grow until they have met the most that coincides */
    for (uint32_t i = 0; i < IDLE_STRETCHES_MAX && made != 0 && !world->failed; i++) {
        made = idle_stretch(world);
    }
    if (!world->failed && made != 0) {
        sim_fail(world, "memory is allocated in each two idle seconds: at last %llu times",
                 U(made));
    }
    if (!world->failed && leader_changes(world) != changes) {
        sim_fail(world, "an idle group without faults changed its leader or lost a link");
    }
}

static void check_load(struct world *world)
{
    uint32_t stretch = 0, silent = 0, judged = 0;
    uint64_t made = UINT64_MAX;
    world->steady = true;
    for (uint32_t i = 0; i < world->clients_count; i++) {
        sim_push(world, world->now_us + 1000u * i, SIM_CLIENT, i, 0, 0);
    }
    for (; stretch < STRETCHES_MAX && (made != 0 || silent > 0) && !world->failed; stretch++) {
        uint64_t before = allocations(world), done = world->acknowledged;
        uint64_t catch_ups = sim_sync_catch_ups(world);
        bool catching_up = sim_sync_catching_up(world);
        (void)sim_world_until(world, world->now_us + STRETCH_US, NULL);
        /* a cache of some hundred bytes leaves healthy members to state sync, which allocates */
        if (!sim_sync_lags(world) || (!catching_up && sim_sync_catch_ups(world) == catch_ups)) {
            made = sim_sync_snapshots(world) ? 0 : allocations(world) - before; /* files */
            judged++;
        }
        silent = world->acknowledged == done ? silent + 1 : 0;
        if (silent > SILENT_MAX && !world->failed) {
            sim_fail(world, "nothing is acknowledged in %u virtual ms of load without faults",
                     silent * (STRETCH_US / 1000u));
        }
    }
    world->steady = false;
    sim_note(world, "%u stretches of load until nothing was allocated", stretch);
    if (made != 0 && judged >= JUDGED_MIN && !world->failed) {
        sim_fail(world, "memory is allocated on the steady path: %llu times in %u virtual ms",
                 U(made), STRETCH_US / 1000u);
    }
}

void sim_check_steady(struct world *world)
{
    check_idle(world);
    if (!world->failed) {
        check_load(world);
    }
}
