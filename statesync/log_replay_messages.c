/* SPDX-License-Identifier: MIT */
/*
 * The messages of log replay, and the border at which they are checked. What passes
 * ls__replay_decode is well formed; whether it answers a question is for the session to know.
 */
#include "log_replay.h"

static struct ls_value number(uint64_t value)
{
    return (struct ls_value){.kind = LS_VALUE_UINT, .as.number = value};
}

static struct ls_value array(uint32_t count)
{
    return (struct ls_value){.kind = LS_VALUE_ARRAY, .as.count = count};
}

size_t ls__replay_encode(const struct ls_codec *codec, const struct ls__replay_message *message,
                         uint8_t out[LS__REPLAY_HEAD_BYTES])
{
    struct ls_value values[LS__REPLAY_HEAD_VALUES];
    size_t count = 1;
    values[count++] = number((uint64_t)message->kind);
    values[count++] = number(message->attempt);
    switch (message->kind) {
    case LS__REPLAY_AVAILABILITY_REQUEST:
        values[count++] = number(message->need);
        break;
    case LS__REPLAY_AVAILABILITY:
        values[count++] = number(message->held_first);
        values[count++] = number(message->held_last);
        break;
    case LS__REPLAY_FETCH:
        values[count++] = number(message->id);
        values[count++] = number(message->need);
        values[count++] = number(message->first);
        values[count++] = number(message->last);
        break;
    case LS__REPLAY_ENTRIES:
        LS_ASSERT(false);
        break;
    }
    values[0] = array((uint32_t)count - 1);
    size_t written = 0;
    enum ls_status status =
        codec->encode(codec->self, values, count, out, LS__REPLAY_HEAD_BYTES, &written);
    LS_ASSERT(status == LS_OK && written <= LS__REPLAY_HEAD_BYTES);
    return written;
}

size_t ls__replay_entries_head(const struct ls__replay_message *message, struct ls_value *values)
{
    size_t count = 0;
    values[count++] = array(7);
    values[count++] = number(LS__REPLAY_ENTRIES);
    values[count++] = number(message->attempt);
    values[count++] = number(message->id);
    values[count++] = number(message->held_first);
    values[count++] = number(message->held_last);
    values[count++] = number(message->first);
    values[count++] = array(3u * message->count);
    LS_ASSERT(count == LS__REPLAY_HEAD_VALUES);
    return count;
}

void ls__replay_put_entry(struct ls_value values[3], const struct ls_entry *entry)
{
    values[0] = number(entry->term);
    values[1] = number((uint64_t)entry->kind);
    values[2] = (struct ls_value){.kind = LS_VALUE_BYTES, .as.bytes = entry->data};
}

struct ls_entry ls__replay_get_entry(const struct ls_value values[3])
{
    return (struct ls_entry){.term = values[0].as.number,
                             .kind = (enum ls_entry_kind)values[1].as.number,
                             .data = values[2].as.bytes};
}

/* Checks every entry: kinds, sizes, and terms that never go back. */
static const char *entries_invalid(const struct ls_value *values, struct ls__replay_message *out)
{
    ls_term term = 1;
    size_t bytes = 0;
    for (uint32_t i = 0; i < out->count; i++, values += 3) {
        if (values[0].kind != LS_VALUE_UINT || values[1].kind != LS_VALUE_UINT ||
            values[2].kind != LS_VALUE_BYTES) {
            return "an entry is not term, kind and payload";
        }
        if (values[0].as.number < term) {
            return "terms go back";
        }
        term = values[0].as.number;
        if (values[1].as.number < LS_ENTRY_COMMAND || values[1].as.number > LS_ENTRY_MARKER) {
            return "unknown kind of entry";
        }
        if (values[2].as.bytes.bytes > LS_ENTRY_BYTES_MAX) {
            return "an entry is too large";
        }
        bytes += values[2].as.bytes.bytes;
    }
    out->payload_bytes = bytes;
    return bytes <= LS_REPLAY_BYTES_MAX + LS_ENTRY_BYTES_MAX ? NULL : "a range is too large";
}

static bool are_numbers(const struct ls_value *values, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (values[i].kind != LS_VALUE_UINT) {
            return false;
        }
    }
    return true;
}

static const char *decode_entries(const struct ls_value *values, size_t count,
                                  struct ls__replay_message *out)
{
    if (count < LS__REPLAY_HEAD_VALUES || values[0].as.count != 7 || !are_numbers(values, 1, 7) ||
        values[7].kind != LS_VALUE_ARRAY || values[7].as.count % 3 != 0 ||
        count != LS__REPLAY_HEAD_VALUES + (size_t)values[7].as.count) {
        return "malformed entries";
    }
    out->id = values[3].as.number;
    out->held_first = values[4].as.number;
    out->held_last = values[5].as.number;
    out->first = values[6].as.number;
    out->entries = values + LS__REPLAY_HEAD_VALUES;
    out->count = values[7].as.count / 3;
    if (out->count > LS_REPLAY_ENTRIES_MAX || out->first == 0 ||
        out->first > UINT64_MAX - LS_REPLAY_ENTRIES_MAX) {
        return "a range out of bounds";
    }
    return entries_invalid(out->entries, out);
}

const char *ls__replay_decode(const struct ls_codec *codec, struct ls_span bytes,
                              struct ls_value *values, size_t values_max,
                              struct ls__replay_message *out)
{
    size_t count = 0;
    if (codec->decode(codec->self, bytes, values, values_max, &count) != LS_OK) {
        return "not a message";
    }
    if (count < 4 || values[0].kind != LS_VALUE_ARRAY || !are_numbers(values, 1, 4)) {
        return "not a message of log replay";
    }
    *out = (struct ls__replay_message){.attempt = values[2].as.number};
    switch (values[1].as.number) {
    case LS__REPLAY_AVAILABILITY_REQUEST:
        out->kind = LS__REPLAY_AVAILABILITY_REQUEST;
        out->need = values[3].as.number;
        return count == 4 && out->need > 0 ? NULL : "malformed availability request";
    case LS__REPLAY_AVAILABILITY:
        out->kind = LS__REPLAY_AVAILABILITY;
        if (count != 5 || !are_numbers(values, 4, 5)) {
            return "malformed availability";
        }
        out->held_first = values[3].as.number;
        out->held_last = values[4].as.number;
        return NULL;
    case LS__REPLAY_FETCH:
        out->kind = LS__REPLAY_FETCH;
        if (count != 7 || !are_numbers(values, 4, 7)) {
            return "malformed fetch";
        }
        out->id = values[3].as.number;
        out->need = values[4].as.number;
        out->first = values[5].as.number;
        out->last = values[6].as.number;
        return out->need > 0 && out->need <= out->first && out->first <= out->last
                   ? NULL
                   : "a fetch of nothing";
    case LS__REPLAY_ENTRIES:
        out->kind = LS__REPLAY_ENTRIES;
        return decode_entries(values, count, out);
    default:
        return "unknown kind of message";
    }
}
