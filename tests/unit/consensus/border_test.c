/* SPDX-License-Identifier: MIT */
/*
 * What comes from outside, changed in every place: configurations from a log, messages of a peer,
 * a second leader, and the sentences that tell a user what does not count.
 */
#include "cores.h"

#define VALUES_ALL (4 + LS_MEMBERS_MAX * 7)

/* Things a value may have been replaced with. */
static const struct ls_value others[] = {
    {.kind = LS_VALUE_UINT, .as.number = 0},
    {.kind = LS_VALUE_UINT, .as.number = 1},
    {.kind = LS_VALUE_UINT, .as.number = 99},
    {.kind = LS_VALUE_BYTES, .as.bytes = {"", 0}},
    {.kind = LS_VALUE_BYTES, .as.bytes = {"0123456789abcde", 15}},
    {.kind = LS_VALUE_ARRAY, .as.count = 0},
    {.kind = LS_VALUE_ARRAY, .as.count = 3},
    {.kind = LS_VALUE_ARRAY, .as.count = LS_MEMBERS_MAX + 1},
};

static bool decodes(const struct ls_value *values, size_t count, struct ls_configuration *out)
{
    uint8_t bytes[LS_CONFIGURATION_BYTES_MAX];
    size_t written = 0;
    assert_ok(test_env.codec.encode(NULL, values, count, bytes, sizeof bytes, &written));
    enum ls_status status =
        ls_configuration_decode(&test_env.codec, (struct ls_span){bytes, written}, out);
    assert_true(status == LS_OK || status == LS_ERR_PROTOCOL);
    return status == LS_OK;
}

TEST(border, a_configuration_with_any_value_changed_or_missing_is_refused_or_still_one)
{
    struct ls_configuration configuration = test_configuration(2, 3, true);
    struct ls_configuration out;
    uint8_t bytes[LS_CONFIGURATION_BYTES_MAX];
    struct ls_value values[VALUES_ALL] = {{.as.number = 0}};
    size_t written = 0;
    size_t count = 0;
    assert_ok(
        ls_configuration_encode(&test_env.codec, &configuration, bytes, sizeof bytes, &written));
    assert_ok(
        test_env.codec.decode(NULL, (struct ls_span){bytes, written}, values, VALUES_ALL, &count));
    assert_true(decodes(values, count, &out));
    unsigned refused = 0;
    unsigned kept = 0;
    for (size_t at = 0; at < count; at++) {
        struct ls_value was = values[at];
        for (size_t other = 0; other < sizeof others / sizeof others[0]; other++) {
            values[at] = others[other];
            bool taken = decodes(values, count, &out);
            assert_true(!taken || ls_configuration_invalid(&out) == NULL);
            assert_true(!taken || values[at].kind == was.kind);
            refused += !taken;
            kept += taken;
        }
        values[at] = was;
        assert_false(decodes(values, at, &out)); /* it ends too early */
    }
    assert_true(refused > 150 && kept > 10);
}

TEST(border, every_standing_has_its_own_sentence)
{
    for (int a = LS_STANDING_COUNTS; a <= LS_STANDING_HALTED; a++) {
        const char *text = ls_standing_text((enum ls_standing)a);
        assert_true(text != NULL && strlen(text) > 3);
        assert_true((strncmp(text, "does not count", 14) == 0) ==
                    (a != LS_STANDING_COUNTS && a != LS_STANDING_FOUNDING));
        for (int b = LS_STANDING_COUNTS; b < a; b++) {
            assert_string_not_equal(text, ls_standing_text((enum ls_standing)b));
        }
    }
}

/* E19: it cannot be; if it is, the one that leads goes on, and says so. */
TEST(border, E19_a_second_leader_of_the_term_is_told_and_ignored)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    ls_term term = group->nodes[0].ready.term;
    ls_index commit = group->nodes[0].ready.commit;
    struct ls_message message = test_message(LS_MESSAGE_HEARTBEAT, 1, 0, term);
    message.as.heartbeat = (struct ls_heartbeat){.commit = commit + 100, .round = 1};
    last_trace[0] = '\0';
    node_receive(group, 0, &message);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    assert_int_equal(group->nodes[0].ready.term, term);
    assert_int_equal(group->nodes[0].ready.commit, commit);
    assert_int_equal(node_sends(group, 0, LS_MESSAGE_HEARTBEAT_REPLY), 0);
    assert_non_null(strstr(last_trace, "also leads term"));
    group_free(group);
}

static struct ls_event synced(const struct node *node, const struct ls_entry *entry)
{
    ls_index last = node->ready.commit;
    struct ls_event event = {.kind = LS_EVENT_SYNCED};
    event.as.synced.prev = (struct ls_cursor){ls_core_term_at(node->core, last), last};
    event.as.synced.entries = entry;
    event.as.synced.count = 1;
    event.as.synced.commit = last + 1;
    return event;
}

TEST(border, a_leader_takes_no_fetched_entries)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    const struct node *node = &group->nodes[0];
    ls_term term = node->ready.term;
    ls_index last = node->ready.last;
    struct ls_entry entry = {term + 3, LS_ENTRY_COMMAND, {"x", 1}};
    node_step(group, 0, synced(node, &entry));
    assert_int_equal(node->ready.role, LS_ROLE_LEADER);
    assert_int_equal(node->ready.term, term);
    assert_int_equal(node->ready.last, last);
    assert_int_equal(node->ready.persist_seq, 0);
    group_free(group);
}

/* Alone, past its timeout: it asks for votes of a term above its own. */
static struct group *campaigning(void)
{
    struct group *group = group_new(3, 3);
    group->now += 2 * ELECTION;
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_TICK});
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_PRE_CANDIDATE);
    return group;
}

/* P4: what is fetched ends a campaign; a term above the own is raised in the same batch. */
TEST(border, P4_fetched_entries_end_a_campaign_and_raise_the_term_with_them)
{
    for (ls_term above = 0; above <= 3; above += 3) {
        struct group *group = campaigning();
        const struct node *node = &group->nodes[0];
        ls_term term = node->ready.hard_state.term;
        ls_index last = node->ready.last;
        struct ls_entry entry = {term + above, LS_ENTRY_COMMAND, {"x", 1}};
        struct ls_event event = synced(node, &entry);
        event.as.synced.prev = (struct ls_cursor){ls_core_term_at(node->core, last), last};
        event.as.synced.commit = last + 1;
        node_step(group, 0, event);
        assert_int_equal(node->ready.role, LS_ROLE_FOLLOWER);
        assert_int_equal(node->ready.hard_state.term, term + above);
        assert_int_equal(node->ready.hard_state_changed, above > 0);
        assert_true(node->ready.persist_seq != 0 && node->ready.entries_count == 1);
        assert_int_equal(node->ready.commit, last + 1);
        group_free(group);
    }
}

TEST(border, P4_a_restored_state_ends_a_campaign_and_raises_the_term_with_it)
{
    for (ls_term above = 0; above <= 2; above += 2) {
        struct group *group = campaigning();
        const struct node *node = &group->nodes[0];
        ls_term term = node->ready.hard_state.term;
        ls_index anchor = node->ready.last + 50;
        struct ls_configuration configuration = test_configuration(3, 3, true);
        struct ls_event event = {.kind = LS_EVENT_RESTORED};
        event.as.restored.anchor = (struct ls_cursor){term + above, anchor};
        event.as.restored.configuration = &configuration;
        event.as.restored.configuration_index = 1;
        const struct ls_ready *ready = NULL;
        event.now_us = group->now;
        assert_ok(ls_core_step(node->core, &event, &ready));
        ls_core_check(node->core);
        assert_int_equal(ready->role, LS_ROLE_FOLLOWER);
        assert_int_equal(ready->hard_state.term, term + above);
        assert_int_equal(ready->hard_state_changed, above > 0);
        assert_true(ready->persist_seq != 0 && ready->reset && ready->anchor.index == anchor);
        assert_int_equal(ready->commit, anchor);
        group_free(group);
    }
}

/* Storage may tell of the same prefix again: nothing happens. */
TEST(border, a_prefix_that_was_removed_before_is_removed_no_further)
{
    struct group *group = group_new(3, 3);
    group_elect(group, 0);
    group_propose(group, 0, 5, 8);
    group_settle(group);
    const struct node *node = &group->nodes[0];
    assert_true(node->ready.commit >= 4 && node->ready.durable >= 4);
    for (ls_index upto = 3; upto >= 1; upto--) {
        const struct ls_ready *ready = NULL;
        struct ls_event event = {.kind = LS_EVENT_PRUNED, .now_us = group->now, .as.pruned = upto};
        assert_ok(ls_core_step(node->core, &event, &ready));
        ls_core_check(node->core);
        assert_true(ls_core_term_at(node->core, 3) != 0);
        assert_true(ls_core_term_at(node->core, 2) == 0);
    }
    group_free(group);
}

/* What no correct peer can have sent does not reach a core. */
TEST(border, every_kind_of_message_needs_two_members_and_a_term)
{
    for (int kind = LS_MESSAGE_PRE_VOTE; kind <= LS_MESSAGE_TIMEOUT_NOW; kind++) {
        const struct ls_message good = test_message((enum ls_message_kind)kind, 1, 0, 3);
        bool refusal = kind == LS_MESSAGE_PRE_VOTE_REPLY || kind == LS_MESSAGE_VOTE_REPLY ||
                       kind == LS_MESSAGE_READ_INDEX_REPLY;
        struct ls_message message = good;
        assert_null(ls_message_invalid(&message));
        message.term = 0;
        assert_int_equal(ls_message_invalid(&message) == NULL, refusal);
        message.term = UINT64_MAX;
        assert_string_equal(ls_message_invalid(&message), "a term out of range");
        message = good;
        message.to = message.from;
        assert_string_equal(ls_message_invalid(&message), "from and to the same member");
        memset(&message.to, 0, sizeof message.to);
        assert_string_equal(ls_message_invalid(&message), "from or to nobody");
    }
    struct ls_message unknown = test_message((enum ls_message_kind)99, 1, 0, 3);
    assert_string_equal(ls_message_invalid(&unknown), "an unknown kind of message");
}

TEST(border, positions_of_a_message_are_whole_and_not_of_a_later_term)
{
    static const struct ls_cursor halves[] = {{0, 4}, {1, 0}, {4, 4}};
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++) {
        struct ls_message message = test_message(LS_MESSAGE_VOTE, 1, 0, 3);
        message.as.vote.last = halves[i];
        assert_non_null(ls_message_invalid(&message));
        message = test_message(LS_MESSAGE_APPEND, 1, 0, 3);
        message.as.append.prev = halves[i];
        assert_non_null(ls_message_invalid(&message));
        message = test_message(LS_MESSAGE_APPEND_REPLY, 1, 0, 3);
        message.as.append_reply.prev = (struct ls_cursor){9, 9};
        message.as.append_reply.hint = halves[i];
        assert_non_null(ls_message_invalid(&message));
        message.as.append_reply = (struct ls_append_reply){.prev = halves[i]};
        /* what it echoes may be of any term */
        assert_int_equal(ls_message_invalid(&message) == NULL, halves[i].term == 4);
    }
}
