/* SPDX-License-Identifier: MIT */
/*
 * The thread that builds a restored state, so that the loop does not wait for its disk. Items are
 * handed over in blocks; a few wait at most. One that is given up takes itself apart, too, and the
 * next one, which needs the same folder, waits for it in its own thread.
 */
#include "rocks.h"

#include <signal.h>
#include <stdlib.h>

#include "kv_limits.h"

enum { LENGTHS_BYTES = 2 * sizeof(uint32_t) };

/* Items, one behind another: key bytes (4), value bytes (4), key, value. */
struct block {
    struct block *next;
    size_t bytes, capacity;
    char data[];
};

struct kv_builder {
    const char *directory;
    uint64_t number;
    const rocksdb_options_t *options;
    char owner[KV_OWNER_BYTES];
    struct ls_cursor anchor;
    pthread_t thread;
    bool running; /* to be joined */
    struct block *filling;
    struct kv_builder *former;  /* that was given up: the thread's */
    uint32_t formers;           /* that may still run */
    struct kv_restore *restore; /* the thread's */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* behind the lock */
    struct block *first, **last;
    size_t waiting;
    bool no_more, stop, done, taken;
    bool gone;              /* nothing of it is left but to be closed */
    struct kv_state *state; /* finished, and not taken */
    enum ls_status status;  /* of the thread */
};

/* ---- the thread ---- */

static enum ls_status block_build(struct kv_builder *builder, const struct block *block)
{
    enum ls_status status = LS_OK;
    for (size_t at = 0; status == LS_OK && at < block->bytes;) {
        uint32_t lengths[2];
        (void)memcpy(lengths, block->data + at, sizeof lengths);
        const char *key = block->data + at + sizeof lengths;
        status = kv_restore_item(builder->restore, (struct ls_span){key, lengths[0]},
                                 (struct ls_span){key + lengths[0], lengths[1]});
        at += sizeof lengths + lengths[0] + lengths[1];
    }
    return status;
}

/* All is there: it becomes a state that is open. */
static enum ls_status state_build(struct kv_builder *builder)
{
    struct kv_restore *restore = builder->restore;
    struct kv_state *state = NULL;
    enum ls_status status = kv_restore_build(restore, builder->owner);
    if (status == LS_OK) {
        status = kv_state_open(restore->folder, restore->options, &state, NULL);
    }
    if (status == LS_OK) {
        state->number = restore->number;
        status = kv_state_bind(state, builder->owner, NULL);
    }
    if (status != LS_OK) {
        kv_state_close(state, false);
        return status;
    }
    (void)pthread_mutex_lock(&builder->lock);
    builder->state = state;
    (void)pthread_mutex_unlock(&builder->lock);
    return LS_OK;
}

/* The next block, or NULL: there will be none. With the lock. */
static struct block *block_next(struct kv_builder *builder)
{
    while (builder->first == NULL && !builder->no_more && !builder->stop) {
        (void)pthread_cond_wait(&builder->changed, &builder->lock);
    }
    struct block *block = builder->stop ? NULL : builder->first;
    if (block != NULL) {
        builder->first = block->next;
        builder->last = builder->first == NULL ? &builder->first : builder->last;
        builder->waiting--;
    }
    return block;
}

/* What was built and not taken goes. */
static void builder_clear(struct kv_builder *builder)
{
    kv_state_close(builder->state, false);
    builder->state = NULL;
    kv_restore_close(builder->restore, !builder->taken);
    builder->restore = NULL;
    while (builder->first != NULL) {
        struct block *block = builder->first;
        builder->first = block->next;
        free(block);
    }
}

static void *builder_run(void *arg)
{
    struct kv_builder *builder = arg;
    struct block *block = NULL;
    kv_builder_close(builder->former);
    (void)pthread_mutex_lock(&builder->lock);
    enum ls_status status = builder->stop ? LS_ERR_CLOSED : LS_OK;
    (void)pthread_mutex_unlock(&builder->lock);
    if (status == LS_OK) {
        status = kv_restore_open(builder->directory, builder->number, builder->options,
                                 builder->anchor, &builder->restore);
    }
    (void)pthread_mutex_lock(&builder->lock);
    while (status == LS_OK && (block = block_next(builder)) != NULL) {
        (void)pthread_mutex_unlock(&builder->lock);
        status = block_build(builder, block);
        free(block);
        (void)pthread_mutex_lock(&builder->lock);
    }
    bool whole = status == LS_OK && !builder->stop;
    (void)pthread_mutex_unlock(&builder->lock);
    status = whole ? state_build(builder) : status;
    (void)pthread_mutex_lock(&builder->lock);
    builder->status = status;
    builder->done = true;
    while (!builder->stop) {
        (void)pthread_cond_wait(&builder->changed, &builder->lock);
    }
    (void)pthread_mutex_unlock(&builder->lock);
    builder_clear(builder); /* nobody else looks at it any more */
    (void)pthread_mutex_lock(&builder->lock);
    builder->gone = true;
    (void)pthread_mutex_unlock(&builder->lock);
    return NULL;
}

/* ---- for the loop's thread ---- */

static bool builder_runs(struct kv_builder *builder)
{
    if (builder == NULL) {
        return false;
    }
    (void)pthread_mutex_lock(&builder->lock);
    bool runs = !builder->gone;
    (void)pthread_mutex_unlock(&builder->lock);
    return runs;
}

enum ls_status kv_builder_open(const char *directory, uint64_t number,
                               const rocksdb_options_t *options, const char owner[KV_OWNER_BYTES],
                               struct ls_cursor anchor, struct kv_builder **former,
                               struct kv_builder **out)
{
    uint32_t formers = builder_runs(*former) ? (*former)->formers + 1 : 0;
    if (formers > KV_RESTORE_FORMER_MAX) {
        return LS_ERR_BUSY;
    }
    struct kv_builder *builder = calloc(1, sizeof *builder);
    if (builder == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    *builder = (struct kv_builder){.directory = directory,
                                   .number = number,
                                   .options = options,
                                   .anchor = anchor,
                                   .former = *former,
                                   .formers = formers};
    builder->last = &builder->first;
    builder->status = LS_OK;
    (void)memcpy(builder->owner, owner, KV_OWNER_BYTES);
    (void)pthread_mutex_init(&builder->lock, NULL);
    (void)pthread_cond_init(&builder->changed, NULL);
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all); /* signals are for the program's loop */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    builder->running = pthread_create(&builder->thread, NULL, builder_run, builder) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!builder->running) {
        kv_builder_close(builder);
        return LS_ERR_NO_MEMORY;
    }
    *former = NULL;
    *out = builder;
    return LS_OK;
}

struct ls_cursor kv_builder_anchor(const struct kv_builder *builder)
{
    return builder->anchor;
}

/* Hands over what is filled. BUSY: too much waits. */
static enum ls_status block_hand_over(struct kv_builder *builder)
{
    enum ls_status status = LS_OK;
    (void)pthread_mutex_lock(&builder->lock);
    if (builder->done) {
        status = builder->status == LS_OK ? LS_ERR_INVALID : builder->status;
    } else if (builder->waiting == KV_RESTORE_BLOCKS_MAX) {
        status = LS_ERR_BUSY;
    } else if (builder->filling != NULL) {
        *builder->last = builder->filling;
        builder->last = &builder->filling->next;
        builder->filling = NULL;
        builder->waiting++;
        (void)pthread_cond_signal(&builder->changed);
    }
    (void)pthread_mutex_unlock(&builder->lock);
    return status;
}

enum ls_status kv_builder_item(struct kv_builder *builder, struct ls_span key, struct ls_span value)
{
    size_t bytes = LENGTHS_BYTES + key.bytes + value.bytes;
    struct block *block = builder->filling;
    if (block != NULL && block->capacity - block->bytes < bytes) {
        enum ls_status status = block_hand_over(builder);
        if (status != LS_OK) {
            return status;
        }
        block = NULL;
    }
    if (block == NULL) {
        size_t capacity = bytes > KV_RESTORE_BLOCK_BYTES ? bytes : KV_RESTORE_BLOCK_BYTES;
        block = malloc(sizeof *block + capacity);
        if (block == NULL) {
            return LS_ERR_NO_MEMORY;
        }
        *block = (struct block){.capacity = capacity};
        builder->filling = block;
    }
    const uint32_t lengths[2] = {(uint32_t)key.bytes, (uint32_t)value.bytes};
    char *at = block->data + block->bytes;
    (void)memcpy(at, lengths, sizeof lengths);
    if (key.bytes > 0) {
        (void)memcpy(at + sizeof lengths, key.data, key.bytes);
    }
    if (value.bytes > 0) {
        (void)memcpy(at + sizeof lengths + key.bytes, value.data, value.bytes);
    }
    block->bytes += bytes;
    return LS_OK;
}

enum ls_status kv_builder_finish(struct kv_builder *builder)
{
    if (builder->filling != NULL) {
        enum ls_status status = block_hand_over(builder);
        if (status != LS_OK) {
            return status;
        }
    }
    (void)pthread_mutex_lock(&builder->lock);
    builder->no_more = true;
    (void)pthread_cond_signal(&builder->changed);
    enum ls_status status = builder->done ? builder->status : LS_ERR_BUSY;
    (void)pthread_mutex_unlock(&builder->lock);
    return status;
}

struct kv_state *kv_builder_take(struct kv_builder *builder)
{
    (void)pthread_mutex_lock(&builder->lock);
    struct kv_state *state = builder->state;
    LS_ASSERT(builder->done && state != NULL);
    builder->state = NULL;
    builder->taken = true;
    (void)pthread_mutex_unlock(&builder->lock);
    return state;
}

void kv_builder_stop(struct kv_builder *builder)
{
    (void)pthread_mutex_lock(&builder->lock);
    builder->stop = true;
    (void)pthread_cond_signal(&builder->changed);
    (void)pthread_mutex_unlock(&builder->lock);
    free(builder->filling);
    builder->filling = NULL;
}

void kv_builder_close(struct kv_builder *builder)
{
    if (builder == NULL) {
        return;
    }
    kv_builder_stop(builder);
    if (builder->running) {
        (void)pthread_join(builder->thread, NULL);
    }
    (void)pthread_cond_destroy(&builder->changed);
    (void)pthread_mutex_destroy(&builder->lock);
    free(builder);
}
