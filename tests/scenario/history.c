/* SPDX-License-Identifier: MIT */
/*
 * What chance would never come to in a world of its own: disks with a past of changes of membership
 * (the rules for quorums are there, the commands that change one are not yet), a stranger that
 * claims a later term, and a member that contradicts what is committed.
 */
#include "history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static struct ls_entry configuration_entry(struct realm *realm, ls_term term,
                                           const struct ls_configuration *configuration)
{
    struct ls_entry entry = {.term = term, .kind = LS_ENTRY_CONFIGURATION};
    void *bytes = arena_allocate(realm, LS_CONFIGURATION_BYTES_MAX);
    if (ls_configuration_encode(&realm_codec, configuration, bytes, LS_CONFIGURATION_BYTES_MAX,
                                &entry.data.bytes) != LS_OK) {
        abort();
    }
    entry.data.data = bytes;
    return entry;
}

static void give(struct realm *realm, unsigned mask, const struct ls_entry *entry)
{
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        if ((mask >> i & 1u) != 0) {
            check_append(&realm->nodes[i], log_last(&realm->nodes[i].view) + 1, entry);
            log_push(&realm->nodes[i].view, entry);
        }
    }
}

static void give_commands(struct realm *realm, unsigned mask, ls_term term, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char text[32];
        int length = snprintf(text, sizeof text, "past %" PRIu64 " %u", term, i);
        struct ls_entry entry = {.term = term, .kind = LS_ENTRY_COMMAND};
        entry.data = (struct ls_span){text, (size_t)length};
        entry = entry_copy(realm, &entry);
        give(realm, mask, &entry);
    }
}

/* Some of the voters are to go, and observe afterwards. */
static void make_joint(struct realm *realm, struct ls_configuration *configuration)
{
    uint32_t left = 0, last = 0;
    configuration->joint = true;
    for (uint32_t i = 0; i < configuration->count; i++) {
        struct ls_member *member = &configuration->members[i];
        member->outgoing_voter = member->role == LS_MEMBER_VOTER;
        if (member->outgoing_voter && realm_random(realm, 100) < 40) {
            member->role = LS_MEMBER_OBSERVER;
        }
        left += member->role == LS_MEMBER_VOTER;
        last = member->outgoing_voter ? i : last;
    }
    if (left == 0) {
        configuration->members[last].role = LS_MEMBER_VOTER;
    }
}

/* A leader of `term` gave this to those in `mask`: commands, a change of members, commands. */
static void give_tail(struct realm *realm, unsigned mask, ls_term term,
                      const struct ls_configuration *founders)
{
    struct ls_configuration joint = *founders;
    give_commands(realm, mask, term, 1 + (unsigned)realm_random(realm, 3));
    if (realm_random(realm, 100) < 80) {
        make_joint(realm, &joint);
        struct ls_entry entry = configuration_entry(realm, term, &joint);
        give(realm, mask, &entry);
        give_commands(realm, mask, term, (unsigned)realm_random(realm, 3));
    }
}

void realm_past(struct realm *realm)
{
    struct ls_configuration founders;
    realm_founders(realm, &founders);
    unsigned all = (1u << realm->nodes_count) - 1u, minority = 0, voters = 0;
    for (uint32_t i = 0; i < founders.count; i++) {
        struct ls_member *member = &founders.members[i];
        member->incarnation = realm_incarnation(realm_by_id(realm, &member->id), 1);
        voters += member->role == LS_MEMBER_VOTER;
    }
    struct ls_entry first = configuration_entry(realm, 1, &founders);
    give(realm, all, &first);
    give_commands(realm, all, 1, (unsigned)realm_random(realm, 4));
    /* term 2 reached a minority of the voters, term 3 some of the rest, which elected its leader */
    unsigned most = (voters - 1) / 2, from = (unsigned)realm_random(realm, realm->nodes_count);
    for (unsigned i = 0; i < realm->nodes_count && most > 0; i++) {
        unsigned at = (from + i) % realm->nodes_count;
        if (realm->nodes[at].seat == LS_MEMBER_VOTER) {
            minority |= 1u << at;
            most--;
        }
    }
    unsigned rest = all & ~minority, second = 0;
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        second = (rest >> i & 1u) != 0 && realm->nodes[i].seat == LS_MEMBER_VOTER ? i : second;
    }
    if (minority != 0) {
        give_tail(realm, minority, 2, &founders);
    }
    give_tail(realm, (rest & (unsigned)realm_random(realm, all + 1u)) | 1u << second, 3, &founders);
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        struct node *node = &realm->nodes[i];
        bool later = (rest >> i & 1u) != 0;
        node->disk.hard_state = (struct ls_hard_state){.term = later ? 3 : 2, .voted = later};
        if (later) {
            node->disk.hard_state.vote = realm->nodes[second].id;
        }
        log_copy(&node->disk.log, &node->view);
    }
}

void realm_stranger(struct node *node)
{
    static const enum ls_message_kind kinds[] = {
        LS_MESSAGE_PRE_VOTE_REPLY, LS_MESSAGE_VOTE_REPLY, LS_MESSAGE_APPEND_REPLY,
        LS_MESSAGE_HEARTBEAT_REPLY, LS_MESSAGE_TIMEOUT_NOW};
    struct realm *realm = node->realm;
    struct ls_message message = {.from = {{0xee, 0xee}}, .to = node->id};
    message.kind = kinds[realm_random(realm, sizeof kinds / sizeof kinds[0])];
    message.term = node->term + 1 + realm_random(realm, 3);
    if (!node->alive || ls_message_invalid(&message) != NULL) {
        return;
    }
    ls_term before = node->term;
    realm_step(node, &(struct ls_event){.kind = LS_EVENT_MESSAGE, .as.message = &message});
    if (node->term != before) {
        realm_fail(realm, "%s takes term %" PRIu64 " of a stranger", node->name, node->term);
    }
}

void realm_contradict(struct node *node, struct node *from)
{
    struct realm *realm = node->realm;
    ls_index at = node->commit;
    if (!node->alive || node->halted != LS_OK || at <= node->view.anchor.index + 1) {
        return;
    }
    struct ls_entry entry = {.term = node->term + 1, .kind = LS_ENTRY_NOOP};
    struct ls_message message = {.kind = LS_MESSAGE_APPEND,
                                 .from = from->id,
                                 .to = node->id,
                                 .incarnation = realm_incarnation(from, from->incarnation),
                                 .term = node->term + 1};
    message.as.append.prev = (struct ls_cursor){log_term(&node->view, at - 1), at - 1};
    message.as.append.entries = &entry;
    message.as.append.count = 1;
    ls_term before = log_term(&node->view, at);
    realm_step(node, &(struct ls_event){.kind = LS_EVENT_MESSAGE, .as.message = &message});
    if (log_term(&node->view, at) != before) {
        realm_fail(realm, "%s lets go of %" PRIu64 ", which is committed", node->name, at);
    }
    if (node->halted != LS_ERR_DIVERGED) {
        realm_fail(realm, "%s goes on after %s contradicted %" PRIu64 ", which is committed",
                   node->name, from->name, at);
    }
}
