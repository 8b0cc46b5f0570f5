/* SPDX-License-Identifier: MIT */
/*
 * The prune-safe index (docs/state-sync.md, Pruning): a table of who or what holds the log, one row
 * for each; the smallest of them is how far it may go. Nowhere else is that decided.
 *
 * Rows of two sorts: what may never be given up, because nothing could bring it back (the last
 * committed entry, the machine's durable state), and what a snapshot can replace (members that lag,
 * sessions, leases, what is kept for short absences). The latter hold a bounded number of bytes.
 */
#include "runtime.h"

#include <stdio.h>
#include <string.h>

struct row {
    enum ls_pin_kind kind;
    struct ls_peer_id peer;
    const char *strategy;
    ls_index safe;
    uint64_t until_us;
    bool given_up; /* it holds more than it may: `safe` is as much as it may hold */
};

struct table {
    struct row rows[LS_GROUP_PINS_MAX];
    size_t count;
};

LS_STATIC_ASSERT(LS_GROUP_PINS_MAX >= 2u + LS_MEMBERS_MAX + LS_STATESYNCS_MAX,
                 "members and providers have a row each");

static void add(struct table *table, enum ls_pin_kind kind, ls_index safe)
{
    LS_ASSERT(table->count < LS_GROUP_PINS_MAX);
    table->rows[table->count++] = (struct row){.kind = kind, .safe = safe};
}

static void add_machine(struct ls_group *group, struct table *table)
{
    bool inside = ls__machine_enter(group->node);
    ls_index durable = group->machine.durable_applied != NULL
                           ? group->machine.durable_applied(group->machine.self)
                       : group->snap.kept_unsynced ? 0
                                                   : group->snap.kept_at.index;
    ls__machine_leave(group->node, inside);
    bool behind = group->applied < durable || LS_MUTANT(P12_PRUNE);
    add(table, LS_PIN_MACHINE, behind ? group->applied : durable);
}

/* The leader knows each member; the others know what the leader says of all of them. */
static void add_members(struct ls_group *group, struct table *table)
{
    if (group->role != LS_ROLE_LEADER) {
        add(table, LS_PIN_LEADER, group->prune_safe);
        return;
    }
    struct ls_core_status *core = &group->node->core_status;
    ls_core_status(group->core, core);
    ls_index own = core->durable < core->commit ? core->durable : core->commit;
    add(table, LS_PIN_DURABLE, own);
    for (uint32_t i = 0; i < core->progress_count; i++) {
        add(table, LS_PIN_MEMBER, core->progress[i].holds);
        table->rows[table->count - 1].peer = core->progress[i].id;
    }
}

static enum ls_pin_kind kind_of(enum ls_sync_pin_kind kind)
{
    switch (kind) {
    case LS_SYNC_PIN_KEEP:
        return LS_PIN_KEEP;
    case LS_SYNC_PIN_SESSION:
        return LS_PIN_SESSION;
    case LS_SYNC_PIN_FROZEN:
        return LS_PIN_FROZEN;
    case LS_SYNC_PIN_PROVIDER:
        break;
    }
    return LS_PIN_PROVIDER;
}

static void add_providers(struct ls_group *group, struct table *table)
{
    struct ls_supervisor_pin pins[LS_GROUP_PINS_MAX];
    size_t count = ls_supervisor_pins(group->supervisor, pins, LS_GROUP_PINS_MAX - table->count);
    for (size_t i = 0; i < count; i++) {
        const struct ls_sync_pin *pin = &pins[i].pin;
        table->rows[table->count++] = (struct row){.kind = kind_of(pin->kind),
                                                   .peer = pin->peer,
                                                   .strategy = pins[i].strategy,
                                                   .safe = pin->safe,
                                                   .until_us = pin->until_us};
    }
}

static bool is_hard(enum ls_pin_kind kind)
{
    return kind == LS_PIN_COMMIT || kind == LS_PIN_MACHINE || kind == LS_PIN_DURABLE;
}

static bool of_members(enum ls_pin_kind kind)
{
    return kind == LS_PIN_MEMBER || kind == LS_PIN_LEADER;
}

/* Where a snapshot brings back who comes too late, nobody holds more than so many bytes. */
static void give_up(const struct ls_group *group, struct table *table)
{
    if (!group->snapshots) {
        return;
    }
    const struct ls__sizes *sizes = &group->sizes;
    ls_index all =
        group->pinned_bytes == 0 ? 0 : ls__sizes_back(sizes, group->commit, group->pinned_bytes);
    ls_index lag =
        group->lag_bytes == 0 ? 0 : ls__sizes_back(sizes, group->commit, group->lag_bytes);
    for (size_t i = 0; i < table->count; i++) {
        struct row *row = &table->rows[i];
        ls_index floor = of_members(row->kind) && lag > all ? lag : all;
        if (!is_hard(row->kind) && row->safe < floor) {
            row->safe = floor;
            row->given_up = true;
        }
    }
}

/* Returns the number of the row that holds most. */
static size_t fill(struct ls_group *group, struct table *table)
{
    table->count = 0;
    add(table, LS_PIN_COMMIT, group->commit > 0 ? group->commit - 1 : 0);
    add_machine(group, table);
    add_members(group, table);
    add_providers(group, table);
    give_up(group, table);
    size_t lowest = 0;
    for (size_t i = 1; i < table->count; i++) {
        lowest = table->rows[i].safe < table->rows[lowest].safe ? i : lowest;
    }
    return lowest;
}

/* ---- what the user sees ---------------------------------------------------------------------- */

static void text_of(const struct ls_group *group, const struct row *row, char *out, size_t room)
{
    const char *name = ls__name_of(group, &row->peer);
    unsigned long long safe = row->safe;
    if (row->kind == LS_PIN_MEMBER && row->safe == UINT64_MAX) {
        (void)snprintf(out, room, "member %s lags too far: a snapshot brings it back", name);
        return;
    }
    switch (row->kind) {
    case LS_PIN_COMMIT:
        (void)snprintf(out, room, "its last committed entry stays");
        break;
    case LS_PIN_DURABLE:
        (void)snprintf(out, room, "the leader's own log is durable and committed up to %llu", safe);
        break;
    case LS_PIN_MACHINE:
        (void)snprintf(out, room,
                       group->machine.durable_applied != NULL
                           ? "the machine's state is durable up to %llu"
                       : group->snap.kept ? "the newest snapshot file ends at %llu"
                                          : "the machine lives in memory, without snapshot files",
                       safe);
        break;
    case LS_PIN_MEMBER:
        (void)snprintf(out, room, "member %s at %llu", name, safe);
        break;
    case LS_PIN_LEADER:
        (void)snprintf(out, room, "a member at %llu, as the leader says", safe);
        break;
    case LS_PIN_SESSION:
        (void)snprintf(out, room, "a session of %s needs %llu", name, safe + 1);
        break;
    case LS_PIN_FROZEN:
        (void)snprintf(out, room, "a snapshot at %llu is leased%s%s", safe,
                       ls_peer_id_is_zero(&row->peer) ? "" : " to ",
                       ls_peer_id_is_zero(&row->peer) ? "" : name);
        break;
    case LS_PIN_KEEP:
        (void)snprintf(out, room, "%s keeps what is after %llu for short absences", row->strategy,
                       safe);
        break;
    case LS_PIN_PROVIDER:
        (void)snprintf(out, room, "%s keeps what is after %llu", row->strategy, safe);
        break;
    }
}

void ls__prune_status(struct ls_group *group, struct ls_group_status *out)
{
    struct table table;
    const struct row *lowest = &table.rows[fill(group, &table)];
    out->prune_safe = lowest->safe;
    out->log_bytes = ls__sizes_between(&group->sizes, group->log_first - 1, group->last);
    if (!group->snapshots) {
        (void)snprintf(out->prune_text, sizeof out->prune_text, "log kept: no snapshots");
        return;
    }
    char text[LS_ERROR_TEXT_BYTES / 2];
    text_of(group, lowest, text, sizeof text);
    size_t used = (size_t)snprintf(out->prune_text, sizeof out->prune_text, "log kept: %s", text);
    for (size_t i = 0; i < table.count && used < sizeof out->prune_text; i++) {
        if (table.rows[i].given_up) {
            text_of(group, &table.rows[i], text, sizeof text);
            used += (size_t)snprintf(out->prune_text + used, sizeof out->prune_text - used,
                                     "; given up: %s", text);
        }
    }
}

size_t ls_group_pins(struct ls_group *group, struct ls_group_pin *out, size_t capacity)
{
    struct table table;
    (void)fill(group, &table);
    uint64_t now = ls__now(group->node);
    size_t count = table.count < capacity ? table.count : capacity;
    for (size_t i = 0; i < count; i++) {
        const struct row *row = &table.rows[i];
        out[i] = (struct ls_group_pin){
            .kind = row->kind,
            .peer = row->peer,
            .safe = row->safe,
            .bytes = row->safe == UINT64_MAX
                         ? 0
                         : ls__sizes_between(&group->sizes, row->safe, group->commit),
            .left_ms = row->until_us > now ? (row->until_us - now) / 1000u : 0,
            .given_up = row->given_up};
        text_of(group, row, out[i].text, sizeof out[i].text);
    }
    return count;
}

/* ---- pruning --------------------------------------------------------------------------------- */

void ls__prune_report(struct ls_group *group)
{
    if (group->pruned_reported + 1 >= group->log_first) {
        return;
    }
    ls_index pruned = group->log_first - 1;
    struct ls_event event = {.kind = LS_EVENT_PRUNED, .as.pruned = pruned};
    if (ls__group_step(group, &event, NULL) == LS_OK) { /* else the next turn does */
        group->pruned_reported = pruned;
    }
}

static ls_index safe_of(struct ls_group *group)
{
    struct table table;
    ls_index safe = table.rows[fill(group, &table)].safe;
    return safe;
}

/* Removes up to `upto` or what is safe, whichever is less. */
static enum ls_status prune(struct ls_group *group, ls_index upto)
{
    ls_index safe = safe_of(group);
    upto = upto < safe ? upto : safe;
    upto = upto < group->durable ? upto : group->durable - 1;
    if (group->durable == 0 || upto < group->log_first) {
        return LS_OK;
    }
    /* the store first: what it does not take changes nothing */
    const struct ls_storage *storage = &group->node->storage;
    enum ls_status status = storage->prune(storage->self, group->store, upto);
    if (status == LS_OK) {
        group->node->staged = true;
        group->log_first = upto + 1;
        ls__sizes_prune(&group->sizes, upto);
        ls__prune_report(group);
        ls__group_touch(group);
    }
    return status;
}

enum ls_status ls_group_prune(struct ls_group *group, ls_index upto, ls_index *pruned)
{
    enum ls_status status = ls__call_check(group);
    if (status == LS_OK) {
        status = prune(group, upto);
    }
    *pruned = group->log_first - 1;
    return status;
}

/* Is that part of the log enough for one go? */
static bool enough(const struct ls_group *group, ls_index upto)
{
    ls_index before = group->log_first - 1;
    return upto > before &&
           (upto - before >= group->prune_entries ||
            (group->prune_bytes > 0 &&
             ls__sizes_between(&group->sizes, before, upto) >= group->prune_bytes));
}

void ls__prune_turn(struct ls_group *group)
{
    if (!group->snapshots || group->prune_entries == 0 || group->halted != LS_OK ||
        !enough(group, group->commit) || ls__now(group->node) < group->prune_us) {
        return;
    }
    group->prune_us = ls__now(group->node) + LS__PRUNE_LOOK_US;
    if (enough(group, safe_of(group))) {
        (void)prune(group, UINT64_MAX); /* what the store does not take now, it is asked later */
    }
}
