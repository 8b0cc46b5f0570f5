#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/bench/sim.sh [seeds]: how much faster than real time the simulator is, on one core, in release, with five
# members. Of the seeds (100) those count that had at least 100 operations and one fault in each virtual
# second; prints minimum, median and maximum. The goal is a median of 500 at that load: the clients aim at a little
# more (faults and the end of a run let a part of it be done). Then the same at the load that each seed draws.
#
#   LS_BENCH_BUILD       where the release build lies (build/release)
#   LS_BENCH_SECONDS     virtual seconds with faults of each seed (60)
#   LS_BENCH_OPERATIONS  what clients aim at in each of them (130)
#   LS_BENCH_WORKLOAD    which one (register)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
seeds=${1:-100} build=${LS_BENCH_BUILD:-build/release} operations=${LS_BENCH_OPERATIONS:-130}
case $seeds in
'' | *[!0-9]* | 0*)
    echo "tests/bench/sim.sh: '$seeds' is no number of seeds" >&2
    exit 2
    ;;
esac
[ -e "$build/build.ninja" ] || cmake --preset release >/dev/null
ninja -C "$build" lockstep-sim >/dev/null

measure() {
    "$build/bin/lockstep-sim" --seed 1 --count "$seeds" --members 5 --seconds "${LS_BENCH_SECONDS:-60}" \
        --workload "${LS_BENCH_WORKLOAD:-register}" "$@" |
        sed -nE 's/.*: speed: ([0-9.]+) virtual seconds, in each ([0-9.]+) operations and ([0-9.]+) faults; ([0-9]+) .*/\1 \2 \3 \4/p' |
        awk '
        function line(name, values, count,   i, j, v) {
            for (i = 2; i <= count; i++) {
                v = values[i]
                for (j = i - 1; j > 0 && values[j] > v; j--) { values[j + 1] = values[j] }
                values[j + 1] = v
            }
            printf "  %-22s min %8.1f  median %8.1f  max %8.1f\n", name, values[1], values[int((count + 1) / 2)], values[count]
        }
        {
            seconds += $1; real += $1 / $4
            all[NR] = $4 + 0
            if ($2 >= 100 && $3 >= 1) { n++; operations[n] = $2 + 0; faults[n] = $3 + 0; ratio[n] = $4 + 0 }
        }
        END {
            if (NR == 0) { print "no seed ran to its end"; exit 1 }
            printf "  %d seeds, %d virtual seconds; %d with >= 100 operations and >= 1 fault in each\n", NR, seconds, n
            if (n > 0) {
                line("operations a second", operations, n)
                line("faults a second", faults, n)
                line("times real time", ratio, n)
            }
            line("times real time, all", all, NR)
            printf "  all together: %.0f times real time\n", seconds / real
        }'
}

echo "clients aim at $operations operations a second"
measure --operations "$operations"
echo "clients ask as often as the seed draws"
measure
