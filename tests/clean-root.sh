#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tests/clean-root.sh [command...]: proves the two commands of the README where nothing is installed.
# Makes Debian 12's base system plus git with debootstrap (kept in /var/tmp, or LS_CLEAN_ROOT), lays
# a throw-away layer over it, clones the present commit into it and runs there, as root,
# examples/demo.sh and tests/run.sh, or the commands given. Needs root, debootstrap and a network.
set -euo pipefail
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
base=${LS_CLEAN_ROOT:-/var/tmp/lockstep-clean-root}

fail() {
    printf 'clean-root: %s\n' "$*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || fail "needs root"
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"
[ $# -gt 0 ] || set -- examples/demo.sh tests/run.sh

if [ ! -e "$base/made" ]; then
    mkdir -p "$base"
    echo "clean-root: making the base system in $base"
    debootstrap --include=git bookworm "$base/root" >"$base/log" 2>&1 ||
        { tail -n 20 "$base/log" >&2; fail "debootstrap failed"; }
    touch "$base/made"
fi

layer=$(mktemp -d "$base/layer-XXXXXX")
trap 'rm -rf --one-file-system "$layer"' EXIT
mkdir "$layer/upper" "$layer/work" "$layer/root"
git clone -q --no-hardlinks "$source" "$layer/upper/lockstep"

# All mounts live in a namespace of their own and are gone when its first process ends.
export base layer
unshare --mount --pid --fork --kill-child --propagation private bash -c '
    set -eu
    root=$layer/root
    mount -t overlay overlay -o "lowerdir=$base/root,upperdir=$layer/upper,workdir=$layer/work" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    for command in "$@"; do
        echo "clean-root: $command"
        chroot "$root" /usr/bin/env -i HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            /bin/bash -c "cd /lockstep && $command"
    done' clean-root "$@"
