/* SPDX-License-Identifier: MIT */
/* Every step at which a process can be made to die. A step that the code names and this table does
 * not, or the other way round, fails a test. */
#ifndef LOCKSTEP_TEST_STEPS_H
#define LOCKSTEP_TEST_STEPS_H

#include <stddef.h>

/* exit code of a process that died at its step */
#define CRASH_EXIT 77

enum {
    STEP_STORE = 1,    /* the store comes here */
    STEP_STATE = 2,    /* the state of lockstep-kv comes here */
    STEP_NEW = 8,      /* only while the directory is new */
    STEP_CUT = 16,     /* only when the end of a log is rewritten */
    STEP_RARE = 32,    /* a member of lockstep-kv does not come here by itself */
    STEP_SYNC = 64,    /* a member comes here when a snapshot brings it back */
    STEP_MEMORY = 128, /* only with its state in memory */
    STEP_ONCE = 4,     /* at most once in the life of a process */
};

struct crash_step {
    const char *name;
    unsigned where;
    const char *after; /* reached only by who opens what died at that step; or NULL */
};

extern const struct crash_step crash_steps[];
extern const size_t crash_steps_count;

#endif
