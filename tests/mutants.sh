#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/mutants.sh [--quick] [--all] [id...]: puts historic bugs back, one at a time, and demands that a
# test notices. tests/mutants/list.txt names them; in the code the rule that one breaks is marked
# LS_MUTANT(id). Each is one object compiled again and linked in front of the library of the dev build.
#
# The unmutated programs run first, with the same seed, and must pass. A mutant is caught by a check of the
# random worlds, by a line of a scenario script (a golden that differs is no check), or by a suite that
# its line names; an assertion inside the function it changed does not count. One that survives, or
# that hangs the program beyond LS_MUTANT_SECONDS (20), fails the run.
#
#   --quick   three of them, one for each way of being caught
#   --all     goes on after the first check that caught it, and names every kind
#
# LS_TEST_SEED (1), LS_ROUNDS (4000) are those of scenario_random; LS_MUTANT_SEEDS (60) worlds are simulated
# with the whole stack where a line names lockstep-sim.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
build=${LS_MUTANT_BUILD:-$root/build/dev}
list=tests/mutants/list.txt
export LS_TEST_SEED=${LS_TEST_SEED:-1} LS_ROUNDS=${LS_ROUNDS:-4000}
limit=${LS_MUTANT_SECONDS:-20} simulated=${LS_MUTANT_SEEDS:-60}

all="" quick=""
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=yes ;;
    --all) all=yes ;;
    -h | --help)
        sed -n '/^# tests/,/^[^#]/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -*)
        echo "tests/mutants.sh: unknown option '$1': expected --quick, --all or ids" >&2
        exit 2
        ;;
    *) break ;;
    esac
    shift
done
[ -z "$quick" ] || set -- E3 E10 L13
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# id|suites|what, without the spaces of the table
sed -n 's/ *| */|/g; /^[A-Z]/p' "$list" >"$out/list"

ids=("$@")
[ ${#ids[@]} -gt 0 ] || mapfile -t ids < <(cut -d'|' -f1 "$out/list")
for id in "${ids[@]}"; do
    grep -q "^$id|" "$out/list" || { echo "tests/mutants.sh: no mutant '$id' in $list" >&2; exit 2; }
done
# every mark has its line and every line its mark
grep -rhoE 'LS_MUTANT\([A-Z0-9_]+\)' consensus statesync storage machine transport |
    sed 's/LS_MUTANT(\(.*\))/\1/' | sort -u >"$out/marked"
cut -d'|' -f1 "$out/list" | sort -u >"$out/listed"
if ! diff "$out/marked" "$out/listed" >"$out/diff"; then
    sed -n 's/^</marked in the code, not in the list: /p; s/^>/in the list, not marked in the code: /p' \
        "$out/diff" >&2
    exit 2
fi

[ -e "$build/build.ninja" ] || cmake --preset dev -DLS_TESTS=ON >/dev/null
mapfile -t programs < <({
    echo scenario
    echo scenario_random
    for id in "${ids[@]}"; do grep "^$id|" "$out/list" | cut -d'|' -f2 | tr ' ' '\n'; done
} | sed '/^$/d' | sort -u)
[ -n "${LS_MUTANT_BUILT:-}" ] || ninja -C "$build" "${programs[@]/#/bin/}" >"$out/ninja.log" 2>&1 ||
    { cat "$out/ninja.log"; exit 1; }

# failed <program> <argument...>: true if it did; its output is in $out/log
failed() {
    local status=0
    timeout "$limit" "$@" >"$out/log" 2>&1 </dev/null || status=$?
    [ $status != 124 ] || echo "FAILED: no end within $limit s" >>"$out/log"
    [ $status != 0 ]
}

# the line that tells why; false if it does not count
why() {
    local text file line from to
    text=$(grep -m1 -E 'assertion failed' "$out/log" || true)
    if [ -n "$text" ]; then
        file=$(sed -E 's/.*\(([^ ]*):([0-9]+)\)$/\1/' <<<"$text")
        line=$(sed -E 's/.*\(([^ ]*):([0-9]+)\)$/\2/' <<<"$text")
        while read -r changed from to; do
            if [[ $file == *"$changed" ]] && [ "$line" -ge "$from" ] && [ "$line" -le "$to" ]; then
                return 1
            fi
        done <"$out/functions"
        echo "assertion in ${file#"$root"/}: $(sed -E 's/.*assertion failed: (.*) \(.*/\1/' <<<"$text")"
        return 0
    fi
    grep -q 'the trace differs' "$out/log" && return 1
    text=$(grep -v ': clean; events' "$out/log" | grep -m1 -E '(seed [0-9]+ at|\.txt:[0-9]+:|^seed [0-9]+: .*; events)' || true)
    [ -n "$text" ] || text=$(grep -m1 -E '^\[  FAILED  \] [a-z_]+:' "$out/log" || true)
    [ -n "$text" ] || text=$(grep -m1 -E 'FAILED|rror|Sanitizer' "$out/log" || echo "exit by a signal or without words")
    sed -E 's/; events .*//; s/^\[  *[A-Z]* *\] *-*//; s#.*/([a-z0-9_]+\.txt:)#\1#' <<<"$text"
}

# functions_of <id> <file>: first and last line of each function with the mark
functions_of() {
    awk -v id="LS_MUTANT($1)" -v file="$2" '
        /^{/ { from = NR; has = 0 }
        from && index($0, id) { has = 1 }
        /^}/ { if (from && has) print file, from, NR; from = 0 }' "$2"
}

# compile_mutant <id>: the objects that change, in $objects
compile_mutant() {
    local id=$1 source object command
    objects=()
    : >"$out/functions"
    for source in $(grep -lF "LS_MUTANT($id)" consensus/*.c statesync/*.c storage/*.c machine/*.c transport/*.c); do
        functions_of "$id" "$source" >>"$out/functions"
        object=CMakeFiles/ls_${source%%/*}.dir/$source.o
        command=$(ninja -C "$build" -t commands "$object" | tail -1)
        command=${command/ -MD -MT $object -MF $object.d/}
        command=${command/-o $object/-o $out/${source//\//.}.o -DLS_MUTANT_$id=1 -include $root/tests/mutants/mutant.h}
        (cd "$build" && eval "$command") || { echo "mutant $id does not compile" >&2; exit 2; }
        objects+=("$out/${source//\//.}.o")
    done
}

# link_mutant <program>: as the build does, with the objects in front of the library
link_mutant() {
    local command
    command=$(ninja -C "$build" -t commands "bin/$1" | tail -1)
    command=${command/ -o bin\/$1 / ${objects[*]} -o $out/$1 }
    (cd "$build" && eval "$command")
}

# catches <folder of programs> <suites>: the ways in which it is noticed, one line each
catches() {
    local at=$1 script suite reason arguments
    if [ -n "$core" ] && failed "$at/scenario_random" && reason=$(why); then
        echo "random: $reason"
        [ -n "$all" ] || return 0
    fi
    for script in tests/scenario/[a-z]*.txt; do
        [ -n "$core" ] || break # they hold no more than cores
        case $script in *CMakeLists.txt) continue ;; esac
        if failed "$at/scenario" "$script" && reason=$(why); then
            echo "script: $reason"
            [ -n "$all" ] || return 0
            break
        fi
    done
    for suite in $2; do
        if [ "$at" = "$out" ]; then
            link_mutant "$suite"
        fi
        arguments=()
        [ "$suite" != lockstep-sim ] ||
            arguments=(--seed "$LS_TEST_SEED" --count "$simulated" --seconds 10 --all-faults)
        if failed "$at/$suite" "${arguments[@]}" && reason=$(why); then
            echo "suite $suite: $reason"
            [ -n "$all" ] || return 0
        fi
    done
}

: >"$out/functions"
core=yes
twin=$(all=yes catches "$build/bin" "$(for id in "${ids[@]}"; do grep "^$id|" "$out/list" | cut -d'|' -f2; done | tr ' ' '\n' | sort -u | tr '\n' ' ')")
if [ -n "$twin" ]; then
    echo "the unmutated build fails, so nothing can be said of mutants: $twin" >&2
    exit 1
fi

printf '%-15s %-52s %5s  %s\n' mutant "what was put back" s "caught by"
survivors=() begun=$SECONDS
for id in "${ids[@]}"; do
    IFS='|' read -r _ suites what < <(grep "^$id|" "$out/list")
    start=$(date +%s%N)
    compile_mutant "$id"
    core=""
    if [[ ${objects[*]} == */consensus.* ]]; then
        core=yes
        link_mutant scenario
        link_mutant scenario_random
    fi
    caught=$(catches "$out" "$suites")
    seconds=$(awk -v ns=$(($(date +%s%N) - start)) 'BEGIN { printf "%.1f", ns / 1e9 }')
    if [ -z "$caught" ]; then
        survivors+=("$id")
        caught="NOTHING: survives"
    fi
    while read -r line; do
        printf '%-15s %-52s %5s  %s\n' "$id" "$what" "$seconds" "$line"
        what= seconds=
    done <<<"$caught"
done
echo "${#ids[@]} mutants, $((${#ids[@]} - ${#survivors[@]})) caught, seed $LS_TEST_SEED, $LS_ROUNDS worlds, $((SECONDS - begun)) s"
[ ${#survivors[@]} = 0 ] || { echo "survived: ${survivors[*]}"; exit 1; }
