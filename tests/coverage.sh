#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/coverage.sh [ctest arguments...]: line and branch coverage of the two pure rooms, consensus
# and statesync, by what tests them: units, papers, scenarios, models, corpora, the conformance of
# state sync, and the simulator. Prints both figures for each file and room, and every line that nothing reaches.
# LS_ASSERT is left out of the branches: only a bug of ours takes its other side. The last lines are
# the figures; the exit code is 1 below the goals (lines 95 %, branches 90 %).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
lines_goal=95
branches_goal=90
case ${1:-} in
-h | --help)
    sed -n '/^# tests/,/^[^#]/s/^# //p' "$0"
    exit 0
    ;;
esac

build=build/coverage
suites='^(unit_(consensus|statesync)_|paper_|scenario_|model_|fuzz_(core|core_messages|log_replay|snapshot_sync|supervisor)$|conformance_statesync_|sim_(seeds|members)_[0-9]$)'

tools/packages.sh build test
mkdir -p "$build"
log=$build/run.log
quiet() {
    if ! "$@" >"$log" 2>&1 </dev/null; then
        cat "$log"
        exit 1
    fi
}
quiet cmake --preset coverage -DLS_TESTS=ON -DLS_SIM_SEEDS=8
# the programs of the chosen tests, which are to be built
programs=$(find "$build" -name CTestTestfile.cmake -exec cat {} + |
    sed -nE 's/^add_test\(\[?=?\[?([a-z0-9_]+)\]?=?\]? "[^"]*\/bin\/([a-z0-9_-]+)".*/\1 \2/p' |
    awk -v suites="$suites" '$1 ~ suites { print $2 }' | sort -u)
# shellcheck disable=SC2086
quiet cmake --build "$build" --target $programs
find "$build" -name '*.gcda' -delete
quiet ctest --test-dir "$build" --output-on-failure --no-tests=error -j2 -R "$suites" "$@"

# gcov's listing: "count:line:source", and below a line one "branch n ..." for each way out of it
listing=$(mktemp -d)
trap 'rm -rf "$listing"' EXIT
for room in consensus statesync; do
    mkdir "$listing/$room"
    (cd "$listing/$room" &&
        gcov -b -c "$root/$build/CMakeFiles/ls_$room.dir/$room"/*.gcda >gcov.log 2>&1) ||
        { cat "$listing/$room/gcov.log"; exit 1; }
done

awk -v lines_goal="$lines_goal" -v branches_goal="$branches_goal" '
function percent(part, whole) { return whole == 0 ? 100 : 100 * part / whole }
function figures(name, lines, reached, ways, taken) {
    printf "%-36s lines %6.2f %% (%d of %d)  branches %6.2f %% (%d of %d)\n", name,
        percent(reached, lines), reached, lines, percent(taken, ways), taken, ways
}
FNR == 1 {
    parts = split(FILENAME, part, "/")
    room = part[parts - 1]
    file = room "/" part[parts]
    sub(/\.gcov$/, "", file)
    order[++files] = file
    room_of[file] = room
    asserting = 0
}
/^branch/ {
    if (!asserting) {
        ways[file]++
        taken[file] += /taken [1-9]/
    }
    next
}
/^ *[^:]*: *[0-9]+:/ {
    split($0, field, ":")
    count = field[1]
    gsub(/ /, "", count)
    number = field[2] + 0
    text = substr($0, length(field[1]) + length(field[2]) + 3)
    asserting = text ~ /LS_ASSERT\(/ || (asserting && !ended)
    ended = text ~ /;[ ]*(\/\*.*)?$/
    if (count == "-") {
        next
    }
    lines[file]++
    if (count ~ /^[#=]/) {
        missing[++holes] = sprintf("%s:%d:%s", file, number, text)
    } else {
        reached[file]++
    }
}
END {
    for (i = 1; i <= holes; i++) {
        print missing[i]
    }
    print ""
    for (i = 1; i <= files; i++) {
        file = order[i]
        room = room_of[file]
        figures(file, lines[file], reached[file], ways[file], taken[file])
        room_lines[room] += lines[file]; room_reached[room] += reached[file]
        room_ways[room] += ways[file]; room_taken[room] += taken[file]
        all += lines[file]; all_reached += reached[file]
        all_ways += ways[file]; all_taken += taken[file]
    }
    print ""
    for (room in room_lines) {
        figures(room, room_lines[room], room_reached[room], room_ways[room], room_taken[room])
    }
    figures("both rooms", all, all_reached, all_ways, all_taken)
    if (all == 0 || all_ways == 0) {
        print "coverage: nothing was measured"
        exit 1
    }
    exit percent(all_reached, all) < lines_goal || percent(all_taken, all_ways) < branches_goal
}' $(find "$listing" -name '*.c.gcov' | sort)
