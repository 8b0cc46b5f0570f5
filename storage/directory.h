/* SPDX-License-Identifier: MIT */
/*
 * The directory of a durable store, and who may use it.
 *
 *     <directory>/lock     flock'ed while open; holds the pid of the holder
 *     <directory>/guard/   one guard file for each group
 *     <directory>/log/     RocksDB
 *     <directory>/log.new/ a log that is being made; becomes log/ when it is whole
 *
 * Anything else in it belongs to others and is left alone.
 */
#ifndef LS_STORAGE_DIRECTORY_H
#define LS_STORAGE_DIRECTORY_H

#include <lockstep/storage.h>

struct ls__directory {
    int self, guard, lock; /* descriptors */
};

/**
 * Makes the directory and those above it (0700) where missing, and takes the lock.
 * errors  LS_ERR_LOCKED, LS_ERR_IO; the text names path and reason
 */
LS_NODISCARD enum ls_status ls__directory_open(const char *path, struct ls__directory *out,
                                               struct ls_error *error);
void ls__directory_close(struct ls__directory *directory);

/** Does log/ exist? errors LS_ERR_IO, LS_ERR_CORRUPT (it does not, but guards do) */
LS_NODISCARD enum ls_status ls__directory_log(const struct ls__directory *directory, bool *exists,
                                              struct ls_error *error);
/** Removes what an interrupted open left of log.new. errors LS_ERR_IO */
LS_NODISCARD enum ls_status ls__directory_clean(const struct ls__directory *directory,
                                                struct ls_error *error);
/** Makes log.new the log, durably. errors LS_ERR_IO */
LS_NODISCARD enum ls_status ls__directory_publish(const struct ls__directory *directory,
                                                  struct ls_error *error);

#endif
