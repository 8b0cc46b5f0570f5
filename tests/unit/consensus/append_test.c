/* SPDX-License-Identifier: MIT */
/* AppendEntries at a follower: matching, truncation, commit, gaps, configurations. P1, P4, P5, P9;
 * L1-L6, L10-L12, C2, C3. */
#include "cores.h"

static struct ls_entry e(ls_term term)
{
    return (struct ls_entry){term, LS_ENTRY_COMMAND, {"x", 1}};
}

/* The core of member 0 with entry 1 (the configuration, term 1) and these terms after it. */
static struct group *follower(const char *terms)
{
    struct group *group = group_prepare(3, 3, false);
    disk_terms(group, 0, terms);
    group_open(group);
    return group;
}

static struct ls_message append(ls_term term, struct ls_cursor prev, const struct ls_entry *entries,
                                uint32_t count, ls_index commit)
{
    struct ls_message m = test_message(LS_MESSAGE_APPEND, 1, 0, term);
    m.as.append = (struct ls_append){
        .prev = prev, .commit = commit, .entries = count == 0 ? NULL : entries, .count = count};
    return m;
}

static const struct ls_append_reply *receive(struct group *group, struct ls_message m)
{
    node_receive(group, 0, &m);
    return &node_sent(group, 0, LS_MESSAGE_APPEND_REPLY)->message.as.append_reply;
}

static void terms_are(const struct group *group, const char *terms)
{
    ls_index last = strlen(terms);
    assert_int_equal(group->nodes[0].ready.last, last);
    for (ls_index i = 1; i <= last; i++) {
        assert_int_equal(ls_core_term_at(group->nodes[0].core, i), terms[i - 1] - '0');
    }
}

TEST(append, P1_an_acknowledgement_waits_for_the_batch_with_its_entries)
{
    struct group *group = follower("");
    struct ls_entry entries[2] = {e(2), e(2)};
    struct ls_message m = append(2, (struct ls_cursor){1, 1}, entries, 2, 0);
    const struct ls_append_reply *reply = receive(group, m);
    uint64_t seq = group->nodes[0].ready.persist_seq;
    assert_true(reply->accepted);
    assert_int_equal(reply->match, 3);
    assert_int_equal(node_sent(group, 0, LS_MESSAGE_APPEND_REPLY)->after, seq);
    assert_int_equal(group->nodes[0].ready.append_first, 2);
    assert_int_equal(group->nodes[0].ready.entries_count, 2);
    /* repeated before the disk is done: nothing to write, still to be waited for */
    (void)receive(group, m);
    assert_int_equal(group->nodes[0].ready.persist_seq, 0);
    assert_int_equal(node_sent(group, 0, LS_MESSAGE_APPEND_REPLY)->after, seq);
    group_free(group);
}

/* L12: a log of a term is never durable without the term. */
TEST(append, L12_term_and_entries_are_one_batch)
{
    struct group *group = follower("");
    struct ls_entry entries[1] = {e(7)};
    (void)receive(group, append(7, (struct ls_cursor){1, 1}, entries, 1, 0));
    const struct ls_ready *ready = &group->nodes[0].ready;
    assert_true(ready->hard_state_changed);
    assert_int_equal(ready->hard_state.term, 7);
    assert_int_equal(ready->entries_count, 1);
    group_free(group);
}

TEST(append, P4_L6_match_is_what_this_message_verified_not_the_last_index)
{
    struct group *group = follower("1111");
    const struct ls_append_reply *reply =
        receive(group, append(2, (struct ls_cursor){1, 3}, NULL, 0, 0));
    assert_true(reply->accepted);
    assert_int_equal(reply->match, 3);
    assert_int_equal(reply->last, 5);
    group_free(group);
}

/* C2: min(leader's commit, index of the last verified entry). */
TEST(append, P4_C2_commit_is_bounded_by_what_this_leader_verified)
{
    struct group *group = follower("1111");
    (void)receive(group, append(2, (struct ls_cursor){1, 2}, NULL, 0, 5));
    assert_int_equal(group->nodes[0].ready.commit, 2);
    struct ls_message beat = test_message(LS_MESSAGE_HEARTBEAT, 1, 0, 2);
    beat.as.heartbeat = (struct ls_heartbeat){.commit = 5, .round = 1};
    node_receive(group, 0, &beat);
    assert_int_equal(group->nodes[0].ready.commit, 2);
    (void)receive(group, append(2, (struct ls_cursor){1, 4}, NULL, 0, 0));
    assert_int_equal(group->nodes[0].ready.commit, 4); /* what the heartbeat told is remembered */
    beat.term = 3;
    beat.as.heartbeat.commit = 5;
    node_receive(group, 0, &beat); /* another term: nothing of it is verified */
    assert_int_equal(group->nodes[0].ready.commit, 4);
    group_free(group);
}

TEST(append, P4_L2_a_shorter_or_delayed_append_removes_nothing)
{
    struct group *group = follower("11222");
    struct ls_entry entries[2] = {e(1), e(1)};
    (void)receive(group, append(3, (struct ls_cursor){1, 1}, entries, 2, 0));
    assert_false(group->nodes[0].ready.truncate);
    terms_are(group, "111222");
    group_free(group);
}

TEST(append, P4_L1_a_conflict_in_the_middle_of_a_batch_truncates_from_there)
{
    struct group *group = follower("1122");
    struct ls_entry entries[4] = {e(1), e(1), e(3), e(3)};
    const struct ls_append_reply *reply =
        receive(group, append(3, (struct ls_cursor){1, 1}, entries, 4, 0));
    const struct ls_ready *ready = &group->nodes[0].ready;
    assert_true(ready->truncate);
    assert_int_equal(ready->truncate_from, 4);
    assert_int_equal(ready->append_first, 4);
    assert_int_equal(ready->entries_count, 2);
    assert_int_equal(ready->durable, 3);
    assert_int_equal(reply->match, 5);
    terms_are(group, "11133");
    group_free(group);
}

TEST(append, P4_L3_a_contradiction_of_a_committed_entry_halts_the_group)
{
    struct group *group = follower("1122");
    (void)receive(group, append(3, (struct ls_cursor){2, 5}, NULL, 0, 4));
    assert_int_equal(group->nodes[0].ready.commit, 4);
    struct ls_entry entries[1] = {e(4)};
    struct ls_message m = append(4, (struct ls_cursor){1, 3}, entries, 1, 4);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.halted, LS_ERR_DIVERGED);
    assert_int_equal(group->nodes[0].ready.messages_count, 0);
    assert_int_equal(group->nodes[0].ready.entries_count, 0);
    assert_string_equal(last_trace, "error consensus/01000000: halted: 14 at term 4 commit 4");
    terms_are(group, "11122");
    struct ls_core_status status;
    ls_core_status(group->nodes[0].core, &status);
    assert_int_equal(status.standing, LS_STANDING_HALTED);
    group_free(group);
}

TEST(append, P4_a_prev_that_contradicts_a_committed_entry_halts_the_group)
{
    struct group *group = follower("1122");
    (void)receive(group, append(3, (struct ls_cursor){2, 5}, NULL, 0, 4));
    struct ls_message m = append(4, (struct ls_cursor){3, 4}, NULL, 0, 4);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.halted, LS_ERR_DIVERGED);
    group_free(group);
}

TEST(append, P9_L5_a_prev_inside_the_pruned_prefix_matches_and_nothing_is_appended_twice)
{
    struct group *group = follower("11111");
    (void)receive(group, append(2, (struct ls_cursor){1, 6}, NULL, 0, 6));
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_PRUNED, .as.pruned = 4});
    struct ls_entry entries[5] = {e(1), e(1), e(1), e(1), e(2)};
    const struct ls_append_reply *reply =
        receive(group, append(2, (struct ls_cursor){1, 2}, entries, 5, 6));
    assert_true(reply->accepted);
    assert_int_equal(reply->match, 7);
    assert_int_equal(group->nodes[0].ready.append_first, 7);
    assert_int_equal(group->nodes[0].ready.entries_count, 1);
    /* all of it below the anchor */
    reply = receive(group, append(2, (struct ls_cursor){1, 1}, entries, 2, 6));
    assert_true(reply->accepted);
    assert_int_equal(reply->match, 3);
    /* L4: from the very beginning */
    reply = receive(group, append(2, (struct ls_cursor){0, 0}, entries, 1, 6));
    assert_true(reply->accepted);
    assert_int_equal(group->nodes[0].ready.last, 7);
    group_free(group);
}

TEST(append, P9_the_cursor_of_the_last_pruned_entry_is_kept_and_matches)
{
    struct group *group = follower("1222");
    (void)receive(group, append(3, (struct ls_cursor){2, 5}, NULL, 0, 5));
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_PRUNED, .as.pruned = 4});
    assert_int_equal(ls_core_term_at(group->nodes[0].core, 4), 2);
    assert_int_equal(ls_core_term_at(group->nodes[0].core, 3), 0);
    struct ls_entry entries[1] = {e(2)};
    assert_true(receive(group, append(3, (struct ls_cursor){2, 4}, entries, 1, 5))->accepted);
    struct ls_entry wrong[1] = {e(1)};
    struct ls_message m = append(3, (struct ls_cursor){1, 3}, wrong, 1, 5);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.halted, LS_ERR_DIVERGED); /* at the anchor itself */
    group_free(group);
}

TEST(append, L14_a_refusal_hints_at_the_last_entry_of_a_term_that_can_match)
{
    struct group *group = follower("11144444");
    const struct ls_append_reply *reply =
        receive(group, append(6, (struct ls_cursor){3, 8}, NULL, 0, 0));
    assert_false(reply->accepted);
    assert_int_equal(reply->hint.index, 4);
    assert_int_equal(reply->hint.term, 1);
    assert_int_equal(reply->prev.index, 8);
    reply = receive(group, append(6, (struct ls_cursor){5, 20}, NULL, 0, 0));
    assert_int_equal(reply->hint.index, 9);
    assert_int_equal(reply->hint.term, 4);
    group_free(group);
}

TEST(append, L10_a_leader_of_an_earlier_term_is_told_the_term_and_changes_nothing)
{
    struct group *group = follower("1");
    (void)receive(group, append(5, (struct ls_cursor){1, 2}, NULL, 0, 0));
    struct ls_entry entries[1] = {e(3)};
    const struct ls_append_reply *reply =
        receive(group, append(3, (struct ls_cursor){1, 2}, entries, 1, 2));
    assert_false(reply->accepted);
    assert_int_equal(node_sent(group, 0, LS_MESSAGE_APPEND_REPLY)->message.term, 5);
    assert_int_equal(group->nodes[0].ready.term, 5);
    assert_int_equal(group->nodes[0].ready.last, 2);
    assert_int_equal(group->nodes[0].ready.commit, 0);
    group_free(group);
}

/* L11: appended, rewritten in another term, and only then the first sync completes. */
TEST(append, L11_a_late_sync_of_rewritten_entries_makes_nothing_durable)
{
    struct group *group = follower("");
    struct ls_entry old[2] = {e(2), e(2)};
    struct ls_entry young[2] = {e(3), e(3)};
    (void)receive(group, append(2, (struct ls_cursor){1, 1}, old, 2, 0));
    uint64_t first = group->nodes[0].ready.persist_seq;
    (void)receive(group, append(3, (struct ls_cursor){1, 1}, young, 2, 0));
    uint64_t second = group->nodes[0].ready.persist_seq;
    assert_int_equal(node_sent(group, 0, LS_MESSAGE_APPEND_REPLY)->after, second);
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_PERSISTED, .as.persisted_seq = first});
    assert_int_equal(group->nodes[0].ready.durable, 1);
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_PERSISTED, .as.persisted_seq = second});
    assert_int_equal(group->nodes[0].ready.durable, 3);
    group_free(group);
}

/* Only a restored backup makes a leader rewrite what it sent in the same term. */
TEST(append, P4_what_is_truncated_is_not_verified_any_more)
{
    struct group *group = follower("");
    struct ls_entry first[2] = {e(2), e(2)};
    struct ls_entry second[1] = {e(3)};
    (void)receive(group, append(3, (struct ls_cursor){1, 1}, first, 2, 0));
    assert_int_equal(receive(group, append(3, (struct ls_cursor){1, 1}, second, 1, 3))->match, 2);
    terms_are(group, "13");
    assert_int_equal(group->nodes[0].ready.commit, 2);
    group_free(group);
}

TEST(append, L17_an_append_without_entries_verifies_its_prev)
{
    struct group *group = follower("");
    assert_true(receive(group, append(2, (struct ls_cursor){1, 1}, NULL, 0, 0))->accepted);
    assert_false(receive(group, append(2, (struct ls_cursor){1, 2}, NULL, 0, 0))->accepted);
    group_free(group);
}

TEST(append, a_gap_is_handed_to_state_sync_with_the_entries_that_revealed_it)
{
    struct group *group = follower("");
    struct ls_entry entries[2] = {e(2), e(2)};
    struct ls_message m = append(2, (struct ls_cursor){2, 50}, entries, 2, 40);
    (void)receive(group, m);
    assert_false(group->nodes[0].ready.gap); /* the leader can send it itself */
    m.as.append.syncing = true;
    const struct ls_append_reply *reply = receive(group, m);
    assert_false(reply->accepted);
    assert_true(group->nodes[0].ready.gap);
    assert_int_equal(group->nodes[0].ready.gap_target, 40);
    assert_int_equal(group->nodes[0].ready.gap_prev.index, 50);
    assert_ptr_equal(group->nodes[0].ready.gap_entries, entries);
    assert_int_equal(group->nodes[0].ready.gap_entries_count, 2);
    struct ls_message beat = test_message(LS_MESSAGE_HEARTBEAT, 1, 0, 2);
    beat.as.heartbeat = (struct ls_heartbeat){.commit = 45, .round = 1, .syncing = true};
    node_receive(group, 0, &beat);
    assert_true(group->nodes[0].ready.gap);
    assert_int_equal(group->nodes[0].ready.gap_target, 45);
    assert_int_equal(group->nodes[0].ready.gap_entries_count, 0);
    group_free(group);
}

TEST(append, a_second_leader_of_one_term_is_ignored_with_a_trace)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    struct ls_message m = append(2, (struct ls_cursor){1, 1}, NULL, 0, 0);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    assert_int_equal(group->nodes[0].ready.messages_count, 0);
    assert_string_equal(last_trace,
                        "error consensus/01000000: a1000000 also leads term 2: ignored");
    group_free(group);
}

/* ---- configurations in the log ---- */

static struct ls_entry configuration_entry(ls_term term, unsigned voters, uint8_t *bytes)
{
    struct ls_configuration configuration = test_configuration(voters, voters, true);
    size_t written = 0;
    assert_ok(ls_configuration_encode(&test_env.codec, &configuration, bytes,
                                      LS_CONFIGURATION_BYTES_MAX, &written));
    return (struct ls_entry){term, LS_ENTRY_CONFIGURATION, {bytes, written}};
}

TEST(append, P5_a_configuration_acts_when_it_is_appended)
{
    struct group *group = follower("");
    static uint8_t bytes[LS_CONFIGURATION_BYTES_MAX];
    struct ls_entry entries[1] = {configuration_entry(2, 5, bytes)};
    (void)receive(group, append(2, (struct ls_cursor){1, 1}, entries, 1, 0));
    assert_true(group->nodes[0].ready.configuration_changed);
    assert_int_equal(group->nodes[0].ready.configuration->index, 2);
    assert_int_equal(group->nodes[0].ready.configuration->configuration.count, 5);
    assert_int_equal(group->nodes[0].ready.commit, 0);
    group_free(group);
}

/* M2 */
TEST(append, P5_truncation_reverts_across_several_configurations)
{
    struct group *group = follower("");
    static uint8_t bytes[2][LS_CONFIGURATION_BYTES_MAX];
    struct ls_entry entries[4] = {e(2), configuration_entry(2, 4, bytes[0]), e(2),
                                  configuration_entry(2, 5, bytes[1])};
    (void)receive(group, append(2, (struct ls_cursor){1, 1}, entries, 4, 0));
    assert_int_equal(group->nodes[0].ready.configuration->configuration.count, 5);
    struct ls_entry other[1] = {e(3)};
    (void)receive(group, append(3, (struct ls_cursor){1, 1}, other, 1, 0));
    assert_true(group->nodes[0].ready.configuration_changed);
    assert_int_equal(group->nodes[0].ready.configuration->index, 1);
    assert_int_equal(group->nodes[0].ready.configuration->configuration.count, 3);
    group_free(group);
}

TEST(append, P5_truncation_and_a_new_configuration_in_one_append)
{
    struct group *group = follower("");
    static uint8_t bytes[2][LS_CONFIGURATION_BYTES_MAX];
    struct ls_entry old[2] = {configuration_entry(2, 4, bytes[0]), e(2)};
    struct ls_entry young[2] = {e(3), configuration_entry(3, 5, bytes[1])};
    (void)receive(group, append(2, (struct ls_cursor){1, 1}, old, 2, 0));
    (void)receive(group, append(3, (struct ls_cursor){1, 1}, young, 2, 0));
    assert_int_equal(group->nodes[0].ready.configuration->index, 3);
    assert_int_equal(group->nodes[0].ready.configuration->configuration.count, 5);
    group_free(group);
}

TEST(append, P5_truncation_of_the_first_configuration_goes_back_to_founding)
{
    struct group *group = group_prepare(3, 3, true);
    group_open(group);
    static uint8_t bytes[LS_CONFIGURATION_BYTES_MAX];
    struct ls_entry entries[2] = {configuration_entry(1, 3, bytes), e(1)};
    (void)receive(group, append(1, (struct ls_cursor){0, 0}, entries, 2, 0));
    assert_non_null(group->nodes[0].ready.configuration);
    entries[0].term = 2;
    entries[0].kind = LS_ENTRY_COMMAND;
    (void)receive(group, append(2, (struct ls_cursor){0, 0}, entries, 1, 0));
    assert_null(group->nodes[0].ready.configuration);
    group_free(group);
}

TEST(append, a_configuration_that_cannot_be_read_refuses_the_whole_message)
{
    struct group *group = follower("");
    struct ls_entry entries[2] = {e(2), {2, LS_ENTRY_CONFIGURATION, {"nonsense", 8}}};
    struct ls_message m = append(2, (struct ls_cursor){1, 1}, entries, 2, 0);
    node_receive(group, 0, &m);
    assert_int_equal(group->nodes[0].ready.messages_count, 0);
    assert_int_equal(group->nodes[0].ready.persist_seq, 0);
    assert_int_equal(group->nodes[0].ready.term, 1);
    assert_int_equal(group->nodes[0].ready.last, 1);
    group_free(group);
}

/* M14 */
TEST(append, a_pruned_log_keeps_the_configuration_in_force_at_its_anchor)
{
    struct group *group = follower("");
    static uint8_t bytes[2][LS_CONFIGURATION_BYTES_MAX];
    struct ls_entry entries[4] = {configuration_entry(2, 4, bytes[0]), e(2), e(2),
                                  configuration_entry(2, 5, bytes[1])};
    (void)receive(group, append(2, (struct ls_cursor){1, 1}, entries, 4, 5));
    node_sync(group, 0);
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_PRUNED, .as.pruned = 3});
    struct ls_core_status status;
    ls_core_status(group->nodes[0].core, &status);
    assert_int_equal(status.anchor.index, 3);
    assert_int_equal(status.configuration->index, 5);
    group_free(group);
}
