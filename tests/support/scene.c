/* SPDX-License-Identifier: MIT */
/* See scene.h. */
#include "scene.h"

/* short leases: what was served a moment ago does not keep the log */
static struct ls_log_replay_options keep_little = {
    .size = sizeof keep_little, .keep_entries = 100, .lease_ms = 70};
static struct ls_snapshot_options snapshots = {.size = sizeof snapshots, .lease_ms = 70};
static struct ls_statesync syncs[2];

void scene_open_of(struct scene *scene, bool durable)
{
    struct trio *trio = &scene->trio;
    trio_open(trio, 3);
    assert_ok(ls_log_replay(&keep_little, &syncs[0]));
    assert_ok(ls_snapshot_sync(&snapshots, &syncs[1]));
    trio->options.statesyncs = syncs;
    trio->options.statesyncs_count = 2;
    trio->options.cache_bytes = 16u << 10;
    trio->options.window_bytes = 8u << 10;
    trio->options.snapshot_entries = 300;
    trio->options.lag_entries = 400;
    trio->options.prune_entries = 0;
    trio->options.election_ms = 500;
    trio->options.heartbeat_ms = 50;
    trio->snapshots = true;
    trio->durable = durable;
    scene->leader = trio_up(trio);
    scene->away = (scene->leader + 1) % 3;
    scene->count = 0;
}

void scene_open(struct scene *scene)
{
    scene_open_of(scene, false);
}

struct ls_group_status scene_status(const struct scene *scene, size_t at)
{
    struct ls_group_status status;
    ls_group_status(scene->trio.members[at].group, &status);
    return status;
}

static bool others_pruned(struct trio *trio, void *arg)
{
    const struct scene *scene = arg;
    bool all = true;
    for (size_t i = 0; i < 3; i++) {
        ls_index pruned = 0;
        if (i != scene->away) {
            assert_ok(ls_group_prune(trio->members[i].group, UINT64_MAX, &pruned));
            all = all && pruned + 450 >= scene_status(scene, scene->leader).core.commit;
        }
    }
    return all;
}

void scene_leave_behind(struct scene *scene)
{
    struct trio *trio = &scene->trio;
    if (trio->members[scene->away].node != NULL) {
        trio_stop(trio, scene->away);
    }
    scene->leader = trio_wait_leader(trio);
    struct ls_span commands[SCENE_BATCH];
    for (size_t c = 0; c < SCENE_BATCH; c++) {
        commands[c] = (struct ls_span){"a command of some bytes", 23};
    }
    for (int done = 0; done < 2;) {
        struct trio_outcome outcome = {0};
        assert_ok(ls_group_execute_many(trio->members[scene->leader].group, commands, SCENE_BATCH,
                                        NULL, trio_done, &outcome));
        trio_wait(trio, &outcome);
        done += outcome.status == LS_OK;
        if (outcome.status != LS_OK) { /* a busy machine: another leads now */
            assert_int_equal(outcome.status, LS_ERR_UNKNOWN);
            scene->leader = trio_wait_leader(trio);
        }
    }
    trio_wait_equal(trio, scene->count + 2u * SCENE_BATCH);
    scene->count = trio->members[scene->leader].tally.count;
    trio_until(trio, others_pruned, scene);
}

void scene_start(struct scene *scene)
{
    /* it writes no files of its own: the changes of its vault are those of the install */
    scene->trio.options.snapshot_entries = 1u << 30;
    trio_start(&scene->trio, scene->away);
    scene->trio.options.snapshot_entries = 300;
}

void scene_catches_up(struct scene *scene)
{
    struct trio *trio = &scene->trio;
    trio_wait_equal(trio, scene->count);
    assert_memory_equal(trio->members[scene->away].tally.items,
                        trio->members[scene->leader].tally.items,
                        (size_t)TALLY_ITEMS * TALLY_ITEM_BYTES);
}

void scene_power_cut(struct scene *scene)
{
    ls_storage_medium_power_cut(scene->trio.members[scene->away].medium);
    ls_vault_medium_power_cut(scene->trio.members[scene->away].vault);
    trio_stop(&scene->trio, scene->away);
}

bool scene_changed(struct trio *trio, void *arg)
{
    const struct scene_reach *reach = arg;
    const struct trio_member *member = &trio->members[reach->scene->away];
    return ls_vault_medium_changes(member->vault) > reach->changes ||
           (member->tally.count >= reach->scene->count &&
            scene_status(reach->scene, reach->scene->away).online);
}

bool scene_has_file(const struct scene *scene, const struct ls_group_id *id,
                    enum ls_vault_file file)
{
    struct ls_vault vault;
    ls_vault_memory_open_on(scene->trio.members[scene->away].vault, &vault);
    uint8_t byte = 0;
    size_t got = 0;
    bool there = vault.read(vault.self, id, file, 0, &byte, 1, &got) == LS_OK;
    vault.close(vault.self);
    return there;
}
