#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/sim/equal.sh [seeds]: builds lockstep-sim four times (gcc and clang, -O0 and -O2, whichever compilers
# there are) and demands that every seed has the same trace in all of them. A nightly check: it compiles
# everything four times.
#
#   LS_EQUAL_BUILD    where the builds lie (build/equal); they are kept, and made anew where sources changed
#   LS_EQUAL_FIRST    the first seed (1)
#   LS_EQUAL_SECONDS  virtual seconds of each (10)
#   LS_EQUAL_JOBS     compilers and runs side by side (all cores)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
seeds=${1:-50}
build=${LS_EQUAL_BUILD:-$root/build/equal} jobs=${LS_EQUAL_JOBS:-$(nproc)}
run=(--seed "${LS_EQUAL_FIRST:-1}" --count "$seeds" --seconds "${LS_EQUAL_SECONDS:-10}")
case $seeds in
'' | *[!0-9]* | 0*)
    echo "tests/sim/equal.sh: '$seeds' is no number of seeds" >&2
    exit 2
    ;;
esac

variants=()
for compiler in gcc clang; do
    if ! command -v "$compiler" >/dev/null; then
        echo "equal: no $compiler here" >&2
        continue
    fi
    for level in O0 O2; do
        variant=$compiler-$level
        cmake -S "$root" -B "$build/$variant" -G Ninja -DCMAKE_BUILD_TYPE=None -DCMAKE_C_COMPILER="$compiler" \
            -DCMAKE_C_FLAGS="-$level -g1" -DLS_TESTS=ON >/dev/null
        ninja -C "$build/$variant" -j "$jobs" bin/lockstep-sim >"$build/$variant/make.log" 2>&1 ||
            { tail -20 "$build/$variant/make.log" >&2; exit 1; }
        variants+=("$variant")
    done
done
[ ${#variants[@]} -gt 1 ] || { echo "equal: nothing to compare" >&2; exit 1; }

# a seed that fails ends its run: as long as it does so everywhere, it is not this check's business
printf '%s\n' "${variants[@]}" |
    xargs -P "$jobs" -I{} sh -c '"$0/{}/bin/lockstep-sim" "$@" >"$0/{}/out" 2>&1 || true' "$build" "${run[@]}"

status=0 first=${variants[0]}
traces() { sed -n 's/^seed \([0-9]*\): trace \(.*\)/\1 \2/p' "$build/$1/out"; }
traces "$first" >"$build/$first/traces"
count=$(wc -l <"$build/$first/traces")
[ "$count" -gt 0 ] || { echo "equal: no traces" >&2; exit 1; }
for variant in "${variants[@]:1}"; do
    traces "$variant" >"$build/$variant/traces"
    if ! diff "$build/$first/traces" "$build/$variant/traces" >"$build/$variant/diff"; then
        other=$(sed -n 's/^[<>] \([0-9]*\) .*/\1/p' "$build/$variant/diff" | sed -n 1p)
        status=1
        echo "equal: seed $other differs between $first and $variant; where, tells the difference of"
        for one in "$first" "$variant"; do
            echo "    $build/$one/bin/lockstep-sim --seed $other --seconds ${LS_EQUAL_SECONDS:-10} --trace"
        done
    fi
done
[ $status != 0 ] || echo "equal: $count seeds have the same trace in ${variants[*]}"
exit $status
