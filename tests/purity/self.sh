#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# self.sh: the purity checks themselves find what they look for. A copy of the tree gets one sin at a
# time, and each must be refused.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir -p "$copy/tests"
cp -r "$root"/{include,consensus,statesync,storage,transport,machine} "$copy"
cp -r "$root/tests/purity" "$copy/tests"

refused() { # refused <what> <file> <text> <command...>
    local what=$1 file=$copy/$2 text=$3
    shift 3
    printf '%s\n' "$text" >"$file"
    if "$@" >/dev/null 2>&1; then
        echo "not noticed: $what" >&2
        exit 1
    fi
    rm "$file"
    count=$((count + 1))
}
count=0
pure=$copy/tests/purity/pure.sh
rooms=$copy/tests/purity/rooms.sh

refused "a clock" consensus/sin.c \
    'long time(long *); long sin_now(void) { return time(0); }' "$pure" consensus
refused "an allocator" consensus/sin.c \
    'void *malloc(unsigned long); void *sin_take(void) { return malloc(8); }' "$pure" consensus
refused "a float" consensus/sin.c \
    'double sin_half(double x) { return x / 2; }' "$pure" consensus
refused "a writable global" consensus/sin.c \
    'static int calls; int sin_count(void) { return ++calls; }' "$pure" consensus
refused "another room's header" machine/sin.c '#include "../consensus/core_state.h"' "$rooms"
refused "another room's header by name" machine/sin.c '#include "no_such_header_here.h"' "$rooms"
refused "libevent in storage" storage/sin.c '#include <event2/event.h>' "$rooms"
refused "RocksDB in the machine" machine/sin.c '#include <rocksdb/c.h>' "$rooms"
refused "msgpack in a link" transport/sin.c '#include <msgpack.h>' "$rooms"
refused "sodium in the core" consensus/sin.c '#include <sodium.h>' "$rooms"
refused "stdio in the core" consensus/sin.c '#include <stdio.h>' "$rooms"
refused "a library in a contract" include/lockstep/sin.h '#include <event2/event.h>' "$rooms"
refused "a call of RocksDB" machine/sin.c 'void rocksdb_flush(void); void sin(void) { rocksdb_flush(); }' "$rooms"
refused "a call of sodium" storage/sin.c 'void sin(void) { randombytes_buf(0, 0); }' "$rooms"
echo "$count sins noticed"
