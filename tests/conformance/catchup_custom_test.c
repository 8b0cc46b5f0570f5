/* SPDX-License-Identifier: MIT */
/* How a lagging member is brought back by the state sync of examples/custom_sync.c, whose source
 * this is linked from, when the log was pruned. */
#define RANGE 4096u
#define main  custom_sync_main
int custom_sync_main(void);
#include "../../examples/custom_sync.c"
#undef main

#include "catchup_suite.h"

static struct ls_log_replay_options replay = {.size = sizeof replay, .keep_entries = 1};

static void *place_open(void *self)
{
    struct file *file = calloc(1, sizeof *file);
    (void)self;
    assert_non_null(file);
    file->folder = open(test_memory_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(file->folder >= 0);
    return file;
}

static void place_close(void *self, void *place)
{
    struct file *file = place;
    (void)self;
    (void)close(file->folder);
    free(file);
}

static void start(void *self, void *place, uint32_t unit, struct ls_machine *machine,
                  struct ls_statesync *list, size_t *count)
{
    (void)self;
    (void)unit;
    assert_ok(ls_log_replay(&replay, &list[0]));
    make_file(place, machine, &list[1]);
    *count = 2;
}

/* The length, and the sum of all that counts. */
static uint64_t digest(void *self, void *place)
{
    static uint8_t bytes[64u << 20];
    const struct file *file = place;
    uint64_t sum = file->here.length;
    (void)self;
    assert_true(file->here.length <= sizeof bytes);
    assert_int_equal(pread(file->data, bytes, file->here.length, 0), file->here.length);
    for (uint64_t i = 0; i < file->here.length; i++) {
        sum = (sum ^ bytes[i]) * 1099511628211u;
    }
    return sum;
}

/* So long that about `unit` of them are in a range. */
static size_t command(void *self, uint32_t unit, uint64_t n, uint8_t *out)
{
    size_t bytes = RANGE / unit;
    (void)self;
    bytes = bytes > 300 ? 300 : bytes;
    bytes = bytes < 8 ? 8 : bytes;
    memset(out, (int)(n % 251), bytes);
    memcpy(out, &n, sizeof n);
    return bytes;
}

static size_t carries(void *self, struct ls_span message)
{
    struct message head = {0};
    struct ls_span rest = {NULL, 0};
    (void)self;
    return hear(message, &head, &rest) && head.kind == FETCHED ? rest.bytes : 0;
}

static size_t forge(void *self, enum realm_forgery forgery, struct ls_span message, uint8_t *out)
{
    struct message head = {0};
    struct ls_span rest = {NULL, 0};
    (void)self;
    assert_true(hear(message, &head, &rest));
    size_t bytes = rest.bytes;
    if (forgery == REALM_SHORT || forgery == REALM_EMPTY) {
        bytes = forgery == REALM_SHORT ? bytes / 2 : 0;
    } else if (forgery == REALM_OVERSIZED) {
        memset(out + message.bytes, 0, 100);
        bytes += 100;
    } else if (forgery == REALM_MISPLACED) {
        head.offset += RANGE;
    } else {
        return 0;
    }
    memcpy(out, &head, sizeof head); /* what follows it is there already */
    return sizeof head + bytes;
}

static const struct realm_subject subject = {.name = "file ranges",
                                             .place_open = place_open,
                                             .place_close = place_close,
                                             .start = start,
                                             .digest = digest,
                                             .command = command,
                                             .carries = carries,
                                             .forge = forge,
                                             .trusts_leader = true,
                                             .any_peer = true,
                                             .verifies = true,
                                             .beyond_log = true};

CATCHUP_SUITE(custom, &subject)
CATCHUP_SUITE_ANY(custom_rocksdb, &subject, true)
