/* SPDX-License-Identifier: MIT */
/* The checker's verdicts on histories written by hand, and its reports. */
#include "checker.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* client, invoked, returned first: the story reads down the page, the operation across it */
#define READ(who, from, to, saw)                                                                   \
    {                                                                                              \
        .kind = LINEAR_READ, .client = (who), .invoked = (from), .returned = (to), .value = (saw)  \
    }
#define WRITE(who, from, to, what)                                                                 \
    {                                                                                              \
        .kind = LINEAR_WRITE, .client = (who), .invoked = (from), .returned = (to),                \
        .value = (what)                                                                            \
    }
#define CAS(who, from, to, old, new, result)                                                       \
    {                                                                                              \
        .kind = LINEAR_CAS, .client = (who), .invoked = (from), .returned = (to),                  \
        .expected = (old), .value = (new), .outcome = (result)                                     \
    }
#define DELETE(who, from, to, result)                                                              \
    {                                                                                              \
        .kind = LINEAR_DELETE, .client = (who), .invoked = (from), .returned = (to),               \
        .outcome = (result)                                                                        \
    }
#define LOST_WRITE(who, from, what)                                                                \
    {                                                                                              \
        .kind = LINEAR_WRITE, .client = (who), .invoked = (from), .value = (what),                 \
        .outcome = LINEAR_UNKNOWN                                                                  \
    }
#define LOST_CAS(who, from, old, new) CAS(who, from, 0, old, new, LINEAR_UNKNOWN)
#define LOST_DELETE(who, from)        DELETE(who, from, 0, LINEAR_UNKNOWN)

static enum linear_verdict verdict_of(const struct linear_op *ops, size_t count)
{
    struct linear_result result;
    enum linear_verdict verdict = linear_check(ops, count, &result);
    linear_result_free(&result);
    return verdict;
}

#define assert_legal(ops)   assert_int_equal(verdict_of((ops), COUNT(ops)), LINEAR_LEGAL)
#define assert_illegal(ops) assert_int_equal(verdict_of((ops), COUNT(ops)), LINEAR_ILLEGAL)

TEST(checker, accepts_no_operations_at_all)
{
    struct linear_result result;
    assert_int_equal(linear_check(NULL, 0, &result), LINEAR_LEGAL);
    assert_int_equal(result.keys, 0);
    linear_result_free(&result);
}

TEST(checker, accepts_one_client_after_another)
{
    const struct linear_op ops[] = {
        READ(1, 0, 1, 0),
        WRITE(1, 2, 3, 10),
        READ(2, 4, 5, 10),
        CAS(1, 6, 7, 10, 11, LINEAR_OK),
        CAS(1, 8, 9, 10, 12, LINEAR_NO),
        READ(2, 10, 11, 11),
        DELETE(2, 12, 13, LINEAR_OK),
        DELETE(2, 14, 15, LINEAR_NO),
        READ(1, 16, 17, 0),
        CAS(1, 18, 19, 0, 13, LINEAR_OK),
        READ(1, 20, 21, 13),
    };
    assert_legal(ops);
}

TEST(checker, lets_concurrent_operations_stand_in_either_order)
{
    const struct linear_op old[] = {WRITE(1, 0, 1, 10), WRITE(1, 2, 9, 11), READ(2, 3, 4, 10),
                                    READ(2, 5, 6, 11)};
    const struct linear_op both[] = {WRITE(1, 0, 9, 10), WRITE(2, 0, 9, 11), READ(3, 10, 11, 10)};
    assert_legal(old);
    assert_legal(both);
}

TEST(checker, takes_times_that_meet_for_concurrent)
{
    const struct linear_op ops[] = {WRITE(1, 0, 5, 10), READ(2, 5, 6, 0)};
    const struct linear_op apart[] = {WRITE(1, 0, 5, 10), READ(2, 6, 6, 0)};
    assert_legal(ops);
    assert_illegal(apart);
}

TEST(checker, refuses_a_stale_read)
{
    const struct linear_op ops[] = {WRITE(1, 0, 1, 10), WRITE(1, 2, 3, 11), READ(2, 4, 5, 10)};
    assert_illegal(ops);
}

TEST(checker, refuses_reads_that_go_back_in_time)
{
    const struct linear_op ops[] = {WRITE(1, 0, 1, 10), WRITE(1, 2, 9, 11), READ(2, 3, 4, 11),
                                    READ(3, 5, 6, 10)};
    assert_illegal(ops);
}

TEST(checker, refuses_a_lost_update)
{
    /* both compared with 10 and both were told that they won */
    const struct linear_op ops[] = {WRITE(1, 0, 1, 10), CAS(1, 2, 5, 10, 11, LINEAR_OK),
                                    CAS(2, 3, 6, 10, 12, LINEAR_OK)};
    const struct linear_op gone[] = {WRITE(1, 0, 1, 10), READ(2, 2, 3, 0)};
    assert_illegal(ops);
    assert_illegal(gone);
}

TEST(checker, accepts_a_cas_that_wins_twice_when_the_value_came_back)
{
    const struct linear_op ops[] = {WRITE(1, 0, 1, 10), CAS(1, 2, 5, 10, 11, LINEAR_OK),
                                    WRITE(3, 2, 5, 10), CAS(2, 2, 5, 10, 12, LINEAR_OK)};
    assert_legal(ops);
}

TEST(checker, refuses_a_cas_that_fails_for_no_reason)
{
    const struct linear_op ops[] = {WRITE(1, 0, 1, 10), CAS(1, 2, 3, 10, 11, LINEAR_NO)};
    const struct linear_op reason[] = {WRITE(1, 0, 1, 10), CAS(1, 2, 3, 10, 11, LINEAR_NO),
                                       LOST_WRITE(2, 3, 12)};
    assert_illegal(ops);
    assert_legal(reason);
}

TEST(checker, refuses_a_value_that_was_never_written)
{
    const struct linear_op ops[] = {WRITE(1, 0, 1, 10), READ(2, 0, 5, 99)};
    const struct linear_op later[] = {READ(2, 0, 1, 10), WRITE(1, 2, 3, 10)};
    const struct linear_op refused[] = {WRITE(1, 0, 1, 10), CAS(1, 2, 3, 11, 12, LINEAR_NO),
                                        READ(2, 2, 5, 12)};
    assert_illegal(ops);
    assert_illegal(later);
    assert_illegal(refused);
}

TEST(checker, refuses_wrong_answers_of_deletes)
{
    const struct linear_op nothing[] = {WRITE(1, 0, 1, 10), DELETE(1, 2, 3, LINEAR_NO)};
    const struct linear_op something[] = {DELETE(1, 2, 3, LINEAR_OK)};
    const struct linear_op twice[] = {WRITE(1, 0, 1, 10), DELETE(1, 2, 5, LINEAR_OK),
                                      DELETE(2, 2, 5, LINEAR_OK)};
    const struct linear_op risen[] = {WRITE(1, 0, 1, 10), DELETE(1, 2, 3, LINEAR_OK),
                                      READ(1, 4, 5, 10)};
    assert_illegal(nothing);
    assert_illegal(something);
    assert_illegal(twice);
    assert_illegal(risen);
}

TEST(checker, lets_an_unknown_take_effect_late_or_never)
{
    const struct linear_op late[] = {LOST_WRITE(1, 0, 10), WRITE(2, 5, 6, 11), READ(2, 7, 8, 11),
                                     READ(2, 50, 51, 10)};
    const struct linear_op never[] = {LOST_WRITE(1, 0, 10), WRITE(2, 5, 6, 11), READ(2, 7, 8, 11)};
    const struct linear_op del[] = {WRITE(2, 0, 1, 10), LOST_DELETE(1, 2), READ(2, 3, 4, 10),
                                    READ(2, 5, 6, 0)};
    const struct linear_op cas[] = {LOST_CAS(1, 0, 10, 11), WRITE(2, 5, 6, 10), READ(2, 7, 8, 10),
                                    READ(2, 9, 10, 11)};
    assert_legal(late);
    assert_legal(never);
    assert_legal(del);
    assert_legal(cas);
}

TEST(checker, refuses_an_unknown_that_takes_effect_twice)
{
    const struct linear_op write[] = {LOST_WRITE(1, 0, 10), READ(2, 1, 2, 10), WRITE(2, 3, 4, 11),
                                      READ(2, 5, 6, 11), READ(2, 7, 8, 10)};
    const struct linear_op two[] = {LOST_WRITE(1, 0, 10), READ(2, 1, 2, 10), WRITE(2, 3, 4, 11),
                                    READ(2, 5, 6, 11),    READ(2, 7, 8, 10), LOST_WRITE(3, 6, 10)};
    const struct linear_op del[] = {WRITE(2, 0, 1, 10), LOST_DELETE(1, 2), READ(2, 3, 4, 0),
                                    WRITE(2, 5, 6, 11), READ(2, 7, 8, 11), READ(2, 9, 10, 0)};
    assert_illegal(write);
    assert_legal(two);
    assert_illegal(del);
}

TEST(checker, refuses_an_unknown_that_takes_effect_before_it_was_invoked)
{
    const struct linear_op ops[] = {READ(2, 1, 2, 10), LOST_WRITE(1, 3, 10)};
    assert_illegal(ops);
}

TEST(checker, refuses_an_unknown_cas_that_had_nothing_to_compare_with)
{
    const struct linear_op ops[] = {WRITE(2, 0, 1, 10), LOST_CAS(1, 2, 9, 11), READ(2, 3, 4, 11)};
    const struct linear_op chain[] = {WRITE(2, 0, 1, 10), LOST_CAS(1, 2, 10, 11),
                                      LOST_CAS(3, 2, 11, 12), READ(2, 3, 4, 12)};
    assert_illegal(ops);
    assert_legal(chain);
}

TEST(checker, passes_over_what_did_not_happen)
{
    struct linear_op ops[] = {WRITE(1, 0, 1, 10), WRITE(1, 2, 3, 11), READ(2, 4, 5, 10)};
    ops[1].outcome = LINEAR_NEVER;
    assert_legal(ops);
}

TEST(checker, keeps_keys_apart)
{
    struct linear_op ops[] = {WRITE(1, 0, 1, 10), WRITE(1, 2, 3, 11), READ(2, 4, 5, 10),
                              READ(2, 4, 5, 0)};
    struct linear_result result;
    ops[1].key = 1;
    ops[3].key = 2;
    assert_int_equal(linear_check(ops, COUNT(ops), &result), LINEAR_LEGAL);
    assert_int_equal(result.keys, 3);
    linear_result_free(&result);
    ops[0].key = 1; /* now 10 was never on key 0 */
    assert_illegal(ops);
}

/* A long history without fault, from which an offence is to be cut out. */
static size_t quiet(struct linear_op *ops, size_t rounds)
{
    size_t count = 0;
    for (size_t i = 0; i < rounds; i++) {
        uint64_t time = 10 * i;
        ops[count++] = (struct linear_op)WRITE(1, time, time + 3, 100 + i);
        ops[count++] = (struct linear_op)READ(2, time + 1, time + 2, i == 0 ? 0 : 99 + i);
        ops[count++] = (struct linear_op)READ(3, time + 4, time + 5, 100 + i);
        ops[count++] = (struct linear_op)CAS(4, time + 4, time + 6, 1, 2, LINEAR_NO);
    }
    return count;
}

#define ROUNDS 100u

TEST(report, shrinks_a_stale_read_to_it_and_what_it_missed)
{
    static struct linear_op ops[4 * ROUNDS];
    struct linear_result result;
    size_t count = quiet(ops, ROUNDS);
    ops[4 * 60 + 1].outcome = LINEAR_NEVER; /* it would tell as much as the write does */
    ops[4 * 60 + 2].value = 100 + 40;
    assert_int_equal(linear_check(ops, count, &result), LINEAR_ILLEGAL);
    assert_int_equal(result.window_count, 2);
    assert_true(result.from_any);
    assert_int_equal(result.window[0].value, 160);
    assert_int_equal(result.window[1].value, 140);
    linear_result_free(&result);
}

TEST(report, shrinks_a_value_that_was_never_written_to_its_read)
{
    static struct linear_op ops[4 * ROUNDS];
    struct linear_result result;
    size_t count = quiet(ops, ROUNDS);
    for (size_t i = 1; i < ROUNDS; i++) {
        ops[4 * i + 3] = (struct linear_op)DELETE(4, 10 * i + 6, 10 * i + 7, LINEAR_OK);
        ops[4 * i + 1].value = i == 1 ? 100 : 0;
    }
    ops[4 * 60 + 2].value = 7;
    assert_int_equal(linear_check(ops, count, &result), LINEAR_ILLEGAL);
    assert_int_equal(result.window_count, 1);
    assert_int_equal(result.window[0].value, 7);
    linear_result_free(&result);
}

TEST(report, shrinks_a_cas_refused_for_no_reason_to_it_and_the_write)
{
    static struct linear_op ops[4 * ROUNDS];
    struct linear_result result;
    size_t count = quiet(ops, ROUNDS);
    ops[4 * 60 + 3].expected = 160;
    assert_int_equal(linear_check(ops, count, &result), LINEAR_ILLEGAL);
    assert_true(result.from_any);
    assert_int_equal(result.window_count, 2);
    assert_int_equal(result.window[1].outcome, LINEAR_NO);
    linear_result_free(&result);
}

TEST(report, shrinks_an_unknown_that_took_effect_twice_to_its_story)
{
    static struct linear_op ops[4 * ROUNDS + 1];
    struct linear_result result;
    size_t count = quiet(ops, ROUNDS);
    ops[count++] = (struct linear_op)LOST_WRITE(9, 205, 7);
    ops[4 * 50 + 2].value = 7; /* seen, then overwritten, then there again */
    ops[4 * 51 + 1].value = 7;
    ops[4 * 70 + 2].value = 7;
    assert_int_equal(linear_check(ops, count, &result), LINEAR_ILLEGAL);
    /* it, another value, it, another value, it */
    assert_int_equal(result.window_count, 5);
    assert_int_equal(result.window[0].outcome, LINEAR_UNKNOWN);
    assert_int_equal(result.window[4].value, 7);
    linear_result_free(&result);
}

static char *printed(const struct linear_op *ops, size_t count)
{
    struct linear_result result;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    (void)linear_check(ops, count, &result);
    linear_print(out, &result, ops, count, NULL);
    linear_result_free(&result);
    assert_int_equal(fclose(out), 0);
    return text;
}

TEST(report, tells_the_operations_of_the_window_and_where_values_came_from)
{
    const struct linear_op ops[] = {WRITE(1, 100, 110, 10), WRITE(2, 120, 130, 11),
                                    READ(3, 140, 150, 10)};
    char *text = printed(ops, COUNT(ops));
    assert_non_null(strstr(text, "key 0: its 3 operations are not linearizable; no order explains "
                                 "these 2, whatever the key held before"));
    assert_non_null(strstr(text, "+0          +10         client 2    write 11\n"));
    assert_non_null(strstr(text, "+20         +30         client 3    read: 10\n"));
    assert_non_null(
        strstr(text, "10 was written by client 1, invoked 20 before the window begins\n"));
    free(text);
}

TEST(report, tells_a_value_that_was_never_written)
{
    const struct linear_op ops[] = {WRITE(1, 0, 1, 10), READ(2, 2, 3, 10), READ(2, 4, 5, 77)};
    char *text = printed(ops, COUNT(ops));
    assert_non_null(strstr(text, "client 2    read: 77\n"));
    assert_non_null(strstr(text, "77 was never written\n"));
    free(text);
}

TEST(report, tells_what_was_checked_when_all_is_well)
{
    const struct linear_op ops[] = {WRITE(1, 0, 1, 10), READ(2, 2, 3, 10)};
    char *text = printed(ops, COUNT(ops));
    assert_string_equal(text, "2 operations on 1 keys are linearizable (2 steps)\n");
    free(text);
}

TEST(recorder, leaves_what_was_not_answered_unknown)
{
    struct linear_history history = {0};
    struct linear_result result;
    const struct linear_op lost = WRITE(1, 0, 0, 10), never = WRITE(2, 0, 0, 11),
                           read = READ(3, 4, 0, 0);
    (void)linear_begin(&history, &lost);
    size_t second = linear_begin(&history, &never);
    size_t third = linear_begin(&history, &read);
    linear_end(&history, second, LINEAR_NEVER, 0, 3);
    linear_end(&history, third, LINEAR_OK, 10, 5);
    assert_int_equal(linear_check(history.ops, history.count, &result), LINEAR_LEGAL);
    linear_result_free(&result);
    history.ops[third].value = 11;
    assert_int_equal(linear_check(history.ops, history.count, &result), LINEAR_ILLEGAL);
    linear_result_free(&result);
    linear_history_free(&history);
}
