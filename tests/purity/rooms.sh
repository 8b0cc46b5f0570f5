#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# rooms.sh: who may see whom. A room includes <lockstep/...> and its own folder, never another
# room's header; each foreign library is known to the files listed here and to no other.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
rooms='consensus statesync storage transport machine'
failed=

complain() {
    echo "$1" >&2
    failed=yes
}

# 1. quoted includes name a header of the same folder; angle includes never name a room
for room in $rooms; do
    while IFS=: read -r file line text; do
        header=$(sed -E 's/.*"([^"]*)".*/\1/' <<<"$text")
        case $header in
        */* | ..*) complain "$file:$line: includes \"$header\", which is not of its own room" ;;
        *) [ -e "$room/$header" ] || complain "$file:$line: no $header in $room/" ;;
        esac
    done < <(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$room"/*.[ch] /dev/null)
    while IFS=: read -r file line text; do
        complain "$file:$line: $text"
    done < <(grep -nE "^[[:space:]]*#[[:space:]]*include[[:space:]]*<($(tr ' ' '|' <<<"$rooms"))/" \
        "$room"/*.[ch] /dev/null)
done

# 2. public contracts include only each other and the C library
while IFS=: read -r file line text; do
    complain "$file:$line: $text"
done < <(grep -nE '^[[:space:]]*#[[:space:]]*include' include/lockstep/*.h /dev/null |
    grep -vE '<(lockstep/[a-z]+|std(arg|bool|def|int)|string)\.h>')

# 3. a foreign library's headers and functions appear only where they belong
only() { # only <library> <pattern of its headers> <pattern of its functions> <files that may>
    while IFS=: read -r file line text; do
        case $file in
        $4) ;;
        *) complain "$file:$line: $1 does not belong here: $text" ;;
        esac
    done < <(grep -nE "^[[:space:]]*#[[:space:]]*include[[:space:]]*<($2)|\\b($3)[a-z0-9_]*\\(" \
        $(for room in $rooms; do echo "$room"/*.[ch]; done) /dev/null)
}
shopt -s extglob
only libevent 'event2?/|event\.h|evutil' \
    'event_(base|new|free|add|del|active|assign|get|pending|enable|set)|evbuffer_|bufferevent_|evutil_|evthread_' \
    '@(transport/*|machine/loop.c)'
only RocksDB 'rocksdb/' 'rocksdb_' 'storage/rocksdb*.c'
only msgpack 'msgpack' 'msgpack_' 'transport/@(codec*|wire*)'
only libsodium 'sodium' 'sodium_|crypto_|randombytes' 'transport/*'

rocksdb=$(grep -lE '#[[:space:]]*include[[:space:]]*<rocksdb/' storage/*.[ch] 2>/dev/null | wc -l || true)
[ "$rocksdb" -le 1 ] || complain "RocksDB is included by $rocksdb files of storage/, one is enough"

# 4. pure rooms: no threads, files or clocks by include
while IFS=: read -r file line text; do
    complain "$file:$line: $text"
done < <(grep -nE '^[[:space:]]*#[[:space:]]*include' consensus/*.[ch] statesync/*.[ch] /dev/null |
    grep -E '<' | grep -vE '<(lockstep/[a-z]+|std(bool|def|int)|string)\.h>')

[ -z "$failed" ] || exit 1
echo "rooms: every include points the right way"
