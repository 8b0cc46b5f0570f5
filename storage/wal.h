/* SPDX-License-Identifier: MIT */
/*
 * What the power left of the write-ahead logs of RocksDB, judged before RocksDB sees them: its
 * recovery calls a write that was under way corruption if some of its pages are there and others
 * are not, and takes a bit that changed in the head of a record for the end of the log (P11).
 *
 *   whole    nothing is damaged
 *   torn     the last write was under way, and nobody was told of it: it may be cut off
 *   damaged  anything else
 *
 * It rests on two things. Each write is synced before the next one begins, so only the last one
 * can have been under way, and one that has another behind it was durable. And a disk writes a
 * sector of 512 bytes whole or not at all, in any order: what was under way may be there in any of
 * its sectors, zeros are in place of the others, and the file may end anywhere in it. So the first
 * damaged record of a torn write lacks a sector, or the file ends in it. A record that would be
 * whole if one bit of it were another lacks nothing.
 *
 * A write that was cut off once stays in its file until RocksDB removes that, which a power cut can
 * undo. Each write has the sequence number behind the last one of the write before: if the next
 * file goes on where the whole writes of this one end, the rest was cut off by a recovery.
 */
#ifndef LS_STORAGE_WAL_H
#define LS_STORAGE_WAL_H

#include <lockstep/env.h>

/**
 * Judges all write-ahead logs in a directory. O(bytes), about a second for a gigabyte.
 *
 * torn    some write may be cut off
 * errors  LS_ERR_CORRUPT    damaged; the text names file, offset and reason
 *         LS_ERR_IO, LS_ERR_NO_MEMORY: they could not be read, and nothing is known about them
 */
LS_NODISCARD enum ls_status ls__wal_judge(const struct ls_env *env, const char *path, bool *torn,
                                          struct ls_error *error);

#endif
