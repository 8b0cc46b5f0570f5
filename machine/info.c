/* SPDX-License-Identifier: MIT */
/*
 * What a user may see of a group: status with the sentence why something does not count or serve,
 * members, bonds.
 */
#include "runtime.h"

#include <stdio.h>
#include <string.h>

const char *ls__name_of(const struct ls_group *group, const struct ls_peer_id *id)
{
    for (size_t i = 0; i < group->peers_count; i++) {
        if (ls_peer_id_equal(&group->peers[i].id, id)) {
            return group->peers[i].name;
        }
    }
    return ls_peer_id_equal(id, &group->node->id) ? group->member : "?";
}

static void text_founding(const struct ls_group *group, const struct ls_core_status *core,
                          char *out, size_t room)
{
    size_t used = (size_t)snprintf(out, room, "waiting for founder");
    for (uint32_t i = 0; i < core->missing_founders_count && used < room; i++) {
        used += (size_t)snprintf(out + used, room - used, "%s %s", i > 0 ? "," : "",
                                 ls__name_of(group, &core->missing_founders[i]));
    }
}

/* Without a leader the first question is who of the others cannot be reached. */
static void text_no_leader(const struct ls_group *group, char *out, size_t room)
{
    const char *before = "; no link to ";
    size_t used = (size_t)snprintf(out, room, "no leader known");
    for (size_t i = 0; i < group->peers_count && used < room; i++) {
        if (!group->peers[i].up) {
            used += (size_t)snprintf(out + used, room - used, "%s%s", before, group->peers[i].name);
            before = ", ";
        }
    }
}

/* The most important reason first; empty: nothing is wrong. */
static void text_status(const struct ls_group *group, struct ls_group_status *out)
{
    char *text = out->text;
    size_t room = sizeof out->text;
    if (group->halted != LS_OK) {
        (void)snprintf(text, room, "halted: %.400s", group->halted_text);
    } else if (out->core.standing == LS_STANDING_FOUNDING) {
        text_founding(group, &out->core, text, room);
    } else if (out->core.standing == LS_STANDING_TAIL_UNKNOWN && group->tail_unknown) {
        (void)snprintf(text, room, "%s: %.400s", ls_standing_text(out->core.standing),
                       group->tail_text);
    } else if (out->core.standing != LS_STANDING_COUNTS) {
        (void)snprintf(text, room, "%s", ls_standing_text(out->core.standing));
    } else if (ls_peer_id_is_zero(&group->leader)) {
        text_no_leader(group, text, room);
    } else if (group->session_runs) {
        (void)snprintf(text, room, "catching up");
    }
    for (size_t i = 0; text[0] == '\0' && i < group->peers_count; i++) {
        if (group->peers[i].refused[0] != '\0') {
            (void)snprintf(text, room, "bond with %s: %.400s", group->peers[i].name,
                           group->peers[i].refused);
        }
    }
}

void ls_group_glance(struct ls_group *group, struct ls_group_status *out)
{
    (void)memcpy(out->name, group->name, sizeof out->name);
    (void)memcpy(out->member, group->member, sizeof out->member);
    out->id = group->id;
    ls_core_status(group->core, &out->core);
    out->core.applied = group->applied;
    out->serving = ls__group_serving(group);
    out->online = ls__group_online(group);
    out->halted = group->halted;
    out->log_first = group->log_first;
    out->in_flight_bytes = group->calls.in_flight_bytes;
    out->proposed = group->proposed;
    out->applied_commands = group->applied_commands;
    out->forwarded = group->forwarded;
    out->reads = group->reads;
    out->unknown = group->unknown;
    out->apply_us_max = group->apply_us_max;
    out->elections = group->elections;
    out->leader_changes = group->leader_changes;
    out->snapshot_index = group->snap.kept_at.index;
    out->snapshots_written = group->snap.written;
    out->snapshots_installed = group->snap.installed;
    out->freeze_us_max = group->freeze_us_max;
}

void ls_group_status(struct ls_group *group, struct ls_group_status *out)
{
    ls_group_glance(group, out);
    out->text[0] = '\0';
    text_status(group, out);
    ls__prune_status(group, out);
    ls_supervisor_progress(group->supervisor, &out->sync);
}

size_t ls_group_members(struct ls_group *group, struct ls_member_info *out, size_t capacity)
{
    struct ls_core_status *status = &group->node->core_status;
    ls_core_status(group->core, status);
    const struct ls_configuration *configuration =
        status->configuration != NULL ? &status->configuration->configuration : &group->founders;
    size_t count = 0;
    for (uint32_t i = 0; i < configuration->count && count < capacity; i++) {
        const struct ls_member *member = &configuration->members[i];
        out[count++] =
            (struct ls_member_info){.member = *member,
                                    .self = ls_peer_id_equal(&member->id, &group->node->id),
                                    .leader = ls_peer_id_equal(&member->id, &group->leader)};
    }
    return count;
}

size_t ls_group_bonds(struct ls_group *group, struct ls_group_bond *out, size_t capacity)
{
    const struct ls_transport *transport = &group->node->transport;
    struct ls_core_status *status = &group->node->core_status;
    ls_core_status(group->core, status);
    size_t count = 0;
    for (size_t i = 0; i < group->peers_count && count < capacity; i++) {
        const struct ls__peer *peer = &group->peers[i];
        struct ls_group_bond *bond = &out[count++];
        (void)memset(bond, 0, sizeof *bond);
        if (transport->bond_info(transport->self, &group->id, &peer->id, &bond->info) != LS_OK) {
            bond->info.peer = peer->id;
        }
        (void)memcpy(bond->info.name, peer->name, sizeof bond->info.name);
        if (peer->refused[0] != '\0') {
            (void)memcpy(bond->info.trouble, peer->refused, sizeof bond->info.trouble);
        }
        bond->leader = ls_peer_id_equal(&peer->id, &group->leader);
        bond->note = peer->note;
        bond->note_us = peer->note_us;
        ls_supervisor_strikes(group->supervisor, &peer->id, &bond->strikes);
        bond->bytes_in_per_s = peer->in_per_s;
        bond->bytes_out_per_s = peer->out_per_s;
        for (uint32_t k = 0; k < status->progress_count; k++) {
            if (ls_peer_id_equal(&status->progress[k].id, &peer->id)) {
                bond->progress_known = true;
                bond->progress = status->progress[k];
            }
        }
    }
    return count;
}

enum ls_status ls_group_release(struct ls_group *group, const char *name)
{
    for (size_t i = 0; i < group->peers_count; i++) {
        if (strcmp(group->peers[i].name, name) == 0) {
            ls_supervisor_release(group->supervisor, &group->peers[i].id);
            ls__group_touch(group);
            return LS_OK;
        }
    }
    return LS_ERR_NOT_FOUND;
}

void ls_group_retry(struct ls_group *group)
{
    ls_supervisor_force(group->supervisor);
    ls__group_touch(group);
}
