#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# script_test.sh <examples/cluster.sh> <lockstep-kv>: what cluster.sh promises, step by step.
set -euo pipefail
script=$1
program=$2
work=$(mktemp -d /tmp/lockstep-script-XXXXXX)
cd / # it works from anywhere
bystander=
finish() {
    cluster down >/dev/null 2>&1 || true
    [ -z "$bystander" ] || kill "$bystander" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

cluster() { "$script" --dir "$work" --bin "$program" "$@"; }
fail() {
    echo "script_test: $*" >&2
    exit 1
}
# expect <text> <command...>: succeeds, and prints the text
expect() {
    local text=$1 out
    shift
    out=$("$@" 2>&1) || fail "'$*' failed: $out"
    [[ $out == *"$text"* ]] || fail "'$*' printed '$out', expected '$text'"
}
# refuse <exit code> <text> <command...>
refuse() {
    local code=$1 text=$2 out got=0
    shift 2
    out=$("$@" 2>&1) || got=$?
    [ "$got" = "$code" ] || fail "'$*' exited with $got, expected $code: $out"
    [[ $out == *"$text"* ]] || fail "'$*' printed '$out', expected '$text'"
}
# eventually <text> <command...>: prints the text within 30 s
eventually() {
    local text=$1 end=$((SECONDS + 30)) out
    shift
    until out=$("$@" 2>&1) && [[ $out == *"$text"* ]]; do
        [ "$SECONDS" -lt "$end" ] || fail "'$*' never printed '$text'; last: $out"
        sleep 0.05
    done
}
pid_of() { cluster members | awk -v n="$1" '$1 == n { print $4 }'; }

expect "usage:" cluster --help
refuse 2 "no command" cluster
refuse 2 "unknown command" cluster fly
refuse 2 "expected 1 to 9" cluster up 12
refuse 1 "there is no cluster" cluster status
refuse 1 "is not a program" "$script" --dir "$work" --bin "$work/nothing" up 3

expect "leader" cluster up 3
refuse 1 "a cluster of 3" cluster up 5
refuse 1 "no member 'z'" cluster kill z
expect "OK" cluster cli a SET key value
expect "value" cluster cli b GET key

# kill -9 is noticed, the others go on, and start brings it back with its data
first=$(pid_of a)
cluster kill a
[ "$(pid_of a)" = - ] || fail "a still runs after kill"
[ ! -e "/proc/$first" ] || [ "$(awk '{ print $3 }' "/proc/$first/stat")" = Z ] || fail "$first lives"
expect "not running" cluster status
refuse 1 "does not run" cluster kill a
eventually "OK" cluster cli b SET key later
cluster start a
expect "runs already" cluster start a
eventually "later" cluster cli a GET key

# a process that we did not start is never ended, even if its pid is in our notes
sleep 1000 &
bystander=$!
cluster stop b
echo "$bystander 1" >"$work/b/pid"
[ "$(pid_of b)" = - ] || fail "a stranger's pid is taken for a member"
refuse 1 "does not run" cluster kill b
cluster stop b
kill -0 "$bystander" || fail "the bystander was ended"

cluster stop
expect "not running" cluster status
cluster start
eventually "later" cluster cli c GET key
last=$(pid_of c)
echo note >"$work/mine"
expect "kept" cluster down
[ ! -e "/proc/$last" ] || [ "$(awk '{ print $3 }' "/proc/$last/stat")" = Z ] || fail "$last outlived down"
[ "$(ls "$work")" = mine ] || fail "down removed or left the wrong files: $(ls "$work")"
expect "there is no cluster" cluster down
kill -0 "$bystander" || fail "the bystander was ended"
echo "cluster.sh keeps its promises"
