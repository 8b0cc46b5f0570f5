/* SPDX-License-Identifier: MIT */
/* The contract of struct ls_machine, sentence by sentence. */
#include "machine_suite.h"

#include <stdlib.h>

#include "runtime.h"

#define COMMANDS  300u
#define BATCH_MAX 64u

static const struct ls_group_id our_group = {{1, 2, 3}};
static const struct ls_incarnation our_incarnation = {{4, 5, 6}};

/* A machine under test, and a hash over all that it answered. */
struct bench {
    struct machine_subject subject;
    struct ls_machine machine;
    struct ls_replies replies;
    uint64_t answers;
    uint64_t next; /* command */
    ls_index durable;
};

static uint64_t digest(uint64_t hash, struct ls_span bytes)
{
    const uint8_t *at = bytes.data;
    hash = (hash ^ bytes.bytes) * 1099511628211u;
    for (size_t i = 0; i < bytes.bytes; i++) {
        hash = (hash ^ at[i]) * 1099511628211u;
    }
    return hash;
}

static ls_index bench_start(struct bench *bench)
{
    ls_index applied = 0;
    struct ls_error error = {LS_OK, ""};
    bench->subject.make(bench->subject.self, &bench->machine);
    if (bench->machine.open != NULL &&
        bench->machine.open(bench->machine.self, &our_group, &our_incarnation, &applied, &error) !=
            LS_OK) {
        fail_msg("%s", error.text);
    }
    return applied;
}

static void bench_stop(struct bench *bench)
{
    if (bench->machine.close != NULL) {
        bench->machine.close(bench->machine.self);
    }
}

static void bench_open(struct bench *bench, machine_subject_open open)
{
    (void)memset(bench, 0, sizeof *bench);
    bench->replies.env = ls_env_default();
    bench->answers = 14695981039346656037u;
    bench->next = 1;
    open(&bench->subject);
    assert_int_equal(bench_start(bench), 0);
}

static void bench_close(struct bench *bench)
{
    bench_stop(bench);
    ls__replies_free(&bench->replies);
    if (bench->subject.close != NULL) {
        bench->subject.close(bench->subject.self);
    }
}

/* No-ops and configurations stand between commands: indices have holes. */
static ls_index index_of(uint64_t number)
{
    return number + number / 7 + 2;
}

static void check_durable(struct bench *bench, ls_index applied)
{
    if (bench->machine.durable_applied != NULL) {
        ls_index durable = bench->machine.durable_applied(bench->machine.self);
        assert_true(durable >= bench->durable);
        assert_true(durable <= applied);
        bench->durable = durable;
    }
}

/* Offers commands as the runtime does; returns how many were taken. */
static size_t offer(struct bench *bench, const struct ls_command *commands, size_t count,
                    enum ls_status *status)
{
    const struct ls_machine *machine = &bench->machine;
    size_t applied = 0;
    size_t offered = machine->apply_batch != NULL ? count : 1;
    assert_ok(ls__replies_reset(&bench->replies, offered));
    if (machine->apply_batch != NULL) {
        *status = machine->apply_batch(machine->self, commands, offered, &bench->replies, &applied);
    } else {
        *status = machine->apply(machine->self, commands, &bench->replies);
        applied = *status == LS_OK ? 1 : 0;
    }
    assert_true(applied <= offered);
    for (size_t i = 0; i < applied; i++) {
        bench->answers = digest(bench->answers, ls__replies_at(&bench->replies, i));
    }
    return applied;
}

static void apply_spans(struct bench *bench, const struct ls_span *spans, size_t count)
{
    struct ls_command commands[BATCH_MAX];
    for (size_t i = 0; i < count; i++) {
        commands[i] = (struct ls_command){{1, index_of(bench->next + i)}, spans[i]};
    }
    size_t done = 0;
    while (done < count) {
        enum ls_status status = LS_OK;
        done += offer(bench, commands + done, count - done, &status);
        assert_true(status == LS_OK || status == LS_ERR_BUSY);
    }
    bench->next += count;
    check_durable(bench, index_of(bench->next - 1));
}

/* The next `count` commands, offered at once. */
static void apply(struct bench *bench, size_t count)
{
    struct ls_span spans[BATCH_MAX] = {{NULL, 0}};
    void *copies[BATCH_MAX];
    assert_true(count <= BATCH_MAX);
    for (size_t i = 0; i < count; i++) {
        struct ls_span span = bench->subject.command(bench->subject.self, bench->next + i);
        copies[i] = malloc(span.bytes + 1);
        assert_non_null(copies[i]);
        if (span.bytes > 0) {
            (void)memcpy(copies[i], span.data, span.bytes);
        }
        spans[i] = (struct ls_span){copies[i], span.bytes};
    }
    apply_spans(bench, spans, count);
    for (size_t i = 0; i < count; i++) {
        free(copies[i]);
    }
}

static void apply_up_to(struct bench *bench, uint64_t last)
{
    while (bench->next <= last) {
        apply(bench, 1);
    }
}

static uint64_t state_of(struct bench *bench)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < bench->subject.queries; i++) {
        struct ls_span query = bench->subject.query(bench->subject.self, i);
        assert_ok(ls__replies_reset(&bench->replies, 1));
        assert_ok(bench->machine.query(bench->machine.self, query, &bench->replies));
        hash = digest(hash, ls__replies_at(&bench->replies, 0));
    }
    return hash;
}

static void assert_alike(struct bench *one, struct bench *other)
{
    assert_true(one->answers == other->answers);
    assert_true(state_of(one) == state_of(other));
}

void machine_suite_signature_is_one_for_all_and_fits(machine_subject_open open)
{
    struct bench one, other;
    bench_open(&one, open);
    bench_open(&other, open);
    struct ls_span first = one.machine.signature(one.machine.self);
    uint8_t kept[LS_SIGNATURE_BYTES_MAX];
    assert_true(first.bytes > 0 && first.bytes <= sizeof kept);
    (void)memcpy(kept, first.data, first.bytes);
    apply(&one, 10);
    struct bench *all[] = {&one, &other};
    for (size_t i = 0; i < 2; i++) {
        struct ls_span again = all[i]->machine.signature(all[i]->machine.self);
        assert_int_equal(again.bytes, first.bytes);
        assert_memory_equal(again.data, kept, first.bytes);
    }
    bench_close(&one);
    bench_close(&other);
}

void machine_suite_two_instances_answer_alike(machine_subject_open open)
{
    struct bench one, other;
    bench_open(&one, open);
    bench_open(&other, open);
    uint64_t empty = state_of(&one);
    apply_up_to(&one, COMMANDS);
    apply_up_to(&other, COMMANDS);
    assert_alike(&one, &other);
    assert_true(state_of(&one) != empty); /* the subject's commands and queries tell something */
    bench_close(&one);
    bench_close(&other);
}

void machine_suite_batch_is_its_commands_one_by_one(machine_subject_open open)
{
    struct bench one, other;
    bench_open(&one, open);
    bench_open(&other, open);
    for (size_t count = 1; count <= BATCH_MAX; count += 9) {
        apply(&one, count);
    }
    apply_up_to(&other, one.next - 1);
    assert_alike(&one, &other);
    bench_close(&one);
    bench_close(&other);
}

void machine_suite_busy_means_nothing_happened(machine_subject_open open)
{
    struct bench one, other;
    bench_open(&one, open);
    bench_open(&other, open);
    for (uint32_t i = 0; i < 20; i++) {
        uint64_t before = state_of(&one);
        if (one.subject.busy != NULL) {
            one.subject.busy(one.subject.self, 1);
            struct ls_span data = one.subject.command(one.subject.self, one.next);
            const struct ls_command command = {{1, index_of(one.next)}, data};
            enum ls_status status = LS_OK;
            assert_int_equal(offer(&one, &command, 1, &status), 0);
            assert_int_equal(status, LS_ERR_BUSY);
            assert_true(state_of(&one) == before);
            one.subject.busy(one.subject.self, i % 3);
        }
        apply(&one, 5); /* asked again while it is busy */
        apply(&other, 5);
    }
    assert_alike(&one, &other);
    bench_close(&one);
    bench_close(&other);
}

void machine_suite_query_changes_nothing(machine_subject_open open)
{
    struct bench one, other;
    bench_open(&one, open);
    bench_open(&other, open);
    for (uint32_t i = 0; i < 20; i++) {
        apply(&one, 3);
        apply(&other, 3);
        uint64_t before = state_of(&one);
        for (uint64_t number = 0; number < 5; number++) { /* commands are no queries */
            struct ls_span query = one.subject.command(one.subject.self, number + 1);
            assert_ok(ls__replies_reset(&one.replies, 1));
            (void)one.machine.query(one.machine.self, query, &one.replies);
            check_durable(&one, index_of(one.next - 1));
        }
        assert_ok(ls__replies_reset(&one.replies, 1));
        (void)one.machine.query(one.machine.self, (struct ls_span){NULL, 0}, &one.replies);
        assert_true(state_of(&one) == before);
    }
    assert_alike(&one, &other);
    bench_close(&one);
    bench_close(&other);
}

/* A log can hold anything: it is refused with a reply, by all members alike. */
void machine_suite_bytes_of_nobody_are_answered_alike(machine_subject_open open)
{
    struct bench one, other;
    uint64_t seed = test_seed();
    bench_open(&one, open);
    bench_open(&other, open);
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t bytes[64];
        struct ls_span span = {bytes, i % sizeof bytes};
        for (size_t k = 0; k < sizeof bytes; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            bytes[k] = (uint8_t)(seed >> 56);
        }
        apply_spans(&one, &span, 1);
        apply_spans(&other, &span, 1);
        apply(&one, 1);
        apply(&other, 1);
    }
    assert_alike(&one, &other);
    bench_close(&one);
    bench_close(&other);
}

void machine_suite_durable_index_only_grows_and_is_found_again(machine_subject_open open)
{
    struct bench one, other;
    bench_open(&one, open);
    bench_open(&other, open);
    for (uint64_t last = 50; last <= COMMANDS; last += 50) {
        while (one.next + 7 <= last) {
            apply(&one, 7);
        }
        apply_up_to(&one, last);
        bench_stop(&one);
        ls_index applied = bench_start(&one);
        assert_true(applied >= one.durable); /* what it called durable is there */
        assert_true(applied <= index_of(last));
        check_durable(&one, applied);
        one.next = 1;
        while (one.next <= last && index_of(one.next) <= applied) {
            one.next++;
        }
        apply_up_to(&one, last); /* the rest, once more, as at a restart */
        apply_up_to(&other, last);
        assert_true(state_of(&one) == state_of(&other));
    }
    bench_close(&one);
    bench_close(&other);
}

void machine_suite_state_of_another_group_or_incarnation_is_refused(machine_subject_open open)
{
    static const struct ls_group_id other_group = {{1, 2, 4}};
    static const struct ls_incarnation other_incarnation = {{4, 5, 7}};
    struct bench bench;
    bench_open(&bench, open);
    apply(&bench, 20);
    for (int i = 0; bench.subject.on_disk && i < 2; i++) {
        ls_index applied = 0;
        struct ls_error error = {LS_OK, ""};
        bench_stop(&bench);
        bench.subject.make(bench.subject.self, &bench.machine);
        assert_int_equal(bench.machine.open(bench.machine.self, i == 0 ? &other_group : &our_group,
                                            i == 0 ? &our_incarnation : &other_incarnation,
                                            &applied, &error),
                         LS_ERR_MISMATCH);
        assert_true(error.text[0] != '\0');
        bench_stop(&bench);
        applied = bench_start(&bench); /* and nothing of it was touched */
        assert_true(applied >= bench.durable);
    }
    bench_close(&bench);
}

/* ---- snapshots ---- */

static bool pictures(const struct bench *bench)
{
    const struct ls_machine *machine = &bench->machine;
    bool any = machine->freeze != NULL;
    assert_true(any == (machine->iterate != NULL) && any == (machine->thaw != NULL));
    assert_true(any == (machine->restore != NULL) && any == (machine->restore_item != NULL));
    assert_true(any == (machine->publish != NULL) && any == (machine->restore_end != NULL));
    return any;
}

/* Opens benches, the first `count` commands applied to each; skips without snapshots. */
static void pictured_open(struct bench *benches, size_t count, uint64_t commands,
                          machine_subject_open open)
{
    for (size_t i = 0; i < count; i++) {
        bench_open(&benches[i], open);
        apply_up_to(&benches[i], commands);
    }
    if (!pictures(&benches[0])) {
        for (size_t i = 0; i < count; i++) {
            bench_close(&benches[i]);
        }
        skip();
    }
}

static struct ls_frozen freeze(struct bench *bench)
{
    struct ls_frozen frozen = {0};
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) { /* not now */
        status = bench->machine.freeze(bench->machine.self, &frozen);
        if (status == LS_ERR_BUSY && bench->machine.durable_applied != NULL) {
            (void)bench->machine.durable_applied(bench->machine.self);
        }
    }
    assert_ok(status);
    return frozen;
}

static void thaw(struct bench *bench, struct ls_frozen *frozen)
{
    bench->machine.thaw(bench->machine.self, frozen);
}

#define ITEMS_MAX 512u

/* What a walk saw. */
struct walk {
    uint64_t items, bytes, hash;
    uint64_t stop;              /* before the item of this number */
    uint64_t hashes[ITEMS_MAX]; /* of each item */
    char keys[ITEMS_MAX][64];   /* the key of each, as far as it fits */
    size_t key_bytes[ITEMS_MAX];
};

static bool see(void *arg, const struct ls_item *item)
{
    struct walk *walk = arg;
    assert_null(ls_item_invalid(item));
    if (walk->items == walk->stop) {
        return false;
    }
    assert_true(walk->items < ITEMS_MAX && item->key.bytes <= sizeof walk->keys[0]);
    uint64_t hash = digest(digest(14695981039346656037u, item->key), item->value);
    (void)memcpy(walk->keys[walk->items], item->key.data, item->key.bytes);
    walk->key_bytes[walk->items] = item->key.bytes;
    walk->hashes[walk->items++] = hash;
    walk->bytes += item->key.bytes + item->value.bytes;
    walk->hash = (walk->hash ^ hash) * 1099511628211u;
    return true;
}

static void look(struct bench *bench, const struct ls_frozen *frozen, struct ls_span from,
                 struct walk *walk)
{
    uint64_t stop = walk->stop;
    *walk = (struct walk){.stop = stop};
    assert_ok(bench->machine.iterate(bench->machine.self, frozen, from, see, walk));
}

/* The whole picture, which must be what its counts say. */
static void look_at_all(struct bench *bench, const struct ls_frozen *frozen, struct walk *walk)
{
    walk->stop = UINT64_MAX;
    look(bench, frozen, (struct ls_span){NULL, 0}, walk);
    assert_int_equal(walk->items, frozen->items);
    assert_int_equal(walk->bytes, frozen->bytes);
}

static struct walk walks[3];

void machine_suite_pictures_of_equal_states_are_equal(machine_subject_open open)
{
    struct bench benches[2];
    pictured_open(benches, 2, 0, open);
    for (uint64_t commands = 0; commands <= COMMANDS; commands += 60) {
        apply_up_to(&benches[0], commands);
        while (benches[1].next <= commands) { /* in other batches */
            apply(&benches[1], benches[1].next + 6 <= commands ? 7 : 1);
        }
        for (size_t i = 0; i < 2; i++) {
            struct ls_frozen frozen = freeze(&benches[i]);
            look_at_all(&benches[i], &frozen, &walks[i]);
            thaw(&benches[i], &frozen);
        }
        assert_int_equal(walks[0].items, walks[1].items);
        assert_true(walks[0].hash == walks[1].hash);
        assert_true(commands == 0 || walks[0].items > 0);
    }
    bench_close(&benches[0]);
    bench_close(&benches[1]);
}

void machine_suite_picture_stands_still_while_the_machine_goes_on(machine_subject_open open)
{
    struct bench one, other;
    struct bench benches[2];
    pictured_open(benches, 2, 40, open);
    one = benches[0];
    other = benches[1];
    struct ls_frozen older = freeze(&one);
    look_at_all(&one, &older, &walks[0]);
    apply_up_to(&one, 90);
    struct ls_frozen newer = freeze(&one);
    look_at_all(&one, &newer, &walks[1]);
    assert_true(walks[0].hash != walks[1].hash);
    for (uint64_t commands = 100; commands <= COMMANDS; commands += 50) {
        apply_up_to(&one, commands);
        look_at_all(&one, &older, &walks[2]);
        assert_true(walks[2].hash == walks[0].hash);
        look_at_all(&one, &newer, &walks[2]);
        assert_true(walks[2].hash == walks[1].hash);
    }
    thaw(&one, &older);
    look_at_all(&one, &newer, &walks[2]); /* the other one stays */
    assert_true(walks[2].hash == walks[1].hash);
    thaw(&one, &newer);
    apply_up_to(&other, COMMANDS); /* and nobody noticed */
    assert_alike(&one, &other);
    bench_close(&one);
    bench_close(&other);
}

void machine_suite_picture_is_read_from_any_item_on(machine_subject_open open)
{
    struct bench bench;
    pictured_open(&bench, 1, 90, open);
    struct ls_frozen frozen = freeze(&bench);
    apply_up_to(&bench, 120);
    look_at_all(&bench, &frozen, &walks[0]);
    uint64_t random = test_seed();
    for (uint64_t i = 0; i < 300 && walks[0].items > 0; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        /* by turns in order, as chunks are cut, and anywhere */
        uint64_t first = (i % 2 == 0 ? random >> 33 : i) % walks[0].items;
        walks[1].stop = (random >> 20) % 7;
        look(&bench, &frozen, (struct ls_span){walks[0].keys[first], walks[0].key_bytes[first]},
             &walks[1]);
        uint64_t left = walks[0].items - first;
        assert_int_equal(walks[1].items, walks[1].stop < left ? walks[1].stop : left);
        assert_memory_equal(walks[1].hashes, &walks[0].hashes[first],
                            walks[1].items * sizeof walks[1].hashes[0]);
    }
    thaw(&bench, &frozen);
    bench_close(&bench);
}

static bool carry(void *arg, const struct ls_item *item)
{
    struct bench *to = arg;
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = to->machine.restore_item(to->machine.self, item);
    }
    assert_ok(status);
    return true;
}

static void carry_all(struct bench *from, const struct ls_frozen *frozen, struct bench *to)
{
    assert_ok(
        from->machine.iterate(from->machine.self, frozen, (struct ls_span){NULL, 0}, carry, to));
    enum ls_status status = to->machine.restore_sync == NULL ? LS_OK : LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = to->machine.restore_sync(to->machine.self);
    }
    assert_ok(status);
}

static void publish(struct bench *bench, struct ls_cursor anchor)
{
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = bench->machine.publish(bench->machine.self, anchor);
    }
    assert_ok(status);
}

void machine_suite_restored_state_is_the_one_of_the_picture(machine_subject_open open)
{
    struct bench benches[2];
    pictured_open(benches, 2, 0, open);
    struct bench *from = &benches[0];
    struct bench *to = &benches[1];
    apply_up_to(to, 30); /* another state, which is served until the last step */
    apply_up_to(from, 150);
    const struct ls_cursor anchor = {1, index_of(150)};
    struct ls_frozen frozen = freeze(from);
    uint64_t before = state_of(to);
    look_at_all(from, &frozen, &walks[0]);
    assert_ok(to->machine.restore(to->machine.self, anchor));
    carry_all(from, &frozen, to);
    assert_true(state_of(to) == before);
    publish(to, anchor);
    to->next = from->next;
    assert_true(state_of(to) == state_of(from));
    if (to->subject.on_disk) {
        assert_int_equal(to->machine.durable_applied(to->machine.self), anchor.index);
        bench_stop(to);
        assert_int_equal(bench_start(to), anchor.index);
        assert_true(state_of(to) == state_of(from));
        to->durable = anchor.index;
    }
    struct ls_frozen again = freeze(to);
    look_at_all(to, &again, &walks[1]);
    assert_true(walks[0].hash == walks[1].hash);
    thaw(to, &again);
    thaw(from, &frozen);
    from->answers = to->answers = 0;
    apply_up_to(from, COMMANDS);
    apply_up_to(to, COMMANDS);
    assert_alike(from, to);
    bench_close(from);
    bench_close(to);
}

void machine_suite_state_that_is_not_published_changes_nothing(machine_subject_open open)
{
    struct bench benches[2];
    pictured_open(benches, 2, 60, open);
    struct bench *from = &benches[0];
    struct bench *to = &benches[1];
    apply_up_to(from, 150);
    const struct ls_cursor anchor = {1, index_of(150)};
    struct ls_frozen frozen = freeze(from);
    to->machine.restore_end(to->machine.self); /* there is none */
    for (int round = 0; round < 2; round++) {
        assert_ok(to->machine.restore(to->machine.self, anchor));
        carry_all(from, &frozen, to);
        apply_up_to(to, to->next + 20);
    }
    to->machine.restore_end(to->machine.self);
    if (to->subject.on_disk) { /* what is left at the end is of no use later either */
        assert_ok(to->machine.restore(to->machine.self, anchor));
        carry_all(from, &frozen, to);
        uint64_t last = to->next - 1;
        bench_stop(to);
        ls_index applied = bench_start(to);
        assert_true(applied <= index_of(last));
        for (to->next = 1; index_of(to->next) <= applied;) {
            to->next++;
        }
        apply_up_to(to, last);
    }
    thaw(from, &frozen);
    apply_up_to(to, COMMANDS);
    apply_up_to(from, COMMANDS);
    assert_true(state_of(to) == state_of(from));
    bench_close(from);
    bench_close(to);
}
