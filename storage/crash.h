/* SPDX-License-Identifier: MIT */
/*
 * Named steps at which the crash harness ends the process: see tests/crash. In a normal build they
 * are nothing.
 */
#ifndef LS_STORAGE_CRASH_H
#define LS_STORAGE_CRASH_H

#ifdef LS_CRASH_POINTS
void ls__crash_point(const char *step);
void ls__crash_staged(const char *kind);
void ls__crash_taken(void);
void ls__crash_write(const char *when);
void ls__crash_file(const char *file, const char *when);
/* something of this step is on its way to the disk, or on it */
#define LS__CRASH(step) ls__crash_point(step)
/* a batch of this kind was staged; with the mutex */
#define LS__CRASH_STAGED(kind) ls__crash_staged(kind)
/* the writer took what was staged; with the mutex */
#define LS__CRASH_TAKEN() ls__crash_taken()
/* a step for each kind that the writer took */
#define LS__CRASH_WRITE(when) ls__crash_write(when)
/* something happened to a file of a vault */
#define LS__CRASH_FILE(file, when) ls__crash_file(file, when)
#else
#define LS__CRASH(step)            ((void)0)
#define LS__CRASH_STAGED(kind)     ((void)0)
#define LS__CRASH_TAKEN()          ((void)0)
#define LS__CRASH_WRITE(when)      ((void)0)
#define LS__CRASH_FILE(file, when) ((void)0)
#endif

#endif
