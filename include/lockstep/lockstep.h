/* SPDX-License-Identifier: MIT */
/*
 * Everything a user of the library needs. A member of a group, from open to close
 * (examples/counter.c, and examples/kv/main.c for processes, disks and sockets):
 *
 *     ls_key_read, ls_identity_founder            identity.h   who it is; the key is the same on
 * all ls_storage_rocksdb_open                     storage.h    a directory of its own
 *     ls_transport_tcp_open                       transport.h
 *     ls_node_options_init, ls_node_open          node.h       takes store and transport over
 *     ls_group_options_init, ls_group_join        group.h      with the machine (machine.h)
 *     ls_group_when(LS_WHEN_ONLINE), ls_group_execute, ls_group_query, ls_group_status
 *     ls_node_close, then (when it is closed) ls_identity_close
 *
 * A struct that begins with `size` is set up by its _init function where it has one, else with
 * .size = sizeof it and zeros: zero means the default. Names of statuses: status.h.
 *
 * Link with `pkg-config lockstep`; a program that has an event_base of its own also with
 * `libevent_core`.
 */
#ifndef LOCKSTEP_LOCKSTEP_H
#define LOCKSTEP_LOCKSTEP_H

#include <lockstep/group.h>
#include <lockstep/identity.h>
#include <lockstep/machine.h>
#include <lockstep/node.h>
#include <lockstep/statesync.h>

#endif
