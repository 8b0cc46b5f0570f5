#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/scenarios.sh [id...]: for each way to fail in tests/scenarios.txt, the tests that cite its id, and
# "mutant" where the bug can also be put back. Fails if an id is cited nowhere that has to be, or if the list
# says that one has no test although it has one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
case ${1:-} in
-h | --help)
    sed -n '/^# tests/,/^[^#]/s/^# \{0,1\}//p' "$(basename "$0")"
    exit 0
    ;;
esac

# "file:id" for each id in a test; P2_E6_a_pre_vote cites E6
cited=$(grep -roHE --include='*.c' --include='*.h' --include='*.txt' --include='*.sh' \
    --exclude-dir=mutants --exclude-dir=bench --exclude=CMakeLists.txt --exclude='scenarios.*' --exclude=mutants.sh \
    '[A-Za-z0-9]+' . | sed -nE 's#^\./(.*:[A-Z][0-9]{1,2})$#\1#p' | sort -u)
mutants=$(sed -nE 's/^([A-Z][0-9]+)(_[A-Z]+)? .*/\1/p' mutants/list.txt | sort -u)

status=0 count=0 without=()
while IFS='|' read -r id what why; do
    id=${id// /}
    [ $# = 0 ] || [[ " $* " == *" $id "* ]] || continue
    files=$(sed -n "s/:$id\$//p" <<<"$cited" | paste -sd' ')
    ! grep -qx "$id" <<<"$mutants" || files="mutant $files"
    printf '%-3s %s\n       %s\n' "$id" "${what# }" "${files:-none:${why:- not cited by any test}}"
    count=$((count + 1))
    if [ -z "$files" ]; then
        without+=("$id")
        [ -n "$why" ] || status=1
    elif [ -n "$why" ]; then
        echo "tests/scenarios.txt says of $id:$why, but a test cites it" >&2
        status=1
    fi
done < <(grep -v '^#' scenarios.txt)
[ $count -gt 0 ] || { echo "tests/scenarios.sh: no such id: $*" >&2; exit 2; }
echo "$count ways to fail, $((count - ${#without[@]})) with tests; without: ${without[*]:-none}"
exit $status
