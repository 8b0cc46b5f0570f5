#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# tools/packages.sh build|demo|test|fuzz|style...: installs the Debian packages that these purposes
# need and that are missing. Quiet, and without network or root when nothing is missing.
# LS_SKIP_PACKAGES=1 goes on with whatever is there.
set -euo pipefail

# librocksdb-dev brings the libraries it is linked with; libmsgpack-dev is the C one on Debian 12.
build=(gcc libc6-dev cmake ninja-build pkg-config
    libevent-dev librocksdb-dev libmsgpack-dev libsodium-dev libxxhash-dev)
demo=(redis-tools)
# g++ proves that the public headers are C++ too
test=(g++ libcmocka-dev libhiredis-dev redis-tools git)
fuzz=(clang)
style=(clang-format clang-tidy)

say() { printf 'packages: %s\n' "$*" >&2; }

wanted=()
for purpose in "$@"; do
    case $purpose in
    build | demo | test | fuzz | style)
        declare -n list=$purpose
        wanted+=("${list[@]}")
        ;;
    *)
        say "unknown purpose '$purpose': expected build, demo, test, fuzz or style"
        exit 2
        ;;
    esac
done
if [ "${#wanted[@]}" = 0 ]; then
    say "usage: tools/packages.sh build|demo|test|fuzz|style..."
    exit 2
fi
if [ -n "${LS_SKIP_PACKAGES:-}" ]; then
    exit 0
fi

release=$(. /etc/os-release 2>/dev/null && echo "${PRETTY_NAME:-}" || true)
release=${release:-an unknown system}

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "this is $release, without apt-get: Lockstep is built and tested on Debian 12 (bookworm)."
    say "install what corresponds to these yourself, then run again with LS_SKIP_PACKAGES=1:"
    say "  ${wanted[*]}"
    exit 1
fi

missing=()
installed=$(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' 2>/dev/null | sed -n 's/^ii *//p')
for package in "${wanted[@]}"; do
    if ! grep -qxF -- "$package" <<<"$installed"; then
        missing+=("$package")
    fi
done
if [ "${#missing[@]}" = 0 ]; then
    exit 0
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        say "these packages are missing, and there is no sudo to install them. As root:"
        say "  apt-get install --no-install-recommends ${missing[*]}"
        exit 1
    fi
    as_root=(sudo)
    if [ ! -t 0 ]; then
        as_root+=(-n) # nobody is there to type a password
    fi
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >>"$log" 2>&1 </dev/null
}

say "installing ${missing[*]}"
if ! "${as_root[@]}" true; then
    say "sudo was refused. As root: apt-get install --no-install-recommends ${missing[*]}"
    exit 1
fi
# An update can fail for a source that has nothing to do with these packages: the install decides.
updated=yes
apt update -o APT::Update::Error-Mode=any || updated=no
if ! apt install --no-install-recommends "${missing[@]}"; then
    cat "$log" >&2
    if [ "$updated" = no ]; then
        say "could not install: the package lists could not be fetched (see above). Is there a network?"
    elif grep -qE 'Unable to locate package|no installation candidate' "$log"; then
        say "could not install: $release does not have these packages (see above)."
        say "Lockstep is built and tested on Debian 12 (bookworm), component main."
    else
        say "could not install (see above)."
    fi
    exit 1
fi
