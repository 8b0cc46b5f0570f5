/* SPDX-License-Identifier: MIT */
/*
 * A script for three cores: who proposes, reads, crashes, loses its directory or the end of its
 * log, whose disk stalls or fails, which messages are lost, doubled or kept back. The realm checks
 * after every step what must hold over all of them (ls_core_check, one leader a term, log matching,
 * nothing committed is lost, reads see what was committed). Then all is healed, and the three must
 * agree on one log again.
 *
 * The first byte sets up the realm; then each byte is what happens (its low four bits) and to whom
 * (the next two); many are followed by a byte with details.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "realm.h"

enum {
    MEMBERS = 3,
    EVENTS_MAX = 400,
    RULES_MAX = 8,
    LOG_MAX = 2000,
    HEAL_LIMIT_US = 30000000,
    FINE_US = 100,
    COARSE_US = 4000,
    SKEW_US = 1000
};

struct script {
    const uint8_t *data;
    size_t size, at;
    struct realm *realm;
    bool crossed; /* messages may have arrived after the end of the link they were sent over */
};

static void failed(struct realm *realm, const char *reason)
{
    (void)fprintf(stderr, "at %llu us: %s\n", (unsigned long long)(realm->now_us - REALM_START_US),
                  reason);
    abort();
}

static uint8_t next(struct script *script)
{
    return script->at < script->size ? script->data[script->at++] : 0;
}

static void propose(struct node *node, uint8_t detail)
{
    static const uint8_t payload[64];
    struct ls_span spans[4];
    uint32_t count = 1 + (detail & 3u);
    for (uint32_t i = 0; i < count; i++) {
        spans[i] = (struct ls_span){payload, (size_t)(detail >> 2)};
    }
    if (node->alive && log_last(&node->view) < LOG_MAX) {
        (void)realm_propose(node, spans, count);
    }
}

/* Before every member holds the configuration, one that loses its promises ends the founding. */
static bool is_founded(const struct realm *realm)
{
    bool founded = true;
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        founded = founded && log_last(&realm->nodes[i].disk.log) > 0;
    }
    return founded;
}

/* One member, once: a new directory, or the end of a log that it had acknowledged. */
static void damage(struct node *node, uint8_t detail)
{
    struct realm *realm = node->realm;
    ls_index floor = node->disk.log.anchor.index;
    ls_index last = log_last(&node->disk.log);
    floor = node->disk.applied > floor ? node->disk.applied : floor;
    if (node->alive || realm->damaged > 0 || !is_founded(realm)) {
        return;
    }
    if ((detail & 1u) != 0) {
        realm_wipe(node);
    } else if (last > floor) {
        realm_tear(node, 1 + (detail >> 1) % (size_t)(last - floor));
    }
}

static void prune(struct node *node)
{
    ls_index upto = node->applied;
    upto = node->commit > 0 && node->commit - 1 < upto ? node->commit - 1 : upto;
    upto = node->prune_safe < upto ? node->prune_safe : upto;
    if (node->alive && node->halted == LS_OK && upto > node->view.anchor.index &&
        log_common(&node->disk.log, &node->view) >= upto) {
        realm_prune(node, upto);
    }
}

static void restart(struct node *node, uint8_t detail)
{
    if (node->alive) {
        realm_crash(node, detail & 7u);
    } else {
        realm_start(node);
    }
}

/* Messages of one kind from this member to another are lost, kept back or sent twice from now. */
static void set_rule(struct script *script, const struct node *node, uint8_t detail)
{
    struct realm *realm = script->realm;
    const struct rule rule = {.action = (enum rule_action)(1 + detail % 3),
                              .from = (int)node->number,
                              .to = (detail >> 2) % (MEMBERS + 1) - 1,
                              .kind = (detail >> 4) % (LS_MESSAGE_TIMEOUT_NOW + 1)};
    if (realm->rules_count < RULES_MAX) {
        network_rule(realm, &rule);
        script->crossed = script->crossed || rule.action != RULE_DROP;
    }
}

static void release(struct realm *realm)
{
    const struct rule any = {.action = RULE_PARK, .from = -1, .to = -1, .kind = 0};
    realm->rules_count = 0;
    (void)network_release(realm, &any);
}

static void fault(struct node *node, uint8_t detail)
{
    struct realm *realm = node->realm;
    switch (detail & 3u) {
    case 0:
        if (node->alive && node->halted == LS_OK) {
            realm_disk_fails(node);
        }
        break;
    case 1:
        node->clock_skew_us += (uint64_t)SKEW_US * detail;
        break;
    case 2:
        node->apply_held = !node->apply_held;
        break;
    default:
        realm->refused_percent = (detail >> 2) % 30;
        break;
    }
}

static void happen(struct script *script)
{
    struct realm *realm = script->realm;
    uint8_t what = next(script);
    struct node *node = &realm->nodes[(what >> 4) % MEMBERS];
    struct node *other = &realm->nodes[(node->number + 1 + (what >> 6) % (MEMBERS - 1)) % MEMBERS];
    switch (what & 15u) {
    case 0:
        (void)realm_run(realm, realm->now_us + (uint64_t)FINE_US * next(script), NULL, NULL);
        break;
    case 1:
        (void)realm_run(realm, realm->now_us + (uint64_t)COARSE_US * next(script), NULL, NULL);
        break;
    case 2:
        propose(node, next(script));
        break;
    case 3:
        if (node->alive) {
            (void)realm_read(node);
        }
        break;
    case 4:
        restart(node, next(script));
        break;
    case 5:
        realm->cut[node->number][other->number] = !realm->cut[node->number][other->number];
        break;
    case 6:
        if (node->alive && other->alive) {
            realm_link(node, other, !node->linked[other->number]);
        }
        break;
    case 7:
        node->disk_held = !node->disk_held;
        break;
    case 8:
        if (node->alive && node->batches_count > 0 && !node->disk_failed) {
            realm_make_durable(node, 1 + next(script) % node->batches_count);
        }
        break;
    case 9:
        node->asleep = !node->asleep;
        break;
    case 10:
        if (node->alive) {
            (void)realm_transfer(node, (what >> 6) == 3 ? NULL : other);
        }
        break;
    case 11:
        set_rule(script, node, next(script));
        break;
    case 12:
        release(realm);
        break;
    case 13:
        prune(node);
        break;
    case 14:
        damage(node, next(script));
        break;
    default:
        fault(node, next(script));
        break;
    }
}

/* No transport lets a message outlive its link, so if one did, what a leader believes of the others
 * may be beyond healing: then all links are made anew. */
static void heal(const struct script *script)
{
    struct realm *realm = script->realm;
    (void)memset(realm->cut, 0, sizeof realm->cut);
    realm->refused_percent = realm->loss_percent = realm->duplicate_percent = 0;
    realm->disk_us = REALM_DISK_US;
    realm->jitter_us = 0;
    realm->reorder = false;
    release(realm);
    for (unsigned i = 0; i < MEMBERS; i++) {
        struct node *node = &realm->nodes[i];
        node->disk_held = node->apply_held = node->asleep = false;
        if (node->alive && node->halted != LS_OK) {
            realm_crash(node, 0);
        }
        if (!node->alive) {
            realm_start(node);
        }
        realm_apply(node);
    }
    for (unsigned i = 0; i < MEMBERS; i++) {
        for (unsigned j = 0; j < i; j++) {
            if (script->crossed) {
                realm_link(&realm->nodes[i], &realm->nodes[j], false);
            }
            realm_link(&realm->nodes[i], &realm->nodes[j], true);
        }
    }
}

static bool converged(void *arg)
{
    const struct realm *realm = arg;
    const struct node *leader = NULL;
    for (unsigned i = 0; i < MEMBERS; i++) {
        const struct node *node = &realm->nodes[i];
        if (node->role == LS_ROLE_LEADER && (leader == NULL || node->term > leader->term)) {
            leader = node;
        }
    }
    if (leader == NULL || leader->own_term_first == 0 || leader->commit < leader->own_term_first ||
        leader->commit < realm->committed) {
        return false;
    }
    for (unsigned i = 0; i < MEMBERS; i++) {
        const struct node *node = &realm->nodes[i];
        if (node->term != leader->term || node->commit != leader->commit ||
            node->applied != leader->commit || log_last(&node->view) != leader->commit) {
            return false;
        }
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct script script = {.data = data, .size = size, .realm = realm_open(7)};
    struct realm *realm = script.realm;
    uint8_t settings = next(&script);
    realm->failed = failed;
    realm->auto_sync = true;
    realm->durable_machine = (settings & 1u) != 0;
    realm->cache_bytes = (settings & 2u) != 0 ? 64 : LS_CACHE_BYTES_DEFAULT;
    realm->window_bytes = (settings & 4u) != 0 ? 256 : LS_WINDOW_BYTES_DEFAULT;
    realm->reorder = script.crossed = (settings & 8u) != 0;
    realm->jitter_us = (settings & 16u) != 0 ? 20000 : 0;
    for (unsigned i = 0; i < MEMBERS; i++) {
        const char name[2] = {(char)('a' + (int)i), '\0'};
        (void)realm_add(realm, name, LS_MEMBER_VOTER);
    }
    for (unsigned i = 0; i < MEMBERS; i++) {
        realm_start(&realm->nodes[i]);
    }
    if ((settings & 32u) == 0) {
        (void)realm_run(realm, realm->now_us + HEAL_LIMIT_US, converged, realm);
    }
    for (unsigned events = 0; script.at < size && events < EVENTS_MAX; events++) {
        happen(&script);
        for (unsigned i = 0; i < MEMBERS; i++) {
            enum ls_status halted = realm->nodes[i].halted;
            if (halted != LS_OK && halted != LS_ERR_IO) {
                failed(realm, ls_status_text(halted));
            }
        }
    }
    heal(&script);
    if (!realm_run(realm, realm->now_us + HEAL_LIMIT_US, converged, realm)) {
        failed(realm, "the three do not agree again after healing");
    }
    realm_close(realm);
    return 0;
}
