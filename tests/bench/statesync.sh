#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/bench/statesync.sh: how fast a snapshot brings a member of four back, what that costs the
# others, and the limits of this machine beside it (statesync.c). Judges nothing and is no test: a
# figure is worth something only on a machine that does nothing else.
set -euo pipefail

usage() {
    cat <<'END'
usage: tests/bench/statesync.sh [--quick] [--runs N]

  --quick    one run with 128 MiB: for seeing that everything works
  --runs N   of each measurement (default: 3)
END
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
runs=3
mib=1024
large=2048
while [ $# -gt 0 ]; do
    case $1 in
    --quick) runs=1 mib=128 large=256 ;;
    --runs) runs=${2:?} && shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "statesync.sh: unknown argument $1 (try --help)" >&2; exit 2 ;;
    esac
    shift
done

cd "$root"
cmake --preset release -B build/bench -DLS_TESTS=ON >/dev/null
cmake --build build/bench --target bench_statesync lockstep-kv >/dev/null
printf 'load average before: %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" >&2
build/bench/bin/bench_statesync --mib "$mib" --runs "$runs"
build/bench/bin/bench_statesync --mib "$mib" --runs "$runs" --kill
build/bench/bin/bench_statesync --mib "$large" --runs 1
