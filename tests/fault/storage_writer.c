/* SPDX-License-Identifier: MIT */
/*
 * The process that dies in the fault tests: it opens a store, checks that it holds a history up to
 * some step, says "open <step>", goes on with the history and says "ack <step>" for each step that
 * is durable.
 *
 *     storage_writer <directory> <seed> [hold]     hold: only open, and wait for the end of input
 *
 * LS_STEPS=<n> closes the store after about so many steps, with a cursor that its guard has not.
 */
#include "history.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define UNACKNOWLEDGED_MAX 8u

static uint64_t base; /* step before seq 1 */
static uint64_t durable;

static void on_durable(void *self, void *context, uint64_t seq)
{
    char line[32];
    (void)self;
    (void)context;
    durable = seq;
    int length = snprintf(line, sizeof line, "ack %" PRIu64 "\n", base + seq);
    if (write(STDOUT_FILENO, line, (size_t)length) != length) {
        _exit(0);
    }
}

static void on_failed(void *self, void *context, uint64_t seq, enum ls_status status,
                      const char *text)
{
    (void)self;
    (void)context;
    (void)seq;
    (void)status;
    (void)fprintf(stderr, "storage_writer: %s\n", text);
    exit(4);
}

static void collect(struct ls_storage *storage, int timeout_ms)
{
    struct pollfd watched = {storage->descriptor(storage->self), POLLIN, 0};
    if (poll(&watched, 1, timeout_ms) > 0) {
        storage->collect(storage->self);
    }
}

/* Forwards the model to the step the store says it holds, and compares. */
static void verify(struct history *history, struct ls_storage *storage,
                   struct ls_storage_group *group, const struct ls_storage_state *state)
{
    struct history_step step;
    while (history->step < state->commit_hint) {
        history_next(history, &step);
    }
    if (state->anchor.index != history->anchor && !state->tail_unknown) {
        /* the prune of the next step may have come before its batch */
        struct history peek = *history;
        history_next(&peek, &step);
        if (step.prune == state->anchor.index) {
            history->anchor = step.prune;
        }
    }
    const char *reason = history_differs(history, storage, group, state);
    if (reason != NULL) {
        (void)fprintf(stderr, "storage_writer: after step %" PRIu64 ": %s\n", history->step,
                      reason);
        exit(3);
    }
}

static void run(struct history *history, struct ls_storage *storage, struct ls_storage_group *group)
{
    const char *given = getenv("LS_STEPS");
    uint64_t steps = given == NULL ? UINT64_MAX / 2 : strtoull(given, NULL, 0);
    struct history_step step = {0};
    for (uint64_t seq = 1; history->last + 100 < HISTORY_ENTRIES_MAX; seq++) {
        while (seq > steps && durable + 1 < seq) {
            collect(storage, -1); /* the last ones go alone */
        }
        if (seq > steps + 1 && step.batch.hard_state == NULL) {
            break;
        }
        ls_index anchor = history->anchor;
        history_next(history, &step);
        while (durable + 1 < seq && (step.prune != 0 || durable + UNACKNOWLEDGED_MAX < seq)) {
            collect(storage, -1);
        }
        /* after a restart the prune may have happened already */
        if (step.prune > anchor && storage->prune(storage->self, group, step.prune) != LS_OK) {
            (void)fprintf(stderr, "storage_writer: prune refused\n");
            exit(5);
        }
        step.batch.seq = seq;
        if (storage->stage(storage->self, group, &step.batch) != LS_OK) {
            exit(4);
        }
        storage->commit(storage->self);
        collect(storage, 0);
    }
}

int main(int argc, char **argv)
{
    static const struct ls_storage_sink sink = {NULL, on_durable, on_failed};
    static struct ls_storage_state state;
    struct history history;
    struct ls_storage storage;
    struct ls_storage_group *group;
    struct ls_error error;
    if (argc < 3) {
        return 2;
    }
    /* a small buffer, so that tables are written out in the middle of it all */
    struct ls_storage_rocksdb_options options = {
        .size = sizeof options, .directory = argv[1], .write_buffer_bytes = 256u << 10};
    if (ls_storage_rocksdb_open(&options, &storage, &error) != LS_OK) {
        (void)fprintf(stderr, "storage_writer: %s\n", error.text);
        return 3;
    }
    storage.attach(storage.self, &sink);
    struct ls_group_id id;
    (void)memset(id.bytes, 1, sizeof id.bytes);
    if (storage.open_group(storage.self, &id, NULL, &group, &state, &error) != LS_OK) {
        (void)fprintf(stderr, "storage_writer: %s\n", error.text);
        return 3;
    }
    history_open(&history, strtoull(argv[2], NULL, 0));
    verify(&history, &storage, group, &state);
    base = history.step;
    (void)printf("open %" PRIu64 "\n", base);
    (void)fflush(stdout);
    if (argc > 3) {
        char byte;
        while (read(STDIN_FILENO, &byte, 1) > 0) {
        }
    } else {
        run(&history, &storage, group);
    }
    storage.close_group(storage.self, group);
    storage.close(storage.self);
    history_close(&history);
    return 0;
}
