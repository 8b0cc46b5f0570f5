/* SPDX-License-Identifier: MIT */
/*
 * Death at every named step (steps.c), of the store and of lockstep-kv's state. For each step: a
 * new directory; a process that goes through a random history and dies there; one that opens what
 * was left and dies again, at a random step of its opening or soon after; and one that opens it in
 * peace. Each compares all it finds with the model of the history, each must hold what was
 * acknowledged before it. In turn the death is a kill -9, a power cut that takes all that was not
 * synced, and one that leaves torn tails.
 *
 * LS_CRASHES=N: N rounds over all steps with each kind of death, at the first and at later times.
 */
#include "../fault/process.h"
#include "../fault/tree.h"
#include "steps.h"
#include "test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum death { DEATH_KILL, DEATH_CUT, DEATH_TORN, DEATHS };

struct trial {
    const char *program;
    enum death death;
    uint64_t random;
    char directory[128], disk[128], shadow[128], seed_text[32];
    char preload[512], tree_variable[192], shadow_variable[192];
    uint64_t acknowledged;
};

static unsigned deaths, acknowledgements;

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

static unsigned rounds(void)
{
    const char *given = getenv("LS_CRASHES");
    return given == NULL ? 0 : (unsigned)strtoul(given, NULL, 0);
}

/* All that the process says, until it ends. */
static int listen_to(struct trial *trial, struct process *process, const char *wish)
{
    const char *line;
    uint64_t number = 0;
    while ((line = process_line(process)) != NULL) {
        if (sscanf(line, "open %" SCNu64, &number) == 1) {
            if (number < trial->acknowledged) {
                fail_msg("%s: %" PRIu64 " was acknowledged, but %" PRIu64 " was found", wish,
                         trial->acknowledged, number);
            }
        } else {
            assert_int_equal(sscanf(line, "ack %" SCNu64, &number), 1);
            acknowledgements++;
        }
        trial->acknowledged = number > trial->acknowledged ? number : trial->acknowledged;
    }
    return process_end(process);
}

static void cut_power(struct trial *trial)
{
    char seed[32];
    if (trial->death == DEATH_KILL) {
        return;
    }
    (void)snprintf(seed, sizeof seed, "%" PRIu64,
                   trial->death == DEATH_TORN ? next_random(&trial->random) | 1 : 0);
    const char *const restore[] = {LS_POWERCUT_RESTORE, trial->shadow, trial->disk, seed, NULL};
    assert_int_equal(process_run(restore), 0);
}

/* One process that has to die at the `count`-th time of `step`, and then the power may go. */
static void die_at(struct trial *trial, const char *step, uint64_t count)
{
    char wish[96];
    struct process process;
    (void)snprintf(wish, sizeof wish, "LS_CRASH_AT=%s:%" PRIu64, step, count);
    const char *const program[] = {trial->program, trial->directory, trial->seed_text, NULL};
    /* guards are due after a second, or when the store is closed */
    const char *steps = strcmp(step, "guard.due") == 0 ? "LS_STEPS=20" : "LS_STEPS=1000000";
    const char *const environment[] = {wish,
                                       steps,
                                       "ASAN_OPTIONS=verify_asan_link_order=0",
                                       trial->death == DEATH_KILL ? NULL : trial->preload,
                                       trial->tree_variable,
                                       trial->shadow_variable,
                                       NULL};
    process_start(&process, program, environment);
    int code = listen_to(trial, &process, wish);
    if (code != CRASH_EXIT) {
        fail_msg("%s, death %d, seed %s: ended with %d, not at its step", wish, (int)trial->death,
                 trial->seed_text, code);
    }
    deaths++;
    cut_power(trial);
}

static void open_in_peace(struct trial *trial, const char *step)
{
    struct process process;
    const char *const program[] = {trial->program, trial->directory, trial->seed_text, "hold",
                                   NULL};
    process_start(&process, program, NULL);
    const char *line = process_line(&process);
    uint64_t found = 0;
    if (line == NULL || sscanf(line, "open %" SCNu64, &found) != 1 || found < trial->acknowledged) {
        fail_msg("after %s, death %d, seed %s: %" PRIu64 " was acknowledged, found: %s", step,
                 (int)trial->death, trial->seed_text, trial->acknowledged,
                 line == NULL ? "nothing" : line);
    }
    assert_int_equal(process_end(&process), 0);
}

static void one_trial(const char *program, const struct crash_step *step, enum death death,
                      uint64_t seed, uint64_t count)
{
    static struct trial trial;
    static char place[64];
    if (place[0] == '\0') {
        (void)snprintf(place, sizeof place, "%s", test_memory_directory());
    }
    trial = (struct trial){.program = program, .death = death, .random = seed | 1};
    (void)snprintf(trial.disk, sizeof trial.disk, "%s/disk", place);
    (void)snprintf(trial.shadow, sizeof trial.shadow, "%s/shadow", place);
    /* the store makes its parents itself */
    (void)snprintf(trial.directory, sizeof trial.directory, "%s/disk/%s", place,
                   strcmp(program, LS_CRASH_STORE) == 0 ? "new/data" : "state");
    (void)snprintf(trial.seed_text, sizeof trial.seed_text, "%" PRIu64, seed >> 1 | 1);
    (void)snprintf(trial.preload, sizeof trial.preload, "LD_PRELOAD=%s", LS_POWERCUT);
    (void)snprintf(trial.tree_variable, sizeof trial.tree_variable, "LS_POWERCUT_DIRECTORY=%s",
                   trial.disk);
    (void)snprintf(trial.shadow_variable, sizeof trial.shadow_variable, "LS_POWERCUT_SHADOW=%s",
                   trial.shadow);
    tree_remove(trial.disk);
    tree_remove(trial.shadow);
    assert_int_equal(mkdir(trial.disk, 0700), 0);
    if (step->after != NULL) {
        trial.death = DEATH_KILL; /* a cut would take what is to be found */
        die_at(&trial, step->after, 1);
        trial.death = death;
    }
    die_at(&trial, step->name, count);
    die_at(&trial, "any", 1 + next_random(&trial.random) % 40);
    open_in_peace(&trial, step->name);
}

static void die_everywhere(const char *program, unsigned where)
{
    uint64_t random = test_seed() | 1;
    deaths = acknowledgements = 0;
    for (size_t i = 0; i < crash_steps_count; i++) {
        const struct crash_step *step = &crash_steps[i];
        if ((step->where & where) == 0) {
            continue;
        }
        uint64_t later = step->where & STEP_ONCE ? 1 : 8;
        if (rounds() == 0) {
            one_trial(program, step, (enum death)((i + random) % DEATHS), next_random(&random),
                      1 + next_random(&random) % (later == 1 ? 1 : 6));
        }
        for (unsigned round = 0; round < rounds(); round++) {
            for (unsigned death = 0; death < DEATHS; death++) {
                one_trial(program, step, (enum death)death, next_random(&random),
                          round == 0 ? 1 : 1 + next_random(&random) % later);
            }
        }
    }
    printf("%u deaths, %u acknowledgements\n", deaths, acknowledgements);
    assert_true(acknowledgements > 0);
}

TEST(crash, at_every_step_of_the_store_loses_nothing_acknowledged)
{
    die_everywhere(LS_CRASH_STORE, STEP_STORE);
}

/* F13 */
TEST(crash, at_every_step_of_the_state_leaves_a_prefix_with_its_index)
{
    die_everywhere(LS_CRASH_STATE, STEP_STATE);
}
