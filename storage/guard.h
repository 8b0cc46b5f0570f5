/* SPDX-License-Identifier: MIT */
/*
 * The guard of one group: what the member has promised, kept apart from the log, so that a log or
 * hard state that lost its end is told from one that never went further (P11).
 *
 *   offset 0     slot 0: a sealed cell (record.h) with
 *                  0  u64  sequence; the slot is sequence mod 2
 *                  8  16   incarnation of the store
 *                 24  32   group id
 *                 56  u64  1: the tail is unknown and stays so
 *                 64  u64  term      \
 *                 72  u64  voted      > hard state
 *                 80  32   vote      /
 *                112  u64  term      \
 *                120  u64  index      > last durable record and its check;
 *                128  u64  check     /  index 0: none is promised
 *   offset 4096  slot 1: the same
 *
 * A torn write spoils one slot, the other is the older promise. Both spoilt is damage, not a crash.
 *
 * Order. The log is synced first, then the guard, then the result is reported: so a guard is ahead
 * of its log only if the log lost something. Before a truncation or reset below its cursor the
 * guard is lowered first. The cursor is synced at most once a second, and at close.
 *
 * What stays undetected: entries acknowledged since the guard's last sync (at most about a second
 * of them) that vanish from the end of the log at a record boundary, while everything before them
 * stays; and the loss of log and guard together. Terms and votes have no such window.
 *
 * An unknown tail stays unknown over restarts until a batch carries a commit hint beyond the
 * guard's cursor and beyond everything the log held at the open: only a leader can have told that,
 * and it has brought back all that the guard knows of.
 */
#ifndef LS_STORAGE_GUARD_H
#define LS_STORAGE_GUARD_H

#include "record.h"

#define LS__GUARD_BODY_BYTES  136u
#define LS__GUARD_SLOT_BYTES  (LS__CELL_HEADER_BYTES + LS__GUARD_BODY_BYTES)
#define LS__GUARD_SLOT_OFFSET 4096u
#define LS__GUARD_FILE_BYTES  (LS__GUARD_SLOT_OFFSET + LS__GUARD_SLOT_BYTES)
/* the longest the cursor waits for its sync, microseconds */
#define LS__GUARD_PERIOD_US 1000000u

/** The end of a log: a cursor and the check of the record there. Index 0: none. */
struct ls__mark {
    struct ls_cursor at;
    uint64_t check;
};

struct ls__guard {
    uint64_t sequence;
    struct ls_incarnation incarnation;
    bool unknown;
    struct ls_hard_state hard;
    struct ls__mark last;
};

/** Encodes the slot for guard->sequence; returns its offset in the file. */
size_t ls__guard_encode(const struct ls__guard *guard, const struct ls_group_id *id,
                        uint8_t out[LS__GUARD_SLOT_BYTES]);

/** A whole new file: both slots hold the same promise. */
void ls__guard_image(const struct ls__guard *guard, const struct ls_group_id *id,
                     uint8_t image[LS__GUARD_FILE_BYTES]);

/**
 * Takes the newer of the two slots of a whole file image.
 * torn    one slot was spoilt
 * errors  LS_ERR_CORRUPT  both are; LS_ERR_FORMAT
 */
LS_NODISCARD enum ls_status ls__guard_decode(struct ls_span file, const struct ls_group_id *id,
                                             struct ls__guard *out, bool *torn,
                                             const char **reason);

/** True if `a` promises something that `b` does not keep. */
bool ls__hard_behind(const struct ls_hard_state *b, const struct ls_hard_state *a);

/*
 * The file, of <directory>/<64 hex digits of the group>. All functions sync what they write, and
 * create syncs the directory too.
 */
#define LS__GUARD_NAME_BYTES 65u
void ls__guard_name(const struct ls_group_id *id, char out[LS__GUARD_NAME_BYTES]);

/** Opens the file and reads its bytes into `image`. errors LS_ERR_NOT_FOUND, LS_ERR_IO (errno) */
LS_NODISCARD enum ls_status ls__guard_file_open(int directory, const struct ls_group_id *id,
                                                int *descriptor,
                                                uint8_t image[LS__GUARD_FILE_BYTES], size_t *bytes);

/** Makes the file with both slots, whole or not at all. errors LS_ERR_IO (errno) */
LS_NODISCARD enum ls_status ls__guard_file_create(int directory, const struct ls_group_id *id,
                                                  const struct ls__guard *guard, int *descriptor);

/** errors LS_ERR_IO (errno) */
LS_NODISCARD enum ls_status ls__guard_file_write(int descriptor, const struct ls_group_id *id,
                                                 const struct ls__guard *guard);

#endif
