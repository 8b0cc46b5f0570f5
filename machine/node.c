/* SPDX-License-Identifier: MIT */
/*
 * The node: opens and closes, takes what comes up from transport and storage to the right group,
 * and runs the turn of the loop (docs/architecture.md, "The loop turn"). A sink only records or
 * steps a core; callbacks of the user fire in the turn.
 */
#include "runtime.h"

#include <signal.h>
#include <string.h>

/* ---- groups by id ---- */

static size_t slot_of(const struct ls_group_id *id)
{
    size_t slot = 0;
    (void)memcpy(&slot, id->bytes, sizeof slot); /* the id is a hash */
    return slot % LS__GROUP_SLOTS;
}

static struct ls_group *group_find(const struct ls_node *node, const struct ls_group_id *id)
{
    for (size_t slot = slot_of(id); node->slots[slot] != NULL;
         slot = (slot + 1) % LS__GROUP_SLOTS) {
        if (ls_group_id_equal(&node->slots[slot]->id, id)) {
            return node->slots[slot];
        }
    }
    return NULL;
}

static void slots_fill(struct ls_node *node)
{
    (void)memset(node->slots, 0, sizeof node->slots);
    for (struct ls_group *group = node->groups; group != NULL; group = group->next) {
        size_t slot = slot_of(&group->id);
        while (node->slots[slot] != NULL) {
            slot = (slot + 1) % LS__GROUP_SLOTS;
        }
        node->slots[slot] = group;
    }
}

struct ls_group *ls__node_find(const struct ls_node *node, const struct ls_group_id *id)
{
    return group_find(node, id);
}

void ls__node_add(struct ls_node *node, struct ls_group *group)
{
    LS_ASSERT(node->groups_count < LS_GROUPS_MAX);
    group->next = node->groups;
    node->groups = group;
    node->groups_count++;
    slots_fill(node);
}

static void group_remove(struct ls_node *node, struct ls_group *group)
{
    struct ls_group **at = &node->groups;
    while (*at != group) {
        at = &(*at)->next;
    }
    *at = group->next;
    node->groups_count--;
    slots_fill(node);
}

/* ---- sinks ---- */

static const char *on_message(void *self, const struct ls_group_id *id,
                              const struct ls_peer_id *peer, enum ls_lane lane,
                              struct ls_span message)
{
    (void)lane;
    struct ls_node *node = self;
    struct ls_group *group = group_find(node, id);
    group = LS_MUTANT(A2) ? node->groups : group;
    return group != NULL ? ls__group_receive(group, peer, message) : NULL;
}

static void on_bond(void *self, const struct ls_bond_notice *notice)
{
    struct ls_node *node = self;
    struct ls_group *group = group_find(node, &notice->group);
    if (group != NULL) {
        ls__group_bond(group, notice);
    }
}

static void on_durable(void *self, void *context, uint64_t seq)
{
    (void)self;
    struct ls_group *group = context;
    LS_ASSERT(seq <= group->staged_seq);
    if (seq > group->durable_seq) {
        group->durable_seq = seq;
        ls__group_touch(group);
    }
}

static void on_failed(void *self, void *context, uint64_t seq, enum ls_status status,
                      const char *text)
{
    (void)seq;
    struct ls_node *node = self;
    struct ls_group *group = context;
    if (!node->storage_failed) {
        node->storage_failed = true;
        (void)strncpy(node->storage_text, text, sizeof node->storage_text - 1);
    }
    if (group->failed == LS_OK) {
        group->failed = status;
        ls__group_touch(group);
    }
}

/* ---- the turn ---- */

static void turn_tasks(struct ls_node *node)
{
    (void)pthread_mutex_lock(&node->lock);
    struct ls__task *task = node->tasks;
    node->tasks = NULL;
    node->tasks_end = &node->tasks;
    (void)pthread_mutex_unlock(&node->lock);
    while (task != NULL) {
        struct ls__task *next = task->next;
        task->run(task->arg);
        (void)ls__allocate(&node->env, task, 0);
        task = next;
    }
}

static void turn_deadlines(struct ls_node *node)
{
    uint64_t deadline = node->closing ? node->close_by_us : UINT64_MAX;
    for (const struct ls_group *group = node->groups; group != NULL; group = group->next) {
        uint64_t at = ls__group_deadline(group);
        deadline = at < deadline ? at : deadline;
    }
    node->loop.arm(node->loop.self, deadline);
}

/* The groups touched so far; what is touched from here on belongs to the next turn. */
static struct ls_group *take_dirty(struct ls_node *node)
{
    struct ls_group *dirty = node->dirty;
    node->dirty = NULL;
    node->dirty_end = &node->dirty;
    return dirty;
}

static void turn_groups(struct ls_node *node)
{
    struct ls_group *dirty = take_dirty(node);
    for (struct ls_group *group = dirty; group != NULL; group = group->next_dirty) {
        ls__group_turn_begin(group);
    }
    node->transport.flush(node->transport.self);
    node->staged = false;
    node->storage.commit(node->storage.self);
    node->storage.collect(node->storage.self);
    for (struct ls_group *group = dirty; group != NULL; group = group->next_dirty) {
        ls__group_turn_persisted(group);
    }
    node->transport.flush(node->transport.self);
    for (struct ls_group *group = dirty; group != NULL; group = group->next_dirty) {
        ls__group_turn_apply(group);
    }
    while (dirty != NULL) {
        struct ls_group *group = dirty;
        dirty = group->next_dirty;
        group->next_dirty = NULL;
        group->dirty = false; /* callbacks may touch it for the next turn */
        ls__group_turn_end(group);
    }
    node->transport.flush(node->transport.self);
}

static void node_finish(struct ls_node *node);

static void turn_close(struct ls_node *node)
{
    uint64_t now = ls__now(node);
    struct ls_group *next = NULL;
    for (struct ls_group *group = node->groups; group != NULL; group = next) {
        next = group->next;
        if (!group->closing || !ls__group_close_step(group, now)) {
            continue;
        }
        void (*closed)(void *) = group->close_done;
        void *arg = group->close_arg;
        group_remove(node, group);
        for (struct ls_group **at = &node->dirty; *at != NULL;) {
            if (*at == group) {
                *at = group->next_dirty;
                if (*at == NULL) {
                    node->dirty_end = at;
                }
            } else {
                at = &(*at)->next_dirty;
            }
        }
        ls__group_free(group);
        if (closed != NULL) {
            closed(arg);
        }
        next = node->groups; /* the callback may have changed the list */
    }
    if (node->closing && !node->closed && node->groups == NULL) {
        node->closed = true;
    }
}

static void on_turn(void *self)
{
    struct ls_node *node = self;
    uint64_t start = ls__now(node);
    node->in_turn = true;
    turn_tasks(node);
    turn_groups(node);
    turn_close(node);
    node->in_turn = false;
    if (node->closed) {
        node_finish(node);
        return;
    }
    turn_deadlines(node);
    if (node->staged) {
        node->loop.defer(node->loop.self); /* what the end of this turn staged */
    }
    node->turns++;
    uint64_t took = ls__now(node) - start;
    node->turn_us_max = took > node->turn_us_max ? took : node->turn_us_max;
}

static void on_timer(void *self)
{
    struct ls_node *node = self;
    uint64_t now = ls__now(node);
    for (struct ls_group *group = node->groups; group != NULL; group = group->next) {
        ls__group_timer(group, now);
    }
    node->loop.defer(node->loop.self);
}

static void on_readable(void *self)
{
    struct ls_node *node = self;
    node->storage.collect(node->storage.self);
    node->loop.defer(node->loop.self);
}

/* ---- open ---- */

void ls_node_options_init(struct ls_node_options *options)
{
    *options = (struct ls_node_options){.size = sizeof *options, .close_ms = LS_CLOSE_MS_DEFAULT};
}

bool ls__size_fits(const void *options, size_t size, size_t known)
{
    const uint8_t *bytes = options;
    for (size_t i = known; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return size >= known;
}

static enum ls_status options_check(const struct ls_node_options *options, struct ls_error *error)
{
    if (!ls__size_fits(options, options->size, sizeof *options)) {
        return ls_error_set(
            error, LS_ERR_INVALID,
            "open node: options.size is %zu, expected %zu (call ls_node_options_init)",
            options->size, sizeof *options);
    }
    if (options->identity == NULL || options->storage.self == NULL ||
        options->transport.self == NULL) {
        return ls_error_set(error, LS_ERR_INVALID,
                            "open node: identity, storage and transport are required");
    }
    if (options->loop != NULL && options->base != NULL) {
        return ls_error_set(error, LS_ERR_INVALID, "open node: give either base or loop, not both");
    }
    return LS_OK;
}

static void *node_thread(void *arg)
{
    struct ls_node *node = arg;
    struct ls_loop loop = node->loop;
    struct ls_env env = node->env;
    ls__loop_run(&loop);
    /* node_finish left these for us: the loop cannot be freed while it runs */
    void (*closed)(void *) = node->close_done;
    void *closed_arg = node->close_arg;
    (void)pthread_mutex_destroy(&node->lock);
    (void)env.allocate(env.self, node, 0);
    loop.close(loop.self);
    if (closed != NULL) {
        closed(closed_arg);
    }
    return NULL;
}

static enum ls_status thread_start(struct ls_node *node, struct ls_error *error)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&node->thread, NULL, node_thread, node);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "open node: cannot start a thread: %s",
                            strerror(failed));
    }
    ls__loop_runs_on(&node->loop, node->thread);
    return LS_OK;
}

/* `left`: what is said when it does not close in time. */
static void close_disk(struct ls_node *node, void (*close)(void *self), void *self,
                       const char *left)
{
    if (node->given_loop) {
        close(self); /* a wait would be for the wrong clock */
    } else if (!ls__close_in_time(&node->env, close, self, node->close_by_us) &&
               node->env.trace != NULL) {
        node->env.trace(
            node->env.self,
            &(struct ls_trace){.level = LS_TRACE_WARN, .room = "machine", .format = left});
    }
}

static void node_dispose(struct ls_node *node)
{
    if (node->transport_open) {
        node->transport.close(node->transport.self);
        node->transport_open = false;
    }
    if (node->vault.size > 0) {
        close_disk(node, node->vault.close, node->vault.self,
                   "the vault did not close in time: left behind");
        node->vault.size = 0;
    }
    if (node->storage_open) {
        close_disk(node, node->storage.close, node->storage.self,
                   "the store did not close in time: left behind");
    }
    node->storage_open = false;
    ls_wire_decoder_close(node->decoder);
    ls_wire_buffer_free(&node->buffer);
    ls__replies_free(&node->replies);
    if (node->read_block != NULL) {
        (void)ls__allocate(&node->env, node->read_block, 0);
    }
    node->decoder = NULL;
    node->read_block = NULL;
}

static enum ls_status node_start(struct ls_node *node, const struct ls_node_options *options,
                                 struct ls_error *error)
{
    enum ls_status status = LS_OK;
    if (options->loop != NULL) {
        node->loop = *options->loop;
    } else {
        status = ls__loop_libevent(options->base, &node->loop, error);
        if (status != LS_OK) {
            return status;
        }
    }
    node->loop_open = true;
    node->loop.attach(node->loop.self,
                      &(struct ls_loop_sink){node, on_timer, on_readable, on_turn});
    node->incarnation = node->storage.incarnation(node->storage.self);
    node->storage.attach(node->storage.self,
                         &(struct ls_storage_sink){node, on_durable, on_failed});
    node->loop.watch(node->loop.self, node->storage.descriptor(node->storage.self));
    status = ls_wire_decoder_open(&node->env, &node->decoder);
    if (status != LS_OK) {
        return ls_error_set(error, status, "open node: out of memory");
    }
    struct event_base *base = node->loop.base(node->loop.self);
    status = node->transport.start(node->transport.self, base, &node->incarnation,
                                   &(struct ls_transport_sink){node, on_message, on_bond}, error);
    if (status == LS_OK && options->listen != NULL) {
        status = node->transport.listen(node->transport.self, options->listen, error);
    }
    if (status == LS_OK && node->own_thread) {
        status = thread_start(node, error);
    }
    return status;
}

enum ls_status ls_node_open(const struct ls_node_options *options, struct ls_node **out,
                            struct ls_error *error)
{
    *out = NULL;
    struct ls_env env = options->env != NULL ? *options->env : *ls_env_default();
    enum ls_status status = options_check(options, error);
    struct ls_node *node = NULL;
    if (status == LS_OK) {
        node = env.allocate(env.self, NULL, sizeof *node);
        status = node != NULL ? LS_OK
                              : ls_error_set(error, LS_ERR_NO_MEMORY, "open node: out of memory");
    }
    if (status != LS_OK) {
        if (options->transport.self != NULL) {
            options->transport.close(options->transport.self);
        }
        if (options->storage.self != NULL) {
            options->storage.close(options->storage.self);
        }
        if (options->size >= sizeof *options && options->vault.size > 0) {
            options->vault.close(options->vault.self);
        }
        if (options->loop != NULL) {
            options->loop->close(options->loop->self);
        }
        return status;
    }
    (void)memset(node, 0, offsetof(struct ls_node, entries));
    node->env = env;
    node->identity = options->identity;
    node->id = ls_identity_id(options->identity);
    node->storage = options->storage;
    node->transport = options->transport;
    node->vault = options->vault;
    node->storage_open = node->transport_open = true;
    node->close_ms = options->close_ms;
    node->own_thread = options->base == NULL && options->loop == NULL;
    node->given_loop = options->loop != NULL;
    node->dirty_end = &node->dirty;
    node->tasks_end = &node->tasks;
    node->accepting = true;
    node->buffer.env = &node->env;
    node->replies.env = &node->env;
    (void)pthread_mutex_init(&node->lock, NULL);
    status = node_start(node, options, error);
    if (status != LS_OK) {
        node_dispose(node);
        if (node->loop_open) {
            node->loop.close(node->loop.self);
        }
        (void)pthread_mutex_destroy(&node->lock);
        (void)env.allocate(env.self, node, 0);
        return status;
    }
    *out = node;
    return LS_OK;
}

/* ---- other threads ---- */

enum ls_status ls_node_post(struct ls_node *node, void (*task)(void *arg), void *arg)
{
    struct ls__task *item = ls__allocate(&node->env, NULL, sizeof *item);
    if (item == NULL) {
        return LS_ERR_NO_MEMORY;
    }
    *item = (struct ls__task){NULL, task, arg};
    (void)pthread_mutex_lock(&node->lock);
    bool accepting = node->accepting;
    if (accepting) {
        *node->tasks_end = item;
        node->tasks_end = &item->next;
        node->loop.wake(node->loop.self);
    }
    (void)pthread_mutex_unlock(&node->lock);
    if (!accepting) {
        (void)ls__allocate(&node->env, item, 0);
        return LS_ERR_CLOSED;
    }
    return LS_OK;
}

struct node_call {
    void (*task)(void *arg);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ran;
};

static void node_call_run(void *arg)
{
    struct node_call *call = arg;
    call->task(call->arg);
    (void)pthread_mutex_lock(&call->lock);
    call->ran = true;
    (void)pthread_cond_signal(&call->changed);
    (void)pthread_mutex_unlock(&call->lock);
}

enum ls_status ls_node_call(struct ls_node *node, void (*task)(void *arg), void *arg)
{
    if (node->loop.inside(node->loop.self)) {
        return LS_ERR_WOULD_DEADLOCK;
    }
    struct node_call call = {.task = task, .arg = arg};
    (void)pthread_mutex_init(&call.lock, NULL);
    (void)pthread_cond_init(&call.changed, NULL);
    enum ls_status status = ls_node_post(node, node_call_run, &call);
    if (status == LS_OK) {
        (void)pthread_mutex_lock(&call.lock);
        while (!call.ran) {
            (void)pthread_cond_wait(&call.changed, &call.lock);
        }
        (void)pthread_mutex_unlock(&call.lock);
    }
    (void)pthread_cond_destroy(&call.changed);
    (void)pthread_mutex_destroy(&call.lock);
    return status;
}

/* ---- close ---- */

/* Last step, at the end of a turn: nothing of the node is on the stack above us. */
static void node_finish(struct ls_node *node)
{
    (void)pthread_mutex_lock(&node->lock);
    node->accepting = false;
    (void)pthread_mutex_unlock(&node->lock);
    turn_tasks(node); /* what was accepted before runs */
    node->loop.watch(node->loop.self, -1);
    node->loop.arm(node->loop.self, UINT64_MAX);
    node_dispose(node);
    if (node->own_thread) {
        ls__loop_stop(&node->loop); /* node_thread does the rest */
        return;
    }
    void (*closed)(void *) = node->close_done;
    void *arg = node->close_arg;
    struct ls_env env = node->env;
    node->loop.close(node->loop.self);
    (void)pthread_mutex_destroy(&node->lock);
    (void)env.allocate(env.self, node, 0);
    if (closed != NULL) {
        closed(arg);
    }
}

static void node_close_begin(void *arg)
{
    struct ls_node *node = arg;
    if (node->closing) {
        return;
    }
    node->closing = true;
    node->close_by_us = ls__now(node) + (uint64_t)node->close_ms * 1000u;
    struct ls_group *next = NULL;
    for (struct ls_group *group = node->groups; group != NULL; group = next) {
        next = group->next;
        if (!group->closing) {
            ls_group_close(group, NULL, NULL);
        }
    }
    node->loop.defer(node->loop.self);
}

void ls_node_close(struct ls_node *node, void (*closed)(void *arg), void *arg)
{
    if (node == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&node->lock);
    bool first = !node->close_asked;
    node->close_asked = true;
    if (closed != NULL) {
        node->close_done = closed;
        node->close_arg = arg;
    }
    (void)pthread_mutex_unlock(&node->lock);
    bool inside = node->loop.inside(node->loop.self);
    if (first && node->own_thread && (inside || closed != NULL)) {
        (void)pthread_detach(node->thread);
    }
    if (inside || !node->own_thread) {
        node_close_begin(node);
        return;
    }
    pthread_t thread = node->thread;
    while (ls_node_post(node, node_close_begin, node) == LS_ERR_NO_MEMORY) {
        /* closing must not fail: memory comes back when pending work ends */
        (void)sched_yield();
    }
    if (first && closed == NULL) {
        (void)pthread_join(thread, NULL);
    }
}

void ls_node_status(struct ls_node *node, struct ls_node_status *out)
{
    (void)memset(out, 0, sizeof *out);
    out->groups = (uint32_t)node->groups_count;
    out->storage_failed = node->storage_failed;
    (void)memcpy(out->storage_text, node->storage_text, sizeof out->storage_text);
    out->incarnation = node->incarnation;
    out->id = node->id;
    node->storage.counters(node->storage.self, &out->storage);
    uint64_t since = node->vault.size > 0 && node->vault.busy_since_us != NULL
                         ? node->vault.busy_since_us(node->vault.self)
                         : 0;
    uint64_t now = ls__now(node);
    out->vault_busy_us = since > 0 && since < now ? now - since : 0;
    out->turns = node->turns;
    out->turn_us_max = node->turn_us_max;
}
