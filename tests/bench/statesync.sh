#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/bench/statesync.sh: how fast a member of four is brought back, by snapshot and by log replay,
# what that costs the others, and the limits of this machine beside it (statesync.c, catchup.c; what
# each line means: README.md). Judges nothing and is no test: a figure is worth something only on a
# machine that does nothing else.
set -euo pipefail

usage() {
    cat <<'END_OF_USAGE'
usage: tests/bench/statesync.sh [--quick] [--runs N] [PART...]

  --quick    one run with 128 MiB: for seeing that everything works
  --runs N   of each measurement (default: 3)

Parts, all when none is named:
  back       a state comes back by snapshot: rate, shares, processor time, memory, freeze
  kill       the same, with kill -9 of the member, of a provider, of the leader
  load       a smaller one, while the leader has 256 writes in flight
  limit      twice the state, each process within 256 MiB
  replay     a million entries of 128 bytes come back by log replay
END_OF_USAGE
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
runs=3 mib=1024 large=2048 loaded=256 entries=1000000
parts=()
while [ $# -gt 0 ]; do
    case $1 in
    --quick) runs=1 mib=128 large=256 loaded=128 entries=200000 ;;
    --runs) runs=${2:?} && shift ;;
    -h | --help) usage; exit 0 ;;
    back | kill | load | limit | replay) parts+=("$1") ;;
    *) echo "statesync.sh: unknown argument $1 (try --help)" >&2; exit 2 ;;
    esac
    shift
done
[[ $runs =~ ^[1-9][0-9]?$ ]] || { echo "statesync.sh: --runs $runs: expected 1 to 99" >&2; exit 2; }
[ ${#parts[@]} -gt 0 ] || parts=(back kill load limit replay)

statesync() { build/bench/bin/bench_statesync --runs "$runs" "$@"; }

# replay: bench_catchup prints a line "replay RATE entries/s ..." each time
replay() {
    local run
    printf '\nlog replay of %s entries of 128 bytes, three members in one process, one comes back\n' \
        "$entries"
    for ((run = 0; run < runs; run++)); do
        build/bench/bin/bench_catchup --entries "$entries"
    done | awk '$1 == "replay" { print $2 }' | sort -n | awk '{ v[NR] = $1 } END {
        printf "%-38s %10s %10s %10s %6s  %s\n", "", "min", "median", "max", "", "goal"
        printf "%-38s %10d %10d %10d %6s  %s\n", "entries replayed in a second", v[1],
            (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2, v[NR], "", ">= 600000" }'
}

cd "$root"
cmake --preset release -B build/bench -DLS_TESTS=ON >/dev/null
cmake --build build/bench --target bench_statesync bench_catchup lockstep-kv >/dev/null
printf 'load average before: %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" >&2
for part in "${parts[@]}"; do
    case $part in
    back) statesync --mib "$mib" ;;
    kill) for who in lagging provider leader; do statesync --mib "$mib" --kill "$who"; done ;;
    load) statesync --mib "$loaded" --load ;;
    limit) statesync --mib "$large" --limit 256 ;;
    replay) replay ;;
    esac
done
