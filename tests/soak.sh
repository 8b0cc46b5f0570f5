#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/soak.sh [minutes] [--seeds N] [--write]: fresh seeds of the simulator on all cores, each with 60
# virtual seconds of faults and, where the seed says so (one in four), with snapshots, for so many minutes (10)
# or so many seeds. Builds release first. Stops at the first seed that fails, dies or does not end: makes it
# smaller, and prints the seed, what went wrong, the end of the shortest failing trace and the command that
# replays it. A clean run ends with its totals.
#
#   --seeds N    exactly N seeds, however long that takes
#   --seconds N  virtual seconds with faults for each seed (60)
#   --write      put the totals into docs/testing.md, if all is committed
#
# The first seed is random and printed first; LS_SOAK_SEED=N begins with N. LS_SOAK_JOBS (all cores) is how
# many run at once, LS_SOAK_SIM=<program> takes a simulator that is already built, LS_SOAK_LIMIT (600) is how
# many real seconds four seeds may take.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
chunk=4 # seeds that one process runs
world=(--snapshots draw)
page=docs/testing.md

wrong() {
    echo "tests/soak.sh: $*" >&2
    exit 2
}
number() { # number <what> <value> <least>
    [[ $2 =~ ^(0|[1-9][0-9]{0,14})$ && $2 -ge $3 ]] || wrong "$1: '$2' is no number from $3"
}

minutes=10 seeds="" seconds=60 write=""
while [ $# -gt 0 ]; do
    case $1 in
    --seeds | --seconds)
        [ $# -gt 1 ] || wrong "$1 needs a number"
        number "$1" "$2" 1
        [ "$1" = --seeds ] && seeds=$2 || seconds=$2
        shift
        ;;
    --write) write=yes ;;
    -h | --help)
        sed -n '/^# tests/,/^[^#]/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -*) wrong "unknown option '$1': expected --seeds N, --seconds N or --write" ;;
    *)
        number minutes "$1" 1
        minutes=$1
        ;;
    esac
    shift
done
jobs=${LS_SOAK_JOBS:-$(nproc)} limit=${LS_SOAK_LIMIT:-600}
first=${LS_SOAK_SEED:-$(od -An -N5 -tu8 /dev/urandom | tr -d ' ')}
number LS_SOAK_SEED "$first" 0
number LS_SOAK_JOBS "$jobs" 1
number LS_SOAK_LIMIT "$limit" 1
[ -z "$write" ] || [ -z "$(git status --porcelain)" ] || wrong "--write: commit first, the totals name a commit"
echo "soak: seeds from $first (LS_SOAK_SEED=$first repeats), $seconds virtual seconds each, $jobs at once"

sim=${LS_SOAK_SIM:-build/release/bin/lockstep-sim}
out=$(mktemp -d)
declare -A running=() # process -> its first seed
finish() {
    [ ${#running[@]} = 0 ] || kill "${!running[@]}" 2>/dev/null || true
    wait
    rm -rf "$out"
}
trap finish EXIT
trap 'echo "soak: interrupted" >&2; exit 130' INT TERM

if [ -z "${LS_SOAK_SIM:-}" ]; then
    tools/packages.sh build test
    { cmake --preset release -DLS_TESTS=ON && cmake --build build/release --target lockstep-sim; } \
        >"$out/build.log" 2>&1 </dev/null || { cat "$out/build.log"; exit 2; }
fi
[ -x "$sim" ] || wrong "no simulator at $sim"

# report <first seed of the chunk> <status>: what failed, made small; never returns
report() {
    local log=$out/$1.log seed sentence replay trace
    seed=$(sed -n 's/^seed \([0-9]*\): members .*/\1/p' "$log" | tail -1)
    seed=${seed:-$1}
    sentence=$(sed -n "s/^seed $seed: \(.*\); events .*/\1/p" "$log" | grep -v '^clean$' | tail -1 || true)
    [ -n "$sentence" ] || sentence=$(grep -E 'assertion failed|ERROR: |runtime error|two runs differ' "$log" | tail -1 || true)
    case $2 in
    124 | 137) sentence="no end within $limit real seconds" ;;
    *) [ -n "$sentence" ] || sentence="the process ended with status $2" ;;
    esac
    echo
    echo "soak: seed $seed fails: $sentence"
    "$sim" --shrink --seed "$seed" --seconds "$seconds" "${world[@]}" >"$out/shrink.log" 2>&1 || true
    cat "$out/shrink.log"
    replay=$(sed -n 's/^replay: [^ ]* //p' "$out/shrink.log" | tail -1)
    if [ -z "$replay" ]; then
        echo "soak: seed $seed did not fail a second time, so it cannot be shrunk; its first run said:"
        tail -n 20 "$log"
        exit 1
    fi
    trace=build/soak/$seed.trace
    mkdir -p build/soak
    # shellcheck disable=SC2086 # the options of a replay are words
    { timeout "$limit" "$sim" $replay --trace >"$trace" 2>&1; } 2>/dev/null || true
    echo "soak: the end of $trace, $(wc -l <"$trace") lines:"
    tail -n 40 "$trace"
    if ! grep -q '^fault ' "$trace"; then # it died before it could list them
        echo "soak: the faults of this run:"
        grep 'ms  fault [0-9]*: ' "$trace" || true
    fi
    echo "soak: replay: $sim $replay --trace"
    exit 1
}

begun=$(date +%s) next=$first told=0
more() {
    if [ -n "$seeds" ]; then
        [ "$next" -lt $((first + seeds)) ]
    else
        [ $(($(date +%s) - begun)) -lt $((minutes * 60)) ]
    fi
}
while :; do
    while [ ${#running[@]} -lt "$jobs" ] && more; do
        count=$chunk
        [ -z "$seeds" ] || [ $((first + seeds - next)) -ge "$count" ] || count=$((first + seeds - next))
        timeout -k 5 "$limit" "$sim" --seed "$next" --count "$count" --seconds "$seconds" "${world[@]}" --totals \
            >"$out/$next.log" 2>&1 </dev/null &
        running[$!]=$next
        next=$((next + count))
    done
    [ ${#running[@]} -gt 0 ] || break
    status=0
    wait -n -p ended "${!running[@]}" 2>/dev/null || status=$?
    at=${running[$ended]}
    unset "running[$ended]"
    if [ $status != 0 ]; then
        [ ${#running[@]} = 0 ] || kill "${!running[@]}" 2>/dev/null || true
        running=()
        report "$at" $status
    fi
    grep '^totals: ' "$out/$at.log" >>"$out/totals"
    rm "$out/$at.log"
    if [ $((($(date +%s) - begun) / 60)) -gt $told ]; then
        told=$((($(date +%s) - begun) / 60))
        echo "soak: $told min, $(awk '{ n += $3 } END { print n }' "$out/totals") seeds clean"
    fi
done

# the totals of all processes: "name value" lines
awk '{
    for (i = 2; i < NF; i += 2) {
        if (!($i in sum)) { order[++names] = $i }
        sum[$i] += $(i + 1)
    }
} END { for (i = 1; i <= names; i++) { printf "%s %.0f\n", order[i], sum[order[i]] } }' "$out/totals" >"$out/sums"
sum() { sed -n "s/^$1 //p" "$out/sums"; }

{
    echo "| what | how many |"
    echo "|---|---|"
    echo "| commit, date | $(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown), $(date -u +%F) |"
    echo "| seeds | $(sum seeds), from $first, each with $seconds virtual seconds of faults, all clean |"
    awk -v s="$(sum virtual_seconds)" 'BEGIN { printf "| virtual time | %.1f hours |\n", s / 3600 }'
    awk -v s=$(($(date +%s) - begun)) -v n="$jobs" 'BEGIN { printf "| real time | %.1f minutes, %d at once |\n", s / 60, n }'
    echo "| operations checked | $(sum operations) |"
    echo "| snapshots | in $(sum with_snapshots) of the seeds, $(sum installs) were installed |"
    echo "| leader changes | $(sum leaders) |"
    echo "| events | $(sum events), $(sum messages) of them messages |"
    echo "| faults | $(awk '/^fault_/ { all += $2 } END { printf "%.0f", all }' "$out/sums"): $(
        sed -n 's/^fault_\([^ ]*\) \(.*\)/\1 \2/p' "$out/sums" | paste -sd, | sed 's/,/, /g') |"
} >"$out/table"
echo
sed 's/^| //; s/ |$//; s/ | /: /; /^|---/d; /^what: /d' "$out/table"

if [ -n "$write" ]; then
    begin='<!-- soak: written by tests/soak.sh --write -->' end='<!-- soak: end -->'
    for mark in "$begin" "$end"; do
        grep -qF "$mark" "$page" || wrong "--write: no place for the totals in $page"
    done
    awk -v begin="$begin" -v end="$end" -v table="$out/table" '
        $0 == end { inside = 0 }
        !inside { print }
        $0 == begin { inside = 1; while ((getline line < table) > 0) { print line } }' "$page" >"$out/page"
    cp "$out/page" "$page"
    echo "soak: totals written to $page"
fi
