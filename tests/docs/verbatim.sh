#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# verbatim.sh <source directory> <page...>: each block of C in a page stands, line by line, in one of
# the programs in examples/. A page without any fails, too.
set -euo pipefail
cd "$1"
shift

# in_examples <block>: prints which program has it
in_examples() {
    local file content
    for file in examples/*.c; do
        content=$(<"$file")
        if [[ $'\n'$content$'\n' == *$'\n'"$1"$'\n'* ]]; then
            echo "$file"
            return 0
        fi
    done
    return 1
}

status=0
for page in "$@"; do
    blocks=0 inside= block= number=0
    while IFS= read -r line; do
        number=$((number + 1))
        if [ -n "$inside" ] && [ "$line" = '```' ]; then
            inside='' blocks=$((blocks + 1))
            if ! file=$(in_examples "${block%$'\n'}"); then
                echo "$page:$number: the block of C that ends here is in no program of examples/" >&2
                status=1
            else
                echo "$page:$number: as in $file"
            fi
        elif [ -n "$inside" ]; then
            block+=$line$'\n'
        elif [ "$line" = '```c' ]; then
            inside=yes block=
        fi
    done <"$page"
    [ $blocks -gt 0 ] || { echo "$page: no block of C" >&2; status=1; }
done
exit $status
