/* SPDX-License-Identifier: MIT */
/* The install of a snapshot on a disk that fails once, has a bad place, or does not answer. */
#include "scene.h"

#include <pthread.h>

/* ---- what the vault does --------------------------------------------------------------------- */

static struct ls_vault plain;
static enum ls_vault_file faulty;
static uint64_t sync_failures, read_failures, faults;
static bool lost;

/* As a kernel does: the error is told once, what was not written stays unwritten. */
static enum ls_status failing_sync(void *self, const struct ls_group_id *group,
                                   enum ls_vault_file file)
{
    if (file == faulty && sync_failures > 0) {
        sync_failures--;
        faults++;
        lost = true;
        return LS_ERR_IO;
    }
    return file == faulty && lost ? LS_OK : plain.sync(self, group, file);
}

static enum ls_status noting_remove(void *self, const struct ls_group_id *group,
                                    enum ls_vault_file file)
{
    lost = lost && file != faulty;
    return plain.remove(self, group, file);
}

static enum ls_status failing_read(void *self, const struct ls_group_id *group,
                                   enum ls_vault_file file, uint64_t offset, void *out,
                                   size_t bytes, size_t *got)
{
    if (file == faulty && read_failures > 0 && bytes > 4096 && offset > 100000) {
        read_failures--;
        faults++;
        *got = 0;
        return LS_ERR_IO;
    }
    return plain.read(self, group, file, offset, out, bytes, got);
}

static void make_faulty(struct ls_vault *vault)
{
    plain = *vault;
    vault->sync = failing_sync;
    vault->remove = noting_remove;
    vault->read = failing_read;
}

static void open_faulty(struct scene *scene, enum ls_vault_file file)
{
    scene_open(scene);
    scene_leave_behind(scene);
    faulty = file;
    faults = sync_failures = read_failures = 0;
    lost = false;
    scene->trio.on_vault = make_faulty;
}

static bool failed(struct trio *trio, void *arg)
{
    (void)trio;
    const struct scene *scene = arg;
    return scene_status(scene, scene->away).sync.failures > 0;
}

static bool installed(struct trio *trio, void *arg)
{
    (void)trio;
    const struct scene *scene = arg;
    return scene_status(scene, scene->away).snapshots_installed > 0;
}

/* Whatever file it is: the power may go as soon as the install is over. */
static void sync_fails(enum ls_vault_file file)
{
    struct scene scene;
    open_faulty(&scene, file);
    sync_failures = 1;
    scene_start(&scene);
    trio_until(&scene.trio, failed, &scene);
    assert_int_equal(scene_status(&scene, scene.away).halted, LS_OK);
    trio_stop(&scene.trio, scene.away); /* rather than wait for the next attempt */
    scene_start(&scene);
    scene_catches_up(&scene);
    assert_int_equal(faults, 1);
    assert_false(lost);
    scene.trio.on_vault = NULL;
    scene_power_cut(&scene);
    scene_start(&scene);
    assert_true(scene.trio.members[scene.away].tally.count > 0);
    scene_catches_up(&scene);
    trio_close(&scene.trio);
}

TEST(install, begins_the_staged_file_anew_when_its_sync_failed)
{
    sync_fails(LS_VAULT_STAGED);
}

TEST(install, begins_the_mark_anew_when_its_sync_failed)
{
    sync_fails(LS_VAULT_MARK);
}

TEST(install, fetches_once_more_what_cannot_be_read_back)
{
    struct scene scene;
    open_faulty(&scene, LS_VAULT_STAGED);
    read_failures = 3;
    scene_start(&scene);
    scene_catches_up(&scene);
    assert_int_equal(faults, 3);
    trio_until(&scene.trio, installed, &scene);
    assert_int_equal(scene_status(&scene, scene.away).sync.failures, 0);
    trio_close(&scene.trio);
}

/* ---- a disk that is full ----------------------------------------------------------------------
 */

static uint64_t room, refused_writes;

static enum ls_status full_write(void *self, const struct ls_group_id *group,
                                 enum ls_vault_file file, uint64_t offset, struct ls_span bytes)
{
    if (file == faulty && offset + bytes.bytes > room) {
        refused_writes++;
        return LS_ERR_IO;
    }
    return plain.write(self, group, file, offset, bytes);
}

static void make_full(struct ls_vault *vault)
{
    plain = *vault;
    vault->write = full_write;
}

/* What waits there for better times would take the room of the log. */
TEST(install, gives_the_room_of_the_staged_file_back_when_the_disk_is_full)
{
    for (int i = 0; i < 2; i++) {
        struct scene scene;
        scene_open(&scene);
        scene_leave_behind(&scene);
        const struct ls_group_id id = scene_status(&scene, scene.leader).id;
        faulty = LS_VAULT_STAGED;
        room = i == 0 ? 100 : 100000; /* not even the table; some chunks */
        refused_writes = 0;
        scene.trio.on_vault = make_full;
        scene_start(&scene);
        trio_until(&scene.trio, failed, &scene);
        assert_true(refused_writes > 0);
        assert_int_equal(scene_status(&scene, scene.away).halted, LS_OK);
        assert_false(scene_has_file(&scene, &id, LS_VAULT_STAGED));
        trio_stop(&scene.trio, scene.away);
        scene.trio.on_vault = NULL;
        scene_start(&scene);
        scene_catches_up(&scene);
        trio_close(&scene.trio);
    }
}

/* ---- a disk that has enough to do ------------------------------------------------------------ */

TEST(install, goes_on_when_the_disk_has_time_for_what_is_staged)
{
    struct scene scene;
    scene_open(&scene);
    scene_leave_behind(&scene);
    scene.trio.on_vault = trio_make_busy;
    scene_start(&scene);
    scene_catches_up(&scene);
    trio_until(&scene.trio, installed, &scene);
    assert_true(trio_busy_writes() > 6);
    assert_int_equal(scene_status(&scene, scene.away).sync.failures, 0);
    trio_close(&scene.trio);
}

/* ---- a machine that takes nothing ------------------------------------------------------------ */

static uint64_t refusals;

/* What is on the disk is right; what the machine makes of it is not. */
static enum ls_status refuse_item(void *self, const struct ls_item *item)
{
    (void)self;
    (void)item;
    refusals++;
    return LS_ERR_CORRUPT;
}

static void make_refusing(struct ls_machine *machine)
{
    machine->restore_item = refuse_item;
}

TEST(install, whose_items_the_machine_refuses_fails_and_is_not_fetched_again)
{
    struct scene scene;
    scene_open_of(&scene, true);
    scene_leave_behind(&scene);
    refusals = 0;
    scene.trio.on_machine = make_refusing;
    scene_start(&scene);
    trio_until(&scene.trio, failed, &scene);
    assert_int_equal(refusals, 1);
    assert_int_equal(scene_status(&scene, scene.away).halted, LS_OK);
    assert_string_equal(scene_status(&scene, scene.away).sync.reason,
                        "the snapshot could not be installed");
    trio_stop(&scene.trio, scene.away);
    scene.trio.on_machine = NULL;
    scene_start(&scene);
    scene_catches_up(&scene);
    trio_close(&scene.trio);
}

/* ---- a vault that does not close ------------------------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hangs, closed;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void hanging_close(void *self)
{
    (void)pthread_mutex_lock(&disk.lock);
    while (disk.hangs) {
        (void)pthread_cond_wait(&disk.changed, &disk.lock);
    }
    plain.close(self);
    disk.closed = true;
    (void)pthread_cond_broadcast(&disk.changed);
    (void)pthread_mutex_unlock(&disk.lock);
}

static void make_hanging(struct ls_vault *vault)
{
    plain = *vault;
    disk.hangs = true;
    disk.closed = false;
    vault->close = hanging_close;
}

static uint64_t left_behind;

static void watch_left(void *self, const struct ls_trace *trace)
{
    (void)self;
    left_behind += strcmp(trace->format, "the vault did not close in time: left behind") == 0;
}

TEST(close, of_a_node_whose_vault_hangs_leaves_it_behind_and_says_so)
{
    struct trio trio;
    struct ls_env env = *ls_env_default();
    env.trace = watch_left;
    trio_open_in(&trio, 1, &env);
    trio.snapshots = true;
    trio.close_ms = 50;
    trio.on_vault = make_hanging;
    left_behind = 0;
    (void)trio_up(&trio);
    trio_stop(&trio, 0);
    assert_false(disk.closed);
    assert_int_equal(left_behind, 1);
    (void)pthread_mutex_lock(&disk.lock);
    disk.hangs = false;
    (void)pthread_cond_broadcast(&disk.changed);
    while (!disk.closed) {
        (void)pthread_cond_wait(&disk.changed, &disk.lock);
    }
    (void)pthread_mutex_unlock(&disk.lock);
    trio_close(&trio);
}
