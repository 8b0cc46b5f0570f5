/* SPDX-License-Identifier: MIT */
/*
 * The search for an order of one key's operations: depth first over configurations (what was put
 * in order so far, and the value it leaves), never the same configuration twice. What keeps it
 * short, each with the argument that it loses no order:
 *
 * - An operation that only looks (read, refused CAS, delete of nothing) and fits the present value
 *   is put in order at once: whatever order follows, it may as well stand before the rest.
 * - Values that nobody saw or compared with are one value: no result tells them apart.
 * - An operation without an answer whose value somebody saw, and nobody else wrote, took effect
 *   before the first who saw it was answered: it becomes one with an answer then. The others are
 *   counted by kind, as they can stand for each other: the earliest of a kind goes first.
 * - Of equal operations with answers, the one answered first goes first.
 * - A value that is left while an operation that saw it is not in order yet, with no writer of it
 *   left, is never seen: nothing goes on from there.
 * - Where a configuration failed, the same one with more of the unanswered used up fails too.
 */
#include "search.h"

#include <stdlib.h>
#include <string.h>

#include <lockstep/macros.h>

#define NONE            UINT32_MAX
#define FOREVER         UINT64_MAX
#define MEMO_WORDS_MAX  (64u << 20)
#define MEMO_SLOTS_BASE 1024u

/* Operations with an answer; values are numbers of `values` from here on. */
struct known {
    enum linear_kind kind;
    bool mutates;
    uint32_t value, expected; /* what it leaves or sees; of a CAS, what it compares with */
    uint64_t invoked, returned;
};

/* Operations without an answer that are equal but for their time. */
struct kind {
    enum linear_kind kind;
    uint32_t value, expected;
    uint32_t first, count; /* in `unknown`, in order of invocation */
    uint32_t used;
};

struct unknown {
    enum linear_kind kind;
    uint32_t value, expected;
    uint64_t invoked;
};

/* Per value: what is not in order yet. */
struct value {
    uint64_t value;
    uint32_t writers, observers;
    uint64_t seen; /* when the first who saw it was answered */
    bool told;     /* some result depends on it */
};

struct move {
    bool known;
    uint32_t at; /* in `known` or `kinds` */
    uint32_t before;
};

struct frame {
    size_t trail;         /* moves before the one that led here */
    size_t options, next; /* in `options`, up to the next frame's or the end */
    size_t end;
};

struct search {
    struct known *known;
    uint32_t known_count;
    struct unknown *unknown;
    uint32_t unknown_count;
    struct kind *kinds;
    uint32_t kinds_count;
    struct value *values;
    uint32_t values_count;

    uint32_t *next, *previous; /* known that are not in order, by invocation; [known_count] ends */
    uint32_t state;
    struct move *trail;
    size_t trail_count;
    struct frame *frames;
    size_t frames_count;
    struct move *options;
    size_t options_count, options_capacity;

    uint32_t *candidates; /* of the present configuration */
    size_t candidates_count;
    uint64_t deadline; /* nothing invoked later can be next */

    uint32_t *memo; /* configurations that were entered: link, words of S, words of U, both */
    size_t memo_count, memo_capacity;
    uint32_t *slots;
    size_t slots_count, slots_used;
    uint32_t *key;
    uint64_t steps;
    bool exhausted;
};

bool linear__mutates(const struct linear_op *op)
{
    return op->kind != LINEAR_READ && op->outcome != LINEAR_NO;
}

uint64_t linear__leaves(const struct linear_op *op)
{
    return op->kind == LINEAR_DELETE ? LINEAR_ABSENT : op->value;
}

bool linear__observes(const struct linear_op *op, uint64_t *value)
{
    if (op->outcome == LINEAR_UNKNOWN) {
        return false;
    }
    switch (op->kind) {
    case LINEAR_READ:
        *value = op->value;
        return true;
    case LINEAR_CAS:
        *value = op->expected;
        return op->outcome == LINEAR_OK;
    case LINEAR_DELETE:
        *value = LINEAR_ABSENT;
        return op->outcome == LINEAR_NO;
    case LINEAR_WRITE:
        break;
    }
    return false;
}

void *linear__grow(void *block, size_t count, size_t bytes)
{
    void *grown = realloc(block, (count == 0 ? 1 : count) * bytes);
    LS_ASSERT(grown != NULL);
    return grown;
}

static void *zeroed(size_t count, size_t bytes)
{
    void *block = calloc(count == 0 ? 1 : count, bytes);
    LS_ASSERT(block != NULL);
    return block;
}

/* ---- the operations as numbers ---- */

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int by_invocation(const void *a, const void *b)
{
    const struct linear_op *x = a, *y = b;
    if (x->invoked != y->invoked) {
        return x->invoked < y->invoked ? -1 : 1;
    }
    return (x->returned > y->returned) - (x->returned < y->returned);
}

static int by_kind(const void *a, const void *b)
{
    const struct unknown *x = a, *y = b;
    if (x->kind != y->kind) {
        return x->kind < y->kind ? -1 : 1;
    }
    if (x->value != y->value) {
        return x->value < y->value ? -1 : 1;
    }
    if (x->expected != y->expected) {
        return x->expected < y->expected ? -1 : 1;
    }
    return (x->invoked > y->invoked) - (x->invoked < y->invoked);
}

static struct value *value_of(struct search *search, uint64_t value)
{
    size_t low = 0, high = search->values_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (search->values[middle].value < value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    LS_ASSERT(low < search->values_count && search->values[low].value == value);
    return &search->values[low];
}

static void values_collect(struct search *search, const struct linear_op *ops, size_t count,
                           uint64_t initial)
{
    uint64_t *all = linear__grow(NULL, 2 * count + 2, sizeof *all);
    size_t used = 0;
    all[used++] = initial;
    all[used++] = LINEAR_ABSENT;
    for (size_t i = 0; i < count; i++) {
        all[used++] = linear__leaves(&ops[i]);
        if (ops[i].kind == LINEAR_CAS) {
            all[used++] = ops[i].expected;
        }
    }
    qsort(all, used, sizeof *all, by_number);
    search->values = zeroed(used, sizeof *search->values);
    for (size_t i = 0; i < used; i++) {
        if (i == 0 || all[i] != all[i - 1]) {
            search->values[search->values_count++] =
                (struct value){.value = all[i], .seen = FOREVER};
        }
    }
    free(all);
}

static void observe(struct search *search, const struct linear_op *op)
{
    uint64_t seen = 0;
    if (linear__observes(op, &seen)) {
        struct value *value = value_of(search, seen);
        value->observers++;
        if (op->returned < value->seen) {
            value->seen = op->returned;
        }
    }
}

/* Counts who writes and sees each value, and gives answers to those whose effect was seen. */
static void values_count(struct search *search, struct linear_op *ops, size_t count)
{
    bool changed = true;
    for (size_t i = 0; i < count; i++) {
        if (linear__mutates(&ops[i])) {
            value_of(search, linear__leaves(&ops[i]))->writers++;
        }
        if (ops[i].kind == LINEAR_CAS) {
            value_of(search, ops[i].expected)->told = true;
        }
        observe(search, &ops[i]);
    }
    while (changed) {
        changed = false;
        for (size_t i = count; i-- > 0;) {
            struct value *value = value_of(search, linear__leaves(&ops[i]));
            if (ops[i].outcome == LINEAR_UNKNOWN && ops[i].kind != LINEAR_DELETE &&
                value->writers == 1 && value->observers > 0 && value->seen >= ops[i].invoked) {
                ops[i].outcome = LINEAR_OK;
                ops[i].returned = value->seen;
                observe(search, &ops[i]);
                changed = true;
            }
        }
    }
}

/* The number of a value; values that no result depends on share one. */
static uint32_t number_of(struct search *search, uint64_t value)
{
    struct value *found = value_of(search, value);
    if (value != LINEAR_ABSENT && found->observers == 0 && !found->told) {
        return search->values_count;
    }
    return (uint32_t)(found - search->values);
}

static void add(struct search *search, const struct linear_op *op)
{
    uint32_t value = number_of(search, linear__leaves(op));
    uint32_t expected = op->kind == LINEAR_CAS ? number_of(search, op->expected) : NONE;
    if (op->outcome == LINEAR_UNKNOWN) {
        search->unknown[search->unknown_count++] =
            (struct unknown){op->kind, value, expected, op->invoked};
        return;
    }
    search->known[search->known_count++] = (struct known){.kind = op->kind,
                                                          .mutates = linear__mutates(op),
                                                          .value = value,
                                                          .expected = expected,
                                                          .invoked = op->invoked,
                                                          .returned = op->returned};
}

static void kinds_collect(struct search *search)
{
    search->kinds = zeroed(search->unknown_count, sizeof *search->kinds);
    if (search->unknown_count > 0) {
        qsort(search->unknown, search->unknown_count, sizeof *search->unknown, by_kind);
    }
    for (uint32_t i = 0; i < search->unknown_count; i++) {
        const struct unknown *op = &search->unknown[i];
        struct kind *kind =
            search->kinds_count == 0 ? NULL : &search->kinds[search->kinds_count - 1];
        if (kind == NULL || kind->kind != op->kind || kind->value != op->value ||
            kind->expected != op->expected) {
            kind = &search->kinds[search->kinds_count++];
            *kind = (struct kind){op->kind, op->value, op->expected, i, 0, 0};
        }
        kind->count++;
    }
}

static void search_open(struct search *search, const struct linear_op *given, size_t given_count,
                        uint64_t initial)
{
    struct linear_op *ops = linear__grow(NULL, given_count, sizeof *ops);
    size_t count = 0;
    for (size_t i = 0; i < given_count; i++) {
        bool looked = given[i].kind == LINEAR_READ && given[i].outcome == LINEAR_UNKNOWN;
        if (given[i].outcome != LINEAR_NEVER && !looked) {
            ops[count] = given[i];
            if (given[i].outcome == LINEAR_UNKNOWN) {
                ops[count].returned = FOREVER;
            }
            LS_ASSERT(ops[count].returned >= ops[count].invoked);
            count++;
        }
    }
    LS_ASSERT(count < NONE / 4);
    if (count > 0) {
        qsort(ops, count, sizeof *ops, by_invocation);
    }
    values_collect(search, ops, count, initial);
    value_of(search, initial)->writers++; /* it is there without a writer: as if written first */
    values_count(search, ops, count);
    value_of(search, initial)->writers--;

    search->known = zeroed(count, sizeof *search->known);
    search->unknown = zeroed(count, sizeof *search->unknown);
    for (size_t i = 0; i < count; i++) {
        add(search, &ops[i]);
    }
    kinds_collect(search);
    search->state = number_of(search, initial);
    search->next = zeroed(search->known_count + 1, sizeof *search->next);
    search->previous = zeroed(search->known_count + 1, sizeof *search->previous);
    for (uint32_t i = 0; i <= search->known_count; i++) {
        search->next[i] = i == search->known_count ? 0 : i + 1;
        search->previous[i] = i == 0 ? search->known_count : i - 1;
    }
    search->trail = zeroed(count + 1, sizeof *search->trail);
    search->frames = zeroed(count + 2, sizeof *search->frames);
    search->candidates = zeroed(count + 1, sizeof *search->candidates);
    search->key = zeroed(3 * count + 8, sizeof *search->key);
    search->slots_count = MEMO_SLOTS_BASE;
    search->slots = linear__grow(NULL, search->slots_count, sizeof *search->slots);
    memset(search->slots, 0xff, search->slots_count * sizeof *search->slots);
    free(ops);
}

static void search_close(struct search *search)
{
    free(search->known);
    free(search->unknown);
    free(search->kinds);
    free(search->values);
    free(search->next);
    free(search->previous);
    free(search->trail);
    free(search->frames);
    free(search->options);
    free(search->candidates);
    free(search->memo);
    free(search->slots);
    free(search->key);
}

/* ---- moves ---- */

static bool fits(const struct known *op, uint32_t state, uint32_t absent)
{
    switch (op->kind) {
    case LINEAR_READ:
        return state == op->value;
    case LINEAR_CAS:
        return (state == op->expected) == op->mutates;
    case LINEAR_DELETE:
        return (state != absent) == op->mutates;
    case LINEAR_WRITE:
        break;
    }
    return true;
}

/* The value with the number 0 is the least one, which is absence. */
static const uint32_t absent;

static void count_known(struct search *search, const struct known *op, bool back)
{
    uint32_t change = back ? 1u : UINT32_MAX;
    uint32_t seen = op->value;
    if (op->mutates && op->value < search->values_count) {
        search->values[op->value].writers += change;
    }
    if (op->kind == LINEAR_CAS) {
        seen = op->expected;
    }
    bool sees = op->mutates ? op->kind == LINEAR_CAS : op->kind != LINEAR_CAS;
    if (sees) {
        search->values[seen].observers += change;
    }
}

static void count_kind(struct search *search, const struct kind *kind, bool back)
{
    if (kind->value < search->values_count) {
        search->values[kind->value].writers += back ? 1u : UINT32_MAX;
    }
}

static void move_do(struct search *search, struct move move)
{
    move.before = search->state;
    if (move.known) {
        const struct known *op = &search->known[move.at];
        search->next[search->previous[move.at]] = search->next[move.at];
        search->previous[search->next[move.at]] = search->previous[move.at];
        count_known(search, op, false);
        search->state = op->mutates ? op->value : search->state;
    } else {
        struct kind *kind = &search->kinds[move.at];
        kind->used++;
        count_kind(search, kind, false);
        search->state = kind->value;
    }
    search->trail[search->trail_count++] = move;
    search->steps++;
}

static void move_undo(struct search *search)
{
    struct move move = search->trail[--search->trail_count];
    search->state = move.before;
    if (move.known) {
        search->next[search->previous[move.at]] = move.at;
        search->previous[search->next[move.at]] = move.at;
        count_known(search, &search->known[move.at], true);
    } else {
        search->kinds[move.at].used--;
        count_kind(search, &search->kinds[move.at], true);
    }
}

static void undo_to(struct search *search, size_t count)
{
    while (search->trail_count > count) {
        move_undo(search);
    }
}

/* After a move: whether a value was left that is still to be seen and never comes back. */
static bool doomed(const struct search *search)
{
    uint32_t left = search->trail[search->trail_count - 1].before;
    return left != search->state && left < search->values_count &&
           search->values[left].observers > 0 && search->values[left].writers == 0;
}

/*
 * Finds what can be next: everything not in order that was invoked before the first of them was
 * answered. As they are sorted by invocation, it is a piece at the list's beginning.
 */
static void candidates_find(struct search *search)
{
    uint32_t end = search->known_count;
    search->candidates_count = 0;
    search->deadline = FOREVER;
    for (uint32_t at = search->next[end]; at != end; at = search->next[at]) {
        const struct known *op = &search->known[at];
        if (op->invoked > search->deadline) {
            break;
        }
        if (op->returned < search->deadline) {
            search->deadline = op->returned;
        }
        search->candidates[search->candidates_count++] = at;
    }
}

static void look_all(struct search *search)
{
    bool again = true;
    while (again) {
        again = false;
        candidates_find(search);
        for (size_t i = 0; i < search->candidates_count; i++) {
            const struct known *op = &search->known[search->candidates[i]];
            if (!op->mutates && fits(op, search->state, absent)) {
                move_do(search, (struct move){.known = true, .at = search->candidates[i]});
                again = true;
            }
        }
    }
}

static void option_add(struct search *search, struct move move)
{
    if (search->options_count == search->options_capacity) {
        search->options_capacity = 2 * search->options_capacity + 64;
        search->options =
            linear__grow(search->options, search->options_capacity, sizeof *search->options);
    }
    search->options[search->options_count++] = move;
}

/* Whether an equal operation with an answer is among the options; the one answered first stays. */
static bool option_same(struct search *search, size_t from, const struct known *op, uint32_t at)
{
    for (size_t i = from; i < search->options_count; i++) {
        if (!search->options[i].known) {
            continue;
        }
        const struct known *other = &search->known[search->options[i].at];
        if (other->kind == op->kind && other->value == op->value &&
            other->expected == op->expected) {
            if (at != NONE && op->returned < other->returned) {
                search->options[i].at = at;
            }
            return true;
        }
    }
    return false;
}

static void options_find(struct search *search)
{
    size_t from = search->options_count;
    for (size_t i = 0; i < search->candidates_count; i++) {
        uint32_t at = search->candidates[i];
        const struct known *op = &search->known[at];
        if (op->mutates && fits(op, search->state, absent) && !option_same(search, from, op, at)) {
            option_add(search, (struct move){.known = true, .at = at});
        }
    }
    for (uint32_t at = 0; at < search->kinds_count; at++) {
        const struct kind *kind = &search->kinds[at];
        const struct known like = {
            .kind = kind->kind, .mutates = true, .value = kind->value, .expected = kind->expected};
        if (kind->used < kind->count && kind->value != search->state &&
            search->unknown[kind->first + kind->used].invoked <= search->deadline &&
            fits(&like, search->state, absent) && !option_same(search, from, &like, NONE)) {
            option_add(search, (struct move){.known = false, .at = at});
        }
    }
}

/* ---- configurations met ---- */

static uint64_t hash_words(const uint32_t *words, size_t count)
{
    uint64_t hash = 0x9e3779b97f4a7c15u ^ count;
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ words[i]) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    return hash;
}

static void slots_grow(struct search *search)
{
    size_t count = search->slots_count * 2;
    uint32_t *slots = linear__grow(NULL, count, sizeof *slots);
    memset(slots, 0xff, count * sizeof *slots);
    for (size_t i = 0; i < search->slots_count; i++) {
        if (search->slots[i] != NONE) {
            const uint32_t *entry = &search->memo[search->slots[i]];
            size_t slot = hash_words(entry + 3, entry[1]) & (count - 1);
            while (slots[slot] != NONE) {
                slot = (slot + 1) & (count - 1);
            }
            slots[slot] = search->slots[i];
        }
    }
    free(search->slots);
    search->slots = slots;
    search->slots_count = count;
}

/* As many of every kind were used then as now, or fewer. */
static bool used_less(const struct search *search, const uint32_t *used, size_t words)
{
    for (size_t i = 0; i < words; i += 2) {
        if (used[i + 1] > search->kinds[used[i]].used) {
            return false;
        }
    }
    return true;
}

/*
 * Whether there is nothing new to find from the present configuration; remembers it if there is.
 * The set in order is told by the first operation that cannot be next and by the candidates, as all
 * else before that one is in order. Entries: next of the same set, words of the set, words of
 * use, set, use (pairs of a kind's number and how many).
 */
static bool met(struct search *search)
{
    uint32_t *key = search->key;
    size_t set = 0, slot = 0;
    uint32_t last = search->candidates[search->candidates_count - 1];
    key[set++] = search->state;
    key[set++] = search->next[last];
    for (size_t i = 0; i < search->candidates_count; i++) {
        key[set++] = search->candidates[i];
    }
    size_t all = set;
    for (uint32_t at = 0; at < search->kinds_count; at++) {
        if (search->kinds[at].used > 0) {
            key[all++] = at;
            key[all++] = search->kinds[at].used;
        }
    }
    slot = hash_words(key, set) & (search->slots_count - 1);
    while (search->slots[slot] != NONE) {
        const uint32_t *entry = &search->memo[search->slots[slot]];
        if (entry[1] == set && memcmp(entry + 3, key, set * sizeof *key) == 0) {
            break;
        }
        slot = (slot + 1) & (search->slots_count - 1);
    }
    for (uint32_t at = search->slots[slot]; at != NONE; at = search->memo[at]) {
        if (used_less(search, &search->memo[at + 3 + set], search->memo[at + 2])) {
            return true;
        }
    }
    if (search->memo_count + all + 3 > search->memo_capacity) {
        search->memo_capacity = 2 * search->memo_capacity + all + 1024;
        search->memo = linear__grow(search->memo, search->memo_capacity, sizeof *search->memo);
    }
    uint32_t *entry = &search->memo[search->memo_count];
    entry[0] = search->slots[slot];
    entry[1] = (uint32_t)set;
    entry[2] = (uint32_t)(all - set);
    memcpy(entry + 3, key, all * sizeof *key);
    search->slots_used += search->slots[slot] == NONE ? 1 : 0;
    search->slots[slot] = (uint32_t)search->memo_count;
    search->memo_count += all + 3;
    search->exhausted = search->exhausted || search->memo_count > MEMO_WORDS_MAX;
    if (search->slots_used * 2 > search->slots_count) {
        slots_grow(search);
    }
    return false;
}

/* ---- the search ---- */

enum step { FOUND, OPEN, DEAD };

/* Puts in order what only looks, and lists what can come next. */
static enum step enter(struct search *search, size_t trail)
{
    look_all(search);
    if (search->candidates_count == 0) {
        return FOUND;
    }
    size_t options = search->options_count;
    options_find(search);
    /* where there is no choice, the next configuration is as good a mark */
    if (search->options_count == options || (search->options_count > options + 1 && met(search))) {
        search->options_count = options;
        return DEAD;
    }
    search->frames[search->frames_count++] = (struct frame){
        .trail = trail, .options = options, .next = options, .end = search->options_count};
    return OPEN;
}

static enum linear_verdict run(struct search *search)
{
    for (uint32_t i = 0; i < search->values_count; i++) {
        if (i != search->state && search->values[i].observers > 0 &&
            search->values[i].writers == 0) {
            return LINEAR_ILLEGAL; /* seen, and never written */
        }
    }
    if (enter(search, 0) == FOUND) {
        return LINEAR_LEGAL;
    }
    while (search->frames_count > 0) {
        struct frame *frame = &search->frames[search->frames_count - 1];
        if (search->steps > LINEAR_STEPS_MAX || search->exhausted) {
            return LINEAR_UNDECIDED;
        }
        if (frame->next == frame->end) {
            search->options_count = frame->options;
            undo_to(search, frame->trail);
            search->frames_count--;
            continue;
        }
        size_t trail = search->trail_count;
        move_do(search, search->options[frame->next++]);
        enum step step = doomed(search) ? DEAD : enter(search, trail);
        if (step == FOUND) {
            return LINEAR_LEGAL;
        }
        if (step == DEAD) {
            undo_to(search, trail);
        }
    }
    return LINEAR_ILLEGAL;
}

enum linear_verdict linear__search(const struct linear_op *ops, size_t count, uint64_t initial,
                                   uint64_t *steps)
{
    struct search search = {0};
    search_open(&search, ops, count, initial);
    enum linear_verdict verdict = run(&search);
    *steps += search.steps;
    search_close(&search);
    return verdict;
}
