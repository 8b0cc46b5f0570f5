/* SPDX-License-Identifier: MIT */
/*
 * A store whose process dies: by kill -9, and by a power cut that takes everything that was not
 * synced. Whatever was acknowledged is there afterwards, and what is there is a prefix of the
 * history in whole batches. LS_CUTS sets the number of deaths (20).
 */
#include "process.h"
#include "test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum death { DEATH_KILL, DEATH_CUT, DEATH_TORN };

struct trial {
    enum death death;
    uint64_t seed;
    char directory[128], shadow[160], seed_text[32];
    char preload[512], tree_variable[192], shadow_variable[224];
    uint64_t acknowledged, deaths, acknowledgements;
};

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static unsigned cuts(void)
{
    const char *given = getenv("LS_CUTS");
    return given == NULL ? 20 : (unsigned)strtoul(given, NULL, 0);
}

/* Reads acknowledgements until `count` came or the process ended. */
static void read_acknowledgements(struct trial *trial, struct process *process, uint64_t count)
{
    const char *line;
    while (count > 0 && (line = process_line(process)) != NULL) {
        uint64_t step;
        assert_int_equal(sscanf(line, "ack %" SCNu64, &step), 1);
        assert_true(step > trial->acknowledged);
        trial->acknowledged = step;
        trial->acknowledgements++;
        count--;
    }
}

static void one_life(struct trial *trial, uint64_t *random)
{
    const char *const writer[] = {LS_STORAGE_WRITER, trial->directory, trial->seed_text, NULL};
    const char *const environment[] = {trial->preload, trial->tree_variable, trial->shadow_variable,
                                       "ASAN_OPTIONS=verify_asan_link_order=0", NULL};
    struct process process;
    process_start(&process, writer, trial->death == DEATH_KILL ? NULL : environment);
    uint64_t choice = next_random(random);
    if (choice % 8 != 0) { /* else it dies while it opens, or before anybody listened */
        const char *line = process_line(&process);
        uint64_t step = 0;
        if (line == NULL) {
            fail_msg("the writer ended with %d", process_end(&process));
            return;
        }
        assert_int_equal(sscanf(line, "open %" SCNu64, &step), 1);
        if (step < trial->acknowledged) {
            fail_msg("step %" PRIu64 " was acknowledged, but step %" PRIu64 " was found",
                     trial->acknowledged, step);
        }
        trial->acknowledged = step;
        read_acknowledgements(trial, &process, choice / 8 % 120);
    } else {
        (void)process_line_within(&process, (int)(choice / 8 % 25));
        process.held = 0;
        trial->deaths--; /* it may not have got far enough to count */
    }
    process_kill(&process);
    if (choice % 8 != 0) {
        read_acknowledgements(trial, &process, UINT64_MAX); /* those on their way count too */
    } else {
        const char *line;
        uint64_t step;
        while ((line = process_line(&process)) != NULL) {
            if (sscanf(line, "ack %" SCNu64, &step) == 1 && step > trial->acknowledged) {
                trial->acknowledged = step;
            }
        }
    }
    assert_int_equal(process_end(&process), 128 + 9);
    trial->deaths++;
}

static void cut_power(struct trial *trial, uint64_t *random)
{
    char seed[32];
    (void)snprintf(seed, sizeof seed, "%" PRIu64,
                   trial->death == DEATH_TORN ? next_random(random) | 1 : 0);
    const char *const restore[] = {LS_POWERCUT_RESTORE, trial->shadow, trial->directory, seed,
                                   NULL};
    assert_int_equal(process_run(restore), 0);
}

static void die_often(enum death death)
{
    static struct trial trial;
    trial = (struct trial){.death = death, .seed = test_seed() >> 1 | 1};
    const char *place = test_memory_directory();
    (void)snprintf(trial.directory, sizeof trial.directory, "%s/data", place);
    (void)snprintf(trial.shadow, sizeof trial.shadow, "%s/shadow", place);
    (void)snprintf(trial.seed_text, sizeof trial.seed_text, "%" PRIu64, trial.seed);
    (void)snprintf(trial.preload, sizeof trial.preload, "LD_PRELOAD=%s", LS_POWERCUT);
    (void)snprintf(trial.tree_variable, sizeof trial.tree_variable, "LS_POWERCUT_DIRECTORY=%s",
                   trial.directory);
    (void)snprintf(trial.shadow_variable, sizeof trial.shadow_variable, "LS_POWERCUT_SHADOW=%s",
                   trial.shadow);
    assert_int_equal(mkdir(trial.directory, 0700), 0);
    uint64_t random = trial.seed;
    for (unsigned i = 0; i < cuts(); i++) {
        one_life(&trial, &random);
        if (death != DEATH_KILL) {
            cut_power(&trial, &random);
        }
    }
    assert_true(trial.acknowledgements > 0 || cuts() < 5);
    assert_true(trial.deaths > 0 || cuts() < 5);
}

TEST(storage, keeps_what_it_acknowledged_over_kill_9)
{
    die_often(DEATH_KILL);
}

/* F8 */
TEST(storage, keeps_what_it_acknowledged_over_power_cuts)
{
    die_often(DEATH_CUT);
}

/* F2 */
TEST(storage, keeps_what_it_acknowledged_over_power_cuts_that_tear)
{
    die_often(DEATH_TORN);
}

/* The shim itself: without this a trial in which nothing is ever lost would prove nothing. */
TEST(powercut, takes_what_was_not_synced)
{
    char tree[160];
    char shadow[160];
    char tree_variable[224];
    char shadow_variable[224];
    char preload[512];
    char path[224];
    const char *place = test_memory_directory();
    (void)snprintf(tree, sizeof tree, "%s/tree", place);
    (void)snprintf(shadow, sizeof shadow, "%s/shadow", place);
    (void)snprintf(tree_variable, sizeof tree_variable, "LS_POWERCUT_DIRECTORY=%s", tree);
    (void)snprintf(shadow_variable, sizeof shadow_variable, "LS_POWERCUT_SHADOW=%s", shadow);
    (void)snprintf(preload, sizeof preload, "LD_PRELOAD=%s", LS_POWERCUT);
    assert_int_equal(mkdir(tree, 0700), 0);
    const char *const environment[] = {preload, tree_variable, shadow_variable, NULL};
    const char *const program[] = {LS_POWERCUT_SUBJECT, tree, NULL};
    struct process process;
    process_start(&process, program, environment);
    assert_string_equal(process_line(&process), "ready");
    process_kill(&process);
    assert_int_equal(process_end(&process), 128 + 9);
    const char *const restore[] = {LS_POWERCUT_RESTORE, shadow, tree, NULL};
    assert_int_equal(process_run(restore), 0);

    static const struct {
        const char *name;
        const char *content; /* NULL: gone */
    } expected[] = {{"synced", "synced bytes"},
                    {"grown", "first"},
                    {"overwritten", "aaaa"},
                    {"nameless", NULL},
                    {"empty", ""},
                    {"renamed-from", NULL},
                    {"renamed-to", "renamed"},
                    {"unlinked", "still here"},
                    {"rename-pending", "pending"},
                    {"rename-done", NULL},
                    {"folder/inside", "in folder"},
                    {"truncated", "long content"}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        char content[64] = {0};
        (void)snprintf(path, sizeof path, "%s/%s", tree, expected[i].name);
        FILE *file = fopen(path, "r");
        if (expected[i].content == NULL) {
            assert_null(file);
            continue;
        }
        assert_non_null(file);
        (void)fread(content, 1, sizeof content - 1, file);
        (void)fclose(file);
        assert_string_equal(content, expected[i].content);
    }
}
