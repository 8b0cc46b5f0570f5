/* SPDX-License-Identifier: MIT */
/* Tracing, memory and errors as every file of this room uses them; without a C library. */
#ifndef LOCKSTEP_STATESYNC_NOTE_H
#define LOCKSTEP_STATESYNC_NOTE_H

#include <lockstep/env.h>

/** What a trace record of this room needs besides its text. */
struct ls__note {
    const struct ls_env *env;
    const struct ls_group_id *group;
    const struct ls_peer_id *peer; /* NULL: concerns no peer */
    const char *detail;            /* NULL: none */
};

static inline void ls__note(const struct ls__note *note, enum ls_trace_level level,
                            const char *format, uint64_t a, uint64_t b, uint64_t c)
{
    if (note->env->trace == NULL) {
        return;
    }
    struct ls_trace trace = {
        .level = level,
        .room = "statesync",
        .format = format,
        .group = note->group,
        .peer = note->peer,
        .detail = note->detail,
        .args = {a, b, c},
    };
    note->env->trace(note->env->self, &trace);
}

static inline void *ls__allocate(const struct ls_env *env, size_t bytes)
{
    return env->allocate(env->self, NULL, bytes);
}

static inline void ls__free(const struct ls_env *env, void *block)
{
    if (block != NULL) {
        (void)env->allocate(env->self, block, 0);
    }
}

/**
 * Makes room for `bytes` in a block, which doubles; an empty one begins with `least`. False: out of
 * memory, and nothing changed.
 */
static inline bool ls__grow(const struct ls_env *env, size_t least, uint8_t **block,
                            size_t *capacity, size_t bytes)
{
    if (bytes <= *capacity) {
        return true;
    }
    size_t grown = *capacity < least ? least : *capacity;
    while (grown < bytes) {
        grown *= 2;
    }
    void *fresh = env->allocate(env->self, *block, grown);
    if (fresh == NULL) {
        return false;
    }
    *block = fresh;
    *capacity = grown;
    return true;
}

/** Fills `error` (may be NULL) with a static text, and returns `status`. */
static inline enum ls_status ls__refuse(struct ls_error *error, enum ls_status status,
                                        const char *text)
{
    if (error != NULL) {
        size_t bytes = strlen(text);
        bytes = bytes < sizeof error->text ? bytes : sizeof error->text - 1;
        error->status = status;
        memcpy(error->text, text, bytes);
        error->text[bytes] = '\0';
    }
    return status;
}

#endif
