/* SPDX-License-Identifier: MIT */
/*
 * The snapshot strategy in the small world: real supervisors, providers and sessions on both sides.
 * Node 0 leads, the last one lags, and what it needs of the log was pruned by all others.
 */
#include "snapshot_sync.h"
#include "sync_world.h"

#define END  5000u
#define HERE 20u

static struct ls_snapshot_options settings;

static struct world *lagging_with(uint32_t nodes, const struct ls_snapshot_options *options)
{
    static struct ls_statesync syncs[2];
    static struct ls_log_replay_options replay = {.size = sizeof replay, .lease_ms = 1};
    settings = options != NULL ? *options : (struct ls_snapshot_options){0};
    settings.size = sizeof settings;
    assert_ok(ls_log_replay(&replay, &syncs[0]));
    assert_ok(ls_snapshot_sync(&settings, &syncs[1]));
    struct world_options world_options = {.nodes = nodes,
                                          .seed = test_seed(),
                                          .strategies = syncs,
                                          .strategies_count = 2,
                                          .snapshots = true};
    struct world *world = world_open(&world_options);
    world_write(world, 1, HERE, 16);
    world_write(world, 2, END - HERE, 16);
    world->term = 2;
    for (uint32_t i = 0; i + 1 < nodes; i++) {
        world_fill(world, i, END, END);
        world_prune(world, i, END - 10);
    }
    world_fill(world, nodes - 1, HERE, HERE);
    return world;
}

static struct world *lagging(uint32_t nodes)
{
    return lagging_with(nodes, NULL);
}

static struct world_node *last_of(struct world *world)
{
    return &world->nodes[world->nodes_count - 1];
}

static void catches_up(struct world *world, ls_index index)
{
    uint32_t at = world->nodes_count - 1;
    assert_true(world_reaches(world, at, index, 120 * SECOND));
    world_check(world, at);
    assert_int_equal(world_progress(world, at).phase, LS_SYNC_DONE);
    assert_int_equal(world_progress(world, at).percent, 100);
}

static void until_puts(struct world *world, uint64_t puts)
{
    while (last_of(world)->puts < puts) {
        assert_true(world_step(world, UINT64_MAX));
    }
}

/* ---- what it is for -------------------------------------------------------------------------- */

TEST(snapshot, brings_back_a_member_whose_entries_were_pruned_by_all)
{
    struct world *world = lagging(4);
    uint64_t begun = world->now_us;
    world_gap(world, 3, END, 0, 0);
    catches_up(world, END + 1); /* with the marker */
    struct world_node *node = last_of(world);
    assert_int_equal(node->publishes, 1);
    assert_int_equal(node->appended, 0);
    assert_int_equal(world_progress(world, 3).penalties, 0);
    assert_int_equal(world_progress(world, 3).failures, 0);
    assert_true(world->now_us - begun < 3 * SECOND); /* nobody waited for what cannot come */
    world_close(world);
}

TEST(snapshot, is_fetched_from_all_followers_and_not_from_the_leader)
{
    struct world *world = lagging(4);
    world_gap(world, 3, END, 0, 0);
    catches_up(world, END + 1);
    uint64_t bytes = last_of(world)->put_bytes;
    assert_int_equal(world->nodes[0].chunk_bytes_sent, 0);
    assert_true(world->nodes[1].chunk_bytes_sent * 10 >= bytes * 3);
    assert_true(world->nodes[2].chunk_bytes_sent * 10 >= bytes * 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(world->nodes[i].freezes, 1);
    }
    world_close(world);
}

TEST(snapshot, comes_from_the_leader_when_nobody_else_is_there)
{
    struct world *world = lagging(2);
    world_gap(world, 1, END, 0, 0);
    catches_up(world, END + 1);
    assert_true(world->nodes[0].chunk_bytes_sent > 0);
    world_close(world);
}

TEST(snapshot, is_taken_alone_when_no_marker_commits)
{
    struct world *world = lagging(3);
    world->no_markers = true;
    world_gap(world, 2, END, 0, 0);
    catches_up(world, END);
    assert_int_equal(world->nodes[1].freezes, 1); /* the follower, not the leader */
    assert_int_equal(world->nodes[0].freezes, 0);
    world_close(world);
}

TEST(snapshot, is_taken_alone_without_a_leader)
{
    struct world *world = lagging(3);
    world->leader = 3;
    world->nodes[0].leads = false;
    world_gap(world, 2, END, 0, 0);
    catches_up(world, END);
    world_close(world);
}

TEST(snapshot, several_requests_share_one_marker)
{
    struct world *world = lagging(4);
    world_up(world, 2, false);
    world->nodes[2].log.last = world->nodes[2].commit = world->nodes[2].durable = 0;
    world->nodes[2].applied = 0;
    world->nodes[2].applied_hash = 0;
    world->nodes[2].first = 1;
    world_up(world, 2, true);
    world_gap(world, 2, END, 0, 0);
    world_gap(world, 3, END, 0, 0);
    assert_true(world_reaches(world, 2, END + 1, 60 * SECOND));
    catches_up(world, END + 1);
    assert_int_equal(world->truth.last, END + 1);
    assert_int_equal(world->nodes[1].freezes, 1);
    world_close(world);
}

TEST(snapshot, is_followed_by_log_replay_when_the_group_went_on)
{
    struct world *world = lagging(4);
    world_gap(world, 3, END, 0, 0);
    until_puts(world, 1);
    ls_index end = world->truth.last;
    world_write(world, 2, 500, 16);
    for (uint32_t i = 0; i < 3; i++) {
        world_fill(world, i, end + 500, end + 500);
    }
    world_gap(world, 3, end + 500, 0, 0);
    catches_up(world, end + 500);
    assert_int_equal(last_of(world)->publishes, 1);
    assert_int_equal(last_of(world)->appended, 500);
    world_close(world);
}

/* As a provider would have fed it: for the member that lags. */
static void marker_of_last(struct world *world, uint32_t at, ls_index index)
{
    uint8_t payload[1 + sizeof(struct ls_peer_id) + 8] = {1};
    memcpy(payload + 1, last_of(world)->id.bytes, sizeof(struct ls_peer_id));
    ls_supervisor_marker(world->nodes[at].supervisor, (struct ls_cursor){1, index},
                         (struct ls_span){payload, sizeof payload});
}

TEST(snapshot, is_not_taken_of_history_that_is_replayed)
{
    struct world *world = lagging(3);
    marker_of_last(world, 1, END);
    assert_int_equal(world->nodes[1].freezes, 1);
    world_write(world, 2, 2 * LS_SNAPSHOT_MARKER_ENTRIES_MAX, 8);
    world_fill(world, 1, world->truth.last, world->truth.last);
    marker_of_last(world, 1, END);
    assert_int_equal(world->nodes[1].freezes, 1);
    world_close(world);
}

TEST(snapshot, is_not_taken_for_somebody_who_is_not_there)
{
    struct world *world = lagging(3);
    world_up(world, 2, false);
    world_restart(world, 1);
    marker_of_last(world, 1, END); /* a member starts and applies its own log */
    assert_int_equal(world->nodes[1].freezes, 0);
    world_close(world);
}

/* Whoever comes back reaches one of them first: what it asks for there is for all. */
TEST(snapshot, is_taken_for_somebody_who_is_not_bonded_yet)
{
    struct world *world = lagging(4);
    world_bond(world, 3, 1, false);
    world_bond(world, 3, 2, false);
    world_gap(world, 3, END, 0, 0);
    while (world->nodes[0].freezes == 0) {
        assert_true(world_step(world, UINT64_MAX));
    }
    world_bond(world, 3, 1, true);
    world_bond(world, 3, 2, true);
    catches_up(world, END + 1);
    uint64_t bytes = last_of(world)->put_bytes;
    assert_int_equal(world->nodes[0].chunk_bytes_sent, 0);
    assert_true(world->nodes[1].chunk_bytes_sent * 10 >= bytes * 3);
    assert_true(world->nodes[2].chunk_bytes_sent * 10 >= bytes * 3);
    world_close(world);
}

/* ---- sources that end or are slow ------------------------------------------------------------ */

TEST(snapshot, goes_on_when_a_source_dies)
{
    struct world *world = lagging(4);
    world_gap(world, 3, END, 0, 0);
    until_puts(world, 2);
    world_up(world, 1, false);
    catches_up(world, END + 1);
    uint64_t sent = world->nodes[1].chunk_bytes_sent + world->nodes[2].chunk_bytes_sent;
    assert_true(sent <= last_of(world)->put_bytes + 8 * (256u << 10)); /* what was on its way */
    assert_int_equal(world_progress(world, 3).penalties, 0);
    world_close(world);
}

TEST(snapshot, goes_on_when_the_leader_dies)
{
    struct world *world = lagging(4);
    world_gap(world, 3, END, 0, 0);
    until_puts(world, 2);
    world_up(world, 0, false);
    world->leader = world->nodes_count;
    catches_up(world, END + 1);
    world_close(world);
}

TEST(snapshot, keeps_what_is_staged_when_all_sources_were_gone)
{
    struct ls_snapshot_options options = {.lease_ms = 5000};
    struct world *world = lagging_with(4, &options);
    world_gap(world, 3, END, 0, 0);
    until_puts(world, 3);
    for (uint32_t i = 0; i < 3; i++) {
        world_up(world, i, false);
    }
    world_run(world, 60 * SECOND); /* the frozen states are thawed */
    ls_index end = world->truth.last;
    world_write(world, 2, 10, 16);
    for (uint32_t i = 0; i < 3; i++) {
        world_fill(world, i, end + 10, end + 10);
        world_prune(world, i, end + 5);
    }
    for (uint32_t i = 0; i < 3; i++) {
        world_up(world, i, true);
    }
    catches_up(world, end + 11);
    struct world_node *node = last_of(world);
    assert_true(world->nodes[1].freezes >= 2); /* another anchor */
    assert_int_equal(node->publishes, 1);
    /* chunks that are the same in the other snapshot were not fetched again */
    assert_true(node->puts <= node->snapshot.chunks + 2u);
    world_close(world);
}

static enum world_fate lose_chunks(struct world *world, const struct world_message *message,
                                   void *arg)
{
    (void)world;
    const uint32_t *from = arg;
    return message->from == *from && message->bytes > 10000 ? WORLD_DROP : WORLD_DELIVER;
}

/* S9 */
TEST(snapshot, S9_asks_others_for_what_a_source_does_not_send)
{
    struct ls_snapshot_options options = {.timeout_ms = 300};
    struct world *world = lagging_with(4, &options);
    uint32_t mute = 1;
    world->intercept = lose_chunks;
    world->intercept_arg = &mute;
    world_gap(world, 3, END, 0, 0);
    catches_up(world, END + 1);
    assert_true(world->nodes[1].chunk_bytes_sent > 0);
    world_close(world);
}

/* Y21 */
TEST(snapshot, Y21_is_resumed_by_another_session)
{
    struct world *world = lagging(4);
    world_gap(world, 3, END, 0, 0);
    until_puts(world, 4);
    last_of(world)->refuse_put = LS_ERR_IO; /* a full disk, say: this attempt fails */
    catches_up(world, END + 1);
    assert_int_equal(last_of(world)->puts, last_of(world)->snapshot.chunks);
    assert_int_equal(world_progress(world, 3).penalties, 0);
    world_close(world);
}

TEST(snapshot, waits_with_a_chunk_for_a_disk_that_has_enough_to_do)
{
    struct world *world = lagging(4);
    world_gap(world, 3, END, 0, 0);
    for (uint64_t puts = 0; puts < 4; puts++) {
        until_puts(world, puts);
        last_of(world)->refuse_put = LS_ERR_BUSY;
    }
    catches_up(world, END + 1);
    assert_int_equal(last_of(world)->refuse_put, LS_OK);
    assert_int_equal(last_of(world)->puts, last_of(world)->snapshot.chunks);
    assert_int_equal(world_progress(world, 3).failures, 0);
    world_close(world);
}

/* Y16: an install of before goes on to its end first, which may take as long as a slow disk */
TEST(snapshot, waits_for_a_staging_area_that_is_in_use_and_does_not_ask_all_the_time)
{
    struct world *world = lagging(3);
    last_of(world)->busy_begins = 25;
    uint64_t from_us = world->now_us;
    world_gap(world, 2, END, 0, 0);
    while (last_of(world)->busy_begins > 0) {
        assert_true(world_step(world, UINT64_MAX));
    }
    assert_true(world->now_us - from_us >= 24 * 20000u);
    catches_up(world, END + 1);
    assert_int_equal(world_progress(world, 2).failures, 0);
    world_close(world);
}

TEST(snapshot, fetches_again_what_was_damaged_in_the_staging_area)
{
    struct world *world = lagging(3);
    last_of(world)->refuse_publish = LS_ERR_CORRUPT;
    world_gap(world, 2, END, 0, 0);
    catches_up(world, END + 1);
    assert_int_equal(last_of(world)->puts, last_of(world)->snapshot.chunks + 1);
    assert_int_equal(world_progress(world, 2).failures, 0);
    world_close(world);
}

TEST(snapshot, that_cannot_be_installed_is_a_failure_and_tried_again)
{
    struct world *world = lagging(3);
    last_of(world)->refuse_publish = LS_ERR_IO;
    world_gap(world, 2, END, 0, 0);
    world_run(world, 2 * SECOND);
    assert_int_equal(world_progress(world, 2).failures, 1);
    assert_int_equal(last_of(world)->commit, HERE); /* the old state stays */
    catches_up(world, END + 1);
    world_close(world);
}

/* ---- bad input ------------------------------------------------------------------------------- */

static enum world_fate corrupt_chunks(struct world *world, const struct world_message *message,
                                      void *arg)
{
    uint64_t *corrupted = arg;
    if (message->from != 1 || message->bytes < 10000) {
        return WORLD_DELIVER;
    }
    (*corrupted)++;
    uint8_t *copy = test_malloc(message->bytes);
    memcpy(copy, message->data, message->bytes);
    copy[message->bytes / 2] ^= 1;
    world_send(world, 1, message->to, true, (struct ls_span){copy, message->bytes});
    world->messages->tag = message->tag;
    for (struct world_message *m = world->messages; m != NULL; m = m->next) {
        if (m->from == 1 && m->bytes == message->bytes) {
            m->tag = message->tag;
        }
    }
    test_free(copy);
    return WORLD_DROP;
}

TEST(bad_input, a_corrupt_chunk_is_asked_of_another_and_its_sender_left_alone)
{
    struct world *world = lagging(4);
    uint64_t corrupted = 0;
    world->intercept = corrupt_chunks;
    world->intercept_arg = &corrupted;
    world_gap(world, 3, END, 0, 0);
    catches_up(world, END + 1);
    assert_true(corrupted > 0);
    assert_true(world_progress(world, 3).penalties > 0);
    assert_true(world_progress(world, 3).penalties <= LS_SNAPSHOT_WINDOW + 2);
    assert_int_equal(world_progress(world, 3).failures, 0);
    world_close(world);
}

/* S12 */
TEST(bad_input, S12_a_member_whose_state_differs_is_found_out_and_not_used)
{
    for (uint32_t bad = 1; bad < 3; bad++) {
        struct world *world = lagging(4);
        world->nodes[bad].diverged = true;
        world_gap(world, 3, END, 0, 0);
        catches_up(world, END + 1); /* every item was checked as it was installed */
        assert_true(strstr(world->last_warning, "diverged") != NULL);
        assert_int_equal(world->nodes[bad].chunk_bytes_sent, 0);
        world_close(world);
    }
}

TEST(bad_input, a_member_that_counts_otherwise_is_not_used)
{
    struct world *world = lagging(4);
    world->nodes[1].miscounts = true;
    world_gap(world, 3, END, 0, 0);
    catches_up(world, END + 1);
    assert_int_equal(world->nodes[1].chunk_bytes_sent, 0);
    world_close(world);
}

static void send_as(struct world *world, uint32_t from, uint32_t to,
                    const struct ls__snap_message *message)
{
    struct ls_value values[LS__SNAP_HEAD_VALUES];
    uint8_t bytes[1024];
    size_t written = 0;
    size_t count = ls__snap_head(message, values);
    const struct ls_codec *codec = &world->env.codec;
    assert_ok(codec->encode(codec->self, values, count, bytes, sizeof bytes, &written));
    world_send(world, from, to, true, (struct ls_span){bytes, written});
    for (struct world_message *m = world->messages; m != NULL; m = m->next) {
        if (m->from == from && m->to == to && m->bytes == written) {
            m->tag = 1;
        }
    }
}

/* The attempt's number is in every question. */
static enum world_fate note_attempt(struct world *world, const struct world_message *message,
                                    void *arg)
{
    struct ls_value values[8];
    size_t count = 0;
    const struct ls_codec *codec = &world->env.codec;
    if (message->tag == 1 && !message->to_session &&
        codec->decode(codec->self, (struct ls_span){message->data, message->bytes}, values, 8,
                      &count) == LS_OK) {
        *(uint64_t *)arg = values[2].as.number;
    }
    return WORLD_DELIVER;
}

TEST(bad_input, an_offer_above_the_leaders_commit_is_not_taken)
{
    struct world *world = lagging(3);
    uint64_t attempt = 0;
    world->intercept = note_attempt;
    world->intercept_arg = &attempt;
    world->no_markers = true;
    world->nodes[0].no_snapshots = world->nodes[1].no_snapshots = true;
    world_gap(world, 2, END, 0, 0);
    while (attempt == 0) {
        assert_true(world_step(world, UINT64_MAX));
    }
    const struct ls__snap_message offer = {.kind = LS__SNAP_OFFER,
                                           .attempt = attempt,
                                           .anchor = {9, END + 100000},
                                           .items = 1,
                                           .bytes = 1};
    send_as(world, 1, 2, &offer);
    world_run(world, 2 * SECOND);
    assert_int_equal(last_of(world)->commit, HERE);
    assert_int_equal(last_of(world)->publishes, 0);
    assert_int_equal(world_progress(world, 2).phase, LS_SYNC_WAITING);
    world->nodes[0].no_snapshots = world->nodes[1].no_snapshots = false;
    world->no_markers = false;
    catches_up(world, END);
    world_close(world);
}

TEST(bad_input, an_answer_to_nothing_is_penalised)
{
    struct world *world = lagging(3);
    uint64_t attempt = 0;
    world->intercept = note_attempt;
    world->intercept_arg = &attempt;
    world_gap(world, 2, END, 0, 0);
    until_puts(world, 1);
    const struct ls__snap_message chunk = {
        .kind = LS__SNAP_CHUNK, .attempt = attempt, .id = 1u << 30, .data = {"x", 1}};
    send_as(world, 1, 2, &chunk);
    catches_up(world, END + 1);
    assert_int_equal(world_progress(world, 2).penalties, 1);
    world_close(world);
}

/* ---- tables that take long ------------------------------------------------------------------- */

struct table_work {
    uint64_t until_us;
    bool grows;
    uint32_t rows;
};

/* A table is not there before a time; until then its source says how far it is. */
static enum world_fate work_on(struct world *world, const struct world_message *message, void *arg)
{
    static struct ls_value values[LS__SNAP_VALUES_MAX];
    struct table_work *work = arg;
    struct ls__snap_message answer;
    if (!message->to_session || world->now_us >= work->until_us ||
        ls__snap_decode(&world->env.codec, (struct ls_span){message->data, message->bytes}, values,
                        LS__SNAP_VALUES_MAX, &answer) != NULL ||
        answer.kind != LS__SNAP_TABLE) {
        return WORLD_DELIVER;
    }
    work->rows += work->grows ? 1 : 0;
    const struct ls__snap_message working = {.kind = LS__SNAP_WORKING,
                                             .attempt = answer.attempt,
                                             .id = answer.id,
                                             .chunks = work->rows / 1000};
    send_as(world, message->from, message->to, &working);
    return WORLD_DROP;
}

TEST(snapshot, whose_table_takes_long_is_waited_for_as_long_as_it_grows)
{
    struct world *world = lagging(4);
    struct table_work work = {world->now_us + 600 * SECOND, true, 0};
    world->intercept = work_on;
    world->intercept_arg = &work;
    world_gap(world, 3, END, 0, 0);
    assert_true(world_reaches(world, 3, END + 1, 700 * SECOND));
    assert_true(work.rows > 2000);
    assert_int_equal(world_progress(world, 3).failures, 0);
    assert_int_equal(last_of(world)->publishes, 1);
    world_check(world, 3);
    world_close(world);
}

TEST(snapshot, whose_table_does_not_grow_is_given_up)
{
    struct world *world = lagging(4);
    struct table_work work = {world->now_us + 600 * SECOND, false, 7000};
    world->intercept = work_on;
    world->intercept_arg = &work;
    world_gap(world, 3, END, 0, 0);
    world_run(world, 300 * SECOND);
    assert_true(world_progress(world, 3).failures > 0);
    world_close(world);
}

/* ---- bounds ---------------------------------------------------------------------------------- */

/* G4 */
TEST(snapshot, is_served_no_faster_than_the_rate_allows)
{
    struct ls_snapshot_options options = {.rate_bytes = 500000};
    struct world *world = lagging_with(2, &options);
    uint64_t begun = world->now_us;
    world_gap(world, 1, END, 0, 0);
    catches_up(world, END + 1);
    uint64_t took_ms = (world->now_us - begun) / 1000;
    uint64_t least_ms = world->nodes[0].chunk_bytes_sent * 1000 / 500000;
    assert_true(took_ms + 700 > least_ms); /* a burst, and the last one is not waited for */
    assert_true(took_ms < least_ms + 3000);
    world_close(world);
}

/* From the first chunk to the last one, while so many entries are committed every 10 ms. */
static uint64_t fetching_us(struct world *world, ls_index entries)
{
    struct world_node *node = last_of(world);
    uint64_t first = 0;
    uint64_t puts = 0;
    uint64_t last = 0;
    uint64_t until = world->now_us + 60 * SECOND;
    world->latency_min_us = world->latency_max_us = 30000; /* or it is over before it is seen */
    world_gap(world, world->nodes_count - 1, world->truth.last, 0, 0);
    while (world->nodes[2].freezes == 0) { /* all have the same state */
        assert_true(world_step(world, until));
    }
    while (node->publishes == 0) {
        assert_true(world->now_us < until);
        world_write(world, 2, entries, 4);
        for (uint32_t i = 0; i + 1 < world->nodes_count; i++) {
            world_fill(world, i, world->truth.last, world->truth.last);
        }
        world_gap(world, world->nodes_count - 1, world->truth.last, 0, 0);
        uint64_t end = world->now_us + 10000;
        while (world_step(world, end)) {
            first = first == 0 && node->puts > 0 ? world->now_us : first;
            last = node->puts > puts ? world->now_us : last;
            puts = node->puts;
        }
    }
    assert_true(puts > 5);
    return last - first;
}

TEST(snapshot, is_fetched_at_a_pace_that_leaves_room_for_commands_while_the_group_is_busy)
{
    struct world *world = lagging(4);
    uint64_t took = fetching_us(world, 10); /* 1000 in a second */
    uint64_t bytes = last_of(world)->put_bytes;
    uint64_t least = (bytes - LS_SNAPSHOT_CHUNK_BYTES_MIN) * 1000000u / LS_SNAPSHOT_BUSY_BYTES;
    assert_in_range(took, least, 2 * least + 50000);
    assert_true(world->nodes[1].chunk_bytes_sent * 10 >= bytes * 3);
    assert_true(world->nodes[2].chunk_bytes_sent * 10 >= bytes * 3);
    world_close(world);
    world = lagging(4);
    assert_true(fetching_us(world, 1) < least / 2);
    world_close(world);
}

/* S7 */
TEST(snapshot, S7_pins_the_log_from_its_anchor_on_while_it_is_leased)
{
    struct ls_snapshot_options options = {.lease_ms = 4000};
    struct world *world = lagging_with(3, &options);
    world_gap(world, 2, END, 0, 0);
    until_puts(world, 1);
    ls_index anchor = world->truth.last;
    world_write(world, 2, 200000, 4);
    world_fill(world, 1, world->truth.last, world->truth.last);
    assert_int_equal(ls_supervisor_safe_to_prune(world->nodes[1].supervisor), anchor);
    world_up(world, 2, false);
    world_run(world, 5 * SECOND);
    assert_true(ls_supervisor_safe_to_prune(world->nodes[1].supervisor) > anchor);
    for (size_t i = 0; i < WORLD_FROZEN_MAX; i++) {
        assert_int_equal(world->nodes[1].frozen[i].id, 0);
    }
    world_close(world);
}

static uint32_t frozen_count(const struct world_node *node)
{
    uint32_t count = 0;
    for (size_t i = 0; i < WORLD_FROZEN_MAX; i++) {
        count += node->frozen[i].id != 0;
    }
    return count;
}

/* An install that takes longer than every timeout there is: what it needs afterwards is kept. */
TEST(snapshot, that_is_installed_slower_than_any_timeout_arrives_all_the_same)
{
    struct ls_snapshot_options options = {.lease_ms = 2000, .timeout_ms = 500, .marker_ms = 500};
    struct world *world = lagging_with(4, &options);
    world_gap(world, 3, END, 0, 0);
    struct world_node *node = last_of(world);
    while (node->publishes == 0) {
        assert_true(world_step(world, UINT64_MAX));
    }
    ls_index anchor = world->truth.last;
    node->hold_disk = true;
    world_write(world, 2, 200000, 4);
    for (uint32_t second = 0; second < 300; second++) {
        node->install = (struct ls_sync_install){.chunks = second, .chunks_total = 1000};
        world_run(world, SECOND);
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(frozen_count(&world->nodes[i]), 1);
        }
    }
    for (uint32_t i = 0; i < 3; i++) {
        world_fill(world, i, world->truth.last, world->truth.last);
        assert_int_equal(ls_supervisor_safe_to_prune(world->nodes[i].supervisor), anchor);
    }
    assert_int_equal(world_progress(world, 3).failures, 0);
    node->install = (struct ls_sync_install){0};
    node->hold_disk = false;
    assert_true(world_reaches(world, 3, anchor, 5 * SECOND));
    assert_int_equal(node->publishes, 1);
    world_run(world, 5 * SECOND);
    assert_int_equal(frozen_count(&world->nodes[1]), 0);
    world_close(world);
}

TEST(snapshot, waits_without_spinning)
{
    struct world *world = lagging(3);
    for (uint32_t i = 0; i < 2; i++) {
        world->nodes[i].no_snapshots = true;
    }
    world_gap(world, 2, END, 0, 0);
    world_run(world, SECOND);
    uint64_t polls = last_of(world)->polls;
    world_run(world, 600 * SECOND);
    assert_true(last_of(world)->polls - polls < 6000);
    assert_int_equal(world_progress(world, 2).failures, 0);
    for (uint32_t i = 0; i < 2; i++) {
        world->nodes[i].no_snapshots = false;
    }
    assert_true(world_reaches(world, 2, END + 1, 120 * SECOND));
    world_close(world);
}

TEST(snapshot, survives_refused_memory)
{
    uint64_t refused = 0;
    for (uint64_t k = 1; k < 400; k++) {
        struct world *world = lagging(3);
        world->refuse_at = world->allocations + k;
        world_gap(world, 2, END, 0, 0);
        assert_true(world_reaches(world, 2, END, 300 * SECOND));
        world_check(world, 2);
        uint64_t now = world->refused;
        refused += now;
        world_close(world);
        if (now == 0) {
            break;
        }
    }
    assert_true(refused > 0);
}

TEST(snapshot, may_be_destroyed_at_any_time)
{
    for (int steps = 0; steps < 300; steps += 7) {
        struct world *world = lagging(4);
        world_gap(world, 3, END, 0, 0);
        for (int i = 0; i < steps && world_step(world, UINT64_MAX); i++) {
        }
        world_close(world); /* asserts that all memory was given back, and all was thawed */
    }
}
