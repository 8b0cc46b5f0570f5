#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# cluster.sh: a local cluster of lockstep-kv in a directory of its own. Ends only processes that it
# started itself: each is remembered with its start time, so that a recycled pid is never touched.
set -euo pipefail

usage() {
    cat <<'END'
usage: cluster.sh [--dir DIR] [--bin FILE] COMMAND

  up N [-- FLAGS...]  start members a, b, c ... (1 to 9); FLAGS go to each lockstep-kv
  status              who leads, how far every member is, and how one catches up
  catchup NAME        show how a member catches up, until it is level: why it goes this way, and a bar
  cli NAME [...]      redis-cli connected to a member
  stop [NAME]         end a member as a service would (SIGTERM: it hands leadership over); all without NAME
  kill NAME           kill -9
  start [NAME]        start a member again with its data; all without NAME
  log NAME            print a member's log
  members             one line for each: name, address, redis port, pid or "-"
  down                stop all and remove the directory with its data

  --dir DIR    where keys, data and logs live
               (default: $XDG_RUNTIME_DIR or /tmp, then lockstep-cluster-$USER)
  --bin FILE   the program (default: the newest build/*/bin/lockstep-kv of this tree)

Members listen on 127.0.0.1, for each other from port 7101 and for redis clients from port 6401;
ports that are taken are skipped.
END
}

fail() {
    printf 'cluster.sh: %s\n' "$*" >&2
    exit 1
}
misuse() {
    printf 'cluster.sh: %s (try --help)\n' "$*" >&2
    exit 2
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${XDG_RUNTIME_DIR:-/tmp}/lockstep-cluster-${USER:-$(id -un)}
bin=

while [ $# -gt 0 ]; do
    case $1 in
    --dir | --bin)
        [ $# -ge 2 ] || misuse "$1 needs a value"
        if [ "$1" = --dir ]; then dir=$2; else bin=$2; fi
        shift 2
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    -*) misuse "unknown option $1" ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || misuse "no command"
command=$1
shift
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac

# ---- processes ------------------------------------------------------------------------------

# start_time <pid>: in clock ticks since boot; empty when there is no such process. The name in
# /proc/PID/stat may hold blanks, so what precedes the last ')' is dropped.
start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    stat=${stat##*) }
    # shellcheck disable=SC2086 # split into fields
    set -- $stat
    [ "$1" = Z ] || echo "${20}"
}

# running_pid <name>: the pid of a member that we started and that still runs, else nothing
running_pid() {
    local pid started
    read -r pid started 2>/dev/null <"$dir/$1/pid" || return 0
    if [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ]; then
        echo "$pid"
    fi
}

# wait_gone <name> <tenths of a second>
wait_gone() {
    local tenths=$2
    while [ -n "$(running_pid "$1")" ]; do
        [ "$((tenths--))" -gt 0 ] || return 1
        sleep 0.1
    done
}

find_bin() {
    local newest=
    if [ -z "$bin" ]; then
        for file in "$here"/../build/*/bin/lockstep-kv; do
            if [ -x "$file" ] && { [ -z "$newest" ] || [ "$file" -nt "$newest" ]; }; then
                newest=$file
            fi
        done
        [ -n "$newest" ] || fail "lockstep-kv is not built: cmake --preset release && cmake --build --preset release"
        bin=$newest
    fi
    [ -x "$bin" ] || fail "$bin is not a program"
}

# ---- members --------------------------------------------------------------------------------

# $dir/members holds a line "name peer-port redis-port" for each
need_cluster() {
    [ -f "$dir/members" ] || fail "there is no cluster in $dir: cluster.sh up 3"
}

# member <name>: sets peer_port and redis_port, or fails
member() {
    local name
    while read -r name peer_port redis_port; do
        [ "$name" != "$1" ] || return 0
    done <"$dir/members"
    fail "no member '$1': there are $(cut -d' ' -f1 "$dir/members" | paste -sd' ')"
}

names() { cut -d' ' -f1 "$dir/members"; }

# used_ports: every local TCP port in use, decimal, and those that other clusters have noted, whose
# members may be down for the moment. 06 is TIME_WAIT, which does not hinder a listener.
used_ports() {
    local local_address state
    cat /tmp/lockstep-*/members "${XDG_RUNTIME_DIR:-/tmp}"/lockstep-*/members 2>/dev/null |
        tr ' ' '\n' | grep -x '[0-9]*' || true
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r _ local_address _ state _; do
        case $local_address in
        *:????) [ "$state" = 06 ] || echo $((16#${local_address##*:})) ;;
        esac
    done
}

# choose_members <count>: writes $dir/members
choose_members() {
    local used peer=7101 redis=6401 letters=abcdefghi at
    used=" $(used_ports | paste -sd' ') "
    for ((at = 0; at < $1; at++)); do
        while [[ $used == *" $peer "* ]]; do peer=$((peer + 1)); done
        while [[ $used == *" $redis "* ]]; do redis=$((redis + 1)); done
        echo "${letters:at:1} $peer $redis"
        peer=$((peer + 1))
        redis=$((redis + 1))
    done >"$dir/members.new"
    mv "$dir/members.new" "$dir/members"
}

start_member() {
    local name=$1 pid list peer_port redis_port flags=()
    member "$name"
    pid=$(running_pid "$name")
    if [ -n "$pid" ]; then
        echo "$name runs already (pid $pid)"
        return 0
    fi
    list=$(while read -r n p _; do printf ',%s=127.0.0.1:%s' "$n" "$p"; done <"$dir/members")
    mapfile -t flags <"$dir/flags"
    mkdir -p "$dir/$name"
    # A session of its own: ctrl-C in this terminal is not meant for the member. And none may come
    # between its start and the note of its pid.
    trap '' INT
    setsid "$bin" --name "$name" --members "${list:1}" --group-key "$dir/key" \
        --data "$dir/$name/data" --redis "127.0.0.1:$redis_port" "${flags[@]}" \
        >>"$dir/$name/log" 2>&1 </dev/null 9>&- &
    pid=$!
    echo "$pid $(start_time "$pid")" >"$dir/$name/pid"
    trap - INT
    wait_answer "$name" "$redis_port"
}

# A member answers its clients as soon as it runs, with or without a leader. Whether it is ours that
# answers, and not another program on that port, the process id tells.
wait_answer() {
    local tenths=100 pid
    while pid=$(running_pid "$1") && [ -n "$pid" ]; do
        ! ask "$2" INFO server | tr -d '\r' | grep -qx "process_id:$pid" || return 0
        [ "$((tenths--))" -gt 0 ] || fail "$1 does not answer on port $2; see $dir/$1/log"
        sleep 0.1
    done
    tail -n 5 "$dir/$1/log" >&2
    fail "$1 ended at once; above is the end of $dir/$1/log"
}

# ask <redis port> <command...>: the raw reply, or nothing when it does not answer
ask() {
    local port=$1
    shift
    timeout 2 redis-cli -p "$port" "$@" 2>/dev/null </dev/null || true
}

# end_member <name> <signal>
end_member() {
    local pid
    pid=$(running_pid "$1")
    [ -z "$pid" ] || kill "-$2" "$pid" 2>/dev/null || true
}

# stop_members <name...>: SIGTERM to all, SIGKILL to those that do not go
stop_members() {
    local name
    for name in "$@"; do end_member "$name" TERM; done
    for name in "$@"; do
        if ! wait_gone "$name" 100; then
            echo "$name did not end within 10 s of SIGTERM: killed" >&2
            end_member "$name" KILL
            wait_gone "$name" 50 || fail "$name cannot be killed"
        fi
        rm -f "$dir/$name/pid"
    done
}

# ---- commands -------------------------------------------------------------------------------

locked() {
    exec 9>"$dir/lock"
    flock -w 30 9 || fail "another cluster.sh works in $dir"
}

up() {
    [ $# -ge 1 ] || misuse "up needs the number of members"
    local count=$1 name
    shift
    [[ $count =~ ^[1-9]$ ]] || misuse "up $count: expected 1 to 9 members"
    if [ "${1:-}" = -- ]; then shift; elif [ $# -gt 0 ]; then misuse "up: unexpected '$1'"; fi
    command -v redis-cli >/dev/null || fail "redis-cli is missing: apt-get install redis-tools"
    find_bin
    mkdir -p "$dir"
    chmod 700 "$dir"
    locked
    : >"$dir/flags"
    [ $# = 0 ] || printf '%s\n' "$@" >"$dir/flags"
    if [ -f "$dir/members" ]; then
        [ "$(names | wc -l)" = "$count" ] ||
            fail "$dir holds a cluster of $(names | wc -l); cluster.sh down removes it"
        for name in $(names); do start_member "$name"; done
    else
        [ -e "$dir/key" ] || "$bin" keygen "$dir/key" >/dev/null
        found "$count"
    fi
    wait_leader
    status
}

# found <count>: the first start. A port that was free may be taken by another before the member
# listens: then all begin again, with other ports and without what they have written.
found() {
    local name tries=0
    while :; do
        choose_members "$1"
        if (for name in $(names); do start_member "$name"; done) 2>"$dir/trouble"; then
            rm -f "$dir/trouble"
            return 0
        fi
        # shellcheck disable=SC2046 # one word for each member
        stop_members $(names)
        tries=$((tries + 1))
        if [ "$tries" = 5 ] || ! grep -qi 'address already in use' "$dir/trouble"; then
            cat "$dir/trouble" >&2
            exit 1
        fi
        for name in $(names); do rm -rf "${dir:?}/$name"; done
    done
}

wait_leader() {
    local tenths=200 redis_port
    while [ "$((tenths--))" -gt 0 ]; do
        while read -r _ _ redis_port; do
            ! ask "$redis_port" INFO | grep -q '^role:leader' || return 0
        done <"$dir/members"
        sleep 0.1
    done
    echo "no leader after 20 s; what the members say:" >&2
    while read -r _ _ redis_port; do ask "$redis_port" LOCKSTEP STATUS >&2; done <"$dir/members"
    exit 1
}

status() {
    local name redis_port pid text
    printf '%-6s %-8s %-7s %-10s %-7s %-6s %10s %10s\n' member pid redis role leader term commit applied
    while read -r name _ redis_port; do
        pid=$(running_pid "$name")
        if [ -z "$pid" ]; then
            printf '%-6s %-8s %-7s %s\n' "$name" - "$redis_port" "not running"
            continue
        fi
        ask "$redis_port" INFO | tr -d '\r' | awk -F: -v n="$name" -v pid="$pid" -v port="$redis_port" '
            { v[$1] = $2 }
            END {
                if (!("role" in v)) v["role"] = "no answer"
                printf "%-6s %-8s %-7s %-10s %-7s %-6s %10s %10s\n", n, pid, port, v["role"],
                    v["leader"], v["term"], v["commit"], v["applied"]
            }'
        if ask "$redis_port" INFO | tr -d '\r' | grep -qx online:0; then
            text=$(ask "$redis_port" LOCKSTEP STATUS | tr -d '\r')
            sed -n 's/^sync_choice:\(..\)/       \1/p' <<<"$text"
            sync_line 0 <<<"$text" | sed 's/^/       /'
        fi
    done <"$dir/members"
}

# sync_line <width of the bar, 0: none>: how a member catches up, in one line, from its LOCKSTEP STATUS
sync_line() {
    awk -v width="$1" '
        function mib(bytes) { return sprintf("%.1f", bytes / 1048576) }
        { at = index($0, ":"); v[substr($0, 1, at - 1)] = substr($0, at + 1) }
        END {
            phase = v["sync_phase"]
            if (phase == "waiting") { print "waiting: " v["sync_reason"]; exit }
            if (phase == "backing off") {
                printf "tries again in %d s: %s\n", (v["sync_wait_ms"] + 999) / 1000, v["sync_reason"]
                exit
            }
            if (phase == "idle" || phase == "") { exit }
            filled = int(v["sync_percent"] * width / 100)
            for (i = 0; i < width; i++) { bar = bar (i < filled ? "#" : ".") }
            if (width > 0) { printf "[%s] ", bar }
            printf "%3d%% %s", v["sync_percent"], phase
            if (v["sync_bytes_total"] > 0) {
                printf " %s of %s MiB", mib(v["sync_bytes"]), mib(v["sync_bytes_total"])
            } else if (v["sync_items_total"] > 0) {
                printf " %d of %d entries", v["sync_items"], v["sync_items_total"]
            }
            if (v["sync_bytes_per_s"] > 0) {
                printf ", %s MiB/s, %d/s", mib(v["sync_bytes_per_s"]), v["sync_items_per_s"]
            }
            if ("sync_left_ms" in v && phase != "done") {
                printf ", %.1f s left", v["sync_left_ms"] / 1000
            }
            if (v["sync_reason"] != "-" && v["sync_reason"] != "") {
                printf ", waits for %s", v["sync_reason"]
            }
            print ""
        }'
}

# catchup <name>: on a terminal a bar that is drawn in place, else a line for each quarter and phase
catchup() {
    local redis_port text online choice line mark seen_choice='' seen_mark=''
    member "$1"
    while :; do
        [ -n "$(running_pid "$1")" ] || fail "$1 does not run"
        text=$(ask "$redis_port" LOCKSTEP STATUS | tr -d '\r')
        online=$(sed -n 's/^online://p' <<<"$text")
        choice=$(sed -n 's/^sync_choice://p' <<<"$text")
        line=$(sync_line 30 <<<"$text")
        if [ -n "$choice" ] && [ "$choice" != - ] && [ "$choice" != "$seen_choice" ]; then
            [ ! -t 1 ] || printf '\r\e[K'
            echo "  $1: $choice"
            seen_choice=$choice
        fi
        mark=$(sed -E 's/^.* +([0-9]+)% ([a-z]+).*$/\1 \2/' <<<"$line")
        if [ -t 1 ]; then
            [ -z "$line" ] || printf '\r  %s\e[K' "$line"
        elif [[ $mark =~ ^([0-9]+)\ (.*)$ ]]; then
            mark="$((BASH_REMATCH[1] / 25)) ${BASH_REMATCH[2]}"
            [ "$mark" = "$seen_mark" ] || echo "  $line"
        elif [ -n "$line" ] && [ "$mark" != "$seen_mark" ]; then
            echo "  $line"
        fi
        seen_mark=$mark
        [ "$online" != 1 ] || break
        sleep 0.05
    done
    [ ! -t 1 ] || printf '\r\e[K'
    echo "  $1 is level"
}

members() {
    local name peer_port redis_port pid
    while read -r name peer_port redis_port; do
        pid=$(running_pid "$name")
        echo "$name 127.0.0.1:$peer_port $redis_port ${pid:--}"
    done <"$dir/members"
}

down() {
    local name list
    mapfile -t list < <(names)
    stop_members "${list[@]}"
    # only what this script made: the directory goes when nothing else is in it
    for name in "${list[@]}"; do rm -rf "${dir:?}/$name"; done
    rm -f "$dir/key" "$dir/flags" "$dir/lock" "$dir/trouble" "$dir/members"
    rmdir "$dir" 2>/dev/null || echo "$dir kept: it holds files that are not the cluster's"
}

one_name() {
    [ $# = 1 ] || misuse "$command needs the name of a member"
}

case $command in
up) up "$@" ;;
status | members | down)
    [ $# = 0 ] || misuse "$command takes no argument"
    if [ "$command" = down ] && [ ! -f "$dir/members" ]; then
        echo "there is no cluster in $dir"
        exit 0
    fi
    need_cluster
    [ "$command" != down ] || locked
    "$command"
    ;;
stop | start)
    need_cluster
    if [ $# = 0 ]; then mapfile -t list < <(names); else one_name "$@" && list=("$1"); fi
    member "${list[0]}"
    locked
    if [ "$command" = stop ]; then
        stop_members "${list[@]}"
    else
        find_bin
        for name in "${list[@]}"; do start_member "$name"; done
    fi
    ;;
catchup)
    one_name "$@"
    need_cluster
    catchup "$1"
    ;;
kill)
    one_name "$@"
    need_cluster
    member "$1"
    locked
    [ -n "$(running_pid "$1")" ] || fail "$1 does not run"
    end_member "$1" KILL
    wait_gone "$1" 50 || fail "$1 cannot be killed"
    rm -f "$dir/$1/pid"
    ;;
log)
    one_name "$@"
    need_cluster
    member "$1"
    cat "$dir/$1/log"
    ;;
cli)
    [ $# -ge 1 ] || misuse "cli needs the name of a member"
    need_cluster
    member "$1"
    shift
    exec redis-cli -p "$redis_port" "$@"
    ;;
*) misuse "unknown command '$command'" ;;
esac
