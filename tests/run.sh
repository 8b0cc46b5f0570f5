#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/run.sh [preset] [ctest arguments...]: installs the packages that are missing, builds, runs
# every test of the default set. The last lines are ctest's summary, the exit code is ctest's.
# Presets: dev (default), asan, tsan, release, fuzz.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

preset=${1:-dev}
[ $# = 0 ] || shift
purposes=(build test)
case $preset in
dev | asan | tsan | release) ;;
fuzz) purposes+=(fuzz) ;;
-h | --help)
    sed -n '/^# tests/,/^[^#]/s/^# //p' "$0"
    exit 0
    ;;
*)
    echo "tests/run.sh: unknown preset '$preset': expected dev, asan, tsan, release or fuzz" >&2
    exit 2
    ;;
esac

tools/packages.sh "${purposes[@]}"

log=build/$preset/run.log
mkdir -p "build/$preset"
# quiet <what> <command...>: shows the command's output only when it fails
quiet() {
    local what=$1 start=$SECONDS
    shift
    printf '%s ... ' "$what"
    if ! "$@" >"$log" 2>&1 </dev/null; then
        echo "failed"
        cat "$log"
        exit 1
    fi
    echo "$((SECONDS - start)) s"
}
quiet "configure $preset" cmake --preset "$preset" -DLS_TESTS=ON
quiet "build $preset" cmake --build "build/$preset"

ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j2 "$@" </dev/null
