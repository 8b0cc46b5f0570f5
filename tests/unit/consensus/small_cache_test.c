/* SPDX-License-Identifier: MIT */
/*
 * A cache smaller than what the group writes in a round trip. The only voter commits what its own
 * disk has, and at once it leaves the cache; an observer that needs it again has state sync.
 * One that follows needs nothing again: it must not be left there.
 */
#include "cores.h"

#define CACHE 300u
#define BYTES 100u
/* of the test that needs a small one */
#define WINDOW 200u
/* entries that the leader writes and commits while a message is on its way: more than the cache */
#define BUSY 5u

/* Member 0 is the only voter. */
static struct group *open_group(unsigned count, uint64_t window_bytes)
{
    struct group *group = group_prepare(1, count, false);
    group->cache_bytes = CACHE;
    group->window_bytes = window_bytes;
    group_open(group);
    group_elect(group, 0);
    group_run(group, 2 * HEARTBEAT);
    return group;
}

static struct ls_progress progress(const struct group *group, unsigned at)
{
    static struct ls_core_status status;
    struct ls_peer_id id = test_id(at);
    ls_core_status(group->nodes[0].core, &status);
    assert_true(status.cached_bytes <= CACHE || status.cache_first > status.commit);
    for (uint32_t i = 0; i < status.progress_count; i++) {
        if (ls_peer_id_equal(&status.progress[i].id, &id)) {
            return status.progress[i];
        }
    }
    fail_msg("member %u is not followed", at);
    return (struct ls_progress){.match = 0};
}

/* The leader writes and commits; then what was on its way before arrives. */
static void hop(struct group *group)
{
    size_t count = group->net_count;
    group->now += HEARTBEAT / 4;
    group_tick(group);
    for (unsigned i = 0; i < BUSY; i++) {
        group_propose(group, 0, 1, BYTES);
        node_sync(group, 0);
    }
    for (unsigned i = 1; i < group->count; i++) {
        node_sync(group, i);
    }
    while (count-- > 0) {
        net_take(group, 0);
    }
}

/* What a state sync session brings: all that the leader has committed by now. */
static void state_sync(struct group *group, unsigned at)
{
    struct node *lagging = &group->nodes[at];
    const struct image *disk = &group->nodes[0].disk;
    ls_index first = lagging->ready.commit + 1, target = group->nodes[0].ready.commit;
    static struct ls_entry entries[400];
    assert_true(target >= first && target - first < 400);
    for (ls_index i = first; i <= target; i++) {
        const struct stored *stored = &disk->log[i - 1];
        entries[i - first] =
            (struct ls_entry){stored->term, stored->kind, {stored->data, stored->bytes}};
    }
    struct ls_event event = {.kind = LS_EVENT_SYNCED};
    event.as.synced.prev = (struct ls_cursor){ls_core_term_at(lagging->core, first - 1), first - 1};
    event.as.synced.entries = entries;
    event.as.synced.count = (uint32_t)(target - first + 1);
    event.as.synced.commit = target;
    node_step(group, at, event);
}

/* Away for a while: when it is back, the cache has nothing of what it lacks. */
static void lose_touch(struct group *group, unsigned at)
{
    group_link(group, 0, at, false);
    for (unsigned i = 0; i < 4; i++) {
        hop(group);
    }
    group_link(group, 0, at, true);
    for (unsigned i = 0; i < 4; i++) {
        hop(group);
    }
    assert_int_equal(progress(group, at).state, LS_PROGRESS_SYNCING);
    assert_true(group->nodes[at].gap);
}

TEST(small_cache, an_observer_that_state_sync_brought_back_is_pipelined_under_load)
{
    struct group *group = open_group(3, 1u << 20);
    lose_touch(group, 2);
    assert_int_equal(progress(group, 1).state, LS_PROGRESS_PIPELINE); /* lost no touch */
    state_sync(group, 2);
    for (unsigned i = 0; i < 4; i++) {
        hop(group);
    }
    for (unsigned i = 0; i < 20; i++) {
        hop(group);
        for (unsigned at = 1; at < 3; at++) {
            struct ls_progress follows = progress(group, at);
            assert_int_equal(follows.state, LS_PROGRESS_PIPELINE);
            /* behind by what was written while an append and its answer were on their way */
            assert_true(follows.match + 3 * BUSY >= group->nodes[0].ready.last);
        }
    }
    group_free(group);
}

static void reply(struct group *group, bool accepted, ls_index prev, ls_index match)
{
    struct ls_message m = test_message(LS_MESSAGE_APPEND_REPLY, 1, 0, group->nodes[0].ready.term);
    m.as.append_reply = (struct ls_append_reply){.accepted = accepted,
                                                 .counts = true,
                                                 .prev = {m.term, prev},
                                                 .match = match,
                                                 .last = match};
    node_receive(group, 0, &m);
}

/* The window was full for a while, and what it kept back has left the cache. */
TEST(small_cache, a_member_that_accepts_what_lies_before_a_hole_stays_with_state_sync)
{
    struct group *group = open_group(2, WINDOW);
    lose_touch(group, 1);
    net_drop_all(group);
    ls_index before = group->nodes[0].ready.last;
    reply(group, false, before, 2); /* nothing is under way any more */
    for (unsigned i = 0; i < CACHE / BYTES; i++) {
        group_propose(group, 0, 1, BYTES);
    }
    node_sync(group, 0);
    group_propose(group, 0, CACHE / BYTES, BYTES);
    node_sync(group, 0);
    ls_index sent = before + WINDOW / BYTES;
    assert_int_equal(progress(group, 1).next, sent + 1);
    reply(group, false, before, 2); /* the window opens: the newest entries go out */
    ls_index hole_end = group->nodes[0].ready.cache_first;
    assert_true(hole_end > sent + 1);
    reply(group, true, before + 1, sent);
    assert_int_equal(progress(group, 1).state, LS_PROGRESS_SYNCING);
    assert_int_equal(progress(group, 1).match, sent);
    reply(group, true, hole_end - 1, hole_end);
    assert_int_equal(progress(group, 1).state, LS_PROGRESS_PIPELINE);
    assert_int_equal(progress(group, 1).match, hole_end);
    group_free(group);
}
