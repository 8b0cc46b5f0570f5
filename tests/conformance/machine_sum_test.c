/* SPDX-License-Identifier: MIT */
/* The machine contract over a small machine of each shape: in memory, one command at a time; and
 * one that keeps its state at its place, takes batches in pieces and is busy when told to be. */
#include "machine_suite.h"

#include <stdlib.h>

/* What stays when the machine closes. */
struct place {
    bool kept; /* the state is durable: on disk, so to speak */
    bool bound;
    struct ls_group_id group;
    struct ls_incarnation incarnation;
    uint64_t sum, count, durable_sum, durable_count;
    ls_index applied, durable;
    uint32_t busy, pieces;
    uint8_t command[16];
};

static struct ls_span sum_signature(void *self)
{
    (void)self;
    return (struct ls_span){"sum/1", 5};
}

static enum ls_status sum_open(void *self, const struct ls_group_id *group,
                               const struct ls_incarnation *incarnation, ls_index *applied,
                               struct ls_error *error)
{
    struct place *place = self;
    if (place->bound && (!ls_group_id_equal(&place->group, group) ||
                         !ls_incarnation_equal(&place->incarnation, incarnation))) {
        return ls_error_set(error, LS_ERR_MISMATCH, "the place belongs to another");
    }
    place->bound = true;
    place->group = *group;
    place->incarnation = *incarnation;
    place->sum = place->durable_sum;
    place->count = place->durable_count;
    place->applied = place->durable;
    *applied = place->durable;
    return LS_OK;
}

static bool is_busy(struct place *place)
{
    bool busy = place->busy > 0;
    place->busy -= busy ? 1u : 0u;
    return busy;
}

static enum ls_status run(struct place *place, const struct ls_command *command,
                          struct ls_replies *replies, size_t at)
{
    place->applied = command->cursor.index;
    if (command->data.bytes != sizeof(uint64_t)) {
        return ls_reply_set(replies, at, "bad", 3);
    }
    uint64_t number = 0;
    (void)memcpy(&number, command->data.data, sizeof number);
    place->sum = place->sum * 31 + number;
    place->count++;
    return ls_reply_set(replies, at, &place->sum, sizeof place->sum);
}

static enum ls_status sum_apply(void *self, const struct ls_command *command,
                                struct ls_replies *replies)
{
    return is_busy(self) ? LS_ERR_BUSY : run(self, command, replies, 0);
}

static enum ls_status sum_apply_batch(void *self, const struct ls_command *commands, size_t count,
                                      struct ls_replies *replies, size_t *applied)
{
    struct place *place = self;
    size_t piece = 1 + place->pieces++ % 5; /* not all that is offered */
    *applied = 0;
    if (is_busy(place)) {
        return LS_ERR_BUSY;
    }
    for (size_t i = 0; i < count && i < piece; i++) {
        assert_ok(run(place, &commands[i], replies, i));
        (*applied)++;
    }
    if (place->pieces % 4 == 0) {
        place->durable = place->applied;
        place->durable_sum = place->sum;
        place->durable_count = place->count;
    }
    return LS_OK;
}

static enum ls_status sum_query(void *self, struct ls_span query, struct ls_replies *reply)
{
    const struct place *place = self;
    if (query.bytes != 1) {
        return LS_ERR_INVALID;
    }
    bool sum = *(const uint8_t *)query.data == 's';
    return ls_reply_set(reply, 0, sum ? &place->sum : &place->count, sizeof place->sum);
}

static ls_index sum_durable(void *self)
{
    return ((struct place *)self)->durable;
}

static void make(void *self, struct ls_machine *out)
{
    struct place *place = self;
    *out = (struct ls_machine){
        .size = sizeof *out, .self = place, .signature = sum_signature, .query = sum_query};
    if (place->kept) {
        out->open = sum_open;
        out->apply_batch = sum_apply_batch;
        out->durable_applied = sum_durable;
    } else { /* a new machine is empty */
        out->apply = sum_apply;
        place->sum = place->count = 0;
    }
}

static struct ls_span command(void *self, uint64_t number)
{
    struct place *place = self;
    (void)memcpy(place->command, &number, sizeof number);
    return (struct ls_span){place->command, sizeof number};
}

static struct ls_span query(void *self, size_t number)
{
    (void)self;
    return (struct ls_span){number == 0 ? "s" : "c", 1};
}

static void busy(void *self, uint32_t times)
{
    ((struct place *)self)->busy = times;
}

static void subject_open(struct machine_subject *out, bool kept)
{
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    place->kept = kept;
    *out = (struct machine_subject){.self = place,
                                    .make = make,
                                    .command = command,
                                    .query = query,
                                    .queries = 2,
                                    .on_disk = kept,
                                    .busy = busy,
                                    .close = free};
}

static void plain_open(struct machine_subject *out)
{
    subject_open(out, false);
}

static void kept_open(struct machine_subject *out)
{
    subject_open(out, true);
}

#define RUN(test)                                                                                  \
    TEST(plain, test)                                                                              \
    {                                                                                              \
        machine_suite_##test(plain_open);                                                          \
    }                                                                                              \
    TEST(kept, test)                                                                               \
    {                                                                                              \
        machine_suite_##test(kept_open);                                                           \
    }
MACHINE_SUITE_TESTS(RUN)
