/* SPDX-License-Identifier: MIT */
/* No function of a machine may call back into its group or node: each call is refused. */
#include "scene.h"

enum probe {
    OPEN,
    APPLY,
    FREEZE,
    ITERATE,
    THAW,
    RESTORE,
    RESTORE_ITEM,
    PUBLISH,
    RESTORE_END,
    DURABLE_APPLIED,
    CLOSE,
    PROBES
};

static struct ls_machine plain;
static struct trio_member *watched; /* whose machine it is */
static struct ls_group_options joining;
static uint64_t probed[PROBES], taken[PROBES];

/* Of a group that is there, or of the node while it is being joined. */
static void call_back(enum probe probe)
{
    if (watched == NULL || watched->node == NULL) {
        return;
    }
    enum ls_status status = LS_OK;
    struct ls_group *group = NULL;
    struct trio_outcome outcome;
    if (probe == OPEN || watched->group == NULL) {
        status = ls_group_join(watched->node, &joining, &group, NULL);
    } else {
        status = ls_group_feed(watched->group, (struct ls_span){"x", 1}, NULL, trio_done, &outcome);
    }
    probed[probe]++;
    taken[probe] += status != LS_ERR_REENTRANT;
}

static enum ls_status probe_open(void *self, const struct ls_group_id *group,
                                 const struct ls_incarnation *incarnation, ls_index *applied,
                                 struct ls_error *error)
{
    call_back(OPEN);
    *applied = 0;
    return plain.open == NULL ? LS_OK : plain.open(self, group, incarnation, applied, error);
}

static enum ls_status probe_apply(void *self, const struct ls_command *command,
                                  struct ls_replies *replies)
{
    call_back(APPLY);
    return plain.apply(self, command, replies);
}

static enum ls_status probe_freeze(void *self, struct ls_frozen *out)
{
    call_back(FREEZE);
    return plain.freeze(self, out);
}

static enum ls_status probe_iterate(void *self, const struct ls_frozen *frozen, struct ls_span from,
                                    ls_item_visit visit, void *arg)
{
    call_back(ITERATE);
    return plain.iterate(self, frozen, from, visit, arg);
}

static void probe_thaw(void *self, struct ls_frozen *frozen)
{
    call_back(THAW);
    plain.thaw(self, frozen);
}

static enum ls_status probe_restore(void *self, struct ls_cursor anchor)
{
    call_back(RESTORE);
    return plain.restore(self, anchor);
}

static enum ls_status probe_restore_item(void *self, const struct ls_item *item)
{
    call_back(RESTORE_ITEM);
    return plain.restore_item(self, item);
}

static enum ls_status probe_publish(void *self, struct ls_cursor anchor)
{
    call_back(PUBLISH);
    return plain.publish(self, anchor);
}

static void probe_restore_end(void *self)
{
    call_back(RESTORE_END);
    plain.restore_end(self);
}

static ls_index probe_durable_applied(void *self)
{
    call_back(DURABLE_APPLIED);
    return plain.durable_applied(self);
}

static void probe_close(void *self)
{
    (void)self;
    call_back(CLOSE);
}

static void make_probing(struct ls_machine *machine)
{
    plain = *machine;
    machine->open = probe_open;
    machine->apply = probe_apply;
    machine->freeze = probe_freeze;
    machine->iterate = probe_iterate;
    machine->thaw = probe_thaw;
    machine->restore = probe_restore;
    machine->restore_item = probe_restore_item;
    machine->publish = probe_publish;
    machine->restore_end = probe_restore_end;
    machine->durable_applied = plain.durable_applied != NULL ? probe_durable_applied : NULL;
    machine->close = probe_close;
}

static bool has_frozen(struct trio *trio, void *arg)
{
    (void)trio;
    (void)arg;
    return probed[THAW] > 0 && probed[ITERATE] > 0;
}

/* One that comes back by a snapshot, writes files or not, and ends. */
static void calls_back(bool durable)
{
    struct scene scene;
    scene_open_of(&scene, durable);
    scene_leave_behind(&scene);
    (void)memset(probed, 0, sizeof probed);
    (void)memset(taken, 0, sizeof taken);
    watched = &scene.trio.members[scene.away];
    joining = scene.trio.options;
    joining.name = "another";
    joining.member = watched->name;
    joining.founders = scene.trio.founders;
    joining.founders_count = 3;
    make_probing(&joining.machine);
    scene.trio.on_machine = make_probing;
    trio_start(&scene.trio, scene.away);
    scene_catches_up(&scene);
    trio_load(&scene.trio, trio_wait_leader(&scene.trio), 1);
    scene.count += TRIO_BATCH;
    scene_catches_up(&scene);
    (void)scene_status(&scene, scene.away); /* which asks what is durable */
    if (!durable) {
        trio_until(&scene.trio, has_frozen, NULL); /* for its file */
        trio_stop(&scene.trio, scene.away);
        trio_start(&scene.trio, scene.away);
    }
    trio_stop(&scene.trio, scene.away);
    for (int probe = 0; probe < PROBES; probe++) {
        bool of_file = probe == FREEZE || probe == ITERATE || probe == THAW;
        bool called = probe != RESTORE_END && (durable ? !of_file : probe != DURABLE_APPLIED);
        assert_true(!called || probed[probe] > 0);
        assert_int_equal(taken[probe], 0);
    }
    watched = NULL;
    scene.trio.on_machine = NULL;
    scene_start(&scene);
    scene_catches_up(&scene);
    trio_close(&scene.trio);
}

TEST(machine, in_memory_is_refused_whatever_function_calls_back)
{
    calls_back(false);
}

TEST(machine, on_disk_is_refused_whatever_function_calls_back)
{
    calls_back(true);
}
