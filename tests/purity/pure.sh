#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# pure.sh ROOM: builds every file of a pure room with fixed flags (no hardening, no instrumentation,
# general registers only), joins the objects, and fails if they need anything from the world that is
# not in the list below. A clock, an allocator, printf or a float would show up here by name.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
room=$1
cc=${CC:-cc}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

case $(uname -m) in
x86_64 | aarch64) registers=-mgeneral-regs-only ;;
*) registers= ;;
esac
flags=(-std=c11 -O2 -ffreestanding -fno-stack-protector -fcf-protection=none -fno-builtin-abort
    -U_FORTIFY_SOURCE -DLS_CHECK_INVARIANTS '-DLS_MUTANT(id)=0' -fno-pic -w)
[ "$(uname -m)" = x86_64 ] || flags=("${flags[@]/-fcf-protection=none/}")

objects=()
for source in "$root/$room"/*.c; do
    object=$out/$(basename "$source" .c).o
    # shellcheck disable=SC2086
    "$cc" ${flags[@]} $registers -I"$root/include" -I"$root/$room" -c "$source" -o "$object"
    objects+=("$object")
done
[ ${#objects[@]} -gt 0 ] || { echo "$room has no sources" >&2; exit 1; }
ld -r -o "$out/$room.o" "${objects[@]}"

# the last line: what gcc and clang may call on their own for 64 and 128 bit arithmetic
allowed='memcpy memmove memset memcmp bcmp strlen ls_assert_failed
    __udivti3 __umodti3 __udivdi3 __umoddi3 __popcountdi2 __clzdi2 __ctzdi2'
# data that the joined rooms may share with nobody: a writable global would be hidden state
foreign=
for symbol in $(nm -u "$out/$room.o" | awk '{print $2}'); do
    case " $(echo $allowed) " in
    *" $symbol "*) ;;
    *) foreign+=" $symbol" ;;
    esac
done
if [ -n "$foreign" ]; then
    echo "$room needs from the world:$foreign" >&2
    for symbol in $foreign; do
        for object in "${objects[@]}"; do
            nm -u "$object" | grep -qw "$symbol" && echo "  $symbol: $(basename "$object" .o).c" >&2
        done
    done
    exit 1
fi
state=$(nm "$out/$room.o" | awk '$2 ~ /^[bBdDC]$/ {print $3}')
if [ -n "$state" ]; then
    echo "$room keeps writable globals:" $state >&2
    exit 1
fi
echo "$room: ${#objects[@]} files, pure"
