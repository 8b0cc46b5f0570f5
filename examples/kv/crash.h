/* SPDX-License-Identifier: MIT */
/* Named steps at which the crash harness ends the process: see tests/crash. In a normal build they
 * are nothing. */
#ifndef KV_CRASH_H
#define KV_CRASH_H

#ifdef LS_CRASH_POINTS
void ls__crash_point(const char *step);
#define KV_CRASH(step) ls__crash_point(step)
#else
#define KV_CRASH(step) ((void)0)
#endif

#endif
