/* SPDX-License-Identifier: MIT */
/* The supervisor with scripted state syncs: when attempts begin, how they end, what is shown. */
#include "sync_world.h"

#include "supervisor_state.h"

/* A state sync that does what a test tells it. */
struct script {
    struct ls_statesync strategy;
    const char *unusable;
    enum ls_status create;
    enum ls_session_state next;    /* of poll */
    enum ls_sync_phase phase;      /* shown while pending */
    enum ls_sync_verdict verdict;  /* of the session */
    enum ls_sync_verdict provider; /* of the provider */
    ls_index safe;                 /* of the provider */
    ls_index at;                   /* DONE there, and shown progress */
    uint64_t items;
    uint32_t installs;   /* to ask for at the next poll */
    uint64_t wake_in_us; /* asked for at each poll; 0: not */
    bool bare;           /* its sessions lack what is optional */
    struct ls_session_context context;
    struct ls_provider_context provider_context;
    struct ls_sync_gap gap;
    /* seen */
    uint32_t created, destroyed, polls, targets, terms, buffers, peers, effects, messages;
    uint32_t provider_messages, provider_polls, provider_peers, provider_commits, refused_tokens;
    uint64_t tokens[64];
    uint32_t tokens_count;
    uint64_t last_effect;
    enum ls_status last_status;
};

static const struct ls_entry script_entry = {1, LS_ENTRY_COMMAND, {"x", 1}};

static enum ls_session_state session_poll(void *self, struct ls_cursor *at, const char **reason)
{
    struct script *script = self;
    script->polls++;
    for (; script->installs > 0; script->installs--) {
        struct ls_cursor prev = script->context.base.committed(script->context.base.self);
        uint64_t token =
            script->context.install(script->context.base.self, 0, prev, &script_entry, 1, 0);
        script->refused_tokens += token == 0;
        if (token != 0) {
            script->tokens[script->tokens_count++] = token;
        }
    }
    if (script->wake_in_us != 0) {
        const struct ls_sync_context *base = &script->context.base;
        base->wake_at(base->self, base->now_us(base->self) + script->wake_in_us - 1);
    }
    *at = (struct ls_cursor){1, script->at};
    *reason = "the script says so";
    return script->next;
}

static enum ls_sync_verdict session_receive(void *self, const struct ls_peer_id *from,
                                            struct ls_span message)
{
    (void)from;
    (void)message;
    struct script *script = self;
    script->messages++;
    return script->verdict;
}

static enum ls_buffer_verdict session_buffer(void *self, ls_term term, struct ls_cursor prev,
                                             const struct ls_entry *entries, uint32_t count)
{
    (void)term;
    (void)prev;
    (void)entries;
    (void)count;
    ((struct script *)self)->buffers++;
    return LS_BUFFER_ADDED;
}

static void session_target(void *self, ls_index target)
{
    (void)target;
    ((struct script *)self)->targets++;
}

static void session_term(void *self, ls_term term)
{
    (void)term;
    ((struct script *)self)->terms++;
}

static void session_peer(void *self, const struct ls_peer_id *peer, bool bonded)
{
    (void)peer;
    (void)bonded;
    ((struct script *)self)->peers++;
}

static void session_effect(void *self, uint64_t token, enum ls_status status)
{
    struct script *script = self;
    script->effects++;
    script->last_effect = token;
    script->last_status = status;
}

static void session_progress(void *self, struct ls_sync_progress *out)
{
    const struct script *script = self;
    out->phase = script->phase;
    out->at = script->at;
    out->items = script->items;
}

static void session_destroy(void *self)
{
    ((struct script *)self)->destroyed++;
}

static enum ls_sync_verdict provider_receive(void *self, const struct ls_peer_id *from,
                                             struct ls_span message)
{
    (void)from;
    (void)message;
    struct script *script = self;
    script->provider_messages++;
    return script->provider;
}

static void provider_poll(void *self)
{
    ((struct script *)self)->provider_polls++;
}

static ls_index provider_safe(void *self)
{
    return ((struct script *)self)->safe;
}

static void provider_peer(void *self, const struct ls_peer_id *peer, bool bonded)
{
    (void)peer;
    (void)bonded;
    ((struct script *)self)->provider_peers++;
}

static void provider_committed(void *self, ls_index commit)
{
    (void)commit;
    ((struct script *)self)->provider_commits++;
}

static void provider_destroy(void *self)
{
    (void)self;
}

static const char *script_usable(void *self, const struct ls_sync_facts *facts)
{
    (void)facts;
    return ((struct script *)self)->unusable;
}

static enum ls_status create_provider(void *self, const struct ls_provider_context *context,
                                      struct ls_sync_provider *out)
{
    ((struct script *)self)->provider_context = *context;
    *out = (struct ls_sync_provider){.size = sizeof *out,
                                     .self = self,
                                     .poll = provider_poll,
                                     .receive = provider_receive,
                                     .safe_to_prune_prefix = provider_safe,
                                     .committed = provider_committed,
                                     .peer = provider_peer,
                                     .destroy = provider_destroy};
    return LS_OK;
}

static enum ls_status create_session(void *self, const struct ls_session_context *context,
                                     const struct ls_sync_gap *gap, struct ls_sync_session *out)
{
    struct script *script = self;
    if (script->create != LS_OK) {
        return script->create;
    }
    script->created++;
    script->context = *context;
    script->gap = *gap;
    *out = (struct ls_sync_session){.size = sizeof *out,
                                    .self = self,
                                    .poll = session_poll,
                                    .receive = session_receive,
                                    .buffer = session_buffer,
                                    .target = session_target,
                                    .term = session_term,
                                    .peer = session_peer,
                                    .effect = session_effect,
                                    .progress = session_progress,
                                    .destroy = session_destroy};
    if (script->bare) {
        out->buffer = NULL;
        out->target = NULL;
        out->term = NULL;
        out->peer = NULL;
    }
    return LS_OK;
}

static void script_init(struct script *script, const char *name)
{
    *script = (struct script){.next = LS_SESSION_PENDING,
                              .phase = LS_SYNC_FETCHING,
                              .verdict = LS_SYNC_OK,
                              .provider = LS_SYNC_NOT_MINE,
                              .safe = 1000,
                              .at = 0};
    script->strategy = (struct ls_statesync){.size = sizeof script->strategy,
                                             .self = script,
                                             .name = name,
                                             .usable = script_usable,
                                             .create_provider = create_provider,
                                             .create_session = create_session};
}

/* Node 0 leads, node 1 has no log and the scripts; both have the same supervisor. */
static struct world *scripted(struct script *scripts, size_t count)
{
    static const char *const names[] = {"first", "second", "third"};
    struct ls_statesync strategies[3];
    for (size_t i = 0; i < count; i++) {
        script_init(&scripts[i], names[i]);
        strategies[i] = scripts[i].strategy;
    }
    struct world_options options = {
        .nodes = 2, .seed = 7, .strategies = strategies, .strategies_count = count};
    struct world *world = world_open(&options);
    world_write(world, 1, 1000, 8);
    return world;
}

static uint32_t attempts(const struct script *script)
{
    return script->created;
}

/* ---- attempts -------------------------------------------------------------------------------- */

TEST(supervisor, begins_one_session_for_a_gap_and_feeds_it_the_rest)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    world_gap(world, 1, 100, 90, 10);
    world_gap(world, 1, 200, 100, 10);
    world_gap(world, 1, 200, 110, 10);
    assert_int_equal(attempts(&script), 1);
    assert_int_equal(script.gap.target, 100);
    assert_int_equal(script.gap.term, 1);
    assert_int_equal(script.buffers, 3); /* with the entries that revealed it */
    assert_int_equal(script.targets, 1);
    assert_true(world->nodes[1].syncing);
    world_close(world);
}

/* Y21 */
TEST(supervisor, closes_the_next_gap_at_once_when_an_attempt_came_further)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    world_gap(world, 1, 100, 0, 0);
    script.next = LS_SESSION_DONE;
    script.at = 100;
    world_gap(world, 1, 150, 0, 0); /* the target moved while it ended */
    assert_int_equal(attempts(&script), 2);
    assert_true(world->nodes[1].syncing);
    world_close(world);
}

TEST(supervisor, does_not_repeat_at_once_an_attempt_that_reached_nothing_new)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    script.next = LS_SESSION_DONE;
    script.at = 100;
    for (int i = 0; i < 60; i++) {
        world_gap(world, 1, 100, 0, 0); /* the core still misses it: commit does not move */
        world_run(world, SECOND);
    }
    assert_in_range(attempts(&script), 11, 14); /* every five seconds */
    assert_int_equal(world_progress(world, 1).failures, 0);
    world_close(world);
}

TEST(supervisor, backs_off_by_powers_of_two_up_to_256_seconds)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    script.next = LS_SESSION_FAILED;
    world_gap(world, 1, 100, 0, 0);
    static const uint64_t waits[] = {5, 5, 8, 16, 32, 64, 128, 256, 256, 256};
    for (uint32_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        while (script.destroyed < i + 1) {
            assert_true(world_step(world, UINT64_MAX));
        }
        struct ls_sync_progress progress = world_progress(world, 1);
        assert_int_equal(progress.phase, LS_SYNC_BACKING_OFF);
        assert_in_range(progress.wait_us, waits[i] * SECOND - 1000, waits[i] * SECOND);
        assert_int_equal(progress.failures, i + 1);
        assert_string_equal(progress.reason, "the script says so");
    }
    assert_true(script.polls <= attempts(&script) * 2); /* Y16 */
    script.next = LS_SESSION_DONE;
    script.at = 100;
    world_run(world, 300 * SECOND);
    assert_int_equal(world_progress(world, 1).failures, 0);
    assert_false(world->nodes[1].syncing);
    world_close(world);
}

TEST(supervisor, does_not_wait_when_the_user_says_so)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    script.next = LS_SESSION_FAILED;
    world_gap(world, 1, 100, 0, 0);
    while (script.destroyed < 6) {
        assert_true(world_step(world, UINT64_MAX));
    }
    assert_true(world_progress(world, 1).wait_us > 50 * SECOND);
    script.next = LS_SESSION_PENDING;
    ls_supervisor_force(world->nodes[1].supervisor);
    world_poll(world, 1);
    assert_int_equal(attempts(&script), 7);
    assert_int_equal(world_progress(world, 1).phase, LS_SYNC_SELECTING);
    world_close(world);
}

TEST(supervisor, counts_a_session_that_cannot_be_created_as_a_failure)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    script.create = LS_ERR_NO_MEMORY;
    world_gap(world, 1, 100, 0, 0);
    assert_int_equal(world_progress(world, 1).failures, 1);
    assert_int_equal(world->nodes[1].syncing_changes, 0);
    script.create = LS_OK;
    world_run(world, 6 * SECOND);
    assert_int_equal(attempts(&script), 1);
    world_close(world);
}

TEST(supervisor, ends_an_attempt_without_progress_by_the_watchdog)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    world_gap(world, 1, 100, 0, 0);
    world_run(world, 119 * SECOND);
    assert_int_equal(script.destroyed, 0);
    world_run(world, 2 * SECOND);
    assert_int_equal(script.destroyed, 1);
    assert_string_equal(world_progress(world, 1).reason, "no progress within the watchdog's time");
    world_close(world);
}

TEST(supervisor, lets_an_attempt_run_while_it_makes_progress_or_waits)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    script.wake_in_us = SECOND;
    world_gap(world, 1, 100, 0, 0);
    for (int i = 0; i < 10; i++) {
        script.items++;
        world_run(world, 100 * SECOND);
    }
    script.phase = LS_SYNC_WAITING; /* no peers is no failure */
    world_run(world, 1000 * SECOND);
    assert_int_equal(script.destroyed, 0);
    assert_int_equal(world_progress(world, 1).phase, LS_SYNC_WAITING);
    script.wake_in_us = 0;
    ls_supervisor_committed(world->nodes[1].supervisor, 1);
    world_poll(world, 1);
    world->now_us += 500 * SECOND; /* nobody polled for long, then the wait is over */
    script.phase = LS_SYNC_FETCHING;
    ls_supervisor_committed(world->nodes[1].supervisor, 1);
    world_poll(world, 1);
    assert_int_equal(script.destroyed, 0);
    world_run(world, 130 * SECOND);
    assert_int_equal(script.destroyed, 1);
    world_close(world);
}

TEST(supervisor, does_not_spin_when_a_session_always_wants_to_be_polled)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    script.wake_in_us = 1; /* at this very moment */
    world_gap(world, 1, 100, 0, 0);
    world_run(world, SECOND);
    assert_in_range(script.polls, 900, 1100);
    world_close(world);
}

TEST(supervisor, ends_the_session_of_a_member_that_leads)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    world_gap(world, 1, 100, 0, 0);
    world->nodes[1].leads = true;
    world_poll(world, 1);
    assert_int_equal(script.destroyed, 1);
    assert_false(world->nodes[1].syncing);
    assert_int_equal(world_progress(world, 1).failures, 0);
    world_close(world);
}

TEST(supervisor, forgets_a_gap_that_ordinary_appends_closed)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    script.next = LS_SESSION_FAILED;
    world_gap(world, 1, 100, 0, 0);
    world_poll(world, 1);
    world_fill(world, 1, 100, 100);
    world_run(world, 600 * SECOND);
    assert_int_equal(attempts(&script), 1);
    assert_int_equal(world_progress(world, 1).phase, LS_SYNC_IDLE);
    world_close(world);
}

TEST(supervisor, ignores_a_gap_of_a_leader_that_was_replaced)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    ls_supervisor_term(world->nodes[1].supervisor, 5);
    world_gap(world, 1, 100, 0, 0); /* of term 1 */
    assert_int_equal(attempts(&script), 0);
    world->term = 5;
    world_gap(world, 1, 100, 0, 0);
    assert_int_equal(attempts(&script), 1);
    ls_supervisor_term(world->nodes[1].supervisor, 6);
    ls_supervisor_term(world->nodes[1].supervisor, 6);
    assert_int_equal(script.terms, 1);
    world_close(world);
}

/* ---- the choice ------------------------------------------------------------------------------ */

/* Y3 */
TEST(supervisor, takes_the_first_legal_state_sync_and_says_why)
{
    struct script scripts[2];
    struct world *world = scripted(scripts, 2);
    scripts[0].unusable = "it is too far behind";
    world_gap(world, 1, 100, 0, 0);
    assert_int_equal(attempts(&scripts[0]), 0);
    assert_int_equal(attempts(&scripts[1]), 1);
    assert_string_equal(world_progress(world, 1).strategy, "second");
    assert_string_equal(world_progress(world, 1).choice,
                        "second: first cannot be used: it is too far behind");
    world_close(world);
}

/* Y4: where nothing is legal it waits, says for what, and goes on when something is. */
TEST(supervisor, waits_while_no_state_sync_is_legal)
{
    struct script scripts[2];
    struct world *world = scripted(scripts, 2);
    scripts[0].unusable = "the first reason";
    scripts[1].unusable = "the second reason";
    world_gap(world, 1, 100, 0, 0);
    world_run(world, 20 * SECOND);
    assert_int_equal(world_progress(world, 1).phase, LS_SYNC_WAITING);
    assert_string_equal(world_progress(world, 1).reason, "the first reason");
    assert_int_equal(world_progress(world, 1).failures, 0);
    scripts[1].unusable = NULL;
    world_run(world, 6 * SECOND);
    assert_int_equal(attempts(&scripts[1]), 1);
    world_close(world);
}

TEST(supervisor, tries_the_next_legal_state_sync_after_three_failures)
{
    struct script scripts[3];
    struct world *world = scripted(scripts, 3);
    scripts[0].next = LS_SESSION_FAILED;
    scripts[1].unusable = "never";
    scripts[2].next = LS_SESSION_FAILED;
    world_gap(world, 1, 100, 0, 0);
    while (attempts(&scripts[2]) < 3) {
        assert_true(world_step(world, UINT64_MAX));
    }
    assert_int_equal(attempts(&scripts[0]), 3);
    while (scripts[2].destroyed < 3) {
        assert_true(world_step(world, UINT64_MAX));
    }
    scripts[0].next = LS_SESSION_PENDING; /* round again */
    world_run(world, 256 * SECOND);
    assert_int_equal(attempts(&scripts[0]), 4);
    assert_int_equal(attempts(&scripts[1]), 0);
    world_close(world);
}

/* One that never works must not keep those away that might, for longer and longer. */
TEST(supervisor, tries_one_that_failed_three_times_once_whenever_its_turn_comes)
{
    struct script scripts[2];
    struct world *world = scripted(scripts, 2);
    scripts[0].next = LS_SESSION_FAILED;
    scripts[1].phase = LS_SYNC_WAITING;
    scripts[1].wake_in_us = SECOND;
    world_gap(world, 1, 100, 0, 0);
    for (uint32_t turn = 1; turn <= 3; turn++) {
        while (attempts(&scripts[1]) < turn) {
            assert_true(world_step(world, UINT64_MAX));
        }
        assert_int_equal(attempts(&scripts[0]), 2 + turn);
    }
    scripts[1].next = LS_SESSION_DONE; /* which says nothing of the other */
    scripts[1].at = 50;
    while (attempts(&scripts[1]) < 4) {
        assert_true(world_step(world, UINT64_MAX));
    }
    assert_int_equal(attempts(&scripts[0]), 6);
    world_close(world);
}

TEST(supervisor, gives_another_state_sync_its_turn_when_no_peer_has_anything)
{
    struct script scripts[2];
    struct world *world = scripted(scripts, 2);
    scripts[0].phase = LS_SYNC_WAITING;
    scripts[0].wake_in_us = SECOND;
    world_gap(world, 1, 100, 0, 0);
    world_run(world, 9 * SECOND);
    assert_int_equal(attempts(&scripts[1]), 0);
    world_run(world, 3 * SECOND);
    assert_int_equal(scripts[0].destroyed, 1);
    assert_int_equal(attempts(&scripts[1]), 1);
    assert_int_equal(world_progress(world, 1).failures, 0);
    world_close(world);
}

/* ---- effects --------------------------------------------------------------------------------- */

/* Y20 */
TEST(supervisor, carries_effects_out_after_the_call_and_reports_them_once_durable)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    script.installs = 1;
    ls_supervisor_gap(world->nodes[1].supervisor, 1, 100, (struct ls_cursor){0, 0}, NULL, 0);
    assert_int_equal(script.created, 1);
    assert_int_equal(world->nodes[1].installs + world->nodes[1].syncing_changes, 0); /* in poll */
    world_poll(world, 1);
    assert_int_equal(world->nodes[1].installs, 1);
    assert_int_equal(script.effects, 0);
    world_run(world, 10000);
    assert_int_equal(script.effects, 1);
    assert_int_equal(script.last_effect, script.tokens[0]);
    assert_int_equal(script.last_status, LS_OK);
    world_close(world);
}

TEST(supervisor, reports_a_refused_effect_at_once)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    world->nodes[1].refuse_install = LS_ERR_HALTED;
    script.installs = 1;
    world_gap(world, 1, 100, 0, 0);
    world_poll(world, 1);
    assert_int_equal(script.effects, 1);
    assert_int_equal(script.last_status, LS_ERR_HALTED);
    world_close(world);
}

TEST(supervisor, bounds_the_effects_under_way)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    world->nodes[1].hold_disk = true;
    script.installs = LS_SYNC_EFFECTS_MAX + 4;
    world_gap(world, 1, 100, 0, 0);
    world_poll(world, 1);
    assert_int_equal(script.tokens_count, LS_SYNC_EFFECTS_MAX);
    assert_int_equal(script.refused_tokens, 4);
    world->nodes[1].hold_disk = false;
    world_run(world, SECOND);
    assert_int_equal(script.effects, LS_SYNC_EFFECTS_MAX);
    script.installs = 1;
    ls_supervisor_committed(world->nodes[1].supervisor, 1);
    world_poll(world, 1);
    assert_int_equal(script.tokens_count, LS_SYNC_EFFECTS_MAX + 1);
    world_close(world);
}

TEST(supervisor, ignores_results_of_an_older_attempt)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    world->nodes[1].hold_disk = true;
    script.installs = 3;
    world_gap(world, 1, 100, 0, 0);
    world_poll(world, 1);
    script.next = LS_SESSION_FAILED;
    ls_supervisor_committed(world->nodes[1].supervisor, 1);
    world_poll(world, 1);
    assert_int_equal(script.destroyed, 1);
    script.next = LS_SESSION_PENDING;
    world_run(world, 6 * SECOND);
    assert_int_equal(attempts(&script), 2);
    assert_true(script.context.generation == 2);
    world->nodes[1].hold_disk = false;
    world_run(world, SECOND);
    assert_int_equal(world->nodes[1].effects_count, 0);
    assert_int_equal(script.effects, 0);
    ls_supervisor_effect(world->nodes[1].supervisor, 999, LS_OK);
    ls_supervisor_effect(world->nodes[1].supervisor, 0, LS_OK);
    assert_int_equal(script.effects, 0);
    world_close(world);
}

/* ---- messages, providers --------------------------------------------------------------------- */

TEST(supervisor, gives_a_message_to_the_provider_first_unless_it_is_for_the_session)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    struct ls_supervisor *supervisor = world->nodes[1].supervisor;
    struct ls_peer_id from = world->nodes[0].id;
    struct ls_span message = {"m", 1};
    assert_int_equal(ls_supervisor_receive(supervisor, &from, 0, true, message), LS_SYNC_IGNORE);
    world_gap(world, 1, 100, 0, 0);
    assert_int_equal(ls_supervisor_receive(supervisor, &from, 0, false, message), LS_SYNC_OK);
    assert_int_equal(script.provider_messages, 1);
    assert_int_equal(script.messages, 1); /* not the provider's */
    script.provider = LS_SYNC_OK;
    assert_int_equal(ls_supervisor_receive(supervisor, &from, 0, false, message), LS_SYNC_OK);
    assert_int_equal(script.messages, 1);
    assert_int_equal(ls_supervisor_receive(supervisor, &from, 0, true, message), LS_SYNC_OK);
    assert_int_equal(script.provider_messages, 2);
    assert_int_equal(script.messages, 2);
    world_close(world);
}

TEST(supervisor, counts_and_traces_wrong_messages)
{
    struct script scripts[2];
    struct world *world = scripted(scripts, 2);
    struct ls_supervisor *supervisor = world->nodes[1].supervisor;
    struct ls_peer_id from = world->nodes[0].id;
    struct ls_span message = {"m", 1};
    scripts[1].provider = LS_SYNC_INVALID;
    assert_int_equal(ls_supervisor_receive(supervisor, &from, 1, false, message), LS_SYNC_INVALID);
    assert_int_equal(ls_supervisor_receive(supervisor, &from, 7, false, message), LS_SYNC_INVALID);
    world_gap(world, 1, 100, 0, 0);
    scripts[0].verdict = LS_SYNC_INVALID;
    assert_int_equal(ls_supervisor_receive(supervisor, &from, 0, true, message), LS_SYNC_INVALID);
    /* for the session of another state sync than the one that runs */
    assert_int_equal(ls_supervisor_receive(supervisor, &from, 1, true, message), LS_SYNC_IGNORE);
    assert_int_equal(world_progress(world, 1).penalties, 3);
    assert_int_equal(world->warnings, 3);
    assert_non_null(strstr(world->last_warning, "01000000 answered wrongly, 3 times"));
    world_close(world);
}

TEST(supervisor, asks_every_provider_what_may_be_pruned)
{
    struct script scripts[2];
    struct world *world = scripted(scripts, 2);
    world_fill(world, 1, 500, 400);
    assert_int_equal(ls_supervisor_safe_to_prune(world->nodes[1].supervisor), 400);
    scripts[0].safe = 300;
    scripts[1].safe = 200;
    assert_int_equal(ls_supervisor_safe_to_prune(world->nodes[1].supervisor), 200);
    world_close(world);
}

TEST(supervisor, tells_providers_and_session_what_happens)
{
    struct script scripts[2];
    struct world *world = scripted(scripts, 2);
    world_gap(world, 1, 100, 0, 0);
    ls_supervisor_peer(world->nodes[1].supervisor, &world->nodes[0].id, false);
    ls_supervisor_committed(world->nodes[1].supervisor, 3);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(scripts[i].provider_peers, 1);
        assert_int_equal(scripts[i].provider_commits, 1);
    }
    assert_int_equal(scripts[0].peers, 1);
    assert_int_equal(scripts[1].peers, 0);
    const struct ls_sync_context *base = &scripts[1].provider_context.base;
    base->wake_at(base->self, world->now_us + 500);
    world_poll(world, 1);
    world_run(world, 1000);
    assert_int_equal(scripts[1].provider_polls, 1);
    assert_int_equal(scripts[0].provider_polls, 0);
    world_close(world);
}

TEST(supervisor, drives_a_session_that_does_not_care_what_happens_around_it)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    script.bare = true;
    world_gap(world, 1, 100, 90, 10);
    world_gap(world, 1, 200, 110, 10);
    ls_supervisor_term(world->nodes[1].supervisor, 2);
    ls_supervisor_peer(world->nodes[1].supervisor, &world->nodes[0].id, false);
    world_poll(world, 1);
    assert_int_equal(attempts(&script), 1);
    assert_int_equal(script.buffers + script.targets + script.terms + script.peers, 0);
    assert_int_equal(world_progress(world, 1).target, 200);
    world_close(world);
}

TEST(supervisor, contexts_know_who_leads_and_reach_every_bond)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    world_gap(world, 1, 100, 0, 0);
    struct ls_peer_id leader;
    const struct ls_sync_context *base = &script.context.base;
    assert_true(script.context.leader(base->self, &leader));
    assert_true(ls_peer_id_equal(&leader, &world->nodes[0].id));
    assert_false(script.provider_context.is_leader(script.provider_context.base.self));
    struct ls_peer_id sent[LS_MEMBERS_MAX];
    size_t count = 9;
    assert_ok(base->broadcast(base->self, (struct ls_span){"hi", 2}, sent, &count));
    assert_int_equal(count, 1);
    assert_true(ls_peer_id_equal(&sent[0], &leader));
    world->nodes[1].queue_bytes_max = 1;
    assert_int_equal(base->broadcast(base->self, (struct ls_span){"hi", 2}, NULL, &count),
                     LS_ERR_BUSY);
    assert_int_equal(count, 0);
    world_up(world, 0, false);
    assert_ok(base->broadcast(base->self, (struct ls_span){"hi", 2}, NULL, NULL));
    assert_int_equal(base->send_to(base->self, &leader, (struct ls_span){"hi", 2}),
                     LS_ERR_UNREACHABLE);
    world_close(world);
}

/* ---- open ------------------------------------------------------------------------------------ */

TEST(supervisor, refuses_lists_that_make_no_sense)
{
    struct script script;
    script_init(&script, "x");
    struct world *world = scripted(&script, 1);
    struct ls_statesync bad = script.strategy;
    bad.create_session = NULL;
    struct ls_supervisor *supervisor = NULL;
    struct ls_error error;
    struct ls_supervisor_config config = {
        .size = sizeof config, .env = &world->env, .strategies = &bad, .strategies_count = 1};
    assert_int_equal(ls_supervisor_open(&config, &supervisor, &error), LS_ERR_INVALID);
    assert_string_equal(error.text,
                        "a state sync without size, name, create_provider or create_session");
    config.strategies_count = 0;
    assert_int_equal(ls_supervisor_open(&config, &supervisor, &error), LS_ERR_INVALID);
    assert_string_equal(error.text, "list of state syncs: expected 1 to 8");
    assert_null(supervisor);
    world_close(world);
}

TEST(supervisor, opens_completely_or_not_at_all)
{
    struct script script;
    struct world *world = scripted(&script, 1);
    struct ls_statesync strategies[2];
    assert_ok(ls_log_replay(NULL, &strategies[0]));
    assert_ok(ls_log_replay(NULL, &strategies[1]));
    struct ls_supervisor_config config = {
        .size = sizeof config, .env = &world->env, .strategies = strategies, .strategies_count = 2};
    uint64_t live = world->bytes_live;
    uint64_t refusals = 0;
    for (uint64_t k = 1;; k++) {
        struct ls_supervisor *supervisor = NULL;
        uint64_t before = world->refused;
        world->refuse_at = world->allocations + k;
        enum ls_status status = ls_supervisor_open(&config, &supervisor, NULL);
        if (world->refused == before) {
            assert_ok(status);
            ls_supervisor_close(supervisor);
            break;
        }
        assert_int_equal(status, LS_ERR_NO_MEMORY);
        assert_int_equal(world->bytes_live, live);
        refusals++;
    }
    assert_int_equal(refusals, 4);
    ls_supervisor_close(NULL);
    world_close(world);
}

TEST(supervisor, names_every_phase)
{
    for (int phase = LS_SYNC_IDLE; phase <= LS_SYNC_BACKING_OFF; phase++) {
        assert_string_not_equal(ls_sync_phase_text((enum ls_sync_phase)phase), "unknown phase");
    }
    assert_string_equal(ls_sync_phase_text(LS_SYNC_BACKING_OFF), "backing off");
}

TEST(log_replay, checks_its_options)
{
    struct ls_statesync out;
    struct ls_log_replay_options options = {.size = sizeof options};
    assert_ok(ls_log_replay(&options, &out));
    assert_int_equal(out.signature.bytes, strlen("lockstep-log-replay/1"));
    options.entries_max = LS_REPLAY_ENTRIES_MAX + 1;
    assert_int_equal(ls_log_replay(&options, &out), LS_ERR_INVALID);
    options = (struct ls_log_replay_options){.size = 4};
    assert_int_equal(ls_log_replay(&options, &out), LS_ERR_INVALID);
    options = (struct ls_log_replay_options){.size = sizeof options, .window = 1000};
    assert_int_equal(ls_log_replay(&options, &out), LS_ERR_INVALID);
}
