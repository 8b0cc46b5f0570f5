/* SPDX-License-Identifier: MIT */
/* What network.c and sockets.c share: the functions of the virtual net (transport/net.h). */
#ifndef LOCKSTEP_SIM_NET_H
#define LOCKSTEP_SIM_NET_H

#define ls__tcp_open_over sim_links_open /* as in cipher.h */
#include "../../transport/net.h"
#include "world.h"

/* self of each is the member */

void sim_net_prepare(void *self, struct ls__event *event);
bool sim_net_add(void *self, struct ls__event *event, uint64_t after_us);
void sim_net_remove(void *self, struct ls__event *event);
void sim_net_activate(void *self, struct ls__event *event);

int sim_socket_dial(void *self, const struct ls__address *address);
int sim_socket_listen(void *self, const struct ls__address *address);
int sim_socket_accept(void *self, int listener, struct ls__address *remote);
int sim_socket_failure(void *self, int descriptor);
ssize_t sim_socket_write(void *self, int descriptor, struct iovec *vectors, size_t count);
ssize_t sim_socket_read(void *self, int descriptor, void *out, size_t bytes);
void sim_socket_close(void *self, int descriptor);
/** An event of a descriptor is added; `on` false: removed. */
void sim_socket_watch(struct sim_member *member, struct ls__event *event, bool on);
/** An event of a descriptor fires soon, whatever there is. */
void sim_socket_activate(struct sim_member *member, const struct ls__event *event);

struct ls__net sim_net(struct sim_member *member);

#endif
