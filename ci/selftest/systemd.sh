#!/bin/sh
# SPDX-License-Identifier: MIT
# Under a real systemd: the package vbusd starts, and a bus with its descriptors outlives each death of vbusd.
# Arguments: the vbuskit of the checkout, a folder, and "apparmor" to have its rules watch.
# Exit code 0: it holds; 1: it does not; 3: it could not be tried. The last line says why.
set -eu

vbuskit=$1 folder=$2 watch=${3-}
bus=selftest
rules=/usr/share/doc/vbusd/examples/apparmor.d/vbuskit

blocked() { echo "$1"; exit 3; }
broken() { echo "$1"; exit 1; }

clean() {
    code=$?
    trap - EXIT
    if [ -n "$watch" ]; then apparmor_parser -R "$rules" || :; fi
    vbuskit host remove "$bus" || :
    apt-get -o DPkg::Lock::Timeout=300 purge -y vbusd >&2 || echo "the package vbusd is still there" >&2
    exit "$code"
}

there() { vbuskit host status --json | grep -q "\"$bus\""; }

main_pid() { systemctl show --property MainPID --value vbusd.service; }

# Another vbusd runs, and answers with our bus.
is_back() {
    tries=60
    while [ "$tries" -gt 0 ]; do
        now=$(main_pid)
        if [ "$now" != 0 ] && [ "$now" != "$1" ] && there; then return 0; fi
        tries=$((tries - 1))
        sleep 0.5
    done
    return 1
}

if dpkg-query -W -f='${db:Status-Status}\n' vbusd 2>/dev/null | grep -q '^installed$'; then
    blocked "the package vbusd is installed already, and this would purge it"
fi
[ ! -e /run/vbuskit/vbusd.sock ] || blocked "a vbusd runs here already"
package=$("$vbuskit" package host --out "$folder" | tail -n 1)
[ -f "$package" ] || blocked "the package vbusd could not be built"

trap clean EXIT
started=$(date '+%Y-%m-%d %H:%M:%S')
apt-get -o DPkg::Lock::Timeout=300 install --no-install-recommends -y "$package" >&2 ||
    blocked "apt-get could not install $package"
if [ -n "$watch" ]; then
    apparmor_parser -r "$rules" || broken "the rules do not load"
    systemctl restart vbusd.service vbus-control.service
fi

systemctl is-active --quiet vbusd.service || broken "vbusd does not run after its installation"
systemctl is-active --quiet vbus-control.service || broken "vbus-control does not run after its installation"
vbuskit host add "$bus" --qemu "/run/vbuskit/$bus.sock" || broken "a bus could not be added"
there || broken "a bus that was added is not there"
kept=$(systemctl show --property NFileDescriptorStore --value vbusd.service)
[ "$kept" -gt 0 ] || broken "systemd keeps no descriptor of vbusd"

before=$(main_pid)
systemctl kill --kill-who=main --signal=KILL vbusd.service
is_back "$before" || broken "30 s after its death by SIGKILL vbusd, or its bus, is not back"

before=$(main_pid)
systemctl restart vbusd.service
is_back "$before" || broken "30 s after a restart vbusd, or its bus, is not back"

# An older one forgets the descriptors of a service that is stopped.
if [ "$(systemctl --version | awk 'NR == 1 { print int($2) }')" -ge 254 ]; then
    before=$(main_pid)
    systemctl stop vbusd.service
    systemctl start vbusd.service
    is_back "$before" || broken "30 s after a stop and a start vbusd, or its bus, is not back"
fi

if [ -n "$watch" ]; then
    refused=$(journalctl -k --since "$started" --grep 'apparmor="(ALLOWED|DENIED)".*vbus' --output cat || :)
    [ -z "$refused" ] || broken "AppArmor would have refused: $(echo "$refused" | head -n 1)"
fi
echo "held: $kept descriptors were kept"
