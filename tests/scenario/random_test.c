/* SPDX-License-Identifier: MIT */
/*
 * Many cores under everything that can happen to them: loss, duplicates, reordering, partitions,
 * one-way cuts, broken links, crashes that lose what was not synced, disks that stall or fail,
 * clocks that jump, wiped members, pruned logs. All safety checks run after every step. Then every
 * fault is healed, and the group must converge, serve a command and answer reads (G9).
 *
 * LS_ROUNDS sets the number of worlds; LS_TEST_SEED repeats the first one with that seed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "history.h"
#include "test.h"

#define ROUNDS_DEFAULT 600u
#define CHAOS_STEPS    120u
#define HEAL_LIMIT_US  30000000u

struct counts {
    uint64_t crashes, partitions, stalls, failures, wipes, tears, prunes, leaders, proposals, reads,
        steps;
    uint64_t committed, refusals;
};

static void failed(struct realm *realm, const char *reason)
{
    (void)fprintf(stderr, "%s", realm->trace == NULL ? "" : realm->trace);
    fail_msg("seed %" PRIu64 " at %.3f ms: %s", realm->seed,
             (double)(realm->now_us - REALM_START_US) / 1000.0, reason);
}

static bool chance(struct realm *realm, unsigned percent)
{
    return realm_random(realm, 100) < percent;
}

static struct node *any_node(struct realm *realm)
{
    return &realm->nodes[realm_random(realm, realm->nodes_count)];
}

static void make_members(struct realm *realm)
{
    unsigned voters = 1 + 2 * (unsigned)realm_random(realm, 3);
    unsigned observers = voters < 5 ? (unsigned)realm_random(realm, 2) : 0;
    voters = voters == 1 && chance(realm, 80) ? 3 : voters;
    for (unsigned i = 0; i < voters + observers; i++) {
        char name[2] = {(char)('a' + (int)i), '\0'};
        struct node *node =
            realm_add(realm, name, i < voters ? LS_MEMBER_VOTER : LS_MEMBER_OBSERVER);
        node->reluctance = chance(realm, 10) ? 4 : 1;
    }
    realm->auto_sync = true;
    realm->durable_machine = chance(realm, 50);
    realm->reorder = chance(realm, 50);
    realm->loss_percent = chance(realm, 50) ? (unsigned)realm_random(realm, 20) : 0;
    realm->duplicate_percent = chance(realm, 50) ? (unsigned)realm_random(realm, 20) : 0;
    realm->refused_percent = chance(realm, 20) ? (unsigned)realm_random(realm, 20) : 0;
    realm->jitter_us = chance(realm, 60) ? realm_random(realm, 20000) + 1 : 0;
    realm->disk_us = chance(realm, 30) ? realm_random(realm, 30000) + 1 : REALM_DISK_US;
    realm->cache_bytes = chance(realm, 30) ? 64 : LS_CACHE_BYTES_DEFAULT;
    realm->window_bytes = chance(realm, 30) ? 256 : LS_WINDOW_BYTES_DEFAULT;
    realm->straggle_percent = chance(realm, 20) ? 1 + (unsigned)realm_random(realm, 4) : 0;
    realm->sync_us = chance(realm, 30) ? realm_random(realm, 600000) : REALM_SYNC_US;
    realm->restore_percent = chance(realm, 30) ? 50 : 0;
    bool past = chance(realm, 25);
    if (past) {
        realm_past(realm);
    }
    /* joint, one that is lost may be one too many; a link does not carry what an earlier disk said
     */
    realm->may_damage = !past && realm->straggle_percent == 0;
}

static void propose_somewhere(struct realm *realm, struct counts *counts)
{
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        struct node *node = &realm->nodes[i];
        if (!node->alive || (node->role != LS_ROLE_LEADER && !chance(realm, 5))) {
            continue;
        }
        struct ls_span payloads[8];
        char texts[8][24];
        uint32_t count = 1 + (uint32_t)realm_random(realm, 8);
        for (uint32_t j = 0; j < count; j++) {
            int length =
                snprintf(texts[j], sizeof texts[j], "%s%" PRIu64, node->name, realm->steps + j);
            payloads[j] = (struct ls_span){texts[j], (size_t)length};
        }
        counts->proposals += count;
        (void)realm_propose(node, payloads, count);
    }
}

/* Before every member holds the configuration, one that loses its promises ends the founding. */
static bool is_founded(const struct realm *realm)
{
    bool founded = realm->nodes_count >= 3;
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        founded = founded && log_last(&realm->nodes[i].disk.log) > 0;
    }
    return founded;
}

/* One member, once: a new directory, or the end of a log that it had acknowledged. */
static void damage(struct node *node, struct counts *counts)
{
    struct realm *realm = node->realm;
    ls_index last = log_last(&node->disk.log), floor = node->disk.log.anchor.index;
    floor = node->disk.applied > floor ? node->disk.applied : floor;
    if (chance(realm, 50)) {
        counts->wipes++;
        realm_wipe(node);
    } else if (last > floor) {
        counts->tears++;
        realm_tear(node, (size_t)(1 + realm_random(realm, last - floor)));
    }
}

static void crash(struct node *node, struct counts *counts)
{
    struct realm *realm = node->realm;
    if (node->alive) {
        counts->crashes++;
        realm_crash(node, (size_t)realm_random(realm, 4));
        if (realm->damaged == 0 && realm->may_damage && is_founded(realm) && chance(realm, 4)) {
            damage(node, counts);
        }
    } else {
        realm_start(node);
    }
}

static void partition(struct realm *realm, struct counts *counts)
{
    counts->partitions++;
    unsigned side = (unsigned)realm_random(realm, 1u << realm->nodes_count);
    bool one_way = chance(realm, 30);
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        for (unsigned j = 0; j < realm->nodes_count; j++) {
            bool from = (side >> i & 1u) != 0, to = (side >> j & 1u) != 0;
            realm->cut[i][j] = one_way ? from && !to : from != to;
        }
    }
}

static void toggle_link(struct realm *realm)
{
    struct node *a = any_node(realm), *b = any_node(realm);
    if (a != b && a->alive && b->alive) {
        realm_link(a, b, !a->linked[b->number]);
    }
}

static void prune(struct node *node, struct counts *counts)
{
    ls_index upto = node->applied;
    upto = node->commit > 0 && node->commit - 1 < upto ? node->commit - 1 : upto;
    upto = node->prune_safe < upto ? node->prune_safe : upto;
    if (node->alive && node->halted == LS_OK && upto > node->view.anchor.index &&
        log_common(&node->disk.log, &node->view) >= upto) {
        counts->prunes++;
        realm_prune(node, upto);
    }
}

static void stall(struct node *node, struct counts *counts)
{
    counts->stalls += node->disk_held ? 0 : 1;
    node->disk_held = !node->disk_held;
}

static void one_fault(struct realm *realm, struct counts *counts)
{
    struct node *node = any_node(realm);
    switch (realm_random(realm, 14)) {
    case 0:
    case 1:
        crash(node, counts);
        break;
    case 2:
        partition(realm, counts);
        break;
    case 3:
    case 4:
        (void)memset(realm->cut, 0, sizeof realm->cut);
        break;
    case 5:
    case 6:
        stall(node, counts);
        break;
    case 7:
        toggle_link(realm);
        break;
    case 8:
        if (node->alive) {
            (void)realm_transfer(node, chance(realm, 50) ? any_node(realm) : NULL);
        }
        break;
    case 9:
        prune(node, counts);
        break;
    case 10:
        node->clock_skew_us += realm_random(realm, 200000);
        break;
    case 11:
        node->apply_held = !node->apply_held;
        break;
    case 12:
        if (node->alive && node->halted == LS_OK && chance(realm, 20)) {
            counts->failures++;
            realm_disk_fails(node);
        }
        break;
    default:
        node->asleep = !node->asleep;
        break;
    }
}

/* Everybody who thinks it leads, and now and then another: a deposed leader must not answer. */
static void read_somewhere(struct realm *realm, struct counts *counts)
{
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        struct node *node = &realm->nodes[i];
        if (node->alive && (node->role == LS_ROLE_LEADER || chance(realm, 25))) {
            counts->reads++;
            (void)realm_read(node);
        }
    }
}

/* What another member has committed or applied comes by itself: a session that began long ago. */
static void catch_up(struct realm *realm)
{
    struct node *node = any_node(realm), *from = any_node(realm);
    if (node != from && node->alive && from->alive && node->halted == LS_OK &&
        from->halted == LS_OK && node->role != LS_ROLE_LEADER) {
        if (chance(realm, 50)) {
            realm_sync(node, from);
        } else if (from->applied > node->commit) {
            realm_restore(node, from);
        }
    }
}

static void chaos(struct realm *realm, struct counts *counts)
{
    bool eager = chance(realm, 15);
    for (unsigned i = 0; i < CHAOS_STEPS; i++) {
        (void)realm_run(realm, realm->now_us + realm_random(realm, 60000), NULL, NULL);
        if (chance(realm, 60)) {
            propose_somewhere(realm, counts);
        }
        if (chance(realm, 30)) {
            read_somewhere(realm, counts);
        }
        if (chance(realm, 50)) {
            one_fault(realm, counts);
        }
        if (chance(realm, 4)) {
            catch_up(realm);
        }
        if (chance(realm, 5)) {
            realm_stranger(any_node(realm));
        }
        for (unsigned n = 0; n < realm->nodes_count && eager; n++) {
            prune(&realm->nodes[n], counts);
        }
        for (unsigned n = 0; n < realm->nodes_count; n++) {
            enum ls_status halted = realm->nodes[n].halted;
            if (halted != LS_OK && halted != LS_ERR_IO) {
                realm_fail(realm, "%s halted: %s", realm->nodes[n].name, ls_status_text(halted));
            }
        }
    }
}

static void heal(struct realm *realm)
{
    (void)memset(realm->cut, 0, sizeof realm->cut);
    realm->loss_percent = 0;
    realm->duplicate_percent = 0;
    realm->refused_percent = 0;
    realm->reorder = false;
    realm->jitter_us = 0;
    realm->disk_us = REALM_DISK_US;
    realm->straggle_percent = 0;
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        struct node *node = &realm->nodes[i];
        node->disk_held = false;
        node->apply_held = false;
        node->asleep = false;
        if (node->alive && node->halted != LS_OK) {
            realm_crash(node, 0);
        }
        if (!node->alive) {
            realm_start(node);
        }
        realm_apply(node);
    }
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        for (unsigned j = 0; j < i; j++) {
            realm_link(&realm->nodes[i], &realm->nodes[j], true);
        }
    }
}

static struct node *serving_leader(struct realm *realm)
{
    struct node *leader = NULL;
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        struct node *node = &realm->nodes[i];
        if (node->role == LS_ROLE_LEADER && (leader == NULL || node->term > leader->term)) {
            leader = node;
        }
    }
    return leader;
}

static bool converged(void *arg)
{
    struct realm *realm = arg;
    const struct node *leader = serving_leader(realm);
    if (leader == NULL || leader->own_term_first == 0 || leader->commit < leader->own_term_first ||
        leader->commit != log_last(&leader->view)) {
        return false;
    }
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        const struct node *node = &realm->nodes[i];
        if (node->term != leader->term || node->commit != leader->commit ||
            node->applied != leader->commit || node->durable != leader->commit ||
            log_common(&node->view, &leader->view) != leader->commit) {
            return false;
        }
    }
    return true;
}

/* A handover that was asked for before may still be under way: it ends, one way or the other. */
static bool takes_a_command(void *arg)
{
    struct realm *realm = arg;
    struct node *leader = serving_leader(realm);
    struct ls_span payload = {"last", 4};
    return leader != NULL && realm_propose(leader, &payload, 1) == LS_OK;
}

/* The newest read of that member, or NULL. */
static struct pending_read *newest_read(struct realm *realm, unsigned node)
{
    for (size_t i = realm->reads_count; i > 0; i--) {
        if (realm->reads[i - 1].node == node) {
            return &realm->reads[i - 1];
        }
    }
    return NULL;
}

/* Every member answers a read begun after healing; one that fails meanwhile is asked again. */
static bool reads_answered(void *arg)
{
    struct realm *realm = arg;
    bool all = true;
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        struct pending_read *read = newest_read(realm, i);
        if (read == NULL || (read->done && read->status != LS_OK)) {
            read = realm_read(&realm->nodes[i]);
        }
        all = all && read->done && read->status == LS_OK;
    }
    return all;
}

static void describe(const struct realm *realm)
{
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        const struct node *node = &realm->nodes[i];
        (void)fprintf(stderr,
                      "%s: role %d term %" PRIu64 " commit %" PRIu64 " applied %" PRIu64
                      " durable %" PRIu64 " last %" PRIu64 " anchor %" PRIu64 " gap %d %" PRIu64
                      " halted %d incarnation %u\n",
                      node->name, (int)node->role, node->term, node->commit, node->applied,
                      node->durable, log_last(&node->view), node->view.anchor.index, node->gap,
                      node->gap_target, (int)node->halted, node->incarnation);
    }
}

static void demand_liveness(struct realm *realm)
{
    if (!realm_run(realm, realm->now_us + HEAL_LIMIT_US, converged, realm)) {
        describe(realm);
        realm_fail(realm, "does not converge after all faults are healed");
    }
    if (!realm_run(realm, realm->now_us + HEAL_LIMIT_US, takes_a_command, realm)) {
        describe(realm);
        realm_fail(realm, "takes no command after healing");
    }
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        (void)realm_read(&realm->nodes[i]);
    }
    if (!realm_run(realm, realm->now_us + HEAL_LIMIT_US, converged, realm) ||
        !realm_run(realm, realm->now_us + HEAL_LIMIT_US, reads_answered, realm)) {
        describe(realm);
        realm_fail(realm, "does not serve after all faults are healed");
    }
}

static void run_world(uint64_t seed, struct counts *counts)
{
    struct realm *realm = realm_open(seed);
    const char *tell = getenv("LS_TRACE");
    realm->tell = tell != NULL && strcmp(tell, "1") == 0;
    realm->failed = failed;
    make_members(realm);
    for (unsigned i = 0; i < realm->nodes_count; i++) {
        realm_start(&realm->nodes[i]);
    }
    if (chance(realm, 70)) {
        (void)realm_run(realm, realm->now_us + 2000000, converged, realm);
    }
    chaos(realm, counts);
    heal(realm);
    demand_liveness(realm);
    if (realm->nodes_count > 1) {
        realm_contradict(&realm->nodes[0], &realm->nodes[1]);
    }
    counts->refusals += realm->refusals;
    counts->steps += realm->steps;
    counts->committed += realm->committed;
    for (size_t i = 0; i < realm->leaders_count; i++) {
        counts->leaders += realm->leaders[i] != 0 ? 1 : 0;
    }
    realm_close(realm);
}

TEST(random, many_cores_stay_safe_under_faults_and_recover)
{
    const char *text = getenv("LS_ROUNDS");
    unsigned long rounds = text == NULL ? ROUNDS_DEFAULT : strtoul(text, NULL, 10);
    uint64_t seed = test_seed();
    struct counts counts = {0};
    for (unsigned long i = 0; i < rounds; i++) {
        run_world(seed + i, &counts);
    }
    print_message(
        "%lu worlds, %" PRIu64 " steps, %" PRIu64 " committed, %" PRIu64 " leaders, %" PRIu64
        " crashes, %" PRIu64 " partitions, %" PRIu64 " stalls, %" PRIu64 " failed disks, %" PRIu64
        " wipes, %" PRIu64 " torn logs, %" PRIu64 " refusals of memory, %" PRIu64 " prunes\n",
        rounds, counts.steps, counts.committed, counts.leaders, counts.crashes, counts.partitions,
        counts.stalls, counts.failures, counts.wipes, counts.tears, counts.refusals, counts.prunes);
    if (rounds >= ROUNDS_DEFAULT) {
        assert_true(counts.crashes > 0 && counts.partitions > 0 && counts.stalls > 0);
        assert_true(counts.prunes > 0 && counts.leaders > rounds && counts.committed > rounds);
    }
}
