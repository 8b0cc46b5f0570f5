/* SPDX-License-Identifier: MIT */
/*
 * The system calls of TCP: every descriptor nonblocking and close-on-exec, no write raises SIGPIPE.
 */
#ifndef LOCKSTEP_TRANSPORT_SOCKET_H
#define LOCKSTEP_TRANSPORT_SOCKET_H

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <lockstep/types.h>

struct ls__address {
    struct sockaddr_storage storage;
    socklen_t bytes;
};

#define LS__HOST_BYTES LS_ADDRESS_BYTES

/** Takes "host:port" or "[host]:port" apart. NULL, or what is wrong with it (static). */
const char *ls__address_split(const char *text, char host[LS__HOST_BYTES], char port[8]);

/** Resolves; `numeric`: without asking a name service, which may block. NULL, or the reason. */
const char *ls__address_resolve(const char *text, bool numeric, struct ls__address *out);

/** As text, for the user. */
void ls__address_text(const struct ls__address *address, char out[LS_ADDRESS_BYTES]);

/* Each returns a descriptor, or -1 with errno. */
int ls__socket_dial(const struct ls__address *address);
int ls__socket_listen(const struct ls__address *address);
int ls__socket_accept(int listener, struct ls__address *remote);

/** Pending error of a socket whose dialling ended; 0: it is connected. */
int ls__socket_error(int descriptor);

/** Bytes written, 0: it would block, -1: errno. */
ssize_t ls__socket_write(int descriptor, struct iovec *vectors, size_t count);

/** Bytes received, 0: the peer closed, -1: errno (EAGAIN: nothing there). */
ssize_t ls__socket_read(int descriptor, void *out, size_t bytes);

/** Sends what the kernel holds, discards what came, closes: without the second step the first may
 * be cut short by a reset. */
void ls__socket_close(int descriptor);

#endif
