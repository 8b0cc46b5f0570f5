/* SPDX-License-Identifier: MIT */
/*
 * What a named step does in the programs of the crash harness: counts, and ends the process with
 * _exit, as kill -9 would, when the step of LS_CRASH_AT=<step>:<count> is reached for the
 * count-th time. "any" is every step. No atexit, no flush, no unlock: other threads stop wherever
 * they are.
 *
 * fsync and fdatasync are taken over too, so that RocksDB's own files have steps; they go on to
 * the next library, which may be the power-cut shim.
 */
#define _GNU_SOURCE
#include "steps.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void ls__crash_point(const char *step);
void ls__crash_staged(const char *kind);
void ls__crash_taken(void);
void ls__crash_write(const char *when);
void ls__crash_file(const char *file, const char *when);

static char wanted[64];
static atomic_long left;

static void __attribute__((constructor)) read_wish(void)
{
    const char *wish = getenv("LS_CRASH_AT");
    const char *colon = wish == NULL ? NULL : strrchr(wish, ':');
    if (colon != NULL && (size_t)(colon - wish) < sizeof wanted) {
        (void)memcpy(wanted, wish, (size_t)(colon - wish));
        atomic_store(&left, strtol(colon + 1, NULL, 10));
    }
}

void ls__crash_point(const char *step)
{
    bool known = false;
    for (size_t i = 0; i < crash_steps_count && !known; i++) {
        known = strcmp(crash_steps[i].name, step) == 0;
    }
    if (!known) {
        (void)fprintf(stderr, "crash step %s is not in the table\n", step);
        abort();
    }
    if ((strcmp(wanted, step) == 0 || strcmp(wanted, "any") == 0) &&
        atomic_fetch_sub(&left, 1) == 1) {
        _exit(CRASH_EXIT);
    }
}

/* Kinds of batches: staged, and in the write that the writer is at. Bits by place in this list. */
static const char *const kinds[] = {"append", "hard", "truncate", "cut", "reset", "prune"};
static unsigned staged; /* under the store's mutex */
static unsigned taken;  /* the writer's */

void ls__crash_staged(const char *kind)
{
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i], kind) == 0) {
            staged |= 1u << i;
            return;
        }
    }
    (void)fprintf(stderr, "kind %s of a batch is not known\n", kind);
    abort();
}

void ls__crash_taken(void)
{
    taken = staged;
    staged = 0;
}

void ls__crash_write(const char *when)
{
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char step[64];
        if ((taken & 1u << i) != 0) {
            (void)snprintf(step, sizeof step, "%s.%s", kinds[i], when);
            ls__crash_point(step);
        }
    }
}

void ls__crash_file(const char *file, const char *when)
{
    char step[64];
    (void)snprintf(step, sizeof step, "vault.%s.%s", file, when);
    ls__crash_point(step);
}

/* What RocksDB keeps behind the descriptor, or NULL: not its. */
static const char *content_of(int descriptor)
{
    char link[64];
    char path[PATH_MAX];
    struct stat info;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0 || fstat(descriptor, &info) != 0) {
        return NULL;
    }
    path[length] = '\0';
    const char *name = strrchr(path, '/');
    name = name == NULL ? path : name + 1;
    const char *suffix = strrchr(name, '.');
    suffix = suffix == NULL ? "" : suffix;
    if (S_ISDIR(info.st_mode)) {
        /* a state is in a folder of its own, called by a number */
        bool state = strcmp(name, "state") == 0 || strstr(path, "/state/") != NULL;
        bool ours = strcmp(name, "log") == 0 || strcmp(name, "log.new") == 0 || state;
        return ours ? "names" : NULL;
    }
    if (strncmp(name, "MANIFEST-", 9) == 0) {
        return "manifest";
    }
    if (strcmp(suffix, ".sst") == 0 || strcmp(name, "layer.new") == 0 ||
        strncmp(name, "part-", 5) == 0) {
        return "table";
    }
    if (strcmp(suffix, ".log") == 0) {
        return "wal";
    }
    return strcmp(suffix, ".dbtmp") == 0 ? "current" : NULL;
}

static void sync_step(const char *content, const char *when)
{
    char step[64];
    if (content != NULL) {
        (void)snprintf(step, sizeof step, "%s.%s", content, when);
        ls__crash_point(step);
    }
}

static int stepped(const char *function, int descriptor)
{
    int (*next)(int) = NULL;
    void *found = dlsym(RTLD_NEXT, function);
    if (found == NULL) {
        abort();
    }
    (void)memcpy(&next, &found, sizeof next); /* ISO C has no cast for it */
    const char *content = wanted[0] == '\0' ? NULL : content_of(descriptor);
    sync_step(content, "before-sync");
    int result = next(descriptor);
    sync_step(content, "after-sync");
    return result;
}

/* seen by RocksDB, too */
#define EXPORTED __attribute__((visibility("default")))

EXPORTED int fsync(int descriptor)
{
    return stepped("fsync", descriptor);
}

EXPORTED int fdatasync(int descriptor)
{
    return stepped("fdatasync", descriptor);
}
