#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/style.sh [--fix] [files...]: .clang-format and .clang-tidy are law. Formats every .c and .h
# (--fix rewrites them, otherwise a difference is an error), then runs clang-tidy over the
# library and the examples with the dev preset's flags. With files: only these.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

fix=
if [ "${1:-}" = --fix ]; then
    fix=yes
    shift
fi
if [ $# -gt 0 ]; then
    files=("$@")
else
    mapfile -t files < <(git ls-files --cached --others --exclude-standard -- '*.c' '*.h' |
        while read -r file; do [ -e "$file" ] && echo "$file"; done)
fi

if [ -n "$fix" ]; then
    clang-format -i "${files[@]}"
fi
echo "clang-format: ${#files[@]} files"
clang-format --dry-run -Werror "${files[@]}"

# tests are formatted but not analysed: cmocka's macros and deliberate faults are what it would find
sources=()
for file in "${files[@]}"; do
    case $file in
    tests/* | *.h) ;;
    *.c) sources+=("$file") ;;
    esac
done
if [ "${#sources[@]}" = 0 ]; then
    exit 0
fi
cmake --preset dev >/dev/null # also when there is a build: its commands may be older than the lists
echo "clang-tidy: ${#sources[@]} files"
start=$SECONDS
# clang knows other warnings than gcc, whose flags these are
if ! printf '%s\n' "${sources[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy -p build/dev --quiet \
    --extra-arg=-Wno-unknown-warning-option >build/dev/tidy.log 2>&1; then
    grep -A 2 -E '(error|warning): ' build/dev/tidy.log || cat build/dev/tidy.log
    echo "clang-tidy: failed; how the analyser got there is in build/dev/tidy.log" >&2
    exit 1
fi
echo "style: clean ($((SECONDS - start)) s)"
