/* SPDX-License-Identifier: MIT */
/* Configurations and messages as values: what is well formed, and what is not. */
#include "cores.h"

static struct ls_configuration good(void)
{
    return test_configuration(3, 4, true);
}

TEST(configuration, accepts_voters_and_observers_and_a_joint_set)
{
    struct ls_configuration configuration = good();
    assert_null(ls_configuration_invalid(&configuration));
    configuration.joint = true;
    configuration.members[3].outgoing_voter = true;
    assert_null(ls_configuration_invalid(&configuration));
}

TEST(configuration, names_what_is_wrong)
{
    struct ls_configuration c = good();
    c.count = 0;
    assert_non_null(ls_configuration_invalid(&c));
    c.count = LS_MEMBERS_MAX + 1;
    assert_non_null(ls_configuration_invalid(&c));
    c = good();
    c.members[1].id = c.members[0].id;
    assert_string_equal(ls_configuration_invalid(&c), "member ids are not ascending");
    c = good();
    c.members[1].name[0] = 'a';
    assert_string_equal(ls_configuration_invalid(&c), "two members have one name");
    c = good();
    c.members[1].name[0] = '\0';
    assert_string_equal(ls_configuration_invalid(&c), "a member has no name");
    c = good();
    c.members[1].name[0] = ' ';
    assert_non_null(ls_configuration_invalid(&c));
    c = good();
    memset(c.members[1].name, 'x', sizeof c.members[1].name);
    assert_non_null(ls_configuration_invalid(&c));
    c = good();
    memset(c.members[1].address, 'x', sizeof c.members[1].address);
    assert_non_null(ls_configuration_invalid(&c));
    c = good();
    c.members[1].role = (enum ls_role_in_configuration)9;
    assert_string_equal(ls_configuration_invalid(&c), "a member has an unknown role");
    c = good();
    memset(&c.members[0].id, 0, sizeof c.members[0].id);
    assert_string_equal(ls_configuration_invalid(&c), "a member's id is zero");
    c = test_configuration(0, 2, false);
    assert_string_equal(ls_configuration_invalid(&c), "a configuration needs a voter");
    c = test_configuration(LS_VOTERS_MAX + 1, LS_VOTERS_MAX + 1, false);
    assert_string_equal(ls_configuration_invalid(&c), "a configuration has too many voters");
    c = good();
    c.joint = true;
    assert_non_null(ls_configuration_invalid(&c));
}

TEST(configuration, is_found_and_sorted_by_id)
{
    struct ls_configuration c = test_configuration(5, 5, true);
    struct ls_configuration sorted = c;
    struct ls_member first = c.members[0];
    c.members[0] = c.members[4];
    c.members[4] = c.members[2];
    c.members[2] = first;
    ls_configuration_sort(&c);
    assert_memory_equal(&c, &sorted, sizeof c);
    for (unsigned i = 0; i < 5; i++) {
        struct ls_peer_id id = test_id(i);
        assert_ptr_equal(ls_configuration_find(&c, &id), &c.members[i]);
    }
    struct ls_peer_id stranger = test_id(9);
    assert_null(ls_configuration_find(&c, &stranger));
}

TEST(configuration, survives_encoding_and_nothing_shorter_or_changed_decodes)
{
    struct ls_configuration c = good();
    struct ls_configuration back;
    uint8_t bytes[LS_CONFIGURATION_BYTES_MAX];
    size_t written = 0;
    memcpy(c.members[2].address, "10.0.0.1:7", 10);
    c.joint = true;
    c.members[0].outgoing_voter = true;
    assert_ok(ls_configuration_encode(&test_env.codec, &c, bytes, sizeof bytes, &written));
    assert_ok(ls_configuration_decode(&test_env.codec, (struct ls_span){bytes, written}, &back));
    assert_memory_equal(&c, &back, sizeof c);
    for (size_t cut = 0; cut < written; cut++) {
        assert_int_equal(
            ls_configuration_decode(&test_env.codec, (struct ls_span){bytes, cut}, &back),
            LS_ERR_PROTOCOL);
    }
    assert_int_equal(ls_configuration_encode(&test_env.codec, &c, bytes, 40, &written),
                     LS_ERR_LIMIT);
}

TEST(configuration, the_largest_one_fits_its_bound)
{
    struct ls_configuration c = test_configuration(LS_VOTERS_MAX, LS_MEMBERS_MAX, true);
    uint8_t bytes[LS_CONFIGURATION_BYTES_MAX];
    size_t written = 0;
    for (unsigned i = 0; i < c.count; i++) {
        memset(c.members[i].name, 'n', LS_NAME_BYTES - 1);
        c.members[i].name[1] = (char)('A' + i % 26);
        c.members[i].name[2] = (char)('A' + i / 26);
        memset(c.members[i].address, 'a', LS_ADDRESS_BYTES - 1);
    }
    assert_null(ls_configuration_invalid(&c));
    assert_ok(ls_configuration_encode(&test_env.codec, &c, bytes, sizeof bytes, &written));
}

/* ---- messages ---- */

static struct ls_message append_of(const struct ls_entry *entries, uint32_t count)
{
    struct ls_message m = test_message(LS_MESSAGE_APPEND, 0, 1, 3);
    m.as.append.prev = (struct ls_cursor){2, 10};
    m.as.append.entries = entries;
    m.as.append.count = count;
    return m;
}

TEST(message, needs_two_members_and_a_term_in_range)
{
    struct ls_message m = test_message(LS_MESSAGE_HEARTBEAT, 0, 1, 1);
    assert_null(ls_message_invalid(&m));
    m.term = 0;
    assert_non_null(ls_message_invalid(&m));
    m.term = UINT64_MAX;
    assert_non_null(ls_message_invalid(&m));
    m = test_message(LS_MESSAGE_HEARTBEAT, 1, 1, 1);
    assert_non_null(ls_message_invalid(&m));
    m = test_message(LS_MESSAGE_HEARTBEAT, 0, 1, 1);
    memset(&m.from, 0, sizeof m.from);
    assert_non_null(ls_message_invalid(&m));
    m = test_message((enum ls_message_kind)99, 0, 1, 1);
    assert_string_equal(ls_message_invalid(&m), "an unknown kind of message");
    m = test_message(LS_MESSAGE_PRE_VOTE_REPLY, 0, 1, 0); /* refused by one who knows no term */
    assert_null(ls_message_invalid(&m));
}

TEST(message, a_candidate_cannot_have_entries_of_the_term_it_starts)
{
    struct ls_message m = test_message(LS_MESSAGE_VOTE, 0, 1, 3);
    m.as.vote.last = (struct ls_cursor){2, 5};
    assert_null(ls_message_invalid(&m));
    m.as.vote.last.term = 3;
    assert_non_null(ls_message_invalid(&m));
    m.as.vote.last = (struct ls_cursor){2, 0};
    assert_string_equal(ls_message_invalid(&m), "a cursor with half a position");
    m = test_message(LS_MESSAGE_VOTE_REPLY, 0, 1, 3);
    m.as.vote_reply.granted = true;
    assert_null(ls_message_invalid(&m));
    m.as.vote_reply.not_member = true;
    assert_non_null(ls_message_invalid(&m));
}

/* L17: an over-long entry alone is legal, zero entries are, and nothing above the limits. */
TEST(message, L17_appends_keep_their_limits_and_their_order)
{
    static const uint8_t byte = 0;
    static struct ls_entry entries[LS_APPEND_ENTRIES_MAX + 1];
    for (unsigned i = 0; i < LS_APPEND_ENTRIES_MAX + 1; i++) {
        entries[i] = (struct ls_entry){2, LS_ENTRY_COMMAND, {&byte, 1}};
    }
    struct ls_message m = append_of(NULL, 0);
    assert_null(ls_message_invalid(&m));
    m = append_of(entries, LS_APPEND_ENTRIES_MAX);
    assert_null(ls_message_invalid(&m));
    m = append_of(entries, LS_APPEND_ENTRIES_MAX + 1);
    assert_non_null(ls_message_invalid(&m));
    m = append_of(NULL, 1);
    assert_string_equal(ls_message_invalid(&m), "entries are missing");
    entries[0].data.bytes = LS_ENTRY_BYTES_MAX;
    m = append_of(entries, 1);
    assert_null(ls_message_invalid(&m));
    m = append_of(entries, 2);
    assert_string_equal(ls_message_invalid(&m), "more bytes than an append holds");
    entries[0].data.bytes = (size_t)LS_ENTRY_BYTES_MAX + 1;
    m = append_of(entries, 1);
    assert_string_equal(ls_message_invalid(&m), "an entry over the limit");
    entries[0] = (struct ls_entry){2, LS_ENTRY_COMMAND, {NULL, 1}};
    assert_string_equal(ls_message_invalid(&m), "an entry without its payload");
    entries[0] = (struct ls_entry){1, LS_ENTRY_COMMAND, {&byte, 1}};
    assert_non_null(ls_message_invalid(&m));
    entries[0].term = 4;
    assert_non_null(ls_message_invalid(&m));
    entries[0] = (struct ls_entry){3, (enum ls_entry_kind)7, {&byte, 1}};
    assert_string_equal(ls_message_invalid(&m), "an unknown kind of entry");
    m = append_of(NULL, 0);
    m.as.append.prev.index = UINT64_MAX;
    assert_string_equal(ls_message_invalid(&m), "an index out of range");
}

TEST(message, replies_do_not_claim_more_than_they_hold)
{
    struct ls_message m = test_message(LS_MESSAGE_APPEND_REPLY, 0, 1, 3);
    m.as.append_reply =
        (struct ls_append_reply){.accepted = true, .prev = {2, 4}, .match = 6, .last = 6};
    assert_null(ls_message_invalid(&m));
    m.as.append_reply.match = 7;
    assert_non_null(ls_message_invalid(&m));
    m.as.append_reply.match = 3;
    assert_string_equal(ls_message_invalid(&m), "accepted less than prev");
    m.as.append_reply =
        (struct ls_append_reply){.prev = {2, 4}, .match = 1, .last = 6, .hint = {1, 3}};
    assert_null(ls_message_invalid(&m));
    m.as.append_reply.hint = (struct ls_cursor){1, 5};
    assert_non_null(ls_message_invalid(&m));
    m.as.append_reply.hint = (struct ls_cursor){3, 3};
    assert_non_null(ls_message_invalid(&m));
    m = test_message(LS_MESSAGE_HEARTBEAT_REPLY, 0, 1, 3);
    m.as.heartbeat_reply.match = 2;
    m.as.heartbeat_reply.last = 1;
    assert_non_null(ls_message_invalid(&m));
}
