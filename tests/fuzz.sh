#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/fuzz.sh [seconds] [target...]: each fuzz target of tests/fuzz for so many seconds (60), as libFuzzer
# programs with sanitizers, as many at once as there are cores. What they learn stays in
# build/fuzz/corpus for the next time; an input that breaks something is left in build/fuzz/found, with the
# command that replays it. Prints a line for each target; fails if one found something.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
case ${1:-} in
-h | --help)
    sed -n '/^# tests/,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
seconds=${1:-60}
[ $# = 0 ] || shift
[[ $seconds =~ ^[1-9][0-9]{0,5}$ ]] || { echo "tests/fuzz.sh: '$seconds' is no number of seconds" >&2; exit 2; }
mapfile -t known < <(sed -n 's/^ls_fuzz(\([a-z_]*\) .*/\1/p' tests/fuzz/CMakeLists.txt)
targets=("$@")
[ $# -gt 0 ] || targets=("${known[@]}")
for target in "${targets[@]}"; do
    [[ " ${known[*]} " == *" $target "* ]] ||
        { echo "tests/fuzz.sh: no target '$target': expected ${known[*]}" >&2; exit 2; }
done

tools/packages.sh build test fuzz
build=build/fuzz
mkdir -p $build/found
{ cmake --preset fuzz -DLS_TESTS=ON && cmake --build $build --target "${targets[@]/#/fuzz_}"; } \
    >$build/fuzz.log 2>&1 </dev/null || { cat $build/fuzz.log; exit 1; }

# one <target>
one() {
    local log=$build/found/$1.log status=0
    mkdir -p "$build/corpus/$1"
    rm -f "$build/found/$1"-*
    "$build/bin/fuzz_$1" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=4096 -print_final_stats=1 \
        -artifact_prefix="$build/found/$1-" "$build/corpus/$1" "tests/fuzz/corpus/$1" \
        >"$log" 2>&1 </dev/null || status=$?
    if [ $status = 0 ]; then
        printf 'fuzz %-14s clean   %s runs\n' "$1" "$(sed -n 's/^stat::number_of_executed_units: //p' "$log")"
        return 0
    fi
    printf 'fuzz %-14s FAILED  %s\n' "$1" \
        "$(grep -m1 -E 'assertion failed|ERROR: |runtime error' "$log" || tail -1 "$log")"
    for input in "$build/found/$1"-*; do
        printf '     replay: %s %s\n' "$build/bin/fuzz_$1" "$input"
    done
    return 1
}
export -f one
export build seconds
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c 'one {}'
