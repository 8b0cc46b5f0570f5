/* SPDX-License-Identifier: MIT */
/*
 * Reads the frames of RocksDB's write-ahead log (log_format.h there), never its contents beyond
 * what tells a commit hint. Blocks of 32 KiB hold frames; a frame is
 *
 *     u32 masked CRC-32C of kind and payload, u16 payload bytes, u8 kind, payload
 *
 * and a write is one frame (FULL), or FIRST, MIDDLE..., LAST. Fewer than 7 bytes at the end of a
 * block are zeros.
 */
#include "wal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES  32768u
#define HEADER_BYTES 7u
#define SECTOR_BYTES 512u
/* sequence and count; then of a hint: kind, length of the key, key, length, sealed cell */
#define BATCH_BYTES 12u
#define HINT_BYTES  60u
#define HINT_KEY    33u
/* hints in a row that may be lost together: more are never on their way */
#define HINTS_MAX 4u

enum { FULL = 1, FIRST = 2, MIDDLE = 3, LAST = 4 };

static uint32_t crc32c(const uint8_t *bytes, size_t count)
{
    static const uint32_t half[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
                                      0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                      0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                      0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        crc = half[crc & 15u] ^ crc >> 4;
        crc = half[crc & 15u] ^ crc >> 4;
    }
    return ~crc;
}

static uint32_t little(const uint8_t *at, unsigned bytes)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint32_t)at[i] << (8 * i);
    }
    return value;
}

/* How many bytes a frame of that kind has here; 0: there is none, or it is damaged. */
static size_t frame_at(const uint8_t *bytes, size_t count, size_t at, unsigned *kind)
{
    size_t end = (at / BLOCK_BYTES + 1) * BLOCK_BYTES;
    end = end < count ? end : count;
    if (at + HEADER_BYTES > end || bytes[at + 6] < FULL || bytes[at + 6] > LAST) {
        return 0;
    }
    size_t payload = little(bytes + at + 4, 2);
    if (payload > end - at - HEADER_BYTES) {
        return 0;
    }
    uint32_t masked = little(bytes + at, 4) - 0xa282ead8u;
    if (crc32c(bytes + at + 6, payload + 1) != (masked >> 17 | masked << 15)) {
        return 0;
    }
    *kind = bytes[at + 6];
    return HEADER_BYTES + payload;
}

static bool zeros(const uint8_t *bytes, size_t count)
{
    while (count > 0 && bytes[count - 1] == 0) {
        count--;
    }
    return count == 0;
}

/* Was some sector of first..end never written? */
static bool has_hole(const uint8_t *bytes, size_t first, size_t end)
{
    while (first < end) {
        size_t next = (first / SECTOR_BYTES + 1) * SECTOR_BYTES;
        next = next < end ? next : end;
        if (zeros(bytes + first, next - first)) {
            return true;
        }
        first = next;
    }
    return false;
}

/* Commit hints alone, which are written without a sync. */
static bool only_hints(const uint8_t *payload, size_t count)
{
    return count > BATCH_BYTES && count == BATCH_BYTES + HINT_BYTES * little(payload + 8, 4) &&
           payload[BATCH_BYTES] == 1 && payload[BATCH_BYTES + 1] == HINT_KEY &&
           payload[BATCH_BYTES + 2] == 'c';
}

/* Can so many bytes be hints alone? */
static bool may_be_hints(size_t count)
{
    for (size_t frames = 1; frames <= HINTS_MAX; frames++) {
        size_t heads = frames * (HEADER_BYTES + BATCH_BYTES);
        if (count >= heads + frames * HINT_BYTES && (count - heads) % HINT_BYTES == 0) {
            return true;
        }
    }
    return false;
}

/*
 * Does a write begin behind `at`, of which somebody may have been told, or that says so of the
 * damaged one? A hint says it of a write, but not of other hints.
 */
static bool write_behind(const uint8_t *bytes, size_t count, size_t at, bool inside)
{
    size_t damaged = at;
    while (at < count) {
        unsigned kind = 0;
        size_t frame = frame_at(bytes, count, at, &kind);
        bool full = kind == FULL && frame > HEADER_BYTES + BATCH_BYTES;
        if (kind == FIRST ||
            (full && (!only_hints(bytes + at + HEADER_BYTES, frame - HEADER_BYTES) || inside ||
                      !may_be_hints(at - damaged)))) {
            return true;
        }
        inside = inside || kind == MIDDLE || kind == LAST; /* of what is damaged */
        damaged = full ? at + frame : damaged;
        at += frame > 0 ? frame : 1;
    }
    return false;
}

/* Do the checks of two messages of so many bytes differ as if one bit of them did? The last bit
 * differs by one step, the one before by two, ... */
static bool differs_by_a_bit(uint32_t difference, size_t count)
{
    uint32_t step = 1;
    for (size_t bits = 8 * count; bits > 0; bits--) {
        step = step >> 1 ^ (0x82f63b78u & (0u - (step & 1u)));
        if (step == difference) {
            return true;
        }
    }
    return false;
}

/*
 * Would there be a whole frame if one bit were another? Then the bit changed: the zeros that the
 * frame holds are its own, and no sector was lost.
 */
static bool bit_changed(const uint8_t *bytes, size_t count, size_t at)
{
    size_t end = (at / BLOCK_BYTES + 1) * BLOCK_BYTES;
    end = end < count ? end : count;
    if (at + HEADER_BYTES > end) {
        return false;
    }
    uint32_t masked = little(bytes + at, 4);
    uint32_t stored = (masked - 0xa282ead8u) >> 17 | (masked - 0xa282ead8u) << 15;
    for (unsigned bit = 0; bit <= 16; bit++) { /* of the length; 16: it is right */
        size_t payload = little(bytes + at + 4, 2) ^ (1u << bit & 0xffffu);
        if (payload > end - at - HEADER_BYTES) {
            continue;
        }
        uint32_t crc = crc32c(bytes + at + 6, payload + 1);
        uint32_t check = masked ^ ((crc >> 15 | crc << 17) + 0xa282ead8u);
        if (check == 0 || (bit == 16 && ((check & (check - 1)) == 0 ||
                                         differs_by_a_bit(stored ^ crc, payload + 1)))) {
            return true;
        }
    }
    return false;
}

enum ls__wal ls__wal_judge(const uint8_t *bytes, size_t count)
{
    size_t at = 0;
    bool inside = false; /* of a write */
    while (at < count) {
        size_t block = (at / BLOCK_BYTES + 1) * BLOCK_BYTES;
        if (block - at < HEADER_BYTES) {
            at = block;
            continue;
        }
        unsigned kind = 0;
        size_t frame = frame_at(bytes, count, at, &kind);
        bool fits = frame > 0 && inside == (kind == MIDDLE || kind == LAST);
        if (!fits) {
            break;
        }
        inside = kind == FIRST || kind == MIDDLE;
        at += frame;
    }
    if (at >= count) {
        return inside ? LS__WAL_TORN : LS__WAL_WHOLE;
    }
    if (write_behind(bytes, count, at, inside) || bit_changed(bytes, count, at)) {
        return LS__WAL_DAMAGED;
    }
    return has_hole(bytes, at, count) ? LS__WAL_TORN : LS__WAL_DAMAGED;
}

static enum ls__wal judge_file(int directory, const char *name, bool *empty)
{
    struct stat info;
    enum ls__wal found = LS__WAL_DAMAGED;
    int file = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    *empty = false;
    if (file < 0) {
        return found;
    }
    if (fstat(file, &info) != 0) {
        (void)close(file);
        return found;
    }
    if (info.st_size <= (off_t)(HEADER_BYTES + BATCH_BYTES)) {
        /* RocksDB begins a new file with an empty write when it cut off one */
        *empty = true;
        found = LS__WAL_WHOLE;
    } else {
        void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        if (bytes != MAP_FAILED) {
            found = ls__wal_judge(bytes, (size_t)info.st_size);
            (void)munmap(bytes, (size_t)info.st_size);
        }
    }
    (void)close(file);
    return found;
}

enum ls__wal ls__wal_judge_directory(const char *path)
{
    DIR *listing = opendir(path);
    const struct dirent *entry;
    uint64_t torn = 0, last = 0;
    enum ls__wal worst = LS__WAL_WHOLE;
    while (listing != NULL && (entry = readdir(listing)) != NULL) {
        char *end = NULL;
        uint64_t number = strtoull(entry->d_name, &end, 10);
        if (end == entry->d_name || strcmp(end, ".log") != 0) {
            continue;
        }
        bool empty = false;
        enum ls__wal found = judge_file(dirfd(listing), entry->d_name, &empty);
        last = !empty && number > last ? number : last;
        if (found == LS__WAL_DAMAGED || (found == LS__WAL_TORN && torn != 0)) {
            worst = LS__WAL_DAMAGED;
        } else if (found == LS__WAL_TORN) {
            torn = number;
        }
    }
    if (listing == NULL) {
        return LS__WAL_DAMAGED;
    }
    (void)closedir(listing);
    if (worst != LS__WAL_WHOLE || torn == 0) {
        return worst;
    }
    return torn == last ? LS__WAL_TORN : LS__WAL_DAMAGED;
}
