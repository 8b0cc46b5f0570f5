/* SPDX-License-Identifier: MIT */
/* The contract of a state sync, over log replay with common and with awkward settings. */
#include "statesync_suite.h"

static void over_settings(void (*prove)(const struct statesync_subject *subject))
{
    static struct ls_log_replay_options settings[] = {
        {.size = sizeof settings[0]},
        {.size = sizeof settings[0], .entries_max = 7, .window = 1, .keep_entries = 1},
        {.size = sizeof settings[0],
         .entries_max = 500,
         .window = 8,
         .bytes_max = 1024,
         .buffer_bytes_max = 32u << 10,
         .lease_ms = 50,
         .timeout_ms = 200},
    };
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        struct statesync_subject subject = {.seed = test_seed()};
        assert_ok(ls_log_replay(&settings[i], &subject.statesync));
        prove(&subject);
    }
}

TEST(log_replay, closes_gaps)
{
    over_settings(statesync_closes_gaps);
}

TEST(log_replay, serves_committed_entries_only)
{
    over_settings(statesync_serves_committed_entries_only);
}

TEST(log_replay, follows_a_moving_target)
{
    over_settings(statesync_follows_a_moving_target);
}

TEST(log_replay, changes_its_source)
{
    over_settings(statesync_changes_its_source);
}

TEST(log_replay, survives_garbage)
{
    over_settings(statesync_survives_garbage);
}

TEST(log_replay, survives_refused_memory)
{
    over_settings(statesync_survives_refused_memory);
}

TEST(log_replay, may_be_destroyed_at_any_time)
{
    over_settings(statesync_may_be_destroyed_at_any_time);
}

TEST(log_replay, does_not_spin)
{
    over_settings(statesync_does_not_spin);
}

TEST(log_replay, allows_no_pruning_beyond_commit)
{
    over_settings(statesync_allows_no_pruning_beyond_commit);
}
