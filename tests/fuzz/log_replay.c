/* SPDX-License-Identifier: MIT */
/*
 * The messages of log replay: whatever passes the border is within the bounds that session and
 * provider assert, and questions encode again to a message of the same meaning.
 */
#include "fuzz.h"

#include <lockstep/env.h>

#include "log_replay.h"

static void check_entries(const struct ls__replay_message *message, struct ls_span input)
{
    ls_term term = 1;
    size_t bytes = 0;
    LS_ASSERT(message->count <= LS_REPLAY_ENTRIES_MAX);
    LS_ASSERT(message->first > 0 && message->first + message->count > message->first - 1);
    for (uint32_t i = 0; i < message->count; i++) {
        struct ls_entry entry = ls__replay_get_entry(message->entries + 3u * (size_t)i);
        const uint8_t *data = entry.data.data;
        LS_ASSERT(entry.term >= term);
        LS_ASSERT(entry.kind >= LS_ENTRY_COMMAND && entry.kind <= LS_ENTRY_MARKER);
        LS_ASSERT(entry.data.bytes == 0 ||
                  (data >= (const uint8_t *)input.data &&
                   data + entry.data.bytes <= (const uint8_t *)input.data + input.bytes));
        term = entry.term;
        bytes += entry.data.bytes;
    }
    LS_ASSERT(bytes == message->payload_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ls_value values[LS_VALUES_MAX];
    const struct ls_codec *codec = &ls_env_default()->codec;
    const struct ls_span input = {data, size};
    struct ls__replay_message message;
    if (ls__replay_decode(codec, input, values, LS_VALUES_MAX, &message) != NULL) {
        return 0;
    }
    if (message.kind == LS__REPLAY_ENTRIES) {
        check_entries(&message, input);
        return 0;
    }
    uint8_t again[LS__REPLAY_HEAD_BYTES];
    size_t written = ls__replay_encode(codec, &message, again);
    struct ls__replay_message same;
    LS_ASSERT(ls__replay_decode(codec, (struct ls_span){again, written}, values, LS_VALUES_MAX,
                                &same) == NULL);
    LS_ASSERT(same.kind == message.kind && same.attempt == message.attempt);
    LS_ASSERT(same.id == message.id && same.need == message.need);
    LS_ASSERT(same.first == message.first && same.last == message.last);
    LS_ASSERT(same.held_first == message.held_first && same.held_last == message.held_last);
    return 0;
}
