/* SPDX-License-Identifier: MIT */
/* The ends of groups and nodes: in any order, from any callback, and however little still moves. */
#include "trio.h"

#include <event2/event.h>

#define GROUPS 3u

struct extra {
    struct ls_group *group;
    uint64_t count;
    uint32_t opened, released; /* calls of the machine's open and close */
    enum ls_status refuses;    /* what its open answers */
    ls_index applied;          /* what it says it has applied */
    uint32_t closed;           /* times its `closed` fired */
};

/* A node with one group of the trio's, and more beside it. */
struct several {
    struct trio trio;
    struct extra extras[GROUPS];
};

static struct ls_span extra_signature(void *self)
{
    (void)self;
    return (struct ls_span){"extra/1", 7};
}

static enum ls_status extra_open(void *self, const struct ls_group_id *group,
                                 const struct ls_incarnation *incarnation, ls_index *applied,
                                 struct ls_error *error)
{
    struct extra *extra = self;
    (void)group;
    (void)incarnation;
    extra->opened++;
    *applied = extra->applied;
    return extra->refuses == LS_OK
               ? LS_OK
               : ls_error_set(error, extra->refuses, "the directory belongs to group other");
}

static enum ls_status extra_apply(void *self, const struct ls_command *command,
                                  struct ls_replies *replies)
{
    struct extra *extra = self;
    (void)command;
    extra->count++;
    return ls_reply_set(replies, 0, &extra->count, sizeof extra->count);
}

static enum ls_status extra_query(void *self, struct ls_span query, struct ls_replies *reply)
{
    struct extra *extra = self;
    if (query.bytes == 4) {
        return LS_ERR_NOT_FOUND;
    }
    return ls_reply_set(reply, 0, &extra->count, sizeof extra->count);
}

static void extra_close(void *self)
{
    ((struct extra *)self)->released++;
}

static struct ls_group_options extra_options(const struct several *several, struct extra *extra)
{
    static const char *const names[] = {"one", "two", "three"};
    struct ls_group_options options = several->trio.options;
    options.name = names[extra - several->extras];
    options.member = "a";
    options.founders = several->trio.founders;
    options.founders_count = 1;
    options.machine = (struct ls_machine){.size = sizeof options.machine,
                                          .self = extra,
                                          .signature = extra_signature,
                                          .open = extra_open,
                                          .apply = extra_apply,
                                          .query = extra_query,
                                          .close = extra_close};
    return options;
}

static void join(struct several *several, size_t at)
{
    struct extra *extra = &several->extras[at];
    const struct ls_group_options options = extra_options(several, extra);
    assert_ok(ls_group_join(several->trio.members[0].node, &options, &extra->group, NULL));
}

static void begin(struct several *several)
{
    (void)memset(several, 0, sizeof *several);
    trio_open(&several->trio, 1);
    (void)trio_up(&several->trio);
}

static void on_closed(void *arg)
{
    ((struct extra *)arg)->closed++;
}

static bool all_closed(struct trio *trio, void *arg)
{
    const struct several *several = arg;
    (void)trio;
    for (size_t i = 0; i < GROUPS; i++) {
        if (several->extras[i].closed == 0) {
            return false;
        }
    }
    return true;
}

static bool all_serve(struct trio *trio, void *arg)
{
    const struct several *several = arg;
    (void)trio;
    for (size_t i = 0; i < GROUPS; i++) {
        struct ls_group_status status;
        ls_group_status(several->extras[i].group, &status);
        if (!status.serving) {
            return false;
        }
    }
    return true;
}

TEST(close, of_several_groups_in_any_order_leaves_the_others_alone)
{
    static const size_t orders[6][GROUPS] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                             {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    struct several several;
    begin(&several);
    for (size_t round = 0; round < 6; round++) {
        for (size_t i = 0; i < GROUPS; i++) {
            several.extras[i] = (struct extra){0};
            join(&several, i);
        }
        trio_until(&several.trio, all_serve, &several);
        struct trio_outcome outcomes[GROUPS] = {{0}};
        for (size_t i = 0; i < GROUPS; i++) {
            size_t at = orders[round][i];
            assert_ok(ls_group_execute(several.extras[at].group, (struct ls_span){"x", 1}, NULL,
                                       trio_done, &outcomes[i]));
            ls_group_close(several.extras[at].group, on_closed, &several.extras[at]);
            ls_group_close(several.extras[at].group, NULL,
                           NULL); /* a second time changes nothing */
        }
        trio_until(&several.trio, all_closed, &several);
        for (size_t i = 0; i < GROUPS; i++) {
            assert_int_equal(outcomes[i].times, 1);
            assert_int_equal(several.extras[i].closed, 1);
            assert_int_equal(several.extras[i].opened, 1);
            assert_int_equal(several.extras[i].released, 1);
        }
        assert_int_equal(trio_execute(&several.trio, 0, "x").reply, round + 1);
    }
    trio_close(&several.trio);
}

/* ---- from inside of callbacks ---- */

struct inside {
    struct several *several;
    uint32_t done, waited, closed, node_closed;
    bool whole_node;
};

static void inside_node_closed(void *arg)
{
    ((struct inside *)arg)->node_closed++;
}

static void inside_closed(void *arg)
{
    struct inside *inside = arg;
    inside->closed++;
    if (inside->closed == 1) { /* the second group's end begins in the end of the first */
        ls_group_close(inside->several->extras[1].group, inside_closed, inside);
    } else if (inside->closed == 2 && inside->whole_node) {
        ls_node_close(inside->several->trio.members[0].node, inside_node_closed, inside);
    }
}

static void inside_done(void *arg, const struct ls_outcome *outcome)
{
    struct inside *inside = arg;
    struct ls_group *group = inside->several->extras[0].group;
    struct trio_outcome unused;
    assert_int_equal(outcome->status, LS_OK);
    inside->done++;
    ls_group_close(group, inside_closed, inside);
    assert_int_equal(ls_group_execute(group, (struct ls_span){"x", 1}, NULL, trio_done, &unused),
                     LS_ERR_CLOSED);
    assert_int_equal(
        ls_group_query(group, LS_WEAK, (struct ls_span){"x", 1}, NULL, trio_done, &unused),
        LS_ERR_CLOSED);
    assert_int_equal(outcome->replies[0].bytes, 8); /* still there */
}

static void inside_waited(void *arg, enum ls_status status)
{
    struct inside *inside = arg;
    inside->waited++;
    assert_int_equal(status, inside->waited == 3 ? LS_ERR_CLOSED : LS_OK);
    if (inside->waited == 1) {
        assert_ok(ls_group_when(inside->several->extras[0].group,
                                &(struct ls_condition){.kind = LS_WHEN_SERVING}, inside_waited,
                                inside));
    } else if (inside->waited == 2) {
        assert_ok(ls_group_when(inside->several->extras[0].group,
                                &(struct ls_condition){.kind = LS_WHEN_OFFLINE}, inside_waited,
                                inside));
        assert_ok(ls_group_execute(inside->several->extras[0].group, (struct ls_span){"x", 1}, NULL,
                                   inside_done, inside));
    } else {
        assert_int_equal(ls_group_when(inside->several->extras[0].group,
                                       &(struct ls_condition){.kind = LS_WHEN_SERVING},
                                       inside_waited, inside),
                         LS_ERR_CLOSED);
    }
}

static bool inside_over(struct trio *trio, void *arg)
{
    const struct inside *inside = arg;
    (void)trio;
    return inside->closed == 2 && (inside->node_closed == 1 || !inside->whole_node);
}

/* A4 */
TEST(close, may_begin_in_any_callback)
{
    for (size_t round = 0; round < 2; round++) {
        struct several several;
        struct inside inside = {.several = &several, .whole_node = round == 1};
        begin(&several);
        join(&several, 0);
        join(&several, 1);
        assert_ok(ls_group_when(several.extras[0].group,
                                &(struct ls_condition){.kind = LS_WHEN_SERVING}, inside_waited,
                                &inside));
        trio_until(&several.trio, inside_over, &inside);
        assert_int_equal(inside.waited, 3);
        assert_int_equal(inside.done, 1);
        assert_int_equal(several.extras[0].released, 1);
        assert_int_equal(several.extras[1].released, 1);
        if (inside.whole_node) {
            several.trio.members[0].node = NULL;
        }
        trio_close(&several.trio);
    }
}

static void done_closes_node(void *arg, const struct ls_outcome *outcome)
{
    struct inside *inside = arg;
    assert_int_equal(outcome->status, LS_OK);
    inside->done++;
    ls_node_close(inside->several->trio.members[0].node, inside_node_closed, inside);
    ls_node_close(inside->several->trio.members[0].node, NULL, NULL); /* changes nothing */
}

static bool node_is_closed(struct trio *trio, void *arg)
{
    (void)trio;
    return ((const struct inside *)arg)->node_closed > 0;
}

/* A5 */
TEST(close, of_the_node_from_inside_done_ends_everything_once)
{
    struct several several;
    struct inside inside = {.several = &several};
    struct trio_outcome later = {0};
    begin(&several);
    join(&several, 0);
    join(&several, 2);
    assert_ok(ls_group_query(several.trio.members[0].group, LS_STRONG, (struct ls_span){"x", 1},
                             NULL, done_closes_node, &inside));
    assert_ok(ls_group_execute(several.extras[2].group, (struct ls_span){"x", 1}, NULL, trio_done,
                               &later));
    trio_until(&several.trio, node_is_closed, &inside);
    assert_int_equal(inside.node_closed, 1);
    assert_int_equal(later.times, 1);
    assert_int_equal(several.extras[0].released, 1);
    assert_int_equal(several.extras[2].released, 1);
    several.trio.members[0].node = NULL;
    trio_close(&several.trio);
}

/* ---- what does not move any more ---- */

static bool is_closed(struct trio *trio, void *arg)
{
    (void)trio;
    return ((const struct extra *)arg)->closed > 0;
}

TEST(close, does_not_wait_for_ever_for_a_quorum_or_a_successor)
{
    struct trio trio;
    struct extra end = {0};
    trio_open(&trio, 3);
    trio.close_ms = 200;
    size_t leader = trio_up(&trio);
    ls_storage_medium_hold(trio.members[(leader + 1) % 3].medium, true);
    ls_storage_medium_hold(trio.members[(leader + 2) % 3].medium, true);
    struct trio_outcome executed = {0}, read = {0};
    assert_ok(ls_group_execute(trio.members[leader].group, (struct ls_span){"x", 1}, NULL,
                               trio_done, &executed));
    assert_ok(ls_group_query(trio.members[(leader + 1) % 3].group, LS_STRONG,
                             (struct ls_span){"x", 1}, NULL, trio_done, &read));
    (void)event_base_loop(trio.base, EVLOOP_ONCE);
    uint64_t start = ls_env_default()->now_us(NULL);
    ls_group_close(trio.members[leader].group, on_closed, &end);
    trio_until(&trio, is_closed, &end);
    assert_true(ls_env_default()->now_us(NULL) - start < 2000000u);
    assert_int_equal(executed.times, 1);
    assert_int_equal(executed.status, LS_ERR_UNKNOWN);
    for (size_t i = 0; i < 3; i++) {
        ls_storage_medium_hold(trio.members[i].medium, false);
    }
    trio_close(&trio);
    assert_int_equal(read.times, 1);
}

/* ---- joins that fail ---- */

static void refused(struct several *several, const struct ls_group_options *options,
                    enum ls_status status, const char *why)
{
    struct ls_error error = {LS_OK, ""};
    struct ls_group *group = several->trio.members[0].group;
    assert_int_equal(ls_group_join(several->trio.members[0].node, options, &group, &error), status);
    assert_null(group);
    assert_int_equal(error.status, status);
    if (strstr(error.text, why) == NULL) {
        fail_msg("'%s' does not say '%s'", error.text, why);
    }
}

TEST(join, that_fails_leaves_the_machine_to_its_owner_and_the_store_free)
{
    struct several several;
    begin(&several);
    struct extra *extra = &several.extras[0];
    struct ls_group_options options = extra_options(&several, extra);
    extra->refuses = LS_ERR_MISMATCH;
    refused(&several, &options, LS_ERR_MISMATCH,
            "join group one: open the machine: the directory belongs to group other");
    extra->refuses = LS_OK;
    extra->applied = 17;
    refused(&several, &options, LS_ERR_CORRUPT,
            "the log ends at index 0, below the machine's applied index 17: entries were lost");
    extra->applied = 0;
    struct ls_statesync many[LS_STATESYNCS_MAX + 1];
    for (size_t i = 0; i <= LS_STATESYNCS_MAX; i++) {
        assert_ok(ls_log_replay(NULL, &many[i]));
    }
    options.statesyncs = many;
    options.statesyncs_count = LS_STATESYNCS_MAX + 1;
    refused(&several, &options, LS_ERR_INVALID, "");
    assert_int_equal(extra->released, 0);
    struct ls_node_status node;
    ls_node_status(several.trio.members[0].node, &node);
    assert_int_equal(node.groups, 1);
    uint32_t opened = extra->opened;
    join(&several, 0);
    assert_int_equal(extra->opened, opened + 1);
    trio_close(&several.trio);
    assert_int_equal(extra->released, 1);
}

TEST(join, says_which_setting_is_wrong)
{
    struct several several;
    begin(&several);
    struct extra *extra = &several.extras[0];
    const struct ls_group_options good = extra_options(&several, extra);
    struct ls_group_options options = good;
    options.size--;
    refused(&several, &options, LS_ERR_INVALID, "ls_group_options_init");
    options = good;
    options.machine.size = 0;
    refused(&several, &options, LS_ERR_INVALID, "machine.size is 0");
    options = good;
    options.machine.query = NULL;
    refused(&several, &options, LS_ERR_INVALID, "signature, query, and apply");
    options = good;
    options.heartbeat_ms = options.election_ms / 2;
    refused(&several, &options, LS_ERR_INVALID, "heartbeat_ms");
    options = good;
    options.election_ms = 0;
    refused(&several, &options, LS_ERR_INVALID, "election_ms");
    options = good;
    options.name = "";
    refused(&several, &options, LS_ERR_INVALID, "name");
    options = good;
    options.founders_count = 0;
    refused(&several, &options, LS_ERR_INVALID, "founders");
    options = good;
    options.in_flight_bytes = 1;
    refused(&several, &options, LS_ERR_INVALID, "in_flight_bytes");
    assert_int_equal(extra->opened, 0);
    struct {
        struct ls_group_options options;
        uint64_t newer;
    } larger = {good, 0};
    larger.options.size = sizeof larger;
    assert_ok(ls_group_join(several.trio.members[0].node, &larger.options, &extra->group, NULL));
    larger.newer = 1;
    refused(&several, &larger.options, LS_ERR_INVALID, "ls_group_options_init");
    trio_close(&several.trio);
}

TEST(join, of_a_node_that_closes_is_refused)
{
    struct several several;
    struct inside inside = {.several = &several};
    begin(&several);
    const struct ls_group_options options = extra_options(&several, &several.extras[0]);
    ls_node_close(several.trio.members[0].node, inside_node_closed, &inside);
    refused(&several, &options, LS_ERR_CLOSED, "closing");
    trio_until(&several.trio, node_is_closed, &inside);
    several.trio.members[0].node = NULL;
    trio_close(&several.trio);
}

TEST(query, hands_on_what_the_machine_says)
{
    struct several several;
    begin(&several);
    join(&several, 0);
    static const enum ls_consistency both[] = {LS_WEAK, LS_STRONG};
    for (size_t i = 0; i < 2; i++) {
        struct trio_outcome found = {0}, missing = {0};
        assert_ok(ls_group_query(several.extras[0].group, both[i], (struct ls_span){"x", 1}, NULL,
                                 trio_done, &found));
        assert_ok(ls_group_query(several.extras[0].group, both[i], (struct ls_span){"none", 4},
                                 NULL, trio_done, &missing));
        trio_wait(&several.trio, &found);
        trio_wait(&several.trio, &missing);
        assert_int_equal(found.status, LS_OK);
        assert_int_equal(found.count, 1);
        assert_int_equal(missing.status, LS_ERR_NOT_FOUND);
        assert_int_equal(missing.count, 0);
    }
    assert_int_equal(ls_group_query(several.extras[0].group, (enum ls_consistency)3,
                                    (struct ls_span){"x", 1}, NULL, trio_done, NULL),
                     LS_ERR_INVALID);
    trio_close(&several.trio);
}

static enum ls_status boast(void *self, const struct ls_command *commands, size_t count,
                            struct ls_replies *replies, size_t *applied)
{
    (void)self;
    (void)commands;
    (void)replies;
    *applied = count + 1;
    return LS_OK;
}

TEST(machine, that_claims_more_than_it_was_given_halts_its_group_alone)
{
    struct several several;
    begin(&several);
    struct extra *extra = &several.extras[0];
    struct ls_group_options options = extra_options(&several, extra);
    options.machine.apply_batch = boast;
    assert_ok(ls_group_join(several.trio.members[0].node, &options, &extra->group, NULL));
    struct trio_outcome outcome = {0}, later = {0};
    assert_ok(ls_group_execute(extra->group, (struct ls_span){"x", 1}, NULL, trio_done, &outcome));
    trio_wait(&several.trio, &outcome);
    assert_int_equal(outcome.status, LS_ERR_UNKNOWN);
    struct ls_group_status status;
    ls_group_status(extra->group, &status);
    assert_int_equal(status.halted, LS_ERR_INVALID);
    assert_int_equal(status.in_flight_bytes, 0);
    assert_int_equal(
        ls_group_query(extra->group, LS_WEAK, (struct ls_span){"x", 1}, NULL, trio_done, &later),
        LS_ERR_HALTED);
    assert_int_equal(trio_execute(&several.trio, 0, "x").status, LS_OK);
    trio_close(&several.trio);
}
