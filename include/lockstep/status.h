/* SPDX-License-Identifier: MIT */
/*
 * How a call ended. Numbers are explicit and never reused; 0 is success.
 */
#ifndef LOCKSTEP_STATUS_H
#define LOCKSTEP_STATUS_H

#include <lockstep/limits.h>
#include <lockstep/macros.h>

LS_EXTERN_C_BEGIN

enum ls_status {
    LS_OK = 0,
    LS_ERR_INVALID =
        1, /* an argument or setting is wrong; the text says which and what is expected */
    LS_ERR_NO_MEMORY = 2, /* the allocator refused; nothing changed */
    LS_ERR_BUSY = 3,      /* a bounded queue is full: nothing was done, try again later */
    LS_ERR_LIMIT = 4,     /* larger than a named limit: it will never fit */
    LS_ERR_CLOSED = 5,    /* the node or group is closing or closed; nothing was done */
    LS_ERR_NO_LEADER = 6, /* no leader until the deadline; nothing was done */
    LS_ERR_NOT_LEADER =
        7,                /* only the leader can do this and this member is not; nothing was done */
    LS_ERR_UNKNOWN = 8,   /* it may have happened or may still happen: the outcome is not known */
    LS_ERR_TIMEOUT = 9,   /* a wait or a read reached its deadline; nothing was changed by it */
    LS_ERR_IO = 10,       /* a read, write or sync failed; latched until close and reopen */
    LS_ERR_CORRUPT = 11,  /* stored bytes are not what was written */
    LS_ERR_LOCKED = 12,   /* the directory is in use by another process */
    LS_ERR_FORMAT = 13,   /* a format version this build does not read */
    LS_ERR_DIVERGED = 14, /* a peer contradicts a committed entry: the group is halted */
    LS_ERR_PROTOCOL = 15, /* bytes that break the protocol; the link is dropped */
    LS_ERR_NOT_FOUND = 16,      /* no such group, member, peer or entry */
    LS_ERR_COMPACTED = 17,      /* the entries asked for have been pruned */
    LS_ERR_MISMATCH = 18,       /* another group, machine, or incarnation than the one stored */
    LS_ERR_AUTH = 19,           /* the peer could not prove the network key */
    LS_ERR_WOULD_DEADLOCK = 20, /* a blocking wait on the loop's own thread */
    LS_ERR_REENTRANT = 21,      /* a machine must not call ls_group_* */
    LS_ERR_HALTED = 22,         /* the group stopped after a fault; ls_group_status tells which */
    LS_ERR_UNREACHABLE = 23     /* no link to that peer now; nothing was sent */
};

/** The sentence for a status, e.g. "a bounded queue is full". Never NULL; static. Any thread. */
LS_API const char *ls_status_text(enum ls_status status);

/**
 * Optional out-parameter of calls that can fail for a reason worth a sentence. The text reads
 * outermost first and carries the numbers: "open data/a: log of group 3f2a: index 17 follows 12".
 */
struct ls_error {
    enum ls_status status;
    char text[LS_ERROR_TEXT_BYTES];
};

/**
 * Fills `error` (may be NULL) with status and formatted text, cut at the size of the field, and
 * returns `status`, so that a failing function can end in `return ls_error_set(error, LS_ERR_IO,
 * "...", ...)`.
 */
LS_API enum ls_status ls_error_set(struct ls_error *error, enum ls_status status,
                                   const char *format, ...) LS_PRINTF(3, 4);

/** Puts "prefix: " before the text already in `error` (may be NULL); returns its status, or
 * `status` if NULL. */
LS_API enum ls_status ls_error_wrap(struct ls_error *error, enum ls_status status,
                                    const char *format, ...) LS_PRINTF(3, 4);

LS_EXTERN_C_END

#endif
