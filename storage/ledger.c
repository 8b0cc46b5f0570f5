/* SPDX-License-Identifier: MIT */
/*
 * The ledger while a group is open: staging, pruning, and what becomes visible. Never does I/O of
 * its own; each call reserves first and then mutates without failing. (Opening: ledger_open.c)
 */
#include "ledger.h"

/* a burst's tail is given back when it is empty and larger than this many entries */
#define TAIL_KEPT 16384u

bool ls__array_grow(const struct ls_env *env, void **array, size_t *capacity, size_t count,
                    size_t bytes)
{
    if (count <= *capacity) {
        return true;
    }
    size_t wanted = *capacity == 0 ? 8 : *capacity;
    while (wanted < count) {
        wanted *= 2;
    }
    void *grown = env->allocate(env->self, *array, wanted * bytes);
    if (grown == NULL) {
        return false;
    }
    *array = grown;
    *capacity = wanted;
    return true;
}

const char *ls__storage_options_invalid(const void *options, size_t size, size_t known)
{
    const uint8_t *bytes = options;
    if (size < known) {
        return "options.size is smaller than the struct";
    }
    for (size_t i = known; i < size; i++) {
        if (bytes[i] != 0) {
            return "options ask for what this version does not know";
        }
    }
    return NULL;
}

void ls__ledger_init(struct ls__ledger *ledger, const struct ls_env *env,
                     const struct ls_group_id *id)
{
    char digits[LS__GUARD_NAME_BYTES];
    *ledger = (struct ls__ledger){.env = env, .id = *id};
    ls__guard_name(id, digits);
    (void)memcpy(ledger->name, digits, sizeof ledger->name - 1);
    ledger->chain.group = ls__record_group(id);
    ledger->chain.check = ls__record_origin(ledger->chain.group, ledger->last);
    ledger->anchor.check = ledger->chain.check;
}

static void configuration_free(struct ls__ledger *ledger, size_t at)
{
    /* owned by the ledger; const only for those who look at the state */
    ls__free(ledger->env, (void *)(uintptr_t)ledger->configurations[at].bytes.data);
}

void ls__ledger_release(struct ls__ledger *ledger)
{
    for (size_t i = 0; i < ledger->configurations_count; i++) {
        configuration_free(ledger, i);
    }
    ls__free(ledger->env, ledger->configurations);
    ls__free(ledger->env, ledger->anchor_cell);
    ls__free(ledger->env, ledger->runs);
    ls__free(ledger->env, ledger->tail);
    *ledger = (struct ls__ledger){.env = ledger->env};
}

static struct ls__tail_entry *tail_at(const struct ls__ledger *ledger, size_t at)
{
    LS_ASSERT(at < ledger->tail_count);
    return &ledger->tail[(ledger->tail_head + at) & (ledger->tail_capacity - 1)];
}

static bool tail_reserve(struct ls__ledger *ledger, size_t more)
{
    size_t wanted = ledger->tail_capacity == 0 ? 64 : ledger->tail_capacity;
    while (wanted < ledger->tail_count + more) {
        wanted *= 2;
    }
    if (wanted == ledger->tail_capacity) {
        return true;
    }
    struct ls__tail_entry *grown = ls__allocate(ledger->env, wanted * sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    for (size_t i = 0; i < ledger->tail_count; i++) {
        grown[i] = *tail_at(ledger, i);
    }
    ls__free(ledger->env, ledger->tail);
    ledger->tail = grown;
    ledger->tail_capacity = wanted;
    ledger->tail_head = 0;
    return true;
}

ls_index ls__ledger_visible(const struct ls__ledger *ledger)
{
    LS_ASSERT(ledger->tail_count <= ledger->last.index - ledger->anchor.at.index);
    return ledger->last.index - ledger->tail_count;
}

void ls__ledger_settle(struct ls__ledger *ledger, uint64_t generation)
{
    while (ledger->tail_count > 0 && tail_at(ledger, 0)->generation <= generation) {
        ledger->tail_head = (ledger->tail_head + 1) & (ledger->tail_capacity - 1);
        ledger->tail_count--;
    }
    if (ledger->tail_count == 0 && ledger->tail_capacity > TAIL_KEPT) {
        ls__free(ledger->env, ledger->tail);
        ledger->tail = NULL;
        ledger->tail_capacity = 0;
        ledger->tail_head = 0;
    }
}

enum ls_status ls__ledger_readable(const struct ls__ledger *ledger, ls_index first, ls_index *last)
{
    if (first <= ledger->anchor.at.index) {
        return LS_ERR_COMPACTED;
    }
    ls_index visible = ls__ledger_visible(ledger);
    if (first > visible || *last < first) {
        return LS_ERR_NOT_FOUND;
    }
    *last = *last < visible ? *last : visible;
    return LS_OK;
}

/* The mark of an index from the anchor to the last staged one. */
static enum ls_status mark_of(const struct ls__ledger *ledger, ls_index index,
                              const struct ls__emit *emit, struct ls__mark *out)
{
    LS_ASSERT(index >= ledger->anchor.at.index && index <= ledger->last.index);
    if (index == ledger->anchor.at.index) {
        *out = ledger->anchor;
        return LS_OK;
    }
    ls_index visible = ls__ledger_visible(ledger);
    if (index > visible) {
        const struct ls__tail_entry *entry = tail_at(ledger, (size_t)(index - visible - 1));
        *out = (struct ls__mark){{entry->term, index}, entry->check};
        return LS_OK;
    }
    return emit->find(emit->self, index, out);
}

/* What a batch will do, found out before anything is changed. */
struct plan {
    struct ls__mark base; /* the end of the log before its entries are appended */
    bool cut;             /* entries above base are removed */
    size_t copies;        /* configurations copied behind the ones held */
    size_t bytes;
};

static enum ls_status plan_base(const struct ls__ledger *ledger,
                                const struct ls_storage_batch *batch, const struct ls__emit *emit,
                                struct plan *plan)
{
    plan->base = (struct ls__mark){ledger->last, ledger->chain.check};
    if (batch->reset) {
        plan->base.at = batch->anchor;
        plan->base.check = ls__record_origin(ledger->chain.group, batch->anchor);
        plan->cut = true;
        return LS_OK;
    }
    if (batch->truncate && batch->truncate_from <= ledger->last.index) {
        LS_ASSERT(batch->truncate_from > ledger->anchor.at.index);
        plan->cut = true;
        return mark_of(ledger, batch->truncate_from - 1, emit, &plan->base);
    }
    return LS_OK;
}

static bool copy_configuration(struct ls__ledger *ledger, struct plan *plan,
                               struct ls_stored_configuration from)
{
    size_t at = ledger->configurations_count + plan->copies;
    void *array = ledger->configurations;
    bool grown = ls__array_grow(ledger->env, &array, &ledger->configurations_capacity, at + 1,
                                sizeof *ledger->configurations);
    ledger->configurations = array;
    uint8_t *bytes = grown ? ls__allocate(ledger->env, from.bytes.bytes + 1) : NULL;
    if (bytes == NULL) {
        return false;
    }
    if (from.bytes.bytes > 0) {
        (void)memcpy(bytes, from.bytes.data, from.bytes.bytes);
    }
    ledger->configurations[at] =
        (struct ls_stored_configuration){from.index, {bytes, from.bytes.bytes}};
    plan->copies++;
    return true;
}

static bool reserve_anchor(struct ls__ledger *ledger, size_t configuration_bytes)
{
    void *cell = ledger->anchor_cell;
    bool grown = ls__array_grow(ledger->env, &cell, &ledger->anchor_cell_capacity,
                                LS__ANCHOR_BYTES + configuration_bytes, 1);
    ledger->anchor_cell = cell;
    return grown;
}

static void put_anchor(struct ls__ledger *ledger, const struct ls__emit *emit)
{
    struct ls_stored_configuration held = {0};
    if (ledger->configurations_count > 0 &&
        ledger->configurations[0].index <= ledger->anchor.at.index) {
        held = ledger->configurations[0];
    }
    uint8_t *body = ledger->anchor_cell + LS__CELL_HEADER_BYTES;
    LS_ASSERT(ledger->anchor_cell_capacity >= LS__ANCHOR_BYTES + held.bytes.bytes);
    ls__put_u64(body, ledger->anchor.at.term);
    ls__put_u64(body + 8, ledger->anchor.at.index);
    ls__put_u64(body + 16, ledger->anchor.check);
    ls__put_u64(body + 24, held.index);
    if (held.bytes.bytes > 0) {
        (void)memcpy(body + 32, held.bytes.data, held.bytes.bytes);
    }
    size_t bytes = ls__cell_seal(ledger->chain.group, LS__CELL_ANCHOR, ledger->anchor_cell,
                                 32 + held.bytes.bytes);
    emit->put(emit->self, LS__CELL_ANCHOR, (struct ls_span){ledger->anchor_cell, bytes});
}

static enum ls_status plan_batch(struct ls__ledger *ledger, const struct ls_storage_batch *batch,
                                 const struct ls__emit *emit, struct plan *plan)
{
    enum ls_status status = plan_base(ledger, batch, emit, plan);
    if (status != LS_OK) {
        return status;
    }
    LS_ASSERT(batch->count == 0 || batch->first == plan->base.at.index + 1);
    if (batch->reset) {
        if (!copy_configuration(ledger, plan, batch->anchor_configuration) ||
            !reserve_anchor(ledger, batch->anchor_configuration.bytes.bytes)) {
            return LS_ERR_NO_MEMORY;
        }
        plan->bytes += ledger->anchor_cell_capacity;
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct ls_entry *entry = &batch->entries[i];
        plan->bytes += LS__RECORD_HEADER_BYTES + entry->data.bytes;
        if (entry->kind == LS_ENTRY_CONFIGURATION &&
            !copy_configuration(ledger, plan,
                                (struct ls_stored_configuration){batch->first + i, entry->data})) {
            return LS_ERR_NO_MEMORY;
        }
    }
    if (!tail_reserve(ledger, batch->count)) {
        return LS_ERR_NO_MEMORY;
    }
    plan->bytes += LS__HARD_BYTES + LS__COMMIT_BYTES;
    return emit->reserve(emit->self, (size_t)batch->count + 4, plan->bytes);
}

/* The configurations above the base go, the copied ones close up. */
static void settle_configurations(struct ls__ledger *ledger, const struct plan *plan, bool reset)
{
    size_t held = ledger->configurations_count;
    size_t kept = held;
    while (plan->cut && kept > 0 &&
           (reset || ledger->configurations[kept - 1].index > plan->base.at.index)) {
        configuration_free(ledger, --kept);
    }
    if (kept < held) {
        (void)memmove(&ledger->configurations[kept], &ledger->configurations[held],
                      plan->copies * sizeof *ledger->configurations);
    }
    ledger->configurations_count = kept + plan->copies;
}

static void apply_cut(struct ls__ledger *ledger, const struct ls_storage_batch *batch,
                      const struct plan *plan, const struct ls__emit *emit,
                      struct ls__outcome *outcome)
{
    ls_index visible = ls__ledger_visible(ledger);
    struct ls__mark lowest = batch->reset ? (struct ls__mark){{0, 0}, 0} : plan->base;
    if (!outcome->lowered || lowest.at.index < outcome->lowest.at.index) {
        outcome->lowered = true;
        outcome->lowest = lowest;
    }
    emit->remove(emit->self, batch->reset ? 0 : plan->base.at.index + 1, UINT64_MAX);
    if (batch->reset) {
        ledger->tail_count = 0;
        ledger->anchor = plan->base;
    } else if (plan->base.at.index <= visible) {
        ledger->tail_count = 0;
    } else {
        ledger->tail_count = (size_t)(plan->base.at.index - visible);
    }
    ledger->last = plan->base.at;
    ledger->chain.check = plan->base.check;
}

static void append(struct ls__ledger *ledger, ls_index index, const struct ls_entry *entry,
                   uint64_t generation, const struct ls__emit *emit)
{
    uint8_t header[LS__RECORD_HEADER_BYTES];
    LS_ASSERT(entry->term >= ledger->last.term);
    ls__record_frame(&ledger->chain, index, entry, header);
    emit->append(emit->self, index, header, entry->data);
    ledger->last = (struct ls_cursor){entry->term, index};
    ledger->tail_count++;
    *tail_at(ledger, ledger->tail_count - 1) =
        (struct ls__tail_entry){entry->term, ledger->chain.check, generation};
}

enum ls_status ls__ledger_admits(const struct ls__ledger *ledger, uint64_t seq)
{
    return ledger->refused_seq != 0 && seq != ledger->refused_seq ? ledger->refused : LS_OK;
}

enum ls_status ls__ledger_staged(struct ls__ledger *ledger, uint64_t seq, enum ls_status status)
{
    if (status == LS_OK) {
        ledger->refused_seq = 0;
    } else if (ledger->refused_seq == 0) {
        ledger->refused_seq = seq;
        ledger->refused = status;
    }
    return status;
}

enum ls_status ls__ledger_stage(struct ls__ledger *ledger, const struct ls_storage_batch *batch,
                                uint64_t generation, const struct ls__emit *emit,
                                struct ls__outcome *outcome)
{
    struct plan plan = {0};
    LS_ASSERT(batch->seq > ledger->seq);
    enum ls_status status = plan_batch(ledger, batch, emit, &plan);
    if (status != LS_OK) {
        for (size_t i = 0; i < plan.copies; i++) {
            configuration_free(ledger, ledger->configurations_count + i);
        }
        return status;
    }
    ls__free(ledger->env, ledger->runs);
    ledger->runs = NULL;
    ledger->runs_count = ledger->runs_capacity = 0;
    ledger->seq = batch->seq;
    settle_configurations(ledger, &plan, batch->reset);
    if (plan.cut) {
        apply_cut(ledger, batch, &plan, emit, outcome);
    }
    if (batch->reset) {
        put_anchor(ledger, emit);
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        append(ledger, batch->first + i, &batch->entries[i], generation, emit);
    }
    if (batch->hard_state != NULL) {
        uint8_t cell[LS__HARD_BYTES];
        ls__hard_encode(ledger->chain.group, batch->hard_state, cell);
        emit->put(emit->self, LS__CELL_HARD, (struct ls_span){cell, sizeof cell});
        outcome->hard_changed = true;
        outcome->hard = *batch->hard_state;
    }
    if (batch->commit_hint != 0) {
        uint8_t cell[LS__COMMIT_BYTES];
        ls__put_u64(cell + LS__CELL_HEADER_BYTES, batch->commit_hint);
        (void)ls__cell_seal(ledger->chain.group, LS__CELL_COMMIT, cell, 8);
        emit->put(emit->self, LS__CELL_COMMIT, (struct ls_span){cell, sizeof cell});
    }
    outcome->tail_known = batch->tail_known;
    outcome->seq = batch->seq;
    outcome->last = (struct ls__mark){ledger->last, ledger->chain.check};
    return LS_OK;
}

enum ls_status ls__ledger_prune(struct ls__ledger *ledger, ls_index upto,
                                const struct ls__emit *emit, struct ls__outcome *outcome)
{
    if (upto <= ledger->anchor.at.index || upto >= ledger->last.index ||
        upto > ls__ledger_visible(ledger)) {
        return LS_ERR_INVALID;
    }
    struct ls__mark mark;
    enum ls_status status = mark_of(ledger, upto, emit, &mark);
    if (status != LS_OK) {
        return status;
    }
    size_t in_force = 0; /* configurations before the one in force at upto go */
    while (in_force + 1 < ledger->configurations_count &&
           ledger->configurations[in_force + 1].index <= upto) {
        in_force++;
    }
    size_t bytes =
        ledger->configurations_count > 0 ? ledger->configurations[in_force].bytes.bytes : 0;
    if (!reserve_anchor(ledger, bytes)) {
        return LS_ERR_NO_MEMORY;
    }
    status = emit->reserve(emit->self, 2, ledger->anchor_cell_capacity);
    if (status != LS_OK) {
        return status;
    }
    for (size_t i = 0; i < in_force; i++) {
        configuration_free(ledger, i);
    }
    if (in_force > 0) {
        ledger->configurations_count -= in_force;
        (void)memmove(ledger->configurations, &ledger->configurations[in_force],
                      ledger->configurations_count * sizeof *ledger->configurations);
    }
    ledger->anchor = mark;
    emit->remove(emit->self, 0, upto);
    put_anchor(ledger, emit);
    outcome->seq = ledger->seq;
    outcome->last = (struct ls__mark){ledger->last, ledger->chain.check};
    return LS_OK;
}

bool ls__guard_before(struct ls__guard *guard, const struct ls__outcome *outcome)
{
    if (LS_MUTANT(F4_LOWER) || guard->unknown || !outcome->lowered ||
        outcome->lowest.at.index >= guard->last.at.index) {
        return false;
    }
    guard->last = outcome->lowest;
    guard->sequence++;
    return true;
}

bool ls__guard_after(struct ls__guard *guard, const struct ls__outcome *outcome, bool *dirty)
{
    bool now = false;
    if (outcome->hard_changed && ls__hard_behind(&guard->hard, &outcome->hard) &&
        !LS_MUTANT(E3_GUARD)) {
        guard->hard = outcome->hard;
        now = true;
    }
    if (guard->unknown && outcome->tail_known) {
        guard->unknown = false;
        now = true;
    }
    if (!guard->unknown) {
        *dirty = *dirty || guard->last.check != outcome->last.check ||
                 guard->last.at.index != outcome->last.at.index;
        guard->last = outcome->last;
    }
    if (now) {
        guard->sequence++;
        *dirty = false;
    }
    return now;
}
