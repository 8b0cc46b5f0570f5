/* SPDX-License-Identifier: MIT */
/*
 * A source whose table and chunks agree, and are no state all the same: chunks that do not parse,
 * have other items than the table says, or a key twice. None of them is staged.
 */
#include "snapshot_sync.h"
#include "sync_world.h"

#include <stdio.h>

#define END  5000u
#define HERE 20u

enum forgery { NOISE, TWINS, OTHER_KEY, FEWER_ITEMS, EMPTY_KEY, FORGERIES };

struct forger {
    enum forgery forgery;
    struct ls_snapshot offered;
    uint8_t *chunk; /* what takes the place of the first one */
    size_t bytes;
    uint64_t tables, chunks;
};

static void put32(uint8_t *at, size_t value)
{
    for (size_t i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static size_t put_item(uint8_t *at, struct ls_span key, size_t value)
{
    put32(at, key.bytes);
    put32(at + 4, value);
    memcpy(at + LS_ITEM_HEAD_BYTES, key.data, key.bytes);
    memset(at + LS_ITEM_HEAD_BYTES + key.bytes, 'v', value);
    return LS_ITEM_HEAD_BYTES + key.bytes + value;
}

/* `items` items of `bytes` in keys and values, so that the row of the table stays as it is. */
static void forge(struct forger *forger, size_t items, size_t bytes, struct ls_span first)
{
    forger->bytes = bytes + items * LS_ITEM_HEAD_BYTES;
    forger->chunk = test_realloc(forger->chunk, forger->bytes);
    memset(forger->chunk, 0xff, forger->bytes);
    if (forger->forgery == NOISE) {
        return;
    }
    size_t at = 0;
    size_t count = forger->forgery == FEWER_ITEMS ? 1 : items;
    for (size_t i = 0; i < count; i++) {
        char text[16];
        int length = snprintf(text, sizeof text, "item %05u", (unsigned)i);
        struct ls_span key = {text, (size_t)length};
        key = forger->forgery == TWINS ? first : key;
        key = forger->forgery == OTHER_KEY && i == 0 ? (struct ls_span){"another", 7} : key;
        key = forger->forgery == EMPTY_KEY && i == count / 2 ? (struct ls_span){"", 0} : key;
        size_t left = forger->bytes - at - LS_ITEM_HEAD_BYTES - key.bytes;
        at += put_item(forger->chunk + at, key, i + 1 == count ? left : 40);
    }
    assert_int_equal(at, forger->bytes);
}

static void send_on(struct world *world, const struct world_message *like,
                    const struct ls__snap_message *message, const struct ls_value *rows)
{
    static struct ls_value values[LS__SNAP_VALUES_MAX];
    size_t count = ls__snap_head(message, values);
    if (message->kind == LS__SNAP_TABLE) {
        memcpy(values + count, rows, 4u * message->count * sizeof *values);
        count += 4u * message->count;
    }
    size_t room = like->bytes + 1024;
    uint8_t *bytes = test_malloc(room);
    size_t written = 0;
    const struct ls_codec *codec = &world->env.codec;
    assert_ok(codec->encode(codec->self, values, count, bytes, room, &written));
    world_send(world, like->from, like->to, true, (struct ls_span){bytes, written});
    for (struct world_message *m = world->messages; m != NULL; m = m->next) {
        if (m->from == like->from && m->to == like->to && m->bytes == written) {
            m->tag = like->tag;
        }
    }
    test_free(bytes);
}

static void forge_table(struct world *world, struct forger *forger,
                        const struct ls__snap_message *table, struct ls_value *rows)
{
    static struct ls_hash hashes[LS__SNAP_ROWS_MAX];
    forge(forger, rows[1].as.number, rows[2].as.number, rows[3].as.bytes);
    hashes[0] = ls_chunk_hash(&world->env, (struct ls_span){forger->chunk, forger->bytes});
    rows[0].as.bytes = (struct ls_span){hashes[0].bytes, sizeof hashes[0]};
    for (size_t i = 1; i < table->count; i++) {
        memcpy(hashes[i].bytes, rows[4 * i].as.bytes.data, sizeof hashes[i]);
    }
    forger->offered.configuration_index = table->configuration_index;
    forger->offered.configuration = table->data;
    forger->offered.chunks = table->chunks;
    forger->offered.root = ls_snapshot_root(&world->env, &forger->offered, hashes);
    forger->tables++;
}

static enum world_fate forging(struct world *world, const struct world_message *message, void *arg)
{
    static struct ls_value values[LS__SNAP_VALUES_MAX];
    struct forger *forger = arg;
    struct ls__snap_message read;
    if (message->tag != 1 || !message->to_session ||
        ls__snap_decode(&world->env.codec, (struct ls_span){message->data, message->bytes}, values,
                        LS__SNAP_VALUES_MAX, &read) != NULL) {
        return WORLD_DELIVER;
    }
    if (read.kind == LS__SNAP_OFFER) {
        forger->offered =
            (struct ls_snapshot){.anchor = read.anchor, .items = read.items, .bytes = read.bytes};
    } else if (read.kind == LS__SNAP_TABLE && read.count == read.chunks) {
        forge_table(world, forger, &read, values + LS__SNAP_HEAD_VALUES);
        read.root = forger->offered.root;
        send_on(world, message, &read, values + LS__SNAP_HEAD_VALUES);
        return WORLD_DROP;
    } else if (read.kind == LS__SNAP_CHUNK && read.data.bytes == forger->bytes) {
        forger->chunks++;
        read.data = (struct ls_span){forger->chunk, forger->bytes};
        send_on(world, message, &read, NULL);
        return WORLD_DROP;
    }
    return WORLD_DELIVER;
}

static struct world *lagging_of(uint32_t nodes)
{
    static struct ls_statesync syncs[2];
    static struct ls_log_replay_options replay = {.size = sizeof replay, .lease_ms = 1};
    assert_ok(ls_log_replay(&replay, &syncs[0]));
    assert_ok(ls_snapshot_sync(NULL, &syncs[1]));
    struct world_options options = {.nodes = nodes,
                                    .seed = test_seed(),
                                    .strategies = syncs,
                                    .strategies_count = 2,
                                    .snapshots = true};
    struct world *world = world_open(&options);
    world_write(world, 1, HERE, 16);
    world_write(world, 2, END - HERE, 16);
    world->term = 2;
    world_fill(world, 0, END, END);
    world_prune(world, 0, END - 10);
    world_fill(world, 1, HERE, HERE);
    return world;
}

TEST(forged, chunks_with_the_right_hash_that_hold_no_state_are_not_staged)
{
    for (int forgery = NOISE; forgery < FORGERIES; forgery++) {
        struct world *world = lagging_of(2);
        struct forger forger = {.forgery = (enum forgery)forgery};
        world->intercept = forging;
        world->intercept_arg = &forger;
        world_gap(world, 1, END, 0, 0);
        world_run(world, 20 * SECOND);
        const struct world_node *node = &world->nodes[1];
        assert_true(forger.tables > 0 && forger.chunks > 0);
        assert_true(forger.chunks < 20); /* who does that is left alone */
        assert_int_equal(node->publishes, 0);
        assert_int_equal(node->commit, HERE);
        assert_true(world_progress(world, 1).penalties > 0);
        for (size_t i = 0; i < node->staged_count; i++) {
            assert_true(node->staged[i].count != forger.bytes ||
                        memcmp(node->staged[i].bytes, forger.chunk, forger.bytes) != 0);
        }
        world->intercept = NULL; /* one that came to its senses is used again */
        assert_true(world_reaches(world, 1, END + 1, 300 * SECOND));
        world_check(world, 1);
        test_free(forger.chunk);
        world_close(world);
    }
}

/* Node 2 counts wrongly in its first offer and falls silent; that of node 0 comes when the choice
 * is made. */
struct late {
    struct world_message *offer;
    bool lied, sent;
};

static void send_late(struct world *world, struct late *late)
{
    const struct world_message *offer = late->offer;
    world_send(world, offer->from, offer->to, true, (struct ls_span){offer->data, offer->bytes});
    for (struct world_message *m = world->messages; m != NULL; m = m->next) {
        m->tag = m->from == offer->from && m->to_session ? offer->tag : m->tag;
    }
    late->sent = true;
}

static enum world_fate late_offer(struct world *world, const struct world_message *message,
                                  void *arg)
{
    static struct ls_value values[LS__SNAP_VALUES_MAX];
    struct late *late = arg;
    struct ls__snap_message read;
    if (message->tag != 1 ||
        ls__snap_decode(&world->env.codec, (struct ls_span){message->data, message->bytes}, values,
                        LS__SNAP_VALUES_MAX, &read) != NULL) {
        return WORLD_DELIVER;
    }
    if (read.kind == LS__SNAP_OFFER && read.anchor.index != 0 && message->from == 0 &&
        !late->sent) {
        if (late->offer == NULL) {
            late->offer = test_malloc(sizeof *message + message->bytes);
            memcpy(late->offer, message, sizeof *message + message->bytes);
        }
        return WORLD_DROP;
    }
    if (read.kind == LS__SNAP_OFFER && read.anchor.index != 0 && message->from == 2 &&
        !late->lied) {
        late->lied = true;
        read.bytes++;
        send_on(world, message, &read, NULL);
        return WORLD_DROP;
    }
    if (read.kind == LS__SNAP_TABLE_ASK && message->to == 2 && late->offer != NULL && !late->sent) {
        send_late(world, late);
    }
    bool silent =
        message->from == 2 && (read.kind == LS__SNAP_TABLE || read.kind == LS__SNAP_WORKING);
    return silent ? WORLD_DROP : WORLD_DELIVER;
}

TEST(forged, an_offer_that_counts_otherwise_than_the_chosen_one_blames_nobody_else)
{
    struct world *world = lagging_of(3);
    struct late late = {.offer = NULL};
    world_fill(world, 2, END, END);
    world_prune(world, 2, END - 10);
    world->intercept = late_offer;
    world->intercept_arg = &late;
    world_gap(world, 1, END, 0, 0);
    assert_true(world_reaches(world, 1, END + 1, 30 * SECOND));
    assert_true(late.lied && late.sent);
    assert_null(strstr(world->last_warning, "does not add up"));
    assert_int_equal(world_progress(world, 1).penalties, 0);
    world_check(world, 1);
    test_free(late.offer);
    world_close(world);
}

TEST(forged, a_source_that_never_tells_its_table_is_not_waited_for_longer_than_a_question)
{
    struct world *world = lagging_of(3);
    struct late late = {.lied = true, .sent = true};
    world_fill(world, 2, END, END);
    world_prune(world, 2, END - 10);
    world->intercept = late_offer;
    world->intercept_arg = &late;
    world_gap(world, 1, END, 0, 0);
    assert_true(world_reaches(world, 1, END + 1, 15 * SECOND));
    world_check(world, 1);
    world_close(world);
}

TEST(item, without_a_key_or_beyond_the_limits_is_none)
{
    static char bytes[LS_ITEM_KEY_BYTES_MAX + 1];
    struct ls_item item = {{bytes, 1}, {bytes, 0}};
    assert_null(ls_item_invalid(&item));
    item.key.bytes = 0;
    assert_string_equal(ls_item_invalid(&item), "the key of an item is empty");
    item.key.bytes = LS_ITEM_KEY_BYTES_MAX;
    assert_null(ls_item_invalid(&item));
    item.key.bytes++;
    assert_non_null(ls_item_invalid(&item));
    struct ls_chunk_builder builder = {.env = ls_env_default(), .bytes_max = 4096};
    item.key.bytes = 0;
    ls_chunk_begin(&builder);
    assert_false(ls_chunk_visit(&builder, &item));
    assert_int_equal(builder.failed, LS_ERR_INVALID);
    ls_chunk_builder_free(&builder);
}
