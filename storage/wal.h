/* SPDX-License-Identifier: MIT */
/*
 * What the power left of a write-ahead log of RocksDB. A write that was under way may be there in
 * any of its pages, in whatever order the disk took them; RocksDB's recovery calls that corruption,
 * as it does a bit that changed in the middle. They are told apart here (P11):
 *
 *   torn     sectors of the first damaged record were never written (they are zeros), and no
 *            write begins behind it: nobody was told of that write, it may be cut off
 *   damaged  anything else
 *
 * A write is synced before the next one begins, but for commit hints, of which nobody is told.
 */
#ifndef LS_STORAGE_WAL_H
#define LS_STORAGE_WAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ls__wal { LS__WAL_WHOLE, LS__WAL_TORN, LS__WAL_DAMAGED };

enum ls__wal ls__wal_judge(const uint8_t *bytes, size_t count);

/**
 * Judges all write-ahead logs in a directory: torn if the last one that holds anything is, and all
 * before it are whole. What cannot be read is damaged.
 */
enum ls__wal ls__wal_judge_directory(const char *path);

#endif
