#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# alone.sh c|c++: every public header compiles by itself, included twice, as strict C11 or as C++17,
# without a warning.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

case $1 in
c)
    compile=("${CC:-cc}" -std=c11 -Wshadow -Wstrict-prototypes -Wmissing-prototypes)
    suffix=c
    ;;
c++)
    cxx=${CXX:-g++}
    if ! command -v "$cxx" >/dev/null; then
        echo "skipped: no C++ compiler here (looked for $cxx)"
        exit 77
    fi
    # no -Wshadow: in C++ a function called like a struct, as C allows, "hides a constructor"
    compile=("$cxx" -std=c++17)
    suffix=cc
    ;;
*)
    echo "usage: alone.sh c|c++" >&2
    exit 2
    ;;
esac

count=0
for header in "$root"/include/lockstep/*.h; do
    name=lockstep/$(basename "$header")
    {
        echo "#include <$name>"
        echo "#include <$name>"
        # a translation unit needs a declaration
        echo "extern int lockstep_header_seen;"
    } >"$out/one.$suffix"
    if ! "${compile[@]}" -Wall -Wextra -Wpedantic -Wconversion -Wundef -Werror \
        -I"$root/include" -fsyntax-only "$out/one.$suffix"; then
        echo "$name does not compile alone as $1" >&2
        exit 1
    fi
    count=$((count + 1))
done
[ "$count" -gt 0 ] || { echo "no public headers found" >&2; exit 1; }
echo "$count headers compile alone as $1"
