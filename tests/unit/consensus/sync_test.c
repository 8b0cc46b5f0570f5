/* SPDX-License-Identifier: MIT */
/* Entries and snapshots that state sync brings. P4, P5, P9, P12. */
#include "cores.h"

static struct ls_entry e(ls_term term)
{
    return (struct ls_entry){term, LS_ENTRY_COMMAND, {"x", 1}};
}

static struct group *follower(const char *terms)
{
    struct group *group = group_prepare(3, 3, false);
    disk_terms(group, 0, terms);
    group_open(group);
    return group;
}

static void synced(struct group *group, ls_term term, struct ls_cursor prev,
                   const struct ls_entry *entries, uint32_t count, ls_index commit)
{
    struct ls_event event = {.kind = LS_EVENT_SYNCED};
    event.as.synced.term = term;
    event.as.synced.prev = prev;
    event.as.synced.entries = entries;
    event.as.synced.count = count;
    event.as.synced.commit = commit;
    node_step(group, 0, event);
}

static void heard(struct group *group, ls_term term, ls_index commit)
{
    struct ls_message m = test_message(LS_MESSAGE_HEARTBEAT, 1, 0, term);
    m.as.heartbeat = (struct ls_heartbeat){.commit = commit, .round = 1};
    node_receive(group, 0, &m);
}

static void restored(struct group *group, struct ls_cursor anchor)
{
    struct ls_configuration configuration = test_configuration(5, 5, true);
    struct ls_event event = {.kind = LS_EVENT_RESTORED};
    event.as.restored.anchor = anchor;
    event.as.restored.configuration = &configuration;
    event.as.restored.configuration_index = 1;
    node_step(group, 0, event);
}

TEST(synced, committed_entries_are_appended_and_commit_follows_to_their_end)
{
    struct group *group = follower("");
    struct ls_entry entries[3] = {e(1), e(1), e(1)};
    synced(group, 0, (struct ls_cursor){1, 1}, entries, 3, 90);
    const struct ls_ready *ready = &group->nodes[0].ready;
    assert_int_equal(ready->append_first, 2);
    assert_int_equal(ready->entries_count, 3);
    assert_int_equal(ready->commit, 4);
    assert_int_equal(ready->durable, 1); /* P12: applied when durable */
    group_free(group);
}

TEST(synced, commit_stops_at_what_the_leader_of_the_term_has_told)
{
    struct group *group = follower("");
    heard(group, 2, 3);
    struct ls_entry entries[3] = {e(1), e(1), e(1)};
    synced(group, 0, (struct ls_cursor){1, 1}, entries, 3, 90);
    assert_int_equal(group->nodes[0].ready.commit, 3);
    group_free(group);
}

TEST(synced, P4_truncates_only_at_a_conflict_and_keeps_what_matches)
{
    struct group *group = follower("1122");
    struct ls_entry entries[2] = {e(1), e(1)};
    synced(group, 0, (struct ls_cursor){1, 1}, entries, 2, 3);
    assert_false(group->nodes[0].ready.truncate);
    assert_int_equal(group->nodes[0].ready.last, 5);
    struct ls_entry other[2] = {e(1), e(3)};
    synced(group, 0, (struct ls_cursor){1, 2}, other, 2, 4);
    assert_true(group->nodes[0].ready.truncate);
    assert_int_equal(group->nodes[0].ready.truncate_from, 4);
    assert_int_equal(group->nodes[0].ready.last, 4);
    assert_int_equal(group->nodes[0].ready.commit, 4);
    group_free(group);
}

TEST(synced, P4_a_later_term_is_raised_in_the_same_batch)
{
    struct group *group = follower("");
    struct ls_entry entries[1] = {e(6)};
    synced(group, 0, (struct ls_cursor){1, 1}, entries, 1, 2);
    assert_true(group->nodes[0].ready.hard_state_changed);
    assert_int_equal(group->nodes[0].ready.hard_state.term, 6);
    assert_int_equal(group->nodes[0].ready.entries_count, 1);
    synced(group, 9, (struct ls_cursor){6, 2}, entries, 1, 2);
    assert_int_equal(group->nodes[0].ready.term, 9);
    group_free(group);
}

TEST(synced, P4_a_contradiction_of_a_committed_entry_halts_the_group)
{
    struct group *group = follower("11");
    struct ls_entry entries[1] = {e(1)};
    synced(group, 0, (struct ls_cursor){1, 2}, entries, 1, 3);
    assert_int_equal(group->nodes[0].ready.commit, 3);
    struct ls_entry other[1] = {e(2)};
    synced(group, 0, (struct ls_cursor){1, 2}, other, 1, 3);
    assert_int_equal(group->nodes[0].ready.halted, LS_ERR_DIVERGED);
    group_free(group);
}

TEST(synced, what_does_not_follow_is_ignored_with_a_trace)
{
    struct group *group = follower("1");
    struct ls_entry entries[1] = {e(1)};
    synced(group, 0, (struct ls_cursor){1, 7}, entries, 1, 8);
    assert_int_equal(group->nodes[0].ready.persist_seq, 0);
    assert_string_equal(last_trace, "info consensus/01000000: 1 fetched entries after 1^7 ignored");
    struct ls_entry descending[2] = {e(2), e(1)};
    synced(group, 0, (struct ls_cursor){1, 2}, descending, 2, 4);
    assert_int_equal(group->nodes[0].ready.persist_seq, 0);
    assert_int_equal(group->nodes[0].ready.commit, 0);
    group_free(group);
}

TEST(synced, uncommitted_entries_count_in_the_term_of_their_leader_only)
{
    struct group *group = follower("");
    heard(group, 4, 3);
    struct ls_entry entries[3] = {e(2), e(3), e(4)};
    synced(group, 3, (struct ls_cursor){1, 1}, entries, 2, 3); /* an earlier leader's */
    assert_int_equal(group->nodes[0].ready.last, 1);
    synced(group, 4, (struct ls_cursor){1, 1}, entries, 3, 4);
    assert_int_equal(group->nodes[0].ready.last, 4);
    assert_int_equal(group->nodes[0].ready.commit, 3); /* as far as the leader told */
    heard(group, 4, 4);
    assert_int_equal(group->nodes[0].ready.commit, 4); /* they are verified */
    group_free(group);
}

TEST(synced, a_leader_takes_nothing_from_state_sync)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    struct ls_entry entries[1] = {e(2)};
    synced(group, 0, (struct ls_cursor){2, 2}, entries, 1, 3);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    assert_int_equal(group->nodes[0].ready.persist_seq, 0);
    group_free(group);
}

TEST(restored, P9_an_anchor_the_log_has_with_another_term_drops_the_suffix)
{
    struct group *group = follower("1122");
    restored(group, (struct ls_cursor){3, 4});
    const struct ls_ready *ready = &group->nodes[0].ready;
    assert_true(ready->reset);
    assert_int_equal(ready->anchor.index, 4);
    assert_int_equal(ready->last, 4);
    assert_int_equal(ready->commit, 4);
    assert_int_equal(ready->hard_state.term, 3); /* P4: in the same batch */
    assert_int_equal(ready->configuration->configuration.count, 5);
    assert_int_equal(ls_core_term_at(group->nodes[0].core, 4), 3);
    uint64_t seq = ready->persist_seq;
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_PERSISTED, .as.persisted_seq = seq});
    assert_int_equal(group->nodes[0].ready.durable, 4);
    group_free(group);
}

TEST(restored, P9_an_anchor_the_log_has_with_the_same_term_keeps_the_suffix)
{
    struct group *group = follower("1122");
    restored(group, (struct ls_cursor){2, 4});
    assert_false(group->nodes[0].ready.reset);
    assert_int_equal(group->nodes[0].ready.last, 5);
    assert_int_equal(group->nodes[0].ready.commit, 4);
    struct ls_core_status status;
    ls_core_status(group->nodes[0].core, &status);
    assert_int_equal(status.anchor.index, 4);
    assert_int_equal(status.applied, 4);
    group_free(group);
}

/* What a batch in flight wrote is dropped with the log, so it is not what the snapshot stands for.
 */
TEST(restored, L11_a_late_sync_of_dropped_entries_makes_nothing_durable)
{
    struct group *group = follower("");
    struct ls_entry entries[3] = {e(1), e(1), e(1)};
    struct ls_message m = test_message(LS_MESSAGE_APPEND, 1, 0, 2);
    m.as.append = (struct ls_append){.prev = {1, 1}, .entries = entries, .count = 3, .commit = 1};
    node_receive(group, 0, &m);
    uint64_t late = group->nodes[0].ready.persist_seq;
    restored(group, (struct ls_cursor){2, 10});
    assert_true(group->nodes[0].ready.reset);
    uint64_t seq = group->nodes[0].ready.persist_seq;
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_PERSISTED, .as.persisted_seq = late});
    assert_int_equal(group->nodes[0].ready.durable, 1);
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_PERSISTED, .as.persisted_seq = seq});
    assert_int_equal(group->nodes[0].ready.durable, 10);
    group_free(group);
}

/* M13 */
TEST(restored, P5_a_snapshot_beyond_the_log_replaces_every_configuration)
{
    struct group *group = follower("11");
    restored(group, (struct ls_cursor){1, 50});
    assert_true(group->nodes[0].ready.reset);
    assert_true(group->nodes[0].ready.configuration_changed);
    assert_int_equal(group->nodes[0].ready.configuration->index, 1);
    assert_int_equal(group->nodes[0].ready.configuration->configuration.count, 5);
    struct ls_message m = test_message(LS_MESSAGE_APPEND, 1, 0, 1);
    struct ls_entry entries[1] = {e(1)};
    m.as.append = (struct ls_append){.prev = {1, 50}, .entries = entries, .count = 1};
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.append_first, 51);
    group_free(group);
}

/* S4 */
TEST(restored, a_snapshot_at_or_below_the_commit_is_ignored)
{
    struct group *group = follower("1111");
    struct ls_entry none[1] = {e(1)};
    synced(group, 0, (struct ls_cursor){1, 4}, none, 0, 4);
    assert_int_equal(group->nodes[0].ready.commit, 4);
    for (ls_index at = 3; at <= 4; at++) {
        restored(group, (struct ls_cursor){1, at});
        assert_false(group->nodes[0].ready.reset);
        assert_int_equal(group->nodes[0].ready.last, 5);
        assert_false(group->nodes[0].ready.configuration_changed);
    }
    group_free(group);
}
