/* SPDX-License-Identifier: MIT */
/* How a lagging member is brought back by log replay: of a log that is never pruned. */
#include "book.h"
#include "catchup_suite.h"

static struct ls_log_replay_options options = {.size = sizeof options};

static void start(void *self, void *place, uint32_t unit, struct ls_machine *machine,
                  struct ls_statesync *list, size_t *count)
{
    (void)self;
    options.entries_max = unit;
    *machine = book_machine(place, UINT32_C(100), false);
    assert_ok(ls_log_replay(&options, &list[0]));
    *count = 1;
}

/* [4, attempt, id, held first, held last, first, entries] */
static size_t carries(void *self, struct ls_span message)
{
    static struct ls_value values[LS_VALUES_MAX];
    const struct ls_codec *codec = &ls_env_default()->codec;
    size_t count = 0;
    (void)self;
    bool entries = codec->decode(codec->self, message, values, LS_VALUES_MAX, &count) == LS_OK &&
                   count > 8 && values[1].as.number == 4;
    return entries ? message.bytes : 0;
}

static struct ls_value number(uint64_t value)
{
    return (struct ls_value){.kind = LS_VALUE_UINT, .as.number = value};
}

static size_t forge(void *self, enum realm_forgery forgery, struct ls_span message, uint8_t *out)
{
    static struct ls_value values[LS_VALUES_MAX];
    const struct ls_codec *codec = &ls_env_default()->codec;
    size_t count = 0, bytes = 0;
    (void)self;
    assert_ok(codec->decode(codec->self, message, values, LS_VALUES_MAX - 3, &count));
    if (forgery == REALM_SHORT && count > 11) {
        count -= 3;
    } else if (forgery == REALM_EMPTY) {
        count = 8;
    } else if (forgery == REALM_OVERSIZED) {
        memcpy(values + count, values + count - 3, 3 * sizeof *values);
        count += 3;
    } else if (forgery == REALM_MISPLACED) {
        values[6] = number(values[6].as.number + 1);
    } else if (forgery == REALM_REGRESSING && count > 11) {
        values[8] = number(values[8].as.number + 1);
    } else {
        return 0;
    }
    values[7].as.count = (uint32_t)count - 8;
    assert_ok(codec->encode(codec->self, values, count, out, LS_MESSAGE_BYTES_MAX, &bytes));
    return bytes;
}

static const struct realm_subject subject = {.name = "log replay",
                                             .place_open = book_place_open,
                                             .place_close = book_place_close,
                                             .start = start,
                                             .stop = book_stop,
                                             .digest = book_digest,
                                             .command = book_command,
                                             .carries = carries,
                                             .forge = forge,
                                             .any_peer = true};

CATCHUP_SUITE(replay, &subject)
CATCHUP_SUITE_ANY(replay_rocksdb, &subject, true)
