/* SPDX-License-Identifier: MIT */
/*
 * The messages of the snapshot strategy, and the border at which they are checked. What passes
 * ls__snap_decode is well formed; whether it answers a question is for the session to know.
 */
#include "snapshot_sync.h"

static struct ls_value number(uint64_t value)
{
    return (struct ls_value){.kind = LS_VALUE_UINT, .as.number = value};
}

static struct ls_value bytes_of(struct ls_span bytes)
{
    return (struct ls_value){.kind = LS_VALUE_BYTES, .as.bytes = bytes};
}

static struct ls_value array(size_t count)
{
    return (struct ls_value){.kind = LS_VALUE_ARRAY, .as.count = (uint32_t)count};
}

size_t ls__snap_head(const struct ls__snap_message *message, struct ls_value *values)
{
    size_t count = 1;
    values[count++] = number((uint64_t)message->kind);
    values[count++] = number(message->attempt);
    if (message->kind != LS__SNAP_REQUEST && message->kind != LS__SNAP_OFFER &&
        message->kind != LS__SNAP_KEEP) {
        values[count++] = number(message->id);
    }
    if (message->kind == LS__SNAP_OFFER || message->kind == LS__SNAP_TABLE_ASK ||
        message->kind == LS__SNAP_CHUNK_ASK || message->kind == LS__SNAP_KEEP) {
        values[count++] = number(message->anchor.term);
        values[count++] = number(message->anchor.index);
    }
    switch (message->kind) {
    case LS__SNAP_REQUEST:
        values[count++] = number(message->need);
        values[count++] = number(message->alone);
        break;
    case LS__SNAP_OFFER:
        values[count++] = number(message->items);
        values[count++] = number(message->bytes);
        break;
    case LS__SNAP_TABLE_ASK:
        values[count++] = number(message->chunk);
        values[count++] = number(message->count);
        break;
    case LS__SNAP_TABLE:
        values[count++] = number(message->chunks);
        values[count++] =
            bytes_of((struct ls_span){message->root.bytes, sizeof message->root.bytes});
        values[count++] = number(message->configuration_index);
        values[count++] = bytes_of(message->data);
        values[count++] = number(message->chunk);
        values[count++] = array(4u * (size_t)message->count);
        break;
    case LS__SNAP_WORKING:
        values[count++] = number(message->chunks);
        break;
    case LS__SNAP_CHUNK_ASK:
        values[count++] = number(message->chunk);
        values[count++] = bytes_of(message->data);
        break;
    case LS__SNAP_CHUNK:
        values[count++] = bytes_of(message->data);
        break;
    case LS__SNAP_GONE:
    case LS__SNAP_KEEP:
        break;
    }
    values[0] = array(count - 1);
    LS_ASSERT(count <= LS__SNAP_HEAD_VALUES);
    return count;
}

enum ls_status ls__snap_send(const struct ls_sync_context *base, const struct ls_peer_id *to,
                             const struct ls__snap_message *message, uint8_t *room, size_t bytes)
{
    struct ls_value values[LS__SNAP_HEAD_VALUES];
    size_t count = ls__snap_head(message, values);
    size_t written = 0;
    const struct ls_codec *codec = &base->env->codec;
    enum ls_status status = codec->encode(codec->self, values, count, room, bytes, &written);
    LS_ASSERT(status == LS_OK);
    return base->send_to(base->self, to, (struct ls_span){room, written});
}

/* ---- decoding -------------------------------------------------------------------------------- */

/* The kinds of the values of each message after its number: n a number, b bytes, r the rows. */
static const char *shape_of(uint64_t kind)
{
    switch (kind) {
    case LS__SNAP_REQUEST:
        return "nnn";
    case LS__SNAP_OFFER:
        return "nnnnn";
    case LS__SNAP_TABLE_ASK:
        return "nnnnnn";
    case LS__SNAP_TABLE:
        return "nnnbnbnr";
    case LS__SNAP_WORKING:
        return "nnn";
    case LS__SNAP_CHUNK_ASK:
        return "nnnnnb";
    case LS__SNAP_CHUNK:
        return "nnb";
    case LS__SNAP_GONE:
        return "nn";
    case LS__SNAP_KEEP:
        return "nnn";
    default:
        return NULL;
    }
}

static const char *shape_invalid(const struct ls_value *values, size_t count, const char *shape)
{
    size_t length = strlen(shape);
    bool rows = shape[length - 1] == 'r';
    if (values[0].as.count != length + 1 || count < length + 2 || (!rows && count != length + 2)) {
        return "a snapshot message of another length";
    }
    for (size_t i = 0; i < length; i++) {
        enum ls_value_kind kind = values[2 + i].kind;
        bool right = shape[i] == 'n'   ? kind == LS_VALUE_UINT
                     : shape[i] == 'b' ? kind == LS_VALUE_BYTES
                                       : kind == LS_VALUE_ARRAY;
        if (!right) {
            return "a snapshot message of another shape";
        }
    }
    return NULL;
}

static const char *rows_invalid(const struct ls__snap_message *message)
{
    const struct ls_value *row = message->rows;
    for (uint32_t i = 0; i < message->count; i++, row += 4) {
        if (row[0].kind != LS_VALUE_BYTES || row[0].as.bytes.bytes != sizeof(struct ls_hash) ||
            row[1].kind != LS_VALUE_UINT || row[2].kind != LS_VALUE_UINT ||
            row[3].kind != LS_VALUE_BYTES) {
            return "a row is not hash, items, bytes and key";
        }
        if (row[1].as.number == 0 || row[1].as.number > LS_ITEM_BYTES_MAX ||
            row[2].as.number > LS_ITEM_BYTES_MAX || row[3].as.bytes.bytes == 0 ||
            row[3].as.bytes.bytes > LS_ITEM_KEY_BYTES_MAX) {
            return "a row beyond the limits of a chunk";
        }
    }
    return NULL;
}

static const char *take_table(const struct ls_value *values, size_t count,
                              struct ls__snap_message *out)
{
    if (values[4].as.number > LS_SNAPSHOT_CHUNKS_MAX || values[8].as.number > values[4].as.number ||
        values[5].as.bytes.bytes != sizeof out->root ||
        values[7].as.bytes.bytes > LS_CONFIGURATION_BYTES_MAX || values[9].as.count % 4 != 0 ||
        count != LS__SNAP_HEAD_VALUES + (size_t)values[9].as.count) {
        return "malformed table";
    }
    out->id = values[3].as.number;
    out->chunks = (uint32_t)values[4].as.number;
    memcpy(out->root.bytes, values[5].as.bytes.data, sizeof out->root.bytes);
    out->configuration_index = values[6].as.number;
    out->data = values[7].as.bytes;
    out->chunk = (uint32_t)values[8].as.number;
    out->count = values[9].as.count / 4;
    out->rows = values + LS__SNAP_HEAD_VALUES;
    if (out->count > LS__SNAP_ROWS_MAX || out->count > out->chunks - out->chunk) {
        return "a table with more rows than chunks";
    }
    return rows_invalid(out);
}

/* The kinds that have a number, an anchor and a chunk. */
static const char *take_question(const struct ls_value *values, struct ls__snap_message *out)
{
    out->id = values[3].as.number;
    out->anchor = (struct ls_cursor){values[4].as.number, values[5].as.number};
    if (out->id == 0 || out->anchor.index == 0 || values[6].as.number > LS_SNAPSHOT_CHUNKS_MAX) {
        return "a question about no snapshot";
    }
    out->chunk = (uint32_t)values[6].as.number;
    if (out->kind == LS__SNAP_TABLE_ASK) {
        out->count = values[7].as.number < LS__SNAP_ROWS_MAX ? (uint32_t)values[7].as.number
                                                             : LS__SNAP_ROWS_MAX;
        return NULL;
    }
    out->data = values[7].as.bytes;
    return out->data.bytes <= LS_ITEM_KEY_BYTES_MAX ? NULL : "a key that is too long";
}

static const char *take_values(const struct ls_value *values, size_t count,
                               struct ls__snap_message *out)
{
    switch (out->kind) {
    case LS__SNAP_REQUEST:
        out->need = values[3].as.number;
        out->alone = values[4].as.number == 1;
        return values[4].as.number <= 1 && out->need > 0 ? NULL : "malformed request";
    case LS__SNAP_OFFER:
        out->anchor = (struct ls_cursor){values[3].as.number, values[4].as.number};
        out->items = values[5].as.number;
        out->bytes = values[6].as.number;
        return (out->anchor.term == 0) == (out->anchor.index == 0) ? NULL : "malformed offer";
    case LS__SNAP_TABLE_ASK:
    case LS__SNAP_CHUNK_ASK:
        return take_question(values, out);
    case LS__SNAP_TABLE:
        return take_table(values, count, out);
    case LS__SNAP_WORKING:
        out->id = values[3].as.number;
        if (values[4].as.number > LS_SNAPSHOT_CHUNKS_MAX) {
            return "malformed progress";
        }
        out->chunks = (uint32_t)values[4].as.number;
        return NULL;
    case LS__SNAP_CHUNK:
        out->id = values[3].as.number;
        out->data = values[4].as.bytes;
        return out->data.bytes <= LS_ITEM_BYTES_MAX ? NULL : "a chunk that is too large";
    case LS__SNAP_GONE:
        out->id = values[3].as.number;
        return NULL;
    case LS__SNAP_KEEP:
        out->anchor = (struct ls_cursor){values[3].as.number, values[4].as.number};
        return out->anchor.index > 0 ? NULL : "no snapshot is to be kept";
    }
    return "unknown kind of message";
}

const char *ls__snap_decode(const struct ls_codec *codec, struct ls_span bytes,
                            struct ls_value *values, size_t values_max,
                            struct ls__snap_message *out)
{
    size_t count = 0;
    if (codec->decode(codec->self, bytes, values, values_max, &count) != LS_OK) {
        return "not a message";
    }
    if (count < 3 || values[0].kind != LS_VALUE_ARRAY || values[1].kind != LS_VALUE_UINT) {
        return "not a message of the snapshot strategy";
    }
    const char *shape = shape_of(values[1].as.number);
    if (shape == NULL) {
        return "unknown kind of message";
    }
    const char *reason = shape_invalid(values, count, shape);
    if (reason != NULL) {
        return reason;
    }
    *out = (struct ls__snap_message){.kind = (enum ls__snap_kind)values[1].as.number,
                                     .attempt = values[2].as.number};
    return take_values(values, count, out);
}
