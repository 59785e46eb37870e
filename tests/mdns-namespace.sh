#!/usr/bin/env bash
# Runs a command where multicast reaches nobody else: in a network with a loopback only, and with a
# bus of D-Bus of its own, on which the command may start a daemon of Avahi.
#
#     bash tests/mdns-namespace.sh COMMAND...
#
# All that it started ends with it. Needs Linux, and root or sudo.
set -euo pipefail

if [[ ${1:-} != --inside ]]; then
    root=()
    [[ $EUID -eq 0 ]] || root=(sudo --preserve-env=CI,RUST_BACKTRACE)
    exec "${root[@]}" unshare --net --mount --pid --fork --kill-child --mount-proc \
        bash "${BASH_SOURCE[0]}" --inside "$@"
fi
shift

mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/avahi-daemon
ip link set lo up multicast on
ip route add 224.0.0.0/4 dev lo
dbus-daemon --system --fork --nopidfile # returns when one can connect to it
"$@"
