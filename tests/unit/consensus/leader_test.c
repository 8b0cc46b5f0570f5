/* SPDX-License-Identifier: MIT */
/* The leader: what it sends to whom, what it counts and when it commits. P3, C1-C10, L7-L17. */
#include "cores.h"

static struct ls_progress progress(struct group *group, unsigned leader, unsigned at)
{
    struct ls_core_status status;
    struct ls_peer_id id = test_id(at);
    ls_core_status(group->nodes[leader].core, &status);
    for (uint32_t i = 0; i < status.progress_count; i++) {
        if (ls_peer_id_equal(&status.progress[i].id, &id)) {
            return status.progress[i];
        }
    }
    fail_msg("member %u is not followed", at);
    return (struct ls_progress){.match = 0};
}

/* Member 0 leads term 2 with everything acknowledged; messages are by hand from here on. */
static struct group *leading(unsigned voters, unsigned count)
{
    struct group *group = group_new(voters, count);
    group_elect(group, 0);
    group_run(group, HEARTBEAT + HEARTBEAT / 2);
    net_drop_all(group);
    assert_int_equal(group->nodes[0].ready.commit, 2);
    return group;
}

static struct ls_message accepted(unsigned from, ls_term term, ls_index match)
{
    struct ls_message m = test_message(LS_MESSAGE_APPEND_REPLY, from, 0, term);
    m.as.append_reply = (struct ls_append_reply){
        .accepted = true, .counts = true, .prev = {1, 1}, .match = match, .last = match};
    return m;
}

static struct ls_message beat_reply(unsigned from, ls_term term, uint64_t round, ls_index last)
{
    struct ls_message m = test_message(LS_MESSAGE_HEARTBEAT_REPLY, from, 0, term);
    m.as.heartbeat_reply =
        (struct ls_heartbeat_reply){.round = round, .last = last, .counts = true};
    return m;
}

static uint64_t beat(struct group *group)
{
    group->now += HEARTBEAT;
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_TICK});
    return node_sent(group, 0, LS_MESSAGE_HEARTBEAT)->message.as.heartbeat.round;
}

/* ---- commit ---- */

/* Raft paper figure 8, (c) to (e): S1 leads again and its entry of term 2 is on every disk. */
TEST(leader, P3_C1_figure_8_an_entry_of_an_earlier_term_is_not_committed_by_counting)
{
    struct group *group = group_prepare(5, 5, false);
    disk_terms(group, 0, "2");
    disk_terms(group, 1, "2");
    disk_terms(group, 2, "2");
    group_open(group);
    group->now += 2 * ELECTION;
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_TICK});
    for (unsigned i = 1; i < 3; i++) {
        struct ls_message m = test_message(LS_MESSAGE_PRE_VOTE_REPLY, i, 0, 3);
        m.as.vote_reply.granted = true;
        node_receive(group, 0, &m);
    }
    node_sync(group, 0);
    for (unsigned i = 1; i < 3; i++) {
        struct ls_message m = test_message(LS_MESSAGE_VOTE_REPLY, i, 0, 3);
        m.as.vote_reply.granted = true;
        node_receive(group, 0, &m);
    }
    ls_term term = group->nodes[0].ready.term;
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    node_sync(group, 0);
    for (unsigned i = 1; i < 5; i++) { /* everybody has the entry of term 2, index 2 */
        struct ls_message m = accepted(i, term, 2);
        node_receive(group, 0, &m);
        assert_int_equal(group->nodes[0].ready.commit, 0);
    }
    for (unsigned i = 1; i < 3; i++) { /* (e) and now the own term's no-op */
        struct ls_message m = accepted(i, term, 3);
        node_receive(group, 0, &m);
    }
    assert_int_equal(group->nodes[0].ready.commit, 3);
    group_free(group);
}

TEST(leader, P3_a_term_opens_with_a_no_op_that_the_leader_names)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    assert_int_equal(group->nodes[0].ready.own_term_first, 2);
    assert_int_equal(group->nodes[0].staged.log[1].kind, LS_ENTRY_NOOP);
    assert_int_equal(group->nodes[1].ready.own_term_first, 0);
    group_free(group);
}

TEST(leader, C5_the_own_copy_counts_when_it_is_durable)
{
    struct group *group = leading(3, 3);
    group->nodes[0].hold = true;
    group_propose(group, 0, 1, 10);
    struct ls_message m = accepted(1, 2, 3);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.commit, 2); /* one durable copy of three */
    node_sync(group, 0);
    assert_int_equal(group->nodes[0].ready.commit, 3);
    group_free(group);
}

TEST(leader, C5_followers_alone_can_commit_while_the_own_disk_is_slow)
{
    struct group *group = leading(3, 3);
    group->nodes[0].hold = true;
    group_propose(group, 0, 1, 10);
    for (unsigned i = 1; i < 3; i++) {
        struct ls_message m = accepted(i, 2, 3);
        node_receive(group, 0, &m);
    }
    assert_int_equal(group->nodes[0].ready.commit, 3);
    assert_int_equal(group->nodes[0].ready.durable, 2); /* P12: applies up to 2 */
    group_free(group);
}

TEST(leader, G8_a_leader_whose_disk_hangs_while_the_others_commit_hands_the_group_back)
{
    struct group *group = leading(3, 3);
    group_run(group, 2 * HEARTBEAT);
    group->nodes[0].hold = true;
    group_propose(group, 0, 1, 10);
    group_run(group, 3 * ELECTION);
    assert_int_equal(group->nodes[0].ready.commit, 3);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER); /* slow is not dead */
    node_sync(group, 0);
    group_propose(group, 0, 1, 10);
    group_run(group, 3 * ELECTION);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER); /* it wrote meanwhile */
    group_run(group, 6 * ELECTION);
    int leader = group_leader(group);
    assert_true(leader > 0);
    group_propose(group, (unsigned)leader, 1, 10);
    group_settle(group);
    assert_int_equal(group->nodes[leader].ready.commit, group->nodes[leader].ready.last);
    group->nodes[0].hold = false;
    group_run(group, 3 * HEARTBEAT);
    assert_int_equal(group->nodes[0].ready.durable, group->nodes[leader].ready.last);
    group_agrees(group);
    group_free(group);
}

TEST(leader, C7_observers_are_sent_everything_and_counted_never)
{
    struct group *group = leading(3, 5);
    group_propose(group, 0, 1, 10);
    assert_int_equal(node_sends(group, 0, LS_MESSAGE_APPEND), 4);
    node_sync(group, 0);
    for (unsigned i = 3; i < 5; i++) {
        struct ls_message m = accepted(i, 2, 3);
        node_receive(group, 0, &m);
    }
    assert_int_equal(group->nodes[0].ready.commit, 2);
    struct ls_message m = accepted(2, 2, 3);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.commit, 3);
    group_free(group);
}

TEST(leader, C4_C8_commit_is_the_majority_whatever_the_order_of_acknowledgements)
{
    struct group *group = leading(5, 5);
    group_propose(group, 0, 8, 10);
    node_sync(group, 0);
    const struct {
        unsigned from;
        ls_index match, commit;
    } steps[] = {{1, 10, 2}, {2, 4, 4}, {3, 7, 7}, {4, 5, 7}, {2, 10, 10}, {4, 10, 10}};
    for (unsigned i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct ls_message m = accepted(steps[i].from, 2, steps[i].match);
        node_receive(group, 0, &m);
        assert_int_equal(group->nodes[0].ready.commit, steps[i].commit);
    }
    group_free(group);
}

/* P5, C6: both halves of a joint configuration; a leader outside one half is no voter of it. */
TEST(leader, P5_C6_a_joint_configuration_needs_both_majorities)
{
    struct group *group = group_prepare(3, 3, false);
    struct ls_configuration joint = test_configuration(5, 5, true);
    joint.joint = true; /* outgoing: 0, 1, 2; incoming: 3, 4 */
    for (unsigned i = 0; i < 3; i++) {
        joint.members[i].outgoing_voter = true;
        joint.members[i].role = LS_MEMBER_OBSERVER;
    }
    uint8_t bytes[LS_CONFIGURATION_BYTES_MAX];
    size_t written = 0;
    assert_ok(ls_configuration_encode(&test_env.codec, &joint, bytes, sizeof bytes, &written));
    disk_append(group, 0, (struct ls_entry){1, LS_ENTRY_CONFIGURATION, {bytes, written}});
    node_open(group, 0);
    group->now += 2 * ELECTION;
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_TICK});
    const unsigned order[] = {1, 3, 4};
    for (unsigned kind = LS_MESSAGE_PRE_VOTE_REPLY; kind <= LS_MESSAGE_VOTE_REPLY; kind += 2) {
        for (unsigned i = 0; i < 3; i++) {
            assert_true(group->nodes[0].ready.role != LS_ROLE_LEADER);
            struct ls_message m = test_message((enum ls_message_kind)kind, order[i], 0, 2);
            m.as.vote_reply.granted = true;
            node_receive(group, 0, &m);
        }
        node_sync(group, 0);
    }
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(group->nodes[0].ready.commit, 0);
        struct ls_message m = accepted(order[i], 2, 3);
        node_receive(group, 0, &m);
    }
    assert_int_equal(group->nodes[0].ready.commit, 3);
    group_free(group);
}

TEST(leader, C10_a_restarted_leader_commits_nothing_it_has_not_counted_again)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    group_propose(group, 0, 5, 10);
    group_settle(group);
    assert_int_equal(group->nodes[0].ready.commit, 7);
    node_close(group, 0);
    node_open(group, 0);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_FOLLOWER);
    assert_int_equal(group->nodes[0].ready.commit, 0);
    group_free(group);
}

/* ---- progress ---- */

TEST(leader, L7_L8_reordered_acknowledgements_do_not_move_a_member_back)
{
    struct group *group = leading(3, 3);
    group_propose(group, 0, 5, 10);
    struct ls_message m = accepted(1, 2, 7);
    node_receive(group, 0, &m);
    m = accepted(1, 2, 3);
    node_receive(group, 0, &m);
    assert_int_equal(progress(group, 0, 1).match, 7);
    assert_int_equal(progress(group, 0, 1).next, 8);
    m = test_message(LS_MESSAGE_APPEND_REPLY, 1, 0, 2); /* a refusal from before */
    m.as.append_reply = (struct ls_append_reply){
        .counts = true, .prev = {2, 4}, .match = 1, .last = 3, .hint = {1, 1}};
    node_receive(group, 0, &m);
    assert_int_equal(progress(group, 0, 1).match, 7);
    assert_int_equal(progress(group, 0, 1).state, LS_PROGRESS_PIPELINE);
    group_free(group);
}

TEST(leader, L13_acknowledgements_of_an_earlier_term_say_nothing)
{
    struct group *group = leading(3, 3);
    group_propose(group, 0, 5, 10);
    node_sync(group, 0);
    struct ls_message m = accepted(1, 1, 7);
    node_receive(group, 0, &m);
    assert_int_equal(progress(group, 0, 1).match, 2);
    assert_int_equal(group->nodes[0].ready.commit, 2);
    group_free(group);
}

/* It says that it counts, for it does not know the configuration yet; the leader knows better. */
TEST(leader, P14_an_acknowledgement_of_another_incarnation_is_not_counted)
{
    struct group *group = leading(3, 3);
    group_propose(group, 0, 1, 10);
    node_sync(group, 0);
    struct ls_message m = accepted(1, 2, 3);
    m.incarnation = test_incarnation(1, 1);
    node_receive(group, 0, &m);
    assert_int_equal(progress(group, 0, 1).match, 3);
    assert_int_equal(group->nodes[0].ready.commit, 2);
    group_free(group);
}

/* Y10 */
TEST(leader, an_acknowledgement_beyond_the_log_is_ignored)
{
    struct group *group = leading(3, 3);
    struct ls_message m = accepted(1, 2, 900);
    node_receive(group, 0, &m);
    assert_int_equal(progress(group, 0, 1).match, 2);
    m = beat_reply(1, 2, 1u << 20, 900);
    node_receive(group, 0, &m);
    assert_int_equal(progress(group, 0, 1).match, 2);
    group_free(group);
}

/* G2 */
TEST(leader, pipelines_up_to_its_window_and_goes_on_with_acknowledgements)
{
    struct group *group = group_prepare(3, 3, false);
    group->window_bytes = 1000;
    group_open(group);
    group_elect(group, 0);
    net_drop_all(group);
    for (unsigned i = 0; i < 20; i++) {
        group_propose(group, 0, 1, 100);
    }
    assert_int_equal(progress(group, 0, 1).in_flight_bytes, 1000);
    assert_int_equal(progress(group, 0, 1).next, 13);
    struct ls_message m = accepted(1, 2, 7);
    node_receive(group, 0, &m);
    assert_int_equal(progress(group, 0, 1).in_flight_bytes, 1500); /* the rest goes as one batch */
    assert_int_equal(progress(group, 0, 1).next, 23);
    assert_int_equal(node_sends(group, 0, LS_MESSAGE_APPEND), 1);
    group_free(group);
}

TEST(leader, L17_batches_keep_their_bounds_and_one_long_entry_goes_alone)
{
    struct group *group = group_prepare(3, 3, false);
    group->window_bytes = 64u << 20;
    group->cache_bytes = 64u << 20;
    group_open(group);
    group_elect(group, 0);
    group_propose(group, 0, LS_PROPOSE_ENTRIES_MAX, 1000); /* 4 MB */
    unsigned sent = 0;
    for (size_t i = 0; i < group->net_count; i++) {
        const struct ls_message *m = &group->net[i].outgoing.message;
        if (m->kind == LS_MESSAGE_APPEND && group->net[i].to == 1) {
            assert_null(ls_message_invalid(m));
            sent += m->as.append.count;
        }
    }
    assert_int_equal(sent, LS_PROPOSE_ENTRIES_MAX);
    group_settle(group);
    assert_int_equal(group->nodes[1].ready.last, 2 + LS_PROPOSE_ENTRIES_MAX);
    group_free(group);
}

TEST(leader, L9_a_probe_carries_the_pending_entries_and_so_does_its_repetition)
{
    struct group *group = leading(3, 3);
    group_link(group, 0, 1, false);
    group_propose(group, 0, 3, 10);
    net_drop_all(group);
    struct ls_event up = {.kind = LS_EVENT_LINK};
    up.as.link.peer = test_id(1);
    up.as.link.incarnation = test_incarnation(1, 0);
    up.as.link.up = true;
    node_step(group, 0, up);
    assert_int_equal(node_sent(group, 0, LS_MESSAGE_APPEND)->message.as.append.count, 3);
    net_drop_all(group); /* lost */
    uint64_t round = beat(group);
    struct ls_message m = beat_reply(1, 2, round, 2);
    node_receive(group, 0, &m);
    assert_int_equal(node_sent(group, 0, LS_MESSAGE_APPEND)->message.as.append.count, 3);
    net_drop_all(group); /* it arrived, and its answer waits for a disk: ask without the entries */
    round = beat(group);
    m = beat_reply(1, 2, round, 5);
    node_receive(group, 0, &m);
    assert_int_equal(node_sent(group, 0, LS_MESSAGE_APPEND)->message.as.append.count, 0);
    group_free(group);
}

TEST(leader, L15_a_lost_append_is_noticed_by_a_heartbeat_and_sent_again)
{
    struct group *group = leading(3, 3);
    group_propose(group, 0, 3, 10); /* lost on the way to everybody */
    net_drop_all(group);
    uint64_t round = beat(group);
    struct ls_message m = beat_reply(1, 2, round, 2);
    node_receive(group, 0, &m);
    const struct ls_message *again = &node_sent(group, 0, LS_MESSAGE_APPEND)->message;
    assert_int_equal(again->as.append.prev.index, 2);
    assert_int_equal(again->as.append.count, 3);
    net_drop_all(group); /* that one too */
    round = beat(group);
    m = beat_reply(1, 2, round, 2);
    node_receive(group, 0, &m);
    assert_int_equal(node_sent(group, 0, LS_MESSAGE_APPEND)->message.as.append.count, 3);
    group_settle(group);
    group_run(group, 3 * HEARTBEAT);
    assert_int_equal(group->nodes[1].ready.commit, 5);
    assert_int_equal(group->nodes[2].ready.commit, 5);
    group_free(group);
}

/* F10 */
TEST(leader, entries_that_wait_for_a_slow_disk_are_asked_about_and_not_sent_again)
{
    struct group *group = leading(3, 3);
    group_propose(group, 0, 3, 10);
    net_drop_all(group);
    uint64_t round = beat(group);
    struct ls_message m = beat_reply(1, 2, round, 5); /* it has them, its sync is not done */
    node_receive(group, 0, &m);
    assert_int_equal(node_sends(group, 0, LS_MESSAGE_APPEND), 1);
    assert_int_equal(node_sent(group, 0, LS_MESSAGE_APPEND)->message.as.append.count, 0);
    group_free(group);
}

TEST(leader, a_link_that_went_down_and_came_back_begins_with_a_probe_at_once)
{
    struct group *group = leading(3, 3);
    group_propose(group, 0, 3, 10);
    net_drop_all(group);
    group_link(group, 0, 1, false);
    assert_int_equal(progress(group, 0, 1).state, LS_PROGRESS_PROBE);
    assert_int_equal(progress(group, 0, 1).next, 3);
    group_propose(group, 0, 1, 10);
    assert_int_equal(node_sends(group, 0, LS_MESSAGE_APPEND), 1); /* to 2 alone */
    net_drop_all(group);
    group_link(group, 0, 1, true);
    const struct ls_message *probe = &node_sent(group, 0, LS_MESSAGE_APPEND)->message;
    assert_int_equal(probe->as.append.prev.index, 2);
    assert_int_equal(probe->as.append.count, 4);
    group_settle(group);
    assert_int_equal(progress(group, 0, 1).match, 6);
    assert_int_equal(progress(group, 0, 1).state, LS_PROGRESS_PIPELINE);
    group_free(group);
}

/* L14: one exchange a term, not one an entry. */
TEST(leader, L14_a_long_conflict_is_found_in_a_few_exchanges)
{
    struct group *group = group_prepare(3, 3, false);
    for (unsigned i = 0; i < 300; i++) {
        disk_terms(group, 0, "2");
        disk_terms(group, 1, "3");
        disk_terms(group, 2, "2");
    }
    disk_terms(group, 0, "4");
    disk_terms(group, 2, "4");
    group_open(group);
    group_elect(group, 0);
    assert_int_equal(group->nodes[1].ready.last, group->nodes[0].ready.last);
    assert_int_equal(ls_core_term_at(group->nodes[1].core, 2), 2);
    assert_true(group->refusals >= 1 && group->refusals <= 3);
    group_free(group);
}

TEST(leader, L16_a_member_that_came_back_empty_is_fed_and_its_old_promises_are_void)
{
    struct group *group = leading(3, 3);
    group_propose(group, 0, 5, 10);
    group_run(group, HEARTBEAT);
    assert_int_equal(progress(group, 0, 2).match, 7);
    node_wipe(group, 2);
    node_open(group, 2);
    group_link(group, 0, 2, true);
    assert_int_equal(progress(group, 0, 2).match, 0);
    assert_int_equal(progress(group, 0, 2).standing, LS_STANDING_OTHER_INCARNATION);
    group_run(group, 3 * HEARTBEAT);
    assert_int_equal(progress(group, 0, 2).match, 7);
    group_free(group);
}

TEST(leader, L16_a_member_that_lost_its_tail_and_does_not_know_is_sent_it_again)
{
    struct group *group = leading(3, 3);
    group_propose(group, 0, 5, 10);
    group_run(group, HEARTBEAT);
    node_close(group, 2);
    stored_free(group->nodes[2].disk.log + 3, group->nodes[2].disk.count - 3);
    group->nodes[2].disk.count = 3;
    node_open(group, 2);
    group_link(group, 0, 2, true);
    group_run(group, 3 * HEARTBEAT);
    assert_int_equal(group->nodes[2].ready.last, 7);
    assert_int_equal(progress(group, 0, 2).match, 7);
    group_free(group);
}

/* ---- syncing ---- */

static struct group *small_cache(void)
{
    struct group *group = group_prepare(3, 3, false);
    group->cache_bytes = 500;
    group_open(group);
    group_elect(group, 0);
    group_link(group, 0, 2, false);
    group_cut(group, 2, true);
    for (unsigned i = 0; i < 30; i++) {
        group_propose(group, 0, 1, 100);
        group_settle(group);
    }
    return group;
}

TEST(leader, a_member_behind_the_cache_is_left_to_state_sync_and_still_gets_new_entries)
{
    struct group *group = small_cache();
    assert_true(group->nodes[0].ready.cache_first > 20);
    group_cut(group, 2, false);
    group_link(group, 0, 2, true);
    group_settle(group);
    group_run(group, 2 * HEARTBEAT);
    assert_int_equal(progress(group, 0, 2).state, LS_PROGRESS_SYNCING);
    assert_true(group->nodes[2].gap);
    assert_int_equal(group->nodes[2].gap_target, group->nodes[0].ready.commit);
    group_propose(group, 0, 1, 100);
    const struct ls_message *fresh = &node_sent(group, 0, LS_MESSAGE_APPEND)->message;
    struct ls_peer_id syncing = test_id(2);
    assert_true(ls_peer_id_equal(&fresh->to, &syncing));
    assert_true(fresh->as.append.syncing);
    assert_int_equal(fresh->as.append.count, 1);
    assert_int_equal(group->nodes[0].ready.prune_safe, progress(group, 0, 2).match);
    group_free(group);
}

TEST(leader, a_member_that_caught_up_is_pipelined_again)
{
    struct group *group = small_cache();
    group_cut(group, 2, false);
    group_link(group, 0, 2, true);
    group_run(group, 2 * HEARTBEAT);
    struct node *lagging = &group->nodes[2];
    ls_index first = lagging->ready.commit + 1;
    ls_index target = lagging->gap_target;
    struct ls_entry entries[40];
    uint32_t count = (uint32_t)(target - first + 1);
    for (uint32_t i = 0; i < count; i++) {
        const struct stored *stored = &group->nodes[1].disk.log[first - 1 + i];
        entries[i] = (struct ls_entry){stored->term, stored->kind, {stored->data, stored->bytes}};
    }
    struct ls_event event = {.kind = LS_EVENT_SYNCED};
    event.as.synced.prev = (struct ls_cursor){ls_core_term_at(lagging->core, first - 1), first - 1};
    event.as.synced.entries = entries;
    event.as.synced.count = count;
    event.as.synced.commit = target;
    node_step(group, 2, event);
    assert_int_equal(lagging->ready.commit, target);
    group_run(group, 2 * HEARTBEAT);
    assert_int_equal(progress(group, 0, 2).state, LS_PROGRESS_PIPELINE);
    group_propose(group, 0, 1, 100);
    group_settle(group);
    assert_int_equal(progress(group, 0, 2).match, group->nodes[0].ready.last);
    group_free(group);
}

TEST(leader, a_cache_full_of_uncommitted_entries_refuses_proposals_until_they_commit)
{
    struct group *group = group_prepare(3, 3, false);
    group->cache_bytes = 1000;
    group_open(group);
    group_elect(group, 0);
    group->nodes[0].hold = true;
    group_propose(group, 0, 9, 100);
    group_propose(group, 0, 2, 100);
    assert_int_equal(group->nodes[0].outcome.propose, LS_ERR_BUSY);
    assert_int_equal(group->nodes[0].ready.entries_count, 0);
    group->nodes[0].hold = false;
    group_settle(group);
    group_propose(group, 0, 2, 100);
    assert_int_equal(group->nodes[0].outcome.propose, LS_OK);
    group_propose(group, 1, 1, 1);
    assert_int_equal(group->nodes[1].outcome.propose, LS_ERR_NOT_LEADER);
    group_free(group);
}

/* S7 */
TEST(leader, prune_safe_waits_for_members_that_never_acknowledged)
{
    struct group *group = group_new(3, 4);
    node_close(group, 3);
    group_elect(group, 0);
    group_propose(group, 0, 5, 10);
    group_run(group, 2 * HEARTBEAT);
    assert_int_equal(group->nodes[0].ready.prune_safe, 0);
    node_open(group, 3);
    group_link(group, 0, 3, true);
    group_run(group, 3 * HEARTBEAT);
    assert_int_equal(group->nodes[0].ready.prune_safe, 7);
    assert_int_equal(group->nodes[1].ready.prune_safe, 7); /* told by heartbeat */
    group_free(group);
}

TEST(leader, a_commit_that_no_append_carries_is_told_soon)
{
    struct group *group = leading(3, 3);
    group_propose(group, 0, 1, 10);
    group_settle(group);
    assert_int_equal(group->nodes[1].ready.commit, 2);
    assert_true(group->nodes[0].ready.deadline_us <= group->now + HEARTBEAT / 8);
    group_run(group, HEARTBEAT / 4);
    assert_int_equal(group->nodes[1].ready.commit, 3);
    group_free(group);
}

TEST(leader, a_tick_before_the_deadline_does_nothing)
{
    struct group *group = leading(3, 3);
    group->now = group->nodes[0].ready.deadline_us - 1;
    for (unsigned i = 0; i < 3; i++) {
        struct ls_ready before = group->nodes[i].ready;
        node_step(group, i, (struct ls_event){.kind = LS_EVENT_TICK});
        assert_int_equal(group->nodes[i].ready.messages_count, 0);
        assert_int_equal(group->nodes[i].ready.role, before.role);
        assert_int_equal(group->nodes[i].ready.deadline_us, before.deadline_us);
    }
    group_free(group);
}
