#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# draws.sh: no full expression of the simulator draws two random numbers unless && || ?: or a comma of
# its own puts one before the other. C leaves the order of arguments and of initialisers to the
# compiler, so such a run would depend on it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
found=$(awk '
    # a draw, in whatever name: functions that take from a stream
    function draws(text) { return gsub(/(sim_random_(in|next|percent)|sim_strike_(pick|until)|ls_sim_random|[^_a-z](percent|draw|pick|chance)) *\(/, "&", text) }
    FNR == 1 { statement = ""; begun = 1; depth = 0 }
    {
        line = $0
        gsub(/"([^"\\]|\\.)*"/, "\"\"", line)
        gsub(/\/\*[^*]*\*\//, "", line)
        if (line ~ /^ *(\/?\*|#)/) { next }
        for (i = 1; i <= length(line); i++) {
            c = substr(line, i, 1)
            if (c == "(" || c == "{") {
                # a brace after ")" or "=" inside of a statement holds initialisers: it goes on
                if (c == "{" && statement !~ /[=)(,{]( *)$/) { statement = ""; begun = FNR; continue }
                if (c == "{" && statement ~ /^ *(static )?[a-z_0-9 *]+\([^=]*\) *$/) { statement = ""; begun = FNR; continue }
                if (c == "{" && statement ~ /^ *(if|for|while|switch|else|do)\>/ && statement !~ /\(struct [a-z_]+\) *$/) { statement = ""; begun = FNR; continue }
            }
            if (c == ";" || (c == "}" && statement !~ /[{]/)) {
                parts = split(statement, part, /&&|\|\||\?|:/)
                for (p = 1; p <= parts; p++) {
                    if (draws(part[p]) > 1 && part[p] !~ /^ *for /) {
                        gsub(/ +/, " ", part[p])
                        print FILENAME ":" begun ": " part[p]
                    }
                }
                statement = ""; begun = FNR
                continue
            }
            if (statement == "") { begun = FNR }
            statement = statement c
        }
        statement = statement " "
    }' ./*.c ./workloads/*.c ../../examples/sim_*.c)
[ -z "$found" ] || {
    echo "two draws in one expression, in an order that C does not fix:" >&2
    echo "$found" >&2
    exit 1
}
