/* SPDX-License-Identifier: MIT */
/*
 * The mark of an install: what a join makes of it, and that it outlives a publish that failed, for
 * nobody knows then which state the machine has.
 */
#include "scene.h"

#include "pack.h"

/* A mark of that anchor, durable, as an install leaves it whose last step failed. */
static void leave_mark(struct scene *scene, struct ls_cursor anchor)
{
    struct trio_member *member = &scene->trio.members[scene->away];
    struct ls_node_status node;
    ls_node_status(member->node, &node);
    const struct ls_group_id id = scene_status(scene, scene->away).id;
    trio_stop(&scene->trio, scene->away);
    struct ls_vault vault;
    ls_vault_memory_open_on(member->vault, &vault);
    struct ls__pack pack;
    assert_ok(
        ls__pack_open(&pack, ls_env_default(), &vault, &id, &node.incarnation, LS_VAULT_MARK));
    uint8_t configuration[16] = {0};
    const struct ls_snapshot snapshot = {.anchor = anchor,
                                         .configuration = {configuration, sizeof configuration}};
    assert_ok(ls__pack_table(&pack, &snapshot, NULL));
    assert_ok(vault.sync(vault.self, &id, LS_VAULT_MARK));
    ls__pack_close(&pack);
    vault.close(vault.self);
}

static bool has_mark(const struct scene *scene, const struct ls_group_id *id)
{
    return scene_has_file(scene, id, LS_VAULT_MARK);
}

static void is_dropped(bool durable)
{
    struct scene scene;
    scene_open_of(&scene, durable);
    scene_leave_behind(&scene);
    scene_start(&scene);
    scene_catches_up(&scene);
    const struct ls_group_status status = scene_status(&scene, scene.away);
    const ls_index indices[] = {status.log_first - 30, status.log_first - 1, status.core.applied,
                                status.core.applied + 30};
    for (size_t i = 0; i < sizeof indices / sizeof indices[0]; i++) {
        leave_mark(&scene, (struct ls_cursor){status.core.term, indices[i]});
        scene_start(&scene);
        assert_false(has_mark(&scene, &status.id));
        scene_catches_up(&scene);
    }
    trio_close(&scene.trio);
}

TEST(mark, that_stayed_behind_is_dropped_wherever_the_log_is_now)
{
    is_dropped(false);
}

TEST(mark, that_stayed_behind_beside_a_machine_on_disk_is_dropped)
{
    is_dropped(true);
}

static enum ls_status never_removed(void *self, const struct ls_group_id *group,
                                    enum ls_vault_file file)
{
    (void)self;
    (void)group;
    (void)file;
    return LS_ERR_IO;
}

static void make_unremovable(struct ls_vault *vault)
{
    vault->remove = never_removed;
}

TEST(mark, that_cannot_be_removed_keeps_nobody_from_joining)
{
    struct scene scene;
    scene_open(&scene);
    scene_leave_behind(&scene);
    scene_start(&scene);
    scene_catches_up(&scene);
    const struct ls_group_status status = scene_status(&scene, scene.away);
    leave_mark(&scene, (struct ls_cursor){status.core.term, status.log_first - 1});
    scene.trio.on_vault = make_unremovable;
    for (int i = 0; i < 2; i++) {
        scene_start(&scene);
        assert_true(has_mark(&scene, &status.id));
        scene_catches_up(&scene);
        trio_stop(&scene.trio, scene.away);
    }
    scene.trio.on_vault = NULL;
    scene_start(&scene);
    assert_false(has_mark(&scene, &status.id));
    scene_catches_up(&scene);
    trio_close(&scene.trio);
}

/* ---- a publish that fails -------------------------------------------------------------------- */

static bool halted(struct trio *trio, void *arg)
{
    (void)trio;
    const struct scene *scene = arg;
    return scene_status(scene, scene->away).halted != LS_OK;
}

static bool nothing_staged(struct trio *trio, void *arg)
{
    (void)trio;
    const struct scene *scene = arg;
    const struct ls_group_id id = scene_status(scene, scene->away).id;
    return !scene_has_file(scene, &id, LS_VAULT_STAGED);
}

/* The machine on disk fails to switch, and did or did not: the next join knows what to do. */
static void publish_fails(bool happened)
{
    struct scene scene;
    scene_open_of(&scene, true);
    scene_leave_behind(&scene);
    struct trio_member *member = &scene.trio.members[scene.away];
    scene_start(&scene);
    const struct ls_group_status before = scene_status(&scene, scene.away);
    member->tally.publish_answer = LS_ERR_IO;
    member->tally.publish_all_the_same = happened;
    trio_until(&scene.trio, halted, &scene);
    assert_int_equal(scene_status(&scene, scene.away).halted, LS_ERR_IO);
    assert_int_equal(scene_status(&scene, scene.away).core.commit, before.core.commit);
    scene_power_cut(&scene);
    assert_true(has_mark(&scene, &before.id));
    member->tally.publish_answer = LS_OK;
    uint64_t count = member->tally.count;
    scene_start(&scene);
    assert_int_equal(member->tally.count, count);
    assert_true(happened ==
                (count > 0 && scene_status(&scene, scene.away).log_first > before.log_first));
    assert_int_equal(has_mark(&scene, &before.id), happened); /* until the log is durable */
    scene_catches_up(&scene);
    trio_until(&scene.trio, nothing_staged, &scene); /* neither way */
    trio_close(&scene.trio);
}

TEST(install, whose_publish_failed_halts_and_is_finished_when_it_happened)
{
    publish_fails(true);
}

TEST(install, whose_publish_failed_halts_and_begins_again_when_it_did_not_happen)
{
    publish_fails(false);
}

TEST(install, whose_publish_is_busy_waits)
{
    struct scene scene;
    scene_open_of(&scene, true);
    scene_leave_behind(&scene);
    struct trio_member *member = &scene.trio.members[scene.away];
    scene_start(&scene);
    member->tally.publish_answer = LS_ERR_BUSY;
    member->tally.publish_answers = 3;
    scene_catches_up(&scene);
    assert_int_equal(scene_status(&scene, scene.away).sync.failures, 0);
    assert_int_equal(member->tally.publish_answer, LS_OK);
    trio_close(&scene.trio);
}

/* ---- a file that does not take the place of another ------------------------------------------ */

static struct ls_vault plain;
static bool replace_happens;

static enum ls_status failing_replace(void *self, const struct ls_group_id *group,
                                      enum ls_vault_file from, enum ls_vault_file to)
{
    if (replace_happens) {
        assert_ok(plain.replace(self, group, from, to));
    }
    return LS_ERR_IO;
}

static void break_replace(struct ls_vault *vault)
{
    plain = *vault;
    vault->replace = failing_replace;
}

static void replace_fails(bool happened)
{
    struct scene scene;
    scene_open(&scene);
    scene_leave_behind(&scene);
    replace_happens = happened;
    scene.trio.on_vault = break_replace;
    scene_start(&scene);
    scene.trio.on_vault = NULL;
    const struct ls_group_status before = scene_status(&scene, scene.away);
    uint64_t count = scene.trio.members[scene.away].tally.count;
    trio_until(&scene.trio, halted, &scene);
    assert_int_equal(scene.trio.members[scene.away].tally.count, count);
    scene_power_cut(&scene);
    assert_true(has_mark(&scene, &before.id));
    scene_start(&scene);
    uint64_t found = scene.trio.members[scene.away].tally.count;
    assert_true(happened ? found > count : found == count);
    scene_catches_up(&scene);
    trio_close(&scene.trio);
}

TEST(install, whose_file_may_have_been_replaced_halts_and_is_finished_at_the_next_join)
{
    replace_fails(true);
}

TEST(install, whose_file_was_not_replaced_halts_and_begins_again_at_the_next_join)
{
    replace_fails(false);
}

static enum ls_status undone_replace(void *self, const struct ls_group_id *group,
                                     enum ls_vault_file from, enum ls_vault_file to)
{
    ls_vault_medium_fail(self, 0, 1); /* the names are exchanged, and not durable */
    return plain.replace(self, group, from, to);
}

static void undo_replace(struct ls_vault *vault)
{
    plain = *vault;
    vault->replace = undone_replace;
}

/* The process ends when the names are exchanged and not durable, the next one lets the log follow
 * the file it finds, and then the power goes: the log begins behind the file that is back. */
TEST(install, whose_file_has_its_old_name_again_after_the_log_followed_it_is_finished)
{
    struct scene scene;
    scene_open(&scene);
    scene_leave_behind(&scene);
    struct trio_member *member = &scene.trio.members[scene.away];
    scene.trio.on_vault = undo_replace;
    scene_start(&scene);
    scene.trio.on_vault = NULL;
    trio_until(&scene.trio, halted, &scene);
    const struct ls_group_id id = scene_status(&scene, scene.away).id;
    trio_stop(&scene.trio, scene.away);
    ls_vault_medium_hold(member->vault, true); /* and its disk is slow */
    scene_start(&scene);
    for (int i = 0; i < 5; i++) { /* what is applied behind it is durable in the log */
        assert_int_equal(trio_execute(&scene.trio, scene.leader, "x").status, LS_OK);
        scene.count++;
    }
    scene_catches_up(&scene);
    uint64_t count = member->tally.count;
    ls_index first = scene_status(&scene, scene.away).log_first;
    scene_power_cut(&scene);
    ls_vault_medium_hold(member->vault, false);
    assert_true(has_mark(&scene, &id));
    for (int i = 0; i < 3; i++) {
        scene_start(&scene);
        assert_true(member->tally.count > 0 && member->tally.count <= count);
        assert_int_equal(scene_status(&scene, scene.away).log_first, first);
        if (i > 0) {
            scene_catches_up(&scene);
            trio_until(&scene.trio, nothing_staged, &scene);
            assert_false(has_mark(&scene, &id));
        }
        scene_power_cut(&scene); /* the first time before it could be finished */
    }
    scene_start(&scene);
    scene_catches_up(&scene);
    trio_close(&scene.trio);
}

/* What was fetched for nothing takes no room for ever. */
TEST(install, that_the_log_overtook_leaves_no_staged_file)
{
    struct scene scene;
    scene_open(&scene);
    const struct ls_group_id id = scene_status(&scene, scene.away).id;
    trio_stop(&scene.trio, scene.away);
    struct ls_vault vault;
    ls_vault_memory_open_on(scene.trio.members[scene.away].vault, &vault);
    assert_ok(vault.write(vault.self, &id, LS_VAULT_STAGED, 0, (struct ls_span){"much", 4}));
    assert_ok(vault.sync(vault.self, &id, LS_VAULT_STAGED));
    vault.close(vault.self);
    scene_start(&scene);
    scene_catches_up(&scene);
    trio_until(&scene.trio, nothing_staged, &scene);
    trio_close(&scene.trio);
}
