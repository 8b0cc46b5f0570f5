/* SPDX-License-Identifier: MIT */
/*
 * What members say of themselves: role, commit, catch-up, for the user of another member and for
 * the choice of sources. Told when the role changes, else about once a second while something does;
 * a group in which nothing happens says nothing. And how fast each bond was in the last seconds.
 */
#include "runtime.h"

#include <string.h>

/* Members that this one brings up to date now. */
static uint32_t serves(struct ls_group *group)
{
    struct ls_supervisor_pin pins[LS_GROUP_PINS_MAX];
    size_t count = ls_supervisor_pins(group->supervisor, pins, LS_GROUP_PINS_MAX);
    uint32_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += pins[i].pin.kind == LS_SYNC_PIN_SESSION || pins[i].pin.kind == LS_SYNC_PIN_FROZEN;
    }
    return sum;
}

static struct ls_peer_note note_of(struct ls_group *group)
{
    struct ls_sync_progress sync;
    ls_supervisor_progress(group->supervisor, &sync);
    return (struct ls_peer_note){.role = group->role,
                                 .term = group->term,
                                 .commit = group->commit,
                                 .applied = group->applied,
                                 .log_first = group->log_first,
                                 .sync_phase = (uint32_t)sync.phase,
                                 .percent = sync.percent,
                                 .serves = serves(group)};
}

static uint64_t per_second(uint64_t bytes, uint64_t elapsed_us)
{
    return bytes < UINT64_MAX / 1000000u ? bytes * 1000000u / elapsed_us : 0;
}

static void measure(struct ls_group *group, uint64_t now)
{
    const struct ls_transport *transport = &group->node->transport;
    uint64_t elapsed_us = now - group->rates_us;
    group->rates_us = now;
    for (size_t i = 0; i < group->peers_count; i++) {
        struct ls__peer *peer = &group->peers[i];
        struct ls_bond_info info;
        if (!peer->up ||
            transport->bond_info(transport->self, &group->id, &peer->id, &info) != LS_OK) {
            peer->in_per_s = peer->out_per_s = 0;
            continue;
        }
        bool known = info.bytes_in >= peer->bytes_in && info.bytes_out >= peer->bytes_out;
        peer->in_per_s = known ? per_second(info.bytes_in - peer->bytes_in, elapsed_us) : 0;
        peer->out_per_s = known ? per_second(info.bytes_out - peer->bytes_out, elapsed_us) : 0;
        peer->bytes_in = info.bytes_in;
        peer->bytes_out = info.bytes_out;
    }
}

static void send(struct ls_group *group, const struct ls_peer_note *note, bool all)
{
    const struct ls_wire_frame frame = {.kind = LS_WIRE_NOTE, .as.note = *note};
    for (size_t i = 0; i < group->peers_count; i++) {
        struct ls__peer *peer = &group->peers[i];
        if (peer->up && (all || !peer->noted)) {
            /* one that is lost is followed by others, and the last one by the next link */
            peer->noted = ls__group_send(group, &peer->id, LS_LANE_CONSENSUS, &frame) == LS_OK;
        }
    }
}

static bool same(const struct ls_peer_note *a, const struct ls_peer_note *b)
{
    return a->role == b->role && a->term == b->term && a->commit == b->commit &&
           a->applied == b->applied && a->log_first == b->log_first &&
           a->sync_phase == b->sync_phase && a->percent == b->percent && a->serves == b->serves;
}

void ls__notes_turn(struct ls_group *group)
{
    uint64_t now = ls__now(group->node);
    bool fresh = false;
    for (size_t i = 0; i < group->peers_count; i++) {
        fresh = fresh || (group->peers[i].up && !group->peers[i].noted);
    }
    bool due = now >= group->note_us + LS__NOTE_US;
    if (group->closed) {
        group->note_due_us = UINT64_MAX;
        return;
    }
    if (!due && !fresh && group->role == group->note_sent.role) {
        bool moved =
            group->commit != group->note_sent.commit || group->applied != group->note_sent.applied;
        group->note_due_us = moved ? group->note_us + LS__NOTE_US : UINT64_MAX;
        return;
    }
    struct ls_peer_note note = note_of(group);
    bool changed = !same(&note, &group->note_sent);
    group->note_due_us = UINT64_MAX;
    if (due) {
        measure(group, now);
    }
    if (changed || fresh) {
        send(group, &note, changed);
    }
    if (changed || due) {
        group->note_sent = note;
        group->note_us = now;
    }
}
