/* SPDX-License-Identifier: MIT */
/* The leader's newest entries, kept while the log before them is fetched: no holes (Y8). */
#include "sync_world.h"

#include "log_replay.h"

/* All but node 2 hold entries 1 to `last`, of which `commit` are committed. */
static struct world *with_newest(const struct ls_log_replay_options *replay, ls_index last,
                                 ls_index commit)
{
    struct world_options options = {.nodes = 3, .seed = test_seed()};
    if (replay != NULL) {
        options.replay = *replay;
    }
    struct world *world = world_open(&options);
    world_write(world, 1, last, 24);
    world_fill(world, 0, last, commit);
    world_fill(world, 1, last, commit);
    return world;
}

static void commit_all(struct world *world, ls_index commit)
{
    world_fill(world, 0, commit, commit);
    world_fill(world, 1, commit, commit);
}

TEST(newest, entries_that_continue_the_log_are_used_and_not_fetched)
{
    struct ls_log_replay_options replay = {.entries_max = 100};
    struct world *world = with_newest(&replay, 1000, 1000);
    world_gap(world, 2, 1000, 600, 200);
    world_gap(world, 2, 1000, 800, 200);
    assert_true(world_reaches(world, 2, 1000, 10 * SECOND));
    world_check(world, 2);
    assert_int_equal(world->nodes[1].fetches, 6);
    assert_int_equal(world->nodes[2].appended, 1000);
    world_close(world);
}

TEST(newest, entries_sent_again_count_once)
{
    struct world *world = with_newest(NULL, 1000, 1000);
    for (ls_index prev = 600; prev < 1000; prev += 50) {
        world_gap(world, 2, 1000, prev - 30, 80);
    }
    world_gap(world, 2, 1000, 700, 100);
    assert_true(world_reaches(world, 2, 1000, 10 * SECOND));
    world_check(world, 2);
    assert_int_equal(world->nodes[2].appended, 1000);
    world_close(world);
}

TEST(newest, uncommitted_entries_end_the_gap_so_that_the_next_append_fits)
{
    struct world *world = with_newest(NULL, 1000, 900);
    world_gap(world, 2, 900, 800, 200);
    assert_true(world_reaches(world, 2, 900, 10 * SECOND));
    assert_int_equal(world->nodes[2].commit, 900);
    assert_int_equal(world->nodes[2].log.last, 1000);
    world_write(world, 1, 1, 24);
    commit_all(world, 1001);
    world_append(world, 2, 1001, 1000, 1);
    assert_int_equal(world->nodes[2].commit, 1001);
    assert_int_equal(world->nodes[2].syncing_changes, 2);
    world_check(world, 2);
    world_close(world);
}

TEST(newest, entries_that_begin_beyond_the_target_wait_for_it_to_move)
{
    struct world *world = with_newest(NULL, 1000, 900);
    world_gap(world, 2, 900, 950, 50); /* 901 to 950 are under way, and lost */
    world_run(world, 100000);
    assert_int_equal(world->nodes[2].commit, 900);
    assert_int_equal(world_progress(world, 2).phase, LS_SYNC_WAITING);
    assert_string_equal(world_progress(world, 2).reason,
                        "the leader's newest entries are not committed yet");
    commit_all(world, 1000);
    world_gap(world, 2, 1000, 1000, 0);
    assert_true(world_reaches(world, 2, 1000, SECOND));
    world_check(world, 2);
    world_close(world);
}

TEST(newest, entries_whose_predecessors_are_never_committed_do_not_hold_the_session)
{
    struct world *world = with_newest(NULL, 1000, 900);
    world_gap(world, 2, 900, 950, 50);
    world_run(world, 10 * SECOND);
    assert_false(world->nodes[2].syncing);
    assert_int_equal(world->nodes[2].commit, 900);
    assert_int_equal(world_progress(world, 2).phase, LS_SYNC_DONE);
    world_close(world);
}

/* Found by the simulator: the session asked to be polled at the end of a patience long past. */
TEST(newest, a_hung_disk_costs_no_turns_after_entries_were_waited_for)
{
    struct world *world = with_newest(NULL, 1000, 900);
    world_gap(world, 2, 900, 950, 50); /* 901 to 950 are under way, and lost */
    world_run(world, 100000);
    world->nodes[2].hold_disk = true;
    world->term = 2;
    world->leader = 1;
    world_gap(world, 2, 900, 900, 100);
    world_run(world, 100000);
    assert_int_equal(world->nodes[2].log.last, 1000); /* in the log, not yet durable */
    uint64_t polls = world->nodes[2].polls;
    world_run(world, 20 * SECOND);
    assert_true(world->nodes[2].polls < polls + 100);
    world->nodes[2].hold_disk = false;
    assert_true(world_reaches(world, 2, 900, SECOND));
    world_close(world);
}

TEST(newest, after_the_first_drop_nothing_more_is_kept_and_nothing_is_lost)
{
    struct ls_log_replay_options replay = {.entries_max = 100, .buffer_bytes_max = 256u << 10};
    struct world *world = with_newest(&replay, 20000, 20000);
    world_gap(world, 2, 10000, 10000, 100);
    for (ls_index prev = 10100; prev < 20000; prev += 100) {
        if (prev != 10300) { /* one append is lost: what follows would leave a hole */
            world_gap(world, 2, prev, prev, 100);
        }
    }
    world_gap(world, 2, 20000, 20000, 0);
    assert_true(world_reaches(world, 2, 20000, 30 * SECOND));
    world_check(world, 2);
    assert_int_equal(world->nodes[2].appended, 20000);
    assert_true(world->nodes[1].fetches > 190);
    world_close(world);
}

TEST(newest, a_full_buffer_drops_the_rest_which_is_fetched)
{
    struct ls_log_replay_options replay = {
        .entries_max = 100, .bytes_max = 8192, .buffer_bytes_max = 256u << 10};
    struct world *world = with_newest(&replay, 20000, 20000);
    uint64_t before = world->bytes_live;
    world->bytes_peak = before;
    for (ls_index prev = 2000; prev < 20000; prev += 100) {
        world_gap(world, 2, prev + 100, prev, 100);
    }
    assert_true(world_reaches(world, 2, 20000, 30 * SECOND));
    assert_true(world->bytes_peak - before < (256u << 10) + (1u << 20));
    world_check(world, 2);
    assert_int_equal(world->nodes[2].appended, 20000);
    world_close(world);
}

TEST(newest, entries_of_a_replaced_leader_are_void)
{
    struct world_options options = {.nodes = 3, .seed = test_seed(), .replay = {.entries_max = 50}};
    struct world *world = world_open(&options);
    world_write(world, 1, 500, 24);
    world_fill(world, 0, 500, 500);
    world_fill(world, 1, 500, 500);
    struct ls_entry lost[3] = {{1, LS_ENTRY_COMMAND, {"a", 1}},
                               {1, LS_ENTRY_COMMAND, {"b", 1}},
                               {1, LS_ENTRY_COMMAND, {"c", 1}}};
    ls_supervisor_gap(world->nodes[2].supervisor, 1, 500, (struct ls_cursor){1, 500}, lost, 3);
    world_poll(world, 2);
    world_run(world, 500);
    world_write(world, 2, 500, 24); /* another leader wrote 501 ... instead */
    world->term = 2;
    world->leader = 1;
    commit_all(world, 1000);
    world_gap(world, 2, 1000, 1000, 0);
    assert_true(world_reaches(world, 2, 1000, 10 * SECOND));
    world_check(world, 2);
    assert_int_equal(world->nodes[2].appended, 1000);
    world_close(world);
}

TEST(newest, entries_installed_under_a_leader_that_is_replaced_are_truncated)
{
    struct world_options options = {.nodes = 3, .seed = test_seed(), .replay = {.entries_max = 50}};
    struct world *world = world_open(&options);
    world_write(world, 1, 500, 24);
    world_fill(world, 0, 500, 500);
    world_fill(world, 1, 500, 500);
    world->nodes[2].hold_disk = true;
    struct ls_entry lost[2] = {{1, LS_ENTRY_COMMAND, {"a", 1}}, {1, LS_ENTRY_COMMAND, {"b", 1}}};
    ls_supervisor_gap(world->nodes[2].supervisor, 1, 500, (struct ls_cursor){1, 500}, lost, 2);
    world_poll(world, 2);
    world_run(world, SECOND);
    assert_int_equal(world->nodes[2].log.last, 502); /* in the log, not yet durable */
    world_write(world, 2, 500, 24);
    world->term = 2;
    world->leader = 1;
    commit_all(world, 1000);
    world_gap(world, 2, 1000, 1000, 0);
    world->nodes[2].hold_disk = false;
    assert_true(world_reaches(world, 2, 1000, 10 * SECOND));
    world_check(world, 2);
    world_close(world);
}

TEST(newest, entries_that_do_not_continue_the_fetched_log_are_discarded)
{
    struct world *world = with_newest(NULL, 1000, 1000);
    struct ls_entry strange[2] = {{9, LS_ENTRY_COMMAND, {"a", 1}}, {9, LS_ENTRY_COMMAND, {"b", 1}}};
    world->term = 9;
    ls_supervisor_gap(world->nodes[2].supervisor, 9, 1000, (struct ls_cursor){8, 900}, strange, 2);
    world_poll(world, 2);
    assert_true(world_reaches(world, 2, 1000, 10 * SECOND));
    world_check(world, 2);
    world_close(world);
}

/* A group under load: the leader goes on while the member catches up, and it does catch up. */
TEST(newest, under_steady_load_the_member_catches_up_and_follows)
{
    struct ls_log_replay_options replay = {.entries_max = 500};
    struct world *world = with_newest(&replay, 5000, 5000);
    ls_index end = 5000;
    world_gap(world, 2, end, end, 0);
    uint32_t followed = 0;
    for (int i = 0; i < 2000 && followed < 100; i++) {
        world_write(world, 1, 40, 24);
        commit_all(world, end + 40);
        bool fits = world->nodes[2].log.last == end;
        world_append(world, 2, end, end, 40);
        followed = fits ? followed + 1 : 0;
        end += 40;
        world_run(world, 1000); /* 40 000 entries a second */
    }
    assert_int_equal(followed, 100);
    assert_true(world->nodes[2].commit + 80 >= end);
    assert_true(world->nodes[2].syncing_changes <= 8);
    world_check(world, 2);
    world_close(world);
}

/* ---- the run itself -------------------------------------------------------------------------- */

struct buffer {
    struct world *world;
    struct ls__arenas arenas;
    struct ls__run run;
};

static struct buffer open_buffer(void)
{
    struct world_options options = {.nodes = 1, .seed = 1};
    struct buffer buffer = {.world = world_open(&options)};
    buffer.arenas.env = &buffer.world->env;
    return buffer;
}

static void close_buffer(struct buffer *buffer)
{
    ls__run_clear(&buffer->run, &buffer->arenas);
    ls__arenas_free(&buffer->arenas);
    world_close(buffer->world);
}

static enum ls_buffer_verdict add(struct buffer *buffer, ls_index prev, uint32_t count)
{
    struct ls_entry entries[100];
    assert_true(count <= 100);
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (struct ls_entry){5, LS_ENTRY_COMMAND, {"0123456789", 10}};
    }
    return ls__run_add(&buffer->run, &buffer->arenas, 1u << 20, 5, (struct ls_cursor){5, prev},
                       entries, count);
}

TEST(run, takes_what_continues_it_and_says_what_it_did)
{
    struct buffer buffer = open_buffer();
    assert_int_equal(add(&buffer, 10, 5), LS_BUFFER_ADDED);
    assert_int_equal(add(&buffer, 15, 5), LS_BUFFER_ADDED);
    assert_int_equal(add(&buffer, 12, 3), LS_BUFFER_DUPLICATE);
    assert_int_equal(add(&buffer, 18, 4), LS_BUFFER_ADDED);
    assert_int_equal(buffer.run.last.index, 22);
    assert_int_equal(add(&buffer, 4, 3), LS_BUFFER_DROPPED); /* from before: is fetched anyway */
    assert_int_equal(add(&buffer, 22, 1), LS_BUFFER_ADDED);
    assert_int_equal(add(&buffer, 24, 1), LS_BUFFER_DROPPED); /* a hole ... */
    assert_int_equal(add(&buffer, 23, 1), LS_BUFFER_DROPPED); /* ... ends it */
    assert_int_equal(buffer.run.last.index, 23);
    close_buffer(&buffer);
}

TEST(run, knows_which_log_it_continues)
{
    struct buffer buffer = open_buffer();
    assert_int_equal(add(&buffer, 10, 100), LS_BUFFER_ADDED);
    assert_true(ls__run_continues(&buffer.run, (struct ls_cursor){5, 10}));
    assert_false(ls__run_continues(&buffer.run, (struct ls_cursor){4, 10}));
    assert_true(ls__run_continues(&buffer.run, (struct ls_cursor){5, 110}));
    assert_false(ls__run_continues(&buffer.run, (struct ls_cursor){6, 60}));
    close_buffer(&buffer);
}

TEST(run, takes_part_of_what_fits_and_remembers_the_drop)
{
    struct buffer buffer = open_buffer();
    static uint8_t large[300000];
    struct ls_entry entries[5];
    for (uint32_t i = 0; i < 5; i++) {
        entries[i] = (struct ls_entry){5, LS_ENTRY_COMMAND, {large, sizeof large}};
    }
    assert_int_equal(
        ls__run_add(&buffer.run, &buffer.arenas, 1u << 20, 5, (struct ls_cursor){5, 7}, entries, 5),
        LS_BUFFER_ADDED);
    assert_int_equal(buffer.run.last.index, 10);
    assert_true(buffer.run.dropped);
    assert_true(buffer.arenas.bytes <= 1u << 20);
    close_buffer(&buffer);
}
