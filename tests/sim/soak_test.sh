#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# soak_test.sh <folder of programs> [mutant that dies]: tests/soak.sh is clean on the simulator, finds and
# shrinks what mutants of it do wrong, and leaves nothing running.
set -euo pipefail
bin=$1 dies=${2:-}
soak=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/soak.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LS_SOAK_JOBS=2 LS_SOAK_SEED=1
fail() {
    echo "$*" >&2
    cat "$work/out" >&2
    exit 1
}
# ends <status> <simulator> <argument...>: runs the soak; its output is in $work/out
ends() {
    local wanted=$1 status=0
    LS_SOAK_SIM=$2 "$soak" "${@:3}" >"$work/out" 2>&1 </dev/null || status=$?
    [ $status = "$wanted" ] || fail "status $status instead of $wanted: soak.sh ${*:3}"
}
says() { grep -q -- "$1" "$work/out" || fail "nowhere: $1"; }

# clean, and exactly so many seeds, some of them with snapshots
ends 0 "$bin/lockstep-sim" --seeds 5 --seconds 5
says '^seeds: 5, from 1, '
says '^snapshots: in [1-5] of the seeds, '

# wrong words
for wrong in --seed 0 01 -3 ten '--seeds' '--seeds 0' '--seconds x'; do
    # shellcheck disable=SC2086
    ends 2 "$bin/lockstep-sim" $wrong
    says '^tests/soak.sh: '
done
ends 2 "$work/none"
says 'no simulator'

# replays <program>: the command that was printed, as words
replays() { sed -n 's/^replay: [^ ]* //p' "$work/out" | tail -1; }

# a leader that answers reads without asking anyone: found, made smaller, and what is printed replays it
LS_SOAK_SEED=1000 ends 1 "$bin/soak_mutant_R3" --seeds 400 --seconds 20
says '^soak: seed [0-9]* fails: ' # not linearizable, most likely
says '^soak: replay: '
replay=$(replays)
[[ $replay == *' --snapshots draw'* ]] || fail "the seed would decide something else: $replay"
# smaller in one way or the other: which one depends on where that seed fails
[[ $replay == *--skip* || $replay == *--without* || $replay != *'--seconds 20'* ]] ||
    fail "nothing was found to be needless: $replay"
# shellcheck disable=SC2086
! "$bin/soak_mutant_R3" $replay >"$work/out" 2>&1 || fail "the replay does not fail: $replay"
# shellcheck disable=SC2086
"$bin/lockstep-sim" $replay >"$work/out" 2>&1 || fail "the replay fails without the mutant, too: $replay"

# one that dies of an assertion
if [ -n "$dies" ]; then
    ends 1 "$bin/$dies" --seeds 400 --seconds 5
    says '^soak: seed [0-9]* fails: .*assertion failed'
    says '^shrink: after [0-9]* attempts it fails .*assertion failed'
    says '^ *[0-9.]* ms  '
    says '^soak: replay: '
fi

# interrupted: nobody stays behind
LS_SOAK_SIM=$bin/lockstep-sim "$soak" 10 >"$work/out" 2>&1 </dev/null &
pid=$!
until children=$(pgrep -P $pid timeout | paste -sd,) && [ -n "$children" ] &&
    grandchildren=$(pgrep -P "$children") && [ -n "$grandchildren" ]; do
    kill -0 $pid 2>/dev/null || fail "the soak ended by itself"
done
kill -TERM $pid
status=0
wait $pid || status=$?
[ $status = 130 ] || fail "status $status of an interrupted soak"
for child in $grandchildren; do
    ! kill -0 "$child" 2>/dev/null || fail "process $child was left running"
done

# --write: the table goes between the two marks, and only when all is committed
tree=$work/tree
mkdir -p "$tree/tests" "$tree/docs"
cp "$soak" "$tree/tests/"
printf 'before\n<!-- soak: written by tests/soak.sh --write -->\nold\n<!-- soak: end -->\nafter\n' \
    >"$tree/docs/testing.md"
(cd "$tree" && git init -q && git add -A &&
    git -c user.name=t -c user.email=t@t -c commit.gpgsign=false commit -qm t)
soak=$tree/tests/soak.sh
ends 0 "$bin/lockstep-sim" --seeds 3 --seconds 5 --write
cp "$tree/docs/testing.md" "$work/out"
says '^before$' && says '^after$' && says '^| seeds | 3, from 1' && says '^| faults | [0-9]*: crash '
! grep -q '^old$' "$work/out" || fail "the old totals are still there"
ends 2 "$bin/lockstep-sim" --seeds 3 --seconds 5 --write
says 'commit first'
