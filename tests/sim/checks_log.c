/* SPDX-License-Identifier: MIT */
/*
 * Checks of the logs (Raft paper, figure 3). Each member's log is followed through what its core
 * gives the store, so every append and truncation is judged once, when it happens:
 *
 * log matching          the same index and term at two members: the same entry, the same past
 * leader append-only    who led a term removes nothing in it
 * leader completeness   what is committed is in the log of the leader of every later term
 *
 * and: nothing committed or acknowledged in this term is removed, terms in a log only grow, a vote
 * changes only with the term.
 */
#include "snapshots.h"

#include <stdlib.h>

#define U(number) ((unsigned long long)(number))

void *sim_grow(void *block, size_t *capacity, size_t at, size_t size)
{
    if (at < *capacity) {
        return block;
    }
    size_t more = at < 512 ? 1024 : at * 2;
    uint8_t *grown = realloc(block, more * size);
    LS_ASSERT(grown != NULL);
    (void)memset(grown + *capacity * size, 0, (more - *capacity) * size);
    *capacity = more;
    return grown;
}

/* ---- marks ---- */

static struct sim_mark mark_of(struct sim_mark before, ls_index index, const struct ls_entry *entry)
{
    const uint64_t head[] = {index, entry->term, (uint64_t)entry->kind};
    uint64_t chain = sim_digest(before.chain, head, sizeof head);
    return (struct sim_mark){entry->term, sim_digest(chain, entry->data.data, entry->data.bytes)};
}

/* What is known of the entry; NULL: nobody held it. */
static struct sim_fact *fact_find(const struct sim_logs *logs, ls_index index, ls_term term)
{
    struct sim_fact *fact = index < logs->facts_capacity ? &logs->facts[index] : NULL;
    while (fact != NULL && fact->by != 0) {
        if (fact->mark.term == term) {
            return fact;
        }
        fact = fact->next != 0 ? &logs->more[fact->next - 1] : NULL;
    }
    return NULL;
}

static void fact_add(struct sim_logs *logs, ls_index index, struct sim_fact added)
{
    logs->facts = sim_grow(logs->facts, &logs->facts_capacity, index, sizeof *logs->facts);
    struct sim_fact *first = &logs->facts[index];
    if (first->by != 0) {
        logs->more =
            sim_grow(logs->more, &logs->more_capacity, logs->more_count, sizeof *logs->more);
        logs->more[logs->more_count] = *first;
        added.next = (uint32_t)++logs->more_count;
    }
    *first = added;
}

/* The entry with that chain, which somebody held. */
static const struct sim_fact *fact_past(const struct sim_logs *logs, ls_index index, uint64_t chain)
{
    const struct sim_fact *fact = &logs->facts[index];
    while (fact->mark.chain != chain) {
        LS_ASSERT(fact->next != 0);
        fact = &logs->more[fact->next - 1];
    }
    return fact;
}

static void match(struct sim_member *member, ls_index index, struct sim_mark mark)
{
    struct world *world = member->world;
    const struct sim_shadow *shadow = &member->shadow;
    const struct sim_fact *known = fact_find(&world->checks.logs, index, mark.term);
    if (known == NULL) {
        struct sim_fact fact = {mark, shadow->log[index - 1].chain, member->at + 1, 0};
        fact_add(&world->checks.logs, index, fact);
    } else if (known->mark.chain != mark.chain) {
        sim_fail(world,
                 "logs do not match: at %llu^%llu %s holds another entry than %s, or another "
                 "past of it",
                 U(mark.term), U(index), member->name, world->members[known->by - 1].name);
    }
}

/* ---- the tap ---- */

static bool led(const struct sim_member *member, ls_term term)
{
    const struct sim_checks *checks = &member->world->checks;
    return term < checks->leaders_capacity && checks->leaders[term].by == member->at + 1;
}

static void note_hard_state(struct sim_member *member, const struct ls_hard_state *hard)
{
    struct ls_hard_state *before = &member->shadow.hard;
    if (hard->term < before->term) {
        sim_fail(member->world, "term of %s goes back from %llu to %llu", member->name,
                 U(before->term), U(hard->term));
    } else if (hard->term == before->term && before->voted &&
               !(hard->voted && ls_peer_id_equal(&hard->vote, &before->vote))) {
        sim_fail(member->world, "%s %s its vote in term %llu", member->name,
                 hard->voted ? "changes" : "forgets", U(hard->term));
    }
    *before = *hard;
}

/* Entries at and above `from` leave the log. */
static void note_removed(struct sim_member *member, ls_index from)
{
    struct world *world = member->world;
    struct sim_shadow *shadow = &member->shadow;
    ls_term term = shadow->hard.term;
    if (from > shadow->last) {
        return;
    }
    if (world->handing) {
        sim_fail(world, "%s removes %llu in a hand-over without faults", member->name, U(from));
    }
    if (led(member, term)) {
        sim_fail(world, "%s led term %llu and removes %llu to %llu in it", member->name, U(term),
                 U(from), U(shadow->last));
    }
    if (from <= shadow->commit) {
        sim_fail(world, "%s removes %llu in term %llu, its commit is %llu", member->name, U(from),
                 U(term), U(shadow->commit));
    }
    struct sim_promise *promise = &shadow->promise;
    if (from <= promise->fresh.index && promise->fresh.term >= term) {
        sim_fail(world, "%s removes %llu in term %llu, in which it acknowledged %llu", member->name,
                 U(from), U(term), U(promise->fresh.index));
    }
    if (from <= promise->match) {
        promise->match = from - 1;
        promise->mark = shadow->log[from - 1];
    }
    shadow->last = from - 1;
}

/* What the log has up to `index` is what `known` follows; what is behind its end was removed once.
 */
static void note_past(struct sim_member *member, ls_index index, const struct sim_fact *known)
{
    struct sim_shadow *shadow = &member->shadow;
    shadow->log = sim_grow(shadow->log, &shadow->capacity, index, sizeof *shadow->log);
    while (index > 0 && (index > shadow->last || shadow->log[index].chain != known->mark.chain)) {
        shadow->log[index] = known->mark;
        index--;
        known = index > 0 ? fact_past(&member->world->checks.logs, index, known->past) : NULL;
    }
}

/* The log is empty after `anchor`, which somebody must have held. */
static void note_reset(struct sim_member *member, struct ls_cursor anchor)
{
    struct sim_shadow *shadow = &member->shadow;
    const struct sim_fact *known =
        fact_find(&member->world->checks.logs, anchor.index, anchor.term);
    if (led(member, shadow->hard.term)) {
        sim_fail(member->world, "%s led term %llu and resets its log to %llu in it", member->name,
                 U(shadow->hard.term), U(anchor.index));
    }
    if (anchor.index <= shadow->commit) {
        sim_fail(member->world, "%s resets its log to %llu, its commit is %llu", member->name,
                 U(anchor.index), U(shadow->commit));
    }
    sim_install_restores(member, anchor);
    if (known == NULL) {
        sim_fail(member->world, "%s begins after %llu^%llu, which nobody held", member->name,
                 U(anchor.term), U(anchor.index));
        return;
    }
    note_past(member, anchor.index, known);
    shadow->last = shadow->anchor = anchor.index;
    if (shadow->promise.match > anchor.index) {
        shadow->promise.match = anchor.index;
        shadow->promise.mark = known->mark;
    }
}

static void note_entry(struct sim_member *member, ls_index index, const struct ls_entry *entry)
{
    struct sim_shadow *shadow = &member->shadow;
    shadow->log = sim_grow(shadow->log, &shadow->capacity, index, sizeof *shadow->log);
    const struct sim_mark before = shadow->log[index - 1];
    if (index != shadow->last + 1 || entry->term < before.term) {
        sim_fail(member->world, "log of %s: %llu^%llu follows %llu^%llu", member->name,
                 U(entry->term), U(index), U(before.term), U(shadow->last));
        return;
    }
    shadow->log[index] = mark_of(before, index, entry);
    member->watch.log_bytes += entry->data.bytes;
    shadow->last = index;
    match(member, index, shadow->log[index]);
}

static void note_batch(struct sim_member *member, const struct ls_storage_batch *batch)
{
    if (batch->hard_state != NULL) {
        note_hard_state(member, batch->hard_state);
    }
    if (batch->reset) {
        note_reset(member, batch->anchor);
    }
    if (batch->truncate) {
        note_removed(member, batch->truncate_from);
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        note_entry(member, batch->first + i, &batch->entries[i]);
    }
}

static void tap_attach(void *self, const struct ls_storage_sink *sink)
{
    const struct ls_storage *store = &((struct sim_member *)self)->shadow.store;
    store->attach(store->self, sink);
}

static enum ls_status tap_open_group(void *self, const struct ls_group_id *id, void *group_context,
                                     struct ls_storage_group **group,
                                     struct ls_storage_state *state, struct ls_error *error)
{
    struct sim_shadow *shadow = &((struct sim_member *)self)->shadow;
    shadow->group = *id;
    sim_check_promises(self);
    sim_check_log_restart(self);
    enum ls_status status =
        shadow->store.open_group(shadow->store.self, id, group_context, group, state, error);
    if (status == LS_OK && state->hard_state.term > shadow->hard.term) {
        shadow->hard = state->hard_state; /* the guard knew better than what was left */
    }
    return status;
}

static enum ls_status tap_stage(void *self, struct ls_storage_group *group,
                                const struct ls_storage_batch *batch)
{
    struct sim_member *member = self;
    const struct ls_storage *store = &member->shadow.store;
    enum ls_status status = store->stage(store->self, group, batch);
    member->shadow.refused = status == LS_ERR_BUSY || status == LS_ERR_NO_MEMORY;
    if (member->shadow.refused) {
        sim_check_refused(member); /* the batch comes again, a millisecond later */
    } else if (!member->dying) {
        note_batch(member, batch); /* refused for good: it is in the core's log all the same */
    }
    return status;
}

static void tap_commit(void *self)
{
    const struct ls_storage *store = &((struct sim_member *)self)->shadow.store;
    store->commit(store->self);
}

static int tap_descriptor(void *self)
{
    const struct ls_storage *store = &((struct sim_member *)self)->shadow.store;
    return store->descriptor(store->self);
}

static void tap_collect(void *self)
{
    const struct ls_storage *store = &((struct sim_member *)self)->shadow.store;
    store->collect(store->self);
}

static enum ls_status tap_read(void *self, struct ls_storage_group *group, ls_index first,
                               ls_index last, size_t bytes_max, ls_storage_visit visit, void *arg)
{
    const struct ls_storage *store = &((struct sim_member *)self)->shadow.store;
    return store->read(store->self, group, first, last, bytes_max, visit, arg);
}

static enum ls_status tap_prune(void *self, struct ls_storage_group *group, ls_index upto)
{
    const struct ls_storage *store = &((struct sim_member *)self)->shadow.store;
    enum ls_status status = store->prune(store->self, group, upto);
    if (status == LS_OK) {
        sim_check_prune(self, upto);
    }
    return status;
}

static void tap_close_group(void *self, struct ls_storage_group *group)
{
    const struct ls_storage *store = &((struct sim_member *)self)->shadow.store;
    store->close_group(store->self, group);
}

static void tap_close(void *self)
{
    const struct ls_storage *store = &((struct sim_member *)self)->shadow.store;
    store->close(store->self);
}

static struct ls_incarnation tap_incarnation(void *self)
{
    const struct ls_storage *store = &((struct sim_member *)self)->shadow.store;
    return store->incarnation(store->self);
}

static void tap_counters(void *self, struct ls_storage_counters *out)
{
    const struct ls_storage *store = &((struct sim_member *)self)->shadow.store;
    store->counters(store->self, out);
}

void sim_check_store(struct sim_member *member, struct ls_storage *store)
{
    member->shadow.store = *store;
    *store = (struct ls_storage){.size = sizeof *store,
                                 .self = member,
                                 .attach = tap_attach,
                                 .open_group = tap_open_group,
                                 .stage = tap_stage,
                                 .commit = tap_commit,
                                 .descriptor = tap_descriptor,
                                 .collect = tap_collect,
                                 .read = tap_read,
                                 .prune = tap_prune,
                                 .close_group = tap_close_group,
                                 .close = tap_close,
                                 .incarnation = tap_incarnation,
                                 .counters = tap_counters};
}

/* ---- restart, commit, election ---- */

void sim_check_log_restart(struct sim_member *member)
{
    struct world *world = member->world;
    struct sim_shadow *shadow = &member->shadow;
    struct ls_storage_medium_left left;
    shadow->commit = 0;
    shadow->refused = false;
    if (!ls_storage_medium_left(member->medium, &shadow->group, &left)) {
        left = (struct ls_storage_medium_left){.last = 0};
    }
    const ls_index known_up_to = shadow->last; /* what is behind it was removed once */
    shadow->hard = left.hard_state;
    shadow->last = left.last;
    shadow->anchor = left.anchor.index;
    shadow->log = sim_grow(shadow->log, &shadow->capacity, left.last, sizeof *shadow->log);
    /* downwards to where the lost log and the durable one are the same */
    for (ls_index index = left.last; index > 0 && index >= left.anchor.index; index--) {
        struct ls_entry entry = {.term = left.anchor.term};
        if (index > left.anchor.index &&
            !ls_storage_medium_entry(member->medium, &shadow->group, index, &entry)) {
            continue; /* damaged: the store has to notice */
        }
        const struct sim_fact *known = fact_find(&world->checks.logs, index, entry.term);
        if (known == NULL) {
            sim_fail(world, "the medium of %s holds %llu^%llu, which nobody gave to a store",
                     member->name, U(entry.term), U(index));
            return;
        }
        if (index <= known_up_to && shadow->log[index].chain == known->mark.chain) {
            break;
        }
        shadow->log[index] = known->mark;
    }
}

/* The leader of `term` has the entry that is committed at `index`. */
static void check_holds(const struct sim_member *member, ls_term term, ls_index index)
{
    const struct sim_logs *logs = &member->world->checks.logs;
    const struct sim_shadow *shadow = &member->shadow;
    if (shadow->last < index || shadow->log[index].chain != logs->committed[index].chain) {
        sim_fail(member->world,
                 "%s leads term %llu without %llu, which was committed by term %llu: its log ends "
                 "at %llu^%llu",
                 member->name, U(term), U(index), U(logs->committed[index].term),
                 U(shadow->log[shadow->last].term), U(shadow->last));
    }
}

void sim_check_new_leader(struct sim_member *member, ls_term term)
{
    const struct sim_logs *logs = &member->world->checks.logs;
    ls_index index = logs->committed_last;
    while (index > 0 && logs->committed[index].term >= term) {
        index--; /* committed in its own term, or a later one: it may be late */
    }
    if (index > 0) {
        check_holds(member, term, index);
    }
}

/* That `index` was committed by `term` is known now: who leads a later term has to hold it. */
static void check_leaders(const struct world *world, ls_term term, ls_index index)
{
    for (uint32_t i = 0; i < world->count; i++) {
        const struct sim_member *member = &world->members[i];
        const struct sim_rules *rules = &member->rules;
        if (member->group != NULL && rules->life == member->life && rules->role == LS_ROLE_LEADER &&
            rules->term > term) {
            check_holds(member, rules->term, index);
        }
    }
}

void sim_check_commit(struct sim_member *member, ls_term term, ls_index commit)
{
    struct world *world = member->world;
    struct sim_logs *logs = &world->checks.logs;
    struct sim_shadow *shadow = &member->shadow;
    if (commit <= shadow->commit || shadow->refused) {
        return; /* the core is one batch ahead of the store */
    }
    shadow->commit = commit;
    if (commit > shadow->last) {
        sim_fail(world, "%s commits %llu in term %llu, its log ends at %llu", member->name,
                 U(commit), U(term), U(shadow->last));
        return;
    }
    if (commit > logs->committed_last) {
        sim_check_quorum(member, commit);
        logs->committed =
            sim_grow(logs->committed, &logs->committed_capacity, commit, sizeof *logs->committed);
        for (ls_index i = logs->committed_last + 1; i <= commit; i++) {
            logs->committed[i] = (struct sim_committed){term, shadow->log[i].chain};
        }
        logs->committed_last = commit;
        check_leaders(world, term, commit);
        return;
    }
    if (logs->committed[commit].chain != shadow->log[commit].chain) {
        sim_fail(world, "%s commits %llu^%llu in term %llu, but another entry is committed there",
                 member->name, U(shadow->log[commit].term), U(commit), U(term));
    }
    if (logs->committed[commit].term > term) {
        for (ls_index i = commit; i > 0 && logs->committed[i].term > term; i--) {
            logs->committed[i].term = term;
        }
        check_leaders(world, term, commit);
    }
}

void sim_check_log_free(struct world *world)
{
    struct sim_logs *logs = &world->checks.logs;
    for (uint32_t i = 0; i < world->count; i++) {
        free(world->members[i].shadow.log);
    }
    free(logs->facts);
    free(logs->more);
    free(logs->committed);
    ls_wire_decoder_close(logs->decoder);
}
