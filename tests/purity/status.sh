#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Every status in status.h is produced by a room and expected by an assertion of a test: a status that nothing returns
# is removed (its number stays unused), and one that no test meets is not known to work.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)

# statements on one line each, without the table of sentences
statements() { find "$@" -name '*.c' ! -path '*/machine/words.c' -exec cat {} + | tr '\n' ' ' | tr ';' '\n'; }

produced=$(cd "$root" && statements consensus statesync machine storage transport | grep -vE '^[^=]*\bcase LS_[A-Z_]*: *$')
expected=$(cd "$root" && statements tests | grep -E '\b(assert[a-z_]*|refused|check_status)\(')
failed=0
for status in $(grep -oE '^ *LS_[A-Z_]+ *=' "$root/include/lockstep/status.h" | grep -oE 'LS_[A-Z_]+'); do
    grep -qE "(return|[^=!<>]=|[?:,(]) *$status\b" <<<"$produced" ||
        { echo "$status: no room produces it"; failed=1; }
    grep -qE "\b$status\b" <<<"$expected" || [ "$status" = LS_OK ] ||
        { echo "$status: no test expects it"; failed=1; }
done
exit $failed
