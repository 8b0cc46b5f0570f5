#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/bench/run.sh: the figures of this machine, of a real three-member cluster of lockstep-kv on
# 127.0.0.1, and the goals beside them. Prints a table; judges nothing and is no test: a figure is
# worth something only on a machine that does nothing else.
set -euo pipefail

usage() {
    cat <<'END'
usage: tests/bench/run.sh [--quick] [--runs N] [--bin FILE] [--dir DIR] [PART...]

  --quick      one run, smaller loads: for seeing that everything works
  --runs N     of each measurement (default: 3)
  --bin FILE   the lockstep-kv to measure (default: builds the release preset and takes its)
  --dir DIR    where data is kept while it runs (default: /var/tmp, which is on a disk)

Parts, all when none is named (catching up by snapshot: statesync.sh):
  calibrate    synced writes and loopback round trips of this machine
  wire         the codec of frames between members
  throughput   redis-benchmark: SET and strong GET against the leader and a follower; memory, idle CPU
  failover     kill -9 of the leader under load, to the first acknowledged write through a survivor
  catchup      log replay into a member that missed a million entries; the same under load, paced
END
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=
base=/var/tmp
quick=
runs=
parts=()
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=yes ;;
    --bin | --dir | --runs)
        [ $# -ge 2 ] || { echo "run.sh: $1 needs a value" >&2; exit 2; }
        case $1 in --bin) bin=$2 ;; --dir) base=$2 ;; --runs) runs=$2 ;; esac
        shift
        ;;
    -h | --help) usage; exit 0 ;;
    calibrate | wire | throughput | failover | catchup) parts+=("$1") ;;
    *) echo "run.sh: unknown argument $1 (try --help)" >&2; exit 2 ;;
    esac
    shift
done
[[ ${runs:-1} =~ ^[1-9][0-9]?$ ]] || { echo "run.sh: --runs $runs: expected 1 to 99" >&2; exit 2; }
[ ${#parts[@]} -gt 0 ] || parts=(calibrate wire throughput failover catchup)

election_ms=300
heartbeat_ms=60
if [ -n "$quick" ]; then
    runs=${runs:-1} set_requests=100000 single_requests=20000 get_requests=200000
    trials=3 idle_seconds=3 replay_entries=100000 load_seconds=3
else
    runs=${runs:-3} set_requests=1000000 single_requests=200000 get_requests=1000000
    trials=10 idle_seconds=10 replay_entries=1000000 load_seconds=10
fi
bulk_bytes=$((32 << 20))

# ---- what is started, and ended -----------------------------------------------------------------

work=$(mktemp -d "$base/lockstep-bench-XXXXXX")
cluster_up=
background= # one process at most: a watcher or a load
cleanup() {
    end_background
    [ -z "$cluster_up" ] || cluster down >/dev/null 2>&1 || true
    rm -rf "${work:?}"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

end_background() {
    if [ -n "$background" ]; then
        kill "$background" 2>/dev/null || true
        wait "$background" 2>/dev/null || true
        background=
    fi
}

cluster() { "$root/examples/cluster.sh" --dir "$work/cluster" --bin "$bin" "$@"; }

# up [flags...]: three fresh members
up() {
    cluster up 3 -- --election-ms "$election_ms" --heartbeat-ms "$heartbeat_ms" "$@" >/dev/null
    cluster_up=yes
    find_roles
}
down() {
    cluster down >/dev/null
    cluster_up=
}

# ---- questions to members -----------------------------------------------------------------------

info() { redis-cli -p "$1" INFO </dev/null 2>/dev/null | tr -d '\r'; }

# field <port> <name>: of INFO; empty when there is none or no answer
field() { info "$1" | awk -F: -v name="$2" '$1 == name { print $2; exit }' || true; }

now_ms() { echo $(($(date +%s%N) / 1000000)); }

# find_roles: sets leader, leader_port, leader_pid, and followers, follower_ports
find_roles() {
    local name port pid role tries=200
    while [ "$((tries--))" -gt 0 ]; do
        leader='' followers=() follower_ports=() pids=()
        while read -r name _ port pid; do
            role=$(field "$port" role)
            pids+=("$pid")
            if [ "$role" = leader ]; then
                leader=$name leader_port=$port leader_pid=$pid
            else
                followers+=("$name")
                follower_ports+=("$port")
            fi
        done < <(cluster members)
        [ -z "$leader" ] || [ ${#followers[@]} != 2 ] || return 0
        sleep 0.1
    done
    echo "run.sh: no leader" >&2
    exit 1
}

# wait_applied <port> <index> <seconds>
wait_applied() {
    local applied end
    end=$(($(now_ms) + $3 * 1000))
    while [ "$(now_ms)" -lt "$end" ]; do
        applied=$(field "$1" applied)
        [ "${applied:-0}" -lt "$2" ] || return 0
        sleep 0.05
    done
    echo "run.sh: the member on port $1 did not reach index $2 within $3 s" >&2
    return 1
}

# wait_level: every member has applied what the leader committed
wait_level() {
    local commit port
    commit=$(field "$leader_port" commit)
    for port in "${follower_ports[@]}"; do wait_applied "$port" "$commit" 120; done
}

# ---- figures ------------------------------------------------------------------------------------

table=()
# row <what> <figure> <unit> <goal or "">
row() {
    table+=("$1|$2|$3|${4:-}")
    printf '  %-52s %s %s\n' "$1" "$2" "$3" >&2
}

# spread: "min / median / max" of the numbers on standard input
spread() {
    sort -n | awk '{ v[NR] = $1 } END {
        m = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
        if (NR == 1) print v[1]; else printf "%s / %s / %s\n", v[1], m, v[NR] }'
}

print_table() {
    echo
    printf '%-54s %-30s %-12s %s\n' figure 'min / median / max, or one' unit goal
    printf '%s\n' "${table[@]}" | awk -F'|' '{ printf "%-54s %-30s %-12s %s\n", $1, $2, $3, $4 }'
}

# ---- parts --------------------------------------------------------------------------------------

calibrate() {
    local name value
    echo "calibration" >&2
    while read -r name value; do
        case $name in
        sync_4k_growing_us) row "synced write of 4 KiB, growing file" "$value" us ;;
        sync_4k_rewritten_us) row "synced write of 4 KiB, written extents" "$value" us ;;
        tcp_round_trip_us) row "loopback TCP round trip, 64 B" "$value" us ;;
        esac
    done < <("$work/calibrate" "$work")
}

wire() {
    local what value
    echo "wire codec" >&2
    (cd "$root" && cmake --preset release >/dev/null &&
        cmake --build --preset release --target lockstep_static >/dev/null)
    cc -std=c11 -O2 -D_DEFAULT_SOURCE -I"$root/include" "$root/tests/bench/wire.c" \
        "$root/build/release/liblockstep.a" -o "$work/wire"
    while IFS=: read -r what value; do
        value=${value# }
        row "$what" "${value%% M*}" "M entries/s" "10"
    done < <("$work/wire")
}

# load <port> <test> <pipeline> <requests>: requests per second of one redis-benchmark
load() {
    redis-benchmark -p "$1" -t "$2" -P "$3" -n "$4" -c 50 -d 128 -r 100000 --csv 2>/dev/null \
        </dev/null | tr -d '"' | awk -F, -v test="$2" 'tolower($1) == test { print $2; exit }'
}

# measure <what> <goal> <port> <test> <pipeline> <requests>: and the syncs of the leader beside it
measure() {
    local what=$1 goal=$2 run before after start elapsed rate rates=() syncs=()
    shift 2
    for ((run = 0; run < runs; run++)); do
        before=$(field "$leader_port" syncs)
        start=$(now_ms)
        rate=$(load "$@")
        elapsed=$(($(now_ms) - start))
        after=$(field "$leader_port" syncs)
        rates+=("${rate%.*}")
        [ -z "$before" ] || syncs+=($(((after - before) * 1000 / elapsed)))
    done
    row "$what" "$(printf '%s\n' "${rates[@]}" | spread)" "ops/s" "$goal"
    if [ "$2" = set ] && [ ${#syncs[@]} -gt 0 ]; then
        row "  syncs of the leader meanwhile" "$(printf '%s\n' "${syncs[@]}" | spread)" "syncs/s"
    fi
}

# watched <file>: what the watcher wrote, with names for pids
watched() {
    local name pid port kib cpu
    while read -r name _ port pid; do
        read -r _ kib cpu < <(grep "^$pid " "$1")
        echo "$name $((kib / 1024)) $cpu"
    done < <(cluster members)
}

throughput() {
    local follower name mb cpu
    echo "throughput: three members, -c 50 -d 128 -r 100000" >&2
    up
    follower=${follower_ports[0]}
    "$work/watch" "$idle_seconds" "${pids[@]}" >"$work/idle"
    "$work/watch" 0 "${pids[@]}" >"$work/busy" &
    background=$!
    measure "SET, -P 16, leader" "40000" "$leader_port" set 16 "$set_requests"
    measure "SET, -P 1, leader" "8000" "$leader_port" set 1 "$single_requests"
    measure "SET, -P 16, follower" "" "$follower" set 16 "$set_requests"
    measure "strong GET, -P 16, leader" "100000" "$leader_port" get 16 "$get_requests"
    measure "strong GET, -P 16, follower" "" "$follower" get 16 "$get_requests"
    end_background
    while read -r name mb _; do
        [ "$name" != "$leader" ] || name="$name (leader)"
        row "peak anonymous memory under that load, $name" "$mb" "MiB" "120 MB"
    done < <(watched "$work/busy")
    while read -r name _ cpu; do
        [ "$name" != "$leader" ] || name="$name (leader)"
        row "idle CPU over $idle_seconds s, $name" "$cpu" "% of a core" "1"
    done < <(watched "$work/idle")
    down
}

failover() {
    local trial ms acknowledged all=() dead
    echo "failover: kill -9 of the leader under load, $trials trials" >&2
    up
    for ((trial = 0; trial < trials; trial++)); do
        dead=$leader
        read -r ms acknowledged < <("$work/failover" "$leader_pid" "$leader_port" "${follower_ports[@]}")
        printf '    trial %d: %s ms (%s writes acknowledged in the second before)\n' "$trial" "$ms" \
            "$acknowledged" >&2
        all+=("$ms")
        cluster start "$dead" >/dev/null
        find_roles
        wait_level
    done
    row "failover, all trials" "$(printf '%s ' "${all[@]}")" ms
    row "failover" "$(printf '%s\n' "${all[@]}" | spread)" ms "$((2 * election_ms + 200)) in 9 of 10"
    row "failover, median over the election timeout" \
        "$(printf '%s\n' "${all[@]}" | sort -n | awk -v t="$election_ms" \
            '{ v[NR] = $1 } END { printf "%.2f", v[int((NR + 1) / 2)] / t }')" "x $election_ms ms"
    down
}

# lag: kills a follower and gives the others entries that it lacks; sets lagging, lagging_port, from
# and goal
lag() {
    lagging=${followers[0]} lagging_port=${follower_ports[0]}
    wait_level
    from=$(field "$lagging_port" applied)
    cluster kill "$lagging"
    load "$leader_port" set 64 "$replay_entries" >/dev/null
    goal=$(field "$leader_port" commit)
}

# replay: starts the lagging member; sets elapsed_ms, from the start of its process until it has
# applied what was committed before
replay() {
    local start
    start=$(now_ms)
    cluster start "$lagging" >/dev/null
    wait_applied "$lagging_port" "$goal" 300
    elapsed_ms=$(($(now_ms) - start))
}

catchup() {
    local state run rates before_ms before_commit base paced=() drops=()
    echo "catch-up by log replay of $replay_entries entries" >&2
    for state in rocksdb memory; do
        rates=()
        for ((run = 0; run < runs; run++)); do
            up --state "$state"
            lag
            replay
            rates+=($(((goal - from) * 1000 / elapsed_ms)))
            down
        done
        row "log replay, no other load, state in $state" \
            "$(printf '%s\n' "${rates[@]}" | spread)" "entries/s" "300000"
    done

    if ! "$bin" --help 2>&1 | grep -q -- --bulk-rate; then
        row "log replay under load, paced" "not offered by this program" ""
        return
    fi
    for ((run = 0; run < runs; run++)); do
        up --bulk-rate "$bulk_bytes"
        start_load
        base=$(commit_rate "$load_seconds")
        end_background
        lag
        start_load
        before_ms=$(now_ms)
        before_commit=$(field "$leader_port" commit)
        replay
        paced+=($(((($(field "$leader_port" commit) - before_commit) * 1000) / ($(now_ms) - before_ms))))
        drops+=($((100 - 100 * paced[run] / base)))
        end_background
        down
    done
    row "leader's SET, -P 16, while a member replays, 32 MiB/s" \
        "$(printf '%s\n' "${paced[@]}" | spread)" "commits/s"
    row "  less than without" "$(printf '%s\n' "${drops[@]}" | spread)" "%" "33"
}

start_load() {
    redis-benchmark -p "$leader_port" -t set -P 16 -c 50 -d 128 -r 100000 -n 1000000000 -q \
        >/dev/null 2>&1 </dev/null &
    background=$!
}

# commit_rate <seconds>: commits per second on the leader
commit_rate() {
    local from start
    from=$(field "$leader_port" commit)
    start=$(now_ms)
    sleep "$1"
    echo $(((($(field "$leader_port" commit) - from) * 1000) / ($(now_ms) - start)))
}

# ---- run ----------------------------------------------------------------------------------------

for program in redis-benchmark redis-cli cmake cc; do
    command -v "$program" >/dev/null || { echo "run.sh: $program is missing" >&2; exit 1; }
done
case " ${parts[*]} " in
*" throughput "* | *" failover "* | *" catchup "*)
    if [ -z "$bin" ]; then
        (cd "$root" && cmake --preset release >/dev/null &&
            cmake --build --preset release --target lockstep-kv >/dev/null)
        bin=$root/build/release/bin/lockstep-kv
    fi
    bin=$(realpath "$bin")
    [ -x "$bin" ] || { echo "run.sh: $bin is not a program" >&2; exit 1; }
    ;;
esac
for program in calibrate watch failover; do
    cc -std=c11 -O2 -D_GNU_SOURCE "$root/tests/bench/$program.c" -o "$work/$program"
done

printf 'lockstep-kv: %s\nmachine: %s x %s, %s\n' "${bin:--}" "$(nproc)" \
    "$(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)" "$(uname -r)" >&2
printf 'load average before: %s\n' "$(cut -d' ' -f1-3 /proc/loadavg)" >&2
for part in "${parts[@]}"; do
    "$part"
done
print_table
