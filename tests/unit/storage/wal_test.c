/* SPDX-License-Identifier: MIT */
/*
 * Write-ahead logs made by hand, frame by frame, and what is said about them (storage/wal.h): each
 * bit that changed is damage, each subset of the sectors of the last write is not.
 */
#include "test.h"
#include "wal.h"

#include <lockstep/env.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES  32768u
#define HEADER_BYTES 7u
#define SECTOR_BYTES 512u
#define LOG_BYTES    (4 * BLOCK_BYTES)

enum { FULL = 1, FIRST, MIDDLE, LAST };

struct log {
    uint8_t bytes[LOG_BYTES];
    size_t count;
    uint64_t next; /* sequence number */
};

static char directory[128];
static struct log good, bad;
static char text[LS_ERROR_TEXT_BYTES];

static void place(void)
{
    (void)snprintf(directory, sizeof directory, "%s", test_memory_directory());
}

static void put(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

static uint32_t check_of(const uint8_t *bytes, size_t count)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1u)));
        }
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void frame(struct log *log, int kind, const uint8_t *payload, size_t bytes)
{
    uint8_t *at = log->bytes + log->count;
    at[6] = (uint8_t)kind;
    put(at + 4, bytes, 2);
    (void)memmove(at + HEADER_BYTES, payload, bytes);
    put(at, check_of(at + 6, bytes + 1), 4);
    log->count += HEADER_BYTES + bytes;
}

/* A write of `count` numbers with so many bytes behind its head, as RocksDB frames it. */
static void add(struct log *log, uint32_t count, const uint8_t *body, size_t bytes)
{
    static uint8_t batch[LOG_BYTES];
    size_t done = 0, whole = 12 + bytes;
    bool begins = true;
    put(batch, log->next, 8);
    put(batch + 8, count, 4);
    (void)memcpy(batch + 12, body, bytes);
    log->next += count;
    while (done < whole) {
        size_t room = BLOCK_BYTES - log->count % BLOCK_BYTES;
        if (room < HEADER_BYTES) {
            (void)memset(log->bytes + log->count, 0, room);
            log->count += room;
            continue;
        }
        size_t part = whole - done < room - HEADER_BYTES ? whole - done : room - HEADER_BYTES;
        bool ends = done + part == whole;
        int kind = begins ? (ends ? FULL : FIRST) : (ends ? LAST : MIDDLE);
        frame(log, kind, batch + done, part);
        done += part;
        begins = false;
    }
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static const uint8_t *random_bytes(uint64_t *seed)
{
    static uint8_t bytes[LOG_BYTES];
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)next_random(seed);
    }
    return bytes;
}

static void store_bytes(uint64_t number, const uint8_t *bytes, size_t count)
{
    char path[200];
    (void)snprintf(path, sizeof path, "%s/%06" PRIu64 ".log", directory, number);
    int file = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    assert_int_equal(write(file, bytes, count), count);
    (void)close(file);
}

enum verdict { WHOLE, TORN, DAMAGED };

static enum verdict judge(void)
{
    bool torn = false;
    struct ls_error error = {LS_OK, ""};
    enum ls_status status = ls__wal_judge(ls_env_default(), directory, &torn, &error);
    (void)strcpy(text, error.text);
    assert_true(status == LS_OK || status == LS_ERR_CORRUPT);
    return status != LS_OK ? DAMAGED : torn ? TORN : WHOLE;
}

static void expect_bytes(const struct log *log, enum verdict wanted, const char *what, size_t at)
{
    store_bytes(5, log->bytes, log->count);
    enum verdict found = judge();
    if (found != wanted) {
        fail_msg("%s at %zu of %zu: %d, not %d: %s", what, at, log->count, found, wanted, text);
    }
}

/* Three writes, the last of `bytes` bytes; returns where that begins. */
static size_t make_log(uint64_t *seed, size_t bytes, bool zeros)
{
    static const uint8_t none[LOG_BYTES];
    place();
    good.count = 0;
    good.next = 71;
    add(&good, 3, random_bytes(seed), 300);
    add(&good, 1, random_bytes(seed), 33);
    size_t begin = good.count;
    add(&good, 2, zeros ? none : random_bytes(seed), bytes);
    return begin;
}

TEST(wal, without_damage_is_whole)
{
    uint64_t seed = test_seed() | 1;
    place();
    assert_int_equal(judge(), WHOLE);
    for (size_t bytes = 1; bytes < 3 * BLOCK_BYTES; bytes += bytes < 2000 ? 97 : 9173) {
        (void)make_log(&seed, bytes, false);
        expect_bytes(&good, WHOLE, "bytes", bytes);
    }
    /* a block with room for a head and nothing else, and with less than that */
    for (size_t room = 0; room < 9; room++) {
        (void)make_log(&seed, 1, false);
        add(&good, 1, random_bytes(&seed), BLOCK_BYTES - good.count - HEADER_BYTES - 12 - room);
        add(&good, 1, random_bytes(&seed), 100);
        expect_bytes(&good, WHOLE, "room", room);
    }
}

static void flip_each(size_t begin, size_t end, const char *what)
{
    for (size_t bit = begin * 8; bit < end * 8; bit++) {
        bad = good;
        bad.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        expect_bytes(&bad, DAMAGED, what, bit);
        assert_non_null(strstr(text, "000005.log: the write at byte "));
    }
}

/* Also if the write holds zeros of its own, in the head and in what it holds. */
TEST(wal, each_changed_bit_of_the_last_writes_is_damage)
{
    uint64_t seed = test_seed() | 1;
    (void)make_log(&seed, 60, false);
    flip_each(0, good.count, "bit of short writes");
    size_t begin = make_log(&seed, 60, true);
    flip_each(begin, good.count, "bit of a short write of zeros");
    begin = make_log(&seed, BLOCK_BYTES + 5000, true);
    flip_each(begin, begin + HEADER_BYTES + 12, "bit of the head of a long write");
    flip_each(BLOCK_BYTES - 4, BLOCK_BYTES + HEADER_BYTES + 4, "bit of its second frame");
    flip_each(good.count - 4, good.count, "bit of its end");
}

TEST(wal, each_subset_of_the_last_write_is_torn)
{
    uint64_t seed = test_seed() | 1;
    uint32_t coincidences = 0;
    for (int round = 0; round < 400; round++) {
        size_t bytes = 100 + next_random(&seed) % (round % 2 == 0 ? 3000 : 70000);
        size_t begin = make_log(&seed, bytes, false);
        bad = good;
        bool all = true;
        uint64_t share = next_random(&seed) % 9;
        for (size_t at = begin; at < good.count; at = (at / SECTOR_BYTES + 1) * SECTOR_BYTES) {
            size_t end = (at / SECTOR_BYTES + 1) * SECTOR_BYTES;
            end = end < good.count ? end : good.count;
            if (next_random(&seed) % 10 <= share) {
                (void)memset(bad.bytes + at, 0, end - at);
                all = false;
            }
        }
        if (round % 3 == 0) {
            bad.count = begin + next_random(&seed) % (good.count - begin);
            all = false;
        }
        /* of 16 000 frames of a block one looks as if a bit of it had changed */
        store_bytes(5, bad.bytes, bad.count);
        if (judge() == DAMAGED && strstr(text, "has a bit that changed") != NULL) {
            coincidences++;
            continue;
        }
        expect_bytes(&bad, all || bad.count == begin ? WHOLE : TORN, "round", (size_t)round);
    }
    assert_in_range(coincidences, 0, 1);
}

TEST(wal, each_length_of_the_last_write_is_torn)
{
    uint64_t seed = test_seed() | 1;
    size_t begin = make_log(&seed, 400, false);
    bad = good;
    for (bad.count = begin + 1; bad.count < good.count; bad.count++) {
        expect_bytes(&bad, TORN, "length", bad.count);
    }
}

TEST(wal, anything_in_front_of_a_whole_write_is_damage)
{
    uint64_t seed = test_seed() | 1;
    for (int round = 0; round < 200; round++) {
        size_t begin = make_log(&seed, 100 + next_random(&seed) % 40000, round % 2 == 0);
        size_t end = good.count;
        add(&good, 1, random_bytes(&seed), 10 + next_random(&seed) % 40000);
        bad = good;
        size_t first = round % 3 == 0 ? begin : begin + next_random(&seed) % (end - begin);
        size_t count = 1 + next_random(&seed) % (end - first);
        (void)memset(bad.bytes + first, 0, count);
        if (memcmp(bad.bytes, good.bytes, good.count) != 0) {
            expect_bytes(&bad, DAMAGED, "zeros", first);
        }
        bad = good;
        for (size_t i = 0; i < count; i++) {
            bad.bytes[first + i] = (uint8_t)~next_random(&seed);
        }
        expect_bytes(&bad, DAMAGED, "garbage", first);
    }
}

/* Nothing of it is missing, so the power did not cut it. */
TEST(wal, garbage_in_the_last_write_is_damage)
{
    uint64_t seed = test_seed() | 1;
    for (int round = 0; round < 200; round++) {
        size_t begin = make_log(&seed, 100 + next_random(&seed) % 40000, false);
        bad = good;
        size_t first = begin + next_random(&seed) % (good.count - begin - 2);
        /* not in the length: a frame that is longer than the file may be torn */
        first = first < begin + HEADER_BYTES ? begin + HEADER_BYTES : first;
        if (first < BLOCK_BYTES + HEADER_BYTES && first + 2 > BLOCK_BYTES) {
            first = BLOCK_BYTES - 2;
        }
        bad.bytes[first] ^= 0x5a;
        bad.bytes[first + 1] ^= 0xa5;
        expect_bytes(&bad, DAMAGED, "garbage", first);
    }
}

/* A user may store a log of this kind; its sequence numbers do not go on here. */
TEST(wal, user_data_that_looks_like_a_write_is_none)
{
    uint64_t seed = test_seed() | 1;
    static struct log stored;
    stored.count = 0;
    for (stored.next = 1; stored.count < 3000; add(&stored, 1, random_bytes(&seed), 40)) {
    }
    (void)make_log(&seed, 100, false);
    size_t begin = good.count;
    add(&good, 1, stored.bytes, stored.count);
    bad = good;
    size_t lost = (begin / SECTOR_BYTES + 1) * SECTOR_BYTES;
    (void)memset(bad.bytes + lost, 0, SECTOR_BYTES);
    expect_bytes(&bad, TORN, "sector", lost);
}

/* The rest of a write that a recovery cut off is still in the file before. */
TEST(wal, next_file_that_goes_on_behind_a_torn_write_shows_that_it_was_cut_off)
{
    uint64_t seed = test_seed() | 1;
    size_t begin = make_log(&seed, 3000, false);
    uint64_t next = good.next - 2; /* behind the whole writes */
    uint64_t owed = good.next;
    good.count = begin + 900;
    for (int kind = 0; kind < 5; kind++) {
        place();
        store_bytes(5, good.bytes, good.count);
        bad.count = 0;
        bad.next = kind == 2 || kind == 3 ? owed : next;
        if (kind == 1 || kind == 3) {
            add(&bad, 0, good.bytes, 0); /* what RocksDB begins such a file with */
        }
        if (kind < 4) {
            add(&bad, 2, random_bytes(&seed), 2000);
        } else {
            bad.count = 0; /* made, and nothing written */
        }
        store_bytes(8, bad.bytes, bad.count);
        assert_int_equal(judge(), kind == 2 || kind == 3 ? DAMAGED : TORN);
        if (kind == 2) {
            assert_non_null(strstr(text, "000005.log"));
            assert_non_null(strstr(text, "the next file holds writes behind it"));
        }
        /* the power goes again in the first write there */
        if (kind == 0) {
            store_bytes(8, bad.bytes, 700);
            assert_int_equal(judge(), TORN);
        }
    }
}

static void *refuse(void *self, void *pointer, size_t bytes)
{
    (void)self;
    (void)pointer;
    (void)bytes;
    return NULL;
}

TEST(wal, that_cannot_be_judged_for_want_of_memory_is_not_damaged)
{
    struct ls_env env = *ls_env_default();
    struct ls_error error;
    bool torn;
    place();
    env.allocate = refuse;
    assert_int_equal(ls__wal_judge(&env, directory, &torn, &error), LS_ERR_NO_MEMORY);
    (void)snprintf(directory, sizeof directory, "%s/missing", test_memory_directory());
    assert_int_equal(ls__wal_judge(ls_env_default(), directory, &torn, &error), LS_ERR_IO);
    assert_non_null(strstr(error.text, "No such file"));
}
