/* SPDX-License-Identifier: MIT */
/*
 * Makes a failing run smaller. Attempts are children that share their world with the parent, which
 * so learns what a run came to also when it ended with an assertion, a signal or not at all.
 */
#include "world.h"

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* a run that takes longer than this, in real time, counts as one without end */
#define ATTEMPT_SECONDS 120u
#define ATTEMPTS_MAX    500u
#define ROUNDS_MAX      4u

struct shrink {
    struct sim_options best;
    char wanted[SIM_TEXT_BYTES]; /* the sentence, without numbers and names */
    char text[SIM_TEXT_BYTES];   /* of the best */
    uint64_t at_us;              /* when the best failed */
    uint64_t injected[SIM_FAULTS];
    uint32_t faults; /* of its script, up to the failure */
    uint32_t attempts;
};

struct verdict {
    bool failed;
    uint32_t count, faults;
    uint64_t at_us, injected[SIM_FAULTS];
    char text[SIM_TEXT_BYTES];
};

/* Words that stay the same when members, terms and places are others. */
static void plain(const char *text, char out[SIM_TEXT_BYTES])
{
    size_t used = 0;
    for (const char *at = text; *at != '\0' && used + 2 < SIM_TEXT_BYTES;) {
        size_t length = strcspn(at, " ");
        bool named = length > 1;
        for (size_t i = 0; i < length; i++) {
            named = named && !isdigit((unsigned char)at[i]) && at[i] != ':';
        }
        for (size_t i = 0; named && i < length && used + 2 < SIM_TEXT_BYTES; i++) {
            out[used++] = at[i];
        }
        out[used++] = ' ';
        at += length + (at[length] == ' ' ? 1u : 0u);
    }
    out[used] = '\0';
}

static void child_run(struct world *world, const struct sim_options *options, FILE *last_words)
{
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0 ||
        dup2(fileno(last_words), STDERR_FILENO) < 0) {
        _exit(2);
    }
    (void)alarm(ATTEMPT_SECONDS);
    sim_world_open(world, options);
    sim_world_run(world);
    _exit(0);
}

/* What a run that did not come to its end left: an assertion's or a sanitizer's line, or nothing.
 */
static void last_words_read(FILE *last_words, int status, char out[SIM_TEXT_BYTES])
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        (void)snprintf(out, SIM_TEXT_BYTES, "no end within %u real seconds", ATTEMPT_SECONDS);
        return;
    }
    rewind(last_words);
    while (fgets(out, (int)SIM_TEXT_BYTES, last_words) != NULL) {
        out[strcspn(out, "\n")] = '\0';
        if (strstr(out, "assertion failed") != NULL || strstr(out, "rror") != NULL) {
            return;
        }
    }
    (void)snprintf(out, SIM_TEXT_BYTES, "the run was ended by %s %d",
                   WIFSIGNALED(status) ? "signal" : "status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static struct verdict attempt(const struct sim_options *options)
{
    struct world *world =
        mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    FILE *last_words = tmpfile();
    LS_ASSERT(world != MAP_FAILED && last_words != NULL);
    (void)fflush(NULL);
    pid_t child = fork();
    LS_ASSERT(child >= 0);
    if (child == 0) {
        child_run(world, options, last_words);
    }
    int status = 0;
    LS_ASSERT(waitpid(child, &status, 0) == child);
    struct verdict verdict = {.failed = world->failed,
                              .count = world->count,
                              .faults = (uint32_t)world->records_count,
                              .at_us = world->now_us};
    (void)memcpy(verdict.injected, world->injected, sizeof verdict.injected);
    (void)memcpy(verdict.text, world->text, sizeof verdict.text);
    if (status != 0) {
        verdict.failed = true;
        last_words_read(last_words, status, verdict.text);
    }
    (void)fclose(last_words);
    (void)munmap(world, sizeof *world);
    return verdict;
}

static void keep(struct shrink *shrink, const struct sim_options *options,
                 const struct verdict *verdict)
{
    shrink->best = *options;
    shrink->at_us = verdict->at_us;
    shrink->faults = verdict->faults;
    (void)memcpy(shrink->injected, verdict->injected, sizeof shrink->injected);
    (void)memcpy(shrink->text, verdict->text, sizeof shrink->text);
}

/* Takes `options` if they fail in the same way and not later. */
static bool better(struct shrink *shrink, const struct sim_options *options)
{
    if (shrink->attempts >= ATTEMPTS_MAX) {
        return false;
    }
    shrink->attempts++;
    struct verdict verdict = attempt(options);
    char words[SIM_TEXT_BYTES];
    plain(verdict.text, words);
    if (!verdict.failed || verdict.at_us > shrink->at_us || strcmp(words, shrink->wanted) != 0) {
        return false;
    }
    keep(shrink, options, &verdict);
    return true;
}

/* Up to the failure; or, if that came after the faults, the shortest of some shorter times. */
static bool shrink_seconds(struct shrink *shrink)
{
    struct sim_options options = shrink->best;
    const uint64_t until = shrink->at_us / 1000000u + 1;
    bool any = false;
    options.exact = true;
    if (until < options.seconds) {
        options.seconds = (uint32_t)until;
        any = better(shrink, &options);
    }
    const uint32_t from = shrink->best.seconds;
    for (uint32_t seconds = 1; seconds < from; seconds += seconds / 2 + 1) {
        options.seconds = seconds;
        if (better(shrink, &options)) {
            return true;
        }
    }
    return any;
}

static bool shrink_members(struct shrink *shrink, uint32_t count)
{
    struct sim_options options = shrink->best;
    const uint32_t from = options.members != 0 ? options.members : count;
    for (options.members = 1; options.members < from; options.members++) {
        if (better(shrink, &options)) {
            return true;
        }
    }
    return false;
}

/* Conditions of the whole run, and kinds that stay in the script though they have no part in it. */
static bool shrink_kinds(struct shrink *shrink)
{
    bool any = false;
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        struct sim_options options = shrink->best;
        options.without |= (uint64_t)1u << i;
        any = (shrink->injected[i] > 0 && better(shrink, &options)) || any;
    }
    return any;
}

/* Leaves out `count` more of the faults that are still in, the first of them not below *from, which
 * gets where the next attempt has to begin. */
static bool shrink_some_faults(struct shrink *shrink, uint32_t *from, uint32_t count)
{
    struct sim_options options = shrink->best;
    uint32_t taken = 0, at = *from;
    for (; at < shrink->faults && at < SIM_SKIP_MAX && taken < count; at++) {
        if (!sim_skipped(&options, at)) {
            options.skip[at / 64] |= (uint64_t)1u << at % 64;
            taken++;
        }
    }
    *from = at;
    return taken > 0 && better(shrink, &options);
}

/* Delta debugging (Zeller and Hildebrandt 2002), without its complements: halves of the list of
 * faults, quarters, and so on down to single ones. */
static bool shrink_faults(struct shrink *shrink)
{
    bool any = false;
    for (uint32_t count = shrink->faults; count > 0; count /= 2) {
        for (uint32_t from = 0; from < shrink->faults && from < SIM_SKIP_MAX;) {
            any = shrink_some_faults(shrink, &from, count) || any;
        }
    }
    return any;
}

bool sim_shrink(const struct sim_options *options)
{
    struct shrink *shrink = sim_allocate(sizeof *shrink);
    struct verdict first = attempt(options);
    keep(shrink, options, &first);
    plain(first.text, shrink->wanted);
    if (first.failed) {
        (void)printf("shrink: seed %llu fails at %.3f virtual seconds: %s\n",
                     (unsigned long long)options->seed, (double)first.at_us / 1e6, first.text);
        bool any = true;
        for (uint32_t round = 0; round < ROUNDS_MAX && any; round++) {
            any = shrink_seconds(shrink);
            any = shrink_members(shrink, first.count) || any;
            any = shrink_faults(shrink) || any;
            any = shrink_kinds(shrink) || any;
        }
        (void)printf("shrink: after %u attempts it fails at %.3f virtual seconds: %s\n",
                     shrink->attempts, (double)shrink->at_us / 1e6, shrink->text);
        sim_print_replay(&shrink->best);
    } else {
        (void)printf("shrink: seed %llu is clean\n", (unsigned long long)options->seed);
    }
    free(shrink);
    return first.failed;
}
