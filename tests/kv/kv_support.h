/* SPDX-License-Identifier: MIT */
/* A key-value machine without a group: commands go straight into it, replies come back as text. */
#ifndef KV_SUPPORT_H
#define KV_SUPPORT_H

#include "kv_machine.h"
#include "test.h"

struct kv_bench {
    struct kv_machine machine;
    struct ls_machine port;
    ls_index next;
    struct kv_buffer reply;
};

struct ls_span text_span(const char *text);

/** Opens over `store`, for a fixed group and incarnation. */
enum ls_status bench_bind(struct kv_bench *bench, const struct kv_store *store, ls_index *applied,
                          struct ls_error *error);
void bench_open_memory(struct kv_bench *bench);
/** Opens over a RocksDB directory; returns its applied index. */
ls_index bench_open_rocksdb(struct kv_bench *bench, const char *directory);
void bench_close(struct kv_bench *bench);

/**
 * Runs an inline command: a write as an entry of its own, a read at once. Returns the reply in
 * RESP3, terminated, valid until the next call.
 */
const char *bench_run(struct kv_bench *bench, const char *line);

#define assert_reply(bench, line, reply) assert_string_equal(bench_run(bench, line), reply)

#endif
