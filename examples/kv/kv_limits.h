/* SPDX-License-Identifier: MIT */
/*
 * Every limit of lockstep-kv, with unit, reason, and the relations between them. Over a limit is a
 * reply, a pause of reading, or a closed connection; never growth.
 */
#ifndef KV_LIMITS_H
#define KV_LIMITS_H

#include <lockstep/limits.h>

/* one key or value, bytes: what Redis calls proto-max-bulk-len */
#define KV_VALUE_BYTES_MAX (1u << 20)
/* one key, bytes: with its prefix it is the key of an item of a snapshot */
#define KV_KEY_BYTES_MAX (LS_ITEM_KEY_BYTES_MAX - 1u)
/* one whole command on the wire, bytes: it must fit one log entry with its framing */
#define KV_COMMAND_BYTES_MAX (LS_ENTRY_BYTES_MAX - (1u << 16))
/* arguments of one command */
#define KV_ARGUMENTS_MAX (1u << 20)
/* an inline command, or a line that announces a count, bytes: as Redis */
#define KV_LINE_BYTES_MAX (64u << 10)
/* before AUTH nobody may make us buffer much: as Redis */
#define KV_UNAUTHENTICATED_ARGUMENTS_MAX 10
#define KV_UNAUTHENTICATED_BULK_MAX      16384

/* bytes asked of a socket at a time, and the least that an input buffer offers */
#define KV_READ_BYTES (64u << 10)
/* replies waiting for one client: it is not served further until it has read some */
#define KV_OUTPUT_PAUSE_BYTES (1u << 20)
/* ... and where a single reply that is larger ends the connection */
#define KV_OUTPUT_BYTES_MAX (64u << 20)
/* writes of one client that are not answered yet */
#define KV_CLIENT_WRITES_MAX 4096u
/* writes collected and not yet taken by the group, bytes of all clients */
#define KV_STAGED_BYTES_MAX (8u << 20)
/* bytes handed over in one ls_group_execute_many; a larger command goes alone */
#define KV_PROPOSE_BYTES_MAX (1u << 20)
/* read barriers under way: one is enough for throughput, more shorten the wait */
#define KV_BARRIERS_MAX 4u
/* commands of one client in one loop turn, so that others get theirs */
#define KV_COMMANDS_PER_TURN 2048u
/* connected clients */
#define KV_CLIENTS_MAX 10000u
/* name of a client, bytes with the terminator */
#define KV_CLIENT_NAME_BYTES 64
/* how long a command may wait for a leader, ms */
#define KV_CALL_MS 5000u
/* how soon to offer writes again that the group had no room for, ms */
#define KV_BUSY_RETRY_MS 2

/* keys that one SCAN looks at, whatever COUNT says */
#define KV_SCAN_COUNT_DEFAULT 10u
#define KV_SCAN_COUNT_MAX     10000u
/* password, bytes */
#define KV_PASSWORD_BYTES_MAX 512u

/* memory of the state in RocksDB: its cache of blocks, bytes */
#define KV_ROCKSDB_CACHE_BYTES (8u << 20)
/* its memtables, which only a new directory uses, bytes */
#define KV_ROCKSDB_MEMTABLE_BYTES (1u << 20)
/* files that a read may have to look into before compactions get started, and before writes wait
 * for them */
#define KV_ROCKSDB_FILES_COMPACT 4
#define KV_ROCKSDB_FILES_MAX     12
/* a layer of the state in memory, there are two: from here on it is written, bytes. So 100 000 keys
 * with values of 128 bytes fit */
#define KV_LAYER_BYTES (20u << 20)
/* ... and here batches wait until the other one is written, bytes */
#define KV_LAYER_BYTES_MAX (24u << 20)
/* ... and it is written anyhow when so much was put, bytes: what a crash would have us apply again
 */
#define KV_LAYER_LOG_BYTES (32u << 20)
/* ... or when it has waited for so long: the log stays as long as the state is not written */
#define KV_LAYER_MS 10000u
/* files that the state in RocksDB keeps open: with those of the log it stays below what main.c
 * keeps back */
#define KV_ROCKSDB_FILES_OPEN 64
/* of a file of the state, bytes: what one GET reads, and what a walk over all handles one by one */
#define KV_ROCKSDB_BLOCK_BYTES (16u << 10)
/* read ahead by a walk over a picture: about a chunk of a snapshot, bytes */
#define KV_ROCKSDB_READAHEAD_BYTES (256u << 10)
/* a file of a state that is restored, bytes: as large as RocksDB's own */
#define KV_RESTORE_FILE_BYTES (64u << 20)
/* items on their way to the thread that builds it: bytes of a block, and how many of them wait */
#define KV_RESTORE_BLOCK_BYTES (2u << 20)
#define KV_RESTORE_BLOCKS_MAX  3u
/* states that were given up while they were built and still wait for the disk: then none begins */
#define KV_RESTORE_FORMER_MAX 4u
/* keys asked of RocksDB at once */
#define KV_LOOKUP_KEYS_MAX 256u

LS_STATIC_ASSERT(KV_VALUE_BYTES_MAX < KV_COMMAND_BYTES_MAX, "a value fits a command");
LS_STATIC_ASSERT(LS_ITEM_KEY_BYTES_MAX + 2u * KV_VALUE_BYTES_MAX < LS_ITEM_BYTES_MAX,
                 "a key with its value fits an item");
LS_STATIC_ASSERT(KV_COMMAND_BYTES_MAX < LS_ENTRY_BYTES_MAX, "a command fits an entry");
LS_STATIC_ASSERT(KV_OUTPUT_PAUSE_BYTES < KV_OUTPUT_BYTES_MAX, "the pause comes first");
LS_STATIC_ASSERT(KV_LAYER_BYTES < KV_LAYER_BYTES_MAX, "writing begins before batches wait");
LS_STATIC_ASSERT(KV_COMMAND_BYTES_MAX <= KV_STAGED_BYTES_MAX, "a command can be staged");

#endif
