/* SPDX-License-Identifier: MIT */
/*
 * A machine in memory for the conformance of state syncs: pages of a chosen size, of which each
 * command writes one, and a digest of all commands in order. With snapshots, or without.
 */
#ifndef LOCKSTEP_CONFORMANCE_BOOK_H
#define LOCKSTEP_CONFORMANCE_BOOK_H

#include "test.h"

#include <lockstep/machine.h>

struct book {
    uint64_t count, digest;
    size_t page_bytes; /* of a page in the state; the command that writes it is short */
    uint64_t pages_count;
    uint64_t *pages; /* what each was written with; 0: not yet */
    struct book *next;
    uint64_t published;
};

/** A state of about 1 MiB, whose pages travel `unit` in a chunk, if so many fit. */
struct ls_machine book_machine(struct book *book, uint32_t unit, bool snapshots);

/* what a realm_subject (realm.h) of books has, without a self; a place is a struct book */

void *book_place_open(void *self);
void book_place_close(void *self, void *place);
/** The process ended: a state in memory is gone. */
void book_stop(void *self, void *place);
uint64_t book_digest(void *self, void *place);
size_t book_command(void *self, uint32_t unit, uint64_t n, uint8_t *out);

#endif
