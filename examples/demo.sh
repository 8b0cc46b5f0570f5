#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# demo.sh [--quick] [--keep]: a real cluster from nothing. Builds lockstep-kv, starts three members,
# loads this machine's package index through a follower, kills the leader with -9 in the middle of
# it, goes on, lets the others prune their logs past it, brings it back by a snapshot of their state and
# compares every key on every member. Exit 0: all identical.
set -euo pipefail
export LC_ALL=C # lengths are bytes, sorting is the same everywhere
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
    cat <<'END'
usage: demo.sh [--quick] [--keep]

  --quick   2000 records instead of the whole package index
  --keep    leave the cluster running and say how to talk to it

LOCKSTEP_KV=FILE uses that program instead of building one.
END
}

quick=
keep=
for argument in "$@"; do
    case $argument in
    --quick) quick=yes ;;
    --keep) keep=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        printf 'demo.sh: unknown option %s (try --help)\n' "$argument" >&2
        exit 2
        ;;
    esac
done

# ---- words on the screen --------------------------------------------------------------------

terminal=
bold='' green='' red='' dim='' plain=''
if [ -t 1 ]; then
    terminal=yes
    if [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
        bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
    fi
fi

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '  %s\n' "$*"; }
good() { printf '  %s%s%s\n' "$green" "$*" "$plain"; }
fail() {
    printf '\n%sfailed: %s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}

now_ms() { local t=$EPOCHREALTIME; echo $((${t%.*} * 1000 + 10#${t#*.} / 1000)); }

# bar <done> <total> <text>: redrawn in place on a terminal, else a line for each quarter
bar_quarter=-1
bar() {
    local done=$1 total=$2 text=$3 width=40 filled
    [ "$total" -gt 0 ] || total=1
    [ "$done" -le "$total" ] || done=$total
    if [ -n "$terminal" ]; then
        filled=$((done * width / total))
        printf '\r  [%s%s] %3d%% %s\e[K' "$(printf '%*s' "$filled" '' | tr ' ' '#')" \
            "$(printf '%*s' $((width - filled)) '' | tr ' ' '.')" $((done * 100 / total)) "$text"
    elif [ $((done * 4 / total)) != "$bar_quarter" ]; then
        bar_quarter=$((done * 4 / total))
        printf '  %3d%% %s\n' $((done * 100 / total)) "$text"
    fi
}
bar_end() {
    bar_quarter=-1
    [ -z "$terminal" ] || printf '\n'
}

# ---- the end, whichever way it comes --------------------------------------------------------

work=  # scratch
place= # of the cluster
loader=
cluster() { "$root/examples/cluster.sh" --dir "$place" --bin "$program" "$@"; }

finish() {
    local code=$?
    trap - EXIT INT TERM
    if [ -n "$loader" ]; then
        kill "$loader" 2>/dev/null || true
        wait "$loader" 2>/dev/null || true
    fi
    if [ -n "$place" ] && { [ "$code" != 0 ] || [ -z "$keep" ]; }; then
        if [ "$code" != 0 ] && [ "$code" -lt 128 ]; then
            tail -n 3 "$place"/*/log >&2 2>/dev/null || true
        fi
        cluster down >/dev/null || true
        rmdir "$place" 2>/dev/null || true
    fi
    [ -z "$work" ] || rm -rf "$work"
    exit "$code"
}
trap finish EXIT
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
trap 'exit 130' INT
trap 'exit 143' TERM

# ---- build ----------------------------------------------------------------------------------

begin=$SECONDS
title "Lockstep: a replicated key-value cluster"

program=${LOCKSTEP_KV:-}
if [ -z "$program" ]; then
    "$root/tools/packages.sh" build demo
    program=$root/build/release/bin/lockstep-kv
    log=$root/build/release/demo.log
    mkdir -p "$root/build/release"
    say "building lockstep-kv (release) ..."
    built=$SECONDS
    if ! (cd "$root" && cmake --preset release && cmake --build --preset release --target lockstep-kv) \
        >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        fail "the build; the output is above and in $log"
    fi
    say "built in $((SECONDS - built)) s"
else
    "$root/tools/packages.sh" demo
fi
[ -x "$program" ] || fail "$program is not a program"
started=$SECONDS
work=$(mktemp -d)
place=$(mktemp -d /tmp/lockstep-demo-XXXXXX)

# ---- data -----------------------------------------------------------------------------------

# One record for each package: its name, and version, architecture, section, size, description.
# apt's own index holds tens of thousands; where its lists have been removed, dpkg's status file
# knows the installed ones.
package_records() {
    { apt-cache dumpavail 2>/dev/null; echo; cat /var/lib/dpkg/status; } | awk '
        function flush() {
            if (name != "" && !(name in seen)) {
                seen[name] = 1
                print name "\t" version " " arch " " section " " size " bytes: " text
            }
            name = version = arch = section = size = text = ""
        }
        /^$/ { flush(); next }
        /^[^ ]/ { at = index($0, ": "); field = substr($0, 1, at - 1); value = substr($0, at + 2) }
        /^ / { next }
        field == "Package" { name = value }
        field == "Version" { version = value }
        field == "Architecture" { arch = value }
        field == "Section" { section = value }
        field == "Size" { size = value }
        field == "Description" { text = value; gsub(/\t/, " ", text) }
        END { flush() }'
}

# The rest of dpkg's database: one record for each installed file, and whose it is.
file_records() {
    awk '{ if (FNR == 1) { package = FILENAME; sub(/.*\//, "", package); sub(/\.list$/, "", package) } }
         /^[A-Za-z0-9\/._+:@-]+$/ && !($0 in seen) { seen[$0] = 1; print $0 "\t" package }
         ++lines == 60000 { exit }' /var/lib/dpkg/info/*.list
}

title "1. Data: the package index of this machine"
package_records >"$work/found"
packages=$(wc -l <"$work/found")
what="one key for each package"
if [ "$packages" -lt 10000 ]; then
    file_records >>"$work/found"
    what="one key for each of $packages packages and for each file of theirs (no apt lists here)"
fi
sort -t "$(printf '\t')" -k 1,1 "$work/found" >"$work/all"
if [ -n "$quick" ]; then
    # every n-th record rather than the first 2000: they are sorted by name
    awk -v n="$(wc -l <"$work/all")" 'int(NR * 2000 / n) > int((NR - 1) * 2000 / n) || n <= 2000' \
        "$work/all" >"$work/records"
else
    mv "$work/all" "$work/records"
fi
records=$(wc -l <"$work/records")
[ "$records" -ge 50 ] || fail "found only $records packages on this machine"
say "$records records, $(($(wc -c <"$work/records") / 1024)) KiB: $what"

# Chunks of SET commands in the protocol's own form; at least 40, so that a kill finds a load to hit.
chunk=$((records / 40))
[ "$chunk" -le 500 ] || chunk=500
mkdir "$work/chunks"
awk -F '\t' -v chunk="$chunk" -v dir="$work/chunks" '
    (NR - 1) % chunk == 0 { if (file) close(file); file = sprintf("%s/%06d", dir, NR - 1) }
    { printf "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", length($1), $1, length($2), $2 > file }
' "$work/records"

# ---- cluster --------------------------------------------------------------------------------

title "2. Three members elect a leader"
# Little of the log is kept, so that who is away for as long as this one comes too late for it; and
# snapshots are served slowly enough to be watched.
keep_entries=$((records / 20))
[ "$keep_entries" -ge 10 ] || keep_entries=10
cluster up 3 -- --keep-entries "$keep_entries" --prune-entries "$keep_entries" \
    --lag-entries "$keep_entries" --snapshot-rate 8M >"$work/up" || { cat "$work/up" >&2; fail "the cluster did not start"; }
sed 's/^/  /' "$work/up"

declare -A port
while read -r name _ redis_port _; do port[$name]=$redis_port; done < <(cluster members)

# field <name> <field of INFO>: empty when the member does not answer
field() {
    timeout 2 redis-cli -p "${port[$1]}" INFO 2>/dev/null </dev/null |
        tr -d '\r' | sed -n "s/^$2://p" || true
}
# leader_of <names...>: who of them leads
leader_of() {
    local name
    for name in "$@"; do
        [ "$(field "$name" role)" != leader ] || { echo "$name"; return 0; }
    done
}

first=$(leader_of a b c)
[ -n "$first" ] || fail "no leader"
survivors=()
for name in a b c; do [ "$name" = "$first" ] || survivors+=("$name"); done
entry=${survivors[0]}

# ---- load -----------------------------------------------------------------------------------

# load: every chunk through the entry member. redis-cli --pipe reads every reply; a chunk with an
# error, a lost connection or a missing reply is sent again as a whole: SET may be repeated.
load() {
    local file replies loaded=0 again=0 tries
    for file in "$work"/chunks/*; do
        replies=$(grep -c '^SET' "$file")
        tries=0
        until redis-cli -p "${port[$entry]}" --pipe --pipe-timeout 10 <"$file" >"$work/reply" 2>&1 &&
            grep -qx "errors: 0, replies: $replies" "$work/reply"; do
            again=$((again + 1))
            tries=$((tries + 1))
            grep -E '^[A-Z]+ ' "$work/reply" | head -n 1 >>"$work/refusals" || true
            if [ "$tries" = 100 ]; then
                cp "$work/reply" "$work/load.failed"
                return 1
            fi
            sleep 0.05
        done
        loaded=$((loaded + replies))
        echo "$loaded $again" >"$work/loaded.new"
        mv "$work/loaded.new" "$work/loaded"
    done
    now_ms >"$work/load.end"
}

loaded() { cut -d' ' -f1 "$work/loaded"; }

# watch_load <until>: draws the bar until so many records are acknowledged or the loader ended
watch_load() {
    while [ "$(loaded)" -lt "$1" ] && kill -0 "$loader" 2>/dev/null; do
        bar "$(loaded)" "$records" "$(loaded) records acknowledged"
        sleep 0.05
    done
    bar "$(loaded)" "$records" "$(loaded) records acknowledged"
}

title "3. Load through $entry, a follower, which forwards to the leader"
echo "0 0" >"$work/loaded"
load_begin=$(now_ms)
load &
loader=$!
watch_load $((records * 4 / 10))
bar_end

# ---- kill -----------------------------------------------------------------------------------

title "4. kill -9 $first, the leader, in the middle of the load"
# The probe writes a record that is loaded already, with the same value.
IFS=$'\t' read -r probe_key probe_value <"$work/records"
killed=$(now_ms)
cluster kill "$first"
at_kill=$(loaded)
known=$(field "$entry" commit)
second=
tries=0
until second=$(leader_of "${survivors[@]}") && [ -n "$second" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 1000 ] || fail "no new leader"
    sleep 0.01
done
elected_ms=$(($(now_ms) - killed))
tries=0
until [ "$(redis-cli -p "${port[$entry]}" SET "$probe_key" "$probe_value" 2>&1 </dev/null)" = OK ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 1000 ] || fail "no write succeeds with $second as leader"
    sleep 0.01
done
written_ms=$(($(now_ms) - killed))
good "$second leads after $elected_ms ms; a write was acknowledged after $written_ms ms"

title "5. The load goes on"
watch_load "$records"
bar_end
if ! wait "$loader"; then
    loader=
    cat "$work/load.failed" >&2
    fail "a chunk was refused 100 times"
fi
loader=
load_ms=$(($(cat "$work/load.end") - load_begin))
again=$(cut -d' ' -f2 "$work/loaded")
say "$records records acknowledged in $load_ms ms, $((records * 1000 / load_ms)) a second; $again chunks sent again"
[ "$again" = 0 ] || [ ! -s "$work/refusals" ] ||
    say "${dim}what they were told: $(sort "$work/refusals" | uniq -c | sort -rn | head -n 1 | sed 's/^ *[0-9]* //')$plain"

# ---- prune ----------------------------------------------------------------------------------

# status_of <name> <field of LOCKSTEP STATUS>: empty when the member does not answer
status_of() {
    timeout 2 redis-cli -p "${port[$1]}" LOCKSTEP STATUS 2>/dev/null </dev/null |
        tr -d '\r' | sed -n "s/^$2://p" || true
}

title "6. The others prune their logs past what $first has"
target=$(field "$second" commit)
[ -n "$target" ] || fail "$second does not answer"
began=$(now_ms)
for name in "${survivors[@]}"; do
    while first_kept=$(field "$name" log_first) && [ "${first_kept:-0}" -le "$((${known:-0} + 1))" ]; do
        [ $(($(now_ms) - began)) -lt 120000 ] ||
            fail "$name does not prune: $(status_of "$name" pruning)"
        sleep 0.1
    done
    say "$name holds the log from $first_kept on ($(status_of "$name" pruning))"
done

# ---- return ---------------------------------------------------------------------------------

title "7. $first comes back with its old log: what it misses is nowhere any more"
returned=$(now_ms)
cluster start "$first" &
starter=$!
until [ "$(cluster members | awk -v n="$first" '$1 == n { print $4 }')" != - ]; do
    [ $(($(now_ms) - returned)) -lt 20000 ] || fail "$first does not start"
    sleep 0.01
done
cluster catchup "$first"
wait "$starter" || fail "$first did not start"
until applied=$(field "$first" applied) && [ "${applied:-0}" -ge "$target" ]; do
    [ $(($(now_ms) - returned)) -lt 120000 ] || fail "$first stays behind at $applied of $target"
    sleep 0.02
done
caught_ms=$(($(now_ms) - returned))
[ "$(status_of "$first" snapshots_installed)" = 1 ] || fail "$first did not come back by a snapshot"
good "$first is up to date $caught_ms ms after its start, by a snapshot; it had missed $((target - ${known:-0})) entries"

# ---- compare --------------------------------------------------------------------------------

# keys_of <name>: every key the member itself holds, by SCAN over one connection. READONLY: its own
# state, not the leader's.
keys_of() {
    local cursor=0 line
    coproc CLI { redis-cli -p "${port[$1]}" 2>&1; }
    # shellcheck disable=SC2153 # set by coproc
    local in=${CLI[1]} out=${CLI[0]} pid=$CLI_PID
    echo READONLY >&"$in"
    read -r line <&"$out"
    [ "$line" = OK ] || { echo "$1: READONLY: $line" >&2; return 1; }
    while :; do
        printf 'SCAN %s COUNT 2000\nECHO --end--\n' "$cursor" >&"$in"
        read -r cursor <&"$out"
        [[ $cursor =~ ^[0-9]+$ ]] || { echo "$1: SCAN: $cursor" >&2; return 1; }
        while read -r line <&"$out" && [ "$line" != --end-- ]; do
            [ -z "$line" ] || echo "$line"
        done
        [ "$cursor" != 0 ] || break
    done
    exec {in}>&-
    wait "$pid" || true
}

# dump_of <name>: "key<TAB>value" of all its keys, sorted
dump_of() {
    keys_of "$1" | sort -u >"$work/keys.$1"
    awk 'NR == 1 { print "READONLY" }
         { printf "%s%s", (NR % 200 == 1 ? "MGET " : " "), $0 }
         NR % 200 == 0 { print "" }
         END { if (NR % 200) print "" }' "$work/keys.$1" |
        redis-cli -p "${port[$1]}" 2>&1 | tail -n +2 >"$work/values.$1"
    paste "$work/keys.$1" "$work/values.$1"
}

title "8. Every key on every member"
expected=$(sha256sum <"$work/records" | cut -c 1-16)
say "$(printf '%-8s %8s keys  sha256 %s...' loaded "$records" "$expected")"
# each member is asked for its own state: it must have applied what the leader had committed
for name in a b c; do
    tries=0
    until applied=$(field "$name" applied) && [ "${applied:-0}" -ge "$target" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 500 ] || fail "$name stays behind at ${applied:-0} of $target"
        sleep 0.05
    done
done
for name in a b c; do
    dump_of "$name" >"$work/dump.$name" || true &
done
wait
wrong=0
for name in a b c; do
    sum=$(sha256sum <"$work/dump.$name" | cut -c 1-16)
    line=$(printf '%-8s %8s keys  sha256 %s...' "$name" "$(wc -l <"$work/dump.$name")" "$sum")
    if cmp -s "$work/records" "$work/dump.$name"; then
        good "$line  identical"
    else
        wrong=$((wrong + 1))
        say "$red$line  DIFFERENT$plain"
        diff "$work/records" "$work/dump.$name" | head -n 5 | cut -c 1-150 | sed 's/^/    /' || true
    fi
done
[ "$wrong" = 0 ] || fail "$wrong of 3 members differ from what was acknowledged"

# ---- summary --------------------------------------------------------------------------------

title "Summary"
say "records      $records acknowledged through a follower, none lost"
say "load         $((records * 1000 / load_ms)) a second, with the failover in it"
say "failover     kill -9 at $at_kill records; $second led after $elected_ms ms, first write after $written_ms ms"
say "catch-up     $first was back and level $caught_ms ms after its start, by snapshot at 8 MiB/s"
say "members      a, b and c hold the same $records keys and values"
say "time         $((SECONDS - started)) s, $((SECONDS - begin)) s with the build"
if [ -n "$keep" ]; then
    title "The cluster keeps running"
    tool="examples/cluster.sh --dir $place"
    [ -z "${LOCKSTEP_KV:-}" ] || tool+=" --bin $program"
    say "redis-cli -p ${port[a]} GET $probe_key"
    say "redis-cli -p ${port[a]} LOCKSTEP STATUS"
    say "and in $root:"
    say "$tool status"
    say "$tool kill b        and then: start b"
    say "$tool down          ends it and removes its data"
fi
