/* SPDX-License-Identifier: MIT */
/* The messages of log replay with every value changed: refused with a reason, or within bounds. */
#include <stdlib.h>

#include "log_replay.h"
#include "test.h"

#define VALUES_ALL 32u

/* A range of two entries that lack nothing, and each question and answer about it. */
static size_t message(enum ls__replay_kind kind, struct ls_value *values)
{
    const struct ls__replay_message whole = {.kind = kind,
                                             .attempt = 5,
                                             .id = 2,
                                             .need = 3,
                                             .held_first = 1,
                                             .held_last = 9,
                                             .first = 4,
                                             .last = 5,
                                             .count = 2};
    if (kind == LS__REPLAY_ENTRIES) {
        const struct ls_entry entries[] = {{1, LS_ENTRY_COMMAND, {"a", 1}},
                                           {2, LS_ENTRY_MARKER, {"bc", 2}}};
        size_t count = ls__replay_entries_head(&whole, values);
        ls__replay_put_entry(values + count, &entries[0]);
        ls__replay_put_entry(values + count + 3, &entries[1]);
        return count + 6;
    }
    static uint8_t bytes[LS__REPLAY_HEAD_BYTES];
    const struct ls_codec *codec = &ls_env_default()->codec;
    size_t written = ls__replay_encode(codec, &whole, bytes);
    size_t count = 0;
    assert_ok(
        codec->decode(codec->self, (struct ls_span){bytes, written}, values, VALUES_ALL, &count));
    return count;
}

/* The values as the codec would hand them over, whatever an honest encoder would refuse. */
struct given {
    const struct ls_value *values;
    size_t count;
};

static enum ls_status hand_over(void *self, struct ls_span bytes, struct ls_value *values,
                                size_t values_max, size_t *count)
{
    const struct given *given = self;
    (void)bytes;
    assert_true(given->count <= values_max);
    memcpy(values, given->values, given->count * sizeof *values);
    *count = given->count;
    return LS_OK;
}

static const char *decode(const struct ls_value *values, size_t count,
                          struct ls__replay_message *out)
{
    static struct ls_value room[VALUES_ALL];
    struct given given = {values, count};
    const struct ls_codec codec = {.size = sizeof codec, .self = &given, .decode = hand_over};
    return ls__replay_decode(&codec, (struct ls_span){"", 0}, room, VALUES_ALL, out);
}

static void within_bounds(const struct ls__replay_message *message)
{
    if (message->kind == LS__REPLAY_FETCH) {
        assert_true(message->need > 0 && message->need <= message->first);
        assert_true(message->first <= message->last);
    }
    if (message->kind == LS__REPLAY_AVAILABILITY_REQUEST) {
        assert_true(message->need > 0);
    }
    if (message->kind == LS__REPLAY_ENTRIES) {
        ls_term term = 1;
        assert_true(message->first > 0 && message->count <= LS_REPLAY_ENTRIES_MAX);
        assert_true(message->first + message->count > message->first - 1);
        for (uint32_t i = 0; i < message->count; i++) {
            struct ls_entry entry = ls__replay_get_entry(message->entries + 3u * (size_t)i);
            assert_true(entry.term >= term && entry.data.bytes <= LS_ENTRY_BYTES_MAX);
            assert_true(entry.kind >= LS_ENTRY_COMMAND && entry.kind <= LS_ENTRY_MARKER);
            term = entry.term;
        }
    }
}

TEST(border, a_message_with_any_value_changed_or_missing_is_refused_or_within_bounds)
{
    static const struct ls_value others[] = {
        {.kind = LS_VALUE_UINT, .as.number = 0},
        {.kind = LS_VALUE_UINT, .as.number = 1},
        {.kind = LS_VALUE_UINT, .as.number = 7},
        {.kind = LS_VALUE_UINT, .as.number = UINT64_MAX},
        {.kind = LS_VALUE_BYTES, .as.bytes = {"x", 1}},
        {.kind = LS_VALUE_BYTES, .as.bytes = {"x", LS_ENTRY_BYTES_MAX + 1}}, /* never read */
        {.kind = LS_VALUE_ARRAY, .as.count = 0},
        {.kind = LS_VALUE_ARRAY, .as.count = 3},
        {.kind = LS_VALUE_ARRAY, .as.count = UINT32_MAX},
    };
    for (int kind = LS__REPLAY_AVAILABILITY_REQUEST; kind <= LS__REPLAY_ENTRIES; kind++) {
        struct ls_value values[VALUES_ALL] = {{.as.number = 0}};
        struct ls__replay_message out;
        size_t count = message((enum ls__replay_kind)kind, values);
        unsigned refused = 0;
        assert_null(decode(values, count, &out));
        assert_int_equal(out.kind, kind);
        for (size_t at = 0; at < count; at++) {
            struct ls_value was = values[at];
            for (size_t other = 0; other < sizeof others / sizeof others[0]; other++) {
                values[at] = others[other];
                const char *reason = decode(values, count, &out);
                assert_true(reason != NULL || at == 0 || values[at].kind == was.kind);
                refused += reason != NULL;
                if (reason == NULL) {
                    within_bounds(&out);
                }
            }
            values[at] = was;
            assert_non_null(decode(values, at, &out)); /* it ends too early */
        }
        assert_non_null(decode(values, count + 1, &out)); /* or too late */
        assert_true(refused > 15);
    }
}
