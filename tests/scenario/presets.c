/* SPDX-License-Identifier: MIT */
/* What disks hold before the members of a scenario start. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "script.h"

/* The configuration that every preset log begins with: all members, first incarnation. */
static struct ls_configuration_at *preset_configuration(struct realm *realm)
{
    struct ls_configuration_at *at = arena_allocate(realm, sizeof *at);
    at->index = 1;
    realm_founders(realm, &at->configuration);
    for (uint32_t i = 0; i < at->configuration.count; i++) {
        struct ls_member *member = &at->configuration.members[i];
        member->incarnation = realm_incarnation(realm_by_id(realm, &member->id), 1);
    }
    return at;
}

/* configuration 2^3 a b c: what preset logs hold there is this change of members */
void script_configuration(struct script *script)
{
    struct ls_cursor at;
    (void)script_cursors(script, 1, &at);
    if (script->presets_count == SCRIPT_PRESETS_MAX || at.index < 2) {
        script_fail(script, "configuration: one too many, or below 2");
    }
    struct script_preset *preset = &script->presets[script->presets_count++];
    *preset = (struct script_preset){.at = at};
    for (size_t i = 2; i < script->count; i++) {
        preset->members |= 1u << script_node(script, i)->number;
    }
}

/* The one that the script names for `at`; index 0: none. */
static struct ls_configuration_at named_configuration(const struct script *script,
                                                      struct ls_cursor at)
{
    struct ls_configuration_at out = {0};
    for (size_t i = 0; i < script->presets_count; i++) {
        const struct script_preset *preset = &script->presets[i];
        if (preset->at.term != at.term || preset->at.index != at.index) {
            continue;
        }
        const struct ls_configuration *all = &preset_configuration(script->realm)->configuration;
        out.index = at.index;
        for (uint32_t j = 0; j < all->count; j++) {
            const struct node *node = realm_by_id(script->realm, &all->members[j].id);
            if ((preset->members >> node->number & 1u) != 0) {
                out.configuration.members[out.configuration.count++] = all->members[j];
            }
        }
    }
    return out;
}

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

static struct ls_entry preset_entry(const struct script *script, struct ls_cursor at)
{
    struct realm *realm = script->realm;
    if (at.index == 1) {
        return configuration_entry(realm, at.term, &preset_configuration(realm)->configuration);
    }
    const struct ls_configuration_at named = named_configuration(script, at);
    if (named.index != 0) {
        return configuration_entry(realm, at.term, &named.configuration);
    }
    char text[48];
    int length = snprintf(text, sizeof text, "%" PRIu64 "^%" PRIu64, at.term, at.index);
    struct ls_entry entry = {.term = at.term, .kind = LS_ENTRY_COMMAND};
    entry.data = (struct ls_span){text, (size_t)length};
    return entry_copy(realm, &entry);
}

static void preset_log(struct script *script, struct node *node, size_t at)
{
    for (; at < script->count; at++) {
        struct ls_cursor cursor;
        ls_index last = script_cursors(script, at, &cursor);
        for (; cursor.index <= last; cursor.index++) {
            if (cursor.index != log_last(&node->view) + 1) {
                script_fail(script, "%" PRIu64 " does not follow %" PRIu64, cursor.index,
                            log_last(&node->view));
            }
            struct ls_entry entry = preset_entry(script, cursor);
            check_append(node, cursor.index, &entry);
            log_push(&node->view, &entry);
        }
    }
}

/* disk a term 3 [vote b] [anchor 1^4] [log 1^1-3 2^4 ...] */
void script_disk(struct script *script)
{
    struct node *node = script_node(script, 1);
    struct ls_hard_state *hard = &node->disk.hard_state;
    size_t at = 2;
    if (node->lives > 0) {
        script_fail(script, "disk: %s was started already", node->name);
    }
    if (script_is(script, at, "term")) {
        hard->term = script_number(script, at + 1, "a term");
        at += 2;
    }
    if (script_is(script, at, "vote")) {
        hard->voted = true;
        hard->vote = script_node(script, at + 1)->id;
        at += 2;
    }
    if (script_is(script, at, "anchor")) {
        (void)script_cursors(script, at + 1, &node->view.anchor);
        node->view.anchor_configuration = preset_configuration(script->realm);
        at += 2;
    }
    if (script_is(script, at, "log")) {
        preset_log(script, node, at + 1);
    } else if (at < script->count) {
        script_fail(script, "disk: unexpected \"%s\"", script->words[at]);
    }
    log_copy(&node->disk.log, &node->view);
}

/* founded: every disk already holds term 1 and the configuration, as after a first start. */
void script_founded(struct script *script)
{
    for (unsigned i = 0; i < script->realm->nodes_count; i++) {
        struct node *node = &script->realm->nodes[i];
        struct ls_entry entry = preset_entry(script, (struct ls_cursor){1, 1});
        if (node->lives > 0 || log_last(&node->view) > 0) {
            script_fail(script, "founded: %s has a past already", node->name);
        }
        check_append(node, 1, &entry);
        log_push(&node->view, &entry);
        log_copy(&node->disk.log, &node->view);
        node->disk.hard_state.term = 1;
    }
}
