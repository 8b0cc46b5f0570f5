/* SPDX-License-Identifier: MIT */
/*
 * A script for three members with a real supervisor, session and provider of log replay each: gaps,
 * appends, lost bonds, pruned logs, stalled disks, refused installs and memory, and messages that
 * are lost, doubled, changed or made up. The world's driver asserts that nothing committed is
 * truncated, and what was applied must be the truth. Then all is healed, and the member that lags
 * must reach the end.
 *
 * The first byte sets up; then each byte is what happens (low four bits), to whom (the next two),
 * and more; many are followed by a byte with details.
 */
#include "sync_world.h"

#include "fuzz.h"

#include <stdlib.h>

enum {
    MEMBERS = 3,
    LAGS = 2, /* the one that lags; 0 leads */
    EVENTS_MAX = 400,
    ENTRIES_MAX = 4000,
    BYTES_MAX = 32,
    MADE_UP_MAX = 24,
    HEAD_BYTES = 11, /* the first term of the smallest answer comes later */
    FINE_US = 100,
    COARSE_US = 20000
};

struct script {
    const uint8_t *data;
    size_t size, at;
    struct world *world;
    uint8_t fates[8]; /* of the next messages: deliver, drop, twice, changed */
    uint32_t fates_count;
};

static uint8_t next(struct script *script)
{
    return script->at < script->size ? script->data[script->at++] : 0;
}

/* Changes one bit of the head of an answer or of a question: its kind, attempt, id or first number.
 * Entries themselves are not changed: that they are right is what the members' bond is for. */
static enum world_fate change(struct world *world, const struct world_message *message,
                              uint8_t where)
{
    static uint8_t bytes[1u << 21];
    size_t head = message->bytes < HEAD_BYTES ? message->bytes : HEAD_BYTES;
    if (message->bytes == 0 || message->bytes > sizeof bytes) {
        return WORLD_DROP;
    }
    memcpy(bytes, message->data, message->bytes);
    bytes[where % head] ^= (uint8_t)(1u << (where >> 4) % 7);
    world_send(world, message->from, message->to, message->to_session,
               (struct ls_span){bytes, message->bytes});
    return WORLD_DROP;
}

static enum world_fate meet(struct world *world, const struct world_message *message, void *arg)
{
    struct script *script = arg;
    if (script->fates_count == 0) {
        return WORLD_DELIVER;
    }
    uint8_t fate = script->fates[--script->fates_count];
    switch (fate & 3u) {
    case 1:
        return WORLD_DROP;
    case 2:
        return WORLD_TWICE;
    case 3:
        return change(world, message, fate >> 2);
    default:
        return WORLD_DELIVER;
    }
}

/* What a member that does not lag holds of the truth. */
static void grow(struct world *world, uint32_t at, uint8_t detail)
{
    struct world_node *node = &world->nodes[at];
    ls_index last = node->log.last + detail;
    last = last < world->truth.last ? last : world->truth.last;
    if (at != LAGS && last > node->log.last) {
        world_fill(world, at, last, last);
        ls_supervisor_committed(node->supervisor, last);
        world_poll(world, at);
    }
}

static void gap(struct world *world, uint8_t detail)
{
    ls_index target = world->nodes[0].commit;
    ls_index prev = world->truth.last < detail ? 0 : world->truth.last - detail;
    uint32_t count = (uint32_t)(world->truth.last - prev);
    if (target > 0 && world->nodes[LAGS].up) {
        world_gap(world, LAGS, target, prev, count > 8 ? 8 : count);
    }
}

static void append(struct world *world, uint8_t detail)
{
    ls_index prev = world->nodes[LAGS].log.last;
    ls_index left = world->truth.last - prev;
    uint32_t count = detail % 8;
    if (prev <= world->truth.last && left > 0 && world->nodes[LAGS].effects_count == 0) {
        count = count < left ? count : (uint32_t)left;
        world_append(world, LAGS, world->nodes[0].commit, prev, count);
    }
}

static void made_up(struct script *script, uint32_t from, uint32_t to, bool to_session)
{
    uint8_t length = next(script);
    length = length < MADE_UP_MAX ? length : MADE_UP_MAX;
    size_t left = script->size - script->at;
    length = length < left ? length : (uint8_t)left;
    if (from != to) {
        world_send(script->world, from, to, to_session,
                   (struct ls_span){script->data + script->at, length});
    }
    script->at += length;
}

static void prune(struct world *world, uint32_t at, uint8_t detail)
{
    struct world_node *node = &world->nodes[at];
    ls_index safe = ls_supervisor_safe_to_prune(node->supervisor);
    ls_index upto = node->first - 1 + detail;
    upto = upto < safe ? upto : safe;
    if (upto >= node->first && at != 0) { /* the leader keeps all, so that somebody can help */
        world_prune(world, at, upto);
    }
}

static void write(struct world *world, uint8_t detail)
{
    if (world->truth.last + detail < ENTRIES_MAX) {
        world->term += (detail & 1u);
        world_write(world, world->term, 1 + detail, BYTES_MAX);
    }
}

/* A new leader's term; the one before it may have left entries that are nobody else's. */
static void new_term(struct world *world, uint32_t lost)
{
    struct world_node *node = &world->nodes[LAGS];
    world->term += 2;
    if (lost > 0 && !node->syncing && node->effects_count == 0) {
        world_diverge(world, LAGS, world->term - 1, lost);
    }
    ls_supervisor_term(node->supervisor, world->term);
    world_poll(world, LAGS);
}

/* True: it was one of these. */
static bool happen_to_driver(struct script *script, uint8_t what, uint32_t at)
{
    struct world *world = script->world;
    struct world_node *node = &world->nodes[at];
    switch (what & 15u) {
    case 8:
        node->hold_disk = !node->hold_disk;
        return true;
    case 9:
        node->refuse_install = node->refuse_install == LS_OK ? LS_ERR_INVALID : LS_OK;
        return true;
    case 10:
        world->refuse_at = world->allocations + 1 + next(script);
        return true;
    case 11:
        node->queue_bytes_max = (size_t)next(script) * 16;
        return true;
    case 12:
        world->leader = at == 0 ? 0 : world->nodes_count; /* known, or not */
        world_poll(world, LAGS);
        return true;
    case 13:
        new_term(world, what >> 6);
        return true;
    default:
        return false;
    }
}

static void happen(struct script *script)
{
    struct world *world = script->world;
    uint8_t what = next(script);
    uint32_t at = (what >> 4) % MEMBERS;
    uint32_t other = (at + 1 + (what >> 6) % (MEMBERS - 1)) % MEMBERS;
    switch (what & 15u) {
    case 0:
        world_run(world, (uint64_t)FINE_US * next(script));
        break;
    case 1:
        world_run(world, (uint64_t)COARSE_US * next(script));
        break;
    case 2:
        write(world, next(script));
        break;
    case 3:
        grow(world, at, next(script));
        break;
    case 4:
        gap(world, next(script));
        break;
    case 5:
        append(world, next(script));
        break;
    case 6:
        world_bond(world, at, other, world->cut[at][other]);
        break;
    case 7:
        world_up(world, at, !world->nodes[at].up);
        break;
    case 14:
        if ((what & 0x80u) != 0) {
            prune(world, at, next(script));
        } else {
            made_up(script, at, other, (what & 0x40u) != 0);
        }
        break;
    case 15:
        script->fates_count = script->fates_count < 8 ? script->fates_count + 1 : 8;
        script->fates[script->fates_count - 1] = next(script);
        break;
    default:
        (void)happen_to_driver(script, what, at);
        break;
    }
}

/* Applied or not yet: what the member that lags calls committed is the truth. */
static void check_committed(const struct world *world)
{
    const struct world_node *node = &world->nodes[LAGS];
    assert_true(node->commit <= node->log.last && node->commit <= world->truth.last);
    for (ls_index i = 0; i < node->commit; i++) {
        const struct ls_entry *ours = &node->log.entries[i];
        const struct ls_entry *truth = &world->truth.entries[i];
        assert_true(ours->term == truth->term && ours->kind == truth->kind &&
                    ours->data.bytes == truth->data.bytes);
        assert_true(ours->data.bytes == 0 ||
                    memcmp(ours->data.data, truth->data.data, ours->data.bytes) == 0);
    }
}

static void heal(struct script *script)
{
    struct world *world = script->world;
    script->fates_count = 0;
    world->refuse_at = 0;
    world->leader = 0;
    for (uint32_t i = 0; i < MEMBERS; i++) {
        struct world_node *node = &world->nodes[i];
        node->hold_disk = false;
        node->refuse_install = LS_OK;
        node->queue_bytes_max = 0;
        if (!node->up) {
            world_up(world, i, true);
        }
        for (uint32_t j = 0; j < i; j++) {
            world_bond(world, i, j, true);
        }
    }
    grow(world, 0, UINT8_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
    struct script script = {.data = data, .size = size};
    uint8_t settings = next(&script);
    struct world_options options = {.nodes = MEMBERS,
                                    .seed = 7,
                                    .replay = {.entries_max = 1 + settings % 16,
                                               .window = 1 + (settings >> 4) % 3,
                                               .timeout_ms = 200,
                                               .lease_ms = 400,
                                               .keep_entries = 1},
                                    .retry_min_ms = 100,
                                    .watchdog_ms = 3000};
    struct world *world = world_open(&options);
    script.world = world;
    world->intercept = meet;
    world->intercept_arg = &script;
    write(world, 40);
    grow(world, 0, UINT8_MAX);
    grow(world, 1, 30);
    for (unsigned events = 0; script.at < size && events < EVENTS_MAX; events++) {
        happen(&script);
        check_committed(world);
    }
    heal(&script);
    ls_index target = world->nodes[0].commit;
    for (unsigned rounds = 0; world->nodes[LAGS].commit < target && rounds < 40; rounds++) {
        world_gap(world, LAGS, target, 0, 0); /* a heartbeat tells again */
        world_run(world, 10 * SECOND);
    }
    assert_true(world_reaches(world, LAGS, target, 600 * SECOND));
    world_check(world, LAGS);
    world_close(world);
    return 0;
}
