/* SPDX-License-Identifier: MIT */
/* How a lagging member is brought back by snapshots, when the log was pruned: a machine in memory,
 * whose state the library keeps in files. */
#include "book.h"
#include "catchup_suite.h"

static struct ls_log_replay_options replay = {.size = sizeof replay, .keep_entries = 1};

/* a state of a few chunks only: one question at a time to each peer */
static struct ls_snapshot_options snapshots = {.size = sizeof snapshots, .window = 1};

static void start(void *self, void *place, uint32_t unit, struct ls_machine *machine,
                  struct ls_statesync *list, size_t *count)
{
    (void)self;
    *machine = book_machine(place, unit, true);
    assert_ok(ls_log_replay(&replay, &list[0]));
    assert_ok(ls_snapshot_sync(&snapshots, &list[1]));
    *count = 2;
}

/* [7, attempt, id, chunk] */
static size_t carries(void *self, struct ls_span message)
{
    struct ls_value values[8];
    const struct ls_codec *codec = &ls_env_default()->codec;
    size_t count = 0;
    (void)self;
    bool chunk = codec->decode(codec->self, message, values, 8, &count) == LS_OK && count == 5 &&
                 values[1].as.number == 7 && values[4].kind == LS_VALUE_BYTES;
    return chunk ? values[4].as.bytes.bytes : 0;
}

static size_t forge(void *self, enum realm_forgery forgery, struct ls_span message, uint8_t *out)
{
    static uint8_t chunk[LS_SNAPSHOT_CHUNK_BYTES_MIN + 100];
    struct ls_value values[8];
    const struct ls_codec *codec = &ls_env_default()->codec;
    size_t count = 0, bytes = 0;
    (void)self;
    assert_ok(codec->decode(codec->self, message, values, 8, &count));
    struct ls_span *carried = &values[4].as.bytes;
    if (forgery == REALM_SHORT || forgery == REALM_EMPTY) {
        carried->bytes = forgery == REALM_SHORT ? carried->bytes / 2 : 0;
    } else if (forgery == REALM_OVERSIZED) {
        assert_true(carried->bytes + 100 <= sizeof chunk);
        memcpy(chunk, carried->data, carried->bytes);
        *carried = (struct ls_span){chunk, carried->bytes + 100};
    } else if (forgery == REALM_MISPLACED) {
        values[3].as.number++;
    } else {
        return 0;
    }
    assert_ok(codec->encode(codec->self, values, count, out, LS_MESSAGE_BYTES_MAX, &bytes));
    return bytes;
}

static const struct realm_subject subject = {.name = "snapshot",
                                             .place_open = book_place_open,
                                             .place_close = book_place_close,
                                             .start = start,
                                             .stop = book_stop,
                                             .digest = book_digest,
                                             .command = book_command,
                                             .carries = carries,
                                             .forge = forge,
                                             .verifies = true,
                                             .beyond_log = true};

CATCHUP_SUITE(snapshot, &subject)
CATCHUP_SUITE_ANY(snapshot_rocksdb, &subject, true)
