/* SPDX-License-Identifier: MIT */
/* What a core refuses to start from; and that a refused allocation changes nothing, whichever. */
#include "cores.h"

struct start {
    struct ls_core_config config;
    struct ls_group_id group;
    struct ls_configuration founders;
    struct ls_configuration_at configurations[2];
    struct ls_cursor runs[3];
    uint32_t cached[10];
};

static struct start *start_good(void)
{
    static struct start s;
    memset(&s, 0, sizeof s);
    s.founders = test_configuration(3, 3, false);
    s.configurations[0] = (struct ls_configuration_at){1, test_configuration(3, 3, true)};
    s.configurations[1] = (struct ls_configuration_at){6, test_configuration(5, 5, true)};
    s.runs[0] = (struct ls_cursor){1, 1};
    s.runs[1] = (struct ls_cursor){3, 5};
    s.runs[2] = (struct ls_cursor){4, 9};
    s.config = (struct ls_core_config){.size = sizeof s.config,
                                       .env = &test_env,
                                       .group = &s.group,
                                       .self = test_id(0),
                                       .incarnation = test_incarnation(0, 0),
                                       .hard_state = {.term = 4},
                                       .runs = s.runs,
                                       .runs_count = 3,
                                       .last = 10,
                                       .configurations = s.configurations,
                                       .configurations_count = 2,
                                       .cached_bytes = s.cached,
                                       .cached_count = 10,
                                       .commit_floor = 7,
                                       .applied = 5,
                                       .founders = &s.founders,
                                       .seed = 1,
                                       .election_ms = 1000,
                                       .heartbeat_ms = 100,
                                       .reluctance = 1,
                                       .window_bytes = 1000,
                                       .cache_bytes = 1000};
    return &s;
}

static void refused(const struct start *s, enum ls_status expected, const char *text)
{
    struct ls_core *core = NULL;
    struct ls_error error = {.status = LS_OK};
    assert_int_equal(ls_core_open(&s->config, &core, &error), expected);
    assert_null(core);
    assert_int_equal(error.status, expected);
    assert_string_equal(error.text, text);
}

TEST(open, starts_from_a_log_with_terms_and_configurations)
{
    struct ls_core *core = NULL;
    struct ls_core_status status;
    assert_ok(ls_core_open(&start_good()->config, &core, NULL));
    ls_core_check(core);
    ls_core_status(core, &status);
    assert_int_equal(status.commit, 7);
    assert_int_equal(status.applied, 5);
    assert_int_equal(status.durable, 10);
    assert_int_equal(status.configuration->index, 6);
    assert_int_equal(ls_core_term_at(core, 8), 3);
    ls_core_close(core);
    ls_core_close(NULL);
}

TEST(open, refuses_settings_out_of_range)
{
    struct start *s = start_good();
    s->config.heartbeat_ms = 1000;
    refused(s, LS_ERR_INVALID,
            "core: election_ms and heartbeat_ms are wrong: expected 0 < heartbeat < election");
    s = start_good();
    s->config.reluctance = 0;
    refused(s, LS_ERR_INVALID, "core: reluctance is 0: expected 1 (normal) or a factor above");
    s = start_good();
    s->config.self = test_id(9);
    refused(s, LS_ERR_INVALID, "core: this member is neither in the configuration nor a founder");
    s = start_good();
    s->config.env = NULL;
    refused(s, LS_ERR_INVALID, "core: env, group and self are required");
    s = start_good();
    s->config.size = 8;
    refused(s, LS_ERR_INVALID, "core: the size of the settings is not the one of this build");
    s = start_good();
    s->founders.members[0].name[0] = '\0';
    refused(s, LS_ERR_INVALID, "a member has no name");
}

TEST(open, P12_a_log_that_ends_below_what_was_applied_is_a_fault)
{
    struct start *s = start_good();
    s->config.commit_floor = 11;
    refused(s, LS_ERR_CORRUPT, "core: the commit floor is outside the log");
    s = start_good();
    s->config.applied = 8;
    refused(s, LS_ERR_CORRUPT, "core: the machine has applied more than the log holds");
}

/* S2: among them a log that does not begin behind its anchor */
TEST(open, refuses_parts_that_contradict_each_other)
{
    struct start *s = start_good();
    s->runs[1].term = 1;
    refused(s, LS_ERR_CORRUPT, "core: the runs of terms are not ascending");
    s = start_good();
    s->runs[2].index = 11;
    refused(s, LS_ERR_CORRUPT, "core: the runs of terms are not ascending");
    s = start_good();
    s->config.runs_count = 0;
    refused(s, LS_ERR_CORRUPT, "core: the runs of terms do not cover the log");
    s = start_good();
    s->config.hard_state.term = 3;
    refused(s, LS_ERR_CORRUPT, "core: the log has a later term than the hard state");
    s = start_good();
    s->config.hard_state.vote = test_id(1);
    refused(s, LS_ERR_CORRUPT, "core: the hard state has a vote and has not voted");
    s = start_good();
    s->config.cached_count = 11;
    refused(s, LS_ERR_CORRUPT, "core: more entries cached than the log holds");
    s = start_good();
    s->configurations[1].index = 11;
    refused(s, LS_ERR_CORRUPT, "core: the configurations are not ascending within the log");
    s = start_good();
    s->configurations[0].configuration.count = 0;
    refused(s, LS_ERR_CORRUPT, "a configuration has 1 to 31 members");
    s = start_good();
    s->config.anchor.index = 3;
    refused(s, LS_ERR_CORRUPT, "core: the anchor is half a position");
    s = start_good();
    s->config.anchor = (struct ls_cursor){1, 3};
    s->runs[0].index = 4;
    s->config.cached_count = 0;
    s->config.configurations_count = 0;
    refused(s, LS_ERR_CORRUPT, "core: no configuration is known at the anchor");
}

TEST(open, a_refused_allocation_opens_nothing_and_leaks_nothing)
{
    unsigned refusals = 0;
    for (uint64_t k = 0;; k++) {
        struct ls_core *core = NULL;
        struct start *s = start_good();
        s->config.configurations_count = k % 2 == 0 ? 2 : 0;
        alloc_left = k / 2;
        enum ls_status status = ls_core_open(&s->config, &core, NULL);
        alloc_left = UINT64_MAX;
        if (status == LS_OK) {
            ls_core_close(core);
            if (k % 2 == 1) {
                break;
            }
            continue;
        }
        assert_int_equal(status, LS_ERR_NO_MEMORY);
        assert_null(core);
        refusals++;
    }
    assert_true(refusals >= 6);
}

/* ---- allocation k fails, for all k, on every event ---- */

/* One step after which every growth that was refused is tried again: first with k allocations. */
static void refuse_each(struct group *group, unsigned at, struct ls_event event, uint64_t *refusals)
{
    struct node *node = &group->nodes[at];
    event.now_us = group->now;
    for (uint64_t k = 0; k < 100; k++) {
        struct ls_core_status before;
        struct ls_core_status after;
        memset(&before, 0, sizeof before); /* an array is set as far as its count */
        memset(&after, 0, sizeof after);
        const struct ls_ready *ready = NULL;
        ls_core_status(node->core, &before);
        alloc_left = k;
        enum ls_status status = ls_core_step(node->core, &event, &ready);
        alloc_left = UINT64_MAX;
        if (status == LS_OK) {
            ls_core_check(node->core);
            node->ready = *ready;
            return;
        }
        assert_int_equal(status, LS_ERR_NO_MEMORY);
        (*refusals)++;
        ls_core_check(node->core);
        ls_core_status(node->core, &after);
        /* the array of configurations may have moved, what it says may not have changed */
        assert_true((before.configuration == NULL) == (after.configuration == NULL));
        before.configuration = after.configuration = NULL;
        assert_memory_equal(&before, &after, sizeof before);
    }
    fail_msg("an event never succeeds");
}

static struct ls_event message_event(const struct ls_message *message)
{
    assert_null(ls_message_invalid(message));
    return (struct ls_event){.kind = LS_EVENT_MESSAGE, .as.message = message};
}

TEST(memory, a_refused_allocation_leaves_a_founder_and_leader_unchanged_on_every_event)
{
    uint64_t refusals = 0;
    struct group *group = group_prepare(3, 3, true);
    group_open(group);
    group->now += 2 * ELECTION;
    refuse_each(group, 0, (struct ls_event){.kind = LS_EVENT_TICK}, &refusals);
    for (unsigned i = 1; i < 3; i++) {
        struct ls_message m = test_message(LS_MESSAGE_PRE_VOTE_REPLY, i, 0, 1);
        m.as.vote_reply.granted = true;
        refuse_each(group, 0, message_event(&m), &refusals);
    }
    uint64_t seq = group->nodes[0].ready.persist_seq;
    for (unsigned i = 1; i < 3; i++) {
        struct ls_message m = test_message(LS_MESSAGE_VOTE_REPLY, i, 0, 1);
        m.as.vote_reply.granted = true;
        refuse_each(group, 0, message_event(&m), &refusals);
    }
    refuse_each(group, 0, (struct ls_event){.kind = LS_EVENT_PERSISTED, .as.persisted_seq = seq},
                &refusals);
    assert_int_equal(group->nodes[0].ready.role, LS_ROLE_LEADER);
    static struct ls_entry entries[1000];
    for (unsigned i = 0; i < 1000; i++) {
        entries[i] = (struct ls_entry){0, LS_ENTRY_COMMAND, {"x", 1}};
    }
    uint64_t before = refusals;
    for (unsigned round = 0; round < 40; round++) {
        refuse_each(group, 0,
                    (struct ls_event){.kind = LS_EVENT_PROPOSE,
                                      .as.propose = {.entries = entries, .count = 1 + 24 * round}},
                    &refusals);
        refuse_each(group, 0, (struct ls_event){.kind = LS_EVENT_READ, .as.read_token = round},
                    &refusals);
        struct ls_message ask = test_message(LS_MESSAGE_READ_INDEX, 1, 0, 1);
        ask.as.read_index.token = round;
        refuse_each(group, 0, message_event(&ask), &refusals);
    }
    assert_true(refusals > before + 10);
    struct ls_message m = test_message(LS_MESSAGE_APPEND_REPLY, 1, 0, 1);
    m.as.append_reply =
        (struct ls_append_reply){.accepted = true, .counts = true, .match = 2, .last = 2};
    refuse_each(group, 0, message_event(&m), &refusals);
    refuse_each(group, 0,
                (struct ls_event){.kind = LS_EVENT_PERSISTED,
                                  .as.persisted_seq = group->nodes[0].ready.persist_seq},
                &refusals);
    struct ls_message beat = test_message(LS_MESSAGE_HEARTBEAT, 2, 0, 9);
    beat.as.heartbeat.round = 1;
    refuse_each(group, 0, message_event(&beat), &refusals); /* deposed: every read is answered */
    assert_true(group->nodes[0].ready.reads_count > 10);
    group_free(group);
}

TEST(memory, a_refused_allocation_leaves_a_follower_unchanged_on_every_event)
{
    uint64_t refusals = 0;
    struct group *group = group_new(3, 3);
    static uint8_t bytes[LS_CONFIGURATION_BYTES_MAX];
    static struct ls_entry entries[400];
    struct ls_configuration configuration = test_configuration(3, 5, true);
    size_t written = 0;
    assert_ok(
        ls_configuration_encode(&test_env.codec, &configuration, bytes, sizeof bytes, &written));
    ls_index last = 1;
    for (ls_term term = 2; term < 22; term++) { /* each append: new runs, configurations, sizes */
        uint32_t count = 20 * (uint32_t)(term - 1);
        for (uint32_t i = 0; i < count; i++) {
            entries[i] = i % 7 == 0
                             ? (struct ls_entry){term, LS_ENTRY_CONFIGURATION, {bytes, written}}
                             : (struct ls_entry){term, LS_ENTRY_COMMAND, {"x", 1}};
        }
        struct ls_message m = test_message(LS_MESSAGE_APPEND, 1, 0, term);
        m.as.append = (struct ls_append){
            .prev = {term - 1, last}, .entries = entries, .count = count, .commit = last};
        refuse_each(group, 0, message_event(&m), &refusals);
        last += count;
        assert_int_equal(group->nodes[0].ready.last, last);
    }
    struct ls_event event = {.kind = LS_EVENT_SYNCED};
    event.as.synced.prev = (struct ls_cursor){21, last};
    event.as.synced.entries = entries;
    event.as.synced.count = 400;
    refuse_each(group, 0, event, &refusals);
    event = (struct ls_event){.kind = LS_EVENT_RESTORED};
    event.as.restored.anchor = (struct ls_cursor){30, 90000};
    event.as.restored.configuration = &configuration;
    event.as.restored.configuration_index = 1;
    refuse_each(group, 0, event, &refusals);
    assert_int_equal(group->nodes[0].ready.last, 90000);
    assert_true(refusals > 10);
    group_free(group);
}

static void work(struct group *group, uint64_t token)
{
    group_propose(group, 0, 4, 100);
    node_step(group, 0, (struct ls_event){.kind = LS_EVENT_READ, .as.read_token = token});
    group_settle(group);
    assert_int_equal(group->nodes[0].results_count, 1);
    group->nodes[0].results_count = 0;
}

TEST(memory, the_steady_path_allocates_nothing)
{
    struct group *group = group_prepare(3, 3, false);
    group->cache_bytes = 4000;
    group_open(group);
    group_elect(group, 0);
    for (unsigned i = 0; i < 200; i++) { /* until every array has its size */
        work(group, i);
    }
    alloc_left = 0;
    for (unsigned i = 0; i < 200; i++) {
        work(group, i);
    }
    alloc_left = UINT64_MAX;
    assert_int_equal(group->nodes[0].ready.commit, 1 + 1 + 400 * 4);
    group_free(group);
}

/* ---- the trail is full ---- */

static struct ls_core *open_full(struct group *group)
{
    static struct ls_cursor runs[LS_TRAIL_RUNS_MAX];
    for (size_t i = 0; i < LS_TRAIL_RUNS_MAX; i++) {
        runs[i] = (struct ls_cursor){i + 1, i + 1};
    }
    struct ls_configuration_at at = {1, test_configuration(3, 3, true)};
    struct ls_group_id id = {{1}};
    struct ls_core_config config = {.size = sizeof config,
                                    .env = &test_env,
                                    .group = &id,
                                    .self = test_id(0),
                                    .incarnation = test_incarnation(0, 0),
                                    .hard_state = {.term = LS_TRAIL_RUNS_MAX},
                                    .runs = runs,
                                    .runs_count = LS_TRAIL_RUNS_MAX,
                                    .last = LS_TRAIL_RUNS_MAX,
                                    .configurations = &at,
                                    .configurations_count = 1,
                                    .now_us = group->now,
                                    .election_ms = 1000,
                                    .heartbeat_ms = 100,
                                    .reluctance = 1,
                                    .window_bytes = 1000,
                                    .cache_bytes = 1000};
    struct ls_core *core = NULL;
    assert_ok(ls_core_open(&config, &core, NULL));
    return core;
}

TEST(open, a_log_with_too_many_terms_halts_and_says_so_instead_of_waiting_for_memory)
{
    struct group *group = group_prepare(3, 3, false);
    for (int by_append = 0; by_append < 2; by_append++) {
        struct ls_core *core = open_full(group);
        const struct ls_ready *ready = NULL;
        struct ls_entry entry = {LS_TRAIL_RUNS_MAX + 1, LS_ENTRY_NOOP, {NULL, 0}};
        struct ls_message m = test_message(LS_MESSAGE_APPEND, 1, 0, LS_TRAIL_RUNS_MAX + 1);
        m.as.append = (struct ls_append){
            .prev = {LS_TRAIL_RUNS_MAX, LS_TRAIL_RUNS_MAX}, .entries = &entry, .count = 1};
        struct ls_event event = {.kind = by_append == 1 ? LS_EVENT_MESSAGE : LS_EVENT_TICK,
                                 .now_us = group->now + 2 * ELECTION};
        if (by_append == 1) {
            event.as.message = &m;
        }
        assert_ok(ls_core_step(core, &event, &ready));
        assert_int_equal(ready->halted, LS_ERR_LIMIT);
        assert_int_equal(ready->deadline_us, UINT64_MAX);
        ls_core_close(core);
    }
    group_free(group);
}

/* ---- a ring full of what is not committed ---- */

TEST(open, a_follower_takes_no_more_uncommitted_entries_than_it_could_send_again)
{
    static struct ls_entry entries[LS_APPEND_ENTRIES_MAX];
    for (size_t i = 0; i < LS_APPEND_ENTRIES_MAX; i++) {
        entries[i] = (struct ls_entry){1, LS_ENTRY_NOOP, {NULL, 0}};
    }
    struct group *group = group_prepare(3, 3, false);
    node_open(group, 0);
    struct ls_core *core = group->nodes[0].core;
    struct ls_message m = test_message(LS_MESSAGE_APPEND, 1, 0, 1);
    struct ls_event event = {.kind = LS_EVENT_MESSAGE, .now_us = group->now, .as.message = &m};
    const struct ls_ready *ready = NULL;
    ls_index last = 1;
    for (unsigned i = 0; i < 20; i++) {
        m.as.append = (struct ls_append){
            .prev = {1, last}, .entries = entries, .count = LS_APPEND_ENTRIES_MAX};
        assert_ok(ls_core_step(core, &event, &ready));
        last = ready->last;
        assert_int_equal(ready->messages[0].message.as.append_reply.match, last);
        assert_true(ready->cache_first <= ready->commit + 1);
    }
    assert_int_equal(last, LS_CACHE_ENTRIES_MAX);
    m.as.append = (struct ls_append){.prev = {1, last}, .commit = last};
    assert_ok(ls_core_step(core, &event, &ready));
    m.as.append.entries = entries;
    m.as.append.count = 1;
    assert_ok(ls_core_step(core, &event, &ready));
    assert_int_equal(ready->last, last + 1); /* what is committed makes room */
    group_free(group);
}
