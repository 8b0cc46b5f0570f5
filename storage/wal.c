/* SPDX-License-Identifier: MIT */
/*
 * Reads the frames of RocksDB's write-ahead log (log_format.h there), and of what they hold only
 * the sequence number and the count of a write. Blocks of 32 KiB hold frames; a frame is
 *
 *     u32 masked CRC-32C of kind and payload, u16 payload bytes, u8 kind, payload
 *
 * and a write is one frame (FULL), or FIRST, MIDDLE..., LAST. Fewer than 7 bytes at the end of a
 * block are zeros. So each block begins with a frame, and those that are not the last of a write
 * fill theirs.
 */
#include "wal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES  32768u
#define PIECE_BYTES  (32 * BLOCK_BYTES)
#define HEADER_BYTES 7u
#define SECTOR_BYTES 512u
/* a write begins with its sequence number (u64) and how many numbers it takes (u32) */
#define BATCH_BYTES  12u
#define SEQUENCE_MAX (UINT64_C(1) << 56)
#define UNKNOWN      UINT64_MAX
/* the polynomial of CRC-32C, the other way round */
#define POLYNOMIAL 0x82f63b78u

enum { FULL = 1, FIRST = 2, MIDDLE = 3, LAST = 4 };

struct judge {
    uint64_t next; /* the sequence number behind all whole writes; UNKNOWN: there were none */
    bool torn;
    /* a write in an earlier file that was cut off, if this one goes on at `next` */
    uint64_t owed_file, owed_at;
    /* of the file */
    const char *reason; /* why it is damaged, or NULL */
    uint64_t number;
    uint64_t write_at; /* where the write began that is being read, or the damage */
    bool inside;       /* of a write */
    bool broken;       /* there was damage */
    uint8_t head[BATCH_BYTES];
    size_t head_bytes;

    uint32_t table[8][256];
    uint8_t bytes[PIECE_BYTES];
};

/* A block of the file, as far as the file goes. */
struct block {
    const uint8_t *bytes;
    size_t count;
    uint64_t offset;
};

/* the checksum */

static void table_make(uint32_t table[8][256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (POLYNOMIAL & (0u - (crc & 1u)));
        }
        table[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int k = 1; k < 8; k++) {
            table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255u];
        }
    }
}

static uint64_t little(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return value;
}

static uint32_t crc32c(const struct judge *judge, const uint8_t *bytes, size_t count)
{
    const uint32_t(*table)[256] = judge->table;
    uint32_t crc = 0xffffffffu;
    for (; count >= 8; bytes += 8, count -= 8) {
        uint32_t low = crc ^ (uint32_t)little(bytes, 4);
        crc = table[7][low & 255u] ^ table[6][low >> 8 & 255u] ^ table[5][low >> 16 & 255u] ^
              table[4][low >> 24] ^ table[3][bytes[4]] ^ table[2][bytes[5]] ^ table[1][bytes[6]] ^
              table[0][bytes[7]];
    }
    for (; count > 0; bytes++, count--) {
        crc = crc >> 8 ^ table[0][(crc ^ *bytes) & 255u];
    }
    return ~crc;
}

static uint32_t unmasked(const uint8_t *at)
{
    uint32_t masked = (uint32_t)little(at, 4) - 0xa282ead8u;
    return masked >> 17 | masked << 15;
}

/* frames */

static size_t payload_at(const struct block *block, size_t at)
{
    return (size_t)little(block->bytes + at + 4, 2);
}

/* Is there a head whose frame could be in this block? */
static bool frame_possible(const struct block *block, size_t at)
{
    if (at + HEADER_BYTES > block->count) {
        return false;
    }
    unsigned kind = block->bytes[at + 6];
    size_t end = at + HEADER_BYTES + payload_at(block, at);
    bool fills = kind == FIRST || kind == MIDDLE;
    return kind >= FULL && kind <= LAST && (fills ? end == BLOCK_BYTES : end <= BLOCK_BYTES);
}

static bool frame_whole(const struct judge *judge, const struct block *block, size_t at)
{
    if (!frame_possible(block, at)) {
        return false;
    }
    size_t payload = payload_at(block, at);
    return at + HEADER_BYTES + payload <= block->count &&
           crc32c(judge, block->bytes + at + 6, payload + 1) == unmasked(block->bytes + at);
}

/* Do the checks of two messages of so many bytes differ as if one bit of them did? The last bit
 * differs by one step, the one before by two, ... */
static bool differs_by_a_bit(uint32_t difference, size_t count)
{
    uint32_t step = 1;
    for (size_t bits = 8 * count; bits > 0; bits--) {
        step = step >> 1 ^ (POLYNOMIAL & (0u - (step & 1u)));
        if (step == difference) {
            return true;
        }
    }
    return false;
}

/* Would there be a whole frame if one bit of it were another? */
static bool bit_changed(const struct judge *judge, const struct block *block, size_t at)
{
    if (at + HEADER_BYTES > block->count) {
        return false;
    }
    const uint8_t *frame = block->bytes + at;
    for (unsigned bit = 0; bit <= 16; bit++) { /* of the length; 16: it is right */
        size_t payload = payload_at(block, at) ^ (1u << bit & 0xffffu);
        if (payload > block->count - at - HEADER_BYTES) {
            continue;
        }
        uint32_t crc = crc32c(judge, frame + 6, payload + 1);
        uint32_t check = (uint32_t)little(frame, 4) ^ ((crc >> 15 | crc << 17) + 0xa282ead8u);
        if (check == 0 || (bit == 16 && ((check & (check - 1)) == 0 ||
                                         differs_by_a_bit(unmasked(frame) ^ crc, payload + 1)))) {
            return true;
        }
    }
    return false;
}

/* Was some sector of the block never written that has a part in first..end? What is in it before
 * `begin` is older. */
static bool lacks_sector(const struct block *block, size_t begin, size_t first, size_t end)
{
    for (size_t at = first / SECTOR_BYTES * SECTOR_BYTES; at < end; at += SECTOR_BYTES) {
        size_t from = at < begin ? begin : at;
        size_t to = at + SECTOR_BYTES < block->count ? at + SECTOR_BYTES : block->count;
        while (from < to && block->bytes[from] == 0) {
            from++;
        }
        if (from >= to) {
            return true;
        }
    }
    return false;
}

/* Can the power have cut a write so that this frame of it is what is there? */
static bool can_be_torn(const struct block *block, size_t at)
{
    size_t head_end = at + HEADER_BYTES;
    if (head_end > block->count || lacks_sector(block, at, at, head_end)) {
        return true;
    }
    if (!frame_possible(block, at)) {
        return false;
    }
    size_t end = head_end + payload_at(block, at);
    return end > block->count || lacks_sector(block, at, at, end);
}

/* writes */

/* Takes what a frame holds of the write's head; the write is whole if the frame is its last. */
static void take(struct judge *judge, const struct block *block, size_t at)
{
    unsigned kind = block->bytes[at + 6];
    size_t payload = payload_at(block, at);
    if (kind == FULL || kind == FIRST) {
        judge->head_bytes = 0;
        judge->write_at = block->offset + at;
    }
    size_t more = BATCH_BYTES - judge->head_bytes;
    more = more < payload ? more : payload;
    (void)memcpy(judge->head + judge->head_bytes, block->bytes + at + HEADER_BYTES, more);
    judge->head_bytes += more;
    judge->inside = kind == FIRST || kind == MIDDLE;
    if (judge->inside || judge->head_bytes < BATCH_BYTES) {
        return;
    }
    uint64_t sequence = little(judge->head, 8);
    if (judge->owed_file != 0 && judge->next != UNKNOWN && sequence != judge->next) {
        judge->reason = "is damaged, and the next file holds writes behind it";
        judge->number = judge->owed_file;
        judge->write_at = judge->owed_at;
        return;
    }
    judge->owed_file = 0;
    judge->next = sequence + little(judge->head + 8, 4);
}

/*
 * Behind damage: does a write begin here? The numbers between it and the last whole one are those
 * of what is damaged, and each took a byte or more. So bytes that look like a frame, which a user
 * may have stored, do not pass for one.
 */
static bool write_begins(const struct judge *judge, const struct block *block, size_t at)
{
    if (!frame_possible(block, at)) {
        return false;
    }
    unsigned kind = block->bytes[at + 6];
    size_t payload = payload_at(block, at);
    if ((kind != FULL && kind != FIRST) || (kind == FULL && payload < BATCH_BYTES)) {
        return false;
    }
    if (payload >= 8 && at + HEADER_BYTES + 8 <= block->count) {
        uint64_t sequence = little(block->bytes + at + HEADER_BYTES, 8);
        uint64_t distance = block->offset + at - judge->write_at;
        if (judge->next == UNKNOWN ? sequence >= SEQUENCE_MAX
                                   : sequence < judge->next || sequence - judge->next > distance) {
            return false;
        }
    }
    return frame_whole(judge, block, at);
}

/* Looks for a write behind the damage, from `at` on; `aligned`: a frame begins there. */
static void look_behind(struct judge *judge, const struct block *block, size_t at, bool aligned)
{
    while (at + HEADER_BYTES <= block->count && judge->reason == NULL) {
        if (write_begins(judge, block, at)) {
            judge->reason = "is damaged, and other writes follow it";
        } else if (aligned && frame_whole(judge, block, at)) {
            at += HEADER_BYTES + payload_at(block, at);
        } else {
            aligned = false;
            at++;
        }
    }
}

/* The first damage of a file. */
static void look_at_damage(struct judge *judge, const struct block *block, size_t at)
{
    judge->broken = true;
    judge->write_at = judge->inside ? judge->write_at : block->offset + at;
    if (frame_whole(judge, block, at)) {
        judge->reason = "lacks a part that was there";
    } else if (bit_changed(judge, block, at)) {
        judge->reason = "has a bit that changed";
    } else if (!can_be_torn(block, at)) {
        judge->reason = "is damaged, and nothing of it is missing";
    }
    look_behind(judge, block, at + 1, false);
}

static void judge_block(struct judge *judge, const struct block *block)
{
    size_t at = 0;
    if (judge->broken) {
        look_behind(judge, block, 0, true);
        return;
    }
    while (at < block->count && BLOCK_BYTES - at >= HEADER_BYTES && judge->reason == NULL) {
        unsigned kind = at + HEADER_BYTES <= block->count ? block->bytes[at + 6] : 0;
        if (!frame_whole(judge, block, at) || judge->inside != (kind == MIDDLE || kind == LAST)) {
            look_at_damage(judge, block, at);
            return;
        }
        take(judge, block, at);
        at += HEADER_BYTES + payload_at(block, at);
    }
}

/* files */

static enum ls_status unreadable(struct ls_error *error, const char *name, int reason)
{
    enum ls_status status = reason == ENOMEM ? LS_ERR_NO_MEMORY : LS_ERR_IO;
    return ls_error_set(error, status, "%s cannot be read: %s", name,
                        reason != 0 ? strerror(reason) : "it ends early");
}

/* Reads so many bytes; errno is 0 if the file ends before. */
static bool read_at(int file, uint8_t *bytes, size_t count, uint64_t offset)
{
    while (count > 0) {
        ssize_t got = pread(file, bytes, count, (off_t)offset);
        if (got > 0) {
            bytes += got;
            count -= (size_t)got;
            offset += (uint64_t)got;
        } else if (got == 0 || errno != EINTR) {
            errno = got == 0 ? 0 : errno;
            return false;
        }
    }
    return true;
}

static bool judge_open_file(struct judge *judge, int file)
{
    struct stat info;
    if (fstat(file, &info) != 0) {
        return false;
    }
    uint64_t size = (uint64_t)info.st_size;
    for (uint64_t offset = 0; offset < size && judge->reason == NULL; offset += PIECE_BYTES) {
        size_t count = size - offset < PIECE_BYTES ? (size_t)(size - offset) : PIECE_BYTES;
        if (!read_at(file, judge->bytes, count, offset)) {
            return false;
        }
        for (size_t at = 0; at < count && judge->reason == NULL; at += BLOCK_BYTES) {
            size_t left = count - at < BLOCK_BYTES ? count - at : BLOCK_BYTES;
            const struct block block = {judge->bytes + at, left, offset + at};
            judge_block(judge, &block);
        }
    }
    return true;
}

static enum ls_status judge_file(struct judge *judge, int directory, uint64_t number,
                                 struct ls_error *error)
{
    char name[32];
    (void)snprintf(name, sizeof name, "%06" PRIu64 ".log", number);
    judge->number = number;
    judge->inside = judge->broken = false;
    int file = openat(directory, name, O_RDONLY | O_CLOEXEC);
    bool read = file >= 0 && judge_open_file(judge, file);
    int reason = errno;
    if (file >= 0) {
        (void)close(file);
    }
    if (!read) {
        return unreadable(error, name, reason);
    }
    if (judge->reason != NULL) {
        return ls_error_set(error, LS_ERR_CORRUPT,
                            "%06" PRIu64 ".log: the write at byte %" PRIu64
                            " %s: what was acknowledged is lost here, so keep the directory for "
                            "inquiry and start with an empty one",
                            judge->number, judge->write_at, judge->reason);
    }
    if (judge->broken || judge->inside) {
        judge->torn = true;
        judge->owed_file = number;
        judge->owed_at = judge->write_at;
    }
    return LS_OK;
}

/* The log with the lowest number above `number`, which it replaces; 0: there is none. */
static bool next_log(DIR *listing, uint64_t *number)
{
    const struct dirent *entry;
    uint64_t found = 0;
    rewinddir(listing);
    while (errno = 0, (entry = readdir(listing)) != NULL) {
        char *end = NULL;
        uint64_t candidate = strtoull(entry->d_name, &end, 10);
        if (end != entry->d_name && strcmp(end, ".log") == 0 && candidate > *number &&
            (found == 0 || candidate < found)) {
            found = candidate;
        }
    }
    *number = found;
    return errno == 0;
}

static enum ls_status judge_listed(struct judge *judge, DIR *listing, struct ls_error *error)
{
    uint64_t number = 0;
    for (;;) {
        if (!next_log(listing, &number)) {
            return unreadable(error, "the directory of the write-ahead log", errno);
        }
        if (number == 0) {
            return LS_OK;
        }
        enum ls_status status = judge_file(judge, dirfd(listing), number, error);
        if (status != LS_OK) {
            return status;
        }
    }
}

enum ls_status ls__wal_judge(const struct ls_env *env, const char *path, bool *torn,
                             struct ls_error *error)
{
    struct judge *judge = env->allocate(env->self, NULL, sizeof *judge);
    if (judge == NULL) {
        return ls_error_set(error, LS_ERR_NO_MEMORY, "out of memory");
    }
    (void)memset(judge, 0, offsetof(struct judge, table));
    judge->next = UNKNOWN;
    table_make(judge->table);
    DIR *listing = opendir(path);
    enum ls_status status = listing != NULL
                                ? judge_listed(judge, listing, error)
                                : unreadable(error, "the directory of the write-ahead log", errno);
    if (listing != NULL) {
        (void)closedir(listing);
    }
    *torn = judge->torn;
    (void)env->allocate(env->self, judge, 0);
    return status;
}
