/* SPDX-License-Identifier: MIT */
/* The program's log: lines with time and level, from the program and from the library's trace. */
#ifndef KV_LOG_H
#define KV_LOG_H

#include <lockstep/env.h>
#include <lockstep/identity.h>

/** Where lines go, and which. errors LS_ERR_IO, with text */
LS_NODISCARD enum ls_status kv_log_open(const char *file, enum ls_trace_level level,
                                        struct ls_error *error);
/** Shows that peer under its name from now on. */
void kv_log_name(const struct ls_peer_id *peer, const char *name);
void kv_log(enum ls_trace_level level, const char *format, ...) LS_PRINTF(2, 3);
/** For ls_env.trace. Any thread. */
void kv_log_trace(void *self, const struct ls_trace *trace);
void kv_log_close(void);

#endif
