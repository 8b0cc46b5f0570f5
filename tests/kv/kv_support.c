/* SPDX-License-Identifier: MIT */
/*
 * Drives a key-value machine directly. ls_reply_set is the library's; here the machine is asked
 * through its parts, so that the reply can be seen without a group.
 */
#include "kv_support.h"

#include "kv_limits.h"

struct ls_span text_span(const char *text)
{
    return (struct ls_span){text, strlen(text)};
}

enum ls_status bench_bind(struct kv_bench *bench, const struct kv_store *store, ls_index *applied,
                          struct ls_error *error)
{
    static const struct ls_group_id group = {{1, 2, 3}};
    static const struct ls_incarnation incarnation = {{4, 5, 6}};
    *bench = (struct kv_bench){.next = 1};
    kv_machine_init(&bench->machine, store);
    bench->port = kv_machine_port(&bench->machine);
    enum ls_status status =
        bench->port.open(bench->port.self, &group, &incarnation, applied, error);
    bench->next = *applied + 1;
    return status;
}

void bench_open_memory(struct kv_bench *bench)
{
    struct kv_store store;
    ls_index applied = 0;
    assert_ok(kv_store_memory_open(&store));
    assert_ok(bench_bind(bench, &store, &applied, NULL));
    assert_int_equal(applied, 0);
}

ls_index bench_open_rocksdb(struct kv_bench *bench, const char *directory)
{
    struct kv_store store;
    struct ls_error error = {0};
    ls_index applied = 0;
    assert_ok(kv_store_rocksdb_open(directory, &store));
    if (bench_bind(bench, &store, &applied, &error) != LS_OK) {
        fail_msg("%s", error.text);
    }
    return applied;
}

void bench_close(struct kv_bench *bench)
{
    bench->port.close(bench->port.self);
    kv_buffer_free(&bench->reply);
}

static void apply(struct kv_bench *bench, const struct kv_command *command,
                  const struct ls_span *args, size_t argc)
{
    struct kv_buffer entry = {0};
    kv_entry_encode(&entry, command, args, argc);
    struct ls_command one = {{1, bench->next++}, kv_buffer_span(&entry)};
    size_t applied = 0;
    enum ls_status status = LS_ERR_BUSY;
    while (status == LS_ERR_BUSY) {
        status = bench->port.apply_batch(bench->port.self, &one, 1, NULL, &applied);
    }
    assert_ok(status);
    assert_int_equal(applied, 1);
    struct ls_span reply = kv_buffer_span(&bench->machine.reply);
    kv_buffer_append(&bench->reply, reply.data, reply.bytes);
    kv_buffer_free(&entry);
}

const char *bench_run(struct kv_bench *bench, const char *line)
{
    struct kv_buffer input = {0};
    struct resp_parser parser;
    size_t consumed = 0;
    kv_buffer_append(&input, line, strlen(line));
    kv_buffer_append(&input, "\r\n", 2);
    resp_parser_init(&parser, KV_VALUE_BYTES_MAX, KV_COMMAND_BYTES_MAX);
    assert_int_equal(resp_parse(&parser, kv_buffer_span(&input), &consumed), RESP_COMMAND);
    const struct kv_command *command = kv_command_find(parser.args[0]);
    assert_non_null(command);
    assert_true(kv_command_arity_fits(command, parser.argc));
    kv_buffer_reset(&bench->reply, SIZE_MAX);
    if ((command->flags & KV_WRITE) != 0) {
        apply(bench, command, parser.args, parser.argc);
    } else {
        struct resp_out out = {&bench->reply, 3};
        assert_ok(kv_machine_read(&bench->machine, command, parser.args, parser.argc, &out));
    }
    kv_buffer_append(&bench->reply, "", 1);
    assert_false(bench->reply.failed);
    resp_parser_free(&parser);
    kv_buffer_free(&input);
    return bench->reply.data;
}
