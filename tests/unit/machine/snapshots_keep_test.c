/* SPDX-License-Identifier: MIT */
/* Snapshot files of machines in memory: when they are written, and how much of a turn that takes.
 */
#include "trio.h"

static struct ls_log_replay_options keep_little = {.size = sizeof keep_little, .keep_entries = 100};

static void open_files(struct trio *trio, struct ls_statesync syncs[2], const struct ls_env *env)
{
    trio_open_in(trio, 1, env);
    assert_ok(ls_log_replay(&keep_little, &syncs[0]));
    assert_ok(ls_snapshot_sync(NULL, &syncs[1]));
    trio->options.statesyncs = syncs;
    trio->options.statesyncs_count = 2;
    trio->options.snapshot_entries = 300;
    trio->options.prune_entries = 0;
    trio->snapshots = true;
}

static bool written(struct trio *trio, void *arg)
{
    (void)arg;
    return trio_status(trio, 0).snapshots_written > 0;
}

TEST(file, is_not_written_for_a_group_that_never_prunes_by_itself)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_files(&trio, syncs, NULL);
    trio.options.statesyncs_count = 1;
    size_t leader = trio_up(&trio);
    trio_load(&trio, leader, 3);
    trio_wait_equal(&trio, 3 * TRIO_BATCH);
    assert_int_equal(trio.members[0].tally.freezes, 0);
    assert_int_equal(trio_status(&trio, 0).snapshots_written, 0);
    trio_close(&trio);
}

static bool pruned(struct trio *trio, void *arg)
{
    ls_index *index = arg;
    assert_ok(ls_group_prune(trio->members[0].group, UINT64_MAX, index));
    return *index > 0;
}

/* The process may have ended between the exchange of the names and its sync. */
TEST(file, that_is_found_at_a_join_does_not_let_the_log_go_before_it_is_synced)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_files(&trio, syncs, NULL);
    size_t leader = trio_up(&trio);
    trio_load(&trio, leader, 3);
    trio_until(&trio, written, NULL);
    trio_stop(&trio, 0);
    ls_vault_medium_hold(trio.members[0].vault, true);
    trio_start(&trio, 0);
    trio_load(&trio, trio_wait_leader(&trio), 1);
    trio_wait_equal(&trio, 4 * TRIO_BATCH);
    assert_true(trio_status(&trio, 0).snapshot_index > 0);
    ls_index index = 0;
    assert_false(pruned(&trio, &index));
    ls_vault_medium_hold(trio.members[0].vault, false);
    trio_until(&trio, pruned, &index);
    trio_close(&trio);
}

/* Then nobody knows what a power cut leaves of it, so it is as if there were none. */
TEST(file, that_is_found_at_a_join_and_cannot_be_synced_is_not_counted_on)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_files(&trio, syncs, NULL);
    size_t leader = trio_up(&trio);
    trio_load(&trio, leader, 3);
    trio_until(&trio, written, NULL);
    trio_stop(&trio, 0);
    ls_vault_medium_fail(trio.members[0].vault, 0, UINT64_MAX);
    trio_start(&trio, 0);
    trio_load(&trio, trio_wait_leader(&trio), 1);
    trio_wait_equal(&trio, 4 * TRIO_BATCH);
    ls_index index = 0;
    assert_false(pruned(&trio, &index));
    assert_int_equal(trio_status(&trio, 0).snapshot_index, 0);
    trio_close(&trio);
}

/* ---- a disk that is full ----------------------------------------------------------------------
 */

static struct ls_vault whole;
static uint64_t refused_writes;

static enum ls_status full_write(void *self, const struct ls_group_id *group,
                                 enum ls_vault_file file, uint64_t offset, struct ls_span bytes)
{
    if (file == LS_VAULT_WRITING && offset + bytes.bytes > 10000) {
        refused_writes++;
        return LS_ERR_IO;
    }
    return whole.write(self, group, file, offset, bytes);
}

static void make_full(struct ls_vault *vault)
{
    whole = *vault;
    vault->write = full_write;
}

static bool write_refused(struct trio *trio, void *arg)
{
    (void)trio;
    (void)arg;
    return refused_writes > 0;
}

TEST(file, that_the_disk_has_no_room_for_gives_back_what_it_took)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_files(&trio, syncs, NULL);
    refused_writes = 0;
    trio.on_vault = make_full;
    size_t leader = trio_up(&trio);
    trio_load(&trio, leader, 3);
    trio_until(&trio, write_refused, NULL);
    const struct ls_group_id id = trio_status(&trio, 0).id;
    char byte = 0;
    size_t got = 0;
    assert_int_equal(whole.read(whole.self, &id, LS_VAULT_WRITING, 0, &byte, 1, &got),
                     LS_ERR_NOT_FOUND);
    trio_close(&trio);
}

/* ---- a disk that has enough to do ------------------------------------------------------------ */

TEST(file, goes_on_when_the_disk_has_time_for_it)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    open_files(&trio, syncs, NULL);
    trio.on_vault = trio_make_busy;
    size_t leader = trio_up(&trio);
    trio_load(&trio, leader, 3);
    trio_until(&trio, written, NULL);
    assert_true(trio_busy_writes() > 6);
    ls_index index = trio_status(&trio, 0).snapshot_index;
    trio_stop(&trio, 0);
    trio_start(&trio, 0); /* and it is whole */
    assert_true(trio_status(&trio, 0).snapshot_index >= index);
    assert_true(trio.members[0].tally.count > 0);
    trio_close(&trio);
}

/* ---- the time of a turn ---------------------------------------------------------------------- */

static uint64_t slow_us; /* by so much is the clock ahead */
static struct ls_machine plain;
static struct trio *watched;
static uint64_t chunks, last_turn, in_turn, in_turn_max;

static uint64_t ahead(void *self)
{
    (void)self;
    return ls_env_default()->now_us(NULL) + slow_us;
}

/* Each chunk takes a good part of the slice. */
static enum ls_status slow_iterate(void *self, const struct ls_frozen *frozen, struct ls_span from,
                                   ls_item_visit visit, void *arg)
{
    struct ls_node_status status;
    ls_node_status(watched->members[0].node, &status);
    in_turn = status.turns == last_turn ? in_turn + 1 : 1;
    last_turn = status.turns;
    in_turn_max = in_turn > in_turn_max ? in_turn : in_turn_max;
    chunks++;
    slow_us += 700;
    return plain.iterate(self, frozen, from, visit, arg);
}

static void make_slow(struct ls_machine *machine)
{
    plain = *machine;
    machine->iterate = slow_iterate;
}

TEST(file, is_written_in_slices_of_a_millisecond_and_a_chunk)
{
    struct trio trio;
    struct ls_statesync syncs[2];
    struct ls_env env = *ls_env_default();
    env.now_us = ahead;
    open_files(&trio, syncs, &env);
    trio.options.snapshot_entries = 600; /* then all items are there */
    watched = &trio;
    trio.on_machine = make_slow;
    chunks = in_turn_max = 0;
    size_t leader = trio_up(&trio);
    trio_load(&trio, leader, 2);
    trio_until(&trio, written, NULL);
    assert_true(chunks >= 8);
    assert_true(in_turn_max <= 2); /* two take longer than a slice */
    trio_close(&trio);
}
