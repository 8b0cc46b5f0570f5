#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/mutants.sh [--quick] [--all] [--write] [id...]: puts historic bugs back, one at a time, and demands
# that the simulator notices. tests/mutants/list.txt names them; in the code the rule that one breaks
# is marked LS_MUTANT(id). Each is one object compiled again and linked in front of the library.
#
# For each mutant lockstep-sim runs seed 1, 2, 3 ... until a check of the simulator or a client history refuses
# a run; then the unmutated twin has to pass the same seed. Assertions are no checks: they are off in the
# object that changed, and in each one where one fires; after a signal the next seed is tried. A mutant that the
# whole stack lets through may still be caught by scenario_random, which simulates the core alone in up to 4000
# worlds; the table says so. Where the list names scenario_random the whole stack cannot come there, and is not asked. Where it
# says "outside: <test>", real files or processes are the subject: that test has to fail with the mutant and to
# pass without, and the table counts it by itself. One that nothing catches within LS_MUTANT_SEEDS (400) seeds or
# LS_MUTANT_SECONDS (30) of processor time fails the run.
#
#   --quick   three of them
#   --all     also runs the worlds of cores, the scenario scripts and the suites that the list names; shown
#             beside the table, counted nowhere
#   --write   writes the table, with the commit, to docs/mutants.md
#
# LS_MUTANT_BUILD: a build folder (build/release, made if it is not there), LS_MUTANT_JOBS: mutants at a time
# (2), LS_MUTANT_OPTIONS: arguments for lockstep-sim beside the seeds (--seconds 5 --exact), LS_MUTANT_KEEP: a
# folder in which lockstep-sim with the mutant stays, as <id>, LS_MUTANT_BUILT: not empty, all programs in the
# build folder are new and are not built.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
build=${LS_MUTANT_BUILD:-$root/build/release}
list=tests/mutants/list.txt
seeds=${LS_MUTANT_SEEDS:-400} limit=${LS_MUTANT_SECONDS:-30} jobs=${LS_MUTANT_JOBS:-2}
read -ra options <<<"${LS_MUTANT_OPTIONS:---seconds 5 --exact}"
worlds=4000 # of scenario_random
snapshots=(--seconds 20 --snapshots yes) # of those mutants, behind the other options

all="" quick="" write=""
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=yes ;;
    --all) all=yes ;;
    --write) write=yes ;;
    -h | --help)
        sed -n '/^# tests/,/^[^#]/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -*)
        echo "tests/mutants.sh: unknown option '$1': expected --quick, --all, --write or ids" >&2
        exit 2
        ;;
    *) break ;;
    esac
    shift
done
[ -z "$quick" ] || set -- C2 E4 R3
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
cut -d'|' -f1 "$out/list" | sort >"$out/listed"
if ! diff "$out/marked" "$out/listed" >"$out/diff"; then
    sed -n 's/^</marked in the code, not in the list: /p; s/^>/in the list, not marked in the code (or twice): /p' \
        "$out/diff" >&2
    exit 2
fi

[ -e "$build/build.ninja" ] || cmake --preset release -B "$build" -DLS_TESTS=ON >/dev/null
suites=()
[ -z "$all" ] || mapfile -t suites < <({
    echo scenario
    for id in "${ids[@]}"; do grep "^$id|" "$out/list" | cut -d'|' -f2 | grep -v '^outside:' | tr ' ' '\n'; done
} | sed '/^$/d; /^lockstep-sim$/d; /^snapshots$/d; /^scenario_random$/d' | sort -u)
mapfile -t outside < <(for id in "${ids[@]}"; do sed -n "s/^$id|outside: \([^|]*\)|.*/\1/p" "$out/list"; done | sort -u)
# the simulator whose objects come from the library (LS_SIM_FAST)
plain=lockstep-sim
! grep -q '^build bin/lockstep-sim-plain:' "$build/build.ninja" || plain=lockstep-sim-plain
programs=(lockstep-sim "$plain" scenario_random "${outside[@]}" "${suites[@]}")
[ -n "${LS_MUTANT_BUILT:-}" ] || ninja -C "$build" "${programs[@]/#/bin/}" >"$out/ninja.log" 2>&1 ||
    { cat "$out/ninja.log"; exit 1; }

# ---- one mutant; everything below runs in a folder of its own, $at ----

# where the build has the simulator's own copy of the links
links=tests/sim/CMakeFiles/ls_sim_links.dir/__/__

# compile <id> <source>: with the mutant and without assertions
compile() {
    compile_as "$1" "$2" "CMakeFiles/ls_${2%%/*}.dir/$2.o" "$at/${2//\//.}.o" || return 1
    objects+=("$at/${2//\//.}.o")
    if [ -e "$build/$links/$2.o" ]; then
        compile_as "$1" "$2" "$links/$2.o" "$at/link.${2##*/}.o" && join_links
    fi
}

# compile_as <id> <source> <object of the build> <object>
compile_as() {
    local object=$3 added=$4 command
    command=$(ninja -C "$build" -t commands "$object" | tail -1)
    command=${command/ -MD -MT $object -MF $object.d/}
    command=${command/-o $object/-o $added -DLS_MUTANT_$1=1 -include $root/tests/mutants/mutant.h -w}
    if ! (cd "$build" && eval "$command") >"$at/compile" 2>&1; then
        echo "mutant $1: $2 does not compile:" >&2
        cat "$at/compile" >&2
        return 1
    fi
}

# join_links: they are one object, as tests/sim/CMakeLists.txt makes it
join_links() {
    local part parts=()
    for part in "$build/$links"/transport/*.o; do
        [ ! -e "$at/link.${part##*/}" ] || part=$at/link.${part##*/}
        parts+=("$part")
    done
    ld -r -o "$at/links.o" "${parts[@]}" && objcopy --keep-global-symbol=sim_links_open "$at/links.o"
}

# compile_mutant <id>: the objects that change, in $objects
compile_mutant() {
    local source
    objects=()
    for source in $(grep -lF "LS_MUTANT($1)" consensus/*.c statesync/*.c storage/*.c machine/*.c transport/*.c); do
        compile "$1" "$source" || return 1
    done
}

# silence <id> <assertion that fired>: false if it is none of the library, or already silent
silence() {
    local source
    source=$(sed -nE 's/^assertion failed: .* \(([^ ]+):[0-9]+\).*/\1/p' <<<"$2")
    source=${source#"$root"/}
    [[ $source =~ ^(consensus|statesync|storage|machine|transport)/ ]] || return 1
    [[ " ${objects[*]} " != *" $at/${source//\//.}.o "* ]] || return 1
    compile "$1" "$source"
}

# link_mutant <program>: as the build does, with the objects in front of the library
link_mutant() {
    local command built=$1 added=${objects[*]}
    [ "$1" != lockstep-sim ] || [ ! -e "$at/links.o" ] || added+=" $at/links.o"
    [ "$1" = lockstep-sim ] && built=$plain
    command=$(ninja -C "$build" -t commands "bin/$built" | tail -1)
    command=${command/ -o bin\/$built / $added -o $at/$1 }
    (cd "$build" && eval "$command")
}

# limited <program> <argument...>: its output is in $at/log, $spent grows by the processor time in ms, $status
# is its status; 152 and 137 when that was used up
limited() {
    local left=$(((limit * 1000 - spent + 999) / 1000))
    status=0
    (
        ulimit -t "$left" -c 0
        ended=0
        timeout $((left * 20)) "$@" >"$at/log" 2>&1 </dev/null || ended=$?
        times >"$at/time"
        exit $ended
    ) 2>/dev/null || status=$?
    # the second line is that of the children: 0m1.234s 0m0.056s
    spent=$((spent + $(awk -F'[ms ]+' 'END { printf "%d", (($1 + $3) * 60 + $2 + $4) * 1000 + 1 }' "$at/time")))
}

# class <sentence>: the check, without the numbers of this run
class() {
    sed -E 's/ -?[0-9]+(\.[0-9]+)? (virtual )?seconds/ time/; s/\bmember [a-g]\b/a member/; /^a (vote|message|read|leader|majority) /!s/^[a-g]( |:)/a member\1/
        s/^a member: /a member, /; s/[0-9]+ of [0-9]+ members/some members/; s/media of( [a-g])+/media of some/
        s/\b(of|by) [a-g]\b/\1 a member/; s/: .*//; s/, but [0-9]+ /, but more /
        s/,? (at|up to|on key|of key|in term|from)( index)? [0-9].*(, but .*)/\3/
        s/,? (at|up to|on key|of key|in term|from)( index)? [0-9].*//; s/ ?\^?\b[0-9]+\b//g' <<<"$1"
}

# simulate <id>: seed by seed until a check refuses; sets $caught, $seed; $noise: what else was seen
simulate() {
    local text
    seed=1 caught="" noise=""
    link_mutant lockstep-sim
    while [ "$seed" -le "$seeds" ] && [ "$spent" -lt $((limit * 1000)) ]; do
        limited "$at/lockstep-sim" --seed "$seed" --count $((seeds - seed + 1)) "${options[@]}"
        [ $status != 0 ] || return 0
        seed=$(sed -nE 's/^seed ([0-9]+): .*/\1/p' "$at/log" | tail -1)
        text=$(grep -v ': clean; events' "$at/log" | sed -nE 's/^seed [0-9]+: (.*); events .*/\1/p' | tail -1)
        if [ $status = 1 ] && [ -n "$text" ] && [[ $text != "meant to inject"* ]]; then
            limited "$build/bin/lockstep-sim" --seed "$seed" "${options[@]}"
            if [ $status = 0 ]; then
                caught=$text
                return 0
            fi
            noise="the unmutated twin fails seed $seed, too"
        elif [ $status = 152 ] || [ $status = 137 ] || [ $status = 124 ]; then
            noise="${noise:-out of time at seed $seed}"
            return 0
        else
            text=${text:-$(grep -m1 -oE 'assertion failed: .*' "$at/log" || echo "signal or exit $status")}
            if silence "$1" "$text"; then
                link_mutant lockstep-sim
                continue
            fi
            noise="$text (seed $seed)"
        fi
        seed=$((${seed:-0} + 1))
    done
}

# random_worlds <id>: the same with scenario_random
random_worlds() {
    local text
    link_mutant scenario_random
    seed=1
    while [ "$seed" -le "$worlds" ] && [ "$spent" -lt $((limit * 1000)) ]; do
        LS_TEST_SEED=$seed LS_ROUNDS=$((worlds - seed + 1)) limited "$at/scenario_random"
        [ $status != 0 ] || return 0
        text=$(grep -m1 -oE 'seed [0-9]+ at .*' "$at/log" || true)
        if [ -z "$text" ]; then
            text=$(grep -m1 -oE 'assertion failed: .*' "$at/log" || echo "signal or exit $status")
            if silence "$1" "$text"; then
                link_mutant scenario_random
                continue
            fi
            noise="$text (worlds of cores)" # it does not tell its world
            return 0
        fi
        seed=$(sed -E 's/seed ([0-9]+) at .*/\1/' <<<"$text")
        LS_TEST_SEED=$seed LS_ROUNDS=1 limited "$build/bin/scenario_random"
        if [ $status = 0 ]; then
            caught=$(sed -E 's/seed [0-9]+ at [0-9.]+ ms: //' <<<"$text")
            return 0
        fi
        seed=$((seed + 1))
    done
}

# outside <id> <test>: it fails with the mutant and passes without; sets $caught to the sentence it failed at
outside() {
    limited "$build/bin/$2"
    if [ $status != 0 ]; then
        noise="$2 fails without the mutant, too"
        return 0
    fi
    link_mutant "$2"
    limited "$at/$2"
    caught=$(sed -nE 's/^\[  FAILED  \] ([a-z_]+:? ?[A-Za-z0-9_]+)$/\1/p' "$at/log" | tail -1)
    [ $status != 0 ] || caught=""
    noise="$2 passes with the mutant, or dies"
}

# extras <suites>: what else notices, one line each
extras() {
    local script suite
    link_mutant scenario
    for script in tests/scenario/[a-z]*.txt; do
        case $script in *CMakeLists.txt) continue ;; esac
        spent=0 limited "$at/scenario" "$script"
        if [ $status != 0 ] && ! grep -q 'the trace differs' "$at/log"; then
            echo "script ${script##*/}"
        fi
    done
    for suite in $1; do
        case $suite in lockstep-sim | snapshots | scenario_random) continue ;; esac
        link_mutant "$suite"
        spent=0 limited "$at/$suite"
        [ $status = 0 ] || echo "suite $suite: $(grep -m1 -E '^\[  FAILED  \] [a-z_]+:|assertion failed' "$at/log" || true)"
    done
}

# one <id>: a line id|what|by|check|seed|ms|ms with what was tried before|sentence in $out/<id>.row; more in $out/<id>.more
one() {
    local id=$1 what listed by=simulator status caught="" noise="" seed="" spent=0 before=0 objects
    at=$out/$id
    mkdir "$at"
    IFS='|' read -r _ listed what < <(grep "^$id|" "$out/list")
    compile_mutant "$id" || return 1
    local options=("${options[@]}")
    [[ " $listed " != *" snapshots "* ]] || options+=("${snapshots[@]}")
    case " $listed " in
    *" outside: "*) by=$listed && outside "$id" "${listed#outside: }" ;;
    *" scenario_random "*) ;;
    *) simulate "$id" ;;
    esac
    if [ -z "$caught" ] && [ "$by" = simulator ] && [[ ${objects[*]} == */consensus.* ]]; then
        by="core worlds" before=$spent spent=0
        random_worlds "$id"
    fi
    if [ -z "$caught" ]; then
        by=nothing seed=""
    fi
    echo "$id|$what|$by|$(class "$caught")|$seed|$spent|$((before + spent))|${caught:-$noise}" >"$out/$id.row"
    printf '%-15s %-52s %-12s %5s %6.1f  %s\n' "$id" "$what" "$by" "${seed:--}" "${spent}e-3" "${caught:-$noise}"
    [ -z "$all" ] || [[ $listed == outside:* ]] || extras "$listed" | sed "s/^/                also: /"
    if [ -n "${LS_MUTANT_KEEP:-}" ] && [ -e "$at/lockstep-sim" ]; then
        cp "$at/lockstep-sim" "$LS_MUTANT_KEEP/$id"
    fi
    rm -rf "$at"
}

printf '%-15s %-52s %-12s %5s %6s  %s\n' mutant "what was put back" "caught by" seeds s "what it said"
begun=$SECONDS running=0 failed=""
for id in "${ids[@]}"; do
    if [ $running -ge "$jobs" ]; then
        wait -n || failed=yes
        running=$((running - 1))
    fi
    one "$id" &
    running=$((running + 1))
done
while [ $running -gt 0 ]; do
    wait -n || failed=yes
    running=$((running - 1))
done
[ -z "$failed" ] || exit 2

for id in "${ids[@]}"; do cat "$out/$id.row"; done >"$out/rows"
survivors=$(awk -F'|' '$3 == "nothing" { print $1 }' "$out/rows" | tr '\n' ' ')
summary=$(sort -t'|' -k5n "$out/rows" | awk -F'|' -v wall=$((SECONDS - begun)) '
    $3 ~ /^outside/ { outside++ }
    $3 != "nothing" && $3 !~ /^outside/ { seed[++n] = $5; by[$3]++ }
    { ms += $7 }
    END {
        printf "%d mutants, %d caught", NR, n + outside
        printf " (%d by the whole stack, %d by worlds of cores", by["simulator"], by["core worlds"]
        printf ", %d outside of the simulator by a test)", outside
        printf ", median %d seeds, at most %d; %d s of processor time, %d s in all\n", seed[int((n + 1) / 2)], seed[n], ms / 1000, wall
    }')
echo "$summary"

if [ -n "$write" ]; then
    {
        echo "# Mutants"
        echo
        echo "Written by \`tests/mutants.sh --write\` at commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(date -u +%Y-%m-%d)."
        echo "Each is a historic bug put back; the simulator runs seeds from 1 on (\`lockstep-sim ${options[*]}\`) until a check"
        echo "or a client history refuses one, and the unmutated twin passes that seed; those of snapshots with"
        echo "\`${snapshots[*]}\` behind that, those of the core with up to $worlds worlds of cores. How it works:"
        echo "[testing.md](testing.md)."
        echo
        echo "$summary."
        echo
        echo "| mutant | what was put back | caught by | check | seeds | s |"
        echo "|---|---|---|---|---|---|"
        awk -F'|' '{ printf "| %s | %s | %s | %s | %s | %.1f |\n", $1, $2, $3, $4, $5, $6 / 1000 }' "$out/rows"
    } >docs/mutants.md
fi
[ -z "$survivors" ] || { echo "survived: $survivors"; exit 1; }
