/* SPDX-License-Identifier: MIT */
/*
 * The network between the simulated members. By default every message arrives after one latency, in
 * order; cuts, rules, loss, copies and jitter change that. The driver's held queue is here too: a
 * message leaves when the batch it presumes is durable.
 */
#include <stdlib.h>

#include "realm.h"

/* longer than a few elections */
#define STRAGGLE_US 2000000u

void packets_push(struct packets *packets, const struct packet *packet)
{
    if (packets->count == packets->capacity) {
        packets->capacity = packets->capacity == 0 ? 32 : packets->capacity * 2;
        packets->items = realloc(packets->items, packets->capacity * sizeof *packets->items);
        if (packets->items == NULL) {
            abort();
        }
    }
    packets->items[packets->count++] = *packet;
}

void packets_remove(struct packets *packets, size_t at)
{
    packets->count--;
    (void)memmove(&packets->items[at], &packets->items[at + 1],
                  (packets->count - at) * sizeof *packets->items);
}

const char *message_kind_text(int kind)
{
    static const char *const texts[] = {"message",      "pre_vote",         "pre_vote_reply",
                                        "vote",         "vote_reply",       "append",
                                        "append_reply", "heartbeat",        "heartbeat_reply",
                                        "read_index",   "read_index_reply", "timeout_now"};
    return kind >= 0 && kind <= LS_MESSAGE_TIMEOUT_NOW ? texts[kind] : texts[0];
}

bool rule_matches(const struct rule *rule, const struct packet *packet)
{
    return (rule->from < 0 || (unsigned)rule->from == packet->from) &&
           (rule->to < 0 || (unsigned)rule->to == packet->to) &&
           (rule->kind == 0 || rule->kind == (int)packet->message.kind);
}

void network_rule(struct realm *realm, const struct rule *rule)
{
    LS_ASSERT(realm->rules_count < sizeof realm->rules / sizeof realm->rules[0]);
    realm->rules[realm->rules_count++] = *rule;
}

static void enqueue(struct realm *realm, const struct packet *packet)
{
    struct packet copy = *packet;
    copy.at_us = realm->now_us + realm->latency_us;
    if (realm->jitter_us > 0) {
        copy.at_us += realm_random(realm, realm->jitter_us);
    }
    if (copy.straggles) {
        copy.at_us += realm_random(realm, STRAGGLE_US);
    }
    for (size_t i = 0; i < realm->network.count && !realm->reorder && !copy.straggles; i++) {
        const struct packet *other = &realm->network.items[i];
        if (other->from == copy.from && other->to == copy.to && !other->straggles &&
            other->at_us > copy.at_us) {
            copy.at_us = other->at_us;
        }
    }
    copy.order = ++realm->order;
    packets_push(&realm->network, &copy);
}

void network_send(struct node *node, const struct packet *packet)
{
    struct realm *realm = node->realm;
    check_release(node, packet);
    realm->sent[packet->from][packet->to][packet->message.kind]++;
    struct packet copy = *packet;
    copy.message.incarnation = realm_incarnation(node, node->incarnation);
    if (!node->linked[packet->to] || realm->cut[packet->from][packet->to]) {
        return;
    }
    for (size_t i = 0; i < realm->rules_count; i++) {
        if (!rule_matches(&realm->rules[i], &copy)) {
            continue;
        }
        if (realm->rules[i].action != RULE_DROP) {
            packets_push(&realm->parked, &copy);
        }
        if (realm->rules[i].action != RULE_COPY) {
            return;
        }
    }
    if (realm->loss_percent > 0 && realm_random(realm, 100) < realm->loss_percent) {
        return;
    }
    if (realm->straggle_percent > 0 && realm_random(realm, 100) < realm->straggle_percent) {
        copy.straggles = true;
    }
    enqueue(realm, &copy);
    if (realm->duplicate_percent > 0 && realm_random(realm, 100) < realm->duplicate_percent) {
        enqueue(realm, &copy);
    }
}

void network_flush(struct node *node)
{
    size_t kept = 0;
    for (size_t i = 0; i < node->held.count; i++) {
        struct packet packet = node->held.items[i];
        if (packet.after <= node->durable_seq) {
            network_send(node, &packet);
        } else {
            node->held.items[kept++] = packet;
        }
    }
    node->held.count = kept;
}

static size_t earliest(const struct packets *packets)
{
    size_t best = 0;
    for (size_t i = 1; i < packets->count; i++) {
        const struct packet *a = &packets->items[i], *b = &packets->items[best];
        if (a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order)) {
            best = i;
        }
    }
    return best;
}

uint64_t network_next_us(const struct realm *realm)
{
    return realm->network.count == 0 ? UINT64_MAX
                                     : realm->network.items[earliest(&realm->network)].at_us;
}

bool network_take(struct realm *realm, struct packet *out)
{
    while (realm->network.count > 0) {
        size_t at = earliest(&realm->network);
        if (realm->network.items[at].at_us > realm->now_us) {
            return false;
        }
        *out = realm->network.items[at];
        packets_remove(&realm->network, at);
        if (realm->nodes[out->to].alive && !realm->cut[out->from][out->to]) {
            return true;
        }
    }
    return false;
}

static void drop_pair(struct packets *packets, unsigned from, unsigned to)
{
    for (size_t i = packets->count; i > 0; i--) {
        if (packets->items[i - 1].from == from && packets->items[i - 1].to == to &&
            !packets->items[i - 1].straggles) {
            packets_remove(packets, i - 1);
        }
    }
}

void network_drop_pair(struct realm *realm, unsigned from, unsigned to)
{
    drop_pair(&realm->network, from, to);
    drop_pair(&realm->network, to, from);
}

size_t network_release(struct realm *realm, const struct rule *match)
{
    size_t released = 0;
    for (size_t i = 0; i < realm->parked.count;) {
        if (rule_matches(match, &realm->parked.items[i])) {
            struct packet packet = realm->parked.items[i];
            packets_remove(&realm->parked, i);
            enqueue(realm, &packet);
            released++;
        } else {
            i++;
        }
    }
    return released;
}
