#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/nightly.sh [step...]: what takes too long for every change, one step after the other, also behind
# one that fails. Prints a table at the end; fails if any step did. Without arguments all steps:
#
#   fuzz      every fuzz target for 60 s (tests/fuzz.sh)
#   soak      ten minutes of fresh simulator seeds, with snapshots and without (tests/soak.sh)
#   mutants   every historic bug is put back and caught (tests/mutants.sh)
#   equal     a seed has one trace, whatever compiles it (tests/sim/equal.sh)
#   coverage  lines and branches of the pure rooms (tests/coverage.sh)
#   tsan      the default set under ThreadSanitizer (tests/run.sh tsan)
#
# LS_NIGHTLY_MINUTES (10) is the length of the soak, LS_NIGHTLY_SECONDS (60) that of each fuzz target. What the
# steps print is kept in build/nightly/<step>.log.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
exec </dev/null
known=(fuzz soak mutants equal coverage tsan)
case ${1:-} in
-h | --help)
    sed -n '/^# tests/,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
steps=("$@")
[ $# -gt 0 ] || steps=("${known[@]}")
for step in "${steps[@]}"; do
    [[ " ${known[*]} " == *" $step "* ]] ||
        { echo "tests/nightly.sh: no step '$step': expected ${known[*]}" >&2; exit 2; }
done

run() {
    case $1 in
    fuzz) tests/fuzz.sh "${LS_NIGHTLY_SECONDS:-60}" ;;
    soak) tests/soak.sh "${LS_NIGHTLY_MINUTES:-10}" ;;
    mutants) tests/mutants.sh ;;
    equal) tests/sim/equal.sh ;;
    coverage) tests/coverage.sh ;;
    tsan) tests/run.sh tsan ;;
    esac
}

mkdir -p build/nightly
table=() failed=0
for step in "${steps[@]}"; do
    log=build/nightly/$step.log start=$SECONDS result=ok
    printf '\n== %s\n' "$step"
    run "$step" 2>&1 | tee "$log" || { result=FAILED; failed=1; }
    table+=("$(printf '%-9s %-7s %3d:%02d  %s' "$step" $result $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60)) \
        "$(grep -v '^ *$' "$log" | tail -1)")")
done
printf '\n%-9s %-7s %6s  %s\n' step result time "last line"
printf '%s\n' "${table[@]}"
exit $failed
