/* SPDX-License-Identifier: MIT */
/*
 * Every limit, with unit, reason, and the relations between them. Over a limit is back-pressure or
 * a refusal (a status), never growth.
 */
#ifndef LOCKSTEP_LIMITS_H
#define LOCKSTEP_LIMITS_H

#include <lockstep/macros.h>

/* text of an error, bytes with the terminator: a path, a reason and a few numbers */
#define LS_ERROR_TEXT_BYTES 512
/* member and group names, bytes with the terminator: they appear in file names, flags and tables */
#define LS_NAME_BYTES 64
/* "host:port", bytes with the terminator: 253 for a DNS name would not fit, an address literal does
 */
#define LS_ADDRESS_BYTES 128
/* machine signature, bytes: names a command language, e.g. "lockstep-kv/1" */
#define LS_SIGNATURE_BYTES_MAX 128

/* members of a configuration: replication to more is a job for observers of observers */
#define LS_MEMBERS_MAX 31
/* voters: beyond 7 the quorum costs more than the failures it survives; room for joint sets */
#define LS_VOTERS_MAX 15
/* groups in one node: each costs a ring, a bond per peer and a guard file */
#define LS_GROUPS_MAX 1024

/* one entry's payload, bytes */
#define LS_ENTRY_BYTES_MAX (8u << 20)
/* entries and payload bytes of one AppendEntries; one entry is always sent, however large */
#define LS_APPEND_ENTRIES_MAX 4096u
#define LS_APPEND_BYTES_MAX   (1u << 20)
/* entries and payload bytes of one proposal (ls_group_execute_many): it fits a message, so that it
 * can be forwarded */
#define LS_PROPOSE_ENTRIES_MAX 4096u
#define LS_PROPOSE_BYTES_MAX   (16u << 20)
/* one encoded message on a bond, bytes: the largest append is one over-long entry or a full batch
 */
#define LS_MESSAGE_BYTES_MAX (18u << 20)
/* one encrypted frame, bytes: a message is cut into frames so that decryption needs a small buffer
 */
#define LS_FRAME_BYTES_MAX (256u << 10)
/* bytes waiting to be sent to one peer, per lane; over it: LS_ERR_BUSY. Holds the largest message
 */
#define LS_SEND_QUEUE_BYTES_MAX (32u << 20)
/* inbound connections that have not proven the key yet; one more ends the oldest of them, so that a
 * flood exhausts no descriptors and a peer that proves itself quickly still gets through */
#define LS_HANDSHAKES_MAX 64u
/* peers that one node keeps links to: members of all its groups */
#define LS_LINKS_MAX 1024u

/* bytes of AppendEntries in flight to one follower before the leader waits for an acknowledgement
 */
#define LS_WINDOW_BYTES_DEFAULT (4u << 20)
/* the leader's entry cache: what it can send again itself; beyond it a member needs state sync */
#define LS_CACHE_BYTES_DEFAULT (16u << 20)
#define LS_CACHE_ENTRIES_MAX   (1u << 16)
/* runs of terms kept by the core, 16 bytes each: one for each change of leader since the anchor, so
 * a million takes weeks of nothing but elections; beyond it the group halts */
#define LS_TRAIL_RUNS_MAX (1u << 20)
/* persist batches in flight per group: the writer double-buffers, so few are ever used */
#define LS_PERSIST_BATCHES_MAX 4096u
/* bytes staged in a store for its next write; over it: LS_ERR_BUSY. The budgets of calls, windows
 * and replay keep far below it, so it only ends an overload that none of them saw */
#define LS_STORAGE_STAGED_BYTES_MAX (64u << 20)
/* memory of the durable store for entries that are not in its tables yet */
#define LS_STORAGE_WRITE_BUFFER_BYTES_DEFAULT (32u << 20)
/* reads waiting for a confirmation round, per group */
#define LS_READS_MAX 4096u
/* proposals: bytes accepted and not yet applied, per group; over it: LS_ERR_BUSY */
#define LS_IN_FLIGHT_BYTES_DEFAULT (16u << 20)
#define LS_IN_FLIGHT_CALLS_MAX     (1u << 16)

/* entries and bytes of one log-replay range */
#define LS_REPLAY_ENTRIES_MAX      2000u
#define LS_REPLAY_BYTES_MAX        (1u << 20)
#define LS_REPLAY_WINDOW           2u
#define LS_REPLAY_BUFFER_BYTES_MAX (16u << 20)
#define LS_REPLAY_TIMEOUT_MS       5000u
#define LS_REPLAY_LEASE_MS         30000u
#define LS_REPLAY_KEEP_ENTRIES     100000u
/* ... or so many bytes, whichever is less: replay stays possible for short absences */
#define LS_REPLAY_KEEP_BYTES (64u << 20)
/* requests in flight per peer, whatever the options say: more only fills queues */
#define LS_REPLAY_WINDOW_MAX 8u
/* ranges a session keeps track of: asked for or fetched out of order, for LS_MEMBERS_MAX sources */
#define LS_REPLAY_RANGES_MAX 128u
/* requests a provider keeps for a peer whose queue is full; more are dropped and asked again */
#define LS_REPLAY_PENDING_MAX 4u

/* one item of a machine's state, key and value, bytes: with the head of a message it fits one */
#define LS_ITEM_BYTES_MAX (8u << 20)
/* its key: keys of first items are kept in memory, one for each chunk */
#define LS_ITEM_KEY_BYTES_MAX (64u << 10)
/* chunks of a snapshot, bytes: small enough to lose little with each, large enough to be few */
#define LS_SNAPSHOT_CHUNK_BYTES_MIN (256u << 10)
#define LS_SNAPSHOT_CHUNK_BYTES_MAX (8u << 20)
/* about so many chunks has a state that is larger than these smallest ones */
#define LS_SNAPSHOT_CHUNKS_USUAL 16384u
#define LS_SNAPSHOT_CHUNKS_MAX   65536u
/* memory of one table of chunks: hash, counts and first key of each */
#define LS_SNAPSHOT_TABLE_BYTES_MAX (8u << 20)
/* bytes of chunks a session has asked for or holds, and of answers a provider holds */
#define LS_SNAPSHOT_BUFFER_BYTES_MAX (16u << 20)
/* chunks asked for and not answered, per peer */
#define LS_SNAPSHOT_WINDOW     4u
#define LS_SNAPSHOT_WINDOW_MAX 8u
#define LS_SNAPSHOT_TIMEOUT_MS 5000u
/* a frozen state is kept for so long after the last request for it */
#define LS_SNAPSHOT_LEASE_MS 30000u
/* without a marker for so long a single peer is asked to freeze where it stands */
#define LS_SNAPSHOT_MARKER_MS 2000u
/* a marker further behind the leader's commit is history and freezes nothing */
#define LS_SNAPSHOT_MARKER_ENTRIES_MAX 10000u
/* bytes of snapshots a member serves in a second */
#define LS_SNAPSHOT_RATE_BYTES_DEFAULT (128u << 20)
/* entries committed in a second from which on a group is busy: then a session fetches no more than
 * so many bytes in a second, and a provider serves no more than a quarter of its rate */
#define LS_SNAPSHOT_BUSY_ENTRIES 500u
#define LS_SNAPSHOT_BUSY_BYTES   (32u << 20)
/* sources whose tables of chunks are compared */
#define LS_SNAPSHOT_SOURCES 2u
/* frozen states of one member */
#define LS_SNAPSHOT_ANCHORS_MAX 2u
/* bytes written to a file of a vault before a sync of them begins; no more than twice as many wait
 * for the disk, so that neither a write nor the last sync takes long */
#define LS_VAULT_UNSYNCED_BYTES (32u << 20)
/* entries applied between two snapshot files of a machine in memory */
#define LS_SNAPSHOT_ENTRIES_DEFAULT 100000u
/* entries by which a member may lag before it is left to a snapshot */
#define LS_LAG_ENTRIES_DEFAULT 200000u
/* ... and bytes of the log: a snapshot of most states is quicker than that */
#define LS_LAG_BYTES_DEFAULT (256u << 20)
/* entries, or bytes, that are pruned at a time, by a group with the snapshot strategy */
#define LS_PRUNE_ENTRIES_DEFAULT 10000u
#define LS_PRUNE_BYTES_DEFAULT   (16u << 20)
/* bytes of the log that members, sessions and leases together may hold of it, where a snapshot can
 * bring back who comes too late: a disk is not filled for anybody */
#define LS_LOG_PINNED_BYTES_MAX (1u << 30)
/* bytes of the log after which a machine in memory gets its next snapshot file, whatever the number
 * of entries */
#define LS_SNAPSHOT_LOG_BYTES_DEFAULT (256u << 20)
/* payload of a marker entry, with the place of its state sync in the list */
#define LS_SYNC_MARKER_BYTES_MAX 64u

/* state syncs in the list of a group: a strategy, its fallback, and room for a user's own */
#define LS_STATESYNCS_MAX 8u
/* before a failed catch-up, or one that reached nothing new, is tried again; doubled up to 2^8 s */
#define LS_SYNC_RETRY_MS_DEFAULT     5000u
#define LS_SYNC_BACKOFF_EXPONENT_MAX 8u
/* without progress for so long a catch-up has failed: twice a deadline of 60 s */
#define LS_SYNC_WATCHDOG_MS_DEFAULT 120000u
/* failures of one state sync before the next legal one has its turn */
#define LS_SYNC_FAILURES_MAX 3u
/* text of why a state sync was chosen, bytes with the terminator: two names and a few numbers */
#define LS_SYNC_TEXT_BYTES 192
/* after a wrong answer a peer is left alone for a while, longer with each; after so many it is
 * blocked for so long. Old ones are forgotten */
#define LS_SYNC_STRIKES_MAX 3u
#define LS_SYNC_STRIKE_MS   1000u
#define LS_SYNC_BLOCK_MS    30000u
#define LS_SYNC_FORGET_MS   600000u
/* no peer has anything for a state sync for so long: another one may have its turn */
#define LS_SYNC_WAITING_MS_MAX 10000u

/* values of one decoded state-sync message: term, kind and payload of each entry, and a head */
#define LS_VALUES_MAX (3u * LS_REPLAY_ENTRIES_MAX + 64u)
/* nesting of a decoded message */
#define LS_DECODE_DEPTH_MAX 8u

#define LS_ELECTION_MS_DEFAULT      1000u
#define LS_HEARTBEAT_MS_DEFAULT     100u
#define LS_CALL_DEADLINE_MS_DEFAULT 5000u
#define LS_CLOSE_MS_DEFAULT         5000u

/* entries applied in one loop turn before the loop looks at its sockets again */
#define LS_APPLY_ENTRIES_PER_TURN 4096u

LS_STATIC_ASSERT(LS_VOTERS_MAX <= LS_MEMBERS_MAX, "voters are members");
LS_STATIC_ASSERT(LS_ENTRY_BYTES_MAX + LS_APPEND_BYTES_MAX < LS_MESSAGE_BYTES_MAX,
                 "an over-long entry fits a message");
LS_STATIC_ASSERT(LS_ENTRY_BYTES_MAX <= LS_PROPOSE_BYTES_MAX, "one entry fits a proposal");
LS_STATIC_ASSERT(LS_PROPOSE_BYTES_MAX + 64u * LS_PROPOSE_ENTRIES_MAX < LS_MESSAGE_BYTES_MAX,
                 "a proposal can be forwarded");
LS_STATIC_ASSERT(LS_MESSAGE_BYTES_MAX < LS_SEND_QUEUE_BYTES_MAX, "one message fits an empty queue");
LS_STATIC_ASSERT(LS_ENTRY_BYTES_MAX < LS_IN_FLIGHT_BYTES_DEFAULT, "one entry fits the budget");
LS_STATIC_ASSERT(LS_REPLAY_BYTES_MAX + LS_ENTRY_BYTES_MAX < LS_MESSAGE_BYTES_MAX,
                 "a range fits a message");
LS_STATIC_ASSERT(LS_IN_FLIGHT_BYTES_DEFAULT + LS_REPLAY_BUFFER_BYTES_MAX <
                     LS_STORAGE_STAGED_BYTES_MAX,
                 "what is accepted can be staged");
LS_STATIC_ASSERT(LS_ITEM_BYTES_MAX + 4096u < LS_MESSAGE_BYTES_MAX, "an item fits a message");
LS_STATIC_ASSERT(LS_SNAPSHOT_CHUNK_BYTES_MAX <= LS_ITEM_BYTES_MAX,
                 "a chunk is no larger than the largest item");
LS_STATIC_ASSERT(LS_SNAPSHOT_CHUNK_BYTES_MAX < LS_VAULT_UNSYNCED_BYTES,
                 "not every chunk waits for the disk");
LS_STATIC_ASSERT(LS_SNAPSHOT_CHUNKS_USUAL * 2u < LS_SNAPSHOT_CHUNKS_MAX, "what is usual fits");
LS_STATIC_ASSERT(2u * LS_HEARTBEAT_MS_DEFAULT < LS_ELECTION_MS_DEFAULT,
                 "one lost heartbeat is no election");

#endif
