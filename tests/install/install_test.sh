#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# install_test.sh <source directory> <build directory> <pkg-config|find-package> <sanitizers or ""> <1|0>:
# installs into a fresh prefix, moves that prefix, and builds and runs a program against it that
# knows nothing of this tree, linked with the static library and with the shared one, and a state
# sync of its own, examples/custom_sync.c; with 1 also the simulator of examples/sim_bank.c.
set -euo pipefail
source=$1
build=$2
way=$3
sanitize=$4
sim=$5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/first" >"$work/log" || { cat "$work/log"; exit 1; }
mv "$work/first" "$work/moved" # an installed tree must not remember where it was installed
prefix=$work/moved
cp -r "$source/tests/install/consumer" "$work/consumer"
cp "$source/examples/sim_bank.c" "$source/examples/custom_sync.c" "$work/consumer/"
library=$(dirname "$(find "$prefix" -name liblockstep.so)")
flags=(-std=c11 -Wall -Wextra -Wpedantic -Werror)
[ -z "$sanitize" ] || flags+=("-fsanitize=$sanitize")

# run <program> <yes|no>: whether it needs liblockstep.so must be as asked for
run() {
    local needs=no
    if readelf -d "$1" | grep -q 'NEEDED.*liblockstep'; then
        needs=yes
    fi
    if [ "$needs" != "$2" ]; then
        echo "$1 needs liblockstep.so: $needs, expected $2" >&2
        exit 1
    fi
    LD_LIBRARY_PATH=$library "$1"
}

case $way in
pkg-config)
    export PKG_CONFIG_PATH=$library/pkgconfig
    pkg-config --exists --print-errors lockstep
    read -ra compile <<<"$(pkg-config --cflags lockstep)"
    read -ra shared <<<"$(pkg-config --libs lockstep)"
    read -ra static <<<"$(pkg-config --static --libs lockstep)"
    cd "$work/consumer"
    cc "${flags[@]}" "${compile[@]}" consumer.c -o with_shared "${shared[@]}"
    cc "${flags[@]}" "${compile[@]}" consumer.c -o with_static \
        "${static[@]/#-llockstep/-l:liblockstep.a}"
    run ./with_shared yes
    run ./with_static no
    read -ra event <<<"$(pkg-config --cflags --libs libevent_core)"
    cc "${flags[@]}" -D_DEFAULT_SOURCE "${compile[@]}" custom_sync.c -o custom_sync "${shared[@]}" \
        "${event[@]}"
    run ./custom_sync yes
    if [ "$sim" = 1 ]; then
        read -ra compile <<<"$(pkg-config --cflags lockstep-sim)"
        read -ra shared <<<"$(pkg-config --libs lockstep-sim)"
        cc "${flags[@]}" "${compile[@]}" sim_bank.c -o sim_bank "${shared[@]}"
        run ./sim_bank yes
    fi
    ;;
find-package)
    CFLAGS="${flags[*]}" cmake -S "$work/consumer" -B "$work/build" -G Ninja \
        -DCMAKE_PREFIX_PATH="$prefix" -DCONSUMER_SIM="$sim" >"$work/log" || { cat "$work/log"; exit 1; }
    cmake --build "$work/build" >"$work/log" || { cat "$work/log"; exit 1; }
    run "$work/build/consumer_shared" yes
    run "$work/build/consumer_static" no
    if [ "$sim" = 1 ]; then
        run "$work/build/sim_bank" no
    fi
    ;;
*)
    echo "unknown way '$way'" >&2
    exit 2
    ;;
esac
