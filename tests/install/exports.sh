#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# exports.sh <include directory> <liblockstep.so>: the shared library exports what the public headers
# declare as LS_API (sim.h is of another library, which is static), nothing else and nothing less.
set -euo pipefail
export LC_ALL=C
include=$1
library=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# a declaration runs from LS_API to its semicolon; its name is the first ls_word before a parenthesis
cat "$include"/lockstep/*.h |
    awk '/^[[:space:]]*(LS_API|LS_NODISCARD)/ { open = 1; text = "" }
         open { text = text " " $0 }
         open && /;/ { open = 0; if (text ~ /LS_API/ && match(text, /ls_[a-z0-9_]+\(/)) {
             print substr(text, RSTART, RLENGTH - 1) } }' | sort -u >"$work/declared"
nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' |
    sort -u >"$work/exported"

if ! [ -s "$work/declared" ] || ! [ -s "$work/exported" ]; then
    echo "nothing declared or nothing exported: the check does not see anything" >&2
    exit 1
fi
extra=$(comm -13 "$work/declared" "$work/exported")
lacking=$(comm -23 "$work/declared" "$work/exported")
[ -z "$extra" ] || printf 'exported, but declared in no public header:\n%s\n' "$extra" >&2
[ -z "$lacking" ] || printf 'declared in a public header, but not exported:\n%s\n' "$lacking" >&2
echo "$(wc -l <"$work/exported") functions exported"
[ -z "$extra$lacking" ]
