/* SPDX-License-Identifier: MIT */
/*
 * The messages of the snapshot strategy, and chunks: whatever passes the border is within the
 * bounds that session and provider assert, a message without rows encodes again to the same one,
 * and no chunk is read past its end.
 */
#include "fuzz.h"

#include <lockstep/env.h>

#include "snapshot_sync.h"

static void inside(struct ls_span part, struct ls_span input)
{
    const uint8_t *data = part.data;
    LS_ASSERT(part.bytes == 0 || (data >= (const uint8_t *)input.data &&
                                  data + part.bytes <= (const uint8_t *)input.data + input.bytes));
}

static void check_rows(const struct ls__snap_message *message, struct ls_span input)
{
    LS_ASSERT(message->count <= LS__SNAP_ROWS_MAX);
    LS_ASSERT(message->chunk + message->count <= message->chunks);
    for (uint32_t i = 0; i < message->count; i++) {
        const struct ls_value *row = message->rows + 4u * (size_t)i;
        LS_ASSERT(row[0].as.bytes.bytes == sizeof(struct ls_hash));
        LS_ASSERT(row[1].as.number > 0 && row[1].as.number <= LS_ITEM_BYTES_MAX);
        LS_ASSERT(row[2].as.number <= LS_ITEM_BYTES_MAX);
        LS_ASSERT(row[3].as.bytes.bytes <= LS_ITEM_KEY_BYTES_MAX);
        inside(row[0].as.bytes, input);
        inside(row[3].as.bytes, input);
    }
}

static void check_chunk(struct ls_span chunk)
{
    struct ls_item item;
    size_t at = 0;
    while (ls_chunk_next(chunk, &at, &item)) {
        LS_ASSERT(ls_item_invalid(&item) == NULL);
        inside(item.key, chunk);
        inside(item.value, chunk);
    }
    LS_ASSERT(at <= chunk.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ls_value values[LS__SNAP_VALUES_MAX];
    static uint8_t again[LS__SNAP_HEAD_BYTES + (64u << 10)];
    const struct ls_codec *codec = &ls_env_default()->codec;
    const struct ls_span input = {data, size};
    struct ls__snap_message message;
    check_chunk(input);
    if (ls__snap_decode(codec, input, values, LS__SNAP_VALUES_MAX, &message) != NULL) {
        return 0;
    }
    inside(message.data, input);
    LS_ASSERT(message.chunks <= LS_SNAPSHOT_CHUNKS_MAX && message.chunk <= LS_SNAPSHOT_CHUNKS_MAX);
    if (message.kind == LS__SNAP_TABLE) {
        check_rows(&message, input);
        return 0;
    }
    if (message.data.bytes > (64u << 10)) {
        return 0;
    }
    struct ls_value head[LS__SNAP_HEAD_VALUES];
    struct ls__snap_message same;
    size_t written = 0;
    size_t count = ls__snap_head(&message, head);
    LS_ASSERT(codec->encode(codec->self, head, count, again, sizeof again, &written) == LS_OK);
    LS_ASSERT(ls__snap_decode(codec, (struct ls_span){again, written}, values, LS__SNAP_VALUES_MAX,
                              &same) == NULL);
    LS_ASSERT(same.kind == message.kind && same.attempt == message.attempt);
    LS_ASSERT(same.id == message.id && same.need == message.need && same.alone == message.alone);
    LS_ASSERT(same.anchor.term == message.anchor.term && same.anchor.index == message.anchor.index);
    LS_ASSERT(same.items == message.items && same.bytes == message.bytes);
    LS_ASSERT(same.chunk == message.chunk && same.data.bytes == message.data.bytes);
    return 0;
}
