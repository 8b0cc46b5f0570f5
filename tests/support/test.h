/* SPDX-License-Identifier: MIT */
/*
 * The way tests are written: TEST(area, behaviour_as_a_sentence) { ... } registers itself; main is
 * in test.c and runs them with cmocka. A name given on the command line runs only tests that
 * contain it.
 */
#ifndef LOCKSTEP_TEST_H
#define LOCKSTEP_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <lockstep/types.h>

struct test_case {
    const char *name;
    void (*run)(void **state);
    struct test_case *next;
};

void test_register(struct test_case *test);

#define TEST(area, behaviour)                                                                      \
    static void area##_##behaviour(void **state);                                                  \
    static void __attribute__((constructor)) area##_##behaviour##_register(void)                   \
    {                                                                                              \
        static struct test_case test = {#area ": " #behaviour, area##_##behaviour, NULL};          \
        test_register(&test);                                                                      \
    }                                                                                              \
    static void area##_##behaviour(void **state __attribute__((unused)))

#define assert_ok(call) assert_int_equal((call), LS_OK)

/** A fresh directory, removed when the program ends; the path lives until then. */
const char *test_directory(void);

/** The same on a file system in memory, if there is one: where syncing is not what is tested. */
const char *test_memory_directory(void);

/** A random test's seed, printed: LS_TEST_SEED if set ("random": a fresh one), else 1. */
uint64_t test_seed(void);

/** A port on 127.0.0.1 that was free a moment ago. */
uint16_t test_port(void);

#endif
