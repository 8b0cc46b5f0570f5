/* SPDX-License-Identifier: MIT */
/*
 * The guard (guard.h draws it): encoding and choice of its slots, and the file in which the RocksDB
 * backend keeps it. Idea: the persist record of "Protocol-Aware Recovery" (FAST '18), kept in
 * another file than the log so that they do not fail together.
 */
#include "guard.h"

#include "crash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

size_t ls__guard_encode(const struct ls__guard *guard, const struct ls_group_id *id,
                        uint8_t out[LS__GUARD_SLOT_BYTES])
{
    uint8_t *body = out + LS__CELL_HEADER_BYTES;
    ls__put_u64(body, guard->sequence);
    (void)memcpy(body + 8, guard->incarnation.bytes, 16);
    (void)memcpy(body + 24, id->bytes, 32);
    ls__put_u64(body + 56, guard->unknown ? 1 : 0);
    ls__put_u64(body + 64, guard->hard.term);
    ls__put_u64(body + 72, guard->hard.voted ? 1 : 0);
    (void)memcpy(body + 80, guard->hard.vote.bytes, 32);
    ls__put_u64(body + 112, guard->last.at.term);
    ls__put_u64(body + 120, guard->last.at.index);
    ls__put_u64(body + 128, guard->last.check);
    (void)ls__cell_seal(ls__record_group(id), LS__CELL_GUARD, out, LS__GUARD_BODY_BYTES);
    return guard->sequence % 2 == 0 ? 0 : LS__GUARD_SLOT_OFFSET;
}

void ls__guard_image(const struct ls__guard *guard, const struct ls_group_id *id,
                     uint8_t image[LS__GUARD_FILE_BYTES])
{
    struct ls__guard other = *guard;
    other.sequence = guard->sequence - 1;
    (void)memset(image, 0, LS__GUARD_FILE_BYTES);
    (void)ls__guard_encode(&other, id, image + other.sequence % 2 * LS__GUARD_SLOT_OFFSET);
    (void)ls__guard_encode(guard, id, image + guard->sequence % 2 * LS__GUARD_SLOT_OFFSET);
}

static enum ls_status decode_slot(struct ls_span file, size_t offset, const struct ls_group_id *id,
                                  struct ls__guard *out, const char **reason)
{
    if (file.bytes < offset + LS__GUARD_SLOT_BYTES) {
        *reason = "it is too short";
        return LS_ERR_CORRUPT;
    }
    struct ls_span cell = {(const uint8_t *)file.data + offset, LS__GUARD_SLOT_BYTES};
    struct ls_span body;
    enum ls_status status =
        ls__cell_open(ls__record_group(id), LS__CELL_GUARD, cell, &body, reason);
    if (status != LS_OK) {
        return status;
    }
    const uint8_t *at = body.data;
    if (memcmp(at + 24, id->bytes, sizeof id->bytes) != 0) {
        *reason = "it belongs to another group";
        return LS_ERR_CORRUPT;
    }
    out->sequence = ls__get_u64(at);
    (void)memcpy(out->incarnation.bytes, at + 8, 16);
    out->unknown = ls__get_u64(at + 56) != 0;
    out->hard.term = ls__get_u64(at + 64);
    out->hard.voted = ls__get_u64(at + 72) != 0;
    (void)memcpy(out->hard.vote.bytes, at + 80, 32);
    out->last.at = (struct ls_cursor){ls__get_u64(at + 112), ls__get_u64(at + 120)};
    out->last.check = ls__get_u64(at + 128);
    return LS_OK;
}

enum ls_status ls__guard_decode(struct ls_span file, const struct ls_group_id *id,
                                struct ls__guard *out, bool *torn, const char **reason)
{
    struct ls__guard slots[2];
    enum ls_status first = decode_slot(file, 0, id, &slots[0], reason);
    enum ls_status second = decode_slot(file, LS__GUARD_SLOT_OFFSET, id, &slots[1], reason);
    *torn = first != LS_OK || second != LS_OK;
    if (first == LS_ERR_FORMAT || second == LS_ERR_FORMAT) {
        return LS_ERR_FORMAT;
    }
    if ((first != LS_OK && second != LS_OK) || (LS_MUTANT(F2) && *torn)) {
        return LS_ERR_CORRUPT;
    }
    if (first != LS_OK) {
        *out = slots[1];
    } else if (second != LS_OK) {
        *out = slots[0];
    } else {
        *out = slots[0].sequence > slots[1].sequence || LS_MUTANT(F7) ? slots[0] : slots[1];
    }
    return LS_OK;
}

bool ls__hard_behind(const struct ls_hard_state *b, const struct ls_hard_state *a)
{
    if (a->term != b->term) {
        return a->term > b->term;
    }
    return a->voted && (!b->voted || !ls_peer_id_equal(&a->vote, &b->vote));
}

void ls__guard_name(const struct ls_group_id *id, char out[LS__GUARD_NAME_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof id->bytes; i++) {
        out[2 * i] = digits[id->bytes[i] >> 4];
        out[2 * i + 1] = digits[id->bytes[i] & 15];
    }
    out[LS__GUARD_NAME_BYTES - 1] = '\0';
}

static bool write_all(int descriptor, const uint8_t *bytes, size_t count, size_t offset)
{
    while (count > 0) {
        ssize_t written = pwrite(descriptor, bytes, count, (off_t)offset);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return false;
        }
        bytes += written;
        offset += (size_t)written;
        count -= (size_t)written;
    }
    return true;
}

enum ls_status ls__guard_file_open(int directory, const struct ls_group_id *id, int *descriptor,
                                   uint8_t image[LS__GUARD_FILE_BYTES], size_t *bytes)
{
    char name[LS__GUARD_NAME_BYTES];
    ls__guard_name(id, name);
    int file = openat(directory, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) {
        return errno == ENOENT ? LS_ERR_NOT_FOUND : LS_ERR_IO;
    }
    *bytes = 0;
    while (*bytes < LS__GUARD_FILE_BYTES) {
        ssize_t got = pread(file, image + *bytes, LS__GUARD_FILE_BYTES - *bytes, (off_t)*bytes);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            int failure = errno;
            (void)close(file);
            errno = failure;
            return LS_ERR_IO;
        }
        if (got == 0) {
            break;
        }
        *bytes += (size_t)got;
    }
    *descriptor = file;
    return LS_OK;
}

/* Fills the file, then gives it its name. errno is set on failure. */
static bool publish(int directory, int file, const uint8_t image[LS__GUARD_FILE_BYTES],
                    const char *fresh, const char *name)
{
    if (!write_all(file, image, LS__GUARD_FILE_BYTES, 0)) {
        return false;
    }
    LS__CRASH("guard.filled");
    if (fsync(file) != 0) {
        return false;
    }
    LS__CRASH("guard.filled-synced");
    if (renameat(directory, fresh, directory, name) != 0) {
        return false;
    }
    LS__CRASH("guard.renamed");
    if (fsync(directory) != 0) {
        return false;
    }
    LS__CRASH("guard.created");
    return true;
}

enum ls_status ls__guard_file_create(int directory, const struct ls_group_id *id,
                                     const struct ls__guard *guard, int *descriptor)
{
    char name[LS__GUARD_NAME_BYTES];
    char fresh[LS__GUARD_NAME_BYTES + 4];
    ls__guard_name(id, name);
    (void)snprintf(fresh, sizeof fresh, "%s.new", name);
    uint8_t image[LS__GUARD_FILE_BYTES];
    ls__guard_image(guard, id, image);

    int file = openat(directory, fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0) {
        return LS_ERR_IO;
    }
    if (!publish(directory, file, image, fresh, name)) {
        int failure = errno;
        (void)close(file);
        (void)unlinkat(directory, fresh, 0);
        errno = failure;
        return LS_ERR_IO;
    }
    *descriptor = file;
    return LS_OK;
}

enum ls_status ls__guard_file_write(int descriptor, const struct ls_group_id *id,
                                    const struct ls__guard *guard)
{
    uint8_t slot[LS__GUARD_SLOT_BYTES];
    size_t offset = ls__guard_encode(guard, id, slot);
    LS__CRASH("guard.begin");
    if (!write_all(descriptor, slot, sizeof slot, offset)) {
        return LS_ERR_IO;
    }
    LS__CRASH("guard.written");
    if (fdatasync(descriptor) != 0) {
        return LS_ERR_IO;
    }
    LS__CRASH("guard.synced");
    return LS_OK;
}
