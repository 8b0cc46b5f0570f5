/* SPDX-License-Identifier: MIT */
/*
 * The install of a snapshot, ended at every step: whatever the vault and the store hold when the
 * power goes, the member opens with the old state or the new one, and catches up.
 */
#include "scene.h"

/* S1 */
static void ends_at_any_step(bool durable, uint64_t tear)
{
    struct scene scene;
    scene_open_of(&scene, durable);
    bool all = false;
    uint64_t steps = 0;
    for (uint64_t k = 0; !all; k += 1 + k / (tear == 0 ? 6 : 3)) {
        scene_leave_behind(&scene);
        struct ls_vault_medium *vault = scene.trio.members[scene.away].vault;
        uint64_t before = ls_vault_medium_changes(vault);
        ls_vault_medium_fail(vault, k, UINT64_MAX);
        ls_vault_medium_tear(vault, tear == 0 ? 0 : tear + k);
        scene_start(&scene);
        uint64_t old = scene.trio.members[scene.away].tally.count;
        trio_until(&scene.trio, scene_changed, &(struct scene_reach){&scene, before + k});
        all = ls_vault_medium_changes(vault) <= before + k; /* it needed no more than k */
        scene_power_cut(&scene);
        ls_vault_medium_fail(vault, 0, 0);
        scene_start(&scene);
        uint64_t found = scene.trio.members[scene.away].tally.count;
        assert_true(found >= old && found <= scene.count);
        scene_catches_up(&scene);
        steps++;
    }
    assert_true(steps > 8);
    trio_close(&scene.trio);
}

TEST(install, S1_that_the_power_ends_at_any_step_leaves_the_old_state_or_the_new)
{
    ends_at_any_step(false, 0);
}

TEST(install, of_a_machine_on_disk_may_end_at_any_step)
{
    ends_at_any_step(true, 0);
}

TEST(install, of_which_the_disk_kept_some_pages_leaves_the_old_state_or_the_new)
{
    ends_at_any_step(false, test_seed());
}

static bool published(struct trio *trio, void *arg)
{
    const struct scene *scene = arg;
    return trio->members[scene->away].tally.published > 0;
}

static void is_finished(bool durable)
{
    struct scene scene;
    scene_open_of(&scene, durable);
    scene_leave_behind(&scene);
    struct trio_member *member = &scene.trio.members[scene.away];
    for (int round = 0; round < 3; round++) {
        scene_start(&scene);
        member->tally.published = 0;
        ls_storage_medium_hold(member->medium, true); /* nothing gets durable in the store */
        trio_until(&scene.trio, published, &scene);
        uint64_t count = member->tally.count;
        ls_index first = scene_status(&scene, scene.away).log_first;
        scene_power_cut(&scene);
        ls_storage_medium_hold(member->medium, false);
        scene_start(&scene);
        assert_int_equal(member->tally.count, count);                        /* the new state ... */
        assert_int_equal(scene_status(&scene, scene.away).log_first, first); /* ... and its log */
        scene_catches_up(&scene);
        trio_stop(&scene.trio, scene.away); /* the mark is gone */
        scene_start(&scene);
        scene_catches_up(&scene);
        scene_leave_behind(&scene);
    }
    scene_start(&scene);
    scene_catches_up(&scene);
    trio_close(&scene.trio);
}

TEST(install, S8_that_was_published_is_finished_when_the_log_does_not_know_of_it)
{
    is_finished(false);
}

TEST(install, that_a_machine_on_disk_published_is_finished)
{
    is_finished(true);
}

TEST(install, S14_goes_on_when_the_vault_is_slow)
{
    struct scene scene;
    scene_open(&scene);
    scene_leave_behind(&scene);
    scene_start(&scene);
    struct trio_member *member = &scene.trio.members[scene.away];
    member->tally.published = 0;
    ls_vault_medium_hold(member->vault, true);
    for (int i = 0; i < 50; i++) { /* the loop turns meanwhile */
        assert_int_equal(trio_execute(&scene.trio, scene.leader, "x").status, LS_OK);
        scene.count++;
    }
    assert_int_equal(member->tally.published, 0);
    ls_vault_medium_hold(member->vault, false);
    scene_catches_up(&scene);
    assert_true(member->tally.published > 0);
    trio_close(&scene.trio);
}

static bool failed(struct trio *trio, void *arg)
{
    (void)trio;
    const struct scene *scene = arg;
    return scene_status(scene, scene->away).sync.failures > 0;
}

/* S11 */
TEST(install, S11_that_finds_the_disk_full_says_so_and_serves_the_old_state)
{
    struct scene scene;
    scene_open(&scene);
    scene_leave_behind(&scene);
    struct trio_member *member = &scene.trio.members[scene.away];
    ls_vault_medium_fail(member->vault, 3, UINT64_MAX);
    scene_start(&scene);
    uint64_t old = member->tally.count;
    trio_until(&scene.trio, failed, &scene);
    struct ls_group_status status = scene_status(&scene, scene.away);
    assert_int_equal(status.halted, LS_OK);
    assert_int_equal(member->tally.count, old);
    assert_string_equal(status.sync.reason, "a chunk could not be staged");
    ls_vault_medium_fail(member->vault, 0, 0);
    trio_stop(&scene.trio, scene.away); /* rather than wait for the next attempt */
    scene_start(&scene);
    scene_catches_up(&scene);
    trio_close(&scene.trio);
}

/* ---- files that are not what was written ----------------------------------------------------- */

/* S12 */
TEST(file, S12_that_is_damaged_is_refused_when_the_log_is_pruned)
{
    struct scene scene;
    scene_open(&scene);
    scene_leave_behind(&scene);
    size_t at =
        (scene.leader + 2) % 3 == scene.away ? (scene.leader + 1) % 3 : (scene.leader + 2) % 3;
    struct trio_member *member = &scene.trio.members[at];
    struct ls_group_id id = scene_status(&scene, at).id;
    trio_stop(&scene.trio, at);
    assert_true(ls_vault_medium_flip(member->vault, &id, LS_VAULT_SNAPSHOT, 5000));
    struct ls_error error = {LS_OK, ""};
    assert_int_equal(trio_try_start(&scene.trio, at, &error), LS_ERR_CORRUPT);
    assert_non_null(strstr(error.text, "snapshot file"));
    assert_true(ls_vault_medium_flip(member->vault, &id, LS_VAULT_SNAPSHOT, 5000));
    trio_start(&scene.trio, at);
    trio_start(&scene.trio, scene.away);
    trio_wait_equal(&scene.trio, scene.count);
    trio_close(&scene.trio);
}

static bool has_file(struct trio *trio, void *arg)
{
    const size_t *at = arg;
    return trio->members[*at].tally.thaws > 0;
}

TEST(file, that_is_damaged_is_left_for_the_log_when_that_is_whole)
{
    struct scene scene;
    scene_open(&scene);
    for (int i = 0; i < 700; i += 100) {
        for (int c = 0; c < 100; c++) {
            assert_ok(ls_group_feed(scene.trio.members[scene.leader].group,
                                    (struct ls_span){"x", 1}, NULL, NULL, NULL));
        }
    }
    trio_wait_equal(&scene.trio, 700);
    size_t at = scene.away;
    trio_until(&scene.trio, has_file, &at);
    struct ls_group_id id = scene_status(&scene, at).id;
    trio_stop(&scene.trio, at);
    assert_true(ls_vault_medium_flip(scene.trio.members[at].vault, &id, LS_VAULT_SNAPSHOT, 5000));
    trio_start(&scene.trio, at);
    assert_int_equal(scene.trio.members[at].tally.count, 0);
    trio_wait_equal(&scene.trio, 700);
    trio_close(&scene.trio);
}

TEST(file, that_is_being_written_when_the_power_ends_leaves_the_one_before)
{
    struct scene scene;
    scene_open(&scene);
    for (uint64_t k = 0; k < 40; k += 4) {
        scene_leave_behind(&scene);
        struct trio_member *member = &scene.trio.members[scene.away];
        trio_start(&scene.trio, scene.away);
        ls_vault_medium_fail(member->vault, k, UINT64_MAX);
        trio_until(&scene.trio, scene_changed,
                   &(struct scene_reach){&scene, ls_vault_medium_changes(member->vault) + k});
        scene_power_cut(&scene);
        ls_vault_medium_fail(member->vault, 0, 0);
        trio_start(&scene.trio, scene.away);
        scene_catches_up(&scene);
    }
    trio_close(&scene.trio);
}

struct written {
    size_t at;
    ls_index index;
};

static bool file_reaches(struct trio *trio, void *arg)
{
    const struct written *written = arg;
    struct ls_group_status status;
    ls_group_status(trio->members[written->at].group, &status);
    return status.snapshot_index >= written->index;
}

/* The first file is held up in its sync; what is applied meanwhile is due for the next one. */
TEST(file, S15_that_becomes_due_while_one_is_written_is_written_after_it)
{
    struct scene scene;
    scene_open(&scene);
    struct trio *trio = &scene.trio;
    struct trio_member *member = &trio->members[scene.leader];
    ls_vault_medium_hold(member->vault, true);
    for (int i = 0; i < 1200; i++) {
        assert_ok(ls_group_feed(member->group, (struct ls_span){"x", 1}, NULL, NULL, NULL));
        if (i == 399) {
            trio_wait_equal(trio, 400); /* the first one is frozen here at the latest */
        }
    }
    trio_wait_equal(trio, 1200);
    assert_int_equal(scene_status(&scene, scene.leader).snapshot_index, 0);
    ls_vault_medium_hold(member->vault, false);
    trio_until(trio, file_reaches, &(struct written){scene.leader, 900});
    assert_true(scene_status(&scene, scene.leader).snapshots_written >= 2);
    trio_close(trio);
}

/* Twice in a row the logs are pruned and a member comes back by snapshot; then all begin again with
 * what their files tell of the members. */
TEST(install, S16_twice_in_a_row_keeps_the_members)
{
    struct scene scene;
    scene_open(&scene);
    struct trio *trio = &scene.trio;
    for (int round = 0; round < 2; round++) {
        scene_leave_behind(&scene);
        trio_start(trio, scene.away);
        scene_catches_up(&scene);
    }
    for (size_t i = 0; i < 3; i++) {
        trio_stop(trio, i);
    }
    for (size_t i = 0; i < 3; i++) {
        trio_start(trio, i);
    }
    scene.leader = trio_wait_leader(trio);
    for (size_t i = 0; i < 3; i++) {
        struct ls_group_status status = scene_status(&scene, i);
        assert_non_null(status.core.configuration);
        assert_int_equal(status.core.configuration->configuration.count, 3);
        assert_int_equal(status.core.standing, LS_STANDING_COUNTS);
        assert_true(status.log_first > SCENE_BATCH);
    }
    /* the one that was away is needed for the quorum now */
    trio_stop(trio, scene.leader == scene.away ? (scene.away + 1) % 3 : scene.leader);
    (void)trio_execute(trio, trio_wait_leader(trio), "x");
    trio_wait_equal(trio, scene.count + 1);
    trio_close(trio);
}

TEST(install, finds_a_staged_file_of_another_version_and_begins_anew)
{
    struct scene scene;
    scene_open(&scene);
    scene_leave_behind(&scene);
    const struct ls_group_id id = scene_status(&scene, scene.leader).id;
    struct ls_vault vault;
    uint8_t bytes[200] = "LSP9";
    ls_vault_memory_open_on(scene.trio.members[scene.away].vault, &vault);
    assert_ok(
        vault.write(vault.self, &id, LS_VAULT_STAGED, 0, (struct ls_span){bytes, sizeof bytes}));
    assert_ok(vault.sync(vault.self, &id, LS_VAULT_STAGED));
    vault.close(vault.self);
    scene_start(&scene);
    scene_catches_up(&scene);
    trio_close(&scene.trio);
}
